"""An import loads what it needs and no more, and loses nothing by it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import termai_http
from termai_http import Client, HttpClientConfig, RetryConfig, events

ROOT = Path(termai_http.__file__).parents[1]
PATIENCE = 60.0

FACE = "from termai_http import chat, stream, client"
CONFIG = "from termai_http import HttpClientConfig"
SESSION = "import termai_http; termai_http.client().session"

# Libraries that need time, by the import that shall not load them.
SLOW = {
    *("attr", "attrs", "asyncio", "backoff", "email", "http", "inspect", "json", "requests"),
    *("socket", "ssl", "typing", "urllib3"),
}
NEVER = {"asyncio", "backoff", "difflib", "unittest", "multiprocessing"}
UNUSED = {
    *("_client_queries._queries", "_conversation", "_events", "_handler", "_log_events"),
    *("_queries", "_output"),
    *("_query_models", "_query_replies", "_schemas", "_socks", "_tool_loop", "_tool_run", "_tools"),
    *("claude", "cli", "dialects.claude_messages", "dialects.openai_responses", "openai"),
    "testing",
}
# An import, the libraries that it stands on, what it must leave out, and the most modules beside.
CASES = {
    "face": (FACE, "import logging", SLOW, 14),
    "config": (CONFIG, "import attrs, logging", NEVER | {"requests", "socket", "ssl"}, 12),
    "session": (SESSION, "import attrs, requests", NEVER, 80),
}


def run(code: str, *options: str) -> str:
    """Run code in a fresh interpreter that knows where this one's packages are, and no more."""
    # No file of the site's, of an editable install for one, may load anything before the code.
    prefix = f"import sys; sys.path[:] = {[str(ROOT), *sys.path]!r}\n"
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", *options, "-c", prefix + code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={name: value for name, value in os.environ.items() if name not in names},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def loaded_by(code: str) -> set[str]:
    """Return the modules that are there after some code and not before it."""
    text = run(f"before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))")
    return set(text.split())


@pytest.mark.parametrize("case", CASES)
def test_an_import_leaves_out_what_it_does_not_need(case: str) -> None:
    """No library is loaded before something needs it, and no module of ours that has no part."""
    code, _, absent, _ = CASES[case]
    loaded = loaded_by(code)
    assert loaded & absent == set()
    assert loaded & {f"termai_http.{name}" for name in UNUSED} == set()


@pytest.mark.parametrize("case", CASES)
def test_an_import_loads_few_modules(case: str) -> None:
    """What it loads beyond the libraries it stands on is bounded."""
    code, libraries, _, most = CASES[case]
    loaded = loaded_by(code) - loaded_by(libraries)
    assert len(loaded) <= most, sorted(loaded)


def test_every_name_is_there_before_it_is_loaded() -> None:
    """``dir()`` tells all public names after an import that loaded none of what they stand for."""
    code = f"{FACE}\nimport termai_http as t\nassert set(t.__all__) <= set(dir(t))\n"
    assert run(code + "print('attr' in sys.modules)") == "False"


def test_a_function_of_the_face_stays_the_same_object() -> None:
    """The first call's imports and those of all submodules put nothing in its place."""
    code = (
        f"{FACE}, close, stats\n"
        "import termai_http as t, termai_http._client, termai_http.cli, termai_http.openai\n"
        "client().session; stats(); close()\n"
        "print(chat is t.chat, stream is t.stream, client is t.client, callable(t.client))"
    )
    assert run(code) == "True True True True"


FUNCTIONS = [name for name in termai_http.__all__ if inspect.isfunction(getattr(termai_http, name))]


