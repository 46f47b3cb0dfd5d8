"""What a call is to do: its target, its body, its headers, from options and environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import attrs

from ._importing import importing
from ._in_flight import CancelToken
from ._job import Job
from ._options import CallOptions
from ._secrets import request_texts
from ._target import Account, Place
from .errors import InvalidRequestError, TermaiHttpError
from .models import ChatRequest

__all__ = ["encode_body", "job_for", "model_or_default", "refused", "texts_of", "with_specs"]

_MODEL_VARIABLE = "TERMAI_HTTP_MODEL"


def model_or_default(model: str | None) -> str:
    """Return the model asked for, or the environment's.

    Raises:
        InvalidRequestError: There is none.
    """
    chosen = model if model is not None else os.environ.get(_MODEL_VARIABLE)
    if not isinstance(chosen, str) or not chosen.strip():
        raise InvalidRequestError(
            f"No model: pass model= (for example 'gpt-5.5' or 'claude-opus-5-5') "
            f"or set {_MODEL_VARIABLE}."
        )
    return chosen


def with_specs(request: ChatRequest) -> ChatRequest:
    """Return the request with its tools and its output as the values that dialects encode."""
    if request.tools is None and request.output is None:
        return request
    with importing():
        from ._output import as_output
        from ._tools import as_tools

    return attrs.evolve(
        request,
        tools=as_tools(request.tools) or None,
        output=None if request.output is None else as_output(request.output),
    )


def encode_body(
    target: Place,
    request: ChatRequest | Mapping[str, Any],
    options: CallOptions,
    *,
    streaming: bool = False,
) -> dict[str, Any]:
    """Return the body of a request.

    Args:
        target: Where it goes.
        request: What is asked for.
        options: The options of the call.
        streaming: Whether the body may ask for a stream, since the call does.

    Raises:
        InvalidRequestError: It is none, or cannot be said to this vendor.
    """
    if isinstance(request, ChatRequest):
        body = target.dialect.encode(request)
    elif isinstance(request, Mapping):
        body = target.dialect.adopt(request)
        if not body.get("prompt"):
            # A template of OpenAI's names a model itself.
            body["model"] = model_or_default(body.get("model"))
    else:
        raise InvalidRequestError(
            f"A request is a ChatRequest or the vendor's body as a dict, "
            f"not {type(request).__name__}."
        )
    if options.extra_body:
        body.update(options.extra_body)
    if body.get("stream") and not streaming:
        raise InvalidRequestError("This call returns a whole reply; stream() streams one.")
    target.dialect.check(body)
    return body


def texts_of(body: Any, target: Place, options: CallOptions) -> list[str]:
    """Return the texts of a request, which no error may repeat."""
    given = [*(options.extra_headers or {}).values(), *(options.extra_query or {}).values()]
    texts = (text for text in given if isinstance(text, str))
    return request_texts(body, [*target.auth.values(), *texts])


def refused(error: TermaiHttpError, account: Account) -> TermaiHttpError:
    """Return the error of what was not sent, without the frames that hold key and prompt."""
    error.provider = error.provider or account.provider
    return error.with_traceback(None)


def job_for(
    target: Place,
    options: CallOptions,
    *,
    url: str,
    operation: str,
    method: str = "POST",
    body: bytes | None = None,
    model: str | None = None,
    started: float | None = None,
    fresh: bool = False,
    streaming: bool = False,
    more_headers: Mapping[str, str] | None = None,
) -> Job:
    """Return what a call to a target is to do; the arguments are those of ``Job``.

    Raises:
        InvalidRequestError: An option is wrong.
    """
    if options.cancel is not None and not isinstance(options.cancel, CancelToken):
        raise InvalidRequestError(
            f"cancel must be a CancelToken, not {type(options.cancel).__name__}."
        )
    return Job(
        operation=operation,
        method=method,
        url=url,
        base_url=target.base_url,
        headers={**_headers(target, options), **(more_headers or {})},
        body=body,
        query=dict(options.extra_query) if options.extra_query else None,
        provider=target.dialect.provider,
        model=model,
        timeout=options.timeout,
        retry=options.retry,
        cancel=options.cancel,
        rollout_key=options.rollout_key,
        started=started,
        fresh=fresh,
        streaming=streaming,
        layers=options.layers,
        listeners=options.listeners(),
    )


def _headers(target: Place, options: CallOptions) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json", **target.auth}
    if options.extra_headers:
        taken = {name.lower() for name in target.auth}
        for name, value in options.extra_headers.items():
            if name.lower() in taken:
                raise InvalidRequestError(
                    f"extra_headers may not set {name}; use api_key= or the option for it."
                )
            headers[name] = value
    return headers
