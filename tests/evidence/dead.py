"""Makes 1,000 calls within a minute to a server that is down, and counts what reaches it.

Once to a server that answers 503 every time, once to a port that nobody listens on, from 8 threads
each. ``python -m tests.evidence.dead`` prints one line and exits with 1 where more than 1,100
attempts were made, or the figures do not add up.
"""

from __future__ import annotations

import sys
import threading
import time

from termai_http import APIConnectionError, HttpStats, InternalServerError, TermaiHttpError
from tests.faults.harness import closed_port

from . import support
from .server import ServerProcess
from .support import FAST, MODELS, Result

_CALLS = 1_000
_MOST = 1_100
_WORKERS = 8
_SECONDS = 60.0


def _call(result: Result, url: str, expected: type[TermaiHttpError]) -> HttpStats:
    """Make the calls, all of which fail; returns their figures."""
    numbers = iter(range(_CALLS))
    with support.client(retry=FAST, timeout=_SECONDS) as client:

        def work() -> None:
            for number in numbers:
                try:
                    support.ask(client, url, f"dead {number}", model=MODELS[number % 2])
                except Exception as error:
                    result.must(type(error) is expected, f"call {number}: {error!r}")
                else:
                    result.must(False, f"call {number}: a reply")

        begun = time.monotonic()
        workers = [threading.Thread(target=work) for _ in range(_WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        took = time.monotonic() - begun
        held = support.in_use(client)
        stats = client.stats().calls
    result.must(not held, f"{held} with no call running")
    result.must(took <= _SECONDS, f"{took:.0f} s for {_CALLS:,} calls")
    _add_up(result, stats)
    return stats


def _add_up(result: Result, stats: HttpStats) -> None:
    retries, denied = stats.total_retries, stats.retries_denied
    result.must(stats.failed_requests == stats.total_requests == _CALLS, f"counted: {stats}")
    result.must(stats.total_requests + retries <= _MOST, f"{retries} retries")
    # A call ends where a retry is denied, or with its last attempt, which takes two retries.
    exhausted = _CALLS - denied
    result.must(retries, "no retry at all")
    result.must(denied and 2 * exhausted <= retries, f"{denied} denied, {retries} made")


def run(result: Result, short: bool) -> None:
    """Call the server that refuses, and the port that is closed; the short form is the whole."""
    with ServerProcess() as server:
        refused = _call(result, server.url, InternalServerError)
        requests = server.figures()["requests"]
    attempts = refused.total_requests + refused.total_retries
    result.must(requests == attempts, f"{requests} requests at the server, {attempts} counted")
    closed = _call(result, f"http://127.0.0.1:{closed_port()}", APIConnectionError)
    result.line = (
        f"{_CALLS:,} calls to a server that answers 503: {requests:,} requests, "
        f"{refused.retries_denied} retries denied; {_CALLS:,} to a closed port: "
        f"{closed.total_requests + closed.total_retries:,} attempts, "
        f"{closed.retries_denied} denied; {result.number} flaws"
    )


if __name__ == "__main__":
    sys.exit(support.main(run, str(__doc__)))
