"""The extra ``ratelimit``: what a limit of one's own allows no more fails before it is sent."""

from __future__ import annotations

import importlib.util
import sys

from termai_http import Client, ConfigurationError, DeadlineExceeded, HttpClientConfig
from termai_http.contrib.pacing import Pacing
from termai_http.testing import Server

# A tenth of them may begin at once; the next one could after 2 s.
config = HttpClientConfig(layers=(Pacing(requests_per_minute=30),))
with Server() as server, Client(config) as client:
    there = {"model": "gpt-5.5", "api_key": "k", "base_url": server.openai_url}
    for _ in range(3):
        assert client.chat("hi", **there).text == "You said: hi"
    try:
        client.chat("hi", timeout=1, **there)
    except DeadlineExceeded as error:
        phase = error.phase
    else:
        sys.exit("a call went beyond the limit")
    assert (phase, len(server.requests)) == ("pacing", 3), phase

if importlib.util.find_spec("redis") is None:
    shared = HttpClientConfig(layers=(Pacing(requests_per_minute=30, redis="redis://127.0.0.1:9"),))
    try:
        with Client(shared) as client:
            client.chat("hi", **there)
    except ConfigurationError as error:
        if '"termai-http[ratelimit]" redis' not in str(error):
            raise
    else:
        sys.exit("the limit was shared without redis")
