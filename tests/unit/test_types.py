"""JSON schemas of Python types, and values of them from JSON."""

from __future__ import annotations

import builtins
import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import json
import pickle
import sys
import threading
import types as python_types
import typing
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import attrs
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import NotRequired, Required, TypedDict, get_type_hints

from termai_http import ConfigurationError, InvalidRequestError
from termai_http._schemas import types
from termai_http._schemas.classes import classes_of
from termai_http._schemas.stand_ins import restore
from termai_http._schemas.strict import inlined, strict
from termai_http._schemas.types import Misfit, convert, describe, schema_of, step

T = TypeVar("T")


class Color(enum.Enum):
    """A color."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """How much."""

    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Item:
    """An item of an order.

    Attributes:
        name: What it is.
    """

    name: str
    price: Annotated[float, msgspec.Meta(ge=0, description="In euro.")] = 0.0
    tags: list[str] = dataclasses.field(default_factory=list)


@attrs.define
class Order:
    """An order."""

    items: list[Item]
    note: Annotated[str | None, "What the customer said."] = None
    color: Color = Color.RED
    amount: int = attrs.field(
        default=1,
        validator=[attrs.validators.ge(1), attrs.validators.in_([1, 2, 3])],
        metadata={"description": "How many."},
    )
    _secret: int = 3


class Point(NamedTuple):
    """A place."""

    lat: float
    lon: Annotated[float, "East is positive."] = 0.0


class Trip(TypedDict, total=False):
    """A trip."""

    start: Required[Point]
    stop: Point
    why: NotRequired[Annotated[str, "The reason."]]


class Tree(msgspec.Struct):
    """A tree."""

    value: int
    children: list[Tree] = []


class Cat(msgspec.Struct, tag=True):
    """A cat."""

    lives: int


class Dog(msgspec.Struct, tag=True):
    """A dog."""

    name: str = "Rex"


@dataclasses.dataclass
class Page(Generic[T]):
    """A page."""

    found: list[T]
    at: Annotated[int, "From 1."] = 1


class Described:
    """Text as PEP 727 carries it."""

    documentation = "Said elsewhere."


@dataclasses.dataclass
class Event:
    """An event."""

    when: dt.datetime
    day: dt.date
    length: dt.timedelta
    id: uuid.UUID
    price: decimal.Decimal
    data: bytes
    hour: dt.time | None = None
    exact: Annotated[dt.datetime, msgspec.Meta(tz=True), "With its offset."] | None = None
    other: Annotated[list[Annotated[int, Described()]], "Outer."] = dataclasses.field(
        default_factory=list
    )


class Model(pydantic.BaseModel):
    """A model."""

    a: int = pydantic.Field(ge=0, description="An a.")
    when: dt.datetime | None = None
    next: Model | None = None


class Strict(pydantic.BaseModel):
    """A model that converts nothing."""

    model_config = pydantic.ConfigDict(strict=True)
    a: int
    when: dt.datetime


class Numbers(pydantic.RootModel[list[int]]):
    """Numbers."""


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass of pydantic's."""

    a: int = pydantic.Field(gt=3)


@dataclasses.dataclass
class Outer:
    """A dataclass around one of pydantic's."""

    inner: Checked


@attrs.define
class Around:
    """An attrs class around models."""

    model: Model
    many: list[Model] = attrs.field(factory=list)


@dataclasses.dataclass
class Ruled:
    """A dataclass with rules and types of pydantic's."""

    a: pydantic.PositiveInt
    url: pydantic.HttpUrl | None = None


@dataclasses.dataclass
class Either:
    """A dataclass around a union of models."""

    one: Model | Strict


def of_item(**more: Any) -> dict[str, Any]:
    """Return the schema of ``Item``."""
    return {
        "title": "Item",
        "description": "An item of an order.\n\nAttributes:\n    name: What it is.",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "price": {"type": "number", "minimum": 0, "description": "In euro.", "default": 0.0},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["name"],
        **more,
    }


