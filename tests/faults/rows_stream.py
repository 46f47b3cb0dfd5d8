"""Faults of streams (F53 to F59)."""

from __future__ import annotations
