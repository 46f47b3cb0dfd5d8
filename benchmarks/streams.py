"""Streams: CPU of an event, time to the first text, memory; beside the SDKs and ``requests``."""

from __future__ import annotations

import functools
import importlib.util
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs
import requests

from termai_http import Client, HttpClientConfig, Limits, Stream

from ._measure import interleaved
from ._stream_upstream import FULL, LONG, PACED, streaming
from ._tables import table

__all__ = ["event_cost", "first_text", "memory", "missing"]

_KEY = "sk-benchmark"
_MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
_OURS, _EVENTS, _PLAIN = "stream()", "stream().events()", "requests, json"
# Streams the texts of a reply, whose URL begins so.
_Peer: TypeAlias = Callable[[str], Iterator[str]]


@attrs.frozen
class _Api:
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
    options: Mapping[str, str]


_CHAT = _Api("chat", "openai", "/v1/chat/completions", {"model": "gpt-5.5"})
_RESPONSES = _Api("responses", "openai", "/v1/responses", {"model": "gpt-5.5", "api": "responses"})
_CLAUDE = _Api("Claude", "anthropic", "/v1/messages", {"model": "claude-opus-5-5"})
_APIS = (_CHAT, _RESPONSES, _CLAUDE)
_QUICK = (_CHAT, _CLAUDE)


def _open(client: Client, api: _Api, url: str) -> Stream:
    base = url if api is _CLAUDE else f"{url}/v1"
    options: dict[str, Any] = dict(api.options)
    return client.stream(_MESSAGES, base_url=base, api_key=_KEY, **options)


def _texts_of_events(client: Client, api: _Api, url: str) -> Iterator[str]:
    return (event.text for event in _open(client, api, url).events() if event.type == "text")


def _plain(session: requests.Session, api: _Api, url: str) -> Iterator[str]:
    """Stream with nothing but requests and json, and without most of the rules."""
    with session.post(f"{url}{api.path}", json={"stream": True}, stream=True) as response:
        for line in response.iter_lines(chunk_size=65536):
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                choices = event.get("choices")
                delta = choices[0]["delta"] if choices else event.get("delta", {})
                if not isinstance(delta, str):
                    delta = delta.get("content") or delta.get("text") or ""
                yield delta


def _with_anthropic(url: str) -> Iterator[str]:
    events = _anthropic_client(url).messages.create(
        model="claude-opus-5-5", max_tokens=4096, messages=_MESSAGES, stream=True
    )
    return (event.delta.text for event in events if event.type == "content_block_delta")


