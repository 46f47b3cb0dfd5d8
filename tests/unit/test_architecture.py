"""The house: imports point downward only, foreign libraries stay in their rooms, nothing grows."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import termai_http

ROOT = Path(termai_http.__file__).parent

# From the values at the bottom to the ways in at the top; a module imports lower levels only.
LEVELS = {
    "_version": 0,
    "_log": 0,
    "_values": 0,
    "_numbers": 0,
    "_frames": 0,
    "_importing": 0,
    "_schemas.words": 0,
    "_schemas.classes": 0,
    "_schemas.stand_ins": 0,
    "errors": 0,
    "_failed_target": 1,
    "_ambient": 1,
    "_markdown": 0,
    "_html": 1,
    "_json": 1,
    "_schemas.size": 1,
    "_schemas.of_msgspec": 1,
    "_secrets": 1,
    "_sse": 1,
    "_content": 1,
    "_specs": 1,
    "_variables": 1,
    "config": 2,
    "prices": 1,
    "_cost": 2,
    "_rollout": 1,
    "_tally": 1,
    "_stats_text": 0,
    "_described": 3,
    "_events": 1,
    "events": 2,
    "_log_events": 1,
    "_logging": 4,
    "models": 2,
    "metrics": 2,
    "_schemas": 0,
    "_schemas.strict": 2,
    "_options": 3,
    "_query_models": 3,
    "_conversation_json": 3,
    "_schemas.types": 3,
    "dialects": 3,
    "dialects._base": 3,
    "dialects._openai": 3,
    "dialects._errors": 3,
    "dialects._pieces": 3,
    "dialects._neutral": 3,
    "dialects._claude_rules": 3,
    "dialects._openai_responses_kinds": 3,
    "_query_replies": 4,
    "_tools": 4,
    "_tool_run": 3,
    "_tool_results": 4,
    "_tool_loop": 5,
    "_output": 4,
    "dialects._openai_chat_reply": 4,
    "dialects._openai_responses_reply": 4,
    "dialects._claude_reply": 4,
    "dialects._openai_chat_request": 4,
    "dialects._openai_responses_input": 4,
    "dialects._openai_responses_items": 4,
    "dialects._claude_options": 4,
    "dialects._claude_request": 4,
    "dialects._openai_chat_stream": 5,
    "dialects._openai_responses_request": 5,
    "dialects._openai_responses_stream": 5,
    "dialects._claude_stream": 5,
    "dialects.openai_chat": 6,
    "dialects.openai_responses": 6,
    "dialects.claude_messages": 6,
    "_target": 7,
    "_call": 8,
    "_in_flight": 9,
    "_sweeper": 9,
    "_budget": 9,
    "_lease": 9,
    "_openings": 10,
    "_slots": 10,
    "_answer_head": 0,
    "_route": 10,
    "_answer": 10,
    "_direct": 12,
    "_direct_check": 13,
    "_ordinary": 15,
    "_socket": 9,
    "_fork": 1,
    "_retry": 10,
    "_connection": 11,
    "_environment": 10,
    "_tls": 10,
    "_body": 10,
    "_policy": 11,
    "_job": 10,
    "_layering": 12,
    "_layer": 0,
    "layers": 11,
    "_idle": 11,
    "_mapping": 12,
    "_pool": 12,
    "_socks": 13,
    "_session": 14,
    "_open_body": 13,
    "_stock": 15,
    "_transport": 16,
    "_stream": 16,
    "_attempts": 17,
    "_ending": 17,
    "_core": 18,
    "_request": 19,
    "_fallback": 19,
    "_chat": 20,
    "_queries": 20,
    "_faces": 20,
    "_client_queries": 21,
    "_run_tools": 21,
    "_batch_window": 3,
    "_batch_progress": 9,
    "_batch_time": 20,
    "_batch_lines": 4,
    "_batch_targets": 8,
    "_batch_digest": 5,
    "_batch_places": 0,
    "_batch_file": 5,
    "_batch_proof": 6,
    "_batch_items": 20,
    "_batch_threads": 21,
    "_batch_task": 21,
    "_batch_plan": 22,
    "_batch_executor": 22,
    "_batch_work": 23,
    "batch": 24,
    "_client_batches": 25,
    "_client": 26,
    "_shared": 27,
    "_shared_queries": 28,
    "_shared_tools": 28,
    "_shared_batch": 28,
    "_handler": 28,
    "_adapter": 28,
    "openai": 29,
    "claude": 29,
    "_conversation": 29,
    "_doctor_values": 1,
    "_doctor_certificate": 2,
    "_doctor_advice": 8,
    "_doctor_probes": 27,
    "_doctor_setup": 27,
    "_doctor_call": 27,
    "_doctor": 28,
    "testing._checks": 0,
    "testing._events": 0,
    "testing._faults": 0,
    "testing._fitting": 0,
    "testing._foreign": 0,
    "testing._reading": 0,
    "testing._wire": 0,
    "testing._claude_turns": 1,
    "testing._models": 1,
    "testing._record": 1,
    "testing._replies": 1,
    "testing._strict": 1,
    "testing._tokens": 1,
    "testing._framing": 2,
    "testing._memory": 2,
    "testing._openai_checks": 2,
    "testing._turns": 2,
    "testing._claude": 3,
    "testing._claude_checks": 3,
    "testing._embeddings": 3,
    "testing._openai_chat": 3,
    "testing._openai_chat_checks": 3,
    "testing._openai_responses": 3,
    "testing._openai_responses_checks": 3,
    "testing._streaming": 3,
    "testing._answer": 4,
    "testing._play": 5,
    "testing._server": 6,
    "testing": 7,
    "contrib._prometheus_table": 1,
    "contrib._prometheus_counting": 0,
    "contrib._prometheus_instruments": 2,
    "contrib._circuit": 29,
    "contrib.breaker": 30,
    "contrib.prometheus": 29,
    "contrib._pacing_headers": 0,
    "contrib._pacing_ramp": 0,
    "contrib._pacing_tokens": 0,
    "contrib._pacing_meter": 1,
    "contrib._pacing_stats": 1,
    "contrib._pacing_lane": 2,
    "contrib._pacing_calm": 3,
    "contrib._pacing_limits": 11,
    "contrib._pacing_queue": 12,
    "contrib._pacing_layer": 28,
    "contrib.pacing": 29,
    "contrib._jupyter_line": 0,
    "contrib._jupyter_live": 2,
    "contrib._cache_key": 22,
    "contrib._cache_entry": 22,
    "contrib._cache_store": 22,
    "contrib._cache_stream": 23,
    "contrib._cache_flight": 24,
    "contrib._cache_sqlite": 23,
    "contrib._cache_redis": 23,
    "contrib._cache_layer": 29,
    "contrib.cache": 30,
    "contrib.jupyter": 30,
    "contrib._tracing_names": 0,
    "contrib._tracing_content": 3,
    "contrib._tracing_spans": 9,
    "contrib.tracing": 29,
    "": 30,
    "contrib": 31,
    "contrib.django": 31,
    "contrib.django.management": 31,
    "contrib.django.management.commands": 31,
    "contrib.django._plots": 31,
    "contrib.django.access": 31,
    "contrib.django.conf": 31,
    "contrib.django.status": 32,
    "contrib.django.status_access": 32,
    "contrib.django.streaming": 32,
    "contrib.django.middleware": 32,
    "contrib.django.checks": 33,
    "contrib.django.views": 33,
    "contrib.django.apps": 34,
    "contrib.django.urls": 34,
    "contrib.django.management.commands.termai_http_doctor": 34,
    "contrib.django.management.commands.termai_http_stats": 34,
    "testing.plugin": 31,
    "_demo": 31,
    "cli._common": 31,
    "cli._batch": 33,
    "cli._batch_input": 32,
    "cli._chat": 34,
    "cli._conversation": 33,
    "cli._demo": 32,
    "cli._doctor": 32,
    "cli._serve": 32,
    "cli._show": 32,
    "cli": 35,
    "__main__": 36,
}
FOREIGN = {
    "requests": {
        *("_environment", "_tls", "_mapping", "_session", "_stock", "_ordinary", "_transport"),
        "_direct_check",
    },
    "urllib3": {
        *("_policy", "_tls", "_answer", "_body", "_connection", "_mapping", "_pool", "_socket"),
        *("_socks", "_stock", "_ordinary", "_direct_check", "_idle"),
    },
    "backoff": {"_retry", "_policy"},
    "socks": {"_socks"},
    "asyncio": set(),
}
MOST_LINES = 400
MOST_FUNCTION_LINES = 40


def modules() -> dict[str, ast.Module]:
    """Parse every module of the package, by its name within it."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, leaving out what only type checkers read."""
    for child in ast.iter_child_nodes(tree):
        guard = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not guard:
            yield child
            yield from statements(child)


