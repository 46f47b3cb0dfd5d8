"""The ``requests.Session`` of a client and its ``HTTPAdapter``: pooled, bounded, no surprise."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from . import errors
from ._call import Clock, active
from ._environment import Environment
from ._idle import PoolRules
from ._importing import importing
from ._policy import RetryPolicy
from ._pool import pool_classes
from ._slots import Slots
from ._socket import socket_options
from .config import RetryConfig

__all__ = ["PooledAdapter", "PooledSession"]

_POOLS = 64


class _NoCookies(RequestsCookieJar):
    """A jar that stays empty: one shared by all threads would carry cookies between tenants."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Keep nothing."""


class PooledSession(requests.Session):
    """The one session of a client. It may be used raw: it pools and retries there too.

    Redirects are not followed, cookies not kept, ``.netrc`` not read; proxies and CA bundle are
    those the client was made with.
    """

    def __init__(self, environment: Environment, user_agent: str) -> None:
        super().__init__()
        self._environment = environment
        self.trust_env = False
        self.cookies = _NoCookies()
        self.headers = CaseInsensitiveDict(
            {"User-Agent": user_agent, "Accept-Encoding": "gzip", "Accept": "*/*"}
        )

    def get_redirect_target(self, resp: Any) -> None:
        """Return None: a redirect would carry key and prompt elsewhere."""
        return

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> dict[str, Any]:
        """Merge a raw request's settings with those the client was made with."""
        merged = super().merge_environment_settings(url, proxies, stream, verify, cert)
        merged["proxies"] = {**self._environment.proxies_for(url), **(merged["proxies"] or {})}
        return merged

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, through the proxies that the client was made with."""
        if "proxies" not in kwargs:
            kwargs["proxies"] = self.proxies_for(cast("str", request.url))
        return super().send(request, **kwargs)

    def proxies_for(self, url: str) -> dict[str, str]:
        """Return the proxies for one URL; those the user put on the session win."""
        return {**self._environment.proxies_for(url), **self.proxies}

    def __getstate__(self) -> Any:
        """Refuse: a session holds sockets and, in its adapters, keys."""
        raise TypeError("A client's session cannot be pickled; each process makes its own.")


class PooledAdapter(HTTPAdapter):
    """An ``HTTPAdapter`` whose pools lend slots, count, and share one TLS context."""

    def __init__(
        self,
        slots: Slots,
        rules: PoolRules,
        clock: Clock,
        policy: RetryConfig,
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        self._classes = pool_classes(slots, rules, clock)
        self._context = context
        self.closed = False
        super().__init__(
            pool_connections=_POOLS,
            pool_maxsize=1,
            max_retries=RetryPolicy.from_config(policy),
        )

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        """Make the pool manager, with pools of our own."""
        pool_kwargs["socket_options"] = socket_options()
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = self._classes

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return a proxy's manager, with pools of our own."""
        classes, scheme = self._classes, proxy.lower().partition(":")[0]
        if scheme == "https":
            # urllib3's own context has other CAs, obeys SSLKEYLOGFILE, and keeps no deadline.
            proxy_kwargs.setdefault("proxy_ssl_context", self._context())
        elif scheme.startswith("socks"):
            with importing():
                from ._socks import socks_pool_classes

            classes = socks_pool_classes(classes)
            proxy_kwargs.setdefault("socket_options", socket_options())
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = classes
        return manager

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give every verified connection the shared TLS context."""
        if verify is not True or cert is not None:
            return super().build_connection_pool_key_attributes(request, verify, cert)
        url = urlsplit(request.url)
        host = {"scheme": url.scheme.lower(), "host": url.hostname, "port": url.port}
        return host, {"ssl_context": self._context()} if host["scheme"] == "https" else {}

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Wrap an answer; in a call without parsing its cookies, which are never kept."""
        if active.attempt is None:
            return super().build_response(req, resp)
        response = requests.Response()
        response.url, response.request = cast("str", req.url), req
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = CaseInsensitiveDict(resp.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw, response.connection = resp, self
        return response

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave pools with the shared context alone: it holds CAs and client certificate."""
        if verify is not True or cert is not None:
            super().cert_verify(conn, url, verify, cert)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send one request.

        Raises:
            ClientClosed: The client was closed; a pool begun now would never be.
        """
        if self.closed:
            raise errors.ClientClosed("This client is closed.")
        bond = active.bond()
        if bond is None or bond.number not in bond.slots.out:
            return super().send(request, *args, **kwargs)
        # A hook uses the session raw within a call: that is no part of the call's own exchange.
        outer = active.bind(None)
        try:
            return super().send(request, *args, **kwargs)
        finally:
            active.restore(outer)

    def close(self) -> None:
        """Close the idle connections of every pool, and forget the pools."""
        for pool in self.pools():
            pool.close()
        super().close()

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands."""
        return [manager.pools.lock for manager in self._managers()]

    def start_over(self) -> None:
        """Begin with no pool, in a forked child, where the old managers' locks may be held."""
        self.proxy_manager = {}
        self.init_poolmanager(self._pool_connections, self._pool_maxsize, self._pool_block)

    def _managers(self) -> list[Any]:
        return [self.poolmanager, *list(self.proxy_manager.values())]

    def pools(self) -> list[Any]:
        """Return the pools that are alive."""
        found = []
        for manager in self._managers():
            for key in manager.pools.keys():  # noqa: SIM118 - this container cannot be iterated
                pool = manager.pools.get(key)
                if pool is not None and hasattr(pool, "idle"):
                    found.append(pool)
        return found
