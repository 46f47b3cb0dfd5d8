"""Faults of answers: status, body, decoding (F31 to F52)."""

from __future__ import annotations
