"""The handler against the strict service: what is logged arrives, whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import freezegun
import pytest

from cloudwatch_handler import CloudWatchHandler, RejectedEvents, Statistics
from tests.strict_service import Error, Fault, Hang, Hold, Html, Reset, StrictService, Truncate, free_port

PUT = "PutLogEvents"
ROOT = Path(__file__).resolve().parent.parent
#: Back-off in steps that a test can wait for.
QUICK = {"base": 0.01, "max_delay": 0.02}
UNAVAILABLE = Error("ServiceUnavailableException", 503)
MakeHandler = Callable[..., CloudWatchHandler]


@pytest.fixture
def service() -> Iterator[StrictService]:
    """A service with the stream ``group/stream``; a request that breaks one of its rules fails the test."""
    with StrictService() as service:
        service.create_log_stream("group", "stream")
        yield service
        assert service.violations == []


@pytest.fixture
def logger() -> logging.Logger:
    """A logger that nobody else knows; it has no handlers and lets everything through."""
    return logging.Logger("app", level=1)


@pytest.fixture
def make_handler(service: StrictService) -> Iterator[MakeHandler]:
    """Makes handlers for ``group/stream``; each is closed before the service is."""
    with contextlib.ExitStack() as stack:

        def make(**arguments: Any) -> CloudWatchHandler:
            names = {"log_group_name": "group", "log_stream_name": "stream"}
            defaults = {
                "boto3_client": service.client(),
                "send_interval": 0.05,
                "shutdown_timeout": 1.0,
                "loss_notice": False,
            }
            handler = CloudWatchHandler(**names | defaults | arguments)
            stack.callback(handler.close)
            return handler

        yield make


@pytest.fixture
def start(make_handler: MakeHandler, logger: logging.Logger) -> MakeHandler:
    """Makes a handler and adds it to the logger."""

    def start(**arguments: Any) -> CloudWatchHandler:
        handler = make_handler(**{"retry": QUICK} | arguments)
        logger.addHandler(handler)
        return handler

    return start


def stored(service: StrictService, stream: str = "stream") -> list[str]:
    """What the service has."""
    return service.messages("group", stream)


def numbered(count: int) -> list[str]:
    """As many messages."""
    return [str(number) for number in range(count)]


def check_identity(statistics: Statistics) -> None:
    """The ledger adds up."""
    out = statistics.delivered + statistics.rejected + statistics.dropped + statistics.spooled
    assert statistics.accepted == out + statistics.pending


def in_thread(function: Callable[[], object], timeout: float = 5.0) -> None:
    """Runs a function that must come to its end."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(timeout)
    assert not thread.is_alive(), "it hangs"


# -- creating


