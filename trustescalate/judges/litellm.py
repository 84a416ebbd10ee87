"""Call any provider that LiteLLM knows, in the provider's own API.

LiteLLM writes one request and reads one answer. Rate limits, retries, the dialect, the cache and the budget
are those of `judges.openai`; LiteLLM's own retries, callbacks, logs, `.env` file and downloads are off.
"""

import asyncio
import importlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import openai

from trustescalate.config.providers import PROVIDERS, provider_of
from trustescalate.errors import ProviderError
from trustescalate.judges.completions import UNSUPPORTED, Answer
from trustescalate.judges.connections import causes, connection_error
from trustescalate.judges.endpoint import addresses_of
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.transport import NO_KEY, OPENAI_URL, Call, Route, key_place, public_url, read_key
from trustescalate.records import Request

OFFLINE: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_OFFLINE_MODE": "true",
    "LITELLM_MODE": "PRODUCTION",
}
"""Variables read at its import: no download of lists, and no `.env` file of the working folder."""
SWITCHES: Mapping[str, Any] = {
    **{"telemetry": False, "drop_params": False, "modify_params": False, "set_verbose": False},
    **{"suppress_debug_info": True, "turn_off_message_logging": True, "redact_messages_in_exceptions": True},
    **{"num_retries": 0, "cache": None, "model_fallbacks": None},
}
CALLBACKS = (
    *("callbacks", "input_callback", "success_callback", "failure_callback", "service_callback"),
    *("_async_input_callback", "_async_success_callback", "_async_failure_callback"),
)
LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
OWN_CLIENT = ("anthropic", "bedrock", "gemini", "vertex_ai", "vertex_ai_beta")
"""Providers that are called through a client of ours, which follows no redirection."""
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
SHORTEST_SECRET = 8
NOWHERE = "http://localhost"
"""An address that requests are written for, and never sent to."""
TRANSLATION = 60.0
TRANSPORT_ERRORS = ("httpx", "httpcore", "aiohttp", "httpx2", "httpcore2")
_UNSUPPORTED = re.compile(r"does not support parameters: \[([^\]]*)\]")
_PREAMBLE = re.compile(r"^(litellm\.)?(\w+(Error|Timeout|Exception)\b[:.\s-]*)+", re.IGNORECASE)
_ADVICE = re.compile(
    r"\s*(Handle with `litellm|To drop these, set|Received (Messages|Model)|Model: |Messages: ).*", re.DOTALL
)


class LiteLLMBackend(OpenAIBackend):
    """A model of a provider: `model` is LiteLLM's name of the provider, a slash, and the model's name.

    The key is read from `api_key_env`, or by LiteLLM from the provider's usual variables, and the latter only
    without `base_url`. Raises `ProviderError` if no such variable is set, or LiteLLM is not installed.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | Sequence[str] | None = None,
        api_key_env: str | None = None,
        **reached: Any,
    ) -> None:
        routes = [litellm_route(model, url, api_key_env) for url in addresses_of(base_url)]
        super().__init__(model=model, routes=routes, **reached)
        self._translator: Translator | None = None

    async def close(self) -> None:
        """Close the connections."""
        await super().close()
        if self._translator is not None:
            await self._translator.close()

    async def batch_body(self, request: Request) -> dict[str, Any]:
        """A request for the provider's Batch API; beside OpenAI's form the provider's own."""
        provider, _, name = self._model.partition("/")
        if provider == "openai":
            return {**self.body(request), "model": name}
        while True:
            dialect, body = self.dialect, self.body(request)
            params, answer = await self.translator.params(body)
            if params is not None:
                return {"body": body, "params": params}
            if not self.learn(answer, dialect):
                raise ProviderError(
                    f"{self._model}: the request cannot be written: {answer.message}", "see extra"
                )

    async def read_answer(self, body: Mapping[str, Any], content: bytes) -> Answer:
        """The provider's answer to a `batch_body` as the answer of a chat completion."""
        return await self.translator.read(body, content)

    @property
    def translator(self) -> "Translator":
        """What writes and reads in the provider's form."""
        self._translator = self._translator or Translator(self._model)
        return self._translator


def litellm_route(model: str, base_url: str | None, api_key_env: str | None) -> Route:
    """The way to a model through LiteLLM. Raises ProviderError for a key that is not set."""
    provider = provider_of(model)
    key_name, key = find_key(model, base_url, api_key_env)
    key_at = key_place(key_name) if key else f"the credentials that LiteLLM finds for {provider}"
    known = PROVIDERS.get(provider)
    place = public_url(base_url) if base_url else known.host if known else f"LiteLLM's provider {provider}"
    connect = partial(LiteLLMTransport, model, base_url, key, place)
    at = f"base_url = {place!r}" if base_url else "the variables of its provider"
    return Route(place, f"{provider} {place}", key_at, key, secrets(key), connect, at)


