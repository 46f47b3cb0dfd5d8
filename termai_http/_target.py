"""Where a call goes: vendor, dialect, URL and key, from options and environment."""

from __future__ import annotations

# At the first name that needs it a fork could fall into its import.
import encodings.idna  # noqa: F401
import functools
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import attrs

from ._importing import importing
from ._options import CallOptions
from ._secrets import Secret, check_key
from ._values import Value
from .dialects._base import Dialect
from .errors import ConfigurationError, InvalidRequestError, MissingKeyError

if TYPE_CHECKING:
    from .dialects.claude_messages import ClaudeMessages
    from .dialects.openai_chat import OpenAIChat
    from .dialects.openai_responses import OpenAIResponses

__all__ = [
    "BASE_URL_VARIABLES",
    "KEY_VARIABLES",
    "Account",
    "Place",
    "check_url",
    "is_loopback",
    "is_openai",
    "provider_of",
    "resolve",
]

BASE_URL_VARIABLES = {"openai": "OPENAI_BASE_URL", "claude": "ANTHROPIC_BASE_URL"}
# The first that is set holds the key.
KEY_VARIABLES = {
    "openai": ("OPENAI_API_KEY",),
    "claude": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
}
_OPENAI_URL = "https://api.openai.com/v1"
_CLAUDE_URL = "https://api.anthropic.com"
# These take what OpenAI takes; every other server is asked in the way that it surely knows.
_AZURE_HOSTS = tuple(
    f".{service}.azure.{zone}"
    for service in ("openai", "services.ai", "cognitiveservices")
    for zone in ("com", "us")
)
_OPENAI_HOSTS = (".openai.com", *_AZURE_HOSTS)


def _as_secret(key: str | None) -> str | None:
    return Secret(key) if isinstance(key, str) else key


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Account(Value):
    """What an adapter knows beside a call's options; None leaves it to the environment.

    Args:
        provider: ``"openai"`` or ``"claude"``.
        api_key: The vendor's key.
        base_url: Where the API lives.
        organization: OpenAI's organization.
        project: OpenAI's project.
        api_version: Claude's ``anthropic-version``.
    """

    provider: str
    # As a secret it refuses to be pickled with the adapter that holds it.
    api_key: str | None = attrs.field(default=None, repr=False, converter=_as_secret)
    base_url: str | None = attrs.field(default=None, repr=False)
    organization: str | None = None
    project: str | None = None
    api_version: str | None = None


@attrs.define(kw_only=True, eq=False, repr=False)
class Place(Value):
    """One place that calls go to.

    Attributes:
        dialect: What is spoken there.
        base_url: Scheme, host and path prefix, without a slash at the end.
        auth: Headers that authenticate.
    """

    dialect: Dialect
    base_url: str
    auth: Mapping[str, str] = attrs.field(repr=False)

    @property
    def url(self) -> str:
        """Where the dialect's requests go."""
        return self.base_url + self.dialect.path

    @property
    def models_url(self) -> str:
        """Where the models are listed."""
        return self.base_url + self.dialect.models_path


def provider_of(model: str) -> str:
    """Tell the vendor by the model's name: ``claude...`` is Claude, everything else OpenAI."""
    return "claude" if model.startswith("claude") else "openai"


def resolve(
    account: Account, options: CallOptions, environ: Mapping[str, str], *, allow_http: bool
) -> Place:
    """Decide where a call goes; the call's options beat the account, both the environment.

    Raises:
        ConfigurationError: A URL, key or option cannot work; ``MissingKeyError`` names every
            place that was looked at.
    """
    if account.provider == "claude":
        if options.api == "responses":
            raise InvalidRequestError('api="responses" is OpenAI\'s; Claude has its messages only.')
        return _claude(account, options, environ, allow_http)
    if options.api_version is not None:
        raise InvalidRequestError("api_version= is Claude's; OpenAI has none.")
    return _openai(account, options, environ, allow_http)


# Each is loaded by the first call that speaks it, since most programs speak one; and made once for
# all calls that speak it alike.
@functools.lru_cache(maxsize=64)
def _chat_dialect(
    max_tokens_name: str, organization: str | None, project: str | None
) -> OpenAIChat:
    with importing():
        from .dialects.openai_chat import OpenAIChat
    return OpenAIChat(max_tokens_name=max_tokens_name, organization=organization, project=project)


@functools.lru_cache(maxsize=64)
def _responses_dialect(organization: str | None, project: str | None) -> OpenAIResponses:
    with importing():
        from .dialects.openai_responses import OpenAIResponses
    return OpenAIResponses(organization=organization, project=project)


@functools.lru_cache(maxsize=64)
def _claude_dialect(version: str | None) -> ClaudeMessages:
    with importing():
        from .dialects.claude_messages import ClaudeMessages
    return ClaudeMessages() if version is None else ClaudeMessages(api_version=version)


def _openai(
    account: Account, options: CallOptions, environ: Mapping[str, str], allow_http: bool
) -> Place:
    base_url = _base_url(options, account)
    if base_url is None:
        base_url = environ.get(BASE_URL_VARIABLES["openai"]) or _OPENAI_URL
    url = _normalize(base_url, "openai", allow_http)
    key = _given_key(options, account) or _variable_key("OPENAI_API_KEY", environ)
    if key is None:
        raise MissingKeyError(
            "No OpenAI key: api_key= was not given and OPENAI_API_KEY is not set."
            + _keyless_hint(is_openai(url)),
            provider="openai",
        )
    organization = _header_value(account.organization, "OPENAI_ORG_ID", environ)
    project = _header_value(account.project, "OPENAI_PROJECT_ID", environ)
    dialect: OpenAIChat | OpenAIResponses
    if options.api == "responses":
        dialect = _responses_dialect(organization, project)
    else:
        limit = "max_completion_tokens" if is_openai(url) else "max_tokens"
        dialect = _chat_dialect(limit, organization, project)
    return Place(dialect=dialect, base_url=url, auth=dialect.headers(key, bearer=True))


