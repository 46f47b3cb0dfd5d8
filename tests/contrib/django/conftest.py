"""Django, set up once in the process of the tests, with settings that each test may override."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import setup_test_environment, teardown_test_environment

from termai_http import _shared
from termai_http.contrib.django import conf

from .usual_settings import APPS, HASHERS, LIMIT, MIDDLEWARE, TEMPLATES


class NoUrls:
    """What a test without URLs of its own has."""

    urlpatterns: tuple[Any, ...] = ()


@pytest.fixture(scope="session")
def django_ready() -> Iterator[None]:
    """Set Django up, with a database in memory."""
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        LOGGING_CONFIG=None,
        INSTALLED_APPS=APPS,
        MIDDLEWARE=[LIMIT, *MIDDLEWARE],
        PASSWORD_HASHERS=HASHERS,
        ROOT_URLCONF=NoUrls,
        SECRET_KEY="for the tests only",
        TEMPLATES=TEMPLATES,
        USE_TZ=True,
    )
    django.setup()
    setup_test_environment()
    yield
    teardown_test_environment()
    connection.close()


@pytest.fixture(autouse=True)
def of_django(django_ready: None) -> Iterator[None]:
    """Let the process-wide client start from the settings, in these tests alone."""
    assert apps.ready
    _shared.start_from(conf.configuration)
    yield
    _shared.close()
    _shared.start_from(None)


@pytest.fixture
def browse() -> Iterator[Callable[..., Client]]:
    """Give a function that takes URL patterns and returns a client of a site with these."""
    overridden: list[override_settings] = []

    def site(*patterns: Any, raise_request_exception: bool = True, **changed: Any) -> Client:
        urls = type("Urls", (), {"urlpatterns": patterns})
        override = override_settings(ROOT_URLCONF=urls, **changed)
        override.enable()
        overridden.append(override)
        return Client(raise_request_exception=raise_request_exception)

    yield site
    for override in reversed(overridden):
        override.disable()
