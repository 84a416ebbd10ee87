"""Count violations of the guarantee on recorded votes, and measure coverage and cost.

    python -m benchmarks.resample FOLDER [--n 500] [--draws 300] [--alpha 0.1 0.15 0.2] [--delta 0.1]

FOLDER is one that `benchmarks.shared_data` wrote, with all its annotations: its labelled items are the
population. Each draw takes n calibration rows with replacement, certifies, and scores the certificate on the
whole population, so a violation is counted, not estimated. The path's quantiles come from a pilot drawn
separately, without labels. Coverage and cost count a draw without a certificate as covering nothing, at the
cost of asking every tier.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from trustescalate.calibration.votes import confidence
from trustescalate.config import Config, ReplayJudge, load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.data.labels import majority
from trustescalate.judges.replay import load_votes
from trustescalate.records import Judgment, Vote
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.certify import certify
from trustescalate.stats.policy import common_path, evaluate
from trustescalate.stats.validity import violation_limit

METHODS: Mapping[str, tuple[Literal["common", "tierwise"], bool]] = {
    "common + fallback": ("common", False),
    "tierwise": ("tierwise", False),
    "last judge alone": ("common", True),
}


class Population(NamedTuple):
    """Every labelled item: `scores`, `labels`, `costs` (n, m) and `truth` (n,), as `certify` takes them."""

    scores: FloatArray
    labels: IntArray
    truth: IntArray
    costs: FloatArray

    def rows(self, index: IntArray) -> "Population":
        """Some of the items, in this order."""
        return Population(self.scores[index], self.labels[index], self.truth[index], self.costs[index])

    def last(self) -> "Population":
        """With the last judge only."""
        return Population(self.scores[:, -1:], self.labels[:, -1:], self.truth, self.costs[:, -1:])


class Measured(NamedTuple):
    """Means over draws, and counts of draws."""

    coverage: float
    cost: float
    certified: int
    violations: int


def load_population(folder: Path, estimator: str | None = None) -> Population:
    """Align labels and recorded votes; an item that a judge was never asked about is a failed vote.

    `estimator` is the configured one unless it is named.
    """
    config = load_config(folder / "trustescalate.toml")
    task = config.task.task()
    truth = majority(task, load_dataset(config).annotations)
    answers = [-1 if label is None else task.labels.index(label) for label in truth.values()]
    judged = [load_judgments(config, judge, list(truth)) for judge in config.judges]
    named = estimator or config.ensemble.estimator
    found = [confidence(task, named, rows) for rows in judged]
    price = [judge.price.request for judge in config.judges]
    return Population(
        np.column_stack([c.score for c in found]),
        np.column_stack([c.label for c in found]),
        np.array(answers),
        np.column_stack(
            [[usd * row.planned for row in rows] for usd, rows in zip(price, judged, strict=True)]
        ),
    )


def load_judgments(config: Config, judge: object, items: list[str]) -> list[Judgment]:
    """One judge's recorded votes on these items, in this order."""
    if not isinstance(judge, ReplayJudge):
        raise TypeError("only recorded votes can be resampled")
    rows = load_votes(config.path(judge.votes), config.task.task(), judge.name)
    by_item = {row.item_id: row for row in rows}
    missing = (Vote(0, "", {}, failure="not_recorded"),)
    planned = max(row.planned for row in rows)
    return [
        by_item.get(item, Judgment(item, judge.name, rows[0].fingerprint, missing, planned)) for item in items
    ]


def resample(
    population: Population,
    path: Literal["common", "tierwise"],
    *,
    n: int,
    draws: int,
    alpha: float,
    delta: float,
    pilot: int,
    rng: np.random.Generator,
) -> Measured:
    """Certify `draws` times, each on n rows drawn with replacement, and score on the whole population."""
    size, m = population.scores.shape
    never = np.full((1, m), np.inf)
    coverage, cost, certified, violations = 0.0, 0.0, 0, 0
    for _ in range(draws):
        seen = population.rows(rng.integers(size, size=pilot))
        fixed = path if path == "tierwise" else common_path(seen.scores, m)
        drawn = population.rows(rng.integers(size, size=n))
        result = certify(*drawn, alpha=alpha, delta=delta, path=fixed)
        chosen = never if result.thresholds is None else result.thresholds[None]
        outcome = evaluate(chosen, *population)
        released = int(outcome.accepted[0])
        certified += result.thresholds is not None
        violations += bool(released) and int(outcome.errors[0]) / released > alpha
        coverage += released / size
        # Without a certificate all items abstain, and an abstained item has paid every judge.
        refused = result.thresholds is None
        cost += float(population.costs.sum(axis=1).mean()) if refused else float(outcome.cost[0])
    return Measured(coverage / draws, cost / draws, certified, violations)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Certify again and again on recorded votes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.10, 0.15, 0.20])
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--pilot", type=int, default=50, help="unlabelled rows that lay out the path")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    population = load_population(options.folder)
    limit = violation_limit(options.draws, options.delta)
    print(
        f"{len(population.truth)} items, {options.draws} draws of {options.n} rows, delta = {options.delta}"
    )
    print(f"{'alpha':>6}  {'method':<20} {'coverage':>8} {'USD/item':>9} {'certified':>9} {'violations':>10}")
    for alpha in options.alpha:
        for method, (path, alone) in METHODS.items():
            result = resample(
                population.last() if alone else population,
                path,
                n=options.n,
                draws=options.draws,
                alpha=alpha,
                delta=options.delta,
                pilot=options.pilot,
                rng=np.random.default_rng(options.seed),
            )
            print(
                f"{alpha:>6.2f}  {method:<20} {result.coverage:>8.3f} {result.cost:>9.5f} "
                f"{result.certified:>9} {result.violations:>5} <= {limit}"
            )


if __name__ == "__main__":
    main()
