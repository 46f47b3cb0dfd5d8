"""OpenAI's blocking functions.

Source: https://platform.openai.com/docs/api-reference/chat and, for ``respond``,
https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._adapter import Adapter, send_as
from ._chat import open_stream, send_chat
from ._client import Client
from ._frames import hiding, unwrap
from ._queries import send_embeddings
from ._query_models import EmbeddingRequest, Embeddings
from ._target import Account
from .config import RetryConfig
from .models import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from ._stream import Stream

__all__ = ["OpenAIAdapter", "chat", "respond", "stream"]


class OpenAIAdapter(Adapter):
    """OpenAI, or a server that speaks its API, on a client.

    Args:
        client: The client to use; None means the process-wide one, looked up at each call.
        api_key: The key; None means ``OPENAI_API_KEY``.
        base_url: Where the API lives; None means ``OPENAI_BASE_URL``, or OpenAI.
        organization: Value of ``OpenAI-Organization``; None means ``OPENAI_ORG_ID``.
        project: Value of ``OpenAI-Project``; None means ``OPENAI_PROJECT_ID``.
    """

    def __init__(
        self,
        client: Client | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
    ) -> None:
        account = Account(
            provider="openai",
            api_key=api_key,
            base_url=base_url,
            organization=organization,
            project=project,
        )
        super().__init__(client, account)

    @hiding
    def respond(
        self,
        request: ChatRequest | Mapping[str, Any],
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        **options: Any,
    ) -> ChatResponse:
        """Send a request to the responses API and return its whole reply; safe from any thread.

        Args:
            request: A ``ChatRequest``, or the body of a response as a dict.
            api_key: The key; None means the adapter's, and then the environment's.
            timeout: Seconds for the whole call; None means the client's.
            retry: The retry policy of this call; None means the client's.
            **options: ``extra_headers``, ``extra_query``, ``extra_body``, ``base_url``, ``cancel``
                and ``rollout_key``, as for ``termai_http.chat``.

        Raises:
            TermaiHttpError: As ``termai_http.chat``.
        """
        given = {"api_key": api_key, "timeout": timeout, "retry": retry}
        return self._ask(request, send_chat, {**given, "api": "responses"}, options)

    @hiding
    def embed(
        self,
        texts: str | Sequence[str],
        api_key: str | None = None,
        *,
        model: str,
        dimensions: int | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        **options: Any,
    ) -> Embeddings:
        """Turn texts into vectors; safe from any thread.

        Args:
            texts: One text, or a list of texts.
            api_key: The key; None means the adapter's, and then the environment's.
            model: The model, for example ``"text-embedding-3-small"``.
            dimensions: Numbers in each vector; None means the model's own.
            timeout: Seconds for the whole call; None means the client's.
            retry: The retry policy of this call; None means the client's.
            **options: ``extra_headers``, ``extra_query``, ``extra_body``, ``base_url``, ``cancel``
                and ``rollout_key``, as for ``termai_http.embed``.

        Raises:
            TermaiHttpError: As ``termai_http.embed``.
        """
        given = {"api_key": api_key, "timeout": timeout, "retry": retry}
        asked = EmbeddingRequest(texts=texts, model=model, dimensions=dimensions)
        return self._ask(asked, send_embeddings, given, options)


@hiding
def chat(request: ChatRequest | Mapping[str, Any], api_key: str | None = None) -> ChatResponse:
    """Send a chat to OpenAI on the process-wide client and return its whole reply.

    Args:
        request: A ``ChatRequest``, or OpenAI's own body as a dict.
        api_key: The key; None means ``OPENAI_API_KEY``.

    Raises:
        TermaiHttpError: As ``termai_http.chat``.
    """
    account = Account(provider="openai")
    return unwrap(send_as(None, account, request, {"api_key": api_key}, send_chat))


@hiding
def respond(request: ChatRequest | Mapping[str, Any], api_key: str | None = None) -> ChatResponse:
    """Send a request to OpenAI's responses API on the process-wide client; returns its whole reply.

    Args:
        request: A ``ChatRequest``, or the body of a response as a dict.
        api_key: The key; None means ``OPENAI_API_KEY``.

    Raises:
        TermaiHttpError: As ``termai_http.chat``.
    """
    account = Account(provider="openai")
    given = {"api_key": api_key, "api": "responses"}
    return unwrap(send_as(None, account, request, given, send_chat))


@hiding
def stream(
    request: ChatRequest | Mapping[str, Any],
    api_key: str | None = None,
    *,
    api: str | None = None,
) -> Stream:
    """Send a chat to OpenAI on the process-wide client and return its reply as a stream.

    Args:
        request: A ``ChatRequest``, or OpenAI's own body as a dict.
        api_key: The key; None means ``OPENAI_API_KEY``.
        api: ``"responses"`` for the API of ``respond``; None means that of ``chat``.

    Raises:
        TermaiHttpError: As ``termai_http.stream``.
    """
    account = Account(provider="openai")
    given = {"api_key": api_key, "api": api}
    return unwrap(send_as(None, account, request, given, open_stream))
