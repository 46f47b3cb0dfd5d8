"""OpenAI chat completions.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from .._importing import importing
from ..errors import InvalidRequestError, InvalidResponseError
from ..models import ChatRequest, as_messages, own_messages
from ._base import Decoded
from ._openai import OpenAI
from ._openai_chat_reply import (
    read_text,
    read_texts,
    read_thinking,
    read_tool_calls,
    read_turn,
    read_usage,
)
from ._openai_chat_request import encode_messages, encode_options

if TYPE_CHECKING:
    from ._openai_chat_stream import OpenAIChatStream

__all__ = ["OpenAIChat"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class OpenAIChat(OpenAI):
    """Encodes and decodes OpenAI's chat completions.

    Args:
        max_tokens_name: The parameter that limits the output: ``"max_completion_tokens"`` for
            OpenAI and Azure, ``"max_tokens"`` for compatible servers, which know only the old one.
        organization: As ``OpenAI``.
        project: As ``OpenAI``.
    """

    path: ClassVar[str] = "/chat/completions"

    max_tokens_name: str = "max_completion_tokens"

    @property
    def _known(self) -> bool:
        """Whether OpenAI itself is spoken to, and not a server that is like it."""
        return self.max_tokens_name == "max_completion_tokens"

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body for ``request``; ``system`` becomes the first message.

        Raises:
            InvalidRequestError: Something in it cannot be said to this vendor.
        """
        messages = encode_messages(as_messages(request.messages), known=self._known)
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {"model": request.model, "messages": messages}
        if request.max_tokens is not None:
            body[self.max_tokens_name] = request.max_tokens
        body.update(encode_options(request, known=self._known))
        return body

    def check(self, body: dict[str, Any]) -> None:
        """Accept every body: this API has no rule that we know better."""

    def adopt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of OpenAI's own body, refused where it has no messages.

        Its messages may hold what those of ``encode`` may: an ``Image``, for example.
        """
        messages = encode_messages(own_messages(body), known=self._known)
        return {**body, "messages": messages}

    def ask_to_stream(self, body: dict[str, Any]) -> None:
        """Turn a body into one whose reply is streamed.

        Raises:
            InvalidRequestError: Its options of the stream are none.
        """
        body["stream"] = True
        if self._known:
            # OpenAI counts a stream's tokens only when asked; not every other server knows how.
            given = body.get("stream_options") or {}
            if not isinstance(given, Mapping):
                raise InvalidRequestError(
                    f"stream_options must be a dict, not {type(given).__name__}."
                )
            body["stream_options"] = {"include_usage": True, **given}

    def decode(self, payload: Mapping[str, Any], request_texts: Callable[[], list[str]]) -> Decoded:
        """Read a chat completion.

        Raises:
            InvalidResponseError: It has no choice with a message.
        """
        choices = payload.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choices, list) or not isinstance(message, dict):
            raise InvalidResponseError("The reply has no choice with a message.")
        assert isinstance(choice, dict)
        finish_reason, refusal = choice.get("finish_reason"), message.get("refusal")
        text = read_text(message)
        return Decoded(
            text=text,
            finish_reason=finish_reason if isinstance(finish_reason, str) else None,
            usage=read_usage(payload.get("usage")),
            model=str(payload.get("model") or ""),
            id=str(payload.get("id") or ""),
            raw=payload,
            thinking=read_thinking(message),
            tool_calls=read_tool_calls(message.get("tool_calls")),
            messages=read_turn(message, text),
            texts=read_texts(choices) if len(choices) > 1 else (text,),
            refusal=refusal if isinstance(refusal, str) and refusal else None,
        )

    def decode_stream(self, request_texts: Callable[[], list[str]]) -> OpenAIChatStream:
        """Return a decoder for one stream.

        Args:
            request_texts: Returns the texts of the request, masked where an error repeats them.
        """
        with importing():
            from ._openai_chat_stream import OpenAIChatStream
        return OpenAIChatStream(self.decode, request_texts)
