"""One client that calls an upstream with a limit: ``_limited_calls CLIENT URL THREADS CALLS``.

Tells, as JSON, how many calls failed and how long all took. Every client retries as it does by
itself.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = ["CLIENTS"]

_KEY = "sk-benchmark"
_MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
_TIMEOUT = 300.0


def _ours(url: str, *layers: Any) -> Callable[[], object]:
    from termai_http import Client, HttpClientConfig

    client = Client(HttpClientConfig(timeout=_TIMEOUT, layers=layers))
    base = f"{url}/v1"
    return lambda: client.chat(_MESSAGES, model="gpt-5.5", base_url=base, api_key=_KEY)


def _paced(url: str) -> Callable[[], object]:
    from termai_http.contrib.pacing import Pacing

    return _ours(url, Pacing())


def _openai(url: str) -> Callable[[], object]:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1", api_key=_KEY, timeout=_TIMEOUT)
    return lambda: client.chat.completions.create(model="gpt-5.5", messages=_MESSAGES)


def _anthropic(url: str) -> Callable[[], object]:
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key=_KEY, timeout=_TIMEOUT)
    return lambda: client.messages.create(
        model="claude-opus-5-5", max_tokens=4096, messages=_MESSAGES
    )


CLIENTS: dict[str, Callable[[str], Callable[[], object]]] = {
    "paced": _paced,
    "unpaced": _ours,
    "openai": _openai,
    "anthropic": _anthropic,
}


def _run(call: Callable[[], object], threads: int, calls: int) -> dict[str, Any]:
    lock, left, failed = threading.Lock(), [calls], Counter[str]()

    def work() -> None:
        while True:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
            try:
                call()
            except Exception as error:
                with lock:
                    failed[type(error).__name__] += 1

    workers = [threading.Thread(target=work) for _ in range(threads)]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"failed": failed.total(), "seconds": time.perf_counter() - begun, "by": dict(failed)}


def main() -> None:
    """Make the calls."""
    name, url, threads, calls = sys.argv[1:]
    print(json.dumps(_run(CLIENTS[name](url), int(threads), int(calls))))


if __name__ == "__main__":
    main()
