"""From a record to its text, the record unchanged; a mapping becomes JSON, whatever is in it."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import logging
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType, SimpleNamespace, TracebackType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudwatch_handler import CloudWatchFormatter
from cloudwatch_handler.formatter import serialize_default

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def failure() -> ExcInfo:
    """The exc_info of an exception with a cause."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        exc_info = sys.exc_info()
        assert exc_info[0] is not None
        return exc_info


def record(message: object = "hello", *args: object, **attributes: object) -> logging.LogRecord:
    """A record as a logger makes it."""
    made = logging.LogRecord("app.db", logging.WARNING, "/srv/app/db.py", 17, message, args, None, func="query")
    made.__dict__.update(attributes)
    return made


def as_json(record: logging.LogRecord, **options: Any) -> dict[str, Any]:
    """What a record becomes, decoded; NaN and Infinity are no JSON."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    decoded = json.loads(CloudWatchFormatter(**options).format(record), parse_constant=refuse)
    assert type(decoded) is dict
    return decoded


# Text

FAILURE = failure()
PLAIN_RECORDS = {
    "message": record("hello"),
    "percent sign": record("100%"),
    "arguments": record("%s of %d", "five", 7),
    "mapping as argument": record("%(a)s", {"a": 1}),
    "object": record(RuntimeError("boom")),
    "empty": record(""),
    "exception": record("failed", exc_info=FAILURE),
    "exception after a line": record("failed\n", exc_info=FAILURE),
    "exception and arguments": record("failed: %s", "why", exc_info=FAILURE),
    "no exception": record("failed", exc_info=(None, None, None)),
    "text of an exception": record("failed", exc_text="Traceback: it failed"),
    "text and exception": record("failed", exc_info=FAILURE, exc_text="in another's words"),
    "stack": record("here", stack_info="Stack (most recent call last):\n  here"),
    "exception and stack": record("here\n", exc_info=FAILURE, stack_info="Stack (most recent call last):\n  here"),
}
FORMATS: list[tuple[Any, ...]] = [
    (),
    ("%(asctime)s %(levelname)-8s %(name)s:%(lineno)d %(message)s",),
    ("%(asctime)s %(message)s", "%H:%M:%S"),
    ("{levelname:>8} {message}", None, "{"),
    ("$levelname ${message}", None, "$"),
]


@pytest.mark.parametrize("arguments", FORMATS, ids=str)
@pytest.mark.parametrize("case", PLAIN_RECORDS)
def test_text_is_what_logging_makes_of_it(case: str, arguments: tuple[Any, ...]) -> None:
    """To the letter, for any format and style, with arguments, traceback and stack."""
    expected = logging.Formatter(*arguments).format(deepcopy_record(PLAIN_RECORDS[case]))
    assert CloudWatchFormatter(*arguments).format(PLAIN_RECORDS[case]) == expected


@given(st.text(), st.lists(st.text() | st.integers() | st.floats() | st.none(), min_size=1))
def test_any_text_and_arguments_are_as_logging_has_them(text: str, arguments: list[object]) -> None:
    """Also where they do not fit together: then both raise, and the handler tells."""
    made = record(text + "%s" * len(arguments), *arguments)
    try:
        expected = logging.Formatter().format(deepcopy_record(made))
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            CloudWatchFormatter().format(made)
    else:
        assert CloudWatchFormatter().format(made) == expected


def deepcopy_record(record: logging.LogRecord) -> logging.LogRecord:
    """A record of its own, so that what logging.Formatter leaves in it stays there."""
    return logging.makeLogRecord(record.__dict__)


def test_defaults_are_passed_on() -> None:
    """An attribute that a record may lack."""
    formatter = CloudWatchFormatter("%(request)s %(message)s", defaults={"request": "-"})
    assert formatter.format(record("hello")) == "- hello"


def test_a_missing_attribute_is_an_error_of_the_record() -> None:
    """As with every formatter; the handler passes it to handleError."""
    with pytest.raises(ValueError, match="request"):
        CloudWatchFormatter("%(request)s %(message)s").format(record())


def test_a_wrong_format_is_an_error_of_the_formatter() -> None:
    """Checked in the constructor, unless that is not wanted."""
    with pytest.raises(ValueError, match="no fields"):
        CloudWatchFormatter("no fields")
    CloudWatchFormatter("no fields", validate=False)


def test_a_record_class_of_the_application_makes_its_own_message() -> None:
    """Such as one that formats with braces."""

    class Braces(logging.LogRecord):
        def getMessage(self) -> str:
            return "braces: " + str(self.msg).format(*self.args or ())

    made = Braces("app", logging.INFO, "x.py", 1, "{}", (1,), None)
    assert CloudWatchFormatter().format(made) == "braces: 1"
    assert CloudWatchFormatter("%(name)s %(message)s").format(made) == "app braces: 1"
    made.args = ()
    made.msg = "none"
    assert CloudWatchFormatter().format(made) == "braces: none"


# JSON


@pytest.mark.parametrize(
    "message",
    [{}, {"order": 17}, {"a": {"b": [1, 2.5, None, True]}, "c": "grüße 😀"}, {"tuple": (1, 2)}],
)
def test_a_mapping_becomes_one_json_object(message: dict[str, Any]) -> None:
    """Keys in order, text unescaped."""
    text = CloudWatchFormatter("%(levelname)s %(message)s").format(record(message))
    assert text == json.dumps(message, ensure_ascii=False)


def test_any_mapping_becomes_json() -> None:
    """Not only a dict."""
    assert as_json(record(MappingProxyType({"a": 1}))) == {"a": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values))
def test_what_json_can_express_comes_back_the_same(message: dict[str, Any]) -> None:
    """Nothing is added and nothing is lost."""
    assert as_json(record(message)) == message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), "2026-01-02T03:04:05+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4, 5), "03:04:05"),
        (decimal.Decimal("1.50"), "Decimal('1.50')"),
        (b"bytes", "b'bytes'"),
        ({1}, "{1}"),
        (ValueError("x"), "ValueError('x')"),
    ],
)
def test_a_value_without_a_json_form_is_text(value: object, expected: str) -> None:
    """ISO 8601 for dates and times, repr for the rest, wherever it stands."""
    assert serialize_default(value) == expected
    assert as_json(record({"a": [value]})) == {"a": [expected]}
    assert as_json(record({"a": [value], "b": float("nan")})) == {"a": [expected], "b": "nan"}


class Colour(enum.IntEnum):
    """An int that is also something else."""

    RED = 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"a": float("nan"), "b": 1.5}, {"a": "nan", "b": 1.5}),
        ({"a": [float("inf"), -float("inf")]}, {"a": ["inf", "-inf"]}),
        ({float("nan"): 1, 2.5: 2}, {"nan": 1, "2.5": 2}),
        ({b"k": 1, ("a", 1): 2, None: 3, True: 4, 7: 5}, {"b'k'": 1, "('a', 1)": 2, "null": 3, "true": 4, "7": 5}),
        ({"a": {b"k": (1, Colour.RED, None, False)}}, {"a": {"b'k'": [1, 1, None, False]}}),
        ({b"k": MappingProxyType({"a": 1})}, {"b'k'": {"a": 1}}),
    ],
)
def test_odd_keys_and_numbers_are_text(message: Mapping[object, object], expected: dict[str, object]) -> None:
    """What JSON can express stays as it is; a record is worth more than a form."""
    assert as_json(record(message)) == expected


def test_text_beside_odd_values_is_unescaped() -> None:
    """Two bytes for an umlaut, not six."""
    assert CloudWatchFormatter().format(record({"a": "grüße", b"k": 1})) == '{"a": "grüße", "b\'k\'": 1}'


def test_a_circle_is_cut() -> None:
    """At the reference to a parent; the same object twice is no circle."""
    shared = [1]
    message: dict[str, object] = {"a": shared, "b": shared}
    message["self"] = message
    message["list"] = [message]
    assert as_json(record(message)) == {"a": [1], "b": [1], "self": "<circular>", "list": ["<circular>"]}


def test_endless_nesting_is_cut() -> None:
    """A structure deeper than json can follow is shortened, not lost."""
    message: dict[str, object] = {}
    inner = message
    for _ in range(100_000):
        inner["a"] = inner = {}
    text = CloudWatchFormatter().format(record(message))
    assert text.count("{") == 100
    assert '"<nested too deeply>"' in text
    while message:  # taken apart by hand: freeing it at once would be as deep
        message = message.pop("a")  # type: ignore[assignment]


def test_a_default_of_ones_own_is_used() -> None:
    """For what json does not know, and only for that."""
    options = {"json_serialize_default": lambda value: {"custom": str(value)}}
    assert as_json(record({"a": decimal.Decimal("1.5"), "b": 2}), **options) == {"a": {"custom": "1.5"}, "b": 2}


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        (lambda value: float("nan"), "nan"),
        (lambda value: [value], ["<circular>"]),
        (lambda value: {b"k": 1}, {"b'k'": 1}),
        (lambda value: {}["missing"], "Decimal('1.5')"),
        (json.JSONEncoder().default, "Decimal('1.5')"),
    ],
)
def test_a_default_that_does_not_help_loses_no_record(default: Callable[[object], object], expected: object) -> None:
    """Whatever it makes or raises."""
    message = {"a": decimal.Decimal("1.5"), "b": float("nan")}
    assert as_json(record(message), json_serialize_default=default) == {"a": expected, "b": "nan"}


@pytest.mark.parametrize("message", [{"order": 17}, {"exc_info": "mine", "stack_info": "mine"}, {b"odd": 1}])
def test_json_holds_traceback_and_stack(message: dict[object, object]) -> None:
    """The exception with its cause, under the names of the record's attributes."""
    decoded = as_json(record(message, exc_info=FAILURE, stack_info="Stack: here"))
    assert decoded["exc_info"] == logging.Formatter().formatException(FAILURE)
    assert "KeyError: 'inner'" in decoded["exc_info"]
    assert decoded["stack_info"] == "Stack: here"
    assert len(decoded) == len({str(key) for key in message} | {"exc_info", "stack_info"})


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"exc_info": (None, None, None), "exc_text": "NoneType: None"}, {}),
        ({"exc_text": "Traceback: it failed"}, {"exc_info": "Traceback: it failed"}),
        ({"exc_info": None, "stack_info": None}, {}),
    ],
)
def test_json_tells_only_of_real_exceptions(attributes: dict[str, object], expected: dict[str, str]) -> None:
    """``exc_info=True`` outside of an exception adds nothing; a text that a queue carried is kept."""
    assert as_json(record({"a": 1}, **attributes)) == {"a": 1, **expected}


