"""Values: attrs classes that compare, hash and show themselves without code made for each.

What attrs compiles for these three is most of the time that a class takes to be made, and few
values are ever compared or shown.

What each call makes for itself, and shows to nobody, is ``attrs.define``: to freeze an instance
takes longer than to make it.
"""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["Value"]


class Value:
    """Base of an ``attrs.frozen(eq=False, repr=False)``; does by its fields what attrs would."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        names = [field.name for field in _fields(self) if field.eq]
        return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]

    def __hash__(self) -> int:
        hashed = (one for one in _fields(self) if (one.eq if one.hash is None else one.hash))
        return hash((type(self), *(getattr(self, field.name) for field in hashed)))

    def __repr__(self) -> str:
        shown = (
            f"{one.name}={(one.repr if callable(one.repr) else repr)(getattr(self, one.name))}"
            for one in _fields(self)
            if one.repr
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"


def _fields(value: Value) -> tuple[attrs.Attribute[Any], ...]:
    return attrs.fields(type(value))  # type: ignore[arg-type, no-any-return]
