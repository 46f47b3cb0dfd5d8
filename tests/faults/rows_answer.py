"""Faults of answers: status, waits that servers ask for, redirects, cookies (F31-F39, F50-F52)."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import requests

import termai_http
from termai_http import _transport

from .harness import KEY, PROMPT, Bench, Peer, RawServer, Seen, reply_to, row

_OPENAI, _CLAUDE = "gpt-5.5", "claude-opus-5-5"
_KINDS = {408: "timeout_error", 409: "conflict_error", 429: "rate_limit_error"}
_CLASSES = {
    408: termai_http.APIStatusError,
    409: termai_http.ConflictError,
    500: termai_http.InternalServerError,
    502: termai_http.InternalServerError,
    503: termai_http.InternalServerError,
    504: termai_http.InternalServerError,
    529: termai_http.OverloadedError,
}
_FINAL_CLASSES = {
    400: termai_http.BadRequestError,
    401: termai_http.AuthenticationError,
    403: termai_http.PermissionDeniedError,
    404: termai_http.NotFoundError,
    413: termai_http.RequestTooLargeError,
    418: termai_http.APIStatusError,
    422: termai_http.UnprocessableEntityError,
    501: termai_http.InternalServerError,
}

Answer = Callable[[bytes], bytes]


def _models(bench: Bench) -> tuple[str, ...]:
    """Return the models to play with: one of each vendor for ours."""
    return (_OPENAI, _CLAUDE) if bench.ours else (_OPENAI,)


def _error(
    status: int, headers: bytes = b"", *, code: str | None = None, said: str = "Not now."
) -> Answer:
    """Return what makes a vendor's own answer for a status, with the vendor's request id."""

    def answer(request: bytes) -> bytes:
        error: dict[str, Any] = {"message": said, "type": _KINDS.get(status, "api_error")}
        if request.startswith(b"POST /v1/messages "):
            name = b"request-id: req_claude_1\r\n"
            error |= {"details": {"error_code": code}} if code else {}
            body = json.dumps({"type": "error", "error": error, "request_id": "req_claude_1"})
        else:
            name = b"x-request-id: req_openai_1\r\n"
            body = json.dumps({"error": {**error, "param": None, "code": code}})
        head = b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        return head % (status, len(body)) + name + headers + b"\r\n" + body.encode()

    return answer


class _Scripted:
    """A server that answers each request with the next of its answers, the last for ever.

    Attributes:
        server: The raw server.
        came: When each request came, monotonic.
    """

    def __init__(self, bench: Bench, *answers: Answer) -> None:
        self._answers = answers
        self.came: list[float] = []
        self.server: RawServer = bench.answering(self._answer)
        self.url = self.server.url

    def _answer(self, peer: Peer, request: bytes) -> None:
        self.came.append(time.monotonic())
        number = min(len(self.came), len(self._answers)) - 1
        peer.send(self._answers[number](request))

    @property
    def sent(self) -> int:
        """How many requests came."""
        return len(self.came)

    @property
    def waited(self) -> float:
        """The seconds between the first two requests."""
        return self.came[1] - self.came[0]


def _must_be_sent(bench: Bench, scripted: _Scripted, times: int, of: object) -> None:
    bench.must(scripted.sent == times, f"{of!r}: sent {scripted.sent} times")


def _must_wait_too_long(
    bench: Bench, headers: bytes, wait: float | None, model: str, status: int = 429
) -> None:
    """Ask for a wait that the deadline does not leave: raised at once, with the value."""
    scripted = _Scripted(bench, _error(status, headers), reply_to)
    client = bench.client()
    seen = bench.chat(scripted.url, 0.8, client, model=model).must_be("status")
    seen.must_keep_the_deadline()
    _must_be_sent(bench, scripted, 1, headers)
    if bench.ours:
        assert seen.error is not None
        assert seen.error.attempts == 1, headers
        assert seen.error.status_code == status
        assert wait is None or seen.error.retry_after == wait, (headers, seen.error.retry_after)
        assert seen.error.retry_after is not None
        assert "would not end before the deadline" in str(seen.error)
        assert client.stats().calls.total_retries == 0


@row(
    "F31",
    fault="the server fails for now: 408, 409, 500, 502, 503, 504, 529",
    promise="tried again after a jittered wait, max_attempts times in all; any other status is "
    "raised at once",
)
def failing_for_now(bench: Bench) -> None:
    """Answer with each status once, and then well; with ours also every time."""
    for status, cls in _CLASSES.items():
        for model in _models(bench):
            scripted, client = _Scripted(bench, _error(status), reply_to), bench.client()
            bench.chat(scripted.url, 5, client, model=model).must_be("reply")
            _must_be_sent(bench, scripted, 2, status)
            if bench.ours:
                assert client.stats().calls.retries_by_cause == {str(status): 1}
                _check_given_up(bench, status, model, cls, attempts=3)
    for status, cls in _FINAL_CLASSES.items():
        # Whether 501 passes is a matter of opinion.
        if status != 501:
            scripted = _Scripted(bench, _error(status), reply_to)
            bench.chat(scripted.url, 5).must_be("status")
            _must_be_sent(bench, scripted, 1, status)
        for model in _models(bench) if bench.ours else ():
            _check_given_up(bench, status, model, cls, attempts=1)


def _check_given_up(
    bench: Bench, status: int, model: str, cls: type[BaseException], attempts: int
) -> None:
    scripted = _Scripted(bench, _error(status))
    error = bench.chat(scripted.url, 5, model=model).error
    assert type(error) is cls, (status, error)
    assert isinstance(error, termai_http.APIStatusError)
    assert (error.status_code, error.attempts, scripted.sent) == (status, attempts, attempts)
    assert error.request_id == f"req_{'claude' if model == _CLAUDE else 'openai'}_1"
    assert not error.maybe_billed


@row(
    "F32",
    fault="429 with Retry-After, as seconds or as a date",
    promise="waited for, never shorter and at most a tenth longer, if the deadline leaves so much; "
    "else RateLimitError at once, with retry_after",
)
def rate_limited(bench: Bench) -> None:
    """Ask for waits, all at the same time, and look when the second request comes."""
    headers: list[Callable[[], bytes]] = [lambda: b"Retry-After: 1\r\n", _next_second]
    if bench.ours:
        headers.append(lambda: b"retry-after:\t0.2 \r\n")
    plays = [(header, model) for header in headers for model in _models(bench)]
    with ThreadPoolExecutor(len(plays)) as pool:
        list(pool.map(lambda play: _wait_for(bench, *play), plays))
    for model in _models(bench):
        _must_wait_too_long(bench, b"Retry-After: 2\r\n", 2.0, model)
        _must_wait_too_long(bench, b"Retry-After: %b\r\n" % _date(3), None, model)


def _next_second() -> bytes:
    return b"Retry-After: %b\r\n" % _date(1)


def _date(ahead: int) -> bytes:
    return email.utils.formatdate(int(time.time()) + ahead, usegmt=True).encode()


def _wait_for(bench: Bench, header: Callable[[], bytes], model: str) -> None:
    made: list[bytes] = []
    ends: list[float] = []

    def refuse(request: bytes) -> bytes:
        made.append(header())
        return _error(429, made[0])(request)

    def accept(request: bytes) -> bytes:
        ends.append(time.time())
        return reply_to(request)

    scripted, client = _Scripted(bench, refuse, accept), bench.client()
    bench.chat(scripted.url, 5, client, model=model).must_be("reply")
    _must_be_sent(bench, scripted, 2, made[0])
    value = made[0].split(b":", 1)[1].strip()
    if value.endswith(b"GMT"):
        due = email.utils.parsedate_to_datetime(value.decode()).timestamp()
        bench.must(ends[0] >= due, f"came {due - ends[0]:.2f} s before the date")
    else:
        asked = float(value)
        bench.must(scripted.waited >= asked, f"waited {scripted.waited:.2f} s of {asked} s")
    if bench.ours:
        assert client.stats().calls.retries_by_cause == {"429": 1}


@row(
    "F33",
    fault="429 or 402 because there is no credit or a spend limit is reached",
    promise="QuotaExceededError at once, whatever the headers say; never tried again",
)
def out_of_credit(bench: Bench) -> None:
    """Answer with each billing code, where each vendor puts it, and with codes of pace."""
    eager = b"x-should-retry: true\r\nRetry-After: 0\r\n" if bench.ours else b""
    codes = (
        *("insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded"),
        *("project_spend_limit_exceeded", "organization_usage_limit_exceeded"),
        *("billing_hard_limit_reached", "enforced_spend_limit_reached"),
        "contract_spend_limit_reached",
    )
    for code in codes:
        for model in _models(bench):
            _must_be_final(bench, _error(429, eager, code=code), model, 429, code)
        _must_be_final(bench, _with_type(code), _OPENAI, 429, code)
    for model in _models(bench):
        _must_be_final(bench, _error(402, eager), model, 402, None)
        for code in ("rate_limit_exceeded", "slow_down", "ramp_limit_exceeded", "tokens"):
            scripted = _Scripted(bench, _error(429, code=code), reply_to)
            bench.chat(scripted.url, 5, model=model).must_be("reply")
            _must_be_sent(bench, scripted, 2, code)


def _with_type(code: str) -> Answer:
    """Name the code as the error's type, as older OpenAI answers do."""
    body = json.dumps({"error": {"message": "No credit.", "type": code, "code": None}}).encode()
    return lambda _: b"HTTP/1.1 429 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _must_be_final(bench: Bench, answer: Answer, model: str, status: int, code: str | None) -> None:
    scripted = _Scripted(bench, answer, reply_to)
    seen = bench.chat(scripted.url, 5, model=model).must_be("status")
    _must_be_sent(bench, scripted, 1, code or status)
    if bench.ours:
        error = seen.error
        assert type(error) is termai_http.QuotaExceededError, error
        assert not isinstance(error, termai_http.RateLimitError)
        assert (error.status_code, error.attempts) == (status, 1)
        assert code is None or error.code == code


