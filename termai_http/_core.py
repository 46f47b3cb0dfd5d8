"""What the calls of one client share: configuration, transport, metrics, listeners."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from . import errors, events
from ._attempts import Outcome, make_attempts
from ._call import AttemptLimits, Call, CancelToken, Clock
from ._retry import config_for
from .config import HttpClientConfig, RetryConfig, pooling_override
from .metrics import CallRecord, HttpMetrics

if TYPE_CHECKING:
    import requests

    from ._transport import Transport

__all__ = ["Core", "Job"]

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Job:
    """What one call is to do, decided before it begins.

    Attributes:
        method: HTTP method.
        url: Where it goes.
        headers: Its headers, those that authenticate included.
        body: Its encoded body; None for none.
        query: Query parameters to add.
        provider: The vendor, None for a request of ``RequestHandler``.
        model: The model asked for.
        timeout: Seconds for the whole call; None means the client's.
        retry: Its own policy; None means the client's.
        cancel: A ``CancelToken``.
    """

    method: str = "POST"
    url: str
    headers: dict[str, str] = attrs.field(repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)
    query: dict[str, object] | None = attrs.field(default=None, repr=False)
    provider: str | None = None
    model: str | None = None
    timeout: float | None = None
    retry: RetryConfig | None = None
    cancel: CancelToken | None = None


class Core:
    """The shared parts of one client. Safe from any thread.

    Args:
        config: The client's configuration.
        clock: Time and chance.
    """

    def __init__(self, config: HttpClientConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.metrics = HttpMetrics()
        self.listeners = events.Listeners()
        override = pooling_override(os.environ)
        self._pooling = config.pooling if override is None else override
        self._limits = AttemptLimits(
            connect_timeout=config.connect_timeout, read_timeout=config.read_timeout
        )
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._closed

    @property
    def begun(self) -> Transport | None:
        """The transport, None where nothing needed it yet."""
        return self._transport

    def transport(self) -> Transport:
        """Return the transport, made on first use.

        Raises:
            ClientClosed: The client was closed.
            ConfigurationError: A CA bundle or client certificate cannot be loaded.
        """
        transport = self._transport
        if transport is not None and not self._closed:
            return transport
        with self._lock:
            if self._closed:
                raise errors.ClientClosed("This client is closed.")
            if self._transport is None:
                from ._transport import Transport

                self._transport = Transport(self.config, self.clock)
            return self._transport

    def close(self) -> None:
        """Refuse new calls and close the idle connections; calls that run end by themselves."""
        with self._lock:
            self._closed = True
            transport = self._transport
        if transport is not None:
            transport.close()

    def run(
        self, job: Job, read: Callable[[requests.Response, Call], T | errors.TermaiHttpError]
    ) -> Outcome[T]:
        """Carry out one call, and count it.

        Args:
            job: What to do.
            read: Turns an answer into the call's value, or the error it stands for.
        """
        call = Call(
            self.config.timeout if job.timeout is None else job.timeout,
            self.clock,
            job.provider,
            job.model,
        )
        try:
            transport = self.transport()
        except errors.TermaiHttpError as error:
            return Outcome(error=_described(error, call))
        outcome: Outcome[T] | None = None
        self.metrics.begin()
        try:
            if job.cancel is not None:
                job.cancel.join(call)
            outcome = self._attempt(job, call, transport, read)
        finally:
            if job.cancel is not None:
                job.cancel.leave(call)
            self.metrics.end(_record(call, outcome))
        return outcome

    def _attempt(
        self,
        job: Job,
        call: Call,
        transport: Transport,
        read: Callable[[requests.Response, Call], T | errors.TermaiHttpError],
    ) -> Outcome[T]:
        if self.listeners:
            self.listeners.emit(
                events.CallStarted(call_id=call.number, provider=call.provider, model=call.model)
            )
        pooled = self._pooling >= 1.0 or self.clock.uniform(0.0, 1.0) < self._pooling
        headers = job.headers if pooled else {**job.headers, "Connection": "close"}
        outcome = make_attempts(
            transport,
            transport.prepare(job.method, job.url, headers, job.body, job.query),
            call,
            policy=config_for(self.config, job.provider, job.retry),
            limits=self._limits,
            pooled=pooled,
            read=lambda response: read(response, call),
            listeners=self.listeners,
        )
        if outcome.error is not None:
            _described(outcome.error, call)
        if self.listeners:
            self._tell_end(call, outcome)
        return outcome

    def _tell_end(self, call: Call, outcome: Outcome[T]) -> None:
        who: dict[str, Any] = {
            "call_id": call.number,
            "provider": call.provider,
            "model": call.model,
        }
        error, response = outcome.error, outcome.response
        if error is not None:
            self.listeners.emit(
                events.CallFailed(
                    error=type(error).__name__,
                    status_code=error.status_code,
                    request_id=error.request_id,
                    attempts=call.attempts,
                    elapsed=call.elapsed(),
                    **who,
                )
            )
        elif response is not None:
            headers = response.headers
            self.listeners.emit(
                events.CallSucceeded(
                    status_code=response.status_code,
                    request_id=headers.get("x-request-id") or headers.get("request-id"),
                    attempts=call.attempts,
                    elapsed=call.elapsed(),
                    **who,
                )
            )


def _described(error: errors.TermaiHttpError, call: Call) -> errors.TermaiHttpError:
    error.provider = error.provider or call.provider
    error.model = error.model or call.model
    error.attempts = call.attempts
    error.elapsed = call.elapsed()
    return error


def _record(call: Call, outcome: Outcome[T] | None) -> CallRecord:
    """Sum a call up; an outcome of None means that something else than an error ended it."""
    error = outcome.error if outcome is not None else None
    usage = getattr(outcome.value, "usage", None) if outcome is not None else None
    failure = type(error).__name__ if error is not None else None
    return CallRecord(
        duration=call.elapsed(),
        success=outcome is not None and error is None,
        retries=max(call.attempts - 1, 0),
        causes=call.causes,
        failure=failure if outcome is not None else "Interrupted",
        input_tokens=usage.input_tokens if usage is not None else 0,
        output_tokens=usage.output_tokens if usage is not None else 0,
    )
