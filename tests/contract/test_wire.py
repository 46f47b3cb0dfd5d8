"""What goes out and what comes back, the same for both vendors, with ``responses``."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import traceback
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import attrs
import pytest
import requests
import responses

import termai_http
from termai_http import (
    ChatRequest,
    ChatResponse,
    Client,
    HttpClientConfig,
    Message,
    RetryConfig,
    Usage,
)
from termai_http._call import Clock

KEY = "sk-canary-0123456789-abcdef"
PROMPT = "The canary prompt that nothing may show."


@attrs.frozen
class Vendor:
    """A dialect's addresses, shapes and names."""

    name: str
    model: str
    base_url: str
    url: str
    models_url: str
    request_id: str
    auth: tuple[str, str]

    def reply(self, text: str = "Hello!") -> dict[str, Any]:
        """Return a good reply's body."""
        if self.name == "openai":
            choice = {"index": 0, "message": {"role": "assistant", "content": text}}
            return {
                "id": "reply-1",
                "model": "model-that-answered",
                "choices": [choice | {"finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 12,
                    "completion_tokens": 5,
                    "prompt_tokens_details": {"cached_tokens": 3},
                    "completion_tokens_details": {"reasoning_tokens": 2},
                },
                "unknown": {"kept": True},
            }
        return {
            "id": "reply-1",
            "type": "message",
            "model": "model-that-answered",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "stop",
            "usage": {
                "input_tokens": 8,
                "cache_creation_input_tokens": 1,
                "cache_read_input_tokens": 3,
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 2},
            },
            "unknown": {"kept": True},
        }

    def error(self, message: str = "It failed.", code: str = "some_code") -> dict[str, Any]:
        """Return an error's body."""
        if self.name == "openai":
            return {"error": {"message": message, "type": code, "code": code, "param": None}}
        details = {"type": code, "message": message, "details": {"error_code": code}}
        return {"type": "error", "error": details, "request_id": "req_1"}


VENDORS = [
    Vendor(
        "openai",
        "gpt-5.5",
        "https://api.openai.com/v1",
        "https://api.openai.com/v1/chat/completions",
        "https://api.openai.com/v1/models",
        "x-request-id",
        ("Authorization", f"Bearer {KEY}"),
    ),
    Vendor(
        "claude",
        "claude-opus-5-5",
        "https://api.anthropic.com",
        "https://api.anthropic.com/v1/messages",
        "https://api.anthropic.com/v1/models",
        "request-id",
        ("x-api-key", KEY),
    ),
]


@pytest.fixture(params=VENDORS, ids=lambda vendor: vendor.name)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    """Each vendor in turn."""
    found: Vendor = request.param
    return found


@pytest.fixture
def mocked() -> Iterator[responses.RequestsMock]:
    """Answer in the vendors' place."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as running:
        yield running


class Waits(list[float]):
    """The waits between attempts, recorded in place of waited."""

    def __call__(self, event: threading.Event, seconds: float) -> bool:
        """Take note of one."""
        self.append(seconds)
        return False


@pytest.fixture
def waits() -> Waits:
    """Waits that take no time."""
    return Waits()


@pytest.fixture
def client(waits: Waits) -> Iterator[Client]:
    """A client that never waits, and whose chance is always the highest."""
    clock = Clock(wait=waits, uniform=lambda _, high: high)
    with Client(HttpClientConfig(trust_env=False), _clock=clock) as made:
        yield made


def call(client: Client, vendor: Vendor, prompt: Any = PROMPT, **options: Any) -> ChatResponse:
    """Send the canary to a vendor."""
    return client.chat(prompt, **{"model": vendor.model, "api_key": KEY, **options})


def body_of(mocked: responses.RequestsMock, index: int = -1) -> dict[str, Any]:
    """Return the JSON that went out."""
    found: dict[str, Any] = json.loads(mocked.calls[index].request.body or b"")
    return found


def test_a_request_goes_out_as_the_vendor_documents_it(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """Address, authentication, version and body are the vendor's own."""
    mocked.post(vendor.url, json=vendor.reply())
    call(client, vendor, system="Be brief.", max_tokens=50, temperature=0.2)
    request = mocked.calls[0].request
    assert request.headers[vendor.auth[0]] == vendor.auth[1]
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Accept-Encoding"] == "gzip"
    assert request.headers["User-Agent"] == f"TermAI/{termai_http.__version__}"
    user = {"role": "user", "content": PROMPT}
    common = {"model": vendor.model, "temperature": 0.2}
    if vendor.name == "openai":
        messages = [{"role": "system", "content": "Be brief."}, user]
        expected = {**common, "messages": messages, "max_completion_tokens": 50}
    else:
        expected = {**common, "messages": [user], "system": "Be brief.", "max_tokens": 50}
        assert request.headers["anthropic-version"] == "2023-06-01"
    assert body_of(mocked) == expected


