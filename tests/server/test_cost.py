"""What replies cost: on each, and added up by model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from termai_http import (
    APIConnectionError,
    BadRequestError,
    Client,
    HttpClientConfig,
    OutputError,
    RateLimitError,
    RetryConfig,
    StreamInterrupted,
    TruncatedResponse,
    Usage,
    events,
)
from termai_http._call import Call, Clock
from termai_http._ending import record_of as sum_up
from termai_http.layers import BuiltLayer, Layer, Outcome
from termai_http.metrics import CallRecord, HttpMetrics, ModelStats, format_stats
from termai_http.prices import Price
from termai_http.testing import CutAfter, ResetAfterRead, Server, Status, Text, TruncatedBody

PRICE = Price(input=3, output=15, cached_input=0.3)
PRICES = {"m": PRICE, "claude-m": PRICE, "e": Price(input=0.5, output=0)}
ONCE = RetryConfig(max_attempts=1)


def dollars(usage: Usage) -> float:
    """Return what tokens cost, none of which came from a cache."""
    return (usage.input_tokens * 3 + usage.output_tokens * 15) / 1e6


@pytest.fixture
def priced(server: Server) -> Iterator[Any]:
    """A client that knows prices, and where it asks."""
    with Client(HttpClientConfig(prices=PRICES, trust_env=False)) as client:
        yield client, {"base_url": server.url, "api_key": "sk-test"}


@pytest.mark.parametrize("model", ["m", "claude-m"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_reply_says_its_cost(priced: Any, model: str, streamed: bool) -> None:
    """Whole and streamed, of either vendor, and the figures of its model have it."""
    client, there = priced
    if streamed:
        # A server that is not OpenAI's is asked to count only where the caller does.
        counted = {"stream_options": {"include_usage": True}} if model == "m" else {}
        with client.stream("hello", model=model, extra_body=counted, **there) as stream:
            "".join(stream)
            reply = stream.response
    else:
        reply = client.chat("hello", model=model, **there)
    assert reply.usage.input_tokens > 0
    assert reply.cost == pytest.approx(dollars(reply.usage))
    calls = client.stats().calls
    assert calls.cost == reply.cost
    assert calls.models == {
        model: ModelStats(
            calls=1,
            input_tokens=reply.usage.input_tokens,
            output_tokens=reply.usage.output_tokens,
            cost=reply.cost,
        )
    }


def test_a_response_says_its_cost(priced: Any) -> None:
    """The responses API counts under other names."""
    client, there = priced
    reply = client.chat("hello", model="m", api="responses", **there)
    assert reply.cost == pytest.approx(dollars(reply.usage)) != 0


def test_embeddings_say_their_cost(priced: Any) -> None:
    """Tokens are read only."""
    client, there = priced
    made = client.embed(["a b", "c"], model="e", **there)
    assert made.cost == pytest.approx(made.usage.input_tokens * 0.5 / 1e6) != 0
    assert client.stats().calls.models["e"].cost == made.cost


def test_a_run_costs_all_of_its_rounds(priced: Any) -> None:
    """The sum where all are known, and nothing where one is not."""
    client, there = priced

    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        return "sunny"

    run = client.run_tools("weather?", tools=[weather], model="m", **there)
    assert len(run.replies) == 2
    assert run.cost == pytest.approx(dollars(run.usage))
    other = client.run_tools("weather?", tools=[weather], model="other", **there)
    assert other.cost is None
    assert client.stats().calls.calls_without_cost == 2


def test_the_vendors_prices_are_not_those_of_another_server(server: Server) -> None:
    """Without a table of one's own a compatible server's replies have no cost."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        reply = client.chat("hi", model="gpt-5.5", base_url=server.url, api_key="k")
        calls = client.stats().calls
    assert reply.cost is None
    assert (calls.cost, calls.calls_without_cost) == (0.0, 1)
    assert calls.models["gpt-5.5"].calls_without_cost == 1


@attrs.frozen
class Answer:
    """A form that no echo fits."""

    number: int


