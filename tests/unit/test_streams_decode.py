"""Streams of both vendors, decoded: pieces, the whole reply at the end, and every kind of fault."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InternalServerError,
    InvalidResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    TermaiHttpError,
    ToolCall,
    TruncatedResponse,
    Usage,
)
from termai_http._sse import EventParser, ServerEvent
from termai_http.dialects._base import Decoded, Dialect, Piece, StreamDecoder
from termai_http.dialects.claude_messages import ClaudeMessages
from termai_http.dialects.openai_chat import OpenAIChat

PROMPT = "The canary prompt that nothing may show."
KEY = "sk-canary-0123456789-abcdef"
Pairs = list[tuple[str, str]]


def parse(data: Iterable[bytes]) -> list[ServerEvent]:
    """Return the events of a stream."""
    parser = EventParser(most_line=1024 * 1024, most_event=1024 * 1024)
    events = [event for piece in data for event in parser.feed(piece)]
    return events + parser.finish()


def feed(decoder: StreamDecoder, transcript: bytes) -> list[Piece]:
    """Feed a decoder with a transcript."""
    return [piece for event in parse([transcript]) for piece in decoder.feed(event)]


def said(piece: Piece) -> str:
    """Return the text of a piece: of the reply, of the thinking, of a call's arguments."""
    kind, value, _ = piece
    if kind == "tool_call_delta":
        return str(value[0])
    return str(value) if kind in ("text", "thinking") else ""


def pairs(pieces: Iterable[Piece]) -> Pairs:
    """Return the kinds and texts of pieces, those apart that say nothing."""
    return [(piece[0], said(piece)) for piece in pieces if piece[0] != "other"]


def text_of(pieces: Iterable[Piece]) -> str:
    """Return the text that pieces hand out."""
    return "".join(said(piece) for piece in pieces if piece[0] == "text")


def values(pieces: Iterable[Piece], kind: str) -> list[Any]:
    """Return the values of the pieces of one kind."""
    return [value for found, value, _ in pieces if found == kind]


def sse(payload: Any, name: str = "") -> bytes:
    """Return an event's bytes."""
    return (f"event: {name}\n" * bool(name) + f"data: {json.dumps(payload)}\n\n").encode()


