"""What happens to a process and concerns every worker in it: a fork, and the end.

The end has more than one door. The interpreter's runs ``atexit``; a child that :mod:`multiprocessing` forked leaves
through ``os._exit`` and runs only multiprocessing's own finalizers.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .worker import Worker

#: Idents of the threads that are inside ``Worker.step``. What they log is caused by delivery, and is not delivered.
driving: set[int] = set()

_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_finalized_pid = 0


def register(worker: Worker) -> None:
    """Take care of this worker for as long as somebody holds it."""
    _workers.add(worker)


def prepare_exit() -> None:
    """Called when a worker starts its thread: see to the doors that ``atexit`` does not watch."""
    global _finalized_pid
    process = sys.modules.get("multiprocessing.process")
    if _finalized_pid == os.getpid() or process is None or process.parent_process() is None:
        return
    _finalized_pid = os.getpid()
    from multiprocessing.util import Finalize

    Finalize(None, close_all, exitpriority=0)


@atexit.register
def close_all() -> None:
    """Close every worker within one deadline for all, whatever their number.

    At interpreter exit this runs before ``logging.shutdown``, which was registered earlier.
    """
    began = time.monotonic()
    workers = tuple(_workers)
    for worker in workers:
        worker.urge()
    for worker in workers:
        worker.close(max(0.0, worker.shutdown_timeout - (time.monotonic() - began)))


def begin_again_in_child() -> None:
    """Forget what the parent had: its threads, its connections, its events."""
    driving.clear()
    for worker in tuple(_workers):
        worker.reset()


os.register_at_fork(after_in_child=begin_again_in_child)


def drives() -> bool:
    """Whether this thread is delivering at this moment."""
    return threading.get_ident() in driving
