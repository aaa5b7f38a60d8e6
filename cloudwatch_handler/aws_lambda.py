"""Flushing in AWS Lambda, where a function is frozen the moment it returns, and killed when its time is out.

::

    from cloudwatch_handler.aws_lambda import flush_after

    @flush_after
    def handler(event, context):
        ...

Constraint: what is still queued when the function returns is late (until the next invocation thaws the process) or lost
(if none comes). Decision: nothing is left behind on return, and when the time runs out, a guard flushes while the
function still runs. Cost: the caller waits for one PutLogEvents, and, if the service does not answer, for all of the
function's time.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar, overload

from . import options, process
from .handler import CloudWatchHandler
from .waiting import monotonic

logger = logging.getLogger("cloudwatch_handler")

#: Seconds that a function has by Lambda's default; taken where the context does not tell, as in a unit test.
DEFAULT_TIMEOUT = 3.0

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@overload
def flush_after(handler: Callable[Parameters, Result], /, *, margin: float = 0.5) -> Callable[Parameters, Result]: ...


@overload
def flush_after(
    handler: CloudWatchHandler | None = None, *, margin: float = 0.5
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]: ...


def flush_after(
    handler: CloudWatchHandler | Callable[Parameters, Result] | None = None, *, margin: float = 0.5
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]] | Callable[Parameters, Result]:
    """Flush before a Lambda function is frozen, and before it is killed.

    Use it bare (``@flush_after``), with arguments (``@flush_after(margin=1.0)``), or on a function
    (``flush_after(handler)(function)``).

    Args:
        handler: the handler to flush; None: every CloudWatchHandler that is alive.
        margin: seconds that are left of the function's time when flushing ends.

    Returns:
        The function, wrapped. On return and on an exception it flushes for as long as the remaining time minus the
        margin. Shortly before the time-out (two margins, or half of the time if that is less), while the function still
        runs, a guard logs one line and flushes what is there. What could not be delivered is said on stderr, which
        Lambda itself keeps.

    Raises:
        TypeError, ValueError: the margin is no number of seconds, the handler is no CloudWatchHandler, or the function
            is a coroutine or a generator, which has not run when it returns.
    """
    if handler is not None and not isinstance(handler, CloudWatchHandler):
        if not callable(handler):
            raise TypeError(f"handler must be a CloudWatchHandler or None, not {handler!r}")
        return flush_after(margin=margin)(handler)
    margin = options.seconds("margin", margin)

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        for is_lazy in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            if is_lazy(function):
                raise TypeError(f"flush_after takes a function that has run when it returns, not {function!r}; wrap "
                                "what runs it")  # fmt: skip

        @functools.wraps(function)
        def flushed(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            context = kwargs.get("context", args[-1] if args else None)
            deadline = monotonic() + _remaining(context)
            before = max(deadline - 2 * margin, (monotonic() + deadline) / 2)
            guard = threading.Timer(before - monotonic(), _flush_before_timeout, (handler, deadline))
            guard.name, guard.daemon = "cloudwatch_handler guard", True
            with suppress(RuntimeError):  # no room for a thread
                guard.start()
            try:
                return function(*args, **kwargs)
            finally:
                guard.cancel()
                _flush(handler, deadline - margin, "on return")

        return flushed

    return decorate


def _remaining(context: object) -> float:
    tell = getattr(context, "get_remaining_time_in_millis", None)
    left = tell() if callable(tell) else None
    return left / 1000 if isinstance(left, (int, float)) else DEFAULT_TIMEOUT  # a unit test's double may give anything


def _flush_before_timeout(handler: CloudWatchHandler | None, deadline: float) -> None:
    left = deadline - monotonic()
    logger.warning("the function still runs %.1f s before its time-out; flushing what was logged so far", left)
    _flush(handler, deadline - left / 2, "before the time-out")  # to say what is missing takes time too


def _flush(handler: CloudWatchHandler | None, deadline: float, when: str) -> None:
    """Flush until this monotonic time at most, and tell stderr what could not be delivered."""
    workers = process.workers() if handler is None else [handler.worker]
    for worker in workers:
        worker.urge()  # so that all are at it, while the first is waited for
    late = [w.statistics() for w in workers if not w.flush(max(0.0, deadline - monotonic()), 0.0)]
    if late:
        count = sum(statistics.pending for statistics in late)
        why = "".join(f"; {error}" for error in {statistics.last_error for statistics in late} if error)
        with suppress(OSError, ValueError, AttributeError):  # stderr is closed, or None
            print(
                f"cloudwatch_handler: {count} events were not delivered {when}; they follow when the function is "
                f"invoked again, if it is{why}",
                file=sys.stderr,
            )
