"""Two workers of a real gunicorn, whose figures are one page."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)

from termai_http.testing import RecordedRequest, Server, Status
from tests.gunicorn_process import gunicorn_process

PATIENCE = 30.0
APP = """
import os
import termai_http
from termai_http.contrib.prometheus import Prometheus, scrape

Prometheus().hear_all()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        body, kind = scrape(environ.get("HTTP_ACCEPT", ""))
    else:
        termai_http.chat("hi", model="gpt-5.5", retry=termai_http.RetryConfig(base_delay=0.01))
        body, kind = str(os.getpid()).encode(), "text/plain"
    start_response("200 OK", [("Content-Type", kind)])
    return [body]
"""
# With preload_app the instruments are made before the fork.
CONFIGURATION = """
from termai_http.contrib.prometheus import child_exit

bind = "127.0.0.1:0"
workers = 2
worker_class = "sync"
preload_app = True
control_socket_disable = True
"""
ACCEPT = {"Accept": "application/openmetrics-text; version=1.0.0", "Connection": "close"}


def get(port: int, path: str) -> str:
    """Return what the site answers."""
    asked = Request(f"http://127.0.0.1:{port}{path}", headers=ACCEPT)
    with urlopen(asked, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def figures(port: int) -> dict[str, float]:
    """Return samples by name and the label that tells them apart, as the parser reads a scrape."""
    found = {}
    for family in read_openmetrics(get(port, "/metrics")):
        for sample in family.samples:
            told = [sample.labels[one] for one in ("outcome", "cause") if one in sample.labels]
            found[" ".join([sample.name, *told])] = sample.value
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a Unix")
def test_the_sums_of_two_workers_are_right(server: Server, tmp_path: Path) -> None:
    """Whichever worker answers a scrape, it shows the calls of both; what is gone uses nothing."""
    meeting = threading.Barrier(2)
    numbers = itertools.count(1)

    def meet(request: RecordedRequest) -> Status | None:
        number = next(numbers)
        # The first two wait for each other: one worker has room for one request only.
        if number <= 2:
            meeting.wait(PATIENCE)
        return Status(503, retry_after=0.01) if number == 5 else None

    server.fail_when(meet)
    (tmp_path / "site_app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(CONFIGURATION)
    folder = tmp_path / "metrics"
    folder.mkdir()
    environ = {
        **{name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")},
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "sk-loopback",
    }
    arguments = ("-c", str(tmp_path / "gunicorn.conf.py"), "site_app:app")
    with gunicorn_process(*arguments, folder=tmp_path, environ=environ) as (port, _):
        with ThreadPoolExecutor(2) as pool:
            workers = set(pool.map(lambda _: get(port, "/"), range(2)))
        for _ in range(6):
            workers.add(get(port, "/"))
        shown = [figures(port) for _ in range(4)]
        gauges = {path.name for path in folder.glob("gauge_livesum_*.db")}
    assert len(workers) == 2
    assert gauges == {f"gauge_livesum_{worker}.db" for worker in workers}
    assert all(one == shown[0] for one in shown)
    found = shown[0]
    assert found["termai_http_requests_total success"] == 8
    assert found["termai_http_request_duration_seconds_count success"] == 8
    assert found["termai_http_attempts_total success"] == 8
    assert found["termai_http_retries_total 503"] == 1
    assert found["termai_http_requests_in_flight"] == 0
    assert list(folder.glob("gauge_livesum_*.db")) == []
    assert len(list(folder.glob("counter_*.db"))) == 2
