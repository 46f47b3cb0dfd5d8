"""Streamed Claude messages: events in, pieces and the assembled message out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from .. import _json
from .._sse import ServerEvent
from ..errors import InvalidResponseError
from ..models import StreamEvent
from ._base import Decoded, event_error, event_object, no_object_error
from ._pieces import Assembled

__all__ = ["ClaudeStream"]

_GROWING = frozenset({"partial_json", "text", "thinking"})
_EVENTS = frozenset(
    {
        "content_block_delta",
        "content_block_start",
        "content_block_stop",
        "message",
        "message_delta",
        "message_start",
        "message_stop",
    }
)


# What a type of delta adds to, and the type of its block where the server began none.
_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "tool_use"),
    "signature_delta": ("signature", "thinking"),
}
# The kind of event that a field of a block is. The input of the server's own tools is none: no one
# has to answer it.
_KINDS = {
    ("text", "text"): "text",
    ("thinking", "thinking"): "thinking",
    ("tool_use", "partial_json"): "tool_call",
}
_Pieces: TypeAlias = "list[tuple[str, str]]"


class ClaudeStream:
    """Decodes one stream.

    Args:
        decode: Reads a whole message.
        request_texts: Returns the texts of the request, masked where an error repeats them.
    """

    def __init__(
        self,
        decode: Callable[[Mapping[str, Any]], Decoded],
        request_texts: Callable[[], list[str]],
    ) -> None:
        self.ended = False
        self._decode = decode
        self._request_texts = request_texts
        self._message: dict[str, Any] = {"type": "message", "role": "assistant"}
        self._begun = False
        self._usage: dict[str, Any] = {}
        self._blocks: list[Assembled] = []
        self._at: dict[int, Assembled] = {}

    @property
    def complete(self) -> bool:
        """Whether the end mark or a stop reason came."""
        return self.ended or bool(self._message.get("stop_reason"))

    def feed(self, event: ServerEvent) -> list[StreamEvent]:
        """Read one event; raises as ``StreamDecoder`` says."""
        if self.ended:
            return []
        payload = event_object(event)
        if payload is None:
            if event.name == "error":
                raise event_error(event, None, self._request_texts())
            if event.name in _EVENTS:
                raise no_object_error(event, self._request_texts())
            return [StreamEvent(type="other", raw={})]
        kind = payload.get("type") or event.name
        if payload.get("error") or "error" in (kind, event.name):
            raise event_error(event, payload, self._request_texts())
        pieces = self._take(kind, payload)
        return [StreamEvent(type=kind, text=text, raw=payload) for kind, text in pieces] or [
            StreamEvent(type="other", raw=payload)
        ]

    def _take(self, kind: Any, payload: Mapping[str, Any]) -> _Pieces:
        if kind == "content_block_delta":
            return self._delta(payload)
        if kind == "content_block_start":
            return self._start_block(payload)
        if kind == "content_block_stop":
            block = self._at.get(_index(payload))
            return [] if block is None else _flush([block])
        if kind == "message_start":
            return self._start(payload)
        if kind == "message_delta":
            return self._change(payload)
        if kind == "message_stop":
            if not (self._begun or self._blocks or self.complete):
                raise InvalidResponseError("The stream ended without a message.")
            self.ended = True
            return _flush(self._blocks)
        return []

    def _start(self, payload: Mapping[str, Any]) -> _Pieces:
        message = payload.get("message")
        if not isinstance(message, dict):
            return []
        self._begun = True
        self._update(message)
        return self._count(message.get("usage"))

    def _change(self, payload: Mapping[str, Any]) -> _Pieces:
        open_before = not self.complete
        delta = payload.get("delta")
        self._update({name: payload[name] for name in payload if name not in ("delta", "type")})
        self._update(delta if isinstance(delta, dict) else {})
        pieces: _Pieces = []
        if open_before and self.complete:
            pieces = [*_flush(self._blocks), ("finish", "")]
        return pieces + self._count(payload.get("usage"))

    def _update(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            if name not in ("content", "usage") and (value or name not in self._message):
                self._message[name] = value

    def _count(self, usage: Any) -> _Pieces:
        """Merge a usage: counts only grow, and some servers send zeros for what they said once."""
        if not isinstance(usage, dict):
            return []
        for name, value in usage.items():
            known = self._usage.get(name)
            if isinstance(known, int) and isinstance(value, int):
                self._usage[name] = max(known, value)
            elif known is None or value is not None:
                self._usage[name] = value
        return [("usage", "")]

    def _start_block(self, payload: Mapping[str, Any]) -> _Pieces:
        fields = payload.get("content_block")
        if not isinstance(fields, dict):
            return []
        block = self._new_block(_index(payload), str(fields.get("type") or "text"))
        pieces = [(name, block.add(name, value)) for name, value in fields.items()]
        if fields.get("type") == "tool_use":
            return [("tool_call", "")]
        return _known(block, pieces)

    def _new_block(self, index: int, kind: str) -> Assembled:
        block = self._at[index] = Assembled(_GROWING)
        block.add("type", kind)
        self._blocks.append(block)
        return block

    def _delta(self, payload: Mapping[str, Any]) -> _Pieces:
        delta = payload.get("delta")
        if not isinstance(delta, dict):
            return []
        index = _index(payload)
        block = self._at.get(index)
        kind = str(delta.get("type"))
        if kind not in _DELTAS:
            if kind == "citations_delta" and block is not None:
                block.add("citations", [delta.get("citation")])
            return []
        field, home = _DELTAS[kind]
        if block is None or (home == field and block.get("type") != home):
            block = self._new_block(index, home)
        return _known(block, [(field, block.add(field, delta.get(field)))])

    def result(self) -> Decoded:
        """Return the reply as far as it came; ``raw`` is the assembled message.

        The input of a tool call is an object, or its text where that is incomplete or no JSON.
        """
        content = [_built(block) for block in self._blocks]
        usage = {"usage": self._usage} if self._usage else {}
        return self._decode({**self._message, "content": content, **usage})


def _index(payload: Mapping[str, Any]) -> int:
    index = payload.get("index")
    return index if isinstance(index, int) else 0


def _flush(blocks: Iterable[Assembled]) -> _Pieces:
    """Return what halves of surrogate pairs become where their other halves never came."""
    return [piece for block in blocks for piece in _known(block, list(block.flush()))]


def _known(block: Assembled, pieces: _Pieces) -> _Pieces:
    """Turn the names of a block's fields into kinds of events, and leave out what is none."""
    kinds = [(_KINDS.get((str(block.get("type")), name)), text) for name, text in pieces]
    return [(kind, text) for kind, text in kinds if kind is not None and text]


def _built(block: Assembled) -> dict[str, Any]:
    built = block.built()
    partial = built.pop("partial_json", None)
    if isinstance(partial, str) and partial:
        try:
            built["input"] = _json.loads(partial.encode())
        except ValueError:
            built["input"] = partial
    return built
