"""Every error this package raises.

The tree::

    TermaiHttpError
        ConfigurationError
            AlreadyInitializedError
            MissingKeyError
        InvalidRequestError (also a ValueError)
        APIConnectionError
            DNSError
            TLSError
            ProxyError
            ResourceError
        APITimeoutError
            ConnectTimeout
            ReadTimeout
            PoolTimeout
            DeadlineExceeded
        APIStatusError
            BadRequestError 400
            AuthenticationError 401
            QuotaExceededError 402 and the billing 429s
            PermissionDeniedError 403
            NotFoundError 404
            ConflictError 409
            RequestTooLargeError 413
            UnprocessableEntityError 422
            RateLimitError 429
            InternalServerError 5xx
            OverloadedError 529
            UnexpectedRedirect 3xx
        InvalidResponseError
            OutputError
            ProtocolError
            TruncatedResponse
            ResponseTooLarge
        StreamInterrupted
        ClientClosed
        CallCancelled
        CircuitOpenError

Errors hold plain data only: no request, no response, no key, no prompt. All of them can be pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ._failed_target import FailedTarget
    from .models import Usage

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AlreadyInitializedError",
    "AuthenticationError",
    "BadRequestError",
    "CallCancelled",
    "CircuitOpenError",
    "ClientClosed",
    "ConfigurationError",
    "ConflictError",
    "ConnectTimeout",
    "DNSError",
    "DeadlineExceeded",
    "InternalServerError",
    "InvalidRequestError",
    "InvalidResponseError",
    "MissingKeyError",
    "NotFoundError",
    "OutputError",
    "OverloadedError",
    "PermissionDeniedError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "QuotaExceededError",
    "RateLimitError",
    "ReadTimeout",
    "RequestTooLargeError",
    "ResourceError",
    "ResponseTooLarge",
    "StreamInterrupted",
    "TLSError",
    "TermaiHttpError",
    "TruncatedResponse",
    "UnexpectedRedirect",
    "UnprocessableEntityError",
]


class TermaiHttpError(Exception):
    """Base of every error of this package.

    Attributes:
        message: What failed, without the figures below.
        provider: ``"openai"`` or ``"claude"``; None where no vendor is known yet.
        model: The model asked for.
        status_code: HTTP status of the last answer; None where there was none.
        request_id: The vendor's id of the last attempt, to quote to its support.
        code: The vendor's own error code or type, for example ``"insufficient_quota"``.
        attempts: HTTP exchanges made by the call, 0 where nothing was sent.
        elapsed: Seconds from the call's entry to this error; None outside a call.
        retry_after: Seconds the server asked to wait; None where it did not.
        maybe_billed: True where the vendor may have processed, and billed, a request.
        body: Excerpt of the error body, at most 200 characters, with everything that also stands
            in the request masked.
        phase: What the call was doing: ``"slot"``, ``"connect"``, ``"send"``, ``"headers"``,
            ``"body"``, ``"wait"``, ``"pacing"`` or ``"layer"``; None where it does not matter.
        fallbacks: Of a call with ``fallback=``, the targets that failed before this one, in order.
    """

    _source: type[TermaiHttpError] | None = None  # the class of what broke a stream
    hint: ClassVar[str] = ""
    """What to do, appended to the text of every instance."""

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status_code: int | None = None,
        request_id: str | None = None,
        code: str | None = None,
        attempts: int = 0,
        elapsed: float | None = None,
        retry_after: float | None = None,
        maybe_billed: bool = False,
        body: str | None = None,
        phase: str | None = None,
        fallbacks: tuple[FailedTarget, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.model = model
        self.status_code = status_code
        self.request_id = request_id
        self.code = code
        self.attempts = attempts
        self.elapsed = elapsed
        self.retry_after = retry_after
        self.maybe_billed = maybe_billed
        self.body = body
        self.phase = phase
        self.fallbacks = fallbacks

    def __str__(self) -> str:
        figures = ", ".join(self._figures())
        text = f"{self.message} [{figures}]" if figures else self.message
        return f"{text} {self.hint}" if self.hint else text

    def _figures(self) -> list[str]:
        figures = []
        if self.provider:
            figures.append(f"{self.provider} {self.model}" if self.model else self.provider)
        if self.request_id:
            figures.append(f"request id {self.request_id}")
        if self.attempts:
            figures.append(f"attempts {self.attempts}")
        if self.elapsed is not None:
            figures.append(f"after {self.elapsed:.2f} s")
        if self.retry_after is not None and self.phase != "pacing":
            figures.append(f"server asks to wait {self.retry_after:g} s")
        if self.maybe_billed:
            figures.append("may have been billed")
        return figures

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(vars(self)))


def _rebuild(cls: type[TermaiHttpError], fields: dict[str, Any]) -> TermaiHttpError:
    error = cls.__new__(cls, fields["message"])
    error.args = (fields["message"],)
    vars(error).update(fields)
    return error


class ConfigurationError(TermaiHttpError):
    """A setting, key, URL or certificate that cannot work; nothing was sent."""


class AlreadyInitializedError(ConfigurationError):
    """``initialize()`` came after the process-wide client was made."""

    hint = "Call termai_http.close() first, or use client_with_config() for a client of your own."


class MissingKeyError(ConfigurationError):
    """No API key was given or found; the message names every place looked at."""


class InvalidRequestError(TermaiHttpError, ValueError):
    """A request refused before sending: its messages, options or body are wrong."""


class APIConnectionError(TermaiHttpError):
    """The exchange broke: refused, reset or closed before an answer was complete."""


class DNSError(APIConnectionError):
    """The host's name could not be resolved."""

    hint = "Check the host in base_url and this machine's DNS."


