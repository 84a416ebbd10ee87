"""Compare the claim "expected" with certificates on recorded votes: coverage, and risk in single runs.

    python -m benchmarks.expected FOLDER ... [--n 100 200 500] [--items 300] [--draws 200] [--last-judge]

Each FOLDER is one that `benchmarks.shared_data` wrote, with all its annotations: its labelled items stand for
the population. A draw takes n labelled rows and the items of a run, with replacement, one of each drawn
cluster, and releases verdicts by conformal selection; the share of wrong ones is counted in the run itself.
The certificate is the default one at delta, on as many labelled rows and a pilot of 100 rows without labels;
its coverage is that of the whole set, 0 without a certificate. With `--last-judge` no other judge is asked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.real_sets import ALPHAS, Recorded, load_set
from benchmarks.real_sets import measure as certified
from trustescalate.stats.bounds import IntArray
from trustescalate.stats.conformal import select_run
from trustescalate.stats.pooling import Rows, Votes


class Cell(NamedTuple):
    """Means over runs; `above`: the share of runs with a share of wrong verdicts above alpha."""

    coverage: float
    wrong: float
    above: float


def measure(place: Recorded, *, n: int, items: int, alpha: float, draws: int, seed: int) -> Cell:
    """Calibrate and run `draws` times."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        known, run = place.draw(n, rng), place.draw(items, rng)
        found.append(_run(place, known, run, alpha))
    coverage, wrong = np.array(found).T
    return Cell(float(coverage.mean()), float(wrong.mean()), float((wrong > alpha + 1e-12).mean()))


def _run(place: Recorded, known: IntArray, run: IntArray, alpha: float) -> tuple[float, float]:
    rows = place.rows
    right = rows.truth[known, None] == np.arange(place.classes)
    mine, labelled = (Votes(rows.scores[at], rows.labels[at]) for at in (run, known))
    made = select_run(mine, labelled, right, alpha)
    released = made.selected.released
    wrong = made.read.labels[released, -1] != rows.truth[run[released]]
    return float(released.mean()), float(wrong.mean()) if released.any() else 0.0


def table(folders: Sequence[Path], options: argparse.Namespace) -> list[str]:
    """Markdown lines: a row for each set and alpha, a cell for each n."""
    lines = [
        f"Made by `python -m benchmarks.expected`: {options.draws} draws of n labelled rows and of "
        f"{options.items} items. A cell: coverage in expectation / certified (δ = {options.delta:g}); mean "
        "share of wrong verdicts; share of runs above α.",
        "",
        "| set | α | " + " | ".join(f"n = {n}" for n in options.n) + " |",
        "|---|---|" + "---|" * len(options.n),
    ]
    for folder in folders:
        place = load_set(folder, folder.name)
        if options.last_judge:
            rows = place.rows
            last = Rows(rows.scores[:, -1:], rows.labels[:, -1:], rows.truth, rows.costs[:, -1:])
            place = place._replace(rows=last)
        for alpha in ALPHAS.get(folder.name, (0.10, 0.15, 0.20)):
            cells = [_cell(place, n, alpha, options) for n in options.n]
            lines.append(f"| {folder.name} | {alpha:.2f} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return lines


def _cell(place: Recorded, n: int, alpha: float, options: argparse.Namespace) -> str:
    mean = measure(place, n=n, items=options.items, alpha=alpha, draws=options.draws, seed=options.seed)
    other = certified(
        place,
        "hedged",
        n=n,
        alpha=alpha,
        delta=options.delta,
        draws=options.draws,
        dev_share=0.0,
        pilot=100,
        seed=options.seed,
    )
    return f"{mean.coverage:.3f} / {other.coverage:.3f}; {mean.wrong:.3f}; {mean.above:.2f}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare a guarantee in expectation with certificates.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, nargs="+", default=[100, 200, 500])
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--last-judge", action="store_true", help="leave out all judges but the last")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args()
    lines = table(options.folders, options)
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
