"""The ordinary way of an attempt: one ``Session.send``, which every tool between may see."""

from __future__ import annotations

import functools
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from urllib3 import Timeout

from . import errors
from ._call import Attempt
from ._route import Outgoing
from ._session import PooledAdapter, PooledSession

__all__ = ["bare", "find_pool_of", "normalized", "prepare", "send_ordinary"]


def prepare(session: PooledSession, outgoing: Outgoing) -> requests.PreparedRequest:
    """Build the request as requests has it, with what the user hung on the session.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    try:
        return _prepared(session, outgoing)
    except (requests.exceptions.RequestException, UnicodeError):
        raise errors.ConfigurationError("The URL cannot be used; check base_url.") from None


def _prepared(session: PooledSession, outgoing: Outgoing) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method = outgoing.method
    url, query, body = outgoing.url, outgoing.query, outgoing.body
    if query or session.params:
        request.prepare_url(url, {**cast("dict[str, Any]", session.params), **(query or {})})
    else:
        # A query may hold a key, and no cache shall.
        request.url = _normalize(url) if "?" in url else normalized(url)
    request.headers = CaseInsensitiveDict(session.headers)
    request.headers.update(outgoing.headers)
    request._cookies = session.cookies
    request.hooks = cast("Any", session.hooks)
    request.body = body
    if body is not None:
        request.headers["Content-Length"] = str(len(body))
    if session.auth:
        request.prepare_auth(session.auth)
    return request


def _normalize(url: str) -> str:
    request = requests.PreparedRequest()
    request.prepare_url(url, None)
    return cast("str", request.url)


normalized = functools.lru_cache(maxsize=256)(_normalize)
"""Returns a URL without a query as requests sends it."""


def bare(url: str) -> requests.PreparedRequest:
    """Return a request that is nothing but a URL as requests sends it."""
    request = requests.PreparedRequest()
    request.method, request.url, request.headers = "POST", url, CaseInsensitiveDict()
    return request


def send_ordinary(
    session: PooledSession, request: requests.PreparedRequest, attempt: Attempt
) -> requests.Response:
    """Send one request and return its answer, the body not read."""
    return session.send(
        request,
        stream=True,
        allow_redirects=False,
        # CAs and client certificate are in the shared context; nothing turns them off.
        verify=True,
        cert=None,
        proxies=session.proxies_for(cast("str", request.url)),
        timeout=Timeout(connect=attempt.connect_budget(), read=attempt.read_budget()),
    )


def find_pool_of(session: PooledSession, adapter: PooledAdapter, url: str) -> Any:
    """Return what finds the pool of a URL; None where only the ordinary way leads there.

    That is a proxy which takes whole requests, or one that TLS or SOCKS is spoken with itself.

    Raises:
        ConfigurationError: The proxy for this URL cannot be used.
    """
    proxies = session.proxies_for(url)
    scheme = urlsplit(url).scheme
    proxy = next(iter(proxies.values()), "")
    if proxy and (scheme == "http" or urlsplit(proxy).scheme != "http"):
        return None
    request = bare(url)

    def find() -> Any:
        return adapter.get_connection_with_tls_context(request, True, proxies=proxies, cert=None)

    return find
