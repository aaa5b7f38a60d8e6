"""Lines on their way through a handler, until all have arrived or nothing moves any more."""

from __future__ import annotations

import io
import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from time import monotonic

from .handler import CloudWatchHandler
from .ledger import Statistics
from .lines import number_of
from .reader import group_name, stream_name
from .source import Boto3Client

#: Seconds between two looks at how far things are.
LOOK_INTERVAL = 0.1

Show = Callable[[Statistics], object]


@dataclass(frozen=True, slots=True)
class Shipment:
    """What became of the lines.

    Attributes:
        lines: how many were logged; 0 also for events that lay in a spool.
        end: why no further line was: ``"complete"`` (there was none), ``"stopped"`` (nothing moved any more, so no more
            were read) or ``"interrupted"``.
        statistics: the handler's ledger after it was closed. Its unit is the event; a very long line is several.
    """

    lines: int
    end: str
    statistics: Statistics

    @property
    def empty(self) -> int:
        """Empty lines; CloudWatch Logs takes no empty message."""
        return self.statistics.rejected_by_reason.get("empty", 0)

    @property
    def arrived(self) -> bool:
        """Whether all lines were logged, and all but empty ones are in CloudWatch Logs."""
        return self.end == "complete" and self.statistics.delivered + self.empty == self.statistics.accepted

    def __str__(self) -> str:
        """What happened, in one line."""
        ledger = self.statistics
        parts = [f"{ledger.delivered:,} of {number_of(ledger.accepted - self.empty, 'event')} delivered"]
        if self.end != "complete":
            where = f" after {number_of(self.lines, 'line')}" if self.lines else ""
            parts[0] = f"{self.end}{where}, {parts[0]}"
        if self.empty:
            parts.append(f"{number_of(self.empty, 'empty line')} left out: CloudWatch Logs takes no empty message")
        for verb, by_reason in (("rejected", ledger.rejected_by_reason), ("dropped", ledger.dropped_by_reason)):
            parts += [
                f"{count:,} {verb} ({reason})" for reason, count in by_reason.items() if count and reason != "empty"
            ]
        if not self.arrived and ledger.last_error is not None:
            parts += [f"{ledger.spooled:,} stay on disk"] * bool(ledger.spooled)
            parts.append(" ".join(ledger.last_error.split()))
        return "; ".join(parts)


def open_stream(
    group: str, stream: str, client: Boto3Client, *, patience: float, retention_days: int | None
) -> tuple[logging.Logger, CloudWatchHandler]:
    """A logger whose records go to one stream, and its handler, for :func:`ship`.

    Args:
        group: the log group's name as it is, no template.
        stream: the log stream's, likewise.
        client: a boto3 client for their region.
        patience: seconds to wait while nothing moves.
        retention_days: for the group, if it has to be created; None: its events are kept for ever.

    Raises:
        ValueError: an argument breaks its rule.
    """
    handler = CloudWatchHandler(
        _literal(_not_reserved(group_name("GROUP", group))),
        _literal(stream_name("STREAM", stream)),
        boto3_client=client,
        # A line that waits for company must not look as if nothing moved.
        send_interval=min(2.0, patience / 2),
        overflow="block",
        block_timeout=patience,
        shutdown_timeout=min(5.0, patience),
        log_group_retention_days=retention_days,
    )
    logger = logging.Logger(__name__)
    logger.addHandler(handler)
    return logger, handler


def _not_reserved(group: str) -> str:
    if group.startswith("aws/"):
        raise ValueError(f"GROUP must not start with 'aws/', not {group!r}")
    return group


def _literal(name: str) -> str:
    """The template that makes this name."""
    return name.replace("{", "{{").replace("}", "}}")


def ship(
    lines: Iterable[str], logger: logging.Logger, handler: CloudWatchHandler, *, patience: float, show: Show
) -> Shipment:
    """Log lines, wait until all of them are settled, and close the handler.

    A Ctrl-C ends the reading, and what was read is still delivered; another one ends the waiting for that, too.

    Args:
        lines: what to log, each as the message of a record of level INFO.
        logger: has the handler; loses it.
        handler: blocks for ``patience`` seconds when its memory is full, or else lines that come faster than they can
            be sent are dropped.
        patience: seconds to wait while nothing moves.
        show: called with the ledger every now and then, and at the end.
    """
    watch = _Watch(handler, patience, show)
    logged, end = 0, "complete"
    with _Interrupt() as interrupt:
        try:
            with suppress(KeyboardInterrupt):
                for line in interrupt.wait_for(lines):
                    logger.info("%s", line)
                    logged += 1
                    if watch.is_stuck():
                        end = "stopped"
                        break
            while end != "stopped" and interrupt.times < 2 and not handler.flush(LOOK_INTERVAL):
                if watch.is_stuck():
                    break
            if interrupt.times:
                end = "interrupted"
        finally:
            logger.removeHandler(handler)
            with redirect_stderr(io.StringIO()):  # what close says of events left behind, the shipment says
                handler.close()
    statistics = handler.statistics()
    show(statistics)
    return Shipment(logged, end, statistics)


def recover(handler: CloudWatchHandler, *, patience: float, show: Show) -> Shipment:
    """Deliver what dead processes have left in the handler's spool directory, and close the handler.

    What cannot be delivered stays there.

    Args:
        handler: has a spool directory.
        patience: seconds to wait while nothing moves.
        show: called with the ledger every now and then, and at the end.
    """
    end = "stopped"
    try:
        settled = 0
        while end == "stopped":
            # In one long call, on a thread of its own: the end of each call cuts off the request that is under way.
            done: list[bool] = []
            thread = threading.Thread(target=lambda done=done: done.append(handler.recover(patience)), daemon=True)
            thread.start()
            while thread.is_alive():
                thread.join(LOOK_INTERVAL)
                show(statistics := handler.statistics())
            if done == [True]:
                end = "complete"
            elif statistics.accepted - statistics.pending == settled:
                break
            settled = statistics.accepted - statistics.pending
    finally:
        handler.close()
    statistics = handler.statistics()
    show(statistics)
    return Shipment(0, end, statistics)


class _Interrupt:
    """Ctrl-C, which ends the waiting for a line at once, but does not break into the handler's code.

    Attributes:
        times: how often it came.
    """

    def __init__(self) -> None:
        self.times = 0
        self._waiting = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is not signal.SIG_IGN:  # as for what a shell without job control puts in the background
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        self.times += 1
        if self._waiting or self.times > 2:
            self._waiting = False
            raise KeyboardInterrupt

    def wait_for(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines, up to an interruption.

        Raises:
            KeyboardInterrupt: it came while a line was waited for.
        """
        iterator = iter(lines)
        while not self.times:
            self._waiting = True
            try:
                line = next(iterator)
            except StopIteration:
                return
            finally:
                self._waiting = False
            yield line


class _Watch:
    """Looks at a handler's ledger from time to time."""

    def __init__(self, handler: CloudWatchHandler, patience: float, show: Show) -> None:
        self._handler = handler
        self._patience = patience
        self._show = show
        self._look_at = self._moved_at = monotonic()
        self._settled = self._pending = 0

    def is_stuck(self) -> bool:
        """Whether something was dropped, or nothing was settled for too long although something waits."""
        now = monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_INTERVAL
        statistics = self._handler.statistics()
        self._show(statistics)
        settled = statistics.accepted - statistics.pending
        if settled != self._settled or not self._pending:
            self._moved_at = now
        self._settled, self._pending = settled, statistics.pending
        return statistics.dropped > 0 or now - self._moved_at >= self._patience
