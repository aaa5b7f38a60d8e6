"""One attempt to deliver one batch: what is asked of the service, call for call, and what each answer means."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudwatch_handler import delivery as delivery_module
from cloudwatch_handler.buffer import Buffer
from cloudwatch_handler.client import CloudWatchLogs
from cloudwatch_handler.delivery import Delivery, PutResult, Service
from cloudwatch_handler.errors import (
    AlreadyAccepted,
    AlreadyExists,
    CompressionRefused,
    Denied,
    InvalidRequest,
    NotFound,
    NotTheService,
    ServiceError,
    Throttled,
    Unavailable,
    WriterRace,
)
from cloudwatch_handler.event import (
    MAX_BATCH_SPAN_MS,
    MAX_EVENT_AGE_MS,
    MAX_EVENT_LEAD_MS,
    Batch,
    Destination,
    Event,
    encode,
)
from cloudwatch_handler.ledger import DeliveryReport, Statistics
from cloudwatch_handler.provision import FINISH_ATTEMPTS, Provisioner
from cloudwatch_handler.retry import RetryPolicy
from cloudwatch_handler.source import ClientSource
from tests.strict_service import StrictService

STREAM = Destination("group", "stream")
OTHER = Destination("group", "other")
WALL = 1_800_000_000.0
WALL_MS = int(WALL * 1000)
DAY_MS = 86_400_000
POLICY = RetryPolicy(base=1.0, factor=2.0, max_delay=30.0)
MODES = ("auto", "cached", "describe", "none")
PUT, DESCRIBE = "PutLogEvents", "DescribeLogStreams"
CREATE_GROUP, CREATE_STREAM, RETENTION = "CreateLogGroup", "CreateLogStream", "PutRetentionPolicy"
THROTTLED = Throttled(PUT, "ThrottlingException")
DOWN = Unavailable(PUT, "EndpointConnectionError")
LOST = Unavailable(PUT, "ReadTimeoutError", may_be_stored=True)
MISSING = NotFound(PUT, "ResourceNotFoundException")


class FakeService:
    """CloudWatch Logs in memory, as the protocol has it; ``test_the_fake_is_the_service`` holds it to the strict one.

    ``calls`` are the operations in order, with the token where it matters. ``faults`` are errors to raise, for each
    operation, in place of carrying it out; those in ``after`` are raised when it was carried out.
    """

    def __init__(self, *, enforces: bool = False, issues: bool = True, exists: bool = True) -> None:
        self.enforces, self.issues = enforces, issues
        self.groups = {STREAM.log_group_name} if exists else set()
        self.streams = {STREAM, OTHER} if exists else set()
        self.stored: dict[Destination, list[str]] = defaultdict(list)
        self.tokens: dict[Destination, str] = {}
        self.accepted: dict[tuple[Destination, str | None], list[bytes]] = {}
        self.calls: list[tuple[object, ...]] = []
        self.faults: dict[str, deque[ServiceError | None]] = defaultdict(deque)
        self.after: dict[str, deque[ServiceError]] = defaultdict(deque)
        self.always: dict[str, ServiceError] = {}
        self.poison: Callable[[str], bool] = lambda message: False
        self.result: dict[str, Any] = {}
        self.lost = 0
        self._names = (f"t{number}" for number in count(1))

    def put_log_events(self, destination: Destination, events: Sequence[Event], token: str | None) -> PutResult:
        self._call(PUT, token)
        self._find(PUT, destination)
        fragments = [event.fragment for event in events]
        expected = self.tokens.get(destination)
        if self.enforces:
            if self.accepted.get((destination, token)) == fragments:
                raise AlreadyAccepted(PUT, "DataAlreadyAcceptedException", expected_token=expected)
            if token != expected:
                raise WriterRace(PUT, "InvalidSequenceTokenException", expected_token=expected)
        if any(self.poison(event.message) for event in events):
            raise InvalidRequest(PUT, "InvalidParameterException")
        self.accepted[destination, token] = fragments
        self.write(destination, *(event.message for event in events))
        if self.after[PUT]:
            self.lost += 1
            raise self.after[PUT].popleft()
        return PutResult(self.tokens.get(destination), **self.result)

    def upload_token(self, destination: Destination) -> tuple[str | None, int]:
        self._call(DESCRIBE)
        if destination.log_group_name not in self.groups:
            raise NotFound(DESCRIBE, "ResourceNotFoundException")
        return self.tokens.get(destination), 1

    def create_log_group(self, name: str) -> None:
        self._call(CREATE_GROUP)
        if name in self.groups:
            raise AlreadyExists(CREATE_GROUP, "ResourceAlreadyExistsException")
        self.groups.add(name)

    def put_retention_policy(self, name: str, days: int) -> None:
        self._call(RETENTION, days)

    def create_log_stream(self, destination: Destination) -> None:
        self._call(CREATE_STREAM)
        if destination.log_group_name not in self.groups:
            raise NotFound(CREATE_STREAM, "ResourceNotFoundException")
        if destination in self.streams:
            raise AlreadyExists(CREATE_STREAM, "ResourceAlreadyExistsException")
        self.streams.add(destination)

    def write(self, destination: Destination, *messages: str) -> None:
        """Stores messages, as another writer would."""
        self.stored[destination] += messages
        if self.enforces or self.issues:
            self.tokens[destination] = next(self._names)

    def _find(self, operation: str, destination: Destination) -> None:
        if destination not in self.streams:
            raise NotFound(operation, "ResourceNotFoundException")

    def _call(self, *call: object) -> None:
        self.calls.append(call)
        operation = str(call[0])
        fault = self.faults[operation].popleft() if self.faults[operation] else self.always.get(operation)
        if fault is not None:
            raise fault

    def count(self, operation: str) -> int:
        """How many calls of an operation there were."""
        return sum(call[0] == operation for call in self.calls)


class Sender:
    """A buffer and a delivery with time of their own: what the worker is, without its thread."""

    def __init__(
        self,
        service: Service,
        mode: Any = "auto",
        *,
        retry: RetryPolicy = POLICY,
        jitter: float = 0.5,
        creates_group: bool = True,
        creates_stream: bool = True,
        retention_days: int | None = None,
        max_batch_count: int = 1,
    ) -> None:
        provisioner = Provisioner(
            service,
            create_log_group=creates_group,
            create_log_stream=creates_stream,
            retention_days=retention_days,
        )
        self.delivery = Delivery(
            service, sequence_token=mode, retry=retry, provisioner=provisioner, jitter=lambda: jitter
        )
        self.buffer = Buffer(
            send_interval=0.0,
            max_batch_count=max_batch_count,
            max_batch_size=1_000_000,
            max_queue_size=10_000_000,
            overflow="drop_oldest",
        )
        self.now = 0.0
        self.reports: list[DeliveryReport] = []

    def put(self, *messages: object, to: Destination = STREAM, at: int | None = None) -> None:
        """Accepts messages."""
        timestamp = self.wall_ms if at is None else at
        self.buffer.intake_since = self.now
        self.buffer.intake.extend(encode(to, timestamp, str(message)) for message in messages)

    @property
    def wall_ms(self) -> int:
        """The wall clock in milliseconds; it runs with the monotonic one."""
        return WALL_MS + round(self.now * 1000)

    def attempt(self) -> DeliveryReport:
        """Waits until a batch is due, and tries it once."""
        self.buffer.drain()
        due = self.buffer.due()
        assert due is not None
        self.now = max(self.now, due)
        batch = self.buffer.take(now=self.now)
        assert batch is not None
        report = self.delivery.attempt(batch, now=self.now, wall=WALL + self.now)
        self.buffer.settle(batch, report, now=self.now)
        self.reports.append(report)
        return report

    def run(self, limit: int = 1000) -> None:
        """Tries until nothing is left."""
        while self.buffer.pending():
            self.attempt()
            limit -= 1
            assert limit, "it goes on for ever"

    def send(self, *messages: object, to: Destination = STREAM) -> None:
        """Accepts messages, and tries until they are settled."""
        self.put(*messages, to=to)
        self.run()

    @property
    def statistics(self) -> Statistics:
        """The ledger."""
        return self.buffer.statistics()

    @property
    def delays(self) -> list[float]:
        """How long each report let the lane rest."""
        return [report.delay for report in self.reports]


def batch_of(*messages: object, at: Sequence[int] | None = None) -> Batch:
    """A batch that was taken from a buffer."""
    batch = Batch(STREAM, arrival=0.0)
    times = [WALL_MS] * len(messages) if at is None else at
    events = [encode(STREAM, at_ms, str(message)) for at_ms, message in zip(times, messages, strict=True)]
    assert batch.extend(events) == len(events)
    batch.sealed = True
    return batch


# -- the fake


@pytest.fixture(params=["fake", "strict"])
def enforcing(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A service that enforces upload tokens, with a group: the fake, and the strict one through boto3."""
    if request.param == "fake":
        fake = FakeService(enforces=True)
        fake.streams.clear()
        yield fake
        return
    with StrictService(enforce_tokens=True) as strict:
        strict.create_log_group("group")
        strict.poison = lambda message: message == "poison"
        yield CloudWatchLogs(ClientSource(strict.client()))


