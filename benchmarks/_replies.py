"""What the upstreams answer with: a reply of each vendor, and the headers it comes with."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["BODIES", "DELAY", "HEADERS", "SLOW"]

# Where a path begins so, the answer comes so many seconds late.
SLOW, DELAY = "/slow", 0.05

_OPENAI: dict[str, Any] = {
    "id": "chatcmpl-0123456789abcdef",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-5.5",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "word " * 40,
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 80,
        "completion_tokens": 40,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_0123456789",
}
_CLAUDE: dict[str, Any] = {
    "id": "msg_0123456789abcdef",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "word " * 70}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 80,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 40,
        "service_tier": "standard",
    },
}
BODIES = {
    "/v1/chat/completions": json.dumps(_OPENAI, separators=(",", ":")),
    "/v1/messages": json.dumps(_CLAUDE, separators=(",", ":")),
}
# With the five that every server adds, 24: as many as come from behind a delivery network.
HEADERS = [
    ("x-request-id", "req_0123456789abcdef0123456789abcdef"),
    ("request-id", "req_0123456789abcdef01234567"),
    ("Set-Cookie", "__cf_bm=0123456789abcdef; path=/; HttpOnly; Secure; SameSite=None"),
    ("Set-Cookie", "_cfuvid=0123456789abcdef; path=/; HttpOnly; Secure; SameSite=None"),
    ("CF-RAY", "0123456789abcdef-OSL"),
    ("cf-cache-status", "DYNAMIC"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("x-content-type-options", "nosniff"),
    ("alt-svc", 'h3=":443"; ma=86400'),
    ("via", "1.1 edge"),
    ("openai-version", "2020-10-01"),
    ("openai-organization", "org-0123456789"),
    ("openai-processing-ms", "412"),
    ("x-envoy-upstream-service-time", "416"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999900"),
    ("x-ratelimit-reset-tokens", "3ms"),
]
