"""Real servers, which fork, drop and kill the processes that log; what they log arrives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from cloudwatch_handler import CloudWatchHandler
from cloudwatch_handler.process import NO_THREADS
from tests.server_apps.logs import PATIENT, PROMPT
from tests.server_apps.server_process import ServerProcess, delivered, environment, wait_for_all
from tests.strict_service import StrictService, free_port

TASKS = 8  # as in celery_app, which configures logging and is not imported here


def serve_requests(server: ServerProcess, service: StrictService, *, threads: bool = True) -> list[str]:
    """Make requests until two workers have logged promptly; return all that was logged.

    Without threads, a record leaves with a later one.
    """
    requests: list[str] = []
    workers: dict[str, str] = {}  # first request of each process
    while len(workers) < 2 or set(workers.values()) - set(delivered(service, PROMPT)):
        requests.append(f"request={len(requests)}")
        workers.setdefault(server.get(f"/?{requests[-1]}"), requests[-1])
        assert len(requests) < 2_000
        if threads and len(workers) == 2:
            wait_for_all(service, PROMPT, requests)
    assert not set(requests) & set(delivered(service, PATIENT))
    return requests


@pytest.mark.skipif(find_spec("gunicorn") is None, reason="gunicorn is not installed")
class TestGunicorn:
    @pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
    @pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
    def test_all_records_arrive(self, service: StrictService, tmp_path: Path, worker_class: str, preload: bool) -> None:
        """Two workers of any class, forked before or after the import: everything once, at once or at the end."""
        if worker_class == "gevent":
            pytest.importorskip("gevent")
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "tests.server_apps.wsgi:application", f"--bind=127.0.0.1:{port}"]
        command += ["--workers=2", f"--worker-class={worker_class}", "--threads=2", "--no-control-socket"]
        command += ["--preload"] if preload else []
        with ServerProcess(*command, env=environment(service.url), output=tmp_path / "output", port=port) as server:
            messages = serve_requests(server, service)
            server.stop()
        messages += ["imported"] * (1 if preload else 2)
        for group in (PROMPT, PATIENT):
            assert sorted(delivered(service, group).elements()) == sorted(messages)
        assert service.violations == []


GEVENT = """
import logging, sys
exec(sys.argv[1])
from cloudwatch_handler import CloudWatchHandler
exec(sys.argv[2])
handler = CloudWatchHandler("group", "stream", send_interval=0.01)
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.DEBUG)  # what delivery itself logs is not delivered
logging.info("first")
assert handler.flush(20)
exec(sys.argv[3])
import gevent
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
gevent.spawn(tick)
logging.info("second")
assert handler.flush(20)
print("ticks", len(ticks))
logging.info("third")
"""


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
@pytest.mark.parametrize("moment", range(3), ids=["before the import", "after the import", "after the first record"])
def test_gevent_may_patch_at_any_moment(moment: int) -> None:
    """The hub goes on while the handler waits for the network, and everything arrives."""
    steps = ["", "", ""]
    steps[moment] = "import gevent.monkey, warnings; warnings.simplefilter('ignore'); gevent.monkey.patch_all()"
    with StrictService(latency=0.2) as service:
        command = [sys.executable, "-c", GEVENT, *steps]
        done = subprocess.run(command, env=environment(service.url), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[1]) > 3
        assert service.messages("group", "stream") == ["first", "second", "third"], done.stderr


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
def test_a_script_under_gevent_may_end_at_once(service: StrictService) -> None:
    """Its only record makes the first connection when the interpreter allows no new thread any more."""
    script = """
import gevent.monkey; gevent.monkey.patch_all()
import logging
from cloudwatch_handler import CloudWatchHandler
logging.getLogger().addHandler(CloudWatchHandler("group", "stream"))
logging.warning("only")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment(service.url), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert service.messages("group", "stream") == ["only"]


