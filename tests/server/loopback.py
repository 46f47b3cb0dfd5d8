"""Asks the loopback server without any client of ours, and puts its streams together."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

from termai_http.testing import Server

OPENAI = {"Authorization": "Bearer k"}
CLAUDE = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "claude": "/v1/messages"}
HEADERS = {"chat": OPENAI, "responses": OPENAI, "claude": CLAUDE}
# A PNG of one pixel, and what begins as a PDF does, as base64.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
PDF = "JVBERi0xLjQK"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {
            "type": "function",
            "function": {"name": "weather", "parameters": PARAMETERS, "strict": True},
        }
    ],
    "responses": [
        {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
    ],
    "claude": [{"name": "weather", "input_schema": PARAMETERS, "strict": True}],
}


def ask(
    server: Server, path: str, body: Any = None, headers: Any = OPENAI, method: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    """Make one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        payload = body if isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request(method, path, payload if method == "POST" else None, dict(headers))
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def body_of(api: str, prompt: str = "hello", **fields: Any) -> dict[str, Any]:
    """Return a request of one turn in a dialect."""
    if api == "responses":
        return {"model": "m", "input": prompt, **fields}
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}
    return body if api == "chat" else {"max_tokens": 2000, **body}


def told(server: Server, api: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Ask for a reply in one piece, which has to be good."""
    status, _, content = ask(server, PATHS[api], body, HEADERS[api] | headers)
    found: dict[str, Any] = json.loads(content)
    assert status == 200, found
    return found


def refused(server: Server, api: str, body: Any, **headers: str) -> dict[str, Any]:
    """Ask for what is refused, and return the error with its status."""
    status, _, content = ask(server, PATHS[api], body, HEADERS[api] | headers)
    assert status >= 400, content
    found: dict[str, Any] = json.loads(content)["error"]
    return {"status": status, **found}


def streamed(server: Server, api: str, body: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """Ask for a stream, which has to be one, and return its events."""
    sent = {**body, "stream": True}
    status, headers, content = ask(server, PATHS[api], sent, HEADERS[api])
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    return list(events_of(content))


def events_of(content: bytes) -> Iterator[tuple[str | None, Any]]:
    """Yield the name and the data of each event."""
    *blocks, rest = content.decode().split("\n\n")
    assert rest == "", rest
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields["data"]
        yield fields.get("event"), data if data == "[DONE]" else json.loads(data)


def assembled(api: str, events: list[tuple[str | None, Any]]) -> dict[str, Any]:
    """Put a stream together, as the vendor documents it."""
    return {"chat": _chat, "responses": _responses, "claude": _claude}[api](events)


def _chat(events: list[tuple[str | None, Any]]) -> dict[str, Any]:
    assert all(name is None for name, _ in events)
    *chunks, end = [data for _, data in events]
    assert end == "[DONE]"
    choices: dict[int, dict[str, Any]] = {}
    whole = {name: value for name, value in chunks[0].items() if name != "choices"}
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        whole["usage"] = chunk.get("usage") or whole.get("usage")
        for piece in chunk["choices"]:
            choice = choices.setdefault(piece["index"], {"message": {"annotations": []}})
            _add_delta(choice["message"], piece["delta"])
            choice |= {name: piece[name] for name in ("finish_reason", "index", "logprobs")}
    return {**whole, "object": "chat.completion", "choices": list(choices.values())}


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for piece in value:
                if piece["index"] == len(calls):
                    calls.append({key: piece[key] for key in piece if key != "index"})
                else:
                    function = calls[piece["index"]]["function"]
                    function["arguments"] += piece["function"]["arguments"]
        elif message.get(name) is None or value is None or name == "role":
            message[name] = value
        else:
            message[name] += value


def _responses(events: list[tuple[str | None, Any]]) -> dict[str, Any]:
    assert [name for name, _ in events] == [data["type"] for _, data in events]
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    output: list[dict[str, Any]] = []
    for name, data in events:
        if name == "response.output_item.added":
            output.append(data["item"])
        elif name == "response.content_part.added":
            output[-1]["content"].append(data["part"])
        elif name == "response.reasoning_summary_part.added":
            output[-1]["summary"].append(data["part"])
        elif name == "response.output_text.delta":
            output[-1]["content"][data["content_index"]]["text"] += data["delta"]
        elif name == "response.refusal.delta":
            output[-1]["content"][data["content_index"]]["refusal"] += data["delta"]
        elif name == "response.reasoning_summary_text.delta":
            output[-1]["summary"][data["summary_index"]]["text"] += data["delta"]
        elif name == "response.function_call_arguments.delta":
            output[-1]["arguments"] += data["delta"]
        elif name == "response.output_item.done":
            # The status is what only the end of an item tells.
            assert {**output[-1], "status": data["item"].get("status")} == {
                "status": None,
                **data["item"],
            }
            output[-1] = data["item"]
    last: dict[str, Any] = events[-1][1]["response"]
    assert last["output"] == output
    return last


def _claude(events: list[tuple[str | None, Any]]) -> dict[str, Any]:
    assert [name for name, _ in events] == [data["type"] for _, data in events]
    whole: dict[str, Any] = {}
    for name, data in events:
        if name == "message_start":
            whole = data["message"]
        elif name == "content_block_start":
            whole["content"].append({**data["content_block"], "partial": ""})
        elif name == "content_block_delta":
            _add_block_delta(whole["content"][data["index"]], data["delta"])
        elif name == "content_block_stop":
            block = whole["content"][data["index"]]
            partial = block.pop("partial")
            if block["type"] == "tool_use":
                block["input"] = json.loads(partial)
        elif name == "message_delta":
            whole |= data["delta"]
            whole["usage"] |= data["usage"]
    assert events[-1] == ("message_stop", {"type": "message_stop"})
    return whole


def _add_block_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    kind = delta["type"]
    if kind == "input_json_delta":
        block["partial"] += delta["partial_json"]
    else:
        name = kind.removesuffix("_delta")
        block[name] += delta[name]
