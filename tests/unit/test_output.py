"""What ``output=`` takes, and how a reply is read as it."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import gc
import json
import pickle
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import attrs
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import ConfigurationError, InvalidRequestError, OutputError, Usage, _output
from termai_http._output import as_output, read_output
from termai_http._specs import OutputSpec
from termai_http.dialects._base import Decoded

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
HIDDEN = "what nobody else may ever read"


@dataclasses.dataclass
class Item:
    """An item."""

    name: str
    amount: int = 1
    note: str | None = "none yet"


@attrs.define
class Order:
    """An order."""

    items: list[Item]
    total: Annotated[float, "In euro."] = 0.0


class Point(NamedTuple):
    """A place."""

    lat: float
    lon: float


@attrs.define
class Choice:
    """A choice, whose validator says what it got."""

    kind_of_choice: str = attrs.field(validator=attrs.validators.in_(["a"]))


class Closed(pydantic.BaseModel):
    """A model that takes nothing else, whose errors name what it got."""

    model_config = pydantic.ConfigDict(extra="forbid")
    kind_of_choice: str


class ClosedStruct(msgspec.Struct, forbid_unknown_fields=True):
    """The same of msgspec's."""

    kind_of_choice: str


class Cat(pydantic.BaseModel):
    """A cat."""

    kind_of_choice: Literal["cat"]


class Dog(pydantic.BaseModel):
    """A dog."""

    kind_of_choice: Literal["dog"]


class Tagged(pydantic.BaseModel):
    """Either, told apart by a field."""

    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind_of_choice")]


class Node(pydantic.BaseModel):
    """A node."""

    value: int
    next: Node | None = None


SCHEMA = {
    "title": "Weather",
    "type": "object",
    "properties": {
        "degrees": {"type": "integer", "minimum": -90},
        "sky": {"enum": ["clear", "grey"]},
        "seen": {"type": "string", "format": "date"},
    },
    "required": ["degrees"],
}


def decoded(text: str, finish_reason: str | None = "stop", refusal: str | None = None) -> Decoded:
    """Return a reply."""
    return Decoded(
        text=text,
        finish_reason=finish_reason,
        usage=Usage(),
        model="m",
        id="1",
        raw={},
        refusal=refusal,
    )


def read(given: Any, text: str, **reply: Any) -> Any:
    """Read a text as what was asked for."""
    return read_output(as_output(given), decoded(text, **reply))


def refused(given: Any, text: str, **reply: Any) -> OutputError:
    """Return the error of a text that is not what was asked for."""
    with pytest.raises(OutputError) as caught:
        read(given, text, **reply)
    assert caught.value.__cause__ is None
    return caught.value


