"""The direct way of an attempt: one send on a connection of the pool, one look at what comes.

It goes past requests and urllib3, whose pool, connections and TLS it uses, and is taken only where
nobody looks in between (``_stock``). Whatever is unusual in an answer is read by ``http.client``.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ._answer import Answer, check_length
from ._answer_head import AnswerHead, Headers, joined, read_head
from ._call import Attempt
from ._lease import Lease
from ._route import Outgoing, RequestHead
from ._socket import bind_time

__all__ = ["DirectAnswer", "begin_answer", "encode_head", "send_direct"]

_AT_ONCE = 16384
_PIECE = 65536
_MOST_IN_ONE = 1024 * 1024
_WOULD_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# As urllib3 has it: the server may have answered, and reads no more.
_READS_NO_MORE = (errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE)


class _Came:
    """A body that was read and is to be decoded, or the error that ended it: of a known answer."""

    length = None

    def __init__(self, body: bytes, error: Exception | None = None) -> None:
        self._body = body
        self._error = error

    def rest(self, _: int) -> Iterator[bytes]:
        """Yield it, or raise the error."""
        if self._error is not None:
            raise self._error
        yield self._body

    def close(self) -> None:
        """Do nothing: it holds no connection."""


class DirectAnswer:
    """An answer that came the direct way: read, or to be read by ``raw_pieces``.

    Attributes:
        status_code: HTTP status.
        headers: Its fields, names in lower case.
        content: The body, decoded; b"" while it is not read.
        is_read: Whether it was read.
    """

    __slots__ = ("_answer", "_done", "content", "headers", "is_read", "status_code")

    def __init__(
        self,
        status_code: int,
        headers: Headers,
        content: bytes | None = None,
        answer: Answer | _Came | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = b"" if content is None else content
        self.is_read = content is not None
        self._answer = answer
        self._done = done

    @property
    def length(self) -> int | None:
        """Bytes of the body as they were announced; None where nothing was."""
        return None if self._answer is None else self._answer.length

    def wait(self, seconds: float) -> bool:
        """Wait as ``Answer.wait``."""
        return not isinstance(self._answer, Answer) or self._answer.wait(seconds)

    def raw_pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives, in its content coding; then its connection goes back."""
        assert self._answer is not None
        yield from self._answer.rest(_PIECE)
        done, self._done = self._done, None
        if done is not None:
            done()

    def close(self) -> None:
        """Read no more; whoever has the lease closes the connection."""
        answer, self._answer, self._done = self._answer, None, None
        if answer is not None:
            answer.close()


def encode_head(pool: Any, outgoing: Outgoing) -> RequestHead:
    """Let the libraries say the head of a request, so that it is theirs to the byte.

    Args:
        pool: The pool of its host.
        outgoing: The request.
    """
    route = outgoing.route
    # The client's own, not those that the session has just now: the head is kept.
    headers = route.headers.copy()
    # No value of the client's looks like these: what that says is ASCII.
    places = {f"\xa4{number}\xa4": name for number, name in enumerate(outgoing.headers)}
    headers.update({name: place for place, name in places.items()})
    measured = outgoing.body is not None
    if measured:
        headers["Content-Length"] = ""
    said: list[bytes] = []
    conn = pool.ConnectionCls(host=pool.host, port=pool.port)
    conn.send = said.append
    conn.request(outgoing.method, route.path, headers=headers)
    rest = b"".join(said)
    if measured:
        rest = rest.removesuffix(b"\r\n\r\n")
    pieces: list[bytes] = []
    names: list[str] = []
    # As requests puts them: at the place of the session's, where it has one of that name.
    for place in headers.values():
        if place in places:
            before, _, rest = rest.partition(f": {place}\r\n".encode("latin-1"))
            pieces.append(before + b": ")
            rest = b"\r\n" + rest
            names.append(places[place])
    return RequestHead([*pieces, rest], names, measured)


def send_direct(
    outgoing: Outgoing, attempt: Attempt, lease: Lease, most: int, *, keep_open: bool
) -> DirectAnswer | None:
    """Send one request and return its answer.

    Args:
        outgoing: The request.
        attempt: The attempt that it is.
        lease: Its lease, which has no slot yet.
        most: Bytes that a body may have.
        keep_open: Whether the body is left to be read piece by piece.

    Returns:
        The answer, its body read where that came in the usual way; None where the direct way does
        not lead there after all, and nothing was sent.
    """
    pool = outgoing.route.pool()
    if pool.was_changed():
        return None
    head = outgoing.head
    if head is None:
        head = encode_head(pool, outgoing)
        outgoing.route.remember(outgoing, head)
    conn = pool.lend(lease)
    if conn.sock is None:
        if pool.proxy is not None:
            # Its tunnel, and what goes wrong with it, is urllib3's.
            pool.take_back(conn, lease)
            return None
        conn.connect()
    sock = conn.sock
    _transmit(conn, sock, head.filled(outgoing.headers, outgoing.body), attempt)
    came = _receive(conn, sock, attempt)
    read = read_head(came) if came else None
    if read is None or read.size > attempt.limits.headers:
        return _unusual(pool, conn, lease, outgoing.method, None, came)
    if read.closes:
        attempt.spoiled = True
    if not keep_open and 200 <= read.status <= 299 and (read.length or _PIECE) <= most:
        try:
            body = _sized_body(sock, read, came, attempt)
        except (OSError, http.client.HTTPException) as error:
            return DirectAnswer(read.status, read.headers, answer=_Came(b"", error))
        if body is not None and "content-encoding" in read.headers:
            # Whoever sends broken compression, or a bomb, is not asked on this connection again.
            return DirectAnswer(
                read.status,
                read.headers,
                answer=_Came(body),
                done=lambda: pool.take_back(conn, lease),
            )
        if body is not None:
            pool.take_back(conn, lease)
            return DirectAnswer(read.status, read.headers, body)
    return _unusual(pool, conn, lease, outgoing.method, read, came)


