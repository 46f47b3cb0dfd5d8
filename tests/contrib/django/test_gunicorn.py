"""The example project under a real gunicorn, with each kind of worker."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from termai_http.testing import RecordedRequest, Server

from .gunicorn_site import PATIENCE, EndlessModel, Site, gunicorn

KINDS: dict[str, dict[str, Any]] = {
    "sync": {"worker_class": "sync", "workers": 2, "threads": 1, "preload": False},
    "gthread": {"worker_class": "gthread", "workers": 2, "threads": 4, "preload": False},
    "preload": {"worker_class": "gthread", "workers": 2, "threads": 4, "preload": True},
    "gevent": {"worker_class": "gevent", "workers": 2, "threads": 4, "preload": False},
}


class Bench:
    """A site, and what stands behind it."""

    def __init__(self, kind: str, site: Site, server: Server, model: EndlessModel) -> None:
        self.kind = kind
        self.site = site
        self.server = server
        self.model = model
        # How many requests it must have in hand at once before both workers have one.
        self.width = 2 if kind == "sync" else 6

    def connections_of(self, prompt: str) -> set[int]:
        """Return the connections to the vendor that carried a prompt."""
        return {one.connection for one in self.server.requests if one.prompt == prompt}


@pytest.fixture(scope="module", params=KINDS)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """Each kind of worker in turn, started once."""
    kind: str = request.param
    with Server() as server, contextlib.closing(EndlessModel()) as model:
        environ = {
            "OPENAI_BASE_URL": server.openai_url,
            "OPENAI_API_KEY": "sk-loopback",
            "ANTHROPIC_BASE_URL": model.url,
            "ANTHROPIC_API_KEY": "sk-ant-loopback",
        }
        with gunicorn(tmp_path_factory.mktemp(kind), environ, **KINDS[kind]) as site:
            yield Bench(kind, site, server, model)


def test_every_answer_is_to_its_own_prompt(bench: Bench) -> None:
    """Many at once: own answers, connections reused in each worker and shared by none."""
    meeting = threading.Barrier(bench.width)
    mine = f"{bench.kind} prompt"

    def meet(request: RecordedRequest) -> None:
        # The first ones wait for each other: no worker has room for all of them.
        if request.prompt.endswith(tuple(f" {number:02}" for number in range(bench.width))):
            meeting.wait(PATIENCE)

    prompts = [f"{mine} {number:02}" for number in range(48)]
    bench.server.fail_when(meet)
    with ThreadPoolExecutor(bench.width) as pool:
        replies = list(pool.map(lambda prompt: bench.site.ask("/chat", prompt), prompts))
    assert [reply["text"] for reply in replies] == [f"You said: {prompt}" for prompt in prompts]
    used: dict[int, set[int]] = {}
    for prompt, reply in zip(prompts, replies, strict=True):
        used.setdefault(reply["worker"], set()).update(bench.connections_of(prompt))
    assert len([one for one in bench.server.requests if one.prompt in prompts]) == len(prompts)
    if bench.kind != "gevent":  # one worker may take them all
        assert len(used) == 2
    for worker, connections in used.items():
        assert len(connections) <= bench.width
        for other, theirs in used.items():
            assert other == worker or not connections & theirs
        assert not connections & bench.connections_of("preload")
    assert (bench.kind == "preload") == bool(bench.connections_of("preload"))


def test_streams_are_their_own_too(bench: Bench) -> None:
    """Many streams at once, each with the text of its own prompt and a good end."""

    def read(prompt: str) -> tuple[str, str]:
        with bench.site.post("/stream", prompt=prompt) as answer:
            body = answer.read().decode()
        *pieces, last = [block for block in body.split("\n\n") if "data: " in block]
        texts = [json.loads(piece.partition("data: ")[2])["text"] for piece in pieces]
        return "".join(texts), last.partition("\n")[0]

    prompts = [f"{bench.kind} story number {number}" for number in range(16)]
    with ThreadPoolExecutor(bench.width) as pool:
        read_ones = list(pool.map(read, prompts))
    assert read_ones == [(f"You said: {prompt}", "event: done") for prompt in prompts]


@pytest.mark.parametrize("prompt", ["talk", "think"])
def test_a_browser_that_hangs_up_ends_the_models_work(bench: Bench, prompt: str) -> None:
    """Its connection to the vendor is closed, while the model talks and while it is silent.

    More hang up than a worker has slots for streams, and then another one is answered.
    """
    for _ in range(9):
        answer = bench.site.post("/stream", prompt=prompt, model="claude-opus-5-5")
        assert answer.status == 200
        assert answer.readline() == b"retry: 86400000\n"
        assert answer.readline() == b'data: {"text": "word "}\n'
        answer.close()
        assert bench.model.gone.acquire(timeout=PATIENCE)
    assert bench.site.ask("/chat", "still there")["text"] == "You said: still there"


def test_a_request_says_how_long_it_waits(bench: Bench) -> None:
    """A header ends a stream that its client no longer waits for, with an event that says so."""
    connection = bench.site.connect()
    with contextlib.closing(connection):
        headers = {"X-Request-Timeout": "1", "Connection": "close"}
        body = json.dumps({"prompt": "think", "model": "claude-opus-5-5"})
        connection.request("POST", "/stream", body, headers)
        *_, name, value, _, _ = connection.getresponse().read().decode().split("\n")
    assert name == "event: error"
    assert json.loads(value.removeprefix("data: "))["type"] == "StreamInterrupted"
    assert bench.model.gone.acquire(timeout=PATIENCE)


def test_bad_input_is_the_clients_fault(bench: Bench) -> None:
    """What is no prompt gets a 400, and nothing is sent to the vendor."""
    before = len(bench.server.requests)
    for asked in ({"prompt": ""}, {}, {"prompt": 3}, {"prompt": "x", "model": "gpt-other"}):
        with bench.site.post("/chat", **asked) as answer:
            assert (answer.status, "error" in json.loads(answer.read())) == (400, True)
    assert len(bench.server.requests) == before


def test_the_command_reads_the_figures_of_the_workers(bench: Bench) -> None:
    """Each worker that answers has a client of its own, which opened no more than it needed."""
    workers = {bench.site.ask("/chat", "who answers")["worker"] for _ in range(8)}
    url = f"http://127.0.0.1:{bench.site.port}/termai-http/"
    out = io.StringIO()
    with override_settings(SECRET_KEY="for-this-example-only"):
        call_command("termai_http_stats", url=url, json=True, stdout=out)
    found = json.loads(out.getvalue())
    assert 1 <= len(found) <= 2
    for figures in found:
        if figures["worker"]["pid"] in workers:
            assert figures["calls"]["total"] > 0
            # Those that hung up took theirs along.
            assert figures["pool"]["opened"] <= bench.width + figures["pool"]["discarded"]
            assert figures["pool"]["active"] == 0
    assert workers & {figures["worker"]["pid"] for figures in found}
