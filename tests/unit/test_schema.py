"""JSON schemas in the form that the vendors' strict modes take, and values of them read back."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from termai_http import InvalidRequestError
from termai_http._schemas.stand_ins import restore, takes_null, type_of
from termai_http._schemas.strict import inlined, refers_to_itself, strict

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NULL = {"type": "null"}


def closed(description: str | None = None, /, **properties: Any) -> dict[str, Any]:
    """Return an object as strict modes want it."""
    node: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {**node, "description": description} if description else node


def of(node: Any, **more: Any) -> dict[str, Any]:
    """Return a schema with one required property."""
    return {"type": "object", "properties": {"a": node}, "required": ["a"], **more}


def strict_of(node: Any, **more: Any) -> Any:
    """Return what the strict form says of that property."""
    return strict(of(node, **more), "it")["properties"]["a"]


@pytest.mark.parametrize(
    ("node", "kept"),
    [
        (TEXT, TEXT),
        ({"type": "number"}, {"type": "number"}),
        ({"type": "boolean"}, {"type": "boolean"}),
        (NULL, NULL),
        ({"type": ["string"]}, TEXT),
        ({"type": ["string", "null"]}, {"anyOf": [TEXT, NULL]}),
        (
            {"type": ["integer", "array"], "items": TEXT, "minimum": 1, "description": "d"},
            {
                "anyOf": [
                    {"type": "integer", "description": "at least 1"},
                    {"type": "array", "items": TEXT, "description": "at least 1"},
                ],
                "description": "d",
            },
        ),
        (
            {"type": "string", "title": "A", "description": " d "},
            {**TEXT, "title": "A", "description": " d "},
        ),
        ({"type": "string", "$comment": "c", "readOnly": True, "x-mine": 1, "default": "q"}, TEXT),
        ({"type": "array", "items": TEXT}, {"type": "array", "items": TEXT}),
        ({"items": TEXT}, {"type": "array", "items": TEXT}),
        ({"type": "object", "properties": {}}, closed()),
        ({"type": "object", "additionalProperties": False}, closed()),
        ({"properties": {"b": TEXT}, "required": ["b"]}, closed(b=TEXT)),
        ({"type": "object", "properties": {}, "unevaluatedProperties": False}, closed()),
    ],
)
def test_what_both_vendors_take_is_kept(node: Any, kept: Any) -> None:
    """Types, titles and descriptions stay; what says nothing to a model goes."""
    assert strict_of(node) == kept


@pytest.mark.parametrize(
    ("node", "kept"),
    [
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "const": "a"}, {"type": "string", "const": "a"}),
        ({"const": 3}, {"type": "integer", "const": 3}),
        ({"const": True}, {"type": "boolean", "const": True}),
        ({"const": None}, NULL),
        (
            {"enum": [None, 1, "a", 2]},
            {
                "anyOf": [
                    NULL,
                    {"type": "integer", "enum": [1, 2]},
                    {"type": "string", "enum": ["a"]},
                ]
            },
        ),
        (
            {"enum": [True, 1]},
            {"anyOf": [{"type": "boolean", "enum": [True]}, {"type": "integer", "enum": [1]}]},
        ),
        ({"enum": [1.5], "title": "E"}, {"type": "number", "enum": [1.5], "title": "E"}),
    ],
)
def test_values_get_their_type(node: Any, kept: Any) -> None:
    """An enum says the type of its values, one schema for each type."""
    assert strict_of(node) == kept


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"type": "integer", "minimum": 0}, "at least 0"),
        ({"type": "number", "exclusiveMinimum": 0}, "more than 0"),
        ({"type": "number", "maximum": 2.5}, "at most 2.5"),
        ({"type": "number", "exclusiveMaximum": 2}, "less than 2"),
        ({"type": "integer", "multipleOf": 5}, "a multiple of 5"),
        ({"type": "string", "minLength": 2}, "at least 2 characters"),
        ({"type": "string", "maxLength": 9}, "at most 9 characters"),
        ({"type": "string", "format": "uri"}, "format uri"),
        ({"type": "string", "contentEncoding": "base64"}, "encoded as base64"),
        ({"type": "string", "examples": ["a", "b"]}, 'for example ["a", "b"]'),
        ({"type": "string", "pattern": "(?=a)b"}, "matching the regular expression (?=a)b"),
        ({"type": "string", "pattern": r"\bb"}, r"matching the regular expression \bb"),
        ({"type": "string", "pattern": r"(a)\1"}, r"matching the regular expression (a)\1"),
        ({"type": "string", "pattern": "a{1000}"}, "matching the regular expression a{1000}"),
        ({"type": "array", "items": TEXT, "minItems": 2}, "at least 2 items"),
        ({"type": "array", "items": TEXT, "maxItems": 3}, "at most 3 items"),
        ({"type": "array", "items": TEXT, "uniqueItems": True}, "no item twice"),
        ({"type": "integer", "minimum": 1, "maximum": 5}, "at least 1; at most 5"),
        ({"type": "integer", "minimum": 1, "description": "A day."}, "A day. (at least 1)"),
        ({"type": "string", "minLength": 0, "uniqueItems": False}, None),
    ],
)
def test_bounds_are_said_in_words(node: Any, words: str | None) -> None:
    """A bound that one of the vendors refuses goes into the description."""
    kept = strict_of(node)
    assert kept.pop("description", None) == words
    assert kept == {key: node[key] for key in ("type", "items") if key in node}


@pytest.mark.parametrize(
    "node",
    [
        *(
            {"type": "string", "format": name}
            for name in ("date-time", "time", "date", "duration", "email", "hostname", "uuid")
        ),
        {"type": "string", "pattern": "^[A-Z]{2,3}$"},
        {"type": "array", "items": TEXT, "minItems": 1},
        {"type": "array", "items": TEXT, "minItems": 0},
    ],
)
def test_bounds_that_both_take_are_kept(node: Any) -> None:
    """Formats that both know, plain patterns, and lists that may not be empty stay as they are."""
    assert strict_of(node) == node


def test_a_long_note_is_cut() -> None:
    """Examples of any length make no long description."""
    kept = strict_of({"type": "string", "examples": ["x" * 1000]})
    assert len(kept["description"]) < 250


@pytest.mark.parametrize(
    ("node", "kept"),
    [
        (TEXT, {"anyOf": [TEXT, NULL], "description": "null leaves it out"}),
        ({**TEXT, "default": "q"}, {"anyOf": [TEXT, NULL], "description": "null means q"}),
        ({**WHOLE, "default": 0}, {"anyOf": [WHOLE, NULL], "description": "null means 0"}),
        (
            {**WHOLE, "description": "d", "minimum": 1, "default": 2},
            {"anyOf": [WHOLE, NULL], "description": "d (at least 1) (null means 2)"},
        ),
        ({"anyOf": [TEXT, NULL], "default": "q"}, {"anyOf": [TEXT, NULL]}),
        ({"type": ["string", "null"]}, {"anyOf": [TEXT, NULL]}),
        ({"enum": ["a", None]}, {"anyOf": [{"type": "string", "enum": ["a"]}, NULL]}),
        (
            {"anyOf": [TEXT, WHOLE], "title": "T"},
            {"anyOf": [TEXT, WHOLE, NULL], "title": "T", "description": "null leaves it out"},
        ),
    ],
)
def test_what_was_optional_may_be_null(node: Any, kept: Any) -> None:
    """Every property is required; one that could be left out is nullable, and says what null is."""
    made = strict({"type": "object", "properties": {"a": node}}, "it")
    assert made["required"] == ["a"]
    assert made["properties"]["a"] == kept


@pytest.mark.parametrize(
    ("node", "kept"),
    [
        ({"anyOf": [TEXT, WHOLE]}, {"anyOf": [TEXT, WHOLE]}),
        (
            {"oneOf": [TEXT, WHOLE], "discriminator": {"propertyName": "a"}},
            {"anyOf": [TEXT, WHOLE]},
        ),
        ({"anyOf": [{"anyOf": [TEXT, NULL]}, WHOLE]}, {"anyOf": [TEXT, NULL, WHOLE]}),
        ({"anyOf": [TEXT]}, TEXT),
        ({"anyOf": [TEXT, TEXT]}, TEXT),
        ({"allOf": [TEXT], "description": "d"}, {**TEXT, "description": "d"}),
    ],
)
def test_unions_become_one_union(node: Any, kept: Any) -> None:
    """Unions are ``anyOf``, flat; an ``allOf`` of one is that one."""
    assert strict_of(node) == kept


@pytest.mark.parametrize(
    ("node", "items", "words"),
    [
        (
            {"prefixItems": [{"type": "number"}] * 2, "items": False},
            {"type": "number"},
            "exactly 2 items, in this order: number, number",
        ),
        (
            {
                "type": "array",
                "prefixItems": [WHOLE, {**TEXT, "title": "name"}],
                "maxItems": 2,
                "minItems": 2,
            },
            {"anyOf": [WHOLE, TEXT]},
            "exactly 2 items, in this order: integer, name (string)",
        ),
    ],
)
def test_a_tuple_is_a_list_in_words(node: Any, items: Any, words: str) -> None:
    """No vendor takes ``prefixItems``: its order is told, and checked on our side."""
    assert strict_of(node) == {"type": "array", "items": items, "description": words}


NODE = {
    "type": "object",
    "properties": {"v": WHOLE, "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    "required": ["v", "kids"],
}
ITEM = {"type": "object", "properties": {"p": WHOLE}, "required": ["p"], "description": "An item."}


class TestReferences:
    """``$ref``, which OpenAI takes into ``$defs`` only, and with nothing beside it."""

    def test_a_definition_is_kept_once(self) -> None:
        """What two places refer to is defined once; what none refers to is dropped."""
        schema = {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/I"}, "b": {"$ref": "#/$defs/I"}},
            "required": ["a", "b"],
            "$defs": {"I": ITEM, "Unused": {"not": {}}},
        }
        made = strict(schema, "it")
        assert made["properties"] == {"a": {"$ref": "#/$defs/I"}, "b": {"$ref": "#/$defs/I"}}
        assert made["$defs"] == {"I": closed("An item.", p=WHOLE)}

    def test_a_reference_at_the_root_is_followed(self) -> None:
        """The root is an object itself, whatever it referred to."""
        schema = {"$ref": "#/$defs/I", "$defs": {"I": {"$ref": "#/$defs/J"}, "J": ITEM}}
        assert strict(schema, "it") == closed("An item.", p=WHOLE)
        assert strict({**schema, "description": "Mine."}, "it") == closed("Mine.", p=WHOLE)
        assert inlined(schema)["properties"] == ITEM["properties"]

    def test_what_refers_to_itself_stays(self) -> None:
        """A recursive schema keeps its definition, and its root is an object all the same."""
        made = strict({"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}, "it")
        node = closed(v=WHOLE, kids={"type": "array", "items": {"$ref": "#/$defs/Node"}})
        assert made == {**node, "$defs": {"Node": node}}

    def test_what_stands_beside_a_reference_is_inlined(self) -> None:
        """A description beside a reference needs the schema itself in its place."""
        made = strict_of({"$ref": "#/$defs/I", "description": "Mine."}, **{"$defs": {"I": ITEM}})
        assert made == closed("Mine.", p=WHOLE)

    def test_what_says_nothing_beside_a_reference_is_dropped(self) -> None:
        """A default or a title beside a reference leaves it a reference."""
        beside = {"$ref": "#/$defs/I", "default": {"p": 1}, "title": "T"}
        assert strict_of(beside, **{"$defs": {"I": ITEM}}) == {"$ref": "#/$defs/I"}

    @pytest.mark.parametrize(
        ("schema", "itself"),
        [
            ({"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}, True),
            (of({"$ref": "#"}), True),
            (
                of(
                    {"$ref": "#/$defs/A"},
                    **{"$defs": {"A": of({"$ref": "#/$defs/B"}), "B": of({"$ref": "#/$defs/A"})}},
                ),
                True,
            ),
            (
                of({"$ref": "#/$defs/A"}, **{"$defs": {"A": of({"$ref": "#/$defs/I"}), "I": ITEM}}),
                False,
            ),
            (of({"$ref": "#/$defs/Nowhere"}), False),
            (of(TEXT), False),
        ],
    )
    def test_recursion_is_seen(self, schema: Any, itself: bool) -> None:
        """Claude refuses what refers to itself, over however many definitions."""
        assert refers_to_itself(schema) is itself
        if itself:
            assert refers_to_itself(strict(schema, "it"))

    def test_an_endless_reference_keeps_its_description(self) -> None:
        """What refers to itself cannot be inlined; its description goes around it."""
        node = copy.deepcopy(NODE)
        node["properties"]["kids"]["items"]["description"] = "A child."
        made = strict({"$ref": "#/$defs/Node", "$defs": {"Node": node}}, "it")
        items = {"anyOf": [{"$ref": "#/$defs/Node"}], "description": "A child."}
        assert made["properties"]["kids"]["items"] == items

    @pytest.mark.parametrize(
        ("schema", "pointer"),
        [
            (of({"type": "array", "items": {"$ref": "#"}}), "#/$defs/Root"),
            (
                of(
                    {"type": "array", "items": {"$ref": "#/definitions/I"}}, definitions={"I": ITEM}
                ),
                "#/$defs/I",
            ),
            (of({"type": "array", "items": {"$ref": "#/properties/a"}}), "#/$defs/a"),
            (
                of(
                    {"type": "array", "items": {"$ref": "#/$defs/a~1b~0"}},
                    **{"$defs": {"a/b~": ITEM}},
                ),
                "#/$defs/a_1b_0",
            ),
        ],
    )
    def test_every_reference_points_to_a_definition(self, schema: Any, pointer: str) -> None:
        """Wherever in the schema a reference pointed, it points into ``$defs`` now."""
        made = strict(schema, "it")
        assert made["properties"]["a"]["items"] == {"$ref": pointer}
        assert pointer.rpartition("/")[2] in made["$defs"]

    def test_names_that_collide_are_told_apart(self) -> None:
        """Two definitions with one last name get two names."""
        schema = {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/I"}, "b": {"$ref": "#/definitions/I"}},
            "required": ["a", "b"],
            "$defs": {"I": ITEM},
            "definitions": {"I": NODE["properties"]["v"]},
        }
        made = strict(schema, "it")
        assert made["properties"]["b"] == {"$ref": "#/$defs/I_2"}
        assert made["$defs"]["I_2"] == WHOLE

    @pytest.mark.parametrize(
        "reference", ["#/$defs/Nowhere", "https://example.com/schema", "other.json", "#name", 7]
    )
    def test_a_reference_to_nowhere_is_refused(self, reference: Any) -> None:
        """References leave the schema neither for the network nor for nowhere."""
        with pytest.raises(InvalidRequestError, match=r"at \$\.a: the reference .* leads nowhere"):
            strict(of({"$ref": reference}), "it")

    def test_a_circle_of_references_is_refused(self) -> None:
        """Definitions that only refer to each other say nothing."""
        defs = {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}
        for schema in (
            of({"$ref": "#/$defs/A"}, **{"$defs": defs}),
            {"$ref": "#/$defs/A", "$defs": defs},
        ):
            with pytest.raises(InvalidRequestError, match="leads nowhere"):
                strict(schema, "it")


@pytest.mark.parametrize(
    ("node", "place", "why"),
    [
        ({}, "$.a", "anything (Any) is allowed"),
        (True, "$.a", "anything (Any) is allowed"),
        ({"title": "A"}, "$.a", "it has no type"),
        ({"description": "d"}, "$.a", "it has no type"),
        (False, "$.a", "a schema is an object, not bool"),
        (["string"], "$.a", "a schema is an object, not list"),
        ({"type": "str"}, "$.a", "'str' is no type"),
        ({"type": None, "enum": []}, "$.a", "'enum' has to be a list"),
        ({"type": 3}, "$.a", "'3' is no type"),
        ({"type": "object"}, "$.a", "an open map"),
        ({"type": "object", "additionalProperties": TEXT}, "$.a", "an open map"),
        ({"type": "object", "additionalProperties": True}, "$.a", "an open map"),
        ({"additionalProperties": {}}, "$.a", "an open map"),
        (
            {"type": "object", "properties": {}, "additionalProperties": True},
            "$.a",
            "an open object",
        ),
        ({"type": "object", "properties": {}, "additionalProperties": {}}, "$.a", "an open object"),
        ({"type": "object", "properties": []}, "$.a", "'properties' has to be"),
        ({"type": "object", "properties": {}, "required": ["b"]}, "$.a", "it requires 'b'"),
        ({"type": "object", "patternProperties": {}}, "$.a", "'patternProperties' is not"),
        ({"type": "array"}, "$.a", "a list of anything"),
        ({"type": "array", "items": {}}, "$.a[]", "anything (Any)"),
        ({"type": "array", "items": {"type": "array"}}, "$.a[]", "a list of anything"),
        ({"type": "array", "prefixItems": []}, "$.a", "a tuple with an open or an empty end"),
        ({"prefixItems": [TEXT], "items": TEXT}, "$.a", "a tuple with an open or an empty end"),
        ({"prefixItems": [TEXT, {}], "items": False}, "$.a[1]", "anything (Any)"),
        ({"type": "array", "items": TEXT, "contains": TEXT}, "$.a", "'contains' is not"),
        ({"enum": []}, "$.a", "'enum' has to be a list"),
        ({"enum": "ab"}, "$.a", "'enum' has to be a list"),
        ({"enum": [[1]]}, "$.a", "'enum' may hold"),
        ({"const": {}}, "$.a", "'enum' may hold"),
        ({"anyOf": []}, "$.a", "'anyOf' has to be a list"),
        ({"anyOf": TEXT}, "$.a", "'anyOf' has to be a list"),
        ({"anyOf": [TEXT, {}]}, "$.a", "anything (Any)"),
        ({"anyOf": [TEXT], "type": "string"}, "$.a", "'type' beside 'anyOf'"),
        ({"allOf": [TEXT, TEXT]}, "$.a", "'allOf' is not"),
        ({"allOf": [TEXT], "type": "string"}, "$.a", "'allOf' is not"),
        ({"allOf": [True]}, "$.a", "a schema is an object"),
        ({"not": TEXT}, "$.a", "'not' is not"),
        ({"type": "string", "if": {}}, "$.a", "'if' is not"),
        ({"$ref": "#/$defs/I", "type": "object"}, "$.a", "'type' beside '$ref'"),
        (of({}), "$.a.a", "anything (Any)"),
    ],
)
def test_what_strict_modes_refuse_is_refused_here(node: Any, place: str, why: str) -> None:
    """The error names what was asked for, the place in it, and the reason."""
    with pytest.raises(InvalidRequestError) as caught:
        strict(of(node, **{"$defs": {"I": ITEM}}), "output=Weather")
    assert str(caught.value).startswith(
        f"output=Weather has no strict JSON schema: at {place}: {why}"
    )


@pytest.mark.parametrize(
    "root",
    [{"type": "array", "items": TEXT}, TEXT, {"anyOf": [of(TEXT), of(WHOLE)]}, {"enum": ["a"]}],
)
def test_a_root_that_is_no_object_is_refused(root: Any) -> None:
    """OpenAI takes an object at the root only."""
    with pytest.raises(InvalidRequestError, match=r"at \$: the root has to be an object"):
        strict(root, "it")


def nested(levels: int) -> dict[str, Any]:
    """Return objects in objects."""
    node: dict[str, Any] = {"type": "object", "properties": {}}
    for _ in range(levels - 1):
        node = of({"type": "array", "items": node})
    return node


class TestSize:
    """The limits that OpenAI documents."""

    def test_ten_levels_are_the_most(self) -> None:
        """Objects are nested in objects at most ten levels deep."""
        assert strict(nested(10), "it")
        with pytest.raises(InvalidRequestError, match="more than 10 levels"):
            strict(nested(11), "it")

    def test_levels_count_through_references(self) -> None:
        """A chain of definitions is as deep as the same objects without references."""
        defs = {f"D{at}": of({"$ref": f"#/$defs/D{at + 1}"}) for at in range(11)}
        defs["D11"] = of(TEXT)
        with pytest.raises(InvalidRequestError, match="more than 10 levels"):
            strict({"$ref": "#/$defs/D0", "$defs": defs}, "it")

    def test_five_thousand_properties_are_the_most(self) -> None:
        """A schema has at most 5,000 properties in all."""
        half = {"type": "object", "properties": {f"p{at}": WHOLE for at in range(2499)}}
        half["required"] = list(half["properties"])
        both = {"type": "object", "properties": {"a": half, "b": half}, "required": ["a", "b"]}
        assert strict(both, "it")
        both["properties"]["c"] = WHOLE
        with pytest.raises(InvalidRequestError, match="more than 5000 properties"):
            strict(both, "it")

    @pytest.mark.parametrize("union", [False, True])
    def test_copies_come_to_an_end(self, union: bool) -> None:
        """Definitions that double at every level are refused before they fill the memory."""
        defs = {}
        for at in range(25):
            inner = {"$ref": f"#/$defs/D{at + 1}", "description": "d"}
            both = {"type": "object", "properties": {"a": inner, "b": inner}}
            defs[f"D{at}"] = {"anyOf": [inner, inner, NULL]} if union else both
        defs["D25"] = of(TEXT)
        with pytest.raises(InvalidRequestError, match=r"5000 properties|too large"):
            strict(of({"$ref": "#/$defs/D0"}, **{"$defs": defs}), "it")

    @pytest.mark.parametrize(
        ("node", "why"),
        [
            ({"enum": [f"v{at}" for at in range(1001)]}, "more than 1000 values"),
            ({"enum": ["v" * 60 + str(at) for at in range(251)]}, "more than 15000 characters"),
            (
                of(TEXT, properties={"a" * 120_001: TEXT}, required=[]),
                "more than 120000 characters",
            ),
        ],
    )
    def test_names_and_values_have_their_limits(self, node: Any, why: str) -> None:
        """Enums and names are counted over the whole schema."""
        with pytest.raises(InvalidRequestError, match=why):
            strict(of(node), "it")

    def test_a_schema_without_end_is_refused(self) -> None:
        """What contains itself, and what is nested for nothing, ends in an error of ours."""
        endless: dict[str, Any] = {"anyOf": []}
        endless["anyOf"].append(endless)
        with pytest.raises(InvalidRequestError, match="nested too deeply"):
            strict(of(endless), "it")


def test_the_schema_given_stays_as_it_is() -> None:
    """The strict form is another object, through and through."""
    schema = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {**NODE, "properties": {**NODE["properties"], "o": {"enum": ["a", None]}}}
        },
    }
    before = copy.deepcopy(schema)
    made = strict(schema, "it")
    json.dumps(made)
    made["properties"]["v"]["type"] = "string"
    made["$defs"]["Node"]["required"].append("x")
    assert schema == before


RECURSIVE = {"$ref": "#/$defs/Node", "$defs": {"Node": {**NODE, "required": ["v"]}}}
TAGGED = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": kind}, "n": WHOLE, kind: TEXT},
            "required": ["kind"],
        }
        for kind in ("x", "y")
    ]
}
UNTAGGED = {
    "oneOf": [
        {"type": "object", "properties": {"a": WHOLE, "o": {"anyOf": [WHOLE, NULL]}}},
        {"type": "object", "properties": {"a": TEXT, "o": WHOLE}},
    ]
}


@pytest.mark.parametrize(
    ("schema", "value", "meant"),
    [
        ({"type": "object", "properties": {"a": TEXT}}, {"a": None}, {}),
        ({"type": "object", "properties": {"a": TEXT}}, {"a": "x"}, {"a": "x"}),
        (of(TEXT), {"a": None}, {"a": None}),
        (
            {"type": "object", "properties": {"a": {"anyOf": [TEXT, NULL]}}},
            {"a": None},
            {"a": None},
        ),
        ({"type": "object", "properties": {"a": {"enum": ["x", None]}}}, {"a": None}, {"a": None}),
        ({"type": "object", "properties": {"a": TEXT}}, {"b": None}, {"b": None}),
        (
            {"type": "array", "items": {"type": "object", "properties": {"a": TEXT}}},
            [{"a": None}, {"a": "x"}],
            [{}, {"a": "x"}],
        ),
        (
            {"prefixItems": [TEXT, {"type": "object", "properties": {"a": TEXT}}]},
            ["q", {"a": None}],
            ["q", {}],
        ),
        (RECURSIVE, {"v": 1, "kids": [{"v": 2, "kids": None}]}, {"v": 1, "kids": [{"v": 2}]}),
        (TAGGED, {"kind": "y", "n": None, "y": None}, {"kind": "y"}),
        (TAGGED, {"kind": "x", "n": 1, "x": None}, {"kind": "x", "n": 1}),
        (UNTAGGED, {"a": 1, "o": None}, {"a": 1, "o": None}),
        (UNTAGGED, {"a": "x", "o": None}, {"a": "x"}),
        ({"allOf": [{"type": "object", "properties": {"a": TEXT}}]}, {"a": None}, {}),
        (of(TEXT), [None], [None]),
        (of(TEXT), None, None),
        ({"$ref": "#/$defs/Nowhere"}, {"a": None}, {"a": None}),
        (UNTAGGED, {"b": None}, {"b": None}),
    ],
)
def test_a_null_in_place_of_nothing_is_left_out(schema: Any, value: Any, meant: Any) -> None:
    """A null goes where the property may be missing and may not be null, and nowhere else."""
    before = copy.deepcopy(value)
    assert restore(value, schema) == meant
    assert value == before


@pytest.mark.parametrize(
    ("node", "allowed"),
    [
        (NULL, True),
        (TEXT, False),
        ({"type": ["string", "null"]}, True),
        ({"type": ["string", "null"], "enum": ["a"]}, False),
        ({"const": None}, True),
        ({"anyOf": [TEXT, {"anyOf": [NULL]}]}, True),
        ({"$ref": "#/x"}, True),
        ({"$ref": "#/loop"}, False),
        ({}, True),
        (True, True),
        ({"title": "anything"}, True),
        ({"properties": {}}, False),
    ],
)
def test_whether_null_is_allowed(node: Any, allowed: bool) -> None:
    """Null is allowed by its type, as a value, in a union, behind a reference, or as anything."""
    root = {"x": NULL, "loop": {"$ref": "#/loop"}}
    assert takes_null(node, root) is allowed


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "boolean"),
        (1, "integer"),
        (1.0, "number"),
        ("", "string"),
        ([], "array"),
        ({}, "object"),
        (b"", "bytes"),
    ],
)
def test_the_type_of_a_value(value: Any, name: str) -> None:
    """Values have the names of JSON's types."""
    assert type_of(value) == name


@pytest.mark.parametrize("schema", [of(TEXT), RECURSIVE, of(TAGGED), of(UNTAGGED), nested(5)])
def test_the_strict_form_is_a_json_schema(schema: Any) -> None:
    """What comes out is a valid schema of the newest draft."""
    jsonschema.Draft202012Validator.check_schema(strict(schema, "it"))
