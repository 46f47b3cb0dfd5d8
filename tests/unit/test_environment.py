"""Proxies as configured or taken from the environment: which one a URL gets, and which none."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from termai_http import ConfigurationError, HttpClientConfig
from termai_http._environment import Environment

PASSWORD = "pw-canary-9876543210"
URL = "https://model.example/v1"


def proxies_for(url: str, proxies: dict[str, str]) -> dict[str, str]:
    """Ask a client's environment."""
    return Environment.read(HttpClientConfig(proxies=proxies, trust_env=False)).proxies_for(url)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128/", "http://proxy:3128/"),
        ("https://proxy", "https://proxy"),
        ("proxy:3128", "http://proxy:3128"),
        (f"user:{PASSWORD}@proxy:3128", f"http://user:{PASSWORD}@proxy:3128"),
        (f" http://us%20er:{PASSWORD}%40@[::1]:3128 ", f"http://us%20er:{PASSWORD}%40@[::1]:3128"),
    ],
)
def test_a_proxy_is_a_url_or_host_and_port(given: str, used: str) -> None:
    """A missing scheme means http, as for curl."""
    assert proxies_for(URL, {"https": given}) == {"https": used}


@pytest.mark.parametrize(
    "proxy",
    [
        f"http://user:{PASSWORD}@",
        f"http://user:{PASSWORD}@proxy:99999",
        f"http://user:{PASSWORD}@proxy:port",
        f"http://user:{PASSWORD}#1@proxy:3128",
        f"http://user:{PASSWORD}/1@proxy:3128",
        f"http://user:{PASSWORD}?1@proxy:3128",
        "http://user:12#34@proxy:3128",
        f"http://user:{PASSWORD}€@proxy:3128",
        f"http://user:{PASSWORD}%E2%82%AC@proxy:3128",
        f"http://user:{PASSWORD}@[::1",
        f"http://user:{PASSWORD}@pro xy:3128",
        f"http://user:{PASSWORD}@{'a' * 64}.example:3128",
        f"ftp://user:{PASSWORD}@proxy:3128",
        "http://",
    ],
)
def test_a_proxy_that_cannot_be_used_is_told_without_showing_it(proxy: str) -> None:
    """Its password may be what is wrong with it; a URL that needs no proxy is not refused."""
    with pytest.raises(ConfigurationError) as caught:
        proxies_for(URL, {"https": proxy})
    error = caught.value
    assert "HttpClientConfig(proxies=...)" in str(error)
    assert PASSWORD not in f"{error!s} {error!r} {vars(error)!r}"
    assert error.__cause__ is None
    assert error.__context__ is None
    assert proxies_for("https://127.0.0.1/v1", {"https": proxy}) == {}
    assert proxies_for(URL, {"http": proxy}) == {}


@pytest.mark.parametrize("key", ["https", "all", "https://model.example", "all://model.example"])
def test_a_proxy_is_chosen_as_requests_chooses(key: str) -> None:
    """By scheme, by scheme and host, or for all."""
    assert proxies_for(URL, {key: "http://proxy:1"}) == {"https": "http://proxy:1"}


def test_an_empty_proxy_is_none() -> None:
    """It is the usual way to say that there shall be none."""
    assert proxies_for(URL, {"https": "", "all": ""}) == {}


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("model.example", "https://model.example/v1", True),
        ("MODEL.example", "https://model.Example/v1", True),
        ("example", "https://model.example/v1", True),
        (".example", "https://model.example/v1", True),
        ("*.example", "https://model.example/v1", True),
        ("other, model.example", "https://model.example/v1", True),
        ("model.example:443", "https://model.example/v1", True),
        ("model.example:8443", "https://model.example:8443/v1", True),
        ("model.example:8443", "https://model.example/v1", False),
        ("*", "https://model.example/v1", True),
        ("del.example", "https://model.example/v1", False),
        ("model.example.org", "https://model.example/v1", False),
        (",", "https://model.example/v1", False),
        ("10.0.0.0/8", "https://10.1.2.3/v1", True),
        ("10.1.2.3", "https://10.1.2.3:8443/v1", True),
        ("11.0.0.0/8", "https://10.1.2.3/v1", False),
        ("2.3", "https://10.1.2.3/v1", False),
        ("2001:db8::/32", "https://[2001:db8::1]/v1", True),
        ("[2001:db8::1]", "https://[2001:db8::1]/v1", True),
        ("2001:db8::443", "https://[2001:db8::443]/v1", True),
    ],
)
def test_no_proxy_names_hosts_and_networks(no_proxy: str, url: str, direct: bool) -> None:
    """A name stands for itself and all below it, a network for its addresses."""
    found = proxies_for(url, {"https": "http://proxy:1", "no_proxy": no_proxy})
    assert found == ({} if direct else {"https": "http://proxy:1"})


def test_the_environment_is_read_once_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share it: requests' own look at NO_PROXY writes it, and two at once leave it so."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "direct.example")
    environment = Environment.read(HttpClientConfig())
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    monkeypatch.setenv("NO_PROXY", "model.example")
    written = AssertionError("the environment was written")
    with mock.patch.object(type(os.environ), "__setitem__", side_effect=written):
        assert environment.proxies_for(URL) == {"https": "http://proxy:1"}
        assert environment.proxies_for("https://direct.example/v1") == {}
