"""A body that is read piece by piece: its connection is out until it is read, closed or dropped."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ._body import WHOLE, pieces, wait_for_piece
from ._call import Attempt, active
from ._mapping import FOREIGN, map_exception
from .errors import TermaiHttpError

if TYPE_CHECKING:
    import requests

    from ._direct import DirectAnswer
    from ._lease import Lease, LeaseHolder

__all__ = ["OpenBody", "tell_if_closed"]

_DRAIN_SECONDS = 0.1
_DRAIN_BYTES = 65536


class OpenBody:
    """The body of a success, not yet read. For one thread at a time.

    Args:
        response: The answer.
        attempt: The attempt that brought it, whose deadline goes on.
        holder: Holds the lease that its connection is out on; dropping the body drops it.
        host: Whom it comes from, for messages.
        limit: Most bytes of it, decoded.

    Attributes:
        response: The answer.
        reading: Whether a thread is just reading it.
    """

    def __init__(
        self,
        response: requests.Response | DirectAnswer,
        attempt: Attempt,
        holder: LeaseHolder,
        host: str,
        limit: int,
    ) -> None:
        self.response = response
        self._attempt = attempt
        self._holder = holder
        self._host = host
        self.reading = False
        self._more = False
        # Taken by the one thread that tells: its reader and who closes it may come at once.
        self._untold = [True]
        holder.lease.reader = weakref.ref(self)
        # A hook may have read it, or a test made it by hand.
        whole = getattr(response, "_content", None)
        self._pieces = iter([whole]) if isinstance(whole, bytes) else pieces(response, limit)

    def read(self) -> bytes | TermaiHttpError:
        """Return what comes next, ``b""`` at the end, or the error in its place."""
        outer = active.bind(self._holder.lease)
        # First this, and then the look whether the call was ended: who ends it does both in the
        # other order, so at most one of the two closes, and never under the other's hands.
        self.reading = True
        try:
            if self._attempt.call.interrupted is not None:
                raise ConnectionAbortedError("the call was interrupted")
            piece = next(self._pieces, b"")
            self._more = len(piece) >= WHOLE
            if piece or self._attempt.call.interrupted is None:
                return piece
            # A socket that another thread shut down ends as one that its server closed.
            failure = map_exception(ConnectionAbortedError(), self._attempt, self._host)
        except TermaiHttpError as error:
            failure = error.with_traceback(None)
        except (*FOREIGN, ValueError) as error:
            failure = map_exception(error, self._attempt, self._host)
        except BaseException:
            self.close()
            raise
        finally:
            self.reading = False
            active.restore(outer)
        self.close()
        return failure

    def wait_until(self, instant: float) -> bool:
        """Wait until there is something to read, or an instant is there; tell whether it came.

        The end of the body is something, an error is, and an interrupt; so is what cannot be told.
        """
        call = self._attempt.call
        left = instant - call.clock.monotonic()
        if left <= 0:
            return False
        if self._more:
            return True
        self.reading = True
        try:
            came = call.interrupted is not None or wait_for_piece(self.response, left)
        except (OSError, ValueError):
            came = True
        finally:
            self.reading = False
        return came or call.interrupted is not None

    def close_unless_reading(self) -> None:
        """Close it, from any thread, unless it is just being read: then its reader has to."""
        if not self.reading:
            self.close()

    def ended_early(self) -> TermaiHttpError | None:
        """Return the error where deadline or interrupt ended the call, whatever came before."""
        attempt = self._attempt
        call = attempt.call
        # Asked for each piece of a stream, and nearly always with this answer.
        if call.interrupted is None and call.clock.monotonic() < attempt.until:
            return None
        try:
            attempt.budget()
        except OSError as error:
            return map_exception(error, attempt, self._host)
        return None

    def rest(self) -> bytes:
        """Return what is left of it, as far as it comes soon and is not much."""
        self._attempt.narrow(_DRAIN_SECONDS)
        rest = bytearray()
        while len(rest) < _DRAIN_BYTES:
            piece = self.read()
            if not piece or isinstance(piece, TermaiHttpError):
                break
            rest += piece
        return bytes(rest)

    def drain(self) -> None:
        """Read the few bytes after the last event, so that the connection can be used again."""
        if self._holder.lease.held:
            self.rest()
        self.close()

    def close(self) -> None:
        """Close the connection, unless the body was read to its end and it was given back."""
        self._holder.lease.abandon()
        # Where the body ends with its connection, the socket is closed once both are.
        close = getattr(getattr(self.response, "raw", self.response), "close", None)
        if close is not None:
            close()
        call = self._attempt.call
        call.let_go()
        if call.tell is not None:
            try:
                self._untold.pop()
            except IndexError:
                return
            tell_if_closed(self._holder.lease, self._attempt)


def tell_if_closed(lease: Lease, attempt: Attempt) -> None:
    """Tell those who listen that the connection of an ended lease is closed, where it is."""
    tell = attempt.call.tell
    if tell is not None and lease.connected and not lease.kept:
        tell(attempt.closed_event())
