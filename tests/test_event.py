"""Events and batches: the service's limits, exact at one byte, one event and one millisecond."""

from __future__ import annotations

import itertools
import json
import re
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudwatch_handler import event as limits
from cloudwatch_handler.event import EVENT_MEMORY, EVENT_OVERHEAD, Batch, Destination, Event, encode, fit, split
from tests.service_model import CURRENT, SHAPES, prose

WEB = Destination("my-app", "web-1")
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

#: One character of each UTF-8 length, by that length.
CHARACTERS = {1: "a", 2: "é", 3: "€", 4: "😀"}
BY_LENGTH = pytest.mark.parametrize(("length", "character"), CHARACTERS.items())

#: Any text a program can hold, lone surrogates included.
texts = st.lists(st.text() | st.sampled_from('\ud800\udfff\x00\n"\\é€😀\u2028')).map("".join)


def event_of(size: int, timestamp: int = 0, destination: Destination = WEB) -> Event:
    """An event that counts as so many bytes."""
    return encode(destination, timestamp, "x" * (size - EVENT_OVERHEAD))


def batch_of(events: Iterable[Event], **limits: int) -> Batch:
    """An open batch of these events."""
    batch = Batch(WEB, arrival=1.0, **limits)
    events = list(events)
    assert batch.extend(events) == len(events)
    return batch


# The limits


@pytest.mark.parametrize(
    ("ours", "shape", "key"),
    [
        (limits.MAX_BATCH_COUNT, "InputLogEvents", "max"),
        (1, "InputLogEvents", "min"),
        (1, "EventMessage", "min"),
        (0, "Timestamp", "min"),
        pytest.param(limits.LOG_GROUP_CLASSES, "LogGroupClass", "enum", marks=CURRENT),
    ],
)
def test_a_limit_is_the_service_models(ours: object, shape: str, key: str) -> None:
    """What the model states in numbers is the number here."""
    stated = SHAPES[shape][key]
    assert (tuple(stated) if isinstance(stated, list) else stated) == ours


@pytest.mark.parametrize(
    "sentence",
    [
        f"The maximum batch size is {limits.MAX_BATCH_SIZE:,} bytes",
        f"plus {limits.EVENT_OVERHEAD} bytes for each log event",
        f"older than {limits.MAX_EVENT_AGE_MS // DAY_MS} days",
        f"more than {limits.MAX_EVENT_LEAD_MS // HOUR_MS} hours in the future",
        f"cannot exceed {limits.MAX_BATCH_SPAN_MS // HOUR_MS} hours",
    ],
)
def test_a_limit_is_the_documented_one(sentence: str) -> None:
    """What the model states in prose only is the number here; older models put some of it elsewhere."""
    text = prose("PutLogEvents")
    if sentence not in text and "1 MB" not in text:
        pytest.skip("a service model from before April 2025, whose wording differs")
    assert sentence in text


def test_the_retention_days_are_the_documented_ones() -> None:
    """The model lists the possible values in the description of the parameter."""
    listed = re.search(r"Possible values are:(.+?and \d+)", SHAPES["Days"]["documentation"])
    assert listed is not None
    assert tuple(map(int, re.findall(r"\d+", listed[1]))) == limits.RETENTION_DAYS


def test_one_event_may_fill_a_batch() -> None:
    """1,048,550 bytes of message and 26 of overhead are the largest batch."""
    assert limits.MAX_MESSAGE_SIZE == 1_048_550
    batch_of([event_of(limits.MAX_BATCH_SIZE)])


# Encoding


@given(st.integers(0, 2**53), texts)
def test_a_fragment_is_json_of_timestamp_and_message(timestamp: int, text: str) -> None:
    """Nothing but what UTF-8 cannot express is changed, and that comes out as backslash escapes."""
    event = encode(WEB, timestamp, text)
    message = text.encode("utf-8", "backslashreplace").decode()
    assert json.loads(event.fragment) == {"timestamp": timestamp, "message": message}
    assert event.message == message


