"""What the rows of the fault catalogue are played with: raw servers, clients, and checks.

A row is written once and played with any client: with ours by the suite, with others by
``python -m benchmarks.faults``, so that one text decides for all.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import pickle
import socket
import struct
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import attrs

__all__ = [
    "KEY",
    "PROMPT",
    "Bench",
    "Broken",
    "Driver",
    "Peer",
    "RawServer",
    "Records",
    "Row",
    "Seen",
    "claude_body",
    "closed_port",
    "good_body",
    "good_reply",
    "reply_to",
    "row",
    "rows",
    "unmeasured",
]

KEY = "sk-canary-0123456789-abcdefghijkl"
PROMPT = "The canary prompt that nothing may ever show to anybody."
OVERRUN = 0.25


class Broken(AssertionError):
    """A promise that was not kept; the text says what was seen instead."""


@attrs.define(kw_only=True)
class Seen:
    """How one call ended, as any client can tell it.

    Attributes:
        kind: ``"reply"``, ``"timeout"``, ``"connection"``, ``"tls"``, ``"dns"``, ``"proxy"``,
            ``"status"``, ``"invalid"`` (an answer that is none), ``"interrupted"`` (a stream that
            broke), ``"refused"`` (told before sending), ``"closed"``, ``"cancelled"``, ``"other"``
            (another error of the client's own) or ``"untyped"`` (an exception that is not of the
            client's own kind, ``ValueError`` say).
        error: The exception; None for a reply.
        text: The reply's text.
        status: HTTP status where there was one.
        seconds: From entry to end.
        timeout: What was asked for.
        late: How late a sleeping thread beside it woke, at worst.
    """

    kind: str
    error: BaseException | None = None
    text: str | None = None
    status: int | None = None
    seconds: float = 0.0
    timeout: float = 0.0
    late: float = 0.0

    @property
    def name(self) -> str:
        """The exception's class, or the kind where there is none."""
        return type(self.error).__name__ if self.error is not None else self.kind

    @property
    def overrun(self) -> float:
        """Seconds past the deadline, less what the machine itself was late."""
        return self.seconds - self.timeout - self.late

    def must_be(self, *kinds: str) -> Seen:
        """Check how it ended."""
        if self.kind not in kinds:
            raise Broken(f"{self.name} ({self.kind}) after {self.seconds:.1f} s")
        return self

    def must_keep_the_deadline(self) -> Seen:
        """Check that it ended in time."""
        if self.overrun > OVERRUN:
            raise Broken(f"{self.name} after {self.seconds:.1f} s of a {self.timeout:g} s timeout")
        return self


class Driver(Protocol):
    """One client library. Every method is called from any thread."""

    name: str
    ours: bool

    def open(self, **config: Any) -> Any:
        """Make a client.

        Known settings: ``retries`` (after the first attempt, default 2), ``connect_timeout``,
        ``read_timeout``, ``ca_bundle``, ``proxies``, ``max_connections``, and for ours anything of
        ``HttpClientConfig``; what a client has not, it leaves out.
        """

    def close(self, client: Any) -> None:
        """Close a client."""

    def chat(self, client: Any, url: str, timeout: float, **options: Any) -> str:
        """Send the canary prompt (or ``prompt=``), with the canary key (or ``key=``).

        ``url`` is scheme, host and port. Returns the reply's text; raises what the client raises.
        """

    def stream(self, client: Any, url: str, timeout: float, **options: Any) -> Iterator[str]:
        """Open a stream, and yield its text pieces as they come."""

    def kind(self, error: BaseException) -> str:
        """Tell what an exception of the client's is, in the words of ``Seen.kind``."""

    def package(self) -> str:
        """Return the folder whose frames are the client's own."""

    def figures(self, client: Any) -> str:
        """Return all that the client shows of itself: repr, statistics."""

    def check_given_back(self, client: Any) -> None:
        """Raise ``Broken`` where the client still counts something as in use."""


class _Control:
    """A sleeping thread beside the calls: how late it wakes is the machine's fault."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._late = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            begun = time.monotonic()
            time.sleep(0.005)
            self._late = max(self._late, time.monotonic() - begun - 0.005)

    def reset(self) -> None:
        self._late = 0.0

    def late(self) -> float:
        return self._late

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


class Peer:
    """One accepted connection of a ``RawServer``, in the hands of the row's handler."""

    def __init__(self, sock: socket.socket, number: int, ended: threading.Event) -> None:
        self.sock = sock
        self.number = number
        self.ended = ended
        self._buffer = b""

    def read_request(self) -> bytes | None:
        """Read one whole request with a Content-Length; None where the client closed."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._receive():
                return None
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        while len(self._buffer) < end + 4 + length:
            if not self._receive():
                return None
        found = self._buffer[: end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        return found

    def _receive(self) -> bool:
        received = self.sock.recv(65536)
        self._buffer += received
        return bool(received)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def drip(self, data: bytes, interval: float, size: int = 1) -> None:
        """Send bytes a few at a time, until the row ends."""
        for at in range(0, len(data), size):
            self.sock.sendall(data[at : at + size])
            if self.ended.wait(interval):
                return

    def wait(self, seconds: float | None = None) -> None:
        """Do nothing for so long, or until the row ends."""
        self.ended.wait(seconds)

    def reset(self) -> None:
        """Let the close be a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class RawServer:
    """Hands each accepted connection to ``handler`` in a thread; the connection closes after it.

    Attributes:
        connections: Connections accepted so far.
        requests: Whole requests read by ``Peer.read_request`` through ``answering``.
    """

    def __init__(self, handler: Callable[[Peer], None], host: str = "127.0.0.1") -> None:
        self._handler = handler
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.requests: list[bytes] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """The same with https."""
        return f"https://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                peer = Peer(sock, self.connections, self._ended)
                self._peers.append(peer)
                thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
                self._threads.append(thread)
            thread.start()

    def _serve(self, peer: Peer) -> None:
        # A client may go away at any instant; that is no failure of the server.
        with contextlib.suppress(OSError, ValueError):
            self._handler(peer)
        with contextlib.suppress(OSError):
            peer.sock.close()

    def close(self) -> None:
        """End every handler and connection."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        with self._lock:
            # A handler may have put TLS around its socket.
            socks, threads = [peer.sock for peer in self._peers], list(self._threads)
        for sock in socks:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        for sock in socks:
            sock.close()


def unmeasured() -> dict[str, str]:
    """Return an environment without coverage's variables.

    Coverage keeps a lock of its own in every traced function, which an interrupt can leave locked.
    """
    return {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def good_body(text: str = "fine") -> bytes:
    """Return the body of a good OpenAI chat completion."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5.5"}
    return json.dumps({**whole, "choices": [choice], "usage": usage}).encode()


