"""What every test starts from: a clean environment and no process-wide client."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import termai_http

_PREFIXES = ("OPENAI_", "ANTHROPIC_", "TERMAI_HTTP_")
_NAMES = {
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("requests_ca_bundle", "curl_ca_bundle", "ssl_cert_file", "ssl_cert_dir", "netrc"),
}


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the machine's keys, proxies and CA bundles, and forget the process-wide client."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name.lower() in _NAMES:
            monkeypatch.delenv(name)
    yield
    termai_http.close()
