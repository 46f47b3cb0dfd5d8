"""A call's options: slips are told, the vendor's parameters pass."""

from __future__ import annotations

from typing import Any

import pytest

from termai_http import ConfigurationError, InvalidRequestError
from termai_http._options import CallOptions, check_params


@pytest.mark.parametrize(
    ("slip", "right"),
    [
        ("timout", "timeout="),
        ("max_token", "max_tokens="),
        ("apikey", "api_key="),
        ("baseurl", "base_url="),
        ("extra_header", "extra_headers="),
        ("sytem", "system="),
        ("Model", "model="),
        ("api_verison", "api_version="),
        ("tool", "tools="),
        ("outputs", "output="),
        ("stops", "stop="),
        ("max_round", "max_rounds="),
        ("max_rounds", "run_tools()"),
        ("stream", "stream()"),
        ("max_retries", "RetryConfig"),
        ("read_timeout", "HttpClientConfig"),
        ("messages", "first argument"),
        ("client", "whose method it is"),
        ("project", "OpenAIAdapter"),
        ("cache", "cache=True)"),
    ],
)
def test_a_slip_is_told_with_the_right_name(slip: str, right: str) -> None:
    """A name close to an option of ours is refused with the right one."""
    with pytest.raises(InvalidRequestError) as caught:
        check_params({slip: True})
    assert right in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "temperature",
            "top_p",
            "top_k",
            "tool_choice",
            "stop_sequences",
            "seed",
        ),
        *("n", "user", "metadata", "max_completion_tokens", "response_format", "thinking"),
        *("reasoning_effort", "verbosity", "store", "service_tier", "logprobs", "models"),
        *("prompt_cache_key", "parallel_tool_calls", "presence_penalty", "output_config"),
        *("safety_identifier", "speed", "cache_control", "modalities", "prediction", "audio"),
    ],
)
def test_the_vendors_parameters_pass(name: str) -> None:
    """A parameter of the vendor's is not taken for a slip."""
    check_params({name: 1, "stream": False})


@pytest.mark.parametrize(
    ("fields", "error", "part"),
    [
        ({"timeout": 0}, ConfigurationError, "timeout"),
        ({"timeout": float("nan")}, ConfigurationError, "nan"),
        ({"timeout": "3"}, ConfigurationError, "seconds"),
        ({"timeout": True}, ConfigurationError, "timeout"),
        ({"retry": 3}, ConfigurationError, "RetryConfig"),
        ({"provider": "gemini"}, ConfigurationError, "'openai' or 'claude'"),
        ({"api": "completions"}, ConfigurationError, "'chat' or 'responses'"),
        ({"extra_headers": "x"}, InvalidRequestError, "extra_headers"),
        ({"extra_headers": {"a b": "c"}}, InvalidRequestError, "extra_headers"),
        ({"extra_headers": {"Host": "c"}}, InvalidRequestError, "Host"),
        ({"extra_headers": {"Content-Length": "3"}}, InvalidRequestError, "frames"),
        ({"extra_headers": {"X": "a\r\nb"}}, InvalidRequestError, "one line"),
        ({"extra_headers": {"X": 3}}, InvalidRequestError, "extra_headers"),
        ({"extra_query": "a=b"}, InvalidRequestError, "extra_query"),
        ({"extra_body": [1]}, InvalidRequestError, "extra_body"),
        ({"extra_body": {1: 2}}, InvalidRequestError, "extra_body"),
        ({"rollout_key": 1.5}, InvalidRequestError, "rollout_key"),
        ({"rollout_key": True}, InvalidRequestError, "not bool"),
    ],
)
def test_a_wrong_option_is_named(fields: dict[str, Any], error: type[Exception], part: str) -> None:
    """Each option is checked where it is made."""
    with pytest.raises(error) as caught:
        CallOptions(**fields)
    assert part in str(caught.value)


def test_options_do_not_show_secrets() -> None:
    """The repr of the options holds no key, header or body."""
    options = CallOptions(
        api_key="sk-secret",
        extra_headers={"X": "sk-secret"},
        extra_body={"a": "sk-secret"},
        rollout_key="sk-secret",
    )
    assert "sk-secret" not in repr(options)
