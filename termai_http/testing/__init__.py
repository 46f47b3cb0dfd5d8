"""A loopback server that speaks the vendors' dialects, with faults on demand.

Usable from code (``with Server() as server``), as the pytest fixture ``termai_server``, and as
``termai-http serve``. The names here are loaded at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._faults import (
        ChosenReply,
        CloseAfterRead,
        CloseDelimited,
        CutAfter,
        Delay,
        EmptyBody,
        ErrorEvent,
        Failed,
        Fault,
        Html,
        InvalidJson,
        NoEnd,
        Paced,
        Raw,
        Refusal,
        ResetAfterRead,
        ResetBeforeRead,
        Silent,
        Stall,
        Status,
        Text,
        ToolCalls,
        Trickle,
        TrickleHeaders,
        TruncatedBody,
        TruncatedChunked,
    )
    from ._record import RecordedConnection, RecordedRequest
    from ._server import Server

__all__ = [
    "ChosenReply",
    "CloseAfterRead",
    "CloseDelimited",
    "CutAfter",
    "Delay",
    "EmptyBody",
    "ErrorEvent",
    "Failed",
    "Fault",
    "Html",
    "InvalidJson",
    "NoEnd",
    "Paced",
    "Raw",
    "RecordedConnection",
    "RecordedRequest",
    "Refusal",
    "ResetAfterRead",
    "ResetBeforeRead",
    "Server",
    "Silent",
    "Stall",
    "Status",
    "Text",
    "ToolCalls",
    "Trickle",
    "TrickleHeaders",
    "TruncatedBody",
    "TruncatedChunked",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = {"Server": "_server", "RecordedConnection": "_record", "RecordedRequest": "_record"}
    value = getattr(import_module(f"{__name__}.{home.get(name, '_faults')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
