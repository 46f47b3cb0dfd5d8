"""What is no error of ours passes through our frames, which show neither key nor prompt (S6).

The numbers are those of the security checklist.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from termai_http import Client, HttpClientConfig
from termai_http._call import Clock
from tests.contract.security_tools import (
    Recorder,
    break_reads,
    call,
    faces,
    frames_with_locals,
    must_hide,
    raising,
)
from tests.faults.harness import KEY, PROMPT, closed_port

# A MemoryError stands for what the interpreter raises by itself.
FAILURES = [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, RuntimeError, RecursionError]


class Unkind(list[Any]):
    """Messages whose list fails when it is read."""

    def __init__(self, failure: type[BaseException]) -> None:
        super().__init__([{"role": "user", "content": PROMPT}])
        self._failure = failure

    def __iter__(self) -> Iterator[Any]:
        raise self._failure


def fail_in_a_hook(client: Client, failure: type[BaseException], patch: Any) -> None:
    """Hang a hook on the session that fails."""
    client.session.hooks["response"] = [raising(failure)]


def fail_in_a_read(client: Client, failure: type[BaseException], patch: Any) -> None:
    """Let the next read of a socket fail."""
    break_reads(patch, failure)


def fail_in_sending(client: Client, failure: type[BaseException], patch: Any) -> None:
    """Let http.client fail while it sends."""
    patch.setattr(http.client.HTTPConnection, "send", raising(failure))


def fail_in_the_adapter(client: Client, failure: type[BaseException], patch: Any) -> None:
    """Let a tool in the place of HTTPAdapter.send fail."""
    patch.setattr("requests.adapters.HTTPAdapter.send", raising(failure))


def fail_in_the_session(client: Client, failure: type[BaseException], patch: Any) -> None:
    """Let a tool in the place of Session.send fail."""
    patch.setattr("requests.Session.send", raising(failure))


def fail_in_auth(client: Client, failure: type[BaseException], patch: Any) -> None:
    """Hang an authentication on the session that fails."""
    client.session.auth = raising(failure)


def fail_in_a_listener(client: Client, failure: type[BaseException], patch: Any) -> None:
    """Let a listener fail; an Exception of its would be logged."""
    client.listen(raising(failure if not issubclass(failure, Exception) else SystemExit))


PLACES = [
    *(fail_in_a_hook, fail_in_a_read, fail_in_sending, fail_in_the_adapter, fail_in_the_session),
    *(fail_in_auth, fail_in_a_listener),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_what_is_no_error_of_ours_shows_no_secret_in_our_frames(
    place: Callable[..., None], failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C, or what a hook or a patched read raises, passes through clean frames."""
    with Recorder() as server, Client(HttpClientConfig(trust_env=False)) as client:
        for name, make in faces(client, server.url).items():
            with monkeypatch.context() as patch:
                place(client, failure, patch)
                with pytest.raises((failure, SystemExit)) as caught:
                    make()
                must_hide(frames_with_locals(caught.value), name)
            stats = client.stats()
            assert (stats.active_connections, stats.calls.in_flight) == (0, 0)


@pytest.mark.parametrize("failure", FAILURES)
def test_what_a_users_own_objects_raise_shows_no_secret_either(
    failure: type[BaseException],
) -> None:
    """Messages, headers and parameters of a class of the user's may fail while they are read."""
    unkind = type("Unkind", (dict,), {"items": raising(failure)})
    shy = type("Shy", (), {"__str__": raising(failure)})
    with Recorder() as server, Client(HttpClientConfig(trust_env=False)) as client:
        ways: list[Callable[[], Any]] = [
            lambda: client.chat(Unkind(failure), model="m", api_key=KEY, base_url=server.url),
            lambda: call(client, server.url, extra_headers=unkind({"X-A": KEY})),
            lambda: call(client, server.url, extra_query=unkind({"a": KEY})),
            lambda: call(client, server.url, extra_query={"a": shy()}),
        ]
        for way in ways:
            with pytest.raises(failure) as caught:
                way()
            must_hide(frames_with_locals(caught.value))
        assert client.stats().calls.in_flight == 0
        assert server.requests == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_wait_that_is_torn_away_shows_no_secret(failure: type[BaseException]) -> None:
    """A Ctrl-C between two attempts passes through clean frames, too."""
    clock = Clock(wait=raising(failure))
    with Client(HttpClientConfig(trust_env=False), _clock=clock) as client:
        url = f"http://127.0.0.1:{closed_port()}"
        for name, make in faces(client, url).items():
            with pytest.raises(failure) as caught:
                make()
            must_hide(frames_with_locals(caught.value), name)


def test_a_stream_that_is_torn_away_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C between two pieces passes through clean frames, and gives all back."""
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "one"}}]}\n\n'
    first = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n"
    with Recorder(first + event) as server, Client(HttpClientConfig(trust_env=False)) as client:
        for failure in (KeyboardInterrupt, RuntimeError):
            stream = client.stream(PROMPT, model="m", api_key=KEY, base_url=server.url)
            assert next(stream) == "one"
            with monkeypatch.context() as patch:
                break_reads(patch, failure)
                with pytest.raises(failure) as caught:
                    next(stream)
            must_hide(frames_with_locals(caught.value))
            assert (client.stats().active_connections, client.stats().calls.in_flight) == (0, 0)
