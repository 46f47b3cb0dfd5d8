"""A server in a process of its own, so that its sockets, threads and memory are not the client's.

It does what the first word of each prompt says: ``good`` and any other word repeat the prompt, the
words of ``FAULTS`` play that fault the first time they come with a prompt, and

- ``reset`` resets the connection, ``close`` closes it, the first time;
- ``slow`` sends a good reply in four pieces; ``gzip`` one compressed, in chunks;
- ``late`` and ``hold`` never answer, and wait for the client to go away;
- ``together`` answers once so many such requests are there as ``gather`` said;
- ``dead`` answers 503 every time;
- ``open``, for a stream, stops after two pieces and waits for the client to go away.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import ssl
import struct
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from . import answers

__all__ = ["ServerProcess"]

_BACKLOG = 4096
_START_SECONDS = 60.0
_FAULTS_OF_EVERY_TIME = ("http400", "html", "nojson")
_PAUSE = 0.004


class _Conversation:
    """One connection, on the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle = True

    async def read_request(self) -> tuple[str, bytes] | None:
        """Return path and body of the next request; None once the client closed."""
        self.idle = True
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        self.idle = False
        line, *rest = head.decode("latin-1").split("\r\n")
        fields = dict(field.lower().split(": ", 1) for field in rest if field)
        body = await self.reader.readexactly(int(fields.get("content-length", 0)))
        return line.split(" ")[1], body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Let the close be a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class _Server:
    """Lives in the other process."""

    def __init__(self, pipe: Connection, certificate: str | None) -> None:
        self._pipe = pipe
        self._certificate = certificate
        self._open: set[_Conversation] = set()
        self._played: set[str] = set()
        self._gathering = 0
        self._gathered: list[asyncio.Future[None]] = []
        self._connections = self._requests = 0
        self._tls_port = 0
        self._listeners: list[asyncio.Server] = []

    async def run(self) -> None:
        """Serve until told to stop."""
        ports = {"plain": await self._listen(self._converse)}
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            ports["tls"] = self._tls_port = await self._listen(self._converse, context)
            ports["proxy"] = await self._listen(self._tunnel)
        self._pipe.send(ports)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_unless_the_client_went_away)
        while (command := await loop.run_in_executor(None, self._pipe.recv)) is not None:
            name, *given = command
            self._pipe.send(getattr(self, f"do_{name}")(*given))
        for listener in self._listeners:
            listener.close()

    async def _listen(self, serve: Any, context: ssl.SSLContext | None = None) -> int:
        server = await asyncio.start_server(
            serve, "127.0.0.1", 0, backlog=_BACKLOG, ssl=context, limit=2**20
        )
        # Forgotten, it could be collected and stop to listen.
        self._listeners.append(server)
        return int(server.sockets[0].getsockname()[1])

    def do_figures(self) -> dict[str, int]:
        """Count."""
        return {
            "requests": self._requests,
            "connections": self._connections,
            "open": len(self._open),
        }

    def do_close_idle(self) -> None:
        """Close every connection that waits for a request."""
        for one in self._open:
            if one.idle:
                one.writer.close()

    def do_gather(self, number: int) -> None:
        """Let the requests that begin with ``together`` wait for each other."""
        self._gathering = number

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = _Conversation(reader, writer)
        self._connections += 1
        self._open.add(one)
        try:
            # A client may go away at any instant; that is no failure of the server.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while (request := await one.read_request()) is not None:
                    self._requests += 1
                    if not await self._answer(one, *request):
                        break
        finally:
            self._open.discard(one)
            writer.close()

    async def _answer(self, one: _Conversation, path: str, body: bytes) -> bool:
        """Answer one request; False where the connection ends with it."""
        (prompt, stream), claude = answers.prompt_of(body), answers.is_claude(path)
        word = prompt.split(" ", 1)[0]
        act = getattr(self, f"_play_{word}", None)
        if stream:
            return await self._stream(one, word, prompt, claude)
        if act is not None:
            return bool(await act(one, prompt, claude))
        if word in answers.FAULTS and self._first(word, prompt):
            data, closes = answers.fault(word, prompt, claude)
            await one.send(data)
            return not closes
        await one.send(answers.reply(prompt, claude))
        return True

    def _first(self, word: str, prompt: str) -> bool:
        """Tell whether to play a fault: once for each prompt, or every time."""
        if word in _FAULTS_OF_EVERY_TIME:
            return True
        if prompt in self._played:
            self._played.discard(prompt)
            return False
        self._played.add(prompt)
        return True

    async def _play_reset(self, one: _Conversation, prompt: str, claude: bool) -> bool:
        if self._first("reset", prompt):
            one.reset()
            return False
        await one.send(answers.reply(prompt, claude))
        return True

    async def _play_close(self, one: _Conversation, prompt: str, claude: bool) -> bool:
        if self._first("close", prompt):
            return False
        await one.send(answers.reply(prompt, claude))
        return True

    async def _play_slow(self, one: _Conversation, prompt: str, claude: bool) -> bool:
        data = answers.reply(prompt, claude)
        size = len(data) // 4 + 1
        for at in range(0, len(data), size):
            await one.send(data[at : at + size])
            await asyncio.sleep(_PAUSE)
        return True

    async def _play_gzip(self, one: _Conversation, prompt: str, claude: bool) -> bool:
        await one.send(answers.gzipped(prompt, claude))
        return True

    async def _play_late(self, one: _Conversation, prompt: str, claude: bool) -> bool:
        await one.reader.read(1)
        return False

    _play_hold = _play_late

    async def _play_dead(self, one: _Conversation, prompt: str, claude: bool) -> bool:
        await one.send(answers.fault("http503", prompt, claude)[0])
        return True

    async def _play_together(self, one: _Conversation, prompt: str, claude: bool) -> bool:
        turn = asyncio.get_running_loop().create_future()
        self._gathered.append(turn)
        if len(self._gathered) >= self._gathering:
            for waiting in self._gathered:
                waiting.set_result(None)
            self._gathered = []
        await turn
        await one.send(answers.reply(prompt, claude))
        return True

    async def _stream(self, one: _Conversation, word: str, prompt: str, claude: bool) -> bool:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        await one.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        events = answers.stream_events(prompt, claude)
        if word == "open":
            await one.send(b"".join(answers.chunk(event) for event in events[:3]))
            await one.reader.read(1)
            return False
        for at in range(0, len(events), 8):
            await one.send(b"".join(answers.chunk(event) for event in events[at : at + 8]))
        await one.send(answers.chunk(b""))
        return True

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be a proxy: whatever host is asked for, it is this server, by TLS."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            inner, outer = await asyncio.open_connection("127.0.0.1", self._tls_port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _unless_the_client_went_away(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


