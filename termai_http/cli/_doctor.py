"""The command ``termai-http doctor``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ._common import FAILED, OK, USAGE, add_command, forget, printable, say, seconds

if TYPE_CHECKING:
    from .._doctor import Check
    from ._common import Commands

__all__ = ["add", "rendered"]

_DESCRIPTION = """\
Look at everything between this machine and the vendors: versions, keys, proxy, CAs,
then name, connection, TLS and two calls for the list of models. It costs nothing, needs
no key, shows none, and says what to do about each failure.
"""
_EXAMPLES = """\
examples:
  termai-http doctor
  termai-http doctor --provider claude
  termai-http doctor --base-url http://127.0.0.1:11434/v1
  termai-http doctor --json | jq '.checks[] | select(.state == "fail")'

exit codes: 0 nothing failed, 1 something failed, 2 wrong usage
"""
_LEAST_WIDTH, _MOST_WIDTH = 60, 120
_NAME_WIDTH = 22
_UNBROKEN = "\N{NO-BREAK SPACE}ms"
_COLORS = {"ok": "32", "warn": "33", "fail": "1;31", "skip": "2"}


def add(commands: Commands) -> None:
    """Add the command."""
    doctor = add_command(
        commands,
        "doctor",
        "find out why calls fail, or are slow",
        usage="[--provider NAME] [--base-url URL] [options]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    add = doctor.add_argument
    add("--provider", choices=["openai", "claude"], help="look at this vendor only")
    add("--base-url", metavar="URL", help="where the API lives; with --provider's API, or OpenAI's")
    add(
        "--timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="most of it for each vendor; default 10",
    )
    add("--json", action="store_true", help="print one JSON object instead")
    doctor.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        return _examine(args)
    except BrokenPipeError:
        raise
    except OSError as error:
        forget(sys.stdout)
        say(f"cannot write what was found: {error.strerror}")
        return FAILED


def _examine(args: argparse.Namespace) -> int:
    from .._doctor import all_is_well, as_fields, examine
    from ..errors import ConfigurationError

    try:
        found = examine(provider=args.provider, base_url=args.base_url, timeout=args.timeout)
    except ConfigurationError as error:
        say(str(error))
        return USAGE
    if args.json:
        checks = list(found)
        answer = {"ok": all_is_well(checks), "checks": [as_fields(check) for check in checks]}
        print(json.dumps(answer))
        return OK if all_is_well(checks) else FAILED
    checks = []
    width = max(_LEAST_WIDTH, min(shutil.get_terminal_size().columns, _MOST_WIDTH))
    for check in found:
        if not checks or checks[-1].part != check.part:
            print(printable(("\n" if checks else "") + check.part), flush=True)
        checks.append(check)
        # As it is found: a server that hangs is seen to hang.
        print("\n".join(rendered(check, width, colored=_colored())), flush=True)
    print("\n" + _summary(checks))
    return OK if all_is_well(checks) else FAILED


def _colored() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def rendered(check: Check, width: int, *, colored: bool) -> Iterator[str]:
    """Yield the lines of one check.

    Args:
        check: What was found.
        width: Most characters of a line, where words allow it.
        colored: Whether the state may have a color.
    """
    from .._doctor import milliseconds

    state = f"{check.state:<4}"
    if colored:
        state = f"\x1b[{_COLORS[check.state]}m{state}\x1b[0m"
    taken = "" if check.seconds is None else f" ({milliseconds(check.seconds)})"
    indent = 7 + _NAME_WIDTH
    lines = _wrapped(printable(check.what) + taken, width - indent)
    yield f"  {state} {check.name:<{_NAME_WIDTH}}{lines[0]}"
    yield from (" " * indent + line for line in lines[1:])
    advice = _wrapped(f"-> {printable(check.advice)}", width - 7) if check.advice else []
    yield from (" " * 7 + line for line in advice)


def _wrapped(text: str, width: int) -> list[str]:
    # A path or an address is copied from here: it is never broken. Nor is a time.
    lines = textwrap.wrap(
        text.replace(" ms", _UNBROKEN), width, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_UNBROKEN, " ms") for line in lines] or [""]


def _summary(checks: list[Check]) -> str:
    failed = sum(check.state == "fail" for check in checks)
    odd = sum(check.state == "warn" for check in checks)
    if not failed and not odd:
        return "All is well."
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{odd} to look at"] if odd else []
    return f"{', '.join(parts)}; what to do stands behind each arrow."
