"""One exchange of a call: sent through the session, read, and given back on every way out."""

from __future__ import annotations

import functools
import ssl
import threading
from collections.abc import Mapping
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

import requests

from . import errors, events
from ._body import pieces, read_body
from ._budget import RetryBudgets
from ._call import Attempt, Clock, active
from ._direct import DirectAnswer, send_direct
from ._direct_check import direct_works
from ._environment import Environment
from ._idle import PoolRules
from ._lease import Lease, LeaseHolder
from ._log import log
from ._mapping import FOREIGN, deadline_exceeded, map_exception
from ._open_body import OpenBody, tell_if_closed
from ._ordinary import bare, find_pool_of, normalized, prepare, send_ordinary
from ._policy import RetryPolicy
from ._route import Outgoing, Route, host_and_port
from ._session import PooledAdapter, PooledSession
from ._slots import PoolFigures, Slots
from ._stock import Stock
from ._sweeper import sweeper
from ._tls import make_context
from .config import HttpClientConfig, RetryConfig
from .dialects._errors import request_id

__all__ = ["Transport"]

Answered: TypeAlias = "requests.Response | DirectAnswer"

_SPARE_DESCRIPTORS = 64
_MOST_ROUTES = 256
_ERROR_BODY_SECONDS = 5.0


class _BrokenBody(Exception):
    """A body that cannot be read as HTTP frames it."""


class Transport:
    """Owns a client's session.

    Args:
        config: The client's configuration.
        clock: Time and chance.
        direct: Whether attempts may go the direct way.
        listeners: Who hears of connections that are closed while idle.

    Raises:
        ConfigurationError: A CA bundle or client certificate cannot be loaded.
    """

    def __init__(
        self, config: HttpClientConfig, clock: Clock, direct: bool, listeners: events.Listeners
    ) -> None:
        self._config = config
        self._listeners = listeners
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
            on_evicted=self._note_evicted,
        )
        policy = config.retry or RetryConfig()
        if config.max_retries is not None:
            policy = policy.evolve(max_attempts=config.max_retries + 1)
        self._adapter = PooledAdapter(self._slots, rules, clock, policy, self._shared_context)
        self.session = PooledSession(self._environment, config.user_agent)
        self.session.mount("https://", self._adapter)
        self.session.mount("http://", self._adapter)
        self._may_be_direct = direct
        self._own_headers = self.session.headers.copy()
        self._stock = Stock(self.session, self._adapter)
        self._routes: dict[str, Route] = {}
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
        *,
        for_requests: bool = False,
    ) -> Outgoing:
        """Build the request of a call.

        Args:
            method: HTTP method.
            url: Where it goes.
            headers: Headers of the call; they win over the session's.
            body: Encoded body; None for none.
            query: Query parameters to add.
            for_requests: Whether its answer must be one of requests.

        Raises:
            ConfigurationError: The URL, or the proxy for it, cannot be used.
        """
        outgoing = Outgoing(method, url, headers, body, query)
        # A query may hold a key, and no cache shall.
        kept = not (for_requests or query or "?" in url)
        route = self._routes.get(url) if kept else None
        if route is not None:
            outgoing.route, outgoing.head = route, route.recall(outgoing)
            if outgoing.head is not None:
                outgoing.direct = True
                return outgoing
        # Nothing is kept of what a tool, or the user's session, may have a part in.
        stock = self._may_be_direct and not for_requests and self._stock.holds() and direct_works()
        outgoing.prepared = prepare(self.session, outgoing)
        if route is None:
            outgoing.route = self._new_route(normalized(url) if kept else outgoing.prepared.url)
            if kept and stock:
                self._keep(url, outgoing.route)
        outgoing.direct = stock and outgoing.route.find_pool is not None
        return outgoing

    def _new_route(self, url: str) -> Route:
        parts, (host, port) = urlsplit(url), host_and_port(url)
        return Route(
            host=host,
            port=port,
            path=bare(url).path_url,
            headers=self._own_headers,
            budget=self._budgets.of(parts.scheme, parts.netloc),
            find_pool=find_pool_of(self.session, self._adapter, url),
        )

    def _keep(self, url: str, route: Route) -> None:
        if len(self._routes) >= _MOST_ROUTES:
            self._routes = {}
        self._routes[url] = route

    def exchange(
        self, outgoing: Outgoing, attempt: Attempt, *, keep_open: bool = False
    ) -> Answered | OpenBody | errors.TermaiHttpError:
        """Make one attempt.

        Args:
            outgoing: What to send.
            attempt: Its state.
            keep_open: Whether the body of a success is left to be read by the caller.

        Returns:
            The answer with its body read, whatever its status, or the error in its place:
            inside the package errors are values. With ``keep_open`` a success is an ``OpenBody``,
            which has the connection until it is read, closed or dropped.
        """
        host = outgoing.route.host
        if attempt.call.left() <= 0:
            return deadline_exceeded(attempt)
        lease = Lease(self._slots, attempt)
        holder = LeaseHolder(lease)
        outer = active.bind(lease)
        answer: Answered | None = None
        opened: OpenBody | None = None
        try:
            answer = self._send(outgoing, attempt, lease, keep_open=keep_open)
            if keep_open and 200 <= answer.status_code <= 299:
                opened = OpenBody(answer, attempt, holder, host, self._config.limits.body)
                # Nobody may come to read it, and then somebody else has to end it.
                sweeper.watch(attempt.call.left())
                return opened
            return self._read(answer, attempt)
        except errors.TermaiHttpError as error:
            return _of_answer(error, answer, attempt)
        except FOREIGN as error:
            return _of_answer(map_exception(error, attempt, host), answer, attempt)
        except _BrokenBody as error:
            cause = error.__cause__ or error
            return _of_answer(map_exception(cause, attempt, host), answer, attempt)
        finally:
            # A hook may fail, or put another answer in the place of the real one, and a traceback
            # may keep the real one alive: what was not given back is closed.
            if opened is None:
                lease.abandon()
                attempt.call.let_go()
                if attempt.call.tell is not None:
                    tell_if_closed(lease, attempt)
            active.restore(outer)

    def _send(
        self, outgoing: Outgoing, attempt: Attempt, lease: Lease, *, keep_open: bool
    ) -> Answered:
        if outgoing.direct and attempt.pooled and self._stock.holds():
            if self._adapter.closed:
                raise errors.ClientClosed("This client is closed.")
            most = self._config.limits.body
            answer = send_direct(outgoing, attempt, lease, most, keep_open=keep_open)
            if answer is not None:
                return answer
        if outgoing.prepared is None:
            outgoing.prepared = prepare(self.session, outgoing)
        return send_ordinary(self.session, outgoing.prepared, attempt)

    def _read(self, answer: Answered, attempt: Attempt) -> Answered:
        if _is_read(answer):
            return answer
        limits = self._config.limits
        try:
            if 200 <= answer.status_code <= 299:
                body = read_body(answer, limits.body)
            else:
                body = _read_beginning(answer, limits.error_body, attempt)
        except ValueError as error:
            answer.close()
            # A negative chunk size comes out of urllib3 like this; out of a hook it is its own.
            raise _BrokenBody from error
        except BaseException:
            answer.close()
            raise
        return _with_content(answer, body)

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
        self._listeners.deliver()
        return min((due for due in dues if due is not None), default=None)

    def _note_evicted(self, conn: Any) -> None:
        """Let it be told; safe at any instant, also in a finalizer."""
        listeners = self._listeners
        if listeners.everybody or listeners.ears or listeners.lines:
            listeners.leave_note(
                events.ConnectionClosed(
                    call_id=None,
                    provider=None,
                    model=None,
                    host=conn.host,
                    port=conn.port,
                    reason="evicted",
                )
            )

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
        self._routes = {}
        self._budgets.start_over()
        self._slots.start_over()
        self._adapter.start_over()


