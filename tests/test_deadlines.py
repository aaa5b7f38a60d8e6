"""flush and close keep their deadlines: whatever the network does, wherever they are called, for one stream and 300."""

from __future__ import annotations

import logging
import signal
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from textwrap import dedent

import boto3
import pytest

from cloudwatch_handler import CloudWatchHandler, RejectedEvents
from tests.scripts import run
from tests.strict_service import Hold, StrictService, black_hole, closed_port

#: Seconds that flush and shutdown may take, and seconds by which a busy machine may be late. Much less than the 5 s and
#: 10 s that one call of the worker may hang, and the 60 s of botocore.
BOUND = 0.1
SLACK = 4.0


@contextmanager
def slow() -> Iterator[str]:
    """Every answer takes longer than there is time."""
    with StrictService(latency=0.7) as service:
        yield service.url


def swallows_connections() -> AbstractContextManager[str]:
    """Connections are not even made."""
    return black_hole()


def swallows_requests() -> AbstractContextManager[str]:
    """Connections are made, and requests never answered."""
    return black_hole(connects=True)


@contextmanager
def drips() -> Iterator[str]:
    """Answers come a byte at a time, each before any time-out of a socket; they would take a minute."""
    enough = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n")
            with suppress(OSError):
                while not enough.wait(0.1):
                    self.request.sendall(b" ")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        server.daemon_threads, server.block_on_close = True, False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            enough.set()
            server.shutdown()
            thread.join()


@pytest.fixture(params=[closed_port, swallows_connections, swallows_requests, slow, drips])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A service that is no help."""
    with request.param() as url:
        yield url


@pytest.fixture(params=[1, 300])
def streams(request: pytest.FixtureRequest) -> int:
    """How many streams wait to be delivered."""
    return int(request.param)


@pytest.fixture
def make_handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CloudWatchHandler]]:
    """Makes handlers with short deadlines; in the end they are closed, on the main thread."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    handlers = []

    def make(url: str | None, streams: int = 1, **arguments: object) -> CloudWatchHandler:
        settings = {"send_interval": 0, "flush_timeout": BOUND, "shutdown_timeout": BOUND, "endpoint_url": url}
        handler = CloudWatchHandler("app", "{logger_name}", **settings | arguments)  # type: ignore[arg-type]
        handlers.append(handler)
        log(handler, *(f"stream-{number}" for number in range(streams)))
        return handler

    yield make
    for handler in handlers:
        handler.close()


def log(handler: CloudWatchHandler, *names: str, message: str = "message") -> None:
    """One record for each stream."""
    for name in names:
        handler.handle(logging.LogRecord(name, logging.INFO, __file__, 1, message, None, None))