@pytest.mark.parametrize("name", ["chat", "stream", "run_tools", "embed", "count_tokens"])
def test_a_function_of_the_face_has_the_signature_of_the_clients_method(name: str) -> None:
    """Editors and ``help()`` see every parameter, its default and its annotation."""
    face = inspect.signature(getattr(termai_http, name)).parameters
    method = inspect.signature(getattr(Client, name)).parameters
    assert str(face["client"]) == "client: 'Client | None' = None"
    assert [str(one) for one in face.values() if one.name != "client"] == [
        str(one) for one in method.values() if one.name != "self"
    ]
    assert (getattr(termai_http, name).__doc__ or "").count("\n") > 5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_annotations_can_be_read_before_anything_was_loaded(name: str) -> None:
    """Whoever evaluates a signature of the face gets the classes, loaded by that."""
    code = (
        f"import inspect\nfrom termai_http import {name}\n"
        "assert 'termai_http.models' not in sys.modules\n"
        f"print(inspect.signature({name}, eval_str=True).return_annotation)"
    )
    assert run(code)


def test_type_hints_are_those_of_the_real_classes() -> None:
    """``typing.get_type_hints`` resolves what a face's or a client's module never imports."""
    hints = typing.get_type_hints(termai_http.embed)
    assert hints["client"] == Client | None
    assert hints["retry"] == RetryConfig | None
    assert hints["texts"] == str | Sequence[str]
    assert hints["extra_body"] == Mapping[str, Any] | None
    assert typing.get_type_hints(termai_http.initialize) == {
        "config": HttpClientConfig,
        "return": Client,
    }
    assert typing.get_type_hints(Client.listen)["listener"] == events.Listener


def test_events_are_there_once_they_are_asked_for() -> None:
    """``from termai_http.events import …`` and ``dir()`` know the events before they are made."""
    code = (
        "from termai_http import events\n"
        "assert set(events.__all__) <= set(dir(events))\n"
        "assert 'attr' not in sys.modules\n"
        "from termai_http.events import CallStarted, Event, Listener\n"
        "print(issubclass(CallStarted, Event), CallStarted is events.CallStarted)"
    )
    assert run(code) == "True True"
    with pytest.raises(AttributeError, match="no_such_event"):
        _ = events.no_such_event


FORKS_WITHIN = """
import os, signal, threading
from importlib.abc import MetaPathFinder
from termai_http import client

began, forking = threading.Event(), threading.Event()


class Slow(MetaPathFinder):
    # The first call's import goes on only when a fork is about to be made.
    def find_spec(self, name, path=None, target=None):
        if name == {late!r} and not began.is_set():
            began.set()
            assert forking.wait({patience})
        return None


sys.meta_path.insert(0, Slow())
# Handlers run in the reverse order of their registration: this one before ours.
os.register_at_fork(before=forking.set)
thread = threading.Thread(target=lambda: client().session)
thread.start()
assert began.wait({patience})
child = os.fork()
if not child:
    signal.alarm({patience})
    client().session
    os._exit(0 if {late!r} in sys.modules else 1)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    "late", ["termai_http._client", "attr", "termai_http.models", "requests", "ssl"]
)
def test_a_fork_during_the_first_call_waits_for_its_imports(late: str) -> None:
    """The child finds no half-done import and no lock of one, and can make its own first call."""
    code = FORKS_WITHIN.format(late=late, patience=30)
    # Python 3.12 warns of a fork in a process with threads, rightly.
    assert run(code, "-W", "ignore::DeprecationWarning") == "0"


def test_many_first_calls_load_once() -> None:
    """Threads that race for the first use get one client, and nobody a half-loaded module."""
    code = (
        "import json, threading\n"
        "from termai_http import client\n"
        "start, found = threading.Barrier(16), []\n"
        "def first():\n"
        "    start.wait()\n"
        "    found.append(client())\n"
        "threads = [threading.Thread(target=first) for _ in range(16)]\n"
        "for one in threads: one.start()\n"
        "for one in threads: one.join()\n"
        "print(json.dumps([len(found), len(set(map(id, found)))]))"
    )
    assert json.loads(run(code)) == [16, 1]
