"""The loopback server: real sockets, a thread a connection, a record of everything."""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

from ._answer import Backend
from ._faults import ChosenReply, Fault, ResetBeforeRead
from ._play import play
from ._record import RecordedConnection, RecordedRequest
from ._wire import BadRequest, RawRequest, Wire, response_head

__all__ = ["Server"]

_BACKLOG = 2048
_JOIN_SECONDS = 10.0


def _check_function(function: object, what: str) -> None:
    if not callable(function):
        raise TypeError(f"{what} must be a function of the request, not {function!r}")


def _check_seconds(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be seconds of at least 0, not {value!r}")


class _Connection:
    """One accepted connection while the server holds it."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.requests = 0
        self.waiting = False
        self.closing = False
        self.thread: threading.Thread | None = None


class Server:
    """Speaks OpenAI's and Claude's APIs on 127.0.0.1, whole and streamed.

    Good replies repeat the prompt, so that each can be checked against its own. A request with
    tools gets a call of those that the prompt names, or of the first, and then its results
    repeated. Where a JSON schema is asked for, a reply fits it. Wrong requests get the vendor's
    own error. Every method is safe from any thread.

    Args:
        port: Port to listen on; 0 takes a free one.
        tls: Context of a TLS server; None speaks plain HTTP.
        connect_delay: Seconds that each new connection waits before its first request is read,
            as a TLS handshake with a vendor would take.
        delay: Seconds before each reply.
        reply: Gives the text of a good reply, or a value such as ``ToolCalls``; None, given here
            or returned, means the usual reply.
        pace: Seconds between the events of a stream; 0 sends them at once.
        models: Names that the list of models holds, for either vendor; None means a few of each
            vendor's own.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        connect_delay: float = 0.0,
        delay: float = 0.0,
        reply: Callable[[RecordedRequest], str | ChosenReply | None] | None = None,
        pace: float = 0.0,
        models: Sequence[str] | None = None,
    ) -> None:
        _check_seconds(delay=delay, connect_delay=connect_delay, pace=pace)
        if reply is not None:
            _check_function(reply, "reply")
        self._wanted_port = port
        self._tls = tls
        self._connect_delay = connect_delay
        self._delay = delay
        self._backend = Backend(reply=reply, models=models, pace=pace)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._numbers = itertools.count(1)
        self._requests: list[RecordedRequest] = []
        self._script: deque[Fault] = deque()
        self._predicate: Callable[[RecordedRequest], Fault | None] | None = None
        self._held: dict[int, _Connection] = {}
        self._ended: list[RecordedConnection] = []
        self._connection_numbers = itertools.count(1)
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self.port = port

    def start(self) -> Server:
        """Listen and serve in the background; returns the server itself."""
        self._listener = socket.create_server(("127.0.0.1", self._wanted_port), backlog=_BACKLOG)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), name="termai-server", daemon=True
        )
        self._acceptor.start()
        return self

    def close(self) -> None:
        """Stop listening, close every connection and wait for the threads to end."""
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        if self._acceptor is not None:
            self._acceptor.join(_JOIN_SECONDS)
        with self._lock:
            held = list(self._held.values())
        for connection in held:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
        for connection in held:
            if connection.thread is not None:
                connection.thread.join(_JOIN_SECONDS)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """What belongs into ``OPENAI_BASE_URL``."""
        return f"{self.url}/v1"

    @property
    def claude_url(self) -> str:
        """What belongs into ``ANTHROPIC_BASE_URL``."""
        return self.url

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request that was read whole, in order; a copy."""
        with self._lock:
            return list(self._requests)

    @property
    def connections(self) -> list[RecordedConnection]:
        """Every connection accepted, in order; a copy."""
        with self._lock:
            held = [
                RecordedConnection(id=one.number, requests=one.requests, open=True)
                for one in self._held.values()
            ]
            return sorted([*self._ended, *held], key=lambda connection: connection.id)

    def script(self, *faults: Fault) -> None:
        """Queue faults: each of the next POSTs takes one; after them replies are good again.

        Raises:
            TypeError: One of them is none; nothing was queued.
        """
        for fault in faults:
            if not isinstance(fault, Fault):
                raise TypeError(
                    "script() takes faults and replies, as Status(429) or Text('Hello'), "
                    f"not {fault!r}"
                )
        with self._lock:
            self._script.extend(faults)

    def fail_when(self, predicate: Callable[[RecordedRequest], Fault | None]) -> None:
        """Let ``predicate`` choose the fault of each request, before the queue; None for no fault.

        It sees GETs, too: ``lambda request: Status(401) if request.method == "GET" else None``.

        Raises:
            TypeError: It is no function.
        """
        _check_function(predicate, "predicate")
        self._predicate = predicate

    def reset(self) -> None:
        """Forget what was recorded and scripted; connections and stored responses stay."""
        with self._lock:
            self._requests.clear()
            self._ended.clear()
            self._script.clear()
            self._predicate = None

    def close_idle(self) -> None:
        """Close, from the server's side, every connection that waits for a next request.

        One that is being answered closes after its answer.
        """
        with self._lock:
            held = list(self._held.values())
        for connection in held:
            connection.closing = True
            if connection.waiting:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                connection = _Connection(next(self._connection_numbers), sock)
                self._held[connection.number] = connection
            connection.thread = threading.Thread(
                target=self._serve, args=(connection,), name="termai-connection", daemon=True
            )
            connection.thread.start()

    def _serve(self, connection: _Connection) -> None:
        try:
            # A client may go away at any instant; that is no failure of the server.
            with contextlib.suppress(OSError, BadRequest):
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._converse(connection)
        finally:
            with self._lock:
                del self._held[connection.number]
                self._ended.append(
                    RecordedConnection(
                        id=connection.number, requests=connection.requests, open=False
                    )
                )
            connection.sock.close()

    def _converse(self, connection: _Connection) -> None:
        if self._take_if(ResetBeforeRead):
            Wire(connection.sock).reset()
            return
        if self._tls is not None:
            connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
        if self._connect_delay:
            self._stopping.wait(self._connect_delay)
        wire = Wire(connection.sock)
        while not self._stopping.is_set():
            connection.waiting = True
            if connection.closing:
                return
            try:
                raw = wire.read_request()
            except BadRequest as error:
                self._refuse(wire, error)
                return
            connection.waiting = False
            if raw is None or not self._answer(wire, connection, raw):
                return

    def _refuse(self, wire: Wire, error: BadRequest) -> None:
        body = str(error).encode()
        head = response_head(400, [("Content-Length", str(len(body))), ("Connection", "close")])
        wire.sock.sendall(head + body)

    def _take_if(self, kind: type[Fault]) -> bool:
        with self._lock:
            if self._script and isinstance(self._script[0], kind):
                self._script.popleft()
                return True
            return False

    def _answer(self, wire: Wire, connection: _Connection, raw: RawRequest) -> bool:
        """Answer one request; False where the connection ends with it."""
        path, _, query = raw.target.partition("?")
        request = RecordedRequest(
            method=raw.method,
            path=path,
            query=query,
            headers=raw.headers,
            body=raw.body,
            connection=connection.number,
        )
        with self._lock:
            self._requests.append(request)
            connection.requests += 1
        fault = self._fault_for(request)
        if self._delay:
            self._stopping.wait(self._delay)
        number = next(self._numbers)
        kept = play(wire, request, number, fault, self._backend, self._stopping)
        return kept and raw.keep_alive

    def _fault_for(self, request: RecordedRequest) -> Fault | None:
        if self._predicate is not None and (fault := self._predicate(request)) is not None:
            return fault
        if request.method != "POST":
            return None
        with self._lock:
            scripted = self._script and not isinstance(self._script[0], ResetBeforeRead)
            return self._script.popleft() if scripted else None
