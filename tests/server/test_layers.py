"""Layers around calls and attempts, over real sockets."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

import termai_http
from termai_http import Client, HttpClientConfig, RequestHandler, RetryConfig, errors, events
from termai_http._call import Clock
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
