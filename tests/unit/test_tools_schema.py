"""Python functions as tools: what a model is told of them, and how its arguments reach them."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import inspect
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import ConfigurationError, InvalidRequestError, ToolSpec
from termai_http._tools import ArgumentsError, as_tools, names_of

if TYPE_CHECKING:
    from nowhere import Unknown


class Unit(enum.Enum):
    """A unit."""

    CELSIUS = "c"
    FAHRENHEIT = "f"


@attrs.frozen
class Point:
    """An attrs class."""

    x: int
    y: int = 7


@dataclass
class Box:
    """A dataclass that holds another class."""

    corner: Point
    name: str = "box"


class Model(pydantic.BaseModel):
    """A model of pydantic's."""

    size: int


class Namesake:
    """Holds a class of the same name as another."""

    @attrs.frozen
    class Point:
        """Another one."""

        where: str


def spec_of(function: Any) -> ToolSpec:
    """Return the one tool of a function."""
    (spec,) = as_tools([function])
    assert isinstance(spec, ToolSpec)
    return spec


def calling(function: Any, **arguments: Any) -> Any:
    """Call a tool as a model does."""
    call = spec_of(function).call
    assert call is not None
    return call(arguments)


def taking(annotation: Any) -> Callable[..., Any]:
    """Return a function with one parameter that gives back what it got."""

    def tool(x: Any) -> Any:
        return x

    tool.__annotations__ = {"x": annotation}
    return tool


def google(city: str, unit: Literal["c", "f"] = "c") -> str:
    """Tell the weather.

    Of today only.

    Args:
        city: The city, as
            "Paris, France".
        unit (str): Celsius: c, or f.

    Returns:
        What to wear.
    """
    return f"{city} {unit}"


def numpy(city: str, unit: Literal["c", "f"] = "c") -> str:
    """Tell the weather.

    Of today only.

    Parameters
    ----------
    city : str
        The city, as
        "Paris, France".
    unit : {'c', 'f'}, optional
        Celsius: c, or f.
    """
    return f"{city} {unit}"


def sphinx(city: str, unit: Literal["c", "f"] = "c") -> str:
    """Tell the weather.

    Of today only.

    :param city: The city, as
        "Paris, France".
    :param str unit: Celsius: c, or f.
    """
    return f"{city} {unit}"


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_a_signature_and_a_docstring_tell_all(function: Callable[..., Any]) -> None:
    """Name, description, schema and descriptions come out of the function, strict and in order."""
    spec = spec_of(function)
    assert (spec.name, spec.strict) == (function.__name__, True)
    assert spec.description == "Tell the weather.\n\nOf today only."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": 'The city, as\n"Paris, France".'},
            "unit": {
                "anyOf": [{"type": "string", "enum": ["c", "f"]}, {"type": "null"}],
                "description": "Celsius: c, or f. (null leaves it out)",
            },
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    }
    assert list(spec.parameters["properties"]) == ["city", "unit"]


# Annotation, its schema, JSON of the model's, what the function gets.
KINDS: list[tuple[Any, dict[str, Any], Any, Any]] = [
    (str, {"type": "string"}, "a", "a"),
    (int, {"type": "integer"}, 1, 1),
    (float, {"type": "number"}, 1, 1.0),
    (bool, {"type": "boolean"}, True, True),
    ("int", {"type": "integer"}, 1, 1),
    ("list[int]", {"type": "array", "items": {"type": "integer"}}, [1], [1]),
    (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "b", "b"),
    (Unit, {"$ref": "#/$defs/Unit"}, "f", Unit.FAHRENHEIT),
    (dt.date, {"type": "string", "format": "date"}, "2026-11-24", dt.date(2026, 11, 24)),
    (Point, {"$ref": "#/$defs/Point"}, {"x": 1, "y": None}, Point(1, 7)),
    (Box, {"$ref": "#/$defs/Box"}, {"corner": {"x": 1, "y": 2}, "name": None}, Box(Point(1, 2))),
    (
        list[Point],
        {"type": "array", "items": {"$ref": "#/$defs/Point"}},
        [{"x": 1, "y": None}],
        [Point(1)],
    ),
    (Annotated[int, "how many"], {"type": "integer", "description": "how many"}, 1, 1),
    (
        Annotated[int, msgspec.Meta(description="how many")],
        {"type": "integer", "description": "how many"},
        1,
        1,
    ),
    (
        Annotated[int, pydantic.Field(description="how many")],
        {"type": "integer", "description": "how many"},
        1,
        1,
    ),
]


