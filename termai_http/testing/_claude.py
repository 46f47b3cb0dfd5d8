"""Claude's messages: whole, and as events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ._claude_turns import signature
from ._events import FINISH, MARK, Event, pieces
from ._faults import ErrorEvent
from ._memory import Memory, prefixes
from ._reading import marks_of, messages_of, results_of
from ._tokens import input_tokens, size_of, tokens
from ._turns import Turn

__all__ = ["claude_error", "claude_events", "claude_reply", "claude_unfinished"]

_THOUGHTS = "The answer repeats what was said."
# How a block begins in a stream.
_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}
_REASONS = {
    "content_filter": "refusal",
    "length": "max_tokens",
    "stop": "end_turn",
    "tool_calls": "tool_use",
}


def claude_reply(
    body: Mapping[str, Any], number: int, turn: Turn, memory: Memory
) -> dict[str, Any]:
    """Return a message.

    Args:
        body: The request's body.
        number: Its number, for ids.
        turn: What the model says.
        memory: What the server remembers.
    """
    reason = "refusal" if turn.refusal else _REASONS[turn.finish]
    whole: dict[str, Any] = {
        "id": f"msg_{number:06d}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": list(_content(body, number, turn)),
        "stop_reason": reason if turn.stop is None else "stop_sequence",
        "stop_sequence": turn.stop,
    }
    if reason == "refusal":
        details = {"type": "refusal", "category": None, "explanation": turn.text or None}
        whole["stop_details"] = details
    if body["max_tokens"] == 0:
        whole |= {"content": [], "stop_reason": "max_tokens", "stop_sequence": None}
    return {**whole, "usage": _usage(body, whole, memory)}


def _content(body: Mapping[str, Any], number: int, turn: Turn) -> Iterator[dict[str, Any]]:
    thinking = body.get("thinking") or {}
    kind = thinking.get("type")
    if kind in ("adaptive", "enabled") or (kind == "between_tools" and results_of(body)):
        said = "" if thinking.get("display") == "omitted" else _THOUGHTS
        yield {"type": "thinking", "thinking": said, "signature": signature(said)}
    if turn.text:
        yield {"type": "text", "text": turn.text}
    for at, (name, arguments) in enumerate(turn.calls):
        yield {
            "type": "tool_use",
            "id": f"toolu_{number:06d}_{at}",
            "name": name,
            "input": _as_object(arguments),
        }


def _as_object(arguments: str) -> Any:
    """Return the arguments as Claude gives them; text that is no JSON stays as it is."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _usage(body: Mapping[str, Any], whole: Mapping[str, Any], memory: Memory) -> dict[str, Any]:
    read, written, lasting = _cache(body, memory)
    total = input_tokens(body)
    read = min(read, total)
    written = min(written, total - read)
    thought = sum(64 for block in whole["content"] if block["type"] == "thinking")
    said = sum(size_of(block) for block in whole["content"] if block["type"] != "thinking")
    usage: dict[str, Any] = {
        "input_tokens": total - read - written,
        "output_tokens": tokens(said) + thought if whole["content"] else 0,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "service_tier": "standard",
    }
    if written:
        usage["cache_creation"] = {
            "ephemeral_5m_input_tokens": 0 if lasting == "1h" else written,
            "ephemeral_1h_input_tokens": written if lasting == "1h" else 0,
        }
    if thought:
        usage["output_tokens_details"] = {"thinking_tokens": thought}
    return usage


def _cache(body: Mapping[str, Any], memory: Memory) -> tuple[int, int, str]:
    """Return the tokens read from the cache and those put into it, and for how long.

    What stands up to a mark is put there. The vendor caches from 1,024 tokens on; this server
    caches whatever is marked.
    """
    if not marks_of(body):
        return 0, 0, ""
    blocks = list(_blocks(body))
    if body.get("cache_control"):
        blocks[-1] = (blocks[-1][0], body["cache_control"])
    marks = [at for at, (_, mark) in enumerate(blocks) if mark]
    known = prefixes(body["model"], [block for block, _ in blocks[: marks[-1] + 1]])
    read = memory.cached(known, [known[at] for at in marks])
    written = tokens(known[-1].size) - (tokens(read) if read else 0)
    return tokens(read) if read else 0, max(written, 0), blocks[marks[-1]][1].get("ttl", "5m")


def _blocks(body: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield all that the model reads, in its order, each with its mark."""
    for tool in body.get("tools") or ():
        yield _unmarked(tool)
    system = body.get("system")
    for block in system if isinstance(system, list) else [system] if system else []:
        yield _unmarked(block)
    for message in messages_of(body):
        content = message["content"]
        for block in content if isinstance(content, list) else [content]:
            plain, mark = _unmarked(block)
            yield {"role": message["role"], "block": plain}, mark


def _unmarked(block: Any) -> tuple[Any, Any]:
    if isinstance(block, str):
        return {"type": "text", "text": block}, None
    plain = {name: value for name, value in block.items() if name != "cache_control"}
    marks = marks_of({"messages": [block]})
    return plain, marks[-1] if marks else None


def claude_unfinished(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message without its stop reason."""
    return {**whole, "stop_reason": None, "stop_sequence": None}


def claude_events(body: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Event]:
    """Return a message as events.

    Args:
        body: The request's body.
        whole: The message.
    """
    usage, end = whole["usage"], ("stop_reason", "stop_sequence", "stop_details")
    begun_usage = {**usage, "output_tokens": min(usage["output_tokens"], 1)}
    begun_usage.pop("output_tokens_details", None)
    begun = {name: value for name, value in whole.items() if name != "stop_details"}
    begun |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": begun_usage}
    said: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for at, block in enumerate(whole["content"]):
        said += _block(at, block)
    said.insert(min(2, len(said)), {"type": "ping"})
    last = {
        "type": "message_delta",
        "delta": {name: whole[name] for name in end if name in whole},
        "usage": {
            name: value
            for name, value in usage.items()
            if name not in ("cache_creation", "service_tier")
        },
    }
    events = [Event(name=event["type"], data=event) for event in said]
    return [
        *events,
        Event(name="message_delta", data=last, ends=FINISH),
        Event(name="message_stop", data={"type": "message_stop"}, ends=MARK),
    ]


def _block(at: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind = block["type"]
    yield {"type": "content_block_start", "index": at, "content_block": {**block, **_EMPTY[kind]}}
    deltas: list[dict[str, Any]] = []
    if kind == "tool_use":
        given = block["input"]
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        deltas = [{"type": "input_json_delta", "partial_json": one} for one in ("", *pieces(text))]
    else:
        deltas = [{"type": f"{kind}_delta", kind: one} for one in pieces(block[kind])]
    if kind == "thinking":
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    for delta in deltas:
        yield {"type": "content_block_delta", "index": at, "delta": delta}
    yield {"type": "content_block_stop", "index": at}


def claude_error(fault: ErrorEvent, before: int) -> Event:
    """Return the event of an error within a stream.

    Args:
        fault: The error.
        before: How many events came before it.
    """
    error: dict[str, Any] = {"type": fault.type or "overloaded_error", "message": fault.message}
    if fault.code is not None:
        error["details"] = {"error_code": fault.code}
    return Event(name="error", data={"type": "error", "error": error})
