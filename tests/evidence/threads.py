"""Makes 1,000 calls through 1,000 threads at once, and then four more such rounds.

The server, in a process of its own, answers a round only when all its calls are there, so that all
of them are in flight at once. ``python -m tests.evidence.threads`` prints one line and exits with 1
where a call fails, a reply crosses to another call, fewer than 99 % of the connections are reused
from the second round on, or the server sees more connections than there are threads.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

from termai_http import Client

from . import support
from .server import ServerProcess
from .support import MODELS, Result

_ROUNDS = 5
_STACK = 512 * 1024
_SPARE_DESCRIPTORS = 200
_SECONDS = 300.0
_LEAST_REUSE = 0.99


class _Rounds:
    def __init__(self, result: Result, client: Client, url: str, number: int) -> None:
        self.opened: list[int] = []
        self.reused: list[int] = []
        self._result = result
        self._client = client
        self._url = url
        self._number = number
        self._gates = threading.Barrier(number + 1, timeout=_SECONDS)

    def run(self) -> None:
        """Play all rounds, and note after each what it opened and reused."""
        before = threading.stack_size(_STACK)
        try:
            workers = [
                threading.Thread(target=self._work, args=(index,)) for index in range(self._number)
            ]
            for worker in workers:
                worker.start()
        finally:
            threading.stack_size(before)
        opened = reused = 0
        for _ in range(_ROUNDS):
            self._gates.wait()
            self._gates.wait()
            stats = self._client.stats()
            self.opened.append(stats.opened - opened)
            self.reused.append(stats.reused - reused)
            opened, reused = stats.opened, stats.reused
        for worker in workers:
            worker.join()

    def _work(self, index: int) -> None:
        for turn in range(_ROUNDS):
            self._gates.wait()
            self._ask(f"together {turn} {index}", MODELS[index % 2])
            self._gates.wait()

    def _ask(self, prompt: str, model: str) -> None:
        try:
            reply = support.ask(self._client, self._url, prompt, model=model, timeout=_SECONDS)
        except Exception as error:
            self._result.must(False, f"{prompt}: {error!r}")
        else:
            self._result.must(reply.text == prompt, f"{prompt}: the reply to {reply.text}")
            self._result.must(reply.attempts == 1, f"{prompt}: {reply.attempts} attempts")


def _allow_descriptors(number: int) -> None:
    """Raise the limit of open files where it is too low."""
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < number:
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def run(result: Result, short: bool) -> None:
    """Play the rounds, and judge reuse and connections."""
    number = 200 if short else 1_000
    _allow_descriptors(number + _SPARE_DESCRIPTORS)
    with ServerProcess() as server, support.client(timeout=_SECONDS) as client:
        server.gather(number)
        rounds = _Rounds(result, client, server.url, number)
        rounds.run()
        held = support.in_use(client)
        seen: dict[str, Any] = server.figures()
    result.must(not held, f"{held} with no call running")
    ratio = sum(rounds.reused[1:]) / max(sum(rounds.opened[1:]) + sum(rounds.reused[1:]), 1)
    result.must(ratio >= _LEAST_REUSE, f"opened in each round: {rounds.opened}")
    result.must(seen["connections"] <= number, f"{seen['connections']} connections")
    result.must(seen["requests"] == number * _ROUNDS, f"{seen['requests']} requests")
    result.line = (
        f"{_ROUNDS} rounds of {number:,} calls through {number:,} threads at once: "
        f"{result.number} flaws, {ratio:.1%} reuse from round 2 on, "
        f"{seen['connections']:,} connections at the server"
    )


if __name__ == "__main__":
    sys.exit(support.main(run, str(__doc__)))
