"""Conversations as JSON, and back. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from . import _json
from ._content import Document, Image, Source
from .errors import InvalidRequestError
from .models import as_messages

__all__ = ["Saved", "check_texts", "copied", "dump", "load"]

_KIND = "conversation"
_VERSION = 1
# No vendor's part has such a type.
_IMAGE, _DOCUMENT = "termai_http/image", "termai_http/document"
_MADE_BY = "termai_http"


@attrs.frozen(kw_only=True)
class Saved:
    """What is kept of a conversation: no key, no header, no client."""

    model: str | None
    system: str | None = attrs.field(repr=False)
    messages: Sequence[Mapping[str, Any]] = attrs.field(repr=False)


def check_texts(**given: object) -> None:
    """Refuse what is neither text nor None.

    Raises:
        InvalidRequestError: The message names it.
    """
    for name, value in given.items():
        if not isinstance(value, (str, type(None))):
            raise InvalidRequestError(f"{name} must be text or None, not {type(value).__name__}.")


def copied(value: Any, text: Callable[[str], str] = str) -> Any:
    """Return dicts and lists anew, all the way down, with each text as ``text`` returns it."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key: copied(item, text) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item, text) for item in value]
    return value


def dump(saved: Saved) -> str:
    """Return a conversation as JSON.

    Raises:
        InvalidRequestError: Model or system is no text, or something in a message cannot be JSON;
            the message names its path.
    """
    check_texts(model=saved.model, system=saved.system)
    whole = {
        _MADE_BY: _KIND,
        "version": _VERSION,
        "model": saved.model,
        "system": saved.system,
        "messages": [_encoded(message) for message in saved.messages],
    }
    return _json.dumps(whole).decode()


def _encoded(value: Any) -> Any:
    if isinstance(value, Image):
        return {"type": _IMAGE, **_encoded_source(value.source), "detail": value.detail}
    if isinstance(value, Document):
        return {"type": _DOCUMENT, **_encoded_source(value.source), "title": value.name}
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(item) for item in value]
    return value


def _encoded_source(source: Source) -> dict[str, Any]:
    if source.data is None:
        return {"url": source.url, "name": source.name}
    return {"media_type": source.media_type, "data": source.base64, "name": source.name}


def load(data: bytes, what: str = "The conversation") -> Saved:
    """Read a conversation.

    Args:
        data: The JSON.
        what: Which one, for messages.

    Raises:
        InvalidRequestError: It is none, or of a version that is not known here.
    """
    try:
        whole = _json.loads(data)
    except ValueError:
        raise InvalidRequestError(f"{what} is no JSON that can be read.") from None
    if not isinstance(whole, dict) or whole.get(_MADE_BY) != _KIND:
        raise InvalidRequestError(f"{what} is JSON, but no conversation saved by this package.")
    version = whole.get("version")
    if type(version) is not int or version != _VERSION:
        raise InvalidRequestError(
            f"{what} has version {version!r}, and this release reads version {_VERSION}."
        )
    for name in ("model", "system"):
        if not isinstance(whole.get(name), (str, type(None))):
            raise InvalidRequestError(f"{what} is broken: {name} is no text.")
    return Saved(
        model=whole.get("model"),
        system=whole.get("system"),
        messages=_decoded_messages(whole.get("messages"), what),
    )


def _decoded_messages(messages: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(messages, list):
        raise InvalidRequestError(f"{what} is broken: it has no list of messages.")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequestError(f"{what} is broken: messages[{index}] is no object.")
    try:
        decoded = [_decoded(message) for message in messages]
        return as_messages(decoded) if decoded else []
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{what} is broken: {error.message}") from None


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == _IMAGE:
        return Image(_decoded_source(value), detail=value.get("detail"))
    if value.get("type") == _DOCUMENT:
        return Document(_decoded_source(value), name=value.get("title"))
    return {key: _decoded(item) for key, item in value.items()}


def _decoded_source(part: Mapping[str, Any]) -> Source:
    texts = {name: part.get(name) for name in ("url", "data", "name", "title", "detail")}
    for name, text in texts.items():
        if not isinstance(text, (str, type(None))):
            raise InvalidRequestError(f"the {name} of an image or a document is no text")
    try:
        data = None if texts["data"] is None else base64.b64decode(texts["data"], validate=True)
    except (ValueError, binascii.Error):
        raise InvalidRequestError("an image or a document is no base64") from None
    if data is None and not texts["url"]:
        raise InvalidRequestError("an image or a document has neither bytes nor a URL")
    return Source(url=None if data is not None else texts["url"], data=data, name=texts["name"])
