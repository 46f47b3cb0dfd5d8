"""One contract over both dialects: sequences of answers, foreign failures, options, secrets."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import attrs
import pytest
import requests
import responses
import urllib3.exceptions

import termai_http
from termai_http import (
    ChatRequest,
    ChatResponse,
    ClaudeAdapter,
    Client,
    HttpClientConfig,
    OpenAIAdapter,
    RequestHandler,
    RetryConfig,
)
from termai_http._call import Clock

KEY = "sk-canary-0123456789-abcdef"
PROMPT = "The canary prompt that nothing may show."
_Adapter = type[OpenAIAdapter] | type[ClaudeAdapter]


@attrs.frozen
class Vendor:
    """A dialect's addresses, shapes and names."""

    name: str
    model: str
    url: str
    models_url: str
    id_header: str
    auth: dict[str, str]
    adapter: _Adapter
    base_variable: str
    path: str

    def reply(self, text: str = "Hello!") -> dict[str, Any]:
        """Return a small good reply's body."""
        if self.name == "openai":
            message = {"role": "assistant", "content": text}
            return {"choices": [{"message": message, "finish_reason": "stop"}]}
        return {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}

    def error(self, message: str, code: str = "some_code") -> dict[str, Any]:
        """Return an error's body."""
        return {"type": "error", "error": {"message": message, "type": code, "code": code}}

    def chat(self, request: Any, key: str | None = None) -> ChatResponse:
        """Call the vendor's own function."""
        module = termai_http.openai if self.name == "openai" else termai_http.claude
        reply: ChatResponse = module.chat(request, key)
        return reply


