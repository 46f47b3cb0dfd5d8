"""JSON with orjson: to the last bit what it is without, wherever orjson would have its own way."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import importlib.abc
import json
import math
import sys
import tracemalloc
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import _json
from termai_http._secrets import Secret


class Color(enum.Enum):
    """An enum that is none of JSON's types."""

    RED = "red"


class Size(enum.IntEnum):
    """An enum that is an integer."""

    BIG = 1


class Odd(int, enum.Enum):
    """An enum whose value is another one than the integer that it is."""

    def __new__(cls, number: int) -> Odd:
        """Make a member with the value of another one."""
        member = int.__new__(cls, number)
        member._value_ = -number
        return member

    ONE = 1


class Loose(enum.Enum):
    """An enum that equals its value, but is no text."""

    RED = "red"

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other)

    __hash__ = enum.Enum.__hash__


class Word(str):
    """Text of a class of its own."""


class Ratio(float):
    """A float of a class of its own, whose repr is not the number's."""

    def __repr__(self) -> str:
        return "a ratio"


class Pair(NamedTuple):
    """A tuple of a class of its own."""

    left: Any
    right: Any


class Rows(list):  # type: ignore[type-arg]
    """A list of a class of its own."""


@dataclasses.dataclass
class Point:
    """What orjson writes as an object."""

    x: int = 1


class Like(Mapping[str, int]):
    """A mapping that is no dict."""

    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(("a",))

    def __len__(self) -> int:
        return 1


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json, "_orjson", None)
    monkeypatch.setattr(_json, "_looked", True)


def outcome(function: Callable[[Any], Any], value: Any, module: Any) -> tuple[str, str]:
    """Return how a function ends with an orjson, or with none: to the sign of a zero."""
    _json.use(module)
    try:
        return "value", repr(function(value))
    except ValueError as error:
        return type(error).__name__, str(error)
    finally:
        _json.use(None)


def same(function: Callable[[Any], Any], value: Any) -> tuple[str, str]:
    """Return how a function ends, which is the same with and without orjson."""
    plain = outcome(function, value, None)
    assert outcome(function, value, orjson) == plain
    return plain


def same_body(value: Any) -> tuple[str, str]:
    """Return what a body is sent as, decoded: the same with and without orjson."""
    return same(lambda body: json.loads(_json.dumps(body)), value)


LONE = "\ud83d"
FLOATS = [
    *(0.0, -0.0, 0.1, 1e22, 1e16, 1e-5, 1e-7, 5e-324, 2.2250738585072014e-308, math.pi),
    *(1.7976931348623157e308, 123456789012345680.0, 1 / 3, -1e-310),
]
INTEGERS = [2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, 10**400, True, 0]
TEXTS = ["", '\x7f\u2028\u2029\0\x1f\b\f\n\r\t/"\\é🎉', "null", "NaN", "\ufeff", "\ufffe\uffff"]
SENT = [
    *FLOATS,
    *INTEGERS,
    *TEXTS,
    *({"a": (1, [2], {})}, {1: 2, None: 3, 0.5: 4, False: 5}, {"1": 1, 1: 2}),
    *(Secret("key"), Word("x"), Size.BIG, Odd.ONE, Ratio(0.5), Pair(1, "é"), Rows([1])),
    *(collections.OrderedDict(b=1, a=2), collections.defaultdict(int, a=1), collections.Counter()),
    *({Word("k"): 1}, {Size.BIG: 1}, {"null": [None, 0.5, "g" * 20]}, [[[[]]]], None),
]


@pytest.mark.parametrize("value", SENT, ids=lambda value: ascii(value)[:30])
@pytest.mark.parametrize("place", ["itself", "in a list", "deep"])
def test_what_json_sends_is_sent_alike(value: Any, place: str) -> None:
    """Numbers, escapes, tuples, other keys and subclasses of JSON's own types mean the same."""
    bodies = {"itself": value, "in a list": [value, None], "deep": {"a": [{"b": [1, value]}]}}
    assert same_body(bodies[place])[0] == "value"


