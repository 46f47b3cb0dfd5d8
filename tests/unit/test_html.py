"""Replies and figures as a notebook shows them."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from termai_http import Client, HttpClientConfig, chat
from termai_http._html import client_html, reply_markdown, stats_html
from termai_http.metrics import CallRecord, ClientStats, HttpStats, ModelStats
from termai_http.models import ChatResponse, ToolCall, Usage
from termai_http.testing import Server, ToolCalls

HOSTILE = "<img src=x onerror=alert(1)>&\"'"


def reply(**changes: Any) -> ChatResponse:
    """Return a reply."""
    usual: dict[str, Any] = {
        "text": "Hello *you*",
        "model": "gpt-5.5",
        "usage": Usage(input_tokens=1200, output_tokens=34),
        "elapsed": 1.234,
        "finish_reason": "stop",
        "id": "chatcmpl-1",
        "request_id": None,
        "status_code": 200,
        "headers": {},
        "attempts": 1,
        "raw": {},
        "provider": "openai",
    }
    return ChatResponse(**{**usual, **changes})


def busy(**changes: Any) -> HttpStats:
    """Return the figures of a client that was used."""
    usual: dict[str, Any] = {
        "total_requests": 1234,
        "successful_requests": 1200,
        "failed_requests": 30,
        "in_flight": 4,
        "success_rate": 1200 / 1230,
        "total_retries": 7,
        "average_retries": 7 / 1234,
        "p50_duration_ms": 800.0,
        "p95_duration_ms": 2500.0,
        "p99_duration_ms": 9000.0,
        "durations_ms": {500.0: 10, 800.0: 1100, 9000.0: 120},
        "input_tokens": 50_000,
        "output_tokens": 9_000,
        "retries_by_cause": {"RateLimitError": 5, "APIConnectionError": 2},
        "failures_by_class": {HOSTILE: 30},
    }
    return HttpStats(**{**usual, **changes})


class Words(HTMLParser):
    """Collects the text, and the tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag; none may have a handler or load anything."""
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"href", "src", "onerror", "onload", "class", "id"}


def test_a_reply_has_its_text_and_a_line_of_figures() -> None:
    """Model, tokens and time stand below the text; attempts and a cut where there were any."""
    assert reply_markdown(reply()) == (
        "Hello *you*\n\n<small>gpt-5.5 · 1,200 tokens in, 34 out · 1.23 s</small>"
    )
    shown = reply_markdown(reply(attempts=3, finish_reason="length", usage=Usage()))
    assert shown.endswith("1.23 s · 3 attempts · cut off at its limit of tokens</small>")
    assert "tokens in" not in shown
    assert reply()._repr_markdown_() == reply_markdown(reply())


def test_what_a_server_names_is_escaped() -> None:
    """The model's name, a refusal and the arguments of a call are text, and kept short."""
    call = ToolCall(id="1", name="look", arguments={"at": HOSTILE * 30}, text=HOSTILE * 30)
    shown = reply_markdown(
        reply(text="", model=HOSTILE, refusal=f"No {HOSTILE}", tool_calls=(call,))
    )
    assert "<img" not in shown
    assert "**Refused:** No &#60;img" in shown
    assert "Asks for <code>look&#40;" in shown
    assert "&#8230;</code>" in shown


def test_a_table_has_every_figure() -> None:
    """Calls, retries, times, tokens, connections, and causes; the page is text and plain shapes."""
    calls = busy()
    stats = ClientStats(
        active_connections=2,
        idle_connections=3,
        total_requests=1241,
        opened=5,
        reused=1236,
        reuse_ratio=1236 / 1241,
        calls=calls,
    )
    html = stats_html(stats)
    page = Words(html)
    text = " ".join(page.text)
    for part in (
        *("1,234", "1,200 succeeded (97.6%), 30 failed, 4 in flight", "0.01 a call", "800 ms"),
        *("95 % within 2.50 s, 99 % within 9.00 s", "59,000", "50,000 in, 9,000 out"),
        *("5 opened a connection, 1,236 reused one", "2 active, 3 idle", "retry: RateLimitError"),
        f"failed: {HOSTILE}",
    ):
        assert part in text
    assert page.tags == {"div", "b", "table", "tbody", "tr", "td", "svg", "rect", "title"}
    assert stats._repr_html_() == html
    assert calls._repr_html_() == stats_html(calls)


