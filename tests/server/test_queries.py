"""Embeddings, token counts and lists of models on sockets: sent, retried, counted, masked."""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import termai_http
from termai_http import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    CallCancelled,
    CancelToken,
    ChatRequest,
    ClaudeAdapter,
    Client,
    ClientClosed,
    DeadlineExceeded,
    HttpClientConfig,
    InvalidResponseError,
    NotFoundError,
    OpenAIAdapter,
    RetryConfig,
    TruncatedResponse,
    Usage,
)
from termai_http._call import Clock
from termai_http.testing import Server
from tests.contract.security_tools import (
    break_reads,
    everything,
    frames_with_locals,
    must_hide,
    raising,
)
from tests.faults.harness import KEY, PROMPT, closed_port
from tests.server.canned import Canned, Request


@pytest.fixture
def canned() -> Iterator[Canned]:
    """A server that a test tells what to answer."""
    server = Canned()
    yield server
    server.close()


def vectors(number: int = 1) -> dict[str, Any]:
    """Return an answer with vectors, the last one first."""
    data = [{"index": at, "embedding": [float(at), 0.5]} for at in reversed(range(number))]
    return {"object": "list", "data": data, "model": "m1", "usage": {"prompt_tokens": 7}}


def ways(on: Client, url: str) -> dict[str, Callable[..., Any]]:
    """Return every way to make a call that is no chat, all with the canary key and texts."""
    options: dict[str, Any] = {"api_key": KEY, "base_url": url, "timeout": 5}
    shared = {**options, "client": on}
    openai = OpenAIAdapter(on, api_key=KEY, base_url=url)
    claude = ClaudeAdapter(on, api_key=KEY, base_url=url)
    request = ChatRequest("m", PROMPT)
    return {
        "Client.embed": lambda: on.embed(PROMPT, model="m", **options),
        "embed": lambda: termai_http.embed([PROMPT], model="m", **shared),
        "OpenAIAdapter.embed": lambda: openai.embed(PROMPT, model="m"),
        "Client.count_tokens": lambda: on.count_tokens(PROMPT, model="m", **options),
        "count_tokens": lambda: termai_http.count_tokens(PROMPT, model="claude-x", **shared),
        "OpenAIAdapter.count_tokens": lambda: openai.count_tokens(request),
        "ClaudeAdapter.count_tokens": lambda: claude.count_tokens(request, KEY),
        "Client.list_models": lambda: on.list_models(**options),
        "list_models": lambda: termai_http.list_models(provider="claude", **shared),
        "OpenAIAdapter.list_models": lambda: openai.list_models(),
        "ClaudeAdapter.list_models": lambda: claude.list_models(KEY),
    }


def good(request: Request) -> tuple[int, dict[str, str], Any]:
    """Answer whatever is asked."""
    headers = {"x-request-id": "req-1"}
    if "/embeddings" in request.path:
        texts = request.body["input"]
        return 200, headers, vectors(len(texts) if isinstance(texts, list) else 1)
    if "/models" in request.path:
        return 200, headers, {"data": [{"id": "m1"}, {"id": "m2"}]}
    return 200, headers, {"input_tokens": 9}


def test_texts_become_vectors(canned: Canned, client: Client) -> None:
    """One request brings all vectors, in order, with what is known of a reply."""
    canned.answer = good
    found = client.embed(
        ["a", "b", "c"],
        model="m",
        dimensions=2,
        api_key="k",
        base_url=canned.url,
        extra_headers={"X-Title": "mine"},
        user="42",
    )
    assert found.vectors == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    assert (found.usage, found.model) == (Usage(input_tokens=7), "m1")
    assert (found.request_id, found.status_code, found.attempts) == ("req-1", 200, 1)
    assert found.headers["x-request-id"] == "req-1"
    assert found.raw["data"][0]["index"] == 2
    assert found.elapsed > 0
    sent = canned.seen[0]
    assert (sent.method, sent.path) == ("POST", "/v1/embeddings")
    assert sent.body == {"model": "m", "input": ["a", "b", "c"], "dimensions": 2, "user": "42"}
    assert (sent.headers["authorization"], sent.headers["x-title"]) == ("Bearer k", "mine")
    assert client.metrics.get_stats().input_tokens == 7


