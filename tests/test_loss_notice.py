"""After a loss the stream itself says so: in the next batch, in one event that is no event of the ledger."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest

from cloudwatch_handler import RejectedEvents
from cloudwatch_handler.event import MAX_BATCH_COUNT, MAX_MESSAGE_SIZE, Destination, encode
from tests.sender import GROUP, PATIENCE, QUICK, STREAM, Sender, balance, sending, sent
from tests.strict_service import Error, Hang, Hold, Reset, StrictService
from tests.strict_service.faults import Exchange

DAY = 86_400.0
GIVE_UP = {**QUICK, "give_up_after": 0}
DOWN = Error("ServiceUnavailableException", 503)
NOTICE = re.compile(
    r"WARNING cloudwatch_handler: (?P<total>\d+) events of this stream were dropped \((?P<why>.*)\), "
    r"logged from (?P<first>\S+) to (?P<last>\S+)"
)


def notices(messages: list[str]) -> list[tuple[int, int, str]]:
    """Position, total and reasons of each notice among messages."""
    found = [(position, NOTICE.fullmatch(message)) for position, message in enumerate(messages)]
    return [(position, int(notice["total"]), notice["why"]) for position, notice in found if notice]


def room_for(count: int) -> int:
    """Bytes of memory that so many events take with a message of three characters."""
    return count * encode(Destination(GROUP, STREAM), time.time_ns() // 1_000_000, "000").memory


def lose(sender: Sender, *messages: object) -> None:
    """Have these given up, by a handler with ``retry=GIVE_UP``: the first attempt fails."""
    outage = sender.service.inject(DOWN, times=None)
    sender.deliver(*messages)
    outage.remove()


def iso(moment: float) -> str:
    """A time as the notice writes it."""
    text = datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


# -- what it says, and when --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_the_batch_after_an_overflow_begins_with_how_many_when_and_why(service: StrictService, overflow: str) -> None:
    """And what is left is delivered behind it, in order."""
    hold = Hold()
    began = int(time.time()) - 3600.0
    arguments: dict[str, Any] = {"overflow": overflow, "block_timeout": 0.0, "max_queue_size": room_for(10)}
    with sending(service, **arguments) as sender:
        sender.deliver("000")
        service.inject(hold)
        sender.log("001")
        assert hold.entered.wait(PATIENCE)
        for number in range(100, 200):
            sender.log_at(began + number, number)
        hold.release.set()
        sender.deliver()
        kept = range(191, 200) if overflow == "drop_oldest" else range(100, 109)
        lost = range(100, 191) if overflow == "drop_oldest" else range(109, 200)
        assert [sent(put) for put in sender.puts][-1] == sender.messages[2:]
        assert [*sender.messages[:2], *sender.messages[3:]] == ["000", "001", *map(str, kept)]
        notice = NOTICE.fullmatch(sender.messages[2])
        assert notice
        assert notice.groupdict() == {
            "total": "91",
            "why": "overflow: 91",
            "first": iso(began + lost[0]),
            "last": iso(began + lost[-1]),
        }


def test_what_was_given_up_is_told(service: StrictService) -> None:
    """``retries_exhausted`` is a loss too."""
    with sending(service, retry=GIVE_UP) as sender:
        lose(sender, "a")
        sender.deliver("c")
        assert notices(sender.messages) == [(0, 1, "retries_exhausted: 1")]
        assert sender.messages[1:] == ["c"]


def test_what_was_left_at_close_is_told_when_the_handler_is_used_again(
    service: StrictService, capsys: pytest.CaptureFixture[str]
) -> None:
    """A handler that starts again knows what its former life has left behind."""
    outage = service.inject(DOWN, times=None)
    with sending(service, shutdown_timeout=0.0) as sender:
        sender.log("a", "b")
        sender.handler.close()
        outage.remove()
        sender.deliver("c")
        assert notices(sender.messages) == [(0, 2, "closed: 2")]
        assert sender.messages[1:] == ["c"]
    assert "2 events undelivered" in capsys.readouterr().err


def test_losses_for_several_reasons_are_told_together(service: StrictService) -> None:
    """One event, with a count for each reason and the range of all."""
    outage = service.inject(DOWN, times=None)
    began = int(time.time()) - 3600.0
    with sending(service, retry=GIVE_UP, shutdown_timeout=0.0, send_interval=60.0) as sender:
        sender.log_at(began + 7, "a")
        sender.deliver()
        sender.log_at(began + 3, "b")
        sender.deliver()
        sender.log_at(began + 5, "c")
        sender.handler.close()
        outage.remove()
        sender.deliver("d")
        assert notices(sender.messages) == [(0, 3, "closed: 1, retries_exhausted: 2")]
        assert sender.messages[0].endswith(f"logged from {iso(began + 3)} to {iso(began + 7)}")


def test_a_loss_is_told_once(service: StrictService) -> None:
    """The batches that follow carry no notice; the next loss is a new one."""
    with sending(service, retry=GIVE_UP) as sender:
        for round_ in range(2):
            lose(sender, f"lost {round_}")
            sender.deliver("a")
            sender.deliver("b")
        assert notices(sender.messages) == [(0, 1, "retries_exhausted: 1"), (3, 1, "retries_exhausted: 1")]


def test_each_stream_tells_of_its_own_losses(service: StrictService) -> None:
    """A stream that lost nothing says nothing."""
    service.inject(DOWN, times=1, when=lambda put: put["logStreamName"] == "unlucky")
    with sending(service, log_stream_name="{logger_name}", retry=GIVE_UP) as sender:
        for _ in range(2):
            for stream in ("unlucky", "lucky"):
                sender.log_by(stream, "x")
            sender.deliver()
        assert service.messages(GROUP, "lucky") == ["x", "x"]
        assert notices(service.messages(GROUP, "unlucky")) == [(0, 1, "retries_exhausted: 1")]


def test_the_ledger_does_not_count_it(service: StrictService) -> None:
    """Accepted is what the application logged; delivered is what of that arrived."""
    with sending(service, retry=GIVE_UP) as sender:
        lose(sender, "lost")
        sender.deliver("a", "b")
        ledger = sender.handler.statistics()
        assert (ledger.accepted, ledger.delivered, ledger.dropped) == (3, 2, 1)
        assert balance(sender.handler) == 0
        assert len(sender.messages) == 3


def test_it_can_be_switched_off(service: StrictService) -> None:
    """``loss_notice=False``: the ledger counts, the stream is the application's alone."""
    with sending(service, retry=GIVE_UP, loss_notice=False) as sender:
        lose(sender, "lost")
        sender.deliver("a")
        assert sender.messages == ["a"]
        assert sender.handler.statistics().dropped_by_reason == {"retries_exhausted": 1}


