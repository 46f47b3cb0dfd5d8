"""Plays one exchange on the wire: a good reply, or a fault in its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from . import _faults
from ._answer import Backend, answer
from ._framing import CHUNKED, Delivery, head, payload, whole
from ._record import RecordedRequest
from ._replies import Reply, error_reply, error_status
from ._streaming import stream_act
from ._wire import Wire, chunk

__all__ = ["play"]


def play(
    wire: Wire,
    request: RecordedRequest,
    number: int,
    fault: _faults.Fault | None,
    backend: Backend,
    stopping: threading.Event,
) -> bool:
    """Answer one request.

    Args:
        wire: The connection.
        request: What was asked.
        number: Its number at this server.
        fault: What to do in place of the usual reply; None does nothing else.
        backend: What the server answers with.
        stopping: Set when the server closes; ends every wait.

    Returns:
        Whether the connection may carry another request.
    """
    if isinstance(fault, _faults.Delay):
        stopping.wait(fault.seconds)
    if isinstance(fault, _faults.Status):
        wire.sock.sendall(whole(_status(fault, request, number)))
        return True
    chosen = fault if isinstance(fault, _faults.ChosenReply) else None
    good = answer(request, number, backend, chosen)
    delivery = Delivery(wire=wire, good=good, pace=backend.pace, stopping=stopping)
    if good.streamed is not None and (act := stream_act(fault)) is not None:
        return act(delivery, fault)
    if isinstance(fault, _faults.ErrorEvent):
        return delivery.send(whole(error_status(fault, request.dialect, number)))
    return _act_for(fault)(delivery, fault)


def _act_for(fault: _faults.Fault | None) -> Callable[[Delivery, Any], bool]:
    if fault is None:
        return _good
    for kind, act in _ACTS.items():
        if isinstance(fault, kind):
            return act
    raise TypeError(f"{fault!r} is no fault of this server")


def _status(fault: _faults.Status, request: RecordedRequest, number: int) -> Reply:
    reply = error_reply(fault.status, request.dialect, number, code=fault.code)
    headers: Mapping[str, str] = {**reply.headers, **fault.headers}
    if fault.retry_after is not None:
        headers = {**headers, "Retry-After": str(fault.retry_after)}
    return Reply(
        status=fault.status, headers=headers, body=reply.body if fault.body is None else fault.body
    )


def _good(delivery: Delivery, fault: _faults.Fault | None) -> bool:
    return delivery.send(whole(delivery.good))


def _reset(delivery: Delivery, fault: _faults.Fault) -> bool:
    delivery.wire.reset()
    return False


def _close(delivery: Delivery, fault: _faults.Fault) -> bool:
    return False


def _truncated(delivery: Delivery, fault: _faults.TruncatedBody) -> bool:
    delivery.send(whole(delivery.good)[: -fault.missing])
    return False


def _truncated_chunked(delivery: Delivery, fault: _faults.Fault) -> bool:
    body, kind = payload(delivery.good)
    delivery.send(head(delivery.good, kind, CHUNKED), chunk(body[: len(body) // 2]))
    return False


def _instead(delivery: Delivery, body: bytes, kind: str) -> bool:
    framing = {"Content-Length": str(len(body))}
    return delivery.send(head(delivery.good, kind, framing), body)


def _invalid_json(delivery: Delivery, fault: _faults.Fault) -> bool:
    return _instead(delivery, b'{"id": "almost", "choices": [}', "application/json")


def _html(delivery: Delivery, fault: _faults.Fault) -> bool:
    page = b"<!doctype html><title>Sign in</title><h1>Welcome to the hotel's network</h1>"
    return _instead(delivery, page, "text/html; charset=utf-8")


def _empty(delivery: Delivery, fault: _faults.Fault) -> bool:
    return _instead(delivery, b"", payload(delivery.good)[1])


def _trickle(delivery: Delivery, fault: _faults.Trickle) -> bool:
    body, kind = payload(delivery.good)
    delivery.send(head(delivery.good, kind, {"Content-Length": str(len(body))}))
    pieces = [body[at : at + fault.size] for at in range(0, len(body), fault.size)]
    return delivery.send(*pieces, pace=fault.interval)


def _trickle_headers(delivery: Delivery, fault: _faults.TrickleHeaders) -> bool:
    all_of_it = whole(delivery.good)
    end = all_of_it.index(b"\r\n\r\n") + 4
    pieces = [all_of_it[at : at + 1] for at in range(end)]
    return delivery.send(*pieces, all_of_it[end:], pace=fault.interval)


def _silent(delivery: Delivery, fault: _faults.Fault) -> bool:
    return delivery.silence()


def _raw(delivery: Delivery, fault: _faults.Raw) -> bool:
    delivery.send(fault.data)
    return not fault.close


def _cut(delivery: Delivery, fault: _faults.CutAfter) -> bool:
    body, kind = payload(delivery.good)
    half = body[: len(body) // 2]
    length = len(half) if fault.how == "end" else len(body)
    delivery.send(head(delivery.good, kind, {"Content-Length": str(length)}), half)
    if fault.how == "reset":
        delivery.wire.reset()
    return fault.how == "end"


def _stall(delivery: Delivery, fault: _faults.Fault) -> bool:
    body, kind = payload(delivery.good)
    framing = {"Content-Length": str(len(body))}
    delivery.send(head(delivery.good, kind, framing), body[: len(body) // 2])
    return delivery.silence()


def _no_end(delivery: Delivery, fault: _faults.NoEnd) -> bool:
    good = delivery.good
    if good.unfinished is not None and not fault.finished:
        good = attrs.evolve(good, body=good.unfinished(good.body))
    return delivery.send(whole(good))


def _close_delimited(delivery: Delivery, fault: _faults.Fault) -> bool:
    body, kind = payload(delivery.good)
    delivery.send(head(delivery.good, kind, {"Connection": "close"}), body)
    return False


_ACTS: dict[type[_faults.Fault], Callable[[Delivery, Any], bool]] = {
    _faults.ChosenReply: _good,
    _faults.Delay: _good,
    _faults.Paced: _good,
    _faults.ResetBeforeRead: _reset,
    _faults.ResetAfterRead: _reset,
    _faults.CloseAfterRead: _close,
    _faults.CloseDelimited: _close_delimited,
    _faults.CutAfter: _cut,
    _faults.TruncatedBody: _truncated,
    _faults.TruncatedChunked: _truncated_chunked,
    _faults.InvalidJson: _invalid_json,
    _faults.Html: _html,
    _faults.EmptyBody: _empty,
    _faults.NoEnd: _no_end,
    _faults.Trickle: _trickle,
    _faults.TrickleHeaders: _trickle_headers,
    _faults.Silent: _silent,
    _faults.Stall: _stall,
    _faults.Raw: _raw,
}
