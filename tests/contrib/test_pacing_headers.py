"""What answers say of limits is read, and nonsense is unknown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http.contrib._pacing_headers import LONGEST, Reading, read_limits, seconds_of
from termai_http.contrib._pacing_tokens import estimate

# 2026-11-25T12:00:00Z
NOON = 1_795_608_000.0


def openai(limit: str, remaining: str, reset: str, kind: str = "requests") -> dict[str, str]:
    """Return OpenAI's headers of one limit."""
    prefix = "x-ratelimit"
    return {
        f"{prefix}-limit-{kind}": limit,
        f"{prefix}-remaining-{kind}": remaining,
        f"{prefix}-reset-{kind}": reset,
    }


def claude(limit: str, remaining: str, reset: str, kind: str = "requests") -> dict[str, str]:
    """Return Claude's headers of one limit."""
    prefix = f"anthropic-ratelimit-{kind}"
    return {f"{prefix}-limit": limit, f"{prefix}-remaining": remaining, f"{prefix}-reset": reset}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("1s", 1.0), ("6m0s", 360.0), ("120ms", 0.12), ("1h2m3.5s", 3723.5), ("0", 0.0)),
        *(("8.64s", 8.64), ("1m26.4s", 86.4), ("17", 17.0), ("0.25", 0.25), (" 2s\t", 2.0)),
        *(("15\xb5s", 15e-6), ("1d", 86_400.0), ("0s", 0.0)),
        *(("", None), ("-1", None), ("-1s", None), ("NaN", None), ("inf", None), ("1 s", None)),
        *(("1s, 1s", None), ("1e9", None), ("s", None), ("1x", None), ("1s?", None), ("٣s", None)),
    ],
)
def test_spans_are_read(text: str, seconds: float | None) -> None:
    """A span in units or in plain seconds is read, everything else is unknown."""
    found = seconds_of(text)
    assert found == (seconds if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=30))
def test_any_text_is_a_span_or_none(text: str) -> None:
    """Whatever a server writes, a span is a finite number of at least 0, or unknown."""
    found = seconds_of(text)
    assert found is None or (math.isfinite(found) and found >= 0)


def test_openai_tells_requests_and_tokens() -> None:
    """Both limits of OpenAI's are read, whatever else stands there."""
    headers = {
        **openai("600", "599", "100ms"),
        **openai("90000", "0", "6m0s", "tokens"),
        "retry-after": "3",
    }
    assert read_limits(headers, NOON) == (Reading(0, 600, 599, 0.1), Reading(1, 90_000, 0, 360.0))


def test_claude_tells_four_kinds() -> None:
    """Claude's four limits are read, with resets as instants of any offset and precision."""
    headers = {
        **claude("50", "49", "2026-11-25T12:00:02Z"),
        **claude("80000", "75000", "2026-11-25T12:00:04.5+00:00", "tokens"),
        **claude("60000", "0", "2026-11-25T13:00:30+01:00", "input-tokens"),
        **claude("20000", "20000", "2026-11-25t12:00:00z", "output-tokens"),
    }
    assert read_limits(headers, NOON) == (
        Reading(0, 50, 49, 2.0),
        Reading(1, 80_000, 75_000, 4.5),
        Reading(2, 60_000, 0, 30.0),
        Reading(3, 20_000, 20_000, 0.0),
    )


def test_the_servers_clock_counts_where_it_is_told() -> None:
    """An instant is taken by the answer's own date, since our clock may be an hour away."""
    headers = claude("50", "0", "2026-11-25T12:00:30Z")
    dated = {**headers, "date": "Wed, 25 Nov 2026 12:00:00 GMT"}
    assert read_limits(dated, NOON - 3600)[0].reset == 30.0
    assert read_limits(dated, NOON + 3600)[0].reset == 30.0
    assert read_limits({**headers, "date": "yesterday"}, NOON)[0].reset == 30.0


def test_an_instant_just_over_is_now_and_one_long_over_is_unknown() -> None:
    """What rounding explains is a reset of 0, what it does not is nonsense."""
    assert read_limits(claude("50", "0", "2026-11-25T11:59:59Z"), NOON)[0].reset == 0.0
    assert read_limits(claude("50", "0", "2026-11-25T11:00:00Z"), NOON) == ()


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [
        *(("0", "0", "1s"), ("-1", "0", "1s"), ("600", "-1", "1s"), ("600", "601", "1s")),
        *(("NaN", "1", "1s"), ("600", "", "1s"), ("600", "1", ""), ("600", "1", "-1s")),
        *(("", "1", "1s"), ("600", "1", "25h"), ("600", "1", "1795608000")),
        *(("9" * 13, "1", "1s"), ("600, 600", "1, 1", "1s, 1s"), ("6e2", "1", "1s")),
        *(("600.5", "1", "1s"), ("\u0666", "1", "1s"), ("600", "1", "soon")),
    ],
)
def test_nonsense_is_unknown(limit: str, remaining: str, reset: str) -> None:
    """A limit with a part that cannot be is unknown, and another beside it still counts."""
    good = openai("90000", "89000", "1s", "tokens")
    headers = {**openai(limit, remaining, reset), **good}
    assert read_limits(headers, NOON) == (Reading(1, 90_000, 89_000, 1.0),)


@pytest.mark.parametrize(
    "reset", ["", "soon", "2026-11-25", "2026-13-25T12:00:00Z", "2026-11-25T12:00:61Z", "60"]
)
def test_what_is_no_instant_is_unknown(reset: str) -> None:
    """A reset of Claude's that is no instant leaves its limit out."""
    assert read_limits(claude("50", "0", reset), NOON) == ()


def test_a_missing_part_is_unknown() -> None:
    """A limit that comes without what is left, or without its reset, is left out."""
    for missing in openai("600", "0", "1s"):
        headers = openai("600", "0", "1s")
        del headers[missing]
        assert read_limits(headers, NOON) == ()


@given(st.dictionaries(st.sampled_from(sorted(openai("", "", ""))), st.text(max_size=20)))
def test_any_headers_are_read_without_an_error(headers: dict[str, str]) -> None:
    """Whatever stands in the headers, a reading holds together."""
    for reading in read_limits(headers, NOON):
        assert reading.limit >= 1
        assert 0 <= reading.remaining <= reading.limit
        assert 0 <= reading.reset <= LONGEST


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b"", (0, 0)),
        (b'{"max_tokens": 100}' + b" " * 21, (10, 100)),
        (b'{"max_completion_tokens":7}', (7, 7)),
        (b'{"max_output_tokens" : 9}  ', (7, 9)),
        (b'{"content": "say \\"max_tokens\\": 5"}', (9, 0)),
        (b'{"max_tokens": null}', (5, 0)),
        (b'{"max_tokens": 1.5}.', (5, 0)),
    ],
)
def test_tokens_are_estimated_from_the_body(body: bytes, tokens: tuple[int, int]) -> None:
    """A quarter of the bytes, and what the request allows the answer, but not what it quotes."""
    assert estimate(body) == tokens


def test_a_picture_is_not_counted_by_its_bytes() -> None:
    """A megabyte of base64 counts as some picture, text of that size by its length."""
    assert estimate(
        b'{"image_url": "data:image/png;base64,' + b"iVBORw0KGgo" * 100_000 + b'"}'
    ) == (
        1010,
        0,
    )
    assert estimate(b"words and " * 100_000) == (250_000, 0)
