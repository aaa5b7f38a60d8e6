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


class Diagnostics:
    """Remembers what has been said. Used by the thread that drives the worker, never under the ledger's lock."""

    def __init__(self) -> None:
        self._down: dict[Destination, str] = {}
        self._down_since: dict[str, float] = {}
        self._failures: Counter[str] = Counter()
        self._counted: dict[str, Counter[str]] = {}
        self._quiet_until: dict[str, float] = {}

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
                logger.warning("%s; the events were delivered all the same", report.error)

    def _failed(self, destination: Destination, error: ServiceError, delay: float, pending: int, now: float) -> None:
        kind = f"{error.operation} {error.code}"
        known = kind in self._down.values()
        before = self._down.get(destination)
        self._down[destination] = kind
        self._failures[kind] += 1
        if known:
            return
        self._down_since.setdefault(kind if before is None else before, now)
        logger.warning("%s for %s; %d events wait; next try in %.1f s", error, destination, pending, delay)

    def _recovered(self, destination: Destination, now: float) -> None:
        kind = self._down.pop(destination, None)
        if kind is None or kind in self._down.values():
            return
        failures = self._failures.pop(kind, 0)
        since = self._down_since.pop(kind, now)
        logger.warning("delivery to %s works again, after %.1f s and %d failed attempts (%s)", destination,
                       now - since, failures, kind)  # fmt: skip
        if not self._down:
            self._failures.clear()
            self._down_since.clear()

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
        counted = self._counted.setdefault(kind, Counter())
        counted[key] += count
        if now >= self._quiet_until.get(kind, now):
            self._quiet_until[kind] = now + INTERVAL
            logger.warning("%s", text(counted))
            counted.clear()

    def bug(self, error: BaseException) -> None:
        """An exception that should not have been; said once for each kind."""
        kind = f"{type(error).__name__}: {error}"
        if not self._failures[kind]:
            logger.error("unexpected %s; the batch is tried again", kind, exc_info=error)
        self._failures[kind] += 1


def say_left(left: Mapping[Destination, int]) -> None:
    """Tell stderr what a closing handler could not deliver; logging may be gone by then, and stderr too."""
    total = sum(left.values())
    if not total:
        return
    first = ", ".join(f"{destination} ({count})" for destination, count in sorted(left.items())[:3])
    more = f" and {len(left) - 3} more streams" if len(left) > 3 else ""
    with suppress(OSError, ValueError, AttributeError):
        print(
            f"cloudwatch_handler: closed with {total} events undelivered, for {first}{more}; "
            "a longer shutdown_timeout gives them more time",
            file=sys.stderr,
        )
