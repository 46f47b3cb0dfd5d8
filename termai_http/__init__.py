"""Blocking calls to the OpenAI and Claude chat APIs over one shared, pooled session.

The names here are loaded at first use, so that ``import termai_http`` costs next to nothing,
opens no socket and starts no thread.
"""

from __future__ import annotations

from . import _fork as _fork  # first: no fork may fall into an import of the others
from ._importing import importing
from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._ambient import time_limit
    from ._client import Client
    from ._content import Document, Image
    from ._conversation import Conversation
    from ._failed_target import FailedTarget
    from ._handler import RequestHandler
    from ._in_flight import CancelToken
    from ._logging import configure_logging
    from ._options import Target
    from ._query_models import Embeddings, ModelInfo
    from ._shared import (
        HttpClientManager,
        chat,
        client,
        client_with_config,
        close,
        initialize,
        show_http_stats,
        stats,
        stream,
    )
    from ._shared_batch import chat_many
    from ._shared_queries import count_tokens, embed, list_models
    from ._shared_tools import run_tools
    from ._specs import ToolSpec
    from ._stream import Stream
    from ._tool_run import CalledTool, ToolRun
    from .batch import Batch, BatchProgress, BatchSummary
    from .claude import ClaudeAdapter
    from .config import HttpClientConfig, Limits, RetryConfig
    from .errors import (
        AlreadyInitializedError,
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        CallCancelled,
        CircuitOpenError,
        ClientClosed,
        ConfigurationError,
        ConflictError,
        ConnectTimeout,
        DeadlineExceeded,
        DNSError,
        InternalServerError,
        InvalidRequestError,
        InvalidResponseError,
        MissingKeyError,
        NotFoundError,
        OutputError,
        OverloadedError,
        PermissionDeniedError,
        PoolTimeout,
        ProtocolError,
        ProxyError,
        QuotaExceededError,
        RateLimitError,
        ReadTimeout,
        RequestTooLargeError,
        ResourceError,
        ResponseTooLarge,
        StreamInterrupted,
        TermaiHttpError,
        TLSError,
        TruncatedResponse,
        UnexpectedRedirect,
        UnprocessableEntityError,
    )
    from .metrics import ClientStats, HttpMetrics, HttpStats
    from .models import ChatRequest, ChatResponse, Message, StreamEvent, ToolCall, Usage
    from .models import ChatRequest as ChatCompletionRequest
    from .models import ChatResponse as ChatCompletionResponse
    from .openai import OpenAIAdapter

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AlreadyInitializedError",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchProgress",
    "BatchSummary",
    "CallCancelled",
    "CalledTool",
    "CancelToken",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "ChatRequest",
    "ChatResponse",
    "CircuitOpenError",
    "ClaudeAdapter",
    "Client",
    "ClientClosed",
    "ClientStats",
    "ConfigurationError",
    "ConflictError",
    "ConnectTimeout",
    "Conversation",
    "DNSError",
    "DeadlineExceeded",
    "Document",
    "Embeddings",
    "FailedTarget",
    "HttpClientConfig",
    "HttpClientManager",
    "HttpMetrics",
    "HttpStats",
    "Image",
    "InternalServerError",
    "InvalidRequestError",
    "InvalidResponseError",
    "Limits",
    "Message",
    "MissingKeyError",
    "ModelInfo",
    "NotFoundError",
    "OpenAIAdapter",
    "OutputError",
    "OverloadedError",
    "PermissionDeniedError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "QuotaExceededError",
    "RateLimitError",
    "ReadTimeout",
    "RequestHandler",
    "RequestTooLargeError",
    "ResourceError",
    "ResponseTooLarge",
    "RetryConfig",
    "Stream",
    "StreamEvent",
    "StreamInterrupted",
    "TLSError",
    "Target",
    "TermaiHttpError",
    "ToolCall",
    "ToolRun",
    "ToolSpec",
    "TruncatedResponse",
    "UnexpectedRedirect",
    "UnprocessableEntityError",
    "Usage",
    "__version__",
    "chat",
    "chat_many",
    "client",
    "client_with_config",
    "close",
    "configure_logging",
    "count_tokens",
    "embed",
    "initialize",
    "list_models",
    "run_tools",
    "show_http_stats",
    "stats",
    "stream",
    "time_limit",
]

