"""CPU time of a log call in durable mode on top of the same call in memory mode, all the way to acknowledged.

    python benchmarks/cost_of_spool.py [--records 300000] [--threads 1] [--rounds 5] [--directory DIR]

Every measurement is a process of its own, and the two modes take turns, so that a change of the machine's speed meets
both. The service is the tests' strict one, in a process of its own; its time is not counted. Figures are microseconds
of CPU (user + system, all threads) per record. DIR is where the spool lies; by default, where temporary files do.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TEXT = "%s GET /api/v1/things/%d took %.1f ms user=%s status=%d bytes=%d"
#: Microseconds of CPU a record that durable mode may cost on top of memory mode.
LIMIT = 4.0


def measure(mode: str, directory: str, records: int, threads: int) -> float:
    """Log, flush, and return the seconds of CPU that it took."""
    from cloudwatch_handler import CloudWatchHandler

    handler = CloudWatchHandler("benchmark", mode, spool_directory=directory if mode == "spool" else None)
    logger = logging.getLogger("benchmark")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

    def work(count: int) -> None:
        for number in range(count):
            logger.info(TEXT, "request", number, 12.3, "alice", 200, 5120)

    work(1)
    handler.flush()
    began = time.process_time()
    crew = [threading.Thread(target=work, args=(records // threads,)) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    handler.flush()
    seconds = time.process_time() - began
    counts = handler.statistics()
    if counts.delivered != records // threads * threads + 1:
        raise SystemExit(f"not everything was delivered: {counts}")
    return seconds


def run(mode: str, options: argparse.Namespace) -> float:
    """Microseconds of CPU a record, of one process."""
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.strict_service"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert service.stdout is not None
    environment = {
        "AWS_ENDPOINT_URL": service.stdout.readline().strip(),
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        command = [sys.executable, __file__, "--records", str(options.records), "--threads", str(options.threads)]
        process = subprocess.run(
            [*command, "--one", mode, directory],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
    service.kill()
    service.wait()
    seconds: float = json.loads(process.stdout)
    return float(seconds / options.records * 1e6)


def main() -> None:
    """Run the rounds and print the medians; exit status 1 when durable mode costs more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory")
    parser.add_argument("--one", nargs=2, metavar=("MODE", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        mode, directory = options.one
        print(json.dumps(measure(mode, directory, options.records, options.threads)))
        return
    costs: dict[str, list[float]] = {"memory": [], "spool": []}
    for number in range(options.rounds):
        for mode, values in costs.items():
            values.append(run(mode, options))
            print(f"round {number + 1}  {mode:6} {values[-1]:6.2f} us CPU a record", flush=True)
    extra = statistics.median(spool - memory for memory, spool in zip(costs["memory"], costs["spool"], strict=True))
    print(
        f"median of {options.rounds}, {options.records:,} records, {options.threads} thread(s), "
        f"Python {sys.version.split()[0]}: memory {statistics.median(costs['memory']):.2f} us, "
        f"spool {statistics.median(costs['spool']):.2f} us, {extra:.2f} us on top (limit {LIMIT})"
    )
    sys.exit(extra > LIMIT)


if __name__ == "__main__":
    main()
