"""The thread, the waits and the locks: nothing ends delivery for good, and nobody waits for what cannot come."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloudwatch_handler import CloudWatchHandler, Statistics
from cloudwatch_handler.event import Batch
from cloudwatch_handler.waiting import monotonic
from tests.scripts import run
from tests.strict_service import Error, StrictService, closed_port

Start = Callable[..., CloudWatchHandler]


@pytest.fixture
def service() -> Iterator[StrictService]:
    """A service with the stream ``group/stream``."""
    with StrictService() as service:
        service.create_log_stream("group", "stream")
        yield service
        assert service.violations == []


@pytest.fixture
def log() -> logging.Logger:
    """A logger of its own."""
    return logging.Logger("worker", level=1)


@pytest.fixture
def start(service: StrictService, log: logging.Logger) -> Iterator[Start]:
    """Makes handlers, adds them to the logger, and closes them in the end."""
    made: list[CloudWatchHandler] = []

    def make(**arguments: Any) -> CloudWatchHandler:
        defaults = {"boto3_client": service.client(), "send_interval": 0.02, "shutdown_timeout": 1.0}
        handler = CloudWatchHandler("group", "stream", **defaults | arguments)
        log.addHandler(handler)
        made.append(handler)
        return handler

    yield make
    for handler in made:
        handler.close()


@contextmanager
def raising(exception: type[BaseException]) -> Iterator[None]:
    """SIGUSR1 raises, as Ctrl-C and a task's time limit do."""

    def fail(*_: object) -> None:
        raise exception

    previous = signal.signal(signal.SIGUSR1, fail)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


def arrives(service: StrictService, *messages: str) -> bool:
    """Whether these are all that is stored, soon."""
    return bool(service.wait_for(lambda: service.messages("group", "stream") == [*messages], timeout=10))


# -- the thread -------------------------------------------------------------------------------------------------------


def test_a_callback_that_exits_does_not_end_delivery(
    service: StrictService, start: Start, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """``sys.exit()`` on the thread that delivers would only end that thread."""
    handler = start(on_rejected=lambda _: sys.exit(3))
    log.info("")
    assert handler.flush()
    log.info("after")
    assert arrives(service, "after")
    assert "unexpected SystemExit: 3; on_rejected raised it" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_is_replaced(service: StrictService, start: Start, log: logging.Logger) -> None:
    """Gevent kills greenlets with an exception that is no Exception; the next record starts another."""

    class Kill(BaseException):
        pass

    handler = start()
    worker = handler.worker
    sleep = worker.thread._sleep

    def die() -> None:
        worker.thread._sleep = sleep  # type: ignore[method-assign]
        raise Kill

    log.info("first")
    assert handler.flush()
    worker.thread._sleep = die  # type: ignore[method-assign]
    thread = worker.thread.running
    assert thread is not None
    log.info("second")
    thread.join(10)
    assert worker.thread.running is None
    log.info("third")
    assert arrives(service, "first", "second", "third")


def test_a_thread_whose_start_was_interrupted_is_started_again(
    service: StrictService, start: Start, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the first log call leaves no thread that never ran in its place."""
    start()

    def interrupt(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            log.info("first")
    log.info("second")
    assert arrives(service, "first", "second")


def test_a_record_that_statistics_took_from_the_intake_is_not_forgotten(
    service: StrictService, start: Start, log: logging.Logger
) -> None:
    """The log call looks whether to wake the thread after another has emptied the intake; the thread sleeps."""
    handler = start()
    log.info("first")
    assert handler.flush()
    worker = handler.worker
    assert service.wait_for(lambda: worker.thread.wakes_at == float("inf"), timeout=10)

    class Emptied(list[Any]):
        def append(self, event: Any) -> None:
            super().append(event)
            other = threading.Thread(target=handler.statistics)
            other.start()
            other.join()

    worker._buffer.intake = Emptied()
    log.info("second")
    assert arrives(service, "first", "second")


def test_a_batch_whose_attempt_was_broken_off_is_taken_again(
    service: StrictService, start: Start, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a flush that delivers itself, at any point, leaves nothing under way for ever."""
    handler = start()
    worker = handler.worker
    monkeypatch.setattr(worker.thread, "start", lambda: None)
    log.info("first")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker.driver, "_deliver", interrupt)
        with pytest.raises(KeyboardInterrupt):
            handler.flush(5)
    assert handler.flush(20)
    assert service.messages("group", "stream") == ["first"]


# -- waits ------------------------------------------------------------------------------------------------------------


def test_statistics_in_a_signal_handler_do_not_wait_for_what_it_has_interrupted(
    start: Start, log: logging.Logger
) -> None:
    """The books are being written to, and will be until it returns: it gets the last snapshot."""
    handler = start(send_interval=60)
    log.info("one")
    before = handler.statistics()
    log.info("two")
    seen: list[Statistics] = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: seen.append(handler.statistics()))
    try:
        with handler.worker.driver.ledger:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [before]
    assert handler.statistics().accepted == 2


