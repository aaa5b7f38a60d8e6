"""Children of :mod:`multiprocessing`, and the one end of theirs that no exit hook sees.

Constraint: ``with Pool() as pool`` ends with ``Process.terminate()`` for each of its workers, milliseconds after the
last result came in. SIGTERM's default action ends a process on the spot, with all that its last tasks have logged.

Decision: such a child, once it has something to deliver, closes its handlers first, and then dies of the very signal,
so that its exit code stays the same. Only where SIGTERM would have had its default action: a handler of the
application's stays in place, and one that it installs later replaces this one. A second SIGTERM kills at once.

Python runs signal handlers in the main thread, and a signal that came when that had just looked for signals, and was
about to wait in C, does not end the wait: a worker of a Pool would wait for its next task for ever, and its parent for
the worker. So each signal is also noted in a pipe (``signal.set_wakeup_fd``), a thread reads it, and sends SIGTERM to
the main thread once more where that has not reacted.

Cost: the end of such a child can take ``shutdown_timeout``, it comes only after the main thread has come back from
whatever it computes in C, and the child has one more thread, which sleeps.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

#: Seconds in which a main thread reacts that is not about to wait.
REACTION = 0.2

_close: Callable[[], object] = bool
#: The ends of the pipe of this process, if there is one.
_pipe: tuple[int, int] | None = None


def close_before_termination(close: Callable[[], object]) -> bool:
    """Have ``close`` called when SIGTERM comes to this process, before it takes effect.

    Returns:
        False on another thread than the main one, which alone may see to that.
    """
    global _close
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGTERM) is _terminate:  # perhaps already in the parent
        _close = close
        _watch()
    return True


def forget_parent() -> None:
    """In a forked child: the pipe is the parent's, and would tell that of our signals."""
    global _pipe
    if _pipe is None:
        return
    pipe, _pipe = _pipe, None
    with suppress(ValueError):  # not the main thread
        if (other := signal.set_wakeup_fd(-1)) not in (-1, pipe[1]):
            signal.set_wakeup_fd(other)
        for end in pipe:  # only when nothing writes there any more
            os.close(end)


def _terminate(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    try:
        # Not here, because the code that the signal has interrupted may hold what close() needs.
        _thread.start_new_thread(_close_and_die, (number,))
    except RuntimeError:  # the interpreter is ending
        _close_and_die(number)


def _close_and_die(number: int) -> None:
    try:
        _close()
    finally:
        os.kill(os.getpid(), number)


def _watch() -> None:
    """Start the thread that looks after the main thread, unless somebody else reads of the signals, as asyncio does."""
    global _pipe
    monkey = sys.modules.get("gevent.monkey")
    if _pipe is not None or (monkey is not None and monkey.is_module_patched("threading")):  # a greenlet must not read
        return
    reader, writer = _pipe = os.pipe()
    os.set_blocking(writer, False)
    other = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        if other == -1:
            _thread.start_new_thread(_look_after, (reader, threading.get_ident()))
            return
    except RuntimeError:  # no room for a thread
        pass
    signal.set_wakeup_fd(other)
    os.close(reader)
    os.close(writer)
    _pipe = None


def _look_after(reader: int, main_thread: int) -> None:
    while numbers := os.read(reader, 512):
        if signal.SIGTERM not in numbers:
            continue
        time.sleep(REACTION)
        while signal.getsignal(signal.SIGTERM) is _terminate:
            signal.pthread_kill(main_thread, signal.SIGTERM)
            time.sleep(REACTION)
