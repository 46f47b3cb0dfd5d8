"""Conversations on sockets: what is asked with, what is kept, whoever asks at once."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import termai_http
from termai_http import (
    BadRequestError,
    CallCancelled,
    CancelToken,
    Client,
    Conversation,
    HttpClientConfig,
    Image,
    InvalidRequestError,
    StreamInterrupted,
    Usage,
)
from termai_http._call import Clock
from termai_http._specs import ToolSpec
from termai_http.testing import Server
from tests.contract.security_tools import (
    break_reads,
    everything,
    frames_with_locals,
    must_hide,
    raising,
)
from tests.faults.harness import KEY, PROMPT, claude_body, closed_port, good_body
from tests.faults.streaming import CLAUDE, OPENAI
from tests.server.canned import Canned, Request

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 8
EVENTS = {"Content-Type": "text/event-stream"}


@pytest.fixture
def canned() -> Iterator[Canned]:
    """A server that answers every chat, streamed or not, with the number of its messages."""
    server = Canned()
    server.answer = answer
    yield server
    server.close()


@pytest.fixture
def begin(canned: Canned, client: Client) -> Callable[..., Conversation]:
    """Begins conversations with that server."""

    def begun(model: str | None = "gpt-5.5", **options: Any) -> Conversation:
        given = {"client": client, "base_url": canned.url, "api_key": "k", **options}
        return Conversation(model, **given)

    return begun


def said(request: Request) -> list[Any]:
    """Return the messages of a request in any dialect."""
    found = request.body["messages" if "messages" in request.body else "input"]
    return [{"role": "user", "content": found}] if isinstance(found, str) else list(found)


def answer(request: Request) -> tuple[int, dict[str, str], Any]:
    """Answer in the dialect that was spoken."""
    text = f"reply {len(said(request))}"
    claude = "/messages" in request.path
    if request.body.get("stream"):
        vendor = CLAUDE if claude else OPENAI
        whole = vendor.begin() + vendor.text(*text.split(" ")) + vendor.finish() + vendor.end
        return 200, EVENTS, whole
    if "/responses" in request.path:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        head = {"id": "resp_1", "object": "response", "status": "completed", "model": "m"}
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        return 200, {}, {**head, "output": [{**item, "content": content}], "usage": usage}
    return 200, {}, claude_body(text) if claude else good_body(text)


def turns(*contents: str) -> list[dict[str, Any]]:
    """Return turns of user and assistant."""
    roles = ["user", "assistant"] * len(contents)
    return [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]


@pytest.mark.parametrize(
    ("model", "options"),
    [("gpt-5.5", {}), ("gpt-5.5", {"api": "responses"}), ("claude-opus-5-5", {})],
)
def test_each_question_is_asked_with_all_that_was_said(
    canned: Canned, begin: Callable[..., Conversation], model: str, options: dict[str, Any]
) -> None:
    """In every dialect the second question stands after the first one and its reply."""
    conversation = begin(model, system="Be brief.", **options)
    reply = conversation.ask("one")
    assert conversation.ask("two").text != reply.text
    assert len(conversation) == 4
    assert conversation.usage == Usage(input_tokens=6, output_tokens=4)
    sent = json.dumps(said(canned.seen[1]))
    assert [sent.find(text) for text in ("one", reply.text, "two")] == sorted(
        sent.find(text) for text in ("one", reply.text, "two")
    )
    assert -1 not in [sent.find(text) for text in ("one", reply.text, "two")]
    assert all("Be brief." in json.dumps(request.body) for request in canned.seen)
    # And again after it was saved.
    again = Conversation.from_json(conversation.to_json(), **vars(conversation)["_options"])
    again.ask("three")
    conversation.ask("three")
    assert canned.seen[-1].body == canned.seen[-2].body


def test_vendor_and_model_change_between_questions(
    canned: Canned, begin: Callable[..., Conversation]
) -> None:
    """What one vendor said is told to the other in its own form."""
    conversation = begin("gpt-5.5", system="Be brief.")
    conversation.ask("one")
    conversation.ask("two", model="claude-opus-5-5")
    conversation.ask("three", api="responses")
    conversation.model = "claude-opus-5-5"
    conversation.ask("four")
    assert [request.path for request in canned.seen] == [
        *("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/messages"),
    ]
    assert len(conversation) == 8
    for at, request in enumerate(canned.seen):
        sent = json.dumps(request.body)
        assert all(text in sent for text in ("one", "two", "three", "four")[: at + 1])
        assert sent.count("reply") == at


def test_a_call_that_fails_leaves_it_as_it_was(
    canned: Canned, begin: Callable[..., Conversation]
) -> None:
    """A refusal, a connection that is none, a prompt that is none: nothing is added."""
    conversation = begin()
    conversation.ask("one")
    before = conversation.messages
    canned.answer = lambda _: (400, {}, {"error": {"message": "No."}})
    for ask in (conversation.ask, conversation.stream):
        with pytest.raises(BadRequestError):
            ask("two")
        with pytest.raises(termai_http.APIConnectionError):
            ask("two", base_url=f"http://127.0.0.1:{closed_port()}")
        for wrong in ("", [], 3, [{"role": "user"}]):
            with pytest.raises(InvalidRequestError):
                ask(wrong)
    canned.answer = lambda _: (200, {}, {"choices": []})
    with pytest.raises(termai_http.InvalidResponseError):
        conversation.ask("two")
    assert conversation.messages == before
    canned.answer = answer
    conversation.ask("three")
    assert said(canned.seen[-1]) == turns("one", "reply 1", "three")


def test_results_of_tools_are_appended_and_asked_with(
    canned: Canned, begin: Callable[..., Conversation]
) -> None:
    """The reply's tool calls are kept; ask() without a prompt goes on from the results."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    canned.answer = lambda _: (200, {}, {"id": "1", "model": "m", "choices": [choice]})
    conversation = begin()
    reply = conversation.ask("Add 1 and 2.")
    assert [one.name for one in reply.tool_calls] == ["add"]
    conversation.append({"role": "tool", "tool_call_id": reply.tool_calls[0].id, "content": "3"})
    canned.answer = answer
    assert conversation.ask().text == "reply 3"
    sent = said(canned.seen[-1])
    assert [one["role"] for one in sent] == ["user", "assistant", "tool"]
    assert sent[1]["tool_calls"] == [call]
    assert len(conversation) == 4
    with pytest.raises(InvalidRequestError, match="empty"):
        begin().ask()


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-opus-5-5"])
def test_tools_are_run_and_the_whole_exchange_is_kept(
    canned: Canned, begin: Callable[..., Conversation], model: str
) -> None:
    """Question, calls, results and the last reply are added in one step; a failure adds nothing."""
    # A function as it is would need the extra that reads its docstring.
    number = {"type": "integer"}
    add = ToolSpec(
        name="add",
        parameters={"type": "object", "properties": {"one": number, "two": number}},
        call=lambda given: given["one"] + given["two"],
    )
    function = {"name": "add", "arguments": '{"one": 1, "two": 2}'}
    call = {"id": "c1", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    block = {"type": "tool_use", "id": "c1", "name": "add", "input": {"one": 1, "two": 2}}
    claude = {"id": "1", "role": "assistant", "model": "m", "content": [block]}
    asks = {
        "gpt-5.5": {"id": "1", "model": "m", "choices": [choice], "usage": usage},
        "claude-opus-5-5": {
            **claude,
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 3, "output_tokens": 2},
        },
    }
    canned.answer = lambda request: (
        answer(request) if len(said(request)) > 1 else (200, {}, asks[model])
    )
    conversation = begin(model, tools=[add])
    run = conversation.run_tools("Add 1 and 2.")
    assert (run.text, [called.result for called in run.calls]) == ("reply 3", [3])
    assert len(conversation) == 4
    assert conversation.usage == run.usage == Usage(input_tokens=6, output_tokens=4)
    assert conversation.ask("And now?").text == "reply 5"
    kept = conversation.messages
    assert "3" in json.dumps(kept[2])
    assert Conversation.from_json(conversation.to_json()).messages == kept
    canned.answer = lambda _: (400, {}, {})
    with pytest.raises(BadRequestError):
        conversation.run_tools("Once more.")
    with pytest.raises(InvalidRequestError, match="tools"):
        begin(model).run_tools("Once more.")
    assert conversation.messages == kept


