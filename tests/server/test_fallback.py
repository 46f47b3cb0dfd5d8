"""``fallback=`` on real sockets: who is asked, what each server sees, what the caller learns."""

from __future__ import annotations

import json
import logging
import pickle
import runpy
import socket
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

import termai_http
from termai_http import (
    CallCancelled,
    CancelToken,
    ChatRequest,
    ChatResponse,
    Client,
    ClientClosed,
    ConfigurationError,
    Conversation,
    DeadlineExceeded,
    HttpClientConfig,
    InvalidRequestError,
    MissingKeyError,
    RetryConfig,
    StreamInterrupted,
    Target,
    TermaiHttpError,
    events,
)
from termai_http._batch_task import _here
from termai_http._chat import send_chat
from termai_http._options import CallOptions
from termai_http._target import Account
from termai_http.contrib.breaker import CircuitBreaker
from termai_http.layers import BuiltLayer, CallRequest, Layer, Outcome
from termai_http.testing import (
    CutAfter,
    Delay,
    ErrorEvent,
    Fault,
    Html,
    RecordedRequest,
    ResetAfterRead,
    Server,
    Silent,
    Stall,
    Status,
    Text,
    ToolCalls,
    TruncatedBody,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "fallback.py"
FAST = RetryConfig(base_delay=0.001, max_delay=0.002)
PROMPT = "The canary prompt that nothing may show."
MODELS = {"openai": "gpt-5.5", "claude": "claude-opus-5-5"}
KEYS = {"openai": "sk-canary-openai-0123456789", "claude": "sk-ant-canary-0123456789"}
VARIABLES = {"openai": "OPENAI_API_KEY", "claude": "ANTHROPIC_API_KEY"}
# Of both vendors' streams this comes before the first piece of text, and before their end.
BEFORE_TEXT = {"openai": CutAfter(1), "claude": CutAfter(3)}
AFTER_TEXT = {"openai": CutAfter(3), "claude": CutAfter(5)}


@attrs.frozen
class Pair:
    """Two vendors, each with a server, a key and a model of its own.

    Attributes:
        first: Who is asked.
        second: Who is asked next.
        servers: By vendor.
    """

    first: str
    second: str
    servers: dict[str, Server]

    @property
    def asked(self) -> Server:
        """The first one's server."""
        return self.servers[self.first]

    @property
    def next(self) -> Server:
        """The second one's."""
        return self.servers[self.second]

    @property
    def options(self) -> dict[str, Any]:
        """What a call is made with, so that the first is asked and then the second."""
        return {"model": MODELS[self.first], "fallback": [MODELS[self.second]]}

    @property
    def counts(self) -> tuple[int, int]:
        """How many requests each of them got."""
        return len(self.asked.requests), len(self.next.requests)


@pytest.fixture(params=["openai", "claude"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Let the environment name both vendors' servers and keys; each is the first in turn."""
    first = str(request.param)
    with Server() as one, Server() as other:
        servers = {"openai": one, "claude": other}
        monkeypatch.setenv("OPENAI_BASE_URL", one.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", other.claude_url)
        for vendor, variable in VARIABLES.items():
            monkeypatch.setenv(variable, KEYS[vendor])
        yield Pair(first, "claude" if first == "openai" else "openai", servers)


@contextmanager
def client_with(**fields: Any) -> Iterator[Client]:
    """Give a client that retries without long waits."""
    with Client(HttpClientConfig(**{"retry": FAST, "trust_env": False, **fields})) as made:
        yield made


def shown(error: BaseException) -> str:
    """Return all that an error shows, also once it was pickled."""
    again = pickle.loads(pickle.dumps(error))
    return f"{error!s} {error!r} {error.args!r} {vars(error)!r} {again!s} {vars(again)!r}"


PASSING: dict[str, tuple[Fault, str, int]] = {
    "overloaded": (Status(529), "OverloadedError", 2),
    "failed": (Status(500), "InternalServerError", 2),
    "unavailable": (Status(503), "InternalServerError", 2),
    "not implemented": (Status(501), "InternalServerError", 1),
    "limited": (Status(429), "RateLimitError", 2),
    "quota": (Status(429, code="insufficient_quota"), "QuotaExceededError", 1),
    "payment": (Status(402), "QuotaExceededError", 1),
    "request timeout": (Status(408), "APIStatusError", 2),
    "conflict": (Status(409), "ConflictError", 2),
    "reset": (ResetAfterRead(), "APIConnectionError", 2),
    "truncated": (TruncatedBody(), "TruncatedResponse", 2),
    "silent": (Silent(), "ReadTimeout", 1),
}


@pytest.mark.parametrize("case", PASSING)
def test_the_next_is_asked_where_the_first_cannot_answer(pair: Pair, case: str) -> None:
    """The reply says who answered, who did not, and why; attempts are counted at the servers."""
    fault, error, attempts = PASSING[case]
    pair.asked.script(*[fault] * 5)
    with client_with(read_timeout=0.05 if case == "silent" else None) as client:
        reply = client.chat(PROMPT, **pair.options)
    assert reply.text == f"You said: {PROMPT}"
    assert (reply.provider, reply.model) == (pair.second, MODELS[pair.second])
    assert pair.counts == (attempts, 1)
    (failed,) = reply.fallbacks
    assert (failed.model, failed.provider) == (MODELS[pair.first], pair.first)
    assert failed.host == f"127.0.0.1:{pair.asked.port}"
    assert (failed.error, failed.attempts) == (error, attempts)
    statuses = {"reset": None, "silent": None, "truncated": 200}
    assert failed.status_code == (fault.status if isinstance(fault, Status) else statuses[case])
    assert bool(failed.request_id) == isinstance(fault, (Status, TruncatedBody))
    assert 0 < failed.elapsed <= reply.elapsed
    assert reply.attempts == 1
    assert failed.maybe_billed == (case in ("reset", "truncated", "silent"))
    assert pickle.loads(pickle.dumps(reply)).fallbacks == reply.fallbacks


def test_a_reply_of_the_first_has_no_fallbacks(pair: Pair) -> None:
    """Nobody else is asked, and nothing is said."""
    with client_with() as client:
        pair.asked.script(Status(503))
        reply = client.chat(PROMPT, **pair.options)
        with client.stream(PROMPT, **pair.options) as stream:
            assert "".join(stream) == f"You said: {PROMPT}"
    assert (reply.fallbacks, stream.fallbacks) == ((), ())
    assert reply.attempts == 2
    assert pair.counts == (3, 0)


@pytest.mark.parametrize("way", ["refused", "tls", "name"])
def test_a_host_that_cannot_be_reached_goes_on(
    pair: Pair, way: str, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is refused, a TLS that fails, a name that is none: the other may answer."""
    lookup = socket.getaddrinfo

    def unknown(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return lookup(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    errors = {"refused": "APIConnectionError", "tls": "TLSError", "name": "DNSError"}
    with Server(tls=context) as untrusted, client_with() as client:
        urls = {
            "refused": f"http://127.0.0.1:{port}",
            "tls": untrusted.url,
            "name": "https://no-such-host.invalid",
        }
        reply = client.chat(PROMPT, base_url=urls[way], **pair.options)
    assert reply.provider == pair.second
    assert reply.fallbacks[0].error == errors[way]
    assert not reply.fallbacks[0].maybe_billed


@pytest.mark.parametrize(
    "fault", [*map(Status, (400, 401, 403, 404, 413, 418, 422, 302)), Html()], ids=str
)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_wrong_with_the_call_is_told(pair: Pair, fault: Fault, streaming: bool) -> None:
    """A wrong request, key, model or base URL is not hidden behind another's good answer."""
    pair.asked.script(*[fault] * 3)
    with client_with() as client, pytest.raises(TermaiHttpError) as caught:
        (client.stream if streaming else client.chat)(PROMPT, **pair.options)
    assert pair.counts == (1, 0)
    assert caught.value.fallbacks == ()


def test_a_reply_that_does_not_fit_is_none_to_be_asked_elsewhere(pair: Pair) -> None:
    """``OutputError`` was paid, and says what the model wrote."""
    pair.asked.script(Text("no number"))
    with client_with() as client, pytest.raises(termai_http.OutputError):
        client.chat(PROMPT, output=int, **pair.options)
    assert pair.counts == (1, 0)


def test_all_that_failed_are_told(pair: Pair) -> None:
    """The last one's error is raised; it names the others, and shows no key and no prompt."""
    pair.asked.fail_when(lambda request: Status(529, body=f"busy: {PROMPT} {request.headers}"))
    pair.next.fail_when(lambda request: Status(429, body=f"limited: {PROMPT} {request.headers}"))
    with client_with() as client, pytest.raises(termai_http.RateLimitError) as caught:
        client.chat(PROMPT, **pair.options)
    error = caught.value
    assert (error.provider, error.model) == (pair.second, MODELS[pair.second])
    assert [(one.provider, one.error) for one in error.fallbacks] == [
        (pair.first, "OverloadedError")
    ]
    assert f"Asked before: {error.fallbacks[0]}." in str(error)
    assert error.elapsed is not None
    assert error.elapsed >= error.fallbacks[0].elapsed
    for secret in (PROMPT, *KEYS.values()):
        assert secret not in shown(error)
    assert pickle.loads(pickle.dumps(error)).fallbacks == error.fallbacks


def test_the_second_ones_own_fault_ends_it(pair: Pair) -> None:
    """A key that the second vendor refuses is told, and a third is not asked."""
    pair.asked.script(*[Status(529)] * 3)
    pair.next.script(Status(401))
    third = Target("other", base_url=pair.asked.openai_url, api_key="k")
    options = {**pair.options, "fallback": [*pair.options["fallback"], third]}
    with client_with() as client, pytest.raises(termai_http.AuthenticationError) as caught:
        client.chat(PROMPT, **options)
    assert [one.error for one in caught.value.fallbacks] == ["OverloadedError"]
    assert pair.counts == (1, 1)


@pytest.mark.parametrize(
    ("most", "targets", "counts"), [(3, 2, [2, 1]), (1, 2, [1, 1]), (4, 3, [2, 1, 1])]
)
def test_attempts_are_those_of_one_call(pair: Pair, most: int, targets: int, counts: Any) -> None:
    """All targets together make no more attempts than one would, unless there are more of them."""
    for server in pair.servers.values():
        server.fail_when(lambda request: Status(529))
    fallback = [
        Target(f"model-{number}", base_url=pair.next.openai_url, provider="openai")
        for number in range(1, targets)
    ]
    with client_with() as client, pytest.raises(termai_http.OverloadedError) as caught:
        client.chat(
            PROMPT,
            model=MODELS[pair.first],
            fallback=fallback,
            retry=attrs.evolve(FAST, max_attempts=most),
        )
    seen = Counter(
        request.model for server in (pair.asked, pair.next) for request in server.requests
    )
    assert list(seen.values()) == counts
    error = caught.value
    assert [one.attempts for one in error.fallbacks] + [error.attempts] == counts


def test_a_target_that_used_less_leaves_more(pair: Pair) -> None:
    """What the first did not try again, its quota being used up, the second may."""
    pair.asked.script(Status(402))
    pair.next.script(Status(503))
    with client_with() as client:
        reply = client.chat(PROMPT, **pair.options)
    assert pair.counts == (1, 2)
    assert reply.attempts == 2


def test_one_deadline_spans_all(pair: Pair) -> None:
    """The second gets what the first left; its error counts from the call's entry."""
    pair.asked.script(Silent())
    pair.next.script(Delay(30))
    with client_with(read_timeout=0.5) as client, pytest.raises(DeadlineExceeded) as caught:
        client.chat(PROMPT, timeout=0.9, **pair.options)
    error = caught.value
    (failed,) = error.fallbacks
    assert failed.error == "ReadTimeout"
    assert 0.5 <= failed.elapsed < 0.9 <= error.elapsed  # type: ignore[operator]
    assert "No time was left" not in str(error)
    # As the caller gave it, and not what was left of it for the last one.
    assert str(error).startswith("The deadline of 0.9 s passed")
    assert error.maybe_billed
    assert pair.counts == (1, 1)


def test_a_deadline_that_is_over_asks_nobody(pair: Pair) -> None:
    """Where the first took all the time, its own error is raised, and says why nobody was asked."""
    pair.asked.script(Silent())
    with client_with() as client, pytest.raises(DeadlineExceeded) as caught:
        client.chat(PROMPT, timeout=0.1, **pair.options)
    assert "No time was left to ask the other targets of fallback=. " in str(caught.value)
    assert "HttpClientConfig(read_timeout=...) keeps some for them." in str(caught.value)
    assert caught.value.fallbacks == ()
    assert pair.counts == (1, 0)


def test_a_cancelled_call_asks_nobody(pair: Pair) -> None:
    """Cancelled while the first is asked, also by its answer, the call ends there."""
    token = CancelToken()

    def cancel(request: RecordedRequest) -> Fault:
        token.cancel()
        return Status(529)

    pair.asked.fail_when(cancel)
    with client_with() as client, pytest.raises(CallCancelled):
        client.chat(PROMPT, cancel=token, **pair.options)
    assert pair.counts == (1, 0)


def test_a_closed_client_asks_nobody(pair: Pair) -> None:
    """Closed while the first is asked, the call ends there."""
    with client_with() as client:

        def close(request: RecordedRequest) -> Fault:
            client.close()
            return Status(529)

        pair.asked.fail_when(close)
        with pytest.raises(ClientClosed):
            client.chat(PROMPT, **pair.options)
    assert pair.counts == (1, 0)


def all_of(requests: list[RecordedRequest]) -> str:
    """Return everything that a server got."""
    return "\n".join(f"{one.path}?{one.query} {dict(one.headers)} {one.body!r}" for one in requests)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_the_first_ones_never_reaches_the_second(pair: Pair, streaming: bool) -> None:
    """Key, header, query and body of one call are looked for in all that the other server got."""
    pair.asked.script(*[Status(529)] * 3)
    given = {
        "api_key": "sk-of-this-call-0123456789",
        "extra_headers": {"X-Mine": "header-of-this-call"},
        "extra_query": {"mine": "query-of-this-call"},
        "extra_body": {"metadata": {"user_id": "body-of-this-call"}},
        "provider": pair.first,
        "base_url": pair.asked.url + "/of-this-call",
    }
    with client_with() as client:
        ask = client.stream if streaming else client.chat
        answer = ask(PROMPT, **given, **pair.options)
        if streaming:
            assert "".join(answer) == f"You said: {PROMPT}"
    first, second = all_of(pair.asked.requests), all_of(pair.next.requests)
    assert first.count("of-this-call") == 5 * len(pair.asked.requests)
    assert "of-this-call" not in second
    assert KEYS[pair.second] in second
    assert KEYS[pair.second] not in first
    assert KEYS[pair.first] not in first + second


@pytest.mark.parametrize("alike", [False, True])
def test_an_adapters_account_is_the_first_ones(pair: Pair, alike: bool) -> None:
    """Its key, URL and organization go to no other vendor, and to no other server of its own."""
    pair.asked.fail_when(
        lambda request: Status(529) if request.path.startswith("/adapter") else None
    )
    account = Account(
        provider=pair.first,
        api_key="sk-of-the-adapter-0123456789",
        base_url=pair.asked.url + "/adapter",
        organization="org-of-the-adapter" if pair.first == "openai" else None,
        project="proj-of-the-adapter" if pair.first == "openai" else None,
    )
    model = MODELS[pair.first if alike else pair.second]
    with client_with() as client:
        reply = send_chat(
            client._core,
            account,
            ChatRequest(MODELS[pair.first], PROMPT),
            CallOptions(fallback=[model]),
        )
    assert isinstance(reply, ChatResponse)
    got = [*pair.asked.requests, *pair.next.requests]
    assert len(got) == 3
    mine, others = all_of(got[:2]), all_of(got[2:])
    assert "sk-of-the-adapter" in mine
    assert "adapter" not in others
    assert KEYS[pair.first if alike else pair.second] in others


def test_a_target_has_a_key_a_server_and_more_of_its_own(pair: Pair) -> None:
    """What an entry gives reaches its server, and the first one's does not get it."""
    pair.asked.script(*[Status(529)] * 3)
    target = Target(
        "my-model",
        provider=pair.second,
        api_key="sk-of-the-entry-0123456789",
        base_url=pair.next.url + "/of-the-entry",
        extra_headers={"X-Its": "header-of-the-entry"},
        extra_query={"its": "query-of-the-entry"},
        extra_body={"metadata": {"user_id": "body-of-the-entry"}},
    )
    with client_with() as client:
        reply = client.chat(PROMPT, model=MODELS[pair.first], fallback=[target])
    assert reply.model == "my-model"
    assert all_of(pair.next.requests).count("of-the-entry") == 5
    assert "of-the-entry" not in all_of(pair.asked.requests)
    assert KEYS[pair.second] not in all_of(pair.next.requests)


def test_several_keys_of_one_vendor(pair: Pair) -> None:
    """A key without credit is followed by the next; each is tried once."""
    vendor, server = pair.first, pair.asked
    used = [f"sk-number-{number}-0123456789" for number in range(4)]
    server.fail_when(lambda request: None if used[2] in all_of([request]) else Status(402))
    spare = [Target(MODELS[vendor], api_key=key) for key in used[1:]]
    with client_with() as client:
        reply = client.chat(PROMPT, model=MODELS[vendor], api_key=used[0], fallback=spare)
    assert [one.error for one in reply.fallbacks] == ["QuotaExceededError"] * 2
    asked = [all_of([request]) for request in server.requests]
    assert [key in one for one, key in zip(asked, used, strict=False)] == [True] * 3
    assert not any(key in str(reply.fallbacks) for key in used)


def test_neutral_options_go_to_all(pair: Pair) -> None:
    """System, limit, tools and parameters are said to each in its own dialect."""
    pair.asked.script(*[Status(529)] * 3)

    def weather(city: str) -> str:
        """Tell the weather."""
        return city

    with client_with() as client:
        client.chat(
            "Oslo",
            system="Be brief.",
            max_tokens=77,
            temperature=0.5,
            tools=[weather],
            stop=["END"],
            **pair.options,
        )
    for request in (pair.asked.requests[0], pair.next.requests[0]):
        assert request.tools == ("weather",)
        assert "Be brief." in request.body.decode()
        assert request.json["temperature"] == 0.5
        assert "END" in request.body.decode()
        assert 77 in request.json.values()


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_one_vendors_api_is_not_the_others(pair: Pair, api: str) -> None:
    """A target speaks the API that it names, whatever the call's own was."""
    if pair.first == "openai":
        pair.asked.script(*[Status(529)] * 3)
        with client_with() as client:
            client.chat(PROMPT, api=api, **pair.options)
        assert pair.next.requests[-1].path == "/v1/messages"
        return
    pair.asked.script(*[Status(529)] * 3)
    with client_with() as client:
        client.chat(PROMPT, model=MODELS["claude"], fallback=[Target("gpt-5.5", api=api)])
    path = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[api]
    assert pair.next.requests[-1].path == path


@pytest.mark.parametrize(
    ("entry", "error", "part"),
    [
        (Target("m", base_url="ftp://x"), ConfigurationError, "https://"),
        (Target("m", base_url="http://far.example"), ConfigurationError, "in the clear"),
        (Target("claude-x", api="responses"), InvalidRequestError, "OpenAI's"),
        (Target("m", api_version="2026-10-21"), InvalidRequestError, "Claude's"),
        (Target("m", api_key="two words"), ConfigurationError, "position 3"),
        (Target("m", extra_headers={"Authorization": "x"}), InvalidRequestError, "may not set"),
        (Target("m", extra_body={"stream": True}), InvalidRequestError, "stream"),
    ],
)
def test_a_wrong_target_is_told_at_the_first_use(
    pair: Pair, entry: Target, error: type[Exception], part: str
) -> None:
    """All are prepared before anything is sent, so that a slip is not found in an outage."""
    options = {"model": MODELS[pair.first], "fallback": [MODELS[pair.second], entry]}
    with client_with() as client, pytest.raises(error, match=part) as caught:
        client.chat(PROMPT, **options)
    assert f"fallback[1] ({entry.model}): " in str(caught.value)
    assert pair.counts == (0, 0)
    assert PROMPT not in shown(caught.value)


def test_a_name_that_no_request_takes_is_told_in_words_that_can_be_printed(pair: Pair) -> None:
    """Half a surrogate pair has no encoding, in a message neither."""
    with client_with() as client, pytest.raises(InvalidRequestError, match="surrogate") as caught:
        client.chat(PROMPT, model=MODELS[pair.first], fallback=["gpt\ud800"])
    assert str(caught.value).encode().startswith(b"fallback[0] (gpt")
    assert pair.counts == (0, 0)


def test_a_missing_key_is_told_at_the_first_use(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of each target is looked up before anything is sent."""
    monkeypatch.delenv(VARIABLES[pair.second])
    with client_with() as client:
        for ask in (client.chat, client.stream):
            with pytest.raises(MissingKeyError) as caught:
                ask(PROMPT, **pair.options)
            assert f"fallback[0] ({MODELS[pair.second]}): No " in str(caught.value)
            assert caught.value.provider == pair.second
    assert pair.counts == (0, 0)
    assert client.stats().calls.total_requests == 0


BROKEN = {
    "status": [Status(529)] * 3,
    "error event": [ErrorEvent(0)] * 3,
    "limit event": [ErrorEvent(0, type="rate_limit_error", code="rate_limit_exceeded")] * 3,
    "cut": [],
    "stall": [Stall(0)] * 3,
    "reset": [ResetAfterRead()] * 3,
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_stream_that_did_not_begin_goes_on(pair: Pair, case: str) -> None:
    """Until the first piece of the reply came, the next may be asked."""
    pair.asked.script(*(BROKEN[case] or [BEFORE_TEXT[pair.first]] * 3))
    with (
        client_with(read_timeout=0.05 if case == "stall" else None) as client,
        client.stream(PROMPT, **pair.options) as stream,
    ):
        (failed,) = stream.fallbacks
        assert "".join(stream) == f"You said: {PROMPT}"
    assert stream.response is not None
    assert stream.response.provider == pair.second
    assert stream.response.fallbacks == stream.fallbacks
    assert stream.response.elapsed > failed.elapsed
    assert failed.provider == pair.first
    assert len(pair.next.requests) == 1


def test_a_stream_that_began_is_never_asked_elsewhere(pair: Pair) -> None:
    """After the first piece the call is committed, and a break is told."""
    pair.asked.script(AFTER_TEXT[pair.first])
    pieces: list[str] = []
    with (
        client_with() as client,
        client.stream(PROMPT, **pair.options) as stream,
        pytest.raises(StreamInterrupted) as caught,
    ):
        pieces.extend(stream)
    assert "".join(pieces) == caught.value.partial != ""
    assert (caught.value.fallbacks, stream.fallbacks) == ((), ())
    assert pair.counts == (1, 0)


def test_a_stream_of_the_second_that_breaks_says_who_failed_before(pair: Pair) -> None:
    """Nobody else is asked, and the error has the first one's end."""
    pair.asked.script(*[Status(529)] * 3)
    pair.next.script(AFTER_TEXT[pair.second])
    third = Target("other", base_url=pair.asked.openai_url, api_key="k", provider="openai")
    options = {**pair.options, "fallback": [*pair.options["fallback"], third]}
    with (
        client_with() as client,
        client.stream(PROMPT, **options) as stream,
        pytest.raises(StreamInterrupted) as caught,
    ):
        list(stream)
    assert [one.provider for one in caught.value.fallbacks] == [pair.first]
    assert pickle.loads(pickle.dumps(caught.value)).fallbacks == stream.fallbacks
    assert caught.value.elapsed is not None
    assert caught.value.elapsed > stream.fallbacks[0].elapsed
    assert pair.counts == (1, 1)


def test_each_targets_part_is_a_call_in_the_figures(pair: Pair) -> None:
    """It is counted and told by its vendor and model, as a call of its own."""
    pair.asked.script(*[Status(529)] * 3)
    heard: list[Any] = []
    with client_with() as client, client.listening(heard.append):
        client.chat(PROMPT, **pair.options)
        calls = client.stats().calls
    assert (calls.total_requests, calls.successful_requests, calls.failed_requests) == (2, 1, 1)
    assert calls.failures_by_class == {"OverloadedError": 1}
    ends = [one for one in heard if isinstance(one, (events.CallFailed, events.CallSucceeded))]
    assert [(type(one).__name__, one.model, one.attempts) for one in ends] == [
        ("CallFailed", MODELS[pair.first], 2),
        ("CallSucceeded", MODELS[pair.second], 1),
    ]
    assert len({one.call_id for one in ends}) == 2


def test_each_step_is_a_line_in_the_log(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """A warning says who failed, why, and who is asked now; no key and no prompt."""
    pair.asked.script(*[Status(529)] * 3)
    with client_with() as client, caplog.at_level(logging.WARNING, "termai_http"):
        reply = client.chat(PROMPT, **pair.options)
    lines = [one.getMessage() for one in caplog.records if "Falling back" in one.getMessage()]
    assert lines == [
        f"Falling back to {MODELS[pair.second]} at 127.0.0.1:{pair.next.port} after 2 attempts: "
        f"{reply.fallbacks[0]}"
    ]
    for secret in (PROMPT, *KEYS.values()):
        assert secret not in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_an_open_circuit_goes_on_without_a_socket(pair: Pair, streaming: bool) -> None:
    """While the first one's circuit is open, the second is asked at once, and may use all tries."""
    pair.asked.fail_when(lambda request: Status(529))
    breaker = CircuitBreaker(failures=2, reset_after=600)
    with client_with(layers=(breaker,)) as client:
        ask = client.stream if streaming else client.chat
        options = {**pair.options, "retry": attrs.evolve(FAST, max_attempts=3)}
        list(ask(PROMPT, **options)) if streaming else ask(PROMPT, **options)
        assert pair.counts == (2, 1)
        pair.next.script(Status(503))
        answer = ask(PROMPT, **options)
        if streaming:
            assert "".join(answer) == f"You said: {PROMPT}"
    (failed,) = answer.fallbacks
    assert (failed.error, failed.attempts, failed.status_code) == ("CircuitOpenError", 0, None)
    assert pair.counts == (2, 3)


class HoldingBack(BuiltLayer):
    """Refuses what goes to one vendor, as pacing does where a call could not begin in time."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor

    def around_attempt(self, request: CallRequest, send: Any) -> Outcome[Any]:
        """Refuse, or send."""
        if request.job.provider != self.vendor:
            return send(request)  # type: ignore[no-any-return]
        return Outcome(error=DeadlineExceeded("It could not begin in time.", phase="pacing"))


@attrs.frozen
class HoldBack(Layer):
    """Describes one that holds a vendor back."""

    vendor: str
    name: ClassVar[str] = "hold-back"

    def build(self, config: HttpClientConfig, clock: Any) -> HoldingBack:
        """Build it."""
        return HoldingBack(self.vendor)


def test_a_call_that_is_held_back_goes_on(pair: Pair) -> None:
    """Where the first could not begin before the deadline, the second still may."""
    with client_with() as client:
        reply = client.chat(PROMPT, layers=[HoldBack(pair.first)], timeout=30, **pair.options)
    (failed,) = reply.fallbacks
    assert (failed.error, failed.attempts) == ("DeadlineExceeded", 0)
    assert pair.counts == (0, 1)


def test_who_listens_to_a_call_hears_of_all_its_targets(pair: Pair) -> None:
    """``on_event`` and ``on_retry`` are neutral: they go along to each."""
    pair.asked.script(*[Status(529)] * 2)
    heard: list[Any] = []
    retries: list[Any] = []
    with client_with() as client:
        client.chat(PROMPT, on_event=heard.append, on_retry=retries.append, **pair.options)
    ends = [one for one in heard if isinstance(one, (events.CallFailed, events.CallSucceeded))]
    assert [one.provider for one in ends] == [pair.first, pair.second]
    assert [one.provider for one in retries] == [pair.first]


def test_run_tools_asks_the_next_in_each_round(pair: Pair) -> None:
    """A run goes on with whoever answers, from what the other one said."""
    pair.asked.script(ToolCalls(("weather", {"city": "Oslo"})), *[Status(529)] * 2, Text("unused"))

    def weather(city: str) -> str:
        """Tell the weather."""
        return f"Rain in {city}."

    with client_with() as client:
        run = client.run_tools("Oslo?", tools=[weather], **pair.options)
    assert [reply.provider for reply in run.replies] == [pair.first, pair.second]
    assert [len(reply.fallbacks) for reply in run.replies] == [0, 1]
    assert pair.next.requests[-1].tool_results == ("Rain in Oslo.",)
    assert "Rain in Oslo." in run.text


def test_a_conversation_goes_on_with_whoever_answers(pair: Pair) -> None:
    """Questions fall back, tokens are counted by the model itself, and nothing is saved of it."""
    with client_with() as client:
        talk = Conversation(client=client, **pair.options)
        pair.asked.script(*[Status(529)] * 2)
        assert talk.ask("One").provider == pair.second
        assert talk.ask("Two").provider == pair.first
        assert pair.asked.requests[-1].prompt == "Two"
        pair.asked.script(*[Status(529)] * 2)
        with talk.stream("Three") as stream:
            list(stream)
        assert len(stream.fallbacks) == 1
        before = pair.counts
        assert talk.count_tokens("Four") > 0
    assert pair.counts == (before[0] + 1, before[1])
    assert len(talk) == 6
    assert "fallback" not in talk.to_json()


def test_a_batch_falls_back_item_by_item(pair: Pair) -> None:
    """Each item has a fallback of its own, on threads of ours."""
    pair.asked.fail_when(lambda request: Status(402) if "odd" in request.prompt else None)
    prompts = [f"{'odd' if number % 2 else 'even'} {number}" for number in range(20)]
    with client_with() as client:
        replies = list(client.chat_many(prompts, max_workers=8, **pair.options))
    assert [reply.text for reply in replies] == [f"You said: {prompt}" for prompt in prompts]
    for number, reply in enumerate(replies):
        assert reply.provider == (pair.second if number % 2 else pair.first)
        assert len(reply.fallbacks) == number % 2


def test_a_results_file_keeps_who_failed_and_may_get_a_fallback_later(
    pair: Pair, tmp_path: Any
) -> None:
    """What failed for want of another target is asked again with one; what is there, is kept."""
    path = tmp_path / "results.jsonl"
    pair.asked.fail_when(lambda request: Status(402) if "odd" in request.prompt else None)
    prompts = ["even 0", "odd 1", "even 2"]
    with client_with() as client:
        model = pair.options["model"]
        first = client.chat_many(prompts, model=model, results=path).run()
        assert (first.succeeded, first.failed) == (2, 1)
        second = client.chat_many(prompts, results=path, **pair.options).run()
        assert (second.succeeded, second.failed, second.skipped) == (1, 0, 2)
        kept = list(client.chat_many(prompts, model=model, results=path))
    assert [len(reply.fallbacks) for reply in kept] == [0, 1, 0]
    (failed,) = kept[1].fallbacks
    assert (failed.provider, failed.error, failed.status_code) == (
        *(pair.first, "QuotaExceededError", 402),
    )
    text = path.read_text()
    for secret in (*prompts, *KEYS.values()):
        assert secret not in text.replace("You said: " + secret, "")


def test_an_errors_line_in_a_results_file_has_who_failed_before(pair: Pair, tmp_path: Any) -> None:
    """As that of a reply, for programs: the message names them for people."""
    path = tmp_path / "results.jsonl"
    for server in pair.servers.values():
        server.script(Status(402))
    with client_with() as client:
        batch = client.chat_many([PROMPT], results=path, return_exceptions=True, **pair.options)
        (error,) = batch
    (told,) = json.loads(path.read_text())["error"]["fallbacks"]
    (failed,) = error.fallbacks
    assert told == {**attrs.asdict(failed), "elapsed": round(failed.elapsed, 3)}
    assert PROMPT not in path.read_text()


def test_the_example_says_who_answered(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without credit on both accounts the other vendor answers; where all fail it exits with 1."""
    pair.servers["openai"].fail_when(lambda request: Status(402))
    monkeypatch.setenv("OPENAI_SPARE_KEY", "sk-spare-0123456789")
    monkeypatch.setattr(sys, "argv", ["fallback.py", "Name a lake."])
    example = runpy.run_path(str(EXAMPLE))
    assert example["main"]() == 0
    said = capsys.readouterr().out
    assert said.count("no answer from gpt-5.5 at 127.0.0.1") == 2
    assert "claude-opus-5-5 answered in" in said
    assert "You said: Name a lake." in said
    assert "sk-spare" in all_of(pair.servers["openai"].requests)
    assert "sk-spare" not in said + all_of(pair.servers["claude"].requests)
    pair.servers["claude"].script(Status(529))
    assert example["main"]() == 1
    assert "nobody answered" in capsys.readouterr().err


class Posting(ThreadPoolExecutor):
    """Carries out what it is given from its pickle, as another process would."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Pickle a call, and make it from its pickle."""
        return super().submit(_carry_out, pickle.dumps((fn, args, kwargs)))


def _carry_out(posted: bytes) -> Any:
    call, args, kwargs = pickle.loads(posted)
    # There is no client of the batch's in another process.
    _here.pop(args[0].batch, None)
    return pickle.loads(pickle.dumps(call(*args, **kwargs)))


def test_a_fallback_travels_to_other_processes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, targets without keys and the base URLs of here go along; keys are those of there."""
    pair.asked.fail_when(lambda request: Status(402))
    termai_http.initialize(HttpClientConfig(retry=FAST, trust_env=False))
    fallback = [
        Target("gone", provider=pair.second, extra_headers={"X-A": "b"}),
        MODELS[pair.second],
    ]
    pair.next.fail_when(lambda request: Status(402) if request.model == "gone" else None)
    with Posting(2) as pool:
        batch = termai_http.chat_many(
            ["a", "b"], model=MODELS[pair.first], executor=pool, fallback=fallback
        )
        # Another environment, with the keys: the URLs came with the items.
        monkeypatch.delenv("OPENAI_BASE_URL")
        monkeypatch.delenv("ANTHROPIC_BASE_URL")
        replies = list(batch)
    assert [reply.text for reply in replies] == ["You said: a", "You said: b"]
    for reply in replies:
        assert reply.provider == pair.second
        assert [one.model for one in reply.fallbacks] == [MODELS[pair.first], "gone"]
    assert pair.counts == (2, 4)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"api_key": "sk-canary-0123456789"}, "has an api_key, which does not travel"),
        ({"extra_headers": {"X-Api-Key": "sk-canary-0123456789"}}, "may not set X-Api-Key"),
        ({"extra_query": {"key": "sk-canary-0123456789"}}, "may not set key"),
        ({"base_url": "http://far.example"}, "base_url .* in the clear"),
        ({"base_url": "far.example"}, "base_url must begin"),
    ],
)
def test_what_must_not_travel_is_refused(pair: Pair, fields: Any, part: str) -> None:
    """A key in an entry does not leave this process: the message says why, and shows none."""
    fallback = ["other", Target("m", **fields)]
    with Posting(1) as pool, pytest.raises(ConfigurationError, match=part) as caught:
        termai_http.chat_many(["a"], model=MODELS[pair.first], executor=pool, fallback=fallback)
    assert "sk-canary" not in shown(caught.value)
    assert "fallback[1]" in str(caught.value)
    assert pair.counts == (0, 0)


def test_32_threads_each_get_an_answer_to_their_own(pair: Pair) -> None:
    """However threads take turns, replies, failures and attempts are not mixed up."""
    pair.asked.fail_when(lambda request: Status(529, retry_after=0))
    replies: dict[int, list[ChatResponse]] = {}
    interval = sys.getswitchinterval()
    start = threading.Barrier(32)

    def ask(number: int, client: Client) -> None:
        start.wait()
        replies[number] = [
            client.chat(
                f"{number} {turn}", retry=attrs.evolve(FAST, max_attempts=2), **pair.options
            )
            for turn in range(3)
        ]

    with client_with() as client:
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=ask, args=(one, client)) for one in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        figures = client.stats()
    for number in range(32):
        texts = [reply.text for reply in replies[number]]
        assert texts == [f"You said: {number} {turn}" for turn in range(3)]
        for reply in replies[number]:
            assert reply.provider == pair.second
            assert [one.attempts for one in reply.fallbacks] == [1]
    # One id a request: nobody was told another's failure.
    told = {reply.fallbacks[0].request_id for some in replies.values() for reply in some}
    assert len(told) == 96
    assert pair.counts == (96, 96)
    assert figures.active_connections == 0
    assert figures.calls.total_requests == 192
    assert figures.calls.in_flight == 0
