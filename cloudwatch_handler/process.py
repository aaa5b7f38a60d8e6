"""What happens to a process and concerns every worker in it: a fork, the end, and a server that changes the rules.

The end has more than one door. The interpreter's runs ``atexit``; a child that :mod:`multiprocessing` forked leaves
through ``os._exit`` and runs only multiprocessing's own finalizers; one of Celery's sends only Celery's own signal.

uWSGI forks without telling Python, so that a pid that has changed must tell; it runs ``atexit`` in its workers but not
in its master; and without ``enable-threads``, which was its default for long, no Python thread ever runs.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from .children import close_before_termination, forget_parent
from .waiting import monotonic

if TYPE_CHECKING:
    from .worker import Worker

#: Idents of the threads that are inside ``Worker.step``. What they log is caused by delivery, and is not delivered.
driving: set[int] = set()

NO_THREADS = (
    "uWSGI runs without threads, so log calls themselves deliver what is due, and wait for it; "
    "give it --enable-threads, and a thread does it"
)

_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
# The processes in which the end of a child of multiprocessing is seen to: its ordinary end, and SIGTERM.
_finalized_pid = 0
_terminated_pid = 0
_said: set[str] = set()


def register(worker: Worker) -> None:
    """Take care of this worker for as long as somebody holds it."""
    _workers.add(worker)


def workers() -> list[Worker]:
    """Every worker that is alive."""
    return list(_workers)


def prepare_exit() -> None:
    """Called when a worker starts its thread: see to the doors that ``atexit`` does not watch."""
    global _finalized_pid, _terminated_pid
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(_close_in_celery, weak=False, dispatch_uid="cloudwatch_handler")
    process, pid = sys.modules.get("multiprocessing.process"), os.getpid()
    if process is None or process.parent_process() is None:
        return
    if _finalized_pid != pid:
        _finalized_pid = pid
        from multiprocessing.util import Finalize

        Finalize(None, close_all, exitpriority=0)
    if _terminated_pid != pid and close_before_termination(close_all):
        _terminated_pid = pid


@atexit.register
def close_all() -> None:
    """Close every worker within one deadline for all, whatever their number.

    At interpreter exit this runs before ``logging.shutdown``, which was registered earlier.
    """
    began = monotonic()
    if any(worker.pid != os.getpid() for worker in _workers):  # forked behind Python's back, and never logged
        begin_again_in_child()
    workers = tuple(_workers)
    for worker in workers:
        worker.urge()
    for worker in workers:
        worker.close(max(0.0, worker.shutdown_timeout - (monotonic() - began)))


def _close_in_celery(**_: object) -> None:
    close_all()


def begin_again_in_child() -> None:
    """Forget what the parent had: its threads, its connections, its events. Each worker does so once."""
    with _beginning:
        strangers = [worker for worker in tuple(_workers) if worker.pid != os.getpid()]
        if strangers:
            driving.clear()
        for worker in strangers:
            worker.reset()


def _after_fork() -> None:
    global _beginning
    _beginning = threading.RLock()
    forget_parent()
    begin_again_in_child()


# Reentrant, because a signal handler that logs may interrupt the one that holds it.
_beginning = threading.RLock()
os.register_at_fork(after_in_child=_after_fork)


def drives() -> bool:
    """Whether this thread is delivering at this moment."""
    return threading.get_ident() in driving


def has_threads() -> bool:
    """False in uWSGI without thread support: a thread that is started never runs."""
    return bool(getattr(sys.modules.get("uwsgi"), "has_threads", True))


def is_uwsgi_master() -> bool:
    """Whether this process is to fork without telling Python, and to end without telling it."""
    worker_id = getattr(sys.modules.get("uwsgi"), "worker_id", None)
    return worker_id is not None and worker_id() == 0


def is_news(line: str) -> bool:
    """True for the first who asks, here and in the processes that are forked from here later."""
    if line in _said:
        return False
    _said.add(line)
    return True


def prepare_gevent() -> None:
    """Make this thread's requests possible, now and at the end of the process, where gevent has replaced sockets.

    Which may happen at any time: whoever delivers calls this first.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return
    _mend_ssl()
    # gevent looks up host names in threads that it starts on demand; at its end, Python 3.12.1 allows no new one.
    pool = sys.modules["gevent"].get_hub().threadpool
    if not pool.size:
        with suppress(RuntimeError):  # it is the end already
            pool.spawn(int)


def _mend_ssl() -> None:
    """Have urllib3 and botocore use gevent's SSLContext, if that was put in place after they had imported another.

    The one they have recurses without end then (gevent issue 1016), and no request can be made. gunicorn's gevent
    worker with ``--preload`` patches so late.
    """
    context = getattr(sys.modules.get("ssl"), "SSLContext", None)
    if context is None or context.__module__ != "gevent.ssl":
        return
    for name in ("urllib3.util", "urllib3.util.ssl_", "botocore.httpsession"):
        if hasattr(module := sys.modules.get(name), "SSLContext"):
            module.SSLContext = context  # type: ignore[union-attr]
