"""Lines on their way: what becomes of all, of none, and of those that a Ctrl-C cuts short."""

from __future__ import annotations

import itertools
import logging
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from cloudwatch_handler import CloudWatchHandler, Statistics, shipping
from cloudwatch_handler.shipping import Shipment, open_stream, ship
from tests.strict_service import Hang, StrictService, closed_port

GROUP, STREAM = "my-app", "web-1"


def no_show(_: Statistics) -> None:
    """Nobody looks."""


def send(
    service: StrictService, lines: Iterable[str], *, stream: str = STREAM, patience: float = 60.0, **client: Any
) -> Shipment:
    """Ships lines to the service, or to where the arguments for the client lead."""
    logger, handler = open_stream(GROUP, stream, service.client(**client), patience=patience, retention_days=None)
    return ship(lines, logger, handler, patience=patience, show=no_show)


def with_interrupt(lines: Iterable[str]) -> Iterator[str]:
    """The lines, and then Ctrl-C."""
    yield from lines
    signal.raise_signal(signal.SIGINT)
    yield "not read any more"


def test_every_line_is_a_message_as_it_is(service: StrictService) -> None:
    """In order, whatever looks like a format or a template in it."""
    lines = ["a", "%s %d %(name)s 100%", "{x} {}", "", " ", "ü\r\x00"]
    shipment = send(service, lines)
    assert service.messages(GROUP, STREAM) == ["a", "%s %d %(name)s 100%", "{x} {}", " ", "ü\r\x00"]
    assert (shipment.arrived, shipment.lines, shipment.empty, shipment.end) == (True, 6, 1, "complete")
    assert service.violations == []


def test_names_are_no_templates(service: StrictService) -> None:
    """Braces stand for themselves."""
    assert send(service, ["a"], stream="{process_id}/{{x}}").arrived
    assert service.messages(GROUP, "{process_id}/{{x}}") == ["a"]


@pytest.mark.parametrize(("group", "stream"), [("a b", "s"), ("", "s"), ("g", "a:b"), ("g", "a*"), ("aws/g", "s")])
def test_a_name_that_would_become_another_is_an_error(service: StrictService, group: str, stream: str) -> None:
    """In a template the handler makes it legal; here somebody would look for the lines in vain."""
    with pytest.raises(ValueError, match="must"):
        open_stream(group, stream, service.client(), patience=1.0, retention_days=None)


def test_more_lines_than_fit_into_memory_all_arrive(service: StrictService) -> None:
    """Reading waits for delivery."""
    handler = CloudWatchHandler(
        GROUP,
        STREAM,
        boto3_client=service.client(),
        max_batch_count=50,
        max_queue_size=50_000,
        overflow="block",
        block_timeout=60.0,
    )
    logger = logging.Logger("test")
    logger.addHandler(handler)
    lines = [f"line {number}" for number in range(5_000)]
    shipment = ship(iter(lines), logger, handler, patience=60.0, show=no_show)
    assert shipment.arrived
    assert shipment.statistics.queue_high_water_mark <= 50_000
    assert service.messages(GROUP, STREAM) == lines


def test_the_handler_is_closed_and_gone(service: StrictService) -> None:
    """Also when the lines end in an error."""

    def broken() -> Iterator[str]:
        yield "a"
        raise OSError("the disk is gone")

    logger, handler = open_stream(GROUP, STREAM, service.client(), patience=60.0, retention_days=None)
    with pytest.raises(OSError, match="disk"):
        ship(broken(), logger, handler, patience=60.0, show=no_show)
    assert logger.handlers == []
    assert service.messages(GROUP, STREAM) == ["a"]
    assert handler.statistics().pending == 0