def _with_openai(url: str) -> Iterator[str]:
    chunks = _openai_client(url).chat.completions.create(
        model="gpt-5.5", messages=_MESSAGES, stream=True
    )
    return (chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _with_openai_responses(url: str) -> Iterator[str]:
    events = _openai_client(url).responses.create(model="gpt-5.5", input=_MESSAGES, stream=True)
    return (event.delta for event in events if event.type == "response.output_text.delta")


@functools.lru_cache
def _openai_client(url: str) -> Any:
    import openai

    return openai.OpenAI(api_key=_KEY, base_url=f"{url}/v1")


@functools.lru_cache
def _anthropic_client(url: str) -> Any:
    import anthropic

    return anthropic.Anthropic(api_key=_KEY, base_url=url)


_SDKS: dict[str, _Peer] = {
    _CHAT.name: _with_openai,
    _RESPONSES.name: _with_openai_responses,
    _CLAUDE.name: _with_anthropic,
}


def _peers(client: Client, session: requests.Session, api: _Api) -> dict[str, _Peer]:
    found: dict[str, _Peer] = {_PLAIN: functools.partial(_plain, session, api)}
    if importlib.util.find_spec(api.sdk) is not None:
        found[f"{api.sdk} SDK"] = _SDKS[api.name]
    found[_OURS] = functools.partial(_open, client, api)
    found[_EVENTS] = functools.partial(_texts_of_events, client, api)
    return found


def _read(peer: _Peer, url: str, last: str) -> None:
    text = ""
    for piece in peer(url):
        text = piece or text
    if text != last:
        raise RuntimeError(f"the last text was {text!r}")


def _client(**config: Any) -> Client:
    return Client(HttpClientConfig(trust_env=False, **config))


def event_cost(*, quick: bool) -> str:
    """CPU of an event, where all of them come at once, and where one comes each millisecond."""
    rows = []
    with streaming() as url, _client() as client, requests.Session() as session:
        session.trust_env = False
        for how, events, rounds in (("full", FULL, 3), ("paced", PACED, 2)):
            for api in _QUICK if quick and how == "paced" else _APIS:
                peers = _peers(client, session, api)
                calls = {
                    name: functools.partial(_read, peer, f"{url}/{how}", f"word{events - 1} ")
                    for name, peer in peers.items()
                }
                found = interleaved(calls, rounds=rounds if quick else 5 * rounds, calls=1)
                base = found.get(f"{api.sdk} SDK")
                when = "at once" if how == "full" else "1 a ms"
                for name, figure in found.items():
                    ratio = "" if base is None else f"{figure.median / base.median:.3f}"
                    median, spread = figure.median / events, figure.spread / events
                    row = [f"{name}, {api.name}, {when}", f"{median:.2f}", f"± {spread:.2f}", ratio]
                    rows.append(row)
    title = (
        "CPU of one streamed event (goals: at once 0.20 of the openai, 0.40 of the anthropic SDK)"
    )
    return table(title, ["peer", "µs", "spread", "to the SDK"], rows)


def _wait_for_text(peer: _Peer, url: str) -> float:
    """Return the seconds from the sending of the first text to the moment somebody has it."""
    pieces = iter(peer(url))
    piece = ""
    while not piece:
        piece = next(pieces)
    taken = time.monotonic() - float(piece)
    for _ in pieces:
        pass
    return taken


def first_text(*, quick: bool) -> str:
    """Time from the sending of a first text, which follows the begin, until it is handed out."""
    rows = []
    with streaming() as url, _client() as client, requests.Session() as session:
        session.trust_env = False
        for api in _QUICK if quick else _APIS:
            peers = _peers(client, session, api)
            taken: dict[str, list[float]] = {name: [] for name in peers}
            for number in range(90 if quick else 500):
                for name, peer in peers.items():
                    seconds = _wait_for_text(peer, f"{url}/stamped")
                    # The first ones import and connect.
                    if number >= 10:
                        taken[name].append(seconds * 1e6)
            for name, times in taken.items():
                cuts = statistics.quantiles(times, n=100)
                figures = [f"{cuts[at]:.0f}" for at in (49, 89, 98)]
                rows.append([f"{name}, {api.name}", *figures])
    title = "From the sending of the first text until it is handed out (goal: 1,000 µs)"
    return table(title, ["peer", "median µs", "p90", "p99"], rows)


def memory(*, quick: bool) -> str:
    """Most memory that a long stream takes while it is read, and for its reply, beside its text."""
    rows = []
    how = "quick" if quick else "long"
    # The last event of a response has all of its text once more.
    limits = Limits(body=2**30, stream_line=2**26, stream_event=2**26)
    with streaming() as url, _client(limits=limits) as client:
        for api in _QUICK if quick else _APIS:
            # What the first stream imports is no memory of a long one.
            _read(functools.partial(_open, client, api), f"{url}/full", f"word{FULL - 1} ")
            tracemalloc.start()
            text, reading = 0, 0
            for piece in _open(client, api, f"{url}/{how}"):
                text += len(piece)
                reading = tracemalloc.get_traced_memory()[1]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            figures = (text, reading - text, peak - text)
            rows.append([api.name, *(f"{figure / 1e6:.1f}" for figure in figures)])
    title = f"Memory of a stream of {LONG[how]:,} events, in MB (it grows with the text alone)"
    return table(title, ["API", "text", "beside it, reading", "at the end"], rows)


def missing() -> str:
    """Tell which SDKs are not here to be measured, "" where none is missing."""
    names = {api.sdk for api in _APIS if importlib.util.find_spec(api.sdk) is None}
    if not names:
        return ""
    found = " and ".join(sorted(names))
    return f"Not measured, since not installed: {found} (benchmarks/requirements.txt)\n"
