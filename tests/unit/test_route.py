"""Requests of the direct way: heads as the libraries say them, kept without their values."""

from __future__ import annotations

import gc
import sys
from typing import Any, cast

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from termai_http import HttpClientConfig
from termai_http._budget import RetryBudgets
from termai_http._call import Clock
from termai_http._direct import encode_head
from termai_http._environment import Environment
from termai_http._ordinary import prepare
from termai_http._route import Outgoing, RequestHead, Route
from termai_http._session import PooledSession

BODY = b'{"model":"m"}'
KEY = "sk-canary-0123456789"


def new_route(find: Any = None, *, path: str = "/", headers: Any = None) -> Route:
    """Return a route of its own."""
    budget = RetryBudgets(Clock()).of("http", "model.example")
    return Route("model.example", None, path, headers or {}, budget, find)


def new_session(agent: str = "Agent/1") -> PooledSession:
    """Return a client's session, which nobody sends with."""
    config = HttpClientConfig(trust_env=False, user_agent=agent)
    return PooledSession(Environment.read(config), config.user_agent)


def prepared(
    headers: dict[str, str],
    body: bytes | None = BODY,
    *,
    method: str = "POST",
    url: str = "http://model.example/v1/chat/completions",
    agent: str = "Agent/1",
    query: dict[str, Any] | None = None,
) -> Outgoing:
    """Return a request as the transport prepares one."""
    outgoing, session = Outgoing(method, url, headers, body, query), new_session(agent)
    outgoing.prepared = prepare(session, outgoing)
    outgoing.route = new_route(path=outgoing.prepared.path_url, headers=session.headers)
    return outgoing


def said(pool: Any, outgoing: Outgoing) -> bytes:
    """Return what the libraries send: the head, and the body behind it."""
    request: requests.PreparedRequest = outgoing.prepared
    sent: list[bytes] = []
    conn = pool.ConnectionCls(host=pool.host, port=pool.port)
    conn.send = sent.append
    conn.request(request.method, request.path_url, body=request.body, headers=request.headers)
    return b"".join(sent)


def filled(pool: Any, outgoing: Outgoing) -> bytes:
    """Return what goes out the direct way."""
    return encode_head(pool, outgoing).filled(outgoing.headers, outgoing.body)


USUAL = {"Content-Type": "application/json", "Accept": "application/json"}
POOLS = {
    "plain": HTTPConnectionPool("model.example", 80),
    "a port": HTTPConnectionPool("model.example", 8080),
    "TLS": HTTPSConnectionPool("model.example", 443),
    "TLS on a port": HTTPSConnectionPool("model.example", 8443),
    "an address": HTTPSConnectionPool("::1", 8443),
    "an address in brackets": HTTPConnectionPool("[::1]", 80),
}


@pytest.mark.parametrize("pool", sorted(POOLS))
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**USUAL, "Authorization": f"Bearer {KEY}"},
        {**USUAL, "x-api-key": KEY, "anthropic-version": "2023-06-01"},
        {**USUAL, "accept": "text/plain"},
        {**USUAL, "ACCEPT-ENCODING": "identity", "user-agent": "Other/2"},
        {"Accept": "text/event-stream", "Accept-Encoding": "identity", **USUAL},
        {**USUAL, "X-Empty": "", "X-Same": "a", "X-Also": "a"},
        {**USUAL, "X-A": "1", "x-a": "2", "X-a": "3"},
        {**USUAL, "X-Latin": "caf\xe9"},
    ],
    ids=lambda headers: "-".join(headers) or "none",
)
def test_a_head_is_said_as_the_libraries_say_it(pool: str, headers: dict[str, str]) -> None:
    """Order, spelling, host, values: the same bytes; and again where the head was kept."""
    outgoing = prepared(headers)
    head = encode_head(POOLS[pool], outgoing)
    for _ in range(2):
        assert head.filled(headers, BODY) == said(POOLS[pool], outgoing)
    others = {name: f"other {at}" for at, name in enumerate(headers)}
    again = prepared(others, b"another body")
    assert head.filled(others, again.body) == said(POOLS[pool], again)


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 100_000])
def test_a_body_is_measured(body: bytes) -> None:
    """Its length stands where the libraries put it, whatever it is."""
    outgoing = prepared(USUAL, body)
    assert filled(POOLS["plain"], outgoing) == said(POOLS["plain"], outgoing)


def test_a_request_without_a_body_says_no_length() -> None:
    """As a GET of the models has none."""
    outgoing = prepared({**USUAL, "x-api-key": KEY}, None, method="GET")
    found = filled(POOLS["TLS"], outgoing)
    assert found == said(POOLS["TLS"], outgoing)
    assert found.endswith(b"\r\n\r\n")
    assert b"content-length" not in found.lower()


