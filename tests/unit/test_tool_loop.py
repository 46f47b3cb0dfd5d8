"""The loop of ``run_tools`` with scripted replies: what is called, kept, told and raised."""

from __future__ import annotations

import datetime as dt
import enum
import json
import logging
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs
import pydantic
import pytest

from termai_http import (
    BadRequestError,
    CallCancelled,
    CancelToken,
    ChatRequest,
    ChatResponse,
    DeadlineExceeded,
    Image,
    InvalidRequestError,
    Message,
    TermaiHttpError,
    ToolCall,
    ToolRun,
    ToolSpec,
    Usage,
)
from termai_http._options import CallOptions
from termai_http._tool_loop import RunRequest, ToolLoop

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
USER = {"role": "user", "content": "hello"}


def asking(name: str, text: str = "{}", id: str = "call_1") -> ToolCall:
    """Return a call of a tool as a model makes it."""
    try:
        arguments = json.loads(text)
    except ValueError:
        arguments = None
    return ToolCall(id=id, name=name, arguments=arguments, text=text)


def reply(
    *calls: ToolCall, text: str = "", finish_reason: str = "stop", parsed: Any = None
) -> ChatResponse:
    """Return a reply that asks for tools, or says something."""
    turn: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name}} for call in calls
        ]
    return ChatResponse(
        text=text,
        finish_reason="tool_calls" if calls and finish_reason == "stop" else finish_reason,
        usage=Usage(input_tokens=10, output_tokens=2, cached_tokens=1),
        model="m",
        id="r",
        request_id=None,
        status_code=200,
        headers={},
        attempts=1,
        elapsed=0.0,
        raw={},
        provider="openai",
        tool_calls=calls,
        messages=(turn,) if calls or text else (),
        parsed=parsed,
    )


class Script:
    """Answers in turn, and notes what it was asked.

    Args:
        answers: Replies, errors in their place, or functions that are called for one.
    """

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[ChatRequest, CallOptions]] = []
        self.now = 100.0

    def answer(self, request: ChatRequest, options: CallOptions) -> ChatResponse | TermaiHttpError:
        """Answer as the script says."""
        self.asked.append((request, options))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer() if callable(answer) else answer

    def clock(self) -> float:
        """Return the time, which passes where a test says so."""
        return self.now

    def run(
        self,
        tools: Any,
        *,
        prompt: Any = "hello",
        max_rounds: Any = 10,
        exchange: Any = None,
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> ToolRun | TermaiHttpError:
        """Run the loop; returns what it returns."""
        chat = ChatRequest(model="m", messages=prompt, tools=tools, extra=extra or {})
        request = RunRequest(chat=chat, max_rounds=max_rounds, exchange=exchange)
        return ToolLoop(self.answer, self.clock, request, CallOptions(**options)).run()

    def done(self, tools: Any, **options: Any) -> ToolRun:
        """Run the loop to its end."""
        run = self.run(tools, **options)
        assert isinstance(run, ToolRun)
        return run


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def returning(value: Any) -> Callable[[], Any]:
    """Return a tool that returns so."""

    def tool() -> Any:
        return value

    return tool


def raising(error: BaseException) -> Callable[[], Any]:
    """Return a tool that raises."""

    def tool() -> Any:
        raise error

    return tool


def answers(run: ToolRun) -> list[Mapping[str, Any]]:
    """Return the tool messages of an exchange."""
    return [message for message in run.messages if message.get("role") == "tool"]


def test_results_go_back_until_the_model_asks_for_nothing() -> None:
    """Each reply and each result joins the exchange, in order, and the last reply is the run's."""
    first = reply(asking("add", '{"a": 1, "b": 2}', "c1"), asking("add", '{"a": 5}', "c2"))
    script = Script(first, reply(asking("add", '{"a": 9}', "c3")), reply(text="done"))
    run = script.done([add])
    results = [
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "tool", "tool_call_id": "c2", "content": "6"},
        {"role": "tool", "tool_call_id": "c3", "content": "10"},
    ]
    turns = [one.messages[0] for one in run.replies]
    assert list(run.messages) == [USER, turns[0], *results[:2], turns[1], results[2], turns[2]]
    assert [list(request.messages) for request, _ in script.asked] == [
        list(run.messages[:1]),
        list(run.messages[:4]),
        list(run.messages[:6]),
    ]
    assert (run.text, str(run), run.finished, run.pending) == ("done", "done", True, ())
    assert run.reply is run.replies[-1]
    assert run.usage == Usage(input_tokens=30, output_tokens=6, cached_tokens=3)
    assert [(one.call.id, one.result, one.error) for one in run.calls] == [
        ("c1", 3, None),
        ("c2", 6, None),
        ("c3", 10, None),
    ]


