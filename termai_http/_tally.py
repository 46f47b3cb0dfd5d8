"""What the metrics add up: plain sums, under a lock of whoever holds them."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .metrics import CallRecord, RecordedFailure

__all__ = ["OTHERS", "Distribution", "OfModel", "Tally", "bucket_of"]

OTHERS = "other"
_FAILURES_KEPT = 50
_MODELS_KEPT = 100

_WIDTH = math.log(1.02)
_LEAST = 1e-6


def bucket_of(seconds: float) -> int:
    """Return where a ``Distribution`` counts a duration."""
    return int(math.log(max(seconds, _LEAST) / _LEAST) / _WIDTH)


def _middle_of(bucket: int) -> float:
    return _LEAST * math.exp((bucket + 0.5) * _WIDTH)


class Distribution:
    """Seconds counted in buckets that are 2 % wide, so that memory does not grow with calls."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0

    def add(self, bucket: int, count: int = 1) -> None:
        """Count durations by their bucket."""
        self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self._count += count

    def take(self, other: Distribution) -> None:
        """Count all that another one counted."""
        for bucket, count in other._buckets.items():
            self.add(bucket, count)

    def percentile(self, share: float) -> float | None:
        """Return the duration, in seconds, below which ``share`` of all lie; None if empty."""
        rank = math.ceil(share * self._count)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return _middle_of(bucket)
        return None

    def counts_ms(self) -> dict[float, int]:
        """Return how many lie in each bucket, by the milliseconds of its middle, in order."""
        return {
            _middle_of(bucket) * 1000: self._buckets[bucket] for bucket in sorted(self._buckets)
        }


class OfModel:
    """The sums of one model's calls."""

    __slots__ = ("calls", "cost", "failed", "input_tokens", "output_tokens", "without_cost")

    def __init__(self) -> None:
        self.calls = self.failed = self.without_cost = 0
        self.input_tokens = self.output_tokens = 0
        self.cost = 0.0

    def take(self, other: OfModel) -> None:
        """Add what another one added up."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Tally:
    """The sums of calls. Not for two threads at once.

    Attributes:
        models: Sums by model; None is the model of calls that named none.
        duration: Seconds of all calls together.
        retries: Attempts beyond each call's first.
        retries_denied: Retries that a host's retry budget forbade.
        failures: Failed calls by what failed.
        causes: Retries by cause.
        durations: How long the calls took.
        first_tokens: When the streams began.
        recent: The last failures, the newest first.
    """

    def __init__(self) -> None:
        self.models: dict[str | None, OfModel] = {}
        self.duration = 0.0
        self.retries = self.retries_denied = 0
        self.failures: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.durations = Distribution()
        self.first_tokens = Distribution()
        self.recent: deque[RecordedFailure] = deque(maxlen=_FAILURES_KEPT)

    def add(self, record: CallRecord, bucket: int) -> None:
        """Count a call that ended; ``bucket`` is that of its duration."""
        of = self.models.get(record.model) or self._open(record.model)
        of.calls += 1
        of.input_tokens += record.input_tokens
        of.output_tokens += record.output_tokens
        if record.cost is not None:
            of.cost += record.cost
        elif record.cost_unknown:
            of.without_cost += 1
        self.duration += record.duration
        self.durations.add(bucket)
        self.retries += record.retries
        self.retries_denied += record.retries_denied
        if not record.success:
            of.failed += 1
            if record.failure:
                self.failures[record.failure] += 1
        if record.details is not None:
            self.recent.appendleft(record.details)
        if record.causes:
            self.causes.update(record.causes)
        if record.time_to_first_token is not None:
            self.first_tokens.add(bucket_of(record.time_to_first_token))

    def _open(self, model: str | None) -> OfModel:
        """Return the sums of a model; of one too many those of all such."""
        named = len(self.models) - (None in self.models) - (OTHERS in self.models)
        if model is not None and named >= _MODELS_KEPT:
            model = OTHERS
        return self.models.setdefault(model, OfModel())

    def take(self, other: Tally) -> None:
        """Add what another one added up."""
        for model, of in other.models.items():
            mine = self.models.get(model) or self._open(model)
            mine.take(of)
        self.duration += other.duration
        self.retries += other.retries
        self.retries_denied += other.retries_denied
        self.failures.update(other.failures)
        self.causes.update(other.causes)
        self.durations.take(other.durations)
        self.first_tokens.take(other.first_tokens)
        both = (*self.recent, *other.recent)
        newest = sorted(both, key=lambda one: one.when, reverse=True)[:_FAILURES_KEPT]
        self.recent = deque(newest, maxlen=_FAILURES_KEPT)
