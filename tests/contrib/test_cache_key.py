"""Under which key a reply is kept: equal calls meet, and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from termai_http._job import Job
from termai_http.contrib import _cache_key
from termai_http.contrib._cache_key import key_of
from tests.contrib.cache_bed import KEY, job


def row(one: Job, *more: object) -> str:
    """Return the name of an entry."""
    key = key_of(one, *more)
    assert key is not None
    return key.row


def with_body(text: str) -> Job:
    """Return a call with a body as it stands."""
    return job(body=text.encode())


def with_headers(**headers: str) -> Job:
    """Return a call with further headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return job(headers={**job().headers, **named})


def test_equal_calls_have_equal_keys() -> None:
    """The order of names, however deep, blanks and escapes change nothing."""
    one = '{"model": "m", "messages": [{"role": "user", "content": "\\u00fc"}], "t": 1.50}'
    two = '{"t":1.5,"messages":[{"content":"ü","role":"user"}],"model":"m"}'
    assert row(with_body(one)) == row(with_body(two))
    assert row(job(query={"a": 1, "b": "x"})) == row(job(query={"b": "x", "a": 1}))


@pytest.mark.parametrize(
    "other",
    [
        job("Why not?"),
        job(method="PUT"),
        job(url="https://api.example/v1/messages"),
        job(base_url="https://other.example/v1"),
        job(provider="claude"),
        job(operation="count"),
        job(query={"api-version": "2026-01-01"}),
        job(body=None),
        job(headers={**job().headers, "Authorization": f"Bearer {KEY}x"}),
        job(headers={**job().headers, "Authorization": f"bearer {KEY}"}),
        job(headers={"x-api-key": KEY, "Content-Type": "application/json"}),
        with_headers(anthropic_version="2023-06-01"),
        with_headers(anthropic_beta="a,b"),
        with_headers(OpenAI_Organization="org_1"),
        with_headers(OpenAI_Project="proj_1"),
        with_headers(X_Tenant="one"),
        with_headers(Cookie="session=1"),
    ],
)
def test_whatever_may_change_the_answer_changes_the_key(other: Job) -> None:
    """Method, URL, query, body, version, organisation, tenant and key each make another key."""
    assert row(other) != row(job())


def test_every_part_of_a_body_counts() -> None:
    """The order in a list, a number's type and any parameter of the vendor's tell calls apart."""
    bodies = [
        *('{"a":[1,2]}', '{"a":[2,1]}', '{"a":[1,2],"n":2}', '{"a":[true,2]}', '{"a":["1",2]}'),
        *('{"a":[1,2],"temperature":0}', '{"a":[1,2],"seed":1}', "[1,2]", ""),
    ]
    assert len({row(with_body(body)) for body in bodies}) == len(bodies)


def test_what_can_be_read_in_two_ways_is_kept_apart() -> None:
    """A name that stands twice, a number out of range and what is no JSON are not made one."""
    bodies = [
        *('{"a":1,"a":2}', '{"a":2,"a":1}', '{"a":2}', '{"a":1}'),
        *('{"a":1e999}', '{"a":2e999}', "{", "{ ", "[" * 100_000),
    ]
    assert len({row(with_body(body)) for body in bodies}) == len(bodies)


def test_what_is_new_in_each_call_changes_nothing() -> None:
    """Headers of traces, of retries and of the connection are no part of the key."""
    other = with_headers(
        traceparent="00-1-2-01",
        X_B3_TraceId="1",
        Idempotency_Key="2",
        X_Request_ID="3",
        User_Agent="x",
        Connection="close",
        Cache_Control="max-age=9",
    )
    assert row(other) == row(job())


def test_what_is_known_of_a_client_is_a_part_of_the_key() -> None:
    """A namespace or a client's certificate tells tenants apart who have one API key."""
    assert len({row(job()), row(job(), "a"), row(job(), "b"), row(job(), ["a", "c.pem"])}) == 4


def test_the_key_is_the_same_in_every_process() -> None:
    """Nothing of it is drawn: what another process kept is found."""
    pinned = "338bfd1b09a58deac3ac1105bd807d02c576e4d2eb551e5234c8a7fd3cf8049b"
    assert row(job()) == pinned


