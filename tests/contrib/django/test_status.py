"""The status page: who may see it, what it shows and never shows, and how health answers."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

import termai_http
from termai_http import _shared
from termai_http.contrib.django import _plots
from termai_http.contrib.django.access import HEADER, make_token
from termai_http.testing import RecordedRequest, Server, Status

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e{{ 7 }}"
FAST = {"TRUST_ENV": False, "RETRY": {"BASE_DELAY": 0.001, "MAX_DELAY": 0.002}}
PATIENCE = 30.0
Browse = Callable[..., Client]


class Login:
    """Middleware in the place of Django's: a header names who asks."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Say who asks."""
        from django.contrib.auth.models import AnonymousUser, User

        users = {
            "staff": User(username="staff", is_staff=True),
            "member": User(username="member"),
            "left": User(username="left", is_staff=True, is_active=False),
        }
        request.user = users.get(request.headers.get("X-User", ""), AnonymousUser())  # type: ignore[attr-defined]
        return self.get_response(request)


def by_ticket(request: HttpRequest) -> bool:
    """Let in who has the ticket."""
    return request.GET.get("ticket") == "valid"


def page() -> Any:
    """Return the pattern that a project writes."""
    return path("termai-http/", include("termai_http.contrib.django.urls"))


def admin() -> Any:
    """Return the pattern of an admin."""
    from django.contrib import admin

    return path("admin/", admin.site.urls)


@pytest.fixture
def site(browse: Browse) -> Client:
    """A site with the page, where a header says who asks."""
    return browse(page(), MIDDLEWARE=[f"{__name__}.Login"], TERMAI_HTTP=FAST)


