"""JSON both ways: strict, and errors that name a path."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from termai_http import InvalidRequestError, _json
from termai_http._json import CutShort, dumps, loads


@pytest.fixture(autouse=True, params=[None, orjson], ids=["json", "orjson"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do everything without orjson, and with it."""
    monkeypatch.setattr(_json, "_orjson", None)
    monkeypatch.setattr(_json, "_looked", True)
    _json.use(request.param)


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
    [
        *(b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"{} {}", b"[" * 100_000, b"9" * 5000),
        *(b"\xef\xbb", b"[1e999]", b"[-1E+999]", b"9" * 400 + b".5", b"{\0}", b"[1]\xc3"),
    ],
)
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    """Every way to be wrong is one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        loads(data)


def test_a_byte_order_mark_is_no_harm() -> None:
    """A BOM in front is dropped."""
    assert loads(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_large_and_small_numbers_are_read() -> None:
    """What a float can hold is a float; what is too small to tell from 0 is 0."""
    assert loads(b"[1e308, -1.5e-3, 1e-999, 0.1, 12345678901234567890]") == (
        [1e308, -0.0015, 0.0, 0.1, 12345678901234567890]
    )


WHOLE = '{ "a" : "x\\"}\\\\\\ud83c\\udf89🎉é", "b": [true, false, null, -1.5e+10, 0.25, {}, [] ] }'


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("whole", [WHOLE, WHOLE.replace(" ", "\r\n\t ")])
def test_json_that_was_cut_is_told_from_what_is_none(whole: str, mark: bytes) -> None:
    """Whatever byte the end is missing from, in a character, an escape or a number too."""
    data = mark + whole.encode()
    loads(data)
    for end in range(len(data)):
        with pytest.raises(CutShort):
            loads(data[:end])


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"{]",
            b'{"a": 1} x',
            b"OK",
            b"<html>",
            b"{'a'",
            b'{"a": [1}',
            b'{"a": nil',
            b'{"a": 1.x',
        ),
        *(b'{"a": "\n', b'{"a": "\\uZZ"', b'{"a" 1', b"{1", b"nope", b'{"a": NaN', b"[" * 100_000),
        *(b"OK \xc3", b"[1] \xc3", b"\xff{", b'{"a": "\xff', '{"a": 1'.encode("utf-16")),
    ],
)
def test_what_is_none_is_not_called_cut(data: bytes) -> None:
    """No end that could still come would make JSON of it."""
    with pytest.raises(ValueError, match=r".") as caught:
        loads(data)
    assert not isinstance(caught.value, CutShort)