class TestSpecs:
    """``as_output``."""

    def test_a_class_is_asked_for_as_an_object(self) -> None:
        """Its schema is strict, and has its name."""
        spec = as_output(Order)
        assert spec.name == "Order"
        assert spec.schema["required"] == ["items", "total"]
        assert spec.schema["additionalProperties"] is False
        assert spec.schema["properties"]["items"]["items"] == {"$ref": "#/$defs/Item"}
        assert as_output(spec) is spec

    @pytest.mark.parametrize(
        ("kind", "name", "inner"),
        [
            (int, "int", WHOLE),
            (list[int], "list_int", {"type": "array", "items": WHOLE}),
            (Literal["a", "b"], "Literal_a_b", {**TEXT, "enum": ["a", "b"]}),
            (Annotated[str, "Words."], "str", {**TEXT, "description": "Words."}),
            (int | None, "int_None", {"anyOf": [WHOLE, {"type": "null"}]}),
            (list[Item], "list_Item", {"type": "array", "items": {"$ref": "#/$defs/Item"}}),
            (list[Node], "list_Node", {"type": "array", "items": {"$ref": "#/$defs/Node"}}),
            (
                Point,
                "Point",
                {
                    "type": "array",
                    "items": {"type": "number"},
                    "title": "Point",
                    "description": (
                        "A place. (exactly 2 items, in this order: lat (number), lon (number))"
                    ),
                },
            ),
        ],
    )
    def test_what_is_no_object_is_put_into_one(self, kind: Any, name: str, inner: Any) -> None:
        """Vendors take an object at the root only."""
        spec = as_output(kind)
        assert spec.name.replace("Optional_int", "int_None") == name
        assert spec.schema["required"] == ["value"]
        value = spec.schema["properties"]["value"]
        if "$ref" in value:
            value = spec.schema["$defs"][value["$ref"].rpartition("/")[2]]
        assert value == inner

    def test_a_schema_is_made_strict(self) -> None:
        """A JSON schema as a dict goes out as both vendors take it, under its title."""
        spec = as_output(SCHEMA)
        assert spec.name == "Weather"
        assert spec.schema["required"] == ["degrees", "sky", "seen"]
        assert spec.schema["properties"]["degrees"] == {**WHOLE, "description": "at least -90"}

    @pytest.mark.parametrize(
        "given",
        [
            {
                "type": "json_schema",
                "json_schema": {"name": "mine", "schema": SCHEMA, "strict": True},
            },
            {"type": "json_schema", "name": "mine", "schema": SCHEMA},
            {"name": "mine", "schema": SCHEMA},
            {"format": {"type": "json_schema", "name": "mine", "schema": SCHEMA}},
        ],
    )
    def test_the_wrappings_of_vendors_are_understood(self, given: Any) -> None:
        """What the vendors' own parameters hold is taken out of them, with its name."""
        spec = as_output(given)
        assert spec.name == "mine"
        assert spec.schema == as_output(SCHEMA).schema

    def test_claudes_wrapping_has_no_name(self) -> None:
        """Without a name the schema's title serves."""
        assert as_output({"type": "json_schema", "schema": SCHEMA}).name == "Weather"

    @pytest.mark.parametrize(
        ("schema", "name"),
        [
            ({"type": "object", "properties": {}}, "output"),
            ({"type": "object", "properties": {}, "title": "Größe & Co"}, "Gr_e_Co"),
            ({"type": "object", "properties": {}, "title": "x" * 99}, "x" * 64),
            ({"type": "object", "properties": {}, "title": "日本"}, "output"),
        ],
    )
    def test_names_are_what_openai_takes(self, schema: Any, name: str) -> None:
        """A name has at most 64 letters, digits, underscores and hyphens."""
        assert as_output(schema).name == name

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            ({"type": "json_object"}, "'json_object' without a schema goes out as"),
            ({"type": "text"}, "'text' without a schema"),
            ({"type": "json_schema"}, "'json_schema' without a schema"),
            ({"city": "str"}, "is no JSON schema: it has neither 'type' nor 'properties'"),
            ({}, "is no JSON schema"),
            (
                {"type": "object", "properties": {"a": {"type": "str"}}},
                r"at \$\.a: 'str' is no type",
            ),
            ({"type": "object"}, r"at \$: an open map"),
            ({"type": "array"}, r"at \$: a list of anything"),
            ({"$ref": "https://example.com/schema"}, "leads nowhere"),
            (
                {"type": "object", "properties": {"a": {**WHOLE, "minimum": "x"}}},
                r"no valid JSON schema: at \$\.properties\.a\.minimum",
            ),
            (
                {"type": "object", "properties": {"a": {**TEXT, "pattern": "("}}},
                r"no valid JSON schema: at \$\.properties\.a\.pattern: '\(' is not a 'regex'",
            ),
            ({"type": "object", "properties": {"a": object()}}, "object is no JSON type"),
            ({"type": "object", "properties": {1.5: TEXT, "a": float("nan")}}, "NaN"),
            (
                dict[str, int],
                r"output=dict\[str, int\] has no strict JSON schema: at \$: an open map",
            ),
            (Any, r"output=Any has no strict JSON schema: at \$: anything"),
            (object, "output=object: no JSON schema can be made of object"),
            (Item("hidden"), "no JSON schema can be made of an object of the class Item"),
            ([Item], "an object of the class list"),
            ("Item", "an object of the class str: it is no type; pass the class itself"),
        ],
    )
    def test_what_cannot_be_asked_for_is_refused(self, given: Any, why: str) -> None:
        """The error says what was given and why it cannot be; nothing is sent."""
        with pytest.raises(InvalidRequestError, match=why) as caught:
            as_output(given)
        assert "hidden" not in str(caught.value)

    def test_without_jsonschema_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What would be missing for the reply is missed before anything is sent."""
        real = builtins.__import__

        def without(name: str, *args: Any, **named: Any) -> Any:
            if name.split(".")[0] == "jsonschema":
                raise ImportError(name)
            return real(name, *args, **named)

        for name in [name for name in sys.modules if name.split(".")[0] == "jsonschema"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(ConfigurationError, match=r"pip install 'termai-http\[structured\]'"):
            as_output({**SCHEMA, "title": "Unseen"})


class TestReplies:
    """``read_output``."""

    @pytest.mark.parametrize(
        ("given", "text", "value"),
        [
            (
                Order,
                '{"items":[{"name":"a","amount":2,"note":null}],"total":3}',
                Order([Item("a", 2, None)], 3.0),
            ),
            (
                Order,
                '{"items":[{"name":"a","amount":null,"note":"x"}],"total":null}',
                Order([Item("a", 1, "x")]),
            ),
            (Order, '{"items":[]}', Order([])),
            (Order, '\ufeff {"items":[]}\r\n\t ', Order([])),
            (Order, '```json\n{"items":[]}\n```', Order([])),
            (Order, '  ```\r\n{"items":[]}\r\n```\n', Order([])),
            (Order, '```JSON  \n{"items":[{"name":"```"}]}```', Order([Item("```")])),
            (int, '{"value": 3}', 3),
            (
                list[Item],
                '{"value":[{"name":"a","amount":null,"note":null}]}',
                [Item("a", 1, None)],
            ),
            (int | None, '{"value": null}', None),
            (Point, '{"value":[1,2.5]}', Point(1.0, 2.5)),
            (Node, '{"value":1,"next":{"value":2,"next":null}}', Node(value=1, next=Node(value=2))),
            (SCHEMA, '{"degrees":3,"sky":null,"seen":null}', {"degrees": 3}),
            (
                SCHEMA,
                '{"degrees":3,"sky":"grey","seen":"2026-11-01"}',
                {"degrees": 3, "sky": "grey", "seen": "2026-11-01"},
            ),
            (
                {"type": "array", "items": {"anyOf": [WHOLE, {"$ref": "#"}]}},
                '{"value":[1,[2,[]]]}',
                [1, [2, []]],
            ),
            ({"enum": ["a", 1]}, '{"value":1}', 1),
            (str, '{"value":"\\ud83c\\udf89 \\ud83c"}', "🎉 \ufffd"),
            (list[str], '{"value":["\\uD83C"]}', ["\ufffd"]),
        ],
    )
    def test_a_reply_becomes_the_value(self, given: Any, text: str, value: Any) -> None:
        """As the type it was asked for as, or as plain data where a schema was given."""
        assert read(given, text) == value

    @pytest.mark.parametrize(
        ("given", "text", "path", "reason"),
        [
            (
                Order,
                '{"items":[{"name":"a"},{"name":"hidden","amount":"hidden"}]}',
                "$.items[1].amount",
                "output=Order: at $.items[1].amount: Expected `int`, got `str`.",
            ),
            (Order, "[]", "$", "output=Order: at $: Expected `object`, got `array`."),
            (Order, '{"items":null}', "$.items", "Expected `array`, got `null`."),
            (Order, '"hidden"', "$", "Expected `object`, got `str`."),
            (int, "3", "$", "output=int: at $: expected an object with 'value', got integer."),
            (int, '{"hidden":3}', "$", "expected an object with 'value', got object."),
            (int, '{"value":"hidden"}', "$", "Expected `int`, got `str`."),
            (list[Item], '{"value":[{"name":"a"},{}]}', "$[1]", "missing required field `name`."),
            (Literal["a"], '{"value":"hidden"}', "$", "it is none of the values allowed."),
            (
                Node,
                '{"value":1,"next":{"value":"hidden"}}',
                "$.next.value",
                "Input should be a valid integer",
            ),
            (
                SCHEMA,
                '{"degrees":-91}',
                "$.degrees",
                "output=Weather: at $.degrees: it breaks 'minimum': -90.",
            ),
            (SCHEMA, '{"degrees":"hidden"}', "$.degrees", "expected integer, got string."),
            (SCHEMA, '{"sky":"grey"}', "$", "'degrees' is missing."),
            (SCHEMA, '{"degrees":1,"sky":"hidden"}', "$.sky", "it is none of the values allowed."),
            (SCHEMA, '{"degrees":1,"seen":"hidden"}', "$.seen", "it breaks 'format': \"date\"."),
            (
                {"type": "object", "properties": {}, "additionalProperties": False},
                '{"hidden":1}',
                "$",
                "it has a property that the schema does not name.",
            ),
            (
                {"anyOf": [WHOLE, {"type": "boolean"}]},
                '{"value":"hidden"}',
                "$",
                "string that fits none of the schemas allowed.",
            ),
            (
                {"type": ["integer", "null"]},
                '{"value":"hidden"}',
                "$",
                "expected integer or null, got string.",
            ),
        ],
    )
    def test_a_misfit_says_where_and_why(
        self, given: Any, text: str, path: str, reason: str
    ) -> None:
        """The path and the reason are in the message, the reply only in the error's text."""
        error = refused(given, text)
        assert error.path == path
        assert reason in error.message
        assert error.text == text
        assert error.code is None
        assert "hidden" not in str(error)

    @pytest.mark.parametrize(
        ("kind", "reply"),
        [
            (Choice, {"kind_of_choice": HIDDEN}),
            (Closed, {"kind_of_choice": "a", HIDDEN: 1}),
            (ClosedStruct, {"kind_of_choice": "a", HIDDEN: 1}),
            (Tagged, {"pet": {"kind_of_choice": HIDDEN}}),
        ],
    )
    def test_a_validators_words_do_not_repeat_the_reply(self, kind: Any, reply: Any) -> None:
        """A model may repeat the prompt, and a validator what the model wrote; neither is shown."""
        error = refused(kind, json.dumps(reply))
        assert HIDDEN[:12] not in f"{error.message} {error.path}"
        assert HIDDEN in error.text

    def test_a_validator_may_name_what_the_schema_names(self) -> None:
        """The names of fields stay readable."""
        error = refused(Choice, '{"kind_of_choice":"b"}')
        assert "'kind_of_choice' must be in ['a']" in error.message

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("hidden", "Expecting value at line 1, column 1"),
            ('{"items": []} hidden', "Extra data at line 1, column 15"),
            ('{"items": [', "it ends before it is complete"),
            ('{"items": [NaN]}', "NaN is no JSON number"),
            ('{"total": 1e999}', "a number is too large"),
            ("```json\n{}", "Expecting value at line 1, column 1"),
            ("```json\nhidden\n```", "Expecting value at line 1, column 1"),
            ('Here it is:\n```json\n{"items":[]}\n```', "Expecting value at line 1, column 1"),
            ("[" * 100_000, "nested too deeply"),
            ("{'items': []}", "Expecting property name"),
        ],
    )
    def test_what_is_no_json_says_why(self, text: str, why: str) -> None:
        """Nothing is mended and nothing is dug out of other words."""
        error = refused(Order, text)
        assert error.path is None
        assert f"The reply is no JSON: {why}" in error.message
        assert error.text == text
        assert "hidden" not in str(error)

    def test_a_deep_reply_is_an_error_like_any_other(self) -> None:
        """What Python cannot walk through is a misfit, not a crash."""
        text = '{"value":1,"next":' * 400 + "null" + "}" * 400
        error = refused(Node, text)
        assert "nested too deeply" in error.message or "recursion" in error.message.lower()

    @pytest.mark.parametrize("reason", ["length", "max_tokens", "max_output_tokens"])
    def test_a_reply_that_was_cut_off_says_so(self, reason: str) -> None:
        """It says what to raise, whichever vendor's word it is."""
        error = refused(Order, '{"items": [{"na', finish_reason=reason)
        assert "cut off at its token limit" in error.message
        assert "max_tokens" in error.message
        assert (error.code, error.path, error.text) == (reason, None, '{"items": [{"na')

    def test_nothing_before_the_limit_is_cut_off_too(self) -> None:
        """A model may spend all its tokens on reasoning."""
        assert refused(Order, "", finish_reason="length").code == "length"

    def test_a_whole_reply_at_the_limit_is_read(self) -> None:
        """What is complete is complete; what does not fit, does not."""
        assert read(Order, '{"items":[]}', finish_reason="length") == Order([])
        assert refused(Order, '{"items":1}', finish_reason="length").path == "$.items"

    def test_a_filtered_reply_says_so(self) -> None:
        """The vendor's filter has its own message."""
        error = refused(Order, '{"items', finish_reason="content_filter")
        assert "content filter" in error.message
        assert error.code == "content_filter"

    @pytest.mark.parametrize(
        ("text", "reply", "shown"),
        [
            ("", {"refusal": "I will not."}, "I will not."),
            ("I cannot.", {"finish_reason": "refusal"}, "I cannot."),
            ("part", {"finish_reason": "refusal", "refusal": "No."}, "No."),
            ('{"items":[]}', {"refusal": "No."}, "No."),
        ],
    )
    def test_a_refusal_is_an_error_of_its_own(self, text: str, reply: Any, shown: str) -> None:
        """Its code tells it apart; its words are the text."""
        error = refused(Order, text, **reply)
        assert (error.code, error.path, error.text) == ("refusal", None, shown)
        assert "refused" in error.message
        assert shown not in str(error)

    def test_an_error_can_be_pickled(self) -> None:
        """Message, text and path go along."""
        error = refused(Order, '{"items":1}')
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.text, again.path) == (str(error), error.text, error.path)

    @given(st.text(max_size=40))
    def test_whatever_a_model_says_is_read_or_refused(self, text: str) -> None:
        """No text makes another error than an ``OutputError``."""
        for kind in (Order, int, SCHEMA):
            spec = as_output(kind)
            with pytest.raises(OutputError):
                read_output(spec, decoded(text))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["items", "name", "value", "degrees"]), inner, max_size=3
                )
            ),
        )
    )
    def test_whatever_json_comes_is_read_or_refused(self, value: Any) -> None:
        """What is read was allowed; what is refused has a path."""
        for kind in (Order, Node, SCHEMA):
            found: Any = None
            with contextlib.suppress(OutputError):
                found = read(kind, json.dumps(value))
            if found is None:
                assert refused(kind, json.dumps(value)).path is not None
            else:
                assert isinstance(found, (Order, Node, dict))


