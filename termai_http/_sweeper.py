"""The one thread of this package: it closes what is idle or overdue when no call comes to do it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from typing import Any, Protocol

from ._call import Waker
from ._fork import stop_before_forks
from ._log import log

__all__ = ["Sweepable", "Sweeper", "sweeper"]

_LONGEST_NAP = 5.0
_SHORTEST_NAP = 0.01
_JOIN_SECONDS = 2.0


class Sweepable(Protocol):
    """What holds idle connections and streams that may not be read."""

    def sweep_dropped(self) -> float | None:
        """Close those past their time; return the seconds until the next look is due, if any."""


class Sweeper:
    """Runs a daemon thread while a connection is idle or a stream open; safe from any thread.

    It begins when one is, ends when none is left, and is stopped and joined before a fork and at
    exit.
    """

    def __init__(self) -> None:
        self._watched: weakref.WeakSet[Sweepable] = weakref.WeakSet()
        self._at_exit = False
        self.start_over()

    def start_over(self) -> None:
        """Begin without a thread and with a new lock, in a forked child, too."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._waker = Waker()
        self._nap = _LONGEST_NAP
        self._stopped = False

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands."""
        return [self._lock]

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None

    def add(self, sweepable: Sweepable) -> None:
        """Look after something from now on, as long as it lives."""
        with self._lock:
            self._watched.add(sweepable)

    def watch(self, within: float) -> None:
        """See to it that somebody looks, now that a connection became idle or a stream began.

        Args:
            within: Seconds after which it may be due.
        """
        if self._thread is not None and within >= self._nap:
            return
        with self._lock:
            if self._thread is None:
                self._start(within)
            else:
                self._waker.set()

    def stop(self, patience: float = -1) -> bool:
        """End the thread and wait for its end; the next idle connection begins another.

        Args:
            patience: Seconds to wait for the lock at most; below 0 for as long as it takes.

        Returns:
            Whether it ran.
        """
        if not self._lock.acquire(timeout=patience):
            return False
        try:
            thread, self._stopped = self._thread, True
            self._waker.set()
        finally:
            self._lock.release()
        if thread is None or thread is threading.current_thread():
            return False
        thread.join(_JOIN_SECONDS)
        _wait_for_the_system(thread)
        return True

    def resume(self) -> None:
        """Look again; the thread ends at once where nothing is idle."""
        with self._lock:
            # One that could not be joined in time goes on.
            self._stopped = False
            if self._thread is None:
                self._start(0.0)

    def _start(self, within: float) -> None:
        if sys.is_finalizing():
            return
        if not self._at_exit:
            self._at_exit = True
            atexit.register(self.stop)
        self._stopped = False
        self._rest(within)
        self._thread = thread = threading.Thread(
            target=self._run, name="termai-http-sweeper", daemon=True
        )
        try:
            thread.start()
        except BaseException as error:
            self._thread = None
            if not isinstance(error, RuntimeError):
                raise
            # No thread can be had, now or at exit; the calls themselves still sweep.

    def _run(self) -> None:
        waker, nap = self._waker, self._nap
        while True:
            # Before the first look: a busy client's connection is idle for moments only, and a
            # thread that found nothing would end and begin with every call.
            waker.wait(nap)
            due = self._look()
            with self._lock:
                if self._thread is not threading.current_thread():
                    return
                if self._stopped or due is None:
                    self._thread = None
                    break
                waker, nap = self._rest(due)
        if due is None and self._look() is not None:
            # One became idle after the look, and before it could be seen that nobody looks.
            with self._lock:
                if self._thread is None and not self._stopped:
                    self._start(0.0)

    def _rest(self, due: float) -> tuple[Waker, float]:
        self._waker = Waker()
        self._nap = min(max(due, _SHORTEST_NAP), _LONGEST_NAP)
        return self._waker, self._nap

    def _look(self) -> float | None:
        with self._lock:
            watched = list(self._watched)
        dues = []
        for sweepable in watched:
            try:
                dues.append(sweepable.sweep_dropped())
            except BaseException:
                # A listener's, too: nobody else is to begin where this thread ends unasked.
                log.exception("Idle connections and overdue streams could not be swept")
        return min((due for due in dues if due is not None), default=None)


def _wait_for_the_system(thread: threading.Thread) -> None:
    """Wait until the system, too, knows that a joined thread is gone.

    Python 3.12 warns of a fork in a process with threads, and counts one that is joined and still
    on its last steps.
    """
    if sys.version_info[:2] != (3, 12) or thread.native_id is None:
        return
    end = time.monotonic() + _JOIN_SECONDS
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < end:
        time.sleep(0.0001)


sweeper = Sweeper()
"""The process's own."""
stop_before_forks(sweeper)
