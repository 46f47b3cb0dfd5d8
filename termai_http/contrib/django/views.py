"""The status page and its figures, and those for Prometheus, for staff; health, for everybody.

The page brings its own style and script, from views of its own: it needs no static files, and
runs under ``Content-Security-Policy: default-src 'self'``. It sends a stricter policy itself.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import Context, Engine
from django.utils import timezone as django_timezone
from django.views.decorators.http import require_safe

from ..._version import __version__
from ...errors import ConfigurationError
from .. import prometheus
from . import _plots
from .conf import options
from .status import GROUPS, SIDES, cell, is_healthy, snapshot
from .status_access import refusal, refusal_as_json

__all__ = ["figures", "health", "icon", "metrics", "script", "status", "stylesheet"]

_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PLOTS = (("duration_ms", "Duration of a call"), ("first_token_ms", "Time to first token"))
_RANKED = (
    ("retries_by_cause", "Retries by cause", "No retries."),
    ("failures_by_class", "Failures by class", "No failures."),
)
_FAILURE_COLUMNS = "When", "Error", "Status", "Model", "Request id", "Attempts", "Took", "Process"


def _view(function: Callable[..., Any]) -> Callable[..., Any]:
    found: Callable[..., Any] = require_safe(function)
    # A project's LoginRequiredMiddleware would send health and style to the login, too.
    found.login_required = False  # type: ignore[attr-defined]
    return found


@_view
def status(request: HttpRequest) -> HttpResponse:
    """Show the figures to staff, as a page or with ``?format=json``."""
    if request.GET.get("format") == "json":
        return _as_json(request)
    refused = refusal(request)
    if refused is not None:
        return refused
    chosen = options().status
    context = _context(snapshot(chosen.recent), chosen.refresh, chosen.recent)
    page = _engine().get_template("termai_http/status.html").render(Context(context))
    return HttpResponse(
        page,
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "X-Robots-Tag": "noindex",
        },
    )


@_view
def figures(request: HttpRequest) -> HttpResponse:
    """Give the figures of the worker that answers as JSON, to staff."""
    return _as_json(request)


@_view
def metrics(request: HttpRequest) -> HttpResponse:
    """Give what Prometheus reads, to whoever may see the page: a 404 says why there is nothing."""
    refused = refusal_as_json(request)
    if refused is not None:
        return refused
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    try:
        body, kind = prometheus.scrape(request.headers.get("Accept", ""))
    except ConfigurationError as error:
        body, kind = f"{error.message}\n".encode(), "text/plain; charset=utf-8"
        return HttpResponse(body, status=404, content_type=kind, headers=headers)
    return HttpResponse(body, content_type=kind, headers=headers)


@_view
def health(request: HttpRequest) -> HttpResponse:
    """Tell a load balancer whether this worker can begin calls: 200 or 503, and no more."""
    healthy = is_healthy()
    return JsonResponse(
        {"status": "ok" if healthy else "unavailable"},
        status=200 if healthy else 503,
        headers={"Cache-Control": "no-store"},
    )


@_view
def stylesheet(request: HttpRequest) -> HttpResponse:
    """Give the page's style."""
    return _asset("status.css", "text/css; charset=utf-8")


@_view
def icon(request: HttpRequest) -> HttpResponse:
    """Give the page's icon."""
    return _asset("status.svg", "image/svg+xml")


@_view
def script(request: HttpRequest) -> HttpResponse:
    """Give the page's script."""
    return _asset("status.js", "text/javascript; charset=utf-8")


def _as_json(request: HttpRequest) -> HttpResponse:
    refused = refusal_as_json(request)
    if refused is not None:
        return refused
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return JsonResponse(snapshot(options().status.recent), headers=headers)


def _asset(name: str, kind: str) -> HttpResponse:
    headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(_read(name), content_type=kind, headers=headers)


