"""Streams of OpenAI's responses, decoded: what holds for every dialect, and what only they have."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import (
    APIStatusError,
    BadRequestError,
    InternalServerError,
    InvalidResponseError,
    QuotaExceededError,
    RateLimitError,
    TermaiHttpError,
    ToolCall,
    TruncatedResponse,
    Usage,
)
from termai_http._sse import ServerEvent
from termai_http.dialects._base import Decoded, Dialect, Piece
from termai_http.dialects.openai_responses import OpenAIResponses
from tests.unit import test_streams_decode as every
from tests.unit.test_streams_decode import (
    JSON,
    KEY,
    PROMPT,
    decoder_of,
    feed,
    pairs,
    parse,
    places,
    replaced,
    sse,
    text_of,
    values,
)

Items = list[dict[str, Any]]


class Responses:
    """Events of OpenAI's responses, as the API sends them."""

    dialect: ClassVar[Dialect] = OpenAIResponses()
    end: ClassVar[bytes] = b"data: [DONE]\n\n"
    usage: ClassVar[dict[str, Any]] = {
        "input_tokens": 12,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 3},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 17,
    }
    top: ClassVar[dict[str, Any]] = {
        "id": "r1",
        "object": "response",
        "created_at": 1,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "m1",
        "output": [],
        "parallel_tool_calls": True,
        "reasoning": {"effort": "low", "summary": "auto"},
        "store": True,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        "metadata": {},
    }

    def __init__(self) -> None:
        self.output: Items = []
        self._number = -1

    def event(self, kind: str, **fields: Any) -> bytes:
        """Return an event."""
        self._number += 1
        return sse({"type": kind, "sequence_number": self._number, **fields}, kind)

    def begin(self) -> bytes:
        """Return what comes before the first item."""
        self.output, self._number = [], -1
        return self.event("response.created", response=self.top) + self.event(
            "response.in_progress", response=self.top
        )

    def item(self, begun: dict[str, Any], whole: dict[str, Any], *inner: bytes) -> bytes:
        """Return an item: its begin, what comes in between, its end."""
        at = {"output_index": len(self.output)}
        self.output.append(whole)
        added = self.event("response.output_item.added", item=begun, **at)
        return b"".join([added, *inner, self.event("response.output_item.done", item=whole, **at)])

    def part(self, kind: str, *pieces: str, whole: str | None = None, **at: int) -> bytes:
        """Return a part of a message: its begin, its text in pieces, its end."""
        item = {"item_id": f"i{len(self.output)}", "output_index": len(self.output)}
        place = {**item, "content_index": 0, **at}
        field = "refusal" if kind == "refusal" else "text"
        more: dict[str, Any] = {} if kind == "refusal" else {"annotations": [], "logprobs": []}
        stem = "response.refusal" if kind == "refusal" else "response.output_text"
        logprobs: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
        text = joined(pieces) if whole is None else whole
        part = {"type": kind, **more}
        return b"".join(
            [
                self.event("response.content_part.added", **place, part={**part, field: ""}),
                *(
                    self.event(f"{stem}.delta", **place, **logprobs, delta=piece, obfuscation="x")
                    for piece in pieces
                ),
                self.event(f"{stem}.done", **place, **logprobs, **{field: text}),
                self.event("response.content_part.done", **place, part={**part, field: text}),
            ]
        )

    def texts(self, *pieces: str, **more: Any) -> bytes:
        """Return a message with pieces of text."""
        whole = message(len(self.output), joined(pieces), **more)
        begun = {**whole, "status": "in_progress", "content": []}
        return self.item(begun, whole, self.part("output_text", *pieces))

    def thoughts(self, *pieces: str) -> bytes:
        """Return reasoning, its summary in pieces."""
        whole = reasoning(len(self.output), joined(pieces))
        place = {"item_id": whole["id"], "output_index": len(self.output), "summary_index": 0}
        part = {"type": "summary_text", "text": joined(pieces)}
        stem = "response.reasoning_summary"
        return self.item(
            {**whole, "summary": [], "encrypted_content": "begun"},
            whole,
            self.event(f"{stem}_part.added", **place, part={**part, "text": ""}),
            *(self.event(f"{stem}_text.delta", **place, delta=piece) for piece in pieces),
            self.event(f"{stem}_text.done", **place, text=joined(pieces)),
            self.event(f"{stem}_part.done", **place, part=part),
        )

    def call(self, number: int, *pieces: str) -> bytes:
        """Return a tool call, its arguments in pieces."""
        whole = function_call(len(self.output), f"c{number}", f"f{number}", joined(pieces))
        place = {"item_id": whole["id"], "output_index": len(self.output)}
        stem = "response.function_call_arguments"
        return self.item(
            {**whole, "status": "in_progress", "arguments": ""},
            whole,
            *(self.event(f"{stem}.delta", **place, delta=piece) for piece in pieces),
            self.event(f"{stem}.done", **place, arguments=joined(pieces)),
        )

    def finish(self, reason: str = "completed") -> bytes:
        """Return the end, with the reason why it is one and the usage."""
        kind = "completed" if reason == "completed" else "incomplete"
        return self.event(f"response.{kind}", response=self.reply(reason))

    def reply(self, reason: str = "completed") -> dict[str, Any]:
        """Return the whole response."""
        status: dict[str, Any] = {"status": "completed"}
        if reason != "completed":
            status = {"status": "incomplete", "incomplete_details": {"reason": reason}}
        return {**self.top, **status, "output": self.output, "usage": self.usage}

    def whole(
        self,
        text: str | None,
        reason: str,
        *,
        thinking: str | None = None,
        calls: Sequence[tuple[str, str, str]] = (),
    ) -> dict[str, Any]:
        """Return a response as it comes without a stream."""
        self.output = [] if thinking is None else [reasoning(0, thinking)]
        if text is not None:
            self.output.append(message(len(self.output), text))
        for call in calls:
            self.output.append(function_call(len(self.output), *call))
        return self.reply(reason)


