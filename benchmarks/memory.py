"""By how much a process grows that logs and logs while the service hangs, as a multiple of ``max_queue_size``.

    python benchmarks/memory.py [--records 1000000]

Each row is a process of its own. It delivers one record, so that everything is imported and connected; then its
resident memory is taken, the service hangs, it logs, and the peak since is compared. The bound to keep is 1.5. Of long
messages there are as many as make the same bytes. Kinds of record:

``one``      all go to one stream, which overflows
``streams``  each goes to a stream of its own
``empty``    none has any text: they are rejected at the door, and wait for the thread to say so
``large``    all are longer than a message may be, with ``oversize="drop"``: the same
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.scripts import environment  # noqa: E402 - after the path
from tests.strict_service import Hang, StrictService  # noqa: E402

MIB = 1 << 20
ROWS = [
    *[("one", 100, size, overflow) for size in (16, 64) for overflow in ("drop_oldest", "drop_newest", "block")],
    *[("one", 10_000, size, "drop_oldest") for size in (16, 64)],
    *[("streams", 100, 16, overflow) for overflow in ("drop_oldest", "drop_newest")],
    ("empty", 0, 16, "drop_oldest"),
    ("large", 2 * MIB, 16, "drop_oldest"),
]


def resident(what: str) -> int:
    """Bytes of this process in memory: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise LookupError(what)


def records(kind: str, count: int, size: int) -> Iterator[logging.LogRecord]:
    """What is logged: each record has a number, and so many characters."""
    filler = "x" * (size - 8)
    for number in range(count):
        message = "" if kind == "empty" else f"{number:08d}{filler}"
        name = f"stream-{number}" if kind == "streams" else "stream"
        yield logging.makeLogRecord({"name": name, "levelno": logging.INFO, "msg": message})


def measure(kind: str, count: int, size: int, bound: int, overflow: str) -> None:
    """Log, in this process, and print how far it grew, and the ledger."""
    from cloudwatch_handler import CloudWatchHandler

    handler = CloudWatchHandler(
        "app",
        "{logger_name}",
        send_interval=0.0,
        max_queue_size=bound,
        overflow=overflow,  # type: ignore[arg-type]
        block_timeout=0.0,
        oversize="drop",
    )
    one = next(records("one", 1, size if kind == "one" else 100))
    handler.handle(one)
    if not handler.flush():
        raise SystemExit(f"not even the first record was delivered: {handler.statistics().last_error}")
    print("ready", flush=True)
    sys.stdin.readline()  # from here on the service hangs
    base = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    handler.handle(one)
    print("under way", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for record in records(kind, count, size):
        handler.handle(record)
    seconds = time.perf_counter() - began
    ledger = handler.statistics()
    names = ("accepted", "delivered", "rejected", "dropped", "pending")
    result = {
        "grown": (resident("VmHWM") - base) / bound,
        "held": ledger.queue_high_water_mark / bound,
        "seconds": seconds,
    }
    print(json.dumps(result | {name: getattr(ledger, name) for name in names}), flush=True)
    os._exit(0)  # what is held is not what is measured


def grow(service: StrictService, kind: str, count: int, size: int, bound: int, overflow: str) -> dict[str, float]:
    """Have a process log while the service hangs.

    Args:
        service: well, until the process has delivered its first record.
        kind: of records, see above.
        count: how many.
        size: characters of each.
        bound: ``max_queue_size`` of its handler.
        overflow: the same.

    Returns:
        ``grown`` and ``held``: peak of resident memory, and of what the handler counted, as multiples of the bound;
        ``seconds`` that logging took; and the ledger.
    """
    command = [sys.executable, __file__, "--one", kind, str(count), str(size), str(bound), overflow]
    pipe = subprocess.PIPE
    environ = environment(service.url, {})
    with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        if process.stdout.readline() == "ready\n":
            hang = Hang()
            service.inject(hang, times=None)
            process.stdin.write("\n")
            process.stdin.flush()
            hang.entered.wait(10)
        out, err = process.communicate("\n")
    if process.returncode:
        raise RuntimeError(err)
    result: dict[str, float] = json.loads(out.splitlines()[-1])
    return result


def main() -> None:
    """Measure one row where it is told which, and all rows otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument(
        "--one", nargs=5, metavar=("KIND", "RECORDS", "SIZE", "BOUND", "OVERFLOW"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.one:
        kind, records_, size, bound, overflow = options.one
        measure(kind, int(records_), int(size), int(bound), overflow)
    for kind, size, mib, overflow in ROWS:
        count = min(options.records, options.records * 100 // max(1, size))
        with StrictService() as service:
            result = grow(service, kind, count, size, mib * MIB, overflow)
        print(
            f"{kind:8} {count:9,} x {size:9,} bytes, {mib} MiB, {overflow:11}: grown {result['grown']:.2f} x that, "
            f"{result['seconds']:5.1f} s; accepted {result['accepted']:,}, dropped {result['dropped']:,}, "
            f"rejected {result['rejected']:,}, pending {result['pending']:,}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
