"""What is held in memory is bounded while the service hangs, by what ``max_queue_size`` says (case 13)."""

from __future__ import annotations

import threading
import time

import pytest

from benchmarks.memory import MIB, grow
from cloudwatch_handler.event import Destination, encode
from tests.sender import GROUP, PATIENCE, STREAM, sending
from tests.strict_service import Hold, StrictService

#: A process may grow by so many times the bound: the issue's figure.
MOST = 1.5


# Fewer records than the million of the benchmark reach the same bound.
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
@pytest.mark.parametrize(
    ("count", "size", "bound"), [(80_000, 100, 16 * MIB), (3_000, 10_000, 16 * MIB), (9_000, 10_000, 64 * MIB)]
)
def test_a_process_grows_by_the_bound_while_the_service_hangs(
    service: StrictService, count: int, size: int, bound: int, overflow: str
) -> None:
    """Whatever gives way, however long the messages are, and the batch under way included; the counts are exact."""
    result = grow(service, "one", count, size, bound, overflow)
    assert result["grown"] < MOST
    memory = encode(Destination(GROUP, "stream"), time.time_ns() // 1_000_000, "x" * size).memory
    one_batch = 1 / (bound // memory)
    assert 1 - 2 * one_batch < result["held"] <= 1
    assert result["pending"] == bound // memory
    assert (result["accepted"], result["delivered"]) == (count + 2, 1)
    assert result["dropped"] == count + 1 - result["pending"]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_streams_cost_memory_too(service: StrictService, overflow: str) -> None:
    """A lane for each event costs more than the events; one that has given way costs nothing."""
    result = grow(service, "streams", 40_000, 100, 16 * MIB, overflow)
    assert result["grown"] < MOST
    assert result["accepted"] == 40_002 == result["delivered"] + result["dropped"] + result["pending"]


@pytest.mark.parametrize(("kind", "count", "size"), [("empty", 100_000, 0), ("large", 40, 2 * MIB)])
def test_events_that_are_refused_at_the_door_cost_little(
    service: StrictService, kind: str, count: int, size: int
) -> None:
    """They wait for the thread to report them to ``on_rejected``, and that hangs."""
    result = grow(service, kind, count, size, 16 * MIB, "drop_oldest")
    assert result["grown"] < MOST
    assert (result["accepted"], result["rejected"]) == (count + 2, count)


def room_for(count: int) -> int:
    """Bytes of memory that so many events take with a message of one character."""
    return count * encode(Destination(GROUP, STREAM), time.time_ns() // 1_000_000, "0").memory


def test_block_makes_the_caller_wait_for_room(service: StrictService) -> None:
    """A log call returns when the batch under way has made room; nothing is dropped."""
    hold = Hold()
    with sending(service, overflow="block", block_timeout=PATIENCE, max_queue_size=room_for(3)) as sender:
        sender.deliver("0")
        service.inject(hold)
        sender.log("1")
        assert hold.entered.wait(PATIENCE)
        sender.log("2", "3")
        logged = threading.Event()

        def log() -> None:
            sender.log("4")
            logged.set()

        thread = threading.Thread(target=log)
        thread.start()
        assert not logged.wait(0.1)
        hold.release.set()
        assert logged.wait(PATIENCE)
        thread.join()
        sender.deliver()
        assert sender.messages == list("01234")
        assert sender.handler.statistics().dropped == 0


def test_block_waits_no_longer_than_it_may(service: StrictService) -> None:
    """After ``block_timeout`` the new event is dropped, and counted."""
    hold = Hold()
    with sending(service, overflow="block", block_timeout=0.1, max_queue_size=room_for(2)) as sender:
        sender.deliver("0")
        service.inject(hold)
        sender.log("1")
        assert hold.entered.wait(PATIENCE)
        sender.log("2")
        began = time.monotonic()
        sender.log("3")
        assert 0.1 <= time.monotonic() - began < PATIENCE
        hold.release.set()
        sender.deliver()
        assert [message for message in sender.messages if len(message) == 1] == list("012")
        assert sender.handler.statistics().dropped_by_reason == {"overflow": 1}
