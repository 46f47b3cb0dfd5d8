"""The command ``termai-http batch``: a file of prompts to a file of replies."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from ._common import (
    FAILED,
    FALLBACK,
    INTERRUPTED,
    OK,
    USAGE,
    add_command,
    printable,
    say,
    tell,
    told,
)

if TYPE_CHECKING:
    from ..batch import Batch, BatchProgress
    from ._common import Commands

__all__ = ["add", "may_mend"]

AGAIN = 75
_REQUEST_TIMEOUT = 408
_OPTIONS = (
    *("model", "system", "max_tokens", "reasoning", "timeout", "total_timeout"),
    *("base_url", "provider", "api", "api_version", "fallback"),
)
# What fails so fails for every line; after so many of nothing else, the rest is not sent.
_HOPELESS = (
    *("AuthenticationError", "ConfigurationError", "MissingKeyError", "NotFoundError"),
    *("PermissionDeniedError", "QuotaExceededError", "TLSError"),
)
_ENOUGH = 10
_MOST_TOLD = 5
_BROKEN = "of a broken line"
_SECONDS_BETWEEN = 0.5
_CLEAR_LINE = "\r\x1b[K"

_DESCRIPTION = """\
Ask a model every line of a file, many at once, and append each answer to another file
as it comes. Killed or interrupted, it goes on with --resume, and asks only for what is
missing.
"""
_EXAMPLES = """\
input, JSON Lines; "-" is stdin:
  "Why is the sky blue?"
  {"id": "b", "prompt": "Why is grass green?", "system": "One sentence.", "max_tokens": 99}
  {"id": 3, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
  What a line says itself wins over the options; other fields go to the vendor as they are.

output, JSON Lines, in the order of the answers; index counts the lines from 0, blank
ones left out:
  {"index": 1, "digest": "9c1e…", "id": "b", "text": "Chlorophyll.", "model": "gpt-5.5", …}
  {"index": 2, "digest": "41d0…", "id": 3, "error": {"type": "RateLimitError", …}}

examples:
  termai-http batch prompts.jsonl answers.jsonl -m gpt-5.5 -j 64
  termai-http batch prompts.jsonl answers.jsonl -m gpt-5.5 -j 64 --resume
  jq -c '{id, prompt: .question}' faq.json | termai-http batch - answers.jsonl -m claude-opus-5-5
  jq -r 'select(.error) | [.index, .error.type, .error.message] | @tsv' answers.jsonl

exit codes: 0 all answered; 1 some failed, and a rerun does not help; 2 wrong usage or
configuration; 75 some failed in a way that a rerun with --resume may mend (rate limits,
timeouts, overload, connections); 130 interrupted, go on with --resume
"""


def add(commands: Commands) -> None:
    """Add the command."""
    batch = add_command(
        commands,
        "batch",
        "ask a model every line of a file",
        usage="INPUT OUTPUT [-m MODEL] [-j N] [--resume] [options]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    add = batch.add_argument
    add("input", metavar="INPUT", help='file of prompts, one a line; "-" reads stdin')
    add("output", metavar="OUTPUT", help="file that the answers are appended to")
    add("-m", "--model", help="the model of lines that name none; default TERMAI_HTTP_MODEL")
    add("-j", "--jobs", type=_count, default=16, metavar="N", help="calls at once; default 16")
    add("--resume", action="store_true", help="ask only for what OUTPUT has no answer to yet")
    add("-s", "--system", help="instructions that stand before each prompt")
    add("--fallback", action="append", metavar="MODEL", help=FALLBACK)
    add("--max-tokens", type=int, metavar="N", help="most tokens of an answer")
    add("--reasoning", metavar="EFFORT", help='how much to think first, "none" to "max"')
    add("--timeout", type=float, metavar="SECONDS", help="for each call; default 120")
    add("--total-timeout", type=float, metavar="SECONDS", help="for all; default none")
    add("--base-url", metavar="URL", help="where the API lives")
    add("--provider", choices=["openai", "claude"], help="default: by the model's name")
    add("--api", choices=["chat", "responses"], help="which of OpenAI's; default chat")
    add("--api-version", metavar="VERSION", help="anthropic-version; default 2023-06-01")
    add("-q", "--quiet", action="store_true", help="no bar and no summary")
    batch.set_defaults(run=_run)


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (count := int(text)) >= 1:
            return count
    raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")


def _run(args: argparse.Namespace) -> int:
    from .._shared import close
    from ..errors import ConfigurationError, InvalidRequestError

    was_there = os.path.exists(args.output)
    try:
        _refuse_what_is_there(args)
        with _opened(args.input) as file:
            return _Job(args, file).run()
    except (ConfigurationError, InvalidRequestError) as error:
        say(told(error))
        if not was_there:
            _remove_if_empty(args.output)
        return USAGE
    finally:
        close()


def _refuse_what_is_there(args: argparse.Namespace) -> None:
    from ..errors import ConfigurationError

    if args.output == "-":
        raise ConfigurationError(
            "OUTPUT must be a file: answers are appended to it, and --resume finds them there."
        )
    if _is_its_own_input(args):
        raise ConfigurationError(f"{args.output} is the input, too: name another file for answers.")
    if args.resume:
        return
    with contextlib.suppress(OSError):
        if os.path.getsize(args.output) and os.path.isfile(args.output):
            raise ConfigurationError(
                f"{args.output} exists already. To ask only for what is missing in it add "
                "--resume; else name another file."
            )


def _remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        if os.path.isfile(path) and not os.path.getsize(path):
            os.unlink(path)


def _is_its_own_input(args: argparse.Namespace) -> bool:
    with contextlib.suppress(OSError, ValueError):
        there = os.stat(args.output)
        given = os.fstat(sys.stdin.fileno()) if args.input == "-" else os.stat(args.input)
        return stat.S_ISREG(there.st_mode) and os.path.samestat(there, given)
    return False


def _opened(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
    from ..errors import ConfigurationError

    if path == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no such path"
        raise ConfigurationError(f"The input {path} cannot be read: {why}.") from None


def may_mend(error: Exception) -> bool:
    """Tell whether a rerun may mend a failure: a limit of rate or time, overload, a connection."""
    from .. import errors as e

    if isinstance(error, (e.TLSError, e.QuotaExceededError)):
        return False
    passing = (e.APIConnectionError, e.APITimeoutError, e.RateLimitError, e.InternalServerError)
    rare = (e.ConflictError, e.TruncatedResponse, e.StreamInterrupted, e.CircuitOpenError)
    status = getattr(error, "status_code", None)
    return isinstance(error, (*passing, *rare)) or status == _REQUEST_TIMEOUT


class _Job:
    """One run of the command."""

    def __init__(self, args: argparse.Namespace, file: BinaryIO) -> None:
        from ._batch_input import Lines

        self._args = args
        self._live = not args.quiet and sys.stderr.isatty()
        self._lines = Lines(file, args.model, self._tell, self._check_key, counted=self._live)
        self._failures: Counter[str] = Counter()
        self._mendable = False
        self._next_show = 0.0

    def run(self) -> int:
        """Do it, and return the exit code."""
        from .._shared_batch import chat_many
        from ..errors import DeadlineExceeded

        args = self._args
        batch = chat_many(
            self._lines,
            **{name: getattr(args, name) for name in _OPTIONS},
            output=args.output,
            max_workers=args.jobs,
            as_completed=True,
            return_exceptions=True,
            progress=self._progress(),
        )
        try:
            why = self._go_through(batch)
        except KeyboardInterrupt:
            self._sum_up(batch.progress, "interrupted: ")
            say("--resume goes on where this ended")
            return INTERRUPTED
        except DeadlineExceeded as error:
            # Those that were read are told; this is about the rest of the input.
            self._sum_up(batch.progress, "stopped: ")
            say(f"{error.message} --resume goes on where this ended")
            return AGAIN
        except OSError as error:
            self._sum_up(batch.progress, "stopped: ")
            say(f"{error.filename or args.input}: {error.strerror}")
            return FAILED
        self._sum_up(batch.progress, "stopped: " if why else "")
        if why is not None:
            say(f"the first {_ENOUGH} calls failed alike, so the rest was not sent: {why}")
            return FAILED
        if self._mendable:
            say("a rerun with --resume asks the failed ones again")
            return AGAIN
        return FAILED if batch.progress.failed else OK

    def _check_key(self) -> None:
        """Refuse to begin without the keys that the options need, once a line has no model."""
        from .._fallback import targets_of
        from .._options import CallOptions
        from .._request import model_or_default
        from .._shared import client
        from .._target import Account, provider_of, resolve
        from ..errors import InvalidRequestError
        from ..models import ChatRequest

        args = self._args
        with contextlib.suppress(InvalidRequestError):
            model = model_or_default(args.model)
            names = ("base_url", "provider", "api", "api_version", "fallback")
            options = CallOptions(**{name: getattr(args, name) for name in names})
            account = Account(provider=args.provider or provider_of(model))
            allow_http = client().config.allow_http
            for aim in targets_of(account, ChatRequest(model, "Hello"), options):
                resolve(aim.account, aim.options, os.environ, allow_http=allow_http)

    def _go_through(self, batch: Batch[Any]) -> str | None:
        """Go through all; returns why not where that has no use."""
        # As ``run()``: what is in the file already is not read again only to be thrown away.
        batch._work.sum_up()
        for index, value in batch:
            if not isinstance(value, Exception):
                continue
            kind = self._note(index, value)
            hopeless = kind in _HOPELESS and self._failures[kind] >= _ENOUGH
            if hopeless and not (batch.progress.succeeded or batch.progress.skipped):
                batch.close()
                return f"{kind}: {value}"
        return None

    def _note(self, index: int, error: Any) -> str:
        """Count a failure, and tell it unless it is one of many."""
        line, kind = self._lines.line_of(index), type(error).__name__
        if error.message.startswith(f"line {line}: "):
            # It was told when it was read.
            self._failures[_BROKEN] += 1
            return _BROKEN
        self._failures[kind] += 1
        self._mendable = self._mendable or may_mend(error)
        if self._failures[kind] <= _MOST_TOLD:
            last = " (more of these are not shown)" if self._failures[kind] == _MOST_TOLD else ""
            self._tell(f"line {line}: {kind}: {told(error)}{last}")
        return kind

    def _progress(self) -> bool | Callable[[BatchProgress], None]:
        if not self._live:
            return False
        # Whoever has no tqdm gets a line that says the same.
        return self._show if importlib.util.find_spec("tqdm") is None else True

    def _show(self, so_far: BatchProgress) -> None:
        now = time.monotonic()
        if now < self._next_show:
            return
        self._next_show = now + _SECONDS_BETWEEN
        total = "" if so_far.total is None else f" of {so_far.total}"
        parts = [f"{so_far.done}{total} done", f"{so_far.rate:.1f}/s"]
        parts += [f"{so_far.input_tokens + so_far.output_tokens} tokens"]
        parts += [f"{so_far.retries} retries"] if so_far.retries else []
        parts += [f"{so_far.failed} failed"] if so_far.failed else []
        tell(f"{_CLEAR_LINE}{', '.join(parts)}")

    def _sum_up(self, so_far: BatchProgress, begin: str) -> None:
        if self._live:
            tell(_CLEAR_LINE)
        if self._args.quiet:
            return
        parts = [f"{so_far.succeeded} answered"]
        if self._failures:
            # Those that were told: others may have come while the job was ended.
            kinds = ", ".join(f"{count} {kind}" for kind, count in self._failures.most_common())
            parts.append(f"{self._failures.total()} failed ({kinds})")
        parts += [f"{so_far.skipped} there before"] if so_far.skipped else []
        tokens = f"{so_far.input_tokens} tokens in, {so_far.output_tokens} out"
        retries = f", {so_far.retries} retries" if so_far.retries else ""
        say(f"{begin}{', '.join(parts)}; {tokens}{retries}, {so_far.elapsed:.1f} s")

    def _tell(self, message: str) -> None:
        if self._live:
            # Over the bar, which is drawn anew below.
            tell(_CLEAR_LINE)
        say(printable(message))