def test_a_path_and_a_query_are_said_as_the_libraries_say_them() -> None:
    """Escaped as requests does it."""
    for url in ("http://model.example", "http://model.example/a b/\xe9?c=d&e=\u20ac"):
        outgoing = prepared(USUAL, url=url, query={"q": "a&b", "list": ["1", "2"], "none": None})
        assert filled(POOLS["plain"], outgoing) == said(POOLS["plain"], outgoing)


@pytest.mark.parametrize("agent", ["value-0", "value-1", ": value-1", "{0}", "0", "a", "%d"])
def test_what_the_session_says_is_never_taken_for_a_value(agent: str) -> None:
    """Whatever a user calls his agent: no value of the call, a key above all, comes in there."""
    outgoing = prepared({**USUAL, "Authorization": f"Bearer {KEY}"}, agent=agent)
    assert filled(POOLS["plain"], outgoing) == said(POOLS["plain"], outgoing)


TOKEN = st.text("!#$%&'*+-.^_`|~019azAZ", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)
FRAMING = ("content-length", "transfer-encoding", "host", "connection")


@given(
    headers=st.dictionaries(
        TOKEN.filter(lambda name: name.lower() not in FRAMING), VALUE, max_size=8
    ),
    agent=VALUE.filter(bool),
    body=st.one_of(st.none(), st.binary(max_size=50)),
)
def test_any_head_is_said_as_the_libraries_say_it(
    headers: dict[str, str], agent: str, body: bytes | None
) -> None:
    """Names and values of every kind that the options let through."""
    method = "GET" if body is None else "POST"
    outgoing = prepared(headers, body, method=method, agent=agent)
    assert filled(POOLS["a port"], outgoing) == said(POOLS["a port"], outgoing)


def test_a_head_keeps_no_value() -> None:
    """Neither the key, nor the body, nor anything else that a call said of its own."""
    outgoing = prepared({**USUAL, "Authorization": f"Bearer {KEY}"}, b"a canary prompt")
    head = encode_head(POOLS["plain"], outgoing)
    head.filled(outgoing.headers, outgoing.body)
    kept = repr([getattr(head, name) for name in RequestHead.__slots__])
    assert "Authorization" in kept
    for text in (KEY, "canary", "application/json"):
        assert text not in kept


class Pool:
    """What stands for a pool."""

    def __init__(self) -> None:
        self.pool: Any = object()


def test_a_pool_is_found_once() -> None:
    """As long as it is there, and was not closed."""
    found: list[Pool] = []

    def find() -> Pool:
        found.append(Pool())
        return found[-1]

    route = new_route(find)
    assert [route.pool() for _ in range(3)] == [found[0]] * 3
    found[0].pool = None
    assert [route.pool() for _ in range(3)] == [found[1]] * 3
    assert len(found) == 2


@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="elsewhere nothing goes at once when it is dropped"
)
def test_a_pool_is_held_weakly() -> None:
    """One that its manager dropped is gone, and another is found."""
    numbers = iter(range(10))
    made: list[Pool] = []

    def find() -> Pool:
        next(numbers)
        made[:] = [Pool()]
        return made[0]

    route = new_route(find)
    route.pool()
    made.clear()
    gc.collect()
    assert route.pool() is made[0]
    assert next(numbers) == 2


def request(*names: str, method: str = "POST") -> Outgoing:
    """Return a request with some headers."""
    return Outgoing(method, "http://model.example", dict.fromkeys(names, KEY), BODY, None)


def test_a_head_is_recalled_for_requests_of_its_kind() -> None:
    """The same method and the same names in the same order and spelling; values are no matter."""
    route, head = new_route(), RequestHead([b""], [], True)
    route.remember(request("A", "B"), head)
    assert route.recall(request("A", "B")) is head
    for other in (request("B", "A"), request("a", "B"), request("A"), request("A", "B", "C")):
        assert route.recall(other) is None
    assert route.recall(request("A", "B", method="GET")) is None
    assert route.recall(request("POST", "A", "B", method="POST")) is None


def test_few_heads_are_kept() -> None:
    """A caller whose headers have ever new names fills no memory, and loses nothing else."""
    route, head = new_route(), RequestHead([b""], [], True)
    for number in range(1000):
        route.remember(request(f"X-{number}"), head)
        assert route.recall(request(f"X-{number}")) is head
        assert len(route._heads) <= 64
    assert KEY not in repr(route._heads)


def test_a_head_is_filled_by_names() -> None:
    """Each value stands at its name's place, however the headers are ordered."""
    head = RequestHead([b"GET / HTTP/1.1\r\nB: ", b"\r\nA: ", b"\r\n\r\n"], ["b", "a"], False)
    found = head.filled(cast("Any", CaseInsensitiveDict({"a": "1", "b": "2"})), None)
    assert found == b"GET / HTTP/1.1\r\nB: 2\r\nA: 1\r\n\r\n"
