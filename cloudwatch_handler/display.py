"""What a person sees at a terminal: a progress bar, and the tables that sum up a demonstration and a spool."""

from __future__ import annotations

import datetime
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .demo import Outcome
from .ledger import Statistics
from .survey import SegmentSummary

#: Is told how much is done, and a few words about it.
Show = Callable[[int, str], object]


@contextmanager
def progress(what: str, total: int | None, *, silent: bool = False) -> Iterator[Show]:
    """Show a bar on stderr while the block runs, if that is a terminal.

    Elsewhere nothing is shown, and the package's own diagnostics are silent, too: the last line says what matters.

    Args:
        what: what is being done, in a word.
        total: how much there is to do; None where nobody knows.
        silent: show nothing in any case.
    """
    visible = sys.stderr.isatty() and not silent
    columns = TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[words]}"), TimeElapsedColumn()
    diagnostics = logging.getLogger("cloudwatch_handler")
    silence = logging.NullHandler()
    if not visible:
        diagnostics.addHandler(silence)
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        task = bar.add_task(what, total=total, words="")

        def show(done: int, words: str) -> None:
            bar.update(task, completed=done, words=words)

        try:
            yield show
        finally:
            diagnostics.removeHandler(silence)


def counts(statistics: Statistics) -> str:
    """The part of a ledger that moves while lines are sent."""
    return f"{statistics.delivered:,} delivered, {statistics.pending:,} waiting"


def summary(outcome: Outcome) -> Table:
    """The figures of a demonstration: name, value, remark."""
    ledger = outcome.shipment.statistics
    table = Table(box=box.ROUNDED, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_row("accepted", f"{ledger.accepted:,}", "events")
    table.add_row("delivered", f"{ledger.delivered:,}")
    table.add_row("rejected", f"{ledger.rejected:,}", _reasons(ledger.rejected_by_reason))
    table.add_row("dropped", f"{ledger.dropped:,}", _reasons(ledger.dropped_by_reason))
    table.add_row("batches", f"{ledger.batches:,}")
    table.add_row("before gzip", f"{ledger.bytes_raw:,}", "bytes")
    table.add_row("after gzip", f"{ledger.bytes_sent:,}", f"bytes, {ledger.bytes_sent / (ledger.bytes_raw or 1):.1%}")
    table.add_row("time", f"{outcome.seconds:.2f}", "seconds")
    return table


def segments(found: Sequence[SegmentSummary]) -> Table:
    """What lies in a spool directory: a line for each segment, and one for all."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_footer=len(found) > 1)
    oldest = min((segment.oldest for segment in found if segment.oldest is not None), default=None)
    damaged = sum(segment.damaged for segment in found)
    table.add_column("segment", "all", overflow="fold")
    table.add_column("owner")
    table.add_column("events", f"{sum(segment.events for segment in found):,}", justify="right")
    table.add_column("bytes", f"{sum(segment.size for segment in found):,}", justify="right")
    table.add_column("oldest (UTC)", _date(oldest), no_wrap=True)
    if damaged:  # hardly ever; without it, all fits in 80 columns
        table.add_column("damaged", f"{damaged:,}", justify="right")
    for segment in found:
        owner = "alive" if segment.owner_alive else "dead"
        row = [segment.name, owner, f"{segment.events:,}", f"{segment.size:,}", _date(segment.oldest)]
        table.add_row(*row, *[f"{segment.damaged:,}"] * bool(damaged))
    return table


def _date(timestamp: int | None) -> str:
    if timestamp is None:
        return ""
    return datetime.datetime.fromtimestamp(timestamp / 1000, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _reasons(by_reason: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(by_reason.items()))
