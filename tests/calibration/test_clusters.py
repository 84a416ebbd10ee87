"""Clusters from the configuration to certificate, page and gate: what is tested, and what is said of it."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from trustescalate.analysis.checks import inspect_project
from trustescalate.calibration.prepare import select_rows
from trustescalate.calibration.selection import select
from trustescalate.config import parse_config
from trustescalate.data.clusters import cluster_source
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Annotation, Certificate, Clusters, Item, Run
from trustescalate.records.progress import Hooks
from trustescalate.report.document import build, build_calibration
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.bounds import IntArray
from trustescalate.stats.certify import certify
from trustescalate.stats.shift import rejection_sample
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
CONFIG = """
version = 1
[task]
kind = "binary"
question = "Is it right?"
[data]
{data}
[guarantee]
alpha = {alpha}
path = "common"
pilot = 0
{guarantee}
[ensemble]
annotators = 1
shots = 0
[gate]
min_coverage = 0.5
[[judges]]
name = "mine"
backend = "callable"
function = "nowhere:judge"
version = "1"
"""


class Row(NamedTuple):
    """An item that the judge calls right; `wrong` says that people do not, None that nobody labelled it."""

    prompt: str
    wrong: bool | None
    group: str | None = None


def project(
    folder: Path, rows: Iterable[Row], *, guarantee: str = "", data: str = "", alpha: float = 0.1
) -> Project:
    items, notes = list[str](), list[str]()
    for place, row in enumerate(rows):
        item = {"id": f"i{place}", "prompt": row.prompt, "responses": [f"answer {place}"]}
        items.append(json.dumps(item | ({} if row.group is None else {"group": row.group})))
        if row.wrong is not None:
            label = "fail" if row.wrong else "pass"
            notes.append(json.dumps({"item_id": f"i{place}", "annotator": "ann", "label": label}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text("\n".join(items) + "\n")
    (folder / "annotations.jsonl").write_text("\n".join(notes) + "\n")
    config = folder / "trustescalate.toml"
    config.write_text(CONFIG.format(data=data, guarantee=guarantee, alpha=alpha))
    return Project.open(config, Hooks(functions={"mine": lambda item: 0.9}))


def calibrated(certificate: Project) -> Certificate:
    return asyncio.run(certificate.calibrate())


def ran(certificate: Project) -> Run:
    return asyncio.run(certificate.run())


def page(certificate: Certificate) -> str:
    return render_markdown(build_calibration(certificate).page())


def unequal(clusters: int, seed: int = 0, *, big: float = 0.06, size: int = 20) -> list[Row]:
    """Clusters of 1 row, wrong with probability .03, and a few of 20, wrong with .45."""
    rng, rows = np.random.default_rng(seed), list[Row]()
    for g in range(clusters):
        large = rng.random() < big
        risk = 0.45 if large else 0.03
        rows += [Row(f"prompt {g}", bool(rng.random() < risk), f"g{g}") for _ in range(size if large else 1)]
    return rows


ROW_WEIGHTED = 'cluster_test = "row_weighted"\nlargest_cluster = {}'


# ── what is said ─────────────────────────────────────────────────────────────────────────────────


def test_one_row_each_is_no_statement_on_all_verdicts(tmp_path: Path) -> None:
    """A quarter of all verdicts and more are wrong; one row of each cluster certifies 90 %: worded so."""
    rows = unequal(400)
    fresh = [row._replace(wrong=None, group=f"new {row.group}") for row in unequal(400, seed=1)]
    given = project(tmp_path, [*rows, *fresh])
    certificate = calibrated(given)
    assert certificate.status == "certified"
    assert sum(row.wrong is True for row in rows) / len(rows) > 0.25
    sizes = certificate.clusters
    assert sizes is not None
    assert (sizes.test, sizes.by, sizes.count, sizes.rows) == ("one_per_cluster", "group", 400, len(rows))
    assert sizes.sizes == (1, 1, 20)
    assert certificate.n == 400
    calibration = build_calibration(certificate)
    assert (
        "The share is over an item drawn at random from a cluster drawn at random, so that each cluster "
        "counts once (400 "
        "clusters by group, of 1 to 20 labelled rows, median 1; one row of each was tested)"
    ) in calibration.claim
    assert any("so each cluster counts once" in text for text in certificate.assumptions)
    report = build(ran(given))
    assert any(
        "this is no statement on the share of all released verdicts" in text for text in report.banners
    )
    assert "in this run 1 to 20 items, median 1" in report.clusters
    text = render_markdown(report.page())
    assert f"The {len(fresh)} items of the run form 400, of 1 to 20 items, median 1" in text
    verdict, _ = given.gate()
    (labels,) = [check for check in verdict.checks if check.name == "what is counted"]
    assert (labels.status, labels.observed) == ("pass", report.clusters)
    assert "one row of each is tested" in dict(inspect_project(given.config).facts)["clusters"]


def test_the_row_weighted_test_refuses_what_is_wrong_row_by_row(tmp_path: Path) -> None:
    certificate = calibrated(project(tmp_path, unequal(1500), guarantee=ROW_WEIGHTED.format(20)))
    assert certificate.status == "none"
    assert certificate.clusters is not None
    assert certificate.n == certificate.clusters.kept == len(certificate.roles["certify"]) < 200
    assert certificate.tests[-1].errors / certificate.tests[-1].accepted > 0.2


def test_the_row_weighted_test_certifies_and_says_what(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = [Row("p", bool(rng.random() < 0.02), f"g{g}") for g in range(150) for _ in range(1 + 3 * (g % 2))]
    fresh = [Row("p", None, f"new {g}") for g in range(20) for _ in range(1 + 5 * (g % 2))]
    given = project(tmp_path, [*rows, *fresh], guarantee=ROW_WEIGHTED.format(4))
    certificate = calibrated(given)
    assert certificate.status == "certified"
    assert certificate.clusters is not None
    assert (certificate.clusters.largest, certificate.clusters.kept) == (4, certificate.n)
    assert (certificate.method, certificate.radius is not None) == ("exact", True)
    by_id = {item.id: item.group for item in load_dataset(given.config).items}
    kept = [by_id[item_id] or "" for item_id in certificate.roles["certify"]]
    assert len(set(kept)) == certificate.n
    assert {g for g in range(150) if g % 2} == {int(name[1:]) for name in kept if int(name[1:]) % 2}
    assert len(certificate.roles["aside"]) == 150 - certificate.n
    assert "Each item counts once, in a large cluster too" in page(certificate)
    assert f"kept with probability rows / 4, {certificate.n} of 150" in " ".join(certificate.assumptions)
    assert not any("cluster" in banner for banner in build_calibration(certificate).banners)
    assert "there is no guarantee for clusters larger" in " ".join(build(ran(given)).banners)


def test_betting_on_clusters_is_said_as_such(tmp_path: Path) -> None:
    rows = [Row("p", False, f"g{g}") for g in range(120) for _ in range(1 + g % 2)]
    certificate = calibrated(
        project(tmp_path, rows, guarantee='cluster_test = "betting"\nlargest_cluster = 2')
    )
    assert (certificate.status, certificate.method, certificate.n) == ("certified", "clusters", len(rows))
    assert "all rows were tested by betting on clusters" in page(certificate)
    assert build_calibration(certificate).banners == ()


# ── prompts that repeat ──────────────────────────────────────────────────────────────────────────


def prompts(count: int, rows: int, seed: int, risk: float = 0.5, bad: float = 0.3) -> list[Row]:
    """`count` prompts of `rows` rows; some prompts are wrong on most of theirs."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(count) < bad
    return [
        Row(f"prompt {p}", bool(wrong[p] and rng.random() < risk)) for p in range(count) for _ in range(rows)
    ]


