"""The command ``termai-http``."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from .._version import __version__
from . import _batch, _chat, _demo, _doctor, _serve
from ._common import INTERRUPTED, OK, Parser, forget, open_what_is_closed, tell

__all__ = ["main"]

# In the order of the help.
_COMMANDS = (_chat, _batch, _doctor, _serve, _demo)
_DESCRIPTION = "Blocking calls to the OpenAI and Claude chat APIs over one pooled session."
_EXAMPLES = """\
examples:
  termai-http chat "Why is the sky blue?" -m gpt-5.5
  termai-http doctor
  termai-http COMMAND --help

Settings come from TERMAI_HTTP_*, keys from OPENAI_API_KEY and ANTHROPIC_API_KEY.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        argv: Arguments without the program's name; None means the process's.
    """
    open_what_is_closed()
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A pipe on Windows has no characters for most of the world's.
        sys.stdout.reconfigure(errors="replace")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        tell("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Of stdout: whoever read it has enough.
        forget(sys.stdout)
        return OK


def _parser() -> Parser:
    parser = Parser(
        prog="termai-http",
        usage="%(prog)s COMMAND [options]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"termai-http {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", prog="termai-http"
    )
    for command in _COMMANDS:
        command.add(commands)
    return parser
