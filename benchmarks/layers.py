"""What layers and events cost a call that they have nothing to do for."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from termai_http import Client, HttpClientConfig
from termai_http.layers import Layer

from ._measure import Bench, installed
from ._tables import Table, number, spread

__all__ = [
    *("ASKED", "CPU", "EVERY", "PLAIN", "THREADS", "WITH", "WITHOUT"),
    *("layer_cost", "layer_locks"),
]

_MESSAGES: list[Any] = [{"role": "user", "content": "hello " * 42}]
CPU = "CPU of a call, by layers"
PLAIN, ASKED, EVERY = "no layer, no listener", "to ask whether somebody listens", "every layer"
THREADS, WITH = "calls/s of 16 threads", "with breaker and pacing"
WITHOUT = "without"
_HIT, _MISS = "Cache(), a reply that is there", "Cache(), a reply that is kept"
_SITES = 10  # where a call asks whether somebody listens


def _layers(folder: Path) -> dict[str, tuple[Layer, ...]]:
    """Return what is measured, by name."""
    from termai_http.contrib.breaker import CircuitBreaker
    from termai_http.contrib.pacing import Pacing

    breaker, pacing = CircuitBreaker(), Pacing()
    found: dict[str, tuple[Layer, ...]] = {
        PLAIN: (),
        "CircuitBreaker()": (breaker,),
        "Pacing()": (pacing,),
        WITH: (breaker, pacing),
    }
    if installed("requests_cache"):
        from termai_http.contrib.cache import Cache

        cache = Cache(store=folder / "replies.sqlite")
        found[_HIT] = found[_MISS] = (cache,)
        found[EVERY] = (cache, breaker, pacing)
    if installed("prometheus_client"):
        from termai_http.contrib.prometheus import Prometheus

        found["Prometheus()"] = (Prometheus(),)
    if installed("opentelemetry"):
        from termai_http.contrib.tracing import Tracing

        found["Tracing(), without an SDK"] = (Tracing(),)
    return found


def _calling(client: Client, url: str, name: str = PLAIN) -> Callable[[], object]:
    options: dict[str, Any] = {"model": "gpt-5.5", "base_url": f"{url}/v1", "api_key": "sk-b"}
    if name == EVERY:
        # What a cache has nothing to do for.
        options["extra_headers"] = {"Cache-Control": "no-store"}
    if name == _MISS:
        numbers = itertools.count()
        return lambda: client.chat(_MESSAGES, user=str(next(numbers)), **options)
    return lambda: client.chat(_MESSAGES, **options)


def _seconds(do: Callable[[], object], count: int) -> float:
    begun = time.process_time()
    for _ in range(count):
        do()
    return (time.process_time() - begun) / count


def _asking(client: Client) -> Callable[[], object]:
    """Return what a call does about events where nobody listens."""
    listeners = client._core.listeners

    def ask() -> None:
        tell = listeners.audience(())
        for _ in range(_SITES):
            if tell is not None:
                raise RuntimeError("somebody listens")
        listeners.deliver()

    return ask


def _clients(stack: ExitStack, folder: Path) -> Iterator[tuple[str, Client]]:
    for name, layers in _layers(folder).items():
        config = HttpClientConfig(trust_env=False, layers=layers)
        yield name, stack.enter_context(Client(config))
    listened = stack.enter_context(Client(HttpClientConfig(trust_env=False)))
    listened.listen(lambda event: None)
    yield "a listener that does nothing", listened


def layer_cost(bench: Bench) -> list[Table]:
    """CPU of a call through each layer by itself, and through all of them."""
    url = bench.place().url
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        doing: dict[str, Callable[[], object]] = {}
        for name, client in _clients(stack, folder):
            doing[name] = _calling(client, url, name)
            if name == PLAIN:
                doing[ASKED] = _asking(client)
        for do in doing.values():
            do()
        for turn in bench.rounds(list(doing), seconds=6 if bench.quick else 40, least=5, most=200):
            for name in turn:
                bench.note(CPU, name, _seconds(doing[name], 100))
    plain = bench.median(CPU, PLAIN) or 0.0
    rows = []
    for name in doing:
        median = bench.median(CPU, name) or 0.0
        more = median if name == ASKED else median - plain
        rows.append([name, *spread(bench.figure(CPU, name), 1, 1e6), number(more / plain, 1, 100)])
    header = ["what", "CPU µs", "", "% more than the first"]
    return [Table("Layers that have nothing to do, and events", header, rows)]


def layer_locks(bench: Bench) -> list[Table]:
    """Calls of 16 threads at once, with and without the layers that have a lock."""
    url = bench.place().url
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = _layers(folder)
        clients = {
            name: stack.enter_context(Client(HttpClientConfig(trust_env=False, layers=layers)))
            for name, layers in ((WITHOUT, ()), (WITH, found[WITH]))
        }
        pool = stack.enter_context(ThreadPoolExecutor(16))
        for client in clients.values():
            _rate(pool, _calling(client, url), 2)
        # Many short rounds: the machine's moods are longer than the difference is large.
        for turn in bench.rounds(
            list(clients), seconds=8 if bench.quick else 40, least=5, most=1000
        ):
            for name in turn:
                bench.note(THREADS, name, _rate(pool, _calling(clients[name], url), 20))
    rows = [[name, *spread(bench.figure(THREADS, name), 0)] for name in clients]
    rows[1].append(number(bench.ratio(THREADS, WITH, WITHOUT), 3))
    rows[0].append("")
    header = ["layers", "calls/s", "", "to without"]
    return [Table("16 threads, breaker and pacing", header, rows)]


def _rate(pool: ThreadPoolExecutor, do: Callable[[], object], count: int) -> float:
    together = threading.Barrier(16)

    def work(_: int) -> None:
        together.wait()
        for _ in range(count):
            do()

    begun = time.perf_counter()
    for _ in pool.map(work, range(16)):
        pass
    return 16 * count / (time.perf_counter() - begun)