def test_options_of_a_question_win(canned: Canned, begin: Callable[..., Conversation]) -> None:
    """Those of the conversation go out with every question, headers too, those of one with it."""
    conversation = begin(temperature=0.5, extra_headers={"X-Title": "mine"}, max_tokens=7)
    conversation.ask("one")
    conversation.ask("two", temperature=1, extra_headers={"X-Title": "other"}, system="Be kind.")
    first, second = canned.seen
    assert (first.body["temperature"], first.headers["x-title"]) == (0.5, "mine")
    assert (second.body["temperature"], second.headers["x-title"]) == (1, "other")
    assert first.body["max_tokens"] == second.body["max_tokens"] == 7
    assert second.body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert conversation.system is None


def test_it_asks_on_the_process_wide_client_by_itself(
    canned: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model, key and URL may come from the environment, as for chat()."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", canned.url)
    monkeypatch.setenv("TERMAI_HTTP_MODEL", "m")
    conversation = Conversation()
    assert conversation.ask("one").text == "reply 1"
    assert "".join(conversation.stream("two")) == "reply3"
    assert canned.seen[0].body["model"] == "m"
    assert termai_http.stats().calls.successful_requests == 2


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-opus-5-5"])
@pytest.mark.parametrize("read", [list, lambda stream: list(stream.events())])
def test_a_stream_that_was_read_is_kept(
    canned: Canned, begin: Callable[..., Conversation], model: str, read: Callable[..., Any]
) -> None:
    """Question and reply are added at its end, and not before."""
    conversation = begin(model)
    with conversation.stream("one") as stream:
        assert next(stream) == "reply"
        assert len(conversation) == 0
        read(stream)
        assert conversation.messages == turns("one", "reply1")
    assert stream.response is not None
    assert conversation.usage == stream.response.usage
    assert list(stream) == []
    conversation.ask("two")
    assert said(canned.seen[-1]) == turns("one", "reply1", "two")
    assert len(conversation) == 4


