"""What every kind of judge must keep: one table of kinds, and one test of each guarantee.

A new kind is a row in `KINDS`. `table` is its [[judges]] table; `changes` are the keys, with other values,
that may change a verdict, `free` those that may not.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.decision_server import by_length, decide
from tests.support.litellm_stand_in import use_stand_in
from tests.support.pairs import pairs
from tests.support.servers import Canned, FaultServer
from trustescalate.config import Config, parse_config
from trustescalate.judges.distilled import FittingRows
from trustescalate.judges.prompts import Exemplar
from trustescalate.judges.registry import BACKENDS, open_judges
from trustescalate.records import FAILURES, Item, Judgment, Vote
from trustescalate.records.jsonl import write_rows
from trustescalate.records.votes import all_votes

pytestmark = pytest.mark.slow
ITEM = Item("q", "Which is longer?", ("a few words", "rather more words than that"))
OTHER = Item("r", "And of these?", ("x" * 40, "y"))
BROKEN = Item("broken", "And of these? BROKEN", ("BROKEN one", "BROKEN two"))
SHOTS = ((Exemplar(Item("e", "1 + 1?", ("2", "3")), "A"),), (Exemplar(Item("f", "2 + 1?", ("2", "3")), "B"),))
TASK = {"question": "Which is longer?", "ties": "class"}

CONTEXT = 4096
SOURCE = """
def judge(item):
    if "BROKEN" in item["prompt"]:
        raise ValueError("broken")
    a, b = map(len, item["responses"])
    return {"A": a / (a + b), "B": b / (a + b)}

def other(item):
    return "A"
