"""Claude's blocking functions.

Source: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._adapter import Adapter, send_as
from ._chat import open_stream, send_chat
from ._client import Client
from ._frames import hiding, unwrap
from ._target import Account
from .dialects.claude_messages import DEFAULT_VERSION
from .models import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from ._stream import Stream

__all__ = ["ClaudeAdapter", "chat", "stream"]


class ClaudeAdapter(Adapter):
    """Claude, or a server that speaks its API, on a client.

    Args:
        client: The client to use; None means the process-wide one, looked up at each call.
        api_key: The key; None means ``ANTHROPIC_API_KEY``, then
            ``ANTHROPIC_AUTH_TOKEN``.
        base_url: Where the API lives; None means ``ANTHROPIC_BASE_URL``, or Claude.
        api_version: Value of ``anthropic-version``. With ``"2026-10-21"`` temperature, top_p and
            top_k are refused, at default values too.
    """

    def __init__(
        self,
        client: Client | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        api_version: str = DEFAULT_VERSION,
    ) -> None:
        account = Account(
            provider="claude",
            api_key=api_key,
            base_url=base_url,
            api_version=api_version,
        )
        super().__init__(client, account)


@hiding
def chat(
    request: ChatRequest | Mapping[str, Any],
    api_key: str | None = None,
    *,
    api_version: str | None = None,
) -> ChatResponse:
    """Send a chat to Claude on the process-wide client and return its whole reply.

    Args:
        request: A ``ChatRequest``, or Claude's own body as a dict.
        api_key: The key; None means ``ANTHROPIC_API_KEY``, then
            ``ANTHROPIC_AUTH_TOKEN``.
        api_version: Value of ``anthropic-version``; None means ``"2023-06-01"``.

    Raises:
        TermaiHttpError: As ``termai_http.chat``.
    """
    account = Account(provider="claude")
    given = {"api_key": api_key, "api_version": api_version}
    return unwrap(send_as(None, account, request, given, send_chat))


@hiding
def stream(
    request: ChatRequest | Mapping[str, Any],
    api_key: str | None = None,
    *,
    api_version: str | None = None,
) -> Stream:
    """Send a chat to Claude on the process-wide client and return its reply as a stream.

    Args:
        request: A ``ChatRequest``, or Claude's own body as a dict.
        api_key: The key; None means ``ANTHROPIC_API_KEY``, then
            ``ANTHROPIC_AUTH_TOKEN``.
        api_version: Value of ``anthropic-version``; None means ``"2023-06-01"``.

    Raises:
        TermaiHttpError: As ``termai_http.stream``.
    """
    account = Account(provider="claude")
    given = {"api_key": api_key, "api_version": api_version}
    return unwrap(send_as(None, account, request, given, open_stream))
