"""The next target: which failures go on, what each target is given, time and attempts."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

import termai_http
from termai_http import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    FailedTarget,
    HttpClientConfig,
    InvalidRequestError,
    RetryConfig,
    Target,
    TermaiHttpError,
    errors,
)
from termai_http._batch_targets import aimed
from termai_http._fallback import goes_on, named, targets_of, walk
from termai_http._job import Job
from termai_http._options import CallOptions
from termai_http._target import Account

KEY = "sk-canary-0123456789-abcdef"
FAILED = FailedTarget(
    model="gpt-5.5",
    provider="openai",
    host="api.openai.com",
    error="OverloadedError",
    message="HTTP 529.",
    status_code=529,
    request_id="req_1",
    attempts=2,
    elapsed=1.5,
)

# Every class of error, and whether the next target is asked; None where its fields decide.
DECISIONS: dict[str, bool | None] = {
    "TermaiHttpError": False,
    "ConfigurationError": False,
    "AlreadyInitializedError": False,
    "MissingKeyError": False,
    "InvalidRequestError": False,
    "APIConnectionError": True,
    "DNSError": True,
    "TLSError": True,
    "ProxyError": True,
    "ResourceError": False,
    "APITimeoutError": True,
    "ConnectTimeout": True,
    "ReadTimeout": True,
    "PoolTimeout": True,
    "DeadlineExceeded": None,
    "APIStatusError": None,
    "BadRequestError": False,
    "AuthenticationError": False,
    "QuotaExceededError": True,
    "PermissionDeniedError": False,
    "NotFoundError": False,
    "ConflictError": True,
    "RequestTooLargeError": False,
    "UnprocessableEntityError": False,
    "RateLimitError": True,
    "InternalServerError": True,
    "OverloadedError": True,
    "UnexpectedRedirect": False,
    "InvalidResponseError": False,
    "OutputError": False,
    "ProtocolError": False,
    "TruncatedResponse": True,
    "ResponseTooLarge": False,
    "StreamInterrupted": False,
    "ClientClosed": False,
    "CallCancelled": False,
    "CircuitOpenError": True,
}


def test_every_class_of_error_is_decided() -> None:
    """No error is forgotten: whether it goes on was thought of."""
    assert set(DECISIONS) == set(errors.__all__)


@pytest.mark.parametrize("name", [name for name, what in DECISIONS.items() if what is not None])
def test_an_error_goes_on_or_does_not(name: str) -> None:
    """What another server may do better goes on; what is wrong everywhere, or wished, does not."""
    assert goes_on(getattr(errors, name)("x")) is DECISIONS[name]


@pytest.mark.parametrize(
    ("error", "on"),
    [
        (errors.DeadlineExceeded("x", phase="pacing"), True),
        *[
            (errors.DeadlineExceeded("x", phase=phase), False)
            for phase in ("slot", "connect", "send", "headers", "body", "wait", "layer", None)
        ],
        (errors.APIStatusError("x", status_code=408), True),
        (errors.APIStatusError("x", status_code=418), False),
        (errors.APIStatusError("x"), False),
        (errors.OverloadedError("in a stream", status_code=200), True),
    ],
)
def test_the_fields_of_an_error_decide_where_its_class_does_not(
    error: TermaiHttpError, on: bool
) -> None:
    """A deadline ends all, unless pacing held the call back; of other statuses 408 goes on."""
    assert goes_on(error) is on


class Clock:
    """A clock that goes on only when it is told."""

    def __init__(self, begin: float) -> None:
        self.now = begin

    def monotonic(self) -> float:
        """Return the instant."""
        return self.now


class Scripted:
    """Targets that fail as they are told, and a record of what each was given.

    Args:
        ends: For each target how it ends, the attempts it makes, and the seconds it takes; None
            for attempts makes all that it may.
    """

    def __init__(
        self,
        *ends: tuple[Any, int | None, float],
        config: HttpClientConfig | None = None,
        begin: float = 100.0,
    ) -> None:
        self.begin = begin
        self.clock = Clock(begin)
        self.config = config or HttpClientConfig()
        self.ends = ends
        self.given: list[tuple[int, float, float]] = []
        self.failed: list[tuple[FailedTarget, ...]] = []

    def ask(self, timeout: float = 60.0, providers: str = "", **fields: Any) -> Any:
        """Go down the list; returns what comes of it."""
        vendors = {"o": "openai", "c": "claude"}
        self.jobs = [
            Job(
                url=f"https://host-{number}.test/v1/chat/completions",
                headers={},
                provider=vendors[(providers or "o" * len(self.ends))[number]],
                model=f"m-{number}",
                started=self.begin,
                **fields,
            )
            for number in range(len(self.ends))
        ]
        return walk(self, self.jobs, timeout, self._send)  # type: ignore[arg-type]

    def _send(self, number: int, failed: tuple[FailedTarget, ...], before: float) -> Any:
        job = self.jobs[number]
        assert job.retry is not None
        assert job.timeout is not None
        assert job.started == self.clock.now == pytest.approx(self.begin + before)
        self.given.append((job.retry.max_attempts, job.timeout, before))
        self.failed.append(failed)
        end, attempts, seconds = self.ends[number]
        self.clock.now += seconds
        if isinstance(end, TermaiHttpError):
            end.attempts = job.retry.max_attempts if attempts is None else attempts
            end.elapsed = seconds
        return end


def busy() -> TermaiHttpError:
    """Return an error that goes on."""
    return errors.OverloadedError("Busy.", status_code=529, request_id="req_9")


@pytest.mark.parametrize(
    ("count", "most", "attempts"),
    [
        (1, 3, [3]),
        (2, 3, [2, 1]),
        (3, 3, [1, 1, 1]),
        (5, 3, [1, 1, 1, 1, 1]),
        (2, 1, [1, 1]),
        (2, 6, [5, 1]),
        (3, 6, [4, 1, 1]),
    ],
)
def test_all_targets_share_one_budget_of_attempts(
    count: int, most: int, attempts: list[int]
) -> None:
    """Each gets what is left less one for each that follows, and never less than one."""
    scripted = Scripted(*[(busy(), None, 0.0)] * count)
    error = scripted.ask(retry=RetryConfig(max_attempts=most))
    assert [given[0] for given in scripted.given] == attempts
    assert sum(attempts) <= max(most, count)
    assert isinstance(error, errors.OverloadedError)
    assert len(error.fallbacks) == count - 1


@pytest.mark.parametrize(
    ("used", "attempts"),
    [([0, None, None], [4, 5, 1]), ([1, None, None], [4, 4, 1]), ([1, 1, None], [4, 4, 4])],
)
def test_what_a_target_leaves_the_next_may_use(used: list[int | None], attempts: list[int]) -> None:
    """Attempts that were not made, since the breaker is open say, are left to those that follow."""
    scripted = Scripted(*[(busy(), one, 0.0) for one in used])
    scripted.ask(retry=RetryConfig(max_attempts=6))
    assert [given[0] for given in scripted.given] == attempts


def test_each_target_has_its_vendors_policy() -> None:
    """Waits are the vendor's own; a policy of the client or of the call holds for all."""
    scripted = Scripted((busy(), None, 0.0), (busy(), None, 0.0))
    scripted.ask(providers="oc")
    waits = [(job.retry.base_delay, job.retry.max_delay) for job in scripted.jobs if job.retry]
    assert waits == [(1.0, 60.0), (1.0, 120.0)]
    config = HttpClientConfig(retry=RetryConfig(max_delay=7), max_retries=3)
    scripted = Scripted((busy(), None, 0.0), (busy(), None, 0.0), config=config)
    scripted.ask(providers="oc")
    assert [job.retry.max_delay for job in scripted.jobs if job.retry] == [7, 7]
    assert [given[0] for given in scripted.given] == [3, 1]
    scripted.ask(providers="oc", retry=RetryConfig(max_attempts=2, max_delay=5))
    assert [job.retry.max_delay for job in scripted.jobs if job.retry] == [5, 5]


