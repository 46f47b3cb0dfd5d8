"""Answers as values, with both vendors' headers and errors; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ._checks import Problem
from ._events import Event
from ._faults import ErrorEvent

__all__ = [
    "CREATED",
    "Reply",
    "Streamed",
    "error_reply",
    "error_status",
    "refused",
    "vendor_headers",
]

CREATED = 1_790_000_000
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
_STATUSES = {
    **{kind: status for status, kind in _ERROR_TYPES["claude"].items()},
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_error": 500,
}


@attrs.frozen(kw_only=True)
class Streamed:
    """A reply as the events of a stream.

    Attributes:
        events: All of them, in order.
        error: Makes the vendor's error event, given how many events came before it.
    """

    events: Sequence[Event]
    error: Callable[[ErrorEvent, int], Event]


@attrs.frozen(kw_only=True)
class Reply:
    """A status, its headers and a body: bytes, or an object that goes out as JSON.

    Attributes:
        streamed: The same as a stream, where one is asked for.
        unfinished: Takes the finish reason out of the body, where it has one.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: Any = b""
    streamed: Streamed | None = None
    unfinished: Callable[[Any], Any] | None = None


def error_reply(
    status: int,
    dialect: str,
    number: int,
    message: str | None = None,
    code: str | None = None,
    *,
    kind: str | None = None,
    param: str | None = None,
) -> Reply:
    """Return a vendor's own error for a status.

    Args:
        status: HTTP status.
        dialect: ``"openai"`` or ``"claude"``.
        number: The request's number, for its id.
        message: What went wrong; None says so by status.
        code: The vendor's error code; None for none.
        kind: The error's type; None means the usual one for the status.
        param: The parameter at fault, which OpenAI names.
    """
    kind = kind or _ERROR_TYPES[dialect].get(status, "api_error")
    said = message or f"The loopback server was told to answer {status}."
    error: dict[str, Any] = {"message": said, "type": kind}
    headers = vendor_headers(dialect, number)
    if dialect == "openai":
        error |= {"param": param, "code": code}
        return Reply(status=status, headers=headers, body={"error": error})
    if code is not None:
        error["details"] = {"error_code": code}
    body = {"type": "error", "error": error, "request_id": headers["request-id"]}
    return Reply(status=status, headers=headers, body=body)


def refused(problem: Problem, dialect: str, number: int) -> Reply:
    """Return the vendor's answer to a wrong request."""
    return error_reply(
        problem.status, dialect, number, problem.message, problem.code, param=problem.param
    )


def error_status(fault: ErrorEvent, dialect: str, number: int) -> Reply:
    """Return the answer that an error event stands for, where no stream is asked for."""
    usual = "overloaded_error" if dialect == "claude" else "server_error"
    kind = fault.type or usual
    status = _STATUSES.get(fault.code or kind) or _STATUSES.get(kind, 500)
    return error_reply(status, dialect, number, fault.message, fault.code, kind=kind)


def vendor_headers(dialect: str, number: int) -> dict[str, str]:
    """Return the headers of a vendor's answer, with the request's id among them."""
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
