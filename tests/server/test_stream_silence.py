"""A stream that is waited for only so long: on every way its bytes come."""

from __future__ import annotations

import queue
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from termai_http import (
    CallCancelled,
    Client,
    DeadlineExceeded,
    HttpClientConfig,
    ReadTimeout,
    RetryConfig,
    Stream,
    StreamInterrupted,
)
from termai_http._stream import SILENCE
from tests.faults.connecting import Authority, secure
from tests.faults.drivers import TermaiDriver
from tests.faults.harness import Bench, Peer, RawServer
from tests.faults.streaming import CHUNKED, CLAUDE, OPENAI, TO_THE_CLOSE, Framing
from tests.server.test_connecting import SecureProxy

SHORT, LONG = 0.05, 20.0
KINDS = ["direct", "ordinary", "tls", "tls within tls"]


class Script:
    """A server whose stream is sent by the test, piece by piece."""

    def __init__(self, context: ssl.SSLContext | None = None, headers: bytes = b"") -> None:
        self.pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.framing: Framing = CHUNKED
        self.headers = headers
        self._context = context
        self.raw = RawServer(self._handle)

    def _handle(self, peer: Peer) -> None:
        if self._context is not None:
            secure(peer, self._context)
        assert peer.read_request() is not None
        peer.send(self.framing.head(self.headers))
        while (piece := self.pieces.get()) is not None:
            peer.send(piece)

    def say(self, *events: bytes) -> None:
        """Send events, each in a frame of its own, and all at once."""
        self.pieces.put(b"".join(map(self.framing.frame, events)))

    def close(self) -> None:
        """End it."""
        self.pieces.put(None)
        self.raw.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench for the proxy of TLS within TLS."""
    with Bench(TermaiDriver()) as made:
        yield made


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Iterator[Script]:
    """A server of plain HTTP."""
    made = Script()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that does not try again."""
    with Client(HttpClientConfig(trust_env=False, retry=RetryConfig(max_attempts=1))) as made:
        yield made


def begin(client: Client, url: str, model: str = OPENAI.model, **options: float) -> Stream:
    """Open a stream."""
    return client.stream("hi", model=model, api_key="k", base_url=url, **options)


@pytest.fixture(params=KINDS)
def begun(
    request: pytest.FixtureRequest, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Script, Stream]]:
    """A stream that came up to its first text, on each way in turn."""
    kind = request.param
    monkeypatch.setenv("TERMAI_HTTP_DIRECT", "0" if kind == "ordinary" else "1")
    authority = Authority(bench)
    secured = kind.startswith("tls")
    script = Script(authority.context() if secured else None)
    script.say(OPENAI.begin(), OPENAI.text("one"))
    config = HttpClientConfig(trust_env=False, ca_bundle=authority.bundle)
    if kind == "tls within tls":
        proxy = SecureProxy(bench, authority.context(), script.raw.port)
        config = config.evolve(proxies={"https": proxy.url})
    with Client(config) as client:
        with begin(client, script.raw.tls_url if secured else script.raw.url) as stream:
            yield script, stream
        script.close()


def test_silence_is_told_and_nothing_is_lost(begun: tuple[Script, Stream]) -> None:
    """A text that is there comes at once, silence after a while, and the rest after it."""
    script, stream = begun
    assert stream.next_within(LONG, texts=True) == "one"
    assert stream.next_within(SHORT, texts=True) is SILENCE
    assert stream.next_within(SHORT, texts=True) is SILENCE
    script.say(OPENAI.text("two"), OPENAI.text("three"))
    assert stream.next_within(LONG, texts=True) == "two"
    assert stream.next_within(LONG, texts=True) == "three"
    assert stream.next_within(SHORT, texts=False) is SILENCE
    script.say(OPENAI.finish(), OPENAI.end)
    script.pieces.put(CHUNKED.end)
    assert stream.next_within(LONG, texts=False).type == "finish"
    assert list(iter(lambda: stream.next_within(None, texts=True), None)) == []
    assert stream.response is not None
    assert stream.response.text == "onetwothree"


def test_a_large_piece_is_read_without_a_wait(begun: tuple[Script, Stream]) -> None:
    """What came and stands in a buffer, of ours or of TLS, is no silence."""
    script, stream = begun
    assert stream.next_within(LONG, texts=True) == "one"
    script.say(*(OPENAI.text(f"{number:0999}") for number in range(200)))
    for number in range(200):
        assert stream.next_within(LONG, texts=True) == f"{number:0999}"
    assert stream.next_within(SHORT, texts=True) is SILENCE