def events_of(*messages: str) -> list[Event]:
    """Events of this moment, by the real clock: the strict service has one."""
    return [encode(STREAM, int(time.time() * 1000), message) for message in messages]


def test_the_fake_is_the_service(enforcing: Any) -> None:
    """What the tests below rely on, held against the strict service: tokens, duplicates, what is missing or exists."""
    service: Service = enforcing
    first, second = events_of("1"), events_of("2", "3")
    with pytest.raises(NotFound):
        service.put_log_events(STREAM, first, None)
    assert service.upload_token(STREAM) == (None, 1)
    service.create_log_stream(STREAM)
    with pytest.raises(AlreadyExists):
        service.create_log_stream(STREAM)
    with pytest.raises(AlreadyExists):
        service.create_log_group("group")
    assert service.upload_token(STREAM) == (None, 1)
    token = service.put_log_events(STREAM, first, None).next_token
    assert token is not None
    assert service.upload_token(STREAM) == (token, 1)
    with pytest.raises(AlreadyAccepted) as accepted:
        service.put_log_events(STREAM, first, None)
    assert accepted.value.expected_token == token
    for stale in (None, "made-up"):
        with pytest.raises(WriterRace) as race:
            service.put_log_events(STREAM, second, stale)
        assert race.value.expected_token == token
    again = service.put_log_events(STREAM, second, token).next_token
    assert service.upload_token(STREAM) == (again, 1)
    assert again not in (None, token)


def test_the_fake_refuses_like_the_service(enforcing: Any) -> None:
    """A poisoned batch, and a group that is missing."""
    service: Service = enforcing
    if isinstance(enforcing, FakeService):
        enforcing.poison = lambda message: message == "poison"
    service.create_log_stream(STREAM)
    with pytest.raises(InvalidRequest):
        service.put_log_events(STREAM, events_of("1", "poison"), None)
    assert service.put_log_events(STREAM, events_of("1"), None).next_token
    nowhere = Destination("nowhere", "stream")
    for call in (service.create_log_stream, service.upload_token):
        with pytest.raises(NotFound):
            call(nowhere)
    service.create_log_group("nowhere")
    service.create_log_stream(nowhere)


# -- upload tokens


