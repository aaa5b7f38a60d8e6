"""The service's limits, to the byte and to the event, from ``logger.info`` to what the strict service stores."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from cloudwatch_handler import CloudWatchHandler
from tests.strict_service import StrictService

MAX_SIZE, MAX_MESSAGE, MAX_COUNT = 1_048_576, 1_048_550, 10_000
CHARACTERS = {1: "a", 2: "é", 3: "€", 4: "😀"}


@pytest.fixture
def log(service: StrictService) -> Iterator[logging.Logger]:
    """A logger that delivers to group g, stream s."""
    log = logging.Logger("limits", logging.INFO)
    log.addHandler(CloudWatchHandler("g", "s", boto3_client=service.client, send_interval=60))
    yield log
    log.handlers[0].close()


def puts(service: StrictService) -> list[list[dict[str, object]]]:
    """The events of each batch that was stored."""
    accepted = [r for r in service.requests if r.operation == "PutLogEvents" and r.status == 200]
    return [request.parameters["logEvents"] for request in accepted]


def flush(log: logging.Logger) -> CloudWatchHandler:
    """Flush, and return the handler."""
    handler = log.handlers[0]
    assert isinstance(handler, CloudWatchHandler)
    assert handler.flush(60)
    return handler


@pytest.mark.parametrize("width", CHARACTERS)
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_message_of_the_longest_size_fits_and_one_byte_more_is_split(
    service: StrictService, log: logging.Logger, width: int, excess: int
) -> None:
    """For characters of one to four bytes; nothing is lost, and no character is cut."""
    count, filler = divmod(MAX_MESSAGE + excess, width)
    text = "x" * filler + CHARACTERS[width] * count
    assert len(text.encode()) == MAX_MESSAGE + excess
    log.info("%s", text)
    handler = flush(log)
    stored = service.messages("g", "s")
    assert "".join(stored) == text
    assert len(stored) == handler.statistics().delivered == (2 if excess > 0 else 1)
    assert service.violations == []


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_batch_holds_as_many_events_as_the_service_takes(
    service: StrictService, log: logging.Logger, excess: int
) -> None:
    """10,000, and the next one comes in another batch."""
    for number in range(MAX_COUNT + excess):
        log.info("%d", number)
    flush(log)
    assert service.messages("g", "s") == [str(number) for number in range(MAX_COUNT + excess)]
    assert sorted(map(len, puts(service)), reverse=True) == [min(MAX_COUNT + excess, MAX_COUNT)] + [1] * (excess > 0)
    assert service.violations == []


@pytest.mark.parametrize("width", CHARACTERS)
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_batch_holds_as_many_bytes_as_the_service_takes(
    service: StrictService, log: logging.Logger, width: int, excess: int
) -> None:
    """Two events that fill 1,048,576 bytes to the last go together; one byte more makes two batches."""
    first = CHARACTERS[width] * 100_000
    rest = "y" * (MAX_SIZE + excess - 2 * 26 - len(first.encode()))
    log.info("%s", first)
    log.info("%s", rest)
    flush(log)
    assert service.messages("g", "s") == [first, rest]
    assert len(puts(service)) == (2 if excess > 0 else 1)
    assert service.violations == []


@pytest.mark.parametrize(("apart", "batches"), [(86_400_000, 1), (86_400_001, 2), (90_000_000, 2)])
def test_a_batch_spans_no_more_than_a_day(
    service: StrictService, log: logging.Logger, apart: int, batches: int
) -> None:
    """Exactly 24 hours are one batch, a millisecond more is two; in whatever order they were logged."""
    now = 1000 * int(time.time())
    for timestamp in (now, now - apart):
        log.handle(logging.makeLogRecord({"msg": str(timestamp), "created": timestamp / 1000, "levelno": logging.INFO}))
    flush(log)
    assert sorted(service.messages("g", "s")) == sorted([str(now), str(now - apart)])
    assert len(puts(service)) == batches
    assert service.violations == []


def test_events_go_out_in_order_of_time_and_equal_ones_as_they_came(
    service: StrictService, log: logging.Logger
) -> None:
    """Threads hand in records out of order; the service wants them chronological."""
    now = 1000 * int(time.time())
    offsets = [5, 3, 3, 9, 1, 5, 3, 0]
    for number, offset in enumerate(offsets):
        log.handle(
            logging.makeLogRecord(
                {"msg": f"{offset}/{number}", "created": (now + offset) / 1000, "levelno": logging.INFO}
            )
        )
    flush(log)
    expected = sorted(enumerate(offsets), key=lambda pair: pair[1])
    assert service.messages("g", "s") == [f"{offset}/{number}" for number, offset in expected]
    assert len(puts(service)) == 1


@pytest.mark.parametrize(
    ("oversize", "stored", "rejected"),
    [("split", ["aaaaaaaaaa", "aaaaaaaaaa", "aaaaa"], 0), ("truncate", ["aaaaaaaaaa"], 0), ("drop", [], 1)],
)
def test_what_is_too_long_is_split_cut_or_refused_as_configured(
    service: StrictService, oversize: str, stored: list[str], rejected: int
) -> None:
    """A record that was split counts its parts; one that was refused is rejected as too large."""
    handler = CloudWatchHandler("g", "s", boto3_client=service.client, max_message_size=10, oversize=oversize)
    handler.handle(logging.makeLogRecord({"msg": "a" * 25}))
    handler.handle(logging.makeLogRecord({"msg": "b"}))
    assert handler.flush(20)
    handler.close()
    counts = handler.statistics()
    assert service.messages("g", "s") == [*stored, "b"]
    assert counts.accepted == len(stored) + 1 + rejected
    assert counts.rejected_by_reason.get("too_large", 0) == rejected
