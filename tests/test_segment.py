"""Segments: what is written comes back, whatever becomes of the file, and a segment has one owner."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudwatch_handler import segment as segments
from cloudwatch_handler.directory import SUFFIX, Directory
from cloudwatch_handler.event import Destination, encode
from cloudwatch_handler.jsonl import MAX_LINE_SIZE, Line, Note, head_of, parse, ranges_of
from cloudwatch_handler.segment import INDEX_STEP, Segment
from cloudwatch_handler.waiting import monotonic
from tests.spools import FOREVER, HERE, append, content, event, files, leave_behind

TEXTS = ["first", 'second "event": {"n":1}', "dritte Zeile\nmit Umbruch", "4 \x00\x7f 😀"]


def create(path: Path) -> Segment:
    """A new segment in a directory, which is made."""
    return Segment.create(Directory.make(path), FOREVER)


def look(path: Path) -> Segment:
    """A segment opened to read."""
    found = Segment.look(Directory(path.parent), path.name[: -len(SUFFIX)])
    assert found is not None
    return found


def adopt(path: Path) -> Segment | None:
    """A segment taken over, if it can be."""
    return Segment.adopt(Directory(path.parent), path.name[: -len(SUFFIX)])


# -- what is written comes back ---------------------------------------------------------------------------------------


@given(st.text(max_size=50), st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.integers(0, 2**40))
def test_an_event_comes_back_as_it_was_written(text: str, group: str, stream: str, timestamp: int) -> None:
    """Whatever is in its message and in its names: destination, timestamp, size and fragment are the same."""
    written = encode(Destination(group, stream), timestamp, text)
    head, crc = head_of(written.destination)
    line = b'{"crc":%d,"n":7,%b%b}' % (
        segments._crc32(written.fragment, (crc + 7) & 0xFFFFFFFF), head, written.fragment)  # fmt: skip
    assert parse(line) == Line(7, written)


def test_a_person_can_read_a_segment(tmp_path: Path) -> None:
    """Each line is a JSON object with the names, the number and the event, or with ranges of numbers."""
    path = leave_behind(tmp_path / "spool", *TEXTS, settled=[(0, 1), (3, 3)])
    *lines, note = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"]["message"] for line in lines] == TEXTS
    assert {(line["logGroupName"], line["logStreamName"]) for line in lines} == {HERE}
    assert [line["n"] for line in lines] == [0, 1, 2, 3]
    assert note["settled"] == [[0, 1], [3, 3]]


def test_each_event_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a kill finds the whole line there, or nothing of it."""
    written: list[bytes] = []

    def write(file: int, line: bytes) -> int:
        written.append(line)
        return os.write(file, line)

    monkeypatch.setattr(segments, "_write", write)
    append(create(tmp_path), event("one"), event("two"))
    assert [line.count(b"\n") for line in written] == [1, 1]


def test_reading_can_go_on_where_it_stopped(tmp_path: Path) -> None:
    """The position that comes with each line is where the next one begins, and where the event can be found again."""
    path = leave_behind(tmp_path, *range(3 * INDEX_STEP))
    whole = look(path)
    lines = list(whole.read(0, whole.size))
    for number in (0, 1, INDEX_STEP - 1, INDEX_STEP, 3 * INDEX_STEP - 2):
        rest = [line for line, _ in whole.read(lines[number][1], whole.size)]
        assert rest == [line for line, _ in lines[number + 1 :]]
        found = [line.number for line, _ in whole.read(whole.position_of(number), whole.size) if isinstance(line, Line)]
        assert number in found[:INDEX_STEP]


def test_what_comes_later_than_the_stop_is_not_read(tmp_path: Path) -> None:
    """A line that is being written while another thread reads is for the next reading."""
    segment = create(tmp_path)
    append(segment, event("one"))
    stop = segment.size
    append(segment, event("two"))
    assert [line.event.message for line, _ in segment.read(0, stop) if isinstance(line, Line)] == ["one"]


