"""Embeddings, token counts and lists of models: what is asked, and how answers are read."""

from __future__ import annotations

import base64
import inspect
import json
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import termai_http
from termai_http import (
    ChatRequest,
    Client,
    InvalidRequestError,
    InvalidResponseError,
    Usage,
)
from termai_http._options import CallOptions
from termai_http._queries import _counted_body, _embedding_body
from termai_http._query_models import EmbeddingRequest
from termai_http._query_replies import read_count, read_embeddings, read_models
from termai_http._target import Account, Place, resolve

KEYS = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-claude"}
OPENAI = "https://api.openai.com"
OTHER = "https://a.example"


def target(base_url: str = OPENAI, provider: str = "openai", **options: Any) -> Place:
    """Resolve with every key set."""
    given = CallOptions(base_url=base_url, **options)
    return resolve(Account(provider=provider), given, KEYS, allow_http=False)


def body_of(texts: Any, base_url: str = OPENAI, **more: Any) -> dict[str, Any]:
    """Return the body of a request for vectors."""
    extra_body = more.pop("extra_body", None)
    request = EmbeddingRequest(texts=texts, model="m", **more)
    return _embedding_body(target(base_url), request, CallOptions(extra_body=extra_body))


def packed(*numbers: float) -> str:
    """Return numbers as OpenAI packs them."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def reply(*data: Any, **more: Any) -> dict[str, Any]:
    """Return an answer with vectors."""
    return {"object": "list", "data": list(data), "model": "m1", **more}


def vector(index: Any, *numbers: Any) -> dict[str, Any]:
    """Return one vector of an answer."""
    return {"object": "embedding", "index": index, "embedding": list(numbers)}


@pytest.mark.parametrize("texts", ["one", ["one"], ("one", "two"), [" "], ["one", "one"]])
def test_texts_go_out_as_they_are(texts: Any) -> None:
    """One text goes out as text, several as a list, repeated ones and spaces too."""
    sent = body_of(texts)["input"]
    assert sent == (texts if isinstance(texts, str) else list(texts))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("", "is empty"),
        ([], "is empty"),
        ((), "is empty"),
        (["a", ""], r"texts\[1\] is empty"),
        (["a", 3], r"texts\[1\] must be text, not int"),
        ([["a"]], r"texts\[0\] must be text, not list"),
        ([1, 2], r"texts\[0\] must be text"),
        (None, "not NoneType"),
        (b"bytes", "not bytes"),
        ({"a": 1}, "not dict"),
        (3, "not int"),
        (iter(["a"]), "a list of texts, not"),
    ],
)
def test_what_is_no_text_is_refused(texts: Any, said: str) -> None:
    """The message names the place and the type, and never shows a text."""
    with pytest.raises(InvalidRequestError, match=said):
        EmbeddingRequest(texts=texts, model="m")


@pytest.mark.parametrize("model", [None, "", "  ", 3])
def test_a_model_is_asked_for(model: Any) -> None:
    """There is no default model, since vectors of two models cannot be compared."""
    with pytest.raises(InvalidRequestError, match="text-embedding-3-small"):
        EmbeddingRequest(texts="a", model=model)


@pytest.mark.parametrize("dimensions", [0, -1, 1.5, "256", True])
def test_dimensions_are_a_whole_number(dimensions: Any) -> None:
    """Anything else is refused before it is sent."""
    with pytest.raises(InvalidRequestError, match="dimensions"):
        EmbeddingRequest(texts="a", model="m", dimensions=dimensions)


@pytest.mark.parametrize(
    ("base_url", "packs"),
    [
        (OPENAI, True),
        ("https://eu.api.openai.com/v1", True),
        ("https://mine.openai.azure.com", True),
        ("https://mine.services.ai.azure.com/openai/v1", True),
        (OTHER, False),
        ("http://127.0.0.1:11434/v1", False),
    ],
)
def test_base64_is_asked_for_where_it_is_known(base_url: str, packs: bool) -> None:
    """OpenAI and Azure pack vectors; others may refuse any format that is named, so none is."""
    assert body_of("a", base_url).get("encoding_format") == ("base64" if packs else None)
    assert "dimensions" not in body_of("a", base_url)
    floats = body_of("a", base_url, extra={"encoding_format": "float", "user": "42"})
    assert (floats["encoding_format"], floats["user"]) == ("float", "42")
    assert body_of("a", base_url, dimensions=2, extra_body={"dimensions": 3})["dimensions"] == 3


def test_too_many_texts_for_openai_are_told_before_they_are_sent() -> None:
    """2,048 texts are the most; the error says how to go on. Other servers decide themselves."""
    assert len(body_of(["a"] * 2048)["input"]) == 2048
    with pytest.raises(InvalidRequestError, match=r"2049 texts.*batches"):
        body_of(["a"] * 2049)
    assert len(body_of(["a"] * 2049, OTHER)["input"]) == 2049


def test_vectors_are_read_in_the_order_of_the_texts() -> None:
    """The index decides, in whatever order they come; without any, they are in order."""
    body = {"input": ["a", "b", "c"]}
    mixed = reply(vector(2, 5, 6), vector(0, 1, 2), vector(1, 3.5, 4))
    expected = [[1.0, 2.0], [3.5, 4.0], [5.0, 6.0]]
    assert read_embeddings(mixed, body)["vectors"] == expected
    ordered = reply(*({"embedding": one} for one in expected))
    found = read_embeddings(ordered, body)["vectors"]
    assert found == expected
    assert all(type(number) is float for one in found for number in one)


def test_packed_vectors_and_plain_ones_are_read_alike() -> None:
    """A server may ignore the format that was asked for; usage and model are read from both."""
    body = {"input": ["a", "b"], "encoding_format": "base64"}
    mixed = reply(
        {"index": 0, "embedding": packed(0.5, -2.0)},
        vector(1, 0.25, 1),
        usage={"prompt_tokens": 7, "total_tokens": 7},
    )
    assert read_embeddings(mixed, body) == {
        "vectors": [[0.5, -2.0], [0.25, 1.0]],
        "usage": Usage(input_tokens=7),
        "model": "m1",
    }


@given(
    st.lists(
        st.lists(st.floats(width=32, min_value=-1, max_value=1), min_size=3, max_size=3),
        min_size=1,
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_every_packed_vector_is_read_exactly(vectors: list[list[float]], chance: Any) -> None:
    """Packing loses nothing of a 32-bit number, and a shuffled answer is put in order."""
    data = [{"index": at, "embedding": packed(*one)} for at, one in enumerate(vectors)]
    chance.shuffle(data)
    found = read_embeddings(reply(*data), {"input": ["text"] * len(vectors)})
    assert found["vectors"] == vectors


@pytest.mark.parametrize(
    ("texts", "number"),
    [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (("a", "b"), 2)],
)
def test_the_vectors_are_counted_against_what_was_asked(texts: Any, number: int) -> None:
    """A text gives one, a list one each; tokens, which extra_body may hold, are counted too."""
    data = [vector(at, 1.0) for at in range(number)]
    assert len(read_embeddings(reply(*data), {"input": texts})["vectors"]) == number
    with pytest.raises(InvalidResponseError, match=f"{number + 1} vectors for {number}"):
        read_embeddings(reply(*data, vector(number, 1.0)), {"input": texts})


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        [vector(0, 1.0)],
        [vector(0, 1.0), None],
        [vector(0, 1.0), {"index": 1}],
        [vector(0, 1.0), {"index": 1, "embedding": None}],
        [vector(0, 1.0), vector(1)],
        [vector(0, 1.0), vector(1, "1.0")],
        [vector(0, 1.0), vector(1, True)],
        [vector(0, 1.0), vector(1, None)],
        [vector(0, 1.0), vector(1, [1.0])],
        [vector(0, 1.0), vector(1, 10**400)],
        [vector(0, 1.0), {"index": 1, "embedding": ""}],
        [vector(0, 1.0), {"index": 1, "embedding": "AAA"}],
        [vector(0, 1.0), {"index": 1, "embedding": "AAAA"}],
        [vector(0, 1.0), {"index": 1, "embedding": "not base64!"}],
        [vector(0, 1.0), {"index": 1, "embedding": "zürich=="}],
        [vector(0, 1.0), {"index": 1, "embedding": packed(float("nan"))}],
        [vector(0, 1.0), {"index": 1, "embedding": packed(float("inf"))}],
        [vector(0, 1.0), vector(1, 1.0, 2.0)],
        [vector(0, 1.0), vector(0, 2.0)],
        [vector(0, 1.0), vector(2, 2.0)],
        [vector(0, 1.0), vector(True, 2.0)],
        [vector(0, 1.0), vector("1", 2.0)],
        [vector(0, 1.0), vector(None, 2.0)],
        [vector(-1, 1.0), vector(0, 2.0)],
    ],
)
def test_what_is_not_one_vector_for_each_text_is_no_reply(data: Any) -> None:
    """Nothing is guessed: a vector at the wrong text would never be noticed."""
    with pytest.raises(InvalidResponseError):
        read_embeddings({"data": data}, {"input": ["a", "b"]})


def test_vectors_have_the_dimensions_that_were_asked_for() -> None:
    """A server that ignores the wish gives vectors that fit nowhere, and is told of."""
    data = reply(vector(0, 1.0, 2.0))
    assert read_embeddings(data, {"input": "a", "dimensions": 2})["vectors"] == [[1.0, 2.0]]
    with pytest.raises(InvalidResponseError, match="2 numbers, not the 1 that were asked for"):
        read_embeddings(data, {"input": "a", "dimensions": 1})


@pytest.mark.parametrize("usage", [None, {}, [], {"prompt_tokens": "7"}, {"prompt_tokens": -1}])
def test_missing_figures_of_vectors_are_zero(usage: Any) -> None:
    """Many compatible servers count nothing."""
    read = read_embeddings({"data": [vector(0, 1.0)], "usage": usage}, {"input": "a"})
    assert (read["usage"], read["model"]) == (Usage(), "")


def count_body(provider: str, request: Any, **options: Any) -> dict[str, Any]:
    """Return the body of a request to count."""
    api = "responses" if provider == "openai" else None
    return _counted_body(
        target(OPENAI if provider == "openai" else "https://api.anthropic.com", provider, api=api),
        request,
        CallOptions(**options),
    )


@pytest.mark.parametrize("provider", ["openai", "claude"])
def test_a_count_is_asked_for_without_what_changes_no_number(provider: str) -> None:
    """The arguments of a chat can be handed on as they are; the API refuses most of them."""
    request = ChatRequest(
        model="m",
        messages="How many?",
        system="Be brief.",
        max_tokens=10,
        stop=["END"],
        extra={"temperature": 0.5, "top_p": 1, "metadata": {}, "service_tier": "auto"},
    )
    body = count_body(provider, request)
    system = "instructions" if provider == "openai" else "system"
    assert body[system] == "Be brief."
    assert set(body) == {"model", system, "input" if provider == "openai" else "messages"}
    assert "How many?" in json.dumps(body)
    assert count_body(provider, request, extra_body={"max_tokens": 1})["max_tokens"] == 1


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("claude", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}),
        ("openai", {"input": "a", "max_output_tokens": 5}),
    ],
)
def test_a_vendors_own_body_is_counted_too(provider: str, body: dict[str, Any]) -> None:
    """The adapter takes it as it takes a chat's."""
    counted = count_body(provider, {"model": "m", **body})
    assert counted["model"] == "m"
    assert not {"max_tokens", "max_output_tokens"} & set(counted)
    with pytest.raises(InvalidRequestError, match="not int"):
        count_body(provider, 3)
    with pytest.raises(InvalidRequestError, match="No model"):
        count_body(provider, body)


