"""``Client``, and the process-wide one behind a lock."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from ._call import CancelToken, Clock
from ._chat import model_or_default, send_chat
from ._core import Core
from ._fork import take_part
from ._log import log
from ._options import CallOptions, check_params
from ._target import Account, provider_of
from .config import HttpClientConfig, RetryConfig
from .errors import AlreadyInitializedError, ConfigurationError, TermaiHttpError
from .events import Listener
from .metrics import ClientStats, HttpMetrics, HttpStats, format_stats
from .models import ChatRequest, ChatResponse, Prompt

if TYPE_CHECKING:
    from ._session import PooledSession

__all__ = [
    "Client",
    "HttpClientManager",
    "chat",
    "client",
    "client_with_config",
    "close",
    "initialize",
    "show_http_stats",
    "stats",
]


_MANY_ALIKE = 10


class Client:
    """One configuration, one session, one pool, one metrics object.

    All of it is shared by every call, from any number of threads. Most programs need only the
    process-wide one, ``client()``; a client made here must be closed by its maker (it is a
    context manager).

    Args:
        config: The configuration; None reads it from the environment.
    """

    def __init__(self, config: HttpClientConfig | None = None, *, _clock: Clock | None = None):
        if config is not None and not isinstance(config, HttpClientConfig):
            raise ConfigurationError(
                f"config must be an HttpClientConfig or None, not {type(config).__name__}."
            )
        self._core = Core(config or HttpClientConfig.from_env(), _clock or Clock())

    def __repr__(self) -> str:
        core: Core | None = getattr(self, "_core", None)
        if core is None:
            return "<termai_http.Client unfinished>"
        state = "closed" if core.closed else "open" if core.begun else "unused"
        return f"<termai_http.Client {state}>"

    def __getstate__(self) -> NoReturn:
        raise TypeError("A Client cannot be pickled; each process makes its own with client().")

    @property
    def config(self) -> HttpClientConfig:
        """The configuration; a change needs a new client."""
        return self._core.config

    @property
    def session(self) -> PooledSession:
        """The one ``requests.Session`` of this client, made on first use.

        It may be used raw: it pools and retries there too.

        Raises:
            ClientClosed: The client was closed.
            ConfigurationError: A CA bundle or client certificate cannot be loaded.
        """
        return self._core.transport().session

    @property
    def metrics(self) -> HttpMetrics:
        """Counts the calls of this client."""
        return self._core.metrics

    def stats(self) -> ClientStats:
        """Return the figures of connections and calls; closes what idles past its time."""
        transport = self._core.begun
        calls: HttpStats = self._core.metrics.get_stats()
        if transport is None:
            return ClientStats(calls=calls)
        pool = transport.figures()
        total = pool.opened + pool.reused
        return ClientStats(
            active_connections=pool.active,
            idle_connections=pool.idle,
            total_requests=total,
            opened=pool.opened,
            reused=pool.reused,
            reuse_ratio=pool.reused / total if total else 0.0,
            evicted=pool.evicted,
            discarded=pool.discarded,
            waiting=pool.waiting,
            calls=calls,
        )

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Let ``listener`` hear every event, in the thread where it happens.

        Returns:
            A function that ends it. What a listener raises is logged and breaks no call.
        """
        self._core.listeners.add(listener)
        return lambda: self._core.listeners.remove(listener)

    def listening(self, listener: Listener) -> AbstractContextManager[None]:
        """Let ``listener`` hear every event inside a ``with`` block."""
        return self._core.listeners.hearing(listener)

    def close(self, wait: float | None = 0.0) -> None:
        """Close for good: later calls raise ``ClientClosed``, and so do those that still run.

        Args:
            wait: Seconds that running calls may take to end by themselves before they are ended;
                None waits as long as they take, each until its own deadline.
        """
        self._core.close(wait)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def chat(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
        provider: str | None = None,
        api: str | None = None,
        api_version: str | None = None,
        **params: Any,
    ) -> ChatResponse:
        """Send a chat on this client; the options are those of ``termai_http.chat``."""
        reply = _send(self, locals())
        if isinstance(reply, TermaiHttpError):
            # A traceback with locals must show neither key nor prompt.
            del prompt, system, api_key, extra_headers, extra_query, extra_body, params
            raise reply
        return reply


def _send(on: Client | None, given: dict[str, Any]) -> ChatResponse | TermaiHttpError:
    """Send a chat with a face's arguments as they were given."""
    prompt, params = given.pop("prompt"), given.pop("params")
    del given["self" if "self" in given else "client"]
    try:
        on = on if on is not None else client()
        if not isinstance(on, Client):
            raise ConfigurationError(f"client must be a Client or None, not {type(on).__name__}.")
        check_params(params)
        params.pop("stream", None)
        request = ChatRequest(
            model=model_or_default(given.pop("model")),
            messages=prompt,
            system=given.pop("system"),
            max_tokens=given.pop("max_tokens"),
            extra=params,
        )
        options = CallOptions(**given)
    except TermaiHttpError as error:
        return error.with_traceback(None)
    account = Account(provider=options.provider or provider_of(request.model))
    return send_chat(on._core, account, request, options)


