"""One chat: options and messages in, a reply out, over a client's core."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import _json
from ._call import Call, CancelToken
from ._core import Core, Job
from ._options import CallOptions
from ._secrets import request_texts
from ._target import Account, Target, resolve
from .dialects._base import decode_object, request_id, status_error
from .errors import InvalidRequestError, TermaiHttpError
from .models import ChatRequest, ChatResponse, as_messages

if TYPE_CHECKING:
    import requests

__all__ = ["list_models", "model_or_default", "send_chat"]

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


def send_chat(
    core: Core, account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> ChatResponse | TermaiHttpError:
    """Send one chat and return its reply, or the error in its place.

    The error carries no traceback of this package's frames, which hold key and prompt.
    """
    try:
        return _send_chat(core, account, request, options)
    except TermaiHttpError as error:
        error.provider = error.provider or account.provider
        return error.with_traceback(None)


def _send_chat(
    core: Core, account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> ChatResponse | TermaiHttpError:
    target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
    body = _body(target, request, options)
    job = _job(core, target, body, options)

    def read(response: requests.Response, call: Call) -> ChatResponse | TermaiHttpError:
        return _read(response, call, target, body)

    outcome = core.run(job, read)
    if outcome.error is not None:
        return outcome.error
    assert outcome.value is not None
    return outcome.value


def _body(
    target: Target, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> dict[str, Any]:
    if isinstance(request, ChatRequest):
        body = target.dialect.encode(request)
    elif isinstance(request, Mapping):
        body = dict(request)
        body["model"] = model_or_default(body.get("model"))
        body["messages"] = as_messages(body.get("messages") or "")
    else:
        raise InvalidRequestError(
            f"A request is a ChatRequest or the vendor's body as a dict, "
            f"not {type(request).__name__}."
        )
    if options.extra_body:
        body.update(options.extra_body)
    if body.get("stream"):
        raise InvalidRequestError("This call returns a whole reply; stream() streams one.")
    target.dialect.check(body)
    return body


def _job(core: Core, target: Target, body: dict[str, Any], options: CallOptions) -> Job:
    if options.cancel is not None and not isinstance(options.cancel, CancelToken):
        raise InvalidRequestError(
            f"cancel must be a CancelToken, not {type(options.cancel).__name__}."
        )
    return Job(
        url=target.url,
        headers=_headers(target, options),
        body=_json.dumps(body),
        query=dict(options.extra_query) if options.extra_query else None,
        provider=target.dialect.provider,
        model=str(body.get("model", "")),
        timeout=options.timeout,
        retry=options.retry,
        cancel=options.cancel,
    )


def _headers(target: Target, options: CallOptions) -> dict[str, str]:
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


def _read(
    response: requests.Response, call: Call, target: Target, body: Mapping[str, Any]
) -> ChatResponse | TermaiHttpError:
    headers, status = response.headers, response.status_code
    if not 200 <= status <= 299:
        texts = request_texts(body, target.auth.values())
        return status_error(status, headers, response.content, texts)
    try:
        payload = decode_object(
            response.content, headers, lambda: request_texts(body, target.auth.values())
        )
        decoded = target.dialect.decode(payload)
    except TermaiHttpError as error:
        error.status_code, error.request_id = status, request_id(headers)
        error.maybe_billed = True
        return error.with_traceback(None)
    return ChatResponse(
        text=decoded.text,
        finish_reason=decoded.finish_reason,
        usage=decoded.usage,
        model=decoded.model,
        id=decoded.id,
        request_id=request_id(headers),
        status_code=status,
        headers={name.lower(): value for name, value in headers.items()},
        attempts=call.attempts,
        elapsed=call.elapsed(),
        raw=decoded.raw,
        provider=target.dialect.provider,
    )


def list_models(
    core: Core, account: Account, options: CallOptions
) -> Mapping[str, Any] | TermaiHttpError:
    """Ask for the models, one page; used to see whether vendor, key and URL work."""
    try:
        target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
        job = Job(
            method="GET",
            url=target.models_url,
            headers=_headers(target, options),
            provider=target.dialect.provider,
            timeout=options.timeout,
            retry=options.retry,
        )

        def read(response: requests.Response, call: Call) -> Mapping[str, Any] | TermaiHttpError:
            secrets = list(target.auth.values())
            if not 200 <= response.status_code <= 299:
                return status_error(
                    response.status_code, response.headers, response.content, secrets
                )
            return decode_object(response.content, response.headers, lambda: secrets)

        outcome = core.run(job, read)
    except TermaiHttpError as error:
        return error.with_traceback(None)
    return outcome.error if outcome.error is not None else outcome.value or {}