def test_rows_that_share_a_prompt_are_one_cluster(tmp_path: Path) -> None:
    certificate = calibrated(project(tmp_path, prompts(25, 88, 0, bad=0.0), alpha=0.15))
    assert (certificate.status, certificate.n) == ("certified", 25)
    assert certificate.clusters == Clusters(25, None, "one_per_cluster", "prompt", 2200, (88, 88, 88), 25)
    labels = page(certificate)
    assert "25 clusters by prompt, of 88 labelled rows each; one row of each was tested" in labels
    assert build_calibration(certificate).banners == ()


def test_prompts_that_are_wrong_together_certify_no_more_than_prompts_can(tmp_path: Path) -> None:
    """True risk .165 above alpha = .16; counting rows certifies it in about two of five draws."""
    trials, certified = {"": 25, 'cluster = "item"': 50}, {"": 0, 'cluster = "item"': 0}
    for data, count in trials.items():
        for seed in range(count):
            folder = tmp_path / f"{len(data)} {seed}"
            rows = prompts(25, 10, seed, risk=1.0, bad=0.165)
            certificate = calibrated(project(folder, rows, data=data, alpha=0.16))
            certified[data] += certificate.status == "certified"
    assert certified[""] <= violation_limit(25, 0.1)
    assert certified['cluster = "item"'] > violation_limit(50, 0.1)


