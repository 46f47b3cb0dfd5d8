"""JSON schemas of Python types, and values of them from JSON."""

from __future__ import annotations

import functools
import json
import re
import sys
import typing
from typing import Any

from .._importing import importing
from ..errors import ConfigurationError, InvalidRequestError
from .classes import classes_of, parts_of

__all__ = ["Misfit", "convert", "describe", "schema_of", "step"]

_KEPT_TYPES = 64
_MOST_REASON = 200
_MOST_NAME = 80
_MOST_KEY = 40
_IS_NO_TYPE = "it is no type; pass the class itself"
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_OF_RULES = {"annotated_types", "pydantic"}
_OF_TYPES = {"types", "typing", "typing_extensions"}
_HOME = re.compile(r"(?:[\w<>]+\.)+(?=\w)")
_QUOTED = re.compile(r"Type ''([\w.]+)'' is not supported")
_NO_TYPE = re.compile(r"Type '.*' is not supported", re.DOTALL)
_UNREAD = re.compile(r"Unable to generate pydantic-core schema for <class '(?:.*\.)?(\w+)'>")
# How msgspec ends a message, where it is not about the whole value.
_PLACE = re.compile(r"(.*) - at `(?:key` in `)?(\$.*)`", re.DOTALL)
_GIVEN_TEXT = re.compile(r"^Invalid (enum )?value '.*'$", re.DOTALL)


class Misfit(ValueError):
    """A value that does not fit a type.

    Attributes:
        path: Where in it, as ``$.items[2].price``.
        reason: What does not fit, at most 200 characters; only a validator's own words may repeat
            what it got.
    """

    def __init__(self, path: str, reason: str) -> None:
        reason = " ".join(reason.split())
        if len(reason) > _MOST_REASON:
            reason = reason[: _MOST_REASON - 3] + "..."
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


def schema_of(kind: Any, what: str) -> dict[str, Any]:
    """Return the JSON schema of a type.

    Args:
        kind: A builtin, attrs class, dataclass, TypedDict, NamedTuple, ``msgspec.Struct``, Literal,
            Enum, union, ``Annotated`` with a description or a ``msgspec.Meta``, a pydantic model,
            dataclass or type adapter, and lists and other containers of them.
        what: What it belongs to, for errors.

    Raises:
        ConfigurationError: msgspec is missing.
        InvalidRequestError: The type has no JSON schema, or a name in its annotations is unknown.
    """
    name = describe(kind)
    with importing():
        try:
            adapter = _adapter_of(kind)
            if adapter is not None:
                return dict(adapter.json_schema())
            return dict(_with_msgspec().schema_of_type(kind, _kept_adapter))
        except ConfigurationError:
            raise
        except NameError as error:
            why = (
                f"its annotations name {getattr(error, 'name', None) or error}, which is not known "
                "in its module; define such types at the top of the module, or leave out "
                "'from __future__ import annotations'"
            )
        except KeyError as error:
            why = "two classes in it have one name and one module"
            if isinstance(error.args[0], str):
                why = f"its field {error.args[0]!r} has no annotation"
        except Exception as error:
            why = _IS_NO_TYPE if isinstance(kind, str) else _why(error)
    raise InvalidRequestError(f"{what}: no JSON schema can be made of {name}: {why}.")


def convert(value: Any, kind: Any) -> Any:
    """Return a JSON value as a type that ``schema_of`` takes.

    Raises:
        Misfit: It does not fit.
        ConfigurationError: msgspec is missing.
    """
    try:
        adapter = _adapter_of(kind)
        if adapter is not None:
            # As JSON: pydantic reads dates and the like in text even where a model is strict.
            return adapter.validate_json(json.dumps(value))
        return _with_msgspec().convert_to_type(value, kind, _kept_adapter)
    except ConfigurationError:
        raise
    except Exception as error:
        raise _misfit(error) from None


