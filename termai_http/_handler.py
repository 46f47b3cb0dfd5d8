"""``RequestHandler``: any JSON request on a client's pool, retries and deadline included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from . import _json
from ._call import Call
from ._client import Client
from ._frames import hiding, unwrap
from ._job import Job
from ._options import check_headers
from ._shared import chosen
from ._target import check_url
from .config import RetryConfig
from .dialects._errors import status_error
from .errors import APIStatusError, ConfigurationError, TermaiHttpError

if TYPE_CHECKING:
    import requests

__all__ = ["RequestHandler"]


class RequestHandler:
    """Sends JSON requests over a client's pool. Safe from any thread.

    Args:
        client: The client to use; None means the process-wide one, looked up at each request.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._client = client
        self._retry: RetryConfig | None = None

    def with_retry_config(self, config: RetryConfig) -> RequestHandler:
        """Return a handler on the same client whose requests follow ``config``.

        Raises:
            ConfigurationError: ``config`` is no ``RetryConfig``.
        """
        if not isinstance(config, RetryConfig):
            raise ConfigurationError(f"config must be a RetryConfig, not {type(config).__name__}.")
        other = RequestHandler(self._client)
        other._retry = config
        return other

    @hiding
    def post_json(
        self, url: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> requests.Response:
        """Post a JSON body and return the answer, successful or not, with its body read.

        Args:
            url: Where it goes.
            headers: Headers of the request, those that authenticate included.
            body: The body; it is encoded as JSON.

        Raises:
            InvalidRequestError: A header cannot go out, or the body cannot be JSON.
            ConfigurationError: The URL cannot be used.
            TermaiHttpError: There is no answer; a status never raises here.
        """
        return unwrap(self._run("POST", url, headers, body))

    @hiding
    def get_json(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """Get a URL and return the answer, successful or not, with its body read.

        Raises:
            TermaiHttpError: There is no answer; a status never raises here.
        """
        return unwrap(self._run("GET", url, headers, None))

    def _run(
        self, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> requests.Response | BaseException:
        try:
            return self._send(method, url, headers, body)
        except TermaiHttpError as error:
            return error.with_traceback(None)
        except BaseException as error:
            return error

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> requests.Response | TermaiHttpError:
        used = chosen(self._client)
        check_headers(headers, "headers")
        job = Job(
            method=method,
            url=check_url(url, allow_http=used.config.allow_http),
            headers={
                **({"Content-Type": "application/json"} if body is not None else {}),
                **headers,
            },
            body=None if body is None else _json.dumps(body),
            retry=self._retry,
            for_requests=True,
        )

        def read(response: requests.Response, call: Call) -> requests.Response | TermaiHttpError:
            if 200 <= response.status_code <= 299:
                return response
            return status_error(
                response.status_code, response.headers, response.content, list(job.headers.values())
            )

        outcome = used._core.run(job, read)
        if isinstance(outcome.error, APIStatusError) and outcome.response is not None:
            return cast("requests.Response", outcome.response)
        if outcome.error is not None:
            return outcome.error
        assert outcome.value is not None
        return outcome.value
