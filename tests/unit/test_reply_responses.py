"""Replies of OpenAI's responses: what is read in them, and what goes back in the next request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import (
    APIStatusError,
    ChatRequest,
    InvalidResponseError,
    TermaiHttpError,
    ToolCall,
    Usage,
)
from termai_http.dialects._base import Decoded
from termai_http.dialects._errors import decode_object
from termai_http.dialects.openai_responses import OpenAIResponses
from tests.unit.test_streams_decode import JSON, KEY, PROMPT, places, replaced
from tests.unit.test_streams_responses import (
    FAILURES,
    Responses,
    function_call,
    message,
    reasoning,
)

DIALECT = OpenAIResponses()
ERROR = {"code": "server_error", "message": "Sorry."}


def response(*output: Any, **more: Any) -> dict[str, Any]:
    """Return a whole response."""
    return {**Responses.top, "status": "completed", "output": [*output], **more}


def decode(*output: Any, **more: Any) -> Decoded:
    """Decode a whole response."""
    return DIALECT.decode(response(*output, **more), list)


def refusal(index: int = 0) -> dict[str, Any]:
    """Return a message that refuses."""
    return {**message(index, ""), "content": [{"type": "refusal", "refusal": "I can't."}]}


class TestReading:
    """What a reply says."""

    def test_text_usage_and_names(self) -> None:
        """The text of all messages is one; tokens, model and id are where they always are."""
        found = decode(message(0, "Hello "), message(1, "there"), usage=Responses.usage)
        assert (found.text, found.texts) == ("Hello there", ("Hello there",))
        assert found.usage == Usage(
            input_tokens=12, output_tokens=5, cached_tokens=3, reasoning_tokens=2
        )
        assert (found.model, found.id, found.finish_reason) == ("m1", "r1", "completed")
        assert found.raw["parallel_tool_calls"] is True

    @pytest.mark.parametrize("usage", [None, [], {}, {"input_tokens": None, "output_tokens": "x"}])
    def test_tokens_that_are_not_told_are_none(self, usage: Any) -> None:
        """Compatible servers leave them out."""
        assert decode(message(0, "Hi"), usage=usage).usage == Usage()

    @pytest.mark.parametrize(
        ("status", "details", "reason"),
        [
            ("completed", None, "completed"),
            ("incomplete", {"reason": "max_output_tokens"}, "max_output_tokens"),
            ("incomplete", {"reason": "content_filter"}, "content_filter"),
            ("incomplete", {"reason": None}, "incomplete"),
            ("incomplete", None, "incomplete"),
            ("completed", {"reason": "stale"}, "completed"),
            (None, None, None),
            (7, "x", None),
        ],
    )
    def test_the_reason_is_the_vendors_word(self, status: Any, details: Any, reason: Any) -> None:
        """A status that is complete, or the reason why it is not."""
        found = decode(message(0, "Hi"), status=status, incomplete_details=details)
        assert found.finish_reason == reason

    def test_thinking_is_all_that_is_shown(self) -> None:
        """Summaries, the reasoning itself, and what is said on the way, in their order."""
        shown = {
            **reasoning(0, "**One**"),
            "content": [{"type": "reasoning_text", "text": "In full."}],
        }
        found = decode(shown, message(1, "I look.", phase="commentary"), reasoning(2, "**Two**"))
        assert found.thinking == "**One**\n\nIn full.\n\nI look.\n\n**Two**"
        assert found.text == ""

    def test_thinking_is_read_as_litellm_says_it(self) -> None:
        """Reasoning whose content is output text is reasoning all the same."""
        said = {
            **reasoning(0, ""),
            "summary": [],
            "content": [{"type": "output_text", "text": "Hm."}],
        }
        found = decode(said, message(1, "Hi"))
        assert (found.text, found.thinking) == ("Hi", "Hm.")

    def test_the_answer_is_the_final_message(self) -> None:
        """Structured output would be no JSON with the words before it."""
        found = decode(
            message(0, "I look.", phase="commentary"), message(1, "{}", phase="final_answer")
        )
        assert (found.text, found.thinking) == ("{}", "I look.")

    def test_a_call_without_an_id_or_arguments_can_be_answered(self) -> None:
        """It gets an id that is the same in the call and in what goes back, and no arguments."""
        bare = {"type": "function_call", "name": "f", "arguments": None}
        found = decode(bare, {**bare, "call_id": "", "id": "fc_1"})
        first, second = found.tool_calls
        assert len({"", first.id, second.id}) == 3
        assert (first.arguments, second.arguments) == ({}, {})
        assert [item["call_id"] for item in found.messages] == [first.id, second.id]
        assert [item["arguments"] for item in found.messages] == ["{}", "{}"]

    def test_calls_of_functions_and_of_custom_tools(self) -> None:
        """The id is the one that the result names; the server's own tools are nobody's to call."""
        custom = {"type": "custom_tool_call", "id": "x", "call_id": "k", "name": "sh"}
        search = {"type": "web_search_call", "id": "w", "status": "completed"}
        found = decode(search, function_call(1, "c0", "f", '{"a": 1}'), {**custom, "input": "ls"})
        assert found.tool_calls == (
            ToolCall(id="c0", name="f", arguments={"a": 1}, text='{"a": 1}'),
            ToolCall(id="k", name="sh", arguments=None, text="ls"),
        )

    @pytest.mark.parametrize(
        ("given", "arguments", "text"),
        [
            ("", {}, ""),
            ("{", None, "{"),
            ("[1]", None, "[1]"),
            ({"a": 1}, {"a": 1}, '{"a":1}'),
            ({"a": "\ud83d"}, {"a": "\ufffd"}, '{"a":"\ufffd"}'),
            ('{"a": "\ud83d"}', {"a": "\ufffd"}, '{"a": "\ufffd"}'),
            (None, {}, ""),
        ],
    )
    def test_arguments_may_be_anything(self, given: Any, arguments: Any, text: str) -> None:
        """Cut short, no object, or an object already."""
        found = decode({**function_call(0, "c", "f", ""), "arguments": given})
        assert found.tool_calls == (ToolCall(id="c", name="f", arguments=arguments, text=text),)

    def test_a_refusal_is_no_text(self) -> None:
        """It is the model's own words for why it does not answer."""
        found = decode(refusal())
        assert (found.text, found.refusal) == ("", "I can't.")
        assert decode(message(0, "Hi")).refusal is None

    def test_lone_surrogates_are_replaced(self) -> None:
        """The text can always be written to a file."""
        found = decode(message(0, "x\ud83d"), reasoning(1, "\ude00y"))
        assert (found.text, found.thinking) == ("x\ufffd", "\ufffdy")

    @pytest.mark.parametrize("output", [None, {}, "text", 7])
    def test_without_a_list_of_items_it_is_no_reply(self, output: Any) -> None:
        """A chat completion, for one, is none."""
        with pytest.raises(InvalidResponseError, match="no list of output items"):
            DIALECT.decode({**response(), "output": output}, list)

    def test_an_empty_list_is_a_reply(self) -> None:
        """The API answers so where it was to warm up its cache only."""
        assert (decode().text, decode().finish_reason, decode().messages) == ("", "completed", ())

    @given(st.data())
    def test_odd_replies_break_nothing(self, data: st.DataObject) -> None:
        """Whatever stands in the place of a part, the outcome is a reply or a typed error."""
        whole = response(
            reasoning(0, "hm"),
            message(1, "Hi"),
            function_call(2, "c", "f", "{}"),
            refusal(3),
            usage=Responses.usage,
        )
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(places(whole)))
            if path:
                whole = replaced(whole, path, data.draw(JSON))
        try:
            found = DIALECT.decode(whole, list)
        except TermaiHttpError:
            return
        found.text.encode()


