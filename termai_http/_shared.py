"""The process-wide client behind a lock, and the functions that use it.

What makes the calls is loaded by the first one: until then they cost a program next to nothing.
"""

from __future__ import annotations

import sys
import threading
import weakref

from ._described import described
from ._fork import take_part
from ._frames import hiding, unwrap
from ._importing import importing
from ._log import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TextIO

    # The module that makes the calls; there once it was needed.
    from . import _client as _engine
    from ._client import Client
    from ._in_flight import CancelToken
    from ._layer import Layer
    from ._options import Target
    from ._stream import Stream
    from .config import HttpClientConfig, RetryConfig
    from .events import Event, RetryScheduled
    from .metrics import ClientStats
    from .models import ChatResponse, Prompt
else:
    _engine = None

__all__ = [
    "HttpClientManager",
    "chat",
    "chosen",
    "client",
    "client_with_config",
    "close",
    "existing",
    "initialize",
    "show_http_stats",
    "start_from",
    "stats",
    "stream",
]

_MANY_ALIKE = 10

_lock = threading.Lock()
_current: Client | None = None
_source: Callable[[], HttpClientConfig] | None = None
_separate: weakref.WeakSet[Client] = weakref.WeakSet()


class _SharedState:
    """The part that this module takes in a fork."""

    def locks(self) -> list[Any]:
        """Return this module's lock."""
        return [_lock]

    def start_over(self) -> None:
        """Make it anew in the child."""
        global _lock
        _lock = threading.Lock()


_shared_state = _SharedState()
take_part(_shared_state)


def _load() -> None:
    """Load the module that makes the calls; the first of them does."""
    global _engine
    with importing():
        from . import _client as _engine


@described
def client() -> Client:
    """Return the process-wide client, made on first use from ``HttpClientConfig.from_env()``.

    Safe from any number of threads: all get the same one, also when they race for the first.
    """
    global _current
    current = _current
    if current is not None:
        return current
    if _engine is None:
        _load()
    # In the order of a fork: a client with a CA bundle loads requests when it is made.
    with importing(), _lock:
        if _current is None:
            _current = _engine.Client(None if _source is None else _source())
        return _current


def existing() -> Client | None:
    """Return the process-wide client; None where nothing has used it yet."""
    return _current


def start_from(source: Callable[[], HttpClientConfig] | None) -> None:
    """Let the process-wide client, where one is made from now on, have another configuration.

    For a host with settings of its own; nothing is made or read before the first use.

    Args:
        source: Returns it; asked under this module's lock, so it must not use the client. None
            goes back to ``HttpClientConfig.from_env()``.
    """
    global _source
    _source = source


@described
def initialize(config: HttpClientConfig) -> Client:
    """Make the process-wide client with a configuration of your own, before its first use.

    Raises:
        AlreadyInitializedError: There is one already; ``close()`` forgets it.
        ConfigurationError: ``config`` is none.
    """
    global _current
    _load()
    made = _engine.Client(config)
    with _lock:
        if _current is not None:
            from .errors import AlreadyInitializedError

            raise AlreadyInitializedError("The process-wide client is in use already.")
        _current = made
    return made


@described
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


@described
def client_with_config(config: HttpClientConfig) -> Client:
    """Make a separate client, which the caller closes.

    The tenth one alive with an equal configuration is warned of: a client for every call is the
    leak that this package exists against.

    Raises:
        ConfigurationError: ``config`` is none.
    """
    _load()
    made = _engine.Client(config)
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


@described
def stats() -> ClientStats:
    """Return the figures of the process-wide client."""
    return client().stats()


@described
def show_http_stats(file: TextIO | None = None) -> None:
    """Print the figures of the process-wide client as a table.

    Args:
        file: Where to; None means stderr.
    """
    figures = stats()
    with importing():
        from .metrics import format_stats
    print(format_stats(figures), file=sys.stderr if file is None else file)


def chosen(given: Client | None) -> Client:
    """Return the client that was given, else the process-wide one."""
    return client() if given is None else given


