"""``chat_many`` on a Dask cluster of worker processes, one of which is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from termai_http import (
    APIConnectionError,
    AuthenticationError,
    ChatRequest,
    ConfigurationError,
    InvalidRequestError,
    chat_many,
)
from termai_http.testing import RecordedRequest, Server, Status

if TYPE_CHECKING:
    import distributed

KEY = "sk-dask-0123456789abcdef"
# Not one that each test begins without: the workers have the environment of their beginning.
VARIABLE = "DASK_TEST_KEY"
MODEL = "gpt-5.5"
WORKERS, THREADS = 2, 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """A cluster of two processes with four threads each, which have the key."""
    # Not before: with it, exceptions are pickled with their causes, in the whole process.
    import distributed

    os.environ[VARIABLE] = KEY
    try:
        with distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=THREADS,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as made:
            yield made
    finally:
        del os.environ[VARIABLE]


@pytest.fixture
def dask(cluster: distributed.LocalCluster) -> Iterator[distributed.Client]:
    """A Dask client; it waits until as many workers are there as at the beginning."""
    import distributed

    with distributed.Client(cluster) as made:
        made.wait_for_workers(WORKERS, timeout=60)
        yield made


@pytest.fixture(autouse=True)
def served(termai_server: Server) -> Server:
    """A server that the caller's environment names, and the workers' does not."""
    return termai_server


class Gate:
    """Holds back the answers to prompts that begin with "held" until it is opened."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = 0
        self._open = False

    def __call__(self, request: RecordedRequest) -> None:
        """Hold back the answer to a request whose prompt says so."""
        if request.prompt.startswith("held"):
            with self._changed:
                self._waiting += 1
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: self._open, 60)

    def wait_for(self, many: int) -> None:
        """Wait until so many are held back."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting >= many, 60)

    def open(self) -> None:
        """Hold back no more."""
        with self._changed:
            self._open = True
            self._changed.notify_all()


def ask(prompts: list[Any], dask: distributed.Client, **options: Any) -> Any:
    """Begin a batch on the cluster."""
    executor = dask.get_executor(pure=False)
    return chat_many(prompts, model=MODEL, executor=executor, api_key_env=VARIABLE, **options)


def test_every_answer_is_to_its_own_prompt(dask: distributed.Client, served: Server) -> None:
    """Replies of both vendors come in order, and no worker has more connections than threads."""
    prompts: list[Any] = [f"prompt {number}" for number in range(60)]
    prompts[7] = ChatRequest(model="claude-opus-5-5", messages="prompt 7")
    replies = list(ask(prompts, dask))
    assert [reply.text for reply in replies] == [f"You said: prompt {n}" for n in range(60)]
    assert {reply.provider for reply in replies} == {"openai", "claude"}
    keys = {request.headers.get("authorization") for request in served.requests}
    assert keys == {f"Bearer {KEY}", None}
    assert len(served.connections) <= WORKERS * THREADS


@pytest.mark.parametrize("how", [{"pure": False}, {}, {"pure": True}])
def test_equal_prompts_are_each_asked(
    how: dict[str, bool], dask: distributed.Client, served: Server
) -> None:
    """Twenty equal prompts are twenty calls, and so again, also where Dask would ask one."""
    for _ in range(2):
        served.reset()
        replies = chat_many(
            ["same"] * 20, model=MODEL, executor=dask.get_executor(**how), api_key_env=VARIABLE
        )
        assert {reply.text for reply in replies} == {"You said: same"}
        assert len(served.requests) == 20


def test_an_error_is_a_value_or_raised(dask: distributed.Client, served: Server) -> None:
    """An item's error is the same as in this process, as a value and raised."""
    served.fail_when(lambda request: Status(401) if request.prompt == "two" else None)
    one, two, three = ask(["one", "two", "three"], dask, return_exceptions=True)
    assert (one.text, three.text) == ("You said: one", "You said: three")
    assert isinstance(two, AuthenticationError)
    assert (two.status_code, two.attempts) == (401, 1)
    with pytest.raises(AuthenticationError) as caught:
        list(ask(["one", "two"], dask))
    assert [reply.text for reply in caught.value.done.values()] == ["You said: one"]  # type: ignore[attr-defined]


