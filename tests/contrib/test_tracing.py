"""Spans made of events that are given by hand, on OpenTelemetry's real SDK."""

from __future__ import annotations

import contextvars
import copy
import logging
import pickle
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, StatusCode

from termai_http import Client, ConfigurationError, HttpClientConfig, _events
from termai_http._events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CallFailed,
    CallStarted,
    CallSucceeded,
    FirstToken,
    RetryScheduled,
    SlotWaited,
)
from termai_http.contrib import _tracing_spans
from termai_http.contrib.tracing import Tracing
from termai_http.layers import BuiltLayer
from tests.contrib.tracing_spans import Recorder
from tests.docs_pages import DOCS

CHAT = "chat gpt-5.5"


class Script:
    """Tells the events of calls, as a client would.

    Args:
        recorder: Who keeps the spans.
        number: The number of the call.
    """

    def __init__(self, recorder: Recorder, number: int = 1) -> None:
        self.tracing = Tracing(tracer_provider=recorder.provider)
        self.number = number

    def __call__(self, make: Callable[..., Any], **fields: Any) -> None:
        """Tell an event of the call, the fields left out being filled."""
        usual = {
            "call_id": self.number,
            "provider": "openai",
            "model": "gpt-5.5",
            "attempt": 1,
            "attempts": 1,
            "status_code": 200,
            "request_id": "req_1",
            "elapsed": 0.5,
            "reused": True,
            "cause": "503",
        }
        known = {field.name for field in make.__attrs_attrs__}  # type: ignore[attr-defined]
        given = {name: value for name, value in usual.items() if name in known}
        self.tracing(make(**{**given, **fields}))


@pytest.fixture
def recorder() -> Recorder:
    """What keeps the spans."""
    return Recorder()


@pytest.fixture
def tell(recorder: Recorder) -> Script:
    """Tells the events of one call."""
    return Script(recorder)


def current() -> Any:
    """Return the current span."""
    return trace.get_current_span()


def left(tell: Script) -> int:
    """Return how many calls are remembered."""
    return len(tell.tracing._spans._calls)


def test_a_call_has_the_conventions_attributes(recorder: Recorder, tell: Script) -> None:
    """The span of a call bears the conventions' name, kind and attributes, and nothing else."""
    tell(CallStarted, host="api.openai.com", port=443)
    tell(
        CallSucceeded,
        input_tokens=9,
        output_tokens=12,
        cached_tokens=4,
        reasoning_tokens=2,
        cost=0.25,
        response_model="gpt-5.5-2026",
        response_id="chatcmpl-1",
        finish_reason="stop",
    )
    span = recorder.one(CHAT)
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert recorder.attributes(CHAT) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5.5",
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.response.model": "gpt-5.5-2026",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "termai_http.request_id": "req_1",
        "termai_http.attempts": 1,
        "termai_http.cost_usd": 0.25,
    }
    assert left(tell) == 0


@pytest.mark.parametrize(
    ("operation", "name", "said"),
    [
        ("chat", "chat m", "chat"),
        ("embeddings", "embeddings m", "embeddings"),
        ("count", "count_tokens m", "count_tokens"),
        ("models", "list_models m", "list_models"),
        ("health", "health_check m", "health_check"),
        ("request", "request m", None),
    ],
)
def test_each_operation_has_its_name(
    recorder: Recorder, tell: Script, operation: str, name: str, said: str | None
) -> None:
    """Claude is called anthropic, and what is no operation of the conventions' is named plainly."""
    tell(CallStarted, operation=operation, provider="claude", model="m")
    tell(CallSucceeded, operation=operation)
    assert recorder.attributes(name).get("gen_ai.operation.name") == said
    assert recorder.attributes(name)["gen_ai.provider.name"] == "anthropic"


def test_a_request_without_a_model_has_a_short_name(recorder: Recorder, tell: Script) -> None:
    """A raw request is no operation of a model: it has neither model nor provider."""
    tell(CallStarted, operation="request", provider=None, model=None, host="h")
    tell(CallSucceeded, operation="request")
    assert recorder.attributes("request") == {
        "server.address": "h",
        "termai_http.request_id": "req_1",
        "termai_http.attempts": 1,
    }