@hiding
@described
def chat(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    tools: Sequence[Any] | None = None,
    output: Any = None,
    reasoning: str | Mapping[str, Any] | None = None,
    stop: str | Sequence[str] | None = None,
    client: Client | None = None,
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
    """Send a chat to OpenAI or Claude and return its whole reply.

    Blocks until the reply is complete or the deadline passes. Safe from any thread; all calls
    share one pool of connections.

    Args:
        prompt: Text for one user turn; ``list of {"role", "content"}``; or a list of the parts of
            one user turn, texts, ``Image`` and ``Document``.
        model: The model; ``claude...`` goes to Claude, everything else to OpenAI. None means the
            variable ``TERMAI_HTTP_MODEL``.
        system: Instructions that stand before the conversation.
        max_tokens: Most tokens to generate. None means 4096 for Claude, no limit for OpenAI.
        tools: What the model may call: Python functions, or the vendor's own JSON as it is. The
            reply has its ``tool_calls``; ``run_tools()`` makes them, too.
        output: What the reply shall be: an attrs class, dataclass, TypedDict, pydantic model, any
            type of their fields, or a JSON schema; ``reply.parsed`` is one. None for free text.
        reasoning: How much to think first, ``"none"``, ``"minimal"``, ``"low"``, ``"medium"``,
            ``"high"``, ``"xhigh"`` or ``"max"``; a dict goes out as the vendor's own parameter;
            None leaves it to the vendor.
        stop: Text, or a list of texts, that ends the reply where the model writes it.
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
        rollout_key: Whose call it is (text, number or bytes), while the pool is rolled out to a
            share of calls: its calls are all on one side. None draws.
        provider: ``"openai"`` or ``"claude"``; None decides by the model's name.
        api: ``"chat"``, or ``"responses"`` for OpenAI's newer API; None means ``"chat"``.
        api_version: ``anthropic-version`` of this call; None means ``"2023-06-01"``.
        fallback: Who is asked next, within the same deadline, where the one before is overloaded,
            out of quota or cannot be reached: a list of models and ``Target`` values. The reply's
            ``fallbacks`` says who failed. ``api_key``, ``base_url``, ``provider``, ``api``,
            ``api_version`` and the extras here are of the first one only.
        layers: What the call passes through in the place of the client's ``layers``; None means
            those, ``()`` none.
        on_event: Hears every event of the call, in the thread where it happens.
        on_retry: Hears of every retry before the wait: ``attempt``, ``cause``, ``wait``,
            ``status_code``, ``request_id``.
        **params: Any parameter of the vendor's, for example ``temperature=0.2``.

    Raises:
        InvalidRequestError: Prompt, options or body are wrong; nothing was sent.
        ConfigurationError: Key, URL or a setting is wrong; nothing was sent.
        APIStatusError: The vendor refused, and retries did not help or were not allowed.
        APIConnectionError: The connection failed.
        APITimeoutError: The deadline, or a shorter limit, passed.
        InvalidResponseError: What came back is no reply; ``OutputError`` where it is not the
            ``output`` that was asked for.
        CallCancelled: ``cancel`` was cancelled.
        ClientClosed: The client was closed.
    """
    if _engine is None:
        _load()
    return unwrap(_engine.send_with(lambda: chosen(client), locals(), _engine.send_chat))


@hiding
@described
def stream(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    tools: Sequence[Any] | None = None,
    output: Any = None,
    reasoning: str | Mapping[str, Any] | None = None,
    stop: str | Sequence[str] | None = None,
    client: Client | None = None,
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
    """Send a chat to OpenAI or Claude and return its reply as a stream.

    Sent at once, and tried again as ``chat()`` is, until its first event came; after that nothing
    is ever repeated. Read it in a ``with`` block, or to its end.

    The arguments are those of ``chat()``, with two differences: ``timeout`` spans the whole
    stream, your own time between its pieces included, and None means the client's
    ``stream_timeout``, 600 s; and 60 s of silence end it, unless ``read_timeout`` is set.

    Returns:
        A ``Stream``: an iterator of text pieces and a context manager.

    Raises:
        TermaiHttpError: As ``chat()``; while it is read, ``StreamInterrupted``.
    """
    if _engine is None:
        _load()
    return unwrap(_engine.send_with(lambda: chosen(client), locals(), _engine.open_stream))


class HttpClientManager:
    """Alias of the functions around the process-wide client, for those who look for a manager."""

    client = staticmethod(client)
    client_with_config = staticmethod(client_with_config)
    initialize = staticmethod(initialize)
    stats = staticmethod(stats)
