"""Two runs beside each other: what differs in worlds whose truth is known, and from the files."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom
from typer.testing import CliRunner

from tests.support import factory
from tests.support.compared_runs import compared, judges, sides_of, systems
from tests.support.hostile import ALIVE, UNSAFE
from tests.support.projects import calibrate, edit, run, write_project
from trustescalate.analysis.comparison_section import Comparison
from trustescalate.analysis.product import product
from trustescalate.calibration.population import TIES
from trustescalate.cli import app
from trustescalate.errors import UsageError
from trustescalate.records import Item, Run, Task, TaskKind, Vote
from trustescalate.report.product import estimate_figure

pytestmark = pytest.mark.slow


def test_the_change_is_the_one_of_the_gate() -> None:
    sides = sides_of(*systems(6))
    (_, first, before), (config, second, after) = sides
    gate = product(config, second, after, (first, before))
    found = compared(first, second)
    assert found.kind == "answers"
    assert found.change is not None
    assert (found.change.changes, found.change.means) == (gate.changes, gate.means)
    limits = gate.changes[0].first
    shown = estimate_figure(limits, False, signed=True).text
    assert f"Change of the win rate of A: {shown}" in " ".join(" ".join(found.lines()).split())
    read = found.as_dict()
    assert read["change"]["changes"][0]["first"]["low"] == limits.low
    assert read["finding"]["headline"] == "Candidate better"


def test_the_limits_hold_and_the_judges_alone_would_flatter() -> None:
    """Two systems as good as one another, of which the judges favour the second by fifteen points."""
    draws, missed = 40, 0
    for seed in range(draws):
        found, whole = compared(*systems(seed, better=0.0)), compared(*systems(seed, better=0.0, labels=400))
        assert found.change is not None
        assert whole.change is not None
        limits, truth = found.change.changes[0].first, whole.change.changes[0].first
        assert truth.basis == "all labelled"
        missed += not limits.low <= truth.low <= limits.high
        assert found.by_judges is not None
        assert found.by_judges > truth.low + 0.05
    assert missed <= binom.ppf(1 - 1e-6, draws, 0.05)


def test_labels_of_what_was_abstained_on_are_not_taken_for_a_draw() -> None:
    """They were selected by the baseline's scores, which differ from those of the candidate."""
    for seed in range(20):
        found = compared(*systems(seed, picked=True))
        assert found.change is not None
        whole = found.change.changes[0].first
        assert whole.basis == "none"
        assert "were selected" in whole.reason
        assert found.finding is not None
        assert found.finding.headline == "Not measured"


def test_few_labels_show_limits_from_labels_alone() -> None:
    text = " ".join(" ".join(compared(*systems(2, labels=50)).lines()).split())
    assert "They rest on human labels alone" in text
    assert "50 labels, fewer than 100" in text
    for labels in (0, 1):
        text = " ".join(" ".join(compared(*systems(2, labels=labels)).lines()).split())
        assert "fewer than 2 of these items have human labels" in text
        assert re.search(r"which no label corrects +\+\d+\.\d points, without limits +400 +0", text)


def test_ties_that_the_task_leaves_out_leave_no_mean_to_compare() -> None:
    def dropping(run: Run) -> Run:
        certificate = run.header.certificate
        certificate = replace(certificate, task=replace(certificate.task, ties="drop"))
        tied, split, *others = run.annotations
        notes = (replace(tied, label="tie"), split, replace(split, annotator="y", label="tie"), *others)
        return replace(run, header=replace(run.header, certificate=certificate), annotations=notes)

    first, second = map(dropping, systems(6))
    found = compared(first, second)
    assert found.change is not None
    assert (found.change.changes, found.change.reason) == ((), TIES)
    assert found.by_judges is not None
    assert TIES in " ".join(" ".join(found.lines()).split())


