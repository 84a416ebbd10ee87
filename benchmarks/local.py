"""Measure a local ensemble through the real backend against one prompt at a time.

    python -m benchmarks.local [--shapes llama-30M qwen2-100M] [--items 12] [--sample 2] [--batch 8] [--check]

Models of random weights, five members of five examples each (a prefix of about 1,500 tokens), both orders,
items of 200 to 310 tokens. Naive is `generate()` of one token per prompt, on a part of the same prompts, its
seconds per prompt taken for all. Probabilities are those of A among A, B and tie. Targets (`--check`): 4.5
times naive of the same number format, in fp32, with probabilities equal to 1e-5, and in bf16; a batch's keys
and values in at most a quarter of the memory of one full cache per row. With a GPU a larger model runs there
too, and its throughput is given as a share of what the item tokens alone would take at the device's matrix
product rate.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers

from trustescalate.judges.base import MAX_TOKENS
from trustescalate.judges.local.backend import MIB, LocalBackend
from trustescalate.judges.prompts import Exemplar, messages, symbols
from trustescalate.records import Item, Request, Task, TaskKind

MEMBERS, SHOTS = 5, 5
TASK = Task(TaskKind.PAIRWISE, "Which response would a human reader prefer?", ("A", "B", "tie"))
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTROL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "tiny": ("Llama", {"hidden": 64, "layers": 2, "heads": 4, "kv": 2, "inner": 128}),
    "llama-30M": ("Llama", {"hidden": 512, "layers": 7, "heads": 8, "kv": 8, "inner": 1376}),
    "qwen2-30M": ("Qwen2", {"hidden": 512, "layers": 7, "heads": 8, "kv": 4, "inner": 1376}),
    "llama-100M": ("Llama", {"hidden": 768, "layers": 12, "heads": 12, "kv": 12, "inner": 2048}),
    "qwen2-100M": ("Qwen2", {"hidden": 768, "layers": 12, "heads": 12, "kv": 4, "inner": 2048}),
    "llama-1B": ("Llama", {"hidden": 2048, "layers": 16, "heads": 32, "kv": 8, "inner": 8192}),
}
TIMES, EQUAL, MEMORY = 4.5, 1e-5, 0.25


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(VOCABULARY) for _ in range(count))


VOCABULARY = ["".join(random.Random(i).choices("abcdefghijklmnoprstuvw", k=2 + i % 7)) for i in range(1500)]


def save_model(folder: Path, shape: str, dtype: Any = torch.float32) -> int:
    """A model of random weights and a tokenizer trained on its words; returns how many weights it has."""
    import tokenizers

    kind, size = SHAPES[shape]
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=8000, special_tokens=CONTROL, initial_alphabet=alphabet, show_progress=False
    )
    text = [words(random.Random(i), 400) for i in range(60)]
    raw.train_from_iterator(
        [*text, *["A B tie Verdict (A, B or tie): [response A] [end response B]"] * 20], trainer
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=TEMPLATE)
    tokenizer.add_special_tokens({"additional_special_tokens": CONTROL})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=8064,
        hidden_size=size["hidden"],
        intermediate_size=size["inner"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv"],
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        initializer_range=0.06,  # with less, a random model hardly listens to its prompt
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    model.to(dtype).save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def requests(items: int) -> list[list[Request]]:
    """By member: every item in both orders."""
    rng = random.Random(7)
    shown = [Item(f"e{i}", words(rng, 21), (words(rng, 37), words(rng, 36))) for i in range(MEMBERS * SHOTS)]
    exemplars = [[Exemplar(item, rng.choice("AB")) for item in shown[m::MEMBERS]] for m in range(MEMBERS)]
    asked = [
        Item(
            f"q{i}",
            words(rng, rng.randint(3, 40)),
            (words(rng, rng.randint(3, 84)), words(rng, rng.randint(3, 84))),
        )
        for i in range(items)
    ]
    return [
        [
            Request(
                messages(TASK, shots, item, swapped=swapped), symbols(TASK), MAX_TOKENS["direct"], 0.0, True
            )
            for item in asked
            for swapped in (False, True)
        ]
        for shots in exemplars
    ]


def label_tokens(tokenizer: Any) -> list[int]:
    return [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in symbols(TASK)]


class Naive:
    """`generate()` of one token, a prompt at a time."""

    def __init__(self, folder: Path, dtype: str, device: str) -> None:
        self.name, self.device = f"naive, {dtype}", device
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.model = model.to(device).eval()
        self.labels = label_tokens(self.tokenizer)

    async def answer(self, asked: Sequence[Request]) -> list[float]:
        """P(A) of each."""
        return [self._one(request) for request in asked]

    def _one(self, request: Request) -> float:
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = self.tokenizer(text, return_tensors="pt", add_special_tokens=False).to(self.device)
        settings = {"max_new_tokens": 1, "do_sample": False, "pad_token_id": 0}
        made = self.model.generate(**inputs, **settings, return_dict_in_generate=True, output_logits=True)
        return float(torch.softmax(made.logits[0][0][self.labels].float(), -1)[0])

    def cache_bytes(self, tokens: int) -> int:
        """The keys and values of one prompt."""
        inputs = torch.zeros((1, tokens), dtype=torch.long, device=self.device)
        with torch.inference_mode():
            cache = self.model(inputs, use_cache=True).past_key_values
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


class Ours:
    """The real backend, all requests at once."""

    def __init__(self, folder: Path, dtype: str, device: str, batch: int | Literal["auto"]) -> None:
        self.name = f"ours, {dtype}"
        self.backend = LocalBackend(
            model=str(folder), dtype=dtype, device=device, batch_size=batch, concurrency=256, notice=print
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.texts = [tokenizer.decode([token]) for token in label_tokens(tokenizer)]

    async def answer(self, asked: Sequence[Request]) -> list[float]:
        """P(A) of each."""
        replies = await asyncio.gather(*map(self.backend.complete, asked))
        tops = [dict(reply.tokens[0].top) for reply in replies if reply.tokens]
        return [float(torch.tensor([top[text] for text in self.texts]).softmax(-1)[0]) for top in tops]


class Row(NamedTuple):
    """Seconds per prompt and P(A) of the prompts that everyone was asked."""

    seconds: float
    probs: list[float]


async def in_turn(contenders: Sequence[Naive | Ours], wanted: list[list[Request]], sample: int) -> list[Row]:
    """Member after member, everyone in turn, so that a change of the machine's speed hits all.

    Naive ones answer `sample` prompts of a member, ours all of them, its prefix computed within the time.
    """
    seconds, count = [0.0] * len(contenders), [0] * len(contenders)
    probs: list[list[float]] = [[] for _ in contenders]
    for contender in contenders:
        await contender.answer([Request(WARM, symbols(TASK), MAX_TOKENS["direct"], 0.0, True)])
    for asked in wanted:
        common = range(0, len(asked), max(1, len(asked) // sample))[:sample]
        for i, contender in enumerate(contenders):
            some = [asked[n] for n in common] if isinstance(contender, Naive) else asked
            start = time.perf_counter()
            answers = await contender.answer(some)
            seconds[i] += time.perf_counter() - start
            count[i] += len(some)
            probs[i] += answers if isinstance(contender, Naive) else [answers[n] for n in common]
    return [Row(s / c, p) for s, c, p in zip(seconds, count, probs, strict=True)]


WARM = messages(TASK, [], Item("warm", "up", ("one", "two")))


def compared(shape: str, device: str, options: argparse.Namespace) -> bool:
    """The table of one model; whether it meets the targets."""
    with tempfile.TemporaryDirectory() as room:
        weights = save_model(Path(room), shape)
        wanted = requests(options.items)
        dtypes = ("float32", "bfloat16")
        naive, _ = both = [Naive(Path(room), dtype, device) for dtype in dtypes]
        ours, _ = backends = [Ours(Path(room), dtype, device, options.batch) for dtype in dtypes]
        contenders: list[Naive | Ours] = [*both, *backends]
        rows = asyncio.run(in_turn(contenders, wanted, options.sample))
        reference = rows[0]
        head, item, longest = sizes(ours, wanted)
        print(f"{shape} ({weights / 1e6:.0f}M), {device}, {head:.0f} + {item:.0f} tokens, at most {longest}")
        print(f"{'':<18}{'ms per prompt':>14}{'x naive fp32':>14}{'x naive, same':>15}{'max |dP(A)|':>13}")
        for i, (contender, row) in enumerate(zip(contenders, rows, strict=True)):
            apart = max(abs(p - q) for p, q in zip(row.probs, reference.probs, strict=True))
            times, same = reference.seconds / row.seconds, rows[i % 2].seconds / row.seconds
            print(f"{contender.name:<18}{row.seconds * 1e3:>14.1f}{times:>14.2f}{same:>15.2f}{apart:>13.1e}")
        share = memory(naive, ours, wanted)
        apart = max(abs(p - q) for p, q in zip(rows[2].probs, reference.probs, strict=True))
        checks = {
            f"fp32 {TIMES} x": rows[0].seconds / rows[2].seconds >= TIMES,
            f"bf16 {TIMES} x": rows[1].seconds / rows[3].seconds >= TIMES,
            f"fp32 equal to {EQUAL:g}": apart <= EQUAL,
            f"memory {MEMORY:g}": share <= MEMORY,
        }
        for each in backends:
            asyncio.run(each.backend.close())
    print("  ".join(f"{name}: {'pass' if met else 'MISSED'}" for name, met in checks.items()), flush=True)
    return all(checks.values())


def sizes(ours: Ours, wanted: list[list[Request]]) -> tuple[float, float, int]:
    """Mean tokens of a prefix, mean tokens of an item behind it, and tokens of the longest prompt."""
    text = ours.backend.text
    whole = [len(text.encode(request.messages)) for asked in wanted for request in asked]
    heads = [len(text.prefix(request.messages)) for asked in wanted for request in asked]
    head = statistics.fmean(heads)
    return head, statistics.fmean(whole) - head, max(whole)


def memory(naive: Naive, ours: Ours, wanted: list[list[Request]]) -> float:
    """Keys and values of one pass of ours, as a share of one full cache for each of its rows.

    Ours hold the prefix once, and the items' in the layer that is being computed.
    """
    head, item, _ = sizes(ours, wanted)
    layers = naive.model.config.num_hidden_layers
    rows = ours.backend.batch_size
    copies = rows * naive.cache_bytes(round(head + item))
    shared = ours.backend.prefix_bytes / MEMBERS + rows * naive.cache_bytes(round(item)) / layers
    print(
        f"keys and values, pass of {rows}: {shared / MIB:.1f} MiB, one cache per row {copies / MIB:.1f} MiB: "
        f"{shared / copies:.2f}; all {MEMBERS} prefixes {ours.backend.prefix_bytes / MIB:.1f} MiB"
    )
    return float(shared / copies)


def matmul_rate() -> float:
    """Operations a second of a large product in bf16 on the GPU."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - start)


