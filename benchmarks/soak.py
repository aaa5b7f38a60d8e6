"""Many processes log numbered records while everything goes wrong; at the end each number is looked for.

    python benchmarks/soak.py [--mode durable ...] [--seed 1] [--seconds 60] [--processes 3] [--threads 3]

The strict service runs in this process. It throttles, breaks connections, hangs, answers with errors and HTML, loses
answers, enforces upload tokens, and its streams and groups are deleted. Writers (``soak_writer.py``) are ended and
started again, in durable mode also with SIGKILL. What goes wrong, and when, follows from the seed, as far as the
machine's own timing lets it. Exit status 1 when something was found:

- a record whose log call returned is not delivered (in memory: and not counted as dropped either);
- a record is delivered twice, in a mode where nothing excuses it; see ``MODES``;
- records of one writer are out of order within a stream, in a run without kills;
- a snapshot of a ledger, taken from another thread, does not balance;
- the service saw a request that a correct client never sends.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.soak_report import MODES, SHUTDOWN, Report  # noqa: E402 - after the path
from benchmarks.soak_writer import NUMBER  # noqa: E402
from tests.scripts import environment  # noqa: E402
from tests.strict_service import Error, Fault, Hang, Html, Request, Reset, StrictService, Truncate  # noqa: E402
from tests.strict_service.faults import Answer  # noqa: E402
from tests.strict_service.shapes import Refused  # noqa: E402

GROUP = "soak"
#: Seconds between two things that go wrong, on average, and most that a writer may take to end.
PACE = 0.15
PATIENCE = 60.0


def own(place: int) -> str:
    """The stream of the processes in this place."""
    return f"own-{place}"


class Recorder(StrictService):
    """The service, with a memory that deletions do not touch: streams, and what was stored there, in order."""

    def __init__(self, *, enforce_tokens: bool) -> None:
        self.stored: dict[str, list[str]] = defaultdict(list)
        self.slowest = 0.0
        super().__init__(enforce_tokens=enforce_tokens)

    def arrive(self, headers: dict[str, str], body: bytes, *rest: Any, **named: Any) -> tuple[Request, Fault | None]:  # noqa: ANN401
        """A request that breaks off, because its process ended, breaks no rule."""
        if len(body) < int(headers.get("content-length", 0)):
            raise ConnectionResetError
        return super().arrive(headers, body, *rest, **named)

    def carry_out(self, request: Request) -> Answer:
        """Note what a PutLogEvents stores."""
        with self._changed:
            answer = super().carry_out(request)
            if request.operation == "PutLogEvents" and answer.status == 200:
                events = request.parameters["logEvents"]
                self.stored[request.parameters["logStreamName"]] += [event["message"] for event in events]
                self.slowest = max(self.slowest, time.time() - min(event["timestamp"] for event in events) / 1000)
                request.parameters = {}  # a soak is long
            return answer

    def delete_stream(self, stream: str) -> None:
        """Delete a stream, if it is there."""
        with self._changed, suppress(Refused):
            self.delete_log_stream(GROUP, stream)

    def delete_group(self) -> None:
        """Delete the group, if it is there."""
        with self._changed, suppress(Refused):
            self.delete_log_group(GROUP)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        with self._changed:
            self._injections.clear()


class Soak:
    """One run.

    Args:
        mode: a name in :data:`MODES`.
        seed: of everything that is random.
        processes, threads: how many log at a time.
        directory: for the diary and the spool; empty.
    """

    def __init__(self, mode: str, *, seed: int, processes: int, threads: int, directory: Path) -> None:
        self._mode = MODES[mode]
        self._seed = seed
        self._threads = threads
        self._chance = random.Random(f"{mode} {seed}")
        self._diary = directory / "diary"
        self._spool = directory / "spool"
        self._diary.mkdir()
        self._errors = (directory / "stderr").open("w+")
        self._service = Recorder(enforce_tokens=self._mode.enforce_tokens)
        self._running: list[subprocess.Popen[bytes] | None] = [None] * processes
        self._generations = Counter[int]()
        self.report = Report(mode, seed)

    def run(self, seconds: float, records: int = 0) -> Report:
        """Let writers log and things go wrong, then heal everything, and look for what was logged.

        Args:
            seconds: for so long at least,
            records: and until so many were logged, and two kinds of things went wrong, however slow the machine is.
        """
        began = time.monotonic()
        happened = self.report.happened
        try:
            with self._service:
                for place in range(len(self._running)):
                    self._start(place)
                while time.monotonic() - began < seconds or self._logged() < records or len(happened) < 2:
                    self._happen()
                    time.sleep(self._chance.expovariate(1 / PACE))
                self._service.heal()
                for place in range(len(self._running)):
                    self._wait_for(place)
                for place in range(len(self._running)):
                    self._end(place, signal.SIGTERM)
                if self._mode.durable:
                    self._recover()
                self.report.find(self._service.stored, self._diary)
                self.report.find_violations(self._service.violations)
                self.report.slowest = self._service.slowest
        finally:
            for process in filter(None, self._running):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._errors.close()
        self.report.seconds = time.monotonic() - began
        return self.report

    # -- writers --------------------------------------------------------------------------------------------------

    def _start(self, place: int) -> None:
        generation = self._generations[place]
        self._generations[place] += 1
        stream = "shared" if self._mode.shared else own(place)
        arguments = {
            "send_interval": self._chance.choice((0.0, 0.05, 0.5)),
            "max_batch_count": self._chance.choice((100, 10_000)),
            "max_queue_size": self._chance.choice((1 << 18, 1 << 26)),
            "overflow": self._chance.choice(("drop_oldest", "drop_newest", "block")),
            "block_timeout": 0.2,
            "shutdown_timeout": SHUTDOWN,
            "retry": {"base": 0.02, "max_delay": 0.5},
            "spool_directory": str(self._spool) if self._mode.durable else None,
        }
        command = [sys.executable, str(ROOT / "benchmarks" / "soak_writer.py"), f"p{place}g{generation}", stream]
        command += [str(self._diary), str(self._seed), str(self._threads), "1", json.dumps(arguments)]
        environ = environment(self._service.url, {"PYTHONWARNINGS": "ignore"})
        self._running[place] = subprocess.Popen(command, env=environ, stderr=self._errors, start_new_session=True)

    def _logged(self) -> int:
        return sum(NUMBER.unpack(note)[0] for path in self._diary.glob("*.logged") if (note := path.read_bytes()))

    def _wait_for(self, place: int) -> None:
        """Until the writer that was started last has logged something: what ends before has nothing to tell."""
        note = self._diary / f"p{place}g{self._generations[place] - 1}.0.logged"
        deadline = time.monotonic() + PATIENCE
        while not (note.exists() and note.stat().st_size):
            if time.monotonic() > deadline:
                self.report.findings.append(f"a writer has logged nothing within {PATIENCE} s: {self._last_errors()}")
                return
            time.sleep(0.01)

    def _end(self, place: int, how: signal.Signals) -> None:
        process = self._running[place]
        assert process is not None
        if how is signal.SIGKILL:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.report.findings.append(f"a writer did not end within {PATIENCE} s")
            return
        self._running[place] = None
        if status not in (0, -how):
            self.report.findings.append(f"a writer ended with status {status}: {self._last_errors()}")

    def _last_errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-1000:]

    def _recover(self) -> None:
        """Deliver what dead writers left."""
        script = "import sys; from cloudwatch_handler import CloudWatchHandler as H; "
        script += f"sys.exit(not H({GROUP!r}, 'recover', spool_directory={str(self._spool)!r}).recover({PATIENCE}))"
        environ = environment(self._service.url, {"PYTHONWARNINGS": "ignore"})
        run = subprocess.run([sys.executable, "-c", script], env=environ, stderr=subprocess.PIPE, text=True)
        left = [path.name for path in self._spool.glob("*") if path.suffix != ".lock"] if self._spool.exists() else []
        if run.returncode or any(name.endswith(".jsonl") for name in left):
            self.report.findings.append(f"recover ended with {run.returncode} and left {left}: {run.stderr[-2000:]}")

    # -- what goes wrong ------------------------------------------------------------------------------------------

    def _happen(self) -> None:
        """One thing goes wrong."""
        events: list[tuple[str, Callable[[], object]]] = [
            ("throttled", lambda: self._strike(Error("ThrottlingException"), 8)),
            ("503", lambda: self._strike(Error("ServiceUnavailableException", 503), 8)),
            ("500", lambda: self._strike(Error("InternalFailure", 500), 8)),
            ("denied", lambda: self._strike(Error("AccessDeniedException"), 3)),
            ("html", lambda: self._strike(Html(), 3)),
            ("reset", lambda: self._strike(Reset(), 5)),
            ("hang", lambda: self._strike(Hang(), 1)),
            ("reset, any operation", lambda: self._strike(Reset(), 3, operation=None)),
            ("throttled, any operation", lambda: self._strike(Error("ThrottlingException"), 5, operation=None)),
            ("stale token", lambda: self._strike(Error("InvalidSequenceTokenException"), 3)),
            ("restart", lambda: self._restart(signal.SIGTERM)),
        ]
        if self._mode.lost_answers:
            events += [
                ("lost answer, reset", lambda: self._strike(Reset(stored=True), 2)),
                ("lost answer, hang", lambda: self._strike(Hang(stored=True), 1)),
            ]
        if self._mode.lost_answers and not self._mode.enforce_tokens:  # half of an error is another matter
            events += [("half an answer", lambda: self._strike(Truncate(), 1))]
        if self._mode.deletions:
            events += [("stream deleted", self._delete_stream), ("group deleted", self._service.delete_group)]
        if self._mode.kills:
            events += [("killed", lambda: self._restart(signal.SIGKILL))]
        what, happen = self._chance.choice(events)
        self.report.happened[what] += 1
        happen()

    def _strike(self, fault: Fault, most: int, operation: str | None = "PutLogEvents") -> None:
        self._service.inject(fault, operation, self._chance.randint(1, most))

    def _delete_stream(self) -> None:
        self._service.delete_stream(self._chance.choice(["shared", *map(own, range(len(self._running)))]))

    def _restart(self, how: signal.Signals) -> None:
        place = self._chance.randrange(len(self._running))
        if self._running[place] is not None:
            self._end(place, how)
            if self._running[place] is None:
                self._start(place)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for one run."""
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Run each mode that was asked for, and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=3)
    options = parser.parse_args()
    found = False
    for mode in options.mode:
        with scratch() as directory:
            arguments = {"seed": options.seed, "processes": options.processes, "threads": options.threads}
            report = Soak(mode, **arguments, directory=directory).run(options.seconds)
        print(report, flush=True)
        found = found or bool(report.findings)
    sys.exit(found)


if __name__ == "__main__":
    main()
