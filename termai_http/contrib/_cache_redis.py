"""Entries in Redis, by the backend of requests-cache: shared by processes and machines."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from requests_cache.backends.redis import RedisDict

from ._cache_store import MappingStore, Packed

__all__ = ["redis_store"]


_PIECE = 65536


class _Replies(RedisDict):  # type: ignore[misc, type-arg, unused-ignore]
    """The backend, in bounded time, and without the command that Redis deprecates.

    A socket's timeout is for each piece that comes; so a long value is asked for in pieces.
    """

    def __init__(
        self, namespace: str, connection: Any, seconds: float, now: Callable[[], float]
    ) -> None:
        super().__init__(namespace, connection=connection, serializer=None, ttl_offset=0)
        self._seconds = seconds
        self._now = now

    def __getitem__(self, row: str) -> bytes:
        name, end = self._bkey(row), self._now() + self._seconds
        value = bytearray()
        while True:
            piece: Any = self.connection.getrange(name, len(value), len(value) + _PIECE - 1)
            value += piece
            if not value:
                raise KeyError(row)
            if len(piece) < _PIECE:
                return bytes(value)
            if self._now() >= end:
                raise TimeoutError("a reply takes too long to come")

    def __setitem__(self, row: str, packed: Packed) -> None:
        name = self._bkey(row)
        self.connection.set(name, packed, ex=packed.expires_delta)


def redis_store(
    url: str, namespace: str, seconds: float, now: Callable[[], float] = time.monotonic
) -> MappingStore:
    """Return the store at a URL; nothing is connected yet.

    Args:
        url: As ``redis.Redis.from_url`` takes it, ``rediss://`` and ``unix://`` included.
        namespace: What the names of its entries begin with.
        seconds: How long one use of it may take: half of it to connect, half to wait for it.
        now: Tells the time.
    """

    def make() -> MutableMapping[str, Any]:
        connection = redis.Redis.from_url(
            url,
            socket_timeout=seconds / 2,
            socket_connect_timeout=seconds / 2,
            # It would try again for seconds, which no call has to spare.
            retry=Retry(NoBackoff(), 0),
        )
        mapping: MutableMapping[str, Any] = _Replies(namespace, connection, seconds / 2, now)
        return mapping

    parts = urlsplit(url)
    place = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    if parts.scheme == "unix":
        place = parts.path
    return MappingStore(make, where=f"Redis at {place}", slowest=seconds, reason=_reason)


def _reason(error: Exception) -> str:
    known = isinstance(error, (redis.RedisError, OSError))
    return str(error) or type(error).__name__ if known else type(error).__name__
