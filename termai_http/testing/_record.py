"""What the loopback server remembers of each request and connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from ._reading import prompt_of, results_of, tools_of

__all__ = ["RecordedConnection", "RecordedRequest"]

_CLAUDE_PATHS = ("/messages", "/messages/count_tokens")


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
        return prompt_of(self.json)

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        body = self.json
        return isinstance(body, dict) and body.get("stream") is True

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the functions that the model may call."""
        body = self.json
        return tuple(tools_of(body)) if isinstance(body, dict) else ()

    @property
    def tool_results(self) -> tuple[str, ...]:
        """The texts of the tools' results, where the last turn holds some."""
        return tuple(results_of(self.json))

    @property
    def dialect(self) -> str:
        """``"claude"`` or ``"openai"``, told by path and headers."""
        claude = self.path.endswith(_CLAUDE_PATHS) or "anthropic-version" in self.headers
        return "claude" if claude else "openai"


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
