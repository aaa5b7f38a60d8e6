"""Reading one range once: pages, ends, errors and arguments of the reader."""

from __future__ import annotations

import datetime
import itertools
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest

from cloudwatch_handler import CloudWatchHandler, LogEvent, LogReader, errors, reader
from tests.strict_service import Error, Html, Reset, StrictService

GROUP, STREAM = "my-app", "web-1"
HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
UTC = datetime.timezone.utc


@pytest.fixture
def service() -> Iterator[StrictService]:
    """A service with an empty stream."""
    with StrictService() as service:
        service.create_log_stream(GROUP, STREAM)
        yield service
        assert service.violations == []


@pytest.fixture
def logs(service: StrictService) -> LogReader:
    """A reader of the group."""
    return LogReader(GROUP, boto3_client=service.client())


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The upper bounds of the pauses between attempts; none of them is made."""
    bounds: list[float] = []
    monkeypatch.setattr(reader, "random", lambda: 1.0)
    monkeypatch.setattr(reader, "sleep", bounds.append)
    return bounds


def now_ms() -> int:
    """The present in milliseconds since the epoch."""
    return int(time.time() * 1000)


def fill(service: StrictService, *offsets: int, stream: str = STREAM) -> list[tuple[int, str]]:
    """Stores an event for each distance in ms from an hour ago, numbered in that order; returns them by time."""
    base = now_ms() - HOUR_MS
    events = [(base + offset, f"{stream} {number}") for number, offset in enumerate(offsets)]
    service.add_events(GROUP, stream, events)
    return sorted(events, key=lambda event: event[0])


def pairs(events: Iterator[LogEvent]) -> list[tuple[int, str]]:
    """Timestamps and messages."""
    return [(event.timestamp, event.message) for event in events]


def sent(service: StrictService, operation: str) -> list[dict[str, Any]]:
    """The parameters of every request for an operation."""
    return [request.parameters for request in service.requests if request.operation == operation]


def keep_busy(service: StrictService) -> None:
    """Lets every request find one more event, dated now."""

    def write(_: object) -> bool:
        service.add_events(GROUP, STREAM, [(now_ms(), "more")])
        return False

    service.inject(Reset(), operation=None, times=None, when=write)


# -- one stream -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_every_event_comes_once_in_order_whatever_the_page_size(
    service: StrictService, logs: LogReader, page_size: int, filter_pattern: str | None
) -> None:
    """Nothing is lost or repeated where one page ends and the next begins, also among equal times."""
    service.options.page_size = page_size
    stored = fill(service, 5, 5, 5, 3, 3, 5, 9, 0, 9)
    assert pairs(logs.read(STREAM, filter_pattern=filter_pattern)) == stored


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_an_empty_page_is_not_the_end(service: StrictService, logs: LogReader, filter_pattern: str | None) -> None:
    """Days of silence make pages without events, whose token goes on (FilterLogEvents even repeats it)."""
    stored = fill(service, -9 * DAY_MS, -5 * DAY_MS, -5 * DAY_MS + 1, 0)
    assert pairs(logs.read(STREAM, filter_pattern=filter_pattern)) == stored
    assert len(service.requests) > 4


def test_a_stream_without_events_has_none(service: StrictService, logs: LogReader) -> None:
    """The end is known after the second request: the token of the first comes back."""
    assert list(logs.read(STREAM)) == []
    assert [request.get("nextToken") is None for request in sent(service, "GetLogEvents")] == [True, False]


def test_an_event_has_all_that_the_service_tells(service: StrictService, logs: LogReader) -> None:
    """Times in milliseconds, the name of the stream, and an event id where there is one."""
    ((timestamp, message),) = fill(service, 0)
    ((_, _, ingestion_time),) = service.events(GROUP, STREAM)
    (event,) = logs.read(STREAM)
    assert event == LogEvent(timestamp, message, ingestion_time, STREAM, None)
    (event,) = logs.read(STREAM, filter_pattern="web")
    assert event[:4] == (timestamp, message, ingestion_time, STREAM)
    assert event.event_id


def test_what_the_handler_wrote_is_read(service: StrictService, logs: LogReader) -> None:
    """A record that was flushed is there at once, from the time on at which it was logged."""
    start = datetime.datetime.now(UTC)
    handler = CloudWatchHandler(GROUP, STREAM, boto3_client=service.client())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.info("Grüße, %s\n", "Welt")
    handler.close()
    assert [event.message for event in logs.read(STREAM, start=start)] == ["Grüße, Welt\n"]


# -- the range --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_the_start_belongs_to_the_range_and_the_end_does_not(
    service: StrictService, logs: LogReader, filter_pattern: str | None
) -> None:
    """For both operations, although the service's two ends differ."""
    stored = fill(service, 0, 1, 2, 3)
    events = logs.read(STREAM, start=stored[1][0], end=stored[3][0], filter_pattern=filter_pattern)
    assert pairs(events) == stored[1:3]


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_ranges_that_meet_share_no_event(service: StrictService, logs: LogReader, filter_pattern: str | None) -> None:
    """Reading hour by hour gives everything once, with times that have microseconds, too."""
    stored = fill(service, *range(6))
    middle = datetime.datetime.fromtimestamp(stored[3][0] / 1000, UTC) + datetime.timedelta(microseconds=700)
    first = logs.read(STREAM, end=middle, filter_pattern=filter_pattern)
    second = logs.read(STREAM, start=middle, filter_pattern=filter_pattern)
    assert (pairs(first), pairs(second)) == (stored[:3], stored[3:])


