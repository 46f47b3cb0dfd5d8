"""Answers with 20,000 random and mutated byte strings, on a real socket.

``python -m tests.evidence.fuzz`` prints one line and exits with 1 where a call ends with anything
but a reply or an error of ours, ends late, leaves anything behind, or fills the memory. ``--seed``
of an earlier run, in its line, repeats it.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import attrs
import hypothesis
from hypothesis import HealthCheck, Phase, strategies

from termai_http import (
    ChatResponse,
    Client,
    HttpClientConfig,
    Limits,
    RetryConfig,
    TermaiHttpError,
)

from . import answers, support
from .support import KEY, MODELS, Lateness, Result

_AT_ONCE = 1_000
_TIMEOUT = 0.4
_OVERRUN = 0.25
_MOST_GROWTH = {True: 48e6, False: 8e6}
_HIGHEST_PEAK = 96e6
_LIMITS = Limits(body=2**20, headers=2**16, error_body=2**14, stream_line=2**16, stream_event=2**17)
_CONFIG = HttpClientConfig(
    timeout=_TIMEOUT,
    stream_timeout=_TIMEOUT,
    retry=RetryConfig(max_attempts=2, base_delay=0.0, max_delay=0.0),
    limits=_LIMITS,
    trust_env=False,
)

_NAMES = (
    b"Content-Length",
    b"Transfer-Encoding",
    b"Content-Encoding",
    b"Content-Type",
    b"Connection",
    b"Retry-After",
    b"retry-after-ms",
    b"x-should-retry",
    b"Location",
    b"Set-Cookie",
    b"Keep-Alive",
    b"Trailer",
    b"x-request-id",
    b"",
    b"X \xff",
)
_VALUES = (
    *(b"0", b"1", b"5", b"-5", b"+5", b"5, 5", b"5, 6", b"1_0", b"0x10", b"1e3", b"nan", b"inf"),
    *(b"99999999999999999999", b"9" * 5000, b"", b" ", b"\t7\t", b"1.5", b".", b"\xd9\xa3"),
    *(b"chunked", b"Chunked", b"chunked, chunked", b"gzip, chunked", b"identity", b"xchunked"),
    *(b"gzip", b"x-gzip", b"br", b"zstd", b"deflate", b"gzip, gzip", b"close", b"keep-alive"),
    *(b"text/event-stream", b"application/json", b"text/html; charset=utf-16", b"/;;;=\x00"),
    *(b"true", b"false", b"http://[bad", b"\xff\xfe", b"//elsewhere", b"a=b; Expires=never"),
    *(b"Fri, 31 Dec 9999 23:59:59 GMT", b"Fri, 31 Dec 99999 23:59:59 GMT", b"Mon, 99 Foo 0 9:9:9"),
)
_MARKS = (b"\r\n", b"\n", b"\r\n\r\n", b":", b";x=1", b"ffffffff", b'"', b"{", b"\\")
_STATUS_LINES = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content"),
    *(b"HTTP/1.1 503 Busy", b"HTTP/1.1 429 Slow", b"HTTP/1.1 400 Bad", b"HTTP/1.1 999 Odd"),
    *(b"HTTP/1.1 304 Same", b"HTTP/1.1 307 There", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Up"),
    *(b"HTTP/3.0 200 OK", b"HTTP/1.1 +200 OK", b"HTTP/1.1 2_0 OK", b"HTTP/1.1  200 OK", b""),
    *(b"ICY 200 OK", b"PRI * HTTP/2.0", b"HTTP/1.1 206 Part", b"HTTP/1.1 20 OK", b"\x00"),
)
_BODIES = (
    *(answers.reply("fuzz", claude).partition(b"\r\n\r\n")[2] for claude in (False, True)),
    *(b"".join(answers.stream_events("fuzz", claude)) for claude in (False, True)),
    *(b"", b"null", b"[]", b"{}", b'"text"', b"{", b"[" * 100_000, b"1" * 5_000, b"NaN", b"\xff"),
    *(b'{"choices": 1}', b'{"choices": [null]}', b'{"choices": []}', b'{"choices": [{}]}'),
    *(b'{"content": "x"}', b'{"content": [null]}', b'{"content": [{"type": "text"}]}'),
    *(b'{"error": null}', b'{"error": {"message": 1}}', b'{"a": 1e999}', b'{"a":1,"a":2}'),
    *(b'"\\ud800"', b"\xef\xbb\xbf{}", json.dumps({"error": {"message": "x" * 9_000}}).encode()),
    *(
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
        b"data: " + b"x" * 70_000,
        b"event: error\ndata: {}\n\n",
    ),
    *(gzip.compress(bytes(3 * 2**20)), gzip.compress(b"{}")[:-4], gzip.compress(b"{}") * 2),
)


@attrs.frozen(repr=False)
class _Case:
    """What a server answers, and how it is asked.

    Attributes:
        data: The bytes, in the pieces in which they are sent.
        end: ``"close"``, ``"reset"`` or ``"stay"``, which lets the client wait for more.
        model: Whose API is spoken.
        stream: Whether a stream is asked for.
    """

    data: tuple[bytes, ...]
    end: str
    model: str
    stream: bool

    def __repr__(self) -> str:
        pieces = ", ".join(repr(piece[:2_000]) for piece in self.data)
        return f"_Case([{pieces}], {self.end!r}, {self.model!r}, stream={self.stream})"


def _good(claude: bool, stream: bool, chunked: bool, zipped: bool) -> bytes:
    """Return a good answer to begin with."""
    if stream:
        events = answers.stream_events("fuzz", claude)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        chunks = b"".join(map(answers.chunk, [*events, b""]))
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    if zipped:
        return answers.gzipped("fuzz", claude)
    good = answers.reply("fuzz", claude)
    if not chunked:
        return good
    head, _, body = good.partition(b"\r\n\r\n")
    head = head.split(b"\r\nContent-Length")[0] + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + answers.chunk(body[:9]) + answers.chunk(body[9:]) + answers.chunk(b"")


@strategies.composite
def _mutated(draw: strategies.DrawFn, good: bytes) -> bytes:
    """Change a good answer in a few places."""
    data = bytearray(good)
    for _ in range(draw(strategies.sampled_from((0, 0, 0, 1, 1, 1, 2, 3)))):
        at = draw(strategies.integers(0, len(data)))
        until = min(at + draw(strategies.sampled_from((0, 0, 1, 1, 2, 9))), len(data))
        data[at:until] = draw(
            strategies.binary(max_size=4)
            | strategies.sampled_from(
                (*_VALUES, b"\r\n", b"\n", b"\r\n\r\n", b":", b";x=1", b"ffffffff")
            )
        )
    if draw(strategies.sampled_from((True,) * 5 + (False,))):
        return bytes(data)
    return bytes(data[: draw(strategies.integers(0, len(data)))])


def _chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)][:200]
    return b"".join(map(answers.chunk, [*parts, b""]))


@strategies.composite
def _built(draw: strategies.DrawFn) -> bytes:
    """Put an answer together from odd parts."""
    line = draw(strategies.sampled_from((_STATUS_LINES[0],) * 40 + _STATUS_LINES))
    names, values = strategies.sampled_from(_NAMES), strategies.sampled_from(_VALUES)
    odd = strategies.tuples(strategies.binary(max_size=10), strategies.binary(max_size=30))
    pairs = strategies.tuples(names, values)
    fields = draw(strategies.lists(pairs, max_size=3))
    if draw(strategies.sampled_from((False,) * 9 + (True,))):
        fields.append(draw(odd))
    body = draw(strategies.sampled_from(_BODIES) | strategies.binary(max_size=200))
    shape = draw(strategies.sampled_from(("length", "chunked", "bare", "zipped", "many")))
    if shape == "zipped":
        body = gzip.compress(body)
        fields.append((b"Content-Encoding", b"gzip"))
    if shape == "many":
        fields += [(b"X-Filler", b"x" * draw(strategies.integers(0, 3_000)))] * 120
    if shape == "chunked":
        fields.append((b"Transfer-Encoding", b"chunked"))
        body = _chunks(body, draw(strategies.integers(1, 5_000)))
    elif shape != "bare":
        fields.append((b"Content-Length", str(len(body)).encode()))
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(strategies.sampled_from((0, 0, 0, 1, 11)))
    separator = draw(strategies.sampled_from((b": ",) * 20 + (b":", b" : ", b"")))
    ending = draw(strategies.sampled_from((b"\r\n",) * 20 + (b"\n", b"\r")))
    head = ending.join([line, *[name + separator + value for name, value in fields], b"", b""])
    return interim + head + body


@strategies.composite
def _cases(draw: strategies.DrawFn) -> _Case:
    model = draw(strategies.sampled_from(MODELS))
    stream = draw(strategies.booleans())
    flags = draw(strategies.booleans()), draw(strategies.booleans())
    good = _good(model == MODELS[1], stream, *flags)
    near, far = _mutated(good), _built()
    data = draw(strategies.one_of(near, far, near, far, near, strategies.binary(max_size=300)))
    cuts = draw(strategies.lists(strategies.integers(0, len(data)), max_size=3))
    edges = [0, *sorted(cuts), len(data)]
    pieces = tuple(data[a:b] for a, b in itertools.pairwise(edges))
    # Few, since each of them takes as long as its deadline.
    end = draw(strategies.sampled_from(("close",) * 30 + ("reset",) * 8 + ("stay",)))
    return _Case(pieces, end, model, stream)


class _Replayer:
    """Answers every request with the bytes of the present case; one connection at a time."""

    def __init__(self) -> None:
        self.case = _Case((b"",), "close", MODELS[0], False)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, name="replayer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            # A client may go away at any instant; that is no failure of the server.
            with contextlib.suppress(OSError), sock:
                self._converse(sock)

    def _converse(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while _read_request(sock):
            case = self.case
            for piece in case.data:
                sock.sendall(piece)
            if case.end == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if case.end != "stay":
                return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def _read_request(sock: socket.socket) -> bool:
    """Read a request to its end; False where the client closed."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        received = sock.recv(65536)
        if not received:
            return False
        data += received
    length = int(data[:end].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(data) < end + 4 + length:
        received = sock.recv(65536)
        if not received:
            return False
        data += received
    return True


class _Fuzz:
    def __init__(self, client: Client, replayer: _Replayer, lateness: Lateness) -> None:
        self.kinds: Counter[str] = Counter()
        self._client = client
        self._replayer = replayer
        self._lateness = lateness

    def answer(self, case: _Case) -> None:
        """Play one case; raises where anything is not as it must be."""
        self._replayer.case = case
        self._lateness.reset()
        begun = time.monotonic()
        kind = self._ask(case)
        overrun = time.monotonic() - begun - _TIMEOUT - self._lateness.worst()
        self.kinds[kind] += 1
        assert overrun <= _OVERRUN, f"{overrun:.2f} s past the deadline"
        held = support.in_use(self._client)
        assert not held, f"{held} left"

    def _ask(self, case: _Case) -> str:
        """Make the call; returns how it ended, and lets pass what is no error of ours."""
        ask = self._client.stream if case.stream else self._client.chat
        try:
            reply = ask("fuzz", model=case.model, api_key=KEY, base_url=self._replayer.url)
            if isinstance(reply, ChatResponse):
                assert isinstance(reply.text, str)
                return "reply"
            with reply as stream:
                assert all(isinstance(piece, str) for piece in stream)
            assert stream.response is not None
            return "stream"
        except TermaiHttpError as error:
            return type(error).__name__


def _play(fuzz: _Fuzz, number: int, seed: int) -> None:
    """Play so many cases, drawn by hypothesis from a seed; raises with the smallest that fails."""
    settings = hypothesis.settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )

    @hypothesis.seed(seed)
    @settings
    @hypothesis.given(_cases())
    def play(case: _Case) -> None:
        fuzz.answer(case)

    play()


