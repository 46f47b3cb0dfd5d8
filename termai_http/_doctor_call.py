"""Two calls through the client itself: what the server answers, how long it takes, and reuse."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ._direct_check import direct_works
from ._doctor_advice import call_advice
from ._doctor_values import Check, milliseconds
from ._ordinary import find_pool_of
from ._target import BASE_URL_VARIABLES
from ._values import Value
from .config import RetryConfig, direct_allowed
from .errors import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    InvalidResponseError,
    RateLimitError,
    TermaiHttpError,
)

if TYPE_CHECKING:
    from ._client import Client

__all__ = ["BASE_URL_OPTION", "NO_KEY", "Endpoint", "call_checks", "path_check", "refused"]

_ONCE = RetryConfig(max_attempts=1)
# Only for a connection that turns out to be closed: nothing else is tried again.
_REPLAYED = RetryConfig(max_attempts=2, retry_on_status=frozenset(), ambiguous_retries=0)
# Any text shows whether the server answers.
NO_KEY = "no-key"
BASE_URL_OPTION = "--base-url"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Endpoint(Value):
    """Where the calls go.

    Attributes:
        part: The part that its checks belong to.
        provider: ``"openai"`` or ``"claude"``.
        base_url: Where the API lives, as it was given; None means the environment's or the vendor.
        url: Where the models are listed, as it may be shown.
        key_variable: The variable that holds the key; None where none is set.
        proxy_setting: What names the proxy; empty where there is none.
    """

    part: str
    provider: str
    base_url: str | None
    url: str
    key_variable: str | None
    proxy_setting: str = ""

    def advice(self, error: TermaiHttpError) -> str:
        """Return what to do about a call that failed."""
        given = BASE_URL_OPTION if self.base_url is not None else None
        return call_advice(
            error,
            provider=self.provider,
            url=self.url,
            base_url=given or BASE_URL_VARIABLES[self.provider],
            proxy_setting=self.proxy_setting,
        )


def call_checks(
    client: Client, endpoint: Endpoint, end: float, steps: Mapping[str, float]
) -> Iterator[Check]:
    """Yield what came of two calls for the list of models.

    Args:
        client: What they are made with.
        endpoint: Where they go.
        end: Monotonic instant that none outlives.
        steps: Seconds of the steps that open a connection, as they were measured.
    """
    check = functools.partial(Check, part=endpoint.part)
    first = _call(client, endpoint, end, _ONCE)
    yield _first_check(check, endpoint, first, steps)
    if first.status is None:
        yield check(name="reuse", state="skip", what="not tried: the first call got no answer")
        return
    before = client.stats()
    second = _call(client, endpoint, end, _REPLAYED)
    after = client.stats()
    if second.status is None:
        assert second.error is not None
        advice = endpoint.advice(second.error)
        what = f"the second call failed: {_told(second.error)}"
        yield check(name="reuse", state="fail", what=what, advice=advice, seconds=second.seconds)
        return
    opened, reused = after.opened - before.opened, after.reused - before.reused
    yield _reuse_check(check, opened, reused, second.seconds)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class _Outcome(Value):
    """What came of one call: a number of models, or an error; the status where there was one."""

    seconds: float
    models: int = 0
    error: TermaiHttpError | None = None

    @property
    def status(self) -> int | None:
        """The status of the answer; None where there was none."""
        return 200 if self.error is None else self.error.status_code


def _call(client: Client, endpoint: Endpoint, end: float, retry: RetryConfig) -> _Outcome:
    now = client._core.clock.monotonic
    begun = now()
    try:
        models = client.list_models(
            provider=endpoint.provider,
            base_url=endpoint.base_url,
            api_key=NO_KEY if endpoint.key_variable is None else None,
            timeout=max(end - begun, 0.1),
            retry=retry,
        )
    except TermaiHttpError as error:
        return _Outcome(seconds=now() - begun, error=error)
    return _Outcome(seconds=now() - begun, models=len(models))


def _first_check(
    check: Callable[..., Check], endpoint: Endpoint, outcome: _Outcome, steps: Mapping[str, float]
) -> Check:
    error, split = outcome.error, _split(outcome.seconds, steps)
    given: dict[str, Any] = {"name": "call", "seconds": outcome.seconds}
    if error is None:
        return check(state="ok", what=f"200, {outcome.models} models: {split}", **given)
    if isinstance(error, AuthenticationError) and endpoint.key_variable is None:
        return check(state="ok", what=f"401, as it has to be without a key: {split}", **given)
    if isinstance(error, RateLimitError):
        return check(state="warn", what=f"{_told(error)} ({split})", advice=error.hint, **given)
    advice = endpoint.advice(error)
    return check(state="fail", what=_told(error), advice=advice, **given)


def _told(error: TermaiHttpError) -> str:
    status = f"{error.status_code}, " if isinstance(error, APIStatusError) else ""
    if isinstance(error, InvalidResponseError) and error.status_code:
        status = f"{error.status_code}, but "
    return f"{status}{type(error).__name__}: {error.message}"


def _split(seconds: float, steps: Mapping[str, float]) -> str:
    """Tell what a call that opened a connection was spent on, the answer being what is left."""
    parts = {**steps, "answer": max(seconds - sum(steps.values()), 0.0)}
    return ", ".join(f"{name} {milliseconds(taken)}" for name, taken in parts.items())


def _reuse_check(check: Callable[..., Check], opened: int, reused: int, seconds: float) -> Check:
    given: dict[str, Any] = {"name": "reuse", "seconds": seconds}
    if opened:
        advice = "The server, or a proxy, closes each connection: every call pays for a new one."
        what = f"the second call opened a connection too ({opened} opened, {reused} reused)"
        return check(state="warn", what=what, advice=advice, **given)
    return check(state="ok", what="the second call used the first's connection", **given)


def path_check(client: Client, endpoint: Endpoint, url: str) -> Check:
    """Tell whether calls go the direct way, and where not, why; both ways work.

    Raises:
        ConfigurationError: ``TERMAI_HTTP_DIRECT`` is no flag, or the proxy cannot be used.
    """
    check = functools.partial(Check, part=endpoint.part, name="path", state="ok")
    transport = client._core.transport()
    if not direct_allowed(os.environ):
        reason: str | None = "TERMAI_HTTP_DIRECT is 0"
    elif find_pool_of(transport.session, transport._adapter, url) is None:
        reason = "the proxy is none that a tunnel leads through"
    else:
        reason = transport._stock.reason()
        if reason is None and not direct_works():
            reason = "the libraries here are not as it expects"
    if reason is None:
        return check(what="direct, past requests and urllib3")
    return check(what=f"through requests and urllib3: {reason}")


def refused(error: ConfigurationError) -> str:
    """Return what to do about a setting that cannot work."""
    return error.hint or "Correct the setting that the line above names."
