"""The retry budget of a host, so that an outage is not multiplied by everybody's retries."""

from __future__ import annotations

import threading

from ._call import Clock

__all__ = ["RetryBudget", "RetryBudgets"]

_CAPACITY = 500.0
_RETRY_COST = 14.0
_THROTTLED_COST = 5.0
_MOST_HOSTS = 1024


class RetryBudget:
    """Tokens that all calls to one host share: 500 at most, and at first.

    A retry takes 14, one after "slow down" 5; a success gives one back, a second another. The
    numbers are those of the AWS SDKs' standard retries. Safe from any thread.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = _CAPACITY
        self._counted = self._clock.monotonic()

    def take(self, *, throttled: bool) -> bool:
        """Pay for one retry; False where the tokens do not suffice, and nothing is taken."""
        cost = _THROTTLED_COST if throttled else _RETRY_COST
        with self._lock:
            now = self._clock.monotonic()
            gained = max(now - self._counted, 0.0)
            self._tokens = min(self._tokens + gained, _CAPACITY)
            self._counted = now
            if self._tokens < cost:
                return False
            self._tokens -= cost
            return True

    def give_back(self) -> None:
        """Return one token for a success."""
        if self._tokens >= _CAPACITY:
            return
        with self._lock:
            self._tokens = min(self._tokens + 1.0, _CAPACITY)


class RetryBudgets:
    """The budgets of one client, by scheme, host and port."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_host: dict[tuple[str, str], RetryBudget] = {}

    def of(self, scheme: str, netloc: str) -> RetryBudget:
        """Return a host's budget; many hosts' full budgets are not kept for ever."""
        key = scheme, netloc
        budget = self._by_host.get(key)
        if budget is None:
            if len(self._by_host) >= _MOST_HOSTS:
                self._by_host.clear()
            # setdefault: of two threads that race here both get the one that is kept.
            budget = self._by_host.setdefault(key, RetryBudget(self._clock))
        return budget

    def start_over(self) -> None:
        """Forget every host, in a forked child, too."""
        self._by_host = {}
