"""Talk with a model, and go on tomorrow.

What it does: asks what you type, streams each answer, and keeps the conversation in a file.
Needs: OPENAI_API_KEY or ANTHROPIC_API_KEY; or, without any key, ``termai-http serve`` in another
terminal and the variables that it prints.
Run: python examples/conversation.py talk.json [MODEL]
"""

from __future__ import annotations

import sys
from pathlib import Path

from termai_http import Conversation, TermaiHttpError


def main() -> int:
    """Read lines until the input ends."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "talk.json")
    model = sys.argv[2] if len(sys.argv) > 2 else "claude-opus-5-5"
    try:
        talk = Conversation.load(path) if path.exists() else Conversation(model, system="Be brief.")
    except (TermaiHttpError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(talk)} messages so far; an empty line ends it")
    for line in iter(sys.stdin.readline, ""):
        if not line.strip():
            break
        try:
            for piece in talk.stream(line.strip()):
                print(piece, end="", flush=True)
            print()
            talk.save(path)
        except (TermaiHttpError, OSError) as error:
            print(f"\n{error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
