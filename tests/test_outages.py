"""The service is away, refuses, forgets or answers with something else; what was logged arrives (8, 11, 12, 21, 22)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise

import pytest

from cloudwatch_handler import RejectedEvents, RetryPolicy
from tests.sender import GROUP, PATIENCE, QUICK, STREAM, balance, sending, sent, wait_until
from tests.strict_service import Error, Fault, Hang, Hold, Html, Reset, StrictService, Truncate
from tests.strict_service.faults import Exchange

HOUR = 3600.0
DAY = 24 * HOUR
#: An outage lasts for so many attempts.
ATTEMPTS = 6
#: Seconds by which a clock of the service and one of the client may disagree about the same wait.
TICK = 0.002

# Nothing was stored when these come as an answer, or instead of one.
REFUSALS = {
    "500": Error("InternalFailure", 500),
    "502 of a proxy": Error("", 502),
    "503": Error("ServiceUnavailableException", 503),
    "throttled": Error("ThrottlingException"),
    "429": Error("TooManyRequestsException", 429),
    "limit": Error("LimitExceededException"),
    "denied": Error("AccessDeniedException"),
    "expired credentials": Error("ExpiredTokenException"),
    "reset": Reset(),
    "HTML": Html(),
}
# The batch is stored, and nobody says so. (A Hang belongs to one service: it ends with that.)
LOST_ANSWERS = pytest.mark.parametrize("make_fault", [Reset, Hang])


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every back-off takes its full time."""

    class Longest:
        def random(self) -> float:
            return 1.0

    monkeypatch.setattr("cloudwatch_handler.handler.random.Random", Longest)


def numbers(count: int) -> list[str]:
    """Messages."""
    return [str(number) for number in range(count)]


def check_schedule(times: list[float], policy: RetryPolicy) -> None:
    """These requests, each but the last a failure, came no sooner than the policy allows."""
    for attempt, (earlier, later) in enumerate(pairwise(times), 1):
        assert later - earlier >= policy.delay(attempt) - TICK, f"attempt {attempt + 1} came too soon"


# -- 8 and 21: away for a while ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_jitter")
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_all_arrives_in_order_after_an_outage_that_saw_one_request_per_step(
    service: StrictService, refusal: Fault
) -> None:
    """However much is logged and flushed meanwhile, nothing but the back-off says when to knock again."""
    outage = service.inject(refusal, times=ATTEMPTS)
    with sending(service, max_batch_count=40) as sender:
        number = 0
        while outage.hits < ATTEMPTS:
            sender.log(number)
            number += 1
            sender.handler.flush(0.0005)
        sender.deliver("last")
        assert sender.messages == [*numbers(number), "last"]
        check_schedule([put.time for put in sender.puts[: ATTEMPTS + 1]], RetryPolicy(**QUICK))
        ledger = sender.handler.statistics()
        assert (ledger.delivered, ledger.dropped, ledger.rejected) == (number + 1, 0, 0)
    assert service.violations == []


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that refuses connections until a service listens there; nobody else can."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        yield reservation.getsockname()[1]


@pytest.mark.usefixtures("no_jitter")
def test_a_sidecar_may_come_up_after_the_application(service: StrictService) -> None:
    """Connections are refused in the first moments of a process's life: one attempt per step, and nothing is lost."""
    attempts: list[float] = []
    enough = threading.Event()

    def note(**_: object) -> None:
        attempts.append(time.monotonic())
        if len(attempts) == ATTEMPTS:
            enough.set()

    with reserved_port() as port, ExitStack() as stack:
        client = service.client(endpoint_url=f"http://127.0.0.1:{port}")
        client.meta.events.register("before-send.cloudwatch-logs.PutLogEvents", note)
        sender = stack.enter_context(sending(service, boto3_client=client, sequence_token="none"))
        sender.log(*numbers(100))
        assert enough.wait(PATIENCE)
        sender.log(*range(100, 200))
        sidecar = stack.enter_context(StrictService(port=port))
        sender.deliver()
        assert sidecar.messages(GROUP, STREAM) == numbers(200)
        check_schedule(attempts[:ATTEMPTS], RetryPolicy(**QUICK))


