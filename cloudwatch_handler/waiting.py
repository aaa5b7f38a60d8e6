"""Waiting where it is delicate: in signal handlers, inside ``logging.config``, with a deadline, with a faked clock."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

#: Seconds between two looks at a lock that is held for moments.
MOMENT = 0.001


def monotonic(real: Callable[[], float] = time.monotonic) -> float:
    """Seconds of the monotonic clock, also while freezegun has put its own in the place of every name for it."""
    return real()


def wall_clock(real: Callable[[], float] = time.time) -> float:
    """Seconds since the epoch, likewise."""
    return real()


_deadline: ContextVar[float] = ContextVar("cloudwatch_handler_deadline", default=math.inf)


@contextmanager
def calls_end_by(deadline: float) -> Iterator[None]:
    """Network calls that this thread makes in a ``with`` statement shall be over at this monotonic time."""
    reset = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(reset)


def time_for_calls() -> float:
    """Seconds that network calls of this thread may take from now on; infinite on the worker's own thread."""
    return _deadline.get() - monotonic()


def is_free(lock: threading.Lock, timeout: float) -> bool:
    """Wait until nobody holds a lock that is only ever held for moments, to take it in a ``with`` statement then.

    False when it is still held after so many seconds: a signal handler may have interrupted the code that holds it.
    ``acquire(timeout=...)`` would tell as well; but an exception that a signal handler raises right behind it leaves
    the lock locked for ever, and ``with`` does not.
    """
    deadline = monotonic() + timeout
    while lock.locked():
        if monotonic() >= deadline:
            return False
        time.sleep(MOMENT)
    return True


class Bell:
    """What one thread waits for and any other rings; that it rang is remembered, once.

    A bare lock, because its two operations are atomic. The lock of a :class:`threading.Condition` or an
    :class:`threading.Event` may be held by the very code that a signal handler has interrupted; and CPython's
    ``SimpleQueue.get(timeout=...)`` waits for ever when the time is up before it has begun to wait (3.10 to 3.13).
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """End the wait of whoever waits, or the next one."""
        with suppress(RuntimeError):  # it has rung already
            self._silence.release()

    def wait(self, timeout: float) -> None:
        """Return when it has rung, or after so many seconds."""
        self._silence.acquire(timeout=timeout)


class Waiters:
    """Threads that wait for something to be settled; appending to a list is atomic, too."""

    def __init__(self) -> None:
        self._bells: list[Bell] = []

    def notify(self) -> None:
        """Wake all who wait."""
        for bell in tuple(self._bells):
            bell.ring()

    @contextmanager
    def join(self) -> Iterator[Bell]:
        """A bell for a ``with`` statement, which rings whenever something is settled from now on."""
        bell = Bell()
        self._bells.append(bell)
        try:
            yield bell
        finally:
            self._bells.remove(bell)


@contextmanager
def logging_lock(timeout: float) -> Iterator[bool]:
    """Logging's module lock for a ``with`` statement; False when it could not be had within so many seconds."""
    lock = getattr(logging, "_lock", None)
    is_ours = lock is None or lock.acquire(timeout=timeout)
    try:
        yield is_ours
    finally:
        if is_ours and lock is not None:
            lock.release()


def holds_logging_lock() -> bool:
    """Whether this thread holds logging's module lock, as it does inside ``dictConfig``."""
    is_owned = getattr(getattr(logging, "_lock", None), "_is_owned", None)
    return bool(is_owned is not None and is_owned())
