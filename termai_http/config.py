"""Configuration values: frozen, validated where they are made, read from the environment once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ._importing import importing
from ._numbers import is_number, is_whole
from ._values import Value
from ._variables import (
    FLAGS,
    NESTED,
    UNREAD,
    close_to,
    from_variables,
    read_variables,
    variable_names,
)
from ._version import __version__
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._layer import Layer
    from .prices import Price

__all__ = ["HttpClientConfig", "Limits", "RetryConfig", "as_layers"]


_OTHER_VARIABLES = frozenset({"TERMAI_HTTP_DIRECT", "TERMAI_HTTP_MODEL"})
_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]
_T = TypeVar("_T")


def _refuse(name: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"{name} must be {allowed}, not {value!r}.")


def _number(allowed: str, check: Callable[[float], bool], *, optional: bool = False) -> _Validator:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not is_number(value) or not check(value):
            raise _refuse(attribute.name, value, allowed)

    return validate


def _whole(allowed: str, least: int, *, optional: bool = False) -> _Validator:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not is_whole(value, least):
            raise _refuse(attribute.name, value, allowed)

    return validate


def _flag(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, bool):
        raise _refuse(attribute.name, value, "True or False")


def _instance(cls: type, *, optional: bool = False) -> _Validator:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not (isinstance(value, cls) or (value is None and optional)):
            raise _refuse(attribute.name, value, f"a {cls.__name__}" + " or None" * optional)

    return validate


_SECONDS = "a number of seconds above 0"
_positive = _number(_SECONDS, lambda value: value > 0)
_positive_or_none = _number(_SECONDS + ", or None", lambda value: value > 0, optional=True)
_not_negative = _number("a number of seconds of at least 0", lambda value: value >= 0)
_count = _whole("a whole number of at least 1", 1)
_size = _whole("a whole number of bytes of at least 1", 1)


def _statuses(value: Any) -> Any:
    try:
        return frozenset(value)
    except TypeError:
        return value


def _check_statuses(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, frozenset) or not all(
        isinstance(status, int) and 400 <= status <= 599 for status in value
    ):
        raise _refuse(attribute.name, value, "HTTP statuses from 400 to 599")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RetryConfig(Value):
    """How often a call is tried again, and how long it waits before that.

    The n-th wait is drawn evenly from 0 to ``min(max_delay, base_delay * backoff_multiplier**n)``
    (full jitter), n from 0. A wait that the server asks for is kept, with up to a tenth added.

    Args:
        max_attempts: Most attempts of a call, the first included; 1 never retries.
        base_delay: Seconds; the first wait's upper bound.
        max_delay: Seconds; caps our own waits, never the server's.
        backoff_multiplier: Growth of the bound from wait to wait, at least 1.
        retry_on_status: Statuses that are tried again. Billing 429s never are.
        ambiguous_retries: How often a request is repeated that may have been processed, and
            billed: a connection reset after sending, a body cut short.
        retry_read_timeouts: Whether a read timeout is tried again. Off, since the model may
            still be running and the call is then billed twice.
    """

    max_attempts: int = attrs.field(default=3, validator=_count)
    base_delay: float = attrs.field(default=0.5, validator=_not_negative)
    max_delay: float = attrs.field(default=30.0, validator=_not_negative)
    backoff_multiplier: float = attrs.field(
        default=2.0, validator=_number("a number of at least 1", lambda value: value >= 1)
    )
    retry_on_status: frozenset[int] = attrs.field(
        default=frozenset({408, 409, 429, 500, 502, 503, 504, 529}),
        converter=_statuses,
        validator=_check_statuses,
    )
    ambiguous_retries: int = attrs.field(
        default=1, validator=_whole("a whole number of at least 0", 0)
    )
    retry_read_timeouts: bool = attrs.field(default=False, validator=_flag)

    def evolve(self, **changes: Any) -> RetryConfig:
        """Return a copy with some fields changed, validated anew."""
        return _evolve(self, changes)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Limits(Value):
    """What a server may send us, in bytes.

    Args:
        body: A reply's body, decoded.
        headers: A reply's header block.
        error_body: How much of an error's body is read.
        stream_line: One line of a stream.
        stream_event: One event of a stream.
    """

    body: int = attrs.field(default=64 * 1024 * 1024, validator=_size)
    headers: int = attrs.field(default=256 * 1024, validator=_size)
    error_body: int = attrs.field(default=64 * 1024, validator=_size)
    stream_line: int = attrs.field(default=1024 * 1024, validator=_size)
    stream_event: int = attrs.field(default=4 * 1024 * 1024, validator=_size)


def _check_user_agent(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    # RFC 9110, section 5.5: a field value is visible ASCII with single spaces inside.
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _refuse(attribute.name, value, "printable ASCII text")
    if not value.isascii() or value != value.strip():
        raise _refuse(attribute.name, value, "printable ASCII text without spaces around it")


def _check_pooling(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    share = is_number(value) and 0 <= value <= 1
    if not share and not callable(value):
        raise _refuse(attribute.name, value, "a share from 0.0 to 1.0, or a function of a key")


def _as_dict(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _check_proxies(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    # The value may hold a proxy's password, so only its shape is named.
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and isinstance(url, str) for key, url in value.items()
    ):
        raise ConfigurationError(
            'proxies must be a dict like {"https": "http://host:port"}, or None.'
        )


def _check_client_cert(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(x, str) for x in value)
    if not (value is None or isinstance(value, str) or pair):
        raise _refuse(
            attribute.name, value, "the path of a PEM file, a pair (certificate, key), or None"
        )


def as_layers(value: Any) -> tuple[Layer, ...]:
    """Return layers as they were given, checked.

    Raises:
        ConfigurationError: They are none, or two of one kind.
    """
    if isinstance(value, tuple) and not value:
        return value
    given = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for layer in given:
        if isinstance(layer, type) or not callable(getattr(layer, "build", None)):
            raise _refuse("layers", layer, "layers, as CircuitBreaker() is one")
        if getattr(type(layer), "__hash__", None) is None:
            raise ConfigurationError(
                f"layers has a {type(layer).__name__}, which has no hash: a layer's description is "
                "a frozen value."
            )
    names = [getattr(layer, "name", type(layer).__name__) for layer in given]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"layers has two of the kind {name!r}; one is enough.")
    return given


def _check_prices(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    with importing():
        from .prices import Price
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and name and isinstance(price, Price) for name, price in value.items()
    ):
        allowed = 'a dict like {"model": Price(input=1, output=2)}, or None'
        raise _refuse(attribute.name, value, allowed)


def _count_prices(value: Mapping[str, Any] | None) -> str:
    return "None" if value is None else f"<{len(value)} models>"


def _hide_proxies(value: Mapping[str, str] | None) -> str:
    return "None" if value is None else f"{{{', '.join(f'{key!r}: ***' for key in value)}}}"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class HttpClientConfig(Value):
    """Everything a client is configured with. Times are seconds throughout.

    Args:
        timeout: The whole ``chat()``: slot wait, connect, every attempt, waits, body.
        stream_timeout: The same for a whole stream, the caller's own time included.
        connect_timeout: DNS, TCP and TLS of one attempt, over all addresses together.
        read_timeout: Longest silence between two reads. None means what is left of the deadline,
            and 60 for a stream.
        pool_idle_timeout: An idle connection older than this is never reused, and is closed.
        pool_max_idle_per_host: Idle connections kept for a host; those above it are closed once
            they were idle for 5 seconds.
        max_connections: Connections in use at once; further calls wait, within their deadline.
        retry: None means each vendor's own policy (OpenAI: base 1, max 60; Claude: base 1,
            max 120; the rest as ``RetryConfig()``). One given here holds for every call.
        max_retries: Retries after the first attempt, in whichever policy holds: 2 means
            ``max_attempts=3``. None leaves the policy's own number.
        user_agent: The ``User-Agent`` header.
        pooling: Share of calls that use the shared pool, 0.0 to 1.0; the others open a
            connection of their own. Or a function that tells by the call's ``rollout_key``, which
            may be None, True or False: it is called by each call, in its thread and before it is
            sent, so it must be quick; what it raises, or returns else, is logged once, and the
            call uses the pool. The variable ``TERMAI_HTTP_POOLING`` beats this.
        proxies: ``{"https": "http://host:port"}``; None means the environment's, with
            ``trust_env``. Loopback is never proxied.
        ca_bundle: Path of a PEM file or directory with the CAs to trust; None means the
            environment's (``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``) or certifi's.
        client_cert: Path of a PEM file with certificate and key, or a pair of paths.
        trust_env: Whether proxies and CA bundle come from the environment where not given.
            It is read once per client; netrc never is.
        allow_http: Whether plain ``http://`` may go to a host that is not loopback.
        limits: What a server may send us.
        layers: What calls and their attempts pass through, for example ``(Pacing(), Cache())``
            of ``termai_http.contrib``; the first is the outermost.
        prices: What each model costs, by its name, for ``reply.cost``. None means the vendors'
            own, ``termai_http.prices.PRICES``; ``{}`` that nothing has a known cost.

    Raises:
        ConfigurationError: A value is out of range; the message names field, value and range.
    """

    timeout: float = attrs.field(default=120.0, validator=_positive)
    stream_timeout: float = attrs.field(default=600.0, validator=_positive)
    connect_timeout: float = attrs.field(default=10.0, validator=_positive)
    read_timeout: float | None = attrs.field(default=None, validator=_positive_or_none)
    pool_idle_timeout: float = attrs.field(default=90.0, validator=_positive)
    pool_max_idle_per_host: int = attrs.field(
        default=100, validator=_whole("a whole number of at least 0", 0)
    )
    max_connections: int = attrs.field(default=1000, validator=_count)
    retry: RetryConfig | None = attrs.field(
        default=None,
        validator=_instance(RetryConfig, optional=True),
        metadata={NESTED: RetryConfig},
    )
    max_retries: int | None = attrs.field(
        default=None, validator=_whole("a whole number of at least 0, or None", 0, optional=True)
    )
    user_agent: str = attrs.field(default=f"TermAI/{__version__}", validator=_check_user_agent)
    pooling: float | Callable[[Any], bool] = attrs.field(default=1.0, validator=_check_pooling)
    proxies: Mapping[str, str] | None = attrs.field(
        default=None,
        converter=_as_dict,
        validator=_check_proxies,
        repr=_hide_proxies,
        hash=False,
    )
    ca_bundle: str | None = attrs.field(default=None, validator=_instance(str, optional=True))
    client_cert: str | tuple[str, str] | None = attrs.field(
        default=None, validator=_check_client_cert
    )
    trust_env: bool = attrs.field(default=True, validator=_flag)
    allow_http: bool = attrs.field(default=False, validator=_flag)
    limits: Limits = attrs.field(
        factory=Limits, validator=_instance(Limits), metadata={NESTED: Limits}
    )
    layers: tuple[Layer, ...] = attrs.field(
        default=(), converter=as_layers, metadata={UNREAD: True}
    )
    prices: Mapping[str, Price] | None = attrs.field(
        default=None,
        converter=_as_dict,
        validator=_check_prices,
        repr=_count_prices,
        hash=False,
        metadata={UNREAD: True},
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> HttpClientConfig:
        """Read the configuration from ``TERMAI_HTTP_*`` variables.

        Each field but ``layers`` and ``prices`` has a variable of its name in capitals
        (``TERMAI_HTTP_TIMEOUT=30``); the fields of ``retry`` and ``limits`` carry theirs in front
        (``TERMAI_HTTP_RETRY_MAX_ATTEMPTS=5``); ``TERMAI_HTTP_PROXIES`` is one URL for all schemes,
        ``TERMAI_HTTP_CLIENT_CERT`` one path or two with a comma between. An empty variable counts
        as not set, and one whose name is unknown is warned of.

        Args:
            environ: Variables to read; None means the process's.

        Raises:
            ConfigurationError: A value cannot be read; the message names the variable.
        """
        given = os.environ if environ is None else environ
        return from_variables(cls, read_variables(cls, given, _OTHER_VARIABLES))

    def evolve(self, **changes: Any) -> HttpClientConfig:
        """Return a copy with some fields changed, validated anew."""
        return _evolve(self, changes)


def known_variables() -> frozenset[str]:
    """Return the names of all ``TERMAI_HTTP_*`` variables that are read."""
    return _OTHER_VARIABLES.union(variable_names(HttpClientConfig))


def pooling_override(environ: Mapping[str, str]) -> float | None:
    """Return what ``TERMAI_HTTP_POOLING`` says, None where it says nothing."""
    text = environ.get("TERMAI_HTTP_POOLING", "").strip()
    if not text:
        return None
    share = HttpClientConfig.from_env({"TERMAI_HTTP_POOLING": text}).pooling
    assert not callable(share)
    return share


def direct_allowed(environ: Mapping[str, str]) -> bool:
    """Tell whether ``TERMAI_HTTP_DIRECT`` lets calls go past requests; True where it is not set.

    Raises:
        ConfigurationError: It is set, and no flag.
    """
    text = environ.get("TERMAI_HTTP_DIRECT", "").strip().lower()
    if text and text not in FLAGS:
        raise ConfigurationError(f"TERMAI_HTTP_DIRECT must be 1 or 0, not {text!r}.")
    return FLAGS[text] if text else True


def _evolve(config: _T, changes: Mapping[str, Any]) -> _T:
    known = [field.name for field in attrs.fields(type(config))]  # type: ignore[arg-type]
    for name in changes:
        if name not in known:
            close = close_to(name, known)
            raise ConfigurationError(
                f"{type(config).__name__} has no field {name!r}"
                + (f"; did you mean {close!r}?" if close else ".")
            )
    return attrs.evolve(config, **changes)  # type: ignore[misc]