_lock = threading.Lock()
_current: Client | None = None
_separate: weakref.WeakSet[Client] = weakref.WeakSet()


class _SharedState:
    """The part that this module's own lock takes in a fork."""

    def locks(self) -> list[Any]:
        return [_lock]

    def start_over(self) -> None:
        global _lock
        _lock = threading.Lock()


_shared_state = _SharedState()
take_part(_shared_state)


def client() -> Client:
    """Return the process-wide client, made on first use from ``HttpClientConfig.from_env()``.

    Safe from any number of threads: all get the same one, also when they race for the first.
    """
    global _current
    current = _current
    if current is not None:
        return current
    with _lock:
        if _current is None:
            _current = Client()
        return _current


def initialize(config: HttpClientConfig) -> Client:
    """Make the process-wide client with a configuration of your own, before its first use.

    Raises:
        AlreadyInitializedError: There is one already; ``close()`` forgets it.
        ConfigurationError: ``config`` is none.
    """
    global _current
    made = Client(config)
    with _lock:
        if _current is not None:
            raise AlreadyInitializedError("The process-wide client is in use already.")
        _current = made
    return made


def close(wait: float | None = 0.0) -> None:
    """Close the process-wide client and forget it; the next use makes a new one.

    Args:
        wait: Seconds that running calls may take to end by themselves, as for ``Client.close``.
    """
    global _current
    with _lock:
        closing, _current = _current, None
    if closing is not None:
        closing.close(wait)


def client_with_config(config: HttpClientConfig) -> Client:
    """Make a separate client, which the caller closes.

    The tenth one alive with an equal configuration is warned of: a client for every call is the
    leak that this package exists against.

    Raises:
        ConfigurationError: ``config`` is none.
    """
    made = Client(config)
    with _lock:
        alike = sum(
            1 for other in list(_separate) if not other._core.closed and other.config == config
        )
        _separate.add(made)
    if alike + 1 == _MANY_ALIKE:
        log.warning(
            "%d clients with an equal configuration are open. Share one, or close each: "
            "every client has a connection pool of its own.",
            _MANY_ALIKE,
        )
    return made


def stats() -> ClientStats:
    """Return the figures of the process-wide client."""
    return client().stats()


def show_http_stats(file: TextIO | None = None) -> None:
    """Print the figures of the process-wide client as a table.

    Args:
        file: Where to; None means stderr.
    """
    print(format_stats(stats()), file=sys.stderr if file is None else file)


def chat(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    client: Client | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
    retry: RetryConfig | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_query: Mapping[str, Any] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    cancel: CancelToken | None = None,
    provider: str | None = None,
    api: str | None = None,
    api_version: str | None = None,
    **params: Any,
) -> ChatResponse:
    """Send a chat to OpenAI or Claude and return its whole reply.

    Blocks until the reply is complete or the deadline passes. Safe from any thread; all calls
    share one pool of connections.

    Args:
        prompt: Text for one user turn, or ``list of {"role", "content"}``.
        model: The model; ``claude...`` goes to Claude, everything else to OpenAI. None means the
            variable ``TERMAI_HTTP_MODEL``.
        system: Instructions that stand before the conversation.
        max_tokens: Most tokens to generate. None means 4096 for Claude, no limit for OpenAI.
        client: The client to use; None means the process-wide one.
        api_key: The vendor's key; None means ``OPENAI_API_KEY``, or ``ANTHROPIC_API_KEY`` and
            then ``ANTHROPIC_AUTH_TOKEN``.
        base_url: Where the API lives; None means ``OPENAI_BASE_URL`` or ``ANTHROPIC_BASE_URL``,
            or the vendor.
        timeout: Seconds for the whole call, every attempt and wait included; None means the
            client's, 120.
        retry: The retry policy of this call; None means the client's.
        extra_headers: Headers to add.
        extra_query: Query parameters to add.
        extra_body: Fields of the request body; they win over everything else.
        cancel: A ``CancelToken`` that can end this call from another thread.
        provider: ``"openai"`` or ``"claude"``; None decides by the model's name.
        api: ``"chat"``; None means that.
        api_version: ``anthropic-version`` of this call; None means ``"2023-06-01"``.
        **params: Any parameter of the vendor's, for example ``temperature=0.2``.

    Raises:
        InvalidRequestError: Prompt, options or body are wrong; nothing was sent.
        ConfigurationError: Key, URL or a setting is wrong; nothing was sent.
        APIStatusError: The vendor refused, and retries did not help or were not allowed.
        APIConnectionError: The connection failed.
        APITimeoutError: The deadline, or a shorter limit, passed.
        InvalidResponseError: What came back is no reply.
        CallCancelled: ``cancel`` was cancelled.
        ClientClosed: The client was closed.
    """
    given = locals()
    reply = _send(client, given)
    if isinstance(reply, TermaiHttpError):
        del given, prompt, system, api_key, extra_headers, extra_query, extra_body, params
        raise reply
    return reply


class HttpClientManager:
    """Alias of the functions around the process-wide client, for those who look for a manager."""

    client = staticmethod(client)
    client_with_config = staticmethod(client_with_config)
    initialize = staticmethod(initialize)
    stats = staticmethod(stats)
