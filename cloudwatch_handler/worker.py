"""The thread, the clock and the locks around the buffer and its delivery.

The thread is a loop around :meth:`Worker.step`: take one due batch, try once, settle. It contains no decision of its
own, so everything that must work without it (a flush while ``dictConfig`` holds logging's lock, an interpreter that
allows no new thread, a test) calls the same ``step`` on its own thread.

Two locks. The *ledger* guards the buffer for moments; a log call never waits for it. The *driver* is held by whoever
steps, over the network call. A log call appends to the buffer's intake, without any lock.

Whoever has a deadline waits for the thread, because only a wait can be broken off, and a network call cannot. Two
callers cannot wait, and step: one that holds logging's lock, which the thread may want, and one at the end of an
interpreter that allows no new thread. Their calls are made with time-outs that fit the deadline.

A fork gives the child a worker that starts from nothing: its parent delivers what the parent has.
"""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from . import process
from .buffer import Buffer
from .delivery import Delivery
from .diagnostics import Diagnostics, say_left
from .event import Batch, Event
from .lanes import Mark
from .ledger import DeliveryReport, RejectedEvents, Statistics
from .spool import Spool
from .waiting import Waiters, calls_end_by, holds_logging_lock, monotonic, wall_clock

#: The intake is emptied by the log call itself when it holds so many events, or one of so many bytes.
DRAIN_COUNT = 256
DRAIN_SIZE = 8192
#: Seconds that flush waits, unless told, while its thread holds logging's module lock, which the worker may want; and
#: seconds between two looks whether the driver's lock is free.
HANDOVER = 0.1
#: Seconds after which a lock that is only ever held for moments counts as held by the code that a signal interrupted.
REENTRY = 1.0
#: Seconds that a log call may wait for the network where it delivers itself, in uWSGI without threads.
ASSISTANCE = 5.0
#: Seconds a batch rests after an exception that should not have been.
BUG_DELAY = 5.0


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
        self._delivery = self._make_delivery()
        self._diagnostics = Diagnostics()
        self._ledger = threading.Lock()
        self._driver = threading.Lock()
        self._starting = threading.Lock()
        self._closing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._assists = process.is_uwsgi_master() or not process.has_threads()
        self._drain_count = 0 if self._assists else self._intake_count
        self._stopping = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wakes_at = -math.inf  # monotonic; -inf while the thread is awake
        self._waiters = Waiters()
        self._telling = False  # on_rejected is at work; written by the thread that drives
        self._snapshot = Statistics()
        self._refused: list[tuple[Event, str]] = []  # not in the books yet
        self._patience = math.inf  # seconds that the end of the process may still be held up; inf before the end
        self.pid = os.getpid()  # last: another thread that sees it finds everything new

    # -- the log call's side --------------------------------------------------------------------------------------

    def add(self, event: Event) -> None:
        """Accept an event. Waits for nothing, unless ``block_timeout`` says so and memory is full.

        With a spool, the event is on disk when this returns.
        """
        buffer = self._buffer
        intake = buffer.intake
        if not intake:
            buffer.intake_since = monotonic()
        on_disk = self._spool is not None and self._spool.write(event, intake)
        if not on_disk and (self._block_timeout is None or not self._add_when_there_is_room(event)):
            intake.append(event)
        # First there, then a look whether somebody will come for it: another thread may have emptied the intake.
        if self._thread is None or self._stopping:
            self._begin()
        # Whether or not it is still there: who took it from the intake may not be the thread, as in statistics().
        if self._wakes_at > buffer.intake_since + self._send_interval:
            self._wake.put(None)
        if len(intake) >= self._drain_count or event[2] > DRAIN_SIZE:
            self._drain()

    def refuse(self, event: Event, reason: str) -> None:
        """Accept an event only to count it as rejected."""
        self._refused.append((event, reason))
        self._drain()
        self._begin()
        self._wake.put(None)

    def _drain(self) -> None:
        if not self._ledger.acquire(blocking=False):  # another thread is at it, or the code that a signal interrupted
            return
        try:
            full = self._enter()
        finally:
            self._ledger.release()
        if full and self._wakes_at > 0:
            self._wake.put(None)
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
        if process.drives() or not self._driver.acquire(blocking=False):
            return
        try:
            if not has_threads and process.is_news(process.NO_THREADS):
                self._diagnostics.say(process.NO_THREADS)
            if is_master:
                self._mark(0.0)
            deadline = monotonic() + ASSISTANCE
            with calls_end_by(deadline):
                while (due := self._due()) is not None and due <= monotonic() < deadline:
                    self.step()
        finally:
            self._driver.release()
        if due is not None and has_threads:
            self._start()

    def _enter(self) -> bool:
        """Enter into the books what log calls have left; True when a batch is full. The caller holds the ledger."""
        while self._refused:
            self._buffer.refuse(*self._refused[0])
            del self._refused[0]
        return self._buffer.drain()

    def _add_when_there_is_room(self, event: Event) -> bool:
        """Wait for room and take it, before another thread does; False when there was none in time."""
        deadline = monotonic() + (self._block_timeout or 0.0)
        with self._waiters.join() as waiter:
            while not process.drives() and self._ledger.acquire(timeout=REENTRY):
                try:
                    self._enter()
                    if event.memory <= self._buffer.room():
                        self._buffer.intake.append(event)
                        self._enter()
                        return True
                    if not self._buffer.can_hold(event):
                        return False
                finally:
                    self._ledger.release()
                remaining = deadline - monotonic()
                if remaining <= 0:
                    break
                self._wake.put(None)
                waiter.wait(remaining)
        return False

    # -- the thread -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._stopping:  # the thread may not have ended yet
            self._stopping = False
            self._wake.put(None)
        if self._thread is None and not self._assists:
            self._start()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        has_ended = False
        try:
            if self._thread is None:
                process.prepare_exit()
                self._use_locks_of_today()
                self._stopping = False
                thread = threading.Thread(target=self._run, name="cloudwatch_handler", daemon=True)
                self._thread = thread
                thread.start()
                has_ended = self._thread is None
        except RuntimeError:  # the interpreter is ending, or has no room for a thread: flush and close step themselves
            self._thread = None
        finally:
            if self._thread is not None and self._thread.ident is None:  # Ctrl-C came before it ran
                self._thread = None
            self._starting.release()
        if has_ended and self._buffer.intake:  # of a log call that meanwhile found this one at it
            self._start()

    def _use_locks_of_today(self) -> None:
        """Where gevent has replaced threads since the locks were made, those would stop all of its greenlets."""
        if type(self._driver) is not type(threading.Lock()):
            self._driver, self._wake = threading.Lock(), queue.SimpleQueue()

    def _run(self) -> None:
        this = self._thread
        try:
            while True:
                with self._driver:
                    due = self.step()
                if due is None and self._stopping:
                    break
                self._sleep()
        finally:  # also when a SystemExit or gevent's GreenletExit comes through
            # First gone, then a last look: a log call appends first, and then looks whether there is a thread.
            if self._thread is this:
                self._thread = None
        if self._due() is not None:
            self._begin()

    def _sleep(self) -> None:
        self._wakes_at = math.inf
        due = self._due()  # what came before the line above found no one to wake; and others may have delivered
        self._wakes_at = math.inf if due is None else due
        timeout = None if due is None else max(0.0, due - monotonic())
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
            process.prepare_gevent()
            if self._spool is not None and not self._stopping:
                self._spool.adopt()
                self._load(self._spool)
            with self._ledger:
                self._enter()
                losses = self._buffer.books.losses()
            for destination, loss in losses.items():
                self._delivery.lose(destination, loss)
            with self._ledger:
                self._buffer.lanes.put_back()
                batch = self._buffer.take(now=monotonic())
            if batch is not None:
                self._deliver(batch)
            if self._spool is not None:
                with self._ledger:
                    released = self._buffer.released()
                self._spool.release(released)
            self._tell()
            self._waiters.notify()
            return self._due()
        except Exception as error:  # nothing may end the thread
            self._diagnostics.bug(error, "delivery goes on")
            return monotonic() + BUG_DELAY
        finally:
            process.driving.discard(ident)

    def _due(self) -> float | None:
        with self._ledger:
            due = self._buffer.due()
            if self._spool is None or self._stopping:
                return due
            room = self._buffer.room_to_restore(self._spool.backlog.least)
        if room and self._spool.backlog:
            return -math.inf
        return self._spool.next_adoption() if due is None else min(due, self._spool.next_adoption())

    def _load(self, spool: Spool) -> None:
        """Read back what waits on disk, as far as there is room for it."""
        with self._ledger:
            self._enter()
            if spool.diverting:  # perhaps only since a moment ago: see Backlog.plan
                self._enter()
            room = self._buffer.room_to_restore(spool.backlog.least)
            reading = spool.backlog.plan() if room else None
        if reading is not None and spool.read(reading, room):
            with self._ledger:
                if self._buffer.restore(reading.events, new=bool(reading.new)):
                    spool.backlog.loaded(reading)

    def _deliver(self, batch: Batch) -> None:
        report = DeliveryReport(remaining=(batch,), delay=BUG_DELAY)
        try:
            attempt = self._delivery.attempt(batch, now=monotonic(), wall=wall_clock())
            if attempt.events != len(batch):
                raise AssertionError(f"{attempt.events} events reported of a batch of {len(batch)}")
            report = attempt
        except Exception as error:
            self._diagnostics.bug(error, "the batch is tried again")
        finally:  # also when a KeyboardInterrupt goes through: the batch returns to its lane
            now = monotonic()
            with self._ledger:
                self._buffer.settle(batch, report, now=now)
                if report.error is not None:
                    self._buffer.books.note_error(str(report.error), wall=wall_clock())
                pending = self._buffer.pending()
        self._diagnostics.attempt(batch.destination, report, pending=pending, now=now)

    def _tell(self) -> None:
        """Say what was rejected and dropped."""
        now = monotonic()
        with self._ledger:
            self._telling = self._buffer.books.has_rejections()
            rejections = self._buffer.rejections()
            drops = self._buffer.books.drops()
        try:
            for reason, destination, events in rejections:
                self._diagnostics.rejected(reason, destination, len(events), now=now)
                if self._on_rejected is not None:
                    self._call_back(self._on_rejected, RejectedEvents.of(reason, destination, events))
        finally:
            self._telling = False
        for reason, count in drops.items():
            self._diagnostics.dropped(reason, count, now=now)
        for line in self._spool.news() if self._spool is not None else ():
            self._diagnostics.say(line)

    def _call_back(self, on_rejected: Callable[[RejectedEvents], object], rejected: RejectedEvents) -> None:
        try:
            on_rejected(rejected)
        except (Exception, SystemExit) as error:  # sys.exit() would only end this thread
            self._diagnostics.bug(error, "on_rejected raised it, and is called again for the next events")

    # -- flush, close, statistics -----------------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """A snapshot of the ledger; the last one, in a signal handler that has interrupted whoever keeps the books."""
        if not self._ledger.acquire(timeout=REENTRY):
            return self._snapshot
        try:
            self._enter()
            self._snapshot = self._buffer.statistics()
        finally:
            self._ledger.release()
        return self._snapshot

    def flush(self, timeout: float | None, default: float) -> bool:
        """Deliver all that was accepted before the call.

        Args:
            timeout: seconds; None means the default, or less at the end of the process, and while this thread holds
                logging's module lock.
            default: seconds.

        Returns:
            True when all of it is settled, False at the timeout.
        """
        began = monotonic()
        steps = timeout is not None or not holds_logging_lock()
        if timeout is None:
            timeout = min(default if steps else HANDOVER, self._patience)
        mark = self._mark(timeout)
        self._wake.put(None)
        try:
            return mark is not None and self._drive(mark, began + timeout, steps=steps)
        finally:
            self._patience -= monotonic() - began

    def recover(self, timeout: float) -> bool:
        """Take over what dead processes left in the spool and deliver it, on this thread; True when all is settled."""
        deadline = monotonic() + timeout
        spool = self._spool
        self._stopping = False
        with self._waiters.join() as waiter:
            while (remaining := deadline - monotonic()) > 0 and self._driver.acquire(timeout=remaining):
                try:
                    found = spool.adopt(at_once=True) if spool is not None and not spool.backlog else 0
                    with calls_end_by(deadline):
                        self.step()
                finally:
                    self._driver.release()
                self._mark(REENTRY)  # what was taken over waits for no company; but a stream that rests goes on resting
                with self._ledger:
                    due = self._buffer.due()
                if due is not None:
                    waiter.wait(max(0.0, min(due, deadline) - monotonic()))
                elif not found and (spool is None or not spool.backlog):
                    return spool is None or not spool.has_more
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
        self._stopping = True
        self._wake.put(None)
        self._patience -= monotonic() - began
        if hands_over or not self._closing.acquire(timeout=REENTRY):
            return
        try:  # whoever closes at the same time waits until all is said, since the process may end then
            if not reached or self._spool is not None:
                self._abandon()
            self._diagnostics.say_rest()
        finally:
            self._closing.release()

    def _abandon(self) -> None:
        if not self._ledger.acquire(timeout=REENTRY):
            return
        try:
            self._enter()
            last_error = self._buffer.books.last_error
            left = self._buffer.abandon("closed")
        finally:
            self._ledger.release()
        self._waiters.notify()
        self._wake.put(None)  # the thread may be asleep for as long as a lane rested that is gone now
        say_left(left, last_error)

    def urge(self, timeout: float = REENTRY) -> Mark | None:
        """Have everything sent at once, back-off or not; returns the mark of what that is."""
        mark = self._mark(timeout, hasten=True)
        self._wake.put(None)
        return mark

    def _mark(self, timeout: float, *, hasten: bool = False) -> Mark | None:
        # A signal handler may have interrupted the lock's owner, which then waits for the handler to return.
        if not self._ledger.acquire(timeout=max(0.0, min(timeout, REENTRY))):
            return None
        try:
            self._enter()
            if hasten:
                self._buffer.lanes.hasten(now=monotonic())
            return self._buffer.mark()
        finally:
            self._ledger.release()

    def retire(self) -> None:
        """Nobody will add events any more: end the thread once all is settled. Safe in a destructor."""
        self._stopping = True
        self._wake.put(None)

    def _is_safe(self, mark: Mark, *, fails: bool) -> bool:
        """Whether all of it is on disk, and, if asked, delivery fails at this time."""
        if self._spool is None:
            return False
        with self._ledger:
            return (not fails or self._buffer.lanes.rests(now=monotonic())) and self._buffer.lanes.is_on_disk(mark)

    def _comes_back(self, left: int) -> bool:
        """Whether some of what was on disk only at this mark of the spool's is still there."""
        return self._spool is not None and not self._spool.backlog.reached(left)

    def _is_done(self, mark: Mark) -> bool:
        """Whether all up to the mark has settled, and what was rejected has been told."""
        return self._buffer.lanes.reached(mark) and not self._telling and not self._buffer.books.has_rejections()

    def _drive(self, mark: Mark, deadline: float, *, steps: bool = True) -> bool:
        """Return True once the mark is reached, False at the deadline.

        The worker's thread does the work if it can; otherwise this thread does, unless it shall only wait.
        """
        left = None if self._spool is None else self._spool.backlog.mark()
        with self._waiters.join() as waiter:
            while left is not None or not self._is_done(mark):
                if left is not None and not self._comes_back(left):
                    # What was on disk only is in memory now.
                    left, later = None, self._mark(REENTRY)
                    mark = mark if later is None else later
                    continue
                self._begin()
                remaining = deadline - monotonic()
                if process.drives():  # called from within step, say by on_rejected
                    return self._buffer.lanes.reached(mark) or self._is_safe(mark, fails=False)
                if remaining <= 0 or self._is_safe(mark, fails=True):
                    return self._is_safe(mark, fails=False)
                if self._can_be_waited_for() or not steps:
                    self._wake.put(None)
                    waiter.wait(min(remaining, 1.0))
                    continue
                if not self._driver.acquire(timeout=min(remaining, HANDOVER)):
                    continue
                try:
                    with calls_end_by(deadline):
                        due = self.step()
                finally:
                    self._driver.release()
                pause = math.inf if due is None else due - monotonic()
                if pause > 0 and not self._is_done(mark):
                    waiter.wait(max(0.0, min(pause, deadline - monotonic(), 1.0)))
        return True

    def _can_be_waited_for(self) -> bool:
        thread = self._thread
        if thread is None or not thread.is_alive():
            return False
        return not (self._keeps_deadlines and holds_logging_lock())
