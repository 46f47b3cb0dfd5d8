"""What every test starts from: a clean environment and no process-wide client."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest

import termai_http
from termai_http import Client, HttpClientConfig, RetryConfig
from termai_http.testing import Server

# The machines are shared: how long an example takes says nothing.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

_PREFIXES = ("OPENAI_", "ANTHROPIC_", "TERMAI_HTTP_")
# Says which way the suite goes: 0 sends every attempt through ``Session.send``.
_WAY = "TERMAI_HTTP_DIRECT"
_NAMES = {
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("requests_ca_bundle", "curl_ca_bundle", "ssl_cert_file", "ssl_cert_dir", "netrc"),
}


@pytest.fixture(scope="module", autouse=True)
def light_heap() -> None:
    """Let the collections of a module's tests pass over what was there before: it stays."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the machine's keys, proxies and CA bundles, and forget the process-wide client."""
    for name in list(os.environ):
        if name != _WAY and (name.startswith(_PREFIXES) or name.lower() in _NAMES):
            monkeypatch.delenv(name)
    yield
    termai_http.close()


@pytest.fixture
def fast() -> RetryConfig:
    """The usual policy, with waits that nobody notices."""
    return RetryConfig(base_delay=0.001, max_delay=0.002)


@pytest.fixture
def server() -> Iterator[Server]:
    """A loopback server."""
    with Server() as running:
        yield running


@pytest.fixture
def client(fast: RetryConfig) -> Iterator[Client]:
    """A client that retries without long waits."""
    with Client(HttpClientConfig(retry=fast, trust_env=False)) as made:
        yield made
