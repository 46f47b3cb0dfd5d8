"""Interrupts a client at random instants, many times, and looks for what that broke.

``python -m tests.evidence.interrupts --count 10000`` prints one line and exits with 1 where a slot
was lost, a reply crossed to another call, a call failed for no reason, or anything hung.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import itertools
import random
import signal
import sys
import threading
from types import FrameType

import attrs

from termai_http import APIStatusError, Client, HttpClientConfig, RetryConfig, TermaiHttpError
from termai_http._call import active
from tests.faults.harness import Peer, RawServer, good_reply
from tests.faults.rows_process import prompt_of

_SLOTS = 2
_WORKERS = 2
_HANG_SECONDS = 60.0
_ROUNDS_A_WATCH = 10
_LONGEST_DELAY = 0.004
_LONGEST_GAP = 0.0002
# Before 3.11 an interrupt that comes while another one unwinds a with-block tears its exit away,
# and whatever lock that held stays locked: no code can be safe from it.
_SHARE_OF_PAIRS = 0.2 if sys.version_info >= (3, 11) else 0.0
_REFUSAL = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


@attrs.define
class Tally:
    """What was seen.

    Attributes:
        interrupts: Those that were sent.
        dropped: Those that fell into a finalizer, where Python drops them with a message.
        calls: Calls begun in the interrupted thread.
        beside: Calls of the threads beside it.
        crossed: Replies to another call's prompt.
        lost: Slots and calls that were still in use after the last call had ended.
        failed: Calls that failed though the server did nothing wrong.
    """

    interrupts: int = 0
    dropped: int = 0
    calls: int = 0
    beside: int = 0
    crossed: int = 0
    lost: int = 0
    failed: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing broke."""
        return not (self.crossed or self.lost or self.failed)


class _Server:
    """Repeats prompts; the first attempt of one that begins with ``retry`` is refused."""

    def __init__(self) -> None:
        self._refused: set[str] = set()
        self.meeting = threading.Barrier(_SLOTS)
        self.raw = RawServer(self._handle)

    def _handle(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            prompt = prompt_of(request)
            if prompt.startswith("retry") and prompt not in self._refused:
                self._refused.add(prompt)
                peer.send(_REFUSAL)
                continue
            if prompt.startswith("meet"):
                self.meeting.wait(_HANG_SECONDS / 2)
            peer.send(good_reply(prompt))


class Interrupter:
    """Calls in this thread, which must be the main one, and interrupts it.

    Args:
        seed: Of the instants.
    """

    def __init__(self, seed: int) -> None:
        self.tally = Tally()
        self._random = random.Random(seed)
        self._to_come = 0
        self._server = _Server()
        self._numbers = itertools.count(1)
        self._rounds = itertools.count()
        config = HttpClientConfig(
            retry=RetryConfig(base_delay=0.001, max_delay=0.002),
            max_connections=_SLOTS,
            timeout=_HANG_SECONDS / 2,
            trust_env=False,
        )
        self._client = Client(config)

    def run(self, count: int) -> Tally:
        """Interrupt so often, half of it with other threads' calls in the way."""
        before = signal.signal(signal.SIGALRM, self._interrupt), sys.unraisablehook
        sys.unraisablehook = self._count_dropped
        try:
            # What is imported at first use is imported here.
            self._chat("plain 0")
            self._chat("retry 0")
            for _ in range(count // 2):
                self._round()
                self._look()
            self._crowded(count - count // 2)
            self._look()
            self._meet()
        finally:
            signal.signal(signal.SIGALRM, before[0])
            sys.unraisablehook = before[1]
            faulthandler.cancel_dump_traceback_later()
            self._client.close()
            self._server.raw.close()
        return self.tally

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._to_come:
            self._to_come -= 1
            if self._to_come:
                signal.setitimer(signal.ITIMER_REAL, self._random.uniform(1e-6, _LONGEST_GAP))
            raise KeyboardInterrupt

    def _count_dropped(self, what: sys.UnraisableHookArgs) -> None:
        # Half-made objects of the standard library fail in their finalizers, too.
        self.tally.dropped += what.exc_type is KeyboardInterrupt

    def _round(self) -> None:
        """Send one interrupt, or a pair: the second falls into the clearing up of the first."""
        if not next(self._rounds) % _ROUNDS_A_WATCH:
            faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)
        sent = 2 if self._random.random() < _SHARE_OF_PAIRS else 1
        delay = self._random.uniform(1e-6, _LONGEST_DELAY)
        self.tally.interrupts += sent
        # Nested, since the second may come wherever the first is caught.
        try:
            try:
                self._to_come = sent
                signal.setitimer(signal.ITIMER_REAL, delay)
                self._call_until_all_came()
            except KeyboardInterrupt:
                self._call_until_all_came()
        except KeyboardInterrupt:
            self._call_until_all_came()

    def _call_until_all_came(self) -> None:
        while self._to_come:
            self._call()

    def _call(self) -> None:
        self.tally.calls += 1
        kind = "retry" if self._random.random() < 0.1 else "plain"
        self._chat(f"{kind} {next(self._numbers)}")

    def _chat(self, prompt: str) -> None:
        try:
            reply = self._client.chat(
                prompt, model="gpt-5.5", api_key="key", base_url=self._server.raw.url
            )
        except APIStatusError:
            # Interrupted retries empty the host's retry budget; then a refusal comes out.
            self.tally.failed += not prompt.startswith("retry")
        except TermaiHttpError:
            self.tally.failed += 1
        else:
            self.tally.crossed += reply.text != prompt

    def _look(self) -> None:
        """Count what is in use though no call runs, in the collector's hands included."""
        if self._in_use():
            gc.collect()
            self.tally.lost += self._in_use()

    def _in_use(self) -> int:
        stats = self._client.stats()
        bound = active.attempt is not None
        return stats.active_connections + stats.waiting + stats.calls.in_flight + bound

    def _crowded(self, count: int) -> None:
        end = threading.Event()

        def work(name: int) -> None:
            number = 0
            while not end.is_set():
                number += 1
                self._chat(f"worker {name} {number}")
            counts[name] = number

        counts = [0] * _WORKERS
        threads = [threading.Thread(target=work, args=(name,)) for name in range(_WORKERS)]
        for thread in threads:
            thread.start()
        for _ in range(count):
            self._round()
        end.set()
        for thread in threads:
            thread.join()
        self.tally.beside = sum(counts)

    def _meet(self) -> None:
        """Use every slot at once."""
        threads = [
            threading.Thread(target=self._chat, args=(f"meet {number}",))
            for number in range(_SLOTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="interrupts to send")
    parser.add_argument("--seed", type=int, default=1, help="of the instants")
    given = parser.parse_args(arguments)
    tally = Interrupter(given.seed).run(given.count)
    dropped = f" ({tally.dropped} dropped by finalizers)" if tally.dropped else ""
    sys.stdout.write(
        f"{tally.interrupts} interrupts{dropped} in {tally.calls} calls, "
        f"{tally.beside} calls beside them: {tally.lost} slots lost, "
        f"{tally.crossed} replies crossed, {tally.failed} calls failed\n"
    )
    return 0 if tally.whole else 1


if __name__ == "__main__":
    sys.exit(main())
