"""Show an answer while it is written, and what came of it.

What it does: streams one answer from each vendor, then prints its tokens and how soon it began.
Needs: OPENAI_API_KEY and ANTHROPIC_API_KEY; or, without any key, ``termai-http serve`` in another
terminal and the variables that it prints.
Run: python examples/streaming.py "Tell me a story"
"""

from __future__ import annotations

import sys

from termai_http import StreamInterrupted, TermaiHttpError, stream


def main() -> int:
    """Stream, and say how each stream ended."""
    question = sys.argv[1] if len(sys.argv) > 1 else "Tell me a story"
    for model, api in (("gpt-5.5", "responses"), ("claude-opus-5-5", None)):
        print(f"{model}: ", end="")
        try:
            with stream(question, model=model, api=api, max_tokens=500, timeout=120) as story:
                for piece in story:
                    print(piece, end="", flush=True)
        except StreamInterrupted as error:
            print(f"\n{error}; {len(error.partial)} characters came", file=sys.stderr)
            return 1
        except TermaiHttpError as error:
            print(f"\n{model}: {error}", file=sys.stderr)
            return 1
        assert story.response is not None
        tokens = story.response.usage.output_tokens
        print(f"\n  {tokens} tokens, the first after {story.time_to_first_token:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
