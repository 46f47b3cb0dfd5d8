"""The line of ``%%chat``: its options, and what of it is the prompt."""

from __future__ import annotations

import argparse
import functools
import io
import json
import keyword
import shlex
import string
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["LineError", "expanded", "help_text", "parse_cell", "parse_line"]

_DESCRIPTION = """\
Ask a model, and show its reply as Markdown.

%%chat sends what stands below its line, %chat the rest of the line itself. The key comes from
OPENAI_API_KEY, or ANTHROPIC_API_KEY for claude models; a notebook is no place for one.
%chat --help shows this.
"""
_EXAMPLES = """\
examples:
  %%chat -m gpt-5.5 --stream
  Why is the sky blue?

  %%chat -m claude-opus-5-5 -o reply --system "One sentence."
  Why is the sky blue?

  %chat -m gpt-5.5 -e Translate into French: {reply}

An option that is wholly {name} is that variable: --system {instructions}.
"""

# Options of ``chat()``; a key would stand in the notebook.
_OURS = frozenset(
    {
        *("api", "api_key", "api_version", "base_url", "cancel", "client", "extra_headers"),
        *("extra_query", "max_tokens", "model", "provider", "reasoning", "retry"),
        *("rollout_key", "system", "timeout", "tools"),
    }
)


class LineError(Exception):
    """The line cannot be understood; the message says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LineError(message)


@functools.cache
def _parser() -> _Parser:
    parser = _Parser(
        prog="%%chat",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    for flags, how in _options():
        parser.add_argument(*flags.split(), **how)
    return parser


def _options() -> list[tuple[str, dict[str, Any]]]:
    switch = {"action": "store_true"}
    return [
        ("-m --model", {"help": "the model; default TERMAI_HTTP_MODEL"}),
        ("-o --out", _variable("a variable for the ChatResponse")),
        ("--stream", {**switch, "help": "show the reply while it is written"}),
        ("-s --system", {"metavar": "TEXT", "help": "instructions that stand before the prompt"}),
        (
            "-c --conversation",
            _variable("a variable with a Conversation to go on with; made where there is none"),
        ),
        ("--max-tokens", {"type": int, "metavar": "N", "help": "most tokens to generate"}),
        ("--timeout", {"type": float, "metavar": "SECONDS", "help": "for the whole call"}),
        (
            "-p --param",
            {
                "action": "append",
                "type": _param,
                "default": [],
                "metavar": "NAME=VALUE",
                "help": "a parameter of the vendor's, its value JSON or text: temperature=0.2",
            },
        ),
        ("--reasoning", {"metavar": "EFFORT", "help": 'how much to think first, "none" to "max"'}),
        ("--base-url", {"metavar": "URL", "help": "where the API lives"}),
        ("--provider", {"choices": ["openai", "claude"], "help": "default: by the model's name"}),
        ("--api", {"choices": ["chat", "responses"], "help": "which of OpenAI's; default chat"}),
        ("--client", _variable("a variable with the Client to use")),
        (
            "-e --expand",
            {**switch, "help": "put variables in place of {name} in the prompt; {{ is a brace"},
        ),
        ("-h --help", {**switch, "help": "show this text"}),
    ]


def _variable(what: str) -> dict[str, Any]:
    return {"type": _name, "metavar": "NAME", "help": what}


def _name(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a variable")
    return text


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    if name in _OURS:
        raise argparse.ArgumentTypeError(
            f"{name} is no parameter of the vendor's: it is an option, or belongs to a client"
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def help_text() -> str:
    """Return what ``%%chat --help`` and ``%%chat?`` show."""
    return _parser().format_help()


def parse_cell(line: str) -> argparse.Namespace:
    """Return the options of a ``%%chat`` line, which has no prompt in it.

    Raises:
        LineError: It has something else.
    """
    words, rest = _split(line)
    # First: the value of an option with a slip of the pen looks like a prompt.
    args = _parser().parse_args(words)
    if rest:
        raise LineError("The prompt of %%chat stands below its line; %chat takes it in the line.")
    return args


def parse_line(line: str) -> tuple[argparse.Namespace, str]:
    """Return the options that a ``%chat`` line begins with, and its prompt, quotes and all.

    Raises:
        LineError: An option is unknown or wrong.
    """
    words, prompt = _split(line)
    return _parser().parse_args(words), prompt


def _split(line: str) -> tuple[list[str], str]:
    """Cut a line after its options: what follows is text, in which a quote may stand alone."""
    stream = io.StringIO(line)
    lexer = shlex.shlex(stream, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    while True:
        rest = line[stream.tell() :].strip()
        if not rest.startswith("-") or rest.split(maxsplit=1)[0] == "-":
            return words, rest
        try:
            word = lexer.get_token() or ""
            if word == "--":
                return words, line[stream.tell() :].strip()
            words.append(word)
            if _takes_value(word) and (value := lexer.get_token()) is not None:
                words.append(value)
        except ValueError as error:
            raise LineError(f"{error}; an option's text with a quote in it needs quotes") from None


def _takes_value(word: str) -> bool:
    actions = {flag: one for one in _parser()._actions for flag in one.option_strings}
    return word in actions and actions[word].nargs != 0


class _Formatter(string.Formatter):
    """Puts variables, their attributes and items in; unlike an f-string it evaluates nothing."""

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        if not isinstance(key, str) or not key:
            raise LineError("{} has no name of a variable in it; write {{ for a brace.")
        if key not in kwargs:
            raise LineError(f"There is no variable {key!r}; write {{{{ for a brace.")
        return kwargs[key]


def expanded(text: str, variables: Mapping[str, Any]) -> str:
    """Put the values of variables in place of ``{name}``.

    Raises:
        LineError: There is no such variable, or a brace stands alone.
    """
    try:
        return _Formatter().vformat(text, (), variables)
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise LineError(f"{error}; write {{{{ for a brace.") from None
