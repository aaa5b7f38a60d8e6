"""Where lines come from: a file, a pipe, or the sample that the demonstration uses when it is given nothing."""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

_START = datetime.datetime(2026, 3, 14, 9, 26, 53, 589_000)
_INTERVAL = datetime.timedelta(milliseconds=283)
_REQUESTS = 186
_ODDITIES = (
    "WARN  [billing] rounding 99.95 % of 1.234,50 € to 1.233,88 € (%s, %d and %(name)s stay as they are)",
    "INFO  [search] query='naïve café' hits=3",
    "INFO  [search] 検索語=東京都 件数=12",
    "INFO  [chat] Zoë: 👍🏽 👩\u200d💻 Пока!",
    "ERROR [worker-3] unhandled exception in job 4711",
    "Traceback (most recent call last):",
    '  File "jobs.py", line 42, in run',
    "    raise TimeoutError(f'{host} did not answer')",
    "TimeoutError: db-2.internal did not answer",
    "\ttab at the beginning, blanks at the end   ",
    " ",
    "'quotes', \"more\", back\\slashes, <angle> and \x1b[31mred\x1b[0m text, a carriage\rreturn, a \x00 byte",
    '{"event": "order", "id": 70013, "total": 49.9, "customer": "Žofie Müller", "items": ["a\\nb", null, true]}',
    # Longer than the 256 KB at which the service used to cut, and many programs still do.
    "DEBUG [cache] " + " ".join(f"key-{number:05d}=ß{number * number}" for number in range(20_000)),
)


class Lines:
    """The lines of a binary file, one after the other, in constant memory (the longest line has to fit).

    Lines end with a newline, or with a carriage return and a newline; the last one may end without. Any other carriage
    return, form feed or the like is part of its line. Bytes that are not UTF-8 come as backslash escapes.

    Args:
        file: is read from where it stands, and not closed.

    Attributes:
        bytes_read: so many bytes have been turned into lines.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0

    def __iter__(self) -> Iterator[str]:
        for raw in self._file:
            self.bytes_read += len(raw)
            yield raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "backslashreplace")

    @property
    def bytes_total(self) -> int | None:
        """The size of a regular file in bytes; None for a pipe, a terminal, or what is no file of the system."""
        try:
            status = os.fstat(self._file.fileno())
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None


def number_of(count: int, noun: str) -> str:
    """Such as ``"1 line"`` or ``"2,000 lines"``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def sample() -> list[str]:
    """200 lines as an application writes them, with some in the middle of the kind that gets lost elsewhere."""
    requests = [_request(number) for number in range(_REQUESTS)]
    return [*requests[: _REQUESTS // 2], *_ODDITIES, *requests[_REQUESTS // 2 :]]


def _request(number: int) -> str:
    time = (_START + number * _INTERVAL).isoformat(" ", "milliseconds")
    return f'{time} INFO  [web-{number % 4}] "GET /orders/{70_000 + number * 13}" 200 {number * 37 % 180 + 3} ms'
