"""The layer: what is kept and given again, what is shared, and what happens beside that."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import attrs
import pytest

from termai_http import ChatResponse, Usage, errors
from termai_http._call import Clock
from termai_http._job import CallRequest, Outcome
from termai_http.contrib import _cache_flight, _cache_sqlite
from termai_http.contrib._cache_entry import Entry, KeptAnswer
from termai_http.contrib._cache_flight import Flight, Flights
from termai_http.contrib._cache_layer import BuiltCache
from termai_http.contrib._cache_stream import KeptBody
from tests.contrib.cache_bed import KEY, TestCall, Upstream, ask, build, in_child, job, request

SSE = b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"


def counts(built: BuiltCache) -> dict[str, int]:
    """Return the figures that are not zero."""
    return {name: count for name, count in attrs.asdict(built.stats()).items() if count}


def test_the_same_question_is_asked_once() -> None:
    """The second reply is the first one, made by no attempt."""
    built, upstream = build(), Upstream()
    assert ask(built, upstream) == {"said": "answer 1", "attempts": 1}
    assert ask(built, upstream) == {"said": "answer 1", "attempts": 0}
    assert ask(built, upstream, "Why not?") == {"said": "answer 2", "attempts": 1}
    assert counts(built) == {"hits": 1, "misses": 2, "stored": 2}


def test_what_a_hit_says_of_its_answer() -> None:
    """Status and the vendor's id are there, cookies and how it travelled are not."""
    built, upstream = build(), Upstream()
    ask(built, upstream)
    response = built.around_call(request(), upstream).response
    assert response is not None
    assert response.status_code == 200
    assert dict(response.headers) == {"x-request-id": "req_1", "content-type": "text/json"}


def test_tenants_never_meet() -> None:
    """Another key, another organisation or another header, and another reply is given."""
    built, upstream = build(), Upstream()
    plain = job().headers
    seen = [
        ask(built, upstream, headers=headers)["said"]
        for headers in (
            plain,
            {**plain, "Authorization": f"Bearer {KEY}2"},
            {**plain, "OpenAI-Project": "p"},
            {**plain, "x-tenant": "t"},
        )
    ]
    assert len(set(seen)) == 4
    assert len(upstream.asked) == 4


@pytest.mark.parametrize(
    "end",
    [
        Outcome(error=errors.InternalServerError("It failed.")),
        Outcome(value=None, response=KeptAnswer(Entry(at=0, status=200, headers={}, body=b"x"))),
        Outcome(value={}, response=KeptAnswer(Entry(at=0, status=200, headers={}, body=b""))),
        Outcome(value={}, response=KeptAnswer(Entry(at=0, status=302, headers={}, body=b"x"))),
        Outcome(value={}),
    ],
)
def test_what_is_no_good_reply_is_not_kept(end: Outcome[Any]) -> None:
    """An error, an answer without a value or a body, and another status are forgotten."""
    built = build()
    for _ in range(2):
        assert built.around_call(request(), lambda asked: end) is end
    assert counts(built) == {"misses": 2}


def reply(**changes: Any) -> ChatResponse:
    """Return a reply of a model."""
    fields: dict[str, Any] = {
        "text": "x",
        "finish_reason": "stop",
        "usage": Usage(),
        "model": "m",
        "id": "i",
        "request_id": None,
        "status_code": 200,
        "headers": {},
        "attempts": 1,
        "elapsed": 0.1,
        "raw": {},
        "provider": "openai",
    }
    return ChatResponse(**{**fields, **changes})


