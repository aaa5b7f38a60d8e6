"""The calls of other threads: what a log call, flush, close and the end of the process may wait for, and how long.

A log call appends to the buffer's intake, without any lock. Whoever has a deadline waits for the thread, because only a
wait can be broken off, and a network call cannot. Two callers cannot wait, and step themselves: one that holds
logging's lock, which the thread may want, and one at the end of an interpreter that allows no new thread. Their calls
are made with time-outs that fit the deadline.

A fork gives the child a worker that starts from nothing: its parent delivers what the parent has.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable

from . import process
from .buffer import Buffer
from .delivery import Delivery
from .driver import REENTRY, Driver
from .event import Event
from .lanes import Mark
from .ledger import RejectedEvents, Statistics
from .spool import Spool
from .thread import Thread
from .waiting import calls_end_by, holds_logging_lock, is_free, monotonic

#: The intake is emptied by the log call itself when it holds so many events, or one of so many bytes.
DRAIN_COUNT = 256
DRAIN_SIZE = 8192
#: Seconds that flush waits, unless told, while its thread holds logging's module lock, which the worker may want; and
#: seconds between two looks whether the driver's lock is free.
HANDOVER = 0.1
#: Seconds that a log call may wait for the network where it delivers itself, in uWSGI without threads.
ASSISTANCE = 5.0


class Worker:
    """Accepts events and sees to it that they leave.

    Args:
        make_buffer, make_delivery, make_spool: called once, and once more in each forked child; without the last one,
            events are in memory only.
        send_interval: seconds that an event may wait for company.
        drain_count: how many events may be in the intake before the log call itself makes room.
        shutdown_timeout: seconds that the end of the process may be held up.
        block_timeout: seconds that :meth:`add` may wait for room; None means it never waits.
        on_rejected: called with what was rejected, on the thread that delivers; or None.
        keeps_deadlines: whether calls made on a waiting thread end in time; not so with a client of the user's.
    """

    def __init__(
        self,
        make_buffer: Callable[[Spool | None], Buffer],
        make_delivery: Callable[[], Delivery],
        make_spool: Callable[[], Spool] | None = None,
        *,
        send_interval: float,
        drain_count: int = DRAIN_COUNT,
        shutdown_timeout: float,
        block_timeout: float | None = None,
        on_rejected: Callable[[RejectedEvents], object] | None = None,
        keeps_deadlines: bool = True,
    ) -> None:
        self._make_buffer = make_buffer
        self._make_delivery = make_delivery
        self._make_spool = make_spool
        self._spool: Spool | None = None
        self._send_interval = send_interval
        self._intake_count = drain_count
        self.shutdown_timeout = shutdown_timeout
        self._block_timeout = block_timeout
        self._on_rejected = on_rejected
        self._keeps_deadlines = keeps_deadlines
        self.reset()
        process.register(self)

    def reset(self) -> None:
        """Begin from nothing: an empty buffer, fresh locks, no thread, no client."""
        if self._spool is not None:
            self._spool.forget()
        self._spool = None if self._make_spool is None else self._make_spool()
        self._buffer = self._make_buffer(self._spool)
        self.driver = Driver(self._buffer, self._make_delivery(), self._spool, self._on_rejected)
        self.thread = Thread(self.driver, owner=self)
        self._closing = threading.Lock()
        self._assists = process.is_uwsgi_master() or not process.has_threads()
        self._drain_count = 0 if self._assists else self._intake_count
        self._patience = math.inf  # seconds that the end of the process may still be held up; inf before the end
        self._gave_up = False  # at the end of the process, events were left behind, and that was said
        self.pid = os.getpid()  # last: another thread that sees it finds everything new

    # -- the log call's side ------------------------------------------------------------------------------------------

    def add(self, event: Event) -> None:
        """Accept an event. Waits for nothing, unless ``block_timeout`` says so and memory is full.

        With a spool, the event is on disk when this returns.
        """
        buffer, thread = self._buffer, self.thread
        intake = buffer.intake
        if not intake:
            buffer.intake_since = monotonic()
        on_disk = self._spool is not None and self._spool.write(event, intake)
        if not on_disk and (self._block_timeout is None or not self._add_when_there_is_room(event)):
            intake.append(event)
        # First there, then a look whether somebody will come for it: another thread may have emptied the intake.
        if thread.absent:
            self._attend()
        # Whether or not it is still there: who took it from the intake may not be the thread, as in statistics().
        if thread.wakes_at > buffer.intake_since + self._send_interval:
            thread.wake()
        if len(intake) >= self._drain_count or event[2] > DRAIN_SIZE:
            self._drain()

    def refuse(self, event: Event, reason: str) -> None:
        """Accept an event only to count it as rejected."""
        self.driver.refused.append((event, reason))
        self._drain()
        self._attend()
        self.thread.wake()

    def _attend(self) -> None:
        """See to it that somebody comes for what was just added."""
        if self._patience < math.inf:  # the process ends, and all were closed: there is nobody left but this call
            self.close(self._patience)
        else:
            self._begin()

    def _begin(self) -> None:
        if self._assists:
            self.driver.stopping = False
        else:
            self.thread.begin()

    def _drain(self) -> None:
        ledger = self.driver.ledger
        if ledger.locked():  # another thread is at it, or the code that a signal handler interrupted
            return
        with ledger:
            full = self.driver.enter()
        if full and self.thread.wakes_at > 0:
            self.thread.wake()
        if self._assists:
            self._assist()

    def _assist(self) -> None:
        """Deliver in the log call what is due, where no thread does: in uWSGI without threads, and in its master.

        The master forks without telling Python: no thread of its own may be in the middle of something then. And
        nothing is run at its end: everything is due at once there, and only what fails is left to a thread.
        """
        is_master, has_threads = process.is_uwsgi_master(), process.has_threads()
        if has_threads and not is_master:  # there was to be no master: this process has become a worker
            self._assists, self._drain_count = False, self._intake_count
            self._begin()
            return
        driver = self.driver
        if process.drives() or not driver.lock.acquire(blocking=False):
            return
        try:
            if not has_threads and process.is_news(process.NO_THREADS):
                driver.diagnostics.say(process.NO_THREADS)
            if is_master:
                driver.mark(0.0)
            deadline = monotonic() + ASSISTANCE
            with calls_end_by(deadline):
                while (due := driver.due()) is not None and due <= monotonic() < deadline:
                    driver.step()
        finally:
            driver.lock.release()
        if due is not None and has_threads:
            self.thread.start()

    def _add_when_there_is_room(self, event: Event) -> bool:
        """Wait for room and take it, before another thread does; False when there was none in time."""
        deadline = monotonic() + (self._block_timeout or 0.0)
        with self.driver.waiters.join() as waiter:
            while not process.drives() and is_free(self.driver.ledger, REENTRY):
                with self.driver.ledger:
                    self.driver.enter()
                    if event.memory <= self._buffer.room():
                        self._buffer.intake.append(event)
                        self.driver.enter()
                        return True
                    if not self._buffer.can_hold(event):
                        return False
                remaining = deadline - monotonic()
                if remaining <= 0:
                    break
                self._wake_if_due()
                waiter.wait(remaining)
        return False

    # -- flush, close, statistics -------------------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """A snapshot of the ledger."""
        return self.driver.statistics()

    def flush(self, timeout: float | None, default: float) -> bool:
        """Deliver all that was accepted before the call.

        Args:
            timeout: seconds; None means the default, or less at the end of the process, and while this thread holds
                logging's module lock.
            default: seconds.

        Returns:
            True when all of it is settled, or on disk while delivery fails; False at the timeout.
        """
        began = monotonic()
        steps = timeout is not None or not holds_logging_lock()
        if timeout is None:
            timeout = min(default if steps else HANDOVER, self._patience)
        mark = self.driver.mark(timeout)
        self.thread.wake()
        try:
            return mark is not None and self._drive(mark, began + timeout, steps=steps)
        finally:
            self._patience -= monotonic() - began

    def recover(self, timeout: float) -> bool:
        """Take over what dead processes left in the spool and deliver it, on this thread; True when all is settled."""
        deadline = monotonic() + timeout
        driver, spool = self.driver, self._spool
        driver.stopping = False
        with driver.waiters.join() as waiter:
            while (remaining := deadline - monotonic()) > 0 and driver.lock.acquire(timeout=remaining):
                try:
                    found = spool.adopt(at_once=True) if spool is not None and not spool.backlog else 0
                    with calls_end_by(deadline):
                        driver.step()
                finally:
                    driver.lock.release()
                driver.mark(REENTRY)  # what was taken over waits for no company; a stream that rests goes on resting
                with driver.ledger:
                    due = self._buffer.due()
                if due is not None:
                    waiter.wait(max(0.0, min(due, deadline) - monotonic()))
                elif not found and (spool is None or not spool.backlog):
                    return spool is None or not spool.adoption.has_more
        return False

    def close(self, timeout: float | None = None) -> None:
        """Deliver what can be delivered in time, drop the rest and say so. A later event starts everything again.

        While this thread holds logging's module lock (``dictConfig`` replaces its handlers), and on the worker's own
        thread, it neither waits nor drops: the thread goes on in the background.

        Args:
            timeout: seconds, given at the end of the process, where they are all there is for this call and those that
                follow; None means ``shutdown_timeout``.
        """
        began = monotonic()
        if timeout is not None:
            self._patience = min(self._patience, timeout)
        timeout = min(self._patience, self.shutdown_timeout)
        hands_over = holds_logging_lock() or process.drives()
        mark = self.urge(timeout)
        reached = mark is not None and self._drive(mark, began if hands_over else began + timeout)
        self.thread.end()
        self._patience -= monotonic() - began
        if hands_over or not is_free(self._closing, REENTRY):
            return
        with self._closing:  # whoever closes at the same time waits until all is said, since the process may end then
            if not reached or self._spool is not None:
                self.driver.abandon(silently=self._gave_up)
                self._gave_up = self._patience <= 0
                self.thread.wake()  # it may be asleep for as long as a lane rested that is gone now
            self.driver.diagnostics.say_rest()

    def urge(self, timeout: float = REENTRY) -> Mark | None:
        """Have everything sent at once, back-off or not; returns the mark of what that is."""
        mark = self.driver.mark(timeout, hasten=True)
        self.thread.wake()
        return mark

    def retire(self) -> None:
        """Nobody will add events any more: end the thread once all is settled. Safe in a destructor."""
        self.thread.end()

    def _drive(self, mark: Mark, deadline: float, *, steps: bool = True) -> bool:
        """Return True once the mark is reached, False at the deadline.

        The thread does the work if it can; otherwise this thread does, unless it shall only wait.
        """
        driver = self.driver
        left = None if self._spool is None else self._spool.backlog.mark()
        with driver.waiters.join() as waiter:
            while left is not None or not driver.reached(mark):
                if left is not None and not self._comes_back(left):
                    # What was on disk only is in memory now.
                    left, later = None, driver.mark(REENTRY)
                    mark = mark if later is None else later
                    continue
                self._begin()
                remaining = deadline - monotonic()
                if process.drives():  # called from within step, say by on_rejected
                    return driver.buffer.lanes.reached(mark) or driver.is_safe(mark, fails=False)
                if remaining <= 0 or driver.is_safe(mark, fails=True):
                    return driver.is_safe(mark, fails=False)
                if self._can_wait() or not steps:
                    self._wake_if_due()
                    waiter.wait(min(remaining, 1.0))
                    continue
                if not driver.lock.acquire(timeout=min(remaining, HANDOVER)):
                    continue
                try:
                    with calls_end_by(deadline):
                        due = driver.step()
                finally:
                    driver.lock.release()
                pause = math.inf if due is None else due - monotonic()
                if pause > 0 and not driver.reached(mark):
                    waiter.wait(max(0.0, min(pause, deadline - monotonic(), 1.0)))
        return True

    def _wake_if_due(self) -> None:
        """Wake the thread where it may not know that there is something to do; each of its steps wakes who waits."""
        due = self.driver.due()
        if due is None or due <= monotonic():
            self.thread.wake()

    def _comes_back(self, left: int) -> bool:
        """Whether some of what was on disk only at this mark of the spool's is still there."""
        return self._spool is not None and not self._spool.backlog.reached(left)

    def _can_wait(self) -> bool:
        """Whether the thread can do the work, and cannot be held up by a lock of the caller's."""
        return self.thread.can_be_waited_for() and not (self._keeps_deadlines and holds_logging_lock())
