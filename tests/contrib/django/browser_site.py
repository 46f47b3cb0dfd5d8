"""A Django site with the status page under a real gunicorn, and a real browser before it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gunicorn_process import gunicorn_process

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0
# Set to 1 where a browser must be there, as in CI; read before a test cleans the environment.
REQUIRED = os.environ.get("TERMAI_HTTP_BROWSER") == "1"

SITE = '''
"""Answers /ask?model=... with a call and a stream, and says in which process."""
import itertools
import os

from django.conf import settings

from termai_http.prices import Price
from tests.contrib.django.usual_settings import APPS, HASHERS, MIDDLEWARE, TEMPLATES

turns = itertools.cycle([True, True, False])
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.staticfiles", *APPS],
    MIDDLEWARE=["browser_site.policy", *MIDDLEWARE],
    PASSWORD_HASHERS=HASHERS,
    ROOT_URLCONF="browser_site",
    SECRET_KEY="for the tests only",
    STATIC_URL="static/",
    TEMPLATES=TEMPLATES,
    TERMAI_HTTP={
        "TRUST_ENV": False,
        "POOLING": lambda key: next(turns),
        "PRICES": {"gpt-5.5": Price(input=3, output=15)},
        "RETRY": {"BASE_DELAY": 0.001, "MAX_DELAY": 0.002},
        "STATUS": {"REFRESH": 0.2},
    },
    USE_TZ=True,
)

import django

django.setup()

from django.contrib import admin
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import include, path

import termai_http


def policy(get_response):
    """A project's own policy, beside the one that the page sends."""

    def answer(request):
        response = get_response(request)
        kept = response.headers.get("Content-Security-Policy")
        own = "default-src 'self'"
        response["Content-Security-Policy"] = f"{own}, {kept}" if kept else own
        return response

    return answer


def ask(request):
    failed = 0
    try:
        termai_http.chat("hello", model=request.GET["model"])
        list(termai_http.stream("hello", model=request.GET["model"]))
    except termai_http.TermaiHttpError:
        failed = 1
    return JsonResponse({"failed": failed, "pid": os.getpid()})


urlpatterns = [
    path("ask", ask),
    path("admin/", admin.site.urls),
    path("termai-http/", include("termai_http.contrib.django.urls")),
]


def prepare():
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.create_user("staff", password="for the tests only", is_staff=True)
    User.objects.create_user("member", password="for the tests only")


application = get_wsgi_application()
'''


class Site:
    """The site while gunicorn serves it."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.page = f"{self.url}/termai-http/"
        self.process = process

    def get(self, path: str) -> Any:
        """Return the JSON of an answer, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return json.loads(body)


@contextlib.contextmanager
def serve(folder: Path, environ: dict[str, str]) -> Iterator[Site]:
    """Serve the site with two workers; what gunicorn logs as an error fails the test."""
    (folder / "browser_site.py").write_text(SITE)
    paths = os.pathsep.join([str(folder), str(ROOT)])
    environ = {**os.environ, "PYTHONPATH": paths, **environ}
    prepare = [sys.executable, "-c", "import browser_site; browser_site.prepare()"]
    subprocess.run(prepare, cwd=folder, env=environ, check=True)
    arguments = (
        "-b",
        "127.0.0.1:0",
        "-w",
        "2",
        "-k",
        "sync",
        "--no-control-socket",
        "browser_site",
    )
    with gunicorn_process(*arguments, folder=folder, environ=environ) as (port, process):
        yield Site(port, process)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Run a headless Chromium. Where one must be there, as in CI, a missing one is a failure."""
    path = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
    else:
        missing = "" if path else "there is no Chromium"
    if missing and REQUIRED:
        pytest.fail(f"{missing}, and TERMAI_HTTP_BROWSER asks for a browser")
    if missing:
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"],
        )
        try:
            yield browser
        finally:
            browser.close()
