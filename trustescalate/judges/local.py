"""A Hugging Face model on this machine: one forward pass a question, read at the next token.

Needs the extra `trustescalate[local]` (torch, transformers). Model code from the hub is never run.
"""

import asyncio
import hashlib
import inspect
import math
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trustescalate.errors import ConfigError, ProviderError
from trustescalate.types import Message, Reply, Request, Token, Usage

ALTERNATIVES = 20


class LocalBackend:
    """A causal language model from a folder or the hub.

    `dtype` is a torch name ("bfloat16") or "auto", as the weights are stored; `device` is a torch device or
    "auto", the GPU if there is one. Requests are answered one at a time, in a thread of their own.

    Raises `ConfigError` without torch and transformers, `ProviderError` if the model cannot be loaded.
    """

    def __init__(
        self, *, model: str, dtype: str = "auto", device: str = "auto", attn_implementation: str | None = None
    ) -> None:
        self._torch, transformers = _import()
        cuda = self._torch.cuda.is_available()
        self._device = ("cuda" if cuda else "cpu") if device == "auto" else device
        settings = {"dtype": dtype, "attn_implementation": attn_implementation}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                model, trust_remote_code=False, **settings
            )
            self._model = loaded.to(self._device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            hint = "check model (a folder, or a name on the hub), dtype and device"
            raise ProviderError(f"the model {model!r} cannot be loaded: {error}", hint) from error
        self._last_only = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        self._context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._special = _special(self._tokenizer)
        self._vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        self._variants: dict[tuple[str, ...], list[int]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-judge")

    async def complete(self, request: Request) -> Reply:
        """Answer one request. The reply is a single token, so `finish` is always "length"."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, request)

    async def close(self) -> None:
        """Finish the pass under way and drop the rest."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def _answer(self, request: Request) -> Reply:
        ids = self._encode(request.messages)
        usage = Usage(1, len(ids), 0, 1)
        if self._context is not None and len(ids) > self._context:
            text = f"{len(ids)} tokens do not fit into the model's context of {self._context}"
            return Reply(text, None, "stop", Usage(), "bad_request")
        try:
            logprobs = self._next_token(ids)
        except self._torch.cuda.OutOfMemoryError:
            return Reply(f"{len(ids)} tokens do not fit into memory", None, "stop", usage, "bad_request")
        if bool(self._torch.isnan(logprobs).any()):
            return Reply("the model's output is not a number", None, "stop", usage, "bad_reply")
        if not request.logprobs:
            return Reply(self._text(self._draw(logprobs, request)), None, "length", usage)
        token = self._token(logprobs, request.symbols)
        return Reply(token.text, (token,), "length", usage)

    def _next_token(self, ids: Sequence[int]) -> Any:
        """Log-probabilities of the next token, shape (v,), in single precision on the CPU."""
        inputs = self._torch.tensor([ids], device=self._device)
        last = {"logits_to_keep": 1} if self._last_only else {}
        with self._torch.inference_mode():
            logits = self._model(input_ids=inputs, use_cache=False, **last).logits[0, -1]
            return self._torch.log_softmax(logits.float(), dim=-1).cpu()

    def _token(self, logprobs: Any, symbols: tuple[str, ...]) -> Token:
        """The likeliest token; tokens that read alike are one alternative, with their summed mass."""
        top = logprobs.topk(min(ALTERNATIVES, len(logprobs))).indices.tolist()
        merged: dict[str, float] = {}
        for i in dict.fromkeys([*top, *self._spellings(symbols)]):
            text, logprob = self._text(i), float(logprobs[i])
            merged[text] = _logaddexp(merged.get(text, -math.inf), logprob)
        return Token(self._text(top[0]), tuple(merged.items()))

    def _draw(self, logprobs: Any, request: Request) -> int:
        """One draw at the request's temperature; the same request draws the same token."""
        if request.temperature <= 0:
            return int(logprobs.argmax())
        seed = int.from_bytes(hashlib.sha256(repr(request).encode("utf-8", "replace")).digest()[:8], "big")
        generator = self._torch.Generator().manual_seed(seed)
        probs = self._torch.softmax(logprobs / request.temperature, dim=-1)
        return int(self._torch.multinomial(probs, 1, generator=generator))

    def _spellings(self, symbols: tuple[str, ...]) -> list[int]:
        """Tokens with which a symbol may start, however unlikely: any case, after a space, only its head."""
        if symbols not in self._variants:
            forms = {form for s in symbols for form in (s, s.lower(), s.upper(), s.capitalize())}
            heads = {space + form[:n] for form in forms for space in ("", "▁", "Ġ") for n in _lengths(form)}
            encoded = [self._ids(space + form)[:1] for form in sorted(forms) for space in ("", " ")]
            found = {self._vocabulary[head] for head in heads if head in self._vocabulary}
            self._variants[symbols] = sorted(found.union(*encoded))
        return self._variants[symbols]

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        turns = [{"role": m.role, "content": self._defuse(m.content)} for m in messages]
        if self._tokenizer.chat_template is None:
            text = "\n\n".join([f"{turn['role']}: {turn['content']}" for turn in turns] + ["assistant:"])
            return list(self._tokenizer(text)["input_ids"])
        try:
            return self._ids(self._templated(turns))
        except Exception:  # templates raise what they like where they know no system role
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise
            first, second, *rest = turns
            joined = {"role": second["role"], "content": f"{first['content']}\n\n{second['content']}"}
            return self._ids(self._templated([joined, *rest]))

    def _templated(self, turns: Sequence[dict[str, str]]) -> str:
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return text

    def _defuse(self, text: str) -> str:
        """Split control tokens inside a text by a space: read as such, they would end its turn."""
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, token: int) -> str:
        text: str = self._tokenizer.decode([token])
        return text


def _import() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        hint = "pip install 'trustescalate[local]'"
        raise ConfigError('the backend "local" needs torch and transformers', hint) from error
    return torch, transformers


def _special(tokenizer: Any) -> re.Pattern[str]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    names = sorted({name for name in added if len(name) > 1}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _lengths(form: str) -> Iterable[int]:
    return range(1, len(form) + 1)


def _logaddexp(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
