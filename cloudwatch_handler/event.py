"""An event, a batch of them, and every limit that CloudWatch Logs sets for either.

An event in memory is what will leave the process: ``fragment`` is its JSON object as bytes, encoded once, on the thread
that logged it. A batch of a million bytes then becomes a request body with one ``bytes.join``; botocore would spend
6 µs an event on the same work.

Nothing here knows of threads, clocks or I/O.

The limits are those of the API reference of PutLogEvents (a test compares those that the service model states too):
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Literal, NamedTuple

#: Bytes the service adds to the UTF-8 length of every message.
EVENT_OVERHEAD = 26
#: Bytes of one batch: the sum of message bytes + EVENT_OVERHEAD. JSON escapes and the envelope do not count.
MAX_BATCH_SIZE = 1_048_576
#: Events of one batch.
MAX_BATCH_COUNT = 10_000
#: UTF-8 bytes of one message: an event, overhead included, may fill a whole batch (256 KB before April 2025).
MAX_MESSAGE_SIZE = MAX_BATCH_SIZE - EVENT_OVERHEAD
#: Longest time between the first and the last event of one batch.
MAX_BATCH_SPAN_MS = 24 * 3_600_000
#: Events that are older than this are rejected.
MAX_EVENT_AGE_MS = 14 * 24 * 3_600_000
#: Events that are further in the future than this are rejected.
MAX_EVENT_LEAD_MS = 2 * 3_600_000
#: Values that PutRetentionPolicy takes.
RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
#: Values that CreateLogGroup takes for ``logGroupClass``.
LOG_GROUP_CLASSES = ("STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS")

#: What an event costs in memory besides its fragment: the tuple, two integers, the bytes header, a slot in a deque.
EVENT_MEMORY = 200

Oversize = Literal["split", "truncate", "drop"]


class Destination(NamedTuple):
    """Where an event goes: a log group and a log stream of it."""

    log_group_name: str
    log_stream_name: str

    def __str__(self) -> str:
        return f"{self.log_group_name}/{self.log_stream_name}"


class Event(NamedTuple):
    """One event, ready to be sent.

    Attributes:
        destination: where it goes.
        timestamp: milliseconds since the epoch.
        size: bytes as the service counts them: UTF-8 length of the message + EVENT_OVERHEAD.
        fragment: ``{"timestamp":…,"message":…}`` as it stands in the request body.
        receipt: the spool's, which names its place on disk; None when it is in memory only.
    """

    destination: Destination
    timestamp: int
    size: int
    fragment: bytes
    receipt: int | None = None

    @property
    def message(self) -> str:
        """The text, decoded from the fragment again."""
        text: str = json.loads(self.fragment)["message"]
        return text

    def with_receipt(self, receipt: int) -> Event:
        """The same event, on disk."""
        return _new_tuple(Event, (*self[:4], receipt))

    @property
    def memory(self) -> int:
        """Bytes that holding this event costs."""
        return len(self.fragment) + EVENT_MEMORY


by_timestamp = itemgetter(1)
_new_tuple = tuple.__new__


def encode(destination: Destination, timestamp: int, text: str) -> Event:
    """Make the event of one message, whatever its size.

    Args:
        destination: where it goes.
        timestamp: milliseconds since the epoch.
        text: the message. Lone surrogates, which UTF-8 cannot express, come out as backslash escapes.
    """
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            text = text.encode("utf-8", "backslashreplace").decode()
            size = len(text.encode())
    fragment = f'{{"timestamp":{timestamp},"message":{encode_basestring(text)}}}'.encode()
    # What Event(…) does, without its Python-level constructor.
    return _new_tuple(Event, (destination, timestamp, size + EVENT_OVERHEAD, fragment, None))


def fit(event: Event, limit: int, oversize: Oversize) -> list[Event]:
    """Make an event that is too long fit.

    Args:
        event: the event.
        limit: UTF-8 bytes that a message may have.
        oversize: ``"split"`` cuts into as many events as needed, ``"truncate"`` keeps the beginning, ``"drop"`` keeps
            nothing. Cuts fall on character boundaries; the parts of a split, put together, are the message.

    Returns:
        The events to send instead, in order; an empty list for ``"drop"``.
    """
    if event.size - EVENT_OVERHEAD <= limit:
        return [event]
    if oversize == "drop":
        return []
    parts = split(event.message, limit)
    if oversize == "truncate":
        parts = iter([next(parts)])
    return [encode(event.destination, event.timestamp, part) for part in parts]


def split(text: str, limit: int) -> Iterator[str]:
    """Cut a text into parts of at most ``limit`` UTF-8 bytes (at least 4), none of which ends inside a character."""
    data = text.encode()
    start = 0
    while len(data) - start > limit:
        end = start + limit
        while data[end] & 0xC0 == 0x80:  # a continuation byte: the character began before
            end -= 1
        yield data[start:end].decode()
        start = end
    yield data[start:].decode()


class Batch:
    """Events of one destination that one PutLogEvents may carry: few enough, small enough, close enough in time.

    It is *open* while events are added, then *sealed* for its first attempt and never grows again: when an answer was
    lost, the same bytes must be sent once more. The thread that has taken the batch owns its events.

    Attributes:
        arrival: monotonic time in seconds at which its first event was accepted.
        taken: how many events the last :meth:`extend` appended.
        attempts: how often it was tried without success.
        first_attempt: monotonic time of its first attempt, or None.
        races: InvalidSequenceTokenExceptions in the current round.
    """

    __slots__ = (
        *("destination", "events", "size", "memory", "earliest", "latest", "arrival"),
        *("max_count", "max_size", "sealed", "full", "taken", "attempts", "first_attempt", "races"),
    )

    def __init__(
        self,
        destination: Destination,
        *,
        arrival: float,
        max_count: int = MAX_BATCH_COUNT,
        max_size: int = MAX_BATCH_SIZE,
    ) -> None:
        self.destination = destination
        self.events: deque[Event] = deque()
        self.size = 0
        self.memory = 0
        self.earliest = 0
        self.latest = 0
        self.arrival = arrival
        self.max_count = max_count
        self.max_size = max_size
        self.sealed = False
        self.full = False
        self.taken = 0
        self.attempts = 0
        self.first_attempt: float | None = None
        self.races = 0

    def __len__(self) -> int:
        return len(self.events)

    def extend(self, events: Sequence[Event], start: int = 0) -> int:
        """Append events from index ``start`` on, as long as they belong here and the batch stays legal.

        The loop is the one place where legality is decided, and runs once for every event that is logged; hence the
        local variables.

        Returns:
            The index of the first event that was not taken. When it does not fit, the batch counts as full from now on.
        """
        destination, max_size = self.destination, self.max_size
        earliest, latest, size, memory = self.earliest, self.latest, self.size, self.memory
        room = 0 if self.sealed else self.max_count - len(self.events)
        if not self.events and start < len(events):
            earliest = latest = events[start].timestamp
        end = start
        for where, timestamp, event_size, fragment, _ in events[start : start + room]:
            if where is not destination and where != destination:
                break
            if size + event_size > max_size:
                self.full = True
                break
            if timestamp < earliest:
                if latest - timestamp > MAX_BATCH_SPAN_MS:
                    self.full = True
                    break
                earliest = timestamp
            elif timestamp > latest:
                if timestamp - earliest > MAX_BATCH_SPAN_MS:
                    self.full = True
                    break
                latest = timestamp
            size += event_size
            memory += len(fragment) + EVENT_MEMORY
            end += 1
        taken = events[start:end]
        if len(self.events) + len(taken) >= self.max_count:
            self.full = True
        # No call in these lines: no signal handler can raise in between.
        self.earliest, self.latest, self.size, self.memory = earliest, latest, size, memory
        self.taken = end - start
        self.events += taken
        return end

    def admits(self, event: Event) -> bool:
        """Whether one more event of this size would leave a sealed batch legal."""
        return len(self.events) < self.max_count and self.size + event.size <= self.max_size

    def seal(self) -> Sequence[Event]:
        """Close the batch, bring it into the order of time (stable for equal milliseconds), and return its events."""
        self.sealed = True
        events = sorted(self.events, key=by_timestamp)
        self.events = deque(events)
        return events

    def part(self, events: Sequence[Event]) -> Batch:
        """A sealed batch of some of this one's events, that has been tried as often as this one."""
        part = Batch(self.destination, arrival=self.arrival, max_count=self.max_count, max_size=self.max_size)
        # Without the checks of extend: what is legal together is legal apart, and no event may get lost here.
        part.events = deque(events)
        part.size = sum(event.size for event in events)
        part.memory = sum(event.memory for event in events)
        part.sealed = True
        part.attempts, part.first_attempt, part.races = self.attempts, self.first_attempt, self.races
        return part
