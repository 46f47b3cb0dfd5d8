"""OpenAI's chat completions: whole, and as chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._events import FINISH, MARK, Event, pieces
from ._faults import ErrorEvent
from ._memory import Memory, prefixes
from ._reading import messages_of
from ._replies import CREATED
from ._tokens import input_tokens, reasoning_tokens, tokens
from ._turns import Turn

__all__ = ["chat_error", "chat_events", "chat_reply", "chat_unfinished"]


def chat_reply(body: Mapping[str, Any], number: int, turn: Turn, memory: Memory) -> dict[str, Any]:
    """Return a completion.

    Args:
        body: The request's body.
        number: Its number, for ids.
        turn: What the model says.
        memory: What the server remembers.
    """
    count = body.get("n") or 1
    return {
        "id": f"chatcmpl-{number:06d}",
        "object": "chat.completion",
        "created": CREATED + number,
        "model": body["model"],
        "choices": [_choice(turn, number, at) for at in range(count)],
        "usage": _usage(body, turn, memory, count),
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }


def _choice(turn: Turn, number: int, at: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if turn.refusal or not (turn.text or not turn.calls) else turn.text,
        "refusal": turn.text if turn.refusal else None,
        "annotations": [],
    }
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{number:06d}_{at}{place}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for place, (name, arguments) in enumerate(turn.calls)
        ]
    return {"index": at, "message": message, "logprobs": None, "finish_reason": turn.finish}


def _usage(body: Mapping[str, Any], turn: Turn, memory: Memory, count: int) -> dict[str, Any]:
    read = input_tokens(body)
    thought = reasoning_tokens(body.get("reasoning_effort"))
    said = len(turn.text) + sum(len(name) + len(arguments) for name, arguments in turn.calls)
    written = count * tokens(said) + thought
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {
            "cached_tokens": _cached(body, memory, read),
            "cache_write_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _cached(body: Mapping[str, Any], memory: Memory, read: int) -> int:
    """Return the tokens that an earlier request with the same key had, too."""
    key = body.get("prompt_cache_key")
    if not isinstance(key, str):
        return 0
    known = prefixes(f"{body['model']} {key}", messages_of(body))
    size = memory.cached(known, known)
    return min(tokens(size), read) if size else 0


def chat_unfinished(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return a completion without finish reasons."""
    return {
        **whole,
        "choices": [{**choice, "finish_reason": None} for choice in whole["choices"]],
    }


def chat_events(body: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Event]:
    """Return a completion as chunks.

    Args:
        body: The request's body.
        whole: The completion.
    """
    options = body.get("stream_options")
    counted = isinstance(options, dict) and options.get("include_usage") is True
    head = {
        **{name: whole[name] for name in whole if name not in ("choices", "usage")},
        "object": "chat.completion.chunk",
        **({"usage": None} if counted else {}),
    }
    events = []
    for choice in whole["choices"]:
        for delta in _deltas(choice["message"]):
            events.append(_chunk(head, choice["index"], delta, None))
    for choice in whole["choices"]:
        events.append(_chunk(head, choice["index"], {}, choice["finish_reason"]))
    if counted:
        events.append(Event(data={**head, "choices": [], "usage": whole["usage"]}))
    return [*events, Event(data="[DONE]", ends=MARK)]


def _chunk(
    head: Mapping[str, Any], index: int, delta: Mapping[str, Any], finish: str | None
) -> Event:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return Event(data={**head, "choices": [choice]}, ends=0 if finish is None else FINISH)


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content, refusal = message["content"], message["refusal"]
    begun = {"role": "assistant", "content": None if content is None else "", "refusal": None}
    yield begun if refusal is None else {**begun, "refusal": ""}
    for name, text in (("content", content), ("refusal", refusal)):
        for piece in pieces(text or ""):
            yield {name: piece}
    yield from _call_deltas(message.get("tool_calls", ()))


def _call_deltas(calls: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for at, call in enumerate(calls):
        function = call["function"]
        begun = {**call, "function": {"name": function["name"], "arguments": ""}}
        yield {"tool_calls": [{"index": at, **begun}]}
        for piece in pieces(function["arguments"]):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}


def chat_error(fault: ErrorEvent, before: int) -> Event:
    """Return the event of an error within a stream.

    Args:
        fault: The error.
        before: How many events came before it.
    """
    error = {"message": fault.message, "type": fault.type or "server_error", "param": None}
    return Event(data={"error": {**error, "code": fault.code}})