@contextmanager
def bound(seconds: float = BOUND) -> Iterator[None]:
    """What is inside is done in time."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds + SLACK, f"took {took:.2f} s, not {seconds} s"


@contextmanager
def records_arriving(handler: CloudWatchHandler) -> Iterator[None]:
    """Another thread logs all the time."""
    enough = threading.Event()

    def chatter() -> None:
        while not enough.wait(0.001):
            log(handler, "chatter")

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def flush_and_close(handler: CloudWatchHandler) -> None:
    """Each in its time, and again."""
    with bound():
        handler.flush(BOUND)
    with bound():
        handler.flush()
    with bound():
        handler.close()
    log(handler, "later")
    with bound():
        handler.close()
    with bound():
        handler.close()


Make = Callable[..., CloudWatchHandler]


def test_on_any_thread(make_handler: Make, url: str, streams: int) -> None:
    """In the ordinary place; what is left is dropped, and counted."""
    handler = make_handler(url, streams)
    flush_and_close(handler)
    statistics = handler.statistics()
    assert statistics.pending == 0
    assert statistics.accepted == streams + 1 == statistics.delivered + statistics.dropped


def test_while_records_arrive(make_handler: Make, url: str, streams: int) -> None:
    """What comes in meanwhile prolongs nothing."""
    handler = make_handler(url, streams)
    with records_arriving(handler):
        flush_and_close(handler)


def test_while_this_thread_holds_the_lock_of_logging(make_handler: Make, url: str, streams: int) -> None:
    """As inside dictConfig: close hands over to the thread, and drops nothing; flush makes calls that end in time."""
    handler = make_handler(url, streams)
    with logging._lock:  # type: ignore[attr-defined]
        flush_and_close(handler)
        with bound(0):
            handler.close()
        assert handler.statistics().dropped == 0


def test_while_another_thread_holds_the_lock_of_logging(make_handler: Make, url: str, streams: int) -> None:
    """While another thread is inside dictConfig, and the worker may wait for that."""
    held, enough = threading.Event(), threading.Event()
    handler = make_handler(url, streams, send_interval=60)

    def configure() -> None:
        with logging._lock:  # type: ignore[attr-defined]
            held.set()
            enough.wait(20)

    thread = threading.Thread(target=configure)
    thread.start()
    held.wait()
    try:
        with bound():
            assert not handler.flush(BOUND)
        with bound():
            handler.worker.close()  # logging.Handler.close() waits for that lock itself
    finally:
        enough.set()
        thread.join()


@contextmanager
def signal_handler(react: Callable[[], object]) -> Iterator[None]:
    """SIGUSR1 is reacted to."""
    previous = signal.signal(signal.SIGUSR1, lambda *_: react())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("interrupted", ["nothing", "ledger", "starting", "closing", "logging"])
def test_in_a_signal_handler(make_handler: Make, url: str, interrupted: str) -> None:
    """Also one that interrupts the very code that holds a lock, which is not given back before the handler returns."""
    handler = make_handler(url)
    worker = handler.worker
    held = {"nothing": nullcontext(), "logging": logging._lock}  # type: ignore[attr-defined]
    held |= {"ledger": worker.driver.ledger, "starting": worker.thread._starting, "closing": worker._closing}
    lock = held[interrupted]

    def react() -> None:
        log(handler, "signal")
        log(handler, "signal", message="")
        with bound():
            handler.flush(BOUND)
        with bound():
            handler.close()

    with signal_handler(react), lock:
        signal.raise_signal(signal.SIGUSR1)


def test_in_a_signal_handler_that_interrupts_flush(make_handler: Make, url: str) -> None:
    """A flush inside of a flush, on the same thread: both end in time."""
    handler = make_handler(url)
    reactions = []

    def react() -> None:
        reactions.append(handler.flush(BOUND))
        handler.close()

    with signal_handler(react), bound():
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(BOUND / 2, signal.pthread_kill, (main, signal.SIGUSR1)).start()
        handler.flush(BOUND)
        while not reactions:
            time.sleep(0.01)


def test_in_a_signal_handler_that_interrupts_log_calls(make_handler: Make, url: str) -> None:
    """Wherever in a log call a signal comes, what its handler does ends in time, and the books balance."""
    handler = make_handler(url)
    interruptions, reactions, records = 50, 0, 0
    calm = threading.Event()

    def react() -> None:
        nonlocal reactions
        log(handler, "signal")
        with bound():
            handler.flush(0.001)
        reactions += 1
        calm.set()

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None
        for _ in range(interruptions):
            calm.clear()
            signal.pthread_kill(main, signal.SIGUSR1)
            calm.wait(10)

    with signal_handler(react):
        thread = threading.Thread(target=interrupt)
        thread.start()
        while reactions < interruptions:
            log(handler, "main", message="" if records % 7 == 0 else "x" * 9_000)
            records += 1
        thread.join()
    statistics = handler.statistics()
    assert statistics.accepted == 1 + records + reactions
    assert statistics.accepted == statistics.delivered + statistics.rejected + statistics.dropped + statistics.pending


def test_on_the_workers_own_thread(make_handler: Make, url: str, streams: int) -> None:
    """From on_rejected: nothing can be waited for there, so nothing is waited for, and nothing is dropped."""
    called = threading.Event()
    problems: list[object] = []

    def on_rejected(_: RejectedEvents) -> None:
        try:
            with bound(0):
                assert not handler.flush(5)
                handler.close()
            assert handler.statistics().dropped == 0
        except BaseException as error:
            problems.append(error)
        called.set()

    handler = make_handler(None, 0, endpoint_url=url, on_rejected=on_rejected, send_interval=60)
    log(handler, *(f"stream-{number}" for number in range(streams)))
    log(handler, "stream-0", message="")
    assert called.wait(10)
    assert problems == []
    flush_and_close(handler)


def test_concurrently(make_handler: Make, url: str, streams: int) -> None:
    """Eight threads flush and close at the same time; each event left is counted once."""
    handler = make_handler(url, streams)
    problems: list[object] = []

    def flush_and_close_here() -> None:
        try:
            with bound():
                handler.flush(BOUND)
            with bound():
                handler.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=flush_and_close_here) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    statistics = handler.statistics()
    assert statistics.accepted == streams == statistics.delivered + statistics.dropped


@pytest.mark.parametrize("locked", [False, True])
def test_with_a_client_of_the_users(make_handler: Make, url: str, streams: int, locked: bool) -> None:
    """Its time-outs are botocore's 60 s, and its retries botocore's too; also while logging's lock is held."""
    client = boto3.client("logs", "us-east-1", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b")
    handler = make_handler(None, streams, boto3_client=client)
    with logging._lock if locked else nullcontext():  # type: ignore[attr-defined]
        flush_and_close(handler)


def test_in_a_forked_child(tmp_path: Path, url: str) -> None:
    """A child that neither has its parent's thread nor its connections."""
    script = f"""
    handler = listen(send_interval=0, shutdown_timeout={BOUND})
    log.info("parent")
    child = os.fork()
    log.info("child" if child == 0 else "parent")
    for call in (lambda: handler.flush({BOUND}), handler.close, handler.close):
        began = time.monotonic()
        call()
        took = time.monotonic() - began
        assert took < {BOUND + SLACK}, (call, took)
    if child:
        assert os.waitpid(child, 0)[1] == 0
    print("ending", flush=True)
    """
    ended = run(tmp_path, url, dedent(script))

    assert ended.status == 0, ended.err
    assert ended.seconds < BOUND + SLACK


# -- where the network is fine ---------------------------------------------------------------------------------------


def test_flush_delivers_while_this_thread_holds_the_lock_of_logging(tmp_path: Path, service: StrictService) -> None:
    """With botocore's loggers cold, flush inside dictConfig does its work."""
    script = """
    handler = listen(send_interval=60)
    with logging._lock:
        log.info("message")
        assert handler.flush(20)
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", "main") == ["message"]


def test_flush_waits_for_a_call_under_way_while_this_thread_holds_the_lock_of_logging(
    make_handler: Make, service: StrictService
) -> None:
    """The worker is in a call that needs no lock any more: flush waits for it, up to its own timeout."""
    handler = make_handler(service.url)
    assert handler.flush(20)
    hold = Hold()
    service.inject(hold)
    log(handler, "stream-0")
    assert hold.entered.wait(5)
    threading.Timer(0.5, hold.release.set).start()
    with logging._lock:  # type: ignore[attr-defined]
        assert handler.flush(20)


def test_records_of_a_close_on_the_workers_own_thread_are_delivered(make_handler: Make, service: StrictService) -> None:
    """on_rejected closes the handler; what waits then, and what comes later, arrives all the same."""
    called = threading.Event()

    def on_rejected(_: RejectedEvents) -> None:
        handler.close()
        called.set()

    handler = make_handler(None, 0, endpoint_url=service.url, on_rejected=on_rejected, send_interval=60)
    log(handler, "stream-0", "stream-0")
    log(handler, "stream-0", message="")
    assert called.wait(10)
    log(handler, "stream-0")
    assert handler.flush(20)
    assert len(service.messages("app", "stream-0")) == 3


def test_a_timeout_of_zero_only_asks(make_handler: Make, service: StrictService) -> None:
    """It says whether all is settled, and makes no call on this thread."""
    hold = Hold()
    service.inject(hold)
    handler = make_handler(service.url)
    assert hold.entered.wait(10)
    assert not handler.flush(0)
    hold.release.set()
    assert handler.flush(20)
    assert handler.flush(0)


def test_waiting_in_an_outage_costs_next_to_nothing(make_handler: Make) -> None:
    """Whoever waits, and the thread that waits for the next attempt, do not wake each other."""
    with closed_port() as url:
        handler = make_handler(url, retry={"base": 30.0, "max_delay": 30.0})
        handler.flush(0.5)  # the imports, and the first attempt
        steps = 0
        step = handler.worker.driver.step

        def count() -> float | None:
            nonlocal steps
            steps += 1
            return step()

        handler.worker.driver.step = count  # type: ignore[method-assign]
        assert not handler.flush(1.0)
        assert steps < 20


NO_THREAD = """
import atexit

@atexit.register
def at_the_end():
    handler = listen(shutdown_timeout=1, retry={"base": 0.1, "max_delay": 0.2})
    log.info("only now")
    handler.close()
"""


def test_a_first_record_at_the_end_keeps_the_bound_though_answers_drip(tmp_path: Path) -> None:
    """Where no thread may be started, the caller makes the call, and ends it in time."""
    with drips() as url:
        script = NO_THREAD + 'print("ending", flush=True)\n'
        ended = run(tmp_path, url, script)
    assert ended.status == 0
    assert ended.seconds < 1 + SLACK + 2
    assert "closed with 1 events undelivered" in ended.err
