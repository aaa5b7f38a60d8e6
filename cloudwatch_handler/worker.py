"""The thread, the clock and the locks around the buffer and its delivery.

The thread is a loop around :meth:`Worker.step`: take one due batch, try once, settle. It contains no decision of its
own, so everything that must work without it (a flush while ``dictConfig`` holds logging's lock, an interpreter that
allows no new thread, a test) calls the same ``step`` on its own thread.

Two locks. The *ledger* guards the buffer for moments; a log call never waits for it. The *driver* is held by whoever
steps, over the network call. A log call appends to the buffer's intake, without any lock.

A fork gives the child a worker that starts from nothing: its parent delivers what the parent has.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from . import process
from .buffer import Buffer, Mark
from .delivery import Delivery
from .diagnostics import Diagnostics, say_left
from .event import Batch, Event
from .ledger import DeliveryReport, RejectedEvents, Statistics

#: The intake is emptied by the log call itself when it holds so many events, or one of so many bytes.
DRAIN_COUNT = 256
DRAIN_SIZE = 8192
#: Seconds that flush and close wait while their thread holds logging's module lock, which the worker may want.
HANDOVER = 0.1
#: Seconds after which a lock that is only ever held for moments counts as held by the code that a signal interrupted.
REENTRY = 1.0
#: Seconds a batch rests after an exception that should not have been.
BUG_DELAY = 5.0

# Bound here, so that a frozen or faked clock in the application cannot stop the worker.
_monotonic = time.monotonic


class Worker:
    """Accepts events and sees to it that they leave.

    Args:
        make_buffer, make_delivery: called once, and once more in each forked child.
        send_interval: seconds that an event may wait for company.
        drain_count: how many events may be in the intake before the log call itself makes room.
        shutdown_timeout: seconds that the end of the process may be held up.
        block_timeout: seconds that :meth:`add` may wait for room; None means it never waits.
        on_rejected: called with what was rejected, on the thread that delivers; or None.
    """

    def __init__(
        self,
        make_buffer: Callable[[], Buffer],
        make_delivery: Callable[[], Delivery],
        *,
        send_interval: float,
        drain_count: int = DRAIN_COUNT,
        shutdown_timeout: float,
        block_timeout: float | None = None,
        on_rejected: Callable[[RejectedEvents], object] | None = None,
    ) -> None:
        self._make_buffer = make_buffer
        self._make_delivery = make_delivery
        self._send_interval = send_interval
        self._drain_count = drain_count
        self.shutdown_timeout = shutdown_timeout
        self._block_timeout = block_timeout
        self._on_rejected = on_rejected
        self.reset()
        process.register(self)

    def reset(self) -> None:
        """Begin from nothing: an empty buffer, fresh locks, no thread, no client."""
        self.pid = os.getpid()
        self._buffer = self._make_buffer()
        self._delivery = self._make_delivery()
        self._diagnostics = Diagnostics()
        self._ledger = threading.Lock()
        self._driver = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wakes_at = -math.inf  # monotonic; -inf while the thread is awake
        self._telling = False  # written by the thread that drives
        self._waiters: list[queue.SimpleQueue[None]] = []

    # -- the log call's side --------------------------------------------------------------------------------------

    def add(self, event: Event) -> None:
        """Accept an event. Waits for nothing, unless ``block_timeout`` says so and memory is full."""
        if self._block_timeout is not None:
            self._wait_for_room(event)
        buffer = self._buffer
        intake = buffer.intake
        first = not intake
        if first:
            buffer.intake_since = _monotonic()
        intake.append(event)
        if first:
            if self._thread is None:
                self._start()
            if self._wakes_at > buffer.intake_since + self._send_interval:
                self._wake.put(None)
        if len(intake) >= self._drain_count or event[2] > DRAIN_SIZE:
            self._drain()

    def refuse(self, event: Event, reason: str) -> None:
        """Accept an event only to count it as rejected."""
        with self._ledger:
            self._buffer.refuse(event, reason)
        if self._thread is None:
            self._start()
        self._wake.put(None)

    def _drain(self) -> None:
        if self._ledger.acquire(blocking=False):  # else another thread is at it
            try:
                full = self._buffer.drain()
            finally:
                self._ledger.release()
            if full and self._wakes_at > 0:
                self._wake.put(None)

    def _wait_for_room(self, event: Event) -> None:
        deadline = _monotonic() + (self._block_timeout or 0.0)
        with _Waiter(self._waiters) as waiter:
            while not process.drives():
                with self._ledger:
                    self._buffer.drain()
                    if self._buffer.has_room(event.memory):
                        return
                remaining = deadline - _monotonic()
                if remaining <= 0:
                    return
                self._wake.put(None)
                waiter.wait(remaining)

    # -- the thread -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                self._stopping = False
                thread = threading.Thread(target=self._run, name="cloudwatch_handler", daemon=True)
                self._thread = thread
                thread.start()
                process.prepare_exit()
        except RuntimeError:  # the interpreter is ending, or has no room for a thread: flush and close step themselves
            self._thread = None
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            with self._driver:
                due = self.step()
            if due is None and self._stopping:
                # First gone, then a last look: a log call appends first, and then looks whether there is a thread.
                thread, self._thread = self._thread, None
                if not self._buffer.intake:
                    return
                self._thread = thread
            self._sleep(due)

    def _sleep(self, due: float | None) -> None:
        self._wakes_at = math.inf if due is None else due
        with self._ledger:  # what came before the line above found no one to wake
            due = self._buffer.due()
        timeout = None if due is None else max(0.0, due - _monotonic())
        with suppress(queue.Empty):
            self._wake.get(timeout=timeout)
            while True:
                self._wake.get_nowait()
        self._wakes_at = -math.inf

    def step(self) -> float | None:
        """Take one due batch, try once to deliver it, settle it.

        The caller holds the driver lock.

        Returns:
            Monotonic time at which there is more to do, or None.
        """
        ident = threading.get_ident()
        process.driving.add(ident)
        try:
            with self._ledger:
                self._buffer.drain()
                batch = self._buffer.take(now=_monotonic())
            if batch is not None:
                self._deliver(batch)
            self._tell()
            self._notify()
            with self._ledger:
                return self._buffer.due()
        finally:
            process.driving.discard(ident)

    def _deliver(self, batch: Batch) -> None:
        report = DeliveryReport(remaining=(batch,), delay=BUG_DELAY)
        try:
            attempt = self._delivery.attempt(batch, now=_monotonic(), wall=time.time())
            if attempt.events != len(batch):
                raise AssertionError(f"{attempt.events} events reported of a batch of {len(batch)}")
            report = attempt
        except Exception as error:
            self._diagnostics.bug(error)
        finally:  # also when a KeyboardInterrupt goes through: the batch returns to its lane
            now = _monotonic()
            with self._ledger:
                self._buffer.settle(batch, report, now=now)
                if report.error is not None:
                    self._buffer.note_error(str(report.error), wall=time.time())
                pending = self._buffer.pending()
        self._diagnostics.attempt(batch.destination, report, pending=pending, now=now)

    def _notify(self) -> None:
        for waiter in tuple(self._waiters):
            waiter.put(None)

    def _tell(self) -> None:
        """Say what was rejected and dropped."""
        now = _monotonic()
        with self._ledger:
            rejections = self._buffer.rejections()
            drops = self._buffer.drops()
            self._telling = True
        for reason, destination, events in rejections:
            self._diagnostics.rejected(reason, destination, len(events), now=now)
            if self._on_rejected is not None:
                try:
                    self._on_rejected(RejectedEvents.of(reason, destination, events))
                except Exception as error:
                    self._diagnostics.bug(error)
        for reason, count in drops.items():
            self._diagnostics.dropped(reason, count, now=now)
        self._telling = False

    # -- flush, close, statistics -----------------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """A snapshot of the ledger."""
        with self._ledger:
            return self._buffer.statistics()

    def flush(self, timeout: float | None, default: float) -> bool:
        """Deliver all that was accepted before the call.

        Args:
            timeout: seconds, or None for the default, which is cut short while this thread holds logging's module lock.
            default: seconds.

        Returns:
            True when all of it is settled, False at the timeout.
        """
        if timeout is None:
            timeout = HANDOVER if _holds_logging_lock() else default
        deadline = _monotonic() + timeout
        mark = self._mark()
        return mark is not None and self._drive(mark, deadline)

    def close(self, timeout: float | None = None) -> None:
        """Deliver what can be delivered within ``timeout`` seconds, drop the rest and say so.

        None means ``shutdown_timeout``.

        While this thread holds logging's module lock (``dictConfig`` replaces its handlers) nothing is dropped: the
        worker goes on in the background. A later event starts everything again.
        """
        if timeout is None:
            timeout = self.shutdown_timeout
        hands_over = _holds_logging_lock()
        deadline = _monotonic() + (min(timeout, HANDOVER) if hands_over else timeout)
        mark = self.urge()
        reached = mark is not None and self._drive(mark, deadline)
        self._stopping = True
        self._wake.put(None)
        if reached or hands_over or not self._ledger.acquire(timeout=REENTRY):
            return
        try:
            last_error = self._buffer.last_error
            left = self._buffer.abandon("closed")
        finally:
            self._ledger.release()
        self._notify()
        say_left(left, last_error)

    def urge(self) -> Mark | None:
        """Have everything sent at once, back-off or not; returns the mark of what that is."""
        mark = self._mark(hasten=True)
        self._wake.put(None)
        return mark

    def _mark(self, *, hasten: bool = False) -> Mark | None:
        if not self._ledger.acquire(timeout=REENTRY):  # a signal handler has interrupted the lock's owner
            return None
        try:
            if hasten:
                self._buffer.drain()
                self._buffer.hasten(now=_monotonic())
            return self._buffer.mark()
        finally:
            self._ledger.release()

    def retire(self) -> None:
        """Nobody will add events any more: end the thread once all is settled. Safe in a destructor."""
        self._stopping = True
        self._wake.put(None)

    def _is_done(self, mark: Mark) -> bool:
        """Whether all up to the mark has settled, and what was rejected has been told."""
        return self._buffer.reached(mark) and not self._telling and not self._buffer.has_rejections()

    def _drive(self, mark: Mark, deadline: float) -> bool:
        """Return True once the mark is reached, False at the deadline.

        The worker's thread does the work if it can; otherwise this thread does.
        """
        if process.drives():  # called from within step, say by on_rejected
            return self._buffer.reached(mark)
        with _Waiter(self._waiters) as waiter:
            while not self._is_done(mark):
                remaining = deadline - _monotonic()
                if remaining <= 0:
                    return False
                if self._thread is None:
                    self._start()
                if self._thread is not None and self._thread.is_alive() and not _holds_logging_lock():
                    self._wake.put(None)
                    waiter.wait(min(remaining, 1.0))
                    continue
                if not self._driver.acquire(timeout=min(remaining, HANDOVER)):
                    if _holds_logging_lock():  # the worker is in a call that may want the lock that we hold
                        return False
                    continue
                try:
                    due = self.step()
                finally:
                    self._driver.release()
                pause = math.inf if due is None else due - _monotonic()
                if pause > 0 and not self._is_done(mark):
                    waiter.wait(max(0.0, min(pause, deadline - _monotonic(), 1.0)))
        return True


class _Waiter:
    """A place to wait for the next settlement; usable inside a signal handler, unlike a Condition."""

    def __init__(self, waiters: list[queue.SimpleQueue[None]]) -> None:
        self._waiters = waiters
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> _Waiter:
        self._waiters.append(self._queue)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters.remove(self._queue)

    def wait(self, timeout: float) -> None:
        with suppress(queue.Empty):
            self._queue.get(timeout=timeout)


def _holds_logging_lock() -> bool:
    """Whether this thread holds logging's module lock, as it does inside ``dictConfig``."""
    is_owned = getattr(getattr(logging, "_lock", None), "_is_owned", None)
    return bool(is_owned is not None and is_owned())
