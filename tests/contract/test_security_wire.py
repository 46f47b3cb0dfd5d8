"""Whom a call trusts, and where it goes: TLS, URLs, redirects, the environment (S1 to S4).

The numbers are those of the security checklist.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme
import urllib3

import termai_http
from termai_http import (
    ClaudeAdapter,
    Client,
    HttpClientConfig,
    OpenAIAdapter,
    RequestHandler,
    RetryConfig,
)
from termai_http._tls import make_context
from tests.contract.security_tools import Recorder, call
from tests.faults.harness import KEY, PROMPT

SOURCES = sorted(Path(termai_http.__file__).parent.rglob("*.py"))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A server that notes what it is sent."""
    with Recorder() as server:
        yield server


def test_s1_nothing_turns_verification_off() -> None:
    """No source line does, no setting can, and the one context demands certificate and name."""
    off = re.compile(r"CERT_(NONE|OPTIONAL)|verify\s*=\s*False|check_hostname\s*=\s*False|insecure")
    found = [path.name for path in SOURCES if off.search(path.read_text(encoding="utf-8"))]
    assert found == []
    assert not {"verify", "ssl_verify", "verify_ssl"} & set(HttpClientConfig.__annotations__)
    context = make_context(None, None)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name


@pytest.mark.parametrize("certified", ["127.0.0.1", "another.example"])
def test_s1_a_session_that_does_not_verify_leaves_the_calls_alone(certified: str) -> None:
    """What a user does with the raw session, even with the same host, is not done to a call."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(certified).configure_cert(context)
    with Recorder(context=context) as server, authority.cert_pem.tempfile() as bundle:
        trusted = bundle if certified == "another.example" else None
        config = HttpClientConfig(trust_env=False, ca_bundle=trusted)
        with Client(config) as client:
            client.session.verify = False
            with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
                assert client.session.get(f"{server.tls_url}/raw", verify=False).ok
            for _ in range(2):
                with pytest.raises(termai_http.TLSError):
                    call(client, server.tls_url)
    assert len(server.requests) == 1


BAD_URLS = [
    *(
        "",
        " ",
        "\n",
        "1",
        "api.example",
        "api.example/v1",
        "//api.example",
        "/v1",
        "https",
        "https:",
    ),
    *("https://", "https:///v1", "https:api.example", "https:/api.example", "https//api.example"),
    *("ftp://a.example", "ws://a.example", "file:///etc/passwd", "javascript:alert(1)", "data:,x"),
    *("mailto:me@a.example", "unix:///var/run/socket", "gopher://a.example", "about:blank"),
    *("http://a.example", "http://10.0.0.1", "http://0.0.0.0:1", "http://[2001:db8::1]"),
    *("http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://127.0.0.1@a.ex"),
    *(
        "https://u@a.example",
        "https://u:secret@a.example",
        "https://:secret@a.example",
        "https://@a",
    ),
    *("u:secret@a.example", "//u:secret@a.example", "https:/u:secret@a.example", "a:secret@b/v1"),
    *("https://a.example?key=secret", "https://a.example/v1?key=secret", "https://a.example/v1?"),
    *("https://a.example#secret", "https://a.example/v1#", "https://a.example:port"),
    *("https://a.example:99999", "https://a.example:-1", "https://[::1", "https://[secret]"),
    *("https://a b.example", "https://a.example/a b", "https://a.example/\r\nX-Evil: 1"),
    *(
        "https://a.example\\@b.example",
        "https://a\\b.example",
        "https://a.example\t",
        "https://a\x00b",
    ),
    *("https://a.example/\u2028", f"https://{'a' * 64}.example", "https://a..example", KEY),
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_s2_a_bad_base_url_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it comes from: before anything is sent, and without showing what is no address."""
    body = {"model": "m", "messages": "hi"}
    with Client(HttpClientConfig(trust_env=False)) as client:
        ways: list[Any] = [
            lambda: client.chat(PROMPT, model="gpt-5.5", api_key=KEY, base_url=url),
            lambda: client.chat(PROMPT, model="claude-opus-5-5", api_key=KEY, base_url=url),
            lambda: OpenAIAdapter(client, KEY, url).chat_completion(body),
            lambda: ClaudeAdapter(client, KEY, url).chat_completion(body),
        ]
        if url and "\0" not in url:
            for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
                monkeypatch.setenv(name, url)
            ways.append(lambda: client.chat(PROMPT, model="gpt-5.5", api_key=KEY))
            ways.append(lambda: client.chat(PROMPT, model="claude-opus-5-5", api_key=KEY))
        for way in ways:
            with pytest.raises(termai_http.ConfigurationError, match="base_url") as caught:
                way()
            shown = f"{caught.value!s} {caught.value!r} {caught.value.args!r}"
            assert "secret" not in shown
            assert KEY not in shown
        assert client.stats().total_requests == 0