@dataclass(frozen=True)
class LateReset:
    """Carries the request out, and breaks the connection when it is told to."""

    entered: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def play(self, exchange: Exchange) -> None:
        """Loses the answer."""
        exchange.carry_out()
        self.entered.set()
        exchange.wait(self.release)
        exchange.reset()


# -- how it is sent ------------------------------------------------------------------------------------------------


def log_full_count(sender: Sender) -> int:
    """A batch to which no event can be added."""
    sender.log(*range(MAX_BATCH_COUNT))
    return MAX_BATCH_COUNT


def log_full_size(sender: Sender) -> int:
    """A batch to which no byte can be added."""
    sender.log("x" * MAX_MESSAGE_SIZE)
    return 1


@pytest.mark.parametrize("log_full_batch", [log_full_count, log_full_size])
def test_a_full_batch_has_it_sent_ahead(service: StrictService, log_full_batch: Any) -> None:
    """With the notice the batch would break the service's limits."""
    with sending(service, retry=GIVE_UP, send_interval=60.0) as sender:
        lose(sender, "lost")
        count = log_full_batch(sender)
        sender.deliver()
        assert notices(sender.messages) == [(0, 1, "retries_exhausted: 1")]
        assert [len(sent(put)) for put in sender.puts if put.status == 200] == [1, count]
        assert sender.handler.statistics().delivered == count
    assert service.violations == []


@pytest.mark.parametrize("log_full_batch", [log_full_count, log_full_size])
def test_the_answer_to_one_sent_ahead_may_be_lost(log_full_batch: Any) -> None:
    """The service has the notice already; that says nothing about the batch behind it."""
    with (
        StrictService(enforce_tokens=True) as service,
        sending(service, retry={**QUICK, "give_up_after": 5.0}, send_interval=60.0, shutdown_timeout=0.0) as sender,
    ):
        lose_at_close(sender)
        service.inject(Reset(stored=True))
        count = log_full_batch(sender)
        sender.deliver()
        assert notices(sender.messages) == [(0, 1, "closed: 1")]
        assert len(sender.messages) == 1 + count
        assert sender.handler.statistics().delivered == count


def lose_at_close(sender: Sender) -> None:
    """Have one event dropped as ``closed``, whatever the retry policy; the handler goes on."""
    hang = Hang()
    injection = sender.service.inject(hang, operation=None, times=None)
    sender.log("lost")
    sender.handler.close()
    injection.remove()
    hang.release()


@pytest.mark.parametrize("enforce_tokens", [False, True])
def test_it_is_the_same_each_time_a_batch_is_tried(enforce_tokens: bool) -> None:
    """Whatever is lost meanwhile is told later: a service that enforces tokens must recognize the batch."""
    with StrictService(enforce_tokens=enforce_tokens) as service:
        arguments: dict[str, Any] = {"max_queue_size": room_for(2), "overflow": "drop_newest"}
        with sending(service, **arguments) as sender:
            hold = Hold()
            sender.deliver("000")
            service.inject(hold)
            sender.log("001")
            assert hold.entered.wait(PATIENCE)
            sender.log("002", "003")  # the latter does not fit
            lost = LateReset()
            service.inject(lost)
            hold.release.set()
            assert lost.entered.wait(PATIENCE)
            sender.log("004", "005")  # one fits
            lost.release.set()
            sender.deliver()
            sender.deliver("006")
            tries = [sent(put) for put in sender.puts if "002" in sent(put)]
            assert len(tries) == 2
            assert tries[0] == tries[1]
            stored = sender.messages if enforce_tokens else sender.messages[:2] + sender.messages[4:]
            assert list(filter(str.isdigit, stored)) == ["000", "001", "002", "004", "006"]
            assert notices(stored) == [(2, 1, "overflow: 1"), (4, 1, "overflow: 1")]


