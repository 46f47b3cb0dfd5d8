"""What an answer's headers say of the limits it was counted against; pure."""

from __future__ import annotations

import datetime as dt
import email.utils
import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["KINDS", "LONGEST", "Reading", "read_limits", "seconds_of"]

# What can be limited. The first two are said by OpenAI and by Claude.
KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
# No limit that a client could wait for is longer, so a longer wait is a number gone wrong.
LONGEST = 86_400.0
# Index of the kind, and the names of its three headers.
_OPENAI = [
    (
        kind,
        f"x-ratelimit-limit-{name}",
        f"x-ratelimit-remaining-{name}",
        f"x-ratelimit-reset-{name}",
    )
    for kind, name in enumerate(KINDS[:2])
]
_CLAUDE = [
    (
        kind,
        f"anthropic-ratelimit-{name}-limit",
        f"anthropic-ratelimit-{name}-remaining",
        f"anthropic-ratelimit-{name}-reset",
    )
    for kind, name in enumerate(KINDS)
]
_MOST_DIGITS = 12
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ns|us|\xb5s|\u03bcs|ms|s|m|h|d)")
_PLAIN = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_UNITS = {"ns": 1e-9, "us": 1e-6, "\xb5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_UNITS |= {"h": 3600.0, "d": 86_400.0}
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,12}))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# Instants are rounded to seconds, so one that is just over is not yet nonsense.
_ROUNDING = 2.0


class Reading(NamedTuple):
    """One limit, as an answer told it.

    Attributes:
        kind: Index in ``KINDS``.
        limit: The most there can be, at least 1.
        remaining: What was left of it, from 0 to ``limit``.
        reset: Seconds until all of it is there again.
    """

    kind: int
    limit: int
    remaining: int
    reset: float


def read_limits(headers: Mapping[str, str], wall: float) -> tuple[Reading, ...]:
    """Read the limits that an answer tells; one with a part that is nonsense is left out.

    Args:
        headers: Response headers, found by their names in lower case.
        wall: Wall clock, seconds since the epoch; needed only where the answer has no ``Date``.
    """
    found: list[Reading] = []
    for kind, limit_name, remaining_name, reset_name in _OPENAI:
        limit = headers.get(limit_name)
        if limit is not None:
            reset = seconds_of(headers.get(reset_name, ""))
            _add(found, kind, limit, headers.get(remaining_name, ""), reset)
    if found:
        return tuple(found)
    for kind, limit_name, remaining_name, reset_name in _CLAUDE:
        limit = headers.get(limit_name)
        if limit is not None:
            reset = _until(headers.get(reset_name, ""), headers.get("date"), wall)
            _add(found, kind, limit, headers.get(remaining_name, ""), reset)
    return tuple(found)


def _add(found: list[Reading], kind: int, limit: str, remaining: str, reset: float | None) -> None:
    most, left = _whole(limit), _whole(remaining)
    if not most or left is None or left > most or reset is None or reset > LONGEST:
        return
    found.append(Reading(kind, most, left, reset))


def _until(text: str, date: str | None, wall: float) -> float | None:
    at = _instant(text)
    # By the server's own clock where it tells: ours may be minutes away from it.
    now = wall if date is None else _date(date) or wall
    return None if at is None or at < now - _ROUNDING else max(at - now, 0.0)


def _whole(text: str) -> int | None:
    stripped = text.strip(" \t")
    plain = stripped.isascii() and stripped.isdigit() and len(stripped) <= _MOST_DIGITS
    return int(stripped) if plain else None


def seconds_of(text: str) -> float | None:
    """Read a span: ``"6m0s"``, ``"120ms"``, or plain seconds; None for anything else."""
    stripped = text.strip(" \t")
    if match := _PART.fullmatch(stripped):
        return float(match[1]) * _UNITS[match[2]]
    if _PLAIN.fullmatch(stripped):
        return float(stripped)
    total, at = 0.0, 0
    while match := _PART.match(stripped, at):
        total += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    return total if at and at == len(stripped) else None


@functools.lru_cache(maxsize=256)
def _instant(text: str) -> float | None:
    """Read an instant of RFC 3339 as seconds since the epoch; None for anything else."""
    match = _INSTANT.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    zone = "+00:00" if match[3] in "Zz" else match[3]
    try:
        whole = dt.datetime.fromisoformat(match[1].upper() + zone)
        return whole.timestamp() + float(f"0.{match[2] or 0}")
    except (ArithmeticError, ValueError):
        return None


@functools.lru_cache(maxsize=64)
def _date(text: str) -> float | None:
    """Read a ``Date``; None for garbage, and for a date that no clock shows."""
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=dt.timezone.utc)
        return date.timestamp()
    except (ArithmeticError, IndexError, TypeError, ValueError):
        return None
