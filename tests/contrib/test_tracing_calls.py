"""Spans of real calls over real sockets, beside OpenTelemetry's own instrumentations."""

from __future__ import annotations

import contextvars
import gc
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.trace import StatusCode

import termai_http
from termai_http import (
    AuthenticationError,
    BadRequestError,
    CallCancelled,
    CancelToken,
    Client,
    ConfigurationError,
    Conversation,
    HttpClientConfig,
    OpenAIAdapter,
    RateLimitError,
    RequestHandler,
    RetryConfig,
    StreamInterrupted,
    TermaiHttpError,
)
from termai_http.contrib import _tracing_content
from termai_http.contrib.tracing import Tracing
from termai_http.layers import BuiltLayer, CallRequest, Layer, Outcome
from termai_http.testing import (
    CutAfter,
    Raw,
    RecordedRequest,
    Server,
    Silent,
    Status,
    Text,
    ToolCalls,
)
from tests.contrib.tracing_spans import Recorder
from tests.faults.rows_process import Child

KEY = "sk-tracing-0123456789abcdef"
PROMPT = "What did the quick brown fox do yesterday?"
CHAT = "chat gpt-5.5"
PATIENCE = 30.0

Made = Callable[..., AbstractContextManager[Client]]


@pytest.fixture
def recorder() -> Recorder:
    """What keeps the spans."""
    return Recorder()


@pytest.fixture(params=["listener", "layer"])
def traced(
    request: pytest.FixtureRequest, recorder: Recorder, fast: RetryConfig
) -> Iterator[Client]:
    """A client with spans, in each of the two ways."""
    tracing = Tracing(tracer_provider=recorder.provider)
    layers = (tracing,) if request.param == "layer" else ()
    with Client(HttpClientConfig(retry=fast, trust_env=False, layers=layers)) as client:
        if request.param == "listener":
            client.listen(tracing)
        yield client


@pytest.fixture(autouse=True)
def no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look for what OpenTelemetry logs of contexts and ended spans, and for what stays attached."""
    yield
    found = [record for record in caplog.get_records("call") if "opentelemetry" in record.name]
    failed = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert (found, failed) == ([], [])
    assert trace.get_current_span() is trace.INVALID_SPAN


def target(server: Server) -> dict[str, Any]:
    """Return the options of a call to the server."""
    return {"model": "gpt-5.5", "base_url": server.openai_url, "api_key": KEY}


@contextmanager
def nothing() -> Iterator[None]:
    """Expect no error."""
    yield


@contextmanager
def instrumented(instrumentor: Any, recorder: Recorder) -> Iterator[None]:
    """Let OpenTelemetry look at the attempts, too."""
    if instrumentor is None:
        yield
        return
    instrumentor().instrument(tracer_provider=recorder.provider)
    try:
        yield
    finally:
        instrumentor().uninstrument()


@pytest.mark.parametrize("instrumentor", [None, RequestsInstrumentor, URLLib3Instrumentor])
def test_a_retried_call_is_a_tree(
    recorder: Recorder, traced: Client, server: Server, instrumentor: Any
) -> None:
    """The caller's span, the call, its attempts, and what instruments their requests."""
    server.script(Status(503))
    with instrumented(instrumentor, recorder), recorder.mine() as mine:
        reply = traced.chat(PROMPT, **target(server))
        assert trace.get_current_span() is mine
    inner = [] if instrumentor is None else [f"mine > {CHAT} > attempt > POST"]
    attempt = [*inner, f"mine > {CHAT} > attempt"]
    assert recorder.paths() == [*attempt, *attempt, f"mine > {CHAT}", "mine"]
    said = recorder.attributes(CHAT)
    assert said["termai_http.attempts"] == 2
    assert said["termai_http.request_id"] == reply.request_id
    assert said["server.port"] == int(server.url.rpartition(":")[2])
    assert said["gen_ai.usage.input_tokens"] == reply.usage.input_tokens
    assert said["gen_ai.usage.output_tokens"] == reply.usage.output_tokens
    assert said["gen_ai.response.model"] == reply.model
    assert said["gen_ai.response.id"] == reply.id
    assert said["gen_ai.response.finish_reasons"] == (reply.finish_reason,)
    assert [event.name for event in recorder.one(CHAT).events].count("retry") == 1
    failed, good = (span for span in recorder.spans if span.name == "attempt")
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "503"
    assert good.attributes is not None
    assert good.attributes["http.response.status_code"] == 200