def test_a_datetime_of_any_time_zone_is_that_moment(service: StrictService, logs: LogReader) -> None:
    """An aware datetime is a point in time, exact to the millisecond."""
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    moment = datetime.datetime(2024, 2, 29, 1, 2, 3, 999_999, tzinfo=zone)
    list(logs.read(STREAM, start=moment, end=moment + datetime.timedelta(milliseconds=1)))
    (request, _) = sent(service, "GetLogEvents")
    assert (request["startTime"], request["endTime"]) == (1_709_148_723_999, 1_709_148_724_000)


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_a_range_of_no_length_is_empty_and_asks_nothing(
    service: StrictService, logs: LogReader, filter_pattern: str | None
) -> None:
    """The service would call an inclusive end before the start wrong."""
    fill(service, 0)
    assert list(logs.read(STREAM, start=5, end=5, filter_pattern=filter_pattern)) == []
    assert list(logs.read(STREAM, end=0, filter_pattern=filter_pattern)) == []
    assert list(logs.read(STREAM, start=now_ms() + DAY_MS, filter_pattern=filter_pattern)) == []
    assert service.requests == []


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_every_request_names_the_same_end(service: StrictService, logs: LogReader, filter_pattern: str | None) -> None:
    """The end of a range that has none is fixed once, or reading would become following."""
    service.options.page_size = 1
    fill(service, 0, 1, 2)
    list(logs.read(STREAM, filter_pattern=filter_pattern))
    ends = [request.parameters["endTime"] for request in service.requests]
    assert len(ends) >= 3
    assert len(set(ends)) == 1


def test_every_request_for_a_stream_goes_forward(service: StrictService, logs: LogReader) -> None:
    """The service refuses a forward token without startFromHead, and starts at the tail without it."""
    service.options.page_size = 1
    fill(service, 0, 1, 2)
    list(logs.read(STREAM))
    assert {request["startFromHead"] for request in sent(service, "GetLogEvents")} == {True}


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_events_dated_ahead_are_read(service: StrictService, logs: LogReader, filter_pattern: str | None) -> None:
    """An application's clock may be up to two hours ahead: its events are stored, so they are read."""
    stored = fill(service, 0, 2 * HOUR_MS, 3 * HOUR_MS)
    assert pairs(logs.read(STREAM, filter_pattern=filter_pattern)) == stored


@pytest.mark.parametrize("page_size", [2, 10_000])
@pytest.mark.parametrize("ahead", [(), (2 * HOUR_MS - 60_000,)], ids=["no event", "one event"])
@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_reading_ends_although_each_request_finds_a_new_event(
    service: StrictService, logs: LogReader, page_size: int, ahead: tuple[int, ...], filter_pattern: str | None
) -> None:
    """A busy stream is read up to some moment after reading began, and with it what is dated ahead, if anything."""
    service.options.page_size = page_size
    stored = fill(service, 0, 1, 2, *ahead)
    keep_busy(service)
    events = list(itertools.islice(logs.read(STREAM, filter_pattern=filter_pattern), 1000))
    assert len(events) < 1000
    assert [(event.timestamp, event.message) for event in events if event.message != "more"] == stored


def test_an_end_in_the_future_is_an_end_all_the_same(service: StrictService, logs: LogReader) -> None:
    """Reading never waits for the end to come."""
    stored = fill(service, 0)
    keep_busy(service)
    events = list(itertools.islice(logs.read(STREAM, end=now_ms() + DAY_MS), 1000))
    assert pairs(iter(events[:1])) == stored
    assert len(events) < 1000


