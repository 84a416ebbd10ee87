"""Sharing changes nothing: the probabilities of a prompt computed whole, for each kind of model."""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.support.tiny_models import TEMPLATE, save_model  # noqa: E402
from trustescalate.judges.local import attention, scoring  # noqa: E402
from trustescalate.judges.local.backend import LocalBackend  # noqa: E402
from trustescalate.judges.local.loading import ModelSettings, load  # noqa: E402
from trustescalate.judges.local.scoring import SharedScorer, choice  # noqa: E402
from trustescalate.judges.local.text import ChatText  # noqa: E402
from trustescalate.records import Message, Reply, Request  # noqa: E402

pytestmark = pytest.mark.slow
ABT = ("A", "B", "tie")
LASTS = ("A or B?", "tie: the better one", "Aha, B", "~", "is it B?" * 6, "A", "two of the two, tie?")
SHARING = ("Llama", "Qwen2", "Mistral", "GPT2")
WHOLE = ("Bloom",)


def prompts(member: int, lasts: Sequence[str] = LASTS) -> list[tuple[Message, ...]]:
    """Few-shot prompts of one member, alike but for their last message."""
    shots = (
        Message("system", "Judge."),
        Message("user", f"the better one of two? {'A B ' * member}"),
        Message("assistant", "A"),
    )
    return [(*shots, Message("user", last)) for last in lasts]


def ask(messages: tuple[Message, ...], most: int = 16, **settings: Any) -> Request:
    fields = {"temperature": 0.0, "logprobs": True} | settings
    return Request(messages, ABT, most, **fields)


def answers(
    folder: Path,
    wanted: Sequence[Request],
    spy: Callable[[LocalBackend], None] = lambda _: None,
    **settings: Any,
) -> list[Reply]:
    async def main() -> list[Reply]:
        backend = LocalBackend(model=str(folder), device="cpu", **settings)
        spy(backend)
        try:
            return await asyncio.gather(*map(backend.complete, wanted))
        finally:
            await backend.close()

    return asyncio.run(main())


class Naive:
    """A prompt at a time, from the logits of all positions, by text."""

    def __init__(self, folder: Path, dtype: str = "float32", template: bool = True) -> None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.text = ChatText(tokenizer, template=template)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.texts = [tokenizer.decode([i]) for i in range(self.model.config.vocab_size)]

    def __call__(self, messages: Sequence[Message]) -> dict[str, float]:
        with torch.no_grad():
            logits = self.model(torch.tensor([self.text.encode(messages)])).logits[0, -1]
        found: dict[str, float] = {}
        for text, p in zip(self.texts, torch.softmax(logits.double(), -1).tolist(), strict=True):
            found[text] = found.get(text, 0.0) + p
        return found

    def greedy(self, messages: Sequence[Message], most: int) -> list[int]:
        """The likeliest tokens, each from all before it."""
        ids = self.text.encode(messages)
        for _ in range(most):
            with torch.no_grad():
                ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
        return ids[-most:]


def apart(reply: Reply, naive: dict[str, float]) -> float:
    """The largest difference of a probability; pieces of characters, which all read alike, left out."""
    assert reply.tokens is not None
    (token,) = reply.tokens
    return max(abs(math.exp(lp) - naive[text]) for text, lp in token.top if "\ufffd" not in text)


@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["chat", "base"])
@pytest.mark.parametrize("kind", [*SHARING, *WHOLE])
def test_probabilities_are_those_of_a_prompt_computed_whole(
    tmp_path: Path, kind: str, template: str | None
) -> None:
    folder = save_model(tmp_path, template, kind)
    said: list[str] = []
    wanted = [messages for member in range(3) for messages in prompts(member)]
    replies = answers(folder, [ask(messages) for messages in wanted], batch_size=4, notice=said.append)
    naive = Naive(folder)
    plain = [naive(messages) for messages in wanted]
    assert max(map(apart, replies, plain)) <= 1e-5
    heard = max(max(p[text] for p in plain) - min(p[text] for p in plain) for text in plain[0])
    assert heard > 0.05  # the model does hang on what it is shown
    shared = [reply.usage.cached_tokens for reply in replies]
    if kind in SHARING:
        assert min(shared) > 10
        assert said == []
    else:
        assert set(shared) == {0}
        assert len(said) == 1
        assert "share no computation" in said[0]


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_stays_within_what_is_stated(tmp_path: Path, dtype: str, limit: float) -> None:
    folder = save_model(tmp_path, TEMPLATE, initializer_range=0.1)
    wanted = prompts(1)
    replies = answers(folder, [ask(messages) for messages in wanted], batch_size=4, dtype=dtype)
    same, exact = Naive(folder, dtype), Naive(folder)
    assert min(reply.usage.cached_tokens for reply in replies) > 10
    assert max(apart(reply, same(m)) for reply, m in zip(replies, wanted, strict=True)) <= limit
    assert max(apart(reply, exact(m)) for reply, m in zip(replies, wanted, strict=True)) <= limit


