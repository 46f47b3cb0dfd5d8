"""What one batch is to do, and what keeps its results."""

from __future__ import annotations

import contextvars
import uuid
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import attrs

from ._batch_items import Items
from ._batch_threads import BatchToken
from ._batch_window import BatchItem
from ._core import Core
from ._options import CallOptions
from .errors import DeadlineExceeded, TermaiHttpError
from .models import ChatResponse

if TYPE_CHECKING:
    from ._batch_file import ResultFile
    from ._batch_task import Tasks

__all__ = ["Keep", "Plan", "new_name"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Plan:
    """What a batch is to do; every argument is checked.

    Attributes:
        items: What to ask, not read yet.
        shared: Makes requests of them.
        core: The client's.
        options: The options of every call, without a token.
        key_vendor: Whose key they have; None for whoever is asked.
        token: Ends all calls.
        context: The caller's.
        most: Calls at once.
        as_completed: Whether results are delivered as they are done.
        return_exceptions: Whether errors are delivered.
        total_timeout: Seconds for all; None for no limit.
        path: The results file; None for none.
        executor: Where the calls are made; None for threads of its own.
        tasks: Makes what travels to an executor.
    """

    items: Iterable[Any]
    shared: Items
    core: Core
    options: CallOptions
    key_vendor: str | None
    token: BatchToken
    context: contextvars.Context
    most: int
    as_completed: bool
    return_exceptions: bool
    total_timeout: float | None
    path: str | None
    executor: Executor | None
    tasks: Tasks | None


class Keep:
    """Puts results into the file, and remembers what went wrong with that."""

    def __init__(self, file: ResultFile, faults: list[BaseException]) -> None:
        self._file = file
        self._faults = faults

    def __call__(self, item: BatchItem, value: Any) -> None:
        if not isinstance(value, (ChatResponse, TermaiHttpError)):
            return
        if isinstance(value, DeadlineExceeded) and not value.maybe_billed:
            return  # not answered, and not sent: to ask it is missing
        try:
            self._file.append(item.number, item.id, item.digest, value)
        except Exception as error:
            self._faults.append(error)


def new_name() -> str:
    """Return a name that no other batch has, in whatever process."""
    return uuid.uuid4().hex
