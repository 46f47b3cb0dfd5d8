"""Which classes a type is made of, as far as its annotations say."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

__all__ = ["classes_of"]


def classes_of(kind: Any) -> Iterator[type]:
    """Yield every class in a type once: itself, arguments of generics, and types of fields.

    What cannot be resolved is passed over.
    """
    seen: set[int] = set()
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        waiting.extend(typing.get_args(one))
        # An alias of the ``type`` statement, and a ``NewType``.
        for name in ("__value__", "__supertype__"):
            if (meant := getattr(one, name, None)) is not None:
                waiting.append(meant)
        cls = typing.get_origin(one) or one
        if not isinstance(cls, type):
            continue
        yield cls
        if getattr(cls, "__annotations__", None):
            waiting.extend(_hints(cls))


def _hints(cls: type) -> list[Any]:
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:
        return []
