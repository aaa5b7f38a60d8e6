"""The spool: everything that is logged is on disk, waits there in order when it must, and is forgotten once settled."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cloudwatch_handler import segment as segments
from cloudwatch_handler import spool as spools
from cloudwatch_handler.adoption import MAX_ADOPTED
from cloudwatch_handler.event import EVENT_MEMORY, Batch, Destination, Event
from cloudwatch_handler.ledger import DeliveryReport
from cloudwatch_handler.spool import Spool
from cloudwatch_handler.survey import survey
from tests.spools import HERE, Killed, Life, content, event, files, leave_behind, open_files

THERE = Destination("app", "there")
NUMBERS = range(50)
TEXTS = [str(number) for number in NUMBERS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is going to be."""
    return tmp_path / "spool"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refused is tried again at once, and full spools are measured at once."""
    monkeypatch.setattr(spools, "DISK_INTERVAL", 0.0)


def on_disk(path: Path) -> Counter[str]:
    """The messages that another process would find and send."""
    found: Counter[str] = Counter()
    for file in path.glob("*.jsonl"):
        messages, settled, _ = content(file)
        found.update(message for number, message in enumerate(messages) if number not in settled)
    return found


# -- there before the log call returns, and forgotten once it is settled ----------------------------------------------


def test_an_event_is_on_disk_when_the_log_call_returns(path: Path) -> None:
    """And memory has it, too, in the same order."""
    life = Life(path)
    for number in NUMBERS:
        life.log(number)
        assert on_disk(path) == Counter(TEXTS[: number + 1])
    assert [one.message for one in life.worker._buffer.intake] == TEXTS


def test_what_is_settled_is_forgotten(path: Path) -> None:
    """The directory is empty when there is nothing to do, again and again, and no file stays open."""
    life = Life(path)
    for number in range(300):
        life.log(number)
        life.run()
        assert files(path) == []
        assert len(open_files(path)) <= 1  # the directory
    assert life.messages == [str(number) for number in range(300)]


def test_a_batch_that_is_settled_is_not_sent_by_the_next_process(path: Path) -> None:
    """Of a segment that is settled in part the rest is sent, also when what is settled lies between."""
    life = Life(path, max_batch_count=7)
    for text in TEXTS:
        life.log(text, destination=HERE if int(text) % 2 else THERE)
    for _ in range(3):
        life.step()
    assert len(life.delivered) == 21
    life.die()
    heir = Life(path)
    heir.run()
    assert Counter(life.messages + heir.messages) == Counter(TEXTS)
    assert files(path) == []


def test_after_a_kill_one_batch_is_sent_again_at_most(path: Path) -> None:
    """The one that the service had taken when the process died."""
    life = Life(path, max_batch_count=7)
    life.log(*NUMBERS)
    life.step()
    life.dies = True
    with pytest.raises(Killed):
        life.step()
    life.die()
    heir = Life(path)
    heir.run()
    assert Counter(life.messages + heir.messages) == Counter(TEXTS) + Counter(TEXTS[7:14])


def test_a_rejected_event_is_forgotten_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service refuses, and what was given up, is not tried again by the next process."""
    life = Life(path)
    life.log("bad", "hopeless", "good")

    def attempt(batch: spools.Sequence[Event], **_: float) -> object:
        bad, hopeless, _ = batch.seal()  # type: ignore[attr-defined]
        return spools_report(delivered=1, rejected={"invalid": [bad]}, dropped={"retries_exhausted": [hopeless]})

    from cloudwatch_handler.ledger import DeliveryReport as spools_report

    monkeypatch.setattr(life, "attempt", attempt)
    life.run()
    assert files(path) == []
    assert (life.check().rejected, life.check().dropped) == (1, 1)


