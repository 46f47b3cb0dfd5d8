"""A reply that is shown while it is written, in one output that is updated in place."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._html import reply_markdown
from .._markdown import safe_markdown

if TYPE_CHECKING:
    from .._stream import Stream
    from ..models import ChatResponse

__all__ = ["INTERVAL", "Live", "Printed", "Shown", "plain"]

INTERVAL = 0.1
# Of the time of a long reply, at most a fifth goes into showing it.
_SHARE = 5.0

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """Return text without the control characters with which it could steer a terminal."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


class Shown:
    """What a notebook keeps of a reply: as text as it came, as Markdown made safe.

    Args:
        text: The reply's text.
        markdown: The same as Markdown; None makes it.
    """

    def __init__(self, text: str, markdown: str | None = None) -> None:
        self._text = plain(text)
        self._markdown = safe_markdown(text) if markdown is None else markdown

    @classmethod
    def of(cls, reply: ChatResponse) -> Shown:
        """Return a whole reply, with a line of its figures."""
        return cls(reply.text, reply_markdown(reply))

    def __repr__(self) -> str:
        return self._text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self._text, "text/markdown": self._markdown}


class Live:
    """Shows a text that grows, at most ten times a second, and at its end whole.

    Args:
        display: IPython's ``display``.
        clock: Seconds that never go back.
    """

    def __init__(
        self, display: Callable[..., Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._display = display
        self._clock = clock
        self._handle: Any = None
        self._next = 0.0
        self._due = False

    def grew(self, text: Callable[[], str], *, by_more: bool = True) -> None:
        """Show the text, unless it was shown a moment ago.

        Args:
            text: Returns it whole.
            by_more: Whether there is more than at the last time; else what was left out is shown.
        """
        self._due = self._due or by_more
        begun = self._clock()
        if not self._due or (self._handle is not None and begun < self._next):
            return
        self._due = False
        self.show(Shown(text()))
        ended = self._clock()
        self._next = ended + max(INTERVAL, _SHARE * (ended - begun))

    def show(self, shown: Shown) -> None:
        """Show it in place of what was shown."""
        if self._handle is None:
            self._handle = self._display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def ended(self, stream: Stream) -> None:
        """Show the whole reply; of one that did not come to its end what came."""
        if stream.response is not None:
            self.show(Shown.of(stream.response))
        elif text := stream.text:
            self.show(Shown(text))


class Printed:
    """The same in a terminal, where nothing that was shown can be changed.

    Args:
        write: Writes text at once.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write = write
        self._written = 0

    def grew(self, text: Callable[[], str], *, by_more: bool = True) -> None:
        """Write what is new."""
        whole = text()
        self._write(plain(whole[self._written :]))
        self._written = len(whole)

    def ended(self, stream: Stream) -> None:
        """Write what is left, and end the line."""
        self.grew(lambda: stream.text)
        if self._written:
            self._write("\n")