def leave(stream: Any) -> None:
    """Leave a stream after its first piece."""
    with stream:
        next(stream)


def drop(stream: Any) -> None:
    """Forget a stream after its first piece."""
    next(stream)


def cancel(stream: Any) -> None:
    """Cancel a stream after its first piece."""
    next(stream)
    stream.cancel()
    with pytest.raises(CallCancelled):
        list(stream)


@pytest.mark.parametrize("end", [leave, drop, cancel])
def test_a_stream_that_was_not_read_adds_nothing(
    begin: Callable[..., Conversation], client: Client, end: Callable[[Any], None]
) -> None:
    """Whoever wants to keep what came of it appends it."""
    conversation = begin()
    stream = conversation.stream("one")
    end(stream)
    assert (stream.text, len(conversation)) == ("reply", 0)
    conversation.append("user", "one")
    conversation.append("assistant", stream.text)
    assert conversation.messages == turns("one", "reply")
    del stream
    assert client.stats().active_connections == 0


def test_a_stream_that_broke_adds_nothing(
    canned: Canned, begin: Callable[..., Conversation]
) -> None:
    """A cut is an error, and half a reply is none."""
    conversation = begin()
    canned.answer = lambda _: (200, EVENTS, OPENAI.begin() + OPENAI.text("half"))
    stream = conversation.stream("one")
    with pytest.raises(StreamInterrupted) as caught:
        list(stream)
    assert (caught.value.partial, len(conversation)) == ("half", 0)


