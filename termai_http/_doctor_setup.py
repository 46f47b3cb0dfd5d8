"""What is installed and set: versions, keys, proxies, the CAs that are trusted."""

from __future__ import annotations

import difflib
import functools
import itertools
import os
import platform
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from urllib.parse import urlsplit

from ._doctor_values import Check
from ._environment import Environment
from ._secrets import check_key
from ._target import KEY_VARIABLES
from ._tls import make_context
from ._version import __version__
from .config import HttpClientConfig, known_variables
from .errors import ConfigurationError

__all__ = ["bare_url", "proxy_of", "proxy_setting", "setting_checks", "version_checks"]

_LIBRARIES = ("requests", "urllib3", "attrs", "backoff")
_NO_EXTRAS = {"test", "lint", "docs"}
_QUOTES = "'\"`\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SECRET_PARTS = ("PROXIES", "CERT")

_version_check = functools.partial(Check, part="versions")
_setting_check = functools.partial(Check, part="settings")


def version_checks() -> Iterator[Check]:
    """Yield what is installed."""
    system = f"{platform.python_implementation()}, {platform.system()} {platform.machine()}"
    yield _version_check(name="python", state="ok", what=f"{platform.python_version()} ({system})")
    yield _version_check(name="termai_http", state="ok", what=__version__)
    wanted, extras = _requirements()
    for name in _LIBRARIES:
        yield _library(name, wanted.get(name))
    yield _version_check(name="OpenSSL", state="ok", what=ssl.OPENSSL_VERSION)
    yield _version_check(name="extras", state="ok", what=_installed(extras))


def _requirements() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the least versions of the libraries, and the packages of each extra.

    From the metadata of what is installed, so that nothing here can fall behind it.
    """
    wanted: dict[str, str] = {}
    extras: dict[str, list[str]] = {}
    try:
        requirements = metadata.requires("termai-http") or []
    except metadata.PackageNotFoundError:  # run from a copy that was not installed
        requirements = []
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"""extra == ["']([\w-]+)["']""", requirement)
        if extra is not None:
            extras.setdefault(extra[1], []).append(name)
        elif least := re.search(r">=\s*([\d.]+)", requirement):
            wanted[name] = least[1]
    return wanted, extras


def _library(name: str, least: str | None) -> Check:
    found = _version(name)
    if found is None:
        what, advice = "not found, though it is needed", f"pip install {name}"
        return _version_check(name=name, state="fail", what=what, advice=advice)
    if least is not None and _numbers(found) < _numbers(least):
        what = f"{found}, older than {least}, which is the least that is supported"
        advice = f'pip install --upgrade "{name}>={least}"'
        return _version_check(name=name, state="fail", what=what, advice=advice)
    return _version_check(name=name, state="ok", what=found)


def _installed(extras: Mapping[str, list[str]]) -> str:
    present, absent = [], []
    for extra in sorted(set(extras) - _NO_EXTRAS):
        versions = {name: _version(name) for name in extras[extra]}
        if all(versions.values()):
            named = ", ".join(f"{name} {version}" for name, version in versions.items())
            present.append(f"{extra} ({named})")
        else:
            absent.append(extra)
    none = f"not installed: {', '.join(absent)}" if absent else ""
    return "; ".join(filter(None, [", ".join(present), none])) or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def setting_checks(
    config: HttpClientConfig | ConfigurationError,
    environ: Mapping[str, str],
    keep_context: Callable[[ssl.SSLContext], None],
) -> Iterator[Check]:
    """Yield what is set: variables, keys, proxies, CAs. No character of a key is shown.

    Args:
        config: The configuration, or why there is none.
        environ: The variables of the process.
        keep_context: Is given the TLS context, where the CAs can be loaded.
    """
    yield _variables(config, environ)
    for name in itertools.chain.from_iterable(KEY_VARIABLES.values()):
        yield _key(name, environ)
    # A setting that is wrong shall not hide what else is.
    used = HttpClientConfig() if isinstance(config, ConfigurationError) else config
    found = Environment.read(used)
    yield _proxies(used, found, environ)
    yield _trusted(used, found, environ, keep_context)


def _variables(config: HttpClientConfig | ConfigurationError, environ: Mapping[str, str]) -> Check:
    check = functools.partial(_setting_check, name="TERMAI_HTTP_*")
    if isinstance(config, ConfigurationError):
        advice = "Correct the variable, or unset it; it names the field of HttpClientConfig."
        return check(state="fail", what=str(config), advice=advice)
    known, others = known_variables(), []
    shown = []
    for name in sorted(environ):
        if not name.startswith("TERMAI_HTTP_") or not environ[name].strip():
            continue
        if name not in known:
            # Its value may be anything, a key above all.
            others.append(name)
        elif any(part in name for part in _SECRET_PARTS):
            shown.append(name)
        else:
            shown.append(f"{name}={environ[name].strip()}")
    what = ", ".join(shown) or "none is set, all defaults hold"
    if others:
        what += f"; read by nothing: {', '.join(others)}"
        advice = f"Correct the name, or unset it: {_nearest(others, known)}."
        return check(state="warn", what=what, advice=advice)
    return check(state="ok", what=what)


def _nearest(names: list[str], known: frozenset[str]) -> str:
    close = {name: difflib.get_close_matches(name, known, n=1) for name in names}
    return ", ".join(f"{name} ({found[0]}?)" if found else name for name, found in close.items())


def _key(name: str, environ: Mapping[str, str]) -> Check:
    """Tell whether a key can be used, by nothing that gives away a character of it."""
    check = functools.partial(_setting_check, name=name)
    value = environ.get(name, "")
    if not value.strip():
        return check(state="skip", what="not set")
    try:
        key = check_key(value, name)
    except ConfigurationError as error:
        return check(state="fail", what=error.message, advice=f"Set {name} anew, to the key alone.")
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        advice = f"Set {name} anew without the quotes: they are a part of the value now."
        return check(state="warn", what="set, with quotes around it", advice=advice)
    return check(state="ok", what="set (not shown)")


def _proxies(config: HttpClientConfig, found: Environment, environ: Mapping[str, str]) -> Check:
    check = functools.partial(_setting_check, name="proxies")
    for scheme, proxy in found.proxies.items():
        if scheme in ("http", "https", "all") and proxy and not urlsplit(proxy).hostname:
            what = f"the one for {scheme} is no URL like http://user:password@host:port"
            setting = proxy_setting(config, scheme, environ)
            advice = f"Check {setting}; special characters of user and password stand as %XX."
            return check(state="fail", what=what, advice=advice)
    shown = [
        f"{scheme} by {proxy_of(proxy)} ({proxy_setting(config, scheme, environ)})"
        for scheme, proxy in sorted(found.proxies.items())
        if proxy
    ]
    if not shown:
        return check(state="ok", what="none")
    without = f"; none for {found.no_proxy}" if found.no_proxy else ""
    return check(state="ok", what=", ".join(shown) + without)


def proxy_setting(config: HttpClientConfig, scheme: str, environ: Mapping[str, str]) -> str:
    """Return the name of what sets the proxy of a scheme."""
    if config.proxies is not None:
        given = "TERMAI_HTTP_PROXIES"
        return given if environ.get(given) else "the configuration's proxies"
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if environ.get(name)), "the system's proxy settings")