def choices(*reasons: Any, refusal: str | None = None) -> dict[str, Any]:
    """Return what a reply has where more than one choice was asked for."""
    message = {"content": "x", "refusal": refusal}
    return {"raw": {"choices": [{"finish_reason": one, "message": message} for one in reasons]}}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        *(({}, 1), ({"finish_reason": "length"}, 1), ({"raw": {"status": "completed"}}, 1)),
        *(({"refusal": "No."}, 0), ({"finish_reason": "content_filter"}, 0)),
        *(({"finish_reason": "refusal"}, 0), ({"raw": {"status": "queued"}}, 0)),
        *(({"finish_reason": None}, 0), (choices("stop", "stop", "length"), 1)),
        *((choices("stop", "content_filter"), 0), (choices("stop", None), 0)),
        *((choices("stop", "stop", refusal="No."), 0), (choices("stop", ["odd"]), 0)),
    ],
)
def test_a_reply_that_was_withheld_is_not_kept(changes: dict[str, Any], kept: int) -> None:
    """No refusal, none that a filter stopped or that is not made yet, in whichever choice."""
    built = build()
    answer: Any = KeptAnswer(Entry(at=0, status=200, headers={}, body=b'{"said":"x"}'))
    outcome = Outcome(value=reply(**changes), response=answer)
    built.around_call(request(), lambda asked: outcome)
    assert built.stats().stored == kept


def test_a_reply_is_good_for_its_time() -> None:
    """By the wall clock; one that went back makes nothing old, and None is for ever."""
    now = [1_000_000.0]
    clock = Clock(wall=lambda: now[0])
    for ttl, attempts in ((10.0, [1, 0, 0, 1]), (None, [1, 0, 0, 0])):
        now[0] = 1_000_000.0
        built, upstream = build(clock, ttl=ttl), Upstream()
        seen = []
        for step in (0.0, 9.0, -5000.0, 5001.0):
            now[0] += step
            seen.append(ask(built, upstream)["attempts"])
        assert seen == attempts


def test_a_reply_that_is_too_long_is_not_kept() -> None:
    """It is given to who asked, and to who waits for it."""
    built, upstream = build(max_entry_bytes=10), Upstream()
    assert [ask(built, upstream)["attempts"] for _ in range(2)] == [1, 1]


def test_a_call_gets_a_fresh_answer_where_it_wants_one() -> None:
    """``no-cache`` asks anew and keeps what comes; ``no-store`` leaves no trace."""
    built, upstream = build(), Upstream()
    plain = job().headers
    seen = [
        ask(built, upstream, headers={**plain, **more})["said"]
        for more in ({}, {"Cache-Control": "no-cache"}, {}, {"cache-control": "no-store"}, {})
    ]
    assert seen == ["answer 1", "answer 2", "answer 2", "answer 3", "answer 2"]


def test_an_operation_that_is_not_kept_passes_through() -> None:
    """It is not even counted."""
    built, upstream = build(), Upstream()
    for _ in range(2):
        ask(built, upstream, operation="models")
    assert counts(built) == {}
    assert len(upstream.asked) == 2


def test_who_cannot_read_a_kept_reply_asks_anew() -> None:
    """Another class of output may want more of it than the first one did."""
    built, upstream = build(), Upstream()
    ask(built, upstream)
    asked = request()
    outcomes = [errors.OutputError("It does not fit."), {"said": "anew"}]
    again = asked.with_read(lambda answer, call: outcomes.pop(0))
    assert built.around_call(again, upstream).value == {"said": "anew"}
    assert counts(built) == {"misses": 2, "stored": 2}


def test_it_tells_who_listens() -> None:
    """One event a call: what it found."""
    built, upstream = build(), Upstream()
    heard: list[Any] = []
    for _ in range(2):
        call = TestCall()
        call.tell = heard.append
        ask(built, upstream, call=call)
    assert [type(event).__name__ for event in heard] == ["CacheMissed", "CacheAnswered"]
    assert heard[1].shared is False
    assert heard[1].model == "gpt-5.5"


class Waiting:
    """A clock that tells when a call begins to wait, and lets time pass as it is told."""

    def __init__(self, most: float = 0.02) -> None:
        self.begun = threading.Semaphore(0)
        self.late = 0.0
        real = Clock()

        def wait(waker: Any, seconds: float) -> bool:
            self.begun.release()
            return real.wait(waker, min(seconds, most))

        self.clock = Clock(wait=wait, monotonic=lambda: real.monotonic() + self.late)


def start(target: Any, *given: Any) -> threading.Thread:
    """Run something beside the test."""
    thread = threading.Thread(target=target, args=given)
    thread.start()
    return thread


