"""The magics in a real kernel, against a real server."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from termai_http.testing import CutAfter, Paced, RecordedRequest, Server, Status, Text, ToolCalls

from .jupyter_kernel import KEY, PATIENCE, Kernel, Silence, environment, running

STORY = "Tell me about " + " ".join(f"dragon{number}" for number in range(60))
HOSTILE = (
    "<script>alert(1)</script> ![x](http://evil.example/x.png) [a](javascript:alert(1)) "
    "<img src=x onerror=alert(1)>\n\n[b]: javascript:alert(1)\n\n`<b>` \x1b]0;title\x07"
)
HARMLESS = (
    "&#60;script>alert(1)&#60;/script> &#33;[x](http://evil.example/x.png) "
    "[a&#93;(javascript:alert(1)) &#60;img src=x onerror=alert(1)>\n\n"
    "[b&#93;: javascript:alert(1)\n\n<code>&#60;b&#62;</code> \ufffd]0;title\ufffd"
)
EVENT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    b'data: {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.5", '
    b'"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Half a story"}, '
    b'"finish_reason": null}]}\n\n'
)


@pytest.fixture(scope="module")
def spoken() -> Iterator[Server]:
    """The server of this module's kernel."""
    with Server() as made:
        yield made


@pytest.fixture(scope="module")
def shared(spoken: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for all tests, for its start takes longer than they do."""
    home = tmp_path_factory.mktemp("ipython")
    with running(environment(spoken, home), home) as made:
        yield made


@pytest.fixture
def kernel(shared: Kernel, spoken: Server) -> Kernel:
    """The kernel with the magics, and a server that has forgotten the last test."""
    ran = shared.run("%reset -f\n%reload_ext termai_http\nimport termai_http")
    assert (ran.status, ran.text) == ("ok", "")
    spoken.reset()
    return shared


def last(server: Server) -> dict[str, Any]:
    """Return the body of the last request."""
    body = json.loads(server.requests[-1].body)
    assert isinstance(body, dict)
    return body


def failed(kernel: Kernel, code: str) -> str:
    """Run a cell that must fail in one line without a traceback, and return the line."""
    ran = kernel.run(code)
    assert ran.status == "error"
    lines = [line for error in ran.of("error") for line in error["traceback"]]
    lines += ran.text.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_reply_is_shown_as_markdown_and_kept(kernel: Kernel, spoken: Server) -> None:
    """The cell below the line is sent as it is; the reply is shown, and is in the variable."""
    ran = kernel.run("%%chat -m gpt-5.5 --out reply\nWhy {x} and $y?\n\n  Two lines.")
    assert ran.status == "ok"
    assert last(spoken)["messages"] == [
        {"role": "user", "content": "Why {x} and $y?\n\n  Two lines."}
    ]
    (shown,) = ran.of("display_data")
    assert shown["data"]["text/plain"].startswith("You said: Why {x} and $y?")
    text, _, figures = ran.markdown[0].rpartition("\n\n")
    assert text == "You said: Why {x} and \\$y?\n\n  Two lines."
    assert figures.startswith("<small>gpt-5.5 · ")
    ran = kernel.run("print(type(reply).__name__, reply.text[:13])\nreply")
    assert ran.text == "ChatResponse You said: Why\n"
    assert ran.markdown[0].startswith("You said: Why {x}")


def test_options_reach_the_server(kernel: Kernel, spoken: Server) -> None:
    """Each option arrives, with variables where they are asked for; %chat takes its line."""
    kernel.run("rules, name = 'Be brief.', 'Ann'")
    ran = kernel.run(
        "%%chat -m gpt-5.5 -s {rules} --max-tokens 7 -p temperature=0.2 -p user=x -e\nI am {name}"
    )
    assert ran.status == "ok"
    body = last(spoken)
    assert [one["content"] for one in body["messages"]] == ["Be brief.", "I am Ann"]
    assert (body["temperature"], body["user"]) == (0.2, "x")
    assert 7 in body.values()
    assert kernel.run("%chat -m claude-opus-5-5 don't -x panic").status == "ok"
    assert last(spoken)["messages"][0]["content"] == "don't -x panic"


def test_a_conversation_goes_on(kernel: Kernel, spoken: Server) -> None:
    """The first cell makes the conversation, the next ones continue it, streamed or not."""
    assert kernel.run("%%chat -m gpt-5.5 -c talk\nOne").status == "ok"
    assert kernel.run("%%chat -c talk --stream -o reply\nTwo").status == "ok"
    assert [one["content"] for one in last(spoken)["messages"]] == ["One", "You said: One", "Two"]
    assert kernel.run("print(len(talk.messages), reply.text)").text == "4 You said: Two\n"


def test_a_stream_updates_one_output(kernel: Kernel, spoken: Server) -> None:
    """A slow stream is one output; each update replaces it, and the last one has all."""
    spoken.script(Paced(0.03))
    ran = kernel.run(f"%%chat -m gpt-5.5 --stream -o reply\n{STORY}")
    assert ran.status == "ok"
    (first,) = ran.of("display_data")
    updates = ran.of("update_display_data")
    ids = {one["transient"]["display_id"] for one in [first, *updates]}
    assert len(ids) == 1
    # The 60 words come in as many events within two seconds.
    seconds = float(kernel.run("print(reply.elapsed)").text)
    assert 2 <= len(updates) <= 10 * seconds + 1
    texts = [one["data"]["text/plain"] for one in [first, *updates]]
    assert all(one.startswith(before) for before, one in itertools.pairwise(texts))
    assert texts[-1] == f"You said: {STORY}"
    assert kernel.run("print(reply.text)").text == f"You said: {STORY}\n"


@pytest.mark.parametrize("how", ["", "--stream"])
def test_a_hostile_reply_does_nothing(kernel: Kernel, spoken: Server, how: str) -> None:
    """Of scripts, images, links that run code and steering characters only text is left."""
    spoken.script(Text(HOSTILE))
    ran = kernel.run(f"%%chat -m gpt-5.5 {how}\nhi")
    assert ran.markdown[-1].startswith(HARMLESS + "\n\n<small>gpt-5.5")
    for message in ran.of("display_data", "update_display_data"):
        assert "\x1b" not in message["data"]["text/plain"]
        assert set(message["data"]) == {"text/plain", "text/markdown"}


def test_tool_calls_are_named(kernel: Kernel, spoken: Server) -> None:
    """A reply that asks for a function says so, its name and arguments escaped."""
    spoken.script(ToolCalls(("look", {"at": "<b>"})))
    ran = kernel.run("termai_http.chat('hi', model='gpt-5.5')")
    (shown,) = ran.markdown
    assert shown.startswith("Asks for <code>look&#40;")
    assert "<b>" not in shown


def press(kernel: Kernel, silence: Silence) -> None:
    """Press the stop button, as often as a user would.

    A signal between Python's last look for one and the system call that waits is seen only after
    that call; here it comes at that moment now and then.
    """
    for _ in range(5):
        kernel.manager.interrupt_kernel()
        if silence.closed(5.0):
            return


@pytest.mark.skipif(sys.platform == "win32", reason="a kernel is interrupted by a signal")
@pytest.mark.parametrize(("how", "answer"), [("", b""), ("--stream", b""), ("--stream", EVENT)])
def test_the_stop_button_ends_a_call(kernel: Kernel, how: str, answer: bytes) -> None:
    """Interrupted, the cell ends though the call has minutes left, and its socket is closed."""
    pressed: list[str] = []
    with Silence(answer) as silence:

        def stop(kind: str, _: dict[str, Any]) -> None:
            if kind in ("stream", "display_data") and not pressed:
                pressed.append(kind)
                assert silence.asked.wait(PATIENCE)
                press(kernel, silence)

        line = f"%%chat -m gpt-5.5 --base-url {silence.url} --timeout 600 {how}\nhi"
        begun = "" if answer else "print('begun', flush=True)\n"
        code = f"{begun}get_ipython().run_cell_magic('chat', {line[7:-3]!r}, 'hi')"
        ran = kernel.run(code, stop)
        assert ran.status == "error"
        (error,) = ran.of("error")
        assert error["ename"] == "KeyboardInterrupt"
        (shown,) = error["traceback"]
        assert "The call was stopped" in shown
        assert silence.closed()
    if answer:
        assert set(ran.markdown) == {"Half a story"}
    stats = kernel.run("s = termai_http.stats(); print(s.active_connections, s.calls.in_flight)")
    assert stats.text == "0 0\n"
    assert kernel.run("%chat -m gpt-5.5 still there?").status == "ok"


def test_failures_are_one_line(kernel: Kernel, spoken: Server) -> None:
    """What the server or the caller did wrong is told in one line, without key or prompt."""
    spoken.script(Status(400), CutAfter(12))
    assert "BadRequestError" in failed(kernel, "%%chat -m gpt-5.5\nsecret words")
    ran = kernel.run(f"%%chat -m gpt-5.5 --stream\n{STORY}")
    assert [one["ename"] for one in ran.of("error")] == ["StreamInterrupted"]
    assert ran.markdown[-1].startswith("You said: Tell me about dragon0")
    line = failed(kernel, "import os\nkey = os.environ.pop('OPENAI_API_KEY')\n%chat -m gpt-5.5 hi")
    assert "OPENAI_API_KEY is not set" in line
    kernel.run("os.environ['OPENAI_API_KEY'] = key")
    assert "No model" in failed(kernel, "%chat hi")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("%%chat --streem x\nhi", "unrecognized arguments: --streem"),
        ("%%chat -m\nhi", "expected one argument"),
        ("%%chat -m gpt-5.5 a word\nhi", "stands below its line"),
        ("%%chat -m gpt-5.5 -o 2x\nhi", "'2x' is no name of a variable"),
        ("%%chat -m gpt-5.5 --max-tokens few\nhi", "invalid int value: 'few'"),
        ("%%chat -m gpt-5.5 -s 'x\nhi", "needs quotes"),
        ("%%chat -m gpt-5.5 -s {nothing}\nhi", "no variable 'nothing'"),
        ("%%chat -m gpt-5.5 --client nothing\nhi", "no variable 'nothing'"),
        ("termai_http_talk = 3\n%chat -m gpt-5.5 -c termai_http_talk hi", "no Conversation"),
        ("%%chat -m gpt-5.5 -e\nhi {nothing}", "no variable 'nothing'"),
        ("%%chat -m gpt-5.5\n  \n", "There is no prompt"),
        ("%chat -m gpt-5.5", "There is no prompt"),
        ("%%chat -m gpt-5.5", "%%chat is a cell magic, but the cell body is empty"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    kernel: Kernel, spoken: Server, code: str, told: str
) -> None:
    """A wrong option names itself; nothing is sent."""
    line = failed(kernel, code)
    assert line.startswith("UsageError: %")
    assert told in line
    assert spoken.requests == []


def test_a_running_event_loop_is_no_trouble(kernel: Kernel) -> None:
    """Calls work in a cell that awaits, and beside its loop in a thread."""
    ran = kernel.run(
        "import asyncio\nawait asyncio.sleep(0)\nprint(asyncio.get_running_loop().is_running())\n"
        "print(termai_http.chat('one', model='gpt-5.5').text)\n"
        "print((await asyncio.to_thread(termai_http.chat, 'two', model='gpt-5.5')).text)\n"
        "%chat -m gpt-5.5 three"
    )
    assert (ran.status, ran.text) == ("ok", "True\nYou said: one\nYou said: two\n")
    assert ran.markdown[0].startswith("You said: three")


def test_figures_are_shown_as_tables(kernel: Kernel, spoken: Server) -> None:
    """``stats()`` and ``client()`` are tables with plots, and hold neither key nor prompt."""
    kernel.run("%chat -m gpt-5.5 some secret words")
    for code in ("termai_http.stats()", "termai_http.client()"):
        (shown,) = kernel.run(code).of("execute_result")
        html = shown["data"]["text/html"]
        assert "<table" in html
        assert "<svg" in html
        assert not any(word in html for word in (KEY, "secret words", "<script"))


def test_a_stream_of_ones_own_is_shown(kernel: Kernel) -> None:
    """``show()`` shows a stream and returns its reply."""
    ran = kernel.run(
        "from termai_http.contrib.jupyter import show\n"
        "print(show(termai_http.stream('hi', model='gpt-5.5')).text)"
    )
    assert (ran.status, ran.text) == ("ok", "You said: hi\n")
    assert ran.markdown[-1].startswith("You said: hi")


def test_a_terminal_prints_a_stream(server: Server, tmp_path: Path) -> None:
    """In IPython without a notebook a stream is printed, and a failure is one line."""
    code = (
        "%load_ext termai_http\n%chat -m gpt-5.5 --stream -o r Tell <b>\n"
        "print(r.text)\n%chat -m gpt-5.5 plain\n%chat --no-such-option"
    )
    done = python(
        "-m", "IPython", "--colors=NoColor", "-c", code, env=environment(server, tmp_path)
    )
    assert done.stdout.split() == [
        "You",
        "said:",
        "Tell",
        "<b>",
        "You",
        "said:",
        "Tell",
        "<b>",
        "You",
        "said:",
        "plain",
    ]
    assert done.stderr.strip() == "UsageError: %chat: unrecognized arguments: --no-such-option"


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("", "show() needs a session of IPython or a notebook."),
        ("sys.modules['IPython'] = None;", 'not installed: pip install "termai-http[jupyter]".'),
    ],
)
def test_show_says_what_it_needs(first: str, told: str) -> None:
    """Outside of a session, or without IPython, it says so and what to do."""
    code = f"import sys; {first} from termai_http.contrib.jupyter import show; show(None)"
    done = python("-c", code)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(told)
    assert "ConfigurationError" in done.stderr


def python(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python as a process of its own."""
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=PATIENCE, env=env
    )


