"""Measure the regret of the default path against the best single rule, on recorded votes.

    python -m benchmarks.regret FOLDER ... [--n 100 200 500] [--alpha 0.1 0.15 0.2 0.3] [--draws 300]

Each FOLDER is one that `benchmarks.shared_data` wrote, with all its annotations. A draw takes a pilot of
rows without labels and n labelled rows, with replacement, one of each drawn cluster, and certifies with the
default path, and with each single rule at all of delta: the cascade on the judges' own scores, the last judge
alone, pooled scores, and tier by tier as in the paper. Certificates are scored on the whole set. Regret is
the mean certified coverage of the best single rule, which nobody knows beforehand, minus that of the default.
A draw without a certificate covers nothing and costs all judges.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.real_sets import ALPHAS, Recorded, load_set
from trustescalate.stats.bounds import FloatArray, IntArray, binomial_pvalue
from trustescalate.stats.certify import certify, plan_levels
from trustescalate.stats.control import binomial_best, choose, reject
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.policy import decide, evaluate
from trustescalate.stats.validity import violation_limit

DEFAULT: PathName = "hedged"
SINGLE: tuple[PathName, ...] = ("common", "last_judge", "pooled")
TIERWISE = "tierwise"
GRID = (0.10, 0.15, 0.20, 0.30)
DRAWS_PER_PILOT = 15


class Cell(NamedTuple):
    """Means over draws, and the number of draws whose certificate is wrong."""

    coverage: float
    cost: float
    violations: int


class Laid(NamedTuple):
    """A plan, and what each of its policies does to the N rows: accepts (t, N), errs (t, N), and the truth.

    `coverage`, `risk`, `cost` (t,) are those of the population.
    """

    plan: Plan
    accepts: FloatArray
    errs: FloatArray
    coverage: FloatArray
    wrong: FloatArray
    cost: FloatArray


def lay_out(place: Recorded, name: PathName, pilot: IntArray) -> Laid:
    """Lay a path out on pilot rows, and apply every policy to every row of the set."""
    rows, weight = place.rows, place.weight
    plan = PATHS[name].build(Basis(None, rows.take(pilot).votes, rows.scores.shape[1], place.classes))
    read = plan.rows(rows)
    tier = np.array([decide(policy, read.scores, read.labels) for policy in plan.policies])
    label = np.take_along_axis(read.labels, np.maximum(tier, 0).T, axis=1).T
    accepts, errs = tier >= 0, (tier >= 0) & (label != rows.truth)
    visited = (
        np.arange(read.scores.shape[1]) <= np.where(tier < 0, read.scores.shape[1], tier)[..., None]
    ) & (plan.policies < np.inf)[:, None]
    cost = np.einsum("tnm,nm,n->t", visited, read.costs, weight)
    return Laid(plan, accepts.astype(float), errs.astype(float), accepts @ weight, errs @ weight, cost)


def draws(place: Recorded, size: int, n: int, count: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Pilots of `size` rows, and for each several sets of n rows (draws, n)."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, DRAWS_PER_PILOT):
        pilot = place.draw(size, rng)
        yield pilot, np.array([place.draw(n, rng) for _ in range(min(DRAWS_PER_PILOT, count - start))])


def measure(
    place: Recorded, alphas: Sequence[float], *, n: int, delta: float, count: int, pilot: int, seed: int
) -> Mapping[tuple[str, float], Cell]:
    """Certify `count` times with the default path and each single rule, on the same draws."""
    every_judge = float(place.weight @ place.rows.costs.sum(axis=1))
    sums = {(name, alpha): np.zeros(3) for name in (DEFAULT, *SINGLE, TIERWISE) for alpha in alphas}
    for seen, drawn in draws(place, pilot, n, count, seed):
        times = np.array([np.bincount(rows, minlength=len(place.rows.truth)) for rows in drawn]).T
        for name in (DEFAULT, *SINGLE):
            laid = lay_out(place, name, seen)
            accepted, errors = (
                np.rint(part @ times).astype(np.int64).T for part in (laid.accepts, laid.errs)
            )
            for alpha in alphas:
                for counts in zip(accepted, errors, strict=True):
                    sums[name, alpha] += _certified(laid, *counts, n, alpha, delta, every_judge)
        for alpha in alphas:
            for rows in drawn:
                sums[TIERWISE, alpha] += _tierwise(place, rows, alpha, delta, every_judge)
    return {
        key: Cell(float(coverage / count), float(cost / count), int(broken))
        for key, (coverage, cost, broken) in sums.items()
    }


def _certified(
    laid: Laid, accepted: IntArray, errors: IntArray, n: int, alpha: float, delta: float, every_judge: float
) -> FloatArray:
    own = plan_levels(laid.plan, "fallback", n, delta, binomial_best(alpha, n))
    p_value = binomial_pvalue(errors, accepted, alpha)
    rejected = reject("fallback", laid.plan.sizes, p_value, own).rejected
    chosen = choose(rejected, accepted, laid.cost, "coverage", n=n)
    if chosen is None:
        return np.array([0.0, every_judge, 0.0])
    broken = laid.wrong[chosen] > alpha * laid.coverage[chosen] + 1e-12
    return np.array([laid.coverage[chosen], laid.cost[chosen], broken])


def _tierwise(place: Recorded, rows: IntArray, alpha: float, delta: float, every_judge: float) -> FloatArray:
    found = certify(*place.rows.take(rows), alpha=alpha, delta=delta, path="tierwise")
    if found.thresholds is None:
        return np.array([0.0, every_judge, 0.0])
    tier = decide(found.thresholds, place.rows.scores, place.rows.labels)
    label = np.take_along_axis(place.rows.labels, np.maximum(tier, 0)[:, None], axis=1)[:, 0]
    released = float(place.weight @ (tier >= 0))
    wrong = float(place.weight @ ((tier >= 0) & (label != place.rows.truth)))
    cost = float(evaluate(found.thresholds[None], *place.rows).cost[0])
    return np.array([released, cost, wrong > alpha * released + 1e-12])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure what the default path gives up.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, nargs="+", default=[100, 200, 500])
    parser.add_argument("--alpha", type=float, nargs="+", default=list(GRID))
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--pilot", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    lines = report([load_set(folder, folder.name) for folder in options.folders], options)
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


def report(places: Sequence[Recorded], options: argparse.Namespace) -> list[str]:
    """Markdown lines: a row for each set and alpha, a cell for each n, then the means."""
    limit = violation_limit(options.draws, options.delta)
    lines = [
        f"Made by `python -m benchmarks.regret`: {options.draws} draws, δ = {options.delta:g}, a pilot of "
        f"{options.pilot} rows without labels. A cell: certified coverage of the default, minus the best "
        f"single rule's (its name), USD for 1,000 items of both, wrong certificates (at most {limit} are "
        "explained by δ).",
        "",
        "| set | α | " + " | ".join(f"n = {n}" for n in options.n) + " |",
        "|---|---|" + "---|" * len(options.n),
    ]
    regret: dict[int, list[float]] = {n: [] for n in options.n}
    shown: dict[int, list[float]] = {n: [] for n in options.n}
    for place in places:
        table = ALPHAS.get(place.name, ())
        alphas = sorted({*options.alpha, *table})
        by_n = {
            n: measure(
                place,
                alphas,
                n=n,
                delta=options.delta,
                count=options.draws,
                pilot=options.pilot,
                seed=options.seed,
            )
            for n in options.n
        }
        for alpha in alphas:
            cells = []
            for n, found in by_n.items():
                mine = found[DEFAULT, alpha]
                best = max((*SINGLE, TIERWISE), key=lambda name: found[name, alpha].coverage)
                other = found[best, alpha]
                if alpha in options.alpha:
                    regret[n].append(other.coverage - mine.coverage)
                if alpha in table:
                    shown[n].append(mine.coverage)
                cells.append(
                    f"{mine.coverage:.3f}, {mine.coverage - other.coverage:+.3f} ({best}), "
                    f"{1000 * mine.cost:.2f} / {1000 * other.cost:.2f}, {mine.violations}"
                )
            lines.append(f"| {place.name} | {alpha:.2f} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    lines += ["", *_means(regret, shown)]
    print("\n".join(lines[-len(options.n) - 1 :]))
    return lines


def _means(regret: Mapping[int, list[float]], shown: Mapping[int, list[float]]) -> list[str]:
    return [
        f"- n = {n}: mean regret {np.mean(regret[n]):.3f}, worst cell {np.max(regret[n]):.3f}; mean "
        f"certified coverage over {len(shown[n])} cells of docs/measured.md: {np.mean(shown[n] or [0]):.3f}."
        for n in regret
    ]


if __name__ == "__main__":
    main()
