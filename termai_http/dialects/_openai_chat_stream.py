"""Streamed chat completions: chunks in, events and the assembled completion out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import _json
from .._sse import ServerEvent
from ..errors import InvalidResponseError
from ..models import ToolCall
from ._base import Decoded, Piece
from ._errors import event_error, no_object_error
from ._openai_chat_reply import read_tool_calls, read_usage
from ._pieces import Alike, Assembled, Text

__all__ = ["OpenAIChatStream"]

_END = "[DONE]"
_GROWING = frozenset(
    {
        "arguments",
        "content",
        "data",
        "input",
        "reasoning",
        "reasoning_content",
        "refusal",
        "transcript",
    }
)
# The reasoning fields are those of compatible servers; OpenAI streams none here.
_KINDS = {"content": "text", "reasoning": "thinking", "reasoning_content": "thinking"}
_NOT_OF_THE_REPLY = ("choices", "object", "obfuscation")
_NOT_OF_THE_CHOICE = frozenset({"index", "message"})


class OpenAIChatStream:
    """Decodes one stream. Text, thinking and tool calls are those of the first choice.

    Args:
        decode: Reads a whole completion.
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
        self._begun = False
        self._top: dict[str, Any] = {}
        self._first = _Choice()
        self._choices = {0: self._first}
        self._alike = Alike(("content", "obfuscation"), _only_text)
        self.text_of = self._alike.text_of

    @property
    def complete(self) -> bool:
        """Whether the end mark came, or a finish reason for every choice."""
        return self.ended or all(choice.finish_reason for choice in self._choices.values())

    def feed(self, event: ServerEvent) -> list[Piece]:
        """Read one event; raises as ``StreamDecoder`` says."""
        if self.ended:
            return []
        payload = _json.read_object(event[1])
        if payload is None:
            return self._no_object(event)
        if payload.get("error") or event[0] == "error" or payload.get("object") == "error":
            raise event_error(event, payload, self._request_texts())
        found: list[Piece] = []
        content = self._first.content
        # As nearly every event is.
        text = None if content is None else _only_text(payload)
        if text is None or content is None:
            self._alike.keep(event, None)
            choices = payload.get("choices")
            for choice in choices if isinstance(choices, list) else ():
                if isinstance(choice, dict):
                    self._take(choice, payload, found)
        else:
            self._alike.keep(event, content)
            if text := content.add(text):
                found.append(("text", text, payload))
        usage = payload.get("usage")
        if isinstance(usage, dict):
            found.append(("usage", read_usage(usage), payload))
        top = self._top
        for name, value in payload.items():
            if value:
                top[name] = value
        return found or [("other", "", payload)]

    def _no_object(self, event: ServerEvent) -> list[Piece]:
        self._alike.keep(event, None)
        if event.data.strip() == _END:
            if not self._begun:
                raise InvalidResponseError("The stream ended without a choice.")
            self.ended = True
            return [] if self._first.finish_reason else self._finish({})
        if event.name == "error":
            raise event_error(event, None, self._request_texts())
        if event.name == "message":
            raise no_object_error(event, self._request_texts())
        return [("other", "", {})]

    def _take(self, choice: dict[str, Any], payload: Mapping[str, Any], found: list[Piece]) -> None:
        self._begun = True
        index = choice.get("index")
        first = self._first
        known = first
        if index and isinstance(index, int) and index > 0:
            known = self._choices.get(index) or _Choice()
            self._choices[index] = known
            # Whatever it says is in the reply at the end.
            found = []
        reason = known.finish_reason
        known.add(choice, payload, found)
        if reason is None and known.finish_reason and known is first:
            found += self._finish(payload)
            found.append(("finish", known.finish_reason, payload))

    def _finish(self, payload: Mapping[str, Any]) -> list[Piece]:
        return [(kind, value, payload) for kind, value in self._first.finish()]

    def text(self) -> str:
        """Return the text that was handed out so far."""
        return self._first.text()

    def result(self) -> Decoded:
        """Return the reply as far as it came; ``raw`` is the assembled completion."""
        choices = [
            {"index": index, **choice.built()} for index, choice in sorted(self._choices.items())
        ]
        top = {name: self._top[name] for name in self._top if name not in _NOT_OF_THE_REPLY}
        whole = {**top, "object": "chat.completion", "choices": choices}
        return self._decode(whole, self._request_texts)


