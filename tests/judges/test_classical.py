"""The free tier: symmetric to the last bit, the same from the same rows, honest on rows it was fitted on."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.support.pairs import PAIR, pairs, text
from tests.support.projects import calibrate, run, simulated, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.errors import CertificateMismatch, DataError
from trustescalate.judges.base import Tariff
from trustescalate.judges.classical import ClassicalJudge
from trustescalate.judges.features import Reader, form
from trustescalate.judges.prompts import Exemplar
from trustescalate.project import Project
from trustescalate.records import TIE, Item, Task, TaskKind, Turn, Vote
from trustescalate.records.votes import all_votes
from trustescalate.stats.calibration import auroc, expected_calibration_error

pytestmark = pytest.mark.slow
STRICT_PAIR = replace(PAIR, labels=("A", "B"))
GRADE = Task(TaskKind.RATING, "How good?", ("1", "2", "3"))
PASS = Task(TaskKind.BINARY, "Good?", ("pass", "fail"))


def grades(n: int, task: Task, seed: int = 0) -> list[Exemplar]:
    """The label grows with the length."""
    rng, rows = Random(seed), []
    for i in range(n):
        k = rng.randrange(len(task.labels))
        said = text(rng, rng.randint(10 + 40 * k, 30 + 40 * k))
        rows.append(Exemplar(Item(f"{seed}-{i}", f"Question {i}?", (said,), "the apple"), task.labels[k]))
    return rows


def vote(judge: ClassicalJudge, item: Item) -> Vote:
    (said,) = asyncio.run(judge.judge(item, all_votes)).votes
    return said


def swapped(item: Item) -> Item:
    return replace(item, responses=item.responses[::-1])


def verdict(judge: ClassicalJudge, item: Item) -> str:
    probs = vote(judge, item).probs
    return max(probs, key=lambda label: probs[label])


def share_right(judge: ClassicalJudge, rows: Sequence[Exemplar]) -> float:
    return float(np.mean([verdict(judge, row.item) == row.label for row in rows]))


@pytest.mark.parametrize("model", ["logistic", "boosted"])
@pytest.mark.parametrize("task", [PAIR, STRICT_PAIR])
def test_a_swapped_pair_gets_the_swapped_vote_to_the_last_bit(model: str, task: Task) -> None:
    rows = pairs(80, ties=TIE in task.labels)
    judge = ClassicalJudge("c", task, rows, model=model)  # type: ignore[arg-type]
    odd = [Item("x", "?", ("a" * 5000, "")), Item("y", "?", ("\ud800 ünï", "**A**\n- b")), rows[0].item]
    for item in [row.item for row in pairs(40, seed=1)] + odd:
        one, other = vote(judge, item), vote(judge, swapped(item))
        assert one.order == "AB+BA"
        assert (one.probs["A"], one.probs["B"]) == (other.probs["B"], other.probs["A"])
        assert one.probs.get(TIE) == other.probs.get(TIE)
        assert abs(sum(one.probs.values()) - 1) < 1e-12
    same = vote(judge, Item("z", "?", ("same", "same")))
    assert same.probs["A"] == same.probs["B"]


@pytest.mark.parametrize("model", ["logistic", "boosted"])
@pytest.mark.parametrize("kind", ["pair", "grade", "pass"])
def test_it_learns_what_people_go_by_and_knows_how_sure_it_may_be(model: str, kind: str) -> None:
    task = {"pair": STRICT_PAIR, "grade": GRADE, "pass": PASS}[kind]
    make: Callable[[int, int], list[Exemplar]] = lambda n, seed: grades(n, task, seed)  # noqa: E731
    if kind == "pair":
        make = lambda n, seed: pairs(n, seed, ties=False)  # noqa: E731
    judge, rows = ClassicalJudge("c", task, make(150, 0), model=model), make(200, 1)  # type: ignore[arg-type]
    assert share_right(judge, rows) > 0.8
    scores = np.array([max(vote(judge, row.item).probs.values()) for row in rows])
    right = np.array([verdict(judge, row.item) == row.label for row in rows])
    gap = expected_calibration_error(scores, right)
    assert gap is not None
    assert gap < 0.15
    if not right.all():
        assert (auroc(scores, right) or 0) > 0.5


def test_it_says_ties_where_people_do() -> None:
    judge, rows = ClassicalJudge("c", PAIR, pairs(250)), pairs(200, seed=1)
    tied = [vote(judge, row.item).probs[TIE] for row in rows if row.label == TIE]
    others = [vote(judge, row.item).probs[TIE] for row in rows if row.label != TIE]
    assert np.mean(tied) > np.mean(others) + 0.1


def test_rows_it_was_fitted_on_are_judged_by_a_model_that_did_not_see_them() -> None:
    """Labels are coins: who has seen a row could know it by heart, and must not."""
    rng = Random(5)
    rows = [replace(row, label=rng.choice("AB")) for row in pairs(150, ties=False)]
    judge = ClassicalJudge("c", STRICT_PAIR, rows, model="boosted")
    assert share_right(judge, rows) < 0.64
    whole = judge._models[-1]
    known = np.mean([(whole.margins(row.item)[0] > 0) == (row.label == "A") for row in rows])
    assert known > 0.64, "the canary: the model of all rows does know them"


def test_one_group_lies_in_one_fold() -> None:
    rows = [replace(row, item=replace(row.item, group=f"g{i // 5}")) for i, row in enumerate(pairs(60))]
    folds = ClassicalJudge("c", PAIR, rows)._folds
    by_key = list(folds.values())
    assert len(by_key) == 60
    seen: dict[str, set[int]] = {}
    from trustescalate.judges.classical import _key

    for row in rows:
        seen.setdefault(str(row.item.group), set()).add(folds[_key(row.item)])
    assert all(len(places) == 1 for places in seen.values())
    with pytest.raises(DataError, match="fewer than 5 groups"):
        ClassicalJudge("c", PAIR, [replace(row, item=replace(row.item, group="one")) for row in rows])


def test_fewer_than_twenty_rows_are_refused_with_a_hint() -> None:
    with pytest.raises(DataError, match="19 rows") as caught:
        ClassicalJudge("c", PAIR, pairs(19))
    assert "dev = 0.3" in caught.value.hint
    assert ClassicalJudge("c", PAIR, pairs(20)).fingerprint


@pytest.mark.parametrize("label", ["A", TIE])
def test_rows_of_one_label_alone_are_no_reason_to_fail(label: str) -> None:
    rows = [replace(row, label=label) for row in pairs(40)]
    said = vote(ClassicalJudge("c", PAIR, rows), rows[0].item)
    assert abs(sum(said.probs.values()) - 1) < 1e-12
    assert (said.probs[TIE] > 0.9) == (label == TIE)
    graded = ClassicalJudge("c", GRADE, [replace(row, label="2") for row in grades(40, GRADE)])
    assert max(vote(graded, grades(1, GRADE, 9)[0].item).probs.items(), key=lambda p: p[1])[0] == "2"


# ── the same judge ───────────────────────────────────────────────────────────────────────────────


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = pairs(60)
    one, other = (
        ClassicalJudge("a", PAIR, rows),
        ClassicalJudge("b", PAIR, rows[::-1], tariff=Tariff(request=1)),
    )
    assert one.fingerprint == other.fingerprint
    item = pairs(1, seed=2)[0].item
    assert vote(one, item).probs == vote(other, item).probs
    assert (vote(one, item).cost, vote(other, item).cost) == (0.0, 1.0)


@pytest.mark.parametrize("change", ["label", "text", "row", "seed", "model", "labels"])
def test_whatever_may_change_a_verdict_changes_the_fingerprint(change: str) -> None:
    rows = pairs(60, ties=False)
    before = ClassicalJudge("c", PAIR, rows).fingerprint
    first = rows[0]
    made = {
        "label": lambda: ClassicalJudge("c", PAIR, [replace(first, label=TIE), *rows[1:]]),
        "text": lambda: ClassicalJudge(
            "c", PAIR, [replace(first, item=replace(first.item, responses=("one", "two"))), *rows[1:]]
        ),
        "row": lambda: ClassicalJudge("c", PAIR, rows[1:]),
        "seed": lambda: ClassicalJudge("c", PAIR, rows, seed=1),
        "model": lambda: ClassicalJudge("c", PAIR, rows, model="boosted"),
        "labels": lambda: ClassicalJudge("c", STRICT_PAIR, rows),
    }[change]()
    assert made.fingerprint != before


FIT = """
from trustescalate.judges.classical import ClassicalJudge
from trustescalate.judges.prompts import Exemplar
from trustescalate.judges.simulated import generate
from trustescalate.records import Task, TaskKind
world = generate(3, 50)
rows = [Exemplar(item, "AB"[len(item.responses[0]) % 2]) for item in world.items]
for model in ("logistic", "boosted"):
    print(ClassicalJudge("c", Task(TaskKind.PAIRWISE, "?", ("A", "B", "tie")), rows, model=model).fingerprint)
