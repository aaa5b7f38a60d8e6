"""One process of the soak: threads and forked children log numbered records, and keep a diary that outlives a kill.

The diary is a directory. ``WRITER.logged`` holds the number of the last record for which a writer's log call returned.
``PROCESS.ledger`` holds what the handler counted, once its process has closed it, and every snapshot that did not
balance.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import signal
import struct
import sys
import threading
import time
from pathlib import Path

from cloudwatch_handler import CloudWatchHandler, source

NUMBER = struct.Struct("q")


class Process:
    """What one process, started or forked, does."""

    def __init__(self, name: str, handler: CloudWatchHandler, diary: Path, seed: str) -> None:
        self.name = name
        self._handler = handler
        self._diary = diary
        self._seed = seed
        self.stopping = threading.Event()
        self._snapshots = 0
        self._imbalances: list[str] = []
        self._closing = 0.0

    def write(self, writer: str, logger: logging.Logger, count: int | None = None) -> None:
        """Log numbered records in bursts, so many or until the end, and note each in the diary."""
        chance = random.Random(f"{self._seed} {writer}")
        file = os.open(self._diary / f"{writer}.logged", os.O_CREAT | os.O_WRONLY, 0o600)
        number = 0
        while not self.stopping.is_set() and (count is None or number < count):
            for _ in range(chance.choice((1, 10, 100, 300))):
                number += 1
                logger.info("%s %d%s", writer, number, " " * chance.randrange(200))
                os.pwrite(file, NUMBER.pack(number), 0)
            if chance.random() < 0.02:
                self._handler.flush(chance.choice((0.0, 0.05, 1.0)))
            if chance.random() < 0.002:
                self._end()  # as a second dictConfig does; the next record starts it again
            self.stopping.wait(chance.random() * 0.1)
        os.close(file)

    def watch(self) -> None:
        """Look at the ledger from another thread, all the time, and in a short life often enough as well."""
        while not self.stopping.is_set() or self._snapshots < 10:
            ledger = self._handler.statistics()
            settled = ledger.delivered + ledger.rejected + ledger.dropped
            self._snapshots += 1
            if ledger.accepted != settled + ledger.spooled + ledger.pending:
                self._imbalances.append(str(ledger))
            self.stopping.wait(0.002)

    def _end(self) -> None:
        began = time.monotonic()
        self._handler.close()
        self._closing = max(self._closing, time.monotonic() - began)

    def close(self) -> None:
        """Close the handler and leave its last word in the diary."""
        self._end()
        ledger = self._handler.statistics()
        entry = {
            "rejected": dict(ledger.rejected_by_reason),
            "dropped": ledger.dropped,
            "closing": self._closing,
            "snapshots": self._snapshots,
            "imbalances": self._imbalances[:3],
        }
        path = self._diary / f"{self.name}.ledger"
        path.with_suffix(".new").write_text(json.dumps(entry))
        path.with_suffix(".new").rename(path)


def forked(name: str, handler: CloudWatchHandler, logger: logging.Logger, diary: Path, seed: str, count: int) -> None:
    """The life of a forked child: it logs a few records, and goes."""
    process = Process(name, handler, diary, seed)
    watcher = threading.Thread(target=process.watch)
    watcher.start()
    process.write(f"{name}.0", logger, count)
    process.stopping.set()
    watcher.join()
    process.close()


def main() -> None:
    """Log until SIGTERM, and now and then fork a child that does so too."""
    name, stream, diary_, seed, threads, forks, arguments = sys.argv[1:]
    source.READ_TIMEOUT = 1.0  # a hang costs one; a soak wants many
    diary = Path(diary_)
    handler = CloudWatchHandler("soak", stream, **json.loads(arguments))
    logger = logging.getLogger("soak")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    process = Process(name, handler, diary, seed)
    signal.signal(signal.SIGTERM, lambda *_: process.stopping.set())
    crew = [threading.Thread(target=process.watch)]
    crew += [threading.Thread(target=process.write, args=(f"{name}.{n}", logger)) for n in range(int(threads))]
    for thread in crew:
        thread.start()
    chance = random.Random(f"{seed} {name}")
    context = multiprocessing.get_context("fork")
    children: list[multiprocessing.process.BaseProcess] = []
    while not process.stopping.wait(chance.random() * 2):
        if int(forks):
            count = chance.choice((1, 50, 500))
            life = (f"{name}f{len(children)}", handler, logger, diary, seed, count)
            children.append(context.Process(target=forked, args=life))
            children[-1].start()
    for thread in crew:
        thread.join()
    for child in children:
        child.join()
    process.close()


if __name__ == "__main__":
    main()
