"""What can be had without a certificate: the mean over a run's items, and levels that would have passed."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.certificates import World, protocol
from tests.support.command_line import cli
from tests.support.groups import write_groups
from tests.support.projects import calibrate, shuffled, write_project
from tests.support.runs import TIERS, world
from trustescalate.analysis.calibration_report import calibration_report
from trustescalate.analysis.leaderboard import standings
from trustescalate.calibration.attainable import attainable, attainable_from
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.population import overall
from trustescalate.config import LeaderboardTable
from trustescalate.data.dataset import load_dataset
from trustescalate.project import Project
from trustescalate.records import Annotation, Decision, Item, Overall, Run, Step
from trustescalate.records.run import UNCERTIFIED

TRUTH = 1 / 3
"""The share of wins in `support.runs.world`, whose judges prefer A too often."""


def uncertified(seed: int, labels: int = 150, items: int = 300, *, label: bool = True) -> Run:
    """A run of both judges over all items, some of them labelled, and no certificate behind it."""
    run, judged, notes = world(seed, labels, items, votes=4)
    none = replace(
        run.header.certificate,
        status="none",
        reason="nothing passed",
        thresholds=None,
        chosen=None,
        roles=dict.fromkeys(run.header.certificate.roles, ()),
        n=0,
    )
    both = {name: {row.item_id: row for row in run.judgments if row.judge == name} for name in TIERS}
    last = {**judged["large"], **both["large"]}
    for item_id, row in both["small"].items():  # the certified run did not ask for these
        last.setdefault(item_id, replace(row, judge="large", fingerprint="large"))
    decisions = []
    for item_id, row in last.items():
        share = row.votes[0].probs["A"]
        score, verdict = max(share, 1 - share), "A" if share > 0.5 else "B"
        step = Step("large", verdict, score, score, None, False, 4, 4, ())
        decisions.append(Decision(item_id, None, None, None, UNCERTIFIED, (step,)))
    header = replace(run.header, certificate=none, uncertified={}, items=len(last))
    everything = tuple(Item(item_id, "p", ("a", "b")) for item_id in last)
    own = tuple(notes) if label else ()
    return Run(header, everything, tuple(last.values()), tuple(decisions), own)


def mean_of(run: Run) -> Overall:
    return overall(run, {}, run.annotations, {})


def test_the_mean_uses_the_labels_of_the_run_and_covers_the_truth_as_stated() -> None:
    """20 worlds: 95 % intervals miss at most 3 times (98 % of such draws), though the judges are biased."""
    missed = by_judges = 0
    for seed in range(20):
        run = uncertified(seed)
        mean = mean_of(run)
        assert (mean.items, mean.labels, mean.usable) == (450, 150, True)
        assert mean.interval is not None
        missed += not mean.interval[0] <= TRUTH <= mean.interval[1]
        shares = [row.votes[0].probs["A"] for row in run.judgments]
        by_judges += abs(np.mean(shares) - TRUTH) < 0.02
    assert missed <= 3
    assert by_judges < 10  # the verdicts alone would not do


def test_the_mean_is_withheld_without_labels_and_of_an_unfinished_run() -> None:
    assert "human labels" in mean_of(uncertified(0, label=False)).reason
    run = uncertified(0)
    unfinished = replace(run, header=replace(run.header, status="stopped"))
    assert mean_of(unfinished).reason == "the run is not complete"
    picked = [Annotation(note.item_id, "x", note.label, purpose="abstained") for note in run.annotations]
    assert "human labels" in mean_of(replace(run, annotations=tuple(picked))).reason


def test_no_limit_of_a_certificate_is_printed() -> None:
    assert mean_of(uncertified(0)).verdicts is None


def test_models_are_ranked_without_a_certificate() -> None:
    run = uncertified(0)
    items = {
        item.id: replace(item, meta={"a": f"m{n % 2}", "b": f"m{1 - n % 2}"})
        for n, item in enumerate(run.items)
    }
    board = standings(run, {}, run.annotations, items, LeaderboardTable(models=("meta.a", "meta.b")))
    assert board.labels == 150
    assert [each.rows for each in board.models] == [450, 450]


# ── levels that would have passed ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["common", "tierwise"])
def test_the_smallest_level_passes_and_the_next_smaller_one_does_not(path: str) -> None:
    given = World(judges=("j", "k"))
    made = given.certificate(alpha=0.05, path=path)
    assert made.status == "none"
    asked = protocol(given.ids, given.judges, alpha=0.05, path=path)
    seen = attainable_from(asked, given.judged, given.notes, made)
    assert seen.cascade is not None
    for alpha, status in ((seen.cascade.alpha, "certified"), (seen.cascade.alpha - 0.001, "none")):
        other = replace(asked, rule=replace(asked.rule, alpha=alpha))
        assert certify(other, given.notes, given.judged, created="").status == status
    assert 0 < seen.cascade.accepted <= seen.cascade.rows


def test_calibrate_prints_them_spends_nothing_and_exits_with_3(tmp_path: Path) -> None:
    config = write_project(tmp_path, alpha=0.1, labelled=60)
    edited = write_project(tmp_path, alpha=0.1, labelled=60, change=shuffled)
    assert config == edited
    result = cli("calibrate", "--config", config)
    assert result.exit_code == 3, result.output
    ledger = (tmp_path / "ledger.jsonl").read_bytes()
    text = result.stdout
    assert "no guarantee; certify one of them on fresh labels" in text
    assert "Smallest α of large alone" in text
    assert "Best single judge" in text
    assert "not in place" not in text
    commands = [line.split("`")[1] for line in text.splitlines() if line.startswith("next: `")]
    assert [words.split()[1] for words in commands] == ["run", "label", "plan"]
    for words in commands:
        again = cli(*words.split()[1:])
        assert again.exit_code == 0, (words, again.output)
    assert (tmp_path / "ledger.jsonl").read_bytes() == ledger
    project = Project.open(config)
    data, options = load_dataset(project.config), project.options
    for figure in calibration_report(project.config, data, project.certificate(), options).report.key_figures:
        assert re.search(rf"\n  {figure.name} +{re.escape(figure.figure.text)} ", text), figure
    report, _ = project.report()
    (section,) = [each for each in report.sections if each.slug == "what-could-be-had"]
    assert "no guarantee" in section.text[0]


def test_the_next_commands_run_for_groups_and_where_every_item_is_in_the_sample(tmp_path: Path) -> None:
    config = write_groups(tmp_path, "de", "en", alpha=0.02, labelled=80, unlabelled=0)
    text = cli("calibrate", "--config", config).stdout
    commands = [line.split("`")[1] for line in text.splitlines() if line.startswith("next: `")]
    assert [words.split()[1] for words in commands] == ["run", "plan"]
    assert "To label fresh rows, first add items to [data] items" in text
    for words in commands:
        again = cli(*words.split()[1:])
        assert again.exit_code == 0, (words, again.output)


def test_nothing_is_looked_for_where_something_is_certified_or_votes_are_gone(tmp_path: Path) -> None:
    config = write_project(tmp_path, alpha=0.1, labelled=60, change=shuffled)
    none = calibrate(config)
    project = Project.open(config)
    data = load_dataset(project.config)
    assert attainable(project.config, data, none) is not None
    assert attainable(project.config, data, replace(none, status="certified")) is None
    (tmp_path / "certificate.votes.jsonl").unlink()
    assert attainable(project.config, data, none) is None
