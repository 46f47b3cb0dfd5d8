"""Replies on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._common import printable, say

if TYPE_CHECKING:
    from .._stream import Stream
    from ..models import ChatResponse

__all__ = ["as_object", "show_reply", "show_stream", "tell_ending"]


def show_reply(reply: ChatResponse) -> None:
    """Print a reply that came in one piece."""
    _write(reply.text + "\n")
    tell_ending(reply)


def show_stream(pieces: Stream) -> None:
    """Print a stream as it comes; left in any way, its connection is given back."""
    with pieces:
        try:
            for piece in pieces:
                _write(piece)
        finally:
            # What comes next, an error above all, begins on a line of its own.
            _write("\n")
    assert pieces.response is not None
    tell_ending(pieces.response)


def _write(text: str) -> None:
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def tell_ending(reply: ChatResponse) -> None:
    """Say who failed before it was answered, and that a reply ended at its limit, where so."""
    for failed in reply.fallbacks:
        say(printable(f"{failed}; then {reply.model} answered"))
    if reply.cut_off:
        say(
            f"the answer was cut off at its token limit ({reply.finish_reason}); "
            "--max-tokens sets another"
        )


def as_object(reply: ChatResponse) -> dict[str, Any]:
    """Return what ``--json`` prints of a reply."""
    import attrs

    return {
        "text": reply.text,
        "model": reply.model,
        "finish_reason": reply.finish_reason,
        "usage": attrs.asdict(reply.usage),
        "id": reply.id,
        "request_id": reply.request_id,
        "attempts": reply.attempts,
        "elapsed": round(reply.elapsed, 3),
        "fallbacks": [
            {**attrs.asdict(failed), "elapsed": round(failed.elapsed, 3)}
            for failed in reply.fallbacks
        ],
    }
