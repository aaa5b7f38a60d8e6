"""A Lambda Runtime API on loopback: what awslambdaric asks for work, and gives its answers to."""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PREFIX = "/2018-06-01/runtime/invocation/"


@dataclass
class Invocation:
    """One call of the function.

    Attributes:
        event: what it is called with.
        deadline: seconds since the epoch at which Lambda would kill it.
        answer: what it returned, or the error's members (``errorType``, ``errorMessage``, ...).
        seen: what the observer saw at the moment of the answer.
        answered_at: seconds since the epoch.
    """

    event: object
    deadline: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: Any = None
    seen: Any = None
    answered_at: float = 0.0
    _answered: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout: float = 30.0) -> Any:
        """The answer."""
        assert self._answered.wait(timeout), "the function has not answered"
        return self.answer


class RuntimeApi:
    """Hands out invocations and takes the answers; a context manager.

    Args:
        observe: called when an answer comes in, before it is acknowledged: the moment that Lambda freezes the function.
    """

    def __init__(self, observe: Callable[[], object]) -> None:
        self._observe = observe
        self._waiting: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._invocations: dict[str, Invocation] = {}
        api = self

        class Connection(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """``invocation/next``, which waits."""
                invocation = api._waiting.get()
                if invocation is None:
                    self.close_connection = True
                    return
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": invocation.id,
                    "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:test",
                }
                self._reply(200, json.dumps(invocation.event).encode(), headers)

            def do_POST(self) -> None:
                """``invocation/ID/response`` and ``invocation/ID/error``."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                invocation = api._invocations[self.path.removeprefix(PREFIX).split("/")[0]]
                invocation.answered_at, invocation.seen = time.time(), api._observe()
                invocation.answer = json.loads(body)
                invocation._answered.set()
                self._reply(202, b"", {})

            def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> RuntimeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def invoke(self, event: object, *, timeout: float = 30.0) -> Invocation:
        """Have the function called once it asks for work; it has so many seconds from now on."""
        invocation = Invocation(event, time.time() + timeout)
        self._invocations[invocation.id] = invocation
        self._waiting.put(invocation)
        return invocation