def test_a_local_class_travels(dask: distributed.Client) -> None:
    """Dask sends a class of a function or a notebook along, and so its output is parsed there."""

    class City(TypedDict):
        name: str

    (reply,) = ask([ChatRequest(model=MODEL, messages="Ulm", output=City)], dask)
    assert isinstance(reply.parsed["name"], str)


def test_what_cannot_be_pickled_is_an_items_error(
    dask: distributed.Client, served: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails alone, and the rest goes on."""
    locked = ChatRequest(model=MODEL, messages="a", extra={"lock": threading.Lock()})
    with caplog.at_level("CRITICAL"):
        refused, answered = ask([locked, "b"], dask, return_exceptions=True)
    assert isinstance(refused, InvalidRequestError)
    assert "item cannot travel" in str(refused)
    assert answered.text == "You said: b"
    assert len(served.requests) == 1


def test_a_dask_client_is_no_executor(dask: distributed.Client) -> None:
    """The error says how to get one."""
    with pytest.raises(ConfigurationError, match=r"executor=client\.get_executor\(pure=False\)"):
        chat_many(["hi"], model=MODEL, executor=dask)


def test_a_worker_that_is_killed_loses_nothing(dask: distributed.Client, served: Server) -> None:
    """What it had in the middle of a call is asked again by another, and every reply is right."""
    gate = Gate()
    served.fail_when(gate)
    prompts = [f"held {number}" for number in range(WORKERS * THREADS)]
    prompts += [f"free {number}" for number in range(20)]
    pids = dask.run(os.getpid)
    batch = ask(prompts, dask)

    def kill_one() -> None:
        gate.wait_for(WORKERS * THREADS)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        gate.open()

    killer = threading.Thread(target=kill_one)
    killer.start()
    replies = list(batch)
    killer.join()
    assert [reply.text for reply in replies] == [f"You said: {prompt}" for prompt in prompts]
    asked = [request.prompt for request in served.requests]
    assert len([prompt for prompt in asked if prompt.startswith("held")]) >= len(prompts[:8]) + 4
    dask.wait_for_workers(WORKERS, timeout=60)


def test_an_item_whose_workers_all_die_is_its_own_error(
    cluster: distributed.LocalCluster, dask: distributed.Client, served: Server
) -> None:
    """Dask gives it up after some, and the item's error says that it may have been paid."""
    gate = Gate()
    served.fail_when(gate)
    pids = dask.run(os.getpid)
    allowed, cluster.scheduler.allowed_failures = cluster.scheduler.allowed_failures, 0

    def kill_all() -> None:
        gate.wait_for(1)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        gate.open()

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        (lost,) = ask(["held"], dask, return_exceptions=True)
    finally:
        killer.join()
        cluster.scheduler.allowed_failures = allowed
    assert isinstance(lost, APIConnectionError)
    assert "workers that took this item died" in str(lost)
    assert lost.maybe_billed


@pytest.mark.parametrize("how", ["shutdown", "close"])
def test_a_cluster_that_goes_away_ends_the_batch(
    how: str, dask: distributed.Client, served: Server
) -> None:
    """An executor that is shut down, or whose client is closed, is told, with what is done."""
    gate = Gate()
    served.fail_when(gate)
    executor = dask.get_executor(pure=False)
    batch = chat_many(["a", "held"], model=MODEL, executor=executor, api_key_env=VARIABLE)
    first = next(batch)
    gate.wait_for(1)
    if how == "close":
        dask.close()
    else:
        executor.shutdown(wait=False)
    with pytest.raises(ConfigurationError, match="executor is shut down") as caught:
        next(batch)
    gate.open()
    assert caught.value.done[0] is first  # type: ignore[attr-defined]
    again = chat_many(["b"], model=MODEL, executor=executor, return_exceptions=True)
    with pytest.raises(ConfigurationError, match="executor is shut down"):
        next(again)
