"""JSON as the wire needs it: strict both ways, and errors that name a path and never a value.

Where orjson is installed it does the work, as far as it does just what ``json`` would: whatever it
refuses, and whatever it could read or write otherwise, is left to ``json``, which decides.
"""

from __future__ import annotations

import contextlib
import json
import json.encoder
import json.scanner
import marshal
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast

from ._importing import importing
from .errors import InvalidRequestError

__all__ = ["CutShort", "dumps", "loads", "read_object", "scan", "use"]

_MAX_DEPTH = 200
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What the decoder stumbles over at the end of a text that was cut within a word or a number.
_BROKEN_OFF = re.compile(r"t(ru?)?|f(a(ls?)?)?|n(ul?)?|-|\.|[eE][+-]?")
_WHITE = " \t\n\r"
_ESCAPE = len(r"\u0000")
# orjson takes twelve times the memory of what it reads, and longer than json for long text that is
# not ASCII.
_LARGEST, _LONG = 256 * 1024, 8192
# An integer of fewer digits has 64 bits.
_LONG_RUN = re.compile(rb"0{19,}")
_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
# A float in marshal's second format whose exponent has all bits set: NaN or Infinity.
_NOT_FINITE = re.compile(rb"g.{6}[\xf0-\xff][\x7f\xff]", re.DOTALL)


class CutShort(ValueError):
    """JSON as far as it goes, but it ends before it is complete."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number (RFC 8259, section 6)")


def _finite(number: str) -> float:
    value = float(number)
    if value - value != 0:
        raise ValueError("a number is too large to read")
    return value


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
scan = json.scanner.make_scanner(cast("Any", _decoder))
"""Decode the value that stands at a place in a text; returns it and where it ends.

Raises ``StopIteration`` where none begins there, ``ValueError`` and ``RecursionError``.
"""


def _encode_with(make: Callable[..., Any]) -> Callable[[Any], str]:
    """Return what ``JSONEncoder.encode`` does, without the Python around its C."""
    default, text = _encoder.default, json.encoder.encode_basestring

    def encode(value: Any) -> str:
        return "".join(make({}, default, text, None, ":", ",", False, False, False)(value, 0))

    return encode


def _best_encode() -> Callable[[Any], str]:
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    sample = {"a": ["é\n", 1, -0.5, True, None, {}], "b": {"c": ()}}
    try:
        encode = _encode_with(make)
        if encode(sample) == _encoder.encode(sample):
            return encode
    except (TypeError, ValueError):
        # It is none, or takes other arguments: its name is not a public one.
        pass
    return _encoder.encode


_encode = _best_encode()


class _Orjson:
    """orjson, as far as it does what ``json`` does.

    Raises:
        AttributeError: It is another module of that name.
    """

    def __init__(self, module: Any) -> None:
        self._loads = module.loads
        self._dumps = module.dumps

    def dumps(self, body: Any) -> bytes | None:
        """Encode; None where json has to decide."""
        try:
            # orjson writes more types: enums, dates, subclasses as it sees fit, and has no option
            # against some. marshal, in C too, takes none but Python's own types, and no subclass.
            marshal.dumps(body, 2)
            encoded = cast(bytes, self._dumps(body))
        except (TypeError, ValueError):
            return None
        # It writes NaN and Infinity as null.
        if b"null" in encoded and _NOT_FINITE.search(marshal.dumps(body, 2)):
            return None
        return encoded

    def loads(self, data: bytes) -> Any:
        """Decode.

        Raises:
            ValueError: json has to decide.
        """
        if len(data) > _LONG and (len(data) > _LARGEST or not data.isascii()):
            raise ValueError("json takes less memory, or less time")
        value = self._loads(data)
        # Every sixth byte has three digits in a row where all of them have so many.
        if b"000" in data[::6].translate(_AS_ZERO) and _has_long_integer(data):
            raise ValueError("it may have made a float of an integer")
        return value

    def read(self, text: str) -> Any:
        """Decode text; raises as ``loads``."""
        if len(text) > _LARGEST:
            raise ValueError("json takes less memory")
        value = self._loads(text)
        if b"000" in text[::6].encode().translate(_AS_ZERO) and _has_long_integer(text.encode()):
            raise ValueError("it may have made a float of an integer")
        return value


def _has_long_integer(data: bytes) -> bool:
    zeros = data.translate(_AS_ZERO)
    return any(
        zeros[run.start() - 1 : run.start()] != b"."
        and zeros[run.end() : run.end() + 1] not in (b".", b"e", b"E")
        for run in _LONG_RUN.finditer(zeros)
    )


_looked = False
_orjson: _Orjson | None = None


def use(module: Any) -> None:
    """Use this orjson from now on, or none."""
    global _looked, _orjson
    try:
        found = _Orjson(module) if module is not None else None
    except AttributeError:
        found = None
    _orjson = found
    _looked = True


def _look() -> _Orjson | None:
    with importing():
        if not _looked:
            module: Any = None
            with contextlib.suppress(ImportError):
                import orjson

                module = orjson
            use(module)
        return _orjson


def dumps(body: Mapping[str, Any]) -> bytes:
    """Encode a request body.

    Raises:
        InvalidRequestError: Something in it cannot be JSON; the message names its path.
    """
    quick = _orjson if _looked else _look()
    if quick is not None and (encoded := quick.dumps(body)) is not None:
        return encoded
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
    quick = _orjson if _looked else _look()
    if quick is not None:
        try:
            return quick.loads(data)
        except ValueError:
            # json may take it, and words what is wrong with it.
            pass
    return _loads(data)


def read_object(text: str) -> dict[str, Any] | None:
    """Decode the data of an event; None where it is no JSON object."""
    quick = _orjson if _looked else _look()
    if quick is not None:
        try:
            value = quick.read(text)
            return value if isinstance(value, dict) else None
        except ValueError:
            # As in ``loads``.
            pass
    try:
        value, end = scan(text, 0)
        if end != len(text):
            value = _read_whole(text)
    except (StopIteration, ValueError, RecursionError):
        value = _read_whole(text)
    return value if isinstance(value, dict) else None


def _read_whole(text: str) -> Any:
    """Decode what something may stand around; None where it is no JSON."""
    try:
        return _loads(text.encode("utf-8", "replace").removeprefix(_BYTE_ORDER_MARK))
    except ValueError:
        return None


def _loads(data: bytes) -> Any:
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


def _decode(text: str) -> Any:
    """Do what ``JSONDecoder.decode`` does, without its look for white space before and after."""
    try:
        value, end = scan(text, 0)
    except StopIteration:
        end = -1
    if end == len(text) or (end > 0 and not text[end:].strip(_WHITE)):
        return value
    return _decoder.decode(text)


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