def test_a_reply_is_read_whole(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """Every field of the reply is there, and what is unknown is kept in raw."""
    mocked.post(vendor.url, json=vendor.reply("Grüße 🎉"), headers={vendor.request_id: "req_1"})
    reply = call(client, vendor)
    assert reply.text == str(reply) == "Grüße 🎉"
    assert reply.finish_reason == "stop"
    assert reply.usage == Usage(
        input_tokens=12, output_tokens=5, cached_tokens=3, reasoning_tokens=2
    )
    assert reply.usage.total_tokens == 17
    assert (reply.model, reply.id) == ("model-that-answered", "reply-1")
    assert (reply.request_id, reply.status_code, reply.attempts) == ("req_1", 200, 1)
    assert reply.headers[vendor.request_id] == "req_1"
    assert reply.raw["unknown"] == {"kept": True}
    assert reply.provider == vendor.name
    assert reply.elapsed > 0
    assert "Grüße" not in repr(reply)


def test_messages_are_sent_in_either_form(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """A list may hold dicts and Messages, and a leading system message finds its place."""
    mocked.post(vendor.url, json=vendor.reply())
    prompt = [
        {"role": "system", "content": "One."},
        Message("user", "Two."),
        {"role": "assistant", "content": "Three."},
        Message("user", "Four."),
    ]
    call(client, vendor, prompt)
    body = body_of(mocked)
    roles = [message["role"] for message in body["messages"]]
    if vendor.name == "openai":
        assert roles == ["system", "user", "assistant", "user"]
    else:
        assert roles == ["user", "assistant", "user"]
        assert body["system"] == "One."
        assert body["max_tokens"] == 4096


def test_per_call_options_arrive(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """Headers, query and body fields are added, and extra_body wins over everything."""
    mocked.post("https://gateway.example/prefix/chat/completions", json=vendor.reply())
    mocked.post("https://gateway.example/prefix/v1/messages", json=vendor.reply())
    call(
        client,
        vendor,
        base_url="https://gateway.example/prefix/",
        extra_headers={"X-Team": "blue"},
        extra_query={"trace": "1"},
        extra_body={"max_tokens": 7, "new_parameter": [1]},
        max_tokens=50,
    )
    request = mocked.calls[0].request
    assert request.headers["X-Team"] == "blue"
    assert request.url is not None
    assert request.url.endswith("?trace=1")
    body = body_of(mocked)
    assert (body["max_tokens"], body["new_parameter"]) == (7, [1])
    assert "max_completion_tokens" not in body


STATUSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "QuotaExceededError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    413: "RequestTooLargeError",
    418: "APIStatusError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
    529: "OverloadedError",
}


@pytest.mark.parametrize(("status", "name"), STATUSES.items())
def test_each_status_is_an_error_of_its_own(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, status: int, name: str
) -> None:
    """A status becomes its class, with the id to quote and what the vendor said."""
    headers = {vendor.request_id: "req_1"}
    mocked.post(vendor.url, status=status, json=vendor.error("It is so."), headers=headers)
    with pytest.raises(termai_http.APIStatusError) as caught:
        call(client, vendor)
    error = caught.value
    retried = status in (409, 429, 500, 503, 529)
    assert type(error).__name__ == name
    assert (error.status_code, error.request_id, error.code) == (status, "req_1", "some_code")
    assert (error.provider, error.model) == (vendor.name, vendor.model)
    assert error.attempts == len(mocked.calls) == (3 if retried else 1)
    assert "It is so." in str(error)
    assert "req_1" in str(error)


QUOTAS = [
    "billing_hard_limit_reached",
    "contract_spend_limit_reached",
    "credit_balance_exhausted",
    "enforced_spend_limit_reached",
    "insufficient_quota",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
]


@pytest.mark.parametrize("code", QUOTAS)
def test_a_quota_is_never_retried(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, code: str
) -> None:
    """A billing 429 is final, even where the server wishes a retry."""
    headers = {"Retry-After": "1", "x-should-retry": "true"}
    mocked.post(vendor.url, status=429, json=vendor.error(code=code), headers=headers)
    with pytest.raises(termai_http.QuotaExceededError) as caught:
        call(client, vendor)
    assert not isinstance(caught.value, termai_http.RateLimitError)
    assert caught.value.code == code
    assert len(mocked.calls) == 1


@pytest.mark.parametrize(
    "body", ["<h1>Bad gateway</h1>", "", '{"detail": "no"}', '{"error": "no"}']
)
def test_an_error_in_any_shape_is_read(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, body: str
) -> None:
    """Pages, empty bodies and other servers' shapes are status errors too."""
    mocked.post(vendor.url, status=404, body=body)
    with pytest.raises(termai_http.NotFoundError):
        call(client, vendor)


def test_a_server_may_veto_or_order_a_retry(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """x-should-retry beats the list of statuses, both ways."""
    mocked.post(vendor.url, status=503, headers={"x-should-retry": "false"})
    with pytest.raises(termai_http.InternalServerError):
        call(client, vendor)
    assert len(mocked.calls) == 1
    mocked.replace("POST", vendor.url, status=400, headers={"x-should-retry": "true"})
    with pytest.raises(termai_http.BadRequestError):
        call(client, vendor)
    assert len(mocked.calls) == 4


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "0"}, 0.0),
    ],
)
def test_the_servers_wait_is_kept(
    client: Client,
    vendor: Vendor,
    mocked: responses.RequestsMock,
    waits: Waits,
    headers: dict[str, str],
    wait: float,
) -> None:
    """A wait that the server asks for is kept, with at most a tenth added."""
    mocked.post(vendor.url, status=429, headers=headers)
    mocked.post(vendor.url, json=vendor.reply())
    assert call(client, vendor).attempts == 2
    assert waits == ([pytest.approx(wait * 1.1)] if wait else [])