@pytest.mark.usefixtures("no_jitter")
def test_the_service_may_go_and_come_back(service: StrictService) -> None:
    """Connections that the client keeps in its pool end with the service; they are no reason to lose anything."""
    with reserved_port() as port:
        client = service.client(endpoint_url=f"http://127.0.0.1:{port}")
        with sending(service, boto3_client=client) as sender:
            with StrictService(port=port) as before:
                sender.deliver("before")
                first = before.messages(GROUP, STREAM)
            sender.log("between")
            assert not sender.handler.flush(0.1)
            with StrictService(port=port) as after:
                sender.deliver("after")
                assert first + after.messages(GROUP, STREAM) == ["before", "between", "after"]


def test_one_stream_in_trouble_holds_up_no_other(service: StrictService) -> None:
    """A lane rests alone."""
    service.inject(Error("ThrottlingException"), times=None, when=lambda put: put["logStreamName"] == "resting")
    with sending(service, log_stream_name="{logger_name}", retry={"base": 30.0}) as sender:
        for logger in ("resting", "calm", "resting"):
            sender.log_by(logger, f"of {logger}")
        assert service.wait_for(lambda: service.messages(GROUP, "calm") == ["of calm"])
        assert not sender.handler.flush(0)


def test_what_fails_while_the_stream_is_made_loses_nothing(service: StrictService) -> None:
    """Group and stream are created in the middle of an outage of those operations, each tried again."""
    for operation in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams"):
        service.inject(Error("ServiceUnavailableException", 503), operation, times=2)
        service.inject(Error("ThrottlingException"), operation, times=2)
    with sending(service) as sender:
        sender.deliver(*numbers(10))
        assert sender.messages == numbers(10)
        assert balance(sender.handler) == 0


def test_what_was_given_up_is_counted_and_the_rest_is_delivered(service: StrictService) -> None:
    """``give_up_after`` bounds the time of one batch; it is the only way for an outage to lose anything."""
    outage = service.inject(Error("ServiceUnavailableException", 503), times=None)
    with sending(service, retry={**QUICK, "give_up_after": 0.05}, loss_notice=False) as sender:
        sender.deliver("given up")
        outage.remove()
        sender.deliver("delivered")
        assert sender.messages == ["delivered"]
        assert sender.handler.statistics().dropped_by_reason == {"retries_exhausted": 1}


# -- 11: age ------------------------------------------------------------------------------------------------------


def test_events_that_are_days_apart_go_in_batches_of_a_day(service: StrictService) -> None:
    """A batch spans 24 h at most; the service would refuse it for ever."""
    now = time.time()
    with sending(service, send_interval=60.0) as sender:
        ages = [25 * HOUR, 0.0, 13 * DAY, 24 * HOUR + 1, 1.0, 24 * HOUR, 0.5]
        for age in ages:
            sender.log_at(now - age, age)
        sender.deliver()
        assert sorted(sender.messages) == sorted(map(str, ages))
        assert sender.handler.statistics().delivered == len(ages)
    assert service.violations == []


@pytest.mark.parametrize(("days", "reason"), [(None, "too_old"), (1, "expired")])
def test_an_event_that_aged_during_an_outage_is_rejected_and_holds_up_no_other(
    service: StrictService, days: int | None, reason: str
) -> None:
    """A batch that was legal before an outage is looked at again at every attempt."""
    rejected: list[RejectedEvents] = []
    limit = (days or 14) * DAY
    with sending(service, log_group_retention_days=days, on_rejected=rejected.append, send_interval=60.0) as sender:
        sender.deliver("first")
        outage = service.inject(Error("ServiceUnavailableException", 503), times=None)
        created = time.time() - limit + 2.0
        for hours in range(3):
            sender.log_at(created + HOUR * hours, f"{hours} h younger")
        assert not sender.handler.flush(0.1)
        assert service.wait_for(lambda: outage.hits > 0)
        assert sent(sender.puts[-1]) == ["0 h younger", "1 h younger", "2 h younger"]
        wait_until(created + limit)
        assert service.wait_for(lambda: sent(sender.puts[-1]) == ["1 h younger", "2 h younger"])
        outage.remove()
        sender.deliver("last")
        assert sender.messages == ["first", "1 h younger", "2 h younger", "last"]
        assert sender.handler.statistics().rejected_by_reason == {reason: 1}
    assert [(report.reason, [event.message for event in report.events]) for report in rejected] == [
        (reason, ["0 h younger"])
    ]
    assert service.violations == []


