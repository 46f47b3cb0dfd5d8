"""Django: one dict of settings, checks, a time limit a request, streams to the browser, a page.

Add ``"termai_http.contrib.django"`` to ``INSTALLED_APPS``. What ``chat()`` and ``stream()`` use is
then configured by the setting ``TERMAI_HTTP``; nothing is opened before the first call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..._ambient import time_limit
    from .middleware import RequestTimeoutMiddleware, request_timeout
    from .streaming import sse_response

__all__ = ["RequestTimeoutMiddleware", "request_timeout", "sse_response", "time_limit"]

_HOMES = {
    "RequestTimeoutMiddleware": ".middleware",
    "request_timeout": ".middleware",
    "sse_response": ".streaming",
    "time_limit": "..._ambient",
}


# Django loads this before its registry of apps is ready, and few projects need all of it.
def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        value = getattr(import_module(home, __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "django":
            raise
        from ...errors import ConfigurationError

        message = 'Django is not installed; pip install "termai-http[django]".'
        raise ConfigurationError(message) from error
    globals()[name] = value
    return value