# -- memory as a window -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_in_memory_waits_on_disk_in_order(path: Path) -> None:
    """Nothing is dropped, the bound holds, and everything is delivered once and in order."""
    room = 10 * (EVENT_MEMORY + 60)
    life = Life(path, max_queue_size=room)
    life.works = False
    for text in TEXTS:
        life.log(text)
        life.step()
        books = life.check()
        assert books.queue_high_water_mark <= room
    assert books.dropped == 0
    assert books.spooled > 30
    life.works = True
    for text in ("x", "y", "z"):
        life.step()
        life.log(text)
        life.check()
    life.run()
    assert life.messages == [*TEXTS, "x", "y", "z"]
    assert life.check().queue_high_water_mark <= room
    assert files(path) == []


def test_an_event_larger_than_memory_is_delivered_all_the_same(path: Path) -> None:
    """It waits on disk until memory is empty."""
    life = Life(path, max_queue_size=1000)
    life.log("a", "b" * 5000, "c")
    life.run()
    assert [text[0] for text in life.messages] == ["a", "b", "c"]
    assert files(path) == []


def test_a_disk_with_more_than_fits_is_not_read_in_vain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no room for the next event, nothing is due that would read it again and again."""
    life = Life(path, max_queue_size=3000)
    life.works = False
    life.log("a", "b" * 2600, "c")
    life.run()
    reads = Counter[str]()
    real = os.pread
    monkeypatch.setattr(segments.os, "pread", lambda *where: (reads.update(["pread"]), real(*where))[1])
    for _ in range(20):
        life.step()
    assert reads["pread"] <= 2
    life.works = True
    life.run()
    assert len(life.delivered) == 3


def test_events_of_several_threads_stay_in_order(path: Path) -> None:
    """Each thread's own order is kept, while memory is full now and then and the service comes and goes."""
    life = Life(path, max_queue_size=40 * (EVENT_MEMORY + 60), max_batch_count=16)
    stop = threading.Event()

    def work(name: int) -> None:
        for number in range(1500):
            life.log(f"{name}:{number}", destination=Destination("app", str(name)))

    def drive() -> None:
        chance = random.Random(1)
        while not stop.is_set():
            life.works = chance.random() < 0.7
            life.step()

    crew = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    driver = threading.Thread(target=drive)
    for thread in (driver, *crew):
        thread.start()
    for thread in crew:
        while thread.is_alive():
            life.check()
            thread.join(0.001)
    stop.set()
    driver.join()
    life.works = True
    life.run()
    told = defaultdict(list)
    for destination, message in life.delivered:
        told[destination.log_stream_name].append(message)
    assert dict(told) == {str(name): [f"{name}:{number}" for number in range(1500)] for name in range(4)}
    assert files(path) == []


def test_close_leaves_everything_on_disk_and_a_later_record_goes_on_in_order(path: Path) -> None:
    """Closed during an outage: nothing is dropped; after a restart in the same process nothing is counted twice."""
    life = Life(path)
    life.works = False
    life.log(*NUMBERS)
    life.worker.close()
    books = life.check()
    assert (books.accepted, books.spooled, books.pending, books.dropped) == (50, 50, 0, 0)
    assert on_disk(path) == Counter(TEXTS)
    life.works = True
    life.log("later")
    life.run()
    assert life.messages == [*TEXTS, "later"]
    books = life.check()
    assert (books.accepted, books.delivered, books.spooled) == (51, 51, 0)
    assert files(path) == []


def test_close_in_the_middle_of_a_takeover_counts_nothing_twice(path: Path) -> None:
    """Events of a dead process that were read back, and those that were not yet: all come once."""
    dead = Life(path)
    dead.log(*NUMBERS)
    dead.die()
    heir = Life(path, max_queue_size=20 * (EVENT_MEMORY + 60), max_batch_count=5)
    heir.works = False
    heir.run()
    assert 0 < heir.check().pending < 50
    heir.worker.close()
    heir.check()
    heir.works = True
    heir.log("later")
    heir.run()
    assert Counter(heir.messages) == Counter([*TEXTS, "later"])
    assert heir.check().delivered == 51
    assert files(path) == []


