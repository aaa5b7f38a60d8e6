"""Children: every way to make one, and no record of theirs or of their parent's lost or doubled (cases 4 and 5)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import dedent

import pytest

from tests.scripts import Ended, run, start, write
from tests.strict_service import Hold, StrictService, black_hole, closed_port

METHODS = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])

#: Module level, so that children who import the script again are configured too. Nothing is sent but at an end.
CONFIGURE = """
import multiprocessing
handler = listen(send_interval=60)

def task(number):
    log.info("child %d: %d", os.getpid(), number)
    return os.getpid()

def tell_parent(*numbers):
    for number in numbers:
        log.info("parent %d: %d", os.getpid(), number)
"""


def main(body: str) -> str:
    """A script of which only the main process runs the body."""
    return CONFIGURE + "if __name__ == '__main__':\n" + re.sub("^", "    ", dedent(body), flags=re.MULTILINE)


def check(service: StrictService, ended: Ended, *, children: int, parent: int = 0) -> None:
    """So many records of children and of the parent arrived, once each, and no connection served two processes."""
    assert (ended.status, ended.err) == (0, "")
    assert service.violations == []
    messages = service.messages("app", "main")
    assert Counter(message.split()[0] for message in messages) == Counter(child=children, parent=parent)
    assert len(set(messages)) == len(messages)
    processes: dict[tuple[str, int], set[str]] = defaultdict(set)
    for request in service.requests:
        for event in request.parameters.get("logEvents", ()):
            processes[request.peer].add(event["message"].split(":")[0])
    assert {len(pids) for pids in processes.values()} == {1}


@METHODS
def test_processes_deliver_their_records(tmp_path: Path, service: StrictService, method: str) -> None:
    """Children of multiprocessing.Process deliver what they logged, without a line of code for it."""
    script = f"""
    context = multiprocessing.get_context("{method}")
    tell_parent(1, 2)
    children = [context.Process(target=task, args=(number,)) for number in range(3)]
    for child in children: child.start()
    tell_parent(3)
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    """
    check(service, run(tmp_path, service.url, main(script)), children=3, parent=3)


@METHODS
def test_pools_deliver_the_records_of_workers_they_terminate(
    tmp_path: Path, service: StrictService, method: str
) -> None:
    """``with Pool()`` ends with SIGTERM for its workers, right after their last task; their records arrive."""
    script = f"""
    tell_parent(1)
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        pool.map(task, range(20), chunksize=1)
    tell_parent(2)
    """
    check(service, run(tmp_path, service.url, main(script)), children=20, parent=2)


@pytest.mark.parametrize("end", ["pool.close()", "pool.terminate()"])
def test_pools_deliver_in_whatever_way_they_end(tmp_path: Path, service: StrictService, end: str) -> None:
    """A pool that is closed, or terminated, and joined; workers that are replaced after a few tasks."""
    script = f"""
    pool = multiprocessing.get_context("fork").Pool(2, maxtasksperchild=3)
    pool.map(task, range(10), chunksize=1)
    {end}
    pool.join()
    """
    check(service, run(tmp_path, service.url, main(script)), children=10)


@METHODS
def test_executors_deliver_the_records_of_their_workers(tmp_path: Path, service: StrictService, method: str) -> None:
    """Workers of a ProcessPoolExecutor deliver what their tasks logged."""
    script = f"""
    from concurrent.futures import ProcessPoolExecutor
    tell_parent(1)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("{method}")) as executor:
        list(executor.map(task, range(20)))
    tell_parent(2)
    """
    check(service, run(tmp_path, service.url, main(script)), children=20, parent=2)


def test_a_terminated_child_delivers_and_dies_of_the_signal(tmp_path: Path, service: StrictService) -> None:
    """Process.terminate() on a child that is busy: its records arrive, and its exit code is the signal's."""
    script = """
    def busy(ready):
        task(1)
        ready.set()
        while True: pass

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=busy, args=(ready,))
    child.start()
    ready.wait()
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGTERM, child.exitcode
    """
    check(service, run(tmp_path, service.url, main(script)), children=1)


def test_a_termination_that_the_main_thread_has_missed_is_not_lost(tmp_path: Path, service: StrictService) -> None:
    """The signal is noted, but the main thread waits already, as a Pool's worker does for the lock of its queue."""
    script = """
    def terminate():  # on this thread: that does not wake the main thread
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def wait(number):
        task(number)
        lock = multiprocessing.Lock()
        lock.acquire()
        threading.Timer(0.2, terminate).start()
        lock.acquire()

    if __name__ == "__main__":
        children = [multiprocessing.get_context("fork").Process(target=wait, args=(number,)) for number in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(20)
        print([child.exitcode for child in children], flush=True)
        for child in children:
            child.kill()
    """
    ended = run(tmp_path, service.url, CONFIGURE + dedent(script))
    assert ended.out == "[-15, -15, -15]\n"
    check(service, ended, children=3)


