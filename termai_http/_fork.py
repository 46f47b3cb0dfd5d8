"""Forks: locks taken before, given back after in the parent; made anew in the child.

The package loads this before anything else, so that a fork during a first call waits for its
imports.
"""

from __future__ import annotations

# Its handlers stand before ours, and so take its lock after those of ours: the other way round a
# fork would hold that lock while it waits for an import, which needs it.
import logging  # noqa: F401
import os
import sys
import threading
import weakref

from . import _importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    class Forkable(Protocol):
        """What has locks, and state that a child must not inherit."""

        def locks(self) -> Iterable[Any]:
            """Return the locks, those that are taken first before those taken inside them."""

        def start_over(self) -> None:
            """Begin anew in the child, with new locks: the old ones are never released there."""

    class Stoppable(Forkable, Protocol):
        """What has a thread, which no child inherits."""

        def stop(self, patience: float = -1) -> bool:
            """End the thread; returns whether it ran."""

        def resume(self) -> None:
            """Begin it again."""


__all__ = ["notice_fork", "stop_before_forks", "take_part"]

_LOCK_SECONDS = 1.0
_IMPORT_SECONDS = 30.0

_all: weakref.WeakSet[Forkable] = weakref.WeakSet()
_sweeper: Stoppable | None = None
_registering = threading.Lock()
_before_fork = threading.local()
_process = os.getpid()
_noticing: dict[int, threading.Lock] = {}


def take_part(forkable: Forkable) -> None:
    """Let something take part in every later fork, as long as it lives."""
    with _registering:
        _all.add(forkable)


def stop_before_forks(sweeper: Stoppable) -> None:
    """Let the one thread of this package be stopped before every later fork."""
    global _sweeper
    _sweeper = sweeper


def _before() -> None:
    # First of all: an interrupt may end this at any instant.
    taken: list[Any] = []
    _before_fork.taken, _before_fork.swept = taken, False
    # Before the others: whoever imports may take any of them.
    _take(_importing.importing(), taken, _IMPORT_SECONDS)
    sweeper = _sweeper
    if sweeper is not None:
        _before_fork.swept = sweeper.stop(_LOCK_SECONDS)
    for forkable in _everybody():
        for lock in forkable.locks():
            _take(lock, taken)
    # Last, as those who hold the others may be about to take one of these.
    for lock in (_registering, *(sweeper.locks() if sweeper is not None else ())):
        _take(lock, taken)


def _everybody() -> list[Forkable]:
    if not _registering.acquire(timeout=_LOCK_SECONDS):
        return []
    try:
        return list(_all)
    finally:
        _registering.release()


def _take(lock: Any, taken: list[Any], seconds: float | None = None) -> None:
    # Bounded: a fork inside a signal handler may find a lock that its own thread holds.
    if lock.acquire(timeout=_LOCK_SECONDS if seconds is None else seconds):
        taken.append(lock)


def _after_in_parent() -> None:
    while _before_fork.taken:
        _before_fork.taken.pop().release()
    if _sweeper is None or not _before_fork.swept:
        return
    # Python 3.12 and later warn of a fork that leaves a process with threads, of this one too. In
    # a process without others the next call begins it again.
    if sys.version_info < (3, 12) or threading.active_count() > 1:
        _sweeper.resume()


def _after_in_child() -> None:
    global _registering, _process
    _registering = threading.Lock()
    _before_fork.taken = []
    _importing.start_over()
    if _sweeper is not None:
        _sweeper.start_over()
    for forkable in list(_all):
        forkable.start_over()
    _process = os.getpid()


def notice_fork() -> None:
    """Do in a child what the hooks do, where a host forked without them; safe from any thread."""
    process = os.getpid()
    # Made in this process, whichever thread comes first: no lock of before can be trusted.
    with _noticing.setdefault(process, threading.Lock()):
        if process != _process:
            _after_in_child()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
