"""The spool's directory: kept to its owner, and never reached through a symbolic link."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: Ends the names of segments.
SUFFIX = ".jsonl"
#: Ends the name of a segment with damage, after what was intact in it has been delivered.
CORRUPT_SUFFIX = ".corrupt"


class Directory:
    """An open directory. Files in it are opened relative to ``fd``, whatever becomes of the path meanwhile.

    Raises:
        OSError: there is none, it is no directory or a symbolic link, or it may not be opened.
    """

    fd = -1

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    @classmethod
    def make(cls, path: Path) -> Directory:
        """The same; it is made where it is missing, and closed to everybody else if nothing else is in it.

        Raises:
            OSError: it cannot be made, or belongs to somebody else.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            path.chmod(0o700)  # whatever the umask
        directory = cls(path)
        owner = os.fstat(directory.fd).st_uid
        if owner != os.geteuid():
            raise PermissionError(errno.EPERM, f"the directory belongs to user {owner}, and this is {os.geteuid()}")
        # A directory that serves something else as well keeps its mode; the files of the spool are closed in any case.
        if stat.S_IMODE(os.fstat(directory.fd).st_mode) & 0o077 and directory.is_ours():
            os.fchmod(directory.fd, 0o700)
        return directory

    def is_current(self) -> bool:
        """Whether the path still leads here."""
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return False

    def is_ours(self) -> bool:
        """Whether it holds nothing but what a spool has put there."""
        return all(name.endswith((SUFFIX, CORRUPT_SUFFIX)) for name in os.listdir(self.fd))

    def segments(self) -> list[str]:
        """Names of the segments, without suffix, oldest first."""
        return sorted(file[: -len(SUFFIX)] for file in os.listdir(self.fd) if file.endswith(SUFFIX))

    def size(self) -> int:
        """Bytes of all files."""
        total = 0
        with os.scandir(self.fd) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except OSError:  # gone
                    continue
        return total

    def close(self) -> None:
        """Let go of it. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()
