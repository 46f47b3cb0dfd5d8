"""One exchange of a call: sent through the session, read, and given back on every way out."""

from __future__ import annotations

import functools
import ssl
import threading
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from urllib3 import Timeout

from . import errors
from ._body import pieces, read_body
from ._budget import RetryBudget, RetryBudgets
from ._call import Attempt, Clock, active
from ._environment import Environment
from ._log import log
from ._mapping import FOREIGN, deadline_exceeded, map_exception
from ._open_body import OpenBody
from ._policy import RetryPolicy
from ._pool import PoolRules
from ._session import PooledAdapter, PooledSession
from ._slots import Lease, LeaseHolder, PoolFigures, Slots
from ._sweeper import sweeper
from ._tls import make_context
from .config import HttpClientConfig, RetryConfig
from .dialects._errors import request_id

__all__ = ["Transport"]

_SPARE_DESCRIPTORS = 64
_ERROR_BODY_SECONDS = 5.0


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
        self._budgets = RetryBudgets(clock)
        if self._environment.ca_bundle or config.client_cert:
            self._shared_context()
        limit = _within_descriptors(config.max_connections)
        self._slots = Slots(limit, config.timeout, clock)
        rules = PoolRules(
            idle_timeout=config.pool_idle_timeout,
            max_idle=config.pool_max_idle_per_host,
            on_idle=functools.partial(sweeper.watch, config.pool_idle_timeout),
        )
        policy = config.retry or RetryConfig()
        if config.max_retries is not None:
            policy = policy.evolve(max_attempts=config.max_retries + 1)
        self._adapter = PooledAdapter(self._slots, rules, clock, policy, self._shared_context)
        self.session = PooledSession(self._environment, config.user_agent)
        self.session.mount("https://", self._adapter)
        self.session.mount("http://", self._adapter)
        sweeper.add(self)

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

        Raises:
            ConfigurationError: The URL cannot be used.
        """
        try:
            return self._prepare(method, url, headers, body, query)
        except (requests.exceptions.RequestException, UnicodeError):
            raise errors.ConfigurationError("The URL cannot be used; check base_url.") from None

    def _prepare(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        query: Mapping[str, Any] | None,
    ) -> requests.PreparedRequest:
        session = self.session
        request = requests.PreparedRequest()
        request.method = method
        if query or session.params:
            request.prepare_url(url, {**cast("dict[str, Any]", session.params), **(query or {})})
        else:
            # A query may hold a key, and no cache shall.
            request.url = _prepare_url(url) if "?" in url else _prepared_url(url)
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
        self, request: requests.PreparedRequest, attempt: Attempt, *, keep_open: bool = False
    ) -> requests.Response | OpenBody | errors.TermaiHttpError:
        """Make one attempt.

        Args:
            request: What to send.
            attempt: Its state.
            keep_open: Whether the body of a success is left to be read by the caller.

        Returns:
            The response with its body read, whatever its status, or the error in its place:
            inside the package errors are values. With ``keep_open`` a success is an ``OpenBody``,
            which has the connection until it is read, closed or dropped.
        """
        host = urlsplit(request.url or "").hostname or ""
        if attempt.call.left() <= 0:
            return deadline_exceeded(attempt)
        lease = Lease(self._slots, attempt)
        holder = LeaseHolder(lease)
        outer = active.bind(lease)
        response: requests.Response | None = None
        opened: OpenBody | None = None
        try:
            response = self._send(request, attempt)
            if keep_open and 200 <= response.status_code <= 299:
                opened = OpenBody(response, attempt, holder, host, self._config.limits.body)
                # Nobody may come to read it, and then somebody else has to end it.
                sweeper.watch(attempt.call.left())
                return opened
            return self._read(response, attempt)
        except errors.TermaiHttpError as error:
            return _of_answer(error, response, attempt)
        except FOREIGN as error:
            return _of_answer(map_exception(error, attempt, host), response, attempt)
        except _BrokenBody as error:
            cause = error.__cause__ or error
            return _of_answer(map_exception(cause, attempt, host), response, attempt)
        finally:
            # A hook may fail, or put another answer in the place of the real one, and a traceback
            # may keep the real one alive: what was not given back is closed.
            if opened is None:
                lease.abandon()
                attempt.call.let_go()
            active.restore(outer)

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

    def _read(self, response: requests.Response, attempt: Attempt) -> requests.Response:
        if response._content is not False or response._content_consumed or response.raw is None:
            # Read by a hook, or made by hand by a test: there is nothing on a socket.
            if not isinstance(response._content, bytes):
                response._content = b""
            return response
        limits = self._config.limits
        try:
            if 200 <= response.status_code <= 299:
                body = read_body(response, limits.body)
            else:
                body = _read_beginning(response, limits.error_body, attempt)
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

    def budget_of(self, request: requests.PreparedRequest) -> RetryBudget:
        """Return the retry budget that the calls to a request's host share."""
        return self._budgets.of(*urlsplit(request.url or "")[:2])

    def figures(self) -> PoolFigures:
        """Return the figures of the connections, after closing those past their time."""
        self.sweep_dropped()
        return self._slots.figures()

    def sweep_dropped(self) -> float | None:
        """Close idle connections that are of no use, and streams that nobody reads in time.

        Idle ones are of no use where they are too old, too many, or closed by the server.

        Returns:
            The seconds until the next look is due; None where nothing is idle and no stream open.
        """
        dues = [self._slots.sweep_overdue()]
        for pool in self._adapter.pools():
            pool.idle.sweep_dropped()
            dues.append(pool.idle.next_expiry())
        return min((due for due in dues if due is not None), default=None)

    def close(self) -> None:
        """Refuse what comes later and close the idle connections."""
        self._adapter.closed = True
        self.session.close()
        if sweeper.running:
            # It may have nothing left to do, and then ends now and not after its nap.
            sweeper.watch(0.0)

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands."""
        return [self._context_lock, *self._adapter.locks(), self._slots.lock]

    def start_over(self) -> None:
        """Begin with no connection and new locks, in a forked child."""
        self._context_lock = threading.Lock()
        # OpenSSL's own locks may be held by threads that the child has not.
        self._context = None
        self._budgets.start_over()
        self._slots.start_over()
        self._adapter.start_over()


def _of_answer(
    error: errors.TermaiHttpError, response: requests.Response | None, attempt: Attempt
) -> errors.TermaiHttpError:
    """Say what is known of the answer whose body could not be read."""
    error.phase = error.phase or attempt.phase
    if response is not None:
        error.status_code = error.status_code or response.status_code
        error.request_id = error.request_id or request_id(response.headers)
    return error


def _read_beginning(response: requests.Response, limit: int, attempt: Attempt) -> bytes:
    """Read what can be had of an error's body: its status counts, whatever becomes of the rest."""
    found: list[bytes] = []
    attempt.narrow(_ERROR_BODY_SECONDS)
    try:
        found.extend(pieces(response, limit))
    except (*FOREIGN, errors.InvalidResponseError):
        response.close()
        if attempt.call.interrupted is not None:
            raise
    attempt.widen()
    return b"".join(found)


def _prepare_url(url: str) -> str:
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    return cast("str", request.url)


_prepared_url = functools.lru_cache(maxsize=256)(_prepare_url)


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
