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

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from types import MappingProxyType
from typing import Literal, Protocol

from .event import EVENT_MEMORY, Batch, Destination, Event
from .ledger import DeliveryReport, Loss, Statistics

Overflow = Literal["drop_oldest", "drop_newest", "block"]

#: What a lane and its batch cost in memory besides events, and how many lanes are not worth the counting.
LANE_MEMORY = 2_200
FREE_LANES = 100
#: Destinations whose losses are remembered until the stream itself can be told.
MAX_LOSSES = 1_000
#: Events that were refused at the door wait for ``on_rejected`` in no more than this part of ``max_queue_size``.
REFUSED_PART = 8


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


class Disk(Protocol):
    """What the buffer needs of a spool. An event with a receipt can be left there."""

    @property
    def diverting(self) -> bool:
        """Whether events that are on disk must stay there, because older ones do."""

    def leave(self, event: Event) -> bool:
        """Take an event that leaves memory unsettled; False when it is not on disk.

        From then on, ``diverting`` is true until all that waits there has been read.
        """

    def books(self) -> tuple[int, int]:
        """How many events were accepted without passing through memory, and how many are on disk only."""


#: What :meth:`Buffer.mark` returns: lanes, and how many events each must have settled.
Mark = Sequence[tuple[Lane, int]]


