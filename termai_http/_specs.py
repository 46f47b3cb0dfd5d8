"""What a model may call and how its reply shall look, as values that dialects encode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ._values import Value

__all__ = ["OutputSpec", "ToolSpec"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ToolSpec(Value):
    """One tool, as every dialect can tell it.

    Attributes:
        name: Its name.
        description: What it does, for the model.
        parameters: JSON schema of its arguments, an object.
        strict: Whether ``parameters`` is a schema that the vendors' strict modes take.
        call: Calls it with arguments as the model gave them; None where it is only described.
    """

    name: str
    description: str = attrs.field(default="", repr=False)
    parameters: Mapping[str, Any] = attrs.field(repr=False)
    strict: bool = False
    call: Callable[[Mapping[str, Any]], Any] | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class OutputSpec(Value):
    """What the text of a reply shall be.

    Attributes:
        name: A name for the schema, which OpenAI asks for.
        schema: JSON schema, an object, that the vendors' strict modes take.
        read: Makes the value of a reply's text; raises ``OutputError``.
    """

    name: str
    schema: Mapping[str, Any] = attrs.field(repr=False)
    read: Callable[[str], Any] = attrs.field(repr=False)
