"""Compute attention of many items with one shared prefix, without copies per item.

The items of a pass are concatenated in a single row, without padding. Every token attends to the
prefix (the same keys and values for all) and, causally, to its own item; the two parts are merged by their
log-sum-exp, which is exact: softmax over a union is the mixture of the softmaxes over its parts, weighted by
their normalisers (the identity behind FlashAttention, arXiv 2205.14135, section 3.1).

The module is independent of tokenizers, model classes and caches of transformers; the shared keys and values
are only read, through views.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Protocol

from trustescalate.judges.local.batching import out_of_memory

NAME = "trustescalate_shared_prefix"
"""Name of `attend` in transformers. It has no mask function, so no mask is built."""

HARMLESS = frozenset(
    {"cache_position", "cu_seq_lens_k", "cu_seq_lens_q", "dropout", "is_causal", "logits_to_keep"}
    | {"max_length_k", "max_length_q", "output_attentions", "output_hidden_states", "output_router_logits"}
    | {"position_embeddings", "position_ids", "return_dict", "sliding_window", "use_cache"}
)
"""Arguments of a layer without effect here. A sliding window has one: `scoring` stays inside it."""


class Sharing(Protocol):
    """Attention of one layer in a pass over queries, keys and values, each of shape (1, heads, t, d)."""

    def attend(self, layer: int, query: Any, key: Any, value: Any, scale: float | None) -> Any:
        """The attention's output, shape (1, heads of the queries, t, d)."""
        ...


@dataclass(slots=True)
class Prefix:
    """A common prefix of prompts, with keys and values by layer, shape (1, heads, p, d) each."""

    ids: tuple[int, ...]
    keys: dict[int, Any] = field(default_factory=dict)
    values: dict[int, Any] = field(default_factory=dict)

    def attend(self, layer: int, query: Any, key: Any, value: Any, scale: float | None) -> Any:
        """Causal attention of the prefix to itself; stores keys and values."""
        self.keys[layer], self.values[layer] = key.contiguous(), value.contiguous()
        return _causal(query, key, value, scale)[0]

    @property
    def bytes(self) -> int:
        """The memory of the keys and values."""
        tensors = [*self.keys.values(), *self.values.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Packed:
    """Concatenated items of `lengths` tokens each, after the first `shared` tokens of a prefix."""

    prefix: Prefix | None
    shared: int
    lengths: tuple[int, ...]

    def attend(self, layer: int, query: Any, key: Any, value: Any, scale: float | None) -> Any:
        """Each token attends to the shared tokens and to its own item up to itself."""
        own, own_weight = self._own(query, key, value, scale)
        if self.prefix is None or self.shared == 0:
            return own
        keys = self.prefix.keys[layer][:, :, : self.shared]
        values = self.prefix.values[layer][:, :, : self.shared]
        common, common_weight = _grouped(query, keys, values, scale)
        share = (common_weight - own_weight).sigmoid_().unsqueeze(-1)
        return own.lerp(common, share.to(own.dtype))  # half precision rounds the share as it does the rest

    def _own(self, query: Any, key: Any, value: Any, scale: float | None) -> tuple[Any, Any]:
        import torch

        if len(self.lengths) == 1:
            return _causal(query, key, value, scale)
        if query.device.type == "cpu":
            parts = [
                _causal(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scale) for a, b in self._bounds
            ]
            return torch.cat([out for out, _ in parts], dim=2), torch.cat([lse for _, lse in parts], dim=2)
        return self._own_padded(query, key, value, scale)

    def _own_padded(self, query: Any, key: Any, value: Any, scale: float | None) -> tuple[Any, Any]:
        """All items at once, padded at their ends, which causal attention ignores."""
        import torch

        longest = max(self.lengths)
        rows = [torch.arange(longest).clamp(max=b - a - 1) + a for a, b in self._bounds]
        spread = torch.stack(rows).to(query.device)
        taken = [torch.arange(b - a) + i * longest for i, (a, b) in enumerate(self._bounds)]
        packed = torch.cat(taken).to(query.device)
        rows_of = [x[0][:, spread].transpose(0, 1) for x in (query, key, value)]
        out, lse = _causal(rows_of[0], rows_of[1], rows_of[2], scale)
        heads, width = query.shape[1], value.shape[-1]
        out = out.transpose(0, 1).reshape(heads, -1, width)[:, packed]
        return out.unsqueeze(0), lse.transpose(0, 1).reshape(heads, -1)[:, packed].unsqueeze(0)

    @property
    def ends(self) -> list[int]:
        """Where each item ends."""
        return list(accumulate(self.lengths))

    @property
    def _bounds(self) -> Iterator[tuple[int, int]]:
        return pairwise([0, *self.ends])


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    _mask: Any,
    scaling: float | None = None,
    sharing: Sharing | None = None,
    **more: Any,
) -> tuple[Any, None]:
    """The function that transformers calls in each layer (its AttentionInterface); shape (1, t, heads, d).

    Raises NotImplementedError where a layer needs an unsupported feature (soft caps, sinks, position biases)
    or does not pass `sharing` on: the caller then computes every prompt whole.
    """
    strange = [name for name, given in more.items() if given is not None and name not in HARMLESS]
    if strange or sharing is None:
        raise NotImplementedError(f"its attention wants {strange[0]}" if strange else "it hides its layers")
    out = sharing.attend(module.layer_idx, query, key, value, scaling)
    return out.transpose(1, 2).contiguous(), None


@contextmanager
def installed(config: Any) -> Iterator[None]:
    """Use `attend` in the model of this configuration."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


# ── one part of the attention, with the logarithm of its normaliser ────────────────────────────────


def _grouped(query: Any, key: Any, value: Any, scale: float | None) -> tuple[Any, Any]:
    """Unmasked: the queries of all heads of a key head are concatenated, so no key is repeated."""
    _, heads, length, width = query.shape
    lined = query.reshape(1, key.shape[1], -1, width)
    out, lse = _with_weight(lined, key, value, scale, causal=False)
    return out.reshape(1, heads, length, value.shape[-1]), lse.reshape(1, heads, length)


def _causal(query: Any, key: Any, value: Any, scale: float | None) -> tuple[Any, Any]:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    return _with_weight(query, key, value, scale, causal=True)


def _with_weight(query: Any, key: Any, value: Any, scale: float | None, *, causal: bool) -> tuple[Any, Any]:
    """(output, log-sum-exp of the scaled scores in single precision), by the fastest kernel there is.

    Only torch's own fused kernels return the normaliser, and only under these names; unsupported inputs are
    computed in plain steps.
    """
    kernel = _KERNELS.get(_kind(query))
    if kernel is not None and query.shape[-1] == value.shape[-1]:
        try:
            out, lse = kernel(query, key, value, scale, causal)
            return out, lse[..., : query.shape[2]]
        except (AttributeError, RuntimeError) as error:
            if out_of_memory(error):
                raise
    return plain(query, key, value, scale, causal)


def plain(query: Any, key: Any, value: Any, scale: float | None, causal: bool) -> tuple[Any, Any]:
    """The same in plain steps, a stretch of queries at a time so that the scores stay small."""
    import torch

    scale = query.shape[-1] ** -0.5 if scale is None else scale
    outs, weights = [], []
    for start in range(0, query.shape[2], STRETCH):
        part = query[:, :, start : start + STRETCH]
        scores = (part @ key.transpose(-1, -2)).float() * scale
        if causal:
            rows = torch.arange(start, start + part.shape[2], device=query.device)[:, None]
            ahead = torch.arange(key.shape[2], device=query.device)[None, :] > rows
            scores = scores.masked_fill(ahead, float("-inf"))
        weight = scores.logsumexp(-1, keepdim=True)
        outs.append((scores - weight).exp().to(value.dtype) @ value)
        weights.append(weight[..., 0])
    return torch.cat(outs, dim=2), torch.cat(weights, dim=2)


STRETCH = 256


def _kind(query: Any) -> str:
    import torch

    if query.device.type != "cuda":
        return str(query.device.type)
    return "cuda half" if query.dtype in (torch.float16, torch.bfloat16) else "cuda single"


def _cpu(query: Any, key: Any, value: Any, scale: float | None, causal: bool) -> tuple[Any, Any]:
    import torch

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse, *_ = kernel(query, key, value, 0.0, causal, scale=scale)
    return out, lse


def _cuda_half(query: Any, key: Any, value: Any, scale: float | None, causal: bool) -> tuple[Any, Any]:
    import torch

    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    out, lse, *_ = kernel(query, key, value, 0.0, causal, scale=scale)
    return out, lse


def _cuda_single(query: Any, key: Any, value: Any, scale: float | None, causal: bool) -> tuple[Any, Any]:
    import torch

    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    out, lse, *_ = kernel(query, key, value, None, True, 0.0, causal, scale=scale)
    return out, lse


_KERNELS: Mapping[str, Callable[..., tuple[Any, Any]]] = {
    "cpu": _cpu,
    "cuda half": _cuda_half,
    "cuda single": _cuda_single,
}
