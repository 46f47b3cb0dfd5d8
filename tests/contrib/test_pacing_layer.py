"""The layer: who waits, how long, and how a wait ends; without a server."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from termai_http import ConfigurationError, HttpClientConfig, errors, events
from termai_http._call import Clock, Waker
from termai_http._job import CallRequest, Outcome
from termai_http.contrib._pacing_lane import ONE_REQUEST
from termai_http.contrib._pacing_layer import BuiltPacing
from termai_http.contrib.pacing import Pacing, PacingStats

from .pacing_bed import KEY, FakeTime, answered, request, told

PATIENCE = 30.0
_never: Any = None


@pytest.fixture
def time() -> FakeTime:
    """A clock that stands until somebody waits."""
    return FakeTime()


@pytest.fixture
def pacing(time: FakeTime) -> BuiltPacing:
    """A pacing that lives by it."""
    return time.build(Pacing())


def not_sent(_: CallRequest) -> Outcome[Any]:
    """Stand for what must not happen."""
    raise AssertionError("it was sent")


def test_a_refusal_holds_back_the_next_attempt(time: FakeTime, pacing: BuiltPacing) -> None:
    """It waits as long as the server asked, and those who listen are told why."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="2.5"))
    waiting = request(time.clock)
    heard: list[events.Event] = []
    waiting.call.tell = heard.append
    assert pacing.around_attempt(waiting, answered()).value == "fine"
    assert sum(time.waits) == pytest.approx(2.5)
    (waited,) = heard
    assert isinstance(waited, events.PacingWaited)
    assert (waited.seconds, waited.why) == (pytest.approx(2.5), "refusal")
    assert (waited.call_id, waited.model) == (waiting.call.number, "gpt-5.5")


def test_who_could_not_begin_before_its_deadline_fails_at_once(
    time: FakeTime, pacing: BuiltPacing
) -> None:
    """Nothing is sent or waited for, and the error carries the wait."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="30"))
    outcome = pacing.around_attempt(request(time.clock, 29.0), not_sent)
    error = outcome.error
    assert isinstance(error, errors.DeadlineExceeded)
    assert (error.phase, error.retry_after) == ("pacing", pytest.approx(30.0))
    assert "refusal" in error.message
    assert time.waits == []


@pytest.mark.parametrize(
    "other",
    [
        {"key": "sk-another-0123456789abcdef"},
        {"model": "gpt-5.5-mini"},
        {"model": None},
        {"url": "https://example.com/v1/chat/completions"},
    ],
)
def test_others_are_not_held_back(
    time: FakeTime, pacing: BuiltPacing, other: dict[str, Any]
) -> None:
    """Another key, model or host has limits of its own."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="30"))
    assert pacing.around_attempt(request(time.clock, **other), answered()).value == "fine"
    assert time.waits == []


@pytest.mark.parametrize(
    "name",
    [
        *("OpenAI-Organization", "OpenAI-Project", "x-goog-api-key", "cf-aig-authorization"),
        *("Ocp-Apim-Subscription-Key", "x-portkey-api-key", "api-key", "X-Auth-Token"),
    ],
)
def test_whose_call_it_is_stands_in_other_headers_too(
    name: str, time: FakeTime, pacing: BuiltPacing
) -> None:
    """An organization and a project have limits of their own, and so have a gateway's keys."""
    mine, other = request(time.clock), request(time.clock)
    mine.job.headers[name] = "mine-0123456789"
    other.job.headers[name] = "other-0123456789"
    pacing.around_attempt(mine, answered(429, retry_after="30"))
    assert pacing.around_attempt(other, answered()).value == "fine"
    assert time.waits == []
    again = request(time.clock)
    again.job.headers[name.lower()] = "mine-0123456789"
    pacing.around_attempt(again, answered())
    assert sum(time.waits) == pytest.approx(30.0)
    assert "0123456789" not in repr(pacing.stats())