def test_a_prompt_beyond_the_sliding_window_is_computed_whole(tmp_path: Path) -> None:
    folder = save_model(tmp_path, TEMPLATE, "Mistral", sliding_window=60)
    wanted = prompts(0, ("A?", "the better one of the two? " * 9))
    naive = Naive(folder)
    for batch in (1, 2):
        replies = answers(folder, [ask(messages) for messages in wanted], batch_size=batch)
        assert max(apart(reply, naive(m)) for reply, m in zip(replies, wanted, strict=True)) <= 1e-5
        short, long = replies
        assert long.usage.input_tokens > 60 > short.usage.input_tokens
        assert long.usage.cached_tokens == 0 < short.usage.cached_tokens


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic"),
        ("Gemma2", {"hidden_size": 32, "head_dim": 8, "attn_logit_softcapping": 5.0}, "softcap"),
    ],
)
def test_models_that_cannot_share_are_told_and_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, settings: dict[str, Any], why: str
) -> None:
    from tests.support import tiny_models

    monkeypatch.setitem(tiny_models.KINDS, "Gemma2", tiny_models.SHAPE)
    folder = save_model(tmp_path, TEMPLATE, kind, **settings)
    said: list[str] = []
    wanted = prompts(0)
    replies = answers(folder, [ask(messages) for messages in wanted], batch_size=4, notice=said.append)
    naive = Naive(folder)
    assert max(apart(reply, naive(m)) for reply, m in zip(replies, wanted, strict=True)) <= 1e-5
    assert len(said) == 1
    assert why in said[0]


def test_a_model_that_would_answer_otherwise_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path, TEMPLATE)
    grouped = attention._grouped

    def wrong(*given: Any) -> tuple[Any, Any]:
        out, weight = grouped(*given)
        return out, weight + 1

    monkeypatch.setattr(attention, "_grouped", wrong)
    said: list[str] = []
    (reply,) = answers(folder, [ask(prompts(0)[0])], notice=said.append)
    assert "would differ" in said[0]
    assert apart(reply, Naive(folder)(prompts(0)[0])) <= 1e-5


def test_a_prompt_need_not_begin_as_its_prefix_says(tmp_path: Path) -> None:
    """The tokenizer merges the space before a last message with its first letter, or does not."""
    folder = save_model(tmp_path, None)
    wanted = prompts(0, ("A", "0", "B or A"))
    naive = Naive(folder)
    prefix = naive.text.prefix(wanted[0])
    ids = [naive.text.encode(messages) for messages in wanted]
    assert len({tuple(row[: len(prefix)]) for row in ids}) > 1
    replies = answers(folder, [ask(messages) for messages in wanted], batch_size=3)
    assert max(apart(reply, naive(m)) for reply, m in zip(replies, wanted, strict=True)) <= 1e-5
    assert len({reply.usage.cached_tokens for reply in replies}) > 1


# ── the scorer ───────────────────────────────────────────────────────────────────────────────────


def scorer(folder: Path, room: int = 2**30) -> SharedScorer:
    loaded = load(ModelSettings(str(folder), device="cpu"), "causal")
    return SharedScorer(loaded, quantize=None, prefix_bytes=room, notice=pytest.fail)


def test_a_prefix_is_computed_once_and_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scorer(save_model(tmp_path, TEMPLATE))
    prefix, rows = (5, 6, 7, 8, 9, 10), [[5, 6, 7, 8, 9, 10, 11, 12], [5, 6, 7, 8, 9, 10, 13]]
    made.logprobs(prefix, rows)
    held = made._prefixes[prefix]
    before = {layer: (held.keys[layer].clone(), held.values[layer].clone()) for layer in held.keys}
    passes: list[Any] = []
    monkeypatch.setattr(
        made, "_pass", lambda *given: passes.append(given[0]) or type(made)._pass(made, *given)
    )
    made.logprobs(prefix, rows)
    made.logprobs(prefix, [[5, 6, 7, 20, 21]])  # leaves the prefix early: reads a part of it
    made.continued(prefix, rows[0], 4, choice([(0.0, None)] * 2, len))
    assert [type(each).__name__ for each in passes] == ["Packed", "Packed"]
    assert [each.shared for each in passes] == [6, 3]
    assert made._prefixes[prefix] is held
    for layer, (keys, values) in before.items():
        assert torch.equal(held.keys[layer], keys)
        assert torch.equal(held.values[layer], values)


