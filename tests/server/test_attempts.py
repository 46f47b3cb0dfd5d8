"""How many attempts each fault gets, counted at the server, over both dialects."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

import termai_http
from termai_http import ChatResponse, Client, HttpClientConfig, RetryConfig
from termai_http.testing import (
    CloseAfterRead,
    Delay,
    EmptyBody,
    Html,
    InvalidJson,
    Raw,
    ResetAfterRead,
    ResetBeforeRead,
    Server,
    Silent,
    Status,
    Trickle,
    TruncatedBody,
    TruncatedChunked,
)

KEY = "sk-canary-0123456789-abcdef"
PROMPT = "The canary prompt that nothing may show."
FAST = RetryConfig(base_delay=0.001, max_delay=0.002)

MODELS = {"openai": "gpt-5.5", "claude": "claude-opus-5-5"}


@pytest.fixture(params=sorted(MODELS))
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect in turn."""
    return str(request.param)


def call(client: Client, dialect: str, base_url: str, **options: Any) -> ChatResponse:
    """Send the canary in a dialect."""
    return client.chat(PROMPT, model=MODELS[dialect], base_url=base_url, api_key=KEY, **options)


def assert_shows_no_secret(error: BaseException) -> None:
    """Look for the canaries in all that an error shows."""
    shown = f"{error!s} {error!r} {error.args!r} {vars(error)!r}"
    assert KEY not in shown
    assert PROMPT not in shown


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_a_refused_request_is_tried_three_times(
    client: Client, server: Server, dialect: str, status: int
) -> None:
    """A status that passes is tried until the attempts are used up, and then raised."""
    server.script(*[Status(status)] * 5)
    with pytest.raises(termai_http.APIStatusError) as caught:
        call(client, dialect, server.url)
    assert caught.value.status_code == status
    assert caught.value.attempts == 3
    assert len(server.requests) == 3
    assert_shows_no_secret(caught.value)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 418, 422, 501])
def test_any_other_status_is_tried_once(
    client: Client, server: Server, dialect: str, status: int
) -> None:
    """A status that waiting does not mend is raised at once."""
    server.script(*[Status(status)] * 5)
    with pytest.raises(termai_http.APIStatusError) as caught:
        call(client, dialect, server.url)
    assert caught.value.status_code == status
    assert len(server.requests) == 1
    assert_shows_no_secret(caught.value)


@pytest.mark.parametrize(
    "code", ["insufficient_quota", "credit_balance_exhausted", "enforced_spend_limit_reached"]
)
def test_a_quota_429_is_tried_once(client: Client, server: Server, dialect: str, code: str) -> None:
    """A 429 of billing is never retried, whatever Retry-After says."""
    server.script(*[Status(429, code=code, retry_after=0.01)] * 5)
    with pytest.raises(termai_http.QuotaExceededError):
        call(client, dialect, server.url)
    assert len(server.requests) == 1


def test_a_429_then_a_200_is_a_reply(client: Client, server: Server, dialect: str) -> None:
    """A retried call tells how many attempts it took."""
    server.script(Status(429, retry_after=0.01))
    reply = call(client, dialect, server.url)
    assert reply.text.endswith(PROMPT)
    assert reply.attempts == 2
    assert client.stats().calls.retries_by_cause == {"429": 1}


