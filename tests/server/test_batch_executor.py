"""``chat_many`` on executors: threads, processes, and what may travel to them."""

from __future__ import annotations

import contextvars
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypedDict

import attrs
import pytest

import termai_http
from termai_http import (
    APIConnectionError,
    AuthenticationError,
    CallCancelled,
    CancelToken,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    DeadlineExceeded,
    HttpClientConfig,
    InvalidRequestError,
    MissingKeyError,
    RetryConfig,
    TermaiHttpError,
    _batch_task,
    _batch_work,
    chat_many,
)
from termai_http._ambient import time_limit
from termai_http._batch_task import _cores, _here, carry_out
from termai_http.contrib.breaker import CircuitBreaker
from termai_http.testing import RecordedRequest, Server, Silent, Status

KEY = "sk-executor-0123456789abcdef"
MODEL = "gpt-5.5"
# Python 3.12 and later warn of a fork beside threads; the server has some.
FORKS = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
KINDS = [
    pytest.param("threads"),
    pytest.param("spawn"),
    pytest.param("forkserver"),
    pytest.param("fork", marks=FORKS),
]


@pytest.fixture(autouse=True)
def served(termai_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Let the environment name a server, and hold the key in a variable of its own only."""
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("TEAM_KEY", KEY)
    return termai_server


@contextmanager
def executor(kind: str, workers: int = 2) -> Iterator[Executor]:
    """Give an executor whose workers have the key: a fork server has the environment of before."""
    if kind == "threads":
        with ThreadPoolExecutor(workers) as threads:
            yield threads
        return
    setting = f"import os; os.environ['TEAM_KEY'] = {KEY!r}"
    context = multiprocessing.get_context(kind)
    with ProcessPoolExecutor(workers, context, exec, (setting,)) as processes:
        yield processes


class Posting(ThreadPoolExecutor):
    """Pickles what it is given, keeps the bytes, and carries it out as another process would."""

    def __init__(self) -> None:
        super().__init__(2)
        self.posted: list[bytes] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Pickle a call, and make it from its pickle."""
        self.posted.append(pickle.dumps((fn, args, kwargs)))
        return super().submit(_open, self.posted[-1])


def _open(posted: bytes) -> Any:
    call, args, kwargs = pickle.loads(posted)
    _here.pop(args[0].batch, None)
    return pickle.loads(pickle.dumps(call(*args, **kwargs)))


class Flawed(Executor):
    """Ends every call with an exception of its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return what failed."""
        future: Future[Any] = Future()
        future.set_exception(self.error)
        return future


class Inline(Executor):
    """Carries out a call before it returns."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return what is done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Lost(Flawed):
    """Looks like a Dask executor whose client was closed, and which lost its futures."""

    def __init__(self) -> None:
        self._client = SimpleNamespace(status="closed")
        self._shutdown = False
        self._futures = [SimpleNamespace(status="cancelled")]

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return what never ends."""
        return Future()


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_to_its_own_prompt(kind: str, served: Server) -> None:
    """Replies come in the order of the prompts, over a connection for each worker."""
    prompts = [f"prompt {number}" for number in range(40)]
    with executor(kind) as pool:
        replies = list(chat_many(prompts, model=MODEL, executor=pool, api_key_env="TEAM_KEY"))
    assert [reply.text for reply in replies] == [f"You said: {prompt}" for prompt in prompts]
    assert {request.headers["authorization"] for request in served.requests} == {f"Bearer {KEY}"}
    assert len(served.connections) <= 2


def test_equal_prompts_are_each_asked(served: Server) -> None:
    """Ten equal prompts are ten calls."""
    with executor("spawn", 1) as pool:
        replies = list(chat_many(["same"] * 10, model=MODEL, executor=pool, api_key_env="TEAM_KEY"))
    assert len({reply.id for reply in replies}) == len(served.requests) == 10


def test_a_key_travels_by_its_name_only(served: Server) -> None:
    """The prompt stands in what is pickled, and the variable's name, and the key does not."""
    with Posting() as pool:
        (reply,) = chat_many(["carry me"], model=MODEL, executor=pool, api_key_env="TEAM_KEY")
    assert reply.text == "You said: carry me"
    (posted,) = pool.posted
    assert b"carry me" in posted
    assert b"TEAM_KEY" in posted
    assert KEY.encode() not in posted
    assert served.requests[0].headers["authorization"] == f"Bearer {KEY}"


SECRET = "sk-a-secret-that-nothing-shows-0123"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"api_key": SECRET}, "api_key= .*api_key_env="),
        ({"api_key_env": SECRET}, "name of the variable"),
        ({"api_key_env": "abcdef0123456789abcdef0123456789"}, "name of the variable"),
        ({"api_key_env": ""}, "name of the variable"),
        ({"cancel": CancelToken()}, "cancel="),
        ({"extra_headers": {"Api-Key": SECRET}}, "extra_headers .*Api-Key .*api_key_env="),
        ({"extra_headers": {"X-Api-Token": SECRET}}, "extra_headers .*X-Api-Token .*api_key_env="),
        ({"extra_query": {"key": SECRET}}, "extra_query .*key .*api_key_env="),
        ({"base_url": f"https://user:{SECRET}@localhost/v1"}, "base_url .*user name or password"),
    ],
)
def test_what_must_not_travel_is_refused_at_the_call(options: dict[str, Any], word: str) -> None:
    """The error names the way out, and never shows what may be a key."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(TermaiHttpError, match=word) as caught:
        chat_many(["hi"], model=MODEL, executor=pool, **options)
    assert isinstance(caught.value, (ConfigurationError, InvalidRequestError))
    assert "0123" not in str(caught.value)


def test_a_client_does_not_travel() -> None:
    """``client=`` is refused, and ``initialize()`` named."""
    with (
        ThreadPoolExecutor(1) as pool,
        termai_http.client_with_config(HttpClientConfig()) as client,
        pytest.raises(ConfigurationError, match=r"client= .*initialize\(\)"),
    ):
        chat_many(["hi"], model=MODEL, executor=pool, client=client)


def test_a_proxys_login_does_not_travel() -> None:
    """A configuration that holds a password is refused, and the password not shown."""
    termai_http.initialize(HttpClientConfig(proxies={"https": f"http://me:{SECRET}@proxy:3128"}))
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigurationError, match="login") as caught:
        chat_many(["hi"], model=MODEL, executor=pool)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", [4, Server, ThreadPoolExecutor])
def test_what_is_no_executor_is_refused(given: object, served: Server) -> None:
    """Anything but an executor is refused at the call."""
    with pytest.raises(ConfigurationError, match=r"executor must be a concurrent\.futures"):
        chat_many(["hi"], model=MODEL, executor=given)  # type: ignore[arg-type]
    assert served.requests == []


def test_an_error_is_a_value_with_all_that_it_has(served: Server) -> None:
    """What failed in another process is the same error here, in its place."""
    served.fail_when(lambda request: Status(401) if request.prompt == "two" else None)
    with executor("spawn", 1) as pool:
        one, two, three = chat_many(
            ["one", "two", "three"],
            model=MODEL,
            executor=pool,
            api_key_env="TEAM_KEY",
            return_exceptions=True,
        )
    assert (one.text, three.text) == ("You said: one", "You said: three")
    assert isinstance(two, AuthenticationError)
    assert (two.status_code, two.attempts, two.provider) == (401, 1, "openai")
    assert two.request_id is not None


def test_an_error_is_raised_with_what_is_done(served: Server) -> None:
    """The first item that fails ends all, and its error carries the replies that are there."""
    served.fail_when(lambda request: Status(401) if request.prompt == "two" else None)
    replies: list[ChatResponse] = []
    with executor("spawn", 1) as pool, pytest.raises(AuthenticationError) as caught:
        replies.extend(
            chat_many(["one", "two"], model=MODEL, executor=pool, api_key_env="TEAM_KEY")
        )
    assert caught.value.done == {0: replies[0]}  # type: ignore[attr-defined]


def test_a_key_that_a_worker_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable, and the process that has none."""
    with executor("spawn", 1) as pool:
        pid = pool.submit(os.getpid).result()
        monkeypatch.setenv("LATE_KEY", KEY)
        (late,) = chat_many(
            ["hi"], model=MODEL, executor=pool, api_key_env="LATE_KEY", return_exceptions=True
        )
        (none,) = chat_many(["hi"], model=MODEL, executor=pool, return_exceptions=True)
    assert isinstance(late, MissingKeyError)
    assert "variable LATE_KEY, which api_key_env= names, is not set" in str(late)
    assert f"process {pid}" in str(late)
    assert isinstance(none, MissingKeyError)
    assert "OPENAI_API_KEY is not set" in str(none)
    assert f"process {pid}" in str(none)


