"""How many tokens a request may take, roughly and before it is sent; pure."""

from __future__ import annotations

import re

__all__ = ["estimate"]

_BYTES_A_TOKEN = 4
# Inside a string of JSON the quotes have a backslash before them.
_MOST_OUTPUT = re.compile(
    rb'(?<!\\)"max_(?:completion_|output_)?tokens"\s*:\s*([0-9]{1,9})(?![0-9.])'
)
_LARGE = 8192
# Pictures and files in base64, which are not counted by their length.
_ENCODED = re.compile(rb"[A-Za-z0-9+/_=-]{2048,}")
_TOKENS_OF_ONE = 1000


def estimate(body: bytes) -> tuple[int, int]:
    """Estimate a request's tokens: a quarter of its bytes, and what it may be answered.

    Args:
        body: The encoded body.

    Returns:
        The tokens of the request, and ``max_tokens``, 0 where it has none.
    """
    asked = _MOST_OUTPUT.findall(body)
    size, encoded = len(body), 0
    if size > _LARGE:
        for run in _ENCODED.finditer(body):
            size -= len(run[0])
            encoded += _TOKENS_OF_ONE
    return -(-size // _BYTES_A_TOKEN) + encoded, int(asked[-1]) if asked else 0