def test_a_refused_connection_is_tried_three_times(client: Client, dialect: str) -> None:
    """Nothing was sent, so every attempt is used."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(termai_http.APIConnectionError) as caught:
        call(client, dialect, f"http://127.0.0.1:{port}")
    assert caught.value.attempts == 3
    assert not caught.value.maybe_billed
    assert_shows_no_secret(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        ResetAfterRead(),
        CloseAfterRead(),
        TruncatedBody(),
        TruncatedChunked(),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_what_may_have_been_processed_is_tried_twice(
    client: Client, server: Server, dialect: str, fault: Any
) -> None:
    """A request that may have been billed is repeated once, and the error says so."""
    server.script(*[fault] * 5)
    with pytest.raises(termai_http.TermaiHttpError) as caught:
        call(client, dialect, server.url)
    assert isinstance(caught.value, (termai_http.APIConnectionError, termai_http.TruncatedResponse))
    assert caught.value.maybe_billed
    assert len(server.requests) == 2
    assert_shows_no_secret(caught.value)


def test_ambiguous_retries_0_never_repeats(client: Client, server: Server, dialect: str) -> None:
    """With ambiguous_retries=0 what may have been processed is not repeated."""
    server.script(*[ResetAfterRead()] * 3)
    with pytest.raises(termai_http.APIConnectionError):
        call(client, dialect, server.url, retry=FAST.evolve(ambiguous_retries=0))
    assert len(server.requests) == 1


def test_a_reset_before_the_request_is_read_is_ambiguous(
    client: Client, server: Server, dialect: str
) -> None:
    """A connection reset at accept may have carried the request, so it is repeated once."""
    server.script(ResetBeforeRead())
    assert call(client, dialect, server.url).attempts == 2


@pytest.mark.parametrize(
    "fault", [Html(), EmptyBody(), InvalidJson()], ids=lambda fault: type(fault).__name__
)
def test_a_success_that_is_none_is_tried_once(
    client: Client, server: Server, dialect: str, fault: Any
) -> None:
    """A 200 without a reply is an error of its own, not retried, since it may be billed."""
    server.script(*[fault] * 3)
    with pytest.raises(termai_http.InvalidResponseError) as caught:
        call(client, dialect, server.url)
    assert caught.value.status_code == 200
    assert len(server.requests) == 1


def test_a_silent_server_is_tried_once(server: Server, dialect: str) -> None:
    """A read timeout is not retried: the model may still be running."""
    server.script(Silent(), Silent())
    config = HttpClientConfig(retry=FAST, read_timeout=0.1, trust_env=False)
    with Client(config) as client, pytest.raises(termai_http.ReadTimeout) as caught:
        call(client, dialect, server.url)
    assert len(server.requests) == 1
    assert caught.value.maybe_billed


def test_read_timeouts_are_retried_when_asked(server: Server, dialect: str) -> None:
    """With retry_read_timeouts=True a silent answer is tried again."""
    server.script(Silent())
    config = HttpClientConfig(
        retry=FAST.evolve(retry_read_timeouts=True), read_timeout=0.1, trust_env=False
    )
    with Client(config) as client:
        assert call(client, dialect, server.url).attempts == 2


@pytest.mark.parametrize(
    "fault",
    [Silent(), Delay(30.0), Trickle(interval=0.02)],
    ids=lambda fault: type(fault).__name__,
)
def test_the_deadline_ends_a_slow_answer(
    client: Client, server: Server, dialect: str, fault: Any
) -> None:
    """A 100 ms timeout ends a call to a slow server, also one that sends a byte at a time."""
    server.script(fault, fault)
    with pytest.raises(termai_http.DeadlineExceeded) as caught:
        call(client, dialect, server.url, timeout=0.1)
    assert caught.value.phase in ("headers", "body")
    assert len(server.requests) == 1


def test_a_wait_beyond_the_deadline_is_not_begun(
    client: Client, server: Server, dialect: str
) -> None:
    """A Retry-After longer than the time left raises at once and carries the value."""
    server.script(Status(429, retry_after=3600))
    with pytest.raises(termai_http.RateLimitError, match="not retried") as caught:
        call(client, dialect, server.url, timeout=5)
    assert caught.value.retry_after == 3600.0
    assert len(server.requests) == 1


def test_a_stale_connection_is_replayed_on_a_fresh_one(
    client: Client, server: Server, dialect: str
) -> None:
    """A reused connection that fails before a byte of answer is replayed without a wait."""
    call(client, dialect, server.url)
    server.script(CloseAfterRead())
    reply = call(client, dialect, server.url)
    assert reply.attempts == 2
    assert client.stats().calls.retries_by_cause == {"stale_connection": 1}
    assert len(server.connections) == 2


def test_a_connection_closed_while_idle_is_not_used(
    client: Client, server: Server, dialect: str
) -> None:
    """A connection that the server closed while it was idle costs no attempt."""
    call(client, dialect, server.url)
    server.close_idle()
    # The close may still be on its way; a stale replay then takes its place.
    reply = call(client, dialect, server.url)
    assert reply.text.endswith(PROMPT)
    assert len(server.connections) == 2


@contextlib.contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[int]]]:
    """Run ``handle`` on each connection; yields the port and a list that grows with them."""
    accepted: list[int] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            accepted.append(1)
            with sock, contextlib.suppress(OSError):
                handle(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], accepted
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def reset(sock: socket.socket) -> None:
    """Read, and let the close be a reset."""
    sock.recv(65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(sock: socket.socket) -> None:
    """Read, and let the close be an orderly one."""
    sock.recv(65536)


@pytest.mark.parametrize("handle", [reset, hang_up])
def test_a_broken_handshake_is_tried_three_times(
    client: Client, dialect: str, handle: Callable[[socket.socket], None]
) -> None:
    """A TLS handshake that is reset or hung up sent no request, so every attempt is used."""
    with listening(handle) as (port, accepted):
        with pytest.raises(termai_http.APIConnectionError) as caught:
            call(client, dialect, f"https://127.0.0.1:{port}")
        assert not isinstance(caught.value, termai_http.TLSError)
        assert caught.value.attempts == 3
        assert len(accepted) == 3
    assert_shows_no_secret(caught.value)


def test_a_certificate_is_tried_once(client: Client, dialect: str) -> None:
    """A certificate from an unknown CA is refused in one handshake, and never retried."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Server(tls=context) as server:
        with pytest.raises(termai_http.TLSError, match="certificate") as caught:
            call(client, dialect, server.url)
        assert caught.value.attempts == 1
        assert server.requests == []


