"""The one place where foreign exceptions become ours."""

from __future__ import annotations

import errno
import http.client
import re
import ssl
from collections.abc import Iterator
from typing import TypeVar

import requests.exceptions
import urllib3.exceptions

from . import errors
from ._answer import BadFraming, TooLong
from ._call import Attempt
from ._connection import TunnelFailed

__all__ = ["FOREIGN", "deadline_exceeded", "map_exception"]

FOREIGN = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)
"""What the libraries below may raise; anything else is a defect, or a hook's, and passes."""

_TIMER_SLACK = 0.01
# Whatever ended these, the vendor may have gone on.
_AFTER_SENDING = (errors.InvalidResponseError, errors.CallCancelled, errors.ClientClosed)
_E = TypeVar("_E", bound=BaseException)

_WHERE = {
    "slot": "while waiting for a slot",
    "connect": "while connecting",
    "send": "while sending the request",
    "headers": "while waiting for the answer",
    "body": "while reading the answer",
    "wait": "while waiting for the next attempt",
}


def map_exception(error: BaseException, attempt: Attempt, host: str) -> errors.TermaiHttpError:
    """Turn what an attempt raised into the most specific error of ours.

    The original is described, not kept: it holds the request, and so key and prompt.

    Args:
        error: What the libraries below raised.
        attempt: What is known of the attempt.
        host: Whom it talked to, for the message.
    """
    if isinstance(error, errors.TermaiHttpError):
        return error
    mapped = _mapped(error, attempt, host)
    if attempt.sent and isinstance(mapped, _AFTER_SENDING):
        mapped.maybe_billed = True
    return mapped


def _mapped(error: BaseException, attempt: Attempt, host: str) -> errors.TermaiHttpError:
    chain = list(_chain(error))
    where, phase = _WHERE[attempt.phase], attempt.phase
    if (reason := attempt.call.interrupted) is not None:
        if reason is errors.DeadlineExceeded:
            return deadline_exceeded(attempt)
        return reason(f"The call was ended {where}.", phase=phase)
    if _is_timeout(chain):
        unconnected = isinstance(error, requests.exceptions.ConnectTimeout)
        return _timeout(attempt, host, connecting=attempt.phase == "connect" or unconnected)
    if own := _connection_error(chain, attempt, host):
        return own
    if isinstance(error, requests.exceptions.InvalidURL) or _find(
        chain, urllib3.exceptions.LocationValueError
    ):
        return errors.ConfigurationError("The URL cannot be used; check base_url.")
    return _answer_error(chain, attempt, host)


def _connection_error(
    chain: list[BaseException], attempt: Attempt, host: str
) -> errors.TermaiHttpError | None:
    phase = attempt.phase
    for failure in chain:
        if isinstance(failure, OSError) and failure.errno in (errno.EMFILE, errno.ENFILE):
            return errors.ResourceError("This process has no file descriptor left.", phase=phase)
    proxy = _find(chain, requests.exceptions.ProxyError) or _find(
        chain, urllib3.exceptions.ProxyError
    )
    if _find(chain, urllib3.exceptions.NameResolutionError):
        if proxy is not None:
            why = "its name could not be resolved"
            return errors.ProxyError(f"The proxy for {host} failed: {why}.", phase=phase)
        return errors.DNSError(f"The name {host} could not be resolved.", phase=phase)
    if tunnel := _find(chain, TunnelFailed):
        return _tunnel_error(tunnel, attempt, host)
    tls = _find(chain, ssl.SSLError)
    if tls is not None and not _is_broken_pipe_of_tls(tls):
        whom = f"the proxy for {host}" if proxy is not None else host
        return errors.TLSError(f"TLS with {whom} failed: {_tls_reason(tls)}.", phase=phase)
    if proxy is not None:
        return errors.ProxyError(f"The proxy for {host} failed: {_reason(chain)}.", phase=phase)
    if tls is None and _find(chain, requests.exceptions.SSLError):
        return errors.TLSError(f"TLS with {host} failed.", phase=phase)
    return None


def _tunnel_error(tunnel: TunnelFailed, attempt: Attempt, host: str) -> errors.ProxyError:
    """Blame the proxy for what went wrong before its tunnel stood."""
    cause = tunnel.__cause__
    # It has no class of its own: the message of http.client is all there is.
    refused = re.match(r"Tunnel connection failed: ([0-9]{3})\b", str(tunnel))
    status = int(refused[1]) if refused else None
    if status is not None:
        meaning = http.client.responses.get(status, "")
        reason = f"it answered CONNECT with {status} {meaning}".rstrip()
    elif isinstance(cause, (http.client.RemoteDisconnected, ConnectionError)):
        reason = "it closed the connection"
    elif isinstance(cause, http.client.HTTPException):
        ours = isinstance(cause, (BadFraming, TooLong))
        reason = f"what it answered is no HTTP ({cause if ours else _name(cause)})"
    elif cause is None:
        # A SOCKS proxy: nothing of it is HTTP, and the text is the reason.
        reason = str(tunnel)
    else:
        reason = _reason(list(_chain(tunnel)))
    return errors.ProxyError(
        f"The proxy for {host} failed: {reason}.", phase=attempt.phase, status_code=status
    )


