"""What the dialects share: the interface, replies' parts, and errors told from their bodies."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import attrs

from .. import _json, errors
from .._secrets import Secret, mask_echoes
from ..models import ChatRequest, Usage

__all__ = [
    "Decoded",
    "Dialect",
    "count",
    "decode_object",
    "request_id",
    "status_error",
]

_EXCERPT = 200
_ID = re.compile(r"[\w.:/+=-]{1,128}")
_CODE = re.compile(r"[\w.:-]{1,64}")

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


@attrs.frozen(kw_only=True)
class Decoded:
    """What a dialect reads in a complete reply."""

    text: str
    finish_reason: str | None
    usage: Usage
    model: str
    id: str
    raw: Mapping[str, Any]


class Dialect(Protocol):
    """One vendor API on the wire. Pure: nothing here does I/O."""

    provider: ClassVar[str]
    path: ClassVar[str]
    models_path: ClassVar[str]

    def headers(self, key: Secret, bearer: bool) -> dict[str, str]:
        """Return the headers that authenticate, ``bearer`` for an OAuth token."""

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """Return the body for ``request``."""

    def check(self, body: dict[str, Any]) -> None:
        """Refuse a body that the API is known to refuse, and fill in what it requires."""

    def decode(self, payload: Mapping[str, Any]) -> Decoded:
        """Read a success.

        Raises:
            InvalidResponseError: It is not what this API answers.
        """


def count(value: Any) -> int:
    """Read a token count; 0 where it is missing or none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


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
    try:
        payload = _json.loads(body)
    except ValueError:
        payload = None
    if isinstance(payload, dict) and not payload.get("error"):
        return payload
    request = request_texts()
    kind = headers.get("content-type", "no content type")
    excerpt = _excerpt(body, request)
    if not body.strip():
        raise errors.InvalidResponseError(f"The reply is empty ({kind}).")
    if payload is None and body.lstrip()[:1] == b"{" and body.rstrip()[-1:] != b"}":
        raise errors.TruncatedResponse("The reply is JSON cut short.", body=excerpt)
    if isinstance(payload, dict):
        message, code = _error_words(payload)
        raise errors.InvalidResponseError(
            f"The reply is an error inside a success: {mask_echoes(message or '', request)}",
            code=mask_echoes(code, request) if code else None,
            body=excerpt,
        )
    raise errors.InvalidResponseError(
        f"The reply is no JSON object ({kind}): {excerpt}", body=excerpt
    )


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
    try:
        payload = _json.loads(body)
    except ValueError:
        payload = None
    message, code = _error_words(payload) if isinstance(payload, dict) else (None, None)
    cls = _status_class(status, code)
    # LiteLLM and others repeat the status as the code.
    code = mask_echoes(code, request) if code and code != str(status) else None
    said = mask_echoes(" ".join((message or "").split())[:500], request)
    if cls is errors.UnexpectedRedirect:
        said = "redirects are not followed"
    in_body = _as_id(payload.get("request_id")) if isinstance(payload, dict) else None
    found = request_id(headers) or in_body
    return cls(
        f"HTTP {status}" + (f" {code}" if code else "") + (f": {said}" if said else "."),
        status_code=status,
        code=code,
        request_id=mask_echoes(found, request) if found else None,
        body=_excerpt(body, request) or None,
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
    text = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())
    return mask_echoes(text, request)[:_EXCERPT]
