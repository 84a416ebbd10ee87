"""What is known of the providers that LiteLLM calls: hosts, variables of keys, and its list of prices.

LiteLLM itself is not imported: its list is read as the file in its package, and never from the network.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

PRICES = "model_prices_and_context_window_backup.json"
PER = 1e6


class Provider(NamedTuple):
    """A provider's default host and the variables of its key. `own_credentials`: those of its cloud."""

    host: str
    keys: tuple[str, ...] = ()
    own_credentials: bool = False


PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider("api.anthropic.com", ("ANTHROPIC_API_KEY",)),
    "bedrock": Provider("bedrock-runtime.amazonaws.com"),
    "cerebras": Provider("api.cerebras.ai", ("CEREBRAS_API_KEY",)),
    "cohere": Provider("api.cohere.ai", ("COHERE_API_KEY", "CO_API_KEY")),
    "cohere_chat": Provider("api.cohere.ai", ("COHERE_API_KEY", "CO_API_KEY")),
    "deepseek": Provider("api.deepseek.com", ("DEEPSEEK_API_KEY",)),
    "fireworks_ai": Provider("api.fireworks.ai", ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY")),
    "gemini": Provider("generativelanguage.googleapis.com", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "groq": Provider("api.groq.com", ("GROQ_API_KEY",)),
    "mistral": Provider("api.mistral.ai", ("MISTRAL_API_KEY",)),
    "openai": Provider("api.openai.com", ("OPENAI_API_KEY",)),
    "openrouter": Provider("openrouter.ai", ("OPENROUTER_API_KEY", "OR_API_KEY")),
    "together_ai": Provider("api.together.xyz", ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY")),
    "vertex_ai": Provider("aiplatform.googleapis.com", own_credentials=True),
    "vertex_ai_beta": Provider("aiplatform.googleapis.com", own_credentials=True),
    "sagemaker": Provider("runtime.sagemaker.amazonaws.com", own_credentials=True),
    "sagemaker_chat": Provider("runtime.sagemaker.amazonaws.com", own_credentials=True),
    "xai": Provider("api.x.ai", ("XAI_API_KEY",)),
}
"""By LiteLLM's name; of any other provider the host is LiteLLM's to know."""
BATCH_PROVIDERS = ("openai", "anthropic", "gemini")
"""Those whose Batch API is spoken."""

_OWN = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "prompt_cache_key", "logprobs"})
_CONNECTION = re.compile(
    r"key|secret|token|password|credential|auth|cert|ssl|base|endpoint|url|host|proxy|header|callback|logger|log_"
    r"|fallback|retr|cach|mock|client|session|litellm|cost|metadata|guardrail|hook|prompt|model|provider|drop_"
    r"|allowed_|modify|config|timeout|stream|message|tool|function",
    re.IGNORECASE,
)
_PLACE = re.compile(r"region|location|project|version", re.IGNORECASE)


def provider_of(model: str) -> str:
    """LiteLLM's name of a model's provider.

    >>> provider_of("bedrock/anthropic.claude-haiku-4-5")
    'bedrock'
    """
    return model.partition("/")[0]


def must_be_no_connection(extra: Mapping[str, Any]) -> None:
    """Raise ValueError for a field that LiteLLM reads itself: an address, a key, a callback, retries, ….

    >>> must_be_no_connection({"top_p": 0.5, "aws_region_name": "eu-west-1"})
    >>> must_be_no_connection({"api_base": "http://localhost"})
    Traceback (most recent call last):
    ValueError: extra.api_base is not a field of the request; the keys of this table make the connection
    """
    for name, value in extra.items():
        if name not in _OWN and _CONNECTION.search(name):
            raise ValueError(
                f"extra.{name} is not a field of the request; the keys of this table make the connection"
            )
        for text in _texts(value):
            if text.startswith("os.environ"):
                raise ValueError(f"extra.{name} reads an environment variable; name a key by api_key_env")
            if _PLACE.search(name) and not re.fullmatch(r"[\w.:-]+", text):
                raise ValueError(f"extra.{name} = {text!r} is no name of a {name.rpartition('_')[2]}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for inner in value.values() for text in _texts(inner))
    elif isinstance(value, list):
        yield from (text for inner in value for text in _texts(inner))


# ── prices ─────────────────────────────────────────────────────────────────────────────────────────


def listed_price(model: str) -> dict[str, Any] | None:
    """The price of a model by the list that the installed LiteLLM ships, in USD per million tokens.

    None where LiteLLM is not installed, or its list has no price of the model.
    """
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return None
    listed = _prices(Path(spec.origin).with_name(PRICES))
    for name in _names(model):
        entry = listed.get(name)
        if not isinstance(entry, dict):
            continue
        if isinstance(entry.get("alias_of"), str):
            entry = listed.get(entry["alias_of"]) or {}
        if not (name == model or str(entry.get("litellm_provider", "")).startswith(provider_of(model))):
            continue
        price = {
            ours: round(entry[theirs] * PER, 9)
            for ours, theirs in (
                ("input", "input_cost_per_token"),
                ("output", "output_cost_per_token"),
                ("cached_input", "cache_read_input_token_cost"),
            )
            if type(entry.get(theirs)) in (int, float) and entry[theirs] >= 0
        }
        if {"input", "output"} <= price.keys():
            return {**price, "source": f"LiteLLM {_version()}"}
    return None


def _version() -> str:
    try:
        return version("litellm")
    except PackageNotFoundError:
        return "of unknown version"


@lru_cache(maxsize=1)
def _prices(path: Path) -> Mapping[str, Any]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return listed if isinstance(listed, dict) else {}


def _names(model: str) -> Iterator[str]:
    """The names under which a list may have a model, the most specific first.

    >>> list(_names("bedrock/converse/eu.anthropic.claude-haiku-4-5"))
    ['bedrock/converse/eu.anthropic.claude-haiku-4-5', 'converse/eu.anthropic.claude-haiku-4-5', \
'eu.anthropic.claude-haiku-4-5', 'anthropic.claude-haiku-4-5']
    """
    yield model
    rest = model
    while "/" in rest:
        rest = rest.partition("/")[2]
        yield rest
    if model.startswith("bedrock/") and re.match(r"[a-z]{2,6}\.[a-z]", rest):
        yield rest.partition(".")[2]
