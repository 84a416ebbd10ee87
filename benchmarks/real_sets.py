"""Certify with every path and estimator on recorded votes: coverage, cost and violations.

    python -m benchmarks.real_sets FOLDER ... [--n 100 200 500] [--draws 200] [--markdown FILE]

Each FOLDER is one that `benchmarks.shared_data` wrote, with all its annotations: its labelled items stand for
the population. A draw takes n labelled rows with replacement; paths that learn from labels get their
dev rows out of these n. Where the set has groups, whole groups are drawn, and one row of each. A
further pilot of rows without labels lays out the quantiles. Each certificate is scored on the whole
population, every group weighing the same, so a violation is counted, not estimated. A draw without a
certificate covers nothing and costs all tiers.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.resample import load_judgments, load_population
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.data.labels import majority
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.certify import certify
from trustescalate.stats.paths import PATHS, Basis, Plan
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Rows
from trustescalate.stats.validity import violation_limit

ALPHAS: Mapping[str, tuple[float, ...]] = {
    "toe_alpacaeval": (0.10, 0.15, 0.20),
    "llmbar": (0.10, 0.15, 0.20),
    "nq301_qa": (0.15, 0.20),
    "pandalm": (0.30, 0.35),
    "prd_vicuna80": (0.30, 0.40),
    "summhay_coverage": (0.20, 0.30),
    "mtbench_human": (0.30, 0.35),
}
"""Guarantees that the judges of a set can keep at all, given how often they are wrong."""

FIXED = ("tierwise",)
ESTIMATED = ("sampled",)


class Recorded(NamedTuple):
    """A set: `rows`, `group` (N,), the number of labels, and whether a judge votes repeatedly."""

    name: str
    rows: Rows
    group: IntArray
    classes: int
    several: bool

    @property
    def weight(self) -> FloatArray:
        """Each row's share of the population (N,): groups weigh the same."""
        count = np.bincount(self.group)
        return 1 / (len(count) * count[self.group])

    def draw(self, size: int, rng: np.random.Generator) -> IntArray:
        """Whole groups with replacement, and of each one row."""
        order, count = np.argsort(self.group, kind="stable"), np.bincount(self.group)
        group = rng.integers(len(count), size=size)
        place = (count.cumsum() - count)[group] + rng.integers(count[group])
        return np.asarray(order[place], dtype=np.int64)


class Cell(NamedTuple):
    """Means over draws, and how many draws broke the guarantee."""

    coverage: float
    cost: float
    violations: int


Method = Callable[[Recorded, IntArray, IntArray], tuple[Rows, Plan | Literal["tierwise"]]]
"""From a set, the places of dev rows and of pilot rows."""


def load_set(folder: Path, name: str, estimator: str | None = None) -> Recorded:
    """Read a converted folder."""
    config = load_config(folder / "trustescalate.toml")
    task, data = config.task.task(), load_dataset(config)
    items = list(majority(task, data.annotations))
    rows = Rows(*load_population(folder, estimator))
    group_of = {item.id: item.group or item.id for item in data.items}
    group = np.unique([group_of[item] for item in items], return_inverse=True)[1].astype(np.int64)
    judged = [load_judgments(config, judge, items) for judge in config.judges]
    several = max(judgment.planned for judgments in judged for judgment in judgments) > 1
    return Recorded(name, rows, group, len(task.labels), several)


def laid_out(path: str) -> Method:
    """A path by name, or what it is compared with; an estimator's scores go the default path."""

    def method(place: Recorded, dev: IntArray, pilot: IntArray) -> tuple[Rows, Plan | Literal["tierwise"]]:
        seen, tiers = place.rows.take(pilot).votes, place.rows.scores.shape[1]
        if path == "tierwise":
            return place.rows, "tierwise"
        rule = PATHS[path] if path in PATHS else PATHS["hedged"]  # type: ignore[index]
        known = place.rows.take(dev) if rule.needs_dev else None
        return place.rows, rule.build(Basis(known, seen, tiers, place.classes))

    return method


def needs_dev(method: str) -> bool:
    """Whether it spends labelled rows on fitting."""
    return method in PATHS and PATHS[method].needs_dev  # type: ignore[index]


