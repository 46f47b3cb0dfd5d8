"""What goes out with a call: codings, headers, query, cookies (S8 to S10).

The numbers are those of the security checklist.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import termai_http
from termai_http import Client, HttpClientConfig, InvalidRequestError
from tests.contract.security_tools import Recorder, call
from tests.faults.harness import KEY, good_reply

OWN_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip",
    "authorization": f"Bearer {KEY}",
    "content-type": "application/json",
    "user-agent": HttpClientConfig().user_agent,
}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A server that notes what it is sent."""
    with Recorder() as server:
        yield server


CODINGS = """
class Decompressor: pass
class ZstdDecompressor: pass
class ZstdError(Exception): pass
class error(Exception): pass
"""
ASK = """
import sys, urllib3.util.request as known, requests, termai_http
assert {"br", "zstd"} <= set(known.ACCEPT_ENCODING.split(",")), known.ACCEPT_ENCODING
with termai_http.Client(termai_http.HttpClientConfig(trust_env=False)) as client:
    client.chat("hi", model="gpt-5.5", api_key="k", base_url=sys.argv[1])
    client.session.get(sys.argv[1] + "/raw")
    try:
        client.stream("hi", model="gpt-5.5", api_key="k", base_url=sys.argv[1])
    except termai_http.TermaiHttpError:
        pass
"""


def test_s8_only_gzip_is_asked_for(recorder: Recorder, tmp_path: Path) -> None:
    """Also where brotli and zstandard can be imported, and urllib3 would ask for them."""
    (tmp_path / "backports").mkdir()
    for name in ("brotli.py", "backports/__init__.py", "backports/zstd.py"):
        (tmp_path / name).write_text(CODINGS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", ASK, recorder.url], env=environment, check=True)
    found = re.findall(rb"accept-encoding:[^\r]*", b"".join(recorder.requests).lower())
    assert found == [
        b"accept-encoding: gzip",
        b"accept-encoding: gzip",
        b"accept-encoding: identity",
    ]


TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
REFUSED = {"host", "content-length", "transfer-encoding", "connection", "authorization"}
names = st.one_of(
    st.text(st.sampled_from(sorted(TOKEN)), min_size=1, max_size=12),
    st.sampled_from(["Host", "hOST", "Content-Length", "Transfer-Encoding", "Connection"]),
    st.sampled_from(["Authorization", "AUTHORIZATION", "Content-Type", "accept", "User-Agent"]),
    st.sampled_from(["X-A", "x-a", "Expect", "TE", "Cookie", "X-A:", " Host", "Host ", ":method"]),
    st.text(max_size=6),
)
values = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    st.sampled_from(
        ["1\r\nX-Evil: 1", "1\nX-Evil: 1", "1\r", "\r\n\r\nGET / HTTP/1.1", "\x00", "\t"]
    ),
    st.text(max_size=10),
)


def may_go_out(name: str, value: str) -> bool:
    """Tell by RFC 9110, section 5, and our own rules, whether a header may be added."""
    whole = bool(name) and set(name) <= TOKEN and all(" " <= char <= "~" for char in value)
    return whole and name.lower() not in REFUSED


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[Client, Recorder]]:
    """One client and one server for all that hypothesis thinks of."""
    with Recorder() as server, Client(HttpClientConfig(trust_env=False)) as client:
        yield client, server


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(extra=st.dictionaries(names, values, max_size=4))
def test_s9_the_server_sees_exactly_the_headers_meant(
    fuzzed: tuple[Client, Recorder], extra: dict[str, str]
) -> None:
    """Either a header is refused and nothing is sent, or it arrives as one line of that name."""
    client, server = fuzzed
    before = len(server.requests)
    if not all(may_go_out(name, value) for name, value in extra.items()):
        with pytest.raises(InvalidRequestError, match="extra_headers") as caught:
            call(client, server.url, extra_headers=extra)
        assert KEY not in str(caught.value)
        assert len(server.requests) == before
        return
    call(client, server.url, extra_headers=extra)
    line, headers = server.last()
    body = server.requests[-1].partition(b"\r\n\r\n")[2]
    meant = {
        "host": f"127.0.0.1:{server.port}",
        "content-length": str(len(body)),
        **OWN_HEADERS,
        **{name.lower(): value for name, value in extra.items()},
    }
    assert len(server.requests) == before + 1
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert sorted((name.lower(), value.strip()) for name, value in headers) == sorted(
        (name, value.strip()) for name, value in meant.items()
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_s9_a_query_is_no_way_out_of_the_request_line(
    fuzzed: tuple[Client, Recorder], query: dict[str, str]
) -> None:
    """Every name and value arrives as it was given, within one request line."""
    client, server = fuzzed
    call(client, server.url, extra_query=query)
    line, headers = server.last()
    method, target, version = line.split(" ")
    parts = urlsplit(target)
    assert (method, parts.path, version) == ("POST", "/v1/chat/completions", "HTTP/1.1")
    assert dict(parse_qsl(parts.query, keep_blank_values=True)) == query
    assert len(headers) == len(OWN_HEADERS) + 2


@pytest.mark.parametrize("query", [{"a": "\ud800"}, {"\udfff": "a"}, {"a": ["b", "\ud800"]}])
def test_s9_a_query_that_no_url_takes_is_refused(
    fuzzed: tuple[Client, Recorder], query: dict[str, Any]
) -> None:
    """A lone surrogate is told as a wrong request, not as an encoder's failure that shows it."""
    client, server = fuzzed
    before = len(server.requests)
    with pytest.raises(InvalidRequestError, match="extra_query"):
        call(client, server.url, extra_query=query)
    assert len(server.requests) == before


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5.5", "Authorization"),
        ("gpt-5.5", "authorization"),
        ("claude-opus-5-5", "X-Api-Key"),
        ("claude-opus-5-5", "x-api-key"),
        ("claude-opus-5-5", "Anthropic-Version"),
    ],
)
def test_s9_no_header_replaces_what_authenticates(
    fuzzed: tuple[Client, Recorder], model: str, name: str
) -> None:
    """The key goes out once, where the vendor looks for it."""
    client, server = fuzzed
    with pytest.raises(InvalidRequestError, match=name):
        call(client, server.url, model=model, extra_headers={name: "another"})
    client.session.headers[name] = "another"
    try:
        server.answer = b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(termai_http.BadRequestError):
            call(client, server.url, model=model)
    finally:
        del client.session.headers[name]
        server.answer = good_reply()
    sent = [value for sent, value in server.last()[1] if sent.lower() == name.lower()]
    assert len(sent) == 1
    assert "another" not in sent


def test_s10_cookies_are_neither_kept_nor_sent(recorder: Recorder) -> None:
    """Not those of a reply, not those of an error, and not those of a raw request."""
    recorder.answer = good_reply(headers=b"Set-Cookie: tenant=a; Path=/\r\nSet-Cookie: b=c\r\n")
    with Client(HttpClientConfig(trust_env=False)) as client:
        for _ in range(2):
            call(client, recorder.url)
            assert isinstance(client.session.get(f"{recorder.url}/raw"), requests.Response)
        recorder.answer = recorder.answer.replace(b"200 OK", b"401 No")
        for _ in range(2):
            with pytest.raises(termai_http.AuthenticationError):
                call(client, recorder.url)
        assert len(client.session.cookies) == 0
    assert b"cookie" not in b"".join(recorder.requests).lower()
