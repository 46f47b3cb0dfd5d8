"""Plays one exchange on the wire: a good reply, or a fault in its place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping

from . import _faults
from ._record import RecordedRequest
from ._replies import Reply, answer, error_reply
from ._wire import Wire, response_head

__all__ = ["play"]

_Reply = Callable[[RecordedRequest], str]


def play(
    wire: Wire,
    request: RecordedRequest,
    number: int,
    fault: _faults.Fault | None,
    text: _Reply,
    stopping: threading.Event,
) -> bool:
    """Answer one request.

    Args:
        wire: The connection.
        request: What was asked.
        number: Its number at this server.
        fault: What to do in place of a good reply; None does nothing else.
        text: Gives the text of a good reply.
        stopping: Set when the server closes; ends every wait.

    Returns:
        Whether the connection may carry another request.
    """
    if isinstance(fault, _faults.Delay):
        stopping.wait(fault.seconds)
    said = fault.text if isinstance(fault, _faults.Text) else None
    if fault is None or isinstance(fault, (_faults.Delay, _faults.Text)):
        wire.sock.sendall(_whole(answer(request, number, text(request) if said is None else said)))
        return True
    if isinstance(fault, _faults.Status):
        wire.sock.sendall(_whole(_status(fault, request, number)))
        return True
    for kind, act in _ACTS.items():
        if isinstance(fault, kind):
            good = answer(request, number, text(request))
            return act(wire, fault, good, stopping)
    raise TypeError(f"{fault!r} is no fault of this server")


def _status(fault: _faults.Status, request: RecordedRequest, number: int) -> Reply:
    reply = error_reply(fault.status, request.dialect, number, code=fault.code)
    headers = {**reply.headers, **fault.headers}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    return Reply(
        status=fault.status, headers=headers, body=reply.body if fault.body is None else fault.body
    )


def _payload(reply: Reply) -> tuple[bytes, str]:
    if isinstance(reply.body, bytes):
        return reply.body, "text/plain"
    if isinstance(reply.body, str):
        return reply.body.encode(), "text/plain; charset=utf-8"
    return json.dumps(reply.body).encode(), "application/json"


def _head(reply: Reply, kind: str, framing: Mapping[str, str]) -> bytes:
    fields: dict[str, str] = {"Content-Type": kind, **reply.headers, **framing}
    return response_head(reply.status, fields.items())


def _whole(reply: Reply) -> bytes:
    body, kind = _payload(reply)
    return _head(reply, kind, {"Content-Length": str(len(body))}) + body


def _reset(wire: Wire, fault: _faults.Fault, good: Reply, stopping: threading.Event) -> bool:
    wire.reset()
    return False


def _close(wire: Wire, fault: _faults.Fault, good: Reply, stopping: threading.Event) -> bool:
    return False


def _truncated(
    wire: Wire, fault: _faults.TruncatedBody, good: Reply, stopping: threading.Event
) -> bool:
    wire.sock.sendall(_whole(good)[: -fault.missing])
    return False


def _truncated_chunked(
    wire: Wire, fault: _faults.Fault, good: Reply, stopping: threading.Event
) -> bool:
    body, kind = _payload(good)
    half = body[: len(body) // 2]
    head = _head(good, kind, {"Transfer-Encoding": "chunked"})
    wire.sock.sendall(head + b"%x\r\n%b\r\n" % (len(half), half))
    return False


def _invalid_json(wire: Wire, fault: _faults.Fault, good: Reply, stopping: threading.Event) -> bool:
    body = b'{"id": "almost", "choices": [}'
    head = _head(good, "application/json", {"Content-Length": str(len(body))})
    wire.sock.sendall(head + body)
    return True


def _html(wire: Wire, fault: _faults.Fault, good: Reply, stopping: threading.Event) -> bool:
    body = b"<!doctype html><title>Sign in</title><h1>Welcome to the hotel's network</h1>"
    head = _head(good, "text/html; charset=utf-8", {"Content-Length": str(len(body))})
    wire.sock.sendall(head + body)
    return True


def _empty(wire: Wire, fault: _faults.Fault, good: Reply, stopping: threading.Event) -> bool:
    wire.sock.sendall(_head(good, "application/json", {"Content-Length": "0"}))
    return True


def _trickle(wire: Wire, fault: _faults.Trickle, good: Reply, stopping: threading.Event) -> bool:
    body, kind = _payload(good)
    wire.sock.sendall(_head(good, kind, {"Content-Length": str(len(body))}))
    pieces = (body[at : at + fault.size] for at in range(0, len(body), fault.size))
    return _slowly(wire, pieces, fault.interval, stopping)


def _trickle_headers(
    wire: Wire, fault: _faults.TrickleHeaders, good: Reply, stopping: threading.Event
) -> bool:
    whole = _whole(good)
    end = whole.index(b"\r\n\r\n") + 4
    pieces = [whole[at : at + 1] for at in range(end)]
    return _slowly(wire, [*pieces, whole[end:]], fault.interval, stopping)


def _slowly(
    wire: Wire, pieces: Iterable[bytes], interval: float, stopping: threading.Event
) -> bool:
    for piece in pieces:
        wire.sock.sendall(piece)
        if stopping.wait(interval):
            return False
    return True


def _silent(wire: Wire, fault: _faults.Fault, good: Reply, stopping: threading.Event) -> bool:
    # Ends when the client gives up, or when the server closes and shuts the socket down.
    wire.sock.recv(1)
    return False


def _raw(wire: Wire, fault: _faults.Raw, good: Reply, stopping: threading.Event) -> bool:
    wire.sock.sendall(fault.data)
    return not fault.close


_ACTS: dict[type[_faults.Fault], Callable[..., bool]] = {
    _faults.ResetBeforeRead: _reset,
    _faults.ResetAfterRead: _reset,
    _faults.CloseAfterRead: _close,
    _faults.TruncatedBody: _truncated,
    _faults.TruncatedChunked: _truncated_chunked,
    _faults.InvalidJson: _invalid_json,
    _faults.Html: _html,
    _faults.EmptyBody: _empty,
    _faults.Trickle: _trickle,
    _faults.TrickleHeaders: _trickle_headers,
    _faults.Silent: _silent,
    _faults.Raw: _raw,
}
