"""The items of a batch on somebody else's executor: threads, processes, a Dask cluster."""

from __future__ import annotations

import concurrent.futures
import pickle
import queue
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ._batch_task import Here, Task, Tasks, carry_out, register, unregister
from ._batch_window import BatchItem, Value
from .errors import (
    APIConnectionError,
    CallCancelled,
    ConfigurationError,
    InvalidRequestError,
    TermaiHttpError,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    Future: TypeAlias = concurrent.futures.Future[Value]
    Keep: TypeAlias = Callable[[BatchItem, Value], None]

__all__ = ["ExecutorRunner", "check_executor"]

# What pickling says, on either side, of what it cannot take.
_UNPICKLED = (pickle.PickleError, TypeError, AttributeError)
_PICKLING = ("pickle", "local object", "serialize")
# Where a wait cannot be interrupted, as on Windows, Ctrl-C comes between two of these.
_NAP = 0.25
# So long nothing may come from an executor that says that it has nothing left.
_PATIENCE = 1.0
_AGAIN = "What was done is in .done; with output= a second run does only the rest."


def check_executor(executor: object) -> None:
    """Refuse what is no executor.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(executor, concurrent.futures.Executor):
        return
    hint = ""
    if callable(getattr(executor, "get_executor", None)):
        hint = " A Dask client gives one: executor=client.get_executor(pure=False)."
    raise ConfigurationError(
        f"executor must be a concurrent.futures.Executor, not {type(executor).__name__}.{hint}"
    )


class ExecutorRunner:
    """Carries out items on an executor, at most so many at once.

    For one thread, the one that reads the batch, and it submits in that one only: a callback of a
    future may run while the executor holds a lock of its own. The futures hold nothing of this.

    Args:
        executor: Where the calls are made.
        tasks: Makes what travels.
        here: What the calls use that are made in this process.
        most: How many are at the executor at once.
        left: Tells the seconds that the whole batch has left; None for no limit.
        keep: Puts what became of an item into the results file, in whatever thread it is told,
            at once: an interrupt may come before the batch is read on. None for none.
    """

    def __init__(
        self,
        executor: concurrent.futures.Executor,
        tasks: Tasks,
        here: Here,
        most: int,
        left: Callable[[], float | None],
        keep: Keep | None,
    ) -> None:
        self._executor = executor
        self._tasks = tasks
        self._here = here
        self._most = most
        self._left = left
        self._keep = keep
        self._waiting: deque[BatchItem] = deque()
        self._begun: dict[int, tuple[Future, Task, BatchItem]] = {}
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._values: dict[int, Value] = {}
        self._cancelled = False
        self._last: dict[int, Value] = {}
        self._quiet = 0.0
        register(tasks.batch, here)

    def submit(self, item: BatchItem) -> None:
        """Take an item, and begin it when fewer than ``most`` are begun.

        Raises:
            ConfigurationError: The executor is shut down.
            APIConnectionError: The executor is broken.
        """
        self._waiting.append(item)
        self._begin()

    def next_done(self, timeout: float | None) -> tuple[int, Value] | None:
        """Return a number and what became of it, the first that is done.

        None where ``timeout`` passed, or less: whoever waits asks again.

        Raises:
            ConfigurationError: The executor is shut down.
            APIConnectionError: The executor broke.
        """
        if not self._values:
            self._take(timeout)
        number = next(iter(self._values), None)
        return None if number is None else (number, self._handed_out(number))

    def done(self) -> Iterator[tuple[int, Value]]:
        """Yield what is done and was not returned, or was the last to be, whatever went wrong.

        An interrupt may have torn this at any instant, so it looks at the futures themselves.
        """
        for number, (future, _, _) in list(self._begun.items()):
            if future.done() and not future.cancelled() and future.exception() is None:
                self._values[number] = future.result()
        yield from {**self._last, **self._values}.items()

    def cancel(self) -> None:
        """End all calls of this process, and begin none that waits; another process ends its own.

        Takes no lock of ours and waits for nobody.
        """
        self._cancelled = True
        self._here.cancel.cancel()
        self._waiting.clear()
        for future, _, _ in list(self._begun.values()):
            future.cancel()

    def close(self) -> None:
        """Cancel what is left and forget the batch. The executor is its owner's to shut down."""
        self.cancel()
        unregister(self._tasks.batch)

    def _handed_out(self, number: int) -> Value:
        # In its new place before it leaves the old one, for ``done``.
        self._last = {number: self._values[number]}
        return self._values.pop(number)

    def _begin(self) -> None:
        while self._waiting and len(self._begun) < self._most:
            item = self._waiting.popleft()
            try:
                task = self._tasks.task(item.number, item.request, self._left())
            except TermaiHttpError as error:
                self._failed(item, error.with_traceback(None))
                continue
            try:
                future = self._executor.submit(carry_out, task)
            except Exception as error:
                # Dask pickles here, the others in a thread of theirs.
                if isinstance(error, RuntimeError) and "shutdown" in str(error):
                    raise _stopped(str(error)) from error
                self._failed(item, self._failure(error, task))
                continue
            self._begun[item.number] = future, task, item
            future.add_done_callback(partial(_tell, self._ended, item, self._keep))

    def _take(self, timeout: float | None) -> None:
        """Wait until something is done, and take it and all else that is."""
        seconds = _NAP if timeout is None else min(timeout, _NAP)
        try:
            number = self._ended.get(timeout=seconds)
            self._quiet = -seconds
            while True:
                if number in self._begun:
                    future, task, item = self._begun[number]
                    if (error := _error_of(future)) is None:
                        self._values[number] = future.result()
                    else:
                        self._failed(item, self._failure(error, task))
                    del self._begun[number]
                number = self._ended.get_nowait()
        except queue.Empty:
            self._quiet += seconds
        if self._quiet > _PATIENCE and self._begun and _is_over(self._executor):
            raise _stopped("it ended without a word on some items")
        self._begin()

    def _failed(self, item: BatchItem, error: TermaiHttpError) -> None:
        self._values[item.number] = error
        if self._keep is not None:
            self._keep(item, error)

    def _failure(self, error: BaseException, task: Task) -> TermaiHttpError:
        """Return an item's error, or raise that of all: what is not about one ends the batch."""
        if isinstance(error, _UNPICKLED) and any(word in str(error) for word in _PICKLING):
            return _cannot_travel(error, task)
        if type(error).__name__ == "KilledWorker":
            return _lost(error)
        if isinstance(error, concurrent.futures.CancelledError):
            if self._cancelled:
                return CallCancelled("The batch was ended before this item was begun.")
            raise _stopped("it cancelled an item") from error
        if isinstance(error, concurrent.futures.BrokenExecutor):
            raise _broken(error) from error
        if type(error).__name__ == "ClosedClientError":
            raise _stopped(str(error)) from error
        raise error


def _error_of(future: Future) -> BaseException | None:
    if future.cancelled():
        return concurrent.futures.CancelledError()
    return future.exception()


def _tell(
    ended: queue.SimpleQueue[int], item: BatchItem, keep: Keep | None, future: Future
) -> None:
    if keep is not None and _error_of(future) is None:
        keep(item, future.result())
    ended.put(item.number)


def _is_over(executor: Any) -> bool:
    """Tell whether Dask has nothing left of an executor: what it cancels at its end may be lost."""
    client = getattr(executor, "_client", None)
    if client is None or not (executor._shutdown or client.status == "closed"):
        return False
    return all(future.status != "pending" for future in list(executor._futures))


def _broken(error: BaseException) -> APIConnectionError:
    return APIConnectionError(
        f"The executor broke ({type(error).__name__}): one of its processes died, or could not "
        f"load the program (a script needs if __name__ == '__main__':). {_AGAIN}",
        maybe_billed=True,
    )


def _stopped(why: str) -> ConfigurationError:
    return ConfigurationError(f"The executor is shut down: {why.rstrip('.')}. {_AGAIN}")


def _lost(error: BaseException) -> APIConnectionError:
    """Say that each worker which took an item died: Dask gives an item up after some."""
    return APIConnectionError(
        "The workers that took this item died, one after the other: "
        f"{str(error).partition('. ')[0]}.",
        maybe_billed=True,
    )


def _cannot_travel(error: BaseException, task: Task) -> InvalidRequestError:
    try:
        pickle.dumps(task)
    except Exception:
        what, billed = "item cannot travel to", False
    else:
        what, billed = "reply cannot travel back from", True
    return InvalidRequestError(
        f"This {what} the executor's processes ({type(error).__name__}): what goes "
        "with it, output=, layers= and on_event= above all, must be plain data, or a class or "
        "function of a module's top level.",
        maybe_billed=billed,
    )
