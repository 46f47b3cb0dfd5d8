"""What the calls of one client share: configuration, transport, metrics, listeners."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from . import errors, events
from ._ambient import limit as ambient_limit
from ._attempts import Outcome, make_attempts
from ._call import AttemptLimits, Call, Clock
from ._fork import notice_fork, take_part
from ._importing import importing
from ._in_flight import CallsInFlight, CancelToken
from ._retry import config_for
from ._values import Value
from .config import HttpClientConfig, RetryConfig, direct_allowed, pooling_override
from .metrics import CallRecord, HttpMetrics, RecordedFailure

if TYPE_CHECKING:
    from ._transport import Transport

__all__ = ["Core", "Job"]

T = TypeVar("T")
_LAST_GRACE = 0.25
_STREAM_SILENCE = 60.0
_LONGEST_NAME = 200


@attrs.define(kw_only=True, eq=False, repr=False)
class Job(Value):
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
        started: Monotonic instant of the call's entry; None means when it is run.
        fresh: Whether its first attempt must open a connection.
        for_requests: Whether its answer must be one of requests.
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
    started: float | None = None
    fresh: bool = False
    for_requests: bool = False


class Core:
    """The shared parts of one client. Safe from any thread.

    Args:
        config: The client's configuration.
        clock: Time and chance.
    """

    def __init__(self, config: HttpClientConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.in_flight = CallsInFlight()
        self.metrics = HttpMetrics(_in_flight=self.in_flight.__len__)
        self.listeners = events.Listeners()
        override = pooling_override(os.environ)
        self._pooling = config.pooling if override is None else override
        self._may_be_direct = direct_allowed(os.environ)
        self._limits = AttemptLimits(
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            headers=config.limits.headers,
        )
        self._stream_limits = attrs.evolve(
            self._limits, read_timeout=config.read_timeout or _STREAM_SILENCE
        )
        notice_fork()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._transport: Transport | None = None
        self._closed = False
        take_part(self)
        if _names_files(config):
            # What cannot be loaded is told when the client is made, not by its first call.
            self.transport()

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._closed

    @property
    def begun(self) -> Transport | None:
        """The transport, None where nothing needed it yet."""
        self._notice_fork()
        return self._transport

    def transport(self) -> Transport:
        """Return the transport, made on first use.

        Raises:
            ClientClosed: The client was closed.
            ConfigurationError: A CA bundle or client certificate cannot be loaded.
        """
        self._notice_fork()
        if sys.is_finalizing():
            # Nothing can be imported and no thread begun any more; a finalizer may still call.
            raise errors.ClientClosed("The interpreter is shutting down.")
        transport = self._transport
        if transport is not None and not self._closed:
            return transport
        with importing(), self._lock:
            if self._closed:
                raise errors.ClientClosed("This client is closed.")
            if self._transport is None:
                from ._transport import Transport

                self._transport = Transport(self.config, self.clock, self._may_be_direct)
            return self._transport

    def close(self, wait: float | None) -> None:
        """Refuse new calls, end those that still run after ``wait``, close the connections.

        Args:
            wait: Seconds that running calls may take to end by themselves; None for as long as
                they take.
        """
        self._notice_fork()
        with self._lock:
            self._closed = True
            transport = self._transport
        if wait is None or wait > 0:
            self.in_flight.drain(math.inf if wait is None else wait, self.clock)
        self.in_flight.interrupt(errors.ClientClosed)
        self.in_flight.drain(_LAST_GRACE, self.clock)
        if transport is not None:
            transport.close()

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands, the outer ones first."""
        transport = self._transport
        inner = [] if transport is None else transport.locks()
        return [self._lock, *inner, *self.metrics.locks(), *self.listeners.locks()]

    def start_over(self) -> None:
        """Go on in a forked child: no connection, no call, zeros, new locks."""
        self._lock = threading.Lock()
        for call in self.in_flight.all():
            call.orphan()
            self.in_flight.leave(call)
        self.metrics.start_over()
        self.listeners.renew_lock()
        if self._transport is not None:
            self._transport.start_over()
        self._process = os.getpid()

    def _notice_fork(self) -> None:
        """Start over where a host forked without Python's hooks, as uWSGI does."""
        if os.getpid() != self._process:
            notice_fork()

    def run(self, job: Job, read: Callable[[Any, Call], T | errors.TermaiHttpError]) -> Outcome[T]:
        """Carry out one call, and count it.

        Args:
            job: What to do.
            read: Turns an answer into the call's value, or the error it stands for.
        """
        call = self._new_call(job, self.config.timeout)
        outcome: Outcome[T] | None = None
        try:
            outcome = self._enter(job, call, self._limits, read, keep_open=False)
            return outcome
        finally:
            self.leave(job, call, outcome)

    def open(self, job: Job, read: Callable[[Any, Call], T | errors.TermaiHttpError]) -> Outcome[T]:
        """Begin a call that goes on: its value, where there is one, ends it with ``leave``.

        Args:
            job: What to do.
            read: Turns a refusal, or the ``OpenBody`` of a success, into the call's value, or the
                error it stands for.
        """
        call = self._new_call(job, self.config.stream_timeout)
        outcome: Outcome[T] | None = None
        try:
            outcome = self._enter(job, call, self._stream_limits, read, keep_open=True)
            return outcome
        finally:
            if outcome is None or outcome.error is not None:
                self.leave(job, call, outcome)

    def _new_call(self, job: Job, timeout: float) -> Call:
        # Before it is in flight: those that are when a fork is noticed are the parent's.
        self._notice_fork()
        seconds = timeout if job.timeout is None else job.timeout
        call = Call(seconds, self.clock, job.provider, job.model, job.started, self._process)
        limit = ambient_limit()
        if limit is not None and limit < call.end:
            call.end, call.limited = limit, True
        return call

    def _enter(
        self,
        job: Job,
        call: Call,
        limits: AttemptLimits,
        read: Callable[[Any, Call], T | errors.TermaiHttpError],
        *,
        keep_open: bool,
    ) -> Outcome[T]:
        # In flight first, and then the look whether the client is closed: close() does both in
        # the other order, so neither misses the other.
        self.in_flight.join(call)
        pooled = self._pooling >= 1.0 or self.clock.uniform(0.0, 1.0) < self._pooling
        headers = job.headers if pooled else {**job.headers, "Connection": "close"}
        try:
            transport = self._transport
            if transport is None or self._closed or sys.is_finalizing():
                transport = self.transport()
            outgoing = transport.prepare(
                job.method, job.url, headers, job.body, job.query, for_requests=job.for_requests
            )
        except errors.TermaiHttpError as error:
            return Outcome(error=_described(error.with_traceback(None), call))
        if job.cancel is not None:
            job.cancel.join(call)
        if self.listeners.everybody:
            self.listeners.emit(
                events.CallStarted(call_id=call.number, provider=call.provider, model=call.model)
            )
        outcome = make_attempts(
            transport,
            outgoing,
            call,
            policy=config_for(self.config, job.provider, job.retry),
            limits=limits,
            pooled=pooled,
            fresh=job.fresh,
            read=lambda answer: read(answer, call),
            keep_open=keep_open,
            listeners=self.listeners,
        )
        if outcome.error is not None:
            _described(outcome.error, call)
        goes_on = keep_open and outcome.error is None
        if self.listeners.everybody and not goes_on:
            self._tell_end(call, outcome)
        return outcome

    def finish(
        self, job: Job, call: Call, outcome: Outcome[Any], time_to_first_token: float
    ) -> None:
        """End a call that ``open`` began."""
        try:
            if outcome.error is not None:
                _described(outcome.error, call)
            if self.listeners.everybody:
                self._tell_end(call, outcome)
        finally:
            self.leave(job, call, outcome, time_to_first_token)

    def forget(self, job: Job, call: Call, time_to_first_token: float) -> None:
        """End a call whose stream was dropped, from a finalizer: no lock, no listener."""
        if job.cancel is not None:
            job.cancel.leave(call)
        if self.in_flight.leave(call):
            self.metrics.leave_note(_record(call, Outcome(), time_to_first_token))

    def leave(
        self,
        job: Job,
        call: Call,
        outcome: Outcome[Any] | None,
        time_to_first_token: float | None = None,
    ) -> None:
        """End a call and count it, unless it never reached the network.

        Args:
            job: What it did.
            call: The call.
            outcome: How it ended; None where something else than an error ended it.
            time_to_first_token: Seconds, of a stream.
        """
        error = None if outcome is None else outcome.error
        unsent = isinstance(error, (errors.ClientClosed, errors.ConfigurationError))
        try:
            # Once a call, whoever ends it; one that a fork left behind is no call of the child's.
            if call in self.in_flight and (call.attempts or not unsent):
                self.metrics.record(_record(call, outcome, time_to_first_token))
        finally:
            if job.cancel is not None:
                job.cancel.leave(call)
            self.in_flight.leave(call)

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