def test_equal_calls_at_the_same_time_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait are woken, and share the reply of the first, each as its own value."""
    monkeypatch.setattr(_cache_flight, "_LONGEST_NAP", 60.0)
    built, upstream = build(), Upstream()
    upstream.gate = threading.Event()
    waiting = Waiting(most=60.0)
    values: list[Any] = []

    def work() -> None:
        values.append(ask(built, upstream, call=TestCall(clock=waiting.clock)))

    threads = [start(work) for _ in range(8)]
    for _ in range(7):
        assert waiting.begun.acquire(timeout=30)
    upstream.gate.set()
    for thread in threads:
        thread.join(30)
    assert sorted(value["attempts"] for value in values) == [0] * 7 + [1]
    assert {value["said"] for value in values} == {"answer 1"}
    assert len({id(value) for value in values}) == 8
    assert counts(built) == {"misses": 1, "shared": 7, "stored": 1}
    assert len(built._flights) == 0


def follow(built: BuiltCache, upstream: Upstream, waiting: Waiting, leader: Any) -> list[Any]:
    """Let one call wait for another; returns what it brings, once it is there."""
    call = TestCall(clock=waiting.clock)
    got: list[Any] = [call]

    def work() -> None:
        got.append(built.around_call(request(call=call), upstream))

    thread = start(work)
    assert waiting.begun.acquire(timeout=30)
    leader(call)
    thread.join(30)
    assert not thread.is_alive()
    return got[1:]


def lead(built: BuiltCache, upstream: Upstream) -> threading.Thread:
    """Let a call be under way."""
    upstream.gate = threading.Event()

    def work() -> None:
        built.around_call(request(), upstream)

    thread = start(work)
    assert upstream.entered.acquire(timeout=30)
    return thread


def test_who_waits_for_a_call_that_fails_makes_its_own() -> None:
    """The error of another is not shared: its key, its time and its luck were its own."""
    built, first, second = build(), Upstream(status=500), Upstream()
    leader = lead(built, first)
    assert first.gate is not None
    (outcome,) = follow(built, second, Waiting(), lambda call: first.gate.set())
    leader.join(30)
    assert outcome.value == {"said": "answer 1", "attempts": 1}
    assert counts(built) == {"misses": 2, "stored": 1}


@pytest.mark.parametrize(
    ("end", "error"),
    [("deadline", errors.DeadlineExceeded), ("cancel", errors.CallCancelled)],
)
def test_who_waits_ends_by_its_own_deadline(end: str, error: type[errors.TermaiHttpError]) -> None:
    """Or by its own token; the call that it waits for goes on."""
    built, upstream, waiting = build(), Upstream(), Waiting()
    leader = lead(built, upstream)

    def over(call: TestCall) -> None:
        if end == "cancel":
            call.interrupt(errors.CallCancelled)
        else:
            waiting.late = 3600.0

    (outcome,) = follow(built, upstream, waiting, over)
    assert type(outcome.error) is error
    assert outcome.error.phase == "wait"
    assert len(upstream.asked) == 1
    assert upstream.gate is not None
    upstream.gate.set()
    leader.join(30)
    assert counts(built) == {"misses": 1, "stored": 1}


@pytest.mark.parametrize("torn", [KeyboardInterrupt, SystemExit])
def test_a_call_that_is_torn_away_blocks_nobody(torn: type[BaseException]) -> None:
    """Ctrl-C in the leader's thread lets those who wait make their own call."""
    built, gate, entered, raised = build(), threading.Event(), threading.Event(), []

    def tear(asked: CallRequest) -> Outcome[Any]:
        entered.set()
        assert gate.wait(30)
        raise torn

    def work() -> None:
        try:
            built.around_call(request(), tear)
        except BaseException as error:
            # Held, as a notebook holds its last error, with all its frames.
            raised.append(error)

    leader = start(work)
    assert entered.wait(30)
    (outcome,) = follow(built, Upstream(), Waiting(), lambda call: gate.set())
    leader.join(30)
    assert type(raised[0]) is torn
    assert outcome.value == {"said": "answer 1", "attempts": 1}
    assert len(built._flights) == 0


