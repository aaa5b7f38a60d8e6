"""The end of a process, reconfiguration, and surroundings that break other handlers (cases 2, 9, 14 and 24)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import dedent

import pytest

from tests.scripts import run, start, write
from tests.strict_service import Error, Hold, StrictService, black_hole, closed_port

Network = Callable[[], AbstractContextManager[str]]

#: What a process that has nothing to wait for may take to end, in seconds, on a machine that is busy.
PROMPT = 4.0


def swallows_connections() -> AbstractContextManager[str]:
    """Connections are not even made."""
    return black_hole()


def swallows_requests() -> AbstractContextManager[str]:
    """Connections are made, and requests never answered."""
    return black_hole(connects=True)


NETWORKS = pytest.mark.parametrize("network", [closed_port, swallows_connections, swallows_requests])

# -- case 2: dictConfig --------------------------------------------------------------------------------------------

CONFIGURE = """
from logging.config import dictConfig

def configure(send_interval=60):
    dictConfig({
        "version": 1, "disable_existing_loggers": False,
        "handlers": {"cloud": {
            "class": "cloudwatch_handler.CloudWatchHandler", "log_group_name": "app", "log_stream_name": "main",
            "send_interval": send_interval, "shutdown_timeout": 8,
        }},
        "loggers": {"application": {"level": "INFO", "handlers": ["cloud"]}},
    })
    return log.handlers[0]

def configure_again():
    began = time.monotonic()
    configure()
    took = time.monotonic() - began
    assert took < 0.5, f"dictConfig took {took:.2f} s"

def say(*numbers):
    for number in numbers:
        log.info("%d", number)
"""


def test_a_second_dict_config_does_not_wait_for_queued_records(tmp_path: Path, service: StrictService) -> None:
    """Records that wait for company are delivered after a second dictConfig, which takes no time, as are later ones."""
    ended = run(tmp_path, service.url, CONFIGURE + "configure(); say(1, 2, 3)\nconfigure_again(); say(4, 5, 6)")

    assert (ended.status, ended.err) == (0, "")
    assert sorted(service.messages("app", "main")) == list("123456")


def test_a_second_dict_config_does_not_wait_for_a_call_under_way(tmp_path: Path, service: StrictService) -> None:
    """While the worker waits for the answer to its first call, dictConfig returns, and nothing is lost."""
    hold = Hold()
    service.inject(hold, operation=None)
    script = (
        CONFIGURE + "configure(0); say(1, 2, 3)\ninput(); configure_again(); say(4, 5, 6)\nprint('done', flush=True)"
    )
    with start(write(tmp_path, script), service.url) as process:
        assert hold.entered.wait(10)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        said = process.stdout.readline()
        hold.release.set()
        _, err = process.communicate(timeout=20)

    assert (said, process.returncode, err) == ("done\n", 0, "")
    assert sorted(service.messages("app", "main")) == list("123456")


def test_a_worker_that_wants_the_lock_of_logging_does_not_hold_up_dict_config(
    tmp_path: Path, service: StrictService
) -> None:
    """The worker's first call asks botocore's cold loggers and stands still; dictConfig, which causes it, does not."""
    script = """
    def waits_for_the_lock():
        frame = sys._current_frames().get(handler.worker.thread.running.ident)
        while frame is not None and frame.f_code.co_filename != logging.__file__:
            frame = frame.f_back
        return frame is not None

    handler = configure(0)
    with logging._lock:
        say(1, 2, 3)
        while not waits_for_the_lock():
            time.sleep(0.001)
        configure_again()
    say(4, 5, 6)
    """
    ended = run(tmp_path, service.url, CONFIGURE + dedent(script))

    assert (ended.status, ended.err) == (0, "")
    assert sorted(service.messages("app", "main")) == list("123456")


def test_a_record_after_close_starts_the_handler_again(tmp_path: Path, service: StrictService) -> None:
    """A handler that was closed delivers what comes later, as a FileHandler writes it; again and again."""
    script = """
    handler = listen(send_interval=0)
    for number in range(4):
        log.info("%d", number)
        if number % 2:
            logging.shutdown()
        else:
            handler.close()
        assert handler.statistics().delivered == number + 1, handler.statistics()
    log.info("4")
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", "main") == list("01234")


def test_a_record_after_dict_config_that_still_comes_to_the_old_handler_is_delivered(
    tmp_path: Path, service: StrictService
) -> None:
    """Somebody kept the handler that dictConfig closed; what is logged to it is delivered, by a thread or at exit."""
    script = "old = configure(); say(1)\nconfigure_again(); log.addHandler(old); say(2)"
    ended = run(tmp_path, service.url, CONFIGURE + script)

    assert (ended.status, ended.err) == (0, "")
    assert sorted(service.messages("app", "main")) == list("122")


# -- case 9: the end of the process ----------------------------------------------------------------------------------


