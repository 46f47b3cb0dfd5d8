"""What one call is to do, what is known of it while it runs, and how it ends."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from . import errors
from ._budget import RetryBudget
from ._call import Attempt, AttemptLimits, Call
from ._in_flight import CancelToken
from ._values import Value
from .config import RetryConfig

if TYPE_CHECKING:
    from ._layer import Layer
    from ._transport import Answered
    from .events import Event, Listener

__all__ = ["CallRequest", "Job", "Outcome", "tells_account"]

T = TypeVar("T")
# Headers that say whose call it is: the vendors' own, and those of gateways before them.
_TELLING = re.compile(
    r"auth|api-?key|token|secret|credential|password|-key\Z|\Aopenai-(?:organization|project)\Z"
)
_NOT_TELLING = frozenset({"idempotency-key", "x-idempotency-key"})
# Known to nobody outside this process, so a digest tells nothing of the key.
_DIGEST_KEY = secrets.token_bytes(32)


@functools.lru_cache(maxsize=1024)
def tells_account(name: str) -> bool:
    """Tell whether a header of that name says whose call it is: by its key, or as its tenant."""
    name = name.lower()
    return name not in _NOT_TELLING and _TELLING.search(name) is not None


@attrs.define(kw_only=True, eq=False, repr=False)
class Job(Value):
    """What one call is to do, decided before it begins.

    Attributes:
        operation: ``"chat"``, ``"embeddings"``, ``"count"``, ``"models"``, ``"health"``, or
            ``"request"`` for one of ``RequestHandler``.
        method: HTTP method.
        url: Where it goes.
        base_url: What its vendor's paths are appended to; ``""`` where there is none.
        headers: Its headers, those that authenticate included.
        body: Its encoded body; None for none.
        query: Query parameters to add.
        provider: The vendor, None for a request of ``RequestHandler``.
        model: The model asked for.
        timeout: Seconds for the whole call; None means the client's.
        retry: Its own policy; None means the client's.
        cancel: A ``CancelToken``.
        rollout_key: Whose call it is, where the pool is used by a share of calls; None draws.
        started: Monotonic instant of the call's entry; None means when it is run.
        entered: That of the ``chat()`` that asks several targets; None where it is ``started``.
        fresh: Whether its first attempt must open a connection.
        for_requests: Whether its answer must be one of requests.
        streaming: Whether its answer is read piece by piece.
        layers: What it passes through; None means the client's.
        listeners: Who hears its events, beside those of the client.
    """

    operation: str = "request"
    method: str = "POST"
    url: str
    base_url: str = ""
    headers: dict[str, str] = attrs.field(repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)
    query: dict[str, object] | None = attrs.field(default=None, repr=False)
    provider: str | None = None
    model: str | None = None
    timeout: float | None = None
    retry: RetryConfig | None = None
    cancel: CancelToken | None = None
    rollout_key: str | int | bytes | None = attrs.field(default=None, repr=False)
    started: float | None = None
    entered: float | None = None
    fresh: bool = False
    for_requests: bool = False
    streaming: bool = False
    layers: tuple[Layer, ...] | None = None
    listeners: tuple[Listener, ...] = ()


@attrs.define(kw_only=True, eq=False, repr=False)
class Outcome(Value, Generic[T]):
    """How a call, or an attempt of one, ended.

    Attributes:
        value: What was read from the answer; of a stream the ``Stream``.
        error: Why there is none.
        response: The last answer (``status_code``, ``headers``, and ``content`` where it was read);
            None where there was none.
        attempt: The attempt that ended so; None where nothing was sent.
        budget: The retry budget of its host.
        why_not: Why a layer wants no further attempt after this one, told in the error; ``""``
            where it wants nothing of the kind.
    """

    value: T | None = None
    error: errors.TermaiHttpError | None = None
    response: Answered | None = None
    attempt: Attempt | None = None
    budget: RetryBudget | None = None
    why_not: str = ""


class CallRequest:
    """What a layer sees of a call: what it is to do, and the call while it runs.

    It holds key and prompt: nothing of it may be logged or kept.

    Attributes:
        job: What the call is to do.
        call: The call's own state.
        limits: What bounds one attempt.
        read: Turns an answer into the call's value, or the error it stands for. The answer is one
            with its body read, or an ``OpenBody`` where ``streaming`` and it is a success.
        streaming: Whether it is answered by a stream.
        pooled: Whether the shared pool is used.
        fresh: Whether the next attempt must open a connection.
        outgoing: The request as it goes out; None while it is not made ready.
        session: The client's ``requests.Session``, whose headers, params and auth go out with it.
    """

    __slots__ = (
        *("call", "fresh", "job", "limits", "outgoing", "pooled", "read", "session", "streaming"),
    )

    def __init__(
        self,
        job: Job,
        call: Call,
        limits: AttemptLimits,
        read: Callable[[Any, Call], Any],
        *,
        pooled: bool,
        session: Any = None,
    ) -> None:
        self.job = job
        self.call = call
        self.limits = limits
        self.read = read
        self.streaming = job.streaming
        self.pooled = pooled
        self.fresh = job.fresh
        self.outgoing: Any = None
        self.session = session

    def with_job(self, **changes: Any) -> CallRequest:
        """Return one of the same call that is to do something else."""
        return self._like(attrs.evolve(self.job, **changes), self.read)

    def with_read(self, read: Callable[[Any, Call], Any]) -> CallRequest:
        """Return one of the same call whose answer is read in another way."""
        other = self._like(self.job, read)
        other.outgoing = self.outgoing
        return other

    def _like(self, job: Job, read: Callable[[Any, Call], Any]) -> CallRequest:
        other = CallRequest(
            job, self.call, self.limits, read, pooled=self.pooled, session=self.session
        )
        other.fresh = self.fresh
        return other

    def account(self) -> str:
        """Return a digest of key and tenant, the same for equal ones within this process."""
        named: Mapping[str, str] = {
            name.lower(): value for name, value in self.job.headers.items() if tells_account(name)
        }
        said = "\n".join(f"{name}:{named[name]}" for name in sorted(named))
        return hmac.new(_DIGEST_KEY, said.encode(), hashlib.sha256).hexdigest()

    def sleep(self, seconds: float) -> errors.TermaiHttpError | None:
        """Wait; returns the error that ended the call meanwhile, None where it goes on."""
        call = self.call
        call.sleep(min(seconds, max(call.left(), 0.0)))
        if call.interrupted is not None:
            return call.interrupted("The call was ended before it was sent.", phase="layer")
        return None

    def tell(self, make: Callable[..., Event], **fields: Any) -> None:
        """Tell those who listen to the call of an event.

        Args:
            make: The event's class; made only where somebody listens.
            fields: Its fields, beside those that say whose it is.
        """
        self.call.tell_of(make, **fields)

    def at_end(self, ending: Callable[[Outcome[Any] | None], None]) -> None:
        """Let ``ending`` know how the call ended, a stream after its last event.

        It is called once, by whoever ends the call: with the outcome, or with None where nothing
        says whether it went well, since its stream was left early or something else than an error
        ended it. With None it may come from a finalizer, and then must take no lock.
        """
        self.call.endings += (ending,)
