"""The whole catalogue: importing this enters every row."""

from __future__ import annotations

from . import (
    rows_answer,
    rows_body,
    rows_connect,
    rows_exchange,
    rows_keys,
    rows_pool,
    rows_process,
    rows_stream,
)
from .harness import rows

__all__ = [
    "rows",
    "rows_answer",
    "rows_body",
    "rows_connect",
    "rows_exchange",
    "rows_keys",
    "rows_pool",
    "rows_process",
    "rows_stream",
]