def test_a_date_is_a_wait_too(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, waits: Waits
) -> None:
    """Retry-After as an HTTP date is the time until then."""
    date = formatdate(client._core.clock.wall() + 20, usegmt=True)
    mocked.post(vendor.url, status=503, headers={"Retry-After": date})
    mocked.post(vendor.url, json=vendor.reply())
    call(client, vendor)
    assert 18 < waits[0] <= 22


@pytest.mark.parametrize(
    "value",
    ["-5", "nan", "inf", "1e3", "abc", "2, 3", "9" * 5000, "Wed, 21 Oct 99999 07:28:00 GMT"],
)
def test_garbage_in_retry_after_is_ignored(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, waits: Waits, value: str
) -> None:
    """A Retry-After that says nothing leaves the policy's own wait."""
    mocked.post(vendor.url, status=429, headers={"Retry-After": value})
    mocked.post(vendor.url, json=vendor.reply())
    assert call(client, vendor).attempts == 2
    assert waits == [1.0]


def test_a_wait_beyond_the_deadline_raises_at_once(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, waits: Waits
) -> None:
    """The attempt's own error carries the value and says why there was no retry."""
    mocked.post(vendor.url, status=429, headers={"Retry-After": "1" + "0" * 20})
    with pytest.raises(termai_http.RateLimitError, match="not retried") as caught:
        call(client, vendor)
    assert caught.value.retry_after == 1e20
    assert (len(mocked.calls), waits) == (1, [])


