"""The extra ``progress``: a bar of tqdm's follows ``chat_many``."""

from __future__ import annotations

import contextlib
import io
import sys

from termai_http import Client
from termai_http.testing import Server

shown = io.StringIO()
with Server() as server, Client() as client, contextlib.redirect_stderr(shown):
    replies = client.chat_many(
        ["a", "b", "c"], model="gpt-5.5", api_key="k", base_url=server.openai_url, progress=True
    )
    assert [reply.text for reply in replies] == ["You said: a", "You said: b", "You said: c"]
assert "3/3" in shown.getvalue(), shown.getvalue()
assert "tqdm" in sys.modules
