"""OpenAI chat completions.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs

from .._secrets import Secret, without_lone_surrogates
from ..errors import InvalidResponseError
from ..models import ChatRequest, Usage, as_messages
from ._base import Decoded, count
from ._openai_chat_stream import OpenAIChatStream

__all__ = ["OpenAIChat"]


@attrs.frozen(kw_only=True)
class OpenAIChat:
    """Encodes and decodes OpenAI's chat completions.

    Args:
        max_tokens_name: The parameter that limits the output: ``"max_completion_tokens"`` for
            OpenAI and Azure, ``"max_tokens"`` for compatible servers, which know only the old one.
        organization: Value of ``OpenAI-Organization``; None sends none.
        project: Value of ``OpenAI-Project``; None sends none.
    """

    provider: ClassVar[str] = "openai"
    path: ClassVar[str] = "/chat/completions"
    models_path: ClassVar[str] = "/models"

    max_tokens_name: str = "max_completion_tokens"
    organization: str | None = None
    project: str | None = None

    def headers(self, key: Secret, bearer: bool) -> dict[str, str]:
        """Return the headers that authenticate; the key always goes as a bearer token."""
        headers: dict[str, str] = {"Authorization": Secret(f"Bearer {key}")}
        if self.organization:
            headers["OpenAI-Organization"] = self.organization
        if self.project:
            headers["OpenAI-Project"] = self.project
        return headers

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body for ``request``; ``system`` becomes the first message."""
        messages = as_messages(request.messages)
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {"model": request.model, "messages": messages}
        if request.max_tokens is not None:
            body[self.max_tokens_name] = request.max_tokens
        body.update(request.extra)
        return body

    def check(self, body: dict[str, Any]) -> None:
        """Accept every body: this API has no rule that we know better."""

    def decode(self, payload: Mapping[str, Any]) -> Decoded:
        """Read a chat completion.

        Raises:
            InvalidResponseError: It has no choice with a message.
        """
        choices = payload.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise InvalidResponseError("The reply has no choice with a message.")
        finish_reason = choice.get("finish_reason")
        return Decoded(
            text=without_lone_surrogates(_text(message)),
            finish_reason=finish_reason if isinstance(finish_reason, str) else None,
            usage=_usage(payload.get("usage")),
            model=str(payload.get("model") or ""),
            id=str(payload.get("id") or ""),
            raw=payload,
        )

    def decode_stream(self, request_texts: Callable[[], list[str]]) -> OpenAIChatStream:
        """Return a decoder for one stream.

        Args:
            request_texts: Returns the texts of the request, masked where an error repeats them.
        """
        return OpenAIChatStream(self.decode, request_texts)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        # Some compatible servers answer in the parts that requests may have.
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    prompt = usage.get("prompt_tokens_details")
    completion = usage.get("completion_tokens_details")
    return Usage(
        input_tokens=count(usage.get("prompt_tokens")),
        output_tokens=count(usage.get("completion_tokens")),
        cached_tokens=count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else 0,
        reasoning_tokens=(
            count(completion.get("reasoning_tokens")) if isinstance(completion, dict) else 0
        ),
    )
