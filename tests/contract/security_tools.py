"""What the tests of the security checklist share: servers, ways to call, looking for secrets."""

from __future__ import annotations

import pickle
import socket
import ssl
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import termai_http
from termai_http import (
    ClaudeAdapter,
    Client,
    Conversation,
    OpenAIAdapter,
    RequestHandler,
    RetryConfig,
    Target,
)
from tests.faults.harness import KEY, PROMPT, Peer, RawServer, good_reply

__all__ = [
    "FAST",
    "ONCE",
    "SECRETS",
    "Recorder",
    "answer",
    "call",
    "everything",
    "faces",
    "frames_with_locals",
    "must_hide",
    "raising",
]

PACKAGE = str(Path(termai_http.__file__).parent)
SECRETS = (KEY, PROMPT)
ONCE = RetryConfig(max_attempts=1)
FAST = RetryConfig(base_delay=0.001, max_delay=0.002)


class Recorder(RawServer):
    """Answers every request with ``answer``, and reads each by itself: no library in between."""

    def __init__(self, answer: bytes | None = None, context: ssl.SSLContext | None = None) -> None:
        self.answer = good_reply() if answer is None else answer
        self._context = context
        super().__init__(self._record)

    def _record(self, peer: Peer) -> None:
        if self._context is not None:
            peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
        while (request := peer.read_request()) is not None:
            self.requests.append(request)
            peer.send(self.answer)

    def last(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the last request's line and header lines, exactly as they came."""
        head = self.requests[-1].partition(b"\r\n\r\n")[0].decode("ascii")
        first, *lines = head.split("\r\n")
        return first, [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines]

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def call(client: Client, url: str, **options: Any) -> str:
    """Send the canary once."""
    given = {"model": "gpt-5.5", "api_key": KEY, "retry": ONCE, **options}
    return client.chat(PROMPT, base_url=url, **given).text


def faces(client: Client, url: str) -> dict[str, Callable[[], Any]]:
    """Return every way to make a call."""
    options: dict[str, Any] = {"api_key": KEY, "base_url": url, "timeout": 5}
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    adapter = OpenAIAdapter(client, api_key=KEY, base_url=url)
    claude = ClaudeAdapter(client, base_url=url)
    handler = RequestHandler(client)
    claude_options = {"model": "claude-x", "client": client, **options}
    talk = Conversation("gpt-5.5", client=client, **options)
    asked = {"model": "gpt-5.5", "input": PROMPT}
    spare = {"fallback": [Target("claude-x", api_key=KEY, base_url=url)], **options}

    def tool(city: str) -> str:
        """Tell the weather."""
        return city

    return {
        "Client.chat": lambda: client.chat(PROMPT, model="gpt-5.5", **options),
        "Client.stream": lambda: client.stream(PROMPT, model="gpt-5.5", **options),
        "fallback": lambda: client.chat(PROMPT, model="gpt-5.5", **spare),
        "fallback, stream": lambda: client.stream(PROMPT, model="gpt-5.5", **spare),
        "chat": lambda: termai_http.chat(PROMPT, model="claude-x", client=client, **options),
        "stream": lambda: termai_http.stream(PROMPT, model="claude-x", client=client, **options),
        "Client.run_tools": lambda: client.run_tools(
            PROMPT, model="gpt-5.5", tools=[tool], **options
        ),
        "run_tools": lambda: termai_http.run_tools(PROMPT, tools=[tool], **claude_options),
        "embed": lambda: termai_http.embed(PROMPT, model="e", client=client, **options),
        "count_tokens": lambda: termai_http.count_tokens(PROMPT, **claude_options),
        "list_models": lambda: termai_http.list_models(client=client, **options),
        "Conversation.ask": lambda: talk.ask(PROMPT),
        "Conversation.stream": lambda: talk.stream(PROMPT),
        "Conversation.run_tools": lambda: talk.run_tools(PROMPT, tools=[tool]),
        "respond": lambda: adapter.respond(asked),
        "OpenAIAdapter": lambda: adapter.chat_completion(body),
        "OpenAIAdapter.stream": lambda: adapter.stream(body),
        "ClaudeAdapter": lambda: claude.chat_completion(body, KEY),
        "post_json": lambda: handler.post_json(f"{url}/v1/x", headers, body),
        "get_json": lambda: handler.get_json(f"{url}/v1/x", headers),
    }


def raising(failure: type[BaseException]) -> Callable[..., Any]:
    """Return a function that raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise failure

    return fail


def break_reads(patch: Any, failure: type[BaseException]) -> None:
    """Let this thread's next read of a socket fail, whichever way the attempt goes."""
    mine, recv = threading.get_ident(), socket.socket.recv

    def fail(sock: Any, *args: Any) -> bytes:
        if threading.get_ident() == mine:
            raise failure
        return recv(sock, *args)

    patch.setattr("socket.SocketIO.readinto", raising(failure))
    patch.setattr("socket.socket.recv", fail)


def must_hide(text: str, where: str = "") -> None:
    """Check that neither key nor prompt, nor a run of 12 of their characters, is shown."""
    for secret in SECRETS:
        for at in range(len(secret) - 12):
            assert secret[at : at + 12] not in text, where


def frames_with_locals(error: BaseException) -> str:
    """Show the locals of the package's own frames, as a tracker of errors does."""
    shown, pending = [], [error]
    while pending:
        current = pending.pop()
        summary = traceback.TracebackException.from_exception(current, capture_locals=True)
        shown += [str(f.locals) for f in summary.stack if f.filename.startswith(PACKAGE)]
        pending += [item for item in (current.__cause__, current.__context__) if item is not None]
    return "\n".join(shown)


def everything(error: BaseException) -> str:
    """Return all that an error shows."""
    texts = [f"{error!s} {error!r} {error.args!r} {vars(error)!r}", frames_with_locals(error)]
    texts.append(pickle.dumps(error).decode("latin-1"))
    return "\n".join(texts)


def answer(status: str, body: bytes, headers: str = "") -> bytes:
    """Return a whole answer."""
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body
