"""The loop of ``run_tools``: ask, call what the model asks for, tell it the results, ask again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ._log import log
from ._numbers import is_whole
from ._options import CallOptions
from ._specs import ToolSpec
from ._tool_results import content_of, told, trace_of
from ._tool_run import CalledTool, ToolRun
from ._tools import ArgumentsError, as_tools, names_of
from .errors import CallCancelled, DeadlineExceeded, InvalidRequestError, TermaiHttpError
from .models import CUT_OFF, PAUSED, ChatRequest, ChatResponse, ToolCall, as_messages

__all__ = ["RunRequest", "ToolLoop"]

# What ends a reply before it is whole: its limit of tokens, or a filter.
_CUT = CUT_OFF | {"content_filter"}
# Types of a ``tool_choice`` that make the model call something; as text, all but these words do.
_FORCING = frozenset({"any", "custom", "function", "tool"})
_FREE = frozenset({"auto", "none"})
_LEAST_LEFT = 0.001


def _check_tools(instance: Any, attribute: attrs.Attribute[Any], value: ChatRequest) -> None:
    if value.tools is None:
        raise InvalidRequestError("run_tools() needs tools=, a list of functions.")


def _check_rounds(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not is_whole(value, 1):
        raise InvalidRequestError(
            f"max_rounds must be a whole number of at least 1, not {value!r}."
        )


def _check_exchange(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, list):
        raise InvalidRequestError(
            "exchange must be a list, which gets the messages of the run, or None, "
            f"not {type(value).__name__}."
        )


@attrs.frozen(kw_only=True)
class RunRequest:
    """What ``run_tools()`` is asked for; the fields are its arguments.

    Raises:
        InvalidRequestError: One of them is wrong.
    """

    chat: ChatRequest = attrs.field(repr=False, validator=_check_tools)
    max_rounds: int = attrs.field(validator=_check_rounds)
    exchange: list[Any] | None = attrs.field(repr=False, validator=_check_exchange)

    @property
    def model(self) -> str:
        """The model asked."""
        return self.chat.model


class ToolLoop:
    """One run: the exchange so far, and what was called.

    Args:
        ask: Sends one chat.
        clock: Returns the monotonic time.
        request: What is asked for.
        options: The call's options; ``timeout`` is that of the whole run.

    Raises:
        InvalidRequestError: Prompt or tools are wrong.
    """

    def __init__(
        self,
        ask: Callable[[ChatRequest, CallOptions], ChatResponse | TermaiHttpError],
        clock: Callable[[], float],
        request: RunRequest,
        options: CallOptions,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._started = clock()
        self._chat = attrs.evolve(request.chat, tools=as_tools(request.chat.tools))
        self._options = options
        self._most = request.max_rounds
        self._exchange = exchange = request.exchange
        self._functions, self._others = _sorted_out(self._chat.tools or ())
        prompt = self._chat.messages
        # A copy: a list of parts becomes the content of a message, and goes on being the caller's.
        messages = as_messages([*prompt] if isinstance(prompt, list) else prompt)
        self._messages: list[Mapping[str, Any]] = [*messages]
        self._replies: list[ChatResponse] = []
        self._calls: list[CalledTool] = []
        if exchange is not None:
            # It may be the prompt itself, also one of parts, which nothing can be appended to.
            begin = 0 if exchange is prompt else len(exchange)
            exchange[begin:] = self._messages

    def run(self) -> ToolRun | TermaiHttpError:
        """Ask until the model asks for nothing that can be called; returns the error that ends it.

        What is no ``Exception`` passes through, with the exchange kept.
        """
        while True:
            reply = self._stopped() or self._ask(*self._next())
            if isinstance(reply, TermaiHttpError):
                return reply
            self._replies.append(reply)
            last = len(self._replies) >= self._most
            pending = [call for call in reply.tool_calls if last or not self._can_call(call)]
            calls = [] if last else [call for call in reply.tool_calls if self._can_call(call)]
            if error := self._answer(reply, calls):
                return error
            goes_on = calls or reply.finish_reason == PAUSED
            if last and (pending or goes_on):
                log.warning("run_tools ended after %d rounds; the model asks for more", self._most)
            if last or pending or not goes_on:
                return self._result(reply, pending)

    def _result(self, reply: ChatResponse, pending: Sequence[ToolCall]) -> ToolRun:
        return ToolRun(
            reply=reply,
            messages=tuple(self._messages),
            replies=tuple(self._replies),
            calls=tuple(self._calls),
            pending=tuple(pending),
        )

    def _next(self) -> tuple[ChatRequest, CallOptions]:
        """Return the next round's request and options."""
        request = attrs.evolve(self._chat, messages=list(self._messages))
        options = self._options
        if options.timeout is not None:
            options = attrs.evolve(options, timeout=max(self._left(options.timeout), _LEAST_LEFT))
        if not self._replies:
            return request, options
        # Whoever forces a call means the first round's: forced in each, they would never end.
        extra_body = None if options.extra_body is None else _unforced(options.extra_body)
        return (
            attrs.evolve(request, extra=_unforced(request.extra)),
            attrs.evolve(options, extra_body=extra_body),
        )

    def _left(self, timeout: float) -> float:
        return self._started + timeout - self._clock()

    def _stopped(self) -> TermaiHttpError | None:
        """Return the error that ends the run between two steps; None where it may go on."""
        error: TermaiHttpError
        timeout, cancel = self._options.timeout, self._options.cancel
        if getattr(cancel, "cancelled", False) is True:
            error = CallCancelled("The run was cancelled.")
        elif timeout is not None and self._left(timeout) <= 0:
            error = DeadlineExceeded(f"The run's deadline of {timeout:g} s passed.")
        else:
            return None
        if self._replies:
            error.provider = self._replies[-1].provider
        error.model = self._chat.model
        error.attempts = sum(reply.attempts for reply in self._replies)
        error.elapsed = self._clock() - self._started
        error.maybe_billed = bool(self._replies)
        return error

    def _answer(self, reply: ChatResponse, calls: Sequence[ToolCall]) -> TermaiHttpError | None:
        """Call what a reply asks for; returns the error that ends the run before the last."""
        results: list[Mapping[str, Any]] = [
            _message(call, "Not called: the run was ended.", failed=True) for call in calls
        ]
        try:
            for at, call in enumerate(calls):
                if error := self._stopped():
                    return error
                results[at] = _message(call, "Interrupted: its effect is unknown.", failed=True)
                cut = reply.finish_reason in _CUT and call is reply.tool_calls[-1]
                results[at] = self._call(call, cut)
        finally:
            # Also where something ends the run: with calls left open nobody could go on from it.
            new = [*reply.messages, *results]
            self._messages += new
            if self._exchange is not None:
                self._exchange += new
        return None

    def _call(self, call: ToolCall, cut: bool) -> Mapping[str, Any]:
        """Call one function and return the message of its result.

        What goes wrong with it is for the model to read, but for what is no ``Exception``.
        """
        begun = self._clock()
        result: Any = None
        error = trace = None
        content: Any
        try:
            # A copy: the exchange goes on with what the model wrote, whatever a function does.
            result = self._function(call, cut)(copy.deepcopy(call.arguments))
        except Exception as raised:
            content = error = told(raised)
            trace = trace_of(raised)
            if trace is not None:
                log.warning("The tool %s raised %s", call.name, type(raised).__name__)
        else:
            content, error = _said(call, result)
        called = CalledTool(
            call=call,
            result=result,
            error=error,
            traceback=trace,
            seconds=self._clock() - begun,
        )
        self._calls.append(called)
        return _message(call, content, failed=error is not None)

    def _can_call(self, call: ToolCall) -> bool:
        """Tell whether a call is not the caller's: there may be no such tool at all."""
        return call.name not in self._others

    def _function(self, call: ToolCall, cut: bool) -> Callable[..., Any]:
        function = self._functions.get(call.name)
        if function is None:
            names = ", ".join(self._functions) or "none"
            raise ArgumentsError(f"There is no tool {call.name!r}. There are: {names}.")
        if cut:
            raise ArgumentsError("The reply was cut off before this call was whole: not called.")
        if call.arguments is None:
            raise ArgumentsError("The arguments are no JSON object.")
        return function


