"""Two views: a reply in one piece, and one that streams to the browser."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

import termai_http
from termai_http import APITimeoutError, InvalidRequestError, TermaiHttpError
from termai_http.contrib.django import request_timeout, sse_response

# A visitor may choose among these, not whatever costs the most.
MODELS = ("gpt-5.5", "claude-opus-5-5")


def answers_prompts(
    view: Callable[[str, str], HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """Read prompt and model from the JSON body, and turn a failure into an honest answer."""

    # A view that a browser's session may reach keeps its CSRF check; this one holds no session.
    @csrf_exempt
    @require_POST
    @functools.wraps(view)
    def answer(request: HttpRequest) -> HttpResponseBase:
        try:
            asked = json.loads(request.body)
            prompt, model = asked["prompt"], asked.get("model", MODELS[0])
        except (ValueError, KeyError, TypeError, AttributeError):
            return JsonResponse({"error": 'send {"prompt": "..."}'}, status=400)
        if model not in MODELS:
            return JsonResponse({"error": f"choose one of {', '.join(MODELS)}"}, status=400)
        try:
            return view(prompt, model)
        except InvalidRequestError as error:
            return JsonResponse({"error": error.message}, status=400)
        except APITimeoutError:
            return JsonResponse({"error": "the model took too long"}, status=504)
        except TermaiHttpError as error:
            response = JsonResponse({"error": "the model is not available"}, status=503)
            if error.retry_after is not None:
                response["Retry-After"] = str(int(error.retry_after) + 1)
            return response

    return answer


@answers_prompts
def chat(prompt: str, model: str) -> JsonResponse:
    """Answer in one piece, within REQUEST_TIMEOUT."""
    reply = termai_http.chat(prompt, model=model)
    return JsonResponse({"text": reply.text, "request_id": reply.request_id, "worker": os.getpid()})


@request_timeout(120)
@answers_prompts
def stream(prompt: str, model: str) -> HttpResponseBase:
    """Answer while the model writes; a browser that leaves ends the model's work, too."""
    return sse_response(
        termai_http.stream(prompt, model=model), headers={"X-Worker": str(os.getpid())}
    )
