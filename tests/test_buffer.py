"""The buffer: who owns an event from acceptance to settlement, and that the books about it are right."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudwatch_handler.buffer import Buffer
from cloudwatch_handler.errors import Unavailable
from cloudwatch_handler.event import EVENT_MEMORY, EVENT_OVERHEAD, MAX_BATCH_SPAN_MS, Batch, Destination, Event, encode
from cloudwatch_handler.lanes import Mark
from cloudwatch_handler.ledger import DeliveryReport, Statistics

HERE = Destination("group", "here")
THERE = Destination("group", "there")
NOW = 1000.0
INTERVAL = 2.0
HOUR_MS = 3_600_000
T0 = 1_800_000_000_000


def make(**arguments: Any) -> Buffer:
    """A buffer with room for everything, unless told otherwise."""
    defaults = {"send_interval": INTERVAL, "max_batch_count": 100, "max_batch_size": 10_000}
    return Buffer(**defaults | {"max_queue_size": 1_000_000, "overflow": "drop_oldest"} | arguments)


def event(text: object, destination: Destination = HERE, timestamp: int = T0) -> Event:
    """The event of a text."""
    return encode(destination, timestamp, str(text))


def put(buffer: Buffer, *events: Event, now: float = NOW) -> None:
    """What a log call does."""
    for one in events:
        if not buffer.intake:
            buffer.intake_since = now
        buffer.intake.append(one)


def fill(buffer: Buffer, *events: Event, now: float = NOW) -> bool:
    """Puts events and moves them into their lanes."""
    put(buffer, *events, now=now)
    return buffer.drain()


def texts(batch: Batch | None) -> list[str] | None:
    """The messages of a batch."""
    return None if batch is None else [one.message for one in batch.events]


def held(buffer: Buffer) -> list[str]:
    """Every message that the buffer holds, lane by lane."""
    batches = [batch for lane in buffer.lanes.by_destination.values() for batch in lane.batches]
    return [one.message for batch in batches for one in batch.events] + [one.message for one in buffer.intake]


def taken(buffer: Buffer, *, now: float) -> Batch:
    """The batch that is due, which there is."""
    batch = buffer.take(now=now)
    assert batch is not None
    batch.seal()
    return batch


def deliver(buffer: Buffer, batch: Batch, *, now: float = NOW) -> None:
    """Settles a batch as delivered."""
    buffer.settle(batch, DeliveryReport(delivered=len(batch)), now=now)


def check_identity(statistics: Statistics) -> None:
    """The identity of the ledger, and its sums by reason."""
    out = statistics.delivered + statistics.rejected + statistics.dropped + statistics.spooled
    assert statistics.accepted == out + statistics.pending
    assert sum(statistics.rejected_by_reason.values()) == statistics.rejected
    assert sum(statistics.dropped_by_reason.values()) == statistics.dropped


# -- the way in


def test_an_event_in_the_intake_is_accepted_and_pending() -> None:
    """A snapshot counts what no one has moved into a lane yet."""
    buffer = make()
    put(buffer, event("a"), event("b", THERE))
    assert buffer.pending() == 2
    statistics = buffer.statistics()
    assert (statistics.accepted, statistics.pending) == (2, 2)


def test_draining_an_empty_intake_does_nothing() -> None:
    """There is no batch, no due time and nothing in the books."""
    buffer = make()
    assert buffer.drain() is False
    assert buffer.due() is None
    assert buffer.take(now=NOW) is None
    assert buffer.statistics() == Statistics()


def test_drain_says_that_a_batch_is_full() -> None:
    """The worker is woken by the event that fills a batch, not by those before it."""
    buffer = make(max_batch_count=3)
    assert fill(buffer, event(1), event(2)) is False
    assert fill(buffer, event(3)) is True


@pytest.mark.parametrize(
    ("limits", "sizes", "cut"),
    [
        ({"max_batch_count": 2}, [1, 1, 1, 1, 1], [2, 2, 1]),
        ({"max_batch_count": 1}, [1, 1], [1, 1]),
        ({"max_batch_size": 3 * (EVENT_OVERHEAD + 10)}, [10, 10, 10, 10], [3, 1]),
        ({"max_batch_size": 3 * (EVENT_OVERHEAD + 10)}, [10, 10, 11], [2, 1]),
        ({"max_batch_size": 3 * (EVENT_OVERHEAD + 10)}, [10, 10, 9, 1], [3, 1]),
        ({"max_batch_size": EVENT_OVERHEAD + 50}, [50, 50], [1, 1]),
    ],
)
def test_batches_are_cut_at_their_limits(limits: dict[str, int], sizes: list[int], cut: list[int]) -> None:
    """No event more, and no byte more, than a batch may have; and none less."""
    buffer = make(**limits)
    fill(buffer, *(event("x" * size) for size in sizes))
    assert [len(batch) for batch in drain_batches(buffer)] == cut


@pytest.mark.parametrize(
    ("timestamps", "cut"),
    [
        ([0, MAX_BATCH_SPAN_MS], [2]),
        ([0, MAX_BATCH_SPAN_MS + 1], [1, 1]),
        ([MAX_BATCH_SPAN_MS, 0], [2]),
        ([MAX_BATCH_SPAN_MS + 1, 0], [1, 1]),
        ([HOUR_MS, MAX_BATCH_SPAN_MS, 0, MAX_BATCH_SPAN_MS + 1], [3, 1]),
    ],
)
def test_batches_are_cut_at_24_hours(timestamps: list[int], cut: list[int]) -> None:
    """Exactly 24 h are legal, a millisecond more is not, in whatever order the events come."""
    buffer = make()
    fill(buffer, *(event(at, timestamp=T0 + at) for at in timestamps))
    assert [len(batch) for batch in drain_batches(buffer)] == cut


def drain_batches(buffer: Buffer) -> list[Batch]:
    """Delivers everything; returns the batches in the order in which they were taken."""
    buffer.mark()
    batches = []
    while (batch := buffer.take(now=NOW)) is not None:
        batches.append(batch)
        deliver(buffer, batch)
    return batches


class Busy(list[Event]):
    """An intake into which another thread puts an event, whenever this one has looked into it."""

    def __init__(self, later: list[Event]) -> None:
        super().__init__()
        self.later = later

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self.extend(self.later[:1])
        del self.later[:1]
        return found


def test_what_comes_during_a_drain_stays_for_the_next() -> None:
    """No lock keeps another thread from logging; its event is neither lost nor taken twice; snapshots add up."""
    buffer = make()
    buffer.intake = Busy([event(2), event(3)])
    put(buffer, event(1))
    buffer.drain()
    assert held(buffer) == ["1", "2"]
    statistics = buffer.statistics()
    assert held(buffer) == ["1", "2", "3"]
    check_identity(statistics)
    assert statistics.accepted == 3
    buffer.drain()
    assert texts(taken(buffer, now=NOW + INTERVAL)) == ["1", "2", "3"]
    assert buffer.intake == []


def test_events_find_the_lane_of_their_destination() -> None:
    """Interleaved streams come out apart, each in its order."""
    buffer = make()
    fill(buffer, event(1), event(2, THERE), event(3), event(4, THERE), event(5))
    assert [texts(batch) for batch in drain_batches(buffer)] == [["1", "3", "5"], ["2", "4"]]


def test_a_batch_comes_out_in_order_of_time() -> None:
    """The service wants it so; events of the same millisecond keep the order in which they were logged."""
    buffer = make()
    fill(buffer, event("late", timestamp=T0 + 1), event("first"), event("second"), event("early", timestamp=T0 - 1))
    assert texts(taken(buffer, now=NOW + INTERVAL)) == ["early", "first", "second", "late"]


def test_a_batch_that_was_taken_never_grows() -> None:
    """What comes while it is under way, or after it failed, goes into another: it may have to be repeated as it was."""
    buffer = make()
    fill(buffer, event("a"))
    batch = taken(buffer, now=NOW + INTERVAL)
    fill(buffer, event("b"))
    buffer.settle(batch, DeliveryReport(remaining=(batch,)), now=NOW)
    fill(buffer, event("c"))
    again = taken(buffer, now=NOW)
    assert again is batch
    assert texts(again) == ["a"]
    deliver(buffer, again)
    assert texts(taken(buffer, now=NOW + INTERVAL)) == ["b", "c"]


# -- due times


def test_the_first_event_waits_for_the_send_interval_and_no_longer() -> None:
    """The interval counts from the first event of the batch, not from the last."""
    buffer = make()
    fill(buffer, event(1), now=NOW)
    fill(buffer, event(2), now=NOW + 1.5)
    assert buffer.due() == NOW + INTERVAL
    assert buffer.take(now=NOW + INTERVAL - 0.001) is None
    assert texts(buffer.take(now=NOW + INTERVAL)) == ["1", "2"]


def test_an_event_that_was_not_drained_yet_is_due_too() -> None:
    """The worker must wake up for what is in the intake."""
    buffer = make()
    put(buffer, event(1))
    assert buffer.due() == NOW + INTERVAL


@pytest.mark.parametrize("make_ready", ["full", "followed", "marked"])
def test_what_need_not_wait_is_due_at_once(make_ready: str) -> None:
    """A full batch, one with another behind it, and one that somebody flushes."""
    buffer = make(max_batch_count=2)
    fill(buffer, event(1))
    if make_ready == "full":
        fill(buffer, event(2))
    elif make_ready == "followed":
        fill(buffer, event(2, timestamp=T0 + 25 * HOUR_MS))
    else:
        buffer.mark()
    due = buffer.due()
    assert due is not None
    assert due <= NOW
    assert buffer.take(now=NOW) is not None


def test_a_mark_does_not_hasten_what_comes_later() -> None:
    """Only the events that were there are urgent; the next batch waits for company again."""
    buffer = make()
    fill(buffer, event(1))
    buffer.mark()
    deliver(buffer, taken(buffer, now=NOW))
    fill(buffer, event(2))
    assert buffer.take(now=NOW) is None
    assert buffer.due() == NOW + INTERVAL


def test_back_off_holds_for_the_lane_and_for_no_other() -> None:
    """A failed lane rests as long as the report says, full or flushed, while the others go on."""
    buffer = make(max_batch_count=1)
    fill(buffer, event(1), event(2))
    batch = taken(buffer, now=NOW)
    buffer.settle(batch, DeliveryReport(remaining=(batch,), delay=5.0), now=NOW)
    fill(buffer, event(3, THERE))
    buffer.mark()
    assert texts(buffer.take(now=NOW)) == ["3"]
    assert buffer.take(now=NOW + 4.999) is None
    assert buffer.due() == NOW + 5.0
    assert buffer.take(now=NOW + 5.0) is batch


def test_hasten_ends_every_back_off() -> None:
    """A process that ends has no later; a lane that has no back-off is not held up by it."""
    buffer = make(max_batch_count=1)
    fill(buffer, event(1), event(2, THERE))
    batch = taken(buffer, now=NOW)
    buffer.settle(batch, DeliveryReport(remaining=(batch,), delay=60.0), now=NOW)
    buffer.lanes.hasten(now=NOW + 1)
    assert {str(texts(buffer.take(now=NOW + 1))), str(texts(buffer.take(now=NOW + 1)))} == {"['1']", "['2']"}


def test_a_lane_that_gave_everything_up_still_rests() -> None:
    """Otherwise a new event would knock at a dead service at once; afterwards the lane is forgotten."""
    buffer = make(max_batch_count=1)
    fill(buffer, event(1))
    batch = taken(buffer, now=NOW)
    buffer.settle(batch, DeliveryReport(dropped={"retries_exhausted": tuple(batch.events)}, delay=5.0), now=NOW)
    assert buffer.due() is None
    assert buffer.take(now=NOW + 1) is None
    fill(buffer, event(2))
    assert buffer.due() == NOW + 5.0
    assert buffer.take(now=NOW + 4.999) is None
    deliver(buffer, taken(buffer, now=NOW + 5.0))
    assert buffer.lanes.by_destination == {}


def test_an_empty_lane_is_forgotten_once_it_has_rested() -> None:
    """Neither before nor later than the next look."""
    buffer = make(max_batch_count=1)
    fill(buffer, event(1))
    batch = taken(buffer, now=NOW)
    buffer.settle(batch, DeliveryReport(dropped={"retries_exhausted": tuple(batch.events)}, delay=5.0), now=NOW)
    buffer.take(now=NOW + 4.999)
    assert list(buffer.lanes.by_destination) == [HERE]
    buffer.take(now=NOW + 5.0)
    assert buffer.lanes.by_destination == {}


def test_a_lane_that_overflow_emptied_still_rests() -> None:
    """An outage plus a queue of one event is no reason for a request with every event."""
    one = event("x" * 100)
    buffer = make(max_queue_size=one.memory, send_interval=0.0)
    fill(buffer, one)
    batch = taken(buffer, now=NOW)
    buffer.settle(batch, DeliveryReport(remaining=(batch,), delay=5.0), now=NOW)
    fill(buffer, event("y" * 100))
    assert buffer.statistics().dropped == 1
    assert buffer.take(now=NOW + 4.999) is None
    assert texts(buffer.take(now=NOW + 5.0)) == ["y" * 100]


# -- fairness, and many lanes


def test_lanes_take_turns_even_when_time_stands_still() -> None:
    """A lane that always has a full batch does not starve the others, whatever the clock's resolution."""
    buffer = make(max_batch_count=1)
    lanes = [Destination("group", name) for name in "abc"]
    fill(buffer, *(event(number, lane) for number in range(4) for lane in lanes))
    order = [batch.destination.log_stream_name for batch in drain_batches(buffer)]
    assert order == list("abc" * 4)