def _is_read(answer: Answered) -> bool:
    if isinstance(answer, DirectAnswer):
        return answer.is_read
    if answer._content is False and not answer._content_consumed and answer.raw is not None:
        return False
    # Read by a hook, or made by hand by a test: there is nothing on a socket.
    if not isinstance(answer._content, bytes):
        answer._content = b""
    return True


def _with_content(answer: Answered, body: bytes) -> Answered:
    if isinstance(answer, DirectAnswer):
        answer.content, answer.is_read = body, True
    else:
        answer._content = body
        answer._content_consumed = True
    return answer


def _of_answer(
    error: errors.TermaiHttpError, answer: Answered | None, attempt: Attempt
) -> errors.TermaiHttpError:
    """Say what is known of the answer whose body could not be read."""
    error.phase = error.phase or attempt.phase
    if answer is not None:
        error.status_code = error.status_code or answer.status_code
        error.request_id = error.request_id or request_id(answer.headers)
    return error


def _read_beginning(answer: Answered, limit: int, attempt: Attempt) -> bytes:
    """Read what can be had of an error's body: its status counts, whatever becomes of the rest."""
    found: list[bytes] = []
    attempt.narrow(_ERROR_BODY_SECONDS)
    try:
        found.extend(pieces(answer, limit))
    except (*FOREIGN, errors.InvalidResponseError):
        answer.close()
        if attempt.call.interrupted is not None:
            raise
    attempt.widen()
    return b"".join(found)


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