def test_a_table_of_nothing_is_short() -> None:
    """Before the first call there is no plot, and no division by zero."""
    for stats in (HttpStats(), ClientStats()):
        page = Words(stats_html(stats))
        assert "svg" not in page.tags
        assert "calls" in page.text


def test_a_reply_tells_its_cost_where_it_is_known() -> None:
    """Between tokens and seconds; what a cache answered, or nobody knows, is not told."""
    assert "1,200 tokens in, 34 out · $0.0123 · 1.23 s" in reply_markdown(reply(cost=0.01234))
    for cost in (None, 0.0):
        assert "$" not in reply_markdown(reply(cost=cost))


def test_a_table_has_cost_models_and_both_sides() -> None:
    """The models with the most calls; names are escaped, and bars are drawn on one scale."""
    models = {f"m{number}": ModelStats(calls=number) for number in range(1, 15)}
    models[HOSTILE] = ModelStats(calls=99, input_tokens=5, cost=1234.5, calls_without_cost=2)
    calls = busy(cost=1234.5, calls_without_cost=1, models=models)
    html = stats_html(ClientStats(calls=calls, pooled_calls=busy(), unpooled_calls=busy()))
    assert HOSTILE not in html
    for text in (
        *("<b>$1,234.50</b>", "1 call of unknown cost", "2 calls of unknown cost"),
        *("5 tokens in, 0 out, $1,234.50", "5 more models", ">pooled<", ">unpooled<"),
    ):
        assert text in html, text
    assert "model: m14" in html
    assert "model: m5<" not in html
    assert "unpooled" not in stats_html(ClientStats(calls=calls, pooled_calls=calls))
    assert "cost" not in stats_html(busy())


def test_sides_are_drawn_from_what_was_counted() -> None:
    """The figures of a client that has both can be shown."""
    with Client() as client:
        for pooled in (True, False):
            client.metrics.record(CallRecord(duration=0.1, success=True, pooled=pooled))
        html = client_html(client)
    assert html.count(">1</b>") == 2
    assert html.count("100.0% succeeded; median") == 2


def test_plots_are_within_their_frame() -> None:
    """Bars and columns stand side by side within the picture, and each has a size."""
    root = ET.fromstring(f"<page>{stats_html(busy())}</page>")
    plots = root.findall(".//svg")
    assert len(plots) == 6
    for plot in plots:
        width, height = float(plot.attrib["width"]), float(plot.attrib["height"])
        end = 0.0
        for rect in plot.findall("rect"):
            left, wide, top, tall = (
                float(rect.attrib[name]) for name in ("x", "width", "y", "height")
            )
            assert all(map(math.isfinite, (left, wide, top, tall)))
            assert left >= end - 0.11
            assert wide >= 0
            assert tall > 0
            assert top >= 0
            assert top + tall <= height + 0.11
            end = left + wide
        assert end <= width + 0.11


@pytest.mark.parametrize("times", [{5.0: 1}, {0.001: 1, 1e6: 2}, {1.0: 1, 1.02: 1}])
def test_any_times_can_be_drawn(times: dict[float, int]) -> None:
    """One time, times far apart and times close together all have columns."""
    html = stats_html(busy(durations_ms=times))
    assert ET.fromstring(f"<page>{html}</page>").find(".//svg") is not None


def test_a_run_of_tools_lists_what_was_called(server: Server, client: Client) -> None:
    """Each function called, with its arguments and time, stands above the last reply."""

    def look(at: str) -> str:
        """Look at something."""
        raise ValueError(at)

    server.script(ToolCalls(("look", {"at": "<b>"})))
    run = client.run_tools(
        "hi", tools=[look], model="gpt-5.5", api_key="sk-x", base_url=server.openai_url
    )
    shown = run._repr_markdown_()
    assert shown.startswith("- <code>look&#40;&#123;&#34;at&#34;")
    assert "<small>failed, " in shown
    assert "<b>" not in shown
    assert shown.endswith("</small>")


def test_a_client_shows_its_state(server: Server) -> None:
    """A client is a table with its state and limits, before, while and after it is open."""
    config = HttpClientConfig(timeout=5, trust_env=False)
    with Client(config) as client:
        assert "Client unused" in client._repr_html_()
        chat("hi", model="gpt-5.5", api_key="sk-x", base_url=server.openai_url, client=client)
        html = client_html(client)
        assert "Client open" in html
        assert "timeout 5 s, 600 s for a stream, at most 1,000 connections" in html
        assert "1 opened a connection" in html
        assert "sk-x" not in html
    assert "Client closed" in client._repr_html_()
