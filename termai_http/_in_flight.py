"""The calls that run, of a client or of a ``CancelToken``, and how all of them are ended."""

from __future__ import annotations

import weakref
from types import TracebackType

from ._call import Call, Clock, Waker
from .errors import CallCancelled, TermaiHttpError

__all__ = ["CallsInFlight", "CancelToken"]

_LONGEST_NAP = 1.0


class CallsInFlight:
    """The calls that run, by number. Without a lock: each step is one step of a dict.

    It holds them weakly, so that a call which an interrupt tore away before it could leave does
    not count for ever.
    """

    def __init__(self) -> None:
        self._calls: dict[int, weakref.ref[Call]] = {}
        self._drained: Waker | None = None

    def join(self, call: Call) -> None:
        """Take a call in."""
        self._calls[call.number] = weakref.ref(call)

    def leave(self, call: Call) -> bool:
        """Forget a call that ended; False where it was forgotten already."""
        left = self._calls.pop(call.number, None) is not None
        drained = self._drained
        if drained is not None and not len(self):
            drained.set()
        return left

    def __contains__(self, call: Call) -> bool:
        return call.number in self._calls

    def all(self) -> list[Call]:
        """Return those that run."""
        calls = []
        for number, ref in list(self._calls.items()):
            call = ref()
            if call is None:
                self._calls.pop(number, None)
            else:
                calls.append(call)
        return calls

    def __len__(self) -> int:
        return len(self.all())

    def by_pooling(self) -> tuple[int, int]:
        """Return how many of those that run use the shared pool, and how many do not."""
        running = self.all()
        pooled = sum(call.pooled for call in running)
        return pooled, len(running) - pooled

    def interrupt(self, reason: type[TermaiHttpError]) -> None:
        """End every one that runs."""
        running = self.all()
        # All of them first: the slot of one that ends goes to one that waits for it, which must
        # not send any more.
        for call in running:
            call.forbid(reason)
        for call in running:
            call.interrupt(reason)

    def drain(self, seconds: float, clock: Clock) -> bool:
        """Wait until none runs, at most so long; True where none does."""
        end = clock.monotonic() + seconds
        while True:
            self._drained = drained = Waker()
            left = end - clock.monotonic()
            # What is past its deadline is only held by somebody who does not read it.
            running = any(call.left() > 0 for call in self.all())
            if not running or left <= 0:
                return not running
            # A nap at a time: one that an interrupt tore away does not say that it left.
            clock.wait(drained, min(left, _LONGEST_NAP))


class CancelToken:
    """Ends calls from another thread.

    Give one to any number of calls as ``cancel=``; ``cancel()`` ends all that run, each with
    ``CallCancelled``, and every later one before it begins. As a context manager it cancels, on
    leaving, what still runs. Every method is safe from any thread.
    """

    def __init__(self) -> None:
        self._calls = CallsInFlight()
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel()`` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """End every call given this token; further calls of this method change nothing.

        Takes no lock, so that a signal handler may call it.
        """
        self._cancelled = True
        self._calls.interrupt(CallCancelled)

    def join(self, call: Call) -> None:
        """Take a call in; one that comes after ``cancel()`` is interrupted at once."""
        self._calls.join(call)
        if self._cancelled:
            call.interrupt(CallCancelled)

    def leave(self, call: Call) -> None:
        """Forget a call that ended."""
        self._calls.leave(call)

    def __enter__(self) -> CancelToken:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
