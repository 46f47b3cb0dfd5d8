"""Answers each request as its vendor would, wrong ones included; pure but for its memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import attrs

from ._checks import Problem, first
from ._claude import claude_error, claude_events, claude_reply, claude_unfinished
from ._claude_checks import claude_problems
from ._claude_checks import count_problems as claude_count_problems
from ._embeddings import embeddings_problems, embeddings_reply
from ._events import Event
from ._faults import ChosenReply, ErrorEvent, Failed
from ._memory import Memory
from ._models import DEFAULT_MODELS, claude_page, model_reply, openai_list
from ._openai_chat import chat_error, chat_events, chat_reply, chat_unfinished
from ._openai_chat_checks import chat_problems
from ._openai_responses import (
    count_input,
    responses_error,
    responses_events,
    responses_reply,
    responses_unfinished,
)
from ._openai_responses_checks import count_problems, responses_problems
from ._record import RecordedRequest
from ._replies import Reply, Streamed, error_reply, refused, vendor_headers
from ._tokens import input_tokens
from ._turns import Saying, Turn, next_turn

__all__ = ["Backend", "answer"]

# Also where Azure has them.
_MODELS = re.compile(r"(?:/openai)?(?:/v1)?/models(?:/(.+))?")
_Body = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Backend:
    """What a server answers with.

    Attributes:
        reply: The user's function for replies; None for none.
        models: The names that are listed; None means each vendor's usual ones.
        pace: Seconds between the events of a stream.
        memory: What is remembered between requests.
    """

    reply: Saying | None = None
    models: Sequence[str] | None = None
    pace: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    memory: Memory = attrs.field(factory=Memory)


@attrs.frozen(kw_only=True)
class _Asked:
    """A request with a key and an object as its body, and what to answer it with."""

    request: RecordedRequest
    body: _Body
    number: int
    backend: Backend
    chosen: ChosenReply | None


@attrs.frozen(kw_only=True)
class _Api:
    """One dialect: whose it is, what it refuses, and how it says a turn."""

    vendor: str
    problems: Callable[[_Body, Mapping[str, str], Memory], Iterator[Problem]]
    reply: Callable[[_Body, int, Turn, Memory], dict[str, Any]]
    unfinished: Callable[[_Body], dict[str, Any]]
    events: Callable[[_Body, _Body], list[Event]]
    error: Callable[[ErrorEvent, int], Event]
    says_failed: bool = False


_CHATS = {
    "/chat/completions": _Api(
        vendor="openai",
        problems=chat_problems,
        reply=chat_reply,
        unfinished=chat_unfinished,
        events=chat_events,
        error=chat_error,
    ),
    "/messages": _Api(
        vendor="claude",
        problems=claude_problems,
        reply=claude_reply,
        unfinished=claude_unfinished,
        events=claude_events,
        error=claude_error,
    ),
    "/responses": _Api(
        vendor="openai",
        problems=responses_problems,
        reply=responses_reply,
        unfinished=responses_unfinished,
        events=responses_events,
        error=responses_error,
        says_failed=True,
    ),
}


def answer(
    request: RecordedRequest, number: int, backend: Backend, chosen: ChosenReply | None = None
) -> Reply:
    """Answer one request.

    Args:
        request: The request.
        number: Its number at this server, for ids.
        backend: What the server answers with.
        chosen: What the reply shall say; None leaves it to the server.
    """
    dialect, path = request.dialect, request.path
    act = _POSTS.get(_end(path)) if request.method == "POST" else None
    if request.method == "GET" and (models := _MODELS.fullmatch(path)) is not None:
        return _unauthorized(request, number) or _models(request, models[1], number, backend)
    if act is None:
        return error_reply(404, dialect, number, f"Unknown path {path}")
    wrong = _unauthorized(request, number)
    if wrong is not None:
        return wrong
    body = request.json
    if not isinstance(body, dict):
        return error_reply(400, dialect, number, "The body is no JSON object.")
    return act(_Asked(request=request, body=body, number=number, backend=backend, chosen=chosen))


def _end(path: str) -> str:
    """Return the part of a path that names the API, whatever stands before it."""
    *_, before, last = ("", "", *path.split("/"))
    two = f"/{before}/{last}"
    return two if two in _POSTS else f"/{last}"


def _unauthorized(request: RecordedRequest, number: int) -> Reply | None:
    bearer = request.headers.get("authorization", "")
    if bearer.startswith("Bearer ") and bearer != "Bearer ":
        return None
    if request.dialect == "claude" and request.headers.get("x-api-key"):
        return None
    wanted = "x-api-key" if request.dialect == "claude" else "Authorization: Bearer"
    return error_reply(401, request.dialect, number, f"No API key: send {wanted}.")


def _chat(asked: _Asked) -> Reply:
    body, memory = asked.body, asked.backend.memory
    api = _CHATS[_end(asked.request.path)]
    problem = first(api.problems(body, asked.request.headers, memory))
    if problem is not None:
        return refused(problem, api.vendor, asked.number)
    turn = next_turn(asked.request, body, asked.chosen, asked.backend.reply)
    if turn.failed is not None and not api.says_failed:
        return _failed(turn.failed, api, asked)
    whole = api.reply(body, asked.number, turn, memory)
    events = api.events(body, whole) if body.get("stream") is True else None
    return Reply(
        status=200,
        headers=vendor_headers(api.vendor, asked.number),
        body=whole,
        streamed=None if events is None else Streamed(events=events, error=api.error),
        unfinished=api.unfinished,
    )


def _failed(failed: Failed, api: _Api, asked: _Asked) -> Reply:
    """Return an error inside a success, where the API has no other word for it."""
    reply = error_reply(500, api.vendor, asked.number, failed.message, failed.code)
    streamed = None
    if asked.body.get("stream") is True:
        kind = reply.body["error"]["type"]
        event = api.error(ErrorEvent(type=kind, code=failed.code, message=failed.message), 0)
        streamed = Streamed(events=[event], error=api.error)
    return attrs.evolve(reply, status=200, streamed=streamed)


def _embeddings(asked: _Asked) -> Reply:
    problem = first(embeddings_problems(asked.body))
    return _told(asked, "openai", problem or embeddings_reply(asked.body))


def _count_tokens(asked: _Asked) -> Reply:
    memory = asked.backend.memory
    problem = first(claude_count_problems(asked.body, asked.request.headers, memory))
    return _told(asked, "claude", problem or {"input_tokens": input_tokens(asked.body)})


def _input_tokens(asked: _Asked) -> Reply:
    memory = asked.backend.memory
    problem = first(count_problems(asked.body, asked.request.headers, memory))
    if problem is not None:
        return refused(problem, "openai", asked.number)
    counted = count_input(asked.body, memory)
    return _told(asked, "openai", {"object": "response.input_tokens", "input_tokens": counted})


def _told(asked: _Asked, vendor: str, body: _Body | Problem) -> Reply:
    if isinstance(body, Problem):
        return refused(body, vendor, asked.number)
    return Reply(status=200, headers=vendor_headers(vendor, asked.number), body=body)


def _models(request: RecordedRequest, name: str | None, number: int, backend: Backend) -> Reply:
    dialect = request.dialect
    names = DEFAULT_MODELS[dialect] if backend.models is None else backend.models
    body: dict[str, Any] | Problem
    if name is not None:
        name = unquote(name)
        body = model_reply(name, dialect)
        if name not in names:
            body = Problem(message=f"The model '{name}' does not exist", status=404)
    else:
        claude = dialect == "claude"
        body = claude_page(names, request.query) if claude else openai_list(names)
    if isinstance(body, Problem):
        return refused(body, dialect, number)
    return Reply(status=200, headers=vendor_headers(dialect, number), body=body)


_POSTS = {
    "/chat/completions": _chat,
    "/embeddings": _embeddings,
    "/messages": _chat,
    "/messages/count_tokens": _count_tokens,
    "/responses": _chat,
    "/responses/input_tokens": _input_tokens,
}
