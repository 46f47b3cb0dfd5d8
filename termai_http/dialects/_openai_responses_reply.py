"""The parts of a response's reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .._secrets import without_lone_surrogates
from ..errors import APIStatusError, InvalidResponseError
from ..models import ToolCall, Usage
from ._base import Decoded, count, made_good, tool_call
from ._errors import payload_error
from ._neutral import made_id
from ._openai_responses_kinds import CALLS, is_answer, without_stored

__all__ = [
    "check_finished",
    "read_refusal",
    "read_reply",
    "read_text",
    "read_thinking",
    "read_tool_calls",
    "read_usage",
    "with_type",
]

_ENDED = ("completed", "incomplete")
_WITHOUT_REPLY = {"failed": "failed", "cancelled": "was cancelled"}
# An error of a response has one of these codes, and often no type that says what it means.
# Source: https://developers.openai.com/api/reference/resources/responses
_MEANINGS = {
    "vector_store_timeout": "timeout_error",
    **dict.fromkeys(
        (
            *("bio_policy", "data_residency_mismatch", "empty_image_file"),
            *("failed_to_download_image", "image_content_policy_violation"),
            *("image_file_not_found", "image_file_too_large", "image_parse_error"),
            *("image_too_large", "image_too_small", "invalid_base64_image", "invalid_image"),
            *("invalid_image_format", "invalid_image_mode", "invalid_image_url"),
            *("invalid_prompt", "misalignment_policy_violation"),
            "unsupported_image_media_type",
        ),
        "invalid_request_error",
    ),
}


def with_type(error: Any) -> Any:
    """Return an error with a type that says what its code means, where it has none."""
    if not isinstance(error, Mapping):
        return error
    code = error.get("code")
    meaning = _MEANINGS.get(code) if isinstance(code, str) else None
    return error if meaning is None or error.get("type") else {**error, "type": meaning}


def check_finished(payload: Mapping[str, Any], request_texts: Callable[[], list[str]]) -> None:
    """Refuse a response that failed, or that is not there yet.

    Raises:
        APIStatusError: It failed, although the HTTP status said that it did not.
        InvalidResponseError: The server has not written it yet.
    """
    error, status = payload.get("error"), payload.get("status")
    word = status if isinstance(status, str) else ""
    if error or word in _WITHOUT_REPLY:
        raise _failure(error, word, request_texts())
    if word in ("queued", "in_progress") and not payload.get("output"):
        raise InvalidResponseError(f"The response is not there yet: its status is {word}.")


def _failure(error: Any, status: str, request: list[str]) -> APIStatusError:
    what = f"The response {_WITHOUT_REPLY.get(status, 'failed')}"
    told = isinstance(error, str) or (isinstance(error, Mapping) and error.get("message"))
    excerpt = "" if told else "the server did not say why"
    return payload_error({"error": with_type(error)}, what, excerpt, request)


def read_reply(payload: Mapping[str, Any]) -> Decoded:
    """Read a response as far as it is there."""
    output = payload.get("output")
    output = output if isinstance(output, list) else []
    text = without_lone_surrogates(read_text(output))
    return Decoded(
        text=text,
        finish_reason=_read_finish_reason(payload),
        usage=read_usage(payload.get("usage")),
        model=str(payload.get("model") or ""),
        id=str(payload.get("id") or ""),
        raw=payload,
        thinking=without_lone_surrogates(read_thinking(output)),
        tool_calls=read_tool_calls(output),
        messages=_read_turn(output, text, stored=payload.get("store") is not False),
        texts=(text,),
        refusal=without_lone_surrogates(read_refusal(output)) or None,
    )


def _items(output: Iterable[Any], *kinds: str) -> Iterator[Mapping[str, Any]]:
    for item in output:
        if isinstance(item, dict) and item.get("type") in kinds:
            yield item


def _texts(parts: Any, kind: str, field: str = "text") -> Iterator[str]:
    if isinstance(parts, str) and kind == "output_text":
        # Some compatible servers answer in the short form that requests may have.
        yield parts
    for part in parts if isinstance(parts, list) else ():
        text = part.get(field) if isinstance(part, dict) and part.get("type") == kind else None
        if isinstance(text, str):
            yield text


def read_text(output: Iterable[Any]) -> str:
    """Read the text of the answer, as it is."""
    answers = (item for item in _items(output, "message") if is_answer(item))
    return "".join(text for item in answers for text in _texts(item.get("content"), "output_text"))


def read_refusal(output: Iterable[Any]) -> str:
    """Read why the model refused, in its own words."""
    messages = _items(output, "message")
    return "".join(
        text for item in messages for text in _texts(item.get("content"), "refusal", "refusal")
    )


def read_thinking(output: Iterable[Any]) -> str:
    """Read the reasoning that is shown, and what the model said on its way to the answer."""
    blocks: list[str] = []
    for item in _items(output, "reasoning", "message"):
        if item["type"] == "reasoning":
            blocks += _texts(item.get("summary"), "summary_text")
            blocks += _texts(item.get("content"), "reasoning_text")
            # As LiteLLM has it.
            blocks += _texts(item.get("content"), "output_text")
        elif not is_answer(item):
            blocks += _texts(item.get("content"), "output_text")
    return "\n\n".join(filter(None, blocks))


def read_tool_calls(output: Iterable[Any]) -> tuple[ToolCall, ...]:
    """Read the tool calls that the caller has to answer, not those of the server's own tools."""
    return tuple(
        tool_call(_call_id(item), item.get("name"), item.get(CALLS[item["type"]]) or "")
        for item in _items(output, *CALLS)
    )


