"""What each event adds to which instrument, under labels of which there are few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

__all__ = ["Counting", "Names", "place"]

OTHER = "other"
NOBODY = "none"
_MOST_MODELS = 100
_MOST_HOSTS = 50
_MOST_WORDS = 50
_MOST_CIRCUITS = 200
_LONGEST = 100
_USUAL_PORTS = (None, 80, 443)


class Names:
    """The values that a label may take: the first ones that come; every later one is ``other``.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def of(self, value: object) -> str:
        """Return the label for a value; ``none`` where it is None or empty."""
        if value is None or value == "":
            return NOBODY
        name = str(value)
        label = self._known.get(name)
        if label is not None:
            return label
        if len(self._known) >= self._most:
            return OTHER
        label = "".join(char if char.isprintable() else "?" for char in name[:_LONGEST])
        self._known[name] = label
        return label


def place(host: str, port: int | None) -> str:
    """Name a host, with its port where it is not a usual one."""
    return host if port in _USUAL_PORTS else f"{host}:{port}"


def _place_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        return place(parts.hostname or "", parts.port)
    except ValueError:
        return ""


class Counting:
    """Adds events to instruments. Its user lets one thread in at a time.

    Args:
        made: The instruments, by their names in the table.
    """

    def __init__(self, made: Mapping[str, Any]) -> None:
        self._made = made
        # Looked up here: the library's own way takes a lock and half of the time.
        self._series: dict[tuple[str, ...], Any] = {}
        self._models = Names(_MOST_MODELS)
        self._hosts = Names(_MOST_HOSTS)
        self._words: dict[str, Names] = {}
        # Of calls that run: their labels, and the host whose connection each has.
        self._running: dict[int, tuple[str, str]] = {}
        self._holding: dict[int, str] = {}
        # Why they wait for another attempt, which may never come.
        self._waiting: dict[int, str] = {}
        self._circuits: dict[str, tuple[str, str]] = {}

    def count(self, event: Any) -> None:
        """Add one event."""
        add = self._adders.get(type(event).__name__)
        if add is not None:
            add(self, event)

    def _of(self, *key: str) -> Any:
        """Return what counts under the labels after the instrument's name."""
        series = self._series.get(key)
        if series is None:
            name, *labels = key
            series = self._series[key] = self._made[name].labels(*labels)
        return series

    def _who(self, event: Any) -> tuple[str, str]:
        return self._word("provider", event.provider), self._models.of(event.model)

    def _word(self, label: str, value: object) -> str:
        names = self._words.get(label)
        if names is None:
            names = self._words[label] = Names(_MOST_WORDS)
        return names.of(value)

    def _begun(self, event: Any) -> None:
        self._end_call(event)
        who = self._running[event.call_id] = self._who(event)
        self._of("requests_in_flight", *who).inc()

    def _end_call(self, event: Any) -> None:
        self._give_back(event)
        self._waiting.pop(event.call_id, None)
        who = self._running.pop(event.call_id, None)
        if who is not None:
            self._of("requests_in_flight", *who).dec()

    def _succeeded(self, event: Any) -> None:
        self._ended(event, "success" if event.complete else "left")
        who = self._who(event)
        self._add("cached_tokens", event.cached_tokens, *who)
        self._add("reasoning_tokens", event.reasoning_tokens, *who)

    def _failed(self, event: Any) -> None:
        self._ended(event, event.error)

    def _ended(self, event: Any, outcome: str) -> None:
        self._end_call(event)
        who = self._who(event)
        word = self._word("outcome", outcome)
        self._of("requests", *who, word).inc()
        self._of("request_duration_seconds", *who, word).observe(event.elapsed)
        self._add("tokens", event.input_tokens, *who, "input")
        self._add("tokens", event.output_tokens, *who, "output")
        self._add("cost_dollars", event.cost, *who)

    def _add(self, name: str, amount: float | None, *labels: str) -> None:
        # A counter refuses less than nothing, and a server may say anything.
        if amount is not None and amount > 0:
            self._of(name, *labels).inc(amount)

    def _attempt_succeeded(self, event: Any) -> None:
        self._of("attempts", *self._who(event), "success").inc()

    def _attempt_failed(self, event: Any) -> None:
        self._give_back(event)
        self._of("attempts", *self._who(event), self._word("cause", event.cause)).inc()

    def _will_retry(self, event: Any) -> None:
        if event.call_id in self._running:
            self._waiting[event.call_id] = event.cause

    def _attempt_started(self, event: Any) -> None:
        cause = self._waiting.pop(event.call_id, None)
        if cause is not None:
            self._of("retries", *self._who(event), self._word("cause", cause)).inc()

    def _first_token(self, event: Any) -> None:
        self._of("time_to_first_token_seconds", *self._who(event)).observe(event.elapsed)

    def _slot_waited(self, event: Any) -> None:
        outcome = "got" if event.got else "gave_up"
        self._of("pool_wait_seconds", outcome).observe(event.seconds)

    def _opened(self, event: Any) -> None:
        host = self._take(event)
        self._of("connections_opened", host).inc()
        self._of("connect_duration_seconds", host).observe(event.seconds)

    def _reused(self, event: Any) -> None:
        self._of("connections_reused", self._take(event)).inc()

    def _closed(self, event: Any) -> None:
        host = self._hosts.of(place(event.host, event.port))
        reason = self._word("reason", event.reason)
        self._of("connections_closed", host, reason).inc()

    def _take(self, event: Any) -> str:
        """Note the connection that a call has now; it is in use until its attempt or call ends."""
        host = self._hosts.of(place(event.host, event.port))
        if event.call_id in self._running:
            self._give_back(event)
            self._holding[event.call_id] = host
            self._of("pool_in_use", host).inc()
        return host

    def _give_back(self, event: Any) -> None:
        host = self._holding.pop(event.call_id, None)
        if host is not None:
            self._of("pool_in_use", host).dec()

    def _circuit(self, event: Any) -> None:
        circuits = self._circuits
        before = circuits.pop(event.base_url, None)
        if before is None and len(circuits) >= _MOST_CIRCUITS:
            before = circuits.pop(next(iter(circuits)))
        if before is not None:
            self._of("circuit_state", *before).dec()
        host = self._hosts.of(_place_of(event.base_url))
        now = circuits[event.base_url] = (host, self._word("state", event.state))
        self._of("circuit_state", *now).inc()

    def _answered(self, event: Any) -> None:
        source = "call" if event.shared else "store"
        self._of("cache_hits", *self._who(event), source).inc()

    def _missed(self, event: Any) -> None:
        self._of("cache_misses", *self._who(event)).inc()

    def _paced(self, event: Any) -> None:
        why = self._word("why", event.why)
        self._of("pacing_wait_seconds", why).observe(event.seconds)

    _adders: ClassVar[dict[str, Callable[[Counting, Any], None]]] = {
        "CallStarted": _begun,
        "CallSucceeded": _succeeded,
        "CallFailed": _failed,
        "AttemptSucceeded": _attempt_succeeded,
        "AttemptFailed": _attempt_failed,
        "AttemptStarted": _attempt_started,
        "RetryScheduled": _will_retry,
        "FirstToken": _first_token,
        "SlotWaited": _slot_waited,
        "ConnectionOpened": _opened,
        "ConnectionReused": _reused,
        "ConnectionClosed": _closed,
        "CircuitChanged": _circuit,
        "CacheAnswered": _answered,
        "CacheMissed": _missed,
        "PacingWaited": _paced,
    }
