"""Connections: HTTP/1.1 with keep-alive, one daemon thread each, and an end that never waits."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import traceback
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from .faults import Answer
from .shapes import Json

if TYPE_CHECKING:
    from .server import Request, StrictService

# How long close() waits for threads that it has already cut off, in seconds.
JOIN_TIMEOUT = 2.0


class Server(ThreadingHTTPServer):
    """Listens on loopback and serves from construction until ``close``."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, service: StrictService, port: int) -> None:
        super().__init__(("127.0.0.1", port), Connection)
        self.service = service
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._waits: set[threading.Event] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="strict-service", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening, wakes what waits, cuts every connection. Idempotent."""
        with self._lock:
            if self.closing.is_set():
                return
            self.closing.set()
            for event in self._waits:
                event.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            connection.cut()
        for thread in connections.values():
            thread.join(JOIN_TIMEOUT)

    def wait(self, until: threading.Event | float) -> bool:
        """Waits for an event or for seconds; False once the service is closing."""
        if not isinstance(until, threading.Event):
            return not self.closing.wait(until)
        with self._lock:
            if self.closing.is_set():
                return False
            self._waits.add(until)
        until.wait()
        return not self.closing.is_set()

    def opened(self, connection: Connection) -> None:
        """Notes a connection, on its own thread."""
        with self._lock:
            self._connections[connection] = threading.current_thread()
        if self.closing.is_set():
            connection.cut()

    def closed(self, connection: Connection) -> None:
        """Forgets a connection."""
        with self._lock:
            self._connections.pop(connection, None)

    def handle_error(self, request: object, client_address: object) -> None:
        """A lost connection is daily life; anything else is a defect of this service."""
        error = traceback.format_exc()
        if not error.rstrip().rsplit("\n", 1)[-1].startswith(_LOST):
            self.service.violate("StrictService", f"internal error: {error}")


_LOST = ("BrokenPipeError", "ConnectionResetError", "ConnectionAbortedError", "OSError")


class Connection(BaseHTTPRequestHandler):
    """One connection of a client; also the ``Exchange`` that a fault plays with."""

    protocol_version = "HTTP/1.1"
    server_version = "StrictService"
    disable_nagle_algorithm = True
    server: Server
    _request: Request

    def setup(self) -> None:
        """Makes the connection known to the server."""
        super().setup()
        self.server.opened(self)

    def finish(self) -> None:
        """Makes the server forget the connection."""
        self.server.closed(self)
        super().finish()

    def do_POST(self) -> None:
        """Reads one request, and answers it or lets a fault do so."""
        service = self.server.service
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._request, fault = service.arrive(headers, body, self.client_address)
        self._sent = False
        if service.latency and not self.wait(service.latency):
            self.close_connection = True
        elif fault is None:
            self.send(self.carry_out())
        else:
            fault.play(self)
        if not self._sent:
            self.close_connection = True

    def carry_out(self) -> Answer:
        """See ``Exchange``."""
        return self.server.service.carry_out(self._request)

    def refuse(self, code: str, message: str, status: int, fields: Json) -> Answer:
        """See ``Exchange``."""
        from .server import error_answer

        return error_answer(code, message, status, fields)

    def send(self, answer: Answer) -> None:
        """See ``Exchange``."""
        self._sent = True
        self.server.service.settle(self._request, answer)
        self._write(answer, answer.body)

    def send_part(self, answer: Answer) -> None:
        """See ``Exchange``."""
        answer = Answer(answer.status, answer.body or b"{}", answer.code)
        self._write(answer, answer.body[: len(answer.body) // 2])

    def reset(self) -> None:
        """See ``Exchange``."""
        # Past the socket object, which would say a proper goodbye (FIN) first.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def wait(self, until: threading.Event | float) -> bool:
        """See ``Exchange``."""
        return self.server.wait(until)

    def cut(self) -> None:
        """Ends the connection from another thread."""
        with contextlib.suppress(OSError):  # the client was quicker
            self.connection.shutdown(socket.SHUT_RDWR)

    def _write(self, answer: Answer, body: bytes) -> None:
        self.send_response(answer.status)
        if answer.request_id:
            self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is not even HTTP breaks the first rule of all."""
        self.server.service.violate("HTTP", f"{code} {message}")
        self.close_connection = True
        super().send_error(code, message, explain)

    def log_message(self, format: str, *args: object) -> None:
        """Silence: tests read ``service.requests``."""
