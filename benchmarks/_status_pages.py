"""What a worker does of Django's status page: one site with a busy client, asked as staff."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["StatusPages"]

_CALLS = 100_000
_SETTINGS = {
    "SECRET_KEY": "benchmark",
    "ALLOWED_HOSTS": ["testserver"],
    "ROOT_URLCONF": "termai_http.contrib.django.urls",
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    "INSTALLED_APPS": [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "termai_http.contrib.django",
    ],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
}


class StatusPages:
    """Carries out what is asked of the status page."""

    def __init__(self) -> None:
        import django
        from django.conf import settings
        from django.core.management import call_command

        settings.configure(**_SETTINGS)
        django.setup()
        call_command("migrate", verbosity=0)
        from django.contrib.auth.models import User
        from django.test import Client

        self._site = Client()
        self._site.force_login(User.objects.create(username="staff", is_staff=True))
        _fill()

    def pages(self, path: str, count: int) -> dict[str, Any]:
        """Ask for a page so many times, and tell how long each took, and its size."""
        size, walls = len(self._page(path)), []
        for _ in range(count):
            begun = time.perf_counter()
            self._page(path)
            walls.append(time.perf_counter() - begun)
        return {"walls": walls, "size": size}

    def _page(self, path: str) -> bytes:
        answer = self._site.get(path)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} was answered by {answer.status_code}")
        return bytes(answer.content)


def _fill() -> None:
    """Record as many calls as fill every table and plot."""
    from termai_http import client
    from termai_http.metrics import CallRecord, RecordedFailure

    metrics = client().metrics
    for number in range(_CALLS):
        failed = number % 100 == 0
        details = None
        if failed:
            details = RecordedFailure(
                when=time.time(),
                error="RateLimitError",
                status_code=429,
                request_id=f"req_{number}",
                model="gpt-5.5",
                provider="openai",
                attempts=3,
                elapsed=1.2,
            )
        record = CallRecord(
            duration=0.001 * 1.02 ** (number % 500),
            success=not failed,
            failure="RateLimitError" if failed else None,
            time_to_first_token=0.001 * 1.02 ** (number % 300),
            causes=("429",) if number % 7 == 0 else (),
            details=details,
        )
        metrics.record(record)
