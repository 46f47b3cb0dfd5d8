"""The states of one circuit: pure, with the instant as an argument and no lock of its own."""

from __future__ import annotations

import enum
import itertools

import attrs

from .._values import Value

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "Circuit", "Phase", "Ticket", "Verdict"]

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
        era: The phase in which it was given; what is reported in another one is too late.
        number: The probe's number; 0 for an attempt through a closed circuit.
        first: Whether it made an open circuit half-open.
    """

    era: int
    number: int = 0
    first: bool = False


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Phase(Value):
    """What a circuit is from one change to the next.

    One object that is put in its place in one step: whoever reads without the lock, or is torn away
    while he changes it, finds a whole one.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"half-open"``.
        era: Its number.
        since: When it began.
        passing: The ticket of everybody; None where not everybody may pass.
        leases: Of the probes under way: until when each is one.
    """

    state: str
    era: int
    since: float
    passing: Ticket | None
    leases: dict[int, float]


class Circuit:
    """One circuit. Whoever calls its methods holds the lock around it; ``phase`` needs none.

    Args:
        failures: Failures in a row that open it.
        reset_after: Seconds until one that is open lets probes through.
        probes: Probes at once.

    Attributes:
        phase: What it is now.
        failed: Failures in a row.
        opened: How often it opened.
        refused: Attempts that it did not let through.
        last: What failed last, in a word.
    """

    __slots__ = (
        *("_failures", "_probes", "_reset_after", "failed", "last", "opened", "phase"),
        "refused",
    )

    def __init__(self, failures: int, reset_after: float, probes: int) -> None:
        self._failures = failures
        self._reset_after = reset_after
        self._probes = probes
        self.failed = self.opened = self.refused = 0
        self.last = ""
        self.phase = _phase(CLOSED, 0, 0.0)

    @property
    def state(self) -> str:
        """``"closed"``, ``"open"`` or ``"half-open"``."""
        return self.phase.state

    def admit(self, now: float, until: float) -> Ticket | None:
        """Let an attempt through, or refuse it with None.

        A probe of which nothing is heard holds its place until ``until``, but no longer than an
        open circuit waits: then another one may ask whether the server is back.

        Args:
            now: The instant.
            until: The instant at which the attempt is over, whatever happens.
        """
        phase = self.phase
        if phase.passing is not None:
            return phase.passing
        first = phase.state == OPEN and now - phase.since >= self._reset_after
        if first:
            phase = self._enter(HALF_OPEN, now)
        if phase.state == HALF_OPEN:
            leases = phase.leases
            for number in [number for number, end in leases.items() if end <= now]:
                del leases[number]
            if len(leases) < self._probes:
                ticket = Ticket(era=phase.era, number=next(_numbers), first=first)
                leases[ticket.number] = min(until, now + self._reset_after)
                return ticket
        self.refused += 1
        return None

    def report(self, ticket: Ticket, verdict: Verdict, now: float, word: str = "") -> bool:
        """Take a verdict; return whether the state changed.

        A probe whose place was given to another is heard all the same: it asked the server after
        the circuit opened.

        Args:
            ticket: What ``admit`` gave.
            verdict: What the attempt says of the server.
            now: The instant.
            word: What failed, in a word.
        """
        phase = self.phase
        if ticket.era != phase.era:
            # Of before the circuit changed: it tells nothing of the server as it is now.
            return False
        phase.leases.pop(ticket.number, None)
        if verdict is Verdict.NOTHING:
            return False
        if verdict is Verdict.LIVES:
            self.failed = 0
            if phase.state == CLOSED:
                return False
            self._enter(CLOSED, now)
            return True
        self.failed += 1
        self.last = word
        if phase.state == CLOSED and self.failed < self._failures:
            return False
        self._enter(OPEN, now)
        self.opened += 1
        return True

    def _enter(self, state: str, now: float) -> Phase:
        entered = self.phase = _phase(state, self.phase.era + 1, now)
        return entered

    def forget_probes(self) -> None:
        """Let none be under way; a forked child has none of its parent's."""
        self.phase.leases.clear()

    def retry_in(self, now: float) -> float:
        """Return the seconds until an attempt may be let through, at the latest; 0.0 for now."""
        phase = self.phase
        if phase.state == OPEN:
            return max(self._reset_after - (now - phase.since), 0.0)
        if phase.state == CLOSED or len(phase.leases) < self._probes:
            return 0.0
        # Mostly its probes end long before.
        return max(min(phase.leases.values()) - now, 0.0)


def _phase(state: str, era: int, since: float) -> Phase:
    passing = Ticket(era=era) if state == CLOSED else None
    return Phase(state=state, era=era, since=since, passing=passing, leases={})