def test_each_operation_has_a_span(recorder: Recorder, traced: Client, server: Server) -> None:
    """Embeddings, counts, models, health checks and raw requests are named as what they are."""
    where = {"base_url": server.openai_url, "api_key": KEY}
    traced.embed("a", model="text-embedding-3-small", **where)
    traced.list_models(provider="openai", **where)
    traced.count_tokens("a", model="claude-opus-5-5", base_url=server.claude_url, api_key=KEY)
    assert OpenAIAdapter(client=traced, **where).health_check()
    RequestHandler(traced).get_json(
        f"{server.openai_url}/models", {"Authorization": f"Bearer {KEY}"}
    )
    assert [path for path in recorder.paths() if "attempt" not in path] == [
        "embeddings text-embedding-3-small",
        "list_models",
        "count_tokens claude-opus-5-5",
        "health_check",
        "request",
    ]
    assert len(recorder.spans) == 10
    assert recorder.attributes("count_tokens claude-opus-5-5")["gen_ai.provider.name"] == (
        "anthropic"
    )
    assert "gen_ai.operation.name" not in recorder.attributes("request")


def test_a_stream_is_read_wherever_its_reader_is(
    recorder: Recorder, traced: Client, server: Server
) -> None:
    """The caller's span is current once it is open; another thread may read it to its end."""
    with recorder.mine() as mine:
        usage = {"stream_options": {"include_usage": True}}
        stream = traced.stream(PROMPT, extra_body=usage, **target(server))
        assert trace.get_current_span() is mine
    assert recorder.paths() == ["attempt", "mine"]
    with recorder.mine("reader"):
        reading = threading.Thread(
            target=contextvars.copy_context().run, args=(list, stream), daemon=True
        )
        reading.start()
        reading.join(PATIENCE)
    assert recorder.paths() == [f"mine > {CHAT} > attempt", "mine", f"mine > {CHAT}", "reader"]
    said = recorder.attributes(CHAT)
    assert said["gen_ai.response.time_to_first_chunk"] == pytest.approx(
        stream.time_to_first_token, abs=0.2
    )
    assert stream.response is not None
    assert said["gen_ai.usage.output_tokens"] == stream.response.usage.output_tokens > 0
    assert said["gen_ai.request.stream"] is True


def test_what_a_reader_does_between_two_pieces_is_its_own(
    recorder: Recorder, traced: Client, server: Server
) -> None:
    """A span made while a stream is read is a child of the reader's, not of the call's."""
    with recorder.mine(), traced.stream(PROMPT, **target(server)) as stream:
        next(stream)
        with recorder.mine("work"):
            pass
        list(stream)
    assert "mine > work" in recorder.paths()


@pytest.mark.parametrize("how", ["broken", "left", "dropped", "refused"])
def test_a_stream_that_does_not_come_to_its_end(
    recorder: Recorder, traced: Client, server: Server, how: str
) -> None:
    """However a stream ends, its span does, and says how."""
    server.script(*{"broken": [CutAfter(4)], "refused": [Status(401)]}.get(how, [Text("a b c d")]))
    with recorder.mine() as mine:
        errors = (StreamInterrupted,) if how == "broken" else (AuthenticationError,)
        with pytest.raises(errors) if how in ("broken", "refused") else nothing():
            stream = traced.stream(PROMPT, **target(server))
            next(stream)
            if how == "broken":
                list(stream)
            elif how == "left":
                stream.close()
            else:
                del stream
                gc.collect()
        assert trace.get_current_span() is mine
    # What was dropped is told with the next call.
    traced.chat(PROMPT, **{**target(server), "model": "next"})
    status, said = recorder.one(CHAT).status.status_code, recorder.attributes(CHAT)
    assert (status is StatusCode.ERROR) == (how in ("broken", "refused"))
    assert said.get("termai_http.stream_left", False) == (how in ("left", "dropped"))
    wanted = {"broken": "StreamInterrupted", "refused": "AuthenticationError"}
    assert said.get("error.type") == wanted.get(how)