def test_the_most_overdue_lane_goes_first() -> None:
    """Whoever has waited longest is served, not whoever stands first in the books."""
    buffer = make()
    fill(buffer, event(1), now=NOW + 1)
    fill(buffer, event(2, THERE), now=NOW)
    assert texts(buffer.take(now=NOW + 10)) == ["2"]


def test_two_batches_of_a_lane_are_never_under_way_together() -> None:
    """The second could overtake the first."""
    buffer = make(max_batch_count=1)
    fill(buffer, event(1), event(2))
    batch = taken(buffer, now=NOW)
    assert buffer.take(now=NOW + 100) is None
    deliver(buffer, batch)
    assert texts(buffer.take(now=NOW + 100)) == ["2"]


def test_idle_lanes_are_forgotten() -> None:
    """500 streams leave nothing behind once their events are delivered."""
    buffer = make()
    fill(buffer, *(event(number, Destination("group", f"stream-{number}")) for number in range(500)))
    assert len(buffer.lanes.by_destination) == 500
    assert len(drain_batches(buffer)) == 500
    assert buffer.lanes.by_destination == {}
    assert buffer.lanes.memory == 0
    assert buffer.due() is None


# -- settlement


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_settled_batch_frees_its_memory(policy: str) -> None:
    """Delivered, rejected, dropped and cut events are all let go of, and what remains still counts."""
    buffer = make(overflow=policy)
    events = [event(number) for number in range(6)]
    fill(buffer, *events)
    batch = taken(buffer, now=NOW + INTERVAL)
    left = batch.part(events[4:])
    report = DeliveryReport(1, {"invalid": events[1:3]}, {"retries_exhausted": events[3:4]}, remaining=(left,))
    buffer.settle(batch, report, now=NOW)
    assert buffer.lanes.memory == events[4].memory + events[5].memory
    statistics = buffer.statistics()
    assert (statistics.delivered, statistics.rejected, statistics.dropped, statistics.pending) == (1, 2, 1, 2)
    check_identity(statistics)


