"""The states of one circuit: pure, with the instant as an argument and no lock of its own."""

from __future__ import annotations

import enum
import itertools

import attrs

from .._values import Value

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "Circuit", "Ticket", "Verdict"]

CLOSED = "closed"
OPEN = "open"
HALF_OPEN = "half-open"

_numbers = itertools.count(1)


class Verdict(enum.Enum):
    """What an attempt says of its server."""

    LIVES = "lives"
    FAILS = "fails"
    NOTHING = "nothing"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Ticket(Value):
    """The right to one attempt, given back with a verdict.

    Attributes:
        era: The circuit's era when it was given; what is reported in another one is too late.
        number: The probe's number; 0 for an attempt through a closed circuit.
    """

    era: int
    number: int = 0


class Circuit:
    """One circuit. Whoever calls it holds the lock around it.

    Args:
        failures: Failures in a row that open it.
        reset_after: Seconds until one that is open lets probes through.
        probes: Probes at once.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"half-open"``.
        failed: Failures in a row, while it is closed.
        opened: How often it opened.
        refused: Attempts that it did not let through.
        last: What failed last, in a word.
        passing: The ticket of everybody while it is closed.
    """

    __slots__ = (
        *("_era", "_failures", "_opened_at", "_probes", "_probing", "_reset_after", "failed"),
        *("last", "opened", "passing", "refused", "state"),
    )

    def __init__(self, failures: int, reset_after: float, probes: int) -> None:
        self._failures = failures
        self._reset_after = reset_after
        self._probes = probes
        self._probing: dict[int, float] = {}
        self._opened_at = 0.0
        self._era = 0
        self.state = CLOSED
        self.failed = self.opened = self.refused = 0
        self.last = ""
        self.passing = Ticket(era=0)

    def admit(self, now: float, until: float) -> Ticket | None:
        """Let an attempt through, or refuse it with None.

        Args:
            now: The instant.
            until: The instant at which the attempt is over, whatever happens: a probe of which
                nobody says how it ended is one no longer then.
        """
        if self.state == CLOSED:
            return self.passing
        if self.state == OPEN and now - self._opened_at >= self._reset_after:
            self._enter(HALF_OPEN)
        if self.state == HALF_OPEN:
            over = [number for number, end in self._probing.items() if end <= now]
            for number in over:
                del self._probing[number]
            if len(self._probing) < self._probes:
                number = next(_numbers)
                self._probing[number] = until
                return Ticket(era=self._era, number=number)
        self.refused += 1
        return None

    def report(self, ticket: Ticket, verdict: Verdict, now: float, word: str = "") -> bool:
        """Take a verdict; return whether the state changed.

        Args:
            ticket: What ``admit`` gave.
            verdict: What the attempt says of the server.
            now: The instant.
            word: What failed, in a word.
        """
        if ticket.era != self._era:
            # Of before the circuit changed: it tells nothing of the server as it is now.
            return False
        if ticket.number and self._probing.pop(ticket.number, None) is None:
            # A probe that was given up; another one may be under way.
            return False
        if verdict is Verdict.NOTHING:
            return False
        if verdict is Verdict.LIVES:
            self.failed = 0
            if self.state == CLOSED:
                return False
            self._enter(CLOSED)
            return True
        self.failed += 1
        self.last = word
        if self.state == CLOSED and self.failed < self._failures:
            return False
        self._opened_at = now
        self.opened += 1
        self._enter(OPEN)
        return True

    def _enter(self, state: str) -> None:
        self._era += 1
        self._probing.clear()
        # Before the state, which is read without a lock.
        self.passing = Ticket(era=self._era)
        self.state = state

    def forget_probes(self) -> None:
        """Let none be under way; a forked child has none of its parent's."""
        self._probing.clear()

    def retry_in(self, now: float) -> float:
        """Return the seconds until an attempt may be let through; 0.0 where one is."""
        if self.state == CLOSED:
            return 0.0
        if self.state == OPEN:
            return max(self._reset_after - (now - self._opened_at), 0.0)
        if len(self._probing) < self._probes:
            return 0.0
        # Its probes end by then; mostly long before.
        return max(min(min(self._probing.values()) - now, self._reset_after), 0.0)
