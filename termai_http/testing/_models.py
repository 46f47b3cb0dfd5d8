"""The list of models, in both vendors' forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from ._checks import Problem

__all__ = ["DEFAULT_MODELS", "claude_page", "model_reply", "openai_list"]

DEFAULT_MODELS = {
    "claude": ("claude-opus-5-5", "claude-haiku-5-5"),
    "openai": ("gpt-5.5", "gpt-6-sol"),
}
_CREATED = 1_790_000_000
_PAGE, _MOST = 20, 1000


def model_reply(name: str, vendor: str) -> dict[str, Any]:
    """Return what a vendor says of one model."""
    if vendor == "openai":
        return {"id": name, "object": "model", "created": _CREATED, "owned_by": "system"}
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-09-21T00:00:00Z",
        "lifecycle": "active",
    }


def openai_list(names: Sequence[str]) -> dict[str, Any]:
    """Return all models, as OpenAI lists them."""
    return {"object": "list", "data": [model_reply(name, "openai") for name in names]}


def claude_page(names: Sequence[str], query: str) -> dict[str, Any] | Problem:
    """Return a page of models, as Claude lists them.

    Args:
        names: All of them.
        query: The request's query: ``limit``, ``after_id``, ``before_id``.
    """
    given: Mapping[str, str] = dict(parse_qsl(query))
    limit = given.get("limit", str(_PAGE))
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST:
        return Problem(message=f"limit: Input should be a number from 1 to {_MOST}")
    for name in ("after_id", "before_id"):
        if name in given and given[name] not in names:
            return Problem(message=f"{name}: no such model")
    if "before_id" in given:
        left = names[: names.index(given["before_id"])]
        page = left[-int(limit) :]
    else:
        left = names[names.index(given["after_id"]) + 1 :] if "after_id" in given else names
        page = left[: int(limit)]
    return {
        "data": [model_reply(name, "claude") for name in page],
        "has_more": len(page) < len(left),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }
