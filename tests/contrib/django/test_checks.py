"""``manage.py check``: each mistake has an id and a way out, and none shows a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import override_settings

import termai_http
from termai_http import HttpClientConfig
from termai_http.contrib.django.middleware import RequestTimeoutMiddleware

from .usual_settings import LIMIT, MIDDLEWARE


def found(given: Any = None, *, deploy: bool = False, **changed: Any) -> dict[str, str]:
    """Run the checks with a setting; return message and hint by id."""
    if given is not None:
        changed["TERMAI_HTTP"] = given
    with override_settings(**changed):
        messages = run_checks(tags=["termai_http"], include_deployment_checks=deploy)
    assert all(message.hint for message in messages)
    named = {str(message.id): f"{message.msg} {message.hint}" for message in messages}
    assert len(named) == len(messages)
    return {name.removeprefix("termai_http."): text for name, text in named.items()}


@pytest.mark.parametrize(
    ("given", "check", "says"),
    [
        ({"TIMOUT": 3}, "E001", "Did you mean 'TIMEOUT'?"),
        ({"timeout": 3}, "E001", "Did you mean 'TIMEOUT'?"),
        ({"RETRY": {"ATTEMPTS": 3}}, "E001", "Did you mean 'MAX_ATTEMPTS'?"),
        ({"RETRY": {"XYZ": 3}}, "E001", "Known are AMBIGUOUS_RETRIES, BACKOFF_MULTIPLIER"),
        ({3: 3}, "E001", "no entry 'int'"),
        ({"TIMEOUT": -1}, "E002", "TERMAI_HTTP['TIMEOUT']: timeout must be a number of seconds"),
        ({"TIMEOUT": "30"}, "E002", "not '30'"),
        ({"RETRY": 3}, "E002", "A dict will do."),
        ({"RETRY": {"MAX_ATTEMPTS": True}}, "E002", "TERMAI_HTTP['RETRY']['MAX_ATTEMPTS']"),
        ({"STATUS": {"REFRESH": 0}}, "E002", "TERMAI_HTTP['STATUS']['REFRESH']"),
        ({"STATUS": 3}, "E002", "status must be a dict"),
        ({"REQUEST_TIMEOUT": float("nan")}, "E002", "request_timeout must be a number of seconds"),
        ({"REQUEST_TIMEOUT_HEADER": "a b"}, "E002", "must be the name of a header or None"),
        ([("TIMEOUT", 3)], "E003", 'must be a dict, not list. Write TERMAI_HTTP = {"TIMEOUT"'),
        ({"OPENAI_API_KEY": "sk-secret"}, "E004", "Set OPENAI_API_KEY"),
        ({"CA_BUNDLE": "/no/such.pem"}, "E006", "no file '/no/such.pem'"),
        ({"CLIENT_CERT": ("/no/a.pem", "/no/b.pem")}, "E006", "no file '/no/"),
        ({"STATUS": {"ACCESS": "no.such.function"}}, "E007", "No module named 'no'"),
        ({"STATUS": {"ACCESS": "django.VERSION"}}, "E007", "it is no function"),
        ({"PROXIES": {"https": "http://me:sk-secret@proxy:3128"}}, "W001", "HTTPS_PROXY"),
    ],
)
def test_a_mistake_has_an_id_and_a_hint(given: Any, check: str, says: str) -> None:
    """The message names the entry, and the hint says what to write instead."""
    with override_settings(TERMAI_HTTP=given):
        messages = [str(m) for m in run_checks(tags=["termai_http"])]
    assert all(f"(termai_http.{check})" in message for message in messages)
    assert says in messages[0].replace("\n\tHINT: ", " ")
    assert "sk-secret" not in str(messages)


def test_all_mistakes_are_told_at_once() -> None:
    """Nobody has to run the checks once for each mistake."""
    given = {"TIMOUT": 1, "RETRY": {"BASE_DELAY": -1}, "LIMITS": None}
    with override_settings(TERMAI_HTTP=given):
        ids = [message.id for message in run_checks(tags=["termai_http"])]
    assert ids == ["termai_http.E001", "termai_http.E002", "termai_http.E002"]


def test_a_good_project_has_nothing_to_tell(tmp_path: Path) -> None:
    """Middleware first, a limit below the server's, files that are there: no message."""
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    good = {"REQUEST_TIMEOUT": 20, "CA_BUNDLE": str(bundle), "WORKER_TIMEOUT": 30}
    assert found(good, deploy=True) == {}
    assert found({}) == {}