def find_key(model: str, base_url: str | None, api_key_env: str | None) -> tuple[str, str]:
    """The variable of the key, and the key, where LiteLLM is to be given one; `NO_KEY` for another address.

    Raises ProviderError where no variable is set that may hold one.
    """
    if api_key_env is not None:
        return api_key_env, read_key(api_key_env, model)
    if base_url is not None:
        return "", NO_KEY
    known = PROVIDERS.get(provider_of(model))
    names = known.keys if known else ()
    set_names = [name for name in names if os.environ.get(name, "").strip()]
    if not set_names:
        return (names[0], read_key(names[0], model)) if names else ("", "")
    return set_names[0], read_key(set_names[0], model)


def secrets(key: str) -> tuple[str, ...]:
    """The key, and whatever else the environment holds under a name of a secret, longest first."""
    values = {value.strip() for name, value in os.environ.items() if SECRET.search(name)}
    kept = {value for value in values if len(value) >= SHORTEST_SECRET} | ({key} if key else set())
    return tuple(sorted(kept, key=len, reverse=True)) or (NO_KEY,)


def load() -> Any:
    """Import LiteLLM with everything off that sends, prints or stores. Raises ProviderError without it."""
    os.environ.update(OFFLINE)
    try:
        library = importlib.import_module("litellm")
    except ImportError as error:
        raise ProviderError(
            f'backend = "litellm" needs the package litellm ({error})', "pip install 'trustescalate[litellm]'"
        ) from error
    for name, value in SWITCHES.items():
        setattr(library, name, value)
    for name in CALLBACKS:
        setattr(library, name, [])
    for name in LOGGERS:
        logging.getLogger(name).disabled = True
    return library