def joined(pieces: Sequence[str]) -> str:
    """Return pieces as JSON joins them: a pair of surrogates is one character."""
    return json.loads(json.dumps("".join(pieces)))


def message(index: int, text: str, **more: Any) -> dict[str, Any]:
    """Return an item with a message."""
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {"id": f"i{index}", "type": "message", "status": "completed", "role": "assistant"}
    return {**item, "content": [part], **more}


def reasoning(index: int, text: str) -> dict[str, Any]:
    """Return an item with reasoning."""
    item = {"id": f"i{index}", "type": "reasoning", "encrypted_content": "gAAAA"}
    return {**item, "summary": [{"type": "summary_text", "text": text}]}


def function_call(index: int, id: str, name: str, arguments: str) -> dict[str, Any]:
    """Return an item with a call of a function."""
    item = {"id": f"i{index}", "type": "function_call", "status": "completed"}
    return {**item, "call_id": id, "name": name, "arguments": arguments}


@pytest.fixture
def vendor() -> Responses:
    """Transcripts of responses."""
    return Responses()


class TestContract(every.TestContract):
    """What holds for a stream of any dialect."""

    def test_text_comes_in_pieces_and_the_reply_is_that_of_a_chat(self, vendor: Any) -> None:
        """The pieces come one by one; the event with the reason of the end is the end mark, too."""
        decoder = decoder_of(vendor)
        assert pairs(feed(decoder, vendor.begin())) == []
        texts = vendor.texts("Hel", "lo ", "Grüße 🎉")
        assert pairs(feed(decoder, texts)) == [
            ("text", "Hel"),
            ("text", "lo "),
            ("text", "Grüße 🎉"),
        ]
        assert not decoder.complete
        assert pairs(feed(decoder, vendor.finish("end"))) == [("finish", ""), ("usage", "")]
        assert decoder.complete
        assert decoder.ended
        assert feed(decoder, vendor.end) == []
        result = decoder.result()
        assert result.raw == vendor.whole("Hello Grüße 🎉", "end")
        assert result == vendor.dialect.decode(vendor.whole("Hello Grüße 🎉", "end"), list)
        assert result.usage == Usage(
            input_tokens=12, output_tokens=5, cached_tokens=3, reasoning_tokens=2
        )
        assert (result.id, result.model, result.finish_reason) == ("r1", "m1", "end")

    @pytest.mark.parametrize("end", ["finish", "end"])
    def test_half_a_pair_is_replaced_by_whatever_ends_the_reply(
        self, vendor: Any, end: str
    ) -> None:
        """Without the end of an item, and without its text at the end, the U+FFFD still comes."""
        decoder = decoder_of(vendor)
        assert text_of(feed(decoder, upto("output_text.delta", vendor.texts("\ud83d")))) == ""
        vendor.output = []
        last = vendor.finish() if end == "finish" else vendor.end
        assert text_of(feed(decoder, last)) == decoder.result().text == "\ufffd"

    def test_half_a_character_is_never_handed_out(self, vendor: Any) -> None:
        """Cut between two halves, a reply ends before the character."""
        decoder = decoder_of(vendor)
        events = feed(decoder, vendor.begin())
        events += feed(decoder, upto("output_text.delta", vendor.texts("x\ud83d")))
        assert text_of(events) == decoder.result().text == "x"