def claude_body(text: str = "fine") -> bytes:
    """Return the body of a good Claude message."""
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
    content = [{"type": "text", "text": text}]
    usage = {"input_tokens": 3, "output_tokens": 2}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    return json.dumps({**whole, "content": content, **end, "usage": usage}).encode()


def good_reply(text: str = "fine", headers: bytes = b"", body: bytes | None = None) -> bytes:
    """Return a whole good answer; ``headers`` are more lines, each with its CRLF."""
    content = good_body(text) if body is None else body
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        + headers
        + b"Content-Length: %d\r\n\r\n" % len(content)
        + content
    )


def reply_to(request: bytes, text: str = "fine", headers: bytes = b"") -> bytes:
    """Return a whole good answer in the dialect that a request speaks."""
    body = claude_body if request.startswith(b"POST /v1/messages ") else good_body
    return good_reply(headers=headers, body=body(text))


class Records(logging.Handler):
    """Keeps all that a record holds, as text: its line, its arguments, and every field of its own.

    Attributes:
        texts: One a record.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        fields = {name: value for name, value in vars(record).items() if name not in _USUAL}
        self.texts.append(f"{self.format(record)}\n{record.args!r}\n{fields!r}")


_USUAL = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime"))


class Bench:
    """One row with one client: makes servers and clients, calls, and checks what every row must.

    Args:
        driver: The client library.

    Attributes:
        logged: What was logged meanwhile, at DEBUG.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.ours = driver.ours
        self.seen: list[Seen] = []
        self.flaws: list[str] = []
        self._secrets = [(KEY, "key"), (PROMPT, "prompt")]
        self._stack = contextlib.ExitStack()
        self._clients: list[Any] = []

    def __enter__(self) -> Bench:
        gc.collect()
        self._descriptors = _open_descriptors()
        self._control = _Control()
        self.logged = Records()
        root = logging.getLogger()
        level = root.level
        root.addHandler(self.logged)
        root.setLevel(logging.DEBUG)
        self._stack.callback(root.setLevel, level)
        self._stack.callback(root.removeHandler, self.logged)
        # At DEBUG it keeps attempts off the direct way, so that each has its line.
        pools = logging.getLogger("urllib3.connectionpool")
        self._stack.callback(pools.setLevel, pools.level)
        pools.setLevel(logging.INFO)
        self._warned = self._stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self._clients:
            if exc[0] is None:
                self._note(lambda client=client: self.driver.check_given_back(client))
            self._note_secret(self.driver.figures(client), "its figures")
            self.driver.close(client)
        self._note_secret("\n".join(self.logged.texts), "the logs")
        self._note_secret(" ".join(str(item.message) for item in self._warned), "a warning")
        self._stack.close()
        self._control.stop()
        for seen in self.seen:
            self._look_for_secrets(seen)
            seen.error = None
        self._clients.clear()
        gc.collect()
        left = _settled_descriptors(self._descriptors)
        if left > 0:
            self.flaws.append(f"{left} file descriptors left open")

    def _note(self, check: Callable[[], None]) -> None:
        try:
            check()
        except Broken as broken:
            self.flaws.append(str(broken))

    def _note_secret(self, text: str, where: str) -> None:
        for secret, name in self._secrets:
            if secret in text:
                self.flaws.append(f"the {name} stands in {where}")

    def _look_for_secrets(self, seen: Seen) -> None:
        error = seen.error
        if error is None:
            return
        self._note_secret(f"{error!s} {error!r}", "the error's text")
        self._note_secret(f"{error.args!r} {vars(error)!r}", "the error's fields")
        with contextlib.suppress(Exception):
            # One that cannot be pickled shows nothing there.
            self._note_secret(pickle.dumps(error).decode("latin-1"), "the pickled error")
        self._note_secret(_own_frames(error, self.driver.package()), "a traceback with locals")

    def must_show_nothing(self, error: BaseException) -> None:
        """Check that an exception shows no secret, by itself or in the client's own frames."""
        self._look_for_secrets(Seen(kind="other", error=error))

    def must(self, condition: object, seen_instead: str) -> None:
        """Check a promise."""
        if not condition:
            raise Broken(seen_instead)

    def hide(self, secret: str, name: str) -> None:
        """Look for one more secret, wherever key and prompt are looked for."""
        self._secrets.append((secret, name))

    def cleanup(self, function: Callable[..., object], *args: Any) -> None:
        """Call something when the row ends."""
        self._stack.callback(function, *args)

    def enter(self, context: contextlib.AbstractContextManager[Any]) -> Any:
        """Enter a context that is left when the row ends."""
        return self._stack.enter_context(context)

    def serve(self, handler: Callable[[Peer], None]) -> RawServer:
        """Run a raw server until the row ends."""
        server = RawServer(handler)
        self._stack.callback(server.close)
        return server

    def answering(
        self, answer: Callable[[Peer, bytes], object] | bytes, *, close: bool = False
    ) -> RawServer:
        """Run a raw server that reads requests, records them, and answers each.

        Args:
            answer: Bytes, or a function of the connection and the request that sends something;
                a connection goes on until it is closed.
            close: Whether the connection closes after the first answer.
        """

        def handle(peer: Peer) -> None:
            while (request := peer.read_request()) is not None:
                server.requests.append(request)
                if isinstance(answer, bytes):
                    peer.send(answer)
                else:
                    answer(peer, request)
                if close:
                    return

        server = self.serve(handle)
        return server

    def client(self, **config: Any) -> Any:
        """Make a client, closed when the row ends."""
        made = self.driver.open(**config)
        self._clients.append(made)
        return made

    def chat(self, url: str, timeout: float, client: Any = None, **options: Any) -> Seen:
        """Make one call and tell how it ended; never raises for what the call raised."""
        used = client if client is not None else self.client()
        return self._watch(timeout, lambda: self.driver.chat(used, url, timeout, **options))

    def stream(
        self,
        url: str,
        timeout: float,
        client: Any = None,
        *,
        on_piece: Callable[[str], object] = lambda piece: None,
        **options: Any,
    ) -> Seen:
        """Read one stream to its end and tell how it ended, ``text`` being all that came.

        ``on_piece`` is called with each piece when it came.
        """
        used = client if client is not None else self.client()
        pieces: list[str] = []

        def read() -> str:
            for piece in self.driver.stream(used, url, timeout, **options):
                pieces.append(piece)
                on_piece(piece)
            return "".join(pieces)

        seen = self._watch(timeout, read)
        seen.text = "".join(pieces)
        return seen

    def _watch(self, timeout: float, call: Callable[[], str]) -> Seen:
        self._control.reset()
        begun = time.monotonic()
        seen = Seen(kind="reply", timeout=timeout)
        try:
            seen.text = call()
        except Exception as error:
            seen.error = error
            seen.kind = self.driver.kind(error)
            status = getattr(error, "status_code", None)
            seen.status = status if isinstance(status, int) else None
        seen.seconds = time.monotonic() - begun
        seen.late = self._control.late()
        self.seen.append(seen)
        if seen.overrun > OVERRUN:
            self.flaws.append(f"{seen.seconds:.1f} s of a {timeout:g} s timeout")
        return seen