def test_a_group_is_read_to_the_end_by_a_consumer_who_takes_his_time(
    service: StrictService, logs: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes in while he looks at each event is left out, however much it is; what is dated ahead is not."""
    monkeypatch.setattr("cloudwatch_handler.reader._time_of", lambda _: 0)  # in whole seconds, of which he takes none
    service.options.page_size = 2
    stored = fill(service, 0, 1, 2, 2 * HOUR_MS - 60_000)
    events = []
    for event in itertools.islice(logs.read(), 1000):
        events.append(event)
        service.add_events(GROUP, STREAM, [(now_ms(), "more")] * 5)
    assert len(events) < 1000
    assert [(event.timestamp, event.message) for event in events if event.message != "more"] == stored


# -- filters and groups -----------------------------------------------------------------------------------------------


def test_a_filter_is_applied_by_the_service_to_the_one_stream(service: StrictService, logs: LogReader) -> None:
    """What matches in other streams does not come."""
    service.create_log_stream(GROUP, "web-10")
    stored = fill(service, 0, 1, 2)
    fill(service, 0, 1, 2, stream="web-10")
    assert pairs(logs.read(STREAM, filter_pattern="2")) == stored[2:]
    assert service.count("GetLogEvents") == 0


@pytest.mark.parametrize("page_size", [1, 10_000])
def test_a_group_is_read_in_order_of_time_across_its_streams(
    service: StrictService, logs: LogReader, page_size: int
) -> None:
    """Without a stream's name all streams are read, each event once, under the name of its own stream."""
    service.options.page_size = page_size
    service.create_log_stream(GROUP, "web-2")
    stored = fill(service, 0, 2, 4) + fill(service, 1, 3, 5, stream="web-2")
    events = list(logs.read())
    assert pairs(iter(events)) == sorted(stored)
    assert all(event.message.startswith(event.log_stream_name) for event in events)
    assert len({event.event_id for event in events}) == len(events)


# -- errors -----------------------------------------------------------------------------------------------------------

TRANSIENT = [
    pytest.param(Error("ThrottlingException"), errors.Throttled, id="throttled"),
    pytest.param(Error("ServiceUnavailableException", 503), errors.Unavailable, id="unavailable"),
    pytest.param(Reset(), errors.Unavailable, id="reset"),
    pytest.param(Html(), errors.NotTheService, id="captive portal"),
]


@pytest.mark.parametrize(("fault", "_error"), TRANSIENT)
@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_a_page_that_does_not_get_through_is_asked_for_again(
    service: StrictService,
    logs: LogReader,
    pauses: list[float],
    fault: Any,
    _error: type[Exception],
    filter_pattern: str | None,
) -> None:
    """In the middle of a stream, after pauses that grow, and without an event lost or repeated."""
    service.options.page_size = 1
    stored = fill(service, 0, 1, 2)
    service.inject(fault, operation=None, times=3, skip=1)
    assert pairs(logs.read(STREAM, filter_pattern=filter_pattern)) == stored
    assert pauses == [0.2, 0.4, 0.8]


@pytest.mark.parametrize(("fault", "error"), TRANSIENT)
def test_a_service_that_stays_away_is_an_error_in_the_end(
    service: StrictService, logs: LogReader, pauses: list[float], fault: Any, error: type[Exception]
) -> None:
    """Ten attempts, then the last error goes to whoever reads; an unread range never looks like an empty one."""
    service.inject(fault, operation="GetLogEvents", times=None)
    with pytest.raises(error):
        next(logs.read(STREAM))
    assert service.count("GetLogEvents") == 10
    assert len(pauses) == 9


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Error("AccessDeniedException", 400, "not authorized to perform: logs:GetLogEvents"), errors.Denied),
        (Error("InvalidParameterException"), errors.InvalidRequest),
        (Error("ResourceNotFoundException"), errors.NotFound),
    ],
)
def test_an_error_that_waiting_does_not_mend_is_raised_at_once(
    service: StrictService, logs: LogReader, pauses: list[float], fault: Error, error: type[Exception]
) -> None:
    """One request, no pause, an error of this package that says which operation it was."""
    service.inject(fault, operation="GetLogEvents")
    with pytest.raises(error, match="GetLogEvents"):
        next(logs.read(STREAM))
    assert (len(service.requests), pauses) == (1, [])


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_a_stream_that_does_not_exist_is_not_an_empty_one(logs: LogReader, filter_pattern: str | None) -> None:
    """NotFound, for a stream as for a group."""
    with pytest.raises(errors.NotFound):
        list(logs.read("web-2", filter_pattern=filter_pattern))


