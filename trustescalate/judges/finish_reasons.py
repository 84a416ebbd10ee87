"""What the finish reasons of chat completion servers mean."""

from collections.abc import Mapping
from typing import Any, Literal

Ending = Literal["stop", "length", "refused", "broken"]

ENDINGS: Mapping[Ending, frozenset[str]] = {
    "stop": frozenset({
        "stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "stop_word", "end", "complete",
        "completed", "finished", "done", "tool_calls", "tool_use", "tool_call", "function_call", "null",
        "none", "",
    }),
    "length": frozenset({
        "length", "model_length", "max_tokens", "max_length", "max_output_tokens", "max_new_tokens",
        "max_token", "token_limit", "length_capped",
    }),
    "refused": frozenset({
        "content_filter", "content_filtered", "content-filter", "refusal", "safety", "recitation",
        "blocklist", "prohibited_content", "spii", "guardrail_intervened", "guardrails", "error_toxic",
    }),
}  # fmt: skip
"""How servers say that a reply ended, was cut, or was filtered."""


def ending_of(reason: Any) -> Ending:
    """The end of a reply, by its finish reason; for an unknown one the reply was broken off.

    >>> ending_of("end_turn"), ending_of("MAX_TOKENS"), ending_of("network_error"), ending_of(None)
    ('stop', 'length', 'broken', 'stop')
    """
    name = reason.get("type") if isinstance(reason, dict) else reason
    name = "" if name is None else str(name).casefold().removeprefix("finish_reason_").strip()
    return next((ending for ending, names in ENDINGS.items() if name in names), "broken")
