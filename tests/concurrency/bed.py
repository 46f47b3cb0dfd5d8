"""A client, a server that repeats prompts, and what must hold between any two calls."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import socket
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from termai_http import Client, HttpClientConfig
from termai_http._call import Clock, active
from termai_http._sweeper import sweeper
from tests.contract.security_tools import FAST, PACKAGE, SECRETS
from tests.faults.harness import KEY, PROMPT, Peer, RawServer, good_body, good_reply
from tests.faults.rows_process import prompt_of

from .instants import TRACING_KEEPS

__all__ = ["KINDS", "PATIENCE", "Bed", "bed"]

PATIENCE = 30.0
KINDS = ("sized", "large", "chunked", "closing", "refused", "stream")
"""How an answer comes, which is the first word of its prompt."""


def _chunks(data: bytes) -> bytes:
    pieces = [data[at : at + 40] for at in range(0, len(data), 40)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _events(text: str) -> bytes:
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": text}},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    lines = [json.dumps({"choices": [choice]}) for choice in choices]
    return b"".join(b"data: %b\n\n" % line.encode() for line in [*lines, "[DONE]"])


class _Echo(RawServer):
    """Repeats each prompt less the canary, in the way that its first word names."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._refused: set[str] = set()
        super().__init__(self._converse)

    def _converse(self, peer: Peer) -> None:
        if self._context is not None:
            peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
        while (request := peer.read_request()) is not None:
            text = prompt_of(request).removesuffix(PROMPT)
            kind = text.split(" ", 1)[0]
            if kind == "refused" and text not in self._refused:
                self._refused.add(text)
                peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
                continue
            for part in _parts(kind, text):
                peer.send(part)
            if kind == "closing":
                return


def _parts(kind: str, text: str) -> list[bytes]:
    if kind in ("chunked", "stream"):
        body = _events(text) if kind == "stream" else good_body(text)
        media = b"text/event-stream" if kind == "stream" else b"application/json"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
        return [head % media + _chunks(body)]
    if kind == "large":
        whole = good_reply(body=good_body(text) + b" " * 70_000)
        return [whole[:30_000], whole[30_000:]]
    return [good_reply(text, b"Connection: close\r\n" if kind == "closing" else b"")]


class Bed:
    """A client with one idle connection, its server, and what was seen that must not be.

    Attributes:
        ahead: Seconds that the client's clock is ahead.
        flaws: What must not be: where, what, and how much of it.
        warned: The warnings that came meanwhile.
    """

    def __init__(
        self, context: ssl.SSLContext | None, warned: list[Any], config: dict[str, Any]
    ) -> None:
        self.server = _Echo(context)
        self.url = self.server.url if context is None else self.server.tls_url
        self.ahead = 0.0
        self.flaws: list[tuple[object, ...]] = []
        self.warned = warned
        self._unraisable: list[str] = []
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count(1)
        given = {"retry": FAST, "timeout": 20, "stream_timeout": 20, "trust_env": False}
        self._config = HttpClientConfig(**{**given, **config})
        self.renew()

    def renew(self) -> None:
        """Begin with another client."""
        clock = Clock(monotonic=lambda: time.monotonic() + self.ahead)
        self.client = Client(self._config, _clock=clock)
        self.must_work()
        self.transport = self.client._core.transport()

    def prompt(self, kind: str) -> str:
        """Return what no other call asks."""
        return f"{kind} {next(self._numbers)} "

    def chat(self, text: str, **options: Any) -> str:
        """Make a call; returns what came back."""
        given = {"model": "gpt-5.5", "api_key": KEY, "base_url": self.url, **options}
        if text.startswith("stream"):
            return "".join(self.client.stream(text + PROMPT, **given))
        return self.client.chat(text + PROMPT, **given).text

    def must_work(self) -> None:
        """Make a good call."""
        text = self.prompt("sized")
        assert self.chat(text) == text

    def look(self, place: object) -> None:
        """Note what is in use though no call runs, and connections and figures that are wrong."""
        if TRACING_KEEPS:
            gc.collect()
        slots = self.transport._slots
        # Before the figures, whose making closes them.
        idle = [conn for store in slots.stores for conn, _ in list(store._waiting)]
        strange = [conn for conn in idle if conn.sock is None or conn.lease is not None]
        stats = self.client.stats()
        gone = stats.idle_connections + stats.evicted + stats.discarded
        # Those of objects that tracing kept say nothing.
        warned = [] if TRACING_KEEPS else [str(item.message) for item in self.warned]
        for what, seen in (
            ("bound", active.attempt is not None),
            ("idle, and closed or another's", len(strange)),
            ("in use", stats.active_connections + stats.waiting + stats.calls.in_flight),
            ("held", len(slots.held) + len(slots.out)),
            ("opened and not accounted for", stats.opened - gone),
            ("warned", warned),
            ("raised in a finalizer", self._unraisable),
        ):
            if seen:
                self.flaws.append((place, what, seen))
        self.warned.clear()
        self._unraisable = []

    def locked(self) -> bool:
        """Tell whether somebody holds a lock that others might wait for."""
        locks = (*self.client._core.locks(), *sweeper.locks())
        return any(lock.locked() for lock in locks if hasattr(lock, "locked"))

    def beside(self, act: Callable[[], object]) -> None:
        """Do it in another thread, and wait for that unless it may need a lock that is held."""
        locked = self.locked()
        thread = threading.Thread(target=self._guarded, args=(act,))
        self._threads.append(thread)
        thread.start()
        if not locked:
            thread.join(PATIENCE)

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:
            self.flaws.append(("beside", act, repr(error)))

    def join(self) -> None:
        """Wait for what is done beside."""
        while self._threads:
            thread = self._threads.pop()
            thread.join(PATIENCE)
            if thread.is_alive():
                self.flaws.append(("beside", "hangs"))

    def note_unraisable(self, failure: Any) -> None:
        """Keep what a finalizer raised, apart from interrupts: those end where they come."""
        if failure.exc_type is not KeyboardInterrupt:
            self._unraisable.append(repr(failure.exc_value))

    def connected(self) -> int:
        """Count the descriptors of this process that are connected to the server."""
        number = 0
        for fd in range(3, 256):
            with contextlib.suppress(OSError):
                copy = socket.socket(fileno=fd)
                try:
                    number += copy.getpeername()[1] == self.server.port
                finally:
                    copy.detach()
        return number


def shown_in(error: BaseException) -> list[tuple[str, str]]:
    """Return which locals of our frames show a secret; a half-made object may have no repr."""
    found = []
    step = error.__traceback__
    while step is not None:
        frame, step = step.tb_frame, step.tb_next
        ours = frame.f_code.co_filename.startswith(PACKAGE)
        for name, value in frame.f_locals.items() if ours else ():
            with contextlib.suppress(AttributeError):
                if any(secret in repr(value) for secret in SECRETS):
                    found.append((frame.f_code.co_name, name))
    return found


@contextlib.contextmanager
def bed(context: ssl.SSLContext | None = None, **config: Any) -> Iterator[Bed]:
    """Make a bed; what is wrong with it at the end, or was before, fails the test."""
    hook = sys.unraisablehook
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        made = Bed(context, warned, config)
        sys.unraisablehook = made.note_unraisable
        try:
            yield made
            gc.collect()
            made.look("the end")
        finally:
            sys.unraisablehook = hook
            made.client.close()
            made.server.close()
    assert made.flaws == [], made.flaws[:3]
