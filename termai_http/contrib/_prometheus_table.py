"""The instruments of ``contrib.prometheus``, in one table: names, labels, buckets, help."""

from __future__ import annotations

import attrs

from .._values import Value

__all__ = ["TABLE", "Instrument"]

_WHO = ("provider", "model")
# Seconds. A refusal takes some milliseconds, a long answer with reasoning many minutes.
_CALL = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_CONNECT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WAIT = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Instrument(Value):
    """One instrument.

    Attributes:
        kind: ``"counter"``, ``"gauge"`` or ``"histogram"``.
        labels: Names of its labels; each has one, so that all can be cleared alike.
        text: Its help.
        unit: Its base unit, which its name ends with; ``""`` for a count.
        buckets: Upper bounds in seconds, of a histogram.
    """

    kind: str
    labels: tuple[str, ...]
    text: str
    unit: str = ""
    buckets: tuple[float, ...] = ()


def _counter(text: str, *labels: str, unit: str = "") -> Instrument:
    return Instrument(kind="counter", labels=labels, text=text, unit=unit)


def _gauge(text: str, *labels: str) -> Instrument:
    return Instrument(kind="gauge", labels=labels, text=text)


def _seconds(text: str, *labels: str, buckets: tuple[float, ...]) -> Instrument:
    return Instrument(kind="histogram", labels=labels, text=text, unit="seconds", buckets=buckets)


# By name without the namespace; a counter's gets ``_total`` where it is shown.
TABLE = {
    "requests": _counter("Calls that ended.", *_WHO, "outcome"),
    "request_duration_seconds": _seconds(
        "From the entry of a call to its end.", *_WHO, "outcome", buckets=_CALL
    ),
    "requests_in_flight": _gauge("Calls that run now.", *_WHO),
    "time_to_first_token_seconds": _seconds(
        "From the entry of a streamed call to the first part of its reply.", *_WHO, buckets=_CALL
    ),
    "attempts": _counter("HTTP exchanges that ended.", *_WHO, "outcome"),
    "retries": _counter("Attempts that were made again.", *_WHO, "cause"),
    "tokens": _counter("Tokens read and written.", *_WHO, "direction"),
    "cached_tokens": _counter("Tokens read that the vendor had in its own cache.", *_WHO),
    "reasoning_tokens": _counter("Tokens written that were reasoning.", *_WHO),
    "cost_dollars": _counter(
        "What calls cost, where prices are known, in US dollars.", *_WHO, unit="dollars"
    ),
    "pool_in_use": _gauge("Connections in use by calls.", "host"),
    "pool_wait_seconds": _seconds(
        "How long an attempt waited for a free slot.", "outcome", buckets=_WAIT
    ),
    "connections_opened": _counter("Connections that were opened.", "host"),
    "connections_reused": _counter("Attempts that took an idle connection.", "host"),
    "connections_closed": _counter("Connections that were closed.", "host", "reason"),
    "connect_duration_seconds": _seconds(
        "DNS, TCP, proxy and TLS of a connection.", "host", buckets=_CONNECT
    ),
    "circuit_state": _gauge("Circuits of a host that are in this state.", "host", "state"),
    "cache_hits": _counter("Calls answered from the cache.", *_WHO, "source"),
    "cache_misses": _counter("Calls that found nothing in the cache.", *_WHO),
    "pacing_wait_seconds": _seconds("How long an attempt was held back.", "why", buckets=_WAIT),
}
