"""Addresses on loopback where nobody answers, for now or for ever."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

#: Below those that the kernel gives to outgoing connections (see ip_local_port_range).
SERVER_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port for a server that is started soon: nobody listens there, and no connection of others will come from it."""
    chance = random.SystemRandom()  # tests that run at the same time have the same seed
    while True:
        port = chance.choice(SERVER_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


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