@pytest.mark.parametrize(("annotation", "schema", "given", "got"), KINDS, ids=str)
def test_each_type_is_told_and_read(
    annotation: Any, schema: dict[str, Any], given: Any, got: Any
) -> None:
    """The schema of a type is strict, and an argument reaches the function as a value of it."""
    spec = spec_of(taking(annotation))
    assert spec.strict
    assert spec.parameters["properties"] == {"x": schema}
    assert calling(taking(annotation), x=given) == got


@pytest.mark.parametrize("annotation", [Model, list[Model], Model | None, Model | int])
def test_pydantic_models_are_types_too(annotation: Any) -> None:
    """A model of pydantic's, alone or in another type, is told strictly and made."""
    spec = spec_of(taking(annotation))
    assert spec.strict
    assert "size" in json.dumps(spec.parameters)
    given = [{"size": 3}] if annotation == list[Model] else {"size": 3}
    got = calling(taking(annotation), x=given)
    assert got == ([Model(size=3)] if annotation == list[Model] else Model(size=3))


@pytest.mark.parametrize("annotation", [Any, dict[str, int], dict, list])
def test_what_strict_modes_refuse_is_told_plainly(annotation: Any) -> None:
    """Open types make a tool that is not strict, whose defaults may be left out."""

    def tool(x: Any, y: int = 3) -> Any:
        return x, y

    tool.__annotations__["x"] = annotation
    spec = spec_of(tool)
    assert not spec.strict
    assert spec.parameters["required"] == ["x"]
    assert list(spec.parameters["properties"]) == ["x", "y"]
    given = [1] if annotation is list else {"a": 1}
    assert calling(tool, x=given) == (given, 3)
    assert calling(tool, x=given, y=None) == (given, 3)


def test_parameters_share_their_definitions() -> None:
    """What two parameters refer to stands in the schema once, and other classes beside it."""

    def tool(a: Point, b: list[Point], c: Namesake.Point, d: Box) -> Any:
        return a, b, c, d

    spec = spec_of(tool)
    text = json.dumps(spec.parameters)
    assert spec.strict
    assert text.count('"where"') == 2
    assert set(spec.parameters["$defs"]) == {"Point", "Point_", "Box"}
    got = calling(
        tool, a={"x": 1}, b=[{"x": 2}], c={"where": "here"}, d={"corner": {"x": 3}, "name": None}
    )
    assert got == (Point(1), [Point(2)], Namesake.Point("here"), Box(Point(3)))


def test_null_means_the_default_where_the_type_takes_none() -> None:
    """A strict schema asks for every argument; null leaves one out unless it is a value itself."""

    def tool(a: int = 1, b: Any = None, c: int | None = 3) -> Any:
        return a, b, c

    tool.__annotations__["b"] = int
    assert spec_of(tool).parameters["required"] == ["a", "b", "c"]
    assert calling(tool, a=None, b=None, c=None) == (1, None, None)
    assert calling(tool) == (1, None, 3)


def test_a_default_is_never_told() -> None:
    """The default of a parameter, which may be a secret, stays in the function."""

    def tool(url: str, token: str = "hush-hush") -> str:
        return url + token

    def open_tool(url: Any, token: str = "hush-hush") -> str:
        return url + token

    for function in (tool, open_tool):
        assert "hush" not in json.dumps(spec_of(function).parameters)


