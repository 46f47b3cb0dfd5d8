"""What is decided for one host, key and model: pure, with a clock from outside."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from termai_http.contrib._pacing_headers import LONGEST, Reading
from termai_http.contrib._pacing_lane import ONE_REQUEST, Answer, Cost, Lane, Started
from termai_http.contrib._pacing_ramp import GRACE, Ramp

from .pacing_world import Bucket, Window, play


def told(remaining: int, reset: float, limit: int = 600, kind: int = 0) -> Answer:
    """Return a good answer that tells a limit."""
    return Answer((Reading(kind, limit, remaining, reset),), let_in=True)


def refused(wish: float | None = None, *readings: Reading) -> Answer:
    """Return a refusal."""
    return Answer(readings, refused=True, wish=wish)


def begin(lane: Lane, now: float, count: int = 1) -> list[Started]:
    """Begin attempts that nothing holds back."""
    return [lane.start(now, ONE_REQUEST) for _ in range(count)]


def wait(lane: Lane, now: float) -> float:
    """Return how long the next request is held back."""
    return lane.hold(now, ONE_REQUEST).seconds


def test_nothing_is_held_back_at_first() -> None:
    """Where nothing is known, eight may be under way; the next waits for what becomes of them."""
    lane = Lane(0.0)
    attempts = begin(lane, 0.0, 8)
    assert lane.hold(0.0, ONE_REQUEST) == (GRACE, "slow start", False)
    lane.end(attempts[0], 0.1, Answer(let_in=True))
    assert wait(lane, 0.1) == 0
    lane.tick(GRACE, busy=True)
    assert wait(lane, GRACE) == 0


def test_what_is_under_way_counts_against_what_remains() -> None:
    """Ten are left by the first answer, three others may not have been counted: seven may begin."""
    lane = Lane(0.0)
    attempts = begin(lane, 0.0, 4)
    lane.end(attempts[0], 0.1, told(10, 59.0, limit=14))
    begin(lane, 0.1, 7)
    assert lane.hold(0.1, ONE_REQUEST).why == "requests"


def test_an_answer_of_an_older_attempt_changes_nothing() -> None:
    """An answer that comes late neither raises what is left nor takes a newer one's place."""
    lane = Lane(0.0)
    first, second = begin(lane, 0.0, 2)
    lane.end(second, 0.1, told(1, 30.0, limit=60))
    meter = lane.meters[0]
    known = (meter.credit, meter.limit, meter.rate)
    lane.end(first, 0.1, told(59, 1.0, limit=60))
    assert (meter.credit, meter.limit, meter.rate) == known
    lane.end(begin(lane, 0.1)[0], 0.2, Answer(let_in=True))
    lane.end(first, 0.2, told(0, 86_400.0, limit=60))
    assert meter.limit == 60
    assert meter.rate == pytest.approx(59 / 30)


def test_an_answer_lowers_what_others_used() -> None:
    """Where another process uses the key, the server's word stands over our own count."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.1, told(500, 10.0))
    lane.end(begin(lane, 0.1)[0], 0.2, told(3, 59.7))
    begin(lane, 0.2, 4)
    assert wait(lane, 0.2) > 0


def test_a_bucket_refills_at_the_rate_that_its_answers_tell() -> None:
    """600 used and a minute until all are there again: one more after a tenth of a second."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, told(0, 60.0))
    assert wait(lane, 0.0) == pytest.approx(0.1)
    assert wait(lane, 0.1) == pytest.approx(0.0, abs=1e-6)
    begin(lane, 0.11)
    assert wait(lane, 0.11) == pytest.approx(0.09, abs=0.001)


