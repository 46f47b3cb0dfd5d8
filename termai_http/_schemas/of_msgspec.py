"""What msgspec makes of types: JSON schemas, and values from JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union

import attrs
import msgspec
import msgspec.inspect
import msgspec.structs

from .classes import classes_of

__all__ = ["Unsupported", "convert_to_type", "is_readable", "schema_of_type"]

AdapterOf = Callable[[Any], Any]
"""Returns what reads and describes a class that msgspec does not know; None where nothing does."""

_FORMATS = {dt.datetime: "date-time", dt.time: "time"}
_WRAPPERS = {"Required", "NotRequired", "ReadOnly"}
_KEPT_TYPES = 64


class Unsupported(TypeError):
    """A type that no JSON schema is made of."""


def schema_of_type(kind: Any, adapter_of: AdapterOf) -> dict[str, Any]:
    """Return the JSON schema of a type; its classes stand in ``$defs``.

    Raises:
        Unsupported: It holds a class that nothing knows.
        TypeError: msgspec cannot tell apart the parts of a union in it.
        KeyError: It cannot tell apart two classes by their names.
        NameError: A name in its annotations is unknown.
    """
    # What cannot be read later is refused now.
    msgspec.json.Decoder(kind)
    kind = _rewritten(kind, {})
    fields = list(_fields(kind))
    kinds = [kind, *(cls for cls, *_ in fields), *(hint for *_, hint, _ in fields)]
    foreign: dict[str, Any] = {}
    hook = functools.partial(_foreign_schema, adapter_of, foreign, [])
    (schema, *found), defs = msgspec.json.schema_components(kinds, schema_hook=hook)
    for at, (_, name, place, _, words) in enumerate(fields):
        owner = defs[found[at]["$ref"].rpartition("/")[2]]
        _describe(owner, name, place, found[len(fields) + at], words)
    for definition in defs.values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    defs.update(foreign)
    return {**schema, "$defs": defs} if defs else dict(schema)


def convert_to_type(value: Any, kind: Any, adapter_of: AdapterOf) -> Any:
    """Return a JSON value as a type.

    Raises:
        msgspec.ValidationError: It does not fit; the message ends with the place.
    """

    def read(cls: type, inner: Any) -> Any:
        adapter = adapter_of(cls)
        if adapter is None:
            raise Unsupported(cls)
        return adapter.validate_json(json.dumps(inner))

    converted = msgspec.convert(value, kind, str_keys=True, dec_hook=read)
    return _built_anew(converted) if _has_converters(kind) else converted


def is_readable(kind: Any) -> bool:
    """Tell whether msgspec can tell apart the parts of every union in a type."""
    try:
        msgspec.json.Decoder(kind)
    except TypeError:
        return False
    return True


def _foreign_schema(
    adapter_of: AdapterOf, foreign: dict[str, Any], known: list[type], cls: type
) -> dict[str, Any]:
    """Return the schema of a class that msgspec does not know, its definitions in ``foreign``."""
    adapter = adapter_of(cls)
    if adapter is None:
        raise Unsupported(cls)
    if cls not in known:
        known.append(cls)
    # Names that no other definition has, and the same ones in every process: vendors keep what
    # they made of a schema.
    home = f"{cls.__name__}-{known.index(cls) + 1}"
    schema = dict(adapter.json_schema(ref_template=f"#/$defs/{home}-{{model}}"))
    for name, definition in schema.pop("$defs", {}).items():
        foreign[f"{home}-{name}"] = definition
    return schema


def _infos(kind: Any) -> Iterator[Any]:
    """Yield what msgspec knows of a type and of everything in it."""
    seen: set[Any] = set()
    waiting = [msgspec.inspect.type_info(kind)]
    while waiting:
        info = waiting.pop()
        cls = getattr(info, "cls", None)
        if cls is not None and cls in seen:
            continue
        seen.add(cls)
        yield info
        fields = getattr(info, "fields", ())
        waiting.extend(field.type for field in reversed(fields))
        for name in ("type", "item_type", "key_type", "value_type"):
            if isinstance(inner := getattr(info, name, None), msgspec.inspect.Type):
                waiting.append(inner)
        for name in ("item_types", "types"):
            waiting.extend(reversed(getattr(info, name, ())))


def _fields(kind: Any) -> Iterator[tuple[Any, str, int, Any, str | None]]:
    """Yield the fields that msgspec's schema says too little of.

    Each as its class, its name in JSON, its place from the end, its type as it shall be described,
    and its description.
    """
    for info in _infos(kind):
        fields = getattr(info, "fields", ())
        if not fields:
            continue
        origin = typing.get_origin(info.cls) or info.cls
        given = dict(
            zip(getattr(origin, "__parameters__", ()), typing.get_args(info.cls), strict=False)
        )
        hints = typing.get_type_hints(origin, include_extras=True)
        named = isinstance(info, msgspec.inspect.NamedTupleType)
        for at, field in enumerate(fields):
            hint = hints.get(field.name, Any)
            better = _rewritten(hint, given)
            words = _metadata(origin, field.name).get("description")
            words = words if isinstance(words, str) else None
            open_end = bool(getattr(better, "__parameters__", ()))
            if not open_end and (better is not hint or words or named):
                yield info.cls, field.encode_name, at - len(fields), better, words


def _describe(
    owner: dict[str, Any], name: str, place: int, better: dict[str, Any], words: str | None
) -> None:
    """Put the better schema of a field in its place."""
    home: Any
    key: Any
    better = dict(better)
    if words:
        better["description"] = words
    home, key = owner.get("properties"), name
    if home is None:
        # The items of a tuple have no names of their own.
        home, key = owner["prefixItems"], place
        better["title"] = name
    if "default" in home[key]:
        better["default"] = home[key]["default"]
    home[key] = better


def _metadata(cls: Any, name: str) -> Mapping[Any, Any]:
    """Return the metadata of a field of an attrs class or a dataclass."""
    if attrs.has(cls):
        found = attrs.fields_dict(cls).get(name)
    else:
        found = getattr(cls, "__dataclass_fields__", {}).get(name)
    return found.metadata if found is not None else {}


def _rewritten(hint: Any, given: Mapping[Any, Any]) -> Any:
    """Return a type whose schema says more: descriptions that are plain text, formats of times.

    Args:
        hint: The type; it comes back itself where there is no more to say.
        given: What stands for its type variables.
    """
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    if isinstance(hint, type) and hint in _FORMATS:
        return Annotated[hint, msgspec.Meta(extra_json_schema={"format": _FORMATS[hint]})]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or origin is typing.Literal or not args:
        return hint
    if origin is Annotated:
        return _annotated(hint, _rewritten(args[0], given), args[1:])
    if getattr(origin, "_name", None) in _WRAPPERS:
        return _rewritten(args[0], given)
    better = tuple(_rewritten(arg, given) for arg in args)
    if all(new is old for new, old in zip(better, args, strict=True)):
        return hint
    if origin is Union or origin is types.UnionType:
        return Union[better]  # noqa: UP007 -- the parts are known here only
    try:
        return origin[better]
    except TypeError:
        return hint


def _annotated(hint: Any, base: Any, metadata: tuple[Any, ...]) -> Any:
    changed = base is not typing.get_args(hint)[0]
    known = any(isinstance(one, msgspec.Meta) and one.description for one in metadata)
    kept = []
    for one in metadata:
        # As text, as PEP 727 has it, or as pydantic does.
        words = one if isinstance(one, str) else getattr(one, "documentation", None)
        words = words or getattr(one, "description", None)
        if isinstance(words, str) and words.strip() and not known:
            kept.append(msgspec.Meta(description=inspect.cleandoc(words)))
            changed = known = True
        else:
            kept.append(one)
    return Annotated[(base, *kept)] if changed else hint


def _has_converters(kind: Any) -> bool:
    try:
        return _hashable_has_converters(kind)
    except TypeError:
        return _hashable_has_converters.__wrapped__(kind)


@functools.lru_cache(maxsize=_KEPT_TYPES)
def _hashable_has_converters(kind: Any) -> bool:
    return any(_converters(cls) for cls in classes_of(kind))


def _converters(cls: Any) -> bool:
    return attrs.has(cls) and any(field.converter is not None for field in attrs.fields(cls))


def _built_anew(value: Any) -> Any:
    """Return a value whose attrs classes were made by calling them, as converters want it.

    msgspec sets their attributes and runs their validators, but no converters.
    """
    if isinstance(value, dict):
        return {key: _built_anew(item) for key, item in value.items()}
    if isinstance(value, (list, set, frozenset)):
        return type(value)(_built_anew(item) for item in value)
    if isinstance(value, tuple):
        items = [_built_anew(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    names = _names(value)
    changed = {}
    for name in names:
        old = getattr(value, name, None)
        if (new := _built_anew(old)) is not old:
            changed[name] = new
    if _converters(type(value)):
        aliases = {field.name: field.alias for field in attrs.fields(type(value))}
        return attrs.evolve(value, **{aliases[name]: new for name, new in changed.items()})
    for name, new in changed.items():
        if isinstance(value, msgspec.Struct):
            msgspec.structs.force_setattr(value, name, new)
        else:
            object.__setattr__(value, name, new)
    return value


def _names(value: Any) -> tuple[str, ...]:
    """Return the names of the fields of a value; none where it has no fields."""
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if attrs.has(type(value)):
        return tuple(field.name for field in attrs.fields(type(value)))
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return ()
