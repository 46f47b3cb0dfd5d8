"""What the commands share: exit codes, the shape of a command, and what is done with stdout."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "OK",
    "USAGE",
    "Parser",
    "add_command",
    "forget_stdout",
    "printable",
    "say",
    "seconds",
]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

# A line break and a tab are wanted; with a carriage return an answer could hide what it said.
_STEERING: dict[int, str] = dict.fromkeys(
    (*range(32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}"
)
_STEERING |= {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): ""}


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
    print(f"termai-http: {message}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return a text as a terminal may have it: what would steer the terminal is shown as a sign."""
    return text.translate(_STEERING)


def forget_stdout() -> None:
    """Let nothing more be written: without this Python would complain of the rest at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
