"""Makes one chosen call to the system fail: sockets, TLS, name resolution, polling, locks, threads.

Only calls of the threads that are armed count, so that nobody else is hit. What is patched is
patched on the classes that Python itself, urllib3 and requests use.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import attrs

__all__ = ["Failure", "Saboteur"]

_RealLock = threading.Lock
_shutdown = socket.socket.shutdown
_SOCKET = (
    *("bind", "close", "connect_ex", "getsockopt", "makefile", "recv", "recv_into"),
    *("send", "sendall", "setblocking", "setsockopt", "settimeout", "shutdown"),
)
_TLS_SOCKET = ("do_handshake", "read", "recv_into", "send", "sendall", "shutdown", "unwrap")
_TLS_CONTEXT = ("load_verify_locations", "set_alpn_protocols", "wrap_socket")


def _os_error(code: int) -> Callable[[], OSError]:
    return lambda: OSError(code, os.strerror(code))


def _tls_error(cls: type[ssl.SSLError], code: int, reason: str) -> ssl.SSLError:
    error = cls(code, f"[SSL: {reason}] injected")
    # Only the C code sets them by itself.
    error.library, error.reason = "SSL", reason
    return error


_ERRORS: dict[str, Callable[[], BaseException]] = {
    "memory": lambda: MemoryError("injected"),
    "reset": _os_error(errno.ECONNRESET),
    "no descriptor": _os_error(errno.EMFILE),
    "timeout": lambda: TimeoutError("timed out"),
    "name": lambda: socket.gaierror(socket.EAI_AGAIN, "injected"),
    "tls": lambda: _tls_error(ssl.SSLError, 1, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
    "tls end": lambda: _tls_error(ssl.SSLEOFError, 8, "UNEXPECTED_EOF_WHILE_READING"),
    "no thread": lambda: RuntimeError("can't start new thread"),
}


def _errors_of(name: str) -> tuple[str, ...]:
    """Return how a call can fail, as fits it."""
    kind, _, method = name.partition(".")
    if kind == "lock":
        return ("memory",)
    if kind == "thread":
        return "memory", "no thread"
    if name == "socket.__init__":
        return "memory", "no descriptor"
    if kind == "names":
        return "memory", "name"
    if kind in ("tls", "context"):
        silent = ("timeout",) if method in ("do_handshake", "read", "send") else ()
        return "memory", "reset", "tls", "tls end", *silent
    return ("memory", "reset", "timeout") if "recv" in method else ("memory", "reset")


@attrs.frozen
class Failure:
    """One failure to be: which call of a name, counted from 0, and how it fails."""

    name: str
    index: int
    error: str

    def __str__(self) -> str:
        return f"{self.name} number {self.index} ({self.error})"


class Saboteur:
    """Counts the fallible calls of armed threads, and lets one of them fail.

    Attributes:
        names: The calls that were counted, by name.
        fired: Where the failure happened; empty where it did not.
        error: What was raised; None where nothing was.
    """

    def __init__(self) -> None:
        self._armed: set[int] = set()
        self._lock = _RealLock()
        self._failure: Failure | None = None
        self.on_read: Callable[[], None] = lambda: None
        self.prepare(None)

    def prepare(self, failure: Failure | None) -> None:
        """Begin to count anew, and let this fail; None for nothing."""
        self._failure = failure
        self.names: list[str] = []
        self._seen: Counter[str] = Counter()
        self.fired = ""
        self.error: BaseException | None = None

    def forget_traceback(self) -> None:
        """Let go of the frames that what was raised came through, and of all that they hold."""
        if self.error is not None:
            self.error.__traceback__ = self.error.__context__ = None

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Count the calls of this thread."""
        self._armed.add(threading.get_ident())
        try:
            yield
        finally:
            self._armed.discard(threading.get_ident())

    def failures(self) -> list[Failure]:
        """Return all ways in which the counted calls can fail, one by one."""
        found = []
        seen: Counter[str] = Counter()
        for name in self.names:
            found += [Failure(name, seen[name], error) for error in _errors_of(name)]
            seen[name] += 1
        return found

    def meet(self, name: str, subject: Any = None) -> None:
        """Count a call, and raise where it is the one that fails; on ``subject``, a socket say."""
        if threading.get_ident() not in self._armed or not (place := _place()):
            return
        with self._lock:
            index = self._seen[name]
            self._seen[name] += 1
            self.names.append(name)
        failure = self._failure
        if failure is not None and (name, index) == (failure.name, failure.index):
            self.error = _ERRORS[failure.error]()
            if failure.error in ("reset", "tls end") and isinstance(subject, socket.socket):
                # After a real one nothing comes any more.
                with contextlib.suppress(OSError):
                    _shutdown(subject, socket.SHUT_RDWR)
            self.fired = place
            raise self.error
        if name.endswith(("recv", "recv_into", "read")) or name == "poll.poll":
            self.on_read()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Patch everything."""
        with contextlib.ExitStack() as stack:
            patch = stack.enter_context
            for cls, kind, names in (
                (socket.socket, "socket", (*_SOCKET, "__init__")),
                (ssl.SSLSocket, "tls", _TLS_SOCKET),
                (ssl.SSLContext, "context", _TLS_CONTEXT),
                (threading.Thread, "thread", ("start",)),
            ):
                for name in names:
                    patch(mock.patch.object(cls, name, self._method(cls, f"{kind}.{name}", name)))
            for module, kind, name in (
                (socket, "names", "getaddrinfo"),
                (select, "poll", "poll"),
                (select, "select", "select"),
            ):
                if hasattr(module, name):
                    patch(mock.patch.object(module, name, self._function(module, kind, name)))
            patch(mock.patch.object(threading, "Lock", self._make_lock))
            yield

    def _method(self, cls: type[Any], label: str, name: str) -> Callable[..., Any]:
        real = getattr(cls, name)

        def method(subject: Any, *args: Any, **kwargs: Any) -> Any:
            if name == "connect_ex":
                return self._connect(real, subject, *args)
            if name == "close":
                # The system closes a descriptor also where it tells of a failure.
                real(subject)
                self.meet(label)
                return None
            self.meet(label, subject)
            return real(subject, *args, **kwargs)

        return method

    def _connect(self, real: Callable[..., int], subject: Any, address: Any) -> int:
        """Connect; this one tells of its failures by its value."""
        try:
            self.meet("socket.connect_ex")
        except OSError as error:
            return error.errno or errno.EIO
        return real(subject, address)

    def _function(self, module: Any, kind: str, name: str) -> Callable[..., Any]:
        real = getattr(module, name)

        def function(*args: Any, **kwargs: Any) -> Any:
            self.meet(f"{kind}.{name}")
            return real(*args, **kwargs)

        return function

    def _make_lock(self) -> Any:
        maker = sys._getframe(1).f_globals.get("__name__", "")
        return _FallibleLock(self) if maker.startswith("termai_http") else _RealLock()


class _FallibleLock:
    """A lock of the package."""

    def __init__(self, saboteur: Saboteur) -> None:
        self._saboteur = saboteur
        self._lock = _RealLock()
        self.release = self._lock.release
        self.locked = self._lock.locked

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""
        self._saboteur.meet("lock.acquire")
        return self._lock.acquire(blocking, timeout)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


def _place() -> str:
    """Tell where in the package, or below it, a call was made; empty where it was not."""
    found: list[str] = []
    frame = sys._getframe(2)
    while frame is not None and len(found) < 4:
        module = frame.f_globals.get("__name__", "")
        if module.split(".")[0] in ("termai_http", "urllib3", "requests"):
            found.append(f"{module}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(found)
