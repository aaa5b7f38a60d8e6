"""Flushing in AWS Lambda: with a context of our own, and with the runtime client that Lambda itself uses."""

from __future__ import annotations

import inspect
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from cloudwatch_handler import CloudWatchHandler
from cloudwatch_handler.aws_lambda import flush_after
from tests.runtime_api import RuntimeApi
from tests.server_apps.server_process import ServerProcess, environment
from tests.strict_service import Hang, StrictService, closed_port


class Context:
    """As much of Lambda's context as counts."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Until the time-out."""
        return int((self._deadline - time.monotonic()) * 1000)


@pytest.fixture
def handler(service: StrictService) -> Iterator[CloudWatchHandler]:
    """A handler that sends nothing by itself."""
    handler = CloudWatchHandler(
        "group", "stream", boto3_client=service.client(), send_interval=3600, shutdown_timeout=0.2
    )
    yield handler
    handler.close()


@pytest.fixture
def log(handler: CloudWatchHandler) -> Iterator[logging.Logger]:
    """A logger that writes to the handler."""
    logger = logging.getLogger("tests.aws_lambda")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


Decorator = Callable[[CloudWatchHandler], Callable[[Any], Any]]


@pytest.mark.parametrize(
    "decorator",
    [
        lambda handler: flush_after,
        lambda handler: flush_after(),
        lambda handler: flush_after(margin=0.1),
        lambda handler: flush_after(handler),
        lambda handler: flush_after(handler, margin=0.1),
    ],
    ids=["bare", "called", "margin", "handler", "both"],
)
def test_everything_is_delivered_on_return(
    decorator: Decorator, service: StrictService, handler: CloudWatchHandler, log: logging.Logger
) -> None:
    """However it is applied, the wrapped function returns its result after its records have arrived."""

    @decorator(handler)
    def function(event: int, context: Context) -> int:
        log.info("number %d", event)
        return event + 1

    assert function(1, Context(10)) == 2
    assert service.messages("group", "stream") == ["number 1"]


def test_an_exception_passes_through_after_the_flush(service: StrictService, log: logging.Logger) -> None:
    """What the function raises is raised, and what it logged before has arrived."""

    @flush_after
    def function(event: object, context: Context) -> None:
        log.info("before")
        raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        function(None, Context(10))
    assert service.messages("group", "stream") == ["before"]


def test_only_the_handler_that_was_named_is_flushed(
    service: StrictService, handler: CloudWatchHandler, log: logging.Logger
) -> None:
    """Another handler keeps what it has for its own time."""
    other = CloudWatchHandler("group", "other", boto3_client=service.client(), send_interval=3600)
    log.addHandler(other)
    try:
        flush_after(handler)(lambda event, context: log.info("text"))(None, Context(10))
        assert service.messages("group", "stream") == ["text"]
        assert service.messages("group", "other") == []
    finally:
        log.removeHandler(other)
        other.close()


def test_a_context_without_a_time_counts_as_the_default_timeout(service: StrictService, log: logging.Logger) -> None:
    """In a unit test of the user's, where the context is None, the function works, and flushes."""
    flush_after(lambda event, context: log.info("text"))(None, None)
    assert service.messages("group", "stream") == ["text"]


@pytest.mark.parametrize("arguments", [(), (None, Mock()), (None, MagicMock()), (None, object())])
def test_a_double_of_the_context_is_no_error(
    service: StrictService, log: logging.Logger, arguments: tuple[object, ...]
) -> None:
    """Whatever a unit test calls the function with, it runs, and flushes."""
    assert flush_after(lambda *_: log.info("text") or "done")(*arguments) == "done"
    assert service.messages("group", "stream") == ["text"]


def test_a_function_that_has_not_run_when_it_returns_is_refused() -> None:
    """A coroutine would be flushed before its first line."""

    async def coroutine(event: object, context: object) -> None: ...

    def generator(event: object, context: object) -> Iterator[int]:
        yield 1

    for function in (coroutine, generator):
        with pytest.raises(TypeError, match="flush_after takes a function that has run when it returns"):
            flush_after(function)