def measure(
    place: Recorded,
    method: str,
    *,
    n: int,
    alpha: float,
    delta: float,
    draws: int,
    dev_share: float,
    pilot: int,
    seed: int,
) -> Cell:
    """Certify `draws` times and score on the population; the same draws for every method."""
    rng = np.random.default_rng(seed)
    weight, total = place.weight, np.zeros(3)
    lay = laid_out(method)
    held = round(dev_share * n) if needs_dev(method) else 0
    for _ in range(draws):
        seen, drawn = place.draw(pilot, rng), place.draw(n, rng)
        rows, plan = lay(place, drawn[:held], seen)
        result = certify(*rows.take(drawn[held:]), alpha=alpha, delta=delta, path=plan)
        read = rows if isinstance(plan, str) else plan.rows(rows)
        every_judge = float(weight @ rows.costs.sum(axis=1))
        total += _score(result.thresholds, read, weight, alpha, every_judge)
    return Cell(float(total[0] / draws), float(total[1] / draws), int(total[2]))


def _score(
    thresholds: FloatArray | None, rows: Rows, weight: FloatArray, alpha: float, every_judge: float
) -> FloatArray:
    if thresholds is None:
        return np.array([0.0, every_judge, 0.0])
    tier = decide(thresholds, rows.scores, rows.labels)
    last = np.where(tier < 0, len(thresholds), tier)
    visited = (np.arange(len(thresholds)) <= last[:, None]) & (thresholds < np.inf)
    label = np.take_along_axis(rows.labels, np.maximum(tier, 0)[:, None], axis=1)[:, 0]
    released = float(weight[tier >= 0].sum())
    wrong = float(weight[(tier >= 0) & (label != rows.truth)].sum())
    broken = released > 0 and wrong / released > alpha + 1e-12
    return np.array([released, weight @ (visited * rows.costs).sum(axis=1), broken])


def table(folders: Sequence[Path], options: argparse.Namespace) -> list[str]:
    """Markdown lines: a row for each set, guarantee and method, a cell for each n."""
    limit = violation_limit(options.draws, options.delta)
    lines = [
        f"Made by `python -m benchmarks.real_sets`: {options.draws} draws of n labelled rows, "
        f"δ = {options.delta:g}, a pilot of {options.pilot} rows "
        f"without labels. A cell: certified coverage, USD for 1,000 items, violations (at most {limit} "
        f"are explained by δ). Paths marked * spend {options.dev_share:.0%} of the n rows on fitting.",
        "",
        "| set | α | path or estimator | " + " | ".join(f"n = {n}" for n in options.n) + " |",
        "|---|---|---|" + "---|" * len(options.n),
    ]
    for folder in folders:
        for alpha in options.alpha or ALPHAS.get(folder.name, (0.10, 0.15, 0.20)):
            for method, place in _methods(folder).items():
                if options.methods and method not in options.methods:
                    continue
                cells = [
                    measure(
                        place,
                        method,
                        n=n,
                        alpha=alpha,
                        delta=options.delta,
                        draws=options.draws,
                        dev_share=options.dev_share,
                        pilot=options.pilot,
                        seed=options.seed,
                    )
                    for n in options.n
                ]
                shown = " | ".join(f"{c.coverage:.3f}, {1000 * c.cost:.2f}, {c.violations}" for c in cells)
                name = method + (" *" if needs_dev(method) else "")
                lines.append(f"| {folder.name} | {alpha:.2f} | {name} | {shown} |")
                print(lines[-1], flush=True)
    return lines


def _methods(folder: Path) -> dict[str, Recorded]:
    place = load_set(folder, folder.name)
    found = dict.fromkeys([*PATHS, *FIXED], place)
    if place.several:
        # Estimators are compared on the default path; with one vote an item they are all the same.
        found |= {name: load_set(folder, folder.name, name) for name in ESTIMATED}
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Certify again and again, by every path and estimator.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, nargs="+", default=[100, 200, 500])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--alpha", type=float, nargs="+", help="default: what suits the set")
    parser.add_argument("--methods", nargs="+", help="paths and estimators; default: all")
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--dev-share", type=float, default=0.3)
    parser.add_argument("--pilot", type=int, default=100, help="unlabelled rows that lay out the path")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args()
    lines = table(options.folders, options)
    if options.markdown:
        options.markdown.write_text("\n".join(["# Measured on recorded votes", "", *lines, ""]), "utf-8")


if __name__ == "__main__":
    main()
