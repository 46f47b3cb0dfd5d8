"""Lets the project's own command read the figures of a running site, where nobody is logged in.

Whoever can sign has the project's ``SECRET_KEY``, and could make a session of staff, too.
"""

from __future__ import annotations

from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest

__all__ = ["HEADER", "has_token", "make_token"]

HEADER = "X-Termai-Http-Token"

_SECONDS = 60
_SALT = "termai_http.contrib.django.figures"
_VALUE = "figures"


def make_token() -> str:
    """Return a value of the header ``HEADER`` that is good for a minute."""
    return TimestampSigner(salt=_SALT).sign(_VALUE)


def has_token(request: HttpRequest) -> bool:
    """Tell whether a request comes from a command of this project."""
    try:
        signed = TimestampSigner(salt=_SALT).unsign(
            request.headers.get(HEADER, ""), max_age=_SECONDS
        )
    except BadSignature:
        return False
    return signed == _VALUE
