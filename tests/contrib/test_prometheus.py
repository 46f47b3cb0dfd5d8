"""``contrib.prometheus``: what events become, as the official parsers read a scrape."""

from __future__ import annotations

import copy
import os
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from termai_http import Client, ConfigurationError, HttpClientConfig, _events, _fork
from termai_http._call import Clock
from termai_http.contrib import _prometheus_counting, _prometheus_instruments
from termai_http.contrib._prometheus_table import TABLE
from termai_http.contrib.prometheus import Prometheus, child_exit, scrape
from termai_http.events import Listeners
from tests.docs_tables import cells
from tests.faults.rows_process import Child

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
WHO: dict[str, Any] = {"call_id": 7, "provider": "openai", "model": "gpt-5.5"}
LABELS = {"provider": "openai", "model": "gpt-5.5"}
HOST: dict[str, Any] = {"host": "api.openai.com", "port": 443}


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture(autouse=True)
def nobody_hears_all() -> Iterator[None]:
    """Let no listener of every client outlive its test."""
    yield
    Listeners._of_all = ()


def done(**fields: Any) -> _events.CallSucceeded:
    """Return the event of a call that went well."""
    told: dict[str, Any] = {"status_code": 200, "request_id": "req_1", "attempts": 1}
    return _events.CallSucceeded(**{**WHO, **told, "elapsed": 1.5, **fields})


def failed(**fields: Any) -> _events.CallFailed:
    """Return the event of a call that did not."""
    told: dict[str, Any] = {"status_code": 429, "request_id": None, "attempts": 3}
    return _events.CallFailed(
        **{**WHO, "error": "RateLimitError", **told, "elapsed": 70.0, **fields}
    )


def figures(registry: CollectorRegistry, accept: str = "") -> dict[tuple[Any, ...], float]:
    """Return every sample of ours, by name and labels, as the parser of its format reads it."""
    body, content_type = scrape(accept, registry)
    openmetrics = content_type.startswith("application/openmetrics-text")
    assert openmetrics == bool(accept)
    read = read_openmetrics if openmetrics else read_text
    return {
        (sample.name.removeprefix("termai_http_"), *sorted(sample.labels.items())): sample.value
        for family in read(body.decode())
        for sample in family.samples
        if sample.name.startswith("termai_http_") and not sample.name.endswith("_created")
    }


def key(name: str, **labels: str) -> tuple[Any, ...]:
    """Return the key of a sample in ``figures``."""
    return (name, *sorted(labels.items()))


