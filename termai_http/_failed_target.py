"""``FailedTarget``: what a target that did not answer leaves behind."""

from __future__ import annotations

import attrs

from ._values import Value

__all__ = ["FailedTarget"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class FailedTarget(Value):
    """A target of ``fallback=`` that did not answer, and why: plain data, no key and no prompt.

    Attributes:
        model: The model asked for.
        provider: ``"openai"`` or ``"claude"``: whose dialect was spoken.
        host: The host asked, with its port where the base URL names one.
        error: The name of the error's class, for example ``"OverloadedError"``.
        message: What failed, in the error's words.
        status_code: HTTP status of its last answer; None where there was none.
        request_id: The vendor's id of its last attempt, to quote to its support.
        attempts: HTTP exchanges made with it, 0 where nothing was sent.
        elapsed: Seconds that it took.
        maybe_billed: True where it may have processed, and billed, a request.
    """

    model: str
    provider: str
    host: str
    error: str
    message: str
    status_code: int | None = None
    request_id: str | None = None
    attempts: int = 0
    elapsed: float = 0.0
    maybe_billed: bool = False

    def __str__(self) -> str:
        status = f" {self.status_code}" if self.status_code is not None else ""
        quoted = f" (request id {self.request_id})" if self.request_id else ""
        return f"{self.model} at {self.host}: {self.error}{status}{quoted}"
