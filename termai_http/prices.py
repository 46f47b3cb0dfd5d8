"""Prices of models, in US dollars a million tokens, and those that the vendors publish.

``HttpClientConfig(prices=...)`` replaces the table; ``{**PRICES, "name": Price(...)}`` extends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from ._numbers import is_number, is_whole
from ._values import Value
from .errors import ConfigurationError

__all__ = ["PRICES", "Price"]

OPENAI_URL = "https://api.openai.com"
CLAUDE_URL = "https://api.anthropic.com"


def _check_price(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None and attribute.default is None:
        return
    if not is_number(value) or value < 0:
        optional = ", or None" * (attribute.default is None)
        raise ConfigurationError(
            f"{attribute.name} must be US dollars a million tokens, at least 0{optional}, "
            f"not {value!r}."
        )


def _check_up_to(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not is_whole(value, 1):
        raise ConfigurationError(
            f"up_to must be a whole number of tokens of at least 1, or None, not {value!r}."
        )


def _check_above(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Price):
        raise ConfigurationError(f"above must be a Price or None, not {type(value).__name__}.")
    if instance.up_to is None:
        raise ConfigurationError("above is the price of prompts above up_to, which is not given.")


def place_of(url: str) -> str:
    """Return a base URL in the one form that is compared: no slash and no ``/v1`` at its end."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _as_place(value: str | None) -> str | None:
    return place_of(value) if isinstance(value, str) else value


def _check_place(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not (isinstance(value, str) and value):
        raise ConfigurationError("base_url of a price must be a URL, or None.")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Price(Value):
    """What one model costs, in US dollars a million tokens.

    A price that is None is not known: a reply that has such tokens has no cost.

    Args:
        input: Tokens that are read, and neither come from the vendor's prompt cache nor go there.
        output: Tokens that are written, reasoning included.
        cached_input: Tokens that come from the prompt cache.
        cache_write: Tokens that go into it: for 5 minutes (Claude), or as long as the vendor
            keeps them (OpenAI).
        cache_write_1h: Tokens that go into it for an hour; Claude's only.
        up_to: Tokens of the whole prompt, the cache's included, up to which this holds. None for
            any length.
        above: The price of all tokens where the prompt is longer; None where it is not known.
        base_url: Where it holds; None for wherever a model of this name answers. A ``/v1`` at its
            end makes no difference.

    Raises:
        ConfigurationError: A value is out of range; the message names it.
    """

    input: float = attrs.field(validator=_check_price)
    output: float = attrs.field(validator=_check_price)
    cached_input: float | None = attrs.field(default=None, validator=_check_price)
    cache_write: float | None = attrs.field(default=None, validator=_check_price)
    cache_write_1h: float | None = attrs.field(default=None, validator=_check_price)
    up_to: int | None = attrs.field(default=None, validator=_check_up_to)
    above: Price | None = attrs.field(default=None, validator=_check_above)
    base_url: str | None = attrs.field(default=None, converter=_as_place, validator=_check_place)


def _claude(
    input: float, output: float, cached: float, written: float, written_1h: float, **more: Any
) -> Price:
    return Price(
        input=input,
        output=output,
        cached_input=cached,
        cache_write=written,
        cache_write_1h=written_1h,
        base_url=CLAUDE_URL,
        **more,
    )


def _openai(
    input: float,
    output: float,
    cached: float,
    written: float | None = None,
    above: Price | None = None,
) -> Price:
    return Price(
        input=input,
        output=output,
        cached_input=cached,
        cache_write=written,
        up_to=272_000,
        above=above,
        base_url=OPENAI_URL,
    )


# Looked up on 2026-11-25. What is not here, or None, was not found: no price is worked out from
# another one.
_CLAUDE = {
    # https://platform.claude.com/docs/en/models/opus-5-5/overview
    "claude-opus-5-5": _claude(4, 20, 0.20, 5, 8),
    # https://platform.claude.com/docs/en/models/sonnet-5-5/overview and, of cached input, which
    # was 0.20 until 2026-10-07, https://platform.claude.com/docs/en/about-claude/pricing as others
    # quote it on 2026-10-24.
    "claude-sonnet-5-5": _claude(2, 10, 0.10, 2.50, 4),
    # https://platform.claude.com/docs/en/models/haiku-5-5/overview and, of the cache, the page of
    # prices as others quote it on 2026-10-24.
    "claude-haiku-5-5": _claude(
        0.10,
        0.50,
        0.01,
        0.125,
        0.20,
        up_to=100_000,
        above=Price(
            input=0.50, output=2.50, cached_input=0.05, cache_write=0.625, cache_write_1h=1.00
        ),
    ),
    # https://platform.claude.com/docs/en/about-claude/pricing
    "claude-fable-5-1": _claude(10, 50, 0.25, 12.50, 20),
    "claude-fable-5": _claude(10, 50, 1, 12.50, 20),
    "claude-opus-5": _claude(5, 25, 0.50, 6.25, 10),
    "claude-sonnet-5": _claude(2, 10, 0.20, 2.50, 4),
    "claude-opus-4-8": _claude(5, 25, 0.50, 6.25, 10),
    "claude-opus-4-7": _claude(5, 25, 0.50, 6.25, 10),
    # Longer prompts had, or have, another price.
    "claude-opus-4-6": _claude(5, 25, 0.50, 6.25, 10, up_to=200_000),
    "claude-opus-4-5": _claude(5, 25, 0.50, 6.25, 10, up_to=200_000),
    "claude-sonnet-4-6": _claude(3, 15, 0.30, 3.75, 6, up_to=200_000),
    "claude-sonnet-4-5": _claude(3, 15, 0.30, 3.75, 6, up_to=200_000),
    "claude-haiku-4-5": _claude(1, 5, 0.10, 1.25, 2),
}
_OPENAI = {
    # https://developers.openai.com/api/docs/pricing, as others quote it on 2026-11-18.
    "gpt-6.2-astra": _openai(8, 40, 0.40),
    "gpt-6.2-sol": _openai(2, 10, 0.10),
    # https://developers.openai.com/api/docs/models/gpt-6.1-terra, as others quote it on
    # 2026-10-27. A reply does not say which of the two prices its writes to the cache have.
    "gpt-6.1-terra": _openai(1, 5, 0.05, above=Price(input=2, output=7.50, cached_input=0.10)),
    # https://developers.openai.com/api/docs/models/gpt-6-astra, as others quote it on 2026-09-05.
    "gpt-6-astra": _openai(10, 50, 1, 12.50, above=Price(input=20, output=75, cached_input=2)),
    # https://developers.openai.com/api/docs/models/gpt-6-sol
    "gpt-6-sol": _openai(
        2, 10, 0.20, 2.50, above=Price(input=4, output=15, cached_input=0.40, cache_write=5)
    ),
    # https://developers.openai.com/api/docs/pricing, as others quote it on 2026-09-22.
    "gpt-6-luna": _openai(0.10, 0.50, 0.01, 0.125),
    # The same page, as others quote it on 2026-09-07; Sol's price was for a time that is over.
    "gpt-5.6-terra": _openai(2, 12, 0.20),
    "gpt-5.6-luna": _openai(0.20, 1.20, 0.02),
    # The same page, as others quote it on 2026-06-28.
    "gpt-5.5": _openai(5, 30, 0.50, above=Price(input=10, output=45, cached_input=1)),
}

PRICES: Mapping[str, Price] = MappingProxyType({**_CLAUDE, **_OPENAI})
"""The vendors' own prices, by the model's name; each holds at the vendor's own base URL only."""
