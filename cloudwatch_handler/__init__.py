"""A :class:`logging.Handler` for Amazon CloudWatch Logs that does not lose, stall or hang.

>>> import logging
>>> from cloudwatch_handler import CloudWatchHandler
>>> logging.getLogger().addHandler(CloudWatchHandler("my-app"))
"""

from __future__ import annotations

from .formatter import CloudWatchFormatter
from .handler import CloudWatchHandler
from .ledger import RejectedEvents, Statistics
from .reader import LogEvent, LogReader
from .retry import RetryPolicy
from .version import __version__

__all__ = [
    "CloudWatchFormatter",
    "CloudWatchHandler",
    "LogEvent",
    "LogReader",
    "RejectedEvents",
    "RetryPolicy",
    "Statistics",
    "__version__",
]