def a_whole_call(hear: Prometheus) -> None:
    """Tell of a call with a retry, as the core does."""
    closed = _events.ConnectionClosed(**WHO, **HOST, reason="discarded")
    for event in (
        _events.CallStarted(**WHO),
        _events.AttemptStarted(**WHO, attempt=1),
        _events.SlotWaited(**WHO, seconds=0.02, got=True),
        _events.ConnectionOpened(**WHO, **HOST, seconds=0.03),
        closed,
        _events.AttemptFailed(**WHO, attempt=1, cause="503", status_code=503, request_id="req_0"),
        _events.RetryScheduled(
            **WHO, attempt=1, cause="503", wait=1.0, status_code=503, request_id="req_0"
        ),
        _events.AttemptStarted(**WHO, attempt=2),
        _events.ConnectionReused(**WHO, **HOST),
        _events.AttemptSucceeded(**WHO, attempt=2, status_code=200, reused=True),
        _events.FirstToken(**WHO, elapsed=1.25),
    ):
        hear(event)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_call_is_counted_in_all_its_parts(registry: CollectorRegistry, accept: str) -> None:
    """Calls, attempts, retries, tokens, cost, times, connections: read by the official parsers."""
    hear = Prometheus(registry=registry)
    a_whole_call(hear)
    running = figures(registry, accept)
    assert running[key("requests_in_flight", **LABELS)] == 1
    assert running[key("pool_in_use", host="api.openai.com")] == 1
    hear(done(input_tokens=30, output_tokens=12, cached_tokens=8, reasoning_tokens=5, cost=0.25))
    found = figures(registry, accept)
    for expected, name, labels in (
        (1, "requests_total", {**LABELS, "outcome": "success"}),
        (1.5, "request_duration_seconds_sum", {**LABELS, "outcome": "success"}),
        (0, "request_duration_seconds_bucket", {**LABELS, "outcome": "success", "le": "1.0"}),
        (1, "request_duration_seconds_bucket", {**LABELS, "outcome": "success", "le": "2.5"}),
        (0, "requests_in_flight", LABELS),
        (1.25, "time_to_first_token_seconds_sum", LABELS),
        (1, "attempts_total", {**LABELS, "outcome": "503"}),
        (1, "attempts_total", {**LABELS, "outcome": "success"}),
        (1, "retries_total", {**LABELS, "cause": "503"}),
        (30, "tokens_total", {**LABELS, "direction": "input"}),
        (12, "tokens_total", {**LABELS, "direction": "output"}),
        (8, "cached_tokens_total", LABELS),
        (5, "reasoning_tokens_total", LABELS),
        (0.25, "cost_dollars_total", LABELS),
        (0, "pool_in_use", {"host": "api.openai.com"}),
        (0.02, "pool_wait_seconds_sum", {"outcome": "got"}),
        (1, "connections_opened_total", {"host": "api.openai.com"}),
        (1, "connections_reused_total", {"host": "api.openai.com"}),
        (1, "connections_closed_total", {"host": "api.openai.com", "reason": "discarded"}),
        (0.03, "connect_duration_seconds_sum", {"host": "api.openai.com"}),
    ):
        assert found[key(name, **labels)] == expected, name


def test_a_failure_is_counted_by_its_class(registry: CollectorRegistry) -> None:
    """So is what was billed all the same; and a stream that was left is neither."""
    hear = Prometheus(registry=registry)
    hear(failed(output_tokens=4))
    found = figures(registry)
    assert found[key("requests_total", **LABELS, outcome="RateLimitError")] == 1
    assert found[key("tokens_total", **LABELS, direction="output")] == 4
    assert key("cost_dollars_total", **LABELS) not in found


def test_what_layers_do_is_counted(registry: CollectorRegistry) -> None:
    """Cache, pacing and circuits; a circuit has one state at a time, and shows no path."""
    hear = Prometheus(registry=registry)
    hear(_events.CacheMissed(**WHO))
    hear(_events.CacheAnswered(**WHO, shared=False))
    hear(_events.CacheAnswered(**WHO, shared=True))
    hear(_events.PacingWaited(**WHO, seconds=3.0, why="retry-after"))
    hear(_events.SlotWaited(**WHO, seconds=9.0, got=False))
    one, two = "https://llm.example:8443/secret/v1", "https://llm.example:8443/other/v1"
    for url, state in ((one, "open"), (two, "open"), (one, "half-open"), (one, "closed")):
        hear(_events.CircuitChanged(**WHO, base_url=url, state=state))
    found = figures(registry)
    assert found[key("cache_misses_total", **LABELS)] == 1
    assert found[key("cache_hits_total", **LABELS, source="store")] == 1
    assert found[key("cache_hits_total", **LABELS, source="call")] == 1
    assert found[key("pacing_wait_seconds_sum", why="retry-after")] == 3
    assert found[key("pool_wait_seconds_sum", outcome="gave_up")] == 9
    states = {name[2][1]: value for name, value in found.items() if name[0] == "circuit_state"}
    assert states == {"open": 1, "half-open": 0, "closed": 1}
    assert "secret" not in scrape(registry=registry)[0].decode()


def test_every_event_is_counted_or_left_out_on_purpose() -> None:
    """A new event cannot be forgotten; every instrument of the table is in use."""
    events = {name for name in _events.__all__ if name not in ("Event", "Listener")}
    assert set(_prometheus_counting.Counting._adders) == events


