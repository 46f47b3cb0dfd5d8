"""The gate and what it decides on: pure, with a clock of the test's."""

from __future__ import annotations

import threading
from email.utils import formatdate
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import MaxRetryError, NewConnectionError, ReadTimeoutError, SSLError
from urllib3.exceptions import ProtocolError as BrokenProtocol
from urllib3.response import HTTPResponse

from termai_http import HttpClientConfig, RetryConfig, errors
from termai_http._call import AttemptLimits, Call, Clock, Waker, active
from termai_http._in_flight import CancelToken
from termai_http._lease import Lease
from termai_http._policy import RetryPolicy
from termai_http._retry import Gate, Kind, ServerWish, classify, config_for, server_wish
from termai_http._slots import Slots

NOW = 1_790_000_000.0


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> Clock:
        """Return it as the calls know it, with the highest chance."""
        return Clock(monotonic=lambda: self.now, wall=lambda: NOW, uniform=lambda _, high: high)


def make(timeout: float = 60.0) -> tuple[Call, Time]:
    """Return a call that made its first attempt, and its clock."""
    time = Time()
    call = Call(timeout, time.clock())
    call.attempts = 1
    return call, time


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": ".5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1" + "0" * 20}, 1e20),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, pytest.approx(2.5e11, rel=0.01)),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "junk", "retry-after": "2"}, 2.0),
        *[
            ({"retry-after": text}, None)
            for text in ("-5", "nan", "inf", "1e3", "", "abc", "2, 3", "٣", "9" * 5000, "1_0")
        ],
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 999999999999999999999 23:59:59 GMT"}, None),
    ],
)
def test_the_servers_wait_is_read(headers: dict[str, str], wait: Any) -> None:
    """Seconds, floats, milliseconds and dates; garbage is nothing."""
    assert server_wish(headers, NOW).wait == wait


@given(st.text())
def test_no_retry_after_is_too_odd(text: str) -> None:
    """Whatever stands in the headers, the wish is None or a wait of at least 0."""
    for name in ("retry-after", "retry-after-ms"):
        wait = server_wish({name: text}, NOW).wait
        assert wait is None or wait >= 0


@pytest.mark.parametrize(("text", "flag"), [("true", True), (" False ", False), ("maybe", None)])
def test_the_servers_flag_is_read(text: str, flag: bool | None) -> None:
    """x-should-retry is true, false, or nothing."""
    assert server_wish({"x-should-retry": text}, NOW).should_retry is flag


@pytest.mark.parametrize(
    ("error", "facts", "kind"),
    [
        (errors.APIConnectionError("x"), {}, Kind.NOT_SENT),
        (errors.APIConnectionError("x"), {"sent": True}, Kind.AMBIGUOUS),
        (errors.APIConnectionError("x"), {"sent": True, "reused": True}, Kind.STALE),
        (
            errors.APIConnectionError("x"),
            {"sent": True, "reused": True, "received": True},
            Kind.AMBIGUOUS,
        ),
        (errors.TLSError("x"), {}, Kind.FINAL),
        (errors.TLSError("x"), {"reused": True, "sent": True}, Kind.STALE),
        (errors.ResourceError("x"), {}, Kind.FINAL),
        (errors.DNSError("x"), {}, Kind.NOT_SENT),
        (errors.ProxyError("x"), {}, Kind.NOT_SENT),
        (errors.ConnectTimeout("x"), {}, Kind.NOT_SENT),
        (errors.ReadTimeout("x"), {"sent": True}, Kind.READ_TIMEOUT),
        (errors.TruncatedResponse("x"), {"sent": True}, Kind.AMBIGUOUS),
        (errors.InvalidResponseError("x"), {"sent": True}, Kind.FINAL),
        (errors.DeadlineExceeded("x"), {}, Kind.FINAL),
        (errors.PoolTimeout("x"), {}, Kind.FINAL),
        (errors.CallCancelled("x"), {}, Kind.FINAL),
        (errors.QuotaExceededError("x", status_code=429), {}, Kind.FINAL),
        (errors.UnexpectedRedirect("x", status_code=302), {}, Kind.FINAL),
        (errors.RateLimitError("x", status_code=429), {}, Kind.REFUSED),
        (errors.BadRequestError("x", status_code=400), {}, Kind.FINAL),
    ],
)
def test_a_failure_is_classified(
    error: errors.TermaiHttpError, facts: dict[str, bool], kind: Kind
) -> None:
    """What the failure means follows from the error and from how far the attempt came."""
    call, _ = make()
    limits = AttemptLimits(connect_timeout=1, read_timeout=None)
    attempt = call.begin_attempt(fresh=False, pooled=True, limits=limits)
    for name, value in facts.items():
        setattr(attempt, name, value)
    assert classify(error, attempt, ServerWish(), RetryConfig()) is kind


