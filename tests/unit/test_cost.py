"""What a reply cost: known to the last part, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from termai_http import ConfigurationError
from termai_http._cost import cost_of, price_of, terms_of
from termai_http.prices import CLAUDE_URL, OPENAI_URL, PRICES, Price

OPENAI = f"{OPENAI_URL}/v1"


def openai(usage: Any, model: str = "gpt-6-sol", **more: Any) -> float | None:
    """Price a chat of OpenAI's, at OpenAI, by the vendors' own prices."""
    given = {"body": {"model": model}, "base_url": OPENAI, "prices": None, **more}
    raw = {"service_tier": "default", **given.pop("raw", {}), "usage": usage}
    terms = terms_of(given.pop("body"))
    return cost_of(raw, model=given.pop("said", model), terms=terms, **given)


def claude(usage: Any, model: str = "claude-opus-5-5", **more: Any) -> float | None:
    """Price a message of Claude's, at Claude, by the vendors' own prices."""
    given = {"body": {"model": model}, "base_url": CLAUDE_URL, "prices": None, **more}
    whole = {"service_tier": "standard", "output_tokens": 0, **usage}
    terms = terms_of(given.pop("body"))
    return cost_of({"usage": whole}, model=model, terms=terms, **given)


def chat(prompt: int, output: int, **details: int) -> dict[str, Any]:
    """Return a usage as OpenAI's chats tell it."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, **details},
        "completion_tokens_details": {"reasoning_tokens": output // 2, "audio_tokens": 0},
    }


def message(fresh: int, *, cached: int = 0, short: int = 0, long: int = 0) -> dict[str, Any]:
    """Return a usage as Claude tells it."""
    return {
        "input_tokens": fresh,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": long,
        },
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
    }


def test_a_chat_of_openais() -> None:
    """What was cached costs less than what was read, and what was written to the cache more."""
    assert openai(chat(1_000_000 // 10, 1000)) == pytest.approx(0.2 + 0.01)
    used = chat(100_000, 0, cached_tokens=50_000, cache_write_tokens=10_000)
    assert openai(used) == pytest.approx((40_000 * 2 + 50_000 * 0.2 + 10_000 * 2.5) / 1e6)


def test_a_response_of_openais() -> None:
    """Its usage has other names for the same."""
    used = {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 200},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 1050,
    }
    kinds = ("message", "reasoning", "function_call")
    raw = {"output": [{"type": kind} for kind in kinds]}
    assert openai(used, raw=raw) == pytest.approx((800 * 2 + 200 * 0.2 + 50 * 10) / 1e6)
    raw["output"].append({"type": "web_search_call"})
    assert openai(used, raw=raw) is None


def test_a_message_of_claudes() -> None:
    """Its input has what neither read nor wrote the cache; each kind of writing has its price."""
    used = {**message(100, cached=1000, short=500, long=200), "output_tokens": 10}
    dollars = 100 * 4 + 1000 * 0.2 + 500 * 5 + 200 * 8 + 10 * 20
    assert claude(used) == pytest.approx(dollars / 1e6)


def test_a_write_whose_kind_is_not_told_has_no_price() -> None:
    """Five minutes and an hour cost differently, and a server may tell only their sum."""
    used = message(100, short=500)
    del used["cache_creation"]
    assert claude(used) is None
    assert claude({**message(100), "cache_creation": None}) == pytest.approx(400 / 1e6)


@pytest.mark.parametrize("tokens", [0, 99_999, 100_000, 100_001, 500_000])
def test_a_long_prompt_has_another_price(tokens: int) -> None:
    """The whole prompt, the cache's part included, decides on the price of every token."""
    used = {**message(50, cached=tokens), "output_tokens": 1000}
    low = tokens + 50 <= 100_000
    dollars = 50 * 0.10 + tokens * 0.01 + 1000 * 0.50
    found = claude(used, "claude-haiku-5-5")
    assert found == pytest.approx((dollars if low else 5 * dollars) / 1e6)


def test_a_long_prompt_whose_price_is_not_known() -> None:
    """Above what the table knows there is no cost."""
    assert openai(chat(272_000, 1), "gpt-6-luna") is not None
    assert openai(chat(272_001, 1), "gpt-6-luna") is None
    assert openai(chat(272_001, 0)) == pytest.approx(272_001 * 4 / 1e6)


@pytest.mark.parametrize("tier", ["flex", "priority", "batch", "fast", "scale", 3])
def test_other_tiers_have_other_prices(tier: Any) -> None:
    """What the reply says counts, and where it says nothing what was asked for."""
    used = chat(100, 10)
    assert openai(used, raw={"service_tier": tier}) is None
    assert claude({**message(100), "service_tier": tier}) is None
    asked = {"model": "gpt-6-sol", "service_tier": tier}
    assert openai(used, raw={"service_tier": None}, body=asked) is None
    assert openai(used, raw={"service_tier": "default"}, body=asked) is not None


@pytest.mark.parametrize(
    "extra",
    [
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"server_tool_use": {"web_search_requests": 1}},
        {"iterations": [{"input_tokens": 3}]},
        {"image_tokens": 3},
        {"output_tokens_details": {"image_tokens": 3}},
    ],
)
def test_what_has_a_price_of_its_own_leaves_no_cost(extra: dict[str, Any]) -> None:
    """Speed, place, the server's own tools, and whatever else is counted that nobody knows."""
    assert claude({**message(100), **extra}) is None