class TestKept:
    """What is built for a type is built once, and not for ever."""

    @pytest.mark.parametrize(
        "given",
        [
            Order,
            list[Order],
            int | None,
            Literal["a"],
            Annotated[int, "x"],
            SCHEMA,
            pydantic.TypeAdapter(int),
        ],
    )
    def test_one_type_is_built_once(self, given: Any) -> None:
        """The same type, an equal one, and an equal schema give the same value."""
        again = dict(given) if isinstance(given, Mapping) else given
        assert as_output(again) is as_output(given)

    def test_the_order_of_properties_counts(self) -> None:
        """A model writes them in their order, so two orders are two schemas."""
        turned = {**SCHEMA, "properties": dict(reversed(SCHEMA["properties"].items()))}  # type: ignore[attr-defined]
        assert list(as_output(turned).schema["properties"]) == ["seen", "sky", "degrees"]
        assert list(as_output(SCHEMA).schema["properties"]) == ["degrees", "sky", "seen"]

    def test_the_schema_given_may_change(self) -> None:
        """What was built does not follow what the caller does to the dict later."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"a": dict(WHOLE)},
            "required": ["a"],
        }
        spec = as_output(schema)
        schema["properties"]["a"]["type"] = "string"
        assert spec.read('{"a":1}') == {"a": 1}
        assert as_output(schema).read('{"a":"x"}') == {"a": "x"}

    def test_a_type_without_a_hash_can_be_asked_for(self) -> None:
        """It is built each time."""
        assert read(Annotated[int, {"no": "hash"}], '{"value":1}') == 1

    def test_a_large_schema_is_not_kept(self) -> None:
        """Only small ones are worth their memory."""
        large = {**SCHEMA, "description": "x" * (_output._MOST_KEPT_TEXT + 1)}
        assert as_output(large) is not as_output(large)

    def test_classes_do_not_live_for_ever(self) -> None:
        """Whoever makes classes as he goes does not fill the memory."""

        def make() -> weakref.ref[type]:
            made = dataclasses.make_dataclass("Made", [("a", int)])
            as_output(made)
            return weakref.ref(made)

        made = [make() for _ in range(3 * _output._MOST_KEPT)]
        gc.collect()
        assert sum(one() is not None for one in made) <= _output._MOST_KEPT

    def test_threads_may_ask_at_once(self) -> None:
        """Many threads that ask for a new type at a time all get the same schema."""
        made = dataclasses.make_dataclass("Raced", [("a", list[Order])])
        barrier = threading.Barrier(8)
        specs: list[OutputSpec] = []

        def ask() -> None:
            barrier.wait(20)
            specs.append(as_output(made))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(specs) == 8
        assert all(spec.schema == specs[0].schema for spec in specs)


@pytest.mark.parametrize("given", [Order, list[Order], Node, int, Point, SCHEMA])
def test_what_goes_out_is_a_json_schema(given: Any) -> None:
    """Every schema is valid, and no property of it is optional."""
    schema = as_output(given).schema
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema)
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting.extend(node.values())
            if node.get("type") == "object":
                assert node["required"] == list(node["properties"])
                assert node["additionalProperties"] is False
        elif isinstance(node, list):
            waiting.extend(node)
