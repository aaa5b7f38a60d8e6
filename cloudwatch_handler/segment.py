"""One file of the spool: events, and notes of which of them are settled.

A file ``NAME.jsonl`` is made of the lines that :mod:`cloudwatch_handler.jsonl` describes, each appended with one write.
When all events are settled, it goes.

Who holds the ``flock`` on the file owns the segment. The kernel gives the lock back when its process dies, however it
dies, and a pid that is used again means nothing.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NoReturn

from .directory import CORRUPT_SUFFIX, SUFFIX, Directory
from .jsonl import EVENT_LINE, MAX_LINE_SIZE, Head, Line, Note, note_line, parse
from .waiting import wall_clock

READ_SIZE = 1 << 20
#: The position of every so many-th line is remembered.
INDEX_STEP = 256
#: How often a new name is tried, when adopters take each new file away before it can be locked.
CREATE_ATTEMPTS = 5

_names = itertools.count()
_crc32 = zlib.crc32
_write = os.write


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
        is_adopted: it was a dead process's.
        is_gone: somebody has taken the file away, and what is in it with it.
    """

    _fd = -1

    def __init__(self, directory: Directory, name: str, fd: int) -> None:
        self._directory = directory
        self._fd = fd
        self.name = name
        self.ordinal = -1
        self.size = self.length()
        self.stop = 0
        self.lines = 0
        self.live = 0
        self.damaged = 0
        self.torn = 0
        self.is_adopted = False
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
                os.fchmod(segment._fd, 0o600)  # whatever the umask
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
            segment.is_adopted = True
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
            self._fd = _open(self._directory, self.name, os.O_RDWR | os.O_APPEND)
            if self._lock() and self.length() == self.size:
                return True
        except OSError:
            pass
        self.close()
        return False

    @property
    def file(self) -> str:
        """The file's name."""
        return self.name + SUFFIX

    @property
    def is_open(self) -> bool:
        """Whether it is in our hands."""
        return self._fd >= 0

    def was_taken_away(self) -> bool:
        """Whether the file has no name any more."""
        return self.is_open and os.fstat(self._fd).st_nlink == 0

    def _lock(self) -> bool:
        """Whether it is ours now: locked, and still under its name."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.stat(self.file, dir_fd=self._directory.fd, follow_symlinks=False)
        except (BlockingIOError, FileNotFoundError):
            return False
        return os.path.samestat(os.fstat(self._fd), there)

    def is_owned(self) -> bool:
        """Whether somebody else, alive, owns it at this moment."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
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
        line = EVENT_LINE % (_crc32(fragment, (crc + number) & 0xFFFFFFFF), number, text, fragment)
        written = _write(self._fd, line)
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
        ragged = self.size and os.pread(self._fd, 1, self.size - 1) != b"\n"
        line = b"\n" * bool(ragged) + note_line(ranges)
        written = _write(self._fd, line)
        if written != len(line):
            self._take_back()
        self.size += written

    def _take_back(self) -> NoReturn:
        with suppress(OSError):
            os.ftruncate(self._fd, self.size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, start: int, stop: int) -> Iterator[tuple[Line | Note | None, int]]:
        """Each line between two positions, with the position behind it; None for one that is damaged."""
        position, rest = start, b""
        while chunk := os.pread(self._fd, min(READ_SIZE, stop - position - len(rest)), position + len(rest)):
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

    def damage(self) -> str:
        """What could not be read back, in words; empty when all could."""
        if not self.damaged and not self.torn:
            return ""
        kept = f"; it is kept as {self.name}{CORRUPT_SUFFIX}" if self.damaged else ""
        what = f"{self.damaged} damaged lines, and {self.torn} bytes of a line that was never finished"
        return f"has {what}; they cannot be delivered{kept}"

    def length(self) -> int:
        """Bytes of the file at this moment."""
        return os.fstat(self._fd).st_size

    # -- the end ------------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Take the file away, then let go of the lock. One with damage is kept under another name, to look at.

        Raises:
            OSError: it could not be taken away.
        """
        directory, file = self._directory.fd, self.file
        with suppress(FileNotFoundError):
            if self.damaged:
                os.rename(file, self.name + CORRUPT_SUFFIX, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                os.unlink(file, dir_fd=directory)
        self.close()

    def close(self) -> None:
        """Let go of the file; whoever comes next may own it. In a forked child the parent's lock stays. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

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
