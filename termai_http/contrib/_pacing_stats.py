"""What pacing shows of itself: frozen values, without a part of any key."""

from __future__ import annotations

import attrs

from .._values import Value

__all__ = ["KnownLimit", "PacedKey", "PacingStats"]

_MOST_ROWS = 10


@attrs.frozen(kw_only=True, eq=False, repr=False)
class KnownLimit(Value):
    """A limit that the server told.

    Attributes:
        kind: ``"requests"``, ``"tokens"``, ``"input-tokens"`` or ``"output-tokens"``.
        limit: The most there can be.
        remaining: What is left, by our estimate: what was sent since is taken off.
        resets_in: Seconds until all is there again, as the server said; 0 where that is over.
    """

    kind: str
    limit: int
    remaining: int
    resets_in: float


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PacedKey(Value):
    """One host, API key and model, which share limits.

    Attributes:
        host: Host and port.
        account: Eight characters of a digest, which tell API keys apart within this process and
            hold nothing of them.
        model: The model; None for requests without one.
        waiting: Attempts that are held back now.
        started: Attempts that were let begin.
        refused: Those of them that the server refused for its limits.
        held: Attempts that were held back, and are no more.
        held_seconds: How long, together.
        paused_for: Seconds until a refusal holds back nobody any more; 0 where none does.
        rate: Starts a second, measured where the server tells no limits; None where not.
        limits: What the server told of its limits.
    """

    host: str
    account: str
    model: str | None
    waiting: int
    started: int
    refused: int
    held: int
    held_seconds: float
    paused_for: float
    rate: float | None
    limits: tuple[KnownLimit, ...]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PacingStats(Value):
    """The pacing of one client.

    Attributes:
        keys: Each host, key and model that was called, at most 1,024 that are not in use.
    """

    keys: tuple[PacedKey, ...] = ()

    def rows(self) -> list[tuple[str, str, str]]:
        """Return a row for each of the ten keys that were called most."""
        rows = []
        for key in sorted(self.keys, key=lambda one: -one.started)[:_MOST_ROWS]:
            how = f"{key.started:,} started, {key.refused:,} refused"
            if key.held:
                how += f", {key.held:,} held back for {key.held_seconds:,.1f} s"
            if key.paused_for > 0:
                how += f", paused for {key.paused_for:.1f} s more"
            rows.append((f"pacing: {key.model or key.host}", f"{key.waiting:,} waiting", how))
        return rows

    @property
    def waiting(self) -> int:
        """Attempts that are held back now."""
        return sum(key.waiting for key in self.keys)

    @property
    def held_seconds(self) -> float:
        """Seconds for which attempts were held back, together."""
        return sum(key.held_seconds for key in self.keys)

    @property
    def refused_share(self) -> float:
        """Share of the attempts that the server refused for its limits, from 0 to 1."""
        started = sum(key.started for key in self.keys)
        return sum(key.refused for key in self.keys) / started if started else 0.0
