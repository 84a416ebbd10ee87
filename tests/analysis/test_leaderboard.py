"""Leaderboards from rows to places, in worlds whose truth is known, and from files to the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom
from typer.testing import CliRunner

from tests.support import factory
from tests.support.hostile import ALIVE, UNSAFE
from tests.support.hostile_run import hostile_run
from tests.support.projects import calibrate, run, write_project
from tests.support.runs import world
from trustescalate.analysis import leaderboard
from trustescalate.analysis.leaderboard import standings
from trustescalate.calibration.population import Known, known_rows
from trustescalate.cli import app
from trustescalate.config import LeaderboardTable, load_config
from trustescalate.errors import ConfigError, DataError
from trustescalate.project import Project
from trustescalate.records import Annotation, Item, Judgment, Run, Standing, Standings, Task, TaskKind, Vote
from trustescalate.records.standings import groups_of
from trustescalate.report.document import build
from trustescalate.report.markdown import render_markdown
from trustescalate.report.terminal import section_lines

pytestmark = pytest.mark.slow
SKILL = np.array([1.2, 0.6, 0.0, 0.0, -1.0])
NAMES = ("five", "four", "twin", "twin too", "one")
Change = Callable[[list[dict[str, Any]], list[dict[str, Any]]], None]
Judged = dict[str, dict[str, Judgment]]
PAIRS = ("meta.model_a", "meta.model_b")


def said(item_id: str, judge: str, share: float, labels: tuple[str, str]) -> Judgment:
    votes = (Vote(0, "", dict(zip(labels, (share, 1 - share), strict=True))),)
    return Judgment(item_id, judge, judge, votes, 1)


class Draw:
    """Five models, two of them alike; judges flatter the verbose, and items differ in difficulty."""

    def __init__(self, seed: int, *, pairwise: bool, labels: int = 400, rows: int = 900) -> None:
        rng = np.random.default_rng(seed)
        self.words = ("A", "B") if pairwise else ("pass", "fail")
        self.kind = TaskKind.PAIRWISE if pairwise else TaskKind.BINARY
        self.ids = [f"c{n}" for n in range(labels)] + [f"r{n}" for n in range(rows)]
        self.labels, size = labels, len(self.ids)
        first = rng.integers(5, size=size)
        second = (first + rng.integers(1, 5, size=size)) % 5
        hard = rng.normal(size=size // 3 + 1).repeat(3)[:size][rng.permutation(size)]
        lead = SKILL[first] - SKILL[second] if pairwise else SKILL[first] + hard
        self.wins = rng.random(size) < expit(lead)
        self.shares = np.clip(0.2 + 0.6 * self.wins + 0.2 * rng.normal(size=size), 0.01, 0.99).tolist()
        meta = [
            {"model_a": NAMES[a], "model_b": NAMES[b]} if pairwise else {"model": NAMES[a], "q": f"q{h:.9f}"}
            for a, b, h in zip(first, second, hard, strict=True)
        ]
        self.items = {i: Item(i, "p", ("a",), meta=m) for i, m in zip(self.ids, meta, strict=True)}

    def known(self) -> Known:
        n = self.labels
        pairs = zip(self.shares[:n], self.wins[:n].astype(float).tolist(), strict=True)
        return Known(
            dict(zip(self.ids[:n], pairs, strict=True)), dict(zip(self.ids[n:], self.shares[n:], strict=True))
        )

    def given(self) -> tuple[Run, Judged, list[Annotation], dict[str, Item]]:
        n = self.labels
        base, _, _ = world(0, labels=n, items=len(self.ids) - n)
        task = Task(self.kind, "Good?", self.words)
        certificate = replace(base.header.certificate, task=task, thresholds=(0.5, 0.5))
        every = [(i, share) for i, share in zip(self.ids, self.shares, strict=True)]
        judged = {
            name: {i: said(i, name, share, self.words) for i, share in every[:n]}
            for name in ("small", "large")
        }
        told = tuple(said(i, "small", share, self.words) for i, share in every[n:])
        notes = [
            Annotation(i, "x", self.words[0] if won else self.words[1])
            for i, won in zip(self.ids[:n], self.wins, strict=False)
        ]
        steps = tuple(replace(row, trail=row.trail[:1]) for row in base.decisions)
        header = replace(base.header, certificate=certificate)
        return replace(base, header=header, judgments=told, decisions=steps), judged, notes, self.items


def drawn(seed: int, **more: Any) -> tuple[Run, Judged, list[Annotation], dict[str, Item]]:
    return Draw(seed, **more).given()


def true_means(pairwise: bool) -> np.ndarray:
    if pairwise:
        lead = SKILL[:, None] - SKILL
        return (expit(lead).sum(axis=1) - 0.5) / 4
    hard = np.random.default_rng(0).normal(size=400_000)
    return np.array([expit(skill + hard).mean() for skill in SKILL])


def missed(board: Standings, truth: dict[str, float]) -> tuple[bool, bool]:
    """Whether some limit misses, and whether some model is called better that is not."""
    wrong = any(
        not limits[0] <= truth[each.model] <= limits[1]
        for each in board.models
        if (limits := each.interval if each.usable else each.label_only) is not None
    )
    alike = {frozenset(pair) for pair in board.not_separable}
    order = [each.model for each in board.models]
    false = any(
        frozenset((a, b)) not in alike and truth[a] <= truth[b]
        for place, a in enumerate(order)
        for b in order[place + 1 :]
    )
    return wrong, false


@pytest.mark.parametrize(
    ("pairwise", "method", "labels"),
    [(False, "mean", 900), (False, "mean", 120), (True, "mean", 400), (True, "bradley_terry", 400)],
)
def test_limits_and_places_hold_at_once(
    monkeypatch: pytest.MonkeyPatch, pairwise: bool, method: Any, labels: int
) -> None:
    """Votes are left out of the loop: that they become these rows is the next test's."""
    run, judged, notes, _ = drawn(0, pairwise=pairwise, labels=10, rows=10)
    table = LeaderboardTable(
        models=PAIRS if pairwise else ("meta.model",), item=None if pairwise else "meta.q", method=method
    )
    means = SKILL - SKILL.mean() if method == "bradley_terry" else true_means(pairwise)
    truth = dict(zip(NAMES, means, strict=True))
    truth["twin"] = truth["twin too"] = (truth["twin"] + truth["twin too"]) / 2
    draws, wrong, false, apart = 100, 0, 0, 0
    for seed in range(draws):
        draw = Draw(seed, pairwise=pairwise, labels=labels)
        known = draw.known()
        monkeypatch.setattr(leaderboard, "known_rows", lambda *_, known=known: known)
        board = standings(run, judged, notes, draw.items, table)
        assert board.reason == ""
        misses = missed(board, truth)
        wrong, false = wrong + misses[0], false + misses[1]
        apart += frozenset(("five", "one")) not in map(frozenset, board.not_separable)
    allowed = binom.ppf(1 - 1e-6, draws, 0.05)
    assert max(wrong, false) <= allowed, (wrong, false)
    assert apart > (0 if labels == 120 else 0.9 * draws)


