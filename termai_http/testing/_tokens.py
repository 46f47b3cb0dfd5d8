"""Counts of tokens, four characters each; what a vendor's tokenizer finds differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._checks import EFFORTS

__all__ = ["input_tokens", "reasoning_tokens", "size_of", "tokens"]

_OVERHEAD = 8
_ATTACHED = frozenset(
    {"document", "file", "image", "image_url", "input_audio", "input_file", "input_image"}
)
_ATTACHED_SIZE = 1000
# What a request says in its own words, not in a model's.
_SILENT = frozenset(
    {
        *("cache_control", "call_id", "detail", "encrypted_content", "id", "role", "signature"),
        *("status", "tool_call_id", "tool_use_id", "type"),
    }
)
_READ = ("messages", "input", "system", "instructions", "tools")


def tokens(size: int) -> int:
    """Return how many tokens so many characters are."""
    return max(size // 4, 1)


def size_of(value: Any) -> int:
    """Return how many characters the texts within a value have; what is attached counts flat."""
    if isinstance(value, str):
        return len(value)
    size = 0
    if isinstance(value, dict):
        if value.get("type") in _ATTACHED:
            return _ATTACHED_SIZE
        for name, one in value.items():
            if name not in _SILENT:
                size += size_of(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            size += size_of(one)
    return size


def input_tokens(body: Mapping[str, Any], before: Any = ()) -> int:
    """Return the tokens of a request.

    Args:
        body: The request's body.
        before: What the server remembers of the turns before it.
    """
    size = size_of(before)
    for name in _READ:
        if name in body:
            size += size_of(body[name])
    return tokens(size) + _OVERHEAD


def reasoning_tokens(effort: Any) -> int:
    """Return how many tokens OpenAI's models reason with; none where no effort is asked for."""
    return 2 ** (EFFORTS.index(effort) + 3) if effort in EFFORTS[1:] else 0