class Shop:
    """Has methods of every kind."""

    prefix = "shop"

    def find(self, item: str) -> str:
        """Find an item."""
        return f"{self.prefix} {item}"

    @classmethod
    def count(cls, item: str) -> str:
        """Count an item."""
        return f"{cls.prefix} {item}"

    @staticmethod
    def buy(item: str) -> str:
        """Buy an item."""
        return item

    def __call__(self, item: str) -> str:
        """Ask for an item."""
        return f"called {item}"


def loud(function: Callable[..., str]) -> Callable[..., str]:
    """Decorate a function."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return function(*args, **kwargs).upper()

    return wrapper


class Louder:
    """Has a decorated method."""

    @loud
    def say(self, word: str) -> str:
        """Say a word."""
        return word


class Native:
    """Is called without any function of Python's."""

    __signature__ = inspect.signature(Shop.buy)
    __call__ = "{item}!".format


named = functools.partial(google, unit="f")
vars(named)["__name__"] = "in_fahrenheit"

CALLABLES = [
    (Shop().find, "find", "Find an item.", {"item": "x"}, "shop x"),
    (Shop.count, "count", "Count an item.", {"item": "x"}, "shop x"),
    (Shop.buy, "buy", "Buy an item.", {"item": "x"}, "x"),
    (Shop(), "Shop", "Ask for an item.", {"item": "x"}, "called x"),
    (functools.lru_cache(Shop.buy), "buy", "Buy an item.", {"item": "x"}, "x"),
    (Louder().say, "say", "Say a word.", {"word": "x"}, "X"),
    (Native(), "Native", "", {"item": "x"}, "x!"),
    (loud(google), "google", "Tell the weather.", {"city": "x"}, "X C"),
    (loud(loud(Shop().find)), "find", "Find an item.", {"item": "x"}, "SHOP X"),
    (functools.partial(google, unit="f"), "google", "Tell the weather.", {"city": "x"}, "x f"),
    (functools.partial(google, "Rome"), "google", "Tell the weather.", {"unit": "f"}, "Rome f"),
    (named, "in_fahrenheit", "Tell the weather.", {"city": "x"}, "x f"),
]


@pytest.mark.parametrize(("function", "name", "says", "arguments", "result"), CALLABLES)
def test_every_kind_of_function_is_a_tool(
    function: Any, name: str, says: str, arguments: dict[str, Any], result: str
) -> None:
    """Methods, partials, decorated functions and objects that can be called are tools."""
    spec = spec_of(function)
    assert spec.name == name
    assert spec.description.startswith(says)
    assert set(arguments) <= set(spec.parameters["properties"])
    assert calling(function, **arguments) == result


def test_what_a_partial_fills_is_not_asked_for() -> None:
    """Arguments that a partial has are none of the tool's, and a model cannot give them."""
    spec = spec_of(named)
    assert list(spec.parameters["properties"]) == ["city"]
    with pytest.raises(ArgumentsError, match="unit is unknown"):
        calling(named, city="x", unit="c")


def test_a_function_without_parameters_is_a_tool() -> None:
    """No parameters make an empty, closed object."""

    def now() -> str:
        return "now"

    spec = spec_of(now)
    assert (spec.description, spec.strict) == ("", True)
    assert spec.parameters == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }
    assert calling(now) == "now"


def test_an_annotation_that_no_argument_needs_does_not_matter() -> None:
    """What cannot be resolved is refused of a parameter, and ignored of the result."""

    def tool(x: int) -> Unknown:
        return x

    assert calling(tool, x=1) == 1


def test_a_name_in_the_annotated_stands_above_the_docstring() -> None:
    """Of two descriptions the one in the signature holds."""

    def tool(x: Annotated[int, "in the signature"], y: Annotated[Point, "a point"]) -> None:
        """Do it.

        Args:
            x: in the docstring
            y: there, too
        """

    properties = spec_of(tool).parameters["properties"]
    assert properties["x"]["description"] == "in the signature"
    assert properties["y"]["description"] == "a point"


async def late(x: int) -> int:
    """Is async."""
    return x