def test_what_a_closed_handler_left_is_the_next_ones_also_in_the_same_process(path: Path) -> None:
    """It lets go of its files. In its own books they stay spooled, also when there is work again."""
    life = Life(path)
    life.works = False
    life.log(*NUMBERS)
    life.worker.close()
    heir = Life(path)
    assert heir.worker.recover(5.0)
    assert heir.messages == TEXTS
    life.works = True
    life.log("later")
    life.run()
    assert life.messages == ["later"]
    books = life.check()
    assert (books.accepted, books.delivered, books.spooled) == (51, 1, 50)
    assert files(path) == []


def test_a_batch_that_is_delivered_after_the_close_is_not_sent_again(path: Path) -> None:
    """Its answer came too late for the close, which had left it on disk by then."""
    life = Life(path)
    life.log(*NUMBERS)
    deliver = life.attempt

    def late(batch: Batch, **moment: float) -> DeliveryReport:
        report = deliver(batch, **moment)
        life.worker.driver.stopping = True
        life.worker.driver.abandon(silently=True)
        assert life.check().spooled == 50
        return report

    life.attempt = late  # type: ignore[method-assign, assignment]
    life.step()
    books = life.check()
    assert (books.delivered, books.spooled, books.pending) == (50, 0, 0)
    life.worker.driver.park()
    assert files(path) == []


def test_a_file_that_somebody_takes_away_is_noticed(path: Path) -> None:
    """What is in memory of it is in memory only, flush does not call it safe, and what comes goes into a new file."""
    life = Life(path)
    life.works = False
    life.log("one", "two")
    life.step()
    assert life.worker.flush(0.0, 0.0)
    for file in path.iterdir():
        file.unlink()
    assert not life.worker.flush(0.0, 0.0)
    assert sum("was taken away" in line for line in life.news()) == 1
    life.log("three")
    assert on_disk(path) == Counter(["three"])
    life.works = True
    life.run()
    assert life.messages == ["one", "two", "three"]
    life.check()
    assert files(path) == []


def test_an_event_that_was_logged_for_larger_batches_is_delivered(path: Path) -> None:
    """max_batch_size was lowered between two deployments; the event makes a batch of its own."""
    leave_behind(path, "x" * 5000, "y")
    life = Life(path, max_batch_size=2000)
    life.log("z")
    life.run()
    assert sorted(map(len, life.messages)) == [1, 1, 5000]
    assert files(path) == []


