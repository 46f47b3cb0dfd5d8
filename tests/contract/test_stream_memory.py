"""Memory of streams: it grows with the text, and with nothing else."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from termai_http import Client, HttpClientConfig
from tests.faults.harness import Peer, RawServer
from tests.faults.streaming import CHUNKED, CLAUDE, OPENAI, event, frame

EVENTS = 20_000
AT_ONCE = 100
PIECE = "text"
# What any stream needs beside its text, however many events bring that: 25 bytes an event, which is
# less than any object.
ROOM = 500_000


class Responses:
    """Events of OpenAI's responses; attributes and methods are those of the other vendors."""

    model: ClassVar[str] = "gpt-5.5"
    end: ClassVar[bytes] = b""
    _place: ClassVar[dict[str, Any]] = {"item_id": "m1", "output_index": 0, "content_index": 0}

    def begin(self) -> bytes:
        """Return what comes before the first text."""
        item = {"id": "m1", "type": "message", "role": "assistant", "content": []}
        part = {"type": "output_text", "text": ""}
        begun = event({"type": "response.output_item.added", "output_index": 0, "item": item})
        return begun + event({"type": "response.content_part.added", **self._place, "part": part})

    def text(self, piece: str) -> bytes:
        """Return an event with text."""
        return event({"type": "response.output_text.delta", **self._place, "delta": piece})

    def finish(self) -> bytes:
        """Return the end."""
        return event({"type": "response.completed", "response": {"id": "r1"}})


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that takes nothing from the environment."""
    with Client(HttpClientConfig(trust_env=False)) as made:
        yield made


def serve(vendor: Any) -> RawServer:
    """Stream to every request; what is sent was made before."""
    begin = CHUNKED.head() + frame(vendor.begin())
    some = frame(vendor.text(PIECE)) * AT_ONCE
    end = frame(vendor.finish() + vendor.end) + CHUNKED.end

    def answer(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(begin)
            for _ in range(EVENTS // AT_ONCE):
                peer.send(some)
            peer.send(end)

    return RawServer(answer)


def peak_of(read: Callable[[], object]) -> int:
    """Return the most memory that was taken while ``read`` ran."""
    gc.collect()
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("vendor", "options"),
    [(OPENAI, {}), (Responses(), {"api": "responses"}), (CLAUDE, {})],
    ids=["chat", "responses", "claude"],
)
@pytest.mark.parametrize("by_events", [False, True], ids=["text", "events"])
def test_a_stream_takes_memory_for_its_text_only(
    client: Client, vendor: Any, options: dict[str, Any], by_events: bool
) -> None:
    """Of what came nothing is kept but the text, which at the end is there a few times."""
    server = serve(vendor)

    def read() -> None:
        stream = client.stream(
            "hi", model=vendor.model, api_key="k", base_url=server.url, **options
        )
        pieces = sum(1 for _ in (stream.events() if by_events else stream))
        assert pieces >= EVENTS
        assert stream.text == PIECE * EVENTS
        assert stream.response is not None
        assert stream.response.text == stream.text

    # The first one imports what is needed.
    read()
    assert peak_of(read) < 5 * len(PIECE) * EVENTS + ROOM
    server.close()
