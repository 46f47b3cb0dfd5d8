"""What a reply cost, by what its vendor says it used. Pure; what is not known is None."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ._values import Value
from .prices import PRICES, Price, place_of

__all__ = ["cost_of", "price_of", "terms_of"]

_A_MILLION = 1_000_000
# As the vendors name snapshots of a model: gpt-5.5-2026-04-23, claude-haiku-4-5-20251001.
_DATED = re.compile(r"(.+)-20\d\d(-?)(?:0[1-9]|1[0-2])\2(?:0[1-9]|[12]\d|3[01])")
_LONGEST_NAME = 200
# So many tokens nobody used: whatever says so counts something else.
_BEYOND = 10**12

# Ordinary service, in the words of all three APIs; any other has other prices.
_ORDINARY_TIERS = (None, "", "auto", "default", "standard", "standard_only")
_ORDINARY = {"service_tier": _ORDINARY_TIERS, "speed": (None, "", "standard")}
_ANYWHERE = (None, "", "global", "not_available")
# What of the usage is tokens of a text model, and in which details they are counted again.
_COUNTS = frozenset({"input_tokens", "output_tokens", "total_tokens"}) | {
    *("prompt_tokens", "completion_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
}
_DETAILS = {
    *("input_tokens_details", "output_tokens_details", "prompt_tokens_details"),
    *("completion_tokens_details", "cache_creation"),
}
_DETAILED = frozenset(
    {
        *("cached_tokens", "cache_write_tokens", "text_tokens", "reasoning_tokens"),
        *("thinking_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens"),
        *("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    }
)
# Whatever else a response of OpenAI's holds may have been charged by the call.
_FREE_ITEMS = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})


@attrs.define(kw_only=True, eq=False, repr=False)
class _Used(Value):
    """Tokens of one reply by what they cost; the four of the input add up to the prompt."""

    fresh: int
    cached: int
    written: int
    written_1h: int
    output: int

    def prompt(self) -> int:
        """Return how long the prompt was."""
        return self.fresh + self.cached + self.written + self.written_1h


def terms_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what in a request may change the price: no prompt stands in it."""
    terms = {name: body[name] for name in ("model", *_ORDINARY) if name in body}
    if body.get("web_search_options") is not None:
        terms["web_search_options"] = True
    return terms


def cost_of(
    raw: Mapping[str, Any],
    *,
    model: str,
    terms: Mapping[str, Any],
    base_url: str,
    prices: Mapping[str, Price] | None,
) -> float | None:
    """Return what a reply cost, in US dollars; None where any part of that is not known.

    Args:
        raw: All that the vendor sent.
        model: The model that answered, as the vendor names it; ``""`` where it does not.
        terms: What ``terms_of`` found in the request.
        base_url: Where it went.
        prices: The table; None means ``PRICES``.
    """
    price = price_of(PRICES if prices is None else prices, model, terms.get("model"), base_url)
    if price is None:
        return None
    usage = raw.get("usage")
    if not isinstance(usage, dict) or _has_extras(raw, usage, terms):
        return None
    if price.base_url is not None and not _is_known(usage):
        return None
    used = _read(usage)
    return None if used is None else _sum(price, used)


def price_of(prices: Mapping[str, Price], model: str, asked: object, base_url: str) -> Price | None:
    """Return the price of a model; None where the table has none that holds at the base URL.

    The name has to be that of the table, or a snapshot of it with a date behind. The one asked for
    counts only where no vendor is named: a vendor may answer with another model than was asked.
    """
    for name in (model, asked):
        if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME:
            continue
        price = prices.get(name) or prices.get(_without_date(name))
        if price is not None:
            held = price.base_url is None or price.base_url == _place_of(base_url)
            return price if held and (name is model or not model or not price.base_url) else None
    return None


@functools.lru_cache(maxsize=256)
def _without_date(name: str) -> str:
    dated = _DATED.fullmatch(name)
    return dated[1] if dated else name