def _must_ignore(bench: Bench, values: Sequence[bytes]) -> None:
    """Send waits that are none: the 429 is tried again as if there were no header, and raised."""
    for number, value in enumerate(values):
        model = _models(bench)[number % len(_models(bench))]
        scripted = _Scripted(bench, _error(429, b"Retry-After: %b\r\n" % value))
        seen = bench.chat(scripted.url, 5, bench.client(retries=1), model=model)
        bench.must(seen.kind == "status", f"{value[:20]!r}: {seen.name} instead of the 429")
        if bench.ours:
            assert scripted.sent == 2, value
            error = seen.error
            assert type(error) is termai_http.RateLimitError, (value, error)
            assert (error.status_code, error.attempts) == (429, 2)
            assert error.retry_after is None, value


@row(
    "F34",
    fault="a Retry-After that is garbage, negative, or a fraction",
    promise="garbage is ignored and the 429 itself is tried again or raised; fractions count",
)
def odd_retry_after(bench: Bench) -> None:
    """Send each odd value with every 429."""
    values = (b"-5", b"nan", b"inf", b"1e3", b"", b"abc", b"2, 3", "٣".encode(), b"1_0", b"0x1")
    _must_ignore(bench, values)
    if not bench.ours:
        _must_wait_too_long(bench, b"Retry-After: 1.5\r\n", 1.5, _OPENAI)
        return
    for model in _models(bench):
        for value, wait in ((b"1.5", 1.5), (b" 2. ", 2.0), (b"1.0000000000000001", 1.0)):
            _must_wait_too_long(bench, b"Retry-After: %b\r\n" % value, wait, model)
    scripted = _Scripted(bench, _error(429, b"Retry-After: .2\r\n"), reply_to)
    bench.chat(scripted.url, 5).must_be("reply")
    assert scripted.waited >= 0.2


