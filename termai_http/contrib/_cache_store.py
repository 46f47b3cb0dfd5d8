"""Where kept replies stand, and the guard in front of it: a store that fails never fails a call."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .._log import log
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .._call import Clock

__all__ = ["Guard", "MappingStore", "MemoryStore", "Packed", "Store", "default_path"]

T = TypeVar("T")
# After a failure the store is left alone for so long, so that not each call waits for it.
_REST_SECONDS = 5.0
_WARN_SECONDS = 60.0
_LONGEST_REASON = 200
# Longer than that is for ever: no store counts so far.
_FOR_EVER = 1e9


class Packed(str):
    """A packed entry, with what the backends of requests-cache ask a value for.

    Attributes:
        expires_unix: Wall-clock instant at which it goes; None for never.
        expires_delta: Whole seconds until then.
    """

    __slots__ = ("expires_delta", "expires_unix")

    expires_unix: int | None
    expires_delta: int | None

    @classmethod
    def until(cls, text: str, ttl: float | None, now: float) -> Packed:
        """Return a text that goes ``ttl`` seconds after ``now``."""
        packed = cls(text)
        if ttl is not None and ttl > _FOR_EVER:
            ttl = None
        packed.expires_delta = None if ttl is None else int(ttl) + 1
        packed.expires_unix = None if ttl is None else int(now + ttl) + 1
        return packed


class Store:
    """One place for packed entries. Every method may raise anything; the guard in front takes it.

    Attributes:
        where: What messages call it.
        slowest: Seconds that one use of it may take, at the most.
    """

    where = "the memory"
    slowest = 0.0

    def get(self, row: str) -> str | bytes | None:
        """Return an entry, None where there is none."""
        raise NotImplementedError

    def put(self, row: str, packed: Packed, now: float) -> None:
        """Keep an entry, and let go of the oldest ones above the bounds.

        Args:
            row: Its name.
            packed: The entry.
            now: Wall-clock instant.
        """
        raise NotImplementedError

    def clear(self) -> None:
        """Forget all entries."""
        raise NotImplementedError

    def reason(self, error: Exception) -> str:
        """Say what failed; no key, prompt or reply may stand in it."""
        return str(error) if isinstance(error, ConfigurationError) else type(error).__name__

    def reopen(self) -> None:
        """Let go of connections; the next use makes new ones."""

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands."""
        return []

    def start_over(self) -> None:
        """Go on in a forked child, without the parent's connections."""


