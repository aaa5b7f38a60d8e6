"""Durable mode from end to end: real processes, killed at any moment, and what the next one delivers."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloudwatch_handler import CloudWatchHandler
from tests.scripts import run, start, write
from tests.spools import content, files, leave_behind
from tests.strict_service import Error, Hang, StrictService, closed_port

DOWN = Error("ServiceUnavailableException", 503)
BATCH = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is going to be."""
    return tmp_path / "spool"


@contextmanager
def handler(service: StrictService, path: Path, **arguments: Any) -> Iterator[tuple[logging.Logger, CloudWatchHandler]]:
    """A logger with a durable handler of this process, closed in the end."""
    defaults = {"send_interval": 0.01, "retry": {"base": 0.02, "max_delay": 0.05}, "shutdown_timeout": 1.0}
    one = CloudWatchHandler("app", "main", boto3_client=service.client(), spool_directory=path, **defaults | arguments)
    log = logging.Logger("durable")
    log.addHandler(one)
    try:
        yield log, one
    finally:
        one.close()


def take_over(service: StrictService, path: Path) -> None:
    """The next handler on the directory delivers all that lies there, and it is empty then."""
    with handler(service, path) as (_, heir):
        assert heir.recover(30.0)
    assert files(path) == []


def messages(service: StrictService, stream: str = "main") -> list[str]:
    """What the service has of a stream."""
    return service.messages("app", stream)


def until(holds: Callable[[], bool], timeout: float = 10.0) -> None:
    """Waits for something that has no event of its own: another process's deed, or a file's end."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def check(books: Any) -> None:
    """The ledger balances."""
    assert books.accepted == books.delivered + books.rejected + books.dropped + books.spooled + books.pending
    assert min(books.spooled, books.pending) >= 0


# -- kills ------------------------------------------------------------------------------------------------------------

#: Forks one process after the other, each with a handler of its own, and kills it; prints what was acknowledged: each
#: number was sent through the pipe when its log call had returned.
KILLS = """
import boto3, random, select
path, threads, rounds = os.environ["SPOOL"], int(os.environ["THREADS"]), int(os.environ["ROUNDS"])
chance = random.Random(threads)
client = boto3.client("logs")  # not used here: each child opens connections of its own

def live(life, acks):
    listen(spool_directory=path, boto3_client=client, send_interval=0.01, max_batch_count=40, max_queue_size=60_000)
    def work(name):
        for number in range(1_000_000):
            log.info("%d.%d.%d", life, name, number)
            os.write(acks, b"%d.%d.%d " % (life, name, number))
            if number % 50 == 0:
                time.sleep(0.001)
    for name in range(1, threads):
        threading.Thread(target=work, args=(name,), daemon=True).start()
    work(0)

for life in range(rounds):
    source, acks = os.pipe()
    pid = os.fork()
    if pid == 0:
        live(life, acks)
    os.close(acks)
    select.select([source], [], [])
    kill_at = time.monotonic() + chance.uniform(0, 0.3)
    got = []
    while (left := kill_at - time.monotonic()) > 0:
        if select.select([source], [], [], left)[0]:
            got.append(os.read(source, 65536))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while chunk := os.read(source, 65536):
        got.append(chunk)
    os.close(source)
    print(b"".join(got).rpartition(b" ")[0].decode(), end=" ")
"""


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("state", ["works", "is down", "hangs"])
def test_a_kill_loses_nothing_whose_log_call_had_returned(
    tmp_path: Path, path: Path, service: StrictService, state: str, threads: int
) -> None:
    """Processes are killed one after the other at random moments; at most one batch a kill is delivered twice."""
    rounds = 8
    if state == "hangs":
        service.inject(Hang(), times=None)
    with closed_port() as closed:
        url = closed if state == "is down" else service.url
        ended = run(tmp_path, url, KILLS, SPOOL=str(path), THREADS=str(threads), ROUNDS=str(rounds))
    assert ended.status == 0, ended.err
    acknowledged = ended.out.split()
    assert len({number.split(".")[0] for number in acknowledged}) == rounds
    with StrictService() as successor:
        successor.create_log_stream("app", "main")
        take_over(successor, path)
        told = Counter(messages(service) + messages(successor))
    assert not Counter(acknowledged) - told
    assert sum(told.values()) - len(told) <= rounds * BATCH


def test_the_end_of_a_process_during_an_outage_loses_nothing(
    tmp_path: Path, path: Path, service: StrictService
) -> None:
    """It keeps its deadline, says nothing of a loss, and the next process delivers."""
    service.inject(Hang(), times=None)
    script = """