def test_a_cancelled_call_is_an_error(recorder: Recorder, traced: Client, server: Server) -> None:
    """Who ends a call from another thread ends its span, and the caller's context is restored."""
    server.script(Silent())
    token, came = CancelToken(), threading.Event()

    def cancel() -> None:
        came.wait(PATIENCE)
        token.cancel()

    server.fail_when(lambda request: came.set())  # type: ignore[func-returns-value]
    threading.Thread(target=cancel, daemon=True).start()
    with recorder.mine() as mine:
        with pytest.raises(CallCancelled):
            traced.chat(PROMPT, **target(server), cancel=token)
        assert trace.get_current_span() is mine
    assert recorder.attributes(CHAT)["error.type"] == "CallCancelled"
    assert recorder.one("attempt").status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    "when", ["CallStarted", "AttemptStarted", "FirstToken", "AttemptSucceeded", "CallSucceeded"]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_an_interrupt_leaves_nothing_attached(
    recorder: Recorder, traced: Client, server: Server, when: str, streaming: bool
) -> None:
    """Wherever Ctrl-C tears a call away, its spans end, and the caller's own is current."""

    def tear(event: Any) -> None:
        if type(event).__name__ == when:
            raise KeyboardInterrupt

    traced.listen(tear)
    torn = streaming or when != "FirstToken"
    with recorder.mine() as mine:
        with pytest.raises(KeyboardInterrupt) if torn else nothing():
            if streaming:
                list(traced.stream(PROMPT, **target(server)))
            else:
                traced.chat(PROMPT, **target(server))
        assert trace.get_current_span() is mine
    gc.collect()
    traced.close()
    assert recorder.paths().count(f"mine > {CHAT}") == 1
    assert all(path.startswith("mine") for path in recorder.paths())


def test_the_items_of_a_batch_are_the_callers(
    recorder: Recorder, traced: Client, server: Server
) -> None:
    """Each call of ``chat_many`` is a child of the caller's span, in whichever thread it runs."""
    with recorder.mine() as mine:
        batch = traced.chat_many([f"{n}" for n in range(40)], max_workers=8, **target(server))
        replies = list(batch)
        assert trace.get_current_span() is mine
    assert len(replies) == 40
    assert recorder.paths().count(f"mine > {CHAT}") == 40
    assert recorder.paths().count(f"mine > {CHAT} > attempt") == 40


