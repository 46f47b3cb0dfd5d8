"""The command ``termai-http serve``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ._common import FAILED, OK, add_command, say, seconds

if TYPE_CHECKING:
    from ._common import Commands

__all__ = ["add"]

_EXAMPLES = """\
example:
  termai-http serve --port 8080
  OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=x \\
    termai-http chat hi -m gpt-5.5
"""


def add(commands: Commands) -> None:
    """Add the command."""
    serve = add_command(
        commands,
        "serve",
        "run a loopback server that speaks both vendors' APIs",
        usage="[--port PORT] [options]",
        description="Run a loopback server that speaks both vendors' APIs, for tests and tries.",
        epilog=_EXAMPLES,
    )
    serve.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; default a free one")
    for option, what in (
        ("--delay", "before each reply"),
        ("--connect-delay", "before the first request of each connection"),
        ("--pace", "between a stream's events"),
    ):
        serve.add_argument(option, type=seconds, default=0.0, metavar="SECONDS", help=what)
    serve.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from ..testing import Server

    try:
        server = Server(
            port=args.port, delay=args.delay, connect_delay=args.connect_delay, pace=args.pace
        ).start()
    except (OSError, OverflowError) as error:
        say(f"cannot listen on port {args.port}: {error}")
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
