"""The core without any extra: it works, and what needs an extra says which."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import pkgutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import termai_http.contrib
from termai_http import Client, ConfigurationError, HttpClientConfig
from termai_http.testing import Server

# Of the libraries of each extra one, and what nobody could use without it.
LIBRARIES = {
    "speed": "orjson",
    "socks": "socks",
    "truststore": "truststore",
    "structured": "msgspec",
    "progress": "tqdm",
    "dask": "distributed",
    "django": "django",
    "jupyter": "IPython",
    "cache": "requests_cache",
    "ratelimit": "pyrate_limiter",
    "otel": "opentelemetry",
    "prometheus": "prometheus_client",
}
# orjson is used where it is, and an executor of Dask's is the caller's own.
SILENT = {"speed", "dask"}


@dataclasses.dataclass
class City:
    """A city."""

    name: str


def made(module: str, name: str, **fields: Any) -> Any:
    """Make a description of contrib's."""
    return getattr(importlib.import_module(f"termai_http.contrib.{module}"), name)(**fields)


def with_layer(server: Server, *given: Any, **fields: Any) -> None:
    """Call with a layer."""
    with Client(HttpClientConfig(layers=(made(*given, **fields),))) as client:
        client.chat("hi", model="gpt-5.5", api_key="k", base_url=server.openai_url)


def call(server: Server, config: dict[str, Any] | None = None, **options: Any) -> None:
    """Call, with a configuration and options."""
    there = {"model": "gpt-5.5", "api_key": "k", "base_url": server.openai_url, **options}
    with Client(HttpClientConfig(**(config or {}))) as client:
        client.chat("hi", **there)


def many(server: Server) -> None:
    """Call with a bar."""
    with Client() as client:
        list(
            client.chat_many(
                ["hi"], model="gpt-5.5", api_key="k", base_url=server.openai_url, progress=True
            )
        )


def show(server: Server) -> None:
    """Show a stream."""
    with (
        Client() as client,
        client.stream("hi", model="gpt-5.5", api_key="k", base_url=server.openai_url) as stream,
    ):
        made("jupyter", "show", reply=stream)


# Never made.
FILE = os.path.join(tempfile.gettempdir(), "termai-http-none", "replies.sqlite")
PROXIES = {"proxies": {"http": "socks5h://127.0.0.1:9"}, "allow_http": True}
USES: dict[str, Callable[[Server], object]] = {
    "socks": lambda server: call(server, PROXIES, base_url="http://model.example/v1"),
    "truststore": lambda server: call(server, {"ca_bundle": "system"}),
    "structured": lambda server: call(server, output=City),
    "progress": many,
    "django": lambda server: made("django", "sse_response"),
    "jupyter": show,
    "cache": lambda server: with_layer(server, "cache", "Cache", store=FILE),
    "ratelimit": lambda server: with_layer(server, "pacing", "Pacing", requests_per_minute=600),
    "otel": lambda server: made("tracing", "Tracing"),
    "prometheus": lambda server: made("prometheus", "Prometheus"),
}

extras = importlib.metadata.metadata("termai-http").get_all("Provides-Extra") or []
assert set(extras) - {"docs", "lint", "test"} == set(LIBRARIES) == set(USES) | SILENT, extras
scripts = {path.stem.removeprefix("with_") for path in Path(__file__).parent.glob("with_*.py")}
assert scripts == {*LIBRARIES, "redis"}, scripts
for library in (*LIBRARIES.values(), "redis"):
    assert importlib.util.find_spec(library) is None, f"{library} is here"
with Server() as server:
    call(server)
    assert len(server.requests) == 1
    for extra, use in USES.items():
        try:
            use(server)
        except ConfigurationError as error:
            if f"termai-http[{extra}]" not in str(error):
                sys.exit(f"{extra}: {error}")
        else:
            sys.exit(f"{extra}: worked without its libraries")
    assert len(server.requests) == 1 + 1, "something was sent"

for module in pkgutil.iter_modules(termai_http.contrib.__path__):
    if not module.name.startswith("_"):
        # Without its library, too.
        importlib.import_module(f"termai_http.contrib.{module.name}")
