"""The rules of writing: every limit of PutLogEvents, upload tokens, retention and quotas.

Pure functions; times are ms since the epoch and handed in. Sources: the API reference of
PutLogEvents and PutRetentionPolicy, and the service model in botocore.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from .shapes import Json, Refused, constraint, invalid

SECOND_MS = 1000
DAY_MS = 24 * 3600 * SECOND_MS

MAX_BATCH_BYTES = 1_048_576
EVENT_OVERHEAD_BYTES = 26
MAX_EVENT_BYTES = 1_048_576  # overhead included; it was 256 KB before April 2025
MAX_AGE_MS = 14 * DAY_MS
MAX_AHEAD_MS = 2 * 3600 * SECOND_MS
MAX_SPAN_MS = DAY_MS
MAX_TAGS = 50
RESERVED_PREFIX = "aws/"
RETENTION_DAYS = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731} | {1096, 1827, 2192, 2557, 2922, 3288, 3653}
)
# Requests per second and account, the lowest of any region; enforced where a test asks for it.
QUOTAS = {
    "PutLogEvents": 800,
    "DescribeLogStreams": 25,
    "CreateLogStream": 50,
    "GetLogEvents": 10,
    "FilterLogEvents": 5,
}


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one PutLogEvents as columns; ``sizes`` are bytes with the overhead."""

    timestamps: list[int]
    messages: list[str]
    sizes: list[int]


def check_batch(events: Sequence[Json], *, max_event_bytes: int = MAX_EVENT_BYTES) -> Batch:
    """Checks each event and the size of all; their number is checked with the request's shape.

    Raises:
        Refused: for the whole request.
    """
    timestamps, messages, sizes = [], [], []
    previous = 0
    at = 0
    try:
        for at, event in enumerate(events, 1):
            timestamp, message = event["timestamp"], event["message"]
            if type(timestamp) is not int or type(message) is not str or len(event) != 2:
                raise TypeError
            size = len(message) if message.isascii() else len(message.encode())
            size += EVENT_OVERHEAD_BYTES
            if timestamp < previous:
                if timestamp < 0:
                    raise _event_constraint(at, "timestamp", "value of at least 0")
                raise invalid("Log events in a single PutLogEvents request must be chronological.")
            if not message:
                raise _event_constraint(at, "message", "length of at least 1")
            if size > max_event_bytes:
                raise invalid(f"Log event too large: {size} bytes exceed {max_event_bytes}")
            previous = timestamp
            timestamps.append(timestamp)
            messages.append(message)
            sizes.append(size)
    except KeyError as error:
        raise _event_constraint(at, error.args[0], "a value; it must not be null") from None
    except (TypeError, UnicodeEncodeError):
        raise Refused(
            "SerializationException",
            f"logEvents.{at} is not {{timestamp: integer, message: text without surrogates}}",
        ) from None
    total = sum(sizes)
    if total > MAX_BATCH_BYTES:
        raise invalid(f"Upload too large: {total} bytes exceed limit of {MAX_BATCH_BYTES}")
    return Batch(timestamps, messages, sizes)


def _event_constraint(at: int, member: str, rule: str) -> Refused:
    return constraint(f"logEvents.{at}.member.{member}", f"Member must have {rule}")


@dataclass(frozen=True, slots=True)
class Ages:
    """Where the parts of a batch begin and end, as indices into it.

    The events from ``start`` up to (not including) ``end`` are accepted.
    """

    too_old_end: int
    expired_end: int
    too_new_start: int
    count: int

    @property
    def start(self) -> int:
        """The end of the longer of the two prefixes, which overlap."""
        return max(self.too_old_end, self.expired_end)

    @property
    def end(self) -> int:
        """Where the events too far ahead begin."""
        return max(self.start, self.too_new_start)

    def rejected(self) -> dict[str, int]:
        """``rejectedLogEventsInfo``: two exclusive ends, one inclusive start; only what applies."""
        info = {}
        if self.too_old_end:
            info["tooOldLogEventEndIndex"] = self.too_old_end
        if self.expired_end:
            info["expiredLogEventEndIndex"] = self.expired_end
        if self.too_new_start < self.count:
            info["tooNewLogEventStartIndex"] = self.too_new_start
        return info