REFUSED = [
    (math.nan, "NaN and Infinity are no JSON numbers"),
    (-math.inf, "NaN and Infinity are no JSON numbers"),
    (Color.RED, "Color is no JSON type"),
    (Loose.RED, "Loose is no JSON type"),
    (uuid.UUID(int=1), "UUID is no JSON type"),
    (dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), "datetime is no JSON type"),
    (dt.date(2020, 1, 1), "date is no JSON type"),
    (dt.time(1), "time is no JSON type"),
    (Point(), "Point is no JSON type"),
    (orjson.Fragment(b"1"), "Fragment is no JSON type"),
    (Like(), "Like is no JSON type"),
    (decimal.Decimal(1), "Decimal is no JSON type"),
    (b"bytes", "bytes is no JSON type"),
    (memoryview(b"bytes"), "memoryview is no JSON type"),
    ({1}, "set is no JSON type"),
    (1j, "complex is no JSON type"),
    (..., "ellipsis is no JSON type"),
    (LONE, "text with a lone surrogate"),
    ({LONE: 1}, "a key with a lone surrogate"),
    ({(): 1}, "a key is tuple, not text"),
    ({Color.RED: 1}, "a key is Color, not text"),
    ({uuid.UUID(int=1): 1}, "a key is UUID, not text"),
]


@pytest.mark.parametrize(("value", "why"), REFUSED, ids=lambda value: ascii(value)[:30])
def test_what_json_refuses_is_refused_alike(value: Any, why: str) -> None:
    """What only orjson would send is refused, in the same words and with the same path."""
    kind, text = same(_json.dumps, {"a": [None, "x", {"b": value}]})
    assert kind == "InvalidRequestError"
    assert f"a[2].b: {why}" in text


def test_what_marshal_takes_for_bytes_is_refused_alike() -> None:
    """An array of numpy's is such a thing."""

    class Buffer(bytearray):
        """A class of its own."""

    assert same(_json.dumps, [Buffer(b"x")])[0] == "InvalidRequestError"


def test_a_body_that_contains_itself_is_refused_alike() -> None:
    """A loop ends, and is named."""
    loop: dict[str, Any] = {"a": 1}
    loop["self"] = [loop]
    assert "self[0]: it contains itself" in same(_json.dumps, loop)[1]


