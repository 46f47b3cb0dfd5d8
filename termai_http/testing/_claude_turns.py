"""What Claude refuses in the turns of a conversation."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._checks import IMAGES, Problem, decoded, image_type

__all__ = ["signature", "turn_problems"]

_ROLES = ("user", "assistant", "system")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_MARKED = ("cache_control",)
# The fields of the blocks that are looked into; blocks of the vendor's own tools pass.
_BLOCKS = {
    "document": ("citations", "context", "source", "title", *_MARKED),
    "image": ("source", "transformations", *_MARKED),
    "redacted_thinking": ("data",),
    "text": ("citations", "text", *_MARKED),
    "thinking": ("signature", "thinking"),
    "tool_result": ("content", "is_error", "tool_use_id", "toolset_name", *_MARKED),
    "tool_use": ("caller", "id", "input", "name", "toolset_name", *_MARKED),
}
_OTHERS = (
    *("bash_code_execution_tool_result", "code_execution_tool_result", "container_upload"),
    *("search_result", "server_tool_use", "text_editor_code_execution_tool_result"),
    *("tool_search_tool_result", "web_fetch_tool_result", "web_search_tool_result"),
)
_OF_ASSISTANT = ("redacted_thinking", "server_tool_use", "thinking", "tool_use")
_OF_RESULTS = ("browser_state", "document", "image", "search_result", "text", "tool_reference")
_SOURCES = {
    "document": ("base64", "content", "file", "text", "url"),
    "image": ("base64", "file", "url"),
}


def signature(thinking: str) -> str:
    """Return the signature of a thinking block of this server's."""
    digest = hashlib.sha256(b"loopback " + thinking.encode("utf-8", "replace")).digest()
    return base64.b64encode(digest).decode()


def turn_problems(body: Mapping[str, Any], newest: bool) -> Iterator[Problem]:
    """Check ``system`` and ``messages``.

    Args:
        body: The request's body.
        newest: Whether the rules of version 2026-10-21 hold.
    """
    yield from _system(body.get("system"))
    messages = body["messages"]
    if not isinstance(messages, list):
        yield _wrong("messages", "Input should be a valid list")
    if not messages:
        yield _wrong("messages", "at least one message is required")
    for at, message in enumerate(messages):
        yield from _message(f"messages.{at}", message, newest, at == len(messages) - 1)
    yield from _answered(messages)
    last = messages[-1]
    if last["role"] == "assistant" and _last_text(last["content"]).endswith((" ", "\n", "\t")):
        yield _wrong("messages", "final assistant content cannot end with trailing whitespace")
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        yield from _thought(messages)


def _wrong(where: str, what: str) -> Problem:
    return Problem(message=f"{where}: {what}")


def _system(system: Any) -> Iterator[Problem]:
    if not isinstance(system, (str, list, type(None))):
        yield _wrong("system", "Input should be a valid string or list")
    for at, block in enumerate(system if isinstance(system, list) else ()):
        if not isinstance(block, dict) or block.get("type") != "text":
            yield _wrong(f"system.{at}.type", "Input should be 'text'")
        yield from _block(f"system.{at}", block)


def _message(where: str, message: Any, newest: bool, last: bool) -> Iterator[Problem]:
    if not isinstance(message, dict):
        yield _wrong(where, "Input should be a valid dictionary")
    role = message.get("role")
    if role not in _ROLES:
        yield _wrong(
            f"{where}.role", f"Unexpected role \"{role}\". Input should be 'user' or 'assistant'"
        )
    for name in message:
        if name not in ("content", "role"):
            yield _wrong(f"{where}.{name}", "Extra inputs are not permitted")
    content = message.get("content")
    if not isinstance(content, (str, list)):
        yield _wrong(f"{where}.content", "Input should be a valid string or list")
    if not content and not (last and role == "assistant"):
        yield _wrong(where, f"{role} messages must have non-empty content")
    if isinstance(content, str) and content and not content.strip():
        yield _wrong("messages", "text content blocks must contain non-whitespace text")
    for at, block in enumerate(content if isinstance(content, list) else ()):
        inner = f"{where}.content.{at}"
        yield from _block(inner, block)
        yield from _placed(inner, block, str(role), newest)


