"""One file of the spool: events, and notes of which of them are settled.

``NAME.jsonl`` holds one JSON object a line. It is an event or a note::

    {"crc":3632233996,"n":17,"logGroupName":"my-app","logStreamName":"web","event":{"timestamp":…,"message":"…"}}
    {"crc":1404937530,"settled":[[0,16],[18,18]]}

``event`` is exactly what goes into the request, ``n`` counts the events, and a note names ranges of ``n``. Each line is
appended with one write. When all events are settled, the file goes. A person can read it with ``jq``.

``crc`` tells whether a line is intact. That of an event is its CRC-32, begun with that of the names (and of what is
the same in all lines of a stream) plus ``n``; that of a note is the CRC-32 of its ranges.

Who holds the ``flock`` on the file owns the segment. The kernel gives the lock back when its process dies, however it
dies, and a pid that is used again means nothing.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple, NoReturn, TypeAlias

from .directory import CORRUPT_SUFFIX, SUFFIX, Directory
from .event import EVENT_OVERHEAD, MAX_BATCH_SIZE, Destination, Event
from .waiting import wall_clock

READ_SIZE = 1 << 20
#: No line is longer: a message of 1 MB, each byte of which JSON writes as six.
MAX_LINE_SIZE = 8 << 20
#: The position of every so many-th line is remembered.
INDEX_STEP = 256
#: How often a new name is tried, when adopters take each new file away before it can be locked.
CREATE_ATTEMPTS = 5

#: What is the same in all lines of a destination, its names among it, and the CRC-32 of that.
Head: TypeAlias = tuple[bytes, int]

_EVENT = re.compile(rb'\{"crc":(\d{1,10}),"n":(\d{1,10}),')
_EVENT_KEY = b'"event":'
_NOTE = re.compile(rb'\{"crc":(\d{1,10}),"settled":(\[[\d,\[\]]*\])\}')
_names = itertools.count()
_crc32 = zlib.crc32
_write = os.write


class Line(NamedTuple):
    """An event that was read back, and its ``n``."""

    number: int
    event: Event


class Note(NamedTuple):
    """First and last ``n`` of each range that is settled."""

    ranges: Sequence[tuple[int, int]]


class Segment:
    """An open segment file, locked unless it was opened to :meth:`look`.

    The spool's lock is around everything that writes.

    Attributes:
        name: the file's name without suffix; sorts by age.
        ordinal: its number in the spool that owns it, which sorts by age, too.
        size: bytes of complete lines.
        stop: bytes at which the next segment begins.
        lines: how many events were appended.
        live: how many of those that are in the spool's books are not settled.
        damaged: lines that could not be read back.
        torn: bytes of an unfinished line at the end; its writer never returned.
        is_gone: somebody has taken the file away, and what is in it with it.
    """

    _file = -1

    def __init__(self, directory: Directory, name: str, file: int) -> None:
        self._directory = directory
        self._file = file
        self.name = name
        self.ordinal = -1
        self.size = self.length()
        self.stop = 0
        self.lines = 0
        self.live = 0
        self.damaged = 0
        self.torn = 0
        self.is_gone = False
        self._index: dict[int, int] = {}

    # -- whose it is --------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, directory: Directory, stop: int) -> Segment:
        """A new segment.

        Args:
            directory: where.
            stop: bytes that it shall not exceed by much.

        Raises:
            OSError: the disk is full or read-only, or the directory is gone.
        """
        for _ in range(CREATE_ATTEMPTS):
            name = f"{int(wall_clock() * 1e6):017d}-{os.getpid()}-{next(_names)}"
            segment = cls(directory, name, _open(directory, name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL))
            # Until it is locked it looks abandoned: who adopts it finds nothing in it, and takes it away.
            if segment._lock():
                segment.stop = stop
                os.fchmod(segment._file, 0o600)  # whatever the umask
                return segment
            segment.close()
        raise OSError(errno.EAGAIN, "every new file is taken away")

    @classmethod
    def adopt(cls, directory: Directory, name: str) -> Segment | None:
        """The segment of this name, if nobody alive owns it and no other adopter was faster; else None.

        Raises:
            OSError: it is no ordinary file, or cannot be opened.
        """
        try:
            segment = cls(directory, name, _open(directory, name, os.O_RDWR | os.O_APPEND))
        except FileNotFoundError:
            return None
        if segment._lock():
            segment.size = segment.length()  # not earlier: its owner may have been alive and writing until then
            return segment
        segment.close()
        return None

    @classmethod
    def look(cls, directory: Directory, name: str) -> Segment | None:
        """The segment of this name to read only, whoever owns it; None when it is gone.

        Raises:
            OSError: it is no ordinary file, or cannot be opened.
        """
        try:
            return cls(directory, name, _open(directory, name, os.O_RDONLY))
        except FileNotFoundError:
            return None

    def reopen(self) -> bool:
        """Own it again after :meth:`close`; False when somebody else does, or has done anything to it."""
        try:
            self._file = _open(self._directory, self.name, os.O_RDWR | os.O_APPEND)
            if self._lock() and self.length() == self.size:
                return True
        except OSError:
            pass
        self.close()
        return False

    @property
    def is_open(self) -> bool:
        """Whether it is in our hands."""
        return self._file >= 0

    def was_taken_away(self) -> bool:
        """Whether the file has no name any more."""
        return self.is_open and os.fstat(self._file).st_nlink == 0

    def _lock(self) -> bool:
        """Whether it is ours now: locked, and still under its name."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.stat(self.name + SUFFIX, dir_fd=self._directory.fd, follow_symlinks=False)
        except (BlockingIOError, FileNotFoundError):
            return False
        return os.path.samestat(os.fstat(self._file), there)

    def is_owned(self) -> bool:
        """Whether somebody else, alive, owns it at this moment."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, head: Head, fragment: bytes) -> int:
        """Write one event; it is in the kernel's hands when this returns.

        Args:
            head: of its destination.
            fragment: the event's JSON object.

        Returns:
            Its ``n``.

        Raises:
            OSError: not all of it could be written; it is not there.
        """
        number = self.lines
        if number % INDEX_STEP == 0:
            self._index[number // INDEX_STEP] = self.size
        text, crc = head
        line = b'{"crc":%d,"n":%d,%b%b}\n' % (_crc32(fragment, (crc + number) & 0xFFFFFFFF), number, text, fragment)
        written = _write(self._file, line)
        if written != len(line):
            self._take_back()
        self.size += written
        self.lines = number + 1
        return number

    def note(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Note on disk that the events of these ranges of ``n`` are settled.

        Raises:
            OSError: the note could not be written; after a crash the events are delivered again.
        """
        settled = json.dumps(ranges, separators=(",", ":")).encode()
        ragged = self.size and os.pread(self._file, 1, self.size - 1) != b"\n"
        line = b'%b{"crc":%d,"settled":%b}\n' % (b"\n" if ragged else b"", _crc32(settled), settled)
        written = _write(self._file, line)
        if written != len(line):
            self._take_back()
        self.size += written

    def _take_back(self) -> NoReturn:
        with suppress(OSError):
            os.ftruncate(self._file, self.size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, start: int, stop: int) -> Iterator[tuple[Line | Note | None, int]]:
        """Each line between two positions, with the position behind it; None for one that is damaged."""
        position, rest = start, b""
        while chunk := os.pread(self._file, min(READ_SIZE, stop - position - len(rest)), position + len(rest)):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_SIZE:  # not a line, whatever it is
                lines.append(rest)
                rest = b""
                position -= 1
            for line in lines:
                if line:
                    parsed = parse(line)
                    if isinstance(parsed, Line):
                        self._index.setdefault(parsed.number // INDEX_STEP, position)
                    yield parsed, position + len(line) + 1
                position += len(line) + 1
        if rest:
            parsed = parse(rest)
            self.torn = 0 if parsed else len(rest)
            if parsed:
                yield parsed, position + len(rest)

    def position_of(self, number: int) -> int:
        """A position at or before the line of this ``n``, which was appended, or read."""
        return self._index.get(number // INDEX_STEP, 0)

    def settled(self) -> set[int]:
        """Every ``n`` that a note names."""
        numbers: set[int] = set()
        for line, _ in self.read(0, self.size):
            if isinstance(line, Note):
                for first, last in line.ranges:
                    numbers.update(range(first, min(last, self.size) + 1))
        return numbers

    def length(self) -> int:
        """Bytes of the file at this moment."""
        return os.fstat(self._file).st_size

    # -- the end ------------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Take the file away, then let go of the lock. One with damage is kept under another name, to look at.

        Raises:
            OSError: it could not be taken away.
        """
        directory, file = self._directory.fd, self.name + SUFFIX
        with suppress(FileNotFoundError):
            if self.damaged:
                os.rename(file, self.name + CORRUPT_SUFFIX, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                os.unlink(file, dir_fd=directory)
        self.close()

    def close(self) -> None:
        """Let go of the file; whoever comes next may own it. In a forked child the parent's lock stays. Idempotent."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        self.close()


def _open(directory: Directory, name: str, flags: int) -> int:
    # O_NONBLOCK, because opening a named pipe would wait for its other end.
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    file = os.open(name + SUFFIX, flags, 0o600, dir_fd=directory.fd)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not an ordinary file")
    return file


def head_of(destination: Destination) -> Head:
    """What is the same in all lines of a destination."""
    group, stream = json.dumps(destination.log_group_name), json.dumps(destination.log_stream_name)
    text = f'"logGroupName":{group},"logStreamName":{stream},"event":'.encode()
    return text, _crc32(text)


@lru_cache(maxsize=1000)  # the events of one destination share it
def _destination_of(text: bytes) -> Destination:
    names = json.loads(b"{%b0}" % text)
    return Destination(str(names["logGroupName"]), str(names["logStreamName"]))


def parse(line: bytes) -> Line | Note | None:
    """What an intact line, without its end, says; None for one that is not."""
    # A write that was cut short may have left NUL bytes or half a line in front.
    event, note = _EVENT.match(line), _NOTE.fullmatch(line)
    try:
        if note and int(note[1]) == _crc32(note[2]):
            return Note([(int(first), int(last)) for first, last in json.loads(note[2])])
        if not event or not line.endswith(b"}}"):
            return None
        names, key, fragment = line[event.end() : -1].partition(_EVENT_KEY)
        text, number = names + key, int(event[2])
        # Before anything is made of it: garbage can be any JSON.
        if int(event[1]) != _crc32(fragment, (_crc32(text) + number) & 0xFFFFFFFF):
            return None
        content = json.loads(fragment)
        size = len(content["message"].encode()) + EVENT_OVERHEAD
        if size > MAX_BATCH_SIZE:
            return None
        return Line(number, Event(_destination_of(text), int(content["timestamp"]), size, fragment))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def ranges_of(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers, of numbers in order, none of them twice."""
    start = 0
    while start < len(numbers):
        first, end = numbers[start], len(numbers)
        if numbers[-1] - first != end - 1 - start:
            end = start + 1
            while end < len(numbers) and numbers[end] - first == end - start:
                end += 1
        yield first, numbers[end - 1]
        start = end
