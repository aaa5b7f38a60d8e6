"""Children of :mod:`multiprocessing`, and the one end of theirs that no exit hook sees.

Constraint: ``with Pool() as pool`` ends with ``Process.terminate()`` for each of its workers, milliseconds after the
last result came in. SIGTERM's default action ends a process on the spot, with all that its last tasks have logged.

Decision: such a child, once it has something to deliver, closes its handlers first, and then dies of the very signal,
so that its exit code stays the same. Only where SIGTERM would have had its default action: a handler of the
application's stays in place, and one that it installs later replaces this one. A second SIGTERM kills at once.

Cost: the end of such a child can take ``shutdown_timeout``, and it comes only after the main thread has come back from
whatever C code it is in, as with every signal handler written in Python.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


def close_before_termination(close: Callable[[], object]) -> bool:
    """Have ``close`` called when SIGTERM comes to this process, before it takes effect.

    Returns:
        False on another thread than the main one, which alone may see to that.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return True

    def terminate(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        try:
            # Not here, because the code that the signal has interrupted may hold what close() needs.
            _thread.start_new_thread(_close_and_die, (close, number))
        except RuntimeError:  # the interpreter is ending
            _close_and_die(close, number)

    signal.signal(signal.SIGTERM, terminate)
    return True


def _close_and_die(close: Callable[[], object], number: int) -> None:
    try:
        close()
    finally:
        os.kill(os.getpid(), number)