VENDORS = [
    Vendor(
        "openai",
        "gpt-5.5",
        "https://api.openai.com/v1/chat/completions",
        "https://api.openai.com/v1/models",
        "x-request-id",
        {"Authorization": f"Bearer {KEY}"},
        OpenAIAdapter,
        "OPENAI_BASE_URL",
        "/v1/chat/completions",
    ),
    Vendor(
        "claude",
        "claude-opus-5-5",
        "https://api.anthropic.com/v1/messages",
        "https://api.anthropic.com/v1/models",
        "request-id",
        {"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        ClaudeAdapter,
        "ANTHROPIC_BASE_URL",
        "/v1/messages",
    ),
]


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
    with Client(HttpClientConfig(trust_env=False, timeout=90), _clock=clock) as made:
        yield made


@pytest.fixture
def mocked() -> Iterator[responses.RequestsMock]:
    """Answer in the vendors' place."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as running:
        yield running


def everything(error: BaseException) -> str:
    """Return all that an error shows: texts, state, pickle, and our frames with their locals."""
    shown = [str(error), repr(error), repr(error.args), repr(vars(error))]
    if isinstance(error, termai_http.TermaiHttpError):
        shown.append(pickle.dumps(error).decode("latin-1"))
    pending, seen = [error], set()
    while pending:
        current = pending.pop()
        if id(current) not in seen:
            seen.add(id(current))
            shown.append(own_frames(current.__traceback__))
            wrapped = (current.__cause__, current.__context__)
            pending += [item for item in wrapped if item is not None]
    return "\n".join(shown)


def own_frames(found: TracebackType | None) -> str:
    """Format the frames of this package with their locals, as a tracker of errors does."""
    own = [at for at in traceback.walk_tb(found) if "termai_http" in at[0].f_code.co_filename]
    frames = traceback.StackSummary.extract(own, capture_locals=True)
    return "".join(f"{frame.name} {frame.locals}" for frame in frames)


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
class TestContract:
    """What holds for every dialect."""

    def call(self, client: Client, vendor: Vendor, prompt: Any = PROMPT, **given: Any) -> Any:
        """Send the canary to a vendor."""
        return client.chat(prompt, **{"model": vendor.model, "api_key": KEY, **given})

    def test_no_header_goes_out_that_is_not_wanted(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """The headers are exactly these, with the body's length in bytes and not characters."""
        mocked.post(vendor.url, json=vendor.reply())
        self.call(client, vendor, "Grüße 🎉")
        request = mocked.calls[0].request
        assert dict(request.headers) == {
            **vendor.auth,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Length": str(len(request.body)),
            "Content-Type": "application/json",
            "User-Agent": f"TermAI/{termai_http.__version__}",
        }
        assert json.loads(request.body)["messages"][0]["content"] == "Grüße 🎉"

    @pytest.mark.parametrize(
        "statuses", [[429], [529], [408], [409], [503, 503], [500, 504], [502, 429]]
    )
    def test_a_retry_repeats_the_request_as_it_was(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock, statuses: list[int]
    ) -> None:
        """After refusals that may be repeated the reply comes, and every attempt is counted."""
        for status in statuses:
            mocked.post(vendor.url, status=status, json=vendor.error("no"))
        mocked.post(vendor.url, json=vendor.reply())
        reply = self.call(client, vendor)
        assert (reply.text, reply.attempts) == ("Hello!", len(statuses) + 1)
        sent = [(call.request.body, dict(call.request.headers)) for call in mocked.calls]
        assert sent == sent[:1] * (len(statuses) + 1)
        stats = client.metrics.get_stats()
        assert stats.retries_by_cause == {
            str(status): statuses.count(status) for status in statuses
        }
        assert (stats.total_requests, stats.successful_requests) == (1, 1)

    def test_the_last_attempts_error_is_raised(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock, waits: Waits
    ) -> None:
        """After exactly three attempts the error is the last one's, with its status and id."""
        for number, status in enumerate([503, 502, 529, 200], 1):
            headers = {vendor.id_header: f"req_{number}"}
            mocked.post(vendor.url, status=status, json=vendor.error("no"), headers=headers)
        with pytest.raises(termai_http.OverloadedError) as caught:
            self.call(client, vendor)
        error = caught.value
        assert (error.status_code, error.request_id, error.attempts) == (529, "req_3", 3)
        assert len(mocked.calls) == 3
        assert waits == [1.0, 2.0]
        assert error.elapsed is not None
        assert client.metrics.get_stats().failures_by_class == {"OverloadedError": 1}

    def test_the_body_of_an_error_is_kept_in_part(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """An error carries at most 200 characters of what the server said."""
        mocked.post(vendor.url, status=400, json=vendor.error("It is so. " * 100))
        with pytest.raises(termai_http.BadRequestError) as caught:
            self.call(client, vendor)
        assert caught.value.body is not None
        assert "It is so." in caught.value.body
        assert len(caught.value.body) == 200

    def test_a_servers_wait_is_on_the_final_error(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock, waits: Waits
    ) -> None:
        """When attempts ran out, the last Retry-After is there for the caller."""
        mocked.post(vendor.url, status=429, headers={"Retry-After": "3"})
        with pytest.raises(termai_http.RateLimitError, match="asks to wait 3 s") as caught:
            self.call(client, vendor)
        assert (caught.value.retry_after, caught.value.attempts) == (3.0, 3)
        assert waits == [pytest.approx(3.3)] * 2

    def test_an_unknown_wish_changes_nothing(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """An x-should-retry that is neither true nor false leaves the list of statuses."""
        mocked.post(vendor.url, status=400, headers={"x-should-retry": "perhaps"})
        with pytest.raises(termai_http.BadRequestError):
            self.call(client, vendor)
        mocked.replace("POST", vendor.url, status=503, headers={"x-should-retry": "1"})
        with pytest.raises(termai_http.InternalServerError):
            self.call(client, vendor)
        assert len(mocked.calls) == 1 + 3

    @pytest.mark.parametrize(
        "location", ["https://evil.example/", "http://[bad", "\xff\xfe", "", "https://e/%zz"]
    )
    def test_a_location_is_not_even_read(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock, location: str
    ) -> None:
        """Whatever Location holds, a call and a raw request make one request each."""
        mocked.post(vendor.url, status=307, headers={"Location": location})
        with pytest.raises(termai_http.UnexpectedRedirect) as caught:
            self.call(client, vendor)
        assert (caught.value.status_code, caught.value.attempts) == (307, 1)
        assert client.session.post(vendor.url, data=b"{}").status_code == 307
        assert len(mocked.calls) == 2

    @pytest.mark.parametrize(
        ("raised", "name", "attempts"),
        [
            (requests.ConnectionError("broken"), "APIConnectionError", 3),
            (requests.exceptions.ProxyError("broken"), "ProxyError", 3),
            (requests.exceptions.SSLError("broken"), "TLSError", 1),
            (requests.ConnectTimeout("broken"), "ConnectTimeout", 3),
            (requests.ReadTimeout("broken"), "ReadTimeout", 1),
            (requests.Timeout("broken"), "ReadTimeout", 1),
            (requests.RequestException("broken"), "APIConnectionError", 3),
            (requests.exceptions.ChunkedEncodingError("broken"), "APIConnectionError", 3),
            (requests.exceptions.InvalidURL("broken"), "ConfigurationError", 1),
            (urllib3.exceptions.ProtocolError("broken"), "APIConnectionError", 3),
            (ConnectionResetError(104, "Connection reset by peer"), "APIConnectionError", 3),
            (OSError(24, "Too many open files"), "ResourceError", 1),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
    )
    def test_a_mocked_failure_is_the_error_of_its_name(
        self,
        client: Client,
        vendor: Vendor,
        mocked: responses.RequestsMock,
        raised: Exception,
        name: str,
        attempts: int,
    ) -> None:
        """What a user's test lets requests raise reaches the caller as our class of that kind."""
        mocked.post(vendor.url, body=raised)
        with pytest.raises(termai_http.TermaiHttpError) as caught:
            self.call(client, vendor)
        error = caught.value
        assert (type(error).__name__, error.attempts) == (name, attempts)
        assert len(mocked.calls) == attempts
        assert (error.provider, error.model) == (vendor.name, vendor.model)
        assert "broken" not in str(error)
        assert KEY not in everything(error)
        assert PROMPT not in everything(error)
        assert client.stats().calls.in_flight == 0

    def test_a_calls_timeout_beats_the_clients(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """timeout= bounds its own call, in both directions."""
        mocked.post(vendor.url, json=vendor.reply())
        for given, most in ((None, 90), (7, 7), (700, 700)):
            self.call(client, vendor, timeout=given)
            timeout = mocked.calls[-1].request.req_kwargs["timeout"]
            assert most - 5 < timeout.read_timeout <= most
            assert timeout.connect_timeout <= 10

    def test_a_calls_options_beat_adapter_and_environment(
        self,
        client: Client,
        vendor: Vendor,
        mocked: responses.RequestsMock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Key and base URL come from the call, else from the adapter, else from the variables."""
        monkeypatch.setenv(vendor.base_variable, "https://variable.example")
        monkeypatch.setenv(vendor.base_variable.replace("BASE_URL", "API_KEY"), "variable-key")
        for host in ("variable", "adapter", "call"):
            mocked.post(f"https://{host}.example{vendor.path}", json=vendor.reply())
        request = ChatRequest(vendor.model, PROMPT)
        own = vendor.adapter(client, api_key="adapter-key", base_url="https://adapter.example")
        vendor.adapter(client).chat_completion(request)
        own.chat_completion(request)
        own.chat_completion(request, "call-key", base_url="https://call.example")
        name = next(iter(vendor.auth))
        sent = [call.request for call in mocked.calls]
        keys = [request.headers[name].removeprefix("Bearer ") for request in sent]
        assert keys == ["variable-key", "adapter-key", "call-key"]
        hosts = [request.url.split("/")[2] for request in sent]
        assert hosts == ["variable.example", "adapter.example", "call.example"]

    def test_an_adapters_call_takes_a_policy(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """retry= of chat_completion() holds for its own call alone."""
        mocked.post(vendor.url, status=503)
        adapter = vendor.adapter(client, KEY)
        request = ChatRequest(vendor.model, PROMPT)
        for policy, attempts in ((RetryConfig(max_attempts=1), 1), (None, 3)):
            with pytest.raises(termai_http.InternalServerError) as caught:
                adapter.chat_completion(request, retry=policy)
            assert caught.value.attempts == attempts

    def test_a_vendors_own_body_goes_out_as_it_is(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """A dict is sent whole, by adapter and function, and is not changed."""
        mocked.post(vendor.url, json=vendor.reply())
        body = {
            "model": vendor.model,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": 9,
            "new_parameter": {"a": [1, None]},
        }
        before = json.dumps(body)
        assert vendor.adapter(client, KEY).chat_completion(body).text == "Hello!"
        assert vendor.chat(body, KEY).text == "Hello!"
        assert [json.loads(call.request.body) for call in mocked.calls] == [body, body]
        assert json.dumps(body) == before

    @pytest.mark.parametrize(
        "answer",
        [
            {"status": 503},
            {"status": 429, "headers": {"Retry-After": "0", "x-should-retry": "true"}},
            {"status": 401, "body": f"The key {KEY} is wrong."},
            {"status": 302, "headers": {"Location": "https://evil.example"}},
            {"status": 200, "body": "<html>"},
            {"body": requests.ConnectionError(KEY)},
            {"body": ValueError("a hook's own")},
        ],
        ids=["503", "429", "401", "302", "html", "connection", "hook"],
    )
    def test_a_failed_health_check_is_one_attempt_and_a_warning(
        self,
        client: Client,
        vendor: Vendor,
        mocked: responses.RequestsMock,
        caplog: pytest.LogCaptureFixture,
        answer: dict[str, Any],
    ) -> None:
        """Whatever is wrong, the answer is False, said once as a warning without the key."""
        mocked.get(vendor.models_url, **answer)
        with caplog.at_level(logging.DEBUG, "termai_http"):
            assert vendor.adapter(client, KEY).health_check() is False
        assert len(mocked.calls) == 1
        assert mocked.calls[0].request.req_kwargs["timeout"].read_timeout <= 5
        warned = [one for one in caplog.records if one.levelno >= logging.WARNING]
        assert [record.levelname for record in warned] == ["WARNING"]
        assert vendor.name in caplog.text
        assert KEY not in caplog.text

    def test_nothing_of_a_retrys_record_is_secret(
        self,
        client: Client,
        vendor: Vendor,
        mocked: responses.RequestsMock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Attempt, cause and wait are in each line; key and prompt in no field of any record."""
        mocked.post(vendor.url, status=429, json=vendor.error(PROMPT + KEY))
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(termai_http.RateLimitError),
        ):
            self.call(client, vendor)
        lines = [one.getMessage() for one in caplog.records if "Retrying" in one.getMessage()]
        assert ["attempt 1" in lines[0], "attempt 2" in lines[1], len(lines)] == [True, True, 2]
        assert all("429" in line for line in lines)
        assert ["waiting 1.00 s" in lines[0], "waiting 2.00 s" in lines[1]] == [True, True]
        shown = "".join(repr(vars(record)) for record in caplog.records)
        assert KEY not in shown
        assert PROMPT not in shown

    @pytest.mark.parametrize("face", ["module", "client", "adapter", "function", "handler"])
    @pytest.mark.parametrize("status", [200, 401, None])
    def test_no_face_shows_key_or_prompt(
        self,
        client: Client,
        vendor: Vendor,
        mocked: responses.RequestsMock,
        monkeypatch: pytest.MonkeyPatch,
        face: str,
        status: int | None,
    ) -> None:
        """Through every public function an error's texts, pickle and frames are clean."""
        if status is None:
            mocked.post(vendor.url, body=requests.ReadTimeout(PROMPT + KEY))
        else:
            echo = vendor.error(f"You sent {PROMPT} with {KEY}!")
            mocked.post(vendor.url, status=status, json=echo)
        monkeypatch.setenv("TERMAI_HTTP_RETRY_BASE_DELAY", "0")
        body = {"model": vendor.model, "messages": [{"role": "user", "content": PROMPT}]}
        sends: dict[str, Callable[[], Any]] = {
            "module": lambda: termai_http.chat(PROMPT, model=vendor.model, api_key=KEY),
            "client": lambda: self.call(client, vendor),
            "adapter": lambda: vendor.adapter(client).chat_completion(body, KEY),
            "function": lambda: vendor.chat(body, KEY),
            "handler": lambda: RequestHandler(client).post_json(vendor.url, vendor.auth, body),
        }
        if face == "handler" and status is not None:
            assert sends[face]().status_code == status
            return
        with pytest.raises(termai_http.TermaiHttpError) as caught:
            sends[face]()
        assert KEY not in everything(caught.value)
        assert PROMPT not in everything(caught.value)

    def test_a_refusal_of_a_handlers_body_shows_nothing(
        self, client: Client, vendor: Vendor
    ) -> None:
        """A body that cannot be JSON is refused with neither headers nor body in our frames."""
        body = {"messages": PROMPT, "bad": object()}
        with pytest.raises(termai_http.InvalidRequestError) as caught:
            RequestHandler(client).post_json(vendor.url, vendor.auth, body)
        assert KEY not in everything(caught.value)
        assert PROMPT not in everything(caught.value)

    def test_an_unknown_option_of_an_adapter_shows_nothing(
        self, client: Client, vendor: Vendor
    ) -> None:
        """The TypeError for a name that is no option holds neither key nor prompt in our frames."""
        body = {"model": vendor.model, "messages": [{"role": "user", "content": PROMPT}]}
        with pytest.raises(TypeError) as caught:
            vendor.adapter(client).chat_completion(body, KEY, temperature=1)
        assert KEY not in everything(caught.value)
        assert PROMPT not in everything(caught.value)

    @pytest.mark.parametrize("face", ["module", "adapter", "function", "handler"])
    def test_a_bad_environment_shows_nothing(
        self, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, face: str
    ) -> None:
        """Where the process-wide client cannot be made, the error is as clean as any other."""
        monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "soon")
        body = {"model": vendor.model, "messages": [{"role": "user", "content": PROMPT}]}
        sends: dict[str, Callable[[], Any]] = {
            "module": lambda: termai_http.chat(PROMPT, model=vendor.model, api_key=KEY),
            "adapter": lambda: vendor.adapter().chat_completion(body, KEY),
            "function": lambda: vendor.chat(body, KEY),
            "handler": lambda: RequestHandler().post_json(vendor.url, vendor.auth, body),
        }
        with pytest.raises(termai_http.ConfigurationError, match="TERMAI_HTTP_TIMEOUT") as caught:
            sends[face]()
        assert KEY not in everything(caught.value)
        assert PROMPT not in everything(caught.value)

    @pytest.mark.parametrize(
        ("prompt", "leaks"),
        [
            ("my secret\npass is\nhunter2 ok\nbye now", ["hunter2"]),
            ('say "hunter2" and "tiger3" to "them"', ["hunter2", "tiger3"]),
            ("Пароль от сейфа моей бабушки", ["\\u041f\\u0430\\u0440", "Пароль"]),
            ("a\tb\thunter2\tc\td\te\tf", ["hunter2"]),
        ],
        ids=["lines", "quotes", "cyrillic", "tabs"],
    )
    @pytest.mark.parametrize("status", [200, 400])
    def test_an_echo_is_masked_in_any_spelling(
        self,
        client: Client,
        vendor: Vendor,
        mocked: responses.RequestsMock,
        prompt: str,
        leaks: list[str],
        status: int,
    ) -> None:
        """A prompt that comes back as JSON escapes, or with its line breaks lost, is masked too."""
        mocked.post(vendor.url, status=status, body=json.dumps(vendor.error(f"No: {prompt}")))
        with pytest.raises(termai_http.TermaiHttpError) as caught:
            self.call(client, vendor, prompt)
        shown = f"{caught.value!s} {caught.value.body}"
        assert [leak for leak in leaks if leak in shown] == []

    @pytest.mark.parametrize("status", [200, 400])
    def test_an_echo_in_the_code_is_masked(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock, status: int
    ) -> None:
        """A server that repeats the request in place of a code does not make us show it."""
        mocked.post(vendor.url, status=status, json=vendor.error("no", f"{PROMPT} {KEY}"))
        with pytest.raises(termai_http.TermaiHttpError) as caught:
            self.call(client, vendor)
        assert KEY not in everything(caught.value)
        assert PROMPT not in everything(caught.value)

    def test_an_echo_in_place_of_the_id_is_masked(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """A body whose request_id repeats the request does not make us show it either."""
        body = {**vendor.error("no"), "request_id": f"{PROMPT} {KEY}"}
        mocked.post(vendor.url, status=400, json=body)
        with pytest.raises(termai_http.BadRequestError) as caught:
            self.call(client, vendor)
        assert KEY not in everything(caught.value)
        assert PROMPT not in everything(caught.value)

    def test_a_header_of_the_calls_own(
        self, client: Client, vendor: Vendor, mocked: responses.RequestsMock
    ) -> None:
        """extra_headers may replace what we send but not the key, and its values are not shown."""
        mocked.post(vendor.url, json=vendor.reply())
        self.call(client, vendor, extra_headers={"user-agent": "own/1", "X-Trace": "1"})
        assert mocked.calls[0].request.headers["User-Agent"] == "own/1"
        name = next(iter(vendor.auth)).upper()
        with pytest.raises(termai_http.InvalidRequestError, match="api_key=") as caught:
            self.call(client, vendor, extra_headers={name: "another-secret-value"})
        assert "another-secret-value" not in everything(caught.value)
        assert len(mocked.calls) == 1