def test_the_context_may_be_a_keyword_argument(service: StrictService, log: logging.Logger) -> None:
    """As in a direct call."""

    @flush_after
    def function(event: object, context: Context) -> None:
        log.info("text")

    function(event=None, context=Context(10))
    assert service.messages("group", "stream") == ["text"]


def test_a_service_that_hangs_takes_the_remaining_time_minus_the_margin(
    service: StrictService, log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    """It returns in time and says on stderr how much was not delivered."""
    hang = Hang()
    service.inject(hang, times=None)

    @flush_after(margin=2.0)
    def function(event: object, context: Context) -> str:
        log.info("one")
        log.info("two")
        return "done"

    began = time.monotonic()
    assert function(None, Context(4.0)) == "done"
    assert 1.9 < time.monotonic() - began < 3.9
    assert "cloudwatch_handler: 2 events were not delivered on return" in capfd.readouterr().err
    hang.release()


def test_the_guard_flushes_before_the_timeout(
    service: StrictService, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    """While the function still runs, what it has logged arrives, and one line says so."""

    @flush_after(margin=2.0)
    def function(event: object, context: Context) -> float:
        log.info("text")
        assert service.wait_for(lambda: service.messages("group", "stream") == ["text"])
        return context.get_remaining_time_in_millis() / 1000

    left = function(None, Context(6.0))
    assert 0 < left <= 4
    [line] = [record.getMessage() for record in caplog.records if record.name == "cloudwatch_handler"]
    assert re.match(r"the function still runs [1-4]\.\d s before its time-out", line)


def test_the_guard_guards_short_functions_too(service: StrictService, log: logging.Logger) -> None:
    """Where there is less time than two margins, it takes the second half of it."""

    @flush_after(margin=10)
    def function(event: object, context: Context) -> float:
        log.info("text")
        assert service.wait_for(lambda: service.messages("group", "stream") == ["text"])
        return context.get_remaining_time_in_millis() / 1000

    assert function(None, Context(2)) <= 1


def test_no_guard_stays_behind(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    """After the return its thread ends without a word."""
    flush_after(margin=0.1)(lambda event, context: log.info("text"))(None, Context(10))
    for thread in threading.enumerate():
        if thread.name == "cloudwatch_handler guard":
            thread.join(5)
            assert not thread.is_alive()
    assert "cloudwatch_handler" not in {record.name for record in caplog.records}


@pytest.mark.parametrize(
    ("arguments", "error"), [({"margin": -1}, ValueError), ({"margin": "1"}, TypeError), ({"handler": 1}, TypeError)]
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], error: type[Exception]) -> None:
    """At once, not at the first invocation."""
    with pytest.raises(error, match=f"{next(iter(arguments))} must be .*{next(iter(arguments.values()))!r}"):
        flush_after(**arguments)


def test_the_wrapped_function_looks_like_itself() -> None:
    """Name, docstring and signature are kept."""

    def function(event: int, context: Context) -> str:
        """What it does."""
        raise NotImplementedError

    wrapped = flush_after(function)
    assert (wrapped.__name__, wrapped.__doc__) == ("function", "What it does.")
    assert inspect.signature(wrapped) == inspect.signature(function)


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_a_type_checker_knows_the_wrapped_function(tmp_path: Path) -> None:
    """Its parameters and result keep their types, in each form."""
    source = tmp_path / "function.py"
    source.write_text(
        "from cloudwatch_handler import CloudWatchHandler\n"
        "from cloudwatch_handler.aws_lambda import flush_after\n"
        "def function(event: dict[str, int], context: object) -> str: return ''\n"
        "reveal_type(flush_after(function))\n"
        "reveal_type(flush_after()(function))\n"
        "reveal_type(flush_after(margin=1)(function))\n"
        "reveal_type(flush_after(CloudWatchHandler('group'), margin=1.0)(function))\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", "--follow-imports=silent"]
    done = subprocess.run([*command, source], env=environment(""), capture_output=True, text=True)
    revealed = 'Revealed type is "def (event: dict[str, int], context: object) -> str"'
    assert done.stdout.replace("builtins.", "").count(revealed) == 4, done.stdout + done.stderr


@pytest.mark.skipif(find_spec("awslambdaric") is None, reason="awslambdaric, which needs a C++ compiler, is missing")
class TestRuntimeClient:
    @pytest.fixture
    def api(self, service: StrictService) -> Iterator[RuntimeApi]:
        """At the moment of an answer it looks what has been delivered."""
        with RuntimeApi(observe=lambda: service.messages("lambda", "stream")) as api:
            yield api

    @pytest.fixture
    def runtime(self, api: RuntimeApi, service: StrictService, tmp_path: Path) -> Iterator[ServerProcess]:
        """The function in Lambda's own runtime."""
        with self.start(api, service.url, tmp_path) as runtime:
            yield runtime

    def start(self, api: RuntimeApi, url: str, tmp_path: Path) -> ServerProcess:
        """Start the runtime client; the function logs to this URL."""
        env = environment(url, AWS_LAMBDA_RUNTIME_API=api.address)
        command = [sys.executable, "-m", "awslambdaric", "tests.server_apps.lambda_function.handler"]
        return ServerProcess(*command, env=env, output=tmp_path / "output")

    @pytest.mark.usefixtures("runtime")
    def test_the_answer_comes_after_the_records(self, api: RuntimeApi, service: StrictService) -> None:
        """When Lambda gets the answer, and may freeze, everything is delivered, invocation by invocation."""
        first, second = api.invoke({"messages": ["a", "b"]}), api.invoke({"messages": ["c"]})
        assert [first.wait(), second.wait()] == ["done", "done"]
        assert first.seen == ["a", "b"]
        assert second.seen == ["a", "b", "c"]
        assert service.violations == []

    @pytest.mark.usefixtures("runtime")
    def test_an_error_is_reported_after_the_records(self, api: RuntimeApi) -> None:
        """What the function raises reaches Lambda, and what it logged before has been delivered."""
        invocation = api.invoke({"messages": ["a"], "fail": True})
        answer = invocation.wait()
        assert (answer["errorType"], answer["errorMessage"]) == ("LookupError", "as told")
        assert invocation.seen[0] == "a"

    def test_a_function_that_is_frozen_and_killed_has_delivered(
        self, api: RuntimeApi, runtime: ServerProcess, service: StrictService
    ) -> None:
        """Stopped between invocations, thawed, stopped and killed: what it logged before each return is there."""
        for number in range(3):
            assert api.invoke({"messages": [f"message {number}"]}).wait() == "done"
            os.kill(runtime.process.pid, signal.SIGSTOP)
            assert service.messages("lambda", "stream") == [f"message {n}" for n in range(number + 1)]
            if number < 2:
                os.kill(runtime.process.pid, signal.SIGCONT)
        runtime.stop(signal.SIGKILL)
        assert service.messages("lambda", "stream") == ["message 0", "message 1", "message 2"]

    def test_a_function_that_is_killed_at_its_timeout_has_delivered(
        self, api: RuntimeApi, runtime: ServerProcess, service: StrictService
    ) -> None:
        """Shortly before, the guard sends what there is and one line that says so."""
        assert api.invoke({"messages": ["warm"]}).wait() == "done"
        invocation = api.invoke({"messages": ["a", "b"], "hang": True}, timeout=2.0)
        assert service.wait_for(lambda: len(service.messages("lambda", "stream")) == 4)
        assert time.time() < invocation.deadline
        runtime.stop(signal.SIGKILL)
        *messages, line = service.messages("lambda", "stream")
        assert messages == ["warm", "a", "b"]
        assert line.startswith("the function still runs ")

    def test_a_dead_service_does_not_cost_the_function_its_time(self, api: RuntimeApi, tmp_path: Path) -> None:
        """It returns one margin before the time-out, and says on stderr what is not delivered."""
        with closed_port() as url, self.start(api, url, tmp_path) as runtime:
            invocation = api.invoke({"messages": ["a", "b"]}, timeout=4.0)
            assert invocation.wait() == "done"
            assert invocation.answered_at < invocation.deadline - 0.2
            assert "cloudwatch_handler: 2 events were not delivered on return" in runtime.output()
