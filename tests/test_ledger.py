"""The ledger's values: sums that add up, snapshots that never change, and a report in words."""

from __future__ import annotations

import dataclasses

import pytest

from cloudwatch_handler import RejectedEvents, Statistics
from cloudwatch_handler.event import Batch, Destination, encode
from cloudwatch_handler.ledger import DeliveryReport, Loss, RejectedEvent

WEB = Destination("my-app", "web-1")


def test_a_report_accounts_for_every_event() -> None:
    """Delivered, rejected, dropped and remaining are parts of one whole."""
    events = [encode(WEB, number, "m") for number in range(4)]
    batch = Batch(WEB, arrival=0.0)
    batch.extend(events)
    report = DeliveryReport(
        delivered=8,
        rejected={"too_old": events[:2], "invalid": events[2:3]},
        dropped={"retries_exhausted": events[:1], "closed": events[:3]},
        remaining=(batch, batch.part(events[:1])),
    )
    assert report.events == 8 + 3 + 4 + 5


def test_an_empty_report_accounts_for_nothing() -> None:
    """Nothing is settled by default."""
    assert DeliveryReport().events == 0


def test_rejected_events_say_what_and_where() -> None:
    """Timestamps and texts, for the application to look at."""
    report = RejectedEvents.of("too_old", WEB, [encode(WEB, 1, "a"), encode(WEB, 2, "é")])
    assert report == RejectedEvents("too_old", "my-app", "web-1", (RejectedEvent(1, "a"), RejectedEvent(2, "é")))
    assert (report.events[1].timestamp, report.events[1].message) == (2, "é")


@pytest.mark.parametrize("timestamp", [-(10**16), 10**16, -(10**19), 10**19])
def test_a_loss_can_be_told_whenever_it_claims_to_have_happened(timestamp: int) -> None:
    """A record may claim any time; a time that no calendar has is told as the number that it is."""
    loss = Loss.of("overflow", [encode(WEB, timestamp, "x")])
    assert f"logged from {timestamp} ms since 1970 to {timestamp} ms since 1970" in str(loss)


@pytest.mark.parametrize(("count", "text"), [(1, "1 event"), (2, "2 events")])
def test_rejected_events_can_be_printed(count: int, text: str) -> None:
    """One line with count, place and reason."""
    report = RejectedEvents.of("empty", WEB, [encode(WEB, 1, "")] * count)
    assert str(report) == f"{text} for my-app/web-1 rejected: empty"


@pytest.mark.parametrize("value", [Statistics(), DeliveryReport(), RejectedEvents("empty", "g", "s", ())])
def test_a_value_never_changes(value: object) -> None:
    """Nobody who holds one sees it move."""
    field = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 1)


@pytest.mark.parametrize("name", ["rejected_by_reason", "dropped_by_reason"])
def test_counts_by_reason_are_read_only(name: str) -> None:
    """Part of the snapshot, not shared with anybody."""
    with pytest.raises(TypeError):
        getattr(Statistics(), name)["overflow"] = 1
