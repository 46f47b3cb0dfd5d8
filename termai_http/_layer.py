"""What a layer is: a description that can be compared, and what a client builds from it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, TypeAlias

    from ._call import Clock
    from ._job import CallRequest, Outcome
    from .config import HttpClientConfig
    from .events import Event

    Send: TypeAlias = Callable[[CallRequest], Outcome[Any]]

__all__ = ["BuiltLayer", "Layer"]


class Layer:
    """Base of the descriptions of layers: frozen values that can be compared and hashed.

    Attributes:
        name: What ``stats().layers`` calls it.
    """

    __slots__ = ()
    name: ClassVar[str]

    def build(self, config: HttpClientConfig, clock: Clock) -> BuiltLayer:
        """Make a client's own layer of it.

        Args:
            config: The client's configuration.
            clock: Time and chance.

        Raises:
            ConfigurationError: It cannot be had: an extra is missing, a store cannot be opened.
        """
        raise NotImplementedError


class BuiltLayer:
    """One client's own layer. Override what is needed; what is not costs nothing.

    Every method may be called from any thread. Locks guard state only: nothing is sent, waited for
    or called back under one.
    """

    def around_call(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Carry out a call: by ``send``, or without it.

        Args:
            request: The call, which may be one whose answer is a stream.
            send: Goes on to what lies inside, with all attempts and the waits between them.

        Returns:
            How it ended; of a stream, how it began. ``request.at_end`` hears of its end.
        """
        return send(request)

    def around_attempt(self, request: CallRequest, send: Send) -> Outcome[Any]:
        """Make one attempt: by ``send``, or not, and then no HTTP exchange was begun.

        What is returned without ``send`` is not tried again. Where an attempt was made before, its
        own error ends the call, and says why it was not tried again. ``outcome.why_not`` forbids
        the wait and the attempt after this one.

        Args:
            request: The call. ``request.call.attempts`` were made so far.
            send: Makes the attempt.
        """
        return send(request)

    def hear(self, event: Event) -> None:
        """Hear every event of the client, where it is on."""

    def stats(self) -> Any:
        """Return what ``stats().layers`` shows of it, a frozen value; None for nothing.

        Where that has a method ``rows()``, the tables for people show what it returns, a list of
        ``(name, figure, remark)``, each a text.
        """
        return None

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands."""
        return []

    def start_over(self) -> None:
        """Go on in a forked child: new locks, nothing of the parent's calls."""

    def close(self) -> None:
        """Give back what it holds; the client closes, and nothing is sent any more."""