@contextlib.contextmanager
def _bench() -> Iterator[_Fuzz]:
    replayer = _Replayer()
    try:
        with Client(_CONFIG) as client, Lateness() as lateness:
            yield _Fuzz(client, replayer, lateness)
    finally:
        replayer.close()


def run(result: Result, short: bool, seed: int | None) -> None:
    """Play all cases, a thousand at a time, since hypothesis remembers what it drew."""
    count = 300 if short else 20_000
    first = seed if seed is not None else 0 if short else random.randrange(10**6)
    before, memory = support.descriptors(), [support.rss()]
    with _bench() as fuzz:
        for index in range(max(count // _AT_ONCE, 1)):
            result.now = f"seed {first}, part {index}"
            try:
                _play(fuzz, min(count, _AT_ONCE), first + index)
            except Exception as error:
                notes = " ".join(getattr(error, "__notes__", ()))
                result.must(False, f"{result.now}: {error!r} {notes}")
            memory.append(support.rss())
    # The first thousand load what hypothesis needs to draw from; the short form has no more.
    growth = memory[-1] - memory[0 if short else 1]
    peak = support.peak() - memory[0] if memory[0] else 0
    left = support.descriptors()
    result.must(len(left) == len(before), f"descriptors: {dict(left.items() ^ before.items())}")
    result.must(growth <= _MOST_GROWTH[short], f"memory: {support.megabytes(growth)}")
    result.must(peak <= _HIGHEST_PEAK, f"memory, at its peak: {support.megabytes(peak)}")
    well = fuzz.kinds.pop("reply", 0), fuzz.kinds.pop("stream", 0)
    errors = sum(fuzz.kinds.values())
    result.line = (
        f"{sum(well) + errors:,} answers (seed {first}): {well[0]:,} replies, {well[1]:,} streams, "
        f"{errors:,} errors of {len(fuzz.kinds)} classes of ours, {result.number} flaws, "
        f"{len(left) - len(before):+d} descriptors, {support.megabytes(growth)} "
        f"({support.megabytes(peak)} at the peak)"
    )


if __name__ == "__main__":
    sys.exit(support.main(run, str(__doc__), seeded=True))
