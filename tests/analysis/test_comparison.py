"""Two runs beside each other: what differs in worlds whose truth is known, and from the files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from tests.support import factory
from tests.support.hostile import ALIVE, UNSAFE
from tests.support.projects import calibrate, edit, run, write_project
from tests.support.runs import world
from trustescalate.analysis.comparison import compare
from trustescalate.analysis.comparison_section import Comparison
from trustescalate.cli import app
from trustescalate.errors import UsageError
from trustescalate.records import Annotation, Item, Run, Task, TaskKind, Vote

pytestmark = pytest.mark.slow
BETTER = 0.1
BASE = world(0, items=400)[0]


def systems(seed: int, *, labels: int = 200, better: float = BETTER, picked: bool = False) -> tuple[Run, Run]:
    """Two systems on the same prompts, the second better; easy prompts are easy for both."""
    rng = np.random.default_rng(seed)
    base = BASE
    easy = rng.random(400)
    runs, wins = [], []
    for k in (0, 1):
        won = rng.random(400) < 0.2 + 0.5 * easy + k * better
        share = np.clip(0.2 + 0.5 * won + 0.15 * k + 0.15 * rng.normal(size=400), 0.01, 0.99)
        items = tuple(replace(item, responses=(f"{k} {item.id}", "b")) for item in base.items)
        judgments = tuple(
            replace(row, votes=tuple(replace(v, probs={"A": share[n], "B": 1 - share[n]}) for v in row.votes))
            for row in base.judgments
            for n in [int(row.item_id[1:]) - 150]
        )
        steps = [replace(base.decisions[n].trail[0], score=max(share[n], 1 - share[n])) for n in range(400)]
        decisions = tuple(
            replace(row, label="A" if share[n] > 0.5 else "B", trail=(steps[n],))
            if steps[n].score > 0.7
            else replace(row, label=None, trail=(steps[n],))
            for n, row in enumerate(base.decisions)
        )
        runs.append(replace(base, items=items, judgments=judgments, decisions=decisions))
        wins.append(won)
    order = np.argsort([row.label is not None for row in runs[0].decisions], kind="stable")
    drawn = order[:labels] if picked else rng.choice(400, labels, replace=False)
    ids = [item.id for item in base.items]
    told = [tuple(Annotation(ids[n], "x", "A" if won[n] else "B") for n in drawn) for won in wins]
    return replace(runs[0], annotations=told[0]), replace(runs[1], annotations=told[1])


def test_the_difference_is_covered() -> None:
    draws, missed, found_better, alarms = 40, 0, 0, 0
    for seed in range(draws):
        found = compare(*systems(seed))
        assert found.kind == "answers"
        assert found.change is not None
        if found.change.interval is None:
            alarms += 1
            continue
        assert found.change.usable
        low, high = found.change.interval
        missed += not low <= BETTER <= high
        found_better += low > 0
        assert found.change.verdicts is not None
        assert found.change.verdicts[0] <= BETTER <= found.change.verdicts[1]
    assert missed <= binom.ppf(1 - 1e-6, draws, 0.05)
    assert alarms <= binom.ppf(1 - 1e-6, draws, 0.01)
    assert found_better > draws / 4


def test_equal_systems_are_seldom_called_different() -> None:
    """The judges flatter the second by fifteen points: alone they would always call it better."""
    draws, wrong, flattered = 40, 0, 0
    for seed in range(draws):
        change = compare(*systems(seed, better=0.0)).change
        assert change is not None
        assert change.by_judges is not None
        flattered += change.by_judges > 0.05
        wrong += change.interval is not None and not change.interval[0] <= 0 <= change.interval[1]
    assert wrong <= binom.ppf(1 - 1e-6, draws, 0.05)
    assert flattered == draws


def test_labels_of_what_was_abstained_on_are_not_taken_for_a_draw() -> None:
    change = compare(*systems(1, picked=True)).change
    assert change is not None
    assert (change.estimate, change.usable) == (None, False)
    assert "were selected" in change.reason


def test_few_labels_show_limits_from_labels_alone() -> None:
    found = compare(*systems(2, labels=50))
    assert found.change is not None
    assert (found.change.usable, found.change.reason) == (False, "50 labels, fewer than 100")
    assert "Few labels (50 labels" in " ".join(found.lines())
    none = compare(*systems(2, labels=0))
    assert none.change is not None
    assert "no matched item has a human label" in none.change.reason
    one = compare(*systems(2, labels=1))
    assert one.change is not None
    assert "fewer than 2" in one.change.reason


def judges() -> tuple[Run, Run]:
    """The same texts: the second judge releases everything, and is right where the first is or is silent."""
    first = systems(3)[0]
    flip = {"A": "B", "B": "A", None: None}
    worse = [row if n % 4 else replace(row, label=flip[row.label]) for n, row in enumerate(first.decisions)]
    first = replace(first, decisions=tuple(worse))
    truth = {note.item_id: note.label for note in first.annotations}
    decisions = tuple(replace(row, label=truth.get(row.item_id, "A"), score=0.9) for row in first.decisions)
    return first, replace(first, decisions=decisions)


def test_the_same_texts_compare_judges() -> None:
    first, second = judges()
    found = compare(first, second)
    assert (found.kind, found.change) == ("judges", None)
    said = {row.item_id: row.label for row in first.decisions}
    truth = {note.item_id: note.label for note in first.annotations}
    wrong = sum(said[i] is not None and said[i] != label for i, label in truth.items())
    spoke = sum(said[i] is not None for i in truth)
    assert found.agreement.first == (spoke - wrong, spoke)
    assert found.agreement.second == (200, 200)
    assert (found.agreement.only_first, found.agreement.only_second) == (0, wrong)
    assert "the second run agrees more often with human labels" in " ".join(found.lines())
    assert found.same + found.differ + found.one_released + found.none_released == found.matched == 400


def test_alike_is_alike() -> None:
    first, _ = systems(4)
    found = compare(first, first)
    assert (found.differ, found.one_released, found.agreement.better) == (0, 0, None)
    assert "right on the same" in " ".join(found.lines())


def test_what_does_not_match_is_counted_and_nothing_at_all_is_refused() -> None:
    first, second = systems(5)
    fewer = replace(second, items=second.items[100:], decisions=second.decisions[100:])
    fewer = replace(fewer, header=replace(fewer.header, items=300))
    found = compare(first, fewer)
    assert (found.matched, found.only_first, found.only_second) == (300, 100, 0)
    keyed = [
        replace(run, items=tuple(replace(item, meta={"q": n // per}) for n, item in enumerate(run.items)))
        for run, per in ((first, 1), (second, 1), (second, 2))
    ]
    assert compare(keyed[0], keyed[1], "meta.q").matched == 400
    with pytest.raises(UsageError, match=r"both have meta\.q"):
        compare(keyed[0], keyed[2], "meta.q")
    with pytest.raises(UsageError, match="no item of one run matches"):
        compare(first, second, "meta.q")
    other = replace(first.header.certificate, task=Task(TaskKind.BINARY, "Good?", ("pass", "fail")))
    with pytest.raises(UsageError, match="different tasks"):
        compare(first, replace(first, header=replace(first.header, certificate=other)))


def test_labels_without_an_order_have_no_mean() -> None:
    task = Task(TaskKind.CHOICE, "Which?", ("A", "B", "C"))
    runs = [
        replace(run, header=replace(run.header, certificate=replace(run.header.certificate, task=task)))
        for run in systems(6)
    ]
    found = compare(*runs)
    assert (found.kind, found.change) == ("answers", None)


def test_ties_that_are_left_out_are_not_a_random_part() -> None:
    first, second = systems(7)
    tie = replace(first.annotations[0], label="tie")
    task = replace(first.header.certificate.task, ties="drop")
    made = replace(first.header.certificate, task=task)
    runs = [replace(run, header=replace(run.header, certificate=made)) for run in (first, second)]
    found = compare(replace(runs[0], annotations=(tie, *first.annotations[1:])), runs[1])
    assert found.change is not None
    assert "a tie" in found.change.reason


def test_ratings_differ_in_grades() -> None:
    task = Task(TaskKind.RATING, "How good?", ("1", "2"))
    grade = {"A": "1", "B": "2"}

    def rated(run: Run) -> Run:
        made = replace(run.header.certificate, task=task)
        turned = {"A": "1", "B": "2", None: None}
        return replace(
            run,
            header=replace(run.header, certificate=made),
            judgments=tuple(replace(row, votes=tuple(map(voted, row.votes))) for row in run.judgments),
            decisions=tuple(replace(row, label=turned[row.label]) for row in run.decisions),
            annotations=tuple(replace(note, label=grade[note.label]) for note in run.annotations),
        )

    def voted(vote: Vote) -> Vote:
        return replace(vote, probs={grade[label]: p for label, p in vote.probs.items()})

    found = compare(*map(rated, systems(8)))
    assert found.change is not None
    assert found.change.verdicts is None
    assert found.change.interval is not None
    assert "Mean rating, second minus first" in " ".join(found.lines())


# ── from files to the command line ───────────────────────────────────────────────────────────────

Change = Callable[[list[dict[str, Any]], list[dict[str, Any]]], None]


def numbered(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    for n, item in enumerate(items):
        item["meta"]["q"] = n


def two_runs(config: Path) -> tuple[str, str]:
    """The unlabelled items, and the same with their sides exchanged under other ids."""
    calibrate(config)
    first = run(config)
    turned = [replace(item, id=f"new-{item.id}", responses=item.responses[::-1]) for item in first.items]
    path = config.parent / "new.jsonl"
    path.write_text("".join(row(item) for item in turned), encoding="utf-8")
    return first.header.id, run(config, items=path).header.id


def row(item: Item) -> str:
    kept = {"id": item.id, "prompt": item.prompt, "responses": item.responses, "meta": item.meta}
    return json.dumps(kept) + "\n"


def test_from_files_to_text_and_json(tmp_path: Path) -> None:
    config = write_project(tmp_path, change=numbered)
    ids = two_runs(config)
    told = CliRunner().invoke(app, ["compare", *ids, "--by", "meta.q", "--config", str(config)])
    assert told.exit_code == 0, told.output
    assert "40 items match by meta.q" in told.output
    assert "From the judges alone" in told.output
    plain = CliRunner().invoke(app, ["compare", *ids, "--config", str(config)])
    assert plain.exit_code == 2
    assert "--by meta.<key>" in plain.stderr
    read = CliRunner().invoke(app, ["compare", *ids, "--by", "meta.q", "--config", str(config), "--json"])
    found = json.loads(read.stdout)
    assert (found["kind"], found["matched"], found["first"]["items"]) == ("answers", 40, 40)
    assert found["first"]["cost"] > 0


def test_two_projects_compare_judges(tmp_path: Path) -> None:
    configs = [write_project(tmp_path / name) for name in ("a", "b")]
    edit(configs[1], "annotators = 2", "annotators = 3")
    ids = []
    for config in configs:
        calibrate(config)
        ids.append(run(config).header.id)
    told = CliRunner().invoke(
        app, ["compare", *ids, "--config", str(configs[0]), "--config-b", str(configs[1])]
    )
    assert told.exit_code == 0, told.output
    assert "so the judges are compared" in told.output.replace("\n", " ")


@pytest.mark.parametrize("name", [*ALIVE, factory.HOSTILE])
def test_hostile_run_names_stay_names(name: str) -> None:
    first, second = systems(9)
    found: Comparison = compare(replace(first, header=replace(first.header, id=name)), second)
    assert not UNSAFE.search("\n".join(found.lines()))