def test_the_items_of_a_batch_on_another_executor(
    recorder: Recorder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On threads of the user's own the items are the caller's, too."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    layers = (Tracing(tracer_provider=recorder.provider),)
    termai_http.initialize(HttpClientConfig(trust_env=False, layers=layers))
    with ThreadPoolExecutor(4) as pool, recorder.mine():
        where = {"model": "gpt-5.5", "base_url": server.openai_url}
        assert len(list(termai_http.chat_many(["a", "b", "c"], executor=pool, **where))) == 3
    assert recorder.paths().count(f"mine > {CHAT}") == 3


def test_tools_and_conversations_are_the_callers(
    recorder: Recorder, traced: Client, server: Server
) -> None:
    """A function of ``run_tools`` has the caller's span, and so has each call of a conversation."""
    seen: list[Any] = []

    def look(city: str) -> str:
        """Look at a city."""
        seen.append(trace.get_current_span())
        return traced.chat(city, **{**target(server), "model": "inner"}).text

    server.script(ToolCalls(("look", {"city": "Rome"})), Text("Fine."), Text("Sunny."))
    with recorder.mine() as mine:
        traced.run_tools(PROMPT, tools=[look], **target(server))
        Conversation("gpt-5.5", client=traced, base_url=server.openai_url, api_key=KEY).ask("Hi")
    assert seen == [mine]
    calls = [path for path in recorder.paths() if path.count(">") == 1]
    assert calls == [f"mine > {CHAT}", "mine > chat inner", f"mine > {CHAT}", f"mine > {CHAT}"]


def test_nothing_of_key_and_prompt_is_in_a_span(
    recorder: Recorder, traced: Client, server: Server
) -> None:
    """Not of a good call, and not of one whose refusal repeats what was asked."""
    body = json.dumps({"error": {"message": f"No: {PROMPT} {KEY}", "code": "bad"}}).encode()
    head = b"HTTP/1.1 400 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    server.script(Text(PROMPT), Raw(head % len(body) + body))
    traced.chat(PROMPT, **target(server))
    with pytest.raises(BadRequestError):
        traced.chat(PROMPT, **target(server))
    assert len(recorder.spans) == 4
    said = "".join(span.to_json() for span in recorder.spans)
    assert PROMPT not in said
    assert KEY not in said


def test_a_refusal_has_its_class_and_status(
    recorder: Recorder, traced: Client, server: Server
) -> None:
    """The call's span has the error's class, the attempt's the status."""
    server.script(Status(429, retry_after=600))
    with pytest.raises(RateLimitError):
        traced.chat(PROMPT, **target(server))
    assert recorder.attributes(CHAT)["error.type"] == "RateLimitError"
    assert recorder.attributes("attempt")["error.type"] == "429"


def test_many_threads_keep_their_traces_apart(
    recorder: Recorder, traced: Client, server: Server
) -> None:
    """Under 32 threads each call, retried or streamed, lies in its own thread's span."""

    def every_third_fails(request: RecordedRequest) -> Status | None:
        return Status(503) if json.loads(request.body)["model"] not in done else None

    done: set[str] = set()
    failures: list[BaseException] = []
    barrier = threading.Barrier(32)

    def work(number: int) -> None:
        name = f"m{number}"
        try:
            barrier.wait(PATIENCE)
            with recorder.mine(name) as mine:
                if number % 3:
                    done.add(name)
                with pytest.raises(TermaiHttpError) if number % 3 == 0 else nothing():
                    traced.chat("a", **{**target(server), "model": name})
                assert trace.get_current_span() is mine
                done.add(name)
                for _ in traced.stream("b", **{**target(server), "model": name}):
                    assert trace.get_current_span() is mine
        except BaseException as error:
            failures.append(error)

    server.fail_when(every_third_fails)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    paths = recorder.paths()
    for number in range(32):
        name, tried = f"m{number}", 2 if number % 3 else 4
        assert paths.count(f"{name} > chat {name}") == 2
        assert paths.count(f"{name} > chat {name} > attempt") == tried
    assert len(paths) == sum(1 + 2 + (2 if number % 3 else 4) for number in range(32))


def test_a_child_has_its_own_spans(recorder: Recorder, traced: Client, server: Server) -> None:
    """A child's calls lie in the span it was forked in, and it ends no span of its parent."""
    with recorder.mine():
        stream = traced.stream(PROMPT, **target(server))
        next(stream)

        def work() -> list[str]:
            before = len(recorder.spans)
            traced.chat("a", **{**target(server), "model": "child"})
            stream.close()
            return [
                f"{span.name} {span.parent.span_id if span.parent else None}"
                for span in recorder.spans[before:]
                if "child" in span.name or span.name == CHAT
            ]

        told = Child(work).result()
        list(stream)
    mine = recorder.one("mine").context.span_id
    assert told == [f"chat child {mine}"]
    assert f"mine > {CHAT}" in recorder.paths()


def made(recorder: Recorder, **wished: bool) -> Client:
    """Make a client whose layer does more than to make spans."""
    layers = (Tracing(tracer_provider=recorder.provider, **wished),)
    retry = RetryConfig(base_delay=0.001, max_delay=0.002)
    return Client(HttpClientConfig(retry=retry, trust_env=False, layers=layers))


def messages(recorder: Recorder, which: str) -> list[Any]:
    """Return the messages in the span of the only call."""
    found: list[Any] = json.loads(recorder.attributes(CHAT)[f"gen_ai.{which}.messages"])
    return found


def spoken(text: str, role: str = "assistant") -> list[Any]:
    """Return one message that is text."""
    return [{"role": role, "parts": [{"type": "text", "content": text}]}]


@pytest.mark.parametrize("streaming", [False, True])
def test_content_is_in_the_span_of_the_call(
    recorder: Recorder, server: Server, streaming: bool
) -> None:
    """Prompt and reply stand in the call's span, of a stream too, and in no other."""
    server.script(Status(503), Text("It jumped."))
    with made(recorder, content=True) as client:
        if streaming:
            list(client.stream(PROMPT, **target(server), temperature=0.5))
        else:
            client.chat(PROMPT, **target(server), temperature=0.5)
        client.embed(PROMPT, model="e", base_url=server.openai_url, api_key=KEY)
    assert messages(recorder, "input") == spoken(PROMPT, "user")
    assert messages(recorder, "output") == spoken("It jumped.")
    assert recorder.attributes(CHAT)["gen_ai.request.temperature"] == 0.5
    others = [span.to_json() for span in recorder.spans if span.name != CHAT]
    assert len(others) == 4
    assert PROMPT not in "".join(others)
    assert all(KEY not in span.to_json() for span in recorder.spans)


def test_content_of_a_stream_that_broke(recorder: Recorder, server: Server) -> None:
    """What came before the break is there."""
    server.script(CutAfter(3))
    with made(recorder, content=True) as client:
        stream = client.stream(PROMPT, **target(server))
        with pytest.raises(StreamInterrupted) as caught:
            list(stream)
    assert caught.value.partial
    assert messages(recorder, "output") == spoken(caught.value.partial)


@pytest.mark.parametrize("how", ["left", "dropped", "refused"])
def test_content_without_a_reply(recorder: Recorder, server: Server, how: str) -> None:
    """A call that has no whole reply has its prompt alone, and its span is ended once."""
    if how == "refused":
        server.script(Status(401))
    with made(recorder, content=True) as client:
        with pytest.raises(AuthenticationError) if how == "refused" else nothing():
            stream = client.stream(PROMPT, **target(server))
            next(stream)
            if how == "left":
                stream.close()
        stream = None  # type: ignore[assignment]
        gc.collect()
    assert messages(recorder, "input") == spoken(PROMPT, "user")
    assert "gen_ai.output.messages" not in recorder.attributes(CHAT)


def test_what_cannot_be_read_breaks_no_call(
    recorder: Recorder,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault in the reading of content is logged without a word of it."""

    def broken(body: Any) -> Any:
        raise ValueError(PROMPT)

    monkeypatch.setattr(_tracing_content, "of_request", broken)
    with made(recorder, content=True) as client:
        assert client.chat(PROMPT, **target(server)).text
    assert recorder.attributes(CHAT)["gen_ai.output.messages"]
    assert "A span goes without its content: ValueError" in caplog.text
    assert PROMPT not in caplog.text


def test_no_content_is_read_of_what_is_not_recorded(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is not sampled costs no reading of its body."""
    recorder = Recorder(sampled=False)
    monkeypatch.setattr(_tracing_content, "of_request", None)
    monkeypatch.setattr(_tracing_content, "of_outcome", None)
    with made(recorder, content=True) as client:
        client.chat(PROMPT, **target(server))
        list(client.stream(PROMPT, **target(server)))
    assert recorder.spans == []


def test_no_trace_goes_out_unasked(traced: Client, server: Server, recorder: Recorder) -> None:
    """Without a wish for it no request names a trace."""
    with recorder.mine():
        traced.chat(PROMPT, **target(server))
    assert not {"traceparent", "tracestate", "baggage"} & set(server.requests[0].headers)


@pytest.mark.parametrize("sampled", [True, False])
def test_the_trace_goes_out_on_wish(server: Server, sampled: bool) -> None:
    """Each attempt names the call's span and whether it is recorded; baggage stays at home."""
    recorder = Recorder(sampled=sampled)
    server.script(Status(503))
    token = context.attach(baggage.set_baggage("user", "Alice"))
    try:
        with recorder.mine(), made(recorder, propagate=True) as client:
            client.chat(PROMPT, **target(server))
    finally:
        context.detach(token)
    first, second = (request.headers for request in server.requests)
    assert first["traceparent"] == second["traceparent"]
    assert "baggage" not in first
    _, trace_id, span_id, flags = first["traceparent"].split("-")
    assert int(flags, 16) & 1 == sampled
    if sampled:
        span = recorder.one(CHAT).context
        assert (int(trace_id, 16), int(span_id, 16)) == (span.trace_id, span.span_id)


def test_the_trace_of_a_server_goes_on_without_an_sdk(server: Server) -> None:
    """With the API alone the trace that came in goes out as it is."""
    parent = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    tracing = Tracing(tracer_provider=trace.NoOpTracerProvider(), propagate=True)
    try:
        with Client(HttpClientConfig(trust_env=False, layers=(tracing,))) as client:
            client.chat(PROMPT, **target(server))
    finally:
        context.detach(token)
    assert server.requests[0].headers["traceparent"] == f"00-{1:032x}-{2:016x}-01"


def test_the_layer_of_one_call(recorder: Recorder, client: Client, server: Server) -> None:
    """``layers=`` and ``on_event=`` of a call trace that one alone."""
    tracing = Tracing(tracer_provider=recorder.provider)
    client.chat(PROMPT, **target(server))
    client.chat(PROMPT, layers=[tracing], **target(server))
    client.chat(PROMPT, on_event=tracing, **target(server))
    assert recorder.paths() == [f"{CHAT} > attempt", CHAT] * 2


class Kept(BuiltLayer):
    """Answers a call from what it kept, as a cache does."""

    def __init__(self) -> None:
        self._kept: Any = None

    def around_call(self, request: CallRequest, send: Any) -> Outcome[Any]:
        """Ask once."""
        if self._kept is None:
            self._kept = send(request)
        return self._kept  # type: ignore[no-any-return]


@attrs.frozen
class Keeping(Layer):
    """Describes it."""

    name = "keeping"

    def build(self, config: Any, clock: Any) -> BuiltLayer:
        """Make one."""
        return Kept()


def test_what_no_attempt_was_made_for_is_marked(recorder: Recorder, server: Server) -> None:
    """A reply out of a layer has a span without an attempt, marked as cached."""
    layers = (Tracing(tracer_provider=recorder.provider), Keeping())
    with Client(HttpClientConfig(trust_env=False, layers=layers)) as client:
        client.chat(PROMPT, **target(server))
        client.chat(PROMPT, **target(server))
    assert recorder.paths() == [f"{CHAT} > attempt", CHAT, CHAT]
    said = recorder.spans[-1].attributes
    assert said is not None
    assert said["termai_http.cached"] is True
    assert "gen_ai.usage.input_tokens" not in said


@pytest.mark.parametrize("wished", ["content", "propagate"])
def test_a_listener_that_cannot_do_what_is_wished_is_refused(client: Client, wished: str) -> None:
    """What needs the request is refused where a listener is given."""
    tracing, words = Tracing(**{wished: True}), rf"Tracing\({wished}=True\) must be a layer"
    with pytest.raises(ConfigurationError, match=words):
        client.listen(tracing)
    with pytest.raises(ConfigurationError, match=words), client.listening(tracing):
        pass
    with pytest.raises(ConfigurationError, match=words):
        client.chat(PROMPT, model="gpt-5.5", api_key=KEY, on_event=tracing)
