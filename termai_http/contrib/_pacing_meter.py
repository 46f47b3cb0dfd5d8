"""What is left of one limit, from what answers said of it and what was sent since; pure."""

from __future__ import annotations

import math

from ._pacing_headers import Reading

__all__ = ["Meter"]

# A server whose wait is nearly its reset gives all back at once, at the end of a window.
_WHOLE_WINDOW = 0.8
_UNKNOWN_REFILL = 1.0
_SHORTEST = 1e-6
# What is left of a day's limit is not spread over the day.
_EVENLY = 60.0
# Spans are rounded to seconds by some; one shorter tells no rate, where little was used.
_TELLING_SPAN = 1.0
_TELLING_SHARE = 0.05


class Meter:
    """What is left of one limit. Not safe from threads by itself.

    An answer's ``remaining`` is old when it comes: others were sent since, and some of those before
    may not have been counted yet. So it only bounds the estimate, from above and from below.

    Two kinds of servers: most refill all the time, at a rate (used / reset tells it), others give
    all back at the end of a window. The first is supposed until a refusal tells the other.

    Attributes:
        limit: The most there can be.
        credit: What is left, by our estimate; below 0 where more was sent than there was.
        at: Instant of ``credit``.
        rate: What comes back in a second; None where unknown, and for a window.
        reset_at: Instant at which all is there again.
        windowed: Whether all comes back at once.
        span: Seconds of a window, as far as is known.
        rolled_at: Instant at which a window was seen to begin.
        serial: Number of the attempt whose answer was read last.
        told: What that answer said was left.
    """

    __slots__ = (
        *("at", "credit", "limit", "rate", "reset_at", "rolled_at", "serial", "span", "told"),
        "windowed",
    )

    def __init__(self) -> None:
        self.limit = 0
        self.credit = 0.0
        self.at = -math.inf
        self.rate: float | None = None
        self.reset_at = -math.inf
        self.rolled_at = -math.inf
        self.windowed = False
        self.span = 0.0
        self.serial = -1
        self.told = 0

    def advance(self, now: float) -> None:
        """Let what came back until ``now`` come back."""
        if now <= self.at:
            return
        if self.windowed:
            if self.at < self.reset_at <= now:
                self.credit, self.rolled_at = float(self.limit), now
        elif self.rate is not None:
            self.credit = min(self.credit + self.rate * (now - self.at), float(self.limit))
        elif self.reset_at <= now:
            self.credit = max(self.credit, 1.0)
        self.at = now

    def spend(self, now: float, cost: float) -> None:
        """Take what one attempt costs."""
        self.advance(now)
        self.credit -= cost

    def wait(self, now: float, need: float) -> float:
        """Return the seconds until so much is left, which may be more than there is at once."""
        self.advance(now)
        lacking = need - self.credit
        if lacking <= 1e-9:
            return 0.0
        if self.windowed:
            windows = max(math.ceil(lacking / self.limit) - 1, 0)
            if self.reset_at > now:
                return self.reset_at - now + windows * self.span
            # The window is over, and what was sent since used up the next one.
            return max(self.span, _UNKNOWN_REFILL) * (windows + 1)
        if self.rate is None:
            return max(self.reset_at - now, _UNKNOWN_REFILL)
        return lacking / self.rate

    def pace(self, now: float) -> float | None:
        """Return the starts a second that use up, evenly, what is left; None where unknown."""
        self.advance(now)
        left = max(self.credit, 1.0)
        if not self.windowed:
            return None if self.rate is None else self.rate + left / _EVENLY
        if self.span <= 0:
            return None
        seconds = self.reset_at - now if self.reset_at > now else self.span
        most = 2 * self.limit / min(self.span, _EVENLY)
        return min(left / max(min(seconds, _EVENLY), 1e-3), most)

    def read(
        self, reading: Reading, now: float, *, began: float, serial: int, after: float, young: float
    ) -> None:
        """Take in what an answer said.

        Args:
            reading: What it said.
            now: Instant at which it came.
            began: Instant at which its attempt began.
            serial: That attempt's number; what an older one says is old, and is left.
            after: What those cost that began later.
            young: What those cost that the server may not have counted yet.
        """
        if serial <= self.serial:
            return
        known = self.serial >= 0 and reading.limit == self.limit
        if not known:
            self.rate, self.windowed, self.span = None, False, 0.0
        self.advance(now)
        self._learn(reading, now, young, known=known)
        self.limit, self.serial, self.told = reading.limit, serial, reading.remaining
        self.reset_at, self.at = now + reading.reset, now
        highest = reading.remaining - after
        if self.rate is not None and not self.windowed:
            highest += self.rate * max(now - began, 0.0)
        lowest = reading.remaining - max(after, young)
        credit = max(self.credit, lowest) if known else lowest
        self.credit = min(credit, highest, float(self.limit))

    def _learn(self, reading: Reading, now: float, young: float, *, known: bool) -> None:
        if self.windowed and known:
            self.span = max(self.span, reading.reset)
            early = now < self.reset_at - max(_TELLING_SPAN, self.span * 0.1)
            if early and reading.remaining > self.told + young + self.limit * _TELLING_SHARE:
                # More is left than before, long before the end: it refills after all.
                self.windowed = False
        used = reading.limit - reading.remaining
        if self.windowed or used <= 0 or reading.reset <= 0:
            return
        telling = reading.reset >= _TELLING_SPAN or used >= reading.limit * _TELLING_SHARE
        if self.rate is None or telling:
            self.rate = used / max(reading.reset, _SHORTEST)

    def refused(self, reading: Reading, wish: float | None, now: float) -> None:
        """Tell from a refusal for want of this, and the wait asked for, how it comes back.

        Args:
            reading: What the refusal said of it.
            wish: Seconds that the server asked to wait; None where it did not.
            now: Instant at which it came.
        """
        if wish is None or reading.reset <= 0:
            return
        windowed = wish >= reading.reset * _WHOLE_WINDOW
        if windowed and not self.windowed:
            self.windowed, self.rate = True, None
            self.span, self.credit = reading.reset, min(self.credit, 0.0)
            self.reset_at = max(self.reset_at, now + reading.reset)
        elif not windowed:
            self.windowed = False