def test_packed_vectors_are_unpacked(canned: Canned, client: Client) -> None:
    """base64 comes as a list of numbers like any other."""
    packed = base64.b64encode(struct.pack("<2f", 0.5, -3.0)).decode()
    canned.answer = lambda _: (200, {}, {"data": [{"index": 0, "embedding": packed}]})
    options: dict[str, Any] = {"api_key": "k", "base_url": canned.url}
    found = client.embed("a", model="m", encoding_format="base64", **options)
    assert found.vectors == [[0.5, -3.0]]
    assert canned.seen[0].body["encoding_format"] == "base64"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gpt-5.5", "/v1/responses/input_tokens"),
        ("claude-opus-5-5", "/v1/messages/count_tokens"),
    ],
)
def test_tokens_are_counted_by_the_vendor(
    canned: Canned, client: Client, model: str, path: str
) -> None:
    """The prompt goes out in the form of the API that counts; nothing is generated."""
    canned.answer = good
    options: dict[str, Any] = {"api_key": "k", "base_url": canned.url}
    chat: dict[str, Any] = {"model": model, "system": "Be brief.", "max_tokens": 9}
    assert client.count_tokens("How long?", **chat, **options) == 9
    assert canned.seen[0].path == path
    assert canned.seen[0].body["model"] == model
    assert "How long?" in json.dumps(canned.seen[0].body)
    assert not {"max_tokens", "max_output_tokens"} & set(canned.seen[0].body)


def test_all_pages_of_models_are_listed(canned: Canned, client: Client) -> None:
    """Claude's list comes in pages, each asked for after the last model of the one before."""
    pages: dict[str, dict[str, Any]] = {
        "": {"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "last_id": "b"},
        "b": {"data": [{"id": "c"}], "has_more": True},
        "c": {"data": [{"id": "d"}], "has_more": False, "last_id": "d"},
    }
    canned.answer = lambda request: (
        200,
        {},
        pages[request.path.partition("after_id=")[2].partition("&")[0]],
    )
    options: dict[str, Any] = {"api_key": "k", "base_url": canned.url, "provider": "claude"}
    found = client.list_models(extra_query={"lifecycle": ["active"]}, **options)
    assert [model.id for model in found] == ["a", "b", "c", "d"]
    assert [request.path for request in canned.seen] == [
        "/v1/models?limit=1000&lifecycle=active",
        "/v1/models?limit=1000&lifecycle=active&after_id=b",
        "/v1/models?limit=1000&lifecycle=active&after_id=c",
    ]
    assert {request.method for request in canned.seen} == {"GET"}
    stats = client.stats()
    assert (stats.opened, stats.calls.total_requests) == (1, 3)


@pytest.mark.parametrize("payload", [{"data": [{"id": "a"}]}, [{"id": "a"}]])
def test_a_list_without_pages_is_asked_for_once(
    canned: Canned, client: Client, payload: Any
) -> None:
    """OpenAI has one page; some servers answer the bare list."""
    canned.answer = lambda _: (200, {}, payload)
    found = client.list_models(api_key="k", base_url=canned.url)
    assert [model.id for model in found] == ["a"]
    assert [request.path for request in canned.seen] == ["/v1/models"]
    assert OpenAIAdapter(client, "k", canned.url).health_check()


def test_pages_that_repeat_themselves_are_told(canned: Canned, client: Client) -> None:
    """A server that always sends the same page does not keep the caller for ever."""
    page = {"data": [{"id": "a"}], "has_more": True, "last_id": "a"}
    canned.answer = lambda _: (200, {}, page)
    with pytest.raises(InvalidResponseError, match="repeat"):
        client.list_models(provider="claude", api_key="k", base_url=canned.url)
    assert len(canned.seen) == 2


def test_pages_without_an_end_are_told(canned: Canned, client: Client) -> None:
    """Nor does one that always has a new page."""
    canned.answer = lambda _: (
        200,
        {},
        {"data": [{"id": f"m{len(canned.seen)}"}], "has_more": True},
    )
    with pytest.raises(InvalidResponseError, match="never end"):
        client.list_models(provider="claude", api_key="k", base_url=canned.url, timeout=60)
    assert len(canned.seen) == 100


def test_all_pages_have_one_deadline(canned: Canned, client: Client) -> None:
    """Each page may be quick; together they may not take longer than was given."""
    go_on = threading.Event()

    def slowly(request: Request) -> tuple[int, dict[str, str], Any]:
        go_on.wait(0.15)
        return 200, {}, {"data": [{"id": f"m{len(canned.seen)}"}], "has_more": True}

    canned.answer = slowly
    with pytest.raises(DeadlineExceeded) as caught:
        client.list_models(provider="claude", api_key="k", base_url=canned.url, timeout=0.5)
    assert caught.value.elapsed >= 0.5
    go_on.set()


def test_each_is_tried_again_as_a_chat_is(canned: Canned, client: Client) -> None:
    """A 503 is repeated within the budget of attempts; a 400 is not."""
    for name, make in ways(client, canned.url).items():
        canned.seen.clear()
        canned.answer = lambda request: good(request) if len(canned.seen) > 1 else (503, {}, {})
        make()
        assert len(canned.seen) == 2, name
        canned.seen.clear()
        canned.answer = lambda _: (400, {}, {"error": {"message": "No.", "code": "bad"}})
        with pytest.raises(BadRequestError) as caught:
            make()
        assert (len(canned.seen), caught.value.attempts, caught.value.code) == (1, 1, "bad"), name
    stats = client.stats()
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)
    assert stats.calls.successful_requests == stats.calls.failed_requests == len(ways(client, ""))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", InvalidResponseError),
        (b"<html>", InvalidResponseError),
        (b"[]", InvalidResponseError),
        (b"{}", InvalidResponseError),
        (b'{"data": [', TruncatedResponse),
        (b"[", InvalidResponseError),
        (b'{"error": {"message": "Busy."}}', InvalidResponseError),
    ],
)
def test_a_success_that_is_none_is_told(
    canned: Canned, client: Client, payload: bytes, expected: type[Exception]
) -> None:
    """What comes with a 200 is checked; only vectors may have cost something."""
    canned.answer = lambda _: (200, {"request-id": "req-2"}, payload)
    for name, make in ways(client, canned.url).items():
        if payload == b"[]" and "models" in name:
            assert make() == []
            continue
        with pytest.raises(expected) as caught:
            make()
        error = caught.value
        assert isinstance(error, termai_http.TermaiHttpError)
        assert (error.status_code, error.request_id) == (200, "req-2"), name
        if "embed" in name:
            assert error.maybe_billed, name


