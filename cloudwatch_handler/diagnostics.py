"""What the package says about itself: one line per change of state, on the logger ``cloudwatch_handler``.

A service that is down for an hour is said once when it goes and once when it is back. Counted things (rejections,
overflow) are said at once, and then at most once a minute with what came together.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ServiceError
from .event import Destination
from .ledger import DeliveryReport

logger = logging.getLogger("cloudwatch_handler")

#: Seconds between two lines about the same counted thing.
INTERVAL = 60.0

_ADVICE = {
    "too_old": "older than 14 days",
    "expired": "older than the group's retention",
    "too_new": "more than 2 h in the future",
    "too_large": "longer than max_message_size",
    "empty": "no text",
    "invalid": "refused by the service",
}


@dataclass(slots=True)
class _Trouble:
    """A destination to which delivery fails: since when, how often, and which kinds of failure were said."""

    since: float
    failures: int = 0
    said: set[str] = field(default_factory=set)


class Diagnostics:
    """Remembers what has been said. Used by the thread that drives the worker, never under the ledger's lock."""

    def __init__(self) -> None:
        self._troubles: dict[Destination, _Trouble] = {}
        self._counted: dict[str, tuple[Counter[str], Callable[[Mapping[str, int]], str]]] = {}
        self._mentioned: set[str] = set()
        self._quiet_until: dict[str, float] = {}
        self._bugs: set[tuple[str, object]] = set()

    def attempt(self, destination: Destination, report: DeliveryReport, *, pending: int, now: float) -> None:
        """Say it when delivery to a destination begins to fail, fails in another way, or works again.

        Args:
            destination: where the batch was to go.
            report: what became of it.
            pending: events that wait.
            now: monotonic time in seconds.
        """
        if report.error is not None and report.remaining:
            self._failed(destination, report.error, report.delay, pending, now)
        elif report.delivered:
            self._recovered(destination, now)
            if report.error is not None:
                _say("%s; the events were delivered all the same", report.error)

    def _failed(self, destination: Destination, error: ServiceError, delay: float, pending: int, now: float) -> None:
        trouble = self._troubles.setdefault(destination, _Trouble(now))
        trouble.failures += 1
        kind = f"{error.operation} {error.code}"
        # Once for each kind of failure and destination; and of many destinations, one a minute speaks for all.
        if kind not in trouble.said and now >= self._quiet_until.get(kind, now):
            trouble.said.add(kind)
            self._quiet_until[kind] = now + INTERVAL
            _say(
                *("%s for %s (attempt %d); %d events wait; next try in %.1f s", error, destination),
                *(trouble.failures, pending, delay),
            )

    def _recovered(self, destination: Destination, now: float) -> None:
        trouble = self._troubles.pop(destination, None)
        if trouble is None or not trouble.said:
            return
        for kind in trouble.said:
            self._quiet_until.pop(kind, None)
        _say(
            *("delivery to %s works again, after %.1f s and %d failed attempts", destination),
            *(now - trouble.since, trouble.failures),
        )

    def rejected(self, reason: str, destination: Destination, count: int, *, now: float) -> None:
        """Events of a destination were rejected for this reason."""

        def text(counts: Mapping[str, int]) -> str:
            what = ", ".join(f"{reason} ({_ADVICE[reason]}): {count}" for reason, count in sorted(counts.items()))
            return f"{sum(counts.values())} events rejected, the last for {destination}; {what}"

        self._count("rejected", reason, count, now, text)

    def dropped(self, reason: str, count: int, *, now: float) -> None:
        """Events were given up for this reason."""

        def text(counts: Mapping[str, int]) -> str:
            what = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))
            return f"{sum(counts.values())} events dropped; {what}"

        self._count("dropped", reason, count, now, text)

    def _count(self, kind: str, key: str, count: int, now: float, text: Callable[[Mapping[str, int]], str]) -> None:
        """Say it at once for a reason that was not said before; otherwise a minute after the last line of the kind."""
        counted, _ = self._counted.setdefault(kind, (Counter(), text))
        self._counted[kind] = counted, text
        counted[key] += count
        is_new = f"{kind} {key}" not in self._mentioned
        if is_new or now >= self._quiet_until.get(kind, now):
            self._mentioned.update(f"{kind} {reason}" for reason in counted)
            self._quiet_until[kind] = now + INTERVAL
            _say("%s", text(counted))
            counted.clear()

    def say_rest(self) -> None:
        """Say what was counted since the last line, before nobody can any more."""
        for counted, text in self._counted.values():
            if counted:
                _say("%s", text(counted))
                counted.clear()

    def say(self, line: str) -> None:
        """Pass on something that says itself once for each change of state."""
        _say("%s", line)

    def bug(self, error: BaseException, consequence: str) -> None:
        """An exception that should not have been, and what follows; said once for each type and place."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        if (kind := (type(error).__name__, place)) not in self._bugs:
            self._bugs.add(kind)
            _say("unexpected %s: %s; %s", kind[0], error, consequence, level=logging.ERROR, error=error)


def say_left(left: Mapping[Destination, int], last_error: str | None) -> None:
    """Tell stderr what a closing handler could not deliver, and why; logging may be gone by then."""
    total = sum(left.values())
    if not total:
        return
    first = ", ".join(f"{destination} ({count})" for destination, count in sorted(left.items())[:3])
    more = f" and {len(left) - 3} more streams" if len(left) > 3 else ""
    why = f"the last error was: {last_error}" if last_error else "a longer shutdown_timeout gives them more time"
    _to_stderr(f"closed with {total} events undelivered, for {first}{more}; {why}")


def _say(text: str, *values: object, level: int = logging.WARNING, error: BaseException | None = None) -> None:
    """Log a line; where nothing but CloudWatchHandlers would get it, which do not take it, tell stderr."""
    if _has_readers():
        with suppress(Exception):  # of other handlers, where logging's last resort is a stderr that is closed, say
            logger.log(level, text, *values, exc_info=error)
    elif logger.isEnabledFor(level):
        _to_stderr(text % values)


def _has_readers() -> bool:
    handlers: list[logging.Handler] = []
    step: logging.Logger | None = logger
    while step is not None:
        handlers += step.handlers
        step = step.parent if step.propagate else None
    return not handlers or not all(hasattr(handler, "statistics") for handler in handlers)


def _to_stderr(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # closed, or None
        print(f"cloudwatch_handler: {text}", file=sys.stderr)


class News:
    """Lines about a file or a directory, kept until the thread that drives comes to say them. Any thread may add.

    Args:
        path: of the directory; ends each line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._complaints: set[str] = set()

    def add(self, what: str) -> None:
        """This has changed."""
        self._lines.append(f"{what} ({self._path})")

    def complain(self, file: str, what: str) -> None:
        """Say once what is wrong with a file."""
        if file + what not in self._complaints:
            self._complaints.add(file + what)
            self.add(f"{file} {what}")

    def take(self) -> list[str]:
        """What was added since the last call."""
        lines, self._lines = self._lines, []
        return lines