def test_the_same_texts_compare_judges() -> None:
    first, second = judges()
    found = compared(first, second)
    assert (found.kind, found.change) == ("judges", None)
    said = {row.item_id: row.label for row in first.decisions}
    truth = {note.item_id: note.label for note in first.annotations}
    wrong = sum(said[i] is not None and said[i] != label for i, label in truth.items())
    spoke = sum(said[i] is not None for i in truth)
    assert found.agreement.first == (spoke - wrong, spoke)
    assert found.agreement.second == (200, 200)
    assert (found.agreement.only_first, found.agreement.only_second) == (0, wrong)
    assert "the candidate agrees more often with human labels" in " ".join(found.lines())
    assert found.same + found.differ + found.one_released + found.none_released == found.matched == 400


def test_alike_is_alike() -> None:
    first, _ = systems(4)
    found = compared(first, first)
    assert (found.differ, found.one_released, found.agreement.better) == (0, 0, None)
    assert "right on the same" in " ".join(found.lines())


def test_what_does_not_match_is_counted_and_nothing_at_all_is_refused() -> None:
    first, second = systems(5)
    fewer = replace(second, items=second.items[100:], decisions=second.decisions[100:])
    fewer = replace(fewer, header=replace(fewer.header, items=300))
    found = compared(first, fewer)
    assert (found.matched, found.only_first, found.only_second) == (300, 100, 0)
    keyed = [
        replace(run, items=tuple(replace(item, meta={"q": n // per}) for n, item in enumerate(run.items)))
        for run, per in ((first, 1), (second, 1), (second, 2))
    ]
    assert compared(keyed[0], keyed[1], "meta.q").matched == 400
    with pytest.raises(UsageError, match=r"both have meta\.q"):
        compared(keyed[0], keyed[2], "meta.q")
    with pytest.raises(UsageError, match="no item of one run matches"):
        compared(first, second, "meta.q")
    other = replace(first.header.certificate, task=Task(TaskKind.BINARY, "Good?", ("pass", "fail")))
    with pytest.raises(UsageError, match="different tasks"):
        compared(first, replace(first, header=replace(first.header, certificate=other)))


def test_labels_without_an_order_have_no_mean() -> None:
    task = Task(TaskKind.CHOICE, "Which?", ("A", "B", "C"))
    runs = [
        replace(run, header=replace(run.header, certificate=replace(run.header.certificate, task=task)))
        for run in systems(6)
    ]
    found = compared(*runs)
    assert (found.kind, found.change) == ("answers", None)


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

    found = compared(*map(rated, systems(8)))
    assert found.change is not None
    whole = found.change.changes[0].first
    assert whole.basis == "predictions"
    lines = " ".join(found.lines())
    assert "Change of the mean rating, candidate minus baseline" in lines
    assert f"{whole.estimate:+.2f} (" in lines


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
    assert "which no label corrects" in told.output
    page = config.parent / "runs" / ids[1] / f"compare-{ids[0]}.html"
    assert told.stderr.endswith(f"written: {page}\n")
    assert "written" not in told.stdout
    shown = page.read_text(encoding="utf-8")
    assert "Cannot be told apart" in shown
    following = f"trustescalate gate --config {config} {ids[1]} --baseline {ids[0]}"
    assert f"{following} --set gate.max_drop=0.02 --set gate.match=meta.q" in shown
    words = shlex.split(f"{following} --set gate.max_drop=0.02 --set gate.match=meta.q")
    assert CliRunner().invoke(app, words[1:]).exit_code in (0, 1, 3)
    assert "Baseline: Response A" in shown
    assert f"trustescalate compare --config {config} {ids[0]} {ids[1]} --by meta.q" in shown
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
    page = configs[1].parent / "runs" / ids[1] / f"compare-{ids[0]}.html"
    shown = page.read_text(encoding="utf-8")
    assert "Agreement not compared" in shown
    assert "Judges that differ: small changed, large changed." in shown
    assert "+    &#34;annotators&#34;: 3," in shown


@pytest.mark.parametrize("name", [*ALIVE, factory.HOSTILE])
def test_hostile_run_names_stay_names(name: str) -> None:
    first, second = systems(9)
    found: Comparison = compared(replace(first, header=replace(first.header, id=name)), second)
    assert not UNSAFE.search("\n".join(found.lines()))
