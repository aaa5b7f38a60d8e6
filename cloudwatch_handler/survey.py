"""What lies in a spool directory, for people to look at. Changes nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .directory import SUFFIX, Directory
from .jsonl import Line
from .segment import Segment


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """One segment.

    Attributes:
        name: of the file.
        owner_alive: whether a living process holds it.
        events: how many are not settled.
        damaged: lines that cannot be read.
        size: bytes of the file.
        oldest: timestamp of the earliest such event in ms since the epoch, or None when there is none.
        streams: where they go, ``group/stream``.
    """

    name: str
    owner_alive: bool
    events: int
    damaged: int
    size: int
    oldest: int | None
    streams: tuple[str, ...]


def survey(directory: Path) -> Iterator[SegmentSummary]:
    """The segments of a spool directory, oldest first, but for those that cannot be read.

    Raises:
        OSError: the directory cannot be read.
    """
    where = Directory(directory)
    try:
        for name in where.segments():
            with suppress(OSError):  # a link, or something else that is no segment
                segment = Segment.look(where, name)
                if segment is not None:
                    yield _summary(segment)
    finally:
        where.close()


def _summary(segment: Segment) -> SegmentSummary:
    try:
        settled = segment.settled()
        lines = [line for line, _ in segment.read(0, segment.size)]
        events = [line.event for line in lines if isinstance(line, Line) and line.number not in settled]
        return SegmentSummary(
            name=segment.name + SUFFIX,
            owner_alive=segment.is_owned(),
            events=len(events),
            damaged=lines.count(None),
            size=segment.size,
            oldest=min((event.timestamp for event in events), default=None),
            streams=tuple(sorted({str(event.destination) for event in events})),
        )
    finally:
        segment.close()