def test_a_batch_that_aged_as_a_whole_does_not_stand_in_the_way(service: StrictService) -> None:
    """All of it is rejected, without a request."""
    outage = service.inject(Error("ServiceUnavailableException", 503), times=None)
    with sending(service) as sender:
        created = time.time() - 14 * DAY + 0.3
        sender.log_at(created, "old")
        assert service.wait_for(lambda: outage.hits > 0)
        wait_until(created + 14 * DAY)
        assert sender.handler.flush(PATIENCE)
        outage.remove()
        sender.deliver("new")
        assert sender.messages == ["new"]
        assert sender.handler.statistics().rejected_by_reason == {"too_old": 1}


# -- 12: deleted while running --------------------------------------------------------------------------------------


@pytest.mark.parametrize("enforce_tokens", [False, True])
@pytest.mark.parametrize("what", ["group", "stream"])
def test_what_was_deleted_is_made_again(what: str, enforce_tokens: bool) -> None:
    """Group and stream come back with their settings, and nothing that was logged since is lost."""
    with (
        StrictService(enforce_tokens=enforce_tokens) as service,
        sending(service, log_group_retention_days=7, log_group_tags={"team": "a"}) as sender,
    ):
        for round_ in range(3):
            sender.deliver(f"{round_} before")
            if what == "group":
                service.delete_log_group(GROUP)
            else:
                service.delete_log_stream(GROUP, STREAM)
            sender.deliver(*(f"{round_}: {number}" for number in range(50)))
            assert sender.messages == [f"{round_}: {number}" for number in range(50)]
        group = service.client().describe_log_groups()["logGroups"][0]
        assert group["retentionInDays"] == 7
        assert sender.handler.statistics().delivered == 3 * 51
    assert service.violations == []


def test_what_is_deleted_while_a_batch_is_under_way_is_made_again(service: StrictService) -> None:
    """The batch that finds the stream gone is the one that is delivered to the new one."""
    hold = Hold()
    with sending(service) as sender:
        sender.deliver("before")
        service.inject(hold)
        sender.log("under way")
        assert hold.entered.wait(PATIENCE)
        service.delete_log_group(GROUP)
        hold.release.set()
        sender.deliver("after")
        assert sender.messages == ["under way", "after"]


def test_without_leave_to_create_events_wait_until_somebody_does(service: StrictService) -> None:
    """``create_log_stream=False`` keeps the events, tries again at the policy's pace, and says what is missing."""
    with sending(service, create_log_group=False, create_log_stream=False) as sender:
        sender.log(*numbers(10))
        assert service.wait_for(lambda: service.count("PutLogEvents") >= 3)
        assert service.count("CreateLogStream") == service.count("CreateLogGroup") == 0
        assert "create_log_stream is off" in (sender.handler.statistics().last_error or "")
        service.create_log_stream(GROUP, STREAM)
        sender.deliver()
        assert sender.messages == numbers(10)


# -- 21: an answer of somebody else ---------------------------------------------------------------------------------


def test_a_page_of_html_delivers_nothing(service: StrictService) -> None:
    """A captive portal's HTTP 200 is no acknowledgement: the batch stays."""
    portal = service.inject(Html(), operation=None, times=None)
    with sending(service) as sender:
        sender.log("kept")
        assert service.wait_for(lambda: portal.hits >= 3)
        ledger = sender.handler.statistics()
        assert (ledger.delivered, ledger.pending) == (0, 1)
        portal.remove()
        sender.deliver()
        assert sender.messages == ["kept"]


