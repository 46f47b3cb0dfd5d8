"""The tree of errors: picklable, and written for people."""

from __future__ import annotations

import copy
import pickle

import pytest

from termai_http import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]
TREE = {
    "AlreadyInitializedError": "ConfigurationError",
    "MissingKeyError": "ConfigurationError",
    "DNSError": "APIConnectionError",
    "TLSError": "APIConnectionError",
    "ProxyError": "APIConnectionError",
    "ResourceError": "APIConnectionError",
    "ConnectTimeout": "APITimeoutError",
    "ReadTimeout": "APITimeoutError",
    "PoolTimeout": "APITimeoutError",
    "DeadlineExceeded": "APITimeoutError",
    "BadRequestError": "APIStatusError",
    "AuthenticationError": "APIStatusError",
    "QuotaExceededError": "APIStatusError",
    "PermissionDeniedError": "APIStatusError",
    "NotFoundError": "APIStatusError",
    "ConflictError": "APIStatusError",
    "RequestTooLargeError": "APIStatusError",
    "UnprocessableEntityError": "APIStatusError",
    "RateLimitError": "APIStatusError",
    "InternalServerError": "APIStatusError",
    "OverloadedError": "InternalServerError",
    "UnexpectedRedirect": "APIStatusError",
    "OutputError": "InvalidResponseError",
    "ProtocolError": "InvalidResponseError",
    "TruncatedResponse": "InvalidResponseError",
    "ResponseTooLarge": "InvalidResponseError",
}


def test_the_tree_is_the_documented_one() -> None:
    """Every class has its documented parent, all others the base."""
    for cls in CLASSES:
        if cls is not errors.TermaiHttpError:
            assert cls.__bases__[0].__name__ == TREE.get(cls.__name__, "TermaiHttpError")
    assert issubclass(errors.InvalidRequestError, ValueError)
    assert list(errors.__all__) == sorted(errors.__all__)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_a_pickle_with_all_it_knows(cls: type[errors.TermaiHttpError]) -> None:
    """A process pool, Celery or a copy gets the same error."""
    error = cls(
        "It failed.",
        provider="openai",
        model="m",
        status_code=429,
        request_id="req_1",
        code="c",
        attempts=2,
        elapsed=1.5,
        retry_after=3.0,
        maybe_billed=True,
        body="excerpt",
        phase="body",
    )
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is cls
        assert vars(again) == vars(error)
        assert (str(again), again.args) == (str(error), error.args)


def test_an_error_says_what_failed_the_id_and_what_to_do() -> None:
    """The text leads with what failed, then the figures, then the way out."""
    error = errors.PoolTimeout(
        "No slot.", provider="claude", request_id="r", attempts=3, elapsed=2, retry_after=7
    )
    error.maybe_billed = True
    assert str(error).startswith(
        "No slot. [claude, request id r, attempts 3, after 2.00 s, server asks to wait 7 s, "
        "may have been billed] Raise HttpClientConfig(max_connections=...)"
    )
    assert str(errors.TermaiHttpError("Plain.")) == "Plain."