# add_log_record_attrs


def test_attributes_join_a_mapping() -> None:
    """In the order asked for, after what was logged."""
    text = CloudWatchFormatter(add_log_record_attrs=["levelname", "lineno"]).format(record({"order": 17}))
    assert text == '{"order": 17, "levelname": "WARNING", "lineno": 17}'


def test_a_text_with_attributes_becomes_an_object() -> None:
    """The message under ``msg``, formatted."""
    decoded = as_json(record("%d items", 3, exc_info=FAILURE), add_log_record_attrs=["name"])
    assert list(decoded) == ["msg", "name", "exc_info"]
    assert (decoded["msg"], decoded["name"]) == ("3 items", "app.db")


def test_the_attribute_msg_is_the_message() -> None:
    """Naming it changes nothing, as in watchtower."""
    assert as_json(record("hello"), add_log_record_attrs=["msg", "name"]) == {"msg": "hello", "name": "app.db"}
    assert as_json(record({"a": 1}), add_log_record_attrs=["msg"]) == {"a": 1}


def test_a_missing_attribute_is_null() -> None:
    """A record without the extra field is not lost; one with it has it."""
    options = {"add_log_record_attrs": ["request_id"]}
    assert as_json(record("hello"), **options) == {"msg": "hello", "request_id": None}
    assert as_json(record("hello", request_id="r-1"), **options) == {"msg": "hello", "request_id": "r-1"}


