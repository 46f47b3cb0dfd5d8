"""Faults of keys and environment (F79 to F88)."""

from __future__ import annotations
