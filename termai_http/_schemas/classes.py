"""What a type is made of, as far as its annotations say."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["classes_of", "parts_of"]


def classes_of(kind: Any) -> Iterator[type]:
    """Yield every class in a type: itself, arguments of generics, and types of fields.

    What cannot be resolved is passed over.
    """
    for part in parts_of(kind):
        cls = typing.get_origin(part) or part
        if isinstance(cls, type):
            yield cls


def parts_of(kind: Any, closed: Callable[[type], bool] = lambda _: False) -> Iterator[Any]:
    """Yield everything in a type once, what stands in an ``Annotated`` too.

    Args:
        kind: The type.
        closed: Tells of a class whether its fields are its own affair, and not to be yielded.
    """
    # The parts themselves, since a new one may get the id of one that is gone.
    seen: dict[int, Any] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        yield one
        waiting.extend(typing.get_args(one))
        # An alias of the ``type`` statement, and a ``NewType``.
        for name in ("__value__", "__supertype__"):
            if (meant := getattr(one, name, None)) is not None:
                waiting.append(meant)
        cls = typing.get_origin(one) or one
        if isinstance(cls, type) and not closed(cls):
            waiting.extend(_hints(cls))


def _hints(cls: type) -> list[Any]:
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:
        # Whatever comes of evaluating annotations; what makes the schema tells it in words.
        return []
