"""The extra ``structured``: functions as tools, types and JSON schemas as what a reply shall be."""

from __future__ import annotations

import dataclasses

from termai_http import Client
from termai_http.testing import Server


@dataclasses.dataclass
class City:
    """A city."""

    name: str
    population: int


def temperature(city: str, days: int = 1) -> str:
    """Tell how warm it will be.

    Args:
        city: Its name.
        days: How many days from now.
    """
    return f"20 degrees in {city}, {days} days from now"


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}

with Server() as server, Client() as client:
    there = {"model": "gpt-5.5", "api_key": "k", "base_url": server.openai_url}
    assert isinstance(client.chat("Oslo?", output=City, **there).parsed, City)
    assert set(client.chat("Oslo?", output=SCHEMA, **there).parsed) == {"name"}
    asked = client.chat("temperature of Oslo", tools=[temperature], **there)
    assert [call.name for call in asked.tool_calls] == ["temperature"]
    parameter = server.requests[-1].json["tools"][0]["function"]["parameters"]["properties"]["city"]
    assert parameter["description"] == "Its name.", parameter
