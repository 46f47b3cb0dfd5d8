"""The command ``termai-http chat``: one answer, or a conversation on a terminal."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from ._common import FAILED, FALLBACK, OK, USAGE, add_command, forget, say, told
from ._show import as_object, show_reply, show_stream, tell_ending

if TYPE_CHECKING:
    from ._common import Commands

__all__ = ["add"]

_OPTIONS = (
    *("model", "system", "max_tokens", "timeout", "base_url", "provider", "api", "api_version"),
    *("reasoning", "fallback"),
)
_DESCRIPTION = """\
Ask a model and print its answer. Without a prompt, on a terminal, it is a
conversation: Ctrl-C stops an answer, Ctrl-C or Ctrl-D at the prompt ends it.
"""
_EXAMPLES = """\
examples:
  termai-http chat "Why is the sky blue?" -m gpt-5.5
  termai-http chat "Why is the sky blue?" -m claude-opus-5-5 --system "Be brief."
  termai-http chat -m claude-opus-5-5
  git diff | termai-http chat -m gpt-5.5 --system "Write a commit message." -
  termai-http chat hi -m gpt-5.5 --json
  termai-http chat hi -m gpt-5.5 --fallback claude-opus-5-5
  termai-http chat hi -m llama3.3 --base-url http://127.0.0.1:11434/v1

The key is read from OPENAI_API_KEY, or ANTHROPIC_API_KEY for claude models.
The answer goes to stdout, on a terminal as it is written; everything else to stderr.
What comes from the model cannot steer the terminal.
exit codes: 0 answered, or the conversation ended; 1 the call failed; 2 wrong usage or
configuration; 130 interrupted
"""


def add(commands: Commands) -> None:
    """Add the command."""
    chat = add_command(
        commands,
        "chat",
        "ask a model and print its answer, or converse with it",
        usage="[PROMPT] [-m MODEL] [options]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    add = chat.add_argument
    add("prompt", nargs="?", metavar="PROMPT", help='what to ask; "-" reads stdin')
    add("-m", "--model", help="the model; default TERMAI_HTTP_MODEL")
    add("-s", "--system", help="instructions that stand before the prompt")
    add("--fallback", action="append", metavar="MODEL", help=FALLBACK)
    add("--max-tokens", type=int, metavar="N", help="most tokens to generate")
    add("--timeout", type=float, metavar="SECONDS", help="for a whole call; default 120")
    add("--base-url", metavar="URL", help="where the API lives")
    add("--provider", choices=["openai", "claude"], help="default: by the model's name")
    add("--api", choices=["chat", "responses"], help="which of OpenAI's; default chat")
    add("--reasoning", metavar="EFFORT", help='how much to think first, "none" to "max"')
    add("--api-version", metavar="VERSION", help="anthropic-version; default 2023-06-01")
    add("--json", action="store_true", help="print the whole reply as a JSON object")
    add(
        "--stream",
        action=argparse.BooleanOptionalAction,
        help="print the answer as it is written; default on a terminal",
    )
    chat.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from .._shared import close
    from ..errors import ConfigurationError, InvalidRequestError, TermaiHttpError

    try:
        if _is_conversation(args):
            from ._conversation import converse

            return converse(_options(args), streaming=args.stream is not False)
        prompt = _prompt(args)
        if prompt is None:
            return USAGE
        _answer(prompt, args)
    except (ConfigurationError, InvalidRequestError) as error:
        say(told(error))
        return USAGE
    except TermaiHttpError as error:
        say(f"{type(error).__name__}: {told(error)}")
        return FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        forget(sys.stdout)
        say(f"cannot write the answer: {error.strerror}")
        return FAILED
    finally:
        close()
    return OK


def _is_conversation(args: argparse.Namespace) -> bool:
    return args.prompt is None and not args.json and sys.stdin.isatty() and sys.stdout.isatty()


def _prompt(args: argparse.Namespace) -> str | None:
    """Return the prompt; None where it cannot be read, which was said."""
    if args.prompt not in (None, "-"):
        return str(args.prompt)
    if sys.stdin.isatty():
        say("type the prompt; Ctrl-D at the beginning of a line ends it")
    try:
        return sys.stdin.read()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or f"it is no text in {sys.stdin.encoding}"
        say(f"cannot read the prompt: {why}")
        return None


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in _OPTIONS}


def _answer(prompt: str, args: argparse.Namespace) -> None:
    from .._shared import chat, stream

    options = _options(args)
    live = sys.stdout.isatty() if args.stream is None else args.stream
    if args.json:
        reply = chat(prompt, **options)
        readable = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
        print(json.dumps(as_object(reply), ensure_ascii=not readable), flush=True)
        tell_ending(reply)
    elif live:
        show_stream(stream(prompt, **options))
    else:
        show_reply(chat(prompt, **options))
