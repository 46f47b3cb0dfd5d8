"""``--fallback`` of ``termai-http chat`` and ``batch``, as a shell sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from termai_http.cli import main
from termai_http.cli._conversation import converse
from termai_http.errors import MissingKeyError
from termai_http.testing import Server, Status

MODELS = ["-m", "gpt-5.5", "--fallback", "gpt-5.5-mini", "--fallback", "claude-opus-5-5"]


@pytest.fixture
def server(termai_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server on which OpenAI is out of money."""
    monkeypatch.setenv("TERMAI_HTTP_MAX_RETRIES", "0")
    termai_server.fail_when(lambda one: Status(402) if one.dialect == "openai" else None)
    return termai_server


def why(server: Server, model: str, number: int) -> str:
    """Return what stderr says of a model that did not answer."""
    who = f"{model} at 127.0.0.1:{server.port}: QuotaExceededError 402"
    asked = f"(request id req_openai_{number:06})"
    return f"termai-http: {who} {asked}; then claude-opus-5-5 answered\n"


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_chat_says_who_failed_before(
    server: Server, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    """The answer goes to stdout; who failed, and who answered, to stderr."""
    assert main(["chat", "hello", *MODELS, stream]) == 0
    printed = capsys.readouterr()
    assert printed.out == "You said: hello\n"
    assert printed.err == why(server, "gpt-5.5", 1) + why(server, "gpt-5.5-mini", 2)
    assert len(server.requests) == 3


def test_json_has_those_who_failed(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a failed target, with its own figures; none where the first answered."""
    assert main(["chat", "hello", *MODELS, "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert [one["model"] for one in reply["fallbacks"]] == ["gpt-5.5", "gpt-5.5-mini"]
    assert reply["fallbacks"][0]["error"] == "QuotaExceededError"
    assert reply["model"] == "claude-opus-5-5"
    assert main(["chat", "hello", "-m", "claude-opus-5-5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fallbacks"] == []


def test_a_call_that_fails_everywhere_names_all(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line on stderr has the last error and those before it."""
    server.fail_when(lambda one: Status(529))
    assert main(["chat", "hello", *MODELS]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("termai-http: OverloadedError: ")
    assert printed.err.count("\n") == 1
    for model in ("gpt-5.5 at", "gpt-5.5-mini at", "claude claude-opus-5-5"):
        assert model in printed.err


def test_a_batch_falls_back(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line of the output says who failed before its answer."""
    lines, answers = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines.write_text('"one"\n"two"\n')
    assert main(["batch", str(lines), str(answers), *MODELS]) == 0
    found: list[Any] = [json.loads(line) for line in answers.read_text().splitlines()]
    assert sorted(one["text"] for one in found) == ["You said: one", "You said: two"]
    for one in found:
        assert [failed["model"] for failed in one["fallbacks"]] == ["gpt-5.5", "gpt-5.5-mini"]
    assert "2 answered" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["chat", "batch"])
def test_a_missing_key_of_a_fallback_is_wrong_usage(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """It is told before anything is sent."""
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    lines = tmp_path / "in.jsonl"
    lines.write_text('"one"\n')
    first = ["hello"] if command == "chat" else [str(lines), str(tmp_path / "out.jsonl")]
    assert main([command, *first, *MODELS]) == 2
    assert "No Claude key: Neither ANTHROPIC_API_KEY" in capsys.readouterr().err
    assert server.requests == []


def test_a_conversation_falls_back_and_tries_all_keys_first(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody types a question for nothing: the key of each model is looked up at the start."""
    said = iter(["hello"])

    def type_in(prompt: str) -> str:
        if (line := next(said, None)) is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", type_in)
    options = {"model": "gpt-5.5", "fallback": ["claude-opus-5-5"], "system": None}
    options |= dict.fromkeys(("max_tokens", "reasoning"))
    assert converse(options, streaming=True) == 0
    printed = capsys.readouterr()
    assert printed.out == "You said: hello\n"
    assert why(server, "gpt-5.5", 1) in printed.err
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(MissingKeyError, match=r"fallback\[0\] \(claude-opus-5-5\): No Claude key"):
        converse(options, streaming=True)
