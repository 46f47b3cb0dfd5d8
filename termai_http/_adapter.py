"""What both vendors' adapters share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ._chat import open_stream, send_chat
from ._client import Client
from ._core import Core
from ._frames import hiding, unwrap
from ._log import log
from ._options import CallOptions
from ._queries import ask_for_models, send_count, send_models
from ._query_models import ModelInfo
from ._shared import chosen
from ._target import Account
from .config import RetryConfig
from .errors import TermaiHttpError
from .models import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from ._stream import Stream

__all__ = ["Adapter", "send_as"]


_HEALTH_TIMEOUT = 5.0
T = TypeVar("T")
_Self = TypeVar("_Self", bound="Adapter")


def send_as(
    on: Client | None,
    account: Account,
    request: Any,
    given: Mapping[str, Any],
    send: Callable[[Core, Account, Any, CallOptions], T | TermaiHttpError],
) -> T | BaseException:
    """Make a call for an account; what it raised comes as a value, for the face to raise."""
    try:
        options = CallOptions(**given)
        return send(chosen(on)._core, account, request, options)
    except TermaiHttpError as error:
        return error.with_traceback(None)
    except BaseException as error:
        return error


class Adapter:
    """A vendor's dialect on a client; the vendors' own classes say the rest."""

    def __init__(self, on: Client | None, account: Account) -> None:
        self._client = on
        self._account = account

    def __repr__(self) -> str:
        url = self._account.base_url or "default base URL"
        # Refused when it is used, and until then not to be shown: a password, a key in a query.
        return f"<{type(self).__name__} {url.rpartition('@')[2].partition('?')[0]}>"

    def _ask(
        self,
        request: Any,
        send: Callable[[Core, Account, Any, CallOptions], T | TermaiHttpError],
        given: Mapping[str, Any],
        options: dict[str, Any],
    ) -> T:
        """Make a call for this account, with a method's own arguments and its ``**options``."""
        options = {**given, **_known(options)}
        return unwrap(send_as(self._client, self._account, request, options, send))

    @hiding
    def chat_completion(
        self,
        request: ChatRequest | Mapping[str, Any],
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        api_version: str | None = None,
        **options: Any,
    ) -> ChatResponse:
        """Send a chat and return its whole reply. Safe from any thread.

        Args:
            request: A ``ChatRequest``, or the vendor's own body as a dict.
            api_key: The vendor's key; None means the adapter's, and then the environment's.
            timeout: Seconds for the whole call; None means the client's.
            retry: The retry policy of this call; None means the client's.
            api_version: ``anthropic-version`` of this call; Claude's only.
            **options: ``extra_headers``, ``extra_query``, ``extra_body``, ``base_url``, ``cancel``
                and ``rollout_key``, as for ``termai_http.chat``.

        Raises:
            TermaiHttpError: As ``termai_http.chat``.
        """
        given = {"api_key": api_key, "timeout": timeout, "retry": retry}
        given |= {"api_version": api_version}
        return self._ask(request, send_chat, given, options)

    @hiding
    def stream(
        self,
        request: ChatRequest | Mapping[str, Any],
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        api: str | None = None,
        api_version: str | None = None,
        **options: Any,
    ) -> Stream:
        """Send a chat and return its reply as a stream; the arguments are ``chat_completion``'s.

        Args:
            request: A ``ChatRequest``, or the vendor's own body as a dict.
            api_key: The vendor's key; None means the adapter's, and then the environment's.
            timeout: Seconds for the whole stream; None means the client's ``stream_timeout``.
            retry: The retry policy of this call; None means the client's.
            api: ``"responses"`` for OpenAI's newer API; None means ``"chat"``.
            api_version: ``anthropic-version`` of this call; Claude's only.
            **options: As for ``chat_completion``.

        Raises:
            TermaiHttpError: As ``termai_http.stream``.
        """
        given = {"api_key": api_key, "timeout": timeout, "retry": retry}
        given |= {"api_version": api_version, "api": api}
        return self._ask(request, open_stream, given, options)

    @hiding
    def count_tokens(
        self,
        request: ChatRequest | Mapping[str, Any],
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        api_version: str | None = None,
        **options: Any,
    ) -> int:
        """Return how many tokens the vendor would read; the arguments are ``chat_completion``'s.

        A body of OpenAI's own is one of its responses API, which is the one that counts.

        Raises:
            TermaiHttpError: As ``termai_http.count_tokens``.
        """
        given = {"api_key": api_key, "timeout": timeout, "retry": retry}
        given |= {"api_version": api_version}
        return self._ask(request, send_count, given, options)

    @hiding
    def list_models(
        self,
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        api_version: str | None = None,
        **options: Any,
    ) -> list[ModelInfo]:
        """List the models, all pages of them; the arguments are ``chat_completion``'s.

        Raises:
            TermaiHttpError: As ``termai_http.list_models``.
        """
        given = {"api_key": api_key, "timeout": timeout, "retry": retry}
        given |= {"api_version": api_version}
        return self._ask({}, send_models, given, options)

    def health_check(self) -> bool:
        """Tell whether vendor, key and URL work, by asking for the models.

        Makes one attempt, of at most 5 seconds.

        Returns:
            False on any failure, whose reason is logged as a warning.
        """
        try:
            options = CallOptions(timeout=_HEALTH_TIMEOUT, retry=RetryConfig(max_attempts=1))
            result = ask_for_models(chosen(self._client)._core, self._account, options)
        except Exception as error:
            result = error  # type: ignore[assignment]
        if isinstance(result, Exception):
            log.warning("Health check of %s failed: %s", self._account.provider, result)
            return False
        return True

    def with_base_url(self: _Self, base_url: str) -> _Self:
        """Return an adapter that is the same but for its base URL."""
        other = copy.copy(self)
        other._account = attrs.evolve(self._account, base_url=base_url)
        return other


_OPTION_NAMES = frozenset(
    {"extra_headers", "extra_query", "extra_body", "base_url", "cancel", "rollout_key"}
)


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of an adapter's call, refused where one is none."""
    for name in sorted(set(options) - _OPTION_NAMES):
        raise TypeError(
            f"{name}= is no option of this call; a vendor's parameter goes into the request"
        )
    return options
