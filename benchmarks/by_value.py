"""Compare one guarantee for all items with one for each value of a field: violations and coverage.

    python -m benchmarks.by_value FOLDER --by meta.subset [--n 800] [--draws 300] [--alpha 0.15]
    [--target-coverage 1]

FOLDER is one that `benchmarks.shared_data` wrote, as for `benchmarks.resample`: its labelled items are the
population, each draw takes n rows with replacement, and certificates are scored on the whole population. A
draw is broken if some value's true risk is above alpha: for guarantees by value, of a value that was
certified.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.resample import Population, load_population
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.data.labels import majority
from trustescalate.records.item_fields import values_of
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.certify import certify
from trustescalate.stats.groups import certify_groups
from trustescalate.stats.paths import Plan, hedged_path
from trustescalate.stats.policy import evaluate
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.validity import violation_limit


class Tally(NamedTuple):
    """Of all draws: the number with a certificate, of violations; the mean share of items released."""

    certified: int
    broken: int
    coverage: float


def load_values(folder: Path, by: str) -> tuple[list[str], IntArray]:
    """The values, and the place of each labelled item's among them, in the order of `load_population`."""
    config = load_config(folder / "trustescalate.toml")
    data = load_dataset(config)
    known = values_of(data.items, by)
    told = [known[item_id] for item_id in majority(config.task.task(), data.annotations)]
    names, place = np.unique(told, return_inverse=True)
    return names.tolist(), place.astype(np.int64)


def compare(
    population: Population,
    place: IntArray,
    *,
    n: int,
    draws: int,
    alpha: float,
    delta: float,
    target_coverage: float,
    classes: int,
    rng: np.random.Generator,
) -> tuple[Tally, Tally]:
    """One guarantee for all, and one for each value, on the same draws."""
    size, values = len(place), int(place.max()) + 1
    of_all, of_each = np.zeros(3), np.zeros(3)
    for _ in range(draws):
        drawn, seen = rng.integers(size, size=n), rng.integers(size, size=50)
        pilot = Votes(population.scores[seen], population.labels[seen])
        plan = hedged_path(pilot, population.scores.shape[1], classes)
        one = certify(*population.rows(drawn), alpha=alpha, delta=delta, path=plan)
        each = certify_groups(
            *population.rows(drawn),
            place[drawn],
            alpha=np.full(values, alpha),
            paths=[plan] * values,
            delta=delta,
            target_coverage=target_coverage,
        )
        by_value = [found.thresholds for found in each.groups]
        of_all += _scored(population, plan, place, [one.thresholds] * values, alpha)
        of_each += _scored(population, plan, place, by_value, alpha)
    return _tally(of_all, draws), _tally(of_each, draws)


def _tally(sums: FloatArray, draws: int) -> Tally:
    return Tally(int(sums[0]), int(sums[1]), float(sums[2] / draws))


def _scored(
    population: Population, plan: Plan, place: IntArray, thresholds: list[FloatArray | None], alpha: float
) -> tuple[bool, bool, float]:
    released, broken = 0, False
    for value, taus in enumerate(thresholds):
        if taus is not None:
            counts = evaluate(taus[None], *plan.rows(Rows(*population.rows(np.flatnonzero(place == value)))))
            released += int(counts.accepted[0])
            broken |= bool(counts.errors[0] > alpha * counts.accepted[0])
    return any(taus is not None for taus in thresholds), broken, released / len(place)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="One guarantee for all, against one for each value.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--by", required=True)
    parser.add_argument("--n", type=int, default=800)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.15, 0.20, 0.25])
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--target-coverage", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    population, (names, place) = load_population(options.folder), load_values(options.folder, options.by)
    limit = violation_limit(options.draws, options.delta)
    print(
        f"{len(place)} items, {len(names)} values of {options.by}, {options.draws} draws of {options.n} rows"
    )
    print(f"{'alpha':>6}  {'guarantee':<14} {'certified':>9} {'coverage':>8} {'broken for a value':>19}")
    for alpha in options.alpha:
        found = compare(
            population,
            place,
            n=options.n,
            draws=options.draws,
            alpha=alpha,
            delta=options.delta,
            target_coverage=options.target_coverage,
            classes=len(load_config(options.folder / "trustescalate.toml").task.task().labels),
            rng=np.random.default_rng(options.seed),
        )
        for name, tally in zip(("one for all", "one for each"), found, strict=True):
            print(
                f"{alpha:>6.2f}  {name:<14} {tally.certified:>9} {tally.coverage:>8.3f} "
                f"{tally.broken:>12} <= {limit}"
            )


if __name__ == "__main__":
    main()
