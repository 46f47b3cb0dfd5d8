"""The time of a socket's next step: never too short, and exact where it is short."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http._socket import bind_time

SLACK = 0.05
SHORT = 5.0


class Timed:
    """What a socket is here: a time that can be set, and how often it was."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.set = 0

    def gettimeout(self) -> float | None:
        """Return what was set."""
        return self.seconds

    def settimeout(self, seconds: float) -> None:
        """Set it."""
        self.seconds = seconds
        self.set += 1


SECONDS = st.one_of(
    st.floats(1e-9, 1000.0),
    st.floats(4.9, 5.1),
    st.sampled_from([4.999999, 5.0, 5.000001, 0.3, 120.0, 1e8]),
)


@given(st.lists(SECONDS, min_size=1, max_size=20))
def test_a_step_never_has_too_little_time_and_hardly_more(steps: list[float]) -> None:
    """Whatever was set before: at most 50 ms more, and not even that where it is short."""
    sock = Timed()
    for seconds in steps:
        bind_time(sock, seconds)
        assert sock.seconds is not None
        assert seconds <= sock.seconds <= seconds + SLACK
        if seconds < SHORT:
            assert sock.seconds == seconds


@pytest.mark.parametrize(("first", "then"), [(120.0, 0.3), (0.3, 120.0), (120.0, 4.99)])
def test_another_time_is_set(first: float, then: float) -> None:
    """Also on a connection that has been in use: a long time is not kept for a short step."""
    sock = Timed()
    bind_time(sock, first)
    bind_time(sock, then)
    assert sock.seconds is not None
    assert then <= sock.seconds <= then + SLACK


def test_nearly_the_same_time_is_not_set_again() -> None:
    """A call's steps, and the next call's, have nearly the same; setting it costs."""
    sock = Timed()
    for _ in range(10):
        for used in (0.0, 0.001, 0.01, 0.024):
            bind_time(sock, 120.0 - used)
    assert sock.set == 1
    bind_time(sock, 0.3)
    bind_time(sock, 0.3)
    assert sock.set == 2


def test_a_real_socket_has_the_time() -> None:
    """Fresh from the system, which lets it wait for ever, and after it was told not to wait."""
    with socket.socket() as sock:
        for before in (None, 0.0, 1.0):
            for seconds in (0.3, 7.0, 120.0):
                sock.settimeout(before)
                bind_time(sock, seconds)
                found = sock.gettimeout()
                assert found is not None
                assert seconds - 1e-6 <= found <= seconds + SLACK
