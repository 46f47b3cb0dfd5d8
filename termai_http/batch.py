"""``chat_many``: many chats at once, in order, bounded, and none of them lost."""

from __future__ import annotations

import contextvars
import inspect
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._batch_items import Items, check_items
from ._batch_plan import Plan, new_name
from ._batch_progress import BatchProgress, BatchSummary, Figures, check_progress
from ._batch_threads import BatchToken
from ._batch_work import Work, results
from ._core import Core
from ._frames import hiding
from ._importing import importing
from ._in_flight import CancelToken
from ._numbers import is_number, is_whole
from ._options import CallOptions
from ._target import KEY_VARIABLES
from .errors import ConfigurationError, InvalidRequestError, TermaiHttpError
from .models import ChatResponse

if TYPE_CHECKING:
    from ._batch_task import Tasks

__all__ = ["Batch", "BatchProgress", "BatchSummary", "batch_with"]

T = TypeVar("T")


class Batch(Generic[T]):
    """The results of ``chat_many()``, an iterator and a context manager.

    Work begins with the first ``next()``: items are read in the thread that iterates, and at most
    ``2 * max_workers`` of them are ahead of what was delivered. Whatever ends the iteration, the
    calls that still run are ended with it: an error, Ctrl-C, ``close()``, or that it is dropped.
    What is raised has ``done``, as this has.

    One thread at a time may iterate; ``close()`` is safe from any.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._results = results(work)

    def __iter__(self) -> Iterator[T]:
        return self._results

    @hiding
    def __next__(self) -> T:
        if self._waiting():
            raise ConfigurationError("Another thread is waiting for the next result of this batch.")
        return next(self._results)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        so_far = self.progress
        total = "" if so_far.total is None else f" of {so_far.total}"
        return f"<termai_http.Batch {so_far.done}{total} done>"

    @property
    def done(self) -> dict[int, ChatResponse]:
        """What is done, by the item's number, as far as it is still there.

        That is what has come and was not delivered, and what was delivered and is still held by
        somebody: ``list(chat_many(...))`` loses nothing, a loop that drops its replies keeps none.
        With ``return_exceptions=True`` the errors are there, too.
        """
        return self._work.done()

    @property
    def progress(self) -> BatchProgress:
        """How far it is."""
        return self._work.figures.progress()

    @hiding
    def run(self) -> BatchSummary:
        """Go through all items, keep no reply, and return what became of them.

        For ``output=``, and for calls that are made for their effect. Errors are counted and do
        not end it, whatever ``return_exceptions`` says. What was delivered before counts, too.

        Raises:
            ConfigurationError: The results file, or the executor, cannot be used.
            KeyboardInterrupt: Ctrl-C; ``progress`` tells how far it came.
        """
        self._work.sum_up()
        for _ in self._results:
            pass
        return self._work.figures.summary()

    @hiding
    def close(self) -> None:
        """End all calls and the iteration; waits at most half a second for the threads to end.

        In a thread that waits for a result ``CallCancelled`` is raised. Further calls change
        nothing.
        """
        self._work.close()
        if not self._waiting():
            self._results.close()

    def _waiting(self) -> bool:
        return inspect.getgeneratorstate(self._results) == inspect.GEN_RUNNING

    def __enter__(self) -> Batch[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def batch_with(on: Callable[[], Any], given: dict[str, Any]) -> Batch[Any] | BaseException:
    """Make a batch with a face's arguments as they were given.

    Args:
        on: Returns the client to make it on.
        given: The arguments, by name.

    Returns:
        The batch, or the exception in its place: only the face can clear its own arguments before
        it raises.
    """
    try:
        return _batch(on, given)
    except TermaiHttpError as error:
        return error.with_traceback(None)
    except BaseException as error:
        return error


def _batch(on: Callable[[], Any], given: dict[str, Any]) -> Batch[Any]:
    client = given.pop("self" if "self" in given else "client")
    items = check_items(given.pop("items"))
    most = _check_workers(given.pop("max_workers"))
    as_completed = _check_flag(given, "as_completed")
    return_exceptions = _check_flag(given, "return_exceptions")
    total_timeout = _check_seconds(given.pop("total_timeout"))
    progress = given.pop("progress")
    check_progress(progress)
    executor, key_variable = given.pop("executor"), given.pop("api_key_env")
    path = _path_of(given)
    shared = Items(given, travelling=executor is not None)
    cancel = _check_cancel(given.pop("cancel"))
    CallOptions(**given)
    _check_executor(executor)
    core, tasks = _core_of(on()), None
    key_vendor = _key_vendor(key_variable, given["provider"])
    if executor is not None:
        told = {**given, "cancel": cancel, "client": client}
        tasks = _tasks_of(core, told, key_variable, key_vendor)
    elif key_variable is not None:
        given["api_key"] = _key_of(key_variable, given["api_key"])
    token = BatchToken(cancel)
    plan = Plan(
        items=items,
        shared=shared,
        core=core,
        options=CallOptions(**given, cancel=token),
        key_vendor=key_vendor,
        token=token,
        context=contextvars.copy_context(),
        most=most,
        as_completed=as_completed,
        return_exceptions=return_exceptions,
        total_timeout=total_timeout,
        path=path,
        executor=executor,
        tasks=tasks,
    )
    return Batch(Work(plan, Figures(progress, core.clock)))


def _check_executor(executor: Any) -> None:
    if executor is not None:
        with importing():
            from ._batch_executor import check_executor
        check_executor(executor)


def _core_of(client: Any) -> Core:
    core = getattr(client, "_core", None)
    if not isinstance(core, Core):
        raise ConfigurationError(f"client must be a Client or None, not {type(client).__name__}.")
    return core


def _tasks_of(
    core: Core, told: dict[str, Any], variable: str | None, key_vendor: str | None
) -> Tasks:
    with importing():
        from ._batch_task import Tasks
    return Tasks.of(new_name(), core.config, told, variable, os.environ, key_vendor)


def _key_vendor(variable: str | None, provider: str | None) -> str | None:
    """Tell whose key a variable holds: items of another vendor must not be sent with it.

    Returns:
        The vendor whose own variable it is; None for a variable that is the caller's, or where
        ``provider=`` says that all items go to one.
    """
    if provider is not None:
        return None
    owners = [vendor for vendor, names in KEY_VARIABLES.items() if variable in names]
    return owners[0] if owners else None


def _key_of(variable: str, key: str | None) -> str:
    with importing():
        from ._batch_task import check_variable, key_in
    check_variable(variable)
    if key is not None:
        raise ConfigurationError("Give api_key= or api_key_env=, not both.")
    return key_in(variable, os.environ)


def _path_of(given: dict[str, Any]) -> str | None:
    """Take the path of the results file out of a face's arguments.

    ``output=`` is that of ``chat()``, a type or a schema; a path there is ``results=``.
    """
    path, output = given.pop("results"), given["output"]
    if isinstance(output, (str, bytes, os.PathLike)):
        if path is not None:
            raise InvalidRequestError(
                "With results= for the file, output= is what the replies shall be, a type or a "
                "JSON schema, and no path."
            )
        path, given["output"] = output, None
    if path is None:
        return None
    with importing():
        from ._batch_file import check_path
    return check_path(path)


def _check_workers(most: Any) -> int:
    if not is_whole(most, 1):
        raise ConfigurationError(f"max_workers must be a whole number of at least 1, not {most!r}.")
    return most


def _check_flag(given: dict[str, Any], name: str) -> bool:
    flag = given.pop(name)
    if not isinstance(flag, bool):
        raise ConfigurationError(f"{name} must be True or False, not {type(flag).__name__}.")
    return flag


def _check_cancel(cancel: Any) -> CancelToken | None:
    if cancel is not None and not isinstance(cancel, CancelToken):
        raise InvalidRequestError(f"cancel must be a CancelToken, not {type(cancel).__name__}.")
    return cancel


def _check_seconds(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if not is_number(seconds) or seconds <= 0:
        raise ConfigurationError(
            f"total_timeout must be a number of seconds above 0, or None, not {seconds!r}."
        )
    return float(seconds)
