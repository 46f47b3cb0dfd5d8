"""One chat: options and messages in, a reply out, over a client's core."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from . import _json, events
from ._call import Call
from ._core import Core
from ._cost import cost_of, terms_of
from ._importing import importing
from ._job import Job, Outcome
from ._log import log
from ._options import CallOptions
from ._request import encode_body, job_for, refused, texts_of, with_specs
from ._secrets import mask_echoes
from ._target import Account, Place, resolve
from ._values import Value
from .dialects._base import lowered
from .dialects._errors import decode_object, request_id, status_error
from .errors import (
    APIStatusError,
    InvalidResponseError,
    OutputError,
    TermaiHttpError,
    TruncatedResponse,
)
from .models import ChatRequest, ChatResponse

if TYPE_CHECKING:
    from ._failed_target import FailedTarget
    from ._open_body import OpenBody
    from ._specs import OutputSpec
    from ._stream import Stream
    from ._transport import Answered
    from .dialects._base import Decoded, StreamDecoder
    from .prices import Price

__all__ = ["open_stream", "send_chat"]

T = TypeVar("T")
_MOST_ACCEPTED = 32 * 1024 * 1024
# Compressed, a piece would wait for the next one.
_STREAM_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


@attrs.define(kw_only=True, eq=False, repr=False)
class _Plan(Value):
    """What a call sends and how its answer is read."""

    target: Place
    options: CallOptions
    body: dict[str, Any] = attrs.field(repr=False)
    output: OutputSpec | None = None
    # Of the targets of ``fallback=`` that were asked before: who they were, and the seconds.
    failed: tuple[FailedTarget, ...] = ()
    before: float = 0.0
    # What may change the price, without the prompt: a stream asks for it where nothing is hidden.
    terms: Mapping[str, Any] = attrs.field(factory=dict)
    prices: Mapping[str, Price] | None = attrs.field(default=None, repr=False)

    def texts(self) -> list[str]:
        """Return the texts of the request, which no error may repeat."""
        return texts_of(self.body, self.target, self.options)

    def cost_of(self, decoded: Decoded, call: Call) -> float | None:
        """Return what a reply cost; one that took no exchange, from a cache, cost nothing."""
        if not call.attempts:
            return 0.0
        return cost_of(
            decoded.raw,
            model=decoded.model,
            terms=self.terms,
            base_url=self.target.base_url,
            prices=self.prices,
        )


def send_chat(
    core: Core, account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> ChatResponse | TermaiHttpError:
    """Send one chat and return its reply, or the error in its place.

    The error carries no traceback of this package's frames, which hold key and prompt.
    """
    return _ask(core, account, request, options, _send, streaming=False)


def open_stream(
    core: Core, account: Account, request: ChatRequest | Mapping[str, Any], options: CallOptions
) -> Stream | TermaiHttpError:
    """Send one chat and return the stream of its reply, or the error in its place.

    What fails before the first event is tried again here; after it, nothing is.
    """
    return _ask(core, account, request, options, _open, streaming=True)


def _ask(
    core: Core,
    account: Account,
    request: ChatRequest | Mapping[str, Any],
    options: CallOptions,
    send: Callable[[Core, Job, _Plan], T | TermaiHttpError],
    *,
    streaming: bool,
) -> T | TermaiHttpError:
    started = core.clock.monotonic()
    if options.fallback is not None:
        return _ask_several(core, account, request, options, send, started, streaming)
    try:
        plan = _prepare(core, account, request, options, streaming=streaming)
        job = _job(plan, options, started, streaming=streaming)
    except TermaiHttpError as error:
        return refused(error, account)
    return send(core, job, plan)


def _ask_several(
    core: Core,
    account: Account,
    request: ChatRequest | Mapping[str, Any],
    options: CallOptions,
    send: Callable[[Core, Job, _Plan], T | TermaiHttpError],
    started: float,
    streaming: bool,
) -> T | TermaiHttpError:
    """Ask one target after the other; all are prepared first, so that a wrong one is told."""
    with importing():
        from . import _fallback
    plans: list[_Plan] = []
    jobs: list[Job] = []
    aim = None
    try:
        if isinstance(request, ChatRequest):
            # Read once for all.
            request = with_specs(request)
        for aim in _fallback.targets_of(account, request, options):
            account = aim.account
            plan = _prepare(core, account, aim.request, aim.options, streaming=streaming)
            jobs.append(_job(plan, aim.options, started, streaming=streaming))
            plans.append(plan)
    except TermaiHttpError as error:
        return _fallback.named(refused(error, account), aim)

    def send_one(
        number: int, failed: tuple[FailedTarget, ...], before: float
    ) -> T | TermaiHttpError:
        plans[number].failed, plans[number].before = failed, before
        return send(core, jobs[number], plans[number])

    config = core.config
    usual = config.stream_timeout if streaming else config.timeout
    timeout = usual if options.timeout is None else options.timeout
    return _fallback.walk(core, jobs, timeout, send_one)


def _send(core: Core, job: Job, plan: _Plan) -> ChatResponse | TermaiHttpError:
    def read(response: Answered, call: Call) -> ChatResponse | TermaiHttpError:
        return _read(response, call, plan)

    outcome = core.run(job, read)
    if outcome.error is not None:
        return outcome.error
    return cast("ChatResponse", outcome.value)


def _open(core: Core, job: Job, plan: _Plan) -> Stream | TermaiHttpError:
    def read(answer: Any, call: Call) -> Stream | TermaiHttpError:
        if getattr(answer, "response", None) is None:
            return _refusal(answer, plan)
        return _begin_stream(core, job, call, plan, answer)

    outcome = core.open(job, read)
    return outcome.error if outcome.error is not None else cast("Stream", outcome.value)


def _prepare(
    core: Core,
    account: Account,
    request: ChatRequest | Mapping[str, Any],
    options: CallOptions,
    *,
    streaming: bool = False,
) -> _Plan:
    target = resolve(account, options, os.environ, allow_http=core.config.allow_http)
    output = None
    if isinstance(request, ChatRequest):
        request = with_specs(request)
        output = request.output
    body = encode_body(target, request, options, streaming=streaming)
    if streaming:
        target.dialect.ask_to_stream(body)
    return _Plan(
        target=target,
        options=options,
        body=body,
        output=output,
        terms=terms_of(body),
        prices=core.config.prices,
    )


def _begin_stream(
    core: Core, job: Job, call: Call, plan: _Plan, answer: OpenBody
) -> Stream | TermaiHttpError:
    headers, status = answer.response.headers, answer.response.status_code
    with importing():
        from ._stream import EventSource, Stream
    decoder = plan.target.dialect.decode_stream(plan.texts)
    source = EventSource(answer, decoder, core.config.limits)
    # A page or a plain object parses to no event at all: say what it is.
    foreign = headers.get("content-type", "").lower().startswith(("application/json", "text/html"))
    if failure := _foreign(answer, plan) if foreign else source.begin():
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
        if error is not None and plan.failed:
            error.fallbacks = plan.failed
            error.elapsed = plan.before + call.elapsed()

    def forget(stream: Stream) -> None:
        core.forget(job, call, stream.time_to_first_token)

    def reply(decoded: Decoded) -> ChatResponse | TermaiHttpError:
        return _reply(decoded, plan, call, status, headers)

    stream = Stream(source, call, finish, forget, reply)
    call.streams = (call.streams or 0) + 1
    if call.tell is not None:
        call.tell_of(events.FirstToken, elapsed=stream.time_to_first_token)
    stream.fallbacks = plan.failed
    return stream


def _foreign(answer: OpenBody, plan: _Plan) -> TermaiHttpError:
    """Say what came in the place of a stream, in the server's own words where they are at hand."""
    headers = answer.response.headers
    with importing():
        from ._stream import not_a_stream
    failure = not_a_stream(mask_echoes(headers["content-type"].lower(), plan.texts()))
    try:
        decode_object(answer.rest(), headers, plan.texts)
    except InvalidResponseError as error:
        failure.message += f" {error.message}"
        failure.code, failure.body = error.code, error.body
    return failure


