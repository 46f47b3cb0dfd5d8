"""The lock around imports that a call makes at first use, so that no fork falls into one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["importing", "lock", "start_over"]

_lock = threading.RLock()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import what is needed now.

    Python makes no import lock anew in a forked child: one that another thread held at the fork
    stays locked there for ever.
    """
    with _lock:
        yield


def lock() -> Any:
    """Return the lock, which a fork takes first."""
    return _lock


def start_over() -> None:
    """Take a new lock, in the child."""
    global _lock
    _lock = threading.RLock()
