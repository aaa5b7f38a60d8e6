"""CPU time of a log call, all the way to acknowledged, against a handler that only formats (and against watchtower).

    python benchmarks/cost_per_record.py [--records 300000] [--threads 1] [--rounds 5] [--peer]

Every measurement is a process of its own, and the handlers take turns, so that a change of the machine's speed meets
all of them. The service is the tests' strict one, in a process of its own; its time is not counted. ``--peer`` adds
watchtower, which must be installed. Figures are microseconds of CPU (user + system, all threads) per record.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TEXT = "%s GET /api/v1/things/%d took %.1f ms user=%s status=%d bytes=%d"


class FormatOnly(logging.Handler):
    """The floor: what a log call costs when nothing is done with its text."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


def make_client(url: str) -> Any:  # noqa: ANN401 - boto3 has no types
    """A boto3 client for the local service."""
    import boto3

    return boto3.client(
        "logs", endpoint_url=url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def make_handler(kind: str, url: str, stream: str) -> logging.Handler:
    """The handler under test, or the floor."""
    if kind == "format":
        return FormatOnly()
    client = make_client(url)
    if kind == "watchtower":
        import watchtower

        peer: logging.Handler = watchtower.CloudWatchLogHandler("benchmark", stream, boto3_client=client)
        return peer
    from cloudwatch_handler import CloudWatchHandler

    return CloudWatchHandler("benchmark", stream, boto3_client=client)


def measure(kind: str, url: str, stream: str, records: int, threads: int) -> dict[str, float]:
    """Log, flush, and return the seconds of CPU and of wall that it took."""
    handler = make_handler(kind, url, stream)
    logger = logging.getLogger("benchmark")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

    def work(count: int) -> None:
        for number in range(count):
            logger.info(TEXT, "request", number, 12.3, "alice", 200, 5120)

    work(1)
    handler.flush()
    cpu, wall = time.process_time(), time.perf_counter()
    crew = [threading.Thread(target=work, args=(records // threads,)) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    logged = time.perf_counter() - wall
    handler.flush()
    result = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "logged": logged}
    ledger = getattr(handler, "statistics", None)
    if ledger is not None:
        counts = ledger()
        if counts.delivered != records + 1:
            raise SystemExit(f"not everything was delivered: {counts}")
    return result


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "URL", "STREAM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, url, stream = options.one
        print(json.dumps(measure(kind, url, stream, options.records, options.threads)))
        return
    kinds = ["format", "cloudwatch_handler", *(["watchtower"] if options.peer else [])]
    costs: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in kinds:
            service = subprocess.Popen(
                [sys.executable, "-m", "tests.strict_service"], stdout=subprocess.PIPE, text=True, cwd=ROOT
            )
            assert service.stdout is not None
            url = service.stdout.readline().strip()
            if kind != "format":
                client = make_client(url)
                client.create_log_group(logGroupName="benchmark")
                client.create_log_stream(logGroupName="benchmark", logStreamName=kind)
            command = [sys.executable, __file__, "--records", str(options.records), "--threads", str(options.threads)]
            run = subprocess.run([*command, "--one", kind, url, kind], check=True, capture_output=True, text=True,
                                 env={**os.environ, "PYTHONWARNINGS": "ignore"})  # fmt: skip
            service.kill()
            service.wait()
            result = json.loads(run.stdout.splitlines()[-1])
            costs[kind].append(result["cpu"] / options.records * 1e6)
            print(
                f"round {number + 1}  {kind:20} {costs[kind][-1]:6.2f} us CPU a record,"
                f" {result['wall'] / options.records * 1e6:6.2f} us wall", flush=True,
            )  # fmt: skip
    print(f"median of {options.rounds}, {options.records:,} records, {options.threads} thread(s), "
          f"Python {sys.version.split()[0]}:")  # fmt: skip
    floor = costs["format"]
    for kind in kinds:
        above = statistics.median(cost - base for cost, base in zip(costs[kind], floor, strict=True))
        total = statistics.median(costs[kind])
        print(f"  {kind:20} {total:6.2f} us in all, {above:6.2f} us above formatting alone")
    if options.peer:
        pairs = zip(costs["cloudwatch_handler"], costs["watchtower"], strict=True)
        print(f"  cloudwatch_handler / watchtower, in all: {statistics.median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    main()
