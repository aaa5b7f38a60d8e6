"""Reading back: every event of a range once, in order of time, and then the end.

One stream is read with GetLogEvents. There an empty page is not the end (a quiet period makes one); the end is a page
token that equals the one that was sent. With a filter pattern, or for a whole group, it is FilterLogEvents, where the
end is that no token comes.

A range ends at a fixed time, or else the reading of a busy stream would never end: each page brings what was logged
while the last one was on its way. "Now" is no good end, though, since events may be dated ahead of the reader's clock.
So the range goes as far ahead as an event can be. Of one stream, once a page reaches the time at which reading began,
the newest event that is stored then becomes the last. FilterLogEvents cannot be asked for the newest: there, what came
in after reading began is left out, so that a consumer who takes his time has no more to read for it.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from random import random
from time import sleep, time
from typing import NamedTuple, cast

from . import options
from .connection import Connection
from .errors import Throttled, Unavailable
from .event import MAX_EVENT_LEAD_MS
from .retry import RetryPolicy
from .source import Answer, Boto3Client, ClientSource, client_argument

#: A page that is throttled or does not get through is asked for so often, which takes 13 s on average.
ATTEMPTS = 10
RETRY = RetryPolicy(max_delay=5.0)
#: How far a range without an end goes beyond now: as far as an event may be ahead of the service's clock, and that in
#: turn of ours (with a greater difference the service refuses our signatures).
HORIZON_MS = MAX_EVENT_LEAD_MS + 15 * 60_000
#: Longest filter pattern, and what names may be (service model: FilterPattern, LogGroupName, LogStreamName).
MAX_FILTER_PATTERN_LENGTH = 1024
_GROUP_NAME = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_STREAM_NAME = re.compile(r"[^:*]{1,512}")

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MILLISECOND = datetime.timedelta(milliseconds=1)


class LogEvent(NamedTuple):
    """An event as it is stored.

    Attributes:
        timestamp: when the application logged it, milliseconds since the epoch.
        message: its text.
        ingestion_time: when the service received it, milliseconds since the epoch.
        log_stream_name: the stream that it is in.
        event_id: unique; None when it was read with GetLogEvents (one stream, no filter), which tells none.
    """

    timestamp: int
    message: str
    ingestion_time: int
    log_stream_name: str
    event_id: str | None


class LogReader:
    """Reads the events of a log group.

    Needs the permission ``logs:GetLogEvents`` to read one stream, ``logs:FilterLogEvents`` for a group or a filter.
    The constructor does no network I/O.

    Args:
        log_group_name: name of the group, as it is: no template.
        boto3_client: a boto3 ``logs`` client, or a callable without arguments that makes one. None: the reader makes
            its own, from the next arguments.
        boto3_profile_name, region_name, endpoint_url: as for boto3; None means boto3's own search.

    Raises:
        TypeError, ValueError: an argument breaks its rule; the text names the argument, the rule and the value.
    """

    def __init__(
        self,
        log_group_name: str,
        *,
        boto3_client: Boto3Client | Callable[[], Boto3Client] | None = None,
        boto3_profile_name: str | None = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self._group = group_name("log_group_name", log_group_name)
        source = ClientSource(
            boto3_client=_argument(boto3_client),
            boto3_profile_name=options.text("boto3_profile_name", boto3_profile_name),
            region_name=options.region("region_name", region_name),
            endpoint_url=options.url("endpoint_url", endpoint_url),
        )
        self._connection = Connection(source)

    def read(
        self,
        log_stream_name: str | None = None,
        *,
        start: datetime.datetime | int | None = None,
        end: datetime.datetime | int | None = None,
        filter_pattern: str | None = None,
    ) -> Iterator[LogEvent]:
        """Iterate over everything in a range, once, in order of time (of arrival, where times are equal).

        The requests are made while the iterator is consumed, a page at a time. A request that is throttled or does not
        get through is repeated for some seconds.

        Args:
            log_stream_name: the stream; None reads all streams of the group.
            start: the earliest time that is included: milliseconds since the epoch, as in :attr:`LogEvent.timestamp`,
                or a datetime that is aware of its time zone, which is cut to milliseconds as the handler cuts those of
                its records. None: from the beginning.
            end: the earliest time that is not included any more, in the same forms. None: everything that is stored
                when the first event is asked for, events included that are dated ahead of this machine's clock.
            filter_pattern: only events that match, in CloudWatch Logs' own filter syntax. None: all.

        Returns:
            An iterator that ends, even if the stream is being written to, as long as it is read faster than written.

        Raises:
            TypeError, ValueError: an argument breaks its rule; at once, not at the first event.
            ServiceError: while iterating: see :mod:`cloudwatch_handler.errors`; ``NotFound`` without such a group or
                stream.
        """
        low, high = milliseconds("start", start), milliseconds("end", end)
        if low is not None and high is not None and high < low:
            raise ValueError(f"end must not be before start ({start!r}), not {end!r}")
        stream = None if log_stream_name is None else stream_name("log_stream_name", log_stream_name)
        pattern = options.text("filter_pattern", filter_pattern)
        if pattern is not None and len(pattern) > MAX_FILTER_PATTERN_LENGTH:
            raise ValueError(
                f"filter_pattern must have at most {MAX_FILTER_PATTERN_LENGTH:,} characters, not {len(pattern):,}"
            )
        if stream is not None and pattern is None:
            return self._read_stream(stream, low, high)
        return self._filter(stream, low, high, pattern)

    def _read_stream(self, stream: str, low: int | None, high: int | None) -> Iterator[LogEvent]:
        began = int(time() * 1000)
        if high is None:
            high = began + HORIZON_MS
        if (low or 0) >= high:
            return
        parameters = {"logGroupName": self._group, "logStreamName": stream, "endTime": high}
        if low is not None:
            parameters["startTime"] = low
        last: int | None = None  # timestamp, once the pages have come as far as the present
        for page in self._pages({**parameters, "startFromHead": True}, "nextForwardToken"):
            if page and page[-1].timestamp >= began and last is None:
                newest = self._pages({**parameters, "startFromHead": False, "limit": 1}, "nextBackwardToken")
                last = next((found[-1].timestamp for found in newest if found), page[-1].timestamp)
            for event in page:
                if last is not None and event.timestamp > last:
                    return
                yield event

    def _pages(self, parameters: Mapping[str, object], token_name: str) -> Iterator[Sequence[LogEvent]]:
        """The pages of GetLogEvents in the direction of a token, empty ones included."""
        asked = dict(parameters)
        while True:
            answer = self._call("GetLogEvents", lambda client: client.get_log_events(**asked))
            yield [_event(fields, asked["logStreamName"]) for fields in _events(answer)]
            token = answer.get(token_name)
            if token is None or token == asked.get("nextToken"):
                return
            asked["nextToken"] = token

    def _filter(self, stream: str | None, low: int | None, high: int | None, pattern: str | None) -> Iterator[LogEvent]:
        if high is None:
            high = int(time() * 1000) + HORIZON_MS
        if (low or 0) >= high:
            return
        # This endTime is inclusive. Some endpoints still want to be told what the service does anyway: to interleave.
        parameters: dict[str, object] = {"logGroupName": self._group, "endTime": high - 1, "interleaved": True}
        if low is not None:
            parameters["startTime"] = low
        if stream is not None:
            parameters["logStreamNames"] = [stream]
        if pattern is not None:
            parameters["filterPattern"] = pattern
        began: int | None = None
        while True:
            answer = self._call("FilterLogEvents", lambda client: client.filter_log_events(**parameters))
            if began is None:
                began = max(int(time() * 1000), _time_of(answer))
            for fields in _events(answer):
                event = _event(fields, stream)
                if event.ingestion_time <= began:
                    yield event
            # Not compared with the one that was sent: that may come again, and goes on.
            token = answer.get("nextToken")
            if not token:
                return
            parameters["nextToken"] = token

    def _call(self, operation: str, call: Callable[[Boto3Client], Answer]) -> Answer:
        for bound in itertools.islice(RETRY.delays(), ATTEMPTS - 1):
            try:
                return self._connection.call(operation, call)
            except (Throttled, Unavailable):
                sleep(bound * random())
        return self._connection.call(operation, call)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._group}>"


def group_name(argument: str, value: str) -> str:
    """The name of a log group, checked.

    Raises:
        TypeError, ValueError: it is none; the text names the argument.
    """
    return _name(argument, value, _GROUP_NAME, "letters, digits and any of . - _ / #")


def stream_name(argument: str, value: str) -> str:
    """The name of a log stream, checked.

    Raises:
        TypeError, ValueError: it is none; the text names the argument.
    """
    return _name(argument, value, _STREAM_NAME, "any characters but : and *")


def _name(argument: str, value: str, legal: re.Pattern[str], rule: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, not {value!r}")
    if not legal.fullmatch(value):
        raise ValueError(f"{argument} must be 1 to 512 of these: {rule}; not {value!r}")
    return value


def milliseconds(argument: str, value: datetime.datetime | int | None) -> int | None:
    """A point in time as milliseconds since the epoch; None stays None.

    Raises:
        TypeError: it is neither an aware datetime nor a whole number (``time.time()`` is in seconds, and none).
        ValueError: it is a datetime without a time zone, or before 1970.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, datetime.datetime)):
        raise TypeError(f"{argument} must be milliseconds as a whole number, an aware datetime or None, not {value!r}")
    since = value
    if isinstance(since, datetime.datetime):
        if since.utcoffset() is None:
            raise ValueError(f"{argument} must be a datetime with a time zone, such as timezone.utc, not {value!r}")
        since = (since - _EPOCH) // _MILLISECOND
    if since < 0:
        raise ValueError(f"{argument} must not be before 1970, not {value!r}")
    return since