listen(spool_directory=os.environ["SPOOL"], shutdown_timeout=0.5)
for number in range(100):
    log.info("%d", number)
print("ending", flush=True)
"""
    ended = run(tmp_path, service.url, script, SPOOL=str(path))
    assert (ended.status, ended.err) == (0, "")
    assert ended.seconds < 0.5 + 4  # a call may hang for 10
    with StrictService() as successor:
        take_over(successor, path)
        assert messages(successor) == [str(number) for number in range(100)]


# -- taking over ------------------------------------------------------------------------------------------------------

TEN = """
import boto3
client = boto3.client("logs")
source, gun = os.pipe()
children = []
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        os.close(gun)
        os.read(source, 1)  # until all are there
        done = listen(spool_directory=os.environ["SPOOL"], boto3_client=client).recover(20)
        os._exit(0 if done else 1)
    children.append(pid)
os.close(gun)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


def test_ten_that_start_at_once_take_over_each_segment_once(tmp_path: Path, path: Path, service: StrictService) -> None:
    """Forty segments of dead processes: every event is delivered exactly once."""
    for number in range(40):
        leave_behind(path, *[f"{number}.{line}" for line in range(25)])
    ended = run(tmp_path, service.url, TEN, SPOOL=str(path))
    assert ended.out == f"{[0] * 10}\n", ended.err
    assert sorted(messages(service, "web")) == sorted(f"{number}.{line}" for number in range(40) for line in range(25))
    assert files(path) == []


PARENT = """
handler = listen(spool_directory=os.environ["SPOOL"], shutdown_timeout=0.1)
log.info("parent 1")
pid = os.fork()
if pid == 0:
    log.info("child")
    print("child", os.getpid(), flush=True)
    sys.stdin.readline()
    sys.exit()
os.waitpid(pid, 0)
print("alone", flush=True)
sys.stdin.readline()
log.info("parent 2")
handler.flush(10)
"""


def test_the_death_of_a_parent_frees_what_it_had_while_its_child_lives(
    tmp_path: Path, path: Path, service: StrictService
) -> None:
    """The child has let go of its parent's locks; what is the child's own is left alone."""
    with closed_port() as closed, start(write(tmp_path, PARENT), closed, SPOOL=str(path)) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline().split()[1])
        with handler(service, path) as (_, early):
            assert early.recover(10)
            assert messages(service) == []
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        with handler(service, path) as (_, heir):
            assert heir.recover(10)
        assert messages(service) == ["parent 1"]
        (left,) = path.glob("*.jsonl")
        assert content(left)[0] == ["child"]
        os.kill(child, signal.SIGKILL)
        until(lambda: _try_to_take_over(service, path))
        assert messages(service) == ["parent 1", "child"]


def _try_to_take_over(service: StrictService, path: Path) -> bool:
    with handler(service, path) as (_, heir):
        heir.recover(10)
    return files(path) == []


def test_a_child_takes_nothing_from_its_parent(tmp_path: Path, path: Path, service: StrictService) -> None:
    """It ends in good order, and the parent's events are still the parent's, who goes on."""
    down = service.inject(DOWN, times=None)
    with start(write(tmp_path, PARENT), service.url, SPOOL=str(path)) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        parent.stdout.readline()
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "alone\n"
        down.remove()
        with handler(service, path) as (_, heir):
            assert heir.recover(10)
        assert set(messages(service)) == {"child", "parent 1"} or messages(service) == ["child"]
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.wait(20) == 0
    assert Counter(messages(service)) == Counter(["child", "parent 1", "parent 2"])
    assert files(path) == []


def test_a_subprocess_does_not_keep_the_lock(tmp_path: Path, path: Path, service: StrictService) -> None:
    """Another program that was started by a process which died has none of its files."""
    script = """
import subprocess
listen(spool_directory=os.environ["SPOOL"])
log.info("one")
print(subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with closed_port() as closed:
        ended = run(tmp_path, closed, script, SPOOL=str(path))
    try:
        take_over(service, path)
    finally:
        os.kill(int(ended.out), signal.SIGKILL)
    assert messages(service) == ["one"]


# -- memory and order -------------------------------------------------------------------------------------------------

FLOOD = """
import resource
from cloudwatch_handler import deadline, source
source.READ_TIMEOUT = deadline.ANSWER_TIMEOUT = 60  # however long the machine takes, the answer is not lost
def size():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
handler = listen(spool_directory=os.environ["SPOOL"], max_queue_size=8 << 20, send_interval=0.01, max_batch_count=2000)
log.info("warm")
handler.flush()
for number in range(5000):
    log.info("%0100d", number)
