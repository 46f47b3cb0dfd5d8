"""The clients that rows are played with: ours, requests with ``Retry``, the openai SDK."""

from __future__ import annotations

import functools
import importlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import termai_http
from termai_http import Client, HttpClientConfig, RetryConfig

from .harness import KEY, PROMPT, Broken

__all__ = ["OpenAIDriver", "RequestsDriver", "TermaiDriver"]

_FAST = RetryConfig(base_delay=0.01, max_delay=0.02)


def _kind(error: BaseException, kinds: dict[str, tuple[type[BaseException], ...]]) -> str:
    """Return the first kind of which the error is."""
    return next((kind for kind, classes in kinds.items() if isinstance(error, classes)), "untyped")


class TermaiDriver:
    """Ours."""

    name = "termai_http"
    ours = True

    def open(self, *, retries: int = 2, **config: Any) -> Client:
        """Make a client with short waits between attempts."""
        retry = config.pop("retry", _FAST.evolve(max_attempts=retries + 1))
        return Client(HttpClientConfig(retry=retry, **{"trust_env": False, **config}))

    def close(self, client: Client) -> None:
        """Close it."""
        client.close()

    def chat(self, client: Client, url: str, timeout: float, **options: Any) -> str:
        """Send the canary."""
        return client.chat(
            options.pop("prompt", PROMPT),
            model=options.pop("model", "gpt-5.5"),
            api_key=options.pop("key", KEY),
            base_url=url,
            timeout=timeout,
            **options,
        ).text

    def stream(self, client: Client, url: str, timeout: float, **options: Any) -> Iterator[str]:
        """Stream the canary."""
        with client.stream(
            options.pop("prompt", PROMPT),
            model=options.pop("model", "gpt-5.5"),
            api_key=options.pop("key", KEY),
            base_url=url,
            timeout=timeout,
            **options,
        ) as stream:
            yield from stream

    def kind(self, error: BaseException) -> str:
        """Tell what one of ours is."""
        return _kind(
            error,
            {
                "timeout": (termai_http.APITimeoutError,),
                "tls": (termai_http.TLSError,),
                "dns": (termai_http.DNSError,),
                "proxy": (termai_http.ProxyError,),
                "connection": (termai_http.APIConnectionError,),
                "status": (termai_http.APIStatusError,),
                "invalid": (termai_http.InvalidResponseError,),
                "interrupted": (termai_http.StreamInterrupted,),
                "refused": (termai_http.ConfigurationError, termai_http.InvalidRequestError),
                "closed": (termai_http.ClientClosed,),
                "cancelled": (termai_http.CallCancelled,),
                "other": (termai_http.TermaiHttpError,),
            },
        )

    def package(self) -> str:
        """Return our folder."""
        return str(Path(termai_http.__file__).parent)

    def figures(self, client: Client) -> str:
        """Return what it shows of itself."""
        return f"{client!r} {client.config!r} {client.stats()!r}"

    def check_given_back(self, client: Client) -> None:
        """Look for slots and calls still in use."""
        stats = client.stats()
        if stats.active_connections or stats.waiting or stats.calls.in_flight:
            raise Broken(
                f"{stats.active_connections} slots, {stats.waiting} waiting and "
                f"{stats.calls.in_flight} calls still in use"
            )


