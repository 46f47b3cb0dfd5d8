"""What the vendors' strict modes refuse in a JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._fitting import resolved

__all__ = ["claude_refuses", "openai_refuses"]

_REFUSED_BY_OPENAI = (
    *("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"),
    *("patternProperties", "propertyNames", "unevaluatedProperties", "uniqueItems", "contains"),
)
# By type, since the vendor's words name it.
_REFUSED_BY_CLAUDE: dict[str, tuple[str, ...]] = {
    "array": ("maxItems", "uniqueItems", "contains"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
    "string": ("minLength", "maxLength"),
}
_SAY_A_TYPE = ("type", "anyOf", "allOf", "$ref", "enum", "const")


def openai_refuses(schema: Any) -> Iterator[str]:
    """Yield what OpenAI's strict mode refuses, the first thing first."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind != "object":
        named = kind if isinstance(kind, str) else "None"
        yield f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{named}\"'."
        return
    for context, inner in _walk(schema):
        for wrong in _wrong_for_openai(schema, inner):
            yield f"In context={context}, {wrong}"


def _wrong_for_openai(root: Any, schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield "a schema must be an object."
        return
    for name in _REFUSED_BY_OPENAI:
        if name in schema:
            yield f"'{name}' is not permitted."
    if "$ref" in schema:
        if others := sorted(set(schema) - {"$ref", "$defs", "definitions"}):
            yield f"$ref cannot have keywords {others}."
        if resolved(root, schema["$ref"]) is None:
            yield f"reference {schema['$ref']!r} names nothing in the schema."
    elif not any(name in schema for name in _SAY_A_TYPE):
        yield "schema must have a 'type' key."
    if "array" in _types(schema) and "items" not in schema:
        yield "array schema missing items."
    if "object" in _types(schema):
        if schema.get("additionalProperties") is not False:
            yield "'additionalProperties' is required to be supplied and to be false."
        yield from _not_required(schema)


def _not_required(schema: Mapping[str, Any]) -> Iterator[str]:
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, dict) else {}
    names = required if isinstance(required, list) else []
    wanted = (
        "'required' is required to be supplied and to be an array including every key in "
        "properties."
    )
    for name in known:
        if name not in names:
            yield f"{wanted} Missing '{name}'."
    for name in names:
        if name not in known:
            yield f"{wanted} Extra required key '{name}' supplied."


def claude_refuses(schema: Any) -> Iterator[str]:
    """Yield what Claude's structured outputs and strict tools refuse, the first thing first."""
    for _, inner in _walk(schema):
        if not isinstance(inner, dict):
            yield "a schema must be an object."
            continue
        if "oneOf" in inner:
            yield "'oneOf' is not supported. Use 'anyOf'."
        reference = inner.get("$ref")
        if reference is not None and resolved(schema, reference) is None:
            yield f"$ref {reference!r} names nothing in the schema."
        elif not any(name in inner for name in _SAY_A_TYPE):
            yield "a schema must have a 'type', 'anyOf', 'allOf', 'enum', 'const' or '$ref'."
        for kind in _types(inner):
            yield from _wrong_for_claude(inner, kind)


def _wrong_for_claude(schema: Mapping[str, Any], kind: str) -> Iterator[str]:
    if kind == "object" and schema.get("additionalProperties") is not False:
        yield "For 'object' type, 'additionalProperties' must be explicitly set to false."
    refused = sorted(name for name in _REFUSED_BY_CLAUDE.get(kind, ()) if name in schema)
    if refused:
        yield f"For '{kind}' type, properties {', '.join(refused)} are not supported."
    if kind == "array" and schema.get("minItems", 0) not in (0, 1):
        yield "For 'array' type, 'minItems' values other than 0 or 1 are not supported."


def _types(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type")
    named = kind if isinstance(kind, list) else [kind]
    implied = "properties" in schema and "object" not in named
    return [one for one in named if isinstance(one, str)] + ["object"] * implied


def _walk(schema: Any, context: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a schema and all within it, each with where it stands."""
    yield context, schema
    if not isinstance(schema, dict):
        return
    for name in ("properties", "$defs", "definitions"):
        inner = schema.get(name)
        for key, value in inner.items() if isinstance(inner, dict) else ():
            yield from _walk(value, (*context, name, key))
    for name in ("anyOf", "allOf", "prefixItems"):
        inner = schema.get(name)
        for at, value in enumerate(inner if isinstance(inner, list) else ()):
            yield from _walk(value, (*context, name, str(at)))
    if "items" in schema and schema["items"] is not False:
        yield from _walk(schema["items"], (*context, "items"))
