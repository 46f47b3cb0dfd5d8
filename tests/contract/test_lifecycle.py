"""The life of a client, and what hangs on it."""

from __future__ import annotations

import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import responses

import termai_http
from termai_http import (
    ChatRequest,
    ClaudeAdapter,
    Client,
    HttpClientConfig,
    OpenAIAdapter,
    RequestHandler,
    RetryConfig,
    events,
)
from termai_http._session import PooledSession
from termai_http.testing import CloseAfterRead, RecordedRequest, Server, Silent, Status

FAST = RetryConfig(base_delay=0.001, max_delay=0.002)


def test_100_racing_threads_get_one_client_with_one_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """client() is client(), and its session is made once, whoever comes first."""
    made: list[PooledSession] = []
    original = PooledSession.__init__

    def counting(self: PooledSession, *args: Any) -> None:
        made.append(self)
        original(self, *args)

    monkeypatch.setattr(PooledSession, "__init__", counting)
    barrier = threading.Barrier(100)

    def race(_: int) -> tuple[int, int]:
        barrier.wait(30)
        found = termai_http.client()
        return id(found), id(found.session)

    with ThreadPoolExecutor(100) as pool:
        found = set(pool.map(race, range(100)))
    assert len(found) == 1
    assert len(made) == 1


def test_the_session_of_one_client_is_made_once_by_racing_threads() -> None:
    """A separate client's session is one, too."""
    barrier = threading.Barrier(50)
    with Client(HttpClientConfig()) as client:

        def race(_: int) -> int:
            barrier.wait(30)
            return id(client.session)

        with ThreadPoolExecutor(50) as pool:
            assert len(set(pool.map(race, range(50)))) == 1


def test_initialize_works_once_before_the_first_use() -> None:
    """A second initialize(), or one after a use, names close() as the way."""
    made = termai_http.initialize(HttpClientConfig(timeout=7))
    assert termai_http.client() is made
    assert termai_http.client().config.timeout == 7
    with pytest.raises(termai_http.AlreadyInitializedError, match=r"close\(\)"):
        termai_http.initialize(HttpClientConfig())
    termai_http.close()
    assert termai_http.initialize(HttpClientConfig(timeout=8)).config.timeout == 8
    termai_http.close()
    termai_http.client()
    with pytest.raises(termai_http.AlreadyInitializedError):
        termai_http.initialize(HttpClientConfig())


def test_the_process_wide_client_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """client() starts from the variables."""
    monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "33")
    monkeypatch.setenv("TERMAI_HTTP_RETRY_MAX_ATTEMPTS", "5")
    config = termai_http.client().config
    assert config.timeout == 33
    assert config.retry == RetryConfig(max_attempts=5)


def test_close_is_final_for_a_client_and_not_for_the_process(server: Server) -> None:
    """A closed Client refuses; after termai_http.close() the next use makes a new one."""
    first = termai_http.client()
    termai_http.close()
    termai_http.close()
    assert termai_http.client() is not first
    with pytest.raises(termai_http.ClientClosed):
        first.chat("hi", model="m", base_url=server.url, api_key="k")
    with pytest.raises(termai_http.ClientClosed):
        _ = first.session
    assert "closed" in repr(first)


def test_closing_closes_the_idle_connections(client: Client, server: Server) -> None:
    """After close() no connection is left open."""
    client.chat("hi", model="m", base_url=server.url, api_key="k")
    assert client.stats().idle_connections == 1
    client.close()
    assert client.stats().idle_connections == 0
    assert client.stats().evicted == 1