def _sorted_out(tools: Sequence[Any]) -> tuple[dict[str, Callable[..., Any]], frozenset[str]]:
    """Return the functions by name, and the names of what only the caller can answer."""
    functions = {}
    others: set[str] = set()
    for tool in tools:
        if isinstance(tool, ToolSpec) and tool.call is not None:
            functions[tool.name] = tool.call
        else:
            others.update(names_of(tool))
    return functions, frozenset(others)


def _unforced(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return fields of a body without a ``tool_choice`` that forces a call."""
    choice = fields.get("tool_choice")
    forced = isinstance(choice, str) and choice not in _FREE
    if isinstance(choice, Mapping):
        forced = choice.get("type") in _FORCING
    if not forced:
        return fields
    rest = {name: value for name, value in fields.items() if name != "tool_choice"}
    if isinstance(choice, Mapping) and "disable_parallel_tool_use" in choice:
        kept = choice["disable_parallel_tool_use"]
        rest["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": kept}
    return rest


def _said(call: ToolCall, result: Any) -> tuple[Any, str | None]:
    """Return what the model is told of a result, and that once more where it is an error."""
    try:
        return content_of(result), None
    except Exception as unsaid:
        log.warning("What the tool %s returned cannot be told to the model", call.name)
        # Without the first words it would be called again.
        error = f"It was called and returned, but its result cannot be told: {told(unsaid)}"
        return error, error


def _message(call: ToolCall, content: Any, *, failed: bool) -> dict[str, Any]:
    message = {"role": "tool", "tool_call_id": call.id, "content": content}
    return {**message, "is_error": True} if failed else message