FORK = """
import ctypes, logging, os, sys, time
from cloudwatch_handler import CloudWatchHandler
logging.getLogger().addHandler(CloudWatchHandler("group", "stream", send_interval=3600))
logging.warning("of the parent")
if ctypes.PyDLL(None).fork() == 0:
    sys.exit()
began = time.monotonic()
os.wait()
print(time.monotonic() - began)
"""


def test_a_child_that_never_logs_leaves_the_records_of_its_parent_alone(service: StrictService) -> None:
    """Also when no fork hook has run, as in uWSGI: it ends at once, and its parent delivers."""
    command = [sys.executable, "-c", FORK]
    done = subprocess.run(command, env=environment(service.url), capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert float(done.stdout) < 5
    assert service.messages("group", "stream") == ["of the parent"]


#: With it, uWSGI 2.0.30 itself hangs on Python 3.13, whatever the application.
OSAFTERFORK = pytest.mark.skipif(sys.version_info >= (3, 13), reason="uWSGI hangs with --py-call-osafterfork")
UWSGI = shutil.which("uwsgi", path=sysconfig.get_path("scripts")) or shutil.which("uwsgi")


@pytest.mark.skipif(UWSGI is None, reason="uwsgi is not installed")
class TestUwsgi:
    def start(self, service: StrictService, tmp_path: Path, *options: str, **variables: str) -> ServerProcess:
        """Two workers of the WSGI application."""
        port = free_port()
        command = [str(UWSGI), "--master", "--processes=2", "--need-app", f"--virtualenv={sys.prefix}"]
        command += ["--hook-master-start=unix_signal:15 gracefully_kill_them_all"]
        command += [f"--http-socket=127.0.0.1:{port}", "--module=tests.server_apps.wsgi", *options]
        env = environment(service.url, **variables)
        return ServerProcess(*command, env=env, output=tmp_path / "output", port=port)

    @pytest.mark.parametrize(
        "options",
        [
            ["--enable-threads"],
            pytest.param(["--enable-threads", "--py-call-osafterfork"], marks=OSAFTERFORK),
            ["--enable-threads", "--py-call-uwsgi-fork-hooks"],
            ["--enable-threads", "--lazy-apps"],
        ],
        ids=lambda options: options[-1],
    )
    def test_all_records_arrive(self, service: StrictService, tmp_path: Path, options: list[str]) -> None:
        """Two workers, forked with and without a word to Python: everything once, also what the master logs."""
        with self.start(service, tmp_path, *options) as server:
            messages = serve_requests(server, service)
            server.stop()
        messages += ["imported"] * (2 if "--lazy-apps" in options else 1)
        for group in (PROMPT, PATIENT):
            assert sorted(delivered(service, group).elements()) == sorted(messages)
        assert service.violations == []

    @pytest.mark.parametrize(
        "options",
        [
            [],
            pytest.param(["--py-call-osafterfork"], marks=OSAFTERFORK),
            ["--py-call-uwsgi-fork-hooks"],
            ["--lazy-apps"],
        ],
        ids=lambda options: options[-1] if options else "",
    )
    def test_log_calls_deliver_where_there_are_no_threads(
        self, service: StrictService, tmp_path: Path, options: list[str]
    ) -> None:
        """Without thread support it says so, and what is due leaves with the next log call, the rest at the end."""
        with self.start(service, tmp_path, *options, WITHOUT_THREADS="1") as server:
            messages = serve_requests(server, service, threads=False)
            server.stop()
        processes = 2 if "--lazy-apps" in options else 1
        assert server.output().count(NO_THREADS) == processes
        messages += ["imported"] * processes
        for group in (PROMPT, PATIENT):
            assert sorted(delivered(service, group).elements()) == sorted(messages)
        assert service.violations == []


@pytest.mark.skipif(find_spec("celery") is None, reason="celery is not installed")
class TestCelery:
    def start(self, service: StrictService, tmp_path: Path, *options: str, **variables: str) -> ServerProcess:
        """A worker with two processes, which gives itself tasks."""
        command = [sys.executable, "-m", "celery", "--app=tests.server_apps.celery_app", "worker", "--pool=prefork"]
        command += ["--concurrency=2", "--without-gossip", "--without-mingle", "--without-heartbeat", *options]
        return ServerProcess(*command, env=environment(service.url, **variables), output=tmp_path / "output")

    def test_records_of_all_children_arrive(self, service: StrictService, tmp_path: Path) -> None:
        """What tasks log in forked children leaves at once or when the worker stops, without code of the user's."""
        tasks = [f"task={number}" for number in range(TASKS)]
        with self.start(service, tmp_path) as worker:
            wait_for_all(service, PROMPT, tasks)
            assert not delivered(service, PATIENT)
            worker.stop()
        for group in (PROMPT, PATIENT):
            assert sorted(delivered(service, group).elements()) == sorted(tasks)
        assert service.violations == []

    def test_children_that_have_done_their_share_leave_nothing_behind(
        self, service: StrictService, tmp_path: Path
    ) -> None:
        """With --max-tasks-per-child each process sends what it has before it makes room for the next."""
        tasks = [f"task={number}" for number in range(TASKS)]
        with self.start(service, tmp_path, "--max-tasks-per-child=2"):
            wait_for_all(service, PATIENT, tasks)
        assert sorted(delivered(service, PATIENT).elements()) == sorted(tasks)

    def test_a_task_that_is_killed_at_its_time_limit_has_logged(self, service: StrictService, tmp_path: Path) -> None:
        """Celery kills without notice: what is older than the interval has left, and a spool keeps the rest."""
        spool = str(tmp_path / "spool")
        with self.start(service, tmp_path, SPOOL_DIRECTORY=spool, STICK="1") as worker:
            worker.wait_for_output("exited with 'signal ")  # SIGTERM first, of which it dies as well, and then SIGKILL
        assert delivered(service, PROMPT)["stuck"] == 1
        assert not delivered(service, PATIENT)
        handler = CloudWatchHandler(PATIENT, boto3_client=service.client(), spool_directory=spool)
        assert handler.recover(20)
        handler.close()
        assert delivered(service, PATIENT)["stuck"] == 1


class TestDjango:
    def start(self, service: StrictService, tmp_path: Path, **variables: str) -> ServerProcess:
        """``runserver`` as it is without options: it restarts when a file changes."""
        (tmp_path / "touched.py").touch()
        port = free_port()
        env = environment(service.url, DJANGO_SETTINGS_MODULE="tests.server_apps.django_project", **variables)
        env["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
        command = [sys.executable, "-m", "django", "runserver", f"127.0.0.1:{port}"]
        return ServerProcess(*command, env=env, output=tmp_path / "output", port=port)

    def test_the_first_response_comes_soon(self, service: StrictService, tmp_path: Path) -> None:
        """The handler adds less than two seconds to the start of a ``runserver`` that imports boto3 anyway."""
        durations: dict[bool, list[float]] = {False: [], True: []}
        for handlers in (False, True, False, True):
            began = time.monotonic()
            with self.start(service, tmp_path, **({} if handlers else {"WITHOUT_HANDLERS": "1"})) as server:
                server.get("/?first")
                durations[handlers].append(time.monotonic() - began)
                if handlers:
                    wait_for_all(service, PROMPT, ["Watching for file changes with StatReloader", "first"])
        assert min(durations[True]) - min(durations[False]) < 2

    def test_a_restart_loses_nothing(self, service: StrictService, tmp_path: Path) -> None:
        """When a file changes, the process that is replaced sends what it has."""
        with self.start(service, tmp_path) as server:
            pid = server.get("/?before")
            later = time.time() + 10
            while server.get("/?meanwhile") == pid:
                later += 1  # anew each time: runserver may look for the first time only after the first request
                os.utime(tmp_path / "touched.py", (later, later))
            wait_for_all(service, PATIENT, ["before"])
            server.get("/?after")
            wait_for_all(service, PROMPT, ["before", "after"])
            assert delivered(service, PATIENT)["before"] == 1