@pytest.mark.parametrize("depth", [100, 199, 253, 254, 255, 256, 300])
def test_depth_is_bounded_alike(depth: int) -> None:
    """Where orjson sees too many levels, json decides."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    assert same_body(value)[0] == "value"
    assert same(_json.loads, b"[" * depth + b"]" * depth)[0] == "value"


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 9000 + b"]" * 9000])
def test_endless_depth_is_refused_alike(data: bytes) -> None:
    """Neither way overflows."""
    assert outcome(_json.loads, data, orjson)[0] == outcome(_json.loads, data, None)[0]


READ = [
    *(b"-0", b"-0.0", b"0e1", b"-0e1", b"1E5", b"1e-999", b"5e-324", b"2.4703282292062328e-324"),
    *(b"1e308", b"1.7976931348623157e308", b"1.7976931348623158e308", b"9007199254740993.0"),
    *(b"%d" % number for number in INTEGERS[:-2]),
    *(b"[%d]" % -number for number in INTEGERS[:-2] if number < 10**300),
    *(b"[1234567890123456789.5, 1234567890123456789e1, 0.12345678901234567890123]", b"1" * 4000),
    *(b'{"a":1,"b":2,"a":3}', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"'),
    *(
        b" \r\n\t[ ] \n",
        b'"\x7f\xe2\x80\xa8"',
        b'"\\/"',
        b'"99999999999999999999"',
    ),
    *(b'{"99999999999999999999":99999999999999999999}', b'"' + b"\\u00e9" * 100 + b'"'),
]
NOT_READ = [
    *(b"", b"NaN", b"[Infinity]", b"-Infinity", b"1e400", b"[-1e400]", b"9" * 400 + b".5"),
    *(b"9" * 5000, b"\xef\xbb\xbf\xef\xbb\xbf1", b'"\xff"', b'"\xed\xa0\x80"', b"\xff\xfe1\0"),
    *(b'"\n"', b"[1,]", b"01", b"1.", b".5", b"+1", b"{'a':1}", b'{"a":1}x', b"[1", b'"\\x"'),
    *(b'{"a": tru', b'{"a": 1e', b'"\\ud8', b"1\0", b"\x0c1", b"1\xc2\xa0", b"\xef\xbb", b'"\xc3'),
]


@pytest.mark.parametrize("data", READ, ids=lambda data: ascii(data)[:30])
@pytest.mark.parametrize("around", [b"%b", b'{"a": [%b, null]}'], ids=["itself", "inside"])
def test_what_json_reads_is_read_alike(data: bytes, around: bytes) -> None:
    """Integers stay exact, floats round once, the last of equal keys stands, and half a pair."""
    assert same(_json.loads, around.replace(b"%b", data))[0] == "value"
    same(_json.read_object, around.replace(b"%b", data).decode())


@pytest.mark.parametrize("data", NOT_READ, ids=lambda data: ascii(data)[:30])
@pytest.mark.parametrize("around", [b"%b", b'{"a": [%b, null]}', b'{"a": %b'])
def test_what_json_does_not_read_is_refused_alike(data: bytes, around: bytes) -> None:
    """The error is json's, and what was cut short is told from what is none."""
    whole = around.replace(b"%b", data)
    assert same(_json.loads, whole)[0] != "value"
    same(_json.read_object, whole.decode("utf-8", "replace"))


LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.characters()),
    st.integers(-(2**70), 2**70),
    st.text(st.characters(codec=None)),
    st.sampled_from([*(value for value, _ in REFUSED), *SENT]),
)
KEYS = st.one_of(st.text(), st.text(st.characters(codec=None)), st.integers(), st.none())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        *(st.lists(inner, max_size=4), st.tuples(inner, inner)),
        *(st.dictionaries(st.text(), inner, max_size=4), st.dictionaries(KEYS, inner, max_size=3)),
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.one_of(
        *(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(),
        ),
        st.integers(-(2**70), 2**70),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
TOKENS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    '"',
                    "\\",
                    "{",
                    "}",
                    "[",
                    "]",
                    ":",
                    ",",
                    "null",
                    "true",
                    "NaN",
                    "-",
                    "+",
                    ".",
                    "0",
                ),
                *(
                    "e",
                    "E",
                    "\\u",
                    "d800",
                    "dc00",
                    "00e9",
                    " ",
                    "\n",
                    "\ufeff",
                    '""',
                    '"a":',
                    "1e400",
                ),
                *("99999999999999999999", "9" * 19, "9" * 25, "0.", "-0", "e-", "[1,", "é", "🎉"),
            ]
        ),
        st.text(max_size=3),
        st.integers().map(str),
        st.floats().map(repr),
    ),
    max_size=12,
).map("".join)


@given(VALUES)
def test_any_value_is_sent_or_refused_alike(value: Any) -> None:
    """What is sent means the same, and what is refused is refused in the same words."""
    same_body({"a": value})


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_any_json_is_read_alike(value: Any, escaped: bool, indent: int | None) -> None:
    """However it is written."""
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    assert same(_json.loads, text.encode())[0] == "value"
    same(_json.read_object, text)


@given(JSON, st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3))
def test_broken_json_is_refused_alike(value: Any, at: int, gone: int, new: bytes) -> None:
    """A change at any place, a cut at any place: read alike, or refused in the same words."""
    data = json.dumps(value, ensure_ascii=False).encode()
    at %= len(data) + 1
    same(_json.loads, data[:at] + new + data[at + gone :])
    same(_json.loads, data[:at])
    same(_json.read_object, data[:at].decode("utf-8", "replace"))