class TLSError(APIConnectionError):
    """The TLS handshake was refused: certificate, host name or protocol. Never retried."""

    hint = "Check the certificate and clock; for a private CA set HttpClientConfig(ca_bundle=...)."


class ProxyError(APIConnectionError):
    """The proxy could not be reached or refused."""

    hint = "Check HTTPS_PROXY and NO_PROXY, or HttpClientConfig(proxies=...)."


class ResourceError(APIConnectionError):
    """This process has no file descriptor left."""

    hint = "Raise the limit (ulimit -n), or lower HttpClientConfig(max_connections=...)."


class APITimeoutError(TermaiHttpError):
    """Something took longer than it may."""


class ConnectTimeout(APITimeoutError):
    """``connect_timeout`` ended DNS, TCP and TLS of one attempt."""


class ReadTimeout(APITimeoutError):
    """``read_timeout`` ended a silence of the server. Not retried unless asked for."""

    hint = (
        "The model may still be running; RetryConfig(retry_read_timeouts=True) repeats such calls."
    )


class PoolTimeout(APITimeoutError):
    """No slot became free before the deadline."""

    hint = "Raise HttpClientConfig(max_connections=...), or run fewer calls at once."


class DeadlineExceeded(APITimeoutError):
    """The call's deadline passed; ``phase`` says during what."""

    hint = "Raise timeout=, or the time limit around the call, if it may take longer."


class APIStatusError(TermaiHttpError):
    """The server answered with a status that is no success."""


class BadRequestError(APIStatusError):
    """400: the server refuses the request as it is."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or revoked."""

    hint = "Check the API key and that it belongs to this base URL."


class QuotaExceededError(APIStatusError):
    """402 and the 429s of billing: no credit or a spend limit. Never retried."""

    hint = "Check the account's plan, credit and spend limits; waiting does not help."


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""


class NotFoundError(APIStatusError):
    """404: no such model or path."""

    hint = "Check the model's name and base_url."


class ConflictError(APIStatusError):
    """409: the request conflicts with another one."""


class RequestTooLargeError(APIStatusError):
    """413: the request body is too large."""


class UnprocessableEntityError(APIStatusError):
    """422: well formed, but refused."""


class RateLimitError(APIStatusError):
    """429: too many requests or tokens a minute."""

    hint = "Slow down, or ask for a higher limit."


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


class OverloadedError(InternalServerError):
    """529: the vendor is overloaded."""


class UnexpectedRedirect(APIStatusError):
    """3xx: redirects are never followed, since they would carry key and prompt elsewhere."""

    hint = "Set base_url to the address that the server really answers on."


class InvalidResponseError(TermaiHttpError):
    """A success that is none: the body is not what this API answers."""


class OutputError(InvalidResponseError):
    """The reply is not what ``output=`` asked for; the message says where and why.

    Attributes:
        text: The reply as the model wrote it.
        path: Where in it, as ``$.items[2].price``; None where it is no JSON at all.
        usage: The tokens of the reply, a ``Usage``; None where they are not known.
        cost: US dollars that the reply cost; None where that is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        path: str | None = None,
        usage: Usage | None = None,
        cost: float | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message, **fields)
        self.text = text
        self.path = path
        self.usage = usage
        self.cost = cost


class ProtocolError(InvalidResponseError):
    """The peer does not speak HTTP."""

    hint = "Check that base_url names an HTTP API."


class TruncatedResponse(InvalidResponseError):
    """The body ended before it was complete."""


class ResponseTooLarge(InvalidResponseError):
    """The body is larger than ``Limits`` allows."""

    hint = "Raise HttpClientConfig(limits=Limits(...)) if such answers are expected."


class StreamInterrupted(TermaiHttpError):
    """A stream broke after its first event; never replayed.

    Attributes:
        partial: The text that came before.
    """

    def __init__(self, message: str, *, partial: str = "", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.partial = partial


class ClientClosed(TermaiHttpError):
    """The client was closed, before or during the call."""

    hint = "Make a new client, or use termai_http.chat(), which makes one itself."


class CallCancelled(TermaiHttpError):
    """The call's ``CancelToken`` was cancelled."""


class CircuitOpenError(TermaiHttpError):
    """The circuit breaker of this base URL is open; nothing was sent.

    Attributes:
        retry_in: Seconds until a probe may be let through.
    """

    hint = "Try again after retry_in, or let fallback= name another model."

    def __init__(self, message: str, *, retry_in: float = 0.0, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.retry_in = retry_in
