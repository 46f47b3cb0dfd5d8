"""What an upstream tells once it runs."""

from __future__ import annotations

from collections.abc import Callable

import attrs

__all__ = ["Started"]


@attrs.frozen
class Started:
    """A server that listens.

    Attributes:
        plain: Its port.
        tls: Its port over TLS.
        connections: Returns how many connections it accepted so far.
    """

    plain: int
    tls: int
    connections: Callable[[], int]
