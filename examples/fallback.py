"""Ask one model, and others where it does not answer: another key, another vendor.

What it does: one call with two targets to fall back to; says who answered, and why not the first.
Needs: OPENAI_API_KEY and ANTHROPIC_API_KEY, and OPENAI_SPARE_KEY where there is a second account;
or, without any key, ``termai-http serve`` in another terminal and the variables that it prints.
Run: python examples/fallback.py "Name a colour."
"""

from __future__ import annotations

import os
import sys

from termai_http import RetryConfig, Target, TermaiHttpError, chat

MODEL, OTHER = "gpt-5.5", "claude-opus-5-5"


def main() -> int:
    """Ask, and print the answer and what came before it."""
    question = sys.argv[1] if len(sys.argv) > 1 else "Name a colour."
    targets: list[str | Target] = [OTHER]
    if spare := os.environ.get("OPENAI_SPARE_KEY"):
        targets.insert(0, Target(MODEL, api_key=spare))
    once = RetryConfig(max_attempts=1)
    try:
        # One attempt each, without a wait between them, and 60 s for all.
        reply = chat(question, model=MODEL, fallback=targets, retry=once, timeout=60)
    except TermaiHttpError as error:
        print(f"nobody answered: {error}", file=sys.stderr)
        return 1
    for failed in reply.fallbacks:
        print(f"no answer from {failed}")
    print(f"{reply.model} answered in {reply.elapsed:.1f} s: {reply.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
