"""The next target, where one does not answer: which failures go on, and the way down the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import attrs

from . import errors
from ._ambient import limit as ambient_limit
from ._failed_target import FailedTarget
from ._importing import importing
from ._options import CallOptions, Target
from ._retry import config_for
from ._secrets import without_lone_surrogates
from ._target import Account, provider_of
from ._values import Value
from .models import ChatRequest

if TYPE_CHECKING:
    from ._core import Core
    from ._job import Job

__all__ = ["Aim", "goes_on", "named", "targets_of", "walk"]

T = TypeVar("T")
# What says that a server, its account, or the way to it fails now, and nothing of the request.
_PASSING = (
    errors.APIConnectionError,
    errors.APITimeoutError,
    errors.CircuitOpenError,
    errors.ConflictError,
    errors.InternalServerError,
    errors.QuotaExceededError,
    errors.RateLimitError,
    errors.TruncatedResponse,
)
_REQUEST_TIMEOUT = 408
# Whoever holds a call back so that it does not begin too late leaves time for another target.
_HELD_BACK = "pacing"
_LEAST_USEFUL = 0.05
_NO_TIME = "No time was left to ask the other targets of fallback=."
# A server that is silent takes all of the time where nothing says otherwise.
_PATIENCE = " HttpClientConfig(read_timeout=...) keeps some for them."


def goes_on(error: errors.TermaiHttpError) -> bool:
    """Tell whether a failure of one target is a reason to ask the next; pure.

    It is where another server, account or way may do what this one could not. What is wrong with
    the request, or was wished by the caller, would be so everywhere; what is wrong with a key, a
    model's name or a base URL is told, since nobody would ever see it behind a good answer.
    """
    if isinstance(error, errors.DeadlineExceeded):
        return error.phase == _HELD_BACK
    if isinstance(error, errors.ResourceError):
        return False  # this process has no descriptor left, for no host
    return isinstance(error, _PASSING) or (
        isinstance(error, errors.APIStatusError) and error.status_code == _REQUEST_TIMEOUT
    )


@attrs.define(kw_only=True, eq=False, repr=False)
class Aim(Value):
    """What one target is asked, and as whom.

    Attributes:
        where: Its place in the list, for errors; ``""`` for the call's own.
        account: Whose key, base URL and organization are used where the options name none.
        request: The request, with the target's model.
        options: The options of the call, with the target's own in the place of the first one's.
    """

    where: str = ""
    account: Account
    request: ChatRequest
    options: CallOptions


def targets_of(
    account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> Iterator[Aim]:
    """Yield what each target is asked, the call's own first.

    Key, base URL, account and everything else that is meant for one server stays with the first.

    Raises:
        InvalidRequestError: The request is a vendor's own body, which no other one reads.
    """
    if not isinstance(request, ChatRequest):
        raise errors.InvalidRequestError(
            "fallback= needs a ChatRequest: a vendor's own body goes to that vendor only."
        )
    neutral = attrs.evolve(options, fallback=None)
    yield Aim(account=account, request=request, options=neutral)
    for index, entry in enumerate(options.fallback or ()):
        target = Target(entry) if isinstance(entry, str) else entry
        yield Aim(
            # Which goes before the model's name is checked, and must be one that can be printed.
            where=f"fallback[{index}] ({without_lone_surrogates(target.model)}): ",
            account=Account(provider=target.provider or provider_of(target.model)),
            request=attrs.evolve(request, model=target.model),
            options=attrs.evolve(neutral, **{name: getattr(target, name) for name in _OWN}),
        )


_OWN = tuple(field.name for field in attrs.fields(Target) if field.name != "model")


def named(error: errors.TermaiHttpError, aim: Aim | None) -> errors.TermaiHttpError:
    """Return the error of a target that cannot be asked, with its place in the list."""
    if aim is not None:
        error.message = aim.where + error.message
    return error


def walk(
    core: Core,
    jobs: Sequence[Job],
    timeout: float,
    send: Callable[[int, tuple[FailedTarget, ...], float], T | errors.TermaiHttpError],
) -> T | errors.TermaiHttpError:
    """Ask one target after the other, within one deadline and one attempt budget.

    Args:
        core: The client's.
        jobs: What each target is to do; time and policy of each are set here. The first one's
            ``started`` is the call's entry.
        timeout: Seconds for all.
        send: Makes the call of the target with a number, given those that failed before it and
            the seconds that they took.

    Returns:
        What the first target that answers gives; else the error of the last that was asked, which
        names the others.
    """
    now = core.clock.monotonic
    entered = jobs[0].started if jobs[0].started is not None else now()
    end = entered + timeout
    policies = [config_for(core.config, job.provider, job.retry) for job in jobs]
    attempts = max(policies[0].max_attempts, len(jobs))
    failed: tuple[FailedTarget, ...] = ()
    begun = entered
    for number, job in enumerate(jobs):
        later = len(jobs) - 1 - number
        most = max(1, min(policies[number].max_attempts, attempts - later))
        job.retry = policies[number].evolve(max_attempts=most)
        job.entered, job.started, job.timeout = entered, begun, end - begun
        result = send(number, failed, begun - entered)
        if not isinstance(result, errors.TermaiHttpError):
            return result
        error = result
        attempts -= error.attempts
        before, begun = begun, now()
        if not later or not goes_on(error):
            if later and isinstance(error, errors.DeadlineExceeded):
                _add(error, _NO_TIME + (_PATIENCE if error.phase == "headers" else ""))
            break
        if _last_instant(end) - begun < _LEAST_USEFUL:
            _add(error, _NO_TIME)
            break
        failed += (_failed(error, job, begun - before),)
        _log_step(failed[-1], jobs[number + 1])
    return _told(error, failed, before - entered)


def _last_instant(end: float) -> float:
    limit = ambient_limit()
    return end if limit is None else min(end, limit)


def _failed(error: errors.TermaiHttpError, job: Job, elapsed: float) -> FailedTarget:
    return FailedTarget(
        model=job.model or "",
        provider=job.provider or "",
        host=_host_of(job),
        error=type(error).__name__,
        message=error.message,
        status_code=error.status_code,
        request_id=error.request_id,
        attempts=error.attempts,
        elapsed=elapsed,
        maybe_billed=error.maybe_billed,
    )


def _host_of(job: Job) -> str:
    return urlsplit(job.url).netloc


def _log_step(failed: FailedTarget, following: Job) -> None:
    with importing():
        from ._log_events import tell_fallback
    tell_fallback(failed, following.model or "", _host_of(following))


def _told(
    error: errors.TermaiHttpError, failed: tuple[FailedTarget, ...], before: float
) -> errors.TermaiHttpError:
    """Say of a call's error what was asked before, and how long all took."""
    if error.elapsed is not None:
        error.elapsed += before
    if failed:
        error.fallbacks = failed
        error.maybe_billed = error.maybe_billed or any(one.maybe_billed for one in failed)
        _add(error, f"Asked before: {'; '.join(map(str, failed))}.")
    return error


def _add(error: errors.TermaiHttpError, sentence: str) -> None:
    error.message = f"{error.message.removesuffix('.')}. {sentence}"
