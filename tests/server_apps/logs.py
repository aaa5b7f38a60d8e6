"""The logging of every application here: each record goes to two handlers.

The group ``prompt`` shows that there is a thread: its records leave while the process runs. What is in ``patient`` can
only have left at the end of the process.
"""

from __future__ import annotations

import logging
import logging.config
import os

PROMPT, PATIENT = "prompt", "patient"
LONG = 3600.0

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        group: {
            "class": "cloudwatch_handler.CloudWatchHandler",
            "log_group_name": group,
            "send_interval": interval,
            "spool_directory": os.environ.get("SPOOL_DIRECTORY"),
        }
        for group, interval in ((PROMPT, 0.1), (PATIENT, LONG))
    },
    "loggers": {"app": {"level": "INFO", "handlers": [PROMPT, PATIENT], "propagate": False}},
}

log = logging.getLogger("app")


def configure() -> None:
    """What projects do at import."""
    logging.config.dictConfig(LOGGING)
