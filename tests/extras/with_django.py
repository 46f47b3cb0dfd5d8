"""The extra ``django``: a site with the app and its settings, whose views call and stream."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from termai_http import chat, client, stream
from termai_http.contrib.django import sse_response
from termai_http.testing import Server


def whole(request: HttpRequest) -> HttpResponse:
    """Answer with a reply."""
    return HttpResponse(chat("hi", model="gpt-5.5").text)


def streamed(request: HttpRequest) -> Any:
    """Answer with a stream."""
    return sse_response(stream("hi", model="gpt-5.5"))


urlpatterns = [path("whole", whole), path("streamed", streamed)]
settings.configure(
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["termai_http.contrib.django"],
    MIDDLEWARE=["termai_http.contrib.django.middleware.RequestTimeoutMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this script only",
    TERMAI_HTTP={"REQUEST_TIMEOUT": 25, "RETRY": {"MAX_ATTEMPTS": 2}},
    USE_TZ=True,
)
django.setup()
with Server() as server:
    os.environ.update(OPENAI_API_KEY="k", OPENAI_BASE_URL=server.openai_url)
    call_command("check")
    assert Client().get("/whole").content == b"You said: hi"
    answer = Client().get("/streamed")
    body = b"".join(answer.streaming_content)
    assert answer["Content-Type"].startswith("text/event-stream"), answer["Content-Type"]
    assert b"data:" in body, body
    assert b"hi" in body, body
    retry = client().config.retry
    assert retry is not None
    assert retry.max_attempts == 2
    assert len(server.requests) == 2