def test_what_is_queued_is_delivered_at_exit(tmp_path: Path, service: StrictService) -> None:
    """A process that logs and ends at once, long before the send interval is over, leaves nothing behind."""
    ended = run(tmp_path, service.url, "listen(send_interval=60)\nfor i in range(100): log.info('%d', i)")

    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", "main") == [str(i) for i in range(100)]


@NETWORKS
@pytest.mark.parametrize("streams", [1, 300])
def test_exit_keeps_shutdown_timeout_and_names_what_is_left(tmp_path: Path, network: Network, streams: int) -> None:
    """However many streams wait for a dead network, the process ends in time and says how much was for whom."""
    script = f"""
    listen("{{thread_name}}", send_interval=0, shutdown_timeout=0.5)
    for i in range({streams}):
        threading.current_thread().name = f"stream-{{i}}"
        log.info("lost"); log.info("lost")
    print("ending", flush=True)
    """
    with network() as url:
        ended = run(tmp_path, url, dedent(script))

    assert ended.status == 0
    assert 0.4 < ended.seconds < 0.5 + PROMPT
    left = [line for line in ended.err.splitlines() if "closed with" in line]
    more = " and 297 more streams" if streams == 300 else ""
    assert len(left) == 1
    assert re.search(rf"closed with {2 * streams} events undelivered, for app/stream-0 \(2\)[^;]*{more};", left[0])


def test_exit_keeps_shutdown_timeout_for_several_handlers_together(tmp_path: Path) -> None:
    """The end of the process is one deadline for all handlers, not one for each."""
    script = """
    for name in "abcd":
        listen(name, send_interval=0, shutdown_timeout=2.5)
    log.info("lost")
    print("ending", flush=True)
    """
    with swallows_requests() as url:
        ended = run(tmp_path, url, dedent(script))

    assert ended.status == 0
    assert ended.seconds < 2.5 + PROMPT < 4 * 2.5
    assert ended.err.count("closed with 1 events undelivered") == 4


@NETWORKS
def test_exit_keeps_shutdown_timeout_while_records_still_arrive(tmp_path: Path, network: Network) -> None:
    """Daemon threads that log until the very end prolong it by nothing."""
    script = """
    listen(send_interval=0, shutdown_timeout=0.5, flush_timeout=20)
    def chatter():
        while True:
            log.info("lost")
            time.sleep(0.001)
    for _ in range(3):
        threading.Thread(target=chatter, daemon=True).start()
    time.sleep(0.1)
    print("ending", flush=True)
    """
    with network() as url:
        ended = run(tmp_path, url, dedent(script))

    assert ended.status == 0
    assert ended.seconds < 0.5 + PROMPT
    assert "events undelivered, for app/main" in ended.err


def test_first_record_of_the_process_may_come_at_its_end(tmp_path: Path, service: StrictService) -> None:
    """What an exit hook logs is delivered, though Python 3.12 and later allow no new thread there."""
    script = """
    import atexit
    listen()
    atexit.register(lambda: log.info("late"))
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", "main") == ["late"]


def test_records_after_the_handlers_own_exit_hook_are_delivered(tmp_path: Path, service: StrictService) -> None:
    """An exit hook that was registered before the package was imported runs after the package's; its records count."""
    script = """
    import atexit
    atexit.register(lambda: (time.sleep(1.1), log.info("last")))
    import cloudwatch_handler.process as process
    atexit.unregister(process.close_all)
    atexit.register(process.close_all)
    handler = listen(shutdown_timeout=1)
    log.info("first")
    assert handler.flush(20)
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", "main") == ["first", "last"]


@NETWORKS
def test_exit_keeps_shutdown_timeout_where_no_thread_can_start(tmp_path: Path, network: Network) -> None:
    """The end of an interpreter without a thread makes the calls itself, with time-outs that fit."""
    script = """
    import atexit
    def log_late():
        for i in range(3):
            threading.current_thread().name = f"stream-{i}"
            log.info("lost")
    atexit.register(log_late)
    listen("{thread_name}", shutdown_timeout=0.5)
    print("ending", flush=True)
    """
    with network() as url:
        ended = run(tmp_path, url, dedent(script))

    assert ended.status == 0
    assert ended.seconds < 0.5 + PROMPT
    assert "closed with 3 events undelivered" in ended.err


# -- case 14: surroundings -------------------------------------------------------------------------------------------


def test_warnings_as_errors_do_not_matter(tmp_path: Path, service: StrictService) -> None:
    """With -W error the worker lives, through failures too, and all is delivered."""
    service.inject(Error("InternalFailure", 500), times=2)
    script = "handler = listen(send_interval=0)\nlogging.getLogger('cloudwatch_handler').setLevel('ERROR')\n"
    ended = run(
        tmp_path, service.url, script + "for i in range(3): log.info('%d', i); handler.flush(20)", "-W", "error"
    )

    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", "main") == list("012")


def test_captured_warnings_do_not_come_round(tmp_path: Path, service: StrictService) -> None:
    """With captureWarnings the root logger's handler is sent the application's warnings, and none of its own making."""
    service.inject(Error("InternalFailure", 500), times=2)
    script = """
    import warnings
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    handler = CloudWatchHandler("app", "main", send_interval=0)
    logging.basicConfig(level="DEBUG", handlers=[handler])
    warnings.warn("the application's")
    assert handler.flush(20)
    log.info("end")
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert ended.status == 0
    first, last = service.messages("app", "main")
    assert "the application's" in first
    assert last == "end"
    assert service.count("PutLogEvents") <= 6


