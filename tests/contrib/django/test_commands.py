"""The commands of ``manage.py``."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.urls import include, path

import termai_http
from termai_http.testing import Server, Status

Browse = Callable[..., Client]


def run(name: str, **options: Any) -> str:
    """Run a command and return what it printed."""
    out = io.StringIO()
    call_command(name, stdout=out, **options)
    return out.getvalue()


class Quiet(WSGIRequestHandler):
    """Serves a request and writes no log."""

    def log_message(self, *args: Any) -> None:
        """Write nothing."""


@pytest.fixture
def live(browse: Browse) -> Iterator[str]:
    """Serve the status page in a thread of this process; its URL."""
    browse(
        path("figures/", include("termai_http.contrib.django.urls")),
        ALLOWED_HOSTS=["shop.example"],
    )
    with make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/figures/"
        server.shutdown()
        thread.join(30)


def value(printed: str, name: str) -> list[str]:
    """Return the cells of a row."""
    found = re.search(rf"^ *{name}  +(.*)$", printed, re.MULTILINE)
    assert found is not None, printed
    return found[1].split("  ")


def test_stats_shows_the_figures_of_its_process(termai_server: Server) -> None:
    """What ran before in the same process is counted, failures and retries by kind."""
    termai_server.script(Status(429, retry_after=0))
    termai_http.chat("hello", model="gpt-5.5")
    termai_server.script(Status(400))
    with pytest.raises(termai_http.BadRequestError):
        termai_http.chat("hello", model="gpt-5.5")
    printed = run("termai_http_stats")
    assert value(printed, "Ended") == ["2"]
    assert value(printed, "Failed") == ["1"]
    assert value(printed, "Reused") == ["66.7%"]
    assert value(printed, "BadRequestError") == ["1"]
    assert value(printed, "429") == ["1"]
    assert value(printed, "Calls of unknown cost") == ["1"]
    assert "Calls without it" not in printed
    (found,) = json.loads(run("termai_http_stats", json=True))
    assert found["calls"]["total"] == 2


def test_stats_compares_both_sides_while_the_pool_is_rolled_out() -> None:
    """Calls with and without the pool have rows of their own, and what they cost stands above."""
    metrics = termai_http.client().metrics
    for seconds, pooled in ((0.1, True), (0.1, True), (0.5, False)):
        record = {"duration": seconds, "success": pooled, "pooled": pooled, "model": "m"}
        metrics.record(termai_http.metrics.CallRecord(cost=0.5, **record))
    printed = run("termai_http_stats")
    assert value(printed, "US dollars, where known") == ["$1.50"]
    ended = [line.split()[-1] for line in printed.splitlines() if line.strip().startswith("Ended")]
    assert ended == ["3", "2", "1"]
    assert "Calls without it" in printed


def test_stats_reads_a_running_site_without_a_login(live: str) -> None:
    """The settings' own key opens the figures; workers are told apart by host and process."""
    printed = run("termai_http_stats", url=live, host="shop.example", looks=3)
    assert len(value(printed, "Process")) == 1
    assert value(printed, "Ended") == ["0"]
    for url in (live.rstrip("/"), f"{live}status.json"):
        assert "Process" in run("termai_http_stats", url=url, host="shop.example", looks=1)


def test_stats_says_what_is_wrong(live: str) -> None:
    """No server, another key, a host that is not allowed, a URL of something else."""
    given = {"url": live, "host": "shop.example", "looks": 1}
    for changed, says in [
        ({"url": "ftp://x/"}, "must be the http or https URL"),
        ({"url": "here"}, "must be the http or https URL"),
        ({"url": "http://127.0.0.1:1/"}, "cannot be reached"),
        ({"host": None}, "ALLOWED_HOSTS"),
        ({"url": f"{live}no/such/"}, "404 Not Found, and no figures"),
        ({"looks": 0}, "--looks must be at least 1"),
    ]:
        with pytest.raises(CommandError, match=says):
            run("termai_http_stats", **{**given, **changed})


def test_stats_of_a_site_with_another_key(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that does not know the site's key sees nothing."""
    from termai_http.contrib.django.management.commands import termai_http_stats

    with override_settings(SECRET_KEY="another"):
        token = termai_http_stats.make_token()
    monkeypatch.setattr(termai_http_stats, "make_token", lambda: token)
    with pytest.raises(CommandError, match="SECRET_KEY"):
        run("termai_http_stats", url=live, host="shop.example", looks=1)


def test_doctor_examines_with_the_settings_of_the_site(termai_server: Server) -> None:
    """Each vendor is reached as the settings say, nothing is asked of a model, no key shown."""
    with override_settings(TERMAI_HTTP={"USER_AGENT": "shop/7", "REQUEST_TIMEOUT": 20}):
        printed = run("termai_http_doctor")
        found = json.loads(run("termai_http_doctor", json=True, provider="claude"))
    assert "django\n  ok    settings: TERMAI_HTTP can be used" in printed
    assert f"openai {termai_server.openai_url}" in printed
    assert {request.method for request in termai_server.requests} == {"GET"}
    assert {request.headers["user-agent"] for request in termai_server.requests} == {"shop/7"}
    assert "sk-loopback" not in printed
    assert {one["part"].partition(" ")[0] for one in found} == {
        *("django", "versions", "settings", "claude"),
    }
    assert {one["state"] for one in found} <= {"ok", "skip"}


def test_doctor_fails_where_a_call_would() -> None:
    """A port where nobody listens, and a wrong setting: all is told, and the exit says so."""
    out = io.StringIO()
    with (
        override_settings(TERMAI_HTTP={"TIMOUT": 5}),
        pytest.raises(CommandError, match=r"\d of \d+ checks failed"),
    ):
        call_command("termai_http_doctor", base_url="http://127.0.0.1:1", stdout=out)
    printed = out.getvalue()
    assert "fail  E001: TERMAI_HTTP has no entry 'TIMOUT'" in printed
    assert "        Did you mean 'TIMEOUT'?" in printed
    assert "fail  TCP: no connection to 127.0.0.1:1" in printed
    with pytest.raises(CommandError, match="timeout must be a number of seconds above 0"):
        run("termai_http_doctor", timeout=0.0)
