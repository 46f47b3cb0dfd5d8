"""Short names for what items of ``chat_many()`` ask for: an input that changed is noticed. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from ._content import Document, Image, Source
from ._importing import importing
from ._options import CallOptions
from ._specs import OutputSpec, ToolSpec
from .errors import TermaiHttpError
from .models import ChatRequest, Message

__all__ = ["Digester"]

_BYTES = 8
# What has no JSON fails when it is sent, with an error that says so; until then one name will do.
_NO_JSON = "null"


class Digester:
    """Names requests by 64 bits of what they ask for.

    Model, messages and parameters are in it; keys, headers, addresses, timeouts and ``fallback=``
    are not: whoever changes these asks for the same, and what failed for want of another target is
    asked again with one. Not for two threads at once.

    Args:
        options: Those of every call; None for none.
    """

    def __init__(self, options: CallOptions | None = None) -> None:
        given = options or CallOptions()
        self._options = _canonical([given.provider, given.api, given.extra_body or None])
        self._plain: tuple[Any, ...] = ()
        self._begun = hashlib.blake2b(digest_size=_BYTES)

    def of(self, request: ChatRequest, own: str | int | None = None) -> int:
        """Return the digest of a request; equal ones have the same, in every process.

        Args:
            request: The request.
            own: The caller's own name for it: by that answers are joined to something else.
        """
        begun = self._begin(request).copy()
        begun.update(_messages(request.messages).encode())
        if own is not None:
            begun.update(f"\n{_encoder.encode(own)}".encode())
        return int.from_bytes(begun.digest(), "big")

    def _begin(self, request: ChatRequest) -> hashlib.blake2b:
        """Return the hash of all but the messages, which is mostly that of the item before."""
        rest = (request.tools, request.output, request.reasoning, request.stop)
        plain: tuple[Any, ...] = (request.model, request.system, request.max_tokens)
        if request.extra or rest != (None, None, None, None):
            plain = ()
        if not plain or plain != self._plain:
            self._begun = hashlib.blake2b(
                f"{self._options}\n{_canonical(_but_messages(request))}\n".encode(),
                digest_size=_BYTES,
            )
            self._plain = plain
        return self._begun


def _messages(messages: Any) -> str:
    if isinstance(messages, str):
        # As the list that it stands for; most items are this.
        return f'[{{"content":{_encoder.encode(messages)},"role":"user"}}]'
    return _canonical(messages)


def _but_messages(request: ChatRequest) -> dict[str, Any]:
    fields = {
        "model": request.model,
        "system": request.system,
        "max_tokens": request.max_tokens,
        "extra": request.extra,
        "reasoning": request.reasoning,
        "stop": request.stop,
    }
    if request.tools is not None or request.output is not None:
        fields |= _specs(request)
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _specs(request: ChatRequest) -> dict[str, Any]:
    with importing():
        from ._output import as_output
        from ._tools import as_tools
    try:
        return {
            "tools": as_tools(request.tools) if request.tools else None,
            "output": as_output(request.output) if request.output is not None else None,
        }
    except TermaiHttpError:
        # It fails in the same way when it is sent.
        return {"tools": [], "output": None}


def _canonical(value: Any) -> str:
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):
        return _NO_JSON


def _as_json(value: Any) -> Any:
    """Return what stands for something that JSON has not; for what is unknown, its type."""
    if isinstance(value, Message):
        turn = {"role": value.role, "content": value.content}
        return {**turn, "cache": value.cache} if value.cache else turn
    if isinstance(value, Source):
        read = None if value.data is None else hashlib.blake2b(value.data).hexdigest()
        return {"url": value.url, "data": read, "name": value.name}
    if isinstance(value, (Image, Document, OutputSpec, ToolSpec)):
        names = [field.name for field in attrs.fields(type(value)) if field.name not in _CODE]
        fields = {name: getattr(value, name) for name in names}
        return {"": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return dict(value)
    return f"{type(value).__module__}.{type(value).__qualname__}"


_CODE = ("call", "read")
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_as_json)