def test_the_tenth_client_alike_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Ten open clients with an equal configuration are a leak; closed or other ones are none."""
    config = HttpClientConfig(timeout=77)
    with caplog.at_level(logging.WARNING, "termai_http"):
        made = [termai_http.client_with_config(config) for _ in range(9)]
        made[0].close()
        made += [termai_http.client_with_config(config.evolve(timeout=78)) for _ in range(5)]
        made.append(termai_http.client_with_config(config))
        assert caplog.records == []
        made.append(termai_http.client_with_config(config))
    assert len(caplog.records) == 1
    assert "10 clients" in caplog.text
    for client in made:
        client.close()


def test_what_holds_sockets_is_not_pickled(client: Client) -> None:
    """A client and its session refuse to be pickled."""
    for thing in (client, client.session):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)


@pytest.mark.parametrize("config", [{}, "x", None])
def test_a_wrong_configuration_is_refused(config: Any) -> None:
    """Only an HttpClientConfig configures a client."""
    with pytest.raises(termai_http.ConfigurationError):
        termai_http.initialize(config) if config is not None else Client("text")  # type: ignore[arg-type]


def test_the_aliases_are_the_same_things() -> None:
    """The documented aliases lead to the same objects."""
    manager = termai_http.HttpClientManager
    assert manager.client() is termai_http.client()
    assert manager.stats() == termai_http.stats()
    assert manager.initialize is termai_http.initialize
    assert manager.client_with_config is termai_http.client_with_config
    assert termai_http.ChatCompletionRequest is ChatRequest
    assert termai_http.ChatCompletionResponse is termai_http.ChatResponse


def test_the_pooling_variable_beats_the_configuration(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TERMAI_HTTP_POOLING is the way back without a deploy."""
    monkeypatch.setenv("TERMAI_HTTP_POOLING", "0")
    with Client(HttpClientConfig(pooling=1.0)) as client:
        for _ in range(3):
            client.chat("hi", model="m", base_url=server.url, api_key="k")
    assert len(server.connections) == 3


def test_a_bad_ca_bundle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CA bundle that is missing or no PEM is told when the client is made."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (str(empty), str(tmp_path / "missing.pem")):
        with pytest.raises(termai_http.ConfigurationError, match="CA bundle"):
            Client(HttpClientConfig(ca_bundle=path))
        with pytest.raises(termai_http.ConfigurationError, match="client_cert"):
            Client(HttpClientConfig(client_cert=path, trust_env=False))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
        with pytest.raises(termai_http.ConfigurationError, match="CA bundle"):
            termai_http.client()
        Client(HttpClientConfig(trust_env=False)).close()


def test_a_request_handler_returns_answers_and_raises_without_one(
    client: Client, server: Server
) -> None:
    """A status is an answer, also after retries; only no answer at all raises."""
    handler = RequestHandler(client)
    headers = {"Authorization": "Bearer k"}
    url = f"{server.openai_url}/chat/completions"
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert handler.post_json(url, headers, body).json()["object"] == "chat.completion"
    assert handler.get_json(f"{server.openai_url}/models", headers).status_code == 200
    assert handler.get_json(f"{server.openai_url}/nowhere", headers).status_code == 404
    server.reset()
    server.script(*[Status(503)] * 5)
    assert handler.post_json(url, headers, body).status_code == 503
    assert len(server.requests) == 3
    server.reset()
    server.script(*[Status(503)] * 5)
    once = handler.with_retry_config(RetryConfig(max_attempts=1))
    assert once.post_json(url, headers, body).status_code == 503
    assert len(server.requests) == 1
    server.reset()
    server.script(*[CloseAfterRead()] * 5)
    with pytest.raises(termai_http.APIConnectionError):
        handler.post_json(url, headers, body)
    with pytest.raises(termai_http.InvalidRequestError):
        handler.post_json(url, headers, {"a": object()})
    with pytest.raises(termai_http.ConfigurationError):
        handler.with_retry_config({})  # type: ignore[arg-type]


def test_a_request_handler_without_a_client_uses_the_process_wide_one(server: Server) -> None:
    """RequestHandler() shares the pool of chat()."""
    RequestHandler().get_json(f"{server.openai_url}/models", {"Authorization": "Bearer k"})
    assert termai_http.stats().opened == 1


