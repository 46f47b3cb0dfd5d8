"""The names of OpenTelemetry's conventions that spans bear, in one place, and their versions."""

from __future__ import annotations

__all__ = ["CONVENTIONS", "EVENTS", "OPERATIONS", "PROVIDERS", "REQUEST_FIELDS"]

# All of gen_ai.* is "Development": a release may rename it. The rest is stable.
CONVENTIONS = {"gen_ai": "0.1.0", "http": "1.44.0", "server": "1.44.0", "error": "1.44.0"}

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
HTTP_STATUS = "http.response.status_code"
HTTP_RESEND_COUNT = "http.request.resend_count"

# What no convention has a name for.
REQUEST_ID = "termai_http.request_id"
ATTEMPTS = "termai_http.attempts"
ATTEMPT = "termai_http.attempt"
CAUSE = "termai_http.cause"
REUSED = "termai_http.connection_reused"
CACHED = "termai_http.cached"
STREAM_LEFT = "termai_http.stream_left"
COST = "termai_http.cost_usd"
END_MISSED = "termai_http.end_missed"

# "count", "models" and "health" have no word of the convention's own.
OPERATIONS = {"count": "count_tokens", "models": "list_models", "health": "health_check"}
NO_OPERATION = "request"
PROVIDERS = {"claude": "anthropic"}
# What a span's events are called, by the class of ours.
EVENTS = {
    "RetryScheduled": "retry",
    "SlotWaited": "slot waited for",
    "PacingWaited": "held back by pacing",
    "CircuitChanged": "circuit changed",
    "ConnectionOpened": "connection opened",
}
# Fields of a request's body, in any of the dialects, beside the messages.
REQUEST_FIELDS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
