"""Run a causal language model in this process on vLLM's engine, which shares the prefixes of prompts.

Waiting requests go to the engine together, in a thread of their own; a verdict is one token, read at its
log-probabilities as those of `judges.local`.
"""

import gc
import importlib
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trustescalate.errors import ConfigError, ProviderError
from trustescalate.judges.local.batching import Batcher, BatchSize
from trustescalate.judges.local.replies import ALTERNATIVES, reads, reply_of, seed_of, token_of, too_long
from trustescalate.judges.local.text import ChatText
from trustescalate.records import Reply, Request, Token, Usage

READ = 128
"""The likeliest tokens at the place of a verdict, among which its spellings are read."""
QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
"""Variables read at its import: no telemetry, and nothing on the standard output."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A request in token ids. The engine takes requests of all kinds together."""

    request: Request
    ids: list[int]
    group: Hashable = None

    @property
    def size(self) -> int:
        """Tokens."""
        return len(self.ids)


class VLLMBackend:
    """A causal language model from a folder or the hub, on vLLM's engine in this process.

    `dtype`, `quantization`, `tensor_parallel_size`, `gpu_memory_utilization` and `max_model_len` are the
    engine's arguments; None leaves its default. Prefix caching is on. At most `concurrency` requests are
    given to the engine at once. A request for log-probabilities and no more tokens than a verdict is answered
    by a single one, its `finish` being "length"; others are generated to the end.

    Raises `ConfigError` without the package, `ProviderError` if the model cannot be loaded, or the engine
    stops.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        dtype: str = "auto",
        quantization: str | None = None,
        chat_template: Literal["auto", "none"] = "auto",
        max_model_len: int | None = None,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float | None = None,
        concurrency: int = 256,
    ) -> None:
        library, transformers = _import()
        self._model, self._sampling = model, library.SamplingParams
        try:
            source = {"revision": revision, "trust_remote_code": False}
            limits = {
                "max_model_len": max_model_len,
                "gpu_memory_utilization": gpu_memory_utilization,
                "quantization": quantization,
            }
            self.text = ChatText(
                transformers.AutoTokenizer.from_pretrained(model, **source), template=chat_template == "auto"
            )
            self._engine = library.LLM(
                model=model,
                **source,
                tokenizer_revision=revision,
                dtype=dtype,
                tensor_parallel_size=tensor_parallel_size,
                **{name: value for name, value in limits.items() if value is not None},
                max_logprobs=READ,
                enable_prefix_caching=True,
            )
        except Exception as error:  # the engine's, which starts processes of its own
            hint = "check model, dtype, max_model_len, gpu_memory_utilization and tensor_parallel_size"
            raise ProviderError(f"vLLM cannot load the model {model!r}: {error}", hint) from error
        self._context: int = self._engine.llm_engine.model_config.max_model_len
        self._batcher: Batcher[Request, _Question, Reply] = Batcher(
            lambda request: _Question(request, self.text.encode(request.messages)),
            self._answered,
            BatchSize(concurrency, most=concurrency),
        )

    async def complete(self, request: Request) -> Reply:
        """Answer one request, together with others that are waiting."""
        return await self._batcher.ask(request)

    async def close(self) -> None:
        """Finish the current batch, drop the rest, and free the engine's memory."""
        await self._batcher.close()
        core = getattr(self._engine.llm_engine, "engine_core", None)
        self._engine = None
        if core is not None:
            core.shutdown()
        gc.collect()

    def _answered(self, questions: Sequence[_Question]) -> list[Reply]:
        """Reply to the requests of one call of the engine."""
        fitting = [question for question in questions if question.size < self._context]
        try:
            outputs = iter(
                self._engine.generate(
                    [{"prompt_token_ids": question.ids} for question in fitting],
                    [self._parameters(question) for question in fitting],
                    use_tqdm=False,
                )
                if fitting
                else ()
            )
        except Exception as error:
            raise ProviderError(
                f"vLLM stopped on {self._model!r}: {error}", "the messages of vLLM above name the cause"
            ) from error
        return [
            self._reply(question, next(outputs))
            if question.size < self._context
            else too_long(question.size, self._context)
            for question in questions
        ]

    def _parameters(self, question: _Question) -> Any:
        request, one = question.request, reads(question.request)
        return self._sampling(
            max_tokens=1 if one else min(request.max_tokens, self._context - question.size),
            temperature=max(request.temperature, 0.0),
            seed=seed_of(request) >> 1 if request.temperature > 0 else None,
            logprobs=READ if one else ALTERNATIVES if request.logprobs else None,
            detokenize=False,
        )

    def _reply(self, question: _Question, output: Any) -> Reply:
        (drawn,) = output.outputs
        ids, request = list(drawn.token_ids), question.request
        usage = Usage(1, question.size, output.num_cached_tokens or 0, len(ids))
        places = drawn.logprobs or []
        if reads(request):
            token = self._token(request, places[0])
            return reply_of(request, token.text, [token], usage)
        tokens = [self._token(request, place, chosen) for place, chosen in zip(places, ids, strict=False)]
        return reply_of(request, self.text.decoded(ids), tokens, usage, ended=drawn.finish_reason == "stop")

    def _token(self, request: Request, place: Any, chosen: int | None = None) -> Token:
        """The likeliest tokens of a place, and those after them with which a symbol may begin."""
        ordered = sorted(((token, each.logprob) for token, each in place.items()), key=lambda pair: -pair[1])
        spellings = set(self.text.spellings(request.symbols))
        kept = [pair for rank, pair in enumerate(ordered) if rank < ALTERNATIVES or pair[0] in spellings]
        return token_of(self.text, kept, chosen)


def _import() -> tuple[Any, Any]:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("vllm"), importlib.import_module("transformers")
    except ImportError as error:
        hint = "pip install 'trustescalate[vllm]', on a machine with a GPU that vLLM supports"
        raise ConfigError(f'backend = "vllm" needs the package vllm ({error})', hint) from error
