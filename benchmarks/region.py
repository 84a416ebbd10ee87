"""Compare rows from the region with rows from all items, on recorded votes.

    python -m benchmarks.region FOLDER ... [--n 100 200 500] [--alpha 0.1 0.15 0.2] [--draws 300]

Folders, draws and scoring as in `benchmarks.regret`, on the default path. Beside n rows from all items stand
n rows from the region of policies up to some expected coverage, and up to that which `proposed_region`
gives, or the least that a policy can have, where it gives one and the pilot finds the region small enough;
elsewhere the proposal is to draw from all. Certificates are scored on the whole set; a draw without one
covers nothing.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.real_sets import Recorded, load_set
from benchmarks.regret import DEFAULT, DRAWS_PER_PILOT, Laid, lay_out
from trustescalate.stats.bounds import FloatArray, IntArray, binomial_pvalue
from trustescalate.stats.certify import plan_levels
from trustescalate.stats.control import binomial_best, choose, reject
from trustescalate.stats.region import WORTHWHILE, expected_among, proposed_region, reachable, truncated
from trustescalate.stats.validity import violation_limit

REGIONS = (0.3, 0.4, 0.5)
ALL, PROPOSED = "all items", "proposed"


class Cell(NamedTuple):
    """Mean certified coverage, the number of wrong certificates, and how often rows were of a region."""

    coverage: float
    violations: int
    used: float


class Cut(NamedTuple):
    """A laid-out plan up to some coverage, the row's chance to be drawn (N,), and the pilot's share."""

    laid: Laid
    chance: FloatArray
    share: float


def cut(place: Recorded, laid: Laid, pilot: IntArray, most: float | None) -> Cut | None:
    """The policies that may be tested, and where rows come from; None where no policy is small enough."""
    if most is None:
        return Cut(laid, place.weight, 1.0)
    try:
        plan = truncated(laid.plan, most)
    except ValueError:
        return None
    kept = np.concatenate([(part > 0) & (part <= most) for part in laid.plan.coverage])
    inside = laid.accepts[kept].max(axis=0)
    chance = place.weight * inside
    arrays = (array[kept] for array in laid[1:])
    return Cut(Laid(plan, *arrays), chance / chance.sum(), float(inside[pilot].mean()))


def measure(
    place: Recorded, alpha: float, n: int, *, delta: float, count: int, pilot: int, seed: int
) -> Mapping[float | str, Cell]:
    """Certify `count` times with rows from each place."""
    rng = np.random.default_rng(seed)
    proposal = proposed_region(alpha, n)
    sums = {key: np.zeros(3) for key in (ALL, PROPOSED, *REGIONS)}
    for start in range(0, count, DRAWS_PER_PILOT):
        seen = place.draw(pilot, rng)
        laid = lay_out(place, DEFAULT, seen)
        for key in sums:
            most = None if key == ALL else proposal if key == PROPOSED else float(key)
            if key == PROPOSED and most is not None:
                most = reachable(laid.plan, most)
            drawn = cut(place, laid, seen, most)
            if drawn is None or (key == PROPOSED and most and drawn.share > WORTHWHILE):
                drawn, most = cut(place, laid, seen, None), None
            assert drawn is not None
            for _ in range(min(DRAWS_PER_PILOT, count - start)):
                times = rng.multinomial(n, drawn.chance)
                coverage, wrong = _certified(drawn, times, alpha, delta, region=most is not None)
                sums[key] += (coverage, wrong, most is not None)
    return {key: Cell(float(a / count), int(b), float(c / count)) for key, (a, b, c) in sums.items()}


def _certified(
    drawn: Cut, times: IntArray, alpha: float, delta: float, *, region: bool
) -> tuple[float, bool]:
    laid, n = drawn.laid, int(times.sum())
    plan = expected_among(laid.plan, 0, n, drawn.share) if region else laid.plan
    accepted, errors = (np.rint(part @ times).astype(np.int64) for part in (laid.accepts, laid.errs))
    own = plan_levels(plan, "fallback", n, delta, binomial_best(alpha, n))
    rejected = reject("fallback", plan.sizes, binomial_pvalue(errors, accepted, alpha), own).rejected
    chosen = choose(rejected, accepted, laid.cost, "coverage", n=n)
    if chosen is None:
        return 0.0, False
    return float(laid.coverage[chosen]), bool(laid.wrong[chosen] > alpha * laid.coverage[chosen] + 1e-12)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure what rows from the region buy.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, nargs="+", default=[100, 200, 500])
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.10, 0.15, 0.20])
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--pilot", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for line in report([load_set(folder, folder.name) for folder in options.folders], options):
        print(line, flush=True)


def report(places: Sequence[Recorded], options: argparse.Namespace) -> list[str]:
    """Markdown lines: certified coverage from each place, and what the proposal gains."""
    lines = [
        f"Made by `python -m benchmarks.region`: mean certified coverage of {options.draws} draws, δ = "
        f"{options.delta:g}, a pilot of {options.pilot} rows without labels; at most "
        f"{violation_limit(options.draws, options.delta)} wrong certificates are explained by δ.",
        "",
        f"| set | α | n | all items | {' | '.join(f'up to {most:g}' for most in REGIONS)} | proposed "
        "| most wrong |",
        "|---|---|---|---|" + "---|" * (len(REGIONS) + 2),
    ]
    gains = []
    for place in places:
        for alpha in options.alpha:
            for n in options.n:
                found = measure(
                    place,
                    alpha,
                    n,
                    delta=options.delta,
                    count=options.draws,
                    pilot=options.pilot,
                    seed=options.seed,
                )
                most, mine = proposed_region(alpha, n), found[PROPOSED]
                if mine.used:
                    gains.append(mine.coverage - found[ALL].coverage)
                shown = f"{mine.coverage:.3f} ({most:g}, {mine.used:.0%})" if mine.used else "all items"
                cells = " | ".join(f"{found[key].coverage:.3f}" for key in (ALL, *REGIONS))
                worst = max(cell.violations for cell in found.values())
                lines.append(f"| {place.name} | {alpha:.2f} | {n} | {cells} | {shown} | {worst} |")
    lines += [
        "",
        f"Where a region is proposed ({len(gains)} cells), it gains {np.mean(gains or [0]):+.3f} of coverage "
        f"on average, {np.min(gains or [0]):+.3f} at worst, {np.max(gains or [0]):+.3f} at best.",
    ]
    return lines


if __name__ == "__main__":
    main()
