"""The figures: what a call costs, how many connections are reused, what sharing saves."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from termai_http import Client, HttpClientConfig

from ._measure import interleaved
from ._tables import ratio_row, table
from ._upstream import Upstream, upstream

__all__ = ["call_cost", "reuse", "shared_against_own"]

_KEY = "sk-benchmark"
_MESSAGES = [{"role": "user", "content": "hello " * 50}]
_THREADS = 32
_CALLS = 10_000


def _config(server: Upstream) -> HttpClientConfig:
    return HttpClientConfig(ca_bundle=server.bundle, trust_env=False)


def _chat(client: Client, server: Upstream) -> Callable[[], object]:
    return lambda: client.chat(_MESSAGES, model="gpt-5.5", base_url=server.url, api_key=_KEY)


def _plain(session: requests.Session, server: Upstream) -> Callable[[], Any]:
    url = f"{server.url}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {_KEY}"}
    body = {"model": "gpt-5.5", "messages": _MESSAGES}
    verify = server.bundle or True
    return lambda: session.post(url, json=body, headers=headers, verify=verify).json()


def call_cost(*, quick: bool) -> str:
    """CPU of ``chat()`` beside ``requests.Session.post(json=...)`` with ``.json()``."""
    rows = []
    for tls in (False, True):
        with (
            tempfile.TemporaryDirectory() as folder,
            upstream(Path(folder), tls=tls) as server,
            Client(_config(server)) as client,
            requests.Session() as session,
        ):
            peers = {"requests.Session": _plain(session, server), "chat()": _chat(client, server)}
            found = interleaved(peers, rounds=5 if quick else 15, calls=200 if quick else 500)
        base = found["requests.Session"]
        way = "TLS" if tls else "plain"
        rows += [ratio_row(f"{name}, {way}", figure, base) for name, figure in found.items()]
    title = "CPU of one call on a kept connection, one thread (goal: a ratio of at most 1.00)"
    return table(title, ["peer", "µs", "spread", "ratio"], rows)


def reuse(*, quick: bool) -> str:
    """Share of 10,000 calls from 32 threads that reuse a connection."""
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(Path(folder), tls=False) as server,
        Client(_config(server)) as client,
    ):
        call = _chat(client, server)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda _: call(), range(_CALLS)))
        stats, accepted = client.stats(), server.connections()
    row = [
        f"{_CALLS}",
        f"{stats.opened}",
        f"{accepted}",
        f"{stats.reuse_ratio:.2%}",
        f"{stats.calls.failed_requests}",
    ]
    title = f"Reuse, {_THREADS} threads (goal: at least 99 %)"
    return table(title, ["calls", "opened", "at the server", "reused", "failed"], [row])


def shared_against_own(*, quick: bool) -> str:
    """Wall time of a call over TLS: the shared client beside a client a call."""
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(Path(folder), tls=True) as server,
        Client(_config(server)) as shared,
    ):

        def own() -> None:
            with Client(_config(server)) as client:
                _chat(client, server)()

        peers: dict[str, Callable[[], object]] = {
            "a client a call": own,
            "one shared client": _chat(shared, server),
        }
        found = interleaved(
            peers,
            rounds=5 if quick else 9,
            calls=20 if quick else 100,
            clock=time.perf_counter,
        )
    base = found["a client a call"]
    rows = [ratio_row(name, figure, base) for name, figure in found.items()]
    title = "Wall time of one call over TLS (goal: a ratio of at most 0.50)"
    return table(title, ["peer", "µs", "spread", "ratio"], rows)
