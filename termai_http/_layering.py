"""The layers of a client: built once for each description, and put around calls and attempts."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from . import errors
from ._call import Clock
from ._job import CallRequest, Outcome
from ._layer import BuiltLayer, Layer
from ._log import log
from .config import HttpClientConfig
from .events import log_failure

if TYPE_CHECKING:
    from .events import Event

__all__ = ["LayerSet", "Send", "Stack"]

Send: TypeAlias = Callable[[CallRequest], Outcome[Any]]
_MOST_BUILT = 100


class Stack:
    """A call and its attempts with their layers around them; without layers the two themselves.

    Args:
        built: The layers, the outermost first.
        carry_out: Makes the attempts of a call, each by the function that it is given.
        attempt: Makes one attempt.

    Attributes:
        call: Carries out a call.
        ears: Those of the layers who hear its events.
    """

    __slots__ = ("call", "ears")

    def __init__(
        self,
        built: Sequence[BuiltLayer],
        carry_out: Callable[[Send, CallRequest], Outcome[Any]],
        attempt: Send,
    ) -> None:
        for layer in reversed(built):
            if _overrides(layer, "around_attempt"):
                attempt = functools.partial(layer.around_attempt, send=attempt)
        call: Send = functools.partial(carry_out, attempt)
        for layer in reversed(built):
            if _overrides(layer, "around_call"):
                call = functools.partial(layer.around_call, send=call)
        self.call = call
        self.ears = tuple(_Ear(layer) for layer in built if _overrides(layer, "hear"))


class _Ear:
    """Hears events for a layer; that it fails is logged once, and not with every call."""

    __slots__ = ("_failed", "_layer")

    def __init__(self, layer: BuiltLayer) -> None:
        self._layer = layer
        self._failed = False

    def __call__(self, event: Event) -> None:
        try:
            self._layer.hear(event)
        except Exception:
            if not self._failed:
                self._failed = True
                log_failure()


def _overrides(layer: BuiltLayer, method: str) -> bool:
    return getattr(type(layer), method) is not getattr(BuiltLayer, method)


class LayerSet:
    """Builds and keeps the layers of one client. Safe from any thread.

    Args:
        config: The client's configuration, whose layers are built at once.
        clock: Time and chance.
        carry_out: As in ``Stack``.
        attempt: As in ``Stack``.

    Attributes:
        usual: What calls pass through that name no layers of their own.

    Raises:
        ConfigurationError: A layer cannot be had.
    """

    def __init__(
        self,
        config: HttpClientConfig,
        clock: Clock,
        carry_out: Callable[[Send, CallRequest], Outcome[Any]],
        attempt: Send,
    ) -> None:
        self._config = config
        self._clock = clock
        self._carry_out = carry_out
        self._attempt = attempt
        self._lock = threading.Lock()
        self._closed = False
        self._built: dict[Layer, BuiltLayer] = {}
        self._stacks: dict[tuple[Layer, ...], Stack] = {}
        self.usual = self.of(config.layers)

    def of(self, layers: tuple[Layer, ...]) -> Stack:
        """Return what calls with these layers pass through, made where it is not there."""
        stack = self._stacks.get(layers)
        if stack is None:
            built = [self._layer(layer) for layer in layers]
            stack = Stack(built, self._carry_out, self._attempt)
            with self._lock:
                if len(self._stacks) >= _MOST_BUILT:
                    self._forget_some()
                stack = self._stacks.setdefault(layers, stack)
        return stack

    def _layer(self, layer: Layer) -> BuiltLayer:
        built = self._built.get(layer)
        if built is not None:
            return built
        # Without the lock: a store may be opened here.
        made = layer.build(self._config, self._clock)
        if not isinstance(made, BuiltLayer):
            raise errors.ConfigurationError(
                f"{type(layer).__name__}.build() must return a BuiltLayer, "
                f"not {type(made).__name__}."
            )
        with self._lock:
            closed = self._closed
            built = made if closed else self._built.setdefault(layer, made)
        if closed or built is not made:
            _ask(made.close)
        if closed:
            raise errors.ClientClosed("This client is closed.")
        return built

    def _forget_some(self) -> None:
        log.warning(
            "%d different layers= were given to calls of one client; each has a state of its own. "
            "Make the layers once and give the same ones to every call.",
            _MOST_BUILT,
        )
        usual = set(self._config.layers)
        self._stacks = {layers: s for layers, s in self._stacks.items() if usual.issuperset(layers)}
        # Those in use go on; what they hold is given back with them.
        self._built = {layer: built for layer, built in self._built.items() if layer in usual}

    def stats(self) -> dict[str, Any]:
        """Return what the layers show of themselves, by name."""
        shown: dict[str, Any] = {}
        for layer, built in list(self._built.items()):
            figures = _ask(built.stats)
            if figures is not None:
                first = getattr(layer, "name", type(layer).__name__)
                name, number = first, 1
                while name in shown:
                    number += 1
                    name = f"{first} {number}"
                shown[name] = figures
        return shown

    def close(self) -> None:
        """Close every layer, and build no more."""
        with self._lock:
            self._closed = True
        for built in list(self._built.values()):
            _ask(built.close)

    def locks(self) -> list[Any]:
        """Return the locks that a fork must not catch in other hands, the outer one first."""
        inner = [_ask(built.locks) or () for built in list(self._built.values())]
        return [self._lock, *(lock for locks in inner for lock in locks)]

    def start_over(self) -> None:
        """Go on in a forked child."""
        self._lock = threading.Lock()
        for built in list(self._built.values()):
            _ask(built.start_over)


def _ask(do: Callable[[], Any]) -> Any:
    """Let a layer do its part; that one fails must keep neither the others nor the client from it.

    In a forked child above all, where the rest would go on with the parent's connections.
    """
    try:
        return do()
    except Exception:
        log.exception("A layer failed in %s()", getattr(do, "__name__", do))
        return None