def test_votes_and_labels_become_rows() -> None:
    draw = Draw(2, pairwise=True, labels=120, rows=200)
    run, judged, notes, _ = draw.given()
    found, wanted = known_rows(run, judged, notes, {"A": 1.0, "B": 0.0}), draw.known()
    assert found.fresh == pytest.approx(wanted.fresh)
    assert found.labelled.keys() == wanted.labelled.keys()
    assert all(found.labelled[i] == pytest.approx(row) for i, row in wanted.labelled.items())


def test_without_enough_labels_only_limits_from_labels_are_shown() -> None:
    table = LeaderboardTable(models=("meta.model",), item="meta.q")
    board = standings(*drawn(1, pairwise=False, labels=120), table)
    assert all(not each.usable and each.interval is None and each.label_only for each in board.models)
    assert {each.reason.partition(" ")[2] for each in board.models} == {"labels, fewer than 100"}
    strengths = standings(
        *drawn(1, pairwise=True, labels=80), LeaderboardTable(models=PAIRS, method="bradley_terry")
    )
    assert all(each.interval is None for each in strengths.models)
    assert len(strengths.not_separable) == 10, "what has no limits tells nobody apart"


def test_what_makes_items_hard_does_not_count_as_a_difference() -> None:
    given = drawn(3, pairwise=False, labels=600)
    paired = standings(*given, LeaderboardTable(models=("meta.model",), item="meta.q"))
    alone = standings(*given, LeaderboardTable(models=("meta.model",)))
    assert (paired.paired, alone.paired) == (True, False)
    assert [each.estimate for each in paired.models] == pytest.approx(
        [each.estimate for each in alone.models]
    )
    assert paired.models[0].interval != alone.models[0].interval


