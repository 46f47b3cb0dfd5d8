"""What each event is in the logs: a level, a line, and fields for structured logging.

Loaded when a line is to be written. A line and its fields hold no key and no prompt, and what came
from outside is cut and made printable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from ._log import log

if TYPE_CHECKING:
    from ._events import Event, RetryScheduled
    from ._failed_target import FailedTarget

__all__ = ["fields_of", "tell", "tell_fallback", "tell_retry"]

_LONGEST = 200
_LONGEST_LINE = 1000
_PREFIX = "termai_"
_HOSTLESS = (None, None)


def tell(event: Event) -> None:
    """Write the line of an event; ``RetryScheduled`` has one of ``tell_retry``.

    A call that ends has a line at INFO, at WARNING where it failed; everything else is at DEBUG.
    Of a health check that failed the adapter warns itself.
    """
    line = _LINES.get(type(event).__name__)
    if line is None:
        return
    level, say = line
    if level == logging.WARNING and getattr(event, "operation", None) == "health":
        # Whoever asks for health warns of it, with the reason.
        level = logging.INFO
    if not log.isEnabledFor(level):
        return
    said = _printable(say(event), _LONGEST_LINE)
    if event.call_id is None:
        log.log(level, "%s", said, extra=fields_of(event))
    else:
        who = _printable(_who(event) or "request")
        log.log(level, "call %d, %s: %s", event.call_id, who, said, extra=fields_of(event))


def tell_retry(event: RetryScheduled) -> None:
    """Warn of another attempt. Whoever begins it calls this, whether anybody listens or not."""
    log.warning(
        "Retrying %s after attempt %d failed: %s; waiting %.2f s (request id %s)",
        _printable(_who(event) or "request"),
        event.attempt,
        _printable(event.cause),
        event.wait,
        _printable(event.request_id or "none"),
        extra=fields_of(event),
    )


def tell_fallback(failed: FailedTarget, model: str, host: str) -> None:
    """Warn that a target did not answer, and say who is asked now.

    Args:
        failed: Who did not answer, and why.
        model: The next one's.
        host: Where that is asked.
    """
    if not log.isEnabledFor(logging.WARNING):
        return
    log.warning(
        "Falling back to %s at %s after %d attempt%s: %s",
        _printable(model),
        _printable(host),
        failed.attempts,
        "" if failed.attempts == 1 else "s",
        _printable(str(failed), _LONGEST_LINE),
        extra=_fallback_fields(failed, model),
    )


def _fallback_fields(failed: FailedTarget, model: str) -> dict[str, Any]:
    host, port = _host_and_port(f"//{failed.host}")
    told = {
        "event": "Fallback",
        "call_id": None,
        "provider": failed.provider,
        "model": failed.model,
        "error": failed.error,
        "status": failed.status_code,
        "request_id": failed.request_id,
        "attempts": failed.attempts,
        "elapsed": failed.elapsed,
        "host": host,
        "port": port,
        "fallback": model,
    }
    return {
        _PREFIX + name: _printable(value) if isinstance(value, str) else value
        for name, value in told.items()
    }


def fields_of(event: Event) -> dict[str, Any]:
    """Return the fields of a record, by names that no other attribute of a record has.

    Each is ``termai_`` and the name in the event, but for ``termai_event``, its class, and
    ``termai_status``. Of an URL only host and port are told.
    """
    fields: dict[str, Any] = {f"{_PREFIX}event": type(event).__name__}
    for attribute in attrs.fields(type(event)):
        name, value = attribute.name, getattr(event, attribute.name)
        if name == "base_url":
            fields[f"{_PREFIX}host"], fields[f"{_PREFIX}port"] = _host_and_port(value)
            continue
        if name == "status_code":
            name = "status"
        fields[_PREFIX + name] = _printable(value) if isinstance(value, str) else value
    return fields


def _printable(text: str, longest: int = _LONGEST) -> str:
    cut = text[:longest]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "?" for c in cut)


def _host_and_port(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname and _printable(parts.hostname), parts.port
    except ValueError:
        return _HOSTLESS


def _who(event: Event) -> str:
    return " ".join(filter(None, (event.provider, event.model)))


def _place(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"


def _call_started(event: Any) -> str:
    kind = "a stream" if event.streaming else "a call"
    return f"{kind} ({event.operation}) begins, to {_place(event.host, event.port)}"


def _call_succeeded(event: Any) -> str:
    done = f"{event.status_code} in" if event.attempts else "answered without a request in"
    left = "" if event.complete else ", left before its end"
    return f"{done} {event.elapsed:.2f} s{left}{_more(event)}"


def _call_failed(event: Any) -> str:
    status = "" if event.status_code is None else f" ({event.status_code})"
    return f"{event.error}{status} after {event.elapsed:.2f} s{_more(event)}"


def _more(event: Any) -> str:
    parts = []
    if event.attempts > 1:
        parts.append(f"{event.attempts} attempts")
    if event.input_tokens or event.output_tokens:
        parts.append(f"{event.input_tokens} tokens in, {event.output_tokens} out")
    if event.request_id:
        parts.append(f"request id {_printable(event.request_id)}")
    return "".join(f", {part}" for part in parts)


def _attempt_started(event: Any) -> str:
    return f"attempt {event.attempt} begins"


def _attempt_succeeded(event: Any) -> str:
    how = "a kept" if event.reused else "a new"
    return f"attempt {event.attempt} got {event.status_code} over {how} connection"


def _attempt_failed(event: Any) -> str:
    return f"attempt {event.attempt} failed: {event.cause}"


def _slot_waited(event: Any) -> str:
    return f"waited {event.seconds:.2f} s for a slot, {'and has one' if event.got else 'in vain'}"


def _connection_opened(event: Any) -> str:
    return f"connection to {_place(event.host, event.port)} opened in {event.seconds:.2f} s"


def _connection_reused(event: Any) -> str:
    return f"connection to {_place(event.host, event.port)} taken again"


def _connection_closed(event: Any) -> str:
    return f"connection to {_place(event.host, event.port)} closed: {event.reason}"


def _first_token(event: Any) -> str:
    return f"first token after {event.elapsed:.2f} s"


def _circuit_changed(event: Any) -> str:
    host, port = _host_and_port(event.base_url)
    return f"circuit of {_place(host or 'a host', port)} is {event.state}"


def _pacing_waited(event: Any) -> str:
    return f"held back {event.seconds:.2f} s: {event.why}"


def _cache_answered(event: Any) -> str:
    return "shared the reply of an equal call" if event.shared else "answered from the cache"


def _cache_missed(event: Any) -> str:
    return "not in the cache"


_LINES: dict[str, tuple[int, Callable[[Any], str]]] = {
    "CallStarted": (logging.DEBUG, _call_started),
    "CallSucceeded": (logging.INFO, _call_succeeded),
    "CallFailed": (logging.WARNING, _call_failed),
    "AttemptStarted": (logging.DEBUG, _attempt_started),
    "AttemptSucceeded": (logging.DEBUG, _attempt_succeeded),
    "AttemptFailed": (logging.DEBUG, _attempt_failed),
    "SlotWaited": (logging.DEBUG, _slot_waited),
    "ConnectionOpened": (logging.DEBUG, _connection_opened),
    "ConnectionReused": (logging.DEBUG, _connection_reused),
    "ConnectionClosed": (logging.DEBUG, _connection_closed),
    "FirstToken": (logging.DEBUG, _first_token),
    "CircuitChanged": (logging.DEBUG, _circuit_changed),
    "PacingWaited": (logging.DEBUG, _pacing_waited),
    "CacheAnswered": (logging.DEBUG, _cache_answered),
    "CacheMissed": (logging.DEBUG, _cache_missed),
}
