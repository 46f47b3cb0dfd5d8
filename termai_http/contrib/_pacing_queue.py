"""Those that wait for their turn in one lane, first come first served."""

from __future__ import annotations

import weakref
from collections import deque

from .._call import Call, Waker
from ._pacing_calm import Calm
from ._pacing_lane import Cost, Lane
from ._pacing_limits import OwnLimits, Payment

__all__ = ["Queue", "Waiter"]

# What is not worth a wake.
_SLACK = 0.001
# Who is past its deadline by so much, and still here, was torn away.
_GONE = 1.0


class Waiter:
    """One attempt that waits.

    Attributes:
        cost: What it takes.
        payment: What it has to pay of the user's own limits.
        tokens: The tokens that it had to pay at first.
        end: Its call's deadline.
        waker: Ends its nap.
        wakes_at: Instant at which its nap ends by itself.
    """

    __slots__ = ("call", "cost", "end", "payment", "tokens", "waker", "wakes_at")

    def __init__(self, call: Call, cost: Cost, payment: Payment) -> None:
        # Weakly, so that one which an interrupt tore away holds up nobody.
        self.call: weakref.ref[Call] = weakref.ref(call)
        self.cost = cost
        self.payment = payment
        self.tokens = payment.tokens
        self.end = call.end
        self.waker = Waker()
        self.wakes_at = float("inf")


class Queue:
    """A lane, and who waits in it. Safe under its layer's lock only.

    Attributes:
        lane: What is known of the limits.
        host: Whom it is for.
        account: Digest of the key.
        model: The model.
        own: The user's own limits, None for none.
        calm: Those of its attempts that need no lock.
        held: Attempts that were held back.
        held_seconds: How long, together.
    """

    __slots__ = (
        *("_sums", "_told_until", "_waiting", "account", "calm", "held", "held_seconds", "host"),
        *("lane", "model", "own"),
    )

    def __init__(
        self, lane: Lane, host: str, account: str, model: str | None, own: OwnLimits | None
    ) -> None:
        self.lane = lane
        self.host = host
        self.account = account
        self.model = model
        self.own = own
        self.calm = Calm()
        self.held = 0
        self.held_seconds = 0.0
        self._waiting: deque[Waiter] = deque()
        self._sums = [0.0] * 5
        self._told_until = float("-inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def settle(self, now: float, wall: float) -> None:
        """Let time pass, and take in what was done without a lock."""
        self.lane.tick(now, busy=bool(self._waiting))
        self.calm.settle(self.lane, now, wall)

    def allow(self, now: float) -> None:
        """Let what can do no harm be done without a lock, where nobody waits."""
        if self._waiting or self.own is not None:
            self.calm.stop()
        else:
            self.calm.allow(self.lane, now)

    def ahead(self) -> tuple[int, Cost, float]:
        """Return how many wait, what they take, and the tokens that they had to pay at first."""
        requests, tokens, read, written, paid = self._sums
        return len(self._waiting), (requests, tokens, read, written), paid

    def join(self, waiter: Waiter) -> None:
        """Wait behind the others."""
        self._waiting.append(waiter)
        self._add(waiter, 1.0)

    def _add(self, waiter: Waiter, sign: float) -> None:
        for at, amount in enumerate((*waiter.cost, waiter.tokens)):
            self._sums[at] += sign * amount

    def leave(self, waiter: Waiter, now: float) -> None:
        """Wait no more, and let the next one look whether it is its turn."""
        first = self.first(now) is waiter
        # One that was thought to be torn away is not there any more.
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            self._add(waiter, -1.0)
        self.lane.tick(now, busy=bool(self._waiting))
        if first:
            self._wake(self.first(now))

    def first(self, now: float) -> Waiter | None:
        """Return whose turn it is."""
        while self._waiting:
            waiter = self._waiting[0]
            if waiter.call() is not None and now < waiter.end + _GONE:
                return waiter
            self._add(self._waiting.popleft(), -1.0)
        return None

    def changed(self, now: float) -> None:
        """Wake those for whom what an answer told changed something."""
        first = self.first(now)
        if first is None:
            return
        due = now + self.lane.hold(now, first.cost).seconds
        if first.wakes_at <= now or due + _SLACK < first.wakes_at:
            self._wake(first)
        until = self.lane.paused_until
        if until > self._told_until:
            self._told_until = until
            for waiter in self._waiting:
                if waiter.end <= until:
                    self._wake(waiter)

    def _wake(self, waiter: Waiter | None) -> None:
        if waiter is not None:
            waiter.waker.set()
