"""Every example runs against the loopback server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from termai_http.testing import Server, Status

EXAMPLES = Path(__file__).parents[1] / "examples"
EXPECTED = {
    "circuit_breaker.py": [
        *("failed: InternalServerError", "refused at once, a probe in 0.", "3 requests reached"),
        *("You said: Hello", "the circuit is closed, and refused 1"),
    ],
    "cached_notebook.py": ["You said: Name three rivers.", "cache: False", "misses=2, stored=2"],
    "conversation.py": ["0 messages so far"],
    "cost.py": [
        "gpt-5.5: 20 tokens, $0.000275",
        "1 call of claude-opus-5-5: $0.000192",
        ", 0 calls of unknown cost",
    ],
    "dask_cluster.py": ["What is 99 squared? You said: What is 99", "100 asked, 0 failed"],
    "fallback.py": ["gpt-5.5 answered in", "You said: Name a colour."],
    "first_answer_wins.py": ["You said: Name a colour.", "0 connections in use"],
    "joblib_pool.py": ["What is 39 squared? You said: What is 39 squared?", "connections opened"],
    "multiprocessing_pool.py": ["You said: What is 39 squared?", "4 processes: True"],
    "notebook_cell.py": ["You said: Name three rivers.", "You said: Name a lake.", "1 opened"],
    "prometheus_metrics.py": [
        'requests_total{model="gpt-5.5",outcome="success",provider="openai"} 4.0',
        'requests_total{model="claude-opus-5-5",outcome="success",provider="claude"} 4.0',
    ],
    "pacing.py": ["40 answers", "0 refused", "0 waiting"],
    "process_pool.py": ["What is 39 squared? You said: What is 39 squared?"],
    "rollout.py": ["with the pool: 14 calls", "without: 6 calls", "7 connections opened"],
    "script.py": ["gpt-5.5: You said: Why is the sky blue?", "claude-opus-5-5: You said: Why"],
    "startup_configuration.py": ["You said: Say hello.", "timeout 45 s"],
    "streaming.py": ["gpt-5.5: You said: Tell me a story", "claude-opus-5-5: You said: Tell"],
    "thread_pool.py": ["What is 39 squared? You said: What is 39 squared?", "connections opened"],
    "tracing.py": ["You said: Why is the sky blue?", "  chat gpt-5.5: ", "    attempt: "],
    "tools.py": ["temperature(", "Advice(clothes=[", "2 replies"],
}


def run(code: str | Path, *arguments: str) -> str:
    """Run a script, or code, with the environment of the test; return what it printed."""
    how = [str(code)] if isinstance(code, Path) else ["-c", code]
    done = subprocess.run(
        [sys.executable, "-W", "error", *how, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_expected() -> None:
    """No example is left out of these tests."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*EXPECTED, "django_view.py"}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_prints_what_it_promises(
    name: str, termai_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example ends well and prints its replies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    printed = run(EXAMPLES / name)
    for part in EXPECTED[name]:
        assert part in printed
    assert len(termai_server.connections) <= 8


def test_the_metrics_show_calls_that_fail(termai_server: Server) -> None:
    """They are what a page of metrics is for: the script tells them and goes on."""
    termai_server.fail_when(lambda request: Status(402))
    printed = run(EXAMPLES / "prometheus_metrics.py")
    assert printed.count('requests_total{model="') == 2
    assert printed.count('outcome="QuotaExceededError"') >= 2


def test_a_conversation_is_kept_and_continued(termai_server: Server, tmp_path: Path) -> None:
    """What was said is there at the next start, and the file may not be anything else."""
    path = tmp_path / "talk.json"
    for said, before in (("Hello", 0), ("Again", 2)):
        done = talk(path, f"{said}\n\n")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{before} messages so far")
        assert f"You said: {said}\n" in done.stdout
    done = talk(EXAMPLES / "conversation.py", "Hello\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "conversation.py' is no JSON" in done.stderr
    done = talk(tmp_path / "missing" / "talk.json", "Hello\n")
    assert "You said: Hello\n" in done.stdout
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def talk(path: Path, said: str) -> subprocess.CompletedProcess[str]:
    """Run the conversation's example with some lines typed."""
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "conversation.py", path],
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
    )


def ask_django(body: str) -> tuple[int, dict[str, str], dict[str, str]]:
    """Post to the example's view in a fresh process; return status, headers and JSON."""
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "import django_view\n"
        "from django.test import Client\n"
        "answer = Client().post('/chat', sys.argv[2], content_type='application/json')\n"
        "print(json.dumps([answer.status_code, dict(answer.headers), answer.json()]))"
    )
    status, headers, content = json.loads(run(code, str(EXAMPLES), body))
    return status, headers, content


def test_the_django_view_answers(termai_server: Server) -> None:
    """The view answers a prompt, and a wrong body with 400."""
    status, _, content = ask_django(json.dumps({"prompt": "hello"}))
    assert (status, content["text"]) == (200, "You said: hello")
    assert ask_django("{}")[0] == 400
    assert ask_django(json.dumps({"prompt": ""}))[0] == 400
    assert len(termai_server.requests) == 1


def test_the_django_view_says_when_to_come_back(termai_server: Server) -> None:
    """A vendor that asks for a long wait becomes a 503 with Retry-After."""
    termai_server.script(Status(429, retry_after=600))
    status, headers, _ = ask_django(json.dumps({"prompt": "hello"}))
    assert (status, headers["Retry-After"]) == (503, "601")