def test_a_key_says_nothing_of_who_and_what() -> None:
    """Neither the API key nor the prompt is in it, nor in what this process remembers of it."""
    key = key_of(job("my secret plan"))
    assert key is not None
    told = repr(key) + repr(_cache_key._accounts)
    assert len(key.row) == 64
    assert KEY not in told
    assert "plan" not in told
    assert key.seal.hex() != key.row


def test_a_short_key_cannot_be_tried_out_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is stretched, once a process, and a vendor's long key need not be."""
    stretched = []

    def stretch(*given: Any) -> bytes:
        stretched.append(given[-1])
        return b"stretched"

    monkeypatch.setattr(_cache_key, "_accounts", {})
    monkeypatch.setattr("hashlib.pbkdf2_hmac", stretch)
    short = job(headers={"Authorization": "Bearer hunter2"})
    assert len({row(short), row(short), row(job()), row(job(headers={}))}) == 3
    assert stretched == [100_000]


def test_what_is_remembered_of_accounts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with many tenants remembers some of them."""
    monkeypatch.setattr(_cache_key, "_MOST_ACCOUNTS", 4)
    monkeypatch.setattr(_cache_key, "_accounts", {})
    rows = [row(job(headers={"x-api-key": KEY + str(n)})) for n in range(10)]
    assert len(set(rows)) == 10
    assert len(_cache_key._accounts) <= 4
    assert rows[0] == row(job(headers={"x-api-key": KEY + "0"}))


@pytest.mark.parametrize("operation", ["models", "health", "request"])
def test_only_chats_vectors_and_counts_are_kept(operation: str) -> None:
    """A list of models, a health check and a request of the user's own are never answered."""
    assert key_of(job(operation=operation)) is None
    for kept in ("chat", "embeddings", "count"):
        assert key_of(job(operation=kept)) is not None


@pytest.mark.parametrize("more", [{"background": True}, {"conversation": "conv_1"}])
def test_what_does_something_at_the_vendor_is_always_done(more: dict[str, Any]) -> None:
    """A call that runs in the background, or adds to a conversation, is no mere question."""
    assert key_of(with_body(json.dumps({"model": "m", **more}))) is None
    assert key_of(with_body(json.dumps({"model": "m", "background": False}))) is not None


@pytest.mark.parametrize(
    ("wish", "look"),
    [("no-cache", False), ("No-Store", None), ("max-age=0", False), ("max-age=9", True)],
)
def test_a_call_says_by_a_header_that_it_wants_a_fresh_answer(wish: str, look: bool | None) -> None:
    """``Cache-Control`` means here what it means in HTTP; what is not to be kept has no key."""
    key = key_of(with_headers(Cache_Control=f"x, {wish}"))
    assert (None if key is None else key.look) == look


def hung(**hung: Any) -> requests.Session:
    """Return a session that a user hung something on."""
    session = requests.Session()
    session.headers.update(hung.pop("headers", {}))
    for name, value in hung.items():
        setattr(session, name, value)
    return session


@pytest.mark.parametrize(
    "other",
    [
        *({"headers": {"X-Tenant": "one"}}, {"headers": {"X-Tenant": "two"}}),
        *({"headers": {"X-Gateway-Key": KEY}}, {"params": {"tenant": 1}}, {"cert": "a.pem"}),
        *({"auth": ("one", "word")}, {"auth": ("onew", "ord")}, {"auth": ("two", "word")}),
    ],
)
def test_what_hangs_on_the_session_tells_calls_apart(other: dict[str, Any]) -> None:
    """Headers, params and auth go out with each call, and a gateway may know tenants by them."""
    keys = [key_of(job(), session=one) for one in (hung(), hung(**other), hung(**other))]
    plain, first, again = (key and key.row for key in keys)
    assert plain != first == again
    assert first is not None
    assert not any(said in repr(_cache_key._accounts) for said in (KEY, "word"))


def test_a_header_of_the_call_hides_the_sessions() -> None:
    """Only what goes out counts."""
    one, two = (hung(headers={"content-type": kind}) for kind in ("text/a", "text/b"))
    assert key_of(job(), session=one) == key_of(job(), session=two)


def test_an_auth_that_may_do_anything_is_not_kept() -> None:
    """What a function or an object makes of a request is not known before."""
    for auth in (lambda request: request, requests.auth.HTTPBasicAuth("one", "word")):
        assert key_of(job(), session=hung(auth=auth)) is None
