"""``Stream``: a reply that is read while it is written."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from ._call import Call
from ._sse import EventParser, ServerEvent
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
    from ._open_body import OpenBody
    from .config import Limits
    from .dialects._base import Decoded, StreamDecoder

__all__ = ["EventSource", "Stream", "not_a_stream"]

_PARTS = frozenset({"thinking", "tool_call", "finish"})
_MOST_AHEAD = 256 * 1024
_EVENT_OVERHEAD = 128


class EventSource:
    """Events of one open body, decoded; errors are values. For one thread at a time.

    Args:
        body: Where the bytes come from.
        decoder: The dialect's, for this one stream.
        limits: What the server may send.
    """

    def __init__(self, body: OpenBody, decoder: StreamDecoder, limits: Limits) -> None:
        self.body = body
        self._decoder = decoder
        self._parser = EventParser(most_line=limits.stream_line, most_event=limits.stream_event)
        self._ready: deque[StreamEvent] = deque()
        self._failure: TermaiHttpError | None = None
        self._at_end = False
        self._begun = False
        self._ahead = 0

    def begin(self) -> TermaiHttpError | None:
        """Read up to the first event that is a part of the reply; nothing is lost by asking again.

        Returns:
            None where the reply begins, or the error in its place.
        """
        while not self._begun:
            if self._failure is not None:
                return self._failure
            if self._at_end:
                return not_a_stream("empty")
            self._read()
        return None

    def next(self) -> StreamEvent | TermaiHttpError | None:
        """Return the next event, None at a good end, or the error in their place.

        What came before an error comes out before it, however the bytes were cut; only the deadline
        and an interrupt do not wait for the reader to take what came.
        """
        if self._failure is None and not self._at_end:
            self._failure = self.body.ended_early()
            if self._failure is not None:
                self._ready.clear()
                self.body.close()
        while not self._ready and self._failure is None and not self._at_end:
            self._read()
        return self._ready.popleft() if self._ready else self._failure

    def _read(self) -> None:
        if self._decoder.ended:
            self.body.drain()
            self._at_end = True
            return
        piece = self.body.read()
        if isinstance(piece, TermaiHttpError):
            self._failure = piece
        elif piece:
            self._failure = self._take(self._parser.feed, piece)
        else:
            self._at_end = True
            self._failure = self._end()
        if self._failure is not None:
            self.body.close()

    def _end(self) -> TermaiHttpError | None:
        """Judge the end of the body: without the dialect's own end the reply may be half of one."""
        complete = self._decoder.complete
        # It may be the usage.
        failure = self._take(lambda _: self._parser.finish(), b"")
        if complete:
            return None
        if self._decoder.complete:
            return failure
        if failure is None or isinstance(failure, InvalidResponseError):
            return TruncatedResponse("The stream ended before its end mark.", phase="body")
        return failure

    def _take(
        self, parse: Callable[[bytes], list[ServerEvent]], piece: bytes
    ) -> TermaiHttpError | None:
        try:
            for event in parse(piece):
                self._add(self._decoder.feed(event), len(event.data))
        except TermaiHttpError as error:
            return error.with_traceback(None)
        return None

    def _add(self, events: list[StreamEvent], size: int) -> None:
        """Keep events for the reader; of endless pings before the reply only the first ones."""
        if not self._begun:
            self._begun = any(_commits(event) for event in events)
            self._ahead += size + _EVENT_OVERHEAD
        if self._begun or self._ahead <= _MOST_AHEAD:
            self._ready.extend(events)

    def decoded(self) -> Decoded:
        """Return the reply as far as it came."""
        return self._decoder.result()


def _commits(event: StreamEvent) -> bool:
    """Tell whether an event is a part of the reply, after which nothing is repeated."""
    return event.type in _PARTS or (event.type == "text" and bool(event.text))


class Stream:
    """A reply in pieces: an iterator of its text, and a context manager that closes it.

    Sent when it is made; each piece comes out in the moment it arrives. Read it to its end, and its
    connection can be used again; leave it early, by ``with``, ``close()`` or dropping it, and its
    connection is closed. One thread reads it; ``cancel()`` is safe from any.

    Attributes:
        text: The text so far.
        response: The whole reply as a ``ChatResponse``; None before the end.
        time_to_first_token: Seconds from the call's entry to the first part of the reply.
    """

    def __init__(
        self,
        source: EventSource,
        call: Call,
        finish: Callable[[Stream, BaseException | None], None],
        forget: Callable[[Stream], None],
        reply: Callable[[Decoded], ChatResponse],
    ) -> None:
        self._source = source
        self._call = call
        self._finish = finish
        self._forget = forget
        self._reply = reply
        self._pieces: list[str] = []
        self._open = True
        self.response: ChatResponse | None = None
        self.time_to_first_token = call.elapsed()

    def __repr__(self) -> str:
        state = "open" if self._open else "read" if self.response is not None else "closed"
        return f"<termai_http.Stream {state}>"

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, names in lower case."""
        return {name.lower(): value for name, value in self._source.body.response.headers.items()}

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next piece of text.

        Raises:
            StopIteration: The reply is complete, or the stream was closed.
            StreamInterrupted: It broke; ``partial`` has the text that came.
            CallCancelled: ``cancel()``, or the token of the call.
            ClientClosed: The client was closed.
        """
        while (event := self._next()) is not None:
            if event.type == "text" and event.text:
                return event.text
        raise StopIteration

    def events(self) -> Iterator[StreamEvent]:
        """Iterate over all events, those without text too; raises as iterating over it does."""
        while (event := self._next()) is not None:
            yield event

    def _next(self) -> StreamEvent | None:
        if not self._open:
            return None
        try:
            event = self._source.next()
        except BaseException as torn:
            self._source.body.close()
            self._end(torn)
            raise
        if isinstance(event, StreamEvent):
            if event.type == "text":
                self._pieces.append(event.text)
            return event
        error = None if event is None else self._interrupted(event)
        if error is None:
            self.response = self._reply(self._source.decoded())
        self._end(error)
        if error is not None:
            raise error
        return None

    def _interrupted(self, error: TermaiHttpError) -> TermaiHttpError:
        if isinstance(error, (CallCancelled, ClientClosed)):
            return error
        return StreamInterrupted(
            f"The stream broke after {len(self.text)} characters: "
            f"{type(error).__name__}: {error.message}",
            code=error.code,
            request_id=error.request_id,
            body=error.body,
            phase=error.phase,
            maybe_billed=True,
            retry_after=error.retry_after,
            partial=self.text,
        )

    def _end(self, error: BaseException | None) -> None:
        self._open = False
        self._finish(self, error)

    def cancel(self) -> None:
        """End it from any thread: whoever reads it gets ``CallCancelled``."""
        self._call.interrupt(CallCancelled)

    def close(self) -> None:
        """Stop reading, and close the connection unless the reply was read to its end."""
        if self._open:
            self._source.body.close()
            self._end(None)

    def __del__(self) -> None:
        # The body closes itself when it goes; no lock is taken and no listener hears of it.
        if getattr(self, "_open", False) and not sys.is_finalizing():
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
