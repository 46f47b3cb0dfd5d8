"""``configure_logging``: lines of calls on stderr, once, and never a key."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tqdm.std import tqdm

import termai_http
from termai_http import (
    Client,
    ConfigurationError,
    HttpClientConfig,
    RetryConfig,
    configure_logging,
    events,
)
from termai_http._logging import _begun, _tell_failure
from termai_http.errors import TermaiHttpError
from termai_http.events import Listeners
from termai_http.testing import Server, Status, Text

KEY = "sk-loopback-0123456789abcdef"
PROMPT = "A prompt that no line may hold"
log = logging.getLogger("termai_http")


class NoHandlers(list[logging.Handler]):
    """Takes none: pytest gives the root logger its own when a test begins."""

    def append(self, handler: logging.Handler) -> None:
        """Take none."""


@pytest.fixture(autouse=True)
def quiet_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin with no handler of the root's, and take back what was configured."""
    monkeypatch.setattr(logging.getLogger(), "handlers", NoHandlers())
    before = log.level
    yield
    log.setLevel(before)
    if _begun.handler is not None:
        log.removeHandler(_begun.handler)
        _begun.handler = None
    Listeners._of_all = ()


def ask(client: Client, server: Server) -> None:
    """Make a call, whatever becomes of it."""
    with suppress(TermaiHttpError):
        client.chat(PROMPT, model="gpt-5.5", api_key=KEY, base_url=server.openai_url)


