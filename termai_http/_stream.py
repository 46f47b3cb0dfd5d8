"""``Stream``: a reply that is read while it is written."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, cast

from ._call import Call
from ._sse import EventParser, ServerEvent
from .dialects._base import Piece, lowered
from .errors import (
    CallCancelled,
    ClientClosed,
    InvalidResponseError,
    StreamInterrupted,
    TermaiHttpError,
    TruncatedResponse,
)
from .models import ChatResponse, StreamEvent

if TYPE_CHECKING:
    from ._failed_target import FailedTarget
    from ._open_body import OpenBody
    from .config import Limits
    from .dialects._base import Decoded, StreamDecoder

__all__ = ["SILENCE", "EventSource", "Stream", "not_a_stream"]

_PARTS = frozenset({"thinking", "tool_call", "tool_call_delta", "finish"})
_MOST_AHEAD = 256 * 1024
_EVENT_OVERHEAD = 128
_NOTHING: Mapping[str, Any] = MappingProxyType({})
SILENCE: Piece = ("silence", "", _NOTHING)
"""Stands for a piece that did not come in time."""


class EventSource:
    """Events of one open body, decoded; errors are values. For one thread at a time.

    Args:
        body: Where the bytes come from.
        decoder: The dialect's, for this one stream.
        limits: What the server may send.
    """

    def __init__(self, body: OpenBody, decoder: StreamDecoder, limits: Limits) -> None:
        self.body = body
        self.failure: TermaiHttpError | None = None
        self._decoder = decoder
        self._feed = decoder.feed
        self._text_of = decoder.text_of
        self._parser = EventParser(most_line=limits.stream_line, most_event=limits.stream_event)
        self._events: Iterator[ServerEvent] = iter(())
        self._ready: deque[Piece] = deque()
        self._open = True
        self._begun = False
        self._dropped = 0

    def begin(self) -> TermaiHttpError | None:
        """Read up to the first event that is a part of the reply; nothing is lost by asking again.

        Returns:
            None where the reply begins, or the error in its place.
        """
        ahead = 0
        while not self._begun and self._open:
            if (event := next(self._events, None)) is None:
                self._read()
                continue
            try:
                pieces = self._feed(event)
            except TermaiHttpError as error:
                self._fail(error.with_traceback(None))
                break
            ahead += len(event.data) + _EVENT_OVERHEAD
            self._begun = any(map(_commits, pieces))
            # Of endless pings before the reply only the first ones are kept.
            if self._begun or ahead <= _MOST_AHEAD:
                self._ready.extend(pieces)
        return None if self._begun else self.failure or not_a_stream("empty")

    def next(self, *, texts: bool = False, until: float | None = None) -> Piece | None:
        """Return the next piece; None at the end, a good one where there is no ``failure``.

        What came before an error comes out before it, however the bytes were cut; only the deadline
        and an interrupt do not wait for the reader to take what came.

        Args:
            texts: Whether only texts are wanted. Most events need not be read whole for that, and
                then their pieces are without the vendor's own event.
            until: The instant from which on ``SILENCE`` is returned where none came; None to wait.
        """
        if self._open and (early := self.body.ended_early()) is not None:
            self._dropped = self._untaken()
            self._ready.clear()
            self._fail(early)
        ready = self._ready
        while not ready and self._open:
            # Each event is read when it is asked for: the first piece does not wait for the others.
            for event in self._events:
                if texts and (text := self._text_of(event)) is not None:
                    return "text", text, _NOTHING
                try:
                    pieces = self._feed(event)
                except TermaiHttpError as error:
                    self._fail(error.with_traceback(None))
                    break
                if len(pieces) == 1:
                    return pieces[0]
                ready.extend(pieces)
                break
            else:
                if until is not None and not self.body.wait_until(until):
                    return SILENCE
                self._read()
        return ready.popleft() if ready else None

    def _fail(self, error: TermaiHttpError) -> None:
        self._open = False
        self.failure = error
        self.body.close()

    def _read(self) -> None:
        if self._decoder.ended:
            self.body.drain()
            self._open = False
            return
        data = self.body.read()
        if isinstance(data, TermaiHttpError):
            self._fail(data)
        elif not data:
            self._end()
        else:
            try:
                self._events = iter(self._parser.feed(data))
            except TermaiHttpError as error:
                self._fail(error.with_traceback(None))

    def _end(self) -> None:
        """Judge the end of the body: without the dialect's own end the reply may be half of one."""
        self._open = False
        complete, failure = self._decoder.complete, None
        try:
            # It may be the usage.
            for event in self._parser.finish():
                pieces = self._decoder.feed(event)
                self._begun = self._begun or any(map(_commits, pieces))
                self._ready.extend(pieces)
        except TermaiHttpError as error:
            failure = error.with_traceback(None)
        if complete:
            return
        whole = self._decoder.complete
        if not whole and (failure is None or isinstance(failure, InvalidResponseError)):
            failure = TruncatedResponse("The stream ended before its end mark.", phase="body")
        if failure is not None:
            self._fail(failure)

    def _untaken(self) -> int:
        return sum([len(value) for kind, value, _ in self._ready if kind == "text"])

    def text(self) -> str:
        """Return the text that was handed out."""
        text = self._decoder.text()
        return text[: len(text) - self._untaken() - self._dropped]

    def decoded(self) -> Decoded:
        """Return the reply as far as it came."""
        return self._decoder.result()


