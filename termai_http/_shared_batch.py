"""``chat_many`` on the process-wide client."""

from __future__ import annotations

from ._described import described
from ._frames import hiding, unwrap
from ._importing import importing
from ._shared import chosen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor
    from typing import Any, Literal, overload

    # The module that makes the calls; there once it was needed.
    from . import batch as _engine
    from ._client import Client
    from ._in_flight import CancelToken
    from ._layer import Layer
    from ._options import Target
    from .batch import Batch, BatchProgress
    from .config import RetryConfig
    from .errors import TermaiHttpError
    from .events import Event, RetryScheduled
    from .models import ChatResponse
else:
    _engine = None

__all__ = ["chat_many"]


def _load() -> None:
    """Load the module that makes these calls; the first of them does."""
    global _engine
    with importing():
        from . import batch as _engine


if TYPE_CHECKING:

    @overload
    def chat_many(
        items: Iterable[Any],
        *,
        model: str | None = ...,
        system: str | None = ...,
        max_tokens: int | None = ...,
        output: Any = ...,
        max_workers: int = ...,
        as_completed: Literal[False] = ...,
        return_exceptions: Literal[False] = ...,
        progress: bool | Callable[[BatchProgress], object] = ...,
        total_timeout: float | None = ...,
        executor: Executor | None = ...,
        **options: Any,
    ) -> Batch[ChatResponse]: ...

    @overload
    def chat_many(
        items: Iterable[Any],
        *,
        model: str | None = ...,
        system: str | None = ...,
        max_tokens: int | None = ...,
        output: Any = ...,
        max_workers: int = ...,
        as_completed: Literal[False] = ...,
        return_exceptions: Literal[True],
        progress: bool | Callable[[BatchProgress], object] = ...,
        total_timeout: float | None = ...,
        executor: Executor | None = ...,
        **options: Any,
    ) -> Batch[ChatResponse | TermaiHttpError]: ...

    @overload
    def chat_many(
        items: Iterable[Any],
        *,
        model: str | None = ...,
        system: str | None = ...,
        max_tokens: int | None = ...,
        output: Any = ...,
        max_workers: int = ...,
        as_completed: Literal[True],
        return_exceptions: Literal[False] = ...,
        progress: bool | Callable[[BatchProgress], object] = ...,
        total_timeout: float | None = ...,
        executor: Executor | None = ...,
        **options: Any,
    ) -> Batch[tuple[int, ChatResponse]]: ...

    @overload
    def chat_many(
        items: Iterable[Any],
        *,
        model: str | None = ...,
        system: str | None = ...,
        max_tokens: int | None = ...,
        output: Any = ...,
        max_workers: int = ...,
        as_completed: Literal[True],
        return_exceptions: Literal[True],
        progress: bool | Callable[[BatchProgress], object] = ...,
        total_timeout: float | None = ...,
        executor: Executor | None = ...,
        **options: Any,
    ) -> Batch[tuple[int, ChatResponse | TermaiHttpError]]: ...

    @overload
    def chat_many(
        items: Iterable[Any],
        *,
        model: str | None = ...,
        system: str | None = ...,
        max_tokens: int | None = ...,
        output: Any = ...,
        max_workers: int = ...,
        as_completed: bool = ...,
        return_exceptions: bool = ...,
        progress: bool | Callable[[BatchProgress], object] = ...,
        total_timeout: float | None = ...,
        executor: Executor | None = ...,
        **options: Any,
    ) -> Batch[Any]: ...