def test_a_retry_is_told_by_two_attempts_and_an_event(recorder: Recorder, tell: Script) -> None:
    """Each attempt is a span below the call's, and the wait between is an event of the call's."""
    with recorder.mine():
        tell(CallStarted, host="h", port=1)
        tell(AttemptStarted)
        tell(SlotWaited, seconds=0.1, got=True)
        tell(AttemptFailed, status_code=503, error="InternalServerError")
        tell(RetryScheduled, wait=0.5, status_code=503)
        tell(AttemptStarted, attempt=2)
        tell(AttemptSucceeded, attempt=2)
        tell(CallSucceeded, attempts=2)
    assert recorder.paths() == [f"mine > {CHAT} > attempt"] * 2 + [f"mine > {CHAT}", "mine"]
    first, second, call, _ = recorder.spans
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.ERROR,
        StatusCode.UNSET,
    )
    assert first.attributes == {
        "termai_http.attempt": 1,
        "server.address": "h",
        "server.port": 1,
        "http.response.status_code": 503,
        "error.type": "503",
        "termai_http.cause": "503",
        "termai_http.request_id": "req_1",
    }
    assert second.attributes is not None
    assert second.attributes["http.request.resend_count"] == 1
    assert second.attributes["termai_http.connection_reused"] is True
    ((waited,), (retried,)) = (first.events, call.events)
    assert (waited.name, waited.attributes) == ("slot waited for", {"seconds": 0.1, "got": True})
    assert retried.name == "retry"
    assert retried.attributes == {
        "attempt": 1,
        "cause": "503",
        "wait": 0.5,
        "status_code": 503,
        "request_id": "req_1",
    }


def test_every_event_of_a_span_has_a_class() -> None:
    """The table of the spans' events names classes that there are."""
    assert set(_tracing_spans.names.EVENTS) <= set(_events.__all__)


def test_the_page_names_all_that_a_span_can_tell() -> None:
    """Each name of the table, and each version, stands on the page about tracing."""
    page, names = (DOCS / "tracing.rst").read_text("utf-8"), _tracing_spans.names
    known = {name: value for name, value in vars(names).items() if name.isupper()}
    told = set(re.findall(r"``((?:gen_ai|http|server|error|termai_http)\.[\w.]+)``", page))
    named = {value for value in known.values() if isinstance(value, str) and "." in value}
    assert told == {*named, *names.REQUEST_FIELDS.values()}
    assert all(version in page for version in names.CONVENTIONS.values())


def test_a_failure_is_an_error_without_a_word_of_it(recorder: Recorder, tell: Script) -> None:
    """A failed call has the status of an error and its class, and no description."""
    tell(CallStarted)
    tell(AttemptStarted)
    tell(AttemptFailed, cause="connect", status_code=None, request_id=None, error="DNSError")
    tell(CallFailed, error="DNSError", status_code=None, request_id=None)
    for name in (CHAT, "attempt"):
        span = recorder.one(name)
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert recorder.attributes(name)["error.type"] == "DNSError"
    assert recorder.spans[-1].events == ()


def test_an_interrupt_is_told_as_such(recorder: Recorder, tell: Script) -> None:
    """What ends by something else than an error has the words that the events have for it."""
    tell(CallStarted)
    tell(AttemptStarted)
    tell(AttemptFailed, cause="interrupted", status_code=None, request_id=None)
    tell(CallFailed, error="Interrupted", status_code=None, request_id=None)
    assert recorder.attributes("attempt")["error.type"] == "interrupted"
    assert recorder.attributes(CHAT)["error.type"] == "Interrupted"


def test_what_a_failure_cost_is_told(recorder: Recorder, tell: Script) -> None:
    """A reply that was billed and could not be used has its tokens in the span."""
    tell(CallStarted)
    tell(CallFailed, error="OutputError", input_tokens=3, output_tokens=4, cost=0.5)
    said = recorder.attributes(CHAT)
    assert (said["gen_ai.usage.input_tokens"], said["termai_http.cost_usd"]) == (3, 0.5)


def test_what_a_server_says_is_cut(recorder: Recorder, tell: Script) -> None:
    """However long the words of a server are, those in a span are short."""
    long = "x" * 1000
    said = dict.fromkeys(("request_id", "response_id", "response_model", "finish_reason"), long)
    tell(CallStarted)
    tell(CallSucceeded, **said)
    found = recorder.attributes(CHAT)
    assert found["gen_ai.response.finish_reasons"] == ("x" * 200,)
    assert [value for value in found.values() if value == "x" * 200] == ["x" * 200] * 3
    assert long not in found.values()