_HOMES = {
    "APIConnectionError": ("errors", "APIConnectionError"),
    "APIStatusError": ("errors", "APIStatusError"),
    "APITimeoutError": ("errors", "APITimeoutError"),
    "AlreadyInitializedError": ("errors", "AlreadyInitializedError"),
    "AuthenticationError": ("errors", "AuthenticationError"),
    "BadRequestError": ("errors", "BadRequestError"),
    "Batch": ("batch", "Batch"),
    "BatchProgress": ("batch", "BatchProgress"),
    "BatchSummary": ("batch", "BatchSummary"),
    "CallCancelled": ("errors", "CallCancelled"),
    "CalledTool": ("_tool_run", "CalledTool"),
    "CancelToken": ("_in_flight", "CancelToken"),
    "ChatCompletionRequest": ("models", "ChatRequest"),
    "ChatCompletionResponse": ("models", "ChatResponse"),
    "ChatRequest": ("models", "ChatRequest"),
    "ChatResponse": ("models", "ChatResponse"),
    "CircuitOpenError": ("errors", "CircuitOpenError"),
    "ClaudeAdapter": ("claude", "ClaudeAdapter"),
    "Client": ("_client", "Client"),
    "ClientClosed": ("errors", "ClientClosed"),
    "ClientStats": ("metrics", "ClientStats"),
    "ConfigurationError": ("errors", "ConfigurationError"),
    "ConflictError": ("errors", "ConflictError"),
    "ConnectTimeout": ("errors", "ConnectTimeout"),
    "Conversation": ("_conversation", "Conversation"),
    "DNSError": ("errors", "DNSError"),
    "DeadlineExceeded": ("errors", "DeadlineExceeded"),
    "Document": ("_content", "Document"),
    "Embeddings": ("_query_models", "Embeddings"),
    "FailedTarget": ("_failed_target", "FailedTarget"),
    "HttpClientConfig": ("config", "HttpClientConfig"),
    "HttpClientManager": ("_shared", "HttpClientManager"),
    "HttpMetrics": ("metrics", "HttpMetrics"),
    "HttpStats": ("metrics", "HttpStats"),
    "Image": ("_content", "Image"),
    "InternalServerError": ("errors", "InternalServerError"),
    "InvalidRequestError": ("errors", "InvalidRequestError"),
    "InvalidResponseError": ("errors", "InvalidResponseError"),
    "Limits": ("config", "Limits"),
    "Message": ("models", "Message"),
    "MissingKeyError": ("errors", "MissingKeyError"),
    "ModelInfo": ("_query_models", "ModelInfo"),
    "NotFoundError": ("errors", "NotFoundError"),
    "OpenAIAdapter": ("openai", "OpenAIAdapter"),
    "OutputError": ("errors", "OutputError"),
    "OverloadedError": ("errors", "OverloadedError"),
    "PermissionDeniedError": ("errors", "PermissionDeniedError"),
    "PoolTimeout": ("errors", "PoolTimeout"),
    "ProtocolError": ("errors", "ProtocolError"),
    "ProxyError": ("errors", "ProxyError"),
    "QuotaExceededError": ("errors", "QuotaExceededError"),
    "RateLimitError": ("errors", "RateLimitError"),
    "ReadTimeout": ("errors", "ReadTimeout"),
    "RequestHandler": ("_handler", "RequestHandler"),
    "RequestTooLargeError": ("errors", "RequestTooLargeError"),
    "ResourceError": ("errors", "ResourceError"),
    "ResponseTooLarge": ("errors", "ResponseTooLarge"),
    "RetryConfig": ("config", "RetryConfig"),
    "Stream": ("_stream", "Stream"),
    "StreamEvent": ("models", "StreamEvent"),
    "StreamInterrupted": ("errors", "StreamInterrupted"),
    "TLSError": ("errors", "TLSError"),
    "Target": ("_options", "Target"),
    "TermaiHttpError": ("errors", "TermaiHttpError"),
    "ToolCall": ("models", "ToolCall"),
    "ToolRun": ("_tool_run", "ToolRun"),
    "ToolSpec": ("_specs", "ToolSpec"),
    "TruncatedResponse": ("errors", "TruncatedResponse"),
    "UnexpectedRedirect": ("errors", "UnexpectedRedirect"),
    "UnprocessableEntityError": ("errors", "UnprocessableEntityError"),
    "Usage": ("models", "Usage"),
    "chat": ("_shared", "chat"),
    "chat_many": ("_shared_batch", "chat_many"),
    "client": ("_shared", "client"),
    "client_with_config": ("_shared", "client_with_config"),
    "close": ("_shared", "close"),
    "configure_logging": ("_logging", "configure_logging"),
    "count_tokens": ("_shared_queries", "count_tokens"),
    "embed": ("_shared_queries", "embed"),
    "initialize": ("_shared", "initialize"),
    "list_models": ("_shared_queries", "list_models"),
    "run_tools": ("_shared_tools", "run_tools"),
    "show_http_stats": ("_shared", "show_http_stats"),
    "stats": ("_shared", "stats"),
    "stream": ("_shared", "stream"),
    "time_limit": ("_ambient", "time_limit"),
}
# Modules whose functions are public by the module's name, as ``termai_http.openai.respond``.
_MODULES = ("claude", "openai", "testing")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _load(name)
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = home
    value = getattr(_load(module), attribute)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """Add the magics ``%%chat`` and ``%chat``: ``%load_ext termai_http`` calls this."""
    _load("contrib.jupyter").load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take them away again: ``%unload_ext termai_http`` calls this."""
    _load("contrib.jupyter").unload_ipython_extension(shell)


def _load(module: str) -> Any:
    with importing():
        from importlib import import_module

        return import_module(f"{__name__}.{module}")


def __dir__() -> list[str]:
    special = (name for name in globals() if name.startswith("__"))
    return sorted({*special, *__all__, *_MODULES})
