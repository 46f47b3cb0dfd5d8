"""The limit around calls: it ends whatever is made in its context, and only shortens."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from typing import Any

import pytest

from termai_http import Client, ConfigurationError, DeadlineExceeded, RequestHandler
from termai_http._ambient import bind, limit, time_limit, within
from termai_http.testing import Delay, Server, Silent, Stall, Status


def ask(client: Client, server: Server, **options: Any) -> str:
    """Ask the loopback server."""
    given = {"model": "gpt-5.5", "base_url": server.openai_url, "api_key": "sk-x", **options}
    return client.chat("hello", **given).text


def test_a_limit_ends_a_call_that_has_more_time_of_its_own(client: Client, server: Server) -> None:
    """Its end is the call's deadline, and the error tells them apart."""
    server.script(Silent(), Silent())
    with time_limit(0.2), pytest.raises(DeadlineExceeded, match="that a limit around") as caught:
        ask(client, server, timeout=60)
    assert caught.value.phase == "headers"
    assert caught.value.maybe_billed
    with time_limit(60), pytest.raises(DeadlineExceeded, match=r"^The deadline of 0\.2 s passed"):
        ask(client, server, timeout=0.2)
    assert ask(client, server) == "You said: hello"
    assert client.stats().active_connections == 0


def test_a_limit_that_passed_sends_nothing(client: Client, server: Server) -> None:
    """No connection is opened for a call that has no time."""
    with time_limit(0), pytest.raises(DeadlineExceeded, match="before the call began"):
        ask(client, server)
    assert server.connections == []


def test_waits_between_attempts_end_with_it(client: Client, server: Server) -> None:
    """A server's wish that is longer than the rest raises the attempt's own error at once."""
    server.script(Status(503, retry_after=5))
    with time_limit(2), pytest.raises(Exception, match="503") as caught:
        ask(client, server)
    assert getattr(caught.value, "retry_after", None) == 5
    assert len(server.requests) == 1


def test_streams_and_requests_have_it_too(client: Client, server: Server) -> None:
    """A stream that was begun inside ends in time, also where it is read outside."""
    server.script(Stall(3))
    with time_limit(1):
        stream = client.stream(
            "hello there", model="gpt-5.5", base_url=server.openai_url, api_key="sk-x"
        )
    with pytest.raises(Exception, match="that a limit around this call left it"):
        list(stream)
    server.script(Delay(30))
    handler = RequestHandler(client)
    with time_limit(0.2), pytest.raises(DeadlineExceeded):
        handler.post_json(f"{server.openai_url}/embeddings", {}, {"model": "x", "input": "y"})
    assert client.stats().active_connections == 0


def test_limits_nest_and_only_shorten() -> None:
    """The earliest end holds, each block gives back what it found, errors included."""
    with time_limit(50):
        outer = limit()
        with time_limit(100):
            assert limit() == outer
        with time_limit(10):
            assert limit() < outer  # type: ignore[operator]
        with pytest.raises(ZeroDivisionError), time_limit(10):
            raise ZeroDivisionError
        assert limit() == outer
        with within(None):
            assert limit() is None
    assert limit() is None


def test_a_limit_goes_where_its_context_goes() -> None:
    """A thread has none of its own, and has this one where its context was copied."""
    found: list[float | None] = []

    def look() -> None:
        found.append(limit())

    with time_limit(50):
        copied = contextvars.copy_context()
        for target in (look, lambda: copied.run(look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        assert found == [None, limit()]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "3", None, True])
def test_a_wrong_limit_is_refused(seconds: Any) -> None:
    """Only a finite number of at least 0 is one."""
    with (
        pytest.raises(ConfigurationError, match="must be a number of at least 0"),
        time_limit(seconds),
    ):
        pass


def test_the_limit_is_read_when_a_call_begins(client: Client, server: Server) -> None:
    """One that passed between two calls ends the second alone."""
    with time_limit(60):
        ask(client, server)
        bind(time.monotonic())
        with pytest.raises(DeadlineExceeded, match="before the call began"):
            ask(client, server)
    assert len(server.requests) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked there")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_has_none() -> None:
    """The workers of a pool that was begun in a limit outlive it, and keep its context."""
    with time_limit(60):
        assert limit() is not None
        child = os.fork()
        if not child:
            os._exit(0 if limit() is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
