"""The ledger's entries: what became of one attempt, what was rejected, and the sums as an immutable snapshot.

Everything here is a value. :mod:`cloudwatch_handler.buffer` keeps the books.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from .errors import ServiceError
from .event import Batch, Destination, Event

#: Why the service refuses an event (or would: what is known to be refused is not sent).
REJECTION_REASONS = ("too_old", "expired", "too_new", "too_large", "empty", "invalid")
#: Why this package gave an event up.
DROP_REASONS = ("overflow", "closed", "retries_exhausted")


def _none() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What became of a batch in one attempt. Every event of the batch is in exactly one of the first four.

    Attributes:
        delivered: how many events the service has.
        rejected: events that the service refuses, by reason.
        dropped: events that were given up, by reason.
        remaining: what is to be tried again, in order; the whole batch after most failures, its halves after a split.
        delay: seconds that the lane must wait before the next attempt.
        counts: what to add to the counters of :class:`Statistics`, by field name.
        error: why the attempt failed, or None.
    """

    delivered: int = 0
    rejected: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    dropped: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    remaining: Sequence[Batch] = ()
    delay: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    error: ServiceError | None = None

    @property
    def events(self) -> int:
        """How many events it accounts for."""
        gone = [*self.rejected.values(), *self.dropped.values()]
        return self.delivered + sum(map(len, gone)) + sum(map(len, self.remaining))


@dataclass(frozen=True, slots=True)
class Loss:
    """Events of one destination that were dropped, as one event in the stream will tell it.

    Attributes:
        counts: how many, by reason.
        first, last: earliest and latest timestamp among them, milliseconds.
    """

    counts: Mapping[str, int]
    first: int
    last: int

    @classmethod
    def of(cls, reason: str, events: Sequence[Event]) -> Loss:
        """The loss of these events (at least one)."""
        timestamps = [event.timestamp for event in events]
        return cls({reason: len(events)}, min(timestamps), max(timestamps))

    def __add__(self, other: Loss) -> Loss:
        counts = Counter(self.counts)
        counts.update(other.counts)
        return Loss(counts, min(self.first, other.first), max(self.last, other.last))

    def __str__(self) -> str:
        what = ", ".join(f"{reason}: {count}" for reason, count in sorted(self.counts.items()))
        total = sum(self.counts.values())
        return (
            f"WARNING cloudwatch_handler: {total} events of this stream were dropped ({what}), "
            f"logged from {_iso(self.first)} to {_iso(self.last)}"
        )


def _iso(timestamp: int) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(timestamp / 1000, tz=datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):  # a record may claim any time
        return f"{timestamp} ms since 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Statistics:
    """A snapshot of a handler's ledger since the process began (or was forked).

    ``accepted == delivered + rejected + dropped + spooled + pending`` holds in every snapshot. The unit is the event: a
    record that was split counts its parts.

    Attributes:
        accepted: events handed to the handler.
        delivered: events that the service acknowledged.
        rejected: events that the service refuses; ``rejected_by_reason`` says why.
        dropped: events that were given up; ``dropped_by_reason`` says why.
        spooled: events that are on disk only.
        pending: events held in memory, the batch under way included.
        rejected_by_reason: counts by too_old, expired, too_new, too_large, empty and invalid; absent means 0.
        dropped_by_reason: counts by overflow, closed and retries_exhausted; absent means 0.
        put_requests: PutLogEvents requests.
        describe_requests: DescribeLogStreams requests.
        retries: attempts after the first for a batch.
        throttled_requests: requests of any kind that were throttled.
        writer_race_retries: InvalidSequenceTokenExceptions that were answered with describing and trying again.
        unrecovered_writer_race_retries: rounds of five such retries that did not help.
        already_accepted: events that the service said it had already (they count as delivered).
        batches: batches that the service acknowledged.
        bytes_raw: bytes of their request bodies before compression.
        bytes_sent: bytes of their request bodies as sent.
        queue_high_water_mark: most bytes ever held in memory.
        last_error: text of the last error, or None.
        last_error_time: when that was, seconds since the epoch, or None.
    """

    accepted: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: int = 0
    spooled: int = 0
    pending: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=_none)
    dropped_by_reason: Mapping[str, int] = field(default_factory=_none)
    put_requests: int = 0
    describe_requests: int = 0
    retries: int = 0
    throttled_requests: int = 0
    writer_race_retries: int = 0
    unrecovered_writer_race_retries: int = 0
    already_accepted: int = 0
    batches: int = 0
    bytes_raw: int = 0
    bytes_sent: int = 0
    queue_high_water_mark: int = 0
    last_error: str | None = None
    last_error_time: float | None = None


class RejectedEvent(NamedTuple):
    """An event that was not taken.

    Attributes:
        timestamp: milliseconds since the epoch.
        message: its text.
    """

    timestamp: int
    message: str


@dataclass(frozen=True, slots=True)
class RejectedEvents:
    """What ``on_rejected`` is called with: events of one stream that were rejected together, for one reason.

    Attributes:
        reason: too_old, expired, too_new, too_large, empty or invalid.
        log_group_name: where they were going.
        log_stream_name: where they were going.
        events: the events, in order of time.
    """

    reason: str
    log_group_name: str
    log_stream_name: str
    events: tuple[RejectedEvent, ...]

    @classmethod
    def of(cls, reason: str, destination: Destination, events: Sequence[Event]) -> RejectedEvents:
        """The report on some events of one destination."""
        return cls(reason, *destination, tuple(RejectedEvent(event.timestamp, event.message) for event in events))

    def __str__(self) -> str:
        count = "1 event" if len(self.events) == 1 else f"{len(self.events)} events"
        return f"{count} for {self.log_group_name}/{self.log_stream_name} rejected: {self.reason}"