def _answer_error(
    chain: list[BaseException], attempt: Attempt, host: str
) -> errors.TermaiHttpError:
    phase, where = attempt.phase, _WHERE[attempt.phase]
    if framing := _framing_error(chain, host):
        framing.phase = phase
        return framing
    if phase == "body":
        if _find(chain, urllib3.exceptions.DecodeError):
            return errors.InvalidResponseError("The answer's compression is broken.", phase=phase)
        if _find(chain, http.client.IncompleteRead) or _find(chain, OSError):
            return errors.TruncatedResponse(
                f"The answer of {host} ended before it was complete: {_reason(chain)}.",
                phase=phase,
            )
        return errors.ProtocolError(f"{host} sent a broken body: {_reason(chain)}.", phase=phase)
    garbled = _find(chain, http.client.HTTPException) or _find(
        chain, urllib3.exceptions.InvalidHeader
    )
    dropped = _find(chain, http.client.RemoteDisconnected) or _find(chain, ConnectionError)
    if attempt.received and (garbled is not None) and dropped is None:
        return errors.ProtocolError(
            f"What {host} answered is no HTTP ({_name(garbled)}).", phase=phase
        )
    return errors.APIConnectionError(
        f"The connection to {host} failed {where}: {_reason(chain)}.", phase=phase
    )


def _framing_error(chain: list[BaseException], host: str) -> errors.InvalidResponseError | None:
    if framing := _find(chain, BadFraming):
        return errors.ProtocolError(f"What {host} answered is no HTTP: {framing}.")
    if length := _find(chain, TooLong):
        return errors.ResponseTooLarge(f"The answer of {host} is too large: {length}.")
    if _find(chain, http.client.LineTooLong):
        return errors.ResponseTooLarge(f"The answer of {host} has a line too long to be one.")
    for failure in chain:
        # It has no class of its own: the message of http.client is all there is.
        if type(failure) is http.client.HTTPException and "more than" in str(failure):
            return errors.ResponseTooLarge(f"The answer of {host} has too many header lines.")
    return None


def _timeout(attempt: Attempt, host: str, *, connecting: bool) -> errors.APITimeoutError:
    where, phase = _WHERE[attempt.phase], attempt.phase
    if attempt.call.left() <= _TIMER_SLACK:
        return deadline_exceeded(attempt)
    if connecting:
        limit = attempt.limits.connect_timeout
        return errors.ConnectTimeout(
            f"Connecting to {host} took longer than connect_timeout, {limit:g} s.", phase=phase
        )
    limit = attempt.limits.read_timeout or 0.0
    return errors.ReadTimeout(
        f"{host} was silent for longer than read_timeout, {limit:g} s, {where}.", phase=phase
    )


def deadline_exceeded(attempt: Attempt) -> errors.DeadlineExceeded:
    """Build the error for a deadline that passed during an attempt."""
    call = attempt.call
    seconds, where = call.end - call.entered, _WHERE[attempt.phase]
    message = f"The deadline of {seconds:g} s passed {where}."
    if call.limited and seconds > 0:
        message = f"The {seconds:.3g} s that a limit around this call left it passed {where}."
    elif call.limited:
        message = "The time limit around this call had passed before the call began."
    return errors.DeadlineExceeded(
        message,
        phase=attempt.phase,
        maybe_billed=attempt.sent,
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all it wraps: as cause, as ``reason``, or among its arguments."""
    pending, seen = [error], set()
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = (current.__cause__, current.__context__, getattr(current, "reason", None))
        pending += [item for item in (*wrapped, *current.args) if isinstance(item, BaseException)]


def _find(chain: list[BaseException], cls: type[_E]) -> _E | None:
    return next((item for item in chain if isinstance(item, cls)), None)


def _is_timeout(chain: list[BaseException]) -> bool:
    timeouts = [item for item in chain if isinstance(item, TimeoutError)]
    if any(item.errno is not None for item in timeouts):
        # The system gave the path up; no limit of ours ended anything.
        return False
    return any(
        isinstance(item, (TimeoutError, requests.exceptions.Timeout))
        or (
            isinstance(item, urllib3.exceptions.TimeoutError)
            and not isinstance(item, urllib3.exceptions.NewConnectionError)
        )
        for item in chain
    )


def _is_broken_pipe_of_tls(error: ssl.SSLError) -> bool:
    """Tell a peer that went away from one that refused us."""
    return isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError))


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was refused, {error.verify_message}"
    # One that was not made by the standard library's own code has no reason at all.
    reason = (getattr(error, "reason", None) or "handshake failure").replace("_", " ").lower()
    if "wrong version number" in reason or "http request" in reason:
        return f"{reason} (the port seems to speak plain HTTP)"
    return reason


def _reason(chain: list[BaseException]) -> str:
    """Say why, in words that cannot hold anything of the request."""
    for item in reversed(chain):
        if isinstance(item, http.client.RemoteDisconnected):
            return "the server closed the connection without a whole answer"
        if isinstance(item, http.client.IncompleteRead):
            return "fewer bytes came than were announced"
        if isinstance(item, OSError) and item.strerror and isinstance(item.errno, int):
            return item.strerror[:1].lower() + item.strerror[1:]
    return _name(chain[-1])


def _name(error: BaseException) -> str:
    return type(error).__name__