def test_rows_without_a_model_are_counted_and_left_out() -> None:
    given, judged, notes, items = drawn(4, pairwise=True)
    items |= {f"r{n}": replace(items[f"r{n}"], meta={"model_a": "five"}) for n in range(9)}
    items["r9"] = replace(items["r9"], meta={"model_a": "five", "model_b": "five"})
    items |= {"r10": replace(items["r10"], meta={"model_a": "five", "model_b": ["x"]})}
    del items["r11"]
    items |= {"r12": replace(items["r12"], meta={"model_a": "five", "model_b": "nobody"})}
    board = standings(given, judged, notes, items, LeaderboardTable(models=PAIRS))
    assert (board.left_out, board.rows) == (12, 1300 - 12)
    assert board.models[-1] == Standing("nobody", 1, 0, None, reason="fewer than 2 labels")
    bare = {item_id: replace(item, meta={}) for item_id, item in items.items()}
    assert (
        standings(given, judged, notes, bare, LeaderboardTable(models=PAIRS)).reason
        == "no judged row names a model"
    )


def test_one_model_alone_is_no_leaderboard_and_an_unbeaten_one_has_no_strength() -> None:
    given, judged, notes, items = drawn(5, pairwise=False)
    same = {item_id: replace(item, meta={"model": "m"}) for item_id, item in items.items()}
    board = standings(given, judged, notes, same, LeaderboardTable(models=("meta.model",)))
    assert board.reason == "fewer than two models have labels"
    given, judged, notes, items = drawn(5, pairwise=True)
    sides = {"A": "model_a", "B": "model_b"}
    five = {
        item_id: [side for side, key in sides.items() if item.meta[key] == "five"]
        for item_id, item in items.items()
    }
    won = [replace(note, label=next(iter(five[note.item_id]), note.label)) for note in notes]
    board = standings(given, judged, won, items, LeaderboardTable(models=PAIRS, method="bradley_terry"))
    assert "no finite strengths" in board.reason
    assert 'method = "mean"' in board.reason


def test_strata_narrow_what_they_explain() -> None:
    given, judged, notes, items = drawn(6, pairwise=False, labels=1200)
    told = {note.item_id: note.label for note in notes}
    kinds: dict[str, str | None] = {item_id: told.get(item_id, "pass") for item_id in items}
    table = LeaderboardTable(models=("meta.model",))
    plain, stratified = (standings(given, judged, notes, items, table, by) for by in (None, kinds))
    assert plain.models != stratified.models


