"""What the server remembers between requests: stored responses and cached prefixes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ._tokens import size_of

__all__ = ["Memory", "Prefix", "prefixes"]

_MOST = 10_000


@attrs.frozen(kw_only=True)
class Prefix:
    """The beginning of a request, up to the end of one of its parts."""

    digest: bytes
    size: int


def prefixes(seed: str, parts: Iterable[Any]) -> list[Prefix]:
    """Return the beginnings that end with each of ``parts``.

    Args:
        seed: What parts must have in common to share a cache, as the model.
        parts: JSON values, in the order in which the model reads them.
    """
    digest, size, found = hashlib.sha256(seed.encode("utf-8", "replace")), 0, []
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True).encode() + b"\n")
        size += size_of(part)
        found.append(Prefix(digest=digest.digest(), size=size))
    return found


@attrs.frozen(kw_only=True)
class _Stored:
    previous: str | None
    items: tuple[dict[str, Any], ...]


class Memory:
    """Remembers, safe from any thread, the latest of each kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: dict[str, _Stored] = {}
        self._reasons: dict[str, str | None] = {}
        self._cached: dict[bytes, None] = {}

    def store(
        self,
        response: str,
        previous: str | None,
        given: Sequence[dict[str, Any]],
        output: Sequence[dict[str, Any]],
    ) -> None:
        """Keep a response.

        Args:
            response: Its id.
            previous: Id of the response that it goes on from; None for none.
            given: The input items.
            output: The output items.
        """
        reason = None
        with self._lock:
            _put(self._stored, response, _Stored(previous=previous, items=(*given, *output)))
            for item in output:
                if item.get("type") == "reasoning":
                    reason = str(item["id"])
                    _put(self._reasons, reason, None)
                elif "id" in item:
                    _put(self._reasons, str(item["id"]), reason)

    def conversation(self, response: Any) -> list[dict[str, Any]] | None:
        """Return all items up to the end of a response; None where it is not known."""
        turns: list[tuple[dict[str, Any], ...]] = []
        with self._lock:
            if not isinstance(response, str) or response not in self._stored:
                return None
            at: str | None = response
            while at is not None and (known := self._stored.get(at)) is not None:
                turns.append(known.items)
                at = known.previous
        return [item for items in reversed(turns) for item in items]

    def knows_item(self, item: Any) -> bool:
        """Tell whether an output item of this id was stored."""
        return isinstance(item, str) and item in self._reasons

    def reason_of(self, item: Any) -> str | None:
        """Return the id of the reasoning that led to an output item; None for none."""
        return self._reasons.get(item) if isinstance(item, str) else None

    def cached(self, known: Sequence[Prefix], kept: Iterable[Prefix]) -> int:
        """Return the size of the longest beginning in the cache, and put others into it.

        Args:
            known: Beginnings to look for, the shortest first.
            kept: Beginnings that later requests shall find.
        """
        with self._lock:
            sizes = [prefix.size for prefix in known if prefix.digest in self._cached]
            for prefix in kept:
                _put(self._cached, prefix.digest, None)
        return sizes[-1] if sizes else 0


def _put(kept: dict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    if len(kept) > _MOST:
        del kept[next(iter(kept))]
