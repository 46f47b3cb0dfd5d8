"""Every attempt is seen by whoever looks between a call and its socket, and once.

Each tool is put on before the import of the package, in a process of its own, and after it, with
connections open and idle. What goes the direct way in between is counted: nothing while one looks,
and all once nobody does any more.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
import trustme
import wrapt
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from termai_http import Client, HttpClientConfig, RetryConfig
from termai_http._ordinary import prepare
from termai_http.config import direct_allowed
from termai_http.testing import Server, Status, Text
from tests.contract.tools_watching import (
    FACES,
    METHODS,
    NEVER_OFF,
    TOOLS,
    count_direct,
    counted,
    talk,
    talks,
)

ROOT = Path(__file__).parents[2]
SAID = "You said: hi"
# They answer in the server's place.
MOCKS = {"responses": "seen", "requests_mock": "seen"}
# Whose line has the status.
ASKS = "_make_request"
RETRY = RetryConfig(base_delay=0.001, max_delay=0.002)
# What a user's own code may replace, and no attempt need call.
REPLACED: list[tuple[type[Any], str]] = [
    *METHODS.values(),
    *((HTTPConnectionPool, name) for name in ("_get_conn", "_put_conn", "_new_conn")),
    *((HTTPConnection, name) for name in ("connect", "putheader")),
    *((http.client.HTTPConnection, name) for name in ("request", "putheader", "send", "connect")),
    (http.client.HTTPResponse, "read"),
]


def direct_of(attempts: int) -> int:
    """Return how many attempts go the direct way where nobody looks."""
    return attempts if direct_allowed(os.environ) else 0


def refuse_each_first(server: Server) -> None:
    """Refuse the first attempt of each of two calls."""
    server.script(Status(503), Text(SAID), Status(503))


def seen_by_all(said: str = SAID) -> dict[str, list[Any]]:
    """Return what ``talks`` reports where two attempts of each face were seen, and none direct."""
    return {face: [said, 2, [503, 200], 0] for face in FACES}


def seen_by_nobody() -> dict[str, list[Any]]:
    """Return what ``talks`` reports where nothing is left that looks."""
    return {face: [SAID, 1, [], direct_of(1)] for face in FACES}


def run_script(*arguments: str) -> dict[str, Any]:
    """Run ``tools_watching`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.tools_watching", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_a_tool_put_on_before_the_import(server: Server, tool: str) -> None:
    """It sees a refused and a repeated attempt of both faces; once it is off, nothing is left."""
    if tool not in MOCKS:
        refuse_each_first(server)
    report = run_script("before", tool, server.url)
    assert report["on"] == seen_by_all(MOCKS.get(tool, SAID))
    if tool not in NEVER_OFF:
        assert report["off"] == seen_by_nobody()


@pytest.mark.parametrize("tool", sorted(set(TOOLS) - set(NEVER_OFF)))
def test_a_tool_put_on_after_the_import(client: Client, server: Server, tool: str) -> None:
    """It sees the attempts of a client whose connections are idle; after it they are direct."""
    assert talks(client, server.url, list) == seen_by_nobody()
    assert client.stats().idle_connections == 1
    before = len(server.requests)
    if tool not in MOCKS:
        refuse_each_first(server)
    with TOOLS[tool](server.url) as seen:
        assert talks(client, server.url, seen) == seen_by_all(MOCKS.get(tool, SAID))
    assert len(server.requests) - before == (0 if tool in MOCKS else 4)
    assert talks(client, server.url, list) == seen_by_nobody()
    assert client.stats().active_connections == 0


def test_sentry_put_on_after_the_import(server: Server) -> None:
    """Sentry, which stays, sees the attempts of a client whose connections are open and idle."""
    server.script(Text(SAID), Text(SAID), Status(503), Text(SAID), Status(503))
    report = run_script("after", "sentry", server.url)
    assert report == {"off": seen_by_nobody(), "on": seen_by_all()}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("vcrpy", "opentelemetry requests"),
        ("vcrpy", "opentelemetry urllib3"),
        ("opentelemetry requests", "vcrpy"),
        ("opentelemetry urllib3", "vcrpy"),
    ],
)
def test_two_tools_see_the_same(client: Client, server: Server, first: str, second: str) -> None:
    """One tool over another takes nothing from it, and the one that stays goes on seeing."""
    refuse_each_first(server)
    with TOOLS[first](server.url) as outer:
        with TOOLS[second](server.url) as inner:
            assert talks(client, server.url, outer) == seen_by_all()
            assert inner() == [503, 200] * 2
        server.script(Status(503), Text(SAID), Status(503))
        assert talks(client, server.url, outer) == seen_by_all()
    assert talks(client, server.url, list) == seen_by_nobody()


def test_every_method_wrapped_before_the_import(server: Server) -> None:
    """Whatever an attempt calls may have been wrapped before: it is called once an attempt."""
    good = [Text(SAID)] * 2
    for _ in METHODS:
        refuse_each_first(server)
        server.script(*good, Text(SAID))
    report = run_script("wrapped", "", server.url)
    on = {face: [SAID, 2, [0, 0], 0] for face in FACES}
    assert report == {name: {"on": on, "off": seen_by_nobody()} for name in METHODS}


def proxy(owner: type[Any], name: str) -> Any:
    """Return a wrapper as wrapt makes them: it says that it equals what it wraps."""
    return wrapt.FunctionWrapper(getattr(owner, name), lambda call, _, args, kw: call(*args, **kw))


@pytest.mark.parametrize("used", [True, False], ids=["used", "new"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_wrapped_method_is_called_once_an_attempt(
    client: Client, server: Server, name: str, used: bool
) -> None:
    """A wrapper sees every attempt, put on before the first use or with a connection idle."""
    if used:
        talk(client, "chat", server.url)
    refuse_each_first(server)
    with counted(*METHODS[name]) as calls:
        on = talks(client, server.url, lambda: calls)
    assert on == {face: [SAID, 2, [0, 0], 0] for face in FACES}
    assert talks(client, server.url, lambda: calls) == seen_by_nobody()


@pytest.mark.parametrize("way", ["counted", "wrapt"])
@pytest.mark.parametrize(
    ("owner", "name"), REPLACED, ids=[f"{owner.__module__}.{name}" for owner, name in REPLACED]
)
def test_nothing_goes_direct_past_a_replaced_name(
    client: Client, server: Server, owner: type[Any], name: str, way: str
) -> None:
    """Whatever name is replaced, calls work, go the ordinary way, and are direct again after it."""
    talk(client, "chat", server.url)
    replaced: AbstractContextManager[Any] = counted(owner, name)
    if way == "wrapt":
        replaced = mock.patch.object(owner, name, proxy(owner, name))
    refuse_each_first(server)
    with replaced:
        on = talks(client, server.url, list)
    assert on == {face: [SAID, 2, [], 0] for face in FACES}
    assert talks(client, server.url, list) == seen_by_nobody()


def test_a_tool_put_on_between_two_attempts_sees_the_second(server: Server) -> None:
    """What is put on while a call waits for its next attempt sees that one."""
    seen: list[int] = []
    put_on = mock.patch.object(
        requests.Session,
        "send",
        lambda session, request, **kwargs: seen.append(0) or real(session, request, **kwargs),
    )
    real = requests.Session.send
    config = HttpClientConfig(retry=RETRY, trust_env=False)
    with Client(config) as client, client.listening(lambda event: starts(event, put_on)):
        server.script(Status(503))
        try:
            with count_direct() as direct:
                assert talk(client, "chat", server.url) == (SAID, 2)
            assert (seen, direct()) == ([0], direct_of(1))
        finally:
            put_on.stop()


def starts(event: Any, patch: Any) -> None:
    """Start a patch when a retry was decided."""
    if type(event).__name__ == "RetryScheduled":
        patch.start()


class Signed(AuthBase):
    """An auth of the user's."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request."""
        request.headers["X-Seen"] = "seen"
        return request


class OwnAdapter(HTTPAdapter):
    """An HTTPAdapter of the user's, which marks what it sends."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send a request."""
        request.headers["X-Seen"] = "seen"
        return super().send(request, *args, **kwargs)


HUNG: dict[str, tuple[Callable[[Any, str], None], Callable[[Any, str], None]]] = {
    "auth": (
        lambda session, _: setattr(session, "auth", Signed()),
        lambda session, _: setattr(session, "auth", None),
    ),
    "header": (
        lambda session, _: session.headers.update({"X-Seen": "seen"}),
        lambda session, _: session.headers.pop("X-Seen"),
    ),
    "adapter": (
        lambda session, url: session.mount(url, OwnAdapter()),
        lambda session, url: session.adapters.pop(url).close(),
    ),
}


@pytest.mark.parametrize("used", [True, False], ids=["used", "new"])
@pytest.mark.parametrize("what", sorted(HUNG))
def test_what_hangs_on_the_session_reaches_the_wire(
    client: Client, server: Server, what: str, used: bool
) -> None:
    """Auth, a header and an HTTPAdapter of the user's act on every attempt until they are gone."""
    if used:
        talks(client, server.url, list)
    before = len(server.requests)
    hang, take_off = HUNG[what]
    hang(client.session, server.url)
    refuse_each_first(server)
    assert talks(client, server.url, list) == {face: [SAID, 2, [], 0] for face in FACES}
    sent = server.requests[before:]
    assert [request.headers.get("x-seen") for request in sent] == ["seen"] * 4
    take_off(client.session, server.url)
    assert talks(client, server.url, list) == seen_by_nobody()
    assert "x-seen" not in server.requests[-1].headers


def test_a_header_that_was_taken_off_stays_off(client: Client, server: Server) -> None:
    """One that another thread sets and takes off while a request is made is in no later one."""

    def meanwhile(session: Any, outgoing: Any) -> Any:
        session.headers["X-Seen"] = "seen"
        prepared = prepare(session, outgoing)
        del session.headers["X-Seen"]
        return prepared

    with mock.patch("termai_http._transport.prepare", meanwhile):
        talk(client, "chat", server.url)
    for _ in range(2):
        talk(client, "chat", server.url)
    assert ["x-seen" in request.headers for request in server.requests[1:]] == [False, False]


@pytest.mark.parametrize("name", ["urlopen", "_make_request", "_get_conn"])
def test_a_method_put_on_one_pool_is_called(client: Client, server: Server, name: str) -> None:
    """What somebody put on one pool is called for every attempt there, until it is gone."""
    talk(client, "chat", server.url)
    pool = client._core.transport()._adapter.pools()[0]
    with mock.patch.object(pool, name, wraps=getattr(pool, name)) as called:
        talk(client, "chat", server.url)
        assert called.call_count == 1
    talk(client, "chat", server.url)
    assert called.call_count == 1


@pytest.mark.parametrize("used", [True, False], ids=["used", "new"])
def test_a_hook_hears_every_attempt(client: Client, server: Server, used: bool) -> None:
    """A hook on the session hears each answer of both faces, until it is gone."""
    if used:
        talks(client, server.url, list)
    heard: list[int] = []
    client.session.hooks["response"].append(
        lambda response, **_: heard.append(response.status_code)
    )
    refuse_each_first(server)
    assert talks(client, server.url, lambda: heard) == seen_by_all()
    client.session.hooks["response"].clear()
    assert talks(client, server.url, lambda: heard) == seen_by_nobody()


def test_a_hook_put_on_while_a_call_waits_hears_the_rest(server: Server) -> None:
    """A hook that is hung on the session between two attempts hears the second."""
    heard: list[int] = []
    config = HttpClientConfig(retry=RETRY, trust_env=False)
    with Client(config) as client:
        hooks = client.session.hooks["response"]

        def hang(event: Any) -> None:
            if type(event).__name__ == "RetryScheduled":
                hooks.append(lambda response, **_: heard.append(response.status_code))

        with client.listening(hang):
            server.script(Status(503))
            assert talk(client, "chat", server.url) == (SAID, 2)
    assert heard == [200]


def test_a_log_that_is_on_has_a_line_for_every_attempt(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Who turns urllib3's log on with connections open reads of each attempt."""
    talk(client, "chat", server.url)
    refuse_each_first(server)

    def read() -> list[int]:
        lines: list[Any] = [record.args for record in caplog.records if record.funcName == ASKS]
        return [args[6] for args in lines]

    with caplog.at_level(logging.DEBUG, logger="urllib3.connectionpool"):
        assert talks(client, server.url, read) == seen_by_all()
    assert talks(client, server.url, read) == seen_by_nobody()


def test_what_http_client_prints_it_prints_of_every_attempt(
    client: Client, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who sets ``HTTPConnection.debuglevel`` sees each request printed."""
    talk(client, "chat", server.url)
    refuse_each_first(server)
    with mock.patch.object(http.client.HTTPConnection, "debuglevel", 1), count_direct() as direct:
        with Client(HttpClientConfig(retry=RETRY, trust_env=False)) as other:
            talk(other, "chat", server.url)
        assert direct() == 0
    assert capsys.readouterr().out.count("send: b'POST") == 2


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Client, Server]]:
    """A client and a server that speak TLS."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    config = HttpClientConfig(retry=RETRY, trust_env=False, ca_bundle=str(bundle))
    with Server(tls=context) as server, Client(config) as client:
        yield client, server


@pytest.mark.parametrize("tool", sorted(set(TOOLS) - set(NEVER_OFF) - {"vcrpy"}))
def test_a_tool_sees_attempts_with_tls(secure: tuple[Client, Server], tool: str) -> None:
    """With TLS a tool sees the same."""
    client, server = secure
    assert talks(client, server.url, list) == seen_by_nobody()
    if tool not in MOCKS:
        refuse_each_first(server)
    with TOOLS[tool](server.url) as seen:
        assert talks(client, server.url, seen) == seen_by_all(MOCKS.get(tool, SAID))
    assert talks(client, server.url, list) == seen_by_nobody()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (HTTPSConnectionPool, "_make_request"),
        (HTTPSConnectionPool, "urlopen"),
        (HTTPSConnection, "endheaders"),
        (HTTPSConnection, "request"),
    ],
)
def test_what_is_added_to_a_class_for_tls_is_called(
    secure: tuple[Client, Server], owner: type[Any], name: str
) -> None:
    """A method put on the class for TLS, which only inherits it, is called once an attempt."""
    client, server = secure
    talk(client, "chat", server.url)
    refuse_each_first(server)
    with counted(owner, name) as calls:
        on = talks(client, server.url, lambda: calls)
    assert on == {face: [SAID, 2, [0, 0], 0] for face in FACES}
    assert talks(client, server.url, lambda: calls) == seen_by_nobody()