def test_another_path_of_the_same_host_and_model_is_held_back(
    time: FakeTime, pacing: BuiltPacing
) -> None:
    """A limit is for a host, a key and a model, however the host is spelled."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="3"))
    again = request(time.clock, url="https://API.openai.com/v1/responses")
    pacing.around_attempt(again, answered())
    assert sum(time.waits) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("status", "headers", "waited"),
    [
        (503, {"retry_after": "2"}, 2.0),
        (529, {"retry_after_ms": "1500"}, 1.5),
        (503, {}, 0.0),
        (500, {"retry_after": "2"}, 0.0),
        (402, {"retry_after": "60"}, 0.0),
        (429, {}, 0.5),
        (429, {"retry_after": "soon"}, 0.5),
        (429, {"retry_after": "1e9"}, 0.5),
        (429, {"retry_after": "Thu, 01 Jan 1970 00:16:50 GMT"}, 10.0),
    ],
)
def test_which_answers_hold_back(
    time: FakeTime, pacing: BuiltPacing, status: int, headers: dict[str, str], waited: float
) -> None:
    """Too many requests, and an overload that says how long; no failure, and no empty account."""
    pacing.around_attempt(request(time.clock), answered(status, **headers))
    pacing.around_attempt(request(time.clock), answered())
    assert sum(time.waits) == pytest.approx(waited)


def test_a_limit_that_is_told_is_kept(time: FakeTime, pacing: BuiltPacing) -> None:
    """Two are left, and one comes back each tenth of a second: the third waits for it."""
    pacing.around_attempt(request(time.clock), answered(**told(2, "59.8s")))
    for _ in range(2):
        pacing.around_attempt(request(time.clock), answered())
    assert time.waits == []
    pacing.around_attempt(request(time.clock), answered())
    assert sum(time.waits) == pytest.approx(0.1, abs=0.01)


def test_an_attempt_without_an_answer_teaches_nothing(time: FakeTime, pacing: BuiltPacing) -> None:
    """A connection that breaks, and something else than an error, leave all as it was."""
    broken: Outcome[Any] = Outcome(error=errors.APIConnectionError("broken"))
    pacing.around_attempt(request(time.clock), lambda _: broken)

    def interrupt(_: CallRequest) -> Outcome[Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pacing.around_attempt(request(time.clock), interrupt)
    assert pacing.around_attempt(request(time.clock), answered()).value == "fine"
    assert time.waits == []
    (key,) = pacing.stats().keys
    assert (key.started, key.refused, key.waiting) == (3, 0, 0)


def test_an_interrupt_in_a_wait_leaves_no_place_in_the_line(
    time: FakeTime, pacing: BuiltPacing
) -> None:
    """Who was torn away holds up nobody."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="2"))

    def interrupt() -> None:
        time.in_the_midst = lambda: None
        raise KeyboardInterrupt

    time.in_the_midst = interrupt
    with pytest.raises(KeyboardInterrupt):
        pacing.around_attempt(request(time.clock), not_sent)
    assert pacing.stats().waiting == 0
    assert pacing.around_attempt(request(time.clock), answered()).value == "fine"


def test_a_clock_that_stands_keeps_nobody_for_ever(time: FakeTime, pacing: BuiltPacing) -> None:
    """What was waited for counts, even where the clock does not show it."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="30"))
    time.stands = True
    outcome = pacing.around_attempt(request(time.clock, 60.0), not_sent)
    assert isinstance(outcome.error, errors.DeadlineExceeded)
    assert sum(time.waits) == pytest.approx(60.0, abs=5.0)


@pytest.mark.parametrize("reason", [errors.CallCancelled, errors.ClientClosed])
def test_a_wait_ends_with_its_call(
    time: FakeTime, pacing: BuiltPacing, reason: type[errors.TermaiHttpError]
) -> None:
    """Cancelled, or its client closed, it is ended at once and nothing is sent."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="30"))
    waiting = request(time.clock)
    time.in_the_midst = lambda: waiting.call.interrupt(reason)
    outcome = pacing.around_attempt(waiting, not_sent)
    assert type(outcome.error) is reason
    assert len(time.waits) == 1
    assert pacing.stats().waiting == 0