class _Choice:
    """One choice, put together from its deltas.

    Attributes:
        finish_reason: Why it ended; None before it did.
        content: Its text; None before any came.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._is_new = True
        self._message = Assembled(_GROWING)
        self.content: Text | None = None
        self._calls = _ToolCalls()
        self._logprobs = Assembled(frozenset())
        self._rest: dict[str, Any] = {}

    def add(
        self, choice: Mapping[str, Any], payload: Mapping[str, Any], found: list[Piece]
    ) -> None:
        """Take a chunk's choice and add the pieces that can be handed out."""
        for name, value in choice.items():
            if not value:
                continue
            # A server without a stream of its own may send the whole message as its one chunk.
            if name == "delta" or (name == "message" and self._is_new and "delta" not in choice):
                if isinstance(value, dict):
                    self._is_new = False
                    self._add(value, payload, found)
            elif name == "finish_reason":
                if isinstance(value, str):
                    self.finish_reason = value
            elif name == "logprobs":
                if isinstance(value, dict):
                    for inner, item in value.items():
                        self._logprobs.add(inner, item)
            elif name not in _NOT_OF_THE_CHOICE:
                self._rest[name] = value

    def _add(
        self, delta: Mapping[str, Any], payload: Mapping[str, Any], found: list[Piece]
    ) -> None:
        for name, value in delta.items():
            if name == "content":
                if isinstance(value, list):
                    value = _text_of_parts(value)
                if isinstance(value, str):
                    if self.content is None:
                        self.content = self._message.text(name)
                    if piece := self.content.add(value):
                        found.append(("text", piece, payload))
                    continue
            if name == "tool_calls":
                for call in value if isinstance(value, list) else ():
                    if isinstance(call, dict):
                        found.append(("tool_call_delta", self._calls.add(call), payload))
                continue
            piece = self._message.add(name, value)
            # Some servers send the same thinking under both of its names.
            twice = name == "reasoning" and delta.get("reasoning_content")
            if piece and name in _KINDS and not twice:
                found.append((_KINDS[name], piece, payload))

    def text(self) -> str:
        """Return the text so far."""
        return "" if self.content is None else str(self.content)

    def finish(self) -> list[tuple[str, Any]]:
        """Return what the end adds: whole tool calls, and U+FFFD for halves of surrogate pairs."""
        texts = [(_KINDS.get(name), piece) for name, piece in self._message.flush()]
        pieces: list[tuple[str, Any]] = [(kind, piece) for kind, piece in texts if kind is not None]
        pieces += [("tool_call_delta", piece) for piece in self._calls.flush()]
        return pieces + [("tool_call", call) for call in self._calls.whole()]

    def built(self) -> dict[str, Any]:
        """Return the choice as far as it came."""
        message = {"role": "assistant", "content": None, **self._message.built()}
        if calls := self._calls.built():
            message["tool_calls"] = calls
        return {
            "message": message,
            "finish_reason": self.finish_reason,
            "logprobs": self._logprobs.built() or None,
            **self._rest,
        }


def _only_text(payload: Mapping[str, Any]) -> str | None:
    """Return the text of a chunk that adds nothing but text to the first choice; else None."""
    choices = payload.get("choices")
    if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
        return None
    delta = None
    for name, value in choices[0].items():
        if value:
            if name != "delta":
                return None
            delta = value
    if type(delta) is not dict or len(delta) != 1:
        return None
    text = delta.get("content")
    return text if type(text) is str else None


def _text_of_parts(parts: list[Any]) -> str:
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join([text for text in texts if isinstance(text, str)])


class _Call:
    """One tool call, put together from its deltas.

    Attributes:
        index: Its place among the calls.
        fields: What came of it.
        begun: What is known of it before its arguments are whole.
    """

    __slots__ = ("begun", "fields", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.fields = Assembled(_GROWING)
        self.begun = ToolCall(id="", name="", arguments=None, text="")

    def add(self, piece: Mapping[str, Any]) -> str:
        """Take a delta and return what it adds to the arguments."""
        fields = self.fields
        added = "".join([fields.add(name, piece[name]) for name in piece if name != "index"])
        function = fields.get("function")
        name = function.get("name") if isinstance(function, Assembled) else None
        begun = self.begun
        if (fields.get("id") or "") != begun.id or (name or "") != begun.name:
            id = str(fields.get("id") or "")
            self.begun = ToolCall(id=id, name=str(name or ""), arguments=None, text="")
        return added


class _ToolCalls:
    """Tool calls, put together from pieces that name an index; not every server names it well."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int | None, _Call] = {}

    def add(self, piece: Mapping[str, Any]) -> tuple[str, ToolCall]:
        """Take a piece and return what it adds to the arguments, and whose they are."""
        index = piece.get("index")
        index = index if isinstance(index, int) else None
        call = self._at.get(index)
        if call is None or _begins_another(piece, index, call.fields):
            call = self._at[index] = _Call(index or 0)
            self._calls.append(call)
        added = call.add(piece)
        return added, call.begun

    def flush(self) -> list[tuple[str, ToolCall]]:
        """Return what halves of surrogate pairs in the arguments become."""
        return [(piece, call.begun) for call in self._calls for _, piece in call.fields.flush()]

    def whole(self) -> tuple[ToolCall, ...]:
        """Return the calls as values."""
        return read_tool_calls(self.built())

    def built(self) -> list[dict[str, Any]]:
        """Return the calls in the order of their indexes."""
        return [call.fields.built() for call in sorted(self._calls, key=lambda call: call.index)]


def _begins_another(piece: Mapping[str, Any], index: int | None, call: Assembled) -> bool:
    """Tell whether a piece begins a call although there is one at its index.

    Some servers send whole calls without an index, or every call with index 0.
    """
    function = piece.get("function")
    if not isinstance(function, dict) or not function.get("name"):
        return False
    ours, known = piece.get("id"), call.get("id")
    if index is None:
        return not ours or ours != known
    return bool(ours and known and ours != known)