@pytest.mark.parametrize(("delivered", "dropped"), [(1, 0), (0, 0), (2, 1), (0, 3)])
def test_a_report_that_does_not_add_up_is_refused(delivered: int, dropped: int) -> None:
    """It must account for each event once; nothing changes in the books, and the batch can be settled again."""
    buffer = make()
    fill(buffer, event(1), event(2))
    batch = taken(buffer, now=NOW + INTERVAL)
    with pytest.raises(AssertionError, match="events reported of a batch of 2"):
        buffer.settle(batch, DeliveryReport(delivered, dropped={"closed": [event(9)] * dropped}), now=NOW)
    check_identity(buffer.statistics())
    deliver(buffer, batch)
    assert buffer.statistics().delivered == 2


def test_halves_keep_their_place_at_the_head() -> None:
    """A poisoned batch is cut, and both parts go before everything that came later."""
    buffer = make()
    fill(buffer, *(event(number) for number in range(4)))
    batch = taken(buffer, now=NOW + INTERVAL)
    fill(buffer, event("later"))
    events = list(batch.events)
    parts = (batch.part(events[:2]), batch.part(events[2:]))
    buffer.settle(batch, DeliveryReport(remaining=parts), now=NOW)
    assert [texts(one) for one in drain_batches(buffer)] == [["0", "1"], ["2", "3"], ["later"]]


