"""Where the microseconds of a call go: each part by itself, what lies below it left out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from termai_http import (
    ChatRequest,
    Client,
    HttpClientConfig,
    _chat,
    _client,
    _json,
    _transport,
)
from termai_http._answer_head import read_head
from termai_http._direct import DirectAnswer
from termai_http._lease import Lease, LeaseHolder
from termai_http._options import CallOptions
from termai_http._target import Account
from termai_http._transport import Transport

from ._measure import Bench
from ._replies import BODIES, HEADERS
from ._tables import Table, number, spread

__all__ = ["parts"]

_PART, _WHOLE = "CPU of a part", "the whole call"
_MESSAGES: list[Any] = [{"role": "user", "content": "hello " * 42}]
_KEY = "sk-benchmark"
_MOST = 2**26


def _answer() -> bytes:
    body = BODIES["/v1/chat/completions"].encode()
    lines = [f"{name}: {value}" for name, value in HEADERS]
    lines += ["Server: nginx", "Date: Wed, 25 Nov 2026 00:00:00 GMT", "Connection: keep-alive"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode() + body


class _Call:
    """One call taken apart, on a client whose connection is open."""

    def __init__(self, client: Client, url: str) -> None:
        self._client, self._url = client, url
        self.whole()
        self.came = _answer()
        self._core = client._core
        self._transport = self._core.transport()
        self._options = CallOptions(api_key=_KEY, base_url=f"{url}/v1")
        self._request = ChatRequest(model="gpt-5.5", messages=_MESSAGES)
        self._account = Account(provider="openai")
        self._plan = _chat._prepare(self._core, self._account, self._request, self._options)
        self._job = _chat._job(self._plan, self._options, 0.0)
        self._outgoing = self._transport.prepare(
            "POST", self._job.url, self._job.headers, self._job.body
        )
        self._running = self._core._new_call(self._job, 120.0)
        self._attempt = self._running.begin_attempt(
            fresh=False, pooled=True, limits=self._core._limits
        )
        head = read_head(self.came)
        assert head is not None
        self.answer = DirectAnswer(200, head.headers, self.came[head.size :])

    def whole(self) -> object:
        """All of it."""
        return self._client.chat(
            _MESSAGES, model="gpt-5.5", base_url=f"{self._url}/v1", api_key=_KEY
        )

    def encode(self) -> object:
        """Options, key and prompt to a URL, headers and a body."""
        plan = _chat._prepare(self._core, self._account, self._request, self._options)
        return _chat._job(plan, self._options, 0.0)

    def run(self) -> object:
        """Deadline, figures, events, the loop of attempts and its gate."""
        return self._core.run(self._job, lambda answer, call: answer)

    def attempt(self) -> object:
        """Lease, choice of the way, errors."""
        return self._transport.exchange(self._outgoing, self._attempt)

    def lend(self) -> object:
        """The slot and the connection, there and back."""
        lease = Lease(self._transport._slots, self._attempt)
        holder = LeaseHolder(lease)
        pool = self._outgoing.route.pool()
        pool.take_back(pool.lend(lease), lease)
        return holder

    def head(self) -> object:
        """The answer's head."""
        return read_head(self.came)

    def decode(self) -> object:
        """The body to a reply."""
        return _chat._read(self.answer, self._running, self._plan)


def _doing(what: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: what


def _parts(call: _Call) -> dict[str, tuple[Callable[[], object], Any]]:
    """Return the parts, each with what replaces the parts below it while it is measured."""
    nothing = contextlib.nullcontext()
    return {
        _WHOLE: (call.whole, nothing),
        "the face: arguments, options": (
            call.whole,
            mock.patch.object(_client, "send_chat", _doing(call.answer)),
        ),
        "target, key, body as JSON": (call.encode, nothing),
        "deadline, figures, attempts": (
            call.run,
            mock.patch.object(Transport, "exchange", _doing(call.answer)),
        ),
        "an attempt's frame: lease, way": (
            call.attempt,
            mock.patch.object(_transport, "send_direct", _doing(call.answer)),
        ),
        "slot and connection, there and back": (call.lend, nothing),
        "the answer's head": (call.head, nothing),
        "the reply: JSON, decode": (call.decode, nothing),
    }


def _measure(call: _Call, bench: Bench) -> None:
    count = 200 if bench.quick else 500
    found = _parts(call)
    for turn in bench.rounds(list(found), seconds=3 if bench.quick else 15, least=5):
        for name in turn:
            do, replaced = found[name]
            with replaced:
                do()
                begun = time.process_time()
                for _ in range(count):
                    do()
                bench.note(_PART, name, (time.process_time() - begun) / count)


def parts(bench: Bench) -> list[Table]:
    """CPU of each part of a plain call with the standard library's json."""
    _json.use(None)
    config = HttpClientConfig(trust_env=False)
    with Client(config) as client:
        _measure(_Call(client, bench.place().url), bench)
    names = list(dict.fromkeys(who for what, who in bench.found if what == _PART))
    names.sort(key=lambda name: bench.median(_PART, name) or 0.0, reverse=True)
    whole = bench.median(_PART, _WHOLE) or 0.0
    rows, known = [], 0.0
    for name in names:
        figure = bench.figure(_PART, name)
        median = bench.median(_PART, name) or 0.0
        known += 0.0 if name == _WHOLE else median
        rows.append([name, *spread(figure, 1, 1e6), number(median / whole, 0, 100)])
    rest = whole - known
    rows.append(["the rest: the system's send and recv, and what is between", number(rest, 1, 1e6)])
    rows[-1] += ["", number(rest / whole, 0, 100)]
    return [Table("Where a call's microseconds go", ["part", "CPU µs", "", "%"], rows)]
