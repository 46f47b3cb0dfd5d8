"""What a worker does of big jobs: ``chat_many``, the same on plain threads, and a second run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._worker import peak, resident

__all__ = ["Batches"]

_KEY = "sk-benchmark"
_MODEL = "gpt-5.5"
_TEXT = "hello " * 42


def _prompts(count: int) -> Iterator[str]:
    """Yield prompts one by one, as from a file; no two are equal."""
    return (f"{number} {_TEXT}" for number in range(count))


class Batches:
    """Carries out what is asked of ``chat_many``.

    Args:
        url: The URL before the API's own path.
        workers: How many call at once.
    """

    def __init__(self, url: str, workers: str) -> None:
        self._base_url = f"{url}/v1"
        self._workers = int(workers)

    def _options(self) -> dict[str, Any]:
        return {"model": _MODEL, "base_url": self._base_url, "api_key": _KEY}

    def warm(self) -> dict[str, Any]:
        """Open a connection for each, as a program that has run for a while."""
        return self.plain(self._workers)

    def many(self, count: int, settled: int) -> dict[str, Any]:
        """Ask prompts by ``chat_many``; tells how memory grew once so many were answered."""
        from termai_http import chat_many

        cpu, begun, before, answered = time.process_time(), time.perf_counter(), 0.0, 0
        for reply in chat_many(_prompts(count), max_workers=self._workers, **self._options()):
            answered += reply.text != ""
            if answered == settled:
                before = resident()
        wall = time.perf_counter() - begun
        return {
            "rate": answered / wall,
            "cpu": (time.process_time() - cpu) / count,
            "answered": answered,
            "grown": resident() - before,
            "peak": peak(),
        }

    def plain(self, count: int) -> dict[str, Any]:
        """Ask them by ``chat()`` in a loop of as many threads: what this machine can do."""
        from termai_http import chat

        prompts, turn, failed = _prompts(count), threading.Lock(), []
        barrier = threading.Barrier(self._workers + 1)

        def take() -> str | None:
            with turn:
                return next(prompts, None)

        def loop() -> None:
            barrier.wait()
            try:
                for prompt in iter(take, None):
                    chat(prompt, **self._options())
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=loop, daemon=True) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        barrier.wait()
        cpu, begun = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - begun
        if failed:
            raise failed[0]
        return {"rate": count / wall, "cpu": (time.process_time() - cpu) / count}

    def write(self, path: str, count: int) -> dict[str, Any]:
        """Write the results file of a finished job."""
        from termai_http import ChatRequest, chat
        from termai_http._batch_digest import Digester
        from termai_http._batch_lines import encode

        line = encode(0, None, 0, chat(_TEXT, **self._options())).decode()
        rest = line[line.index(', "text"') :]
        digests = Digester()
        with Path(path).open("w", encoding="utf-8") as file:
            for number, prompt in enumerate(_prompts(count)):
                digest = digests.of(ChatRequest(model=_MODEL, messages=prompt))
                file.write(f'{{"index": {number}, "digest": "{digest:016x}"{rest}')
            return {"size": file.tell()}

    def resume(self, path: str, count: int) -> dict[str, Any]:
        """Run the finished job again."""
        from termai_http import chat_many

        before = resident()
        cpu, begun = time.process_time(), time.perf_counter()
        batch = chat_many(
            _prompts(count), max_workers=self._workers, output=path, **self._options()
        )
        summary = batch.run()
        wall = time.perf_counter() - begun
        if summary.skipped != count:
            raise RuntimeError(f"{count - summary.skipped} of {count} were asked again")
        return {
            "wall": wall,
            "cpu": time.process_time() - cpu,
            "before": before,
            "peak": peak(),
        }
