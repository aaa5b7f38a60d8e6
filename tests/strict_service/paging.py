"""Pages: page tokens with their 24 hours of life, and cutting stored events into pages.

A position is a *cut* in the order of (timestamp, sequence): forward lies what is at or after the
cut, backward what is before it. None is the open end that a read starts from.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from .shapes import Refused, invalid

TOKEN_LIFE_MS = 24 * 3600 * 1000
MAX_PAGE_BYTES = 1_048_576


class Row(NamedTuple):
    """A stored event; rows sort by timestamp, then by order of acceptance."""

    timestamp: int
    sequence: int
    message: str
    ingestion_time: int
    visible_at: int
    size: int
    stream: str


Cut = tuple[int, int]
_cut_of = itemgetter(0, 1)


@dataclass(slots=True)
class _Token:
    scope: str
    position: object
    issued_ms: int


class Tokens:
    """The page tokens that were issued, each with the read it belongs to and its position."""

    def __init__(self) -> None:
        self._tokens: dict[str, _Token] = {}

    def issue(self, scope: str, position: object, *, now: int) -> str:
        """A new token that continues the read ``scope`` at ``position``."""
        token = f"{scope[0]}/{len(self._tokens):056d}/s"
        self._tokens[token] = _Token(scope, position, now)
        return token

    def find(self, token: str, scopes: tuple[str, ...], *, now: int) -> tuple[str, object]:
        """The scope and position of a token.

        Raises:
            Refused: if it was never issued, belongs to another read, or is older than 24 hours.
        """
        found = self._tokens.get(token)
        if found is None or found.scope not in scopes:
            raise invalid("The specified nextToken is invalid.")
        if now - found.issued_ms > TOKEN_LIFE_MS:
            raise invalid("The specified nextToken has expired.")
        return found.scope, found.position

    def move(self, token: str, position: object) -> None:
        """Lets an issued token continue somewhere else."""
        self._tokens[token].position = position


@dataclass(frozen=True, slots=True)
class Window:
    """What one read looks at: times in ms (``high`` is exclusive), limits of a page, the filter.

    ``span_ms`` is the longest quiet period that one page crosses; None for no such cut.
    """

    low: int | None
    high: int | None
    now: int
    limit: int
    page_size: int
    span_ms: int | None
    matches: Callable[[str], bool] | None = None


class Page(NamedTuple):
    """Rows in the direction of the read, the cut after them, and whether more lies ahead."""

    rows: list[Row]
    cut: Cut | None
    more: bool


def read_page(streams: Iterable[list[Row]], cut: Cut | None, window: Window, *, forward: bool) -> Page:
    """Cuts one page out of sorted rows: by count, by bytes, and by time in a quiet period."""
    if cut is None:
        edge = window.low if forward else window.high
        cut = None if edge is None else (edge, 0)
    ahead: Iterator[Row] = heapq.merge(
        *(_ahead(rows, cut, window, forward=forward) for rows in streams), reverse=not forward
    )
    page: list[Row] = []
    size = 0
    for scanned, row in enumerate(ahead):
        if cut is not None and window.span_ms is not None:
            gap = row.timestamp - cut[0]
            if abs(gap) > window.span_ms:
                if not scanned:
                    # Half the gap a page: a long silence takes several empty pages, never many.
                    step = max(window.span_ms, abs(gap) // 2)
                    cut = (cut[0] + (step if gap > 0 else -step), 0)
                return Page(page, cut, more=True)
        full = scanned == window.page_size or len(page) == window.limit
        if full or (page and size + row.size > MAX_PAGE_BYTES):
            return Page(page, cut, more=True)
        if window.matches is None or window.matches(row.message):
            page.append(row)
            size += row.size
        cut = (row.timestamp, row.sequence + forward)
    return Page(page, cut, more=False)


def _ahead(rows: list[Row], cut: Cut | None, window: Window, *, forward: bool) -> Iterator[Row]:
    low = 0 if window.low is None else bisect_left(rows, (window.low, 0), key=_cut_of)
    high = len(rows) if window.high is None else bisect_left(rows, (window.high, 0), key=_cut_of)
    if cut is not None:
        here = bisect_left(rows, cut, key=_cut_of)
        low, high = (max(low, here), high) if forward else (low, min(high, here))
    for index in range(low, high) if forward else range(high - 1, low - 1, -1):
        if rows[index].visible_at <= window.now:
            yield rows[index]


_TERM = re.compile(r'\s*([-?]?)("(?:[^"\\]|\\.)+"|\w+)(?=\s|$)')


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A predicate for the plain part of the filter syntax: terms, "phrases", -excluded, ?any.

    Raises:
        Refused: as the service does when a term with other characters than letters, digits and
            ``_`` is not quoted, and for the JSON, column and regex patterns left out here.
    """
    every: list[str] = []
    some: list[str] = []
    none: list[str] = []
    at, pattern = 0, pattern.strip()
    while at < len(pattern):
        term = _TERM.match(pattern, at)
        if term is None:
            raise Refused("InvalidParameterException", f"Invalid character(s) in term '{pattern[at:]}'")
        text = term[2]
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        {"": every, "?": some, "-": none}[term[1]].append(text)
        at = term.end()

    def matches(message: str) -> bool:
        return (
            all(text in message for text in every)
            and (not some or any(text in message for text in some))
            and not any(text in message for text in none)
        )

    return matches
