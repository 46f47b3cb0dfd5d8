"""JSON schemas in the form that the vendors' strict modes take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from ..errors import InvalidRequestError
from .size import MOST_PROPERTIES, check_size
from .stand_ins import takes_null, target, type_of
from .words import described, in_words, is_plain, joined, shortened

__all__ = ["inlined", "refers_to_itself", "strict"]

_SCALARS = {"string", "number", "integer", "boolean", "null"}
_TYPES = {*_SCALARS, "object", "array"}
_NULL = {"type": "null"}
# Both vendors take these; Claude alone takes "uri" too.
_FORMATS = {
    *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"),
}
_COMPOSED = {
    *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
    *("patternProperties", "contains", "$dynamicRef", "$recursiveRef"),
}
_SHAPE = {"type", "properties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf"}
# What says nothing beside a reference.
_BARE = {"$ref", "$defs", "$schema", "$id", "title"}
_MOST_NESTED = 60
# References with a description are copied, which may double a schema at each level.
_MOST_STEPS = 50_000


def strict(schema: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a schema in the form that both vendors' strict modes take.

    Every object is closed and requires all of its properties; one that was optional may be null,
    which ``restore`` reads as left out. References stay, and point into ``$defs``. Bounds go into
    the description where one of the vendors refuses them.

    OpenAI: https://developers.openai.com/api/docs/guides/structured-outputs#supported-schemas;
    Claude: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (it refuses
    bounds that OpenAI takes, and schemas that refer to themselves, which OpenAI takes and which
    are left as they are).

    Args:
        schema: The schema; its root has to be an object.
        what: What it belongs to, for errors.

    Raises:
        InvalidRequestError: No strict form of it exists; the message names the place.
    """
    walk = _Walk(schema, what)
    root = walk.convert(inlined(schema), "$", 0)
    if root.get("type") != "object":
        walk.refuse("$", "the root has to be an object with named properties")
    if walk.defs:
        root["$defs"] = walk.defs
    check_size(root, walk.refuse)
    return root


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that says at its root itself what it referred to there."""
    seen: set[str] = set()
    said = dict(schema)
    while (reference := said.get("$ref")) is not None and not _SHAPE & said.keys():
        found = target(reference, schema)
        if found is None or reference in seen:
            break
        seen.add(reference)
        said = {**found, **{key: value for key, value in said.items() if key != "$ref"}}
    return said


def refers_to_itself(schema: Mapping[str, Any]) -> bool:
    """Tell whether a schema is recursive, which Claude's strict mode refuses."""
    places = set(_references(schema)) | {
        reference
        for definition in schema.get("$defs", {}).values()
        for reference in _references(definition)
    }
    return any(_reaches(target(place, schema), place, schema) for place in places)