ADAPTERS = {"claude": ClaudeAdapter, "openai": OpenAIAdapter}


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_knows_its_own(client: Client, server: Server, name: str) -> None:
    """Key, base URL and further options belong to the adapter; a call's key beats it."""
    adapter = ADAPTERS[name](client, api_key="own-key", base_url="http://127.0.0.1:9")
    other = adapter.with_base_url(server.url)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert other.chat_completion(body).text == "You said: hi"
    assert other.chat_completion(ChatRequest("m", "ho"), "call-key").text == "You said: ho"
    keys = [
        request.headers.get("x-api-key") or request.headers["authorization"]
        for request in server.requests
    ]
    assert [key.removeprefix("Bearer ") for key in keys] == ["own-key", "call-key"]
    assert server.url in repr(other)
    with pytest.raises(TypeError, match="temperature"):
        other.chat_completion(body, temperature=1)
    with pytest.raises(termai_http.InvalidRequestError):
        other.chat_completion("text")  # type: ignore[arg-type]
    with pytest.raises(termai_http.InvalidRequestError, match="stream"):
        other.chat_completion({**body, "stream": True})
    with pytest.raises(termai_http.InvalidRequestError, match="messages"):
        other.chat_completion({"model": "m"})


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_streams(client: Client, server: Server, name: str) -> None:
    """With what is its own; a body that asks for a stream already does so, too."""
    adapter = ADAPTERS[name](client, "k", server.url)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    for request in (ChatRequest("m", "hi"), body, {**body, "stream": True}):
        assert "".join(adapter.stream(request)) == "You said: hi"
    assert [request.json["stream"] for request in server.requests] == [True] * 3
    with pytest.raises(TypeError, match="temperature"):
        adapter.stream(body, temperature=1)


def test_an_adapters_stream_takes_the_options_of_its_vendor(client: Client, server: Server) -> None:
    """OpenAI's newer API, and Claude's version; the other vendor's are refused."""
    openai, claude = (ADAPTERS[name](client, "k", server.url) for name in ("openai", "claude"))
    assert "".join(openai.stream(ChatRequest("m", "hi"), api="responses")) == "You said: hi"
    assert (
        "".join(claude.stream(ChatRequest("m", "hi"), api_version="2026-10-21")) == "You said: hi"
    )
    assert server.requests[0].path.endswith("/responses")
    assert server.requests[1].headers["anthropic-version"] == "2026-10-21"
    with pytest.raises(termai_http.InvalidRequestError, match="api_version= is Claude's"):
        openai.stream(ChatRequest("m", "hi"), api_version="x")
    with pytest.raises(termai_http.InvalidRequestError, match="is OpenAI's"):
        claude.stream(ChatRequest("m", "hi"), api="responses")


def test_another_base_url_changes_nothing_else(server: Server) -> None:
    """An adapter of one's own class keeps what is its own."""

    class Mine(OpenAIAdapter):
        label = ""

    mine = Mine(api_key="k")
    mine.label = "own"
    other = mine.with_base_url(server.url)
    assert (type(other), other.label, "localhost" in repr(mine)) == (Mine, "own", False)
    assert server.url in repr(other)