@pytest.mark.parametrize("enforces", [True, False])
@pytest.mark.parametrize(
    ("mode", "calls"),
    [
        ("auto", [(DESCRIBE,), (PUT, None), (PUT, "t1"), (PUT, "t2")]),
        ("cached", [(DESCRIBE,), (PUT, None), (PUT, "t1"), (PUT, "t2")]),
        ("describe", [(DESCRIBE,), (PUT, None), (DESCRIBE,), (PUT, "t1"), (DESCRIBE,), (PUT, "t2")]),
        ("none", [(PUT, None), (PUT, None), (PUT, None)]),
    ],
)
def test_each_mode_call_for_call(mode: str, calls: list[object], enforces: bool) -> None:
    """Which token is sent, and when it is asked for, on a new stream."""
    service = FakeService(enforces=enforces and mode != "none")
    sender = Sender(service, mode)
    sender.send(1, 2, 3)
    assert service.calls == calls
    assert service.stored[STREAM] == ["1", "2", "3"]
    statistics = sender.statistics
    assert statistics.put_requests == service.count(PUT) == 3
    assert statistics.describe_requests == service.count(DESCRIBE)
    assert (statistics.batches, statistics.retries, statistics.writer_race_retries) == (3, 0, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_with_a_history_is_continued(mode: str) -> None:
    """The first put carries the token that somebody else's last put left, unless tokens are off."""
    service = FakeService(enforces=mode != "none")
    service.write(STREAM, "before")
    sender = Sender(service, mode)
    sender.send(1)
    assert service.calls[-1] == (PUT, None if mode == "none" else "t1")
    assert sender.statistics.writer_race_retries == 0


@pytest.mark.parametrize("issues", [True, False])
def test_auto_costs_nothing_where_tokens_are_ignored(issues: bool) -> None:
    """One DescribeLogStreams for a stream in the life of a process, and none in the steady state."""
    service = FakeService(issues=issues)
    sender = Sender(service)
    for number in range(100):
        sender.send(number)
        service.write(STREAM, "somebody else")
    assert service.count(DESCRIBE) == 1
    assert service.count(PUT) == 100


def test_each_stream_has_its_token() -> None:
    """Two streams of one process do not get into each other's way."""
    service = FakeService(enforces=True)
    sender = Sender(service)
    for number in range(3):
        sender.send(number)
        sender.send(number, to=OTHER)
    assert service.stored == {STREAM: ["0", "1", "2"], OTHER: ["0", "1", "2"]}
    assert service.count(DESCRIBE) == 2
    assert sender.statistics.writer_race_retries == 0


def test_streams_that_rest_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound on memory; a stream that comes back is described again, no more."""
    monkeypatch.setattr(delivery_module, "MAX_STREAMS", 2)
    service = FakeService(enforces=True)
    streams = [Destination("group", name) for name in "abc"]
    service.streams.update(streams)
    sender = Sender(service)
    for stream in (streams[0], streams[1], streams[0], streams[2]):
        sender.send(1, to=stream)
    assert service.count(DESCRIBE) == 3
    sender.send(2, to=streams[0])
    assert service.count(DESCRIBE) == 3
    sender.send(2, to=streams[1])
    assert service.count(DESCRIBE) == 4


# -- races


def test_after_a_race_auto_describes_while_the_stream_is_contested() -> None:
    """0.1 s, describe, again; then describe before every put; and after five calm puts no more."""
    service = FakeService(enforces=True)
    sender = Sender(service)
    sender.send("mine")
    service.write(STREAM, "theirs")
    service.calls.clear()
    sender.send("again")
    assert service.calls == [(PUT, "t1"), (DESCRIBE,), (PUT, "t2")]
    assert sender.delays[-2:] == [delivery_module.RACE_DELAY, 0.0]
    assert service.stored[STREAM] == ["mine", "theirs", "again"]
    service.calls.clear()
    sender.send(*range(8))
    contested = [(DESCRIBE,), (PUT, "t3"), (DESCRIBE,), (PUT, "t4"), (DESCRIBE,), (PUT, "t5"), (DESCRIBE,), (PUT, "t6")]
    assert service.calls == [*contested, (DESCRIBE,), (PUT, "t7"), (PUT, "t8"), (PUT, "t9"), (PUT, "t10")]
    statistics = sender.statistics
    assert (statistics.writer_race_retries, statistics.unrecovered_writer_race_retries) == (1, 0)
    assert statistics.retries == 0


def test_a_stream_is_not_calm_while_others_write() -> None:
    """Calm puts count only in a row: each foreign write begins the count anew."""
    service = FakeService(enforces=True)
    sender = Sender(service)
    sender.send(0)
    service.write(STREAM, "theirs")
    sender.send(1)
    for round_of_four in range(4):
        sender.send(*range(4))
        service.write(STREAM, f"theirs {round_of_four}")
    sender.send(2)
    assert sender.statistics.writer_race_retries == 1
    service.calls.clear()
    sender.send(*range(6))
    assert service.count(DESCRIBE) == 5


@pytest.mark.parametrize("mode", ["cached", "describe"])
def test_after_a_race_the_other_modes_go_on_as_before(mode: str) -> None:
    """Cached carries the token again; describe describes, which it would have done anyway."""
    service = FakeService(enforces=True)
    sender = Sender(service, mode)
    sender.send(1)
    service.write(STREAM, "theirs")
    service.faults[DESCRIBE].extend([None])
    service.calls.clear()
    if mode == "describe":  # the other writer is faster, between describing and putting
        service.faults[PUT].append(WriterRace(PUT, "InvalidSequenceTokenException", expected_token="t2"))
    sender.send(2, 3)
    race = [(PUT, "t1")] if mode == "cached" else [(DESCRIBE,), (PUT, "t2")]
    after = [(PUT, "t3")] if mode == "cached" else [(DESCRIBE,), (PUT, "t3")]
    assert service.calls == [*race, (DESCRIBE,), (PUT, "t2"), *after]
    assert sender.statistics.writer_race_retries == 1


@pytest.mark.parametrize("mode", ["auto", "cached", "describe"])
@pytest.mark.parametrize("rounds", [1, 2])
def test_five_races_make_a_round_and_the_batch_stays_at_the_head(mode: str, rounds: int) -> None:
    """Then one is counted as not recovered, the lane rests, and all begins anew; nothing is lost or overtaken."""
    service = FakeService(enforces=True)
    races = rounds * (1 + delivery_module.RACE_RETRIES)
    service.faults[PUT].extend([WriterRace(PUT, "InvalidSequenceTokenException", expected_token=None)] * races)
    sender = Sender(service, mode)
    sender.send("first", "second")
    one_round = [0.1] * 5
    expected = [*one_round, 0.5, *([*one_round, 1.0] if rounds == 2 else []), 0.0, 0.0]
    assert sender.delays == expected
    assert service.stored[STREAM] == ["first", "second"]
    statistics = sender.statistics
    assert statistics.writer_race_retries == 5 * rounds
    assert statistics.unrecovered_writer_race_retries == rounds
    assert statistics.put_requests == races + 2
    contested = int(mode != "cached")  # then the second batch is described, too
    assert statistics.describe_requests == races + 1 + contested
    assert (statistics.delivered, statistics.retries) == (2, 5 * (rounds - 1) + rounds)


def test_an_unrecovered_race_is_an_error_to_report() -> None:
    """A single race is not: it is what happens when two write."""
    service = FakeService(enforces=True)
    service.always[PUT] = WriterRace(PUT, "InvalidSequenceTokenException")
    sender = Sender(service)
    sender.put(1)
    errors = [sender.attempt().error for _ in range(6)]
    assert errors[:5] == [None] * 5
    assert isinstance(errors[5], WriterRace)


def test_none_neither_describes_nor_sends_a_token_after_a_race() -> None:
    """Whoever said so gets it: the batch waits, counted as a race without recovery."""
    service = FakeService(enforces=True)
    service.write(STREAM, "theirs")
    sender = Sender(service, "none")
    sender.put(1)
    for _ in range(3):
        assert isinstance(sender.attempt().error, WriterRace)
    assert service.calls == [(PUT, None)] * 3
    assert sender.delays == [0.5, 1.0, 2.0]
    statistics = sender.statistics
    assert (statistics.writer_race_retries, statistics.unrecovered_writer_race_retries) == (0, 3)
    assert statistics.pending == 1


@pytest.mark.parametrize("mode", ["auto", "cached", "describe"])
@given(busy=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_two_writers_on_one_stream_lose_nothing(mode: str, busy: list[int]) -> None:
    """Whatever the other one does in between, each event is stored once, in order."""
    service = FakeService(enforces=True)
    sender = Sender(service, mode)
    for number, writes in enumerate(busy):
        for _ in range(writes):
            service.write(STREAM, "theirs")
        sender.send(f"mine {number}")
    mine = [message for message in service.stored[STREAM] if message != "theirs"]
    assert mine == [f"mine {number}" for number in range(len(busy))]
    assert sender.statistics.writer_race_retries <= len(busy)


# -- answers that were lost


@pytest.mark.parametrize("mode", ["auto", "cached"])
def test_after_a_lost_answer_the_same_batch_goes_with_the_same_token(mode: str) -> None:
    """So the service can say that it has it: delivered once, counted as already accepted, and no describing."""
    service = FakeService(enforces=True)
    sender = Sender(service, mode, max_batch_count=2)
    sender.send("before")
    service.after[PUT].append(LOST)
    service.calls.clear()
    sender.send("lost", "lost too", "next")
    assert service.calls == [(PUT, "t1"), (PUT, "t1"), (PUT, "t2")]
    assert service.stored[STREAM] == ["before", "lost", "lost too", "next"]
    statistics = sender.statistics
    assert (statistics.delivered, statistics.already_accepted, statistics.batches) == (4, 2, 3)
    assert statistics.retries == 1


def test_after_a_lost_answer_a_contested_stream_is_not_described_first() -> None:
    """A new token would hide from the service that it has the batch; after that it is described again."""
    service = FakeService(enforces=True)
    sender = Sender(service)
    sender.send(1)
    service.write(STREAM, "theirs")
    sender.send(2)
    service.after[PUT].append(LOST)
    service.calls.clear()
    sender.send(3, 4)
    assert service.calls == [(DESCRIBE,), (PUT, "t3"), (PUT, "t3"), (DESCRIBE,), (PUT, "t4")]
    assert service.stored[STREAM] == ["1", "theirs", "2", "3", "4"]


def test_throttling_in_between_does_not_make_forget_that_an_answer_was_lost() -> None:
    """Only an answer to the put itself says what became of it."""
    service = FakeService(enforces=True)
    sender = Sender(service)
    sender.send(1)
    service.write(STREAM, "theirs")
    sender.send(2)
    service.after[PUT].append(LOST)
    service.faults[PUT].extend([None, THROTTLED, DOWN])
    service.calls.clear()
    sender.send(3)
    assert service.calls == [(DESCRIBE,), *[(PUT, "t3")] * 4]
    assert service.stored[STREAM] == ["1", "theirs", "2", "3"]


def test_a_race_says_that_the_batch_was_not_stored() -> None:
    """From then on a contested stream is described before each put again."""
    service = FakeService(enforces=True)
    service.write(STREAM, "theirs")
    sender = Sender(service)
    service.faults[PUT].extend([LOST, None, THROTTLED])
    sender.put(1)
    sender.attempt()
    service.write(STREAM, "theirs")
    service.calls.clear()
    sender.run()
    assert service.calls == [(PUT, "t1"), (DESCRIBE,), (PUT, "t2"), (DESCRIBE,), (PUT, "t2")]


def test_a_token_goes_again_only_with_the_batch_whose_answer_was_lost() -> None:
    """That one was given up; the next, with the spent token, could be taken for it and never be stored."""
    service = FakeService(enforces=True)
    sender = Sender(service, retry=RetryPolicy(give_up_after=0))
    sender.send(1)
    service.after[PUT].append(LOST)
    sender.send(2)
    assert sender.statistics.dropped == 1
    service.calls.clear()
    sender.send(3)
    assert service.calls == [(DESCRIBE,), (PUT, "t2")]
    assert service.stored[STREAM] == ["1", "2", "3"]
    assert (sender.statistics.delivered, sender.statistics.already_accepted) == (2, 0)


def test_every_page_of_describe_that_was_asked_for_counts() -> None:
    """Also those before the one that failed."""
    service = FakeService(enforces=True)
    error = Throttled(DESCRIBE, "ThrottlingException")
    error.requests = 3
    service.faults[DESCRIBE].append(error)
    sender = Sender(service)
    sender.send(1)
    assert sender.statistics.describe_requests == 3


def test_a_batch_that_was_not_stored_is_stored_by_the_repetition() -> None:
    """The answer that was lost may have been a refusal, or none."""
    service = FakeService(enforces=True)
    sender = Sender(service)
    service.faults[PUT].append(LOST)
    sender.send(1, 2)
    assert service.calls == [(DESCRIBE,), (PUT, None), (PUT, None), (PUT, "t1")]
    assert sender.statistics.already_accepted == 0


def test_already_accepted_without_a_token_means_describing() -> None:
    """The next batch needs one, and nothing is known."""
    service = FakeService(enforces=True)
    sender = Sender(service)
    service.write(STREAM, "theirs")
    service.faults[PUT].append(AlreadyAccepted(PUT, "DataAlreadyAcceptedException"))
    sender.send(1, 2)
    assert service.calls == [(DESCRIBE,), (PUT, "t1"), (DESCRIBE,), (PUT, "t1")]
    assert (sender.statistics.delivered, sender.statistics.already_accepted) == (2, 1)


# -- DescribeLogStreams does not work


@pytest.mark.parametrize(
    "error",
    [Denied(DESCRIBE, "AccessDeniedException"), Throttled(DESCRIBE, "Throttling"), InvalidRequest(DESCRIBE, "Unknown")],
)
def test_auto_goes_on_without_describing(error: ServiceError) -> None:
    """With logs:PutLogEvents alone everything works, at once, and it is not asked again."""
    service = FakeService()
    service.always[DESCRIBE] = error
    sender = Sender(service)
    sender.send(1, 2, 3)
    assert service.calls == [(DESCRIBE,), (PUT, None), (PUT, "t1"), (PUT, "t2")]
    assert sender.delays == [0.0] * 3
    assert all(report.error is None for report in sender.reports)
    assert sender.statistics.throttled_requests == isinstance(error, Throttled)


def test_auto_without_describing_takes_the_token_that_a_race_names() -> None:
    """Where tokens are enforced and describing is denied, InvalidSequenceTokenException says the right one."""
    service = FakeService(enforces=True)
    service.write(STREAM, "theirs")
    service.always[DESCRIBE] = Denied(DESCRIBE, "AccessDeniedException")
    sender = Sender(service)
    sender.send(1, 2)
    assert service.calls == [(DESCRIBE,), (PUT, None), (DESCRIBE,), (PUT, "t1"), (PUT, "t2")]
    assert service.stored[STREAM] == ["theirs", "1", "2"]


@pytest.mark.parametrize("mode", ["cached", "describe"])
@pytest.mark.parametrize(
    "error",
    [Denied(DESCRIBE, "AccessDeniedException"), Throttled(DESCRIBE, "Throttling"), InvalidRequest(DESCRIBE, "Unknown")],
)
def test_the_other_modes_need_to_describe(mode: str, error: ServiceError) -> None:
    """They wait, name the reason and put nothing, until they may."""
    service = FakeService(enforces=True)
    service.faults[DESCRIBE].extend([error] * 3)
    sender = Sender(service, mode, max_batch_count=2)
    sender.put(1, 2)
    assert [sender.attempt().error for _ in range(3)] == [error] * 3
    assert service.calls == [(DESCRIBE,)] * 3
    sender.run()
    assert service.calls[3:] == [(DESCRIBE,), (PUT, None)]
    assert sender.delays == [0.5, 1.0, 2.0, 0.0]
    statistics = sender.statistics
    assert (statistics.put_requests, statistics.describe_requests) == (1, 4)
    assert statistics.throttled_requests == (3 if isinstance(error, Throttled) else 0)


@pytest.mark.parametrize("mode", MODES)
def test_an_outage_costs_one_request_for_each_step_of_the_back_off(mode: str) -> None:
    """Ten minutes of refused connections, whatever the mode: all delivered afterwards, in order."""
    service = FakeService(enforces=mode != "none")
    service.always |= dict.fromkeys((PUT, DESCRIBE), Unavailable(PUT, "EndpointConnectionError"))
    sender = Sender(service, mode)
    sender.put(*range(10))
    while sender.now < 600:
        sender.attempt()
        assert len(service.calls) == len(sender.reports)
    # 0.5 + 1 + 2 + 4 + 8 = 15.5 s, and then 15 s each.
    assert len(service.calls) == 5 + math.ceil((600 - 15.5) / 15) + 1
    service.always.clear()
    sender.run()
    assert service.stored[STREAM] == [str(number) for number in range(10)]


# -- what the service would reject is not sent


@pytest.mark.parametrize(
    ("age_ms", "retention_days", "reason"),
    [
        (MAX_EVENT_AGE_MS + 1, None, "too_old"),
        (MAX_EVENT_AGE_MS, None, None),
        (-MAX_EVENT_LEAD_MS - 1, None, "too_new"),
        (-MAX_EVENT_LEAD_MS, None, None),
        (3 * DAY_MS + 1, 3, "expired"),
        (3 * DAY_MS, 3, None),
        (MAX_EVENT_AGE_MS + 1, 3, "too_old"),
        (MAX_EVENT_AGE_MS + 1, 30, "too_old"),
        (MAX_EVENT_AGE_MS, 30, None),
        (0, None, None),
    ],
)
def test_the_windows_are_exact_to_the_millisecond(age_ms: int, retention_days: int | None, reason: str | None) -> None:
    """14 days, the retention, 2 hours: on the line an event is sent, beyond it is rejected without a request."""
    service = FakeService()
    sender = Sender(service, "none", retention_days=retention_days)
    if retention_days is not None:
        service.streams.clear()
        service.groups.clear()
        sender.send("makes the group")
    requests = len(service.calls)
    sender.put("event", at=sender.wall_ms - age_ms)
    report = sender.attempt()
    if reason is None:
        assert report.delivered == 1
        return
    assert {why: [event.message for event in events] for why, events in report.rejected.items()} == {reason: ["event"]}
    assert (report.delivered, report.remaining, report.delay, report.error) == (0, (), 0.0, None)
    assert len(service.calls) == requests


def test_what_the_service_would_reject_is_kept_out_of_the_request() -> None:
    """The rest of the batch goes, in the same attempt."""
    service = FakeService()
    sender = Sender(service, max_batch_count=10)
    first = WALL_MS - MAX_EVENT_AGE_MS
    batch = batch_of("old", "fits", "too", at=[first - 1, first, first + 1])
    report = sender.delivery.attempt(batch, now=0.0, wall=WALL)
    assert service.stored[STREAM] == ["fits", "too"]
    assert report.delivered == 2
    assert [event.message for event in report.rejected["too_old"]] == ["old"]


def test_a_retention_that_others_set_is_the_services_affair() -> None:
    """Only what this process set itself is known; for the rest the answer says what has expired."""
    sender = Sender(FakeService(), "none", retention_days=1)
    report = sender.delivery.attempt(batch_of("event", at=[WALL_MS - 2 * DAY_MS]), now=0.0, wall=WALL)
    assert report.delivered == 1


def test_events_that_age_during_an_outage_are_rejected_when_they_do() -> None:
    """Each attempt looks again: they leave the batch one after the other, and the last is delivered."""
    service = FakeService()
    sender = Sender(service, "none", retry=RetryPolicy(base=100.0, max_delay=100.0), jitter=1.0, max_batch_count=10)
    service.faults[PUT].extend([DOWN] * 4)
    oldest = WALL_MS - MAX_EVENT_AGE_MS
    for number, spare in enumerate([50_000, 150_000, 250_000, 900_000]):
        sender.put(number, at=oldest + spare)
    sender.run()
    assert service.stored[STREAM] == ["3"]
    rejected = [[event.message for event in report.rejected.get("too_old", ())] for report in sender.reports]
    assert rejected == [[], ["0"], ["1"], ["2"], []]
    statistics = sender.statistics
    assert (statistics.delivered, statistics.rejected_by_reason) == (1, {"too_old": 3})


def test_a_batch_that_ages_away_altogether_ends_without_a_request() -> None:
    """It makes room for what follows."""
    service = FakeService()
    sender = Sender(service, "none", retry=RetryPolicy(base=100.0, max_delay=100.0), jitter=1.0)
    service.faults[PUT].append(DOWN)
    sender.put("old", at=WALL_MS - MAX_EVENT_AGE_MS)
    sender.put("young")
    sender.run()
    assert service.calls == [(PUT, None)] * 2
    assert service.stored[STREAM] == ["young"]


def test_days_of_events_go_in_batches_of_24_hours() -> None:
    """25 h apart means two requests; each batch is within the span at each attempt, outage or not."""
    service = FakeService()
    service.faults[PUT].extend([DOWN, None, DOWN])
    sender = Sender(service, "none", max_batch_count=100)
    ages = [75, 50, 26, 25, 24, 1, 0]
    for age in ages:
        sender.put(f"{age} h", at=WALL_MS - age * 3_600_000)
    sent: list[list[Event]] = []
    put = service.put_log_events

    def noting(destination: Destination, events: Sequence[Event], token: str | None) -> PutResult:
        sent.append(list(events))
        return put(destination, events, token)

    service.put_log_events = noting  # type: ignore[method-assign]
    sender.run()
    assert all(events[-1].timestamp - events[0].timestamp <= MAX_BATCH_SPAN_MS for events in sent)
    assert service.stored[STREAM] == [f"{age} h" for age in ages]
    assert sender.statistics.batches == 4


# -- what the service did reject


@given(
    size=st.integers(1, 6),
    too_old=st.integers(0, 8),
    expired=st.integers(0, 8),
    too_new=st.none() | st.integers(0, 8),
)
def test_rejected_ranges_name_each_event_once(size: int, too_old: int, expired: int, too_new: int | None) -> None:
    """Two prefixes that may overlap and a suffix, and none of them need lie within the batch."""
    service = FakeService()
    service.result = {"too_old_end": too_old, "expired_end": expired, "too_new_start": too_new}
    batch = batch_of(*range(size))
    report = Sender(service).delivery.attempt(batch, now=0.0, wall=WALL)
    expected: dict[str, list[str]] = defaultdict(list)
    for index in range(size):
        if index < too_old:
            expected["too_old"].append(str(index))
        elif index < expired:
            expected["expired"].append(str(index))
        elif too_new is not None and index >= too_new:
            expected["too_new"].append(str(index))
    assert {why: [event.message for event in events] for why, events in report.rejected.items()} == expected
    assert report.delivered == size - sum(map(len, expected.values()))
    assert report.events == size


def test_an_event_that_aged_and_one_that_is_poisoned_come_together() -> None:
    """Each in its place, and neither is sent again."""
    service = FakeService()
    service.poison = lambda message: message == "b"
    batch = batch_of("a", "b", at=[WALL_MS - MAX_EVENT_AGE_MS - 1, WALL_MS - MAX_EVENT_AGE_MS])
    report = Sender(service, "none").delivery.attempt(batch, now=0.0, wall=WALL)
    rejected = {why: [event.message for event in events] for why, events in report.rejected.items()}
    assert rejected == {"too_old": ["a"], "invalid": ["b"]}
    assert not report.remaining


def test_what_we_and_the_service_reject_comes_together() -> None:
    """The service's clock is not ours: its indices count in the batch that was sent, not in ours."""
    service = FakeService()
    service.result = {"too_old_end": 1, "too_new_start": 2}
    oldest = WALL_MS - MAX_EVENT_AGE_MS
    batch = batch_of(*"abcd", at=[oldest - 1, oldest, oldest + 1, oldest + 2])
    report = Sender(service).delivery.attempt(batch, now=0.0, wall=WALL)
    rejected = {why: [event.message for event in events] for why, events in report.rejected.items()}
    assert rejected == {"too_old": ["a", "b"], "too_new": ["d"]}
    assert report.delivered == 1


# -- what fails is tried again

RETRIED = [
    THROTTLED,
    DOWN,
    LOST,
    NotTheService(PUT, "NotTheService"),
    Denied(PUT, "AccessDeniedException"),
    ServiceError(PUT, "Unheard-of"),
]


@pytest.mark.parametrize("jitter", [0.0, 0.25, 0.999])
@pytest.mark.parametrize("error", RETRIED, ids=lambda error: f"{type(error).__name__}-{error.may_be_stored}")
def test_a_batch_that_failed_rests_and_goes_again(error: ServiceError, jitter: float) -> None:
    """Each step is a random part of a bound that doubles up to the longest; the batch stays whole and first."""
    service = FakeService()
    service.faults[PUT].extend([error] * 7)
    sender = Sender(service, "none", jitter=jitter)
    sender.put("first", "second")
    reports = [sender.attempt() for _ in range(7)]
    assert [report.delay for report in reports] == [bound * jitter for bound in (1, 2, 4, 8, 16, 30, 30)]
    assert [report.error for report in reports] == [error] * 7
    sender.run()
    assert service.stored[STREAM] == ["first", "second"]
    statistics = sender.statistics
    assert (statistics.put_requests, statistics.retries, statistics.batches) == (9, 7, 2)
    assert statistics.throttled_requests == (7 if isinstance(error, Throttled) else 0)


def test_back_off_begins_anew_after_a_success() -> None:
    """What was yesterday does not slow down today."""
    service = FakeService()
    service.faults[PUT].extend([DOWN, DOWN, None, DOWN])
    sender = Sender(service, "none")
    sender.send(1, 2)
    assert sender.delays == [0.5, 1.0, 0.0, 0.5, 0.0]


def test_back_off_begins_anew_after_an_answer() -> None:
    """A service that finds fault with a batch is there."""
    service = FakeService()
    invalid = InvalidRequest(PUT, "InvalidParameterException")
    service.faults[PUT].extend([DOWN, DOWN, invalid, DOWN])
    sender = Sender(service, "none", max_batch_count=2)
    sender.send(1, 2)
    assert sender.delays == [0.5, 1.0, 0.0, 0.5, 0.0, 0.0]


def test_back_off_is_the_streams_and_not_the_batchs() -> None:
    """When overflow drops the batch at the head of the line, the next one does not knock sooner."""
    service = FakeService()
    service.always[PUT] = DOWN
    sender = Sender(service, "none", max_batch_count=1)
    bound = encode(STREAM, WALL_MS, "0").memory
    sender.buffer = Buffer(
        send_interval=0.0, max_batch_count=1, max_batch_size=1000, max_queue_size=bound, overflow="drop_oldest"
    )
    for number in range(4):
        sender.put(number)
        sender.attempt()
    assert sender.delays == [0.5, 1.0, 2.0, 4.0]
    assert sender.statistics.dropped == 3


def test_the_back_off_of_one_stream_is_not_anothers() -> None:
    """A stream that is not there does not hold up the others."""
    service = FakeService()
    service.faults[PUT].extend([DOWN, DOWN])
    sender = Sender(service, "none")
    sender.put(1)
    sender.attempt()
    sender.put(2, to=OTHER)
    assert sender.attempt().delay == 0.5
    assert sender.attempt().delivered == 1


def test_give_up_after_bounds_the_time_spent_on_a_batch() -> None:
    """From its first attempt: at that time it is tried for the last time, then dropped; what waits has its own time."""
    service = FakeService()
    service.always[PUT] = DOWN
    sender = Sender(service, "none", retry=dataclasses.replace(POLICY, give_up_after=10.0), jitter=0.999)
    sender.put(1, 2)
    times = []
    while sender.buffer.pending() > 1:
        sender.attempt()
        times.append(sender.now)
    assert times == pytest.approx([0.0, 0.999, 2.997, 6.993, 10.0])
    assert {reason: len(events) for reason, events in sender.reports[-1].dropped.items()} == {"retries_exhausted": 1}
    assert sender.reports[-1].error is DOWN
    began = sender.attempt() and sender.now
    assert began >= 10.0 + 16 * 0.999
    while sender.buffer.pending():
        sender.attempt()
    assert sender.now == pytest.approx(began + 10.0)
    assert sender.statistics.dropped_by_reason == {"retries_exhausted": 2}


def test_giving_up_at_once_is_no_reason_to_hurry() -> None:
    """give_up_after=0 drops each batch after one failure, one for each step of the back-off."""
    service = FakeService()
    service.always[PUT] = DOWN
    sender = Sender(service, "none", retry=dataclasses.replace(POLICY, give_up_after=0))
    sender.send(1, 2, 3)
    assert sender.delays == [0.5, 1.0, 2.0]
    assert len(service.calls) == 3
    assert sender.statistics.dropped == 3


def test_without_give_up_after_a_batch_is_never_given_up() -> None:
    """A week of outage loses nothing."""
    service = FakeService()
    service.always[PUT] = DOWN
    sender = Sender(service, "none", retry=dataclasses.replace(POLICY, max_delay=1800.0))
    sender.put("patience")
    while sender.now < 7 * 86_400:
        sender.attempt()
    service.always.clear()
    sender.run(limit=2)
    assert service.stored[STREAM] == ["patience"]


def test_nothing_of_an_attempt_raises() -> None:
    """Every error of the tree, at every operation, ends in a report that accounts for the whole batch."""
    kinds = [ServiceError, *_subclasses(ServiceError)]
    assert len(kinds) > 10
    for operation in (PUT, DESCRIBE, CREATE_GROUP, CREATE_STREAM, RETENTION):
        for kind in kinds:
            for mode in MODES:
                service = FakeService(exists=False)
                sender = Sender(service, mode, retention_days=1, max_batch_count=2)
                service.faults[operation].append(kind(operation, "Code"))
                sender.send(1, 2)
                statistics = sender.statistics
                assert statistics.delivered == 2
                assert statistics.accepted == 2


def _subclasses(kind: type) -> list[type]:
    return [sub for direct in kind.__subclasses__() for sub in (direct, *_subclasses(direct))]


# -- a batch that is poisoned


@given(size=st.integers(1, 70), data=st.data())
def test_one_poisoned_event_stands_alone_in_the_end(size: int, data: st.DataObject) -> None:
    """It is rejected, all others are delivered in order, and it takes two requests for each halving."""
    poison = str(data.draw(st.integers(0, size - 1)))
    service = FakeService(enforces=True)
    service.poison = lambda message: message == poison
    sender = Sender(service, max_batch_count=100)
    sender.send(*range(size))
    assert service.stored[STREAM] == [str(number) for number in range(size) if str(number) != poison]
    assert service.count(PUT) <= 1 + 2 * math.ceil(math.log2(size))
    statistics = sender.statistics
    assert (statistics.rejected_by_reason, statistics.delivered) == ({"invalid": 1}, size - 1)
    assert sender.delays == [0.0] * len(sender.reports)


@given(poisoned=st.sets(st.integers(0, 29)), size=st.integers(1, 30))
def test_every_poisoned_event_is_found(poisoned: set[int], size: int) -> None:
    """However many there are; what is good is delivered, once and in order."""
    bad = {str(number) for number in poisoned}
    service = FakeService(enforces=True)
    service.poison = bad.__contains__
    sender = Sender(service, max_batch_count=100)
    sender.send(*range(size))
    assert service.stored[STREAM] == [str(number) for number in range(size) if str(number) not in bad]
    rejected = [event.message for _, _, events in sender.buffer.rejections() for event in events]
    assert rejected == [str(number) for number in range(size) if str(number) in bad]


def test_a_poisoned_batch_does_not_overtake_nor_hold_up() -> None:
    """Its halves go before what came later, and without a pause."""
    service = FakeService()
    service.poison = lambda message: message == "2"
    sender = Sender(service, max_batch_count=4)
    sender.send(*range(8))
    assert service.stored[STREAM] == list("0134567")
    assert sender.now == 0.0


def test_an_outage_in_the_middle_of_the_search_changes_nothing() -> None:
    """The halves wait like every batch, and are no smaller afterwards."""
    service = FakeService()
    service.poison = lambda message: message == "3"
    service.faults[PUT].extend([None, None, DOWN, LOST, None, THROTTLED])
    sender = Sender(service, max_batch_count=8)
    sender.send(*range(8))
    stored = service.stored[STREAM]
    assert [message for message in stored if message != "3"] == list("0124567")
    assert sender.statistics.rejected_by_reason == {"invalid": 1}


def test_a_body_that_was_refused_for_its_compression_goes_again_at_once() -> None:
    """Whole, without a pause, and without counting as a retry or as invalid."""
    service = FakeService()
    service.faults[PUT].append(CompressionRefused(PUT, "UnsupportedMediaType"))
    sender = Sender(service, "none", max_batch_count=3)
    sender.send(1, 2, 3)
    assert service.stored[STREAM] == ["1", "2", "3"]
    assert sender.delays == [0.0, 0.0]
    statistics = sender.statistics
    assert (statistics.put_requests, statistics.retries, statistics.rejected) == (2, 0, 0)
    assert all(report.error is None for report in sender.reports)


# -- creating what is missing


@pytest.mark.parametrize(
    ("group_exists", "calls"),
    [
        (False, [(PUT, None), (CREATE_STREAM,), (CREATE_GROUP,), (CREATE_STREAM,), (PUT, None), (RETENTION, 7)]),
        (True, [(PUT, None), (CREATE_STREAM,), (PUT, None)]),
    ],
)
def test_what_is_missing_is_created_after_the_service_said_so(group_exists: bool, calls: list[object]) -> None:
    """The stream first, the group only if that fails, the retention only for a new group; then at once the batch."""
    service = FakeService(exists=False)
    if group_exists:
        service.groups.add("group")
    sender = Sender(service, "none", retention_days=7)
    sender.send(1)
    assert service.calls == calls
    assert sender.delays == [0.0, 0.0]
    assert all(report.error is None for report in sender.reports)


@pytest.mark.parametrize("mode", ["auto", "cached", "describe"])
def test_a_stream_that_was_created_begins_without_a_token(mode: str) -> None:
    """One that was deleted while running, too: its old token is worth nothing."""
    service = FakeService(enforces=True)
    sender = Sender(service, mode)
    sender.send(1)
    service.streams.remove(STREAM)
    del service.tokens[STREAM]
    service.accepted.clear()
    service.calls.clear()
    sender.send(2, 3)
    assert service.count(CREATE_STREAM) == 1
    assert service.stored[STREAM] == ["1", "2", "3"]
    assert sender.statistics.writer_race_retries == 0
    assert service.count(DESCRIBE) == (3 if mode == "describe" else 0)


def test_another_process_that_creates_it_first_is_success() -> None:
    """Both the group and the stream exist by the time that this process creates them."""
    service = FakeService(exists=False)
    service.faults[CREATE_GROUP].append(AlreadyExists(CREATE_GROUP, "OperationAbortedException"))
    service.faults[CREATE_STREAM].extend([NotFound(CREATE_STREAM, "ResourceNotFoundException"), None])
    service.groups.add("group")
    service.streams.add(STREAM)
    service.faults[PUT].append(MISSING)
    sender = Sender(service, "none", retention_days=7)
    sender.send(1)
    assert [call[0] for call in service.calls] == [PUT, CREATE_STREAM, CREATE_GROUP, CREATE_STREAM, PUT]
    assert service.stored[STREAM] == ["1"]


def test_what_is_still_missing_after_it_was_created_has_to_wait() -> None:
    """No hot loop with a service that takes its time, or with someone who deletes what is created."""
    service = FakeService()
    service.faults[PUT].extend([MISSING] * 4)
    sender = Sender(service, "none")
    sender.send(1)
    assert sender.delays == [0.0, 0.5, 1.0, 2.0, 0.0]


def test_what_is_deleted_again_and_again_is_created_without_a_pause() -> None:
    """As long as events arrive in between."""
    service = FakeService(exists=False)
    sender = Sender(service, "none")
    for number in range(3):
        sender.send(number)
        service.streams.clear()
    assert set(sender.delays) == {0.0}
    assert service.stored[STREAM] == ["0", "1", "2"]


def test_describing_what_is_missing_is_counted() -> None:
    """A request is a request."""
    sender = Sender(FakeService(exists=False))
    sender.send(1)
    assert sender.statistics.describe_requests == 1


def test_what_is_missing_after_an_outage_is_created_without_a_pause() -> None:
    """A long outage is no reason to wait for half a minute more, once the service answers."""
    service = FakeService(exists=False)
    service.faults[PUT].extend([DOWN] * 10)
    sender = Sender(service, "none")
    sender.send(1)
    assert sender.delays[-2:] == [0.0, 0.0]


@pytest.mark.parametrize("operation", [CREATE_STREAM, CREATE_GROUP])
def test_what_may_not_be_created_is_reported_and_waited_for(operation: str) -> None:
    """The error names the permission; the batch waits; as soon as it may, it goes on."""
    service = FakeService(exists=False)
    if operation == CREATE_STREAM:
        service.groups.add("group")
    error = Denied(operation, "AccessDeniedException", f"logs:{operation} is not allowed")
    service.faults[operation].extend([error] * 3)
    sender = Sender(service, "none")
    sender.send(1)
    assert [report.error for report in sender.reports[:3]] == [error] * 3
    assert sender.delays == [0.5, 1.0, 2.0, 0.0, 0.0]
    assert service.count(DESCRIBE) == 0
    assert service.stored[STREAM] == ["1"]


def test_in_auto_a_stream_that_cannot_be_created_is_described_once() -> None:
    """Each step of the back-off costs the put that finds it missing and the attempt to create it, no more."""
    service = FakeService()
    service.streams.clear()
    service.always[CREATE_STREAM] = Denied(CREATE_STREAM, "AccessDeniedException")
    sender = Sender(service)
    sender.put(1)
    for _ in range(3):
        sender.attempt()
    assert service.calls == [(DESCRIBE,), *[(PUT, None), (CREATE_STREAM,)] * 3]


@pytest.mark.parametrize(
    ("argument", "text", "calls"),
    [
        (
            "creates_stream",
            "CreateLogStream was not permitted (NotCreated: log stream group/stream does not exist and "
            "create_log_stream is off; create it)",
            [(PUT, None)],
        ),
        (
            "creates_group",
            "CreateLogGroup was not permitted (NotCreated: log group group does not exist and create_log_group is off; "
            "create it)",
            [(PUT, None), (CREATE_STREAM,)],
        ),
    ],
)
def test_creation_that_is_switched_off_is_named(argument: str, text: str, calls: list[object]) -> None:
    """It is not tried, and the events wait for somebody to do it."""
    service = FakeService(exists=False)
    sender = Sender(service, "none", **{argument: False})
    sender.put(1)
    assert str(sender.attempt().error) == text
    assert service.calls == calls
    service.groups.add("group")
    service.streams.add(STREAM)
    sender.run()
    assert service.stored[STREAM] == ["1"]


@pytest.mark.parametrize("failures", range(FINISH_ATTEMPTS + 2))
def test_the_retention_is_set_within_five_deliveries_or_reported(failures: int) -> None:
    """No event waits for it; the first and the last attempt that fail are errors of a batch that was delivered."""
    service = FakeService(exists=False)
    service.faults[RETENTION].extend([Denied(RETENTION, "AccessDeniedException")] * failures)
    sender = Sender(service, "none", retention_days=7)
    sender.send(*range(8))
    assert service.count(RETENTION) == min(failures + 1, FINISH_ATTEMPTS)
    assert sender.statistics.delivered == 8
    reported = [report for report in sender.reports if report.error is not None]
    assert [report.delivered for report in reported] == [1] * ((failures > 0) + (failures >= FINISH_ATTEMPTS))
    assert sender.delays == [0.0] * 9


# -- the whole way


@given(data=st.data(), mode=st.sampled_from(MODES))
def test_whatever_happens_each_event_is_settled_once_and_in_order(data: st.DataObject, mode: str) -> None:
    """Any sequence of failures: what is stored for the first time is stored in order, and the books agree."""
    service = FakeService(enforces=mode != "none")
    faults = [None, None, THROTTLED, DOWN, LOST, MISSING, Denied(PUT, "AccessDenied"), InvalidRequest(PUT, "Invalid")]
    faults += [WriterRace(PUT, "Race", expected_token="t9"), CompressionRefused(PUT, "415"), NotTheService(PUT, "Html")]
    service.faults[PUT].extend(data.draw(st.lists(st.sampled_from(faults), max_size=25)))
    service.faults[DESCRIBE].extend(data.draw(st.lists(st.sampled_from([None, DOWN, THROTTLED]), max_size=5)))
    service.after[PUT].extend(data.draw(st.lists(st.just(LOST), max_size=2)))
    sender = Sender(service, mode, max_batch_count=data.draw(st.integers(1, 5)))
    numbers = count()
    for size in data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)):
        sender.put(*(next(numbers) for _ in range(size)))
        sender.attempt()
    sender.run()
    statistics = sender.statistics
    assert statistics.accepted == next(numbers) == statistics.delivered + statistics.rejected
    stored = [int(message) for message in service.stored[STREAM]]
    first_time = list(dict.fromkeys(stored))
    assert first_time == sorted(first_time)
    assert len(first_time) >= statistics.delivered
    if service.lost == 0:
        assert len(stored) == statistics.delivered


def test_the_size_of_the_requests_is_counted() -> None:
    """Before and after compression, of what was accepted."""
    service = FakeService()
    service.result = {"bytes_raw": 100, "bytes_sent": 30}
    service.faults[PUT].append(DOWN)
    sender = Sender(service, "none")
    sender.send(1, 2)
    statistics = sender.statistics
    assert (statistics.bytes_raw, statistics.bytes_sent) == (200, 60)