@row(
    "F35",
    fault="a Retry-After that overflows: 5000 digits, the year 99999",
    promise="ignored: the 429 itself is tried again or raised",
)
def overflowing_retry_after(bench: Bench) -> None:
    """Send each value with every 429."""
    years = (b"99999", b"9" * 21, b"9" * 4000)
    values = [b"9" * 5000, b"9" * 4000 + b"." + b"9" * 4000]
    values += [b"Fri, 31 Dec %b 23:59:59 GMT" % year for year in years]
    values += [b"Fri, 99 Dec 2099 23:59:59 GMT", b"Fri, 31 Dec 2099 99:99:99", b"Fri, 31"]
    _must_ignore(bench, values)


@row(
    "F36",
    fault="a Retry-After of years",
    promise="raised at once, with the value as retry_after: the deadline is the only cap",
    argument="there is no cap of 120 s beside the deadline: a caller who gives a call an hour "
    "wants it to wait",
)
def endless_retry_after(bench: Bench) -> None:
    """Ask for waits that no deadline leaves."""
    waits = ((b"1" + b"0" * 20, 1e20), (b"86400", 86400.0), (b"9" * 300, float("9" * 300)))
    for model in _models(bench):
        for value, wait in waits:
            _must_wait_too_long(bench, b"Retry-After: %b\r\n" % value, wait, model)
        never = b"Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n"
        _must_wait_too_long(bench, never, None, model)
        _must_wait_too_long(bench, b"Retry-After: 7200\r\n", 7200.0, model, status=503)