def test_two_who_ask_at_once_ask_with_what_was_there(
    canned: Canned, begin: Callable[..., Conversation]
) -> None:
    """Neither sees the other's question; both pairs are added whole."""
    both = threading.Barrier(2)

    def together(request: Request) -> tuple[int, dict[str, str], Any]:
        both.wait(20)
        return 200, {}, good_body("to " + said(request)[-1]["content"])

    conversation = begin()
    conversation.ask("zero")
    canned.answer = together
    threads = [
        threading.Thread(target=conversation.ask, args=(text,)) for text in ("left", "right")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for request in canned.seen[1:]:
        assert [one["content"] for one in said(request)][:-1] == ["zero", "reply 1"]
    pairs = [turns("left", "to left"), turns("right", "to right")]
    kept = conversation.messages[2:]
    assert kept in (pairs[0] + pairs[1], pairs[1] + pairs[0])


def test_many_threads_ask_one_conversation(
    canned: Canned, begin: Callable[..., Conversation], client: Client
) -> None:
    """Asked and streamed from everywhere, it has whole pairs, and every question sees such."""
    canned.answer = lambda request: (
        (200, EVENTS, OPENAI.begin() + OPENAI.text(last(request)) + OPENAI.finish() + OPENAI.end)
        if request.body.get("stream")
        else (200, {}, good_body(last(request)))
    )

    def last(request: Request) -> str:
        return "to " + str(said(request)[-1]["content"])

    conversation = begin()
    barrier = threading.Barrier(8)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            barrier.wait(20)
            for at in range(4):
                question = f"{number}/{at}"
                if at % 2:
                    assert conversation.ask(question).text == f"to {question}"
                else:
                    assert "".join(conversation.stream(question)) == f"to {question}"
                assert len(conversation.copy().messages) % 2 == 0
                Conversation.from_json(conversation.to_json())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    kept = [one["content"] for one in conversation]
    assert len(kept) == 64
    assert all(reply == f"to {asked}" for asked, reply in zip(kept[::2], kept[1::2], strict=True))
    for request in canned.seen:
        before = [one["content"] for one in said(request)][:-1]
        pairs = zip(before[::2], before[1::2], strict=True)
        assert all(reply == f"to {asked}" for asked, reply in pairs)
    stats = client.stats()
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


def test_nobody_waits_for_one_who_asks(canned: Canned, begin: Callable[..., Conversation]) -> None:
    """While a question is out, the conversation can be read, appended to, copied and saved."""
    asked, go_on = threading.Event(), threading.Event()

    def wait(request: Request) -> tuple[int, dict[str, str], Any]:
        asked.set()
        go_on.wait(20)
        return answer(request)

    canned.answer = wait
    conversation = begin()
    thread = threading.Thread(target=conversation.ask, args=("one",))
    thread.start()
    assert asked.wait(20)
    conversation.append("system", "meanwhile")
    assert len(conversation.copy()) == 1
    assert "meanwhile" in conversation.to_json()
    go_on.set()
    thread.join()
    assert [one["content"] for one in conversation] == ["meanwhile", "one", "reply 1"]


def test_a_question_can_be_cancelled(canned: Canned, begin: Callable[..., Conversation]) -> None:
    """A token of the conversation ends each of its questions; nothing is added."""
    asked, go_on = threading.Event(), threading.Event()

    def wait(request: Request) -> tuple[int, dict[str, str], Any]:
        asked.set()
        go_on.wait(20)
        return answer(request)

    canned.answer = wait
    token = CancelToken()
    conversation = begin(cancel=token)
    watcher = threading.Thread(target=lambda: asked.wait(20) and token.cancel())
    watcher.start()
    with pytest.raises(CallCancelled):
        conversation.ask("one")
    watcher.join()
    go_on.set()
    assert len(conversation) == 0


def test_a_picture_is_saved_and_asked_with_again(
    canned: Canned, begin: Callable[..., Conversation], client: Client, tmp_path: Path
) -> None:
    """After a load the request is the same as it would have been."""
    conversation = begin()
    conversation.ask(["What is this?", Image(PNG)])
    conversation.save(tmp_path / "kept.json")
    again = Conversation.load(
        tmp_path / "kept.json", client, base_url=canned.url, api_key="k", temperature=0.5
    )
    conversation.ask("And now?")
    again.ask("And now?")
    one, two = (request.body for request in canned.seen[1:])
    assert one == {name: two[name] for name in two if name != "temperature"}
    assert "data:image/png;base64," in json.dumps(one)


def test_half_a_character_of_a_reply_spoils_nothing(
    canned: Canned, begin: Callable[..., Conversation], tmp_path: Path
) -> None:
    """A reply with a lone surrogate can be asked with again, and saved."""
    content = [
        {"type": "thinking", "thinking": "half \ud83c", "signature": "s"},
        {"type": "text", "text": "a \ud83c b"},
    ]
    whole = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": content}
    canned.answer = lambda _: (200, {}, {**whole, "stop_reason": "end_turn"})
    conversation = begin("claude-opus-5-5")
    assert conversation.ask("one").text == "a \ufffd b"
    conversation.save(tmp_path / "kept.json")
    canned.answer = answer
    conversation.ask("two")
    sent = said(canned.seen[-1])[1]["content"]
    assert sent[0] == {"type": "thinking", "thinking": "half \ufffd", "signature": "s"}


def test_its_tokens_are_counted_with_all_that_was_said(
    canned: Canned, begin: Callable[..., Conversation]
) -> None:
    """What the next question would cost, before it is asked."""
    conversation = begin("claude-opus-5-5", max_tokens=5)
    conversation.ask("one")
    canned.answer = lambda _: (200, {}, {"input_tokens": 12})
    assert conversation.count_tokens("two") == 12
    assert conversation.count_tokens() == 12
    assert canned.seen[1].path == "/v1/messages/count_tokens"
    assert said(canned.seen[1]) == turns("one", "reply 1", "two")
    assert said(canned.seen[2]) == turns("one", "reply 1")
    assert len(conversation) == 2


def test_what_is_torn_away_shows_no_secret(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C in a question, a stream or a wait passes through clean frames; nothing is added."""
    options: dict[str, Any] = {"api_key": KEY, "system": PROMPT}
    for failure in (KeyboardInterrupt, MemoryError, RuntimeError):
        with Client(HttpClientConfig(trust_env=False)) as client:
            conversation = Conversation("m", client=client, base_url=canned.url, **options)
            for ask in (conversation.ask, conversation.stream, conversation.count_tokens):
                with monkeypatch.context() as patch:
                    break_reads(patch, failure)
                    with pytest.raises(failure) as caught:
                        ask(PROMPT)
                must_hide(frames_with_locals(caught.value))
            stream = conversation.stream(PROMPT)
            with contextlib.ExitStack() as stack:
                patch = stack.enter_context(monkeypatch.context())
                patch.setattr("termai_http._stream.EventSource.next", raising(failure))
                caught = stack.enter_context(pytest.raises(failure))
                next(stream)
            must_hide(frames_with_locals(caught.value))
            assert (len(conversation), client.stats().calls.in_flight) == (0, 0)
        with Client(HttpClientConfig(trust_env=False), _clock=Clock(wait=raising(failure))) as torn:
            url = f"http://127.0.0.1:{closed_port()}"
            with pytest.raises(failure) as caught:
                Conversation("m", client=torn, base_url=url, **options).ask(PROMPT)
            must_hide(frames_with_locals(caught.value))


def test_an_error_repeats_no_secret(canned: Canned, begin: Callable[..., Conversation]) -> None:
    """A server that quotes all that was said is not quoted."""
    conversation = begin(api_key=KEY, system=PROMPT)
    conversation.append("user", PROMPT)
    canned.answer = lambda request: (
        400,
        {},
        {"error": {"message": f"{request.headers} {request.body}"}},
    )
    for ask in (conversation.ask, conversation.stream, conversation.count_tokens):
        with pytest.raises(BadRequestError) as caught:
            ask(PROMPT)
        must_hide(everything(caught.value))


@pytest.mark.parametrize(
    ("model", "options"),
    [("gpt-5.5", {}), ("gpt-5.5", {"api": "responses"}), ("claude-opus-5-5", {})],
)
def test_the_loopback_server_talks(
    server: Server, client: Client, tmp_path: Path, model: str, options: dict[str, Any]
) -> None:
    """Asked, streamed, counted, saved and gone on with, in every dialect."""
    given = {"base_url": server.url, "api_key": "k", **options}
    conversation = Conversation(model, system="Be brief.", client=client, **given)
    assert conversation.ask("one").text == "You said: one"
    with conversation.stream("two") as stream:
        assert "".join(stream) == "You said: two"
    conversation.save(tmp_path / "kept.json")
    again = Conversation.load(tmp_path / "kept.json", client, **given)
    assert again.count_tokens("three") > again.count_tokens() > 0
    assert again.ask("three").text == "You said: three"
    assert (len(conversation), len(again)) == (4, 6)
    assert again.messages[:4] == conversation.messages
    assert client.stats().opened == 1
