"""A stand-in for the package vllm, which needs a GPU: the part of its API that is used, on transformers.

Arguments, limits and outputs are those of vllm 0.33; a model is computed whole, one prompt at a time.
"""

import sys
import threading
import time
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

BLOCK = 16
"""Tokens of a block: only full ones are cached."""


@dataclass(kw_only=True)
class SamplingParams:
    """The parameters that vllm has under these names."""

    max_tokens: int = 16
    temperature: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    detokenize: bool = True


@dataclass
class Logprob:
    """A token's log-probability."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class Core:
    """The engine behind a model."""

    stopped: bool = False

    def shutdown(self, timeout: float | None = None) -> None:
        self.stopped = True


@dataclass(kw_only=True)
class LLM:
    """A model; `calls` are the numbers of prompts that it was given at once, `threads` who gave them."""

    model: str
    dtype: str = "auto"
    quantization: str | None = None
    revision: str | None = None
    tokenizer_revision: str | None = None
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.92
    max_model_len: int | None = None
    max_logprobs: int = 20
    enable_prefix_caching: bool | None = None
    calls: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    delay: float = 0.0

    def __post_init__(self) -> None:
        dtype = {"auto": "float32"}.get(self.dtype, self.dtype)
        self._network = transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=dtype).eval()
        longest = self.max_model_len or self._network.config.max_position_embeddings
        model_config = SimpleNamespace(max_model_len=longest)
        self.llm_engine = SimpleNamespace(model_config=model_config, engine_core=Core())
        self._cached = set[tuple[int, ...]]()
        opened.append(self)

    def generate(
        self, prompts: list[dict[str, list[int]]], sampling_params: list[SamplingParams], *, use_tqdm: bool
    ) -> list[Any]:
        assert not use_tqdm, "a bar on the terminal"
        assert len(prompts) == len(sampling_params)
        if self.llm_engine.engine_core.stopped:
            raise RuntimeError("EngineCore encountered an issue")
        self.calls.append(len(prompts))
        self.threads.add(threading.get_ident())
        time.sleep(self.delay)
        asked = [prompt["prompt_token_ids"] for prompt in prompts]
        return [self._answer(ids, each) for ids, each in zip(asked, sampling_params, strict=True)]

    def _answer(self, ids: list[int], asked: SamplingParams) -> Any:
        if len(ids) >= self.llm_engine.model_config.max_model_len:
            raise ValueError(f"The decoder prompt (length {len(ids)}) is longer than the maximum")
        if (asked.logprobs or 0) > self.max_logprobs:
            raise ValueError(f"Requested sample logprobs of {asked.logprobs}, which is greater than allowed")
        draws = torch.Generator().manual_seed(asked.seed or 0)
        written: list[int] = []
        places: list[dict[int, Logprob]] = []
        for _ in range(asked.max_tokens):
            with torch.no_grad():
                logits = self._network(torch.tensor([ids + written])).logits[0, -1].float()
            logprobs = torch.log_softmax(logits, -1)
            token = int(logprobs.argmax())
            if asked.temperature > 0:
                token = int(torch.multinomial((logprobs / asked.temperature).exp(), 1, generator=draws))
            written.append(token)
            best = logprobs.topk(min(asked.logprobs or 1, len(logprobs))).indices.tolist()
            places.append({each: Logprob(float(logprobs[each])) for each in dict.fromkeys([token, *best])})
        drawn = SimpleNamespace(
            token_ids=tuple(written),
            logprobs=None if asked.logprobs is None else places,
            finish_reason="length",
            text="" if not asked.detokenize else "…",
        )
        return SimpleNamespace(outputs=[drawn], num_cached_tokens=self._found(ids))

    def _found(self, ids: list[int]) -> int:
        """The tokens of a prompt in full blocks that an earlier one has, too."""
        blocks = [tuple(ids[:end]) for end in range(BLOCK, len(ids), BLOCK)]
        shared = sum(block in self._cached for block in blocks) * BLOCK
        self._cached.update(blocks)
        return shared if self.enable_prefix_caching else 0


opened: list[LLM] = []
"""The models that were loaded, the last one last."""


def use_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import vllm` give this stand-in."""
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    opened.clear()
