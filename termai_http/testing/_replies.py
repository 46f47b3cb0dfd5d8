"""Realistic replies and errors of both vendors, as values; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ._record import RecordedRequest

__all__ = ["Reply", "answer", "error_reply"]

_CREATED = 1_790_000_000
_ERROR_TYPES = {
    "openai": {
        400: "invalid_request_error",
        401: "invalid_request_error",
        403: "permission_error",
        404: "invalid_request_error",
        429: "requests",
        500: "server_error",
        503: "server_error",
    },
    "claude": {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        409: "conflict_error",
        413: "request_too_large",
        429: "rate_limit_error",
        500: "api_error",
        504: "timeout_error",
        529: "overloaded_error",
    },
}
_SAMPLING = ("temperature", "top_k", "top_p")


@attrs.frozen(kw_only=True)
class Reply:
    """A status, its headers and a body: bytes, or an object that goes out as JSON."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: Any = b""


def answer(request: RecordedRequest, number: int, text: str) -> Reply:
    """Answer one request as its vendor would, wrong ones included.

    Args:
        request: The request.
        number: Its number at this server, for ids.
        text: What a good reply says.
    """
    dialect = request.dialect
    if request.path in ("/v1/models", "/models") and request.method == "GET":
        return _unauthorized(request, number) or _models(dialect, number)
    if request.method != "POST" or not request.path.endswith(("/chat/completions", "/messages")):
        return error_reply(404, dialect, number, f"Unknown path {request.path}")
    wrong = _unauthorized(request, number) or _invalid(request, number)
    if wrong is not None:
        return wrong
    body = _openai_reply if dialect == "openai" else _claude_reply
    return Reply(status=200, headers=_headers(dialect, number), body=body(request, number, text))


def error_reply(
    status: int, dialect: str, number: int, message: str | None = None, code: str | None = None
) -> Reply:
    """Return a vendor's own error for a status.

    Args:
        status: HTTP status.
        dialect: ``"openai"`` or ``"claude"``.
        number: The request's number, for its id.
        message: What went wrong; None says so by status.
        code: The vendor's error code; None for none.
    """
    kind = _ERROR_TYPES[dialect].get(status, "api_error")
    said = message or f"The loopback server was told to answer {status}."
    error: dict[str, Any] = {"message": said, "type": kind}
    headers = _headers(dialect, number)
    if dialect == "openai":
        error |= {"param": None, "code": code}
        return Reply(status=status, headers=headers, body={"error": error})
    if code is not None:
        error["details"] = {"error_code": code}
    body = {"type": "error", "error": error, "request_id": headers["request-id"]}
    return Reply(status=status, headers=headers, body=body)


def _headers(dialect: str, number: int) -> dict[str, str]:
    if dialect == "claude":
        return {
            "request-id": f"req_claude_{number:06d}",
            "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
            "anthropic-ratelimit-requests-limit": "4000",
            "anthropic-ratelimit-requests-remaining": "3999",
            "anthropic-ratelimit-requests-reset": "2026-11-24T12:00:00Z",
            "anthropic-ratelimit-tokens-limit": "400000",
            "anthropic-ratelimit-tokens-remaining": "399000",
            "anthropic-ratelimit-tokens-reset": "2026-11-24T12:00:00Z",
        }
    return {
        "x-request-id": f"req_openai_{number:06d}",
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-tokens": "1999000",
        "x-ratelimit-reset-tokens": "30ms",
    }


def _unauthorized(request: RecordedRequest, number: int) -> Reply | None:
    bearer = request.headers.get("authorization", "")
    if bearer.startswith("Bearer ") and bearer != "Bearer ":
        return None
    if request.dialect == "claude" and request.headers.get("x-api-key"):
        return None
    wanted = "x-api-key" if request.dialect == "claude" else "Authorization: Bearer"
    return error_reply(401, request.dialect, number, f"No API key: send {wanted}.")


def _invalid(request: RecordedRequest, number: int) -> Reply | None:
    dialect, body = request.dialect, request.json
    if not isinstance(body, dict):
        return error_reply(400, dialect, number, "The body is no JSON object.")
    required = ["model", "messages"] + ["max_tokens"] * (dialect == "claude")
    for name in required:
        if not body.get(name):
            return error_reply(400, dialect, number, f"{name}: field required")
    if body.get("stream"):
        return error_reply(400, dialect, number, "stream: this server does not stream.")
    version = request.headers.get("anthropic-version")
    if dialect == "claude" and not version:
        return error_reply(400, dialect, number, "anthropic-version: header required")
    refused = [name for name in _SAMPLING if name in body]
    if version == "2026-10-21" and refused:
        return error_reply(400, dialect, number, f"{refused[0]}: not taken by this version")
    return None


def _models(dialect: str, number: int) -> Reply:
    names = {"claude": ["claude-opus-5-5", "claude-haiku-5-5"], "openai": ["gpt-5.5", "gpt-6-sol"]}
    if dialect == "claude":
        data: list[dict[str, Any]] = [
            {"type": "model", "id": name, "display_name": name} for name in names[dialect]
        ]
        body: dict[str, Any] = {"data": data, "has_more": False}
        body |= {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
    else:
        data = [
            {"id": name, "object": "model", "created": _CREATED, "owned_by": "system"}
            for name in names[dialect]
        ]
        body = {"object": "list", "data": data}
    return Reply(status=200, headers=_headers(dialect, number), body=body)


def _tokens(text: str) -> int:
    return max(len(text) // 4, 1)


def _openai_reply(request: RecordedRequest, number: int, text: str) -> dict[str, Any]:
    read, written = _tokens(request.prompt) + 8, _tokens(text)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    message["annotations"] = []
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": f"chatcmpl-{number:06d}",
        "object": "chat.completion",
        "created": _CREATED + number,
        "model": request.model,
        "choices": [choice],
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }


def _claude_reply(request: RecordedRequest, number: int, text: str) -> dict[str, Any]:
    return {
        "id": f"msg_{number:06d}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": _tokens(request.prompt) + 8,
            "output_tokens": _tokens(text),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "standard",
        },
    }
