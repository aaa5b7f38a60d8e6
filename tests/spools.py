"""Spool directories, and what the tests of them share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

from cloudwatch_handler.buffer import Buffer, Overflow
from cloudwatch_handler.delivery import Delivery
from cloudwatch_handler.directory import SUFFIX, Directory
from cloudwatch_handler.errors import Unavailable
from cloudwatch_handler.event import Batch, Destination, Event, encode
from cloudwatch_handler.jsonl import Line, Note, head_of
from cloudwatch_handler.ledger import DeliveryReport, Loss, Statistics
from cloudwatch_handler.segment import Segment
from cloudwatch_handler.spool import Spool
from cloudwatch_handler.waiting import monotonic, wall_clock
from cloudwatch_handler.worker import Worker

HERE = Destination("app", "web")
FOREVER = 1 << 40


def event(text: object, destination: Destination = HERE) -> Event:
    """The event of a text, of this moment."""
    return encode(destination, int(wall_clock() * 1000), str(text))


def append(segment: Segment, *events: Event) -> None:
    """Appends events as the spool does."""
    for one in events:
        segment.append(head_of(one.destination), one.fragment)


def leave_behind(path: Path, *texts: object, settled: Iterable[tuple[int, int]] = ()) -> Path:
    """The segment of a process that died, with these events."""
    directory = Directory.make(path)
    segment = Segment.create(directory, FOREVER)
    append(segment, *[event(text) for text in texts])
    if settled:
        segment.note(list(settled))
    segment.close()
    return path / (segment.name + SUFFIX)


def content(path: Path) -> tuple[list[str], set[int], int]:
    """Messages of the intact events of a segment, what its notes name, and how many lines are damaged."""
    segment = Segment.look(Directory(path.parent), path.name[: -len(SUFFIX)])
    assert segment is not None
    lines: list[Line | Note | None] = [line for line, _ in segment.read(0, segment.size)]
    messages = [line.event.message for line in lines if isinstance(line, Line)]
    damaged = lines.count(None)
    settled = segment.settled()
    segment.close()
    return messages, settled, damaged


def files(path: Path) -> list[str]:
    """Names of the files in a directory; none if there is no directory."""
    return sorted(os.listdir(path)) if path.exists() else []


def open_files(path: Path) -> list[str]:
    """Which files at or below this path the process has open; a file that was deleted counts as well."""
    files = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor that lists them
            files.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [file for file in files if file.startswith(str(path))]


class Killed(BaseException):
    """The process is killed here."""


class Life:
    """The life of a process with a handler on a spool directory: the real worker, stepped by hand.

    Attributes:
        works: whether the service takes what comes, or refuses it.
        dies: whether the process is killed when the service has taken the next batch, before it hears of that.
        delivered: the events that the service has taken, as destination and message.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_spool_size: int = 1 << 30,
        max_queue_size: int = 1 << 20,
        max_batch_count: int = 100,
        max_batch_size: int = 1 << 20,
        overflow: Overflow = "drop_oldest",
    ) -> None:
        self.works = True
        self.dies = False
        self.delivered: list[tuple[Destination, str]] = []
        self.worker = Worker(
            lambda disk: Buffer(
                send_interval=0.0,
                max_batch_count=max_batch_count,
                max_batch_size=max_batch_size,
                max_queue_size=max_queue_size,
                overflow=overflow,
                disk=disk,
            ),
            lambda: cast(Delivery, self),
            lambda: Spool(path, max_spool_size),
            send_interval=0.0,
            shutdown_timeout=5.0,
            block_timeout=0.0 if overflow == "block" else None,
        )
        self.worker.thread.start = lambda: None  # type: ignore[method-assign]

    @property
    def spool(self) -> Spool:
        """Its spool."""
        assert self.worker._spool is not None
        return self.worker._spool

    @property
    def messages(self) -> list[str]:
        """The messages that the service has taken."""
        return [message for _, message in self.delivered]

    def log(self, *texts: object, destination: Destination = HERE) -> None:
        """Log calls."""
        for text in texts:
            self.worker.add(event(text, destination))

    def step(self) -> float | None:
        """What the thread does next; returns when there is more to do."""
        self.worker.urge()
        with self.worker.driver.lock:
            return self.worker.driver.step()

    def run(self) -> None:
        """What the thread does until there is nothing more to do now."""
        while (due := self.step()) is not None and due <= monotonic():
            pass

    def news(self) -> list[str]:
        """What the spool has said and nobody has heard."""
        return self.spool.news.take()

    def check(self) -> Statistics:
        """The ledger, which balances."""
        books = self.worker.statistics()
        assert books.accepted == books.delivered + books.rejected + books.dropped + books.spooled + books.pending
        assert min(books.spooled, books.pending, books.dropped) >= 0
        return books

    def die(self) -> None:
        """The end without farewell: the kernel closes the files."""
        self.spool.forget()

    # what the worker needs of a delivery

    def attempt(self, batch: Batch, *, now: float, wall: float) -> DeliveryReport:
        """Takes the batch, or refuses it for a while."""
        events = batch.seal()
        if not self.works:
            batch.attempts += 1
            return DeliveryReport(remaining=(batch,), delay=10.0, error=Unavailable("PutLogEvents", "503", "down"))
        self.delivered += [(one.destination, one.message) for one in events]
        if self.dies:
            raise Killed
        return DeliveryReport(delivered=len(events))

    def lose(self, destination: Destination, loss: Loss) -> None:
        """A loss that the stream would be told of."""
