"""``manage.py termai_http_stats``: the figures of a running site's workers, or of this process."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.core.management import BaseCommand, CommandError, CommandParser

from ...access import HEADER, make_token
from ...conf import options
from ...status import GROUPS, SIDES, cell, snapshot

__all__ = ["Command"]

Figures = dict[str, Any]
Groups = Sequence[tuple[str, tuple[tuple[str, str, str], ...]]]

_SECONDS = 10.0
_MOST_BYTES = 4 * 1024 * 1024


class Command(BaseCommand):
    """Shows connections, calls, retries, times and tokens, a column for each process."""

    help = (
        "Show the figures of the workers of a running site (--url), or of this process: useful"
        " inside a program that runs this command after its calls."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--url",
            help="where the site's status page is, for example http://127.0.0.1:8000/termai-http/;"
            " needs the site's settings (SECRET_KEY) and no login",
        )
        parser.add_argument(
            "--host", help="Host header to send, where the address is none of ALLOWED_HOSTS"
        )
        parser.add_argument(
            "--looks",
            type=int,
            default=16,
            help="requests to make: each is answered by whatever worker is free (default: 16)",
        )
        parser.add_argument("--json", action="store_true", help="a JSON list, for programs")

    def handle(self, *args: Any, **given: Any) -> None:
        """Collect and print."""
        if given["looks"] < 1:
            raise CommandError("--looks must be at least 1.")
        if given["url"] is None:
            found = [snapshot(options().status.recent)]
        else:
            found = list(_look_at(given["url"], given["host"], given["looks"]))
        if given["json"]:
            self.stdout.write(json.dumps(found, indent=2))
            return
        self.stdout.write("\n".join(_table(found)))


def _look_at(url: str, host: str | None, looks: int) -> Iterator[Figures]:
    """Yield the last figures of each process that answered."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"--url must be the http or https URL of the status page, not {url!r}.")
    path = parts.path.removesuffix("status.json").rstrip("/") + "/status.json"
    headers = {"Connection": "close", HEADER: make_token()}
    if host is not None:
        headers["Host"] = host
    seen: dict[tuple[str, int], Figures] = {}

    def connect() -> http.client.HTTPConnection:
        secure = parts.scheme == "https"
        made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return made(str(parts.hostname), parts.port, timeout=_SECONDS)

    for _ in range(looks):
        figures = _get(connect, path, headers, url)
        seen[figures["worker"]["host"], figures["worker"]["pid"]] = figures
    yield from (seen[process] for process in sorted(seen))


def _get(
    connect: Callable[[], http.client.HTTPConnection],
    path: str,
    headers: dict[str, str],
    url: str,
) -> Figures:
    connection = connect()
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"{url} cannot be reached: {error}") from None
    finally:
        connection.close()
    if answer.status == 403:
        raise CommandError(f"{url} refuses: does it run with the SECRET_KEY of these settings?")
    if answer.status == 400:
        raise CommandError(f"{url} answers 400: is --host=NAME of its ALLOWED_HOSTS missing?")
    if answer.status != 200:
        raise CommandError(f"{url} answers {answer.status} {answer.reason}, and no figures.")
    try:
        figures: Figures = json.loads(body)
        _column(figures)
    except (ValueError, LookupError, TypeError):
        raise CommandError(f"{url} is no status page of termai_http.") from None
    return figures


def _column(figures: Figures, groups: Groups = GROUPS) -> list[str]:
    worker = figures["worker"]
    cells = [f"{worker['host']}:{worker['pid']}"]
    for _, rows in groups:
        cells += ["", *(cell(figures, path, kind) for _, path, kind in rows)]
    return cells


def _table(found: list[Figures]) -> Iterator[str]:
    names = ["Process"]
    rolling_out = any(figures["unpooled"]["total"] for figures in found)
    groups = [group for group in GROUPS if rolling_out or group[0] not in SIDES]
    for heading, rows in groups:
        names += [heading, *(f"  {name}" for name, _, _ in rows)]
    columns = [_column(figures, groups) for figures in found]
    causes = (("Retries by cause", "retries_by_cause"), ("Failures by class", "failures_by_class"))
    for heading, key in causes:
        kinds = sorted({kind for figures in found for kind in figures[key]})
        names += [heading, *(f"  {kind}" for kind in kinds)] if kinds else []
        for column, figures in zip(columns, found, strict=True):
            counts = [f"{figures[key].get(kind, 0):,}" for kind in kinds]
            column += ["", *counts] if kinds else []
    first = max(map(len, names))
    widths = [max(map(len, column)) for column in columns]
    for number, name in enumerate(names):
        values = (f"{c[number]:>{width}}" for c, width in zip(columns, widths, strict=True))
        yield "  ".join([f"{name:<{first}}", *values]).rstrip()