def _placed(where: str, block: Mapping[str, Any], role: str, newest: bool) -> Iterator[Problem]:
    """Check that a block may stand in a turn of this role."""
    kind = block["type"]
    if role != "assistant" and kind in _OF_ASSISTANT:
        yield _wrong(where, f"`{kind}` blocks can only be in `assistant` messages")
    if role != "user" and kind in ("image", "tool_result"):
        yield _wrong(where, f"`{kind}` blocks can only be in `user` messages")
    if newest and role == "assistant" and kind == "document":
        yield _wrong(where, "`document` blocks are not taken in `assistant` messages")
    if newest and role == "user" and kind == "text" and block.get("citations"):
        yield _wrong(f"{where}.citations", "not taken on `text` blocks of `user` messages")


def _block(where: str, block: Any) -> Iterator[Problem]:
    if not isinstance(block, dict):
        yield _wrong(where, "Input should be a valid dictionary")
    kind = block.get("type")
    if kind not in _BLOCKS:
        if kind not in _OTHERS:
            known = ", ".join(f"'{name}'" for name in (*_BLOCKS, *_OTHERS))
            yield _wrong(
                where,
                f"Input tag '{kind}' found using 'type' does not match any of the expected tags: "
                f"{known}",
            )
        return
    for name in block:
        if name not in ("type", *_BLOCKS[kind]):
            yield _wrong(f"{where}.{kind}.{name}", "Extra inputs are not permitted")
    if kind in ("text", "thinking"):
        yield from _said(where, block, kind)
    elif kind in _SOURCES:
        yield from _source(f"{where}.{kind}.source", block.get("source"), kind)
    elif kind == "tool_use":
        yield from _call(f"{where}.tool_use", block)
    elif kind == "tool_result":
        yield from _result(f"{where}.tool_result", block)


def _said(where: str, block: Mapping[str, Any], kind: str) -> Iterator[Problem]:
    text = block.get(kind)
    if not isinstance(text, str):
        yield _wrong(f"{where}.{kind}.{kind}", "Field required")
        return
    if kind == "text" and not text.strip():
        yield _wrong("messages", "text content blocks must contain non-whitespace text")
    if kind == "thinking" and block.get("signature") != signature(text):
        yield _wrong(where, "Invalid `signature` in `thinking` block")


def _source(where: str, source: Any, kind: str) -> Iterator[Problem]:
    form = source.get("type") if isinstance(source, dict) else None
    if form not in _SOURCES[kind]:
        known = ", ".join(f"'{name}'" for name in _SOURCES[kind])
        yield _wrong(where, f"Input tag '{form}' does not match any of the expected tags: {known}")
    where = f"{where}.{form}"
    needed = {"base64": "data", "file": "file_id", "text": "data", "url": "url"}.get(str(form))
    if needed is not None and not isinstance(source.get(needed), str):
        yield _wrong(f"{where}.{needed}", "Field required")
    if form == "url" and not source["url"].startswith(("https://", "http://")):
        yield _wrong(where, "Only HTTPS URLs are supported.")
    if form == "text" and source.get("media_type") != "text/plain":
        yield _wrong(f"{where}.media_type", "Input should be 'text/plain'")
    if form == "base64":
        yield from _encoded(where, source, kind)


def _encoded(where: str, source: Mapping[str, Any], kind: str) -> Iterator[Problem]:
    known = IMAGES if kind == "image" else ("application/pdf",)
    stated = source.get("media_type")
    if stated not in known:
        names = ", ".join(f"'{name}'" for name in known)
        yield _wrong(f"{where}.media_type", f"Input should be {names}")
    data = decoded(source["data"])
    if data is None:
        yield _wrong(f"{where}.data", "Invalid base64 data")
        return
    found = image_type(data)
    if kind == "image" and found is None:
        yield _wrong(where, "Could not process image")
    if kind == "image" and found != stated:
        yield _wrong(
            where,
            f"The image was specified using the {stated} media type, but the image appears to be "
            f"a {found} image",
        )
    if kind == "document" and b"%PDF-" not in data[:1024]:
        yield _wrong(where, "The PDF specified was not valid.")


