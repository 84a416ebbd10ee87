"""vLLM's engine in this process, on a stand-in of the package: the same answers as a local model's."""

import asyncio
import json
import math
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import calibrate, run, write_project
from trustescalate.errors import ConfigError, ProviderError
from trustescalate.judges.reply_parsing import read_verdict
from trustescalate.records import Message, Reply, Request

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.support import vllm_stand_in  # noqa: E402
from tests.support.tiny_models import TEMPLATE, save_model, save_speaking_model, save_sure_model  # noqa: E402
from trustescalate.judges.local.backend import LocalBackend  # noqa: E402
from trustescalate.judges.vllm import READ, VLLMBackend  # noqa: E402

pytestmark = pytest.mark.slow
ABT = ("A", "B", "tie")
TALK = (Message("system", "Judge."), Message("user", "Which is better? A or B, or a tie?"))


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_stand_in.use_stand_in(monkeypatch)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("chat"), TEMPLATE)


def ask(text: str = TALK[1].content, **settings: Any) -> Request:
    fields = {"max_tokens": 16, "temperature": 0.0, "logprobs": True, "sample": 0} | settings
    return Request((TALK[0], Message("user", text)), ABT, **fields)


def answer(kind: type[Any], folder: Path, requests: Sequence[Request], **settings: Any) -> list[Reply]:
    async def main() -> list[Reply]:
        backend = kind(model=str(folder), **settings)
        try:
            return await asyncio.gather(*(backend.complete(request) for request in requests))
        finally:
            await backend.close()

    return asyncio.run(main())


def mass(reply: Reply) -> dict[str, float]:
    assert reply.tokens is not None
    (token,) = reply.tokens
    return {text: math.exp(logprob) for text, logprob in token.top}


def test_the_probabilities_are_those_of_a_local_model(chat: Path) -> None:
    asked = [ask(f"{n}: A or B?") for n in range(6)]
    own, local = answer(VLLMBackend, chat, asked), answer(LocalBackend, chat, asked, device="cpu")
    for here, there in zip(own, local, strict=True):
        both = (mass(here).keys() & mass(there).keys()) - {"\ufffd"}
        assert len(both) >= 12
        assert {text: mass(here)[text] for text in both} == pytest.approx(
            {text: mass(there)[text] for text in both}, abs=1e-5
        )
        assert (here.text, here.finish, here.usage.calls) == (there.text, there.finish, there.usage.calls)
        assert (here.usage.input_tokens, here.usage.output_tokens) == (there.usage.input_tokens, 1)


def test_a_verdict_is_the_mass_of_every_spelling(chat: Path, tmp_path: Path) -> None:
    logits = {"A": 9.0, " A": 8.5, "B": 8.6, " B": 7.0, "t": 7.5, "b": 5.0}
    prompt = f"<|system|>{TALK[0].content}<|end|><|user|>?<|end|><|assistant|>"
    save_sure_model(chat, prompt, logits, tmp_path)
    (here,) = answer(VLLMBackend, tmp_path, [ask("?")])
    (there,) = answer(LocalBackend, tmp_path, [ask("?")], device="cpu")
    assert read_verdict(here, ABT).probs == pytest.approx(read_verdict(there, ABT).probs, abs=1e-4)
    assert here.tokens is not None
    assert len(here.tokens[0].top) < READ, "the likeliest, and the spellings of the labels"


def test_requests_that_wait_go_to_the_engine_together_with_prefixes_cached(chat: Path) -> None:
    shots = " ".join(["which of the two is the better one, A or B?"] * 3)
    replies = answer(VLLMBackend, chat, [ask(f"{shots} {n}") for n in range(40)], concurrency=16)
    (engine,) = vllm_stand_in.opened
    assert sum(engine.calls) == 40
    assert max(engine.calls) == 16
    assert len(engine.calls) <= 5
    assert (engine.enable_prefix_caching, engine.trust_remote_code) == (True, False)
    assert sum(reply.usage.cached_tokens > reply.usage.input_tokens / 2 for reply in replies) >= 39


def test_the_event_loop_stays_free_while_the_engine_works(chat: Path) -> None:
    async def main() -> float:
        backend = VLLMBackend(model=str(chat))
        vllm_stand_in.opened[-1].delay = 0.3
        asked = asyncio.create_task(backend.complete(ask()))
        longest, before = 0.0, time.monotonic()
        while not asked.done():
            await asyncio.sleep(0.001)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        await backend.close()
        return longest

    assert asyncio.run(main()) < 0.2
    assert threading.get_ident() not in vllm_stand_in.opened[-1].threads


def test_closing_frees_the_engine(chat: Path) -> None:
    answer(VLLMBackend, chat, [ask()])
    assert vllm_stand_in.opened[-1].llm_engine.engine_core.stopped


def test_draws_repeat_and_differ(chat: Path) -> None:
    draws = [ask(logprobs=False, sample=n, temperature=1.0) for n in range(20)]
    replies = answer(VLLMBackend, chat, draws)
    assert replies == answer(VLLMBackend, chat, draws)
    assert len({reply.text for reply in replies}) > 5
    assert all(reply.tokens is None and reply.usage.output_tokens == 16 for reply in replies)


def test_a_prompt_that_does_not_fit_is_a_bad_request_and_its_batch_is_answered(chat: Path) -> None:
    long, short = answer(VLLMBackend, chat, [ask("x y " * 300), ask()])
    assert (long.failure, long.tokens, short.failure) == ("bad_request", None, None)
    (cut,) = answer(VLLMBackend, chat, [ask()], max_model_len=8)
    assert cut.failure == "bad_request"


def test_weights_that_are_not_numbers_give_no_verdict(chat: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(chat)
    with torch.no_grad():
        model.lm_head.weight[:] = math.nan
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(chat).save_pretrained(tmp_path)
    assert [reply.failure for reply in answer(VLLMBackend, tmp_path, [ask()])] == ["bad_reply"]


def test_a_model_that_cannot_be_loaded_and_an_engine_that_stops_are_named(chat: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    with pytest.raises(ProviderError, match=tmp_path.name) as caught:
        VLLMBackend(model=str(tmp_path))
    assert "max_model_len" in caught.value.hint

    async def main() -> None:
        backend = VLLMBackend(model=str(chat))
        vllm_stand_in.opened[-1].llm_engine.engine_core.stopped = True
        await backend.complete(ask())

    with pytest.raises(ProviderError, match=r"vLLM stopped on .*EngineCore encountered an issue"):
        asyncio.run(main())


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="needs the package vllm") as caught:
        VLLMBackend(model="any")
    assert caught.value.hint.startswith("pip install 'trustescalate[vllm]'")


def test_a_project_is_calibrated_and_run_on_the_engine(tmp_path: Path) -> None:
    model = save_speaking_model(tmp_path / "model")
    table = f'[[judges]]\nname = "own"\nbackend = "vllm"\nmodel = "{model}"\n'
    config = write_project(tmp_path, table, labelled=20, unlabelled=4, alpha=0.4)
    text = config.read_text().replace("annotators = 2\nshots = 2", "annotators = 1\nshots = 0")
    config.write_text(text)
    assert calibrate(config).status == "none", "random weights agree with no one"
    made = run(config, uncertified=True)
    assert len(made.decisions) == 24
    assert {vote.failure for row in made.judgments for vote in row.votes} == {None}
    assert len(vllm_stand_in.opened) == 2
