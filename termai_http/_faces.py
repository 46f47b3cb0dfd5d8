"""What the faces share: arguments as they were given, turned into a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._core import Core
from ._importing import importing
from ._options import PROVIDERS, CallOptions, check_params
from ._request import model_or_default
from ._target import Account, provider_of
from .errors import ConfigurationError, InvalidRequestError, TermaiHttpError
from .models import ChatRequest

if TYPE_CHECKING:
    from ._query_models import EmbeddingRequest

__all__ = ["ask_with", "chat_request", "embedding_request", "send_with"]

R = TypeVar("R")
T = TypeVar("T")

# Of the environment, as a face has no other.
_ACCOUNTS = {provider: Account(provider=provider) for provider in PROVIDERS}
_OF_CHATS = frozenset(
    {
        *("api", "api_version", "fallback", "max_tokens", "output", "reasoning", "stop", "stream"),
        *("system", "tools"),
    }
)


def send_with(
    on: Callable[[], Any],
    given: dict[str, Any],
    send: Callable[[Core, Account, ChatRequest, CallOptions], T | TermaiHttpError],
) -> T | BaseException:
    """Send a chat with a face's arguments as they were given; as ``ask_with``."""
    return ask_with(on, given, chat_request, send)


def ask_with(
    on: Callable[[], Any],
    given: dict[str, Any],
    make: Callable[[dict[str, Any]], R],
    send: Callable[[Core, Account, R, CallOptions], T | TermaiHttpError],
) -> T | BaseException:
    """Make a call with a face's arguments as they were given.

    Args:
        on: Returns the client to make it on.
        given: The arguments, by name; those that ``make`` leaves are the call's options.
        make: Takes what is asked for out of the arguments.
        send: Makes the call.

    Returns:
        What was asked for, or the exception in its place, also one that is no error of ours: only
        the face can clear its own arguments before it raises.
    """
    del given["self" if "self" in given else "client"]
    try:
        used = on()
        core = getattr(used, "_core", None)
        if not isinstance(core, Core):
            raise ConfigurationError(f"client must be a Client or None, not {type(used).__name__}.")
        request = make(given)
        options = CallOptions(**given)
        named = provider_of(getattr(request, "model", ""))
        return send(core, _ACCOUNTS[options.provider or named], request, options)
    except TermaiHttpError as error:
        return error.with_traceback(None)
    except BaseException as error:
        return error


def chat_request(given: dict[str, Any]) -> ChatRequest:
    """Take a chat out of a face's arguments.

    Raises:
        InvalidRequestError: One of them is wrong.
    """
    params = given.pop("params")
    check_params(params)
    params.pop("stream", None)
    return ChatRequest(
        model=model_or_default(given.pop("model")),
        messages=given.pop("prompt"),
        system=given.pop("system"),
        max_tokens=given.pop("max_tokens"),
        extra=params,
        tools=given.pop("tools"),
        output=given.pop("output"),
        reasoning=given.pop("reasoning"),
        stop=given.pop("stop"),
    )


def embedding_request(given: dict[str, Any]) -> EmbeddingRequest:
    """Take texts to embed out of a face's arguments.

    Raises:
        InvalidRequestError: One of them is wrong.
    """
    params = given.pop("params")
    for name in sorted(_OF_CHATS.intersection(params)):
        raise InvalidRequestError(f"{name}= is no option of embed().")
    if "dimension" in params:
        raise InvalidRequestError("dimension= is no option; did you mean dimensions=?")
    check_params(params)
    with importing():
        from ._query_models import EmbeddingRequest
    return EmbeddingRequest(
        texts=given.pop("texts"),
        model=given.pop("model"),
        dimensions=given.pop("dimensions"),
        extra=params,
    )
