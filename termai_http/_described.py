"""Annotations that name what is not loaded yet, for those who ask what the names mean."""

from __future__ import annotations

import re
import sys
import types

from ._importing import importing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["described"]


def described(face: F) -> F:
    """Let a function's annotations be read, though its module loads nothing that they name.

    ``typing.get_type_hints`` and ``inspect.signature`` follow ``__wrapped__`` to the function
    whose globals they look names up in: here to a twin, made when somebody does.
    """
    face.__wrapped__ = _Behind(face)  # type: ignore[attr-defined]
    return face


class _Behind:
    """Stands between a function and its twin."""

    __slots__ = ("_face",)

    def __init__(self, face: Any) -> None:
        self._face = face

    @property
    def __wrapped__(self) -> types.FunctionType:
        face = self._face
        names = {**_meanings(face.__annotations__.values()), **face.__globals__}
        twin = types.FunctionType(face.__code__, names, face.__name__, face.__defaults__)
        twin.__kwdefaults__, twin.__annotations__ = face.__kwdefaults__, face.__annotations__
        twin.__module__, twin.__qualname__ = face.__module__, face.__qualname__
        twin.__doc__ = face.__doc__
        return twin


def _meanings(annotations: Any) -> dict[str, object]:
    with importing():
        import collections.abc
        import concurrent.futures
        import os
        import typing

        from . import _layer, events, models
    # The face loads its own names.
    homes = (
        *(sys.modules[__package__ or ""], models, events, _layer, collections.abc, typing),
        *(concurrent.futures, types.SimpleNamespace(os=os)),
    )
    found: dict[str, object] = {}
    texts = list(annotations)
    while texts:
        for name in re.findall(r"\w+", texts.pop()):
            home = next((one for one in homes if hasattr(one, name)), None)
            if home is not None and name not in found:
                found[name] = getattr(home, name)
                if isinstance(found[name], str):  # an alias of types
                    texts.append(found[name])
    return found
