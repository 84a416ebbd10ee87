"""From tables to judges: fingerprints, plugins, and mistakes."""

import asyncio
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from trustescalate.config import Config, parse_config
from trustescalate.errors import ConfigError, DataError
from trustescalate.judges import prompts, registry, templates
from trustescalate.judges.base import Ask, EnsembleJudge, Tariff
from trustescalate.judges.prompts import Exemplar
from trustescalate.judges.registry import BACKENDS, fingerprint, open_backend, open_judges
from trustescalate.judges.replay import ReplayJudge
from trustescalate.records import Item, Judgment, Reply, Request, Usage, Vote
from trustescalate.records.jsonl import write_rows
from trustescalate.records.votes import all_votes

OPENAI = {"name": "small", "backend": "openai", "model": "m", "base_url": "http://localhost:1/v1"}
SHOTS = ((Exemplar(Item("e", "1 + 1?", ("2", "3")), "A"),),)


def config(*judges: Mapping[str, Any], folder: Path = Path(), **tables: Any) -> Config:
    return parse_config(
        {"version": 1, **tables, "judges": [dict(judge) for judge in judges]}, folder / "t.toml"
    )


def print_of(judge: Mapping[str, Any], shots: Any = SHOTS, **tables: Any) -> str:
    made = config(judge, **tables)
    if judge["backend"] == "reward":  # a judge of its own, that is shown items and no prompt
        (opened,), _ = open_judges(
            made, shots, wrap=lambda ask, *_: ask, notice=lambda _: None, opened=lambda *_: Echo("1.0")
        )
        return opened.fingerprint
    return fingerprint(made, made.judges[0], shots)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "n"},
        {"base_url": "http://localhost:2/v1"},
        {"extra": {"top_p": 0.5}},
        {"channel": "samples"},
        {"mode": "reason"},
        {"mode": "structured"},
        {"mode": "stated"},
        {"max_tokens": 8},
    ],
)
def test_a_fingerprint_changes_with_the_model(changes: Mapping[str, Any]) -> None:
    tables = {"ensemble": {"estimator": "verbalized"}} if changes.get("mode") == "stated" else {}
    assert print_of({**OPENAI, **changes}, **tables) != print_of(OPENAI)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"price": {"input": 3.0, "request": 1.0}},
        {"concurrency": 3},
        {"timeout": 5.0},
        {"attempts": 2},
        {"give_up_after": 9.0},
        {"api_key_env": "OTHER_KEY"},
    ],
)
def test_a_fingerprint_does_not_change_with_how_the_model_is_reached(changes: Mapping[str, Any]) -> None:
    assert print_of({**OPENAI, **changes}) == print_of(OPENAI)


LOCAL = {"name": "own", "backend": "local", "model": "m"}
REWARD = {"name": "own", "backend": "reward", "model": "m"}
OWN = [
    {"model": "n"},
    {"revision": "r"},
    {"adapter": "a"},
    {"dtype": "bfloat16"},
    {"quantize": "int8-dynamic"},
    {"chat_template": "none"},
]


@pytest.mark.parametrize("table", [LOCAL, REWARD], ids=["local", "reward"])
def test_a_fingerprint_changes_with_a_model_of_ones_own_and_only_then(table: Mapping[str, Any]) -> None:
    more = [{"scale": 2.0}] if table is REWARD else [{"channel": "samples"}]
    prints = [print_of({**table, **changes}) for changes in [{}, *OWN, *more]]
    assert len(set(prints)) == len(prints)
    held = {"batch_size": 3, "concurrency": 8, "device": "cuda", "attn_implementation": "eager"}
    held |= {} if table is REWARD else {"prefix_mib": 9}
    assert {print_of({**table, name: value}) for name, value in held.items()} == {prints[0]}


def test_a_reward_model_is_shown_no_examples_and_no_question() -> None:
    asked = [
        print_of(REWARD),
        print_of(REWARD, ((),)),
        print_of(REWARD, task={"question": "Which is shorter?"}),
    ]
    assert len(set(asked)) == 1
    assert print_of(REWARD, task={"ties": "drop"}) != asked[0]
    assert not config(REWARD).needs_exemplars


