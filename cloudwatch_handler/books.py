"""What has become of every event, and what has not been told yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .event import Destination, Event
from .ledger import Loss, Statistics

#: Destinations whose losses are remembered until the stream itself can be told.
MAX_LOSSES = 1_000


class Books:
    """The counters of the ledger. What is held is not among them: it is looked at.

    Attributes:
        accepted: events that have come into the lanes, or were turned away there.
        delivered: events that the service has acknowledged.
        counts: the other counters of :class:`Statistics`, by field name.
        high_water_mark: most bytes ever held.
        last_error: text of the last error, or None.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.delivered = 0
        self._rejected: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.high_water_mark = 0
        self.last_error: str | None = None
        self._last_error_time: float | None = None
        self._untold_drops: Counter[str] = Counter()
        self._losses: dict[Destination, Loss] = {}
        self._rejections: list[tuple[str, Destination, Sequence[Event]]] = []

    def reject(self, reason: str, destination: Destination, events: Sequence[Event], *, tell: bool = True) -> None:
        """The service refuses these events; ``tell`` whether they are kept to be told of."""
        self._rejected[reason] += len(events)
        if tell:
            self._rejections.append((reason, destination, events))

    def drop(self, reason: str, events: Sequence[Event], *, tell: bool = True) -> None:
        """These events were given up; ``tell`` whether that is a line of its own."""
        self._dropped[reason] += len(events)
        self._untold_drops[reason] += len(events) if tell else 0
        by_destination: dict[Destination, list[Event]] = {}
        for event in events:
            by_destination.setdefault(event.destination, []).append(event)
        for destination, lost in by_destination.items():
            loss = Loss.of(reason, lost)
            known = self._losses.get(destination)
            if known is not None:
                self._losses[destination] = known + loss
            elif len(self._losses) < MAX_LOSSES:
                self._losses[destination] = loss

    def note_error(self, text: str, *, wall: float) -> None:
        """Remember the last error; ``wall`` is in seconds since the epoch."""
        self.last_error, self._last_error_time = text, wall

    def has_rejections(self) -> bool:
        """Whether :meth:`rejections` would return any."""
        return bool(self._rejections)

    def rejections(self) -> list[tuple[str, Destination, Sequence[Event]]]:
        """What was rejected since the last call: reasons, destinations, events."""
        rejections, self._rejections = self._rejections, []
        return rejections

    def losses(self) -> dict[Destination, Loss]:
        """What was dropped since the last call, to be told in the stream itself."""
        losses, self._losses = self._losses, {}
        return losses

    def drops(self) -> Mapping[str, int]:
        """How many events were dropped since the last call, by reason."""
        drops, self._untold_drops = self._untold_drops, Counter()
        return +drops

    def statistics(self, *, waiting: int, held: int, spooled: int, past_memory: int) -> Statistics:
        """A snapshot of the ledger.

        Args:
            waiting: events that are accepted, and not entered here yet.
            held: events in the lanes.
            spooled: events that are on disk only.
            past_memory: events that were accepted and have never been in the lanes.
        """
        return Statistics(
            accepted=self.accepted + waiting + past_memory,
            delivered=self.delivered,
            rejected=sum(self._rejected.values()),
            dropped=sum(self._dropped.values()),
            spooled=spooled,
            pending=waiting + held,
            rejected_by_reason=MappingProxyType(dict(self._rejected)),
            dropped_by_reason=MappingProxyType(dict(self._dropped)),
            queue_high_water_mark=self.high_water_mark,
            last_error=self.last_error,
            last_error_time=self._last_error_time,
            **self.counts,
        )
