"""OpenAI's blocking functions.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._adapter import Adapter, send_as
from ._chat import open_stream, send_chat
from ._client import Client
from ._frames import hide_locals
from ._target import Account
from .models import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from ._stream import Stream

__all__ = ["OpenAIAdapter", "chat", "stream"]


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


def chat(request: ChatRequest | Mapping[str, Any], api_key: str | None = None) -> ChatResponse:
    """Send a chat to OpenAI on the process-wide client and return its whole reply.

    Args:
        request: A ``ChatRequest``, or OpenAI's own body as a dict.
        api_key: The key; None means ``OPENAI_API_KEY``.

    Raises:
        TermaiHttpError: As ``termai_http.chat``.
    """
    reply: ChatResponse | BaseException
    try:
        account = Account(provider="openai")
        reply = send_as(None, account, request, {"api_key": api_key}, send_chat)
    except BaseException as torn:
        reply = torn
    del request, api_key
    if isinstance(reply, BaseException):
        raise hide_locals(reply)
    return reply


def stream(request: ChatRequest | Mapping[str, Any], api_key: str | None = None) -> Stream:
    """Send a chat to OpenAI on the process-wide client and return its reply as a stream.

    Args:
        request: A ``ChatRequest``, or OpenAI's own body as a dict.
        api_key: The key; None means ``OPENAI_API_KEY``.

    Raises:
        TermaiHttpError: As ``termai_http.stream``.
    """
    reply: Stream | BaseException
    try:
        account = Account(provider="openai")
        reply = send_as(None, account, request, {"api_key": api_key}, open_stream)
    except BaseException as torn:
        reply = torn
    del request, api_key
    if isinstance(reply, BaseException):
        raise hide_locals(reply)
    return reply
