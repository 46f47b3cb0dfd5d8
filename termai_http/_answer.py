"""Answers as they come from a socket: bounded in time and size, their framing free of doubt."""

from __future__ import annotations

import http.client
import io
import re
import socket
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, cast

from ._answer_head import AnswerHead
from ._call import Attempt, active
from ._socket import bind_time, unread, wait_to_read

__all__ = ["Answer", "BadFraming", "TooLong", "check_length"]

_MOST_INTERIM = 10
# Of a read that was waited for to its end; 0 would be no timeout, but a socket that never waits.
_SHORTEST = 0.001
_LONGEST_LINE = 65536
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*(?:;[^\n]*)?\r?\n")
# As nearly every chunk begins.
_CHUNK_BEGIN = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_PROTOCOL = b"HTTP/1."
# A whole head, interim answers included. Stricter than http.client, to which "+2_00" is a status,
# and than the parser of e-mails behind it, which loses all lines after one that is none and ends
# one at a bare CR. No two alternatives begin alike, so it takes one pass.
_HEAD = re.compile(
    rb"(?:HTTP/1\.[0-9] [0-9]{3}(?: [^\0\r\n]*)?\r?\n"
    rb"(?:[!-9;-~]+:[^\0\r\n]*\r?\n(?:[ \t][^\0\r\n]*\r?\n)*)*\r?\n)+"
)


class BadFraming(http.client.HTTPException):
    """An answer whose status or length cannot be relied on; the text is ours alone."""


class TooLong(http.client.HTTPException):
    """A header block larger than the client's limits; the text is ours alone."""


class _BoundReader(io.RawIOBase):
    """Reads a socket, giving each read no more time than its attempt has left."""

    # One that was torn away while it was made is closed, too.
    _raw: Any = None

    def __init__(
        self, raw: io.RawIOBase, sock: socket.socket, attempt: Attempt, came: bytes
    ) -> None:
        self._raw = raw
        self._sock = sock
        self._came = came
        # An idle connection may remember its last answer, which must keep no call alive.
        self._attempt = weakref.ref(attempt)
        self.head = bytearray()
        self.dry = False
        # Seconds that were waited for the next read already.
        self._waited = 0.0

    @property
    def attempt(self) -> Attempt:
        """The attempt that reads.

        Raises:
            ConnectionAbortedError: It is gone.
        """
        attempt = self._attempt()
        if attempt is None:
            raise ConnectionAbortedError("nobody waits for this answer any more")
        return attempt

    def attempt_left(self) -> Attempt | None:
        """Return the attempt that reads; None where it is gone."""
        return self._attempt()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.dry and not self._came:
            return 0
        attempt = self.attempt
        in_head = attempt.phase != "body"
        if in_head and len(self.head) > attempt.limits.headers:
            raise _too_long(attempt)
        if self._came:
            size = min(len(self._came), len(buffer))
            buffer[:size], self._came = self._came[:size], self._came[size:]
        else:
            bind_time(self._sock, max(attempt.read_budget(self._waited), _SHORTEST))
            size = self._raw.readinto(buffer) or 0
            self._waited = 0.0
            attempt.received += size
        if in_head:
            self.head += memoryview(buffer)[:size]
        return size

    def wait(self, seconds: float) -> bool:
        """Wait so long at most, and no longer than a read may; tell whether to read now.

        Raises:
            OSError: The attempt has no time left, or the socket is closed; so does a read.
        """
        left = min(seconds, self.attempt.read_budget(self._waited))
        if left <= 0 or unread(self._sock) or wait_to_read(self._sock, left):
            return True
        self._waited += left
        return left < seconds

    def close(self) -> None:
        if not self.closed:
            try:
                if self._raw is not None:
                    self._raw.close()
            finally:
                super().close()


def _too_long(attempt: Attempt) -> TooLong:
    return TooLong(f"its header block is larger than {attempt.limits.headers} bytes")