def test_counters_of_the_report_are_added_up() -> None:
    """Whatever a report counts is a field of the statistics, and every attempt adds to it."""
    names = ("put_requests", "describe_requests", "retries", "throttled_requests", "writer_race_retries")
    names += ("unrecovered_writer_race_retries", "already_accepted", "batches", "bytes_raw", "bytes_sent")
    assert set(names) < {field.name for field in fields(Statistics)}
    buffer = make()
    fill(buffer, event(1))
    batch = taken(buffer, now=NOW + INTERVAL)
    buffer.settle(batch, DeliveryReport(remaining=(batch,), counts=dict.fromkeys(names, 1)), now=NOW)
    buffer.settle(taken(buffer, now=NOW), DeliveryReport(1, counts=dict.fromkeys(names, 2)), now=NOW)
    statistics = buffer.statistics()
    assert {name: getattr(statistics, name) for name in names} == dict.fromkeys(names, 3)


def test_the_last_error_is_remembered_with_its_time() -> None:
    """Also after the next success."""
    buffer = make()
    buffer.books.note_error(str(Unavailable("PutLogEvents", "503")), wall=17.5)
    statistics = buffer.statistics()
    assert (statistics.last_error, statistics.last_error_time) == ("PutLogEvents did not get through (503)", 17.5)


def test_a_snapshot_does_not_change() -> None:
    """Neither by what happens afterwards nor by the reader's hand."""
    buffer = make(max_queue_size=event(1).memory)
    buffer.refuse(event(1), "empty")
    fill(buffer, event(2), event(3))
    before = buffer.statistics()
    buffer.refuse(event(4), "empty")
    fill(buffer, event(5))
    assert (before.rejected_by_reason, before.dropped_by_reason) == ({"empty": 1}, {"overflow": 1})
    with pytest.raises(TypeError):
        before.rejected_by_reason["empty"] = 5  # type: ignore[index]
    with pytest.raises(AttributeError):
        before.rejected = 5  # type: ignore[misc]


def test_a_refused_event_is_accepted_and_rejected() -> None:
    """It counts on both sides, is told once, and never lies in a lane."""
    buffer = make()
    one = event("")
    buffer.refuse(one, "empty")
    statistics = buffer.statistics()
    assert (statistics.accepted, statistics.rejected, statistics.pending) == (1, 1, 0)
    assert buffer.rejections() == [("empty", HERE, [one])]
    assert buffer.rejections() == []


def test_drops_are_told_once() -> None:
    """What was dropped since the last look, by reason."""
    buffer = make(max_queue_size=event(1).memory)
    fill(buffer, event(1), event(2), event(3))
    assert buffer.books.drops() == {"overflow": 2}
    assert buffer.books.drops() == {}


# -- overflow


def room_for(count: int) -> int:
    """Bytes that so many events of one letter take."""
    return count * event("x").memory


@pytest.mark.parametrize("in_one_go", [True, False])
@pytest.mark.parametrize(
    ("policy", "left"),
    [("drop_oldest", ["4", "5", "6"]), ("drop_newest", ["1", "2", "3"]), ("block", ["1", "2", "3"])],
)
def test_overflow_drops_exactly_what_does_not_fit(policy: str, left: list[str], in_one_go: bool) -> None:
    """Three of six fit: the last or the first, whether they come together or one by one, and three are counted."""
    buffer = make(max_queue_size=room_for(3), overflow=policy)
    for group in [range(1, 7)] if in_one_go else [[number] for number in range(1, 7)]:
        fill(buffer, *(event(number) for number in group))
    assert held(buffer) == left
    statistics = buffer.statistics()
    assert statistics.dropped_by_reason == {"overflow": 3}
    assert (statistics.accepted, statistics.pending, statistics.queue_high_water_mark) == (6, 3, room_for(3))


@pytest.mark.parametrize("spare", [-1, 0])
def test_the_bound_is_exact_to_the_byte(spare: int) -> None:
    """What fills memory to the last byte is held; one byte less of it, and one event goes."""
    buffer = make(max_queue_size=room_for(2) + spare)
    fill(buffer, event(1), event(2))
    assert held(buffer) == (["1", "2"] if spare == 0 else ["2"])


