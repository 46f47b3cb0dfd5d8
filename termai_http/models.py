"""Requests and replies as values, the same for every vendor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from ._content import Document, Image
from ._failed_target import FailedTarget
from ._importing import importing
from ._numbers import is_whole
from ._values import Value
from .errors import InvalidRequestError

__all__ = [
    "ChatRequest",
    "ChatResponse",
    "Message",
    "Prompt",
    "StreamEvent",
    "ToolCall",
    "Usage",
    "as_messages",
    "is_item",
    "own_messages",
]

ROLES = ("assistant", "developer", "function", "system", "tool", "user")
# Types of the vendors' content parts; no item of OpenAI's responses has one of them.
_PARTS = (
    *("document", "file", "image", "image_url", "input_audio", "input_file", "input_image"),
    *("input_text", "text"),
)
# What the vendors call the end of a reply at its limit of tokens.
CUT_OFF = frozenset({"length", "max_output_tokens", "max_tokens", "model_context_window_exceeded"})
# Claude's word for a turn that goes on where it is sent back.
PAUSED = "pause_turn"
REASONING = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

Part: TypeAlias = "str | Image | Document | Mapping[str, Any]"
"""One part of a turn: text, an image, a document, or the vendor's own content part."""


@attrs.frozen(eq=False, repr=False)
class Message(Value):
    """One turn of a conversation.

    Args:
        role: ``"user"``, ``"assistant"``, ``"system"``, ``"developer"``, ``"tool"`` or
            ``"function"``.
        content: Text, or a list of parts: text, ``Image``, ``Document``, or the vendor's own.
        cache: Whether the conversation up to this turn goes into Claude's prompt cache, for 5
            minutes; ``"1h"`` for an hour. OpenAI caches by itself.
    """

    role: str
    content: str | Sequence[Part] = attrs.field(repr=False)
    cache: bool | str = attrs.field(default=False, kw_only=True)


Prompt: TypeAlias = "str | Image | Document | Sequence[Part | Message]"
"""What a call takes: one user turn as text or parts, or ``list of {"role", "content"}``.

In one ``Sequence``, since type checkers take a list of texts and images for none of several.
"""


def as_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """Turn a prompt into a list of messages, of which dialects make their own.

    A list with an ``Image``, a ``Document``, text or a vendor's part in it is the parts of one user
    turn. Any other object with a ``"type"`` and no ``"role"`` is an item of OpenAI's responses and
    stays as it is.

    Raises:
        InvalidRequestError: It is empty or has a wrong shape; the message names the place.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InvalidRequestError("The prompt is empty.")
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, (Image, Document)):
        prompt = [prompt]
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
        raise InvalidRequestError(
            'The prompt must be text or a list of {"role", "content"}, '
            f"not {type(prompt).__name__}."
        )
    if not prompt:
        raise InvalidRequestError("The list of messages is empty.")
    turns = all(isinstance(item, dict) and "role" in item for item in prompt)
    if not turns and any(map(_is_part, prompt)):
        return [_as_message({"role": "user", "content": prompt}, 0)]
    return [_as_message(message, index) for index, message in enumerate(prompt)]


def own_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a vendor's own body, as ``as_messages``; it must have some."""
    if body.get("messages") is None:
        other = " It has input: that is api='responses', or respond()." if "input" in body else ""
        raise InvalidRequestError(f"The body has no messages.{other}")
    return as_messages(body["messages"])


def _is_part(given: object) -> bool:
    if isinstance(given, Mapping):
        return "role" not in given and given.get("type") in _PARTS
    return isinstance(given, (str, Image, Document))


def is_item(message: Mapping[str, Any]) -> bool:
    """Tell whether an object is an item of OpenAI's responses, and no message."""
    kind = message.get("type")
    # Other items than messages have a role, too: ``additional_tools``, LiteLLM's ``reasoning``.
    return isinstance(kind, str) and (kind != "message" or message.get("role") is None)


def _as_message(message: object, index: int) -> dict[str, Any]:
    where = f"messages[{index}]"
    if isinstance(message, Message):
        fields: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.cache:
            fields["cache"] = message.cache
    elif isinstance(message, (dict, Mapping)):
        fields = dict(message)
    else:
        raise InvalidRequestError(
            f'{where} must be {{"role", "content"}} or a Message, not {type(message).__name__}.'
        )
    role = fields.get("role")
    if is_item(fields):
        return fields
    if role not in ROLES:
        raise InvalidRequestError(
            f"{where}.role is {'missing' if role is None else 'unknown'}; "
            f"allowed are {', '.join(ROLES)}."
        )
    if fields.get("cache", False) not in (True, False, "5m", "1h"):
        raise InvalidRequestError(f'{where}.cache must be True, False, "5m" or "1h".')
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
    if isinstance(content, (Image, Document)):
        fields["content"] = content = [content]
    if not isinstance(content, (list, tuple)):
        raise InvalidRequestError(
            f"{where}.content must be text or a list of content parts, "
            f"not {type(content).__name__}."
        )
    if not content:
        raise InvalidRequestError(f"{where}.content is an empty list.")
    if all(isinstance(part, str) and not part.strip() for part in content):
        raise InvalidRequestError(f"{where}.content is empty.")
    for at, part in enumerate(content):
        typed = isinstance(part, Mapping) and isinstance(part.get("type"), str)
        if not typed and not isinstance(part, (str, Image, Document)):
            raise InvalidRequestError(
                f"{where}.content[{at}] must be text, an Image, a Document or an object with a "
                f'"type", not {type(part).__name__}.'
            )


