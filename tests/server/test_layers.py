"""Layers around calls and attempts, over real sockets."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from unittest import mock

import attrs
import pytest

import termai_http
from termai_http import Client, HttpClientConfig, RequestHandler, RetryConfig, errors, events
from termai_http._call import Call, Clock
from termai_http.layers import BuiltLayer, CallRequest, Layer, Outcome
from termai_http.testing import CloseAfterRead, CutAfter, Server, Status

Send = Callable[[CallRequest], Outcome[Any]]
PATIENCE = 30.0


class Watching(BuiltLayer):
    """Writes down what passes, and how it ends."""

    def __init__(self, layer: Watch) -> None:
        self.layer = layer
        self.seen: list[str] = []
        self.ends: list[Any] = []
        self.closed = self.forked = 0
        self.lock = threading.Lock()

    def around_call(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Take note of a call."""
        self.seen.append(f"{self.layer.name} call")
        self.layer.order.append(self.layer.name)
        request.at_end(self.ends.append)
        return send(request)

    def around_attempt(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Take note of an attempt."""
        self.seen.append(f"{self.layer.name} attempt {request.call.attempts}")
        return send(request)

    def stats(self) -> Any:
        """Return how much was seen."""
        return len(self.seen)

    def locks(self) -> list[Any]:
        """Return its lock."""
        return [self.lock]

    def start_over(self) -> None:
        """Take a new lock."""
        self.lock = threading.Lock()
        self.forked += 1

    def close(self) -> None:
        """Take note of the end."""
        self.closed += 1


@attrs.frozen(kw_only=True)
class Watch(Layer):
    """Describes one that watches."""

    name: str = "watch"
    order: list[str] = attrs.field(factory=list, eq=False)
    made: list[Watching] = attrs.field(factory=list, eq=False)

    def build(self, config: HttpClientConfig, clock: Clock) -> Watching:
        """Build it."""
        self.made.append(Watching(self))
        return self.made[-1]


class Refusing(BuiltLayer):
    """Lets some attempts pass, and then none."""

    def __init__(self, passing: int, error: errors.TermaiHttpError) -> None:
        self.passing = passing
        self.error = error

    def around_attempt(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Take note of an attempt."""
        if request.call.attempts >= self.passing:
            return Outcome(error=self.error)
        return send(request)


@attrs.frozen(kw_only=True, eq=False)
class Refuse(Layer):
    """Describes one that refuses."""

    passing: int
    error: errors.TermaiHttpError
    name = "refuse"

    def build(self, config: HttpClientConfig, clock: Clock) -> Refusing:
        """Build it."""
        return Refusing(self.passing, self.error)


def options(server: Server) -> dict[str, Any]:
    """Return what a call to the server needs."""
    return {"model": "m", "base_url": server.url, "api_key": "k"}


@pytest.fixture
def watch() -> Watch:
    """A description, the same for a whole test."""
    return Watch()


@pytest.fixture
def watched(watch: Watch, fast: RetryConfig) -> Iterator[Client]:
    """A client with it."""
    with Client(HttpClientConfig(retry=fast, trust_env=False, layers=[watch])) as made:
        yield made


def test_a_layer_sees_a_call_and_each_of_its_attempts(
    watched: Client, watch: Watch, server: Server
) -> None:
    """The waits and the attempts of a call lie inside what is around it."""
    server.script(Status(503))
    reply = watched.chat("hi", **options(server))
    (layer,) = watch.made
    assert layer.seen == ["watch call", "watch attempt 0", "watch attempt 1"]
    assert [outcome.value for outcome in layer.ends] == [reply]
    assert watched.stats().layers == {"watch": 3}
    assert not reply.from_cache


def test_every_kind_of_call_passes_through(watched: Client, watch: Watch, server: Server) -> None:
    """Chats, vectors, lists of models, requests of a handler: each says what it is."""
    operations = []

    class Telling(Watching):
        def around_call(self, request: CallRequest, send: Send) -> Outcome[Any]:
            """Take note of a call."""
            operations.append((request.job.operation, request.job.base_url))
            return send(request)

    @attrs.frozen
    class Tell(Layer):
        name = "tell"

        def build(self, config: HttpClientConfig, clock: Clock) -> Telling:
            """Build it."""
            return Telling(watch)

    with Client(HttpClientConfig(trust_env=False, layers=(Tell(),))) as client:
        client.chat("hi", **options(server))
        with client.stream("hi", **options(server)) as stream:
            list(stream)
        client.embed("hi", **options(server))
        client.list_models(base_url=server.url, api_key="k")
        termai_http.OpenAIAdapter(client, api_key="k", base_url=server.url).health_check()
        RequestHandler(client).get_json(f"{server.openai_url}/models", {"Authorization": "x"})
    url = f"{server.url}/v1"
    assert operations == [
        *(("chat", url), ("chat", url), ("embeddings", url), ("models", url), ("health", url)),
        ("request", ""),
    ]


def test_the_first_layer_is_the_outermost(server: Server) -> None:
    """The order is that of the configuration."""
    order: list[str] = []
    layers = (Watch(name="a", order=order), Watch(name="b", order=order))
    with Client(HttpClientConfig(trust_env=False, layers=layers)) as client:
        client.chat("hi", **options(server))
    assert order == ["a", "b"]


def test_a_call_may_have_layers_of_its_own(watched: Client, watch: Watch, server: Server) -> None:
    """They stand in the place of the client's, keep their state, and () is none at all."""
    own = Watch(name="own")
    watched.chat("hi", layers=(), **options(server))
    assert watch.made[0].seen == []
    for _ in range(2):
        watched.chat("hi", layers=[own], **options(server))
    watched.chat("hi", layers=[Watch(name="own")], **options(server))
    assert watch.made[0].seen == []
    assert len(own.made) == 1
    assert watched.stats().layers == {"watch": 0, "own": 6}
    watched.close()
    assert (own.made[0].closed, watch.made[0].closed) == (1, 1)


def test_layers_made_anew_for_every_call_do_not_pile_up(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Only so many are kept, and a warning says how it is meant."""
    for number in range(130):
        client.chat("hi", layers=[Watch(name=f"w{number}")], **options(server))
    assert len(client.stats().layers) <= 100
    assert caplog.text.count("Make the layers once") == 1


def test_a_stream_ends_for_a_layer_after_its_last_event(
    watched: Client, watch: Watch, server: Server
) -> None:
    """Begun it has no end yet; read, it has its reply; broken, its error; left, nothing."""
    with watched.stream("hi", **options(server)) as stream:
        (layer,) = watch.made
        assert layer.ends == []
        list(stream)
    assert [outcome.value for outcome in layer.ends] == [stream.response]
    server.script(CutAfter(2))
    with (
        watched.stream("hello you", **options(server)) as stream,
        pytest.raises(termai_http.StreamInterrupted),
    ):
        list(stream)
    assert isinstance(layer.ends[1].error, termai_http.StreamInterrupted)
    with watched.stream("hi", **options(server)):
        pass
    held: Any = watched.stream("hi", **options(server))
    del held
    gc.collect()
    assert layer.ends[2:] == [None, None]


def test_what_tears_an_attempts_verdict_away_leaves_a_pair(
    watched: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C after the answer, and before it is known what follows from it."""
    heard: list[events.Event] = []
    with watched.listening(heard.append), monkeypatch.context() as patch:
        patch.setattr("termai_http._attempts.classify", mock.Mock(side_effect=KeyboardInterrupt))
        server.script(Status(503))
        with pytest.raises(KeyboardInterrupt):
            watched.chat("hi", **options(server))
    assert [type(event).__name__ for event in heard] == [
        *("CallStarted", "AttemptStarted", "ConnectionOpened", "AttemptFailed", "CallFailed")
    ]


def test_a_stream_whose_end_is_torn_away_ends_when_it_goes(
    watched: Client, watch: Watch, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For layers, figures and those who listen: a probe, for one, is not lost."""
    heard: list[events.Event] = []
    watched.listen(heard.append)
    stream: Any = watched.stream("hi", **options(server))
    with monkeypatch.context() as patch:
        patch.setattr("termai_http._core.Core.finish", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    del stream
    gc.collect()
    assert watched.stats().calls.in_flight == 0
    assert watch.made[0].ends == [None]
    assert [event for event in heard if isinstance(event, events.CallSucceeded)]


class Judging(BuiltLayer):
    """Lets a stream begin, drops it, and says by itself how that went."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)

    def around_attempt(self, request: CallRequest, send: Send) -> Any:
        """Send and judge."""
        outcome = send(request)
        verdict = self.verdicts.pop(0)
        if isinstance(verdict, Exception):
            outcome.error, outcome.value = verdict, None  # type: ignore[assignment]
        elif verdict is not None:
            outcome.value = verdict
        return outcome


@attrs.frozen(eq=False)
class Judge(Layer):
    """Describes one that judges."""

    built: Judging
    name = "judge"

    def build(self, config: HttpClientConfig, clock: Clock) -> Judging:
        """Build it."""
        return self.built


@pytest.mark.parametrize("verdict", ["refused", "again", "replaced"])
def test_a_stream_that_a_layer_drops_does_not_end_its_call(
    server: Server, fast: RetryConfig, verdict: str
) -> None:
    """What its caller gets does: the layer's error, the next attempt's stream, or another value."""
    refused = errors.InvalidResponseError("Not what was asked for.")
    again = errors.InternalServerError("Bad words.", status_code=500)
    built = Judging(*{"refused": (refused,), "again": (again, None), "replaced": ("it",)}[verdict])
    heard: list[events.Event] = []
    with Client(HttpClientConfig(trust_env=False, retry=fast, layers=(Judge(built),))) as client:
        client.listen(heard.append)
        if verdict == "refused":
            with pytest.raises(errors.InvalidResponseError):
                client.stream("hi", retry=RetryConfig(max_attempts=1), **options(server))
        else:
            assert "".join(client.stream("hi", **options(server))) in ("it", "You said: hi")
        calls, active = client.stats().calls, client.stats().active_connections
    (end,) = (e for e in heard if isinstance(e, (events.CallSucceeded, events.CallFailed)))
    assert isinstance(end, events.CallFailed) is (verdict == "refused")
    assert getattr(end, "complete", None) == {"again": True, "replaced": False}.get(verdict)
    assert (calls.in_flight, calls.total_requests, active) == (0, 1, 0)
    assert calls.failed_requests == (verdict == "refused")


class Failing(BuiltLayer):
    """Fails when it hears of a call's end."""

    def around_call(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Ask for the end."""
        request.at_end(self.end)
        return send(request)

    def end(self, outcome: Outcome[Any] | None) -> None:
        """Fail."""
        raise ValueError("ending")


@attrs.frozen
class Fail(Layer):
    """Describes one that fails."""

    name = "fail"

    def build(self, config: HttpClientConfig, clock: Clock) -> Failing:
        """Build it."""
        return Failing()


def test_a_layer_that_fails_at_the_end_hides_it_from_nobody(server: Server, watch: Watch) -> None:
    """What it raises comes out of a call that is counted, and has its end for all others."""
    heard: list[events.Event] = []
    with Client(HttpClientConfig(trust_env=False, layers=(Fail(), watch))) as client:
        client.listen(heard.append)
        with pytest.raises(ValueError, match="ending"):
            client.chat("hi", **options(server))
        stream = client.stream("hi", **options(server))
        with stream, pytest.raises(ValueError, match="ending"):
            list(stream)
        calls = client.stats().calls
    assert (calls.total_requests, calls.in_flight) == (2, 0)
    assert len(watch.made[0].ends) == 2
    begun = [event.call_id for event in heard if isinstance(event, events.CallStarted)]
    ended = [event.call_id for event in heard if isinstance(event, events.CallSucceeded)]
    assert begun == ended


def test_what_a_layer_keeps_for_the_end_goes_with_the_call(server: Server) -> None:
    """Without the collector: a request that its call kept would keep key and prompt."""

    class Keeping(BuiltLayer):
        calls: ClassVar[list[weakref.ref[Call]]] = []

        def around_call(self, request: CallRequest, send: Send) -> Outcome[Any]:
            """Keep the request until its end."""
            request.at_end(lambda outcome: self.note(request))
            return send(request)

        def note(self, request: CallRequest) -> None:
            """Take note of its end."""

        def around_attempt(self, request: CallRequest, send: Send) -> Outcome[Any]:
            """Take note of the call."""
            self.calls.append(weakref.ref(request.call))
            return send(request)

    @attrs.frozen
    class Keep(Layer):
        name = "keep"

        def build(self, config: HttpClientConfig, clock: Clock) -> Keeping:
            """Build it."""
            return Keeping()

    gc.collect()
    gc.disable()
    try:
        with Client(HttpClientConfig(trust_env=False, layers=(Keep(),))) as client:
            client.chat("hi", **options(server))
            assert "".join(client.stream("hi", **options(server)))
            assert [ref() for ref in Keeping.calls] == [None, None]
    finally:
        gc.enable()


def test_what_a_layer_refuses_is_not_sent(server: Server, fast: RetryConfig) -> None:
    """Its error is the call's, without an attempt, and the call counts as one that failed."""
    refusal = errors.CircuitOpenError("The circuit is open.")
    layers = (Refuse(passing=0, error=refusal),)
    with Client(HttpClientConfig(retry=fast, trust_env=False, layers=layers)) as client:
        with pytest.raises(errors.CircuitOpenError) as caught:
            client.chat("hi", **options(server))
        assert (caught.value.attempts, caught.value.model) == (0, "m")
        stats = client.stats()
    assert server.requests == []
    assert stats.calls.failures_by_class == {"CircuitOpenError": 1}
    assert (stats.opened, stats.active_connections) == (0, 0)


def test_a_retry_that_a_layer_refuses_ends_with_the_attempts_own_error(
    server: Server, fast: RetryConfig
) -> None:
    """Status and request id of what was sent say more than that nothing more was."""
    server.script(Status(503))
    layers = (Refuse(passing=1, error=errors.CircuitOpenError("The circuit is open.")),)
    with (
        Client(HttpClientConfig(retry=fast, trust_env=False, layers=layers)) as client,
        pytest.raises(errors.InternalServerError, match=r"not retried: The circuit is open\)"),
    ):
        client.chat("hi", **options(server))
    assert len(server.requests) == 1


def test_something_else_than_an_error_passes_a_layer(
    watched: Client, watch: Watch, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the call for the layer, and for those who listen, in pairs."""
    heard: list[events.Event] = []

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("termai_http._chat._read", interrupt)
    with watched.listening(heard.append), pytest.raises(KeyboardInterrupt):
        watched.chat("hi", **options(server))
    assert watch.made[0].ends == [None]
    assert [type(event).__name__ for event in heard] == [
        *("CallStarted", "AttemptStarted", "ConnectionOpened", "AttemptFailed", "CallFailed")
    ]
    failed = heard[-1]
    assert isinstance(failed, events.CallFailed)
    assert failed.error == "Interrupted"
    assert watched.stats().calls.in_flight == 0


def refuse_what_was_sent(request: CallRequest, send: Send) -> Outcome[Any]:
    """Send, and answer with an error of its own."""
    send(request)
    return Outcome(error=errors.CircuitOpenError("No."))


def answer_for_what_was_sent(request: CallRequest, send: Send) -> Outcome[Any]:
    """Send, and answer with what came, as one that answers by itself does."""
    return Outcome(value=send(request).value)


def send_twice(request: CallRequest, send: Send) -> Outcome[Any]:
    """Make two attempts in the place of one."""
    send(request)
    return send(request)


def return_no_outcome(request: CallRequest, send: Send) -> Any:
    """Send, and forget to return what came."""
    send(request)


@pytest.mark.parametrize(
    "around", [refuse_what_was_sent, answer_for_what_was_sent, send_twice, return_no_outcome]
)
def test_an_attempt_has_an_end_whatever_a_layer_makes_of_it(
    server: Server, around: Callable[[CallRequest, Send], Any]
) -> None:
    """Those who listen hear of it once for each attempt that was begun, and before the call's."""

    class Around(BuiltLayer):
        around_attempt = staticmethod(around)  # type: ignore[assignment]

    built = Around()

    @attrs.frozen
    class Describe(Layer):
        name = "around"

        def build(self, config: HttpClientConfig, clock: Clock) -> BuiltLayer:
            """Build it."""
            return built

    heard: list[events.Event] = []
    with Client(HttpClientConfig(trust_env=False, layers=(Describe(),))) as client:
        with client.listening(heard.append), contextlib.suppress(Exception):
            client.chat("hi", **options(server))
        assert client.stats().active_connections == 0
    names = [type(event).__name__ for event in heard if "Connection" not in type(event).__name__]
    begun = names[1:-1:2]
    ended = names[2:-1:2]
    assert names[0] == "CallStarted"
    assert names[-1] in ("CallSucceeded", "CallFailed")
    assert begun == ["AttemptStarted"] * len(server.requests)
    assert len(ended) == len(begun)
    assert set(ended) <= {"AttemptFailed", "AttemptSucceeded"}


class Broken(BuiltLayer):
    """Fails in whatever the client asks of it beside its calls."""

    def stats(self) -> Any:
        """Fail."""
        raise ValueError("stats")

    def locks(self) -> list[Any]:
        """Fail."""
        raise ValueError("locks")

    def start_over(self) -> None:
        """Fail."""
        raise ValueError("start_over")

    def close(self) -> None:
        """Fail."""
        raise ValueError("close")


@attrs.frozen
class Break(Layer):
    """Describes one that is broken."""

    name = "broken"

    def build(self, config: HttpClientConfig, clock: Clock) -> Broken:
        """Build it."""
        return Broken()


def test_a_broken_layer_keeps_nothing_from_the_others(
    server: Server, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the figures are there, the others closed, and what is to be told is told."""
    heard: list[events.Event] = []
    with Client(HttpClientConfig(trust_env=False, layers=(Break(), watch))) as client:
        client.chat("hi", **options(server))
        assert client.stats().layers == {"watch": 2}
        client.listen(heard.append)
    assert watch.made[0].closed == 1
    assert [type(event).__name__ for event in heard] == ["ConnectionClosed"]
    assert "failed in stats()" in caplog.text
    assert "failed in close()" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are for systems that have them")
def test_a_broken_layer_leaves_a_child_no_connection_of_its_parents(
    server: Server, watch: Watch
) -> None:
    """The client begins anew, and the other layers too, whatever one of them raises."""
    with Client(HttpClientConfig(trust_env=False, layers=(Break(), watch))) as client:
        client.chat("hi", **options(server))
        child = os.fork()
        if child == 0:
            stats = client.stats()
            anew = (stats.opened, stats.idle_connections, watch.made[0].forked)
            os._exit(0 if anew == (0, 0, 1) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_layer_must_be_one(client: Client, server: Server) -> None:
    """What cannot be told apart, or builds something else, is refused by name."""

    class Unhashable(Layer):
        __hash__ = None  # type: ignore[assignment]
        name = "unhashable"

    class Nothing(Layer):
        name = "nothing"

        def build(self, config: HttpClientConfig, clock: Clock) -> Any:
            """Forget to return it."""

    for layer in (Unhashable(), Nothing()):
        for refused in (
            lambda layer=layer: client.chat("hi", layers=[layer], **options(server)),
            lambda layer=layer: Client(HttpClientConfig(layers=(layer,))),
        ):
            with pytest.raises(termai_http.ConfigurationError, match=type(layer).__name__):
                refused()
    assert server.requests == []


def test_a_layer_without_a_name_goes_by_its_class(client: Client, server: Server) -> None:
    """Its figures are there, and those of all others."""

    class Plain:
        def build(self, config: HttpClientConfig, clock: Clock) -> Watching:
            """Build it."""
            return Watching(Watch())

    layers: Any = [Plain()]
    client.chat("hi", layers=layers, **options(server))
    assert client.stats().layers == {"Plain": 2}


def test_what_is_built_while_the_client_closes_is_closed(server: Server, watch: Watch) -> None:
    """Nobody would close it later."""

    @attrs.frozen(eq=False)
    class Late(Layer):
        client: Client
        name = "late"

        def build(self, config: HttpClientConfig, clock: Clock) -> BuiltLayer:
            """Build it, when the client is closed meanwhile."""
            self.client.close(wait=0)
            return watch.build(config, clock)

    client = Client(HttpClientConfig(trust_env=False))
    with pytest.raises(termai_http.ClientClosed):
        client.chat("hi", layers=[Late(client)], **options(server))
    assert watch.made[0].closed == 1


def test_many_threads_share_one_layer(server: Server) -> None:
    """A layer named by racing calls is built once for all of them."""
    own = Watch(name="own")
    barrier = threading.Barrier(32)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with Client(HttpClientConfig(trust_env=False)) as client:

            def call(_: int) -> str:
                barrier.wait(PATIENCE)
                return client.chat("hi", layers=[own], **options(server)).text

            with ThreadPoolExecutor(32) as pool:
                assert set(pool.map(call, range(32))) == {"You said: hi"}
            assert client.stats().layers == {"own": 64}
    finally:
        sys.setswitchinterval(interval)
    assert sum(layer.closed for layer in own.made) == len(own.made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are for systems that have them")
def test_a_forked_child_has_its_own_layers(watched: Client, watch: Watch, server: Server) -> None:
    """A lock that another thread held at the fork is a new one in the child."""
    watched.chat("hi", **options(server))
    child = os.fork()
    if child == 0:
        free = watch.made[0].lock.acquire(timeout=5)
        os._exit(0 if free and watch.made[0].forked == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are for systems that have them")
def test_a_forked_child_hears_nothing_of_its_parents_calls(client: Client, server: Server) -> None:
    """Its copy of a stream fails; who counts connections would count one closed, never opened."""
    heard: list[events.Event] = []
    with client.listening(heard.append):
        own = client.stream("hello you", **options(server))
        begun = len(heard)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(termai_http.StreamInterrupted):
                list(own)
            own.close()
            os._exit(0 if len(heard) == begun else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert "".join(own) == "You said: hello you"
    assert any(isinstance(event, events.CallSucceeded) for event in heard)


class Shouting:
    """A listener with a state, which somebody may forget to make."""

    def __call__(self, event: events.Event) -> None:
        """Hear an event."""


class Alike:
    """A listener that is equal to every other of its kind, as those of one description are."""

    heard = 0

    def __call__(self, event: events.Event) -> None:
        """Count it."""
        self.heard += 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    __hash__ = None  # type: ignore[assignment]


class TestEvents:
    """What those who listen to one call hear, and to all."""

    def test_a_call_has_listeners_of_its_own(self, client: Client, server: Server) -> None:
        """They hear that call and no other."""
        mine: list[events.Event] = []
        client.chat("hi", on_event=mine.append, **options(server))
        client.chat("hi", **options(server))
        names = [type(event).__name__ for event in mine]
        assert names == [
            *("CallStarted", "AttemptStarted", "ConnectionOpened", "AttemptSucceeded"),
            "CallSucceeded",
        ]
        done = mine[-1]
        assert isinstance(done, events.CallSucceeded)
        assert (done.input_tokens > 0, done.output_tokens > 0) == (True, True)
        assert (done.operation, done.streaming, done.complete) == ("chat", False, True)
        assert (done.response_model, done.finish_reason) == ("m", "stop")

    def test_on_retry_hears_of_retries_before_the_wait(
        self, client: Client, server: Server
    ) -> None:
        """With the attempt that failed, its cause, its status, its id and the wait."""
        server.script(Status(503), CloseAfterRead())
        told: list[events.RetryScheduled] = []
        client.chat("hi", on_retry=told.append, **options(server))
        first, second = told
        assert (first.attempt, first.cause, first.status_code) == (1, "503", 503)
        assert first.request_id == "req_openai_000001"
        assert (second.attempt, second.cause, second.request_id) == (2, "stale_connection", None)
        assert 0 <= first.wait <= 0.002

    @pytest.mark.parametrize("name", ["on_event", "on_retry"])
    def test_a_listener_must_be_a_function(self, client: Client, name: str) -> None:
        """What cannot be called is refused before anything is sent."""
        with pytest.raises(termai_http.ConfigurationError, match=name):
            client.chat("hi", model="m", **{name: 3})

    def test_who_stops_twice_stops_nobody_else(self, client: Client, server: Server) -> None:
        """One may listen twice, and two may be equal: each stop is for its own."""
        told: list[events.Event] = []
        hear = told.append
        one, two = client.listen(hear), client.listen(hear)
        one()
        one()
        client.chat("hi", **options(server))
        assert [type(event).__name__ for event in told].count("CallSucceeded") == 1
        two()
        equal = Alike(), Alike()
        one, two = [client.listen(each) for each in equal]
        two()
        client.chat("hi", **options(server))
        assert [each.heard > 0 for each in equal] == [True, False]
        one()

    @pytest.mark.parametrize(
        ("listener", "said"),
        [
            (None, "not NoneType"),
            (3, "not int"),
            (Shouting, r"not the class Shouting; write Shouting\(\)"),
        ],
    )
    def test_who_cannot_listen_is_told_so(self, client: Client, listener: Any, said: str) -> None:
        """It is refused where it is given, in each way, and not in the log of the first call."""
        with pytest.raises(termai_http.ConfigurationError, match=said):
            client.listen(listener)
        with pytest.raises(termai_http.ConfigurationError, match=said), client.listening(listener):
            pass
        if listener is not None:
            with pytest.raises(termai_http.ConfigurationError, match=f"on_event .* {said}"):
                client.chat("hi", model="m", on_event=listener)

    def test_a_listener_of_a_call_that_fails_is_logged_once(
        self, client: Client, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It breaks nothing."""

        def failing(event: events.Event) -> None:
            raise RuntimeError("listener")

        assert client.chat("hi", on_event=failing, **options(server)).text == "You said: hi"
        assert caplog.text.count("A listener failed") == 1

    def test_each_listener_of_a_call_that_fails_is_logged(
        self, client: Client, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The second one, too: it is another's failure."""

        def failing(event: events.Event) -> None:
            raise RuntimeError("listener")

        def failing_too(event: events.RetryScheduled) -> None:
            raise RuntimeError("another")

        server.script(Status(503))
        client.chat("hi", on_event=failing, on_retry=failing_too, **options(server))
        assert caplog.text.count("A listener failed") == 2

    def test_a_layer_that_cannot_hear_is_logged_once(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Not with every call."""

        class Deaf(BuiltLayer):
            def hear(self, event: events.Event) -> None:
                """Fail."""
                raise RuntimeError("deaf")

        @attrs.frozen
        class Describe(Layer):
            name = "deaf"

            def build(self, config: HttpClientConfig, clock: Clock) -> Deaf:
                """Build it."""
                return Deaf()

        with Client(HttpClientConfig(trust_env=False, layers=(Describe(),))) as client:
            for _ in range(3):
                client.chat("hi", **options(server))
        assert caplog.text.count("A listener failed") == 1

    def test_who_comes_in_the_midst_of_a_call_hears_no_end_of_it(
        self, client: Client, server: Server
    ) -> None:
        """Events come in pairs; who is removed hears nothing more."""
        late: list[events.Event] = []
        early: list[events.Event] = []
        stop = client.listen(early.append)
        with client.stream("hi", **options(server)) as stream:
            client.listen(late.append)
            stop()
            list(stream)
        assert late == []
        client.chat("hi", **options(server))
        assert [type(event).__name__ for event in early] == [
            *("CallStarted", "AttemptStarted", "ConnectionOpened", "FirstToken"),
            "AttemptSucceeded",
        ]

    def test_a_stream_that_is_dropped_ends_for_those_who_listen(
        self, client: Client, server: Server
    ) -> None:
        """The end comes at the next safe moment, since a finalizer may call nobody."""
        heard: list[events.Event] = []
        client.listen(heard.append)
        held: Any = client.stream("hi", **options(server))
        call_id = heard[0].call_id
        del held
        gc.collect()
        client.chat("again", **options(server))
        ended = [event for event in heard if isinstance(event, events.CallSucceeded)]
        assert {(event.call_id == call_id, event.complete) for event in ended} == {
            (True, False),
            (False, True),
        }
        closed = [event for event in heard if isinstance(event, events.ConnectionClosed)]
        assert [(event.call_id, event.reason) for event in closed] == [(call_id, "discarded")]

    def test_an_idle_connection_that_is_closed_is_told(self, server: Server) -> None:
        """With whom it led to, and without a call."""
        heard: list[events.Event] = []
        with Client(HttpClientConfig(trust_env=False)) as client:
            client.chat("hi", **options(server))
            client.listen(heard.append)
        (closed,) = heard
        assert isinstance(closed, events.ConnectionClosed)
        assert (closed.reason, closed.call_id, closed.host) == ("evicted", None, "127.0.0.1")

    def test_a_wait_for_a_slot_is_told(self, server: Server) -> None:
        """Of the one that got it in the end, and of the one that did not."""
        heard: list[events.Event] = []
        config = HttpClientConfig(trust_env=False, max_connections=1)
        with Client(config) as client:
            client.listen(heard.append)
            with client.stream("hi", **options(server)) as stream:
                with pytest.raises(termai_http.PoolTimeout):
                    client.chat("hi", timeout=0.05, **options(server))
                list(stream)
        (waited,) = (event for event in heard if isinstance(event, events.SlotWaited))
        # The timeout begins with the call, a little before the wait.
        assert (waited.got, waited.seconds > 0) == (False, True)

    def test_layers_hear_the_calls_they_are_on(self, client: Client, server: Server) -> None:
        """And of the connections of a client whose configuration names them."""

        class Hearing(BuiltLayer):
            def __init__(self) -> None:
                self.heard: list[str] = []

            def hear(self, event: events.Event) -> None:
                """Take note of an event."""
                self.heard.append(type(event).__name__)

        hearing = Hearing()

        @attrs.frozen
        class Hear(Layer):
            name = "hear"

            def build(self, config: HttpClientConfig, clock: Clock) -> Hearing:
                """Build it."""
                return hearing

        with Client(HttpClientConfig(trust_env=False, layers=(Hear(),))) as other:
            other.chat("hi", **options(server))
            other.chat("hi", layers=(), **options(server))
        assert hearing.heard.count("CallSucceeded") == 1
        assert hearing.heard[-1] == "ConnectionClosed"


def test_what_happens_is_told_without_key_or_prompt(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """No event of a call that failed, was retried and streamed holds either."""
    caplog.set_level(logging.DEBUG)
    heard: list[events.Event] = []
    client.listen(heard.append)
    asked = {"model": "m", "base_url": server.url, "api_key": "sk-canary-key-0123456789"}
    server.script(Status(503), Status(400), CloseAfterRead())
    with pytest.raises(termai_http.BadRequestError):
        client.chat("the canary prompt", **asked)
    client.chat("the canary prompt", **asked)
    with client.stream("the canary prompt", **asked) as stream:
        list(stream)
    shown = f"{heard!r} {caplog.text}"
    assert len(heard) > 10
    assert "canary" not in shown
