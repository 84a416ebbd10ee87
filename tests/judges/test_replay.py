"""Recorded votes as a judge, and the checks at its door."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from trustescalate.calibration.scoring import Scorer
from trustescalate.calibration.votes import confidence, score_bounds
from trustescalate.cascade.runner import Cascade, Tier, decide_item
from trustescalate.errors import DataError
from trustescalate.judges.base import Tariff
from trustescalate.judges.replay import ReplayJudge, load_votes
from trustescalate.records import Item, Judgment, Task, TaskKind, Usage, Vote
from trustescalate.records.jsonl import write_rows
from trustescalate.records.votes import all_votes

TASK = Task(TaskKind.PAIRWISE, "?", ("A", "B"))


def vote(member: int, order: Any = "AB", **changes: Any) -> Vote:
    return Vote(member, order, changes.pop("probs", {"A": 0.9, "B": 0.1}), **changes)


def judged(item_id: str, *votes: Vote, planned: int = 4, fingerprint: str = "f") -> Judgment:
    return Judgment(item_id, "small", fingerprint, votes, planned)


FULL = (vote(0), vote(0, "BA"), vote(1), vote(1, "BA"))


def ask(judge: ReplayJudge, item_id: str, enough: Any = all_votes) -> Judgment:
    return asyncio.run(judge.judge(Item(item_id, "p", ("x", "y")), enough))


def test_what_was_recorded_comes_back() -> None:
    judge = ReplayJudge("mine", [judged("a", *FULL)])
    assert (judge.name, judge.fingerprint, judge.channel) == ("mine", "f", "logprobs")
    assert ask(judge, "a") == Judgment("a", "mine", "f", FULL, 4)


def test_waves_are_whole_prompts_in_order_and_stop_when_enough() -> None:
    judge = ReplayJudge("mine", [judged("a", FULL[2], FULL[0], FULL[3], FULL[1])])
    seen: list[int] = []

    def enough(votes: Any, planned: int) -> bool:
        seen.append(len(votes))
        return True

    assert ask(judge, "a", enough).votes == FULL[:2]
    assert seen == [2]


def test_an_item_that_was_never_recorded_is_failed_votes() -> None:
    judge = ReplayJudge("mine", [judged("a", *FULL)], Tariff(request=1.0))
    judgment = ask(judge, "zz")
    assert {(vote.failure, vote.cost) for vote in judgment.votes} == {("not_recorded", 0.0)}
    assert judgment.planned == 4
    assert confidence(TASK, "ensemble", [judgment]).label.tolist() == [-1]


def test_votes_that_were_saved_by_stopping_early_count_as_failures() -> None:
    judge = ReplayJudge("mine", [judged("a", *FULL), judged("b", *FULL[:2])])
    judgment = ask(judge, "b")
    assert [vote.failure for vote in judgment.votes] == [None, None, "not_recorded", "not_recorded"]
    assert confidence(TASK, "ensemble", [judgment]).score.tolist() == [0.45]


@pytest.mark.parametrize("estimator", ["ensemble", "verbalized"])
@pytest.mark.parametrize("tau", [0.2, 0.45, 0.46, 0.9])
def test_a_run_accepts_what_calibration_accepts_where_votes_are_missing(estimator: str, tau: float) -> None:
    judge = ReplayJudge("mine", [judged("a", *FULL), judged("b", *FULL[:2]), judged("c", FULL[2])])
    cascade = Cascade((Tier(judge, tau),), Scorer(TASK, estimator))
    for item_id in "abcz":
        label, score = confidence(TASK, estimator, [ask(judge, item_id)])
        _, decision = asyncio.run(decide_item(Item(item_id, "p", ("x", "y")), cascade))
        assert (decision.label is not None) == (label[0] >= 0 and score[0] >= tau)


@pytest.mark.parametrize("estimator", ["ensemble", "sampled"])
def test_a_gap_in_the_first_prompt_counts_alike_in_calibration_and_in_a_run(estimator: str) -> None:
    judge = ReplayJudge("mine", [judged("a", *FULL), judged("b", vote(0)), judged("c", vote(0), *FULL[2:])])
    judgments = [ask(judge, item_id) for item_id in "abcz"]
    together = confidence(TASK, estimator, judgments)
    for place, judgment in enumerate(judgments):
        alone = score_bounds(TASK, estimator, judgment.votes, judgment.planned)
        assert alone.low <= together.score[place] <= alone.high


def test_costs_are_recomputed_from_usage_when_there_is_a_tariff() -> None:
    votes = (vote(0, usage=Usage(1, 1000, 0, 10), cost=5.0), vote(1, cost=7.0))
    recorded = [judged("a", *votes, planned=2)]
    assert [vote.cost for vote in ask(ReplayJudge("m", recorded), "a").votes] == [5.0, 7.0]
    priced = ask(ReplayJudge("m", recorded, Tariff(input=1.0, request=0.25)), "a")
    assert [vote.cost for vote in priced.votes] == pytest.approx([0.251, 0.25])
    assert [vote.probs for vote in priced.votes] == [vote.probs for vote in votes]


def test_the_channel_is_that_of_the_votes() -> None:
    failed = vote(0, probs={}, failure="timeout")
    assert ReplayJudge("m", [judged("a", failed, vote(1, channel="samples"))]).channel == "samples"


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


def test_rows_of_the_wanted_judge_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl.gz"
    other = Judgment("a", "large", "g", FULL, 4)
    write_rows(tmp_path / "votes.jsonl", [judged("a", *FULL), other, judged("b", *FULL)])
    path.write_bytes(gzip.compress((tmp_path / "votes.jsonl").read_bytes()))
    assert [row.item_id for row in load_votes(path, TASK, "small")] == ["a", "b"]
    with pytest.raises(DataError, match=r"holds no judgment of 'tiny'; name the recorded judge by `of`"):
        load_votes(path, TASK, "tiny")


def line(item_id: str = "a", fingerprint: str = "f", planned: int = 1, **vote: Any) -> str:
    votes = [{"exemplar_set": 0, "order": "AB", "probs": {"A": 0.5}, **vote}]
    row = {"item_id": item_id, "judge": "small", "fingerprint": fingerprint, "planned": planned}
    return json.dumps({**row, "votes": votes})


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    lines = [
        line("a"),
        line("b", probs={"A": 0.5, "C": 0.1, "tie": 0.1}),
        line("c", probs={"A": 0.9, "B": 0.2}),
        line("d", probs={"A": -0.1}),
        line("e", probs={"A": 0.0, "B": 0.0}),
        line("f", probs={"A": float("nan")}),
        line("g", probs={}),
        line("h", failure="timeout"),
        line("i", probs={}, failure="bored"),
        line("j").replace(
            '"votes": [', '"votes": [{"exemplar_set": 1, "order": "AB", "probs": {"B": 1.0}}, '
        ),
        line("a"),
        line("k", fingerprint="other"),
        "{",
    ]
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(DataError) as caught:
        load_votes(path, TASK, "small")
    assert caught.value.hint
    assert sorted(problem.replace(f"{path}:", "") for problem in caught.value.problems) == sorted(
        [
            "2: item 'b': vote 1: 'C' is not one of A, B",
            "3: item 'c': vote 1: {'A': 0.9, 'B': 0.2} are not probabilities",
            "4: item 'd': vote 1: {'A': -0.1} are not probabilities",
            "5: item 'e': vote 1: {'A': 0.0, 'B': 0.0} are not probabilities",
            "6: votes.0.probs.A must be a finite number",
            "7: item 'g': vote 1 needs either probabilities or a failure",
            "8: item 'h': vote 1 needs either probabilities or a failure",
            "9: item 'i': vote 1: unknown failure 'bored'",
            "10: item 'j': 2 votes of 1 planned",
            "11: item 'a' was already judged on line 1",
            "13: not valid JSON (EOF while parsing an object, column 1)",
            " 'small' has judgments of different fingerprints, so of different judges",
        ]
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 problem in the data") as caught:
        load_votes(tmp_path / "none.jsonl", TASK, "small")
    assert "No such file" in caught.value.problems[0]
