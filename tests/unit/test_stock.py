"""Whether anybody looks at the attempts: every name that a tool or a user may put something on."""

from __future__ import annotations

import functools
import http.client
import logging
import sys
import threading
import types
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import requests
import requests_mock
import responses
import urllib3
import wrapt
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from termai_http import HttpClientConfig, RetryConfig
from termai_http import _stock as module
from termai_http._answer import Answer
from termai_http._call import Clock
from termai_http._connection import Connection, PlainConnection, TLSConnection
from termai_http._environment import Environment
from termai_http._idle import PoolRules
from termai_http._pool import HTTPPool, HTTPSPool
from termai_http._session import PooledAdapter, PooledSession
from termai_http._slots import Slots
from termai_http._stock import Stock

METHODS = [
    (requests.Session, "send"),
    (requests.Session, "get_adapter"),
    (HTTPAdapter, "send"),
    *((HTTPConnectionPool, name) for name in ("urlopen", "_make_request", "_new_conn")),
    *((HTTPConnectionPool, name) for name in ("_get_conn", "_put_conn")),
    *((HTTPSConnectionPool, name) for name in ("_new_conn", "_get_conn", "_make_request")),
    *((HTTPConnection, name) for name in ("request", "putrequest", "putheader", "endheaders")),
    *((HTTPConnection, name) for name in ("send", "connect", "getresponse")),
    *((HTTPSConnection, name) for name in ("connect", "endheaders", "getresponse", "request")),
    *((http.client.HTTPConnection, name) for name in ("request", "putrequest", "putheader")),
    *((http.client.HTTPConnection, name) for name in ("endheaders", "send", "connect")),
    (http.client.HTTPConnection, "getresponse"),
    (http.client.HTTPResponse, "begin"),
    (http.client.HTTPResponse, "read"),
    (PooledSession, "send"),
    (PooledSession, "get_adapter"),
    (PooledAdapter, "send"),
    *((HTTPPool, name) for name in ("urlopen", "_get_conn", "_put_conn", "_make_request")),
    *((HTTPSPool, name) for name in ("urlopen", "_get_conn", "_put_conn", "_make_request")),
    *((Connection, name) for name in ("connect", "send", "getresponse")),
    *((PlainConnection, name) for name in ("send", "getresponse", "request")),
    *((TLSConnection, name) for name in ("connect", "send", "getresponse")),
    (Answer, "begin"),
]


def idle(*_: Any, **__: Any) -> None:
    """Stand in the place of a method, from a file of its own."""


def wrapped(original: Any) -> Any:
    """Wrap as most tools do."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    return wrapper


def proxied(original: Any) -> Any:
    """Wrap as wrapt does: it says that it equals what it wraps."""
    return wrapt.FunctionWrapper(original, lambda call, _, args, kwargs: call(*args, **kwargs))


WAYS: dict[str, Callable[[Any], Any]] = {
    "function": lambda _: idle,
    "wraps": wrapped,
    "wrapt": proxied,
    "mock": lambda _: mock.MagicMock(),
    "autospec": lambda original: mock.create_autospec(original),
    "partial": lambda original: functools.partialmethod(original),
}


@pytest.fixture
def session() -> PooledSession:
    """A client's session, with its two mounts."""
    clock = Clock()
    rules = PoolRules(idle_timeout=1.0, max_idle=1)
    adapter = PooledAdapter(Slots(5, 1.0, clock), rules, clock, RetryConfig(), lambda: None)
    made = PooledSession(Environment.read(HttpClientConfig(trust_env=False)), "Agent/1")
    made.mount("https://", adapter)
    made.mount("http://", adapter)
    return made


@pytest.fixture
def stock(session: PooledSession) -> Stock:
    """What tells of that session."""
    made = Stock(session, session.adapters["http://"])
    assert made.holds()
    assert made.reason() is None
    return made


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize(
    ("owner", "name"), METHODS, ids=[f"{owner.__name__}.{name}" for owner, name in METHODS]
)
def test_a_replaced_method_is_seen(stock: Stock, owner: type[Any], name: str, way: str) -> None:
    """Whatever is put in a method's place is seen at once, and its going too."""
    with mock.patch.object(owner, name, WAYS[way](getattr(owner, name))):
        assert not stock.holds()
        assert not stock.holds()
        assert f"{owner.__name__}.{name} is replaced by " in (stock.reason() or "")
    assert stock.holds()
    assert stock.reason() is None


