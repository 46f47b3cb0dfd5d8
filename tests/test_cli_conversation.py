"""``termai-http chat`` as a conversation, in a real terminal with real key strokes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest

from termai_http.testing import CutAfter, Server, Silent, Stall, Status, Text

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind"
)

COMMAND = [sys.executable, "-m", "termai_http", "chat"]
CTRL_C, CTRL_D = "\x03", "\x04"
PATIENCE = 60.0
# Events of a stream until "You said: " stands there, and no more.
BEGUN = {"gpt-5.5": 3, "claude-opus-5-5": 5}
MODELS = pytest.mark.parametrize("model", sorted(BEGUN))


class Terminal:
    """A terminal in which the command runs, as its foreground process.

    Attributes:
        seen: All that it showed.
    """

    def __init__(self, *arguments: str, stdout: int | None = None, **variables: str) -> None:
        self._arguments = arguments
        self._stdout = stdout
        self._variables = {"TERM": "dumb", **variables}
        self.seen = ""
        self._read_to = 0

    def __enter__(self) -> Terminal:
        import pty

        self._ours, its = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *self._arguments],
            stdin=its,
            stdout=its if self._stdout is None else self._stdout,
            stderr=its,
            start_new_session=True,
            preexec_fn=_own_the_terminal,
            env={**os.environ, **self._variables},
        )
        os.close(its)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)

    def press(self, keys: str) -> None:
        """Press keys; the terminal makes a signal of those that are one."""
        os.write(self._ours, keys.encode())

    def say(self, line: str) -> None:
        """Wait for the prompt and type a line."""
        self.wait_for("> ")
        self.press(line + "\n")

    def wait_for(self, text: str) -> str:
        """Wait until a text is shown, after all that was waited for; return what came up to it."""
        while (at := self.seen.find(text, self._read_to)) < 0:
            assert self._read(), f"{text!r} never came: {self.seen!r}"
        passed = self.seen[self._read_to : at]
        self._read_to = at + len(text)
        return passed

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE)
        with contextlib.suppress(OSError):  # Linux says EIO where the last one closed its side
            if ready and (data := os.read(self._ours, 65536)):
                self.seen += data.decode().replace("\r\n", "\n")
                return True
        return False

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what came after all that was waited for."""
        while self._read():
            pass
        return self.process.wait(PATIENCE), self.seen[self._read_to :]

    def wait_for_input(self) -> None:
        """Wait until the process sleeps: Python hears a signal that comes right before too late."""
        place = Path(f"/proc/{self.process.pid}/stat")
        while place.exists() and place.read_text().rpartition(")")[2].split()[0] != "S":
            select.select([], [], [], 0.01)

    def sockets(self) -> int:
        """Count the sockets that the process has."""
        place = f"/proc/{self.process.pid}/fd"
        return sum(os.readlink(f"{place}/{fd}").startswith("socket:") for fd in os.listdir(place))


def _own_the_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def said(server: Server, index: int) -> list[tuple[str, str]]:
    """Return role and text of each message of a request."""
    found = []
    for message in server.requests[index].json["messages"]:
        content = message["content"]
        text = content if isinstance(content, str) else content[0]["text"]
        found.append((message["role"], text))
    return found


@MODELS
def test_a_conversation_goes_on_from_what_was_said(termai_server: Server, model: str) -> None:
    """Each question goes out with all before it, answers are streamed, Ctrl-D ends it with 0."""
    with Terminal("-m", model) as terminal:
        terminal.say("one")
        assert "You said: one\n" in terminal.wait_for("\n> ") + "\n"
        terminal.press("two\n")
        terminal.wait_for("You said: two\n")
        terminal.wait_for("> ")
        terminal.press(CTRL_D)
        assert terminal.end()[0] == 0
    assert said(termai_server, 1) == [
        ("user", "one"),
        ("assistant", "You said: one"),
        ("user", "two"),
    ]
    assert termai_server.requests[1].json["stream"] is True