class TestSchemas:
    """``schema_of``."""

    @pytest.mark.parametrize(
        ("kind", "schema"),
        [
            (int, {"type": "integer"}),
            (str, {"type": "string"}),
            (bool, {"type": "boolean"}),
            (None, {"type": "null"}),
            (list[int], {"type": "array", "items": {"type": "integer"}}),
            (typing.List[int], {"type": "array", "items": {"type": "integer"}}),  # noqa: UP006
            (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
            (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
            (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
            (typing.Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
            (Literal["b", "a"], {"enum": ["a", "b"]}),
            (Annotated[int, "A number."], {"type": "integer", "description": "A number."}),
            (Annotated[int, Described()], {"type": "integer", "description": "Said elsewhere."}),
            (
                Annotated[int, pydantic.Field(description="A field.")],
                {"type": "integer", "description": "A field."},
            ),
            (Annotated[int, 3, "", None], {"type": "integer"}),
            (
                Annotated[int, "Not this.", msgspec.Meta(description="This.", ge=1)],
                {"type": "integer", "description": "This.", "minimum": 1},
            ),
            (
                list[Annotated[str, "Inner."] | None],
                {
                    "type": "array",
                    "items": {
                        "anyOf": [{"type": "string", "description": "Inner."}, {"type": "null"}]
                    },
                },
            ),
            (dt.datetime, {"type": "string", "format": "date-time"}),
            (list[dt.time], {"type": "array", "items": {"type": "string", "format": "time"}}),
            (dt.date, {"type": "string", "format": "date"}),
        ],
    )
    def test_of_plain_types(self, kind: Any, schema: Any) -> None:
        """Builtins and what typing makes of them."""
        assert schema_of(kind, "it") == schema

    def test_of_a_dataclass(self) -> None:
        """Its docstring, its fields and their descriptions come along."""
        assert inlined(schema_of(Item, "it")) == of_item(**{"$defs": {"Item": of_item()}})

    def test_of_an_attrs_class(self) -> None:
        """Descriptions come from metadata, too; private names stay as they are."""
        schema = schema_of(Order, "it")
        assert schema["$ref"] == "#/$defs/Order"
        order = schema["$defs"]["Order"]
        assert order["description"] == "An order."
        assert order["properties"]["note"] == {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "description": "What the customer said.",
            "default": None,
        }
        assert order["properties"]["amount"] == {
            "type": "integer",
            "description": "How many.",
            "default": 1,
        }
        assert order["properties"]["_secret"] == {"type": "integer", "default": 3}
        assert order["required"] == ["items"]
        assert schema["$defs"]["Item"] == of_item()
        assert schema["$defs"]["Color"]["enum"] == ["blue", "red"]

    def test_of_a_typed_dict_and_a_named_tuple(self) -> None:
        """Optional keys are not required; the items of a tuple have their names as titles."""
        schema = schema_of(Trip, "it")
        trip, point = schema["$defs"]["Trip"], schema["$defs"]["Point"]
        assert trip["required"] == ["start"]
        assert trip["properties"]["why"] == {"type": "string", "description": "The reason."}
        assert point["prefixItems"] == [
            {"type": "number", "title": "lat"},
            {"type": "number", "title": "lon", "description": "East is positive.", "default": 0.0},
        ]

    def test_of_a_type_that_refers_to_itself(self) -> None:
        """A forward reference to a class of the module is found."""
        schema = schema_of(Tree, "it")
        children = schema["$defs"]["Tree"]["properties"]["children"]
        assert children == {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "default": []}

    def test_of_a_generic_class(self) -> None:
        """What stands for its type variables is in it."""
        schema = schema_of(Page[Item], "it")
        page = inlined(schema)
        assert page["properties"]["found"] == {
            "type": "array",
            "items": {"$ref": "#/$defs/Item"},
        }
        assert page["properties"]["at"]["description"] == "From 1."
        times = inlined(schema_of(Page[dt.datetime], "it"))["properties"]["found"]
        assert times["items"] == {"type": "string", "format": "date-time"}

    def test_of_times_and_the_like(self) -> None:
        """Formats say how they are written, wherever they stand."""
        fields = inlined(schema_of(Event, "it"))["properties"]
        formats = {name: field.get("format") for name, field in fields.items()}
        assert formats == {
            "when": "date-time",
            "day": "date",
            "length": "duration",
            "id": "uuid",
            "price": "decimal",
            "data": None,
            "hour": None,
            "exact": None,
            "other": None,
        }
        assert fields["hour"]["anyOf"][0] == {"type": "string", "format": "time"}
        assert fields["exact"]["anyOf"][0] == {
            "type": "string",
            "format": "date-time",
            "description": "With its offset.",
        }
        assert fields["other"]["description"] == "Outer."
        assert fields["other"]["items"] == {"type": "integer", "description": "Said elsewhere."}

    @pytest.mark.parametrize(
        "kind", [Model, pydantic.TypeAdapter(Model), Annotated[Model, "ignored"]]
    )
    def test_of_a_model(self, kind: Any) -> None:
        """Pydantic's own schema is taken."""
        model = inlined(schema_of(kind, "it"))
        assert model["properties"]["a"]["minimum"] == 0
        assert model["properties"]["a"]["description"] == "An a."
        assert model["required"] == ["a"]

    @pytest.mark.parametrize(
        "kind", [list[Model], Model | None, dict[str, Model], Numbers, Checked]
    )
    def test_of_what_holds_a_model(self, kind: Any) -> None:
        """Containers and unions of models, root models and pydantic's dataclasses."""
        assert schema_of(kind, "it")

    def test_of_models_in_other_classes(self) -> None:
        """Models within an attrs class are described by pydantic, their definitions once."""
        schema = schema_of(Around, "it")
        around = schema["$defs"]["Around"]["properties"]
        reference = around["model"]["$ref"]
        assert around["many"]["items"] == {"$ref": reference}
        model = schema["$defs"][reference.rpartition("/")[2]]
        assert model["properties"]["next"]["anyOf"][0] == {"$ref": reference}
        assert strict(schema, "it")

    def test_two_models_of_one_name_are_told_apart(self) -> None:
        """Each keeps its own definitions."""
        one = pydantic.create_model("Same", a=(Model, ...))
        two = pydantic.create_model("Same", b=(Model, ...))
        both = msgspec.defstruct("Both", [("one", one), ("two", two)])
        made = strict(schema_of(both, "it"), "it")
        found = [made["properties"][key]["properties"] for key in ("one", "two")]
        assert [list(properties) for properties in found] == [["a"], ["b"]]
        assert found[0]["a"] != found[1]["b"]

    def test_it_is_the_same_each_time(self) -> None:
        """Vendors keep what they made of a schema, so it has the same bytes again."""
        first = json.dumps(schema_of(Around, "it"))
        assert all(json.dumps(schema_of(Around, "it")) == first for _ in range(3))


class Plain:
    """A class that says nothing of its fields."""


@dataclasses.dataclass
class Unknown:
    """A dataclass with a name that nothing has."""

    a: Nowhere  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class HoldsPlain:
    """A dataclass with a field that cannot be read."""

    a: list[Plain]


@dataclasses.dataclass
class TwoClasses:
    """A dataclass with a union that cannot be told apart."""

    a: Item | Event


@attrs.define
class LacksTag:
    """An attrs class around a union of models."""

    a: Model | Strict


def local() -> type:
    """Return a class that names another one of the same function."""

    @dataclasses.dataclass
    class Inner:
        a: int

    @dataclasses.dataclass
    class Local:
        inner: Inner

    return Local


def local_alone() -> type:
    """Return a class of a function that names nothing of it."""

    @attrs.define
    class Alone:
        items: list[Item]
        when: Annotated[dt.date, "The day."]

    return Alone


def one_name() -> Any:
    """Return a type of two classes that cannot be told apart by name."""

    def make(kind: Any) -> Any:
        return dataclasses.make_dataclass("One", [("a", kind)])

    return list[make(make(int))]


class TestRefused:
    """Types that no schema is made of."""

    @pytest.mark.parametrize(
        ("kind", "name", "why"),
        [
            (Plain, "Plain", "Plain is neither plain data nor an attrs class"),
            (HoldsPlain, "HoldsPlain", "Plain is neither plain data"),
            (object, "object", "object is neither plain data"),
            (Unknown, "Unknown", "its annotations name Nowhere, which is not known in its module"),
            (local(), "Local", "its annotations name Inner, which is not known in its module"),
            (TwoClasses, "TwoClasses", "Type unions may not contain more than one dataclass"),
            (Item | Order, "Item | Order", "use pydantic models or msgspec.Struct(tag=True)"),
            (LacksTag, "LacksTag", "Type unions may not contain more than one custom type"),
            (Item("hidden"), "an object of the class Item", "it is no type; pass the class"),
            ({"hidden": 1}, "an object of the class dict", "it is no type"),
            ("hidden", "an object of the class str", "it is no type; pass the class"),
            (3, "an object of the class int", "it is no type"),
            (list[3], "list[3]", "it is no type"),  # type: ignore[valid-type]
            (one_name(), "list[One]", "two classes in it have one name and one module"),
            (attrs.make_class("Old", {"a": attrs.field(type=None)}), "Old", "has no annotation"),
            (typing.Callable[[], int], "Callable", "neither plain data"),
        ],
    )
    def test_the_error_names_the_type_and_why(self, kind: Any, name: str, why: str) -> None:
        """It says what was asked for, the type, and the reason; never what an object holds."""
        with pytest.raises(InvalidRequestError) as caught:
            schema_of(kind, "output=")
        text = str(caught.value)
        assert text.startswith(f"output=: no JSON schema can be made of {name}")
        assert why in text
        assert "hidden" not in text

    def test_pydantic_says_what_it_cannot_do(self) -> None:
        """Its first line is the reason."""

        class Odd(pydantic.BaseModel):
            model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
            plain: Plain

        with pytest.raises(InvalidRequestError, match="made of Odd: Cannot generate a Json"):
            schema_of(Odd, "it")

    def test_a_local_class_works_where_its_names_are_known(self) -> None:
        """Only what a function's own names stand in cannot be resolved."""
        assert strict(schema_of(local_alone(), "it"), "it")["required"] == ["items", "when"]

    def test_without_msgspec_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A missing library is no riddle; models need none."""
        real = builtins.__import__

        def without(name: str, *args: Any, **named: Any) -> Any:
            if name.split(".")[0] == "msgspec":
                raise ImportError(name)
            return real(name, *args, **named)

        for name in [name for name in sys.modules if name.split(".")[0] == "msgspec"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delitem(sys.modules, "termai_http._schemas.of_msgspec", raising=False)
        monkeypatch.delattr("termai_http._schemas.of_msgspec", raising=False)
        monkeypatch.setattr(builtins, "__import__", without)
        for use in (lambda: schema_of(Item, "it"), lambda: convert(1, int)):
            with pytest.raises(
                ConfigurationError, match=r"pip install 'termai-http\[structured\]'"
            ):
                use()
        assert schema_of(Model, "it")
        assert convert({"a": 1}, Model) == Model(a=1)


def made_of(**fields: Any) -> dict[str, Any]:
    """Return the JSON of an ``Event``."""
    return {
        "when": "2026-11-01T10:00:00Z",
        "day": "2026-11-01",
        "length": "PT1H",
        "id": "12345678123456781234567812345678",
        "price": "1.50",
        "data": "AAE=",
        **fields,
    }


UTC = dt.timezone.utc


class TestConvert:
    """``convert``."""

    @pytest.mark.parametrize(
        ("value", "kind", "made"),
        [
            (1, int, 1),
            (1, float, 1.0),
            ("red", Color, Color.RED),
            (2, Level, Level.HIGH),
            ([1, 2], set[int], {1, 2}),
            ([1, "a"], tuple[int, str], (1, "a")),
            ({"1": 2}, dict[int, int], {1: 2}),
            (None, int | None, None),
            ("2026-11-01T10:00:00", dt.datetime, dt.datetime(2026, 11, 1, 10)),
            ([1.5, 2], Point, Point(1.5, 2.0)),
            ({"start": [1, 2]}, Trip, {"start": Point(1, 2)}),
            ({"name": "x"}, Item, Item("x")),
            (
                {"items": [{"name": "x", "price": 2}], "color": "blue", "_secret": 5},
                Order,
                Order([Item("x", 2.0)], color=Color.BLUE, secret=5),
            ),
            ({"value": 1, "children": [{"value": 2}]}, Tree, Tree(1, [Tree(2)])),
            ({"type": "Dog", "name": "Bo"}, Cat | Dog, Dog("Bo")),
            ({"found": [{"name": "x"}]}, Page[Item], Page([Item("x")])),
            ({"a": 1, "next": {"a": 2}}, Model, Model(a=1, next=Model(a=2))),
            ([{"a": 1}], list[Model], [Model(a=1)]),
            ([1], Numbers, Numbers([1])),
            ({"a": 4}, Checked, Checked(4)),
            ({"inner": {"a": 4}}, Outer, Outer(Checked(4))),
            ({"model": {"a": 1}, "many": [{"a": 2}]}, Around, Around(Model(a=1), [Model(a=2)])),
            ([{"a": 1}], pydantic.TypeAdapter(list[Model]), [Model(a=1)]),
            (
                {"a": 1, "when": "2026-11-01T10:00:00Z"},
                Strict,
                Strict(a=1, when=dt.datetime(2026, 11, 1, 10, tzinfo=UTC)),
            ),
            (
                {"one": {"a": 1, "when": "2026-11-01T10:00:00Z"}},
                Either,
                Either(Model(a=1, when=dt.datetime(2026, 11, 1, 10, tzinfo=UTC))),
            ),
            (
                made_of(hour="10:00:00Z"),
                Event,
                Event(
                    dt.datetime(2026, 11, 1, 10, tzinfo=UTC),
                    dt.date(2026, 11, 1),
                    dt.timedelta(hours=1),
                    uuid.UUID("12345678123456781234567812345678"),
                    decimal.Decimal("1.50"),
                    b"\0\1",
                    dt.time(10, tzinfo=UTC),
                ),
            ),
        ],
    )
    def test_json_becomes_the_type(self, value: Any, kind: Any, made: Any) -> None:
        """Every kind of type that has a schema is read from JSON."""
        assert schema_of(kind, "it")
        converted = convert(value, kind)
        assert converted == made
        assert type(converted) is type(made)

    @pytest.mark.parametrize(
        ("value", "kind", "path", "reason"),
        [
            ("1", int, "$", "Expected `int`, got `str`"),
            (True, int, "$", "Expected `int`, got `bool`"),
            (
                {"items": [{"name": "x"}, {"name": "x", "price": "9"}]},
                Order,
                "$.items[1].price",
                "Expected `float`, got `str`",
            ),
            (
                {"items": [{"name": "x", "price": -1}]},
                Order,
                "$.items[0].price",
                "Expected `float` >= 0.0",
            ),
            ({"items": [{}]}, Order, "$.items[0]", "Object missing required field `name`"),
            ({"items": [], "amount": 0}, Order, "$", "'amount' must be >= 1: 0"),
            ({"items": [], "amount": 9}, Order, "$", "'amount' must be in [1, 2, 3] (got 9)"),
            ("hidden", Color, "$", "it is none of the values allowed"),
            ("hidden", Literal["a"], "$", "it is none of the values allowed"),
            ({"type": "hidden"}, Cat | Dog, "$.type", "it is none of the values allowed"),
            ("hidden", dt.datetime, "$", "Invalid RFC3339 encoded datetime"),
            (
                {"a": {"b": "hidden"}},
                dict[str, dict[str, int]],
                "$[...][...]",
                "Expected `int`, got `str`",
            ),
            ({"hidden": 1}, dict[int, int], "$", "Expected `int`, got `str`"),
            (
                {"a": -1, "when": "hidden"},
                Model,
                "$.a",
                "Input should be greater than or equal to 0 (and 1 more)",
            ),
            ({"a": 1, "next": {}}, Model, "$.next.a", "Field required"),
            ([{"a": 1}, {"a": None}], list[Model], "$[1].a", "Input should be a valid integer"),
            (
                {"a": "1", "when": "2026-11-01T10:00:00Z"},
                Strict,
                "$.a",
                "Input should be a valid integer",
            ),
            ({"inner": {"a": 1}}, Outer, "$.inner.a", "Input should be greater than 3"),
            (
                {"model": {"a": 1}, "many": [{"a": -1}]},
                Around,
                "$.many[0].a",
                "Input should be greater than or equal to 0",
            ),
            (
                [1, "hidden"],
                pydantic.TypeAdapter(list[int]),
                "$[1]",
                "Input should be a valid integer, unable to parse string as an integer",
            ),
        ],
    )
    def test_a_misfit_says_where_and_why(
        self, value: Any, kind: Any, path: str, reason: str
    ) -> None:
        """The place is a path, the reason says no text of the value."""
        with pytest.raises(Misfit) as caught:
            convert(value, kind)
        assert (caught.value.path, caught.value.reason) == (path, reason)
        assert str(caught.value) == f"{path}: {reason}"
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        "error", [ValueError("too\n  odd"), KeyError("odd"), ZeroDivisionError()]
    )
    def test_what_a_class_raises_is_a_misfit(self, error: Exception) -> None:
        """Whatever a class of the caller's raises when it is made, in its own words."""

        @dataclasses.dataclass
        class Picky:
            a: int

            def __post_init__(self) -> None:
                raise error

        with pytest.raises(Misfit) as caught:
            convert({"a": 1}, Picky)
        words = "too odd" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        assert caught.value.reason == words.strip()

    def test_a_long_reason_is_cut(self) -> None:
        """A reason has at most 200 characters, whoever wrote it."""

        @attrs.define
        class Loud:
            a: int

            def __attrs_post_init__(self) -> None:
                raise ValueError("x" * 1000)

        with pytest.raises(Misfit) as caught:
            convert({"a": 1}, Loud)
        assert len(caught.value.reason) == 200

    def test_a_misfit_can_be_pickled(self) -> None:
        """Place and reason go along."""
        again = pickle.loads(pickle.dumps(Misfit("$.a", "odd")))
        assert (again.path, again.reason, str(again)) == ("$.a", "odd", "$.a: odd")


@attrs.frozen
class Trimmed:
    """An attrs class with converters."""

    name: str = attrs.field(converter=str.strip, alias="called")
    size: int = attrs.field(default=1, converter=lambda value: value * 2)


@dataclasses.dataclass(frozen=True)
class Trims:
    """A dataclass around it."""

    one: Trimmed
    many: dict[str, tuple[Trimmed, ...]] = dataclasses.field(default_factory=dict)


class TrimsToo(msgspec.Struct, frozen=True):
    """A struct around it."""

    one: Trimmed | None = None
    pair: TrimmedPair | None = None


class TrimmedPair(NamedTuple):
    """A tuple around it."""

    left: Trimmed
    right: int


class TestRules:
    """Rules of pydantic's in an ``Annotated``, which msgspec does not know."""

    @pytest.mark.parametrize(
        ("kind", "value", "path"),
        [
            (Annotated[int, pydantic.Field(gt=5)], 5, "$"),
            (list[pydantic.PositiveInt], [1, 0], "$[1]"),
            (Ruled, {"a": 0}, "$.a"),
            (Ruled, {"a": 1, "url": "no url"}, "$.url"),
            (pydantic.HttpUrl, "no url", "$"),
        ],
    )
    def test_they_hold(self, kind: Any, value: Any, path: str) -> None:
        """What breaks one is a misfit, wherever it stands."""
        with pytest.raises(Misfit) as caught:
            convert(value, kind)
        assert caught.value.path == path

    def test_they_are_told(self) -> None:
        """The schema has them, and the types that pydantic alone knows."""
        fields = inlined(schema_of(Ruled, "it"))["properties"]
        assert fields["a"]["exclusiveMinimum"] == 0
        assert fields["url"]["anyOf"][0]["format"] == "uri"

    def test_what_fits_is_read(self) -> None:
        """By the dataclass itself, with pydantic's types in it."""
        made = convert({"a": 1, "url": "https://example.com"}, Ruled)
        assert made == Ruled(1, pydantic.HttpUrl("https://example.com"))

    def test_those_that_cannot_be_kept_are_refused(self) -> None:
        """Pydantic knows no attrs classes, so nothing would keep their fields to its rules."""

        @attrs.define
        class Lax:
            a: Annotated[int, pydantic.Field(gt=0)]

        with pytest.raises(InvalidRequestError, match=r"pydantic, .* cannot read Lax"):
            schema_of(Lax, "it")

    def test_those_of_a_model_are_the_models(self) -> None:
        """A class around a model stays one that pydantic need not know."""
        assert convert({"model": {"a": 0}, "many": []}, Around) == Around(Model(a=0), [])

    def test_a_description_alone_is_no_rule(self) -> None:
        """Types stay as strict as all others."""
        with pytest.raises(Misfit):
            convert("1", Annotated[int, pydantic.Field(description="A number.")])


class TestClasses:
    """``classes_of``."""

    def test_every_class_is_found(self) -> None:
        """However many there are, each behind an annotation that is read anew each time."""
        count = 50
        home = python_types.ModuleType("deep")
        made: list[Any] = []
        for at in range(count):
            following = f"list[One{at + 1}]" if at + 1 < count else "int"
            hints = {"one": following, "other": f"dict[str, Other{at}]"}
            for name, fields in ((f"One{at}", hints), (f"Other{at}", {"a": "list[int]"})):
                cls = type(name, (), {"__annotations__": fields, "__module__": "deep"})
                setattr(home, name, cls)
                made.append(cls)
        sys.modules["deep"] = home
        try:
            found = [cls for cls in classes_of(made[0]) if cls.__module__ == "deep"]
        finally:
            del sys.modules["deep"]
        assert sorted(found, key=str) == sorted(made, key=str)

    def test_fields_of_a_base_are_fields(self) -> None:
        """Also of a class that adds none."""

        class Derived(Around):
            pass

        assert Model in classes_of(Derived)


class TestConverters:
    """Converters of attrs classes, which msgspec does not run."""

    @pytest.mark.parametrize(
        ("value", "kind", "made"),
        [
            ({"name": " x "}, Trimmed, Trimmed("x")),
            ([{"name": " x ", "size": 2}], list[Trimmed], [Trimmed("x", 2)]),
            (
                {"one": {"name": " x "}, "many": {"k": [{"name": "y "}]}},
                Trims,
                Trims(Trimmed("x"), {"k": (Trimmed("y"),)}),
            ),
            ({"one": {"name": " x "}}, TrimsToo, TrimsToo(Trimmed("x"))),
            (
                {"pair": [{"name": " x "}, 1]},
                TrimsToo,
                TrimsToo(None, TrimmedPair(Trimmed("x"), 1)),
            ),
        ],
    )
    def test_they_run(self, value: Any, kind: Any, made: Any) -> None:
        """A value is what calling the class would have made of it, wherever it stands."""
        assert convert(value, kind) == made

    def test_a_converter_that_fails_is_a_misfit(self) -> None:
        """Its error is the reason."""

        @attrs.define
        class Small:
            a: int = attrs.field(converter=lambda value: 1 // value)

        with pytest.raises(Misfit, match="ZeroDivisionError"):
            convert({"a": 0}, Small)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Item, "Item"),
        (None, "None"),
        (int, "int"),
        (list[Item], "list[Item]"),
        (Item | None, "Item | None"),
        (typing.Optional[Item], "Item | None"),  # noqa: UP045
        (Page[Item], "Page[Item]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[Item, "words"], "Item"),
        (Any, "Any"),
        (local(), "Local"),
        (list[local()], "list[Local]"),  # type: ignore[misc]
        (pydantic.TypeAdapter(list[Model]), "TypeAdapter(list[Model])"),
        ({"hidden": 1}, "an object of the class dict"),
    ],
)
def test_types_have_short_names(kind: Any, name: str) -> None:
    """No module, no function, and nothing of what an object holds."""
    described = describe(kind)
    assert described.replace("Optional[Item]", name).replace("Union[Item, None]", name) == name


def test_a_long_name_is_cut() -> None:
    """A union of many values has a name that fits into a message."""
    assert len(describe(Literal[tuple(f"value {at}" for at in range(50))])) == 80


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (3, "[3]"),
        ("price", ".price"),
        ("größe", ".größe"),
        ("a b", '["a b"]'),
        ('"', '["\\""]'),
        ("x" * 60, "." + "x" * 37 + "..."),
    ],
)
def test_steps_of_a_path(key: Any, text: str) -> None:
    """An index, a name, or a key in quotes; never a long one."""
    if len(str(key)) > 40:
        text = f'["{"x" * 37}..."]'
    assert step(key) == text


def test_adapters_are_kept_for_a_few_types_only() -> None:
    """What is built for a type is built once, and does not keep every class alive for ever."""
    adapter = types._adapter_of(Model)
    assert types._adapter_of(Model) is adapter
    for at in range(types._KEPT_TYPES + 1):
        convert({"a": at}, dataclasses.make_dataclass(f"Made{at}", [("a", int)]))
    assert types._adapter_of(Model) is not adapter


def test_a_type_without_a_hash_is_read_all_the_same() -> None:
    """Metadata of any kind may stand in an annotation."""
    kind = Annotated[int, {"no": "hash"}, "Words."]
    assert schema_of(kind, "it") == {"type": "integer", "description": "Words."}
    assert convert(3, kind) == 3


def test_threads_read_one_type_at_once() -> None:
    """Schemas and values made by many threads at a time are the same."""
    barrier = threading.Barrier(8)
    made: list[Any] = []

    def make() -> None:
        kind = list[Around]
        barrier.wait(20)
        made.append((schema_of(kind, "it"), convert([{"model": {"a": 1}}], kind)))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == 8
    assert all(one == made[0] for one in made)


scalars = st.sampled_from(
    [int, float, str, bool, Color, Level, dt.date, uuid.UUID, decimal.Decimal]
)
names = st.text("abcdefgh_", min_size=1, max_size=6).filter(lambda name: not name.startswith("_"))


def kinds() -> st.SearchStrategy[Any]:
    """Types of scalars, lists, optional values, and classes of fields, some with defaults."""
    numbers = itertools.count()

    def fields(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[str, Any, bool]]]:
        one = st.tuples(names, inner, st.booleans())
        return st.lists(one, max_size=4, unique_by=lambda field: field[0])

    def classes(given: list[tuple[str, Any, bool]]) -> st.SearchStrategy[Any]:
        given = sorted(given, key=lambda field: field[2])
        name = f"Made{next(numbers)}"
        default = dataclasses.field(default_factory=lambda: None)
        data = [
            (name, kind, default) if optional else (name, kind) for name, kind, optional in given
        ]
        body: dict[str, Any] = {"__annotations__": {name: kind for name, kind, _ in given}}
        body |= {name: attrs.field(default=None) for name, _, optional in given if optional}
        typed = {name: NotRequired[kind] if optional else kind for name, kind, optional in given}
        struct = [
            (name, kind, msgspec.UNSET) if optional else (name, kind)
            for name, kind, optional in given
        ]
        return st.sampled_from(
            [
                dataclasses.make_dataclass(name, data),
                attrs.define(type(name, (), body)),
                TypedDict(name, typed),  # type: ignore[operator]
                msgspec.defstruct(name, struct),
            ]
        )

    def more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            inner.map(lambda kind: list[kind]),
            inner.map(lambda kind: typing.Optional[kind]),  # noqa: UP045
            st.tuples(inner, inner).map(lambda pair: tuple[pair]),
            fields(inner).flatmap(classes),
        )

    return st.recursive(scalars, more, max_leaves=6)


PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**60), 2**60),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=5),
    bool: st.booleans(),
    Color: st.sampled_from(Color),
    Level: st.sampled_from(Level),
    dt.date: st.dates(),
    uuid.UUID: st.uuids(),
    decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False),
}


def values(kind: Any) -> st.SearchStrategy[tuple[Any, Any]]:
    """Values of a type: as Python has them, and as a strict mode's JSON has them."""
    if kind in PLAIN:
        return PLAIN[kind].map(lambda value: (value, msgspec.to_builtins(value)))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return st.lists(values(args[0]), max_size=3).map(
            lambda pairs: ([one for one, _ in pairs], [one for _, one in pairs])
        )
    if origin is tuple:
        return st.tuples(*map(values, args)).map(
            lambda pairs: (tuple(one for one, _ in pairs), [one for _, one in pairs])
        )
    if origin is typing.Union:
        return st.one_of(st.just((None, None)), values(args[0]))
    return objects(kind)


def objects(kind: Any) -> st.SearchStrategy[tuple[Any, Any]]:
    """Values of a class; where an optional field is left out, its JSON has a null."""
    info = msgspec.inspect.type_info(kind)
    hints = get_type_hints(kind)
    # Where null is a value of its own, nothing says that the field is left out.
    optional = {
        field.name
        for field in info.fields
        if not field.required and type(None) not in typing.get_args(hints[field.name])
    }

    def one(name: str) -> st.SearchStrategy[Any]:
        inner = values(hints[name])
        return st.one_of(st.none(), inner) if name in optional else inner

    def built(chosen: dict[str, Any]) -> tuple[Any, Any]:
        given = {name: pair[0] for name, pair in chosen.items() if pair is not None}
        return kind(**given), {name: pair and pair[1] for name, pair in chosen.items()}

    return st.fixed_dictionaries({field.name: one(field.name) for field in info.fields}).map(built)


@given(data=st.data())
def test_every_value_comes_back(data: st.DataObject) -> None:
    """The strict schema of any type takes the JSON of its values, which becomes them again."""
    kind = data.draw(kinds())
    value, said = data.draw(values(kind))
    schema = schema_of(TypedDict("Root", {"value": kind}), "it")  # type: ignore[misc]
    whole = json.loads(json.dumps({"value": said}))
    jsonschema.Draft202012Validator(strict(schema, "it")).validate(whole)
    assert convert(restore(whole, schema)["value"], kind) == value