def test_a_server_whose_wait_is_its_reset_has_windows() -> None:
    """After such a refusal nothing refills before the window ends, and then all is there."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, refused(40.0, Reading(0, 600, 0, 40.0)))
    assert lane.hold(0.0, ONE_REQUEST) == (40.0, "refusal", True)
    assert wait(lane, 39.0) == pytest.approx(1.0)
    assert wait(lane, 40.0) == 0
    assert lane.meters[0].credit == 600


def test_a_refusal_holds_back_everybody_and_they_come_back_one_by_one() -> None:
    """After the pause each start follows the one before by what the limit allows."""
    lane = Lane(0.0)
    attempt, *_ = begin(lane, 0.0, 8)
    lane.end(attempt, 0.0, refused(2.0, Reading(0, 600, 0, 60.0)))
    assert lane.hold(1.0, ONE_REQUEST) == (1.0, "refusal", True)
    now, starts = 2.0, []
    for _ in range(5):
        now += wait(lane, now)
        starts.append(now)
        begin(lane, now)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert all(gap == pytest.approx(0.1, abs=0.005) for gap in gaps)


def test_a_late_refusal_never_shortens_a_pause() -> None:
    """Of two waits that the server asked for, the longer holds."""
    lane = Lane(0.0)
    first, second = begin(lane, 0.0, 2)
    lane.end(second, 0.1, refused(30.0))
    lane.end(first, 0.2, refused(1.0))
    assert wait(lane, 0.2) == pytest.approx(29.9)


def test_a_refusal_without_a_wait_backs_off_twice_as_long_each_time() -> None:
    """One herd's refusals are one reason to wait, the next herd's wait is doubled."""
    lane = Lane(0.0)
    for attempt in begin(lane, 0.0, 5):
        lane.end(attempt, 0.1, refused())
    assert lane.paused_until == pytest.approx(0.6)
    lane.end(begin(lane, 0.6)[0], 0.7, refused())
    assert lane.paused_until == pytest.approx(1.7)
    lane.end(begin(lane, 1.7)[0], 1.8, Answer(let_in=True))
    lane.end(begin(lane, 1.8)[0], 1.9, refused())
    assert lane.paused_until == pytest.approx(2.4)


@pytest.mark.parametrize("wish", [1e9, float("inf"), float("nan")])
def test_a_wait_gone_wrong_is_unknown(wish: float) -> None:
    """What no client could wait for pauses as if nothing was said."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, refused(wish))
    assert lane.paused_until == 0.5


def test_headers_alone_hold_nobody_for_ever() -> None:
    """What only headers forbid is asked for again after a minute, since they may be wrong."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, told(0, 86_400.0, limit=1))
    assert wait(lane, 0.0) == 60.0
    assert wait(lane, 60.0) == 0
    begin(lane, 60.0)
    assert wait(lane, 60.0) == 60.0


def test_tokens_are_waited_for_too() -> None:
    """A request with more tokens than are left waits, a small one does not."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, told(1000, 59.0, limit=60_000, kind=1))
    assert lane.hold(0.0, (1.0, 500.0, 500.0, 0.0)).seconds == 0
    held = lane.hold(0.0, (1.0, 2000.0, 2000.0, 0.0))
    assert held == (pytest.approx(1.0, abs=0.01), "tokens", True)
    begin(lane, 0.0)
    assert not lane.hold(0.0, (1.0, 2000.0, 2000.0, 0.0)).sure


def test_what_takes_more_than_there_can_be_waits_for_all_of_it() -> None:
    """An estimate above the limit goes out once all of it is there: the server decides."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, told(30_000, 30.0, limit=60_000, kind=1))
    huge = (1.0, 1e6, 1e6, 0.0)
    assert lane.hold(0.0, huge).seconds == pytest.approx(30.0)
    assert lane.hold(30.1, huge).seconds == 0


def test_the_wait_of_the_last_in_line_counts_those_before() -> None:
    """Who joins a line of twenty learns that a bucket lets in twenty before it."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, told(0, 60.0))
    ahead = (20.0, 0.0, 0.0, 0.0)
    assert lane.soonest(0.0, ONE_REQUEST, 20, ahead).seconds == pytest.approx(2.1)


def test_a_new_limit_takes_the_old_ones_place() -> None:
    """A limit that was raised holds from its first answer on."""
    lane = Lane(0.0)
    lane.end(begin(lane, 0.0)[0], 0.0, told(0, 60.0))
    lane.end(begin(lane, 1.0)[0], 1.0, told(5999, 0.01, limit=6000))
    assert lane.meters[0].credit == 5999
    assert wait(lane, 1.0) == 0


def test_a_clock_that_stands_or_runs_back_breaks_nothing() -> None:
    """Instants before the last one change nothing."""
    lane = Lane(10.0)
    lane.end(begin(lane, 10.0)[0], 10.0, told(5, 10.0, limit=10))
    credit = lane.meters[0].credit
    lane.tick(9.0, busy=True)
    assert wait(lane, 9.0) == 0
    assert lane.meters[0].credit == credit


