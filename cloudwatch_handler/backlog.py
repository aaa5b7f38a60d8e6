"""What is on disk only, and the way back from there into memory.

Two kinds of events wait there. Some were in memory and left it unsettled, when it was full or the worker was closed;
they are known by number. And the rest of a segment, from some byte on, has not been in memory: events that came while
older ones waited on disk, or those of a dead process, which the ledger does not know yet.

Whatever is read back stays the disk's until it has arrived in memory; an exception on the way changes nothing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from .event import Event
from .jsonl import Line
from .segment import Segment

#: A receipt is the ordinal of a segment times this, plus the event's ``n`` there.
SPAN = 1 << 32


@dataclass(slots=True)
class Entry:
    """A segment of which something is on disk only.

    Attributes:
        left: events that left memory, by ``n``.
        position: byte at which the rest begins; None when there is none.
        waiting: how many events of the rest the ledger knows.
        adopted: the rest is that of a dead process.
        settled: which events of that are to be left out; None until the notes have been read.
    """

    segment: Segment
    left: set[int] = field(default_factory=set)
    position: int | None = None
    waiting: int = 0
    adopted: bool = False
    settled: set[int] | None = None


@dataclass(slots=True)
class Reading:
    """What is to be read back from one segment, and what was.

    Attributes:
        entry: where from.
        wanted: numbers of the events that are sought; empty when it is the rest.
        expected: how many events that the ledger knows are there.
        position: byte from which on it is to be read; later, up to which it was.
        stop: byte up to which it is to be read.
        events: what was found.
        damaged: lines that could not be read.
        complete: whether there was room for all.
    """

    entry: Entry
    wanted: set[int]
    expected: int
    position: int
    stop: int
    events: list[Event] = field(default_factory=list)
    damaged: int = 0
    complete: bool = False

    @property
    def segment(self) -> Segment:
        """Where from."""
        return self.entry.segment

    @property
    def new(self) -> int:
        """How many events the ledger does not know."""
        return len(self.events) if self.entry.adopted and not self.wanted else 0


class Backlog:
    """Which events are on disk only, oldest segment first.

    Args:
        lock: the spool's; whatever changes anything takes it.

    Attributes:
        diverting: whether events of this process are here, so that new ones must go here too, to stay in order.
        past_memory: how many events the ledger has without their ever having been in memory.
        least: bytes of memory without which not even one event can be read.
        finished: segments that have been read to the end.
    """

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        self._lock = lock
        self._entries: dict[int, Entry] = {}
        self.diverting = False
        self.past_memory = 0
        self.least = 0
        self.finished: list[Segment] = []
        # Events of the ledger that ever came here, that went back to memory, and that could not, being damaged.
        self._came = 0
        self._returned = 0
        self._lost = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __contains__(self, segment: Segment) -> bool:
        return segment.ordinal in self._entries

    def adopt(self, segment: Segment) -> None:
        """The whole of a segment is to be read."""
        with self._lock:
            self._entries[segment.ordinal] = Entry(segment, position=0, adopted=True)

    def divert(self, segment: Segment, position: int) -> None:
        """An event was written at this position, and stays there only. The caller holds the lock."""
        entry = self._entry(segment)
        if entry.position is None:
            entry.position = position
        entry.waiting += 1
        self._came += 1
        self.past_memory += 1

    def leave(self, segment: Segment, number: int) -> None:
        """An event leaves memory."""
        with self._lock:
            self._entry(segment).left.add(number)
            self._came += 1
            self.diverting = True

    def reclaim(self, segment: Segment, number: int) -> bool:
        """Whether an event that left memory was still here; it is not any more, being settled all the same."""
        with self._lock:
            entry = self._entries.get(segment.ordinal)
            if entry is None or number not in entry.left:
                return False
            entry.left.discard(number)
            self._returned += 1
            self._finish(entry)
            return True

    def _entry(self, segment: Segment) -> Entry:
        # In one step: a log call in a signal handler may come here in between, since the lock is reentrant.
        return self._entries.get(segment.ordinal) or self._entries.setdefault(segment.ordinal, Entry(segment))

    def held(self) -> int:
        """Events of the ledger that are here; damaged ones for ever."""
        return self._came - self._returned

    def mark(self) -> int:
        """The mark of what is here now."""
        return self._came

    def reached(self, mark: int) -> bool:
        """Whether as many events as there were at the mark have gone back to memory, or cannot."""
        return self._returned + self._lost >= mark

    def plan(self) -> Reading | None:
        """What is to be read next, the oldest first; None when nothing is here.

        Called under the ledger's lock, when everything that was written before :attr:`diverting` began has left the
        intake: what is here now and what comes here later is later than that.
        """
        with self._lock:
            if not self._entries:
                return None
            entry = self._entries[min(self._entries)]
            segment, wanted = entry.segment, set(entry.left)
            if wanted:
                return Reading(entry, wanted, len(wanted), segment.position_of(min(wanted)), segment.size)
            return Reading(entry, wanted, entry.waiting, entry.position or 0, segment.size)

    def read(self, reading: Reading, room: int) -> None:
        """Read back events for so many bytes of memory at most.

        Raises:
            OSError: the segment cannot be read; see :meth:`give_up`.
        """
        entry, segment, wanted = reading.entry, reading.segment, reading.wanted
        if entry.adopted and entry.settled is None:
            entry.settled = segment.settled()
        settled = entry.settled or ()
        self.least = 0
        for line, position in segment.read(reading.position, reading.stop):
            if line is None:
                reading.damaged += not wanted
            elif isinstance(line, Line) and (line.number in wanted if wanted else line.number not in settled):
                event = line.event.with_receipt(segment.ordinal * SPAN + line.number)
                room -= event.memory
                if room < 0:
                    self.least = 0 if reading.events else event.memory
                    return
                reading.events.append(event)
                if len(reading.events) == len(wanted):
                    break
            reading.position = position
        reading.complete = True
        reading.position = reading.stop

    def loaded(self, reading: Reading) -> None:
        """What was read is in memory again. Called together with that, under the ledger's lock."""
        with self._lock:
            entry, segment = reading.entry, reading.segment
            known = len(reading.events) - reading.new
            lost = reading.expected - known if reading.complete else 0
            if reading.wanted:
                found = {event.receipt % SPAN for event in reading.events if event.receipt is not None}
                entry.left -= reading.wanted if reading.complete else found
            else:
                entry.position = reading.position
                entry.waiting -= known + lost
            segment.damaged += reading.damaged or lost
            segment.live += reading.new - lost
            self._returned += known
            self._lost += lost
            self._finish(entry)

    def _finish(self, entry: Entry) -> None:
        """Forget a segment of which all has come back."""
        segment = entry.segment
        if not entry.left and (entry.position is None or entry.position >= segment.size):
            self._remove(segment)
            self.finished.append(segment)

    def give_up(self, reading: Reading) -> None:
        """A segment cannot be read: it stays as it is, locked, and the next process may try."""
        with self._lock:
            reading.segment.live += 1
            self._lost += len(reading.entry.left) + reading.entry.waiting
            self._remove(reading.segment)

    def is_next(self, reading: Reading) -> bool:
        """Whether this is still what is to be read next: nothing earlier has left memory since it was planned."""
        with self._lock:
            if not self._entries:
                return False
            entry = self._entries[min(self._entries)]
            return entry is reading.entry and (bool(reading.wanted) or not entry.left)

    def forget(self, segment: Segment) -> None:
        """Somebody else has this segment now. What was here of it never comes back."""
        with self._lock:
            entry = self._entries.get(segment.ordinal)
            if entry is not None:
                self._lost += len(entry.left) + entry.waiting
                self._remove(segment)

    def _remove(self, segment: Segment) -> None:
        del self._entries[segment.ordinal]
        self.diverting = any(entry.left or not entry.adopted for entry in self._entries.values())
