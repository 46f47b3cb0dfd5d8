"""One TLS context for all connections of a client."""

from __future__ import annotations

import os
import ssl
import sys
from typing import Any

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from ._call import active
from ._socket import bind_time
from .errors import ConfigurationError

__all__ = ["make_context"]

_SYSTEM = "system"


class _BoundHandshake:
    """Lets a TLS socket's handshake keep its attempt's time, and an interrupt break it."""

    def do_handshake(self: Any, block: bool = False) -> None:
        attempt = active.attempt
        if attempt is not None:
            attempt.call.hold(self)
            self.settimeout(attempt.budget())
        super().do_handshake(block)  # type: ignore[misc]

    def recv(self: Any, buflen: int = 1024, flags: int = 0) -> Any:
        # TLS within TLS reads so, as often as the inner layer needs.
        attempt = active.attempt
        if attempt is not None:
            bind_time(self, attempt.read_budget())
        return super().recv(buflen, flags)  # type: ignore[misc]


class _BoundSocket(_BoundHandshake, ssl.SSLSocket):
    pass


def make_context(
    ca_bundle: str | None, client_cert: str | tuple[str, str] | None
) -> ssl.SSLContext:
    """Build the context: TLS 1.2 at least, certificate and host name always verified.

    Loading the CAs costs some 20 ms and half a megabyte, which requests pays for every
    connection; one context is shared by all of a client's.

    Args:
        ca_bundle: PEM file or directory of CAs; ``"system"`` means the operating system's own
            store, by the extra ``truststore``; None means certifi's.
        client_cert: PEM file, or a pair (certificate, key); None sends none.

    Raises:
        ConfigurationError: A file is missing or cannot be read.
    """
    if ca_bundle == _SYSTEM:
        context = _system_context(client_cert)
    else:
        context = _own_context()
        context.sslsocket_class = _BoundSocket
        _load_bundle(context, ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    if client_cert is not None:
        _load_client_cert(context, client_cert)
    return context


def _own_context() -> ssl.SSLContext:
    """Build what urllib3 would, but for SSLKEYLOGFILE: its readers could decrypt the calls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificate and host name are verified
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.hostname_checks_common_name = False
    context.post_handshake_auth = True
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    return context


def _system_context(client_cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    try:
        import truststore
    except ImportError:
        raise ConfigurationError(
            'ca_bundle="system" needs the extra: pip install "termai-http[truststore]".'
        ) from None

    class SystemContext(truststore.SSLContext):
        def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
            # truststore holds a context's lock through a handshake, which no deadline could end
            # for those who wait for it: so each connection has a context of its own.
            own = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            own.minimum_version = ssl.TLSVersion.TLSv1_2
            if client_cert is not None:
                _load_client_cert(own, client_cert)
            stock = own._ctx.sslsocket_class
            own._ctx.sslsocket_class = type("BoundSocket", (_BoundHandshake, stock), {})
            return own.wrap_socket(*args, **kwargs)

    context = SystemContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load_bundle(context: ssl.SSLContext, bundle: str) -> None:
    try:
        if os.path.isdir(bundle):
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError as error:
        raise ConfigurationError(
            f"The CA bundle {bundle!r} cannot be loaded: {error.strerror or 'no PEM in it'}. "
            "Check ca_bundle, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE."
        ) from None


def _load_client_cert(context: ssl.SSLContext, client_cert: str | tuple[str, str]) -> None:
    certificate, key = (client_cert, None) if isinstance(client_cert, str) else client_cert
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key, and wait.
        context.load_cert_chain(certificate, key, password=b"")
    except OSError as error:
        raise ConfigurationError(
            f"client_cert {client_cert!r} cannot be loaded: "
            f"{error.strerror or 'no matching certificate and key in it'}."
        ) from None