def test_a_rate_is_measured_only_where_somebody_was_held_back() -> None:
    """One call a minute, and a refusal: that says nothing of how many there may be."""
    ramp = Ramp()
    for minute in range(60):
        ramp.began(minute * 60.0)
        ramp.let_in(minute * 60.0)
        ramp.idle(60.0)
    assert ramp.refused(3600.0, 3599.9, 1.0)
    assert (ramp.rate, ramp.window) == (None, 1.0)


def test_what_refusals_taught_is_forgotten_after_ten_minutes_without_a_call() -> None:
    """Who comes back the next day begins anew."""
    lane = Lane(0.0)
    for attempt in begin(lane, 0.0, 600):
        lane.end(attempt, 0.5, Answer(let_in=True))
    lane.tick(0.5, busy=True)
    lane.end(begin(lane, 0.6)[0], 1.0, refused(59.0))
    assert lane.ramp.rate == pytest.approx(9.0, abs=0.1)
    lane.tick(700.0, busy=False)
    assert (lane.ramp.rate, wait(lane, 700.0)) == (None, 0.0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(refused=True, wish=30.0, overloaded=True),
        refused(30.0, Reading(0, 600, 500, 10.0), Reading(1, 1000, 0, 60.0)),
    ],
    ids=["overloaded", "tokens"],
)
def test_a_refusal_for_something_else_teaches_no_rate(answer: Answer) -> None:
    """It pauses, and then it is begun slowly; how many requests there may be is another thing."""
    lane = Lane(0.0)
    for attempt in begin(lane, 0.0, 100):
        lane.end(attempt, 0.5, Answer(let_in=True))
    lane.end(begin(lane, 0.6)[0], 1.0, answer)
    assert wait(lane, 1.0) == 30.0
    assert (lane.ramp.rate, lane.ramp.window) == (None, 1.0)


def test_a_rate_grows_the_faster_the_longer_nothing_is_refused() -> None:
    """A limit that was low for an hour is not kept to for a day."""
    ramp = Ramp()
    ramp.began(0.0)
    for _ in range(100):
        ramp.let_in(1.0)
    ramp.refused(10.0, 9.0, 30.0)
    now, slow = 40.0, ramp.rate
    assert slow is not None
    assert slow < 3
    while ramp.rate is not None and now < 3600:
        now += 1 / ramp.rate
        ramp.let_in(now)
    assert ramp.rate is None
    assert now < 1200


def in_a_minute(lane: Lane, server: Bucket, begin: float, *, down: bool = False) -> int:
    """Send as much as the lane lets begin in a minute; return how many were let in."""
    now, let_in = begin, 0
    while now < begin + 60.0:
        lane.tick(now, busy=True)
        hold = lane.hold(now, ONE_REQUEST)
        if hold.seconds > 1e-9:
            now += max(hold.seconds, 0.001)
            continue
        started = lane.start(now, ONE_REQUEST)
        now += 0.01
        good = server.answer(now).let_in and not down
        lane.end(started, now, Answer(refused=not good, let_in=good))
        let_in += good
    return let_in


@pytest.mark.parametrize("minutes", [1, 3, 10])
def test_an_outage_is_over_when_it_is_over(minutes: int) -> None:
    """Refusals of some minutes tell no rate, and are made up for within some more."""
    lane, server, now = Lane(0.0), Bucket(30, 5.0, headers=False), 0.0
    for _ in range(2):
        before = in_a_minute(lane, server, now)
        now += 60.0
    assert before > 280
    for _ in range(minutes):
        in_a_minute(lane, server, now, down=True)
        now += 60.0
    after = [in_a_minute(lane, server, now + 60.0 * minute) for minute in range(5)]
    assert after[0] > 100
    assert sum(after[2:]) > 3 * 240


def test_our_own_slow_pace_is_not_taken_for_the_limit() -> None:
    """A limit that was low, and is high again, is found, and not lost at the next refusal."""
    lane = Lane(0.0)
    for minute in range(10):
        in_a_minute(lane, Bucket(1, 0.1, headers=False), 60.0 * minute)
    server = Bucket(30, 5.0, headers=False)
    counts = [in_a_minute(lane, server, 60.0 * minute) for minute in range(10, 35)]
    assert lane.refusals > 0
    assert sum(counts[-5:]) > 5 * 200


