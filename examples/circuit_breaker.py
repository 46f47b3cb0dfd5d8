"""Leave a server alone while it is down.

What it does: asks a server that fails, until its circuit opens and calls are refused at once; the
server comes back, a probe finds out, and calls go through again.
Needs: nothing; it runs its own loopback server, since no vendor is down on demand.
Run: python examples/circuit_breaker.py
"""

from __future__ import annotations

import sys
import time

from termai_http import CircuitOpenError, Client, HttpClientConfig, RetryConfig, TermaiHttpError
from termai_http.contrib.breaker import CircuitBreaker
from termai_http.testing import Server, Status


def ask(client: Client, server: Server) -> str:
    """Ask once, and tell in a line how it ended."""
    try:
        return client.chat("Hello", model="gpt-5.5", base_url=server.url, api_key="none").text
    except CircuitOpenError as error:
        return f"refused at once, a probe in {error.retry_in:.1f} s"
    except TermaiHttpError as error:
        return f"failed: {type(error).__name__}"


def main() -> int:
    """Go through an outage and its end."""
    breaker = CircuitBreaker(failures=3, reset_after=0.5)
    config = HttpClientConfig(layers=(breaker,), retry=RetryConfig(max_attempts=1))
    with Server() as server, Client(config) as client:
        server.script(*[Status(503)] * 3)
        for _ in range(4):
            print(ask(client, server))
        print(f"{len(server.requests)} requests reached the server")
        time.sleep(0.6)
        print(ask(client, server))
        for circuit in client.stats().layers["breaker"].circuits:
            print(f"the circuit is {circuit.state}, and refused {circuit.refused}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
