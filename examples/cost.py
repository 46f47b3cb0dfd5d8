"""Know what replies cost.

What it does: gives two models a price, asks both, and prints what each reply cost, and the sums by
model.
Needs: OPENAI_API_KEY and ANTHROPIC_API_KEY, or OPENAI_BASE_URL and ANTHROPIC_BASE_URL of a
loopback server.
Run: python examples/cost.py
"""

from __future__ import annotations

import sys

from termai_http import HttpClientConfig, client_with_config
from termai_http.prices import PRICES, Price

# US dollars a million tokens, for example those of your contract.
MINE = {
    "gpt-5.5": Price(input=5, output=30, cached_input=0.5),
    "claude-opus-5-5": Price(input=4, output=20, cached_input=0.2, cache_write=5),
}


def main() -> int:
    """Ask, and add up."""
    with client_with_config(HttpClientConfig(prices={**PRICES, **MINE})) as client:
        for model in MINE:
            reply = client.chat("Why is the sky blue?", model=model)
            known = "not known" if reply.cost is None else f"${reply.cost:.6f}"
            print(f"{model}: {reply.usage.total_tokens} tokens, {known}")
        calls = client.stats().calls
        for model, of in calls.models.items():
            print(f"{of.calls} call of {model}: ${of.cost:.6f}")
        print(f"together ${calls.cost:.6f}, {calls.calls_without_cost} calls of unknown cost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
