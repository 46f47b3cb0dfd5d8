"""The items of a batch on threads of this process, which end with it."""

from __future__ import annotations

import contextvars
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from ._batch_window import BatchItem, Value
from ._call import Call
from ._chat import send_chat
from ._core import Core
from ._frames import hide_locals
from ._in_flight import CancelToken
from ._log import log
from ._options import PROVIDERS, CallOptions
from ._target import Account, provider_of
from .errors import CallCancelled, DeadlineExceeded

if TYPE_CHECKING:
    from typing import TypeAlias

    Jobs: TypeAlias = queue.SimpleQueue[BatchItem | None]
    Keep: TypeAlias = Callable[[BatchItem, Value], None]

__all__ = ["BatchToken", "Carrier", "ThreadRunner", "too_late"]

_ACCOUNTS = {provider: Account(provider=provider) for provider in PROVIDERS}
# Windows does not interrupt a wait: there Ctrl-C comes between two of these.
_NAP = 0.25 if sys.platform == "win32" else None


class BatchToken(CancelToken):
    """Ends the calls of a batch, as does the token that the caller gave.

    Args:
        outer: The caller's; None for none.
    """

    def __init__(self, outer: CancelToken | None = None) -> None:
        super().__init__()
        self._outer = outer

    @property
    def cancelled(self) -> bool:
        """Whether either of the two was cancelled."""
        return self._cancelled or (self._outer is not None and self._outer.cancelled)

    def join(self, call: Call) -> None:
        """Take a call in; one that comes late is interrupted at once."""
        super().join(call)
        if self._outer is not None:
            self._outer.join(call)

    def leave(self, call: Call) -> None:
        """Forget a call that ended."""
        super().leave(call)
        if self._outer is not None:
            self._outer.leave(call)


def too_late(seconds: float) -> DeadlineExceeded:
    """Return the error of an item that the time of the batch does not reach."""
    return DeadlineExceeded(
        f"The total_timeout of {seconds:g} s passed before this item was sent.", phase="wait"
    )


class Carrier:
    """Makes the call of an item, in whatever thread it is asked to. Safe from any.

    Args:
        core: The client's.
        options: The options of every call, the token of the batch among them.
        key_vendor: Whose key they have: others get their own; None for whoever is asked.
        context: The context of the caller; each call runs in a copy of it.
        token: The token of the batch.
        end: Monotonic instant, and the seconds up to it, that the batch has; None for no limit.
        keep: Puts a result into the results file; None for none.
    """

    def __init__(
        self,
        core: Core,
        options: CallOptions,
        key_vendor: str | None,
        context: contextvars.Context,
        token: CancelToken,
        end: tuple[float, float] | None,
        keep: Keep | None,
    ) -> None:
        self._core = core
        self._options = options
        self._key_vendor = key_vendor
        self._without_key = attrs.evolve(options, api_key=None)
        self._context = context
        self._token = token
        self._end = end
        self._keep = keep

    def __call__(self, item: BatchItem) -> Value:
        """Return the reply, or the error in its place."""
        if self._token.cancelled:
            return CallCancelled("The batch was ended before this item was sent.", phase="wait")
        if self._end is not None and self._core.clock.monotonic() >= self._end[0]:
            return too_late(self._end[1])
        value = self._context.copy().run(self._ask, item)
        if self._keep is not None:
            self._keep(item, value)
        return value

    def _ask(self, item: BatchItem) -> Value:
        request, options = item.request, self._options
        account = _ACCOUNTS[options.provider or provider_of(request.model)]
        if self._key_vendor not in (None, account.provider):
            options = self._without_key
        return send_chat(self._core, account, request, options)


class ThreadRunner:
    """Carries out items in daemon threads, which are begun as items come.

    The threads hold nothing of the batch but what they write to, so that one that is dropped ends
    them; a ``ThreadPoolExecutor``'s would be waited for at exit, whatever Ctrl-C says.

    Args:
        carry: Makes the call of an item.
        token: Ends all calls.
        most: How many threads there are, at most.
    """

    def __init__(self, carry: Callable[[BatchItem], Value], token: CancelToken, most: int) -> None:
        self._carry = carry
        self._token = token
        self._most = most
        self._jobs: Jobs = queue.SimpleQueue()
        self._told: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._values: dict[int, Any] = {}
        self._returned: int | None = None
        self._open = 0
        self._threads: list[threading.Thread] = []

    def submit(self, item: BatchItem) -> None:
        """Take an item; begins a thread where all are at work."""
        self._jobs.put(item)
        self._open += 1
        if len(self._threads) < min(self._open, self._most):
            self._hire()

    def next_done(self, timeout: float | None) -> tuple[int, Any] | None:
        """Return a number and what became of it, in the order in which they ended."""
        if self._returned is not None:
            del self._values[self._returned]
            self._returned = None
        try:
            if timeout == 0:
                number = self._told.get_nowait()
            else:
                seconds = timeout if _NAP is None else min(timeout or _NAP, _NAP)
                number = self._told.get(timeout=seconds)
        except queue.Empty:
            return None
        # It stays until the next call, for ``done``: an interrupt may lose what is on its way.
        self._returned = number
        self._open -= 1
        return number, self._values[number]

    def done(self) -> Iterator[tuple[int, Any]]:
        """Yield what is done and was not returned, or was the last to be."""
        yield from self._values.copy().items()

    def cancel(self) -> None:
        """End the calls that run; those that wait are not made."""
        self._token.cancel()

    def close(self) -> None:
        """Cancel what is left and send the threads home."""
        self._token.cancel()
        self._jobs.put(None)

    def join(self, seconds: float) -> None:
        """Wait until the threads ended, at most so long."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))

    def _hire(self) -> None:
        thread = threading.Thread(
            target=_work,
            args=(self._jobs, self._told, self._values, self._carry),
            name=f"termai-http-batch-{len(self._threads) + 1}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                raise
            log.warning("A batch goes on with %d workers: %s", len(self._threads), error)
            self._most = len(self._threads)
        else:
            self._threads.append(thread)


def _work(
    jobs: Jobs,
    told: queue.SimpleQueue[int],
    values: dict[int, Any],
    carry: Callable[[BatchItem], Value],
) -> None:
    while (item := jobs.get()) is not None:
        number = item.number
        try:
            values[number] = carry(item)
        except BaseException as error:
            # Not of ours: of a hook, or of a tool in the place of the session. Without this frame,
            # which runs on.
            step = error.__traceback__
            values[number] = hide_locals(error.with_traceback(step and step.tb_next))
        del item
        told.put(number)
    jobs.put(None)
