"""The command ``termai-http``: chat, serve, demo."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from ._stream import Stream
    from .models import ChatResponse

__all__ = ["main"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = "Blocking calls to the OpenAI and Claude chat APIs over one pooled session."
_CHAT_EXAMPLES = """\
examples:
  termai-http chat "Why is the sky blue?" -m gpt-5.5
  termai-http chat "Why is the sky blue?" -m claude-opus-5-5 --system "One sentence."
  git diff | termai-http chat -m gpt-5.5 --system "Write a commit message." -
  termai-http chat hi -m gpt-5.5 --json
  termai-http chat hi -m llama3.3 --base-url http://127.0.0.1:11434/v1

The key is read from OPENAI_API_KEY, or ANTHROPIC_API_KEY for claude models.
The answer goes to stdout, on a terminal as it is written; everything else goes to stderr.
exit codes: 0 answered, 1 the call failed, 2 wrong usage or configuration, 130 interrupted
"""
_SERVE_EXAMPLES = """\
example:
  termai-http serve --port 8080
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=x termai-http chat hi -m gpt-5.5
"""
_DEMO_TEXT = """\
Needs no key and no network. Makes one call in each dialect against a loopback server, then calls
from 32 threads with some 429s and 503s among them: once with a client a call, once with the
shared client, and prints both side by side.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        argv: Arguments without the program's name; None means the process's.
    """
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A pipe on Windows has no characters for most of the world's.
        sys.stdout.reconfigure(errors="replace")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return OK


def _forget_stdout() -> None:
    """Let nothing more be written: without this Python would complain of the rest at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="termai-http", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"termai-http {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_chat(commands)
    _add_serve(commands)
    demo = commands.add_parser(
        "demo",
        help="show what a shared client saves",
        description=_DEMO_TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.set_defaults(run=_demo)
    return parser


def _add_chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = commands.add_parser(
        "chat",
        help="ask a model and print its answer",
        description="Ask a model and print its answer.",
        epilog=_CHAT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = chat.add_argument
    add("prompt", nargs="?", default="-", help='what to ask; "-" or nothing reads stdin')
    add("-m", "--model", help="the model; default TERMAI_HTTP_MODEL")
    add("-s", "--system", help="instructions that stand before the prompt")
    add("--max-tokens", type=int, metavar="N", help="most tokens to generate")
    add("--timeout", type=float, metavar="SECONDS", help="for the whole call; default 120")
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
    chat.set_defaults(run=_chat)


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser(
        "serve",
        help="run a loopback server that speaks both vendors' APIs",
        description="Run a loopback server that speaks both vendors' APIs, for tests and tries.",
        epilog=_SERVE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; default a free one")
    for option, what in (
        ("--delay", "before each reply"),
        ("--connect-delay", "before the first request of each connection"),
        ("--pace", "between a stream's events"),
    ):
        serve.add_argument(option, type=_seconds, default=0.0, metavar="SECONDS", help=what)
    serve.set_defaults(run=_serve)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    raise argparse.ArgumentTypeError(f"must be seconds of at least 0, not {text!r}")


def _chat(args: argparse.Namespace) -> int:
    from ._shared import close
    from .errors import ConfigurationError, InvalidRequestError, TermaiHttpError

    try:
        prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or f"it is no text in {sys.stdin.encoding}"
        print(f"termai-http: cannot read the prompt: {why}", file=sys.stderr)
        return USAGE
    try:
        _answer(prompt, args)
    except (ConfigurationError, InvalidRequestError) as error:
        print(f"termai-http: {error}", file=sys.stderr)
        return USAGE
    except TermaiHttpError as error:
        print(f"termai-http: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget_stdout()
        print(f"termai-http: cannot write the answer: {error.strerror}", file=sys.stderr)
        return FAILED
    finally:
        close()
    return OK


def _answer(prompt: str, args: argparse.Namespace) -> None:
    from ._shared import chat, stream

    options = {
        name: getattr(args, name)
        for name in ("model", "system", "max_tokens", "timeout", "base_url", "provider")
    }
    options |= {name: getattr(args, name) for name in ("api", "api_version", "reasoning")}
    live = sys.stdout.isatty() if args.stream is None else args.stream
    if args.json or not live:
        reply = chat(prompt, **options)
        print(_as_json(reply) if args.json else reply.text, flush=True)
    else:
        reply = _shown(stream(prompt, **options))
    if reply.cut_off:
        print(
            f"termai-http: the answer was cut off at its token limit ({reply.finish_reason}); "
            "--max-tokens sets another",
            file=sys.stderr,
        )


def _shown(pieces: Stream) -> ChatResponse:
    """Print a stream as it comes; return its reply."""
    with pieces:
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        finally:
            # What comes next, an error above all, begins on a line of its own.
            print(flush=True)
    assert pieces.response is not None
    return pieces.response


def _as_json(reply: ChatResponse) -> str:
    usage = reply.usage
    fields = {
        "text": reply.text,
        "model": reply.model,
        "finish_reason": reply.finish_reason,
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
        },
        "id": reply.id,
        "request_id": reply.request_id,
        "attempts": reply.attempts,
        "elapsed": round(reply.elapsed, 3),
    }
    readable = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
    return json.dumps(fields, ensure_ascii=not readable)


def _serve(args: argparse.Namespace) -> int:
    from .testing import Server

    try:
        server = Server(
            port=args.port, delay=args.delay, connect_delay=args.connect_delay, pace=args.pace
        ).start()
    except (OSError, OverflowError) as error:
        print(f"termai-http: cannot listen on port {args.port}: {error}", file=sys.stderr)
        return FAILED
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        print(
            f"serving on {server.url} (Ctrl-C ends it); in another terminal:\n"
            f"  OPENAI_BASE_URL={server.openai_url} OPENAI_API_KEY=x "
            "termai-http chat hi -m gpt-5.5\n"
            f"  ANTHROPIC_BASE_URL={server.claude_url} ANTHROPIC_API_KEY=x "
            "termai-http chat hi -m claude-opus-5-5",
            file=sys.stderr,
            flush=True,
        )
        # A timeout lets the main thread see signals on every system.
        while not stop.wait(1.0):
            pass
    finally:
        server.close()
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    return OK


def _demo(args: argparse.Namespace) -> int:
    from ._demo import run

    run()
    return OK
