"""Ask both vendors the same question from a script.

What it does: one call to OpenAI and one to Claude over the process-wide client, then its figures.
Needs: OPENAI_API_KEY and ANTHROPIC_API_KEY; or, without any key, ``termai-http serve`` in another
terminal and the variables that it prints.
Run: python examples/script.py "Why is the sky blue?"
"""

from __future__ import annotations

import sys

from termai_http import TermaiHttpError, chat, show_http_stats


def main() -> int:
    """Ask, and print what each said."""
    question = sys.argv[1] if len(sys.argv) > 1 else "Why is the sky blue?"
    for model in ("gpt-5.5", "claude-opus-5-5"):
        try:
            reply = chat(question, model=model, max_tokens=300, timeout=60)
        except TermaiHttpError as error:
            print(f"{model}: {error}", file=sys.stderr)
            return 1
        print(f"{model}: {reply.text}")
        print(f"  {reply.usage.output_tokens} tokens in {reply.elapsed:.2f} s")
    show_http_stats()
    return 0


if __name__ == "__main__":
    sys.exit(main())
