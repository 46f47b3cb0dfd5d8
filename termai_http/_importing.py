"""The lock around imports that a call makes at first use, so that no fork falls into one."""

from __future__ import annotations

import threading

TYPE_CHECKING = False  # the module typing takes longer to load than all of the face
if TYPE_CHECKING:
    from typing import Any

__all__ = ["importing", "start_over"]

_lock = threading.RLock()


def importing() -> Any:
    """Return the lock under which to import what is needed now; a fork takes it first.

    Python makes no import lock anew in a forked child: one that another thread held at the fork
    stays locked there for ever.
    """
    return _lock


def start_over() -> None:
    """Take a new lock, in the child."""
    global _lock
    _lock = threading.RLock()