def test_a_cached_reply_is_marked(recorder: Recorder, tell: Script) -> None:
    """A call without an attempt came from the cache, and has no tokens of its own."""
    tell(CallStarted)
    tell(CallSucceeded, attempts=0)
    assert recorder.paths() == [CHAT]
    assert recorder.attributes(CHAT)["termai_http.cached"] is True
    assert "gen_ai.usage.input_tokens" not in recorder.attributes(CHAT)


def test_a_call_is_current_while_it_runs(recorder: Recorder, tell: Script) -> None:
    """Between the attempts the call's span is the current one, and in one the attempt's."""
    with recorder.mine() as mine:
        tell(CallStarted)
        assert current().name == CHAT
        tell(AttemptStarted)
        assert current().name == "attempt"
        tell(AttemptFailed)
        assert current().name == CHAT
        tell(CallFailed, error="InternalServerError")
        assert current() is mine
    assert current() is trace.INVALID_SPAN


def test_a_stream_leaves_the_callers_context_at_its_first_event(
    recorder: Recorder, tell: Script
) -> None:
    """Once ``stream()`` can return, the caller's span is current, and the call's goes on."""
    with recorder.mine() as mine:
        tell(CallStarted, streaming=True)
        assert current().name == CHAT
        tell(AttemptStarted)
        tell(AttemptSucceeded)
        assert current() is mine
        tell(FirstToken, elapsed=0.25)
        assert current() is mine
        assert recorder.paths() == ["attempt"]
    other = threading.Thread(target=tell, args=(CallSucceeded,), kwargs={"streaming": True})
    other.start()
    other.join()
    assert recorder.paths()[-1] == f"mine > {CHAT}"
    said = recorder.attributes(CHAT)
    assert said["gen_ai.request.stream"] is True
    assert said["gen_ai.response.time_to_first_chunk"] == 0.25


def test_a_stream_from_the_cache_leaves_it_at_its_first_token(
    recorder: Recorder, tell: Script
) -> None:
    """Without an attempt it is the first token that ends the time inside the call."""
    with recorder.mine() as mine:
        tell(CallStarted, streaming=True)
        tell(FirstToken)
        assert current() is mine


def test_a_stream_that_breaks_says_so(recorder: Recorder, tell: Script) -> None:
    """One that fails after its begin has the reason ``error`` and the status of an error."""
    tell(CallStarted, streaming=True)
    tell(FirstToken)
    tell(CallFailed, error="StreamInterrupted", streaming=True)
    assert recorder.one(CHAT).status.status_code is StatusCode.ERROR
    assert recorder.attributes(CHAT)["gen_ai.response.finish_reasons"] == ("error",)


def test_a_stream_that_is_left_is_no_error(recorder: Recorder, tell: Script) -> None:
    """Its span is marked, and not as an error, and ends when it was left, whenever that is told."""
    tell(CallStarted, streaming=True)
    tell(FirstToken)
    tell(CallSucceeded, complete=False, elapsed=0.0, streaming=True)
    begin, end = recorder.one(CHAT).start_time, recorder.one(CHAT).end_time
    assert begin is not None
    assert end is not None
    assert abs(end - begin) < 1e6
    assert recorder.one(CHAT).status.status_code is StatusCode.UNSET
    assert recorder.attributes(CHAT)["termai_http.stream_left"] is True
    assert recorder.attributes(CHAT)["gen_ai.response.finish_reasons"] == ("error",)
    assert "error.type" not in recorder.attributes(CHAT)


def test_an_end_in_another_context_changes_nothing_there(recorder: Recorder, tell: Script) -> None:
    """A call that ends elsewhere than it began leaves the context there as it is, and no log."""
    here, elsewhere = contextvars.copy_context(), contextvars.copy_context()
    here.run(tell, CallStarted)
    here.run(tell, AttemptStarted)
    elsewhere.run(tell, AttemptSucceeded)
    elsewhere.run(tell, CallSucceeded)
    assert here.run(current).name == "attempt"
    assert elsewhere.run(current) is trace.INVALID_SPAN
    assert recorder.paths() == [f"{CHAT} > attempt", CHAT]