def test_a_server_without_the_endpoint_says_so(canned: Canned, client: Client) -> None:
    """A 404 is the server's own word."""
    for make in ways(client, canned.url).values():
        with pytest.raises(NotFoundError):
            make()


def test_a_health_check_is_one_request_and_one_attempt(canned: Canned, client: Client) -> None:
    """It asks for the models once, whatever comes."""
    adapters = [
        OpenAIAdapter(client, api_key="k", base_url=canned.url),
        ClaudeAdapter(client, api_key="k", base_url=canned.url),
    ]
    for adapter in adapters:
        for status, healthy in ((200, True), (503, False), (401, False)):
            canned.seen.clear()
            page: dict[str, Any] = {"data": [], "has_more": True, "last_id": "a"}
            canned.answer = lambda _, status=status, page=page: (status, {}, page)  # type: ignore[misc]
            assert adapter.health_check() is healthy
            assert [request.path for request in canned.seen] == ["/v1/models"]
    assert not OpenAIAdapter(client).health_check()


def test_a_token_ends_each(canned: Canned, client: Client) -> None:
    """cancel= works from another thread, and before."""
    asked, go_on = threading.Event(), threading.Event()

    def wait(request: Request) -> tuple[int, dict[str, str], Any]:
        asked.set()
        go_on.wait(20)
        return good(request)

    canned.answer = wait
    options: dict[str, Any] = {"api_key": "k", "base_url": canned.url}
    calls: list[Callable[[CancelToken], Any]] = [
        lambda token: client.embed("a", model="m", cancel=token, **options),
        lambda token: client.count_tokens("a", model="claude-x", cancel=token, **options),
        lambda token: client.list_models(cancel=token, **options),
    ]
    for make in calls:
        asked.clear()
        with CancelToken() as token:
            watcher = threading.Thread(target=lambda token=token: asked.wait(20) and token.cancel())
            watcher.start()
            with pytest.raises(CallCancelled):
                make(token)
            watcher.join()
            with pytest.raises(CallCancelled):
                make(token)
    go_on.set()


def test_a_closed_client_makes_none(client: Client) -> None:
    """They end as a chat does there."""
    client.close()
    for make in ways(client, "http://127.0.0.1:1").values():
        with pytest.raises(ClientClosed):
            make()