class TestErrorEvents(every.TestErrorEvents):
    """Errors inside a stream are typed as their status would have been."""


def upto(kind: str, transcript: bytes) -> bytes:
    """Return the events of a transcript up to the first of a kind, and with it."""
    events = transcript.split(b"\n\n")
    last = next(at for at, event in enumerate(events) if kind.encode() in event)
    return b"\n\n".join([*events[: last + 1], b""])


def without(kinds: Sequence[str], transcript: bytes) -> bytes:
    """Return a transcript without the events of some kinds."""
    events = transcript.split(b"\n\n")
    kept = [event for event in events if not any(kind.encode() in event for kind in kinds)]
    return b"\n\n".join(kept)


def heard(pieces: Sequence[Piece], kind: str) -> str:
    """Return the joined text of the pieces of a kind."""
    return "".join(value for found, value, _ in pieces if found == kind)


def rich(vendor: Responses, *, phases: bool = True) -> bytes:
    """Return a transcript with everything that a reply may have."""
    on_the_way = {"phase": "commentary"} if phases else {}
    final = {"phase": "final_answer"} if phases else {}
    transcript = vendor.begin() + vendor.thoughts("Let me ", "see 🎉")
    transcript += vendor.texts("I look ", "it up.", **on_the_way)
    transcript += search(vendor) + vendor.thoughts("So ", "that is it.")
    transcript += vendor.call(0, '{"city"', ': "K\\u00f6ln"}') + custom(vendor)
    return transcript + vendor.texts("Grüße ", "\ud83c", "\udf89!", **final)


def search(vendor: Responses) -> bytes:
    """Return a call of a tool of the server's own."""
    index = len(vendor.output)
    whole: dict[str, Any] = {"id": f"i{index}", "type": "web_search_call", "status": "completed"}
    whole["action"] = {"type": "search", "query": "x", "queries": ["x"]}
    place = {"output_index": index, "item_id": whole["id"]}
    searching = vendor.event("response.web_search_call.searching", **place)
    return vendor.item({**whole, "status": "in_progress"}, whole, searching)


def custom(vendor: Responses) -> bytes:
    """Return a call of a custom tool, whose input is no JSON."""
    index = len(vendor.output)
    whole = {"id": f"i{index}", "type": "custom_tool_call", "status": "completed"}
    whole |= {"call_id": "k1", "name": "shell", "input": "ls -l"}
    place = {"output_index": index, "item_id": whole["id"]}
    stem = "response.custom_tool_call_input"
    return vendor.item(
        {**whole, "input": ""},
        whole,
        vendor.event(f"{stem}.delta", **place, delta="ls "),
        vendor.event(f"{stem}.delta", **place, delta="-l"),
        vendor.event(f"{stem}.done", **place, input="ls -l"),
    )