def test_a_span_of_the_users_between_call_and_attempt_stays_between(
    recorder: Recorder, tell: Script
) -> None:
    """What a layer of the user's attaches around an attempt is the attempt's parent."""
    tell(CallStarted)
    with recorder.mine("layer") as layer:
        tell(AttemptStarted)
        tell(AttemptSucceeded)
        assert current() is layer
    tell(CallSucceeded)
    assert recorder.paths()[0] == f"{CHAT} > layer > attempt"


def test_an_attempt_in_another_thread_is_the_calls(recorder: Recorder, tell: Script) -> None:
    """Where a layer makes the attempt elsewhere, it is the child of the call all the same."""

    def attempt() -> None:
        tell(AttemptStarted)
        tell(AttemptSucceeded)
        assert current() is trace.INVALID_SPAN

    tell(CallStarted)
    contextvars.Context().run(attempt)
    tell(CallSucceeded)
    assert recorder.paths() == [f"{CHAT} > attempt", CHAT]


def test_what_others_left_attached_goes_with_the_call(recorder: Recorder, tell: Script) -> None:
    """A context that was made of the call's, and never undone, does not outlive it."""
    with recorder.mine() as mine:
        tell(CallStarted)
        tell(AttemptStarted)
        context.attach(context.set_value("theirs", 1))
        tell(AttemptSucceeded)
        assert current().name == CHAT
        context.attach(context.set_value("theirs", 1))
        tell(CallSucceeded)
        assert current() is mine
        assert context.get_value("theirs") is None


def test_events_of_a_call_that_began_before_are_nothing(recorder: Recorder, tell: Script) -> None:
    """A listener that comes in the midst of a call makes no span, and keeps nothing."""
    for make in (AttemptStarted, AttemptSucceeded, RetryScheduled, FirstToken, CallSucceeded):
        tell(make, **({"wait": 1.0} if make is RetryScheduled else {}))
    tell(AttemptFailed)
    tell(CallFailed, error="X")
    tell(SlotWaited, call_id=None, seconds=1.0, got=True)
    assert (recorder.spans, left(tell)) == ([], 0)
    assert current() is trace.INVALID_SPAN


def test_attempts_whose_end_is_missed_are_ended(recorder: Recorder, tell: Script) -> None:
    """The next attempt, or the end of the call, ends one that was left open."""
    tell(CallStarted)
    tell(AttemptStarted)
    tell(AttemptStarted, attempt=2)
    tell(CallSucceeded)
    assert recorder.paths() == [f"{CHAT} > attempt", f"{CHAT} > attempt", CHAT]
    assert current() is trace.INVALID_SPAN