class _Walk:
    """One conversion: what was found on the way through a schema."""

    def __init__(self, root: Mapping[str, Any], what: str) -> None:
        self.root = root
        self.what = what
        self.defs: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._endless: dict[str, bool] = {}
        self._properties = 0
        self._steps = 0

    def refuse(self, path: str, why: str) -> NoReturn:
        raise InvalidRequestError(f"{self.what} has no strict JSON schema: at {path}: {why}.")

    def convert(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        """Return the strict form of a node."""
        if node is True or (isinstance(node, Mapping) and not node):
            self.refuse(path, "anything (Any) is allowed there; give it a type")
        if not isinstance(node, Mapping):
            self.refuse(path, f"a schema is an object, not {type(node).__name__}")
        self._steps += 1
        if depth > _MOST_NESTED or self._steps > _MOST_STEPS:
            self.refuse(path, "it is nested too deeply, or too large")
        if used := sorted(_COMPOSED & node.keys()):
            self.refuse(path, f"{used[0]!r} is not supported")
        if "$ref" in node:
            return self._reference(node, path, depth)
        if "allOf" in node:
            return self._all_of(node, path, depth)
        if "anyOf" in node or "oneOf" in node:
            return self._any_of(node, path, depth)
        if "const" in node or "enum" in node:
            return self._values(node, path)
        kind = self._type(node, path)
        if isinstance(kind, list):
            return self._types(node, kind, path, depth)
        if kind == "object":
            return self._object(node, path, depth)
        if kind == "array":
            return self._array(node, path, depth)
        kept: dict[str, Any] = {"type": kind}
        if kind == "string":
            if node.get("format") in _FORMATS:
                kept["format"] = node["format"]
            pattern = node.get("pattern")
            if isinstance(pattern, str) and is_plain(pattern):
                kept["pattern"] = pattern
        return described(kept, node)

    def _types(
        self, node: Mapping[str, Any], kinds: list[str], path: str, depth: int
    ) -> dict[str, Any]:
        bare = {key: value for key, value in node.items() if key not in ("title", "description")}
        nodes = [
            dict(_NULL) if kind == "null" else self.convert({**bare, "type": kind}, path, depth + 1)
            for kind in kinds
        ]
        words = {key: node[key] for key in ("title", "description") if key in node}
        return described(_union(nodes), words)

    def _type(self, node: Mapping[str, Any], path: str) -> str | list[str]:
        kind = node.get("type")
        if kind is None:
            if "properties" in node or "additionalProperties" in node:
                return "object"
            if "items" in node or "prefixItems" in node:
                return "array"
            self.refuse(path, "it has no type, so anything (Any) is allowed; give it one")
        kinds = list(kind) if isinstance(kind, (list, tuple)) else [kind]
        for one in kinds:
            if not isinstance(one, str) or one not in _TYPES:
                self.refuse(path, f"{str(one)[:40]!r} is no type of JSON schema")
        return str(kinds[0]) if len(kinds) == 1 else kinds

    def _object(self, node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        more = node.get("additionalProperties")
        properties = node.get("properties")
        if properties is None and more is not False:
            self.refuse(path, "an open map (dict); use a list of objects with a key and a value")
        if more or isinstance(more, Mapping):
            self.refuse(path, "an open object ('additionalProperties'); name all its properties")
        if properties is not None and not isinstance(properties, Mapping):
            self.refuse(path, "'properties' has to be an object")
        required = node.get("required", ())
        properties = properties or {}
        if unknown := [name for name in required if name not in properties]:
            self.refuse(path, f"it requires {unknown[0]!r}, which is none of its properties")
        self._properties += len(properties)
        if self._properties > MOST_PROPERTIES:
            self.refuse(path, f"it has more than {MOST_PROPERTIES} properties")
        converted = {}
        for name, inner in properties.items():
            item = self.convert(inner, f"{path}.{name}", depth + 1)
            if name not in required and not takes_null(inner, self.root):
                item = _nullable(item, inner)
            converted[name] = item
        kept = {
            "type": "object",
            "properties": converted,
            "required": list(converted),
            "additionalProperties": False,
        }
        return described(kept, node)

    def _array(self, node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        parts = node.get("prefixItems")
        if parts is not None:
            return self._tuple(node, parts, path, depth)
        items = node.get("items")
        if items is None:
            self.refuse(path, "a list of anything; give its items a type")
        kept: dict[str, Any] = {
            "type": "array",
            "items": self.convert(items, f"{path}[]", depth + 1),
        }
        if node.get("minItems") in (0, 1):
            kept["minItems"] = node["minItems"]
        return described(kept, node)

    def _tuple(
        self, node: Mapping[str, Any], parts: Sequence[Any], path: str, depth: int
    ) -> dict[str, Any]:
        """Say a tuple as a list, and its order in words: no vendor takes ``prefixItems``."""
        open_end = node.get("items", False) is not False and node.get("maxItems") != len(parts)
        if open_end or not parts:
            self.refuse(path, "a tuple with an open or an empty end; use a list or an object")
        converted: list[dict[str, Any]] = []
        for at, part in enumerate(parts):
            item = self.convert(part, f"{path}[{at}]", depth + 1)
            item.pop("title", None)
            if item not in converted:
                converted.append(item)
        order = ", ".join(in_words(part) for part in parts)
        words = f"exactly {len(parts)} items, in this order: {order}"
        kept = {"type": "array", "items": _union(converted)}
        bare = {key: value for key, value in node.items() if key not in ("minItems", "maxItems")}
        return described(kept, bare, words)

    def _values(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        values = [node["const"]] if "const" in node else node["enum"]
        if not isinstance(values, (list, tuple)) or not values:
            self.refuse(path, "'enum' has to be a list of values")
        groups: dict[str, list[Any]] = {}
        for value in values:
            kind = type_of(value)
            if kind not in _SCALARS:
                self.refuse(path, "'enum' may hold text, numbers, booleans and null only")
            groups.setdefault(kind, []).append(value)
        nodes: list[dict[str, Any]] = []
        for kind, group in groups.items():
            if kind == "null":
                nodes.append(dict(_NULL))
            else:
                one = "const" in node
                nodes.append({"type": kind, **({"const": group[0]} if one else {"enum": group})})
        return described(_union(nodes), node)

    def _any_of(self, node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        word = "anyOf" if "anyOf" in node else "oneOf"
        if beside := sorted((_SHAPE & node.keys()) - {word}):
            self.refuse(path, f"{beside[0]!r} beside {word!r} is not supported")
        branches = node[word]
        if not isinstance(branches, (list, tuple)) or not branches:
            self.refuse(path, f"{word!r} has to be a list of schemas")
        return described(_union([self.convert(one, path, depth + 1) for one in branches]), node)

    def _all_of(self, node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        parts = node["allOf"]
        if (
            not isinstance(parts, (list, tuple))
            or len(parts) != 1
            or (_SHAPE & node.keys()) - {"allOf"}
        ):
            self.refuse(path, "'allOf' is not supported")
        rest = {key: value for key, value in node.items() if key != "allOf"}
        if not isinstance(parts[0], Mapping):
            self.refuse(path, "a schema is an object")
        return self.convert({**parts[0], **rest}, path, depth + 1)

    def _reference(self, node: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        if beside := sorted(_SHAPE & node.keys()):
            self.refuse(path, f"{beside[0]!r} beside '$ref' is not supported")
        pointer, meant = self._resolve(node["$ref"], path)
        # OpenAI takes a reference only when nothing stands beside it.
        words = described({}, node).get("description")
        if words is not None and not self._is_endless(pointer, meant):
            return self.convert({**meant, "description": words}, path, depth + 1)
        if pointer not in self._names:
            self._names[pointer] = name = self._name(pointer)
            # The place holds the order, and ends the recursion.
            self.defs[name] = {}
            self.defs[name].update(self.convert(meant, path, depth + 1))
        reference = {"$ref": f"#/$defs/{self._names[pointer]}"}
        return {"anyOf": [reference], "description": words} if words is not None else reference

    def _is_endless(self, pointer: str, meant: Mapping[str, Any]) -> bool:
        if pointer not in self._endless:
            self._endless[pointer] = _reaches(meant, pointer, self.root)
        return self._endless[pointer]

    def _resolve(self, reference: Any, path: str) -> tuple[str, Mapping[str, Any]]:
        """Return the place and the schema that a reference means, through others."""
        seen: set[str] = set()
        while True:
            found = target(reference, self.root)
            if found is None or reference in seen:
                self.refuse(path, f"the reference {str(reference)[:80]!r} leads nowhere in it")
            seen.add(reference)
            if "$ref" not in found or found.keys() - _BARE:
                return reference, found
            reference = found["$ref"]

    def _name(self, pointer: str) -> str:
        base = re.sub(r"[^A-Za-z0-9_.-]+", "_", pointer.rpartition("/")[2].lstrip("#")) or "Root"
        name, number = base, 2
        while name in self.defs:
            name, number = f"{base}_{number}", number + 1
        return name


def _references(node: Any) -> Iterator[str]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            waiting.extend(value for key, value in node.items() if key != "$defs")
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)


def _reaches(node: Any, pointer: str, root: Any) -> bool:
    """Tell whether references from a node come to a place."""
    seen: set[str] = set()
    waiting = list(_references(node))
    while waiting:
        reference = waiting.pop()
        if reference == pointer:
            return True
        if reference not in seen:
            seen.add(reference)
            waiting.extend(_references(target(reference, root)))
    return False


def _union(nodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a schema of either, unions within it made part of it."""
    flat: list[dict[str, Any]] = []
    for node in nodes:
        for one in node["anyOf"] if node.keys() == {"anyOf"} else [node]:
            if one not in flat:
                flat.append(one)
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _nullable(node: dict[str, Any], raw: Any) -> dict[str, Any]:
    """Return the strict form of a property that may be left out, as null."""
    words = node.pop("description", None)
    default = raw.get("default") if isinstance(raw, Mapping) else None
    note = "null leaves it out" if default is None else f"null means {shortened(default)}"
    branches = node.pop("anyOf", None) or [node]
    beside = node if branches[0] is not node else {}
    return {"anyOf": [*branches, dict(_NULL)], **beside, "description": joined(words, [note])}