def test_what_is_left_of_a_days_limit_is_not_spread_over_the_day() -> None:
    """After a refusal for tokens, 14,000 requests a day come back in seconds, not one in six."""
    lane = Lane(0.0)
    day = Reading(0, 14_400, 14_000, 2400.0)
    lane.end(begin(lane, 0.0)[0], 0.0, refused(2.0, day, Reading(1, 1000, 0, 2.0)))
    assert 0 < lane.interval(2.0) < 0.01


READINGS = st.builds(
    lambda kind, limit, share, reset: Reading(kind, limit, int(limit * share), reset),
    st.integers(0, 3),
    st.integers(1, 10**12),
    st.floats(0, 1),
    st.floats(0, LONGEST),
)
ANSWERS = st.builds(
    Answer,
    st.lists(READINGS, max_size=4).map(tuple),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(0, 1e12),
    st.booleans(),
)
COSTS = st.tuples(st.just(1.0), *[st.floats(0, 1e7)] * 3)


@settings(max_examples=60)
@given(st.lists(st.tuples(ANSWERS, st.floats(0, 100), st.integers(0, 4)), max_size=25), COSTS)
def test_no_wait_is_without_end(told: list[tuple[Answer, float, int]], cost: Cost) -> None:
    """Whatever a server says in whatever order, each wait is a number, and an attempt begins."""
    lane, now, under_way = Lane(0.0), 0.0, []
    for answer, gone, late in told:
        now += gone
        lane.tick(now, busy=bool(late))
        under_way.append(lane.start(now, cost))
        lane.end(under_way.pop(max(len(under_way) - 1 - late, 0)), now, answer)
    end = now + 2 * LONGEST
    for _ in range(100):
        lane.tick(now, busy=True)
        hold = lane.hold(now, cost)
        assert 0 <= hold.seconds <= LONGEST
        assert lane.soonest(now, cost, 3, cost).seconds >= hold.seconds
        assert lane.harmless(now, cost) >= 0
        if hold.seconds <= 0:
            break
        # As long as a nap lasts at least.
        now += max(hold.seconds, 0.001)
    assert hold.seconds <= 0
    assert now <= end


SERVERS = [Bucket(600, 10.0, headers=True), Bucket(600, 10.0, headers=False)]
SERVERS += [Bucket(600, 10.0, headers=headers, whole=True) for headers in (True, False)]
WINDOWS = [Window(600, 60.0, headers=headers) for headers in (True, False)]
WINDOWS += [Window(600, 60.0, headers=headers, whole=True) for headers in (True, False)]


@pytest.mark.parametrize("server", [*SERVERS, *WINDOWS])
def test_64_callers_keep_to_600_a_minute(server: Bucket | Window) -> None:
    """Five minutes' calls all end well, under 2 % refused, nearly as fast as the limit allows."""
    outcomes = play(server, callers=64, calls=3000)
    assert (outcomes.done, outcomes.failed) == (3000, 0)
    assert outcomes.share < 0.02
    ideal = 240.0
    # A window that was emptied at once is followed by others that are used at an even pace.
    assert outcomes.seconds < ideal * (1.1 if isinstance(server, Bucket) else 1.4)
    assert outcomes.crowd <= 16


@pytest.mark.parametrize("kind", [Bucket, Window])
def test_calls_that_take_long_are_not_held_back(kind: type[Bucket] | type[Window]) -> None:
    """64 calls of some ten seconds stay far below the limit, and none waits for another."""
    server = Bucket(600, 10.0, headers=True) if kind is Bucket else Window(600, 60.0, headers=True)
    outcomes = play(server, calls=640, latency=lambda chance: chance.uniform(8.0, 12.0))
    assert outcomes.refused == 0
    assert outcomes.seconds < 110


def test_two_clients_of_one_key_share_its_limit() -> None:
    """Without a word between them both get on, and little is refused."""
    outcomes = play(Bucket(600, 10.0, headers=True), lanes=2, calls=3000)
    assert (outcomes.done, outcomes.failed) == (3000, 0)
    assert outcomes.share < 0.03
    assert outcomes.seconds < 260
