"""Waiting where it is delicate: in signal handlers, inside ``logging.config``, with a deadline, with a faked clock."""

from __future__ import annotations

import logging
import math
import queue
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


class Waiters:
    """Threads that wait for something to be settled.

    A :class:`threading.Condition` would do, but not in a signal handler that has interrupted the very thread that holds
    its lock; appending to a list and putting into a SimpleQueue are atomic.
    """

    def __init__(self) -> None:
        self._waiting: list[queue.SimpleQueue[None]] = []

    def notify(self) -> None:
        """Wake all who wait."""
        for waiter in tuple(self._waiting):
            waiter.put(None)

    def join(self) -> Waiter:
        """Begin to wait: what happens from now on is not missed. Use it in a ``with`` statement."""
        waiter: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waiting.append(waiter)
        return Waiter(self._waiting, waiter)


class Waiter:
    """One thread's place among the waiters."""

    def __init__(self, waiting: list[queue.SimpleQueue[None]], own: queue.SimpleQueue[None]) -> None:
        self._waiting = waiting
        self._own = own

    def __enter__(self) -> Waiter:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.remove(self._own)

    def wait(self, timeout: float) -> None:
        """Return at the next settlement, or after so many seconds."""
        with suppress(queue.Empty):
            self._own.get(timeout=timeout)


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
