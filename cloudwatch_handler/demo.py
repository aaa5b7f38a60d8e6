"""The demonstration: lines go through a handler to an endpoint, are read back, and are compared one by one.

The endpoint is a simulation of CloudWatch Logs inside this process (moto's), unless another one is named.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import logging.config
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import cast

from .errors import NotFound
from .event import MAX_MESSAGE_SIZE, split
from .handler import CloudWatchHandler
from .lines import number_of
from .reader import LogReader
from .shipping import Shipment, ship

LOG_GROUP_NAME = "cloudwatch-handler-demo"
REGION_NAME = "us-east-1"
#: Seconds without any progress after which the demonstration has failed.
PATIENCE = 60.0
#: Characters of a line that are shown around the place where two differ.
_EXCERPT = 60

Show = Callable[[int, str], object]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where CloudWatch Logs is, and who asks; None means boto3's own search."""

    url: str
    region_name: str | None
    profile_name: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which what is stored is not what was sent.

    Attributes:
        line: number of the line, from 1; the one after the last when something is stored after it.
        sent: the line, or the part of a very long line that makes one event; None: nothing more was sent.
        stored: the message in its place; None: nothing more is stored.
    """

    line: int
    sent: str | None
    stored: str | None

    def __str__(self) -> str:
        return (
            f"line {self.line:,} differs\n  sent:   {self._excerpt(self.sent)}\n  stored: {self._excerpt(self.stored)}"
        )

    def _excerpt(self, text: str | None) -> str:
        """The part of a text around the first character in which the two differ."""
        if text is None:
            return "nothing"
        both = list(zip(self.sent or "", self.stored or "", strict=False))
        same = next((index for index, (one, other) in enumerate(both) if one != other), len(both))
        start = max(0, same - _EXCERPT // 2)
        before, after = "..." * (start > 0), "..." * (start + _EXCERPT < len(text))
        # In ASCII: two characters that look the same may be what differs.
        return f"{before}{text[start : start + _EXCERPT]!a}{after}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demonstration showed.

    Attributes:
        shipment: how the lines got there.
        seconds: time from the first line to the last delivery.
        stored: how many events were read back.
        difference: the first one, or None, between what was logged and what is stored.
    """

    shipment: Shipment
    seconds: float
    stored: int
    difference: Difference | None

    @property
    def succeeded(self) -> bool:
        """Whether exactly the lines are stored, and the handler's ledger says the same."""
        return self.difference is None and self.shipment.arrived and self.shipment.statistics.delivered == self.stored

    def __str__(self) -> str:
        """The verdict in words."""
        if self.difference is not None:
            return f"{self.difference}\n{self.shipment}"
        if self.shipment.end == "interrupted":
            return f"What came back is what was sent: {self.shipment}."
        if not self.succeeded:
            return f"What came back is what was sent, but the handler's ledger says: {self.shipment}"
        verdict = f"{number_of(self.shipment.lines, 'line')} sent and read back: no difference"
        if self.shipment.empty:
            verdict += (
                f", but for {number_of(self.shipment.empty, 'empty line')}: CloudWatch Logs takes no empty message"
            )
        return f"{verdict}."


def run(lines: Sequence[str], endpoint: Endpoint, show: Show) -> Outcome:
    """Log the lines, read them back, compare.

    Args:
        lines: the lines. Empty ones are expected to be missing: CloudWatch Logs takes no empty message.
        endpoint: where to.
        show: called with the number of lines delivered plus that of lines read back, and with which of the two goes on.

    Raises:
        ServiceError: reading back failed.
    """
    stream = f"demo-{uuid.uuid4()}"
    began = monotonic()
    logger, handler = _configure(endpoint, stream)
    shipment = ship(
        lines,
        logger,
        handler,
        patience=PATIENCE,
        show=lambda ledger: show(ledger.accepted - ledger.pending, "delivering"),
    )
    seconds = monotonic() - began
    reader = LogReader(
        LOG_GROUP_NAME,
        boto3_profile_name=endpoint.profile_name,
        region_name=endpoint.region_name,
        endpoint_url=endpoint.url,
    )
    stored: list[str] = []
    with suppress(NotFound):  # the handler makes the stream for the first event: without one there is none
        for event in reader.read(stream):
            stored.append(event.message)
            show(len(lines) + len(stored), "reading back")
    show(2 * len(lines), "done")
    return Outcome(shipment, seconds, len(stored), first_difference(lines[: shipment.lines], stored))


def first_difference(lines: Sequence[str], stored: Iterable[str]) -> Difference | None:
    """Where stored messages are not what lines become, or None.

    A line is one message; an empty one is none, and one that is too long for an event is several.
    """
    sent = ((number, part) for number, line in enumerate(lines, 1) if line for part in split(line, MAX_MESSAGE_SIZE))
    for pair, message in itertools.zip_longest(sent, stored):
        number, text = pair or (len(lines) + 1, None)
        if text != message:
            return Difference(number, text, message)
    return None


@contextmanager
def local_endpoint(region_name: str | None = None) -> Iterator[Endpoint]:
    """Run moto's server in a thread of this process, and with it an environment that has no AWS account.

    Raises:
        ModuleNotFoundError: moto, or what its server needs, is not installed.
    """
    importlib.import_module("flask_cors")  # where that is missing, moto would warn before it fails
    from moto.server import ThreadedMotoServer

    requests = logging.getLogger("werkzeug")
    level = requests.level
    requests.setLevel(logging.ERROR)  # or each request is a line on stderr
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with _no_account(host):
            yield Endpoint(f"http://{host}:{port}", region_name or REGION_NAME)
    finally:
        server.stop()
        requests.setLevel(level)


@contextmanager
def _no_account(host: str) -> Iterator[None]:
    """Replace the user's AWS settings with credentials that are none, and go to the host without a proxy."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("AWS_"):
            del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="demo",
        AWS_SECRET_ACCESS_KEY="demo",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        NO_PROXY=host,
        no_proxy=host,
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _configure(endpoint: Endpoint, stream: str) -> tuple[logging.Logger, CloudWatchHandler]:
    """A logger with a handler, configured as an application would do it."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "cloudwatch": {
                    "class": "cloudwatch_handler.CloudWatchHandler",
                    "log_group_name": LOG_GROUP_NAME,
                    "log_stream_name": stream,
                    "endpoint_url": endpoint.url,
                    "region_name": endpoint.region_name,
                    "boto3_profile_name": endpoint.profile_name,
                    "overflow": "block",
                    "block_timeout": PATIENCE,
                }
            },
            "loggers": {"demo": {"level": "INFO", "handlers": ["cloudwatch"], "propagate": False}},
        }
    )
    logger = logging.getLogger("demo")
    return logger, cast(CloudWatchHandler, logger.handlers[0])
