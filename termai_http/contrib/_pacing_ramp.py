"""How fast to send where refusals are all that is known of the limit; pure."""

from __future__ import annotations

__all__ = ["GRACE", "Ramp"]

# Refusals come at once; what was not refused within so many seconds was let in.
GRACE = 1.0
_FIRST_WINDOW = 8.0
_CAREFUL = 32.0
_WIDE = 256.0
_BELOW = 0.9
_GROWTH = 0.0002
_SHRINK = 0.7
_MOST_IDLE = 0.5
_LEAST_COUNTED = 8
_LEAST_RATE = 1 / 60
# Refusals that tell no rate, as those of an outage, slow down to this part of what was measured.
# Below half of that, each that is let in makes up for them, once they are over for some seconds.
_LEAST_SHARE = 1 / 16
_MAKING_UP = 1.5
_OVER = 5.0
# Where the rate has grown so much meanwhile, our own pace was slower than the limit.
_GROWN = 2.0
# The longer nothing is refused, the faster the rate grows.
_CALM = 60.0
_MOST_GROWTH = 1.05
_NO_LIMIT = 1000.0


class Ramp:
    """A slow start, and a rate measured up to refusals. Not safe from threads by itself.

    The slow start bounds how many may be under way that were not let in yet. Each that is let in
    allows one more; beyond 32, and after a refusal, each round of them does.

    The rate is what was let in from the end of one pause to the end of the next, by the time it
    took: that holds for what refills all the time, and for what is there again at the end of a
    window. It is not taken where nobody was held back for most of that time.

    Attributes:
        window: How many may be under way; None for any number.
        rate: Starts a second; None where not measured.
        refused_at: Instant of the last refusal that was news, None before the first.
    """

    __slots__ = (
        "_counted",
        "_idle",
        "_measured",
        "_since",
        "_slowest",
        "rate",
        "refused_at",
        "window",
    )

    def __init__(self) -> None:
        self.window: float | None = _FIRST_WINDOW
        self.rate: float | None = None
        self.refused_at: float | None = None
        self._since: float | None = None
        self._measured = 0.0
        self._slowest = 0.0
        self._counted = 0
        self._idle = 0.0

    def idle(self, seconds: float) -> None:
        """Hear that nobody was held back for so long."""
        self._idle += seconds

    def began(self, now: float) -> None:
        """Hear that an attempt begins."""
        if self._since is None:
            self._since, self._idle = now, 0.0

    def let_in(self, now: float) -> None:
        """Hear that an attempt was let in."""
        self._counted += 1
        if self.window is not None:
            quick = self.refused_at is None and self.window < _CAREFUL
            self.window += 1 if quick else 1 / self.window
            if self.window >= _WIDE:
                self.window = None
        if self.rate is not None and self.refused_at is not None:
            since = max(now - self.refused_at, 0.0)
            if since >= _OVER and self.rate < self._measured / 2:
                self.rate *= _MAKING_UP
            else:
                calm = since / _CALM
                self.rate *= min(1 + _GROWTH * (1 + calm * calm), _MOST_GROWTH)
            if self.rate >= _NO_LIMIT:
                self.rate = None

    def slow(self) -> None:
        """Begin slowly again, after a refusal that tells nothing of a limit of requests."""
        if self.rate is None:
            self.window = 1.0

    def refused(self, now: float, began: float, pause: float) -> bool:
        """Hear that an attempt was refused; False where its herd's refusal is known already.

        Args:
            now: Instant of the refusal.
            began: Instant at which the attempt began.
            pause: Seconds that everybody pauses for it.
        """
        last = self.refused_at
        if last is not None and began <= last:
            return False
        self.refused_at = now
        measured = self._measure(now + pause)
        if measured is not None:
            # The first time something that was saved up may have been used.
            self.window = 1.0 if last is None else None
            if self.rate is not None:
                if self.rate > self._slowest * _GROWN:
                    # What was measured is our own pace, and not the limit.
                    measured = max(measured, self.rate * _SHRINK)
                measured = min(measured, self.rate * _BELOW)
            self.rate = self._measured = self._slowest = measured
            self._since, self._counted, self._idle = now + pause, 0, 0.0
        elif self.rate is not None:
            least = max(self._measured * _LEAST_SHARE, _LEAST_RATE)
            self.rate = max(self.rate * _SHRINK, least)
            self._slowest = min(self._slowest, self.rate)
        self.slow()
        return True

    def _measure(self, until: float) -> float | None:
        """Return what was let in a second until the end of a pause; None for not known."""
        if self._since is None or self._counted < _LEAST_COUNTED or until <= self._since:
            return None
        busy = until - self._since - self._idle
        if busy < (until - self._since) * _MOST_IDLE:
            self._since, self._counted, self._idle = until, 0, 0.0
            self._slowest = self.rate or 0.0
            return None
        return max(self._counted / busy * _BELOW, _LEAST_RATE)