def imported(name: str) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports: a full module name, and whether it is one of ours."""
    package = name if (ROOT / Path(*name.split("."), "__init__.py")).exists() else None
    base = package if package is not None else name.rpartition(".")[0]
    for node in statements(MODULES[name]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, alias.name.split(".")[0] == "termai_http"
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module or "", (node.module or "").split(".")[0] == "termai_http"
                continue
            anchor = base
            for _ in range(node.level - 1):
                anchor = anchor.rpartition(".")[0]
            home = ".".join(filter(None, [anchor, node.module]))
            for alias in node.names:
                inner = ".".join(filter(None, [home, alias.name]))
                yield (inner if inner in MODULES else home), True


def ours(name: str) -> set[str]:
    """Return the modules of ours that a module imports."""
    return {
        target.removeprefix("termai_http").removeprefix(".")
        for target, own in imported(name)
        if own
    }


def test_every_module_has_a_level() -> None:
    """The table names exactly the modules there are."""
    assert set(MODULES) == set(LEVELS)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_downward(name: str) -> None:
    """A module imports lower levels only, inside functions too, so there can be no cycle."""
    upward = {target for target in ours(name) if LEVELS[target] >= LEVELS[name]}
    assert upward == set()


@pytest.mark.parametrize("library", sorted(FOREIGN))
def test_foreign_libraries_stay_in_their_modules(library: str) -> None:
    """Only the modules named may import requests, urllib3 or backoff, and none asyncio."""
    users = {
        name
        for name in MODULES
        for target, own in imported(name)
        if not own and target.split(".")[0] == library
    }
    assert users <= FOREIGN[library]


def test_backoff_is_imported_at_the_first_retry() -> None:
    """No module imports backoff, which pulls in asyncio, when it is loaded."""
    for name in FOREIGN["backoff"]:
        for node in MODULES[name].body:
            assert "backoff" not in ast.unparse(node).split("def ")[0] or not isinstance(
                node, (ast.Import, ast.ImportFrom)
            )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_and_functions_stay_short(name: str) -> None:
    """A module has at most 400 lines, a function at most 40 without its docstring."""
    tree = MODULES[name]
    assert max((node.end_lineno or 0 for node in tree.body), default=0) <= MOST_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            begin = first.end_lineno if documented else first.lineno - 1
            assert (node.end_lineno or 0) - (begin or 0) <= MOST_FUNCTION_LINES, node.name


def test_the_face_is_sorted_and_complete() -> None:
    """``__all__`` is sorted, and every name in it is there for use and for ``dir()``."""
    assert termai_http.__all__ == sorted(termai_http.__all__)
    assert set(termai_http.__all__) <= set(dir(termai_http))
    for name in termai_http.__all__:
        assert getattr(termai_http, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = termai_http.no_such_name


def test_the_vendors_modules_need_no_import_of_their_own() -> None:
    """``termai_http.openai.respond`` works as it is written, after ``import termai_http`` alone."""
    code = (
        "import termai_http as t\n"
        "assert {'claude', 'openai', 'testing'} <= set(dir(t))\n"
        "assert not {'Any', 'TYPE_CHECKING', 'import_module'} & set(dir(t))\n"
        "print(t.openai.respond.__name__, t.claude.chat.__name__, t.testing.Server.__name__)"
    )
    assert run(code) == "respond chat Server"


def test_an_error_class_is_never_forgotten_on_the_face() -> None:
    """Every public error class is a name of the face."""
    assert set(termai_http.errors.__all__) <= set(termai_http.__all__)


def run(code: str) -> str:
    """Run code in a fresh interpreter, warnings as errors, unmeasured: coverage loads modules."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    return done.stdout.strip()