def describe(kind: Any) -> str:
    """Return a short name of a type."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if kind is None:
        name = "None"
    elif isinstance(kind, type) and not typing.get_args(kind):
        name = kind.__name__
    elif type(kind).__module__ in _OF_TYPES or _has_all(kind, "json_schema", "validate_json"):
        name = _HOME.sub("", repr(kind))
    else:
        # Its own words may say what nobody shall read.
        name = f"an object of the class {type(kind).__name__}"
    return name if len(name) <= _MOST_NAME else name[: _MOST_NAME - 3] + "..."


def step(key: Any) -> str:
    """Return one step of a path, of a key or an index."""
    if isinstance(key, int):
        return f"[{key}]"
    key = str(key)
    if len(key) > _MOST_KEY:
        key = key[: _MOST_KEY - 3] + "..."
    return f".{key}" if _IDENTIFIER.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"


def _with_msgspec() -> Any:
    try:
        with importing():
            from . import of_msgspec
    except ImportError:
        raise ConfigurationError(
            "Types for output= and tools= need msgspec: pip install 'termai-http[structured]'."
        ) from None
    return of_msgspec


def _adapter_of(kind: Any) -> Any:
    """Return what reads a type, where that is pydantic and not msgspec; else None."""
    if not isinstance(kind, type) and _has_all(kind, "json_schema", "validate_json"):
        return kind
    if "pydantic" not in sys.modules:
        return None
    try:
        return _kept_adapter(kind)
    except TypeError:
        return _kept_adapter.__wrapped__(kind)


@functools.lru_cache(maxsize=_KEPT_TYPES)
def _kept_adapter(kind: Any) -> Any:
    must = _names_pydantic(kind) or any(map(_is_rule, parts_of(kind, _is_pydantics)))
    if not must and not _needs_pydantic(kind):
        return None
    with importing():
        try:
            return sys.modules["pydantic"].TypeAdapter(kind)
        except Exception:
            # What pydantic cannot read may still be msgspec's.
            if must:
                raise
            return None


def _names_pydantic(kind: Any) -> bool:
    """Tell whether a type is, or is a union or a container of, one that pydantic has to read."""
    # Models, and what tells pydantic how to read it, as ``HttpUrl`` does.
    theirs = _is_pydantics(kind) or hasattr(kind, "__get_pydantic_core_schema__")
    return theirs or any(map(_names_pydantic, typing.get_args(kind)))


def _is_pydantics(cls: Any) -> bool:
    return hasattr(cls, "__pydantic_validator__")


def _is_rule(part: Any) -> bool:
    """Tell whether something in an ``Annotated`` is a rule that pydantic alone keeps."""
    if isinstance(part, type):
        return False
    home = type(part).__module__.partition(".")[0]
    # A ``Field`` with a description only is none.
    return home in _OF_RULES and getattr(part, "metadata", True) != []


def _needs_pydantic(kind: Any) -> bool:
    """Tell whether a type has fields of pydantic's classes that msgspec would read wrong.

    A model it hands over; a dataclass of pydantic's it takes for any other.
    """
    theirs = [cls for cls in classes_of(kind) if _is_pydantics(cls)]
    if not theirs:
        return False
    if any(hasattr(cls, "__dataclass_fields__") for cls in theirs):
        return True
    return not _with_msgspec().is_readable(kind)


def _has_all(value: Any, *names: str) -> bool:
    return all(callable(getattr(value, name, None)) for name in names)


def _why(error: Exception) -> str:
    """Say why a type has no schema."""
    if type(error).__name__ == "Unsupported":
        return (
            f"{describe(error.args[0])} is neither plain data nor an attrs class, dataclass, "
            "TypedDict, NamedTuple, Enum, msgspec.Struct or pydantic model"
        )
    if quoted := _QUOTED.match(str(error)):
        return f"the name {quoted[1]!r} is not known there; put the whole annotation in quotes"
    if _NO_TYPE.match(str(error)):
        return _IS_NO_TYPE
    if unread := _UNREAD.match(str(error)):
        return (
            f"pydantic, whose types or rules stand in it, cannot read {unread[1]}; "
            "use a model or a dataclass, or msgspec.Meta for its rules"
        )
    words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .")
    if words.startswith("Type unions may not"):
        words = f"{_HOME.sub('', words)}; use pydantic models or msgspec.Struct(tag=True) in it"
    return words[:_MOST_REASON]


def _misfit(error: Exception) -> Misfit:
    if _has_all(error, "errors", "error_count"):
        return _misfit_of_pydantic(error)
    text = str(error)
    if not type(error).__module__.startswith("msgspec"):
        return Misfit("$", f"{type(error).__name__}: {text}")
    found = _PLACE.fullmatch(text)
    reason, path = (found[1], found[2]) if found else (text, "$")
    cause = error.__cause__
    if cause is not None and _has_all(cause, "errors", "error_count"):
        inner = _misfit_of_pydantic(cause)
        return Misfit(path + inner.path.removeprefix("$"), inner.reason)
    if cause is not None and cause.args and isinstance(cause.args[0], str):
        # attrs hands more to its errors than the message.
        reason = cause.args[0]
    return Misfit(path, _GIVEN_TEXT.sub("it is none of the values allowed", reason))


def _misfit_of_pydantic(error: Any) -> Misfit:
    first, *rest = error.errors(include_url=False, include_context=False, include_input=False)
    # A key that no field has is the value's own text.
    place = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
    path = "$" + "".join(map(step, place))
    more = f" (and {len(rest)} more)" if rest else ""
    return Misfit(path, first["msg"][: _MOST_REASON - len(more)] + more)
