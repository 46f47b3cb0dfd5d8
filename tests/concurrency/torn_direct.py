"""The direct way torn, forked, ended and shared at every instant: nothing is lost or crossed."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import select
import ssl
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import trustme

import termai_http
from termai_http import (
    APIConnectionError,
    CallCancelled,
    CancelToken,
    ClientClosed,
    DeadlineExceeded,
    StreamInterrupted,
    TermaiHttpError,
    _core,
    _openings,
    _transport,
)
from termai_http.testing import RecordedRequest, Server
from tests.faults.harness import KEY
from tests.faults.rows_process import forking

from .bed import KINDS, PATIENCE, Bed, bed, shown_in
from .instants import NUMBERS, Instant

LATE = 25.0
# What a connection passes through between two calls.
PASSING = frozenset(
    (
        *("_hand_out", "_has_gone", "_has_unread", "_put_conn", "_take_back", "_usable"),
        *("abandon", "acquire", "await_turn", "close", "count_reused", "drop", "end", "hand_out"),
        *("end_opening", "hold", "lend", "let_go", "moved", "put", "release", "replace", "store"),
        *("sweep", "take_back", "tell", "wake"),
    )
)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every client here go the direct way."""
    monkeypatch.delenv("TERMAI_HTTP_DIRECT", raising=False)


def interrupt() -> None:
    """Be a Ctrl-C."""
    raise KeyboardInterrupt


def tear(made: Bed, kind: str, number: int) -> Instant:
    """Interrupt a call at its n-th instant, and look at what that left."""
    instant, text, got = Instant(number, interrupt), made.prompt(kind), ""
    try:
        with instant:
            got = made.chat(text)
    except KeyboardInterrupt as error:
        if shown := shown_in(error):
            made.flaws.append((instant.place, "shown", shown))
    if got not in ("", text):
        made.flaws.append((instant.place, "crossed", got))
    made.look(instant.place)
    return instant


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_any_instant_leaves_nothing(kind: str) -> None:
    """Slots, connections and counts come back, no local shows a secret, the next call works."""
    with bed() as made:
        for number in NUMBERS:
            if not tear(made, kind, number).reached:
                break
            made.must_work()
            if not number % 10:
                # Retries that were torn away use up the budget for them.
                made.client.close()
                made.renew()
        assert number > 100


def test_an_interrupt_while_tls_is_spoken_leaves_nothing(tmp_path: Any) -> None:
    """The same of a connection with TLS."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with bed(context, ca_bundle=str(tmp_path / "ca.pem")) as made:
        for number in NUMBERS:
            if not tear(made, "sized", number).reached:
                break
            made.must_work()
        assert number > 100


@pytest.mark.parametrize("at_once", [4, 0])
def test_an_interrupt_while_a_connection_is_opened_leaves_nothing(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except that a socket which no variable names yet is left to the collector, which warns."""
    nameless = ("_announced", "_connected", "_new_conn", "open_socket")
    # With none at once each has to wait for its turn, which never comes.
    monkeypatch.setattr(_openings, "_AT_ONCE", at_once)
    monkeypatch.setattr(_openings, "_STALL", 0.002)
    with bed() as made:
        for number in NUMBERS:
            made.transport._adapter.pools()[0].idle.clear()
            # So that nothing is left to be counted.
            made.client.stats()
            instant = tear(made, "sized", number)
            if instant.place[1] in nameless:
                made.flaws = [flaw for flaw in made.flaws if flaw[1] != "warned"]
            if not instant.reached:
                break
            made.must_work()
        assert number > 150


def open_stream(made: Bed) -> Any:
    """Begin a stream that nobody reads."""
    return made.client.stream(made.prompt("stream"), model="m", api_key=KEY, base_url=made.url)


def collect(dropped: list[Any]) -> None:
    """Let the collector find a stream in a cycle, in this thread, whatever lock that holds."""
    cycle = [dropped.pop()]
    cycle.append(cycle)
    del cycle
    gc.collect()