class Answer(http.client.HTTPResponse):
    """A response whose every read keeps the deadline, and whose framing leaves no doubt."""

    # What is half made, since no reader could be had, is finalized too.
    fp: Any = None
    _bound: _BoundReader | None = None
    _one_by_one: bool | None = None

    def __init__(
        self,
        sock: socket.socket,
        *args: Any,
        attempt: Attempt | None = None,
        came: bytes = b"",
        **kwargs: Any,
    ) -> None:
        """Read from ``sock``, after what ``came`` of the answer already.

        Args:
            sock: The socket.
            *args: As http.client's own.
            attempt: Whose time binds it; None for the one that this thread is sending.
            came: What was read already.
            **kwargs: As http.client's own.
        """
        super().__init__(sock, *args, **kwargs)
        self._interim = 0
        attempt = attempt or active.attempt
        if attempt is not None:
            whole, self.fp = self.fp, None
            self._bound = _BoundReader(whole.detach(), sock, attempt, came)
            self.fp = io.BufferedReader(self._bound)

    def adopt(self, head: AnswerHead) -> None:
        """Take a head that was read already, in the place of ``begin()``; the body follows."""
        self.headers = self.msg = cast("Any", head.headers)
        self.code = self.status = head.status
        self.reason, self.version = "", 11
        self.chunked, self.chunk_left = head.length is None, None
        self.length = head.length
        self.will_close = head.closes

    def rest(self, most: int) -> Iterator[bytes]:
        """Yield the body as it arrives, chunks undone, in pieces of at most so many bytes.

        Raises:
            IncompleteRead: It ended before its end.
        """
        while piece := self.read1(most):
            yield piece
        if self.length and not self.chunked:
            raise http.client.IncompleteRead(b"", self.length)
        if self.fp is not None:
            self._close_conn()

    def wait(self, seconds: float) -> bool:
        """Wait, so many seconds at most, until a part of the body came or ended; tell whether.

        Raises:
            OSError: The attempt has no time left, or the socket is closed; so does a read.
        """
        bound = self._bound
        if bound is None or self.fp is None:
            return True
        came = self._came(bound)
        if self.chunk_left == 0 and came == b"\r\n":
            # The end of a chunk whose data was read.
            self.fp.read(2)
            self.chunk_left, came = None, b""
        return bool(came) or bound.wait(seconds)

    def _read_status(self) -> tuple[str, int, str]:
        guarded = self._bound is not None
        version, status, reason, strange = "", 0, "", None
        try:
            version, status, reason = super()._read_status()  # type: ignore[misc]
        except http.client.RemoteDisconnected:
            raise
        except http.client.BadStatusLine as error:
            strange = str(getattr(error, "line", "")).encode("latin-1")
        if strange is not None and guarded and not strange.endswith(b"\n"):
            self._check_cut(strange)
        if strange is not None or not version.startswith("HTTP/1."):
            # Not http.client's own errors: they quote the line, and tools that trace quote them.
            raise BadFraming("its first line is no status of HTTP/1")
        if 100 <= status < 200 and status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._interim += 1
            if guarded and self._interim > _MOST_INTERIM:
                raise BadFraming(f"more than {_MOST_INTERIM} interim answers came")
            # RFC 9110, section 15.2: any interim answer is skipped, and http.client skips this one.
            status = http.HTTPStatus.CONTINUE
        return version, status, reason

    def begin(self) -> None:
        super().begin()
        if self._bound is not None:
            self._check_head(self._bound, self._bound.attempt)

    def _check_head(self, bound: _BoundReader, attempt: Attempt) -> None:
        head = bound.head
        if buffered := self._buffered(bound):
            del head[-buffered:]
        if len(head) > attempt.limits.headers:
            raise _too_long(attempt)
        if not _HEAD.fullmatch(head):
            self._check_cut(head)
            raise BadFraming("a line of its head is none")
        if not 200 <= self.status <= 599:
            raise BadFraming(f"its status, {self.status}, is none of a final answer")

    def _check_cut(self, head: bytes | bytearray) -> None:
        """Tell an answer that ended within its head from one that is no HTTP."""
        begun = head.startswith(_PROTOCOL) or _PROTOCOL.startswith(head)
        if begun and not head.endswith((b"\n\r\n", b"\n\n")):
            raise http.client.RemoteDisconnected("the answer ended within its head")

    def read1(self, n: int = -1) -> bytes:
        # Its length is 0 where it has no body whatever it says, as an answer to HEAD.
        if self.chunked and self.length is None and self.fp is not None:
            if self._one_by_one is None:
                # Of broken compression the chunks before the broken one can be read.
                self._one_by_one = "content-encoding" in self.headers
            if not self._one_by_one and (came := self._chunks_that_came(n)):
                return came
        return super().read1(n)

    def _chunks_that_came(self, most: int) -> bytes:
        """Read all of the chunks that came, once a byte did; b"" where the first is an odd one.

        A stream's chunks are small and many: to ask for each anew would cost more than to read it.
        """
        came = self.fp.peek()
        found: list[bytes] = []
        at, room = 0, len(came) if most < 0 else most
        # None before the size of a chunk; else what is left of one, 0 before the end of its line.
        left = self.chunk_left
        while True:
            if left is None:
                begin = _CHUNK_BEGIN.match(came, at)
                if begin is None or begin.end() == len(came) or not room:
                    break
                left = int(begin[1], 16)
                if not left:
                    # The last one, perhaps with trailers.
                    left = None
                    break
                at = begin.end()
            if left:
                data = came[at : at + (left if left < room else room)]
                found.append(data)
                at += len(data)
                left -= len(data)
                room -= len(data)
            if left or not came.startswith(b"\r\n", at):
                break
            at, left = at + 2, None
        if at:
            self.fp.read(at)
            self.chunk_left = left
        return b"".join(found)

    def _get_chunk_left(self) -> int | None:
        if self.chunk_left == 0:
            # http.client throws these two bytes away, whatever they are.
            if cast("Any", self)._safe_read(2) != b"\r\n":
                raise BadFraming("a chunk of its body is longer than it says")
            self.chunk_left = None
        return cast("int | None", super()._get_chunk_left())  # type: ignore[misc]

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(_LONGEST_LINE + 1)
        if len(line) > _LONGEST_LINE:
            raise http.client.LineTooLong("chunk size")
        # http.client leaves it to int(), to which "-5" and "1_0" are sizes.
        if not _CHUNK_SIZE.fullmatch(line):
            if line.endswith(b"\n"):
                raise BadFraming("the size of a chunk is none")
            # As http.client takes one that was cut short.
            raise ValueError("no chunk size")
        return int(line.split(b";", 1)[0], 16)

    def _buffered(self, bound: _BoundReader) -> int:
        """Return how many bytes came and were not read, without reading the socket."""
        return len(self._came(bound))

    def _came(self, bound: _BoundReader) -> bytes:
        bound.dry = True
        try:
            return bytes(self.fp.peek())
        finally:
            bound.dry = False

    def _close_conn(self) -> None:
        bound, self._bound = self._bound, None
        attempt = None if bound is None else bound.attempt_left()
        if bound is not None and attempt is not None and self._buffered(bound):
            # What came beside the answer must not become the answer to the next request.
            attempt.spoiled = True
        super()._close_conn()  # type: ignore[misc]


def check_length(headers: Mapping[str, str], version: int, attempt: Attempt) -> None:
    """Refuse an answer whose length is in doubt (RFC 9112, section 6.3).

    Args:
        headers: Its headers, those of one name joined.
        version: 10 or 11, of HTTP.
        attempt: Whose connection it may spoil.
    """
    length = headers.get("content-length")
    # Several fields come joined, and are none then, equal ones too.
    if length is not None and not _LENGTH.fullmatch(length.strip(" \t")):
        raise BadFraming("its Content-Length is none")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise BadFraming("its Transfer-Encoding is not chunked")
        # Both at once may be an attempt at smuggling, and HTTP/1.0 knows no chunks.
        if length is not None or version < 11:
            attempt.spoiled = True
