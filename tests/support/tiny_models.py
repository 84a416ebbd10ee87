"""Tiny models of random weights, and a tokenizer trained on the spot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTROL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # so that a model's answer hangs on all of its prompt
}
KINDS: dict[str, dict[str, Any]] = {
    "Llama": SHAPE,
    "Qwen2": SHAPE | {"num_key_value_heads": 2},
    "Mistral": SHAPE | {"num_key_value_heads": 1, "sliding_window": None},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.3},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
}


def save_tokenizer(folder: Path, template: str | None, **special: str) -> Any:
    """A byte-level BPE of 330 tokens, which merges across most boundaries."""
    import tokenizers

    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=CONTROL,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["A B tie Tie, the better one of the two: A or B, tie"] * 20, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, chat_template=template, extra_special_tokens=CONTROL, **special
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(
    folder: Path, template: str | None, kind: str = "Llama", head: str = "ForCausalLM", **settings: Any
) -> Path:
    """A model of this kind with its tokenizer; the same seed each time."""
    tokenizer = save_tokenizer(folder, template)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **{"vocab_size": len(tokenizer), "eos_token_id": None, "bos_token_id": None} | KINDS[kind] | settings
    )
    head = "LMHeadModel" if (kind, head) == ("GPT2", "ForCausalLM") else head
    getattr(transformers, f"{kind}{head}")(config).save_pretrained(folder)
    return folder


def save_speaking_model(folder: Path, context: int = 4096) -> Path:
    """A tiny model that always says A or B, how surely hanging on all that it read."""
    save_model(folder, TEMPLATE, max_position_embeddings=context, initializer_range=0.02)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    words = transformers.AutoTokenizer.from_pretrained(folder).get_vocab()
    torch.manual_seed(1)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, -1] = 1.0  # a feature that every place has
        head = model.get_output_embeddings().weight.zero_()
        for name in ("A", "B"):
            head[words[name]] = torch.randn(head.shape[1]) / 2
            head[words[name], -1] = 9.0
    model.save_pretrained(folder)
    return folder


def save_sure_model(chat: Path, prompt: str, logits: Mapping[str, float], folder: Path) -> None:
    """Save a model of `chat` in a folder, made so that after this prompt these texts have these logits."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat)
    model = transformers.AutoModelForCausalLM.from_pretrained(chat)
    with torch.no_grad():
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        hidden = model.model(ids).last_hidden_state[0, -1]
        for i in range(len(tokenizer)):
            if tokenizer.decode([i]) in logits:
                model.lm_head.weight[i] = hidden / hidden.norm() ** 2 * logits[tokenizer.decode([i])]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
