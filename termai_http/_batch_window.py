"""What a batch asks of whoever carries out its items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import attrs

from .errors import TermaiHttpError
from .models import ChatRequest, ChatResponse

__all__ = ["BatchItem", "Runner", "Value"]

Value: TypeAlias = "ChatResponse | TermaiHttpError"
"""What became of an item."""


@attrs.define(eq=False, repr=False)
class BatchItem:
    """One item of a batch.

    Attributes:
        number: Which one it is, from 0.
        request: What is asked.
        id: The caller's own name for it; None for none.
        digest: Names what is asked, for a results file; 0 without one.
    """

    number: int
    request: ChatRequest
    id: str | int | None = None
    digest: int = 0


class Runner(Protocol):
    """Carries out items. Used by one thread at a time, but for ``cancel``."""

    def submit(self, item: Any) -> None:
        """Take an item; returns at once.

        What it raises is about no item, and ends the batch.
        """

    def next_done(self, timeout: float | None) -> tuple[int, Any] | None:
        """Return a number and what became of it, of what is done and was not returned yet.

        An exception that is no ``TermaiHttpError`` in its place ends the batch, too. None where
        ``timeout`` passed, or less: whoever waits asks again. What it raises ends the batch.
        """

    def done(self) -> Iterator[tuple[int, Any]]:
        """Yield what is done and was not returned, or was the last to be.

        An interrupt may have torn ``next_done`` at any instant.
        """

    def cancel(self) -> None:
        """End what runs, and begin nothing that waits; any thread may do it, and none waits."""

    def close(self) -> None:
        """Cancel what is left and let go of all; further calls change nothing."""