def _of_answer(error: TermaiHttpError, status: int, headers: Mapping[str, str]) -> TermaiHttpError:
    """Describe an error that stands for a success."""
    error.status_code = error.status_code or status
    error.request_id = error.request_id or request_id(headers)
    # A refusal within a stream is one all the same.
    error.maybe_billed = error.maybe_billed or not isinstance(error, APIStatusError)
    return error.with_traceback(None)


def _job(plan: _Plan, options: CallOptions, started: float, *, streaming: bool = False) -> Job:
    encoded = _json.dumps(plan.body)
    if len(encoded) > _MOST_ACCEPTED and plan.target.dialect.provider == "claude":
        log.warning("A request of %d bytes: Claude refuses those above 32 MB", len(encoded))
    return job_for(
        plan.target,
        options,
        url=plan.target.url,
        operation="chat",
        body=encoded,
        model=str(plan.body.get("model", "")),
        started=started,
        streaming=streaming,
        more_headers=_STREAM_HEADERS if streaming else {},
    )


def _refusal(response: Answered, plan: _Plan) -> TermaiHttpError:
    return status_error(response.status_code, response.headers, response.content, plan.texts())


def _read(response: Answered, call: Call, plan: _Plan) -> ChatResponse | TermaiHttpError:
    headers, status = response.headers, response.status_code
    if not 200 <= status <= 299:
        return _refusal(response, plan)
    dialect = plan.target.dialect
    try:
        if headers.get("content-type", "").lower().startswith("text/event-stream"):
            decoded = _decode_events(response.content, dialect.decode_stream(plan.texts))
        else:
            payload = decode_object(response.content, headers, plan.texts)
            decoded = dialect.decode(payload, plan.texts)
    except TermaiHttpError as error:
        return _of_answer(error, status, headers)
    return _reply(decoded, plan, call, status, headers)


def _decode_events(body: bytes, decoder: StreamDecoder) -> Decoded:
    """Read a reply that comes as events though it was asked for whole: some servers only stream."""
    with importing():
        from ._sse import EventParser
    # The body keeps to its limit already, and no line of it is longer.
    parser = EventParser(most_line=len(body) + 1, most_event=len(body) + 1)
    for event in (*parser.feed(body), *parser.finish()):
        decoder.feed(event)
    if not decoder.complete:
        raise TruncatedResponse("The reply came as events that end before their end mark.")
    return decoder.result()


def _reply(
    decoded: Decoded, plan: _Plan, call: Call, status: int, headers: Mapping[str, str]
) -> ChatResponse | TermaiHttpError:
    parsed = None
    if plan.output is not None and not decoded.tool_calls:
        with importing():
            from ._output import read_output
        try:
            parsed = read_output(plan.output, decoded)
        except OutputError as error:
            error.usage, error.cost = decoded.usage, plan.cost_of(decoded, call)
            return _of_answer(error, status, headers)
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
        elapsed=plan.before + call.elapsed(),
        raw=decoded.raw,
        provider=plan.target.dialect.provider,
        thinking=decoded.thinking,
        tool_calls=decoded.tool_calls,
        messages=decoded.messages,
        texts=decoded.texts,
        parsed=parsed,
        refusal=decoded.refusal,
        fallbacks=plan.failed,
        cost=plan.cost_of(decoded, call),
    )
