"""Replies that are values: what ``output=`` asks for, and how a reply is read as it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import _json
from ._importing import importing
from ._schemas.stand_ins import restore, type_of
from ._schemas.strict import inlined, strict
from ._schemas.types import Misfit, convert, describe, schema_of, step
from ._secrets import mask_echoes, request_texts, without_lone_surrogates
from ._specs import OutputSpec
from .dialects._base import Decoded
from .errors import ConfigurationError, InvalidRequestError, OutputError
from .models import CUT_OFF, PAUSED

__all__ = ["as_output", "read_output"]

_VALUE = "value"
_MOST_NAME = 64
_MOST_KEPT = 64
_MOST_KEPT_TEXT = 64 * 1024
_MOST_SHOWN = 80
_KEYWORDS = {
    *("type", "properties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf"),
    *("$ref", "$defs", "additionalProperties"),
}
_FENCED = re.compile(r"```[\w+-]*[ \t]*\r?\n(.*)```", re.DOTALL)


def as_output(given: Any) -> OutputSpec:
    """Return what ``output=`` was given as the value that dialects encode.

    Raises:
        InvalidRequestError: No strict JSON schema can be made of it.
        ConfigurationError: A library that it needs is missing.
    """
    if isinstance(given, OutputSpec):
        return given
    if isinstance(given, Mapping):
        text = _json.dumps(given).decode()
        small = len(text) <= _MOST_KEPT_TEXT
        return _of_schema(text) if small else _of_schema.__wrapped__(text)
    try:
        return _of_type(given)
    except TypeError:
        # It has no hash.
        return _of_type.__wrapped__(given)


def read_output(spec: OutputSpec, decoded: Decoded) -> Any:
    """Return the value of a whole reply; None of a turn that goes on where it is sent back.

    Raises:
        OutputError: The model refused, the reply was cut off, is no JSON, or does not fit.
    """
    reason = decoded.finish_reason
    if reason == PAUSED:
        return None
    if decoded.refusal is not None or reason == "refusal":
        raise OutputError(
            "The model refused to answer in the form that output= asks for; the error's text has "
            "its words. Change the prompt, or ask without output=.",
            text=decoded.refusal or decoded.text,
            code="refusal",
        )
    try:
        return spec.read(decoded.text)
    except OutputError as misfit:
        # What is complete, though the limit was reached, was read; what does not fit, does not.
        error = misfit if misfit.path is not None else _ended(misfit, decoded)
    raise error


def _ended(error: OutputError, decoded: Decoded) -> OutputError:
    """Return the error of a reply that is no JSON, or the one for why it ended before it was."""
    reason = decoded.finish_reason
    if reason in CUT_OFF:
        message = (
            f"The reply was cut off at its token limit ({reason!r}), so it is no whole JSON. "
            "Raise max_tokens; reasoning counts in it, too."
        )
    elif reason == "content_filter":
        message = "The vendor's content filter ended the reply, so it is no whole JSON."
    else:
        return error
    return OutputError(message, text=decoded.text, code=reason)


@functools.lru_cache(maxsize=_MOST_KEPT)
def _of_type(kind: Any) -> OutputSpec:
    what = f"output={describe(kind)}"
    schema, wrapped = _as_object(schema_of(kind, what))
    return _spec(what, describe(kind), schema, wrapped, read=lambda value: convert(value, kind))


@functools.lru_cache(maxsize=_MOST_KEPT)
def _of_schema(text: str) -> OutputSpec:
    given, name = _unpacked(json.loads(text))
    title = given.get("title")
    name = name or (title if isinstance(title, str) else "")
    what = f"output={name[:_MOST_NAME]}" if name else "output= (a JSON schema)"
    schema, wrapped = _as_object(given)
    # First of all, since it lets no reference out that something might follow.
    _strict(schema, what, wrapped)
    return _spec(what, name, schema, wrapped, read=_checked(given, what))


def _spec(
    what: str, name: str, schema: dict[str, Any], wrapped: bool, read: Callable[[Any], Any]
) -> OutputSpec:
    def read_text(text: str) -> Any:
        try:
            value = restore(_parsed(text), schema)
            if wrapped:
                if not isinstance(value, dict) or _VALUE not in value:
                    raise Misfit("$", f"expected an object with {_VALUE!r}, got {type_of(value)}")
                value = value[_VALUE]
            return read(value)
        except Misfit as misfit:
            reason = _without_echoes(misfit.reason, value, schema)
            message = f"The reply does not fit {what}: at {misfit.path}: {reason}."
            error = OutputError(message, text=text, path=misfit.path)
        except RecursionError:
            error = OutputError(
                f"The reply does not fit {what}: it is nested too deeply.", text=text
            )
        except ValueError as wrong:
            why = _why(wrong) if text.strip() else "it is empty"
            error = OutputError(f"The reply is no JSON: {why}.", text=text)
        raise error

    name = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:_MOST_NAME] or "output"
    return OutputSpec(name=name, schema=_strict(schema, what, wrapped), read=read_text)


def _strict(schema: dict[str, Any], what: str, wrapped: bool) -> dict[str, Any]:
    try:
        return strict(schema, what)
    except InvalidRequestError as error:
        if not wrapped:
            raise
        # Nobody but us knows of the object around it.
        message = error.message.replace(f"at $.{_VALUE}", "at $", 1)
    raise InvalidRequestError(message)


def _as_object(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a schema whose root is an object, and whether that holds the value asked for."""
    root = inlined(schema)
    if root.get("type") == "object" or "properties" in root:
        return schema, False
    moved = _moved(schema, f"#/properties/{_VALUE}")
    return {"type": "object", "properties": {_VALUE: moved}, "required": [_VALUE]}, True


