"""Who may see the status page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve, reverse
from django.utils.module_loading import import_string

from .access import has_token
from .conf import options

__all__ = ["refusal", "refusal_as_json"]


def refusal(request: HttpRequest) -> HttpResponse | None:
    """Return the way to the login for somebody who is not logged in; None lets the request in.

    Raises:
        PermissionDenied: Whoever asks may not, or there is no login.
    """
    if _may_see(request):
        return None
    user = getattr(request, "user", None)
    if user is not None and not user.is_authenticated:
        url = _login_url()
        if url is not None:
            joint = "&" if "?" in url else "?"
            return HttpResponseRedirect(url + joint + urlencode({"next": request.get_full_path()}))
    raise PermissionDenied


def refusal_as_json(request: HttpRequest) -> HttpResponse | None:
    """Return a 403 for a program; None lets the request in. Commands of this project may come."""
    if has_token(request) or _may_see(request):
        return None
    answer = JsonResponse({"error": "This is for staff only."}, status=403)
    answer["Cache-Control"] = "no-store"
    return answer


def _may_see(request: HttpRequest) -> bool:
    chosen = options().status.access
    if chosen is not None:
        access: Callable[[Any], Any] = import_string(chosen) if isinstance(chosen, str) else chosen
        return bool(access(request))
    user = getattr(request, "user", None)
    return user is not None and user.is_active and user.is_staff


def _login_url() -> str | None:
    """Return where one logs in: at the admin, or as the project says; None where there is none."""
    try:
        return str(reverse("admin:login"))
    except NoReverseMatch:
        pass
    try:
        url = str(resolve_url(settings.LOGIN_URL))
        parts = urlsplit(url)
        if not parts.netloc:
            # The default names a page that few projects have.
            resolve("/" + parts.path.removeprefix(get_script_prefix()))
    except (NoReverseMatch, Resolver404):
        return None
    return url
