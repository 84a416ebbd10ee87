"""Define [[judges]]: one table for each value of `backend`."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from trustescalate.config.base import NO_VERDICT, Open, Table
from trustescalate.config.providers import (
    BATCH_PROVIDERS,
    PROVIDERS,
    listed_price,
    must_be_no_connection,
    provider_of,
)
from trustescalate.records import Mode


class Price(Table):
    """USD per million tokens, and per call. Cached input defaults to the price of input.

    `source` says where the price is from; without a price of its own a judge by LiteLLM has that of its list.
    """

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)
    cached_input: float | None = Field(None, ge=0)
    request: float = Field(0.0, ge=0)
    source: str | None = Field(None, max_length=80, description="where the price is from; shown beside it")


class _Judge(Table):
    name: str = Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")
    price: Annotated[Price, NO_VERDICT] = Price()
    bills: ClassVar[bool] = False

    @property
    def has_price(self) -> bool:
        """Whether its cost is known: its price is given, or it is of a kind that costs nothing."""
        return not self.bills or "price" in self.model_fields_set


class _ModelJudge(_Judge):
    channel: Literal["auto", "logprobs", "samples"] = Field(
        "auto", description="source of the label probabilities; auto: log-probabilities if the model has them"
    )
    mode: Mode = Field(
        "direct", description="verdict alone, after reasoning, as JSON, or with a verbalized confidence"
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="length limit of a reply, hidden reasoning included; default: as the mode needs",
    )
    prompt: str | None = Field(
        None, description="prompt file of this judge, instead of [prompts] and the shipped one"
    )

    @model_validator(mode="after")
    def _stated_is_a_channel(self) -> Self:
        if self.mode == "stated" and self.channel != "auto":
            raise ValueError('mode = "stated" is a channel of its own; remove channel')
        return self


def _addresses(value: Any) -> Any:
    """One address, or several in sorted order: their order means nothing. A list of one is that one."""
    if value is None:
        return None
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(url, str) for url in listed):
        raise ValueError("must be an address, or a list of addresses")
    if not listed:
        raise ValueError("the list holds no address")
    for url in listed:
        _must_be_an_address(url)
    places = [url.rstrip("/") for url in listed]
    if twice := next((url for url in places if places.count(url) > 1), None):
        raise ValueError(f"{twice} is named twice")
    return listed[0] if len(listed) == 1 else tuple(sorted(listed))


def _must_be_an_address(url: str) -> None:
    if "@" in url or "?" in url or "#" in url:
        raise ValueError("must hold no user, password or query; name a key by api_key_env")
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("must start with http:// or https:// and a host")


Addresses = Annotated[str | tuple[str, ...], BeforeValidator(_addresses)]


class _Reached(Table):
    """Connection to an endpoint; never a key."""

    bills: ClassVar[bool] = True
    model: str
    base_url: Addresses | None = Field(
        None, description="address, or list of addresses that serve this one model; the least busy is asked"
    )
    same_model_as: Addresses | None = Field(
        None, description="base_url with which this very model was certified; base_url may then be another"
    )
    api_key_env: Annotated[str | None, NO_VERDICT] = Field(
        None, description="NAME of the environment variable that holds the key"
    )
    concurrency: Annotated[int, NO_VERDICT] = Field(
        16, ge=1, description="most requests open at once, at each address; fewer while it limits the rate"
    )
    timeout: Annotated[float, NO_VERDICT] = Field(60.0, gt=0, description="seconds per attempt")
    attempts: Annotated[int, NO_VERDICT] = Field(6, ge=1)
    give_up_after: Annotated[float, NO_VERDICT] = Field(
        300.0, gt=0, description="seconds per request, all attempts included"
    )
    extra: Open = Field(
        default_factory=dict,
        description="additional fields of the request body; temperature = false leaves that field away",
    )

    @property
    def key_names(self) -> tuple[str, ...]:
        """The environment variables one of which must hold a key, where `api_key_env` names none."""
        return ("OPENAI_API_KEY",) if self.base_url is None else ()

    @field_validator("api_key_env")
    @classmethod
    def _a_name_and_no_key(cls, name: str | None) -> str | None:
        if name is None or re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", name):
            return name
        raise ValueError("must be the NAME of an environment variable in capitals, never a key")

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses in `base_url`; none for the default one."""
        if self.base_url is None:
            return ()
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url

    @property
    def slots(self) -> int:
        """The most requests open at once, at all addresses together."""
        return self.concurrency * max(1, len(self.addresses))