def must_be_known(library: Any, provider: str) -> None:
    """Raise ProviderError for a provider that LiteLLM does not know."""
    known = sorted(str(getattr(each, "value", each)) for each in library.provider_list)
    if provider not in known:
        near = get_close_matches(provider, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else "see LiteLLM's list of providers"
        raise ProviderError(f"LiteLLM knows no provider {provider!r}", hint)


def own_client(provider: str, base_url: str | None, key: str) -> Any:
    """A client that follows no redirection, so that texts and keys stay at their address.

    None for a provider whose client cannot be given: LiteLLM makes one.
    """
    if provider == "openai":
        http = openai.DefaultAsyncHttpxClient(follow_redirects=False)
        return openai.AsyncOpenAI(
            api_key=key or NO_KEY, base_url=base_url or OPENAI_URL, http_client=http, max_retries=0
        )
    if provider not in OWN_CLIENT:
        return None
    handler = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    return handler.AsyncHTTPHandler(follow_redirects=False)


class LiteLLMTransport:
    """Sends chat completions through LiteLLM, once each. `client` replaces its connections."""

    def __init__(self, model: str, base_url: str | None, key: str, place: str, client: Any = None) -> None:
        self._library, self._place, self._provider = load(), place, provider_of(model)
        self._given: dict[str, Any] = {"num_retries": 0, "max_retries": 0, "caching": False}
        if base_url is not None:
            self._given["api_base"] = base_url
        if key:
            self._given["api_key"] = key
        must_be_known(self._library, self._provider)
        self._client = own_client(self._provider, base_url, key) if client is None else client
        if self._client is not None:
            self._given["client"] = self._client

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def send(self, call: Call, seconds: float) -> Answer:
        """Send a call, in OpenAI's fields, and return its answer in OpenAI's form."""
        try:
            assert call.body is not None, "LiteLLM is only asked for chat completions"
            fields = json.loads(call.body())
            async with asyncio.timeout(seconds):
                response = await self._library.acompletion(**fields, **self._given, timeout=seconds)
            return Answer(200, _headers(response), response.model_dump_json().encode("utf-8", "replace"))
        except TimeoutError:
            return Answer(failed="timeout", why=f"no answer within {seconds:.3g} s")
        except UnicodeEncodeError:
            return Answer(failed="bad_request", why="the text holds half of a surrogate pair")
        except Exception as error:  # LiteLLM's, its providers', and any that those let through
            return self._failed(error, seconds)

    def _failed(self, error: Exception, seconds: float) -> Answer:
        """The answer that an exception of LiteLLM stands for."""
        chain = list(causes(error))
        kind = type(error).__name__
        if kind == "Timeout":
            return Answer(failed="timeout", why=f"no answer within {seconds:.3g} s")
        message = " ".join(str(getattr(error, "message", "") or error).split())
        refused = _UNSUPPORTED.search(message)
        if refused is not None:
            why = f"the provider {self._provider} does not support {refused[1]}"
            return _error_answer(400, {}, {"message": why, "code": UNSUPPORTED})
        status = next(_statuses(chain), 0)
        if any(isinstance(cause, ValueError) and _is_of_json(cause) for cause in chain) or status == 200:
            return Answer(200, {}, b"the answer is no completion")
        if status in (0, 500) and any(map(_is_of_transport, chain)):
            return Answer(failed="unreachable", why=connection_error(error, self._place))
        if kind == "ContentPolicyViolationError":
            return _error_answer(400, {}, {"message": "content policy", "code": "content_filter"})
        if any(type(cause).__name__.endswith("CredentialsError") for cause in chain):
            status = 401
        shown = _ADVICE.sub("", _PREAMBLE.sub("", message))
        body = _json_in(shown) or {"error": {"message": shown}}
        return Answer(status or 500, _headers_of(chain), json.dumps(body).encode())


_turn: ContextVar["_Turn"] = ContextVar("turn")


@dataclass(slots=True)
class _Turn:
    """One request that is written and not sent, and the answer that is read in its place."""

    answer: bytes = b""
    sent: bytes | None = None


class Translator:
    """Writes requests and reads answers in a provider's form, as LiteLLM does in a live call; sends none."""

    def __init__(self, model: str) -> None:
        httpx = importlib.import_module("httpx")
        handler = importlib.import_module("litellm.llms.custom_httpx.http_handler")

        async def answer(request: Any) -> Any:
            turn = _turn.get()
            turn.sent = await request.aread()
            return httpx.Response(200, content=turn.answer, request=request)

        wire = httpx.MockTransport(answer)
        client = handler.AsyncHTTPHandler(transport=wire, follow_redirects=False)
        self._transport = LiteLLMTransport(model, NOWHERE, NO_KEY, NOWHERE, client)

    async def close(self) -> None:
        """Close the client."""
        await self._transport.close()

    async def params(self, body: Mapping[str, Any]) -> tuple[dict[str, Any] | None, Answer]:
        """The provider's form of a request; None with LiteLLM's refusal."""
        turn, answer = await self._turn(body, b"{}")
        sent = None if turn.sent is None else json.loads(turn.sent)
        return sent, answer

    async def read(self, body: Mapping[str, Any], content: bytes) -> Answer:
        """The provider's answer to a request in OpenAI's form."""
        return (await self._turn(body, content))[1]

    async def _turn(self, body: Mapping[str, Any], content: bytes) -> tuple[_Turn, Answer]:
        turn, fields = _Turn(content), json.dumps(body).encode()
        mark = _turn.set(turn)
        try:
            return turn, await self._transport.send(Call("POST", "", lambda: fields), TRANSLATION)
        finally:
            _turn.reset(mark)


def _error_answer(status: int, headers: Mapping[str, str], error: Mapping[str, str]) -> Answer:
    return Answer(status, headers, json.dumps({"error": error}).encode())


def _json_in(text: str) -> dict[str, Any] | None:
    """The provider's own JSON in the text of an exception."""
    try:
        body, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _is_of_json(error: ValueError) -> bool:
    return isinstance(error, json.JSONDecodeError)


def _is_of_transport(error: BaseException) -> bool:
    of_library = type(error).__module__.partition(".")[0] in TRANSPORT_ERRORS
    return isinstance(error, OSError) or (of_library and not hasattr(error, "response"))


def _statuses(chain: list[BaseException]) -> Iterator[int]:
    """The HTTP statuses that a chain of errors names, the innermost first."""
    for error in chain:
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and 200 <= status < 600:
            yield status


def _headers_of(chain: list[BaseException]) -> Mapping[str, str]:
    """The headers of the answer that a chain of errors stands for."""
    for error in chain:
        for holder in (error, getattr(error, "response", None)):
            for name in ("litellm_response_headers", "headers"):
                headers = getattr(holder, name, None)
                if isinstance(headers, Mapping) and headers:
                    return {str(key).lower(): str(value) for key, value in headers.items()}
    return {}


def _headers(response: Any) -> Mapping[str, str]:
    """The provider's headers of a success, which LiteLLM keeps under names of its own."""
    hidden = getattr(response, "_hidden_params", None) or {}
    headers = hidden.get("additional_headers") or {}
    return {str(name).lower().removeprefix("llm_provider-"): str(value) for name, value in headers.items()}
