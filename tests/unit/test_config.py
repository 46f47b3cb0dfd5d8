"""Configuration: defaults, validation, environment."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import attrs
import pytest

from termai_http import ConfigurationError, HttpClientConfig, Limits, RetryConfig, __version__
from termai_http.config import pooling_override
from termai_http.prices import PRICES, Price

NAN, INF = float("nan"), float("inf")


def test_the_defaults_are_the_documented_ones() -> None:
    """Every field has the default that the documentation names."""
    assert attrs.asdict(HttpClientConfig(), recurse=False) == {
        "timeout": 120,
        "stream_timeout": 600,
        "connect_timeout": 10,
        "read_timeout": None,
        "pool_idle_timeout": 90,
        "pool_max_idle_per_host": 100,
        "max_connections": 1000,
        "retry": None,
        "max_retries": None,
        "user_agent": f"TermAI/{__version__}",
        "pooling": 1.0,
        "proxies": None,
        "ca_bundle": None,
        "client_cert": None,
        "trust_env": True,
        "allow_http": False,
        "limits": Limits(),
        "layers": (),
        "prices": None,
    }
    assert attrs.asdict(RetryConfig()) == {
        "max_attempts": 3,
        "base_delay": 0.5,
        "max_delay": 30,
        "backoff_multiplier": 2.0,
        "retry_on_status": {408, 409, 429, 500, 502, 503, 504, 529},
        "ambiguous_retries": 1,
        "retry_read_timeouts": False,
    }
    mib = 1024 * 1024
    assert attrs.astuple(Limits()) == (64 * mib, 256 * 1024, 64 * 1024, mib, 4 * mib)


PRICE = Price(input=1, output=2)

BAD: list[tuple[type[Any], str, list[Any]]] = [
    (HttpClientConfig, "timeout", [0, -1, NAN, INF, True, "3", None]),
    (HttpClientConfig, "stream_timeout", [0, -1, NAN, None]),
    (HttpClientConfig, "connect_timeout", [0, -1, NAN, None]),
    (HttpClientConfig, "read_timeout", [0, -1, NAN, "3"]),
    (HttpClientConfig, "pool_idle_timeout", [0, -1, NAN, None]),
    (HttpClientConfig, "pool_max_idle_per_host", [-1, 1.5, True, None]),
    (HttpClientConfig, "max_connections", [0, -1, 1.5, True, None]),
    (HttpClientConfig, "retry", [3, {}, "x"]),
    (HttpClientConfig, "max_retries", [-1, 1.5, True, "2"]),
    (HttpClientConfig, "user_agent", ["", " ", "a\r\nb", "ü", " a", None, 3]),
    (HttpClientConfig, "pooling", [-0.1, 1.1, NAN, True, None, "0.5"]),
    (HttpClientConfig, "proxies", ["http://x", {"https": 3}, {1: "x"}]),
    (HttpClientConfig, "ca_bundle", [3, True]),
    (HttpClientConfig, "client_cert", [3, ("a",), ("a", 3)]),
    (HttpClientConfig, "trust_env", [1, None, "yes"]),
    (HttpClientConfig, "allow_http", [1, None]),
    (HttpClientConfig, "limits", [None, {}, 3]),
    (HttpClientConfig, "layers", [None, 3, "cache"]),
    (HttpClientConfig, "prices", [3, [], {"m": 3}, {"": PRICE}, {3: PRICE}]),
    (RetryConfig, "max_attempts", [0, -1, 1.5, True, None]),
    (RetryConfig, "base_delay", [-1, NAN, INF, None]),
    (RetryConfig, "max_delay", [-1, NAN, None]),
    (RetryConfig, "backoff_multiplier", [0.5, NAN, None]),
    (RetryConfig, "retry_on_status", [3, [200], ["429"], None]),
    (RetryConfig, "ambiguous_retries", [-1, 0.5, None]),
    (RetryConfig, "retry_read_timeouts", [1, None]),
    (Limits, "body", [0, -1, 1.5, None]),
    (Limits, "headers", [0]),
    (Limits, "error_body", [0]),
    (Limits, "stream_line", [0]),
    (Limits, "stream_event", [0]),
]


@pytest.mark.parametrize(
    ("cls", "name", "value"), [(cls, name, value) for cls, name, bad in BAD for value in bad]
)
def test_a_bad_value_is_refused_by_name(cls: type[Any], name: str, value: Any) -> None:
    """The message names the field, what is allowed and, but for secrets, the value."""
    with pytest.raises(ConfigurationError) as caught:
        cls(**{name: value})
    assert name in str(caught.value)
    assert "must be" in str(caught.value)
    if name != "proxies":
        assert repr(value if name != "retry_on_status" else 3)[:4] in str(caught.value) or (
            name == "retry_on_status"
        )


def test_every_field_has_bad_values_here() -> None:
    """No field is left without a test of what it refuses."""
    for cls in (HttpClientConfig, RetryConfig, Limits):
        assert {field.name for field in attrs.fields(cls)} == {
            name for owner, name, _ in BAD if owner is cls
        }


VARIABLES: list[tuple[str, str, Any]] = [
    ("TIMEOUT", "30", 30.0),
    ("STREAM_TIMEOUT", "1.5", 1.5),
    ("CONNECT_TIMEOUT", "2", 2.0),
    ("READ_TIMEOUT", "3", 3.0),
    ("POOL_IDLE_TIMEOUT", "4", 4.0),
    ("POOL_MAX_IDLE_PER_HOST", "5", 5),
    ("MAX_CONNECTIONS", "6", 6),
    ("MAX_RETRIES", "0", 0),
    ("USER_AGENT", "mine/1", "mine/1"),
    ("POOLING", "0.25", 0.25),
    ("PROXIES", "http://p:1", {"http": "http://p:1", "https": "http://p:1"}),
    ("CA_BUNDLE", "/ca.pem", "/ca.pem"),
    ("CLIENT_CERT", "/one.pem", "/one.pem"),
    ("CLIENT_CERT", "/c.pem, /k.pem", ("/c.pem", "/k.pem")),
    ("TRUST_ENV", "no", False),
    ("ALLOW_HTTP", "True", True),
    ("RETRY_MAX_ATTEMPTS", "5", RetryConfig(max_attempts=5)),
    ("RETRY_RETRY_ON_STATUS", "429, 503", RetryConfig(retry_on_status={429, 503})),
    ("RETRY_RETRY_READ_TIMEOUTS", "on", RetryConfig(retry_read_timeouts=True)),
    ("RETRY_BASE_DELAY", "0.1", RetryConfig(base_delay=0.1)),
    ("LIMITS_BODY", "1000", Limits(body=1000)),
]


@pytest.mark.parametrize(("name", "text", "value"), VARIABLES)
def test_each_field_has_a_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    """TERMAI_HTTP_<FIELD> sets the field, from the process's environment or a given one."""
    monkeypatch.setenv(f"TERMAI_HTTP_{name}", text)
    config = HttpClientConfig.from_env()
    field = "retry" if name.startswith("RETRY") else name.lower()
    field = "limits" if name.startswith("LIMITS") else field
    assert getattr(config, field) == value
    assert HttpClientConfig.from_env({f"TERMAI_HTTP_{name}": ""}) == HttpClientConfig()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TIMEOUT", "soon"),
        ("TIMEOUT", "-3"),
        ("TIMEOUT", "nan"),
        ("MAX_CONNECTIONS", "many"),
        ("TRUST_ENV", "perhaps"),
        ("POOLING", "2"),
        ("RETRY_RETRY_ON_STATUS", "429;503"),
        ("RETRY_MAX_ATTEMPTS", "0"),
        ("LIMITS_BODY", "1MB"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(name: str, text: str) -> None:
    """The message names where the value comes from."""
    with pytest.raises(ConfigurationError, match="TERMAI_HTTP_"):
        HttpClientConfig.from_env({f"TERMAI_HTTP_{name}": text})


def test_an_unknown_variable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """A slip in a variable's name is told, with the right one; ours for other uses are not."""
    with caplog.at_level(logging.WARNING, "termai_http"):
        HttpClientConfig.from_env({"TERMAI_HTTP_MODEL": "m", "OTHER": "x"})
        assert caplog.text == ""
        HttpClientConfig.from_env({"TERMAI_HTTP_TIMOUT": "3", "TERMAI_HTTP_XYZZY": "1"})
    assert "did you mean TERMAI_HTTP_TIMEOUT?" in caplog.text
    assert "TERMAI_HTTP_XYZZY" in caplog.text


def test_evolve_changes_a_copy() -> None:
    """evolve() validates anew, leaves the original, and knows its fields."""
    config = HttpClientConfig()
    assert config.evolve(timeout=5).timeout == 5
    assert config.timeout == 120
    with pytest.raises(ConfigurationError, match="timeout"):
        config.evolve(timeout=-5)
    with pytest.raises(ConfigurationError, match="did you mean 'timeout'"):
        config.evolve(timout=5)
    with pytest.raises(ConfigurationError, match="has no field 'xyzzy'"):
        RetryConfig().evolve(xyzzy=5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.timeout = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        HttpClientConfig(5)  # type: ignore[misc]


def test_a_configuration_is_a_value() -> None:
    """Equal configurations are equal and have one hash, proxies or not; passwords stay hidden."""
    proxies = {"https": "http://user:password@proxy:1"}
    one, two = HttpClientConfig(proxies=proxies), HttpClientConfig(proxies=dict(proxies))
    assert one == two
    assert hash(one) == hash(two)
    assert "password" not in repr(one)
    assert "'https': ***" in repr(one)


def test_prices_are_copied_counted_and_pickled() -> None:
    """A later change of the table given is none of the configuration, which shows its length."""
    given = {**PRICES, "mine": PRICE}
    config = HttpClientConfig(prices=given)
    del given["mine"]
    assert config.prices is not None
    assert config.prices["mine"] == PRICE
    assert f"prices=<{len(PRICES) + 1} models>" in repr(config)
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(HttpClientConfig(prices=PRICES)) == hash(HttpClientConfig(prices=dict(PRICES)))


def test_prices_have_no_variable(caplog: pytest.LogCaptureFixture) -> None:
    """A table cannot stand in a variable: one of its name is unknown, and is warned of."""
    assert HttpClientConfig.from_env({"TERMAI_HTTP_PRICES": "x"}) == HttpClientConfig()
    assert "TERMAI_HTTP_PRICES" in caplog.text


def test_the_pooling_variable_is_validated() -> None:
    """pooling_override() says nothing where nothing is set."""
    assert pooling_override({}) is None
    assert pooling_override({"TERMAI_HTTP_POOLING": " "}) is None
    assert pooling_override({"TERMAI_HTTP_POOLING": "0.5"}) == 0.5
    with pytest.raises(ConfigurationError, match="pooling"):
        pooling_override({"TERMAI_HTTP_POOLING": "7"})
