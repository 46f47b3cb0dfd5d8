"""The calls that are no chats, on the process-wide client."""

from __future__ import annotations

from ._described import described
from ._frames import hiding, unwrap
from ._importing import importing
from ._shared import chosen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    # The module that makes the calls; there once it was needed.
    from . import _client_queries as _engine
    from ._client import Client
    from ._in_flight import CancelToken
    from ._layer import Layer
    from ._query_models import Embeddings, ModelInfo
    from .config import RetryConfig
    from .events import Event, RetryScheduled
    from .models import Prompt
else:
    _engine = None

__all__ = ["count_tokens", "embed", "list_models"]


def _load() -> None:
    """Load the module that makes these calls; the first of them does."""
    global _engine
    with importing():
        from . import _client_queries as _engine


@hiding
@described
def embed(
    texts: str | Sequence[str],
    *,
    model: str,
    dimensions: int | None = None,
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
    layers: Sequence[Layer] | None = None,
    on_event: Callable[[Event], object] | None = None,
    on_retry: Callable[[RetryScheduled], object] | None = None,
    **params: Any,
) -> Embeddings:
    """Turn texts into vectors, with a model of OpenAI's or of a server that speaks its API.

    One request. OpenAI takes at most 2,048 texts and 300,000 tokens in it; embed more in batches.

    Args:
        texts: One text, or a list of texts.
        model: The model, for example ``"text-embedding-3-small"``.
        dimensions: Numbers in each vector, for models that can shorten theirs; None means the
            model's own.
        client: The client to use; None means the process-wide one.
        api_key: The key; None means ``OPENAI_API_KEY``.
        base_url: Where the API lives; None means ``OPENAI_BASE_URL``, or OpenAI.
        timeout: Seconds for the whole call, every attempt and wait included; None means the
            client's, 120.
        retry: The retry policy of this call; None means the client's.
        extra_headers: Headers to add.
        extra_query: Query parameters to add.
        extra_body: Fields of the request body; they win over everything else.
        cancel: A ``CancelToken`` that can end this call from another thread.
        rollout_key: Whose call it is (text, number or bytes), while the pool is rolled out to a
            share of calls: its calls are all on one side. None draws.
        provider: ``"openai"`` for a model whose name begins with ``claude``.
        layers: What it passes through in the place of the client's ``layers``; None means those.
        on_event: Hears every event of it, in the thread where it happens.
        on_retry: Hears of every retry before the wait.
        **params: Any parameter of the vendor's, for example ``user="42"``. OpenAI and Azure are
            asked for ``encoding_format="base64"``, which is read faster and gives the same numbers.

    Raises:
        InvalidRequestError: Texts or options are wrong; nothing was sent. Claude has no embeddings.
        InvalidResponseError: There is not one vector of numbers for each text.
        TermaiHttpError: As ``chat()``.
    """
    if _engine is None:
        _load()
    return unwrap(_engine.embed_with(lambda: chosen(client), locals()))


@hiding
@described
def count_tokens(
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
    layers: Sequence[Layer] | None = None,
    on_event: Callable[[Event], object] | None = None,
    on_retry: Callable[[RetryScheduled], object] | None = None,
    **params: Any,
) -> int:
    """Return how many tokens the vendor would read, were this a ``chat()``. Costs nothing.

    The arguments are those of ``chat()``: what changes no number, like ``max_tokens``, is left
    out. OpenAI counts by its responses API, which not every compatible server has.

    Returns:
        The tokens of prompt, system, tools and output schema together.

    Raises:
        InvalidResponseError: The answer has no number of tokens.
        TermaiHttpError: As ``chat()``.
    """
    if _engine is None:
        _load()
    return unwrap(_engine.count_with(lambda: chosen(client), locals()))


@hiding
@described
def list_models(
    *,
    provider: str | None = None,
    client: Client | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
    retry: RetryConfig | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_query: Mapping[str, Any] | None = None,
    cancel: CancelToken | None = None,
    rollout_key: str | int | bytes | None = None,
    api_version: str | None = None,
    layers: Sequence[Layer] | None = None,
    on_event: Callable[[Event], object] | None = None,
    on_retry: Callable[[RetryScheduled], object] | None = None,
) -> list[ModelInfo]:
    """List the models that a key can use, all pages of them.

    Args:
        provider: ``"openai"``, also for servers that speak its API, or ``"claude"``; None means
            ``"openai"``.
        client: The client to use; None means the process-wide one.
        api_key: The vendor's key; None means the environment's.
        base_url: Where the API lives; None means the environment's, or the vendor.
        timeout: Seconds for all pages together; None means the client's, 120.
        retry: The retry policy of each page; None means the client's.
        extra_headers: Headers to add.
        extra_query: Query parameters to add.
        cancel: A ``CancelToken`` that can end this call from another thread.
        rollout_key: Whose call it is (text, number or bytes), while the pool is rolled out to a
            share of calls: its calls are all on one side. None draws.
        api_version: ``anthropic-version`` of this call; None means ``"2023-06-01"``.
        layers: What it passes through in the place of the client's ``layers``; None means those.
        on_event: Hears every event of it, in the thread where it happens.
        on_retry: Hears of every retry before the wait.

    Returns:
        The models in the server's order.

    Raises:
        InvalidResponseError: An answer is no list of models, or the pages never end.
        TermaiHttpError: As ``chat()``.
    """
    if _engine is None:
        _load()
    return unwrap(_engine.list_with(lambda: chosen(client), locals()))