def test_the_reader_makes_its_own_client_and_repeats_as_patiently(
    service: StrictService, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a client the other arguments make one, at the first event and not before."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    stored = fill(service, 0)
    service.inject(Error("ThrottlingException"), operation="GetLogEvents", times=9)
    logs = LogReader(GROUP, region_name="us-east-1", endpoint_url=service.url)
    assert pairs(logs.read(STREAM)) == stored
    assert len(pauses) == 9


def test_a_client_that_cannot_be_made_is_an_error_of_ours() -> None:
    """Not in the constructor, which does no I/O, but when the client is needed."""

    def make() -> Any:
        raise RuntimeError("no region")

    events = LogReader(GROUP, boto3_client=make).read(STREAM)
    with pytest.raises(errors.Denied, match="no region"):
        next(events)


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"log_group_name": ""}, ValueError, "log_group_name .*1 to 512.*''"),
        ({"log_group_name": "a b"}, ValueError, "log_group_name .*letters.*'a b'"),
        ({"log_group_name": "x" * 513}, ValueError, "log_group_name .*512.*x"),
        ({"log_group_name": "app\n"}, ValueError, r"log_group_name .*'app\\n'"),
        ({"log_group_name": None}, TypeError, "log_group_name .*string.*None"),
        ({"boto3_client": 7}, TypeError, "boto3_client .*client.*7"),
        ({"region_name": ""}, ValueError, "region_name .*empty"),
        ({"endpoint_url": 7}, TypeError, "endpoint_url .*string.*7"),
        ({"boto3_client": lambda: None, "endpoint_url": "http://localhost"}, ValueError, "endpoint_url.*localhost"),
    ],
)
def test_the_constructor_names_argument_rule_and_value(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Nobody has to read this package's source to understand what was wrong."""
    with pytest.raises(error, match=text):
        LogReader(**{"log_group_name": GROUP} | arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"log_stream_name": ""}, ValueError, "log_stream_name .*1 to 512.*''"),
        ({"log_stream_name": "a:b"}, ValueError, "log_stream_name .*'a:b'"),
        ({"log_stream_name": 7}, TypeError, "log_stream_name .*string.*7"),
        ({"start": datetime.datetime(2024, 1, 1)}, ValueError, "start .*time zone.*2024"),
        ({"end": datetime.datetime(2024, 1, 1)}, ValueError, "end .*time zone.*2024"),
        ({"start": datetime.datetime(1969, 12, 31, tzinfo=UTC)}, ValueError, "start .*1970.*1969"),
        ({"start": -1}, ValueError, "start .*1970.*-1"),
        ({"start": 1.5}, TypeError, "start .*milliseconds.*1.5"),
        ({"start": True}, TypeError, "start .*milliseconds.*True"),
        ({"end": "now"}, TypeError, "end .*milliseconds.*'now'"),
        ({"start": 2, "end": 1}, ValueError, r"end .*start \(2\).*1"),
        ({"filter_pattern": ""}, ValueError, "filter_pattern .*empty"),
        ({"filter_pattern": "x" * 1025}, ValueError, "filter_pattern .*1,024.*1,025"),
        ({"filter_pattern": 7}, TypeError, "filter_pattern .*string.*7"),
    ],
)
def test_read_checks_its_arguments_at_once(
    service: StrictService, logs: LogReader, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The error comes from the call, where the mistake is, and not from the loop over the events."""
    with pytest.raises(error, match=text):
        logs.read(**arguments)
    assert service.requests == []


@pytest.mark.parametrize("filter_pattern", [None, "web"])
def test_nothing_is_asked_before_the_first_event(
    service: StrictService, logs: LogReader, filter_pattern: str | None
) -> None:
    """Reading is lazy: neither the constructor nor the call reaches the network."""
    events = logs.read(STREAM, filter_pattern=filter_pattern)
    assert service.requests == []
    assert list(events) == []
    assert service.requests != []


@pytest.mark.parametrize(
    ("shape", "legal"), [("LogGroupName", reader.group_name), ("LogStreamName", reader.stream_name)]
)
def test_names_follow_the_service_model(shape: str, legal: Callable[[str, str], str]) -> None:
    """The model that ships in botocore states the same lengths and the same characters."""
    model = botocore.session.Session().get_service_model("logs").shape_for(shape).metadata
    assert (model["min"], model["max"]) == (1, 512)
    assert legal("name", "x" * 512) == "x" * 512
    for character in map(chr, range(32, 127)):
        accepted = True
        try:
            legal("name", character)
        except ValueError:
            accepted = False
        in_model = bool(re.fullmatch(model["pattern"], character))
        assert accepted == in_model, character


def test_the_filter_pattern_is_as_long_as_in_the_service_model() -> None:
    """The model that ships in botocore states the same length."""
    model = botocore.session.Session().get_service_model("logs").shape_for("FilterPattern").metadata
    assert model["max"] == reader.MAX_FILTER_PATTERN_LENGTH
