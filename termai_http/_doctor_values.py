"""What an examination finds, as frozen values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from ._values import Value

__all__ = ["Check", "all_is_well", "as_fields", "milliseconds"]

_STATES = ("ok", "warn", "fail", "skip")


def _check_state(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value not in _STATES:
        raise ValueError(f"state must be one of {', '.join(_STATES)}, not {value!r}")


def _check_advice(instance: Check, attribute: attrs.Attribute[Any], value: Any) -> None:
    if instance.state == "fail" and not value:
        raise ValueError(f"advice must not be empty where {instance.name} failed")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Check(Value):
    """One thing that was looked at. It never holds a key, a prompt or a proxy's login.

    Args:
        part: What it belongs to: ``"versions"``, ``"settings"``, or an endpoint, as
            ``"openai https://api.openai.com/v1"``.
        name: What was looked at, unique within its part.
        state: ``"ok"``; ``"warn"`` where something is odd but calls may work; ``"fail"`` where
            they cannot; ``"skip"`` where it was not looked at.
        what: What was found, one line.
        advice: What to do about it, one line; empty where nothing is to be done.
        seconds: How long it took; None where that says nothing.
    """

    part: str
    name: str
    state: str = attrs.field(validator=_check_state)
    what: str
    advice: str = attrs.field(default="", validator=_check_advice)
    seconds: float | None = None


def as_fields(check: Check) -> dict[str, Any]:
    """Return a check as a dict that JSON can take, seconds rounded to a tenth of a millisecond."""
    fields = attrs.asdict(check)
    if check.seconds is not None:
        fields["seconds"] = round(check.seconds, 4)
    return fields


def milliseconds(seconds: float) -> str:
    """Return a time as it is shown."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def all_is_well(checks: Iterable[Check]) -> bool:
    """Tell whether none of the checks failed."""
    return all(check.state != "fail" for check in checks)
