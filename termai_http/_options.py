"""The options of one call, told apart from the vendor's parameters and checked before sending."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ._importing import importing
from ._numbers import is_number
from ._secrets import Secret, without_lone_surrogates
from ._values import Value
from .config import RetryConfig, as_layers
from .errors import ConfigurationError, InvalidRequestError
from .events import check_listener

if TYPE_CHECKING:
    from ._layer import Layer
    from .events import Event, Listener, RetryScheduled

__all__ = ["PROVIDERS", "CallOptions", "Target", "check_headers", "check_params"]

PROVIDERS = ("openai", "claude")
APIS = ("chat", "responses")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Whoever has several keys may take them for what fallback= is a list of. As a model's name one
# would go out in a body, into logs, metrics and spans.
_KEY = re.compile(r"sk-[A-Za-z0-9_-]{17}")
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})

_OPTIONS = (
    *("api", "api_key", "api_version", "base_url", "cancel", "client", "extra_body"),
    *("extra_headers", "extra_query", "layers", "max_tokens", "model", "on_event", "on_retry"),
    *("output", "provider", "reasoning"),
    *("retry", "rollout_key", "stop", "system", "timeout", "tools", "exchange", "max_rounds"),
    "fallback",
)
_ELSEWHERE = {
    "stream": "chat() returns whole replies, stream() streams them.",
    "max_retries": "Use retry=RetryConfig(max_attempts=...), or HttpClientConfig(max_retries=...).",
    "connect_timeout": "It belongs to HttpClientConfig(connect_timeout=...).",
    "read_timeout": "It belongs to HttpClientConfig(read_timeout=...).",
    "deadline": "The deadline's length is timeout=, in seconds.",
    "client": "The call runs on the client whose method it is.",
    "organization": "It belongs to OpenAIAdapter(organization=...), or OPENAI_ORG_ID.",
    "project": "It belongs to OpenAIAdapter(project=...), or OPENAI_PROJECT_ID.",
    "messages": "Messages are the first argument.",
    "workers": "chat_many() has max_workers=.",
    "prompt": "The prompt is the first argument.",
    "max_rounds": "It belongs to run_tools().",
    "exchange": "It belongs to run_tools().",
    "fallback": "It belongs to calls that ask for a reply.",
    "cache": (
        'It marks a message: Message("user", text, cache=True). (A server\'s own parameter of that '
        "name goes into extra_body={...}.)"
    ),
}
# Parameters of the vendors that are spelt like an option of ours.
_VENDOR_PARAMS = frozenset(
    {"models", "max_completion_tokens", "max_output_tokens", "providers", "models_api", "store"}
)


def check_params(params: Mapping[str, Any], more: tuple[str, ...] = ()) -> None:
    """Refuse a name that is a slip of one of ours; any other goes into the request body.

    Args:
        params: What was given, by name.
        more: Options that not every face has.

    Raises:
        InvalidRequestError: The message names the right option.
    """
    for name in params:
        if name == "stream" and params[name] in (False, None):
            continue
        if name in _ELSEWHERE:
            raise InvalidRequestError(f"{name}= is no option here. {_ELSEWHERE[name]}")
        if close := _close_option(name, more):
            raise InvalidRequestError(
                f"{name}= is no option; did you mean {close}=? "
                f"(A vendor's parameter of that name goes into extra_body={{...}}.)"
            )


@functools.lru_cache(maxsize=1024)
def _close_option(name: str, more: tuple[str, ...]) -> str | None:
    """Return the option of ours that a name is close to; kept, since to look takes 100 us."""
    if name in _VENDOR_PARAMS:
        return None
    with importing():
        import difflib
    options = (*_OPTIONS, *more)
    return next(iter(difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.83)), None)


def _check_timeout(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not is_number(value) or value <= 0:
        raise ConfigurationError(
            f"timeout must be a number of seconds above 0, or None, not {value!r}."
        )


def _check_retry(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, RetryConfig):
        raise ConfigurationError(f"retry must be a RetryConfig or None, not {value!r}.")


def _check_provider(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value not in PROVIDERS:
        raise ConfigurationError(
            f"provider must be {' or '.join(map(repr, PROVIDERS))}, or None, not {value!r}."
        )


def _check_api(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value not in APIS:
        raise ConfigurationError(
            f"api must be {' or '.join(map(repr, APIS))}, or None, not {value!r}."
        )


def _check_rollout_key(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None or (isinstance(value, (str, int, bytes)) and not isinstance(value, bool)):
        return
    raise InvalidRequestError(
        f"rollout_key must be text, a whole number or bytes, or None, not {type(value).__name__}."
    )


def check_headers(headers: Any, name: str) -> None:
    """Refuse headers that cannot go out (RFC 9110, section 5), or that frame the request.

    Raises:
        InvalidRequestError: The message names the header and, since it may be a secret, never
            shows its value.
    """
    if not isinstance(headers, Mapping):
        raise InvalidRequestError(f"{name} must be a dict, not {type(headers).__name__}.")
    for header, text in headers.items():
        if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header):
            raise InvalidRequestError(f"{name} has a name that is no HTTP header name.")
        if header.lower() in _FRAMING:
            raise InvalidRequestError(f"{name} may not set {header}: it frames the request.")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise InvalidRequestError(
                f"{name}[{header!r}] must be printable ASCII text on one line."
            )


def _check_extra_headers(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        check_headers(value, attribute.name)


def _check_callable(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        check_listener(value, attribute.name)


def _check_mapping(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidRequestError(f"{attribute.name} must be a dict whose keys are text.")


def _check_query(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    _check_mapping(instance, attribute, value)
    for name, item in (value or {}).items():
        for text in (name, *(item if isinstance(item, (list, tuple)) else (item,))):
            if isinstance(text, str) and without_lone_surrogates(text) != text:
                raise InvalidRequestError("extra_query has a lone surrogate, which no URL takes.")


def _as_secret(key: Any) -> Any:
    return Secret(key) if isinstance(key, str) else key


def _check_model(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError("A Target's model must be a non-empty text.")
    if _KEY.match(value):
        raise InvalidRequestError(
            "A Target's model looks like an API key; write Target(model, api_key=...)."
        )


@attrs.frozen(eq=False, repr=False)
class Target(Value):
    """One more place that a call may be answered by, for ``fallback=``.

    What is None is taken from the environment, as for a call of its own: nothing of the first
    target's key, server or headers goes to this one.

    Args:
        model: The model's name, as its server writes it.
        provider: ``"openai"`` or ``"claude"``; None decides by the model's name.
        api: ``"chat"`` or ``"responses"``, which is OpenAI's only; None means ``"chat"``.
        api_key: The key; None means the environment's for this vendor.
        base_url: Where the API lives; None means the environment's, or the vendor's.
        api_version: ``anthropic-version``; Claude's only.
        extra_headers: Headers to add.
        extra_query: Query parameters to add.
        extra_body: Fields that win over everything else in the body.

    Raises:
        ConfigurationError: ``provider`` or ``api`` is none.
        InvalidRequestError: Another field has a wrong shape; the message names it.
    """

    model: str = attrs.field(validator=_check_model)
    provider: str | None = attrs.field(default=None, kw_only=True, validator=_check_provider)
    api: str | None = attrs.field(default=None, kw_only=True, validator=_check_api)
    # As a secret it refuses to be pickled with the target that holds it.
    api_key: str | None = attrs.field(default=None, kw_only=True, repr=False, converter=_as_secret)
    base_url: str | None = attrs.field(default=None, kw_only=True, repr=False)
    api_version: str | None = attrs.field(default=None, kw_only=True)
    extra_headers: Mapping[str, str] | None = attrs.field(
        default=None, kw_only=True, repr=False, validator=_check_extra_headers
    )
    extra_query: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, repr=False, validator=_check_query
    )
    extra_body: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, repr=False, validator=_check_mapping
    )


def _as_fallback(value: Any) -> Any:
    return tuple(value) or None if isinstance(value, (list, tuple)) else value


def _check_fallback(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple):
        raise InvalidRequestError(
            "fallback must be a list of model names and Targets, or None, "
            f"not {type(value).__name__}."
        )
    for index, entry in enumerate(value):
        if not isinstance(entry, Target) and not (isinstance(entry, str) and entry.strip()):
            raise InvalidRequestError(
                f"fallback[{index}] must be a model's name or a Target, "
                f"not {type(entry).__name__ if not isinstance(entry, str) else 'an empty text'}."
            )
        if isinstance(entry, str) and _KEY.match(entry):
            raise InvalidRequestError(
                f"fallback[{index}] looks like an API key; write Target(model, api_key=...)."
            )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallOptions(Value):
    """The options that every call takes, beside its model and messages.

    Args:
        api_key: The vendor's key; None means the environment's.
        base_url: Where the API lives; None means the environment's, or the vendor's.
        timeout: Seconds for the whole call; None means the client's.
        retry: The policy of this call; None means the client's.
        extra_headers: Headers to add.
        extra_query: Query parameters to add.
        extra_body: Fields that win over everything else in the body.
        cancel: A ``CancelToken``.
        rollout_key: Whose call it is, where the pool is used by a share of calls; None draws.
        provider: ``"openai"`` or ``"claude"``; None decides by the model's name.
        api: ``"chat"`` or ``"responses"``, which is OpenAI's only; None means ``"chat"``.
        api_version: ``anthropic-version`` of this call; Claude's only.
        fallback: Who is asked next where the one before does not answer, names of models and
            ``Target`` values; key, server, headers, query, extra body, vendor and API above are
            the first one's only.
        layers: What this call passes through in the place of the client's layers; None means
            those, and ``()`` none.
        on_event: Hears the events of this call.
        on_retry: Hears of each retry of this call before the wait.
    """

    api_key: str | None = attrs.field(default=None, repr=False)
    base_url: str | None = attrs.field(default=None, repr=False)
    timeout: float | None = attrs.field(default=None, validator=_check_timeout)
    retry: RetryConfig | None = attrs.field(default=None, validator=_check_retry)
    extra_headers: Mapping[str, str] | None = attrs.field(
        default=None, repr=False, validator=_check_extra_headers
    )
    extra_query: Mapping[str, Any] | None = attrs.field(
        default=None, repr=False, validator=_check_query
    )
    extra_body: Mapping[str, Any] | None = attrs.field(
        default=None, repr=False, validator=_check_mapping
    )
    cancel: Any = None
    rollout_key: str | int | bytes | None = attrs.field(
        default=None, repr=False, validator=_check_rollout_key
    )
    provider: str | None = attrs.field(default=None, validator=_check_provider)
    api: str | None = attrs.field(default=None, validator=_check_api)
    api_version: str | None = None
    layers: tuple[Layer, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(as_layers)
    )
    on_event: Listener | None = attrs.field(default=None, repr=False, validator=_check_callable)
    on_retry: Callable[[RetryScheduled], object] | None = attrs.field(
        default=None, repr=False, validator=_check_callable
    )

    def listeners(self) -> tuple[Listener, ...]:
        """Return who hears the events of the call, beside those of its client."""
        if self.on_event is None and self.on_retry is None:
            return ()
        heard = [] if self.on_event is None else [self.on_event]
        if (on_retry := self.on_retry) is not None:
            with importing():
                from .events import RetryScheduled

            def hear(event: Event) -> None:
                if isinstance(event, RetryScheduled):
                    on_retry(event)

            heard.append(hear)
        return tuple(heard)

    fallback: Sequence[str | Target] | None = attrs.field(
        default=None, converter=_as_fallback, validator=_check_fallback
    )
