"""The pacing of one client: who waits, for how long, and what the answers tell."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .. import errors, events
from .._call import Clock, Waker
from .._job import CallRequest, Outcome, tells_account
from .._log import log
from .._retry import server_wish
from ..layers import BuiltLayer
from ._pacing_calm import Ticket
from ._pacing_headers import KINDS, read_limits
from ._pacing_lane import ONE_REQUEST, Answer, Cost, Hold, Lane, Started
from ._pacing_limits import OwnLimits, Payment, Store, shared_name
from ._pacing_queue import Queue, Waiter
from ._pacing_stats import KnownLimit, PacedKey, PacingStats
from ._pacing_tokens import estimate

if TYPE_CHECKING:
    from .._layer import Send
    from .pacing import Pacing

__all__ = ["BuiltPacing"]

_MOST_KEYS = 1024
_LONGEST_NAP = 5.0
_SHORTEST_NAP = 0.001
_NOTHING = Answer()
_LET_IN = Answer(let_in=True)
_OVERLOADED = (503, 529)


class BuiltPacing(BuiltLayer):
    """One client's pacing. Safe from any thread.

    Args:
        described: What is wanted.
        clock: Time.

    Raises:
        ConfigurationError: The libraries for limits of one's own are missing.
    """

    def __init__(self, described: Pacing, clock: Clock) -> None:
        self._described = described
        self._clock = clock
        self._lock = threading.Lock()
        self._queues: dict[tuple[str, str, str | None], Queue] = {}
        # By a hash of what goes out, since a digest takes longer than all else here.
        self._known: dict[int, Queue] = {}
        self._store = self._open_store()
        self._hook_failed = False

    def _open_store(self) -> Store | None:
        wanted = self._described
        if wanted.requests_per_minute is None and wanted.tokens_per_minute is None:
            return None
        return Store(wanted.redis, self._clock)

    def locks(self) -> list[Any]:
        """Return the one lock."""
        return [self._lock]

    def start_over(self) -> None:
        """Forget everything: the parent's attempts are not ours."""
        self._lock = threading.Lock()
        self._queues, self._known = {}, {}
        self._store = self._open_store()

    def close(self) -> None:
        """Close the connections to Redis that are ours."""
        if self._store is not None:
            self._store.close()

    def around_attempt(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Wait until the attempt may begin, make it, and learn from its answer."""
        queue = self._queue(request)
        began: Ticket | Started | errors.TermaiHttpError | None
        began = queue.calm.begin(self._clock.monotonic(), request.job.body)
        if began is None:
            began = self._begin(request, queue)
            if isinstance(began, errors.TermaiHttpError):
                return Outcome(error=began)
        outcome: Outcome[Any] | None = None
        try:
            outcome = send(request)
            return outcome
        finally:
            self._end(queue, began, outcome)

    def _begin(self, request: CallRequest, queue: Queue) -> Started | errors.TermaiHttpError:
        cost, tokens = self._cost(request, queue)
        if queue.own is None:
            with self._lock:
                now = self._settled(queue)
                lane = queue.lane
                if not len(queue) and lane.hold(now, cost).seconds <= 0:
                    started = lane.start(now, cost)
                    queue.calm.measure(cost, request.job.body)
                    queue.allow(now)
                    return started
                queue.calm.stop()
        return self._wait(request, queue, cost, tokens)

    def _settled(self, queue: Queue) -> float:
        """Bring a queue up to the present, under the lock; returns that."""
        now = self._clock.monotonic()
        queue.settle(now, self._clock.wall())
        return now

    def _end(self, queue: Queue, began: Ticket | Started, outcome: Outcome[Any] | None) -> None:
        if isinstance(began, Ticket):
            if outcome is not None and outcome.error is None and outcome.response is not None:
                now = self._clock.monotonic()
                if queue.calm.end(began, now, outcome.response.headers):
                    self._settle_unless_busy(queue)
                return
            with self._lock:
                self._settled(queue)
        started = began.started if isinstance(began, Ticket) else began
        if started is not None:
            self._learn(queue, started, outcome)

    def _settle_unless_busy(self, queue: Queue) -> None:
        # Where another thread is at it, or is about to be, the next one does it: to wait for each
        # other here would take longer than all that is done.
        if self._lock.acquire(blocking=False):
            try:
                queue.allow(self._settled(queue))
            finally:
                self._lock.release()

    def _queue(self, request: CallRequest) -> Queue:
        job = request.job
        telling = [one for one in job.headers.items() if tells_account(one[0])]
        mark = hash((job.url, job.model, *telling))
        queue = self._known.get(mark)
        if queue is None:
            account = request.account()
            with self._lock:
                queue = self._find(request, account)
                if len(self._known) >= _MOST_KEYS:
                    self._known.clear()
                self._known[mark] = queue
        return queue

    def _find(self, request: CallRequest, account: str) -> Queue:
        job = request.job
        host = job.url.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()
        key = host, account, job.model
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= _MOST_KEYS:
                self._drop_oldest()
            own = None
            if self._store is not None:
                wanted = self._described
                own = OwnLimits(
                    self._store,
                    wanted.requests_per_minute,
                    wanted.tokens_per_minute,
                    shared_name(host, job.model, job.headers),
                )
            queue = Queue(Lane(self._clock.monotonic()), host, account[:8], job.model, own)
            self._queues[key] = queue
        return queue

    def _drop_oldest(self) -> None:
        idle = [key for key, queue in self._queues.items() if not len(queue)]
        if idle:
            oldest = min(idle, key=lambda key: self._queues[key].lane.used_at)
            dropped = self._queues.pop(oldest)
            self._known = {mark: one for mark, one in self._known.items() if one is not dropped}

    def _cost(self, request: CallRequest, queue: Queue) -> tuple[Cost, int]:
        """Return what it takes of the server's limits, and its tokens by our own count."""
        if self._described.tokens_per_minute is None and not queue.lane.counts_tokens:
            return ONE_REQUEST, 0
        body = request.job.body or b""
        read, written = estimate(body)
        total = read + written
        hook = self._described.estimate
        if hook is not None:
            try:
                total = max(int(hook(body)), 0)
            except Exception as error:
                if not self._hook_failed:
                    self._hook_failed = True
                    log.warning(
                        "Pacing(estimate=...) failed (%s): tokens are counted by our own estimate",
                        type(error).__name__,
                    )
        # What is written is not known before. OpenAI counts what it may be, Claude when it is.
        counted = read if request.job.provider == "claude" and hook is None else total
        return (1.0, float(counted), float(read), 0.0), total

    def _wait(
        self, request: CallRequest, queue: Queue, cost: Cost, tokens: int
    ) -> Started | errors.TermaiHttpError:
        call, wanted = request.call, self._described
        payment = Payment(
            0 if wanted.requests_per_minute is None else 1,
            0 if wanted.tokens_per_minute is None else tokens,
        )
        waiter = Waiter(call, cost, payment)
        with self._lock:
            now = begun = self._settled(queue)
            hold = self._soonest(queue, waiter, now)
            if call.left() <= 0 or (hold.sure and hold.seconds >= call.left()):
                return _too_late(hold, call.left())
            queue.join(waiter)
            queue.lane.tick(now, busy=True)
        try:
            ended, why = self._take_turn(request, queue, waiter)
        finally:
            now = self._clock.monotonic()
            with self._lock:
                queue.leave(waiter, now)
        if why:
            with self._lock:
                queue.held += 1
                queue.held_seconds += max(now - begun, 0.0)
            request.tell(events.PacingWaited, seconds=now - begun, why=why)
        return ended

    def _soonest(self, queue: Queue, waiter: Waiter, now: float) -> Hold:
        before, ahead, tokens = queue.ahead()
        hold = queue.lane.soonest(now, waiter.cost, before, ahead)
        if queue.own is not None:
            hold = max(hold, Hold(queue.own.least(waiter.payment, before, tokens), "own limit"))
        return hold

    def _take_turn(
        self, request: CallRequest, queue: Queue, waiter: Waiter
    ) -> tuple[Started | errors.TermaiHttpError, str]:
        """Wait until it is its turn and it may begin; returns what asked for the wait, too."""
        call, why, slept = request.call, "", 0.0
        patience = call.left()
        while True:
            own = Hold(0.0, "")
            if queue.own is not None and self._is_first(queue, waiter):
                own = Hold(*queue.own.pay(waiter.payment, self._clock))
            waker = Waker()
            with self._lock:
                looked = self._look(queue, waiter, own, waker)
            if isinstance(looked, Started):
                return looked, why
            hold, nap = looked
            why = hold.why or why or "queue"
            left = call.left()
            if (hold.sure and hold.seconds >= left) or left <= 0 or slept >= patience:
                return _too_late(hold, left), why
            nap = max(min(nap, left), _SHORTEST_NAP)
            call.wait_on(waker, nap)
            if call.interrupted is not None:
                reason = call.interrupted
                return reason("The call was ended while it was held back.", phase="pacing"), why
            if not waker.wait(0.0):
                # Told apart from the clock: one that stands must not keep anybody here for ever.
                slept += nap

    def _is_first(self, queue: Queue, waiter: Waiter) -> bool:
        with self._lock:
            now = self._settled(queue)
            return queue.first(now) is waiter and queue.lane.hold(now, waiter.cost).seconds <= 0

    def _look(
        self, queue: Queue, waiter: Waiter, own: Hold, waker: Waker
    ) -> Started | tuple[Hold, float]:
        """Start, or return how long it is held back at least, and how long to nap."""
        lane, now = queue.lane, self._settled(queue)
        first = queue.first(now) is waiter
        hold = max(lane.hold(now, waiter.cost), own)
        if first and hold.seconds <= 0 and waiter.payment.done:
            return lane.start(now, waiter.cost)
        # Those before it wake it; a nap that is too long costs nothing but if they were torn away.
        nap = min(hold.seconds, _LONGEST_NAP) if first else _LONGEST_NAP
        waiter.waker, waiter.wakes_at = waker, now + nap
        return hold, nap

    def _learn(self, queue: Queue, started: Started, outcome: Outcome[Any] | None) -> None:
        answer = _NOTHING if outcome is None else self._read(outcome)
        with self._lock:
            now = self._settled(queue)
            queue.lane.end(started, now, answer)
            queue.allow(now)
            if len(queue):
                queue.changed(now)

    def _read(self, outcome: Outcome[Any]) -> Answer:
        response, error = outcome.response, outcome.error
        if response is None:
            return _NOTHING
        wall = self._clock.wall()
        readings = read_limits(response.headers, wall)
        if error is None:
            return Answer(readings, False, True) if readings else _LET_IN
        if isinstance(error, errors.QuotaExceededError):
            # No wait helps, so nobody is held back.
            return Answer(readings)
        wish, status = server_wish(response.headers, wall).wait, response.status_code
        overloaded = status in _OVERLOADED and wish is not None
        refused = overloaded or status == 429
        return Answer(readings, refused, not refused, wish, overloaded)

    def stats(self) -> PacingStats:
        """Return what ``stats().layers`` shows."""
        with self._lock:
            queues = list(self._queues.values())
            return PacingStats(keys=tuple(_show(one, self._settled(one)) for one in queues))


def _show(queue: Queue, now: float) -> PacedKey:
    lane = queue.lane
    limits = []
    for kind, meter in sorted(lane.meters.items()):
        meter.advance(now)
        left = min(max(int(meter.credit), 0), meter.limit)
        resets_in = max(meter.reset_at - now, 0.0)
        limits.append(
            KnownLimit(kind=KINDS[kind], limit=meter.limit, remaining=left, resets_in=resets_in)
        )
    return PacedKey(
        host=queue.host,
        account=queue.account,
        model=queue.model,
        waiting=len(queue),
        started=lane.starts,
        refused=lane.refusals,
        held=queue.held,
        held_seconds=queue.held_seconds,
        paused_for=max(lane.paused_until - now, 0.0),
        rate=lane.ramp.rate,
        limits=tuple(limits),
    )


def _too_late(hold: Hold, left: float) -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded(
        f"Held back by pacing ({hold.why}): it could begin in {hold.seconds:.2f} s, and its "
        f"deadline is {max(left, 0.0):.2f} s away.",
        phase="pacing",
        retry_after=hold.seconds,
    )