@pytest.mark.parametrize("tokens", [0, 1, 2_000_000])
def test_a_count_is_a_number(tokens: int) -> None:
    """Zero is one, too."""
    assert read_count({"input_tokens": tokens, "object": "response.input_tokens"}) == tokens


@pytest.mark.parametrize(
    "payload", [{}, *({"input_tokens": n} for n in (None, "7", 1.0, True, -1))]
)
def test_what_is_no_count_is_no_reply(payload: Mapping[str, Any]) -> None:
    """An answer without a number of tokens is told as such."""
    with pytest.raises(InvalidResponseError, match="number of tokens"):
        read_count(payload)


def test_models_are_read_from_both_vendors() -> None:
    """OpenAI has seconds, Claude RFC 3339 and a name for people; all else is in raw."""
    entry = {"id": "gpt-5.5", "object": "model", "created": 1700000000, "owned_by": "openai"}
    models, after = read_models({"object": "list", "data": [entry]})
    assert after is None
    assert models[0].id == "gpt-5.5"
    assert models[0].created == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    assert (models[0].display_name, models[0].raw["owned_by"]) == (None, "openai")
    claude = {"id": "c", "display_name": "Claude C", "created_at": "2026-02-03T04:05:06Z"}
    models, after = read_models({"data": [claude], "has_more": True, "last_id": "c"})
    assert after == "c"
    assert models[0].created == datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    assert models[0].display_name == "Claude C"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((nothing, None) for nothing in (None, 0, "", "soon", [], {}, True, -1, 1e300, 10**400)),
        ("1970-01-01T00:00:00Z", None),
        (1700000000.5, datetime(2023, 11, 14, 22, 13, 20, 500000, timezone.utc)),
        ("2023-11-14T22:13:20", datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)),
        ("2023-11-14T23:13:20+01:00", datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)),
    ],
)
def test_a_time_that_is_none_is_none(value: Any, expected: datetime | None) -> None:
    """Servers write what they like there, and 1970 where they do not know."""
    assert read_models({"data": [{"id": "m", "created": value}]})[0][0].created == expected