class TestReply:
    """The reply at the end, beside that of the same request without a stream."""

    def test_it_is_that_of_decode(self, vendor: Responses) -> None:
        """Thinking, commentary, tools of both kinds and text: nothing is lost or said twice."""
        decoder = decoder_of(vendor)
        pieces = feed(decoder, rich(vendor) + vendor.finish())
        result = decoder.result()
        assert result == vendor.dialect.decode(vendor.reply(), list)
        assert result.raw == vendor.reply()
        assert result.text == heard(pieces, "text") == "Grüße 🎉!"
        thinking = "Let me see 🎉\n\nI look it up.\n\nSo that is it."
        assert result.thinking == heard(pieces, "thinking") == thinking
        assert tuple(values(pieces, "tool_call")) == result.tool_calls
        assert [call.text for call in result.tool_calls] == ['{"city": "K\\u00f6ln"}', "ls -l"]
        assert values(pieces, "finish") == ["completed"]

    @given(cuts=st.lists(st.floats(0, 1), max_size=40))
    def test_every_way_to_cut_the_bytes_gives_it(self, cuts: list[float]) -> None:
        """However the bytes are cut, pieces and reply are the same."""
        vendor = Responses()
        transcript = rich(vendor) + vendor.finish()
        at = sorted({round(cut * len(transcript)) for cut in cuts} | {0, len(transcript)})
        decoder, whole = decoder_of(vendor), decoder_of(vendor)
        data = [transcript[a:b] for a, b in itertools.pairwise(at)]
        pieces = [piece for event in parse(data) for piece in decoder.feed(event)]
        assert pieces == feed(whole, transcript)
        assert decoder.result() == whole.result() == vendor.dialect.decode(vendor.reply(), list)

    @pytest.mark.parametrize(
        "kinds",
        [
            (".delta",),
            (".delta", "content_part", "summary_part"),
            (".delta", "_text.done", "_part", "arguments.done", "input.done"),
            ("output_item.added",),
            ("output_item.done",),
            ("output_item.done", "_part.done", "_text.done", "arguments.done", "input.done"),
            ("output_item.added", "_part.added"),
            ("output_item", "_part"),
            ("response.created", "response.in_progress"),
            (".added", ".delta", ".done"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("output", ["whole", "empty", "missing", "null"])
    def test_servers_may_leave_events_out(
        self, vendor: Responses, kinds: tuple[str, ...], output: str
    ) -> None:
        """Without deltas, without ends, without all of them, without the output at the end.

        Whatever is told once is told to the reader once, and is in the reply.
        """
        transcript = without(kinds, rich(vendor, phases=False))
        reply = vendor.reply()
        rest = {name: reply[name] for name in reply if name != "output"}
        last = {
            "whole": reply,
            "empty": {**rest, "output": []},
            "missing": rest,
            "null": {**rest, "output": None},
        }
        decoder = decoder_of(vendor)
        end = vendor.event("response.completed", response=last[output])
        pieces = feed(decoder, transcript + end)
        result = decoder.result()
        assert decoder.complete
        assert (result.usage.input_tokens, result.finish_reason) == (12, "completed")
        assert result.text == heard(pieces, "text") == decoder.text()
        assert result.thinking == heard(pieces, "thinking")
        assert tuple(values(pieces, "tool_call")) == result.tool_calls
        if ".added" not in kinds or output == "whole":
            expected = vendor.dialect.decode(reply, list)
            assert (result.text, result.thinking) == (expected.text, expected.thinking)
            calls = [call.text for call in expected.tool_calls]
            assert [call.text for call in result.tool_calls] == calls
        else:
            assert result.raw["output"] == []

    def test_another_account_at_the_end_is_not_taken(self, vendor: Responses) -> None:
        """What was handed out is the reply, though a server repeats only the last of it."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.texts("Hello ", "there")
        vendor.output = [message(0, "there")]
        assert heard(feed(decoder, transcript + vendor.finish()), "text") == "Hello there"
        result = decoder.result()
        assert (result.text, result.usage.input_tokens) == ("Hello there", 12)
        assert result.raw["output"] == [message(0, "Hello there")]

    def test_another_text_at_the_end_of_a_part_is_not_taken(self, vendor: Responses) -> None:
        """A server that shows its reasoning as text and takes it back does not change the reply."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.item(
            {**message(0, ""), "content": []},
            message(0, "So: yes"),
            vendor.part("output_text", "hm\ud83d", whole="So: yes"),
        )
        assert heard(feed(decoder, transcript + vendor.finish()), "text") == "hm\ufffd"
        assert decoder.result().text == "hm\ufffd"

    def test_more_text_at_the_end_of_a_part_is_handed_out(self, vendor: Responses) -> None:
        """Where deltas were lost, the end of the part brings the rest, half a pair included."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.item(
            {**message(0, ""), "content": []},
            message(0, "Hello 🎉 there"),
            vendor.part("output_text", "Hello ", "\ud83c", whole="Hello 🎉 there"),
        )
        pieces = pairs(feed(decoder, transcript + vendor.finish()))
        assert pieces[:2] == [("text", "Hello "), ("text", "🎉 there")]
        assert decoder.result().raw == vendor.reply()

    def test_a_phase_that_comes_late_changes_nothing(self, vendor: Responses) -> None:
        """What was handed out as the answer stays the answer, in the result, too."""
        decoder = decoder_of(vendor)
        whole = message(0, "I look", phase="commentary")
        begun = {**message(0, ""), "content": []}
        transcript = vendor.begin() + vendor.item(
            begun, whole, vendor.part("output_text", "I ", "look")
        )
        assert heard(feed(decoder, transcript + vendor.finish()), "text") == "I look"
        assert decoder.result().text == "I look"

    @pytest.mark.parametrize("phase", ["commentary", "brand_new"])
    def test_what_is_said_on_the_way_is_no_answer(self, vendor: Responses, phase: str) -> None:
        """A message in another phase than the final one is thinking, as it is in a whole reply."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.texts("I ", "look.", phase=phase)
        transcript += vendor.texts("Found ", "it.", phase="final_answer") + vendor.finish()
        pieces = feed(decoder, transcript)
        assert (heard(pieces, "thinking"), heard(pieces, "text")) == ("I look.", "Found it.")
        assert decoder.result().text == "Found it."

    def test_a_refusal_is_no_text(self, vendor: Responses) -> None:
        """A refusal comes as other events, and stands in the reply as one."""
        decoder = decoder_of(vendor)
        whole = {**message(0, ""), "content": [{"type": "refusal", "refusal": "I can't."}]}
        refused = vendor.part("refusal", "I ", "can't.")
        transcript = vendor.begin() + vendor.item({**whole, "content": []}, whole, refused)
        assert pairs(feed(decoder, transcript)) == []
        assert pairs(feed(decoder, vendor.finish())) == [("finish", ""), ("usage", "")]
        result = decoder.result()
        assert (result.text, result.refusal) == ("", "I can't.")
        assert result == vendor.dialect.decode(vendor.reply(), list)

    def test_a_refusal_without_an_output_at_the_end_is_kept(self, vendor: Responses) -> None:
        """It is put together as all else is."""
        decoder = decoder_of(vendor)
        whole = {**message(0, ""), "content": [{"type": "refusal", "refusal": "I can't."}]}
        refused = vendor.part("refusal", "I ", "can't.")
        transcript = vendor.begin() + vendor.item({**whole, "content": []}, whole, refused)
        transcript = without(("item.done", "part.done", "refusal.done"), transcript)
        vendor.output = []
        feed(decoder, transcript + vendor.finish())
        assert decoder.result().refusal == "I can't."

    def test_annotations_are_kept(self, vendor: Responses) -> None:
        """Citations that came as events stand in the reply, where its end does not bring them."""
        decoder = decoder_of(vendor)
        place = {"output_index": 0, "content_index": 0, "item_id": "i0"}
        kind = "response.output_text.annotation.added"
        cited = [{"type": "url_citation", "url": f"https://x.test/{at}"} for at in range(2)]
        transcript = vendor.begin() + upto("output_text.delta", vendor.texts("Hi"))
        for at, one in enumerate(cited):
            transcript += vendor.event(kind, **place, annotation=one, annotation_index=at)
        vendor.output = []
        feed(decoder, transcript + vendor.finish())
        assert decoder.result().raw["output"][0]["content"][0]["annotations"] == cited

    def test_the_head_is_the_last_that_was_told(self, vendor: Responses) -> None:
        """Fields that only the begin had are in the reply of a server that ends in few words."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.texts("Hi")
        feed(decoder, transcript + vendor.event("response.completed", response={"usage": None}))
        result = decoder.result()
        assert (result.id, result.model, result.finish_reason) == ("r1", "m1", "completed")
        assert result.raw["output"] == [message(0, "Hi")]

    @pytest.mark.parametrize("response", [None, [], "text", 7])
    def test_an_end_without_a_response_is_an_end(self, vendor: Responses, response: Any) -> None:
        """The event's own name says how the reply ended."""
        decoder = decoder_of(vendor)
        end = sse({"type": "response.incomplete", "response": response})
        pieces = feed(decoder, vendor.begin() + vendor.texts("Hi") + end)
        assert pairs(pieces) == [("text", "Hi"), ("finish", "")]
        assert decoder.result().finish_reason == "incomplete"

    def test_a_response_without_anything_is_one(self, vendor: Responses) -> None:
        """As a whole reply with an empty output is one, an end without an item is no error."""
        decoder = decoder_of(vendor)
        pieces = feed(decoder, vendor.begin() + vendor.finish("max_output_tokens"))
        assert values(pieces, "finish") == ["max_output_tokens"]
        assert decoder.result() == vendor.dialect.decode(vendor.reply("max_output_tokens"), list)

    def test_before_its_end_it_has_no_reason(self, vendor: Responses) -> None:
        """What was read of a stream that broke says that it did not end."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + upto("output_text.delta", vendor.texts("Hi")))
        result = decoder.result()
        assert (result.text, result.finish_reason, result.raw["status"]) == (
            "Hi",
            None,
            "in_progress",
        )


class TestServers:
    """Habits of servers that speak like OpenAI."""

    def test_thinking_has_two_names_and_a_third(self, vendor: Responses) -> None:
        """Summaries, the text itself, and the name that the Open Responses specification has."""
        for kind in ("reasoning_summary_text", "reasoning_text", "reasoning"):
            decoder = decoder_of(vendor)
            place = {"output_index": 0, "item_id": "x"}
            transcript = vendor.begin()
            for piece in ("So ", "it is"):
                transcript += vendor.event(f"response.{kind}.delta", **place, delta=piece)
            transcript += vendor.event(f"response.{kind}.done", **place, text="So it is.")
            pieces = feed(decoder, transcript + vendor.end)
            assert heard(pieces, "thinking") == decoder.result().thinking == "So it is."
            assert decoder.result().raw["output"][0]["type"] == "reasoning"

    def test_parts_of_a_summary_are_apart(self, vendor: Responses) -> None:
        """An empty line stands between them, in the pieces as in the reply."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin()
        for at, text in enumerate(["**One**", "**Two**"]):
            transcript += vendor.event(
                "response.reasoning_summary_text.delta",
                output_index=0,
                summary_index=at,
                delta=text,
            )
        pieces = feed(decoder, transcript + vendor.end)
        assert heard(pieces, "thinking") == decoder.result().thinking == "**One**\n\n**Two**"

    def test_every_item_may_have_the_same_place(self, vendor: Responses) -> None:
        """With ``output_index`` 0 for all of them, the items are the same three."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.thoughts("hm") + vendor.call(0, "{", "}")
        transcript += vendor.call(1, "[]") + vendor.texts("Hi")
        for index in range(1, 4):
            transcript = transcript.replace(
                f'"output_index": {index}'.encode(), b'"output_index": 0'
            )
        pieces = feed(decoder, transcript + vendor.finish())
        assert heard(pieces, "text") == "Hi"
        assert [call.text for call in values(pieces, "tool_call")] == ["{}", "[]"]
        assert decoder.result().raw == vendor.reply()

    def test_items_may_have_another_id_in_each_event(self, vendor: Responses) -> None:
        """Some proxies make up the ids; the place tells what belongs together."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.thoughts("hm") + vendor.texts("Hel", "lo")
        transcript += vendor.call(0, "{}") + vendor.finish()
        events = transcript.split(b"\n\n")
        for at, event in enumerate(events):
            for index in range(3):
                event = event.replace(f'"i{index}"'.encode(), f'"x{at}-{index}"'.encode())
            events[at] = event
        pieces = feed(decoder, b"\n\n".join(events))
        assert (heard(pieces, "text"), heard(pieces, "thinking")) == ("Hello", "hm")
        assert len(values(pieces, "tool_call")) == 1
        result = decoder.result()
        assert [item["type"] for item in result.raw["output"]] == [
            "reasoning",
            "message",
            "function_call",
        ]
        assert result.text == "Hello"

    def test_items_that_nobody_began_are_read(self, vendor: Responses) -> None:
        """Deltas alone are enough, in one place or in several."""
        decoder = decoder_of(vendor)
        transcript = sse({"type": "response.reasoning_text.delta", "delta": "hm"})
        transcript += sse({"type": "response.output_text.delta", "delta": "Hi"})
        arguments = {"type": "response.function_call_arguments.delta", "delta": "{}"}
        transcript += sse({**arguments, "output_index": 1, "item_id": "f"})
        pieces = feed(decoder, transcript + vendor.end)
        kinds = [("thinking", "hm"), ("text", "Hi"), ("tool_call_delta", "{}"), ("tool_call", "")]
        assert pairs(pieces) == kinds
        output = decoder.result().raw["output"]
        assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
        assert output[2] == {"type": "function_call", "id": "f", "arguments": "{}"}

    def test_event_names_alone_are_enough(self, vendor: Responses) -> None:
        """Data without its ``type`` is read by the event's name, and the other way round."""
        decoder = decoder_of(vendor)
        delta = {"output_index": 0, "content_index": 0, "delta": "Hi"}
        feed(decoder, sse(delta, "response.output_text.delta"))
        feed(decoder, sse({**delta, "type": "response.output_text.delta"}))
        pieces = feed(decoder, sse({"response": {}}, "response.completed"))
        assert values(pieces, "finish") == ["completed"]
        assert decoder.result().text == "HiHi"

    def test_what_comes_after_the_end_of_an_item_is_no_part_of_it(self, vendor: Responses) -> None:
        """Ends that come late are not said again; deltas begin another message."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.texts("Hi")
        late = [event for event in transcript.split(b"\n\n") if b".done" in event]
        pieces = feed(decoder, transcript + b"\n\n".join([*late, b""]))
        assert pairs(pieces) == [("text", "Hi")]
        more = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0}
        assert pairs(feed(decoder, sse({**more, "delta": "!"}))) == [("text", "!")]
        assert decoder.result().text == "Hi!"
        assert len(decoder.result().raw["output"]) == 2

    def test_an_end_mark_of_chat_completions_ends_it(self, vendor: Responses) -> None:
        """Without a terminal event ``[DONE]`` is the end, and every call is whole."""
        decoder = decoder_of(vendor)
        cut = upto("arguments.delta", vendor.begin() + vendor.call(0, '{"a": 1}'))
        feed(decoder, cut)
        assert not decoder.complete
        calls = values(feed(decoder, vendor.end), "tool_call")
        assert calls == [ToolCall(id="c0", name="f0", arguments={"a": 1}, text='{"a": 1}')]
        assert decoder.complete
        assert decoder.result().tool_calls == tuple(calls)

    def test_unknown_items_and_parts_are_kept(self, vendor: Responses) -> None:
        """What is none of ours stands in the reply as it came."""
        decoder = decoder_of(vendor)
        odd = {"type": "brand_new", "id": "i0", "content": [{"type": "odd", "text": "x"}]}
        part = {"type": "output_sound", "data": "y"}
        whole = {**message(1, ""), "content": [part]}
        place = {"output_index": 1, "content_index": 0}
        added = vendor.event("response.content_part.added", **place, part=part)
        transcript = vendor.begin() + vendor.item({"type": "brand_new", "id": "i0"}, odd)
        transcript += vendor.item({**whole, "content": []}, whole, added)
        vendor.output = []
        feed(decoder, transcript + vendor.finish())
        assert decoder.result().raw["output"] == [odd, whole]

    def test_text_in_the_short_form_is_text(self, vendor: Responses) -> None:
        """Some servers answer with a message whose content is text."""
        decoder = decoder_of(vendor)
        item = {"type": "message", "role": "assistant", "content": "Hi"}
        pieces = feed(decoder, vendor.event("response.completed", response={"output": [item]}))
        assert pairs(pieces) == [("text", "Hi"), ("finish", "")]
        assert decoder.result().text == "Hi"

    @pytest.mark.parametrize("index", [-1, None, "0", True, 1.5, [], {}])
    def test_an_odd_index_hides_no_text(self, vendor: Responses, index: Any) -> None:
        """What is handed out is in the reply, whatever number its item and part have."""
        decoder = decoder_of(vendor)
        for place in ({"output_index": index}, {"output_index": 0, "content_index": index}):
            delta = {"type": "response.output_text.delta", "delta": "Hi", **place}
            assert text_of(feed(decoder, sse(delta))) == "Hi"
        assert decoder.result().text == "HiHi"

    def test_an_empty_delta_is_no_text(self, vendor: Responses) -> None:
        """A delta of nothing is passed on as other."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + upto("output_text.delta", vendor.texts("a")))
        delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0}
        for odd in ("", None, 7, ["x"]):
            event = {**delta, "delta": odd}
            assert feed(decoder, sse(event)) == [("other", "", event)]


FAILURES: list[tuple[Any, type[APIStatusError], int | None, str | None]] = [
    ({"code": "server_error", "message": "Sorry."}, InternalServerError, 500, "server_error"),
    (
        {"code": "rate_limit_exceeded", "message": "Slow down."},
        RateLimitError,
        429,
        "rate_limit_exceeded",
    ),
    ({"code": "insufficient_quota", "message": "x"}, QuotaExceededError, 429, "insufficient_quota"),
    ({"code": "invalid_prompt", "message": "No."}, BadRequestError, 400, "invalid_prompt"),
    ({"code": "image_too_large", "message": "No."}, BadRequestError, 400, "image_too_large"),
    (
        {"code": "vector_store_timeout", "message": "Late."},
        InternalServerError,
        504,
        "vector_store_timeout",
    ),
    ({"code": "brand_new", "message": "No."}, APIStatusError, None, "brand_new"),
    ({"code": "brand_new", "type": "server_error"}, InternalServerError, 500, "brand_new"),
    (None, APIStatusError, None, None),
    ("it broke", APIStatusError, None, None),
    ({"code": ["odd"], "message": 7}, APIStatusError, None, None),
]


class TestFailures:
    """A response that failed is an error, typed as its status would have been."""

    @pytest.mark.parametrize("kind", ["response.failed", "response.completed"])
    @pytest.mark.parametrize(("error", "cls", "status", "code"), FAILURES)
    def test_a_failed_response_is_an_error(
        self,
        vendor: Responses,
        kind: str,
        error: Any,
        cls: type[APIStatusError],
        status: int | None,
        code: str | None,
    ) -> None:
        """Its own event says so, or its status; the text that came is still there."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + vendor.texts("so far"))
        response = {**vendor.reply(), "status": "failed", "error": error}
        with pytest.raises(APIStatusError) as caught:
            feed(decoder, vendor.event(kind, response=response))
        assert type(caught.value) is cls
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert not decoder.complete
        assert decoder.result().text == "so far"

    def test_a_cancelled_response_is_an_error(self, vendor: Responses) -> None:
        """Somebody else ended it."""
        event = vendor.event("response.cancelled", response={"status": "cancelled"})
        with pytest.raises(APIStatusError):
            feed(decoder_of(vendor), event)

    @pytest.mark.parametrize("name", ["", "error"])
    @pytest.mark.parametrize("nested", [True, False])
    @pytest.mark.parametrize(("error", "cls", "status", "code"), FAILURES[:7])
    def test_an_error_event_has_two_shapes(
        self,
        vendor: Responses,
        name: str,
        nested: bool,
        error: dict[str, Any],
        cls: type[APIStatusError],
        status: int | None,
        code: str | None,
    ) -> None:
        """Flat, as the vendor's types say, or nested, as its servers send it."""
        payload = {"type": "error", "sequence_number": 2, "param": None}
        payload.update({"error": error} if nested else error)
        with pytest.raises(APIStatusError, match=error["message"]) as caught:
            feed(decoder_of(vendor), vendor.begin() + sse(payload, name))
        assert type(caught.value) is cls
        assert (caught.value.status_code, caught.value.code) == (status, code)

    def test_an_error_without_a_code_is_not_called_one(self, vendor: Responses) -> None:
        """The word ``error`` is the event's type, and no code."""
        event = {"type": "error", "message": "It broke.", "code": None, "param": None}
        with pytest.raises(APIStatusError, match="an error: It broke") as caught:
            feed(decoder_of(vendor), sse(event))
        assert caught.value.code is None

    def test_the_request_is_masked(self, vendor: Responses) -> None:
        """No failure shows the prompt or the key that a server repeats."""
        error = {"code": "server_error", "message": f"No: {PROMPT} {KEY}"}
        for event in (
            vendor.event("response.failed", response={"status": "failed", "error": error}),
            sse({"type": "error", **error}),
        ):
            with pytest.raises(TermaiHttpError) as caught:
                feed(decoder_of(vendor), event)
            shown = f"{caught.value} {vars(caught.value)}"
            assert "canary" not in shown
            assert "0123456789" not in shown

    def test_a_known_event_without_an_object_is_an_error(self, vendor: Responses) -> None:
        """The vendor's own events must be JSON objects, whatever their name says."""
        with pytest.raises(InvalidResponseError, match="no JSON object"):
            feed(decoder_of(vendor), b"event: response.output_text.delta\ndata: x\n\n")
        with pytest.raises(TruncatedResponse):
            feed(decoder_of(vendor), b'event: response.completed\ndata: {"resp')


@given(data=st.data())
def test_odd_events_break_nothing(data: st.DataObject) -> None:
    """Whatever stands in the place of a part, the outcome is pieces or a typed error.

    And the result has, at the end, the text and the calls that were handed out.
    """
    vendor = Responses()
    transcript = vendor.begin() + vendor.thoughts("a") + vendor.texts("b\ud83d", "\ude00c")
    transcript += vendor.call(0, '{"x"', ": 1}") + vendor.finish() + vendor.end
    decoder = decoder_of(vendor)
    pieces: list[Piece] = []
    for event in parse([transcript]):
        if event.data.startswith("{") and data.draw(st.booleans()):
            payload = json.loads(event.data)
            path = data.draw(st.sampled_from(places(payload)))
            odd = json.dumps(replaced(payload, path, data.draw(JSON)))
            event = ServerEvent(event.name, odd)
        try:
            pieces += decoder.feed(event)
        except TermaiHttpError:
            continue
    result = decoder.result()
    assert isinstance(result, Decoded)
    assert decoder.text() == heard(pieces, "text")
    # Items may come mixed, so only the characters are the same ones.
    assert sorted(result.text) == sorted(heard(pieces, "text"))
    if decoder.ended:
        assert sorted(map(str, values(pieces, "tool_call"))) == sorted(map(str, result.tool_calls))
    result.text.encode()