def test_reading_stops_when_nothing_moves(
    service: StrictService, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines without end, and nobody who takes them: it says so, once, with the reason, and says nothing else."""
    monkeypatch.setattr(logging, "lastResort", None)
    with closed_port() as url:
        shipment = send(service, itertools.repeat("a"), patience=0.4, endpoint_url=url)
    assert (shipment.end, shipment.arrived) == ("stopped", False)
    assert shipment.statistics.dropped_by_reason["closed"] > 0
    assert str(shipment).startswith(f"stopped after {shipment.lines:,} lines, 0 of ")
    assert "PutLogEvents did not get through" in str(shipment)
    assert "\n" not in str(shipment)
    assert capfd.readouterr() == ("", "")


def test_reading_waits_before_a_line_is_given_up(service: StrictService, monkeypatch: pytest.MonkeyPatch) -> None:
    """When memory is full, a further line gets all the time that there is; after that no more lines are read."""
    monkeypatch.setattr(logging, "lastResort", None)
    service.create_log_stream(GROUP, STREAM)
    hang = Hang()
    service.inject(hang, times=None)
    shipment = send(service, itertools.repeat("x" * 1_000_000), patience=4)
    hang.release()
    assert (shipment.end, shipment.statistics.dropped_by_reason["overflow"]) == ("stopped", 1)


def test_waiting_stops_when_nothing_moves(service: StrictService, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines are read, and none arrives."""
    monkeypatch.setattr(logging, "lastResort", None)
    with closed_port() as url:
        shipment = send(service, ["a", "b"], patience=0.4, endpoint_url=url)
    assert (shipment.end, shipment.lines, shipment.arrived) == ("complete", 2, False)
    assert str(shipment).startswith("0 of 2 events delivered; 2 dropped (closed); PutLogEvents did not")


def test_a_source_that_is_silent_for_long_is_not_stuck(service: StrictService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what waits for delivery counts, not what has not been written yet."""
    now = [0.0]
    monkeypatch.setattr(shipping, "monotonic", lambda: now[0])

    logger, handler = open_stream(GROUP, STREAM, service.client(), patience=60.0, retention_days=None)

    def slow() -> Iterator[str]:
        now[0] += 600.0
        yield "a"
        assert handler.flush(10.0)
        now[0] += 600.0
        yield ""
        now[0] += 600.0
        yield "b"

    shipment = ship(slow(), logger, handler, patience=60.0, show=no_show)
    assert (shipment.end, shipment.arrived, shipment.lines) == ("complete", True, 3)


def test_a_line_that_the_service_refuses_is_no_success(service: StrictService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others arrive; the text says how many did not, and why."""
    monkeypatch.setattr(logging, "lastResort", None)
    service.poison = "bad".__eq__
    shipment = send(service, ["a", "bad", "c"])
    assert service.messages(GROUP, STREAM) == ["a", "c"]
    assert not shipment.arrived
    assert str(shipment).startswith("2 of 3 events delivered; 1 rejected (invalid); PutLogEvents was refused")


def test_progress_is_shown_to_the_end(service: StrictService) -> None:
    """The last thing shown is the whole."""
    shown: list[Statistics] = []
    logger, handler = open_stream(GROUP, STREAM, service.client(), patience=60.0, retention_days=None)
    ship(["a", "b"], logger, handler, patience=60.0, show=shown.append)
    assert (shown[-1].accepted, shown[-1].delivered, shown[-1].pending) == (2, 2, 0)


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_what_was_read_before_ctrl_c_is_delivered(service: StrictService) -> None:
    """It ends the waiting for a further line, and the program goes on to deliver."""
    shipment = send(service, with_interrupt(["a", "b", ""]))
    assert service.messages(GROUP, STREAM) == ["a", "b"]
    assert (shipment.end, shipment.lines, shipment.arrived) == ("interrupted", 3, False)
    assert str(shipment).startswith("interrupted after 3 lines, 2 of 2 events delivered; 1 empty line left out")


def test_ctrl_c_does_not_break_into_the_handler(service: StrictService) -> None:
    """Where the handler's code runs it waits, so that no line is lost or sent twice."""
    logger, handler = open_stream(GROUP, STREAM, service.client(), patience=60.0, retention_days=None)

    def interrupted(record: logging.LogRecord) -> bool:
        if record.getMessage() == "b":
            signal.raise_signal(signal.SIGINT)
        return True

    handler.addFilter(interrupted)
    shipment = ship(["a", "b", "c"], logger, handler, patience=60.0, show=no_show)
    assert service.messages(GROUP, STREAM) == ["a", "b"]
    assert (shipment.end, shipment.lines) == ("interrupted", 2)


def test_a_second_ctrl_c_ends_the_waiting(service: StrictService) -> None:
    """Somebody who presses it twice does not want to wait for a service that hangs."""
    service.create_log_stream(GROUP, STREAM)
    hang = Hang()
    service.inject(hang, times=None)
    handler = CloudWatchHandler(GROUP, STREAM, boto3_client=service.client(), shutdown_timeout=0.1)
    logger = logging.Logger("test")
    logger.addHandler(handler)

    pressed: list[Statistics] = []

    def press_again(statistics: Statistics) -> None:
        if hang.entered.is_set() and not pressed:
            pressed.append(statistics)
            signal.raise_signal(signal.SIGINT)

    shipment = ship(with_interrupt(["a"]), logger, handler, patience=60.0, show=press_again)
    assert (shipment.end, shipment.statistics.dropped) == ("interrupted", 1)
    hang.release()


def test_ctrl_c_means_afterwards_what_it_meant_before(service: StrictService) -> None:
    """The handler of the signal is put back."""
    send(service, ["a"])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_ctrl_c_stays_ignored(service: StrictService) -> None:
    """As for a job in the background of a shell without job control."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        shipment = send(service, with_interrupt(["a"]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (shipment.end, shipment.lines) == ("complete", 2)


@pytest.mark.parametrize(
    ("lines", "end", "ledger", "text"),
    [
        (1, "complete", Statistics(accepted=1, delivered=1), "1 of 1 event delivered"),
        (
            1200,
            "complete",
            Statistics(accepted=1200, delivered=1199, rejected=1, rejected_by_reason={"empty": 1}, last_error="old"),
            "1,199 of 1,199 events delivered; 1 empty line left out: CloudWatch Logs takes no empty message",
        ),
        (
            9,
            "stopped",
            Statistics(
                accepted=9,
                delivered=1,
                rejected=3,
                dropped=5,
                rejected_by_reason={"empty": 2, "invalid": 1},
                dropped_by_reason={"overflow": 5, "closed": 0},
                last_error="two\n lines",
            ),
            "stopped after 9 lines, 1 of 7 events delivered; 2 empty lines left out: CloudWatch Logs takes no empty "
            "message; 1 rejected (invalid); 5 dropped (overflow); two lines",
        ),
    ],
)
def test_a_shipment_says_in_one_line_what_happened(lines: int, end: str, ledger: Statistics, text: str) -> None:
    """How many arrived; which did not, and why."""
    assert str(Shipment(lines, end, ledger)) == text
