"""What Claude is known to refuse, refused before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .._content import Document, Image
from ..errors import InvalidRequestError

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "STRICTER_VERSION",
    "check_attachments",
    "check_budget",
    "check_cache_marks",
    "check_names",
    "check_version",
]

DEFAULT_MAX_TOKENS = 4096
STRICTER_VERSION = "2026-10-21"
# platform.claude.com/docs/en/build-with-claude/vision, "General limits", November 2026: 10 MB an
# image as base64 ("image exceeds 10 MB maximum: 11174516 bytes > 10485760 bytes"), 600 a request.
_MOST_IMAGE = 10 * 1024 * 1024
_MOST_IMAGES = 600
# platform.claude.com/docs/en/api/overview, "Request size limits": 32 MB.
_MOST_REQUEST = 32 * 1024 * 1024
# "A maximum of 4 blocks with cache_control may be provided."
_MOST_MARKS = 4
# "Must be >= 1024 and less than max_tokens": messages API, thinking.budget_tokens.
_LEAST_BUDGET = 1024
_SAMPLING = ("temperature", "top_k", "top_p")

_NONE = "Claude has none; leave it out."
# Parameters of OpenAI's that people bring along, with what says the same to Claude.
_ELSEWHERE = {
    "frequency_penalty": _NONE,
    "function_call": "Use tool_choice=.",
    "functions": "Use tools=.",
    "input": "The prompt is the first argument.",
    "instructions": "Use system=.",
    "logit_bias": _NONE,
    "logprobs": _NONE,
    "max_completion_tokens": "Use max_tokens=.",
    "max_output_tokens": "Use max_tokens=.",
    "n": "Claude writes one reply a call; call it several times, for example by chat_many().",
    "parallel_tool_calls": 'Use tool_choice={"type": "auto", "disable_parallel_tool_use": True}.',
    "presence_penalty": _NONE,
    "previous_response_id": "Claude keeps no replies; send all the messages, as Conversation does.",
    "prompt_cache_key": "Mark a message with cache=True.",
    "reasoning_effort": "Use reasoning=.",
    "response_format": "Use output=.",
    "seed": _NONE,
    "stream_options": "Claude's streams always tell the usage.",
    "top_logprobs": _NONE,
    "verbosity": _NONE,
    "user": 'Use metadata={"user_id": ...}.',
}


def check_names(extra: dict[str, Any]) -> None:
    """Refuse parameters that only OpenAI has, or leave them out where they are None.

    Any other that is not known passes.

    Raises:
        InvalidRequestError: The message says what to use.
    """
    for name in sorted(extra.keys() & _ELSEWHERE.keys()):
        if extra.pop(name) is not None:
            raise InvalidRequestError(
                f"{name}= is OpenAI's; Claude refuses it. {_ELSEWHERE[name]} "
                "(extra_body={...} sends it all the same.)"
            )


def check_attachments(messages: Iterable[Mapping[str, Any]]) -> None:
    """Refuse what is too large; a vendor's own block is not measured.

    Raises:
        InvalidRequestError: The message names the place and the limit.
    """
    images, total = 0, 0
    for index, message in enumerate(messages):
        content = message.get("content")
        for at, part in enumerate(content if isinstance(content, (list, tuple)) else ()):
            if not isinstance(part, (Image, Document)):
                continue
            # base64 makes four characters of three bytes.
            size = (len(part.source.data or b"") + 2) // 3 * 4
            total += size
            if isinstance(part, Image):
                images += 1
                if size > _MOST_IMAGE:
                    raise InvalidRequestError(
                        f"messages[{index}].content[{at}] is an image of {_mb(size)} MB as "
                        f"base64; Claude takes at most {_mb(_MOST_IMAGE)}. Make it smaller."
                    )
    if images > _MOST_IMAGES:
        raise InvalidRequestError(
            f"The request has {images} images; Claude takes at most {_MOST_IMAGES}."
        )
    if total > _MOST_REQUEST:
        raise InvalidRequestError(
            f"Images and documents have {_mb(total)} MB as base64; Claude takes requests of at "
            f"most {_mb(_MOST_REQUEST)}. Pass URLs, or several requests."
        )


def _mb(size: int) -> str:
    return f"{size / (1 << 20):.1f}"


def check_budget(body: dict[str, Any]) -> None:
    """Refuse a budget of thinking that cannot be, and make room for one where none is said.

    Raises:
        InvalidRequestError: It is too small, or not below ``max_tokens``.
    """
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if thinking and isinstance(thinking, Mapping) else None
    if not isinstance(budget, int) or isinstance(budget, bool):
        return
    if budget < _LEAST_BUDGET:
        raise InvalidRequestError(
            f"budget_tokens of thinking is {budget}; Claude takes at least {_LEAST_BUDGET}."
        )
    most = body.setdefault("max_tokens", budget + DEFAULT_MAX_TOKENS)
    # Between tool calls the budget may be more, where the API is asked for that by a header.
    if isinstance(most, int) and budget >= most and not body.get("tools"):
        raise InvalidRequestError(
            f"max_tokens is {most}, and must be above the budget_tokens of thinking, {budget}, "
            "which it includes."
        )


def check_cache_marks(body: Mapping[str, Any]) -> None:
    """Refuse more cache marks than the API takes, or in an order that it does not.

    Raises:
        InvalidRequestError: The message says how many there are, or which come too late.
    """
    marks = _marks(body)
    if len(marks) > _MOST_MARKS:
        raise InvalidRequestError(
            f"The request has {len(marks)} cache marks; Claude takes at most {_MOST_MARKS}. "
            "A mark caches all that stands before it, so one on the last long message will do."
        )
    times = [mark.get("ttl") or "5m" for mark in marks]
    if "5m" in times and "1h" in times[times.index("5m") :]:
        raise InvalidRequestError(
            'A cache mark of "1h" comes after one of "5m", in the order of tools, system, '
            "messages; Claude takes them the other way round only."
        )


def _marks(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [part["cache_control"] for part in _parts(body) if "cache_control" in part]
    marks = [mark for mark in found if isinstance(mark, Mapping)]
    automatic = body.get("cache_control")
    # "The automatic cache breakpoint uses one of the 4": on the last block, unless it has it.
    if isinstance(automatic, Mapping) and automatic != _last_mark(body):
        marks.append(automatic)
    return marks


def _last_mark(body: Mapping[str, Any]) -> Any:
    last = _mappings(body.get("messages"))[-1:]
    blocks = _mappings(last[0].get("content")) if last else ()
    return blocks[-1].get("cache_control") if blocks else None


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield all that may hold a cache mark, in the order in which the API reads it."""
    for name in ("tools", "system"):
        yield from _mappings(body.get(name))
    for _, _, parts in _turns(body):
        for _, part in parts:
            yield from _mappings(part.get("content"))
            yield part


