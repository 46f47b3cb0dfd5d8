"""Conversations: what is kept, copied, saved and read again."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http import (
    ConfigurationError,
    Conversation,
    Document,
    Image,
    InvalidRequestError,
    Message,
    Usage,
)
from tests.contract.security_tools import everything, frames_with_locals, must_hide
from tests.faults.harness import KEY, PROMPT

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 8
PDF = b"%PDF-1.7\n"

TURNS: list[Any] = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": ["What is this?", Image(PNG, detail="low"), Document(PDF)]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "...", "signature": "s"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "", "is_error": True},
    {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
    {"role": "user", "content": "Again.", "cache": "1h"},
]


def test_messages_are_appended() -> None:
    """By role and content, as a Message, or as a dict; several in one step."""
    conversation = Conversation("gpt-5.5", system="Be brief.")
    conversation.append("user", "Hi.")
    conversation.append(Message("assistant", "Hello!", cache=True))
    conversation.append({"role": "tool", "tool_call_id": "1", "content": "42"})
    conversation.append("user", Image(PNG))
    conversation.extend(({"role": "assistant", "content": "A picture."},))
    assert len(conversation) == 5
    assert list(conversation) == conversation.messages
    assert conversation.messages[:2] == [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello!", "cache": True},
    ]
    assert conversation.messages[3] == {"role": "user", "content": [Image(PNG)]}
    conversation.extend([])
    assert (len(conversation), conversation.usage) == (5, Usage())


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (lambda c: c.append("user"), "content is missing"),
        (lambda c: c.append("user", ""), "content is empty"),
        (lambda c: c.append("user", 3), "not int"),
        (lambda c: c.append("nobody", "a"), "role is unknown"),
        (lambda c: c.append("Hello"), r"append\(\) takes a role and what was said"),
        (lambda c: c.append(3), "not int"),
        (lambda c: c.append(Message("user", "a"), "b"), "whole message"),
        (lambda c: c.append({"content": "a"}), "role is missing"),
        (lambda c: c.extend("text"), "not str"),
        (lambda c: c.extend([{"role": "user", "content": "a"}, "b"]), r"messages\[1\].*not str"),
        (lambda c: c.extend([{"role": "user", "content": "a"}, {}]), r"messages\[1\].role"),
        (lambda c: c.extend([Image(PNG)]), "not Image"),
    ],
)
def test_what_is_no_message_is_refused(add: Callable[[Conversation], None], said: str) -> None:
    """The error tells what is wrong, and nothing was added."""
    conversation = Conversation()
    with pytest.raises(InvalidRequestError, match=said):
        add(conversation)
    assert (len(conversation), conversation.messages) == (0, [])


def test_messages_are_copies_both_ways() -> None:
    """Nobody changes what was said, by what was given nor by what is got."""
    parts: list[Any] = [{"type": "text", "text": "one"}]
    message = {"role": "user", "content": parts}
    conversation = Conversation(messages=[message])
    parts.append({"type": "text", "text": "two"})
    parts[0]["text"] = "other"
    got = conversation.messages
    assert got == [{"role": "user", "content": [{"type": "text", "text": "one"}]}]
    got[0]["content"][0]["text"] = "other"
    got.append({"role": "user", "content": "more"})
    for message in conversation:
        message["role"] = "system"
    assert conversation.messages == [{"role": "user", "content": [{"type": "text", "text": "one"}]}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timout": 3}, "timeout="),
        ({"stream": True}, "stream"),
        ({"modell": "m"}, "model="),
        ({"prompt": "a"}, "first argument"),
        ({"max_retries": 3}, "RetryConfig"),
        ({"messages": ["text"]}, "not str"),
    ],
)
def test_wrong_options_are_told_when_it_is_made(options: dict[str, Any], said: str) -> None:
    """Not by the first question, which may come much later."""
    with pytest.raises(InvalidRequestError, match=said):
        Conversation("m", **options)


def test_it_shows_no_content_and_no_key() -> None:
    """Its repr has the model and the number of messages."""
    conversation = Conversation("gpt-5.5", system=PROMPT, api_key=KEY)
    conversation.append("user", PROMPT)
    assert repr(conversation) == "<termai_http.Conversation 'gpt-5.5', 1 messages>"
    must_hide(repr(vars(conversation)["_options"]))
    must_hide(repr(vars(conversation)["_turns"]))
    with pytest.raises(TypeError, match="to_json"):
        pickle.dumps(conversation)


@pytest.mark.parametrize("fork", [Conversation.copy, copy.copy, copy.deepcopy])
def test_a_copy_goes_its_own_way(fork: Callable[[Conversation], Conversation]) -> None:
    """It has the same turns, model, system and options; later ones are its own."""
    conversation = Conversation("m", system="s", api_key=KEY, temperature=0.5)
    conversation.append("user", "one")
    other = fork(conversation)
    other.append("user", "two")
    conversation.append("user", "three")
    other.model = "m2"
    assert [message["content"] for message in conversation] == ["one", "three"]
    assert [message["content"] for message in other] == ["one", "two"]
    assert (conversation.model, other.model, other.system) == ("m", "m2", "s")
    assert vars(other)["_options"] == {"api_key": KEY, "temperature": 0.5}


def test_threads_append_without_a_loss() -> None:
    """Every message is there in the end, in whole steps, whoever appends beside it."""
    conversation = Conversation()
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait(20)
        for at in range(200):
            pair = [{"role": role, "content": f"{number}/{at}"} for role in ("user", "assistant")]
            conversation.extend(pair)
            if at % 10 == number:
                assert len(conversation.messages) % 2 == 0

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    messages = conversation.messages
    assert len(messages) == 8 * 200 * 2
    assert all(
        one["content"] == two["content"]
        for one, two in zip(messages[::2], messages[1::2], strict=True)
    )


def same(one: Conversation, two: Conversation) -> bool:
    """Tell whether two conversations are equal in what is saved."""
    return (one.model, one.system, one.messages) == (two.model, two.system, two.messages)


def test_everything_that_was_said_is_saved() -> None:
    """Both vendors' turns, tools, images and documents come back as they were."""
    conversation = Conversation("gpt-5.5", system="Be brief.", messages=TURNS)
    text = conversation.to_json()
    again = Conversation.from_json(text)
    assert same(conversation, again)
    assert same(conversation, Conversation.from_json(text.encode()))
    assert again.to_json() == text
    image, document = again.messages[2]["content"][1:]
    assert (image.source.data, image.source.media_type, image.detail) == (PNG, "image/png", "low")
    assert (document.source.data, document.title) == (PDF, "document.pdf")