@given(st.lists(st.integers(0, 60), unique=True).map(sorted))
def test_ranges_are_what_was_settled(numbers: list[int]) -> None:
    """Runs of consecutive numbers become ranges, as few as possible, and nothing else gets in."""
    ranges = list(ranges_of(numbers))
    assert [number for first, last in ranges for number in range(first, last + 1)] == numbers
    assert all(second[0] - first[1] > 1 for first, second in pairwise(ranges))


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_segment_cut_at_any_byte_gives_the_lines_before(tmp_path: Path) -> None:
    """The complete lines come back, an incomplete one is told by its length, and notes that are whole count."""
    path = leave_behind(tmp_path, *TEXTS, settled=[(0, 1)])
    data = path.read_bytes()
    ends = [end for end, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        messages, settled, damaged = content(path)
        assert messages == TEXTS[: sum(end <= cut for end in ends[: len(TEXTS)])]
        assert settled == ({0, 1} if cut >= ends[-1] else set())
        assert damaged == 0
        segment = look(path)
        list(segment.read(0, segment.size))
        assert segment.torn == (0 if cut in ends else cut - max([0, *[end + 1 for end in ends if end < cut]]))


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x20, 0x80])
def test_a_flipped_bit_costs_no_line_but_its_own(tmp_path: Path, mask: int) -> None:
    """A bit of each byte in turn: other lines come back, the damaged one is told, and no altered event comes."""
    path = leave_behind(tmp_path, *TEXTS, settled=[(0, 0)])
    data = path.read_bytes()
    owners = [data[:at].count(b"\n") for at in range(len(data))]
    for at, owner in enumerate(owners):
        path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
        messages, settled, damaged = content(path)
        lost = {owner, owner + 1} if data[at] == ord("\n") else {owner}
        assert messages == [text for number, text in enumerate(TEXTS) if number not in lost]
        assert settled == (set() if len(TEXTS) in lost else {0})
        assert damaged >= 1 or owner == len(TEXTS), (at, owner)


@given(st.binary(max_size=300))
def test_no_bytes_are_an_error(data: bytes) -> None:
    """Whatever stands in a line, it is an event, a note, or nothing."""
    assert parse(data) is None or isinstance(parse(data), Line | Note)


@pytest.mark.parametrize(
    "fragment",
    [b"{}", b'{"timestamp":1}', b'{"timestamp":"x","message":"x"}', b'{"timestamp":1,"message":2}', b'{"message":}'],
)
def test_a_line_that_is_intact_but_no_event_is_damage(fragment: bytes) -> None:
    """The checksum of somebody else's line is right, and still it cannot be sent."""
    head, crc = head_of(HERE)
    assert parse(b'{"crc":%d,"n":0,%b%b}' % (segments._crc32(fragment, crc), head, fragment)) is None


def test_a_note_of_numbers_that_cannot_be_costs_nothing(tmp_path: Path) -> None:
    """A range is cut to what a file of that length could hold."""
    path = leave_behind(tmp_path, "one", settled=[(0, 1 << 60)])
    assert len(content(path)[1]) <= path.stat().st_size + 1


@pytest.mark.parametrize("garbage", [b"x" * (MAX_LINE_SIZE + 3_000_000), b"\0" * 5000, b"\n" * 5000], ids="xn0"[:3])
def test_garbage_before_an_event_does_not_hide_it(tmp_path: Path, garbage: bytes) -> None:
    """However long it is."""
    path = leave_behind(tmp_path, "after")
    path.write_bytes(garbage + b"\n" + path.read_bytes())
    assert content(path)[0] == ["after"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"crc":1,"n":1,"logGroupName":' + b"[" * 100_000 + b'"event":{}}',
        b'{"crc":1,"n":1,' + b'"event":{' * 200_000,
        b'{"crc":1,"n":1,"event":' + b'{"crc":1,"n":1,"event":{}}' * 200_000,
    ],
    ids=["deep", "unfinished", "joined"],
)
def test_garbage_of_any_shape_is_told_apart_at_once(line: bytes) -> None:
    """Its checksum is looked at before anything is made of it, in one pass over the bytes."""
    began = monotonic()
    assert parse(line) is None
    assert monotonic() - began < 1