def test_functions_run_one_after_the_other_in_this_thread() -> None:
    """No thread is made, and a call of a reply begins when the one before it ended."""
    import threading

    seen: list[Any] = []

    def tool(n: int) -> None:
        seen.append((n, threading.current_thread()))

    calls = [asking("tool", f'{{"n": {n}}}', f"c{n}") for n in range(5)]
    Script(reply(*calls), reply(text="done")).done([tool])
    assert seen == [(n, threading.current_thread()) for n in range(5)]


class Colour(str, enum.Enum):
    """Text and an Enum at once."""

    RED = "red"


@attrs.frozen
class Place:
    """An attrs class."""

    name: str
    at: dt.date = dt.date(2026, 11, 24)


@dataclass
class Spot:
    """A dataclass."""

    place: Place


class Model(pydantic.BaseModel):
    """A model of pydantic's."""

    at: dt.date = dt.date(2026, 11, 24)


IMAGE = Image(PNG)
RESULTS = [
    ("as it is", "as it is"),
    ("", ""),
    ("half \ud83d", "half \ufffd"),
    (Colour.RED, "red"),
    (None, "null"),
    (True, "true"),
    (1.5, "1.5"),
    ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
    (["a", "b"], '["a","b"]'),
    ({1: 2}, '{"1":2}'),
    (dt.datetime(2026, 11, 24, 12, tzinfo=dt.timezone.utc), '"2026-11-24T12:00:00Z"'),
    (Place("x"), '{"at":"2026-11-24","name":"x"}'),
    ([Spot(Place("x"))], '[{"place":{"at":"2026-11-24","name":"x"}}]'),
    (Model(), '{"at":"2026-11-24"}'),
    ({"m": [Model()]}, '{"m":[{"at":"2026-11-24"}]}'),
    ({dt.date(2026, 1, 1): Path("a")}, '{"2026-01-01":"a"}'),
    (IMAGE, [IMAGE]),
    ([IMAGE, "text", {"a": 1}], [IMAGE, "text", '{"a":1}']),
    (("text", IMAGE), ["text", IMAGE]),
    (reply(text="of another chat"), "of another chat"),
]


@pytest.mark.parametrize(("result", "content"), RESULTS, ids=lambda value: repr(value)[:30])
def test_every_kind_of_result_is_told(result: Any, content: Any) -> None:
    """Text stays, images become parts, anything else is JSON."""
    run = Script(reply(asking("tool")), reply(text="done")).done([returning(result)])
    (answer,) = answers(run)
    assert answer.keys() == {"role", "tool_call_id", "content"}
    assert ordered(answer["content"]) == content
    assert run.calls[0].result is result


