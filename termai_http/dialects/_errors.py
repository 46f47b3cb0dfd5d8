"""Errors told from the bodies and events of vendors and of servers that speak like them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _json, errors
from .._secrets import mask_all, mask_echoes

if TYPE_CHECKING:
    from .._sse import ServerEvent

__all__ = [
    "decode_object",
    "event_error",
    "no_object_error",
    "payload_error",
    "request_id",
    "status_error",
]

_EXCERPT = 200
_ID = re.compile(r"[\w.:/+=-]{1,128}")
_CODE = re.compile(r"[\w.:-]{1,64}")
_ERROR_STATUS = re.compile(r"[45][0-9]{2}")

# Billing, not pace: waiting does not help, so these are never retried.
# OpenAI: developers.openai.com/api/docs/guides/error-codes; Claude: docs/en/api/errors.
_QUOTA_CODES = frozenset(
    {
        "billing_hard_limit_reached",
        "contract_spend_limit_reached",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)

_STATUS_CLASSES: dict[int, type[errors.APIStatusError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.QuotaExceededError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.RequestTooLargeError,
    422: errors.UnprocessableEntityError,
    429: errors.RateLimitError,
    529: errors.OverloadedError,
}

# An error event stands for the status that would have come, had it come before the stream.
_EVENT_STATUSES = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "slow_down": 429,
    "too_many_requests": 429,
    "api_error": 500,
    "internal_server_error": 500,
    "server_error": 500,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
    **dict.fromkeys(_QUOTA_CODES, 429),
}


def decode_object(
    body: bytes, headers: Mapping[str, str], request_texts: Callable[[], list[str]]
) -> dict[str, Any]:
    """Read a success's body as a JSON object.

    Args:
        body: The whole body, decoded of its content coding.
        headers: Response headers.
        request_texts: Returns the texts of the request, masked where the body repeats them.

    Raises:
        InvalidResponseError: It is none, or holds an error; ``TruncatedResponse`` where it is
            cut short.
    """
    payload, cut = None, False
    try:
        payload = _json.loads(body)
    except ValueError as error:
        cut = isinstance(error, _json.CutShort)
    if isinstance(payload, dict) and (not payload.get("error") or _is_response(payload)):
        return payload
    request = request_texts()
    message, code = _error_words(payload) if isinstance(payload, dict) else (None, None)
    kind, excerpt, message, code = _masked(
        (headers.get("content-type", "no content type"), _beginning(body), message, code), request
    )
    excerpt = excerpt[:_EXCERPT]
    if not body.strip():
        raise errors.InvalidResponseError(f"The reply is empty ({kind}).")
    if cut:
        raise errors.TruncatedResponse("The reply is JSON cut short.", body=excerpt)
    if isinstance(payload, dict):
        raise errors.InvalidResponseError(
            f"The reply is an error inside a success: {message}", code=code or None, body=excerpt
        )
    raise errors.InvalidResponseError(
        f"The reply is no JSON object ({kind}): {excerpt}", body=excerpt
    )


def _is_response(payload: Mapping[str, Any]) -> bool:
    """Tell whether an object with an error is a response of OpenAI's, which its dialect reads."""
    named = payload.get("object") == "response"
    return named or (isinstance(payload.get("status"), str) and "output" in payload)


def _loads(text: str) -> Any:
    return _json.loads(text.encode("utf-8", "replace"))


def no_object_error(event: ServerEvent, request: list[str]) -> errors.InvalidResponseError:
    """Return the error for an event that should be a JSON object and is none."""
    excerpt = _event_excerpt(event, request)
    try:
        _loads(event.data)
    except ValueError as error:
        if event.data.strip() and isinstance(error, _json.CutShort):
            return errors.TruncatedResponse("An event of the stream is cut short.", body=excerpt)
    return errors.InvalidResponseError(
        f"An event of the stream is no JSON object: {excerpt or 'it is empty'}", body=excerpt
    )


def event_error(
    event: ServerEvent, payload: Mapping[str, Any] | None, request: list[str]
) -> errors.APIStatusError:
    """Map an event that is an error to the error that its status would have been.

    Args:
        event: The event.
        payload: Its data, where that is a JSON object.
        request: Texts of the request, masked where the event repeats them.
    """
    return payload_error(
        payload or {}, "The stream brought an error", _event_excerpt(event, request), request
    )


