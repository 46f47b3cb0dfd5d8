"""Whatever a server writes into the headers that speak of retries, it is a wish or nothing."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from termai_http import RetryConfig
from termai_http._call import Call, Clock
from termai_http._retry import Gate, Kind, ServerWish, retry_after, server_wish

NOW = 1_790_000_000.0

DAYS = st.sampled_from(["Mon", "Tue,", "Wednesday,", "", "Foo,", ","])
MONTHS = st.sampled_from(["Jan", "feb", "December", "13", "Foo", ""])
NUMBERS = st.integers(min_value=-(10**20), max_value=10**20).map(str)
SMALL = st.integers(min_value=0, max_value=99).map(str)
YEARS = st.one_of(SMALL, st.integers(min_value=0, max_value=20_000).map(str), NUMBERS)
TIMES = st.tuples(SMALL, SMALL, SMALL).map(":".join)
ZONES = st.one_of(st.sampled_from(["GMT", "", "EST", "-0000", "+9999", "-9959", "Z"]), NUMBERS)
DATES = st.tuples(DAYS, st.one_of(SMALL, NUMBERS), MONTHS, YEARS, TIMES, ZONES).map(" ".join)
SHORT_DATES = st.tuples(DAYS, SMALL, MONTHS, SMALL).map(lambda parts: "{} {}-{}-{}".format(*parts))
VALUES = st.one_of(
    st.text(),
    st.text(alphabet="0123456789.,-+eE_ xinfa\u0663\xb2\t"),
    st.text(alphabet="0123456789:, -+JanGMTFri"),
    st.floats().map(str),
    st.integers().map(str),
    st.integers(min_value=300, max_value=5000).map(lambda size: "9" * size),
    DATES,
    SHORT_DATES,
)


def is_a_wait(value: float | None) -> bool:
    """Tell whether a value is none, or seconds that a clock can count."""
    return value is None or (math.isfinite(value) and value >= 0)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional={"Retry-After": VALUES, "retry-after-ms": VALUES, "x-should-retry": VALUES}
    ),
    st.floats(min_value=-1e11, max_value=1e12),
)
@example({"Retry-After": "9" * 309, "retry-after-ms": "9" * 308}, NOW)
@example({"Retry-After": "Fri, 31 Dec 9999 23:59:59 -9959"}, NOW)
@example({"Retry-After": "Mon, 01 Jan 0001 00:00:00 +2359"}, NOW)
def test_no_wish_is_too_odd(headers: dict[str, str], now: float) -> None:
    """Nothing raises; what is read is a finite wait of at least 0, a flag, or nothing."""
    wish = server_wish(headers, now)
    assert is_a_wait(wish.wait)
    assert wish.should_retry in (True, False, None)


@settings(deadline=None)
@given(VALUES)
def test_a_wait_is_kept_or_refused(text: str) -> None:
    """A gate that hears a wish answers with a wait that is no shorter and ends in time, or none."""
    call = Call(60.0, Clock(monotonic=lambda: 0.0, wall=lambda: NOW))
    call.attempts = 1
    wait = retry_after(text, NOW)
    verdict = Gate(call, RetryConfig()).admit(Kind.REFUSED, ServerWish(wait=wait))
    if verdict.wait is None:
        assert wait is not None
        assert wait * 1.1 + 0.05 >= 60.0
    else:
        assert (wait or 0.0) <= verdict.wait < 60.0


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=10**15))
def test_seconds_are_read(seconds: int) -> None:
    """Every whole number, with space around it and as a float, is itself."""
    for text in (f"{seconds}", f" {seconds}\t", f"{seconds}.0", f"{seconds}.", f"00{seconds}"):
        assert retry_after(text, NOW) == seconds


@settings(deadline=None)
@given(st.integers(min_value=-(10**9), max_value=10**10))
def test_dates_are_read(ahead: int) -> None:
    """A date of the standard's form is what is left until it, and 0 once it passed."""
    assert retry_after(formatdate(NOW + ahead, usegmt=True), NOW) == max(ahead, 0)


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 04 Dec 2026 08:49:37 GMT",
        "Friday, 04-Dec-26 08:49:37 GMT",
        "Fri Dec  4 08:49:37 2026",
        "Fri, 04 Dec 2026 08:49:37 -0000",
        "Fri, 04 Dec 2026 09:49:37 +0100",
    ],
)
def test_every_form_of_a_date_is_read(text: str) -> None:
    """The three forms of RFC 9110, 5.6.7, and a zone beside GMT, name the same second."""
    assert retry_after(text, 1_796_374_177.0 - 5) == 5


@pytest.mark.parametrize(
    "text",
    [
        "Fri, 99 Dec 2099 23:59:59 GMT",
        "Fri, 30 Feb 2099 00:00:00 GMT",
        "Fri, 31 Dec 2099 99:99:99 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
        "Fri, 31",
        "tomorrow",
    ],
)
def test_what_is_no_date_is_nothing(text: str) -> None:
    """A day, an hour or a year that does not exist is no date."""
    assert retry_after(text, NOW) is None