def test_the_policy_of_a_call_beats_the_clients(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, waits: Waits
) -> None:
    """retry= decides attempts, waits and statuses of its call alone."""
    mocked.post(vendor.url, status=418)
    policy = RetryConfig(max_attempts=4, base_delay=2, max_delay=5, retry_on_status=[418])
    with pytest.raises(termai_http.APIStatusError):
        call(client, vendor, retry=policy)
    assert len(mocked.calls) == 4
    assert waits == [2.0, 4.0, 5.0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://evil.example/", "http://[bad", "/same-host"])
def test_a_redirect_is_never_followed(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, status: int, location: str
) -> None:
    """A redirect is an error, made of one request, wherever it points."""
    mocked.post(vendor.url, status=status, headers={"Location": location})
    with pytest.raises(termai_http.UnexpectedRedirect):
        call(client, vendor)
    assert len(mocked.calls) == 1


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("<html>Sign in</html>", "InvalidResponseError"),
        ("", "InvalidResponseError"),
        ("[1]", "InvalidResponseError"),
        ("null", "InvalidResponseError"),
        ('{"a": NaN}', "InvalidResponseError"),
        ('{"error": {"message": "no", "code": "c"}}', "InvalidResponseError"),
        ('{"unknown": "shape"}', "InvalidResponseError"),
        ("[" * 100_000, "InvalidResponseError"),
        ('{"n": ' + "9" * 5000 + "}", "InvalidResponseError"),
    ],
)
def test_a_success_that_is_no_reply_is_an_error(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, body: str, name: str
) -> None:
    """A 200 that holds no reply is a typed error, never a failure in the caller's code."""
    mocked.post(vendor.url, body=body, headers={vendor.request_id: "req_1"})
    with pytest.raises(termai_http.InvalidResponseError) as caught:
        call(client, vendor)
    assert type(caught.value).__name__ == name
    assert caught.value.request_id == "req_1"
    assert len(mocked.calls) == 1


@pytest.mark.parametrize(
    ("raised", "expected", "attempts"),
    [
        (requests.ConnectionError("broken"), termai_http.APIConnectionError, 3),
        (requests.exceptions.ProxyError("broken"), termai_http.ProxyError, 3),
        (requests.exceptions.InvalidURL("broken"), termai_http.ConfigurationError, 1),
    ],
)
def test_what_requests_raises_is_mapped(
    client: Client,
    vendor: Vendor,
    mocked: responses.RequestsMock,
    raised: Exception,
    expected: type[Exception],
    attempts: int,
) -> None:
    """No exception of the libraries below reaches the caller."""
    mocked.post(vendor.url, body=raised)
    with pytest.raises(expected) as caught:
        call(client, vendor)
    assert len(mocked.calls) == attempts
    assert caught.value.__cause__ is None


