"""JSON as the wire needs it: strict both ways, and errors that name a path and never a value."""

from __future__ import annotations

import json
import json.scanner
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from .errors import InvalidRequestError

__all__ = ["CutShort", "dumps", "loads", "scan"]

_MAX_DEPTH = 200
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What the decoder stumbles over at the end of a text that was cut within a word or a number.
_BROKEN_OFF = re.compile(r"t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|[eE][+-]?")
_ESCAPE = len(r"\u0000")


class CutShort(ValueError):
    """JSON as far as it goes, but it ends before it is complete."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number (RFC 8259, section 6)")


def _finite(number: str) -> float:
    value = float(number)
    if value - value != 0:
        raise ValueError("a number is too large to read")
    return value


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_decode = _decoder.decode
scan = json.scanner.make_scanner(cast("Any", _decoder))
"""Decode the value that stands at a place in a text; returns it and where it ends.

Raises ``StopIteration`` where none begins there, ``ValueError`` and ``RecursionError``.
"""


def dumps(body: Mapping[str, Any]) -> bytes:
    """Encode a request body.

    Raises:
        InvalidRequestError: Something in it cannot be JSON; the message names its path.
    """
    try:
        return _encode(body).encode()
    except (TypeError, ValueError, RecursionError):
        path, why = _find_fault(body, "", ()) or ("the body", "it is nested too deeply")
    raise InvalidRequestError(f"The request cannot be JSON: {path}: {why}.")


def loads(data: bytes) -> Any:
    """Decode a response body: UTF-8 with or without a byte order mark, no NaN or Infinity.

    Raises:
        ValueError: It is no such JSON, is nested too deeply, or holds a number too large to read;
            ``CutShort`` where only its end is missing.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        return _decode(data.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError as error:
        # Cut within a character, unless what stands before it is no JSON either.
        if error.end == len(data) and error.reason == "unexpected end of data":
            loads(data[: error.start])
        raise
    except json.JSONDecodeError as error:
        if _is_cut(error):
            raise CutShort("it ends before it is complete") from None
        raise


def _is_cut(error: json.JSONDecodeError) -> bool:
    rest = error.doc[error.pos :]
    if error.msg.startswith("Invalid \\u"):
        return len(rest) < _ESCAPE and '"' not in rest
    return (
        not rest
        or error.msg.startswith("Unterminated string")
        or _BROKEN_OFF.fullmatch(rest) is not None
    )


def _find_fault(value: Any, path: str, parents: tuple[int, ...]) -> tuple[str, str] | None:
    """Find the first thing that cannot be JSON, as its path and the reason."""
    where = path or "the body"
    if isinstance(value, str):
        return (where, "text with a lone surrogate") if _has_surrogate(value) else None
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, float):
        return None if value - value == 0 else (where, "NaN and Infinity are no JSON numbers")
    if isinstance(value, (dict, list, tuple)):
        if id(value) in parents:
            return where, "it contains itself"
        if len(parents) >= _MAX_DEPTH:
            return where, f"nested deeper than {_MAX_DEPTH}"
        return _find_in_container(value, path, (*parents, id(value)))
    return where, f"{type(value).__name__} is no JSON type"


def _find_in_container(
    value: dict[Any, Any] | list[Any] | tuple[Any, ...], path: str, parents: tuple[int, ...]
) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        items = ((f"{path}[{index}]", item) for index, item in enumerate(value))
        return next(filter(None, (_find_fault(item, at, parents) for at, item in items)), None)
    for key, item in value.items():
        if not isinstance(key, (str, int, float, bool, type(None))):
            return path or "the body", f"a key is {type(key).__name__}, not text"
        if isinstance(key, str) and _has_surrogate(key):
            return path or "the body", "a key with a lone surrogate"
        if fault := _find_fault(item, f"{path}.{key}" if path else str(key), parents):
            return fault
    return None


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