def admit_all(kind: Kind, policy: RetryConfig, wish: ServerWish, timeout: float) -> list[float]:
    """Fail every attempt in the same way; return the waits."""
    call, time = make(timeout)
    gate, waits = Gate(call, policy), []
    while (verdict := gate.admit(kind, wish)).wait is not None:
        waits.append(verdict.wait)
        time.now += verdict.wait
        call.attempts += 1
    return waits


def test_waits_grow_to_their_cap() -> None:
    """The n-th bound is base times multiplier to the n, at most max_delay."""
    policy = RetryConfig(max_attempts=6, base_delay=1, backoff_multiplier=3, max_delay=20)
    assert admit_all(Kind.REFUSED, policy, ServerWish(), 1000) == [1, 3, 9, 20, 20]
    huge = RetryConfig(max_attempts=2000, base_delay=0, max_delay=0, backoff_multiplier=10)
    assert len(admit_all(Kind.REFUSED, huge, ServerWish(), 1000)) == 1999


@pytest.mark.parametrize(
    ("kind", "policy", "retries"),
    [
        (Kind.NOT_SENT, RetryConfig(), 2),
        (Kind.REFUSED, RetryConfig(max_attempts=1), 0),
        (Kind.AMBIGUOUS, RetryConfig(), 1),
        (Kind.AMBIGUOUS, RetryConfig(ambiguous_retries=0), 0),
        (Kind.AMBIGUOUS, RetryConfig(ambiguous_retries=9), 2),
        (Kind.READ_TIMEOUT, RetryConfig(), 0),
        (Kind.READ_TIMEOUT, RetryConfig(retry_read_timeouts=True), 2),
        (Kind.FINAL, RetryConfig(max_attempts=9), 0),
        (Kind.STALE, RetryConfig(), 2),
        (Kind.STALE, RetryConfig(max_attempts=1), 0),
    ],
)
def test_each_kind_has_its_budget(kind: Kind, policy: RetryConfig, retries: int) -> None:
    """No kind of failure is tried more often than the policy says."""
    assert len(admit_all(kind, policy, ServerWish(), 1000)) == retries


def test_a_stale_connection_is_replayed_at_once_on_a_fresh_one() -> None:
    """The replay waits for nothing, and takes no idle connection."""
    call, _ = make()
    verdict = Gate(call, RetryConfig()).admit(Kind.STALE, ServerWish(wait=50))
    assert (verdict.wait, verdict.fresh) == (0.0, True)


def test_the_servers_wait_is_never_shortened() -> None:
    """It beats max_delay, and chance only adds to it."""
    policy = RetryConfig(max_delay=1)
    waits = admit_all(Kind.REFUSED, policy, ServerWish(wait=10), 1000)
    assert waits == [pytest.approx(11), pytest.approx(11)]


def test_a_retry_that_would_come_too_late_is_not_begun() -> None:
    """Where only time forbids it, the verdict says why."""
    call, _ = make(timeout=5)
    verdict = Gate(call, RetryConfig()).admit(Kind.REFUSED, ServerWish(wait=5))
    assert verdict.wait is None
    assert "would not end before the deadline" in verdict.why_not
    late, time = make(timeout=5)
    time.now += 6
    assert Gate(late, RetryConfig()).admit(Kind.STALE, ServerWish()).wait is None


def test_a_cancelled_call_is_not_tried_again() -> None:
    """A token that was cancelled closes the gate."""
    call, _ = make()
    token = CancelToken()
    token.cancel()
    token.join(call)
    assert Gate(call, RetryConfig()).admit(Kind.REFUSED, ServerWish()).wait is None


def test_the_policy_is_chosen_by_who_is_nearest() -> None:
    """A call's own beats the client's, which beats the vendor's; max_retries spares a call's."""
    own, clients = RetryConfig(max_attempts=7), RetryConfig(max_attempts=5)
    assert config_for(HttpClientConfig(retry=clients, max_retries=1), "openai", own) is own
    assert config_for(HttpClientConfig(retry=clients), "openai", None) is clients
    assert config_for(HttpClientConfig(), "openai", None).max_delay == 60
    assert config_for(HttpClientConfig(), "claude", None).max_delay == 120
    assert config_for(HttpClientConfig(), None, None) == RetryConfig()
    limited = config_for(HttpClientConfig(max_retries=2, retry=clients), "claude", None)
    assert limited == clients.evolve(max_attempts=3)


def mounted(**fields: Any) -> RetryPolicy:
    """Return the policy as the session has it."""
    return RetryPolicy.from_config(RetryConfig(**fields))


def test_the_mounted_policy_retries_raw_posts() -> None:
    """For a raw session it retries POST on its statuses, and gives the last answer back."""
    policy = mounted(retry_on_status=[503])
    assert policy.is_retry("POST", 503)
    assert not policy.is_retry("POST", 500)
    assert not policy.raise_on_status
    answer = HTTPResponse(status=503)
    twice = policy.increment("POST", "/", response=answer).increment("POST", "/", response=answer)
    assert twice.policy is policy.policy
    with pytest.raises(MaxRetryError):
        twice.increment("POST", "/", response=answer)


