"""Reading the answers to calls that are no chats. Pure."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ._query_models import ModelInfo
from .dialects._base import count
from .errors import InvalidResponseError
from .models import Usage

__all__ = ["read_count", "read_embeddings", "read_models"]


def read_embeddings(payload: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Read vectors, usage and model.

    Args:
        payload: The answer.
        body: The request.

    Raises:
        InvalidResponseError: There is not one vector of numbers for each text.
    """
    usage = payload.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    return {
        "vectors": _read_vectors(payload.get("data"), _number_of(body["input"]), body),
        "usage": Usage(input_tokens=count(tokens)),
        "model": str(payload.get("model") or ""),
    }


def _number_of(texts: Any) -> int:
    """Count the inputs; a list of numbers is the tokens of one."""
    many = isinstance(texts, (list, tuple)) and not any(isinstance(one, int) for one in texts[:1])
    return len(texts) if many else 1


def _read_vectors(data: Any, number: int, body: Mapping[str, Any]) -> list[list[float]]:
    if not isinstance(data, list) or len(data) != number:
        came = f"{len(data)} vectors" if isinstance(data, list) else "no list of vectors"
        raise InvalidResponseError(f"The reply has {came} for {number} texts.")
    vectors = [_read_vector(item, at) for at, item in enumerate(data)]
    asked = body.get("dimensions")
    wanted = asked if isinstance(asked, int) else len(vectors[0])
    for at, vector in enumerate(vectors):
        if len(vector) != wanted:
            why = f"not the {wanted} that were asked for" if asked else f"not {wanted}"
            raise InvalidResponseError(f"data[{at}] is a vector of {len(vector)} numbers, {why}.")
    return _in_order(vectors, [item.get("index") for item in data])


def _read_vector(item: Any, at: int) -> list[float]:
    values = item.get("embedding") if isinstance(item, Mapping) else None
    vector: list[float] | None = None
    if isinstance(values, str):
        vector = _from_base64(values)
    elif isinstance(values, list) and set(map(type, values)) <= {float, int}:
        vector = _as_floats(values)
    # A sum is finite only where every number is; those of a vector are too small to overflow it.
    if not vector or not math.isfinite(sum(vector)):
        raise InvalidResponseError(f"data[{at}].embedding is no vector of numbers.")
    return vector


def _as_floats(values: list[float | int]) -> list[float] | None:
    try:
        return list(map(float, values))
    except OverflowError:
        return None


def _from_base64(text: str) -> list[float] | None:
    """Read 32-bit floats, the low byte first."""
    try:
        data = base64.b64decode(text, validate=True)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    except (ValueError, binascii.Error, struct.error):
        return None


def _in_order(vectors: list[list[float]], indexes: list[Any]) -> list[list[float]]:
    if all(index is None for index in indexes):
        return vectors
    whole = all(type(index) is int for index in indexes)
    if not whole or sorted(indexes) != list(range(len(vectors))):
        raise InvalidResponseError("The reply does not tell which vector is of which text.")
    placed = dict(zip(indexes, vectors, strict=True))
    return [placed[index] for index in range(len(vectors))]


def read_count(payload: Mapping[str, Any]) -> int:
    """Read a number of tokens.

    Raises:
        InvalidResponseError: There is none.
    """
    tokens = payload.get("input_tokens")
    if type(tokens) is not int or tokens < 0:
        raise InvalidResponseError("The reply has no number of tokens.")
    return tokens


def read_models(payload: Mapping[str, Any]) -> tuple[list[ModelInfo], str | None]:
    """Read one page of models, and after which the next one begins; None for the last page.

    Raises:
        InvalidResponseError: It is no page of models.
    """
    data = payload.get("data")
    if not isinstance(data, list):
        raise InvalidResponseError("The reply has no list of models.")
    models = [_read_model(item, at) for at, item in enumerate(data)]
    if payload.get("has_more") is not True:
        return models, None
    last = payload.get("last_id") or (models[-1].id if models else None)
    if not isinstance(last, str):
        raise InvalidResponseError("The list of models goes on, but does not say after which.")
    return models, last


def _read_model(item: Any, at: int) -> ModelInfo:
    name = item.get("id") if isinstance(item, Mapping) else None
    if not isinstance(name, str) or not name:
        raise InvalidResponseError(f"data[{at}] is a model without an id.")
    shown = (item.get(key) for key in ("display_name", "name"))
    return ModelInfo(
        id=name,
        created=_read_time(item.get("created_at") or item.get("created")),
        display_name=next((text for text in shown if isinstance(text, str) and text), None),
        raw=item,
    )


def _read_time(value: Any) -> datetime | None:
    """Read seconds since 1970, or RFC 3339; servers that do not know say 1970."""
    try:
        if isinstance(value, str):
            # Python 3.10 knows no Z.
            found = datetime.fromisoformat(value.replace("Z", "+00:00"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value, timezone.utc)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    found = found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
    return found if found.timestamp() > 0 else None
