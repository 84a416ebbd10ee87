"""Compare two guarantees from the same labels, on a finite batch and on a population, on recorded votes.

    python -m benchmarks.batches FOLDER ... [--n 100 200] [--draws 200] [--markdown FILE]

Each FOLDER is one that `benchmarks.shared_data` wrote. A draw makes a batch of N items with replacement from
the set, N being a few times n, and labels n of them, drawn without replacement. Both certificates are tested
on these n rows and the same path, laid out on the batch's own scores, and scored by how much of the batch
they release. The batch's guarantee is checked on the batch, the population's on the whole set.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.real_sets import ALPHAS, Recorded, load_set
from trustescalate.stats.batch import certify_batch
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.certify import certify
from trustescalate.stats.paths import PATHS, Basis, PathName
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import violation_limit

TIMES = (2, 4, 9)
"""Batch sizes as multiples of the number of labels."""
PATH: PathName = "hedged"


def measure(
    place: Recorded, n: int, times: int, alpha: float, delta: float, draws: int, seed: int
) -> FloatArray:
    """Mean coverage of the batch by either guarantee, and violations of either: batch, population, …"""
    rng, total = np.random.default_rng(seed), np.zeros(4)
    everything = np.arange(len(place.rows.truth))
    for _ in range(draws):
        batch = place.rows.take(rng.integers(len(everything), size=times * n))
        sample = rng.permutation(times * n)[:n]
        labelled = batch.take(sample)
        plan = PATHS[PATH].build(Basis(None, batch.votes, batch.scores.shape[1], place.classes))
        finite = certify_batch(
            batch.scores, batch.labels, sample, labelled.truth, batch.costs, TestRule(alpha, delta, plan)
        ).thresholds
        general = certify(*labelled, alpha=alpha, delta=delta, path=plan).thresholds
        total += [
            _released(finite, plan.rows(batch)),
            _released(general, plan.rows(batch)),
            _broken(finite, plan.rows(batch), alpha),
            _broken(general, plan.rows(place.rows), alpha),
        ]
    return total / [draws, draws, 1, 1]


def _released(thresholds: FloatArray | None, rows: Rows) -> float:
    if thresholds is None:
        return 0.0
    return float(np.mean(decide(thresholds, rows.scores, rows.labels) >= 0))


def _broken(thresholds: FloatArray | None, rows: Rows, alpha: float) -> bool:
    if thresholds is None:
        return False
    tier = decide(thresholds, rows.scores, rows.labels)
    released = np.flatnonzero(tier >= 0)
    wrong = int(np.count_nonzero(rows.labels[released, tier[released]] != rows.truth[released]))
    return wrong > alpha * len(released) + 1e-9


def table(folders: Sequence[Path], options: argparse.Namespace) -> list[str]:
    """Markdown lines: a row for each set, guarantee and n, a cell for each size of batch."""
    limit = violation_limit(options.draws, options.delta)
    lines = [
        f"Made by `python -m benchmarks.batches`: {options.draws} draws of a batch of N items of which n are "
        f"labelled, δ = {options.delta:g}, path {PATH}, chosen for coverage. A cell: share of the batch that "
        "is released under the guarantee on the batch / on a population, and broken guarantees of either (at "
        f"most {limit} are explained by δ).",
        "",
        "| set | α | n | " + " | ".join(f"N = {times} n" for times in TIMES) + " |",
        "|---|---|---|" + "---|" * len(TIMES),
    ]
    for folder in folders:
        place = load_set(folder, folder.name)
        for alpha in options.alpha or ALPHAS.get(folder.name, (0.10, 0.15, 0.20)):
            for n in options.n:
                cells = [
                    measure(place, n, times, alpha, options.delta, options.draws, options.seed)
                    for times in TIMES
                ]
                shown = " | ".join(
                    f"{batch:.3f} / {general:.3f}, {int(broken)} / {int(other)}"
                    for batch, general, broken, other in cells
                )
                lines.append(f"| {folder.name} | {alpha:.2f} | {n} | {shown} |")
                print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="A guarantee on a batch beside one on a population.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--alpha", type=float, nargs="+", help="default: by the set's name")
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    options = parser.parse_args()
    lines = table(options.folders, options)
    if options.markdown:
        options.markdown.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