def test_a_refusal_ends_the_wait_of_those_who_cannot_outlast_it(
    time: FakeTime, pacing: BuiltPacing
) -> None:
    """Another thread's answer comes while it waits, and tells it that it waits in vain."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="2"))
    clock = time.clock

    def refuse() -> None:
        time.in_the_midst = lambda: None
        (queue,) = pacing._queues.values()
        started = queue.lane.start(time.now, ONE_REQUEST)
        pacing._learn(queue, started, answered(429, retry_after="90")(_never))

    time.in_the_midst = refuse
    outcome = pacing.around_attempt(request(clock, 10.0), not_sent)
    assert isinstance(outcome.error, errors.DeadlineExceeded)
    assert outcome.error.retry_after == pytest.approx(88.0)


def test_a_slow_start_makes_nobody_too_late(time: FakeTime, pacing: BuiltPacing) -> None:
    """Who waits for the answers of the first eight, which may come at once, waits for them."""
    begun, error = in_flight(pacing, time, 20)
    assert begun == 8
    assert isinstance(error, errors.DeadlineExceeded)
    assert sum(time.waits) == pytest.approx(0.05)


def test_a_header_of_each_call_makes_no_other_key(time: FakeTime, pacing: BuiltPacing) -> None:
    """What tells accounts apart is what authenticates, and nothing else."""
    for number in range(3):
        made = request(time.clock)
        made.job.headers["X-Request-Number"] = str(number)
        made.job.headers["Idempotency-Key"] = str(number)
        pacing.around_attempt(made, answered())
    assert len(pacing.stats().keys) == len(pacing._known) == 1


def test_nothing_is_shown_of_key_and_prompt(time: FakeTime, pacing: BuiltPacing) -> None:
    """Not in figures, not in errors."""
    secret = request(time.clock, body=b'{"messages": "whisper"}')
    pacing.around_attempt(secret, answered(429, retry_after="90", **told(0, "90s")))
    error = pacing.around_attempt(request(time.clock), not_sent).error
    described = Pacing(redis="redis://u:hunter2@host", requests_per_minute=1)
    shown = f"{pacing.stats()!r} {error!r} {error} {described!r}"
    assert KEY not in shown
    assert KEY[3:9] not in shown
    assert "whisper" not in shown
    assert "hunter2" not in shown


def test_the_figures_tell_what_is_known(time: FakeTime, pacing: BuiltPacing) -> None:
    """Limits, refusals, who was held back and how long."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="5", **told(0, "60s")))
    pacing.around_attempt(request(time.clock), answered(**told(9, "59.1s")))
    stats = pacing.stats()
    assert isinstance(stats, PacingStats)
    (key,) = stats.keys
    assert (key.host, key.model, len(key.account)) == ("api.openai.com", "gpt-5.5", 8)
    assert (key.started, key.refused, key.held, key.waiting) == (2, 1, 1, 0)
    assert key.held_seconds == pytest.approx(5.0)
    assert key.paused_for == 0.0
    (limit,) = key.limits
    assert (limit.kind, limit.limit, limit.remaining) == ("requests", 600, 9)
    assert limit.resets_in == pytest.approx(59.1)
    assert (stats.waiting, stats.refused_share) == (0, 0.5)
    assert stats.held_seconds == key.held_seconds


def test_many_keys_are_not_kept_for_ever(time: FakeTime, pacing: BuiltPacing) -> None:
    """Of 1,100 models the last 1,024 are known."""
    for number in range(1100):
        time.now += 1.0
        pacing.around_attempt(request(time.clock, model=f"m{number}"), answered())
    models = [key.model for key in pacing.stats().keys]
    assert len(models) == 1024
    assert models[-1] == "m1099"
    assert "m0" not in models


def test_those_who_wait_begin_in_the_order_of_asking() -> None:
    """First come, first served, each woken by the one before and by no lapse of time."""
    now, naps = [1000.0], threading.Semaphore(0)

    def wait(waker: Waker, seconds: float) -> bool:
        naps.release()
        return waker.wait(PATIENCE)

    clock = Clock(monotonic=lambda: now[0], wait=wait)
    built = Pacing().build(HttpClientConfig(), clock)
    assert isinstance(built, BuiltPacing)
    built.around_attempt(request(clock), answered(429, retry_after="40"))
    order: list[int] = []

    def call(number: int) -> Outcome[Any]:
        def send(sent: CallRequest) -> Outcome[Any]:
            order.append(number)
            return answered()(sent)

        return built.around_attempt(request(clock), send)

    with ThreadPoolExecutor(6) as pool:
        calls = []
        for number in range(6):
            calls.append(pool.submit(call, number))
            assert naps.acquire(timeout=PATIENCE)
        assert built.stats().waiting == 6
        now[0] += 41
        (queue,) = built._queues.values()
        built._learn(queue, queue.lane.start(now[0], ONE_REQUEST), answered()(_never))
        assert {done.result(PATIENCE).value for done in calls} == {"fine"}
    assert order == [0, 1, 2, 3, 4, 5]
    assert built.stats().waiting == 0


def test_a_wait_is_interrupted_from_another_thread() -> None:
    """A thread that naps for half a minute ends as soon as its call is cancelled."""
    napping = threading.Event()

    def wait(waker: Waker, seconds: float) -> bool:
        napping.set()
        return waker.wait(seconds)

    clock = Clock(wait=wait)
    built = Pacing().build(HttpClientConfig(), clock)
    built.around_attempt(request(clock), answered(429, retry_after="40"))
    waiting = request(clock)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(built.around_attempt, waiting, not_sent)
        assert napping.wait(PATIENCE)
        waiting.call.interrupt(errors.CallCancelled)
        assert isinstance(outcome.result(PATIENCE).error, errors.CallCancelled)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are for systems that have them")