@pytest.mark.parametrize(
    "extra",
    [
        {"speed": "standard"},
        {"speed": None, "inference_geo": "global"},
        {"inference_geo": "not_available"},
        {"iterations": [], "image_tokens": 0, "server_tool_use": None},
        {"output_tokens_details": {"thinking_tokens": 3}},
    ],
)
def test_what_costs_nothing_leaves_the_cost(extra: dict[str, Any]) -> None:
    """The ordinary words, zeros, and counts that are part of others."""
    assert claude({**message(100), **extra}) == pytest.approx(400 / 1e6)


def test_sound_and_search_leave_no_cost() -> None:
    """Tokens of sound, and a search that was asked for, have prices of their own."""
    assert openai(chat(100, 10, audio_tokens=1)) is None
    body = {"model": "gpt-6-sol", "web_search_options": {}}
    assert openai(chat(100, 10), body=body) is None


@pytest.mark.parametrize(
    "usage",
    [
        *(None, {}, [], 3, {"prompt_tokens": 0}, {"prompt_tokens": "3"}, {"prompt_tokens": True}),
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}},
        *({"completion_tokens": 7}, {"prompt_tokens": 5, "completion_tokens": None}),
        {"prompt_tokens": 5, "output_tokens": "7"},
    ],
)
def test_a_usage_that_says_nothing_is_no_zero(usage: Any) -> None:
    """A server that does not count its tokens, or not so that they fit, leaves no cost."""
    anywhere = {"m": Price(input=1, output=1, cached_input=1)}
    assert openai(usage, "m", prices=anywhere) is None
    assert openai({"prompt_tokens": 5}, "m", prices=anywhere) == pytest.approx(5 / 1e6)


def test_tokens_that_only_the_total_has_leave_no_cost() -> None:
    """Some servers charge for reasoning that they count in neither prompt nor completion."""
    anywhere = {"m": Price(input=1, output=1)}
    used = chat(100, 10)
    assert openai(used, "m", prices=anywhere) == pytest.approx(110 / 1e6)
    assert openai({**used, "total_tokens": 150}, "m", prices=anywhere) is None
    assert openai({"prompt_tokens": 5, "total_tokens": 5}, "m", prices=anywhere) is not None