@pytest.fixture
def vendor(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A loopback server that every call goes to."""
    for name, url in (("OPENAI", server.openai_url), ("ANTHROPIC", server.claude_url)):
        monkeypatch.setenv(f"{name}_BASE_URL", url)
        monkeypatch.setenv(f"{name}_API_KEY", "sk-secret-0123456789")
    return server


def get(site: Client, where: str = "", user: str = "staff", **headers: str) -> HttpResponse:
    """Ask for the page, or for what lies under it."""
    return site.get(f"/termai-http/{where}", headers={"X-User": user, **headers})  # type: ignore[return-value]


def figures(site: Client) -> Any:
    """Return the figures as staff gets them."""
    answer = get(site, "status.json")
    assert answer.status_code == 200, answer.content
    return json.loads(answer.content)


def text(site: Client) -> str:
    """Return the page as staff gets it."""
    answer = get(site)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("user", ["member", "left"])
@pytest.mark.parametrize("where", ["", "?format=json", "status.json"])
def test_who_is_no_staff_gets_403(site: Client, user: str, where: str) -> None:
    """Neither members nor those who left see anything of the figures."""
    answer = get(site, where, user)
    assert answer.status_code == 403
    assert b"worker" not in answer.content
    assert answer.content.startswith(b"{") is bool(where)


def test_who_is_not_logged_in_goes_to_the_login(browse: Browse) -> None:
    """It is the admin's where there is one, and it comes back; a program gets a 403."""
    site = browse(page(), admin(), MIDDLEWARE=[f"{__name__}.Login"])
    answer = get(site, "?a=1&b=2", "nobody")
    assert (answer.status_code, answer["Location"]) == (
        302,
        "/admin/login/?next=%2Ftermai-http%2F%3Fa%3D1%26b%3D2",
    )
    assert get(site, "status.json", "nobody").status_code == 403


@pytest.mark.parametrize(
    ("login", "goes"),
    [
        ("/accounts/login/", None),
        ("no-such-name", None),
        ("/enter", "/enter?next=%2Ftermai-http%2F"),
        ("enter", "/enter?next=%2Ftermai-http%2F"),
        ("/enter?by=mail", "/enter?by=mail&next=%2Ftermai-http%2F"),
        ("https://id.example/login", "https://id.example/login?next=%2Ftermai-http%2F"),
    ],
)
def test_a_login_of_the_projects_own(browse: Browse, login: str, goes: str | None) -> None:
    """Without an admin it is LOGIN_URL, and a 403 where that leads nowhere."""
    enter = path("enter", lambda request: HttpResponse(), name="enter")
    site = browse(page(), enter, MIDDLEWARE=[f"{__name__}.Login"], LOGIN_URL=login)
    answer = get(site, user="nobody")
    assert answer.headers.get("Location") == goes
    assert answer.status_code == (302 if goes else 403)


def test_without_users_nobody_gets_in(browse: Browse) -> None:
    """A site that knows no users answers 403, and tells health all the same."""
    site = browse(page(), MIDDLEWARE=[])
    assert get(site).status_code == 403
    assert get(site, "status.json").status_code == 403
    assert get(site, "health/").status_code == 200


@pytest.mark.parametrize("access", [by_ticket, f"{__name__}.by_ticket"])
def test_a_project_may_decide_itself(browse: Browse, access: Any) -> None:
    """A function of the project, or its path, stands in the place of the rule for staff."""
    site = browse(page(), MIDDLEWARE=[], TERMAI_HTTP={"STATUS": {"ACCESS": access}})
    assert get(site, "?ticket=valid").status_code == 200
    assert get(site, "status.json?ticket=valid").status_code == 200
    assert get(site, "?ticket=stale").status_code == 403
    assert get(site, "status.json").status_code == 403


def test_a_command_of_the_project_reads_the_figures(site: Client) -> None:
    """Its token opens the figures, and not the page."""
    assert get(site, "status.json", "nobody", **{HEADER: make_token()}).status_code == 200
    assert get(site, "status.json", "nobody", **{HEADER: "figures:1:x"}).status_code == 403
    assert get(site, "", "nobody", **{HEADER: make_token()}).status_code == 403


def test_a_look_makes_no_client(site: Client) -> None:
    """Who looks before the first call changes nothing, and sees that there was none."""
    shown = text(site)
    assert "No calls yet." in shown
    found = figures(site)
    assert found["client"] == "unused"
    assert found["calls"]["success_rate"] is None
    assert get(site, "health/").status_code == 200
    assert _shared.existing() is None


def test_what_was_called_is_shown(site: Client, vendor: Server) -> None:
    """Calls, retries, tokens, times and failures stand in the figures, and on the page."""
    vendor.script(Status(429, retry_after=0), Status(400))
    with pytest.raises(termai_http.BadRequestError) as failed:
        termai_http.chat("hello", model="gpt-5.5")
    termai_http.chat("hello", model="claude-opus-5-5")
    list(termai_http.stream("hello", model="claude-opus-5-5"))
    found = figures(site)
    assert (found["calls"]["total"], found["calls"]["failed"]) == (3, 1)
    assert found["retries_by_cause"] == {"429": 1}
    assert found["failures_by_class"] == {"BadRequestError": 1}
    assert found["pool"]["attempts"] == 4
    assert found["pool"]["open"] == found["pool"]["opened"] == 1
    assert found["pool"]["reuse_ratio"] == 0.75
    assert found["tokens"]["output"] > 0
    assert sum(count for _, count in found["duration_ms"]["counts"]) == 3
    assert sum(count for _, count in found["first_token_ms"]["counts"]) == 1
    (failure,) = found["recent_failures"]
    assert failure["request_id"] == failed.value.request_id is not None
    assert (failure["status_code"], failure["attempts"]) == (400, 2)
    assert abs(failure["when"] - time.time()) < 600
    shown = text(site)
    assert str(failure["request_id"]) in shown
    assert ">66.7%<" in shown
    assert "No calls yet" in shown.partition('id="empty" hidden')[2]


def test_the_newest_failures_stand_first_and_the_list_is_short(
    browse: Browse, vendor: Server
) -> None:
    """As many as the settings say, and each says its model."""
    changed = {**FAST, "STATUS": {"RECENT": 3}}
    site = browse(page(), MIDDLEWARE=[f"{__name__}.Login"], TERMAI_HTTP=changed)
    vendor.fail_when(lambda request: Status(400))
    for number in range(5):
        with pytest.raises(termai_http.BadRequestError):
            termai_http.chat("hello", model=f"model-{number}")
    models = [one["model"] for one in figures(site)["recent_failures"]]
    assert models == ["model-4", "model-3", "model-2"]
    shown = text(site)
    assert shown.count('class="error"') == 3
    assert shown.index("model-4") < shown.index("model-2")
    assert "model-1" not in shown


def test_everything_shown_is_escaped(site: Client, vendor: Server) -> None:
    """A hostile model name and a hostile cause of failure are text, in the page and its data."""
    vendor.fail_when(lambda request: Status(400, headers={"x-request-id": "<b>id</b>"}))
    with pytest.raises(termai_http.BadRequestError):
        termai_http.chat("hello", model=HOSTILE)
    metrics = termai_http.client().metrics
    metrics.record(
        termai_http.metrics.CallRecord(
            duration=1, success=False, failure="<script>1</script>", causes=("</svg><b>",)
        )
    )
    shown = text(site)
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    for harm in ("<img", "<b>id", "<script>1", "</svg><b>"):
        assert harm not in shown
    assert figures(site)["recent_failures"][0]["model"] == HOSTILE


def test_no_prompt_and_no_key_is_shown(site: Client, vendor: Server) -> None:
    """Neither on the page nor in the figures, after a call that failed with both."""
    vendor.fail_when(
        lambda request: Status(401, body=b'{"error": {"message": "my secret prompt"}}')
    )
    with pytest.raises(termai_http.AuthenticationError):
        termai_http.chat("my secret prompt", model="gpt-5.5", system="be quiet")
    both = text(site) + json.dumps(figures(site))
    assert "AuthenticationError" in both
    for secret in ("secret", "0123456789", "be quiet"):
        assert secret not in both


class Links(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one tag."""
        found = {name: value or "" for name, value in attrs}
        self.loaded += [found[name] for name in ("src", "href") if name in found]
        self.inline += [name for name in found if name == "style" or name.startswith("on")]
        runs = tag == "script" and found.get("type") != "application/json"
        if tag == "style" or (runs and "src" not in found):
            self.inline.append(tag)


def test_the_page_brings_all_that_it_needs(browse: Browse) -> None:
    """Its parts come from the views beside it, also without templates, logins or static files."""
    site = browse(
        page(),
        MIDDLEWARE=[f"{__name__}.Login", "django.contrib.auth.middleware.LoginRequiredMiddleware"],
        TEMPLATES=[],
        STATIC_URL=None,
    )
    links = Links()
    links.feed(text(site))
    assert links.inline == []
    assert sorted(link.partition("?")[0] for link in links.loaded) == [
        *("status.css", "status.js", "status.json", "status.svg"),
    ]
    for link in links.loaded:
        user = "staff" if link == "status.json" else "nobody"
        answer = get(site, link, user)
        assert answer.status_code == 200
        assert b"http" not in re.sub(
            rb"http://www.w3.org/2000/svg|termai_http", b"", answer.content
        )
    assert get(site, "health/", "nobody").status_code == 200
    policy = get(site)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_only_looks_are_answered(site: Client) -> None:
    """GET and HEAD, and nothing that could change something; nothing is kept by a proxy."""
    for where in ("", "status.json", "health/", "status.js"):
        posted = site.post(f"/termai-http/{where}", headers={"X-User": "staff"})
        assert posted.status_code == 405
    for where in ("", "status.json", "health/"):
        assert get(site, where)["Cache-Control"] == "no-store"


def test_numbers_are_written_for_the_page_whatever_the_language(
    browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site in German with its separators still places the columns of its plots."""
    site = browse(
        page(),
        MIDDLEWARE=[f"{__name__}.Login"],
        LANGUAGE_CODE="de",
        USE_THOUSAND_SEPARATOR=True,
        TERMAI_HTTP={"STATUS": {"REFRESH": 3600.5}},
    )
    monkeypatch.setattr(
        "termai_http.contrib.django.status.os", SimpleNamespace(getpid=lambda: 12345)
    )
    for seconds in (0.02, 0.02, 0.02, 0.5):
        termai_http.client().metrics.record_request(seconds, success=True)
    shown = text(site)
    assert 'data-refresh="3600.5"' in shown
    assert 'content="3600"' in shown
    assert "worker 12345 on" in shown
    numbers = re.findall(r' (?:x1?|x2|y|width|height)="([^"]*)"', shown)
    assert len(numbers) > 50
    assert all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", number) for number in numbers)


def test_a_look_is_bounded_work(site: Client) -> None:
    """A hundred thousand calls and all kinds of times make neither page nor figures big."""
    metrics = termai_http.client().metrics
    for number in range(100_000):
        metrics.record_request(0.0001 * 1.02 ** (number % 900), success=True)
    assert len(get(site).content) < 100_000
    assert len(get(site, "status.json").content) < 30_000


@pytest.mark.parametrize("wrong", [{"TIMOUT": 3}, {"TIMEOUT": -1}])
def test_health_with_settings_that_cannot_be_used(browse: Browse, wrong: Any) -> None:
    """503, and no word of why."""
    site = browse(page(), MIDDLEWARE=[], TERMAI_HTTP=wrong)
    answer = get(site, "health/")
    assert (answer.status_code, json.loads(answer.content)) == (503, {"status": "unavailable"})


def test_health_of_a_closed_client(site: Client, vendor: Server) -> None:
    """A client that was closed for good serves no call: 503, and the page says so."""
    termai_http.chat("hello", model="gpt-5.5")
    assert get(site, "health/").status_code == 200
    termai_http.client().close()
    assert get(site, "health/").status_code == 503
    assert figures(site)["client"] == "closed"
    assert 'id="closed">' in text(site)
    termai_http.close()
    assert get(site, "health/").status_code == 200


def test_health_while_calls_wait_for_a_connection(browse: Browse, vendor: Server) -> None:
    """With every connection in use and a call waiting, a balancer is sent elsewhere."""
    changed = {**FAST, "MAX_CONNECTIONS": 1}
    site = browse(page(), MIDDLEWARE=[f"{__name__}.Login"], TERMAI_HTTP=changed)
    arrived, go_on = threading.Event(), threading.Event()

    def hold(request: RecordedRequest) -> None:
        arrived.set()
        go_on.wait(PATIENCE)

    vendor.fail_when(hold)
    calls = [
        threading.Thread(target=termai_http.chat, args=("hello",), kwargs={"model": "gpt-5.5"})
        for _ in range(2)
    ]
    try:
        calls[0].start()
        assert arrived.wait(PATIENCE)
        assert get(site, "health/").status_code == 200
        calls[1].start()
        end = time.monotonic() + PATIENCE
        while figures(site)["pool"]["waiting"] == 0:
            assert time.monotonic() < end
        assert get(site, "health/").status_code == 503
        assert figures(site)["calls"]["in_flight"] == 2
    finally:
        go_on.set()
        for call in calls:
            call.join(PATIENCE)
    assert get(site, "health/").status_code == 200


def test_times_are_sorted_into_columns() -> None:
    """Each time lies in one column; the highest fills the plot; what is rare is still seen."""
    counts = {0.5: 1, 10.0: 1, 14.9: 999, 99_999.0: 2, 10**7: 3}
    found = _plots.columns(counts)
    assert [column.index for column in found] == list(range(len(_plots.EDGES_MS) + 1))
    assert sum(column.count for column in found) == sum(counts.values())
    assert (found[0].count, found[0].height, found[0].label) == (1, 2, "under 10 ms")
    assert (found[1].count, found[1].height, found[1].top) == (1000, 100, 0)
    assert found[1].label == "10 ms to 15 ms"
    assert (found[-1].count, found[-1].label) == (3, "150 s and more")
    assert all(column.height == 0 for column in found if not column.count)


def test_times_have_their_place_on_the_scale() -> None:
    """Edges lie between their columns, and what is off the scale in the middle of the outermost."""
    assert _plots.place(None) is None
    assert _plots.place(1) == 0.5
    assert _plots.place(10) == 1
    assert _plots.place(1000) == 13
    assert 13 < (_plots.place(1200) or 0) < 14
    assert _plots.place(10**7) == len(_plots.EDGES_MS) + 0.5
