"""Streamed chat completions: chunks in, events and the assembled completion out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._sse import ServerEvent
from ..errors import InvalidResponseError
from ..models import StreamEvent
from ._base import Decoded, event_error, event_object, no_object_error
from ._pieces import Assembled

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
_NOT_OF_THE_REPLY = frozenset({"choices", "object", "obfuscation"})
_NOT_OF_THE_CHOICE = frozenset({"delta", "finish_reason", "index", "logprobs", "message"})


class OpenAIChatStream:
    """Decodes one stream. Text, thinking and tool calls are those of the first choice.

    Args:
        decode: Reads a whole completion.
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
        self._begun = False
        self._top: dict[str, Any] = {}
        self._first = _Choice()
        self._choices = {0: self._first}

    @property
    def complete(self) -> bool:
        """Whether the end mark came, or a finish reason for every choice."""
        return self.ended or all(choice.finish_reason for choice in self._choices.values())

    def feed(self, event: ServerEvent) -> list[StreamEvent]:
        """Read one event; raises as ``StreamDecoder`` says."""
        if self.ended:
            return []
        payload = event_object(event)
        if payload is None:
            return self._no_object(event)
        if payload.get("error") or "error" in (event.name, payload.get("object")):
            raise event_error(event, payload, self._request_texts())
        events: list[StreamEvent] = []
        choices = payload.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._take(choice, payload, events)
        if isinstance(payload.get("usage"), dict):
            events.append(StreamEvent(type="usage", raw=payload))
        for name, value in payload.items():
            if value and name not in _NOT_OF_THE_REPLY:
                self._top[name] = value
        return events or [StreamEvent(type="other", raw=payload)]

    def _no_object(self, event: ServerEvent) -> list[StreamEvent]:
        if event.data.strip() == _END:
            if not self._begun:
                raise InvalidResponseError("The stream ended without a choice.")
            self.ended = True
            return self._flush({})
        if event.name == "error":
            raise event_error(event, None, self._request_texts())
        if event.name == "message":
            raise no_object_error(event, self._request_texts())
        return [StreamEvent(type="other", raw={})]

    def _take(
        self, choice: dict[str, Any], payload: Mapping[str, Any], events: list[StreamEvent]
    ) -> None:
        self._begun = True
        index = choice.get("index")
        index = index if isinstance(index, int) and index > 0 else 0
        known = self._choices.get(index)
        if known is None:
            known = self._choices[index] = _Choice()
        delta = choice.get("delta")
        pieces = known.add(delta) if isinstance(delta, dict) else []
        open_before = known.finish_reason is None
        known.end(choice)
        if known is self._first:
            events += [StreamEvent(type=kind, text=text, raw=payload) for kind, text in pieces]
            if open_before and known.finish_reason:
                events += self._flush(payload)
                events.append(StreamEvent(type="finish", raw=payload))

    def _flush(self, payload: Mapping[str, Any]) -> list[StreamEvent]:
        return [
            StreamEvent(type=kind, text=text, raw=payload) for kind, text in self._first.flush()
        ]

    def result(self) -> Decoded:
        """Return the reply as far as it came; ``raw`` is the assembled completion."""
        choices = [
            {"index": index, **choice.built()} for index, choice in sorted(self._choices.items())
        ]
        return self._decode({**self._top, "object": "chat.completion", "choices": choices})


class _Choice:
    """One choice, put together from its deltas."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._message = Assembled(_GROWING)
        self._calls = _ToolCalls()
        self._logprobs = Assembled(frozenset())
        self._rest: dict[str, Any] = {}

    def add(self, delta: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Take a delta and return the pieces that can be handed out, each with its kind."""
        pieces: list[tuple[str, str]] = []
        for name, value in delta.items():
            if name == "tool_calls":
                for call in value if isinstance(value, list) else ():
                    if isinstance(call, dict):
                        pieces.append(("tool_call", self._calls.add(call)))
                continue
            if name == "content" and isinstance(value, list):
                value = _text_of_parts(value)
            piece = self._message.add(name, value)
            # Some servers send the same thinking under both of its names.
            twice = name == "reasoning" and delta.get("reasoning_content")
            if piece and name in _KINDS and not twice:
                pieces.append((_KINDS[name], piece))
        return pieces

    def end(self, choice: Mapping[str, Any]) -> None:
        """Take what a chunk's choice holds beside its delta."""
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        for name, value in choice.items():
            if value and name not in _NOT_OF_THE_CHOICE:
                self._rest[name] = value
        logprobs = choice.get("logprobs")
        for name, value in logprobs.items() if isinstance(logprobs, dict) else ():
            self._logprobs.add(name, value)

    def flush(self) -> list[tuple[str, str]]:
        """Return what halves of surrogate pairs become where their other halves never came."""
        texts = [(_KINDS.get(name), piece) for name, piece in self._message.flush()]
        pieces = [(kind, piece) for kind, piece in texts if kind is not None]
        return pieces + [("tool_call", piece) for piece in self._calls.flush()]

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


def _text_of_parts(parts: list[Any]) -> str:
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join([text for text in texts if isinstance(text, str)])


class _ToolCalls:
    """Tool calls, put together from pieces that name an index; not every server names it well."""

    def __init__(self) -> None:
        self._calls: list[tuple[int, Assembled]] = []
        self._at: dict[int | None, Assembled] = {}

    def add(self, piece: Mapping[str, Any]) -> str:
        """Take a piece and return what it adds to the arguments."""
        index = piece.get("index")
        index = index if isinstance(index, int) else None
        call = self._at.get(index)
        if call is None or _begins_another(piece, index, call):
            call = self._at[index] = Assembled(_GROWING)
            self._calls.append((0 if index is None else index, call))
        return "".join([call.add(name, value) for name, value in piece.items() if name != "index"])

    def flush(self) -> list[str]:
        """Return what halves of surrogate pairs in the arguments become."""
        return [piece for _, call in self._calls for _, piece in call.flush()]

    def built(self) -> list[dict[str, Any]]:
        """Return the calls in the order of their indexes."""
        return [call.built() for _, call in sorted(self._calls, key=lambda known: known[0])]


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