def test_a_forked_child_does_not_watch_over_its_parent(tmp_path: Path, service: StrictService) -> None:
    """A termination of a child's own child ends that one only."""
    script = """
    def stay(number):
        task(number)
        ready.set()
        threading.Event().wait()

    def have_a_child(number):
        task(number)
        child = multiprocessing.get_context("fork").Process(target=stay, args=(2,))
        child.start()
        ready.wait(20)
        child.terminate()
        child.join(20)
        print(child.exitcode, flush=True)
        time.sleep(1)  # longer than it would take
        task(3)

    if __name__ == "__main__":
        ready = multiprocessing.get_context("fork").Event()
        parent = multiprocessing.get_context("fork").Process(target=have_a_child, args=(1,))
        parent.start()
        parent.join()
        print(parent.exitcode, flush=True)
    """
    ended = run(tmp_path, service.url, CONFIGURE + dedent(script))
    assert ended.out == "-15\n0\n"
    check(service, ended, children=3)


def test_a_second_termination_kills_at_once(tmp_path: Path) -> None:
    """A child that waits for a dead network does not outlive a second SIGTERM."""
    script = """
    handler.worker.shutdown_timeout = 20
    def busy(ready):
        task(1)
        ready.set()
        while signal.getsignal(signal.SIGTERM) != signal.SIG_DFL: time.sleep(0.001)
        ready.set()
        time.sleep(20)

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=busy, args=(ready,))
    child.start()
    ready.wait()
    ready.clear()
    child.terminate()
    ready.wait()
    child.terminate()
    child.join(5)
    assert child.exitcode == -signal.SIGTERM, child.exitcode
    """
    with closed_port() as url:
        ended = run(tmp_path, url, main(script))

    assert ended.status == 0, ended.err


def test_a_childs_own_handler_of_sigterm_is_left_alone(tmp_path: Path, service: StrictService) -> None:
    """Where the application handles SIGTERM, before or after the first record, its handler is the one that runs."""
    script = """
    def leave(*_): raise SystemExit(7)
    def busy(ready, early):
        if early: signal.signal(signal.SIGTERM, leave)
        task(early)
        if not early: signal.signal(signal.SIGTERM, leave)
        ready.set()
        time.sleep(20)

    context = multiprocessing.get_context("fork")
    for early in (True, False):
        ready = context.Event()
        child = context.Process(target=busy, args=(ready, early))
        child.start()
        ready.wait()
        child.terminate()
        child.join()
        assert child.exitcode == 7, child.exitcode
    """
    check(service, run(tmp_path, service.url, main(script)), children=2)


def test_the_main_process_keeps_the_default_action_of_sigterm(tmp_path: Path, service: StrictService) -> None:
    """No signal handler is installed where multiprocessing is not the parent."""
    script = "tell_parent(1); assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL"
    check(service, run(tmp_path, service.url, main(script)), children=0, parent=1)


@pytest.mark.parametrize("network", [closed_port, black_hole, lambda: black_hole(connects=True)])
def test_a_pool_ends_in_time_without_a_network(
    tmp_path: Path, network: Callable[[], AbstractContextManager[str]]
) -> None:
    """Terminated workers take their shutdown_timeout, all at the same time, and say what they leave."""
    script = """
    handler.worker.shutdown_timeout = 0.5
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pool.map(task, range(30), chunksize=1)
        print("ending", flush=True)
    """
    with network() as url:
        ended = run(tmp_path, url, main(script))

    assert ended.status == 0
    assert ended.seconds < 0.5 + 4  # connecting may hang for 5
    assert sum(map(int, re.findall(r"closed with (\d+) events undelivered", ended.err))) == 30


def test_forked_children_deliver_at_their_exit(tmp_path: Path, service: StrictService) -> None:
    """A child of os.fork() delivers its own records, and not what its parent had queued, which the parent delivers."""
    script = """
    tell_parent(1, 2, 3)
    children = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            task(number)
            sys.exit(number)
        children.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert statuses == [0, 1, 2], statuses
    """
    check(service, run(tmp_path, service.url, main(script)), children=3, parent=3)


@METHODS
def test_children_leave_the_connection_of_their_parent_alone(
    tmp_path: Path, service: StrictService, method: str
) -> None:
    """The one that the parent has open, because it has delivered before, serves the parent only."""
    script = f"""
    tell_parent(1)
    assert handler.flush(20)
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=task, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    tell_parent(2)
    assert handler.flush(20)
    for child in children:
        child.join()
    """
    check(service, run(tmp_path, service.url, main(script)), children=3, parent=2)


