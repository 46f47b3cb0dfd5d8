"""The items of a batch, whatever they were given as, turned into requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ._batch_window import BatchItem
from ._importing import importing
from ._options import check_params
from ._request import model_or_default
from .errors import InvalidRequestError, TermaiHttpError
from .models import ChatRequest, ChatResponse, Message

__all__ = ["Items", "check_items"]

# What the batch gives where an item says nothing.
_FILLED = ("system", "max_tokens", "tools", "output", "reasoning", "stop")
_OF_OBJECTS = frozenset({*_FILLED, "id", "prompt", "messages", "model", "extra"})
_OPTIONS = (
    *("api_key_env", "as_completed", "executor", "max_workers", "progress", "results"),
    *("return_exceptions", "total_timeout"),
)
_A_LIST = "one prompt alone goes into a list: chat_many([prompt])"


def check_items(items: Any) -> Iterable[Any]:
    """Refuse what is no iterable of items; it is not read, nor asked for its length.

    Raises:
        InvalidRequestError: It is none.
    """
    if isinstance(items, (str, bytes, bytearray, Mapping, ChatRequest, ChatResponse)):
        raise InvalidRequestError(
            f"items must be an iterable of prompts, not {type(items).__name__}; {_A_LIST}."
        )
    if not hasattr(items, "__iter__") and not hasattr(items, "__getitem__"):
        raise InvalidRequestError(
            f"items must be an iterable of prompts, not {type(items).__name__}."
        )
    return items  # type: ignore[no-any-return]


class Items:
    """Makes the items of one batch.

    Args:
        given: The arguments of the call that every item shares, by name; they are taken out.
        travelling: Whether the items go to other processes, where functions are not told yet.

    Raises:
        InvalidRequestError: One of them is wrong.
        ConfigurationError: A library that they need is missing.
    """

    def __init__(self, given: dict[str, Any], *, travelling: bool = False) -> None:
        params = given.pop("params")
        check_params(params, _OPTIONS)
        params.pop("stream", None)
        model = given.pop("model")
        self._model = model
        self._rest: dict[str, Any] = {name: given.pop(name) for name in _FILLED}
        self._params = params
        # Their values are wrong for every item or for none.
        shared = ChatRequest("a model" if model is None else model, "A prompt", **self._rest)
        self._rest["stop"] = shared.stop
        if not travelling:
            self._tell_once()

    def _tell_once(self) -> None:
        """Turn tools and output, once for all items, into what dialects encode."""
        tools, output = self._rest["tools"], self._rest["output"]
        if tools is None and output is None:
            return
        with importing():
            from ._output import as_output
            from ._tools import as_tools
        self._rest["tools"] = as_tools(tools) or None
        self._rest["output"] = None if output is None else as_output(output)

    def item(self, number: int, given: Any) -> BatchItem | tuple[TermaiHttpError, Any]:
        """Return an item, or what is wrong with it and its id."""
        own: str | int | None = None
        try:
            if isinstance(given, TermaiHttpError):
                return given, None
            if isinstance(given, Mapping):
                own = _id_of(given)
                request = self._of_object(given)
            elif isinstance(given, ChatRequest):
                request = self._filled(given)
            else:
                request = self._plain(given)
        except TermaiHttpError as error:
            error.message = f"Item {number}: {error.message}"
            return error.with_traceback(None), own
        return BatchItem(number, request, own)

    def _plain(self, prompt: Any) -> ChatRequest:
        if isinstance(prompt, Message):
            raise InvalidRequestError("a message alone is no item; put it into a list.")
        model = self._model
        if model is None:
            model = model_or_default(None)
        return ChatRequest(model, prompt, extra=self._params, **self._rest)

    def _filled(self, request: ChatRequest) -> ChatRequest:
        missing = {
            name: value
            for name, value in self._rest.items()
            if value is not None and getattr(request, name) is None
        }
        if self._params:
            missing["extra"] = {**self._params, **request.extra}
        return attrs.evolve(request, **missing) if missing else request

    def _of_object(self, given: Mapping[str, Any]) -> ChatRequest:
        if "role" in given:
            raise InvalidRequestError("a message alone is no item; put it into a list.")
        if unknown := sorted(str(name) for name in given if name not in _OF_OBJECTS):
            raise InvalidRequestError(
                f"it has {unknown[0]!r}, which no item has. An item has prompt or messages, and "
                "may have id, model, system, max_tokens, tools, output, reasoning, stop, and extra "
                "with the vendor's own parameters."
            )
        prompts = [name for name in ("prompt", "messages") if given.get(name) is not None]
        if len(prompts) != 1:
            raise InvalidRequestError("it must have a prompt or messages, and not both.")
        own: dict[str, Any] = {name: given[name] for name in _FILLED if name in given}
        model = given.get("model")
        return self._filled(
            ChatRequest(
                model_or_default(self._model if model is None else model),
                given[prompts[0]],
                extra=given.get("extra") or {},
                **own,
            )
        )


def _id_of(given: Mapping[str, Any]) -> str | int | None:
    own = given.get("id")
    if own is not None and (isinstance(own, bool) or not isinstance(own, (str, int))):
        raise InvalidRequestError(
            f"its id must be text or a whole number, not {type(own).__name__}."
        )
    return own
