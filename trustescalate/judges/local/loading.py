"""Load a model and its tokenizer: number format, device, quantisation, adapter.

Code that comes with a model is never run.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from trustescalate.errors import ConfigError, ProviderError
from trustescalate.judges.local.batching import out_of_memory

NEEDS: Mapping[str, tuple[str, ...]] = {
    "bitsandbytes-8bit": ("bitsandbytes", "accelerate"),
    "bitsandbytes-4bit": ("bitsandbytes", "accelerate"),
    "torchao-int8": ("torchao", "accelerate"),
}
"""The packages behind each value of `quantize`; "int8-dynamic" needs torch alone."""

HEADS = frozenset({"classifier", "lm_head", "embed_out", "score"})
"""What transformers calls the last layer."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model, and how it is held in memory.

    `model` is a folder or a name on the hub, `revision` a branch, tag or commit there, `adapter` a PEFT
    folder or name. `dtype` is a torch name ("bfloat16") or "auto", as the weights are stored; `device` a
    torch device, "auto", the GPU if there is one, or "spread", over all GPUs and the memory behind them.
    `quantize` is None, "int8-dynamic" (CPU) or a key of `NEEDS`.
    """

    model: str
    revision: str | None = None
    adapter: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    attn_implementation: str | None = None
    quantize: str | None = None


class Loaded(NamedTuple):
    """A loaded model, its tokenizer, and the device of its inputs."""

    model: Any
    tokenizer: Any
    device: Any


def load(settings: ModelSettings, head: Literal["causal", "score"]) -> Loaded:
    """The model with a head for the next token, or for one score.

    Raises `ConfigError` where a package is missing or settings contradict one another, `ProviderError` if the
    model cannot be loaded.
    """
    torch, transformers = _import()
    _check(settings)
    auto = {
        "causal": transformers.AutoModelForCausalLM,
        "score": transformers.AutoModelForSequenceClassification,
    }
    int8 = settings.quantize == "int8-dynamic"
    best = "cuda" if torch.cuda.is_available() and not int8 else "cpu"
    where = best if settings.device == "auto" else settings.device
    source = {"revision": settings.revision, "trust_remote_code": False}
    with _errors_named(settings):
        tokenizer = transformers.AutoTokenizer.from_pretrained(settings.model, **source)
        dtype = "float32" if int8 else settings.dtype
        options: dict[str, Any] = {"dtype": dtype, "attn_implementation": settings.attn_implementation}
        if settings.quantize in NEEDS:
            options["quantization_config"] = _quantization(settings.quantize, transformers)
            options["device_map"] = {"": where}
        if settings.device == "spread":
            options["device_map"] = "auto"
        model, loading = auto[head].from_pretrained(
            settings.model, **source, **options, output_loading_info=True
        )
        if head == "score" and loading["missing_keys"] and settings.adapter is None:
            raise ValueError(
                f"it holds no weights for {sorted(loading['missing_keys'])[0]}, so it is no reward model"
            )
        if settings.adapter is not None:
            model = _adapted(model, settings)
        if "device_map" not in options:
            model = model.to(where)
    return Loaded(model.eval(), tokenizer, model.device)


def quantized(model: Any, quantize: str | None) -> Any:
    """Quantise the inner weights to 8-bit integers, if that is done after loading.

    The head keeps its format, since the verdict is read there. Raises `ConfigError` where there is no layer
    that torch can quantise.
    """
    if quantize != "int8-dynamic":
        return model
    import torch

    inner = {
        name: torch.ao.quantization.default_dynamic_qconfig
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and name.rpartition(".")[2] not in HEADS
    }
    if not inner:
        raise ConfigError('quantize = "int8-dynamic" finds no linear layer here', "remove quantize")
    with warnings.catch_warnings():  # torch warns that this API will move to another package
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, inner, inplace=True)


def _import() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        hint = "pip install 'trustescalate[local]'"
        raise ConfigError("a local model needs torch and transformers", hint) from error
    return torch, transformers


def _check(settings: ModelSettings) -> None:
    """Check the settings before the weights are read."""
    wanted = list(NEEDS.get(settings.quantize or "", ()))
    wanted += ["accelerate"] if settings.device == "spread" else []
    wanted += ["peft"] if settings.adapter is not None else []
    missing = [name for name in dict.fromkeys(wanted) if find_spec(name) is None]
    if missing:
        what = settings.quantize or ("an adapter" if settings.adapter is not None else 'device = "spread"')
        raise ConfigError(f"{what} needs the package {missing[0]}", f"pip install {' '.join(missing)}")
    if settings.quantize == "int8-dynamic" and settings.device not in ("auto", "cpu"):
        raise ConfigError('quantize = "int8-dynamic" is for the CPU', 'set device = "cpu"')
    if settings.quantize == "int8-dynamic" and settings.dtype not in ("auto", "float32"):
        raise ConfigError('quantize = "int8-dynamic" computes between its layers in float32', "remove dtype")


def _quantization(quantize: str | None, transformers: Any) -> Any:
    if quantize == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    bits = {"load_in_8bit": True} if quantize == "bitsandbytes-8bit" else {"load_in_4bit": True}
    return transformers.BitsAndBytesConfig(**bits)


def _adapted(model: Any, settings: ModelSettings) -> Any:
    """The model with its adapter, merged unless the weights are quantised, so that it costs nothing."""
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, settings.adapter)
    if settings.quantize in NEEDS:
        return adapted.get_base_model()
    return adapted.merge_and_unload()


@contextmanager
def _errors_named(settings: ModelSettings) -> Iterator[None]:
    """Turn errors of loading into a ProviderError with a hint."""
    try:
        yield
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        hint = "check model (a folder, or a name on the hub), dtype and device"
        if out_of_memory(error):
            hint = 'choose a smaller dtype, quantize, or device = "spread"'
        raise ProviderError(f"the model {settings.model!r} cannot be loaded: {error}", hint) from error
