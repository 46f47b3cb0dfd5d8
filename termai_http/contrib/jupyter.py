"""IPython and Jupyter: ``%load_ext termai_http`` adds the magics ``%%chat`` and ``%chat``.

Values show themselves without it: a ``ChatResponse`` as Markdown, ``stats()`` and ``client()`` as
tables with plots. A model's text is untrusted: its HTML is shown and not obeyed, its images are
not fetched, and of its links only those to the web and to mail are links.
"""

from __future__ import annotations

import functools
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._conversation import Conversation
from .._importing import importing
from .._shared import chat, stream
from .._stream import SILENCE
from ..errors import ConfigurationError, TermaiHttpError
from ._jupyter_line import LineError, expanded, help_text, parse_cell, parse_line
from ._jupyter_live import INTERVAL, Live, Printed, Shown, plain

if TYPE_CHECKING:
    from .._stream import Stream
    from ..models import ChatResponse

__all__ = ["load_ipython_extension", "show", "unload_ipython_extension"]

_MAGIC = "chat"
_TEXTS = ("model", "system", "base_url", "reasoning")
_OPTIONS = (*_TEXTS, "max_tokens", "timeout", "provider", "api")
_QUESTION = re.compile(r"%chat\s.*\?\s*$")
# What stood in the place of the magics, by shell, for the end.
_BEFORE = "_termai_http_before"


def load_ipython_extension(shell: Any) -> None:
    """Add ``%%chat`` and ``%chat``; ``%load_ext termai_http`` calls it.

    Args:
        shell: The ``InteractiveShell``.
    """
    magics = shell.magics_manager.magics
    if getattr(shell, _BEFORE, None) is None:
        setattr(shell, _BEFORE, {kind: magics[kind].get(_MAGIC) for kind in ("line", "cell")})

    def magic(line: str, cell: str | None = None) -> None:
        _run(shell, line, cell)

    magic.__doc__ = help_text()
    with importing():
        from IPython.core.magic import no_var_expand
    if _keep_questions not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(_keep_questions)
    # The braces and dollars of a prompt are text, unless --expand asks for variables.
    shell.register_magic_function(no_var_expand(magic), "line_cell", _MAGIC)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away again; ``%unload_ext termai_http`` calls it."""
    if _keep_questions in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(_keep_questions)
    before = getattr(shell, _BEFORE, None) or {}
    setattr(shell, _BEFORE, None)
    for kind, magic in before.items():
        shell.magics_manager.magics[kind].pop(_MAGIC, None)
        if magic is not None:
            shell.magics_manager.magics[kind][_MAGIC] = magic


def _keep_questions(lines: list[str]) -> list[str]:
    """Let the prompt of ``%chat`` end in a question mark, to IPython a wish for help."""
    if lines and lines[0].startswith("%%"):
        return lines
    return [_called(line) if _QUESTION.match(line) else line for line in lines]


def _called(line: str) -> str:
    return f"get_ipython().run_line_magic({_MAGIC!r}, {line[len(_MAGIC) + 1 :].strip()!r})\n"


def show(reply: Stream) -> ChatResponse:
    """Show a stream while it is written, and return its whole reply.

    In a notebook as Markdown, in one output that is updated in place, at most ten times a second;
    in a terminal as text. The thread that calls it reads the stream. Where it ends early, by an
    error or the stop button, what came stays shown and the connection is closed.

    Args:
        reply: A ``Stream``, of ``stream()`` or a ``Conversation``.

    Raises:
        ConfigurationError: IPython is not installed, or this is no session of it.
        TermaiHttpError: As reading the stream; ``StreamInterrupted`` where it broke.
    """
    return _shown(reply, _shell())


def _shell() -> Any:
    try:
        with importing():
            from IPython import get_ipython
    except ImportError as error:
        raise ConfigurationError(
            'IPython is not installed: pip install "termai-http[jupyter]".'
        ) from error
    shell = get_ipython()
    if shell is None:
        raise ConfigurationError("show() needs a session of IPython or a notebook.")
    return shell


def _shown(reply: Stream, shell: Any) -> ChatResponse:
    live = _live(shell)
    with reply:
        try:
            while (piece := reply.next_within(INTERVAL, texts=True)) is not None:
                live.grew(lambda: reply.text, by_more=piece is not SILENCE)
        finally:
            live.ended(reply)
    if reply.response is None:
        raise TermaiHttpError("The stream was closed before its end.")
    return reply.response


def _live(shell: Any) -> Live | Printed:
    if getattr(shell, "kernel", None) is None:
        return Printed(_write)
    return Live(_display())


def _display() -> Callable[..., Any]:
    with importing():
        from IPython.display import display
    return display


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _run(shell: Any, line: str, cell: str | None) -> None:
    """Carry out the magic: its errors are shown in one line each, as the cell's failure."""
    failure: BaseException
    try:
        return _ask(shell, line, cell)
    except LineError as error:
        with importing():
            from IPython.core.error import UsageError
        failure = UsageError(f"%chat: {error}" if cell is None else f"%%chat: {error}")
    except TermaiHttpError as error:
        failure = _in_a_line(error, str(error), shell)
    except KeyboardInterrupt as error:
        failure = _in_a_line(error, "The call was stopped, and its connection closed.", shell)
    # Without the frames that it came through: they hold the prompt.
    raise failure.with_traceback(None) from None


def _in_a_line(error: BaseException, message: str, shell: Any) -> BaseException:
    """Have IPython show an error without its traceback, which would only show our own code."""
    name = type(error).__name__
    if str(getattr(shell, "colors", "")).lower() != "nocolor":
        name = f"\x1b[31m{name}\x1b[39m"
    error._render_traceback_ = functools.partial(_lines, f"{name}: {plain(message)}")  # type: ignore[attr-defined]
    return error


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _ask(shell: Any, line: str, cell: str | None) -> None:
    args, prompt = parse_line(line) if cell is None else (parse_cell(line), cell.strip("\n"))
    if args.help:
        _write(help_text())
        return
    variables = shell.user_ns
    if args.expand:
        prompt = expanded(prompt, variables)
    if not prompt.strip():
        raise LineError("There is no prompt.")
    options = _options(args, variables)
    ask, open_stream = chat, stream
    if args.conversation:
        talk = _conversation(args, options, variables)
        ask, open_stream = talk.ask, talk.stream
    if args.stream:
        reply = _shown(open_stream(prompt, **options), shell)
    else:
        reply = ask(prompt, **options)
        _display()(Shown.of(reply))
    if args.out:
        shell.push({args.out: reply}, interactive=True)
    if args.conversation:
        shell.push({args.conversation: talk}, interactive=True)


def _options(args: Namespace, variables: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the call; those not given are left out."""
    for name in _TEXTS:
        given = getattr(args, name)
        if given and given[0] == "{" and given[-1] == "}" and given[1:-1].isidentifier():
            setattr(args, name, expanded(given, variables))
    given = {name: getattr(args, name) for name in _OPTIONS}
    options = {**dict(args.param), **{name: one for name, one in given.items() if one is not None}}
    if args.client:
        if args.client not in variables:
            raise LineError(f"There is no variable {args.client!r}.")
        options["client"] = variables[args.client]
    return options


def _conversation(
    args: Namespace, options: dict[str, Any], variables: dict[str, Any]
) -> Conversation:
    talk = variables.get(args.conversation)
    if talk is None:
        return Conversation(options.get("model"), system=options.get("system"))
    if not isinstance(talk, Conversation):
        raise LineError(f"{args.conversation} is a {type(talk).__name__}, and no Conversation.")
    return talk