def test_grandchildren_deliver_too(tmp_path: Path, service: StrictService) -> None:
    """A child that forks again is a parent like any other."""
    script = """
    tell_parent(1)
    if not os.fork():
        task(1)
        if not os.fork():
            task(2)
            sys.exit()
        os.wait()
        task(3)
        sys.exit()
    os.wait()
    """
    check(service, run(tmp_path, service.url, main(script)), children=3, parent=1)


def test_a_child_has_its_own_stream(tmp_path: Path, service: StrictService) -> None:
    """A stream name with the process id is rendered again in a child."""
    script = """
    handler = listen("{process_id}")
    log.info("parent")
    print(os.getpid(), flush=True)
    child = os.fork()
    if not child:
        log.info("child")
        sys.exit()
    print(child, flush=True)
    os.waitpid(child, 0)
    """
    ended = run(tmp_path, service.url, dedent(script))

    parent, child = ended.out.split()
    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", parent) == ["parent"]
    assert service.messages("app", child) == ["child"]


def test_a_fork_while_the_worker_is_in_a_call(tmp_path: Path, service: StrictService) -> None:
    """The parent's request is under way at the fork: the child neither waits for it nor repeats it."""
    hold = Hold()
    service.inject(hold)
    script = """
    handler.worker._send_interval = 0
    tell_parent(1, 2)
    threading.Thread(target=handler.flush, daemon=True).start()
    input()
    child = os.fork()
    if not child:
        task(1)
        sys.exit()
    print(os.waitpid(child, 0)[1], flush=True)
    tell_parent(3)
    """
    with start(write(tmp_path, main(script)), service.url) as process:
        assert hold.entered.wait(10)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        said = process.stdout.readline()
        hold.release.set()
        _, err = process.communicate(timeout=20)

    assert said == "0\n"
    check(service, Ended(process.returncode, said, err, 0.0), children=1, parent=3)


def test_a_fork_while_locks_are_held(tmp_path: Path, service: StrictService) -> None:
    """Every lock of the worker is held by a thread that the child does not have; the child has its own."""
    script = """
    tell_parent(1, 2)
    held, forked = threading.Event(), threading.Event()
    def hold():
        worker = handler.worker
        with worker.driver.ledger, worker.driver.lock, worker.thread._starting:
            held.set()
            forked.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        task(1)
        assert handler.flush(20)
        os._exit(0)
    forked.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    """
    check(service, run(tmp_path, service.url, main(script)), children=1, parent=2)


def test_a_fork_while_other_threads_log(tmp_path: Path, service: StrictService) -> None:
    """Forks at any moment of four threads that log: every record arrives, once."""
    script = """
    handler.worker._send_interval = 0.001
    def chatter(number):
        for i in range(500):
            tell_parent(number * 500 + i)
    threads = [threading.Thread(target=chatter, args=(number,)) for number in range(4)]
    for thread in threads: thread.start()
    for number in range(10):
        child = os.fork()
        if not child:
            task(number)
            assert handler.flush(20)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    for thread in threads: thread.join()
    """
    check(service, run(tmp_path, service.url, main(script)), children=10, parent=2000)


@pytest.mark.parametrize("how", ["log.info", "flush", "close", "statistics"])
def test_a_child_forked_behind_pythons_back(tmp_path: Path, service: StrictService, how: str) -> None:
    """Where no fork hook runs (uwsgi, C libraries), the handler notices that it is in another process."""
    first = {"log.info": "pass", "statistics": "assert handler.statistics().accepted == 0"}.get(how, f"handler.{how}()")
    script = f"""
    import ctypes
    tell_parent(1, 2)
    child = ctypes.PyDLL(None).fork()
    if not child:
        {first}
        task(1)
        task(2)
        assert handler.statistics().accepted == 2
        assert handler.flush(20)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    check(service, run(tmp_path, service.url, main(script)), children=2, parent=2)


def test_a_client_of_the_users_is_made_again_in_a_child(tmp_path: Path, service: StrictService) -> None:
    """Given a client, or a callable that makes one, a child uses no connection of its parent's."""
    script = """
    import boto3
    from cloudwatch_handler import CloudWatchHandler
    client = boto3.client("logs")
    for source in (client, lambda: boto3.client("logs")):
        log.removeHandler(log.handlers[0])
        log.addHandler(CloudWatchHandler("app", "main", boto3_client=source, send_interval=60))
        tell_parent(source is client)
        assert log.handlers[0].flush(5)
        child = os.fork()
        if not child:
            task(source is client)
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        tell_parent(2 + (source is client))
    """
    check(service, run(tmp_path, service.url, main(script)), children=2, parent=4)
