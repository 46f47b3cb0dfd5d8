"""The cache of a real client: over sockets, for each vendor, for replies and streams."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import termai_http
from termai_http import CancelToken, Client, HttpClientConfig, RetryConfig, errors, events
from termai_http.contrib.cache import Cache, CacheStats
from termai_http.testing import (
    CutAfter,
    ErrorEvent,
    Fault,
    Html,
    InvalidJson,
    NoEnd,
    Refusal,
    Server,
    Status,
    Text,
)
from tests.contrib.cache_bed import in_child

VENDORS = {
    "chat": {"model": "gpt-5.5", "api": "chat"},
    "responses": {"model": "gpt-5.5", "api": "responses"},
    "claude": {"model": "claude-opus-5-5"},
}
KEY = "sk-test-0123456789abcdefghijklmnopqrstuvwxyz"
EXAMPLES = Path(__file__).parents[2] / "examples"


def vendor(name: str, server: Server) -> dict[str, Any]:
    """Return what a call to a vendor needs."""
    url = server.claude_url if name == "claude" else server.openai_url
    return {**VENDORS[name], "base_url": url, "api_key": KEY}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A cache in a file of its own."""
    return Cache(store=tmp_path / "kept.sqlite", store_timeout=10.0)


def made(cache: Cache, fast: RetryConfig) -> Client:
    """Return a client with a cache, which ``cached`` and the tests close."""
    return Client(HttpClientConfig(layers=(cache,), retry=fast))


@pytest.fixture
def cached(cache: Cache, fast: RetryConfig) -> Iterator[Client]:
    """A client with it."""
    with made(cache, fast) as client:
        yield client


def figures(client: Client) -> CacheStats:
    """Return what the client's cache did."""
    found = client.stats().layers["cache"]
    assert isinstance(found, CacheStats)
    return found


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_a_reply_comes_again_whole(name: str, cached: Client, server: Server) -> None:
    """Text, tokens, ids and headers are those of the first, and nothing was sent or billed."""
    replies = [cached.chat("Hello", **vendor(name, server)) for _ in range(2)]
    first, second = replies
    assert [reply.attempts for reply in replies] == [1, 0]
    assert [reply.from_cache for reply in replies] == [False, True]
    assert len(server.requests) == 1
    # The price of a reply from a loopback server is unknown; what was not sent cost nothing.
    assert (first.cost, second.cost) == (None, 0.0)
    again = attrs.evolve(second, attempts=1, elapsed=0.0, headers={}, cost=None)
    assert again == attrs.evolve(first, elapsed=0.0, headers={})
    assert second.request_id == second.headers[first_id(second)]
    assert set(second.headers) <= set(first.headers)
    stats = cached.stats()
    assert figures(cached) == CacheStats(hits=1, misses=1, stored=1)
    assert (stats.total_requests, stats.calls.total_requests) == (1, 2)
    assert stats.calls.output_tokens == first.usage.output_tokens


def test_tenants_of_a_gateway_never_meet(cache: Cache, fast: RetryConfig, server: Server) -> None:
    """What tells them apart may hang on the session, and then goes out with each call."""
    options, seen = vendor("chat", server), []
    for tenant in ("one", "two", "two"):
        with made(cache, fast) as client:
            client.session.headers["X-Tenant"] = tenant
            seen.append((client.chat("Mine?", **options).from_cache, len(server.requests)))
    assert seen == [(False, 1), (False, 2), (True, 2)]


def first_id(reply: termai_http.ChatResponse) -> str:
    """Return the name of the vendor's header with the id."""
    return "request-id" if reply.provider == "claude" else "x-request-id"


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_a_stream_comes_again_as_a_stream(name: str, cached: Client, server: Server) -> None:
    """Piece by piece, with the same texts and events, and the whole reply at its end."""
    options = vendor(name, server)
    server.script(Text("One two three four."))
    with cached.stream("Hello", **options) as stream:
        pieces = list(stream)
    assert len(pieces) > 2
    assert figures(cached).stored == 1
    with cached.stream("Hello", **options) as again:
        assert list(again) == pieces
    with cached.stream("Hello", **options) as third:
        kinds = [event.type for event in third.events()]
    assert kinds.count("text") == len(pieces)
    for kept in (again, third):
        assert kept.response is not None
        assert stream.response is not None
        assert (stream.response.attempts, kept.response.attempts) == (1, 0)
        assert kept.response.usage == stream.response.usage
        assert kept.response.id == stream.response.id
        assert kept.text == "One two three four."
    assert len(server.requests) == 1
    # Asked for in one piece it is another request.
    assert cached.chat("Hello", **options).attempts == 1


