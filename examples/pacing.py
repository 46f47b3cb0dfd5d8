"""Ask many questions from many threads, and stay within the vendor's limits.

What it does: 40 calls from 8 threads; all share what the answers say of the limits, so that
attempts wait here instead of being refused there. Prints who was held back, and for how long.
Needs: OPENAI_API_KEY; or ``termai-http serve`` and the variables that it prints.
Run: python examples/pacing.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from termai_http import Client, HttpClientConfig
from termai_http.contrib.pacing import Pacing

THREADS = 8
QUESTIONS = [f"What is {number} squared?" for number in range(40)]


def main() -> None:
    """Ask everything, and tell what pacing did."""
    config = HttpClientConfig(layers=(Pacing(),))
    with Client(config) as client, ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda one: client.chat(one, model="gpt-5.5").text, QUESTIONS))
        print(f"{len(answers)} answers, the last one: {answers[-1]}")
        for key in client.stats().layers["pacing"].keys:
            print(
                f"{key.host}, {key.model}: {key.started} begun, {key.refused} refused, "
                f"{key.waiting} waiting, {key.held} held back for {key.held_seconds:.1f} s in all"
            )


if __name__ == "__main__":
    main()