def test_cookies_are_never_kept(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """A cookie of one reply is not sent with the next call."""
    mocked.post(vendor.url, json=vendor.reply(), headers={"Set-Cookie": "a=b; Path=/"})
    call(client, vendor)
    call(client, vendor)
    assert "Cookie" not in mocked.calls[1].request.headers
    assert len(client.session.cookies) == 0


def test_netrc_is_never_read(
    vendor: Vendor,
    mocked: responses.RequestsMock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry for the vendor's host does not replace the key, nor is it sent raw."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    mocked.post(vendor.url, json=vendor.reply())
    mocked.get(vendor.models_url, json={})
    with Client() as client:
        call(client, vendor)
        client.session.get(vendor.models_url)
    assert mocked.calls[0].request.headers[vendor.auth[0]] == vendor.auth[1]
    assert "Authorization" not in mocked.calls[1].request.headers


def test_each_retry_is_logged_without_secrets(
    client: Client,
    vendor: Vendor,
    mocked: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A retry's line says attempt, cause and wait, and nothing of key or prompt."""
    mocked.post(vendor.url, status=503, json=vendor.error(PROMPT + KEY))
    mocked.post(vendor.url, json=vendor.reply())
    with caplog.at_level(logging.DEBUG):
        call(client, vendor)
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    lines = [record.getMessage() for record in warned]
    assert len(lines) == 1
    assert "attempt 1" in lines[0]
    assert "503" in lines[0]
    assert "waiting 1.00 s" in lines[0]
    assert KEY not in caplog.text
    assert PROMPT not in caplog.text


def own_frames(error: BaseException) -> str:
    """Format a traceback with the locals of this package's frames."""
    summary = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(
        f"{frame.name} {frame.locals}" for frame in summary.stack if "termai_http" in frame.filename
    )


@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_an_error_never_shows_key_or_prompt(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, status: int
) -> None:
    """A server that repeats key and prompt in its error does not make us show them."""
    echo = vendor.error(f"You sent {PROMPT} with {KEY}!")
    mocked.post(vendor.url, status=status, json=echo)
    with pytest.raises(termai_http.TermaiHttpError) as caught:
        call(client, vendor)
    error = caught.value
    shown = f"{error!s}{error!r}{error.args!r}{vars(error)!r}{own_frames(error)}"
    shown += pickle.dumps(error).decode("latin-1")
    assert KEY not in shown
    assert PROMPT not in shown
    assert "***" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_an_error_never_shows_what_extra_headers_and_query_hold(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """A server that repeats the headers and the query of a call does not make us show them."""
    mocked.post(vendor.url, status=400, json=vendor.error(f"You sent {KEY}-gate and {KEY}-query"))
    with pytest.raises(termai_http.BadRequestError) as caught:
        call(
            client,
            vendor,
            extra_headers={"X-Gate": f"{KEY}-gate"},
            extra_query={"token": f"{KEY}-query"},
        )
    assert "-gate" not in f"{caught.value}{caught.value.body}"
    assert "-query" not in f"{caught.value}{caught.value.body}"


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": ""},
        {"prompt": [{"role": "wizard", "content": "x"}]},
        {"timout": 3},
        {"base_url": "http://example.com"},
        {"thing": {1, 2}},
        {"timeout": float("nan")},
        {"cancel": "token"},
    ],
)
def test_a_refusal_before_sending_shows_nothing(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock, options: dict[str, Any]
) -> None:
    """Bad input is told with no key, no prompt, no request and no attempt."""
    with pytest.raises(termai_http.TermaiHttpError) as caught:
        call(client, vendor, **{"prompt": PROMPT, **options})
    shown = f"{caught.value!s}{caught.value!r}{own_frames(caught.value)}"
    assert KEY not in shown
    assert PROMPT not in shown
    assert len(mocked.calls) == 0
    assert caught.value.attempts == 0
    assert client.stats().calls.total_requests == 0


def test_a_request_may_be_a_value(
    client: Client, vendor: Vendor, mocked: responses.RequestsMock
) -> None:
    """ChatRequest carries extra parameters beside its own."""
    adapters = {"openai": termai_http.OpenAIAdapter, "claude": termai_http.ClaudeAdapter}
    mocked.post(vendor.url, json=vendor.reply())
    adapter = adapters[vendor.name](client, api_key=KEY)
    request = ChatRequest(vendor.model, PROMPT, max_tokens=5, extra={"metadata": {"a": "b"}})
    assert adapter.chat_completion(request).text == "Hello!"
    assert body_of(mocked)["metadata"] == {"a": "b"}
