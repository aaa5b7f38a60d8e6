"""One attempt to deliver one batch, and what its outcome means.

``Delivery.attempt`` sends at most one PutLogEvents. It never waits and never raises for what the service does: the
report says what is settled, what remains, and how long the lane must rest. What has to be remembered between attempts
is in :class:`Stream`, one for each destination, and in the batch.

The constraint behind most of this: until January 2023 a put needed the stream's current *upload token*. Today's service
ignores it, older and compatible ones still enforce it. So the protocol is spoken in full, and must cost nothing where
nobody listens.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from . import errors
from .event import MAX_EVENT_AGE_MS, MAX_EVENT_LEAD_MS, Batch, Destination, Event, by_timestamp, encode
from .ledger import DeliveryReport, Loss
from .provision import Provisioner
from .retry import RetryPolicy

SequenceToken = Literal["auto", "describe", "cached", "none"]

#: Seconds between a race for the upload token and the next attempt, and how many such attempts make a round.
RACE_DELAY = 0.1
RACE_RETRIES = 5
#: A contested stream counts as calm again after so many puts before which nobody else had written.
CALM_PUTS = 5
#: Streams whose state is remembered; beyond that the one that rested longest is forgotten.
MAX_STREAMS = 10_000


@dataclass(frozen=True, slots=True)
class PutResult:
    """A successful answer to PutLogEvents.

    Attributes:
        next_token: the upload token for the next batch, or None.
        too_old_end, expired_end: exclusive ends of the prefixes that were rejected; 0 for none.
        too_new_start: start of the suffix that was rejected, or None.
        bytes_raw, bytes_sent: size of the body before compression and as sent.
    """

    next_token: str | None = None
    too_old_end: int = 0
    expired_end: int = 0
    too_new_start: int | None = None
    bytes_raw: int = 0
    bytes_sent: int = 0


class Service(Protocol):
    """What delivery needs of CloudWatch Logs. Every method raises :class:`~cloudwatch_handler.errors.ServiceError`."""

    def put_log_events(self, destination: Destination, events: Sequence[Event], token: str | None) -> PutResult:
        """Send events that are legal as one batch."""

    def upload_token(self, destination: Destination) -> tuple[str | None, int]:
        """The stream's current upload token, None for a new or missing stream, and how many requests that took."""

    def create_log_group(self, name: str) -> None:
        """Create the group as configured."""

    def put_retention_policy(self, name: str, days: int) -> None:
        """Set how long the group keeps its events."""

    def create_log_stream(self, destination: Destination) -> None:
        """Create the stream in its group."""


@dataclass(slots=True)
class Stream:
    """What is known of one stream.

    Attributes:
        token: the upload token that the next put carries.
        described: whether ``token`` is known to be the stream's, as far as anything can be.
        contested: True while other processes write to it too.
        calm: consecutive puts without anybody else's in between.
        unanswered: the events of the last put, if it may have been carried out; they are sent again, as they were and
            with the same token, before that is described anew. None: it was answered.
        failures: attempts since the service last answered to the point. The back-off grows with them, not with those of
            the batch: another batch at the head of the line is no reason to knock sooner.
        created: it was created after the last put found it missing; if it is missing again, that has to wait.
        telling: the loss that the next batch tells of, until it is delivered.
        tells_apart: whether it is told in a request of its own, since one with a batch was refused.
        loss: what was lost since that was put in words.
    """

    token: str | None = None
    described: bool = False
    contested: bool = False
    calm: int = 0
    unanswered: Sequence[Event] | None = None
    failures: int = 0
    created: bool = False
    loss: Loss | None = None
    telling: Loss | None = None
    tells_apart: bool = False

    def answered(self) -> None:
        """The service has said what became of the last put."""
        self.unanswered, self.failures, self.created = None, 0, False

    def told(self) -> None:
        """The notice of a loss is in the stream, or never will be."""
        self.telling, self.tells_apart = None, False