def test_nothing_turns_verification_off(client: Client, dialect: str) -> None:
    """verify=False on the session is for raw use: a call still refuses an unknown CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    client.session.verify = False
    with Server(tls=context) as server, pytest.raises(termai_http.TLSError):
        call(client, dialect, server.url)


def test_plain_http_on_a_tls_url_is_a_tls_error(client: Client, dialect: str) -> None:
    """An https URL to a port that speaks plain HTTP is told as such, in one attempt."""

    def answer(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with listening(answer) as (port, accepted):
        with pytest.raises(termai_http.TLSError, match="plain HTTP") as caught:
            call(client, dialect, f"https://127.0.0.1:{port}")
        assert len(accepted) == 1
    assert caught.value.attempts == 1


def test_a_private_ca_is_trusted_when_given(dialect: str, tmp_path: Any) -> None:
    """With ca_bundle a server with a certificate of that CA is reached, and reused."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    config = HttpClientConfig(ca_bundle=str(bundle), trust_env=False)
    with Server(tls=context) as server, Client(config) as client:
        for _ in range(3):
            assert call(client, dialect, server.url).text.endswith(PROMPT)
        assert len(server.connections) == 1
        assert client.stats().reused == 2


def test_what_is_no_http_is_a_protocol_error(client: Client, dialect: str) -> None:
    """A peer that answers something else than HTTP is a ProtocolError, in one attempt."""

    def answer(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

    with listening(answer) as (port, accepted):
        with pytest.raises(termai_http.ProtocolError):
            call(client, dialect, f"http://127.0.0.1:{port}")
        assert len(accepted) == 1


@pytest.mark.parametrize("size", [b"-5", b"zz", b"ffffffffffffffffffff"])
def test_a_chunk_of_no_size_is_a_typed_error(
    client: Client, server: Server, dialect: str, size: bytes
) -> None:
    """A body whose chunks cannot be read is our error, never a ValueError."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.script(*[Raw(head + size + b"\r\nabc\r\n")] * 3)
    with pytest.raises(termai_http.InvalidResponseError):
        call(client, dialect, server.url)
    assert client.stats().active_connections == 0


def test_a_reply_beyond_the_limit_is_refused(server: Server, dialect: str) -> None:
    """A body larger than Limits allows is not read, whether its length is told or not."""
    limits = termai_http.Limits(body=100)
    body = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200
    server.script(Raw(body))
    with Client(HttpClientConfig(limits=limits, trust_env=False)) as client:
        for _ in range(2):
            with pytest.raises(termai_http.ResponseTooLarge, match="100"):
                call(client, dialect, server.url)
        assert client.stats().active_connections == 0


def test_an_error_body_is_read_in_part(server: Server, dialect: str) -> None:
    """Of a huge error body only its beginning is read, and the error is the status's."""
    server.script(Status(400, body="x" * 100_000))
    limits = termai_http.Limits(error_body=1000)
    with Client(HttpClientConfig(limits=limits, trust_env=False)) as client:
        with pytest.raises(termai_http.BadRequestError):
            call(client, dialect, server.url)
        assert client.stats().discarded == 1


def test_an_unresolvable_name_is_a_dns_error(client: Client, dialect: str) -> None:
    """A host that does not exist is a DNSError after every attempt."""
    with pytest.raises(termai_http.DNSError) as caught:
        call(client, dialect, "https://no-such-host.invalid")
    assert caught.value.attempts == 3
