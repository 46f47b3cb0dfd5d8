"""Requests as values, and the shapes that prompts may have."""

from __future__ import annotations

from typing import Any

import pytest

from termai_http import ChatRequest, InvalidRequestError, Message
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
        ([SECRET], r"messages\[0\]"),
        ([{"content": SECRET}], r"messages\[0\]\.role is missing"),
        ([{"role": SECRET, "content": "a"}], r"messages\[0\]\.role is unknown"),
        ([{"role": "user"}], r"messages\[0\]\.content is missing"),
        ([{"role": "user", "content": None}], r"messages\[0\]\.content is missing"),
        ([{"role": "assistant", "content": None}], r"content is missing"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": ""}], r"messages\[1\]"),
        ([{"role": "user", "content": []}], "empty list"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content must be"),
        ([{"role": "user", "content": [SECRET]}], r"messages\[0\]\.content\[0\]"),
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
    ],
)
def test_a_request_is_validated(fields: dict[str, Any], name: str) -> None:
    """A field of a wrong shape is named."""
    with pytest.raises(InvalidRequestError, match=name):
        ChatRequest(**{"model": "m", "messages": "hi", **fields})


def test_a_request_does_not_show_its_prompt() -> None:
    """The repr of a request holds neither messages nor system nor extra."""
    request = ChatRequest("m", SECRET, system=SECRET, extra={"user": SECRET})
    assert SECRET not in repr(request)
    assert SECRET not in repr(Message("user", SECRET))