class Late:
    """Is async when it is called."""

    async def __call__(self, x: int) -> int:
        """Wait."""
        return x


def many(x: int) -> Iterator[int]:
    """Is a generator."""
    yield x


def no_annotation(x, y: int) -> None:  # type: ignore[no-untyped-def]
    """Lacks one."""


def stars(*words: str) -> None:
    """Take any number."""


def options(**words: str) -> None:
    """Take any name."""


def by_place(x: int, /) -> None:
    """Take it by place."""


def unresolved(x: Unknown) -> None:
    """Take what is not known when it runs."""


def unsupported(x: int, lock: threading.Thread) -> None:
    """Take what is no data."""


def größe(x: int) -> None:
    """Has a name that vendors refuse."""


unnamed = functools.partial(google)
vars(unnamed)["__name__"] = "a b"

BAD = [
    (no_annotation, r"'no_annotation'.*parameter 'x' without an annotation"),
    (Shop.find, r"'find'.*parameter 'self' without an annotation.*bound method"),
    (stars, r"'stars'.*takes \*words"),
    (options, r"'options'.*takes \*\*words"),
    (by_place, r"'by_place'.*parameter 'x' that is positional-only"),
    (late, r"'late'.*is async"),
    (functools.partial(late), r"'late'.*is async"),
    (Late(), r"'Late'.*is async"),
    (many, r"'many'.*is a generator"),
    (Shop, r"is the class 'Shop'.*output="),
    (Model, r"is the class 'Model'.*output="),
    (lambda x: x, r"is a lambda"),
    (max, r"'max'.*no signature"),
    (print, r"'print'"),
    (unresolved, r"'unresolved'.*parameter 'x' whose annotation cannot be resolved: NameError"),
    (unsupported, r"'unsupported'.*parameter 'lock': no JSON schema can be made of Thread"),
    (taking(5), r"'tool'.*parameter 'x'"),
    (größe, r"the name 'größe'"),
    (unnamed, r"the name 'a b'"),
    (5, r"a function or the vendor's JSON as a dict, not int"),
    ("f", r"a function or the vendor's JSON as a dict, not str"),
    (None, r"a function or the vendor's JSON as a dict, not NoneType"),
    ({}, r"must be the vendor's JSON"),
    ({1: 2}, r"must be the vendor's JSON"),
    (ToolSpec(name="a b", parameters={}), r"the name 'a b'"),
    (ToolSpec(name="", parameters={}), r"the name ''"),
    (ToolSpec(name="x" * 65, parameters={}), r"the name 'x+'"),
    (ToolSpec(name="a", parameters=[]), r"parameters must be"),  # type: ignore[arg-type]
    (ToolSpec(name="a", parameters={}, description=1), r"description"),  # type: ignore[arg-type]
    (ToolSpec(name="a", parameters={}, call=1), r"call must be"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("tool", "says"), BAD, ids=str)
def test_what_is_no_tool_is_refused_with_its_name(tool: Any, says: str) -> None:
    """Each mistake is an error that names the place, the function and the parameter."""
    with pytest.raises(InvalidRequestError, match=rf"tools\[1\].*{says}"):
        as_tools([google, tool])


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        (google, "not function; a single one goes into a list"),
        ({"name": "x"}, "not dict; a single one goes into a list"),
        (ToolSpec(name="x", parameters={}), "not ToolSpec; a single one goes into a list"),
        ("google", "not str"),
        ({google}, "not set"),
        ((f for f in [google]), "not generator"),
        (5, "not int"),
    ],
    ids=str,
)
def test_what_is_no_list_of_tools_is_refused(tools: Any, says: str) -> None:
    """Tools come in a list; an error says so where there is none."""
    with pytest.raises(InvalidRequestError, match=says):
        as_tools(tools)


@pytest.mark.parametrize("tools", [None, [], ()])
def test_no_tools_are_no_tools(tools: Any) -> None:
    """None and an empty list ask for nothing."""
    assert as_tools(tools) == ()


