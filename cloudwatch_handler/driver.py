"""One step of delivery: take a batch that is due, try once, settle it, tell.

Synchronous, and without a thread of its own: the thread calls it in a loop, and so does everything that must work
without that (a flush while ``dictConfig`` holds logging's lock, an interpreter that allows no new thread, a test).

Two locks. The *ledger* guards the buffer for moments. The driver's own *lock* is held by whoever steps, over the
network call. A log call waits for neither.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from . import process
from .buffer import Buffer
from .delivery import Delivery
from .diagnostics import Diagnostics, say_left
from .event import Batch, Event
from .lanes import Mark
from .ledger import DeliveryReport, RejectedEvents, Statistics
from .spool import Spool
from .waiting import Waiters, is_free, monotonic, wall_clock

#: Seconds after which a lock that is only ever held for moments counts as held by the code that a signal interrupted.
REENTRY = 1.0
#: Seconds a batch rests after an exception that should not have been.
BUG_DELAY = 5.0


class Driver:
    """The buffer, what it is delivered with, and the locks around both.

    Args:
        buffer: what is to be delivered.
        delivery: how.
        spool: where events are on disk; None: in memory only.
        on_rejected: called with what was rejected, on the thread that steps; or None.

    Attributes:
        ledger: the lock around the buffer. A log call takes it only when it is free.
        lock: held over a step.
        refused: events to be counted as rejected, and why, that are not in the books yet. Any thread may append.
        waiters: who waits for something to be settled.
        diagnostics: what was said.
        stopping: the worker was closed: nothing more is taken over from disk. Owned by the thread's file.
    """

    def __init__(
        self,
        buffer: Buffer,
        delivery: Delivery,
        spool: Spool | None,
        on_rejected: Callable[[RejectedEvents], object] | None,
    ) -> None:
        self.buffer = buffer
        self.spool = spool
        self._delivery = delivery
        self._on_rejected = on_rejected
        self.ledger = threading.Lock()
        self.lock = threading.Lock()
        self.refused: list[tuple[Event, str]] = []
        self.waiters = Waiters()
        self.diagnostics = Diagnostics()
        self.stopping = False
        self._finishing = False  # what was settled is not yet forgotten on disk, or told; written by whoever steps
        self._snapshot = Statistics()

    def enter(self) -> bool:
        """Enter into the books what log calls have left; True when a batch is full. The caller holds the ledger."""
        while self.refused:
            self.buffer.refuse(*self.refused[0])
            del self.refused[0]
        return self.buffer.drain()

    # -- a step -------------------------------------------------------------------------------------------------------

    def step(self) -> float | None:
        """Take one due batch, try once to deliver it, settle it. The caller holds the lock.

        Returns:
            Monotonic time at which there is more to do, or None.
        """
        ident = threading.get_ident()
        process.driving.add(ident)
        try:
            process.prepare_gevent()
            if self.spool is not None and not self.stopping:
                self.spool.adopt()
                self._load(self.spool)
            with self.ledger:
                self.enter()
                losses = self.buffer.books.losses()
            for destination, loss in losses.items():
                self._delivery.lose(destination, loss)
            with self.ledger:
                self.buffer.lanes.put_back()
                batch = self.buffer.take(now=monotonic())
            if batch is not None:
                self._deliver(batch)
            if self.spool is not None:
                self.spool.is_whole()
                with self.ledger:
                    released = self.buffer.released()
                self.spool.release(released)
            self._tell()
            self._finishing = False
            self.waiters.notify()
            return self.due()
        except Exception as error:  # nothing may end the thread
            self.diagnostics.bug(error, "delivery goes on")
            return monotonic() + BUG_DELAY
        finally:
            self._finishing = False
            process.driving.discard(ident)

    def due(self) -> float | None:
        """Monotonic time at which the next step is to be made, or None."""
        with self.ledger:
            due = self.buffer.due()
            if self.spool is None or self.stopping:
                return due
            room = self.buffer.room_to_restore(self.spool.backlog.least)
        if room and self.spool.backlog:
            return -math.inf
        return self.spool.adoption.next_look if due is None else min(due, self.spool.adoption.next_look)

    def _load(self, spool: Spool) -> None:
        """Read back what waits on disk, as far as there is room for it."""
        with self.ledger:
            self.enter()
            if spool.diverting:  # perhaps only since a moment ago: see Backlog.plan
                self.enter()
            room = self.buffer.room_to_restore(spool.backlog.least)
            reading = spool.backlog.plan() if room else None
        if reading is not None and spool.read(reading, room):
            with self.ledger:
                # A close() in between may have left earlier events on disk, and these are to stay there, too.
                is_wanted = not self.stopping and spool.backlog.is_next(reading)
                if is_wanted and self.buffer.restore(reading.events, new=bool(reading.new)):
                    spool.backlog.loaded(reading)

    def _deliver(self, batch: Batch) -> None:
        report = DeliveryReport(remaining=(batch,), delay=BUG_DELAY)
        try:
            attempt = self._delivery.attempt(batch, now=monotonic(), wall=wall_clock())
            if attempt.events != len(batch):
                raise AssertionError(f"{attempt.events} events reported of a batch of {len(batch)}")
            report = attempt
        except Exception as error:
            self.diagnostics.bug(error, "the batch is tried again")
        finally:  # also when a KeyboardInterrupt goes through: the batch returns to its lane
            now = monotonic()
            with self.ledger:
                self._finishing = True
                self.buffer.settle(batch, report, now=now)
                if report.error is not None:
                    self.buffer.books.note_error(str(report.error), wall=wall_clock())
                pending = self.buffer.pending()
        self.diagnostics.attempt(batch.destination, report, pending=pending, now=now)

    def _tell(self) -> None:
        """Say what was rejected and dropped."""
        now = monotonic()
        with self.ledger:
            self._finishing = True
            rejections = self.buffer.rejections()
            drops = self.buffer.books.drops()
        for reason, destination, events in rejections:
            self.diagnostics.rejected(reason, destination, len(events), now=now)
            if self._on_rejected is not None:
                self._call_back(self._on_rejected, RejectedEvents.of(reason, destination, events))
        for reason, count in drops.items():
            self.diagnostics.dropped(reason, count, now=now)
        for line in self.spool.news.take() if self.spool is not None else ():
            self.diagnostics.say(line)

    def _call_back(self, on_rejected: Callable[[RejectedEvents], object], rejected: RejectedEvents) -> None:
        try:
            on_rejected(rejected)
        except (Exception, SystemExit) as error:  # sys.exit() would only end this thread
            self.diagnostics.bug(error, "on_rejected raised it, and is called again for the next events")

    # -- for whoever waits --------------------------------------------------------------------------------------------

    def mark(self, timeout: float, *, hasten: bool = False) -> Mark | None:
        """Make all that is accepted urgent, and return the mark of what that is; None when the books are not free.

        Args:
            timeout: seconds to wait for that. They are held for moments, but a signal handler may have interrupted
                their owner, which then waits for the handler to return.
            hasten: whether every back-off ends.
        """
        if not is_free(self.ledger, min(timeout, REENTRY)):
            return None
        with self.ledger:
            self.enter()
            if hasten:
                self.buffer.lanes.hasten(now=monotonic())
            return self.buffer.mark()

    def reached(self, mark: Mark) -> bool:
        """Whether all up to the mark has settled, has been forgotten on disk, and what was rejected was told."""
        return self.buffer.lanes.reached(mark) and not self._finishing and not self.buffer.books.has_rejections()

    def is_safe(self, mark: Mark, *, fails: bool) -> bool:
        """Whether all up to the mark is on disk, and, if asked, delivery fails at this time."""
        if self.spool is None or not self.spool.is_whole():
            return False
        with self.ledger:
            return (not fails or self.buffer.lanes.rests(now=monotonic())) and self.buffer.lanes.is_on_disk(mark)

    def abandon(self, *, silently: bool) -> None:
        """Leave what is held on disk, or drop it, count that, and say so on stderr unless silently."""
        if not is_free(self.ledger, REENTRY):
            return
        with self.ledger:
            self.enter()
            last_error = self.buffer.books.last_error
            left = self.buffer.abandon("closed")
        self.waiters.notify()
        self.park()
        if not silently:
            say_left(left, last_error)

    def park(self) -> None:
        """Let go of what was left on disk, when nothing is held any more and no step is under way."""
        if self.spool is None or not self.lock.acquire(blocking=False):
            return
        try:
            with self.ledger:
                if self.stopping and not self.buffer.pending():
                    self.spool.park()
        finally:
            self.lock.release()

    def statistics(self) -> Statistics:
        """A snapshot of the ledger; the last one, in a signal handler that has interrupted whoever keeps the books."""
        if not is_free(self.ledger, REENTRY):
            return self._snapshot
        with self.ledger:
            self.enter()
            self._snapshot = self.buffer.statistics()
        return self._snapshot