handler.flush()
print("flood", flush=True)
sys.stdin.readline()
before = size()
for number in range(60_000):
    log.info("%0100d", number)
print(size() - before, handler.statistics().spooled, flush=True)
sys.stdin.readline()
largest = 0
for number in range(60_000, 70_000):
    log.info("%0100d", number)
    if not number % 100:
        largest = max(largest, size())
handler.flush(60)
print(max(largest, size()) - before, handler.statistics().queue_high_water_mark, flush=True)
"""


def test_memory_keeps_its_bound_while_events_wait_on_disk_and_come_back(
    tmp_path: Path, path: Path, service: StrictService
) -> None:
    """The process grows by no more than one and a half times the bound, and everything comes, in order."""
    with start(write(tmp_path, FLOOD), service.url, SPOOL=str(path)) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "flood\n"
        hang = Hang()
        held = service.inject(hang, times=None)
        process.stdin.write("\n")
        process.stdin.flush()
        grown, spooled = map(int, process.stdout.readline().split())
        held.remove()
        hang.release()
        process.stdin.write("\n")
        process.stdin.flush()
        grown_later, high_water_mark = map(int, process.stdout.readline().split())
    assert spooled > 30_000
    assert high_water_mark <= 8 << 20
    assert max(grown, grown_later) <= 1.5 * (8 << 20)
    assert messages(service)[5001:] == [f"{number:0100d}" for number in range(70_000)]


def test_the_ledger_balances_at_every_moment_and_order_is_kept(path: Path, service: StrictService) -> None:
    """Four threads log through outages with little memory; another looks at the books all the time."""
    service.inject(DOWN, times=None, when=lambda _: service.count("PutLogEvents") % 3 != 0)
    stop = threading.Event()
    snapshots = []

    def look() -> None:
        while not stop.is_set():
            snapshots.append(one.statistics())

    def work(name: int) -> None:
        for number in range(500):
            log.info("%d.%d", name, number)

    with handler(service, path, max_queue_size=40_000, max_batch_count=100) as (log, one):
        crew = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        watch = threading.Thread(target=look)
        for thread in (watch, *crew):
            thread.start()
        for thread in crew:
            thread.join()
        until(lambda: one.statistics().delivered == 2000, 30.0)
        stop.set()
        watch.join()
        until(lambda: files(path) == [])
    for books in snapshots:
        check(books)
        assert books.queue_high_water_mark <= 40_000
        assert books.dropped == books.rejected == 0
    assert max(books.spooled for books in snapshots) > 0
    told = defaultdict(list)
    for message in messages(service):
        name, number = message.split(".")
        told[name].append(int(number))
    assert dict(told) == {str(name): list(range(500)) for name in range(4)}


# -- flush, close and rest --------------------------------------------------------------------------------------------


def test_flush_returns_at_once_when_all_is_on_disk_and_the_service_fails(path: Path, service: StrictService) -> None:
    """It has tried, and need not wait for better times."""
    service.inject(DOWN, times=None)
    with handler(service, path, retry={"base": 30.0, "max_delay": 30.0}) as (log, one):
        log.info("one")
        began = time.monotonic()
        assert one.flush(20)
        assert time.monotonic() - began < 5
        assert service.count("PutLogEvents") == 1
        assert one.statistics().pending == 1


def test_flush_waits_for_a_service_that_may_still_answer(path: Path, service: StrictService) -> None:
    """Until its time is up; and then it is true that all is on disk."""
    service.inject(Hang(), times=None)
    with handler(service, path) as (log, one):
        log.info("one")
        began = time.monotonic()
        assert one.flush(0.5)
        assert time.monotonic() - began >= 0.5


def test_flush_of_what_is_in_memory_only_is_true_when_it_is_delivered(tmp_path: Path, service: StrictService) -> None:
    """Where the disk has refused, nothing is on disk."""
    service.inject(DOWN, times=None)
    (tmp_path / "spool").mkdir()
    with handler(service, tmp_path / "spool") as (log, one):
        (tmp_path / "spool").rmdir()
        (tmp_path / "spool").write_text("in the way")
        log.info("one")
        assert not one.flush(0.5)


def test_flush_delivers_what_waits_on_disk_when_the_service_works(path: Path, service: StrictService) -> None:
    """Not only what memory has room for."""
    service.inject(DOWN, times=3)
    with handler(service, path, max_queue_size=20_000) as (log, one):
        for number in range(2000):
            log.info("%d", number)
        until(lambda: one.statistics().retries >= 3 or (one.flush(30) and len(messages(service)) == 2000))
        assert one.flush(30)
        assert messages(service) == [str(number) for number in range(2000)]


def test_close_leaves_the_rest_on_disk_and_a_later_record_brings_it_back(path: Path, service: StrictService) -> None:
    """In the same process: everything is delivered once and counted once."""
    down = service.inject(DOWN, times=None)
    with handler(service, path) as (log, one):
        log.info("one")
        one.close()
        books = one.statistics()
        assert (books.accepted, books.spooled, books.pending, books.dropped) == (1, 1, 0, 0)
        down.remove()
        log.info("two")
        until(lambda: one.statistics().delivered == 2)
        assert messages(service) == ["one", "two"]
        books = one.statistics()
        check(books)
        assert (books.accepted, books.spooled) == (2, 0)


def test_a_record_while_a_closed_handler_still_hangs_is_delivered(path: Path, service: StrictService) -> None:
    """Its thread has been told to end, and is in a call: it goes on afterwards."""
    hang = Hang()
    held = service.inject(hang, times=None)
    with handler(service, path, shutdown_timeout=0.2) as (log, one):
        log.info("one")
        assert hang.entered.wait(10)
        one.close()
        log.info("two")
        held.remove()
        hang.release()
        until(lambda: one.statistics().delivered == 2)
        until(lambda: files(path) == [])
    assert set(messages(service)) == {"one", "two"}


def test_the_directory_is_empty_when_the_handler_is_idle(path: Path, service: StrictService) -> None:
    """Soon after the delivery, without any call."""
    with handler(service, path) as (log, _):
        for number in range(20):
            log.info("%d", number)
            assert service.wait_for(lambda number=number: str(number) in messages(service))  # type: ignore[misc]
            until(lambda: files(path) == [])


# -- a disk that refuses, a signal ------------------------------------------------------------------------------------


def test_a_disk_that_is_full_is_said_once_and_nothing_is_lost(
    tmp_path: Path, path: Path, service: StrictService
) -> None:
    """A real limit of the kernel's: no file may grow, and then it may again."""
    script = """
import resource
from cloudwatch_handler import spool
spool.DISK_INTERVAL = 0.05
handler = listen(spool_directory=os.environ["SPOOL"], send_interval=0.01)
log.info("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
for number in range(20):
    log.info("%d", number)
    time.sleep(0.01)
    handler.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
time.sleep(0.06)
for text in ("after", "at last"):
    log.info(text)
    assert handler.flush()
books = handler.statistics()
assert books.delivered == books.accepted == 23, books
"""
    ended = run(tmp_path, service.url, script, SPOOL=str(path))
    assert ended.status == 0, ended.err
    said = [line for line in ended.err.splitlines() if "the spool" in line]
    assert len(said) == 2, ended.err
    assert "takes no events" in said[0]
    assert "takes events again" in said[1]
    assert messages(service) == ["before", *map(str, range(20)), "after", "at last"]


def test_a_signal_handler_may_log_in_the_middle_of_a_log_call(
    tmp_path: Path, path: Path, service: StrictService
) -> None:
    """Hundreds of times, wherever the signal strikes: every event is delivered once, and the ledger balances."""
    script = """
import itertools
handler = listen(spool_directory=os.environ["SPOOL"], send_interval=0.01, max_queue_size=60_000)
numbers, struck = itertools.count(), []
def strike(*_):
    log.info("signal %d", next(numbers))
    struck.append(None)
signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for number in range(5000):
    log.info("main %d", number)
signal.setitimer(signal.ITIMER_REAL, 0)
assert handler.flush()
books = handler.statistics()
assert books.delivered == books.accepted == 5000 + len(struck), books
print(len(struck))
"""
    ended = run(tmp_path, service.url, script, SPOOL=str(path))
    assert ended.status == 0, ended.err
    told = messages(service)
    assert [text for text in told if text.startswith("main")] == [f"main {number}" for number in range(5000)]
    assert Counter(told) == Counter(
        [f"main {number}" for number in range(5000)] + [f"signal {number}" for number in range(int(ended.out))]
    )
    assert int(ended.out) > 20
    assert files(path) == []
