"""Faults of processes and signals (F60 to F63, F70 to F72, F75)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import trustme

from termai_http import _fork, _sweeper

from . import drivers
from .harness import Bench, Broken, Peer, RawServer, good_reply, row, unmeasured

__all__ = [
    "Child",
    "EchoServer",
    "StreamServer",
    "forking",
    "held_elsewhere",
    "play_alone",
    "prompt_of",
]

_ROOT = Path(__file__).parents[2]
_FORKS = 50
_PATIENCE = 10.0
_BROKEN = 3


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Silence Python's own warning about a fork that leaves the test's threads behind."""
    with warnings.catch_warnings():
        # From Python 3.12 on. Its text is all there is to know it by.
        warnings.filterwarnings("ignore", r".* is multi-threaded, use of ", DeprecationWarning)
        yield


class Child:
    """A forked child that does some work and ends; it never comes back into the test.

    Args:
        work: What it does; what it returns must be JSON.
        fork: What forks, in the place of ``os.fork``.
    """

    def __init__(self, work: Callable[[], Any], fork: Callable[[], int] | None = None) -> None:
        self._read, write = os.pipe()
        with forking():
            self.process = (fork or os.fork)()
        if self.process == 0:
            _work_and_exit(work, write)
        os.close(write)

    def result(self, seconds: float = _PATIENCE) -> Any:
        """Return what it returned; one that hangs is killed.

        Raises:
            Broken: It hung, died, or raised.
        """
        told = self._read_all(time.monotonic() + seconds)
        if told is None:
            os.kill(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        if told is None:
            raise Broken("the child hung")
        if not told:
            raise Broken(f"the child died with status {status}")
        value, failure = json.loads(told)
        if failure is not None:
            raise Broken(failure)
        return value

    def _read_all(self, end: float) -> bytes | None:
        told = b""
        with contextlib.closing(os.fdopen(self._read, "rb", buffering=0)) as pipe:
            while select.select([pipe], [], [], max(end - time.monotonic(), 0.0))[0]:
                piece = pipe.read(65536)
                if not piece:
                    return told
                told += piece
        return None


def _work_and_exit(work: Callable[[], Any], write: int) -> None:
    try:
        told = json.dumps([work(), None])
    except Broken as broken:
        told = json.dumps([None, str(broken)])
    except BaseException:
        told = json.dumps([None, f"the child failed: {traceback.format_exc()[-4000:]}"])
    try:
        os.write(write, told.encode())
    finally:
        os._exit(0)


class EchoServer:
    """Answers each request with its own prompt, and remembers on which connection it came.

    Args:
        bench: Whose it is.
        context: Makes it speak TLS.
    """

    def __init__(self, bench: Bench, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._left = threading.Semaphore(0)
        self.served: list[tuple[str, int]] = []
        self.raw: RawServer = bench.serve(self._handle)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return self.raw.tls_url if self._context else self.raw.url

    def connections(self, beginning: str) -> set[int]:
        """Return the connections that carried the prompts which begin so."""
        return {number for prompt, number in list(self.served) if prompt.startswith(beginning)}

    def saw_the_end(self, number: int = 1, seconds: float = _PATIENCE) -> bool:
        """Wait until so many more clients hung up."""
        return all(self._left.acquire(timeout=seconds) for _ in range(number))

    def _handle(self, peer: Peer) -> None:
        if self._context is not None:
            peer.sock.settimeout(20)
            peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
        while (request := peer.read_request()) is not None:
            prompt = prompt_of(request)
            self.served.append((prompt, peer.number))
            peer.send(good_reply(prompt))
        self._left.release()


def begun_stream(text: str, length: bytes = b"Transfer-Encoding: chunked") -> bytes:
    """Return an answer that streams one piece, and whose end is still to come."""
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [delta]}
    line = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    if b"chunked" in length:
        line = b"%x\r\n%b\r\n" % (len(line), line)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + length + b"\r\n\r\n" + line


class StreamServer:
    """Streams one piece to each request and no end; sees when the client hangs up.

    Args:
        bench: Whose it is.
        length: How the body is framed.
    """

    def __init__(self, bench: Bench, length: bytes = b"Transfer-Encoding: chunked") -> None:
        self._length = length
        self._left = threading.Semaphore(0)
        self.raw = bench.serve(self._handle)

    def saw_the_end(self, number: int = 1, seconds: float = _PATIENCE) -> bool:
        """Wait until so many more clients hung up."""
        return all(self._left.acquire(timeout=seconds) for _ in range(number))

    def _handle(self, peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(begun_stream("piece", self._length))
            with contextlib.suppress(ConnectionResetError):
                if peer.sock.recv(1):
                    continue
            self._left.release()
            return


def prompt_of(request: bytes) -> str:
    """Return the prompt of a request."""
    return str(json.loads(request.partition(b"\r\n\r\n")[2])["messages"][-1]["content"])


def _ask(bench: Bench, client: Any, url: str, prompt: str) -> None:
    """Make a call whose reply must be its own."""
    seen = bench.chat(url, 5, client, prompt=prompt).must_be("reply")
    bench.must(seen.text == prompt, f"the reply to {prompt} was {seen.text}")


def _ask_in_child(bench: Bench, client: Any, url: str, prompt: str) -> dict[str, Any]:
    """Make a child's first call, and return what the client shows before and after it."""
    figures: dict[str, Any] = {}
    if bench.ours:
        figures["before"] = _figures(client)
    _ask(bench, client, url, prompt)
    if bench.ours:
        figures["after"] = _figures(client)
    return figures


def _figures(client: Any) -> list[int]:
    stats = client.stats()
    calls = stats.calls
    return [stats.idle_connections, stats.opened, stats.reused, calls.total_requests]


def _fork_often(bench: Bench, server: EchoServer, client: Any) -> None:
    _ask(bench, client, server.url, "parent-0")
    for number in range(1, _FORKS + 1):
        child = Child(
            lambda number=number: _ask_in_child(bench, client, server.url, f"child-{number}")
        )
        try:
            _ask(bench, client, server.url, f"parent-{number}")
        finally:
            figures = child.result()
        if bench.ours:
            assert figures == {"before": [0, 0, 0, 0], "after": [1, 1, 0, 1]}
    carried = server.connections("parent")
    bench.must(carried == {1}, f"the parent needed {len(carried)} connections")
    shared = carried & server.connections("child")
    bench.must(not shared, "a child used its parent's connection")
    if bench.ours:
        assert _figures(client) == [1, 1, _FORKS, _FORKS + 1]


@row(
    "F60",
    fault="the process forks while a plain connection is idle, 50 times",
    promise="the parent keeps its connection, each child opens its own; no reply crosses",
    linux=True,
)
def fork_with_a_plain_connection(bench: Bench) -> None:
    """Let parent and child call at the same time, and check each reply against its prompt."""
    _fork_often(bench, EchoServer(bench), bench.client())


@row(
    "F61",
    fault="the process forks while a TLS connection is idle, 50 times",
    promise="the parent keeps its connection, each child opens its own; no reply crosses",
    linux=True,
)
def fork_with_a_tls_connection(bench: Bench) -> None:
    """Do the same over TLS, where two writers break the stream of records."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = bench.enter(authority.cert_pem.tempfile())
    _fork_often(bench, EchoServer(bench, context), bench.client(ca_bundle=bundle))


@contextlib.contextmanager
def held_elsewhere(lock: Any, seconds: float | None) -> Iterator[None]:
    """Hold a lock in another thread, for so long, or until the block ends."""
    taken, end = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            end.wait(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(_PATIENCE)
    try:
        yield
    finally:
        end.set()
        thread.join()


@row(
    "F62",
    fault="the process forks while another thread holds a lock of the pool",
    promise="neither parent nor child hangs, also where the lock is held all through the fork",
    peers=False,
    linux=True,
)
def fork_with_a_lock_held(bench: Bench) -> None:
    """Hold each lock for a moment, and then longer than the fork waits for it."""
    server, client = EchoServer(bench), bench.client()
    _ask(bench, client, server.url, "parent-0")
    transport = client._core._transport
    bench.enter(mock.patch.object(_fork, "_LOCK_SECONDS", 0.1))
    # The sweeper may be the one that waits for such a lock.
    bench.enter(mock.patch.object(_sweeper, "_JOIN_SECONDS", 0.1))
    for lock in (transport._slots.lock, transport._adapter.poolmanager.pools.lock):
        for seconds in (0.02, None):
            with held_elsewhere(lock, seconds):
                child = Child(lambda: _ask_in_child(bench, client, server.url, "child"))
            _ask(bench, client, server.url, "parent")
            assert child.result()["after"] == [1, 1, 0, 1]
    bench.must(server.connections("parent") == {1}, "the parent lost its connection")


@row(
    "F63",
    fault="the process forks while a thread reads a stream, which the parent then closes",
    promise="the server sees the end at once, though the child still holds the descriptor",
    linux=True,
)
def fork_during_a_stream(bench: Bench) -> None:
    """Close a stream in the parent while a child lives that inherited it."""
    server, client = StreamServer(bench), bench.client()
    stream = bench.driver.stream(client, server.raw.url, 20)
    bench.must(next(stream) == "piece", "the stream did not begin")
    alive, end = os.pipe()

    def live_on() -> None:
        os.close(end)
        os.read(alive, 1)

    child = Child(live_on)
    try:
        stream.close()
        bench.must(server.saw_the_end(), "the server saw no end while the child lived")
    finally:
        os.close(end)
        os.close(alive)
        child.result()


def _alone(bench: Bench, play: Callable[[Bench], None]) -> None:
    """Play something in a process of its own, with the same client."""
    code = (
        "from tests.faults import rows_process; "
        f"rows_process.play_alone({play.__name__!r}, {type(bench.driver).__name__!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_ROOT,
        env=unmeasured(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == _BROKEN:
        raise Broken(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")


def play_alone(name: str, driver: str) -> None:
    """Play a function of this module with a client; exits with the flaws on stderr."""
    try:
        with Bench(getattr(drivers, driver)()) as bench:
            globals()[name](bench)
    except Broken as broken:
        bench.flaws.append(str(broken))
    if bench.flaws:
        sys.stderr.write("; ".join(bench.flaws))
        sys.exit(_BROKEN)


def _interrupt_main_soon(peer: Peer) -> None:
    """Send the main thread a Ctrl-C, once it had time to be where the row wants it."""
    peer.wait(0.1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _interrupted_call(bench: Bench, answer: Callable[[Peer], None]) -> None:
    """Interrupt one call, and look whether the next one finds all as it was."""

    def handle(peer: Peer, request: bytes) -> None:
        if prompt_of(request) == "interrupted":
            answer(peer)
        else:
            peer.send(good_reply(prompt_of(request)))

    signal.signal(signal.SIGINT, signal.default_int_handler)
    server = bench.answering(handle)
    client = bench.client(max_connections=1)
    begun = time.monotonic()
    try:
        bench.chat(server.url, 20, client, prompt="interrupted")
    except KeyboardInterrupt:
        seconds = time.monotonic() - begun
    else:
        raise Broken("the interrupt was swallowed")
    bench.must(seconds < _PATIENCE, f"the interrupt came out after {seconds:.1f} s")
    if bench.ours:
        stats = client.stats()
        assert (stats.active_connections, stats.waiting, stats.calls.in_flight) == (0, 0, 0)
        assert (stats.calls.total_requests, stats.calls.failed_requests) == (1, 1)
        assert stats.calls.failures_by_class == {"Interrupted": 1}
        assert len(server.requests) == 1
    _ask(bench, client, server.url, "next")


def interrupted_read(bench: Bench) -> None:
    """Send Ctrl-C while the server is silent."""

    def stay_silent(peer: Peer) -> None:
        _interrupt_main_soon(peer)
        peer.wait()

    _interrupted_call(bench, stay_silent)


def interrupted_backoff(bench: Bench) -> None:
    """Send Ctrl-C while the call waits for its next attempt."""

    def refuse(peer: Peer) -> None:
        head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 15\r\nContent-Length: 0\r\n\r\n"
        peer.send(head)
        _interrupt_main_soon(peer)

    _interrupted_call(bench, refuse)


@row(
    "F70",
    fault="Ctrl-C while a call reads, or waits for its next attempt",
    promise="KeyboardInterrupt at once; the slot is back, the pool is usable, the call is counted",
    linux=True,
)
def interrupt(bench: Bench) -> None:
    """Interrupt the main thread of a process of its own."""
    _alone(bench, interrupted_read)
    _alone(bench, interrupted_backoff)


@row(
    "F71",
    fault="Ctrl-C at any instant of a call, 300 times",
    promise="no slot is lost, no reply crosses, nothing hangs",
    peers=False,
    linux=True,
)
def interrupt_anywhere(bench: Bench) -> None:
    """Run the evidence in its short form."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.evidence.interrupts", "--count", "300"],
        cwd=_ROOT,
        env=unmeasured(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@row(
    "F72",
    fault="a thread ends by SystemExit while it holds a stream",
    promise="the connection is closed and its slot is free",
)
def thread_ends_with_a_stream(bench: Bench) -> None:
    """Let a thread end in the middle of a stream, for each way a body may be framed."""
    for length in (b"Transfer-Encoding: chunked", b"Content-Length: 100000", b"Connection: close"):
        server, client = StreamServer(bench, length), bench.client(max_connections=1)

        def hold(server: StreamServer = server, client: Any = client) -> None:
            stream = bench.driver.stream(client, server.raw.url, 20)
            next(stream)
            raise SystemExit

        # Whoever watches for threads that fail would keep the traceback, and so the stream.
        with mock.patch.object(threading, "excepthook", threading.__excepthook__):
            thread = threading.Thread(target=hold)
            thread.start()
            thread.join()
        bench.must(server.saw_the_end(), "the connection stayed open")
        echo = EchoServer(bench)
        _ask(bench, client, echo.url, "next")


_EXIT_SCRIPT = """
import atexit
import sys
import threading

from tests.faults import drivers

driver = drivers.{driver}()
client = driver.open(retries=0)
url = {url!r}
driver.kind(ValueError())


def call(prompt, driver=driver, client=client, url=url, write=sys.stdout.write):
    try:
        write(driver.chat(client, url, 30, prompt=prompt) + " ")
    except Exception as error:
        # So late a driver cannot import what it tells errors by.
        write("untyped " if isinstance(error, ImportError) else driver.kind(error) + " ")


"""
_EXITS = {
    "a stream is open": (
        """
held = driver.stream(client, url, 30, prompt="stream")
sys.stdout.write(next(held))
""",
        "piece",
    ),
    "a daemon thread is in mid-call": (
        """
threading.Thread(target=call, args=("silent",), daemon=True).start()
sys.stdin.readline()
""",
        "",
    ),
    "a call is made at exit": (
        """
call("first")
atexit.register(call, "last")
""",
        "first last ",
    ),
    "a call is made by a finalizer": (
        """
class Last:
    def __del__(self, call=call):
        call("last")


call("first")
last = Last()
""",
        "first closed ",
    ),
}
"""Scripts, and what ours then says."""


def _exit_now(bench: Bench, url: str, script: str) -> subprocess.Popen[str]:
    whole = _EXIT_SCRIPT.format(driver=type(bench.driver).__name__, url=url) + script
    process = subprocess.Popen(
        [sys.executable, "-c", whole],
        cwd=_ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    bench.cleanup(process.kill)
    return process


@row(
    "F75",
    fault="the interpreter exits with an open stream, a thread in mid-call, a call made at exit",
    promise="exit code 0, nothing on stderr; a call made then gives a reply or a typed error",
)
def exit_in_the_middle(bench: Bench) -> None:
    """Exit in every state, each in a process of its own."""
    silent = threading.Event()

    def answer(peer: Peer, request: bytes) -> None:
        prompt = prompt_of(request)
        if prompt == "silent":
            silent.set()
            peer.wait()
        peer.send(begun_stream("piece") if prompt == "stream" else good_reply(prompt))

    server = bench.answering(answer)
    processes = {name: _exit_now(bench, server.url, script) for name, (script, _) in _EXITS.items()}
    assert silent.wait(_PATIENCE)
    for name, process in processes.items():
        try:
            out, err = process.communicate("go\n", timeout=30)
        except subprocess.TimeoutExpired:
            raise Broken(f"the exit hung where {name}") from None
        bench.must(not err, f"where {name}: {err.strip().splitlines()[-1:]}")
        bench.must(process.returncode == 0, f"exit code {process.returncode} where {name}")
        bench.must("untyped" not in out, f"where {name} the call raised a foreign error")
        if bench.ours:
            assert out == _EXITS[name][1], (name, out)
