"""``TERMAI_HTTP``: over the defaults and the environment, followed by ``override_settings``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.test import override_settings

import termai_http
from termai_http import ConfigurationError, HttpClientConfig, Limits, RetryConfig, _shared
from termai_http.contrib.django.conf import Options, StatusOptions, configuration, options
from termai_http.testing import Server


def test_without_the_setting_the_environment_and_the_defaults_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A project that sets nothing gets what a script would."""
    monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "77")
    assert configuration() == HttpClientConfig(timeout=77)
    assert options() == Options()


def test_every_field_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in capitals stand for fields, dicts for what is nested, and beat the environment."""
    monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "77")
    monkeypatch.setenv("TERMAI_HTTP_CONNECT_TIMEOUT", "7")
    monkeypatch.setenv("TERMAI_HTTP_RETRY_BASE_DELAY", "2")
    given = {
        "TIMEOUT": 20,
        "MAX_CONNECTIONS": 8,
        "RETRY": {"MAX_ATTEMPTS": 5},
        "LIMITS": {"BODY": 1000},
        "REQUEST_TIMEOUT": 25,
        "STATUS": {"REFRESH": 5},
    }
    with override_settings(TERMAI_HTTP=given):
        assert configuration() == HttpClientConfig(
            timeout=20,
            connect_timeout=7,
            max_connections=8,
            retry=RetryConfig(max_attempts=5, base_delay=2),
            limits=Limits(body=1000),
        )
        assert options() == Options(request_timeout=25, status=StatusOptions(refresh=5))
    with override_settings(TERMAI_HTTP={"RETRY": RetryConfig(max_attempts=1)}):
        assert configuration().retry == RetryConfig(max_attempts=1)
    with override_settings(TERMAI_HTTP={"RETRY": None}):
        assert configuration().retry is None


def test_plain_calls_use_the_settings(termai_server: Server) -> None:
    """A view that calls ``termai_http.chat()`` needs to know of no settings."""
    with override_settings(TERMAI_HTTP={"USER_AGENT": "shop/7"}):
        assert termai_http.chat("hello", model="gpt-5.5").text == "You said: hello"
        assert termai_http.client().config.user_agent == "shop/7"
    assert termai_server.requests[0].headers["user-agent"] == "shop/7"


def test_overridden_settings_are_followed(termai_server: Server) -> None:
    """The old client is closed at each change, and the next use makes a new one."""
    first = termai_http.client()
    termai_http.chat("one", model="gpt-5.5")
    with override_settings(TERMAI_HTTP={"TIMEOUT": 5}):
        assert _shared.existing() is None
        with pytest.raises(termai_http.ClientClosed):
            first.chat("never", model="gpt-5.5")
        second = termai_http.client()
        assert second.config.timeout == 5
    assert termai_http.client() is not second
    assert termai_http.client().config.timeout == 120
    with override_settings(USE_TZ=False):
        assert _shared.existing() is not None
    assert [request.prompt for request in termai_server.requests] == ["one"]


def test_a_wrong_setting_fails_the_first_use_with_all_that_is_wrong() -> None:
    """The error names every entry that cannot be used; the next use tries again."""
    with override_settings(TERMAI_HTTP={"TIMOUT": 5, "RETRY": {"MAX_ATTEMPTS": 0}}):
        for _ in range(2):
            with pytest.raises(ConfigurationError) as caught:
                termai_http.client()
        assert "no entry 'TIMOUT'. Did you mean 'TIMEOUT'?" in caught.value.message
        assert "TERMAI_HTTP['RETRY']['MAX_ATTEMPTS']" in caught.value.message
    assert termai_http.client().config.timeout == 120


def test_initialize_beats_the_settings() -> None:
    """Who makes the process-wide client first, decides; as without Django."""
    with override_settings(TERMAI_HTTP={"TIMEOUT": 5}):
        termai_http.initialize(HttpClientConfig(timeout=9))
        assert termai_http.client().config.timeout == 9


SET_UP = """
import sys, threading
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["termai_http.contrib.django"], TERMAI_HTTP={"TIMEOUT": 5}, LOGGING_CONFIG=None
)
import django
django.setup()
from termai_http import _shared
heavy = {"requests", "urllib3", "termai_http._client", "termai_http._session"}
print(_shared.existing(), sorted(heavy & set(sys.modules)), threading.active_count())
import termai_http
print(termai_http.client().config.timeout)
"""


def test_setting_django_up_opens_nothing() -> None:
    """``ready()`` makes no client, loads no requests and starts no thread."""
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SET_UP],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
    )
    assert done.stdout.splitlines() == ["None [] 1", "5"]


WITHOUT_DJANGO = """
import sys
sys.modules["django"] = None
import termai_http.contrib.django as ours
try:
    ours.sse_response
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_missing_django_is_named() -> None:
    """Without Django the error names the extra to install."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DJANGO], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ConfigurationError Django is not installed; pip install ")
    assert '"termai-http[django]"' in done.stdout
