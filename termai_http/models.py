"""Requests and replies as values, the same for every vendor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from .errors import InvalidRequestError

__all__ = [
    "ChatRequest",
    "ChatResponse",
    "Message",
    "Prompt",
    "StreamEvent",
    "Usage",
    "as_messages",
]

ROLES = ("assistant", "developer", "function", "system", "tool", "user")


@attrs.frozen
class Message:
    """One turn of a conversation.

    Args:
        role: ``"user"``, ``"assistant"``, ``"system"``, ``"developer"``, ``"tool"`` or
            ``"function"``.
        content: Text, or the vendor's list of content parts.
    """

    role: str
    content: str | Sequence[Mapping[str, Any]] = attrs.field(repr=False)


Prompt: TypeAlias = "str | Sequence[Mapping[str, Any] | Message]"
"""What a call takes: one user turn as text, or ``list of {"role", "content"}``."""


def as_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Turn a prompt into the list of messages that goes out.

    Raises:
        InvalidRequestError: It is empty or has a wrong shape; the message names the place.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InvalidRequestError("The prompt is empty.")
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
        raise InvalidRequestError(
            'The prompt must be text or a list of {"role", "content"}, '
            f"not {type(prompt).__name__}."
        )
    if not prompt:
        raise InvalidRequestError("The list of messages is empty.")
    return [_as_message(message, index) for index, message in enumerate(prompt)]


def _as_message(message: object, index: int) -> dict[str, Any]:
    where = f"messages[{index}]"
    if isinstance(message, Message):
        fields: dict[str, Any] = {"role": message.role, "content": message.content}
    elif isinstance(message, Mapping):
        fields = dict(message)
    else:
        raise InvalidRequestError(
            f'{where} must be {{"role", "content"}} or a Message, not {type(message).__name__}.'
        )
    role = fields.get("role")
    if role not in ROLES:
        raise InvalidRequestError(
            f"{where}.role is {'missing' if role is None else 'unknown'}; "
            f"allowed are {', '.join(ROLES)}."
        )
    _check_content(fields, where)
    return fields


def _check_content(fields: dict[str, Any], where: str) -> None:
    content = fields.get("content")
    # An assistant turn may hold tool calls, audio or a refusal in place of text.
    if (
        not content
        and fields["role"] == "assistant"
        and len(fields) > 2 - ("content" not in fields)
    ):
        return
    if content is None:
        raise InvalidRequestError(f"{where}.content is missing.")
    if isinstance(content, str):
        if not content and fields["role"] not in ("tool", "function"):
            raise InvalidRequestError(f"{where}.content is empty.")
        return
    if not isinstance(content, (list, tuple)):
        raise InvalidRequestError(
            f"{where}.content must be text or a list of content parts, "
            f"not {type(content).__name__}."
        )
    if not content:
        raise InvalidRequestError(f"{where}.content is an empty list.")
    for at, part in enumerate(content):
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            raise InvalidRequestError(f'{where}.content[{at}] must be an object with a "type".')


def _check_text(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError(f"{attribute.name} must be a non-empty text.")


def _check_max_tokens(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidRequestError(
            f"max_tokens must be a whole number of at least 1, or None, not {value!r}."
        )


@attrs.frozen
class ChatRequest:
    """A chat request that any vendor can be sent.

    Args:
        model: The model's name, as the vendor writes it.
        messages: Text for one user turn, or ``list of {"role", "content"}``.
        system: Instructions that stand before the conversation; None for none.
        max_tokens: Most tokens to generate. None means the dialect's default: 4096 for Claude,
            which requires one, and none for OpenAI.
        extra: Further parameters of the vendor's, sent as they are.

    Raises:
        InvalidRequestError: A field has a wrong shape; the message names it.
    """

    model: str = attrs.field(validator=_check_text)
    messages: Prompt = attrs.field(repr=False)
    system: str | None = attrs.field(
        default=None, repr=False, validator=attrs.validators.optional(_check_text)
    )
    max_tokens: int | None = attrs.field(default=None, validator=_check_max_tokens)
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens of one reply, as the vendor counted them; 0 where it did not say.

    Attributes:
        input_tokens: All tokens read, those from the vendor's prompt cache included.
        output_tokens: All tokens written, reasoning included.
        cached_tokens: Those of the input that came from the vendor's prompt cache.
        reasoning_tokens: Those of the output that were reasoning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@attrs.frozen(kw_only=True)
class ChatResponse:
    """A complete reply, the same for every vendor.

    Attributes:
        text: The reply's text; ``""`` where it holds none (a tool call, for example).
        finish_reason: The vendor's own word: ``"stop"``, ``"length"``, ``"end_turn"``,
            ``"max_tokens"``, ``"tool_use"`` and others.
        usage: Tokens read and written.
        model: The model that answered, as the vendor names it.
        id: The vendor's id of the reply.
        request_id: The vendor's id of the HTTP request, to quote to its support.
        status_code: HTTP status.
        headers: Response headers, names in lower case.
        attempts: HTTP exchanges the call made, 1 where the first succeeded.
        elapsed: Seconds from the call's entry to the reply.
        raw: All that the vendor sent, unknown fields included.
        provider: ``"openai"`` or ``"claude"``: whose dialect was spoken.
    """

    text: str = attrs.field(repr=False)
    finish_reason: str | None
    usage: Usage
    model: str
    id: str
    request_id: str | None
    status_code: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    attempts: int
    elapsed: float
    raw: Mapping[str, Any] = attrs.field(repr=False)
    provider: str

    def __str__(self) -> str:
        return self.text


@attrs.frozen(kw_only=True)
class StreamEvent:
    """One piece of a streamed reply, the same for every vendor.

    Attributes:
        type: ``"text"``; ``"thinking"``; ``"tool_call"``, a tool call's begin or a piece of its
            arguments; ``"usage"``; ``"finish"``; ``"other"`` for whatever else the vendor sends.
        text: The piece: of the reply, of the thinking, of the arguments' JSON; else ``""``.
        raw: The vendor's own event. One that says several things comes as several events.
    """

    type: str
    text: str = attrs.field(default="", repr=False)
    raw: Mapping[str, Any] = attrs.field(repr=False)
