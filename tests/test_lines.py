"""Lines of files, and the sample."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from cloudwatch_handler.lines import Lines, number_of, sample


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\nb\r", ["a\r", "b"]),
        (b"a\rb\n", ["a\rb"]),
        (b"\n\na\n\r\n", ["", "", "a", ""]),
        (b" a \n\t\n", [" a ", "\t"]),
        (b"a\x0bb\x0cc\x1cd\x00e\n", ["a\x0bb\x0cc\x1cd\x00e"]),
        ("a\x85b\u2028c\n".encode(), ["a\x85b\u2028c"]),
        ("Grüße, 東京 👍\n".encode(), ["Grüße, 東京 👍"]),
        (b"caf\xe9 \xff\xfe \xed\xa0\x80\n", ["caf\\xe9 \\xff\\xfe \\xed\\xa0\\x80"]),
        (b"%s %d {x}\n", ["%s %d {x}"]),
    ],
)
def test_a_line_ends_with_a_newline_and_with_nothing_else(data: bytes, lines: list[str]) -> None:
    """One carriage return before the newline goes, all other characters stay, and other bytes become escapes."""
    assert list(Lines(io.BytesIO(data))) == lines


def test_a_line_comes_as_soon_as_it_is_there() -> None:
    """A pipe is not read to its end first; and it has no size."""
    read, write = os.pipe()
    with open(read, "rb") as file, open(write, "wb", buffering=0) as pipe:
        pipe.write("ä\nb".encode())
        lines = Lines(file)
        iterator = iter(lines)
        assert (next(iterator), lines.bytes_read, lines.bytes_total) == ("ä", 3, None)
        pipe.close()
        assert (next(iterator), lines.bytes_read) == ("b", 4)


def test_a_regular_file_has_a_size(tmp_path: Path) -> None:
    """The bytes that are read add up to it."""
    path = tmp_path / "app.log"
    path.write_bytes("ä\r\n\nb".encode())
    with path.open("rb") as file:
        lines = Lines(file)
        assert (lines.bytes_read, lines.bytes_total) == (0, 6)
        assert list(lines) == ["ä", "", "b"]
        assert lines.bytes_read == 6


def test_what_is_no_file_of_the_system_has_no_size() -> None:
    """Bytes in memory, for one."""
    assert Lines(io.BytesIO(b"a\n")).bytes_total is None


def test_the_sample_has_what_gets_lost_elsewhere() -> None:
    """200 lines, none of them empty: other scripts, JSON, percent signs, and more than 256 KB."""
    lines = sample()
    assert len(lines) == 200
    assert all(lines)
    assert not any("\n" in line for line in lines)
    assert max(len(line.encode()) for line in lines) > 262_144
    assert any(not line.isascii() for line in lines)
    assert any("%s" in line for line in lines)
    assert any(json.loads(line)["items"] == ["a\nb", None, True] for line in lines if line.startswith("{"))


@pytest.mark.parametrize(("count", "text"), [(0, "0 lines"), (1, "1 line"), (2000, "2,000 lines")])
def test_a_number_and_its_noun_agree(count: int, text: str) -> None:
    """One is singular; thousands are separated."""
    assert number_of(count, "line") == text