@pytest.mark.parametrize("spare", [-1, 0])
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "block"])
def test_has_room_is_exact_to_the_byte(policy: str, spare: int) -> None:
    """Whoever waits for room goes on when there is just enough."""
    buffer = make(max_queue_size=room_for(2) + spare, overflow=policy)
    fill(buffer, event(1))
    assert (event(2).memory <= buffer.room()) is (spare == 0)


def test_the_oldest_goes_whatever_its_lane() -> None:
    """The age of the event decides, not the order of the lanes nor when their batches began."""
    buffer = make(max_queue_size=room_for(4))
    fill(buffer, *(event(number, (THERE, HERE)[number % 2], T0 + number) for number in range(1, 5)))
    for number in range(5, 8):
        fill(buffer, event(number, timestamp=T0 + number))
        assert sorted(held(buffer)) == [str(kept) for kept in range(number - 3, number + 1)]


def test_the_oldest_go_whatever_their_lanes() -> None:
    """Several at a time, too."""
    buffer = make(max_queue_size=room_for(6))
    fill(buffer, *(event(number, (THERE, HERE)[number % 2], T0 + number) for number in range(1, 7)))
    fill(buffer, *(event(number, THERE, T0 + number) for number in range(7, 10)))
    assert sorted(held(buffer)) == ["4", "5", "6", "7", "8", "9"]


def test_the_high_water_mark_never_falls() -> None:
    """It is the most that was ever held, not what was held last."""
    buffer = make()
    fill(buffer, event(1), event(2))
    deliver(buffer, taken(buffer, now=NOW + INTERVAL))
    fill(buffer, event(3))
    assert buffer.statistics().queue_high_water_mark == room_for(2)


def test_what_is_under_way_is_never_dropped() -> None:
    """It counts towards the bound, and the oldest of the others goes in its place."""
    buffer = make(max_queue_size=room_for(3), max_batch_count=1)
    fill(buffer, event(1))
    batch = taken(buffer, now=NOW)
    fill(buffer, event(2), event(3), event(4), event(5))
    assert held(buffer) == ["1", "4", "5"]
    deliver(buffer, batch)
    statistics = buffer.statistics()
    assert (statistics.delivered, statistics.dropped, statistics.pending) == (1, 2, 2)


def test_what_comes_is_dropped_when_all_else_is_under_way() -> None:
    """There is nothing older that could give way."""
    buffer = make(max_queue_size=room_for(2))
    fill(buffer, event(1), event(2))
    taken(buffer, now=NOW + INTERVAL)
    fill(buffer, event(3))
    assert held(buffer) == ["1", "2"]
    assert buffer.statistics().dropped == 1


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "block"])
def test_an_event_bigger_than_the_bound_takes_nobody_with_it(policy: str) -> None:
    """It is dropped alone, and what comes before and after it stays."""
    buffer = make(max_queue_size=room_for(3), overflow=policy)
    fill(buffer, event(1))
    fill(buffer, event(2), event("x" * 1000), event(3))
    assert held(buffer) == ["1", "2", "3"]
    assert buffer.statistics().dropped_by_reason == {"overflow": 1}


def test_an_event_that_only_fits_without_what_is_under_way_takes_nobody_with_it() -> None:
    """To drop the rest would lose it, and the event too."""
    buffer = make(max_queue_size=room_for(3), max_batch_count=1)
    fill(buffer, event(1), event(2))
    taken(buffer, now=NOW)
    fill(buffer, event("x" * (EVENT_MEMORY + 100)))
    assert held(buffer) == ["1", "2"]
    assert buffer.statistics().dropped == 1


@given(
    sizes=st.lists(st.integers(1, 900), max_size=30),
    cuts=st.lists(st.integers(1, 30), max_size=10),
    under_way=st.integers(0, 2),
    policy=st.sampled_from(["drop_oldest", "drop_newest"]),
)
def test_what_overflows_does_not_depend_on_when_the_intake_is_emptied(
    sizes: list[int], cuts: list[int], under_way: int, policy: str
) -> None:
    """One by one or all together: the same events stay, and what is under way among them."""
    events = [event(f"{number}:{'x' * size}", timestamp=T0 + number) for number, size in enumerate(sizes)]
    outcomes = []
    for borders in (range(len(events)), sorted({under_way, *cuts} - {0})):
        buffer = make(max_queue_size=2000, max_batch_count=2, overflow=policy)
        fill(buffer, *events[:under_way])
        batch = buffer.take(now=NOW + INTERVAL)
        start = under_way
        for border in (*(border for border in borders if border > start), len(events)):
            fill(buffer, *events[start:border])
            start = border
        outcomes.append((held(buffer), buffer.statistics().dropped))
        assert batch is None or texts(batch) == held(buffer)[: len(batch)]
    assert outcomes[0] == outcomes[1]


def test_an_event_that_is_small_enough_slips_in() -> None:
    """With drop_newest each event is judged by itself."""
    buffer = make(max_queue_size=room_for(3), overflow="drop_newest")
    fill(buffer, event(1), event("x" * 1000), event(2))
    assert held(buffer) == ["1", "2"]


# -- marks


def test_a_mark_is_reached_when_all_that_was_there_is_settled() -> None:
    """Not before the last lane, and whatever came later."""
    buffer = make()
    put(buffer, event(1), event(2, THERE))
    mark = buffer.mark()
    fill(buffer, event(3))
    first = taken(buffer, now=NOW)
    assert not buffer.lanes.reached(mark)
    deliver(buffer, first)
    assert not buffer.lanes.reached(mark)
    deliver(buffer, taken(buffer, now=NOW))
    assert buffer.lanes.reached(mark)


