"""Addresses on loopback where nobody answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def closed_port() -> Iterator[str]:
    """The URL of a port on which nothing listens: connections are refused.

    The port stays reserved, so that nothing else starts to listen on it meanwhile.
    """
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield _url(reserved)


@contextmanager
def black_hole(*, connects: bool = False) -> Iterator[str]:
    """The URL of a port that swallows packets.

    With ``connects`` a connection is made and the request is swallowed (a read time-out);
    without, even the connection is never made (a connect time-out), since the backlog is full.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(128 if connects else 0)
        if not connects:
            # The kernel rounds the backlog up: fill it until a connection is not made any more.
            for _ in range(16):
                filler = stack.enter_context(socket.socket())
                filler.settimeout(0.1)
                try:
                    filler.connect(listener.getsockname())
                except TimeoutError:
                    break
        yield _url(listener)


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"http://{host}:{port}"