def ordered(content: Any) -> Any:
    """Return an object's JSON with its names in order: that of attrs classes is none's to say."""
    if not isinstance(content, str) or not content.startswith(("{", "[")):
        return content
    read = json.loads(content)
    return json.dumps(read, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


class Mute(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        (raising(ValueError("no such city")), "ValueError: no such city"),
        (raising(KeyError("x")), "KeyError: 'x'"),
        (raising(RuntimeError()), "RuntimeError"),
        (raising(Mute()), "Mute"),
        (raising(ValueError("half \ud83d")), "ValueError: half \ufffd"),
        (raising(ValueError("x" * 9000)), "ValueError: " + "x" * 3988),
        (raising(MemoryError()), "MemoryError"),
        (raising(BadRequestError("refused")), "BadRequestError: refused"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_a_function_does_wrong_is_told_to_the_model(
    tool: Callable[[], Any], says: str
) -> None:
    """An exception goes to the model as an error; the loop goes on."""
    run = Script(reply(asking("tool")), reply(text="done")).done([tool])
    (answer,) = answers(run)
    assert answer["is_error"] is True
    assert answer["content"].startswith(says)
    assert answer["content"] == run.calls[0].error
    assert (run.calls[0].result, run.text) == (None, "done")


@pytest.mark.parametrize(
    "result", [object(), float("nan"), {"a": {"b": 10**5000}}, {(1, 2): 3}, ["\ud800"]]
)
def test_a_result_that_cannot_be_told_is_kept_and_the_model_knows_of_the_call(
    result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Told of an error alone, a model would call again what was done; the caller has the result."""
    run = Script(reply(asking("tool")), reply(text="done")).done([returning(result)])
    (answer,) = answers(run)
    assert answer["is_error"] is True
    assert answer["content"].startswith("It was called and returned, but its result cannot be told")
    assert answer["content"] == run.calls[0].error
    assert run.calls[0].result is result
    assert run.calls[0].traceback is None
    assert "cannot be told" in caplog.text


def endless() -> list[Any]:
    """Return a list that holds itself."""
    made: list[Any] = []
    made.append(made)
    return made


def test_a_result_that_holds_itself_is_told_as_an_error() -> None:
    """A result without an end is an error for the model, not for the caller."""
    run = Script(reply(asking("tool")), reply(text="done")).done([returning(endless())])
    assert run.calls[0].error is not None
    assert "TypeError: The result cannot be JSON" in run.calls[0].error


def test_without_msgspec_plain_results_are_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is JSON needs no library; what is not is an error that names the extra."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    for result, content in [({"a": 1}, '{"a":1}'), (Place("x"), "termai-http[structured]")]:
        spec = ToolSpec(name="tool", parameters={}, call=lambda given, result=result: result)
        run = Script(reply(asking("tool")), reply(text="done")).done([spec])
        assert content in answers(run)[0]["content"]


def test_the_traceback_is_for_the_caller_alone() -> None:
    """The model never sees where it failed; the caller does, from the function on."""
    run = Script(reply(asking("tool")), reply(text="done")).done([raising(ValueError("oh"))])
    (called,) = run.calls
    assert called.traceback is not None
    assert "raise error" in called.traceback
    assert "termai_http" not in called.traceback.replace(__file__, "")
    assert "File" not in answers(run)[0]["content"]


def test_a_failing_function_is_logged_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names the tool and the class of what it raised, and no text of the exchange."""
    with caplog.at_level(logging.DEBUG, "termai_http"):
        Script(reply(asking("tool")), reply(text="x")).done([raising(ValueError("secret"))])
    assert [record.getMessage() for record in caplog.records] == ["The tool tool raised ValueError"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (asking("other"), "ArgumentsError: There is no tool 'other'. There are: add."),
        (asking("add", '{"a": '), "ArgumentsError: The arguments are no JSON object."),
        (asking("add", '{"a": "x"}'), "ArgumentsError: a: Expected `int`, got `str`"),
        (asking("add"), "ArgumentsError: a is missing. The arguments are: a, b."),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_the_model_does_wrong_is_told_to_it(call: ToolCall, says: str) -> None:
    """Calls of no such tool and with wrong arguments come back as errors; the loop goes on."""
    run = Script(reply(call), reply(text="done")).done([add])
    assert answers(run) == [
        {"role": "tool", "tool_call_id": "call_1", "content": says, "is_error": True}
    ]
    assert (run.calls[0].error, run.calls[0].traceback, run.text) == (says, None, "done")


@pytest.mark.parametrize("reason", ["length", "max_tokens", "max_output_tokens", "content_filter"])
def test_a_call_that_the_limit_of_tokens_has_cut_is_not_made(reason: str) -> None:
    """Of a reply that was cut off the last call may lack arguments; those before it are whole."""
    calls = [asking("add", '{"a": 1}', "c1"), asking("add", '{"a": 2}', "c2")]
    run = Script(reply(*calls, finish_reason=reason), reply(text="done")).done([add])
    first, second = answers(run)
    assert (first["content"], run.calls[0].result) == ("2", 2)
    assert second["is_error"] is True
    assert "cut off" in second["content"]


def test_a_model_that_never_stops_is_ended_by_max_rounds(caplog: pytest.LogCaptureFixture) -> None:
    """The last reply's calls are not made but pending; nothing of the exchange is lost."""
    script = Script(reply(asking("add", '{"a": 1}')))
    with caplog.at_level(logging.WARNING, "termai_http"):
        run = script.done([add], max_rounds=3)
    assert len(script.asked) == len(run.replies) == 3
    assert [call.name for call in run.pending] == ["add"]
    assert (run.finished, run.text, len(run.calls)) == (False, "", 2)
    assert run.messages[-1] is run.reply.messages[0]
    assert "3 rounds" in caplog.text


def test_one_round_calls_nothing() -> None:
    """With ``max_rounds=1`` the run is a chat, its calls left to the caller."""
    run = Script(reply(asking("add", '{"a": 1}'))).done([add], max_rounds=1)
    assert (len(run.pending), run.calls) == (1, ())
    assert Script(reply(text="hi")).done([add], max_rounds=1).finished


def test_tools_without_a_function_are_the_callers() -> None:
    """A reply that asks for them, too, ends the run after the functions were called."""
    calls = [
        asking("vendor", "{}", "c1"),
        asking("add", '{"a": 1}', "c2"),
        asking("described", "{}", "c3"),
        asking("no_such", "{}", "c4"),
    ]
    script = Script(reply(*calls))
    described = ToolSpec(name="described", parameters={"type": "object"})
    run = script.done([add, {"name": "vendor", "input_schema": {}}, described])
    assert [call.id for call in run.pending] == ["c1", "c3"]
    assert [answer["tool_call_id"] for answer in answers(run)] == ["c2", "c4"]
    assert (run.finished, len(script.asked)) == (False, 1)


def test_a_spec_with_a_function_gets_the_arguments_as_they_came() -> None:
    """What a ToolSpec calls takes one dict, whatever its schema says."""
    spec = ToolSpec(name="raw", parameters={"type": "object"}, call=lambda given: sorted(given))
    run = Script(reply(asking("raw", '{"b": 1, "a": 2}')), reply(text="done")).done([spec])
    assert answers(run)[0]["content"] == '["a","b"]'


def test_a_paused_turn_goes_on() -> None:
    """Claude's ``pause_turn`` is sent back as it is, until the turn ends."""
    paused = reply(text="searching", finish_reason="pause_turn")
    script = Script(paused, reply(text="found"))
    run = script.done([add])
    assert (run.text, len(script.asked), run.finished) == ("found", 2, True)
    assert run.messages[1] == paused.messages[0]
    run = Script(paused).done([add], max_rounds=2)
    assert (len(run.replies), run.finished) == (2, False)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("required", None),
        ("add", None),
        ({"type": "function", "function": {"name": "add"}}, None),
        ({"type": "any"}, None),
        ({"type": "tool", "name": "add"}, None),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        ("auto", "auto"),
        ("none", "none"),
        ({"type": "auto"}, {"type": "auto"}),
    ],
    ids=str,
)
def test_a_forced_call_is_forced_once(first: Any, later: Any) -> None:
    """A ``tool_choice`` that forces a call would force it in every round, so only the first has it.

    It may come as a parameter or in ``extra_body``.
    """
    for given in ({"extra": {"tool_choice": first}}, {"extra_body": {"tool_choice": first}}):
        script = Script(reply(asking("add", '{"a": 1}')), reply(text="done"))
        script.done([add], **given)
        sent = [
            {**request.extra, **(options.extra_body or {})} for request, options in script.asked
        ]
        assert [one.get("tool_choice") for one in sent] == [first, later]


def test_an_error_of_a_round_is_the_runs_and_the_exchange_is_kept() -> None:
    """Where a later round fails the list has all that came, ready to go on from."""
    error = BadRequestError("no")
    exchange: list[Any] = ["before"]
    script = Script(reply(asking("add", '{"a": 1}')), error)
    assert script.run([add], exchange=exchange) is error
    assert exchange[0] == "before"
    assert [message["role"] for message in exchange[1:]] == ["user", "assistant", "tool"]
    run = Script(reply(text="done")).done([add], prompt=exchange[1:])
    assert [message["role"] for message in run.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


@pytest.mark.parametrize(
    "prompt",
    [
        [dict(USER)],
        [Message("user", "hello")],
        [IMAGE, "hello"],
    ],
    ids=["messages", "Message", "parts"],
)
def test_the_exchange_may_be_the_prompt_itself(prompt: list[Any]) -> None:
    """A list of messages that is both grows by what the run adds, and can be used again."""
    script = Script(reply(asking("add", '{"a": 1}')), reply(text="done"))
    run = script.done([add], prompt=prompt, exchange=prompt)
    assert prompt == list(run.messages)
    prompt.append(USER)
    again = Script(reply(text="yes")).done([add], prompt=prompt, exchange=prompt)
    assert prompt == list(again.messages)
    assert [message["role"] for message in prompt].count("user") == 2


def test_the_prompt_is_not_changed() -> None:
    """A list that is only the prompt stays as it is."""
    prompt = [dict(USER)]
    Script(reply(asking("add", '{"a": 1}')), reply(text="done")).done([add], prompt=prompt)
    assert prompt == [USER]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes_and_leaves_a_whole_exchange(
    failure: type[BaseException],
) -> None:
    """A Ctrl-C in a function ends the run; every call of the reply has an answer all the same."""
    exchange: list[Any] = []
    calls = [
        asking("add", '{"a": 1}', "c1"),
        asking("tool", "{}", "c2"),
        asking("add", '{"a": 2}', "c3"),
    ]
    with pytest.raises(failure):
        Script(reply(*calls)).run([add, raising(failure())], exchange=exchange)
    done, broken, left = exchange[2:]
    assert done == {"role": "tool", "tool_call_id": "c1", "content": "2"}
    assert (broken["tool_call_id"], broken["is_error"]) == ("c2", True)
    assert "Interrupted" in broken["content"]
    assert (left["tool_call_id"], left["is_error"]) == ("c3", True)
    assert "Not called" in left["content"]


def test_each_round_gets_what_is_left_of_the_timeout() -> None:
    """The timeout is the whole run's: what functions and rounds take is gone."""
    script = Script(reply(asking("slow")), reply(asking("slow")), reply(text="done"))

    def slow() -> None:
        script.now += 2.0

    run = script.done([slow], timeout=10.0)
    assert [options.timeout for _, options in script.asked] == pytest.approx([10.0, 8.0, 6.0])
    assert [called.seconds for called in run.calls] == pytest.approx([2.0, 2.0])


def test_without_a_timeout_each_round_has_the_clients() -> None:
    """None is handed on, round after round."""
    script = Script(reply(asking("add", '{"a": 1}')), reply(text="done"))
    script.done([add])
    assert [options.timeout for _, options in script.asked] == [None, None]


def test_no_round_and_no_function_begins_after_the_deadline() -> None:
    """A function that used up the time is the last thing that happens; its result is kept."""
    script = Script(reply(asking("slow", "{}", "c1"), asking("slow", "{}", "c2")))
    exchange: list[Any] = []

    def slow() -> str:
        script.now += 11.0
        return "late"

    error = script.run([slow], timeout=10.0, exchange=exchange)
    assert isinstance(error, DeadlineExceeded)
    assert (error.model, error.provider, error.attempts, error.maybe_billed) == (
        *("m", "openai", 1),
        True,
    )
    assert error.elapsed == pytest.approx(11.0)
    assert len(script.asked) == 1
    assert exchange[2] == {"role": "tool", "tool_call_id": "c1", "content": "late"}
    assert "Not called" in exchange[3]["content"]


def test_a_deadline_that_passes_after_the_last_function_ends_the_run() -> None:
    """With nothing left no further round is asked for."""
    script = Script(reply(asking("slow")))

    def slow() -> None:
        script.now += 11.0

    assert isinstance(script.run([slow], timeout=10.0), DeadlineExceeded)
    assert len(script.asked) == 1


def test_a_reply_that_came_in_time_is_the_run() -> None:
    """Time that passed during the last round matters only to that round."""
    script = Script(lambda: (setattr(script, "now", 200.0), reply(text="done"))[1])
    assert script.done([add], timeout=10.0).text == "done"


def test_a_cancelled_run_calls_nothing_more() -> None:
    """A token that a function, or another thread, cancels ends the run at the next step."""
    token = CancelToken()
    script = Script(reply(asking("stop", "{}", "c1"), asking("add", '{"a": 1}', "c2")))
    exchange: list[Any] = []
    error = script.run(
        [ToolSpec(name="stop", parameters={}, call=lambda given: token.cancel()), add],
        cancel=token,
        exchange=exchange,
    )
    assert isinstance(error, CallCancelled)
    assert [message["tool_call_id"] for message in exchange[2:]] == ["c1", "c2"]
    assert "Not called" in exchange[3]["content"]
    script = Script(reply(text="never"))
    assert isinstance(script.run([add], cancel=token), CallCancelled)
    assert script.asked == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tools": None}, "needs tools="),
        ({"tools": [5]}, r"tools\[0\]"),
        ({"tools": [add], "max_rounds": 0}, "max_rounds must be a whole number"),
        ({"tools": [add], "max_rounds": True}, "max_rounds must be a whole number"),
        ({"tools": [add], "max_rounds": "3"}, "max_rounds must be a whole number"),
        ({"tools": [add], "max_rounds": None}, "max_rounds must be a whole number"),
        ({"tools": [add], "exchange": ()}, "exchange must be a list"),
        ({"tools": [add], "prompt": ""}, "prompt is empty"),
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(given: dict[str, Any], says: str) -> None:
    """Wrong arguments are refused before anything is sent or put into the exchange."""
    script = Script(reply(text="never"))
    exchange: list[Any] = []
    with pytest.raises(InvalidRequestError, match=says):
        script.run(**{"exchange": exchange, **given})
    assert (script.asked, exchange) == ([], [])


def test_no_tools_make_a_chat() -> None:
    """An empty list is no mistake of whoever chooses tools at run time."""
    script = Script(reply(text="hi"))
    assert script.done([]).text == "hi"
    assert script.asked[0][0].tools == ()


def test_functions_are_looked_at_once_for_all_rounds() -> None:
    """Every round is asked with the same specs, made at the begin."""
    script = Script(reply(asking("add", '{"a": 1}')), reply(text="done"))
    script.done([add])
    first, second = (request.tools for request, _ in script.asked)
    assert first is second
    assert isinstance(first[0], ToolSpec)  # type: ignore[index]


def test_the_last_reply_is_what_was_asked_for() -> None:
    """``parsed`` is the last reply's, and ``output=`` goes with every round."""
    script = Script(reply(asking("add", '{"a": 1}')), reply(text="5", parsed=5))
    run = script.done([add])
    assert run.parsed == 5


def test_a_run_in_a_tool_is_told_by_its_text() -> None:
    """What a run or a chat inside a function came to is its text, not all that the vendor sent."""
    inner = Script(reply(text="inner")).done([add])
    run = Script(reply(asking("tool")), reply(text="done")).done([returning(inner)])
    assert answers(run)[0]["content"] == "inner"


def test_a_function_cannot_change_the_exchange() -> None:
    """It gets its arguments to keep; what the model wrote goes on as it was."""
    call = asking("tool", '{"given": {"a": [1]}}')

    def tool(given: dict[str, Any]) -> None:
        given["a"].append(2)
        given["b"] = 3

    raw = ToolSpec(name="raw", parameters={}, call=lambda given: given["given"].clear())
    for tools in ([tool], [attrs.evolve(raw, name="tool")]):
        run = Script(reply(call), reply(text="done")).done(tools)
        assert run.calls[0].error is None
        assert call.arguments == {"given": {"a": [1]}}


def test_a_run_shows_no_text_and_can_be_pickled() -> None:
    """Its repr has neither prompt nor results, and a copy of it is equal."""
    first = reply(asking("add", '{"a": 41}'))
    run = Script(first, reply(text="the answer")).done([add], prompt="hello there")
    for secret in ("hello there", "the answer", "42", "41"):
        assert secret not in repr(run)
    assert pickle.loads(pickle.dumps(run)) == run


def threads_of(run: Callable[[int], None], number: int) -> Iterator[Any]:
    """Yield running threads."""
    import threading

    for at in range(number):
        thread = threading.Thread(target=run, args=(at,))
        thread.start()
        yield thread


def test_many_threads_may_run_the_same_tools() -> None:
    """Runs share their functions and nothing else."""
    wrong: list[Any] = []

    def work(number: int) -> None:
        for n in range(20):
            script = Script(reply(asking("add", f'{{"a": {number}, "b": {n}}}')), reply(text="ok"))
            run = script.done(TOOLS)
            if answers(run)[0]["content"] != str(number + n):
                wrong.append(run)

    for thread in list(threads_of(work, 8)):
        thread.join()
    assert wrong == []


TOOLS = [add]