class Buffer:
    """All lanes, the bound on their memory, and the ledger.

    Args:
        send_interval: seconds that the first event of a batch waits for company.
        max_batch_count: events a batch may have.
        max_batch_size: bytes a batch may have, as the service counts them; no event may have more.
        max_queue_size: bytes of memory that may be held, the batch under way included.
        overflow: what gives way when that is not enough: the oldest events, or those that come (``"block"`` makes the
            caller wait before it comes here, and then gives way like ``"drop_newest"``).
        disk: where events that have a receipt can stay instead of giving way; None: there is none.
    """

    def __init__(
        self,
        *,
        send_interval: float,
        max_batch_count: int,
        max_batch_size: int,
        max_queue_size: int,
        overflow: Overflow,
        disk: Disk | None = None,
    ) -> None:
        self._send_interval = send_interval
        self._max_batch_count = max_batch_count
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._drops_oldest = overflow == "drop_oldest"
        self._disk = disk
        self._released: list[int] = []
        #: Accepted, and not yet in a lane. Any thread may append, at any point.
        self.intake: list[Event] = []
        #: Monotonic time at which the first of those came; whoever appends to the empty intake sets it.
        self.intake_since = 0.0
        self._lanes: dict[Destination, Lane] = {}
        self._memory = 0  # of the events in lanes; the intake is short
        self._refused_memory = 0
        self._accepted = 0  # into the lanes
        self._delivered = 0
        self._rejected: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._high_water_mark = 0
        #: Text of the last error, or None.
        self.last_error: str | None = None
        self._last_error_time: float | None = None
        self._untold_drops: Counter[str] = Counter()
        self._losses: dict[Destination, Loss] = {}
        self._rejections: list[tuple[str, Destination, Sequence[Event]]] = []

    # -- the way in ---------------------------------------------------------------------------------------------------

    def refuse(self, event: Event, reason: str) -> None:
        """Accept an event only to reject it: the service would, so it is not sent.

        Where too many such wait to be told of, since the thread that tells is in a call that hangs, it is only counted.
        """
        self._accepted += 1
        self._refused_memory += event.memory
        if self._refused_memory <= max(event.memory, self._max_queue_size // REFUSED_PART):
            self._reject(reason, event.destination, [event])
        else:
            self._rejected[reason] += 1

    def drain(self) -> bool:
        """Move what is in the intake into the lanes, within the bound; True when a batch is full."""
        intake = self.intake
        arrived = intake[:]  # what others append meanwhile stays for the next time
        if not arrived:
            return False
        count = len(arrived)
        memory = sum([len(event[3]) for event in arrived]) + count * EVENT_MEMORY
        if self._disk is not None:
            arrived = self._leave_on_disk(self._disk, arrived)
            memory = sum([event.memory for event in arrived])
        if memory > self.room():
            fitting = self._newest_that_fit(arrived) if self._drops_oldest else self._first_that_fit(arrived)
            kept = set(map(id, fitting))
            self._give_way([event for event in arrived if id(event) not in kept])
            arrived = fitting
        full = self._place(arrived)
        self._accepted += count
        del intake[:count]
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
                lane.append(self._new_batch(destination))
            batch = lane.batches[-1]
            memory = batch.memory
            end = batch.extend(events, position)
            self._memory += batch.memory - memory
            lane.accepted += end - position
            position = end
            full = full or batch.full
        return full

    def _leave_on_disk(self, disk: Disk, events: list[Event]) -> list[Event]:
        """From the first event that does not fit on, those on disk stay there only; the others are returned."""
        room = 0 if disk.diverting else self.room()
        for number, event in enumerate(events):
            room -= event.memory
            if room < 0 and event.receipt is not None:
                return [*events[:number], *[event for event in events[number:] if not disk.leave(event)]]
        return events

    def restore(self, events: Sequence[Event], *, new: int) -> bool:
        """Take events that were read back from disk, ``new`` of which this ledger does not know yet; all or none.

        Returns:
            False when the room has gone that there was.
        """
        if self._memory and sum([event.memory for event in events]) > self.room():
            return False
        self._place(events)
        self._accepted += new
        self._high_water_mark = max(self._high_water_mark, self._memory)
        return True

    def _new_batch(self, destination: Destination) -> Batch:
        return Batch(
            destination, arrival=self.intake_since, max_count=self._max_batch_count, max_size=self._max_batch_size
        )

    def room(self) -> int:
        """Bytes of memory that are free."""
        return self._limit() - self._memory

    def _limit(self) -> int:
        """Bytes of memory that events may take up, so many lanes being there."""
        return self._max_queue_size - max(0, len(self._lanes) - FREE_LANES) * LANE_MEMORY

    def room_to_restore(self, least: int) -> int:
        """Bytes for which events may be read back from disk now; 0 until enough is free to make it worth the while.

        Args:
            least: bytes that are needed.
        """
        room = self.room()
        return max(room // 2, least) if not self._memory or room >= max(self._max_queue_size // 4, least) else 0

    def can_hold(self, event: Event) -> bool:
        """Whether there is room for the event when nothing else is held."""
        return event.memory <= self._limit()

    def _first_that_fit(self, events: Sequence[Event]) -> list[Event]:
        """Those of the events for which there is room, the earlier before the later."""
        fitting = []
        room = self.room()
        for event in events:
            if (memory := event.memory) <= room:
                room -= memory
                fitting.append(event)
        return fitting

    def _newest_that_fit(self, events: Sequence[Event]) -> list[Event]:
        """Those of the events that there is room for once older ones have given way, which they do.

        What is under way does not give way. For an event that does not fit even so, no other is dropped.
        """
        lanes = self._lanes.values()
        most = room = self._limit() - sum([lane.batches[0].memory for lane in lanes if lane.under_way])
        fitting: list[Event] = []
        for event in reversed(events):
            if (memory := event.memory) > most:
                continue
            if memory > room:
                room = 0  # all that is older goes, too
                break
            room -= memory
            fitting.append(event)
        self._drop_oldest(most - room)
        return fitting[::-1]

    def _drop_oldest(self, needed: int) -> None:
        """Drop the events with the earliest timestamps, of all that wait, until so many bytes are free."""
        heads = [
            (batch.events[0].timestamp, number, lane)
            for number, lane in enumerate(self._lanes.values())
            if (batch := lane.waiting()) is not None
        ]
        heapify(heads)
        while heads and needed > self.room():
            _, number, lane = heads[0]
            batch = lane.waiting()
            assert batch is not None
            event = batch.drop_first()
            self._memory -= event.memory
            self._give_way([event])
            if not batch:
                lane.replace(batch, ())
                batch = lane.waiting()
            if batch is None:
                heappop(heads)
                if not lane.batches and not lane.not_before:
                    del self._lanes[lane.destination]
            else:
                heapreplace(heads, (batch.events[0].timestamp, number, lane))

    # -- the way out --------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """Monotonic time at which the next batch is to be sent; None when nothing waits."""
        times = [due for lane in self._lanes.values() if (due := lane.due(self._send_interval)) is not None]
        if self.intake:
            times.append(self.intake_since + self._send_interval)
        return min(times, default=None)

    def take(self, *, now: float) -> Batch | None:
        """The batch that is most overdue, or None. Its events are the caller's until it is settled."""
        first: Lane | None = None
        first_due = math.inf
        rested = []
        for lane in self._lanes.values():
            due = lane.due(self._send_interval)
            if due is None:
                if not lane.batches and lane.not_before <= now:
                    rested.append(lane.destination)
            elif due <= now and due < first_due:
                first, first_due = lane, due
        for destination in rested:
            del self._lanes[destination]
        if first is None:
            return None
        first.under_way = True
        batch = first.batches[0]
        batch.sealed = True
        return batch

    def put_back(self) -> None:
        """What was taken and never settled is to be taken again: an exception has ended that attempt."""
        for lane in self._lanes.values():
            lane.under_way = False

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
        self._memory += sum([part.memory for part in report.remaining]) - batch.memory
        lane.under_way = False
        lane.not_before = now + report.delay
        lane.replace(batch, report.remaining)
        if self._disk is not None and report.remaining != (batch,):
            remaining = {event.receipt for part in report.remaining for event in part.events}
            receipts = [event.receipt for event in batch.events]
            self._released.extend([it for it in receipts if it is not None and it not in remaining])
        self._delivered += report.delivered
        for reason, given_up in report.dropped.items():
            self._drop(reason, given_up)
        for reason, events in report.rejected.items():
            self._reject(reason, batch.destination, events)
        # Lanes take turns: the one just served goes to the end of the line of equals. An empty one costs nothing,
        # but must be remembered as long as it has to rest.
        del self._lanes[batch.destination]
        if lane.batches or report.delay:
            self._lanes[batch.destination] = lane

    def note_error(self, text: str, *, wall: float) -> None:
        """Remember the last error; ``wall`` is in seconds since the epoch."""
        self.last_error, self._last_error_time = text, wall

    def abandon(self, reason: str) -> dict[Destination, int]:
        """Leave everything that is held on disk, or drop it for this reason; returns how many of which were dropped."""
        self.drain()
        left: dict[Destination, int] = {}
        for lane in self._lanes.values():
            held = [event for batch in lane.batches for event in batch.events]
            lost = held if self._disk is None else [event for event in held if not self._disk.leave(event)]
            if lost:
                left[lane.destination] = len(lost)
                self._dropped[reason] += len(lost)
                self._lose(reason, lost)
            lane.settled = lane.accepted
        self._lanes.clear()
        self._memory = 0
        return left

    def released(self) -> list[int]:
        """What need not be on disk any more, since the last call."""
        released, self._released = self._released, []
        return released

    def _give_way(self, events: Sequence[Event]) -> None:
        """There is no room in memory for these: those that are on disk stay there, the others are lost."""
        self._drop("overflow", [event for event in events if self._disk is None or not self._disk.leave(event)])

    def _drop(self, reason: str, events: Sequence[Event]) -> None:
        if events:
            self._dropped[reason] += len(events)
            self._untold_drops[reason] += len(events)
            self._lose(reason, events)

    def _lose(self, reason: str, events: Sequence[Event]) -> None:
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

    def _reject(self, reason: str, destination: Destination, events: Sequence[Event]) -> None:
        self._rejected[reason] += len(events)
        self._rejections.append((reason, destination, events))

    # -- what it looks like -------------------------------------------------------------------------------------------

    def has_rejections(self) -> bool:
        """Whether :meth:`rejections` would return any."""
        return bool(self._rejections)

    def rejections(self) -> list[tuple[str, Destination, Sequence[Event]]]:
        """What was rejected since the last call: reasons, destinations, events."""
        rejections, self._rejections = self._rejections, []
        self._refused_memory = 0
        return rejections

    def losses(self) -> dict[Destination, Loss]:
        """What was dropped since the last call, to be told in the stream itself."""
        losses, self._losses = self._losses, {}
        return losses

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

    @staticmethod
    def is_on_disk(mark: Mark) -> bool:
        """Whether everything that was accepted before the mark has settled, or is on disk."""
        return all(
            lane.settled >= count or all(event.receipt is not None for batch in lane.batches for event in batch.events)
            for lane, count in mark
        )

    def rests(self, *, now: float) -> bool:
        """Whether events are held, and the service has refused each stream's: there is nothing to be tried now."""
        lanes = [lane for lane in self._lanes.values() if lane.batches]
        return bool(lanes) and all(lane.rests(now) for lane in lanes)

    def pending(self) -> int:
        """Events held, the batch under way included."""
        return len(self.intake) + sum(lane.held() for lane in self._lanes.values())

    def statistics(self) -> Statistics:
        """A snapshot of the ledger."""
        self.drain()
        waiting = len(self.intake)  # read once: another thread may be putting
        past_memory, spooled = (0, 0) if self._disk is None else self._disk.books()
        return Statistics(
            accepted=self._accepted + waiting + past_memory,
            delivered=self._delivered,
            rejected=sum(self._rejected.values()),
            dropped=sum(self._dropped.values()),
            spooled=spooled,
            pending=waiting + sum(lane.held() for lane in self._lanes.values()),
            rejected_by_reason=MappingProxyType(dict(self._rejected)),
            dropped_by_reason=MappingProxyType(dict(self._dropped)),
            queue_high_water_mark=self._high_water_mark,
            last_error=self.last_error,
            last_error_time=self._last_error_time,
            **self._counts,
        )
