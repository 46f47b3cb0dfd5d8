"""The extra ``cache``: what was asked is not asked again, in this client or in the next one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from termai_http import Client, HttpClientConfig
from termai_http.contrib.cache import Cache
from termai_http.testing import Server

with tempfile.TemporaryDirectory() as folder, Server() as server:
    config = HttpClientConfig(layers=(Cache(store=Path(folder, "replies.sqlite")),))
    there = {"model": "gpt-5.5", "api_key": "k", "base_url": server.openai_url}
    with Client(config) as client:
        first, second = client.chat("hi", **there), client.chat("hi", **there)
        assert (first.text, first.attempts) == ("You said: hi", 1)
        assert (second.text, second.attempts) == ("You said: hi", 0)
        assert client.chat("something else", **there).attempts == 1
    with Client(config) as client:
        assert client.chat("hi", **there).attempts == 0
        assert "".join(client.stream("hi", **there)) == "You said: hi"
    # A stream asks for something else than a whole reply.
    assert len(server.requests) == 3
