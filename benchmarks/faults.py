"""The fault catalogue, played with ours and with peers: ``python -m benchmarks.faults``.

The rows are those of ``tests/faults``, and so are the checks: the same functions that the suite
runs with ours are played with a plain ``requests.Session`` with urllib3's ``Retry``, and with the
official openai SDK. Each row runs in a process of its own, two at a time, and is killed after
40 seconds, so that a client that hangs, leaks or dies harms no other row.

It needs the package with its ``test`` extra, and ``benchmarks/requirements.txt`` (the openai SDK
is a dependency of this module only)::

    pip install -e '.[test]' -r benchmarks/requirements.txt
    python -m benchmarks.faults --only F16,F17
    python -m benchmarks.faults --write docs/faults.rst
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tests.faults import catalogue
from tests.faults.drivers import OpenAIDriver, RequestsDriver, TermaiDriver
from tests.faults.harness import Bench, Broken, Driver, Peer, RawServer, Row, good_reply

from ._fault_table import CLIENTS, PATIENCE, Result, brief, page

_ROOT = Path(__file__).parents[1]
_DRIVERS: dict[str, type[Driver]] = {
    "ours": TermaiDriver,
    "requests": RequestsDriver,
    "openai": OpenAIDriver,
}
_ROWS = 88
_AT_A_TIME = 2
# Some of its rows do far more than others can be asked for.
_PATIENCE_WITH_OURS = 120
_STREAM = (
    b'data: {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.5", '
    b'"choices": [{"index": 0, "delta": {"content": "fine"}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
# What these rows promise is what the bench looks for after every row.
_ABOUT_SECRETS = {"F85": "the pickled error", "F86": "a traceback with locals"}
# What stands in these changes what a client does.
_AMBIENT = re.compile(
    r"_proxy$|_ca_bundle$|^ssl_cert_|^sslkeylogfile$|^netrc$|^openai_|^anthropic_|^termai_",
    re.IGNORECASE,
)


def _warm_up(driver: Driver) -> None:
    """Make a good call and a good stream, so that no row waits for an import."""
    answers = iter(
        [
            good_reply(),
            good_reply(body=_STREAM).replace(b"application/json", b"text/event-stream"),
        ]
    )

    def answer(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(next(answers))

    server = RawServer(answer)
    client = driver.open()
    driver.chat(client, server.url, 20.0)
    list(driver.stream(client, server.url, 20.0))
    driver.close(client)
    server.close()


def play(row: Row, client: str) -> Result:
    """Play a row in this process.

    Args:
        row: What to play.
        client: A key of ``CLIENTS``.
    """
    driver: Driver = _DRIVERS[client]()
    _warm_up(driver)
    bench = Bench(driver)
    kept, text = True, ""
    try:
        with bench:
            row.play(bench)
    except Broken as broken:
        kept, text = False, str(broken)
    except BaseException as error:
        traceback.print_exc()
        kept, text = False, type(error).__name__
    found = Result(kept=kept, text=text, flaws=bench.flaws)
    if kept and found.shown_in(_ABOUT_SECRETS.get(row.number)):
        return attrs.evolve(found, kept=False, text="secret shown")
    return found


def _environment() -> dict[str, str]:
    left = {name: value for name, value in os.environ.items() if not _AMBIENT.search(name)}
    return {**left, "PYTHONPATH": str(_ROOT)}


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process, and what it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def play_apart(row: Row, client: str) -> Result:
    """Play a row in a process of its own.

    Args:
        row: What to play.
        client: A key of ``CLIENTS``.
    """
    process = subprocess.Popen(  # noqa: S603 - this interpreter, and names of our own
        [sys.executable, "-m", "benchmarks.faults", "--play", row.number, "--client", client],
        cwd=_ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        patience = _PATIENCE_WITH_OURS if client == "ours" else PATIENCE
        told, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        return Result(kept=False, text=f"not over after {patience} s", hung=True)
    finally:
        _kill(process)
        process.communicate()
    lines = told.splitlines()
    if process.returncode != 0 or not lines:
        return Result(kept=False, text=f"the process died with status {process.returncode}")
    return Result(**json.loads(lines[-1]))


def _play_all(rows: Sequence[Row], clients: Sequence[str]) -> dict[tuple[str, str], Result]:
    """Play each row with each client, two at a time, and print each result as it comes."""
    work = [
        (row, client)
        for row, client in itertools.product(rows, clients)
        if (client == "ours" or row.peers) and (not row.linux or sys.platform == "linux")
    ]
    found: dict[tuple[str, str], Result] = {}
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        results = pool.map(lambda pair: play_apart(*pair), work)
        for (row, client), result in zip(work, results, strict=True):
            found[row.number, client] = result
            print(f"{row.number}  {CLIENTS[client]:<17}  {brief(result)}", flush=True)
    return found


def _versions(clients: Sequence[str]) -> str:
    packages = ["requests", "urllib3", *(["openai"] if "openai" in clients else [])]
    return ", ".join(
        [
            f"{platform.system()}, Python {platform.python_version()}",
            *(f"{package} {importlib.metadata.version(package)}" for package in packages),
        ]
    )


def _arguments() -> argparse.Namespace:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=summary)
    parser.add_argument("--only", metavar="F16,F17", help="these rows only")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="%(default)s, or some of them")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the table, of all rows")
    parser.add_argument("--play", metavar="F16", help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.clients = given.clients.split(",")
    if strangers := set(given.clients) - set(CLIENTS):
        parser.error(f"no such client: {', '.join(sorted(strangers))}")
    if given.write and (given.only or given.clients != list(CLIENTS)):
        parser.error("--write wants all rows and all clients")
    if "openai" in given.clients and importlib.util.find_spec("openai") is None:
        parser.error("the openai SDK is not here: pip install -r benchmarks/requirements.txt")
    return given


def _play_here(number: str, client: str) -> None:
    """Play one row, print its result as the last line, and leave no thread to wait for."""
    row = next(row for row in catalogue.rows() if row.number == number)
    print(f"\n{json.dumps(attrs.asdict(play(row, client)))}", flush=True)
    os._exit(0)


def main() -> None:
    """Play, print, and write the table."""
    given = _arguments()
    if given.play:
        _play_here(given.play, given.client)
    wanted = given.only.split(",") if given.only else None
    rows = [row for row in catalogue.rows() if wanted is None or row.number in wanted]
    found = _play_all(rows, given.clients)
    print(f"{len(rows)} of {_ROWS} rows; {_versions(given.clients)}")
    if given.write:
        given.write.parent.mkdir(exist_ok=True)
        given.write.write_text(page(rows, _ROWS, found, _versions(given.clients)), "utf-8")
    ours = [result for (_, client), result in found.items() if client == "ours"]
    if any(result.flaws or not result.kept for result in ours):
        sys.exit("termai_http did not keep every promise")


if __name__ == "__main__":
    main()
