"""Segments of dead processes: when to look for them, and how many to take over at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from .directory import SUFFIX, Directory
from .segment import Segment
from .waiting import monotonic

#: How many segments of dead processes are open at most.
MAX_ADOPTED = 16
#: Seconds between two looks.
INTERVAL = 30.0


class Adoption:
    """Looks into the directory twice a minute.

    Args:
        complain: called with the name of a file, and with what is wrong with it.

    Attributes:
        next_look: monotonic time.
        has_more: whether the last look left some alone, because enough had been taken over.
    """

    def __init__(self, complain: Callable[[str, str], None]) -> None:
        self._complain = complain
        self.next_look = 0.0
        self.has_more = False

    def begin(self, *, at_once: bool) -> bool:
        """Whether it is time for a look; if it is, the next one has to wait."""
        if monotonic() < self.next_look and not at_once:
            return False
        self.next_look = monotonic() + INTERVAL
        return True

    def find(self, directory: Directory, names: Iterable[str], own: Collection[Segment]) -> Iterator[Segment]:
        """Take over what nobody alive owns, as far as there is room for it.

        Args:
            directory: where.
            names: what was there, the oldest first.
            own: what is held already, and was then.
        """
        own_names = {segment.name for segment in own}
        held = sum(segment.is_adopted for segment in own)
        self.has_more = False
        for name in names:
            if name in own_names:
                continue
            if held >= MAX_ADOPTED:
                self.has_more = True
                return
            try:
                segment = Segment.adopt(directory, name)
            except OSError as error:
                self._complain(name + SUFFIX, f"cannot be taken over: {error.strerror}")
                continue
            if segment is not None:
                held += 1
                yield segment

    def settled(self) -> None:
        """One that was taken over is settled: there is room for another."""
        if self.has_more:
            self.next_look = 0.0