def test_prefixes_are_held_in_bounded_memory_the_least_used_dropped(tmp_path: Path) -> None:
    folder = save_model(tmp_path, TEMPLATE)
    prefixes = [tuple(range(n, n + 10)) for n in (5, 30, 60)]
    size = 2 * 2 * 10 * 32 * 4  # keys and values, layers, tokens, width, bytes
    made = scorer(folder, room=2 * size)
    for n in (0, 1, 0, 2):
        made.logprobs(prefixes[n], [[*prefixes[n], 7]])
    assert list(made._prefixes) == [prefixes[0], prefixes[2]]
    assert made.prefix_bytes == 2 * size
    tight = scorer(folder, room=1)
    for prefix in prefixes:
        tight.logprobs(prefix, [[*prefix, 7]])
    assert list(tight._prefixes) == prefixes[2:]
    made.forget()
    assert made.prefix_bytes == 0


def test_all_ways_to_attend_agree() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    prefix = attention.Prefix((1,) * 5, {0: torch.randn(1, 2, 5, 8)}, {0: torch.randn(1, 2, 5, 8)})
    packed = attention.Packed(prefix, 5, (2, 4, 3))
    out = packed.attend(0, query, key, value, None)
    for a, b in ((0, 2), (2, 6), (6, 9)):
        keys = torch.cat([prefix.keys[0], key[:, :, a:b]], 2).repeat_interleave(2, 1).double()
        values = torch.cat([prefix.values[0], value[:, :, a:b]], 2).repeat_interleave(2, 1).double()
        seen = torch.ones(b - a, 5 + b - a, dtype=torch.bool).tril(5)
        plain = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, a:b].double(), keys, values, attn_mask=seen
        )
        assert float((out[:, :, a:b] - plain).abs().max()) < 1e-5
    own, weight = packed._own(query, key, value, None)
    padded, same = packed._own_padded(query, key, value, None)
    assert torch.allclose(own, padded, atol=1e-6)
    assert torch.allclose(weight, same, atol=1e-6)


def test_plain_steps_agree_with_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 20, 8) for _ in range(3))
    monkeypatch.setattr(attention, "STRETCH", 7)
    for causal in (True, False):
        fused = attention._with_weight(query, key, value, None, causal=causal)
        plain = attention.plain(query, key, value, None, causal)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(fused, plain, strict=True))
    narrow = value[..., :4]  # no fused kernel takes values of another width
    out, _ = attention._with_weight(query, key, narrow, None, causal=True)
    assert torch.allclose(out, attention.plain(query, key, narrow, None, True)[0])


# ── memory ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("room", [2, 1])
def test_without_memory_fewer_are_asked_at_once_and_nothing_is_lost(tmp_path: Path, room: int) -> None:
    folder = save_model(tmp_path, TEMPLATE)
    said: list[str] = []
    seen: list[LocalBackend] = []

    def spy(backend: LocalBackend) -> None:
        whole = backend._scorer.logprobs

        def tight(prefix: tuple[int, ...], rows: Sequence[Sequence[int]]) -> Any:
            if len(rows) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(prefix, rows)

        backend._scorer.logprobs = tight  # type: ignore[method-assign]
        seen.append(backend)

    wanted = prompts(0) * 2
    replies = answers(folder, [ask(m) for m in wanted], spy, batch_size=8, notice=said.append)
    naive = Naive(folder)
    assert max(apart(reply, naive(m)) for reply, m in zip(replies, wanted, strict=True)) <= 1e-5
    assert seen[0].batch_size == room
    assert said
    assert all("no memory for" in each for each in said)


def test_what_fits_into_no_memory_is_a_bad_request(tmp_path: Path) -> None:
    def spy(backend: LocalBackend) -> None:
        def none(*_: object) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        backend._scorer.logprobs = none  # type: ignore[method-assign]

    replies = answers(save_model(tmp_path, TEMPLATE), [ask(m) for m in prompts(0)[:2]], spy)
    assert [reply.failure for reply in replies] == ["bad_request"] * 2
    assert "memory" in replies[0].text