# A whole URL may have a query.
@pytest.mark.parametrize("url", [bad for bad in BAD_URLS if "?" not in bad and "#" not in bad])
def test_s2_a_handlers_url_is_held_to_the_same(url: str) -> None:
    """What RequestHandler is given is no way around."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        with pytest.raises(termai_http.ConfigurationError, match="url") as caught:
            RequestHandler(client).post_json(url, {"Authorization": KEY}, {})
        assert "secret" not in f"{caught.value!s} {caught.value.args!r}"
        assert client.stats().total_requests == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "to", ["same host", "other port", "other host", "other scheme", "relative"]
)
def test_s3_a_redirect_is_never_followed(status: int, to: str, recorder: Recorder) -> None:
    """Nobody is asked where it points, not for a call and not for a raw request."""
    with Recorder() as redirecting:
        location = {
            "same host": f"{redirecting.url}/v1/other",
            "other port": f"{recorder.url}/?token=of-the-redirect",
            "other host": f"http://localhost:{recorder.port}/",
            "other scheme": f"https://127.0.0.1:{recorder.port}/",
            "relative": "/v1/other",
        }[to]
        redirecting.answer = (
            f"HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        with Client(HttpClientConfig(trust_env=False)) as client:
            with pytest.raises(termai_http.UnexpectedRedirect) as caught:
                call(client, redirecting.url, retry=RetryConfig())
            assert (caught.value.status_code, caught.value.attempts) == (status, 1)
            assert "of-the-redirect" not in f"{caught.value!s} {vars(caught.value)!r}"
            raw = client.session.post(f"{redirecting.url}/raw", data="x", allow_redirects=True)
            assert (raw.status_code, raw.history) == (status, [])
    assert len(redirecting.requests) == 2
    assert recorder.connections == 0


@pytest.mark.parametrize("trust_env", [True, False])
def test_s4_a_hostile_environment_changes_no_request(
    trust_env: bool, recorder: Recorder, tmp_path: Path
) -> None:
    """Netrc, proxies and the rest of it: loopback sees the same bytes as without them."""
    (tmp_path / ".netrc").write_text("default login me password of-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    with Recorder(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n") as spy:
        names = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy")
        proxies = {name: spy.url if name != "no_proxy" else "" for name in names}
        hostile = {
            **proxies,
            **{name.upper(): value for name, value in proxies.items()},
            "HOME": str(tmp_path),
            "NETRC": str(tmp_path / ".netrc"),
            "SSLKEYLOGFILE": str(tmp_path / "tls-keys"),
            "SSL_CERT_FILE": "/nowhere",
            "REQUEST_METHOD": "GET",
        }
        for environment in ({}, hostile):
            with (
                mock.patch.dict(os.environ, environment),
                Client(HttpClientConfig(trust_env=trust_env)) as client,
            ):
                assert call(client, recorder.url) == "fine"
        assert spy.connections == 0
    assert recorder.requests[0] == recorder.requests[1]
    assert b"of-netrc" not in recorder.requests[1]


def test_s4_the_environment_is_read_once_for_each_client(tmp_path: Path) -> None:
    """What is set later concerns the next client only."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with Recorder(context=context) as server, mock.patch.dict(os.environ):
        os.environ["REQUESTS_CA_BUNDLE"] = str(bundle)
        with Client() as trusting:
            assert call(trusting, server.tls_url) == "fine"
            os.environ["REQUESTS_CA_BUNDLE"] = "/nowhere"
            assert call(trusting, server.tls_url) == "fine"
            trusting.session.close()
            assert call(trusting, server.tls_url) == "fine"
        del os.environ["REQUESTS_CA_BUNDLE"]
        with Client() as another, pytest.raises(termai_http.TLSError):
            call(another, server.tls_url)


@pytest.mark.parametrize("setting", ["ca_bundle", "client_cert", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "", "no PEM"])
def test_s4_a_file_that_cannot_be_loaded_is_told_when_the_client_is_made(
    setting: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the first call, which may come late, or never in a test."""
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    config = HttpClientConfig()
    if setting.isupper():
        monkeypatch.setenv(setting, str(path))
    else:
        config = config.evolve(**{setting: str(path)})
    for make in (Client, termai_http.client_with_config, termai_http.initialize):
        with pytest.raises(termai_http.ConfigurationError, match=re.escape(str(path))):
            make(config)
    # Who does not name it does not need it.
    with Client(HttpClientConfig(trust_env=False)) as client:
        assert client.session.verify is True
