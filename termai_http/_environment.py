"""What a client takes from the environment, read once when it is made: proxies and CA bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies

import attrs
from requests.utils import select_proxy, should_bypass_proxies

from ._target import is_loopback
from .config import HttpClientConfig

__all__ = ["Environment"]


@attrs.frozen(kw_only=True)
class Environment:
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
            proxies = dict(config.proxies)
            return cls(
                proxies=proxies, no_proxy=proxies.pop("no_proxy", ""), ca_bundle=bundle or None
            )
        return cls(
            proxies=getproxies() if config.trust_env else {},
            no_proxy=environ.get("no_proxy") or environ.get("NO_PROXY") or "",
            ca_bundle=bundle or None,
        )

    def proxies_for(self, url: str) -> dict[str, str]:
        """Return the proxies for one URL, as ``Session.send`` takes them; loopback has none."""
        if not self.proxies or is_loopback(urlsplit(url).hostname or ""):
            return {}
        if self.no_proxy and should_bypass_proxies(url, no_proxy=self.no_proxy):
            return {}
        proxy = select_proxy(url, dict(self.proxies))
        return {urlsplit(url).scheme: proxy} if proxy else {}