def test_one_prompt_for_all_is_refused_before_a_judge_is_asked(tmp_path: Path) -> None:
    rows = [Row("Is the answer right?", False) for _ in range(200)]
    given = project(tmp_path / "a", rows)
    with pytest.raises(NotMeasurable, match="200 labelled rows come in 1 clusters by prompt") as caught:
        calibrated(given)
    assert '[data] cluster = "item"' in caught.value.hint
    assert any("come in 1 clusters by prompt" in text for text in inspect_project(given.config).warnings)
    free = project(tmp_path / "b", rows, data='cluster = "item"')
    certificate = calibrated(free)
    assert (certificate.status, certificate.n, certificate.clusters) == ("certified", 200, None)
    assert not any("cluster" in text or "prompt" in text for text in inspect_project(free.config).warnings)


def test_where_every_prompt_is_there_once_nothing_is_said_of_clusters(tmp_path: Path) -> None:
    given = project(tmp_path, [*(Row(f"p{i}", False) for i in range(60)), Row("q", None), Row("r", None)])
    certificate = calibrated(given)
    assert (certificate.status, certificate.clusters) == ("certified", None)
    report = build(ran(given))
    assert "cluster" not in " ".join([report.claim, *report.banners, *report.assumptions])


def test_clusters_that_only_the_run_has_are_named(tmp_path: Path) -> None:
    rows = [Row(f"p{i}", False) for i in range(60)]
    given = project(tmp_path, [*rows, *(Row(f"q{i}", None) for i in range(5) for _ in range(1 + i))])
    certificate = calibrated(given)
    assert build_calibration(certificate).banners == ()
    report = build(ran(given))
    assert "(1 labelled row each; in this run 1 to 5 items, median 3)" in report.clusters
    assert "each cluster counts once" in report.claim


def test_what_makes_a_cluster(tmp_path: Path) -> None:
    def by(rows: Sequence[Row], data: str = "") -> tuple[str, list[str | None]]:
        config = project(tmp_path, rows, data=data).config
        items = load_dataset(config).items
        names = {
            group: f"{n}" for n, group in enumerate(dict.fromkeys(item.group for item in items if item.group))
        }
        return cluster_source(config, items), [names.get(item.group or "") for item in items]

    rows = [Row("p", False), Row("p", False), Row("q", False)]
    assert by(rows) == ("prompt", ["0", "0", None])
    assert by(rows, 'cluster = "item"') == ("item", [None, None, None])
    assert by(rows, 'cluster = "prompt"') == ("prompt", ["0", "0", "1"])
    own = [Row("p", False, "g"), Row("p", False, "h"), Row("p", False)]
    assert by(own) == ("group", ["0", "1", "2"])
    assert by(own, 'cluster = "group"') == ("group", ["0", "1", None])