def test_help_is_there(kernel: Kernel) -> None:
    """``%chat --help`` and the docstring tell the options."""
    printed = kernel.run("%chat --help").text
    assert "--stream" in printed
    assert "examples:" in printed
    code = "m = get_ipython().magics_manager.magics; print('--stream' in m['cell']['chat'].__doc__)"
    assert kernel.run(code).text == "True\n"


def test_unloading_gives_back_what_was_there(kernel: Kernel) -> None:
    """After ``%unload_ext`` another extension's magic of that name works again."""
    kernel.run("%unload_ext termai_http")
    assert "not found" in failed(kernel, "%%chat -m gpt-5.5\nhi")
    kernel.run(
        "from IPython.core.magic import register_line_magic\n"
        "@register_line_magic\ndef chat(line):\n    print('the other one')"
    )
    assert kernel.run("%load_ext termai_http\n%chat -m gpt-5.5 hi").markdown
    assert kernel.run("%unload_ext termai_http\n%chat hi").text == "the other one\n"
    kernel.run("del get_ipython().magics_manager.magics['line']['chat']")


def test_a_saved_notebook_keeps_the_final_text(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file a streamed reply is one output, with the whole text."""
    import nbformat
    from nbclient import NotebookClient

    for name, value in environment(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    server.script(Paced(0.02))
    cells = ["%load_ext termai_http", f"%%chat -m gpt-5.5 --stream\n{STORY}"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3").execute()
    nbformat.write(notebook, tmp_path / "saved.ipynb")
    saved = json.loads((tmp_path / "saved.ipynb").read_text(encoding="utf-8"))
    (output,) = saved["cells"][1]["outputs"]
    assert "".join(output["data"]["text/plain"]) == f"You said: {STORY}"
    assert "".join(output["data"]["text/markdown"]).startswith(f"You said: {STORY}\n\n<small>")


def test_a_restarted_kernel_begins_anew(kernel: Kernel, spoken: Server) -> None:
    """After a restart the extension is loaded again, with a new client; the last test here."""
    kernel.restart()
    assert "not found" in failed(kernel, "%%chat -m gpt-5.5\nhi")
    ran = kernel.run("%load_ext termai_http\n%chat -m gpt-5.5 hi")
    assert ran.status == "ok"
    seen: list[RecordedRequest] = spoken.requests
    assert [one.headers["authorization"] for one in seen] == [f"Bearer {KEY}"]
    assert kernel.run("import termai_http; print(termai_http.stats().opened)").text == "1\n"


def test_a_question_is_a_prompt(kernel: Kernel, spoken: Server) -> None:
    """IPython takes a question mark at the end of a line for a wish for help; not here."""
    ran = kernel.run("%chat -m gpt-5.5 why so?\n%chat -m gpt-5.5 -- what's up?")
    assert ran.status == "ok"
    assert [request.prompt for request in spoken.requests] == ["why so?", "what's up?"]
    assert kernel.run("%unload_ext termai_http\nlen?").status == "ok"


def test_a_key_does_not_come_by_a_parameter(kernel: Kernel, spoken: Server) -> None:
    """It would stand in the notebook; so is no option of ours taken for the vendor's."""
    for name in ("api_key", "base_url", "timeout"):
        line = failed(kernel, f"%chat -m gpt-5.5 -p {name}=sk-other hi")
        assert f"{name} is no parameter of the vendor's" in line
        assert "sk-other" not in line
    assert spoken.requests == []