def test_the_mounted_policy_bills_nobody_twice() -> None:
    """Raw, too, a certificate and a read timeout are final, and what was sent is repeated once."""
    policy = mounted(max_attempts=9)
    with pytest.raises(MaxRetryError):
        policy.increment("POST", "/", error=SSLError("bad certificate"))
    silence = ReadTimeoutError(None, "/", "silent")  # type: ignore[arg-type]
    with pytest.raises(ReadTimeoutError):
        policy.increment("POST", "/", error=silence)
    mounted(retry_read_timeouts=True).increment("POST", "/", error=silence)
    once = policy.increment("POST", "/", error=BrokenProtocol("reset"))
    with pytest.raises(MaxRetryError):
        once.increment("POST", "/", error=BrokenProtocol("reset"))
    refused = NewConnectionError(None, "refused")  # type: ignore[arg-type]
    assert policy.increment("POST", "/", error=refused).total == 7


def test_inside_a_call_the_mounted_policy_passes_everything_out() -> None:
    """One Session.send is one attempt: the gate alone decides there."""
    call, _ = make()
    limits = AttemptLimits(connect_timeout=1, read_timeout=None)
    policy = mounted(max_attempts=9)
    refused = NewConnectionError(None, "refused")  # type: ignore[arg-type]
    attempt = call.begin_attempt(fresh=False, pooled=True, limits=limits)
    lease = Lease(Slots(1, 1.0, call.clock), attempt)
    outer = active.bind(lease)
    try:
        assert not policy.is_retry("POST", 503)
        with pytest.raises(MaxRetryError):
            policy.increment("POST", "/", error=refused)
        with pytest.raises(BrokenProtocol):
            policy.increment("POST", "/", error=BrokenProtocol("reset"))
    finally:
        active.restore(outer)
    assert active.attempt is None


def test_the_mounted_policys_waits_are_jittered_from_the_first() -> None:
    """Raw waits are drawn below the same bounds, and Retry-After is read leniently."""
    policy = mounted(max_attempts=9, base_delay=1, max_delay=2)
    assert policy.get_backoff_time() == 0
    for bound in (1, 2, 2):
        policy = policy.increment("POST", "/", response=HTTPResponse(status=503))
        assert 0 <= policy.get_backoff_time() <= bound
    assert policy.parse_retry_after("junk") == 0
    assert policy.parse_retry_after("2.5") == 2.5
    assert policy.parse_retry_after("9" * 30) == policy.retry_after_max


def test_an_interrupt_wakes_a_wait() -> None:
    """A call that waits between attempts ends its wait when another thread interrupts it."""
    call = Call(60, Clock())
    begun = threading.Event()
    original = call.clock.wait

    def wait(waker: Waker, seconds: float) -> bool:
        begun.set()
        return original(waker, seconds)

    call.clock = Clock(wait=wait)
    thread = threading.Thread(target=call.sleep, args=(60,))
    thread.start()
    assert begun.wait(30)
    call.interrupt(errors.CallCancelled)
    call.interrupt(errors.ClientClosed)
    thread.join(30)
    assert not thread.is_alive()
    assert call.interrupted is errors.CallCancelled


def test_who_is_woken_by_the_end_of_one_call_may_begin_nothing_either() -> None:
    """What ends all calls forbids each of them to go on before it wakes the first."""
    known: list[type[errors.TermaiHttpError] | None] = []
    calls = [Call(60, Clock()) for _ in range(2)]
    token = CancelToken()
    for call, other in zip(calls, reversed(calls), strict=True):
        token.join(call)
        call._waker = mock.Mock(set=lambda other=other: known.append(other.interrupted))
    token.cancel()
    assert known == [errors.CallCancelled] * 2


def test_a_token_ends_what_still_runs_when_its_block_is_left() -> None:
    """As a context manager a token cancels on leaving, and forgets calls that ended."""
    running, ended = Call(60, Clock()), Call(60, Clock())
    with CancelToken() as token:
        token.join(running)
        token.join(ended)
        token.leave(ended)
        assert not token.cancelled
    assert token.cancelled
    assert running.interrupted is errors.CallCancelled
    assert ended.interrupted is None


def test_an_attempt_never_outlives_its_call() -> None:
    """Budgets shrink with the deadline; past it a read is not begun."""
    call, time = make(timeout=5)
    limits = AttemptLimits(connect_timeout=2, read_timeout=3)
    attempt = call.begin_attempt(fresh=False, pooled=True, limits=limits)
    assert (attempt.connect_budget(), attempt.read_budget()) == (2, 3)
    time.now += 4
    assert (attempt.connect_budget(), attempt.read_budget()) == (1, 1)
    time.now += 2
    for budget in (attempt.connect_budget, attempt.read_budget):
        with pytest.raises(TimeoutError):
            budget()
    endless = AttemptLimits(connect_timeout=2, read_timeout=None)
    time.now -= 3
    attempt = call.begin_attempt(fresh=False, pooled=True, limits=endless)
    assert attempt.read_budget() == 2
