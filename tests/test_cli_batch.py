"""The command ``termai-http batch``, as a shell sees it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from termai_http import errors
from termai_http.cli import main
from termai_http.cli._batch import may_mend
from termai_http.cli._batch_input import Lines
from termai_http.errors import InvalidRequestError
from termai_http.testing import CloseAfterRead, RecordedRequest, Server, Silent, Status, Text

COMMAND = [sys.executable, "-m", "termai_http", "batch"]
MODEL = ["-m", "gpt-5.5"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, without the waits between attempts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERMAI_HTTP_MAX_RETRIES", "0")
    return tmp_path


def put(folder: Path, *lines: Any, name: str = "in.jsonl") -> None:
    """Write the input; text goes as a line of its own, all else as JSON."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / name).write_text("".join(f"{text}\n" for text in texts))


def results(folder: Path, name: str = "out.jsonl") -> dict[int, dict[str, Any]]:
    """Return the lines of the output, by index."""
    content = (folder / name).read_text()
    assert content == "" or content.endswith("}\n")
    return {line["index"]: line for line in map(json.loads, content.split("\n")[:-1])}


def batch(*arguments: str) -> int:
    """Run the command in this process."""
    return main(["batch", *arguments])


def test_every_line_is_asked_with_its_own_fields(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts and objects are asked, a line's own fields win, and a summary goes to stderr."""
    put(
        folder,
        '"plain"',
        "",
        {"id": "b", "prompt": "green", "system": "Be brief.", "max_tokens": 9, "temperature": 0},
        {"id": 3, "messages": [{"role": "user", "content": "Größe"}], "model": "gpt-6"},
    )
    assert batch("in.jsonl", "out.jsonl", *MODEL, "--system", "Be kind.", "-j", "4") == 0
    found = results(folder)
    assert [(found[at].get("id"), found[at]["text"]) for at in range(3)] == [
        (None, "You said: plain"),
        ("b", "You said: green"),
        (3, "You said: Größe"),
    ]
    bodies = {request.prompt: request.json for request in termai_server.requests}
    assert bodies["green"]["temperature"] == 0
    assert bodies["green"]["max_tokens"] == 9
    assert "Be brief." in json.dumps(bodies["green"])
    assert "Be kind." in json.dumps(bodies["plain"])
    assert bodies["Größe"]["model"] == "gpt-6"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(
        r"termai-http: 3 answered; \d+ tokens in, \d+ out, \d+\.\d s\n", printed.err
    )


def test_stdin_is_an_input(termai_server: Server, folder: Path) -> None:
    """A dash reads stdin, whose last line may lack its line feed and whose first has a BOM."""
    done = subprocess.run(
        [*COMMAND, "-", "out.jsonl", *MODEL, "--quiet"],
        input='\ufeff"a"\r\n\n"b"'.encode(),
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert [results(folder)[at]["text"] for at in range(2)] == ["You said: a", "You said: b"]


BROKEN = {
    "oops": "not JSON: Expecting value at column 1.",
    '{"prompt": "a"': "not JSON: Expecting ',' delimiter at column 15.",
    "[" * 100_000: "not JSON that can be read: it is nested too deeply.",
    '{"prompt": "a", "n": ' + "9" * 5000 + "}": "a number of more digits than Python reads.",
    "[1]": 'a line is a text, or an object with "prompt" or "messages", not a list.',
    "7": "not a number.",
    "null": "not null.",
    "true": "not true.",
    "{}": 'a line is a text, or an object with "prompt" or "messages".',
    '{"prompt": "a", "messages": []}': "not with both.",
    '""': "The prompt is empty.",
    '{"messages": [{"role": "boss", "content": "a"}]}': "messages[0].role is unknown",
    '{"prompt": "a", "id": 1.5}': "its id must be text or a whole number.",
    '{"prompt": "a", "id": true}': "its id must be text or a whole number.",
    '{"prompt": "a", "max_tokens": "9"}': "max_tokens must be a whole number",
    '{"prompt": "a", "timeout": 3}': "timeout is no field of a line",
    '{"prompt": "a", "api_key": "sk-1"}': "api_key is no field of a line",
    '{"prompt": "a", "max_tokns": 3}': "did you mean max_tokens=?",
    '{"custom_id": "a", "url": "/v1", "body": {}}': "it is a line of OpenAI's batch API",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda line: line[:30])
def test_a_broken_line_is_told_and_the_rest_goes_on(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    """Number and reason go to stderr and into the output, the rest is asked, and it exits 1."""
    put(folder, '"a"', "", broken, '"b"')
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 1
    told, summary = capsys.readouterr().err.splitlines()
    assert told.startswith("termai-http: line 3: ")
    assert BROKEN[broken] in told
    assert summary.startswith("termai-http: 2 answered, 1 failed (1 of a broken line); ")
    found = results(folder)
    assert [found[at]["text"][-1] for at in (0, 2)] == ["a", "b"]
    assert found[1]["error"]["type"] == "InvalidRequestError"
    assert BROKEN[broken] in found[1]["error"]["message"]
    assert "sk-1" not in told + json.dumps(found)


def test_a_line_that_is_no_text_is_broken(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes that are no UTF-8 are told with their place."""
    (folder / "in.jsonl").write_bytes(b'"a"\n"\xff"\n')
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 1
    assert "line 2: not UTF-8: byte 2 of the line." in capsys.readouterr().err


def test_a_mended_line_is_asked_in_the_next_run(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines behind a broken one keep their places, so that only the mended one is asked."""
    put(folder, '"a"', "oops", '"c"')
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 1
    termai_server.reset()
    put(folder, '"a"', '"b"', '"c"')
    assert batch("in.jsonl", "out.jsonl", *MODEL, "--resume") == 0
    assert [request.prompt for request in termai_server.requests] == ["b"]
    assert "1 answered, 2 there before; " in capsys.readouterr().err
    assert [results(folder)[at]["text"][-1] for at in range(3)] == ["a", "b", "c"]


def test_ids_that_come_again_are_told(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An id of two lines is told with the second's number; the number 1 and the text "1" differ."""
    ids = ["a", 1, "1", "b", "a", 1]
    put(folder, *({"id": id, "prompt": f"p{at}"} for at, id in enumerate(ids)))
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "its id" in line]
    assert told == [
        'termai-http: line 5: its id "a" is that of an earlier line, too',
        "termai-http: line 6: its id 1 is that of an earlier line, too",
    ]


def test_an_output_that_is_there_needs_resume(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An output with something in it is refused and named with the way out; an empty one is not."""
    put(folder, '"a"')
    (folder / "out.jsonl").touch()
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0
    before = (folder / "out.jsonl").read_bytes()
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 2
    assert "out.jsonl exists already. To ask only for what is missing in it add --resume" in (
        capsys.readouterr().err
    )
    assert (folder / "out.jsonl").read_bytes() == before
    assert len(termai_server.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.jsonl", "out.jsonl", *MODEL], "The input none.jsonl cannot be read: No such file"),
        ([".", "out.jsonl", *MODEL], "The input . cannot be read: Is a directory"),
        (["in.jsonl", "none/out.jsonl", *MODEL], "its folder does not exist; make it first"),
        (["in.jsonl", ".", *MODEL], "it is a directory"),
        (["in.jsonl", "in.jsonl", *MODEL, "--resume"], "is the input, too"),
        (["in.jsonl", "in.jsonl", *MODEL], "is the input, too"),
        (["in.jsonl", "-", *MODEL], "OUTPUT must be a file"),
        (["in.jsonl", "out.jsonl"], "line 1 names no model: give -m MODEL, or set TERMAI_HTTP_M"),
        (["in.jsonl", "out.jsonl", *MODEL, "--timeout", "-1"], "timeout must be"),
        (["in.jsonl", "out.jsonl", *MODEL, "--total-timeout", "0"], "total_timeout must be"),
        (["in.jsonl", "out.jsonl", *MODEL, "--max-tokens", "0"], "max_tokens must be"),
        (["in.jsonl", "out.jsonl", *MODEL, "--base-url", "http://example.com"], "http://"),
    ],
)
def test_wrong_input_exits_2(
    termai_server: Server,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str,
) -> None:
    """What is wrong before anything is sent exits 2 and says what on stderr."""
    put(folder, '"a"')
    assert batch(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("termai-http: ")
    assert why in printed
    assert termai_server.requests == []
    assert (folder / "in.jsonl").read_text() == '"a"\n'


@pytest.mark.parametrize("jobs", ["0", "-1", "x", "1.5"])
def test_a_count_of_jobs_that_is_none_exits_2(
    capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    """-j takes a whole number of at least 1."""
    with pytest.raises(SystemExit) as caught:
        batch("in.jsonl", "out.jsonl", "-j", jobs)
    assert caught.value.code == 2
    assert "must be a whole number of at least 1" in capsys.readouterr().err


def test_no_key_exits_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key nothing is begun, and the message names the variable."""
    put(folder, '"a"')
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 2
    assert "OPENAI_API_KEY" in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists()


def test_an_input_that_changed_exits_2(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another prompt at the place of one that has an answer is refused before it is sent."""
    put(folder, '"a"', '"b"')
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0
    termai_server.reset()
    put(folder, '"a"', '"other"')
    assert batch("in.jsonl", "out.jsonl", *MODEL, "--resume") == 2
    assert "index 1 belongs to another request" in capsys.readouterr().err
    assert termai_server.requests == []


@pytest.mark.parametrize("fault", [Status(429), Status(503), Status(529), CloseAfterRead()])
def test_a_failure_that_passes_exits_75(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str], fault: Any
) -> None:
    """Where a rerun helps it exits 75, and the rerun asks only for what failed and exits 0."""
    put(folder, '"a"', '"b"', '"c"')
    termai_server.fail_when(lambda asked: fault if asked.prompt == "b" else None)
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 75
    printed = capsys.readouterr().err
    assert re.search(r"^termai-http: line 2: \w+: ", printed, re.M)
    assert "2 answered, 1 failed (1 " in printed
    assert "a rerun with --resume asks the failed ones again" in printed
    termai_server.reset()
    assert batch("in.jsonl", "out.jsonl", *MODEL, "--resume") == 0
    assert [request.prompt for request in termai_server.requests] == ["b"]


def test_a_failure_that_stays_exits_1(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a rerun does not help it exits 1, without the hint to one."""
    put(folder, '"a"', '"b"')
    termai_server.fail_when(lambda asked: Status(400) if asked.prompt == "b" else None)
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 1
    assert "rerun" not in capsys.readouterr().err


def test_one_of_both_kinds_exits_75(termai_server: Server, folder: Path) -> None:
    """As long as a rerun helps with something it exits 75, so that a loop comes to its end."""
    put(folder, "oops", '"b"')
    termai_server.fail_when(lambda asked: Status(429))
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 75
    termai_server.reset()
    assert batch("in.jsonl", "out.jsonl", *MODEL, "--resume") == 1


def test_the_time_for_all_leaves_the_rest_for_later(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --total-timeout what is not done in time fails, told a few times, and it exits 75."""
    put(folder, *(f'"p{at}"' for at in range(50)))
    termai_server.fail_when(lambda asked: Silent() if asked.prompt != "p0" else None)
    arguments = ["in.jsonl", "out.jsonl", *MODEL, "-j", "1", "--total-timeout", "1"]
    assert batch(*arguments) == 75
    printed = capsys.readouterr().err
    assert "1 answered, 49 failed (49 DeadlineExceeded)" in printed
    assert printed.count("DeadlineExceeded: ") == 5
    assert printed.count("(more of these are not shown)") == 1
    assert set(results(folder)) == {0, 1}


@pytest.mark.parametrize("status", [401, 403, 404])
def test_where_all_calls_are_refused_the_rest_is_not_sent(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """After ten refusals of a kind that no line is to blame for it stops, says why and exits 1."""
    put(folder, *(f'"p{at}"' for at in range(200)))
    termai_server.fail_when(lambda asked: Status(status))
    assert batch("in.jsonl", "out.jsonl", *MODEL, "-j", "2") == 1
    assert len(termai_server.requests) < 50
    printed = capsys.readouterr().err
    assert "termai-http: stopped: 0 answered, " in printed
    assert "the first 10 calls failed alike, so the rest was not sent: " in printed
    assert "sk-loopback" not in printed


def test_refusals_after_an_answer_do_not_stop_it(termai_server: Server, folder: Path) -> None:
    """Where something was answered, the key works, and all lines are asked."""
    put(folder, '"good"', *(f'"p{at}"' for at in range(30)))
    termai_server.fail_when(lambda asked: None if asked.prompt == "good" else Status(404))
    assert batch("in.jsonl", "out.jsonl", *MODEL, "-j", "1") == 1
    assert len(results(folder)) == 31


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_disk_exits_1(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An output that cannot be written ends it with a line that says why."""
    put(folder, *(f'"p{at}"' for at in range(20)))
    assert batch("in.jsonl", "/dev/full", *MODEL) == 1
    assert "/dev/full: The result cannot be written: No space left" in capsys.readouterr().err


def test_nothing_of_a_line_steers_the_terminal(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is told of a line is shown without its control characters."""
    put(
        folder,
        {"prompt": "a", "\x1bmax_token": 1},
        {"prompt": "b", "id": "\x1b[31m"},
        {"prompt": "c", "id": "\x1b[31m"},
    )
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 1
    printed = capsys.readouterr().err
    assert "did you mean max_tokens=?" in printed
    assert "its id" in printed
    assert "\x1b" not in printed


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start the command so that an interrupt reaches it, as from a shell."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_with_resume(
    termai_server: Server, folder: Path, number: signal.Signals
) -> None:
    """Interrupted or killed the output is whole, and --resume asks only for what is missing."""
    prompts = [f"p{at}" for at in range(30)]
    put(folder, *(json.dumps(prompt) for prompt in prompts))
    count, counting, enough = 0, threading.Lock(), threading.Event()

    def hold(request: RecordedRequest) -> Silent | None:
        nonlocal count
        with counting:
            count += 1
            if count <= 12:
                return None
            if count == 15:
                # All three workers wait, each after it wrote what it was answered before.
                enough.set()
        return Silent()

    termai_server.fail_when(hold)
    process = started("in.jsonl", "out.jsonl", *MODEL, "-j", "3")
    assert enough.wait(60)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert re.search(r"^termai-http: interrupted: \d+ answered; ", err, re.M)
        assert err.endswith("termai-http: --resume goes on where this ended\n")
    else:
        assert (process.returncode, err) == (-number, "")
    there = results(folder)
    assert len(there) == 12
    termai_server.reset()
    assert batch("in.jsonl", "out.jsonl", *MODEL, "--resume", "-q") == 0
    asked = sorted(request.prompt for request in termai_server.requests)
    assert asked == sorted(prompt for at, prompt in enumerate(prompts) if at not in there)
    assert sorted(results(folder)) == list(range(30))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_lines_are_asked_as_they_come(termai_server: Server, folder: Path) -> None:
    """The input is not read to its end first; an interrupt while it waits for more exits 130."""
    arrived = threading.Event()
    termai_server.fail_when(lambda asked: arrived.set())
    process = started("-", "out.jsonl", *MODEL)
    assert process.stdin is not None
    process.stdin.write('"a"\n')
    process.stdin.flush()
    assert arrived.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "termai-http: interrupted: " in err


def on_a_terminal(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run the command with a terminal as its stderr; return its code and what it wrote there."""
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    # Without a size a bar has no room.
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=its, stderr=its, env={**os.environ, **(env or {})}
    ) as process:
        os.close(its)
        pieces = []
        # Linux says EIO where the last one closed its side.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        os.close(ours)
    return process.returncode, b"".join(pieces).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_terminal_shows_a_bar(termai_server: Server, folder: Path) -> None:
    """On a terminal there is a bar that knows how many lines there are; --quiet leaves it away."""
    put(folder, '"a"', "", "oops", '"c"')
    code, shown = on_a_terminal("in.jsonl", "out.jsonl", *MODEL)
    assert code == 1
    assert "3/3 [" in shown
    assert "1 failed" in shown
    assert "termai-http: line 3: not JSON" in shown
    code, shown = on_a_terminal("in.jsonl", "out.jsonl", *MODEL, "--resume", "--quiet")
    told = "termai-http: line 3: not JSON: Expecting value at column 1.\r\n"
    assert (code, shown) == (1, told)


HIDE_TQDM = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "tqdm" else find(name, *more)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_terminal_without_tqdm_shows_a_line(termai_server: Server, folder: Path) -> None:
    """Where tqdm is not installed one line says how far it is, and is cleared at the end."""
    put(folder, '"a"', '"b"')
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(HIDE_TQDM)
    code, shown = on_a_terminal(
        "in.jsonl", "out.jsonl", *MODEL, env={"PYTHONPATH": str(folder / "site")}
    )
    assert code == 0
    assert re.search(r"\r\x1b\[K1 of 2 done, [\d.]+/s, \d+ tokens", shown)
    assert re.search(r"\r\x1b\[Ktermai-http: 2 answered; ", shown)


def test_help_shows_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells the forms of input and output, examples and every exit code."""
    with pytest.raises(SystemExit) as caught:
        batch("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for part in ("examples:", "--resume", "exit codes:", "75 some failed", "130 interrupted"):
        assert part in shown


def test_the_examples_of_the_help_are_lines(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines of input that --help shows are taken as they stand there."""
    with pytest.raises(SystemExit):
        batch("--help")
    shown = capsys.readouterr().out.partition('"-" is stdin:\n')[2].splitlines()
    (folder / "in.jsonl").write_text("\n".join(shown[:3]))
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0
    assert len(results(folder)) == 3


def test_replies_in_other_signs_are_readable(termai_server: Server, folder: Path) -> None:
    """Replies stand in the output as UTF-8, not as escapes."""
    put(folder, '"a"')
    termai_server.script(Text("Zażółć 漢字"))
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0
    assert "Zażółć 漢字" in (folder / "out.jsonl").read_text(encoding="utf-8")


def test_ids_of_a_big_input_take_little_memory() -> None:
    """A million ids are told apart, with a few bytes for each, and the input is never held."""
    tracemalloc = pytest.importorskip("tracemalloc")
    count = 20_000

    class Endless(io.RawIOBase):
        """Lines that are made as they are read."""

        def __init__(self) -> None:
            self.made = 0

        def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
            for at in range(count):
                self.made = at
                yield b'{"id": "an id of some length, number %d", "prompt": "a"}\n' % (at % 19_999)

    told: list[str] = []
    source = Endless()
    lines = Lines(source, "gpt-5.5", told.append, bool, counted=False)  # type: ignore[arg-type]
    first = next(iter(lines))
    assert (first["prompt"], source.made) == ("a", 0)
    lines = Lines(source, "gpt-5.5", told.append, bool, counted=False)  # type: ignore[arg-type]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in lines:
        pass
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used < 40 * count
    assert told == [
        f'line {count}: its id "an id of some length, number 0" is that of an earlier line, too'
    ]


def test_numbers_of_lines_are_known_by_index() -> None:
    """Blank lines count as lines, and not as items."""
    source = io.BytesIO(b'\n"a"\n\n\n"b"\n"c"\n\n"d"')
    lines = Lines(source, "gpt-5.5", print, bool, counted=True)
    assert len(lines) == 4
    assert len(list(lines)) == 4
    assert [lines.line_of(index) for index in range(4)] == [2, 5, 6, 8]


def test_a_length_that_is_not_known_is_none() -> None:
    """What cannot be read twice, or need not be, has no length."""
    read, write = os.pipe()
    os.close(write)
    with open(read, "rb") as pipe, pytest.raises(TypeError, match="not known"):
        len(Lines(pipe, None, print, bool, counted=True))
    with pytest.raises(TypeError, match="not known"):
        len(Lines(io.BytesIO(b'"a"'), None, print, bool, counted=False))


@pytest.mark.parametrize(
    ("error", "mends"),
    [
        (errors.RateLimitError("", status_code=429), True),
        (errors.QuotaExceededError("", status_code=429), False),
        (errors.DeadlineExceeded(""), True),
        (errors.ReadTimeout(""), True),
        (errors.PoolTimeout(""), True),
        (errors.OverloadedError("", status_code=529), True),
        (errors.InternalServerError("", status_code=500), True),
        (errors.APIConnectionError(""), True),
        (errors.DNSError(""), True),
        (errors.TLSError(""), False),
        (errors.ConflictError("", status_code=409), True),
        (errors.APIStatusError("", status_code=408), True),
        (errors.APIStatusError("", status_code=418), False),
        (errors.TruncatedResponse(""), True),
        (errors.BadRequestError("", status_code=400), False),
        (errors.AuthenticationError("", status_code=401), False),
        (errors.OutputError(""), False),
        (InvalidRequestError(""), False),
    ],
)
def test_what_a_rerun_may_mend(error: Exception, mends: bool) -> None:
    """Limits of rate and time, overload and connections pass; the rest does not."""
    assert may_mend(error) is mends


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
@pytest.mark.parametrize("stderr", ["a pipe that nobody reads", "closed", "full"])
def test_nobody_has_to_read_what_it_tells(termai_server: Server, folder: Path, stderr: str) -> None:
    """A job goes on, and its exit code is the same, where stderr cannot be written."""
    put(folder, *("oops" if number % 3 else f'"{number}"' for number in range(60)))
    command = [*COMMAND, "in.jsonl", "out.jsonl", *MODEL]
    if stderr == "a pipe that nobody reads":
        ours, its = os.pipe()
        os.close(ours)
        code = subprocess.run(command, stderr=its, timeout=60).returncode
        os.close(its)
    else:
        where = {"closed": "&-", "full": ">/dev/full"}[stderr]
        line = f"exec {shlex.join(command)} 2>{where.removeprefix('>')}"
        code = subprocess.run(["sh", "-c", line], timeout=60).returncode
    assert code == 1
    assert len(results(folder)) == 60
    assert len(termai_server.requests) == 20


@pytest.mark.skipif(sys.platform == "win32", reason="its shell closes nothing")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_it_may_be_begun_without_streams(termai_server: Server, folder: Path, closed: str) -> None:
    """As by cron or a daemon: all is answered, and that is success."""
    put(folder, '"a"')
    line = f"exec {shlex.join([*COMMAND, 'in.jsonl', 'out.jsonl', *MODEL])} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert results(folder)[0]["text"] == "You said: a"


def test_a_results_file_is_never_its_own_input(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By another name, or as stdin, too: it would read each line that it wrote."""
    put(folder, '"a"')
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0
    before = (folder / "out.jsonl").read_bytes()
    (folder / "link.jsonl").symlink_to("out.jsonl")
    assert batch("link.jsonl", "out.jsonl", *MODEL, "--resume") == 2
    with (folder / "out.jsonl").open("rb") as file:
        done = subprocess.run(
            [*COMMAND, "-", "out.jsonl", *MODEL, "--resume"], stdin=file, timeout=60
        )
    assert done.returncode == 2
    assert (folder / "out.jsonl").read_bytes() == before


def test_an_id_that_changed_exits_2(
    termai_server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever joins answers by their ids would lose the row."""
    put(folder, {"id": "a", "prompt": "x"})
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0
    put(folder, {"id": "b", "prompt": "x"})
    assert batch("in.jsonl", "out.jsonl", *MODEL, "--resume") == 2
    assert "changed since it was written" in capsys.readouterr().err


def test_a_key_is_needed_for_what_is_asked(
    termai_server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each line has a model of the other vendor, the key of the option's is not missed."""
    monkeypatch.delenv("OPENAI_API_KEY")
    put(folder, {"prompt": "a", "model": "claude-opus-5-5"})
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 0


def test_what_is_missing_is_told_in_words_of_the_shell(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No argument of Python's is named, which the command has not."""
    put(folder, '"a"')
    assert batch("in.jsonl", "out.jsonl", *MODEL) == 2
    assert main(["chat", "hi"]) == 2
    told = capsys.readouterr().err
    assert "OPENAI_API_KEY is not set" in told
    assert "give -m MODEL" in told
    assert "api_key=" not in told
    assert "model=" not in told