def pass_the_deadline(made: Bed) -> None:
    """Let the deadline pass, and look for calls that are overdue."""
    made.ahead += LATE
    made.client.stats()


ENDS = {
    "cancel": CallCancelled,
    "close": ClientClosed,
    "pass the deadline": DeadlineExceeded,
    "look": None,
    "call": None,
    "collect": None,
}


def act_of(what: str, made: Bed, token: CancelToken, dropped: list[Any]) -> Callable[[], object]:
    """Return what is to come: a collection and a signal in this thread, the rest in another."""
    acts: dict[str, Callable[[], object]] = {
        "cancel": token.cancel,
        "close": lambda: made.beside(lambda: made.client.close(wait=0)),
        "pass the deadline": lambda: made.beside(lambda: pass_the_deadline(made)),
        "look": lambda: made.beside(made.client.stats),
        "call": lambda: made.beside(made.must_work),
        "collect": lambda: collect(dropped),
    }
    return acts[what]


@pytest.mark.parametrize("kind", ["sized", "stream"])
@pytest.mark.parametrize("what", ENDS)
def test_whatever_comes_at_any_instant_breaks_nothing(
    what: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call ends with its reply or as it was ended, and all is given back."""
    # Nobody ends by himself while he is looked at.
    monkeypatch.setattr(_core, "_LAST_GRACE", 0.0)
    expected = ENDS[what]
    with bed() as made:
        for number in NUMBERS:
            token, text = CancelToken(), made.prompt(kind)
            dropped = [open_stream(made)] if what == "collect" else []
            instant = Instant(number, act_of(what, made, token, dropped))
            try:
                with instant:
                    got = made.chat(text, cancel=token)
            except TermaiHttpError as error:
                if expected is None or expected.__name__ not in repr(error):
                    made.flaws.append((instant.place, "ended", repr(error)))
            else:
                if got != text:
                    made.flaws.append((instant.place, "crossed", got))
            made.join()
            dropped.clear()
            made.look(instant.place)
            if not instant.reached:
                break
            if what == "close":
                made.client.close()
                made.renew()
            made.must_work()
        assert number > 100


def begin_anew(made: Bed) -> int:
    """Look at the figures of a child, which are zeros, and call; returns what it exits with."""
    stats = made.client.stats()
    figures = (stats.active_connections, stats.idle_connections, stats.opened, stats.waiting)
    if any((*figures, stats.reused, stats.calls.in_flight, stats.calls.total_requests)):
        return 2
    return go_on(made)


def go_on(made: Bed) -> int:
    """Call twice in a child; returns what it is to exit with."""
    made.must_work()
    made.must_work()
    gc.collect()
    made.look("the child")
    if made.flaws or made.client.stats().idle_connections != 1:
        os.write(2, f"in a child: {made.flaws}\n".encode())
        return 3
    # Its own, and no copy of one of its parent's.
    return 0 if made.connected() == 1 else 6


def in_child(work: Callable[[], int], *, crossed: bool = False) -> None:
    """End this process, which is a child, with what the work returns, or with 1."""
    code = 1
    try:
        code = 5 if crossed else work()
    finally:
        os._exit(code)


def must_end_well(made: Bed, child: int, place: object) -> None:
    """Wait for a child."""
    _, status = os.waitpid(child, 0)
    if status:
        made.flaws.append((place, "the child ended with", os.waitstatus_to_exitcode(status)))


def fork(made: Bed) -> None:
    """Fork a child that begins anew, and wait for it."""
    child = os.fork()
    if child == 0:
        in_child(lambda: begin_anew(made))
    must_end_well(made, child, "beside")


@forks
@pytest.mark.parametrize("kind", ["sized", "chunked"])
def test_a_fork_in_another_thread_at_any_instant_breaks_nothing(kind: str) -> None:
    """The child begins anew and keeps no descriptor of its parent's; the call goes on."""
    with bed() as made, forking():
        for number in NUMBERS:
            text = made.prompt(kind)
            instant = Instant(number, lambda: made.beside(lambda: fork(made)))
            with instant:
                got = made.chat(text)
            made.join()
            if got != text:
                made.flaws.append((instant.place, "crossed", got))
            made.look(instant.place)
            if not instant.reached:
                break
        assert (made.client.stats().opened, number > 100) == (1, True)


@forks
@pytest.mark.parametrize("kind", ["sized", "stream"])
def test_a_call_goes_on_in_both_processes_where_its_own_thread_forks(kind: str) -> None:
    """In the child it ends with a reply or an error of ours, and the next one works."""
    children: list[int] = []

    def fork_here(made: Bed) -> None:
        # One that is held stays so in a child until its thread goes on.
        if not made.locked():
            children.append(os.fork())

    with bed() as made, forking():
        for number in NUMBERS:
            children.clear()
            text, got = made.prompt(kind), None
            instant = Instant(number, lambda: fork_here(made))
            try:
                with instant:
                    got = made.chat(text)
            except (APIConnectionError, StreamInterrupted):
                got = None
            except BaseException:
                if children == [0]:
                    os._exit(4)
                raise
            if children == [0]:
                in_child(functools.partial(go_on, made), crossed=got not in (None, text))
            for child in children:
                must_end_well(made, child, instant.place)
            if got != text:
                made.flaws.append((instant.place, "in the parent", got))
            made.look(instant.place)
            if not instant.reached:
                break
        assert (made.client.stats().opened, number > 100) == (1, True)


class Halt:
    """Halts a call at an instant until it may go on, unless others would wait for a lock there."""

    def __init__(self, made: Bed, number: int) -> None:
        self._made = made
        self._halted, self._go = threading.Event(), threading.Event()
        self._text = made.prompt("sized")
        self.held_a_lock = False
        self.instant = Instant(number, self._halt, PASSING)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._halted.wait(PATIENCE)

    def _halt(self) -> None:
        self.held_a_lock = self._made.transport._slots.lock.locked()
        self._halted.set()
        assert self.held_a_lock or self._go.wait(PATIENCE)

    def _run(self) -> None:
        try:
            with self.instant:
                got = self._made.chat(self._text)
            if got != self._text:
                self._made.flaws.append((self.instant.place, "crossed", got))
        except BaseException as error:
            self._made.flaws.append((self.instant.place, "ended", repr(error)))
        finally:
            self._halted.set()

    def go_on(self) -> None:
        """Let it run to its end."""
        self._go.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def test_two_calls_pass_a_connection_on_at_any_two_instants() -> None:
    """Whoever gave a connection back does not close it under the next one, wherever each stands."""
    pairs = 0
    with bed() as made:
        for one in NUMBERS:
            for other in NUMBERS:
                made.transport._adapter.pools()[0].idle.clear()
                made.must_work()
                first = Halt(made, one)
                if first.held_a_lock or not first.instant.reached:
                    first.go_on()
                    break
                second = Halt(made, other)
                first.go_on()
                second.go_on()
                pairs += 1
                made.look((first.instant.place, second.instant.place))
                if not second.instant.reached:
                    break
            if not first.instant.reached:
                break
    assert pairs > 10


def test_a_tool_put_on_and_off_sends_each_attempt_one_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that go both ways at once share a pool; no reply crosses, and the counts add up."""
    threads, calls = 16, 60
    seen, ways, ended = [0], [0, 0], threading.Event()
    stock = requests.Session.send
    send_direct, send_ordinary = _transport.send_direct, _transport.send_ordinary

    def tool(session: requests.Session, request: Any, **options: Any) -> Any:
        seen[0] += 1
        return stock(session, request, **options)

    def counting(way: int, send: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **options: Any) -> Any:
            ways[way] += 1
            return send(*args, **options)

        return count

    def toggle() -> None:
        for put in itertools.cycle((tool, stock)):
            monkeypatch.setattr(requests.Session, "send", put)
            if ended.wait(0.002):
                return

    def work(made: Bed, thread: int) -> None:
        for number in range(calls):
            kind = KINDS[(thread + number) % len(KINDS)].replace("refused", "sized")
            text = made.prompt(kind)
            if made.chat(text) != text:
                made.flaws.append((text, "crossed"))

    monkeypatch.setattr(_transport, "send_direct", counting(0, send_direct))
    monkeypatch.setattr(_transport, "send_ordinary", counting(1, send_ordinary))
    with bed(max_connections=12) as made, ThreadPoolExecutor(threads + 1) as workers:
        toggling = workers.submit(toggle)
        work_done = [workers.submit(work, made, thread) for thread in range(threads)]
        try:
            for done in work_done:
                done.result(4 * PATIENCE)
        finally:
            ended.set()
            toggling.result(PATIENCE)
        stats = made.client.stats()
        assert stats.opened + stats.reused == stats.total_requests == threads * calls + 1
        assert (stats.calls.total_requests, stats.calls.total_retries) == (threads * calls + 1, 0)
        assert stats.opened == made.server.connections
        assert min(ways) > 0
        assert seen[0] <= ways[1]


def test_a_connection_is_closed_though_its_end_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What fails on the way to close() does not keep it from closing."""

    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    with bed() as made:
        monkeypatch.setattr("termai_http._connection.Connection._hang_up", fail)
        with pytest.raises(MemoryError):
            made.chat(made.prompt("closing"))
        gc.collect()
        made.look("after it")


def test_a_tool_that_forbids_to_connect_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an audit hook raises closes the socket that it was told of."""
    audit = sys.audit

    def forbid(event: str, *args: object) -> None:
        if event == "http.client.connect":
            raise PermissionError("not here")
        audit(event, *args)

    with bed() as made:
        made.transport._adapter.pools()[0].idle.clear()
        monkeypatch.setattr(sys, "audit", forbid)
        with pytest.raises(APIConnectionError):
            made.chat(made.prompt("sized"))
        monkeypatch.undo()
        made.look("after it")
        made.must_work()


def test_idle_connections_that_ended_are_counted_and_replaced(server: Server) -> None:
    """A call that finds several closed by the server evicts each, and opens one."""
    number = 4
    meet = threading.Barrier(number)

    def hold(request: RecordedRequest) -> None:
        if request.prompt == "meet":
            meet.wait(PATIENCE)

    server.fail_when(hold)
    config = termai_http.HttpClientConfig(trust_env=False)
    with termai_http.Client(config) as client:

        def ask(prompt: str) -> str:
            return client.chat(prompt, model="m", api_key="k", base_url=server.url).text

        with ThreadPoolExecutor(number) as workers:
            list(workers.map(ask, ["meet"] * number))
        server.close_idle()
        (pool,) = client.session.get_adapter("http://").pools()
        for conn, _ in list(pool.idle._waiting):
            # One whose answer the server has just sent is closed a moment later.
            assert select.select([conn.sock], [], [], PATIENCE)[0]
        ask("hi")
        stats = client.stats()
        assert (stats.opened, stats.reused, stats.evicted) == (number + 1, 0, number)
        assert (stats.idle_connections, stats.discarded, stats.calls.total_retries) == (1, 0, 0)


def test_pooling_in_part_counts_each_connection_once() -> None:
    """Those in the pool's share go the direct way, the others open one each and close it."""
    calls = 60
    with bed(pooling=0.3) as made:
        for _ in range(calls):
            made.must_work()
        stats = made.client.stats()
        assert stats.opened + stats.reused == stats.total_requests == calls + 1
        assert stats.opened == made.server.connections
        assert stats.idle_connections <= 1
        assert stats.discarded + stats.idle_connections == stats.opened