def test_whatever_is_wrong_with_a_segment_does_not_stop_the_rest(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw leaves that file to the next process, and what is in memory is delivered."""
    file = leave_behind(path, "one")

    def fail(*_: object) -> None:
        raise RecursionError

    life = Life(path)
    with monkeypatch.context() as patch:
        patch.setattr(segments.Segment, "settled", fail)
        life.log("two")
        life.run()
    assert life.messages == ["two"]
    assert caplog.text.count("cannot be read") == 1
    assert files(path) == [file.name]


class Lives(RuleBasedStateMachine):
    """Lives of a process, one after the other, on one directory: what is logged is delivered once, and in order.

    The order is that of one life: what a dead process has left comes when there is time, newer events or not.
    """

    @initialize(room=st.integers(5, 40), count=st.integers(1, 12))
    def begin(self, room: int, count: int) -> None:
        """The first life."""
        self.path = Path(mkdtemp()) / "spool"
        self.arguments = {"max_queue_size": room * (EVENT_MEMORY + 60), "max_batch_count": count}
        self.life = Life(self.path, **self.arguments)
        self.logged: dict[Destination, list[list[str]]] = {HERE: [[]], THERE: [[]]}  # in each life
        self.delivered: list[tuple[Destination, str]] = []
        self.kills = 0

    @rule(count=st.integers(1, 30), where=st.sampled_from([HERE, THERE]))
    def log(self, count: int, where: Destination) -> None:
        """Log calls."""
        for _ in range(count):
            text = str(sum(map(len, self.logged[where])))
            self.life.log(text, destination=where)
            self.logged[where][-1].append(text)

    @rule(works=st.booleans(), steps=st.integers(1, 5))
    def step(self, works: bool, steps: int) -> None:
        """The worker goes on."""
        self.life.works = works
        for _ in range(steps):
            self.life.step()

    @rule()
    def drain(self) -> None:
        """Another thread asks."""
        self.life.check()

    @rule()
    def close(self) -> None:
        """The handler is closed during an outage; later log calls start it again."""
        self.life.works = False
        self.life.worker.close()

    @rule(late=st.booleans())
    def die(self, late: bool) -> None:
        """The process is killed, perhaps when the service has taken a batch, and another begins."""
        self.life.works, self.life.dies = True, late
        if late:
            try:
                self.life.run()
            except Killed:
                self.kills += 1
        self._begin_again()

    def _begin_again(self) -> None:
        self.life.die()
        self.delivered += self.life.delivered
        self.life = Life(self.path, **self.arguments)
        for lives in self.logged.values():
            lives.append([])

    @invariant()
    def balances(self) -> None:
        """The ledger, and the bound on memory."""
        books = self.life.check()
        assert books.dropped == books.rejected == 0
        assert books.queue_high_water_mark <= self.arguments["max_queue_size"]

    @invariant()
    def is_on_disk(self) -> None:
        """What is not delivered is on disk."""
        missing = Counter((where, text) for where, lives in self.logged.items() for text in chain(*lives))
        missing -= Counter(self.delivered + self.life.delivered)
        lines = Counter[tuple[Destination, str]]()
        for file in self.path.glob("*.jsonl"):
            segment = segments.Segment.look(spools.Directory(self.path), file.stem)
            assert segment is not None
            settled = segment.settled()
            for line, _ in segment.read(0, segment.size):
                if isinstance(line, segments.Line) and line.number not in settled:
                    lines[line.event.destination, line.event.message] += 1
        assert not missing - lines

    def teardown(self) -> None:
        """In the end everything is delivered, and the directory is empty."""
        if not hasattr(self, "life"):
            return
        try:
            self._end()
        finally:
            self.life.die()
            shutil.rmtree(self.path.parent)

    def _end(self) -> None:
        self.life.works, self.life.dies = True, False
        self.life.run()
        assert self.life.worker.recover(5.0)  # it may have been closed, and at rest
        self.delivered += self.life.delivered
        told = Counter(self.delivered)
        assert all(told[where, text] for where, lives in self.logged.items() for text in chain(*lives))
        assert sum(told.values()) - len(told) <= self.kills * self.arguments["max_batch_count"]
        for where, lives in self.logged.items():
            first = {text: -at for at, (to, text) in reversed([*enumerate(self.delivered)]) if to == where}
            for texts in lives:
                assert sorted(texts, key=lambda text: -first[text]) == texts
        assert files(self.path) == []


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# -- the bound on the directory ---------------------------------------------------------------------------------------


def test_a_full_spool_leaves_the_rest_to_memory_and_to_the_overflow_policy(path: Path) -> None:
    """The directory keeps its bound, all that was accepted is accounted for, and it is said once each way."""
    size, room = 100_000, 20_000
    life = Life(path, max_spool_size=size, max_queue_size=room, overflow="drop_newest")
    life.works = False
    for number in range(2000):
        life.log(f"{number:0100d}")
    life.run()
    books = life.check()
    assert sum(file.stat().st_size for file in path.iterdir()) <= size
    assert books.accepted == 2000
    assert books.dropped == books.dropped_by_reason["overflow"] == 2000 - books.spooled - books.pending
    assert books.queue_high_water_mark <= room
    life.works = True
    life.run()
    life.log("more")
    life.run()
    assert life.check().delivered == 2001 - books.dropped
    assert len(life.delivered) == len(set(life.delivered))
    assert files(path) == []


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_what_is_on_disk_is_never_dropped(path: Path, overflow: spools.Overflow) -> None:  # type: ignore[name-defined]
    """When the spool is full, only events that are in memory alone give way."""
    life = Life(path, max_spool_size=40_000, max_queue_size=20_000, overflow=overflow)
    life.works = False
    for number in range(500):
        life.log(f"{number:0100d}")
    spooled = on_disk(path)
    life.works = True
    life.run()
    assert not spooled - Counter(life.messages)
    assert life.check().dropped == 500 - len(life.delivered) > 0


def test_a_full_spool_is_said_once(path: Path) -> None:
    """And once when there is room again."""
    life = Life(path, max_spool_size=40_000)
    life.works = False
    for number in range(500):
        life.spool.write(event(number), [])
    assert [line.split(",")[0] for line in life.news()] == ["the spool is full"]
    shutil.rmtree(path)
    for number in range(10):
        life.spool.write(event(number), [])
    assert [line.split(" (")[0] for line in life.news()] == ["the spool has room for events again"]


def test_others_in_the_directory_count(path: Path) -> None:
    """The bound is the directory's, not the process's."""
    other = Life(path, max_spool_size=40_000)
    while other.spool.write(event("x" * 100), []):
        pass
    assert not Life(path, max_spool_size=40_000).spool.write(event("y"), [])


def test_a_file_that_the_spool_deletes_was_not_taken_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush looks whether all is there at any time, also between the deletion and the moment when that is known."""
    life = Life(path)
    unlink, looks = os.unlink, []

    def unlink_and_look(*arguments: Any, **named: Any) -> None:
        unlink(*arguments, **named)
        looks.append((life.spool.is_whole(), life.news()))

    monkeypatch.setattr(os, "unlink", unlink_and_look)
    life.log("one")
    life.run()
    assert looks == [(True, [])]


def test_a_large_spool_needs_few_files(path: Path) -> None:
    """A segment is a part of the bound, so that their number is bounded, and so is that of open files."""
    spool = Spool(path, 4 << 20)
    while spool.write(event("x" * 1000), []):
        pass
    assert len(files(path)) <= spools.SEGMENT_PART + 2
    assert len(files(path)) <= len(open_files(path)) <= spools.SEGMENT_PART + 3
    spool.forget()


# -- taking over ------------------------------------------------------------------------------------------------------


def test_handlers_of_one_process_share_a_directory(path: Path) -> None:
    """Neither takes anything from the other, whoever looks, and both empty it."""
    one, two = Life(path), Life(path)
    one.works = two.works = False
    one.log("one")
    two.log("two")
    for life in (one, two):
        life.spool.adopt(at_once=True)
        life.run()
        assert life.check().accepted == 1
        life.works = True
        life.run()
    assert (one.messages, two.messages) == (["one"], ["two"])
    assert files(path) == []


def test_a_pid_in_a_name_means_nothing(path: Path) -> None:
    """The segment of a dead process whose pid is alive again (here: our own) is taken over."""
    left = leave_behind(path, "old")
    assert f"-{os.getpid()}-" in left.name
    heir = Life(path)
    heir.run()
    assert heir.messages == ["old"]


def test_many_dead_processes_are_taken_over_a_few_at_a_time(path: Path) -> None:
    """So that open files stay few; none is forgotten, the oldest come first, and the ledger counts all."""
    for number in range(3 * MAX_ADOPTED):
        leave_behind(path, number)
    heir = Life(path)
    heir.works = False
    heir.run()
    assert MAX_ADOPTED <= len(open_files(path)) <= MAX_ADOPTED + 1
    heir.works = True
    heir.run()
    assert heir.messages == [str(number) for number in range(3 * MAX_ADOPTED)]
    assert heir.check().delivered == heir.check().accepted == 3 * MAX_ADOPTED
    assert files(path) == []


def test_an_empty_segment_of_a_dead_process_goes(path: Path) -> None:
    """It was killed between making the file and writing the first line."""
    leave_behind(path)
    Life(path).run()
    assert files(path) == []


def test_survey_tells_what_lies_there(path: Path) -> None:
    """Owner, events that are not settled, damage, size, oldest and where they go; and it changes nothing."""
    dead = leave_behind(path, "a", "b", "c", settled=[(0, 0)])
    with dead.open("ab") as file:
        file.write(b"garbage\n")
    life = Life(path)
    life.log("d")
    (path / "link.jsonl").symlink_to(dead)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    first, second = survey(path)
    assert (first.owner_alive, first.events, first.damaged, first.streams) == (False, 2, 1, ("app/web",))
    assert (second.owner_alive, second.events, second.damaged) == (True, 1, 0)
    assert first.name == dead.name
    assert first.size == dead.stat().st_size
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    life.die()


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_segment_is_delivered_once_as_far_as_it_goes(path: Path) -> None:
    """The intact lines are sent, the damage is said once, and the file is kept aside and not tried again."""
    left = leave_behind(path, *NUMBERS)
    data = bytearray(left.read_bytes())
    data[data.index(b'"7"') + 1] ^= 1
    left.write_bytes(data)
    heir = Life(path)
    heir.run()
    assert heir.messages == [text for text in TEXTS if text != "7"]
    assert files(path) == [f"{left.stem}.corrupt"]
    heir.check()
    heir.die()
    again = Life(path)
    again.run()
    assert again.messages == []
    assert files(path) == [f"{left.stem}.corrupt"]


def test_damage_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many lines, how many bytes of a torn one, in which file."""
    left = leave_behind(path, "one", "two", "three")
    data = left.read_bytes()
    left.write_bytes(data.replace(b"two", b"owt")[:-7])
    said: list[str] = []
    heir = Life(path)
    monkeypatch.setattr(heir.worker.driver.diagnostics, "say", said.append)
    heir.run()
    (line,) = said
    assert left.name in line
    assert "1 damaged lines" in line
    assert f"{len(data.splitlines()[2]) - 6} bytes" in line


@pytest.mark.parametrize("seed", range(20))
def test_no_damage_stops_the_rest(path: Path, seed: int) -> None:
    """Bytes flipped, cut out and put in at random in some of several segments: intact events come, exactly once."""
    chance = random.Random(seed)
    expected = Counter[str]()
    for number in range(5):
        left = leave_behind(path, *[f"{number}:{text}" for text in TEXTS], settled=[(0, 9)])
        data = bytearray(left.read_bytes())
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(data))
            data[at : at + chance.choice([0, 1, 100])] = chance.randbytes(chance.choice([0, 1, 100]))
        left.write_bytes(data)
        messages, settled, _ = content(left)
        intact = {text for text in messages if int(text.split(":")[1]) not in settled}
        expected += Counter(intact)
    heir = Life(path)
    heir.run()
    assert Counter(heir.messages) == expected
    heir.check()
    assert list(path.glob("*.jsonl")) == []
    heir.die()
    again = Life(path)
    again.run()
    assert again.messages == []


def spooled_away(path: Path) -> tuple[Life, Path]:
    """A process of whose fifty events about forty wait on disk only, and its segment."""
    life = Life(path, max_queue_size=10 * (EVENT_MEMORY + 60))
    life.works = False
    life.log(*NUMBERS)
    life.run()
    (file,) = path.iterdir()
    return life, file


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_own_events_that_are_damaged_while_they_wait_stay_in_the_books_as_spooled(path: Path, damage: str) -> None:
    """The others are delivered, the worker comes to rest, and the ledger balances."""
    life, file = spooled_away(path)
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data.replace(b'"40"', b'"04"'))
    else:
        os.truncate(file, len(data) // 2 if damage == "truncate" else 0)
    life.works = True
    life.run()
    books = life.check()
    assert books.spooled == 50 - len(life.delivered) > 0
    assert len(life.delivered) == len(set(life.messages))
    assert (damage == "flip") == (len(life.delivered) == 49)
    assert [Path(name).suffix for name in files(path)] == [".corrupt"]
    assert life.worker.flush(1.0, 1.0)
    life.log("later")
    life.run()
    assert life.messages[-1] == "later"


def test_a_segment_that_cannot_be_read_is_left_to_the_next_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk is said once, is not tried again and again, and deletes nothing."""
    leave_behind(path, "unlucky")
    heir = Life(path)

    def pread(*_: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "pread", pread)
        heir.run()
    heir.log("lucky")
    heir.run()
    heir.spool.adopt(at_once=True)
    heir.run()
    assert heir.messages == ["lucky"]
    assert len(files(path)) == 1
    heir.die()
    again = Life(path)
    again.run()
    assert again.messages == ["unlucky"]


def test_a_segment_that_cannot_be_deleted_is_not_sent_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by this process, which goes on trying to delete it, and not by the next, which reads that it is settled."""

    def unlink(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    leave_behind(path, "one")
    life = Life(path)
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "unlink", unlink)
        for number in range(20):
            life.log(number)
            life.run()
            life.spool.adopt(at_once=True)
        assert len(files(path)) == 2
        assert len(life.spool.news.take()) <= 2
        life.die()
        again = Life(path)
        again.run()
        assert again.messages == []
    again.spool.adopt(at_once=True)
    assert files(path) == []
    assert Counter(life.messages) == Counter(["one", *map(str, range(20))])


@pytest.mark.parametrize("make", [lambda file: file.symlink_to("/etc/passwd"), Path.mkdir], ids=["link", "directory"])
def test_what_is_no_segment_is_left_alone(path: Path, make: Callable[[Path], None]) -> None:
    """It is said once, nothing in it is touched, and segments beside it are taken over."""
    leave_behind(path, "one")
    make(path / "0.jsonl")
    life = Life(path)
    said: list[str] = []
    for _ in range(3):
        life.spool.adopt(at_once=True)
        said += life.news()
        life.run()
    assert life.messages == ["one"]
    assert files(path) == ["0.jsonl"]
    assert len(said) == 1


# -- a disk that refuses ----------------------------------------------------------------------------------------------


@contextmanager
def full_disk(patch: pytest.MonkeyPatch, *, written: int = 0) -> Iterator[None]:
    """A disk on which only the first bytes of a line find room."""

    def write(file: int, line: bytes) -> int:
        if written:
            return os.write(file, line[:written])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.context() as context:
        context.setattr(segments, "_write", write)
        yield


@pytest.mark.parametrize("written", [0, 10])
def test_a_full_disk_degrades_to_memory_and_recovers(path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """Said once each way; nothing is lost, no file piles up, and no damage stays behind."""
    life = Life(path)
    life.works = False
    life.log("before")
    with full_disk(monkeypatch, written=written):
        life.log(*range(30))
        assert len(files(path)) == 1
        assert len(open_files(path)) <= 2  # the directory and that file
    first = life.news()
    assert len(first) == 1
    assert os.strerror(errno.ENOSPC) in first[0]
    assert on_disk(path) == Counter(["before"])
    life.log("after")
    assert [line.split(" (")[0] for line in life.news()] == ["the spool takes events again"]
    assert on_disk(path) == Counter(["before", "after"])
    life.works = True
    life.run()
    assert life.messages == ["before", *map(str, range(30)), "after"]
    assert files(path) == []


def test_a_disk_that_refuses_is_left_alone_for_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log calls do not try again and again."""
    monkeypatch.setattr(spools, "DISK_INTERVAL", 5.0)
    life = Life(path)
    tries = Counter[str]()
    real = segments.Segment.create
    with full_disk(monkeypatch):
        monkeypatch.setattr(segments.Segment, "create", lambda *where: (tries.update(["create"]), real(*where))[1])
        life.log(*range(1000))
    assert tries["create"] <= 2
    assert life.check().pending == 1000


def test_a_file_that_may_not_grow_is_followed_by_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the length of a file is limited, nothing has to degrade."""

    def write(file: int, line: bytes) -> int:
        if os.fstat(file).st_size + len(line) > 1000:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return os.write(file, line)

    monkeypatch.setattr(segments, "_write", write)
    life = Life(path)
    life.log(*NUMBERS)
    assert on_disk(path) == Counter(TEXTS)
    assert life.news() == []
    life.run()
    assert life.messages == TEXTS


def _file_in_place(path: Path) -> None:
    path.write_text("no directory")


def _link_in_place(path: Path) -> None:
    (path.parent / "target").mkdir()
    path.symlink_to(path.parent / "target")


def _parent_is_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("no directory")


@pytest.mark.parametrize("hinder", [_file_in_place, _link_in_place, _parent_is_a_file])
def test_without_a_directory_events_are_in_memory_until_there_is_one(
    tmp_path: Path, hinder: Callable[[Path], None]
) -> None:
    """Said once each way; a link is not followed."""
    path = tmp_path / "parent" / "spool"
    path.parent.mkdir()
    life = Life(path)
    life.works = False
    hinder(path)
    life.log("one", "two")
    life.spool.adopt(at_once=True)
    said = life.news()
    assert len(said) == 1
    assert str(path) in said[0]
    assert files(tmp_path / "parent" / "target") == []
    (path if path.is_symlink() or path.is_file() else path.parent).unlink()
    life.log("three", "four")
    assert on_disk(path) == Counter(["three", "four"])
    assert len(life.news()) == 1
    life.works = True
    life.run()
    assert life.messages == ["one", "two", "three", "four"]


def test_a_directory_that_is_removed_is_made_again(path: Path) -> None:
    """What was on disk there stays in memory; from the next look on, events are on disk again."""
    life = Life(path)
    life.works = False
    life.log("one")
    shutil.rmtree(path)
    life.spool.adopt(at_once=True)
    life.log("two")
    assert on_disk(path) == Counter(["two"])
    life.works = True
    life.run()
    assert life.messages == ["one", "two"]
    assert files(path) == []


def test_a_note_that_cannot_be_written_is_said_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivery goes on; the file goes when all of it is settled."""
    life = Life(path, max_batch_count=5)
    life.log(*NUMBERS)
    with full_disk(monkeypatch):
        for _ in range(5):
            life.step()
        assert len(life.news()) <= 1
    life.run()
    assert life.messages == TEXTS
    assert files(path) == []


# -- a log call within a log call -------------------------------------------------------------------------------------


@pytest.mark.parametrize("diverting", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_log_call_may_interrupt_another_at_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, when: str, diverting: bool
) -> None:
    """As a signal handler does: both events are on disk, none is counted twice, and both are delivered."""
    life = Life(path, max_queue_size=2 * (EVENT_MEMORY + 60))
    life.works = False
    life.log(*range(5) if diverting else range(1))
    life.run()
    assert life.spool.diverting == diverting
    real = os.write
    nested = iter(["nested"])

    def write(file: int, line: bytes) -> int:
        written = real(file, line) if when == "after" else 0
        for text in nested:
            life.log(text)
        return written or real(file, line)

    monkeypatch.setattr(segments, "_write", write)
    life.log("outer", "last")
    expected = Counter([*map(str, range(5 if diverting else 1)), "outer", "nested", "last"])
    assert on_disk(path) == expected
    life.check()
    life.works = True
    life.run()
    assert Counter(life.messages) == expected
    assert life.messages.index("last") > life.messages.index("outer")
    assert life.check().delivered == len(life.messages)
    assert files(path) == []


def test_a_flush_may_interrupt_a_log_call_at_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a signal handler: what it settles does not take away the segment that is being written to."""
    life = Life(path)
    life.log("first")
    real = os.write
    nested = iter([life.run])

    def write(file: int, line: bytes) -> int:
        for run in nested:
            run()
        return real(file, line)

    monkeypatch.setattr(segments, "_write", write)
    life.log("second")
    assert on_disk(path)["second"] == 1
    life.run()
    assert life.messages == ["first", "second"]
    assert files(path) == []
