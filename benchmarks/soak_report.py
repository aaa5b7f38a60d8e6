"""What a soak may do, what is expected of it for that reason, and what it found."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.soak_writer import NUMBER

NOTICE = "WARNING cloudwatch_handler"
#: Seconds that closing a handler may take, and by which a busy machine may be late.
SHUTDOWN = 4.0
SLACK = 8.0


@dataclass(frozen=True)
class Mode:
    """What may happen in a run, and what is expected of it for that reason.

    Attributes:
        durable: writers have a spool. Otherwise memory may overflow.
        kills: writers are ended by SIGKILL. Duplicates are excused, and the order.
        lost_answers: the service stores a batch and does not say so.
        deletions: groups and streams are deleted. A new stream knows no token.
        enforce_tokens: upload tokens are checked, so that lost answers are no excuse for a duplicate.
        shared: all write to one stream; else each process has its own.
    """

    durable: bool = False
    kills: bool = False
    lost_answers: bool = False
    deletions: bool = True
    enforce_tokens: bool = False
    shared: bool = False

    @property
    def is_once(self) -> bool:
        """Whether nothing excuses a duplicate."""
        return not self.kills and not (self.lost_answers and not self.enforce_tokens)


MODES = {
    "memory": Mode(),
    "shared": Mode(shared=True, enforce_tokens=True),
    "lost": Mode(lost_answers=True),
    "tokens": Mode(lost_answers=True, enforce_tokens=True, deletions=False),
    "spool": Mode(durable=True),
    "durable": Mode(durable=True, kills=True, lost_answers=True),
    "everything": Mode(durable=True, kills=True, lost_answers=True, enforce_tokens=True, shared=True),
}


@dataclass
class Report:
    """What a run was, and what it found.

    Attributes:
        findings: one line for each thing that must not be; empty is good.
        slowest: longest time in seconds from a record's creation to its delivery.
        closing: longest time in seconds that closing a handler took.
    """

    mode: str
    seed: int
    seconds: float = 0.0
    logged: int = 0
    delivered: int = 0
    duplicates: int = 0
    dropped: int = 0
    notices: int = 0
    writers: int = 0
    snapshots: int = 0
    slowest: float = 0.0
    closing: float = 0.0
    happened: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        happened = ", ".join(f"{what} {count}" for what, count in sorted(self.happened.items()))
        lines = [
            f"{self.mode}, seed {self.seed}: {self.seconds:.0f} s, {self.writers} writers, {self.logged:,} records;"
            f" {self.delivered:,} different ones stored, {self.duplicates:,} more than once, {self.dropped:,} dropped,"
            f" {self.notices} notices of it; {self.snapshots:,} snapshots; slowest record {self.slowest:.1f} s,"
            f" slowest close {self.closing:.1f} s",
            f"  what happened: {happened}",
            *(f"  FOUND: {finding}" for finding in self.findings or ()),
        ]
        return "\n".join(lines)

    def find_violations(self, violations: Iterable[tuple[str, str]]) -> None:
        """Enter what the service complained of."""
        self.findings += [f"{operation}: {rule}" for operation, rule in violations]

    def find(self, stored: Mapping[str, Sequence[str]], diary: Path) -> None:
        """Look for each record of the diary among what was stored, by stream."""
        mode = MODES[self.mode]
        copies: Counter[tuple[str, int]] = Counter()
        for stream, messages in stored.items():
            last: dict[str, int] = {}
            late: dict[str, list[int]] = defaultdict(list)
            for message in messages:
                if message.startswith(NOTICE):
                    self.notices += 1
                    continue
                writer, number_ = message.split()
                number = int(number_)
                copies[writer, number] += 1
                if not mode.kills and copies[writer, number] == 1 and number <= last.get(writer, 0):
                    late[writer].append(number)
                last[writer] = max(number, last.get(writer, 0))
            self.findings += [f"{writer} {late[writer][:5]} came late in {stream}" for writer in late]
        self.delivered = len(copies)
        twice = [record for record, count in copies.items() if count > 1]
        self.duplicates = len(twice)
        if twice and mode.is_once:
            self.findings.append(f"{len(twice)} delivered more than once, such as {twice[:5]}")
        self._find_lost(copies, diary)

    def _find_lost(self, copies: Counter[tuple[str, int]], diary: Path) -> None:
        lost: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for path in sorted(diary.glob("*.logged")):
            writer = path.stem
            last = NUMBER.unpack(path.read_bytes())[0] if path.stat().st_size else 0
            self.writers += 1
            self.logged += last
            lost[writer.split(".")[0]] += [(writer, n) for n in range(1, last + 1) if not copies[writer, n]]
        for process, missing in lost.items():
            path = diary / f"{process}.ledger"
            ledger = json.loads(path.read_text()) if path.exists() else {}
            dropped = ledger.get("dropped", 0)
            self.dropped += dropped
            self.closing = max(self.closing, ledger.get("closing", 0.0))
            self.snapshots += ledger.get("snapshots", 0)
            self.findings += [f"does not balance: {snapshot}" for snapshot in ledger.get("imbalances", ())]
            if ledger.get("closing", 0.0) > SHUTDOWN + SLACK:
                self.findings.append(f"{process} took {ledger['closing']:.1f} s to close")
            if ledger.get("rejected"):
                self.findings.append(f"{process} had {ledger['rejected']} rejected")
            if dropped and MODES[self.mode].durable:
                self.findings.append(f"{process} has dropped {dropped}, although there was room on disk")
            # What was stored without an answer, or after close gave up, counts as dropped and arrived all the same.
            excused = MODES[self.mode].lost_answers or ledger.get("closing", 0.0) >= SHUTDOWN
            if len(missing) > dropped or (len(missing) < dropped and not excused):
                self.findings.append(
                    f"{len(missing)} of {process} are missing, {dropped} were dropped, such as {missing[:5]}"
                )
