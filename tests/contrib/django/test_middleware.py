"""The middleware: what a view calls ends with its request, and no header lengthens that."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.views import View
from django.views.decorators.http import require_GET

import termai_http
from termai_http import ConfigurationError, DeadlineExceeded, StreamInterrupted
from termai_http._ambient import limit
from termai_http.contrib.django import request_timeout, time_limit
from termai_http.contrib.django.middleware import RequestTimeoutMiddleware
from termai_http.testing import Delay, Server, Stall

Browse = Callable[..., Client]


def left() -> float | None:
    """Return the seconds that a call made here would have, as far as a limit says."""
    end = limit()
    return None if end is None else end - time.monotonic()


def tell(request: HttpRequest) -> JsonResponse:
    """Answer with the time that is left."""
    return JsonResponse({"left": left()})


def ask(client: Client, url: str = "/", **headers: str) -> float | None:
    """Return the time that the view at ``url`` had."""
    seconds: float | None = client.get(url, headers=headers).json()["left"]
    return seconds


def nearly(seconds: float) -> Any:
    """Match the time left of so many seconds, on a machine that may be slow."""
    return pytest.approx(seconds - 2.5, abs=2.5)


def test_without_a_setting_or_header_there_is_no_limit(browse: Browse) -> None:
    """The middleware alone changes nothing."""
    assert ask(browse(path("", tell))) is None


def test_the_setting_limits_a_request(browse: Browse) -> None:
    """The time counts from the middleware on, and is gone with the request."""
    client = browse(path("", tell), TERMAI_HTTP={"REQUEST_TIMEOUT": 100})
    assert ask(client) == nearly(100)
    assert limit() is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("40", 40),
        ("40.5", 40.5),
        ("60, 40", 40),
        ("1000", 100),
        ("0", 0),
        ("", 100),
        ("-1", 100),
        ("soon", 100),
        ("inf", 100),
        ("nan", 100),
        ("1e1", 100),
        ("\u0664\u0660", 100),
        ("9" * 4000, 100),
        ("40 s, x", 100),
    ],
)
def test_a_header_shortens_and_never_lengthens(browse: Browse, text: str, seconds: float) -> None:
    """The smallest number counts; what is none, or is more than the setting, does not."""
    client = browse(path("", tell), TERMAI_HTTP={"REQUEST_TIMEOUT": 100})
    assert ask(client, **{"X-Request-Timeout": text}) == nearly(seconds)


def test_the_headers_names_are_settings(browse: Browse) -> None:
    """Another name can be read, or none at all."""
    given = {"REQUEST_TIMEOUT_HEADER": "X-Envoy-Timeout"}
    client = browse(path("", tell), TERMAI_HTTP=given)
    assert ask(client, **{"X-Envoy-Timeout": "30"}) == nearly(30)
    assert ask(client, **{"X-Request-Timeout": "30"}) is None
    with override_settings(TERMAI_HTTP={"REQUEST_TIMEOUT_HEADER": None}):
        assert ask(client, **{"X-Request-Timeout": "30"}) is None


def test_a_deadline_of_the_wall_clock_is_read_where_asked_for(
    browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Unix time counts from now; one that passed leaves nothing."""
    monkeypatch.setattr(RequestTimeoutMiddleware, "wall", staticmethod(lambda: 1_000_000.0))
    given = {"REQUEST_DEADLINE_HEADER": "X-Request-Deadline", "REQUEST_TIMEOUT": 100}
    client = browse(path("", tell), TERMAI_HTTP=given)
    assert ask(client, **{"X-Request-Deadline": "1000020.5"}) == nearly(20.5)
    assert ask(client, **{"X-Request-Deadline": "1000500"}) == nearly(100)
    assert ask(client, **{"X-Request-Deadline": "999999"}) == nearly(0)
    both = {"X-Request-Deadline": "1000050", "X-Request-Timeout": "30"}
    assert ask(client, **both) == nearly(30)


class Longer(View):
    """A view of a class."""

    @staticmethod
    def get(request: HttpRequest) -> JsonResponse:
        """Answer with the time that is left."""
        return tell(request)


def test_a_view_may_have_a_limit_of_its_own(browse: Browse) -> None:
    """The decorator beats the setting both ways; the request's own wish still holds."""
    client = browse(
        path("longer", request_timeout(300)(Longer.as_view())),
        path("shorter", require_GET(request_timeout(50)(tell))),
        path("unlimited", request_timeout(None)(tell)),
        path("", tell),
        TERMAI_HTTP={"REQUEST_TIMEOUT": 100},
    )
    assert ask(client, "/longer") == nearly(300)
    assert ask(client, "/shorter") == nearly(50)
    assert ask(client, "/unlimited") is None
    assert ask(client, "/") == nearly(100)
    assert ask(client, "/longer", **{"X-Request-Timeout": "30"}) == nearly(30)


def test_a_limit_around_the_request_holds(browse: Browse) -> None:
    """Neither setting nor decorator lengthens what is set outside the middleware."""
    client = browse(
        path("", request_timeout(300)(tell)),
        TERMAI_HTTP={"REQUEST_TIMEOUT": 100},
    )
    with time_limit(20):
        assert ask(client) == nearly(20)
        assert left() == nearly(20)