def _call_id(item: Mapping[str, Any]) -> str:
    """Return the id of a call; one without gets one that is the same each time it is read."""
    for given in (item.get("call_id"), item.get("id")):
        if isinstance(given, str) and given:
            return given
    return made_id(0, item.get("name"), item.get(CALLS[item["type"]]) or "")


def read_usage(usage: Any) -> Usage:
    """Read the tokens; zeros where it says nothing."""
    if not isinstance(usage, dict):
        return Usage()
    read, written = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cached_tokens=count(read.get("cached_tokens")) if isinstance(read, dict) else 0,
        reasoning_tokens=(
            count(written.get("reasoning_tokens")) if isinstance(written, dict) else 0
        ),
    )


def _read_finish_reason(payload: Mapping[str, Any]) -> str | None:
    status = payload.get("status")
    if status not in _ENDED:
        return None
    details = payload.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if status == "incomplete" and isinstance(reason, str) and reason else status


def _read_turn(output: list[Any], text: str, *, stored: bool) -> tuple[Mapping[str, Any], ...]:
    """Return the reply as messages of a next request: its items, where they are more than text."""
    if all(map(_is_plain, output)):
        return ({"role": "assistant", "content": text},) if text else ()
    items = [item for item in output if isinstance(item, dict)]
    turn = [made_good(item) for item in items if isinstance(item.get("type"), str)]
    if not stored:
        turn = without_stored(turn)
    # Reasoning that ran out of tokens before anything came of it cannot be sent back.
    while turn and turn[-1].get("type") == "reasoning":
        turn.pop()
    return tuple(_again(item) for item in turn)


def _is_plain(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("type") != "message" or item.get("phase"):
        return False
    content = item.get("content")
    parts = [{"type": "output_text"}] if isinstance(content, str) else content
    return isinstance(parts, list) and all(
        isinstance(part, dict) and part.get("type") == "output_text" and not part.get("annotations")
        for part in parts
    )


def _again(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an item as a request takes it, where it came in some other form.

    Some compatible servers send as null what they refuse as null, arguments as an object or as
    null, and calls without an id.
    """
    if item["type"] not in ("message", "reasoning", *CALLS):
        return item
    if item["type"] in CALLS:
        item = {**item, "call_id": _call_id(item)}
    if item["type"] == "function_call" and not isinstance(item.get("arguments"), str):
        item = {**item, "arguments": tool_call("", "", item.get("arguments") or {}).text}
    if None not in item.values():
        return item
    return {name: value for name, value in item.items() if value is not None}