def gpu_share(shape: str, items: int) -> None:
    """A larger model on the GPU in bf16: item tokens a second, against the matrix products they need."""
    with tempfile.TemporaryDirectory() as room:
        weights = save_model(Path(room), shape, torch.bfloat16)
        wanted = requests(items)
        ours = Ours(Path(room), "bfloat16", "cuda", "auto")
        head, item, _ = sizes(ours, wanted)
        (row,) = asyncio.run(in_turn([ours], [wanted[0], *wanted], 1))
        floor = 2 * weights * item / matmul_rate()
        print(
            f"{shape}, {weights / 1e6:.0f}M weights, cuda, bf16: {1 / row.seconds:.0f} prompts a second of "
            f"{head:.0f} + {item:.0f} tokens, {item / row.seconds:,.0f} item tokens a second, "
            f"{floor / row.seconds:.2f} of the floor; batches of {ours.backend.batch_size}"
        )
        asyncio.run(ours.backend.close())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["llama-30M", "qwen2-100M"])
    parser.add_argument("--items", type=int, default=12, help="items, each asked of 5 members in 2 orders")
    parser.add_argument("--sample", type=int, default=2, help="prompts of each member for the naive ones")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    transformers.logging.disable_progress_bar()
    met = [compared(shape, "cpu", options) for shape in options.shapes]
    if torch.cuda.is_available():
        met += [compared(shape, "cuda", options) for shape in options.shapes]
        gpu_share("llama-1B", 16 * options.items)
    return int(options.check and not all(met))


if __name__ == "__main__":
    sys.exit(main())