def test_no_usage_breaks_a_reply() -> None:
    """Numbers beyond all sense, and lists in lists, leave no cost and raise nothing."""
    deep: list[Any] = [1]
    for _ in range(5000):
        deep = [deep]
    assert claude({**message(100), "server_tool_use": deep}) is None
    for used in (chat(10**400, 1), chat(1, 10**400), chat(10**13, 1)):
        assert openai(used, "m", prices={"m": Price(input=1, output=1)}) is None
    assert claude({**message(100), "output_tokens": 10**400}) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        *(("gpt-6-sol", True), ("gpt-6-sol-2026-09-22", True), ("gpt-6-sol-20260922", True)),
        *(("gpt-6-sol-pro", False), ("gpt-6", False), ("gpt-6-sol-2026-0922", False)),
        *(("gpt-6-sol-20261322", False), ("gpt-6-sol-2026-09-22-x", False), ("x-gpt-6-sol", False)),
        *(("GPT-6-SOL", False), ("", False), ("gpt-6-sol-" + "9" * 300, False)),
    ],
)
def test_a_model_is_found_by_its_name_or_a_dated_one(name: str, found: bool) -> None:
    """Nothing else is taken for it: a name that begins alike may cost ten times as much."""
    assert (price_of(PRICES, name, name, OPENAI) == PRICES["gpt-6-sol"]) is found


def test_the_vendors_prices_hold_at_the_vendor_only() -> None:
    """Another server with a model of that name, or the vendor in another region, has its own."""
    for url in ("https://api.openai.com/v1/", "https://api.openai.com"):
        assert price_of(PRICES, "gpt-6-sol", None, url) is not None
    for url in ("http://127.0.0.1:1/v1", "https://eu.api.openai.com/v1", CLAUDE_URL, ""):
        assert price_of(PRICES, "gpt-6-sol", None, url) is None
    mine = {**PRICES, "gpt-6-sol": Price(input=1, output=2)}
    assert price_of(mine, "gpt-6-sol", None, "http://127.0.0.1:1/v1") is mine["gpt-6-sol"]


def test_the_model_that_answered_counts() -> None:
    """The one asked for counts where the vendor names none, or at a server of one's own."""
    mine = {"alias": Price(input=1, output=2)}
    used = chat(1000, 0)
    assert openai(used, said="gpt-6-luna", body={"model": "gpt-6-sol"}) == pytest.approx(1e-4)
    assert openai(used, said="gpt-6-other", body={"model": "gpt-6-sol"}) is None
    assert openai(used, said="", body={"model": "gpt-6-sol"}) == pytest.approx(2e-3)
    assert openai(used, "alias", said="real/path", prices=mine) == pytest.approx(1e-3)


def test_a_price_of_ones_own_may_ignore_what_a_server_counts_beside() -> None:
    """At a compatible server the unknown counts are its own affair; the known ones are not."""
    used = {**chat(1000, 0), "queue_time": 0.3, "prompt_cache_miss_tokens": 1000}
    assert openai(used, "m", prices={"m": Price(input=1, output=1)}) == pytest.approx(1e-3)
    cached = chat(1000, 0, cached_tokens=10)
    assert openai(cached, "m", prices={"m": Price(input=1, output=1)}) is None
    held = {"m": Price(input=1, output=1, base_url=OPENAI)}
    assert openai(used, "m", prices=held) is None


def test_an_empty_table_knows_no_cost() -> None:
    """It is not the built-in one."""
    assert openai(chat(1000, 0), prices={}) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"input": -1}, "input"),
        ({"input": None}, "input"),
        ({"output": "3"}, "output"),
        ({"cached_input": float("nan")}, "cached_input"),
        ({"cache_write_1h": True}, "cache_write_1h"),
        ({"up_to": 0}, "up_to"),
        ({"up_to": 5, "above": 3}, "above"),
        ({"above": Price(input=1, output=1)}, "up_to"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": 3}, "base_url"),
    ],
)
def test_a_price_that_cannot_be_is_refused(changed: dict[str, Any], said: str) -> None:
    """The message names the field."""
    with pytest.raises(ConfigurationError, match=said):
        Price(**{"input": 1, "output": 2, **changed})


def test_every_price_in_the_table_is_whole() -> None:
    """Each holds at a vendor, what is cached costs less, and what is longer no less."""
    assert len(PRICES) > 15
    for name, price in PRICES.items():
        assert price.base_url == (CLAUDE_URL if name.startswith("claude") else OPENAI_URL), name
        assert price.cached_input is not None
        assert price.cached_input < price.input < price.output, name
        if price.above is not None:
            assert price.above.input > price.input
            assert price.above.output > price.output
    with pytest.raises(TypeError):
        PRICES["x"] = Price(input=1, output=2)  # type: ignore[index]
