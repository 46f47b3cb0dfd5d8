"""``Client``: one configuration, one session, one pool, one metrics object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from ._call import Clock
from ._chat import open_stream, send_chat
from ._client_batches import ClientBatches
from ._client_queries import ClientQueries
from ._core import Core
from ._described import described
from ._faces import send_with
from ._frames import hiding, unwrap
from ._importing import importing
from ._in_flight import CancelToken
from ._options import Target
from ._run_tools import run_with
from .config import HttpClientConfig, RetryConfig
from .errors import ConfigurationError
from .metrics import ClientStats, HttpMetrics
from .models import ChatResponse, Prompt

if TYPE_CHECKING:
    from ._layer import Layer
    from ._session import PooledSession
    from ._stream import Stream
    from ._tool_run import ToolRun
    from .events import Event, Listener, RetryScheduled

__all__ = ["Client", "open_stream", "send_chat", "send_with"]


class Client(ClientBatches, ClientQueries):
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

    def _repr_html_(self) -> str:
        with importing():
            from ._html import client_html
        return client_html(self)

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
        calls, pooled, unpooled = self._core.metrics.by_pooling()
        of_calls = ClientStats(
            calls=calls,
            pooled_calls=pooled,
            unpooled_calls=unpooled,
            layers=self._core.layers.stats(),
        )
        if transport is None:
            return of_calls
        pool = transport.figures()
        total = pool.opened + pool.reused
        return attrs.evolve(
            of_calls,
            active_connections=pool.active,
            idle_connections=pool.idle,
            total_requests=total,
            opened=pool.opened,
            reused=pool.reused,
            reuse_ratio=pool.reused / total if total else 0.0,
            evicted=pool.evicted,
            discarded=pool.discarded,
            waiting=pool.waiting,
        )

    @described
    def listen(self, listener: Listener) -> Callable[[], None]:
        """Let ``listener`` hear every event, in the thread where it happens.

        Returns:
            A function that ends it at once; the end of calls that run is not heard any more.
            A second time it does nothing. What a listener raises is logged and breaks no call.
        """
        self._core.listeners.add(listener)
        held = [listener]

        def stop() -> None:
            # Who listens by an equal one, or a second time, goes on.
            with suppress(IndexError):
                self._core.listeners.remove(held.pop())

        return stop

    @described
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

    @hiding
    def chat(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Sequence[Any] | None = None,
        output: Any = None,
        reasoning: str | Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
        rollout_key: str | int | bytes | None = None,
        provider: str | None = None,
        api: str | None = None,
        api_version: str | None = None,
        fallback: Sequence[str | Target] | None = None,
        layers: Sequence[Layer] | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_retry: Callable[[RetryScheduled], object] | None = None,
        **params: Any,
    ) -> ChatResponse:
        """Send a chat on this client; the options are those of ``termai_http.chat``."""
        return unwrap(send_with(lambda: self, locals(), send_chat))

    @hiding
    def stream(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Sequence[Any] | None = None,
        output: Any = None,
        reasoning: str | Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
        rollout_key: str | int | bytes | None = None,
        provider: str | None = None,
        api: str | None = None,
        api_version: str | None = None,
        fallback: Sequence[str | Target] | None = None,
        layers: Sequence[Layer] | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_retry: Callable[[RetryScheduled], object] | None = None,
        **params: Any,
    ) -> Stream:
        """Stream a chat on this client; the options are those of ``termai_http.stream``."""
        return unwrap(send_with(lambda: self, locals(), open_stream))

    @hiding
    def run_tools(
        self,
        prompt: Prompt,
        *,
        tools: Sequence[Any],
        max_rounds: int = 10,
        exchange: list[Any] | None = None,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        output: Any = None,
        reasoning: str | Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
        rollout_key: str | int | bytes | None = None,
        provider: str | None = None,
        api: str | None = None,
        api_version: str | None = None,
        fallback: Sequence[str | Target] | None = None,
        layers: Sequence[Layer] | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_retry: Callable[[RetryScheduled], object] | None = None,
        **params: Any,
    ) -> ToolRun:
        """Chat and call the tools on this client; as ``termai_http.run_tools``."""
        return unwrap(run_with(lambda: self, locals()))
