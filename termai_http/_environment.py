"""What a client takes from the environment, read once when it is made: proxies and CA bundle."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

import attrs
from requests.utils import select_proxy

from ._target import is_loopback
from ._values import Value
from .config import HttpClientConfig
from .errors import ConfigurationError

__all__ = ["Environment"]

_UNUSABLE = "unusable"
_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Environment(Value):
    """Proxies and CA bundle as they were when the client was made.

    Attributes:
        proxies: By scheme, as requests takes them.
        no_proxy: Hosts that are reached directly.
        ca_bundle: Path of the CAs to trust; None means certifi's.
    """

    proxies: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    no_proxy: str = ""
    ca_bundle: str | None = None

    @classmethod
    def read(cls, config: HttpClientConfig) -> Environment:
        """Merge the configuration with the environment; what is configured wins."""
        environ: Mapping[str, str] = os.environ if config.trust_env else {}
        bundle = (
            config.ca_bundle or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
        )
        if config.proxies is not None:
            given = dict(config.proxies)
            no_proxy = given.pop("no_proxy", "")
        else:
            given = getproxies() if config.trust_env else {}
            no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        return cls(
            proxies={key: _usable(proxy) for key, proxy in given.items()},
            no_proxy=no_proxy,
            ca_bundle=bundle or None,
        )

    def proxies_for(self, url: str) -> dict[str, str]:
        """Return the proxies for one URL, as ``Session.send`` takes them; loopback has none.

        Raises:
            ConfigurationError: The proxy for this URL cannot be used.
        """
        if not self.proxies:
            return {}
        parts = urlsplit(url)
        if is_loopback(parts.hostname or "") or _is_direct(parts, self.no_proxy):
            return {}
        proxy = select_proxy(url, dict(self.proxies))
        if proxy == _UNUSABLE:
            # It is not shown: its password may be what is wrong with it.
            raise ConfigurationError(
                f"The proxy for {parts.scheme}:// is no URL like http://user:password@host:port; "
                "special characters in its user and password are written as %XX. Check "
                "HTTPS_PROXY, or HttpClientConfig(proxies=...)."
            )
        return {parts.scheme: proxy} if proxy else {}


def _usable(proxy: str) -> str:
    """Return a proxy's URL as requests can use it, or ``_UNUSABLE``."""
    stripped = proxy.strip()
    if not stripped:
        return ""
    url = stripped if "://" in stripped else f"http://{stripped}"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        _ = parts.port
        # requests encodes the login so, and shows it where that fails.
        for secret in (parts.username, parts.password):
            unquote(secret or "").encode("latin-1")
    except ValueError:
        return _UNUSABLE
    whole = host and " " not in host and url.isprintable()
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment
    known = parts.scheme in (*_PORTS, *_SOCKS)
    return url if whole and bare and known else _UNUSABLE


def _is_direct(parts: SplitResult, no_proxy: str) -> bool:
    """Tell whether a URL's host is one that is reached without a proxy.

    By itself: requests' own look writes ``os.environ`` while other threads read it.
    """
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS.get(parts.scheme, 0)
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
    entries = no_proxy.lower().replace(" ", "").split(",")
    for entry in (*entries, *(entry.removesuffix(f":{port}") for entry in entries)):
        if entry == "*":
            return True
        name = entry.lstrip("*.").strip("[]")
        if name == host != "":
            return True
        if address is None and name and host.endswith(f".{name}"):
            return True
        with contextlib.suppress(ValueError):
            if address is not None and address in ipaddress.ip_network(name, strict=False):
                return True
    return False