@given(texts)
def test_a_size_is_utf_8_bytes_and_overhead(text: str) -> None:
    """JSON escapes do not count; what is counted is what the service will decode."""
    event = encode(WEB, 0, text)
    assert event.size == len(event.message.encode()) + 26


@pytest.mark.parametrize(
    ("text", "message"),
    [("\ud800", "\\ud800"), ("a\udcffz", "a\\udcffz"), ("\ud83d\ude00", "\\ud83d\\ude00"), ("😀", "😀")],
)
def test_lone_surrogates_are_escaped(text: str, message: str) -> None:
    """The record is not lost, and the request stays valid UTF-8."""
    assert encode(WEB, 0, text).message == message


def test_an_event_is_a_tuple_of_its_fields() -> None:
    """The constructor that is bypassed for speed would make the same."""
    event = encode(WEB, 7, "m")
    assert type(event) is Event
    assert event == Event(destination=WEB, timestamp=7, size=27, fragment=b'{"timestamp":7,"message":"m"}')


def test_a_destination_reads_as_group_and_stream() -> None:
    """As it stands in messages."""
    assert str(WEB) == "my-app/web-1"


def test_an_events_memory_is_what_it_costs() -> None:
    """Ten thousand different events take what they account for, and not much less."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        events = [encode(WEB, 1_800_000_000_000 + number, f"message {number}") for number in range(10_000)]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    accounted = sum(event.memory for event in events)
    assert 0.75 * accounted < taken <= accounted


# Fitting


@BY_LENGTH
@pytest.mark.parametrize("oversize", ["split", "truncate", "drop"])
def test_a_message_of_exactly_the_limit_is_left_alone(length: int, character: str, oversize: limits.Oversize) -> None:
    """Not one byte is lost to caution."""
    event = encode(WEB, 0, character * 30)
    assert fit(event, 30 * length, oversize) == [event]


@BY_LENGTH
def test_a_message_one_byte_over_is_split(length: int, character: str) -> None:
    """The last character goes into a second event, whole."""
    event = encode(WEB, 5, character * 30)
    parts = fit(event, 30 * length - 1, "split")
    assert [(part.timestamp, part.destination, part.message) for part in parts] == [
        (5, WEB, character * 29),
        (5, WEB, character),
    ]


@BY_LENGTH
def test_a_message_one_byte_over_is_truncated_to_whole_characters(length: int, character: str) -> None:
    """The beginning is kept, as much of it as fits."""
    (kept,) = fit(encode(WEB, 5, character * 30), 30 * length - 1, "truncate")
    assert kept == encode(WEB, 5, character * 29)


@BY_LENGTH
def test_a_message_one_byte_over_is_dropped(length: int, character: str) -> None:
    """Nothing of it remains."""
    assert fit(encode(WEB, 5, character * 30), 30 * length - 1, "drop") == []


@BY_LENGTH
def test_the_services_own_limit_is_exact(length: int, character: str) -> None:
    """At 1,048,550 bytes an event stays one; at one more it becomes two, each of which the service takes."""
    whole, rest = divmod(limits.MAX_MESSAGE_SIZE, length)
    text = "x" * rest + character * whole
    assert len(fit(encode(WEB, 0, text), limits.MAX_MESSAGE_SIZE, "split")) == 1
    parts = fit(encode(WEB, 0, "x" + text), limits.MAX_MESSAGE_SIZE, "split")
    assert [part.size <= limits.MAX_BATCH_SIZE for part in parts] == [True, True]


@given(texts, st.integers(4, 40), st.sampled_from(["split", "truncate", "drop"]))
def test_what_fits_is_never_too_long(text: str, limit: int, oversize: limits.Oversize) -> None:
    """Lone surrogates grow when they are escaped; the cut comes after that."""
    event = encode(WEB, 0, text)
    parts = fit(event, limit, oversize)
    assert all(part.size - EVENT_OVERHEAD <= limit for part in parts)
    if oversize == "split":
        assert "".join(part.message for part in parts) == event.message
    elif parts:
        assert event.message.startswith(parts[0].message)


utf_8_texts = st.lists(st.text() | st.sampled_from("é€😀")).map("".join)


@given(utf_8_texts, st.integers(4, 40))
def test_the_parts_of_a_text_make_the_text(text: str, limit: int) -> None:
    """Nothing is lost and nothing is repeated."""
    assert "".join(split(text, limit)) == text


@given(utf_8_texts, st.integers(4, 40))
def test_split_fills_every_part(text: str, limit: int) -> None:
    """Each part is within the limit, and the first character of the next would not have fitted."""
    parts = list(split(text, limit))
    for part, following in itertools.pairwise(parts):
        assert limit - 4 < len(part.encode()) <= limit < len((part + following[0]).encode())
    assert len(parts[-1].encode()) <= limit


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("", 4, [""]),
        ("abcd", 4, ["abcd"]),
        ("abcde", 4, ["abcd", "e"]),
        ("abc😀", 4, ["abc", "😀"]),
        ("😀😀", 4, ["😀", "😀"]),
        ("a€€", 6, ["a€", "€"]),
        ("ééé", 5, ["éé", "é"]),
    ],
)
def test_split_never_cuts_a_character(text: str, limit: int, parts: list[str]) -> None:
    """A cut that would fall inside one falls before it."""
    assert list(split(text, limit)) == parts


# Batches


@pytest.mark.parametrize(("count", "taken", "full"), [(2, 2, False), (3, 3, True), (4, 3, True)])
def test_a_batch_takes_so_many_events(count: int, taken: int, full: bool) -> None:
    """Exactly the limit, and it is full as soon as it is reached."""
    batch = Batch(WEB, arrival=0.0, max_count=3)
    assert batch.extend([event_of(30)] * count) == taken
    assert (len(batch), batch.full) == (taken, full)


def test_a_batch_takes_the_services_count_of_events() -> None:
    """10,000 events, and not one more."""
    assert Batch(WEB, arrival=0.0).extend([event_of(27)] * 10_001) == 10_000


@pytest.mark.parametrize(("last", "taken", "full"), [(39, 2, False), (40, 2, False), (41, 1, True)])
def test_a_batch_takes_so_many_bytes(last: int, taken: int, full: bool) -> None:
    """Exactly the limit, overhead included; what does not fit makes it full."""
    batch = Batch(WEB, arrival=0.0, max_size=100)
    assert batch.extend([event_of(60), event_of(last)]) == taken
    assert (batch.size, batch.full) == (60 + last * (taken - 1), full)


@BY_LENGTH
def test_a_batch_takes_the_services_bytes(length: int, character: str) -> None:
    """1,048,576 bytes of UTF-8 and overhead, whatever the characters; one byte more is refused."""
    text = character * 1000
    rest = limits.MAX_BATCH_SIZE - len(text.encode()) - EVENT_OVERHEAD
    assert batch_of([encode(WEB, 0, text), event_of(rest)]).size == 1_048_576
    assert Batch(WEB, arrival=0.0).extend([encode(WEB, 0, text), event_of(rest + 1)]) == 1


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(("span", "taken"), [(DAY_MS - 1, 2), (DAY_MS, 2), (DAY_MS + 1, 1)])
def test_a_batch_spans_a_day(span: int, taken: int, direction: int) -> None:
    """Exactly 24 hours, whichever event came first; what lies further off makes it full."""
    batch = Batch(WEB, arrival=0.0)
    events = [event_of(30, 2 * DAY_MS), event_of(30, 2 * DAY_MS + direction * span)]
    assert batch.extend(events) == taken
    assert batch.full == (taken == 1)


@pytest.mark.parametrize("direction", [1, -1])
def test_the_span_is_between_the_extremes(direction: int) -> None:
    """Not between neighbours, and over several calls."""
    batch = batch_of([event_of(30, 2 * DAY_MS), event_of(30, 2 * DAY_MS + direction * 13 * HOUR_MS)])
    assert batch.extend([event_of(30, 2 * DAY_MS + direction * 26 * HOUR_MS)]) == 0
    assert batch.latest - batch.earliest == 13 * HOUR_MS


def test_an_event_of_another_destination_is_not_taken() -> None:
    """It ends the call; the batch is not full for that."""
    events = [event_of(30), event_of(30, destination=Destination("my-app", "web-2")), event_of(30)]
    batch = Batch(WEB, arrival=0.0)
    assert batch.extend(events) == 1
    assert not batch.full
    assert batch.extend(events, 2) == 3


def test_an_equal_destination_is_the_same() -> None:
    """Identity is only the quicker question."""
    batch_of([event_of(30, destination=Destination("my-app", "web-1"))])


def test_events_are_taken_from_an_index_on() -> None:
    """What was returned is where to go on."""
    events = [event_of(30, number) for number in range(4)]
    batch = Batch(WEB, arrival=0.0)
    assert batch.extend(events, 2) == 4
    assert [event.timestamp for event in batch.events] == [2, 3]
    assert batch.extend(events, 4) == 4


@given(
    st.lists(st.tuples(st.integers(0, 3 * DAY_MS), st.integers(27, 60))),
    st.integers(1, 10),
    st.integers(60, 200),
)
def test_batches_are_legal_and_keep_every_event(events: list[tuple[int, int]], max_count: int, max_size: int) -> None:
    """Whatever comes, in however many batches: nothing is lost, and each is one the service takes."""
    made = [event_of(size, timestamp) for timestamp, size in events]
    position, sent = 0, []
    while position < len(made):
        batch = Batch(WEB, arrival=0.0, max_count=max_count, max_size=max_size)
        end = batch.extend(made, position)
        assert end > position
        assert batch.full or end == len(made)
        position = end
        times = [event.timestamp for event in batch.events]
        assert len(batch) <= max_count
        assert batch.size == sum(event.size for event in batch.events) <= max_size
        assert batch.memory == sum(event.memory for event in batch.events)
        assert (batch.earliest, batch.latest) == (min(times), max(times))
        assert max(times) - min(times) <= DAY_MS
        sent += batch.events
    assert sent == made


def test_sealing_sorts_by_time_and_keeps_the_order_of_equals() -> None:
    """Chronological, as the service demands, and stable within a millisecond."""
    events = [encode(WEB, timestamp, text) for timestamp, text in [(2, "z"), (1, "y"), (2, "a"), (1, "b")]]
    batch = batch_of(events)
    sealed = batch.seal()
    assert [event.message for event in sealed] == ["y", "b", "z", "a"]
    assert list(batch.events) == sealed


def test_a_sealed_batch_never_grows() -> None:
    """When an answer was lost, the same bytes must be sent again."""
    batch = batch_of([event_of(30)])
    batch.seal()
    assert batch.extend([event_of(30)]) == 0
    assert len(batch) == 1


def test_memory_is_fragments_and_what_holds_them() -> None:
    """Long after the message has lost its form, the bytes that are held count."""
    event = event_of(100)
    assert event.memory == len(event.fragment) + EVENT_MEMORY
    assert batch_of([event] * 3).memory == 3 * event.memory


def test_a_part_has_been_tried_as_often_as_the_whole() -> None:
    """Splitting a batch that the service refuses does not restart its retries."""
    batch = batch_of([event_of(30, 1), event_of(40, 2), event_of(50, 3)], max_count=5, max_size=500)
    batch.attempts, batch.first_attempt, batch.races = 3, 8.5, 2
    part = batch.part(batch.seal()[1:])
    assert (part.attempts, part.first_attempt, part.races, part.arrival) == (3, 8.5, 2, 1.0)
    assert (part.destination, part.max_count, part.max_size) == (WEB, 5, 500)
    assert (len(part), part.size) == (2, 90)
    assert part.memory == event_of(40).memory + event_of(50).memory
    assert part.sealed


def test_a_part_keeps_every_event_whatever_the_limits() -> None:
    """Events that are cut off a batch have no other owner; even an illegal part loses none."""
    batch = batch_of([event_of(30)], max_count=2, max_size=60)
    assert len(batch.part([event_of(30, number * DAY_MS) for number in range(5)])) == 5