# -- 22: lost answers -----------------------------------------------------------------------------------------------


@LOST_ANSWERS
def test_a_lost_answer_makes_delivery_at_least_once(service: StrictService, make_fault: Callable[..., Fault]) -> None:
    """Today's service cannot tell: the batch is stored twice, nothing is lost, and the ledger counts it once."""
    with sending(service, read_timeout=0.2) as sender:
        sender.deliver("before")
        service.inject(make_fault(stored=True), times=2)
        sender.deliver("lost", "answer")
        sender.deliver("after")
        # On a busy machine an answer may come too late that was not held back.
        assert sender.messages.count("lost") >= 3
        assert list(dict.fromkeys(sender.messages)) == ["before", "lost", "answer", "after"]
        assert sender.handler.statistics().delivered == 4


@pytest.mark.parametrize("mode", ["auto", "cached"])
@pytest.mark.parametrize("first", [True, False], ids=["first batch", "later batch"])
@LOST_ANSWERS
def test_where_tokens_are_enforced_a_lost_answer_makes_no_duplicate(
    make_fault: Callable[..., Fault], first: bool, mode: str
) -> None:
    """The same batch comes again with the same token, and the service says that it has it."""
    with (
        StrictService(enforce_tokens=True) as service,
        sending(service, sequence_token=mode, read_timeout=0.2) as sender,
    ):
        service.create_log_stream(GROUP, STREAM)
        before = [] if first else ["before"]
        sender.deliver(*before)
        puts = len(sender.puts)
        service.inject(make_fault(stored=True), times=2)
        sender.log("lost")
        assert service.wait_for(lambda: len(sender.puts) > puts)
        sender.deliver("after")
        assert sender.messages == [*before, "lost", "after"]
        tries = sender.puts[puts : puts + 3]
        assert len({(put.parameters.get("sequenceToken"), tuple(sent(put))) for put in tries}) == 1
        ledger = sender.handler.statistics()
        assert ledger.already_accepted >= 1
        assert ledger.delivered == len(before) + 2


def test_a_lost_answer_is_no_duplicate_when_the_stream_is_contested() -> None:
    """Another writer moves the token on while the answer is lost: the batch is described anew, and not lost."""
    with StrictService(enforce_tokens=True) as service, sending(service) as ours, sending(service) as theirs:
        for round_ in range(5):
            service.inject(Reset(), times=1)
            ours.log(f"ours {round_}")
            theirs.log(f"theirs {round_}")
            assert ours.handler.flush(PATIENCE)
            assert theirs.handler.flush(PATIENCE)
        assert sorted(ours.messages) == sorted(f"{who} {n}" for n in range(5) for who in ("ours", "theirs"))


def test_half_an_answer_loses_nothing(service: StrictService) -> None:
    """Newer versions of botocore take it for an answer; older ones for a lost one, and the batch goes again."""
    with sending(service) as sender:
        sender.deliver("before")
        service.inject(Truncate())
        sender.deliver("half", "answer")
        sender.deliver("after")
        assert list(dict.fromkeys(sender.messages)) == ["before", "half", "answer", "after"]
        assert sender.handler.statistics().delivered == 4


@pytest.mark.parametrize("code", ["ThrottlingException", "InvalidSequenceTokenException"])
def test_half_a_refusal_is_no_verdict(service: StrictService, code: str) -> None:
    """An error with status 400 of which nobody can read the code says nothing about the events: they are kept."""
    with sending(service) as sender:
        service.inject(HalfRefusal(code), times=2)
        sender.deliver("kept")
        assert sender.messages == ["kept"]


@dataclass(frozen=True)
class HalfRefusal:
    """An error that breaks off before its end."""

    code: str

    def play(self, exchange: Exchange) -> None:
        """Sends half of it."""
        exchange.send_part(exchange.refuse(self.code, "Rate exceeded, or something else", 400, {}))
