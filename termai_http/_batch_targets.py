"""The targets of ``fallback=`` as they travel with a batch to another process or machine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ._options import Target
from ._target import check_url, provider_of
from .errors import ConfigurationError

__all__ = ["aimed", "check_targets"]


def aimed(
    fallback: Sequence[str | Target] | None, base_urls: Mapping[str, str]
) -> Sequence[str | Target] | None:
    """Return targets that go where they would go from here, whatever environment they come to.

    Args:
        fallback: The targets.
        base_urls: By vendor, the base URL that the caller's environment names.
    """
    return None if fallback is None else tuple(_aimed(entry, base_urls) for entry in fallback)


def _aimed(entry: str | Target, base_urls: Mapping[str, str]) -> str | Target:
    target = Target(entry) if isinstance(entry, str) else entry
    url = base_urls.get(target.provider or provider_of(target.model))
    return attrs.evolve(target, base_url=url) if url and target.base_url is None else entry


def check_targets(
    fallback: Sequence[str | Target] | None,
    check_names: Callable[[str, Any], None],
    *,
    allow_http: bool,
) -> None:
    """Refuse targets that must not travel.

    Args:
        fallback: The targets.
        check_names: Refuses headers and query parameters that are secret, given their place.
        allow_http: As in the configuration.

    Raises:
        ConfigurationError: One holds a key, or a base URL that cannot be used.
    """
    for index, entry in enumerate(fallback or ()):
        if isinstance(entry, str):
            continue
        place = f"fallback[{index}]"
        if entry.api_key is not None:
            raise ConfigurationError(
                f"{place} has an api_key, which does not travel with executor=: leave it out, and "
                "set the variable of its vendor where the calls are made."
            )
        check_names(f"{place}.extra_headers", entry.extra_headers)
        check_names(f"{place}.extra_query", entry.extra_query)
        if entry.base_url is None:
            continue
        try:
            check_url(entry.base_url, allow_http=allow_http, name="base_url")
        except ConfigurationError as error:
            error.message = f"{place}: {error.message}"
            raise