def test_vectors_and_counts_are_kept_and_lists_are_not(cached: Client, server: Server) -> None:
    """What costs, or is the same each time, is asked once; the models are asked for anew."""
    options = {"base_url": server.openai_url, "api_key": KEY}
    vectors = [cached.embed(["a", "b"], model="e", **options) for _ in range(2)]
    assert vectors[0].vectors == vectors[1].vectors
    assert [one.attempts for one in vectors] == [1, 0]
    counts = [cached.count_tokens("Hello", **vendor("claude", server)) for _ in range(2)]
    assert counts[0] == counts[1] > 0
    lists = [cached.list_models(**options) for _ in range(2)]
    assert lists[0] == lists[1]
    paths = [request.path for request in server.requests]
    assert [path.rpartition("/")[2] for path in paths] == [
        *("embeddings", "count_tokens", "models", "models")
    ]


@pytest.mark.parametrize(
    "fault",
    [
        Status(400),
        Status(500),
        InvalidJson(),
        Html(),
        Refusal(),
        NoEnd(),
        Text("x", finish="content_filter"),
    ],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize("name", sorted(VENDORS))
def test_what_is_no_good_reply_is_asked_for_again(
    name: str, fault: Fault, cached: Client, server: Server
) -> None:
    """Errors, pages, cut, filtered and refused replies are not kept."""
    if name == "claude" and isinstance(fault, Status) and fault.status == 400:
        fault = Status(404)
    options = {**vendor(name, server), "retry": RetryConfig(max_attempts=1)}
    server.script(fault)
    with contextlib.suppress(errors.TermaiHttpError):
        cached.chat("Hello", **options)
    assert figures(cached).stored == 0
    assert cached.chat("Hello", **options).attempts == 1
    assert cached.chat("Hello", **options).attempts == 0


@pytest.mark.parametrize(
    "fault", [CutAfter(3), CutAfter(3, how="end"), ErrorEvent(4), NoEnd(), Refusal()]
)
@pytest.mark.parametrize("name", sorted(VENDORS))
def test_a_stream_without_a_good_end_is_asked_for_again(
    name: str, fault: Fault, cached: Client, server: Server
) -> None:
    """Broken, without its end mark, refused: nothing of it is kept."""
    options = {**vendor(name, server), "retry": RetryConfig(max_attempts=1)}
    server.script(fault)
    with contextlib.suppress(errors.TermaiHttpError):
        list(cached.stream("Hello", **options))
    assert figures(cached).stored == 0


def test_a_stream_that_was_left_is_not_kept(cached: Client, server: Server) -> None:
    """Closed, cancelled or dropped before its end, it is asked for again."""
    options = vendor("claude", server)
    with cached.stream("Hello", **options) as stream:
        next(stream)
    dropped = cached.stream("Hello", **options)
    next(dropped)
    del dropped
    cancelled = cached.stream("Hello", **options)
    cancelled.cancel()
    with pytest.raises(errors.CallCancelled):
        list(cancelled)
    assert figures(cached) == CacheStats(misses=3)
    assert "".join(cached.stream("Hello", **options)) == "You said: Hello"
    assert figures(cached) == CacheStats(misses=4, stored=1)
    assert cached.stats().active_connections == 0


def test_a_kept_stream_can_be_left_cancelled_and_has_a_deadline(
    cached: Client, server: Server
) -> None:
    """It ends as one from the vendor: no call stays in flight, and no connection is used."""
    options = vendor("chat", server)
    list(cached.stream("Hello", **options))
    opened = cached.stats().opened
    token = CancelToken()
    cancelled = cached.stream("Hello", cancel=token, **options)
    next(cancelled)
    token.cancel()
    with pytest.raises(errors.CallCancelled):
        list(cancelled)
    with cached.stream("Hello", **options) as left:
        next(left)
    dropped = cached.stream("Hello", **options)
    next(dropped)
    del dropped
    late = cached.stream("Hello", **options)
    next(late)
    late._call.end = late._call.started
    with pytest.raises(errors.StreamInterrupted, match="deadline"):
        list(late)
    stats = cached.stats()
    assert figures(cached).hits == 4
    assert (stats.opened, stats.active_connections, stats.calls.in_flight) == (opened, 0, 0)


def test_what_is_over_before_it_begins_is_not_answered(cached: Client, server: Server) -> None:
    """A token that was cancelled, and a limit that has passed, end a call that is kept, too."""
    options = vendor("claude", server)
    token = CancelToken()
    token.cancel()
    cached.chat("Hello", **options)
    list(cached.stream("Hello", **options))
    for call in (cached.chat, cached.stream):
        with pytest.raises(errors.CallCancelled):
            call("Hello", cancel=token, **options)
        with pytest.raises(errors.DeadlineExceeded):
            call("Hello", timeout=1e-9, **options)
    assert figures(cached).hits == 0
    assert len(server.requests) == 2


def test_what_was_tried_again_is_kept_as_it_came_at_last(cached: Client, server: Server) -> None:
    """Attempts that failed leave nothing; the stream that answered is the one that is kept."""
    server.script(Status(500), ErrorEvent(0))
    stream = cached.stream("Hello", **vendor("claude", server))
    assert "".join(stream) == "You said: Hello"
    again = cached.stream("Hello", **vendor("claude", server))
    assert "".join(again) == "You said: Hello"
    assert again.response is not None
    assert again.response.attempts == 0
    assert len(server.requests) == 3


def test_tenants_never_meet(cached: Client, server: Server) -> None:
    """Keys, organisations, betas and servers tell them apart, also by way of one file."""
    options = vendor("claude", server)
    for more in (
        {},
        {"api_key": KEY + "2"},
        {"extra_headers": {"anthropic-beta": "context-1"}},
        {"extra_headers": {"x-tenant": "t"}},
        {"extra_query": {"tenant": "t"}},
        {"extra_body": {"metadata": {"user_id": "u"}}},
        {"base_url": server.claude_url + "/other"},
    ):
        reply = cached.chat("Hello", **{**options, **more})
        assert reply.attempts == 1, more
    assert figures(cached).hits == 0


def test_a_call_asks_anew_where_it_wants_to(cached: Client, cache: Cache, server: Server) -> None:
    """``layers=()`` leaves the cache out, a header refreshes what it kept."""
    options = vendor("responses", server)
    server.script(*(Text(f"Answer {number}.") for number in range(9)))
    seen = [
        cached.chat("Hello", **{**options, **more}).text
        for more in (
            {},
            {"layers": ()},
            {"layers": [cache]},
            {"extra_headers": {"Cache-Control": "no-cache"}},
            {},
        )
    ]
    assert seen == ["Answer 0.", "Answer 1.", "Answer 0.", "Answer 2.", "Answer 2."]


def test_those_who_listen_hear_of_it(cached: Client, server: Server) -> None:
    """A hit is a call that succeeds without an attempt, and without tokens that were billed."""
    heard: list[Any] = []
    with cached.listening(heard.append):
        for _ in range(2):
            cached.chat("Hello", **vendor("claude", server))
    names = [type(event).__name__ for event in heard]
    second = names.index("CallStarted", 1)
    assert "CacheMissed" in names[:second]
    assert names[second:] == ["CallStarted", "CacheAnswered", "CallSucceeded"]
    end = heard[-1]
    assert isinstance(end, events.CallSucceeded)
    assert (end.attempts, end.status_code, end.input_tokens) == (0, 200, 0)


@attrs.frozen
class Point:
    """What a reply is to hold."""

    x: int
    y: int


def test_typed_output_is_read_again(cached: Client, server: Server) -> None:
    """A kept reply is read as the call wants it; one that does not fit is not kept."""
    options = {**vendor("chat", server), "output": Point}
    server.script(Text("no point"), Text('{"x":1,"y":2}'))
    with pytest.raises(errors.OutputError):
        cached.chat("Where?", **options)
    for attempts in (1, 0):
        reply = cached.chat("Where?", **options)
        assert (reply.parsed, reply.attempts) == (Point(1, 2), attempts)


def test_32_threads_ask_each_question_once(cache: Cache, fast: RetryConfig, server: Server) -> None:
    """Replies at a switch every 10 µs: each thread has the answer to its own question."""
    wrong: list[str] = []
    barrier = threading.Barrier(32)
    options = vendor("claude", server)
    with made(attrs.evolve(cache, store_timeout=60.0), fast) as client:

        def work() -> None:
            barrier.wait(30)
            for number in range(6):
                text = client.chat(f"Question {number}", timeout=600, **options).text
                if text != f"You said: Question {number}":
                    wrong.append(text)

        switch = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=work) for _ in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(100)
        finally:
            sys.setswitchinterval(switch)
        stats = figures(client)
    assert not wrong
    assert len(server.requests) == 6
    assert (stats.misses, stats.stored, stats.errors) == (6, 6, 0)
    assert stats.hits + stats.shared == 32 * 6 - 6


