"""The page: a Markdown page of its own, or the part of one in reStructuredText between marks."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import ssl
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ._measure import Bench, installed
from ._tables import Table

__all__ = ["machine", "missing", "write"]

_BEGIN = ".. begin of what ``python -m benchmarks --write`` measured"
_END = ".. end of what ``python -m benchmarks --write`` measured"
_WIDTH = 99
_PACKAGES = (
    "requests",
    "urllib3",
    "attrs",
    "httpx",
    "openai",
    "anthropic",
    "orjson",
)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine(bench: Bench) -> str:
    """Tell on what, with what and when it was measured."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES if _here(name)]
    return (
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}; "
        f"{', '.join(versions)}; upstream: {bench.upstream.name}; "
        f"{'the short form, ' if bench.quick else ''}"
        f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d}."
    )


def _here(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def missing() -> str:
    """Tell which clients are not here to be measured, "" where none is missing."""
    names = [name for name in ("httpx", "openai", "anthropic", "orjson") if not installed(name)]
    if not names:
        return ""
    return f"Left out, since not installed: {', '.join(names)} (benchmarks/requirements.txt)."


def _legend() -> str:
    return (
        "Medians of interleaved rounds, each client in a process of its own; behind ± stands half "
        "the range of the middle 80 % of the rounds. CPU is the client's, user and system. Ratios "
        "are those of medians. The JSON decoder is that of the standard library, except where a "
        "row names orjson. Clients are set up as their users do, the peers without retries. An MB "
        "is 2**20 bytes."
    )


def _markdown(tables: Sequence[Table], about: Sequence[str]) -> str:
    parts = ["# termai_http beside its peers", *about, *(table.markdown() for table in tables)]
    return "\n\n".join(parts) + "\n"


def _rst(tables: Sequence[Table], about: Sequence[str]) -> str:
    folded = [textwrap.fill(line, _WIDTH) for line in about]
    return "\n\n".join([_BEGIN, *folded, *(table.rst() for table in tables), _END])


def write(page: Path, tables: Sequence[Table], bench: Bench) -> None:
    """Write the tables.

    Args:
        page: Where to: ``.md`` is written whole; in ``.rst``, the part between two marks, which
            are put at the end of a page that has none.
        tables: What was measured.
        bench: With what.
    """
    about = [machine(bench), _legend(), *filter(None, [missing(), *bench.notes])]
    page.parent.mkdir(parents=True, exist_ok=True)
    if page.suffix != ".rst":
        page.write_text(_markdown(tables, about), "utf-8")
        return
    there = page.read_text("utf-8") if page.exists() else "Performance\n===========\n"
    before, _, rest = there.partition(_BEGIN)
    after = rest.partition(_END)[2]
    text = f"{before.rstrip()}\n\n{_rst(tables, about)}\n\n{after.lstrip()}"
    page.write_text(text.rstrip() + "\n", "utf-8")
