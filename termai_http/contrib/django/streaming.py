"""Server-sent events: a model's reply in the browser while it is written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from django.http import StreamingHttpResponse

from ..._log import log
from ..._stream import SILENCE, Stream
from ...errors import (
    CallCancelled,
    ClientClosed,
    ConfigurationError,
    StreamInterrupted,
    TermaiHttpError,
)
from ...models import ChatResponse, StreamEvent
from .conf import options

__all__ = ["sse_response"]

# A browser's EventSource that lost its connection asks again, which is a second call to pay.
_FIRST = b"retry: 86400000\n"
_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    # nginx, and those who learned it from nginx, would wait for the end.
    "X-Accel-Buffering": "no",
    # Django's GZipMiddleware, too, unless the body looks encoded.
    "Content-Encoding": "identity",
}


def sse_response(
    stream: Stream,
    *,
    encode: Callable[[StreamEvent], Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> StreamingHttpResponse:
    """Answer with a stream of a model's reply, as server-sent events.

    Each piece of text is one event, ``data: {"text": "..."}``. After the last comes an event
    ``done`` with ``text``, ``finish_reason``, ``model``, ``request_id`` and ``usage``; where the
    reply breaks, an event ``error`` with ``type``, ``message``, ``request_id`` and
    ``retry_after``, which shows nothing of the vendor's answer. The stream is cancelled, and its
    connection closed, when the server closes the response: at the next event or heartbeat after
    the browser hung up.

    Args:
        stream: What ``termai_http.stream()`` returned. From here on the response owns it.
        encode: Makes the JSON value of an event, None to leave it out; gets every ``StreamEvent``,
            those without text too. None means the texts alone.
        headers: Headers to add, or to have instead of those that keep proxies from buffering.

    While the model is silent, a comment goes out every ``TERMAI_HTTP["HEARTBEAT"]`` seconds: it
    keeps proxies from hanging up, and finds out whether the browser did. With None there is none.

    Returns:
        A response for a WSGI server; an ASGI server would read all of it before it sends any.

    Raises:
        ConfigurationError: ``stream`` is none, or the settings are wrong.
    """
    if not isinstance(stream, Stream):
        raise ConfigurationError(
            f"sse_response needs what stream() returned, not {type(stream).__name__}."
        )
    return StreamingHttpResponse(
        _Events(stream, encode, options().heartbeat),
        content_type="text/event-stream",
        headers={**_HEADERS, **(headers or {})},
    )


class _Events:
    """The body of the response: an iterator that its server closes."""

    def __init__(
        self, stream: Stream, encode: Callable[[StreamEvent], Any] | None, heartbeat: float | None
    ) -> None:
        self._stream = stream
        self._encode = encode
        self._heartbeat = heartbeat
        self._begun = False
        self._over = False

    def __iter__(self) -> _Events:
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        begun, self._begun = self._begun, True
        try:
            event = self._next()
        except TermaiHttpError as error:
            event = self._broken(error)
        except BaseException:
            self.close()
            raise
        return event if begun else _FIRST + event

    def _next(self) -> bytes:
        # What is left out does not put it off.
        due = None if self._heartbeat is None else time.monotonic() + self._heartbeat
        while True:
            seconds = None if due is None else max(due - time.monotonic(), 0.0)
            item = self._stream.next_within(seconds, texts=self._encode is None)
            if item is SILENCE:
                return b": waiting\n\n"
            if item is None:
                return self._done()
            value = {"text": item} if self._encode is None else self._encode(item)
            if value is not None:
                return _event(value)

    def _done(self) -> bytes:
        reply = self._stream.response
        self.close()
        if reply is None:
            return self._broken(CallCancelled("The stream was closed before its end."))
        return _event(_summary(reply), "done")

    def _broken(self, error: TermaiHttpError) -> bytes:
        self.close()
        log.warning("A reply that was sent to a browser broke: %s: %s", type(error).__name__, error)
        value = {
            "type": type(error).__name__,
            "message": _told(error),
            "request_id": error.request_id,
            "retry_after": error.retry_after,
        }
        return _event(value, "error")

    def close(self) -> None:
        """Cancel the stream unless it was read to its end; safe to repeat."""
        self._over = True
        self._stream.close()

    def __del__(self) -> None:
        # A server that forgot to close it; a finalizer must not end the call by itself.
        if not getattr(self, "_over", True):
            self._stream.cancel()


def _event(value: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name is not None else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode("ascii")


def _summary(reply: ChatResponse) -> dict[str, Any]:
    usage = reply.usage
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "model": reply.model,
        "request_id": reply.request_id,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }


def _told(error: TermaiHttpError) -> str:
    """Say to a browser what happened; the vendor's own words may tell more than it should know."""
    if isinstance(error, (CallCancelled, ClientClosed)):
        return "The reply was cancelled."
    if isinstance(error, StreamInterrupted):
        return "The reply broke off before its end."
    return "The reply is not what was asked for."
