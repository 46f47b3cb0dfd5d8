"""Requests as values, and the shapes that prompts may have."""

from __future__ import annotations

from typing import Any

import pytest

from termai_http import ChatRequest, Document, Image, InvalidRequestError, Message
from termai_http.models import as_messages

SECRET = "what nobody may see"


def test_text_is_one_user_turn() -> None:
    """A string becomes a list with one user message."""
    assert as_messages("hi") == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}],
        ({"role": "user", "content": "a", "name": "kept"},),
        [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}],
        [{"role": "assistant", "audio": {"id": "1"}}],
        [{"role": "tool", "content": "", "tool_call_id": "1"}],
        [{"role": "developer", "content": "a"}],
    ],
)
def test_good_messages_go_out_as_they_are(messages: Any) -> None:
    """Fields that are not ours are kept."""
    assert as_messages(messages) == list(messages)


IMAGE = Image(b"\x89PNG\r\n\x1a\n")
DOCUMENT = Document(b"%PDF-1.7")


@pytest.mark.parametrize(
    "parts",
    [
        ["look", IMAGE],
        [IMAGE],
        (DOCUMENT, "sum it up"),
        ["a", {"type": "text", "text": "b"}],
        [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x"}}],
        [{"type": "document", "source": {"type": "url", "url": "https://x"}}],
    ],
)
def test_parts_are_one_user_turn(parts: Any) -> None:
    """A list with a part in it, of ours or of a vendor's, is the content of one turn."""
    assert as_messages(parts) == [{"role": "user", "content": parts}]


def test_a_part_alone_is_a_user_turn() -> None:
    """An image or a document needs no list around it, in a prompt or a message."""
    assert as_messages(IMAGE) == [{"role": "user", "content": [IMAGE]}]
    assert as_messages([{"role": "user", "content": DOCUMENT}])[0]["content"] == [DOCUMENT]


def test_items_of_responses_stay_as_they_are() -> None:
    """What has a type and no role is for the dialect to say."""
    items = [
        {"role": "user", "content": "a"},
        {"type": "function_call_output", "call_id": "1", "output": "b"},
    ]
    assert as_messages(items) == items


@pytest.mark.parametrize("cache", [True, "5m", "1h"])
def test_a_message_says_whether_it_is_cached(cache: bool | str) -> None:
    """The mark of a Message is a key of its dict; without one there is no such key."""
    assert as_messages([Message("user", "a", cache=cache)])[0]["cache"] == cache
    assert "cache" not in as_messages([Message("user", "a")])[0]


def test_a_message_becomes_a_dict() -> None:
    """Message and dict may be mixed; the caller's own objects stay untouched."""
    original = {"role": "user", "content": "b"}
    made = as_messages([Message("system", "a"), original])
    assert made == [{"role": "system", "content": "a"}, original]
    assert made[1] is not original


@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ([], "empty"),
        (None, "NoneType"),
        (3, "int"),
        (b"bytes", "bytes"),
        ({"role": "user", "content": SECRET}, "dict"),
        ([3], r"messages\[0\] must be"),
        ([SECRET, 3], r"messages\[0\]\.content\[1\] must be"),
        (["", " "], r"messages\[0\]\.content is empty"),
        ([{"type": "text"}, {"role": "user", "content": SECRET}], r"messages\[0\]\.content\[1\]"),
        ([{"content": SECRET}], r"messages\[0\]\.role is missing"),
        ([{"role": SECRET, "content": "a"}], r"messages\[0\]\.role is unknown"),
        ([{"role": "user"}], r"messages\[0\]\.content is missing"),
        ([{"role": "user", "content": None}], r"messages\[0\]\.content is missing"),
        ([{"role": "assistant", "content": None}], r"content is missing"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": ""}], r"messages\[1\]"),
        ([{"role": "user", "content": []}], "empty list"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content must be"),
        ([{"role": "user", "content": [SECRET, None]}], r"messages\[0\]\.content\[1\]"),
        ([{"role": "user", "content": "a", "cache": SECRET}], r"messages\[0\]\.cache must be"),
        ([{"role": "user", "content": [{"text": SECRET}]}], r"content\[0\]"),
    ],
)
def test_a_wrong_shape_is_told_by_place(prompt: Any, place: str) -> None:
    """The message names the place, and never shows what stands there."""
    with pytest.raises(InvalidRequestError, match=place) as caught:
        as_messages(prompt)
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"system": " "}, "system"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"reasoning": "lots"}, "reasoning must be"),
        ({"reasoning": 3}, "reasoning must be"),
        ({"stop": []}, "stop must be"),
        ({"stop": ""}, "stop must be"),
        ({"stop": ["a", 3]}, "stop must be"),
        ({"stop": 3}, "stop must be"),
        ({"extra": None}, "extra must be a dict, not NoneType"),
        ({"extra": {1: 2}}, "extra must be a dict whose keys are text"),
    ],
)
def test_a_request_is_validated(fields: dict[str, Any], name: str) -> None:
    """A field of a wrong shape is named."""
    with pytest.raises(InvalidRequestError, match=name):
        ChatRequest(**{"model": "m", "messages": "hi", **fields})


def test_one_stop_is_a_list_of_one() -> None:
    """A stop text needs no list around it."""
    assert ChatRequest("m", "hi", stop="END").stop == ["END"]


def test_a_request_does_not_show_its_prompt() -> None:
    """The repr of a request holds neither messages nor system nor extra."""
    request = ChatRequest("m", SECRET, system=SECRET, extra={"user": SECRET})
    assert SECRET not in repr(request)
    assert SECRET not in repr(Message("user", SECRET))
