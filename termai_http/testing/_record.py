"""What the loopback server remembers of each request and connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["RecordedConnection", "RecordedRequest"]


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """One request as it came.

    Attributes:
        method: HTTP method.
        path: Path without the query.
        query: Query without the question mark; ``""`` for none.
        headers: Headers, names in lower case.
        body: The body's bytes.
        connection: Number of the connection that carried it.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=False)
    connection: int = 0

    @property
    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def model(self) -> str | None:
        """The model asked for; None where there is none."""
        body = self.json
        model = body.get("model") if isinstance(body, dict) else None
        return model if isinstance(model, str) else None

    @property
    def prompt(self) -> str:
        """The text of the last user turn; ``""`` where there is none."""
        body = self.json
        messages = body.get("messages") if isinstance(body, dict) else None
        for message in reversed(messages if isinstance(messages, list) else []):
            if isinstance(message, dict) and message.get("role") == "user":
                return _text(message.get("content"))
        return ""

    @property
    def dialect(self) -> str:
        """``"claude"`` or ``"openai"``, told by path and headers."""
        claude = self.path.endswith("/messages") or "anthropic-version" in self.headers
        return "claude" if claude else "openai"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


@attrs.frozen(kw_only=True)
class RecordedConnection:
    """One connection.

    Attributes:
        id: Its number, from 1.
        requests: Requests it carried so far.
        open: Whether the server still holds it.
    """

    id: int
    requests: int
    open: bool
