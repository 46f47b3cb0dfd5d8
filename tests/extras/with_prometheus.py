"""The extra ``prometheus``: calls are counted, and a server of the library's own shows them."""

from __future__ import annotations

from urllib.request import urlopen

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from termai_http import Client, HttpClientConfig
from termai_http.contrib.prometheus import Prometheus
from termai_http.testing import Server, Status

registry = CollectorRegistry()
with Server() as server, Client(HttpClientConfig(max_retries=1)) as client:
    there = {"model": "gpt-5.5", "api_key": "k", "base_url": server.openai_url}
    with client.listening(Prometheus(registry=registry)):
        server.script(Status(503))
        client.chat("hi", **there)
        client.chat("hi", **there)

page, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
with urlopen(f"http://127.0.0.1:{page.server_port}/metrics") as answer:
    text = answer.read().decode()
page.shutdown()
page.server_close()
thread.join()
found = {
    sample.name: sample.value
    for family in text_string_to_metric_families(text)
    for sample in family.samples
    if sample.labels.get("model") == "gpt-5.5"
    and "success" in sample.labels.get("outcome", "success")
}
assert found["termai_http_requests_total"] == 2, text
assert found["termai_http_attempts_total"] == 2, text
assert found["termai_http_retries_total"] == 1, text
