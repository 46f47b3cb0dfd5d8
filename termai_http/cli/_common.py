"""What the commands share: exit codes, the shape of a command, and what is done with stdout."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]

__all__ = [
    "FAILED",
    "FALLBACK",
    "INTERRUPTED",
    "OK",
    "USAGE",
    "Parser",
    "add_command",
    "forget",
    "open_what_is_closed",
    "printable",
    "say",
    "seconds",
    "tell",
    "told",
]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
FALLBACK = "asked where the one before does not answer; may be given again"

# A line break and a tab are wanted; with a carriage return an answer could hide what it said.
_STEERING: dict[int, str] = dict.fromkeys(
    (
        *(*range(32), *range(127, 160)),
        # Line separators, and what turns the direction of the text that follows.
        *(0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
    ),
    "\N{REPLACEMENT CHARACTER}",
)
_STEERING |= {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): ""}

_IN_A_SHELL = (
    (" api_key= was not given and", ""),
    (" api_key= was not given, and neither", " Neither"),
    ('give any text: api_key="none"', "set it to any text"),
    ("pass model= (for example", "give -m MODEL (for example"),
    ("Raise timeout=,", "Raise --timeout,"),
)


class Parser(argparse.ArgumentParser):
    """A parser that says what was meant by a command or an option with a slip in it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what is left over here, where the options that there are are known."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            options = [name for action in self._actions for name in action.option_strings]
            self.error(f"there is no {rest[0]}{_meant(rest[0], options)}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, how it is used and where to read more, and exit with 2."""
        wrong = re.match(r"argument (\S+): invalid choice: '([^']*)'", message)
        if wrong:
            known = [str(one) for action in self._actions for one in action.choices or ()]
            meant = _meant(wrong[2], known)
            message += meant
            if wrong[1] == "COMMAND":
                message = f"there is no command {wrong[2]}{meant or ', but ' + ', '.join(known)}"
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\nMore: {self.prog} --help\n")


def _meant(word: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word.partition("=")[0], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def add_command(
    commands: Commands,
    name: str,
    what: str,
    *,
    usage: str,
    description: str,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: Where to.
        name: Its name.
        what: One line for the list of commands.
        usage: Its arguments in one line, as ``"[PROMPT] [options]"``.
        description: What stands above its options.
        epilog: What stands below them, examples above all, shown as it is.
    """
    return commands.add_parser(
        name,
        help=what,
        usage=f"termai-http {name} {usage}".rstrip(),
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def seconds(text: str) -> float:
    """Read an option's seconds, at least 0."""
    with contextlib.suppress(ValueError):
        value = float(text)
        if math.isfinite(value) and value >= 0:
            return value
    raise argparse.ArgumentTypeError(f"must be seconds of at least 0, not {text!r}")


def say(message: str) -> None:
    """Tell the user something on stderr: it is no part of what the command gives."""
    tell(f"termai-http: {message}\n")


def tell(text: str) -> None:
    """Write to stderr, as far as there is somebody who reads it: a job goes on without."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        forget(sys.stderr)


def told(error: Exception) -> str:
    """Return an error's words as the shell has them: they are for who writes Python."""
    text = str(error)
    for python, shell in _IN_A_SHELL:
        text = text.replace(python, shell)
    return text


def open_what_is_closed() -> None:
    """Put nothing in the place of a stream that the command was begun without, as by cron."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            opened = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - as long as we run
            setattr(sys, name, opened)


def printable(text: str) -> str:
    """Return a text as a terminal may have it: what would steer the terminal is shown as a sign."""
    return text.translate(_STEERING)


def forget(stream: TextIO) -> None:
    """Let nothing more be written: without this Python would complain of the rest at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
