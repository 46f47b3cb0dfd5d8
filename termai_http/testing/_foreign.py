"""Parameters of one API that have no place in another; a name that none has passes."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["foreign"]

_OPENAI = frozenset(
    {
        *("metadata", "model", "moderation", "parallel_tool_calls", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier"),
        *("store", "stream", "stream_options", "temperature", "tool_choice", "tools"),
        *("top_logprobs", "top_p", "user"),
    }
)
_NAMES = {
    "chat": _OPENAI
    | {
        *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"),
        *("max_completion_tokens", "max_tokens", "messages", "modalities", "n", "prediction"),
        *("presence_penalty", "reasoning_effort", "response_format", "seed", "stop"),
        *("verbosity", "web_search_options"),
    },
    "responses": _OPENAI
    | {
        *("access_programs", "background", "background_options", "context_management"),
        *("conversation", "image", "include", "input", "instructions", "max_output_tokens"),
        *("max_tool_calls", "previous_response_id", "prompt", "reasoning", "text", "truncation"),
    },
    "messages": frozenset(
        {
            *("cache_control", "container", "diagnostics", "inference_geo", "max_tokens"),
            *("messages", "metadata", "model", "output_config", "service_tier", "speed"),
            *("stop_sequences", "stream", "system", "temperature", "thinking", "tool_choice"),
            *("tools", "top_k", "top_p", "user_profile_id", "workspace_id"),
        }
    ),
}
# What counts tokens takes what the model reads, and nothing about what it writes.
_NAMES["input_tokens"] = frozenset(
    {
        *("conversation", "input", "instructions", "model", "parallel_tool_calls"),
        *("previous_response_id", "reasoning", "text", "tool_choice", "tools", "truncation"),
    }
)
_NAMES["count_tokens"] = _NAMES["messages"] - {
    *("container", "diagnostics", "inference_geo", "max_tokens", "metadata", "service_tier"),
    *("stop_sequences", "stream", "temperature", "top_k", "top_p"),
}
_ALL = frozenset().union(*_NAMES.values())


def foreign(body: Mapping[str, object], api: str) -> str | None:
    """Return the first name in a body that belongs to another API; None for none.

    Args:
        body: A request's body.
        api: ``"chat"``, ``"responses"``, ``"messages"``, ``"input_tokens"``, ``"count_tokens"``.
    """
    known = _NAMES[api]
    return next((name for name in body if name in _ALL and name not in known), None)
