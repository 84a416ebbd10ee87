"""Number formats, quantisation, adapters, and what is missing for them; reward models on this machine."""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.support.tiny_models import TEMPLATE, save_model  # noqa: E402
from trustescalate.errors import ConfigError, ProviderError  # noqa: E402
from trustescalate.judges.local import loading  # noqa: E402
from trustescalate.judges.local.backend import LocalBackend  # noqa: E402
from trustescalate.judges.local.loading import ModelSettings, load  # noqa: E402
from trustescalate.judges.local.rewards import LocalScorer  # noqa: E402
from trustescalate.judges.reward import RewardJudge, ScoringBackend, Unscored  # noqa: E402
from trustescalate.records import Item, Message, Request, Task, TaskKind  # noqa: E402
from trustescalate.records.votes import all_votes  # noqa: E402

pytestmark = pytest.mark.slow
TALK = (Message("system", "Judge."), Message("user", "Which is better? A or B, or a tie?"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("plain"), TEMPLATE, initializer_range=0.1)


def top(folder: Path, **settings: Any) -> dict[str, float]:
    """The probabilities that a reply shows."""

    async def main() -> dict[str, float]:
        backend = LocalBackend(model=str(folder), device="cpu", **settings)
        reply = await backend.complete(Request(TALK, ("A", "B", "tie"), 16, 0.0, True))
        await backend.close()
        assert reply.tokens is not None
        return {text: math.exp(lp) for text, lp in reply.tokens[0].top}

    return asyncio.run(main())


def apart(one: dict[str, float], other: dict[str, float]) -> float:
    return max(abs(one[text] - other[text]) for text in one.keys() & other.keys())


# ── number formats ───────────────────────────────────────────────────────────────────────────────


def test_integers_are_near_and_really_used(plain: Path) -> None:
    loaded = load(ModelSettings(str(plain), device="cpu", quantize="int8-dynamic"), "causal")
    model = loading.quantized(loaded.model, "int8-dynamic")
    kinds = {name: type(part).__module__ for name, part in model.named_modules()}
    assert "quantized" in kinds["model.layers.0.self_attn.q_proj"]
    assert "quantized" not in kinds["lm_head"]
    assert 0 < apart(top(plain, quantize="int8-dynamic"), top(plain)) < 0.05


def test_integers_do_not_depend_on_what_else_is_asked(plain: Path) -> None:
    async def main() -> list[Any]:
        backend = LocalBackend(model=str(plain), device="cpu", quantize="int8-dynamic", batch_size=8)
        requests = [
            Request((*TALK[:1], Message("user", text)), ("A", "B"), 16, 0.0, True)
            for text in ("A?", "B " * 9)
        ]
        together = await asyncio.gather(*(backend.complete(request) for request in requests * 3))
        alone = [await backend.complete(request) for request in requests]
        await backend.close()
        return [together[:2] == alone, together[:2] == together[4:]]

    assert asyncio.run(main()) == [True, True]


def test_a_dtype_is_obeyed(plain: Path) -> None:
    for name in ("float32", "bfloat16", "float16"):
        assert str(load(ModelSettings(str(plain), dtype=name), "causal").model.dtype) == f"torch.{name}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quantize": "int8-dynamic", "device": "cuda"}, "for the CPU"),
        ({"quantize": "int8-dynamic", "dtype": "bfloat16"}, "float32"),
    ],
)
def test_settings_that_contradict_are_config_errors(plain: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(ModelSettings(str(plain), **settings), "causal")
    assert caught.value.hint


def test_nothing_to_quantise_is_a_config_error(tmp_path: Path) -> None:
    folder = save_model(tmp_path, TEMPLATE, "GPT2")  # its layers are transposed ones that torch does not know
    with pytest.raises(ConfigError, match="no linear layer"):
        LocalBackend(model=str(folder), device="cpu", quantize="int8-dynamic")


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"quantize": "bitsandbytes-8bit"}, "bitsandbytes"),
        ({"quantize": "bitsandbytes-4bit"}, "bitsandbytes"),
        ({"quantize": "torchao-int8"}, "torchao"),
        ({"adapter": "some/adapter"}, "peft"),
        ({"device": "spread"}, "accelerate"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], missing: str
) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"needs the package {missing}") as caught:
        load(ModelSettings("nowhere", **settings), "causal")
    assert caught.value.hint.startswith("pip install")
    assert missing in caught.value.hint


