"""A limit on the time that a whole answer takes.

Constraint: the time-out of a socket starts anew with each byte. A server, or a proxy, that sends one byte every few
seconds can hold a request, and with it a process that wants to end, for as long as it likes.

Decision: the connections of our own clients read through a layer that sets the time-out of each read to what is left
of the whole, and of the deadline of the calling thread if it has one.

Cost: botocore has no public place for it. Where its inside looks different, its own time-outs are all there is.
"""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from typing import Any, cast

from botocore import awsrequest

from .waiting import monotonic, time_for_calls

#: Seconds from the first wait for an answer to its last byte. An answer is short; a request may wait for 10 s.
ANSWER_TIMEOUT = 20.0


class _Incoming(io.RawIOBase):
    """What a socket receives, until the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = monotonic() + ANSWER_TIMEOUT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - whatever the buffer of BufferedReader is
        left = min(self._deadline - monotonic(), time_for_calls())
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        timeout = self._socket.gettimeout()
        self._socket.settimeout(left if timeout is None else min(left, timeout))
        try:
            return self._raw.readinto(buffer)
        finally:
            self._socket.settimeout(timeout)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PromptSocket:
    """A connected socket from which answers are read in time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def __getattr__(self, name: str) -> object:
        return getattr(self._socket, name)

    def makefile(self, mode: str = "r", buffering: int = -1, **_: object) -> io.RawIOBase | io.BufferedReader:
        """As ``http.client`` asks for it: bytes to read."""
        incoming = _Incoming(self._socket)
        return incoming if buffering == 0 else io.BufferedReader(incoming)


def _wrap(connection: Any) -> None:  # noqa: ANN401 - botocore has no types
    connection.sock = _PromptSocket(connection.sock)


class _Connection(awsrequest.AWSHTTPConnection):  # type: ignore[misc]
    def connect(self) -> None:
        super().connect()
        _wrap(self)


class _SecureConnection(awsrequest.AWSHTTPSConnection):  # type: ignore[misc]
    def connect(self) -> None:
        super().connect()
        _wrap(self)


class _Pool(awsrequest.AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _SecurePool(awsrequest.AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _SecureConnection


def limit_answers(client: object) -> None:
    """Have this boto3 client, which nobody else uses yet, wait for the whole of an answer no longer than that."""
    with suppress(AttributeError):
        session = cast(Any, client)._endpoint.http_session
        session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = {
            "http": _Pool,
            "https": _SecurePool,
        }