def test_all_targets_share_one_deadline() -> None:
    """Each further one gets what is left, counted from the entry of the call."""
    scripted = Scripted((busy(), 1, 2.0), (busy(), 1, 5.5), ("a reply", 1, 1.0))
    assert scripted.ask(timeout=10.0) == "a reply"
    assert [given[1:] for given in scripted.given] == [(10.0, 0.0), (8.0, 2.0), (2.5, 7.5)]
    assert [[one.elapsed for one in failed] for failed in scripted.failed] == [
        [],
        [2.0],
        [2.0, 5.5],
    ]


@pytest.mark.parametrize("took", [9.96, 10.0, 12.0])
def test_once_the_deadline_is_over_nobody_is_asked(took: float) -> None:
    """The error is the target's own, and says why it ended there."""
    scripted = Scripted((busy(), 1, took), ("a reply", 1, 0.0))
    error = scripted.ask(timeout=10.0)
    assert len(scripted.given) == 1
    assert str(error).startswith("Busy. No time was left to ask the other targets of fallback=.")
    assert error.fallbacks == ()


@pytest.mark.parametrize(("limit", "asked"), [(5.0, 1), (500.0, 2)])
def test_a_limit_around_the_call_ends_it_too(limit: float, asked: int) -> None:
    """What ``time_limit()`` leaves is all there is."""
    scripted = Scripted((busy(), 1, 20.0), ("a reply", 1, 0.0), begin=time.monotonic())
    with termai_http.time_limit(limit):
        scripted.ask()
    assert len(scripted.given) == asked