def _moved(node: Any, place: str) -> Any:
    """Return a schema whose references are right where it stands at a place of another one."""
    if isinstance(node, list):
        return [_moved(item, place) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {key: _moved(value, place) for key, value in node.items()}
    if isinstance(reference := node.get("$ref"), str) and reference.startswith("#"):
        moved["$ref"] = place + reference[1:]
    return moved


def _unpacked(given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the schema, and its name, in whichever of the vendors' wrappings it comes."""
    for key in ("format", "json_schema"):
        if isinstance(given.get(key), dict) and not given.keys() & _KEYWORDS - {"type"}:
            return _unpacked(given[key])
    if isinstance(given.get("schema"), dict) and not given.keys() & _KEYWORDS - {"type"}:
        name = given.get("name")
        return given["schema"], name if isinstance(name, str) else ""
    if given.get("type") in ("json_object", "json_schema", "text"):
        raise InvalidRequestError(
            f"output= takes a type or a JSON schema; {given['type']!r} without a schema goes out "
            "as the vendor's own parameter, for example response_format=."
        )
    if not given.keys() & _KEYWORDS:
        raise InvalidRequestError(
            "output= got a dict that is no JSON schema: it has neither 'type' nor 'properties'. "
            'Write {"type": "object", "properties": {...}}, or pass a class.'
        )
    return given, ""


def _parsed(text: str) -> Any:
    """Return the JSON value of a text.

    Servers that know of no schema leave the fence around it with which models like to answer.
    """
    bare = text.strip()
    if bare.startswith("```") and (fenced := _FENCED.fullmatch(bare)):
        bare = fenced[1]
    value = _json.loads(bare.encode("utf-8", "replace"))
    return _without_halves(value) if "\\ud" in bare.lower() else value


def _without_halves(value: Any) -> Any:
    """Return a value none of whose texts has half a surrogate pair."""
    if isinstance(value, str):
        return without_lone_surrogates(value)
    if isinstance(value, list):
        return [_without_halves(item) for item in value]
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(item) for key, item in value.items()}
    return value


def _without_echoes(reason: str, value: Any, schema: Mapping[str, Any]) -> str:
    """Return a reason without what it repeats of a reply, which may repeat the prompt.

    What the schema names may be shown.
    """
    named = set(request_texts({"schema": schema}, ()))
    replied = request_texts({"value": value}, ())
    return mask_echoes(reason, [text for text in replied if text not in named])


def _why(error: ValueError) -> str:
    """Say why a text is no JSON, without the text."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return str(error)


def _checked(schema: dict[str, Any], what: str) -> Callable[[Any], Any]:
    """Return what checks a value by a schema and returns it."""
    try:
        with importing():
            import jsonschema
            import jsonschema.validators
    except ImportError:
        raise ConfigurationError(
            "A JSON schema as output= needs jsonschema: pip install 'termai-http[structured]'."
        ) from None
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        cls.check_schema(schema)
    except jsonschema.SchemaError as error:
        place, reason = _path(error.absolute_path), " ".join(error.message.split())
        raise InvalidRequestError(
            f"{what} is no valid JSON schema: at {place}: {reason[:_MOST_SHOWN]}."
        ) from None
    validator = cls(schema, format_checker=cls.FORMAT_CHECKER)

    def check(value: Any) -> Any:
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if error is not None:
            raise Misfit(_path(error.absolute_path), _reason(error))
        return value

    return check


def _path(keys: Iterable[Any]) -> str:
    return "$" + "".join(map(step, keys))


def _reason(error: Any) -> str:
    """Say what a validator found, without the value."""
    keyword, wanted, value = error.validator, error.validator_value, error.instance
    if keyword == "type":
        wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
        return f"expected {wanted}, got {type_of(value)}"
    if keyword == "required":
        missing = next(name for name in wanted if name not in value)
        return f"{missing!r} is missing"
    if keyword in ("enum", "const"):
        return "it is none of the values allowed"
    if keyword == "additionalProperties":
        return "it has a property that the schema does not name"
    if keyword in ("anyOf", "oneOf"):
        return f"{type_of(value)} that fits none of the schemas allowed"
    shown = json.dumps(wanted, default=str)[:_MOST_SHOWN]
    return f"it breaks {keyword!r}: {shown}"
