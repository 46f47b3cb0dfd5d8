"""Plays a streamed reply on the wire: whole, or with a fault of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from . import _faults
from ._events import FINISH, MARK, Event
from ._framing import Delivery, encoded, head, payload, stream_parts
from ._replies import Streamed
from ._wire import LAST_CHUNK

__all__ = ["stream_act"]


def stream_act(fault: _faults.Fault | None) -> Callable[[Delivery, Any], bool] | None:
    """Return what plays a fault on a streamed reply; None where it is the same for every reply."""
    if fault is None:
        return _good
    return next((act for kind, act in _ACTS.items() if isinstance(fault, kind)), None)


def _streamed(delivery: Delivery) -> Streamed:
    streamed = delivery.good.streamed
    assert streamed is not None
    return streamed


def _send(delivery: Delivery, events: Iterable[Event], end: bytes = LAST_CHUNK) -> bool:
    parts = stream_parts(delivery.good, encoded(events), end)
    return delivery.send(*parts, pace=delivery.pace)


def _good(delivery: Delivery, fault: _faults.Fault | None) -> bool:
    return _send(delivery, _streamed(delivery).events)


def _paced(delivery: Delivery, fault: _faults.Paced) -> bool:
    return _good(attrs.evolve(delivery, pace=fault.interval), fault)


def _cut(delivery: Delivery, fault: _faults.CutAfter) -> bool:
    events = _streamed(delivery).events
    pieces = encoded(events[: fault.events])
    if fault.how == "inside":
        pieces += [piece[: len(piece) // 2] for piece in encoded(events[fault.events :][:1])]
    end = LAST_CHUNK if fault.how == "end" else b""
    kept = delivery.send(*stream_parts(delivery.good, pieces, end), pace=delivery.pace)
    if fault.how == "reset":
        delivery.wire.reset()
    return kept and fault.how == "end"


def _error(delivery: Delivery, fault: _faults.ErrorEvent) -> bool:
    streamed = _streamed(delivery)
    before = streamed.events[: fault.after]
    return _send(delivery, [*before, streamed.error(fault, len(before))])


def _stall(delivery: Delivery, fault: _faults.Stall) -> bool:
    sent = _send(delivery, _streamed(delivery).events[: fault.after], b"")
    return sent and delivery.silence()


def _no_end(delivery: Delivery, fault: _faults.NoEnd) -> bool:
    """End before the first event that ends the reply, or leave out the end mark alone."""
    events = _streamed(delivery).events
    marks = (MARK,) if fault.finished else (FINISH, MARK)
    ends = [at for at, event in enumerate(events) if event.ends in marks]
    return _send(delivery, events[: min(ends, default=len(events) - 1)])


def _close_delimited(delivery: Delivery, fault: _faults.Fault) -> bool:
    pieces = encoded(_streamed(delivery).events)
    framing = {"Cache-Control": "no-cache", "Connection": "close"}
    pieces.insert(0, head(delivery.good, payload(delivery.good)[1], framing))
    delivery.send(*pieces, pace=delivery.pace)
    return False


def _invalid_json(delivery: Delivery, fault: _faults.Fault) -> bool:
    named = _streamed(delivery).events[0].name
    return _send(delivery, [Event(name=named, data='{"id": "almost", "choices": [}')])


def _trickle(delivery: Delivery, fault: _faults.Trickle) -> bool:
    body, _ = payload(delivery.good)
    pieces = [body[at : at + fault.size] for at in range(0, len(body), fault.size)]
    return delivery.send(*stream_parts(delivery.good, pieces, LAST_CHUNK), pace=fault.interval)


_ACTS: dict[type[_faults.Fault], Callable[[Delivery, Any], bool]] = {
    _faults.ChosenReply: _good,
    _faults.CloseDelimited: _close_delimited,
    _faults.CutAfter: _cut,
    _faults.Delay: _good,
    _faults.ErrorEvent: _error,
    _faults.InvalidJson: _invalid_json,
    _faults.NoEnd: _no_end,
    _faults.Paced: _paced,
    _faults.Stall: _stall,
    _faults.Trickle: _trickle,
}