def test_calls_go_where_those_of_the_caller_go(
    served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's base URL and configuration hold in the workers, whatever theirs say."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    termai_http.initialize(HttpClientConfig(user_agent="Travels/1"))
    with executor("spawn", 1) as pool:
        pool.submit(os.getpid).result()
        monkeypatch.setenv("OPENAI_BASE_URL", served.openai_url)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", served.claude_url)
        for model in (MODEL, "claude-opus-5-5"):
            (reply,) = chat_many(["hi"], model=model, executor=pool, api_key_env="TEAM_KEY")
            assert reply.text == "You said: hi"
    assert {request.headers["user-agent"] for request in served.requests} == {"Travels/1"}


CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_tools_and_outputs_travel(served: Server) -> None:
    """A function as a tool may be local, since nobody calls it; parsed outputs come back."""

    def weather(city: str) -> str:
        """Tell the weather of a city."""
        raise AssertionError(city)

    with executor("spawn", 1) as pool:
        requests = [
            ChatRequest(model=MODEL, messages="warm?", tools=[weather]),
            ChatRequest(model="claude-opus-5-5", messages="Ulm", output=CITY),
        ]
        called, parsed = chat_many(requests, executor=pool, api_key_env="TEAM_KEY")
    assert [call.name for call in called.tool_calls] == ["weather"]
    assert isinstance(parsed.parsed["name"], str)
    assert parsed.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("name", ["layers", "on_event"])
def test_what_cannot_travel_is_named(served: Server, name: str) -> None:
    """A listener, or a description of a layer, of which no other process knows."""

    class Local(CircuitBreaker):
        pass

    given: Any = [Local()] if name == "layers" else lambda event: None
    with executor("spawn", 1) as pool, pytest.raises(InvalidRequestError, match=f"{name}="):
        list(chat_many(["a"], model=MODEL, executor=pool, api_key_env="TEAM_KEY", **{name: given}))
    assert served.requests == []


def test_a_local_class_is_refused_for_processes(served: Server) -> None:
    """What no other process can find is an item's error, nothing is sent, and the rest goes on."""

    class Local(TypedDict):
        name: str

    requests = [
        ChatRequest(model=MODEL, messages="a", output=Local),
        ChatRequest(model=MODEL, messages="b"),
    ]
    with executor("spawn", 1) as pool:
        local, plain = chat_many(
            requests, executor=pool, api_key_env="TEAM_KEY", return_exceptions=True
        )
    assert isinstance(local, InvalidRequestError)
    assert "item cannot travel" in str(local)
    assert "output=" in str(local)
    assert not local.maybe_billed
    assert plain.text == "You said: b"
    assert len(served.requests) == 1


def test_a_reply_that_cannot_come_back_may_have_been_billed() -> None:
    """Where the item can travel and its reply cannot, the error says that it was asked."""
    error = TypeError("cannot pickle '_thread.lock' object")
    (failed,) = chat_many(["hi"], model=MODEL, executor=Flawed(error), return_exceptions=True)
    assert isinstance(failed, InvalidRequestError)
    assert "reply cannot travel back" in str(failed)
    assert failed.maybe_billed


def test_an_exception_of_another_kind_is_raised_as_it_is() -> None:
    """What is neither an error of ours nor of pickling ends the batch by itself."""
    with pytest.raises(TypeError, match="an error of somebody"):
        list(
            chat_many(
                ["hi"],
                model=MODEL,
                executor=Flawed(TypeError("an error of somebody")),
                return_exceptions=True,
            )
        )


def test_a_process_that_dies_breaks_the_pool_with_what_is_done(served: Server) -> None:
    """The error says so, its cause is the executor's own, and the replies that came are there."""
    came, go = threading.Event(), threading.Event()
    served.fail_when(lambda request: hold(request, came, go))
    with executor("spawn", 1) as pool:
        pid = pool.submit(os.getpid).result()
        batch = chat_many(
            ["one", "held", "three"], model=MODEL, executor=pool, api_key_env="TEAM_KEY"
        )
        first = next(batch)
        killer = threading.Thread(target=kill_when, args=(came, pid, go))
        killer.start()
        with pytest.raises(APIConnectionError, match=r"executor broke \(BrokenProcessPool\)") as it:
            next(batch)
        killer.join()
        assert it.value.done == {0: first}  # type: ignore[attr-defined]
        assert type(it.value.__cause__).__name__ == "BrokenProcessPool"
        assert it.value.maybe_billed
        with pytest.raises(APIConnectionError, match="executor broke"):
            list(chat_many(["again"], model=MODEL, executor=pool, return_exceptions=True))


def hold(request: RecordedRequest, came: threading.Event, go: threading.Event) -> None:
    """Hold back the answer to one prompt."""
    if request.prompt == "held":
        came.set()
        assert go.wait(60)


def kill_when(came: threading.Event, pid: int, go: threading.Event) -> None:
    """Kill a process when it waits for its answer."""
    assert came.wait(60)
    os.kill(pid, signal.SIGKILL)
    go.set()


@pytest.mark.parametrize("kind", ["threads", "spawn"])
def test_an_executor_that_is_shut_down(kind: str, served: Server) -> None:
    """It is a mistake of the program, said so, also where errors are values."""
    with executor(kind, 1) as pool:
        pass
    batch = chat_many(["hi"], model=MODEL, executor=pool, return_exceptions=True)
    with pytest.raises(
        ConfigurationError, match=r"executor is shut down.*after shutdown"
    ) as caught:
        next(batch)
    assert caught.value.done == {}  # type: ignore[attr-defined]
    assert served.requests == []


def test_an_executor_that_is_shut_down_meanwhile(served: Server) -> None:
    """What it cancelled ends the batch, with what is done."""
    came, go = threading.Event(), threading.Event()
    served.fail_when(lambda request: hold(request, came, go))
    with executor("threads", 1) as pool:
        batch = chat_many(
            ["one", "held", "three"], model=MODEL, executor=pool, api_key_env="TEAM_KEY"
        )
        first = next(batch)
        assert came.wait(60)
        pool.shutdown(wait=False, cancel_futures=True)
        go.set()
        with pytest.raises(ConfigurationError, match="shut down: it cancelled an item") as caught:
            list(batch)
        assert caught.value.done[0] is first  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "read"), [(list, 4), (tuple, 4), (iter, 1)])
