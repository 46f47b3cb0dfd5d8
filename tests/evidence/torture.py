"""Lets every fallible call of ten scenarios fail once, one after the other, as curl's tests do.

First each scenario runs whole, and the calls are counted: socket, TLS, name resolution, polling,
lock, thread. Then it runs once for every call and every way in which that call can fail.
``python -m tests.evidence.torture`` prints one line and exits with 1 where a scenario ends with
anything but success or an error of ours (a MemoryError passes as itself), or anything is left
behind, or the same client cannot make a good call afterwards.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import trustme

from termai_http import Client, ClientClosed, RetryConfig, TermaiHttpError, TruncatedResponse
from termai_http._sweeper import sweeper

from . import answers, support
from .sabotage import Failure, Saboteur
from .server import ServerProcess
from .support import KEY, MODELS, Result

_HOST = "model.example"
_TIMEOUT = 5.0
_OVERRUN = 0.25
_HANG_SECONDS = 60.0
_EVERY = 7


class _Wrong(AssertionError):
    """A scenario that ended well, but with something else than it must."""


@attrs.frozen(kw_only=True)
class _Scenario:
    """One thing to do.

    Attributes:
        act: Does it, on a client.
        before: What is done first, unharmed.
        url: Whom it talks to: ``"plain"``, ``"tls"`` or ``"host"``.
        word: What the server is to do.
        config: What its client is configured with.
        ends_with: The error that it ends with when nothing is sabotaged; None for success.
        goes_on: Whether the client can make another call.
    """

    act: Callable[[_Torture, Client, _Scenario], None]
    before: Callable[[_Torture, Client, _Scenario], None] = lambda torture, client, scenario: None
    url: str = "plain"
    word: str = "good"
    config: dict[str, Any] = attrs.field(factory=dict)
    ends_with: type[TermaiHttpError] | None = None
    goes_on: bool = True


class _Torture:
    def __init__(
        self, result: Result, server: ServerProcess, saboteur: Saboteur, bundle: str
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.calls = 0
        self._result = result
        self._saboteur = saboteur
        self._bundle = bundle
        self._proxy = server.proxy_url
        self._urls = {"plain": server.url, "tls": server.tls_url, "host": f"https://{_HOST}"}
        self._numbers = iter(range(10**9))

    def play(self, name: str, scenario: _Scenario, every: int, offset: int) -> None:
        """Run a scenario whole, and then with each of its failures, or some of them."""
        # Once before it counts: what is loaded at first use is loaded by then.
        for _ in range(2):
            self._run(name, scenario, None)
        self.calls += len(self._saboteur.names)
        for failure in self._saboteur.failures()[offset % every :: every]:
            self._run(name, scenario, failure)

    def _run(self, name: str, scenario: _Scenario, failure: Failure | None) -> None:
        faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)
        sweeper.stop()
        sweeper.start_over()
        before = support.descriptors()
        client = support.client(timeout=_TIMEOUT, stream_timeout=_TIMEOUT, **self._config(scenario))
        scenario.before(self, client, scenario)
        self._saboteur.prepare(failure)
        self._result.now = f"{name}, {failure or 'whole'}"
        begun = time.monotonic()
        seen = self._outcome(client, scenario)
        self._saboteur.forget_traceback()
        if failure is not None:
            self._result.now += f" at {self._saboteur.fired or 'no place'}"
        took = time.monotonic() - begun
        where = f"{self._result.now}: {seen}"
        self._judge(seen, scenario, failure, where)
        self._result.must(took <= _TIMEOUT + _OVERRUN, f"{where} took {took:.2f} s")
        self._look(client, scenario, where)
        client.close()
        del client
        self._saboteur.error = None
        gc.collect()
        left = support.descriptors()
        strange = {fd: what for fd, what in left.items() if fd not in before}
        self._result.must(not strange, f"{where}: left open {strange}")

    def _config(self, scenario: _Scenario) -> dict[str, Any]:
        if scenario.url == "plain":
            return scenario.config
        proxies = {"https": self._proxy} if scenario.url == "host" else None
        return {**scenario.config, "ca_bundle": self._bundle, "proxies": proxies}

    def _outcome(self, client: Client, scenario: _Scenario) -> str:
        """Run it; returns the name of what it ended with, ``"success"`` for nothing."""
        try:
            with self._saboteur.armed():
                scenario.act(self, client, scenario)
        except (TermaiHttpError, _Wrong) as error:
            return type(error).__name__ + (f": {error}" if isinstance(error, _Wrong) else "")
        except MemoryError as error:
            return "MemoryError" if error is self._saboteur.error else f"untyped: {error!r}"
        except Exception as error:
            return f"untyped: {error!r}"
        return "success"

    def _judge(self, seen: str, scenario: _Scenario, failure: Failure | None, where: str) -> None:
        if failure is None:
            expected = scenario.ends_with.__name__ if scenario.ends_with else "success"
            self._result.must(seen == expected, where)
            return
        if not self._saboteur.fired:
            self.outcomes["not reached"] += 1
            return
        self._result.must(not seen.startswith(("untyped", "_Wrong")), where)
        known = seen in ("success", "MemoryError")
        self.outcomes[seen if known else "typed error"] += 1

    def _look(self, client: Client, scenario: _Scenario, where: str) -> None:
        """Look at what is left, and make a good call."""
        gc.collect()
        held = support.in_use(client)
        self._result.must(not held, f"{where}: {held} left")
        try:
            self.chat(client, scenario, "good")
        except Exception as error:
            fine = not scenario.goes_on and isinstance(error, ClientClosed)
            self._result.must(fine, f"{where}: and then {error!r}")
        else:
            self._result.must(scenario.goes_on, f"{where}: and then a reply")

    def chat(self, client: Client, scenario: _Scenario, word: str | None = None) -> None:
        """Make a call and check its reply."""
        prompt = f"{word or scenario.word} {next(self._numbers)}"
        reply = support.ask(client, self._urls[scenario.url], prompt)
        if reply.text != prompt:
            raise _Wrong(f"{prompt}: the reply to {reply.text}")

    def stream(self, client: Client, scenario: _Scenario) -> tuple[Any, list[str]]:
        """Open a stream; returns it with the pieces that must come."""
        prompt = f"{scenario.word} {next(self._numbers)}"
        url = self._urls[scenario.url]
        stream = client.stream(prompt, model=MODELS[1], api_key=KEY, base_url=url)
        return stream, answers.pieces_of(prompt)

    def close(self, client: Client, scenario: _Scenario) -> None:
        """Close a client whose call, in another thread, waits for its answer."""
        reads = threading.Event()
        errors: list[BaseException] = []

        def call() -> None:
            try:
                with self._saboteur.armed():
                    self.chat(client, scenario)
            except BaseException as error:
                errors.append(error)
            finally:
                reads.set()

        self._saboteur.on_read = reads.set
        caller = threading.Thread(target=call)
        caller.start()
        try:
            reads.wait()
            client.close()
        finally:
            client.close()
            caller.join()
            self._saboteur.on_read = lambda: None
        for error in errors:
            raise error


def _chat(torture: _Torture, client: Client, scenario: _Scenario) -> None:
    torture.chat(client, scenario)


def _read(torture: _Torture, client: Client, scenario: _Scenario) -> None:
    stream, pieces = torture.stream(client, scenario)
    if list(stream) != pieces:
        raise _Wrong("other pieces than were sent")


def _leave(torture: _Torture, client: Client, scenario: _Scenario) -> None:
    stream, pieces = torture.stream(client, scenario)
    if next(stream) != pieces[0]:
        raise _Wrong("another piece than was sent")
    del stream


def _close(torture: _Torture, client: Client, scenario: _Scenario) -> None:
    torture.close(client, scenario)


_SCENARIOS = {
    "plain call": _Scenario(act=_chat),
    "reused call": _Scenario(act=_chat, before=_chat),
    "TLS call": _Scenario(act=_chat, url="tls"),
    "call through a proxy": _Scenario(act=_chat, url="host"),
    "call after a 503": _Scenario(act=_chat, word="http503"),
    "compressed reply in chunks": _Scenario(act=_chat, word="gzip"),
    "truncated reply": _Scenario(
        act=_chat,
        word="cut",
        config={"retry": RetryConfig(max_attempts=1)},
        ends_with=TruncatedResponse,
    ),
    "stream read to its end": _Scenario(act=_read, word="whole"),
    "stream left early": _Scenario(act=_leave, word="open"),
    "close() with a call in flight": _Scenario(
        act=_close, word="hold", ends_with=ClientClosed, goes_on=False
    ),
}


@contextlib.contextmanager
def _authority() -> Iterator[tuple[str, str]]:
    """Make a CA; yields the paths of the server's certificate and of the CA's own."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", _HOST)
    with tempfile.TemporaryDirectory() as folder:
        certificate, bundle = Path(folder, "server.pem"), Path(folder, "ca.pem")
        certificate.write_bytes(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes())
        authority.cert_pem.write_to_path(str(bundle))
        yield os.fspath(certificate), os.fspath(bundle)