@functools.cache
def _read(name: str) -> bytes:
    return (_HERE / "assets" / name).read_bytes()


@functools.cache
def _digest() -> str:
    content = b"".join(map(_read, ("status.css", "status.js", "status.svg")))
    return hashlib.sha256(content).hexdigest()[:12]


@functools.cache
def _engine() -> Engine:
    # Its own: a project may have no Django templates, or a loader that knows no apps.
    return Engine(dirs=[str(_HERE / "templates")], libraries={"l10n": "django.templatetags.l10n"})


def _context(found: dict[str, Any], refresh: float, recent: int) -> dict[str, Any]:
    return {
        "version": __version__,
        "digest": _digest(),
        "worker": found["worker"],
        "client": found["client"],
        "refresh": refresh,
        # Without the script the whole page is loaded again.
        "reload": max(round(refresh), 5),
        "recent": recent,
        "now": _moment(found["time"]),
        "begun": bool(found["calls"]["total"] or found["calls"]["in_flight"]),
        "tiles": _tiles(found),
        "groups": [
            (
                heading,
                [(name, path, kind, cell(found, path, kind)) for name, path, kind in rows],
                heading in SIDES,
            )
            for heading, rows in GROUPS
        ],
        "rolling_out": bool(found["unpooled"]["total"]),
        "plots": [_plot(key, title, found[key]) for key, title in _PLOTS],
        "edges": list(_plots.EDGES_MS),
        "ticks": list(_plots.TICKS.values()),
        "ranked": [(key, title, nothing, _bars(found[key])) for key, title, nothing in _RANKED],
        "failure_columns": _FAILURE_COLUMNS,
        "failures": [_failure(one) for one in found["recent_failures"]],
        "initial": found,
    }


def _tiles(found: dict[str, Any]) -> list[dict[str, Any]]:
    def piece(path: str, kind: str = "count", after: str = "") -> dict[str, str]:
        return {"path": path, "kind": kind, "text": cell(found, path, kind), "after": after}

    return [
        {
            "title": "Calls",
            "main": piece("calls.total"),
            "below": [piece("calls.in_flight", after="in flight")],
        },
        {
            "title": "Succeeded",
            "main": piece("calls.success_rate", "share"),
            "below": [piece("calls.failed", after="failed")],
        },
        {
            "title": "95 % done within",
            "main": piece("duration_ms.p95", "time"),
            "below": [piece("duration_ms.p50", "time", "median")],
        },
        {
            "title": "Connections",
            "main": piece("pool.open"),
            "below": [
                piece("pool.active", after="in use"),
                piece("pool.waiting", after="waiting"),
            ],
        },
        {
            "title": "Retries",
            "main": piece("calls.retries"),
            "below": [piece("calls.retries_denied", after="denied")],
        },
        {
            "title": "Tokens out",
            "main": piece("tokens.output"),
            "below": [piece("tokens.input", after="in")],
        },
    ]


def _plot(key: str, title: str, times: dict[str, Any]) -> dict[str, Any]:
    counts = dict(times["counts"])
    return {
        "key": key,
        "title": title,
        "columns": _plots.columns(counts),
        "count": f"{sum(counts.values()):,}",
        "marks": [
            (name, label, _plots.place(times[name]), cell(times, name, "time"))
            for name, label in (("p50", "median"), ("p95", "95 %"), ("p99", "99 %"))
        ],
    }


def _bars(counts: dict[str, int]) -> list[tuple[str, str, float]]:
    most = max(counts.values(), default=1)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(name, f"{count:,}", round(100 * count / most, 2)) for name, count in ranked]


def _failure(one: dict[str, Any]) -> dict[str, Any]:
    taken = cell({"ms": one["elapsed"] * 1000}, "ms", "time")
    return {**one, "moment": _moment(one["when"]), "taken": taken}


def _moment(when: float) -> datetime:
    return django_timezone.localtime(datetime.fromtimestamp(when, timezone.utc))