def test_scores_kept_in_a_cache_outlive_a_change_of_scale() -> None:
    seen: list[str] = []

    def wrap(ask: Ask, endpoint: str, tariff: Tariff) -> Ask:
        seen.append(endpoint)
        return ask

    made = config({**REWARD, "name": "one"}, {**REWARD, "name": "two", "scale": 3.0})
    judges, _ = open_judges(made, (), wrap=wrap, notice=lambda _: None, opened=lambda *_: Echo("1.0"))
    assert len(set(seen)) == 1
    (vote,) = asyncio.run(judges[0].judge(Item("q", "p", ("x", "y")), all_votes)).votes
    assert vote.probs == {"A": 0.5, "B": 0.5, "tie": 0.0}


@pytest.mark.parametrize(
    "tables",
    [
        {"task": {"question": "Which is shorter?"}},
        {"task": {"ties": "drop"}},
        {"ensemble": {"swap": False}},
        {"ensemble": {"samples": 9}},
        {"task": {"kind": "binary"}},
        {"task": {"rubric": "Be strict."}},
        {"task": {"criteria": ["short"]}},
    ],
)
def test_a_fingerprint_changes_with_how_the_model_is_asked(tables: Mapping[str, Any]) -> None:
    assert print_of(OPENAI, ((),), **tables) != print_of(OPENAI, ((),))


@pytest.mark.parametrize(
    "tables", [{"guarantee": {"alpha": 0.2}}, {"roles": {"seed": 5}}, {"budget": {"usd": 1}}]
)
def test_a_fingerprint_does_not_change_with_the_guarantee(tables: Mapping[str, Any]) -> None:
    assert print_of(OPENAI, **tables) == print_of(OPENAI)


def test_a_fingerprint_changes_with_what_a_prompt_file_says_and_not_with_its_comments(tmp_path: Path) -> None:
    def print_with(text: str, **judge: Any) -> str:
        (tmp_path / "prompts").mkdir(exist_ok=True)
        (tmp_path / "prompts" / "direct.txt").write_text(text, encoding="utf-8")
        made = config({**OPENAI, **judge}, folder=tmp_path, prompts={"folder": "prompts"})
        return fingerprint(made, made.judges[0], SHOTS)  # type: ignore[arg-type]

    text = templates.shipped("direct")
    assert print_with(text) == print_with(f"# mine\n{text}") == print_of(OPENAI)
    other = text.replace("nothing else.", "no more.")
    assert print_with(other) != print_of(OPENAI)
    (tmp_path / "own.txt").write_text(other, encoding="utf-8")
    assert print_with(text, prompt="own.txt") == print_with(other)


def test_a_prompt_file_that_is_wrong_is_a_config_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("=== system ===\n{question} {symbol}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.txt:2: needs the lines"):
        opened(config({**OPENAI, "prompt": "own.txt"}, folder=tmp_path))
    with pytest.raises(ConfigError, match=r"reason\.txt: cannot be read"):
        opened(config({**OPENAI, "mode": "reason"}, folder=tmp_path, prompts={"folder": "."}))


def test_a_rubric_file_is_shown_and_its_text_is_in_the_fingerprint(tmp_path: Path) -> None:
    def made(text: str) -> Config:
        (tmp_path / "rubric.md").write_text(text, encoding="utf-8")
        return config(OPENAI, folder=tmp_path, task={"rubric_file": "rubric.md"})

    prints = [fingerprint(made(text), made(text).judges[0], SHOTS) for text in ("one", "two", "one\n")]  # type: ignore[arg-type]
    assert prints[0] == prints[2] != prints[1]
    assert prints[0] == print_of(OPENAI, task={"rubric": "one"})
    with pytest.raises(ConfigError, match="the rubric is empty"):
        opened(made(" \n"))
    (tmp_path / "rubric.md").unlink()
    with pytest.raises(ConfigError, match=r"rubric\.md: cannot be read"):
        opened(config(OPENAI, folder=tmp_path, task={"rubric_file": "rubric.md"}))