@pytest.mark.parametrize("message", ["failed", {"a": 1}])
def test_the_attribute_exc_info_is_the_traceback(message: object) -> None:
    """Its text, not the three objects of the record."""
    decoded = as_json(record(message, exc_info=FAILURE), add_log_record_attrs=["exc_info"])
    assert decoded["exc_info"] == logging.Formatter().formatException(FAILURE)


@pytest.mark.parametrize("attributes", [None, (), []])
def test_no_attributes_leave_a_text_a_text(attributes: Any) -> None:
    """None is none."""
    formatter = CloudWatchFormatter(add_log_record_attrs=attributes)
    assert formatter.format(record("hello")) == "hello"
    assert formatter.format(record({"a": 1})) == '{"a": 1}'


def test_attributes_can_be_chosen_later() -> None:
    """On the handler's formatter, as watchtower's documentation shows."""
    formatter = CloudWatchFormatter()
    formatter.add_log_record_attrs = ["levelname"]
    assert json.loads(formatter.format(record("hello"))) == {"msg": "hello", "levelname": "WARNING"}


# The record

messages = st.text() | st.dictionaries(
    st.text() | st.integers() | st.binary(), json_values | st.binary() | st.floats() | st.just({1})
)


@given(
    message=messages,
    attributes=st.sampled_from([(), ("levelname", "missing")]),
    fmt=st.sampled_from([None, "%(asctime)s %(message)s"]),
    with_exception=st.booleans(),
)
def test_a_record_is_never_changed(
    message: object, attributes: tuple[str, ...], fmt: str | None, with_exception: bool
) -> None:
    """Neither its attributes nor the mapping that was logged: the next handler sees what was said."""
    made = record(message, exc_info=FAILURE if with_exception else None)
    made.extra = SimpleNamespace()
    before, logged = dict(made.__dict__), deepcopy(message)
    CloudWatchFormatter(fmt, add_log_record_attrs=attributes).format(made)
    assert made.__dict__ == before
    assert made.msg is message
    assert repr(message) == repr(logged)


def test_the_next_handler_formats_exceptions_in_its_own_way() -> None:
    """No text of ours is cached in the record."""

    class Short(logging.Formatter):
        def formatException(self, ei: Any) -> str:
            return "short"

    made = record("failed", exc_info=FAILURE)
    CloudWatchFormatter("%(message)s").format(made)
    assert Short().format(made) == "failed\nshort"
