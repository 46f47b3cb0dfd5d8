"""Tracebacks that show no locals of this package, whatever passes through its frames."""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    _E = TypeVar("_E", bound=BaseException)
    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["hide_locals", "hiding", "unwrap"]

# They hold the request, and so key and prompt; a user's hook between them does as it likes.
_CARRIERS = frozenset({"termai_http", "requests", "urllib3", "http", "json", "socket", "ssl"})


def hide_locals(error: _E) -> _E:
    """Clear the locals of the finished frames through which ``error`` came; returns it.

    An error of ours never has such frames. A Ctrl-C, or what a hook raises, keeps its traceback,
    and whoever dumps that with its locals must see neither key nor prompt.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        step = current.__traceback__
        while step is not None:
            frame, step = step.tb_frame, step.tb_next
            if str(frame.f_globals.get("__name__")).partition(".")[0] in _CARRIERS:
                try:
                    frame.clear()
                except RuntimeError:
                    continue  # one that still runs is cleared by its own function
        pending += [current.__cause__, current.__context__]
    return error


def hiding(face: Callable[P, T]) -> Callable[P, T]:
    """Let nothing that leaves a face show its arguments: they hold key and prompt."""

    @functools.wraps(face)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        failure: BaseException
        try:
            return face(*args, **kwargs)
        except BaseException as torn:
            failure = torn
        del args, kwargs
        raise hide_locals(failure)

    return call


def unwrap(reply: T | BaseException) -> T:
    """Return what a face was to give, or raise the exception in its place."""
    if isinstance(reply, BaseException):
        raise reply
    return reply