def test_what_is_saved_can_be_read_by_others() -> None:
    """It is plain JSON of a known version, images as base64 with their type, URLs as URLs."""
    conversation = Conversation("m")
    conversation.append("user", ["See:", Image(PNG), Image("https://a.example/b.png")])
    conversation.append("user", [Document("https://a.example/b.pdf", name="B")])
    assert json.loads(conversation.to_json()) == {
        "termai_http": "conversation",
        "version": 1,
        "model": "m",
        "system": None,
        "messages": [
            {
                "role": "user",
                "content": [
                    "See:",
                    {
                        "type": "termai_http/image",
                        "media_type": "image/png",
                        "data": base64.b64encode(PNG).decode(),
                        "name": None,
                        "detail": None,
                    },
                    {
                        "type": "termai_http/image",
                        "url": "https://a.example/b.png",
                        "name": None,
                        "detail": None,
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "termai_http/document",
                        "url": "https://a.example/b.pdf",
                        "name": None,
                        "title": "B",
                    }
                ],
            },
        ],
    }
    assert same(conversation, Conversation.from_json(conversation.to_json()))


def test_no_key_header_or_option_is_saved() -> None:
    """They are given again when it is read."""
    options: dict[str, Any] = {
        "api_key": KEY,
        "base_url": f"https://a.example/{KEY}",
        "extra_headers": {"X-Key": KEY},
        "extra_query": {"key": KEY},
        "extra_body": {"user": KEY},
        "temperature": 0.5,
    }
    conversation = Conversation("m", **options)
    conversation.append("user", "Hi.")
    text = conversation.to_json()
    must_hide(text)
    assert set(json.loads(text)) == {"termai_http", "version", "model", "system", "messages"}
    again = Conversation.from_json(text, model="m2", **options)
    assert (again.model, vars(again)["_options"]) == ("m2", vars(conversation)["_options"])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["user", "assistant", "system"]),
            st.text(st.characters(codec="utf-8"), min_size=1),
            st.dictionaries(st.sampled_from(["name", "refusal", "x"]), _JSON),
        ),
        max_size=5,
    )
)
def test_every_conversation_comes_back(turns: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Whatever was said, and whatever fields a vendor's message has."""
    conversation = Conversation("m")
    for role, text, more in turns:
        conversation.append({"role": role, "content": text, **more})
    assert same(conversation, Conversation.from_json(conversation.to_json()))


def saved(**changes: Any) -> dict[str, Any]:
    """Return a saved conversation with changes."""
    whole = {"termai_http": "conversation", "version": 1, "model": None, "system": None}
    return {**whole, "messages": [], **changes}


def with_part(**part: Any) -> dict[str, Any]:
    """Return a saved conversation with a part in it."""
    return saved(messages=[{"role": "user", "content": [part]}])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        *((text, "no JSON") for text in ("", "{", "nonsense", '{"a": NaN}', "\ud800", b"\xff")),
        *((text, "no conversation") for text in ("[]", "{}", "3", "null", '{"messages": []}')),
        (saved(termai_http="other"), "no conversation"),
        *((saved(version=v), "reads version 1") for v in (2, 0, None, "1", 1.0, True)),
        *((saved(model=wrong), "model is no text") for wrong in (3, [], {})),
        *((saved(system=wrong), "system is no text") for wrong in (3, [], {})),
        *((saved(messages=wrong), "list of messages") for wrong in (None, {}, "a", 3)),
        *((saved(messages=[wrong]), r"messages\[0\]") for wrong in (None, "a", [], 3)),
        (saved(messages=[{}]), r"messages\[0\].role"),
        (saved(messages=[{"role": "user"}]), r"messages\[0\].content"),
        (saved(messages=[{"role": "user", "content": [3]}]), r"content\[0\]"),
        (with_part(type="termai_http/image"), "neither bytes nor a URL"),
        (with_part(type="termai_http/image", url=""), "neither"),
        (with_part(type="termai_http/image", url=3), "url .* is no text"),
        (with_part(type="termai_http/image", data="?"), "no base64"),
        (with_part(type="termai_http/image", data="zürich"), "no base64"),
        (with_part(type="termai_http/image", data=3), "data .* is no text"),
        (with_part(type="termai_http/image", data=""), "no PNG"),
        (with_part(type="termai_http/image", data="AAAA"), "no PNG"),
        (with_part(type="termai_http/document", data="AAAA"), "no PDF"),
        (with_part(type="termai_http/image", url="https://a", detail="most"), "detail"),
        (with_part(type="termai_http/image", url="https://a", detail=[]), "detail .* is no text"),
        (with_part(type="termai_http/document", url="https://a", title=3), "title .* is no text"),
    ],
)
def test_what_was_not_saved_here_is_refused(tmp_path: Path, data: Any, said: str) -> None:
    """A broken file, a foreign one, or one of a later version is told for what it is."""
    text = json.dumps(data) if isinstance(data, dict) else data
    with pytest.raises(InvalidRequestError, match=said):
        Conversation.from_json(text)
    path = tmp_path / "kept.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidRequestError, match=r"kept\.json"):
        Conversation.load(path)


