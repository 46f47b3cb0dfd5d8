"""Layers: what a call, or each attempt of one, passes through on its way.

A ``Layer`` is a description, given in ``HttpClientConfig(layers=...)`` or for one call; each client
builds its own ``BuiltLayer`` from it, which has the state. In both places the first one is the
outermost. Those at hand are in ``termai_http.contrib``: ``cache``, ``breaker``, ``pacing``,
``tracing``.

What a layer is given and returns: a ``CallRequest``, and an ``Outcome``. Inside the package errors
are values: a layer that refuses returns ``Outcome(error=...)``, and raises nothing.
"""

from __future__ import annotations

from ._job import CallRequest, Outcome
from ._layer import BuiltLayer, Layer

__all__ = ["BuiltLayer", "CallRequest", "Layer", "Outcome"]