def test_another_thread_ends_the_wait(begun: tuple[Script, Stream]) -> None:
    """``cancel()`` while somebody waits is heard at once."""
    _, stream = begun
    assert stream.next_within(LONG, texts=True) == "one"
    assert stream.next_within(SHORT, texts=True) is SILENCE
    canceller = threading.Timer(SHORT, stream.cancel)
    canceller.start()
    with pytest.raises(CallCancelled):
        stream.next_within(LONG, texts=True)
    canceller.join()


def test_a_stream_that_is_closed_meanwhile_is_at_its_end(begun: tuple[Script, Stream]) -> None:
    """``close()`` in another thread while somebody waits is the end, with nothing left open."""
    _, stream = begun
    assert stream.next_within(LONG, texts=True) == "one"
    closer = threading.Timer(SHORT, stream.close)
    closer.start()
    assert stream.next_within(LONG, texts=True) is None
    closer.join()
    assert stream.response is None


def test_pings_and_thoughts_are_no_text(script: Script, client: Client) -> None:
    """What comes without a text does not put off the word that none came."""
    script.say(CLAUDE.begin(), CLAUDE.text("one"))
    with begin(client, script.raw.url, CLAUDE.model) as stream:
        assert stream.next_within(LONG, texts=True) == "one"
        script.say(CLAUDE.ping)
        assert stream.next_within(SHORT, texts=True) is SILENCE
        script.say(CLAUDE.ping * 3, CLAUDE.text("two"))
        assert stream.next_within(LONG, texts=True) == "two"


@pytest.mark.parametrize(
    ("options", "error"),
    [({"timeout": 0.3}, DeadlineExceeded), ({"timeout": 30, "read_timeout": 0.3}, ReadTimeout)],
)
def test_waits_do_not_put_off_the_end(
    script: Script, options: dict[str, float], error: type[Exception]
) -> None:
    """Deadline and read timeout count from the last byte, however often silence was told."""
    script.say(OPENAI.begin(), OPENAI.text("one"))
    read = options.pop("read_timeout", None)
    config = HttpClientConfig(trust_env=False, retry=RetryConfig(max_attempts=1))
    config = config if read is None else config.evolve(read_timeout=read)
    with Client(config) as client, begin(client, script.raw.url, **options) as stream:
        assert stream.next_within(LONG, texts=True) == "one"
        silences: list[Any] = []
        with pytest.raises(StreamInterrupted) as caught:
            silences.extend(iter(lambda: stream.next_within(SHORT, texts=True), "two"))
    assert error.__name__ in str(caught.value)
    assert caught.value.partial == "one"
    assert silences == [SILENCE] * len(silences)
    assert 1 <= len(silences) <= 6


@pytest.mark.parametrize("cut", [lambda data: data[:9], lambda data: data[:-9]])
def test_half_an_event_is_no_silence_to_lose(
    cut: Callable[[bytes], bytes], script: Script, client: Client
) -> None:
    """An event that comes in two parts, with silence between, is whole."""
    script.framing = TO_THE_CLOSE
    whole = OPENAI.text("two")
    script.say(OPENAI.begin(), OPENAI.text("one"))
    with begin(client, script.raw.url) as stream:
        assert stream.next_within(LONG, texts=True) == "one"
        script.say(cut(whole))
        assert stream.next_within(SHORT, texts=True) is SILENCE
        script.say(whole[len(cut(whole)) :])
        assert stream.next_within(LONG, texts=True) == "two"


def test_what_decompression_keeps_back_is_no_silence(client: Client) -> None:
    """A small compressed piece that decodes to many texts is read to its end without a wait."""
    script = Script(headers=b"Content-Encoding: gzip\r\n")
    packer = zlib.compressobj(wbits=31)
    texts = [f"{number:0999}" for number in range(300)]
    packed = packer.compress(OPENAI.begin() + b"".join(map(OPENAI.text, texts)))
    script.say(packed + packer.flush(zlib.Z_SYNC_FLUSH))
    with begin(client, script.raw.url) as stream:
        for text in texts:
            assert stream.next_within(LONG, texts=True) == text
        assert stream.next_within(SHORT, texts=True) is SILENCE
    script.close()
