"""What the pages show for Django, Flask, Celery and Jupyter: put together and used, as by a reader.

``python -m tests.docs_hosts django`` uses one of them, against a loopback server of its own.
"""

from __future__ import annotations

import doctest
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from termai_http.testing import Server, Status
from tests.docs_pages import Block, blocks

__all__ = ["HOSTS", "all_shown"]

# A word of each block, by its page.
_WORDS = (
    *("INSTALLED_APPS", "request_timeout", "sse_response", "urlpatterns", "METRICS_TOKEN"),
    *("import Celery", "import Flask"),
    *("termai_http.initialize", "import show", "asyncio.gather"),
)
_PAGES = ("django.rst", "jupyter.rst", "recipes.rst")


def all_shown() -> list[Block]:
    """Return every block that is used here."""
    return [_shown(word) for word in _WORDS]


def _shown(word: str) -> Block:
    """Return the one block for a host that has a word in it."""
    (found,) = (
        block
        for page in _PAGES
        for block in blocks(page)
        if "elsewhere" in block.marks and word in block.text
    )
    return found


def _run(block: Block, **names: Any) -> dict[str, Any]:
    names.setdefault("__name__", "shown")
    exec(block.text, names)
    return names


def use_django(server: Server) -> None:
    """Check the site's settings, stream an answer, ask for health."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.test import Client, RequestFactory
    from django.test.utils import override_settings
    from django.urls import include, path

    chosen = _run(_shown("INSTALLED_APPS"))
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="shown_urls",
        **{name: value for name, value in chosen.items() if name.isupper()},
    )
    django.setup()
    story = _run(_shown("sse_response"))["story"]
    urls = type(sys)("shown_urls")
    included = _run(_shown("urlpatterns"), path=path, include=include)
    vars(urls)["urlpatterns"] = [*included["urlpatterns"], path("story/", story)]
    sys.modules["shown_urls"] = urls
    call_command("check", "--fail-level", "WARNING")

    browser = Client()
    answer = b"".join(browser.post("/story/", {"prompt": "Hello"}))
    (wanted,) = (block for block in blocks("django.rst") if block.text.startswith("retry:"))
    _same(wanted.text, answer.decode().rstrip("\n") + "\n")
    assert browser.get("/termai-http/health/").status_code == 200
    os.environ["METRICS_TOKEN"] = "scraper"
    with override_settings(TERMAI_HTTP=_run(_shown("METRICS_TOKEN"))["TERMAI_HTTP"]):
        for token, status in (("scraper", 200), ("guess", 403)):
            headers = {"Authorization": f"Bearer {token}"}
            assert browser.get("/termai-http/metrics", headers=headers).status_code == status
    report = _run(_shown("request_timeout"))["long_report"]
    assert report(RequestFactory().get("/")) is None


def _same(wanted: str, given: str) -> None:
    flags = doctest.ELLIPSIS
    assert doctest.OutputChecker().check_output(wanted, given, flags), f"{wanted}\n!=\n{given}"


def use_flask(server: Server) -> None:
    """Ask for an answer, a stream, and for what fails."""
    app = _run(_shown("import Flask"))["app"]
    browser = app.test_client()
    asked = {"prompt": "Hello"}
    assert browser.post("/chat", json=asked).get_json() == {"text": "You said: Hello"}
    assert browser.post("/stream", json=asked).get_data() == b"You said: Hello"
    server.script(Status(429, retry_after=3600))
    busy = browser.post("/chat", json=asked)
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "3601")
    assert busy.get_json() == {"error": "RateLimitError"}
    assert browser.post("/chat", json={"prompt": 7}).status_code == 400
    server.script(Status(401))
    assert browser.post("/stream", json=asked).status_code == 502


def use_celery(server: Server) -> None:
    """Have a worker answer, and give a task back when the vendor asks for a long wait."""
    from celery.contrib.testing.worker import start_worker

    names = _run(_shown("import Celery"))
    app, task = names["app"], names["answer"]
    app.conf.update(
        broker_url="memory://",
        broker_transport_options={"polling_interval": 0.01},
        result_backend="cache+memory://",
    )
    with start_worker(app, pool="threads", perform_ping_check=False, shutdown_timeout=30):
        assert task.delay("Hello").get(timeout=30, interval=0.01) == "You said: Hello"
        # Wakes it: it would look only every 2 s whether it shall end.
        app.control.shutdown()
    # Given back, it waits for an hour; here it is begun again at once.
    app.conf.task_always_eager = True
    server.script(Status(429, retry_after=3600))
    assert task.delay("Again").get() == "You said: Again"
    assert [request.prompt for request in server.requests] == ["Hello", "Again", "Again"]


def use_jupyter(server: Server) -> None:
    """Run the cells in a shell of IPython, the one that awaits too."""
    from IPython.core.interactiveshell import InteractiveShell

    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPYTHONDIR"] = folder
        shell = InteractiveShell.instance()
        for word in ("termai_http.initialize", "import show", "asyncio.gather"):
            shell.run_cell(_shown(word).text).raise_error()
        names = shell.user_ns
        shell.history_manager.end_session()
    assert names["termai_http"].client().config.timeout == 60
    assert names["reply"].text == "You said: Tell me a story"
    assert [names[name].text for name in ("first", "second")] == [
        "You said: One?",
        "You said: Two?",
    ]


HOSTS: dict[str, Callable[[Server], None]] = {
    "celery": use_celery,
    "django": use_django,
    "flask": use_flask,
    "jupyter": use_jupyter,
}


def main() -> None:
    """Use one of them."""
    with Server() as server:
        os.environ.update(
            OPENAI_BASE_URL=server.openai_url,
            OPENAI_API_KEY="x",
            ANTHROPIC_BASE_URL=server.claude_url,
            ANTHROPIC_API_KEY="x",
        )
        HOSTS[sys.argv[1]](server)


if __name__ == "__main__":
    main()
