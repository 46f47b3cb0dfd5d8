"""The clients whose streams are measured: each yields the texts of a reply, JSON decoded.

A worker imports this before anything is measured, so it imports nothing that is not needed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from ._peers import ORDINARY, ORDINARY_WAY, OURS, RAW

__all__ = ["APIS", "STREAM_PEERS", "Api", "StreamPeer", "Texts"]

_KEY = "sk-benchmark"
_MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
# Takes the URL before the API's path; yields the texts.
Texts: TypeAlias = Callable[[str], Iterator[str]]


class Api(NamedTuple):
    """One of the vendors' APIs.

    Attributes:
        name: Its name.
        sdk: The package of the vendor's own SDK.
        path: What stands behind the URL.
        options: What ``stream()`` takes to speak it.
    """

    name: str
    sdk: str
    path: str
    options: dict[str, str]


APIS = {
    api.name: api
    for api in (
        Api("chat", "openai", "/v1/chat/completions", {"model": "gpt-5.5"}),
        Api("responses", "openai", "/v1/responses", {"model": "gpt-5.5", "api": "responses"}),
        Api("Claude", "anthropic", "/v1/messages", {"model": "claude-opus-5-5"}),
    )
}


class StreamPeer(NamedTuple):
    """A client whose streams can be measured.

    Attributes:
        package: What has to be installed, "" where nothing has; an SDK stands for its own API's.
        open: Returns what streams an API's texts.
        environment: Variables that it is run with.
    """

    package: str
    open: Callable[[Api], Texts]
    environment: tuple[tuple[str, str], ...] = ()


def _text(event: dict[str, Any]) -> str:
    choices = event.get("choices")
    delta = choices[0]["delta"] if choices else event.get("delta", {})
    if isinstance(delta, str):
        return delta
    return delta.get("content") or delta.get("text") or ""


def _raw(api: Api) -> Texts:
    """Stream with nothing but a socket; right for this upstream alone, an event a chunk."""
    import socket

    kept: list[socket.socket] = []

    def texts(url: str) -> Iterator[str]:
        address, _, prefix = url.partition("://")[2].partition("/")
        host, _, port = address.partition(":")
        if not kept:
            kept.append(socket.create_connection((host, int(port))))
            kept[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock, body = kept[0], b'{"stream":true}'
        head = f"POST /{prefix}{api.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}"
        sock.sendall(head.encode() + b"\r\n\r\n" + body)
        rest = tail = b""
        while tail != b"0\r\n\r\n":
            received = sock.recv(65536)
            if not received:
                raise ConnectionError("the server closed the connection")
            tail = (tail + received)[-5:]
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    yield _text(json.loads(line[6:]))

    return texts


def _urllib3(api: Api) -> Texts:
    import urllib3

    manager = urllib3.PoolManager(retries=False)

    def texts(url: str) -> Iterator[str]:
        response = manager.request(
            "POST", url + api.path, body=b'{"stream":true}', preload_content=False
        )
        rest = b""
        for piece in response.stream(65536):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    yield _text(json.loads(line[6:]))
        response.release_conn()

    return texts


def _requests(api: Api) -> Texts:
    import requests

    session = requests.Session()

    def texts(url: str) -> Iterator[str]:
        with session.post(url + api.path, json={"stream": True}, stream=True) as response:
            for line in response.iter_lines(chunk_size=65536):
                if line.startswith(b"data: {"):
                    yield _text(json.loads(line[6:]))

    return texts


def _httpx(api: Api) -> Texts:
    import httpx

    client = httpx.Client(timeout=60)

    def texts(url: str) -> Iterator[str]:
        with client.stream("POST", url + api.path, json={"stream": True}) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    yield _text(json.loads(line[6:]))

    return texts


@functools.lru_cache
def _openai_client(url: str) -> Any:
    import openai

    return openai.OpenAI(api_key=_KEY, base_url=f"{url}/v1", max_retries=0)


@functools.lru_cache
def _anthropic_client(url: str) -> Any:
    import anthropic

    return anthropic.Anthropic(api_key=_KEY, base_url=url, max_retries=0)


def _openai_chat(url: str) -> Iterator[str]:
    chunks = _openai_client(url).chat.completions.create(
        model="gpt-5.5", messages=_MESSAGES, stream=True
    )
    return (chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _openai_responses(url: str) -> Iterator[str]:
    events = _openai_client(url).responses.create(model="gpt-5.5", input=_MESSAGES, stream=True)
    return (event.delta for event in events if event.type == "response.output_text.delta")


def _anthropic(url: str) -> Iterator[str]:
    events = _anthropic_client(url).messages.create(
        model="claude-opus-5-5", max_tokens=4096, messages=_MESSAGES, stream=True
    )
    return (event.delta.text for event in events if event.type == "content_block_delta")


_SDKS: dict[str, Texts] = {
    "chat": _openai_chat,
    "responses": _openai_responses,
    "Claude": _anthropic,
}


def _opened(api: Api) -> Callable[[str], Any]:
    from termai_http import Client, HttpClientConfig, Limits

    # The last event of a long response has all of its text once more.
    limits = Limits(body=2**30, stream_line=2**26, stream_event=2**26)
    client = Client(HttpClientConfig(limits=limits))
    options: dict[str, Any] = dict(api.options)
    path = "" if api.name == "Claude" else "/v1"
    return lambda url: client.stream(_MESSAGES, base_url=url + path, api_key=_KEY, **options)


def _ours(api: Api) -> Texts:
    opened = _opened(api)
    return lambda url: iter(opened(url))


def _ours_as_events(api: Api) -> Texts:
    opened = _opened(api)
    return lambda url: (event.text for event in opened(url).events() if event.type == "text")


STREAM_PEERS = {
    RAW: StreamPeer("", _raw),
    "urllib3, json": StreamPeer("urllib3", _urllib3),
    "requests, json": StreamPeer("requests", _requests),
    "httpx, json": StreamPeer("httpx", _httpx),
    "openai SDK": StreamPeer("openai", lambda api: _SDKS[api.name]),
    "anthropic SDK": StreamPeer("anthropic", lambda api: _SDKS[api.name]),
    OURS: StreamPeer("", _ours),
    f"{OURS}, events()": StreamPeer("", _ours_as_events),
    f"{OURS}, orjson": StreamPeer("orjson", _ours),
    ORDINARY: StreamPeer("", _ours, ORDINARY_WAY),
}