def test_a_batch_that_was_accepted_already_has_told_it() -> None:
    """The second answer says that the first was lost; the notice is not repeated with the next batch."""
    with StrictService(enforce_tokens=True) as service, sending(service, shutdown_timeout=0.0) as sender:
        lose_at_close(sender)
        service.inject(Reset(stored=True))
        sender.deliver("a")
        sender.deliver("b")
        assert notices(sender.messages) == [(0, 1, "closed: 1")]
        assert sender.messages[1:] == ["a", "b"]


def test_it_waits_for_a_stream_that_has_to_be_made_first(service: StrictService) -> None:
    """A stream deleted between the loss and the next batch: the notice is in the new one."""
    with sending(service, retry=GIVE_UP) as sender:
        sender.deliver("before")
        lose(sender, "lost")
        service.delete_log_group(GROUP)
        sender.deliver("after")
        assert notices(sender.messages) == [(0, 1, "retries_exhausted: 1")]
        assert sender.messages[1:] == ["after"]


# -- with events that the service does not take --------------------------------------------------------------------


def test_rejected_ranges_still_name_the_right_events(service: StrictService) -> None:
    """The indices of the service count the notice; those of ``on_rejected`` and of the ledger do not."""
    service.create_log_group(GROUP, retention_days=1)
    rejected: list[RejectedEvents] = []
    with sending(service, retry=GIVE_UP, send_interval=60.0, on_rejected=rejected.append) as sender:
        lose(sender, "lost")
        now = time.time()
        for age in (1.9, 1.8, 0.99, 0.95):  # days; the handler knows nothing of the group's retention
            sender.log_at(now - age * DAY, age)
        sender.deliver()
        sender.deliver("last")
        assert [(report.reason, [event.message for event in report.events]) for report in rejected] == [
            ("expired", ["1.9", "1.8"])
        ]
        ledger = sender.handler.statistics()
        assert (ledger.delivered, ledger.rejected) == (3, 2)
        assert [message for message in sender.messages if not NOTICE.fullmatch(message)] == ["0.99", "0.95", "last"]


def test_it_is_told_again_where_it_was_rejected_with_old_events(service: StrictService) -> None:
    """It bears the time of the first event of its batch, and shares its fate; the next batch tells again."""
    service.create_log_group(GROUP, retention_days=1)
    with sending(service, retry=GIVE_UP) as sender:
        lose(sender, "lost")
        sender.log_at(time.time() - 2 * DAY, "expired")
        sender.deliver()
        assert sender.messages == []
        sender.deliver("fresh")
        assert notices(sender.messages) == [(0, 1, "retries_exhausted: 1")]
        assert sender.messages[1:] == ["fresh"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_poisoned_batch_is_taken_apart_and_the_loss_still_told(service: StrictService, count: int) -> None:
    """The event at fault is rejected alone; the notice stands before those that arrived."""
    service.poison = lambda message: message == "poison"
    rejected: list[RejectedEvents] = []
    with sending(service, retry=GIVE_UP, send_interval=60.0, on_rejected=rejected.append) as sender:
        lose(sender, "lost")
        good = [str(number) for number in range(count - 1)]
        sender.deliver(*good, "poison")
        sender.deliver("last")
        assert [[event.message for event in report.events] for report in rejected] == [["poison"]]
        assert notices(sender.messages) == [(0, 1, "retries_exhausted: 1")]
        assert sender.messages[1:] == [*good, "last"]


def test_a_service_that_refuses_the_notice_gets_the_events(service: StrictService) -> None:
    """Nothing that the package says about itself may stand in the way of what the application says."""
    service.poison = lambda message: NOTICE.fullmatch(message) is not None
    with sending(service, retry=GIVE_UP) as sender:
        lose(sender, "lost")
        sender.deliver("a", "b")
        assert sender.messages == ["a", "b"]
        ledger = sender.handler.statistics()
        assert (ledger.delivered, ledger.rejected) == (2, 0)


def test_a_notice_keeps_to_a_lowered_limit(service: StrictService) -> None:
    """An endpoint that takes fewer events a batch is told that, and the notice counts as one of them."""
    with sending(service, retry=GIVE_UP, max_batch_count=3) as sender:
        lose(sender, "lost")
        sender.deliver("1", "2", "3", "4")
        assert max(len(sent(put)) for put in sender.puts) == 3
        assert [position for position, *_ in notices(sender.messages)] == [0]
        assert sender.messages[1:] == ["1", "2", "3", "4"]
