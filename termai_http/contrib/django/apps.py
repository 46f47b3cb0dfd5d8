"""The app: follows the settings, registers the checks, opens nothing."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed

from ... import _shared
from . import conf

__all__ = ["TermaiHttpConfig"]


def follow(*, setting: str, **kwargs: Any) -> None:
    """Forget the client of the settings that held before; the next use makes one of the new."""
    if setting == conf.NAME:
        _shared.close()


class TermaiHttpConfig(AppConfig):
    """``"termai_http.contrib.django"`` in ``INSTALLED_APPS``."""

    name = "termai_http.contrib.django"
    label = "termai_http"
    verbose_name = "termai_http"

    def ready(self) -> None:
        """Let the process-wide client start from the settings, once it is used."""
        from .checks import (
            check_access,
            check_deployment,
            check_environment,
            check_middleware,
            check_settings,
        )

        _shared.start_from(conf.configuration)
        setting_changed.connect(follow, dispatch_uid="termai_http")
        for check in (check_settings, check_environment, check_access, check_middleware):
            checks.register(check, "termai_http")
        checks.register(check_deployment, "termai_http", deploy=True)