def test_manage_check_stops_on_a_mistake() -> None:
    """``manage.py check``, and with it ``runserver`` and ``migrate``, refuse a wrong setting."""
    with (
        override_settings(TERMAI_HTTP={"TIMOUT": 3}),
        pytest.raises(CommandError, match=r"termai_http\.E001"),
    ):
        call_command("check")


def test_a_wrong_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment below the settings is checked, too."""
    monkeypatch.setenv("TERMAI_HTTP_TIMEOUT", "soon")
    assert "TERMAI_HTTP_TIMEOUT must be a number, not 'soon'" in found({})["E005"]


class Subclass(RequestTimeoutMiddleware):
    """A project's own."""


def test_the_middleware_is_needed_once_and_early() -> None:
    """A limit without it, it twice, or behind others that take time: each is a warning."""
    limit = {"REQUEST_TIMEOUT": 20}
    rest = MIDDLEWARE
    assert "has no effect" in found(limit, MIDDLEWARE=rest)["W003"]
    assert found({}, MIDDLEWARE=rest) == {}
    assert "more than once" in found(limit, MIDDLEWARE=[LIMIT, *rest, LIMIT])["W002"]
    assert "after SessionMiddleware" in found(limit, MIDDLEWARE=[*rest, LIMIT])["W004"]
    assert found(limit, MIDDLEWARE=[rest[0], LIMIT, *rest[1:]]) == {}
    path = f"{__name__}.Subclass"
    assert found(limit, MIDDLEWARE=[path, *rest, "no.such.Middleware"]) == {}


def test_a_limit_above_the_servers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gunicorn is told on its command line, or the setting, bounds a request."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--bind :80 --timeout 45 -w 3")
    assert "120 s for a model, and the server kills its worker after 45 s" in found({})["W005"]
    assert "may wait 45 s" in found({"REQUEST_TIMEOUT": 45})["W005"]
    assert found({"REQUEST_TIMEOUT": 40}) == {}
    assert "may wait 120 s" in found({"REQUEST_TIMEOUT": 40}, MIDDLEWARE=MIDDLEWARE)["W005"]
    assert "after 100 s" in found({"WORKER_TIMEOUT": 100})["W005"]
    for unbound in ("-k gthread -t 45", "--threads=4 -t 45", "-t 0", "-w 3", "-t soon", "'"):
        monkeypatch.setenv("GUNICORN_CMD_ARGS", unbound)
        assert found({}) == {}


def test_a_deployment_without_any_limit_is_told() -> None:
    """``check --deploy`` speaks of gunicorn's 30 s where nothing is known of the server."""
    assert "gunicorn kills a sync worker" in found({}, deploy=True)["W006"]
    assert found({"REQUEST_TIMEOUT": 25}, deploy=True) == {}
    assert found({"TIMEOUT": 25}, deploy=True) == {}
    assert found({"WORKER_TIMEOUT": 300}, deploy=True) == {}


def test_a_client_made_too_early_is_told() -> None:
    """A client that does not follow the settings, since it was there before them, is named."""
    with override_settings(TERMAI_HTTP={"TIMEOUT": 5}):
        termai_http.initialize(HttpClientConfig(timeout=9))
        assert [m.id for m in run_checks(tags=["termai_http"])] == ["termai_http.W007"]
        termai_http.close()
        termai_http.client()
        assert run_checks(tags=["termai_http"]) == []
