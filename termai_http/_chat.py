"""One chat: options and messages in, a reply out, over a client's core."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from . import _json
from ._attempts import Outcome
from ._call import Call
from ._core import Core, Job
from ._in_flight import CancelToken
from ._log import log
from ._options import CallOptions
from ._secrets import mask_echoes, request_texts
from ._stream import EventSource, Stream, not_a_stream
from ._target import Account, Target, resolve
from .dialects._base import Decoded, decode_object, request_id, status_error
from .errors import APIStatusError, InvalidRequestError, TermaiHttpError
from .models import ChatRequest, ChatResponse, as_messages

if TYPE_CHECKING:
    import requests

    from ._open_body import OpenBody

__all__ = ["list_models", "model_or_default", "open_stream", "send_chat"]

_MODEL_VARIABLE = "TERMAI_HTTP_MODEL"
_MOST_ACCEPTED = 32 * 1024 * 1024
# Compressed, a piece would wait for the next one.
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


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
    started = core.clock.monotonic()
    try:
        target, body = _prepare(core, account, request, options)
        job = _job(target, body, options, started)
    except TermaiHttpError as error:
        return _refused(error, account)

    def read(response: requests.Response, call: Call) -> ChatResponse | TermaiHttpError:
        return _read(response, call, target, body)

    outcome = core.run(job, read)
    return outcome.error if outcome.error is not None else cast("ChatResponse", outcome.value)


def open_stream(
    core: Core, account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> Stream | TermaiHttpError:
    """Send one chat and return the stream of its reply, or the error in its place.

    What fails before the first event is tried again here; after it, nothing is.
    """
    started = core.clock.monotonic()
    try:
        target, body = _prepare(core, account, request, options)
        _ask_to_stream(target, body)
        job = _job(target, body, options, started, streaming=True)
    except TermaiHttpError as error:
        return _refused(error, account)

    def read(answer: Any, call: Call) -> Stream | TermaiHttpError:
        if getattr(answer, "response", None) is None:
            return _refusal(answer, target, body)
        return _begin_stream(core, job, call, target, body, answer)

    outcome = core.open(job, read)
    return outcome.error if outcome.error is not None else cast("Stream", outcome.value)


def _refused(error: TermaiHttpError, account: Account) -> TermaiHttpError:
    error.provider = error.provider or account.provider
    return error.with_traceback(None)


def _prepare(
    core: Core, account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> tuple[Target, dict[str, Any]]:
    target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
    return target, _body(target, request, options)


def _ask_to_stream(target: Target, body: dict[str, Any]) -> None:
    body["stream"] = True
    if getattr(target.dialect, "max_tokens_name", "") == "max_completion_tokens":
        # OpenAI counts the tokens of a stream only when asked; not every other server knows how.
        body.setdefault("stream_options", {"include_usage": True})


def _begin_stream(
    core: Core, job: Job, call: Call, target: Target, body: Mapping[str, Any], answer: OpenBody
) -> Stream | TermaiHttpError:
    headers, status = answer.response.headers, answer.response.status_code
    decoder = target.dialect.decode_stream(lambda: request_texts(body, target.auth.values()))
    source = EventSource(answer, decoder, core.config.limits)
    kind = headers.get("content-type", "").lower()
    # A page or a plain object parses to no event at all: say what it is.
    foreign = kind.startswith(("application/json", "text/html"))
    if foreign:
        kind = mask_echoes(kind, request_texts(body, target.auth.values()))
    if failure := not_a_stream(kind) if foreign else source.begin():
        answer.close()
        return _of_answer(failure, status, headers)

    def finish(stream: Stream, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, TermaiHttpError):
            core.leave(job, call, None, stream.time_to_first_token)
            return
        outcome = Outcome(value=stream.response, error=error, response=answer.response)
        if error is not None:
            _of_answer(error, status, headers)
        core.finish(job, call, outcome, stream.time_to_first_token)

    def forget(stream: Stream) -> None:
        core.forget(job, call, stream.time_to_first_token)

    def reply(decoded: Decoded) -> ChatResponse:
        return _reply(decoded, target, call, status, headers)

    return Stream(source, call, finish, forget, reply)


def _of_answer(error: TermaiHttpError, status: int, headers: Mapping[str, str]) -> TermaiHttpError:
    """Describe an error that stands for a success."""
    error.status_code = error.status_code or status
    error.request_id = error.request_id or request_id(headers)
    # A refusal within a stream is one all the same.
    error.maybe_billed = error.maybe_billed or not isinstance(error, APIStatusError)
    return error.with_traceback(None)


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


def _job(
    target: Target,
    body: dict[str, Any],
    options: CallOptions,
    started: float,
    *,
    streaming: bool = False,
) -> Job:
    if options.cancel is not None and not isinstance(options.cancel, CancelToken):
        raise InvalidRequestError(
            f"cancel must be a CancelToken, not {type(options.cancel).__name__}."
        )
    encoded = _json.dumps(body)
    if len(encoded) > _MOST_ACCEPTED:
        log.warning("A request of %d bytes: vendors refuse those above 32 MB", len(encoded))
    return Job(
        url=target.url,
        headers=_headers(target, options) | (_STREAM_HEADERS if streaming else {}),
        body=encoded,
        query=dict(options.extra_query) if options.extra_query else None,
        provider=target.dialect.provider,
        model=str(body.get("model", "")),
        timeout=options.timeout,
        retry=options.retry,
        cancel=options.cancel,
        started=started,
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


def _refusal(
    response: requests.Response, target: Target, body: Mapping[str, Any]
) -> TermaiHttpError:
    texts = request_texts(body, target.auth.values())
    return status_error(response.status_code, response.headers, response.content, texts)


def _read(
    response: requests.Response, call: Call, target: Target, body: Mapping[str, Any]
) -> ChatResponse | TermaiHttpError:
    headers, status = response.headers, response.status_code
    if not 200 <= status <= 299:
        return _refusal(response, target, body)
    try:
        payload = decode_object(
            response.content, headers, lambda: request_texts(body, target.auth.values())
        )
        decoded = target.dialect.decode(payload)
    except TermaiHttpError as error:
        return _of_answer(error, status, headers)
    return _reply(decoded, target, call, status, headers)


def _reply(
    decoded: Decoded, target: Target, call: Call, status: int, headers: Mapping[str, str]
) -> ChatResponse:
    return ChatResponse(
        text=decoded.text,
        finish_reason=decoded.finish_reason,
        usage=decoded.usage,
        model=decoded.model,
        id=decoded.id,
        request_id=request_id(headers),
        status_code=status,
        headers=lowered(headers),
        attempts=call.attempts,
        elapsed=call.elapsed(),
        raw=decoded.raw,
        provider=target.dialect.provider,
    )


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their names in lower case."""
    # What requests gives has them ready; a test's own answer may have a plain dict.
    items = getattr(headers, "lower_items", None)
    if items is not None:
        return dict(items())
    return {name.lower(): value for name, value in headers.items()}


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
            # With one attempt there is none left for a connection that turns out to be stale.
            fresh=True,
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
