"""The calls of a client that are no chats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._faces import ask_with, chat_request, embedding_request
from ._frames import hiding, unwrap
from ._in_flight import CancelToken
from ._queries import send_count, send_embeddings, send_models
from ._query_models import Embeddings, ModelInfo
from .config import RetryConfig
from .models import Prompt

__all__ = ["ClientQueries"]


class ClientQueries:
    """The part of ``Client`` that embeds, counts and lists."""

    @hiding
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
        provider: str | None = None,
        **params: Any,
    ) -> Embeddings:
        """Turn texts into vectors on this client; as ``termai_http.embed``."""
        return unwrap(ask_with(lambda: self, locals(), embedding_request, send_embeddings))

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
        provider: str | None = None,
        api: str | None = None,
        api_version: str | None = None,
        **params: Any,
    ) -> int:
        """Count a prompt's tokens on this client; as ``termai_http.count_tokens``."""
        return unwrap(ask_with(lambda: self, locals(), chat_request, send_count))

    @hiding
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
        api_version: str | None = None,
    ) -> list[ModelInfo]:
        """List the models on this client; as ``termai_http.list_models``."""
        return unwrap(ask_with(lambda: self, locals(), lambda given: None, send_models))
