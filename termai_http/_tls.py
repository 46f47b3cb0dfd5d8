"""One TLS context for all connections of a client."""

from __future__ import annotations

import os
import ssl

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from .errors import ConfigurationError

__all__ = ["make_context"]


def make_context(
    ca_bundle: str | None, client_cert: str | tuple[str, str] | None
) -> ssl.SSLContext:
    """Build the context: TLS 1.2 at least, certificate and host name always verified.

    Loading the CAs costs some 20 ms and half a megabyte, which requests pays for every
    connection; one context is shared by all of a client's.

    Args:
        ca_bundle: PEM file or directory of CAs; None means certifi's.
        client_cert: PEM file, or a pair (certificate, key); None sends none.

    Raises:
        ConfigurationError: A file is missing or cannot be read.
    """
    context = create_urllib3_context(ssl_minimum_version=ssl.TLSVersion.TLSv1_2)
    # urllib3 honours SSLKEYLOGFILE, which would let any reader of that file decrypt the calls.
    context.keylog_filename = None  # type: ignore[assignment]
    bundle = ca_bundle or DEFAULT_CA_BUNDLE_PATH
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
    if client_cert is not None:
        _load_client_cert(context, client_cert)
    return context


def _load_client_cert(context: ssl.SSLContext, client_cert: str | tuple[str, str]) -> None:
    files = (client_cert,) if isinstance(client_cert, str) else client_cert
    try:
        context.load_cert_chain(*files)
    except OSError as error:
        raise ConfigurationError(
            f"client_cert {client_cert!r} cannot be loaded: "
            f"{error.strerror or 'no matching certificate and key in it'}."
        ) from None
