"""The view that a Prometheus server reads: who may, what it shows, and why there is nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

import termai_http
from termai_http.contrib import _prometheus_instruments
from termai_http.contrib.django.access import HEADER, make_token
from termai_http.contrib.prometheus import Prometheus
from termai_http.testing import Server

Browse = Callable[..., Client]
PAGE = path("termai-http/", include("termai_http.contrib.django.urls"))


def by_token(request: HttpRequest) -> bool:
    """Let in who has the scraper's token."""
    return request.headers.get("Authorization") == "Bearer scraper"


@pytest.fixture
def site(browse: Browse) -> Client:
    """A site without users, which a scraper's token opens."""
    return browse(PAGE, MIDDLEWARE=[], TERMAI_HTTP={"STATUS": {"ACCESS": by_token}})


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    """The instruments of the library's own registry, which are taken away again."""
    made = Prometheus()
    yield made
    for metric in made._instruments._made.values():
        REGISTRY.unregister(metric)
    _prometheus_instruments._shared.of.pop(REGISTRY)


def get(site: Client, **headers: str) -> HttpResponse:
    """Ask as a Prometheus server does."""
    told = {"Authorization": "Bearer scraper", **headers}
    return site.get("/termai-http/metrics", headers=told)  # type: ignore[return-value]


def test_a_scrape_shows_what_was_called(
    site: Client, server: Server, prometheus: Prometheus
) -> None:
    """In the format that is asked for, as its official parser reads it."""
    with termai_http.client().listening(prometheus):
        termai_http.chat("hi", model="gpt-5.5", api_key="x", base_url=server.openai_url)
    for accept, read in (("", read_text), ("application/openmetrics-text", read_openmetrics)):
        answer = get(site, Accept=accept)
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith(accept or "text/plain")
        assert answer["Cache-Control"] == "no-store"
        samples = [one for family in read(answer.content.decode()) for one in family.samples]
        (requests,) = [one for one in samples if one.name == "termai_http_requests_total"]
        assert requests.labels["outcome"] == "success"
        assert requests.value == 1


def test_the_settings_may_have_it_as_a_layer(
    browse: Browse, server: Server, prometheus: Prometheus
) -> None:
    """The process-wide client that starts from the settings counts its calls."""
    settings = {"LAYERS": (prometheus,), "STATUS": {"ACCESS": by_token}}
    site = browse(PAGE, MIDDLEWARE=[], TERMAI_HTTP=settings)
    termai_http.chat("hi", model="gpt-5.5", api_key="x", base_url=server.openai_url)
    assert b'termai_http_requests_total{model="gpt-5.5",outcome="success"' in get(site).content


def test_only_who_may_see_the_page_may_scrape(site: Client, browse: Browse) -> None:
    """A stranger gets a 403, and so does everybody but staff where nothing else is said."""
    assert get(site).status_code == 200
    assert get(site, Authorization="Bearer guess").status_code == 403
    assert get(site, Authorization="", **{HEADER: make_token()}).status_code == 200
    usual = browse(PAGE, MIDDLEWARE=[], TERMAI_HTTP={})
    refused = get(usual)
    assert (refused.status_code, b"python_info" in refused.content) == (403, False)
    assert site.post("/termai-http/metrics").status_code == 405


def test_without_the_extra_it_says_what_to_install(
    site: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 404 in clear text, for who may see it."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = get(site)
    assert (answer.status_code, answer["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert b'pip install "termai-http[prometheus]"' in answer.content
    assert get(site, Authorization="").status_code == 403


def test_a_folder_that_is_not_there_is_told(
    site: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The processes of a site whose folder is missing have nothing to show, and say so."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "none"))
    answer = get(site)
    assert answer.status_code == 404
    assert b"PROMETHEUS_MULTIPROC_DIR names no folder" in answer.content