_place_of = functools.lru_cache(maxsize=256)(place_of)


def _has_extras(raw: Mapping[str, Any], usage: Mapping[str, Any], terms: Mapping[str, Any]) -> bool:
    """Tell whether something was used that has a price of its own, or a tier that has."""
    for name, ordinary in _ORDINARY.items():
        said = usage.get(name, raw.get(name))
        if (terms.get(name) if said is None else said) not in ordinary:
            return True
    if usage.get("inference_geo") not in _ANYWHERE or terms.get("web_search_options"):
        return True
    if _any_count(usage.get("server_tool_use")):
        return True
    if any(_count(_of(usage, name), "audio_tokens") for name in _DETAILS):
        return True
    items = raw.get("output")
    return isinstance(items, list) and not _all_free(items)


def _all_free(items: Iterable[Any]) -> bool:
    return all(isinstance(item, dict) and item.get("type") in _FREE_ITEMS for item in items)


def _is_known(usage: Mapping[str, Any]) -> bool:
    """Tell whether the vendor counts nothing that this module does not know."""
    for name, value in usage.items():
        if name in _DETAILS:
            known = not isinstance(value, dict) or not any(
                _any_count(count) for key, count in value.items() if key not in _DETAILED
            )
        else:
            known = name in _COUNTS or not _any_count(value)
        if not known:
            return False
    return True


def _any_count(value: Any) -> bool:
    # Without recursion: how deep it is nested is the server's to say.
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
        elif isinstance(one, (int, float)) and one:
            return True
    return False


def _read(usage: Mapping[str, Any]) -> _Used | None:
    """Read the tokens; None where they are not told, or do not fit each other."""
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        return _read_claude(usage)
    prompt = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    output = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    details = _of(usage, "prompt_tokens_details") or _of(usage, "input_tokens_details")
    cached, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    fresh = prompt - cached - written
    if not prompt or fresh < 0 or not _adds_up(usage, prompt, output):
        return None
    return _Used(fresh=fresh, cached=cached, written=written, written_1h=0, output=output)


def _adds_up(usage: Mapping[str, Any], prompt: int, output: int) -> bool:
    """Tell whether nothing was used beside prompt and output, as far as the vendor says.

    Some count what they charge for reasoning in the total only. Embeddings tell no output.
    """
    written = [usage[name] for name in ("completion_tokens", "output_tokens") if name in usage]
    told = not written or any(type(count) is int for count in written)
    return told and _count(usage, "total_tokens") <= prompt + output


def _read_claude(usage: Mapping[str, Any]) -> _Used | None:
    written = _count(usage, "cache_creation_input_tokens")
    kinds = _of(usage, "cache_creation")
    short = _count(kinds, "ephemeral_5m_input_tokens")
    long = _count(kinds, "ephemeral_1h_input_tokens")
    used = _Used(
        fresh=_count(usage, "input_tokens"),
        cached=_count(usage, "cache_read_input_tokens"),
        written=short,
        written_1h=long,
        output=_count(usage, "output_tokens"),
    )
    return used if short + long == written and used.prompt() else None


def _of(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = usage.get(name)
    return details if isinstance(details, dict) else {}


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return min(value, _BEYOND) if type(value) is int and value > 0 else 0


def _sum(price: Price, used: _Used) -> float | None:
    if max(used.prompt(), used.output) >= _BEYOND:
        return None
    while price.up_to is not None and used.prompt() > price.up_to:
        if price.above is None:
            return None
        price = price.above
    total = 0.0
    for tokens, dollars in (
        (used.fresh, price.input),
        (used.cached, price.cached_input),
        (used.written, price.cache_write),
        (used.written_1h, price.cache_write_1h),
        (used.output, price.output),
    ):
        if not tokens:
            continue
        if dollars is None:
            return None
        total += tokens * dollars
    return total / _A_MILLION