def test_what_is_at_hand_is_begun_before_a_result_is_given(
    kind: Any, read: int, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list is read ahead however slow the machine is; an iterator may have to wait itself."""
    monkeypatch.setattr(_batch_work, "_BRISK", -1.0)
    items = kind(["a", "b", "c", "d", "e"])
    batch = chat_many(items, model=MODEL, max_workers=2, executor=Inline(), api_key_env="TEAM_KEY")
    assert next(batch).text == "You said: a"
    assert len(served.requests) == read
    assert len(list(batch)) == 4


def test_an_executor_that_loses_its_items_is_not_waited_for() -> None:
    """Where Dask ends and says nothing of some items, the batch ends all the same."""
    batch = chat_many(["hi"], model=MODEL, executor=Lost(), return_exceptions=True)
    with pytest.raises(ConfigurationError, match="shut down: it ended without a word"):
        next(batch)


def test_replies_come_as_they_are_done(served: Server) -> None:
    """With ``as_completed`` what is done first comes first, whatever its number."""
    came, go = threading.Event(), threading.Event()
    served.fail_when(lambda request: hold(request, came, go))
    with executor("spawn", 2) as pool:
        batch = chat_many(
            ["held", "two", "three"],
            model=MODEL,
            executor=pool,
            api_key_env="TEAM_KEY",
            as_completed=True,
        )
        pairs = [next(batch), next(batch)]
        go.set()
        pairs += batch
    texts = {number: reply.text for number, reply in pairs}
    assert texts == {0: "You said: held", 1: "You said: two", 2: "You said: three"}
    assert pairs[2][0] == 0


def test_a_deadline_for_all_holds(served: Server) -> None:
    """What the executor has not done by then is an error in its place, and its calls end too."""
    served.fail_when(lambda request: Silent() if request.prompt != "one" else None)
    with executor("threads", 2) as pool:
        one, *late = chat_many(
            ["one", "two", "three", "four", "five"],
            model=MODEL,
            executor=pool,
            api_key_env="TEAM_KEY",
            total_timeout=1.0,
            return_exceptions=True,
        )
    assert one.text == "You said: one"
    assert {type(error) for error in late} == {DeadlineExceeded}


@pytest.mark.skipif(os.name == "nt", reason="there a wait hears of Ctrl-C when it ends")
def test_ctrl_c_ends_the_calls_of_threads(served: Server) -> None:
    """It is raised with what is done, and the executor's threads are free at once."""
    came = threading.Event()

    def silence(request: RecordedRequest) -> Silent | None:
        if request.prompt != "two":
            return None
        came.set()
        return Silent()

    served.fail_when(silence)
    replies: list[ChatResponse] = []
    interrupter = threading.Thread(target=interrupt_when, args=(came,))
    interrupter.start()
    with executor("threads", 1) as pool:
        batch = chat_many(["one", "two"], model=MODEL, executor=pool, api_key_env="TEAM_KEY")
        with pytest.raises(KeyboardInterrupt) as caught:
            replies.extend(batch)
        # It ends with the time of this test where the call still runs.
        pool.shutdown()
    interrupter.join()
    assert [reply.text for reply in caught.value.done.values()] == ["You said: one"]  # type: ignore[attr-defined]
    assert _here == {}


def interrupt_when(came: threading.Event) -> None:
    """Press Ctrl-C."""
    main = threading.main_thread().ident
    assert came.wait(60)
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def test_context_and_client_are_the_callers_in_the_same_process(served: Server) -> None:
    """On threads a call sees the caller's context variables, and counts on its client."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    seen = []
    user.set("ada")
    with (
        termai_http.client().listening(lambda event: seen.append(user.get())),
        executor("threads") as pool,
    ):
        list(chat_many(["a", "b"], model=MODEL, executor=pool, api_key_env="TEAM_KEY"))
    assert set(seen) == {"ada"}
    assert termai_http.stats().calls.total_requests == 2


def test_a_process_keeps_few_clients(served: Server) -> None:
    """It has one for a configuration, the last few of them, and closes the others."""
    with Posting() as pool:
        for seconds in (11, 12, 13, 14, 15, 11, 15):
            termai_http.close()
            termai_http.initialize(HttpClientConfig(timeout=seconds, retry=RetryConfig()))
            list(chat_many(["hi"], model=MODEL, executor=pool, api_key_env="TEAM_KEY"))
    # 11 was pushed out by 15, and 12 by 11.
    assert [config.timeout for config in _cores._kept] == [13, 14, 11, 15]
    assert len(served.connections) == 6
    assert all(lent.users == 0 for lent in _cores._kept.values())


def test_a_task_shows_neither_prompt_nor_options() -> None:
    """What an executor logs of a call that it lost holds no prompt."""
    with Posting() as pool:
        list(
            chat_many(
                ["the prompt"],
                model=MODEL,
                executor=pool,
                api_key_env="TEAM_KEY",
                extra_headers={"X-Team": "blue"},
            )
        )
    call, (task,), _ = pickle.loads(pool.posted[0])
    assert call is carry_out
    assert task.number == 0
    assert "the prompt" not in repr(task)
    assert "blue" not in repr(task)


def test_a_limit_around_the_batch_holds_elsewhere(served: Server) -> None:
    """A call in another process ends by the limit of the request that asked for it."""
    served.fail_when(lambda request: Silent())
    with Posting() as pool, time_limit(0.3):
        batch = chat_many(
            ["hi"], model=MODEL, executor=pool, return_exceptions=True, api_key_env="TEAM_KEY"
        )
        (error,) = batch
    assert isinstance(error, DeadlineExceeded)


def test_a_task_that_is_begun_too_late_is_not_called(served: Server) -> None:
    """What an executor kept for long is not sent after the end of the time or of the batch."""
    with Posting() as pool:
        batch = chat_many(
            ["hi"], model=MODEL, executor=pool, total_timeout=60, api_key_env="TEAM_KEY"
        )
        assert len(list(batch)) == 1
    task = pickle.loads(pool.posted[0])[1][0]
    assert isinstance(carry_out(task), CallCancelled)
    assert task.end - time.time() <= 60
    late = attrs.evolve(task, batch="another", end=time.time() - 1)
    error = carry_out(late)
    assert isinstance(error, DeadlineExceeded)
    assert not error.maybe_billed
    assert len(served.requests) == 1


def test_a_process_that_was_interrupted_begins_no_more(
    served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal's Ctrl-C reaches a pool's processes too, which would go on with the next item."""
    with Posting() as pool:
        list(chat_many(["hi"], model=MODEL, executor=pool, api_key_env="TEAM_KEY"))
    task = attrs.evolve(pickle.loads(pool.posted[0])[1][0], batch="interrupted")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_batch_task, "send_chat", interrupt)
        with pytest.raises(KeyboardInterrupt):
            carry_out(task)
    assert isinstance(carry_out(task), CallCancelled)
    assert len(served.requests) == 1


@pytest.mark.parametrize("error", [RuntimeError("a hook broke"), NotImplementedError("no")])
def test_an_error_of_somebody_elses_is_not_the_executors(error: Exception, served: Server) -> None:
    """It is raised as it is, as without an executor."""
    with pytest.raises(type(error), match=str(error)) as caught:
        list(chat_many(["hi"], model=MODEL, executor=Flawed(error)))
    assert caught.value is error
