"""Many calls on the direct way and beside it: threads, forks, closes, proxies, keys in memory."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import termai_http
from termai_http import CancelToken, Client
from termai_http._idle import IdleConnections
from tests.contract.security_tools import everything, must_hide
from tests.contract.test_security_memory import is_ours, reachable
from tests.faults.connecting import ESTABLISHED, Authority, resolve, secure
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import PROMPT, Bench, Peer, RawServer, closed_port, good_reply
from tests.faults.rows_process import Child
from tests.server.direct_tools import (
    SHORT,
    WAYS,
    answer,
    ask,
    chunks,
    client_on,
    end_of,
    must_be_given_back,
    quiet,
    short_body,
    watch_ways,
)

THREADS, CALLS = 32, 100


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way in turn."""
    return str(request.param)


@pytest.fixture
def bench(way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose clients' calls go one way; what it finds wrong fails the test."""
    monkeypatch.setenv("TERMAI_HTTP_DIRECT", "1" if way == "direct" else "0")
    with quiet(), Bench(TermaiDriver()) as made:
        yield made
    assert made.flaws == []


def prompt_of(request: bytes) -> str:
    """Return what a request asks."""
    return str(json.loads(request.partition(b"\r\n\r\n")[2])["messages"][-1]["content"])


def echo(peer: Peer, request: bytes) -> None:
    """Answer with the prompt; every third in chunks."""
    body = short_body(prompt_of(request))
    if len(body) % 3:
        peer.send(answer(body))
    else:
        chunked = b"Transfer-Encoding: chunked\r\n"
        peer.send(answer(chunks(body, 20), chunked, length=False))


def together(number: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(index)`` in threads that start at one barrier."""
    barrier = threading.Barrier(number)

    def run(index: int) -> Any:
        barrier.wait(30)
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return [future.result(90) for future in [pool.submit(run, i) for i in range(number)]]


def test_no_thread_gets_another_s_reply(bench: Bench, way: str) -> None:
    """Many threads on one client: every reply is its own, and the figures add up."""
    server = bench.answering(echo)
    client = bench.client()

    def work(index: int) -> None:
        for number in range(CALLS):
            prompt = f"{index}.{number} " + "x" * (number % 7)
            assert ask(client, server.url, prompt).text == prompt

    with watch_ways() as went:
        together(THREADS, work)
    assert went == [True] * THREADS * CALLS * (way == "direct")
    must_be_given_back(client)
    stats = client.stats()
    assert stats.opened + stats.reused == stats.total_requests == THREADS * CALLS
    assert stats.opened == server.connections <= THREADS
    assert stats.calls.successful_requests == THREADS * CALLS
    assert stats.idle_connections + stats.evicted + stats.discarded == stats.opened


def test_threads_on_both_ways_share_their_connections(bench: Bench, way: str) -> None:
    """A tool that is put on and taken off meanwhile sends calls the other way, and loses none."""
    server = bench.answering(echo)
    client = bench.client()
    ended = threading.Event()

    def toggle() -> None:
        session: Any = client.session
        while not ended.is_set():
            session.hooks["response"].append(lambda response, **_: response)
            ended.wait(0.002)
            session.hooks["response"].clear()
            ended.wait(0.002)

    def work(index: int) -> None:
        for number in range(CALLS // 2):
            assert ask(client, server.url, f"{index}.{number}").text == f"{index}.{number}"

    toggler = threading.Thread(target=toggle)
    toggler.start()
    try:
        with watch_ways() as went:
            together(THREADS // 2, work)
    finally:
        ended.set()
        toggler.join(30)
    total = THREADS // 2 * (CALLS // 2)
    if way == "direct":
        assert 0 < len(went) < total
    must_be_given_back(client)
    stats = client.stats()
    assert stats.opened + stats.reused == stats.total_requests == total
    assert stats.opened == server.connections <= THREADS // 2


def test_few_slots_are_enough_for_many_threads(bench: Bench) -> None:
    """Never more calls at once than slots, whoever waits; nobody waits for ever."""
    lock, counts = threading.Lock(), [0, 0]

    def play(peer: Peer, request: bytes) -> None:
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
        peer.wait(0.001)
        with lock:
            counts[0] -= 1
        echo(peer, request)

    server = bench.answering(play)
    client = bench.client(max_connections=3)

    def work(index: int) -> None:
        for number in range(20):
            assert ask(client, server.url, f"{index}.{number}").text == f"{index}.{number}"

    together(THREADS // 2, work)
    must_be_given_back(client)
    assert counts[1] <= 3
    assert client.stats().opened == server.connections <= 3


def test_a_connection_given_back_is_the_next_call_s(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gave it back does not close it any more, however late it looks at what it did."""
    server = bench.answering(echo)
    client = bench.client()
    stored: list[None] = []
    about_to, over = threading.Event(), threading.Event()

    def slowed(put: Callable[..., None]) -> Callable[..., None]:
        def slow(*arguments: Any) -> None:
            stored.append(None)
            number = len(stored)
            if number == 2:
                about_to.set()
                over.wait(20)
            put(*arguments)
            if number == 1:
                # From now on another call may have it, and may be just giving it back.
                others.append(pool.submit(ask, client, server.url, "other"))
                about_to.wait(20)

        return slow

    for name in ("store", "put"):
        monkeypatch.setattr(IdleConnections, name, slowed(getattr(IdleConnections, name)))
    others: list[Any] = []
    with ThreadPoolExecutor(1) as pool:
        assert ask(client, server.url, "first").text == "first"
        over.set()
        assert others[0].result(20).text == "other"
    assert ask(client, server.url, "last").text == "last"
    assert server.connections == client.stats().opened == 1
    must_be_given_back(client)


def test_a_reused_connection_that_its_server_closed_is_replaced(bench: Bench, way: str) -> None:
    """Closed while idle: another is opened and nothing fails; closed just then: replayed once."""
    plays = iter([True, True, False, True])

    def handle(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            server.requests.append(request)
            if not next(plays):
                return
            echo(peer, request)

    server = bench.serve(handle)
    client = bench.client(retries=1)
    assert ask(client, server.url, "a").attempts == 1
    assert ask(client, server.url, "b").attempts == 1
    with watch_ways() as went:
        assert ask(client, server.url, "c").attempts == 2
    assert went == [True, True] * (way == "direct")
    assert server.connections == client.stats().opened == 2
    must_be_given_back(client)


def held(begun: threading.Event, go_on: threading.Event) -> Callable[[Peer, bytes], None]:
    """Return what echoes, the prompt "slow" only once it may go on."""

    def play(peer: Peer, request: bytes) -> None:
        if prompt_of(request) == "slow":
            begun.set()
            go_on.wait(20)
        echo(peer, request)

    return play


def hosts(bench: Bench, number: int, server: RawServer) -> list[str]:
    """Return URLs of many hosts that are all one server."""
    names = [f"h{at}.localhost" for at in range(number)]
    for name in names:
        resolve(bench, name, lambda: [server.port])
    return [f"http://{name}:{server.port}" for name in names]


def test_a_pool_that_is_dropped_is_made_again(bench: Bench, way: str) -> None:
    """With more hosts than pools are kept, the oldest one's connections are closed, and no other's.

    Its next call opens another, the same way.
    """
    closed = threading.Semaphore(0)

    def handle(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            echo(peer, request)
        closed.release()

    server = bench.serve(handle)
    urls = hosts(bench, 70, server)
    client = bench.client()
    with watch_ways() as went:
        for url in urls:
            assert ask(client, url, url).text == url
        gc.collect()
        for _ in range(6):
            assert closed.acquire(timeout=20)
        assert client.stats().idle_connections == 64
        for url in urls:
            assert ask(client, url, url).text == url
    assert went == [True] * 140 * (way == "direct")
    assert len(client.session.get_adapter("http://").pools()) == 64
    stats = client.stats()
    assert stats.opened + stats.reused == stats.total_requests == 140
    assert stats.opened == server.connections
    must_be_given_back(client)


def test_a_pool_may_be_dropped_under_a_call(bench: Bench) -> None:
    """The call goes on; its connection is closed behind it."""
    begun, go_on = threading.Event(), threading.Event()

    server = bench.answering(held(begun, go_on))
    bench.cleanup(go_on.set)
    first, *others = hosts(bench, 70, server)
    client = bench.client()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, client, first, "slow")
        begun.wait(20)
        for url in others:
            ask(client, url, url)
        go_on.set()
        assert slow.result(20).text == "slow"
    must_be_given_back(client)
    assert client.stats().idle_connections == 64
    assert ask(client, first, "again").text == "again"


def test_the_session_is_closed_under_a_call(bench: Bench) -> None:
    """Its pools go; the call goes on, its connection is closed behind it, and others are opened."""
    begun, go_on = threading.Event(), threading.Event()

    server = bench.answering(held(begun, go_on))
    bench.cleanup(go_on.set)
    client = bench.client()
    ask(client, server.url, "first")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, client, server.url, "slow")
        begun.wait(20)
        pools = client.session.get_adapter("http://").pools()
        client.session.close()
        go_on.set()
        assert slow.result(20).text == "slow"
    # Nobody would come to close it there.
    assert [len(pool.idle) for pool in pools] == [0]
    must_be_given_back(client)
    assert client.stats().idle_connections == 0
    for number in range(3):
        assert ask(client, server.url, str(number)).text == str(number)
    assert server.connections == client.stats().opened == 2
    assert client.stats().idle_connections == 1


@pytest.mark.parametrize("within_tls", [False, True], ids=["plain", "tls"])
def test_the_session_used_raw_goes_on_where_calls_went(bench: Bench, within_tls: bool) -> None:
    """On their connections, with much to send and to read; and calls go on after it."""
    size = 8 * 1024 * 1024
    authority = Authority(bench)
    context = authority.context()

    def handle(peer: Peer) -> None:
        if within_tls:
            secure(peer, context)
        while (request := peer.read_request()) is not None:
            if request.startswith(b"POST /raw "):
                peer.send(answer(request[-size:]))
            else:
                echo(peer, request)

    server = bench.serve(handle)
    client = bench.client(ca_bundle=authority.bundle)
    url = server.tls_url if within_tls else server.url
    for number in range(3):
        assert ask(client, url, str(number)).text == str(number)
        for letter in (b"x", b"y"):
            assert client.session.post(f"{url}/raw", data=letter * size).content == letter * size
    assert server.connections == 1
    must_be_given_back(client)


def test_a_client_is_closed_while_calls_run(bench: Bench) -> None:
    """They end at once, and what comes later is refused, without a connection."""
    begun = threading.Semaphore(0)

    def play(peer: Peer, request: bytes) -> None:
        if prompt_of(request) == "slow":
            begun.release()
            peer.wait()
        echo(peer, request)

    server = bench.answering(play)
    client = bench.client()
    for number in range(3):
        ask(client, server.url, str(number))
    with ThreadPoolExecutor(8) as pool:
        slow = [
            pool.submit(end_of, lambda: ask(client, server.url, "slow", timeout=60))
            for _ in range(8)
        ]
        for _ in range(8):
            assert begun.acquire(timeout=20)
        client.close()
        assert {one.result(20).kind for one in slow} == {"ClientClosed"}
    opened = server.connections
    assert end_of(lambda: ask(client, server.url)).kind == "ClientClosed"
    assert server.connections == opened == 8
    must_be_given_back(client)
    assert client.stats().idle_connections == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_opens_its_own_connections(bench: Bench, way: str) -> None:
    """Parent and child go on at once, the same way, and never on one connection."""
    server = bench.answering(lambda peer, request: echo(peer, request))
    client = bench.client()
    for number in range(3):
        ask(client, server.url, f"parent {number}")

    def work() -> list[Any]:
        texts = [ask(client, server.url, f"child {number}").text for number in range(3)]
        stats = client.stats()
        return [texts, stats.opened, stats.reused, stats.idle_connections]

    with watch_ways() as went:
        child = Child(work)
        for number in range(3, 6):
            assert ask(client, server.url, f"parent {number}").text == f"parent {number}"
        assert child.result() == [["child 0", "child 1", "child 2"], 1, 2, 1]
        assert went == [True] * 3 * (way == "direct")
    assert server.connections == 2
    assert client.stats().opened == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_within_a_call_leaves_the_parent_s_alone(bench: Bench) -> None:
    """The child has no part in it, and the parent's reply comes."""
    begun, go_on = threading.Event(), threading.Event()

    server = bench.answering(held(begun, go_on))
    bench.cleanup(go_on.set)
    client = bench.client()
    ask(client, server.url, "first")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, client, server.url, "slow")
        begun.wait(20)

        def work() -> list[Any]:
            reply = ask(client, server.url, "child")
            stats = client.stats()
            return [reply.text, stats.opened, stats.active_connections, stats.calls.in_flight]

        assert Child(work).result() == ["child", 1, 0, 0]
        go_on.set()
        assert slow.result(20).text == "slow"
    assert ask(client, server.url, "last").text == "last"
    assert server.connections == 2
    must_be_given_back(client)


STEPS = ("send", "sendall", "recv", "recv_into", "settimeout", "setblocking", "gettimeout")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_breaks_in_gives_all_back(
    monkeypatch: pytest.MonkeyPatch, way: str, failure: type[BaseException]
) -> None:
    """At each step on the socket: it passes, the connection is closed, and the next call is whole.

    A new connection and a kept one have their steps; the last run has one step less than it needs.
    """
    mine = threading.get_ident()
    steps: list[int] = [0]

    def breaking(name: str) -> Callable[..., Any]:
        real = getattr(socket.socket, name)

        def step(sock: Any, *arguments: Any) -> Any:
            if threading.get_ident() == mine:
                steps[0] -= 1
                if steps[0] == 0:
                    raise failure
            return real(sock, *arguments)

        return step

    for kept in (False, True):
        broken = 0
        for number in range(1, 60):
            server = RawServer(serve_echo)
            with contextlib.closing(server), client_on(way) as client:
                if kept:
                    ask(client, server.url, "first")
                with monkeypatch.context() as patch:
                    for name in STEPS:
                        patch.setattr(socket.socket, name, breaking(name))
                    steps[0] = number
                    with contextlib.suppress(failure):
                        # Another time than before, so that it is set.
                        ask(client, server.url, "second", timeout=3)
                    broken += steps[0] <= 0
                if steps[0] > 0:
                    break
                must_be_given_back(client)
                assert ask(client, server.url, "third").text == "third"
                assert client.stats().idle_connections == 1
        assert broken == number - 1 > 1


def serve_echo(peer: Peer) -> None:
    """Answer each request with its prompt."""
    while (request := peer.read_request()) is not None:
        echo(peer, request)


class Tunnels:
    """A proxy that opens tunnels to a TLS server, and records what it was asked.

    Attributes:
        server: The proxy; its requests are the CONNECTs.
        inner: What came through the tunnels.
    """

    def __init__(self, bench: Bench, context: ssl.SSLContext, *, refuse: bool = False) -> None:
        self._context = context
        self._refuse = refuse
        self.inner: list[bytes] = []
        self.server = bench.serve(self._handle)

    def _handle(self, peer: Peer) -> None:
        asked = peer.read_request()
        assert asked is not None
        self.server.requests.append(asked)
        if self._refuse:
            peer.send(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n")
            return
        peer.send(ESTABLISHED)
        secure(peer, self._context)
        while (request := peer.read_request()) is not None:
            self.inner.append(request)
            echo(peer, request)


def test_a_tunnel_is_opened_the_ordinary_way_and_used_the_direct_one(
    bench: Bench, way: str
) -> None:
    """The same bytes within it either way, and nothing of them to the proxy."""
    authority = Authority(bench)
    proxy = Tunnels(bench, authority.context("model.example"))
    client = bench.client(ca_bundle=authority.bundle, proxies={"https": proxy.server.url})
    url = "https://model.example"
    with watch_ways() as went:
        for number in range(4):
            assert ask(client, url, "the same", timeout=20).attempts == 1, number
    assert went == ([False, True, True, True] if way == "direct" else [])
    assert len(set(proxy.inner)) == 1
    assert len(proxy.inner) == 4
    assert len(proxy.server.requests) == proxy.server.connections == client.stats().opened == 1
    must_be_given_back(client)
    assert proxy.server.requests[0].startswith(b"CONNECT model.example:443 HTTP/1.")
    assert SHORT["api_key"].encode() not in proxy.server.requests[0]


def test_many_threads_open_their_tunnels(bench: Bench) -> None:
    """A call that finds no idle tunnel opens one, in its own slot; figures add up."""
    authority = Authority(bench)
    proxy = Tunnels(bench, authority.context("model.example"))
    client = bench.client(
        ca_bundle=authority.bundle, proxies={"https": proxy.server.url}, max_connections=4
    )

    def work(index: int) -> None:
        for number in range(10):
            prompt = f"{index}.{number}"
            assert ask(client, "https://model.example", prompt, timeout=60).text == prompt

    together(8, work)
    must_be_given_back(client)
    stats = client.stats()
    assert stats.opened == proxy.server.connections <= 4
    assert stats.opened + stats.reused == stats.total_requests == 80


def test_a_tunnel_that_is_refused_is_told_as_ever(bench: Bench) -> None:
    """By the proxy's status, and nothing of the request was sent."""
    authority = Authority(bench)
    proxy = Tunnels(bench, authority.context("model.example"), refuse=True)
    client = bench.client(
        ca_bundle=authority.bundle, proxies={"https": proxy.server.url}, retries=0
    )
    ended = end_of(lambda: ask(client, "https://model.example", timeout=20))
    assert ended.kind == "ProxyError"
    assert ended.fields["status_code"] == 403
    assert not ended.fields["maybe_billed"]
    must_be_given_back(client)


@pytest.mark.parametrize(
    ("proxies", "url"),
    [
        ({"http": "http://127.0.0.1:{}"}, "http://model.example"),
        ({"http": "https://127.0.0.1:{}"}, "http://model.example"),
        ({"https": "https://127.0.0.1:{}"}, "https://model.example"),
        ({"http": "socks5h://127.0.0.1:{}"}, "http://model.example"),
        ({"https": "socks5h://127.0.0.1:{}"}, "https://model.example"),
        ({"all": "socks5h://127.0.0.1:{}"}, "https://model.example"),
    ],
)
def test_other_proxies_are_never_gone_past(proxies: dict[str, str], url: str) -> None:
    """What takes whole requests, or wants TLS or SOCKS itself, is left to the libraries."""
    port = closed_port()
    given = {scheme: proxy.format(port) for scheme, proxy in proxies.items()}
    with client_on("direct", proxies=given, allow_http=True) as client, watch_ways() as went:
        for _ in range(2):
            assert end_of(lambda: ask(client, url, timeout=20)).kind == "ProxyError"
        assert went == []
        must_be_given_back(client)


def test_a_plain_proxy_gets_whole_requests(bench: Bench) -> None:
    """With the whole address in their first line, on a connection that is used again."""
    server = bench.answering(echo)
    client = bench.client(proxies={"http": server.url}, allow_http=True)
    with watch_ways() as went:
        for number in range(3):
            assert ask(client, "http://model.example", str(number)).text == str(number)
    assert went == []
    assert server.connections == 1
    for request in server.requests:
        assert request.startswith(b"POST http://model.example/v1/chat/completions HTTP/1.1\r\n")


def texts_held(client: Client) -> list[str]:
    """Return all texts that our modules and this client reach, and what ours show of themselves."""
    modules = [
        value
        for module in [module for name, module in sys.modules.items() if "termai_http" in name]
        for name, value in vars(module).items()
        if not name.startswith("__")
    ]
    client.session.headers["X-Planted"] = "a text that the search must find"
    gc.collect()
    found = reachable(client, *modules)
    texts = [str(item) for item in found if isinstance(item, (str, bytes, bytearray))]
    return texts + [repr(item) for item in gc.get_objects() if is_ours(item)]


def test_nothing_that_stays_holds_a_key_or_a_prompt(way: str) -> None:
    """After calls of many tenants through one client, of every end and on kept connections."""
    answers = [
        good_reply(),
        answer(b'{"error":{"message":"no"}}', status=b"400 X"),
        answer(b"no JSON"),
        answer(b"x\r\n", b"Transfer-Encoding: chunked\r\n", length=False),
        answer(headers=b"X-Long: a\r\n b\r\n"),
        answer(headers=b"Connection: close\r\n"),
        answer(chunks(short_body()), b"Transfer-Encoding: chunked\r\n", length=False),
        answer()[:-3],
    ]
    server = RawServer(lambda peer: handle(peer))

    def handle(peer: Peer) -> None:
        while peer.read_request() is not None:
            data = answers[at % len(answers)]
            peer.send(data)
            if data == answers[-1]:
                return

    with contextlib.closing(server), client_on(way) as client, watch_ways() as went:
        for at in range(80):
            key, prompt = f"sk-tenant-{at}-canary-key", f"The canary prompt of tenant {at}."
            options: dict[str, Any] = {"base_url": server.url, "api_key": key, "timeout": 20}
            headers = {"X-Tenant": f"canary-header-{at}"}
            with contextlib.suppress(termai_http.TermaiHttpError):
                if at % 16 < 8:
                    client.chat(prompt, model="m", extra_headers=headers, **options)
                else:
                    client.chat(
                        prompt,
                        model="claude-x",
                        cancel=CancelToken(),
                        **options,
                    )
        assert bool(went) is (way == "direct")
        texts = texts_held(client)
    assert "a text that the search must find" in texts
    for canary in ("canary-key", "canary prompt", "canary-header"):
        found = [text[:200] for text in texts if canary in text and not is_of_a_test(text)]
        assert found == []


def is_of_a_test(text: str) -> bool:
    """Tell whether a text is a literal of this file, which the search may reach."""
    return text in ("canary-key", "canary prompt", "canary-header")


def test_an_error_holds_no_key(way: str) -> None:
    """Neither in its own fields nor in the frames of its traceback."""
    for data in (answer()[:-3], answer(b"x\r\n", b"Transfer-Encoding: chunked\r\n"), b"nonsense\n"):

        def handle(peer: Peer, data: bytes = data) -> None:
            if peer.read_request() is not None:
                peer.send(data)

        server = RawServer(handle)
        with contextlib.closing(server), client_on(way) as client:
            with pytest.raises(termai_http.TermaiHttpError) as caught:
                ask(client, server.url, PROMPT)
            must_hide(everything(caught.value))


@pytest.mark.parametrize("text", ["caf\xe9", "\u20ac", "a\r\nb", "a\0b"])
def test_no_header_goes_out_that_is_not_ascii(way: str, text: str) -> None:
    """Nor a key: it is refused before anything is sent, and not shown."""
    server = RawServer(serve_echo)
    with contextlib.closing(server), client_on(way) as client:
        ask(client, server.url)
        for options in ({"extra_headers": {"X-A": text}}, {"api_key": f"sk-{text}"}):
            with pytest.raises((termai_http.InvalidRequestError, termai_http.ConfigurationError)):
                ask(client, server.url, **options)
        must_be_given_back(client)
        assert client.stats().opened == 1


def test_a_held_connection_is_not_given_to_two(bench: Bench) -> None:
    """While a stream is read, other calls take other connections."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
    whole = event + b"data: [DONE]\n\n"

    def play(peer: Peer, request: bytes) -> None:
        if b'"stream":true' not in request.replace(b" ", b""):
            echo(peer, request)
            return
        kind = b"Content-Type: text/event-stream\r\n"
        peer.send(answer(whole, kind)[: -len(whole) + len(event)])
        go_on.wait(20)
        peer.send(whole[len(event) :])

    go_on = threading.Event()
    bench.cleanup(go_on.set)
    server = bench.answering(play)
    client = bench.client()
    ask(client, server.url)
    with client.stream(PROMPT, base_url=server.url, **SHORT) as stream:
        pieces = iter(stream)
        assert next(pieces) == "x"
        assert client.stats().active_connections == 1
        for number in range(3):
            assert ask(client, server.url, str(number)).text == str(number)
        assert server.connections == 2
        go_on.set()
        assert list(pieces) == []
    must_be_given_back(client)
    assert client.stats().idle_connections == 2
