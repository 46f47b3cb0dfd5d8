"""Lines of events: which level, what they say, and their fields for structured logging."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from termai_http import FailedTarget, _events, _log_events
from termai_http._log_events import fields_of, tell, tell_fallback, tell_retry
from tests.docs_tables import first_words

WHO: dict[str, Any] = {"call_id": 7, "provider": "openai", "model": "gpt-5.5"}
HOST: dict[str, Any] = {"host": "api.openai.com", "port": 443}
CALL: dict[str, Any] = {"request_id": "req_1", "attempts": 2, "elapsed": 1.234}
RETRY = _events.RetryScheduled(
    **WHO, attempt=1, cause="503", wait=0.5, status_code=503, request_id="req_0"
)
SAID: list[tuple[_events.Event, str]] = [
    (_events.CallStarted(**WHO, **HOST), "a call (chat) begins, to api.openai.com:443"),
    (
        _events.CallStarted(**WHO, streaming=True, host="localhost"),
        "a stream (chat) begins, to localhost",
    ),
    (
        _events.CallSucceeded(**WHO, **CALL, status_code=200, input_tokens=30, output_tokens=12),
        "200 in 1.23 s, 2 attempts, 30 tokens in, 12 out, request id req_1",
    ),
    (
        _events.CallSucceeded(**WHO, status_code=200, attempts=0, elapsed=0.001, request_id=None),
        "answered without a request in 0.00 s",
    ),
    (
        _events.CallFailed(**WHO, **CALL, error="RateLimitError", status_code=429),
        "RateLimitError (429) after 1.23 s, 2 attempts, request id req_1",
    ),
    (
        _events.CallFailed(
            **WHO, error="DNSError", status_code=None, request_id=None, attempts=1, elapsed=0.5
        ),
        "DNSError after 0.50 s",
    ),
    (_events.AttemptStarted(**WHO, attempt=1), "attempt 1 begins"),
    (
        _events.AttemptSucceeded(**WHO, attempt=1, status_code=200, reused=False),
        "attempt 1 got 200 over a new connection",
    ),
    (
        _events.AttemptSucceeded(**WHO, attempt=2, status_code=200, reused=True),
        "attempt 2 got 200 over a kept connection",
    ),
    (
        _events.AttemptFailed(
            **WHO, attempt=1, cause="ambiguous", status_code=None, request_id=None
        ),
        "attempt 1 failed: ambiguous",
    ),
    (
        _events.SlotWaited(**WHO, seconds=0.25, got=True),
        "waited 0.25 s for a slot, and has one",
    ),
    (_events.SlotWaited(**WHO, seconds=0.25, got=False), "waited 0.25 s for a slot, in vain"),
    (
        _events.ConnectionOpened(**WHO, **HOST, seconds=0.02),
        "connection to api.openai.com:443 opened in 0.02 s",
    ),
    (_events.ConnectionReused(**WHO, **HOST), "connection to api.openai.com:443 taken again"),
    (
        _events.ConnectionClosed(**WHO, **HOST, reason="discarded"),
        "connection to api.openai.com:443 closed: discarded",
    ),
    (_events.FirstToken(**WHO, elapsed=0.75), "first token after 0.75 s"),
    (
        _events.CircuitChanged(**WHO, base_url="https://u:p@llm.example/path/v1", state="open"),
        "circuit of llm.example is open",
    ),
    (_events.CircuitChanged(**WHO, base_url="http://[", state="open"), "circuit of a host is open"),
    (_events.PacingWaited(**WHO, seconds=2.0, why="retry-after"), "held back 2.00 s: retry-after"),
    (_events.CacheAnswered(**WHO, shared=False), "answered from the cache"),
    (_events.CacheAnswered(**WHO, shared=True), "shared the reply of an equal call"),
    (_events.CacheMissed(**WHO), "not in the cache"),
]
EVERY = [event for event, _ in SAID] + [RETRY]


class Kept(logging.Handler):
    """Keeps its records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[list[logging.LogRecord]]:
    """What the package's logger got, at DEBUG."""
    log = logging.getLogger("termai_http")
    handler, before = Kept(), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler.records
    log.setLevel(before)
    log.removeHandler(handler)


def own(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's fields of ours."""
    return {name: value for name, value in vars(record).items() if name.startswith("termai_")}


@pytest.mark.parametrize(("event", "said"), SAID, ids=lambda one: type(one).__name__)
def test_an_event_says_in_a_line_what_happened(
    kept: list[logging.LogRecord], event: _events.Event, said: str
) -> None:
    """At INFO how a call ended, at WARNING where it failed, at DEBUG everything else."""
    tell(event)
    (record,) = kept
    assert record.getMessage() == f"call 7, openai gpt-5.5: {said}"
    levels = {"CallSucceeded": "INFO", "CallFailed": "WARNING"}
    assert record.levelname == levels.get(type(event).__name__, "DEBUG")
    assert own(record) == fields_of(event)


def test_a_failed_health_check_is_warned_of_once(kept: list[logging.LogRecord]) -> None:
    """By the adapter, which has the reason; the call's own line is at INFO."""
    tell(_events.CallFailed(**WHO, **CALL, error="DNSError", status_code=None, operation="health"))
    assert [record.levelname for record in kept] == ["INFO"]


def test_every_event_has_a_line() -> None:
    """A new one cannot be forgotten; that of a retry is written by whoever begins it."""
    events = {name for name in _events.__all__ if name not in ("Event", "Listener")}
    assert {type(event).__name__ for event in EVERY} == events
    assert set(_log_events._LINES) == events - {"RetryScheduled"}


def test_a_retry_is_a_warning(kept: list[logging.LogRecord]) -> None:
    """With its fields, and once: as an event it has no line of its own."""
    tell(RETRY)
    tell_retry(RETRY)
    (record,) = kept
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "Retrying openai gpt-5.5 after attempt 1 failed: 503; waiting 0.50 s (request id req_0)"
    )
    assert own(record) == {
        "termai_event": "RetryScheduled",
        "termai_call_id": 7,
        "termai_provider": "openai",
        "termai_model": "gpt-5.5",
        "termai_attempt": 1,
        "termai_cause": "503",
        "termai_wait": 0.5,
        "termai_status": 503,
        "termai_request_id": "req_0",
    }


