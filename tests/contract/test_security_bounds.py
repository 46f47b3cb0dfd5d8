"""What others can do to us, and what we do unasked (S7, S11, S14 to S16).

The numbers are those of the security checklist.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tracemalloc
import zlib
from typing import Any

import attrs
import pytest

import termai_http
from termai_http import Client, HttpClientConfig, Limits, RetryConfig, _chat
from termai_http._retry import server_wish
from termai_http._secrets import _repeated, mask_echoes
from tests.contract.security_tools import Recorder, answer, call
from tests.faults.harness import KEY, PROMPT, good_body, good_reply

MIB = 1024 * 1024
SMALL = Limits(body=MIB, headers=4096, error_body=1024, stream_line=4096, stream_event=8192)


def client(**config: Any) -> Client:
    """Make a client with low limits."""
    return Client(HttpClientConfig(trust_env=False, limits=SMALL, **config))


def gzipped(data: bytes) -> bytes:
    """Compress as a server does."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def test_s7_the_limits_are_the_documented_ones() -> None:
    """Every size that a server decides has a limit."""
    assert attrs.asdict(Limits()) == {
        "body": 64 * MIB,
        "headers": 256 * 1024,
        "error_body": 64 * 1024,
        "stream_line": MIB,
        "stream_event": 4 * MIB,
    }


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = "Content-Encoding: gzip\r\n"


@pytest.mark.parametrize(
    "hostile",
    [
        answer("200 OK", b" " * (MIB + 1)),
        answer("200 OK", gzipped(b" " * 64 * MIB), GZIP),
        answer("200 OK", gzipped(b" " * MIB) * 64, GZIP),
        CHUNKED + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 40 + b"0\r\n\r\n",
        answer("200 OK", b"{}", f"X-Long: {'x' * 8192}\r\n"),
        answer("200 OK", b"{}", "X-Many: x\r\n" * 400),
        answer("200 OK", b"[" * 100_000),
        answer("200 OK", b'{"a":' * 100_000),
        answer("200 OK", b'{"n": ' + b"9" * 5000 + b"}"),
        answer("200 OK", b'{"n": ' + b"-" * 500_000),
    ],
    ids=[
        *("body", "gzip bomb", "bomb of many members", "chunks", "header", "headers"),
        *("deep list", "deep object", "long number", "no number"),
    ],
)
def test_s7_a_hostile_success_is_a_typed_error_and_takes_little_memory(hostile: bytes) -> None:
    """Nothing a server sends as a reply fills the memory, or breaks out as an error of a parser."""
    with Recorder(hostile) as server, client() as used:
        tracemalloc.start()
        try:
            with pytest.raises(termai_http.InvalidResponseError) as caught:
                call(used, server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert caught.value.attempts == 1
        assert used.stats().active_connections == 0
    assert peak < len(hostile) + 3 * SMALL.body


@pytest.mark.parametrize("coding", ["", GZIP])
def test_s7_of_an_error_only_the_beginning_is_read(coding: str) -> None:
    """A large error body costs no more than its limit, and its status counts all the same."""
    page = b'{"error": "' + b"x" * 8 * MIB
    hostile = answer("400 Bad", gzipped(page) if coding else page, coding)
    with Recorder(hostile) as server, client() as used:
        with pytest.raises(termai_http.BadRequestError) as caught:
            call(used, server.url)
        assert used.stats().idle_connections == 0
    assert len(caught.value.body or "") <= 200
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "data",
    [
        b"data: " + b"x" * 5000 + b"\n\n",
        b"data: " + b"x" * 5000,
        (b"data: " + b"x" * 1000 + b"\n") * 10 + b"\n",
        b":" * 8192,
    ],
    ids=["line", "endless line", "event", "comment"],
)
def test_s7_a_hostile_stream_is_a_typed_error(data: bytes) -> None:
    """A line or an event above its limit ends the stream."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    with Recorder(head % len(data) + data) as server, client() as used:
        with pytest.raises(termai_http.ResponseTooLarge):
            used.stream(PROMPT, model="gpt-5.5", api_key=KEY, base_url=server.url)
        assert used.stats().active_connections == 0


@pytest.mark.parametrize("begin", ["chat", "stream"])
def test_s7_a_request_that_claude_refuses_is_warned_of(
    begin: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a call, however often it is tried, with its size and nothing of its content."""
    assert _chat._MOST_ACCEPTED == 32 * MIB
    monkeypatch.setattr(_chat, "_MOST_ACCEPTED", 1000)
    retry = RetryConfig(base_delay=0.0, max_delay=0.0, max_attempts=3)
    with Recorder(answer("503 Busy", b"")) as server, client(retry=retry) as used:
        for prompt in (PROMPT, PROMPT * 100):
            with pytest.raises(termai_http.InternalServerError):
                getattr(used, begin)(prompt, model="claude-m", api_key=KEY, base_url=server.url)
        assert len(server.requests) == 6
    size = len(server.requests[-1].partition(b"\r\n\r\n")[2])
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "Retrying" not in text] == [
        f"A request of {size} bytes: Claude refuses those above 32 MB"
    ]