class TestFailures:
    """Replies that are none, although the status says that all is well."""

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    @pytest.mark.parametrize(("error", "cls", "number", "code"), FAILURES)
    def test_a_failed_response_is_an_error(
        self,
        status: str,
        error: Any,
        cls: type[APIStatusError],
        number: int | None,
        code: str | None,
    ) -> None:
        """Its class is that of the status it stands for, so that it is retried as that would be."""
        with pytest.raises(APIStatusError) as caught:
            decode(status=status, error=error)
        assert type(caught.value) is cls
        assert (caught.value.status_code, caught.value.code) == (number, code)
        said = error["message"] if isinstance(error, dict) and "message" in error else error
        assert not isinstance(said, str) or said in str(caught.value)

    def test_an_error_beside_a_good_status_is_one(self) -> None:
        """Whatever else it says, a response with an error is none."""
        with pytest.raises(APIStatusError, match="server_error: Sorry"):
            decode(message(0, "Hi"), error=ERROR)

    def test_one_that_does_not_say_why_is_an_error_too(self) -> None:
        """Somebody cancelled it, for one."""
        with pytest.raises(APIStatusError, match="was cancelled: the server did not say why"):
            decode(status="cancelled")
        with pytest.raises(APIStatusError, match="failed: the server did not say why"):
            decode(status="failed")

    @pytest.mark.parametrize("status", ["queued", "in_progress"])
    def test_what_is_not_there_yet_is_no_reply(self, status: str) -> None:
        """Nobody asked for a response in the background."""
        with pytest.raises(InvalidResponseError, match=f"its status is {status}"):
            decode(status=status)

    def test_a_reply_that_is_there_is_one(self) -> None:
        """Some servers forget to say that they are done."""
        found = decode(message(0, "Hi"), status="in_progress")
        assert (found.text, found.finish_reason) == ("Hi", None)

    def test_the_request_is_masked(self) -> None:
        """No failure shows the prompt or the key that a server repeats."""
        error = {"code": KEY, "message": f"No: {PROMPT} {KEY}"}
        for told in (error, f"No: {PROMPT} {KEY}", {"message": PROMPT}):
            with pytest.raises(APIStatusError) as caught:
                DIALECT.decode(response(status="failed", error=told), lambda: [PROMPT, KEY])
            shown = f"{caught.value} {vars(caught.value)}"
            assert "canary" not in shown
            assert "0123456789" not in shown

    def test_the_request_is_read_for_an_error_only(self) -> None:
        """A good reply never collects the texts of its request."""

        def texts() -> list[str]:
            raise AssertionError

        assert DIALECT.decode(response(message(0, "Hi")), texts).text == "Hi"

    def test_a_body_with_a_failed_response_reaches_the_dialect(self) -> None:
        """Any other object with an error is told apart where the body is read."""
        failed = response(status="failed", error=ERROR)
        assert decode_object(json.dumps(failed).encode(), {}, list) == failed
        with pytest.raises(InvalidResponseError, match="an error inside a success"):
            decode_object(json.dumps({"error": ERROR}).encode(), {}, list)


