"""What a model is told of a function that it called: its result, or what went wrong."""

from __future__ import annotations

import contextlib
import os
import traceback
from typing import Any

from . import _json
from ._content import Document, Image
from ._importing import importing
from ._secrets import without_lone_surrogates
from ._tool_run import ToolRun
from .errors import InvalidRequestError
from .models import ChatResponse

__all__ = ["content_of", "told", "trace_of"]

_PARTS = (Image, Document)
_OURS = "termai_http."
_MOST_ERROR = 4000


def content_of(result: Any) -> Any:
    """Return the content of a tool's message: text, or parts where there is more than text.

    Text stays as it is, an ``Image`` or a ``Document`` too, also in a list; of a reply it is the
    text; anything else is JSON.

    Raises:
        TypeError: It cannot be JSON.
    """
    if isinstance(result, (ChatResponse, ToolRun)):
        result = result.text
    if isinstance(result, str):
        # Of an Enum that is text, its value.
        return without_lone_surrogates(str.__str__(result))
    if isinstance(result, _PARTS):
        return [result]
    if isinstance(result, (list, tuple)) and any(isinstance(one, _PARTS) for one in result):
        return [one if isinstance(one, _PARTS) else content_of(one) for one in result]
    return _as_json(result)


def told(error: Exception) -> str:
    """Say to the model what went wrong, and never where in the code."""
    try:
        words = without_lone_surrogates(str(error))
    except Exception:
        # One whose text cannot be made has its name left.
        words = ""
    name = type(error).__name__
    return f"{name}: {words}"[:_MOST_ERROR] if words else name


def trace_of(error: Exception) -> str | None:
    """Return a function's traceback as text, without the frames that called it.

    None where no frame but ours raised it. As text, since a frame leads to those that called it,
    and they hold the exchange.
    """
    step = error.__traceback__
    while step is not None and str(step.tb_frame.f_globals.get("__name__")).startswith(_OURS):
        step = step.tb_next
    if step is None:
        return None
    return "".join(traceback.format_exception(type(error), error, step))


def _as_json(value: Any) -> str:
    with contextlib.suppress(InvalidRequestError):
        return _json.dumps(value).decode()
    try:
        return _json.dumps(_plain(value)).decode()
    except InvalidRequestError as error:
        why = error.message.partition(": ")[2]
        raise TypeError(f"The result cannot be JSON: {why}") from None


def _plain(value: Any) -> Any:
    """Return a value of attrs classes, dataclasses, times and the like as plain data."""
    with importing():
        try:
            import msgspec
        except ImportError:
            kind = type(value).__name__
            raise TypeError(
                f"The result, of type {kind}, can be JSON with msgspec only: "
                "pip install 'termai-http[structured]'"
            ) from None
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_unknown)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"The result cannot be JSON: {error}") from None


def _unknown(value: Any) -> Any:
    """Return as plain data what msgspec does not know."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is no JSON type")
