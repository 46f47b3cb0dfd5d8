"""Tells whether anybody looks at the attempts: if nobody does, they may go the direct way."""

from __future__ import annotations

import functools
import http.client
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import CodeType, EllipsisType, FunctionType, MethodType, NoneType
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import PoolManager, connectionpool

from ._answer import Answer
from ._connection import Connection, PlainConnection, TLSConnection
from ._pool import HTTPPool, HTTPSPool
from ._session import PooledAdapter, PooledSession

__all__ = ["Stock"]

_Session = requests.Session
_Pool = connectionpool.HTTPConnectionPool
_TLSPool = connectionpool.HTTPSConnectionPool
# Not where they are at home: there vcrpy may have put others, if it records at our import.
_Urllib3: type[Any] = connectionpool.HTTPConnection  # type: ignore[attr-defined]
_Urllib3TLS: type[Any] = connectionpool.HTTPSConnection  # type: ignore[attr-defined]
_Client: type[Any] = _Urllib3.__mro__[1]
_Response = http.client.HTTPResponse

_Names = tuple[tuple[type[Any], str], ...]
_Found = dict[type[Any], dict[str, Any]]

# Whose attributes are compared at each attempt, in the order of ``_same_pools`` and of
# ``_same_connections``. One that is inherited is whatever it is inherited from.
_SESSION: _Names = (
    *((_Session, "send"), (PooledSession, "send"), (PooledSession, "get_adapter")),
    *((HTTPAdapter, "send"), (PooledAdapter, "send")),
)
_POOL: _Names = (
    *((_Pool, "urlopen"), (_Pool, "_make_request"), (_Pool, "_get_conn"), (_Pool, "_put_conn")),
    *((_Pool, "_new_conn"), (_Pool, "ConnectionCls")),
    *((_TLSPool, "_new_conn"), (_TLSPool, "ConnectionCls")),
    *((HTTPSPool, "_get_conn"), (HTTPSPool, "_put_conn")),
)
_URLLIB3: _Names = (
    *((_Urllib3, "request"), (_Urllib3, "putrequest"), (_Urllib3, "putheader")),
    *((_Urllib3, "endheaders"), (_Urllib3, "send"), (_Urllib3, "connect")),
    *((_Urllib3, "getresponse"), (_Urllib3TLS, "connect")),
)
_CLIENT: _Names = (
    *((_Client, "request"), (_Client, "putrequest"), (_Client, "putheader")),
    *((_Client, "connect"), (_Client, "getresponse"), (_Response, "begin"), (_Response, "read")),
)
_OWN: _Names = (
    *((PlainConnection, "debuglevel"), (Connection, "connect"), (Connection, "send")),
    *((Connection, "getresponse"), (Answer, "begin")),
)
_COMPARED = (_SESSION, _POOL, _URLLIB3, _CLIENT, _OWN)
# These inherit nearly all: what is replaced there is added, and so found by their sizes.
_ADDED_TO = (_TLSPool, HTTPPool, HTTPSPool, _Urllib3TLS, PlainConnection, TLSConnection)
# Some tools (ddtrace) leave a function where it is, and change what it does; those change both.
_CODED: _Names = ((_Pool, "urlopen"), (_Client, "request"))
_of_tls_pool, _of_http, _of_https, _of_tls, _of_own_plain, _of_own_tls = map(vars, _ADDED_TO)
_CONNECTION: _Names = (*_URLLIB3, *_CLIENT, *_OWN)
# Whose names are looked at, in each class that these derive from.
_LEAVES: tuple[tuple[type[Any], _Names], ...] = (
    *((PooledSession, _SESSION), (PooledAdapter, _SESSION), (HTTPPool, _POOL), (HTTPSPool, _POOL)),
    *((PlainConnection, _CONNECTION), (TLSConnection, _CONNECTION), (Answer, _CONNECTION)),
)
_CLASSES: dict[type[Any], type[Any]] = {_Pool: _Urllib3, _TLSPool: _Urllib3TLS}
_LIBRARIES = ("requests", "urllib3", "http", "termai_http")
_BUILT_IN = ("builtins", "io", "_io")
_CONSTANTS = (NoneType, bool, int, float, complex, str, bytes, EllipsisType, slice)
_DEBUG = logging.DEBUG


