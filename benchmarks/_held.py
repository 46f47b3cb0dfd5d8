"""Connections that are opened and held, so that what one costs can be told."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

from ._peers import Place

__all__ = ["hold"]

_BODY: Any = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "hello"}]}
_HEADERS = {"Authorization": "Bearer sk-benchmark", "Content-Type": "application/json"}
_PATH = "/v1/chat/completions"


def _with_urllib3(place: Place) -> Callable[[], Any]:
    import urllib3

    manager = urllib3.PoolManager(maxsize=place.threads, ca_certs=place.bundle, retries=False)
    url, body = place.url + _PATH, json.dumps(_BODY).encode()
    return lambda: manager.request("POST", url, body=body, headers=_HEADERS, preload_content=False)


def _with_requests(place: Place) -> Callable[[], Any]:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.mount("https://", HTTPAdapter(pool_maxsize=place.threads))
    return lambda: session.post(
        place.url + _PATH,
        json=_BODY,
        headers=_HEADERS,
        timeout=30,
        stream=True,
        verify=place.bundle,
    )


def _with_httpx(place: Place) -> Callable[[], Any]:
    import ssl

    import httpx

    limits = httpx.Limits(max_connections=place.threads)
    context = ssl.create_default_context(cafile=place.bundle)
    client = httpx.Client(limits=limits, verify=context, timeout=30)
    url = place.url + _PATH
    return lambda: client.send(
        client.build_request("POST", url, json=_BODY, headers=_HEADERS), stream=True
    )


def _with_ours(place: Place) -> Callable[[], Any]:
    from termai_http import Client, HttpClientConfig

    session = Client(HttpClientConfig(ca_bundle=place.bundle)).session
    return lambda: session.post(
        place.url + _PATH, json=_BODY, headers=_HEADERS, timeout=30, stream=True
    )


_WAYS = {
    "urllib3": _with_urllib3,
    "requests": _with_requests,
    "httpx": _with_httpx,
    "": _with_ours,
}


def hold(package: str, place: Place, count: int, resident: Callable[[], float]) -> dict[str, Any]:
    """Open connections and hold them, their answers not read.

    Args:
        package: The client's package, "" for ours.
        place: Where to.
        count: How many.
        resident: Returns the memory of this process, in MB.
    """
    post = _WAYS[package](place)
    held = [post() for _ in range(5)]
    gc.collect()
    memory, cpu = resident(), time.process_time()
    held += [post() for _ in range(count)]
    cpu = time.process_time() - cpu
    gc.collect()
    memory = resident() - memory
    for answer in held:
        answer.close()
    return {"memory": memory / count, "cpu": cpu / count}