@given(TOKENS)
def test_any_text_is_read_or_refused_alike(text: str) -> None:
    """Pieces of JSON in any order."""
    same(_json.loads, text.encode())
    same(_json.read_object, text)


@given(st.text("0123456789.eE-", max_size=40))
def test_any_number_is_read_alike(text: str) -> None:
    """However many digits it has, and wherever it stands among others."""
    same(_json.loads, text.encode())
    same(_json.loads, f"[12,{text}]".encode())
    same(_json.read_object, f'{{"a": {text}, "b": 0}}')


@pytest.mark.parametrize("shift", range(6))
@pytest.mark.parametrize("digits", [19, 20, 21])
def test_a_long_integer_is_found_wherever_it_stands(shift: int, digits: int) -> None:
    """The look at some of the characters misses no place."""
    text = '{"a": ' + " " * shift + "9" * digits + ', "b": ["é", -' + "9" * digits + "]}"
    assert same(_json.loads, text.encode())[0] == "value"
    assert _json.loads(text.encode()) == {"a": 10**digits - 1, "b": ["é", 1 - 10**digits]}
    same(_json.read_object, text)


def test_what_is_large_takes_no_more_memory() -> None:
    """Of a body that a server makes as large as it likes, json takes less."""
    data = b'{"n": "' + b"x" * 2**20 + b'"}'
    peaks = []
    for module in (None, orjson):
        _json.use(module)
        for function, large in ((_json.loads, data), (_json.read_object, data.decode())):
            tracemalloc.start()
            try:
                function(large)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert max(peaks) < 2.5 * len(data)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds no orjson, and counts who asks."""

    asked = 0

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "orjson":
            self.asked += 1
            raise ModuleNotFoundError(fullname)


def test_without_orjson_it_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at each call: a search goes through the directories."""
    finder = _Finder()
    monkeypatch.delitem(sys.modules, "orjson")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.setattr(_json, "_looked", False)
    for _ in range(3):
        assert _json.dumps({"a": 1}) == b'{"a":1}'
        assert _json.loads(b'{"a": 1}') == _json.read_object('{"a": 1}') == {"a": 1}
    assert finder.asked == 1


@pytest.mark.parametrize("first", [lambda: _json.dumps({}), lambda: _json.loads(b"{}")])
def test_orjson_is_used_where_it_is(
    first: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first use on."""
    calls: list[str] = []

    def watched(name: str) -> Any:
        def call(*args: Any) -> Any:
            calls.append(name)
            return getattr(orjson, name)(*args)

        return call

    module = types.SimpleNamespace(loads=watched("loads"), dumps=watched("dumps"))
    monkeypatch.setitem(sys.modules, "orjson", module)
    monkeypatch.setattr(_json, "_looked", False)
    first()
    _json.dumps({"a": 1})
    _json.loads(b"{}")
    _json.read_object("{}")
    assert calls[-3:] == ["dumps", "loads", "loads"]


def test_another_module_of_that_name_is_not_used() -> None:
    """It is as good as none."""
    _json.use(types.SimpleNamespace(loads=json.loads))
    assert _json.dumps({"a": 0.5}) == b'{"a":0.5}'
    assert _json._orjson is None


def test_text_is_sent_in_the_same_bytes() -> None:
    """A recording that was made without orjson is found again with it."""
    body = {"messages": [{"role": "user", "content": "".join(TEXTS)}], "n": 1, "t": [0.7, None]}
    assert same(_json.dumps, body)[0] == "value"


@pytest.mark.parametrize("name", [None, "nobody"])
def test_jsons_own_names_are_not_relied_on(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where json has no such encoder in C, or another one, its public one is used."""
    other = None if name is None else lambda *args: None
    monkeypatch.setattr("json.encoder.c_make_encoder", other)
    assert _json._best_encode() == _json._encoder.encode
