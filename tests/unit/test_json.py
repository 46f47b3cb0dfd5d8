"""JSON both ways: strict, and errors that name a path."""

from __future__ import annotations

from typing import Any

import pytest

from termai_http import InvalidRequestError
from termai_http._json import dumps, loads

LOOP: dict[str, Any] = {}
LOOP["self"] = [LOOP]
DEEP: Any = "x"
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"a": {1, 2}}, "a: set"),
        ({"messages": [{"content": b"secret"}]}, "messages[0].content: bytes"),
        ({"a": [1, (2, float("nan"))]}, "a[1][1]: NaN"),
        ({"a": float("-inf")}, "a: NaN and Infinity"),
        ({"a": "\ud83d secret"}, "a: text with a lone surrogate"),
        ({"a": {"\ud83d": 1}}, "a: a key with a lone surrogate"),
        ({"a": {(1,): 1}}, "a: a key is tuple"),
        ({(1,): 1}, "the body: a key is tuple"),
        (LOOP, "contains itself"),
        ({"deep": DEEP}, "deeper than"),
    ],
)
def test_what_cannot_be_json_is_named_by_path(body: Any, path: str) -> None:
    """The message names the place and the reason, and never shows a value."""
    with pytest.raises(InvalidRequestError) as caught:
        dumps(body)
    assert path in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_body_is_compact_utf8() -> None:
    """Text goes out as it is, not as escapes."""
    assert dumps({"a": "Grüße 🎉", "b": [1, None, True]}) == (
        '{"a":"Grüße 🎉","b":[1,null,true]}'.encode()
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"{} {}", b"[" * 100_000, b"9" * 5000, b"\xef\xbb"],
)
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    """Every way to be wrong is one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        loads(data)


def test_a_byte_order_mark_is_no_harm() -> None:
    """A BOM in front is dropped."""
    assert loads(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
