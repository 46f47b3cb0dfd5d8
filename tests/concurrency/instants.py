"""Instants: where in the package's code an interrupt, a fork or another thread can come.

CPython looks for signals, and lets other threads run, where a function of Python's is entered,
where a call of C returns, and where a loop begins anew. Tracing meets each of them.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import termai_http

__all__ = ["NUMBERS", "TRACING_KEEPS", "Instant"]

_PACKAGE = str(Path(termai_http.__file__).parent) + os.sep
# From its first call to its last: encoding, decoding and figures have tests of their own.
_MODULES = frozenset(
    (
        *("_answer", "_answer_head", "_attempts", "_body", "_call", "_connection", "_core"),
        *("_direct", "_in_flight", "_lease", "_open_body", "_openings", "_pool", "_route"),
        *("_slots", "_socket", "_stream", "_transport", "metrics"),
    )
)
_OLD = sys.version_info < (3, 11)
# Python 3.12 crashes where a generator's are traced. What is not seen there are loops that begin
# anew, and the ends of what makes an object.
_STEPS = sys.version_info[:2] != (3, 12)
TRACING_KEEPS = _OLD
"""Whether tracing keeps the locals of a frame, until they are collected."""
NUMBERS = range(1, 100_000, int(os.environ.get("TERMAI_TEST_INSTANTS", "7")))
"""Of the instants that are tried: every seventh, since to collect after each takes its time.

``TERMAI_TEST_INSTANTS=1`` tries every one.
"""


class Instant:
    """Does something at the n-th instant of whatever runs in its ``with`` block.

    Args:
        number: Which, from 1.
        act: What to do there; what it raises, the code raises.
        functions: The names of those that count; None for all of the modules on a call's way.

    Attributes:
        reached: Whether there were so many.
        place: Which one it was: file, function, line and what had just happened.
    """

    def __init__(
        self, number: int, act: Callable[[], object], functions: Collection[str] | None = None
    ) -> None:
        self._left = number
        self._act = act
        self._functions = functions
        self._before: dict[FrameType, str] = {}
        # Kept, since Python 3.11 may call them once more after they were taken away within a call.
        self._tracers = self._profile, self._begin
        self.place = ("", "", 0, "")

    @property
    def reached(self) -> bool:
        """Whether there were so many."""
        return self._left <= 0

    def __enter__(self) -> Instant:
        self._others = sys.getprofile(), sys.gettrace()
        profile, trace = self._tracers
        sys.setprofile(profile)
        sys.settrace(trace)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        # Frames that are kept keep what is in them.
        self._before.clear()

    def _stop(self) -> None:
        sys.settrace(self._others[1])
        sys.setprofile(self._others[0])

    def _is_watched(self, frame: FrameType) -> bool:
        path = frame.f_code.co_filename
        if not path.startswith(_PACKAGE):
            return False
        if self._functions is not None:
            return frame.f_code.co_name in self._functions
        return path[len(_PACKAGE) :].removesuffix(".py") in _MODULES

    def _meet(self, frame: FrameType, what: str) -> None:
        if self._left <= 0:
            return
        self._left -= 1
        if self._left == 0:
            self._stop()
            code = frame.f_code
            self.place = (os.path.basename(code.co_filename), code.co_name, frame.f_lineno, what)
            self._act()

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_return" and self._is_watched(frame):
            self._before[frame] = ""
            self._meet(frame, f"after {arg.__name__}")
        elif event == "call" and not _OLD and frame.f_back in self._before:
            # From one Python function back into another there is none.
            self._before[frame.f_back] = ""

    def _begin(self, frame: FrameType, event: str, arg: object) -> Any:
        if not self._is_watched(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = _STEPS, False
        self._meet(frame, "entered")
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if self._left <= 0:
            return None
        if event == "return":
            self._before.pop(frame, None)
        elif event == "opcode":
            now = _operations(frame.f_code).get(frame.f_lasti, "")
            before, self._before[frame] = self._before.get(frame, ""), now
            if _is_instant(before, now):
                self._meet(frame, f"{before} {now}")
        return self._step


def _is_instant(before: str, now: str) -> bool:
    if _OLD:
        # Neither before a try nor before a with.
        jumped = before in ("JUMP_ABSOLUTE", "POP_JUMP_IF_FALSE", "POP_JUMP_IF_TRUE")
        return (before.startswith("CALL") or jumped) and not now.startswith("SETUP_")
    return before.startswith("CALL") or "JUMP_BACKWARD" in now


@functools.cache
def _operations(code: CodeType) -> dict[int, str]:
    return {step.offset: step.opname for step in dis.get_instructions(code)}
