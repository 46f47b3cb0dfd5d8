"""Events that are like the one before: their text alone is read, and it is the same text."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import _json
from termai_http._sse import ServerEvent
from termai_http.dialects import _pieces
from termai_http.dialects._base import Dialect, StreamDecoder
from termai_http.dialects.claude_messages import ClaudeMessages
from termai_http.dialects.openai_chat import OpenAIChat
from termai_http.dialects.openai_responses import OpenAIResponses
from termai_http.errors import TermaiHttpError

DIALECTS: dict[str, Dialect] = {
    "chat": OpenAIChat(),
    "responses": OpenAIResponses(),
    "claude": ClaudeMessages(),
}
PLACE = {"item_id": "m1", "output_index": 0, "content_index": 0}


def chat(text: Any, **more: Any) -> dict[str, Any]:
    """Return a chunk of a chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return {"id": "c1", "model": "m", "choices": [choice], "usage": None, **more}


def responses(text: Any, **more: Any) -> dict[str, Any]:
    """Return a delta of a response."""
    kind = "response.output_text.delta"
    return {"type": kind, "sequence_number": 1, **PLACE, "delta": text, "logprobs": [], **more}


def claude(text: Any, **more: Any) -> dict[str, Any]:
    """Return a delta of a message."""
    delta = {"type": "text_delta", "text": text}
    return {"type": "content_block_delta", "index": 0, "delta": delta, **more}


