"""Lines for a script: what calls did, on stderr or wherever the program's logs go."""

from __future__ import annotations

import logging
import sys
import threading

from ._described import described
from ._fork import take_part
from ._importing import importing
from ._log import log
from ._numbers import is_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .events import Event

__all__ = ["configure_logging"]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Begun:
    """Whether the lines were asked for, and the lock around that."""

    def __init__(self) -> None:
        self.handler: logging.Handler | None = None
        self.start_over()
        take_part(self)

    def locks(self) -> list[Any]:
        """Return the lock that a fork takes."""
        return [self.lock]

    def start_over(self) -> None:
        """Make it anew in the child."""
        self.lock = threading.Lock()


_begun = _Begun()


@described
def configure_logging(level: int | str = "INFO") -> None:
    """Show what this package's calls do, for a script without logging of its own.

    Writes lines to stderr, as it is when a line is written. Where the program has given the root
    logger handlers, before or later, the lines go to those alone, in the program's own format.
    A second call only changes the level. Safe from any thread. A process that is spawned calls it
    itself; a forked one keeps it.

    A line names vendor, model, status, request id, times and tokens, and never a key or a prompt.

    Args:
        level: ``"DEBUG"`` has a line for every event, ``"INFO"`` one for every call,
            ``"WARNING"`` those that failed and what was tried again, ``"ERROR"`` next to nothing;
            or a number of ``logging``.

    Raises:
        ConfigurationError: ``level`` is none.
    """
    checked = _checked(level)
    with importing():
        from .events import Listeners
    with _begun.lock:
        if _begun.handler is None:
            _begun.handler = _made_handler()
            log.addHandler(_begun.handler)
            Listeners.hear_all(_tell_failure)
    log.setLevel(checked)


def _checked(level: object) -> int:
    name = level.strip().upper() if isinstance(level, str) else None
    if name in _LEVELS:
        number = logging.getLevelName(name)
        assert isinstance(number, int)
        return number
    if is_whole(level, 0):
        return level
    with importing():
        from .errors import ConfigurationError
    raise ConfigurationError(
        f"level must be {', '.join(_LEVELS)}, or a number of logging, not {level!r}."
    )


def _made_handler() -> logging.Handler:
    handler = _Stderr()
    handler.setFormatter(_Line(_FORMAT, "%H:%M:%S"))
    return handler


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr as it is then; silent where the program has handlers of its own."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """Where lines go; a notebook and a test put another in its place."""
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, above the bars of ``progress=True`` and other ones of tqdm's."""
        bar = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
        if bar is None or not getattr(bar, "_instances", None):
            super().emit(record)
            return
        with bar.external_write_mode(file=self.stream):
            super().emit(record)

    def filter(self, record: logging.LogRecord) -> Any:
        """Leave a record to the root's handlers where there are some."""
        shown = log.propagate and logging.getLogger().handlers
        # Without a console, as pythonw.exe is, there is no stderr.
        return False if shown or sys.stderr is None else super().filter(record)


class _Line(logging.Formatter):
    """Keeps to what can be printed: a server's words must not steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def _tell_failure(event: Event) -> None:
    """Say what failed where the level has no line for a call: those that have one hear more."""
    if not log.isEnabledFor(logging.INFO):
        with importing():
            from ._log_events import tell
        tell(event)
