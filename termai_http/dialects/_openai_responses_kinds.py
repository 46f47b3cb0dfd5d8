"""What the items of responses are to this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["CALLS", "is_answer", "without_stored"]

# Each kind of call that the caller has to answer, and the field with what the model wrote for it.
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}


def is_answer(message: Mapping[str, Any]) -> bool:
    """Tell whether a message is the answer, and not what the model says on its way there.

    OpenAI reads structured output by the same rule: in messages without a phase, and in those whose
    phase is the final answer.
    """
    return message.get("phase") in (None, "final_answer")


def without_stored(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return items without what only a server that stored them could look up.

    Reasoning that is not stored goes back by its encrypted content or not at all; and an item is
    refused whose id belongs to a reply with reasoning that is missing.
    """
    kept: list[dict[str, Any]] = []
    missing = False
    for item in items:
        if item.get("type") == "reasoning":
            missing = not item.get("encrypted_content")
            kept += [] if missing else [item]
        else:
            kept.append(_unnamed(item) if missing else item)
    return kept


def _unnamed(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item in a form that has no id, where its type has one."""
    if item.get("type") in CALLS:
        return {name: item[name] for name in item if name not in ("id", "status")}
    if item.get("type") != "message" or item.get("role") != "assistant":
        return item
    content = item.get("content")
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        texts = [part.get("text") or part.get("refusal") for part in parts]
        content = "".join([text for text in texts if isinstance(text, str)])
    phase = {"phase": item["phase"]} if item.get("phase") else {}
    return {"role": "assistant", "content": content, **phase}
