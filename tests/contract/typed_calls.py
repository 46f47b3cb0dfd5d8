"""Calls as people write them; mypy --strict reads this file, and nothing runs it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import termai_http
from termai_http import (
    ChatRequest,
    ChatResponse,
    Conversation,
    Document,
    Image,
    Message,
    ToolRun,
    chat,
    count_tokens,
    embed,
    list_models,
    run_tools,
    stream,
)


@dataclasses.dataclass
class City:
    """A city."""

    name: str


def temperature(city: str) -> float:
    """Measure the temperature."""
    return float(len(city))


def prompts() -> None:
    """Every form of a prompt has a type."""
    chat("Hello", model="gpt-5.5")
    chat(Image("cat.png"), model="gpt-5.5")
    chat(["What is on it?", Image("cat.png")], model="gpt-5.5")
    chat([Document(Path("contract.pdf")), "Who signed?"], model="gpt-5.5", reasoning="high")
    chat([{"role": "user", "content": "Hello"}], model="gpt-5.5")
    chat([Message("user", "Hello", cache=True)], model="gpt-5.5")
    chat([Message("system", "Be brief."), {"role": "user", "content": "Hello"}], model="gpt-5.5")
    plain: list[dict[str, str]] = [{"role": "user", "content": "Hello"}]
    chat(plain, model="gpt-5.5")
    Conversation("gpt-5.5").ask(["What is on it?", Image(b"")])
    termai_http.openai.respond(ChatRequest("gpt-5.5", ["What is on it?", Image(b"")]))


def replies() -> list[str]:
    """What comes back has a type."""
    reply: ChatResponse = chat("Norway?", model="gpt-5.5", output=City, stop=["."])
    city: City = reply.parsed
    words = [city.name]
    with stream("Hello", model="gpt-5.5", tools=[temperature]) as story:
        words += [piece.upper() for piece in story]
        for event in story.events():
            if event.tool_call is not None:
                words.append(event.tool_call.name)
    run: ToolRun = run_tools("How warm?", model="gpt-5.5", tools=[temperature])
    words += [called.call.name for called in run.calls]
    chat([*run.messages, {"role": "user", "content": "Thanks"}], model="gpt-5.5")
    numbers = sum(embed(["red"], model="text-embedding-3-small").vectors[0])
    count: int = count_tokens("Hello", model="gpt-5.5")
    return [*words, *(model.id for model in list_models()), f"{numbers + count}"]


def test(termai_server: termai_http.testing.Server) -> None:
    """So has the fixture."""
    termai_server.script(termai_http.testing.Status(429))
