"""Nulls in the place of properties that were left out, which strict modes do not allow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["restore", "takes_null", "target", "type_of"]

_SHAPE = frozenset({"$ref", "allOf", "anyOf", "const", "enum", "oneOf", "properties", "type"})
_POINTER = re.compile(r"#(/.*)?", re.DOTALL)
_MOST_STEPS = 100


def restore(value: Any, schema: Any) -> Any:
    """Return a value of the strict form of a schema as the schema itself means it.

    A null of a property that may be left out, and may not be null, is left out.
    """
    return _restore(value, schema, schema)


def takes_null(node: Any, root: Any, steps: int = _MOST_STEPS) -> bool:
    """Tell whether a schema allows null."""
    node = _plain(node, root)
    if not isinstance(node, Mapping) or not steps:
        return node is True
    if "const" in node or "enum" in node:
        return node.get("const", 0) is None or None in (node.get("enum") or ())
    if branches := _branches(node):
        return any(takes_null(branch, root, steps - 1) for branch in branches)
    kind = node.get("type")
    if kind is None:
        return not _SHAPE & node.keys()
    return "null" in ([kind] if isinstance(kind, str) else kind)


def target(reference: Any, root: Any) -> Mapping[str, Any] | None:
    """Return what a local reference points to; None where it points to no schema."""
    if not isinstance(reference, str) or not _POINTER.fullmatch(reference):
        return None
    found = root
    for part in reference.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, (list, tuple)) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found if isinstance(found, Mapping) else None


def type_of(value: Any) -> str:
    """Return the JSON type of a value; the name of its class where it has none."""
    if value is None:
        return "null"
    for kind, classes in _CLASSES.items():
        if isinstance(value, classes) and (kind == "boolean" or not isinstance(value, bool)):
            return kind
    return type(value).__name__


_CLASSES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (float,),
    "string": (str,),
    "array": (list, tuple),
    "object": (Mapping,),
}


def _plain(node: Any, root: Any) -> Any:
    """Return what a node refers to, and what stands in an ``allOf`` of one."""
    for _ in range(_MOST_STEPS):
        if not isinstance(node, Mapping):
            return node
        if "$ref" in node:
            node = target(node["$ref"], root)
        elif isinstance(node.get("allOf"), (list, tuple)) and len(node["allOf"]) == 1:
            node = node["allOf"][0]
        else:
            return node
    return None


def _branches(node: Mapping[str, Any]) -> Any:
    return node.get("anyOf") or node.get("oneOf")


def _restore(value: Any, node: Any, root: Any) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    node = _plain(node, root)
    if not isinstance(node, Mapping):
        return value
    if branches := _branches(node):
        fitting = (branch for branch in branches if _fits(value, branch, root))
        return _restore(value, next(fitting, None), root)
    if isinstance(value, list):
        return [_restore(item, _item(node, at), root) for at, item in enumerate(value)]
    properties = node.get("properties")
    if not isinstance(properties, Mapping):
        return value
    required = node.get("required", ())
    return {
        name: _restore(item, properties.get(name), root)
        for name, item in value.items()
        if item is not None or not _may_miss(name, properties, required, root)
    }


def _may_miss(name: str, properties: Mapping[str, Any], required: Any, root: Any) -> bool:
    """Tell whether a null of a property stands for leaving it out."""
    return name in properties and name not in required and not takes_null(properties[name], root)


def _item(node: Mapping[str, Any], at: int) -> Any:
    parts = node.get("prefixItems")
    if isinstance(parts, (list, tuple)) and at < len(parts):
        return parts[at]
    return node.get("items")


def _fits(value: Any, node: Any, root: Any, steps: int = _MOST_STEPS) -> bool:
    """Tell whether a value looks like one of a schema's strict form, bounds apart."""
    node = _plain(node, root)
    if not isinstance(node, Mapping) or not steps:
        return node is True
    if branches := _branches(node):
        return any(_fits(value, branch, root, steps - 1) for branch in branches)
    if "const" in node or "enum" in node:
        return value in ([node["const"]] if "const" in node else node["enum"])
    kind, allowed = type_of(value), node.get("type")
    allowed = [allowed] if isinstance(allowed, str) else allowed
    if allowed and kind not in allowed and not (kind == "integer" and "number" in allowed):
        return False
    if kind == "array":
        return all(_fits(item, _item(node, at), root, steps - 1) for at, item in enumerate(value))
    properties = node.get("properties")
    if kind != "object" or not isinstance(properties, Mapping):
        return True
    required = node.get("required", ())
    if not all(name in value for name in required) or not all(name in properties for name in value):
        return False
    return all(
        (item is None and _may_miss(name, properties, required, root))
        or _fits(item, properties[name], root, steps - 1)
        for name, item in value.items()
    )
