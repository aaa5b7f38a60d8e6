"""The background thread: when it starts, sleeps, is woken, and ends. It contains no decision but these.

A log call appends its event first, and then looks whether somebody will come for it. The thread announces first that
it is going to sleep, or that it is gone, and then looks once more. Whichever way the two are interleaved, one of them
sees the other.
"""

from __future__ import annotations

import math
import threading

from . import process
from .driver import Driver
from .waiting import Bell, monotonic

#: Seconds that one sleep takes at most; more than the system can wait for may be asked for.
LONGEST_SLEEP = 3_600.0


class Thread:
    """At most one thread that steps while there is anything to do, and sleeps otherwise.

    Args:
        driver: what steps.
        owner: what the end of the process must find as long as the thread runs, though nobody else may hold it.

    Attributes:
        running: the thread, or None.
        absent: whether nobody will come unless :meth:`begin` is called; there is no thread, or it is about to end.
        wakes_at: monotonic time at which it will look again by itself; -inf while it is awake.
    """

    def __init__(self, driver: Driver, owner: object) -> None:
        self._driver = driver
        self._owner = owner
        self._starting = threading.Lock()
        self._bell = Bell()
        self.running: threading.Thread | None = None
        self.absent = True
        self.wakes_at = -math.inf

    def wake(self) -> None:
        """Have it look at once."""
        self._bell.ring()

    def begin(self) -> None:
        """See to it that it runs."""
        if self._driver.stopping:  # it may not have ended yet
            self._driver.stopping = False
            self.wake()
        self.absent = False
        if self.running is None:
            self.start()

    def end(self) -> None:
        """Have it end once all is settled; safe in a destructor."""
        self._driver.stopping = True
        self.absent = True
        self.wake()

    def start(self) -> None:
        """Start it, unless it runs, or another thread is about to; nothing happens where that is not possible."""
        if self._starting.locked():
            return
        has_ended = False
        with self._starting:
            try:
                if self.running is None:
                    process.prepare_exit()
                    self._use_locks_of_today()
                    self._driver.stopping = False
                    self.running = thread = threading.Thread(target=self._run, name="cloudwatch_handler", daemon=True)
                    self.absent = False
                    thread.start()
                    has_ended = self.running is None
            except RuntimeError:  # the interpreter is ending, or has no room for a thread
                self.running = None
            finally:
                if self.running is None or self.running.ident is None:  # it never ran; Ctrl-C may have come before
                    self.running, self.absent = None, True
        if has_ended and self._driver.buffer.intake:  # of a log call that meanwhile found this one at it
            self.start()

    def _use_locks_of_today(self) -> None:
        """Where gevent has replaced threads since the locks were made, those would stop all of its greenlets."""
        if type(self._driver.lock) is not type(threading.Lock()):
            self._driver.lock, self._bell = threading.Lock(), Bell()

    def _run(self) -> None:
        this = self.running
        try:
            while True:
                with self._driver.lock:
                    due = self._driver.step()
                if due is None and self._driver.stopping:
                    break
                self._sleep()
        finally:  # also when a SystemExit or gevent's GreenletExit comes through
            # First gone, then a last look: a log call appends first, and then looks whether there is a thread.
            if self.running is this:
                self.running, self.absent = None, True
        self._driver.park()
        if self._driver.due() is not None:
            self.begin()

    def _sleep(self) -> None:
        self.wakes_at = math.inf
        due = self._driver.due()  # what came before the line above found no one to wake; others may have delivered
        self.wakes_at = math.inf if due is None else due
        self._bell.wait(min(max(0.0, self.wakes_at - monotonic()), LONGEST_SLEEP))
        self.wakes_at = -math.inf

    def can_be_waited_for(self) -> bool:
        """Whether it is there and alive."""
        thread = self.running
        return thread is not None and thread.is_alive()
