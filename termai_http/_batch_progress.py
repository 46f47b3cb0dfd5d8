"""How far a batch is: the figures, a bar of tqdm, a function that is told."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ._call import Clock
from ._importing import importing
from ._values import Value
from .errors import ConfigurationError
from .models import ChatResponse

__all__ = ["BatchProgress", "BatchSummary", "Figures", "check_progress"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BatchProgress(Value):
    """How far a batch is.

    Attributes:
        total: Items there are; None while that is not known, as of a generator.
        succeeded: Items that got a reply.
        failed: Items that got an error.
        skipped: Items whose reply was in the results file already.
        input_tokens: Tokens read for the replies that came.
        output_tokens: Tokens written for them.
        retries: Attempts beyond the first of each call.
        elapsed: Seconds since the first ``next()``.
    """

    total: int | None
    succeeded: int
    failed: int
    skipped: int
    input_tokens: int
    output_tokens: int
    retries: int
    elapsed: float

    @property
    def done(self) -> int:
        """Items that are done, whatever became of them."""
        return self.succeeded + self.failed + self.skipped

    @property
    def rate(self) -> float:
        """Items asked for a second, on average; without those that were skipped."""
        return (self.succeeded + self.failed) / self.elapsed if self.elapsed else 0.0


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BatchSummary(BatchProgress):
    """What became of a batch.

    Attributes:
        failures: How many items failed, by the name of the error's class.
    """

    failures: Mapping[str, int]


def check_progress(progress: Any) -> None:
    """Refuse what can show no progress.

    Raises:
        ConfigurationError: It is neither True, False, None nor a function, or tqdm is missing.
    """
    if progress is True:
        _bar_class()
    elif progress is not None and progress is not False and not callable(progress):
        raise ConfigurationError(
            "progress must be True, False, or a function that takes a BatchProgress, "
            f"not {type(progress).__name__}."
        )


class Figures:
    """Counts what became of the items. Not for two threads at once.

    Args:
        progress: True for a bar, a function that is told of each item, or False.
        clock: Time.
    """

    def __init__(self, progress: bool | Callable[[BatchProgress], object] | None, clock: Clock):
        self._progress = progress
        self._clock = clock
        self._tell: Callable[[BatchProgress], object] | None = None
        self._bar: Any = None
        self._started: float | None = None
        self._ended: float | None = None
        self.total: int | None = None
        self.succeeded = self.failed = self.skipped = 0
        self._input_tokens = self._output_tokens = self._retries = 0
        self._failures: Counter[str] = Counter()

    def begin(self, total: int | None) -> None:
        """Begin the time, and the bar."""
        self._started = self._clock.monotonic()
        self.total = total
        if self._progress is True:
            self._bar = _bar_class()(total=total, unit="call", dynamic_ncols=True)
        elif callable(self._progress):
            self._tell = self._progress

    def note(self, value: Any) -> None:
        """Count what became of an item."""
        usage = getattr(value, "usage", None)
        if usage is not None:
            self._input_tokens += usage.input_tokens
            self._output_tokens += usage.output_tokens
        if isinstance(value, ChatResponse):
            self.succeeded += 1
        else:
            self.failed += 1
            self._failures[type(value).__name__] += 1
        attempts = getattr(value, "attempts", 1)
        if attempts > 1:
            self._retries += attempts - 1
        self._show()

    def skip(self) -> None:
        """Count an item that was done before."""
        self.skipped += 1
        self._show()

    def progress(self) -> BatchProgress:
        """Return the figures of now."""
        return BatchProgress(**self._figures())

    def summary(self) -> BatchSummary:
        """Return the figures of now, with how many failed of what."""
        return BatchSummary(failures=dict(self._failures.most_common()), **self._figures())

    def end(self) -> None:
        """End the time, and the bar, which stays with what it showed last."""
        if self._ended is None and self._started is not None:
            self._ended = self._clock.monotonic()
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def _figures(self) -> dict[str, Any]:
        now = self._clock.monotonic() if self._ended is None else self._ended
        return {
            "total": self.total,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "skipped": self.skipped,
            "input_tokens": self._input_tokens,
            "output_tokens": self._output_tokens,
            "retries": self._retries,
            "elapsed": 0.0 if self._started is None else now - self._started,
        }

    def _show(self) -> None:
        if self._tell is not None:
            self._tell(self.progress())
        elif self._bar is not None:
            self._bar.set_postfix_str(self._beside_the_bar(), refresh=False)
            self._bar.update(1)

    def _beside_the_bar(self) -> str:
        parts = [f"{_short(self._input_tokens + self._output_tokens)} tokens"]
        parts += [f"{self._retries} retries"] if self._retries else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.skipped} done before"] if self.skipped else []
        return ", ".join(parts)


def _short(number: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _bar_class() -> Any:
    """Return a class of tqdm: of widgets in a notebook that has them, else of text on stderr.

    Raises:
        ConfigurationError: tqdm is not installed.
    """
    with importing():
        try:
            from tqdm import std as bars
        except ImportError:
            raise ConfigurationError(
                'progress=True needs tqdm: pip install "termai-http[progress]". A function needs '
                "nothing: progress=lambda so_far: print(so_far.done)."
            ) from None
        chosen: Any = bars.tqdm
        if _in_a_notebook():
            from tqdm import notebook

            chosen = notebook.tqdm
    # Without the thread that tqdm begins with its first bar, and never ends.
    return type("tqdm", (chosen,), {"monitor_interval": 0})


def _in_a_notebook() -> bool:
    """Tell whether a kernel runs this, and has what widgets need: without, tqdm only warns."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return False
    return importlib.util.find_spec("ipywidgets") is not None
