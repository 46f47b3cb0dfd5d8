"""Whether a failure is tried again, and when: one budget, one gate."""

from __future__ import annotations

import datetime as dt
import email.utils
import enum
import math
import re
from collections.abc import Generator, Mapping
from typing import Any

import attrs

from . import errors
from ._budget import RetryBudget
from ._call import Attempt, Call
from ._importing import importing
from ._values import Value
from .config import HttpClientConfig, RetryConfig

__all__ = [
    "Gate",
    "Kind",
    "ServerWish",
    "Verdict",
    "classify",
    "config_for",
    "retry_after",
    "server_wish",
    "wait_bounds",
]

_VENDOR_POLICIES = {
    "openai": RetryConfig(base_delay=1.0, max_delay=60.0),
    "claude": RetryConfig(base_delay=1.0, max_delay=120.0),
}
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_SERVER_WAIT_JITTER = 0.1
_LEAST_USEFUL = 0.05


def config_for(
    config: HttpClientConfig, provider: str | None, override: RetryConfig | None
) -> RetryConfig:
    """Choose the policy of a call: its own, else the client's, else its vendor's."""
    if override is not None:
        return override
    policy = config.retry or _VENDOR_POLICIES.get(provider or "") or RetryConfig()
    if config.max_retries is not None:
        policy = policy.evolve(max_attempts=config.max_retries + 1)
    return policy


class Kind(enum.Enum):
    """What a failed attempt means for the next one; the values are the metrics' words."""

    NOT_SENT = "not_sent"
    REFUSED = "refused"
    STALE = "stale_connection"
    AMBIGUOUS = "ambiguous"
    READ_TIMEOUT = "read_timeout"
    FINAL = "final"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ServerWish(Value):
    """What an answer's headers say of a retry; None where they say nothing.

    Attributes:
        should_retry: ``x-should-retry``.
        wait: Seconds from ``retry-after-ms`` or ``Retry-After``.
    """

    should_retry: bool | None = None
    wait: float | None = None


def server_wish(headers: Mapping[str, str], now: float) -> ServerWish:
    """Read the server's wish; garbage counts as nothing.

    Args:
        headers: Response headers, found by their names in lower case.
        now: Wall clock, seconds since the epoch: ``Retry-After`` may be a date (RFC 9110, 10.2.3).
    """
    flag = headers.get("x-should-retry", "").strip().lower()
    milliseconds = _number(headers.get("retry-after-ms", ""))
    wait = retry_after(headers.get("retry-after", ""), now)
    return ServerWish(
        should_retry={"true": True, "false": False}.get(flag),
        wait=wait if milliseconds is None else milliseconds / 1000,
    )


def _number(text: str) -> float | None:
    stripped = text.strip(" \t")
    if not _SECONDS.fullmatch(stripped):
        return None
    value = float(stripped)
    return value if math.isfinite(value) else None


def retry_after(text: str, now: float) -> float | None:
    """Read a ``Retry-After``, seconds or a date, as seconds from ``now``; None for garbage."""
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        # Not parsedate_tz, which takes the 99th of December for a day.
        date = email.utils.parsedate_to_datetime(text)
    except (ArithmeticError, IndexError, TypeError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=dt.timezone.utc)
    return max(date.timestamp() - now, 0.0)


def classify(
    error: errors.TermaiHttpError, attempt: Attempt, wish: ServerWish, policy: RetryConfig
) -> Kind:
    """Tell what a failed attempt means; pure."""
    if isinstance(error, errors.APIStatusError):
        return _classify_status(error, wish, policy)
    if isinstance(error, errors.ReadTimeout):
        return Kind.READ_TIMEOUT
    if isinstance(error, errors.TruncatedResponse):
        return Kind.AMBIGUOUS
    if isinstance(error, errors.APIConnectionError) and attempt.reused and not attempt.received:
        return Kind.STALE
    if isinstance(error, (errors.TLSError, errors.ResourceError)):
        return Kind.FINAL
    if isinstance(error, errors.ProxyError) and 400 <= (error.status_code or 0) <= 499:
        # It refuses us, and asking again may lock an account there.
        return Kind.FINAL
    if isinstance(error, (errors.APIConnectionError, errors.ConnectTimeout)):
        return Kind.AMBIGUOUS if attempt.sent else Kind.NOT_SENT
    return Kind.FINAL


