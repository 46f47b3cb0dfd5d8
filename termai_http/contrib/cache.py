"""A cache of replies: what was asked before is answered without a call.

``HttpClientConfig(layers=(Cache(),))`` switches it on for a client, ``layers=(Cache(),)`` for one
call. Needs the extra: ``pip install "termai-http[cache]"``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias
from urllib.parse import urlsplit

import attrs

from .._call import Clock
from .._importing import importing
from .._numbers import is_number, is_whole
from .._values import Value
from ..errors import ConfigurationError
from ..layers import Layer
from ._cache_layer import BuiltCache, CacheStats, live
from ._cache_store import MappingStore, MemoryStore, Store, default_path

if TYPE_CHECKING:
    from ..config import HttpClientConfig

__all__ = ["Cache", "CacheStats"]

_MEMORY = "memory"
_REDIS = ("redis://", "rediss://", "unix://")
_NAMESPACE = re.compile(r"[A-Za-z0-9_]{1,64}")
_NEEDS = 'The cache needs the extra: pip install "termai-http[cache]".'
_NEEDS_REDIS = 'A cache in Redis needs its client: pip install "termai-http[cache]" redis.'

Place: TypeAlias = "str | Callable[[], MutableMapping[str, Any]] | None"


def _as_place(
    store: str | os.PathLike[str] | Callable[[], MutableMapping[str, Any]] | None,
) -> Place:
    return os.fspath(store) if isinstance(store, os.PathLike) else store


def _is_url(store: object) -> bool:
    return isinstance(store, str) and store.startswith(_REDIS)


def _shown(store: Any) -> str:
    """Show a store without the user and password of its URL."""
    if not _is_url(store):
        return repr(store)
    parts = urlsplit(store)
    return repr(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _check_url(store: str) -> None:
    if not _is_url(store):
        raise ConfigurationError("Cache(store=...) takes URLs of Redis only.")
    try:
        parts = urlsplit(store)
        whole = bool(parts.path) if parts.scheme == "unix" else parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        # It is not shown: it may hold a password.
        raise ConfigurationError(
            "Cache(store=...) must be a whole URL, such as redis://localhost:6379/0."
        )


def _check_place(instance: Any, attribute: attrs.Attribute[Any], store: Any) -> None:
    if store is None or callable(store) or (isinstance(store, str) and store and "\0" not in store):
        if isinstance(store, str) and "://" in store:
            _check_url(store)
        return
    raise ConfigurationError(
        'store must be a path, "memory", a URL of Redis, a callable that makes a mapping, or None, '
        f"not {type(store).__name__}."
    )


def _check_seconds(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if (value is None and attribute.name == "ttl") or (is_number(value) and value > 0):
        return
    raise ConfigurationError(
        f"{attribute.name} must be a number of seconds above 0"
        + ", or None" * (attribute.name == "ttl")
        + f", not {value!r}."
    )


def _check_count(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not is_whole(value, 1):
        raise ConfigurationError(
            f"{attribute.name} must be a whole number of at least 1, not {value!r}."
        )


def _check_namespace(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        raise ConfigurationError(
            f"namespace must be 1 to 64 letters, digits and underscores, not {value!r}."
        )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Cache(Value, Layer):
    """Keeps complete, good replies, and answers equal calls by them: chats, embeddings, counts.

    Equal are calls whose vendor, URL, query, headers, body and API key are equal. Equal calls at
    the same time make one, but for streams. Whatever is wrong with the store, the call is made.

    Args:
        store: Where replies are kept. None: an SQLite file in the user's folder for caches. A path:
            that SQLite file. ``"memory"``: this client, which forgets them when it ends.
            ``"redis://..."`` (also ``rediss://``, ``unix://``): Redis. Or a callable that makes a
            mapping of text by text, as one of requests-cache's backends with ``serializer=None``.
        ttl: Seconds for which a reply is good; None for ever.
        max_entries: Most replies; the oldest are deleted first. Not for Redis and mappings.
        max_bytes: Most bytes of all replies together; the oldest are deleted first. Not for Redis
            and mappings.
        max_entry_bytes: A longer reply is not kept.
        store_timeout: Seconds that one use of the store may take at the most; a call with less time
            left does without it.
        namespace: Letters, digits and underscores; replies of one are never given in another.

    Raises:
        ConfigurationError: A value is wrong.
    """

    name: ClassVar[str] = "cache"

    store: Place = attrs.field(
        default=None, converter=_as_place, validator=_check_place, repr=_shown
    )
    ttl: float | None = attrs.field(default=86400.0, validator=_check_seconds)
    max_entries: int = attrs.field(default=10_000, validator=_check_count)
    max_bytes: int = attrs.field(default=256 * 1024 * 1024, validator=_check_count)
    max_entry_bytes: int = attrs.field(default=4 * 1024 * 1024, validator=_check_count)
    store_timeout: float = attrs.field(default=1.0, validator=_check_seconds)
    namespace: str = attrs.field(default="termai_http", validator=_check_namespace)

    @property
    def path(self) -> Path | None:
        """The SQLite file that replies are kept in; None where they are elsewhere.

        Raises:
            ConfigurationError: It would be in a home directory, and there is none.
        """
        if callable(self.store) or self.store == _MEMORY or _is_url(self.store):
            return None
        if self.store is None:
            return default_path()
        try:
            return Path(self.store).expanduser().absolute()
        except RuntimeError:
            raise ConfigurationError(f"There is no home directory for {self.store!r}.") from None

    def build(self, config: HttpClientConfig, clock: Clock) -> BuiltCache:
        """Make a client's own layer of it; nothing is opened before the first call.

        Args:
            config: The client's configuration.
            clock: Time.

        Raises:
            ConfigurationError: An extra is missing, or there is no home directory to keep it in.
        """
        # A gateway may know its tenants by them, and not by a key.
        who = [self.namespace, config.client_cert, config.proxies]
        return BuiltCache(
            self._open(),
            clock,
            ttl=self.ttl,
            most_entry=self.max_entry_bytes,
            more=who,
            description=self,
        )

    def _open(self) -> Store:
        store, seconds = self.store, self.store_timeout
        if store == _MEMORY:
            return MemoryStore(self.max_entries, self.max_bytes)
        if callable(store):
            return MappingStore(store, where="the store", slowest=seconds)
        if isinstance(store, str) and _is_url(store):
            return _redis(store, f"{self.namespace}:cache", seconds)
        path = self.path
        assert path is not None
        with importing():
            try:
                from ._cache_sqlite import SQLiteStore
            except ImportError:
                raise ConfigurationError(_NEEDS) from None
        return SQLiteStore(
            path,
            self.namespace,
            most=self.max_entries,
            most_bytes=self.max_bytes,
            seconds=seconds,
        )

    def clear(self) -> None:
        """Delete all replies of its namespace, from the file or server, or from this process.

        Safe from any thread and beside running calls, which may keep new ones.

        Raises:
            ConfigurationError: The store cannot be opened, or does not delete them.
        """
        if self.store == _MEMORY:
            for built in live():
                if built.description == self:
                    built.store.clear()
            return
        store = self._open()
        try:
            store.clear()
        except Exception as error:
            raise ConfigurationError(
                f"The cache cannot be cleared: {store.where} failed ({store.reason(error)})."
            ) from None
        finally:
            store.reopen()


def _redis(url: str, namespace: str, seconds: float) -> Store:
    with importing():
        try:
            from ._cache_redis import redis_store
        except ImportError:
            raise ConfigurationError(_NEEDS_REDIS) from None
    return redis_store(url, namespace, seconds)
