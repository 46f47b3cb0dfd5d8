"""The command ``termai-http demo``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ._common import OK, add_command

if TYPE_CHECKING:
    from ._common import Commands

__all__ = ["add"]

_TEXT = """\
Needs no key and no network. Makes one call in each dialect against a loopback
server, then calls from 32 threads with some 429s and 503s among them: once with a
client a call, once with the shared client, and prints both side by side.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    demo = add_command(
        commands,
        "demo",
        "show what a shared client saves",
        usage="",
        description=_TEXT,
        epilog="example:\n  termai-http demo",
    )
    demo.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from .._demo import run

    run()
    return OK
