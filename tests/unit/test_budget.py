"""The retry budget: arithmetic, sharing, and what it does to an outage."""

from __future__ import annotations

import attrs
import pytest

from termai_http import RetryConfig
from termai_http._budget import RetryBudget, RetryBudgets
from termai_http._call import AttemptLimits, Call, Clock
from termai_http._retry import Gate, Kind, ServerWish

LIMITS = AttemptLimits(connect_timeout=1, read_timeout=None)


@attrs.define
class Time:
    """A monotonic clock that moves when told."""

    now: float = 1000.0

    def clock(self) -> Clock:
        """Return it as the budget takes it; no wait takes time."""
        return Clock(monotonic=lambda: self.now, wait=lambda *_: False, uniform=lambda low, _: low)


def drained(budget: RetryBudget, *, throttled: bool) -> int:
    """Take until there is nothing left; returns how often that went well."""
    number = 0
    while budget.take(throttled=throttled):
        number += 1
    return number


def test_a_full_budget_pays_35_retries_or_100_throttled_ones() -> None:
    """500 tokens are 35 retries at 14, or 100 at 5."""
    assert drained(RetryBudget(Time().clock()), throttled=False) == 35
    assert drained(RetryBudget(Time().clock()), throttled=True) == 100


def test_a_success_and_a_second_give_one_token_each() -> None:
    """Fourteen of either buy one retry, and nothing is saved above the capacity."""
    time = Time()
    budget = RetryBudget(time.clock())
    for _ in range(100):
        budget.give_back()
    assert drained(budget, throttled=False) == 35
    for _ in range(14):
        budget.give_back()
    assert drained(budget, throttled=False) == 1
    time.now += 14
    assert drained(budget, throttled=False) == 1
    time.now += 1_000_000
    assert drained(budget, throttled=False) == 35


def test_a_clock_that_goes_back_takes_nothing() -> None:
    """A monotonic clock that a test moves back neither gives nor takes tokens."""
    time = Time()
    budget = RetryBudget(time.clock())
    time.now -= 500
    assert drained(budget, throttled=True) == 100


def test_hosts_have_budgets_of_their_own() -> None:
    """A dead host spends nothing of another's; the same host always finds the same budget."""
    budgets = RetryBudgets(Time().clock())
    drained(budgets.of("https", "a.example"), throttled=True)
    assert budgets.of("https", "a.example") is budgets.of("https", "a.example")
    assert not budgets.of("https", "a.example").take(throttled=True)
    assert budgets.of("https", "b.example").take(throttled=True)
    assert budgets.of("http", "a.example").take(throttled=True)


def test_very_many_hosts_are_not_kept_for_ever() -> None:
    """The number of budgets is bounded."""
    budgets = RetryBudgets(Time().clock())
    for number in range(5000):
        budgets.of("https", f"host{number}.example")
    assert len(budgets._by_host) <= 1024


def test_a_denied_retry_says_why_and_is_counted() -> None:
    """The gate refuses with a reason, and the call remembers that it did."""
    clock = Time().clock()
    budget, call = RetryBudget(clock), Call(60, clock)
    drained(budget, throttled=True)
    call.begin_attempt(fresh=False, pooled=True, limits=LIMITS)
    verdict = Gate(call, RetryConfig(), budget).admit(Kind.REFUSED, ServerWish(), throttled=True)
    assert verdict.wait is None
    assert "retry budget" in verdict.why_not
    assert call.retries_denied == 1


def test_a_stale_replay_is_free() -> None:
    """A reused connection that fails is replayed although the budget is empty."""
    clock = Time().clock()
    budget, call = RetryBudget(clock), Call(60, clock)
    drained(budget, throttled=True)
    call.begin_attempt(fresh=False, pooled=True, limits=LIMITS)
    assert Gate(call, RetryConfig(), budget).admit(Kind.STALE, ServerWish()).wait == 0.0


@pytest.mark.parametrize("kind", [Kind.NOT_SENT, Kind.REFUSED])
def test_1000_calls_to_a_dead_server_make_at_most_1100_requests(kind: Kind) -> None:
    """Within a minute, whatever the failure, retries add a tenth and no more."""
    time = Time()
    clock = time.clock()
    budget = RetryBudget(clock)
    requests = 0
    for _ in range(1000):
        time.now += 0.06
        call = Call(60, clock)
        gate = Gate(call, RetryConfig(), budget)
        again = True
        while again:
            call.begin_attempt(fresh=False, pooled=True, limits=LIMITS)
            requests += 1
            again = gate.admit(kind, ServerWish()).wait is not None
    assert 1000 < requests <= 1100