@pytest.mark.parametrize(
    "payload",
    [
        *({}, {"data": None}, {"data": {}}, {"data": "m"}, {"data": [None]}, {"data": ["m"]}),
        *({"data": [{}]}, {"data": [{"id": ""}]}, {"data": [{"id": 3}]}),
        *({"data": [], "has_more": True}, {"data": [], "has_more": True, "last_id": 3}),
    ],
)
def test_what_is_no_list_of_models_is_no_reply(payload: Mapping[str, Any]) -> None:
    """A model without a name, or a page that does not say how to go on, is told as such."""
    with pytest.raises(InvalidResponseError):
        read_models(payload)


@pytest.mark.parametrize("name", ["embed", "count_tokens", "list_models"])
def test_the_client_takes_what_the_function_takes(name: str) -> None:
    """The signatures are the same but for client= and self, and chat's where it counts."""
    ours = inspect.signature(getattr(termai_http, name)).parameters
    methods = inspect.signature(getattr(Client, name)).parameters
    assert [p for p in ours if p != "client"] == [p for p in methods if p != "self"]
    if name == "count_tokens":
        # A count says nothing of another model's.
        chats = [p for p in inspect.signature(termai_http.chat).parameters if p != "fallback"]
        assert list(ours) == chats


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda **o: termai_http.embed("a", model="claude-x", **o), "Claude has no embeddings"),
        (lambda **o: termai_http.embed("a", model="m", provider="claude", **o), "no embeddings"),
        (lambda **o: termai_http.embed("a", model="m", system="s", **o), "system= is no option of"),
        (lambda **o: termai_http.embed("a", model="m", stream=True, **o), "stream= is no option"),
        (lambda **o: termai_http.embed("a", model="m", timout=3, **o), "timeout="),
        (lambda **o: termai_http.embed("a", model="m", dimension=3, **o), "dimensions="),
        (lambda **o: termai_http.embed("a\ud800", model="m", **o), "input: text with a lone"),
        (lambda **o: termai_http.embed("a", model=None, **o), "No model"),
        (lambda **o: termai_http.count_tokens("a", **o), "No model"),
        (lambda **o: termai_http.count_tokens("", model="m", **o), "empty"),
        (
            lambda **o: termai_http.count_tokens("a", model="claude", api="responses", **o),
            "OpenAI's",
        ),
        (lambda **o: termai_http.list_models(api_version="x", **o), "Claude's"),
        (lambda **o: termai_http.embed("a", model="m", client=3, **o), "client must be"),
        (lambda **o: termai_http.list_models(provider="azure", **o), "provider must be"),
    ],
)
def test_bad_input_is_told_before_anything_is_sent(ask: Callable[..., Any], said: str) -> None:
    """No connection is opened for it, and no call is counted."""
    with pytest.raises((InvalidRequestError, termai_http.ConfigurationError), match=said):
        ask(api_key="none", base_url="http://127.0.0.1:1")
    assert termai_http.stats().total_requests == 0
    assert termai_http.stats().calls.total_requests == 0


def test_a_missing_key_tells_where_claudes_models_are() -> None:
    """Who has only Claude's key is told how to list Claude's models."""
    with pytest.raises(termai_http.MissingKeyError, match='provider="claude"'):
        termai_http.list_models()
    with pytest.raises(termai_http.MissingKeyError) as caught:
        termai_http.list_models(provider="openai")
    assert "claude" not in str(caught.value)