def test_organization_project_and_version_go_out(client: Client, server: Server) -> None:
    """OpenAI's organization and project, and Claude's version, are headers of their calls."""
    openai = OpenAIAdapter(client, "k", server.url, organization="org-1", project="proj-1")
    openai.chat_completion(ChatRequest("m", "hi"))
    claude = ClaudeAdapter(client, "k", server.url, api_version="2026-10-21")
    claude.chat_completion(ChatRequest("m", "hi"))
    claude.chat_completion(ChatRequest("m", "hi"), api_version="2023-06-01")
    first, second, third = server.requests
    assert first.headers["openai-organization"] == "org-1"
    assert first.headers["openai-project"] == "proj-1"
    assert second.headers["anthropic-version"] == "2026-10-21"
    assert third.headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_a_version_without_sampling_refuses_it_first(
    client: Client, server: Server, name: str
) -> None:
    """What 2026-10-21 refuses is refused before sending, with the way out named."""
    options = {"model": "claude-opus-5-5", "base_url": server.url, "api_key": "k"}
    with pytest.raises(termai_http.InvalidRequestError, match="2023-06-01") as caught:
        client.chat("hi", **options, api_version="2026-10-21", **{name: 1})
    assert name in str(caught.value)
    assert server.requests == []
    assert client.chat("hi", **options, **{name: 1}).attempts == 1


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_a_health_check_asks_once_for_the_models(
    client: Client, server: Server, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """True where the models are listed; else False with the reason as a warning, in one attempt."""
    adapter = ADAPTERS[name](client, "k", server.url)
    with caplog.at_level(logging.WARNING, "termai_http"):
        assert adapter.health_check() is True
        assert caplog.records == []
        assert adapter.with_base_url(server.url + "/nowhere").health_check() is False
        assert ADAPTERS[name](client).health_check() is False
        server.close()
        assert adapter.health_check() is False
    assert len(server.requests) == 2
    assert {request.method for request in server.requests} == {"GET"}
    assert "404" in caplog.text
    assert "API_KEY" in caplog.text


def test_claudes_functions_take_a_version(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes out, and its rules hold, for whole replies and for streams."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    version, request = "2026-10-21", ChatRequest("m", "hi")
    termai_http.claude.chat(request, "k", api_version=version)
    "".join(termai_http.claude.stream(request, "k", api_version=version))
    assert [one.headers["anthropic-version"] for one in server.requests] == [version] * 2
    sampled = ChatRequest("m", "hi", extra={"temperature": 1})
    for face in (termai_http.claude.chat, termai_http.claude.stream):
        with pytest.raises(termai_http.InvalidRequestError, match="refuses temperature"):
            face(sampled, "k", api_version=version)


def test_the_vendors_own_functions_use_the_process_wide_client(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openai.chat() and claude.chat() take a request and a key."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url + "/v1/")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token")
    request = ChatRequest("m", "hi")
    assert termai_http.openai.chat(request, "key\n").text == "You said: hi"
    assert termai_http.claude.chat(request).text == "You said: hi"
    with pytest.raises(termai_http.MissingKeyError, match="OPENAI_API_KEY"):
        termai_http.openai.chat(request)
    with pytest.raises(termai_http.ConfigurationError, match="position 3"):
        termai_http.claude.chat(request, "key with a space")
    first, second = server.requests
    assert first.headers["authorization"] == "Bearer key"
    assert second.headers["authorization"] == "Bearer token"


def test_a_listener_hears_a_call_in_order(client: Client, server: Server) -> None:
    """Events come in pairs and in order, with what happened."""
    heard: list[events.Event] = []
    server.script(Status(503), Status(400))
    options = {"model": "m", "base_url": server.url, "api_key": "k"}
    with client.listening(heard.append):
        with pytest.raises(termai_http.BadRequestError):
            client.chat("hi", **options)
        client.chat("hi", **options)
    client.chat("hi", **options)
    names = [type(event).__name__ for event in heard]
    assert names == [
        *("CallStarted", "AttemptStarted", "ConnectionOpened", "AttemptFailed", "RetryScheduled"),
        *("AttemptStarted", "ConnectionReused", "AttemptFailed", "CallFailed"),
        *("CallStarted", "AttemptStarted", "ConnectionReused", "AttemptSucceeded"),
        "CallSucceeded",
    ]
    assert len({event.call_id for event in heard}) == 2
    assert {event.model for event in heard} == {"m"}
    retry, failed, done = heard[4], heard[8], heard[13]
    assert isinstance(retry, events.RetryScheduled)
    assert (retry.attempt, retry.cause, retry.status_code) == (1, "503", 503)
    assert isinstance(failed, events.CallFailed)
    assert (failed.error, failed.attempts, failed.status_code) == ("BadRequestError", 2, 400)
    assert isinstance(done, events.CallSucceeded)
    assert (done.status_code, done.attempts) == (200, 1)
    assert done.request_id is not None


def test_a_listener_that_fails_breaks_nothing(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A failing listener is logged once, the others still hear, and the call succeeds."""
    heard: list[events.Event] = []

    def failing(event: events.Event) -> None:
        raise RuntimeError("listener")

    end_failing, end_heard = client.listen(failing), client.listen(heard.append)
    options = {"model": "m", "base_url": server.url, "api_key": "k"}
    client.chat("hi", **options)
    end_failing()
    end_heard()
    end_heard()
    client.chat("hi", **options)
    assert [type(event).__name__ for event in heard].count("CallSucceeded") == 1
    assert caplog.text.count("A listener failed") == 1


def test_an_interrupt_leaves_the_client_whole(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else than an error that ends a call gives its slot back and is counted."""

    def interrupt(request: RecordedRequest) -> Any:
        return Silent()

    server.fail_when(interrupt)
    monkeypatch.setattr(
        "termai_http._attempts.server_wish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    server.fail_when(lambda request: Status(503))
    options = {"model": "m", "base_url": server.url, "api_key": "k"}
    with pytest.raises(KeyboardInterrupt):
        client.chat("hi", **options)
    stats = client.stats()
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)
    assert stats.calls.failures_by_class == {"Interrupted": 1}


def test_show_http_stats_is_a_table_on_stderr(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are printed to stderr, aligned, and nothing to stdout."""
    termai_http.chat("hi", model="m", base_url=server.url, api_key="k")
    termai_http.show_http_stats()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "1 opened a connection, 0 reused one" in printed.err
    assert "100.0%" in printed.err


def test_a_proxy_from_the_environment_is_used_but_never_for_loopback(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies are read once per client; loopback and NO_PROXY hosts are reached directly."""
    proxied = "http://model.example/v1"
    with Server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "direct.invalid")
        with Client(HttpClientConfig(allow_http=True, retry=FAST)) as client:
            assert client.chat("a", model="m", base_url=proxied, api_key="k").attempts == 1
            monkeypatch.delenv("HTTP_PROXY")
            assert client.chat("b", model="m", base_url=proxied, api_key="k").attempts == 1
            client.chat("c", model="m", base_url=server.url, api_key="k")
            client.session.get(proxied + "/models", headers={"Authorization": "Bearer k"})
            with pytest.raises(termai_http.DNSError):
                client.chat("d", model="m", base_url="http://direct.invalid/v1", api_key="k")
        assert [request.path for request in proxy.requests] == [
            "http://model.example/v1/chat/completions"
        ] * 2 + ["http://model.example/v1/models"]
        assert len(proxy.connections) == 1
    assert len(server.requests) == 1


def test_explicit_proxies_beat_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured proxy that refuses is a ProxyError that shows no password."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    proxies = {"https": "http://user:secret-password@127.0.0.1:9"}
    config = HttpClientConfig(proxies=proxies, retry=FAST)
    assert "secret-password" not in repr(config)
    with Client(config) as client, pytest.raises(termai_http.ProxyError) as caught:
        client.chat("hi", model="m", base_url="https://model.example/v1", api_key="k")
    assert caught.value.attempts == 3
    assert "secret-password" not in str(caught.value)


def test_a_call_takes_its_model_from_the_environment(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TERMAI_HTTP_MODEL is the model where none is given, and its absence is told."""
    with pytest.raises(termai_http.InvalidRequestError, match="TERMAI_HTTP_MODEL"):
        client.chat("hi", api_key="k")
    monkeypatch.setenv("TERMAI_HTTP_MODEL", "claude-haiku-5-5")
    with responses.RequestsMock() as mocked:
        mocked.post("https://api.anthropic.com/v1/messages", json={"content": []})
        assert client.chat("hi", api_key="k").text == ""


def test_one_of_many_racing_initialize_wins() -> None:
    """Of 50 threads that call initialize() one makes the client, the others are told."""
    barrier = threading.Barrier(50)

    def race(seconds: int) -> termai_http.Client | None:
        config = HttpClientConfig(timeout=seconds)
        barrier.wait(30)
        try:
            return termai_http.initialize(config)
        except termai_http.AlreadyInitializedError:
            return None

    with ThreadPoolExecutor(50) as pool:
        made = [found for found in pool.map(race, range(1, 51)) if found is not None]
    assert made == [termai_http.client()]


def test_leaving_the_block_closes_the_client(server: Server) -> None:
    """A Client is a context manager that closes, also when the block fails, and twice is fine."""
    options = {"model": "m", "base_url": server.url, "api_key": "k"}
    client = Client()

    def fail_inside() -> None:
        with client:
            client.chat("hi", **options)
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert client.stats().idle_connections == 0
    client.close()
    with pytest.raises(termai_http.ClientClosed), client:
        client.chat("hi", **options)
    assert len(server.requests) == 1


def test_a_call_that_runs_while_its_client_is_closed_ends_by_itself(
    client: Client, server: Server
) -> None:
    """close() in the middle of a call takes nothing from it, and keeps no connection after it."""
    options = {"model": "m", "base_url": server.url, "api_key": "k"}
    client.session.hooks["response"].append(lambda *_, **__: client.close())
    assert client.chat("hi", **options).text == "You said: hi"
    stats = client.stats()
    assert (stats.active_connections, stats.idle_connections) == (0, 0)
    with pytest.raises(termai_http.ClientClosed):
        client.chat("hi", **options)
    assert stats.calls.total_requests == client.stats().calls.total_requests == 1


def test_a_client_that_cannot_be_made_is_shown_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The repr of a half-made client, which a tracker of errors asks for, does not fail."""
    monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "soon")
    with pytest.raises(termai_http.ConfigurationError):
        Client()
    assert "Client" in repr(Client.__new__(Client))


def test_chat_refuses_what_is_no_client() -> None:
    """client= must be a Client."""
    with pytest.raises(termai_http.ConfigurationError, match="client must be a Client"):
        termai_http.chat("hi", model="m", api_key="k", client=3)  # type: ignore[arg-type]


def test_chat_takes_a_client(client: Client, server: Server) -> None:
    """client= of the function uses that client, and makes no process-wide one."""
    termai_http.chat("hi", model="m", base_url=server.url, api_key="k", client=client)
    assert client.stats().calls.total_requests == 1
    assert termai_http.stats().calls.total_requests == 0


@pytest.mark.parametrize("url", ["api.example/v1", "ftp://api.example", "https://", "http://[x", 7])
def test_a_request_handlers_url_is_checked(client: Client, url: Any) -> None:
    """What is no URL is a ConfigurationError, before anything is sent."""
    for send in (
        lambda: RequestHandler(client).get_json(url, {}),
        lambda: RequestHandler(client).post_json(url, {}, {}),
    ):
        with pytest.raises(termai_http.ConfigurationError) as caught:
            send()
        assert caught.value.attempts == 0
    assert client.stats().calls.in_flight == 0


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\u20ac", "a\0", 7, None])
def test_a_request_handlers_headers_are_checked(client: Client, server: Server, value: Any) -> None:
    """A header that cannot go out is refused by us, not by a library in the middle of a call."""
    with pytest.raises(termai_http.TermaiHttpError) as caught:
        RequestHandler(client).get_json(f"{server.openai_url}/models", {"X-Own": value})
    assert isinstance(caught.value, termai_http.InvalidRequestError)
    assert server.requests == []
    stats = client.stats()
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


def test_a_listener_hears_a_call_that_fails_without_an_answer(
    client: Client, server: Server
) -> None:
    """Failures without a status are told by their kind, to the end."""
    heard: list[events.Event] = []
    server.script(CloseAfterRead(), CloseAfterRead())
    end = client.listen(heard.append)
    with pytest.raises(termai_http.APIConnectionError):
        client.chat("hi", model="m", base_url=server.url, api_key="k")
    end()
    client.chat("hi", model="m", base_url=server.url, api_key="k")
    assert [type(event).__name__ for event in heard] == [
        *("CallStarted", "AttemptStarted", "ConnectionOpened", "ConnectionClosed"),
        *("AttemptFailed", "RetryScheduled", "AttemptStarted", "ConnectionOpened"),
        *("ConnectionClosed", "AttemptFailed", "CallFailed"),
    ]
    first, scheduled, last = heard[4], heard[5], heard[10]
    assert isinstance(first, events.AttemptFailed)
    assert (first.attempt, first.cause, first.status_code) == (1, "ambiguous", None)
    assert isinstance(scheduled, events.RetryScheduled)
    assert 0 <= scheduled.wait <= 0.002
    assert isinstance(last, events.CallFailed)
    assert (last.error, last.attempts) == ("APIConnectionError", 2)
    assert len({event.call_id for event in heard}) == 1


def test_a_listener_may_end_itself_and_make_calls(client: Client, server: Server) -> None:
    """No lock is held while a listener runs: it may stop listening, and call, in the middle."""
    heard: list[str] = []
    options = {"model": "m", "base_url": server.url, "api_key": "k"}

    def listener(event: events.Event) -> None:
        heard.append(type(event).__name__)
        end()
        client.chat("inner", **options)
        client.stats()

    end = client.listen(listener)
    assert client.chat("outer", **options).text == "You said: outer"
    assert heard == ["CallStarted"]
    assert client.stats().calls.total_requests == 2