class _Paced(_Reached):
    """Connection to an endpoint with rate limits of its own."""

    requests_per_minute: Annotated[float | None, NO_VERDICT] = Field(
        None, gt=0, description="rate limit in requests, of all addresses together"
    )
    tokens_per_minute: Annotated[float | None, NO_VERDICT] = Field(
        None, gt=0, description="rate limit in tokens, input and output, of all addresses together"
    )


class _ChatJudge(_Paced, _ModelJudge):
    batch_discount: Annotated[float, NO_VERDICT] = Field(
        0.5, gt=0, le=1, description="price of the Batch API as a share of the regular price"
    )
    batches_in_flight: Annotated[int, NO_VERDICT] = Field(
        8, ge=1, description="most batches of this judge in progress at once"
    )

    @property
    def has_batches(self) -> bool:
        """Whether requests can go through a Batch API, which lies at one address."""
        return len(self.addresses) < 2


class OpenAIJudge(_ChatJudge):
    """A model behind any OpenAI-compatible endpoint."""

    backend: Literal["openai"]


class LiteLLMJudge(_ChatJudge):
    """A model of a provider that LiteLLM calls in its own API, as of Anthropic, Bedrock or Vertex."""

    backend: Literal["litellm"]
    model: str = Field(
        pattern=r"^[a-z0-9_]+/[^\s\x00-\x1f\x7f]+$",
        description="LiteLLM's name of the provider, a slash, the model",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_the_listed_price(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "price" in value or not isinstance(value.get("model"), str):
            return value
        price = listed_price(value["model"])
        return value if price is None else {**value, "price": price}

    @model_validator(mode="after")
    def _names_no_other_connection(self) -> Self:
        if "://" in self.model:
            raise ValueError("model holds an address; name it by base_url")
        if self.base_url is not None and PROVIDERS.get(self.provider, PROVIDERS["openai"]).own_credentials:
            raise ValueError(f"{self.provider}/ takes no base_url: its credentials would be sent there")
        must_be_no_connection(self.extra)
        return self

    @property
    def has_batches(self) -> bool:
        """Whether requests can go through a Batch API, which lies at one address."""
        return self.provider in BATCH_PROVIDERS and len(self.addresses) < 2

    @property
    def provider(self) -> str:
        """LiteLLM's name of the provider."""
        return provider_of(self.model)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The environment variables one of which must hold a key; none where that is not known."""
        if self.base_url is not None or self.provider not in PROVIDERS:
            return ()
        return PROVIDERS[self.provider].keys


class _OwnModel(_Judge):
    model: str = Field(min_length=1, description="folder, or name on the Hugging Face hub")
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    adapter: str | None = Field(None, description="PEFT adapter: folder, or name on the hub")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: the format of the stored weights"
    )
    device: Annotated[str, NO_VERDICT] = Field(
        "auto", description='torch device; auto: the GPU if there is one; "spread": all devices'
    )
    attn_implementation: Annotated[str | None, NO_VERDICT] = Field(
        None, description="attention implementation of transformers, for prompts without a shared prefix"
    )
    quantize: Literal["int8-dynamic", "bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8"] | None = None
    chat_template: Literal["auto", "none"] = Field("auto", description="none: plain text, for a base model")
    batch_size: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], NO_VERDICT] = Field(
        "auto", description="requests per forward pass; auto: tuned at run time; halved if memory runs out"
    )
    concurrency: Annotated[int, NO_VERDICT] = Field(
        64, ge=1, description='items in flight, and the largest batch of batch_size = "auto"'
    )


class LocalJudge(_OwnModel, _ModelJudge):
    """A Hugging Face model on this machine."""

    backend: Literal["local"]
    mode: Literal["direct"] = Field("direct", description="a local model answers with one token")
    prefix_mib: Annotated[int, NO_VERDICT] = Field(
        2048, ge=1, description="memory for shared prompt prefixes (keys and values), in MiB"
    )


class VLLMJudge(_ModelJudge):
    """A Hugging Face model on vLLM's engine in this process, with prefix caching."""

    backend: Literal["vllm"]
    mode: Literal["direct"] = Field("direct", description="a local model answers with one token")
    model: str = Field(min_length=1, description="folder, or name on the Hugging Face hub")
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: as vLLM chooses for the stored weights"
    )
    quantization: str | None = Field(
        None, description='vLLM\'s quantization, as "fp8"; default: as the weights are stored'
    )
    chat_template: Literal["auto", "none"] = Field("auto", description="none: plain text, for a base model")
    max_model_len: int | None = Field(
        None, ge=2, description="tokens of a prompt and its reply; default: the model's own context"
    )
    tensor_parallel_size: Annotated[int, NO_VERDICT] = Field(1, ge=1, description="number of GPUs")
    gpu_memory_utilization: Annotated[float | None, NO_VERDICT] = Field(
        None, gt=0, le=1, description="share of a GPU's memory for weights and cache; default: vLLM's own"
    )
    concurrency: Annotated[int, NO_VERDICT] = Field(
        256, ge=1, description="most requests given to the engine at once"
    )


class RewardJudge(_OwnModel):
    """A reward model on this machine (a sequence-classification head with one output)."""

    backend: Literal["reward"]
    scale: float = Field(1.0, gt=0, description="temperature: scores are divided by it before the sigmoid")


class ReplayJudge(_Judge):
    """Votes recorded earlier. `of` names the judge whose rows to take, if not this one's name."""

    backend: Literal["replay"]
    votes: str
    of: str | None = None


class SimulatedJudge(_ModelJudge):
    """A simulated judge of the demo world."""

    backend: Literal["simulated"]
    model: Literal["XS", "S", "M"]
    seed: int = 0


class MockJudge(_ModelJudge):
    """A mock judge for tests: a fixed reply, or a label by a hash of the prompt. Free."""

    backend: Literal["mock"]
    reply: str = Field("", description="reply to every prompt; empty: a label by the prompt's hash")
    confidence: float = Field(0.9, gt=0, le=1, description="probability of the reply's label")


class ClassicalJudge(_Judge):
    """A scikit-learn model of the texts. Free."""

    backend: Literal["classical"]
    model: Literal["logistic", "boosted"] = "logistic"
    fit_on: Literal["labels", "last_judge"] = Field(
        "labels",
        description="human labels of the roles exemplars and dev, or the last judge's verdicts on the pilot",
    )
    seed: int = Field(0, ge=0, description="seed of the cross-fitting folds")


class CallableJudge(_Judge):
    """A user-defined Python function in this process, imported when judges are opened."""

    backend: Literal["callable"]
    function: str = Field(description='"module:name", the module next to this file or installed')
    version: str = Field(
        min_length=1, description="version of the function; change it with every change of its answers"
    )
    concurrency: Annotated[int, NO_VERDICT] = Field(4, ge=1, description="most calls at once")
    timeout: Annotated[float, NO_VERDICT] = Field(60.0, gt=0, description="seconds per call")

    @field_validator("function")
    @classmethod
    def _names_a_function(cls, function: str) -> str:
        module, _, name = function.partition(":")
        if all(part.isidentifier() for part in (*module.split("."), name)):
            return function
        raise ValueError('must be "module:name", as in "my_judges:longer"')


class ScoreJudge(_Reached, _Judge):
    """A reward model or reranker behind an endpoint: one score per response."""

    backend: Literal["score"]
    base_url: Addresses = Field(
        description="address, or list of addresses that serve this one model; the least busy is asked"
    )
    api: Literal["score", "rerank", "tei"] = Field(
        "score", description="API dialect: vLLM's /score; /rerank of Cohere, Jina and vLLM; or /rerank of TEI"
    )
    scale: float = Field(
        1.0, gt=0, description="temperature: score difference that corresponds to odds of e to 1"
    )
    decision_threshold: float = Field(
        0.0, description="binary: score at which both labels are equally likely"
    )


class DecisionsJudge(_Paced, _Judge):
    """A decision model behind an endpoint: a probability for each answer in one call, no text."""

    backend: Literal["decisions"]
    api: Literal["decisions", "systemone"] = Field(
        "decisions",
        description="API dialect: decisions: OpenAI's Decisions API; systemone: the System One API",
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if self.api == "systemone" and self.base_url is None:
            raise ValueError('api = "systemone" has no default address: set base_url, without /systemone')
        return self


class PluginJudge(_ModelJudge):
    """A backend from another package (entry point group `trustescalate.backends`)."""

    bills: ClassVar[bool] = True
    backend: str
    options: Open = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_options(cls, value: Any) -> Any:
        keys = [key for key in value if key not in cls.model_fields] if isinstance(value, dict) else []
        if keys and isinstance(value.get("backend"), str):
            near = get_close_matches(value["backend"], BUILT_IN, 1)
            raise ValueError(
                f"backend {value['backend']!r} is not built in"
                + (f": did you mean {near[0]!r}?" if near else f" ({', '.join(BUILT_IN)} are)")
                + f" (A plugin takes {', '.join(map(repr, keys))} in options.)"
            )
        return value


def _backend_of(value: Any) -> str:
    backend = value.get("backend") if isinstance(value, dict) else getattr(value, "backend", None)
    return backend if backend in BUILT_IN else "plugin"


ChatTable = OpenAIJudge | LiteLLMJudge
"""Tables of models behind an endpoint that are asked in chat completions, and may have a Batch API."""
ModelTable = ChatTable | LocalJudge | VLLMJudge | MockJudge | SimulatedJudge | PluginJudge
"""Tables of models that are shown a prompt; a judge of its own reads items in its own way."""
EndpointTable = ChatTable | ScoreJudge | DecisionsJudge
"""Tables of models behind an endpoint."""
AskedTable = ModelTable | RewardJudge | CallableJudge | ScoreJudge | DecisionsJudge
ENDPOINTS = ("openai", "litellm", "score", "decisions")
"""The backends of endpoints, whose calls cost something."""
JUDGE_TABLES: Mapping[str, type[_Judge]] = {
    "openai": OpenAIJudge,
    "litellm": LiteLLMJudge,
    "local": LocalJudge,
    "vllm": VLLMJudge,
    "reward": RewardJudge,
    "replay": ReplayJudge,
    "mock": MockJudge,
    "simulated": SimulatedJudge,
    "classical": ClassicalJudge,
    "callable": CallableJudge,
    "score": ScoreJudge,
    "decisions": DecisionsJudge,
    "plugin": PluginJudge,
}
BUILT_IN = tuple(JUDGE_TABLES)[:-1]
JudgeTable = Annotated[
    Annotated[OpenAIJudge, Tag("openai")]
    | Annotated[LiteLLMJudge, Tag("litellm")]
    | Annotated[LocalJudge, Tag("local")]
    | Annotated[VLLMJudge, Tag("vllm")]
    | Annotated[RewardJudge, Tag("reward")]
    | Annotated[ReplayJudge, Tag("replay")]
    | Annotated[MockJudge, Tag("mock")]
    | Annotated[SimulatedJudge, Tag("simulated")]
    | Annotated[ClassicalJudge, Tag("classical")]
    | Annotated[CallableJudge, Tag("callable")]
    | Annotated[ScoreJudge, Tag("score")]
    | Annotated[DecisionsJudge, Tag("decisions")]
    | Annotated[PluginJudge, Tag("plugin")],
    Discriminator(_backend_of),
]