@pytest.mark.parametrize("text", [None, 3, {}, [b""]])
def test_json_is_text(text: Any) -> None:
    """A dict, say, is no JSON."""
    with pytest.raises(InvalidRequestError, match="must be text"):
        Conversation.from_json(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"type": "x", "data": b"bytes"}], r"messages\[0\].content\[0\].data: bytes"),
        ([{"type": "x", "data": float("nan")}], "NaN"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_what_cannot_be_json_is_told(content: Any, said: str) -> None:
    """The error names the place."""
    conversation = Conversation(messages=[{"role": "user", "content": content}])
    with pytest.raises(InvalidRequestError, match=said):
        conversation.to_json()


def test_a_file_is_its_owners_and_whole(tmp_path: Path) -> None:
    """Only its owner can read it; one that was there is replaced in one step, links followed."""
    path, link = tmp_path / "kept.json", tmp_path / "link.json"
    path.write_text("old")
    path.chmod(0o644)
    conversation = Conversation("m", messages=TURNS)
    conversation.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name == "nt"
    assert same(Conversation.load(path), conversation)
    assert same(Conversation.load(str(path)), conversation)
    if os.name != "nt":
        link.symlink_to(path)
        conversation.append("user", "more")
        conversation.save(str(link))
        assert link.is_symlink()
        assert same(Conversation.load(path), conversation)
        link.unlink()
    assert os.listdir(tmp_path) == ["kept.json"]


def test_a_save_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays, nothing is left beside it, and no secret shows in a traceback."""
    path = tmp_path / "kept.json"
    conversation = Conversation("m", system=PROMPT, api_key=KEY)
    conversation.save(path)
    before = path.read_bytes()
    conversation.append("user", PROMPT)
    for failure in (OSError("no space"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *_, failure=failure: (_ for _ in ()).throw(failure))
            with pytest.raises(type(failure)) as caught:
                conversation.save(path)
        must_hide(frames_with_locals(caught.value))
    conversation.append("user", [{"type": "x", "data": b""}])
    with pytest.raises(InvalidRequestError):
        conversation.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["kept.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes of this kind")
def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """A pipe or a device, as ``/dev/stdout`` is one, gets the JSON and is never replaced."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    conversation = Conversation("m", messages=TURNS)
    conversation.save(path)
    reader.join(60)
    assert read == [conversation.to_json().encode()]
    assert stat.S_ISFIFO(path.stat().st_mode)
    with pytest.raises(IsADirectoryError):
        conversation.save(tmp_path)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("name", ["model", "system"])
@pytest.mark.parametrize("value", [5, ["Be brief."], [{"role": "user", "content": PROMPT}], b"m"])
def test_model_and_system_are_text(name: str, value: Any) -> None:
    """Anything else is refused at once, or, where it was set later, before it is saved."""
    said = f"{name} must be text or None, not {type(value).__name__}"
    with pytest.raises(InvalidRequestError, match=said) as caught:
        Conversation(**{name: value})
    must_hide(frames_with_locals(caught.value))
    conversation = Conversation("m")
    setattr(conversation, name, value)
    with pytest.raises(InvalidRequestError, match=said):
        conversation.to_json()


def test_a_missing_file_is_one_of_the_systems_errors(tmp_path: Path) -> None:
    """So that a new conversation can be begun where there is none yet."""
    with pytest.raises(FileNotFoundError):
        Conversation.load(tmp_path / "missing.json")
    with pytest.raises(FileNotFoundError):
        Conversation().save(tmp_path / "missing" / "kept.json")


def test_errors_show_neither_key_nor_content(tmp_path: Path) -> None:
    """Whatever is refused: an option, a message, a file."""
    path = tmp_path / "kept.json"
    path.write_text(json.dumps(saved(messages=[{"role": "user", "content": [PROMPT, 3]}])))
    begun = Conversation("m", api_key=KEY)
    ways: list[Callable[[], Any]] = [
        lambda: Conversation("m", api_key=KEY, system=PROMPT, timout=3),
        lambda: Conversation("m", api_key=KEY, messages=[PROMPT]),  # type: ignore[list-item]
        lambda: begun.append(PROMPT, PROMPT),
        lambda: begun.append({"role": PROMPT, "content": PROMPT}),
        lambda: begun.ask([{"role": PROMPT}], api_key=KEY),
        lambda: begun.ask(PROMPT, api_key=KEY + "\n\n"),
        lambda: begun.stream(PROMPT, api_key=KEY, timout=3),
        lambda: begun.count_tokens(PROMPT, api_key=KEY, timout=3),
        lambda: Conversation.from_json(path.read_text(), api_key=KEY),
        lambda: Conversation.load(path, api_key=KEY),
    ]
    for way in ways:
        with pytest.raises((InvalidRequestError, ConfigurationError)) as caught:
            way()
        must_hide(everything(caught.value))
    assert len(begun) == 0
