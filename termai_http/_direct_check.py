"""A look, once a process, whether the direct way works with the libraries that are here.

It leans on names of ``http.client`` and urllib3 that are not public. Where they changed, attempts
go the ordinary way, which needs none of them for its speed.
"""

from __future__ import annotations

import functools
import platform
import socket
from typing import Any

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.connectionpool import HTTPConnectionPool

from ._answer import Answer
from ._answer_head import read_head
from ._budget import RetryBudget
from ._call import AttemptLimits, Call, Clock
from ._direct import begin_answer, encode_head
from ._log import log
from ._route import Outgoing, Route

__all__ = ["direct_works"]

_SECONDS = 5.0
_PIECE = 4096
_CHUNKS = b"4\r\nfour\r\n5\r\n and \r\n0\r\n\r\n"
_BEGIN = b"HTTP/1.1 200 OK\r\nX-Trace: one\r\nx-trace: two\r\n"
_CHUNKED = _BEGIN + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS
_FOLDED = _BEGIN + b"X-Long: a\r\n b\r\nContent-Length: 9\r\n\r\nfour and "


@functools.cache
def direct_works() -> bool:
    """Tell whether it does; where it does not, that is logged once."""
    try:
        fault = _fault()
    except Exception as error:  # whatever a change of the libraries makes of it
        fault = f"{type(error).__name__}: {error}"
    if fault:
        from importlib.metadata import version

        log.warning(
            "Calls go through requests, at a part of the speed: %s (requests %s, urllib3 %s, "
            "Python %s)",
            *(fault, version("requests"), version("urllib3"), platform.python_version()),
        )
    return not fault


def _fault() -> str:
    """Play a request and answers without a network; "" where all is as it should be."""
    if _request(direct=True) != _request(direct=False):
        return "a request's head comes out otherwise"
    for answer in (_CHUNKED, _FOLDED):
        if _read(answer) != ("one, two", b"four and "):
            return "an answer is read otherwise"
    return ""


def _request(*, direct: bool) -> bytes:
    headers = {"accept": "text/plain", "Authorization": "Bearer k"}
    prepared = requests.PreparedRequest()
    prepared.method, prepared.url = "POST", "http://check.invalid/a?b=c"
    prepared.headers = CaseInsensitiveDict({"User-Agent": "u", "Accept": "*/*", **headers})
    prepared.headers["Content-Length"] = "4"
    pool = HTTPConnectionPool("check.invalid", 8080)
    if direct:
        outgoing = Outgoing("POST", "", headers, b"body", None)
        own = CaseInsensitiveDict({"User-Agent": "u", "Accept": "*/*"})
        outgoing.route = Route("", None, prepared.path_url, own, RetryBudget(Clock()), None)
        return encode_head(pool, outgoing).filled(headers, b"body")
    said: list[bytes] = []
    conn: Any = pool.ConnectionCls(host=pool.host, port=pool.port)
    conn.send = said.append
    conn.request("POST", prepared.path_url, body=b"body", headers=prepared.headers)
    return b"".join(said)


def _read(answer: bytes) -> tuple[str, bytes]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        limits = AttemptLimits(connect_timeout=_SECONDS, read_timeout=None)
        call = Call(_SECONDS, Clock())
        attempt = call.begin_attempt(fresh=False, pooled=True, limits=limits)
        theirs.sendall(answer[-_PIECE:])
        came = ours.recv(answer.index(b"\r\n\r\n") + 6)
        status, headers, reader = begin_answer(ours, "POST", attempt, read_head(came), came)
        assert isinstance(reader, Answer)
        body = b"".join(reader.rest(_PIECE))
        return (headers["x-trace"] if status == 200 else ""), body