def test_an_error_that_does_not_go_on_is_raised_with_those_before_it() -> None:
    """A wrong key of the second target is told, and nobody after it is asked."""
    wrong = errors.AuthenticationError("HTTP 401.", status_code=401)
    scripted = Scripted((busy(), 1, 1.0), (wrong, 1, 0.5), ("a reply", 1, 0.0))
    error = scripted.ask()
    assert error is wrong
    assert len(scripted.given) == 2
    assert (error.attempts, error.elapsed) == (1, 1.5)
    (before,) = error.fallbacks
    assert before == FailedTarget(
        model="m-0",
        provider="openai",
        host="host-0.test",
        error="OverloadedError",
        message="Busy.",
        status_code=529,
        request_id="req_9",
        attempts=1,
        elapsed=1.0,
    )
    assert error.message == (
        "HTTP 401. Asked before: m-0 at host-0.test: OverloadedError 529 (request id req_9)."
    )


def test_what_may_have_been_billed_before_is_not_forgotten() -> None:
    """An error says that a target before it may have billed."""
    slow = errors.ReadTimeout("Silent", maybe_billed=True)
    error = Scripted((slow, 1, 1.0), (busy(), 1, 0.0)).ask()
    assert error.maybe_billed
    assert error.fallbacks[0].maybe_billed


def test_errors_with_their_targets_can_be_pickled() -> None:
    """What was asked before comes along, to another process too."""
    error = Scripted((busy(), 1, 1.0), (busy(), 1, 0.0)).ask()
    again = pickle.loads(pickle.dumps(error))
    assert again.fallbacks == error.fallbacks
    assert str(again) == str(error)


def test_a_failed_target_says_itself_in_a_line() -> None:
    """Model, host, error, status and the id to quote, each where there is one."""
    assert str(FAILED) == "gpt-5.5 at api.openai.com: OverloadedError 529 (request id req_1)"
    bare = FailedTarget(model="m", provider="claude", host="h:1", error="DNSError", message="x")
    assert str(bare) == "m at h:1: DNSError"
    assert pickle.loads(pickle.dumps(FAILED)) == FAILED
    assert hash(FAILED) == hash(pickle.loads(pickle.dumps(FAILED)))


def test_what_belongs_to_one_server_stays_with_the_first_target() -> None:
    """Key, URL, account, headers, query, extra body, vendor and API are of the first one only."""
    account = Account(
        provider="openai", api_key=KEY, base_url="https://mine.test", organization="org-mine"
    )
    options = CallOptions(
        api_key=KEY,
        base_url="https://mine.test",
        extra_headers={"X-Mine": "1"},
        extra_query={"mine": "1"},
        extra_body={"mine": 1},
        provider="openai",
        api="responses",
        api_version="2026-10-21",
        timeout=7,
        retry=RetryConfig(max_attempts=2),
        cancel=(token := termai_http.CancelToken()),
        fallback=["claude-opus-5-5", Target("other", provider="claude", api_key="k")],
    )
    request = ChatRequest("gpt-5.5", "Hello", system="Brief.", max_tokens=9, extra={"top_p": 1})
    first, second, third = targets_of(account, request, options)
    assert first.account is account
    assert first.request == request
    assert first.options.api_key == KEY
    assert first.options.extra_body == {"mine": 1}
    for aim in (second, third):
        assert aim.account == Account(provider="claude")
        one = aim.options
        assert (one.base_url, one.extra_headers, one.extra_query, one.extra_body) == (None,) * 4
        assert (one.provider, one.api, one.api_version) in [(None,) * 3, ("claude", None, None)]
        assert (one.timeout, one.retry, one.cancel) == (7, options.retry, token)
        assert (aim.request.system, aim.request.max_tokens) == ("Brief.", 9)
        assert aim.request.extra == {"top_p": 1}
        assert one.fallback is None
    assert (second.request.model, third.request.model) == ("claude-opus-5-5", "other")
    assert (second.options.api_key, third.options.api_key) == (None, "k")


def test_a_target_gives_all_of_its_own() -> None:
    """Each field of an entry reaches the call that it is for."""
    fields: dict[str, Any] = {
        "provider": "openai",
        "api": "responses",
        "api_key": "k",
        "base_url": "https://x.test",
        "api_version": "v",
        "extra_headers": {"A": "1"},
        "extra_query": {"b": "2"},
        "extra_body": {"c": 3},
    }
    options = CallOptions(fallback=[Target("m", **fields)])
    _, aim = targets_of(Account(provider="claude"), ChatRequest("x", "Hello"), options)
    assert {name: getattr(aim.options, name) for name in fields} == fields
    assert aim.account == Account(provider="openai")


