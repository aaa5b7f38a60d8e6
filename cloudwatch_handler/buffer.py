"""Who owns an event between acceptance and settlement, and the books about it.

Events wait in a *lane* per destination, already gathered into batches that are legal to send. A batch that is under way
stays at the head of its lane until a report settles it, so nothing an exception can interrupt ever holds the only
reference to an event, and a batch that failed is back at the head without being moved.

The way in is a queue of its own, the *intake*: appending to a list is atomic, so that a log call
needs no lock, may come from a signal handler or a destructor, and cannot be held up. :meth:`Buffer.drain` moves events
from the intake into their lanes. Everything but that append is called by one thread at a time (the worker holds a lock
around it); nothing here reads a clock.

*pending* is computed from what is held, never counted; it is what makes the identity of the ledger worth checking.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from .event import EVENT_MEMORY, Batch, Destination, Event
from .ledger import DeliveryReport, Statistics

Overflow = Literal["drop_oldest", "drop_newest", "block"]


class Lane:
    """The waiting line of one destination.

    Attributes:
        batches: oldest first; only the last one may be open.
        under_way: True while the first batch is being sent.
        not_before: monotonic time before which nothing may be sent (back-off).
        accepted, settled: how many events ever came in, and how many of them have left. Events leave in the order in
            which they came, so ``settled >= n`` says that the first n are accounted for.
        urgent: events up to this count are sent without waiting for company.
    """

    __slots__ = ("accepted", "batches", "destination", "not_before", "settled", "under_way", "urgent")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.batches: deque[Batch] = deque()
        self.under_way = False
        self.not_before = 0.0
        self.accepted = 0
        self.settled = 0
        self.urgent = 0

    def due(self, send_interval: float) -> float:
        """Monotonic time at which the first batch should be sent (there is one)."""
        first = self.batches[0]
        if first.sealed or first.full or self.urgent > self.settled or len(self.batches) > 1:
            return self.not_before
        return max(self.not_before, first.arrival + send_interval)

    def held(self) -> int:
        """Events in this lane."""
        return sum(map(len, self.batches))


#: What :meth:`Buffer.mark` returns: lanes, and how many events each must have settled.
Mark = Sequence[tuple[Lane, int]]


class Buffer:
    """All lanes, the bound on their memory, and the ledger.

    Args:
        send_interval: seconds that the first event of a batch waits for company.
        max_batch_count: events a batch may have.
        max_batch_size: bytes a batch may have, as the service counts them.
        max_queue_size: bytes of memory that may be held, the batch under way included.
        overflow: what gives way when that is not enough: the oldest events, or those that come (``"block"`` makes the
            caller wait before it comes here, and then gives way like ``"drop_newest"``).
    """

    def __init__(
        self,
        *,
        send_interval: float,
        max_batch_count: int,
        max_batch_size: int,
        max_queue_size: int,
        overflow: Overflow,
    ) -> None:
        self._send_interval = send_interval
        self._max_batch_count = max_batch_count
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._drops_oldest = overflow == "drop_oldest"
        #: Accepted, and not yet in a lane. Any thread may append, at any point.
        self.intake: list[Event] = []
        #: Monotonic time at which the first of those came; whoever appends to the empty intake sets it.
        self.intake_since = 0.0
        self._lanes: dict[Destination, Lane] = {}
        self._memory = 0  # of the lanes; the intake is short
        self._accepted = 0  # into the lanes
        self._delivered = 0
        self._rejected: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._high_water_mark = 0
        self._last_error: str | None = None
        self._last_error_time: float | None = None
        self._untold_drops: Counter[str] = Counter()
        self._rejections: list[tuple[str, Destination, Sequence[Event]]] = []

    # -- the way in ---------------------------------------------------------------------------------------------------

    def refuse(self, event: Event, reason: str) -> None:
        """Accept an event only to reject it: the service would, so it is not sent."""
        self._accepted += 1
        self._reject(reason, event.destination, [event])

    def drain(self) -> bool:
        """Move what is in the intake into the lanes, within the bound; True when a batch is full."""
        intake = self.intake
        arrived = intake[:]  # what others append meanwhile stays for the next time
        if not arrived:
            return False
        memory = sum([len(event[3]) for event in arrived]) + len(arrived) * EVENT_MEMORY
        if self._memory + memory <= self._max_queue_size:
            full = self._place(arrived)
        else:
            full = False
            for event in arrived:
                if self._make_room(event.memory):
                    full = self._place([event]) or full
        self._accepted += len(arrived)
        del intake[: len(arrived)]
        self._high_water_mark = max(self._high_water_mark, self._memory)
        return full

    def _place(self, events: Sequence[Event]) -> bool:
        """Put events, which there is room for, at the end of their lanes; True when a batch is full."""
        full = False
        position = 0
        while position < len(events):
            destination = events[position].destination
            lane = self._lanes.get(destination)
            if lane is None:
                lane = self._lanes[destination] = Lane(destination)
            if not lane.batches or lane.batches[-1].sealed or lane.batches[-1].full:
                lane.batches.append(self._new_batch(destination))
            batch = lane.batches[-1]
            memory = batch.memory
            end = batch.extend(events, position)
            self._memory += batch.memory - memory
            lane.accepted += end - position
            position = end
            full = full or batch.full
        return full

    def _new_batch(self, destination: Destination) -> Batch:
        return Batch(
            destination, arrival=self.intake_since, max_count=self._max_batch_count, max_size=self._max_batch_size
        )

    def has_room(self, memory: int) -> bool:
        """Whether an event of so many bytes would fit now."""
        return self._memory + memory <= self._max_queue_size

    def _make_room(self, memory: int) -> bool:
        """Whether there is room for an event of so many bytes, if need be in the place of older ones; else count it."""
        while self._memory + memory > self._max_queue_size:
            lane = self._oldest() if self._drops_oldest and memory <= self._max_queue_size else None
            if lane is None:
                self._drop("overflow")
                return False
            batch = lane.batches[1] if lane.under_way else lane.batches[0]
            self._memory -= batch.drop_first().memory
            self._drop("overflow")
            lane.settled += 1
            if not batch:
                lane.batches.remove(batch)
                self._forget(lane)
        return True

    def _oldest(self) -> Lane | None:
        """The lane whose first event that may be dropped has waited longest."""
        oldest, since = None, float("inf")
        for lane in self._lanes.values():
            if len(lane.batches) > lane.under_way:
                arrival = lane.batches[lane.under_way].arrival
                if arrival < since:
                    oldest, since = lane, arrival
        return oldest

    # -- the way out --------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """Monotonic time at which the next batch is to be sent; None when nothing waits."""
        times = [lane.due(self._send_interval) for lane in self._lanes.values() if not lane.under_way]
        if self.intake:
            times.append(self.intake_since + self._send_interval)
        return min(times, default=None)

    def take(self, *, now: float) -> Batch | None:
        """The batch that is most overdue, or None. Its events are the caller's until it is settled."""
        first: Lane | None = None
        first_due = now
        for lane in self._lanes.values():
            if not lane.under_way and (due := lane.due(self._send_interval)) <= first_due:
                first, first_due = lane, due
        if first is None:
            return None
        first.under_way = True
        batch = first.batches[0]
        batch.sealed = True
        return batch

    def settle(self, batch: Batch, report: DeliveryReport, *, now: float) -> None:
        """Enter into the books what became of a batch that was taken.

        A batch that was abandoned in the meantime changes nothing but the counters of requests.

        Raises:
            AssertionError: the report does not account for each event of the batch exactly once.
        """
        self._counts.update(report.counts)
        lane = self._lanes.get(batch.destination)
        if lane is None or not lane.batches or lane.batches[0] is not batch:
            return
        if report.events != len(batch):
            raise AssertionError(f"{report.events} events reported of a batch of {len(batch)}: {report}")
        lane.batches.popleft()
        lane.batches.extendleft(reversed(report.remaining))
        lane.under_way = False
        lane.not_before = now + report.delay
        left = sum(map(len, report.remaining))
        lane.settled += len(batch) - left
        self._memory += sum(part.memory for part in report.remaining if part is not batch)
        if not any(part is batch for part in report.remaining):
            self._memory -= batch.memory
        self._delivered += report.delivered
        for reason, count in report.dropped.items():
            self._drop(reason, count)
        for reason, events in report.rejected.items():
            self._reject(reason, batch.destination, events)
        # Lanes take turns: the one just served goes to the end of the line of equals.
        self._lanes[batch.destination] = self._lanes.pop(batch.destination)
        self._forget(lane)

    def note_error(self, text: str, *, wall: float) -> None:
        """Remember the last error; ``wall`` is in seconds since the epoch."""
        self._last_error, self._last_error_time = text, wall

    def abandon(self, reason: str) -> dict[Destination, int]:
        """Drop everything that is held, for this reason; returns how many events of which destination."""
        self.drain()
        left = {destination: lane.held() for destination, lane in self._lanes.items()}
        for lane in self._lanes.values():
            lane.settled = lane.accepted
        self._lanes.clear()
        self._memory = 0
        self._dropped[reason] += sum(left.values())
        return left

    def _drop(self, reason: str, count: int = 1) -> None:
        self._dropped[reason] += count
        self._untold_drops[reason] += count

    def _forget(self, lane: Lane) -> None:
        """An empty lane costs nothing."""
        if not lane.batches:
            del self._lanes[lane.destination]

    def _reject(self, reason: str, destination: Destination, events: Sequence[Event]) -> None:
        self._rejected[reason] += len(events)
        self._rejections.append((reason, destination, events))

    # -- what it looks like -------------------------------------------------------------------------------------------

    def rejections(self) -> list[tuple[str, Destination, Sequence[Event]]]:
        """What was rejected since the last call: reasons, destinations, events."""
        rejections, self._rejections = self._rejections, []
        return rejections

    def drops(self) -> Mapping[str, int]:
        """How many events were dropped since the last call, by reason; not what was abandoned."""
        drops, self._untold_drops = self._untold_drops, Counter()
        return drops

    def hasten(self, *, now: float) -> None:
        """End every back-off: there may be no later."""
        for lane in self._lanes.values():
            lane.not_before = min(lane.not_before, now)

    def mark(self) -> Mark:
        """Make all that is accepted urgent, and return the mark by which :meth:`reached` knows that it has settled."""
        self.drain()
        for lane in self._lanes.values():
            lane.urgent = lane.accepted
        return [(lane, lane.accepted) for lane in self._lanes.values()]

    @staticmethod
    def reached(mark: Mark) -> bool:
        """Whether everything that was accepted before the mark has settled."""
        return all(lane.settled >= count for lane, count in mark)

    def pending(self) -> int:
        """Events held, the batch under way included."""
        return len(self.intake) + sum(lane.held() for lane in self._lanes.values())

    def statistics(self) -> Statistics:
        """A snapshot of the ledger."""
        self.drain()
        waiting = len(self.intake)  # read once: another thread may be putting
        return Statistics(
            accepted=self._accepted + waiting,
            delivered=self._delivered,
            rejected=sum(self._rejected.values()),
            dropped=sum(self._dropped.values()),
            pending=waiting + sum(lane.held() for lane in self._lanes.values()),
            rejected_by_reason=MappingProxyType(dict(self._rejected)),
            dropped_by_reason=MappingProxyType(dict(self._dropped)),
            queue_high_water_mark=self._high_water_mark,
            last_error=self._last_error,
            last_error_time=self._last_error_time,
            **self._counts,
        )
