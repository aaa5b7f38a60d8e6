"""A server in a process of its own, and what its applications have delivered."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.strict_service import StrictService

ROOT = Path(__file__).parents[2]
#: Seconds in which a server must have come up, or have ended.
PATIENCE = 30.0


def environment(service_url: str, **more: str) -> dict[str, str]:
    """Variables for a process that logs to the service."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "AWS_ENDPOINT_URL": service_url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        **more,
    }


class ServerProcess:
    """A server that was started; a context manager that leaves nothing of its process group behind.

    Args:
        command: the program and its arguments.
        env: its environment.
        output: file for what it prints.
        port: where it serves HTTP, if it does.
    """

    def __init__(self, *command: str, env: dict[str, str], output: Path, port: int = 0, cwd: Path = ROOT) -> None:
        self._output = output
        self._port = port
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is not None:
            print(self.output(), file=sys.stderr)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(errors="replace")

    def wait_for_output(self, text: str) -> None:
        """Wait until it has printed this."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output():
            assert time.monotonic() < deadline, f"the server does not say {text!r}"
            time.sleep(0.02)

    def get(self, path: str) -> str:
        """The body of the answer to a GET request; waits for the server to come up."""
        deadline = time.monotonic() + PATIENCE
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read().decode()
                assert answer.status == 200, body
                return body
            except (ConnectionError, http.client.BadStatusLine):
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)
            finally:
                connection.close()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, and wait until it has."""
        self.process.send_signal(number)
        self.process.wait(PATIENCE)


def delivered(service: StrictService, group: str) -> Counter[str]:
    """How often each message is in the streams of a group."""
    streams = {
        request.parameters["logStreamName"]
        for request in service.requests
        if request.operation == "PutLogEvents" and request.parameters.get("logGroupName") == group
    }
    return Counter(message for stream in streams for message in service.messages(group, stream))


def wait_for_all(service: StrictService, group: str, messages: Any) -> None:
    """Wait until all these messages are in the group, and fail if some stay away."""
    wanted = Counter(messages)
    service.wait_for(lambda: not wanted - delivered(service, group), PATIENCE)
    assert not wanted - delivered(service, group)