VENDOR = [
    {"name": "google", "input_schema": {"type": "object"}},
    {"type": "function", "function": {"name": "google"}},
    {"type": "custom", "custom": {"name": "google"}},
    {"type": "function", "name": "google"},
    {"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "google"}]},
]


@pytest.mark.parametrize("tool", VENDOR, ids=str)
def test_two_tools_of_one_name_are_refused(tool: dict[str, Any]) -> None:
    """A function may not have the name of another tool, in whatever form that comes."""
    assert "google" in list(names_of(tool))
    for other in (tool, ToolSpec(name="google", parameters={}), google):
        with pytest.raises(InvalidRequestError, match=r"tools\[0\] and tools\[1\] have one name"):
            as_tools([google, other])


def test_the_vendors_own_json_stays_as_it_is() -> None:
    """A dict is passed through, the same object, also two of one name."""
    tools = [{"type": "web_search"}, VENDOR[0], VENDOR[0], {"type": "x", "tools": 5}]
    got = as_tools(tools)
    assert all(one is other for one, other in zip(got, tools, strict=True))


def test_a_spec_stays_as_it_is() -> None:
    """A ToolSpec, with a function for it or without, is passed through."""
    specs = [
        ToolSpec(name="a-1", parameters={"type": "object"}),
        ToolSpec(name="b_2", parameters={}, call=dict),
    ]
    assert as_tools(specs) == tuple(specs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"city": 1}, "city: Expected `str`, got `int`"),
        ({}, "city is missing. The arguments are: city, unit."),
        ({"cty": "x"}, "cty is unknown; city is missing. The arguments are: city, unit."),
        ({"city": "x", "unit": "k"}, "unit: "),
        ({"city": None}, "city: "),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_told_to_the_model(
    arguments: dict[str, Any], says: str
) -> None:
    """What is missing, unknown or of another type is named, and the function is not called."""
    with pytest.raises(ArgumentsError) as caught:
        calling(google, **arguments)
    assert str(caught.value).startswith(says)


def test_the_place_of_a_misfit_is_told() -> None:
    """Deep in an argument, the path says where."""
    with pytest.raises(ArgumentsError, match=r"^x\[1\]\.y: Expected `int`, got `str`$"):
        calling(taking(list[Point]), x=[{"x": 1}, {"x": 1, "y": "no"}])


def test_the_functions_own_errors_pass() -> None:
    """What the function raises is not taken for a misfit."""

    def tool(x: int) -> int:
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        calling(tool, x=1)


@given(st.text(alphabet=st.sampled_from(":-*@ \n\tAargs=Reutn()[]`x0"), max_size=200))
def test_any_docstring_will_do(text: str) -> None:
    """A docstring of whatever form makes a tool, since it is only words."""

    def tool(x: int) -> int:
        return x

    tool.__doc__ = text
    assert isinstance(spec_of(tool).description, str)


def test_a_docstring_that_cannot_be_parsed_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A parser that fails costs the descriptions of the parameters, and not the tool."""

    def fail(text: str) -> None:
        raise IndexError

    monkeypatch.setattr("docstring_parser.parse", fail)
    assert spec_of(google).description == inspect.getdoc(google)


@pytest.mark.parametrize("library", ["msgspec", "docstring_parser"])
def test_a_missing_library_is_named_with_its_extra(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra a function is refused with the command that installs it, JSON is not."""
    monkeypatch.delitem(sys.modules, "termai_http._schemas.of_msgspec", raising=False)
    monkeypatch.delattr("termai_http._schemas.of_msgspec", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"{library}.*termai-http\[structured\]"):
        as_tools([google])
    assert as_tools([VENDOR[0]]) == (VENDOR[0],)


def test_tools_may_be_made_and_called_by_many_threads_at_once() -> None:
    """The same function serves any number of threads."""
    start = threading.Barrier(8)
    got: list[Any] = []

    def work(number: int) -> None:
        start.wait()
        for _ in range(20):
            got.append(
                calling(taking(list[Point]), x=[{"x": number, "y": None}]) == [Point(number)]
            )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 160
