"""Replies on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._common import printable, say

if TYPE_CHECKING:
    from .._stream import Stream
    from ..models import ChatResponse

__all__ = ["show_reply", "show_stream", "tell_cut_off"]


def show_reply(reply: ChatResponse) -> None:
    """Print a reply that came in one piece."""
    _write(reply.text + "\n")
    tell_cut_off(reply)


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
    tell_cut_off(pieces.response)


def _write(text: str) -> None:
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def tell_cut_off(reply: ChatResponse) -> None:
    """Say that a reply ended at its limit, where it did."""
    if reply.cut_off:
        say(
            f"the answer was cut off at its token limit ({reply.finish_reason}); "
            "--max-tokens sets another"
        )