"""


@dataclass(frozen=True)
class Kind:
    """A kind of judge. `breaks`: it can fail on an item; `reads_ids`: it knows items by their id alone."""

    table: Callable[[Path, FaultServer], dict[str, Any]]
    changes: tuple[Mapping[str, Any], ...]
    free: tuple[Mapping[str, Any], ...] = ()
    breaks: bool = True
    reads_ids: bool = False
    reads_task: bool = False


REACHED = (
    *({"concurrency": 2}, {"timeout": 9.0}, {"attempts": 2}, {"give_up_after": 9.0}),
    {"api_key_env": "HOME"},
)

KINDS: Mapping[str, Kind] = {
    "openai": Kind(
        lambda folder, server: {"model": "m", "base_url": server.url, "attempts": 1},
        (
            {"model": "n"},
            {"base_url": "http://localhost:1/v1"},
            {"extra": {"top_p": 0.5}},
            {"mode": "reason"},
            {"max_tokens": 5},
            {"channel": "samples"},
        ),
        (*REACHED, {"batch_discount": 0.4}),
        reads_task=True,
    ),
    "litellm": Kind(
        lambda folder, server: {"model": "openai/m", "base_url": server.url, "attempts": 1},
        (
            {"model": "openai/n"},
            {"base_url": "http://localhost:1/v1"},
            {"extra": {"top_p": 0.5}},
            {"mode": "reason"},
        ),
        (*REACHED, {"batch_discount": 0.4}),
        reads_task=True,
    ),
    "local": Kind(
        lambda folder, server: {"model": str(folder / "model"), "device": "cpu"},
        ({"dtype": "bfloat16"}, {"channel": "samples"}),
        reads_task=True,
    ),
    "vllm": Kind(
        lambda folder, server: {"model": str(folder / "model")},
        ({"dtype": "bfloat16"}, {"channel": "samples"}, {"max_model_len": 4000}),
        ({"concurrency": 2}, {"tensor_parallel_size": 2}, {"gpu_memory_utilization": 0.5}),
        reads_task=True,
    ),
    "reward": Kind(
        lambda folder, server: {"model": str(folder / "reward"), "device": "cpu"},
        ({"dtype": "bfloat16"}, {"scale": 2.0}),
        ({"batch_size": 2}, {"concurrency": 2}),
    ),
    "mock": Kind(
        lambda folder, server: {}, ({"reply": "A"}, {"confidence": 0.8}), breaks=False, reads_task=True
    ),
    "simulated": Kind(
        lambda folder, server: {"model": "XS"}, ({"model": "S"}, {"seed": 4}), breaks=False, reads_task=True
    ),
    "replay": Kind(lambda folder, server: {"votes": "votes.jsonl", "of": "r"}, (), reads_ids=True),
    "classical": Kind(lambda folder, server: {}, ({"model": "boosted"}, {"seed": 4}), breaks=False),
    "callable": Kind(
        lambda folder, server: {"function": "mine:judge", "version": "1"},
        ({"function": "mine:other"}, {"version": "2"}),
        ({"concurrency": 2}, {"timeout": 9.0}),
    ),
    "score": Kind(
        lambda folder, server: {"model": "m", "base_url": server.url, "scale": 20.0, "attempts": 1},
        ({"model": "n"}, {"api": "rerank"}, {"scale": 2.0}, {"base_url": "http://localhost:1/v1"}),
        (*REACHED, {"decision_threshold": 1.0}),
    ),
    "decisions": Kind(
        lambda folder, server: {"model": "m", "base_url": server.url, "attempts": 1},
        ({"model": "n"}, {"api": "systemone"}, {"extra": {"x": 1}}, {"base_url": "http://localhost:1/v1"}),
        (*REACHED, {"requests_per_minute": 9.0}),
        reads_task=True,
    ),
    "systemone": Kind(
        lambda folder, server: {
            **{"backend": "decisions", "api": "systemone"},
            **{"model": "m", "base_url": server.url, "attempts": 1},
        },
        ({"model": "n"}, {"api": "decisions"}, {"base_url": "http://localhost:1/v1"}),
        REACHED,
        reads_task=True,
    ),
}
NAMES = [pytest.param(name, id=name) for name in KINDS]


def plan(body: dict[str, Any], nth: int) -> Canned | None:
    """Scores and decisions by length; chat completions by hash; an error for broken items."""
    if "BROKEN" in json.dumps(body.get("text_2") or body.get("questions") or body.get("messages", [""])[-1]):
        return Canned(400, {"error": {"message": "context length exceeded"}})
    if "text_2" in body:
        return Canned(200, {"data": [{"index": 0, "score": float(len(body["text_2"]))}], "usage": {}})
    return Canned(200, decide(body, by_length)) if "questions" in body else None


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(plan=plan) as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("contract")
    (made / "mine.py").write_text(SOURCE)
    votes = (Vote(0, "AB", {"A": 0.6, "B": 0.3}), Vote(0, "BA", {"A": 0.5, "B": 0.4}))
    write_rows(made / "votes.jsonl", [Judgment(item.id, "r", "print", votes, 2) for item in (ITEM, OTHER)])
    return made


@dataclass(frozen=True)
class Bench:
    """Everything that a kind may need."""

    name: str
    folder: Path
    server: FaultServer

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    def config(self, *changes: Mapping[str, Any], **tables: Any) -> Config:
        table = {"name": "j", "backend": self.name, **self.kind.table(self.folder, self.server)}
        for change in changes:
            table |= change
        given = {"version": 1, "task": TASK, **tables, "judges": [table]}
        return parse_config(given, self.folder / "t.toml")

    def fingerprint(self, *changes: Mapping[str, Any], **tables: Any) -> str:
        return self.ask((), *changes, **tables)[0]

    def ask(self, items: Any, *changes: Mapping[str, Any], **tables: Any) -> tuple[str, list[Judgment]]:
        """The fingerprint of a judge that was just opened, and its judgments."""

        async def asked() -> tuple[str, list[Judgment]]:
            (judge,), backends = open_judges(
                self.config(*changes, **tables),
                SHOTS,
                wrap=lambda ask, *_: ask,
                notice=lambda _: None,
                rows=FittingRows(pairs(40)),
            )
            try:
                return judge.fingerprint, [await judge.judge(item, all_votes) for item in items]
            finally:
                for backend in backends:
                    close = getattr(backend, "close", None)
                    if close is not None:
                        await close()

        return asyncio.run(asked())


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, folder: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    if request.param == "litellm":
        use_stand_in(monkeypatch)
    if request.param == "vllm":
        pytest.importorskip("torch")
        from tests.support import vllm_stand_in

        vllm_stand_in.use_stand_in(monkeypatch)
    if request.param in ("local", "vllm") and not (folder / "model").exists():
        pytest.importorskip("torch")
        from tests.support.tiny_models import save_speaking_model

        save_speaking_model(folder / "model", CONTEXT)
    if request.param == "reward" and not (folder / "reward").exists():
        pytest.importorskip("torch")
        from tests.support.tiny_models import TEMPLATE, save_model

        shape = {"max_position_embeddings": CONTEXT, "num_labels": 1, "pad_token_id": 0}
        save_model(folder / "reward", TEMPLATE, head="ForSequenceClassification", **shape)
    return Bench(request.param, folder, server)


each = pytest.mark.parametrize("bench", NAMES, indirect=True)


def mirrored(vote: Vote) -> tuple[tuple[str, float], ...]:
    other = {"A": "B", "B": "A"}
    return tuple(sorted((other.get(label, label), p) for label, p in vote.probs.items()))


def alike(one: tuple[tuple[str, float], ...], other: tuple[tuple[str, float], ...]) -> bool:
    """The same labels with the same probabilities, to what sums in another order leave of a float32."""
    return dict(one) == pytest.approx(dict(other), abs=1e-5)


def plain(vote: Vote) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(vote.probs.items()))


def test_every_backend_that_is_built_in_is_held_to_it() -> None:
    from trustescalate.config.judges import BUILT_IN

    assert set(KINDS) - {"systemone"} == set(BUILT_IN) >= set(BACKENDS)


@each
def test_the_same_item_gets_the_same_votes(bench: Bench) -> None:
    (one, first), (other, second) = bench.ask([ITEM, OTHER]), bench.ask([OTHER, ITEM])
    assert one == other
    for judgment, again in zip(first, second[::-1], strict=True):
        assert (judgment.item_id, judgment.planned) == (again.item_id, again.planned)
        for vote, other_vote in zip(judgment.votes, again.votes, strict=True):
            assert alike(plain(vote), plain(other_vote))
    for judgment in first:
        assert (judgment.judge, judgment.fingerprint) == ("j", one)
        assert 1 <= len(judgment.votes) == judgment.planned
        for vote in judgment.votes:
            assert (vote.failure, vote.channel) == (None, first[0].votes[0].channel)
            assert set(vote.probs) <= {"A", "B", "tie"}
            assert 0 < sum(vote.probs.values()) <= 1 + 1e-6


@each
def test_the_order_in_which_responses_were_shown_is_undone(bench: Bench) -> None:
    """What is shown second of a pair is what is shown first of the swapped pair: so is the answer to it."""
    if bench.kind.reads_ids:
        pytest.skip("knows items by their id: its votes were recorded in the item's frame")
    here, there = bench.ask([ITEM, replace(ITEM, responses=ITEM.responses[::-1])])[1]
    if here.votes[0].order not in ("AB", "BA"):
        for vote, other in zip(here.votes, there.votes, strict=True):
            assert alike(plain(vote), mirrored(other))
        return
    by_order = {(vote.exemplar_set, vote.order): vote for vote in there.votes}
    for vote in here.votes:
        assert alike(plain(vote), mirrored(by_order[vote.exemplar_set, "BA" if vote.order == "AB" else "AB"]))


@each
def test_a_failure_is_a_value(bench: Bench) -> None:
    if not bench.kind.breaks:
        pytest.skip("makes no model calls that could fail")
    item = (
        BROKEN
        if bench.name not in ("local", "reward", "vllm")
        else replace(BROKEN, responses=("too long " * CONTEXT, "x"))
    )
    broken, good = bench.ask([item, ITEM])[1]
    assert len(broken.votes) == broken.planned
    for vote in broken.votes:
        assert vote.failure in FAILURES
        assert dict(vote.probs) == {}
    assert all(vote.failure is None for vote in good.votes)


@each
def test_whatever_may_change_a_verdict_changes_the_fingerprint(bench: Bench) -> None:
    marks = [bench.fingerprint(), *(bench.fingerprint(change) for change in bench.kind.changes)]
    assert len(set(marks)) == len(marks)
    dropped = bench.fingerprint(task={**TASK, "ties": "drop"})
    assert (dropped == marks[0]) == (bench.name == "replay")
    asked = bench.fingerprint(task={**TASK, "question": "Which is nicer?"})
    assert (asked != marks[0]) == bench.kind.reads_task
    unswapped = bench.fingerprint(ensemble={"swap": False})
    assert (unswapped != marks[0]) == (bench.kind.reads_task or bench.name == "callable")


@each
def test_what_cannot_change_a_verdict_does_not(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "anything")
    free = [*bench.kind.free, {"name": "k"}, {"price": {"input": 3.0, "request": 0.5}}]
    marks = {bench.fingerprint(), *(bench.fingerprint(change) for change in free)}
    marks.add(bench.fingerprint(guarantee={"alpha": 0.3}, roles={"seed": 7}, budget={"usd": 9}))
    assert len(marks) == 1


@each
def test_a_price_is_charged_and_changes_nothing_else(bench: Bench) -> None:
    free, priced = bench.ask([ITEM])[1][0], bench.ask([ITEM], {"price": {"request": 0.25}})[1][0]
    assert free.cost == 0
    assert priced.cost > 0
    assert [plain(vote) for vote in free.votes] == [plain(vote) for vote in priced.votes]
