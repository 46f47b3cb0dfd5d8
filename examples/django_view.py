"""A Django view that asks a model, in one file.

What it does: POST /chat with {"prompt": "..."} answers {"text": "..."}; a vendor's failure
becomes a 503 or 504 that says when to come back. Every request of a worker shares one pool.
Needs: Django; OPENAI_API_KEY, or ``termai-http serve`` and the variables that it prints.
Run: python examples/django_view.py runserver
Try: curl -d '{"prompt": "hello"}' http://127.0.0.1:8000/chat
"""

from __future__ import annotations

import json
import os
import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from termai_http import APITimeoutError, InvalidRequestError, TermaiHttpError, chat

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost", "testserver"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "for-this-example-only"),
        USE_TZ=True,
    )
    django.setup()


@csrf_exempt
@require_POST
def ask(request: HttpRequest) -> JsonResponse:
    """Answer one prompt; the deadline is shorter than a web server's own."""
    try:
        prompt = json.loads(request.body)["prompt"]
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"error": 'send {"prompt": "..."}'}, status=400)
    try:
        reply = chat(prompt, model="gpt-5.5", timeout=25)
    except InvalidRequestError as error:
        return JsonResponse({"error": error.message}, status=400)
    except APITimeoutError:
        return JsonResponse({"error": "the model took too long"}, status=504)
    except TermaiHttpError as error:
        answer = JsonResponse({"error": "the model is not available"}, status=503)
        if error.retry_after is not None:
            answer["Retry-After"] = str(int(error.retry_after) + 1)
        return answer
    return JsonResponse({"text": reply.text, "request_id": reply.request_id})


urlpatterns = [path("chat", ask)]


if __name__ == "__main__":
    execute_from_command_line(sys.argv)
