"""What a new TLS connection costs, in memory and CPU: ours beside ``requests.Session``."""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from termai_http import Client, HttpClientConfig

from ._tables import table
from ._upstream import upstream

__all__ = ["new_tls_connections"]

_CONNECTIONS = 200
_BODY = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "hello"}]}
_HEADERS = {"Authorization": "Bearer sk-benchmark"}


def _resident() -> float:
    """Return this process's resident memory, in MB; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _hold(post: Callable[[], Any]) -> tuple[float, float]:
    """Open connections and hold them; returns MB and milliseconds of CPU for each."""
    held = [post() for _ in range(5)]
    gc.collect()
    memory, cpu = _resident(), time.process_time()
    held += [post() for _ in range(_CONNECTIONS)]
    cpu = time.process_time() - cpu
    gc.collect()
    memory = _resident() - memory
    for answer in held:
        answer.close()
    return memory / _CONNECTIONS, cpu / _CONNECTIONS * 1e3


def _ours(url: str, bundle: str) -> tuple[float, float]:
    with Client(HttpClientConfig(ca_bundle=bundle, trust_env=False)) as client:
        session = client.session
        return _hold(
            lambda: session.post(url, json=_BODY, headers=_HEADERS, timeout=30, stream=True)
        )


def _plain(url: str, bundle: str) -> tuple[float, float]:
    with requests.Session() as session:
        session.mount("https://", HTTPAdapter(pool_maxsize=2 * _CONNECTIONS))
        return _hold(
            lambda: session.post(
                url, json=_BODY, headers=_HEADERS, timeout=30, stream=True, verify=bundle
            )
        )


def new_tls_connections(*, quick: bool) -> str:
    """Measure each peer in a process of its own, as often as the median needs."""
    peers = {"requests.Session": _plain, "termai_http": _ours}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream(Path(folder), tls=True) as server,
    ):
        import certifi

        # As large as a real one: loading it is what is paid for.
        bundle = Path(folder) / "bundle.pem"
        bundle.write_text(Path(certifi.where()).read_text() + Path(server.bundle or "").read_text())
        for _ in range(1 if quick else 5):
            for name, measure in peers.items():
                with context.Pool(1) as pool:
                    arguments = (f"{server.url}/v1/chat/completions", str(bundle))
                    found[name].append(pool.apply(measure, arguments))
    rows = []
    for name, figures in found.items():
        memory, cpu = (sorted(column)[len(column) // 2] for column in zip(*figures, strict=True))
        rows.append([name, f"{memory:.3f}", f"{cpu:.1f}"])
    title = f"A new TLS connection, mean of {_CONNECTIONS} (goal: below 0.1 MB and 4 ms)"
    return table(title, ["peer", "MB", "ms of CPU"], rows)
