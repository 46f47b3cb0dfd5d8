"""System checks, ``manage.py check``: what is wrong, and what to do about it."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from ..._shared import existing
from ...config import HttpClientConfig
from ...errors import ConfigurationError
from .conf import NAME, Options, configuration, options, read, setting
from .middleware import RequestTimeoutMiddleware

__all__ = [
    "check_access",
    "check_deployment",
    "check_environment",
    "check_middleware",
    "check_settings",
]

_IDS = {"unknown": "E001", "value": "E002", "shape": "E003", "credential": "E004"}
_MIDDLEWARE = "termai_http.contrib.django.middleware.RequestTimeoutMiddleware"
# They ask databases and caches: time that a limit which begins after them does not count.
_SLOW = ("Session", "Authentication", "UpdateCache", "FetchFromCache")
_DEFAULT_WORKER_TIMEOUT = 30.0


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge the setting by itself."""
    config, _, problems = read(setting())
    found: list[CheckMessage] = [
        Error(problem.message, hint=problem.hint, id=f"termai_http.{_IDS[problem.kind]}")
        for problem in problems
    ]
    for scheme, url in (config.get("proxies") or {}).items():
        if urlsplit(url).password is not None:
            found.append(
                Warning(
                    f"{NAME}['PROXIES'][{scheme!r}] holds a password.",
                    hint="Set HTTPS_PROXY in the environment: Django's error pages show settings.",
                    id="termai_http.W001",
                )
            )
    return found


def check_environment(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge what the setting meets where it runs: variables, files, a client made too early."""
    _, _, problems = read(setting())
    if problems:
        return []
    try:
        config = configuration()
    except ConfigurationError as error:
        return [
            Error(
                f"The environment cannot be read: {error.message}",
                hint="Correct or unset the variable.",
                id="termai_http.E005",
            )
        ]
    found: list[CheckMessage] = [
        Error(
            f"{NAME}[{name!r}]: there is no file {path!r}.",
            hint="Give the path as the server sees it, best an absolute one.",
            id="termai_http.E006",
        )
        for name, path in _files(config)
        if not os.path.exists(path)
    ]
    client = existing()
    if client is not None and client.config != config:
        found.append(
            Warning(
                f"The process-wide client was made with another configuration than {NAME}.",
                hint="Call neither initialize() nor chat() before Django is set up: not while"
                " modules are imported.",
                id="termai_http.W007",
            )
        )
    return found


def _files(config: HttpClientConfig) -> Iterator[tuple[str, str]]:
    if config.ca_bundle is not None:
        yield "CA_BUNDLE", config.ca_bundle
    certificates = config.client_cert or ()
    for path in (certificates,) if isinstance(certificates, str) else certificates:
        yield "CLIENT_CERT", path


def check_access(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge whether the path of the function that guards the status page leads to one."""
    chosen = _options()
    path = None if chosen is None else chosen.status.access
    if not isinstance(path, str):
        return []
    try:
        if callable(import_string(path)):
            return []
        reason = "it is no function"
    except ImportError as error:
        reason = str(error)
    return [
        Error(
            f"{NAME}['STATUS']['ACCESS']: {path!r} cannot be used: {reason}.",
            hint="Give the dotted path of a function that takes the request.",
            id="termai_http.E007",
        )
    ]


def check_middleware(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge the middleware: whether it is there when it is needed, once, and early."""
    chosen = _options()
    if chosen is None:
        return []
    found: list[CheckMessage] = []
    paths = list(settings.MIDDLEWARE)
    places = [place for place, path in enumerate(paths) if _is_ours(path)]
    if not places and chosen.request_timeout is not None:
        found.append(
            Warning(
                f"{NAME}['REQUEST_TIMEOUT'] has no effect: its middleware is not installed.",
                hint=f"Add {_MIDDLEWARE!r} to the beginning of MIDDLEWARE.",
                id="termai_http.W003",
            )
        )
    if len(places) > 1:
        found.append(
            Warning(
                "RequestTimeoutMiddleware is installed more than once.",
                hint="Keep the first.",
                id="termai_http.W002",
            )
        )
    early = [path for path in paths[: places[0]] if _is_slow(path)] if places else []
    if early:
        found.append(
            Warning(
                f"RequestTimeoutMiddleware stands after {early[0].rpartition('.')[2]}, whose time"
                " it does not count.",
                hint="Put it at the beginning of MIDDLEWARE, or right after SecurityMiddleware.",
                id="termai_http.W004",
            )
        )
    return [*found, *_check_worker(chosen, installed=bool(places))]


def check_deployment(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Judge, for ``check --deploy``, whether calls end before the server's patience does."""
    chosen = _options()
    if chosen is None or _worker_timeout(chosen) is not None:
        return []
    limit = _limit(chosen, installed=any(map(_is_ours, settings.MIDDLEWARE)))
    if limit is None or limit < _DEFAULT_WORKER_TIMEOUT:
        return []
    return [
        Warning(
            f"A request may wait {limit:g} s for a model, and gunicorn kills a sync worker that"
            f" is busy with one request for {_DEFAULT_WORKER_TIMEOUT:g} s, unless it is told"
            " otherwise.",
            hint=f"Install {_MIDDLEWARE!r} and set {NAME}['REQUEST_TIMEOUT'] to less; or run"
            f" gthread workers and say so with {NAME}['WORKER_TIMEOUT'].",
            id="termai_http.W006",
        )
    ]


def _check_worker(chosen: Options, *, installed: bool) -> list[CheckMessage]:
    patience = _worker_timeout(chosen)
    limit = _limit(chosen, installed=installed)
    if patience is None or limit is None or limit < patience:
        return []
    return [
        Warning(
            f"A request may wait {limit:g} s for a model, and the server kills its worker after"
            f" {patience:g} s.",
            hint=f"Set {NAME}['REQUEST_TIMEOUT'] to less than that, or raise the server's timeout.",
            id="termai_http.W005",
        )
    ]


def _options() -> Options | None:
    try:
        return options()
    except ConfigurationError:
        return None  # told by check_settings


def _limit(chosen: Options, *, installed: bool) -> float | None:
    if installed and chosen.request_timeout is not None:
        return chosen.request_timeout
    try:
        return configuration().timeout
    except ConfigurationError:
        return None  # told by check_environment


def _is_ours(path: str) -> bool:
    try:
        found = import_string(path)
    except ImportError:
        return False  # Django says so when it loads it
    return isinstance(found, type) and issubclass(found, RequestTimeoutMiddleware)


def _is_slow(path: str) -> bool:
    module, _, name = path.rpartition(".")
    return module.startswith("django.") and name.removesuffix("Middleware") in _SLOW


def _worker_timeout(chosen: Options) -> float | None:
    """Return after how many seconds the server kills a busy worker, where that is known."""
    if chosen.worker_timeout is not None:
        return chosen.worker_timeout
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-t", "--timeout", type=float)
    parser.add_argument("-k", "--worker-class", default="sync")
    parser.add_argument("--threads", type=int, default=1)
    try:
        words = shlex.split(os.environ.get("GUNICORN_CMD_ARGS", ""))
        known, _ = parser.parse_known_args(words)
    except (ValueError, argparse.ArgumentError):
        return None  # gunicorn says so when it starts
    # The other workers stay alive while requests take their time.
    if known.worker_class != "sync" or known.threads > 1:
        return None
    return known.timeout or None