class RequestsDriver:
    """A plain ``requests.Session`` with urllib3's ``Retry``, set up as its guides advise."""

    name = "requests + Retry"
    ours = False

    def open(
        self,
        *,
        retries: int = 2,
        ca_bundle: str | None = None,
        proxies: dict[str, str] | None = None,
        **config: Any,
    ) -> Any:
        """Make a session."""
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        session = requests.Session()
        policy = Retry(
            total=retries,
            backoff_factor=0.01,
            allowed_methods=None,
            status_forcelist=[408, 409, 429, 500, 502, 503, 504, 529],
        )
        number = config.get("max_connections", 100)
        blocking = "max_connections" in config
        adapter = HTTPAdapter(max_retries=policy, pool_maxsize=number, pool_block=blocking)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        if ca_bundle is not None:
            session.verify = ca_bundle
        if proxies is not None:
            session.proxies = dict(proxies)
        session.trust_env = config.get("trust_env", True)
        # A session has no timeouts of its own: whoever wants them keeps them beside it.
        session.limits = (config.get("connect_timeout"), config.get("read_timeout"))
        return session

    def close(self, client: Any) -> None:
        """Close it."""
        client.close()

    def _post(self, client: Any, url: str, timeout: float, stream: bool, options: Any) -> Any:
        body = {
            "model": options.pop("model", "gpt-5.5"),
            "messages": [{"role": "user", "content": options.pop("prompt", PROMPT)}],
        }
        headers = {"Authorization": f"Bearer {options.pop('key', KEY)}"}
        if stream:
            body["stream"] = True
        connect, read = (min(limit or timeout, timeout) for limit in client.limits)
        answer = client.post(
            f"{url}/v1/chat/completions",
            json=body,
            headers=headers,
            timeout=(connect, read),
            stream=stream,
        )
        answer.raise_for_status()
        return answer

    def chat(self, client: Any, url: str, timeout: float, **options: Any) -> str:
        """Send the canary."""
        answer = self._post(client, url, timeout, False, options)
        return str(answer.json()["choices"][0]["message"]["content"])

    def stream(self, client: Any, url: str, timeout: float, **options: Any) -> Iterator[str]:
        """Stream the canary, line by line, as the tutorials do."""
        with self._post(client, url, timeout, True, options) as answer:
            for line in answer.iter_lines():
                if line.startswith(b"data: ") and line != b"data: [DONE]":
                    delta = json.loads(line[6:])["choices"][0]["delta"]
                    yield delta.get("content") or ""

    def kind(self, error: BaseException) -> str:
        """Tell what one of requests' is."""
        from requests import exceptions

        return _kind(
            error,
            {
                "timeout": (exceptions.Timeout,),
                "tls": (exceptions.SSLError,),
                "proxy": (exceptions.ProxyError,),
                "invalid": (
                    exceptions.JSONDecodeError,
                    exceptions.ContentDecodingError,
                    exceptions.ChunkedEncodingError,
                    exceptions.InvalidHeader,
                ),
                "refused": (exceptions.InvalidURL, exceptions.MissingSchema),
                "connection": (exceptions.ConnectionError,),
                "status": (exceptions.HTTPError, exceptions.RetryError),
                "other": (exceptions.RequestException,),
            },
        )

    def package(self) -> str:
        """Return its folder."""
        return _folder("requests")

    def figures(self, client: Any) -> str:
        """Return what it shows of itself."""
        return f"{client!r}"

    def check_given_back(self, client: Any) -> None:
        """It counts nothing."""


class OpenAIDriver:
    """The official openai SDK."""

    name = "openai SDK"
    ours = False

    def open(self, *, retries: int = 2, ca_bundle: str | None = None, **config: Any) -> Any:
        """Make a client."""
        import httpx2
        import openai

        settings: dict[str, Any] = {}
        if ca_bundle is not None:
            settings["verify"] = ssl.create_default_context(cafile=ca_bundle)
        if config.get("proxies"):
            settings["proxy"] = config["proxies"]["https"]
        if "max_connections" in config:
            settings["limits"] = httpx2.Limits(max_connections=config["max_connections"])
        if "trust_env" in config:
            settings["trust_env"] = config["trust_env"]
        # It has no setting for these waits; the other clients' are as short.
        base: Any = importlib.import_module("openai._base_client")
        base.INITIAL_RETRY_DELAY, base.MAX_RETRY_DELAY = _FAST.base_delay, _FAST.max_delay
        http = openai.DefaultHttpxClient(**settings) if settings else None
        client = openai.OpenAI(api_key=KEY, max_retries=retries, http_client=http)
        client.limits = {
            name: config[f"{name}_timeout"]
            for name in ("connect", "read")
            if config.get(f"{name}_timeout")
        }
        return client

    def close(self, client: Any) -> None:
        """Close it."""
        client.close()

    def _create(self, client: Any, url: str, timeout: float, stream: bool, options: Any) -> Any:
        import httpx2

        used = client.with_options(
            base_url=f"{url}/v1",
            timeout=httpx2.Timeout(timeout, **client.limits),
            api_key=options.pop("key", KEY),
        )
        message = {"role": "user", "content": options.pop("prompt", PROMPT)}
        return used.chat.completions.create(
            model=options.pop("model", "gpt-5.5"), messages=[message], stream=stream
        )

    def chat(self, client: Any, url: str, timeout: float, **options: Any) -> str:
        """Send the canary."""
        return str(self._create(client, url, timeout, False, options).choices[0].message.content)

    def stream(self, client: Any, url: str, timeout: float, **options: Any) -> Iterator[str]:
        """Stream the canary."""
        with self._create(client, url, timeout, True, options) as stream:
            for chunk in stream:
                yield chunk.choices[0].delta.content or ""

    def kind(self, error: BaseException) -> str:
        """Tell what one of the SDK's is."""
        import openai

        return _kind(
            error,
            {
                "timeout": (openai.APITimeoutError,),
                "connection": (openai.APIConnectionError,),
                "status": (openai.APIStatusError,),
                "invalid": (openai.APIResponseValidationError,),
                "other": (openai.OpenAIError,),
            },
        )

    def package(self) -> str:
        """Return its folder."""
        return _folder("openai")

    def figures(self, client: Any) -> str:
        """Return what it shows of itself."""
        return f"{client!r}"

    def check_given_back(self, client: Any) -> None:
        """It counts nothing."""


@functools.cache
def _folder(package: str) -> str:
    return str(Path(importlib.import_module(package).__file__ or "").parent)