@pytest.mark.parametrize("names", ["_SESSION", "_POOL", "_URLLIB3", "_CLIENT", "_OWN"])
def test_every_name_that_is_compared_is_seen(stock: Stock, names: str) -> None:
    """No entry of the tables is compared with another's value, or not at all."""
    for owner, name in getattr(module, names):
        with mock.patch.object(owner, name, mock.MagicMock()):
            assert not stock.holds(), (owner, name)
        assert stock.holds(), (owner, name)


@pytest.mark.parametrize("pool", [HTTPConnectionPool, HTTPSConnectionPool])
def test_another_connection_class_is_seen(stock: Stock, pool: type[Any]) -> None:
    """A pool's ConnectionCls that is not urllib3's own is seen, a subclass of it too."""
    with mock.patch.object(pool, "ConnectionCls", type("Own", (HTTPConnection,), {})):
        assert not stock.holds()
        assert "ConnectionCls" in (stock.reason() or "")
    assert stock.holds()


def test_a_tool_over_a_tool_is_seen_until_both_are_gone(stock: Stock) -> None:
    """Of several replacements each one counts, in whatever order they go."""
    first = mock.patch.object(requests.Session, "send", idle)
    second = mock.patch.object(HTTPConnectionPool, "urlopen", idle)
    first.start()
    assert not stock.holds()
    second.start()
    first.stop()
    assert not stock.holds()
    assert "urlopen" in (stock.reason() or "")
    second.stop()
    assert stock.holds()


def test_one_tool_in_the_place_of_another_is_seen(stock: Stock) -> None:
    """A replacement that is replaced itself is still one."""
    with mock.patch.object(requests.Session, "send", idle):
        assert not stock.holds()
        with mock.patch.object(requests.Session, "send", wrapped(idle)):
            assert not stock.holds()
        assert not stock.holds()
    assert stock.holds()


def test_code_that_was_changed_in_its_place_is_seen(stock: Stock) -> None:
    """A function that stays where it is, with other code, is seen; as it was, it is stock."""
    for function in (HTTPConnectionPool.urlopen, http.client.HTTPConnection.request):
        original = function.__code__
        function.__code__ = original.replace(co_consts=(*original.co_consts, print))
        try:
            assert not stock.holds()
            assert "is not what it was when it was compiled" in (stock.reason() or "")
        finally:
            function.__code__ = original
        assert stock.holds()


def test_a_copy_of_a_stock_function_is_stock(stock: Stock) -> None:
    """What counts is the code, not the object: what restores a copy restores."""
    original = requests.Session.send
    copy = types.FunctionType(
        original.__code__, original.__globals__, original.__name__, original.__defaults__
    )
    with mock.patch.object(requests.Session, "send", copy):
        assert stock.holds()
    assert stock.holds()


def test_another_method_of_the_library_is_not_stock(stock: Stock) -> None:
    """A method in another one's place is seen, though its code lies in the library's file."""
    with mock.patch.object(requests.Session, "send", requests.Session.request):
        assert not stock.holds()
    assert stock.holds()


def test_a_marked_function_is_not_stock(stock: Stock) -> None:
    """A function that bears what stock ones do not, ``__wrapped__`` above all, is seen."""
    original = HTTPConnectionPool.urlopen
    copy = types.FunctionType(original.__code__, original.__globals__, "urlopen")
    copy.__wrapped__ = original  # type: ignore[attr-defined]
    with mock.patch.object(HTTPConnectionPool, "urlopen", copy):
        assert not stock.holds()
    assert stock.holds()


@pytest.mark.parametrize("owner", [http.client.HTTPConnection, HTTPConnection, HTTPSConnection])
def test_a_debug_level_is_seen(stock: Stock, owner: type[Any]) -> None:
    """Who has http.client print what it sends wants to read all of it."""
    with mock.patch.object(owner, "debuglevel", 1):
        assert not stock.holds()
        assert "debuglevel is on" in (stock.reason() or "")
    assert stock.holds()


