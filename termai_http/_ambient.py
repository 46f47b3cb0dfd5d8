"""The limit on the time of every call made in a context, whoever makes it.

A host that has promised an answer by an instant (a web request, a task) sets it; the code between
need not pass it on. What ``contextvars`` carries into a thread, carries it too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

from ._numbers import is_number
from .errors import ConfigurationError

__all__ = ["bind", "earliest", "limit", "time_limit", "within"]

_deadline: ContextVar[tuple[float, int] | None] = ContextVar("termai_http_deadline", default=None)


def limit() -> float | None:
    """Return the monotonic instant that no call begun here outlives; None for no limit.

    A process that is forked in a block goes its own way, and may outlive it by far: the workers of
    a ``ProcessPoolExecutor`` keep the context in which they were forked for good.
    """
    there = _deadline.get()
    return None if there is None or there[1] != os.getpid() else there[0]


def bind(instant: float | None) -> Token[tuple[float, int] | None]:
    """Let no call begun from here on outlive a monotonic instant; None lifts every limit."""
    return _deadline.set(None if instant is None else (instant, os.getpid()))


def earliest(*instants: float | None) -> float | None:
    """Return the first of some instants, of which None are never; None where all are."""
    return min((instant for instant in instants if instant is not None), default=None)


@contextmanager
def within(instant: float | None) -> Iterator[None]:
    """Let no call begun in the block outlive a monotonic instant; None lifts every limit."""
    token = bind(instant)
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Give the calls begun in a ``with`` block so many seconds together, from its entry on.

    It only shortens: neither the calls' own ``timeout`` nor a limit around the block grows by it.
    A stream begun in the block ends by then too, wherever it is read. Nothing waits for the end
    of the time, and code that makes no call is not interrupted. Each thread and context has its
    own; a process that is begun in the block has none.

    Args:
        seconds: At least 0; with 0 each call fails at once.

    Raises:
        ConfigurationError: ``seconds`` is no finite number of at least 0.
    """
    if not is_number(seconds) or seconds < 0:
        raise ConfigurationError(f"seconds must be a number of at least 0, not {seconds!r}.")
    with within(earliest(time.monotonic() + seconds, limit())):
        yield
