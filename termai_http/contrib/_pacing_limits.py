"""The user's own limits, counted by pyrate-limiter, in memory or in Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from .._call import Clock
from .._importing import importing
from .._job import tells_account
from .._log import log
from ..errors import ConfigurationError

__all__ = ["OwnLimits", "Payment", "Store", "shared_name"]

_MINUTE = 60_000
_BURST = 10
_VENDORS = ("api-key", "authorization", "x-api-key")
_REDIS_SECONDS = 0.5
_REDIS_BACK = 5.0


def shared_name(host: str, model: str | None, headers: Mapping[str, str]) -> str:
    """Name what processes share: the same for equal host, model and key, and no way back to it."""
    told = {name.lower(): value for name, value in headers.items() if tells_account(name)}
    parts = [host, model or "", *(told.pop(name, "") for name in _VENDORS)]
    parts += (part for one in sorted(told.items()) for part in one)
    said = "\x00".join(parts).encode()
    return hashlib.blake2b(said, digest_size=16, person=b"termai-pacing").hexdigest()


class Payment:
    """What one attempt still has to pay.

    Attributes:
        requests: Requests not paid yet.
        tokens: Tokens not paid yet.
    """

    __slots__ = ("requests", "tokens")

    def __init__(self, requests: int, tokens: int) -> None:
        self.requests = requests
        self.tokens = tokens

    @property
    def done(self) -> bool:
        """Whether all is paid."""
        return not (self.requests or self.tokens)


class Store:
    """Where the limits are counted; holds the libraries. Safe from any thread.

    Args:
        redis: URL of a Redis, a client for one, or None for this process alone.
        clock: Time.

    Raises:
        ConfigurationError: A library is missing, or the URL cannot be one.
    """

    def __init__(self, redis: Any, clock: Clock) -> None:
        with importing():
            try:
                import pyrate_limiter
                from pyrate_limiter import StateBucket  # noqa: F401 - older ones have none
            except ImportError as error:
                raise ConfigurationError(
                    "Limits of one's own need pyrate-limiter 4.5 or later: "
                    'pip install "termai-http[ratelimit]".'
                ) from error
        self._library = pyrate_limiter
        self._clock = clock
        self._given = redis
        self._own: Any = _connect(redis) if isinstance(redis, str) else None
        self._away_until = 0.0

    @property
    def shared(self) -> bool:
        """Whether other processes count here, too."""
        return self._given is not None

    def in_memory(self) -> Any:
        """Return a new place to count in this process."""
        return self._library.InMemoryStateStore()

    def in_redis(self, key: str) -> Any:
        """Return the place to count in Redis."""
        client = self._given if self._own is None else self._own
        return self._library.RedisStateStore(client, f"termai-http:pacing:{key}")

    def rate(self, per_minute: int) -> Any:
        """Return a limit: so many a minute, a tenth of them at once."""
        burst = max(per_minute // _BURST, 1)
        return self._library.Rate(per_minute, _MINUTE, burst=burst)

    def pay(self, place: Any, rate: Any, weight: int, now: float) -> float:
        """Pay, or return the seconds until it can be paid; nothing is taken then."""
        # One of its own each time: it keeps what the last one was refused.
        bucket = self._library.StateBucket([rate], self._library.TokenBucket(), place)
        item = self._library.RateItem("", int(now * 1000), weight=weight)
        if bucket.put(item):
            return 0.0
        wait: Any = bucket.waiting(item)
        return float(max(wait, 1)) / 1000

    def redis_answers(self) -> bool:
        """Tell whether Redis is to be asked: not for a while after it failed."""
        return self._given is not None and self._clock.monotonic() >= self._away_until

    def redis_failed(self, error: Exception) -> None:
        """Note that it failed."""
        self._away_until = self._clock.monotonic() + _REDIS_BACK
        log.warning(
            "Redis does not answer (%s): this process counts its limits alone for %.0f s",
            type(error).__name__,
            _REDIS_BACK,
        )

    def close(self) -> None:
        """Close the connections to Redis, unless the client was given."""
        if self._own is not None:
            self._own.close()


def _connect(url: str) -> Any:
    with importing():
        try:
            import redis
        except ImportError as error:
            raise ConfigurationError(
                "Limits that processes share need redis: "
                'pip install "termai-http[ratelimit]" redis.'
            ) from error
    try:
        return redis.Redis.from_url(
            url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
        )
    except (TypeError, ValueError):
        raise ConfigurationError(
            "redis must be a URL such as redis://localhost:6379/0, or a client of redis."
        ) from None


class OwnLimits:
    """The limits of one host, key and model. One thread at a time pays; any may.

    Args:
        store: Where they are counted.
        requests: Requests a minute, None for any number.
        tokens: Tokens a minute, None for any number.
        name: What processes share it by.
    """

    def __init__(self, store: Store, requests: int | None, tokens: int | None, name: str) -> None:
        self._store = store
        self._rates = {
            kind: store.rate(limit)
            for kind, limit in (("tokens", tokens), ("requests", requests))
            if limit is not None
        }
        self._name = name
        self._here = {kind: store.in_memory() for kind in self._rates}
        self._there = (
            {kind: store.in_redis(f"{kind}:{name}") for kind in self._rates}
            if (store.shared)
            else {}
        )

    def least(self, payment: Payment, waiting_requests: int, waiting_tokens: float) -> float:
        """Return the seconds that it takes at least until all is paid, by what waits before.

        Args:
            payment: What there is to pay.
            waiting_requests: How many pay before.
            waiting_tokens: What they pay.
        """
        due = {
            "requests": payment.requests + waiting_requests,
            "tokens": payment.tokens + waiting_tokens,
        }
        beyond: list[float] = [
            (due[kind] - rate.burst) * 60.0 / rate.limit for kind, rate in self._rates.items()
        ]
        return max(0.0, *beyond)

    def pay(self, payment: Payment, clock: Clock) -> tuple[float, str]:
        """Pay what can be paid now.

        What is paid stays paid, so it is tokens first, in parts where they are more than may be
        taken at once.

        Returns:
            The seconds until the next part can be paid, 0 where all is; and of which limit.
        """
        for kind, rate in self._rates.items():
            while due := getattr(payment, kind):
                part = min(due, rate.burst)
                wait = self._pay_part(kind, rate, part, clock)
                if wait > 0:
                    return wait, f"own {kind}"
                setattr(payment, kind, due - part)
        return 0.0, ""

    def _pay_part(self, kind: str, rate: Any, part: int, clock: Clock) -> float:
        store = self._store
        if store.redis_answers():
            try:
                return store.pay(self._there[kind], rate, part, clock.wall())
            except Exception as error:
                # Whichever it is: the client may be one that was given.
                store.redis_failed(error)
        return store.pay(self._here[kind], rate, part, clock.monotonic())