def _call(where: str, block: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("id", "name"):
        if not isinstance(block.get(name), str):
            yield _wrong(f"{where}.{name}", "Field required")
    if not _ID.fullmatch(block["id"]):
        yield _wrong(f"{where}.id", f"String should match pattern '^{_ID.pattern}$'")
    if not isinstance(block.get("input"), dict):
        yield _wrong(f"{where}.input", "Input should be a valid dictionary")


def _result(where: str, block: Mapping[str, Any]) -> Iterator[Problem]:
    if not isinstance(block.get("tool_use_id"), str):
        yield _wrong(f"{where}.tool_use_id", "Field required")
    if not isinstance(block.get("is_error", False), bool):
        yield _wrong(f"{where}.is_error", "Input should be a valid boolean")
    content = block.get("content", "")
    if not isinstance(content, (str, list)):
        yield _wrong(f"{where}.content", "Input should be a valid string or list")
    for at, inner in enumerate(content if isinstance(content, list) else ()):
        kind = inner.get("type") if isinstance(inner, dict) else None
        if kind not in _OF_RESULTS:
            known = ", ".join(f"'{name}'" for name in _OF_RESULTS)
            yield _wrong(
                f"{where}.content.{at}",
                f"Input tag '{kind}' found using 'type' does not match any of the expected tags: "
                f"{known}",
            )
        if kind in _BLOCKS:
            yield from _block(f"{where}.content.{at}", inner)


def _ids(message: Mapping[str, Any], kind: str, field: str) -> list[str]:
    content = message["content"]
    blocks = content if isinstance(content, list) else []
    return [block[field] for block in blocks if block["type"] == kind]


def _answered(messages: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Check that every call has its result in the next message, and every result its call."""
    calls: list[str] = []
    for at, message in enumerate(messages):
        results = _ids(message, "tool_result", "tool_use_id")
        if stray := [one for one in results if one not in calls]:
            yield Problem(
                message=f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{', '.join(stray)}. Each `tool_result` block must have a corresponding "
                "`tool_use` block in the previous message."
            )
        if without := [one for one in calls if one not in results]:
            yield _unanswered(at - 1, without)
        if results and message["content"][0]["type"] != "tool_result":
            yield _wrong(f"messages.{at}", "`tool_result` blocks must come before other content")
        if len(set(results)) < len(results):
            yield _wrong(f"messages.{at}", "each tool_use must have a single result")
        calls = _ids(message, "tool_use", "id")
        if len(set(calls)) < len(calls):
            yield _wrong(f"messages.{at}", "`tool_use` ids must be unique")
    if calls:
        yield _unanswered(len(messages) - 1, calls)


def _unanswered(at: int, calls: Sequence[str]) -> Problem:
    return Problem(
        message=f"messages.{at}: `tool_use` ids were found without `tool_result` blocks "
        f"immediately after: {', '.join(calls)}. Each `tool_use` block must have a corresponding "
        "`tool_result` block in the next message."
    )


def _thought(messages: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Check that the turn whose tools were just run still begins with its thinking."""
    if len(messages) < 2 or not _ids(messages[-1], "tool_result", "tool_use_id"):
        return
    found = messages[-2]["content"][0]["type"]
    if found not in ("thinking", "redacted_thinking"):
        yield Problem(
            message=f"messages.{len(messages) - 2}.content.0.type: Expected `thinking` or "
            f"`redacted_thinking`, but found `{found}`. When `thinking` is enabled, a final "
            "`assistant` message must start with a thinking block."
        )


def _last_text(content: Any) -> str:
    if isinstance(content, list) and content and content[-1]["type"] == "text":
        content = content[-1]["text"]
    return content if isinstance(content, str) else ""
