"""What the metrics of one call cost: what a call says to ``HttpMetrics`` is said to one again.

The difference of two clients, with metrics and without, is below the noise of both. So what a
call hands to the metrics is caught, and timed by itself, the making of its record included.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any

import attrs

from termai_http import HttpMetrics

from ._peers import Opened

__all__ = ["seconds_a_call"]


def _catch(open_client: Callable[[], Opened]) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Return the methods of ``HttpMetrics`` that one call uses, with what it hands to them."""
    caught: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    depth = [0]
    methods = {
        name: method
        for name, method in vars(HttpMetrics).items()
        if inspect.isfunction(method) and not name.startswith("__")
    }

    def catching(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def called(metrics: HttpMetrics, *args: Any, **kwargs: Any) -> Any:
            if not depth[0]:
                caught.append((name, args, kwargs))
            depth[0] += 1
            try:
                return method(metrics, *args, **kwargs)
            finally:
                depth[0] -= 1

        return called

    for name, method in methods.items():
        setattr(HttpMetrics, name, catching(name, method))
    opened = open_client()
    opened.call()
    caught.clear()
    opened.call()
    found = list(caught)
    opened.close()
    for name, method in methods.items():
        setattr(HttpMetrics, name, method)
    return found


def _maker(value: Any) -> Callable[[], Any]:
    """Return what makes a value: a record is made anew, as a call does."""
    if attrs.has(type(value)):
        cls, fields = type(value), attrs.asdict(value, recurse=False)
        return lambda: cls(**fields)
    return lambda: value


def seconds_a_call(open_client: Callable[[], Opened], count: int) -> float:
    """Return the seconds of CPU that the metrics of one call take.

    Args:
        open_client: Makes a client of ours.
        count: How often it is done.

    Raises:
        RuntimeError: A call told nothing to the metrics.
    """
    caught = _catch(open_client)
    if not caught:
        raise RuntimeError("a call told nothing to the metrics")
    metrics = HttpMetrics()
    says = [
        (getattr(metrics, name), [_maker(value) for value in args], kwargs)
        for name, args, kwargs in caught
    ]
    begun = time.process_time()
    for _ in range(count):
        for method, makers, kwargs in says:
            method(*[make() for make in makers], **kwargs)
    return (time.process_time() - begun) / count
