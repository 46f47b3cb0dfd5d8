"""What to do about each failure, one line each."""

from __future__ import annotations

import errno
import re
import socket
import ssl

from . import errors
from ._doctor_certificate import Certificate
from ._target import KEY_VARIABLES

__all__ = ["call_advice", "dns_advice", "tcp_advice", "tls_advice", "tls_reason", "tunnel_advice"]

# OpenSSL's X509_V_ERR_*.
_NOT_YET, _EXPIRED, _NAME = 9, 10, (62, 64)
_UNKNOWN_ISSUER = (18, 19, 20, 21)
# What OpenSSL calls an answer that is no TLS, and what we do.
_NO_TLS = re.compile("wrong version number|http request|record layer|packet length|plain HTTP")
_STATUS_PAGES = {"openai": "status.openai.com", "claude": "status.claude.com"}


def dns_advice(error: OSError, setting: str) -> str:
    """Advise on a name that was not resolved.

    Args:
        error: Why.
        setting: What names the proxy, where it is the proxy's name; else empty.
    """
    if setting:
        return f"Check the proxy's host in {setting}, and this machine's DNS."
    if isinstance(error, socket.gaierror):
        return (
            "Check the host in the base URL and this machine's DNS; where only a proxy leads out, "
            "set HTTPS_PROXY."
        )
    return "This machine's name server does not answer: check the network, VPN and DNS settings."


def tcp_advice(error: OSError, where: str, setting: str) -> str:
    """Advise on a connection that was not opened.

    Args:
        error: Why.
        where: Host and port.
        setting: What names the proxy, where it was to the proxy; else empty.
    """
    if isinstance(error, ConnectionRefusedError):
        source = setting or "the base URL"
        return f"Nothing listens on {where}: check host and port in {source}, and that it runs."
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "This machine has no route there: check the network and the VPN."
    if setting:
        return f"The proxy does not answer: check {setting}, and that {where} may be reached."
    return "A firewall seems to swallow it: allow it there, or set HTTPS_PROXY to a way out."


def tunnel_advice(error: OSError, status: int | None, where: str, setting: str) -> str:
    """Advise on a proxy that opened no tunnel.

    Args:
        error: Why.
        status: What the proxy answered; 0 where that was no HTTP, None where it did not answer.
        where: Host and port that the tunnel was to lead to.
        setting: What names the proxy.
    """
    if status == 407:
        return (
            f"The proxy wants a login, or another one: {setting} has to name it as "
            "http://user:password@host:port, special characters as %XX."
        )
    if status in (401, 403, 405):
        return f"The proxy forbids it: have its owner allow {where}, or add the host to NO_PROXY."
    if status is not None and status >= 500:
        return f"The proxy cannot reach {where} itself: tell its owner, or use another."
    if isinstance(error, TimeoutError):
        return f"The proxy is silent: check {setting}, and whether the proxy can reach {where}."
    return f"What {setting} names seems to be no HTTP proxy: check its scheme, host and port."


def tls_reason(error: Exception) -> str:
    """Say why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "the certificate was refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason.replace("_", " ").lower()
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def tls_advice(
    error: Exception, where: str, seen: Certificate | None, setting: str, *, system: bool
) -> str:
    """Advise on a handshake that failed.

    Args:
        error: Why.
        where: Host and port whom it was with.
        seen: The certificate that was refused; None where it is not known.
        setting: What names the proxy, where it was with the proxy; else empty.
        system: Whether the operating system's store was asked.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        host = where.rpartition(":")[0]
        return _certificate_advice(error.verify_code, host, seen, system)
    if isinstance(error, TimeoutError):
        return f"{where} takes connections and says nothing: check the port, or try again later."
    if _NO_TLS.search(tls_reason(error)):
        if setting:
            return (
                f"The proxy speaks no TLS: write http://{where} in {setting}; what goes through "
                "it is encrypted all the same."
            )
        return f"{where} speaks no TLS: check the port, or use http:// if it is on this machine."
    if "alert" in tls_reason(error):
        return f"{where} refused us: it may want a client certificate (TERMAI_HTTP_CLIENT_CERT)."
    return f"{where}, or something on the way there, broke it off: check firewall, proxy and port."


def _certificate_advice(code: int, host: str, seen: Certificate | None, system: bool) -> str:
    if code in (_EXPIRED, _NOT_YET):
        return (
            "Check this machine's clock (date); if it is right, whoever runs the server has to "
            "renew the certificate."
        )
    if code in _NAME:
        return f"The certificate is another host's: check that {host} is what was meant."
    if code in _UNKNOWN_ISSUER:
        who = seen.issuer if seen is not None else "whoever issued it"
        if system:
            return f"If you trust {who}: have its CA put into the operating system's store."
        return (
            f"If you trust {who}: put its CA into a PEM file and that file's path into "
            "REQUESTS_CA_BUNDLE; or, where the system trusts it, "
            'pip install "termai-http[truststore]" and set TERMAI_HTTP_CA_BUNDLE=system.'
        )
    return "Have whoever runs the server look at its certificate; it breaks a rule that is checked."


def call_advice(
    error: errors.TermaiHttpError, *, provider: str, url: str, base_url: str, proxy_setting: str
) -> str:
    """Advise on a call that failed.

    Args:
        error: What came of it.
        provider: ``"openai"`` or ``"claude"``.
        url: What was asked for.
        base_url: What names the base URL.
        proxy_setting: What names the proxy; empty where there is none.
    """
    key = KEY_VARIABLES[provider][0]
    if isinstance(error, errors.AuthenticationError):
        return f"{key} is wrong, revoked, or belongs to another server: make a new key."
    if isinstance(error, errors.PermissionDeniedError):
        return "The key may not do this, or not from here: check its permissions and your country."
    if isinstance(error, errors.UnexpectedRedirect):
        return f"What answers leads elsewhere: check {base_url}, and for a login page on the way."
    if error.status_code == 407:
        return "A proxy wants a login: its URL has to name it, as http://user:password@host:port."
    if isinstance(error, errors.NotFoundError):
        return f"Check the path of {base_url}: {url} is not there. Is /v1 missing, or twice in it?"
    if isinstance(error, errors.InternalServerError):
        return f"The server fails: try again later, and see {_STATUS_PAGES[provider]} if its own."
    if isinstance(error, errors.InvalidResponseError):
        return f"What answers is no such API: check {base_url}, and for a login page on the way."
    if proxy_setting and isinstance(error, (errors.ProxyError, errors.APITimeoutError)):
        return f"The proxy, or what is behind it, does not answer: check {proxy_setting}."
    if isinstance(error, errors.APITimeoutError):
        return f"The server is silent: try --timeout, and check what {base_url} names."
    return error.hint or "Try again; if it stays, quote the line above to whoever runs the server."