def test_a_mark_on_nothing_is_reached() -> None:
    """There is nothing to wait for."""
    buffer = make()
    assert buffer.lanes.reached(buffer.mark())


def test_a_mark_waits_for_a_batch_that_failed() -> None:
    """An attempt is not a settlement, and nor is a split."""
    buffer = make()
    fill(buffer, event(1), event(2))
    mark = buffer.mark()
    batch = taken(buffer, now=NOW)
    buffer.settle(batch, DeliveryReport(remaining=(batch,)), now=NOW)
    assert not buffer.lanes.reached(mark)
    events = list(batch.events)
    parts = (batch.part(events[:1]), batch.part(events[1:]))
    buffer.settle(taken(buffer, now=NOW), DeliveryReport(remaining=parts), now=NOW)
    assert not buffer.lanes.reached(mark)
    deliver(buffer, taken(buffer, now=NOW))
    assert not buffer.lanes.reached(mark)
    deliver(buffer, taken(buffer, now=NOW))
    assert buffer.lanes.reached(mark)


def test_a_mark_is_not_reached_by_dropping_what_came_later() -> None:
    """Overflow behind a batch that is under way says nothing about that batch."""
    buffer = make(max_queue_size=room_for(3), max_batch_count=2)
    fill(buffer, event(1), event(2))
    batch = taken(buffer, now=NOW)
    mark = buffer.mark()
    for number in range(3, 10):
        fill(buffer, event(number))
    assert buffer.statistics().dropped == 6
    assert not buffer.lanes.reached(mark)
    deliver(buffer, batch)
    assert buffer.lanes.reached(mark)


def test_a_mark_is_reached_by_dropping_what_it_marked() -> None:
    """A flush does not wait for events that are gone."""
    buffer = make(max_queue_size=room_for(2), max_batch_count=2)
    fill(buffer, event(1), event(2))
    mark = buffer.mark()
    fill(buffer, event(3), event(4))
    assert held(buffer) == ["3", "4"]
    assert buffer.lanes.reached(mark)


def test_a_mark_is_reached_by_abandoning() -> None:
    """Whoever waits in flush is let go when the handler closes."""
    buffer = make()
    fill(buffer, event(1))
    mark = buffer.mark()
    buffer.abandon("closed")
    assert buffer.lanes.reached(mark)


def test_abandon_drops_everything_and_says_what() -> None:
    """Intake, waiting and under way, by destination; and drops() is silent about it, as stderr is told."""
    buffer = make()
    fill(buffer, event(1), event(2, THERE))
    taken(buffer, now=NOW + INTERVAL)
    put(buffer, event(3), event(4))
    assert buffer.abandon("closed") == {HERE: 3, THERE: 1}
    assert buffer.statistics().dropped_by_reason == {"closed": 4}
    assert buffer.books.drops() == {}
    assert (buffer.lanes.memory, buffer.pending(), buffer.due()) == (0, 0, None)


def test_abandoning_nothing_leaves_no_trace() -> None:
    """A reason that never occurred is absent, and so is a destination for which nothing is left."""
    buffer = make()
    fill(buffer, event(1))
    batch = taken(buffer, now=NOW + INTERVAL)
    buffer.settle(batch, DeliveryReport(rejected={"invalid": list(batch.events)}, delay=5.0), now=NOW)
    assert buffer.abandon("closed") == {}
    assert buffer.statistics().dropped_by_reason == {}


def test_a_batch_that_comes_back_after_abandon_counts_its_requests_only() -> None:
    """Its events are in the books as dropped, also if the same stream has a new lane by now."""
    buffer = make()
    fill(buffer, event(1))
    batch = taken(buffer, now=NOW + INTERVAL)
    buffer.abandon("closed")
    fill(buffer, event(2))
    buffer.settle(batch, DeliveryReport(delivered=1, counts={"put_requests": 1}), now=NOW)
    statistics = buffer.statistics()
    assert (statistics.delivered, statistics.dropped, statistics.pending, statistics.put_requests) == (0, 1, 1, 1)
    assert held(buffer) == ["2"]


def test_a_batch_that_comes_back_to_an_empty_lane_is_no_error() -> None:
    """Its lane was abandoned, came to life again, and lost to overflow what it had."""
    buffer = make(max_queue_size=room_for(1))
    fill(buffer, event(1))
    batch = taken(buffer, now=NOW + INTERVAL)
    buffer.abandon("closed")
    fill(buffer, event(2))
    fill(buffer, event(3, THERE))
    deliver(buffer, batch)
    assert held(buffer) == ["3"]
    check_identity(buffer.statistics())


# -- everything together


