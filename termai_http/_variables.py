"""Values from environment variables: one a field, with the field's name in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from ._importing import importing
from ._log import log
from .errors import ConfigurationError

__all__ = [
    "FLAGS",
    "NESTED",
    "UNREAD",
    "close_to",
    "from_variables",
    "read_variables",
    "variable_names",
]

_T = TypeVar("_T")


PREFIX = "TERMAI_HTTP_"
FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
# Of a field's metadata: the class of its own fields, which have the variables; and whether it has
# none at all.
NESTED = "nested"
UNREAD = "unread"


def read_variables(
    cls: type[Any], environ: Mapping[str, str], others: frozenset[str]
) -> dict[str, str]:
    """Return what is set of a class's fields, by variable; an unknown name is warned of.

    Args:
        cls: The class.
        environ: All variables.
        others: Those that are read elsewhere.
    """
    known = variable_names(cls)
    found = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in others or not text.strip():
            continue
        if name in known:
            found[name] = text.strip()
        else:
            close = close_to(name, known)
            hint = f"; did you mean {close}?" if close else ""
            log.warning("The environment variable %s is unknown and ignored%s", name, hint)
    return found


def close_to(name: str, known: list[str]) -> str | None:
    """Return the known name that this may be a slip of."""
    with importing():
        import difflib
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def variable_names(cls: type[Any], prefix: str = PREFIX) -> list[str]:
    """Return the names of the variables of a class's fields."""
    names: list[str] = []
    for field in attrs.fields(cls):
        name = prefix + field.name.upper()
        if nested := field.metadata.get(NESTED):
            names.extend(variable_names(nested, f"{name}_"))
        elif not field.metadata.get(UNREAD):
            names.append(name)
    return names


def from_variables(cls: type[_T], found: Mapping[str, str], prefix: str = PREFIX) -> _T:
    """Make a value of what ``read_variables`` found.

    Raises:
        ConfigurationError: A value cannot be read; the message names the variable.
    """
    values: dict[str, Any] = {}
    for field in attrs.fields(cls):  # type: ignore[arg-type]
        name = prefix + field.name.upper()
        if nested := field.metadata.get(NESTED):
            if any(variable.startswith(f"{name}_") for variable in found):
                values[field.name] = from_variables(nested, found, f"{name}_")
        elif name in found:
            values[field.name] = _parse(field, found[name], name)
    try:
        return cls(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error.message} (from {prefix}* variables)") from None


def _parse(field: attrs.Attribute[Any], text: str, name: str) -> Any:
    kind = str(field.type)
    try:
        if kind == "bool":
            return FLAGS[text.lower()]
        if kind.startswith("frozenset"):
            return frozenset(int(part) for part in text.split(","))
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            return float(text)
    except (KeyError, ValueError):
        wanted = {"b": "true or false", "i": "a whole number", "f": "a number"}[kind[0]]
        if kind.startswith("frozenset"):
            wanted = "whole numbers with commas between"
        raise ConfigurationError(f"{name} must be {wanted}, not {text!r}.") from None
    if field.name == "proxies":
        return {"http": text, "https": text}
    if field.name == "client_cert" and "," in text:
        certificate, _, key = text.partition(",")
        return certificate.strip(), key.strip()
    return text