def _keyless_hint(vendor: bool) -> str:
    return "" if vendor else ' For a server that wants none, give any text: api_key="none".'


@functools.lru_cache(maxsize=256)
def is_openai(url: str) -> bool:
    """Tell whether OpenAI is there, or Azure OpenAI, and no server that only speaks like them."""
    return _host_of(url).endswith(_OPENAI_HOSTS)


def _host_of(url: str) -> str:
    return "." + (urlsplit(url).hostname or "")


def _claude(
    account: Account, options: CallOptions, environ: Mapping[str, str], allow_http: bool
) -> Place:
    base_url = _base_url(options, account)
    if base_url is None:
        base_url = environ.get(BASE_URL_VARIABLES["claude"]) or _CLAUDE_URL
    url = _normalize(base_url, "claude", allow_http)
    key = _given_key(options, account) or _variable_key("ANTHROPIC_API_KEY", environ)
    token = None if key else _variable_key("ANTHROPIC_AUTH_TOKEN", environ)
    if key is None and token is None:
        raise MissingKeyError(
            "No Claude key: api_key= was not given, and neither ANTHROPIC_API_KEY "
            "nor ANTHROPIC_AUTH_TOKEN is set." + _keyless_hint(url == _CLAUDE_URL),
            provider="claude",
        )
    dialect = _claude_dialect(_first(options.api_version, account.api_version))
    if key is not None:
        return Place(dialect=dialect, base_url=url, auth=dialect.headers(key, bearer=False))
    assert token is not None
    return Place(dialect=dialect, base_url=url, auth=dialect.headers(token, bearer=True))


def _base_url(options: CallOptions, account: Account) -> str | None:
    # An empty one that was given is a slip, and must not send the prompts to the vendor.
    return options.base_url if options.base_url is not None else account.base_url


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value is not None and value != ""), None)


def _given_key(options: CallOptions, account: Account) -> Secret | None:
    key = options.api_key if options.api_key is not None else account.api_key
    if key is None:
        return None
    if key == "":
        raise MissingKeyError("api_key= was given, but is empty.", provider=account.provider)
    return check_key(key, "api_key=")


def _variable_key(name: str, environ: Mapping[str, str]) -> Secret | None:
    key = environ.get(name)
    return check_key(key, name) if key and key.strip() else None


def _header_value(given: str | None, variable: str, environ: Mapping[str, str]) -> str | None:
    value = given if given is not None else environ.get(variable)
    if not value:
        return None
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"{variable} (or the adapter's argument) must be printable ASCII.")
    return value


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: object, *, allow_http: bool, name: str = "url") -> str:
    """Return the URL of a request of its own, checked.

    Args:
        url: The URL.
        allow_http: As in the configuration.
        name: What it is called where it was given.

    Raises:
        ConfigurationError: It cannot be used, or would send the request in the clear.
    """
    _split(url, name, allow_http)
    return str(url)


@functools.lru_cache(maxsize=256)
def _normalize(base_url: str, provider: str, allow_http: bool) -> str:
    """Return ``base_url`` checked and in the form that paths are appended to."""
    parts = _split(base_url, "base_url", allow_http)
    if parts.query or parts.fragment or base_url.rstrip("/").endswith(("?", "#")):
        raise ConfigurationError(
            f"base_url must have no query and no fragment{_at(parts)}; use extra_query=."
        )
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if provider == "openai":
        azure = _host_of(base_url).endswith(_AZURE_HOSTS)
        return origin + (path or ("/openai/v1" if azure else "/v1"))
    return origin + path.removesuffix("/v1").rstrip("/")


def _split(url: object, name: str, allow_http: bool) -> SplitResult:
    if not isinstance(url, str):
        raise ConfigurationError(f"{name} must be text, not {type(url).__name__}.")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        if "[" in parts.netloc:
            ipaddress.IPv6Address(host.partition("%")[0])
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"{name} is no URL that can be read.") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{name} must not hold a user name or password; use api_key=.")
    if problem := _problem_of(parts, url):
        raise ConfigurationError(f"{name} {problem}{_at(parts)}.")
    if parts.scheme == "http" and not (allow_http or is_loopback(host)):
        raise ConfigurationError(
            f"{name} uses http:// for {host}: key and prompts would go out in the clear. "
            "Use https://, or HttpClientConfig(allow_http=True) if you mean it."
        )
    return parts


def _at(parts: SplitResult) -> str:
    """Name the host, and no more of a refused URL: it may hold a password, or be the key itself."""
    return f" ({parts.hostname})" if parts.scheme in ("http", "https") and parts.hostname else ""


def _problem_of(parts: SplitResult, url: str) -> str | None:
    if parts.scheme not in ("http", "https"):
        return "must begin with https:// (or http:// for loopback)"
    if not parts.hostname:
        return "has no host"
    if not url.isprintable() or " " in url or "\\" in url:
        return "holds a space, a backslash or a control character"
    if any(len(label) > 63 for label in parts.hostname.split(".")):
        return "has a host label of more than 63 characters"
    return None
