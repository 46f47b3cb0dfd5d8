"""Prompts and replies in the shape of OpenTelemetry's conventions: messages made of parts.

Of images and documents only the kind, the type and the size, or the address, are told.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _json
from .._secrets import without_lone_surrogates
from ..models import ChatResponse
from . import _tracing_names as names

if TYPE_CHECKING:
    from .._job import Outcome

__all__ = ["of_outcome", "of_request"]

_Part = dict[str, Any]


def of_request(body: bytes | None) -> dict[str, Any]:
    """Return the attributes that a request's body gives, in whichever dialect it is."""
    try:
        asked = _json.loads(body or b"")
    except ValueError:
        return {}
    if not isinstance(asked, Mapping):
        return {}
    found: dict[str, Any] = {}
    for field, name in names.REQUEST_FIELDS.items():
        if isinstance(asked.get(field), (int, float)):
            found[name] = asked[field]
    system = _parts(asked.get("system") or asked.get("instructions"))
    if system:
        found[names.SYSTEM_INSTRUCTIONS] = _text(system)
    said = asked.get("messages", asked.get("input"))
    if isinstance(said, str):
        said = [{"role": "user", "content": said}]
    if isinstance(said, list):
        found[names.INPUT_MESSAGES] = _text(
            [_message(one) for one in said if isinstance(one, Mapping)]
        )
    return found


def of_outcome(outcome: Outcome[Any]) -> dict[str, Any]:
    """Return the attributes that a reply gives, or the begin of one."""
    reply = outcome.value
    parts: list[_Part] = []
    if isinstance(reply, ChatResponse):
        texts = reply.texts or (reply.text,)
        if reply.thinking:
            parts.append({"type": "reasoning", "content": reply.thinking})
        if texts[0]:
            parts.append({"type": "text", "content": texts[0]})
        parts += [_called(call.id, call.name, call.text) for call in reply.tool_calls]
        if reply.refusal and not reply.text:
            parts.append({"type": "refusal", "content": reply.refusal})
        others = [_spoken([{"type": "text", "content": text}]) for text in texts[1:]]
        return {names.OUTPUT_MESSAGES: _text([_spoken(parts), *others])}
    partial = getattr(outcome.error, "partial", None)
    if partial:
        return {names.OUTPUT_MESSAGES: _text([_spoken([{"type": "text", "content": partial}])])}
    return {}


def _text(value: Any) -> str:
    # An exporter could not encode half a surrogate pair.
    return without_lone_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _spoken(parts: list[_Part]) -> dict[str, Any]:
    return {"role": "assistant", "parts": parts}


def _message(said: Mapping[str, Any]) -> dict[str, Any]:
    if "role" not in said:
        # An item of its own in OpenAI's Responses.
        part = _part(said)
        return {"role": _ROLES.get(part["type"], "assistant"), "parts": [part]}
    role = said["role"]
    parts = _parts(said.get("content"))
    if role == "tool":
        parts = [_answered(said.get("tool_call_id"), said.get("content"))]
    for call in _mappings(said.get("tool_calls")):
        function = call.get("function") or {}
        parts.append(_called(call.get("id"), function.get("name"), function.get("arguments")))
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    return {"role": role, "parts": parts}


_ROLES = {"tool_call_response": "tool"}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _parts(content: Any) -> list[_Part]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(one) for one in _mappings(content)]


def _part(one: Mapping[str, Any]) -> _Part:
    kind = str(one.get("type"))
    read = _READERS.get(kind)
    return {"type": kind} if read is None else read(one)


def _called(id: Any, name: Any, arguments: Any) -> _Part:
    if isinstance(arguments, str):
        # Where they are no JSON, as the model wrote them.
        with contextlib.suppress(ValueError):
            arguments = _json.loads(arguments.encode()) if arguments.strip() else {}
    return {"type": "tool_call", "id": id, "name": name, "arguments": arguments}


def _answered(id: Any, content: Any) -> _Part:
    parts = content if isinstance(content, str) else _parts(content)
    return {"type": "tool_call_response", "id": id, "response": parts}


def _plain(one: Mapping[str, Any]) -> _Part:
    return {"type": "text", "content": one.get("text") or ""}


def _reasoned(one: Mapping[str, Any]) -> _Part:
    summary = "\n".join(str(part.get("text", "")) for part in _mappings(one.get("summary")))
    return {"type": "reasoning", "content": one.get("thinking") or summary}


def _linked(address: Any, modality: str) -> _Part:
    """Tell of what is at an address, which may be the data itself."""
    if not isinstance(address, str):
        return {"type": modality}
    if not address.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": address}
    head, _, data = address.partition(",")
    return _blob(head.removeprefix("data:").partition(";")[0], data, modality)


def _blob(mime_type: Any, data: Any, modality: str) -> _Part:
    text = data if isinstance(data, str) else ""
    size = len(text) * 3 // 4 - text[-2:].count("=")
    part = {"type": "blob", "modality": modality, "mime_type": mime_type, "byte_size": size}
    return {**part, "content": ""}


def _image_url(one: Mapping[str, Any]) -> _Part:
    url = one.get("image_url")
    return _linked(url.get("url") if isinstance(url, Mapping) else url, "image")


def _filed(one: Mapping[str, Any]) -> _Part:
    """Tell of a file, which stands in the part itself or in an object of its name."""
    inner = one.get("file")
    file = inner if isinstance(inner, Mapping) else one
    if file.get("file_id"):
        return {"type": "file", "modality": "document", "file_id": file["file_id"]}
    return _linked(file.get("file_url") or file.get("file_data"), "document")


def _input_image(one: Mapping[str, Any]) -> _Part:
    if one.get("file_id"):
        return {"type": "file", "modality": "image", "file_id": one["file_id"]}
    return _image_url(one)


def _heard(one: Mapping[str, Any]) -> _Part:
    audio = one.get("input_audio")
    audio = audio if isinstance(audio, Mapping) else {}
    return _blob(f"audio/{audio.get('format')}", audio.get("data"), "audio")


def _sourced(one: Mapping[str, Any]) -> _Part:
    """Tell of an image or document of Claude's."""
    modality = str(one.get("type"))
    source = one.get("source")
    source = source if isinstance(source, Mapping) else {}
    if source.get("type") == "url":
        return _linked(source.get("url"), modality)
    if source.get("type") == "file":
        return {"type": "file", "modality": modality, "file_id": source.get("file_id")}
    if source.get("type") == "text":
        return {"type": "text", "content": source.get("data") or ""}
    return _blob(source.get("media_type"), source.get("data"), modality)


_READERS: dict[str, Callable[[Mapping[str, Any]], _Part]] = {
    "text": _plain,
    "input_text": _plain,
    "output_text": _plain,
    "thinking": _reasoned,
    "reasoning": _reasoned,
    "image_url": _image_url,
    "input_image": _input_image,
    "input_audio": _heard,
    "file": _filed,
    "input_file": _filed,
    "image": _sourced,
    "document": _sourced,
    "tool_use": lambda one: _called(one.get("id"), one.get("name"), one.get("input")),
    "tool_result": lambda one: _answered(one.get("tool_use_id"), one.get("content")),
    "function_call": lambda one: _called(one.get("call_id"), one.get("name"), one.get("arguments")),
    "function_call_output": lambda one: _answered(one.get("call_id"), one.get("output")),
}