def _transmit(conn: Any, sock: Any, data: bytes, attempt: Attempt) -> None:
    attempt.sent = True
    attempt.phase = "send"
    attempt.call.hold(sock)
    budget = attempt.budget()
    sys.audit("http.client.send", conn, data)
    try:
        sent = _send_at_once(sock, data)
        if sent < len(data):
            bind_time(sock, budget)
            _send_rest(sock, data, sent, attempt)
    except ssl.SSLEOFError:
        return
    except OSError as error:
        if error.errno not in _READS_NO_MORE:
            raise


def _send_at_once(sock: Any, data: bytes) -> int:
    """Return how much the system takes without a wait: of a usual request, all.

    A socket that may wait is asked before each step whether it has to. In every step other threads
    run, and among many of them it is long until this one runs again.
    """
    if sock.gettimeout() != 0:
        sock.setblocking(False)
    try:
        return int(sock.send(data if len(data) <= _AT_ONCE else memoryview(data)[:_AT_ONCE]))
    except _WOULD_WAIT:
        return 0


def _send_rest(sock: Any, data: bytes, sent: int, attempt: Attempt) -> None:
    view = memoryview(data)
    if not isinstance(sock, ssl.SSLSocket):
        sock.sendall(view[sent:])
        return
    # sendall() of TLS gives each record the whole time.
    while sent < len(data):
        bind_time(sock, attempt.budget())
        sent += sock.send(view[sent : sent + _AT_ONCE])


def _receive(conn: Any, sock: Any, attempt: Attempt) -> bytes:
    attempt.phase = "headers"
    if sock.gettimeout() != 0:
        # TLS's own may come first: a read that waits would wait for as long as the send might.
        sock.setblocking(False)
    # What TLS reads by recv() goes through more hands than one.
    read = sock.read if isinstance(sock, ssl.SSLSocket) else sock.recv
    while True:
        if not conn.wait_to_read(attempt.read_budget()):
            raise TimeoutError("no answer came in time")
        try:
            came: bytes = read(_AT_ONCE)
        except _WOULD_WAIT:
            # What came was TLS's own.
            continue
        attempt.received += len(came)
        return came


def _sized_body(
    sock: socket.socket, head: AnswerHead, came: bytes, attempt: Attempt
) -> bytes | None:
    """Return a body of known size; None where it has none, is too large for one piece or cut."""
    size, length = head.size, head.length
    if length is None or length > _MOST_IN_ONE:
        return None
    attempt.phase = "body"
    have = len(came) - size
    if have >= length:
        if have > length:
            # What came beside the answer must not become the answer to the next request.
            attempt.spoiled = True
        return came[size : size + length]
    body = bytearray(length)
    body[:have] = came[size:]
    view = memoryview(body)
    while have < length:
        bind_time(sock, attempt.read_budget())
        got = sock.recv_into(view[have:])
        if not got:
            raise http.client.IncompleteRead(b"", length - have)
        attempt.received += got
        have += got
    return bytes(body)


def _unusual(
    pool: Any, conn: Any, lease: Lease, method: str, head: AnswerHead | None, came: bytes
) -> DirectAnswer:
    attempt = lease.attempt
    assert attempt is not None
    sock = conn.sock
    if sock is None:
        raise ConnectionAbortedError("this process has no such connection")
    status, headers, answer = begin_answer(sock, method, attempt, head, came)
    return DirectAnswer(status, headers, answer=answer, done=lambda: pool.take_back(conn, lease))


def begin_answer(
    sock: socket.socket, method: str, attempt: Attempt, head: AnswerHead | None, came: bytes
) -> tuple[int, Headers, Answer]:
    """Let http.client read an answer, or what follows its head.

    Args:
        sock: Where the rest of it comes from.
        method: What it answers.
        attempt: Whose time and limits hold.
        head: Its head, None where that was not read.
        came: What came of it, head and all.
    """
    if head is None:
        answer = Answer(sock, method=method, attempt=attempt, came=came)
        headers = _begin(answer, attempt)
        return answer.status, headers, answer
    attempt.phase = "body"
    answer = Answer(sock, method=method, attempt=attempt, came=came[head.size :])
    answer.adopt(head)
    return head.status, head.headers, answer


def _begin(answer: Answer, attempt: Attempt) -> Headers:
    try:
        answer.begin()
        attempt.phase = "body"
        headers = joined(answer.headers.items())
        check_length(headers, answer.version, attempt)
    except BaseException:
        answer.close()
        raise
    if answer.will_close:
        attempt.spoiled = True
    return headers