@pytest.mark.parametrize("quantize", ["bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8"])
@pytest.mark.filterwarnings("ignore")
def test_other_packages_quantise_too(tmp_path: Path, quantize: str) -> None:
    for name in loading.NEEDS[quantize]:
        pytest.importorskip(name)
    said: list[str] = []
    wide = {"hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.1}  # blocks of 64 weights
    folder = save_model(tmp_path, TEMPLATE, **wide)
    assert 0 < apart(top(folder, quantize=quantize, notice=said.append), top(folder)) < 0.1
    assert said == []


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_changes_the_answer_as_peft_does(plain: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(plain)
    torch.manual_seed(1)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    adapted.save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(plain)
    text = "".join(f"<|{turn.role}|>{turn.content}<|end|>" for turn in TALK) + "<|assistant|>"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        probs = adapted.eval()(input_ids=ids).logits[0, -1].softmax(-1)
    ours = top(plain, adapter=str(tmp_path))
    for text in ("A", "B"):
        assert ours[text] == pytest.approx(float(probs[tokenizer.convert_tokens_to_ids(text)]), abs=1e-5)
    assert apart(ours, top(plain)) > 1e-3


def test_a_chat_template_can_be_left_aside(plain: Path, tmp_path: Path) -> None:
    base = save_model(tmp_path, None, initializer_range=0.1)
    assert apart(top(plain, chat_template="none"), top(base)) < 1e-6
    assert apart(top(plain), top(base)) > 1e-3


# ── reward models ────────────────────────────────────────────────────────────────────────────────

PROMPT = (Message("user", "2 + 2?"),)
RESPONSES = ("4", "It is the better one of the two, or B.", "5 tie", "A B tie A B")


def reward_model(folder: Path, template: str | None = TEMPLATE, **settings: Any) -> Path:
    fields = {"num_labels": 1, "pad_token_id": 0, "initializer_range": 0.1} | settings
    return save_model(folder, template, "Llama", "ForSequenceClassification", **fields)


def scores(folder: Path, responses: Sequence[str] = RESPONSES, **settings: Any) -> list[Any]:
    async def main() -> list[Any]:
        scorer = LocalScorer(model=str(folder), device="cpu", **settings)
        asked = (scorer.score(PROMPT, response) for response in responses)
        try:
            return list(await asyncio.gather(*asked, return_exceptions=True))
        finally:
            await scorer.close()

    return asyncio.run(main())


@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["chat", "pair"])
@pytest.mark.parametrize("pad", [0, None])
def test_scores_are_those_of_the_head_alone(tmp_path: Path, template: str | None, pad: int | None) -> None:
    folder = reward_model(tmp_path, template, pad_token_id=pad)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    expected = []
    for response in RESPONSES:
        text = f"<|user|>2 + 2?<|end|><|assistant|>{response}<|end|>" if template else f"2 + 2?{response}"
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            expected.append(float(model(ids).logits[0, 0]))
    assert scores(folder, batch_size=4) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-3


def test_an_exchange_that_does_not_fit_has_no_score(tmp_path: Path) -> None:
    short, long = scores(reward_model(tmp_path), ("4", "x y " * 300))
    assert math.isfinite(short)
    assert isinstance(long, Unscored)
    assert long.failure == "bad_request"


def test_a_reward_model_judges_items(tmp_path: Path) -> None:
    folder = reward_model(tmp_path)
    first, second = scores(folder, RESPONSES[:2])

    async def main() -> Any:
        backend = ScoringBackend(LocalScorer(model=str(folder), device="cpu"))
        task = Task(TaskKind.PAIRWISE, "?", ("A", "B"))
        judge = RewardJudge("r", "print", task, backend.complete)
        judgment = await judge.judge(Item("q", "2 + 2?", RESPONSES[:2]), all_votes)
        await backend.close()
        return judgment

    (vote,) = asyncio.run(main()).votes
    assert vote.probs["A"] == pytest.approx(1 / (1 + math.exp(second - first)), abs=1e-6)


def test_a_model_without_a_trained_head_is_no_reward_model(plain: Path, tmp_path: Path) -> None:
    model = transformers.AutoConfig.from_pretrained(plain)
    with pytest.raises(ProviderError, match="no reward model"):
        LocalScorer(model=str(_with_labels(plain, tmp_path, model)), device="cpu")


def _with_labels(plain: Path, folder: Path, config: Any) -> Path:
    """The causal model, its configuration saying that it has one label."""
    transformers.AutoModelForCausalLM.from_pretrained(plain).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(plain).save_pretrained(folder)
    config.num_labels = 1
    config.save_pretrained(folder)
    return folder


def test_a_head_with_several_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 3 outputs"):
        LocalScorer(model=str(reward_model(tmp_path, num_labels=3)), device="cpu")