# ── more than one token ──────────────────────────────────────────────────────────────────────────


def test_longer_answers_are_what_the_model_would_say(tmp_path: Path) -> None:
    folder = save_model(tmp_path, TEMPLATE)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    model.generation_config.repetition_penalty = 5.0  # a habit that would change the answer
    model.save_pretrained(folder)
    naive = Naive(folder)
    for messages in prompts(0)[:3]:
        (reply,) = answers(folder, [ask(messages, 24)])
        said = naive.greedy(messages, 24)
        assert reply.text == naive.text.decoded(said)
        assert (reply.finish, reply.usage.output_tokens) == ("length", 24)
        assert reply.usage.cached_tokens > 0
        assert reply.tokens is not None
        assert [token.text for token in reply.tokens] == [naive.text.token(i) for i in said]
        first = naive(messages)
        assert max(abs(math.exp(lp) - first[t]) for t, lp in reply.tokens[0].top if "\ufffd" not in t) <= 1e-5


def test_an_answer_ends_where_the_model_ends_it(tmp_path: Path) -> None:
    folder = save_model(tmp_path, TEMPLATE)
    messages = prompts(0)[0]
    naive = Naive(folder)
    said = naive.greedy(messages, 24)
    naive.model.generation_config.eos_token_id = said[5]
    naive.model.save_pretrained(folder)
    (reply,) = answers(folder, [ask(messages, 24)])
    assert (reply.finish, reply.usage.output_tokens) == ("stop", said.index(said[5]) + 1)


def test_an_answer_stays_inside_the_context(tmp_path: Path) -> None:
    folder = save_model(tmp_path, TEMPLATE)
    size = len(Naive(folder).text.encode(prompts(0)[0]))
    (reply,) = answers(
        save_model(folder, TEMPLATE, max_position_embeddings=size + 20), [ask(prompts(0)[0], 99)]
    )
    assert (reply.failure, reply.usage.output_tokens) == (None, 20)


def test_draws_follow_the_probabilities_alone_and_in_company(tmp_path: Path) -> None:
    from scipy.stats import chisquare

    folder = save_model(tmp_path, TEMPLATE, initializer_range=0.08)
    messages = prompts(0)[0]
    draws = [ask(messages, 1, logprobs=False, temperature=0.7, sample=n) for n in range(1, 601)]
    replies = answers(folder, draws, batch_size=64)
    assert answers(folder, draws[:3], batch_size=1) == replies[:3]
    naive = Naive(folder)
    logits = torch.tensor(_by_token(naive, messages)).log() / 0.7
    probs = torch.softmax(logits.double(), -1).tolist()
    by_text: dict[str, float] = {}
    for i, p in enumerate(probs):
        text = naive.text.decoded([i])
        by_text[text] = by_text.get(text, 0.0) + p
    common = [text for text, p in by_text.items() if p * 600 >= 5]
    seen = [sum(reply.text == text for reply in replies) for text in common]
    expected = [by_text[text] * 600 for text in common]
    assert len(common) >= 5
    rest = (600 - sum(seen), 600 - sum(expected))
    assert chisquare([*seen, rest[0]], [*expected, rest[1]]).pvalue > 1e-3


def _by_token(naive: Naive, messages: Sequence[Message]) -> list[float]:
    with torch.no_grad():
        logits = naive.model(torch.tensor([naive.text.encode(messages)])).logits[0, -1]
    probs: list[float] = torch.softmax(logits.double(), -1).tolist()
    return probs


def test_a_model_that_cannot_share_generates_too(tmp_path: Path) -> None:
    folder = save_model(tmp_path, TEMPLATE, "Bloom")
    (reply,) = answers(folder, [ask(prompts(0)[0], 20)])
    assert (reply.failure, reply.usage.output_tokens, reply.usage.cached_tokens) == (None, 20, 0)


def test_the_tolerances_are_those_that_the_page_states() -> None:
    page = (Path(__file__).parents[2] / "docs" / "local.md").read_text(encoding="utf-8")
    assert f"{scoring.LOOSE:g}" in page
    assert "1e-5" in page
    assert set(scoring.TOLERANCE.values()) == {1e-4}
    assert "1e-4" in page
