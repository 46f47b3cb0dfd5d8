"""Prometheus: what calls do, as counters, histograms and gauges of ``prometheus_client``.

``client().listen(Prometheus())`` counts the calls of a client, ``Prometheus().hear_all()`` those of
every client of the process. ``scrape()`` is the page that a Prometheus server reads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from .._importing import importing
from .._values import Value
from ..errors import ConfigurationError
from ..events import Listeners
from ..layers import BuiltLayer, Layer
from ._prometheus_instruments import instruments_of, multiprocess_folder, prometheus_client

if TYPE_CHECKING:
    from .._call import Clock
    from ..config import HttpClientConfig
    from ..events import Event
    from ._prometheus_instruments import Instruments

__all__ = ["Prometheus", "child_exit", "scrape"]

_NAMESPACE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _check_registry(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(getattr(value, "register", None)):
        raise ConfigurationError(
            f"registry must be a CollectorRegistry or None, not {type(value).__name__}."
        )


def _check_namespace(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or _NAMESPACE.fullmatch(value) is None:
        raise ConfigurationError(
            f"namespace must be letters, digits and underscores, not {value!r}."
        )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Prometheus(Value, Layer):
    """Counts what calls do in instruments of ``prometheus_client``.

    It is a listener, for ``client.listen()``, ``client.listening()`` and ``on_event=``, and a
    layer, for ``HttpClientConfig(layers=...)``; a layer counts the calls that go through it only.
    All of one registry and namespace share their instruments, and an event that reaches several of
    them counts once. Safe from any thread. A forked process begins at zero; with
    ``PROMETHEUS_MULTIPROC_DIR`` the figures of all processes are added up.

    Args:
        registry: The ``CollectorRegistry``; None means the library's own, ``REGISTRY``.
        namespace: What every name begins with.

    Raises:
        ConfigurationError: The extra is missing, the names are taken, or the folder of
            ``PROMETHEUS_MULTIPROC_DIR`` cannot be used.
    """

    name: ClassVar[str] = "prometheus"

    registry: Any = attrs.field(default=None, validator=_check_registry)
    namespace: str = attrs.field(default="termai_http", validator=_check_namespace)

    _instruments: Instruments = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        registry = prometheus_client().REGISTRY if self.registry is None else self.registry
        object.__setattr__(self, "_instruments", instruments_of(registry, self.namespace))

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.registry, self.namespace)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        self._instruments.hear(event)

    def hear_all(self) -> None:
        """Count the calls of every client of this process, of those made later, too.

        It cannot be undone, and a second time changes nothing.
        """
        if self not in Listeners._of_all:
            Listeners.hear_all(self)

    def build(self, config: HttpClientConfig, clock: Clock) -> BuiltLayer:
        """Make the layer of a client, which only hears."""
        return _Hearing(self._instruments)


def _remade(registry: Any, namespace: str) -> Prometheus:
    """Make it of a pickle: another process has instruments of its own."""
    return Prometheus(registry=registry, namespace=namespace)


class _Hearing(BuiltLayer):
    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def hear(self, event: Event) -> None:
        self._instruments.hear(event)


def scrape(accept: str = "", registry: Any = None) -> tuple[bytes, str]:
    """Return what a Prometheus server reads, for a page of your own.

    With ``PROMETHEUS_MULTIPROC_DIR`` it is the sum over all processes, whichever answers.

    Args:
        accept: The request's ``Accept`` header, which may ask for OpenMetrics.
        registry: The ``CollectorRegistry`` to show; None means the library's own. It plays no part
            where many processes are added up.

    Returns:
        The body, and its content type.

    Raises:
        ConfigurationError: The extra is missing, or ``PROMETHEUS_MULTIPROC_DIR`` names no folder.
    """
    library = prometheus_client()
    with importing():
        from prometheus_client import exposition
    shown = library.REGISTRY if registry is None else registry
    if multiprocess_folder() is not None:
        shown = _of_all_processes()
    encode, content_type = exposition.choose_encoder(accept)
    return encode(shown), content_type


def _of_all_processes() -> Any:
    library = prometheus_client()
    with importing():
        from prometheus_client import multiprocess
    registry = library.CollectorRegistry()
    try:
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigurationError(
            f"PROMETHEUS_MULTIPROC_DIR names no folder: {multiprocess_folder()!r}."
        ) from error
    return registry


def child_exit(server: Any, worker: Any) -> None:
    """Forget what a worker that is gone had in use: gunicorn's hook of this name.

    Write ``from termai_http.contrib.prometheus import child_exit`` in ``gunicorn.conf.py``.

    Args:
        server: Gunicorn's arbiter.
        worker: The worker, with its ``pid``.
    """
    if multiprocess_folder() is None:
        return
    prometheus_client()
    with importing():
        from prometheus_client import multiprocess
    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
