"""The parts of a Claude message's reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._secrets import without_lone_surrogates
from ..models import ToolCall, Usage
from ._base import count, made_good, tool_call
from ._neutral import made_id

__all__ = [
    "read_refusal",
    "read_text",
    "read_thinking",
    "read_tool_call",
    "read_tool_calls",
    "read_turn",
    "read_usage",
]


def _of(content: Iterable[Any], kind: str) -> list[dict[str, Any]]:
    return [block for block in content if isinstance(block, dict) and block.get("type") == kind]


def _joined(blocks: Iterable[Mapping[str, Any]], name: str) -> str:
    texts = (block.get(name) for block in blocks)
    return without_lone_surrogates("".join([text for text in texts if isinstance(text, str)]))


def read_text(content: Iterable[Any]) -> str:
    """Read the text of a message's blocks."""
    return _joined(_of(content, "text"), "text")


def read_thinking(content: Iterable[Any]) -> str:
    """Read the thinking that is shown."""
    return _joined(_of(content, "thinking"), "thinking")


def read_tool_calls(content: Iterable[Any]) -> tuple[ToolCall, ...]:
    """Read the tool calls that the caller has to answer, not those of the server's own tools.

    One without an id gets one that is the same each time it is read.
    """
    return tuple(read_tool_call(block, at) for at, block in enumerate(_of(content, "tool_use")))


def read_tool_call(block: Mapping[str, Any], at: int) -> ToolCall:
    """Read one of them, the ``at``-th of its message."""
    return tool_call(_id_of(block, at), block.get("name"), block.get("input") or {})


def _id_of(block: Mapping[str, Any], at: int) -> str:
    given = block.get("id")
    if isinstance(given, str) and given:
        return given
    return made_id(at, block.get("name"), block.get("input"))


def read_turn(content: list[Any]) -> tuple[Mapping[str, Any], ...]:
    """Read blocks as the messages of a next request; () where they say nothing.

    Text alone is text. Anything else goes back block by block: between tool calls the API wants its
    thinking back, with its signature and unchanged.
    """
    if all(_is_plain(block) for block in content):
        text = read_text(content)
        return ({"role": "assistant", "content": text},) if text else ()
    blocks: list[dict[str, Any]] = []
    for block in content:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            continue
        # Empty text may come, and is refused when it comes back.
        if not _is_plain(block) or read_text([block]):
            blocks.append(_again(made_good(block), len(_of(blocks, "tool_use"))))
    return ({"role": "assistant", "content": blocks},) if blocks else ()


def _again(block: dict[str, Any], at: int) -> dict[str, Any]:
    """Return a block as a request takes it, where it came in some other form."""
    if block["type"] != "tool_use":
        return block
    given = block.get("input")
    if isinstance(given, dict) and _id_of(block, at) == block.get("id"):
        return block
    # The API takes objects only, and an input that was cut short is text.
    read = tool_call("", "", given or {}).arguments
    again = {"arguments": given} if read is None else read
    return {**block, "id": _id_of(block, at), "input": again}


def _is_plain(block: Any) -> bool:
    """Tell whether a block is text and no more; what is null says nothing."""
    if not isinstance(block, dict) or block.get("type") != "text":
        return False
    return all(name in ("text", "type") for name, value in block.items() if value is not None)


def read_refusal(payload: Mapping[str, Any], text: str) -> str | None:
    """Read why the model refused; None where it did not."""
    if payload.get("stop_reason") != "refusal":
        return None
    details = payload.get("stop_details")
    why = details.get("explanation") if isinstance(details, Mapping) else None
    return why if isinstance(why, str) and why else text or "Claude gave no reason."


def read_usage(usage: Any) -> Usage:
    """Read the tokens; zeros where it says nothing."""
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("output_tokens_details")
    cached = count(usage.get("cache_read_input_tokens"))
    return Usage(
        # input_tokens counts only what neither read nor wrote the cache.
        input_tokens=count(usage.get("input_tokens"))
        + count(usage.get("cache_creation_input_tokens"))
        + cached,
        output_tokens=count(usage.get("output_tokens")),
        cached_tokens=cached,
        reasoning_tokens=count(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
    )
