"""Who owns an event between acceptance and settlement, and the books about it.

The way in is a queue of its own, the *intake*: appending to a list is atomic, so that a log call needs no lock, may
come from a signal handler or a destructor, and cannot be held up. :meth:`Buffer.drain` moves events from the intake
into the *lanes*, one for each destination, where they wait as batches. An event is in one of the two until a report
settles it, and nothing that an exception can interrupt ever holds the only reference to it. Everything but that append
is called by one thread at a time (the worker holds a lock around it); nothing here reads a clock.

*pending* is computed from what is held, never counted; it is what makes the identity of the ledger worth checking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from .books import Books
from .event import EVENT_MEMORY, Batch, Destination, Event
from .lanes import Lanes, Mark
from .ledger import DeliveryReport, Statistics

Overflow = Literal["drop_oldest", "drop_newest", "block"]

#: Events that were refused at the door wait for ``on_rejected`` in no more than this part of ``max_queue_size``.
REFUSED_PART = 8


class Disk(Protocol):
    """What the buffer needs of a spool. An event with a receipt can be left there."""

    @property
    def diverting(self) -> bool:
        """Whether events that are on disk must stay there, because older ones do."""

    def leave(self, event: Event) -> bool:
        """Take an event that leaves memory unsettled; False when it is not on disk.

        From then on, ``diverting`` is true until all that waits there has been read.
        """

    def reclaim(self, event: Event) -> bool:
        """Whether an event that was left was to come back; it is not any more, being settled all the same."""

    def books(self) -> tuple[int, int]:
        """How many events were accepted without passing through memory, and how many are on disk only."""


class Buffer:
    """The intake, the lanes, the bound on their memory, and the ledger.

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
        self._max_queue_size = max_queue_size
        self._drops_oldest = overflow == "drop_oldest"
        self._disk = disk
        self._released: list[int] = []
        #: Accepted, and not yet in a lane. Any thread may append, at any point.
        self.intake: list[Event] = []
        #: Monotonic time at which the first of those came; whoever appends to the empty intake sets it.
        self.intake_since = 0.0
        #: What waits, and what has become of the rest.
        self.lanes = Lanes(send_interval=send_interval, max_batch_count=max_batch_count, max_batch_size=max_batch_size)
        self.books = Books()
        self._refused_memory = 0

    # -- the way in ---------------------------------------------------------------------------------------------------

    def refuse(self, event: Event, reason: str) -> None:
        """Accept an event only to reject it: the service would, so it is not sent.

        Where too many such wait to be told of, since the thread that tells is in a call that hangs, it is only counted.
        """
        self.books.accepted += 1
        self._refused_memory += event.memory
        tell = self._refused_memory <= max(event.memory, self._max_queue_size // REFUSED_PART)
        self.books.reject(reason, event.destination, [event], tell=tell)

    def drain(self) -> bool:
        """Move what is in the intake into the lanes, within the bound; True when a batch is full."""
        arrived = self.intake[:]  # what others append meanwhile stays for the next time
        if not arrived:
            return False
        memory = sum([len(event[3]) for event in arrived]) + len(arrived) * EVENT_MEMORY
        if memory > self.room() or (self._disk is not None and self._disk.diverting):
            arrived = self._turn_away(arrived)
        full = self._place(arrived, from_intake=True)
        self.books.high_water_mark = max(self.books.high_water_mark, self.lanes.memory)
        return full

    def _place(self, events: Sequence[Event], *, from_intake: bool, new: bool = True) -> bool:
        """Put events, which there is room for, at the end of their lanes; True when a batch is full.

        Args:
            events: the first ones in the intake, or others.
            from_intake: which of the two.
            new: whether the ledger does not know them yet.
        """
        lanes, books, intake = self.lanes, self.books, self.intake
        full = False
        position = 0
        while position < len(events):
            lane = lanes.open_lane(events[position], self.intake_since)
            batch = lane.batches[-1]
            memory = batch.memory
            batch.taken = 0
            try:
                batch.extend(events, position)
            finally:
                # Also when a signal handler raises in there: an event enters its lane and the books, and leaves the
                # intake, all or nothing. No call and no jump in these lines: Python looks for signals nowhere else.
                taken = batch.taken
                lanes.memory += batch.memory - memory
                lane.accepted += taken
                books.accepted += taken * new
                del intake[: taken * from_intake]
            position += taken
            full = full or batch.full
        return full

    def _turn_away(self, arrived: list[Event]) -> list[Event]:
        """Take those for which there is no room out of the intake, which begins with these; returns the others."""
        kept = arrived if self._disk is None else self._leave_on_disk(self._disk, arrived)
        if sum([event.memory for event in kept]) > self.room():
            fitting = self._newest_that_fit(kept) if self._drops_oldest else self._first_that_fit(kept)
            ids = set(map(id, fitting))
            self._give_way([event for event in kept if id(event) not in ids])
            kept = fitting
        self.books.accepted += len(arrived) - len(kept)
        self.intake[: len(arrived)] = kept
        return kept

    def _leave_on_disk(self, disk: Disk, events: list[Event]) -> list[Event]:
        """From the first event that does not fit on, those on disk stay there only; the others are returned."""
        room = 0 if disk.diverting else self.room()
        for number, event in enumerate(events):
            room -= event.memory
            if room < 0 and event.receipt is not None:
                return [*events[:number], *[event for event in events[number:] if not disk.leave(event)]]
        return events

    def restore(self, events: Sequence[Event], *, new: bool) -> bool:
        """Take events that were read back from disk; ``new`` when this ledger does not know them yet. All or none.

        Returns:
            False when the room has gone that there was.
        """
        if self.lanes.memory and sum([event.memory for event in events]) > self.room():
            return False
        self._place(events, from_intake=False, new=new)
        self.books.high_water_mark = max(self.books.high_water_mark, self.lanes.memory)
        return True

    # -- the bound ----------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """Bytes of memory that are free."""
        return self._limit() - self.lanes.memory

    def _limit(self) -> int:
        """Bytes of memory that events may take up, so many lanes being there."""
        return self._max_queue_size - self.lanes.overhead()

    def can_hold(self, event: Event) -> bool:
        """Whether there is room for the event when nothing else is held."""
        return event.memory <= self._limit()

    def room_to_restore(self, least: int) -> int:
        """Bytes for which events may be read back from disk now; 0 until enough is free to make it worth the while.

        Args:
            least: bytes that are needed.
        """
        room = self.room()
        is_worth_it = not self.lanes.memory or room >= max(self._max_queue_size // 4, least)
        return max(room // 2, least) if is_worth_it else 0

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
        most = room = self._limit() - self.lanes.memory_under_way()
        fitting: list[Event] = []
        for event in reversed(events):
            if (memory := event.memory) > most:
                continue
            if memory > room:
                room = 0  # all that is older goes, too
                break
            room -= memory
            fitting.append(event)
        needed = most - room
        for event in self.lanes.oldest():
            if needed <= self.room():
                break
            self._give_way([event])
        return fitting[::-1]

    def _give_way(self, events: Sequence[Event]) -> None:
        """There is no room in memory for these: those that are on disk stay there, the others are lost."""
        lost = events if self._disk is None else [event for event in events if not self._disk.leave(event)]
        if lost:
            self.books.drop("overflow", lost)

    # -- the way out --------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """Monotonic time at which the next batch is to be sent; None when nothing waits."""
        due = self.lanes.due()
        if not self.intake:
            return due
        came = self.intake_since + self._send_interval
        return came if due is None else min(due, came)

    def take(self, *, now: float) -> Batch | None:
        """The batch that is most overdue, or None. Its events are the caller's until it is settled."""
        return self.lanes.take(now=now)

    def settle(self, batch: Batch, report: DeliveryReport, *, now: float) -> None:
        """Enter into the books what became of a batch that was taken.

        A batch that was abandoned in the meantime changes nothing but the counters of requests, unless it was left on
        disk, and delivered: then it need not be sent again.

        Raises:
            AssertionError: the report does not account for each event of the batch exactly once.
        """
        self.books.counts.update(report.counts)
        if not self.lanes.is_under_way(batch):
            if self._disk is not None and report.delivered == len(batch):
                reclaimed = [event.receipt for event in batch.events if self._disk.reclaim(event)]
                self.books.delivered += len(reclaimed)
                self._released.extend([receipt for receipt in reclaimed if receipt is not None])
            return
        if report.events != len(batch):
            raise AssertionError(f"{report.events} events reported of a batch of {len(batch)}: {report}")
        self.lanes.settle(batch, report.remaining, not_before=now + report.delay, rests=bool(report.delay))
        if self._disk is not None and report.remaining != (batch,):
            remaining = {event.receipt for part in report.remaining for event in part.events}
            receipts = [event.receipt for event in batch.events]
            self._released.extend([it for it in receipts if it is not None and it not in remaining])
        self.books.delivered += report.delivered
        for reason, given_up in report.dropped.items():
            self.books.drop(reason, given_up)
        for reason, events in report.rejected.items():
            self.books.reject(reason, batch.destination, events)

    def released(self) -> list[int]:
        """What need not be on disk any more, since the last call."""
        released, self._released = self._released, []
        return released

    def abandon(self, reason: str) -> dict[Destination, int]:
        """Leave everything that is held on disk, or drop it for this reason; returns how many of which were dropped."""
        self.drain()
        left: dict[Destination, int] = {}
        for destination, held in self.lanes.clear():
            lost = held if self._disk is None else [event for event in held if not self._disk.leave(event)]
            if lost:
                left[destination] = len(lost)
                self.books.drop(reason, lost, tell=False)  # whoever closes says it on stderr
        return left

    # -- what it looks like -------------------------------------------------------------------------------------------

    def rejections(self) -> list[tuple[str, Destination, Sequence[Event]]]:
        """What was rejected since the last call: reasons, destinations, events."""
        self._refused_memory = 0
        return self.books.rejections()

    def mark(self) -> Mark:
        """Make all that is accepted urgent, and return the mark by which it is known that it has settled."""
        self.drain()
        return self.lanes.mark()

    def pending(self) -> int:
        """Events held, the batch under way included."""
        return len(self.intake) + self.lanes.held()

    def statistics(self) -> Statistics:
        """A snapshot of the ledger."""
        self.drain()
        past_memory, spooled = (0, 0) if self._disk is None else self._disk.books()
        # The intake's length is read once: another thread may be putting.
        return self.books.statistics(
            waiting=len(self.intake), held=self.lanes.held(), spooled=spooled, past_memory=past_memory
        )
