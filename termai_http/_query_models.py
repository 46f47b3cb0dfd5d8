"""Requests and results of the calls that are no chats, as values, the same for every vendor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from ._numbers import is_whole
from .errors import InvalidRequestError
from .models import Usage

__all__ = ["EmbeddingRequest", "Embeddings", "ModelInfo"]


def _check_texts(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, str):
        if not value:
            raise InvalidRequestError("The text to embed is empty.")
        return
    if not isinstance(value, (list, tuple)):
        raise InvalidRequestError(
            f"texts must be text or a list of texts, not {type(value).__name__}."
        )
    if not value:
        raise InvalidRequestError("The list of texts to embed is empty.")
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise InvalidRequestError(f"texts[{index}] must be text, not {type(text).__name__}.")
        if not text:
            raise InvalidRequestError(f"texts[{index}] is empty, which no model embeds.")


def _check_model(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError(
            "No model: pass model=, for example 'text-embedding-3-small'. Vectors of different "
            "models cannot be compared, so there is no default."
        )


def _check_dimensions(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not is_whole(value, 1):
        raise InvalidRequestError(
            f"dimensions must be a whole number of at least 1, or None, not {value!r}."
        )


@attrs.frozen(kw_only=True)
class EmbeddingRequest:
    """Texts to turn into vectors.

    Args:
        texts: One text, or a list of texts.
        model: The model's name, as the vendor writes it.
        dimensions: Numbers in each vector; None means the model's own.
        extra: Further parameters of the vendor's, sent as they are.

    Raises:
        InvalidRequestError: A field has a wrong shape; the message names it.
    """

    texts: str | Sequence[str] = attrs.field(repr=False, validator=_check_texts)
    model: str = attrs.field(validator=_check_model)
    dimensions: int | None = attrs.field(default=None, validator=_check_dimensions)
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class Embeddings:
    """The vectors of texts.

    Attributes:
        vectors: One vector for each text, in the order of the texts.
        usage: Tokens read.
        model: The model that made them, as the server names it.
        request_id: The vendor's id of the HTTP request, to quote to its support.
        status_code: HTTP status.
        headers: Response headers, names in lower case.
        attempts: HTTP exchanges the call made, 1 where the first succeeded.
        elapsed: Seconds from the call's entry to the reply.
        raw: All that the server sent; vectors that came as base64 stand there as such.
        cost: US dollars, as ``ChatResponse.cost``.
    """

    vectors: list[list[float]] = attrs.field(repr=False)
    usage: Usage
    model: str
    request_id: str | None
    status_code: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    attempts: int
    elapsed: float
    raw: Mapping[str, Any] = attrs.field(repr=False)
    cost: float | None = None


@attrs.frozen(kw_only=True)
class ModelInfo:
    """One model that a key can use.

    Attributes:
        id: The name to call it by, as ``model=``.
        created: When it was released; None where the server does not say.
        display_name: A name for people; None where the server has none.
        raw: All that the server said of it.
    """

    id: str
    created: datetime | None = None
    display_name: str | None = None
    raw: Mapping[str, Any] = attrs.field(repr=False)
