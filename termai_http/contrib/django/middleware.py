"""The time left of a request, for every call that is made while it is answered."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from ..._ambient import bind, earliest, limit, within
from ...errors import ConfigurationError
from .conf import Options, options

__all__ = ["RequestTimeoutMiddleware", "request_timeout"]

View = TypeVar("View", bound=Callable[..., Any])

_OF_VIEW = "termai_http_request_timeout"
_OF_REQUEST = "_termai_http_request"
_UNSET = object()
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def request_timeout(seconds: float | None) -> Callable[[View], View]:
    """Give one view another limit than ``REQUEST_TIMEOUT``; a decorator.

    Args:
        seconds: Seconds from the middleware on that the calls of the view have together, its
            streams included; None for no limit. What the request itself asks for still holds.

    Raises:
        ConfigurationError: ``seconds`` is no number above 0.
    """
    checked = Options(request_timeout=seconds).request_timeout

    def mark(view: View) -> View:
        if not callable(view):
            raise ConfigurationError(f"request_timeout decorates a view, not {view!r}.")

        # Not on the view itself, which may stand behind another URL without this limit.
        @functools.wraps(view)
        def limited(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        setattr(limited, _OF_VIEW, checked)
        return cast(
            "View", markcoroutinefunction(limited) if iscoroutinefunction(view) else limited
        )

    return mark


class RequestTimeoutMiddleware:
    """Gives the calls of a request, together, the time that is left for its answer.

    That is ``TERMAI_HTTP["REQUEST_TIMEOUT"]``, or what ``request_timeout`` says of the view,
    counted from here; a header of the request can shorten it, and none can lengthen it. It ends
    chats, streams, and what is called while the body of a streaming response is made.
    """

    sync_capable = True
    async_capable = False
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        options()  # What is wrong in the settings stops the worker, not each request.

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a request under its limit."""
        started, chosen = self.monotonic(), options()
        bound = earliest(limit(), self._asked(request, chosen, started))
        setattr(request, _OF_REQUEST, (started, bound))
        own = chosen.request_timeout
        with within(earliest(bound, None if own is None else started + own)):
            response = self.get_response(request)
            end = limit()  # of the view, where it has its own
        if end is not None and isinstance(response, StreamingHttpResponse):
            _limit_body(response, end)
        return response

    def process_view(
        self,
        request: HttpRequest,
        view: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> None:
        """Put the view's own limit in the place of the setting."""
        own = getattr(view, _OF_VIEW, _UNSET)
        if own is not _UNSET:
            started, bound = getattr(request, _OF_REQUEST)
            bind(earliest(bound, None if own is None else started + own))

    def _asked(self, request: HttpRequest, chosen: Options, started: float) -> float | None:
        """Return the monotonic instant that the request asks for; what is no number asks none."""
        ends: list[float] = []
        if chosen.request_timeout_header is not None:
            seconds = _numbers(request.headers.get(chosen.request_timeout_header, ""))
            ends += [started + each for each in seconds]
        if chosen.request_deadline_header is not None:
            instants = _numbers(request.headers.get(chosen.request_deadline_header, ""))
            ends += [started + max(each - self.wall(), 0.0) for each in instants]
        return min(ends, default=None)


def _numbers(text: str) -> list[float]:
    # A proxy may add its header to one that is there, which a server joins with commas.
    parts = (part.strip() for part in text.split(","))
    return [float(part) for part in parts if _NUMBER.fullmatch(part)]


class _Body:
    """Iterates over a response's body under the limit of its request."""

    def __init__(self, chunks: Iterator[Any], end: float) -> None:
        self._chunks = chunks
        self._end = end

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> Any:
        with within(earliest(self._end, limit())):
            return next(self._chunks)


def _limit_body(response: StreamingHttpResponse, end: float) -> None:
    chunks = response.streaming_content
    # A server sends files by other ways than by iterating; asynchronous bodies make no calls.
    if isinstance(chunks, Iterator) and not isinstance(response, FileResponse):
        response.streaming_content = _Body(chunks, end)