def check_ages(timestamps: list[int], *, now: int, retention_days: int | None) -> Ages:
    """Finds the events to reject, and checks the span of the valid ones.

    Valid for the span is, by the API reference, what lies between 14 days ago and 2 hours ahead.

    Raises:
        Refused: if the valid events span more than 24 hours.
    """
    too_old_end = bisect_left(timestamps, now - MAX_AGE_MS)
    too_new_start = bisect_left(timestamps, now + MAX_AHEAD_MS + 1)
    expired_end = 0
    if retention_days is not None:
        expired_end = bisect_left(timestamps, now - retention_days * DAY_MS)
    valid = timestamps[too_old_end:too_new_start]
    if valid and valid[-1] - valid[0] > MAX_SPAN_MS:
        raise invalid("The batch of log events in a single request cannot span more than 24 hours.")
    return Ages(too_old_end, expired_end, too_new_start, len(timestamps))


@dataclass(slots=True)
class UploadTokens:
    """The upload tokens of one stream: the one expected next, and what was accepted with which.

    ``expected`` is None on a new stream. The key None in ``accepted`` is a put without a token.
    """

    expected: str | None = None
    accepted: dict[str | None, int] = field(default_factory=dict)

    def check(self, sent: str | None, batch: Batch) -> None:
        """Compares the token that was sent.

        Raises:
            Refused: DataAlreadyAcceptedException for the same batch with the token that it was
                accepted with, InvalidSequenceTokenException for any other token but the expected.
        """
        if sent in self.accepted and self.accepted[sent] == _fingerprint(batch):
            raise Refused(
                "DataAlreadyAcceptedException",
                "The given batch of log events has already been accepted. The next batch can be "
                f"sent with sequenceToken: {self.expected}",
                violation=False,
                expectedSequenceToken=self.expected,
            )
        if sent != self.expected:
            raise Refused(
                "InvalidSequenceTokenException",
                f"The given sequenceToken is invalid. The next expected sequenceToken is: {self.expected or 'null'}",
                violation=False,
                expectedSequenceToken=self.expected,
            )

    def advance(self, sent: str | None, batch: Batch, upcoming: str) -> None:
        """Notes that a batch was accepted; ``upcoming`` is the next token."""
        self.accepted[sent] = _fingerprint(batch)
        self.expected = upcoming


def _fingerprint(batch: Batch) -> int:
    return hash((tuple(batch.timestamps), tuple(batch.messages)))


def check_retention(days: int) -> None:
    """Raises ``Refused`` for a number of days that the service does not offer."""
    if days not in RETENTION_DAYS:
        raise constraint("retentionInDays", f"Member must be one of {sorted(RETENTION_DAYS)}")


def check_new_group_name(name: str) -> None:
    """Raises ``Refused`` for a name that is kept for the service itself."""
    if name.startswith(RESERVED_PREFIX):
        raise invalid(f"Log groups starting with {RESERVED_PREFIX} are reserved for AWS.")


class Quotas:
    """Requests per second by operation, over the last second; an operation not named has none."""

    def __init__(self, per_second: dict[str, int] | None) -> None:
        self._per_second = per_second or {}
        self._recent: dict[str, deque[int]] = {name: deque() for name in self._per_second}

    def check(self, operation: str, *, now: int) -> None:
        """Counts one request, or raises ``Refused`` (ThrottlingException) where it is too many."""
        if operation not in self._per_second:
            return
        recent = self._recent[operation]
        while recent and recent[0] <= now - SECOND_MS:
            recent.popleft()
        if len(recent) >= self._per_second[operation]:
            raise Refused("ThrottlingException", "Rate exceeded", violation=False)
        recent.append(now)


class TokenSource:
    """Upload tokens that never come twice, in the 56 digits that the service used."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def next(self) -> str:
        """A token that was not issued before, for any stream."""
        return f"{next(self._numbers):056d}"
