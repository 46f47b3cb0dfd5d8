"""The extra ``dask``: ``chat_many`` hands its items to a cluster."""

from __future__ import annotations

import os

from distributed import Client, LocalCluster

from termai_http import chat_many
from termai_http.testing import Server

os.environ["OPENAI_API_KEY"] = "k"
cluster = LocalCluster(
    n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
)
with Server() as server, cluster, Client(cluster) as dask:
    replies = chat_many(
        ["a", "b", "c"],
        model="gpt-5.5",
        base_url=server.openai_url,
        executor=dask.get_executor(pure=False),
        max_workers=2,
        api_key_env="OPENAI_API_KEY",
    )
    assert [reply.text for reply in replies] == ["You said: a", "You said: b", "You said: c"]
    assert len(server.requests) == 3
