"""``chat_many`` of a client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._described import described
from ._frames import hiding, unwrap
from ._importing import importing
from ._in_flight import CancelToken
from ._options import Target
from .config import RetryConfig
from .errors import TermaiHttpError
from .models import ChatResponse

if TYPE_CHECKING:
    import os
    from concurrent.futures import Executor
    from typing import Literal, overload

    from ._layer import Layer
    from .batch import Batch, BatchProgress
    from .events import Event, RetryScheduled

__all__ = ["ClientBatches", "many_with"]


def many_with(on: Callable[[], Any], given: dict[str, Any]) -> Batch[Any] | BaseException:
    """Make a batch with a face's arguments as they were given; as ``batch_with``."""
    with importing():
        from .batch import batch_with
    return batch_with(on, given)


class ClientBatches:
    """The part of ``Client`` that sends many chats at once."""

    if TYPE_CHECKING:

        @overload
        def chat_many(
            self,
            items: Iterable[Any],
            *,
            model: str | None = ...,
            system: str | None = ...,
            max_tokens: int | None = ...,
            output: Any = ...,
            max_workers: int = ...,
            as_completed: Literal[False] = ...,
            return_exceptions: Literal[False] = ...,
            progress: bool | Callable[[BatchProgress], object] = ...,
            total_timeout: float | None = ...,
            executor: Executor | None = ...,
            **options: Any,
        ) -> Batch[ChatResponse]: ...

        @overload
        def chat_many(
            self,
            items: Iterable[Any],
            *,
            model: str | None = ...,
            system: str | None = ...,
            max_tokens: int | None = ...,
            output: Any = ...,
            max_workers: int = ...,
            as_completed: Literal[False] = ...,
            return_exceptions: Literal[True],
            progress: bool | Callable[[BatchProgress], object] = ...,
            total_timeout: float | None = ...,
            executor: Executor | None = ...,
            **options: Any,
        ) -> Batch[ChatResponse | TermaiHttpError]: ...

        @overload
        def chat_many(
            self,
            items: Iterable[Any],
            *,
            model: str | None = ...,
            system: str | None = ...,
            max_tokens: int | None = ...,
            output: Any = ...,
            max_workers: int = ...,
            as_completed: Literal[True],
            return_exceptions: Literal[False] = ...,
            progress: bool | Callable[[BatchProgress], object] = ...,
            total_timeout: float | None = ...,
            executor: Executor | None = ...,
            **options: Any,
        ) -> Batch[tuple[int, ChatResponse]]: ...

        @overload
        def chat_many(
            self,
            items: Iterable[Any],
            *,
            model: str | None = ...,
            system: str | None = ...,
            max_tokens: int | None = ...,
            output: Any = ...,
            max_workers: int = ...,
            as_completed: Literal[True],
            return_exceptions: Literal[True],
            progress: bool | Callable[[BatchProgress], object] = ...,
            total_timeout: float | None = ...,
            executor: Executor | None = ...,
            **options: Any,
        ) -> Batch[tuple[int, ChatResponse | TermaiHttpError]]: ...

        @overload
        def chat_many(
            self,
            items: Iterable[Any],
            *,
            model: str | None = ...,
            system: str | None = ...,
            max_tokens: int | None = ...,
            output: Any = ...,
            max_workers: int = ...,
            as_completed: bool = ...,
            return_exceptions: bool = ...,
            progress: bool | Callable[[BatchProgress], object] = ...,
            total_timeout: float | None = ...,
            executor: Executor | None = ...,
            **options: Any,
        ) -> Batch[Any]: ...

    @hiding
    @described
    def chat_many(
        self,
        items: Iterable[Any],
        *,
        model: str | None = None,
        system: str | None = None,
        max_tokens: int | None = None,
        tools: Sequence[Any] | None = None,
        output: Any = None,
        reasoning: str | Mapping[str, Any] | None = None,
        stop: str | Sequence[str] | None = None,
        max_workers: int = 16,
        as_completed: bool = False,
        return_exceptions: bool = False,
        progress: bool | Callable[[BatchProgress], object] = False,
        total_timeout: float | None = None,
        results: str | os.PathLike[str] | None = None,
        executor: Executor | None = None,
        api_key_env: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        retry: RetryConfig | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
        rollout_key: str | int | bytes | None = None,
        provider: str | None = None,
        api: str | None = None,
        api_version: str | None = None,
        fallback: Sequence[str | Target] | None = None,
        layers: Sequence[Layer] | None = None,
        on_event: Callable[[Event], object] | None = None,
        on_retry: Callable[[RetryScheduled], object] | None = None,
        **params: Any,
    ) -> Batch[Any]:
        """Send many chats at once on this client; as ``termai_http.chat_many``."""
        return unwrap(many_with(lambda: self, locals()))
