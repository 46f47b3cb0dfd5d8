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
from ._attempts import make_attempt, make_attempts
from ._call import AttemptLimits, Call, Clock
from ._ending import described, end_event, record_of, start_event, tell_layers
from ._fork import notice_fork, take_part
from ._importing import importing
from ._in_flight import CallsInFlight
from ._job import CallRequest, Job, Outcome
from ._layering import LayerSet, Send
from ._retry import config_for
from ._rollout import Rollout
from .config import HttpClientConfig, direct_allowed, pooling_override
from .metrics import HttpMetrics

if TYPE_CHECKING:
    from ._transport import Transport

__all__ = ["Core"]

T = TypeVar("T")
_LAST_GRACE = 0.25
_STREAM_SILENCE = 60.0


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
        self.metrics = HttpMetrics(_in_flight=self.in_flight.by_pooling)
        self.listeners = events.Listeners()
        override = pooling_override(os.environ)
        self._rollout = Rollout(config.pooling if override is None else override)
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
        self.layers = LayerSet(config, clock, self._carry_out, self._attempt)
        self.listeners.ears = self.layers.usual.ears
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

                self._transport = Transport(
                    self.config, self.clock, self._may_be_direct, self.listeners
                )
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
        self.layers.close()
        self.listeners.deliver()

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands, the outer ones first."""
        transport = self._transport
        inner = [] if transport is None else transport.locks()
        layers = self.layers.locks()
        return [self._lock, *layers, *inner, *self.metrics.locks(), *self.listeners.locks()]

    def start_over(self) -> None:
        """Go on in a forked child: no connection, no call, zeros, new locks."""
        self._lock = threading.Lock()
        for call in self.in_flight.all():
            call.orphan()
            self.in_flight.leave(call)
        self.metrics.start_over()
        self.layers.start_over()
        if self._transport is not None:
            self._transport.start_over()
        # After those, whose copies of connections are no event of the child's.
        self.listeners.renew_lock()
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
            outcome = self._enter(job, call, self._limits, read)
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
        try:
            outcome: Outcome[T] = self._enter(job, call, self._stream_limits, read)
            if outcome.error is not None:
                self.leave(job, call, outcome)
                return outcome
            call.handed = True
            if call.streams == 0:
                # A layer answers in the place of the one that it dropped.
                self.forget(job, call, None)
            return outcome
        except BaseException:
            # Whatever was opened by then, nobody gets it.
            call.handed = True
            self.leave(job, call, None)
            raise

    def _new_call(self, job: Job, timeout: float) -> Call:
        # Before it is in flight: those that are when a fork is noticed are the parent's.
        self._notice_fork()
        seconds = timeout if job.timeout is None else job.timeout
        call = Call(seconds, self.clock, job.provider, job.model, job.started, self._process)
        if job.entered is not None:
            call.entered = job.entered
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
    ) -> Outcome[T]:
        # In flight first, and then the look whether the client is closed: close() does both in
        # the other order, so neither misses the other.
        self.in_flight.join(call)
        pooled = call.pooled = self._rollout.pools(job.rollout_key, self.clock.uniform)
        try:
            transport = self._transport
            if transport is None or self._closed or sys.is_finalizing():
                transport = self.transport()
            stack = self.layers.usual if job.layers is None else self.layers.of(job.layers)
        except errors.TermaiHttpError as error:
            return Outcome(error=described(error.with_traceback(None), call))
        if job.cancel is not None:
            job.cancel.join(call)
        tell = self.listeners.audience(stack.ears + job.listeners)
        if tell is not None:
            # First: whatever a listener lets through, the end follows the begin.
            event = start_event(job, call)
            call.tell = tell
            tell(event)
        session = transport.session
        outcome = stack.call(CallRequest(job, call, limits, read, pooled=pooled, session=session))
        if outcome.error is not None:
            described(outcome.error, call)
        return outcome

    def _carry_out(self, send: Send, request: CallRequest) -> Outcome[Any]:
        job, transport = request.job, self._transport
        assert transport is not None
        return make_attempts(
            request, send, transport.policy, config_for(self.config, job.provider, job.retry)
        )

    def _attempt(self, request: CallRequest) -> Outcome[Any]:
        assert self._transport is not None
        return make_attempt(self._transport, request)

    def finish(
        self, job: Job, call: Call, outcome: Outcome[Any], time_to_first_token: float
    ) -> None:
        """End a call that ``open`` began."""
        if outcome.error is not None:
            described(outcome.error, call)
        self.leave(job, call, outcome, time_to_first_token)

    def forget(self, job: Job, call: Call, time_to_first_token: float | None) -> None:
        """End a call whose stream was dropped, from a finalizer: no lock, no listener."""
        if not call.handed:
            # By a layer, which says itself how the call goes on.
            call.streams = (call.streams or 1) - 1
            return
        if job.cancel is not None:
            job.cancel.leave(call)
        if self.in_flight.leave(call):
            outcome: Outcome[Any] = Outcome()
            try:
                tell_layers(call, None)
            finally:
                self.metrics.leave_note(record_of(call, outcome, time_to_first_token))
                if call.tell is not None:
                    event = end_event(job, call, outcome)
                    self.listeners.leave_note(event, call.tell)

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
            if call not in self.in_flight:
                return
            try:
                if call.endings:
                    tell_layers(call, outcome)
            finally:
                # What a layer raises is told, too, in a call that is counted and has its end.
                try:
                    if call.attempts or not unsent:
                        self.metrics.record(record_of(call, outcome, time_to_first_token))
                finally:
                    if call.tell is not None:
                        call.tell(end_event(job, call, outcome))
            self.listeners.deliver()
        finally:
            self.in_flight.leave(call)
            if job.cancel is not None:
                job.cancel.leave(call)


def _names_files(config: HttpClientConfig) -> bool:
    environ = os.environ if config.trust_env else {}
    named = (environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    return any((config.ca_bundle, config.client_cert, *named))
