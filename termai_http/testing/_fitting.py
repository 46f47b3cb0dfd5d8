"""JSON values that fit a JSON schema: small, and the same each time."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["fitting", "resolved"]

_FORMATS = {
    "date": "2026-11-24",
    "date-time": "2026-11-24T12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_CANDIDATES = (
    *("", "a", "A", "abc", "ABC", "a1", "A1", "0", "1", "10", "+1", "#0"),
    *_FORMATS.values(),
)
# A schema that holds itself is followed this deep; from there on whatever ends it is taken.
_DEEP = 6
_DEEPEST = 60
_LIMITS: dict[str, Callable[[float, float], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}


def fitting(schema: Any, said: str) -> Any:
    """Return a value that fits a schema.

    Args:
        schema: A JSON schema.
        said: What strings say where their schema takes it.
    """
    return _Fitter(schema, said).value(schema, 0)


def resolved(root: Any, reference: Any) -> Any:
    """Return what a ``$ref`` within a schema names; None where it names nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for step in filter(None, reference[1:].split("/")):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            return None
    return found


class _Fitter:
    def __init__(self, root: Any, said: str) -> None:
        self._root = root
        self._said = said

    def value(self, schema: Any, depth: int) -> Any:
        """Return a value for a schema that stands ``depth`` below the root."""
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return self._said if schema is True else None
        if "$ref" in schema:
            named = resolved(self._root, schema["$ref"])
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            return self.value({**(named if isinstance(named, dict) else {}), **rest}, depth + 1)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        for name in ("anyOf", "oneOf"):
            if isinstance(schema.get(name), list) and schema[name]:
                return self.value(self._choice(schema[name], depth), depth + 1)
        if isinstance(schema.get("allOf"), list):
            return self.value(self._merged(schema), depth + 1)
        return self._typed(_type_of(schema), schema, depth)

    def _choice(self, options: Sequence[Any], depth: int) -> Any:
        """Choose what says most, or deep down what ends soonest."""
        scalar = [one for one in options if _type_of(one) not in ("array", "object", "unknown")]
        empty = [one for one in options if _type_of(one) == "null"]
        if depth >= _DEEP:
            return (empty or scalar or list(options))[0]
        return next((one for one in options if one not in empty), options[0])

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        whole = {name: value for name, value in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            if isinstance(part, dict) and "$ref" in part:
                part = resolved(self._root, part["$ref"])
            for name, value in part.items() if isinstance(part, dict) else ():
                known = whole.get(name)
                if isinstance(known, dict) and isinstance(value, dict):
                    whole[name] = {**known, **value}
                elif isinstance(known, list) and isinstance(value, list):
                    whole[name] = [*known, *value]
                else:
                    whole[name] = value
        return whole

    def _typed(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return self._string(schema)
        if kind in ("integer", "number"):
            return _number(schema, kind == "integer")
        return {"boolean": True, "null": None}.get(kind, self._said)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties"), schema.get("required")
        return {
            name: self.value(inner, depth + 1)
            for name, inner in (properties if isinstance(properties, dict) else {}).items()
            if depth < _DEEP or (isinstance(required, list) and name in required)
        }

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems")
        first = first if isinstance(first, list) else []
        size = max(int(depth < _DEEP), len(first), _count(schema, "minItems", 0))
        size = min(size, _count(schema, "maxItems", size))
        items = schema.get("items", not first)
        if items is False:
            size = min(size, len(first))
        return [
            self.value(first[at] if at < len(first) else items, depth + 1) for at in range(size)
        ]

    def _string(self, schema: Mapping[str, Any]) -> str:
        known = _FORMATS.get(str(schema.get("format")))
        if known is not None:
            return known
        least = _count(schema, "minLength", 0)
        most = _count(schema, "maxLength", max(least, len(self._said)))
        pattern = schema.get("pattern")
        fits = [text.ljust(least, ".")[:most] for text in (self._said, *_CANDIDATES)]
        if isinstance(pattern, str):
            return next((text for text in fits if _matches(pattern, text)), fits[0])
        return fits[0]


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True


def _type_of(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "unknown"
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((str(one) for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    for name, implied in (("properties", "object"), ("items", "array"), ("pattern", "string")):
        if name in schema:
            return implied
    if "const" in schema or "enum" in schema:
        return "null" if schema.get("const", schema.get("enum")) in (None, [None]) else "string"
    return "unknown"


def _number(schema: Mapping[str, Any], whole: bool) -> float:
    limits = [limit for name in _LIMITS if (limit := _bound(schema, name)) is not None]
    step = _bound(schema, "multipleOf") or 1
    tries = [1, 0, step, sum(limits) / max(len(limits), 1)]
    for limit in limits:
        below = math.floor(limit / step) * step
        tries += [limit, below, below + step, below - step, below + 2 * step]
    if whole:
        tries = [math.ceil(one) for one in tries]
    return next((one for one in tries if _within(schema, one)), 1)


def _within(schema: Mapping[str, Any], value: float) -> bool:
    for name, holds in _LIMITS.items():
        limit = _bound(schema, name)
        if limit is not None and not holds(value, limit):
            return False
    step = _bound(schema, "multipleOf")
    return not step or abs(value / step - round(value / step)) < 1e-9


def _bound(schema: Mapping[str, Any], name: str) -> float | None:
    value = schema.get(name)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _count(schema: Mapping[str, Any], name: str, default: int) -> int:
    value = schema.get(name)
    return value if isinstance(value, int) and value >= 0 else default
