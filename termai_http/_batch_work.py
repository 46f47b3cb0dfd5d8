"""One batch at work: what is read, what runs, what is done, and how all of it ends."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ._batch_plan import Keep, Plan
from ._batch_progress import Figures
from ._batch_threads import Carrier, ThreadRunner, too_late
from ._batch_time import BatchTime
from ._batch_window import BatchItem, Runner
from ._frames import hide_locals
from ._importing import importing
from ._log import log
from .errors import CallCancelled, ConfigurationError, DeadlineExceeded, TermaiHttpError
from .models import ChatResponse

if TYPE_CHECKING:
    from ._batch_digest import Digester
    from ._batch_file import ResultFile
    from ._batch_proof import Proof

__all__ = ["Work", "results"]

# So long past the end of all, a call that did not end by itself is given up.
_GRACE = 0.3
_PATIENCE = 0.3
_BRISK = 0.005


class Work:
    """The state of one batch. One thread at a time advances it.

    Args:
        plan: What to do.
        figures: Counts what became of the items.
    """

    def __init__(self, plan: Plan, figures: Figures) -> None:
        self._plan = plan
        self.figures = figures
        self._summing = False
        self._in_order = not plan.as_completed
        self._process = 0
        self._closed = False
        self._items: Iterator[Any] | None = None
        self._room = 2 * plan.most
        self._read = self._delivered = 0
        # Submitted and not done; done and not delivered, and these in the order they ended.
        self._open: dict[int, BatchItem] = {}
        self._values: dict[int, Any] = {}
        self._ready: deque[int] = deque()
        self._held: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._done: dict[int, Any] | None = None
        self._failing = False
        self._faults: list[BaseException] = []
        self._time = BatchTime(plan.total_timeout, plan.core.clock, plan.token, plan.context)
        self._unread: TermaiHttpError | None = None
        self._runner: Runner | None = None
        self._file: ResultFile | None = None
        self._digester: Digester | None = None
        self._proof: Proof | None = None

    def sum_up(self) -> None:
        """From now on deliver errors, too, in whatever order; what is in the file is counted."""
        self._summing, self._in_order = True, False
        self._ready = deque(self._values)
        self._failing = False

    def begin(self) -> None:
        """Begin, in the thread that asks for the first result."""
        plan = self._plan
        self._process = os.getpid()
        if self._closed:
            raise CallCancelled("The batch was closed.")
        self._time.begin()
        if plan.path is not None:
            with importing():
                from ._batch_digest import Digester
                from ._batch_file import ResultFile
                from ._batch_proof import Proof
            self._file = ResultFile(plan.path)
            self._digester = Digester(plan.options)
            self._proof = Proof(self._file)
        self._runner = self._hire()
        self.figures.begin(_length(plan.items))
        self._items = iter(plan.items)

    def _hire(self) -> Runner:
        plan = self._plan
        keep = None if self._file is None else Keep(self._file, self._faults)
        if plan.executor is None:
            carry = Carrier(
                plan.core,
                plan.options,
                plan.key_vendor,
                plan.context,
                plan.token,
                self._time.end,
                keep,
            )
            return ThreadRunner(carry, plan.token, plan.most)
        with importing():
            from ._batch_executor import ExecutorRunner
            from ._batch_task import Here
        assert plan.tasks is not None
        here = Here(plan.core, plan.token, plan.context)
        return ExecutorRunner(
            plan.executor, plan.tasks, here, plan.most, self._time.left_of_calls, keep
        )

    def advance(self) -> int | None:
        """Return the number of the next item to deliver; None where none is left."""
        if self._process != os.getpid():
            raise ConfigurationError(
                "This batch was begun in the process that forked this one, and goes on there. Call "
                "chat_many() here for a batch of its own."
            )
        self._read_more()
        while True:
            self._drain(0.0)
            if self._faults:
                raise self._faults[0]
            number = self._next()
            if number is not None:
                return number
            if self._closed:
                raise CallCancelled("The batch was closed while it was read.")
            if not self._open:
                if self._unread is not None:
                    raise self._unread
                return None
            self._wait()

    def deliver(self, number: int) -> Any:
        """Return what became of an item, or raise it."""
        value = self._values[number]
        if type(value) is BatchItem:
            value = self._stored(value)
        plan = self._plan
        if isinstance(value, BaseException):
            told = isinstance(value, TermaiHttpError)
            if not told or not (plan.return_exceptions or self._summing):
                del self._values[number]
                raise _of_item(number, value)
        if not self._summing:
            self._held[number] = value
        self._delivered += 1
        # Last, and nothing after it that an interrupt may tear: until then it is not delivered.
        del self._values[number]
        return (number, value) if plan.as_completed else value

    def close(self) -> None:
        """End all calls, from any thread; whoever waits for a result gets an error."""
        self._closed = True
        self._plan.token.cancel()
        runner = self._runner
        if runner is not None and self._process == os.getpid():
            runner.cancel()

    def end(self, error: BaseException | None) -> None:
        """Let go of all, and give an error what is done; further calls change nothing."""
        if self._process != os.getpid():
            # The calls, the threads and the file are the parent's.
            self._done = {}
        else:
            self._stop(error)
        if error is not None and not isinstance(error, GeneratorExit):
            error.done = self.done()  # type: ignore[attr-defined]

    def _stop(self, error: BaseException | None) -> None:
        runner, self._items = self._runner, None
        dropped = isinstance(error, GeneratorExit) and not self._closed
        if runner is not None:
            runner.close()
            if not dropped and isinstance(runner, ThreadRunner):
                self._wait_for(runner, error)
        if error is not None:
            self._done = self.done()
        self._runner = None
        self.figures.end()
        # A finalizer must not wait for the lock of the file, whose own finalizer closes it.
        file, self._file = self._file, None
        if file is not None and not dropped:
            file.close()
        self._values.clear()

    def _wait_for(self, runner: ThreadRunner, error: BaseException | None) -> None:
        try:
            runner.join(_PATIENCE)
        except KeyboardInterrupt:
            # The second one, of somebody who does not want to wait.
            if error is None:
                raise

    def done(self) -> dict[int, Any]:
        """Return what is done, by number, as far as it is still there."""
        if self._done is not None:
            return dict(self._done)
        found: dict[int, Any] = dict(self._held)
        runner = self._runner
        waiting = [*self._values.copy().items(), *(() if runner is None else runner.done())]
        for number, value in waiting:
            if type(value) is BatchItem:
                value = self._stored(value)
            as_value = self._plan.return_exceptions and isinstance(value, TermaiHttpError)
            if isinstance(value, ChatResponse) or as_value:
                found[number] = value
        return dict(sorted(found.items()))

    def _stored(self, item: BatchItem) -> Any:
        assert self._file is not None
        try:
            return self._file.read(item.number, item.request)
        except TermaiHttpError as error:
            return error.with_traceback(None)

    def _next(self) -> int | None:
        if self._in_order:
            return self._delivered if self._delivered in self._values else None
        return self._ready.popleft() if self._ready else None

    def _read_more(self) -> None:
        """Read ahead, at least one item where there is room.

        Where a result waits to be delivered only what keeps the workers busy is read, and only as
        long as that takes no time that anybody notices: an iterator may wait for its items, what
        is no list.
        """
        clock = self._plan.core.clock
        at_hand = isinstance(self._plan.items, (list, tuple))
        until = math.inf if at_hand else clock.monotonic() + _BRISK
        while not self._failing and self._read - self._delivered < self._room:
            if self._items is None or self._closed:
                return
            if not at_hand and self._time.is_over():
                self._items, self._unread = None, self._time.cut_short(self._read)
                return
            try:
                given = next(self._items)
            except StopIteration:
                self._end_reading()
                return
            number, self._read = self._read, self._read + 1
            self._take_in(number, given)
            del given
            self._drain(0.0)
            waits = self._delivered in self._values if self._in_order else bool(self._ready)
            if waits and (len(self._open) >= self._plan.most or clock.monotonic() > until):
                return
        if self._proof is not None and self._read - self._delivered >= self._room:
            self._send_all(self._proof.give_up())

    def _end_reading(self) -> None:
        self._items = None
        if self.figures.total is None:
            self.figures.total = self._read
        if self._proof is not None:
            self._send_all(self._proof.give_up())
        if self._file is not None and (more := self._file.replies_from(self._read)):
            log.warning("%s has %d results more than there are items.", self._file.path, more)

    def _take_in(self, number: int, given: Any) -> None:
        item = self._plan.shared.item(number, given)
        if isinstance(item, tuple):
            error, own = item
            if self._file is not None:
                self._file.append(number, own, 0, error)
            self._settle(number, error)
            return
        file = self._file
        if file is not None and self._digester is not None and self._proof is not None:
            item.digest = self._digester.of(item.request, item.id)
            if file.found(number, item.digest):
                self._send_all(self._proof.find())
                self._skip(item)
                return
            if self._proof.keeps_back(item):
                return
        self._send_all([item])

    def _send_all(self, items: list[BatchItem]) -> None:
        for item in items:
            if (left := self._time.left()) is not None and left <= 0:
                assert self._time.end is not None
                self._settle(item.number, too_late(self._time.end[1]))
                continue
            self._open[item.number] = item
            assert self._runner is not None
            self._runner.submit(item)

    def _skip(self, item: BatchItem) -> None:
        self.figures.skip()
        if self._summing:
            self._delivered += 1
        else:
            self._put(item.number, item)

    def _settle(self, number: int, value: Any) -> None:
        """Take what became of an item."""
        self._put(number, value)
        if isinstance(value, BaseException) and not self._plan.return_exceptions:
            # What stands before it is still delivered; more is not begun.
            self._failing = not self._summing or not isinstance(value, TermaiHttpError)
        self.figures.note(value)

    def _put(self, number: int, value: Any) -> None:
        self._values[number] = value
        if not self._in_order:
            self._ready.append(number)

    def _drain(self, timeout: float | None) -> None:
        """Take all that is done; wait for the first so long."""
        runner = self._runner
        if runner is None:
            return
        while (ended := runner.next_done(timeout)) is not None:
            timeout = 0.0
            number, value = ended
            item = self._open.pop(number, None)
            if item is None:
                continue  # it was given up
            self._settle(number, value)

    def _wait(self) -> None:
        left = self._time.left()
        if left is None:
            self._drain(None)
            return
        self._drain(max(left + _GRACE, 0.0))
        left = self._time.left()
        if left is not None and left < -_GRACE:
            self._give_up()

    def _give_up(self) -> None:
        """Do not wait for what did not end in time, as a look-up of a name, or another process."""
        assert self._time.end is not None
        for number in list(self._open):
            del self._open[number]
            error = DeadlineExceeded(
                f"The total_timeout of {self._time.end[1]:g} s passed before this item was done.",
                maybe_billed=True,
            )
            self._settle(number, error)
        if self._runner is not None:
            self._runner.cancel()


def results(work: Work) -> Generator[Any, None, None]:
    """Yield what becomes of the items.

    A generator, since an interrupt between two results comes where it can be caught, and since one
    that is dropped is closed. When it ends by an exception its frame holds nothing of the batch.
    """
    failure: BaseException | None = None
    try:
        work.begin()
        while (number := work.advance()) is not None:
            yield work.deliver(number)
        work.end(None)
    except BaseException as error:
        failure = hide_locals(error)
    if failure is not None:
        work.end(failure)
        del work
        if not isinstance(failure, GeneratorExit):
            raise failure


def _of_item(number: int, error: BaseException) -> BaseException:
    if isinstance(error, TermaiHttpError) and not error.message.startswith("Item "):
        error.message = f"Item {number}: {error.message}"
    return error


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except TypeError:
        return None
