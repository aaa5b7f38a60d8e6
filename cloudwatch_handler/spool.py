"""Durable mode: every event is on disk before the log call returns, and is forgotten there once it is settled.

Three things happen in the directory. Log calls append to the current segment. The driver of the worker notes what is
settled, and deletes segments of which all is. And the driver takes over segments whose owner is dead.

Memory stays bounded: what does not fit there is left on disk and read back when there is room. While anything waits on
disk, new events are only written there too, so that the order stays: memory is a window on the head of a queue on disk.
The *backlog* knows what is on disk only.

When the disk is full or read-only, events are held in memory only, as without a spool; that is said once, and tried
again every few seconds.

On disk means in the kernel's hands: it survives the process, but not the machine.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from .adoption import Adoption
from .backlog import SPAN, Backlog, Reading
from .diagnostics import News
from .directory import Directory
from .event import Destination, Event
from .jsonl import Head, head_of, ranges_of
from .segment import Segment
from .waiting import monotonic

#: A segment is such a part of ``max_spool_size``, within bounds. Each is an open file.
SEGMENT_PART = 64
MIN_SEGMENT_SIZE = 16 * 1024
MAX_SEGMENT_SIZE = 16 * 1024 * 1024
#: Such a part of ``max_spool_size`` is kept free for notes.
NOTES_PART = 16
#: How many segments are open at most. Usually it is far fewer; but each log call in a signal handler that interrupts
#: another at the disk begins one.
MAX_SEGMENTS = 400
#: Seconds between two tries of a disk that refused.
DISK_INTERVAL = 5.0
#: Destinations whose names are remembered in the form of a line.
MAX_HEADS = 10_000


class Spool:
    """The events of one process, and of dead ones, in a directory.

    Args:
        path: of the directory, made with mode 0700 when it is missing.
        max_size: bytes that all files in it may take. What others write there is noticed when a segment begins.

    Attributes:
        adoption: when and what is taken over.
        backlog: what is on disk only.
        news: what has happened to the disk.
    """

    def __init__(self, path: Path, max_size: int) -> None:
        self._path = path
        self._limit = max_size - max_size // NOTES_PART
        self._segment_size = min(max(max_size // SEGMENT_PART, MIN_SEGMENT_SIZE), MAX_SEGMENT_SIZE)
        # Reentrant, because a log call in a signal handler may interrupt one that is writing. Held over one write:
        # the call beside it has to make one as well.
        self._lock = threading.RLock()
        self._directory: Directory | None = None
        self._current: Segment | None = None
        self._segments: dict[int, Segment] = {}
        self._next_ordinal = 0
        self.backlog = Backlog(self._lock)
        self._heads: dict[Destination, Head] = {}
        self._fails = False
        self._full = False
        self._is_parked = False
        self._freed = False  # some of our bytes, since it was full
        self._try_again = 0.0
        self.news = News(path)
        self.adoption = Adoption(self.news.complain)

    # -- the log call's side ------------------------------------------------------------------------------------------

    def write(self, event: Event, intake: list[Event]) -> bool:
        """Put an event on disk, and then, with its receipt, into the intake, unless it waits on disk behind others.

        Both under one lock: the intake is in the order of the disk.

        Returns:
            False when the disk did not take it.
        """
        destination, timestamp, size, fragment, _ = event
        with self._lock:
            # Taken away for as long as it is written to: a log call in a signal handler begins a segment of its own.
            segment, self._current = self._current, None
            try:
                if segment is None or segment.size + len(fragment) > segment.stop:
                    segment = self._begin_segment(len(fragment))
                    if segment is None:
                        return False
                head = self._heads.get(destination) or self._head(destination)
                position = segment.size
                segment.live += 1  # before it is there, so that nobody finds the segment idle
                try:
                    number = segment.append(head, fragment)
                except OSError:
                    segment, position, number = self._append_elsewhere(segment, head, fragment)
            except OSError as error:
                self._fail(error)
                return False
            if self._fails:
                self._fails = False
                self.news.add("the spool takes events again")
            if self.backlog.diverting:
                self.backlog.divert(segment, position)
            else:
                receipt = segment.ordinal * SPAN + number
                intake.append(_new_tuple(Event, (destination, timestamp, size, fragment, receipt)))
            # Last: what a signal handler logs must not get in between, in this segment.
            if self._current is None:  # else there is a newer one, of such a log call
                self._current = segment
        return True

    def _append_elsewhere(self, segment: Segment, head: Head, fragment: bytes) -> tuple[Segment, int, int]:
        """Called in the middle of an exception: only the file may be to blame, being as long as a file may be."""
        segment.live -= 1
        if not segment.lines:  # it was another one already
            self._retire(segment)
            raise
        segment = self._create_segment(self._open(), self._segment_size)
        segment.live += 1
        try:
            return segment, segment.size, segment.append(head, fragment)
        except OSError:
            return self._append_elsewhere(segment, head, fragment)

    def _begin_segment(self, length: int) -> Segment | None:
        """A new segment, if there is room for so many bytes, and it is time for another try after a failure."""
        waits = (self._fails or (self._full and not self._freed)) and monotonic() < self._try_again
        if waits:
            return None
        directory = self._open()
        self._freed = False
        room = self._limit - directory.size()
        if room < max(length, min(self._segment_size, self._limit) // 4):
            self._try_again = monotonic() + DISK_INTERVAL  # others may have deleted something by then
            if not self._full:
                self._full = True
                self.news.add("the spool is full, events are held in memory only")
            return None
        if self._full and room >= self._limit // 4:  # not earlier: it may be full again the next moment
            self._full = False
            self.news.add("the spool has room for events again")
        return self._create_segment(directory, min(self._segment_size, room))

    def _create_segment(self, directory: Directory, stop: int) -> Segment:
        if len(self._segments) >= MAX_SEGMENTS:
            raise OSError(errno.EMFILE, f"{MAX_SEGMENTS} segments are not settled")
        segment = Segment.create(directory, stop)
        self._add(segment)
        return segment

    def _add(self, segment: Segment) -> None:
        segment.ordinal = self._next_ordinal
        self._next_ordinal += 1
        self._segments[segment.ordinal] = segment

    def _head(self, destination: Destination) -> Head:
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        head = self._heads[destination] = head_of(destination)
        return head

    def _fail(self, error: OSError) -> None:
        self._directory = None
        self._try_again = monotonic() + DISK_INTERVAL
        if not self._fails:
            self._fails = True
            self.news.add(f"the spool takes no events, they are held in memory only: {_text(error)}")

    def _open(self) -> Directory:
        if self._directory is None or not self._directory.is_current():
            self._current = None
            self._directory = Directory.make(self._path)
        return self._directory

    # -- the buffer's side (under the ledger's lock) ------------------------------------------------------------------

    @property
    def diverting(self) -> bool:
        """Whether events that are on disk must stay there, because older ones do."""
        return self.backlog.diverting

    def leave(self, event: Event) -> bool:
        """Take an event that leaves memory unsettled; False when it is not on disk."""
        if event.receipt is None:
            return False
        ordinal, number = divmod(event.receipt, SPAN)
        segment = self._segments[ordinal]
        if segment.is_gone:
            return False
        self.backlog.leave(segment, number)
        return True

    def reclaim(self, event: Event) -> bool:
        """Whether an event that was left on disk was still to come back; it is not any more, having been settled."""
        if event.receipt is None:
            return False
        ordinal, number = divmod(event.receipt, SPAN)
        segment = self._segments.get(ordinal)
        return segment is not None and self.backlog.reclaim(segment, number)

    def books(self) -> tuple[int, int]:
        """How many events were accepted without passing through memory, and how many are on disk only."""
        with self._lock:
            return self.backlog.past_memory, self.backlog.held()

    # -- the driver's side --------------------------------------------------------------------------------------------

    def is_whole(self) -> bool:
        """Whether nobody has taken a file away in which something is that is not settled.

        What is in such a file has no second life: what is in memory of it is in memory only from now on.
        """
        with self._lock:
            for segment in self._segments.values():
                is_needed = segment.live or segment is self._current  # else it is just being deleted, by us
                if is_needed and not segment.is_gone and segment.was_taken_away():
                    segment.is_gone = True
                    if segment is self._current:
                        self._current = None
                    self.news.complain(segment.file, "was taken away; its events are in memory only")
            return not any(segment.is_gone and segment.live for segment in self._segments.values())

    def park(self) -> None:
        """Let go of all files, so that the next handler may take them over; called when all that is left is there."""
        with self._lock:
            for segment in self._segments.values():
                segment.close()
            self._current = None
            self._is_parked = True
            self.adoption.next_look = 0.0

    def _unpark(self) -> None:
        """Take back what nobody else has taken meanwhile. What another one has stays in the books as spooled."""
        with self._lock:
            self._is_parked = False
            for segment in tuple(self._segments.values()):
                if not segment.is_open and not segment.reopen():
                    self.backlog.forget(segment)
                    del self._segments[segment.ordinal]

    def read(self, reading: Reading, room: int) -> bool:
        """Read back what was planned, for so many bytes of memory at most; False when the segment cannot be read."""
        try:
            self.backlog.read(reading, room)
        except Exception as error:  # whatever is wrong with a file, it must not stop what is in memory
            self.backlog.give_up(reading)
            self.news.complain(reading.segment.file, f"cannot be read: {_text(error)}")
            return False
        return True

    def release(self, receipts: Iterable[int]) -> None:
        """These events are settled: note it, and delete what is settled as a whole."""
        ranges: dict[int, list[tuple[int, int]]] = {}
        for first, last in ranges_of(sorted(receipts)):
            ordinal = first // SPAN
            ranges.setdefault(ordinal, []).append((first % SPAN, last % SPAN))
        for ordinal, settled in ranges.items():
            segment = self._segments[ordinal]
            with self._lock:
                segment.live -= sum([last - first + 1 for first, last in settled])
            if not self._retire(segment):
                self._note(segment, settled)
        while self.backlog.finished:
            segment = self.backlog.finished.pop()
            if damage := segment.damage():
                self.news.complain(segment.file, damage)
            self._retire(segment)

    def _note(self, segment: Segment, settled: Sequence[tuple[int, int]]) -> None:
        try:
            with self._lock:
                segment.note(settled)
        except OSError as error:
            self.news.complain(segment.file, f"cannot be told what is settled; it may be sent again: {_text(error)}")

    def _retire(self, segment: Segment) -> bool:
        """Delete a segment if all of it is settled and nobody appends to it or reads it any more."""
        with self._lock:
            if segment.live or segment.ordinal not in self._segments or segment in self.backlog:
                return False
            was_current = segment is self._current
            if was_current:
                self._current = None
        try:
            segment.remove()
        except OSError as error:
            self.news.complain(segment.file, f"cannot be deleted: {_text(error)}")
            with self._lock:
                if was_current and self._current is None:
                    self._current = segment
            return False
        with self._lock:
            del self._segments[segment.ordinal]
            self._freed = True
        self.adoption.settled()
        return True

    def adopt(self, *, at_once: bool = False) -> int:
        """Take over segments that nobody alive owns; unless at once, it looks for them twice a minute at most.

        Returns:
            How many it has found.
        """
        if not self.adoption.begin(at_once=at_once):
            return 0
        found = 0
        try:
            if self._is_parked:
                self._unpark()
            with self._lock:
                directory = self._open()
            for segment in tuple(self._segments.values()):
                self._retire(segment)  # what could not be deleted when it was due
            names = directory.segments()
            for segment in self.adoption.find(directory, names, own=tuple(self._segments.values())):
                with self._lock:
                    self._add(segment)
                    self.backlog.adopt(segment)
                found += 1
        except OSError as error:
            with self._lock:
                self._fail(error)
        return found

    def forget(self) -> None:
        """In a forked child: what is here belongs to the parent, whose locks hold as long as it lives."""
        for segment in self._segments.values():
            segment.close()
        if self._directory is not None:
            self._directory.close()


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


_new_tuple = tuple.__new__