def sent(*messages: Any, **extra: Any) -> Any:
    """Return the input of a request with messages."""
    request = ChatRequest("m", messages, extra=extra)
    return DIALECT.encode(request)["input"]


class TestTurn:
    """The reply as messages of the next request."""

    def test_text_alone_is_a_message_for_every_vendor(self) -> None:
        """A plain answer can go on with another vendor."""
        assert decode(message(0, "Hi")).messages == ({"role": "assistant", "content": "Hi"},)
        plain = {"type": "message", "role": "assistant", "content": "Hi"}
        assert decode(plain).messages == ({"role": "assistant", "content": "Hi"},)
        assert decode(message(0, "")).messages == ()

    def test_more_than_text_goes_back_as_it_came(self) -> None:
        """Reasoning, phases, citations, refusals and calls: the API wants them unchanged."""
        cited = message(0, "Hi")
        cited["content"][0]["annotations"] = [{"type": "url_citation"}]
        for output in (
            [reasoning(0, "hm"), message(1, "Hi")],
            [message(0, "Hi", phase="final_answer")],
            [cited],
            [refusal()],
            [reasoning(0, "hm"), function_call(1, "c", "f", "{}")],
            [{"type": "web_search_call", "id": "w", "action": None}, message(1, "Hi")],
        ):
            turn = decode(*output).messages
            assert list(turn) == output
            assert sent({"role": "user", "content": "hi"}, *turn)[1:] == output

    def test_reasoning_that_nothing_follows_does_not_go_back(self) -> None:
        """Cut short, it is refused without the item that it led to."""
        found = decode(message(0, "Hi"), reasoning(1, "hm"), status="incomplete")
        assert found.messages == (message(0, "Hi"),)
        assert decode(reasoning(0, "hm"), status="incomplete").messages == ()

    def test_what_no_request_may_have_does_not_go_back(self) -> None:
        """Half a surrogate pair, an object in place of its text, what is no item."""
        call = function_call(1, "c", "f", '{"a":"\ufffd"}')
        for arguments in ({"a": "\ud83d"}, '{"a":"\ud83d"}'):
            came = [{"no": "type"}, reasoning(0, "\ud83d"), {**call, "arguments": arguments}, 5]
            assert decode(*came).messages == (reasoning(0, "\ufffd"), call)

    def test_nulls_do_not_go_back(self) -> None:
        """Servers answer with fields as null that they refuse as null."""
        item = {**reasoning(0, "hm"), "content": None, "status": None}
        call = {**function_call(1, "c", "f", "{}"), "namespace": None}
        assert decode(item, call).messages == (reasoning(0, "hm"), function_call(1, "c", "f", "{}"))

    def test_reasoning_that_was_not_stored_does_not_go_back_by_its_id(self) -> None:
        """What followed it loses its id, too, which would ask for it."""
        bare = {**reasoning(0, "hm"), "encrypted_content": None}
        call = function_call(1, "c", "f", "{}")
        turn = decode(bare, call, store=False).messages
        assert turn == ({name: call[name] for name in call if name not in ("id", "status")},)

    def test_reasoning_that_was_not_stored_goes_back_encrypted(self) -> None:
        """With its content it needs no store."""
        output = [reasoning(0, "hm"), function_call(1, "c", "f", "{}")]
        assert list(decode(*output, store=False).messages) == output

    def test_a_request_that_is_not_stored_drops_what_is_bare(self) -> None:
        """A conversation that began with a store goes on without one."""
        bare = {**reasoning(0, "hm"), "encrypted_content": ""}
        whole, call = reasoning(2, "so"), function_call(3, "c", "f", "{}")
        turn = [{"role": "user", "content": "hi"}, bare, message(1, "Hi"), whole, call]
        assert sent(*turn) == turn
        plain = {"role": "assistant", "content": "Hi"}
        assert sent(*turn, store=False) == [turn[0], plain, whole, call]
        turn[2] = {**refusal(1), "phase": "final_answer"}
        plain = {"role": "assistant", "content": "I can't.", "phase": "final_answer"}
        assert sent(*turn, store=False) == [turn[0], plain, whole, call]