"""


def test_a_fit_does_not_depend_on_the_process_or_its_threads() -> None:
    printed = set()
    for threads in ("1", "4"):
        settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED"), threads)
        settings["PYTHONPATH"] = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", FIT]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
        printed.add(done.stdout)
    assert len(printed) == 1
    assert len(set(next(iter(printed)).split())) == 2


def test_features_of_strange_texts_are_finite() -> None:
    turns = (Turn("user", "a"), Turn("assistant", ""))
    for said in ("", " ", "\x00\ud800", "9" * 10_000, "```" * 500, "你好。" * 50):
        assert np.isfinite(form(Item("q", turns, (said,), said), said)).all()
    empty = Reader([Item(str(i), "?", ("", "")) for i in range(4)], grams=True)
    assert np.isfinite(empty.rows([Item("q", "?", ("x" * 99, ""))])).all()


# ── in a project ─────────────────────────────────────────────────────────────────────────────────

CLASSICAL = '[[judges]]\nname = "free"\nbackend = "classical"\n' + simulated("large", "M")


def test_a_cascade_with_a_free_first_tier_is_certified_and_run(tmp_path: Path) -> None:
    config = write_project(tmp_path, CLASSICAL, labelled=200, more="[roles]\ndev = 0.3")
    certificate = calibrate(config)
    assert certificate.status == "certified"
    free = certificate.diagnostics[0]
    assert (free.judge, free.cost, dict(free.failures)) == ("free", 0.0, {})
    done = run(config)
    assert {row.judge for row in done.judgments} <= {"free", "large"}
    assert all(vote.order == "AB+BA" for row in done.judgments if row.judge == "free" for vote in row.votes)
    again = Project.open(config)
    assert asyncio.run(again.run()).header.certificate.judges == certificate.judges


def test_another_label_on_a_fitting_row_makes_another_judge(tmp_path: Path) -> None:
    config = write_project(tmp_path, CLASSICAL, labelled=200, more="[roles]\ndev = 0.3")
    row = calibrate(config).roles["dev"][0]
    notes = tmp_path / "annotations.jsonl"
    kept = [line for line in notes.read_text().splitlines() if f'"item_id": "{row}"' not in line]
    assert len(kept) < len(notes.read_text().splitlines())
    notes.write_text("\n".join([*kept, f'{{"item_id": "{row}", "annotator": "x", "label": "tie"}}']) + "\n")
    with pytest.raises(CertificateMismatch, match="fingerprint of free"):
        run(config)


def test_check_warns_of_too_few_rows_and_imports_no_scikit_learn_without_need(tmp_path: Path) -> None:
    config = write_project(tmp_path, CLASSICAL, labelled=40)
    found = inspect_project(Project.open(config).config)
    assert any("to fit a classical judge on" in warning for warning in found.warnings)
    with pytest.raises(DataError, match="judge 'free'"):
        calibrate(config)