def _names_files(config: HttpClientConfig) -> bool:
    environ = os.environ if config.trust_env else {}
    named = (environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    return any((config.ca_bundle, config.client_cert, *named))


def _described(error: errors.TermaiHttpError, call: Call) -> errors.TermaiHttpError:
    error.provider = error.provider or call.provider
    error.model = error.model or call.model
    error.attempts = call.attempts
    error.elapsed = call.elapsed()
    return error


def _record(
    call: Call, outcome: Outcome[Any] | None, time_to_first_token: float | None
) -> CallRecord:
    """Sum a call up; an outcome of None means that something else than an error ended it."""
    error = outcome.error if outcome is not None else None
    # A reply that does not fit its output was billed as one that does.
    usage = getattr(outcome.value if outcome and not error else error, "usage", None)
    failure = type(error).__name__ if error is not None else None
    if outcome is None:
        failure = "Interrupted"
    return CallRecord(
        duration=call.elapsed(),
        success=outcome is not None and error is None,
        retries=max(call.attempts - 1, 0),
        retries_denied=call.retries_denied,
        causes=call.causes[: max(call.attempts - 1, 0)],
        failure=failure,
        input_tokens=usage.input_tokens if usage is not None else 0,
        output_tokens=usage.output_tokens if usage is not None else 0,
        time_to_first_token=time_to_first_token,
        details=None if failure is None else _details(call, failure, error),
    )


def _details(call: Call, failure: str, error: errors.TermaiHttpError | None) -> RecordedFailure:
    """Keep of a failed call what a person looks for; what came from outside is cut."""
    request_id = None if error is None else error.request_id
    return RecordedFailure(
        when=call.clock.wall(),
        error=failure,
        status_code=None if error is None else error.status_code,
        request_id=request_id and request_id[:_LONGEST_NAME],
        provider=call.provider,
        model=call.model and call.model[:_LONGEST_NAME],
        attempts=call.attempts,
        elapsed=call.elapsed(),
    )
