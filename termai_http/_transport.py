"""The ``requests.Session`` and its ``HTTPAdapter``: one ``Session.send`` is one attempt."""

from __future__ import annotations

import functools
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3 import Timeout

from . import errors
from ._call import Attempt, Clock, active
from ._environment import Environment
from ._log import log
from ._mapping import FOREIGN, deadline_exceeded, map_exception
from ._policy import RetryPolicy
from ._pool import PoolRules, pool_classes, socket_options
from ._slots import PoolFigures, Slots
from ._tls import make_context
from .config import HttpClientConfig, RetryConfig

__all__ = ["PooledAdapter", "PooledSession", "Transport"]


_POOLS = 64
_CHUNK = 65536
_SPARE_DESCRIPTORS = 64


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
        """Return a proxy's manager, with pools of our own (SOCKS keeps the stock ones)."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._classes
        return manager

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give every verified connection the shared TLS context."""
        host, kwargs = super().build_connection_pool_key_attributes(request, verify, cert)
        if verify is True and cert is None and host["scheme"] == "https":
            kwargs = {"ssl_context": self._context()}
        return host, kwargs

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave pools with the shared context alone: it holds CAs and client certificate."""
        if verify is not True or cert is not None:
            super().cert_verify(conn, url, verify, cert)

    def close(self) -> None:
        """Close the idle connections of every pool, and forget the pools."""
        for pool in self.pools():
            pool.close()
        super().close()

    def pools(self) -> list[Any]:
        """Return the pools that are alive."""
        managers = [self.poolmanager, *self.proxy_manager.values()]
        found = []
        for manager in managers:
            for key in manager.pools.keys():  # noqa: SIM118 - this container cannot be iterated
                pool = manager.pools.get(key)
                if pool is not None and hasattr(pool, "idle"):
                    found.append(pool)
        return found


class _BrokenBody(Exception):
    """A body that cannot be read as HTTP frames it."""


class Transport:
    """Owns a client's session.

    Args:
        config: The client's configuration.
        clock: Time and chance.

    Raises:
        ConfigurationError: A CA bundle or client certificate cannot be loaded.
    """

    def __init__(self, config: HttpClientConfig, clock: Clock) -> None:
        self._config = config
        self._environment = Environment.read(config)
        self._context: ssl.SSLContext | None = None
        self._context_lock = threading.Lock()
        if self._environment.ca_bundle or config.client_cert:
            self._shared_context()
        limit = _within_descriptors(config.max_connections)
        self._slots = Slots(limit, config.timeout, clock)
        rules = PoolRules(
            idle_timeout=config.pool_idle_timeout, max_idle=config.pool_max_idle_per_host
        )
        policy = config.retry or RetryConfig()
        if config.max_retries is not None:
            policy = policy.evolve(max_attempts=config.max_retries + 1)
        self._adapter = PooledAdapter(self._slots, rules, clock, policy, self._shared_context)
        self.session = PooledSession(self._environment, config.user_agent)
        self.session.mount("https://", self._adapter)
        self.session.mount("http://", self._adapter)

    @property
    def policy(self) -> RetryPolicy:
        """The policy as it is mounted."""
        return cast("RetryPolicy", self._adapter.max_retries)

    def _shared_context(self) -> ssl.SSLContext:
        with self._context_lock:
            if self._context is None:
                self._context = make_context(self._environment.ca_bundle, self._config.client_cert)
            return self._context

    def prepare(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        query: Mapping[str, Any] | None = None,
    ) -> requests.PreparedRequest:
        """Build the request of a call, with what the user hung on the session.

        Args:
            method: HTTP method.
            url: Where it goes.
            headers: Headers of the call; they win over the session's.
            body: Encoded body; None for none.
            query: Query parameters to add.
        """
        session = self.session
        request = requests.PreparedRequest()
        request.method = method
        if query or session.params:
            request.prepare_url(url, {**cast("dict[str, Any]", session.params), **(query or {})})
        else:
            request.url = _prepared_url(url)
        request.headers = CaseInsensitiveDict(session.headers)
        request.headers.update(headers)
        request._cookies = session.cookies
        request.hooks = cast("Any", session.hooks)
        request.body = body
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
        if session.auth:
            request.prepare_auth(session.auth)
        return request

    def exchange(
        self, request: requests.PreparedRequest, attempt: Attempt
    ) -> requests.Response | errors.TermaiHttpError:
        """Make one attempt.

        Returns:
            The response with its body read, whatever its status, or the error in its place:
            inside the package errors are values.
        """
        host = urlsplit(request.url or "").hostname or ""
        if attempt.call.left() <= 0:
            return deadline_exceeded(attempt)
        outer, active.attempt = active.attempt, attempt
        try:
            response = self._send(request, attempt)
            return self._read(response)
        except errors.TermaiHttpError as error:
            return error
        except FOREIGN as error:
            return map_exception(error, attempt, host)
        except _BrokenBody as error:
            return map_exception(error.__cause__ or error, attempt, host)
        finally:
            # A hook may fail, or put another answer in the place of the real one, and a traceback
            # may keep the real one alive: what was not given back is closed.
            if attempt.abandon is not None:
                attempt.abandon()
            active.attempt = outer
            attempt.abandon = None
            attempt.call.end_attempt()

    def _send(self, request: requests.PreparedRequest, attempt: Attempt) -> requests.Response:
        session = self.session
        return session.send(
            request,
            stream=True,
            allow_redirects=False,
            # CAs and client certificate are in the shared context; nothing turns them off.
            verify=True,
            cert=None,
            proxies=session.proxies_for(cast("str", request.url)),
            timeout=Timeout(connect=attempt.connect_budget(), read=attempt.read_budget()),
        )

    def _read(self, response: requests.Response) -> requests.Response:
        if response._content is not False or response._content_consumed or response.raw is None:
            # Read by a hook, or made by hand by a test: there is nothing on a socket.
            if not isinstance(response._content, bytes):
                response._content = b""
            return response
        limits = self._config.limits
        good = 200 <= response.status_code <= 299
        try:
            body = _read_body(response, limits.body if good else limits.error_body, cut=not good)
        except ValueError as error:
            response.close()
            # A negative chunk size comes out of urllib3 like this; out of a hook it is its own.
            raise _BrokenBody from error
        except BaseException:
            response.close()
            raise
        response._content = body
        response._content_consumed = True
        return response

    def figures(self) -> PoolFigures:
        """Return the figures of the connections, after closing those past their time."""
        self.sweep()
        return self._slots.figures()

    def sweep(self) -> None:
        """Close idle connections that are too old or too many."""
        for pool in self._adapter.pools():
            pool.idle.sweep()

    def close(self) -> None:
        """Close the idle connections; those in use close when they are given back."""
        self.session.close()


def _read_body(response: requests.Response, limit: int, *, cut: bool) -> bytes:
    """Read a body up to ``limit`` bytes; one that is longer is cut, or refused."""
    raw = response.raw
    known = getattr(raw, "length_remaining", None)
    if known is not None and known <= limit and "content-encoding" not in response.headers:
        return cast("bytes", raw.read(decode_content=False))
    chunks = []
    left = limit
    for chunk in response.iter_content(_CHUNK):
        if len(chunk) > left:
            response.close()
            if cut:
                chunks.append(chunk[:left])
                break
            raise errors.ResponseTooLarge(
                f"The reply is larger than Limits(body={limit}) bytes.", maybe_billed=True
            )
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


@functools.lru_cache(maxsize=256)
def _prepared_url(url: str) -> str:
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    return cast("str", request.url)


def _within_descriptors(wanted: int) -> int:
    """Lower the number of connections to what the descriptor limit leaves."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or wanted <= soft - _SPARE_DESCRIPTORS:
        return wanted
    lowered = max(soft - _SPARE_DESCRIPTORS, 1)
    log.warning(
        "max_connections=%d is lowered to %d: this process may open %d files (ulimit -n)",
        wanted,
        lowered,
        soft,
    )
    return lowered
