"""With ``redis``, clients share a cache and a limit of their own."""

# Also needs: pyrate-limiter>=4.5
# Also needs: redis>=5.2
# Also needs: requests-cache>=1.2

from __future__ import annotations

import os
import sys
import uuid

from termai_http import Client, DeadlineExceeded, HttpClientConfig
from termai_http.contrib.cache import Cache
from termai_http.contrib.pacing import Pacing
from termai_http.testing import Server

URL = os.environ["TERMAI_HTTP_REDIS"]
# Nobody else's.
ME = uuid.uuid4().hex

with Server() as server:
    there = {"model": "gpt-5.5", "api_key": ME, "base_url": server.openai_url}
    cached = HttpClientConfig(layers=(Cache(store=URL, namespace=ME),))
    with Client(cached) as one, Client(cached) as other:
        assert one.chat("hi", **there).attempts == 1
        assert other.chat("hi", **there).attempts == 0
    assert len(server.requests) == 1
    paced = HttpClientConfig(layers=(Pacing(requests_per_minute=20, redis=URL),))
    with Client(paced) as one, Client(paced) as other:
        for client in (one, other):
            assert client.chat("hi", **there).attempts == 1
        try:
            one.chat("hi", timeout=1, **there)
        except DeadlineExceeded as error:
            phase = error.phase
        else:
            sys.exit("a call went beyond the limit")
        assert (phase, len(server.requests)) == ("pacing", 3), phase
