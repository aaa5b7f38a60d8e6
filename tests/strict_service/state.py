"""What the fake service holds: groups, streams and stored events; and what tests may choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .paging import Row
from .rules import MAX_EVENT_BYTES, UploadTokens


@dataclass(slots=True)
class Stream:
    """One log stream; ``rows`` are in order of acceptance."""

    name: str
    created: int
    rows: list[Row] = field(default_factory=list)
    tokens: UploadTokens = field(default_factory=UploadTokens)
    _sorted: list[Row] = field(default_factory=list)

    def sorted_rows(self) -> list[Row]:
        """All rows by timestamp, then by order of acceptance."""
        if len(self._sorted) != len(self.rows):
            self._sorted = sorted(self.rows)
        return self._sorted


@dataclass(slots=True)
class Group:
    """One log group; ``retention_days`` None keeps events for ever."""

    name: str
    created: int
    log_class: str = "STANDARD"
    kms_key_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    retention_days: int | None = None
    streams: dict[str, Stream] = field(default_factory=dict)


@dataclass(slots=True)
class Options:
    """What a test may choose.

    Attributes:
        enforce_tokens: Upload tokens are checked, as the service did until January 2023.
        issue_tokens: Answers carry upload tokens although nobody checks them.
        visibility_delay: Seconds from acceptance until an event can be read.
        page_size: Most events that one page of a read looks at.
        page_span: Seconds without events that one page of a read crosses; None: any.
        repeat_tokens: An empty page of FilterLogEvents returns the very token that was sent.
        max_event_bytes: Largest event, overhead included; 262,144 before April 2025.
        quotas: Requests per second by operation (see ``rules.QUOTAS``); None: no throttling.
        poison: Makes PutLogEvents refuse any batch that has a message for which it is true.
    """

    enforce_tokens: bool = False
    issue_tokens: bool = True
    visibility_delay: float = 0.0
    page_size: int = 10_000
    page_span: float | None = 3600.0
    repeat_tokens: bool = True
    max_event_bytes: int = MAX_EVENT_BYTES
    quotas: dict[str, int] | None = None
    poison: Callable[[str], bool] | None = None