def _classify_status(error: errors.APIStatusError, wish: ServerWish, policy: RetryConfig) -> Kind:
    if isinstance(error, (errors.QuotaExceededError, errors.UnexpectedRedirect)):
        return Kind.FINAL
    if wish.should_retry is not None:
        return Kind.REFUSED if wish.should_retry else Kind.FINAL
    return Kind.REFUSED if error.status_code in policy.retry_on_status else Kind.FINAL


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Verdict(Value):
    """The gate's answer.

    Attributes:
        wait: Seconds until the next attempt; None where there is none.
        fresh: Whether the next attempt must open a connection.
        why_not: Said to the user where only time or the host's budget forbade the retry.
    """

    wait: float | None
    fresh: bool = False
    why_not: str = ""


_NO = Verdict(wait=None)


class Gate:
    """Decides, for one call, whether a failed attempt is followed by another.

    Args:
        call: The call.
        policy: How often and how long.
        budget: What all calls to the host share; None for none.
    """

    def __init__(self, call: Call, policy: RetryConfig, budget: RetryBudget | None = None) -> None:
        self._call = call
        self._policy = policy
        self._budget = budget
        self._bounds: Generator[float, Any, None] | None = None

    def admit(
        self, kind: Kind, wish: ServerWish, *, throttled: bool = False, forbidden: str = ""
    ) -> Verdict:
        """Answer for one failed attempt, and charge what it uses up.

        Args:
            kind: What the failure means.
            wish: What the server said of a retry.
            throttled: Whether it said that there were too many requests.
            forbidden: Why a layer wants no retry; ``""`` where it wants nothing of the kind.
        """
        call, policy = self._call, self._policy
        if call.attempts >= policy.max_attempts or call.interrupted is not None:
            return _NO
        if kind is Kind.STALE:
            return Verdict(wait=0.0, fresh=True) if call.left() > 0 else _NO
        if kind is Kind.FINAL or (kind is Kind.READ_TIMEOUT and not policy.retry_read_timeouts):
            return _NO
        if forbidden:
            return Verdict(wait=None, why_not=f"not retried: {forbidden}")
        if kind is Kind.AMBIGUOUS:
            if call.ambiguous >= policy.ambiguous_retries:
                return _NO
            call.ambiguous += 1
        wait = self._wait(wish)
        left = call.left()
        if wait + _LEAST_USEFUL >= left:
            return Verdict(
                wait=None,
                why_not=f"not retried: the wait of {wait:.2f} s would not end before the "
                f"deadline, {max(left, 0.0):.2f} s away",
            )
        if self._budget is not None and not self._budget.take(throttled=throttled):
            call.retries_denied += 1
            return Verdict(
                wait=None,
                why_not="not retried: so many calls to this host failed lately that its retry "
                "budget is used up",
            )
        return Verdict(wait=wait)

    def _wait(self, wish: ServerWish) -> float:
        if self._bounds is None:
            self._bounds = wait_bounds(self._policy)
        bound = next(self._bounds)
        uniform = self._call.clock.uniform
        if wish.wait is None:
            return uniform(0.0, bound)
        # Upward only: to come back before the server allows it is to be refused again.
        return wish.wait * uniform(1.0, 1.0 + _SERVER_WAIT_JITTER)


def wait_bounds(policy: RetryConfig) -> Generator[float, Any, None]:
    """Yield the upper bounds of the waits, from backoff's generator."""
    # backoff pulls in asyncio, which most processes never need.
    with importing():
        import backoff

    bounds = backoff.expo(
        base=policy.backoff_multiplier, factor=policy.base_delay, max_value=policy.max_delay
    )
    next(bounds)
    return bounds