def test_a_segment_that_is_written_to_until_it_is_adopted_is_adopted_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner logs and dies between the look at the file and the lock on it."""
    directory = Directory.make(tmp_path / "spool")
    owner = Segment.create(directory, FOREVER)
    append(owner, event("one"))
    lock = Segment._lock

    def later(segment: Segment) -> bool:
        append(owner, event("two"))
        owner.close()
        return lock(segment)

    monkeypatch.setattr(Segment, "_lock", later)
    heir = Segment.adopt(directory, owner.name)
    assert heir is not None
    assert [line.event.message for line, _ in heir.read(0, heir.size) if isinstance(line, Line)] == ["one", "two"]


def test_a_note_behind_a_torn_line_is_whole(tmp_path: Path) -> None:
    """The note of who takes over a torn segment begins on a line of its own."""
    path = leave_behind(tmp_path, "one", "two")
    path.write_bytes(path.read_bytes()[:-5])
    segment = adopt(path)
    assert segment is not None
    segment.note([(0, 0)])
    assert content(path) == (["one"], {0}, 1)


@pytest.mark.parametrize("write", ["event", "note"])
def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    """On a full disk the beginning of a line may be written: it is removed again, and the caller hears of it."""
    segment = create(tmp_path)
    append(segment, event("one"))
    size = segment.size
    with monkeypatch.context() as patch:
        patch.setattr(segments, "_write", lambda file, line: os.write(file, line[:10]))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            append(segment, event("two")) if write == "event" else segment.note([(0, 0)])
    assert segment.size == segment.length() == size
    append(segment, event("three"))
    assert content(tmp_path / (segment.name + SUFFIX)) == (["one", "three"], set(), 0)


# -- whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_segment_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Mode 0600, and the directory's 0700."""
    before = os.umask(umask)
    try:
        segment = create(tmp_path / "spool")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "spool" / (segment.name + SUFFIX)).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_a_directory_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    """One that was there before loses what it granted to group and others."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o755)
    create(tmp_path / "spool")
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_a_segment_has_one_owner(tmp_path: Path) -> None:
    """Nobody adopts it while somebody has it, also in the same process, and anybody may once he let go."""
    segment = create(tmp_path)
    path = tmp_path / (segment.name + SUFFIX)
    assert adopt(path) is None
    assert look(path).is_owned()
    segment.close()
    assert not look(path).is_owned()
    heir = adopt(path)
    assert heir is not None
    assert adopt(path) is None


@pytest.mark.parametrize("damaged", [0, 1], ids=["deleted", "kept as corrupt"])
def test_who_comes_late_adopts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: int) -> None:
    """He had opened the file before its owner took it away, and gets the lock on what has no name any more."""
    path = leave_behind(tmp_path, "one")
    owner = adopt(path)
    assert owner is not None
    owner.damaged = damaged

    def flock(file: int, how: int) -> None:
        owner.remove()
        fcntl_flock(file, how)

    fcntl_flock = fcntl.flock
    monkeypatch.setattr(segments.fcntl, "flock", flock)
    assert adopt(path) is None
    assert files(tmp_path) == ([path.name.replace(SUFFIX, ".corrupt")] if damaged else [])


def _adopter(path: Path, *, removes: bool) -> Callable[[], object]:
    def adopts() -> object:
        (name,) = (file for file in path.iterdir())
        heir = adopt(name)
        assert heir is not None
        return heir.remove() if removes else heir

    return adopts


@pytest.mark.parametrize("removes", [True, False], ids=["was there and gone", "is there"])
def test_a_new_segment_that_was_adopted_before_it_was_locked_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removes: bool
) -> None:
    """An adopter comes between making the file and locking it: the next name is tried."""
    adopts, kept = _adopter(tmp_path, removes=removes), []
    real = fcntl.flock

    def flock(file: int, how: int) -> None:
        monkeypatch.setattr(segments.fcntl, "flock", real)
        kept.append(adopts())
        real(file, how)

    monkeypatch.setattr(segments.fcntl, "flock", flock)
    segment = create(tmp_path)
    append(segment, event("one"))
    assert content(tmp_path / (segment.name + SUFFIX))[0] == ["one"]
    assert len(kept) == 1


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(leave_behind(path.parent / "elsewhere", "stolen").read_bytes())
    path.symlink_to(target)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [_link, Path.mkdir, os.mkfifo, _socket], ids=["link", "directory", "pipe", "socket"])
@pytest.mark.parametrize("open_it", [adopt, look])
def test_what_is_no_file_is_no_segment(tmp_path: Path, make: Callable[[Path], None], open_it: Any) -> None:
    """A link is not followed, and nobody waits for the other end of a pipe."""
    path = tmp_path / f"1{SUFFIX}"
    make(path)
    with pytest.raises(OSError, match=r".+"):
        open_it(path)


def test_a_directory_is_not_reached_through_a_link(tmp_path: Path) -> None:
    """Neither to write nor to look."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for open_it in (Directory.make, Directory):
        with pytest.raises(OSError, match=r".+"):
            open_it(tmp_path / "link")


def test_time_sorts_segments(tmp_path: Path) -> None:
    """The name of an older one comes first."""
    names = [create(tmp_path).name for _ in range(3)]
    assert sorted(names) == names
