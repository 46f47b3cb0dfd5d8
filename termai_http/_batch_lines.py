"""The lines of a results file: one JSON object a result, and how they are read again. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from ._failed_target import FailedTarget
from .dialects._base import tool_call
from .errors import TermaiHttpError
from .models import ChatResponse, Usage

__all__ = ["Head", "begins_like_ours", "decode", "encode", "head_of"]

Head = tuple[int, int, bool]
"""What a scan needs of a line: index, digest, and whether it is a reply and no error."""

_OK = 200
_USAGE = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
# The begin of a line as ``encode`` writes it, with the ids that need no thought.
_HEAD = re.compile(
    rb'\{"index": (\d{1,15}), "digest": "([0-9a-f]{16})", '
    rb'(?:"id": (?:-?\d+|"[^"\\]*"), )?"(?:text": (")|error": \{)'
)
# What every such line begins with, its number as 0.
_BEGIN = b'{"index": 0, "digest": "'
_NUMBER = re.compile(rb"\d+")
_DIGEST = re.compile("[0-9a-f]{16}")
_MOST_INDEX = 10**15
_MOST_BEGIN = 64

_readable = json.JSONEncoder(ensure_ascii=False)
_ascii = json.JSONEncoder()


def encode(
    index: int, id: str | int | None, digest: int, value: ChatResponse | TermaiHttpError
) -> bytes:
    """Return the line of a reply or an error, its line feed included.

    It holds no key and no prompt: of an error its message and figures, of a reply what the model
    wrote.
    """
    line: dict[str, Any] = {"index": index, "digest": f"{digest:016x}"}
    if id is not None:
        line["id"] = id
    line |= _reply(value) if isinstance(value, ChatResponse) else {"error": _error(value)}
    try:
        return f"{_readable.encode(line)}\n".encode()
    except UnicodeEncodeError:
        # A lone surrogate, which UTF-8 has not and JSON's escapes have.
        return f"{_ascii.encode(line)}\n".encode()


def _reply(reply: ChatResponse) -> dict[str, Any]:
    usual = ({"role": "assistant", "content": reply.text},)
    calls = [{"id": one.id, "name": one.name, "arguments": one.text} for one in reply.tool_calls]
    # What few replies have, or have otherwise than is read where nothing is said.
    rare: dict[str, Any] = {
        "tool_calls": calls or None,
        "thinking": reply.thinking or None,
        "refusal": reply.refusal,
        "texts": None if reply.texts == (reply.text,) else reply.texts,
        "messages": None if reply.messages == usual else reply.messages,
        "cost": reply.cost,
        "status_code": None if reply.status_code == _OK else reply.status_code,
        "fallbacks": [_failed(one) for one in reply.fallbacks] or None,
    }
    return {
        "text": reply.text,
        "model": reply.model,
        "provider": reply.provider,
        "finish_reason": reply.finish_reason,
        "usage": {name: getattr(reply.usage, name) for name in _USAGE},
        **{name: value for name, value in rare.items() if value is not None},
        "response_id": reply.id,
        "request_id": reply.request_id,
        "attempts": reply.attempts,
        "elapsed": round(reply.elapsed, 3),
    }


def _failed(target: FailedTarget) -> dict[str, Any]:
    return {**attrs.asdict(target), "elapsed": round(target.elapsed, 3)}


def _error(error: TermaiHttpError) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": type(error).__name__, "message": error.message}
    names = ("status_code", "code", "request_id", "attempts", "maybe_billed")
    fields |= {name: getattr(error, name) for name in names}
    fields["elapsed"] = None if error.elapsed is None else round(error.elapsed, 3)
    if error.fallbacks:
        fields["fallbacks"] = [_failed(one) for one in error.fallbacks]
    return fields


def head_of(line: bytes) -> Head | None:
    """Return the head of a whole line, without its line feed; None where it is none of ours."""
    match = _HEAD.match(line)
    if match is not None and line[-1:] == b"}":
        index, digest, text = match.groups()
        return int(index), int(digest, 16), text is not None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    index, digest = fields.get("index"), fields.get("digest")
    if type(index) is not int or not 0 <= index < _MOST_INDEX or not isinstance(digest, str):
        return None
    reply = isinstance(fields.get("text"), str)
    if not _DIGEST.fullmatch(digest) or not (reply or isinstance(fields.get("error"), dict)):
        return None
    return index, int(digest, 16), reply


def begins_like_ours(part: bytes) -> bool:
    """Tell whether a last line that was cut may have been one of ours."""
    # Some systems fill with zeros what a loss of power kept from the disk.
    begin = _NUMBER.sub(b"0", part.rstrip(b"\0")[:_MOST_BEGIN])[: len(_BEGIN)]
    return _BEGIN.startswith(begin)


def decode(line: bytes) -> ChatResponse:
    """Return the reply of a line, as far as it is there: no headers, and nothing raw.

    Raises:
        ValueError: It is none.
    """
    try:
        fields = json.loads(line)
        return _as_reply(fields)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no reply ({type(error).__name__})") from None


def _as_reply(fields: Mapping[str, Any]) -> ChatResponse:
    text: str = fields["text"]
    usual = [{"role": "assistant", "content": text}]
    calls = fields.get("tool_calls", ())
    usage = fields.get("usage", {})
    return ChatResponse(
        text=text,
        finish_reason=fields.get("finish_reason"),
        usage=Usage(**{name: usage.get(name, 0) for name in _USAGE}),
        model=fields.get("model", ""),
        id=fields.get("response_id", ""),
        request_id=fields.get("request_id"),
        status_code=fields.get("status_code", _OK),
        headers={},
        attempts=fields.get("attempts", 1),
        elapsed=fields.get("elapsed", 0.0),
        raw={},
        provider=fields.get("provider", ""),
        thinking=fields.get("thinking", ""),
        tool_calls=tuple(tool_call(one["id"], one["name"], one["arguments"]) for one in calls),
        messages=tuple(fields.get("messages", usual)),
        texts=tuple(fields.get("texts", [text])),
        refusal=fields.get("refusal"),
        fallbacks=tuple(FailedTarget(**one) for one in fields.get("fallbacks", ())),
        cost=fields.get("cost"),
    )