def test_no_submodule_hides_a_public_name() -> None:
    """Every public name is the same object before and after all submodules were imported."""
    names = [name for name in MODULES if name and name not in ("__main__", "testing.plugin")]
    code = (
        "import importlib, termai_http as t\n"
        "before = {n: getattr(t, n) for n in t.__all__}\n"
        f"for m in {names!r}: importlib.import_module('termai_http.' + m)\n"
        "print([n for n in t.__all__ if getattr(t, n) is not before[n]])"
    )
    assert run(code) == "[]"


def test_an_import_loads_next_to_nothing() -> None:
    """``import termai_http`` loads no library, opens no socket and starts no thread."""
    code = (
        "import sys, threading, termai_http\n"
        "heavy = {'requests', 'urllib3', 'attr', 'asyncio', 'backoff', 'socket', 'ssl'}\n"
        "print(sorted(heavy & set(sys.modules)), threading.active_count())"
    )
    assert run(code) == "[] 1"


def test_the_plugin_loads_next_to_nothing() -> None:
    """The pytest plugin imports nothing of ours beyond the lazy face until it is used."""
    code = (
        "import sys, termai_http.testing.plugin\n"
        "print(sorted({'requests', 'urllib3', 'termai_http._client'} & set(sys.modules)))"
    )
    assert run(code) == "[]"


def test_a_call_without_a_retry_needs_no_asyncio() -> None:
    """A client with its session loads no asyncio; only backoff, at the first retry, does."""
    code = (
        "import sys, termai_http\n"
        "termai_http.client().session\n"
        "print({'asyncio', 'backoff'} & set(sys.modules))"
    )
    assert run(code) == "set()"


def test_every_test_says_what_it_tests() -> None:
    """Every test function has a docstring."""
    here = Path(__file__).parents[1]
    for path in here.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"