class Books(RuleBasedStateMachine):
    """Drives a buffer at random, and keeps books of its own about every single event."""

    MAX_COUNT, MAX_SIZE = 4, 700
    LANES = (HERE, THERE, Destination("other", "stream"))

    def __init__(self) -> None:
        super().__init__()
        self.now, self.numbers = NOW, itertools.count()
        self.puts = 0
        self.made: dict[int, Event] = {}
        self.out: dict[int, str] = {}
        self.batch_of: dict[int, int] = {}  # the batch in which an event was first seen in a lane
        self.batch_numbers = itertools.count()
        self.delivered: dict[Destination, list[int]] = defaultdict(list)
        self.rests_until: dict[Destination, float] = {}
        self.under_way: list[Batch] = []
        self.marked: list[tuple[Mark, set[int]]] = []

    @initialize(
        overflow=st.sampled_from(["drop_oldest", "drop_newest", "block"]), max_memory=st.sampled_from([500, 2500])
    )
    def begin(self, overflow: Any, max_memory: int) -> None:
        self.max_memory = max_memory
        self.oldest_go = overflow == "drop_oldest"
        self.buffer = Buffer(
            send_interval=INTERVAL,
            max_batch_count=self.MAX_COUNT,
            max_batch_size=self.MAX_SIZE,
            max_queue_size=self.max_memory,
            overflow=overflow,
        )

    # What the machine sees

    def number(self, one: Event) -> int:
        return int(one.message.partition(":")[0])

    def numbers_of(self, events: Any) -> list[int]:
        return [self.number(one) for one in events]

    def lanes(self) -> dict[Destination, list[list[int]]]:
        return {
            destination: [self.numbers_of(batch.events) for batch in lane.batches]
            for destination, lane in self.buffer.lanes.by_destination.items()
        }

    def held(self) -> list[int]:
        in_lanes = [number for lane in self.lanes().values() for batch in lane for number in batch]
        return in_lanes + self.numbers_of(self.buffer.intake)

    def waiting(self, destination: Destination) -> list[int]:
        lane = self.buffer.lanes.by_destination.get(destination)
        batches = [] if lane is None else list(lane.batches)[lane.under_way :]
        return [number for batch in batches for number in self.numbers_of(batch.events)]

    # What it does

    @rule(
        destination=st.sampled_from(LANES),
        sizes=st.lists(st.sampled_from([0, 1, 20, 300, 346, 600]), min_size=1, max_size=6),
        age=st.sampled_from([0, 0, 0, 1, -1, 23 * HOUR_MS, 25 * HOUR_MS]),
    )
    def put(self, destination: Destination, sizes: list[int], age: int) -> None:
        for size in sizes:
            number = next(self.numbers)
            timestamp = T0 + int(self.now * 1000) - age
            made = encode(destination, timestamp, f"{number}:{'x' * size}")
            self.made[number] = made
            self.puts += 1
            put(self.buffer, made, now=self.now)

    @rule(destination=st.sampled_from(LANES))
    def refuse(self, destination: Destination) -> None:
        self.puts += 1
        number = next(self.numbers)
        self.made[number] = encode(destination, T0, f"{number}:")
        self.out[number] = "rejected"
        self.buffer.refuse(self.made[number], "empty")

    @rule()
    def drain(self) -> None:
        before = {destination: self.waiting(destination) for destination in self.LANES}
        came = {
            destination: self.numbers_of(one for one in self.buffer.intake if one.destination == destination)
            for destination in self.LANES
        }
        safe = {number for batch in self.under_way for number in self.numbers_of(batch.events)}
        self.buffer.drain()
        assert not self.buffer.intake
        dropped_last = []
        for destination in self.LANES:
            after, all_of_them = self.waiting(destination), before[destination] + came[destination]
            gone = [number for number in all_of_them if number not in set(after)]
            assert not safe & set(gone)
            fitting = [number for number in all_of_them if self.made[number].memory <= self.most()]
            if self.oldest_go:
                assert after == fitting[len(fitting) - len(after) :]
                dropped_last += [number for number in gone if number in fitting][-1:]
            else:
                assert after[: len(before[destination])] == before[destination]
                assert after == [number for number in all_of_them if number in set(after)]
                dropped_last += gone[-1:]
            for number in gone:
                self.out[number] = "dropped"
        if dropped_last:
            # None was dropped without need: the one that gave way last would not have fitted.
            assert any(self.memory() + self.made[number].memory > self.max_memory for number in dropped_last)
        for lane in self.lanes().values():
            for batch in lane:
                known = [self.batch_of[number] for number in batch if number in self.batch_of]
                batch_number = known[0] if known else next(self.batch_numbers)
                self.batch_of.update((number, batch_number) for number in batch if number not in self.batch_of)

    def memory(self) -> int:
        return sum(self.made[number].memory for lane in self.lanes().values() for batch in lane for number in batch)

    def most(self) -> int:
        """Bytes that are not taken by what is under way."""
        return self.max_memory - sum(one.memory for batch in self.under_way for one in batch.events)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, INTERVAL, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        self.drain()
        due = self.buffer.due()
        batch = self.buffer.take(now=self.now)
        assert (batch is not None) == (due is not None and due <= self.now)
        if batch is None:
            return
        assert batch.destination not in [other.destination for other in self.under_way]
        assert self.now >= self.rests_until.get(batch.destination, 0.0)
        events = batch.seal()
        self.check_legal(batch, events)
        self.under_way.append(batch)

    def check_legal(self, batch: Batch, events: Sequence[Event]) -> None:
        assert 1 <= len(events) <= self.MAX_COUNT
        size = sum(len(one.message.encode()) + EVENT_OVERHEAD for one in events)
        assert size <= self.MAX_SIZE
        times = [one.timestamp for one in events]
        assert times == sorted(times)
        assert times[-1] - times[0] <= MAX_BATCH_SPAN_MS
        assert {one.destination for one in events} == {batch.destination}

    def settle(self, report: DeliveryReport, batch: Batch) -> None:
        self.under_way.remove(batch)
        self.rests_until[batch.destination] = self.now + report.delay
        self.buffer.settle(batch, report, now=self.now)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), kind=st.sampled_from(["deliver", "reject", "retry", "split", "drop"]))
    def finish(self, data: Any, kind: str) -> None:
        batch = data.draw(st.sampled_from(self.under_way))
        events = list(batch.events)
        numbers = self.numbers_of(events)
        cut = data.draw(st.integers(0, len(events)))
        delay = data.draw(st.sampled_from([0.0, 0.5, 30.0]))
        rejected = {"too_old": events[:cut]} if cut else {}
        if kind == "retry":
            report = DeliveryReport(remaining=(batch,), delay=delay)
        elif kind == "split" and len(events) > 1:
            middle = min(max(1, cut), len(events) - 1)
            report = DeliveryReport(remaining=(batch.part(events[:middle]), batch.part(events[middle:])))
        elif kind == "drop":
            report = DeliveryReport(dropped={"retries_exhausted": tuple(events)}, delay=delay)
            self.out.update(dict.fromkeys(numbers, "dropped"))
        elif kind == "reject" and cut < len(events) and delay:
            report = DeliveryReport(0, rejected, remaining=(batch.part(events[cut:]),), delay=delay)
            self.out.update(dict.fromkeys(numbers[:cut], "rejected"))
        else:
            kept = cut if kind == "reject" else 0
            report = DeliveryReport(len(events) - kept, rejected if kept else {})
            self.out.update(dict.fromkeys(numbers[:kept], "rejected"))
            self.out.update(dict.fromkeys(numbers[kept:], "delivered"))
            self.delivered[batch.destination] += numbers[kept:]
        self.settle(report, batch)

    @rule()
    def hasten(self) -> None:
        self.buffer.lanes.hasten(now=self.now)
        for destination, until in self.rests_until.items():
            self.rests_until[destination] = min(until, self.now)

    @rule()
    def mark(self) -> None:
        self.drain()
        there = {number for number in self.made if number not in self.out}
        self.marked.append((self.buffer.mark(), there))

    @rule()
    def abandon(self) -> None:
        self.drain()
        gone = set(self.held())
        left = self.buffer.abandon("closed")
        assert left == dict(Counter(self.made[number].destination for number in gone))
        self.out.update(dict.fromkeys(gone, "dropped"))
        for batch in self.under_way:  # they come back when nobody waits for them
            self.buffer.settle(batch, DeliveryReport(len(batch), counts={"put_requests": 1}), now=self.now)
        self.under_way.clear()
        self.rests_until.clear()

    @precondition(lambda self: not self.under_way)
    @rule()
    def deliver_everything(self) -> None:
        self.hasten()
        self.mark()
        while True:
            self.take()
            if not self.under_way:
                break
            batch = self.under_way[0]
            numbers = self.numbers_of(batch.events)
            self.out.update(dict.fromkeys(numbers, "delivered"))
            self.delivered[batch.destination] += numbers
            self.settle(DeliveryReport(len(numbers)), batch)
        assert self.held() == []
        assert self.buffer.lanes.by_destination == {}
        assert self.buffer.lanes.memory == 0
        assert self.buffer.due() is None
        assert all(self.buffer.lanes.reached(mark) for mark, _ in self.marked)

    # What always holds

    @invariant()
    def every_event_is_in_one_place(self) -> None:
        places = Counter(self.held()) + Counter(self.out.keys())
        missing = [number for number in self.made if places[number] != 1 and number not in self.out]
        assert missing == []
        assert all(number not in self.out for number in self.held())

    @invariant()
    def the_books_are_right(self) -> None:
        if self.buffer.intake:
            return  # a snapshot would drain it
        statistics = self.buffer.statistics()
        check_identity(statistics)
        fates = Counter(self.out.values())
        assert statistics.accepted == self.puts
        assert statistics.pending == self.buffer.pending() == len(self.held())
        assert statistics.delivered == fates["delivered"]
        assert statistics.rejected == fates["rejected"]
        assert statistics.dropped == fates["dropped"]

    @invariant()
    def memory_stays_within_its_bound(self) -> None:
        assert self.buffer.lanes.memory == self.memory()
        assert self.memory() <= self.max_memory
        assert self.buffer.books.high_water_mark <= self.max_memory

    @invariant()
    def marks_are_reached_when_their_events_are_settled(self) -> None:
        held = set(self.held())
        for mark, there in self.marked:
            if self.buffer.lanes.reached(mark):
                assert not held & there
            else:
                # Some event is still here that shares a batch with what was marked.
                batches = {self.batch_of[number] for number in there if number in self.batch_of}
                assert any(self.batch_of.get(number) in batches for number in held)

    @invariant()
    def order_is_kept(self) -> None:
        for numbers in self.delivered.values():
            keys = [(self.batch_of[number], self.made[number].timestamp, number) for number in numbers]
            assert keys == sorted(keys)

    @invariant()
    def batches_follow_each_other_in_order_of_acceptance(self) -> None:
        for lane in self.lanes().values():
            for earlier, later in itertools.pairwise(lane):
                same = self.batch_of[earlier[0]] == self.batch_of[later[0]]  # halves of one batch, sorted by time
                assert same or max(earlier) < min(later)
                assert earlier


Books.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase
