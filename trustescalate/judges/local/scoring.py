"""Compute next-token probabilities of many prompts, each shared prefix once.

Works on token ids only. Where a model's attention can be shared (`attention`), the prompts of a pass are
concatenated after a prefix that is never copied. A few tokens are compared when a model is loaded; with a
different result, or an error, each prompt is computed whole.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from trustescalate.judges.local import attention
from trustescalate.judges.local.batching import out_of_memory
from trustescalate.judges.local.loading import Loaded, quantized
from trustescalate.judges.local.text import common

TOLERANCE = {"torch.float64": 1e-4, "torch.float32": 1e-4}
LOOSE = 0.05
"""By how much a probability may differ, when a model is tried, from that of a prompt computed whole: by the
format of its numbers. What is wrong differs by far more; half precision rounds each step to 2 or 3 digits, so
that another order of the same sums shows."""

PROBE = (5, 4, 3)
"""Lengths of the comparison: a prefix and two items after it."""

GROWING_ROPE = ("dynamic", "longrope")
"""Position codes that change with the length of the input: a prefix then has other keys in each prompt."""


class SharedScorer:
    """Computes distributions over the next token, and generates text.

    Caches the keys and values of prefixes, least recently used dropped first, in at most `prefix_bytes` (at
    least one prefix). `notice` is called once if prompts have to be computed whole.
    """

    def __init__(
        self, loaded: Loaded, *, quantize: str | None, prefix_bytes: int, notice: Callable[[str], None]
    ) -> None:
        import torch

        self._torch = torch
        self._model = loaded.model
        self._device = loaded.device
        self._config = loaded.model.config.get_text_config()
        self._room = prefix_bytes
        self._prefixes: OrderedDict[tuple[int, ...], attention.Prefix] = OrderedDict()
        self._end = _forget_habits(loaded.model, loaded.tokenizer)
        self._window = getattr(self._config, "sliding_window", None)
        obstacle = _obstacle(self._config) or self._tried()
        self.shares = obstacle is None
        if obstacle is not None:
            notice(f"this model's prompts share no computation, which is slower: {obstacle}")
        self._model = quantized(loaded.model, quantize)

    @property
    def context(self) -> int | None:
        """The context length, if the model's configuration has one."""
        return getattr(self._config, "max_position_embeddings", None)

    @property
    def prefix_bytes(self) -> int:
        """The memory of the cached keys and values."""
        return sum(prefix.bytes for prefix in self._prefixes.values())

    def forget(self) -> None:
        """Drop all prefixes, and the cache of torch."""
        self._prefixes.clear()
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()

    def shared(self, prefix: tuple[int, ...], ids: Sequence[int]) -> int:
        """The number of tokens of a prompt that come from the prefix: all common ones but the last."""
        if not self.shares or (self._window is not None and len(ids) > self._window):
            return 0
        return common(prefix, tuple(ids[:-1]))

    def logprobs(self, prefix: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Any:
        """Natural log-probabilities of the next token, shape (n, v), in single precision on the device.

        `rows` are n whole prompts; `prefix` is what most of them begin with, and each is compared with it.
        """
        with self._torch.inference_mode():
            if not self.shares or (self._window is not None and max(map(len, rows)) > self._window):
                logits = self._torch.cat([self._whole(ids) for ids in rows])
            else:
                logits = self._packed(prefix, rows)
            return self._torch.log_softmax(logits.float(), dim=-1)

    def continued(
        self, prefix: tuple[int, ...], ids: Sequence[int], most: int, choice: Any
    ) -> list[list[int]]:
        """Generate up to `most` tokens after a prompt, once for each row of `choice`, an end token included.

        `choice` is a `LogitsProcessor` with as many `rows` as wanted; the token it leaves highest is taken.
        """
        torch = self._torch
        inputs = torch.tensor([ids] * choice.rows, device=self._device)
        with torch.inference_mode():
            generated = self._model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                past_key_values=self._copied(prefix, ids, choice.rows),
                max_new_tokens=most,
                logits_processor=[choice],
            )
        return [self._until_end(row) for row in generated[:, len(ids) :].tolist()]

    def ended(self, ids: Sequence[int]) -> bool:
        """Whether the model ended here of its own accord."""
        return bool(ids) and ids[-1] in self._end

    def _until_end(self, row: list[int]) -> list[int]:
        ends = [i for i, token in enumerate(row) if token in self._end]
        return row[: ends[0] + 1] if ends else row

    # ── passes ───────────────────────────────────────────────────────────────────────────────────

    def _whole(self, ids: Sequence[int]) -> Any:
        """One prompt alone, in the model's own way; logits of shape (1, v)."""
        inputs = self._torch.tensor([ids], device=self._device)
        return _last_logits(self._model, [len(ids) - 1], input_ids=inputs, use_cache=False)

    def _packed(self, prefix: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Any:
        shared = min(self.shared(prefix, ids) for ids in rows)
        known = self._known(prefix) if shared else None
        items = [ids[shared:] for ids in rows]
        packed = attention.Packed(known, shared, tuple(map(len, items)))
        return self._pass(packed, items, shared, [end - 1 for end in packed.ends])

    def _known(self, ids: tuple[int, ...]) -> attention.Prefix:
        """The keys and values of a prefix, computed if they are not held."""
        if ids not in self._prefixes:
            prefix = attention.Prefix(ids)
            self._pass(prefix, [ids], 0, [len(ids) - 1])
            self._prefixes[ids] = prefix
            while len(self._prefixes) > 1 and self.prefix_bytes > self._room:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(ids)
        return self._prefixes[ids]

    def _pass(
        self, sharing: attention.Sharing, items: Sequence[Sequence[int]], start: int, keep: list[int]
    ) -> Any:
        """Items one behind the other, each at positions from `start` on; logits at `keep`, shape (k, v)."""
        torch = self._torch
        ids = torch.tensor([[token for item in items for token in item]], device=self._device)
        places = torch.cat([torch.arange(start, start + len(item)) for item in items])[None].to(self._device)
        with attention.installed(self._model.config):
            return _last_logits(
                self._model, keep, input_ids=ids, position_ids=places, use_cache=False, sharing=sharing
            )

    def _copied(self, prefix: tuple[int, ...], ids: Sequence[int], rows: int) -> Any:
        """A cache of transformers that begins with the shared tokens, for a model that writes into it."""
        shared = self.shared(prefix, ids) if self._window is None else 0
        if not shared:
            return None
        from transformers import DynamicCache

        cache, known = DynamicCache(config=self._config), self._known(prefix)
        for layer, key in sorted(known.keys.items()):
            value = known.values[layer]
            copies = ((x[:, :, :shared].expand(rows, -1, -1, -1)) for x in (key, value))
            cache.update(*copies, layer)
        return cache

    # ── may it be shared? ────────────────────────────────────────────────────────────────────────

    def _tried(self) -> str | None:
        """Why this model's attention cannot be shared, by trial on a few tokens; None if it can."""
        vocabulary = int(self._config.vocab_size)
        draws = iter(range(1, 10**6))
        head, *items = [[next(draws) * 7919 % vocabulary for _ in range(length)] for length in PROBE]
        rows = [head + item for item in items]
        try:
            with self._torch.inference_mode():
                ours = self._packed_if_shared(tuple(head), rows)
                whole = self._torch.cat([self._whole(ids) for ids in rows])
        except Exception as error:  # of whatever kind a model raises that is run in a way it does not know
            if out_of_memory(error):
                raise
            return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        finally:
            self._prefixes.clear()
        apart = float((ours.float().softmax(-1) - whole.float().softmax(-1)).abs().max())
        if apart <= TOLERANCE.get(str(self._model.dtype), LOOSE):
            return None
        return f"its probabilities would differ by {apart:.1g}"

    def _packed_if_shared(self, head: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Any:
        self.shares = True
        return self._packed(head, rows)


def _last_logits(model: Any, keep: list[int], **inputs: Any) -> Any:
    """The logits of one row at some places, shape (k, v); the head is not run on the others where it can."""
    import torch

    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        inputs["logits_to_keep"] = torch.tensor(keep, device=inputs["input_ids"].device)
        return model(**inputs).logits[0]
    return model(**inputs).logits[0, keep]


def _forget_habits(model: Any, tokenizer: Any) -> set[int]:
    """Make the model go on as its probabilities say, without penalties or bans; returns its end tokens."""
    from transformers import GenerationConfig

    habits = model.generation_config
    ends = habits.eos_token_id if habits.eos_token_id is not None else tokenizer.eos_token_id
    known = set(ends) if isinstance(ends, list) else {ends} - {None}
    pad = next((token for token in (habits.pad_token_id, tokenizer.pad_token_id) if token is not None), None)
    pad = min(known, default=0) if pad is None else pad
    model.generation_config = GenerationConfig(eos_token_id=sorted(known) or None, pad_token_id=pad)
    return known


def _obstacle(config: Any) -> str | None:
    """What in a model's configuration speaks against sharing and would not show on a few tokens."""
    layers = set(getattr(config, "layer_types", None) or ())
    strange = layers - {"full_attention", "sliding_attention"}
    if strange:
        return f"it has layers of {sorted(strange)[0]}"
    ropes = [getattr(config, name, None) or {} for name in ("rope_parameters", "rope_scaling")]
    kinds = {str(rope.get("rope_type", rope.get("type"))) for rope in ropes}
    kinds |= {
        str(part.get("rope_type")) for rope in ropes for part in rope.values() if isinstance(part, dict)
    }
    growing = sorted(kinds.intersection(GROWING_ROPE))
    return f"its position codes are {growing[0]}" if growing else None


def choice(rows: Sequence[tuple[float, Any]], keep: Callable[[Any], Any]) -> Any:
    """A `LogitsProcessor` that draws, for `rows` of (temperature, torch generator or None for the likeliest).

    Gumbel noise added to the scaled log-probabilities makes the highest an exact draw, so that each row has a
    generator of its own, whatever stands beside it. `keep` gets the undisturbed log-probabilities of each
    step, shape (r, v); what it returns is collected in `trace`.
    """
    import torch
    from transformers import LogitsProcessor

    class Choice(LogitsProcessor):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = len(rows)
            self.trace: list[Any] = []

        def __call__(self, _ids: Any, scores: Any) -> Any:
            logprobs = torch.log_softmax(scores.float(), dim=-1)
            self.trace.append(keep(logprobs))
            noisy = logprobs.clone()
            for i, (temperature, generator) in enumerate(rows):
                if generator is not None:
                    even = torch.rand(noisy.shape[1], generator=generator, dtype=torch.float64)
                    noisy[i] = logprobs[i] / temperature - (-even.log()).log().float().to(noisy.device)
            return noisy

    return Choice()
