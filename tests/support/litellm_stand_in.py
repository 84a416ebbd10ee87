"""A stand-in for the package litellm where it is not installed: calls to OpenAI's own API, and errors.

`tests/hosts/litellm` runs the same tests, and more, with the real package.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import openai
import pytest


class StandInError(Exception):
    """What litellm raises: its own text around the provider's, with a status and headers."""

    def __init__(self, message: str, status_code: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message, self.status_code, self.litellm_response_headers = message, status_code, headers


async def acompletion(
    *, model: str, client: openai.AsyncOpenAI, timeout: float, **fields: Any
) -> SimpleNamespace:
    """A chat completion over the client that is given."""
    provider, _, name = model.partition("/")
    for own in ("num_retries", "max_retries", "caching", "api_base", "api_key"):
        fields.pop(own, None)
    refused = [field for field in fields if field.startswith("no_such_")]
    if refused:
        text = f"litellm.UnsupportedParamsError: {provider} does not support parameters: {refused}, for model"
        raise StandInError(f"{text}={name}. To drop these, set `litellm.drop_params=True`", 400)
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=name, timeout=timeout, extra_body=fields, messages=fields.pop("messages")
        )
    except openai.APIStatusError as error:
        text = f"litellm.APIError: OpenAIException - {error.response.text}. Handle with `litellm.APIError`."
        raise StandInError(text, error.status_code, dict(error.response.headers)) from error
    except openai.APIConnectionError as error:
        raise StandInError("litellm.InternalServerError: Connection error.", 500) from error
    headers = {f"llm_provider-{name}": value for name, value in raw.headers.items()}
    text = raw.http_response.text
    return SimpleNamespace(model_dump_json=lambda: text, _hidden_params={"additional_headers": headers})


def use_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in in the place of litellm, unless that is installed."""
    if "litellm" in sys.modules or importlib.util.find_spec("litellm") is not None:
        return
    module = ModuleType("litellm")
    module.__spec__ = ModuleSpec("litellm", None)
    vars(module).update(acompletion=acompletion, provider_list=["openai", "anthropic", "gemini"])
    monkeypatch.setitem(sys.modules, "litellm", module)
