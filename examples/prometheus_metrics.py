"""Count calls for Prometheus, and serve the figures over HTTP.

What it does: eight calls from threads, to two vendors, are counted in instruments of
``prometheus_client``; the script then reads its own page as a Prometheus server would.
Needs: ``pip install "termai-http[prometheus]"``; OPENAI_API_KEY and ANTHROPIC_API_KEY, or
``termai-http serve`` and the variables that it prints.
Run: python examples/prometheus_metrics.py
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

from prometheus_client import start_http_server

from termai_http import TermaiHttpError, chat
from termai_http.contrib.prometheus import Prometheus

MODELS = ("gpt-5.5", "claude-opus-5-5") * 4
SHOWN = ("requests_total", "tokens_total", "request_duration_seconds_count", "pool_in_use")


def ask(model: str) -> None:
    """Ask once; a call that fails is counted, too, by the class of its error."""
    try:
        chat("Say hello.", model=model)
    except TermaiHttpError as error:
        print(error, file=sys.stderr)


def main() -> None:
    """Call, and print some lines of the page."""
    Prometheus().hear_all()
    server, thread = start_http_server(0, addr="127.0.0.1")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, MODELS))
    with urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as page:
        lines = page.read().decode().splitlines()
    for line in lines:
        if line.removeprefix("termai_http_").startswith(SHOWN):
            print(line)
    server.shutdown()
    server.server_close()
    thread.join()


if __name__ == "__main__":
    main()
