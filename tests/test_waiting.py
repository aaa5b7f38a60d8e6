"""What wakes a thread that waits, and what it may not miss or wait for."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from cloudwatch_handler.waiting import Bell, Waiters

PATIENCE = 20.0


def seconds(bell: Bell, timeout: float) -> float:
    """How long the wait took."""
    began = time.monotonic()
    bell.wait(timeout)
    return time.monotonic() - began


@pytest.mark.parametrize("timeout", [0.0, 1e-6])
def test_a_wait_whose_time_is_up_before_it_begins_ends(timeout: float) -> None:
    """Python's own SimpleQueue waits for ever then, once in some thousand times."""
    for _ in range(20_000):
        Bell().wait(timeout)


def test_what_rang_before_the_wait_is_remembered_once() -> None:
    """However often it rang."""
    bell = Bell()
    for _ in range(3):
        bell.ring()
    assert seconds(bell, PATIENCE) < PATIENCE / 2
    assert seconds(bell, 0.02) >= 0.02


def test_another_thread_ends_the_wait() -> None:
    """The bell is rung while this thread waits, or before."""
    bell = Bell()
    thread = threading.Thread(target=bell.ring)
    thread.start()
    assert seconds(bell, PATIENCE) < PATIENCE / 2
    thread.join()


def test_a_signal_handler_that_takes_longer_than_the_wait_does_not_prolong_it() -> None:
    """The time that it took is part of the wait."""
    bell = Bell()

    def handle(*_: object) -> None:
        bell.wait(0.2)

    previous = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert seconds(bell, 0.1) < PATIENCE / 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_all_who_wait_are_woken_and_nobody_else() -> None:
    """A settlement wakes everyone who joined before, and is nothing to those who left or come later."""
    waiters = Waiters()
    with waiters.join() as one, waiters.join() as other:
        with waiters.join() as gone:
            pass
        waiters.notify()
        with waiters.join() as late:
            assert seconds(one, PATIENCE) < PATIENCE / 2
            assert seconds(other, PATIENCE) < PATIENCE / 2
            assert seconds(late, 0.02) >= 0.02
            assert seconds(gone, 0.02) >= 0.02
