"""The types that the vendors publish in their SDKs, read as a schema.

``faults`` judges what is sent: every key must be published, every value of its type. ``samples``
makes what is answered: each published kind of reply at least once, full and bare.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, Union

import attrs
import typing_extensions

__all__ = ["faults", "members", "named", "samples"]

_QUALIFIERS = (typing_extensions.Required, typing_extensions.NotRequired)
_LISTS = (list, collections.abc.Iterable, collections.abc.Sequence)
_MAPPINGS = (dict, collections.abc.Mapping)
_PLAIN: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    str: (str,),
    datetime: (str,),
    int: (int,),
    float: (int, float),
    type(None): (type(None),),
}
_SAMPLES: dict[Any, list[Any]] = {
    bool: [True, False],
    str: ["some text"],
    datetime: ["2026-11-24T12:00:00Z"],
    int: [7],
    float: [0.5],
    type(None): [None],
    object: [{"any": "thing"}],
    Any: [{"any": "thing"}],
}


@attrs.frozen
class _Shape:
    """An object: the type of each key, those that are required, whether others may stand in it."""

    keys: Mapping[str, Any]
    required: frozenset[str]
    open: bool


def _without_wrapping(kind: Any) -> Any:
    while True:
        origin = typing.get_origin(kind)
        if origin is typing_extensions.Annotated or origin in _QUALIFIERS:
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, typing_extensions.TypeAliasType):
            kind = kind.__value__
        else:
            return kind


def members(kind: Any) -> list[Any]:
    """Return the types of a union, unions within it included; a type itself where it is none."""
    kind = _without_wrapping(kind)
    if typing.get_origin(kind) in (Union, types.UnionType):
        return [one for inner in typing.get_args(kind) for one in members(inner)]
    return [kind]


@functools.cache
def _shape(kind: Any) -> _Shape | None:
    """Return the shape of a TypedDict or of an SDK's reply class; None of everything else."""
    if typing_extensions.is_typeddict(kind):
        hints = typing_extensions.get_type_hints(kind, include_extras=True)
        # Where annotations are text, the class itself does not know what is marked as required.
        required = {
            name
            for name, hint in hints.items()
            if typing.get_origin(hint) is typing_extensions.Required
            or (
                name in kind.__required_keys__
                and typing.get_origin(hint) is not typing_extensions.NotRequired
            )
        }
        config = getattr(kind, "__pydantic_config__", {})
        return _Shape(hints, frozenset(required), config.get("extra") == "allow")
    if not inspect.isclass(kind) or not hasattr(kind, "model_fields"):
        return None
    kind.model_rebuild()
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    required = frozenset(name for name, field in fields.items() if field.is_required())
    return _Shape({name: field.annotation for name, field in fields.items()}, required, open=False)


def faults(kind: Any, value: Any, at: str = "body") -> list[str]:
    """Return what of a JSON value is not as a published type has it; [] where all is.

    Args:
        kind: The type.
        value: The value, as JSON has it.
        at: What the value is called in the faults.
    """
    kind = _without_wrapping(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (Any, object):
        return []
    if origin is Literal:
        known = any(value == one and type(value) is type(one) for one in arguments)
        return [] if known else [f"{at} is {value!r}, none of {arguments}"]
    if origin in (Union, types.UnionType):
        return _faults_of_union(members(kind), value, at)
    if shape := _shape(kind):
        return _faults_of_object(shape, value, at, named(kind))
    if origin in _LISTS:
        if not isinstance(value, list):
            return [f"{at} is {type(value).__name__}, no list"]
        return [
            fault
            for index, item in enumerate(value)
            for fault in faults(arguments[0], item, f"{at}[{index}]")
        ]
    if origin in _MAPPINGS or kind in _MAPPINGS:
        if not isinstance(value, dict):
            return [f"{at} is {type(value).__name__}, no object"]
        inner = arguments[1] if arguments else object
        return [
            fault for key, item in value.items() for fault in faults(inner, item, f"{at}.{key}")
        ]
    # What is none of these, a file say, no JSON value can be.
    if kind in _PLAIN and type(value) in _PLAIN[kind]:
        return []
    return [f"{at} is {type(value).__name__}, no {named(kind)}"]


def _faults_of_union(kinds: list[Any], value: Any, at: str) -> list[str]:
    every = [(kind, faults(kind, value, at)) for kind in kinds]
    if any(not found for _, found in every):
        return []
    meant = [found for kind, found in every if _is_meant(kind, value)]
    if meant:
        return min(meant, key=len)
    return [f"{at} fits none of {', '.join(map(named, kinds))}"]


def _is_meant(kind: Any, value: Any) -> bool:
    """Tell whether a value names this type, by its tag or by being a list; it may not fit it."""
    shape = _shape(kind)
    if shape is None:
        return isinstance(value, list) and typing.get_origin(kind) in _LISTS
    if not isinstance(value, dict):
        return False
    tags = {name for name in ("type", "role") if name in shape.keys and name in value}
    return bool(tags) and not any(faults(shape.keys[name], value[name]) for name in tags)


def _faults_of_object(shape: _Shape, value: Any, at: str, name: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at} is {type(value).__name__}, no {name}"]
    found = [f"{at}.{key} is missing in {name}" for key in sorted(shape.required - set(value))]
    for key, item in value.items():
        if key in shape.keys:
            found += faults(shape.keys[key], item, f"{at}.{key}")
        elif not shape.open:
            found.append(f"{at}.{key} is unknown to {name}")
    return found


def named(kind: Any) -> str:
    """Return the name of a type."""
    return getattr(kind, "__name__", None) or str(kind)


def samples(kind: Any) -> list[Any]:
    """Return JSON values of a published type.

    Together they hold every value of every literal and every member of every union, at any depth,
    and every optional key given, null (where it may be) and left out.
    """
    return list(_samples(kind, ()))


def _samples(kind: Any, inside: tuple[Any, ...]) -> Iterator[Any]:
    kind = _without_wrapping(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in _SAMPLES:
        yield from _SAMPLES[kind]
    elif origin is Literal:
        yield from arguments
    elif origin in (Union, types.UnionType):
        for member in members(kind):
            yield from _samples(member, inside)
    elif shape := _shape(kind):
        # A type within itself ends there; whoever holds it leaves it out.
        if kind not in inside:
            yield from _samples_of_object(shape, (*inside, kind))
    elif origin in _LISTS:
        yield from ([one] for one in _samples(arguments[0], inside))
        yield []
    elif origin in _MAPPINGS or kind in _MAPPINGS:
        yield from ({"key": one} for one in _samples(arguments[1] if arguments else object, inside))
        yield {}
    else:
        raise TypeError(f"no sample of {kind!r}")


def _samples_of_object(shape: _Shape, inside: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    values = {key: list(_samples(hint, inside)) for key, hint in shape.keys.items()}
    if any(not values[key] for key in shape.required):
        return
    given = {key: some for key, some in values.items() if some}
    for number in range(max(map(len, given.values()), default=1)):
        yield {key: some[number % len(some)] for key, some in given.items()}
    bare = {key: given[key][0] for key in given if key in shape.required}
    yield bare
    nullable = {key: None for key in given if key not in shape.required and None in given[key]}
    yield {**bare, **nullable}