def test_the_instruments_are_those_on_the_page(registry: CollectorRegistry) -> None:
    """Each stands there once, with its labels; none has a user, a prompt, a path or a key."""
    rows = [row for row in cells("prometheus.rst", 3) if row[0].startswith("``")]
    told = {row[0].strip("`"): tuple(re.findall(r"``(\w+)``", row[1])) for row in rows}
    assert len(told) == len(rows)
    made = {}
    for name, metric in Prometheus(registry=registry)._instruments._made.items():
        suffix = "_total" if TABLE[name].kind == "counter" else ""
        made[f"{metric._name}{suffix}"] = metric._labelnames
    assert told == made
    assert {label for labels in told.values() for label in labels} == {
        *("provider", "model", "outcome", "cause", "direction"),
        *("host", "reason", "state", "source", "why"),
    }


def test_labels_are_bounded_and_printable(registry: CollectorRegistry) -> None:
    """The first models have names, cut and made printable; those after them are one."""
    hear = Prometheus(registry=registry)
    for number in range(150):
        hear(done(model=f"model-{number}"))
    hear(done(model=None, provider=None))
    hear(done(model="model-3"))
    models = [dict(name[1:])["model"] for name in figures(registry) if name[0] == "requests_total"]
    assert set(models) == {*(f"model-{number}" for number in range(100)), "other", "none"}
    other = Prometheus(registry=CollectorRegistry())
    other(done(model='\x1b[2J"\n' + "x" * 500, provider=None))
    found = _label_of(other)
    assert (found["provider"], found["model"][:5], len(found["model"])) == ("none", '?[2J"', 100)


def _label_of(hear: Prometheus) -> dict[str, str]:
    (name,) = [one for one in figures(hear.registry) if one[0] == "requests_total"]
    return dict(name[1:])


def test_one_event_counts_once_however_many_hear_it(registry: CollectorRegistry) -> None:
    """Two of one registry share their instruments; an equal event is still another event."""
    one, two = Prometheus(registry=registry), Prometheus(registry=registry)
    layer = two.build(HttpClientConfig(), Clock())
    first = done()
    for event in (first, attrs.evolve(first)):
        for hear in (one, two, layer.hear):
            hear(event)
    assert figures(registry)[key("requests_total", **LABELS, outcome="success")] == 2
    assert (one == two, hash(one) == hash(two)) == (True, True)
    assert one != Prometheus(registry=registry, namespace="other")


def test_it_is_a_layer_a_listener_and_a_value() -> None:
    """It can stand in a configuration, and what is pickled there is made anew by its reader."""
    hear = Prometheus(namespace="pickled")
    again = pickle.loads(pickle.dumps(hear))
    assert (again, copy.copy(hear)) == (hear, hear)
    assert again._instruments is hear._instruments
    assert repr(hear) == "Prometheus(registry=None, namespace='pickled')"
    for metric in hear._instruments._made.values():
        REGISTRY.unregister(metric)


def test_hear_all_counts_the_calls_of_every_client(registry: CollectorRegistry) -> None:
    """Of clients made before and after; asking twice adds no second ear."""
    with Client() as before:
        Prometheus(registry=registry).hear_all()
        Prometheus(registry=registry).hear_all()
        with Client() as after:
            for number, client in enumerate((before, after)):
                assert len(client._core.listeners.everybody) == 1, number


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"registry": 3}, "registry must be a CollectorRegistry"),
        ({"namespace": "a b"}, "namespace must be letters"),
        ({"namespace": None}, "namespace must be letters"),
    ],
)
def test_a_wrong_argument_is_refused(wrong: dict[str, Any], said: str) -> None:
    """What cannot be is told when it is made."""
    with pytest.raises(ConfigurationError, match=said):
        Prometheus(**wrong)


def test_a_name_that_is_taken_is_told(registry: CollectorRegistry) -> None:
    """A metric of somebody else's is left alone, nothing of ours stays, another name helps."""
    Counter("termai_http_tokens", "Theirs.", registry=registry)
    with pytest.raises(ConfigurationError, match="a metric termai_http_tokens of somebody"):
        Prometheus(registry=registry)
    assert len(registry._collector_to_names) == 1
    Prometheus(registry=registry, namespace="ours")
    assert len(registry._collector_to_names) == 1 + len(TABLE)