def run(result: Result, short: bool) -> None:
    """Play every scenario with all its failures, in the short form with every seventh."""
    with _authority() as (certificate, bundle), ServerProcess(certificate) as server:
        gc.collect()
        gc.freeze()
        torture = _Torture(result, server, saboteur, bundle)
        with saboteur.at_work():
            for index, (name, scenario) in enumerate(_SCENARIOS.items()):
                torture.play(name, scenario, _EVERY if short else 1, index)
            sweeper.stop()
        sweeper.start_over()
        gc.unfreeze()
        faulthandler.cancel_dump_traceback_later()
    failures = sum(torture.outcomes.values())
    told = ", ".join(f"{number:,} {name}" for name, number in torture.outcomes.most_common())
    result.line = (
        f"{len(_SCENARIOS)} scenarios of {torture.calls:,} fallible calls, "
        f"{failures:,} failures: {told}; {result.number} flaws"
    )


saboteur = Saboteur()


def _is_expected(error: BaseException) -> bool:
    """Tell what a finalizer may raise: what was injected, and what Python's own ssl module does.

    Where ``wrap_socket`` fails it leaves its half-made socket to the collector.
    """
    half_made = isinstance(error, ResourceWarning) and "urllib3.util.ssl_:" in saboteur.fired
    return error is saboteur.error or half_made


if __name__ == "__main__":
    sys.exit(support.main(run, str(__doc__), _is_expected))
