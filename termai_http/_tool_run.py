"""What comes of ``run_tools``, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ._importing import importing
from .models import PAUSED, ChatResponse, ToolCall, Usage

__all__ = ["CalledTool", "ToolRun"]


@attrs.frozen(kw_only=True)
class CalledTool:
    """A function that was called because the model asked for it.

    Attributes:
        call: What the model asked for.
        result: What the function returned; None where it raised.
        error: What the model was told in place of a result: ``"ValueError: message"``, or that the
            result cannot be told; None where it was told the result.
        traceback: The traceback of the function's exception as text, for the log; the model never
            sees it. None where the function raised nothing.
        seconds: How long it took.
    """

    call: ToolCall
    result: Any = attrs.field(default=None, repr=False)
    error: str | None = attrs.field(default=None, repr=False)
    traceback: str | None = attrs.field(default=None, repr=False)
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class ToolRun:
    """What came of ``run_tools()``.

    Attributes:
        reply: The last reply.
        messages: The whole exchange, from the prompt to the last reply, ready to go on from:
            ``[*run.messages, {"role": "user", "content": "..."}]`` is the next call's prompt.
        replies: Every reply, in order.
        calls: Every function that was called, in order.
        pending: What the last reply asks for and nobody answered: tools that were given without
            a function, or, where ``max_rounds`` ended the run, all of its calls. Answer them with
            ``{"role": "tool", "tool_call_id": ..., "content": ...}`` before you go on.
    """

    reply: ChatResponse
    messages: tuple[Mapping[str, Any], ...] = attrs.field(repr=False)
    replies: tuple[ChatResponse, ...] = attrs.field(repr=False)
    calls: tuple[CalledTool, ...] = ()
    pending: tuple[ToolCall, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the model came to its end: it asks for no tool any more."""
        return not self.pending and self.reply.finish_reason != PAUSED

    @property
    def text(self) -> str:
        """The text of the last reply."""
        return self.reply.text

    @property
    def parsed(self) -> Any:
        """The last reply as what ``output=`` asked for; None where nothing was."""
        return self.reply.parsed

    @property
    def cost(self) -> float | None:
        """US dollars of all replies together; None where that of any is not known."""
        costs = [reply.cost for reply in self.replies]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    @property
    def usage(self) -> Usage:
        """The tokens of all replies together."""
        names = [field.name for field in attrs.fields(Usage)]
        return Usage(
            **{name: sum(getattr(reply.usage, name) for reply in self.replies) for name in names}
        )

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        with importing():
            from ._html import run_markdown
        return run_markdown(self)
