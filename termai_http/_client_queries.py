"""The calls of a client that are no chats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._described import described
from ._faces import ask_with, chat_request, embedding_request
from ._frames import hiding, unwrap
from ._importing import importing
from ._in_flight import CancelToken
from .config import RetryConfig
from .models import Prompt

if TYPE_CHECKING:
    from ._layer import Layer
    from ._query_models import Embeddings, ModelInfo
    from .events import Event, RetryScheduled

__all__ = ["ClientQueries", "count_with", "embed_with", "list_with"]


def embed_with(on: Callable[[], Any], given: dict[str, Any]) -> Embeddings | BaseException:
    """Turn texts into vectors with a face's arguments as they were given; as ``ask_with``."""
    with importing():
        from ._queries import send_embeddings
    return ask_with(on, given, embedding_request, send_embeddings)


def count_with(on: Callable[[], Any], given: dict[str, Any]) -> int | BaseException:
    """Count a prompt's tokens with a face's arguments as they were given; as ``ask_with``."""
    with importing():
        from ._queries import send_count
    return ask_with(on, given, chat_request, send_count)


def list_with(on: Callable[[], Any], given: dict[str, Any]) -> list[ModelInfo] | BaseException:
    """List the models with a face's arguments as they were given; as ``ask_with``."""
    with importing():
        from ._queries import send_models
    return ask_with(on, given, lambda given: None, send_models)


class ClientQueries:
    """The part of ``Client`` that embeds, counts and lists."""

    @hiding
    @described
    def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
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
        """Turn texts into vectors on this client; as ``termai_http.embed``."""
        return unwrap(embed_with(lambda: self, locals()))

    @hiding
    def count_tokens(
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
        layers: Sequence[Layer] | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_retry: Callable[[RetryScheduled], object] | None = None,
        **params: Any,
    ) -> int:
        """Count a prompt's tokens on this client; as ``termai_http.count_tokens``."""
        return unwrap(count_with(lambda: self, locals()))

    @hiding
    @described
    def list_models(
        self,
        *,
        provider: str | None = None,
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
        """List the models on this client; as ``termai_http.list_models``."""
        return unwrap(list_with(lambda: self, locals()))
