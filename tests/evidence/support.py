"""What the scripts of evidence share: how they begin, measure, check and tell."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from termai_http import ChatResponse, Client, HttpClientConfig, RetryConfig

__all__ = [
    "FAST",
    "KEY",
    "MODELS",
    "Lateness",
    "Result",
    "ask",
    "client",
    "descriptors",
    "in_use",
    "main",
    "megabytes",
    "peak",
    "rss",
    "threads",
    "trim",
    "until",
    "without_caches",
]

KEY = "sk-canary-0123456789-abcdefghijkl"
MODELS = ("gpt-5.5", "claude-opus-5-5")
FAST = RetryConfig(base_delay=0.001, max_delay=0.002)
SWEEPER = "termai-http-sweeper"
_TUNABLES = "GLIBC_TUNABLES"
_MOST_FLAWS = 20


@attrs.define
class Result:
    """What a run came to.

    Attributes:
        line: What was seen, in one line.
        flaws: What was seen and must not be; the first of them are kept.
        number: How many there were.
        now: What is being done, for flaws that turn up beside it.
    """

    line: str = ""
    flaws: list[str] = attrs.field(factory=list)
    number: int = 0
    now: str = ""
    _lock: Any = attrs.field(factory=threading.Lock, repr=False, eq=False)

    def must(self, condition: object, seen_instead: str) -> bool:
        """Note a flaw unless the condition holds; safe from any thread."""
        if not condition:
            with self._lock:
                self.number += 1
                if len(self.flaws) < _MOST_FLAWS:
                    self.flaws.append(seen_instead)
        return bool(condition)


class _KeyWatch(logging.Handler):
    """Formats every record, so that one that cannot be is noticed, and looks for the key."""

    def __init__(self, result: Result) -> None:
        super().__init__(logging.DEBUG)
        self._result = result

    def emit(self, record: logging.LogRecord) -> None:
        self._result.must(KEY not in self.format(record), "the key stands in the logs")


@contextlib.contextmanager
def _watched(result: Result, expected: Callable[[BaseException], bool]) -> Iterator[None]:
    """Note what would only be printed: failures of finalizers and threads, and keys in logs."""
    hooks = sys.unraisablehook, threading.excepthook
    watch = _KeyWatch(result)
    root = logging.getLogger()

    def unraisable(caught: Any) -> None:
        if not expected(caught.exc_value):
            result.must(False, f"{result.now}: a finalizer raised {caught.exc_value!r}")

    def in_thread(caught: Any) -> None:
        result.must(False, f"{result.now}: a thread raised {caught.exc_value!r}")

    sys.unraisablehook, threading.excepthook = unraisable, in_thread
    root.addHandler(watch)
    try:
        yield
    finally:
        gc.collect()
        root.removeHandler(watch)
        sys.unraisablehook, threading.excepthook = hooks


def main(
    run: Callable[..., None],
    doc: str,
    expected: Callable[[BaseException], bool] = lambda error: False,
    *,
    seeded: bool = False,
) -> int:
    """Run one evidence from the command line: its flaws, and then its one line.

    Args:
        run: Fills a result, in the short form where the second argument says so.
        doc: What is said by ``--help``.
        expected: Tells what a finalizer may raise.
        seeded: Whether ``run`` takes a seed, None for one of its own, as a third argument.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a small part of the whole")
    if seeded:
        parser.add_argument("--seed", type=int, help="repeats an earlier run")
    given = vars(parser.parse_args())
    result = Result()
    begun = time.monotonic()
    with _watched(result, expected):
        run(result, **given)
    for flaw in result.flaws:
        sys.stderr.write(f"FLAW: {flaw}\n")
    if result.number > len(result.flaws):
        sys.stderr.write(f"and {result.number - len(result.flaws)} more\n")
    sys.stdout.write(f"{result.line} ({time.monotonic() - begun:.0f} s)\n")
    return 1 if result.number else 0


def client(**config: Any) -> Client:
    """Make a client with short waits that takes nothing from the environment."""
    return Client(HttpClientConfig(**{"retry": FAST, "trust_env": False, **config}))


def ask(used: Client, url: str, prompt: str, **options: Any) -> ChatResponse:
    """Send a prompt, to OpenAI's API unless ``model`` says otherwise."""
    return used.chat(
        prompt, model=options.pop("model", MODELS[0]), api_key=KEY, base_url=url, **options
    )


def in_use(used: Client) -> str:
    """Tell what a client holds though no call runs; empty where it holds nothing."""
    stats = used.stats()
    held = {
        "slots": stats.active_connections,
        "waiting": stats.waiting,
        "calls in flight": stats.calls.in_flight,
    }
    return ", ".join(f"{number} {name}" for name, number in held.items() if number)


def descriptors() -> dict[int, str]:
    """Return this process's open descriptors, each with what it is; empty where it is not told."""
    found = {}
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        # The one that lists them is gone by now.
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def threads() -> set[str]:
    """Return the names of the threads, the client's sweeper apart."""
    return {thread.name for thread in threading.enumerate() if thread.name != SWEEPER}


def without_caches() -> None:
    """Begin this process anew without the caches that the GNU C library keeps for each thread.

    They hold on to what was freed, and fill slowly; to what measures memory, that is growth. A
    process that begins with tunables of its own is left alone.
    """
    if sys.platform == "linux" and _TUNABLES not in os.environ:
        os.environ[_TUNABLES] = "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def trim() -> None:
    """Give back all memory that nothing uses."""
    gc.collect()
    # Only the GNU C library has it, and keeps so much that it is needed.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def rss() -> int:
    """Return the bytes of memory in use, after ``trim()``; 0 where it is not told."""
    trim()
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def peak() -> int:
    """Return the most bytes of memory that this process ever had in use; 0 where it is not told."""
    try:
        # Not getrusage: its figure begins with that of the process that started this one.
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]
    return int(kilobytes) * 1024


def megabytes(size: float) -> str:
    """Write a difference of sizes."""
    return f"{size / 1e6:+.2f} MB"


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Look again and again, until it holds or the time is over; for what another process does."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        if time.monotonic() > end:
            return False
        pause.wait(0.005)
    return True


class Lateness:
    """A sleeping thread beside the calls: how late it wakes is the machine's fault."""

    _NAP = 0.005

    def __init__(self) -> None:
        self._end = threading.Event()
        self._late = 0.0
        self._thread = threading.Thread(target=self._run, name="lateness", daemon=True)

    def _run(self) -> None:
        while not self._end.is_set():
            begun = time.monotonic()
            time.sleep(self._NAP)
            self._late = max(self._late, time.monotonic() - begun - self._NAP)

    def reset(self) -> None:
        """Begin anew."""
        self._late = 0.0

    def worst(self) -> float:
        """Return how late it was at worst, in seconds."""
        return self._late

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()
