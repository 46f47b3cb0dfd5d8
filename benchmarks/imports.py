"""What an import costs, in fresh processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import attrs

from ._measure import Bench, installed
from ._tables import Table, number, spread
from ._workers import PYTHON, environment

__all__ = ["BARE", "BOTH", "CONFIG", "CPU", "FACE", "FIRST", "IMPORT", "STATEMENTS", "imports"]

BARE, IMPORT, CPU = "bare Python", "import", "import: CPU"
FACE, CONFIG = "termai_http: chat, stream, client", "termai_http: HttpClientConfig"
FIRST, BOTH = "termai_http: first client made", "requests and attrs"
_MEMORY, _MODULES = "import: memory", "import: modules"
_SCRIPT = """
import site  # as every Python does, without the .pth files of an environment
import os, sys
sys.modules["orjson"] = None
sys.path.remove("")
from time import perf_counter, process_time
wall, cpu = perf_counter(), process_time()
{statement}
wall, cpu = perf_counter() - wall, process_time() - cpu
try:
    with open("/proc/self/statm") as file:
        memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
except OSError:
    memory = 0.0
print([wall, cpu, memory, len(sys.modules)])
"""


@attrs.frozen
class _Statement:
    """What is imported.

    Attributes:
        code: The statement.
        package: What has to be installed, "" where nothing has.
        quick: Whether the short form has it.
    """

    code: str
    package: str = ""
    quick: bool = True


STATEMENTS = {
    BARE: _Statement("pass"),
    "attrs": _Statement("import attrs"),
    "http.client, ssl, json": _Statement("import http.client, ssl, json", quick=False),
    "urllib3": _Statement("import urllib3", "urllib3", quick=False),
    "requests": _Statement("import requests"),
    BOTH: _Statement("import requests, attrs"),
    "httpx": _Statement("import httpx", "httpx"),
    "openai SDK": _Statement("from openai import OpenAI", "openai"),
    "anthropic SDK": _Statement("from anthropic import Anthropic", "anthropic", quick=False),
    FACE: _Statement("from termai_http import chat, stream, client"),
    CONFIG: _Statement("from termai_http import HttpClientConfig"),
    FIRST: _Statement("from termai_http import client\nclient()"),
    "termai_http: its session": _Statement(
        "from termai_http import client\nclient().session", quick=False
    ),
}


def _run(statement: _Statement) -> list[float]:
    done = subprocess.run(  # noqa: S603 - this interpreter, and code of our own
        [*PYTHON, "-c", _SCRIPT.format(statement=statement.code)],
        cwd=Path(__file__).parents[1],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer: list[float] = json.loads(done.stdout)
    return answer


def imports(bench: Bench) -> list[Table]:
    """Each statement in a fresh process, in turn."""
    chosen = {
        name: statement
        for name, statement in STATEMENTS.items()
        if installed(statement.package) and (statement.quick or not bench.quick)
    }
    for statement in chosen.values():
        # What was never compiled is compiled now, and the files come into the system's cache.
        _run(statement)
    seconds, least = (5, 3) if bench.quick else (30, 5)
    for turn in bench.rounds(list(chosen), seconds=seconds, least=least, most=15):
        for name in turn:
            measured = _run(chosen[name])
            for what, sample in zip((IMPORT, CPU, _MEMORY, _MODULES), measured, strict=True):
                bench.note(what, name, sample)
    rows = []
    for name in chosen:
        row = [name]
        row += spread(bench.figure(IMPORT, name), 1, 1e3)
        row += [number(bench.median(CPU, name), 1, 1e3), number(bench.median(_MEMORY, name), 1)]
        rows.append([*row, number(bench.median(_MODULES, name))])
    header = ["import", "ms beyond bare", "", "CPU ms", "resident MB", "modules"]
    return [Table("Import, in a fresh process, compiled before", header, rows)]
