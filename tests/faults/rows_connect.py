"""Faults of connecting and TLS (F01 to F15)."""

from __future__ import annotations

import termai_http

from .harness import Bench, closed_port, row


@row(
    "F01",
    fault="the connection is refused",
    promise="tried again after a jittered wait, since nothing was sent; then APIConnectionError",
)
def refused(bench: Bench) -> None:
    """Call a port that nobody listens on."""
    seen = bench.chat(f"http://127.0.0.1:{closed_port()}", timeout=5)
    seen.must_be("connection")
    if bench.ours:
        assert isinstance(seen.error, termai_http.APIConnectionError)
        assert seen.error.attempts == 3
        assert not seen.error.maybe_billed
