"""The time that a whole batch has, and when it is no use to read more of its items."""

from __future__ import annotations

import contextvars

from ._ambient import bind, earliest, limit
from ._call import Clock
from ._in_flight import CancelToken
from .errors import CallCancelled, DeadlineExceeded, TermaiHttpError

__all__ = ["BatchTime"]

# So long an iterator is read on once nothing of it can be asked any more: it may have no end.
_LAST_LOOK = 1.0


class BatchTime:
    """Runs from the first ``next()``.

    Args:
        seconds: How many it has; None for no limit.
        clock: The client's.
        token: Ends all calls.
        context: The caller's, which gets the end of the time as a limit.

    Attributes:
        end: Monotonic instant at which all is over, and the seconds up to it; None for no limit.
    """

    def __init__(
        self,
        seconds: float | None,
        clock: Clock,
        token: CancelToken,
        context: contextvars.Context,
    ) -> None:
        self._seconds = seconds
        self._now = clock.monotonic
        self._token = token
        self._context = context
        self._over_at: float | None = None
        self.end: tuple[float, float] | None = None

    def begin(self) -> None:
        """Let it run from now on."""
        if self._seconds is not None:
            instant = self._now() + self._seconds
            self.end = instant, self._seconds
            self._context.run(_bind_also, instant)

    def left(self) -> float | None:
        """Return the seconds that the batch has left; None for no limit."""
        return None if self.end is None else self.end[0] - self._now()

    def left_of_calls(self) -> float | None:
        """Return the seconds that no call outlives, by a limit around the batch too."""
        end = self._context.run(limit)
        return None if end is None else end - self._now()

    def is_over(self) -> bool:
        """Tell whether it is no use to read on, once that is so for a while."""
        left = self.left()
        if not (self._token.cancelled or (left is not None and left <= 0)):
            return False
        now = self._now()
        if self._over_at is None:
            self._over_at = now
        return now - self._over_at > _LAST_LOOK

    def cut_short(self, read: int) -> TermaiHttpError:
        """Return the error of a batch whose items were not read to their end."""
        rest = f"{read} items were read, and the rest was not"
        if self.end is None or self._token.cancelled:
            return CallCancelled(f"The batch was cancelled: {rest}.", phase="wait")
        return DeadlineExceeded(
            f"The total_timeout of {self.end[1]:g} s passed: {rest}.", phase="wait"
        )


def _bind_also(instant: float) -> None:
    bind(earliest(instant, limit()))
