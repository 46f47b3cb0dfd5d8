"""The conversation of ``termai-http chat`` on a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._conversation import Conversation
from .._faces import ask_with, chat_request
from .._fallback import named, targets_of
from .._options import CallOptions
from .._request import encode_body, with_specs
from .._shared import client
from .._target import Account, resolve
from ..errors import ConfigurationError, TermaiHttpError
from ._common import OK, say
from ._show import show_reply, show_stream

if TYPE_CHECKING:
    from .._core import Core
    from ..models import ChatRequest

__all__ = ["converse"]

_PROMPT = "> "
_HELP = """\
  /new   forget what was said and begin again
  /exit  end; so do Ctrl-D and, at the prompt, Ctrl-C
  Ctrl-C while an answer comes stops it; what came of it stays in the conversation."""


def converse(options: Mapping[str, Any], *, streaming: bool) -> int:
    """Converse until the user ends it, and return the exit code.

    An answer that is stopped, or that breaks, stays in the conversation as far as it came, since
    the user saw it and may go on from there. Where nothing of it came, the question is forgotten.

    Args:
        options: The options of each call, by name.
        streaming: Whether answers are printed as they are written.

    Raises:
        ConfigurationError: No call could work: key, URL or a setting is wrong.
        InvalidRequestError: The same of the options.
    """
    _try_out(options)
    with contextlib.suppress(ImportError):
        # With it input() has a history and can be edited; Windows brings its own.
        import readline  # noqa: F401
    talk = _begin(options)
    say("/help tells what there is, Ctrl-D ends")
    # Between an answer and the prompt an interrupt is one at the prompt.
    with contextlib.suppress(KeyboardInterrupt):
        while (line := _read_line()) is not None:
            word = line.strip().lower()
            if word == "/exit":
                return OK
            if word == "/new":
                talk = _begin(options)
                say("a new conversation")
            elif word == "/help":
                print(_HELP, file=sys.stderr)
            elif re.fullmatch(r"/[a-z]+", word):
                say(f"there is no {word}; /help tells what there is")
            elif word:
                _ask(talk, line, streaming)
        return OK
    print(file=sys.stderr)
    return OK


def _begin(options: Mapping[str, Any]) -> Conversation:
    return Conversation(**options)


def _try_out(options: Mapping[str, Any]) -> None:
    """Do all of a call but send it: nobody shall type a question for nothing."""

    def prepare(
        core: Core, account: Account, request: ChatRequest, options: CallOptions
    ) -> TermaiHttpError | None:
        aim, allow_http = None, core.config.allow_http
        try:
            for aim in targets_of(account, with_specs(request), options):
                target = resolve(aim.account, aim.options, os.environ, allow_http=allow_http)
                encode_body(target, aim.request, aim.options)
        except TermaiHttpError as error:
            return named(error, aim)
        return None

    given = {"client": None, "prompt": "Hello", "params": {}, **options}
    given |= dict.fromkeys(("tools", "output", "stop"))
    outcome = ask_with(client, given, chat_request, prepare)
    if isinstance(outcome, BaseException):
        raise outcome


def _read_line() -> str | None:
    """Return what the user says; None where nothing comes any more."""
    while True:
        try:
            return input(_PROMPT)
        except EOFError:
            print(file=sys.stderr)
            return None
        except UnicodeDecodeError:
            say(f"this is no text in {sys.stdin.encoding}")


def _ask(talk: Conversation, question: str, streaming: bool) -> None:
    """Ask, print the answer, and say what becomes of one that did not come whole."""
    before, pieces = len(talk), None
    try:
        if streaming:
            pieces = talk.stream(question)
            show_stream(pieces)
        else:
            show_reply(talk.ask(question))
        return
    except KeyboardInterrupt:
        what = "stopped"
    except ConfigurationError:
        raise
    except TermaiHttpError as error:
        what = f"{type(error).__name__}: {error}"
    came = pieces.text if pieces is not None else ""
    if len(talk) > before:
        say(what)
    elif came.strip():
        turns = ({"role": "user", "content": question}, {"role": "assistant", "content": came})
        talk.extend(turns)
        say(f"{what} (what came stays in the conversation)")
    else:
        say(f"{what} (the question is forgotten)")
