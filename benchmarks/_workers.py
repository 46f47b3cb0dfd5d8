"""Clients in processes of their own, that are asked in turn."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ._peers import CALL_PEERS, Place
from ._stream_peers import STREAM_PEERS

__all__ = ["PYTHON", "PeerFailed", "Worker", "calling", "environment", "streaming_with"]

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("purelib", "platlib")
# Without what the .pth files of an environment load: a client's memory is its own.
PYTHON = (sys.executable, "-S")
# What stands in these changes what a client does.
_AMBIENT = re.compile(
    r"_proxy$|_ca_bundle$|^ssl_cert_|^sslkeylogfile$|^netrc$|^openai_|^anthropic_|^termai_",
    re.IGNORECASE,
)


class PeerFailed(RuntimeError):
    """A client could not do what was asked; the message says why."""


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a client is run in, without what would change what it does."""
    left = {name: value for name, value in os.environ.items() if not _AMBIENT.search(name)}
    folders = [str(_ROOT), *dict.fromkeys(sysconfig.get_path(kind) for kind in _PACKAGES)]
    return {**left, "PYTHONPATH": os.pathsep.join(folders), **more}


class Worker:
    """A process with one client, that does what it is asked.

    Args:
        arguments: What the worker is told.
        more: Variables that it is run with.
    """

    def __init__(self, arguments: list[str], more: Iterable[tuple[str, str]]) -> None:
        self._name = arguments[1]
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and names of our own
            [*PYTHON, "-m", "benchmarks._worker", *arguments],
            cwd=_ROOT,
            env=environment(dict(more)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
        )

    def ask(self, do: str, patience: float, **how: Any) -> dict[str, Any]:
        """Let it do something, and return what it tells.

        Args:
            do: A method of the worker's.
            patience: Seconds that it may take.
            how: Its arguments.

        Raises:
            PeerFailed: It died, or was not done in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        guard = threading.Timer(patience, self._process.kill)
        guard.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **how}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            guard.cancel()
        if not line:
            raise PeerFailed(f"{self._name}: left out of a table: {self._last_words(patience)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self, patience: float) -> str:
        self._process.kill()
        self._process.wait()
        self._told.seek(0)
        lines = self._told.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"not done in {patience:.0f} s"

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._told.close()


def calling(place: Place, name: str) -> Worker:
    """Start a client that makes calls."""
    arguments = ["calls", name, place.url, place.bundle, str(place.threads)]
    return Worker(arguments, CALL_PEERS[name].environment)


def streaming_with(api: str, name: str) -> Worker:
    """Start a client that streams."""
    return Worker(["streams", name, api], STREAM_PEERS[name].environment)
