"""A logger whose records go to a strict service, and what it takes to look at the requests that carry them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.config import Config

from cloudwatch_handler import CloudWatchHandler
from tests.strict_service import Request, StrictService

GROUP, STREAM = "app", "main"
#: Seconds until a flush must have succeeded; a test that waits so long has failed.
PATIENCE = 20.0
#: Waits that a test can afford: outages are as many attempts long as they would be hours in life.
QUICK = {"base": 0.01, "factor": 2.0, "max_delay": 0.04}


class Sender:
    """A logger with one handler, and the service's view of it."""

    def __init__(self, service: StrictService, handler: CloudWatchHandler) -> None:
        self.service = service
        self.handler = handler
        self._logger = logging.Logger("sender")
        self._logger.addHandler(handler)

    def log(self, *messages: object) -> None:
        """Log each as a record."""
        for message in messages:
            self._logger.info("%s", message)

    def log_at(self, created: float, message: object) -> None:
        """Log a record that was made at this time, in seconds since the epoch."""
        self._logger.handle(logging.makeLogRecord({"levelno": logging.INFO, "msg": str(message), "created": created}))

    def log_by(self, logger: str, message: object) -> None:
        """Log a record that a logger of this name made."""
        self._logger.handle(logging.makeLogRecord({"levelno": logging.INFO, "msg": str(message), "name": logger}))

    def deliver(self, *messages: object) -> None:
        """Log, and wait until all is settled."""
        self.log(*messages)
        assert self.handler.flush(PATIENCE)

    @property
    def messages(self) -> list[str]:
        """What the service has."""
        return self.service.messages(GROUP, STREAM)

    @property
    def puts(self) -> list[Request]:
        """The PutLogEvents that arrived."""
        return [request for request in self.service.requests if request.operation == "PutLogEvents"]


def sent(request: Request) -> list[str]:
    """The messages that a PutLogEvents carried."""
    return [event["message"] for event in request.parameters["logEvents"]]


@contextmanager
def sending(service: StrictService, url: str | None = None, **arguments: Any) -> Iterator[Sender]:
    """A sender whose handler waits for no company and retries quickly, unless told otherwise.

    Args:
        service: what :attr:`Sender.messages` looks at.
        url: where the handler's requests go, if not there.
        arguments: of the handler; ``read_timeout`` is the client's.
    """
    config = Config(read_timeout=arguments.pop("read_timeout", 5.0), connect_timeout=5.0)
    client = service.client(config=config, **({} if url is None else {"endpoint_url": url}))
    defaults = {"send_interval": 0.0, "retry": QUICK, "shutdown_timeout": 0.1, "boto3_client": client}
    handler = CloudWatchHandler(GROUP, arguments.pop("log_stream_name", STREAM), **defaults | arguments)
    try:
        yield Sender(service, handler)
    finally:
        handler.close()


def balance(handler: CloudWatchHandler) -> int:
    """0 when the ledger balances."""
    ledger = handler.statistics()
    return ledger.accepted - ledger.delivered - ledger.rejected - ledger.dropped - ledger.spooled - ledger.pending


def wait_until(moment: float) -> None:
    """Return once the wall clock shows this time: how old an event is, nobody but time can change."""
    while (left := moment - time.time()) > 0:
        time.sleep(left)