def payload_error(
    payload: Mapping[str, Any], what: str, excerpt: str, request: list[str]
) -> errors.APIStatusError:
    """Map an error inside a success to the error that its status would have been.

    Args:
        payload: The error, or the object that holds it as ``error``.
        what: What happened, as the message begins.
        excerpt: What to show of it where it has no message.
        request: Texts of the request, masked where it repeats them.
    """
    bare = not payload.get("error") and ("code" in payload or "type" in payload)
    message, word = _error_words({"error": payload} if bare else payload)
    error = payload if bare else payload.get("error")
    error = error if isinstance(error, Mapping) else {}
    found = (word, error.get("type"))
    words = [item for item in found if isinstance(item, str) and _CODE.fullmatch(item)]
    known = (_EVENT_STATUSES[item] for item in words if item in _EVENT_STATUSES)
    status = _number_as_status(error.get("code")) or next(known, None)
    # Many compatible servers write the status as the code, beside a type that says more.
    code = next((item for item in words if not item.isdecimal()), None)
    cls = errors.APIStatusError if status is None else _status_class(status, code)
    in_body = _as_id(payload.get("request_id"))
    code, said, in_body = _masked((code, _said(message), in_body), request)
    return cls(
        what + (f" {code}" if code else "") + f": {said or excerpt}",
        status_code=status,
        code=code or None,
        request_id=in_body or None,
        body=excerpt or None,
    )


def _event_excerpt(event: ServerEvent, request: list[str]) -> str:
    return _excerpt(event.data[: 4 * _EXCERPT].encode("utf-8", "replace"), request)


def _number_as_status(code: Any) -> int | None:
    text = str(code) if isinstance(code, (int, str)) else ""
    return int(text) if _ERROR_STATUS.fullmatch(text) else None


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the vendor's id of a request, from either vendor's header; None where it is no id."""
    return _as_id(headers.get("x-request-id")) or _as_id(headers.get("request-id"))


def _as_id(value: Any) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def status_error(
    status: int, headers: Mapping[str, str], body: bytes, request: list[str]
) -> errors.APIStatusError:
    """Map an answer that is no success to its error.

    Compatible servers mix the vendors' shapes, so every shape is read for every dialect.

    Args:
        status: HTTP status.
        headers: Response headers.
        body: The body, or its beginning.
        request: Texts of the request, masked where the body repeats them.
    """
    # LiteLLM answers a stream that it cannot begin with an event.
    first_event = body.removeprefix(b"data:").partition(b"\n")[0]
    try:
        payload = _json.loads(first_event if body.startswith(b"data:") else body)
    except ValueError:
        payload = None
    message, code = _error_words(payload) if isinstance(payload, dict) else (None, None)
    cls = _status_class(status, code)
    # LiteLLM and others repeat the status as the code.
    code = None if code == str(status) else code
    in_body = _as_id(payload.get("request_id")) if isinstance(payload, dict) else None
    code, said, found, excerpt = _masked(
        (code, _said(message), request_id(headers) or in_body, _beginning(body)), request
    )
    if cls is errors.UnexpectedRedirect:
        said = "redirects are not followed"
    return cls(
        f"HTTP {status}" + (f" {code}" if code else "") + (f": {said}" if said else "."),
        status_code=status,
        code=code or None,
        request_id=found or None,
        body=excerpt[:_EXCERPT] or None,
    )


def _status_class(status: int, code: str | None) -> type[errors.APIStatusError]:
    if status == 429 and code in _QUOTA_CODES:
        return errors.QuotaExceededError
    if cls := _STATUS_CLASSES.get(status):
        return cls
    if 500 <= status <= 599:
        return errors.InternalServerError
    return errors.UnexpectedRedirect if 300 <= status <= 399 else errors.APIStatusError


def _error_words(payload: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Read message and code from any of the shapes that servers use."""
    error = payload.get("error")
    if not isinstance(error, Mapping):
        message = next(
            (payload[name] for name in ("error", "detail", "message") if payload.get(name)), None
        )
        return (message if isinstance(message, str) else None), None
    details = error.get("details")
    codes = (
        details.get("error_code") if isinstance(details, Mapping) else None,
        error.get("code"),
        error.get("type"),
    )
    words = [code for code in codes if isinstance(code, str) and _CODE.fullmatch(code)]
    # OpenAI names the quota in either field, so a billing word wins wherever it stands.
    code = next((word for word in words if word in _QUOTA_CODES), words[0] if words else None)
    message = error.get("message")
    return (message if isinstance(message, str) else None), code


def _excerpt(body: bytes, request: list[str]) -> str:
    return mask_echoes(_beginning(body), request)[:_EXCERPT]


def _beginning(body: bytes) -> str:
    return " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())


def _said(message: str | None) -> str:
    return " ".join((message or "").split())[:500]


def _masked(texts: tuple[str | None, ...], request: list[str]) -> list[str]:
    return mask_all([text or "" for text in texts], request)
