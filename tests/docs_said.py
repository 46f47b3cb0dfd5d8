"""What ``docs/troubleshooting.rst`` quotes, made to be said: the fault, and the text that comes."""

from __future__ import annotations

import logging
import pickle
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import trustme

import termai_http
from termai_http import Client, HttpClientConfig, RetryConfig, chat, client_with_config, stream
from termai_http.errors import ResourceError
from termai_http.testing import CutAfter, Fault, Html, ResetAfterRead, Server, Silent, Status

_ONCE = HttpClientConfig(retry=RetryConfig(max_attempts=1), trust_env=False)


def all_said(server: Server) -> list[str]:
    """Return every text that the page may quote, as ``Class: text`` or as a line of the log."""
    said = [*_of_answers(server), *_of_places(server), *_of_configuration(), *_of_the_log()]
    return [*said, f"ResourceError: {ResourceError('This process has no file descriptor left.')}"]


def _said(make: Callable[[], Any]) -> str:
    try:
        value = make()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError(f"nothing was wrong, and {value!r} came")


def _of_answers(server: Server) -> Iterator[str]:
    def say(fault: Fault, config: HttpClientConfig = _ONCE, **options: Any) -> str:
        with Client(config) as client:
            # A connection is there, so that no time of the fault's goes into opening one.
            chat("Hi", model="gpt-5.5", client=client)
            server.script(fault)
            return _said(lambda: chat("Hi", model="gpt-5.5", client=client, **options))

    yield say(Silent(), timeout=0.5)
    yield say(Silent(), _ONCE.evolve(read_timeout=0.5))
    yield say(Status(429, retry_after=600), HttpClientConfig(), timeout=30)
    yield say(Status(429, code="insufficient_quota"))
    yield say(Status(404))
    yield say(Status(302, headers={"Location": "https://login.example"}))
    yield say(Html())
    yield say(ResetAfterRead())
    server.script(CutAfter(3))
    yield _said(lambda: list(stream("Hi", model="gpt-5.5")))
    yield _said(lambda: chat("Hi", model="claude-x", temperature=0.2, api_version="2026-10-21"))
    with Client(_ONCE.evolve(max_connections=1)) as client, client.stream("Hi", model="gpt-5.5"):
        yield _said(lambda: chat("Hi", model="gpt-5.5", client=client, timeout=0.2))


def _of_places(server: Server) -> Iterator[str]:
    def say(base_url: str, config: HttpClientConfig = _ONCE) -> str:
        with Client(config) as client:
            return _said(lambda: chat("Hi", model="gpt-5.5", client=client, base_url=base_url))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    yield say("http://gateway.example")
    yield say("https://nowhere.invalid")
    proxies = {"https": f"http://127.0.0.1:{closed}"}
    yield say("https://api.example", _ONCE.evolve(proxies=proxies))
    yield from _of_tls(say)


def _of_tls(say: Callable[[str], str]) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Server(tls=context) as private:
        yield say(private.openai_url)


def _of_configuration() -> Iterator[str]:
    yield _said(lambda: chat("Hi", model="gpt-5.5", timout=3))
    yield _said(lambda: pickle.dumps(termai_http.client()))
    yield _said(lambda: termai_http.initialize(HttpClientConfig()))


def missing_key() -> str:
    """Return what is said where no key is set."""
    return _said(lambda: chat("Hi", model="gpt-5.5", base_url="https://api.example"))


class _Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _of_the_log() -> list[str]:
    log, kept = logging.getLogger("termai_http"), _Lines()
    log.addHandler(kept)
    clients = [client_with_config(HttpClientConfig(timeout=77.7)) for _ in range(10)]
    HttpClientConfig.from_env({"TERMAI_HTTP_TIMOUT": "3"})
    for client in clients:
        client.close()
    log.removeHandler(kept)
    return kept.lines
