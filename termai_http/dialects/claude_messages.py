"""Claude messages.

Source: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from .._importing import importing
from .._secrets import Secret
from ..errors import ConfigurationError, InvalidRequestError, InvalidResponseError
from ..models import ChatRequest, as_messages, is_item, own_messages
from ._base import Decoded
from ._claude_options import encode_options
from ._claude_reply import (
    read_refusal,
    read_text,
    read_thinking,
    read_tool_calls,
    read_turn,
    read_usage,
)
from ._claude_request import encode_messages, encode_system
from ._claude_rules import (
    DEFAULT_MAX_TOKENS,
    STRICTER_VERSION,
    check_attachments,
    check_budget,
    check_cache_marks,
    check_version,
)

if TYPE_CHECKING:
    from ._claude_stream import ClaudeStream

__all__ = ["DEFAULT_VERSION", "ClaudeMessages"]

DEFAULT_VERSION = "2023-06-01"


def _check_version(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise ConfigurationError(
            f"api_version must be a version like {DEFAULT_VERSION!r} or {STRICTER_VERSION!r}, "
            f"not {value!r}."
        )


@attrs.frozen(kw_only=True)
class ClaudeMessages:
    """Encodes and decodes Claude's messages.

    Args:
        api_version: Value of ``anthropic-version``.
    """

    provider: ClassVar[str] = "claude"
    path: ClassVar[str] = "/v1/messages"
    models_path: ClassVar[str] = "/v1/models"

    api_version: str = attrs.field(default=DEFAULT_VERSION, validator=_check_version)

    def headers(self, key: Secret, bearer: bool) -> dict[str, str]:
        """Return the headers that authenticate and name the API's version."""
        headers: dict[str, str] = {"anthropic-version": self.api_version}
        if bearer:
            headers["Authorization"] = Secret(f"Bearer {key}")
        else:
            headers["x-api-key"] = key
        return headers

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body for ``request``.

        Leading ``system`` and ``developer`` messages join ``system``, since the messages of this
        API are turns of user and assistant.

        Raises:
            InvalidRequestError: Something in it cannot be said to this vendor.
        """
        messages = as_messages(request.messages)
        check_attachments(messages)
        first = _first_turn(messages)
        body: dict[str, Any] = {
            "model": request.model,
            "messages": encode_messages(messages, begin=first),
        }
        if system := encode_system(request.system, messages[:first]):
            body["system"] = system
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        body.update(encode_options(request))
        return body

    def check(self, body: dict[str, Any]) -> None:
        """Fill in the ``max_tokens`` that this API requires, and refuse what it refuses.

        Raises:
            InvalidRequestError: There are more cache marks than it takes, a budget of thinking
                that cannot be, or something that its version refuses.
        """
        check_budget(body)
        body.setdefault("max_tokens", DEFAULT_MAX_TOKENS)
        check_cache_marks(body)
        check_version(body, self.api_version)

    def adopt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of Claude's own body, refused where it has no messages.

        Its messages may hold what those of ``encode`` may: an ``Image``, for example.
        """
        messages = own_messages(body)
        check_attachments(messages)
        return {**body, "messages": encode_messages(messages)}

    def ask_to_stream(self, body: dict[str, Any]) -> None:
        """Turn a body into one whose reply is streamed."""
        body["stream"] = True

    def decode(self, payload: Mapping[str, Any], request_texts: Callable[[], list[str]]) -> Decoded:
        """Read a message.

        Raises:
            InvalidResponseError: It has no list of content blocks.
        """
        content = payload.get("content")
        if not isinstance(content, list):
            raise InvalidResponseError("The reply has no list of content blocks.")
        stop_reason = payload.get("stop_reason")
        text = read_text(content)
        return Decoded(
            text=text,
            finish_reason=stop_reason if isinstance(stop_reason, str) else None,
            usage=read_usage(payload.get("usage")),
            model=str(payload.get("model") or ""),
            id=str(payload.get("id") or ""),
            raw=payload,
            thinking=read_thinking(content),
            tool_calls=read_tool_calls(content),
            messages=read_turn(content),
            texts=(text,),
            refusal=read_refusal(payload, text),
        )

    def decode_stream(self, request_texts: Callable[[], list[str]]) -> ClaudeStream:
        """Return a decoder for one stream.

        Args:
            request_texts: Returns the texts of the request, masked where an error repeats them.
        """
        with importing():
            from ._claude_stream import ClaudeStream
        return ClaudeStream(self.decode, request_texts)


def _first_turn(messages: list[dict[str, Any]]) -> int:
    """Return where the messages stop to be a system prompt."""
    for index, message in enumerate(messages):
        if is_item(message) or message["role"] not in ("developer", "system"):
            return index
    raise InvalidRequestError("The messages hold nothing but a system prompt.")