FAILED = FailedTarget(
    model="gpt-5.5",
    provider="openai",
    host="api.openai.com:8443",
    error="OverloadedError",
    message="The prompt of somebody.",
    status_code=529,
    request_id="req_0",
    attempts=2,
    elapsed=1.5,
)


def test_a_step_to_the_next_target_is_a_warning(kept: list[logging.LogRecord]) -> None:
    """With its fields: who failed, why, and who is asked now; not the server's words."""
    tell_fallback(FAILED, "claude-opus-5-5", "api.anthropic.com")
    (record,) = kept
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "Falling back to claude-opus-5-5 at api.anthropic.com after 2 attempts: "
        "gpt-5.5 at api.openai.com:8443: OverloadedError 529 (request id req_0)"
    )
    assert own(record) == {
        "termai_event": "Fallback",
        "termai_call_id": None,
        "termai_provider": "openai",
        "termai_model": "gpt-5.5",
        "termai_error": "OverloadedError",
        "termai_status": 529,
        "termai_request_id": "req_0",
        "termai_attempts": 2,
        "termai_elapsed": 1.5,
        "termai_host": "api.openai.com",
        "termai_port": 8443,
        "termai_fallback": "claude-opus-5-5",
    }


def test_a_step_keeps_to_what_can_be_printed(kept: list[logging.LogRecord]) -> None:
    """Names of models come from outside, too, and an odd host breaks nothing."""
    hostile = "\x1b[2J\r\n\u202e" + "x" * 100_000
    texts = dict.fromkeys(("model", "provider", "host", "error", "message", "request_id"), hostile)
    tell_fallback(attrs.evolve(FAILED, attempts=1, **texts), hostile, hostile)
    (record,) = kept
    assert " after 1 attempt: " in record.getMessage()
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) <= 1500
    assert json.dumps(own(record), ensure_ascii=False).isprintable()


def test_the_fields_are_those_on_the_page() -> None:
    """The page about logs has each name once; every record has those that say whose it is."""
    names = {name for event in EVERY for name in fields_of(event)}
    names |= set(_log_events._fallback_fields(FAILED, "another"))
    assert sorted(first_words("observability.rst", "Fields of a record")) == sorted(names)
    always = {"termai_event", "termai_call_id", "termai_provider", "termai_model"}
    assert all(always <= set(fields_of(event)) for event in EVERY)


def test_no_field_is_an_attribute_of_a_record() -> None:
    """Nor of what formatters add: ``logging`` refuses such a name, at the first line."""
    usual = vars(logging.makeLogRecord({})) | {"message": 0, "asctime": 0, "taskName": 0}
    names = {name for event in EVERY for name in fields_of(event)}
    assert names & set(usual) == set()
    assert all(name.startswith("termai_") for name in names)


@pytest.mark.parametrize("event", EVERY, ids=lambda one: type(one).__name__)
def test_what_comes_from_outside_is_cut_and_printable(
    kept: list[logging.LogRecord], event: _events.Event
) -> None:
    """A record has no line break, no escape and no long text, and its fields are JSON."""
    hostile = "\x1b[2J\r\n\u202e" + "x" * 100_000
    changes = {
        field.name: hostile
        for field in attrs.fields(type(event))
        if isinstance(getattr(event, field.name), str)
    }
    told = attrs.evolve(event, **changes)
    tell_retry(told) if isinstance(told, _events.RetryScheduled) else tell(told)
    (record,) = kept
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) <= 1500
    text = json.dumps(own(record), ensure_ascii=False, allow_nan=False)
    assert text.isprintable()
    assert len(text) <= 3000


def test_an_event_of_no_call_names_none(kept: list[logging.LogRecord]) -> None:
    """A connection that was closed while idle belongs to no call."""
    nobody: dict[str, Any] = {"call_id": None, "provider": None, "model": None}
    tell(_events.ConnectionClosed(**nobody, **HOST, reason="evicted"))
    tell(_events.AttemptStarted(**{**nobody, "call_id": 3}, attempt=1))
    assert [record.getMessage() for record in kept] == [
        "connection to api.openai.com:443 closed: evicted",
        "call 3, request: attempt 1 begins",
    ]


def test_of_an_url_only_the_host_is_told() -> None:
    """Its path and its credentials may be nobody's business."""
    url = "https://user:pass@llm.example:8443/secret/v1?k=v"
    fields = fields_of(_events.CircuitChanged(**WHO, base_url=url, state="open"))
    assert (fields["termai_host"], fields["termai_port"]) == ("llm.example", 8443)
    assert not [one for one in map(str, fields.values()) if "secret" in one or "pass" in one]


def test_a_level_that_is_off_costs_nothing(
    kept: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line and no field is made for a record that nobody sees."""
    logging.getLogger("termai_http").setLevel(logging.ERROR)
    monkeypatch.setattr(_log_events, "fields_of", None)
    for event in EVERY:
        tell(event)
    assert kept == []
