"""Pacing: calls keep to the server's limits, so that it does not have to refuse them.

``HttpClientConfig(layers=(Pacing(),))``. All threads of the client share what the answers say of
the limits of a host, an API key and a model, and hold back what would be refused. A refusal, in
whichever thread, holds back all of them, and they come back one after the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from .._numbers import is_whole
from .._values import Value
from ..errors import ConfigurationError
from ..layers import Layer
from ._pacing_stats import KnownLimit, PacedKey, PacingStats

if TYPE_CHECKING:
    from .._call import Clock
    from ..config import HttpClientConfig
    from ..layers import BuiltLayer

__all__ = ["KnownLimit", "PacedKey", "Pacing", "PacingStats"]


def _per_minute(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not is_whole(value, 1):
        raise ConfigurationError(
            f"{attribute.name} must be a whole number of at least 1, or None, not {value!r}."
        )


def _redis(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    # What was given is not shown: a URL may hold a password.
    execute = getattr(value, "execute_command", None)
    is_client = execute is not None and hasattr(value, "register_script")
    if not (isinstance(value, str) or is_client) or inspect.iscoroutinefunction(execute):
        raise ConfigurationError(
            "redis must be a URL such as redis://localhost:6379/0, or a redis.Redis."
        )
    if instance.requests_per_minute is None and instance.tokens_per_minute is None:
        raise ConfigurationError(
            "redis shares limits of one's own: give requests_per_minute or tokens_per_minute, too."
        )


def _function(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{attribute.name} must be a function, or None, not {value!r}.")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Pacing(Value, Layer):
    """Hold back attempts that the server, or a limit of one's own, would refuse.

    Without arguments it keeps to what the server says: ``x-ratelimit-*``, ``anthropic-ratelimit-*``
    and ``Retry-After``. An attempt that could not begin before its call's deadline fails at once
    with ``DeadlineExceeded`` (``phase="pacing"``, ``retry_after`` the seconds it would have to
    wait), and nothing is sent.

    Attributes:
        requests_per_minute: Requests that may begin a minute, for each host, API key and model, a
            tenth of them at once; None for what the server allows. Needs the extra ``ratelimit``.
        tokens_per_minute: The same of tokens, those of the request and ``max_tokens`` together.
        redis: Where processes count these two together: a URL, or a ``redis.Redis``, which is not
            closed. None counts in this process. While Redis does not answer, each process counts
            alone, and a warning says so. Needs the package ``redis``, too.
        estimate: Returns the tokens of a request from its encoded body; None for a quarter of its
            bytes, and ``max_tokens``. It is given the prompt, so it should keep nothing.

    Raises:
        ConfigurationError: A value is out of its range; or, when a client is made, a library is
            missing.
    """

    name: ClassVar[str] = "pacing"

    requests_per_minute: int | None = attrs.field(default=None, validator=_per_minute)
    tokens_per_minute: int | None = attrs.field(default=None, validator=_per_minute)
    redis: Any = attrs.field(default=None, repr=False, validator=_redis)
    estimate: Callable[[bytes], int] | None = attrs.field(default=None, validator=_function)

    def build(self, config: HttpClientConfig, clock: Clock) -> BuiltLayer:
        """Make a client's own pacing; see ``Layer.build``."""
        from ._pacing_layer import BuiltPacing

        return BuiltPacing(self, clock)
