"""Faults of reuse, sending and headers (F16 to F30)."""

from __future__ import annotations