def test_who_waits_for_a_failing_call_makes_its_own(cached: Client, server: Server) -> None:
    """The first one's key may be wrong in a way that the other's is not; both say their own."""
    entered, go = threading.Event(), threading.Event()

    def failing(request: Any) -> Status | None:
        if len(server.requests) > 1:
            return None
        entered.set()
        assert go.wait(30)
        return Status(404)

    server.fail_when(failing)
    ends: list[Any] = []
    options = vendor("chat", server)

    def work() -> None:
        try:
            ends.append(cached.chat("Hello", **options).text)
        except errors.TermaiHttpError as error:
            ends.append(type(error).__name__)

    first = threading.Thread(target=work)
    first.start()
    assert entered.wait(30)
    (built,) = cached._core.layers._built.values()
    follow, follows = built._flights.follow, threading.Event()

    def following(*given: Any) -> Any:
        follows.set()
        return follow(*given)

    built._flights.follow = following
    second = threading.Thread(target=work)
    second.start()
    assert follows.wait(30)
    go.set()
    first.join(30)
    second.join(30)
    assert sorted(ends) == ["NotFoundError", "You said: Hello"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_goes_on_with_the_same_file(cached: Client, server: Server) -> None:
    """Parent and child each have a connection of their own to it, and both find all replies."""
    options = vendor("chat", server)
    cached.chat("Hello", **options)

    def check() -> None:
        seen = [cached.chat(said, **options).attempts for said in ("Hello", "Child", "Child")]
        assert (seen, figures(cached).errors) == ([0, 1, 0], 0)

    assert in_child(check)() == 0
    assert [cached.chat(said, **options).attempts for said in ("Hello", "Child")] == [0, 0]
    assert figures(cached).errors == 0


def test_a_client_that_ends_leaves_no_file_open(
    cache: Cache, fast: RetryConfig, server: Server
) -> None:
    """Closed or dropped, with warnings as errors; the next client finds the replies."""
    options = vendor("claude", server)
    client = made(cache, fast)
    client.chat("Hello", **options)
    client.close()
    with pytest.raises(errors.ClientClosed):
        client.chat("Hello", **options)
    dropped = made(cache, fast)
    assert dropped.chat("Hello", **options).attempts == 0
    del dropped, client
    gc.collect()
    if (open_files := Path("/proc/self/fd")).is_dir():
        assert not [fd for fd in open_files.iterdir() if "kept.sqlite" in target(fd)]


def target(fd: Path) -> str:
    """Return what a descriptor leads to; one may be gone meanwhile."""
    try:
        return os.readlink(fd)
    except OSError:
        return ""


def test_nothing_of_the_request_is_in_the_files(
    cached: Client, server: Server, tmp_path: Path
) -> None:
    """Neither key nor prompt, as long as the reply does not repeat it."""
    server.script(Text("An answer."), Text("An answer."))
    for name in ("chat", "claude"):
        cached.chat("my secret plan", **vendor(name, server))
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert files.count(b"An answer.") >= 2
    assert b"secret plan" not in files
    assert KEY.encode() not in files
    assert KEY[3:20].encode() not in files


def cells(path: Path) -> list[str]:
    """Return the cells of an example in the percent format."""
    return [f"# {cell}" for cell in path.read_text("utf-8").split("# %%")[1:]]


def test_running_a_cell_again_costs_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Nor does running all of them after the kernel was started anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.claude_url)
    run = [compile(cell, "cell", "exec") for cell in cells(EXAMPLES / "cached_notebook.py")]
    asked: list[int] = []
    printed: list[str] = []
    for _ in range(2):
        notebook: dict[str, Any] = {"__name__": "__main__"}
        for _ in range(2):
            for cell in run:
                exec(cell, notebook)
            asked.append(len(server.requests))
            printed.append(capsys.readouterr().out)
        # The kernel ends.
        termai_http.close()
    assert asked[0] > 0
    assert asked == [asked[0]] * 4
    assert "You said:" in printed[0]
    assert [text.count("cache: True") for text in printed] == [0, 2, 2, 2]


def test_a_stored_reply_is_json_under_a_name_that_tells_nothing(
    fast: RetryConfig, server: Server
) -> None:
    """Any mapping of text does as a store; each value is one JSON object, and the reply in it."""
    kept: dict[str, str] = {}
    store: Callable[[], dict[str, str]] = lambda: kept  # noqa: E731
    with made(Cache(store=store), fast) as client:
        client.chat("Hello", **vendor("chat", server))
    ((name, value),) = kept.items()
    assert len(name) == 64
    said = json.loads(value)
    assert json.loads(said["body"])["choices"][0]["message"]["content"] == "You said: Hello"
    assert said["status"] == 200
