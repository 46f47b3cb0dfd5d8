"""The look at the libraries: where the direct way would not work, calls go the ordinary one."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import vcr

from termai_http import Client, HttpClientConfig
from termai_http import _direct_check as module
from termai_http._answer import Answer
from termai_http._answer_head import Headers, read_head
from termai_http._direct_check import direct_works
from termai_http._route import RequestHead
from termai_http.testing import Server
from tests.contract.tools_watching import count_direct, talk

REAL = {name: getattr(module, name) for name in ("encode_head", "read_head", "begin_answer")}


@pytest.fixture(autouse=True)
def look_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what was found before, and forget afterwards what a test made of it."""
    monkeypatch.setenv("TERMAI_HTTP_DIRECT", "1")
    direct_works.cache_clear()
    yield
    direct_works.cache_clear()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings so far."""
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_it_works_with_the_libraries_that_are_here(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged, and it is looked at once a process."""
    with mock.patch.object(module, "_fault", wraps=module._fault) as looked:
        assert all(direct_works() for _ in range(3))
    assert looked.call_count == 1
    assert warnings_of(caplog) == []


def raising(failure: BaseException) -> Callable[..., Any]:
    """Return what raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise failure

    return fail


def other_head(*arguments: Any) -> RequestHead:
    """Say a head with one line more."""
    real = REAL["encode_head"](*arguments)
    return RequestHead([*real._pieces[:-1], b"\r\nX-More: 1" + real._pieces[-1]], real._names, True)


def no_fields(*arguments: Any) -> Any:
    """Read no field of an answer."""
    status, _, answer = REAL["begin_answer"](*arguments)
    return status, Headers({"x-trace": ""}), answer


def adopt_nothing(self: Answer, _: Any) -> None:
    """Leave an answer as it was made."""


def adopt_no_chunks(self: Answer, head: Any) -> None:
    """Take a body in chunks for one that ends with its connection."""
    real_adopt(self, head)
    self.chunked = False


real_adopt = Answer.adopt

BROKEN: dict[str, tuple[Any, str, Any]] = {
    "encode_head raises": (module, "encode_head", raising(AttributeError("no such name"))),
    "encode_head says more": (module, "encode_head", other_head),
    "read_head raises": (module, "read_head", raising(TypeError("changed"))),
    "begin_answer raises": (module, "begin_answer", raising(http.client.BadStatusLine("x"))),
    "begin_answer reads no field": (module, "begin_answer", no_fields),
    "adopt raises": (Answer, "adopt", raising(AttributeError("no such name"))),
    "adopt does nothing": (Answer, "adopt", adopt_nothing),
    "adopt takes no chunks": (Answer, "adopt", adopt_no_chunks),
    "rest raises": (Answer, "rest", raising(ValueError("changed"))),
    "filled raises": (RequestHead, "filled", raising(KeyError("changed"))),
    "filled says nothing": (RequestHead, "filled", lambda *_: b""),
}


@pytest.mark.parametrize("broken", sorted(BROKEN))
def test_where_it_does_not_work_calls_go_the_ordinary_way(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    """Every client's, of every face, with one warning for the process that says why."""
    monkeypatch.setattr(*BROKEN[broken])
    assert not direct_works()
    # The rest of a call does not lean on it.
    monkeypatch.undo()
    monkeypatch.setenv("TERMAI_HTTP_DIRECT", "1")
    with count_direct() as direct:
        for _ in range(2):
            with Client(HttpClientConfig(trust_env=False)) as client:
                for face in ("chat", "stream"):
                    assert talk(client, face, server.url) == ("You said: hi", 1)
        assert direct() == 0
    [told] = warnings_of(caplog)
    assert "Calls go through requests" in told
    assert "urllib3" in told


def test_the_warning_names_what_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Enough to report it: the failure, and the versions."""
    monkeypatch.setattr(module, "encode_head", raising(AttributeError("no such name")))
    assert not direct_works()
    [told] = warnings_of(caplog)
    assert "AttributeError: no such name" in told


def test_what_ends_the_process_ends_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt is no fault of the libraries, and nothing is remembered of it."""
    monkeypatch.setattr(module, "encode_head", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        direct_works()
    monkeypatch.undo()
    assert direct_works()


def test_the_answers_of_the_look_are_read_both_ways() -> None:
    """One head is read at once, and one is left to http.client; else half would go unseen."""
    assert read_head(module._CHUNKED) is not None
    assert read_head(module._FOLDED) is None


def record(server: Server, folder: Path) -> None:
    """Make the process's first client while vcrpy records, and a call."""
    recorder = vcr.VCR(filter_headers=["authorization"])
    with (
        recorder.use_cassette(str(folder / "cassette.yaml")) as recording,
        Client(HttpClientConfig(trust_env=False)) as client,
    ):
        talk(client, "chat", server.url)
        assert len(recording) == 1


def replace_endheaders(_: Server, __: Path) -> None:
    """Make the process's first client while a test has http.client replaced."""
    with (
        mock.patch.object(http.client.HTTPConnection, "endheaders"),
        Client(HttpClientConfig(trust_env=False)) as client,
    ):
        assert client.session is not None


@pytest.mark.parametrize("tool", [record, replace_endheaders])
def test_a_tool_that_is_on_at_the_first_client_spoils_nothing_for_good(
    server: Server, caplog: pytest.LogCaptureFixture, tmp_path: Path, tool: Any
) -> None:
    """Once it is off, calls go the direct way, and nobody was told that the libraries changed."""
    tool(server, tmp_path)
    with Client(HttpClientConfig(trust_env=False)) as client, count_direct() as direct:
        assert talk(client, "chat", server.url) == ("You said: hi", 1)
        assert direct() == 1
    assert warnings_of(caplog) == []
