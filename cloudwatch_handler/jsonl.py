"""The lines of a segment, an event or a note in each, written and read back.

A person can read them with ``jq``::

    {"crc":3632233996,"n":17,"logGroupName":"my-app","logStreamName":"web","event":{"timestamp":…,"message":"…"}}
    {"crc":1404937530,"settled":[[0,16],[18,18]]}

``event`` is exactly what goes into the request, ``n`` counts the events, and a note names ranges of ``n`` that are
settled.

``crc`` tells whether a line is intact. That of an event is its CRC-32, begun with that of the names (and of what is
the same in all lines of a stream) plus ``n``; that of a note is the CRC-32 of its ranges.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from .event import EVENT_OVERHEAD, MAX_BATCH_SIZE, Destination, Event

#: No line is longer: a message of 1 MB, each byte of which JSON writes as six.
MAX_LINE_SIZE = 8 << 20
#: What a line is made of: its CRC-32, ``n``, the text of the head, and the event. (No function, for the log call.)
EVENT_LINE = b'{"crc":%d,"n":%d,%b%b}\n'

#: What is the same in all lines of a destination, its names among it, and the CRC-32 of that.
Head: TypeAlias = tuple[bytes, int]

_EVENT = re.compile(rb'\{"crc":(\d{1,10}),"n":(\d{1,10}),')
_EVENT_KEY = b'"event":'
_NOTE = re.compile(rb'\{"crc":(\d{1,10}),"settled":(\[[\d,\[\]]*\])\}')
_crc32 = zlib.crc32


class Line(NamedTuple):
    """An event that was read back, and its ``n``."""

    number: int
    event: Event


class Note(NamedTuple):
    """First and last ``n`` of each range that is settled."""

    ranges: Sequence[tuple[int, int]]


def note_line(ranges: Sequence[tuple[int, int]]) -> bytes:
    """The line that says which ranges of ``n`` are settled."""
    settled = json.dumps(ranges, separators=(",", ":")).encode()
    return b'{"crc":%d,"settled":%b}\n' % (_crc32(settled), settled)


def head_of(destination: Destination) -> Head:
    """What is the same in all lines of a destination."""
    group, stream = json.dumps(destination.log_group_name), json.dumps(destination.log_stream_name)
    text = f'"logGroupName":{group},"logStreamName":{stream},"event":'.encode()
    return text, _crc32(text)


@lru_cache(maxsize=1000)  # the events of one destination share it
def _destination_of(text: bytes) -> Destination:
    names = json.loads(b"{%b0}" % text)
    return Destination(str(names["logGroupName"]), str(names["logStreamName"]))


def parse(line: bytes) -> Line | Note | None:
    """What an intact line, without its end, says; None for one that is not."""
    # A write that was cut short may have left NUL bytes or half a line in front.
    event, note = _EVENT.match(line), _NOTE.fullmatch(line)
    try:
        if note and int(note[1]) == _crc32(note[2]):
            return Note([(int(first), int(last)) for first, last in json.loads(note[2])])
        if not event or not line.endswith(b"}}"):
            return None
        names, key, fragment = line[event.end() : -1].partition(_EVENT_KEY)
        text, number = names + key, int(event[2])
        # Before anything is made of it: garbage can be any JSON.
        if int(event[1]) != _crc32(fragment, (_crc32(text) + number) & 0xFFFFFFFF):
            return None
        content = json.loads(fragment)
        size = len(content["message"].encode()) + EVENT_OVERHEAD
        if size > MAX_BATCH_SIZE:
            return None
        return Line(number, Event(_destination_of(text), int(content["timestamp"]), size, fragment))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def ranges_of(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers, of numbers in order, none of them twice."""
    start = 0
    while start < len(numbers):
        first, end = numbers[start], len(numbers)
        if numbers[-1] - first != end - 1 - start:
            end = start + 1
            while end < len(numbers) and numbers[end] - first == end - start:
                end += 1
        yield first, numbers[end - 1]
        start = end
