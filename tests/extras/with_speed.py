"""The extra ``speed``: orjson writes what is sent and reads what comes, and a reply is the same."""

from __future__ import annotations

import sys

from termai_http import Client
from termai_http.testing import Server

PROMPT = 'Grüße, "quoted" \n and \U0001f600'

with Server() as server, Client() as client:
    reply = client.chat(PROMPT, model="gpt-5.5", api_key="k", base_url=server.openai_url)
    assert reply.text == f"You said: {PROMPT}", reply.text
    assert "orjson" in sys.modules