def _commits(piece: Piece) -> bool:
    """Tell whether a piece is a part of the reply, after which nothing is repeated."""
    kind, value, _ = piece
    return kind in _PARTS or (kind == "text" and bool(value))


def _event(piece: Piece) -> StreamEvent:
    kind, value, raw = piece
    if kind == "usage":
        return StreamEvent(type=kind, usage=value, raw=raw)
    if kind == "finish":
        return StreamEvent(type=kind, finish_reason=value, raw=raw)
    if kind == "tool_call":
        return StreamEvent(type=kind, tool_call=value, raw=raw)
    if kind == "tool_call_delta":
        text, call = value
        return StreamEvent(type=kind, text=text, tool_call=call, raw=raw)
    return StreamEvent(type=kind, text=value, raw=raw)


class Stream:
    """A reply in pieces: an iterator of its text, and a context manager that closes it.

    Sent when it is made; each piece comes out in the moment it arrives. Read it to its end, and its
    connection can be used again; leave it early, by ``with``, ``close()`` or dropping it, and its
    connection is closed. One thread reads it; ``cancel()`` is safe from any.

    Attributes:
        text: The text so far.
        response: The whole reply as a ``ChatResponse``; None before the end.
        time_to_first_token: Seconds from the call's entry to the first part of the reply; with
            ``fallback=``, those of who answers.
        fallbacks: Of a call with ``fallback=``, who failed before this one began, in order.
    """

    fallbacks: tuple[FailedTarget, ...] = ()

    def __init__(
        self,
        source: EventSource,
        call: Call,
        finish: Callable[[Stream, BaseException | None], None],
        forget: Callable[[Stream], None],
        reply: Callable[[Decoded], ChatResponse | TermaiHttpError],
    ) -> None:
        self._source = source
        self._call = call
        self._finish = finish
        self._forget = forget
        self._reply = reply
        self._left = False
        self.response: ChatResponse | None = None
        self.time_to_first_token = call.elapsed()
        # Last: one that was torn away while it was made is no stream to end.
        self._open, self._settled = True, False

    def __repr__(self) -> str:
        state = "open" if self._open else "read" if self.response is not None else "closed"
        return f"<termai_http.Stream {state}>"

    @property
    def text(self) -> str:
        """The text so far."""
        return self._source.text()

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, names in lower case."""
        return lowered(self._source.body.response.headers)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next piece of text.

        Raises:
            StopIteration: The reply is complete, or the stream was closed.
            StreamInterrupted: It broke; ``partial`` has the text that came.
            CallCancelled: ``cancel()``, or the token of the call.
            ClientClosed: The client was closed.
            RuntimeError: Another thread is reading it; that one goes on.
        """
        while (piece := self._next(texts=True)) is not None:
            if piece[0] == "text" and piece[1]:
                return cast("str", piece[1])
        raise StopIteration

    def events(self) -> Iterator[StreamEvent]:
        """Iterate over all events, those without text too; raises as iterating over it does."""
        while (piece := self._next()) is not None:
            yield _event(piece)

    def next_within(self, seconds: float | None, *, texts: bool) -> Any:
        """Return the next text or event, ``SILENCE`` where none came for so long, None at the end.

        For who has to do something else meanwhile; raises as iterating over it does.

        Args:
            seconds: How long to wait; None as long as iterating over it does.
            texts: Whether texts are wanted, and no events.
        """
        now = self._call.clock.monotonic
        until = None if seconds is None else now() + seconds
        while (piece := self._next(texts=texts, until=until)) is not None:
            if piece is SILENCE:
                return SILENCE
            if not texts:
                return _event(piece)
            if piece[0] == "text" and piece[1]:
                return piece[1]
            if until is not None and now() >= until:
                return SILENCE
        return None

    def _next(self, *, texts: bool = False, until: float | None = None) -> Piece | None:
        if not self._open:
            return None
        if self._source.body.reading:
            raise RuntimeError("Another thread is reading this stream.")
        error: TermaiHttpError | None = None
        try:
            piece = self._source.next(texts=texts, until=until)
            if piece is None:
                error = self._conclude()
        except BaseException as torn:
            self._source.body.close()
            self._end(torn)
            raise
        # Closed in another thread meanwhile, it did not break.
        if piece is None and not self._left:
            self._end(error)
            if error is not None:
                raise error
        return piece

    def _conclude(self) -> TermaiHttpError | None:
        """Take note of the end, and return the error where it is no good one."""
        if (failure := self._source.failure) is not None:
            return self._interrupted(failure)
        reply = self._reply(self._source.decoded())
        if not isinstance(reply, ChatResponse):
            return reply
        self.response = reply
        return None

    def _interrupted(self, error: TermaiHttpError) -> TermaiHttpError:
        if isinstance(error, (CallCancelled, ClientClosed)):
            return error
        partial = self.text
        broken = StreamInterrupted(
            f"The stream broke after {len(partial)} characters: "
            f"{type(error).__name__}: {error.message}",
            code=error.code,
            request_id=error.request_id,
            body=error.body,
            phase=error.phase,
            maybe_billed=True,
            retry_after=error.retry_after,
            partial=partial,
        )
        broken._source = type(error)
        return broken

    def _end(self, error: BaseException | None) -> None:
        if self._open:
            self._open = False
            self._finish(self, error)
            self._settled = True

    def cancel(self) -> None:
        """End it from any thread: whoever reads it gets ``CallCancelled``."""
        self._call.interrupt(CallCancelled)

    def close(self) -> None:
        """Stop reading, and close the connection unless the reply was read to its end."""
        if self._open:
            self._left = True
            # Another thread may be reading: then it is woken here, and closes the connection there.
            self.cancel()
            self._source.body.close_unless_reading()
            self._end(None)

    def __getstate__(self) -> Any:
        """Refuse: it reads a connection, which no second one can."""
        raise TypeError("A stream cannot be copied or pickled; take its text or its response.")

    def __del__(self) -> None:
        # The body closes itself when it goes; no lock is taken and no listener hears of it.
        # Not asked whether it is open: an interrupt may have torn its end away.
        if not getattr(self, "_settled", True) and not sys.is_finalizing():
            self._forget(self)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def not_a_stream(content_type: str) -> InvalidResponseError:
    """Return the error for a success that is no stream of events."""
    return InvalidResponseError(f"The answer is no stream of events, but {content_type}.")