def proxy_of(proxy: str) -> str:
    """Return a proxy as it may be shown: scheme, host and port."""
    parts = urlsplit(proxy)
    port = f":{parts.port}" if parts.port else ""
    login = " (with a login)" if parts.username is not None else ""
    return f"{parts.scheme}://{parts.hostname or '?'}{port}{login}"


def bare_url(url: str) -> str:
    """Return a URL as it may be shown: without login, query and fragment, where keys may stand."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a URL that cannot be read"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "no URL with http:// or https://"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _trusted(
    config: HttpClientConfig,
    found: Environment,
    environ: Mapping[str, str],
    keep_context: Callable[[ssl.SSLContext], None],
) -> Check:
    check = functools.partial(_setting_check, name="CA bundle")
    try:
        context = make_context(found.ca_bundle, config.client_cert)
    except ConfigurationError as error:
        advice = "Correct the path, or unset it to trust certifi's CAs."
        return check(state="fail", what=error.message, advice=advice)
    keep_context(context)
    if found.ca_bundle == "system":
        return check(state="ok", what="the operating system's own store, by truststore")
    if found.ca_bundle is None:
        what = f"certifi {_version('certifi') or ''}".rstrip()
    else:
        names = [name for name in _BUNDLES if environ.get(name) == found.ca_bundle]
        source = "ca_bundle" if config.ca_bundle else " or ".join(names[:1])
        what = f"{found.ca_bundle} (from {source})"
    if not os.path.isdir(found.ca_bundle or ""):
        what += f", {context.cert_store_stats()['x509_ca']} CAs"
    ignored = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)]
    if ignored and found.ca_bundle is None:
        advice = f"requests does not read {ignored[0]}: set REQUESTS_CA_BUNDLE to its value."
        return check(state="warn", what=f"{what}; {ignored[0]} is not used", advice=advice)
    return check(state="ok", what=what)