class MemoryStore(Store):
    """Entries in this process. Safe from any thread.

    Args:
        most: Most entries.
        most_bytes: Most characters of all entries together.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._entries: dict[str, Packed] = {}
        self._size = 0

    def get(self, row: str) -> str | None:
        return self._entries.get(row)

    def put(self, row: str, packed: Packed, now: float) -> None:
        with self._lock:
            self._forget(row)
            self._entries[row] = packed
            self._size += len(packed)
            while len(self._entries) > self._most or self._size > self._most_bytes:
                self._forget(next(iter(self._entries)))

    def _forget(self, row: str) -> None:
        gone = self._entries.pop(row, None)
        if gone is not None:
            self._size -= len(gone)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._size = 0

    def locks(self) -> list[Any]:
        return [self._lock]

    def start_over(self) -> None:
        self._lock = threading.Lock()
        self._size = sum(map(len, self._entries.values()))


class MappingStore(Store):
    """Entries in a mapping that keeps to its own bounds: Redis, or one of the user's.

    Args:
        make: Makes it, at first use, in a forked child and after a failure.
        where: What messages call it.
        slowest: Seconds that one use of it may take.
        reason: Says what failed; None for the error's class alone.
    """

    def __init__(
        self,
        make: Callable[[], MutableMapping[str, Any]],
        *,
        where: str,
        slowest: float,
        reason: Callable[[Exception], str] | None = None,
    ) -> None:
        self.where, self.slowest = where, slowest
        self._make = make
        self._reason = reason
        self._lock = threading.Lock()
        self._made: MutableMapping[str, Any] | None = None

    def _mapping(self) -> MutableMapping[str, Any]:
        made = self._made
        if made is None:
            if not self._lock.acquire(timeout=self.slowest):
                raise TimeoutError("it takes long to open")
            try:
                made = self._made = self._checked() if self._made is None else self._made
            finally:
                self._lock.release()
        return made

    def _checked(self) -> MutableMapping[str, Any]:
        made = self._make()
        # The backends of requests-cache would pickle, and unpickle whatever they find.
        if getattr(made, "serializer", None) is not None:
            raise ConfigurationError("a backend of requests-cache has to have serializer=None")
        return made

    def get(self, row: str) -> str | bytes | None:
        try:
            found: str | bytes | None = self._mapping()[row]
        except KeyError:
            return None
        return found

    def put(self, row: str, packed: Packed, now: float) -> None:
        self._mapping()[row] = packed

    def clear(self) -> None:
        self._mapping().clear()

    def reason(self, error: Exception) -> str:
        return super().reason(error) if self._reason is None else self._reason(error)

    def reopen(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        close = getattr(made, "close", None)
        if close is not None:
            close()

    def locks(self) -> list[Any]:
        return [self._lock]

    def start_over(self) -> None:
        self._lock = threading.Lock()
        self._made = None


class Guard:
    """Uses a store for calls: in bounded time, and with a warning where it fails.

    Args:
        store: The store.
        clock: Time.

    Attributes:
        store: The store.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self._clock = clock
        self._closed = False
        self._rests_until = self._keeps_from = -float("inf")
        self._warns_from = -float("inf")

    def may(self, end: float, *, keep: bool = False) -> bool:
        """Tell whether the store may be used by a call that ends at an instant.

        Args:
            end: The instant.
            keep: Whether it is to be written to.
        """
        now = self._clock.monotonic()
        rests_until = max(self._rests_until, self._keeps_from) if keep else self._rests_until
        return not self._closed and now >= rests_until and now + self.store.slowest < end

    def use(self, act: Callable[[], T], *, keep: bool = False) -> tuple[bool, T | None]:
        """Use the store; returns whether it failed, and what came.

        Args:
            act: What is done.
            keep: Whether it writes: where that fails, what is there may still be read.
        """
        try:
            return False, act()
        except Exception as error:
            until = self._clock.monotonic() + _REST_SECONDS
            if keep:
                self._keeps_from = until
            else:
                self._rests_until = until
            self.warn(f"{self.store.where} failed ({self._said(error)})")
            try:
                self.store.reopen()
            except Exception as again:
                log.debug("The cache's store could not be closed: %s", type(again).__name__)
            return True, None

    def _said(self, error: Exception) -> str:
        return " ".join(self.store.reason(error).split())[:_LONGEST_REASON]

    def warn(self, what: str) -> None:
        """Log what is wrong, once in a while."""
        now = self._clock.monotonic()
        if now >= self._warns_from:
            self._warns_from = now + _WARN_SECONDS
            log.warning("Cache: %s; calls are made as if there were none", what)

    def close(self) -> None:
        """Let go of the store, for good."""
        self._closed = True
        self.use(self.store.reopen)


def default_path() -> Path:
    """Return the file that replies are kept in where none is named: in the user's caches.

    Raises:
        ConfigurationError: There is no home directory.
    """
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    named = "" if sys.platform == "darwin" else os.environ.get(variable, "")
    try:
        if os.path.isabs(named):
            base = Path(named)
        elif sys.platform == "win32":
            base = Path.home() / "AppData" / "Local"
        else:
            base = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    except RuntimeError:
        raise ConfigurationError(
            "The cache has no place: there is no home directory. Name one by Cache(store=...)."
        ) from None
    return base / "termai_http" / "replies.sqlite"