def _argument(client: object) -> Boto3Client | Callable[[], Boto3Client] | None:
    given = client_argument(client, "get_log_events")
    # A client that can only read is none for a ClientSource, which asks for put_log_events.
    return (lambda: cast(Boto3Client, given)) if hasattr(given, "get_log_events") else given


def _time_of(answer: Answer) -> int:
    """The end of the second in which the service gave this answer, by its own clock; 0 where it does not tell."""
    metadata = cast(Mapping[str, Mapping[str, str]], answer.get("ResponseMetadata", {}))
    try:
        date = parsedate_to_datetime(metadata["HTTPHeaders"]["date"])
    except (LookupError, TypeError, ValueError):
        return 0
    return int(date.timestamp() * 1000) + 999


def _events(answer: Answer) -> Sequence[Mapping[str, object]]:
    return cast(Sequence[Mapping[str, object]], answer.get("events", ()))


def _event(fields: Mapping[str, object], stream: object) -> LogEvent:
    return LogEvent(
        timestamp=cast(int, fields["timestamp"]),
        message=cast(str, fields["message"]),
        ingestion_time=cast(int, fields["ingestionTime"]),
        log_stream_name=cast(str, fields.get("logStreamName", stream)),
        event_id=cast("str | None", fields.get("eventId")),
    )
