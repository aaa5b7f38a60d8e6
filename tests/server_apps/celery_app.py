"""A Celery application without a broker's server: the worker itself hands out what is to be done, in memory."""

from __future__ import annotations

import os
import time

from celery import Celery
from celery.signals import worker_ready

from tests.server_apps.logs import configure, log

TASKS = 8

configure()

app = Celery("tests", broker="memory://")


@app.task
def work(number: int) -> None:
    """Log once."""
    log.info("task=%d", number)


@app.task(time_limit=4)
def stick() -> None:
    """Log, and never come back: the process is killed."""
    log.info("stuck")
    time.sleep(3600)


@worker_ready.connect
def hand_out(**_: object) -> None:
    """Give the worker something to do."""
    if "STICK" in os.environ:
        stick.delay()
    for number in range(TASKS):
        work.delay(number)