def test_a_reply_that_does_not_fit_was_billed(server: Server) -> None:
    """The error says what it cost, and the figures have it."""
    with (
        Server(reply=lambda request: "no JSON") as odd,
        Client(HttpClientConfig(prices=PRICES, trust_env=False)) as client,
    ):
        with pytest.raises(OutputError) as caught:
            client.chat("hi", model="m", output=Answer, base_url=odd.url, api_key="k")
        calls = client.stats().calls
    assert caught.value.usage is not None
    assert caught.value.cost == pytest.approx(dollars(caught.value.usage)) == calls.cost
    of = calls.models["m"]
    assert (of.calls, of.failed, of.cost, of.calls_without_cost) == (1, 1, calls.cost, 0)


def test_what_was_refused_costs_nothing_and_what_may_be_billed_is_counted(
    server: Server, priced: Any
) -> None:
    """A 400 and a 429 are no calls of unknown cost; a reset after sending and a cut body are."""
    client, there = priced
    server.script(ResetAfterRead(), Status(400), Status(429), TruncatedBody())
    for error, unknown in (
        (APIConnectionError, 1),
        (BadRequestError, 1),
        (RateLimitError, 1),
        (TruncatedResponse, 2),
    ):
        with pytest.raises(error):
            client.chat("hi", model="m", retry=ONCE, **there)
        assert client.stats().calls.calls_without_cost == unknown
    of = client.stats().calls.models["m"]
    assert (of.calls, of.failed, of.input_tokens, of.cost) == (4, 4, 0, 0.0)


def test_a_stream_that_is_left_or_breaks_has_an_unknown_cost(server: Server, priced: Any) -> None:
    """The vendor wrote more than came, and nobody says how much."""
    client, there = priced
    with client.stream("hi", model="m", **there) as stream:
        next(stream)
    assert client.stats().calls.calls_without_cost == 1
    server.script(CutAfter(5))
    with pytest.raises(StreamInterrupted):
        "".join(client.stream("hi", model="claude-m", **there))
    calls = client.stats().calls
    assert (calls.calls_without_cost, calls.cost) == (2, 0.0)


def test_requests_that_name_no_model_are_in_no_model(priced: Any) -> None:
    """A list of models and a request of one's own cost nothing that is known or unknown."""
    client, there = priced
    client.list_models(**there)
    calls = client.stats().calls
    assert (calls.total_requests, calls.models, calls.calls_without_cost) == (1, {}, 0)


class Keeper(BuiltLayer):
    """Answers each call but the first with what the first was answered."""

    kept: Any = None

    def around_call(self, request: Any, send: Any) -> Outcome[Any]:
        """Answer without an attempt where there is something to answer with."""
        if self.kept is None:
            outcome: Outcome[Any] = send(request)
            self.kept = outcome.response
            return outcome
        return Outcome(value=request.read(self.kept, request.call), response=self.kept)


@attrs.frozen
class Keeping(Layer):
    """Describes one."""

    name = "keeping"

    def build(self, config: HttpClientConfig, clock: Clock) -> Keeper:
        """Make it."""
        return Keeper()


def test_a_reply_that_took_no_attempt_cost_nothing(server: Server) -> None:
    """Its cost is known, and its tokens are not counted again."""
    config = HttpClientConfig(layers=(Keeping(),), prices=PRICES, trust_env=False)
    with Client(config) as client:
        replies = [
            client.chat("hi", model=model, base_url=server.url, api_key="k")
            for model in ("m", "m", "unknown")
        ]
        of = client.stats().calls.models
    assert len(server.requests) == 1
    assert [reply.attempts for reply in replies] == [1, 0, 0]
    assert replies[0].cost == dollars(replies[0].usage) > 0
    assert [reply.cost for reply in replies[1:]] == [0.0, 0.0]
    assert (of["m"].calls, of["m"].cost) == (2, replies[0].cost)
    assert of["m"].input_tokens == replies[0].usage.input_tokens
    assert of["unknown"] == ModelStats(calls=1)


def record_of(attempts: int, **fields: Any) -> CallRecord:
    """Sum up a call that ended with a reply."""
    call = Call(5.0, Clock(), "openai", "m")
    call.attempts = attempts
    value = type("Reply", (), {"usage": Usage(input_tokens=5, output_tokens=7), **fields})()
    return sum_up(call, Outcome(value=value), None)


