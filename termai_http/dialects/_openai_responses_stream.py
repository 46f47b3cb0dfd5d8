"""Streamed responses: events in, pieces and the assembled response out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from .. import _json
from .._sse import ServerEvent
from ..errors import APIStatusError, InvalidResponseError
from ._base import Decoded, Piece
from ._errors import event_error, no_object_error
from ._openai_responses_items import Item, Part, texts_of, whole_text
from ._openai_responses_kinds import CALLS, is_answer
from ._openai_responses_reply import (
    read_refusal,
    read_reply,
    read_text,
    read_thinking,
    read_tool_calls,
    with_type,
)
from ._pieces import Alike, InOrder

__all__ = ["OpenAIResponsesStream"]

_END = "[DONE]"
_TEXT_DELTA = "response.output_text.delta"
_ANNOTATION = "response.output_text.annotation.added"
_BEGINS = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS = frozenset({"response.completed", "response.incomplete"})
_FAILURES = frozenset({"response.cancelled", "response.failed"})
_WHOLE_PARTS = frozenset({"response.content_part", "response.reasoning_summary_part"})
# What grows: the type of its item, where in the item it stands, and its kind there.
_GROWING = {
    "response.output_text": ("message", "content", "output_text"),
    "response.refusal": ("message", "content", "refusal"),
    "response.reasoning_text": ("reasoning", "content", "reasoning_text"),
    # The name that the Open Responses specification has for it.
    "response.reasoning": ("reasoning", "content", "reasoning_text"),
    "response.reasoning_summary_text": ("reasoning", "summary", "summary_text"),
    "response.function_call_arguments": ("function_call", "arguments", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input", "input"),
}
_HOMES = {kind: (home, group) for home, group, kind in _GROWING.values() if kind != group}
_INDEXES = {"content": "content_index", "summary": "summary_index"}
_Pieces: TypeAlias = "list[tuple[str, Any]]"


class OpenAIResponsesStream:
    """Decodes one stream.

    Args:
        request_texts: Returns the texts of the request, masked where an error repeats them.
    """

    def __init__(self, request_texts: Callable[[], list[str]]) -> None:
        self.ended = False
        self._request_texts = request_texts
        self._reply: dict[str, Any] = {"object": "response"}
        self._items: list[Item] = []
        self._at: dict[int, Item] = {}
        # The texts of answers that may grow, by the places of item and part.
        self._answers: dict[tuple[int, int], Part] = {}
        self._thought = False
        self._text = InOrder()
        self._alike = Alike(("delta", "sequence_number", "obfuscation"), _only_text)
        self.text_of = self._alike.text_of

    @property
    def complete(self) -> bool:
        """Whether the end mark came; the reason why the reply ended comes with it."""
        return self.ended

    def feed(self, event: ServerEvent) -> list[Piece]:
        """Read one event; raises as ``StreamDecoder`` says."""
        if self.ended:
            return []
        payload = _json.read_object(event[1])
        self._alike.keep(event, None)
        if payload is None:
            return self._no_object(event)
        kind = payload.get("type")
        if type(kind) is not str:
            kind = event.name
        if payload.get("error") or kind == "error" or event.name == "error":
            raise self._error(event, payload)
        # Nearly every event is one of these.
        if kind == _TEXT_DELTA:
            index, at = payload.get("output_index"), payload.get("content_index")
            delta = payload.get("delta")
            if type(index) is int and type(at) is int and type(delta) is str:
                answer = self._answers.get((index, at))
                if answer is not None:
                    self._turn(answer)
                    self._alike.keep(event, answer.text)
                    piece = answer.text.add(delta)
                    return [("text" if piece else "other", piece, payload)]
        pieces = self._take(event, kind, payload)
        return [(name, value, payload) for name, value in pieces] or [("other", "", payload)]

    def _no_object(self, event: ServerEvent) -> list[Piece]:
        if event.data.strip() == _END:
            if not self._items:
                raise InvalidResponseError("The stream ended without a response.")
            pieces = [piece for item in self._items for piece in self._finish(item)]
            self._close(self._reply)
            return [(kind, value, {}) for kind, value in pieces]
        if event.name == "error":
            raise event_error(event, None, self._request_texts())
        if event.name == "message" or event.name.startswith("response."):
            raise no_object_error(event, self._request_texts())
        return [("other", "", {})]

    def _error(self, event: ServerEvent, payload: Mapping[str, Any]) -> APIStatusError:
        if payload.get("error"):
            payload = {**payload, "error": with_type(payload["error"])}
        elif payload.get("type") == "error":
            # This type says only that it is an error.
            payload = {**payload, "error": with_type({**payload, "type": None})}
        return event_error(event, payload, self._request_texts())

    def _take(self, event: ServerEvent, kind: str, payload: Mapping[str, Any]) -> _Pieces:
        stem, _, step = kind.rpartition(".")
        if stem in _GROWING:
            return self._grow(stem, step, payload)
        if stem in _WHOLE_PARTS:
            return self._take_part(payload)
        if stem == "response.output_item":
            return self._take_item(step, payload)
        response = payload.get("response")
        response = response if isinstance(response, dict) else {}
        if kind in _ENDS:
            return self._end(event, step, response)
        if kind in _FAILURES:
            raise self._failure(event, response)
        if kind in _BEGINS:
            self._reply = {**self._reply, **response}
        elif kind == _ANNOTATION:
            self._annotate(payload)
        return []

    def _failure(self, event: ServerEvent, response: Mapping[str, Any]) -> APIStatusError:
        error = {"error": with_type(response.get("error"))}
        return event_error(event, error, self._request_texts())

    def _grow(self, stem: str, step: str, payload: Mapping[str, Any]) -> _Pieces:
        home, group, kind = _GROWING[stem]
        item = self._item(home, payload, grows=step == "delta")
        if item is None or step not in ("delta", "done"):
            return []
        part = self._part(item, group, _number(payload, _INDEXES.get(group)), kind)
        if step == "done":
            return self._complete(item, part, whole_text(kind, payload))
        self._turn(part)
        delta = payload.get("delta")
        return self._hand_out(item, part, part.text.add(delta) if isinstance(delta, str) else "")

    def _take_part(self, payload: Mapping[str, Any]) -> _Pieces:
        fields = payload.get("part")
        kind = fields.get("type") if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or not isinstance(kind, str) or kind not in _HOMES:
            return []
        home, group = _HOMES[kind]
        item = self._item(home, payload, grows=False)
        if item is None:
            return []
        part = self._part(item, group, _number(payload, _INDEXES[group]), kind)
        part.fields = {**part.fields, **fields}
        return self._complete(item, part, whole_text(kind, fields))

    def _annotate(self, payload: Mapping[str, Any]) -> None:
        item = self._item("message", payload, grows=False)
        if item is not None:
            at = _number(payload, "content_index")
            fields = self._part(item, "content", at, "output_text").fields
            known = fields.get("annotations")
            known = known if isinstance(known, list) else []
            fields["annotations"] = [*known, payload.get("annotation")]

    def _take_item(self, step: str, payload: Mapping[str, Any]) -> _Pieces:
        fields = payload.get("item")
        if not isinstance(fields, dict) or step not in ("added", "done"):
            return []
        index = _number(payload, "output_index")
        item = self._at.get(index)
        pieces: _Pieces = []
        named = item is not None and item.is_named(fields)
        # Some servers give an item another id in each event, so what ends is told by its place.
        ends = step == "done" and item is not None and item.type == fields.get("type")
        if item is None or not (named or (ends and not item.done)):
            item = self._begin(index, fields)
            if item.type in CALLS:
                pieces.append(("tool_call_delta", ("", item.call)))
        if not item.done:
            pieces += self._fill(item, fields) if step == "added" else self._take_end(item, fields)
        return pieces

    def _item(self, home: str, payload: Mapping[str, Any], *, grows: bool) -> Item | None:
        """Return the item of an event; None where it comes late, and says nothing new.

        Some servers do not begin their items, or give all of them the same place.
        """
        index = _number(payload, "output_index")
        item = self._at.get(index)
        if item is not None and item.type == home and not (item.done and grows):
            return None if item.done else item
        fields = {"type": home, "role": "assistant"} if home == "message" else {"type": home}
        if isinstance(payload.get("item_id"), str):
            fields["id"] = payload["item_id"]
        return self._begin(index, fields)

    def _begin(self, index: int, fields: Mapping[str, Any]) -> Item:
        item = self._at[index] = Item(index, fields)
        self._items.append(item)
        self._forget_answers(index)
        return item

    def _forget_answers(self, index: int) -> None:
        self._answers = {place: part for place, part in self._answers.items() if place[0] != index}

    def _part(self, item: Item, group: str, at: int, kind: str) -> Part:
        part = item.parts.get((group, at))
        if part is None:
            part = item.parts[group, at] = Part(kind, _hands_out(item, kind))
            if part.hands_out == "text":
                self._answers[item.index, at] = part
        return part

    def _turn(self, part: Part) -> None:
        if part.hands_out == "text" and part.text is not self._text.last:
            self._text.turn(part.text)

    def _complete(self, item: Item, part: Part, whole: Any) -> _Pieces:
        self._turn(part)
        return self._hand_out(item, part, part.complete(whole))

    def _hand_out(self, item: Item, part: Part, piece: str) -> _Pieces:
        if not piece or not part.hands_out:
            return []
        if part.hands_out == "tool_call_delta":
            return [("tool_call_delta", (piece, item.call))]
        if part.hands_out == "thinking" and not part.begun:
            part.begun = True
            if self._thought:
                piece = f"\n\n{piece}"
            self._thought = True
        return [(part.hands_out, piece)]

    def _fill(self, item: Item, fields: Mapping[str, Any]) -> _Pieces:
        """Hand out what an item has of its texts, beyond what came of them before."""
        pieces: _Pieces = []
        for group, at, kind, text in texts_of(fields):
            if isinstance(text, str) and text:
                pieces += self._complete(item, self._part(item, group, at, kind), text)
        return pieces

    def _take_end(self, item: Item, fields: Mapping[str, Any]) -> _Pieces:
        if not item.parts:
            item.fields = fields
        elif is_answer(item.fields) != is_answer(fields):
            # What was handed out as the answer stays the answer.
            fields = {**fields, "phase": item.fields.get("phase")}
        pieces = self._fill(item, fields) + self._flush(item)
        item.end(fields)
        self._forget_answers(item.index)
        return pieces + self._call(item)

    def _finish(self, item: Item) -> _Pieces:
        """Return what the end of the reply adds to an item whose own end did not come."""
        return [] if item.done else [*self._flush(item), *self._call(item)]

    def _flush(self, item: Item) -> _Pieces:
        pieces: _Pieces = []
        for part in item.parts.values():
            self._turn(part)
            pieces += self._hand_out(item, part, part.text.flush())
        return pieces

    def _call(self, item: Item) -> _Pieces:
        calls = () if item.called else read_tool_calls([item.built()])
        item.called = item.called or bool(calls)
        return [("tool_call", call) for call in calls]

    def _end(self, event: ServerEvent, step: str, response: dict[str, Any]) -> _Pieces:
        if response.get("error") or response.get("status") in ("failed", "cancelled"):
            raise self._failure(event, response)
        if response.get("status") not in ("completed", "incomplete"):
            response = {**response, "status": step}
        output = response.get("output")
        pieces: _Pieces = []
        rest = list(self._items)
        for at, fields in enumerate(output if isinstance(output, list) else ()):
            if isinstance(fields, dict):
                item = _known(rest, at, fields) or self._begin(at, fields)
                rest = [known for known in rest if known is not item]
                pieces += [] if item.done else self._take_end(item, fields)
        pieces += [piece for item in rest for piece in self._finish(item)]
        self._close(response)
        decoded = self.result()
        if decoded.finish_reason is not None:
            pieces.append(("finish", decoded.finish_reason))
        if isinstance(self._reply.get("usage"), dict):
            pieces.append(("usage", decoded.usage))
        return pieces

    def _close(self, response: Mapping[str, Any]) -> None:
        """Settle the reply: the server's own account of it, unless it told another one before."""
        self.ended = True
        built = self._built()
        self._reply = {**self._reply, **response}
        output = response.get("output")
        if not output or not isinstance(output, list) or _heard(output) != _heard(built):
            self._reply["output"] = built
        self._items, self._at, self._answers = [], {}, {}

    def _built(self) -> list[Any]:
        items = sorted(self._items, key=lambda item: item.index)
        return [item.built() for item in items]

    def text(self) -> str:
        """Return the text that was handed out so far."""
        return str(self._text)

    def result(self) -> Decoded:
        """Return the reply as far as it came; ``raw`` is the response."""
        return read_reply(self._reply if self.ended else {**self._reply, "output": self._built()})


def _only_text(payload: Mapping[str, Any]) -> str | None:
    """Return the text of a delta; it is a text where the event that is like this one is one."""
    delta = payload.get("delta")
    return delta if isinstance(delta, str) else None


def _hands_out(item: Item, kind: str) -> str:
    if kind == "output_text":
        return "text" if is_answer(item.fields) else "thinking"
    if kind in CALLS.values():
        return "tool_call_delta"
    return "" if kind == "refusal" else "thinking"


def _known(items: Iterable[Item], at: int, fields: Mapping[str, Any]) -> Item | None:
    """Return the item that a place of the whole output is about: by its id, place or type."""
    same = [item for item in items if item.type == fields.get("type")]
    named = (item for item in same if item.is_named(fields))
    placed = (item for item in same if item.index == at)
    return next(named, None) or next(placed, None) or next(iter(same), None)


def _heard(output: Iterable[Any]) -> tuple[Any, ...]:
    """Return what the events told of items; the server's account at the end must not differ."""
    return read_text(output), read_refusal(output), read_thinking(output), read_tool_calls(output)


def _number(payload: Mapping[str, Any], name: str | None) -> int:
    number = payload.get(name) if name is not None else None
    return number if type(number) is int and number >= 0 else 0