def test_a_call_is_a_line(
    client: Client, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call has one line with its status, on stderr, though its client was made before."""
    configure_logging()
    ask(client, server)
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert "INFO termai_http: call" in line
    assert "openai gpt-5.5: 200 in" in line
    assert "request id req_openai_000001" in line


def test_every_exchange_is_a_line_when_debugging(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Attempts, the wait and the outcome are told, of a client that is made later, too."""
    configure_logging("debug")
    server.script(Status(503, retry_after=0.01))
    with Client(HttpClientConfig()) as client:
        ask(client, server)
    lines = capsys.readouterr().err
    for part in (
        *("attempt 1 begins", "attempt 1 failed: 503", "WARNING termai_http: Retrying openai"),
        *("attempt 2 got 200 over a kept connection", "200 in", "2 attempts"),
    ):
        assert part in lines


def test_a_failure_is_a_warning(
    client: Client, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """At WARNING only what failed has a line, with the name of its error."""
    configure_logging(logging.WARNING)
    ask(client, server)
    assert capsys.readouterr().err == ""
    server.script(Status(401))
    ask(client, server)
    assert "AuthenticationError (401) after" in capsys.readouterr().err


def test_no_line_holds_a_key_or_a_prompt(
    client: Client, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever happens, the lines hold neither."""
    configure_logging("DEBUG")
    server.script(Status(503, retry_after=0.01), Status(400), Status(401), Text(PROMPT))
    for _ in range(4):
        ask(client, server)
    told = capsys.readouterr().err
    assert told.count("\n") >= 4
    assert KEY not in told
    assert PROMPT not in told


def test_a_second_call_only_changes_the_level(
    client: Client, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line comes twice, from however many threads it is called."""
    threads = [threading.Thread(target=configure_logging, args=("INFO",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask(client, server)
    assert len(capsys.readouterr().err.splitlines()) == 1
    configure_logging("ERROR")
    ask(client, server)
    assert capsys.readouterr().err == ""
    assert client._core.listeners.everybody.count(_tell_failure) == 1


def test_a_program_with_handlers_of_its_own_gets_the_lines(
    client: Client,
    server: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the root logger has a handler, given later too, the lines go there and only there."""
    configure_logging()
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    ask(client, server)
    assert capsys.readouterr().err == ""
    assert [record.levelname for record in records] == ["INFO"]
    log.propagate = False
    try:
        ask(client, server)
    finally:
        log.propagate = True
    assert "200 in" in capsys.readouterr().err
    assert len(records) == 1


def test_a_server_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be printed is shown as a question mark."""
    configure_logging()
    log.warning("model %s", "\x1b[2Jgone\r")
    assert "model ?[2Jgone?" in capsys.readouterr().err


class Kept(logging.Handler):
    """Keeps its records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)

    def events(self, level: int = logging.DEBUG) -> list[str]:
        """Return what the records of a level or above it tell of."""
        return [vars(one)["termai_event"] for one in self.records if one.levelno >= level]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A handler of the program's own; its level is the test's to set."""
    handler = Kept()
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def test_a_program_needs_its_own_logging_only(client: Client, server: Server, kept: Kept) -> None:
    """At INFO a call is one record with its facts as fields, and each retry a warning."""
    log.setLevel(logging.INFO)
    server.script(Status(503, retry_after=0.01))
    ask(client, server)
    assert kept.events() == ["RetryScheduled", "CallSucceeded"]
    retry, done = (vars(record) for record in kept.records)
    assert (retry["levelname"], done["levelname"]) == ("WARNING", "INFO")
    assert retry["termai_call_id"] == done["termai_call_id"]
    assert (retry["termai_status"], retry["termai_attempt"]) == (503, 1)
    assert retry["termai_request_id"] == "req_openai_000001"
    assert {name: value for name, value in done.items() if name.startswith("termai_")} == {
        "termai_event": "CallSucceeded",
        "termai_call_id": done["termai_call_id"],
        "termai_provider": "openai",
        "termai_model": "gpt-5.5",
        "termai_operation": "chat",
        "termai_streaming": False,
        "termai_status": 200,
        "termai_request_id": "req_openai_000002",
        "termai_attempts": 2,
        "termai_elapsed": done["termai_elapsed"],
        "termai_input_tokens": done["termai_input_tokens"],
        "termai_output_tokens": done["termai_output_tokens"],
        "termai_cached_tokens": 0,
        "termai_reasoning_tokens": 0,
        "termai_cost": done["termai_cost"],
        "termai_complete": True,
        "termai_response_model": "gpt-5.5",
        "termai_response_id": done["termai_response_id"],
        "termai_finish_reason": "stop",
    }
    assert done["termai_input_tokens"] > 0 < done["termai_output_tokens"]
    assert f"{done['termai_input_tokens']} tokens in" in kept.records[1].getMessage()


def test_at_warning_no_event_is_made(
    client: Client, server: Server, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that logs warnings has the retries, and calls are as quick as with no log."""
    log.setLevel(logging.WARNING)
    monkeypatch.setattr(events, "Audience", None)
    server.script(Status(503, retry_after=0.01), Text("fine"), Status(401))
    ask(client, server)
    ask(client, server)
    assert kept.events() == ["RetryScheduled"]


def test_at_debug_every_event_is_a_line(server: Server, kept: Kept, fast: RetryConfig) -> None:
    """In their order, each once, and those of no call, too: a connection that was closed idle."""
    log.setLevel(logging.DEBUG)
    heard: list[str] = []
    config = HttpClientConfig(retry=fast)
    server.script(Status(503, retry_after=0.01))
    with Client(config) as client, client.listening(lambda one: heard.append(type(one).__name__)):
        for piece in client.stream(
            PROMPT, model="gpt-5.5", api_key=KEY, base_url=server.openai_url
        ):
            assert piece
        client._core.begun.close()
        client._core.listeners.deliver()
    assert heard == kept.events()
    assert kept.events(logging.INFO) == ["RetryScheduled", "CallSucceeded"]
    assert {"FirstToken", "ConnectionOpened", "ConnectionClosed"} <= set(heard)


def test_no_record_comes_twice(client: Client, server: Server, kept: Kept) -> None:
    """Whatever was configured before, and however often, a call that fails is one record."""
    for level in ("WARNING", "INFO", "DEBUG", "WARNING"):
        configure_logging(level)
        server.script(Status(503, retry_after=0.01), Status(401))
        ask(client, server)
        assert kept.events(logging.WARNING) == ["RetryScheduled", "CallFailed"], level
        kept.records.clear()


@pytest.mark.parametrize("level", ["LOUD", -1, True, None, 1.5])
def test_a_wrong_level_is_refused(level: object) -> None:
    """A level that is none names those there are, and changes nothing."""
    before = log.level
    with pytest.raises(ConfigurationError, match="level must be DEBUG, INFO"):
        configure_logging(level)  # type: ignore[arg-type]
    assert log.level == before


def test_nothing_is_said_without_it(
    client: Client, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that does not ask for lines has none, and its client no listener."""
    ask(client, server)
    assert capsys.readouterr().err == ""
    assert client._core.listeners.everybody == ()


def test_a_program_without_a_console_goes_on() -> None:
    """Without stderr, as under pythonw.exe, a line goes nowhere and breaks nothing."""
    code = (
        "import sys, termai_http, logging\n"
        "termai_http.configure_logging()\n"
        "sys.stderr = None\n"
        "logging.getLogger('termai_http').warning('nobody reads this')\n"
        "print('on')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_the_face_has_it() -> None:
    """It is a name of the face, and needs no client."""
    assert termai_http.configure_logging is configure_logging


def test_a_line_stands_above_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar of ``progress=True`` is taken away for it, and drawn anew below."""
    configure_logging()
    with tqdm(total=3, file=sys.stderr):
        log.warning("a line")
    assert re.search(r"\r +\r[0-9:]+ WARNING termai_http: a line\n\r", capsys.readouterr().err)
