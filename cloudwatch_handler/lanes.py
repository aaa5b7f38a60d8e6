"""Events that wait: a line for each destination, the batches in it, and the memory that they take.

Events are gathered into batches that are legal to send as they come in. A batch that is under way stays at the head of
its lane until it is settled, so that one that failed is back at the head without being moved. Nothing is counted here
that the ledger wants to know: what is held can always be looked at.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace

from .event import Batch, Destination, Event

#: What a lane and its batch cost in memory besides events, and how many lanes are not worth the counting.
LANE_MEMORY = 2_200
FREE_LANES = 100


class Lane:
    """The waiting line of one destination.

    Attributes:
        batches: oldest first; only the last one may be open.
        before: how many events had come in before the first of each batch.
        under_way: True while the first batch is being sent.
        not_before: monotonic time before which nothing may be sent (back-off).
        accepted: how many events ever came in.
        settled: how many of the first of them are accounted for: what came before the first batch that is still here.
        urgent: events up to this count are sent without waiting for company.
    """

    __slots__ = ("accepted", "batches", "before", "destination", "not_before", "settled", "under_way", "urgent")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.batches: deque[Batch] = deque()
        self.before: dict[Batch, int] = {}
        self.under_way = False
        self.not_before = 0.0
        self.accepted = 0
        self.settled = 0
        self.urgent = 0

    def append(self, batch: Batch) -> None:
        """Begin a new batch."""
        self.before[batch] = self.accepted
        self.batches.append(batch)

    def replace(self, batch: Batch, remaining: Sequence[Batch]) -> None:
        """Put what remains of a batch in its place."""
        before = self.before.pop(batch)
        position = self.batches.index(batch)
        del self.batches[position]
        for part in reversed(remaining):
            self.before[part] = before
            self.batches.insert(position, part)
        self.settled = self.before[self.batches[0]] if self.batches else self.accepted

    def waiting(self) -> Batch | None:
        """The first batch that is not under way."""
        return self.batches[self.under_way] if len(self.batches) > self.under_way else None

    def due(self, send_interval: float) -> float | None:
        """Monotonic time at which the next batch should be sent, or None when there is none, or one is under way."""
        if self.under_way or not self.batches:
            return None
        first = self.batches[0]
        if first.sealed or first.full or self.urgent > self.settled:
            return self.not_before
        return max(self.not_before, first.arrival + send_interval)

    def rests(self, now: float) -> bool:
        """Whether the last attempt has failed, and the next is not due."""
        return not self.under_way and self.not_before > now and self.batches[0].attempts > 0

    def held(self) -> int:
        """Events in this lane."""
        return sum(map(len, self.batches))


#: What :meth:`Lanes.mark` returns: lanes, and how many events each must have settled.
Mark = Sequence[tuple[Lane, int]]


class Lanes:
    """All lanes.

    Args:
        send_interval: seconds that the first event of a batch waits for company.
        max_batch_count: events a batch may have.
        max_batch_size: bytes a batch may have, as the service counts them; no event may have more.

    Attributes:
        by_destination: those that hold events, or have to rest. They take turns: the one served last comes last.
        memory: bytes of the events in them.
    """

    def __init__(self, *, send_interval: float, max_batch_count: int, max_batch_size: int) -> None:
        self._send_interval = send_interval
        self._max_batch_count = max_batch_count
        self._max_batch_size = max_batch_size
        self.by_destination: dict[Destination, Lane] = {}
        self.memory = 0

    def overhead(self) -> int:
        """Bytes that the lanes themselves take."""
        return max(0, len(self.by_destination) - FREE_LANES) * LANE_MEMORY

    # -- in -----------------------------------------------------------------------------------------------------------

    def open_lane(self, event: Event, arrival: float) -> Lane:
        """The lane of an event; its last batch takes events, or is new, and takes this one."""
        destination = event.destination
        lane = self.by_destination.get(destination)
        if lane is None:
            lane = self.by_destination[destination] = Lane(destination)
        if not lane.batches or lane.batches[-1].sealed or lane.batches[-1].full:
            # From disk may come what was logged when batches could be larger.
            size = max(self._max_batch_size, event.size)
            lane.append(Batch(destination, arrival=arrival, max_count=self._max_batch_count, max_size=size))
        return lane

    # -- out ----------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """Monotonic time at which the next batch is to be sent; None when nothing waits."""
        interval = self._send_interval
        return min(
            (due for lane in self.by_destination.values() if (due := lane.due(interval)) is not None), default=None
        )

    def take(self, *, now: float) -> Batch | None:
        """The batch that is most overdue, or None. Lanes that are empty and have rested are forgotten."""
        first: Lane | None = None
        first_due = math.inf
        rested = []
        for lane in self.by_destination.values():
            due = lane.due(self._send_interval)
            if due is None:
                if not lane.batches and lane.not_before <= now:
                    rested.append(lane.destination)
            elif due <= now and due < first_due:
                first, first_due = lane, due
        for destination in rested:
            del self.by_destination[destination]
        if first is None:
            return None
        first.under_way = True
        batch = first.batches[0]
        batch.sealed = True
        return batch

    def put_back(self) -> None:
        """What was taken and never settled is to be taken again: an exception has ended that attempt."""
        for lane in self.by_destination.values():
            lane.under_way = False

    def is_under_way(self, batch: Batch) -> bool:
        """Whether this batch was taken, and is still here."""
        lane = self.by_destination.get(batch.destination)
        return lane is not None and bool(lane.batches) and lane.batches[0] is batch

    def settle(self, batch: Batch, remaining: Sequence[Batch], *, not_before: float, rests: bool) -> None:
        """Put what remains of a batch that was taken in its place, and let its lane rest until this monotonic time."""
        lane = self.by_destination[batch.destination]
        self.memory += sum([part.memory for part in remaining]) - batch.memory
        lane.under_way = False
        lane.not_before = not_before
        lane.replace(batch, remaining)
        # Lanes take turns: the one just served goes to the end of the line of equals. An empty one costs nothing,
        # but must be remembered as long as it has to rest.
        del self.by_destination[batch.destination]
        if lane.batches or rests:
            self.by_destination[batch.destination] = lane

    def memory_under_way(self) -> int:
        """Bytes of the batches that were taken."""
        return sum([lane.batches[0].memory for lane in self.by_destination.values() if lane.under_way])

    def oldest(self) -> Iterator[Event]:
        """Every event that waits, by its timestamp; it is taken out when the iteration goes on, not before."""
        heads = [
            (batch.events[0].timestamp, number, lane)
            for number, lane in enumerate(self.by_destination.values())
            if (batch := lane.waiting()) is not None
        ]
        heapify(heads)
        while heads:
            _, number, lane = heads[0]
            batch = lane.waiting()
            assert batch is not None
            event = batch.events[0]
            yield event
            memory = event.memory
            # No call in these lines: no signal handler can raise in between.
            batch.size -= event[2]
            batch.memory -= memory
            self.memory -= memory
            del batch.events[0]
            if not batch:
                lane.replace(batch, ())
                batch = lane.waiting()
            if batch is None:
                heappop(heads)
                if not lane.batches and not lane.not_before:
                    del self.by_destination[lane.destination]
            else:
                heapreplace(heads, (batch.events[0].timestamp, number, lane))

    def clear(self) -> Iterator[tuple[Destination, list[Event]]]:
        """What each lane held, and then nothing."""
        for lane in self.by_destination.values():
            yield lane.destination, [event for batch in lane.batches for event in batch.events]
            lane.settled = lane.accepted
        self.by_destination.clear()
        self.memory = 0

    # -- waiting for it -----------------------------------------------------------------------------------------------

    def hasten(self, *, now: float) -> None:
        """End every back-off: there may be no later."""
        for lane in self.by_destination.values():
            lane.not_before = min(lane.not_before, now)

    def mark(self) -> Mark:
        """Make all events urgent, and return the mark by which :meth:`reached` knows that they have settled."""
        for lane in self.by_destination.values():
            lane.urgent = lane.accepted
        return [(lane, lane.accepted) for lane in self.by_destination.values()]

    @staticmethod
    def reached(mark: Mark) -> bool:
        """Whether everything that came in before the mark has settled."""
        return all(lane.settled >= count for lane, count in mark)

    @staticmethod
    def is_on_disk(mark: Mark) -> bool:
        """Whether everything that came in before the mark has settled, or is on disk."""
        return all(
            lane.settled >= count or all(event.receipt is not None for batch in lane.batches for event in batch.events)
            for lane, count in mark
        )

    def rests(self, *, now: float) -> bool:
        """Whether events are held, and the service has refused each stream's: there is nothing to be tried now."""
        lanes = [lane for lane in self.by_destination.values() if lane.batches]
        return bool(lanes) and all(lane.rests(now) for lane in lanes)

    def held(self) -> int:
        """Events in all lanes, the batches under way included."""
        return sum([lane.held() for lane in self.by_destination.values()])
