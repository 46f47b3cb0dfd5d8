"""Under what a reply is kept: a digest of all that may change it, keyed by who asks."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from .._values import Value

if TYPE_CHECKING:
    from .._job import Job

__all__ = ["CacheKey", "key_of"]

_OPERATIONS = frozenset({"chat", "embeddings", "count"})
_FORMAT = 1
# What a header that authenticates is called, the vendors' own and those of gateways.
_SECRET = re.compile(r"auth|api-?key|token|secret|cookie|credential|password|-key$")
# What is new in each call, or says how the answer travels and nothing of what it is.
_PASSING = frozenset(
    {
        *("traceparent", "tracestate", "baggage", "b3", "uber-trace-id", "sentry-trace"),
        *("x-amzn-trace-id", "x-cloud-trace-context", "x-correlation-id", "x-request-id"),
        *("x-client-request-id", "request-id", "idempotency-key", "x-idempotency-key"),
        *("user-agent", "accept-encoding", "connection", "content-length", "host", "date"),
        *("keep-alive", "cache-control", "pragma"),
    }
)
_PASSING_BEGIN = ("x-b3-", "x-datadog-", "x-stainless-")
# A vendor's key is longer, and chance. A shorter one may be a word, which a thief of the store
# could try out: each guess then costs as much as the stretching does.
_SHORT, _ROUNDS = 32, 100_000
_MOST_ACCOUNTS = 256
_MEMO_KEY = secrets.token_bytes(32)
_accounts: dict[bytes, bytes] = {}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CacheKey(Value):
    """Where a reply is kept.

    Attributes:
        row: Names the entry; 64 hexadecimal digits that tell nothing of key and prompt.
        seal: What the entry is sealed with; known only to who has the API key and the request.
        look: Whether a kept reply may answer.
    """

    row: str
    seal: bytes = attrs.field(repr=False)
    look: bool = True


def key_of(job: Job, *more: object, session: Any = None) -> CacheKey | None:
    """Return where the reply of a call is kept; None where it is not one to keep.

    Args:
        job: What the call is to do.
        more: What else tells its reply from others; anything that JSON can say.
        session: The session that sends it, with what the user hung on it.
    """
    if job.operation not in _OPERATIONS:
        return None
    kept, secret, wishes = _sorted_out(job.headers.items())
    if "no-store" in wishes:
        return None
    parsed, body = _canonical(job.body)
    if _acts(parsed):
        return None
    if session is not None:
        hung = _hung(session, {name.lower() for name in job.headers}, secret)
        if hung is None:
            return None
        more = (*more, hung)
    said = [
        *(_FORMAT, job.operation, job.method, job.url, job.base_url, job.provider),
        *(_plain(job.query or {}), kept, more),
    ]
    root = hmac.new(_account(sorted(secret)), _dump(said) + b"\n" + body, hashlib.sha256).digest()
    return CacheKey(
        row=hmac.new(root, b"row", hashlib.sha256).hexdigest(),
        seal=hmac.new(root, b"seal", hashlib.sha256).digest(),
        look=not wishes & {"no-cache", "max-age=0"},
    )


def _hung(
    session: Any, given: set[str], secret: list[tuple[str, str]]
) -> tuple[object, ...] | None:
    """Return what a session adds to a request, and add to ``secret`` what authenticates of it.

    None where its ``auth`` is a function or an object, which may do anything to the request.
    """
    auth = session.auth
    if auth and not (isinstance(auth, tuple) and all(isinstance(part, str) for part in auth)):
        return None
    # Of the mapping of requests, ``items()`` takes ten times as long.
    every = getattr(session.headers, "lower_items", session.headers.items)
    added = (one for one in every() if one[0].lower() not in given)
    kept, hidden, _ = _sorted_out(added)
    secret += [(f"session {name}", value) for name, value in (*hidden, *enumerate(auth or ()))]
    return kept, _plain(dict(session.params or {})), session.cert


def _acts(body: object) -> bool:
    """Tell whether a request does something at the vendor beside answering."""
    return isinstance(body, dict) and bool(body.get("background") or body.get("conversation"))


def _sorted_out(
    headers: Iterable[tuple[str, str]],
) -> tuple[list[tuple[str, str]], list[tuple[str, str]], set[str]]:
    """Split headers: those of the request, those that authenticate, wishes about caches."""
    kept: list[tuple[str, str]] = []
    secret: list[tuple[str, str]] = []
    wishes: set[str] = set()
    for name, value in headers:
        name = name.lower()
        if name == "cache-control":
            wishes.update(wish.strip().lower() for wish in str(value).split(","))
        if name in _PASSING or name.startswith(_PASSING_BEGIN):
            continue
        (secret if _SECRET.search(name) else kept).append((name, str(value)))
    return sorted(kept), secret, wishes


def _account(secret: list[tuple[str, str]]) -> bytes:
    """Return the HMAC key of whoever asks, the same in every process."""
    said = _dump(secret)
    memo = hmac.new(_MEMO_KEY, said, hashlib.sha256).digest()
    account = _accounts.get(memo)
    if account is None:
        longest = max((len(value.rpartition(" ")[2]) for _, value in secret), default=_SHORT)
        if longest < _SHORT:
            account = hashlib.pbkdf2_hmac("sha256", said, b"termai_http.cache", _ROUNDS)
        else:
            account = hmac.new(b"termai_http.cache", said, hashlib.sha256).digest()
        if len(_accounts) >= _MOST_ACCOUNTS:
            _accounts.clear()
        _accounts[memo] = account
    return account


def _canonical(body: bytes | None) -> tuple[object, bytes]:
    """Return a body as it was read, and in the one form that all equal ones have.

    What may be read in more than one way is left as it is.
    """
    if not body:
        return None, b""
    try:
        parsed = json.loads(body, object_pairs_hook=_no_duplicates, parse_float=_finite)
        return parsed, b"json" + _dump(parsed)
    except (ValueError, RecursionError):
        return None, b"raw" + body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def _finite(number: str) -> float:
    value = float(number)
    if value - value != 0:
        raise ValueError("a number is too large to tell from others")
    return value


def _plain(query: Mapping[str, object]) -> list[tuple[str, object]]:
    return sorted(((str(name), value) for name, value in query.items()), key=lambda one: one[0])


def _dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
