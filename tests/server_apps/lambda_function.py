"""A Lambda function that logs what it is told to, and then returns, fails or takes too long."""

from __future__ import annotations

import logging
import threading
from typing import Any

from cloudwatch_handler import CloudWatchHandler
from cloudwatch_handler.aws_lambda import flush_after

# An interval in which nothing leaves by itself.
logging.getLogger().addHandler(CloudWatchHandler("lambda", "stream", send_interval=3600, shutdown_timeout=1))
logging.getLogger().setLevel(logging.INFO)


@flush_after
def handler(event: dict[str, Any], context: object) -> str:
    """Log; then ``fail`` or ``hang``, if the event says so."""
    for message in event["messages"]:
        logging.info(message)
    if event.get("fail"):
        raise LookupError("as told")
    if event.get("hang"):
        threading.Event().wait()
    return "done"