def _check_text(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError(f"{attribute.name} must be a non-empty text.")


def _check_max_tokens(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not is_whole(value, 1):
        raise InvalidRequestError(
            f"max_tokens must be a whole number of at least 1, or None, not {value!r}."
        )


def _check_reasoning(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None or isinstance(value, Mapping) or value in REASONING:
        return
    raise InvalidRequestError(
        f"reasoning must be {', '.join(map(repr, REASONING))}, the vendor's own dict, or None, "
        f"not {value!r}."
    )


def _check_extra(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"extra must be a dict, not {type(value).__name__}.")
    if not all(isinstance(name, str) for name in value):
        raise InvalidRequestError("extra must be a dict whose keys are text.")


def _as_stop(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _check_stop(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    texts = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
    if not texts or not value or not all(value):
        raise InvalidRequestError("stop must be a non-empty text or a list of such.")


@attrs.frozen(eq=False, repr=False)
class ChatRequest(Value):
    """A chat request that any vendor can be sent.

    Args:
        model: The model's name, as the vendor writes it.
        messages: Text for one user turn, ``list of {"role", "content"}``, or a list of parts.
        system: Instructions that stand before the conversation; None for none.
        max_tokens: Most tokens to generate. None means the dialect's default: 4096 for Claude,
            which requires one, and none for OpenAI.
        extra: Further parameters of the vendor's, sent as they are.
        tools: What the model may call: Python functions, or the vendor's own JSON as it is.
        output: What the text of the reply shall be: an attrs class, dataclass, TypedDict, pydantic
            model, any other type of their fields, or a JSON schema as a dict; None for free text.
        reasoning: How much the model thinks before it answers, from ``"none"`` to ``"max"``; a dict
            goes out as the vendor's own parameter; None leaves it to the vendor.
        stop: Texts that end the reply where the model writes one; None for none.

    Raises:
        InvalidRequestError: A field has a wrong shape; the message names it.
    """

    model: str = attrs.field(validator=_check_text)
    messages: Prompt = attrs.field(repr=False)
    system: str | None = attrs.field(
        default=None, repr=False, validator=attrs.validators.optional(_check_text)
    )
    max_tokens: int | None = attrs.field(default=None, validator=_check_max_tokens)
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False, validator=_check_extra)
    tools: Sequence[Callable[..., Any] | Mapping[str, Any] | Any] | None = attrs.field(
        default=None, kw_only=True, repr=False
    )
    output: Any = attrs.field(default=None, kw_only=True, repr=False)
    reasoning: str | Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, validator=_check_reasoning
    )
    stop: Sequence[str] | None = attrs.field(
        default=None, kw_only=True, repr=False, converter=_as_stop, validator=_check_stop
    )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Usage(Value):
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


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ToolCall(Value):
    """One call of a tool that the model asks for, the same for every vendor.

    Attributes:
        id: The vendor's id of it, which the tool's result has to name.
        name: The tool's name.
        arguments: What to call it with; None where that is no JSON object.
        text: The arguments as the model wrote them.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] | None = attrs.field(repr=False)
    text: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ChatResponse(Value):
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
        attempts: HTTP exchanges with who answered, 1 where the first succeeded, 0 where the cache
            answered.
        elapsed: Seconds from the call's entry to the reply.
        raw: All that the vendor sent, unknown fields included.
        provider: ``"openai"`` or ``"claude"``: whose dialect was spoken.
        thinking: The reasoning, or its summary, as far as the vendor shows it.
        tool_calls: The tools that the model asks for, in its order.
        messages: The reply as messages: append them to the list of the next call.
        texts: The text of every choice, where the vendor was asked for several by ``n=``.
        parsed: The reply as what ``output=`` asked for; None where nothing was.
        refusal: What the model says where it refuses to answer; None where it does not.
        fallbacks: Of a call with ``fallback=``, who failed before this one answered, in order.
        cost: US dollars that the reply cost, by ``HttpClientConfig(prices=...)``; None where any
            part of that is not known. Attempts before it that may have been billed are not in it.
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
    thinking: str = attrs.field(default="", repr=False)
    tool_calls: tuple[ToolCall, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = attrs.field(default=(), repr=False)
    texts: tuple[str, ...] = attrs.field(default=(), repr=False)
    parsed: Any = attrs.field(default=None, repr=False)
    refusal: str | None = attrs.field(default=None, repr=False)
    fallbacks: tuple[FailedTarget, ...] = ()
    cost: float | None = None

    @property
    def from_cache(self) -> bool:
        """Whether the reply came from the cache, and nothing was sent for it."""
        return self.attempts == 0

    @property
    def cut_off(self) -> bool:
        """Whether the reply ended at its limit of tokens, and not by itself."""
        return self.finish_reason in CUT_OFF

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        with importing():
            from ._html import reply_markdown
        return reply_markdown(self)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class StreamEvent(Value):
    """One piece of a streamed reply, the same for every vendor.

    Attributes:
        type: ``"text"``; ``"thinking"``; ``"tool_call_delta"``, the begin of a tool call or a piece
            of its arguments; ``"tool_call"``, a whole one; ``"usage"``; ``"finish"``; ``"other"``
            for whatever else the vendor sends.
        text: The piece: of the reply, of the thinking, of the arguments' JSON; else ``""``.
        tool_call: The call: whole, or, of a piece, with what is known of it by then.
        usage: The tokens so far.
        finish_reason: The vendor's own word for why the reply ended.
        raw: The vendor's own event. One that says several things comes as several events.
    """

    type: str
    text: str = attrs.field(default="", repr=False)
    tool_call: ToolCall | None = attrs.field(default=None, repr=False)
    usage: Usage | None = None
    finish_reason: str | None = None
    raw: Mapping[str, Any] = attrs.field(repr=False)