def _open_descriptors() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return len(os.listdir(folder))
    return 0


def _settled_descriptors(before: int) -> int:
    """Return how many more are open than before, once threads that end had time to."""
    for _ in range(100):
        left = _open_descriptors() - before
        if left <= 0:
            return 0
        time.sleep(0.02)
    return left


def _shown(values: dict[str, Any]) -> str:
    """Show values as a dump of a traceback does; one that is half made cannot be shown."""
    shown = []
    for name, value in values.items():
        with contextlib.suppress(Exception):
            shown.append(f"{name}={value!r}")
    return ", ".join(shown)


def _own_frames(error: BaseException, package: str) -> str:
    """Show the locals of a library's own frames in a traceback, its causes' included."""
    shown, seen = [], set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        shown += [
            f"{frame.f_code.co_name}: {_shown(frame.f_locals)}"
            for frame, _ in traceback.walk_tb(current.__traceback__)
            if frame.f_code.co_filename.startswith(package)
        ]
        current = current.__cause__ or current.__context__
    return "\n".join(shown)


@attrs.frozen(kw_only=True)
class Row:
    """One fault of the catalogue.

    Attributes:
        number: ``"F01"`` to ``"F88"``.
        fault: What happens.
        promise: What the client then does.
        argument: Why that differs from the notes; empty where it does not.
        play: Plays the fault on a bench; raises ``Broken`` where the promise is not kept.
        peers: Whether other clients can be played at all; False for what only we have.
        linux: Whether it needs what only Linux has.
    """

    number: str
    fault: str
    promise: str
    argument: str = ""
    play: Callable[[Bench], None]
    peers: bool = True
    linux: bool = False


_ROWS: dict[str, Row] = {}


def row(
    number: str,
    *,
    fault: str,
    promise: str,
    argument: str = "",
    peers: bool = True,
    linux: bool = False,
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Enter a function into the catalogue."""

    def enter(play: Callable[[Bench], None]) -> Callable[[Bench], None]:
        if number in _ROWS:
            raise ValueError(f"{number} stands in the catalogue already")
        _ROWS[number] = Row(
            number=number,
            fault=fault,
            promise=promise,
            argument=argument,
            play=play,
            peers=peers,
            linux=linux,
        )
        return play

    return enter


def rows() -> list[Row]:
    """Return the catalogue, in order."""
    return [_ROWS[number] for number in sorted(_ROWS)]