def test_what_a_cache_answers_counts_no_tokens_and_no_cost() -> None:
    """No exchange was made, whatever the kept reply says."""
    metrics = HttpMetrics()
    metrics.record(record_of(0, cost=0.0))
    metrics.record(record_of(1, cost=0.25))
    metrics.record(record_of(1, cost=None))
    calls = metrics.get_stats()
    assert calls.models["m"] == ModelStats(
        calls=3, input_tokens=10, output_tokens=14, cost=0.25, calls_without_cost=1
    )
    assert (calls.total_requests, calls.input_tokens, calls.cost) == (3, 10, 0.25)


def test_the_models_are_bounded() -> None:
    """The first hundred by name, all others together; the sums are those of all."""
    metrics = HttpMetrics()
    for number in range(130):
        for pooled in (True, False):
            metrics.record(
                CallRecord(duration=0.1, success=True, model=f"m{number}", cost=0.5, pooled=pooled)
            )
    for stats in metrics.by_pooling():
        assert len(stats.models) == 101
        assert stats.models["m99"].calls == (2 if stats.total_requests == 260 else 1)
        assert stats.models["other"].calls == stats.total_requests - 100 * stats.models["m0"].calls
        assert stats.cost == pytest.approx(sum(of.cost for of in stats.models.values()))
        assert stats.cost == pytest.approx(stats.total_requests / 2)


def test_the_table_for_people_has_cost_models_and_sides() -> None:
    """Each only where there is something to tell."""
    with Client() as client:
        bare = format_stats(client.stats())
        for number, pooled in enumerate((True, True, False)):
            client.metrics.record(
                CallRecord(
                    duration=0.1 * (number + 1),
                    success=pooled,
                    input_tokens=1000,
                    model="m",
                    cost=0.0123 if pooled else None,
                    cost_unknown=not pooled,
                    pooled=pooled,
                )
            )
        told = format_stats(client.stats())
    assert not any(word in bare for word in ("cost", "pooled", "model"))
    assert "$0.0246  1 call of unknown cost" in told
    rows = [" ".join(line.split()) for line in told.splitlines()]
    of_model = "3,000 tokens in, 0 out, $0.0246, 1 call of unknown cost"
    assert f"model: m 3 {of_model}" in rows
    (pooled_row,) = [row for row in rows if row.startswith("pooled")]
    (unpooled_row,) = [row for row in rows if row.startswith("unpooled")]
    assert pooled_row.startswith("pooled 2 100.0% succeeded, p50 ")
    assert unpooled_row.startswith("unpooled 1 0.0% succeeded, p50 ")


def test_those_who_listen_hear_the_cost(server: Server) -> None:
    """At the end of a call, of a stream, and of a reply that could not be used."""
    prices = {"m": Price(input=1.0, output=2.0)}
    ended: list[Any] = []

    def hear(event: Any) -> None:
        if isinstance(event, (events.CallSucceeded, events.CallFailed)):
            ended.append(event)

    options: dict[str, Any] = {"model": "m", "base_url": server.url, "api_key": "k"}
    with Client(HttpClientConfig(trust_env=False, prices=prices)) as client:
        client.listen(hear)
        reply = client.chat("hi", **options)
        with client.stream("hi", **options) as stream:
            list(stream)
        server.script(Text("no JSON"))
        with pytest.raises(OutputError) as caught:
            client.chat("hi", output=list[int], **options)
    assert stream.response is not None
    assert reply.cost
    costs = [reply.cost, stream.response.cost, caught.value.cost]
    assert [event.cost for event in ended] == costs


def test_a_cost_of_which_nothing_is_known_is_not_shown_as_none(server: Server) -> None:
    """Where no call has a price, the table says so, and no dollars."""
    with Client(HttpClientConfig(trust_env=False)) as client:
        client.chat("hi", model="m", base_url=server.url, api_key="k")
        rows = [" ".join(line.split()) for line in format_stats(client.stats()).splitlines()]
    assert "cost unknown 1 call of unknown cost" in rows
