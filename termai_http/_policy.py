"""The retry policy as urllib3 knows it, mounted on the ``HTTPAdapter``."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from ._budget import RetryBudget
from ._call import Call, active
from ._importing import importing
from ._retry import Gate, wait_bounds
from ._retry import retry_after as parse
from .config import RetryConfig

__all__ = ["RetryPolicy"]

# What requests itself uses for "no retries": connect failures wrapped, read failures bare.
_PASS_OUT = Retry(0, read=False)


class RetryPolicy(Retry):
    """The policy as urllib3 knows it, mounted on the ``HTTPAdapter``.

    For a session used raw it retries by itself: POST too, on the statuses of its ``RetryConfig``,
    a certificate never. Inside a call it passes every failure straight out, so that one
    ``Session.send`` is one attempt and the call's ``Gate`` alone decides.
    """

    def __init__(self, *args: Any, policy: RetryConfig | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policy = policy or RetryConfig()

    @classmethod
    def from_config(cls, policy: RetryConfig) -> RetryPolicy:
        """Build the mounted policy from its values."""
        return cls(
            total=policy.max_attempts - 1,
            read=policy.ambiguous_retries,
            redirect=0,
            other=0,
            allowed_methods=None,
            status_forcelist=policy.retry_on_status,
            raise_on_status=False,
            policy=policy,
        )

    def new(self, **kw: Any) -> RetryPolicy:
        """Return a changed copy that keeps the policy's values."""
        fresh = super().new(**kw)
        fresh.policy = self.policy
        return fresh

    def gate(
        self, call: Call, policy: RetryConfig | None = None, budget: RetryBudget | None = None
    ) -> Gate:
        """Return the gate of one call."""
        return Gate(call, policy or self.policy, budget)

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Tell whether urllib3 itself repeats a status; inside a call it never does."""
        return active.attempt is None and super().is_retry(method, status_code, has_retry_after)

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Any:
        """Count a failure; raises where it is not repeated."""
        inside = active.attempt is not None
        silent = isinstance(error, ReadTimeoutError) and not self.policy.retry_read_timeouts
        policy: Retry = _PASS_OUT if inside or silent else super()  # type: ignore[assignment]
        return policy.increment(method, url, response, error, _pool, _stacktrace)

    def get_backoff_time(self) -> float:
        """Return the wait before the next attempt: full jitter, from the first retry on."""
        if not self.history:
            return 0.0
        with importing():
            import backoff

        bounds = wait_bounds(self.policy)
        bound = next(bounds)
        for _ in self.history[1:]:
            bound = next(bounds)
        return backoff.full_jitter(bound)

    def parse_retry_after(self, retry_after: str) -> float:
        """Read ``Retry-After``; garbage counts as no wish, and a long one as its cap."""
        return min(parse(retry_after, time.time()) or 0.0, self.retry_after_max)