class OpenAI:
    """Chunks of chat completions."""

    dialect: ClassVar[Dialect] = OpenAIChat()
    end: ClassVar[bytes] = b"data: [DONE]\n\n"
    usage: ClassVar[dict[str, Any]] = {
        "prompt_tokens": 12,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    top: ClassVar[dict[str, Any]] = {"id": "r1", "created": 1, "model": "m1"}

    def chunk(self, delta: Any, reason: str | None = None, **more: Any) -> bytes:
        """Return a chunk."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        head = {**self.top, "object": "chat.completion.chunk", "obfuscation": "abc"}
        return sse({**head, "choices": [choice], "usage": None, **more})

    def begin(self) -> bytes:
        """Return what comes before the first text."""
        return self.chunk({"role": "assistant", "content": "", "refusal": None})

    def texts(self, *pieces: str) -> bytes:
        """Return pieces of text."""
        return b"".join(self.chunk({"content": piece}) for piece in pieces)

    def thoughts(self, *pieces: str) -> bytes:
        """Return pieces of thinking, as compatible servers send them."""
        return b"".join(self.chunk({"reasoning_content": piece}) for piece in pieces)

    def call(self, number: int, *pieces: str) -> bytes:
        """Return a tool call, its arguments in pieces."""
        first = {"index": number, "id": f"c{number}", "type": "function"}
        first["function"] = {"name": f"f{number}", "arguments": ""}
        rest = [{"index": number, "function": {"arguments": piece}} for piece in pieces]
        return b"".join(self.chunk({"tool_calls": [piece]}) for piece in [first, *rest])

    def finish(self, reason: str = "stop") -> bytes:
        """Return the reason of the end, and the usage."""
        usage = {**self.top, "object": "chat.completion.chunk", "choices": [], "usage": self.usage}
        return self.chunk({}, reason) + sse(usage)

    def whole(
        self,
        text: str | None,
        reason: str,
        *,
        thinking: str | None = None,
        calls: Sequence[tuple[str, str, str]] = (),
    ) -> dict[str, Any]:
        """Return the same reply as it comes without a stream."""
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if thinking is not None:
            message["reasoning_content"] = thinking
        if calls:
            message["tool_calls"] = [
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id, name, arguments in calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        head = {**self.top, "object": "chat.completion"}
        return {**head, "choices": [choice], "usage": self.usage}


class Claude:
    """Events of Claude's messages."""

    dialect: ClassVar[Dialect] = ClaudeMessages()
    end: ClassVar[bytes] = sse({"type": "message_stop"}, "message_stop")
    usage: ClassVar[dict[str, Any]] = {
        "input_tokens": 7,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    message: ClassVar[dict[str, Any]] = {
        "type": "message",
        "role": "assistant",
        "id": "r1",
        "model": "m1",
        "stop_reason": None,
        "stop_sequence": None,
    }
    at: int = -1

    def event(self, name: str, **fields: Any) -> bytes:
        """Return an event."""
        return sse({"type": name, **fields}, name)

    def block(self, first: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
        """Return a content block."""
        self.at += 1
        events = [self.event("content_block_start", index=self.at, content_block=first)]
        events += [
            self.event("content_block_delta", index=self.at, delta=delta) for delta in deltas
        ]
        return b"".join([*events, self.event("content_block_stop", index=self.at)])

    def begin(self) -> bytes:
        """Return what comes before the first block."""
        self.at = -1
        usage = {**self.usage, "output_tokens": 1, "output_tokens_details": None}
        message = {**self.message, "content": [], "usage": usage}
        return self.event("message_start", message=message) + self.event("ping")

    def texts(self, *pieces: str) -> bytes:
        """Return a block of text."""
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        return self.block({"type": "text", "text": ""}, *deltas)

    def thoughts(self, *pieces: str) -> bytes:
        """Return a block of thinking."""
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
        signature = {"type": "signature_delta", "signature": "signed"}
        return self.block({"type": "thinking", "thinking": "", "signature": ""}, *deltas, signature)

    def call(self, number: int, *pieces: str) -> bytes:
        """Return a tool call, its input in pieces."""
        first = {"type": "tool_use", "id": f"c{number}", "name": f"f{number}", "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return self.block(first, *deltas)

    def finish(self, reason: str = "end_turn") -> bytes:
        """Return the reason of the end, and the usage."""
        usage = {"input_tokens": 0, "output_tokens": 5, "output_tokens_details": None}
        usage["output_tokens_details"] = self.usage["output_tokens_details"]
        delta = {"stop_reason": reason, "stop_sequence": None}
        return self.event("message_delta", delta=delta, usage=usage)

    def whole(
        self,
        text: str | None,
        reason: str,
        *,
        thinking: str | None = None,
        calls: Sequence[tuple[str, str, str]] = (),
    ) -> dict[str, Any]:
        """Return the same reply as it comes without a stream."""
        content: list[dict[str, Any]] = []
        if thinking is not None:
            content.append({"type": "thinking", "thinking": thinking, "signature": "signed"})
        if text is not None:
            content.append({"type": "text", "text": text})
        content += [
            {"type": "tool_use", "id": id, "name": name, "input": json.loads(arguments)}
            for id, name, arguments in calls
        ]
        return {**self.message, "stop_reason": reason, "content": content, "usage": self.usage}


@pytest.fixture(params=[OpenAI, Claude])
def vendor(request: pytest.FixtureRequest) -> Any:
    """Either vendor's transcripts."""
    return request.param()


def decoder_of(vendor: Any) -> StreamDecoder:
    """Return a decoder for one stream of a vendor's."""
    return vendor.dialect.decode_stream(lambda: [PROMPT, KEY])


class TestContract:
    """What holds for a stream of either dialect."""

    def test_text_comes_in_pieces_and_the_reply_is_that_of_a_chat(self, vendor: Any) -> None:
        """The pieces come one by one; the result is what the whole reply would have decoded to."""
        decoder = decoder_of(vendor)
        begun = feed(decoder, vendor.begin())
        assert pairs(begun) in ([], [("usage", "")])
        transcript = vendor.texts("Hel", "lo ", "Grüße 🎉")
        assert pairs(feed(decoder, transcript)) == [
            ("text", "Hel"),
            ("text", "lo "),
            ("text", "Grüße 🎉"),
        ]
        assert not decoder.complete
        assert pairs(feed(decoder, vendor.finish("end"))) == [("finish", ""), ("usage", "")]
        assert decoder.complete
        assert not decoder.ended
        assert pairs(feed(decoder, vendor.end)) == []
        assert decoder.ended
        result = decoder.result()
        assert result.raw == vendor.whole("Hello Grüße 🎉", "end")
        assert result == vendor.dialect.decode(vendor.whole("Hello Grüße 🎉", "end"), list)
        assert result.usage == Usage(
            input_tokens=12, output_tokens=5, cached_tokens=3, reasoning_tokens=2
        )
        assert (result.id, result.model, result.finish_reason) == ("r1", "m1", "end")

    def test_thinking_is_apart_from_the_text(self, vendor: Any) -> None:
        """Thinking has events of its own, and its place in the reply."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.thoughts("Let ", "me") + vendor.texts("So: ", "yes")
        kinds = [pair for pair in pairs(feed(decoder, transcript)) if pair[0] != "usage"]
        assert kinds == [
            ("thinking", "Let "),
            ("thinking", "me"),
            ("text", "So: "),
            ("text", "yes"),
        ]
        feed(decoder, vendor.finish("end") + vendor.end)
        assert decoder.result().raw == vendor.whole("So: yes", "end", thinking="Let me")

    def test_tool_calls_are_put_together(self, vendor: Any) -> None:
        """Pieces of arguments come as they are; the reply has the whole calls."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + vendor.texts("I ask."))
        transcript = vendor.call(0, '{"city"', ': "Köln"}') + vendor.call(1, "{}")
        assert [pair for pair in pairs(feed(decoder, transcript)) if pair[1]] == [
            ("tool_call_delta", '{"city"'),
            ("tool_call_delta", ': "Köln"}'),
            ("tool_call_delta", "{}"),
        ]
        feed(decoder, vendor.finish("tool") + vendor.end)
        calls = [("c0", "f0", '{"city": "Köln"}'), ("c1", "f1", "{}")]
        assert decoder.result().raw == vendor.whole("I ask.", "tool", calls=calls)

    def test_a_call_begins_with_an_event(self, vendor: Any) -> None:
        """A tool call shows before its arguments do, and its raw event names the function."""
        pieces = feed(decoder_of(vendor), vendor.begin() + vendor.call(0))
        begun = [piece for piece in pieces if piece[0] == "tool_call_delta"]
        assert [said(piece) for piece in begun] == [""]
        assert '"f0"' in json.dumps(begun[0][2])

    def test_a_piece_of_a_call_says_whose_it_is(self, vendor: Any) -> None:
        """Every piece of arguments has the id and the name of its call, as far as they came."""
        pieces = feed(decoder_of(vendor), vendor.begin() + vendor.call(0, "{", "}"))
        pieces += feed(decoder_of(vendor), vendor.begin() + vendor.call(7, "[]"))
        calls = [call for _, call in values(pieces, "tool_call_delta")]
        first = ToolCall(id="c0", name="f0", arguments=None, text="")
        other = ToolCall(id="c7", name="f7", arguments=None, text="")
        assert calls == [first] * 3 + [other] * 2

    @pytest.mark.parametrize("end", ["finish", "mark", "both", "twice"])
    def test_a_whole_call_comes_once(self, vendor: Any, end: str) -> None:
        """However the reply ends, each call is handed out whole, once, and before the finish."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.call(0, '{"city"', ': "Köln"}') + vendor.call(1)
        last = {
            "finish": vendor.finish("tool"),
            "mark": vendor.end,
            "both": vendor.finish("tool") + vendor.end,
            "twice": vendor.finish("tool") * 2 + vendor.end,
        }
        pieces = feed(decoder, transcript + last[end])
        calls = values(pieces, "tool_call")
        assert [(call.id, call.name, call.arguments) for call in calls] == [
            ("c0", "f0", {"city": "Köln"}),
            ("c1", "f1", {}),
        ]
        assert json.loads(calls[0].text) == {"city": "Köln"}
        assert tuple(calls) == decoder.result().tool_calls
        kinds = [kind for kind, _, _ in pieces]
        if "finish" in kinds:
            assert len(kinds) - kinds[::-1].index("tool_call") <= kinds.index("finish")

    def test_a_call_whose_arguments_are_no_object_is_one_too(self, vendor: Any) -> None:
        """Whole is what came to its end; whether it can be made is for the caller to see."""
        pieces = feed(decoder_of(vendor), vendor.begin() + vendor.call(0, '{"a": ') + vendor.end)
        assert values(pieces, "tool_call") == [
            ToolCall(id="c0", name="f0", arguments=None, text='{"a": ')
        ]

    def test_usage_and_finish_have_values(self, vendor: Any) -> None:
        """The tokens come as ``Usage``, the last of them complete; the finish in its own word."""
        pieces = feed(
            decoder_of(vendor), vendor.begin() + vendor.texts("Hi") + vendor.finish("end")
        )
        assert values(pieces, "finish") == ["end"]
        assert values(pieces, "usage")[-1] == Usage(
            input_tokens=12, output_tokens=5, cached_tokens=3, reasoning_tokens=2
        )

    def test_every_way_to_cut_the_bytes_gives_the_same(self, vendor: Any) -> None:
        """However the bytes are cut in two, events and result are the same."""
        transcript = vendor.begin() + vendor.texts("Grüße ", "\ud83c", "\udf89!") + vendor.end
        expected = None
        for at in range(len(transcript) + 1):
            decoder = decoder_of(vendor)
            events = [
                piece
                for event in parse([transcript[:at], transcript[at:]])
                for piece in decoder.feed(event)
            ]
            expected = expected or (events, decoder.result())
            assert (events, decoder.result()) == expected
        assert expected is not None
        assert expected[1].text == text_of(expected[0]) == "Grüße 🎉!"

    @pytest.mark.parametrize(
        ("pieces", "handed_out"),
        [
            (["a\ud83d", "\ude00b"], ["a", "😀b"]),
            (["\ud83d", "", "\ude00"], ["😀"]),
            (["\ud83d", "\ud83d", "\ude00"], ["\ufffd", "😀"]),
            (["\ud83d", "x"], ["\ufffdx"]),
            (["\ude00x"], ["\ufffdx"]),
            (["x\ud83d"], ["x", "\ufffd"]),
            (["\ud83d\ude00"], ["😀"]),
        ],
    )
    def test_surrogates_are_joined_or_replaced(
        self, vendor: Any, pieces: list[str], handed_out: list[str]
    ) -> None:
        """Half a pair waits for its other half; one without is U+FFFD, at the end too."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.texts(*pieces) + vendor.finish() + vendor.end
        events = feed(decoder, transcript)
        assert [text for kind, text in pairs(events) if kind == "text"] == handed_out
        assert decoder.result().text == "".join(handed_out)

    def test_half_a_pair_is_replaced_before_the_end_is_told(self, vendor: Any) -> None:
        """The U+FFFD for it is text, and comes before the finish."""
        decoder = decoder_of(vendor)
        events = feed(decoder, vendor.texts("\ud83d") + vendor.finish())
        assert pairs(events) == [("text", "\ufffd"), ("finish", ""), ("usage", "")]

    @pytest.mark.parametrize("end", ["finish", "end"])
    def test_half_a_pair_is_replaced_by_whatever_ends_the_reply(
        self, vendor: Any, end: str
    ) -> None:
        """Without the end of a block, and without a finish reason, the U+FFFD still comes."""
        decoder = decoder_of(vendor)
        begun = parse([vendor.texts("\ud83d")])[: 1 if isinstance(vendor, OpenAI) else 2]
        assert [pair for event in begun for pair in pairs(decoder.feed(event))] == []
        last = vendor.finish() if end == "finish" else vendor.end
        assert text_of(feed(decoder, last)) == decoder.result().text == "\ufffd"

    def test_the_finish_is_told_once(self, vendor: Any) -> None:
        """A reason that comes twice is one finish."""
        decoder = decoder_of(vendor)
        events = feed(decoder, vendor.begin() + vendor.finish("a") + vendor.finish("a"))
        assert values(events, "finish") == ["a"]

    def test_half_a_character_is_never_handed_out(self, vendor: Any) -> None:
        """Cut between two halves, a reply ends before the character."""
        decoder = decoder_of(vendor)
        whole = vendor.texts("x\ud83d")
        # Claude's block would end here; the cut comes before that.
        cut = parse([whole])[: 1 if isinstance(vendor, OpenAI) else 2]
        events = [
            piece for event in [*parse([vendor.begin()]), *cut] for piece in decoder.feed(event)
        ]
        assert text_of(events) == decoder.result().text == "x"

    def test_surrogates_are_joined_in_arguments_and_thinking_too(self, vendor: Any) -> None:
        """The pieces of arguments and thinking are cut by such servers as well."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.thoughts("\ud83d", "\ude00")
        transcript += vendor.call(0, '{"a": "\ud83d', '\ude00"}') + vendor.finish("end")
        kinds = [pair for pair in pairs(feed(decoder, transcript)) if pair[1]]
        assert kinds == [
            ("thinking", "😀"),
            ("tool_call_delta", '{"a": "'),
            ("tool_call_delta", '😀"}'),
        ]
        json.dumps(decoder.result().raw, ensure_ascii=False).encode()

    @pytest.mark.parametrize(
        "event",
        [
            b'event: ping\ndata: {"type": "ping"}\n\n',
            b"event: ping\ndata\n\n",
            b"event: heartbeat\ndata: 12:00\n\n",
            b'event: brand_new\ndata: {"type": "brand_new", "more": [1]}\n\n',
            b'data: {"type": "brand_new"}\n\n',
            b'data: {"error": null}\n\n',
            b"data: {}\n\n",
        ],
    )
    def test_what_is_unknown_is_passed_on(self, vendor: Any, event: bytes) -> None:
        """Pings and events of tomorrow change nothing, and can be seen in ``raw``."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin())
        before = decoder.result()
        events = feed(decoder, event)
        data = parse([event])[0].data
        assert events == [("other", "", json.loads(data) if data.startswith("{") else {})]
        assert decoder.result().text == before.text
        assert not decoder.complete

    def test_nothing_counts_after_the_end_mark(self, vendor: Any) -> None:
        """What a server sends after its own end mark is not read, be it an error."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + vendor.texts("Hi") + vendor.end)
        result = decoder.result()
        assert feed(decoder, vendor.texts("more") + sse({"error": {"message": "late"}})) == []
        assert feed(decoder, b"data: nonsense\n\n") == []
        assert decoder.result() == result

    def test_an_end_mark_without_a_reply_is_no_reply(self, vendor: Any) -> None:
        """A stream of nothing but its end mark is an error, as an empty reply of a chat is."""
        with pytest.raises(InvalidResponseError, match="ended without"):
            feed(decoder_of(vendor), vendor.end)

    def test_an_end_mark_without_a_reason_is_an_end(self, vendor: Any) -> None:
        """Some servers never send a finish reason; their end mark is enough."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + vendor.texts("Hi") + vendor.end)
        assert decoder.ended
        assert decoder.complete
        assert (decoder.result().text, decoder.result().finish_reason) == ("Hi", None)

    @pytest.mark.parametrize("data", ["nonsense", "[1]", "7", "null", '"text"', "NaN", "<html>"])
    def test_what_is_no_object_is_an_error(self, vendor: Any, data: str) -> None:
        """Data that is no JSON object is a typed error, after which the text is still there."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + vendor.texts("so far"))
        with pytest.raises(InvalidResponseError) as caught:
            feed(decoder, f"data: {data}\n\n".encode())
        assert not isinstance(caught.value, TruncatedResponse)
        assert caught.value.body == data
        assert decoder.result().text == "so far"

    def test_data_without_anything_is_an_error(self, vendor: Any) -> None:
        """Empty data of an ordinary event is no JSON object either."""
        with pytest.raises(InvalidResponseError, match="it is empty"):
            feed(decoder_of(vendor), b"data:\n\n")

    def test_half_an_object_is_cut_short(self, vendor: Any) -> None:
        """A body that ends within an event says so."""
        with pytest.raises(TruncatedResponse, match="cut short"):
            feed(decoder_of(vendor), b'data: {"type": "message_start", "mess')

    @pytest.mark.parametrize("depth", [900, 5000, 100_000])
    def test_deep_nesting_is_no_trap(self, vendor: Any, depth: int) -> None:
        """However deep the JSON, it is read, passed on or a typed error."""
        deep = '{"a":' * depth + "1" + "}" * depth
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin())
        for text in (deep, f'{{"choices": [{{"delta": {deep}}}], "delta": {deep}}}'):
            try:
                decoder.feed(ServerEvent("message", text))
            except InvalidResponseError as error:
                assert "no JSON object" in str(error)  # noqa: PT017
        assert decoder.result().text == ""

    def test_the_vendors_own_events_are_not_touched(self, vendor: Any) -> None:
        """What was handed out as ``raw`` stays as it came while the reply is put together."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.thoughts("a", "b") + vendor.texts("c", "d")
        transcript += vendor.call(0, "{", "}") + vendor.finish() + vendor.end
        seen: list[Piece] = []
        copies: list[Any] = []
        for event in parse([transcript]):
            for piece in decoder.feed(event):
                seen.append(piece)
                copies.append(copy.deepcopy(piece[2]))
        decoder.result()
        assert [piece[2] for piece in seen] == copies

    def test_a_result_can_be_had_at_any_time(self, vendor: Any) -> None:
        """Before, during and after: the result has the text that was handed out by then."""
        decoder = decoder_of(vendor)
        transcript = vendor.begin() + vendor.thoughts("a") + vendor.texts("b\ud83d", "\ude00c")
        transcript += vendor.call(0, '{"x"', ": 1}") + vendor.finish() + vendor.end
        text = ""
        for event in parse([transcript]):
            assert decoder.result().text == decoder.text() == text
            text += text_of(decoder.feed(event))
        assert decoder.result().text == text == "b😀c"


ERRORS: list[tuple[dict[str, Any], type[APIStatusError], int | None, str | None]] = [
    ({"type": "overloaded_error"}, OverloadedError, 529, "overloaded_error"),
    ({"type": "rate_limit_error"}, RateLimitError, 429, "rate_limit_error"),
    ({"type": "api_error"}, InternalServerError, 500, "api_error"),
    ({"type": "timeout_error"}, InternalServerError, 504, "timeout_error"),
    ({"type": "invalid_request_error"}, BadRequestError, 400, "invalid_request_error"),
    ({"type": "authentication_error"}, AuthenticationError, 401, "authentication_error"),
    ({"type": "billing_error"}, QuotaExceededError, 402, "billing_error"),
    ({"type": "permission_error"}, PermissionDeniedError, 403, "permission_error"),
    ({"type": "not_found_error"}, NotFoundError, 404, "not_found_error"),
    ({"type": "conflict_error"}, ConflictError, 409, "conflict_error"),
    ({"type": "request_too_large"}, RequestTooLargeError, 413, "request_too_large"),
    ({"type": "server_error", "code": None}, InternalServerError, 500, "server_error"),
    ({"type": "tokens", "code": "rate_limit_exceeded"}, RateLimitError, 429, "rate_limit_exceeded"),
    ({"type": "insufficient_quota"}, QuotaExceededError, 429, "insufficient_quota"),
    (
        {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}},
        QuotaExceededError,
        429,
        "enforced_spend_limit_reached",
    ),
    ({"type": "server_error", "code": "odd_code"}, InternalServerError, 500, "odd_code"),
    ({"code": 502, "message": "Provider failed"}, InternalServerError, 502, None),
    ({"type": "BadRequestError", "code": 400}, BadRequestError, 400, "BadRequestError"),
    ({"type": None, "code": "529"}, OverloadedError, 529, None),
    ({"type": "brand_new_error"}, APIStatusError, None, "brand_new_error"),
    ({"code": 200}, APIStatusError, None, None),
    ({"type": ["odd"], "code": {}, "message": 7}, APIStatusError, None, None),
]


class TestErrorEvents:
    """Errors inside a stream are typed as their status would have been."""

    @pytest.mark.parametrize("name", ["", "error"])
    @pytest.mark.parametrize(("error", "cls", "status", "code"), ERRORS)
    def test_an_error_has_the_class_of_its_status(
        self,
        vendor: Any,
        name: str,
        error: dict[str, Any],
        cls: type[APIStatusError],
        status: int | None,
        code: str | None,
    ) -> None:
        """Either dialect reads either vendor's words, with and without ``event: error``."""
        decoder = decoder_of(vendor)
        feed(decoder, vendor.begin() + vendor.texts("so far"))
        with pytest.raises(APIStatusError) as caught:
            feed(decoder, sse({"type": "error", "error": error, "request_id": "req_1"}, name))
        assert type(caught.value) is cls
        found = caught.value
        assert (found.status_code, found.code, found.request_id) == (status, code, "req_1")
        assert decoder.result().text == "so far"
        assert not decoder.complete

    @pytest.mark.parametrize(
        ("event", "cls", "words"),
        [
            (b"event: error\ndata: it broke\n\n", APIStatusError, "it broke"),
            (b'event: error\ndata: {"detail": "it broke"}\n\n', APIStatusError, ": it broke"),
            (b'data: {"error": "it broke"}\n\n', APIStatusError, ": it broke"),
            (
                b'event: error\ndata: {"code": "server_error", "message": "it broke"}\n\n',
                InternalServerError,
                "server_error: it broke",
            ),
            (b'event: error\ndata: {"x": 1}\n\n', APIStatusError, '{"x": 1}'),
            (b"event: error\ndata\n\n", APIStatusError, "error"),
        ],
    )
    def test_an_error_of_any_shape_is_one(
        self, vendor: Any, event: bytes, cls: type[APIStatusError], words: str
    ) -> None:
        """Texts, details and bare objects are errors too, and their words are shown."""
        with pytest.raises(APIStatusError) as caught:
            feed(decoder_of(vendor), vendor.begin() + event)
        assert type(caught.value) is cls
        assert words in str(caught.value)

    def test_an_error_beside_choices_is_one(self) -> None:
        """Some servers put the error into a chunk with an empty delta."""
        openai = OpenAI()
        chunk = openai.chunk({"content": ""}, "error", error={"code": 502, "message": "It broke"})
        with pytest.raises(InternalServerError, match="It broke"):
            feed(decoder_of(openai), openai.begin() + chunk)

    def test_an_object_that_says_it_is_an_error_is_one(self) -> None:
        """Some servers send the error itself as data, marked by its ``object``."""
        error = {"object": "error", "message": "It broke", "type": "BadRequestError", "code": 400}
        with pytest.raises(BadRequestError, match="BadRequestError: It broke"):
            feed(decoder_of(OpenAI()), sse(error))

    @pytest.mark.parametrize(
        "event",
        [
            sse(
                {"type": "error", "error": {"type": "api_error", "message": f"No: {PROMPT} {KEY}"}}
            ),
            sse({"error": {"code": KEY, "type": KEY, "message": ""}, "request_id": KEY}),
            sse({"error": PROMPT}),
            sse({"detail": [PROMPT, KEY]}, "error"),
            f"event: error\ndata: {PROMPT} {KEY}\n\n".encode(),
            f"data: {PROMPT} {KEY}\n\n".encode(),
            f'data: {{"echo": "{PROMPT} {KEY}\n\n'.encode(),
        ],
    )
    def test_the_request_is_masked(self, vendor: Any, event: bytes) -> None:
        """No error shows the prompt or the key that a server repeats."""
        with pytest.raises(TermaiHttpError) as caught:
            feed(decoder_of(vendor), event)
        shown = f"{caught.value} {vars(caught.value)}"
        assert "canary" not in shown
        assert "0123456789" not in shown

    def test_the_request_is_read_for_an_error_only(self, vendor: Any) -> None:
        """A good stream never collects the texts of its request."""

        def texts() -> list[str]:
            raise AssertionError

        decoder = vendor.dialect.decode_stream(texts)
        feed(decoder, vendor.begin() + vendor.texts("Hi") + vendor.finish() + vendor.end)
        assert decoder.complete


class TestOpenAI:
    """What only OpenAI's stream has, or servers that follow it."""

    def test_a_server_may_end_without_its_mark_and_count_in_the_last_chunk(self) -> None:
        """Without ``[DONE]``, the usage in the finish chunk: a good end all the same."""
        openai = OpenAI()
        decoder = decoder_of(openai)
        last = openai.chunk({}, "stop", usage=openai.usage)
        assert pairs(feed(decoder, openai.texts("Hi") + last)) == [
            ("text", "Hi"),
            ("finish", ""),
            ("usage", ""),
        ]
        assert decoder.complete
        assert decoder.result().usage.input_tokens == 12

    def test_a_whole_message_in_the_place_of_deltas_is_read(self) -> None:
        """Some servers have no stream of their own, and send all of the reply in one event."""
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        message = {"role": "assistant", "content": "Hi", "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        decoder = decoder_of(OpenAI())
        pieces = feed(decoder, sse({"id": "r1", "choices": [choice]}) + OpenAI.end)
        kinds = [("text", "Hi"), ("tool_call_delta", "{}"), ("tool_call", ""), ("finish", "")]
        assert pairs(pieces) == kinds
        assert decoder.result().text == "Hi"
        assert values(pieces, "tool_call") == list(decoder.result().tool_calls)

    @pytest.mark.parametrize("delta", [{}, {"delta": {"content": "b"}}])
    def test_a_whole_message_beside_deltas_is_none_of_them(self, delta: Any) -> None:
        """Others repeat in every chunk, or in the last one, what came so far."""
        openai, decoder = OpenAI(), decoder_of(OpenAI())
        whole = {"index": 0, "message": {"content": "ab"}, "finish_reason": "stop", **delta}
        feed(decoder, openai.texts("a", *("" if delta else "b")) + sse({"choices": [whole]}))
        assert decoder.result().text == decoder.text() == "ab"

    def test_a_chunk_may_say_everything_at_once(self) -> None:
        """Text, a call, the finish and the usage of one chunk are events of their own."""
        openai = OpenAI()
        call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
        delta = {"reasoning_content": "hm", "content": "Hi", "tool_calls": [call]}
        events = feed(decoder_of(openai), openai.chunk(delta, "stop", usage=openai.usage))
        kinds = [("thinking", "hm"), ("text", "Hi"), ("tool_call_delta", "{}")]
        kinds += [("tool_call", ""), ("finish", ""), ("usage", "")]
        assert pairs(events) == kinds
        assert all(raw is events[0][2] for _, _, raw in events)

    @pytest.mark.parametrize(
        "pieces",
        [
            [("a", 0, "f", "{1"), (None, 0, None, "}"), ("b", 0, "g", "{2"), (None, 0, "", "}")],
            [("a", None, "f", "{1"), ("", None, "", "}"), ("b", None, "g", "{2}")],
            [("a", None, "f", "{1"), ("a", None, "f", "}"), ("b", None, "g", "{2}")],
            [("b", 1, "g", "{2"), ("a", 0, "f", "{1"), ("x", 0, None, "}"), ("", 1, None, "}")],
            [("a", 0, "f", "{1"), ("a", 0, "f", "}"), ("b", 1, "", "{2"), ("b", 1, "g", "}")],
        ],
    )
    def test_calls_are_told_apart_though_the_index_is_wrong(self, pieces: Any) -> None:
        """No index, index 0 for every call, names and ids repeated: the calls are the same two."""
        openai = OpenAI()
        decoder = decoder_of(openai)
        for id, index, name, arguments in pieces:
            call = {"id": id, "index": index, "function": {"name": name, "arguments": arguments}}
            feed(decoder, openai.chunk({"tool_calls": [call]}))
        message = decoder.result().raw["choices"][0]["message"]
        assert [call["function"] for call in message["tool_calls"]] == [
            {"name": "f", "arguments": "{1}"},
            {"name": "g", "arguments": "{2}"},
        ]
        whole = values(feed(decoder, openai.finish("tool_calls")), "tool_call")
        assert [(call.name, call.text) for call in whole] == [("f", "{1}"), ("g", "{2}")]
        assert tuple(whole) == decoder.result().tool_calls
        assert feed(decoder, openai.end) == []

    def test_the_same_thinking_under_two_names_is_handed_out_once(self) -> None:
        """Servers between two names send both."""
        openai = OpenAI()
        both = openai.chunk({"reasoning": "hm", "reasoning_content": "hm"})
        one = openai.chunk({"reasoning": "so"})
        expected = [("thinking", "hm"), ("thinking", "so")]
        assert pairs(feed(decoder_of(openai), both + one)) == expected

    def test_more_choices_are_kept_in_raw(self) -> None:
        """With ``n``, text is that of the first choice; the stream is complete when all are."""
        openai = OpenAI()
        decoder = decoder_of(openai)
        for text in ("a", "b"):
            for index in (1, 0):
                delta = {"index": index, "delta": {"content": f"{text}{index} "}}
                events = feed(decoder, sse({"choices": [delta]}))
                assert pairs(events) == ([("text", f"{text}0 ")] if index == 0 else [])
        feed(decoder, openai.finish())
        assert not decoder.complete
        feed(decoder, sse({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}))
        assert decoder.complete
        choices = decoder.result().raw["choices"]
        assert [choice["message"]["content"] for choice in choices] == ["a0 b0 ", "a1 b1 "]
        assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]

    @pytest.mark.parametrize("index", [-1, None, "0", True, 1.5])
    def test_an_odd_index_hides_no_text(self, index: Any) -> None:
        """What is handed out is in the reply, whatever number its choice has."""
        decoder = decoder_of(OpenAI())
        events = feed(decoder, sse({"choices": [{"index": index, "delta": {"content": "Hi"}}]}))
        assert text_of(events) == decoder.result().text

    def test_log_probabilities_refusals_audio_and_fields_of_others_are_kept(self) -> None:
        """Lists are extended, texts joined, and what is unknown stands as it came last."""
        openai = OpenAI()
        decoder = decoder_of(openai)
        raws = []
        for number in (1, 2):
            delta = {
                "refusal": f"no{number}",
                "audio": {"id": "a", "data": f"d{number}", "transcript": f"t{number}"},
                "annotations": [{"n": number}],
                "custom": number,
            }
            logprobs = {"content": [{"token": str(number)}], "refusal": None}
            choice = {"index": 0, "delta": delta, "logprobs": logprobs, "token_ids": [number]}
            event = {"choices": [choice], "system_fingerprint": "fp", "obfuscation": "zzz"}
            events = feed(decoder, sse(event))
            assert pairs(events) == []
            raws.append((events[0][2], event))
        raw = decoder.result().raw
        assert all(kept == sent for kept, sent in raws)
        choice = raw["choices"][0]
        assert choice["message"] == {
            "role": "assistant",
            "content": None,
            "refusal": "no1no2",
            "audio": {"id": "a", "data": "d1d2", "transcript": "t1t2"},
            "annotations": [{"n": 1}, {"n": 2}],
            "custom": 2,
        }
        assert choice["logprobs"] == {"content": [{"token": "1"}, {"token": "2"}], "refusal": None}
        assert choice["token_ids"] == [2]
        assert set(raw) == {"choices", "object", "system_fingerprint"}

    def test_content_in_parts_is_text(self) -> None:
        """Some servers stream the parts that requests may have."""
        openai = OpenAI()
        decoder = decoder_of(openai)
        parts = [{"type": "text", "text": "Hi"}, {"type": "odd"}, 7]
        assert pairs(feed(decoder, openai.chunk({"content": parts}))) == [("text", "Hi")]
        assert decoder.result().text == "Hi"


class TestClaude:
    """What only Claude's stream has, or servers that follow it."""

    def test_blocks_of_other_types_are_kept(self) -> None:
        """Citations, the server's own tools and unknown blocks are in the reply, as they came."""
        claude = Claude()
        decoder = decoder_of(claude)
        citation = {"type": "citations_delta", "citation": {"cited_text": "x"}}
        unknown = {"type": "unknown_delta", "what": 1}
        hello = {"type": "text_delta", "text": "Hi"}
        search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
        query = {"type": "input_json_delta", "partial_json": '{"query": "x"}'}
        result = {"type": "web_search_tool_result", "content": [{"text": "page"}]}
        transcript = (
            claude.begin()
            + claude.block({"type": "text", "text": ""}, citation, hello, citation, unknown)
            + claude.block(search, query)
            + claude.block(result)
            + claude.block({"type": "redacted_thinking", "data": "abc"})
        )
        assert pairs(feed(decoder, transcript)) == [("usage", ""), ("text", "Hi")]
        cited = [{"cited_text": "x"}] * 2
        assert decoder.result().raw["content"] == [
            {"type": "text", "text": "Hi", "citations": cited},
            {**search, "input": {"query": "x"}},
            result,
            {"type": "redacted_thinking", "data": "abc"},
        ]

    @pytest.mark.parametrize("partial", ['{"a": 1', "nonsense", "NaN", "[" * 100_000])
    def test_input_that_is_no_json_stays_text(self, partial: str) -> None:
        """A call cut short keeps what came of its input."""
        claude = Claude()
        decoder = decoder_of(claude)
        feed(decoder, claude.begin() + claude.call(0, partial) + claude.finish("max_tokens"))
        assert decoder.result().raw["content"][0]["input"] == partial

    def test_input_that_is_no_text_is_left_out(self) -> None:
        """A piece of input must be text; whatever else stands there spoils nothing."""
        claude = Claude()
        decoder = decoder_of(claude)
        odd = {"type": "input_json_delta", "partial_json": True}
        block = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
        feed(decoder, claude.begin() + claude.block(block, odd))
        assert decoder.result().raw["content"] == [block]

    def test_whole_blocks_without_deltas_are_read(self) -> None:
        """Some servers put the whole text, thinking or input where a block starts."""
        claude = Claude()
        decoder = decoder_of(claude)
        call = {"type": "tool_use", "id": "c", "name": "f", "input": {"text": "x", "list": [1]}}
        text = claude.block({"type": "text", "text": "Hi"})
        thinking = claude.block({"type": "thinking", "thinking": "hm", "text": "?"})
        events = feed(decoder, thinking + text + claude.block(call))
        kinds = [("thinking", "hm"), ("text", "Hi"), ("tool_call_delta", ""), ("tool_call", "")]
        assert pairs(events) == kinds
        assert decoder.result().raw["content"][2] == call

    @pytest.mark.parametrize("stops", ["before", "after", "never", "twice"])
    def test_a_call_is_whole_wherever_its_block_stops(self, stops: str) -> None:
        """Before the stop reason, after it, twice or not at all: one whole call each."""
        claude = Claude()
        blocks = parse([claude.begin() + claude.call(0, "{", "}") + claude.call(1, '{"a": 1}')])
        stop = [event for event in blocks if event.name == "content_block_stop"]
        rest = [event for event in blocks if event.name != "content_block_stop"]
        order = {
            "before": [*blocks, *parse([claude.finish("tool_use")])],
            "after": [*rest, *parse([claude.finish("tool_use")]), *stop],
            "never": [*rest, *parse([claude.finish("tool_use")])],
            "twice": [*blocks, *stop, *parse([claude.finish("tool_use")])],
        }
        decoder = decoder_of(claude)
        events = [*order[stops], *parse([claude.end])]
        pieces = [piece for event in events for piece in decoder.feed(event)]
        assert [(call.id, call.arguments) for call in values(pieces, "tool_call")] == [
            ("c0", {}),
            ("c1", {"a": 1}),
        ]

    def test_the_tools_of_the_server_are_no_calls(self) -> None:
        """What the vendor runs by itself is nobody's to answer."""
        claude = Claude()
        search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
        query = {"type": "input_json_delta", "partial_json": '{"query": "x"}'}
        pieces = feed(decoder_of(claude), claude.begin() + claude.block(search, query) + claude.end)
        assert {kind for kind, _, _ in pieces} == {"usage", "other"}

    def test_blocks_that_nobody_began_are_read(self) -> None:
        """Without ``content_block_start``, or with one index for all, every block is there."""
        claude = Claude()
        decoder = decoder_of(claude)
        for delta in (
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "s"},
            {"type": "text_delta", "text": "Hi"},
        ):
            feed(decoder, sse({"type": "content_block_delta", "delta": delta}))
        claude.at = -1
        feed(decoder, claude.call(0, "{}"))
        content = decoder.result().raw["content"]
        assert [block["type"] for block in content] == ["thinking", "text", "tool_use"]
        assert content[0] == {"type": "thinking", "thinking": "hm", "signature": "s"}

    def test_blocks_may_come_by_turns(self) -> None:
        """Text so far is in the order in which it came, the reply's in the order of its blocks."""
        claude = Claude()
        decoder = decoder_of(claude)
        for index, piece in [
            (0, "a"),
            (1, "\u00e9"),
            (0, "b\ud83d"),
            (1, "d"),
            (0, "\ude00"),
            (1, "\ud83d"),
        ]:
            delta = {"type": "text_delta", "text": piece}
            feed(decoder, claude.event("content_block_delta", index=index, delta=delta))
        assert (decoder.text(), decoder.result().text) == (
            "a\u00e9bd\U0001f600",
            "ab\U0001f600\u00e9d",
        )
        feed(decoder, claude.finish() + claude.end)
        assert decoder.text() == "a\u00e9bd\U0001f600\ufffd"
        assert decoder.result().text == "ab\U0001f600\u00e9d\ufffd"

    def test_event_names_alone_are_enough(self) -> None:
        """Data without its ``type`` is read by the event's name, and the other way round."""
        claude = Claude()
        decoder = decoder_of(claude)
        delta = {"type": "text_delta", "text": "Hi"}
        feed(decoder, sse({"index": 0, "delta": delta}, "content_block_delta"))
        feed(decoder, sse({"type": "content_block_delta", "index": 0, "delta": delta}))
        feed(decoder, sse({"delta": {"stop_reason": "end_turn"}}, "message_delta"))
        assert decoder.complete
        assert decoder.result().text == "HiHi"

    def test_further_fields_of_the_end_are_kept(self) -> None:
        """What comes beside the stop reason stands in the message."""
        claude = Claude()
        decoder = decoder_of(claude)
        delta = {"stop_reason": "refusal", "stop_sequence": None, "stop_details": {"x": 1}}
        feed(decoder, claude.begin())
        feed(decoder, claude.event("message_delta", delta=delta, context_management={"y": 2}))
        raw = decoder.result().raw
        assert (raw["stop_details"], raw["context_management"]) == ({"x": 1}, {"y": 2})

    @pytest.mark.parametrize("reason", [{"type": "end_turn"}, ["end_turn"], 1, True])
    def test_a_reason_that_is_no_text_is_none(self, reason: Any) -> None:
        """It ends nothing, and is told to nobody as the reason."""
        claude = Claude()
        decoder = decoder_of(claude)
        pieces = feed(decoder, claude.begin() + claude.texts("Hi") + claude.finish(reason))
        assert not decoder.complete
        assert values(pieces, "finish") == []
        feed(decoder, claude.end)
        assert (decoder.complete, decoder.result().finish_reason) == (True, None)

    def test_a_known_event_without_an_object_is_an_error(self) -> None:
        """The vendor's own events must be JSON objects, whatever their name says."""
        with pytest.raises(InvalidResponseError, match="no JSON object"):
            feed(decoder_of(Claude()), b"event: content_block_delta\ndata: x\n\n")


def spelled(events: Iterable[ServerEvent], end: bytes) -> bytes:
    """Write events as freely as the rules allow: a mark, comments, other fields, data in lines.

    Text stands as it is, where UTF-8 has it, so that characters may be cut, too.
    """
    lines = ["\ufeff: hello", "", ""]
    for number, event in enumerate(events):
        lines += [f"event:{event.name}"] if event.name != "message" else []
        lines += [": data: x", f"id: {number}", "retry: 10", "odd", ":"]
        data = [event.data]
        if event.data.startswith("{"):
            payload = json.loads(event.data)
            try:
                json.dumps(payload, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                data = json.dumps(payload, indent=1).split("\n")
            else:
                data = json.dumps(payload, indent=1, ensure_ascii=False).split("\n")
        lines += [f"data:{' ' * (number % 2)}{line}" for line in data]
        lines += [""] * (1 + number % 2)
    return end.join(line.encode() for line in lines) + end


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("cls", [OpenAI, Claude])
@given(data=st.data())
def test_every_spelling_and_every_cut_gives_the_same(
    cls: Any, end: bytes, data: st.DataObject
) -> None:
    """However events are written, and wherever they are cut: the same pieces, the same result."""
    vendor = cls()
    transcript = vendor.begin() + vendor.thoughts("Hm ", "\ud83d", "\ude00")
    transcript += vendor.texts(
        "Gr\u00fc\u00dfe \u65e5\u672c\u8a9e", "\ud83c", "\udf89!", "\u2028\u0085"
    )
    transcript += vendor.call(0, '{"a": "\ud83d', '\ude00"}') + vendor.finish() + vendor.end
    plain = decoder_of(vendor)
    expected = feed(plain, transcript)
    free = spelled(parse([transcript]), end)
    places = sorted(data.draw(st.sets(st.integers(0, len(free)), max_size=40)))
    cuts = [free[a:b] for a, b in zip([0, *places], [*places, len(free)], strict=True)]
    decoder = decoder_of(vendor)
    assert [piece for event in parse(cuts) for piece in decoder.feed(event)] == expected
    assert decoder.result() == plain.result()
    assert decoder.text() == plain.text() == text_of(expected) == plain.result().text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from(["", "a", "\ud83d", "\ude00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["index", "type", "text", "content", "id", "function", "arguments"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything in a JSON value."""
    found = [path]
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a JSON value with something else in one place."""
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


@pytest.mark.parametrize("cls", [OpenAI, Claude])
@given(data=st.data())
def test_odd_events_break_nothing(cls: Any, data: st.DataObject) -> None:
    """Whatever stands in the place of a part, the outcome is events or a typed error.

    And ``text`` and the result have, at the end, the text that was handed out.
    """
    vendor = cls()
    transcript = vendor.begin() + vendor.thoughts("a") + vendor.texts("b\ud83d", "\ude00c")
    transcript += vendor.call(0, '{"x"', ": 1}") + vendor.finish() + vendor.end
    decoder = decoder_of(vendor)
    text = ""
    for event in parse([transcript]):
        if event.data.startswith("{") and data.draw(st.booleans()):
            payload = json.loads(event.data)
            path = data.draw(st.sampled_from(places(payload)))
            odd = json.dumps(replaced(payload, path, data.draw(JSON)))
            event = ServerEvent(event.name, odd)
        try:
            text += text_of(decoder.feed(event))
        except TermaiHttpError:
            continue
    result = decoder.result()
    assert isinstance(result, Decoded)
    assert decoder.text() == text
    # Blocks may come mixed, so only the characters are the same ones.
    assert sorted(result.text) == sorted(text)
    result.text.encode()


def test_a_call_without_an_id_has_the_same_one_in_the_events_and_in_the_reply() -> None:
    """Whoever answers what an event asked for names the call as the reply does."""
    start = {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}}
    transcript = b"".join(
        b"data: " + json.dumps({**start, "index": index}).encode() + b"\n\n" for index in range(2)
    )
    transcript += b'data: {"type":"message_delta","delta":{"stop_reason":"tool_use"}}\n\n'
    decoder = ClaudeMessages().decode_stream(list)
    calls = [value for kind, value, _ in feed(decoder, transcript) if kind == "tool_call"]
    assert calls == list(decoder.result().tool_calls)
    assert len({"", *(call.id for call in calls)}) == 3