@pytest.mark.parametrize("how", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_a_closed_stderr_does_not_matter(tmp_path: Path, service: StrictService, how: str) -> None:
    """A daemon without stderr delivers through failures, and ends with leftovers that it can tell nobody of."""
    service.inject(Error("InternalFailure", 500), times=2)
    script = f"""
    {how}
    handler = listen(send_interval=0)
    log.info("%d", "text"); log.info("1")
    assert handler.flush(20)
    listen("other", endpoint_url="http://127.0.0.1:1", shutdown_timeout=0.2)
    log.info("2")
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert ended.status in (0, 120)  # 120: Python itself could not flush stderr
    assert service.messages("app", "main") == list("12")


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_is_set_does_not_matter(tmp_path: Path, service: StrictService, step: int) -> None:
    """The wall clock jumps by an hour: nothing waits for it, nothing storms, nothing is lost."""
    script = f"""
    handler = listen(send_interval=0.1)
    log.info("before")
    seconds, nanoseconds = time.time, time.time_ns
    time.time, time.time_ns = lambda: seconds() + {step}, lambda: nanoseconds() + {step} * 10**9
    log.info("after")
    began = time.monotonic()
    while handler.statistics().pending:
        time.sleep(0.01)
    assert time.monotonic() - began < 20
    log.info("end")
    assert handler.flush(20)
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert (ended.status, ended.err) == (0, "")
    assert sorted(service.messages("app", "main")) == ["after", "before", "end"]
    assert len(service.requests) < 12


def test_a_frozen_clock_does_not_matter(tmp_path: Path, service: StrictService) -> None:
    """Under freezegun the worker sends in time, and deadlines end."""
    pytest.importorskip("freezegun")
    hold = Hold()
    service.inject(hold, times=None, when=lambda parameters: "held" in str(parameters["logEvents"]))
    script = """
    import datetime, freezegun
    handler = listen(send_interval=0.1, shutdown_timeout=0.3)
    with freezegun.freeze_time(datetime.datetime.now(datetime.timezone.utc)):
        log.info("sent")
        waits = 0
        while handler.statistics().pending:
            threading.Event().wait(0.01)
            waits += 1
            assert waits < 2000
        log.info("held")
        assert not handler.flush(0.3)
        handler.close()
    assert handler.statistics().dropped == 1
    """
    ended = run(tmp_path, service.url, dedent(script), timeout=10)

    assert ended.status == 0, ended.err
    assert "closed with 1 events undelivered" in ended.err
    assert service.messages("app", "main") == ["sent"]


def test_a_clock_frozen_in_the_past_does_not_matter(tmp_path: Path, service: StrictService) -> None:
    """What was logged before freezegun went back by years is not too new."""
    pytest.importorskip("freezegun")
    script = """
    import freezegun
    handler = listen(send_interval=60)
    log.info("message")
    with freezegun.freeze_time("2020-01-01"):
        assert handler.flush(20)
    """
    ended = run(tmp_path, service.url, dedent(script))

    assert (ended.status, ended.err) == (0, "")
    assert service.messages("app", "main") == ["message"]


# -- case 24: nothing to do ------------------------------------------------------------------------------------------


def test_a_process_that_only_configures_makes_no_call_and_starts_no_thread(
    tmp_path: Path, service: StrictService
) -> None:
    """Import, dictConfig, a level that lets nothing pass, flush and close: no request, no thread."""
    script = """
    handler = configure()
    log.debug("not for us")
    assert handler.flush()
    handler.close()
    print(threading.active_count(), flush=True)
    """
    ended = run(tmp_path, service.url, CONFIGURE + dedent(script))

    assert (ended.status, ended.out, ended.err) == (0, "1\n", "")
    assert Counter(request.operation for request in service.requests) == Counter()


@NETWORKS
def test_a_process_that_only_configures_ends_at_once_without_a_network(tmp_path: Path, network: Network) -> None:
    """No record, no call: a network that swallows packets holds up nothing, with credentials or without."""
    with network() as url:
        ended = run(tmp_path, url, CONFIGURE + "configure()\nprint('ending', flush=True)", AWS_ACCESS_KEY_ID="")

    assert (ended.status, ended.err) == (0, "")
    assert ended.seconds < PROMPT
