"""The two ways to read: GetLogEvents (one stream) and FilterLogEvents (a group).

They differ in the end of a read, in whether ``endTime`` belongs to the range, and in the direction
they start in; see each function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from .paging import Cut, Row, Tokens, Window, compile_pattern, read_page
from .rules import SECOND_MS
from .shapes import Json, Refused, invalid
from .state import Group, Options, Stream

# FilterLogEvents reads backward only in ranges that start on or after this day, 2024-01-01.
FIRST_DESCENDING_MS = 1_704_067_200_000


@dataclass(frozen=True, slots=True)
class Read:
    """One request to read, and what it needs from the account; ``now`` is in ms."""

    options: Options
    tokens: Tokens
    parameters: Json
    now: int

    def window(self, high: int | None) -> Window:
        """What to look at; ``high`` is the exclusive end in ms."""
        pattern, span = self.parameters.get("filterPattern"), self.options.page_span
        return Window(
            low=self.parameters.get("startTime"),
            high=high,
            now=self.now,
            limit=self.parameters.get("limit", self.options.page_size),
            page_size=self.options.page_size,
            span_ms=None if span is None else int(span * SECOND_MS),
            matches=compile_pattern(pattern) if pattern else None,
        )


def get_log_events(group: Group, stream: Stream, read: Read) -> Json:
    """One page of a stream, oldest first; ``endTime`` is exclusive.

    Both tokens are always there. At the end, the token of the direction equals the one sent.

    Raises:
        Refused: for a token of another read, or a forward token without ``startFromHead``.
    """
    target = f"GetLogEvents {group.name} {stream.name}"
    scopes = f"f {target}", f"b {target}"
    forward = read.parameters.get("startFromHead", False)
    cut: Cut | None = None
    if sent := read.parameters.get("nextToken"):
        scope, position = read.tokens.find(sent, scopes, now=read.now)
        cut = cast("Cut | None", position)
        if scope == scopes[0] and not forward:
            raise invalid("A nextForwardToken needs startFromHead to be true.")
        forward = scope == scopes[0]
    window = read.window(read.parameters.get("endTime"))
    page = read_page([stream.sorted_rows()], cut, window, forward=forward)
    rows = page.rows if forward else page.rows[::-1]
    # Where the read may turn round: the near edge of the page, or of nothing.
    near = (page.rows[0].timestamp, page.rows[0].sequence + (not forward)) if rows else page.cut
    ends = (page.cut, near) if forward else (near, page.cut)
    following, preceding = (
        read.tokens.issue(scope, end, now=read.now) for scope, end in zip(scopes, ends, strict=True)
    )
    if sent and page.cut == cut:
        following, preceding = (sent, preceding) if forward else (following, sent)
    return {
        "events": [_event(row) for row in rows],
        "nextForwardToken": following,
        "nextBackwardToken": preceding,
    }


def filter_log_events(group: Group, read: Read) -> Json:
    """One page of the matching events of a group; ``endTime`` is inclusive.

    Streams are interleaved, in order of time (newest first with ``startFromHead`` false). At the
    end there is no ``nextToken``. After an empty page the token may be the one that was sent.
    """
    parameters = read.parameters
    names, prefix = parameters.get("logStreamNames"), parameters.get("logStreamNamePrefix")
    if names is not None and prefix is not None:
        raise invalid("Give either logStreamNames or logStreamNamePrefix, and not both.")
    for name in names or ():
        if name not in group.streams:
            message = f"The specified log stream does not exist: {name}"
            raise Refused("ResourceNotFoundException", message, violation=False)
    target = f"FilterLogEvents {group.name} {names} {prefix} {parameters.get('filterPattern')}"
    scopes = f"f {target}", f"b {target}"
    forward = parameters.get("startFromHead", True)
    if not forward and parameters.get("startTime", 0) < FIRST_DESCENDING_MS:
        raise invalid("startFromHead can be false only with a startTime from 2024-01-01 on.")
    cut: Cut | None = None
    if sent := parameters.get("nextToken"):
        scope, position = read.tokens.find(sent, scopes, now=read.now)
        cut, forward = cast("Cut | None", position), scope == scopes[0]
    end = parameters.get("endTime")
    streams = [
        stream.sorted_rows()
        for name, stream in group.streams.items()
        if name.startswith(prefix or "") and (names is None or name in names)
    ]
    window = read.window(None if end is None else end + 1)
    page = read_page(streams, cut, window, forward=forward)
    answer: Json = {
        "events": [_event(row) | {"logStreamName": row.stream, "eventId": f"{row.sequence:056d}"} for row in page.rows],
        "searchedLogStreams": [],
    }
    if page.more:
        if sent and not page.rows and read.options.repeat_tokens:
            read.tokens.move(sent, page.cut)
            answer["nextToken"] = sent
        else:
            answer["nextToken"] = read.tokens.issue(scopes[not forward], page.cut, now=read.now)
    return answer


def _event(row: Row) -> Json:
    return {
        "timestamp": row.timestamp,
        "message": row.message,
        "ingestionTime": row.ingestion_time,
    }