# ── does it hold? ────────────────────────────────────────────────────────────────────────────────

ALPHA = DELTA = 0.1
SIZE, BIG = 5, 0.2
WRONG = 1.01 * ALPHA * (SIZE * BIG + 1 - BIG) / (SIZE * BIG)
"""How often a row of a large cluster is wrong, if the risk of a row drawn by its place is 1.01 alpha."""


def one_of_each(g: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """The sizes of g clusters, and whether the row drawn of each is wrong; small ones never are."""
    size = np.where(rng.random(g) < BIG, SIZE, 1)
    return size, ((size == SIZE) & (rng.random(g) < WRONG)).astype(np.int64)


def is_certified(wrong: IntArray, rng: np.random.Generator) -> bool:
    scores, free = rng.random((len(wrong), 1)), np.zeros((len(wrong), 1))
    rule = {"alpha": ALPHA, "delta": DELTA, "path": np.array([[0.0]])}
    return certify(scores, free.astype(int), wrong, free, **rule).chosen is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("weighted", [True, False])
def test_rows_kept_by_size_hold_their_risk_and_one_of_each_does_not(weighted: bool) -> None:
    rng, violations, trials = np.random.default_rng(0), 0, 5000
    for _ in range(trials):
        size, wrong = one_of_each(400, rng)
        rows = rejection_sample(size.astype(float), SIZE, rng) if weighted else np.arange(400)
        violations += is_certified(wrong[rows], rng)
    assert (violations <= violation_limit(trials, DELTA)) is weighted


def test_selected_rows_are_kept_by_size() -> None:
    """Through `select`, with clusters of a size of their own and a seed for each trial."""
    rng, violations, trials, shares = np.random.default_rng(1), 0, 120, []
    guarantee = {"cluster_test": "row_weighted", "largest_cluster": SIZE, "pilot": 0}
    judge = {"name": "nobody", "backend": "replay", "votes": "v.jsonl"}
    for trial in range(trials):
        size, _ = one_of_each(150, rng)
        items = [
            Item(f"{g}-{i}", f"{g}", (f"answer {i}",), group=f"{g}")
            for g in range(150)
            for i in range(size[g])
        ]
        wrong = {item.id: size[int(item.prompt)] == SIZE and rng.random() < WRONG for item in items}  # type: ignore[arg-type]
        given: dict[str, Any] = {"version": 1, "task": {"kind": "binary"}, "guarantee": guarantee}
        given |= {"roles": {"seed": trial}, "judges": [judge]}
        data = Dataset(tuple(items), tuple(Annotation(item.id, "ann", "pass") for item in items))
        rows = select(parse_config(given, Path("trustescalate.toml")), data, 0, None).roles["certify"]
        large = sum(size[int(item_id.split("-")[0])] == SIZE for item_id in rows)
        shares.append((large, len(rows)))
        violations += is_certified(np.array([wrong[item_id] for item_id in rows], dtype=np.int64), rng)
    assert violations <= violation_limit(trials, DELTA)
    large, total = np.sum(shares, axis=0)
    assert large / total == pytest.approx(SIZE * BIG / (SIZE * BIG + 1 - BIG), abs=0.02)


def test_a_cluster_that_fills_up_keeps_its_row(tmp_path: Path) -> None:
    """The lot of a row stays; what is kept of small clusters is kept when these grow."""
    few = [Row("p", False, f"g{g}") for g in range(120)]
    more = [*few, *(Row("p", False, f"g{g}") for g in range(120))]
    kept = []
    for name, rows in (("few", few), ("more", more)):
        given = project(tmp_path / name, rows, guarantee=ROW_WEIGHTED.format(4))
        kept.append(set(select_rows(given.config, load_dataset(given.config)).roles["certify"]))
    assert 15 < len(kept[0]) < 45 < len(kept[1]) < 80