@hiding
@described
def chat_many(
    items: Iterable[Any],
    *,
    model: str | None = None,
    system: str | None = None,
    max_tokens: int | None = None,
    tools: Sequence[Any] | None = None,
    output: Any = None,
    reasoning: str | Mapping[str, Any] | None = None,
    stop: str | Sequence[str] | None = None,
    max_workers: int = 16,
    as_completed: bool = False,
    return_exceptions: bool = False,
    progress: bool | Callable[[BatchProgress], object] = False,
    total_timeout: float | None = None,
    results: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    api_key_env: str | None = None,
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
) -> Batch[Any]:
    """Send many chats at once and return an iterator over their replies, in the items' order.

    Arguments are checked now; work begins with the first ``next()``. Items are read in the thread
    that iterates, as needed, at most ``2 * max_workers`` ahead of what was delivered: a generator
    of a million is never held. Each call runs in a copy of the context of now (``contextvars``),
    on daemon threads that end with the iteration.

    The first item that fails ends it with its own error, and so does Ctrl-C, in half a second: the
    calls that run are ended, and what is raised has ``done``, a dict of the replies that are there
    by the item's number. Errors do not end it with ``return_exceptions=True``, nor ``run()``.

    Args:
        items: The prompts, any iterable: each text, a list of messages, a list of parts, a
            ``ChatRequest``, or a dict with ``prompt`` or ``messages`` and, if wanted, ``id`` and
            fields of a ``ChatRequest``. What an item says itself wins over the options here. A
            ``TermaiHttpError`` as an item is its own result.
        model: The model of the items that name none; as for ``chat()``.
        system: Instructions that stand before each conversation.
        max_tokens: Most tokens to generate in each reply.
        tools: What the model may call; the calls are not made.
        output: What each reply shall be, as for ``chat()``; or the path of a file, as
            ``output="results.jsonl"``, which is ``results``.
        reasoning: How much to think before each reply, as for ``chat()``.
        stop: Text, or a list of texts, that ends a reply where the model writes it.
        max_workers: Most calls at once.
        as_completed: Whether to deliver ``(number, reply)`` as each is done, numbers from 0.
        return_exceptions: Whether to deliver the error of an item in the place of its reply.
        progress: True shows a bar on stderr (or as a widget), with the extra ``progress``; a
            function is called with a ``BatchProgress`` after each item, in the thread that
            iterates, and what it raises ends the batch.
        total_timeout: Seconds for all, from the first ``next()``; what is not done by then fails
            with ``DeadlineExceeded``. So does the batch where its iterator gives more a second
            later. None for no limit.
        results: A file to put the results into, JSON Lines, each appended and flushed when it is
            done. Where it exists, the replies in it are delivered from there, and only the others
            are asked for.
        executor: Any ``concurrent.futures.Executor`` to make the calls on, other processes or a
            Dask cluster (``client.get_executor(pure=False)``) among them. ``client``, ``api_key``
            and ``cancel`` do not travel there: use ``initialize()`` and ``api_key_env``. A worker
            that dies may leave calls that are made, and paid, twice.
        api_key_env: Name of the environment variable that holds the key, where the call is made.
        client: The client to use; None means the process-wide one.
        api_key: The vendor's key; None means the environment's.
        base_url: Where the API lives; None means the environment's, or the vendor.
        timeout: Seconds for each call; None means the client's, 120.
        retry: The retry policy of each call; None means the client's.
        extra_headers: Headers to add.
        extra_query: Query parameters to add.
        extra_body: Fields of the request bodies; they win over everything else.
        cancel: A ``CancelToken`` that can end all from another thread.
        rollout_key: Whose calls they are, as for ``chat()``; all are on one side. None draws for
            each.
        provider: ``"openai"`` or ``"claude"``; None decides by each item's model.
        api: ``"chat"``, or ``"responses"`` for OpenAI's newer API; None means ``"chat"``.
        api_version: ``anthropic-version`` of the calls; None means ``"2023-06-01"``.
        fallback: Who is asked next where the one before does not answer, for each item anew; as for
            ``chat()``. With ``executor``, without keys: they do not travel.
        layers: What each call passes through in the place of the client's ``layers``; None means
            those, ``()`` none.
        on_event: Hears every event of each call, in the thread where it happens.
        on_retry: Hears of every retry before the wait: ``attempt``, ``cause``, ``wait``,
            ``status_code``, ``request_id``.
        **params: Any parameter of the vendor's, for example ``temperature=0.2``.

    Returns:
        A ``Batch``: iterate over it, make a ``list`` of it, or ``run()`` it.

    Raises:
        InvalidRequestError: An argument is wrong; nothing was sent.
        ConfigurationError: An argument, the results file or the executor cannot be used.
        TermaiHttpError: While it is read: as ``chat()``.
    """
    if _engine is None:
        _load()
    return unwrap(_engine.batch_with(lambda: chosen(client), locals()))