def test_the_system_prompt_goes_with_each_question(termai_server: Server) -> None:
    """With --system the instructions stand before every question; --no-stream asks for wholes."""
    with Terminal("-m", "gpt-5.5", "--system", "Be brief.", "--no-stream") as terminal:
        terminal.say("one")
        terminal.wait_for("You said: one\n")
        terminal.say("two")
        terminal.wait_for("You said: two\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert said(termai_server, 1)[0] == ("system", "Be brief.")
    assert "stream" not in termai_server.requests[1].json


@MODELS
def test_ctrl_c_stops_the_answer_and_not_the_program(termai_server: Server, model: str) -> None:
    """What came stays on the screen and in the conversation; the connection is closed at once."""
    termai_server.script(Stall(BEGUN[model]))
    with Terminal("-m", model) as terminal:
        terminal.say("a long one")
        terminal.wait_for("You said: ")
        terminal.press(CTRL_C)
        assert "stopped (what came stays" in terminal.wait_for("\n> ")
        if sys.platform == "linux":
            assert terminal.sockets() == 0
        terminal.press("shorter\n")
        terminal.wait_for("You said: shorter\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    question, begun, next_question = said(termai_server, 1)
    assert (question, next_question) == (("user", "a long one"), ("user", "shorter"))
    assert begun[0] == "assistant"
    assert "You said: a long one".startswith(begun[1].strip())


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
def test_ctrl_c_before_anything_came_forgets_the_question(
    termai_server: Server, options: list[str]
) -> None:
    """Where nothing of the answer came, the next question goes out as if there had been none."""
    termai_server.script(Silent())
    with Terminal("-m", "gpt-5.5", *options) as terminal:
        terminal.say("nobody answers")
        wait_for_request(termai_server)
        terminal.press(CTRL_C)
        assert "stopped (the question is forgotten)" in terminal.wait_for("\n> ")
        terminal.press("again\n")
        terminal.wait_for("You said: again\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert said(termai_server, 1) == [("user", "again")]


def wait_for_request(server: Server) -> None:
    """Wait until a first request was read."""
    while not server.requests:
        select.select([], [], [], 0.01)


@pytest.mark.parametrize("typed", ["", "half a question"])
def test_ctrl_c_at_the_prompt_ends_it(termai_server: Server, typed: str) -> None:
    """Ctrl-C at the prompt is a way to leave, exit 0, and nothing that was typed is sent."""
    with Terminal("-m", "gpt-5.5") as terminal:
        terminal.wait_for("> ")
        terminal.press(typed)
        if typed:
            terminal.wait_for(typed)
        terminal.wait_for_input()
        terminal.press(CTRL_C)
        code, shown = terminal.end()
    assert code == 0
    assert "Traceback" not in shown
    assert termai_server.requests == []


def test_new_forgets_what_was_said(termai_server: Server) -> None:
    """After /new a question goes out alone, and under the same system prompt."""
    with Terminal("-m", "claude-opus-5-5", "-s", "Be brief.") as terminal:
        terminal.say("one")
        terminal.say("/NEW ")
        terminal.say("two")
        terminal.wait_for("You said: two\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert said(termai_server, 1) == [("user", "two")]
    assert "Be brief." in termai_server.requests[1].body.decode()


def test_help_tells_what_there_is(termai_server: Server) -> None:
    """/help shows the commands, a slip is told, an empty line is nothing, a path is a question."""
    with Terminal("-m", "gpt-5.5") as terminal:
        terminal.say("/help")
        assert "/new" in terminal.wait_for("\n> ")
        terminal.press("/hlep\n")
        assert "there is no /hlep; /help tells" in terminal.wait_for("\n> ")
        terminal.press("\n")
        terminal.say("/etc/hosts, what is it?")
        terminal.wait_for("You said: /etc/hosts, what is it?\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert len(termai_server.requests) == 1


def test_a_failed_call_leaves_the_conversation_going(termai_server: Server) -> None:
    """An error is one line, names what becomes of the question, and never shows the key."""
    termai_server.script(Status(400))
    with Terminal("-m", "gpt-5.5") as terminal:
        terminal.say("one")
        told = terminal.wait_for("\n> ")
        assert "termai-http: BadRequestError: " in told
        assert told.endswith("(the question is forgotten)")
        terminal.press("two\n")
        terminal.wait_for("You said: two\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert said(termai_server, 1) == [("user", "two")]
    assert "sk-loopback" not in terminal.seen


def test_a_broken_answer_stays_as_far_as_it_came(termai_server: Server) -> None:
    """A stream that breaks is told, and what came of it is a part of what is asked next."""
    termai_server.script(CutAfter(6))
    with Terminal("-m", "claude-opus-5-5") as terminal:
        terminal.say("hello there you")
        told = terminal.wait_for("(what came stays in the conversation)")
        assert "\ntermai-http: StreamInterrupted: " in told
        terminal.say("go on")
        terminal.wait_for("You said: go on\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert [role for role, _ in said(termai_server, 1)] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "No model"),
        (["-m", "gpt-5.5", "--reasoning", "much"], "minimal"),
        (["-m", "gpt-5.5", "--base-url", "http://example.com"], "in the clear"),
        (["-m", "gpt-5.5", "--timeout", "-1"], "timeout"),
    ],
)
def test_what_could_never_work_is_told_before_the_first_question(
    termai_server: Server, arguments: list[str], told: str
) -> None:
    """A wrong option ends the command with 2 before anybody typed a question."""
    with Terminal(*arguments) as terminal:
        code, shown = terminal.end()
    assert code == 2
    assert told in shown
    assert "> " not in shown


def test_a_missing_key_is_told_before_the_first_question() -> None:
    """Without a key there is no prompt, and the variable is named."""
    with Terminal("-m", "gpt-5.5") as terminal:
        code, shown = terminal.end()
    assert code == 2
    assert "OPENAI_API_KEY" in shown


@pytest.mark.parametrize("arguments", [[], ["hi"], ["hi", "--no-stream"]])
def test_an_answer_cannot_steer_the_terminal(termai_server: Server, arguments: list[str]) -> None:
    """Escape sequences of a model, a carriage return and a bell show as signs, line breaks work."""
    termai_server.script(Text("a\x1b[2Jb\rc\x07\x9bd\n\te"))
    with Terminal("-m", "gpt-5.5", *arguments) as terminal:
        if not arguments:
            terminal.say("hi")
        terminal.wait_for("a\N{REPLACEMENT CHARACTER}[2Jbc\N{REPLACEMENT CHARACTER}" * 1)
        terminal.wait_for("\N{REPLACEMENT CHARACTER}d\n")
        if not arguments:
            terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert "\x1b[2J" not in terminal.seen


def test_into_a_file_one_prompt_is_read_from_the_terminal(termai_server: Server) -> None:
    """Where stdout is no terminal, all that is typed up to Ctrl-D is one prompt, as it ever was."""
    read, write = os.pipe()
    with Terminal("-m", "gpt-5.5", stdout=write) as terminal:
        os.close(write)
        terminal.wait_for("Ctrl-D")
        terminal.press("two\nlines\n" + CTRL_D)
        assert terminal.end()[0] == 0
    with os.fdopen(read) as answer:
        assert answer.read() == "You said: two\nlines\n\n"


def test_a_cut_off_answer_is_told(termai_server: Server) -> None:
    """An answer that ended at its limit says so, and is a part of the conversation."""
    termai_server.script(Text("Half an ans", finish="length"))
    with Terminal("-m", "gpt-5.5") as terminal:
        terminal.say("one")
        terminal.wait_for("cut off at its token limit")
        terminal.say("go on")
        terminal.wait_for("You said: go on\n")
        terminal.say("/exit")
        assert terminal.end()[0] == 0
    assert said(termai_server, 1)[1] == ("assistant", "Half an ans")