def test_a_second_interrupt_leaves_nothing_under_way() -> None:
    """Where one tears away even the end of a call's flight, the core's end of the call ends it."""
    built, call = build(), TestCall()
    leave, torn = built._flights.leave, [KeyboardInterrupt]

    def leaving(key: str, flight: Flight) -> None:
        while torn:
            raise torn.pop()
        leave(key, flight)

    built._flights.leave = leaving  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        built.around_call(request(call=call), Upstream())
    assert len(built._flights) == 1
    call.end_with(None)
    assert len(built._flights) == 0
    assert ask(built, Upstream())["attempts"] == 0


def test_a_flight_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody said that it is over, neither before nor while it is waited for."""
    monkeypatch.setattr(_cache_flight, "_LONGEST_NAP", 0.01)
    flights, flight = Flights(), Flight()
    flight.thread = -1
    assert flights.follow("row", flight, TestCall()) is None
    flights.enter("row", flight)
    waiting = Waiting(most=60.0)
    thread = start(flights.follow, "row", flight, TestCall(60.0, waiting.clock))
    assert waiting.begun.acquire(timeout=30)
    flights._flights.clear()
    thread.join(30)
    assert not thread.is_alive()


def test_what_is_under_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above it each call is made by itself, and its reply is kept all the same."""
    monkeypatch.setattr(_cache_flight, "_MOST", 1)
    built = build()
    built._flights.enter("other", Flight())
    flight = Flight()
    assert built._flights.enter("row", flight) is flight
    assert len(built._flights) == 1
    assert [ask(built, Upstream())["attempts"] for _ in range(2)] == [1, 0]


def test_a_call_within_an_equal_call_does_not_wait_for_itself() -> None:
    """A listener that asks the same is answered."""
    built, inner = build(), Upstream()

    def nested(asked: CallRequest) -> Outcome[Any]:
        assert ask(built, inner) == {"said": "answer 1", "attempts": 1}
        return inner(asked)

    assert built.around_call(request(), nested).value["said"] == "answer 2"


def test_many_threads_make_one_call_a_question() -> None:
    """32 threads, 8 questions, a switch every 10 µs: 8 calls, and figures that add up."""
    built, upstream = build(), Upstream()
    barrier = threading.Barrier(32)
    wrong: list[Any] = []

    def work() -> None:
        barrier.wait(30)
        for number in range(24):
            said = ask(built, upstream, f"question {number % 8}")["said"]
            if json.loads(upstream.asked[int(said.split()[1]) - 1])["messages"][0]["content"] != (
                f"question {number % 8}"
            ):
                wrong.append(said)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [start(work) for _ in range(32)]
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(switch)
    assert not wrong
    assert len(upstream.asked) == len(set(upstream.asked)) == 8
    stats = built.stats()
    assert (stats.misses, stats.stored, stats.errors) == (8, 8, 0)
    assert stats.hits + stats.shared == 32 * 24 - 8
    assert len(built._flights) == 0


def test_many_threads_share_a_file(tmp_path: Path) -> None:
    """The same over SQLite, with two clients on one file."""
    path = tmp_path / "a.sqlite"
    clients = [build(store=path, store_timeout=60.0) for _ in range(2)]
    upstream = Upstream()
    barrier = threading.Barrier(32)

    def work(built: BuiltCache) -> None:
        barrier.wait(30)
        for number in range(8):
            ask(built, upstream, f"question {number}", call=TestCall(600.0))

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [start(work, clients[n % 2]) for n in range(32)]
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(switch)
    stats = [built.stats() for built in clients]
    assert [one.errors for one in stats] == [0, 0]
    assert 8 <= len(upstream.asked) <= 16
    assert sum(one.misses for one in stats) == len(upstream.asked)
    assert ask(clients[0], upstream, "question 0", call=TestCall(600.0))["attempts"] == 0
    for built in clients:
        built.close()


