"""The limit on the time of every call made in a context, whoever makes it.

A host that has promised an answer by an instant (a web request, a task) sets it; the code between
need not pass it on. What ``contextvars`` carries into a thread, carries it too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ._numbers import is_number
from .errors import ConfigurationError

__all__ = ["deadline", "earliest", "time_limit", "within"]

deadline: ContextVar[float | None] = ContextVar("termai_http_deadline", default=None)
"""Monotonic instant that no call begun here outlives; None for no limit."""


def earliest(*instants: float | None) -> float | None:
    """Return the first of some instants, of which None are never; None where all are."""
    return min((instant for instant in instants if instant is not None), default=None)


@contextmanager
def within(instant: float | None) -> Iterator[None]:
    """Let no call begun in the block outlive a monotonic instant; None lifts every limit."""
    token = deadline.set(instant)
    try:
        yield
    finally:
        deadline.reset(token)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Give the calls begun in a ``with`` block so many seconds together, from its entry on.

    It only shortens: neither the calls' own ``timeout`` nor a limit around the block grows by it.
    A stream begun in the block ends by then too, wherever it is read. Nothing waits for the end
    of the time, and code that makes no call is not interrupted. Each thread and context has its
    own.

    Args:
        seconds: At least 0; with 0 each call fails at once.

    Raises:
        ConfigurationError: ``seconds`` is no finite number of at least 0.
    """
    if not is_number(seconds) or seconds < 0:
        raise ConfigurationError(f"seconds must be a number of at least 0, not {seconds!r}.")
    with within(earliest(time.monotonic() + seconds, deadline.get())):
        yield
