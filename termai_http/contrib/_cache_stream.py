"""Streams: recorded as they are read, and read again from the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import errors
from ._cache_entry import Entry, KeptAnswer

if TYPE_CHECKING:
    from .._call import Call
    from .._open_body import OpenBody

__all__ = ["KeptBody", "Recording", "Tape", "ended"]

_PIECE = 65536


def ended(call: Call, where: str, phase: str) -> errors.TermaiHttpError | None:
    """Return the error of a call that was interrupted or is past its deadline; None of others."""
    if call.interrupted is not None:
        return call.interrupted(f"The call was ended {where}.", phase=phase)
    if call.left() > 0:
        return None
    seconds = call.end - call.started
    return errors.DeadlineExceeded(f"The deadline of {seconds:g} s passed {where}.", phase=phase)


class Tape:
    """What was read of a stream. It knows nothing of call and connection, and so keeps neither.

    Args:
        most: Bytes above which it is given up.
    """

    __slots__ = ("_left", "_parts")

    def __init__(self, most: int) -> None:
        self._parts: list[bytes] | None = []
        self._left = most

    def add(self, piece: bytes) -> None:
        """Take what was read."""
        self._left -= len(piece)
        if self._left < 0:
            self._parts = None
        if self._parts is not None:
            self._parts.append(piece)

    def whole(self) -> bytes | None:
        """Return all of it; None where it was too much."""
        return None if self._parts is None else b"".join(self._parts)


class Recording:
    """An ``OpenBody`` whose pieces are recorded as they are read."""

    def __init__(self, body: OpenBody, tape: Tape) -> None:
        self._body = body
        self._tape = tape
        self.response = body.response
        self.wait_until = body.wait_until
        self.close_unless_reading = body.close_unless_reading
        self.ended_early = body.ended_early
        self.rest = body.rest
        self.drain = body.drain
        self.close = body.close

    @property
    def reading(self) -> bool:
        """Whether a thread is just reading it."""
        return self._body.reading

    def read(self) -> bytes | errors.TermaiHttpError:
        """Return what comes next, ``b""`` at the end, or the error in its place."""
        piece = self._body.read()
        if isinstance(piece, bytes):
            self._tape.add(piece)
        return piece


class KeptBody:
    """The body of a kept reply, read piece by piece as an ``OpenBody``. For one thread at a time.

    Args:
        entry: The reply.
        call: The call that it answers, whose deadline and interrupts hold.

    Attributes:
        response: The answer, without its body.
        reading: Whether a thread is just reading it.
    """

    reading = False

    def __init__(self, entry: Entry, call: Call) -> None:
        self.response = KeptAnswer(entry)
        self.response.content = b""
        self._body = memoryview(entry.body)
        self._call = call

    def read(self) -> bytes | errors.TermaiHttpError:
        """Return what comes next, ``b""`` at the end, or the error in its place."""
        if (early := self.ended_early()) is not None:
            self.close()
            return early
        piece, self._body = self._body[:_PIECE], self._body[_PIECE:]
        return bytes(piece)

    def wait_until(self, instant: float) -> bool:
        """Tell whether there is something to read before an instant: always."""
        return True

    def ended_early(self) -> errors.TermaiHttpError | None:
        """Return the error where deadline or interrupt ended the call, whatever came before."""
        return ended(self._call, "while its reply was read from the cache", "body")

    def rest(self) -> bytes:
        """Return what is left of it."""
        piece = self.read()
        return b"" if isinstance(piece, errors.TermaiHttpError) else piece

    def close_unless_reading(self) -> None:
        """Let go of it."""
        self.close()

    def drain(self) -> None:
        """Let go of it."""
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self._body = memoryview(b"")
