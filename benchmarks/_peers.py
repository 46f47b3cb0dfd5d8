"""The clients that are measured: each makes the same call, encodes it and decodes the answer.

A worker imports this before anything is measured, so it imports nothing that is not needed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = [
    "ANTHROPIC",
    "CALL_PEERS",
    "CLAUDE",
    "LISTENER",
    "OPENAI",
    "ORDINARY",
    "ORDINARY_WAY",
    "OURS",
    "RAW",
    "REQUESTS",
    "Opened",
    "Peer",
    "Place",
]

RAW, REQUESTS, OPENAI, ANTHROPIC = "raw socket", "requests.Session", "openai SDK", "anthropic SDK"
OURS, CLAUDE, ORDINARY = "termai_http", "termai_http, Claude", "termai_http, ordinary way"
LISTENER = f"{OURS}, a listener"
# What turns the direct way off.
ORDINARY_WAY = (("TERMAI_HTTP_DIRECT", "0"),)
_KEY = "sk-benchmark"
_MESSAGES: list[Any] = [{"role": "user", "content": "hello " * 42}]
_BODY = {"model": "gpt-5.5", "messages": _MESSAGES}
_HEADERS = {"Authorization": f"Bearer {_KEY}", "Content-Type": "application/json"}
_PATH = "/v1/chat/completions"
# Above every wait that a closed loop of 1,000 threads knows.
_TIMEOUT = 300.0


class Place(NamedTuple):
    """Where a peer calls.

    Attributes:
        url: The URL before the API's own path.
        bundle: The CAs to trust.
        threads: How many threads call at once, for the peers whose pool has to be told.
    """

    url: str
    bundle: str
    threads: int


class Opened(NamedTuple):
    """A client that is ready.

    Attributes:
        call: Makes one call.
        close: Closes it.
    """

    call: Callable[[], object]
    close: Callable[[], object]


class Peer(NamedTuple):
    """A client that can be measured.

    Attributes:
        package: What has to be installed, "" where nothing has.
        open: Makes one.
        environment: Variables that it is run with.
    """

    package: str
    open: Callable[[Place], Opened]
    environment: tuple[tuple[str, str], ...] = ()


def _split(place: Place) -> tuple[bool, str, int, str]:
    scheme, _, rest = place.url.partition("://")
    address, slash, prefix = rest.partition("/")
    host, _, port = address.partition(":")
    return scheme == "https", host, int(port), slash + prefix


def _context(place: Place) -> Any:
    import ssl

    return ssl.create_default_context(cafile=place.bundle)


class _PerThread(threading.local):
    """What each thread has of its own."""

    connection: Any = None


def _read_answer(sock: Any) -> bytes:
    data = sock.recv(65536)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(sock)
    at = data.lower().index(b"content-length:") + 15
    whole = end + 4 + int(data[at : data.index(b"\r\n", at)])
    while len(data) < whole:
        data += _more(sock)
    return bytes(data[end + 4 :])


def _more(sock: Any) -> bytes:
    data: bytes = sock.recv(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def _raw(place: Place) -> Opened:
    import socket

    tls, host, port, prefix = _split(place)
    context = _context(place) if tls else None
    body = json.dumps(_BODY).encode()
    head = {"Host": f"{host}:{port}", **_HEADERS, "Content-Length": f"{len(body)}"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    request = f"POST {prefix}{_PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body
    own, opened = _PerThread(), []

    def connect() -> Any:
        sock: Any = socket.create_connection((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own.connection = sock = context.wrap_socket(sock, server_hostname=host) if context else sock
        opened.append(sock)
        return sock

    def call() -> object:
        sock = own.connection or connect()
        sock.sendall(request)
        return json.loads(_read_answer(sock))

    return Opened(call, lambda: [sock.close() for sock in opened])


def _http_client(place: Place) -> Opened:
    import http.client

    tls, host, port, prefix = _split(place)
    context = _context(place) if tls else None
    own, opened = _PerThread(), []

    def connect() -> Any:
        if context is None:
            own.connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
        else:
            own.connection = http.client.HTTPSConnection(
                host, port, timeout=_TIMEOUT, context=context
            )
        opened.append(own.connection)
        return own.connection

    def call() -> object:
        connection = own.connection or connect()
        connection.request("POST", prefix + _PATH, json.dumps(_BODY).encode(), _HEADERS)
        return json.loads(connection.getresponse().read())

    return Opened(call, lambda: [connection.close() for connection in opened])


def _urllib3(place: Place) -> Opened:
    import urllib3

    manager = urllib3.PoolManager(
        maxsize=place.threads, ca_certs=place.bundle, retries=False, timeout=_TIMEOUT
    )
    url = place.url + _PATH

    def call() -> object:
        response = manager.request("POST", url, body=json.dumps(_BODY).encode(), headers=_HEADERS)
        return json.loads(response.data)

    return Opened(call, manager.clear)


def _requests(place: Place) -> Opened:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.verify = place.bundle
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=max(place.threads, 10)))
    url, headers = place.url + _PATH, {"Authorization": f"Bearer {_KEY}"}
    return Opened(
        lambda: session.post(url, json=_BODY, headers=headers, timeout=_TIMEOUT).json(),
        session.close,
    )


def _requests_post(place: Place) -> Opened:
    import requests

    url, headers, bundle = place.url + _PATH, {"Authorization": f"Bearer {_KEY}"}, place.bundle

    def call() -> object:
        response = requests.post(url, json=_BODY, headers=headers, timeout=_TIMEOUT, verify=bundle)
        return response.json()

    return Opened(call, lambda: None)


def _httpx(place: Place) -> Opened:
    import httpx

    limits = httpx.Limits(max_connections=place.threads, max_keepalive_connections=place.threads)
    # As with the SDKs: without TLS, CAs are loaded as by default, and not by us as well.
    verify = _context(place) if place.url.startswith("https") else True
    client = httpx.Client(limits=limits, verify=verify, timeout=_TIMEOUT)
    url, headers = place.url + _PATH, {"Authorization": f"Bearer {_KEY}"}
    return Opened(lambda: client.post(url, json=_BODY, headers=headers).json(), client.close)


def _sdk_options(package: Any, place: Place) -> dict[str, Any]:
    options: dict[str, Any] = {"api_key": _KEY, "max_retries": 0}
    if place.url.startswith("https"):
        options["http_client"] = package.DefaultHttpxClient(verify=_context(place))
    return options


def _openai(place: Place) -> Opened:
    import openai

    client = openai.OpenAI(base_url=f"{place.url}/v1", **_sdk_options(openai, place))
    return Opened(
        lambda: client.chat.completions.create(model="gpt-5.5", messages=_MESSAGES), client.close
    )


def _anthropic(place: Place) -> Opened:
    import anthropic

    client = anthropic.Anthropic(base_url=place.url, **_sdk_options(anthropic, place))
    return Opened(
        lambda: client.messages.create(
            model="claude-opus-5-5", max_tokens=4096, messages=_MESSAGES
        ),
        client.close,
    )


def _ours(place: Place) -> Opened:
    from termai_http import Client, HttpClientConfig

    client = Client(HttpClientConfig(ca_bundle=_trusted(place)))
    base = f"{place.url}/v1"
    return Opened(
        lambda: client.chat(_MESSAGES, model="gpt-5.5", base_url=base, api_key=_KEY), client.close
    )


def _trusted(place: Place) -> str | None:
    return place.bundle if place.url.startswith("https") else None


def _ours_with_claude(place: Place) -> Opened:
    from termai_http import Client, HttpClientConfig

    client = Client(HttpClientConfig(ca_bundle=_trusted(place)))
    url = place.url
    return Opened(
        lambda: client.chat(_MESSAGES, model="claude-opus-5-5", base_url=url, api_key=_KEY),
        client.close,
    )


def _ours_listened_to(place: Place) -> Opened:
    from termai_http import Client, HttpClientConfig

    client = Client(HttpClientConfig(ca_bundle=_trusted(place)))
    client.listen(lambda event: None)
    base = f"{place.url}/v1"
    return Opened(
        lambda: client.chat(_MESSAGES, model="gpt-5.5", base_url=base, api_key=_KEY), client.close
    )


CALL_PEERS = {
    RAW: Peer("", _raw),
    "http.client": Peer("", _http_client),
    "urllib3": Peer("urllib3", _urllib3),
    REQUESTS: Peer("requests", _requests),
    "requests.post a call": Peer("requests", _requests_post),
    "httpx": Peer("httpx", _httpx),
    OPENAI: Peer("openai", _openai),
    ANTHROPIC: Peer("anthropic", _anthropic),
    OURS: Peer("", _ours),
    CLAUDE: Peer("", _ours_with_claude),
    f"{OURS}, orjson": Peer("orjson", _ours),
    ORDINARY: Peer("", _ours, ORDINARY_WAY),
    LISTENER: Peer("", _ours_listened_to),
}
