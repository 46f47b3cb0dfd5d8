"""``manage.py termai_http_doctor``: whether the vendors can be reached from here, as configured."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from django.core.checks import WARNING, run_checks
from django.core.management import BaseCommand, CommandError, CommandParser

from ....._doctor import Check, all_is_well, as_fields, examine, milliseconds
from .....errors import ConfigurationError
from ...conf import configuration

__all__ = ["Command"]


class Command(BaseCommand):
    """Examines settings, keys and the way to the vendors; costs nothing and shows no key."""

    help = (
        "Examine what calls need: settings, versions, keys (never shown), names, connections,"
        " TLS, proxies. It costs nothing. Exit code 1 where a call could not work."
    )
    # They are what it tells first, and no reason to tell nothing else.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--provider", choices=("openai", "claude"), help="default: both")
        parser.add_argument("--base-url", help="where the API lives, instead of the environment's")
        parser.add_argument(
            "--timeout", type=float, default=10.0, help="seconds for each vendor (default: 10)"
        )
        parser.add_argument("--json", action="store_true", help="a JSON list, for programs")

    def handle(self, *args: Any, **given: Any) -> None:
        """Examine, and print each finding as it is made."""
        found: list[Check] = []
        try:
            for part, checks in itertools.groupby(_all(given), key=lambda check: check.part):
                if not given["json"]:
                    self.stdout.write(self.style.MIGRATE_HEADING(part))
                for check in checks:
                    found.append(check)
                    if not given["json"]:
                        self._show(check)
        except ConfigurationError as error:
            raise CommandError(error.message) from None
        if given["json"]:
            self.stdout.write(json.dumps([as_fields(check) for check in found], indent=2))
        if not all_is_well(found):
            failed = sum(check.state == "fail" for check in found)
            raise CommandError(f"{failed} of {len(found)} checks failed.")

    def _show(self, check: Check) -> None:
        styles = {"ok": self.style.SUCCESS, "warn": self.style.WARNING, "fail": self.style.ERROR}
        state = styles.get(check.state, str)(f"{check.state:<4}")
        took = "" if check.seconds is None else f" ({milliseconds(check.seconds)})"
        self.stdout.write(f"  {state}  {check.name}: {check.what}{took}")
        if check.advice:
            self.stdout.write(f"        {check.advice}")
        self.stdout.flush()


def _all(given: dict[str, Any]) -> Iterator[Check]:
    yield from _of_django()
    try:
        config = configuration()
    except ConfigurationError:
        config = None  # told above; the rest is examined with what the environment says
    yield from examine(
        provider=given["provider"],
        base_url=given["base_url"],
        timeout=given["timeout"],
        config=config,
    )


def _of_django() -> Iterator[Check]:
    messages = run_checks(tags=["termai_http"], include_deployment_checks=True)
    for message in messages:
        yield Check(
            part="django",
            name=str(message.id).removeprefix("termai_http."),
            state="fail" if message.level > WARNING else "warn",
            what=str(message.msg),
            advice=message.hint or "",
        )
    if not messages:
        yield Check(part="django", name="settings", state="ok", what="TERMAI_HTTP can be used")
