"""Runs the scripts of evidence, each in a process of its own, and keeps what they said."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import attrs

from tests.faults.harness import unmeasured

__all__ = ["EVIDENCE", "Evidence", "Seen", "play", "write"]

_ROOT = Path(__file__).resolve().parents[2]
_SHORT_SECONDS = 240.0
_FULL_SECONDS = 4 * 3600.0
_BEGIN, _END = ".. evidence: begin", ".. evidence: end"
_ROW = re.compile(r"   \* - ``(\w+)``\n     - (.*)\n")


@attrs.frozen(kw_only=True)
class Evidence:
    """One script.

    Attributes:
        full: Its arguments for all of it.
        short: Its arguments for a small part.
        strict: Whether a warning in it is an error.
    """

    full: tuple[str, ...] = ()
    short: tuple[str, ...] = ("--short",)
    strict: bool = True


EVIDENCE = {
    "threads": Evidence(),
    "dead": Evidence(),
    "forks": Evidence(),
    "torture": Evidence(),
    # An interrupt tears objects of the standard library apart, and those warn.
    "interrupts": Evidence(full=("--count", "10000"), short=("--count", "300"), strict=False),
    "soak": Evidence(),
    "fuzz": Evidence(),
}
"""The scripts by name, the quick ones first."""


@attrs.frozen(kw_only=True)
class Seen:
    """How a script ended.

    Attributes:
        code: Its exit code; None where it took too long and was ended.
        line: The last line it said.
        told: All that it told of what went wrong.
        seconds: How long it took.
    """

    code: int | None
    line: str
    told: str
    seconds: float

    @property
    def well(self) -> bool:
        """Whether everything was as it must be."""
        return self.code == 0


def play(name: str, *, short: bool) -> Seen:
    """Run a script to its end."""
    evidence = EVIDENCE[name]
    strictness = ("-W", "error") if evidence.strict else ()
    command = [sys.executable, *strictness, "-m", f"tests.evidence.{name}"]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            [*command, *(evidence.short if short else evidence.full)],
            cwd=_ROOT,
            env=unmeasured(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SHORT_SECONDS if short else _FULL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        told = expired.stderr.decode() if isinstance(expired.stderr, bytes) else ""
        return Seen(code=None, line="it hung", told=told, seconds=time.monotonic() - begun)
    lines = done.stdout.strip().splitlines() or ["it said nothing"]
    return Seen(
        code=done.returncode,
        line=lines[-1],
        told=done.stderr,
        seconds=time.monotonic() - begun,
    )


def write(path: Path, seen: dict[str, Seen]) -> None:
    """Put results into a page, between its two marks; those of other scripts stay."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{_BEGIN}\n")
    table, _, after = rest.partition(f"{_END}\n")
    lines = {**dict(_ROW.findall(table)), **{name: one.line for name, one in seen.items()}}
    rows = "".join(
        f"   * - ``{name}``\n     - {lines[name]}\n" for name in EVIDENCE if name in lines
    )
    machine = f"{platform.python_implementation()} {platform.python_version()}"
    path.write_text(
        f"{before}{_BEGIN}\n\n.. list-table:: {machine} on {platform.system()}\n"
        "   :header-rows: 1\n   :widths: 12 88\n\n   * - evidence\n     - what it said\n"
        f"{rows}\n{_END}\n{after}",
        encoding="utf-8",
    )
