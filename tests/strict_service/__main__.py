"""Runs the service until it is killed; its URL is the first line of the output."""

from __future__ import annotations

import argparse
import contextlib
import threading

from .server import StrictService


def main() -> None:
    """Reads the command line, prints the URL, and serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.strict_service", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes any free one")
    parser.add_argument("--enforce-tokens", action="store_true", help="check upload tokens")
    parser.add_argument("--refuse-gzip", action="store_true", help="refuse compressed bodies")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="in seconds")
    arguments = parser.parse_args()
    with StrictService(
        port=arguments.port,
        enforce_tokens=arguments.enforce_tokens,
        refuse_gzip=arguments.refuse_gzip,
        latency=arguments.latency,
    ) as service:
        print(service.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