def test_a_vendors_own_body_has_no_fallback() -> None:
    """It could be read by no other vendor."""
    body = {"model": "m", "messages": []}
    with pytest.raises(InvalidRequestError, match="needs a ChatRequest"):
        list(targets_of(Account(provider="openai"), body, CallOptions(fallback=["m"])))


def test_the_place_of_a_wrong_target_is_told() -> None:
    """An error of an entry names it; one of the call's own target stays as it is."""
    options = CallOptions(fallback=["a", "b"])
    aims = list(targets_of(Account(provider="openai"), ChatRequest("m", "Hello"), options))
    told = [named(ConfigurationError("Wrong."), aim).message for aim in (None, *aims)]
    assert told == ["Wrong.", "Wrong.", "fallback[0] (a): Wrong.", "fallback[1] (b): Wrong."]


@pytest.mark.parametrize(
    ("fields", "error", "part"),
    [
        ({"model": ""}, InvalidRequestError, "model"),
        ({"model": None}, InvalidRequestError, "model"),
        ({"provider": "gemini"}, ConfigurationError, "provider"),
        ({"api": "x"}, ConfigurationError, "api"),
        ({"extra_headers": {"Host": "x"}}, InvalidRequestError, "Host"),
        ({"extra_query": []}, InvalidRequestError, "extra_query"),
        ({"extra_body": {1: 2}}, InvalidRequestError, "extra_body"),
    ],
)
def test_a_target_is_checked_where_it_is_made(
    fields: dict[str, Any], error: type[Exception], part: str
) -> None:
    """A wrong field is named at once."""
    with pytest.raises(error, match=part):
        Target(**{"model": "m", **fields})


@pytest.mark.parametrize(
    ("fallback", "part"),
    [
        ("gpt-5.5", "must be a list of model names and Targets, or None, not str"),
        ({"model": "x"}, "not dict"),
        (["a", 3], r"fallback\[1\] must be a model's name or a Target, not int"),
        ([" "], r"fallback\[0\] .* not an empty text"),
        ([{"model": "x", "api_key": KEY}], r"fallback\[0\] .* not dict"),
        (["a", KEY], r"fallback\[1\] looks like an API key; write Target\(model, api_key=...\)"),
    ],
)
def test_a_wrong_list_is_refused(fallback: Any, part: str) -> None:
    """What is no list of names and targets is told, and shows no key."""
    with pytest.raises(InvalidRequestError, match=part) as caught:
        CallOptions(fallback=fallback)
    assert KEY not in str(caught.value)


def test_a_key_is_no_model() -> None:
    """In a model's place it would be sent, logged and counted; a short name is one all the same."""
    with pytest.raises(InvalidRequestError, match="looks like an API key") as caught:
        Target(KEY)
    assert KEY not in str(caught.value)
    assert Target("sk-small").model == "sk-small"


@pytest.mark.parametrize("fallback", [None, [], ()])
def test_an_empty_list_is_none(fallback: Any) -> None:
    """A list from a configuration may be empty."""
    assert CallOptions(fallback=fallback).fallback is None


def test_a_target_hides_its_key_and_takes_it_nowhere() -> None:
    """Neither repr nor pickle has it; without a key a target can be pickled."""
    url = f"https://x.test/?key={KEY}"
    headers = {"X-Key": KEY}
    target = Target("m", api_key=KEY, base_url=url, extra_headers=headers, extra_query={"k": KEY})
    assert repr(target) == "Target(model='m', provider=None, api=None, api_version=None)"
    assert KEY not in repr(CallOptions(fallback=[target]))
    assert KEY not in repr(target.api_key)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(target)
    bare = Target("m", base_url="https://x.test", extra_headers={"A": "b"})
    assert pickle.loads(pickle.dumps(bare)) == bare


def test_targets_that_travel_go_where_they_would_from_here() -> None:
    """The base URLs of the caller's environment go along, an entry's own wins."""
    own = Target("gpt-5.5", base_url="https://own.test")
    asked = ("claude-x", "gpt-5.5", own, Target("local", provider="claude"))
    urls = {"claude": "https://claude.test"}
    assert aimed(asked, urls) == (
        Target("claude-x", base_url="https://claude.test"),
        "gpt-5.5",
        own,
        Target("local", provider="claude", base_url="https://claude.test"),
    )
    assert aimed(None, urls) is None


def test_a_reply_has_none_before_it_unless_told() -> None:
    """An answer of the first target has no fallbacks, and one made by hand needs none."""
    fields: dict[str, Any] = dict.fromkeys(
        ("finish_reason", "request_id", "usage", "raw"), None
    ) | {"text": "x", "model": "m", "id": "1", "status_code": 200, "headers": {}}
    reply = ChatResponse(**fields, attempts=1, elapsed=0.1, provider="openai")
    assert reply.fallbacks == ()
    assert TermaiHttpError("x").fallbacks == ()