@row(
    "F37",
    fault="the server says by x-should-retry whether, by retry-after-ms when to come back",
    promise="done as it says: milliseconds beat Retry-After, the flag beats the status",
)
def server_decides(bench: Bench) -> None:
    """Ask for milliseconds, forbid retries of a 503, and allow those of a 400."""
    for model in _models(bench):
        for headers in (b"retry-after-ms: 200\r\n", b"Retry-After-Ms: 200.5\r\nRetry-After: 4\r\n"):
            scripted = _Scripted(bench, _error(429, headers), reply_to)
            bench.chat(scripted.url, 3, model=model).must_be("reply")
            waited = scripted.waited
            bench.must(waited >= 0.2, "came back before the milliseconds were over")
            bench.must(waited < 4, "came back as late as Retry-After said")
        no = _Scripted(bench, _error(503, b"x-should-retry: false\r\n"), reply_to)
        bench.chat(no.url, 5, model=model).must_be("status")
        _must_be_sent(bench, no, 1, "false")
        yes = _Scripted(bench, _error(400, b"X-Should-Retry: true\r\n"), reply_to)
        bench.chat(yes.url, 5, model=model).must_be("reply")
        _must_be_sent(bench, yes, 2, "true")
        if bench.ours:
            _check_odd_wishes(bench, model)


def _check_odd_wishes(bench: Bench, model: str) -> None:
    _must_wait_too_long(bench, b"retry-after-ms: 90000\r\nRetry-After: 0\r\n", 90.0, model)
    odd = (b"-200", b"nan", b"inf", b"", b"1e2", b"junk", b"9" * 5000)
    for headers in (
        *(b"retry-after-ms: %b\r\n" % value for value in odd),
        b"x-should-retry: 1\r\n",
    ):
        scripted = _Scripted(bench, _error(503, headers), reply_to)
        bench.chat(scripted.url, 5, model=model).must_be("reply")
        assert scripted.sent == 2
    endless = _Scripted(bench, _error(400, b"x-should-retry: true\r\n"))
    error = bench.chat(endless.url, 5, model=model).error
    assert type(error) is termai_http.BadRequestError
    assert (error.attempts, endless.sent) == (3, 3)


@row(
    "F38",
    fault="503 whose body trickles, or never ends",
    promise="at most 5 s and 64 KiB of it are read, within the deadline; then the status counts "
    "as usual, with what came",
)
def trickling_error_body(bench: Bench) -> None:
    """Drip the body of a 503: once, every time, and past the deadline."""
    models = _models(bench)
    for number, (begin, more) in enumerate(_unending_errors()):
        model = models[number % len(models)]

        def answer(peer: Peer, request: bytes, begin: bytes = begin, more: bytes = more) -> None:
            if peer.number == 1:
                _go_on(peer, begin, more)
            else:
                peer.send(reply_to(request))

        server = bench.answering(answer)
        with mock.patch.object(_transport, "_ERROR_BODY_SECONDS", 0.05):
            bench.chat(server.url, 2, model=model).must_be("reply")
            bench.must(len(server.requests) == 2, f"sent {len(server.requests)} times")
            if bench.ours:
                _check_taken_in_part(bench, begin, more, model, timeout=5, attempts=3)
        if bench.ours and number < 2:
            _check_taken_in_part(bench, begin, more, model, timeout=0.4, attempts=1)