def test_a_log_that_is_on_is_seen(stock: Stock) -> None:
    """Who turns urllib3's log of connections on wants to read all of it."""
    log = logging.getLogger("urllib3.connectionpool")
    level = log.level
    log.setLevel(logging.DEBUG)
    try:
        assert not stock.holds()
        assert "urllib3.connectionpool" in (stock.reason() or "")
    finally:
        log.setLevel(level)
    assert stock.holds()
    assert stock.reason() is None


def put_cookie(session: requests.Session) -> None:
    """Put a cookie in the session's jar."""
    session.cookies.set("a", "b")


class Own(HTTPAdapter):
    """A user's own."""


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "hook": (lambda session: session.hooks["response"].append(print), "hooks"),
    "hooks": (lambda session: setattr(session, "hooks", {"response": [print]}), "hooks"),
    "hook of its own name": (lambda session: session.hooks.update(other=[print]), "hooks"),
    "hooks to come": (lambda session: session.hooks.update(response=deque()), "hooks"),
    "one hook, no list": (lambda session: session.hooks.update(response=print), "hooks"),
    "auth": (lambda session: setattr(session, "auth", ("a", "b")), "auth"),
    "auth object": (lambda session: setattr(session, "auth", HTTPBasicAuth("a", "b")), "auth"),
    "param": (lambda session: session.params.update(a="b"), "params"),
    "params": (lambda session: setattr(session, "params", [("a", "b")]), "params"),
    "params to come": (lambda session: setattr(session, "params", []), "params"),
    "proxy": (lambda session: session.proxies.update(http="http://proxy"), "proxies"),
    "header": (lambda session: session.headers.update({"X-Team": "blue"}), "headers"),
    "header changed": (lambda session: session.headers.update(accept="text/plain"), "headers"),
    "header gone": (lambda session: session.headers.pop("Accept"), "headers"),
    "headers": (lambda session: setattr(session, "headers", {"X-Team": "blue"}), "headers"),
    "cookie": (put_cookie, "cookies"),
    "jar": (lambda session: setattr(session, "cookies", RequestsCookieJar()), "cookies"),
    "mount": (lambda session: session.mount("https://api.example", Own()), "adapters"),
    "mount in the place": (lambda session: session.mount("https://", Own()), "adapters"),
    "mount gone": (lambda session: session.adapters.pop("https://"), "adapters"),
    "adapters": (lambda session: setattr(session, "adapters", {"http://": Own()}), "adapters"),
    "send": (lambda session: setattr(session, "send", idle), "session's send"),
    "send bound": (
        lambda session: setattr(session, "send", types.MethodType(idle, session)),
        "session's send",
    ),
    "get_adapter": (lambda session: setattr(session, "get_adapter", idle), "get_adapter"),
    "class": (
        lambda session: setattr(session, "__class__", type("Sub", (PooledSession,), {})),
        "class",
    ),
    "adapter's send": (
        lambda session: setattr(session.adapters["http://"], "send", idle),
        "adapter's send",
    ),
    "adapter's connections": (
        lambda session: setattr(
            session.adapters["http://"], "get_connection_with_tls_context", idle
        ),
        "adapter's get_connection_with_tls_context",
    ),
    "max_retries": (
        lambda session: setattr(session.adapters["http://"], "max_retries", urllib3.Retry(0)),
        "max_retries",
    ),
    "poolmanager": (
        lambda session: setattr(session.adapters["http://"], "poolmanager", mock.MagicMock()),
        "poolmanager",
    ),
    "pool classes": (
        lambda session: setattr(
            session.adapters["http://"].poolmanager,
            "pool_classes_by_scheme",
            {"http": HTTPConnectionPool, "https": HTTPSConnectionPool},
        ),
        "pool classes",
    ),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
@pytest.mark.parametrize("asked", [True, False], ids=["after a look", "before"])
def test_what_a_user_hangs_on_the_session_is_seen(
    session: PooledSession, change: str, asked: bool
) -> None:
    """Whatever would change or watch an attempt is seen, also where it is changed in its place."""
    stock = Stock(session, session.adapters["http://"])
    if asked:
        assert stock.holds()
    act, word = CHANGES[change]
    act(session)
    assert not stock.holds()
    assert not stock.holds()
    assert word in (stock.reason() or "")


