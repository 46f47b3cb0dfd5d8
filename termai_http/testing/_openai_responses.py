"""OpenAI's responses: whole, and as events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._events import FINISH, Event, pieces
from ._faults import ErrorEvent
from ._memory import Memory, prefixes
from ._reading import messages_of
from ._replies import CREATED
from ._tokens import input_tokens, reasoning_tokens, tokens
from ._turns import Turn

__all__ = [
    "count_input",
    "responses_error",
    "responses_events",
    "responses_reply",
    "responses_unfinished",
]

_THOUGHTS = "The answer repeats what was said."
# How an item begins in a stream.
_EMPTY: dict[str, dict[str, Any]] = {
    "function_call": {"status": "in_progress", "arguments": ""},
    "message": {"status": "in_progress", "content": []},
    "reasoning": {"summary": []},
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
# What a response repeats of its request, and what it says where the request is silent.
_REPEATED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "model": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def responses_reply(
    body: Mapping[str, Any], number: int, turn: Turn, memory: Memory
) -> dict[str, Any]:
    """Return a response, and remember it unless it shall not be stored.

    Args:
        body: The request's body.
        number: Its number, for ids.
        turn: What the model says.
        memory: What the server remembers.
    """
    failed, reason = turn.failed, _INCOMPLETE.get(turn.finish)
    output = [] if failed else list(_output(body, number, turn, reason))
    status = "failed" if failed else "completed" if reason is None else "incomplete"
    whole: dict[str, Any] = {
        "id": f"resp_{number:06d}",
        "object": "response",
        "created_at": CREATED + number,
        "status": status,
        "error": None if failed is None else {"code": failed.code, "message": failed.message},
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": output,
        **{name: body.get(name, usual) for name, usual in _REPEATED.items()},
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "text": {"format": {"type": "text"}, "verbosity": "medium", **(body.get("text") or {})},
        "tools": [_tool(tool) for tool in body.get("tools") or ()],
        "usage": None if failed else _usage(body, turn, memory),
    }
    if status == "completed":
        whole["completed_at"] = CREATED + number
    if body.get("store") is not False and not failed:
        memory.store(whole["id"], body.get("previous_response_id"), _given(body), output)
    return whole


def _given(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if isinstance(body.get("input"), str):
        return [{"type": "message", "role": "user", "content": body["input"]}]
    return messages_of(body)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return dict(tool)
    return {"description": None, "parameters": None, "strict": True, **tool}


def _output(
    body: Mapping[str, Any], number: int, turn: Turn, reason: str | None
) -> Iterator[dict[str, Any]]:
    if _thought(body):
        yield _reasoning(body, number)
    if turn.text or not turn.calls:
        part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": []}
        part["text"] = turn.text
        yield {
            "id": f"msg_{number:06d}",
            "type": "message",
            "status": "completed" if reason is None else "incomplete",
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": turn.text} if turn.refusal else part],
        }
    for at, (name, arguments) in enumerate(turn.calls):
        yield {
            "id": f"fc_{number:06d}_{at}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{number:06d}_{at}",
            "name": name,
            "arguments": arguments,
        }


def _thought(body: Mapping[str, Any]) -> int:
    return reasoning_tokens((body.get("reasoning") or {}).get("effort"))


def _reasoning(body: Mapping[str, Any], number: int) -> dict[str, Any]:
    told = (body.get("reasoning") or {}).get("summary") is not None
    item: dict[str, Any] = {
        "id": f"rs_{number:06d}",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": _THOUGHTS}] if told else [],
    }
    if "reasoning.encrypted_content" in (body.get("include") or ()):
        item["encrypted_content"] = f"loopback-{number:06d}"
    return item


def count_input(body: Mapping[str, Any], memory: Memory) -> int:
    """Return the tokens of a request's input, with the turns that it goes on from."""
    return input_tokens(body, memory.conversation(body.get("previous_response_id")) or ())


def _usage(body: Mapping[str, Any], turn: Turn, memory: Memory) -> dict[str, Any]:
    read, cached = count_input(body, memory), 0
    if isinstance(body.get("prompt_cache_key"), str):
        known = prefixes(f"{body.get('model')} {body['prompt_cache_key']}", _given(body))
        size = memory.cached(known, known)
        cached = min(tokens(size), read) if size else 0
    said = len(turn.text) + sum(len(name) + len(arguments) for name, arguments in turn.calls)
    written = tokens(said) + _thought(body)
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": _thought(body)},
        "total_tokens": read + written,
    }


def responses_unfinished(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response that is still in progress."""
    return {**whole, "status": "in_progress", "incomplete_details": None}


def responses_events(body: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Event]:
    """Return a response as events.

    Args:
        body: The request's body.
        whole: The response.
    """
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None}
    begun = {name: value for name, value in begun.items() if name != "completed_at"}
    begun["incomplete_details"] = None
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for at, item in enumerate(whole["output"]):
        said += _item(at, item)
    last = {"type": f"response.{whole['status']}", "response": whole}
    return [
        Event(
            name=event["type"],
            data={"type": event["type"], "sequence_number": at, **event},
            ends=FINISH if event is last else 0,
        )
        for at, event in enumerate([*said, last])
    ]


def _item(at: int, item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {
        "type": "response.output_item.added",
        "output_index": at,
        "item": {**item, **_EMPTY[item["type"]]},
    }
    where = {"item_id": item["id"], "output_index": at}
    for place, part in enumerate(item.get("content", ())):
        yield from _part({**where, "content_index": place}, part)
    for place, part in enumerate(item.get("summary", ())):
        yield from _summary({**where, "summary_index": place}, part)
    if item["type"] == "function_call":
        kind = "response.function_call_arguments"
        for piece in pieces(item["arguments"]):
            yield {"type": f"{kind}.delta", **where, "delta": piece}
        yield {"type": f"{kind}.done", **where, "arguments": item["arguments"]}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def _part(where: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    field = "refusal" if part["type"] == "refusal" else "text"
    more: dict[str, Any] = {} if field == "refusal" else {"logprobs": []}
    kind = f"response.{part['type']}"
    yield {"type": "response.content_part.added", **where, "part": {**part, field: ""}}
    for piece in pieces(part[field]):
        yield {"type": f"{kind}.delta", **where, "delta": piece, **more}
    yield {"type": f"{kind}.done", **where, field: part[field], **more}
    yield {"type": "response.content_part.done", **where, "part": part}


def _summary(where: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind = "response.reasoning_summary"
    yield {"type": f"{kind}_part.added", **where, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        yield {"type": f"{kind}_text.delta", **where, "delta": piece}
    yield {"type": f"{kind}_text.done", **where, "text": part["text"]}
    yield {"type": f"{kind}_part.done", **where, "part": part}


def responses_error(fault: ErrorEvent, before: int) -> Event:
    """Return the event of an error within a stream.

    Args:
        fault: The error.
        before: How many events came before it.
    """
    data = {"code": fault.code or fault.type or "server_error", "message": fault.message}
    return Event(
        name="error", data={"type": "error", **data, "param": None, "sequence_number": before}
    )