def test_a_fingerprint_changes_with_every_exemplar() -> None:
    item = SHOTS[0][0].item
    sets = [
        SHOTS,
        ((),),
        SHOTS * 2,
        ((Exemplar(item, "B"),),),
        ((Exemplar(item, "A", swapped=True),),),
        ((Exemplar(Item("e", "1 + 2?", item.responses), "A"),),),
    ]
    assert len({print_of(OPENAI, shots) for shots in sets}) == len(sets)
    renamed = ((Exemplar(Item("other id", item.prompt, item.responses), "A"),),)
    assert print_of(OPENAI, renamed) == print_of(OPENAI)


def test_a_fingerprint_changes_with_the_wording(monkeypatch: pytest.MonkeyPatch) -> None:
    before = print_of(OPENAI)
    other = prompts.Asking("direct", templates.Wording("other words", "{material}"))
    monkeypatch.setattr(registry, "asking", lambda *_: other)
    worded = print_of(OPENAI)
    monkeypatch.undo()
    monkeypatch.setattr(registry, "JUDGING", registry.JUDGING + 1)
    assert len({before, worded, print_of(OPENAI)}) == 3


# ── backends ─────────────────────────────────────────────────────────────────────────────────────


class Echo:
    """A backend from elsewhere."""

    def __init__(self, word: str = "A") -> None:
        if not word:
            raise ValueError("word must not be empty")
        self.word = word

    async def complete(self, request: Request) -> Reply:
        return Reply(self.word, None, "stop", Usage(1))


def plugins(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    found = [EntryPoint(name, target, registry.PLUGINS) for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == registry.PLUGINS else [])


def plugin(backend: str, **options: Any) -> Config:
    return config({"name": "p", "backend": backend, "options": options})


def opened(made: Config, **settings: Any) -> tuple[list[Any], list[Any]]:
    return open_judges(made, SHOTS, wrap=lambda ask, *_: ask, notice=lambda _: None, **settings)


def test_a_plugin_is_found_and_gets_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins(monkeypatch, echo=f"{__name__}:Echo")
    (judge,), (backend,) = opened(plugin("echo", word="B"))
    assert (type(backend).__name__, backend.word) == ("Echo", "B")
    judgment = asyncio.run(judge.judge(Item("q", "p", ("x", "y")), all_votes))
    assert [vote.probs["A"] for vote in judgment.votes] == [0.0] * 3 + [1.0] * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [({"wird": "B"}, "judge 'p': .*wird"), ({"word": ""}, "judge 'p': word must not be empty")],
)
def test_a_wrong_option_of_a_plugin_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch, options: Mapping[str, Any], said: str
) -> None:
    plugins(monkeypatch, echo=f"{__name__}:Echo")
    with pytest.raises(ConfigError, match=said) as caught:
        opened(plugin("echo", **options))
    assert caught.value.hint


def test_an_unknown_or_broken_backend_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins(
        monkeypatch, echo=f"{__name__}:Echo", gone="no_such_module_anywhere:Thing", bare=f"{__name__}:Nothing"
    )
    for typo, near in (("ecko", "echo"), ("opnai", "openai"), ("reply", "replay")):
        with pytest.raises(ConfigError, match=f"unknown backend '{typo}'") as caught:
            opened(plugin(typo))
        assert caught.value.hint == f"did you mean '{near}'?"
    with pytest.raises(ConfigError) as caught:
        opened(plugin("zzz"))
    assert caught.value.hint == (
        "known backends are bare, callable, classical, decisions, echo, gone, litellm, local, mock, openai, "
        "replay, reward, score, simulated, vllm"
    )
    for name in ("gone", "bare"):
        with pytest.raises(ConfigError, match=f"backend '{name}' cannot be loaded"):
            opened(plugin(name))


