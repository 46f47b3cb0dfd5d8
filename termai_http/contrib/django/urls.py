"""The status page, its figures for programs and Prometheus, and health, for ``include()``.

``path("termai-http/", include("termai_http.contrib.django.urls"))``
"""

from __future__ import annotations

from django.urls import path

from . import views

__all__ = ["app_name", "urlpatterns"]

app_name = "termai_http"

urlpatterns = [
    path("", views.status, name="status"),
    path("status.json", views.figures, name="figures"),
    path("metrics", views.metrics, name="metrics"),
    path("health/", views.health, name="health"),
    # Linked by the page with addresses relative to its own.
    path("status.css", views.stylesheet, name="stylesheet"),
    path("status.svg", views.icon, name="icon"),
    path("status.js", views.script, name="script"),
]