def _unending_errors() -> list[tuple[bytes, bytes]]:
    head = b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n"
    return [
        (head + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (head + b"\r\n", b"x"),
        (head + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"),
    ]


def _go_on(peer: Peer, begin: bytes, more: bytes) -> None:
    peer.send(begin + more)
    while not peer.ended.wait(0.02):
        peer.send(more)


def _check_taken_in_part(
    bench: Bench, begin: bytes, more: bytes, model: str, timeout: float, attempts: int
) -> None:
    """See the status raised, with the beginning of its body, however the reading of it ended."""
    server = bench.answering(lambda peer, _: _go_on(peer, begin, more))
    error = bench.chat(server.url, timeout, model=model).error
    assert type(error) is termai_http.InternalServerError, error
    assert (error.status_code, error.attempts) == (503, attempts)
    assert len(server.requests) == attempts
    assert (error.body or "").startswith("x")
    assert not error.maybe_billed


@row(
    "F39",
    fault="the last attempt is refused like those before",
    promise="its own error is raised, with status, vendor's code, request id and an excerpt of "
    "the body",
)
def refused_to_the_end(bench: Bench) -> None:
    """Refuse every attempt."""
    for model in _models(bench):
        for status in (429, 503):
            said = "Too many tokens per minute. You sent: " + PROMPT + " with " + KEY
            scripted = _Scripted(bench, _error(status, code="slow_down", said=said))
            seen = bench.chat(scripted.url, 8, model=model).must_be("status")
            _must_be_sent(bench, scripted, 3, status)
            bench.must(_status_of(seen) == status, f"{seen.name} without the status")
            if bench.ours:
                error = seen.error
                assert isinstance(error, termai_http.APIStatusError)
                assert error.request_id == f"req_{'claude' if model == _CLAUDE else 'openai'}_1"
                assert (error.code, error.attempts, error.retry_after) == ("slow_down", 3, None)
                assert "Too many tokens per minute" in str(error)
                assert "Too many tokens per minute" in (error.body or "")
                assert len(error.body or "") <= 200


def _status_of(seen: Seen) -> int | None:
    return seen.status or getattr(getattr(seen.error, "response", None), "status_code", None)


@row(
    "F50",
    fault="a redirect, 301, 302, 303, 307 or 308, to the same host, another port, another host",
    promise="UnexpectedRedirect at once: never followed, so neither key nor prompt goes elsewhere",
)
def redirected(bench: Bench) -> None:
    """Redirect to servers that must not be asked anything."""
    target = bench.answering(lambda peer, request: peer.send(reply_to(request)))
    current = {"answer": b""}
    server = bench.answering(lambda peer, _: peer.send(current["answer"]))
    client = bench.client()
    echo = f"/login?key={KEY}&prompt={PROMPT.replace(' ', '%20')}"
    targets = (
        *(f"{target.url}/v1/chat/completions", f"http://localhost:{target.port}/"),
        *(f"//localhost:{target.port}/x", target.url + echo, "/v1/elsewhere"),
        *(f"{server.url}/v1/elsewhere", "http://[bad", "", None),
    )
    for status in (301, 302, 303, 307, 308):
        for location in targets:
            current["answer"] = _redirect(status, location)
            for model in _models(bench):
                before = len(server.requests)
                seen = bench.chat(server.url, 5, client, model=model)
                bench.must(not target.requests, f"{status}: went on to another server")
                sent = len(server.requests) - before
                bench.must(sent == 1, f"{status} to {location}: sent {sent} times")
                seen.must_be("status")
                if bench.ours:
                    _check_redirect(seen, status)
            if bench.ours:
                raw = client.session.get(server.url, headers={"x-api-key": KEY})
                assert raw.status_code == status
    assert not target.connections


def _redirect(status: int, location: str | None) -> bytes:
    line = b"" if location is None else b"Location: %b\r\n" % location.encode()
    body = b'<p>Moved to <a href="%b">here</a>' % (location or "nowhere").encode()
    head = b"HTTP/1.1 %d Elsewhere\r\n%bContent-Length: %d\r\n\r\n"
    return head % (status, line, len(body)) + body


def _check_redirect(seen: Seen, status: int) -> None:
    error = seen.error
    assert type(error) is termai_http.UnexpectedRedirect, error
    assert (error.status_code, error.attempts) == (status, 1)
    assert not error.maybe_billed
    assert "localhost" not in str(error)


@row(
    "F51",
    fault="a redirect to itself",
    promise="UnexpectedRedirect after one request",
)
def redirect_loop(bench: Bench) -> None:
    """Redirect every request to where it came."""
    for status in (302, 307):
        for model in _models(bench):
            scripted = _Scripted(bench, lambda _, status=status: _redirect(status, "/v1/messages"))
            seen = bench.chat(scripted.url, 5, model=model)
            _must_be_sent(bench, scripted, 1, status)
            seen.must_be("status")
            if bench.ours:
                _check_redirect(seen, status)


@row(
    "F52",
    fault="the server sets cookies",
    promise="none is kept, and none is ever sent: one jar would carry them to other callers",
)
def cookies_set(bench: Bench) -> None:
    """Set cookies with replies, errors and redirects, and look at every later request."""
    lines = (
        b"Set-Cookie: tenant=first; Path=/; Max-Age=99999\r\n"
        b"Set-Cookie: tenant=second; Domain=127.0.0.1\r\nSet-Cookie: bare\r\n"
    )
    answers: list[Answer] = [
        lambda request: reply_to(request, headers=lines),
        _error(503, lines),
        lambda request: reply_to(request, headers=lines),
        _error(400, lines),
        reply_to,
    ]
    for model in _models(bench):
        scripted, client = _Scripted(bench, *answers), bench.client()
        for kind in ("reply", "reply", "status", "reply"):
            bench.chat(scripted.url, 5, client, model=model).must_be(kind)
        _must_be_sent(bench, scripted, 5, "five answers")
        asked = b"".join(request.partition(b"\r\n\r\n")[0] for request in scripted.server.requests)
        bench.must(b"\r\ncookie:" not in asked.lower(), "a cookie was sent back")
        if bench.ours:
            assert not client.session.cookies
            raw = client.session.get(scripted.url, cookies={"own": "1"})
            assert isinstance(raw, requests.Response)
            assert not client.session.cookies