def _serve(pipe: Connection, certificate: str | None) -> None:
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        asyncio.run(_Server(pipe, certificate).run())


class ServerProcess:
    """The server, as those see it who ask it. For one thread at a time.

    Args:
        certificate: PEM file with certificate and key; with one it speaks TLS on a second port,
            and is a proxy on a third.
    """

    def __init__(self, certificate: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, certificate), daemon=True)
        self._process.start()
        other.close()
        if not self._pipe.poll(_START_SECONDS):
            raise TimeoutError("the server did not start")
        self._ports: dict[str, int] = self._pipe.recv()

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._ports['plain']}"

    @property
    def tls_url(self) -> str:
        """The same with TLS."""
        return f"https://127.0.0.1:{self._ports['tls']}"

    @property
    def proxy_url(self) -> str:
        """Where it is a proxy."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    def figures(self) -> dict[str, int]:
        """Return the numbers of ``requests``, ``connections``, and those ``open`` now."""
        found: dict[str, int] = self._ask("figures")
        return found

    def close_idle(self) -> None:
        """Close every connection that waits for a request."""
        self._ask("close_idle")

    def gather(self, number: int) -> None:
        """Let each ``number`` requests that begin with ``together`` wait for each other."""
        self._ask("gather", number)

    def _ask(self, *command: Any) -> Any:
        self._pipe.send(command)
        if not self._pipe.poll(_START_SECONDS):
            raise TimeoutError(f"the server does not answer {command[0]}")
        return self._pipe.recv()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(_START_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
        self._pipe.close()
