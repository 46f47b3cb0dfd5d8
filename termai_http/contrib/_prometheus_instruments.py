"""Instruments of prometheus_client, those of one registry shared by all, fed by events."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from .._fork import take_part
from .._importing import importing
from ..errors import ConfigurationError
from ._prometheus_counting import Counting
from ._prometheus_table import TABLE, Instrument

if TYPE_CHECKING:
    from types import ModuleType

    from .._events import Event

__all__ = ["Instruments", "instruments_of", "multiprocess_folder", "prometheus_client"]


def prometheus_client() -> ModuleType:
    """Return the library.

    Raises:
        ConfigurationError: The extra is missing.
    """
    try:
        with importing():
            import prometheus_client
    except ImportError as error:
        raise ConfigurationError(
            'Prometheus needs prometheus_client: pip install "termai-http[prometheus]".'
        ) from error
    return prometheus_client


def multiprocess_folder() -> str | None:
    """Return where many processes put their figures together; None where each has its own."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR") or None


class Instruments:
    """The instruments of one registry under one namespace. Safe from any thread.

    However many listen with them, an event counts once.

    Args:
        library: ``prometheus_client``.
        registry: The ``CollectorRegistry``.
        namespace: What every name begins with.

    Raises:
        ConfigurationError: The names are taken, or the folder of many processes is not there.
    """

    def __init__(self, library: ModuleType, registry: Any, namespace: str) -> None:
        self._made = _made(library, registry, namespace)
        self._begin()
        take_part(self)

    def _begin(self) -> None:
        # Reentrant, as a signal may come while something is counted and its handler make a call;
        # what that tells is counted after it, since the library's own locks are not reentrant.
        self._lock = threading.RLock()
        self._busy = False
        self._later: deque[Event] = deque()
        self._known: dict[int, weakref.ref[Event]] = {}
        self._counting = Counting(self._made)

    def hear(self, event: Event) -> None:
        """Count an event, unless this one was counted already."""
        if self._is_known(event):
            return
        with self._lock:
            self._later.append(event)
            if self._busy:
                return
            self._busy = True
            try:
                while self._later:
                    self._counting.count(self._later.popleft())
            finally:
                self._busy = False

    def _is_known(self, event: Event) -> bool:
        """Tell whether another one of ours handed the same record on.

        It is known for as long as it lives, whatever happens meanwhile: a listener between two of
        ours may itself make calls.
        """
        known, number = self._known, id(event)
        if number in known:
            return True
        known[number] = weakref.ref(event, lambda ref: known.pop(number, None))
        return False

    def locks(self) -> list[Any]:
        """Return the lock that a fork takes, so that no instrument is half way then."""
        return [self._lock]

    def start_over(self) -> None:
        """Begin at zero in a forked child: what its parent did, its parent shows."""
        if multiprocess_folder() is None:
            for metric in self._made.values():
                # A scrape may have held it when another thread forked.
                metric._lock = threading.Lock()
                metric.clear()
        # Else the library turns to the child's own files by itself.
        self._begin()


def _check_folder(library: ModuleType) -> None:
    folder = multiprocess_folder()
    if folder is None:
        return
    if not os.path.isdir(folder):
        raise ConfigurationError(f"PROMETHEUS_MULTIPROC_DIR names no folder: {folder!r}.")
    if not getattr(library.values.ValueClass, "_multiprocess", True):
        raise ConfigurationError(
            "PROMETHEUS_MULTIPROC_DIR was set after prometheus_client was imported; set it in the "
            "environment that the server starts with."
        )


def _made(library: ModuleType, registry: Any, namespace: str) -> dict[str, Any]:
    _check_folder(library)
    made: dict[str, Any] = {}
    try:
        for name, instrument in TABLE.items():
            made[name] = _make(library, instrument, name, namespace=namespace, registry=registry)
    except ValueError as error:
        for metric in made.values():
            registry.unregister(metric)
        raise ConfigurationError(
            f"The registry has a metric {namespace}_{name} of somebody else's already; give "
            "Prometheus(namespace=...) another name."
        ) from error
    return made


def _make(library: ModuleType, instrument: Instrument, name: str, **where: Any) -> Any:
    arguments: tuple[Any, ...] = (name, instrument.text, instrument.labels)
    if instrument.kind == "counter":
        return library.Counter(*arguments, unit=instrument.unit, **where)
    if instrument.kind == "gauge":
        # Of processes that are gone, nothing is in use any more.
        return library.Gauge(*arguments, multiprocess_mode="livesum", **where)
    return library.Histogram(*arguments, unit=instrument.unit, buckets=instrument.buckets, **where)


class _Shared:
    """The instruments that were made, by registry and namespace."""

    def __init__(self) -> None:
        self.of: weakref.WeakKeyDictionary[Any, dict[str, Instruments]] = (
            weakref.WeakKeyDictionary()
        )
        self.start_over()
        take_part(self)

    def locks(self) -> list[Any]:
        """Return the lock around their making."""
        return [self.lock]

    def start_over(self) -> None:
        """Take a new lock in a forked child."""
        self.lock = threading.Lock()


_shared = _Shared()


def instruments_of(registry: Any, namespace: str) -> Instruments:
    """Return the instruments of a registry, made where they are not there.

    Raises:
        ConfigurationError: As ``Instruments``.
    """
    found = _shared.of.get(registry, {}).get(namespace)
    if found is not None:
        return found
    # Before the lock: a fork takes that after the one around imports.
    library = prometheus_client()
    with _shared.lock:
        under = _shared.of.setdefault(registry, {})
        if namespace not in under:
            under[namespace] = Instruments(library, registry, namespace)
        return under[namespace]
