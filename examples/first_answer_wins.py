"""Ask both vendors at once, take the first answer, and cancel the other call.

What it does: two calls in two threads share one CancelToken; leaving its block ends the one that
still runs, whatever it is doing, and frees its slot and its connection.
Needs: OPENAI_API_KEY and ANTHROPIC_API_KEY; or, without any key, ``termai-http serve`` in another
terminal and the variables that it prints.
Run: python examples/first_answer_wins.py "Name a colour."
"""

from __future__ import annotations

import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from termai_http import CallCancelled, CancelToken, TermaiHttpError, chat, stats

MODELS = ("gpt-5.5", "claude-opus-5-5")


def main() -> int:
    """Ask, and print who was first and what became of the other."""
    question = sys.argv[1] if len(sys.argv) > 1 else "Name a colour."
    with ThreadPoolExecutor(len(MODELS)) as pool:
        with CancelToken() as token:
            calls = [
                pool.submit(chat, question, model=model, timeout=60, cancel=token)
                for model in MODELS
            ]
            wait(calls, return_when=FIRST_COMPLETED)
        wait(calls)
    for model, call in zip(MODELS, calls, strict=True):
        error = call.exception()
        if error is None:
            print(f"{model}: {call.result().text}")
        elif isinstance(error, CallCancelled):
            print(f"{model}: cancelled")
        elif isinstance(error, TermaiHttpError):
            print(f"{model}: {error}", file=sys.stderr)
    print(f"{stats().active_connections} connections in use")
    return 0 if any(call.exception() is None for call in calls) else 1


if __name__ == "__main__":
    sys.exit(main())
