"""The status page in a real browser, before a real server with two workers and real calls."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from termai_http.testing import RecordedRequest, Server, Status

from .browser_site import PATIENCE, Site, chromium, serve

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn needs a fork")

# A folder for pictures to look at; read before a test cleans the environment.
PICTURES = os.environ.get("TERMAI_HTTP_SCREENSHOTS")
HOSTILE = "<img src=x onerror=alert(1)>"
# Every text that can be seen, with the contrast to what lies behind it, by the rule of WCAG.
CONTRASTS = """() => {
  const numbers = (color) => color.match(/[0-9.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      const parts = numbers(color);
      if (parts.length < 4 || parts[3] > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some(
      (node) => node.nodeType === 3 && node.textContent.trim(),
    );
    if (!own || element.closest("script, noscript, svg") || !element.offsetParent) continue;
    const pair = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    found.push([ratio, element.textContent.trim()]);
  }
  return found.sort((one, other) => one[0] - other[0]);
}"""

# What the script wrote, and what stood in the page as the server sent it.
READ = """(html) => [document, new DOMParser().parseFromString(html, "text/html")].map((page) =>
  [...page.querySelectorAll(
    "#workers th, #workers td, [data-path], [data-plot] rect, [data-plot] line, [data-count], " +
    "[data-bars] li, [data-bars] rect, #failures .error, #failures .id, #failures .number"
  )].map((one) => [
    one.tagName === "line" ? "" : one.textContent.replace(/\\s+/g, " ").trim(),
    ...["x1", "y", "height", "width", "visibility"].map((name) => {
      const value = one.getAttribute(name);
      if (value === null || value === "visible") return null;
      return value === "hidden" ? value : Number(value);
    }),
  ])
)"""


def decide(request: RecordedRequest) -> Status | None:
    """Refuse the hostile model, and let every other call succeed."""
    return Status(400) if request.model == HOSTILE else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, before a loopback server."""
    with Server() as server:
        server.fail_when(decide)
        environ = {
            "OPENAI_BASE_URL": server.openai_url,
            "OPENAI_API_KEY": "sk-loopback-0123456789",
        }
        with serve(tmp_path_factory.mktemp("site"), environ) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for all tests of this module."""
    with chromium() as running:
        yield running


class Visit:
    """A page in a context of its own, and what it asked for and complained of."""

    def __init__(self, browser: Any, site: Site, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.context.new_page()
        self.site = site
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def log_in(self, name: str = "staff") -> None:
        """Ask for the page, and log in where it leads to."""
        self.page.goto(self.site.page)
        self.page.fill("#id_username", name)
        self.page.fill("#id_password", "for the tests only")
        with self.page.expect_navigation():
            self.page.press("#id_password", "Enter")
        # What the login page says of its own style is its own affair.
        self.complaints.clear()

    def live(self) -> None:
        """Wait until the script runs and was answered."""
        self.page.wait_for_selector("#state[data-state=live]")

    def workers(self) -> list[str]:
        """Return the heads of the columns."""
        heads = self.page.locator("#workers thead th").all_inner_texts()
        return [head for head in heads if re.fullmatch("[0-9]+", head)]


@pytest.fixture(scope="module")
def session(browser: Any, site: Site) -> Any:
    """What a browser keeps of a login of staff."""
    visit = Visit(browser, site)
    visit.log_in()
    assert visit.page.url == site.page
    return visit.context.storage_state()


@pytest.fixture
def visit(
    browser: Any, site: Site, session: Any, request: pytest.FixtureRequest
) -> Iterator[Visit]:
    """The page, opened by staff; parametrized with options of the browser."""
    options = {"viewport": {"width": 1280, "height": 900}, **getattr(request, "param", {})}
    made = Visit(browser, site, storage_state=session, **options)
    made.page.goto(site.page)
    yield made
    if PICTURES:
        name = re.sub(r"\W+", "-", request.node.name)
        made.page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)
    assert made.complaints == []
    assert [url for url in made.asked if not url.startswith(f"{site.url}/termai-http/")] == []
    made.context.close()


def everybody(site: Site) -> set[str]:
    """Call a model in both workers; their process ids."""
    found: set[str] = set()
    for _ in range(200):
        found.add(str(site.get("/ask?model=gpt-5.5")["pid"]))
        if len(found) == 2:
            return found
    raise AssertionError(f"only {found} answered")


def shown(visit: Visit, path: str) -> int:
    """Return a number of the tiles."""
    return int(visit.page.inner_text(f'.big[data-path="{path}"]').replace(",", ""))


def test_figures_change_without_a_reload(visit: Visit, site: Site) -> None:
    """Both workers get a column of their own, and calls that are made meanwhile are counted."""
    visit.live()
    workers = everybody(site)
    visit.page.wait_for_selector("#workers thead th:nth-child(4)")
    assert set(visit.workers()) == workers
    assert visit.page.inner_text("#workers thead th:nth-child(2)") == "All"
    visit.page.evaluate("window.stayed = true")
    before = shown(visit, "calls.total")
    for _ in range(5):
        site.get("/ask?model=gpt-5.5")
    visit.page.wait_for_function(
        """(least) => Number(document.querySelector('.big[data-path="calls.total"]')
            .textContent.replaceAll(",", "")) >= least""",
        arg=before + 10,
    )
    assert visit.page.evaluate("window.stayed") is True
    cells = visit.page.locator('tr[data-row="calls.total"] td').all_inner_texts()
    assert int(cells[0]) == int(cells[1]) + int(cells[2])
    for key in ("duration_ms", "first_token_ms"):
        heights = visit.page.eval_on_selector_all(
            f"[data-plot={key}] rect", "all => all.map((one) => one.getAttribute('height'))"
        )
        assert max(map(float, heights)) == 100
        assert visit.page.get_attribute(f"[data-plot={key}] line.p50", "visibility") == "visible"


def test_the_script_counts_as_the_server_does(visit: Visit, site: Site) -> None:
    """Of one worker, what the script draws is what the server drew."""
    everybody(site)
    visit.page.route("**/status.json", lambda route: route.abort())
    answer = visit.page.goto(site.page)
    visit.page.wait_for_selector("#state[data-state=lost]")
    drawn, sent = visit.page.evaluate(READ, answer.text())
    assert len(sent) > 100
    assert len(drawn) == len(sent)
    texts = [one[0] for one in drawn]
    assert any(re.fullmatch(r"\$0\.[0-9]{4}", one) for one in texts)
    assert visit.page.is_visible('tr[data-row="unpooled.total"]')
    for one, other in zip(drawn, sent, strict=True):
        # The server writes places with fewer digits.
        assert one == pytest.approx(other, abs=0.02)
    # The browser itself notes what was not answered.
    visit.complaints = [one for one in visit.complaints if "ERR_FAILED" not in one]


@pytest.mark.parametrize(
    "visit",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}],
    indirect=True,
    ids=["light", "dark"],
)
def test_light_and_dark_can_be_read(visit: Visit, site: Site) -> None:
    """The page follows the system, and every text stands out enough from what is behind it."""
    everybody(site)
    visit.page.wait_for_selector("#workers thead th:nth-child(4)")
    page = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (max(map(int, re.findall("[0-9]+", page))) < 60) is dark
    contrasts = visit.page.evaluate(CONTRASTS)
    assert len(contrasts) > 60
    assert contrasts[0][0] >= 4.5, contrasts[:5]


@pytest.mark.parametrize(
    "visit",
    [
        {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
        {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
    ],
    indirect=True,
    ids=["light", "dark"],
)
def test_a_phone_scrolls_down_only(visit: Visit, site: Site) -> None:
    """At 360 pixels all fits the width, both workers and a failure with a long name included."""
    everybody(site)
    site.get(f"/ask?model={HOSTILE.replace(' ', '%20')}")
    visit.page.wait_for_selector("#workers thead th:nth-child(4)")
    visit.page.wait_for_selector("#failures .error")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
    assert (
        visit.page.evaluate(
            "(() => { const all = document.querySelector('.scroll');"
            " return all.scrollWidth - all.clientWidth; })()"
        )
        == 0
    )


def test_a_hostile_model_is_text(visit: Visit, site: Site) -> None:
    """Neither the server's page nor the script's makes an element of it."""
    visit.live()
    for _ in range(2):
        assert site.get(f"/ask?model={HOSTILE.replace(' ', '%20')}")["failed"] == 1
    visit.page.get_by_text(HOSTILE).first.wait_for()
    assert visit.page.locator("img").count() == 0
    assert "BadRequestError" in visit.page.inner_text("#failures")
    visit.page.reload()
    visit.page.get_by_text(HOSTILE).first.wait_for()
    assert visit.page.locator("img").count() == 0


def test_pause_stops_the_looks(visit: Visit) -> None:
    """A paused page asks for nothing until it is told to go on."""
    visit.live()
    visit.page.click("#pause")
    visit.page.wait_for_selector("#state[data-state=paused]")
    assert visit.page.inner_text("#pause") == "Go on"
    visit.page.click("#pause")
    visit.live()
    with visit.page.expect_response("**/status.json"):
        pass


@pytest.mark.parametrize("visit", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_the_page_is_whole(visit: Visit, site: Site) -> None:
    """It shows the worker that answered, and loads itself anew."""
    everybody(site)
    visit.page.reload()
    assert len(visit.workers()) == 1
    assert "As of" in visit.page.inner_text("#state")
    assert not visit.page.is_visible("#pause")
    assert "loads itself anew" in visit.page.inner_text("#seen")
    with visit.page.expect_navigation():
        pass


def test_a_member_is_refused(browser: Any, site: Site) -> None:
    """Somebody who is logged in and no staff gets no page."""
    visit = Visit(browser, site)
    visit.page.goto(f"{site.url}/admin/login/?next=/termai-http/")
    visit.page.fill("#id_username", "member")
    visit.page.fill("#id_password", "for the tests only")
    with visit.page.expect_navigation():
        visit.page.press("#id_password", "Enter")
    assert "staff account" in visit.page.inner_text("body")
    answer = visit.page.goto(site.page)
    assert answer.status in (200, 403)
    assert "Workers" not in visit.page.inner_text("body")
    visit.context.close()


def test_who_is_logged_out_is_told(visit: Visit) -> None:
    """A page whose session ended stops asking and says so."""
    visit.live()
    visit.context.clear_cookies()
    visit.page.get_by_text("Signed out").wait_for()
    assert not visit.page.is_visible("#pause")
    # The browser itself notes the 403.
    visit.complaints = [one for one in visit.complaints if "403" not in one]
