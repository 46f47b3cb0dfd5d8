"""The command line, as a shell sees it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

import termai_http
from termai_http.cli import main
from termai_http.testing import CutAfter, RecordedRequest, Server, Silent, Status, Text

COMMAND = [sys.executable, "-m", "termai_http"]


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], input=text, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-opus-5-5"])
def test_chat_prints_the_answer(
    termai_server: Server, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    """The answer goes to stdout, and nothing else does."""
    assert main(["chat", "hello", "-m", model, "-s", "Be brief.", "--max-tokens", "9"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("You said: hello\n", "")
    assert "Be brief." in termai_server.requests[0].body.decode()


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_chat_reads_stdin(termai_server: Server, arguments: list[str]) -> None:
    """Without a prompt, or with a dash, the prompt comes from stdin."""
    done = run("chat", "-m", "gpt-5.5", *arguments, text="from a pipe")
    assert (done.returncode, done.stdout) == (0, "You said: from a pipe\n")


def test_chat_prints_json(termai_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the reply is one object on one line."""
    assert main(["chat", "hello", "-m", "gpt-5.5", "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert reply["text"] == "You said: hello"
    assert reply["attempts"] == 1
    assert reply["usage"]["output_tokens"] > 0


def test_a_failed_call_exits_1(termai_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal is one line on stderr with the request id, and never the key."""
    termai_server.script(Status(401))
    assert main(["chat", "hello", "-m", "gpt-5.5"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "AuthenticationError" in printed.err
    assert "req_openai_" in printed.err
    assert "sk-loopback" not in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat", "", "-m", "gpt-5.5"],
        ["chat", "hi"],
        ["chat", "hi", "-m", "gpt-5.5", "--timeout", "-1"],
        ["chat", "hi", "-m", "gpt-5.5", "--base-url", "http://example.com"],
    ],
)
def test_wrong_input_exits_2(
    termai_server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """What is wrong before anything is sent exits 2 and says so on stderr."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("termai-http: ")
    assert termai_server.requests == []


def test_no_key_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing key names the variable."""
    assert main(["chat", "hi", "-m", "gpt-5.5"]) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["chat", "--no-such-option"]])
def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Wrong usage shows how it is used."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: termai-http" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows examples, --version the version."""
    for arguments, part in (
        (["chat", "--help"], "examples:"),
        (["serve", "--help"], "--connect-delay"),
        (["demo", "--help"], "no key and no network"),
        (["--version"], termai_http.__version__),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert part in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_exits_130(termai_server: Server) -> None:
    """An interrupt ends a call that waits, with the shell's own code and no traceback."""
    arrived = threading.Event()

    def hold(request: RecordedRequest) -> Silent:
        arrived.set()
        return Silent()

    termai_server.fail_when(hold)
    process = subprocess.Popen(
        [*COMMAND, "chat", "hi", "-m", "gpt-5.5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test runner in the background passes its own "ignore" on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert arrived.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_a_reader_that_goes_away_is_no_failure(termai_server: Server) -> None:
    """A broken pipe ends the command quietly."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "chat", "hi", "-m", "gpt-5.5"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_serve_answers_both_dialects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines that ``serve`` prints work in another terminal, and an interrupt ends it well."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(3)]
    try:
        for line, model in zip(lines[1:], ("gpt-5.5", "claude-opus-5-5"), strict=True):
            for name, value in re.findall(r"([A-Z_]+)=(\S+)", line):
                monkeypatch.setenv(name, value)
            assert main(["chat", "hi", "-m", model]) == 0
            assert capsys.readouterr().out == "You said: hi\n"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        process.stderr.close()


def test_serve_says_that_a_port_is_taken(
    termai_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port in use is one line on stderr, and exit 1."""
    assert main(["serve", "--port", str(termai_server.port)]) == 1
    assert "cannot listen on port" in capsys.readouterr().err


def test_the_demo_shows_what_sharing_saves(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo prints both ways side by side; the shared client opens a connection a thread."""
    assert main(["demo"]) == 0
    printed = capsys.readouterr()
    rows = dict(re.findall(r"^(\w[\w ,]+?)  +([\d.]+\D*)  +[\d.]+.*$", printed.out, re.M))
    own, shared = map(int, re.findall(r"connections opened +(\d+) +(\d+)", printed.out)[0])
    assert own >= 256
    assert shared <= 32
    assert rows["failed calls"].strip() == "0"
    assert re.search(r"retries +32 +32", printed.out)
    assert "wait 30 ms" in printed.out
    assert "connections" in printed.err


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command with a terminal as its stdout; return its code and what it wrote."""
    import pty

    ours, its = pty.openpty()
    with subprocess.Popen([*COMMAND, *arguments], stdout=its, stderr=its) as process:
        os.close(its)
        pieces = []
        # Linux says EIO where the last one closed its side.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                pieces.append(piece.decode())
        os.close(ours)
    return process.returncode, "".join(pieces)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.parametrize(
    ("model", "options"),
    [("gpt-5.5", []), ("gpt-5.5", ["--api", "responses"]), ("claude-opus-5-5", [])],
)
def test_chat_streams_on_a_terminal(termai_server: Server, model: str, options: list[str]) -> None:
    """On a terminal the request asks for a stream, and the answer ends with a new line."""
    code, printed = on_a_terminal("chat", "hello", "-m", model, *options)
    assert (code, printed) == (0, "You said: hello\r\n")
    assert termai_server.requests[0].json["stream"] is True


@pytest.mark.parametrize("options", [["--no-stream"], ["--json"]])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_chat_waits_for_the_whole_where_told_to(termai_server: Server, options: list[str]) -> None:
    """With --no-stream, and for JSON, the whole reply is asked for on a terminal, too."""
    code, printed = on_a_terminal("chat", "hello", "-m", "gpt-5.5", *options)
    assert code == 0
    assert "You said: hello" in printed
    assert "stream" not in termai_server.requests[0].json


def test_chat_streams_into_a_pipe_where_told_to(
    termai_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --stream the answer is streamed wherever it goes."""
    assert main(["chat", "hello", "-m", "claude-opus-5-5", "--stream"]) == 0
    assert capsys.readouterr().out == "You said: hello\n"
    assert termai_server.requests[0].json["stream"] is True


def test_a_broken_stream_exits_1_after_what_came(
    termai_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """What came stands on stdout, the error on a line of its own on stderr."""
    termai_server.script(CutAfter(6))
    assert main(["chat", "hello there you", "-m", "claude-opus-5-5", "--stream"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("You ")
    assert printed.out.endswith("\n")
    assert printed.err.startswith("termai-http: StreamInterrupted: ")


def test_an_effort_that_is_none_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong --reasoning names those there are."""
    assert main(["chat", "hello", "-m", "gpt-5.5", "--reasoning", "much"]) == 2
    assert "'minimal'" in capsys.readouterr().err


@pytest.mark.parametrize("streamed", ["--stream", "--no-stream"])
@pytest.mark.parametrize(
    ("model", "options", "word"),
    [
        ("gpt-5.5", [], "length"),
        ("gpt-5.5", ["--api", "responses"], "max_output_tokens"),
        ("claude-opus-5-5", [], "max_tokens"),
    ],
)
def test_an_answer_that_is_cut_off_is_told(
    termai_server: Server,
    capsys: pytest.CaptureFixture[str],
    model: str,
    options: list[str],
    word: str,
    streamed: str,
) -> None:
    """What came goes to stdout, and why it is not all to stderr, in the vendor's own word."""
    termai_server.script(Text("Half an ans", finish="length"))
    assert main(["chat", "hello", "-m", model, *options, streamed]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Half an ans\n"
    assert printed.err == (
        f"termai-http: the answer was cut off at its token limit ({word}); "
        "--max-tokens sets another\n"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], "You said: sn?wm?n\n"), (["--stream"], "You said: sn?wm?n\n")],
)
def test_characters_that_stdout_cannot_say_are_no_failure(
    termai_server: Server, options: list[str], expected: str
) -> None:
    """A narrow encoding, as that of a pipe on Windows, replaces what it has no character for."""
    done = subprocess.run(
        [*COMMAND, "chat", "sn\u00f6wm\u00e5n", "-m", "gpt-5.5", *options],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_json_is_whole_in_a_narrow_encoding(termai_server: Server) -> None:
    """With --json nothing is replaced, whatever the encoding of stdout."""
    done = subprocess.run(
        [*COMMAND, "chat", "sn\u00f6wman \u2603", "-m", "gpt-5.5", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "You said: sn\u00f6wman \u2603"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
@pytest.mark.parametrize("options", [[], ["--stream"], ["--json"]])
def test_an_answer_that_cannot_be_written_exits_1(
    termai_server: Server, options: list[str]
) -> None:
    """A full disk is one line on stderr, and no traceback."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "chat", "hi", "-m", "gpt-5.5", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == "termai-http: cannot write the answer: No space left on device\n"


@pytest.mark.parametrize("option", ["--pace", "--delay", "--connect-delay"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon"])
def test_serve_refuses_what_is_no_time(
    capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    """Seconds are a number of at least 0."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", f"{option}={value}"])
    assert caught.value.code == 2
    assert f"argument {option}: must be seconds of at least 0" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"\xff\xfe", b"one \xe2\x82"])
def test_a_prompt_that_is_no_text_exits_2(termai_server: Server, data: bytes) -> None:
    """Bytes of another encoding on stdin are one line on stderr, and nothing is sent."""
    done = subprocess.run(
        [*COMMAND, "chat", "-m", "gpt-5.5"],
        input=data,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "termai-http: cannot read the prompt: it is no text in utf-8"
    ]
    assert termai_server.requests == []