def test_close_does_not_wait_for_a_dict_config_in_another_thread(start: Start, log: logging.Logger) -> None:
    """That holds logging's lock, which deregistering a handler takes."""
    handler = start(shutdown_timeout=0.5)
    held, enough = threading.Event(), threading.Event()

    def configure() -> None:
        with logging._lock:  # type: ignore[attr-defined]
            held.set()
            enough.wait(20)

    other = threading.Thread(target=configure)
    other.start()
    assert held.wait(10)
    began = monotonic()
    try:
        handler.close()
        assert monotonic() - began < 10
    finally:
        enough.set()
        other.join()


def test_recover_leaves_a_service_that_is_down_alone(
    service: StrictService, start: Start, log: logging.Logger, tmp_path: Path
) -> None:
    """At most one request for each step of the back-off, for as long as it waits."""
    service.inject(Error("ServiceUnavailableException", 503), "PutLogEvents", times=None)
    retry = {"base": 0.5, "factor": 1.0, "max_delay": 0.5}
    handler = start(spool_directory=tmp_path / "spool", retry=retry, sequence_token="none")
    log.info("one")
    assert not handler.recover(1.5)
    assert 1 <= handler.statistics().put_requests <= 20


def test_flush_returns_when_what_was_rejected_is_told(start: Start, log: logging.Logger) -> None:
    """Not between the entry in the ledger and the call of ``on_rejected``."""
    told: list[str] = []
    began, go_on = threading.Event(), threading.Event()

    def tell(events: Any) -> None:
        began.set()
        go_on.wait(10)
        told.append(events.reason)

    handler = start(on_rejected=tell)
    log.info("")
    assert began.wait(10)
    assert not handler.flush(0.1)
    go_on.set()
    assert handler.flush(20)
    assert told == ["empty"]


def test_a_record_that_can_never_fit_does_not_wait_for_room(start: Start, log: logging.Logger) -> None:
    """``block`` waits for room only where there can be enough."""
    handler = start(overflow="block", block_timeout=30, max_queue_size=1000)
    began = monotonic()
    log.info("x" * 2000)
    assert monotonic() - began < 10
    assert handler.statistics().dropped_by_reason == {"overflow": 1}