def test_an_error_repeats_no_secret(canned: Canned, client: Client) -> None:
    """A server that quotes keys, texts, headers and queries is not quoted."""
    canned.answer = lambda request: (
        401,
        {"x-request-id": "req-3"},
        {"error": {"message": f"{request.headers} {request.body} {request.path}"}},
    )
    for name, make in ways(client, canned.url).items():
        with pytest.raises(AuthenticationError) as caught:
            make()
        must_hide(everything(caught.value), name)
    header = {"X-Other-Key": "another-key-0123456789"}
    with pytest.raises(AuthenticationError) as caught:
        client.embed("a", model="m", api_key="k", base_url=canned.url, extra_headers=header)
    assert "another-key" not in everything(caught.value)
    query = {"key": "another-key-0123456789"}
    with pytest.raises(AuthenticationError) as caught:
        client.list_models(api_key="k", base_url=canned.url, extra_query=query)
    assert "another-key" not in everything(caught.value)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_what_is_torn_away_shows_no_secret(
    canned: Canned, failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C in a call, or between two attempts, passes through clean frames."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        for name, make in ways(client, canned.url).items():
            with monkeypatch.context() as patch:
                break_reads(patch, failure)
                with pytest.raises(failure) as caught:
                    make()
            must_hide(frames_with_locals(caught.value), name)
        assert client.stats().calls.in_flight == 0
    clock = Clock(wait=raising(failure))
    with Client(HttpClientConfig(trust_env=False), _clock=clock) as client:
        for name, make in ways(client, f"http://127.0.0.1:{closed_port()}").items():
            with pytest.raises(failure) as caught:
                make()
            must_hide(frames_with_locals(caught.value), name)


def test_many_threads_share_one_pool(canned: Canned, client: Client) -> None:
    """Each thread gets the answer to what it asked, and all is given back."""
    canned.answer = good
    options: dict[str, Any] = {"api_key": "k", "base_url": canned.url}
    barrier = threading.Barrier(16)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            barrier.wait(20)
            for _ in range(5):
                assert len(client.embed(["a"] * number, model="m", **options).vectors) == number
                assert client.count_tokens("a", model="claude-x", **options) == 9
                assert len(client.list_models(**options)) == 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    stats = client.stats()
    assert stats.calls.successful_requests == 16 * 15
    assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


def test_retries_of_a_call_can_be_chosen(canned: Canned, client: Client) -> None:
    """retry= and timeout= of a call win over the client's."""
    canned.answer = lambda _: (503, {}, {})
    once = RetryConfig(max_attempts=1)
    options: dict[str, Any] = {"api_key": "k", "base_url": canned.url, "retry": once}
    for make in (
        lambda: client.embed("a", model="m", **options),
        lambda: client.count_tokens("a", model="m", **options),
        lambda: client.list_models(**options),
    ):
        canned.seen.clear()
        with pytest.raises(APIStatusError):
            make()
        assert len(canned.seen) == 1


def test_adapters_take_a_calls_options(canned: Canned, client: Client) -> None:
    """Headers and base URL of one call; a vendor's parameter is told where it belongs."""
    canned.answer = good
    adapter = OpenAIAdapter(client, api_key="k", base_url="http://127.0.0.1:1")
    moved: dict[str, Any] = {"base_url": canned.url, "extra_headers": {"X-Title": "mine"}}
    assert adapter.embed("a", model="m", extra_body={"user": "42"}, **moved).vectors == [[0.0, 0.5]]
    assert canned.seen[0].body["user"] == "42"
    assert len(adapter.with_base_url(canned.url).list_models()) == 2
    assert adapter.count_tokens({"model": "m", "input": "a"}, **moved) == 9
    assert all(request.headers["authorization"] == "Bearer k" for request in canned.seen)
    for wrong in (adapter.list_models, lambda **o: adapter.embed("a", model="m", **o)):
        with pytest.raises(TypeError, match="user="):
            wrong(user="42")
    assert (
        ClaudeAdapter(client, api_key="k", base_url=canned.url).count_tokens(
            {"model": "claude-x", "messages": [{"role": "user", "content": "a"}]}
        )
        == 9
    )


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "base64"}])
def test_the_loopback_server_embeds(
    server: Server, client: Client, encoding: dict[str, Any]
) -> None:
    """Packed or not, the same text has the same vector, of the dimensions asked for."""
    options: dict[str, Any] = {"api_key": "k", "base_url": server.url, **encoding}
    texts = ["one", "two", "one"]
    found = client.embed(texts, model="text-embedding-3-small", dimensions=8, **options)
    assert [len(vector) for vector in found.vectors] == [8, 8, 8]
    assert found.vectors[0] == found.vectors[2] != found.vectors[1]
    assert found.usage.input_tokens > 0


def test_the_loopback_server_counts(server: Server, client: Client) -> None:
    """More text is more tokens, in both vendors' APIs, with all that a chat may be given."""
    options: dict[str, Any] = {"api_key": "k", "base_url": server.url, "max_tokens": 5}
    for model in ("gpt-5.5", "claude-opus-5-5"):
        short = client.count_tokens("One.", model=model, temperature=1, stop="END", **options)
        long = client.count_tokens("One two three four.", model=model, system="Hi.", **options)
        assert 0 < short < long


def test_the_loopback_server_lists_in_pages(client: Client) -> None:
    """With more models than a page of Claude's has, all of them are listed."""
    names = [f"model-{number}" for number in range(2500)]
    with Server(models=names) as server:
        options: dict[str, Any] = {"api_key": "k", "base_url": server.url}
        for provider, pages in (("claude", 3), ("openai", 1)):
            before = len(server.requests)
            found = client.list_models(provider=provider, **options)
            assert [model.id for model in found] == names
            assert found[0].created is not None
            assert len(server.requests) - before == pages