class Delivery:
    """The policy of sending.

    Args:
        service: CloudWatch Logs.
        sequence_token: how upload tokens are handled, see the handler.
        retry: how long to wait after a failure.
        provisioner: creates what is missing.
        jitter: returns a random number in [0, 1).
        loss_notice: whether a loss is told in the stream. The notice is no event of the ledger.
    """

    def __init__(
        self,
        service: Service,
        *,
        sequence_token: SequenceToken,
        retry: RetryPolicy,
        provisioner: Provisioner,
        jitter: Callable[[], float],
        loss_notice: bool = True,
    ) -> None:
        self._service = service
        self._mode = sequence_token
        self._retry = retry
        self._provisioner = provisioner
        self._jitter = jitter
        self._loss_notice = loss_notice
        self._streams: OrderedDict[Destination, Stream] = OrderedDict()

    def attempt(self, batch: Batch, *, now: float, wall: float) -> DeliveryReport:
        """Try once to deliver a batch that was taken from the buffer.

        Args:
            batch: the batch; it is sealed.
            now: monotonic time in seconds.
            wall: time in seconds since the epoch, for the age of events.
        """
        counts: Counter[str] = Counter()
        events = batch.seal()
        good, rejected = self._within_window(batch.destination, events, int(wall * 1000))
        if not good:
            return DeliveryReport(rejected=rejected, counts=counts)
        if len(good) < len(events):
            batch = batch.part(good)
        if batch.first_attempt is None:
            batch.first_attempt = now
        elif batch.attempts:
            counts["retries"] += 1
        stream = self._stream(batch.destination)
        notice = self._notice(stream, batch.destination, good[0].timestamp)
        # The notice goes with the batch if there is room for it, and ahead of it otherwise.
        apart = notice is not None and (stream.tells_apart or not batch.admits(notice))
        sent = good if notice is None else [notice] if apart else [notice, *good]
        if stream.unanswered is not None and stream.unanswered != sent:
            # What came in between (it was given up, or part of it) leaves no way to find out; the token may be spent.
            stream.unanswered, stream.described = None, False
        try:
            token = self._token(batch.destination, stream, counts)
            counts["put_requests"] += 1
            result = self._service.put_log_events(batch.destination, sent, token)
        except errors.ServiceError as error:
            if error.may_be_stored and error.operation == "PutLogEvents":
                stream.unanswered = sent
            return self._failed(batch, [] if apart else good, stream, error, rejected, counts, now)
        stream.answered()
        stream.token = result.next_token
        counts.update(batches=1, bytes_raw=result.bytes_raw, bytes_sent=result.bytes_sent)
        unfinished = self._provisioner.finish(batch.destination.log_group_name)
        refused = _split_rejected(sent, result)
        if notice is not None:
            if apart or not any(notice in part for part in refused.values()):
                stream.told()
            if apart:
                return DeliveryReport(rejected=rejected, remaining=(batch,), counts=counts, error=unfinished)
            refused = {reason: kept for reason, part in refused.items() if (kept := [*filter(notice.__ne__, part)])}
        accepted = len(good) - sum(map(len, refused.values()))
        return DeliveryReport(accepted, _merge(rejected, refused), counts=counts, error=unfinished)

    def lose(self, destination: Destination, loss: Loss) -> None:
        """Events of this destination were dropped: the next batch that is delivered there begins by saying so."""
        if self._loss_notice:
            stream = self._stream(destination)
            stream.loss = loss if stream.loss is None else stream.loss + loss

    def _notice(self, stream: Stream, destination: Destination, timestamp: int) -> Event | None:
        """The event that tells of all losses; as long as an answer is lost, the same again, whatever else gets lost."""
        if stream.loss is not None and (stream.telling is None or stream.unanswered is None):
            stream.telling = stream.loss if stream.telling is None else stream.telling + stream.loss
            stream.loss = None
        return None if stream.telling is None else encode(destination, timestamp, str(stream.telling))

    def _within_window(
        self, destination: Destination, events: Sequence[Event], now_ms: int
    ) -> tuple[Sequence[Event], dict[str, Sequence[Event]]]:
        """The events that the service takes at this time, and those that it would reject, by reason."""
        days = self._provisioner.retention_days(destination.log_group_name)
        oldest = now_ms - MAX_EVENT_AGE_MS
        expiry = now_ms - days * 86_400_000 if days else oldest
        too_old = bisect_left(events, oldest, key=by_timestamp)
        expired = max(too_old, bisect_left(events, expiry, key=by_timestamp))
        too_new = bisect_right(events, now_ms + MAX_EVENT_LEAD_MS, key=by_timestamp)
        if not expired and too_new == len(events):
            return events, {}
        rejected = {"too_old": events[:too_old], "expired": events[too_old:expired], "too_new": events[too_new:]}
        return events[expired:too_new], {reason: part for reason, part in rejected.items() if part}

    # -- the upload token ---------------------------------------------------------------------------------------------

    def _stream(self, destination: Destination) -> Stream:
        stream = self._streams.get(destination)
        if stream is None:
            stream = self._streams[destination] = Stream()
            if len(self._streams) > MAX_STREAMS:
                self._streams.popitem(last=False)
        self._streams.move_to_end(destination)
        return stream

    def _token(self, destination: Destination, stream: Stream, counts: Counter[str]) -> str | None:
        if self._mode == "none":
            return None
        if self._mode != "describe" and stream.described and (not stream.contested or stream.unanswered is not None):
            return stream.token
        try:
            token, requests = self._service.upload_token(destination)
        except errors.NotFound as error:
            counts["describe_requests"] += error.requests
            token = None  # the put will say so too, and then it is created
        except errors.ServiceError as error:
            counts["describe_requests"] += error.requests
            if self._mode != "auto":
                raise
            # Not permitted, throttled, unknown to this endpoint: the next attempt goes on without asking again.
            stream.described, stream.contested = True, False
            if isinstance(error, errors.Unavailable):
                raise
            counts["throttled_requests"] += isinstance(error, errors.Throttled)
            return stream.token
        else:
            counts["describe_requests"] += requests
        if stream.contested:
            stream.calm = stream.calm + 1 if stream.described and token == stream.token else 0
            stream.contested = stream.calm < CALM_PUTS
        stream.token, stream.described = token, True
        return token

    # -- failures -----------------------------------------------------------------------------------------------------

    def _failed(
        self,
        batch: Batch,
        events: Sequence[Event],
        stream: Stream,
        error: errors.ServiceError,
        rejected: dict[str, Sequence[Event]],
        counts: Counter[str],
        now: float,
    ) -> DeliveryReport:
        """What an error means for the batch, of which these events were sent: all that are good, or none yet."""
        again = DeliveryReport(rejected=rejected, remaining=(batch,), counts=counts)
        if isinstance(error, errors.AlreadyAccepted):
            stream.answered()
            stream.told()
            stream.token, stream.described = error.expected_token, error.expected_token is not None
            counts.update(already_accepted=len(events), batches=1)
            return DeliveryReport(len(events), rejected, counts=counts) if events else again
        if isinstance(error, errors.CompressionRefused):
            return again
        if isinstance(error, errors.InvalidRequest) and error.operation == "PutLogEvents":
            stream.answered()
            if stream.telling is not None:  # which of both is at fault will show
                if stream.tells_apart or not events:
                    stream.told()
                else:
                    stream.tells_apart = True
                return again
            if len(events) == 1:
                return DeliveryReport(0, _merge(rejected, {"invalid": events}), counts=counts, error=error)
            middle = len(events) // 2
            return replace(again, remaining=(batch.part(events[:middle]), batch.part(events[middle:])))
        if isinstance(error, errors.WriterRace):
            if batch.races < RACE_RETRIES and self._mode != "none":
                self._lost_race(batch, stream, error, counts)
                return replace(again, delay=RACE_DELAY)
            counts["unrecovered_writer_race_retries"] += 1
            batch.races, stream.described = 0, False
        batch.attempts += 1
        if isinstance(error, errors.NotFound):
            problem = self._provisioner.create(batch.destination)
            stream.token = None
            if problem is None and not stream.created:
                stream.created = True
                return again
            error = problem or error
        if isinstance(error, errors.Throttled):
            counts["throttled_requests"] += 1
        stream.failures += 1
        return self._rest(again, batch, error, self._retry.delay(stream.failures) * self._jitter(), now)

    def _rest(
        self, again: DeliveryReport, batch: Batch, error: errors.ServiceError, delay: float, now: float
    ) -> DeliveryReport:
        """The report on a batch that waits for its next attempt, or is given up, having had its time."""
        if self._retry.give_up_after is not None and batch.first_attempt is not None:
            left = self._retry.give_up_after - (now - batch.first_attempt)
            if left <= 0:
                dropped = {"retries_exhausted": tuple(batch.events)}
                return replace(again, dropped=dropped, remaining=(), delay=delay, error=error)
            delay = min(delay, left)
        return replace(again, delay=delay, error=error)

    def _lost_race(self, batch: Batch, stream: Stream, error: errors.WriterRace, counts: Counter[str]) -> None:
        batch.races += 1
        counts["writer_race_retries"] += 1
        # In "cached" and "auto" the next attempt describes, because nothing is known now; if that is not permitted,
        # the token that the error names is the best there is.
        stream.token, stream.described = error.expected_token, False
        stream.contested, stream.unanswered = self._mode == "auto", None


def _split_rejected(events: Sequence[Event], result: PutResult) -> dict[str, Sequence[Event]]:
    """The events that were not stored, by reason, each in one: an event can be too old and expired."""
    start = 0
    rejected: dict[str, Sequence[Event]] = {}
    for reason, end in (("too_old", result.too_old_end), ("expired", result.expired_end)):
        if part := events[start:end]:
            rejected[reason] = part
            start += len(part)
    end = len(events) if result.too_new_start is None else max(start, result.too_new_start)
    if end < len(events):
        rejected["too_new"] = events[end:]
    return rejected


def _merge(ours: dict[str, Sequence[Event]], theirs: dict[str, Sequence[Event]]) -> dict[str, Sequence[Event]]:
    return ours | {reason: [*ours.get(reason, ()), *events] for reason, events in theirs.items()}