def _turns(
    body: Mapping[str, Any],
) -> Iterator[tuple[int, Any, list[tuple[int, Mapping[str, Any]]]]]:
    """Yield the turns that are more than text: their index, role, and parts with theirs."""
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, (list, tuple)) else ()):
        content = message.get("content") if isinstance(message, (dict, Mapping)) else None
        if isinstance(content, (list, tuple)):
            parts = enumerate(content)
            found = [(at, part) for at, part in parts if isinstance(part, (dict, Mapping))]
            yield index, message.get("role"), found


def _mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, (list, tuple)):
        return ()
    return [item for item in value if isinstance(item, (dict, Mapping))]


def check_version(body: Mapping[str, Any], version: str) -> None:
    """Hold a body to the rules of an API version; a version not known has none.

    Source: platform.claude.com/docs/en/api/migration-2026-10-21.

    Raises:
        InvalidRequestError: The version refuses something in it.
    """
    if version != STRICTER_VERSION:
        return
    given = [name for name in _SAMPLING if name in body]
    if given:
        _refuse(f"refuses {', '.join(given)}, at default values too: leave it out")
    for index, role, parts in _turns(body):
        for at, part in parts:
            where = f"messages[{index}].content[{at}]"
            # Within another block, as the result of a tool, a document is taken.
            if role == "assistant" and part.get("type") == "document":
                _refuse(
                    f"takes no document in an assistant turn ({where}): put it into a user turn"
                )
            if role == "user" and _has_citations(part):
                _refuse(f"takes no citations on text of a user turn ({where}): leave them out")


def _has_citations(part: Mapping[str, Any]) -> bool:
    # On documents and search results citations are a setting, and taken.
    if part.get("type") == "text":
        return bool(part.get("citations"))
    return any(map(_has_citations, _mappings(part.get("content"))))


def _refuse(what: str) -> None:
    raise InvalidRequestError(
        f"anthropic-version {STRICTER_VERSION} {what}, or use api_version='2023-06-01'."
    )