def test_nothing_is_created_that_exists(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """logs:PutLogEvents is all it takes, but for one question for the upload token."""
    handler = start()
    logger.info("hello")
    assert handler.flush()
    assert [request.operation for request in service.requests] == ["DescribeLogStreams", PUT]


def test_only_put_is_allowed_and_it_works(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """Every other operation is denied; the records arrive, and at once."""
    service.inject(Error("AccessDeniedException"), None, times=None, when=lambda given: "logEvents" not in given)
    handler = start()
    for message in numbered(3):
        logger.info(message)
        assert handler.flush()
    assert stored(service) == numbered(3)
    assert handler.statistics().retries == 0


def test_what_is_missing_is_created_after_the_service_said_so(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """First the put that finds it missing, then group and stream, with everything that the group was to have."""
    handler = start(log_group_name="new", log_group_retention_days=30, log_group_tags={"team": "shop"})
    logger.info("hello")
    assert handler.flush()
    operations = [request.operation for request in service.requests]
    assert operations.index(PUT) < operations.index("CreateLogStream") < operations.index("CreateLogGroup")
    assert service.messages("new", "stream") == ["hello"]
    (group,) = service.client().describe_log_groups(logGroupNamePrefix="new")["logGroups"]
    assert group["retentionInDays"] == 30


@pytest.mark.parametrize("delete", ["delete_log_stream", "delete_log_group"])
def test_what_is_deleted_while_running_comes_back(
    service: StrictService, start: MakeHandler, logger: logging.Logger, delete: str
) -> None:
    """Nothing that is logged afterwards is lost, twice in a row."""
    handler = start()
    for round_of_three in range(3):
        for number in range(3):
            logger.info("%d/%d", round_of_three, number)
        assert handler.flush()
        assert stored(service) == [f"{round_of_three}/{number}" for number in range(3)]
        names = ("group",) if delete == "delete_log_group" else ("group", "stream")
        getattr(service, delete)(*names)
    assert handler.statistics().delivered == 9


def test_records_logged_while_the_stream_is_being_created_are_all_delivered(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """2,000 from four threads while CreateLogStream is in flight; of each thread in its order."""
    hold = Hold()
    service.inject(hold, "CreateLogStream")
    handler = start(log_stream_name="new")
    logger.info("first")
    assert hold.entered.wait(10)
    threads = [
        threading.Thread(target=lambda name=name: [logger.info("%s %d", name, number) for number in range(500)])
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hold.release.set()
    assert handler.flush()
    messages = stored(service, "new")
    assert len(messages) == 2001
    for name in "abcd":
        assert [text for text in messages if text.startswith(name)] == [f"{name} {number}" for number in range(500)]


# -- failures


@pytest.mark.parametrize(
    "fault",
    [
        UNAVAILABLE,
        Error("InternalFailure", 500),
        Error("ThrottlingException"),
        Error("AccessDeniedException"),
        Error("ExpiredTokenException"),
        Html(),
        Reset(),
    ],
    ids=lambda fault: getattr(fault, "code", type(fault).__name__),
)
def test_a_failing_service_loses_nothing_and_is_left_in_peace(
    service: StrictService, start: MakeHandler, logger: logging.Logger, fault: Fault
) -> None:
    """All is delivered afterwards, once, in order, with one request for each step of the back-off."""
    service.inject(fault, times=6)
    handler = start(max_batch_count=10)
    for message in numbered(100):
        logger.info(message)
    assert handler.flush()
    assert stored(service) == numbered(100)
    statistics = handler.statistics()
    assert statistics.put_requests == service.count(PUT) == 6 + statistics.batches
    assert (statistics.retries, statistics.delivered) == (6, 100)
    assert statistics.throttled_requests == (6 if "Throttling" in repr(fault) else 0)
    assert statistics.last_error is not None
    assert statistics.last_error_time == pytest.approx(time.time(), abs=60)


def test_a_service_that_comes_up_after_the_application_misses_nothing(logger: logging.Logger) -> None:
    """Connections are refused at first, as by a sidecar proxy that starts later."""
    port = free_port()
    with StrictService(port=port) as gone:
        client = gone.client()
    handler = CloudWatchHandler("group", "stream", boto3_client=client, send_interval=0, retry=QUICK)
    logger.addHandler(handler)
    for message in numbered(10):
        logger.info(message)
    while handler.statistics().retries < 5:
        assert not handler.flush(0.01)
    with StrictService(port=port) as service:
        assert handler.flush()
        assert stored(service) == numbered(10)
        assert service.violations == []
        handler.close()


def test_an_answer_that_was_lost_is_at_least_once(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """Where nobody looks at tokens the batch is stored twice, and the ledger counts it once."""
    service.inject(Reset(stored=True))
    handler = start()
    logger.info("twice")
    assert handler.flush()
    assert stored(service) == ["twice", "twice"]
    assert handler.statistics().delivered == 1


def test_an_answer_that_was_lost_is_exactly_once_with_tokens(logger: logging.Logger) -> None:
    """The same batch with the same token is recognized."""
    with StrictService(enforce_tokens=True) as service:
        service.create_log_stream("group", "stream")
        service.inject(Reset(stored=True), skip=1)
        handler = CloudWatchHandler("group", "stream", boto3_client=service.client(), retry=QUICK)
        logger.addHandler(handler)
        for message in numbered(3):
            logger.info(message)
            assert handler.flush()
        assert stored(service) == numbered(3)
        assert handler.statistics().already_accepted == 1
        assert service.violations == []
        handler.close()


def test_an_answer_that_breaks_off_loses_nothing(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """Some versions of botocore call it an error, and then the batch goes again; the ledger counts it once."""
    service.inject(Truncate())
    handler = start()
    for message in numbered(3):
        logger.info(message)
        assert handler.flush()
    assert list(dict.fromkeys(stored(service))) == numbered(3)
    assert handler.statistics().delivered == 3


def test_give_up_after_drops_and_counts(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """Only if somebody asks for it; the next record has its own chance."""
    service.inject(UNAVAILABLE, times=1)
    handler = start(retry={**QUICK, "give_up_after": 0})
    logger.info("lost")
    assert handler.flush()
    logger.info("kept")
    assert handler.flush()
    assert stored(service) == ["kept"]
    assert handler.statistics().dropped_by_reason == {"retries_exhausted": 1}


def test_a_filter_is_asked_wherever_it_is(
    service: StrictService, logger: logging.Logger, make_handler: MakeHandler
) -> None:
    """Added later, or the method of a subclass, as with every handler."""

    class Discreet(CloudWatchHandler):
        def filter(self, record: logging.LogRecord) -> bool:
            return "secret" not in record.getMessage()

    handler = make_handler()
    logger.addHandler(handler)
    handler.addFilter(lambda record: "added" not in record.getMessage())
    discreet = Discreet("group", "other", boto3_client=service.client(), shutdown_timeout=1.0)
    logger.addHandler(discreet)
    for message in ("plain", "secret", "added"):
        logger.info(message)
    assert handler.flush()
    discreet.close()
    assert stored(service) == ["plain", "secret"]
    assert stored(service, "other") == ["plain", "added"]


def test_a_filter_of_the_application_that_raises_does_not_stop_delivery(
    service: StrictService, start: MakeHandler, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the handler says about a failure goes through the application's own handlers and filters."""

    def demanding(record: logging.LogRecord) -> bool:
        raise KeyError("request_id")

    other = logging.StreamHandler(io.StringIO())
    other.addFilter(demanding)
    monkeypatch.setattr(logging.getLogger("cloudwatch_handler"), "handlers", [other])
    service.inject(UNAVAILABLE)
    start()
    logger.info("a")
    assert service.wait_for(lambda: stored(service) == ["a"])
    logger.info("b")
    assert service.wait_for(lambda: stored(service) == ["a", "b"])


# -- what the service rejects


def test_one_message_without_text_costs_itself_only(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """102 of 103 are delivered; one is rejected, and reported once."""
    rejected: list[RejectedEvents] = []
    handler = start(on_rejected=rejected.append)
    for number in range(103):
        logger.info("" if number == 50 else str(number))
    assert handler.flush()
    assert stored(service) == [str(number) for number in range(103) if number != 50]
    statistics = handler.statistics()
    assert (statistics.delivered, statistics.rejected_by_reason) == (102, {"empty": 1})
    handler.close()
    assert [(one.reason, len(one.events)) for one in rejected] == [("empty", 1)]


def test_one_poisoned_event_costs_itself_only(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """The service refuses the whole batch; the other 102 are delivered in order, after a few requests."""
    service.poison = lambda message: message == "50"
    rejected: list[RejectedEvents] = []
    handler = start(on_rejected=rejected.append, send_interval=60)
    for message in numbered(103):
        logger.info(message)
    assert handler.flush()
    assert stored(service) == [message for message in numbered(103) if message != "50"]
    statistics = handler.statistics()
    assert (statistics.delivered, statistics.rejected_by_reason) == (102, {"invalid": 1})
    assert statistics.put_requests <= 1 + 2 * 7 + 2  # the first refusal may be for the compression
    handler.close()
    (one,) = rejected
    assert (one.reason, one.log_group_name, one.log_stream_name) == ("invalid", "group", "stream")
    assert [event.message for event in one.events] == ["50"]


def test_events_25_hours_apart_go_in_two_batches(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """Both are delivered."""
    handler = start(send_interval=60)
    for hours in (25, 0):
        log_at(logger, f"{hours} h", time.time() - hours * 3600)
    assert handler.flush()
    assert stored(service) == ["25 h", "0 h"]
    assert handler.statistics().batches == 2


def log_at(logger: logging.Logger, message: str, created: float) -> None:
    """Logs a record of another time."""
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 1, message, (), None)
    record.created = created
    logger.handle(record)


@pytest.mark.parametrize(
    ("age", "reason"), [(15 * 86_400, "too_old"), (-3 * 3600, "too_new")], ids=["too old", "too new"]
)
def test_what_the_service_would_reject_is_rejected_and_told(
    service: StrictService, start: MakeHandler, logger: logging.Logger, age: float, reason: str
) -> None:
    """It takes no request of its own, and nothing else with it."""
    handler = start(send_interval=60)
    logger.info("kept")
    log_at(logger, "refused", time.time() - age)
    assert handler.flush()
    assert stored(service) == ["kept"]
    assert handler.statistics().rejected_by_reason == {reason: 1}


def test_what_has_expired_is_known_from_the_answer(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """The retention is one that somebody else has set; an event that is also too old counts once."""
    service.create_log_group("short", retention_days=1)
    handler = start(log_group_name="short", send_interval=60)
    log_at(logger, "expired", time.time() - 86_400 - 600)
    log_at(logger, "kept", time.time() - 86_400 + 600)
    assert handler.flush()
    assert service.messages("short", "stream") == ["kept"]
    assert handler.statistics().rejected_by_reason == {"expired": 1}


def raise_on_rejected(rejected: RejectedEvents) -> None:
    """A callback that is broken."""
    raise RuntimeError("broken callback")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("callback", [raise_on_rejected, f"{__name__}.raise_on_rejected"], ids=["callable", "path"])
def test_a_callback_that_raises_is_harmless(
    service: StrictService,
    start: MakeHandler,
    logger: logging.Logger,
    caplog: pytest.LogCaptureFixture,
    callback: object,
) -> None:
    """It is said, and delivery goes on."""
    handler = start(on_rejected=callback)
    for message in ("", "a", "", "b"):
        logger.info(message)
        assert handler.flush()
    handler.close()
    assert stored(service) == ["a", "b"]
    assert "broken callback" in caplog.text


def test_what_the_callback_logs_does_not_come_back(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """Otherwise one rejection could beget the next."""
    handler = start(on_rejected=lambda rejected: logger.info(""))
    logger.info("")
    assert handler.flush()
    handler.close()
    assert handler.statistics().accepted == 1


def test_rejections_are_said_once_a_minute(
    start: MakeHandler, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, and the rest together when the handler is closed: each is in one line, and a thousand are two lines."""
    handler = start()
    logger.info("")
    assert handler.flush()
    for _ in range(999):
        logger.info("")
    assert handler.flush()
    said = [record for record in caplog.records if record.name == "cloudwatch_handler"]
    assert [record.levelname for record in said] == ["WARNING"]
    handler.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "cloudwatch_handler"]
    assert [line.partition(" for ")[0] for line in lines] == [
        "1 events rejected, the last",
        "999 events rejected, the last",
    ]
    assert handler.statistics().rejected == 1000


def test_each_reason_is_said_at_once(
    start: MakeHandler, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """What was said of one reason a moment ago does not silence the first of another."""
    handler = start()
    logger.info("")
    assert handler.flush()
    logger.handle(logging.makeLogRecord({"levelno": logging.INFO, "msg": "old", "created": 1.0}))
    assert handler.flush()
    lines = [record.getMessage() for record in caplog.records if record.name == "cloudwatch_handler"]
    assert ["empty" in line for line in lines] == [True, False]
    assert "too_old (older than 14 days): 1" in lines[1]


# -- many streams


class Recorder:
    """A client that takes everything, at once."""

    def __init__(self) -> None:
        self.streams: dict[str, list[str]] = {}

    def put_log_events(self, **parameters: Any) -> dict[str, Any]:
        """Keep the messages."""
        messages = [event["message"] for event in parameters["logEvents"]]
        self.streams.setdefault(parameters["logStreamName"], []).extend(messages)
        return {}


def test_500_logger_names_are_one_thread() -> None:
    """Every stream gets its records, and lanes that are idle are forgotten."""
    client = Recorder()
    handler = CloudWatchHandler(
        "group", "{logger_name}", boto3_client=client, sequence_token="none", send_interval=0.01
    )
    before = set(threading.enumerate())
    for number in range(500):
        logger = logging.Logger(f"name-{number}")
        logger.addHandler(handler)
        logger.warning("a")
        logger.warning("b")
        assert len(set(threading.enumerate()) - before) <= 1
    assert handler.flush()
    assert client.streams == {f"name-{number}": ["a", "b"] for number in range(500)}
    assert len(handler.worker._buffer.lanes.by_destination) == 0
    handler.close()


# -- overflow


def fill_up(service: StrictService, handler: CloudWatchHandler, log: Callable[[str], object], count: int) -> Hold:
    """Logs "first", which hangs in flight, and then as many messages; returns what holds the first."""
    hold = Hold()
    service.inject(hold)
    log("first")
    handler.flush(0)
    assert hold.entered.wait(10)
    for message in numbered(count):
        log(message)
    return hold


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_overflow_is_counted_exactly(
    service: StrictService, start: MakeHandler, logger: logging.Logger, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """The last, or the first, that fit are delivered without a gap; what is in flight is never dropped."""
    handler = start(max_queue_size=20_000, overflow=policy, send_interval=0)
    hold = fill_up(service, handler, logger.info, 1000)
    hold.release.set()
    assert handler.flush()
    statistics = handler.statistics()
    kept = stored(service)[1:]
    assert stored(service)[0] == "first"
    assert kept == (numbered(1000)[-len(kept) :] if policy == "drop_oldest" else numbered(1000)[: len(kept)])
    assert statistics.dropped_by_reason == {"overflow": 1000 - len(kept)}
    assert (statistics.accepted, statistics.delivered) == (1001, len(kept) + 1)
    assert 15_000 < statistics.queue_high_water_mark <= 20_000
    handler.close()
    assert sum("dropped" in record.getMessage() for record in caplog.records) == 1


def test_block_waits_for_room_and_loses_nothing(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """The log call of four threads is slowed down to what the service takes; memory stays within its bound."""
    handler = start(max_queue_size=5_000, overflow="block", block_timeout=60, send_interval=0)
    hold = Hold()
    service.inject(hold)
    threads = [threading.Thread(target=lambda: [logger.info("x" * 50) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert hold.entered.wait(10)
    hold.release.set()
    for thread in threads:
        thread.join(30)
    assert handler.flush()
    statistics = handler.statistics()
    assert (statistics.delivered, statistics.dropped) == (800, 0)
    assert statistics.queue_high_water_mark <= 5_000


def test_block_gives_way_after_its_timeout(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """Each call waits that long and no longer; then the record that came is dropped and counted."""
    handler = start(max_queue_size=1_000, overflow="block", block_timeout=0.05, send_interval=0)
    began = time.monotonic()
    hold = fill_up(service, handler, logger.info, 10)
    assert 0.05 <= time.monotonic() - began < 5
    hold.release.set()
    assert handler.flush()
    statistics = handler.statistics()
    assert stored(service)[1:] == numbered(len(stored(service)) - 1)
    assert statistics.dropped_by_reason == {"overflow": 11 - statistics.delivered}
    assert 1 <= statistics.dropped <= 8


class Meeting(list[Any]):
    """An intake at which two threads meet before either puts anything in."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2, timeout=0.5)

    def append(self, event: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self.barrier.wait()
        super().append(event)


def test_block_lets_no_two_threads_take_the_same_room(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """There is room for one of them; the other one waits for more, and neither is lost."""
    handler = start(max_queue_size=800, overflow="block", block_timeout=30, send_interval=0)
    hold = fill_up(service, handler, logger.info, 1)
    handler.worker._buffer.intake = Meeting()
    threads = [threading.Thread(target=logger.info, args=("x" * 50,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert service.wait_for(lambda: False, timeout=0.7) is False  # long enough for the meeting
    hold.release.set()
    for thread in threads:
        thread.join(20)
    assert handler.flush()
    assert handler.statistics().dropped == 0


# -- flush, close, statistics


def test_flush_with_timeout_0_only_asks(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """It never waits; what it asked for is sent in the background."""
    handler = start(send_interval=60)
    assert handler.flush(0) is True
    logger.info("hello")
    assert handler.flush(0) is False
    assert service.wait_for(lambda: stored(service) == ["hello"])
    assert handler.flush()
    assert handler.flush(0) is True


def test_a_record_after_a_pause_is_sent_without_a_flush(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """The thread sleeps without end when there is nothing to do, and is woken by the next record."""
    handler = start()
    for message in numbered(3):
        logger.info(message)
        expected = numbered(int(message) + 1)
        assert service.wait_for(lambda expected=expected: stored(service) == expected)
        assert handler.flush()


def test_flush_says_when_its_time_is_up(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """False, in time; and the records are not given up."""
    hang = Hang()
    service.inject(hang)
    handler = start()
    logger.info("hello")
    began = time.monotonic()
    assert handler.flush(0.2) is False
    assert 0.2 <= time.monotonic() - began < 8
    hang.release()
    assert handler.flush()
    assert stored(service) == ["hello"]


@pytest.mark.parametrize(("timeout", "kind"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError)])
def test_a_wrong_timeout_is_refused(start: MakeHandler, timeout: Any, kind: type[Exception]) -> None:
    """Before anything is done."""
    with pytest.raises(kind, match="timeout"):
        start().flush(timeout)


def test_flush_from_the_callback_does_not_wait_for_itself(start: MakeHandler, logger: logging.Logger) -> None:
    """It runs on the thread that delivers."""
    answers: list[bool] = []
    handler = start(on_rejected=lambda rejected: answers.append(handler.flush()))
    logger.info("")
    in_thread(handler.close)
    assert answers == [True]


def test_flush_does_not_wait_for_what_comes_later(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """Four threads that log without end keep nobody from flushing."""
    handler = start()
    ended = threading.Event()

    def log(name: str) -> None:
        for number in itertools.count():
            if ended.is_set():
                break
            logger.info("%s %d", name, number)
            ended.wait(0.0005)

    threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            logger.info("mine %d", number)
            assert handler.flush(20)
            assert f"mine {number}" in stored(service)
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_flush_twice_and_from_many_threads(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """Whoever calls gets an answer."""
    handler = start(send_interval=60)
    answers: list[bool] = []

    def work(number: int) -> None:
        logger.info("%d", number)
        answers.extend([handler.flush(), handler.flush()])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [True] * 16
    assert Counter(stored(service)) == Counter(numbered(8))


def test_a_mark_is_not_reached_by_overflow_behind_it(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """Flush says True only when what it waits for is delivered, however much is dropped meanwhile."""
    handler = start(max_queue_size=2_000, send_interval=0)
    answers: list[bool] = []
    hold = Hold()
    service.inject(hold)
    logger.info("first")
    handler.flush(0)
    assert hold.entered.wait(10)
    flusher = threading.Thread(target=lambda: answers.append(handler.flush(20)))
    flusher.start()
    for message in numbered(100):
        logger.info(message)
    handler.statistics()
    flusher.join(0.3)
    assert answers == []
    hold.release.set()
    flusher.join(20)
    assert answers == [True]


def test_close_is_idempotent_and_a_later_record_starts_again(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """As with FileHandler; the ledger goes on."""
    handler = start()
    for number in range(3):
        logger.info("%d", number)
        handler.close()
        handler.close()
        assert stored(service) == numbered(number + 1)
    logger.info("3")
    assert service.wait_for(lambda: stored(service) == numbered(4))
    assert handler.flush()
    assert handler.statistics().accepted == handler.statistics().delivered == 4


def test_close_drops_what_it_cannot_deliver_and_says_so(
    service: StrictService, start: MakeHandler, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within its time, in one line on stderr, and counted."""
    hang = Hang()
    service.inject(hang)
    handler = start(shutdown_timeout=0.2, send_interval=60)
    for message in numbered(3):
        logger.info(message)
    began = time.monotonic()
    handler.close()
    assert time.monotonic() - began < 8
    (line,) = capsys.readouterr().err.splitlines()
    assert "3 events" in line
    assert "group/stream" in line
    assert handler.statistics().dropped_by_reason == {"closed": 3}
    hang.release()


def test_every_snapshot_balances_while_threads_log(
    service: StrictService, start: MakeHandler, logger: logging.Logger
) -> None:
    """Accepted is the sum of everything else, at any moment; and it never falls."""
    handler = start(max_queue_size=20_000, send_interval=0, max_batch_count=50)
    service.inject(UNAVAILABLE, times=3, skip=2)
    threads = [threading.Thread(target=lambda: [logger.info("x") for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    accepted = 0
    while any(thread.is_alive() for thread in threads):
        statistics = handler.statistics()
        check_identity(statistics)
        assert statistics.accepted >= accepted
        accepted = statistics.accepted
    assert handler.flush()
    statistics = handler.statistics()
    check_identity(statistics)
    assert (statistics.accepted, statistics.pending) == (4000, 0)
    assert len(stored(service)) == statistics.delivered


# -- the log call


class Hostile:
    """An object that cannot be printed."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def circular() -> dict[str, object]:
    """A mapping that contains itself."""
    mapping: dict[str, object] = {"a": 1}
    mapping["self"] = mapping
    return mapping


@pytest.mark.parametrize(
    ("message", "arguments", "expected"),
    [
        ("%d", ("x",), None),
        ("%s %s", ("x",), None),
        ("%s", (Hostile(),), None),
        (Hostile(), (), None),
        ({"bad": Hostile()}, (), None),
        ("\ud800 %s", ("\udfff",), r"\ud800 \udfff"),
        ("nul \x00", (), "nul \x00"),
        (circular(), (), {"a": 1, "self": "<circular>"}),
        ({"x": float("nan"), 1: float("-inf")}, (), {"x": "nan", "1": "-inf"}),
        ({"\ud800": {1, 2}}, (), {r"\ud800": "{1, 2}"}),
    ],
    ids=itertools.count(),
)
def test_a_bad_record_never_raises_into_the_application(
    service: StrictService,
    start: MakeHandler,
    logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    message: Any,
    arguments: tuple[object, ...],
    expected: str | Mapping[str, object] | None,
) -> None:
    """It is delivered if it can be, else reported as logging does; and the next one is delivered in any case."""
    handler = start()
    logger.info(message, *arguments)
    reported = capsys.readouterr().err
    logger.info("next")
    assert handler.flush()
    *bad, good = stored(service)
    assert good == "next"
    assert ("--- Logging error ---" in reported) == (expected is None)
    if isinstance(expected, str):
        assert bad == [expected]
    elif expected is not None:
        assert [json.loads(text.replace(r"\ud800", r"\\ud800")) for text in bad] == [expected]
    assert handler.statistics().accepted == 1 + len(bad)


def broken(*_: object) -> str:
    """A formatter's or filter's function that raises."""
    raise RuntimeError("broken by the application")


@pytest.mark.parametrize("part", ["formatter", "filter", "missing field", "time"])
def test_what_the_application_adds_may_be_broken(
    service: StrictService, start: MakeHandler, logger: logging.Logger, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    """A formatter or filter that raises, a field that is not there, a time that is none: the application goes on."""
    handler = start()
    if part == "formatter":
        handler.formatter = logging.Formatter()
        handler.formatter.format = broken  # type: ignore[method-assign]
    elif part == "filter":
        handler.addFilter(broken)
    elif part == "missing field":
        handler.setFormatter(logging.Formatter("%(request_id)s"))
    if part == "time":
        log_at(logger, "bad", float("nan"))
    else:
        logger.info("bad")
    assert "--- Logging error ---" in capsys.readouterr().err
    handler.setFormatter(None)
    handler.filters.clear()
    logger.info("next")
    assert handler.flush()
    assert stored(service) == ["next"]


@pytest.mark.parametrize("stderr", [None, "closed"])
def test_a_closed_stderr_is_no_error(
    service: StrictService,
    start: MakeHandler,
    logger: logging.Logger,
    monkeypatch: pytest.MonkeyPatch,
    stderr: str | None,
) -> None:
    """Neither for a bad record nor for what close has to say."""
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if stderr else None)
    service.inject(UNAVAILABLE, times=None)
    handler = start(shutdown_timeout=0)
    logger.info("%d", "x")
    logger.info("lost")
    handler.close()
    assert handler.statistics().dropped == 1


@pytest.mark.parametrize("message", ["text", "", "x" * 10_000], ids=["text", "empty", "long"])
@pytest.mark.parametrize("overflow", ["drop_oldest", "block"])
def test_a_record_may_be_logged_while_the_same_thread_is_in_the_ledger(
    start: MakeHandler, logger: logging.Logger, message: str, overflow: str
) -> None:
    """A signal handler, or a destructor, interrupts the code that holds the lock; it must not wait for it."""
    handler = start(overflow=overflow, send_interval=60)
    logger.info("starts the thread")
    assert handler.flush()

    def interrupted() -> None:
        with handler.worker.driver.ledger:
            logger.info(message)

    in_thread(interrupted)
    assert handler.flush()
    assert handler.statistics().accepted == 2


class Interrupted(list[Any]):
    """An intake whose next look is followed by a whole cycle of the worker, as if the looking thread had been slow."""

    def __init__(self, cycle: Callable[[], object]) -> None:
        super().__init__()
        self.cycle: Callable[[], object] | None = cycle

    def __len__(self) -> int:
        size = super().__len__()
        if size and self.cycle is not None and threading.current_thread() is threading.main_thread():
            cycle, self.cycle = self.cycle, None
            cycle()
        return size


@pytest.mark.parametrize("closed", [False, True])
def test_a_thread_that_is_slow_to_log_is_not_forgotten(
    service: StrictService, start: MakeHandler, logger: logging.Logger, closed: bool
) -> None:
    """It saw another's event waiting, and by the time that it adds its own, the worker sleeps or has ended."""
    handler = start()
    logger.info("first")
    assert handler.flush()

    def cycle() -> None:
        if closed:
            handler.close()
        assert handler.flush()
        worker = handler.worker
        assert service.wait_for(lambda: worker.thread.wakes_at == float("inf") or worker.thread.running is None)

    buffer = handler.worker._buffer
    other = threading.Thread(target=logger.info, args=("other",))
    buffer.intake = Interrupted(cycle)
    other.start()
    other.join()
    logger.info("slow")
    assert service.wait_for(lambda: stored(service) == ["first", "other", "slow"], timeout=5)


@pytest.mark.parametrize(
    "arguments",
    [{name: threading.TIMEOUT_MAX} for name in ("send_interval", "flush_timeout", "shutdown_timeout", "block_timeout")],
    ids=lambda arguments: next(iter(arguments)),
)
def test_an_endless_time_is_no_error(
    service: StrictService, start: MakeHandler, logger: logging.Logger, arguments: dict[str, float]
) -> None:
    """The longest that an argument may be is not longer than the system can wait for."""
    handler = start(**{"overflow": "block", "max_queue_size": 1000, "send_interval": 0} | arguments)
    for message in numbered(10):
        logger.info(message)
        assert handler.flush()
    assert stored(service) == numbered(10)
    handler.close()


def test_endless_back_off_is_no_error(service: StrictService, start: MakeHandler, logger: logging.Logger) -> None:
    """Closing still tries a last time."""
    service.inject(UNAVAILABLE)
    handler = start(retry={"base": threading.TIMEOUT_MAX, "max_delay": threading.TIMEOUT_MAX}, shutdown_timeout=10)
    logger.info("hello")
    assert not handler.flush(0.3)
    handler.close()
    assert stored(service) == ["hello"]


# -- what delivery itself logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger at DEBUG, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.setLevel(logging.DEBUG)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_delivery_does_not_feed_itself(service: StrictService, make_handler: MakeHandler, root: logging.Logger) -> None:
    """What botocore and urllib3 log about delivery is not delivered; what they log about the application's calls is."""
    handler = make_handler(send_interval=0)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    client = service.client()
    root.addHandler(handler)
    root.info("hello")
    assert handler.flush()
    assert stored(service) == ["root: hello"]
    client.describe_log_groups()
    assert handler.flush()
    messages = stored(service)
    assert any(text.startswith("botocore") and "DescribeLogGroups" in text for text in messages)
    assert any(text.startswith("urllib3") for text in messages)
    assert not any(PUT in text for text in messages if not text.startswith("botocore.hooks"))
    assert handler.flush()
    assert stored(service) == messages


def test_what_the_handler_says_is_not_delivered(
    service: StrictService, make_handler: MakeHandler, root: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own warnings are for the other handlers."""
    service.inject(UNAVAILABLE)
    handler = make_handler(retry=QUICK)
    root.addHandler(handler)
    logging.getLogger("app").info("hello")
    assert handler.flush()
    assert stored(service) == ["hello"]
    assert any(record.name == "cloudwatch_handler" for record in caplog.records)


# -- clocks and warnings


@pytest.mark.parametrize("tick", [False, True])
def test_a_frozen_clock_does_not_stop_delivery(
    service: StrictService, start: MakeHandler, logger: logging.Logger, tick: bool
) -> None:
    """Tests of the application freeze time; its records go on, without a flush, and through a failure."""
    service.inject(UNAVAILABLE, times=2)
    with freezegun.freeze_time(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), tick=tick):
        handler = start()
        logger.info("hello")
        assert service.wait_for(lambda: stored(service) == ["hello"], timeout=5)
        logger.info("again")
        assert handler.flush(20)
        assert stored(service) == ["hello", "again"]


def test_a_clock_that_is_set_back_does_not_stop_delivery(
    service: StrictService, start: MakeHandler, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back: later records carry earlier times, and all are delivered without waiting for it."""
    handler = start()
    logger.info("before")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    if hasattr(time, "time_ns"):
        real_ns = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() - 3_600_000_000_000)
    logger.info("after")
    assert handler.flush(20)
    assert sorted(stored(service)) == ["after", "before"]


PROGRAM = """
import logging, sys
from cloudwatch_handler import CloudWatchHandler

logging.captureWarnings(True)
root = logging.getLogger()
root.setLevel(logging.DEBUG)
handler = CloudWatchHandler("group", "stream", shutdown_timeout=20)
root.addHandler(handler)
for number in range(300):
    root.info("%d", number)
root.info("%d", "x")
"""


@pytest.mark.parametrize("stderr", ["open", "closed"])
def test_warnings_as_errors_and_a_closed_stderr_change_nothing(service: StrictService, stderr: str) -> None:
    """A process with ``-W error``, captured warnings and the root logger at DEBUG delivers everything at its end."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": service.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    if stderr == "closed":
        command = ["sh", "-c", 'exec "$0" "$@" 2>&-', *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert stored(service) == numbered(300)
    errors = [line for line in done.stderr.splitlines() if line[:1].strip() and "Error:" in line]
    assert errors == ([] if stderr == "closed" else ["TypeError: %d format: a real number is required, not str"])


def test_a_handler_without_a_client_of_its_own_finds_the_service(
    service: StrictService, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """endpoint_url and region_name are arguments, and a callable may make the client."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made: list[int] = []
    for arguments in (
        {"endpoint_url": service.url, "region_name": "us-east-1"},
        {"boto3_client": lambda: made.append(1) or service.client()},
    ):
        handler = CloudWatchHandler("group", "stream", **arguments)
        logger.addHandler(handler)
        logger.info("hello")
        assert handler.flush()
        handler.close()
        logger.removeHandler(handler)
    assert stored(service) == ["hello", "hello"]
    assert made == [1]