def test_a_child_begins_anew(time: FakeTime, pacing: BuiltPacing) -> None:
    """The parent's waits and limits are not the child's, and its lock is a new one."""
    pacing.around_attempt(request(time.clock), answered(429, retry_after="30"))
    (lock,) = pacing.locks()
    with lock:
        pacing.start_over()
        assert pacing.around_attempt(request(time.clock), answered()).value == "fine"
    assert time.waits == []
    assert len(pacing.stats().keys) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("requests_per_minute", 0), ("requests_per_minute", 1.5), ("tokens_per_minute", -1)),
        *(("tokens_per_minute", True), ("estimate", 3), ("redis", 3)),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_made(field: str, value: Any) -> None:
    """With the field's name."""
    with pytest.raises(ConfigurationError, match=field):
        Pacing(**{field: value})


def test_redis_needs_limits_to_share() -> None:
    """Alone it would do nothing."""
    with pytest.raises(ConfigurationError, match="requests_per_minute or tokens_per_minute"):
        Pacing(redis="redis://localhost")


def test_a_redis_of_asyncio_is_refused() -> None:
    """It cannot be waited for from a thread."""
    asyncio = pytest.importorskip("redis.asyncio")
    with pytest.raises(ConfigurationError, match=r"redis\.Redis"):
        Pacing(redis=asyncio.Redis(), requests_per_minute=1)


def test_equal_descriptions_are_equal() -> None:
    """So that calls which name one share what it knows."""
    assert Pacing() == Pacing()
    assert hash(Pacing(requests_per_minute=3)) == hash(Pacing(requests_per_minute=3))
    assert Pacing() != Pacing(requests_per_minute=3)


def test_an_estimate_that_fails_breaks_nothing(
    time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, without the prompt, and our own estimate counts."""

    def failing(body: bytes) -> int:
        raise ValueError(body.decode())

    built = time.build(Pacing(tokens_per_minute=1000, estimate=failing))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            built.around_attempt(request(time.clock, body=b"whisper"), answered())
    assert caplog.text.count("estimate") >= 1
    assert len(caplog.records) == 1
    assert "whisper" not in caplog.text


def in_flight(
    pacing: BuiltPacing, time: FakeTime, count: int, **job: Any
) -> tuple[int, errors.TermaiHttpError | None]:
    """Begin attempts inside one another; returns how many could begin, and why no more."""
    begun, error = 0, None

    def send(_: CallRequest) -> Outcome[Any]:
        nonlocal begun, error
        begun += 1
        if begun < count:
            error = pacing.around_attempt(request(time.clock, 0.05, **job), send).error or error
        return answered()(_never)

    pacing.around_attempt(request(time.clock, 0.05, **job), send)
    return begun, error


def test_no_lock_is_taken_where_much_is_left(time: FakeTime, pacing: BuiltPacing) -> None:
    """Attempts begin and end while another thread holds the lock, and are counted afterwards."""
    for _ in range(2):
        pacing.around_attempt(request(time.clock), answered(**told(599, "0.1s")))
    (lock,) = pacing.locks()
    with lock:
        for _ in range(30):
            pacing.around_attempt(request(time.clock), answered(**told(560, "4s")))
    (key,) = pacing.stats().keys
    assert (key.started, key.refused) == (32, 0)
    assert key.limits[0].remaining == 560


def test_what_began_without_a_lock_counts_against_what_remains(
    time: FakeTime, pacing: BuiltPacing
) -> None:
    """However many are under way at once, never more than were left."""
    for _ in range(2):
        pacing.around_attempt(request(time.clock), answered(**told(100, "0.001s", limit=101)))
    time.now += 0.2
    pacing.around_attempt(request(time.clock), answered(**told(100, "1000s", limit=101)))
    begun, error = in_flight(pacing, time, 150)
    assert begun == 100
    assert isinstance(error, errors.DeadlineExceeded)


def test_a_refusal_ends_what_needs_no_lock(time: FakeTime, pacing: BuiltPacing) -> None:
    """The next attempt of any thread is held back at once."""
    for _ in range(2):
        pacing.around_attempt(request(time.clock), answered(**told(599, "0.1s")))
    pacing.around_attempt(request(time.clock), answered(429, retry_after="3"))
    pacing.around_attempt(request(time.clock), answered())
    assert sum(time.waits) == pytest.approx(3.0, abs=0.2)


def test_a_request_far_larger_than_others_is_looked_at(time: FakeTime, pacing: BuiltPacing) -> None:
    """Its tokens are counted, though others of their limit need no look."""
    limit = {
        "x_ratelimit_limit_tokens": "100000",
        "x_ratelimit_remaining_tokens": "99990",
        "x_ratelimit_reset_tokens": "6ms",
    }
    for _ in range(3):
        pacing.around_attempt(request(time.clock), answered(**limit))
    begun, error = in_flight(pacing, time, 10, body=b"words and " * 12_000)
    assert begun == 3
    assert isinstance(error, errors.DeadlineExceeded)
    assert "tokens" in error.message
