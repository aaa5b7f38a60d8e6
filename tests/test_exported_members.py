"""What the package promises: names, arguments, defaults and fields, spelled out once more."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
from pathlib import Path
from types import ModuleType

import pytest

import cloudwatch_handler
from cloudwatch_handler import (
    CloudWatchFormatter,
    CloudWatchHandler,
    LogEvent,
    LogReader,
    RejectedEvents,
    RetryPolicy,
    Statistics,
)

PROMISED = {
    "CloudWatchFormatter",
    "CloudWatchHandler",
    "LogReader",
    "RejectedEvents",
    "RetryPolicy",
    "Statistics",
}
EXPORTED = [getattr(cloudwatch_handler, name) for name in cloudwatch_handler.__all__ if name != "__version__"]
REQUIRED = inspect.Parameter.empty


def signature(function: object) -> dict[str, object]:
    """Names and defaults of what a function takes."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return {parameter.name: parameter.default for parameter in parameters if parameter.name != "self"}


def test_all_names_are_there() -> None:
    """Those of the documentation at least, in the order of the alphabet and without doubles."""
    assert set(cloudwatch_handler.__all__) >= PROMISED
    assert cloudwatch_handler.__all__ == sorted(set(cloudwatch_handler.__all__))


def test_nothing_else_is_there() -> None:
    """Every public name of the package is exported, but for its modules."""
    public = {
        name
        for name, value in vars(cloudwatch_handler).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert public | {"__version__"} == set(cloudwatch_handler.__all__)


def public_members(exported: type) -> list[str]:
    """Its own methods and properties; those of logging and of tuple speak for themselves."""
    return [
        name
        for name, member in vars(exported).items()
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize("exported", EXPORTED)
def test_everything_exported_has_a_docstring(exported: type) -> None:
    """With its public methods."""
    assert inspect.getdoc(exported)
    undocumented = [name for name in public_members(exported) if not vars(exported)[name].__doc__]
    assert undocumented == []


@pytest.mark.parametrize("exported", EXPORTED)
def test_everything_exported_explains_its_arguments(exported: type) -> None:
    """Each by name: in the docstring of the class, under Args or Attributes."""
    text = inspect.getdoc(exported)
    assert [name for name in signature(exported) if name not in str(text)] == []


def test_the_version_has_three_numbers() -> None:
    """As people compare them."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", cloudwatch_handler.__version__)


HANDLER = {
    "log_group_name": REQUIRED,
    "log_stream_name": "{machine_name}/{program_name}/{process_id}",
    "level": logging.NOTSET,
    "boto3_client": None,
    "boto3_profile_name": None,
    "region_name": None,
    "endpoint_url": None,
    "role_arn": None,
    "send_interval": 2.0,
    "max_batch_count": 10_000,
    "max_batch_size": 1_048_576,
    "max_message_size": 1_048_550,
    "oversize": "split",
    "max_queue_size": 67_108_864,
    "overflow": "drop_oldest",
    "block_timeout": 1.0,
    "sequence_token": "auto",
    "retry": None,
    "compression": "gzip",
    "create_log_group": True,
    "create_log_stream": True,
    "log_group_retention_days": None,
    "log_group_tags": None,
    "log_group_kms_key_id": None,
    "log_group_class": None,
    "flush_timeout": 30.0,
    "shutdown_timeout": 10.0,
    "spool_directory": None,
    "max_spool_size": 1_073_741_824,
    "loss_notice": True,
    "sequence_numbers": False,
    "on_rejected": None,
    "entity": None,
    "json_serialize_default": None,
}


def test_the_handler_has_its_arguments_and_defaults() -> None:
    """Each is in other people's settings files; there may be more."""
    assert signature(CloudWatchHandler).items() >= HANDLER.items()


def test_the_handlers_first_two_arguments_are_positional() -> None:
    """And only they."""
    kinds = [parameter.kind for parameter in inspect.signature(CloudWatchHandler).parameters.values()]
    assert kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    assert set(kinds[2:]) == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (CloudWatchHandler.emit, {"record": REQUIRED}),
        (CloudWatchHandler.flush, {"timeout": None}),
        (CloudWatchHandler.close, {}),
        (CloudWatchHandler.statistics, {}),
        (RetryPolicy, {"base": 0.2, "factor": 2.0, "max_delay": 30.0, "give_up_after": None}),
        (RetryPolicy.delays, {}),
        (RetryPolicy.window, {"attempts": REQUIRED}),
        (
            CloudWatchFormatter,
            {
                "fmt": None,
                "datefmt": None,
                "style": "%",
                "validate": True,
                "defaults": None,
                "json_serialize_default": None,
                "add_log_record_attrs": None,
            },
        ),
        (
            LogReader,
            {
                "log_group_name": REQUIRED,
                "boto3_client": None,
                "boto3_profile_name": None,
                "region_name": None,
                "endpoint_url": None,
            },
        ),
        (LogReader.read, {"log_stream_name": None, "start": None, "end": None, "filter_pattern": None}),
    ],
)
def test_a_call_has_its_arguments_and_defaults(method: object, parameters: dict[str, object]) -> None:
    """As documented; there may be more that need not be given."""
    found = signature(method)
    assert found.items() >= parameters.items()
    assert REQUIRED not in [found[name] for name in found.keys() - parameters.keys()]


@pytest.mark.parametrize(
    ("exported", "fields"),
    [
        (RetryPolicy, ["base", "factor", "max_delay", "give_up_after"]),
        (RejectedEvents, ["reason", "log_group_name", "log_stream_name", "events"]),
        (
            Statistics,
            [
                *("accepted", "delivered", "rejected", "dropped", "spooled", "pending"),
                *("rejected_by_reason", "dropped_by_reason", "put_requests", "describe_requests", "retries"),
                *("throttled_requests", "writer_race_retries", "unrecovered_writer_race_retries", "already_accepted"),
                *("batches", "bytes_raw", "bytes_sent", "queue_high_water_mark", "last_error", "last_error_time"),
            ],
        ),
    ],
)
def test_a_value_has_its_fields(exported: type, fields: list[str]) -> None:
    """In this order; new ones go to the end."""
    assert [field.name for field in dataclasses.fields(exported)][: len(fields)] == fields


def test_an_event_that_was_read_has_its_fields() -> None:
    """As the service tells them."""
    assert LogEvent._fields == ("timestamp", "message", "ingestion_time", "log_stream_name", "event_id")


def test_a_fresh_snapshot_counts_nothing() -> None:
    """All numbers are 0, and there is no last error."""
    values = [getattr(Statistics(), field.name) for field in dataclasses.fields(Statistics)]
    assert not any(values)
    assert (Statistics().accepted, Statistics().last_error, Statistics().last_error_time) == (0, None, None)


def test_type_checkers_find_the_annotations() -> None:
    """The marker file is beside the modules."""
    assert Path(cloudwatch_handler.__file__).with_name("py.typed").is_file()