class _Watch:
    """What stands in the classes, of requests, urllib3, http.client and of this package.

    Attributes:
        reason: What is not stock there; None where all is.
        pools: What stood there at the last look, from the session to the pools.
        connections: The same of connections and answers.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.pools: tuple[tuple[Any, ...], ...] = ()
        self.connections: tuple[tuple[Any, ...], ...] = ()
        self._still: Callable[[], bool] = bool
        self.look()

    def holds(self) -> bool:
        """Tell whether all is stock, at next to no cost where nothing was replaced meanwhile."""
        if self.reason is None:
            if _same_pools(self.pools) and _same_connections(self.connections):
                return True
        elif self._still():
            return False
        return self.look() is None

    def look(self) -> str | None:
        """Look at every class, in full; return what is not stock, whatever others find since."""
        # A copy: what is compared from now on must be what was looked at, and not what came since.
        found = {owner: dict(vars(owner)) for leaf, _ in _LEAVES for owner in leaf.__mro__}
        sessions, pools, *connections = (_values(names, found) for names in _COMPARED)
        codes = tuple(getattr(value, "__code__", None) for value in _values(_CODED, found))
        shapes = (codes, tuple(len(found[owner]) for owner in _ADDED_TO))
        for owner, name, value in _watched(found):
            reason = _foreign(owner, name, value)
            if reason is not None:
                self._still, self.reason = _standing(owner, name, value), reason
                return reason
        self.pools, self.connections = (sessions, pools, *shapes), (*connections, *shapes)
        self.reason = None
        return None


class Stock:
    """Tells whether a client's attempts may go the direct way.

    They may where nothing was put between a call and its socket: no tool in the classes of
    requests, urllib3 and http.client, nothing of the user's on the session, and no log that would
    miss a line. It comes back by itself once a tool is taken off.

    Args:
        session: The client's session, mounted, with nothing of the user's on it yet.
        adapter: What is mounted.
    """

    def __init__(self, session: PooledSession, adapter: PooledAdapter) -> None:
        self._session = session
        self._adapter = adapter
        self._jar: Any = session.cookies
        self._retries = adapter.max_retries
        self._headers: Any = session.headers
        self._fields: dict[str, Any] = dict(self._headers._store)
        self._session_state: dict[str, Any] = {}
        self._adapter_size = 0
        self._manager: Any = None

    def holds(self) -> bool:
        """Tell whether all is stock; asked once an attempt."""
        watch = _watch
        stock = (
            watch.reason is None
            and _same_pools(watch.pools)
            and _same_connections(watch.connections)
        )
        if not stock and not watch.holds():
            return False
        session: Any = self._session
        adapter, jar, headers = self._adapter, self._jar, self._headers
        if (
            type(session) is PooledSession
            and session.__dict__ == self._session_state
            and len(adapter.__dict__) == self._adapter_size
            and adapter.max_retries is self._retries
            and adapter.poolmanager is self._manager
            and self._manager.pool_classes_by_scheme is adapter._classes
            and session.headers is headers
            and headers._store == self._fields
            and not jar._cookies
            and session.cookies is jar
        ):
            return not connectionpool.log.isEnabledFor(_DEBUG)
        return self._look() is None and not connectionpool.log.isEnabledFor(_DEBUG)

    def reason(self) -> str | None:
        """Say in a few words what is not stock; None where all is."""
        if connectionpool.log.isEnabledFor(_DEBUG):
            return "the logger urllib3.connectionpool is on for DEBUG"
        return _watch.look() or self._look()

    def _look(self) -> str | None:
        """Look at session and adapter, in full; remember them where they are stock."""
        session, adapter = _copied(self._session), _copied(self._adapter)
        reason = self._strange_session(session) or self._strange_adapter(adapter)
        if reason is None:
            self._headers, self._manager = session["headers"], adapter["poolmanager"]
            self._session_state, self._adapter_size = session, len(adapter)
        return reason

    def _strange_session(self, state: dict[str, Any]) -> str | None:
        if type(self._session) is not PooledSession:
            return "the session's class was changed"
        for name in ("auth", "params", "proxies"):
            if state[name] or type(state[name]) not in (dict, NoneType):
                return f"the session has {name}"
        if type(state["hooks"]) is not dict or any(own != [] for own in state["hooks"].values()):
            return "the session has hooks"
        headers, jar = state["headers"], state["cookies"]
        if type(headers) is not CaseInsensitiveDict or headers._store != self._fields:
            return "the session's headers were changed"
        if jar is not self._jar or len(jar):
            return "the session has cookies"
        mounted = state["adapters"] if isinstance(state["adapters"], dict) else {}
        others = [item for item in mounted.values() if item is not self._adapter]
        if set(mounted) != {"https://", "http://"} or others:
            return "the session's adapters were changed"
        return _shadowed(self._session, state, "session")

    def _strange_adapter(self, state: dict[str, Any]) -> str | None:
        manager = state["poolmanager"]
        if state["max_retries"] is not self._retries:
            return "the adapter's max_retries was replaced"
        if type(manager) is not PoolManager:
            return "the adapter's poolmanager was replaced"
        if manager.pool_classes_by_scheme is not self._adapter._classes:
            return "the adapter's pool classes were replaced"
        return _shadowed(self._adapter, state, "adapter")


def _same_pools(seen: tuple[tuple[Any, ...], ...]) -> bool:
    # One by one and by identity: wrappers of wrapt say that they equal what they wrap.
    sessions, pools, (code, _), (tls_size, http, https, _, _, _) = seen
    send, own_send, get_adapter, adapter_send, own_adapter_send = sessions
    urlopen, make, get, put, new, cls, tls_new, tls_cls, own_get, own_put = pools
    return (
        _Session.send is send
        and PooledSession.send is own_send
        and PooledSession.get_adapter is get_adapter
        and HTTPAdapter.send is adapter_send
        and PooledAdapter.send is own_adapter_send
        and _Pool.urlopen is urlopen
        and urlopen.__code__ is code
        and _Pool._make_request is make
        and _Pool._get_conn is get
        and _Pool._put_conn is put
        and _Pool._new_conn is new
        and _Pool.ConnectionCls is cls
        and _TLSPool._new_conn is tls_new
        and _TLSPool.ConnectionCls is tls_cls
        and HTTPSPool._get_conn is own_get
        and HTTPSPool._put_conn is own_put
        and len(_of_tls_pool) == tls_size
        and len(_of_http) == http
        and len(_of_https) == https
    )


def _same_connections(seen: tuple[tuple[Any, ...], ...]) -> bool:
    urllib3, client, own, (_, code), (_, _, _, tls_size, plain, tls) = seen
    request, putrequest, putheader, endheaders, send, connect, getresponse, tls_connect = urllib3
    asked, line, field, connected, answered, begin, read = client
    level, own_connect, own_send, own_getresponse, own_begin = own
    return (
        _Urllib3.request is request
        and _Urllib3.putrequest is putrequest
        and _Urllib3.putheader is putheader
        and _Urllib3.endheaders is endheaders
        and _Urllib3.send is send
        and _Urllib3.connect is connect
        and _Urllib3.getresponse is getresponse
        and _Urllib3TLS.connect is tls_connect
        and _Client.request is asked
        and asked.__code__ is code
        and _Client.putrequest is line
        and _Client.putheader is field
        and _Client.connect is connected
        and _Client.getresponse is answered
        and _Response.begin is begin
        and _Response.read is read
        and PlainConnection.debuglevel is level
        and Connection.connect is own_connect
        and Connection.send is own_send
        and Connection.getresponse is own_getresponse
        and Answer.begin is own_begin
        and len(_of_tls) == tls_size
        and len(_of_own_plain) == plain
        and len(_of_own_tls) == tls
    )


def _values(names: _Names, found: _Found) -> tuple[Any, ...]:
    return tuple(_value(owner, name, found) for owner, name in names)


def _value(owner: type[Any], name: str, found: _Found) -> Any:
    """Return what a class has or inherits; None where there is none."""
    homes = (found[base] for base in owner.__mro__ if name in found.get(base, ()))
    return next(homes, {}).get(name)


def _watched(found: _Found) -> Iterator[tuple[type[Any], str, Any]]:
    """Yield every class that ours derive from, with each name to look at that it has itself."""
    for owner, name in itertools.chain(*_COMPARED):
        if _value(owner, name, found) is None:
            yield owner, name, None
    for leaf, names in _LEAVES:
        for owner in leaf.__mro__:
            yield owner, "", None
            if owner.__module__ not in _BUILT_IN:
                own = found[owner]
                yield from ((owner, name, own[name]) for _, name in names if name in own)


def _foreign(owner: type[Any], name: str, value: Any) -> str | None:
    """Say what is not stock of one name of a class, or of the class itself where it is none."""
    place = f"{owner.__module__}.{owner.__qualname__}"
    if not name:
        known = owner.__module__.split(".")[0] in (*_LIBRARIES, *_BUILT_IN)
        return None if known else f"{place} stands in the place of a stock class"
    if name == "debuglevel":
        return f"{place}.debuglevel is on" if value else None
    if value is None:
        return f"{place}.{name} is not there"
    if name == "ConnectionCls":
        stock = value is _CLASSES.get(owner) or isinstance(value, property)
    else:
        stock = _is_stock(value, name, _home(owner.__module__))
    origin = None if stock else _origin(value)
    if origin == owner.__module__:
        return f"{place}.{name} is not what it was when it was compiled"
    return origin and f"{place}.{name} is replaced by {origin}"


def _is_stock(value: Any, name: str, home: str) -> bool:
    if type(value) is not FunctionType or vars(value):
        return False
    code = value.__code__
    return (
        code.co_filename == home
        and code.co_name == name
        # That of super(), where it is used; wrappers have what they wrap in others.
        and code.co_freevars in ((), ("__class__",))
        and all(map(_is_constant, code.co_consts))
    )


def _is_constant(value: Any) -> bool:
    """Tell whether a compiler made it: tools that rewrite code put their own objects there."""
    if isinstance(value, CodeType):
        return all(map(_is_constant, value.co_consts))
    if type(value) in (tuple, frozenset):
        return all(map(_is_constant, value))
    return type(value) in _CONSTANTS


@functools.cache
def _home(module: str) -> str:
    """Return the file of most functions of a module, as their code has it.

    ``__file__`` may be another: in archives, in frozen programs, with compiled files alone.
    """
    files: Counter[str] = Counter()
    for value in list(vars(sys.modules[module]).values()):
        members = list(vars(value).values()) if isinstance(value, type) else [value]
        for member in members:
            if type(member) is FunctionType and member.__module__ == module:
                files[member.__code__.co_filename] += 1
    return files.most_common(1)[0][0] if files else ""


def _origin(value: Any) -> str:
    """Name who made a replacement, as near as can be told."""
    wrapper = getattr(value, "_self_wrapper", value)
    if type(wrapper) is FunctionType:
        return str(wrapper.__globals__.get("__name__", "unknown code"))
    return wrapper.__module__ if isinstance(wrapper, type) else type(value).__module__


def _standing(owner: type[Any], name: str, value: Any) -> Callable[[], bool]:
    """Return what tells, at little cost, that something strange is still where it was."""
    if not name:
        return lambda: True
    names, code = vars(owner), getattr(value, "__code__", None)
    return lambda: names.get(name) is value and getattr(value, "__code__", None) is code


def _shadowed(owner: Any, state: dict[str, Any], what: str) -> str | None:
    """Say which method an object has of its own, in the place of its class's.

    requests-mock leaves the class's own behind, bound; that one is none.
    """
    for name, value in state.items():
        method = getattr(type(owner), name, None)
        bound = isinstance(value, MethodType) and value.__self__ is owner
        if callable(method) and not (bound and value.__func__ is method):
            return f"the {what}'s {name} is replaced by {_origin(value)}"
    return None


def _copied(owner: Any) -> dict[str, Any]:
    """Copy an object's attributes, so that what is changed within them is seen too."""
    found = dict(vars(owner))
    for name, value in found.items():
        if isinstance(value, dict):
            items = dict(value).items()
            found[name] = {key: list(item) if type(item) is list else item for key, item in items}
    return found


_watch = _Watch()