def test_a_missing_extra_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without prometheus_client the error says what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for use in (Prometheus, scrape):
        with pytest.raises(ConfigurationError, match=r'pip install "termai-http\[prometheus\]"'):
            use()


def test_a_folder_of_many_processes_must_be_there(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """So must it be known before the library is loaded; both are told when it is made."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="names no folder"):
        Prometheus(registry=registry)
    with pytest.raises(ConfigurationError, match="names no folder"):
        scrape()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="after prometheus_client was imported"):
        Prometheus(registry=registry)


def test_a_worker_that_is_gone_uses_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Gunicorn's hook takes its gauges away and leaves what it counted; alone it does nothing."""
    worker = type("Worker", (), {"pid": 41})
    names = ("gauge_livesum_41.db", "gauge_livesum_42.db", "counter_41.db")
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    child_exit(None, worker)
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    child_exit(None, worker)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


def test_many_threads_count_right(registry: CollectorRegistry) -> None:
    """Under 32 threads that are switched all the time no event is lost or counted twice."""
    rounds, width = 25, 32
    listeners = [Prometheus(registry=registry) for _ in range(2)]
    begin = threading.Barrier(width)

    def work(number: int) -> None:
        begin.wait()
        for turn in range(rounds):
            who = {**WHO, "call_id": number * rounds + turn}
            for event in (
                _events.CallStarted(**who),
                _events.ConnectionReused(**who, **HOST),
                done(**who, output_tokens=2),
            ):
                for hear in listeners:
                    hear(event)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    found = figures(registry)
    assert found[key("requests_total", **LABELS, outcome="success")] == rounds * width
    assert found[key("tokens_total", **LABELS, direction="output")] == 2 * rounds * width
    assert found[key("connections_reused_total", host="api.openai.com")] == rounds * width
    assert found[key("requests_in_flight", **LABELS)] == 0
    assert found[key("pool_in_use", host="api.openai.com")] == 0


def test_what_comes_while_something_is_counted_waits(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler of a signal may make a call in the midst of it: nothing hangs, nothing is lost."""
    hear = Prometheus(registry=registry)
    counting = hear._instruments._counting
    count = counting.count
    nested = [done()]

    def interrupted(event: Any) -> None:
        while nested:
            hear(nested.pop())
        count(event)

    monkeypatch.setattr(counting, "count", interrupted)
    hear(done())
    assert figures(registry)[key("requests_total", **LABELS, outcome="success")] == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_begins_at_zero(registry: CollectorRegistry) -> None:
    """With locks of its own, whoever held the parent's; the parent's figures stay."""
    hear = Prometheus(registry=registry)
    a_whole_call(hear)
    for metric in hear._instruments._made.values():
        metric._lock.acquire()

    def count() -> list[float]:
        hear(done(call_id=8))
        found = figures(registry)
        return [found[key("requests_total", **LABELS, outcome="success")], len(found)]

    child = Child(count)
    for metric in hear._instruments._made.values():
        metric._lock.release()
    fresh = CollectorRegistry()
    Prometheus(registry=fresh)(done())
    assert child.result() == [1, len(figures(fresh))]
    assert figures(registry)[key("requests_in_flight", **LABELS)] == 1


def test_a_fork_waits_until_nothing_is_half_counted(registry: CollectorRegistry) -> None:
    """Its lock is among those that a fork takes."""
    hear = Prometheus(registry=registry)
    assert hear._instruments in _fork._all
    assert _prometheus_instruments._shared in _fork._all
    assert hear._instruments.locks() == [hear._instruments._lock]


def test_a_registry_that_is_gone_leaves_nothing(registry: CollectorRegistry) -> None:
    """Its instruments are held by it alone."""
    hear = Prometheus(registry=registry)
    assert registry in _prometheus_instruments._shared.of
    del hear
    before = len(_prometheus_instruments._shared.of)
    other = CollectorRegistry()
    Prometheus(registry=other)
    del other
    assert len(_prometheus_instruments._shared.of) == before