# -- what comes in at the wrong moment --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["drain", "_place", "open_lane", "extend"])
def test_an_exception_in_the_middle_of_a_log_call_loses_nothing(
    service: StrictService, start: Start, log: logging.Logger, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A signal handler that raises, as for a task's time limit: the record is there once, and the ledger balances."""

    class TimeLimit(Exception):
        pass

    handler = start(send_interval=60)
    worker = handler.worker
    monkeypatch.setattr(worker.thread, "start", lambda: None)  # nobody else empties the intake
    owner: Any = {"open_lane": worker._buffer.lanes, "extend": Batch}.get(place, worker._buffer)
    real = getattr(owner, place)

    def interrupted(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        monkeypatch.setattr(owner, place, real)
        signal.raise_signal(signal.SIGUSR1)
        return result

    log.info("first")
    monkeypatch.setattr(owner, place, interrupted)
    with raising(TimeLimit), pytest.raises(TimeLimit):
        handler.statistics()
    counts = handler.statistics()
    assert (counts.accepted, counts.pending) == (1, 1)
    log.info("second")
    assert handler.flush(20)
    counts = handler.statistics()
    assert (counts.accepted, counts.delivered) == (2, 2)
    assert service.messages("group", "stream") == ["first", "second"]


def test_what_is_read_back_while_the_handler_is_closed_stays_on_disk(
    service: StrictService, start: Start, log: logging.Logger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Closed means that the thread ends, and that the next handler finds what was left."""
    outage = service.inject(Error("ServiceUnavailableException", 503), "PutLogEvents", times=None)
    handler = start(spool_directory=tmp_path / "spool", shutdown_timeout=0.1)
    worker = handler.worker
    log.info("first")
    handler.close()
    assert handler.statistics().spooled == 1
    was_read, is_closed = threading.Event(), threading.Event()
    assert worker._spool is not None
    read = worker._spool.read

    def read_slowly(*arguments: Any) -> bool:
        result = read(*arguments)
        was_read.set()
        is_closed.wait(10)
        return result

    monkeypatch.setattr(worker._spool, "read", read_slowly)
    log.info("second")
    thread = worker.thread.running
    assert thread is not None
    assert was_read.wait(10)
    handler.close()
    is_closed.set()
    thread.join(10)
    assert not thread.is_alive()
    counts = handler.statistics()
    assert (counts.pending, counts.spooled, counts.accepted) == (0, 2, 2)
    outage.remove()
    assert start(spool_directory=tmp_path / "spool").recover(10)
    assert service.messages("group", "stream") == ["first", "second"]


AT_THE_END = """
import logging, logging.handlers
from cloudwatch_handler import CloudWatchHandler
buffering = logging.handlers.MemoryHandler(1000)
handler = CloudWatchHandler("group", "stream")
buffering.setTarget(handler)
log = logging.getLogger("application")
log.addHandler(handler)
log.warning("first")
log.removeHandler(handler)
log.addHandler(buffering)
log.warning("second")
log.warning("third")
"""


def test_records_after_the_close_at_the_end_of_the_process_are_delivered(
    service: StrictService, tmp_path: Path
) -> None:
    """logging.shutdown flushes a MemoryHandler, made earlier, into a handler that is closed already."""
    ended = run(tmp_path, service.url, AT_THE_END)
    assert (ended.status, ended.err) == (0, "")
    assert arrives(service, "first", "second", "third")


def test_records_after_the_close_that_cannot_be_delivered_are_told_once(tmp_path: Path) -> None:
    """Each is tried for what is left of shutdown_timeout; then one line is enough."""
    with closed_port() as url:
        script = AT_THE_END.replace('"stream")', '"stream", shutdown_timeout=1)') + 'print("ending", flush=True)\n'
        ended = run(tmp_path, url, script)
    assert ended.status == 0
    assert 1 <= ended.err.count("events undelivered") <= 2
    assert ended.seconds < 5


INTERRUPTIONS = """
import random
class Alarm(BaseException):
    pass

def alarm(*_):
    raise Alarm

handler = listen(send_interval=0.01)
signal.signal(signal.SIGALRM, alarm)
log.info("0")
assert handler.flush(20)
logged, number, until = 1, 0, time.monotonic() + 2

def burst():
    global logged, number
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.002))
    while time.monotonic() < until:  # where it strikes in a destructor, Python swallows it
        number += 1
        log.info("%d", number)
        logged += 1
    signal.setitimer(signal.ITIMER_REAL, 0)

while time.monotonic() < until:
    try:
        burst()
    except Alarm:
        pass
assert handler.flush(20)
counts = handler.statistics()
assert counts.pending == 0, counts
assert counts.accepted == counts.delivered, counts
assert logged <= counts.accepted, (logged, counts)
print(logged, counts.delivered)
"""


def test_exceptions_that_signal_handlers_raise_in_log_calls_break_nothing(
    service: StrictService, tmp_path: Path
) -> None:
    """Hundreds of them, at any instruction: no lock stays locked, no record is lost or doubled, the ledger balances."""
    ended = run(tmp_path, service.url, INTERRUPTIONS)
    assert ended.status == 0, ended.err
    _, delivered = map(int, ended.out.split())
    messages = service.messages("app", "main")
    assert len(messages) == delivered
    assert len(set(messages)) == delivered
