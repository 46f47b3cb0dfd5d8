"""Which calls use the pool: a share of them, the same for a key, or what a function says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from termai_http._rollout import Rollout, place_of

KEYS = [f"user-{number}" for number in range(20_000)]


def no_chance(low: float, high: float) -> float:
    """Stand in for chance where none may be asked."""
    raise AssertionError("a call with a key draws nothing")


def test_a_share_covers_as_many_keys() -> None:
    """Of 20,000 keys 5 % are within a share of 0.05, whatever kind of keys they are."""
    rollout = Rollout(0.05)
    for keys in (KEYS, list(range(20_000)), [key.encode() for key in KEYS]):
        inside = sum(rollout.pools(key, no_chance) for key in keys)
        assert 0.045 < inside / len(keys) < 0.055


def test_a_key_that_is_in_stays_in_while_the_share_grows() -> None:
    """Each larger share has all keys of the smaller one; 1.0 has all and 0.0 none."""
    shares = [0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0]
    before: set[str] = set()
    for share in shares:
        rollout = Rollout(share)
        inside = {key for key in KEYS if rollout.pools(key, no_chance)}
        assert before <= inside
        assert abs(len(inside) / len(KEYS) - share) < 0.02
        before = inside
    assert before == set(KEYS)
    assert not any(Rollout(0.0).pools(key, no_chance) for key in KEYS)


def test_a_key_has_the_same_place_in_every_process() -> None:
    """The place hangs on nothing of a process; text is its UTF-8, a number its digits."""
    assert place_of("user-17") == pytest.approx(0.61174, abs=1e-5)
    assert place_of("é") == place_of("é".encode())
    assert place_of(17) == place_of("17") == place_of(b"17")
    assert 0 <= place_of("a\ud800") < 1


@pytest.mark.parametrize(
    ("share", "drawn", "pooled"), [(0.5, 0.49, True), (0.5, 0.5, False), (0.0, 0.0, False)]
)
def test_a_call_without_a_key_draws(share: float, drawn: float, pooled: bool) -> None:
    """What is drawn below the share uses the pool; a share of all draws nothing."""
    assert Rollout(share).pools(None, lambda low, high: drawn) is pooled
    assert Rollout(1.0).pools(None, no_chance) is True


def test_a_function_decides_by_the_key() -> None:
    """It is asked by each call, with its key or None, and nothing else counts."""
    asked: list[Any] = []

    def ask(key: Any) -> bool:
        asked.append(key)
        return key == "in"

    rollout = Rollout(ask)
    assert [rollout.pools(key, no_chance) for key in ("in", "out", None)] == [True, False, False]
    assert asked == ["in", "out", None]


def raises(key: Any) -> bool:
    """Fail as a flag service does, with the key in the message."""
    raise RuntimeError(f"no flag for {key}")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (raises, "raised RuntimeError"),
        (lambda key: None, "returned NoneType, not True or False"),
        (lambda key: 1, "returned int"),
    ],
)
def test_a_function_that_fails_is_logged_once_and_the_pool_is_used(
    ask: Callable[[Any], Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No call fails for it, and the log names neither key nor message."""
    rollout = Rollout(ask)
    with caplog.at_level(logging.DEBUG, logger="termai_http"):
        assert all(rollout.pools("jane@example.com", no_chance) is True for _ in range(5))
    (record,) = caplog.records
    assert (record.levelname, said in record.getMessage()) == ("WARNING", True)
    assert "jane" not in caplog.text


def test_what_stops_a_program_passes_through() -> None:
    """A Ctrl-C while the function is asked is no failure of its."""

    def stopped(key: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Rollout(stopped).pools("a", no_chance)
