"""An examination of one machine's way to the vendors, as checks; it changes nothing."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Callable, Iterator

import attrs

from ._call import Clock
from ._client import Client
from ._doctor_call import BASE_URL_OPTION, NO_KEY, Endpoint, call_checks, path_check, refused
from ._doctor_probes import Way
from ._doctor_setup import bare_url, proxy_of, proxy_setting, setting_checks, version_checks
from ._doctor_values import Check, all_is_well, as_fields, milliseconds
from ._environment import Environment
from ._options import PROVIDERS, CallOptions
from ._target import BASE_URL_VARIABLES, KEY_VARIABLES, Account, Place, resolve
from .config import HttpClientConfig
from .errors import ConfigurationError, TermaiHttpError

__all__ = ["Check", "all_is_well", "as_fields", "examine", "milliseconds"]


def examine(
    *,
    provider: str | None = None,
    base_url: str | None = None,
    timeout: float = 10.0,
    config: HttpClientConfig | None = None,
    clock: Clock | None = None,
) -> Iterator[Check]:
    """Examine versions, settings and the way to the vendors, each check as it is made.

    It needs no key, costs nothing, and shows none: names are resolved, connections opened, and the
    list of models is asked for, twice, through a client of its own.

    Args:
        provider: ``"openai"`` or ``"claude"``; None means both, or ``"openai"`` with a
            ``base_url``.
        base_url: Where the API lives; None means the environment's, or the vendor.
        timeout: Most seconds for each vendor, above 0.
        config: The configuration to examine; None reads it from the environment.
        clock: Time; None means the system's.

    Returns:
        An iterator; nothing is done before its first ``next()``.

    Raises:
        ConfigurationError: An argument is wrong.
    """
    if provider is not None and provider not in PROVIDERS:
        raise ConfigurationError(f"provider must be one of {', '.join(PROVIDERS)}, or None.")
    if not timeout > 0:
        raise ConfigurationError(f"timeout must be a number of seconds above 0, not {timeout!r}.")
    providers = (provider,) if provider else ("openai",) if base_url else PROVIDERS
    return _examine(providers, base_url, timeout, config, clock or Clock())


def _examine(
    providers: tuple[str, ...],
    base_url: str | None,
    timeout: float,
    config: HttpClientConfig | None,
    clock: Clock,
) -> Iterator[Check]:
    yield from version_checks()
    found = _configured(config)
    contexts: list[ssl.SSLContext] = []
    yield from setting_checks(found, os.environ, contexts.append)
    used = HttpClientConfig() if isinstance(found, ConfigurationError) else found
    for provider in providers:
        endpoint, outcome = _endpoint(provider, base_url, used)
        check = functools.partial(Check, part=endpoint.part)
        if isinstance(outcome, TermaiHttpError):
            given = base_url or os.environ.get(BASE_URL_VARIABLES[provider], "")
            what, advice = outcome.message, _base_url_advice(provider, base_url, given)
            yield check(name="base URL", state="fail", what=what, advice=advice)
        elif not contexts:
            what = "not tried: the settings above are wrong"
            yield check(name="connection", state="skip", what=what)
        else:
            end = clock.monotonic() + timeout
            yield from _endpoint_checks(endpoint, outcome, used, contexts[0], clock, end)


def _configured(config: HttpClientConfig | None) -> HttpClientConfig | ConfigurationError:
    try:
        return HttpClientConfig.from_env() if config is None else config
    except ConfigurationError as error:
        return error


def _endpoint(
    provider: str, base_url: str | None, config: HttpClientConfig
) -> tuple[Endpoint, Place | TermaiHttpError]:
    """Return where the calls go, and what they are made with or why none can be."""
    holders = (name for name in KEY_VARIABLES[provider] if os.environ.get(name, "").strip())
    given = base_url
    if given is None:
        given = os.environ.get(BASE_URL_VARIABLES[provider]) or None
    options = CallOptions(base_url=given, api_key=NO_KEY)
    outcome: Place | TermaiHttpError
    try:
        outcome = resolve(
            Account(provider=provider), options, os.environ, allow_http=config.allow_http
        )
        shown, models_url = bare_url(outcome.base_url), bare_url(outcome.models_url)
    except TermaiHttpError as error:
        outcome = error
        shown = models_url = bare_url(given or "")
    endpoint = Endpoint(
        part=f"{provider} {shown}",
        provider=provider,
        base_url=base_url,
        url=models_url,
        key_variable=next(holders, None),
    )
    return endpoint, outcome


def _base_url_advice(provider: str, option: str | None, given: str) -> str:
    where = BASE_URL_OPTION if option is not None else BASE_URL_VARIABLES[provider]
    advice = f"Set {where} to where the API lives, as https://host/v1, or leave it out."
    if given.startswith("http://"):
        advice += " TERMAI_HTTP_ALLOW_HTTP=1 permits http:// to other machines."
    return advice


def _endpoint_checks(
    endpoint: Endpoint,
    target: Place,
    config: HttpClientConfig,
    context: ssl.SSLContext,
    clock: Clock,
    end: float,
) -> Iterator[Check]:
    check = functools.partial(Check, part=endpoint.part)
    yield _key_check(check, endpoint)
    found = Environment.read(config)
    try:
        proxy = next(iter(found.proxies_for(target.models_url).values()), "")
    except ConfigurationError as error:
        yield check(name="proxy", state="fail", what=error.message, advice=refused(error))
        return
    if proxy:
        scheme = next(key for key, value in found.proxies.items() if value == proxy)
        setting = proxy_setting(config, scheme.partition("://")[0], os.environ)
        endpoint = attrs.evolve(endpoint, proxy_setting=setting)
        yield check(name="proxy", state="ok", what=f"by {proxy_of(proxy)}")
    with Way(
        part=endpoint.part,
        url=target.base_url,
        proxy=proxy,
        proxy_setting=endpoint.proxy_setting,
        context=context,
        clock=clock,
        end=end,
    ) as way:
        yield from way.checks()
        broken, steps = way.broken, way.times
    if broken is not None:
        for name in ("call", "reuse"):
            yield check(name=name, state="skip", what=f"not tried: {broken} failed")
        return
    with Client(config, _clock=clock) as client:
        yield from call_checks(client, endpoint, end, steps)
        yield path_check(client, endpoint, target.models_url)


def _key_check(check: Callable[..., Check], endpoint: Endpoint) -> Check:
    variables = KEY_VARIABLES[endpoint.provider]
    names = " or ".join(variables)
    if endpoint.key_variable is not None:
        return check(name="key", state="ok", what=f"from {endpoint.key_variable}")
    advice = f"Set {variables[0]}; without a key only the way there is tried."
    return check(name="key", state="warn", what=f"none: {names} is not set", advice=advice)
