"""Claude messages.

Source: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs

from .._secrets import Secret, without_lone_surrogates
from ..errors import ConfigurationError, InvalidRequestError, InvalidResponseError
from ..models import ChatRequest, Usage, as_messages
from ._base import Decoded, count
from ._claude_stream import ClaudeStream

__all__ = ["DEFAULT_VERSION", "ClaudeMessages"]

DEFAULT_VERSION = "2023-06-01"
_WITHOUT_SAMPLING = "2026-10-21"
_DEFAULT_MAX_TOKENS = 4096
_SAMPLING = ("temperature", "top_k", "top_p")


def _check_version(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise ConfigurationError(
            f"api_version must be a version like {DEFAULT_VERSION!r} or {_WITHOUT_SAMPLING!r}, "
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
        """
        messages = as_messages(request.messages)
        system = [] if request.system is None else [request.system]
        while messages and messages[0]["role"] in ("system", "developer"):
            content = messages.pop(0)["content"]
            if not isinstance(content, str):
                raise InvalidRequestError(
                    "For Claude a leading system message must be text; "
                    "pass blocks as extra_body={'system': [...]}."
                )
            system.append(content)
        if not messages:
            raise InvalidRequestError("The messages hold nothing but a system prompt.")
        for index, message in enumerate(messages):
            if message["role"] in ("tool", "function"):
                raise InvalidRequestError(
                    f"messages[{index + len(system)}].role {message['role']!r} is OpenAI's; "
                    'Claude takes tool results as a user message with a "tool_result" block.'
                )
        body: dict[str, Any] = {"model": request.model, "messages": messages}
        if system:
            body["system"] = "\n\n".join(system)
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        body.update(request.extra)
        return body

    def check(self, body: dict[str, Any]) -> None:
        """Fill in the ``max_tokens`` that this API requires, and hold to the version's rules.

        Raises:
            InvalidRequestError: The version refuses a parameter (it answers 400, at default
                values too).
        """
        body.setdefault("max_tokens", _DEFAULT_MAX_TOKENS)
        if self.api_version == _WITHOUT_SAMPLING:
            given = [name for name in _SAMPLING if name in body]
            if given:
                raise InvalidRequestError(
                    f"anthropic-version {_WITHOUT_SAMPLING} refuses {', '.join(given)}, at default "
                    f"values too. Leave it out, or use api_version={DEFAULT_VERSION!r}."
                )

    def decode(self, payload: Mapping[str, Any]) -> Decoded:
        """Read a message.

        Raises:
            InvalidResponseError: It has no list of content blocks.
        """
        content = payload.get("content")
        if not isinstance(content, list):
            raise InvalidResponseError("The reply has no list of content blocks.")
        texts = [
            block["text"]
            for block in content
            if isinstance(block, dict)
            and block.get("type") == "text"
            and isinstance(block.get("text"), str)
        ]
        stop_reason = payload.get("stop_reason")
        return Decoded(
            text=without_lone_surrogates("".join(texts)),
            finish_reason=stop_reason if isinstance(stop_reason, str) else None,
            usage=_usage(payload.get("usage")),
            model=str(payload.get("model") or ""),
            id=str(payload.get("id") or ""),
            raw=payload,
        )

    def decode_stream(self, request_texts: Callable[[], list[str]]) -> ClaudeStream:
        """Return a decoder for one stream.

        Args:
            request_texts: Returns the texts of the request, masked where an error repeats them.
        """
        return ClaudeStream(self.decode, request_texts)


def _usage(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("output_tokens_details")
    cached = count(usage.get("cache_read_input_tokens"))
    return Usage(
        # input_tokens counts only what neither read nor wrote the cache.
        input_tokens=count(usage.get("input_tokens"))
        + count(usage.get("cache_creation_input_tokens"))
        + cached,
        output_tokens=count(usage.get("output_tokens")),
        cached_tokens=cached,
        reasoning_tokens=count(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
    )
