"""Bad configuration is told in the constructor, which does nothing else."""

from __future__ import annotations

import logging
import socket
import threading

import botocore.session
import pytest

from cloudwatch_handler import CloudWatchHandler

WRONG = [
    ("log_group_name", "", ValueError),
    ("log_group_name", 7, TypeError),
    ("log_group_name", "aws/lambda", ValueError),
    ("log_group_name", "x" * 513, ValueError),
    ("log_stream_name", "{hostname}", ValueError),
    ("log_stream_name", "{", ValueError),
    ("log_stream_name", "{env[CLOUDWATCH_HANDLER_NOT_SET]}", ValueError),
    ("boto3_client", 7, TypeError),
    ("boto3_profile_name", 7, TypeError),
    ("boto3_client", "nowhere.at.all", ValueError),
    ("region_name", "", ValueError),
    ("region_name", "no region!", ValueError),
    ("endpoint_url", 7, TypeError),
    ("endpoint_url", "localhost:4566", ValueError),
    ("role_arn", 7, TypeError),
    ("role_arn", "admin", ValueError),
    ("level", True, TypeError),
    ("level", -1, ValueError),
    ("level", "LOUD", ValueError),
    ("spool_directory", "", ValueError),
    ("spool_directory", "a\0b", ValueError),
    ("spool_directory", "x" * 6000, ValueError),
    ("spool_directory", "/tmp", ValueError),  # where everybody may write
    ("spool_directory", 7, TypeError),
    ("retry", {"base": 10**400}, ValueError),
    ("retry", {"give_up_after": 1e12}, ValueError),
    ("send_interval", -1, ValueError),
    ("send_interval", float("nan"), ValueError),
    ("send_interval", "2", TypeError),
    ("max_batch_count", 0, ValueError),
    ("max_batch_count", 10_001, ValueError),
    ("max_batch_count", 10.0, TypeError),
    ("max_batch_size", 29, ValueError),
    ("max_batch_size", 1_048_577, ValueError),
    ("max_message_size", 3, ValueError),
    ("max_message_size", 1_048_551, ValueError),
    ("max_message_size", True, TypeError),
    ("oversize", "cut", ValueError),
    ("max_queue_size", 0, ValueError),
    ("overflow", "drop", ValueError),
    ("block_timeout", -0.5, ValueError),
    ("sequence_token", "always", ValueError),
    ("retry", 3, TypeError),
    ("retry", {"attempts": 3}, ValueError),
    ("retry", {"base": 0}, ValueError),
    ("retry", {"max_delay": "30"}, TypeError),
    ("compression", "zstd", ValueError),
    ("create_log_group", "yes", TypeError),
    ("create_log_stream", 1, TypeError),
    ("log_group_retention_days", 2, ValueError),
    ("log_group_tags", {"team": 7}, TypeError),
    ("log_group_tags", {str(number): "" for number in range(51)}, ValueError),
    ("log_group_kms_key_id", 7, TypeError),
    ("log_group_class", "COLD", ValueError),
    ("flush_timeout", -1, ValueError),
    ("shutdown_timeout", None, TypeError),
    ("max_spool_size", 0, ValueError),
    ("loss_notice", "no", TypeError),
    ("sequence_numbers", 1, TypeError),
    ("on_rejected", 7, TypeError),
    ("on_rejected", "nowhere.at.all", ValueError),
    ("entity", "shop", TypeError),
    ("json_serialize_default", "json.nothing", ValueError),
]


@pytest.mark.parametrize(("argument", "value", "kind"), WRONG, ids=lambda value: repr(value)[:30])
def test_a_wrong_argument_is_named_with_its_value(argument: str, value: object, kind: type[Exception]) -> None:
    """The text says which argument, and what was given."""
    arguments: dict[str, object] = {"log_group_name": "my-app", argument: value}
    with pytest.raises(kind) as raised:
        CloudWatchHandler(**arguments)
    text = str(raised.value)
    field = next(iter(value), "") if isinstance(value, dict) and argument == "retry" else ""
    assert argument in text
    assert field in text


@pytest.mark.parametrize("argument", ["boto3_profile_name", "region_name", "endpoint_url", "role_arn"])
def test_a_client_and_what_configures_another_exclude_each_other(argument: str) -> None:
    """Otherwise one of them would silently do nothing."""
    with pytest.raises(ValueError, match=argument):
        CloudWatchHandler("my-app", boto3_client=lambda: None, **{argument: "https://127.0.0.1"})


def test_sequence_numbers_are_refused_rather_than_ignored() -> None:
    """What is not built yet says so."""
    with pytest.raises(NotImplementedError, match="sequence_numbers"):
        CloudWatchHandler("my-app", sequence_numbers=True)


def test_the_constructor_makes_no_call_reads_no_credentials_and_starts_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of that begins with the first record."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the constructor must not do this")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(botocore.session.Session, "get_credentials", refuse)
    monkeypatch.setattr(botocore.session.Session, "create_client", refuse)
    before = set(threading.enumerate())
    handler = CloudWatchHandler("my-app", "web", level="WARNING", boto3_client=refuse, role_arn=None)
    assert not set(threading.enumerate()) - before
    assert handler.level == logging.WARNING
    handler.close()
    assert handler.statistics().accepted == 0


def test_settings_for_watchtower_are_taken_as_they_are() -> None:
    """One class path changes, the rest stays."""
    handler = CloudWatchHandler(
        log_group_name="my-app",
        log_stream_name="{machine_name}/{program_name}/{logger_name}/{process_id}/{strftime:%m-%d-%y}",
        use_queues=True,
        send_interval=60,
        max_batch_size=1024 * 1024,
        max_batch_count=10000,
        boto3_client=None,
        boto3_profile_name=None,
        create_log_group=True,
        log_group_tags={},
        json_serialize_default=None,
        log_group_retention_days=None,
        create_log_stream=True,
        max_message_size=256 * 1024,
    )
    handler.close()
