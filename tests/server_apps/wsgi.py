"""A WSGI application; it logs its query strings, and once while it is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from tests.server_apps.logs import configure, log

if "WITHOUT_THREADS" in os.environ:  # uWSGI 2.0.31 cannot be told to
    sys.modules["uwsgi"].has_threads = 0  # type: ignore[attr-defined]
configure()
log.info("imported")


def application(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Log the query string, answer with the process id."""
    log.info("%s", environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