@pytest.mark.parametrize("way", ["hook", "auth", "param", "proxy", "header", "cookie", "send"])
def test_it_comes_back(session: PooledSession, stock: Stock, way: str) -> None:
    """A session that has nothing of the user's any more is stock again."""
    CHANGES[way][0](session)
    assert not stock.holds()
    session.hooks["response"].clear()
    session.auth = None
    session.params.clear()
    session.proxies.clear()
    session.headers.pop("X-Team", None)
    session.cookies.clear()
    vars(session).pop("send", None)
    assert stock.holds()


def test_what_changes_no_attempt_is_no_matter(session: PooledSession, stock: Stock) -> None:
    """What a call never asks the session for may be set: another name, verify, the same headers."""
    session.verify = False
    session.max_redirects = 3
    session.note = "mine"
    session.headers = CaseInsensitiveDict(session.headers)
    session.hooks = {"response": []}
    session.params = {}
    assert stock.holds()
    assert stock.reason() is None
    session.hooks["response"].append(print)
    assert not stock.holds()


def test_a_fork_is_no_matter(session: PooledSession, stock: Stock) -> None:
    """An adapter that began anew in a child, with another manager, is as stock as before."""
    session.adapters["http://"].start_over()
    assert stock.holds()


def test_sessions_know_nothing_of_each_other(session: PooledSession, stock: Stock) -> None:
    """What is hung on one session sends no other client the ordinary way."""
    other = PooledSession(Environment.read(HttpClientConfig(trust_env=False)), "Agent/1")
    other.hooks["response"].append(print)
    assert stock.holds()


def test_requests_mock_is_named_and_leaves_nothing_behind(stock: Stock, session: Any) -> None:
    """It leaves a bound method on each session it saw, which is the stock one."""
    with requests_mock.Mocker() as mocker:
        mocker.get("http://api.example/", text="mocked")
        assert session.get("http://api.example/").text == "mocked"
        assert "requests_mock" in (stock.reason() or "")
        assert not stock.holds()
    assert "get_adapter" in vars(session)
    assert stock.holds()


def test_responses_is_named(stock: Stock) -> None:
    """Responses stands in the place of HTTPAdapter.send."""
    with responses.RequestsMock():
        assert "HTTPAdapter.send is replaced by responses" in (stock.reason() or "")
        assert not stock.holds()
    assert stock.holds()


@pytest.mark.parametrize(
    ("instrumentor", "name"),
    [(RequestsInstrumentor, "requests"), (URLLib3Instrumentor, "urllib3")],
)
def test_opentelemetry_is_named(stock: Stock, instrumentor: Any, name: str) -> None:
    """OpenTelemetry wraps Session.send and urlopen, the latter with what equals the original."""
    instrumentor().instrument()
    try:
        assert not stock.holds()
        assert f"is replaced by opentelemetry.instrumentation.{name}" in (stock.reason() or "")
    finally:
        instrumentor().uninstrument()
    assert stock.holds()


def test_threads_that_ask_disturb_no_answer(stock: Stock, session: PooledSession) -> None:
    """Who puts a tool on or takes it off is told so at once, whoever else looks meanwhile."""
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            stock.holds()
            stock.reason()

    others = [threading.Thread(target=ask) for _ in range(4)]
    for other in others:
        other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(30):
            for owner, name in ((requests.Session, "send"), (HTTPConnectionPool, "urlopen")):
                with mock.patch.object(owner, name, idle):
                    assert not stock.holds()
                assert stock.holds()
            session.hooks["response"].append(print)
            assert not stock.holds()
            session.hooks["response"].clear()
            assert stock.holds()
    finally:
        sys.setswitchinterval(interval)
        done.set()
        for other in others:
            other.join()


def test_a_name_that_is_gone_is_not_stock(stock: Stock) -> None:
    """A version of urllib3 without a name that is looked at has the ordinary way, and no error."""
    original = HTTPConnectionPool._make_request
    del HTTPConnectionPool._make_request
    try:
        module._watch.look()
        assert not stock.holds()
        assert not stock.holds()
        assert "_make_request is not there" in (stock.reason() or "")
    finally:
        HTTPConnectionPool._make_request = original
    assert stock.holds()
