"""Calls that are no chats: vectors of texts, tokens of a prompt, the models there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from . import _json
from ._call import Call
from ._core import Core
from ._cost import cost_of, terms_of
from ._job import Job
from ._options import CallOptions
from ._query_models import EmbeddingRequest, Embeddings, ModelInfo
from ._query_replies import read_count, read_embeddings, read_models
from ._request import job_for, model_or_default, refused, texts_of, with_specs
from ._target import Account, Place, is_openai, resolve
from .dialects._base import lowered
from .dialects._errors import decode_object, request_id, status_error
from .errors import InvalidRequestError, InvalidResponseError, MissingKeyError, TermaiHttpError
from .models import ChatRequest

if TYPE_CHECKING:
    from ._transport import Answered

__all__ = ["ask_for_models", "send_count", "send_embeddings", "send_models"]

T = TypeVar("T")

_MOST_TEXTS = 2048
_PAGE = 1000
_MOST_PAGES = 100

_COUNT_PATHS = {"claude": "/count_tokens", "openai": "/input_tokens"}
# What a chat takes and a count refuses, since it does not change the number.
_UNCOUNTED = {
    "claude": {
        *("container", "diagnostics", "inference_geo", "max_tokens", "metadata", "service_tier"),
        *("stop_sequences", "stream", "temperature", "top_k", "top_p"),
    },
    "openai": {
        *("background", "frequency_penalty", "include", "logit_bias", "logprobs"),
        *("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tool_calls"),
        *("metadata", "moderation", "n", "presence_penalty", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention", "safety_identifier", "seed"),
        *("service_tier", "stop", "store", "stream", "stream_options", "temperature"),
        *("top_logprobs", "top_p", "user"),
    },
}


def send_embeddings(
    core: Core, account: Account, request: EmbeddingRequest, options: CallOptions
) -> Embeddings | TermaiHttpError:
    """Turn texts into vectors; the error comes in their place."""
    started = core.clock.monotonic()
    try:
        if account.provider == "claude":
            raise InvalidRequestError(
                "Claude has no embeddings; use a model of OpenAI's, or of a server that speaks its "
                'API (with provider="openai" where its name begins with "claude").'
            )
        target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
        body = _embedding_body(target, request, options)
        job = _post(target, options, "embeddings", "/embeddings", body, started)
        terms = terms_of(body)
    except TermaiHttpError as error:
        return refused(error, account)

    def decode(payload: Mapping[str, Any], response: Answered, call: Call) -> Embeddings:
        headers, cost = response.headers, 0.0 if not call.attempts else None
        read = read_embeddings(payload, body)
        if cost is None:
            place, prices = target.base_url, core.config.prices
            cost = cost_of(payload, model=read["model"], terms=terms, base_url=place, prices=prices)
        return Embeddings(
            **read,
            cost=cost,
            request_id=request_id(headers),
            status_code=response.status_code,
            headers=lowered(headers),
            attempts=call.attempts,
            elapsed=call.elapsed(),
            raw=payload,
        )

    return _ask(core, job, lambda: texts_of(body, target, options), decode, billed=True)


def send_count(
    core: Core, account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> int | TermaiHttpError:
    """Count the tokens that a chat would read; the error comes in their place."""
    started = core.clock.monotonic()
    try:
        if account.provider == "openai":
            # Only this API counts; what a chat would send is said in its form.
            options = attrs.evolve(options, api="responses")
        target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
        body = _counted_body(target, request, options)
        path = target.dialect.path + _COUNT_PATHS[account.provider]
        job = _post(target, options, "count", path, body, started)
    except TermaiHttpError as error:
        return refused(error, account)

    def decode(payload: Mapping[str, Any], response: Answered, call: Call) -> int:
        return read_count(payload)

    return _ask(core, job, lambda: texts_of(body, target, options), decode)


def send_models(
    core: Core, account: Account, request: object, options: CallOptions
) -> list[ModelInfo] | TermaiHttpError:
    """List the models, every page of them within one deadline; the error comes in their place.

    Each page is a call of its own to those who count.
    """
    started = core.clock.monotonic()
    found: list[ModelInfo] = []
    after: str | None = None
    seen: set[str | None] = {None}
    try:
        target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
        while len(seen) <= _MOST_PAGES:
            job = _page_job(target, options, started, after)
            page = _ask(core, job, lambda: texts_of(None, target, options), _decode_page)
            if isinstance(page, TermaiHttpError):
                return page
            found += page[0]
            after = page[1]
            if after is None:
                return found
            if after in seen:
                break
            seen.add(after)
    except TermaiHttpError as error:
        unasked = account.provider == "openai" and options.provider is None
        if unasked and isinstance(error, MissingKeyError):
            error.message += ' Claude\'s models are listed with provider="claude".'
        return refused(error, account)
    endless = InvalidResponseError("The pages of models repeat themselves, or never end.")
    return refused(endless, account)


def ask_for_models(
    core: Core, account: Account, options: CallOptions
) -> Mapping[str, Any] | TermaiHttpError:
    """Ask for the models, one page; used to see whether vendor, key and URL work."""
    try:
        target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
        # With one attempt there is none left for a connection that turns out to be stale.
        job = job_for(
            target, options, url=target.models_url, operation="health", method="GET", fresh=True
        )
    except TermaiHttpError as error:
        return refused(error, account)

    def decode(payload: Mapping[str, Any], response: Answered, call: Call) -> Mapping[str, Any]:
        return payload

    return _ask(core, job, lambda: texts_of(None, target, options), decode)


def _embedding_body(
    target: Place, request: EmbeddingRequest, options: CallOptions
) -> dict[str, Any]:
    texts = request.texts
    body: dict[str, Any] = {"model": request.model}
    body["input"] = texts if isinstance(texts, str) else list(texts)
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    known = is_openai(target.base_url)
    if known:
        # About a third of the bytes, read in a sixth of the time. Other servers may refuse it,
        # and some of them any format that is named.
        body["encoding_format"] = "base64"
    body.update(request.extra)
    if options.extra_body:
        body.update(options.extra_body)
    if known and not isinstance(texts, str) and len(texts) > _MOST_TEXTS:
        raise InvalidRequestError(
            f"{len(texts)} texts: OpenAI takes at most {_MOST_TEXTS} in one request (and "
            f"300,000 tokens). Embed them in batches: texts[0:{_MOST_TEXTS}] and so on."
        )
    return body


def _counted_body(
    target: Place, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> dict[str, Any]:
    dialect = target.dialect
    if isinstance(request, ChatRequest):
        request = attrs.evolve(request, max_tokens=None, stop=None)
        body = dialect.encode(with_specs(request))
    elif isinstance(request, Mapping):
        body = dialect.adopt(request)
        body["model"] = model_or_default(body.get("model"))
    else:
        raise InvalidRequestError(
            f"A request is a ChatRequest or the vendor's body as a dict, "
            f"not {type(request).__name__}."
        )
    uncounted = _UNCOUNTED[dialect.provider]
    body = {name: value for name, value in body.items() if name not in uncounted}
    if options.extra_body:
        body.update(options.extra_body)
    # It may also fill in what only a chat needs.
    dialect.check({**body})
    return body


def _post(
    target: Place,
    options: CallOptions,
    operation: str,
    path: str,
    body: Mapping[str, Any],
    started: float,
) -> Job:
    return job_for(
        target,
        options,
        url=target.base_url + path,
        operation=operation,
        body=_json.dumps(body),
        model=str(body.get("model", "")),
        started=started,
    )


def _page_job(target: Place, options: CallOptions, started: float, after: str | None) -> Job:
    query: dict[str, Any] = {"limit": _PAGE} if target.dialect.provider == "claude" else {}
    query.update(options.extra_query or {})
    if after is not None:
        query["after_id"] = after
    options = attrs.evolve(options, extra_query=query)
    return job_for(
        target, options, url=target.models_url, operation="models", method="GET", started=started
    )


def _decode_page(
    payload: Mapping[str, Any], response: Answered, call: Call
) -> tuple[list[ModelInfo], str | None]:
    return read_models(payload)


def _ask(
    core: Core,
    job: Job,
    texts: Callable[[], list[str]],
    decode: Callable[[Mapping[str, Any], Answered, Call], T],
    *,
    billed: bool = False,
) -> T | TermaiHttpError:
    """Make a call whose answer is one JSON object.

    Args:
        core: What it is made with.
        job: What it is to do.
        texts: Returns the texts of the request, masked where an error repeats them.
        decode: Reads a success.
        billed: Whether a success costs something, also one that cannot be read.
    """

    def read(response: Answered, call: Call) -> T | TermaiHttpError:
        status, headers = response.status_code, response.headers
        if not 200 <= status <= 299:
            return status_error(status, headers, response.content, texts())
        try:
            payload = decode_object(_as_object(response.content), headers, texts)
            return decode(payload, response, call)
        except TermaiHttpError as error:
            error.status_code = error.status_code or status
            error.request_id = error.request_id or request_id(headers)
            error.maybe_billed = error.maybe_billed or billed
            return error.with_traceback(None)

    outcome = core.run(job, read)
    return outcome.error if outcome.error is not None else cast("T", outcome.value)


def _as_object(content: bytes) -> bytes:
    """Put the bare list that some servers send in its place."""
    return b'{"data":%b}' % content if content[:64].lstrip().startswith(b"[") else content
