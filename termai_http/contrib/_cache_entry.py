"""A kept reply: as a value, as the JSON that stands in the store, as the answer it was."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from .._values import Value
from ..models import ChatResponse

if TYPE_CHECKING:
    from .._job import Outcome

__all__ = ["Entry", "KeptAnswer", "entry_of", "pack", "unpack"]

_FORMAT = 1
_SEAL_BEGIN, _SEAL_END = ',"seal":"', '"}'
_SEAL_LENGTH = len(_SEAL_BEGIN) + 64 + len(_SEAL_END)
# They say how the body travelled, or are the server's words to this one client at that time.
_NOT_KEPT = frozenset(
    {
        *("connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"),
        *("set-cookie", "set-cookie2", "retry-after", "retry-after-ms", "x-should-retry"),
        *("authorization", "alt-svc", "trailer", "upgrade"),
    }
)
# None: the vendor did not say that the reply is at its end.
_WITHHELD = frozenset({None, "content_filter", "refusal"})
_DONE = frozenset({"completed", "incomplete"})


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Entry(Value):
    """A reply as it is kept.

    Attributes:
        at: Wall-clock instant at which it came.
        status: HTTP status.
        headers: Headers, names in lower case.
        body: The body, decoded.
    """

    at: float
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


class KeptAnswer:
    """An answer that was read: what the readers of replies take."""

    __slots__ = ("content", "headers", "status_code")

    def __init__(self, entry: Entry) -> None:
        self.status_code = entry.status
        self.headers = dict(entry.headers)
        self.content = entry.body


def entry_of(outcome: Outcome[Any] | None, body: bytes | None, now: float) -> Entry | None:
    """Return what is to be kept of an ended call; None where it is no good reply.

    Args:
        outcome: How the call ended.
        body: The body of a stream; None for the one that was read whole.
        now: Wall-clock instant.
    """
    if outcome is None or outcome.error is not None or outcome.response is None:
        return None
    response = outcome.response
    content = response.content if body is None else body
    if not 200 <= response.status_code <= 299 or not content or _is_withheld(outcome.value):
        return None
    headers = {
        name.lower(): value
        for name, value in response.headers.items()
        if name.lower() not in _NOT_KEPT and "ratelimit" not in name.lower() and value.isprintable()
    }
    return Entry(at=now, status=response.status_code, headers=headers, body=bytes(content))


def _is_withheld(value: object) -> bool:
    """Tell whether a reply is none to give again: refused, filtered, or not made yet."""
    if not isinstance(value, ChatResponse):
        return value is None
    unfinished = "status" in value.raw and value.raw["status"] not in _DONE
    if unfinished or value.refusal or value.finish_reason in _WITHHELD:
        return True
    choices = value.raw.get("choices")
    return isinstance(choices, list) and any(map(_is_withheld_choice, choices[1:]))


def _is_withheld_choice(choice: object) -> bool:
    """Tell whether one of the further choices, where more than one was asked for, is none."""
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(reason, str) or reason in _WITHHELD:
        return True
    message = choice.get("message")
    return isinstance(message, dict) and bool(message.get("refusal"))


def pack(entry: Entry, seal: bytes) -> str:
    """Return the JSON of an entry, sealed."""
    said: dict[str, Any] = {
        "v": _FORMAT,
        "at": entry.at,
        "status": entry.status,
        "headers": dict(entry.headers),
    }
    try:
        said["body"] = entry.body.decode()
    except UnicodeDecodeError:
        said["base64"] = base64.b64encode(entry.body).decode()
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    return f"{text[:-1]}{_SEAL_BEGIN}{_digest(text, seal)}{_SEAL_END}"


def unpack(stored: object, seal: bytes) -> Entry:
    """Return the entry that was packed.

    Args:
        stored: What the store gave, which may be a mapping of the user's with anything in it.
        seal: What the entry was sealed with.

    Raises:
        ValueError: It is none, or not as it was written.
    """
    if not isinstance(stored, (str, bytes, bytearray, memoryview)):
        raise ValueError("neither text nor bytes")
    text = stored if isinstance(stored, str) else bytes(stored).decode()
    content = text[:-_SEAL_LENGTH] + "}"
    given = text[-_SEAL_LENGTH:][len(_SEAL_BEGIN) : -len(_SEAL_END)]
    if not hmac.compare_digest(_digest(content, seal).encode(), given.encode()):
        raise ValueError("the seal is broken")
    said = json.loads(content)
    if said["v"] != _FORMAT:
        raise ValueError("the format is another")
    raw = said.get("base64")
    body = said["body"].encode() if raw is None else base64.b64decode(raw, validate=True)
    return Entry(at=said["at"], status=said["status"], headers=said["headers"], body=body)


def _digest(text: str, seal: bytes) -> str:
    return hmac.new(seal, text.encode(), hashlib.sha256).hexdigest()
