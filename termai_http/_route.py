"""Where the requests of a client go: one route a URL, with what is the same for all of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ._budget import RetryBudget

__all__ = ["Outgoing", "RequestHead", "Route", "host_and_port"]

_MOST_HEADS = 64
_PORTS = {"http": 80, "https": 443}


def host_and_port(url: str) -> tuple[str, int | None]:
    """Return whom a URL leads to."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


class RequestHead:
    """The head of the requests of a route that have the same header names, values left open.

    The values are not kept: keys stand among them.

    Args:
        pieces: The bytes around the values.
        names: Whose values stand between the pieces, in their order.
        measured: Whether the body's length and the empty line are to follow.
    """

    __slots__ = ("_measured", "_names", "_pieces")

    def __init__(self, pieces: Sequence[bytes], names: Sequence[str], measured: bool) -> None:
        self._pieces = pieces
        self._names = names
        self._measured = measured

    def filled(self, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """Return a whole request."""
        said = [self._pieces[0]]
        for name, piece in zip(self._names, self._pieces[1:]):  # noqa: B905 - slower, and equal
            said += (headers[name].encode("latin-1"), piece)
        if self._measured and body is not None:
            said += (b"%d\r\n\r\n" % len(body), body)
        return b"".join(said)


class Route:
    """What all requests to one URL share. Safe from any thread.

    Attributes:
        host: Its host, for messages.
        port: Its port.
        path: Its path and query.
        headers: What the client itself sends with every request.
        budget: The retry budget of its host.
        find_pool: Returns its pool, which is made where it is not there; None where the direct way
            does not lead there.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        path: str,
        headers: Any,
        budget: RetryBudget,
        find_pool: Callable[[], Any] | None,
    ) -> None:
        self.host = host
        self.port = port
        self.path = path
        self.headers = headers
        self.budget = budget
        self.find_pool = find_pool
        # Held weakly: a manager with too many pools drops the oldest, and closes what it holds.
        self._pool: Callable[[], Any] = _no_pool
        self._heads: dict[tuple[str, ...], RequestHead] = {}

    def pool(self) -> Any:
        """Return the pool, which may have been dropped or closed since."""
        pool = self._pool()
        if pool is None or pool.pool is None:
            assert self.find_pool is not None
            pool = self.find_pool()
            self._pool = weakref.ref(pool)
        return pool

    def recall(self, outgoing: Outgoing) -> RequestHead | None:
        """Return the head of a request where one like it was sent before."""
        return self._heads.get((outgoing.method, *outgoing.headers))

    def remember(self, outgoing: Outgoing, head: RequestHead) -> None:
        """Keep a head for the requests with the same method and the same names of headers."""
        if len(self._heads) >= _MOST_HEADS:
            self._heads = {}
        self._heads[(outgoing.method, *outgoing.headers)] = head


def _no_pool() -> None:
    """Stand for the pool of a route that was not used yet."""


class Outgoing:
    """The request of one call, the same for each of its attempts.

    Attributes:
        method: HTTP method.
        url: What it was asked for.
        headers: Headers of the call; the session's come beside them.
        body: Encoded body; None for none.
        query: Query parameters to add.
        direct: Whether it may go the direct way.
        head: Its head, where one like it was sent before.
        prepared: The same as requests has it; None where nothing needed that yet.
        route: Where it goes.
    """

    __slots__ = (
        *("body", "direct", "head", "headers", "method", "prepared", "query", "route", "url"),
    )

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        query: Mapping[str, Any] | None,
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.query = query
        self.direct = False
        self.head: RequestHead | None = None
        self.prepared: Any = None
        self.route: Any = None
