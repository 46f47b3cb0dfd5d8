"""The pages of the example site."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

from . import views

urlpatterns = [
    path("", TemplateView.as_view(template_name="chat.html")),
    path("chat", views.chat),
    path("stream", views.stream),
    path("admin/", admin.site.urls),
    path("termai-http/", include("termai_http.contrib.django.urls")),
]
