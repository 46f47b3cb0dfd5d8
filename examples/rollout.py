"""Roll the shared pool out to a share of your customers.

What it does: makes calls for ten customers, about 70 % of whom use the pool, and compares both
sides.
Needs: OPENAI_API_KEY, or OPENAI_BASE_URL of a loopback server.
Run: python examples/rollout.py, or TERMAI_HTTP_POOLING=0 python examples/rollout.py for the way
back
"""

from __future__ import annotations

import sys

from termai_http import HttpClientConfig, HttpStats, client_with_config


def told(name: str, calls: HttpStats) -> str:
    """Return one side's figures in a line."""
    return (
        f"{name}: {calls.total_requests} calls, {calls.success_rate:.0%} succeeded, "
        f"median {calls.p50_duration_ms:.1f} ms"
    )


def main() -> int:
    """Ask for each customer, and compare."""
    with client_with_config(HttpClientConfig(pooling=0.7)) as client:
        for number in range(20):
            customer = f"customer-{number % 10}"
            client.chat("Hello", model="gpt-5.5", rollout_key=customer)
        stats = client.stats()
    print(told("with the pool", stats.pooled_calls))
    print(told("without", stats.unpooled_calls))
    print(f"{stats.opened} connections opened, {stats.reused} times one was used again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
