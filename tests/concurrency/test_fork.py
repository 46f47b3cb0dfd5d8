"""Forks in every way and at every moment: the parent goes on, the child begins anew."""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import termai_http
from termai_http import (
    CancelToken,
    Client,
    HttpClientConfig,
    RetryConfig,
    _fork,
    _shared,
    _sweeper,
    events,
)
from termai_http.testing import RecordedRequest, Server, Status
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import KEY, Bench, Peer, good_body
from tests.faults.rows_process import (
    Child,
    EchoServer,
    StreamServer,
    forking,
    held_elsewhere,
    prompt_of,
)
from tests.gunicorn_process import gunicorn_process

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0


def ask(client: Client, url: str, prompt: str) -> None:
    """Make a call whose reply must be its own."""
    reply = client.chat(prompt, model="m", base_url=url, api_key=KEY, timeout=PATIENCE)
    assert reply.text.endswith(prompt), (prompt, reply.text)


def ask_shared(url: str, prompt: str) -> list[int]:
    """Make a call on the process-wide client; a worker process does this."""
    ask(termai_http.client(), url, prompt)
    stats = termai_http.stats()
    return [stats.opened, stats.reused - stats.calls.total_requests]


def begin_anew(client: Client, url: str, prompt: str) -> list[int]:
    """Call twice in a child, and return its figures before and after."""
    before, calls = client.stats(), client.metrics.get_stats()
    ask(client, url, prompt)
    ask(client, url, prompt)
    after = client.stats()
    return [
        *(before.opened, before.idle_connections, before.active_connections),
        *(calls.total_requests, calls.in_flight),
        *(after.opened, after.reused, after.idle_connections, after.calls.total_requests),
    ]


BEGUN_ANEW = [0, 0, 0, 0, 0, 1, 1, 1, 2]


@pytest.fixture
def client() -> Iterator[Client]:
    """A client with short waits."""
    retry = RetryConfig(base_delay=0.001, max_delay=0.002)
    with Client(HttpClientConfig(retry=retry, trust_env=False)) as made:
        yield made


@pytest.fixture
def bench() -> Iterator[Bench]:
    """The bench of the fault catalogue, for its servers."""
    with Bench(TermaiDriver()) as made:
        yield made
    assert made.flaws == []


def connections_of(server: Server, beginning: str) -> set[int]:
    """Return the connections that carried the prompts which begin so."""
    return {one.connection for one in server.requests if one.prompt.startswith(beginning)}


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_worker_processes_have_their_own_connections(server: Server, method: str) -> None:
    """Multiprocessing's workers call through client() however they were begun."""
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["termai_http"])
    ask_shared(server.url, "parent 0")
    prompts = [f"child {number}" for number in range(8)]
    with forking(), ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(ask_shared, server.url, prompt) for prompt in prompts]
        assert [future.result(60) for future in futures] == [[1, -1]] * 8
    ask_shared(server.url, "parent 1")
    assert connections_of(server, "parent") == {1}
    assert len(server.connections) <= 3


def test_forks_under_load(client: Client, server: Server) -> None:
    """Eight threads call without a pause while the process forks, and no reply crosses."""
    end = threading.Event()

    def hammer(name: int) -> int:
        calls = 0
        while not end.is_set():
            ask(client, server.url, f"parent {name} {calls}")
            calls += 1
        return calls

    with ThreadPoolExecutor(8) as pool:
        hammers = [pool.submit(hammer, name) for name in range(8)]
        try:
            for number in range(30):
                child = Child(
                    lambda number=number: begin_anew(client, server.url, f"child {number}")
                )
                assert child.result(PATIENCE) == BEGUN_ANEW
        finally:
            end.set()
        calls = sum(one.result(60) for one in hammers)
    stats = client.stats()
    assert stats.calls.successful_requests == calls
    assert stats.opened <= 8
    assert not connections_of(server, "parent") & connections_of(server, "child")


def test_a_child_forks_again(client: Client, server: Server) -> None:
    """A grandchild begins anew as a child does, and the child goes on."""
    ask(client, server.url, "parent")

    def work() -> list[int]:
        ask(client, server.url, "child")
        grandchild = Child(lambda: begin_anew(client, server.url, "grandchild"))
        ask(client, server.url, "child")
        assert client.stats().opened == 1
        return grandchild.result(PATIENCE)

    assert Child(work).result(2 * PATIENCE) == BEGUN_ANEW
    ask(client, server.url, "parent")
    assert client.stats().opened == 1


