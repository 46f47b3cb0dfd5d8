"""OpenAI's embeddings: the same vector for the same text, near to texts with the same words."""

from __future__ import annotations

import base64
import hashlib
import math
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._checks import Problem
from ._openai_checks import missing, unknown_value, wrong_type
from ._tokens import tokens

__all__ = ["embeddings_problems", "embeddings_reply"]

_SIZE, _LARGE = 1536, 3072
_MOST_INPUTS = 2048
# How many places of a vector a word stands in.
_PLACES = 8


def embeddings_problems(body: Mapping[str, Any]) -> Iterator[Problem]:
    """Check a request of embeddings."""
    for name in ("model", "input"):
        if body.get(name) is None:
            yield missing(name)
    yield from _inputs(body["input"])
    form = body.get("encoding_format")
    if form not in (None, "float", "base64"):
        yield unknown_value("encoding_format", form, ("float", "base64"))
    size = body.get("dimensions")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
        yield wrong_type("dimensions", "an integer", size)
    if size is not None and not 1 <= size <= _size(body):
        yield Problem(
            message=f"Invalid value for 'dimensions' = {size}. Must be from 1 to {_size(body)}.",
            param="dimensions",
        )


def _inputs(given: Any) -> Iterator[Problem]:
    if not isinstance(given, (str, list)):
        yield wrong_type("input", "a string or an array", given)
    several = isinstance(given, list) and not _is_tokens(given)
    if isinstance(given, list) and len(given) > _MOST_INPUTS and several:
        yield Problem(
            message=f"Invalid 'input': array too long. Expected at most {_MOST_INPUTS}, but got "
            f"{len(given)} instead.",
            param="input",
            code="array_above_max_length",
        )
    for one in given if several else [given]:
        if not one:
            yield Problem(message="'input' cannot be an empty string.", param="input")
        if not isinstance(one, str) and not _is_tokens(one):
            yield Problem(message="'input' must be texts or tokens.", param="input")
    if given == []:
        yield Problem(message="'input' cannot be an empty array.", param="input")


def _is_tokens(given: Any) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(one, int) and not isinstance(one, bool) for one in given)
    )


def embeddings_reply(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the vectors of a request's texts."""
    given = body["input"]
    inputs = [given] if isinstance(given, str) or _is_tokens(given) else given
    encode = _as_base64 if body.get("encoding_format") == "base64" else list
    data = [
        {"object": "embedding", "index": at, "embedding": encode(_vector(one, body))}
        for at, one in enumerate(inputs)
    ]
    read = sum(tokens(len(one)) if isinstance(one, str) else len(one) for one in inputs)
    usage = {"prompt_tokens": read, "total_tokens": read}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _size(body: Mapping[str, Any]) -> int:
    return _LARGE if str(body["model"]).endswith("-large") else _SIZE


def _vector(given: str | Sequence[int], body: Mapping[str, Any]) -> list[float]:
    """Return a vector of unit length, in the numbers that four bytes hold."""
    size = _size(body)
    words = given.lower().split() if isinstance(given, str) else [str(one) for one in given]
    noise = random.Random(" ".join(words))  # noqa: S311 - the same each time, not secret
    vector = [noise.uniform(-0.01, 0.01) for _ in range(size)]
    for word in words:
        digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
        for place in struct.unpack(f"<{_PLACES}I", digest):
            vector[place // 2 % size] += 1 if place % 2 else -1
    vector = vector[: body.get("dimensions") or size]
    length = math.sqrt(sum(number * number for number in vector))
    return list(_packed([number / length for number in vector]))


def _packed(numbers: Sequence[float]) -> tuple[float, ...]:
    form = f"<{len(numbers)}f"
    return struct.unpack(form, struct.pack(form, *numbers))


def _as_base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