BEGINS: dict[str, list[dict[str, Any]]] = {
    "chat": [chat("", object="chat.completion.chunk")],
    "responses": [
        {"type": "response.created", "response": {"id": "r1", "model": "m"}},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"id": "m1", "type": "message", "role": "assistant", "content": []},
        },
        {
            "type": "response.content_part.added",
            **PLACE,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
    ],
    "claude": [
        {"type": "message_start", "message": {"id": "msg", "model": "m", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ],
}
DELTAS: dict[str, Callable[..., dict[str, Any]]] = {
    "chat": chat,
    "responses": responses,
    "claude": claude,
}


def named(payload: Any, text: str | None = None) -> ServerEvent:
    """Return an event with the name that its vendor gives it, and with another spelling."""
    text = json.dumps(payload) if text is None else text
    kind = payload.get("type") if isinstance(payload, dict) else None
    return ServerEvent(kind if isinstance(kind, str) else "message", text)


def read(name: str, events: Iterable[ServerEvent], *, alike: bool) -> tuple[Any, ...]:
    """Return all that a stream says: its texts after each event, its end, and its reply."""
    decoder: StreamDecoder = DIALECTS[name].decode_stream(lambda: ["the prompt"])
    handed: list[str] = []
    failure = ""
    for event in events:
        text = decoder.text_of(event) if alike else None
        if text is None:
            try:
                pieces = decoder.feed(event)
            except TermaiHttpError as error:
                failure = f"{type(error).__name__}: {error}"
                break
            text = "".join([value for kind, value, _ in pieces if kind == "text"])
        handed.append(text)
    result: Any
    try:
        result = decoder.result()
    except TermaiHttpError as error:
        result = str(error)
    return handed, failure, decoder.text(), decoder.complete, repr(result)


def same(name: str, events: list[ServerEvent]) -> tuple[Any, ...]:
    """Return what a stream says, which is the same whichever way its events are read."""
    events = [*map(named, BEGINS[name]), *events]
    whole = read(name, events, alike=False)
    assert read(name, events, alike=True) == whole
    return whole


TEXTS = [
    "word ",
    "",
    "é 🎉",
    '"',
    "\\",
    "\n\0",
    "\ud83d",
    "\ude00",
    '"content":"x"',
    '","text":"',
    "x" * 9,
]


@pytest.fixture
def read_whole(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the events' data that are read whole from now on."""
    found: list[str] = []

    def watched(text: str) -> Any:
        found.append(text)
        return genuine(text)

    genuine = _json.read_object
    monkeypatch.setattr(_json, "read_object", watched)
    return found


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_like_the_last_event_is_not_read_whole(name: str, read_whole: list[str]) -> None:
    """Whatever text it has, a number and padding of any length: no object is made of it."""
    deltas = [
        DELTAS[name](
            text, **dict.fromkeys(("obfuscation",), "ab" * number) if name != "claude" else {}
        )
        | ({"sequence_number": number} if name == "responses" else {})
        for number, text in enumerate(TEXTS * 3)
    ]
    events = [*map(named, BEGINS[name]), *map(named, deltas)]
    handed, failure, text, *_ = read(name, events, alike=True)
    assert not failure
    assert "".join(handed) == text == "".join(TEXTS * 3).replace("\ud83d\ude00", "😀")
    assert len(read_whole) <= len(BEGINS[name]) + 1


OTHERS: dict[str, list[Any]] = {
    "chat": [
        chat("x", model="another"),
        chat("x", usage={"completion_tokens": 3}),
        chat("x", error={"message": "no"}),
        chat("x", service_tier="flex"),
        {"model": "another", "choices": [{"index": 0, "delta": {"content": "x", "role": "a"}}]},
        chat(None),
        chat(["x"]),
        {"choices": [{"index": 1, "delta": {"content": "other"}}]},
        {"choices": [{"index": 0, "delta": {"content": "x", "refusal": "no"}}]},
        {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {
            "choices": [
                {"delta": {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f"}}]}}
            ]
        },
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"choices": [{"delta": {"content": "x"}}, {"index": 1, "delta": {"content": "y"}}]},
        {"obfuscation": {"content": "x"}, "choices": [{"delta": {"content": "y"}}]},
        {"content": "top", "choices": [{"index": 0, "delta": {}}]},
    ],
    "responses": [
        responses("x", output_index=1),
        responses("x", content_index=1),
        responses("x", error={"message": "no"}),
        responses(1),
        {"type": "response.output_text.annotation.added", **PLACE, "annotation": {"url": "u"}},
        {"type": "response.refusal.delta", **PLACE, "delta": "no"},
        {"type": "response.output_text.done", **PLACE, "text": "x"},
        {"type": "response.completed", "response": {"status": "completed"}},
        {"type": "response.failed", "response": {"error": {"message": "no"}}},
    ],
    "claude": [
        claude("x", index=1),
        claude("x", error={"message": "no"}),
        claude(None),
        {"type": "ping"},
        {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "text": "x"},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "b"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "thinking"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ],
}


def escaped(text: str) -> str:
    """Return an event whose own names are escaped, behind decoys that end as they do."""
    for name in ("content", "text", "delta"):
        text = text.replace(f'"{name}":', f'"{name[:2]}\\u{ord(name[2]):04x}{name[3:]}":')
    return '{"a\\"content":"b","a\\"text":"b","a\\"delta":"b",' + text[1:]


SPELLINGS: list[Callable[[str], str]] = [
    lambda text: text,
    escaped,
    lambda text: text.replace(":", " : "),
    lambda text: text.replace("content", "c\\u006fntent"),
    lambda text: text.replace('"delta":', '"delta":{"content":"first"},"delta":'),
    lambda text: text.replace('"delta":', '"delta":"first","delta":'),
    lambda text: text.replace('"text":', '"text":"first","text":'),
    lambda text: text.replace('"text":', '"text":"first","t\\u0065xt":'),
    lambda text: text.replace("{", '{"a\\"content":"b","a\\"text":1,', 1),
    lambda text: text.replace("{", '{"obfuscation":"a","obfuscation":"b",', 1),
    lambda text: text.replace("{", '{"pad":{"obfuscation":"a"},', 1),
    lambda text: text.replace("{", '{"sequence_number":9,', 1),
    lambda text: text.replace("}", ',"n":99999999999999999999,"f":1.50}', 1),
    lambda text: "\ufeff " + text + " \n",
    lambda text: text[:-1],
    lambda text: text + "x",
    lambda text: text[: len(text) // 2],
    lambda text: "[DONE]",
    lambda text: "1",
]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("between", range(max(map(len, OTHERS.values()))))
def test_what_is_not_like_it_is_read_whole(name: str, between: int) -> None:
    """A field that says something else, at any place in the stream, is heard."""
    other = OTHERS[name][between % len(OTHERS[name])]
    usual = [DELTAS[name](text) for text in ("a", "b", "c", "\ud83d", "\ude00")]
    for stream in ([*usual, other, *usual], [usual[0], other, other, *usual, other]):
        same(name, list(map(named, stream)))


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("spelling", range(len(SPELLINGS)))
def test_another_spelling_says_the_same(name: str, spelling: int) -> None:
    """Keys told twice or with escapes, spaces, and what is cut short: as they are read whole."""
    usual = [DELTAS[name](text) for text in ("a", "a", "b", "b", "c")]
    spelt = [named(one, SPELLINGS[spelling](json.dumps(one))) for one in usual]
    same(name, [*spelt, *map(named, usual), *spelt])


@pytest.mark.parametrize("name", DIALECTS)
def test_an_event_that_is_an_error_by_its_name_alone_is_one(name: str) -> None:
    """Though its data are those of a text."""
    usual = [named(DELTAS[name](text)) for text in ("a", "b", "c")]
    failure = same(name, [*usual, ServerEvent("error", usual[0].data)])[1]
    assert failure


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("field", ["obfuscation", "sequence_number"])
def test_what_differs_elsewhere_is_heard(name: str, field: str) -> None:
    """A field that may differ is another one where it stands in another object."""
    events = [DELTAS[name]("x", own={field: number}) for number in range(5)]
    same(name, [named({**event, field: 1} if name == "claude" else event) for event in events])
    same(name, list(map(named, events)))


@pytest.mark.parametrize("alike", [False, True])
def test_what_comes_beside_a_text_is_heard(alike: bool) -> None:
    """Another field of its delta, and another choice of its chunk."""
    beside = {"choices": [{"index": 0, "delta": {"content": "x", "refusal": "no"}}]}
    another = {"choices": [{"delta": {"content": "x"}}, {"index": 1, "delta": {"content": "y"}}]}
    events = [named(one) for one in (chat("a"), chat("b"), beside, chat("c"), another)]
    handed, _, text, _, result = read("chat", events, alike=alike)
    assert handed == ["a", "b", "x", "c", "x"]
    assert text == "abxcx"
    assert "'refusal': 'no'" in result
    assert "texts=('abxcx', 'y')" in result


@given(st.data())
@pytest.mark.parametrize("name", DIALECTS)
def test_any_stream_says_the_same(name: str, data: st.DataObject) -> None:
    """Any events in any order and spelling."""
    random_ = random.Random(data.draw(st.integers()))
    events: list[ServerEvent] = []
    for _ in range(random_.randrange(30)):
        payload = random_.choice(
            [DELTAS[name](random_.choice(TEXTS)), DELTAS[name]("x", obfuscation="y"), *OTHERS[name]]
            if random_.random() < 0.3
            else [DELTAS[name](random_.choice(TEXTS), obfuscation=random_.choice(TEXTS[:4]))]
        )
        text = json.dumps(payload, ensure_ascii=random_.random() < 0.5).encode("utf-8", "replace")
        spelt = SPELLINGS[0] if random_.random() < 0.8 else random_.choice(SPELLINGS)
        event = named(payload, spelt(text.decode()))
        events.append(event if random_.random() < 0.95 else ServerEvent("other", event.data))
    same(name, events)


@given(st.data())
@pytest.mark.parametrize("name", DIALECTS)
def test_a_change_anywhere_is_heard(name: str, data: st.DataObject) -> None:
    """One character more, less or another, at any place of an event that was like the last one."""
    usual = [named(DELTAS[name](text, obfuscation="abc")) for text in ("a", "b", "c")]
    text = usual[0].data
    at = data.draw(st.integers(0, len(text)))
    gone, new = data.draw(st.integers(0, 2)), data.draw(st.text('"\\{}[]:,0a e', max_size=2))
    changed = ServerEvent(usual[0].name, text[:at] + new + text[at + gone :])
    same(name, [*usual, changed, *usual])


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_never_alike_is_learnt_a_few_times_only(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that differ in a field of their own cost what they cost, and no more."""
    learnt: list[str] = []
    genuine = _pieces.read_object
    monkeypatch.setattr(_pieces, "read_object", lambda text: learnt.append(text) or genuine(text))
    events = [named(DELTAS[name]("x", own=number)) for number in range(100)]
    read(name, [*map(named, BEGINS[name]), *events], alike=True)
    assert 1 <= len(learnt) <= 8