def test_a_wrong_limit_is_refused_where_it_is_written() -> None:
    """The decorator checks when the module is loaded."""
    with pytest.raises(ConfigurationError, match="request_timeout must be a number of seconds"):
        request_timeout(-1)
    with pytest.raises(ConfigurationError, match="decorates a view"):
        request_timeout(3)("view")  # type: ignore[type-var]


def test_a_wrong_setting_stops_the_worker(browse: Browse) -> None:
    """The middleware is not even made: a server's worker does not start."""
    with (
        override_settings(TERMAI_HTTP={"REQUEST_TIMOUT": 3}),
        pytest.raises(ConfigurationError, match="Did you mean 'REQUEST_TIMEOUT'"),
    ):
        RequestTimeoutMiddleware(lambda request: HttpResponse())


def chat(request: HttpRequest) -> HttpResponse:
    """Ask a model."""
    return HttpResponse(termai_http.chat("hello", model="gpt-5.5", timeout=60).text)


def test_a_chat_ends_with_its_request(browse: Browse, termai_server: Server) -> None:
    """A call's own timeout does not keep it alive; the error says whose limit it was."""
    client = browse(path("", chat))
    assert client.get("/").content == b"You said: hello"
    termai_server.script(Delay(30))
    with pytest.raises(DeadlineExceeded, match="a limit around this call") as caught:
        client.get("/", headers={"X-Request-Timeout": "0.2"})
    assert caught.value.phase == "headers"
    with pytest.raises(DeadlineExceeded, match="had passed before the call began"):
        client.get("/", headers={"X-Request-Timeout": "0"})
    assert client.get("/").content == b"You said: hello"
    assert len(termai_server.requests) == 3
    assert termai_http.stats().active_connections == 0


def test_two_calls_share_the_time(browse: Browse, termai_server: Server) -> None:
    """The limit is the request's, not each call's."""

    def twice(request: HttpRequest) -> HttpResponse:
        chat(request)
        return chat(request)

    termai_server.script(Delay(0.7), Delay(30))
    client = browse(path("", twice))
    with pytest.raises(DeadlineExceeded) as caught:
        client.get("/", headers={"X-Request-Timeout": "1.5"})
    rest = re.search(r"The ([0-9.]+) s that a limit around this call left it", str(caught.value))
    assert rest is not None
    assert float(rest[1]) <= 0.8


def test_a_stream_ends_with_its_request(browse: Browse, termai_server: Server) -> None:
    """One that the view opened and the server reads after it ends in time, too."""

    def opened(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(termai_http.stream("hello there", model="gpt-5.5"))

    termai_server.script(Stall(3))
    response = browse(path("", opened)).get("/", headers={"X-Request-Timeout": "1"})
    assert limit() is None
    with pytest.raises(StreamInterrupted, match="DeadlineExceeded"):
        list(response.streaming_content)  # type: ignore[attr-defined]
    response.close()
    assert termai_http.stats().active_connections == 0


def test_calls_that_make_the_body_have_the_requests_time(browse: Browse) -> None:
    """A body is made after the view has returned, and under the same limit; files are let be."""
    closed: list[float | None] = []

    def body() -> Iterator[str]:
        try:
            yield str(left())
            yield str(left())
        finally:
            closed.append(left())

    def streaming(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(body())

    def file(request: HttpRequest) -> FileResponse:
        return FileResponse(open(__file__, "rb"))

    client = browse(
        path("", request_timeout(50)(streaming)),
        path("file", file),
        TERMAI_HTTP={"REQUEST_TIMEOUT": 100},
    )
    response = client.get("/")
    assert limit() is None
    chunks = iter(response.streaming_content)  # type: ignore[attr-defined]
    assert float(next(chunks)) == nearly(50)
    assert limit() is None
    with time_limit(10):
        assert float(next(chunks)) == nearly(10)
    response.close()
    assert len(closed) == 1
    response = client.get("/file")
    assert response.getvalue().startswith(b'"""The middleware')  # type: ignore[attr-defined]


def test_an_error_of_a_view_leaves_no_limit_behind(browse: Browse) -> None:
    """The next request of the thread starts anew."""

    def fail(request: HttpRequest) -> HttpResponse:
        raise ValueError("mine")

    client = browse(path("", fail), TERMAI_HTTP={"REQUEST_TIMEOUT": 100})
    with pytest.raises(ValueError, match="mine"):
        client.get("/")
    assert limit() is None


async def asynchronous(request: HttpRequest) -> JsonResponse:
    """Answer with the time that is left, from an asynchronous view."""
    return tell(request)


def test_under_asgi_a_view_has_its_limit_too(browse: Browse) -> None:
    """An asynchronous server runs the middleware and the view in threads, with one context."""
    browse(
        path("", request_timeout(50)(tell)),
        path("plain", tell),
        path("own", request_timeout(70)(asynchronous)),
        TERMAI_HTTP={"REQUEST_TIMEOUT": 100},
    )

    async def get(url: str) -> Any:
        return (await AsyncClient().get(url)).json()["left"]

    assert asyncio.run(get("/")) == nearly(50)
    assert asyncio.run(get("/plain")) == nearly(100)
    assert asyncio.run(get("/own")) == nearly(70)
