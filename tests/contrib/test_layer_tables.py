"""What people see of layers: rows in the table of figures and in a notebook."""

from __future__ import annotations

import attrs
import pytest

import termai_http
from termai_http import Client, HttpClientConfig, RetryConfig
from termai_http.contrib.breaker import BreakerStats, CircuitBreaker, CircuitStats
from termai_http.contrib.cache import Cache, CacheStats
from termai_http.contrib.pacing import PacedKey, Pacing, PacingStats
from termai_http.metrics import ClientStats, format_stats
from termai_http.testing import Server, Status


def test_the_figures_of_a_client_show_its_layers(server: Server) -> None:
    """A line each, with what somebody looks for when calls do not come through."""
    layers = (Cache(store="memory"), CircuitBreaker(failures=1), Pacing())
    config = HttpClientConfig(trust_env=False, layers=layers, retry=RetryConfig(max_attempts=1))
    options = {"model": "m", "base_url": server.url, "api_key": "k"}
    with Client(config) as client:
        for _ in range(2):
            client.chat("hi", **options)
        server.script(Status(503))
        for _ in range(2):
            with pytest.raises(termai_http.TermaiHttpError):
                client.chat("other", **options)
        shown, page = format_stats(client.stats()), client.stats()._repr_html_()
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    assert "cache 1 answered 3 missed, 1 stored" in lines
    assert "pacing: m 0 waiting 2 started, 0 refused" in lines
    (circuit,) = (line for line in lines if line.startswith("circuit: 127.0.0.1:"))
    assert "open opened 1 times, refused 1, after InternalServerError 503" in circuit
    assert "1 answered" in page
    assert "circuit: 127.0.0.1:" in page


def test_what_a_layer_says_is_shown_as_text() -> None:
    """One without rows shows none, and nothing of one is markup."""

    @attrs.frozen
    class Odd:
        def rows(self) -> list[tuple[str, str, str]]:
            """Return markup."""
            return [("<b>odd</b>", "1", "<script>")]

    stats = ClientStats(layers={"odd": Odd(), "plain": {"calls": 1}})
    assert "<b>odd</b>" in format_stats(stats)
    assert "plain" not in format_stats(stats)
    assert "<script>" not in stats._repr_html_()
    assert "&lt;script&gt;" in stats._repr_html_()


def test_rows_tell_what_is_out_of_the_ordinary() -> None:
    """Errors of a store, circuits that were open, attempts that were held back."""
    assert CacheStats(hits=1, shared=2, errors=3).rows() == [
        ("cache", "3 answered", "0 missed, 0 stored, 3 errors of its store")
    ]
    figures = {"failures": 0, "retry_in": 0.0, "last_failure": "ReadTimeout"}
    closed = CircuitStats(base_url="https://a/v1", state="closed", opened=0, refused=0, **figures)
    again = CircuitStats(base_url="https://b/v1", state="closed", opened=2, refused=5, **figures)
    assert BreakerStats(circuits=(closed, again)).rows() == [
        ("circuits", "1 closed", "never opened"),
        ("circuit: b", "closed", "opened 2 times, refused 5"),
    ]
    assert BreakerStats().rows() == []
    key = PacedKey(
        host="a",
        account="x",
        model=None,
        waiting=2,
        started=1500,
        refused=3,
        held=7,
        held_seconds=12.34,
        paused_for=1.25,
        rate=None,
        limits=(),
    )
    assert PacingStats(keys=(key,)).rows() == [
        (
            "pacing: a",
            "2 waiting",
            "1,500 started, 3 refused, 7 held back for 12.3 s, paused for 1.2 s more",
        )
    ]
    many = tuple(attrs.evolve(key, started=number) for number in range(30))
    assert len(PacingStats(keys=many).rows()) == 10