LOCKS: dict[str, Callable[[Client], Any]] = {
    "core": lambda client: client._core._lock,
    "metrics": lambda client: client.metrics._lock,
    "listeners": lambda client: client._core.listeners._lock,
    "slots": lambda client: client._core._transport._slots.lock,
    "pools": lambda client: client._core._transport._adapter.poolmanager.pools.lock,
    "context": lambda client: client._core._transport._context_lock,
    "budget": lambda client: next(iter(client._core._transport._budgets._by_host.values()))._lock,
    "shared": lambda client: _shared._lock,
    "registering": lambda client: _fork._registering,
    "sweeper": lambda client: _sweeper.sweeper._lock,
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_in_another_threads_hands_hangs_nobody(
    client: Client, server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held for a moment or all through the fork: parent and child go on."""
    monkeypatch.setattr(_fork, "_LOCK_SECONDS", 0.05)
    monkeypatch.setattr(_sweeper, "_JOIN_SECONDS", 0.05)
    ask(client, server.url, "parent")
    for seconds in (0.02, None):
        with held_elsewhere(LOCKS[name](client), seconds):
            child = Child(lambda: begin_anew(client, server.url, "child"))
        assert child.result(PATIENCE) == BEGUN_ANEW
        ask(client, server.url, "parent")
    assert client.stats().opened == 1


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_in_the_forking_threads_own_hands_hangs_nobody(
    client: Client, server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that forks may have interrupted whoever holds it."""
    monkeypatch.setattr(_fork, "_LOCK_SECONDS", 0.05)
    monkeypatch.setattr(_sweeper, "_JOIN_SECONDS", 0.05)
    ask(client, server.url, "parent")
    with LOCKS[name](client):
        child = Child(lambda: begin_anew(client, server.url, "child"))
    assert child.result(PATIENCE) == BEGUN_ANEW
    ask(client, server.url, "parent")
    assert client.stats().opened == 1


def test_a_fork_waits_for_no_lock_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use of client() in another thread takes its locks in the order of the fork."""
    monkeypatch.setattr(_fork, "_LOCK_SECONDS", PATIENCE)
    forker = threading.current_thread()
    holds_one, forks = threading.Event(), threading.Event()
    takes: list[bool] = []

    def take_part(forkable: _fork.Forkable) -> None:
        holds_one.set()
        assert forks.wait(PATIENCE)
        _fork.take_part(forkable)

    def take(lock: Any, taken: list[Any], seconds: float | None = None) -> None:
        if threading.current_thread() is forker:
            forks.set()
        takes.append(lock.acquire(timeout=PATIENCE))
        taken.append(lock)

    monkeypatch.setattr("termai_http._core.take_part", take_part)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(termai_http.client)
        assert holds_one.wait(PATIENCE)
        with mock.patch.object(_fork, "_take", take):
            child = Child(lambda: None)
        first.result(PATIENCE)
    child.result(PATIENCE)
    assert all(takes)


def test_what_a_child_inherits_does_nothing_to_its_parent(bench: Bench) -> None:
    """Tokens, streams and the client itself may be cancelled, read, closed and dropped there."""
    server, echo, client = StreamServer(bench), EchoServer(bench), bench.client()
    token = CancelToken()
    streams = [
        client.stream(
            "hi", model="m", base_url=server.raw.url, api_key=KEY, timeout=PATIENCE, cancel=token
        )
        for _ in range(5)
    ]
    for stream in streams:
        assert next(stream) == "piece"
    ask(client, echo.url, "parent")

    def work() -> None:
        with pytest.raises(termai_http.StreamInterrupted):
            next(streams[0])
        streams[1].cancel()
        streams[2].close()
        del streams[3]
        token.cancel()
        with pytest.raises(termai_http.CallCancelled):
            client.chat("hi", model="m", base_url=echo.url, api_key=KEY, cancel=token)
        ask(client, echo.url, "child")
        client.close()

    Child(work).result(PATIENCE)
    assert not server.saw_the_end(seconds=0.1)
    assert not token.cancelled
    assert client.stats().active_connections == len(streams)
    ask(client, echo.url, "parent")
    assert echo.connections("parent") == {1}
    for stream in streams:
        stream.close()
    assert server.saw_the_end(len(streams))


class ForkOnce:
    """Forks in the middle of a call; the child tells how its copy of the call ended, and ends."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.process: int | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Fork, at the first time."""
        if self.process is None:
            with forking():
                self.process = os.fork()

    def run(self, call: Callable[[], Any]) -> tuple[Any, str]:
        """Make the call; returns its value and what the child said."""
        try:
            value = call()
            told = "a reply"
        except BaseException as error:
            if self.process != 0:
                raise
            told = type(error).__name__
        if self.process == 0:
            os.write(self._write, told.encode())
            os._exit(0)
        os.close(self._write)
        assert self.process is not None
        os.waitpid(self.process, 0)
        with os.fdopen(self._read) as pipe:
            return value, pipe.read()


def test_a_fork_in_a_hook_of_a_running_call(bench: Bench) -> None:
    """The child's copy of the call fails with an error of ours; the parent's gets its reply."""
    forked = threading.Event()

    def answer(peer: Peer, request: bytes) -> None:
        body = good_body(prompt_of(request))
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        forked.wait(PATIENCE)
        peer.send(body)

    server, client, fork = bench.answering(answer), bench.client(), ForkOnce()

    def hook(response: Any, **kwargs: Any) -> None:
        fork()
        forked.set()

    client.session.hooks["response"].append(hook)
    value, told = fork.run(
        lambda: client.chat("own", model="m", base_url=server.url, api_key=KEY, timeout=PATIENCE)
    )
    assert (value.text, told) == ("own", "APIConnectionError")
    assert server.connections == 1


@pytest.mark.parametrize(
    "moment", [events.CallStarted, events.AttemptStarted, events.AttemptFailed]
)
def test_a_fork_in_a_listener(client: Client, server: Server, moment: type[events.Event]) -> None:
    """The same before anything was sent, and between two attempts."""
    server.script(Status(503))
    fork = ForkOnce()

    def listener(event: events.Event) -> None:
        if isinstance(event, moment):
            fork()

    with client.listening(listener):
        value, told = fork.run(
            lambda: client.chat("own", model="m", base_url=server.url, api_key=KEY)
        )
    assert (value.text, value.attempts) == ("You said: own", 2)
    assert told == "APIConnectionError"
    assert len(server.requests) == 2
    assert client.stats().calls.in_flight == 0


# As uWSGI does it: with the interpreter's lock held, and none of Python's handlers run.
WITHOUT_HOOKS = """
import ctypes, os, sys
from termai_http import CancelToken, Client, HttpClientConfig
from tests.concurrency.test_fork import KEY, PATIENCE, ask, begin_anew
from tests.faults.rows_process import Child

url, streams = sys.argv[1:]
client = Client(HttpClientConfig(trust_env=False, pool_idle_timeout=0.3))
fork = ctypes.PyDLL(None).fork
# A thread that wants the interpreter's lock is not there to take it in the child, which would
# wait for that; so let none ask.
sys.setswitchinterval(1000)
"""
CALLS_FIRST = """
def call():
    ask(client, url, "child")
    return begin_anew(client, url, "child")


ask(client, url, "parent")
child = Child(call, fork)
ask(client, url, "parent")
print(child.result(PATIENCE))
"""
LOOKS_FIRST = CALLS_FIRST.replace('ask(client, url, "child")\n', "client.stats()\n")
IDLES = """
def idle():
    ask(client, url, "child")
    print("idle", flush=True)
    sys.stdin.read()


ask(client, url, "parent")
Child(idle, fork).result(PATIENCE)
"""
CANCELS = """
def cancel():
    token.cancel()
    stream.cancel()
    stream.close()


token = CancelToken()
stream = client.stream("hi", model="m", base_url=streams, api_key=KEY, cancel=token)
next(stream)
Child(cancel, fork).result(PATIENCE)
print("cancelled", flush=True)
sys.stdin.read()
stream.close()
"""


LIVES_ON = """
def live_on():
    os.close(end)
    os.read(alive, 1)


alive, end = os.pipe()
stream = client.stream("hi", model="m", base_url=streams, api_key=KEY)
next(stream)
child = Child(live_on, fork)
stream.close()
print("closed", flush=True)
sys.stdin.read()
os.close(end)
child.result(PATIENCE)
"""


@contextlib.contextmanager
def script(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own, which must end well."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-W", "always", "-c", text, *arguments]
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        try:
            yield process
            _, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, "")
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line of what a script says; all of its errors where it says nothing."""
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.readline().strip() or process.stderr.read()


FORKS_WITHOUT_THREADS = """
import os, sys
from termai_http import Client, HttpClientConfig
from tests.concurrency.test_fork import ask

with Client(HttpClientConfig(trust_env=False)) as client:
    for number in range(10):
        ask(client, sys.argv[1], "parent")
        child = os.fork()
        if not child:
            ask(client, sys.argv[1], "child")
            os._exit(0)
        os.waitpid(child, 0)
    print(client.stats().opened)
"""


def test_a_process_without_threads_has_none_when_it_forks(bench: Bench) -> None:
    """Python warns of a fork with threads; the sweeper is not there to be warned of."""
    with script(FORKS_WITHOUT_THREADS, EchoServer(bench).url) as process:
        assert said(process) == "1"


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="libc's fork, and no more")


@linux_only
@pytest.mark.parametrize(
    ("text", "figures"),
    [(LOOKS_FIRST, BEGUN_ANEW), (CALLS_FIRST, [1, 1, 0, 1, 0, 1, 2, 1, 3])],
    ids=["looks first", "calls first"],
)
def test_a_child_without_pythons_hooks_begins_anew(
    bench: Bench, text: str, figures: list[int]
) -> None:
    """The process id tells the child's first use, whatever it is, that it is one."""
    echo = EchoServer(bench)
    with script(WITHOUT_HOOKS + text, echo.url, "") as process:
        assert said(process) == str(figures)
    assert not echo.connections("parent") & echo.connections("child")


@linux_only
def test_a_child_without_pythons_hooks_sweeps(bench: Bench) -> None:
    """Its idle connection is closed in time, though the parent's sweeper is not there."""
    echo = EchoServer(bench)
    with script(WITHOUT_HOOKS + IDLES, echo.url, "") as process:
        assert said(process) == "idle"
        assert echo.saw_the_end(2), "an idle connection stayed open"


@linux_only
def test_a_child_without_pythons_hooks_leaves_its_parents_calls_alone(bench: Bench) -> None:
    """What it cancels and closes before its first call is its own copy."""
    server = StreamServer(bench)
    with script(WITHOUT_HOOKS + CANCELS, "", server.raw.url) as process:
        assert said(process) == "cancelled"
        assert not server.saw_the_end(seconds=0.2), "the parent's stream was broken"
    assert server.saw_the_end()


@linux_only
def test_a_child_without_pythons_hooks_keeps_no_stream_open(bench: Bench) -> None:
    """The server sees the parent's close at once, though nothing closed the child's descriptor."""
    server = StreamServer(bench)
    with script(WITHOUT_HOOKS + LIVES_ON, "", server.raw.url) as process:
        assert said(process) == "closed"
        assert server.saw_the_end()


APPLICATION = """
import json
import os

import termai_http

URL = os.environ["LOOPBACK_URL"]


def ask(prompt):
    return termai_http.chat(prompt, model="m", base_url=URL, api_key="k").text


ask("preload")


def application(environ, start_response):
    text = ask(environ["QUERY_STRING"])
    stats = termai_http.stats()
    start_response("200 OK", [("Content-Type", "application/json")])
    answer = [os.getpid(), text, stats.opened, stats.calls.total_requests]
    return [json.dumps(answer).encode()]
"""
CONFIGURATION = """
bind = "127.0.0.1:0"
preload_app = True
workers = 2
worker_class = "gthread"
threads = 2
worker_connections = 2
control_socket_disable = True
"""


@contextlib.contextmanager
def gunicorn(folder: Path, url: str) -> Iterator[int]:
    """Run the application; its port."""
    (folder / "application.py").write_text(APPLICATION)
    (folder / "gunicorn.conf.py").write_text(CONFIGURATION)
    arguments = ("-c", str(folder / "gunicorn.conf.py"), "--pythonpath", str(folder), "application")
    environ = {**os.environ, "LOOPBACK_URL": url}
    with gunicorn_process(*arguments, folder=ROOT, environ=environ) as (port, _):
        yield port


def test_gunicorn_with_preload(server: Server, tmp_path: Path) -> None:
    """Each worker has connections of its own, though the client was used before the fork."""
    pytest.importorskip("gunicorn")
    # A worker takes two requests at a time: four that wait for each other need both workers.
    meeting = threading.Barrier(4)

    def meet(request: RecordedRequest) -> None:
        if request.prompt != "preload":
            meeting.wait(PATIENCE)

    def get(prompt: str) -> list[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", f"/?{prompt}", headers={"Connection": "close"})
            return json.loads(connection.getresponse().read())

    server.fail_when(meet)
    with gunicorn(tmp_path, server.url) as port, ThreadPoolExecutor(4) as pool:
        prompts = [f"child-{number:02}" for number in range(20)]
        answers = list(pool.map(get, prompts))
    assert [text for _, text, *_ in answers] == [f"You said: {prompt}" for prompt in prompts]
    by_worker: dict[int, set[int]] = {}
    for worker, text, opened, _ in answers:
        assert opened <= 2
        by_worker.setdefault(worker, set()).update(connections_of(server, text[10:]))
    assert len(by_worker) == 2
    one, other = by_worker.values()
    assert not one & other
    assert connections_of(server, "preload") == {1}
    assert 1 not in one | other
    assert max(calls for *_, calls in answers) == 10
