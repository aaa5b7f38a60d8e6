"""Python programs in processes of their own, for what only the end of a process, a fork or a signal can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: What every script begins with: ``log`` sends to the group ``app``, through ``handler``.
PREAMBLE = """
import logging, os, signal, sys, threading, time
from cloudwatch_handler import CloudWatchHandler

def listen(stream="main", **arguments):
    handler = CloudWatchHandler("app", stream, **arguments)
    log.addHandler(handler)
    return handler

log = logging.getLogger("application")
log.setLevel("INFO")
"""


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        status: exit status; negative for a signal.
        out, err: what it wrote.
        seconds: from the moment it printed ``ending`` to its end, or its whole life if it did not.
    """

    status: int
    out: str
    err: str
    seconds: float


def environment(url: str, extra: dict[str, str]) -> dict[str, str]:
    """The environment in which a script runs: it knows the service at this URL, and no other."""
    return {
        **os.environ,
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(ROOT),
        # Python 3.12 and later say so at every fork of a process that has a thread.
        "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",
        **extra,
    }


def write(directory: Path, script: str) -> Path:
    """A file with the script, after the preamble; spawned children import it again."""
    path = directory / "script.py"
    path.write_text(PREAMBLE + script)
    return path


@contextmanager
def start(path: Path, url: str, *options: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The script as a running process; at the end of the ``with`` statement it is killed, and its children are."""
    process = subprocess.Popen(
        [sys.executable, *options, str(path)],
        env=environment(url, environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(directory: Path, url: str, script: str, *options: str, timeout: float = 30.0, **environ: str) -> Ended:
    """Run a script to its end.

    Args:
        directory: where the file goes.
        url: the service.
        script: follows the preamble; when it prints ``ending``, its end is timed from there.
        options: of the interpreter.
        timeout: seconds.
        environ: further variables of the environment.
    """
    with start(write(directory, script), url, *options, **environ) as process:
        assert process.stdout is not None
        began = time.monotonic()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "ending\n":
                began = time.monotonic()
        _, err = process.communicate(timeout=timeout)
        return Ended(process.returncode, "".join(lines), err, time.monotonic() - began)