def test_every_backend_takes_the_fields_of_its_table() -> None:
    for table in (OPENAI, {"name": "s", "backend": "simulated", "model": "XS", "seed": 4}):
        backend = open_backend(config(table).judges[0], lambda _: None)  # type: ignore[arg-type]
        assert callable(backend.complete)
        close = getattr(backend, "close", None)
        if close is not None:
            asyncio.run(close())
    assert set(BACKENDS) == {
        *("callable", "decisions", "litellm", "local", "mock", "openai", "reward", "score", "simulated"),
        "vllm",
    }


# ── judges ───────────────────────────────────────────────────────────────────────────────────────


def test_the_cache_is_told_apart_by_endpoint_and_not_by_name() -> None:
    seen: list[tuple[str, Tariff]] = []

    def wrap(ask: Ask, endpoint: str, tariff: Tariff) -> Ask:
        seen.append((endpoint, tariff))
        return ask

    simulated = {"backend": "simulated", "price": {"input": 2.0}}
    made = config(
        {**simulated, "name": "a", "model": "XS"},
        {**simulated, "name": "b", "model": "XS"},
        {**simulated, "name": "c", "model": "S"},
    )
    judges, _ = open_judges(made, SHOTS, wrap=wrap, notice=lambda _: None)
    assert [judge.name for judge in judges] == ["a", "b", "c"]
    assert len({endpoint for endpoint, _ in seen}) == 2
    assert seen[0][1] == Tariff(input=2.0, cached_input=2.0)


def test_a_channel_that_was_certified_is_fixed_unless_the_table_names_one() -> None:
    simulated = {"backend": "simulated", "model": "XS"}
    made = config({**simulated, "name": "a"}, {**simulated, "name": "b", "channel": "logprobs"})
    judges, _ = opened(made, channels={"a": "samples", "b": "samples"})
    assert all(isinstance(judge, EnsembleJudge) for judge in judges)
    assert [judge.channel for judge in judges] == ["samples", "logprobs"]


def recorded(judge: str, label: str = "A") -> Judgment:
    return Judgment("q", judge, f"print of {judge}", (Vote(0, "AB", {label: 0.9}, cost=1.0),), 1)


def test_recorded_judges_stand_beside_the_others(tmp_path: Path) -> None:
    write_rows(tmp_path / "votes.jsonl", [recorded("one"), recorded("two")])
    made = config(
        {"name": "one", "backend": "replay", "votes": "votes.jsonl"},
        {"name": "s", "backend": "simulated", "model": "XS"},
        {"name": "2", "backend": "replay", "votes": "votes.jsonl", "of": "two", "price": {"request": 0.5}},
        folder=tmp_path,
    )
    judges, backends = opened(made)
    assert [judge.name for judge in judges] == ["one", "s", "2"]
    assert len(backends) == 1
    assert isinstance(judges[2], ReplayJudge)
    assert judges[2].fingerprint == "print of two"
    costs = [asyncio.run(judges[n].judge(Item("q", "p", ("x", "y")), all_votes)).cost for n in (0, 2)]
    assert costs == [1.0, 0.5]
    assert made.needs_exemplars
    assert not config({"name": "one", "backend": "replay", "votes": "votes.jsonl"}).needs_exemplars


def test_all_problems_of_all_recorded_judges_come_at_once(tmp_path: Path) -> None:
    write_rows(tmp_path / "one.jsonl", [recorded("one", "C")])
    write_rows(tmp_path / "two.jsonl", [recorded("two", "D")])
    names = ("one", "two", "none")
    tables = [{"name": name, "backend": "replay", "votes": f"{name}.jsonl"} for name in names]
    with pytest.raises(DataError) as caught:
        opened(config(*tables, folder=tmp_path))
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        f"{tmp_path / 'one.jsonl'}:1",
        f"{tmp_path / 'two.jsonl'}:1",
        f"{tmp_path / 'none.jsonl'}",
    ]
