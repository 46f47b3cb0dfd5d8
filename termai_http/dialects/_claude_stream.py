"""Streamed Claude messages: events in, pieces and the assembled message out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from .. import _json
from .._sse import ServerEvent
from ..errors import InvalidResponseError
from ..models import ToolCall
from ._base import Decoded, Piece
from ._claude_reply import read_tool_call, read_usage
from ._errors import event_error, no_object_error
from ._pieces import Alike, Assembled, InOrder, Text

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
    ("tool_use", "partial_json"): "tool_call_delta",
}
_Pieces: TypeAlias = "list[tuple[str, Any]]"


class _Block:
    """One content block, put together from its deltas.

    Attributes:
        kind: Its type.
        fields: What is known of it.
        text: Its text, where that is text of the reply.
        whole: Whether it was handed out as a whole tool call.
    """

    __slots__ = ("_call", "fields", "kind", "text", "whole")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields = Assembled(_GROWING)
        self.fields.add("type", kind)
        self.text: Text | None = None
        self.whole = False
        self._call: ToolCall | None = None

    def known(self, pieces: Iterable[tuple[str, str]]) -> _Pieces:
        """Turn the names of its fields into kinds of events, and leave out what is none."""
        found: _Pieces = []
        for name, text in pieces:
            kind = _KINDS.get((self.kind, name))
            if kind is not None and text:
                call = kind == "tool_call_delta"
                found.append((kind, (text, self.call()) if call else text))
        return found

    def call(self) -> ToolCall:
        """Return what is known of a tool call before its input is whole."""
        if self._call is None:
            # All of it stands where the block begins.
            id, name = self.fields.get("id"), self.fields.get("name")
            self._call = ToolCall(id=str(id or ""), name=str(name or ""), arguments=None, text="")
        return self._call

    def built(self) -> dict[str, Any]:
        """Return the block as far as it came."""
        built = self.fields.built()
        partial = built.pop("partial_json", None)
        if isinstance(partial, str) and partial:
            try:
                built["input"] = _json.loads(partial.encode())
            except ValueError:
                built["input"] = partial
        return built


class ClaudeStream:
    """Decodes one stream.

    Args:
        decode: Reads a whole message.
        request_texts: Returns the texts of the request, masked where an error repeats them.
    """

    def __init__(
        self,
        decode: Callable[[Mapping[str, Any], Callable[[], list[str]]], Decoded],
        request_texts: Callable[[], list[str]],
    ) -> None:
        self.ended = False
        self._decode = decode
        self._request_texts = request_texts
        self._message: dict[str, Any] = {"type": "message", "role": "assistant"}
        self._begun = False
        self._usage: dict[str, Any] = {}
        self._blocks: list[_Block] = []
        self._at: dict[int, _Block] = {}
        self._text = InOrder()
        self._alike = Alike(("text",), _only_text)
        self.text_of = self._alike.text_of

    @property
    def complete(self) -> bool:
        """Whether the end mark or a stop reason came."""
        reason = self._message.get("stop_reason")
        return self.ended or (isinstance(reason, str) and bool(reason))

    def feed(self, event: ServerEvent) -> list[Piece]:
        """Read one event; raises as ``StreamDecoder`` says."""
        if self.ended:
            return []
        payload = _json.read_object(event[1])
        self._alike.keep(event, None)
        if payload is None:
            if event.name == "error":
                raise event_error(event, None, self._request_texts())
            if event.name in _EVENTS:
                raise no_object_error(event, self._request_texts())
            return [("other", "", {})]
        kind = payload.get("type") or event[0]
        if payload.get("error") or kind == "error" or event[0] == "error":
            raise event_error(event, payload, self._request_texts())
        if kind == "content_block_delta":
            pieces = self._delta(event, payload)
        else:
            pieces = self._take(kind, payload)
        return [(kind, value, payload) for kind, value in pieces] or [("other", "", payload)]

    def _take(self, kind: Any, payload: Mapping[str, Any]) -> _Pieces:
        if kind == "content_block_start":
            return self._start_block(payload)
        if kind == "content_block_stop":
            block = self._at.get(_index(payload))
            return [] if block is None else self._finish([block])
        if kind == "message_start":
            return self._start(payload)
        if kind == "message_delta":
            return self._change(payload)
        if kind == "message_stop":
            if not (self._begun or self._blocks or self.complete):
                raise InvalidResponseError("The stream ended without a message.")
            self.ended = True
            return self._finish(self._blocks)
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
            pieces = [*self._finish(self._blocks), ("finish", self._message["stop_reason"])]
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
        return [("usage", read_usage(self._usage))]

    def _start_block(self, payload: Mapping[str, Any]) -> _Pieces:
        fields = payload.get("content_block")
        if not isinstance(fields, dict):
            return []
        block = self._new_block(_index(payload), str(fields.get("type") or "text"))
        pieces = [
            (name, block.fields.add(name, value))
            for name, value in fields.items()
            if value or name != "type"
        ]
        if fields.get("type") == "tool_use":
            return [("tool_call_delta", ("", block.call()))]
        return block.known(pieces)

    def _finish(self, blocks: Iterable[_Block]) -> _Pieces:
        """Return what the end of blocks adds: whole tool calls, U+FFFD for halves of pairs."""
        pieces: _Pieces = []
        for block in blocks:
            if block.text is not None and block.text is not self._text.last:
                self._text.turn(block.text)
            pieces += block.known(list(block.fields.flush()))
            if block.kind == "tool_use" and not block.whole:
                block.whole = True
                tools = [one for one in self._blocks if one.kind == "tool_use"]
                pieces.append(("tool_call", read_tool_call(block.built(), tools.index(block))))
        return pieces

    def _new_block(self, index: int, kind: str) -> _Block:
        block = self._at[index] = _Block(kind)
        self._blocks.append(block)
        if kind == "text":
            block.text = block.fields.text("text")
            self._text.turn(block.text)
        return block

    def _delta(self, event: ServerEvent, payload: Mapping[str, Any]) -> _Pieces:
        delta = payload.get("delta")
        if not isinstance(delta, dict):
            return []
        index = _index(payload)
        block = self._at.get(index)
        kind = str(delta.get("type"))
        if kind not in _DELTAS:
            if kind == "citations_delta" and block is not None:
                block.fields.add("citations", [delta.get("citation")])
            return []
        field, home = _DELTAS[kind]
        if block is None or (home == field and block.kind != home):
            block = self._new_block(index, home)
        if field != "text" or block.text is None:
            return block.known([(field, block.fields.add(field, delta.get(field)))])
        piece = delta.get("text")
        if not isinstance(piece, str):
            return []
        if block.text is not self._text.last:
            self._text.turn(block.text)
        self._alike.keep(event, block.text)
        piece = block.text.add(piece)
        return [("text", piece)] if piece else []

    def text(self) -> str:
        """Return the text that was handed out so far."""
        return str(self._text)

    def result(self) -> Decoded:
        """Return the reply as far as it came; ``raw`` is the assembled message.

        The input of a tool call is an object, or its text where that is incomplete or no JSON.
        """
        content = [block.built() for block in self._blocks]
        usage = {"usage": self._usage} if self._usage else {}
        whole = {**self._message, "content": content, **usage}
        return self._decode(whole, self._request_texts)


def _only_text(payload: Mapping[str, Any]) -> str | None:
    """Return the text of a delta; it is a text where the event that is like this one is one."""
    delta = payload.get("delta")
    text = delta.get("text") if isinstance(delta, dict) else None
    return text if isinstance(text, str) else None


def _index(payload: Mapping[str, Any]) -> int:
    index = payload.get("index")
    return index if isinstance(index, int) else 0