def test_calls_whose_end_is_missed_do_not_pile_up(
    recorder: Recorder, tell: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the bound the oldest is ended, and marked."""
    monkeypatch.setattr(_tracing_spans, "_MOST", 3)
    for number in range(5):
        contextvars.copy_context().run(tell, CallStarted, call_id=number, model=f"m{number}")
    assert left(tell) == 3
    assert recorder.paths() == ["chat m0", "chat m1"]
    assert recorder.attributes("chat m0")["termai_http.end_missed"] is True


def test_what_is_not_sampled_still_tells_its_context() -> None:
    """Instrumentation below sees the decision, no attempt is made a span, and nothing is kept."""
    recorder = Recorder(sampled=False)
    tell = Script(recorder)
    tell(CallStarted)
    below = current().get_span_context()
    assert (below.is_valid, below.trace_flags.sampled) == (True, False)
    tell(AttemptStarted)
    assert current().get_span_context() == below
    tell(RetryScheduled, wait=1.0)
    tell(AttemptFailed)
    tell(CallSucceeded)
    assert (current(), recorder.spans, left(tell)) == (trace.INVALID_SPAN, [], 0)


def test_without_an_sdk_nothing_is_kept(recorder: Recorder) -> None:
    """With the API alone a call leaves no trace, in the context neither."""
    tell = Script(recorder)
    tell.tracing = Tracing(tracer_provider=trace.NoOpTracerProvider())
    with recorder.mine() as mine:
        tell(CallStarted)
        assert current() is mine
        assert left(tell) == 0
        tell(AttemptStarted)
        tell(AttemptSucceeded)
        tell(CallSucceeded)
        assert current() is mine


def test_many_threads_have_each_their_own(recorder: Recorder, tell: Script) -> None:
    """Under 32 threads every attempt lies in its call, and every call in its caller's span."""
    barrier, numbers = threading.Barrier(32), 20
    wrong: list[str] = []

    def work(thread: int) -> None:
        barrier.wait(30)
        for turn in range(numbers):
            who = {"call_id": thread * numbers + turn, "model": f"{thread}.{turn}"}
            with recorder.mine(who["model"]) as mine:
                tell(CallStarted, **who)
                tell(AttemptStarted, **who)
                if current().name != "attempt":
                    wrong.append(f"{who}: {current()}")
                tell(AttemptSucceeded, **who)
                tell(CallSucceeded, **who)
                if current() is not mine:
                    wrong.append(f"{who}: {current()}")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert (wrong, left(tell)) == ([], 0)
    want = {f"{thread}.{turn}" for thread in range(32) for turn in range(numbers)}
    paths = recorder.paths()
    for one in want:
        calls = {one, f"{one} > chat {one}", f"{one} > chat {one} > attempt"}
        assert {path for path in paths if path.split(" > ")[0] == one} == calls
    assert len(paths) == 3 * len(want)


def test_a_child_ends_no_span_of_its_parents(recorder: Recorder, tell: Script) -> None:
    """After a fork the child undoes its context, and leaves the parent's spans to the parent."""
    with recorder.mine() as mine:
        other = threading.Thread(target=tell, args=(CallStarted,), kwargs={"call_id": 2})
        other.start()
        other.join()
        tell(CallStarted)
        tell(AttemptStarted)
        tell.tracing._spans.start_over()
        assert left(tell) == 1
        tell(AttemptFailed)
        tell(CallFailed, error="APIConnectionError")
        assert current() is mine
        assert recorder.spans == []
        tell(CallStarted, call_id=3)
        tell(CallSucceeded, call_id=3)
    assert recorder.paths() == [f"mine > {CHAT}", "mine"]


def test_a_listener_cannot_do_what_needs_the_request() -> None:
    """Content and propagation are for a layer: as a listener it says so, and breaks no call."""
    for wished in ("content", "propagate"):
        tracing = Tracing(**{wished: True})
        with pytest.raises(ConfigurationError, match=rf"Tracing\({wished}=True\) must be a layer"):
            tracing(CallStarted(call_id=1, provider=None, model=None))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenTelemetry is missing, the error says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigurationError, match=r'pip install "termai-http\[otel\]"'):
        Tracing()


@pytest.mark.parametrize("given", [{"content": 1}, {"propagate": "yes"}, {"tracer_provider": 5}])
def test_wrong_values_are_refused(given: dict[str, Any]) -> None:
    """A value of another kind is named with what it must be."""
    with pytest.raises(ConfigurationError, match=next(iter(given))):
        Tracing(**given)


def test_it_is_a_value(recorder: Recorder) -> None:
    """Equal ones are one layer; a copy and a pickle are equal, and begin anew."""
    one = Tracing(content=True)
    assert one == Tracing(content=True) != Tracing()
    assert len({one, Tracing(content=True), Tracing(tracer_provider=recorder.provider)}) == 2
    for again in (copy.copy(one), pickle.loads(pickle.dumps(one))):
        assert again == one
        assert again._spans is not one._spans
    assert repr(one) == "Tracing(tracer_provider=None, content=True, propagate=False)"


def test_only_what_is_wished_is_in_the_way() -> None:
    """A layer for spans alone stands around neither calls nor attempts."""
    client = Client(HttpClientConfig(trust_env=False))
    built = Tracing().build(client.config, client._core.clock)
    with client:
        assert type(built).around_call is BuiltLayer.around_call
        assert type(built).around_attempt is BuiltLayer.around_attempt


@pytest.fixture(autouse=True)
def no_error_is_logged(caplog: pytest.LogCaptureFixture) -> Any:
    """Look for what OpenTelemetry logs of contexts and ended spans, and for what stays attached."""
    yield
    assert [one for one in caplog.get_records("call") if one.levelno >= logging.WARNING] == []
    assert current() is trace.INVALID_SPAN
