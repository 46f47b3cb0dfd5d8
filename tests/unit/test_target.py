"""Where a call goes: base URLs, keys, vendors."""

from __future__ import annotations

from typing import Any

import pytest

from termai_http import ConfigurationError, InvalidRequestError, MissingKeyError
from termai_http._options import CallOptions
from termai_http._target import Account, Place, is_loopback, provider_of, resolve
from termai_http.dialects.openai_chat import OpenAIChat

# As Microsoft's pages name them, and their twins for the government.
AZURE_HOSTS = (
    "openai.azure.com",
    "services.ai.azure.com",
    "cognitiveservices.azure.com",
    "openai.azure.us",
    "services.ai.azure.us",
    "cognitiveservices.azure.us",
)
KEYS = {"OPENAI_API_KEY": "sk-openai", "ANTHROPIC_API_KEY": "sk-claude"}


def find(
    provider: str,
    environ: dict[str, str] | None = None,
    *,
    allow_http: bool = False,
    **options: Any,
) -> Place:
    """Resolve with every key set."""
    given = {**KEYS, **(environ or {})}
    account = Account(provider=provider)
    return resolve(account, CallOptions(**options), given, allow_http=allow_http)


@pytest.mark.parametrize(
    ("provider", "base_url", "url"),
    [
        ("openai", None, "https://api.openai.com/v1/chat/completions"),
        ("openai", "https://a.example", "https://a.example/v1/chat/completions"),
        ("openai", "https://a.example/", "https://a.example/v1/chat/completions"),
        ("openai", "https://a.example/v1", "https://a.example/v1/chat/completions"),
        ("openai", "https://a.example/v1//", "https://a.example/v1/chat/completions"),
        ("openai", "https://a.example/openai/v1", "https://a.example/openai/v1/chat/completions"),
        ("openai", "https://a.example/api", "https://a.example/api/chat/completions"),
        ("openai", "http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
        ("openai", "http://localhost:11434/v1", "http://localhost:11434/v1/chat/completions"),
        ("openai", "HTTPS://a.example", "https://a.example/v1/chat/completions"),
        *(
            (
                "openai",
                f"https://mine.{host}{path}",
                f"https://mine.{host}/openai/v1/chat/completions",
            )
            for host in AZURE_HOSTS
            for path in ("", "/", "/openai/v1", "/openai/v1/")
        ),
        ("claude", None, "https://api.anthropic.com/v1/messages"),
        ("claude", "https://a.example", "https://a.example/v1/messages"),
        ("claude", "https://a.example/v1", "https://a.example/v1/messages"),
        ("claude", "https://a.example/v1/", "https://a.example/v1/messages"),
        ("claude", "https://a.example/anthropic", "https://a.example/anthropic/v1/messages"),
        ("claude", "http://127.0.0.9:1", "http://127.0.0.9:1/v1/messages"),
        (
            "claude",
            "https://mine.services.ai.azure.com/anthropic",
            "https://mine.services.ai.azure.com/anthropic/v1/messages",
        ),
    ],
)
def test_a_base_url_is_completed(provider: str, base_url: str | None, url: str) -> None:
    """Slashes and the version's path are put right for each vendor, wherever the URL is from."""
    assert find(provider, base_url=base_url).url == url
    variable = "OPENAI_BASE_URL" if provider == "openai" else "ANTHROPIC_BASE_URL"
    assert find(provider, {variable: base_url or ""}).url == url


@pytest.mark.parametrize(
    "base_url",
    [
        *("a.example", "a.example/v1", "//a.example", "ftp://a.example", "file:///etc", "https://"),
        *(
            "https:///v1",
            "https:a.example",
            "http://a.example",
            "http://10.0.0.1",
            "ws://a.example",
        ),
        *("https://a.example:port", "https://a.example:99999", "https://a.example:-1"),
        *("https://user@a.example", "https://user:pw@a.example", "https://:pw@a.example"),
        *("https://a.example?x=1", "https://a.example/v1?x=1", "https://a.example#x"),
        *("https://a.example/v1?", "https://a.example/v1#", "https://a b.example"),
        *("https://a.example/a b", "https://a.example/\n", "https://a\\b.example", "https://[::1"),
        *("https://[zz]/", "https://" + "a" * 64 + ".example", "https://a..example", " "),
        *("https://a.example\t", "javascript:x", "data:x", "https://\u2028", "https://x\x00y"),
        *("mailto:x@y", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "1"),
        *("http://[2001:db8::1]/", "unix:///socket", "https//a.example"),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "claude"])
def test_a_bad_base_url_is_refused(provider: str, base_url: str) -> None:
    """A URL that cannot work, or would leak, is told before anything is sent."""
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        find(provider, base_url=base_url)
    assert "pw" not in str(caught.value)


def test_http_is_for_loopback_unless_allowed() -> None:
    """allow_http lets plain http go anywhere."""
    assert find("openai", base_url="http://a.example", allow_http=True).url.startswith("http://a")
    assert is_loopback("api.localhost")
    assert is_loopback("::1")
    assert not is_loopback("128.0.0.1")


def test_a_base_url_must_be_text() -> None:
    """Something else than text is told by its type."""
    with pytest.raises(ConfigurationError, match="int"):
        resolve(Account(provider="openai", base_url=3), CallOptions(), KEYS, allow_http=False)  # type: ignore[arg-type]


def test_the_vendor_is_told_by_the_model() -> None:
    """Claude... is Claude, everything else OpenAI."""
    assert provider_of("claude-opus-5-5") == "claude"
    assert provider_of("gpt-5.5") == provider_of("my-claude") == "openai"


def test_keys_come_from_the_call_first() -> None:
    """A call's key beats the account's, and both the environment's."""
    account = Account(provider="openai", api_key="of-the-account")
    options = CallOptions(api_key="of-the-call")
    assert resolve(account, options, KEYS, allow_http=False).auth == {
        "Authorization": "Bearer of-the-call"
    }
    found = resolve(account, CallOptions(), KEYS, allow_http=False)
    assert found.auth == {"Authorization": "Bearer of-the-account"}
    assert find("openai").auth == {"Authorization": "Bearer sk-openai"}
    assert "sk-openai" not in repr(find("openai").auth)


def test_claudes_token_is_the_last_resort() -> None:
    """ANTHROPIC_AUTH_TOKEN goes out as a bearer token only where there is no key."""
    token = {"ANTHROPIC_AUTH_TOKEN": "token"}
    assert "x-api-key" in find("claude", token).auth
    found = find("claude", {**token, "ANTHROPIC_API_KEY": ""})
    assert found.auth["Authorization"] == "Bearer token"
    assert "x-api-key" not in found.auth


@pytest.mark.parametrize(
    ("provider", "names"),
    [
        ("openai", ["OPENAI_API_KEY"]),
        ("claude", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"]),
    ],
)
def test_a_missing_key_names_where_it_looked(provider: str, names: list[str]) -> None:
    """The error names every variable; an empty key given is told as such."""
    with pytest.raises(MissingKeyError) as caught:
        resolve(Account(provider=provider), CallOptions(), {}, allow_http=False)
    for name in ["api_key=", *names]:
        assert name in str(caught.value)
    with pytest.raises(MissingKeyError, match="empty"):
        find(provider, api_key="")


@pytest.mark.parametrize(
    ("provider", "base_url", "hinted"),
    [
        *(("openai", url, False) for url in (None, "https://mine.openai.azure.com")),
        *(("openai", url, True) for url in ("http://localhost:11434/v1", "https://a.example")),
        ("claude", None, False),
        ("claude", "http://localhost:4000", True),
    ],
)
def test_who_asks_a_server_without_keys_is_told_what_to_give(
    provider: str, base_url: str | None, hinted: bool
) -> None:
    """A local server takes any text as a key; a vendor does not, and there is no such hint."""
    options = CallOptions(base_url=base_url)
    with pytest.raises(MissingKeyError) as caught:
        resolve(Account(provider=provider), options, {}, allow_http=False)
    assert ('api_key="none"' in str(caught.value)) is hinted
    found = resolve(
        Account(provider=provider),
        CallOptions(base_url=base_url, api_key="none"),
        {},
        allow_http=False,
    )
    assert "none" in "".join(found.auth.values())


def test_azure_takes_keys_and_tokens_alike_as_bearer() -> None:
    """Its v1 endpoint takes both there, so nobody has to say which of the two it is."""
    found = find("openai", base_url="https://mine.openai.azure.com", api_key="0123456789abcdef")
    assert found.auth == {"Authorization": "Bearer 0123456789abcdef"}
    assert found.models_url == "https://mine.openai.azure.com/openai/v1/models"
    responses = find("openai", base_url="https://mine.openai.azure.com", api="responses")
    assert responses.url == "https://mine.openai.azure.com/openai/v1/responses"


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        (None, "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        *((f"https://mine.{host}", "max_completion_tokens") for host in AZURE_HOSTS),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://openai.azure.com.evil.example/v1", "max_tokens"),
        ("https://evilopenai.azure.com/v1", "max_tokens"),
        ("https://openrouter.ai/api/v1", "max_tokens"),
        ("https://openai.com.evil.example/v1", "max_tokens"),
        ("http://127.0.0.1:8000", "max_tokens"),
    ],
)
def test_the_limit_is_named_as_the_server_knows_it(base_url: str | None, name: str) -> None:
    """OpenAI and Azure take the new name, every other server the old one."""
    dialect = find("openai", base_url=base_url).dialect
    assert isinstance(dialect, OpenAIChat)
    assert dialect.max_tokens_name == name


def test_organization_and_project_come_from_the_environment_too() -> None:
    """OPENAI_ORG_ID and OPENAI_PROJECT_ID are headers, checked like any."""
    found = find("openai", {"OPENAI_ORG_ID": "org", "OPENAI_PROJECT_ID": "proj"})
    assert found.auth["OpenAI-Organization"] == "org"
    assert found.auth["OpenAI-Project"] == "proj"
    with pytest.raises(ConfigurationError, match="OPENAI_ORG_ID"):
        find("openai", {"OPENAI_ORG_ID": "a\r\nb"})


@pytest.mark.parametrize("version", ["\n", "2023\r\nX: y", "ü"])
def test_a_bad_version_is_refused(version: str) -> None:
    """anthropic-version is a header, and OpenAI has none."""
    with pytest.raises(ConfigurationError, match="api_version"):
        find("claude", api_version=version)
    with pytest.raises(InvalidRequestError, match="Claude"):
        find("openai", api_version="2023-06-01")


def test_the_models_are_listed_beside_the_chats() -> None:
    """Each vendor's models have their place under the base URL."""
    assert find("openai").models_url == "https://api.openai.com/v1/models"
    assert find("claude").models_url == "https://api.anthropic.com/v1/models"
