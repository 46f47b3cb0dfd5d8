"""Faults of processes, threads, pool and signals (F60 to F78)."""

from __future__ import annotations