def test_groups_are_neighbours_that_cannot_be_told_apart() -> None:
    models = tuple(Standing(name, 9, 9, 0.5) for name in "abcde")
    alike = (("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "e"))
    board = Standings("mean", (*models, Standing("none", 1, 0, None)), alike)
    assert groups_of(board) == (("a", "b", "c"), ("c", "d"), ("a", "e"))
    assert groups_of(replace(board, not_separable=())) == ()


# ── from files to the command line ───────────────────────────────────────────────────────────────


def modelled(names: tuple[str, str] = ("old", "new")) -> Change:
    """Each item says whose answers it holds; the sides take turns."""

    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for n, item in enumerate(items):
            a, b = names if n % 2 else names[::-1]
            item["meta"] |= {"model_a": a, "model_b": b}

    return change


BINARY = '[task]\nkind = "binary"\n'
BOARD = '[leaderboard]\nmodels = ["meta.model_a", "meta.model_b"]\n'


def test_from_files_to_text_json_and_report(tmp_path: Path) -> None:
    config = write_project(tmp_path, change=modelled(), more=BOARD + '[data]\nstrata = "meta.family"\n')
    calibrate(config)
    found = run(config)
    assert found.standings is not None
    assert {each.model for each in found.standings.models} == {"old", "new"}
    assert found.overall is not None
    assert sum(each.items for each in found.overall.strata) == found.overall.items
    shown = json.loads(CliRunner().invoke(app, ["report", "--config", str(config), "--json"]).stdout)
    (board,) = [section for section in shown["sections"] if section["slug"] == "leaderboard"]
    bars = {bar["name"]: bar["estimate"] for picture in board["pictures"] for bar in picture["bars"]}
    assert bars == {each.model: each.estimate for each in found.standings.models}
    assert "share a letter are not separable" in " ".join(board["text"])
    made, _ = Project.open(config).report()
    assert {"mean-over-all-items", "leaderboard"} <= {section.slug for section in made.sections}
    assert "Models, best first" in render_markdown(made.page())
    assert "per stratum" in render_markdown(made.page())


def test_naming_models_after_the_run_makes_it_no_staler(tmp_path: Path) -> None:
    config = write_project(tmp_path, change=modelled())
    calibrate(config)
    run(config)
    config.write_text(config.read_text() + BOARD + '[data]\nstrata = "meta.family"\n')
    verdict, _ = Project.open(config).gate()
    assert not any("was changed" in check.message for check in verdict.checks)
    assert "leaderboard" in {section.slug for section in Project.open(config).report()[0].sections}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    config = write_project(tmp_path, more=BOARD)
    with pytest.raises(DataError, match=r"no item has meta.model_a, which \[leaderboard\] models names"):
        calibrate(config)
    config = write_project(tmp_path, more='[data]\nstrata = "meta.tpyo"\n')
    with pytest.raises(DataError, match=r"no item has meta.tpyo, which \[data\] strata names"):
        calibrate(config)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[leaderboard]\nmodels = "meta.model"', "pairwise.*needs models ="),
        ('[leaderboard]\nmodels = ["meta.a", "meta.a"]', "both name the same key"),
        ('[leaderboard]\nmodels = ["model_a", "model_b"]', "meta.<key>"),
        ('[leaderboard]\nitem = "meta.q"', "says which model answered"),
        ('[leaderboard]\nmodels = ["meta.a", "meta.b"]\nitem = "q"', "item: must be"),
        ('[leaderboard]\nmodels = 5', "leaderboard.models"),
        (f'{BINARY}[leaderboard]\nmodels = "meta.m"\nmethod = "bradley_terry"', "is for kind"),
        (f'{BINARY}[leaderboard]\nmodels = ["meta.m", "meta.n"]', 'needs models = "meta.model"'),
        ('[task]\nkind = "choice"\nlabels = ["a", "b"]\n[leaderboard]\nmodels = "meta.m"', "no order"),
        ('[data]\nstrata = "family"', "strata: must be"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_project(tmp_path, more=more))


def test_one_model_may_be_written_without_a_list(tmp_path: Path) -> None:
    config = write_project(tmp_path, more='[task]\nkind = "binary"\n[leaderboard]\nmodels = "meta.m"')
    assert load_config(config).leaderboard.models == ("meta.m",)


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    names = (" ".join(ALIVE), "=1+1|" * 40 + factory.HOSTILE.encode("utf-8", "replace").decode())
    config = write_project(tmp_path, change=modelled(names), more=BOARD)
    calibrate(config)
    run(config)
    for made in (Project.open(config).report()[0], build(hostile_run())):
        shown = next(section for section in made.sections if section.slug == "leaderboard")
        lines = section_lines(shown)
        assert not UNSAFE.search("\n".join(lines))
        assert all(len(line) < 300 for line in lines)