def test_s11_no_reply_is_kept_for_another_key() -> None:
    """Two tenants with one prompt are two requests, each with its own key and its own answer."""
    keys = [f"{KEY}-of-tenant-{number}" for number in range(2)]
    with Recorder() as server, client() as used:
        for number, key in enumerate([*keys, *keys]):
            server.answer = good_reply(f"answer {number}")
            assert call(used, server.url, api_key=key) == f"answer {number}"
    found = [re.findall(rb"Bearer (\S+)", request) for request in server.requests]
    assert found == [[key.encode()] for key in [*keys, *keys]]


def run(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter, unmeasured: coverage loads modules."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=env, timeout=60
    ).stdout.strip()


WATCH = """
import sys, threading
seen = []
def watch(event, args):
    if event.startswith("socket.") or event == "subprocess.Popen":
        seen.append(event)
sys.addaudithook(watch)
"""
IMPORT = """
import termai_http
for name in termai_http.__all__:
    getattr(termai_http, name)
print(seen, [thread.name for thread in threading.enumerate()], "requests" in sys.modules)
"""
END = """
import atexit, termai_http
client = termai_http.client()
client.chat("hi", model="gpt-5.5", api_key="k", base_url=sys.argv[1])
assert client.stats().idle_connections == 1
assert seen.count("socket.connect") == 1, seen
seen.clear()
"""
# Registered before ours, and so called after it.
LAST = """
import atexit
atexit.register(lambda: print(seen, len(threading.enumerate()), threading.main_thread().name))
"""


def test_s14_import_starts_no_thread_and_opens_no_socket() -> None:
    """Nor does looking at every public name, and requests is loaded by the first use only."""
    assert run(WATCH + IMPORT) == "[] ['MainThread'] False"


def test_s14_the_end_of_the_process_says_nothing_to_the_network() -> None:
    """With an idle connection open it ends at once, with no thread left and no socket opened."""
    with Recorder() as server:
        assert run(WATCH + LAST + END, server.url) == "[] 1 MainThread"
        assert len(server.requests) == 1


def floor(name: str) -> tuple[int, ...]:
    """Return the lowest version that the package's metadata allow."""
    lines = importlib.metadata.requires("termai-http") or []
    line = next(line for line in lines if re.match(rf"{name}\b", line) and "extra ==" not in line)
    found = re.search(r">=\s*([\d.]+)", line)
    assert found is not None
    return version(found[1])


def version(text: str) -> tuple[int, ...]:
    """Read a version's leading numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@pytest.mark.parametrize(("name", "lowest"), [("urllib3", (2, 8)), ("requests", (2, 33))])
def test_s15_no_version_with_a_known_hole_is_allowed(name: str, lowest: tuple[int, ...]) -> None:
    """The floors stand in the metadata, where resolvers see them, and hold here."""
    assert floor(name) >= lowest
    assert version(importlib.metadata.version(name)) >= floor(name)


def test_s15_the_core_needs_four_packages_and_no_more() -> None:
    """Whatever else is used is an extra."""
    lines = importlib.metadata.requires("termai-http") or []
    needed = {re.match(r"[\w-]+", line)[0] for line in lines if "extra ==" not in line}  # type: ignore[index]
    assert needed == {"requests", "urllib3", "backoff", "attrs"}


class Counted(str):
    """Text that counts the characters which slices and searches of it touch."""

    touched = 0

    def __getitem__(self, index: Any) -> str:
        found = super().__getitem__(index)
        Counted.touched += len(found)
        return found

    def __contains__(self, part: object) -> bool:
        Counted.touched += len(self)
        return super().__contains__(part)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("a" * 800, "a" * 11 + "b"),
        ("ab" * 400, "ab" * 5 + "c"),
        (good_body().decode() * 3, good_body().decode()),
        ("0123456789" * 80, "012345 789"),
    ],
)
def test_s16_masking_is_linear_in_the_request(text: str, unit: str) -> None:
    """An error to a prompt of megabytes costs a few looks at each of its characters."""
    for size in (20_000, 80_000):
        haystack = Counted(unit * (size // len(unit)))
        Counted.touched = 0
        _repeated([text[:800]], haystack)
        assert Counted.touched <= 20 * len(haystack)


def test_s16_masking_is_right_where_runs_overlap() -> None:
    """Every run of 12 that also stands in the request goes, wherever it begins there."""
    request = "0123456789abcdefghijklmnopqrstuvwxyz"
    for at in range(len(request) - 11):
        run_of_12 = request[at : at + 12]
        assert mask_echoes(f"<{run_of_12}>", [request]) == "<***>"
        assert mask_echoes(f"<{run_of_12[:11]}>", [request]) == f"<{run_of_12[:11]}>"
    assert mask_echoes("89abcdefghijABCDEFGHIJKL-efghijklmnopqr", [request]) == (
        "***ABCDEFGHIJKL-***"
    )
    assert mask_echoes(request * 2, [request]) == "***" * 2


@pytest.mark.parametrize("unit", ["9", " ", "-", "1 ", "Jan ", ":", "(", "\t", "e", "1.", "Mon, "])
def test_s16_any_retry_after_is_read_to_its_end(unit: str) -> None:
    """The longest header that can come, of the worst characters, is a wait or nothing."""
    text = unit * (65536 // len(unit))
    for name in ("Retry-After", "retry-after-ms", "x-should-retry"):
        wish = server_wish({name: text}, 0.0)
        assert wish.wait is None
        assert wish.should_retry is None