def test_what_one_process_kept_the_next_one_finds(tmp_path: Path) -> None:
    """A kernel that is started anew asks nothing twice."""
    path = tmp_path / "a.sqlite"
    code = (
        "import sys\n"
        "from tests.contrib.cache_bed import Upstream, ask, build\n"
        "built = build(store=sys.argv[1])\n"
        "print(ask(built, Upstream()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
    )
    assert done.stdout == "{'said': 'answer 1', 'attempts': 1}\n"
    assert done.stderr == ""
    built = build(store=path)
    assert ask(built, Upstream()) == {"said": "answer 1", "attempts": 0}
    built.close()


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """A client that is closed, or only dropped, closes its file; what comes later opens none."""
    path = tmp_path / "a.sqlite"
    for close in (True, False):
        built = build(store=path)
        ask(built, Upstream(), f"{close}")
        table: Any = built.store
        connection = table._made._connection
        gone = weakref.ref(built)
        if close:
            built.close()
            assert ask(built, Upstream(), f"{close}")["attempts"] == 1
        del built, table
        gc.collect()
        assert gone() is None
        with pytest.raises(Exception, match="closed database"):
            connection.execute("SELECT 1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_opens_its_own_file(tmp_path: Path) -> None:
    """What the parent kept answers there too, over another connection, and figures begin at 0."""
    built, upstream = build(store=tmp_path / "a.sqlite"), Upstream()
    ask(built, upstream)
    locks = built.locks()
    for lock in locks:
        assert lock.acquire(timeout=1)

    def check() -> None:
        built.start_over()
        assert not _cache_sqlite._left_behind
        assert counts(built) == {}
        assert ask(built, upstream)["attempts"] == 0
        assert ask(built, upstream, "from the child")["attempts"] == 1
        assert counts(built) == {"hits": 1, "misses": 1, "stored": 1}
        built.close()

    ended = in_child(check)
    for lock in reversed(locks):
        lock.release()
    assert ended() == 0
    assert ask(built, upstream)["attempts"] == 0
    assert ask(built, upstream, "from the child")["said"] == "answer 2"
    built.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_child_that_was_forked_past_python_does_without_the_file(tmp_path: Path) -> None:
    """An open connection came along: SQLite believes there to hold locks that are the parent's."""
    path = tmp_path / "a.sqlite"
    built, upstream = build(store=path), Upstream()
    ask(built, upstream)

    def check() -> None:
        built.start_over()
        assert list(_cache_sqlite._left_behind) == [path]
        later = build(store=path)
        for one in (built, built, later):
            assert ask(one, upstream)["attempts"] == 1
            one.close()
        assert counts(built) == {"errors": 1, "misses": 2}

    assert in_child(check)() == 0
    assert ask(built, upstream)["attempts"] == 0
    built.close()


class Body:
    """An open body of a stream, as the core hands it to a reader."""

    def __init__(self, pieces: list[Any]) -> None:
        entry = Entry(at=0, status=200, headers={"content-type": "text/event-stream"}, body=b"")
        self.response = KeptAnswer(entry)
        self.reading = False
        self.pieces = pieces
        self.closed = False

    def read(self) -> Any:
        """Return the next piece."""
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    wait_until = rest = drain = close_unless_reading = ended_early = close


class Streaming:
    """Stands for a core that answers by a stream, which the test then reads."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = pieces or (SSE[:7], SSE[7:])
        self.body: Any = None
        self.bodies: list[Body] = []

    def __call__(self, asked: CallRequest) -> Outcome[Any]:
        """Answer by a stream."""
        self.bodies.append(Body(list(self.pieces)))
        self.body = asked.read(self.bodies[-1], asked.call)
        return Outcome(value=self.body, response=self.body.response)


def stream(built: BuiltCache, upstream: Streaming, call: TestCall, **fields: Any) -> Any:
    """Begin a stream, whose value is here the body that a reader reads."""
    asked = request(call=call, streaming=True, **fields)
    return built.around_call(asked.with_read(lambda answer, call: answer), upstream).value


def read_all(body: Any) -> bytes:
    """Read a body to its end."""
    return b"".join(iter(body.read, b""))


def test_a_stream_that_was_read_to_its_end_is_kept() -> None:
    """It comes again as a stream, byte for byte, without an attempt."""
    built, upstream = build(), Streaming()
    call = TestCall()
    body = stream(built, upstream, call)
    assert built.stats().stored == 0
    assert read_all(body) == SSE
    call.end_with(Outcome(value=reply(), response=body.response))
    assert counts(built) == {"misses": 1, "stored": 1}
    again = stream(built, upstream, TestCall())
    assert isinstance(again, KeptBody)
    assert again.response.headers == {"content-type": "text/event-stream"}
    assert read_all(again) == SSE
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize(
    "end",
    [
        None,
        Outcome(error=errors.StreamInterrupted("It broke.")),
        Outcome(value=reply(refusal="No."), response=Body([]).response),
    ],
)
def test_a_stream_without_a_good_end_is_not_kept(end: Outcome[Any] | None) -> None:
    """One that was left, one that broke and one that refuses are forgotten."""
    built, upstream = build(), Streaming()
    call = TestCall()
    read_all(stream(built, upstream, call))
    call.end_with(end)
    assert built.stats().stored == 0
    assert not isinstance(stream(built, upstream, TestCall()), KeptBody)


def test_a_stream_that_ends_in_a_finalizer_takes_no_lock() -> None:
    """Its end may come while this very thread counts."""
    built = build()
    call = TestCall()
    read_all(stream(built, Streaming(), call))
    with built._lock:
        call.end_with(None)


def test_a_stream_that_is_too_long_is_not_held() -> None:
    """Above the bound its pieces are let go of, and the reader notices nothing."""
    built, upstream = build(max_entry_bytes=100), Streaming(b"x" * 60, b"y" * 60, b"z")
    call = TestCall()
    body = stream(built, upstream, call)
    assert len(read_all(body)) == 121
    assert body._tape.whole() is None
    call.end_with(Outcome(value=reply(), response=body.response))
    assert built.stats().stored == 0


def test_a_stream_that_is_dropped_takes_its_body_along() -> None:
    """Nothing of the cache keeps it, without a collection: so its connection is closed at once."""
    built, upstream = build(), Streaming()
    call = TestCall()
    body = stream(built, upstream, call)
    gone = weakref.ref(upstream.bodies[0])
    gc.disable()
    try:
        del body
        upstream.bodies.clear()
        upstream.body = None
        assert gone() is None
    finally:
        gc.enable()
    assert call.endings


def test_only_the_attempt_that_was_read_is_kept() -> None:
    """An attempt that failed at its first event leaves nothing in the reply of the next."""
    built, failing, upstream = build(), Streaming(b"data: broken"), Streaming()
    call = TestCall()

    def attempts(asked: CallRequest) -> Outcome[Any]:
        read_all(failing(asked).value)
        return upstream(asked)

    asked = request(call=call, streaming=True).with_read(lambda answer, call: answer)
    body = built.around_call(asked, attempts).value
    read_all(body)
    call.end_with(Outcome(value=reply(), response=body.response))
    assert read_all(stream(built, upstream, TestCall())) == SSE


def test_streams_wait_for_nobody() -> None:
    """Two equal ones in one thread's hands both begin."""
    built, upstream = build(), Streaming()
    one, two = (stream(built, upstream, TestCall()) for _ in range(2))
    assert read_all(one) == read_all(two) == SSE
    assert counts(built) == {"misses": 2}


def kept_body(call: TestCall, size: int = 200_000) -> KeptBody:
    """Return the body of a kept stream."""
    return KeptBody(Entry(at=0, status=200, headers={}, body=b"x" * size), call)


def test_a_kept_stream_comes_in_pieces() -> None:
    """So that a deadline or a token can end it between two of them."""
    body = kept_body(TestCall())
    assert [len(piece) for piece in iter(body.read, b"")] == [65536, 65536, 65536, 3392]
    assert body.wait_until(0.0)
    other = kept_body(TestCall(), 100)
    assert other.rest() == b"x" * 100
    for close in (other.close, other.drain, other.close_unless_reading):
        close()
    assert other.read() == b""


def test_a_kept_stream_can_be_cancelled_and_has_a_deadline() -> None:
    """It ends as one that comes from the vendor does."""
    now = [0.0]
    call = TestCall(5.0, Clock(monotonic=lambda: now[0]))
    body = kept_body(call)
    assert body.ended_early() is None
    now[0] = 5.0
    early = body.read()
    assert isinstance(early, errors.DeadlineExceeded)
    assert early.phase == "body"
    call = TestCall()
    body = kept_body(call)
    call.interrupt(errors.CallCancelled)
    assert isinstance(body.ended_early(), errors.CallCancelled)
    assert isinstance(body.read(), errors.CallCancelled)
    assert body.rest() == b""
