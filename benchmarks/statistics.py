"""Measure the speed of the statistics against the libraries that one would use instead.

    python -m benchmarks.statistics [--runs 7] [--rows 1000000]

Ratios of medians of wall time, both sides taking turns on the same arrays; each pair must first agree. ppi_py
(`pip install ppi-python`) and `mapie` are needed; a library that is missing counts as a failure. Exit code 1
if a limit is missed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import FloatArray, IntArray, binomial_pvalue
from trustescalate.stats.certify import certify, plan_levels
from trustescalate.stats.control import binomial_best, carried
from trustescalate.stats.inference import Survey, ppi_mean
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import decide
from trustescalate.stats.validity import World, violation_limit, world

ALPHA, DELTA = 0.1, 0.1


class Measured(NamedTuple):
    """Seconds by us and by them (None where there is no other), and the ratio or seconds allowed."""

    name: str
    ours: float
    theirs: float | None
    limit: float

    def passes(self) -> bool:
        """At least `limit` times as fast; alone, at most `limit` seconds."""
        return self.ours <= self.limit if self.theirs is None else self.theirs >= self.limit * self.ours

    def row(self) -> str:
        """One line of the table."""
        theirs = "" if self.theirs is None else f"{self.theirs * 1000:.1f} ms"
        found = f"{self.ours:.2f} s" if self.theirs is None else f"{self.theirs / self.ours:.1f} x"
        limit = f"<= {self.limit:g} s" if self.theirs is None else f">= {self.limit:g} x"
        verdict = "pass" if self.passes() else "FAIL"
        return f"{self.name:<52} {self.ours * 1000:>9.1f} ms {theirs:>12} {found:>9} {limit:>8}  {verdict}"


def medians(calls: list[Callable[[], object]], runs: int) -> list[float]:
    """Seconds of each, in turn, so that a change of the machine's speed hits all; the first is no run."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs + 1):
        for call, each in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            each.append(time.perf_counter() - start)
    return [statistics.median(each[1:]) for each in times]


def ppi(rows: int, runs: int) -> Measured:
    """One mean with its interval, one item in a hundred labelled."""
    from ppi_py import ppi_mean_ci

    rng = np.random.default_rng(0)
    f = rng.random(rows)
    drawn = rng.choice(rows, rows // 100, replace=False)
    y = (rng.random(len(drawn)) < f[drawn]).astype(float)
    survey, rest = Survey(f, drawn, y), np.delete(f, drawn)
    low, high = np.ravel(ppi_mean_ci(y, f[drawn], rest, alpha=DELTA))
    found = ppi_mean(survey, DELTA)
    if found.low is None or found.high is None:
        raise AssertionError("no interval where there are labels enough")
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=1e-3 * (high - low))
    ours, theirs = medians(
        [lambda: ppi_mean(survey, DELTA), lambda: ppi_mean_ci(y, f[drawn], rest, alpha=DELTA)], runs
    )
    return Measured(f"PPI mean, {rows:,} items: ppi_py", ours, theirs, 5)


def calibration(rows: int, runs: int) -> Measured:
    """Three tiers, a path of 50 policies; tiers agree on labels, so that one `y` of MAPIE's holds errors."""
    from mapie.risk_control import BinaryClassificationController

    rng = np.random.default_rng(0)
    scores = rng.beta(4, 1, size=(rows, 3))
    wrong = rng.random(rows) < 1.2 * (1 - scores.max(axis=1))
    labels = np.repeat(wrong[:, None].astype(np.int64), 3, axis=1)
    truth, free = np.zeros(rows, dtype=np.int64), np.ones((rows, 3))
    path = np.repeat(np.linspace(0.999, 0.5, 50)[:, None], 3, axis=1)

    def theirs() -> BinaryClassificationController:
        controller = BinaryClassificationController(
            lambda x, *taus: (x >= taus).any(axis=1).astype(int),
            risk="precision",
            target_level=1 - ALPHA,
            confidence_level=1 - DELTA,
            list_predict_params=path,
        )
        return controller.calibrate(scores, 1 - wrong)

    def ours() -> FloatArray:
        return certify(scores, labels, truth, free, alpha=ALPHA, delta=DELTA, path=path).table.p_value

    theirs_p = theirs().p_values[:, 0]
    rebuilt = np.abs(theirs_p - ours()) > 1e-9
    assert np.all(theirs_p[rebuilt] > ours()[rebuilt]), "their count is rebuilt from a rate, never too low"
    found = medians([ours, theirs], max(1, runs // 3))
    return Measured(f"calibration, {rows:,} rows, 3 tiers, 50 policies: MAPIE", found[0], found[1], 50)


def replications(trials: int, n: int) -> Measured:
    """Validity: `trials` certifications of two tiers on n fresh rows each, compared with the true risk."""
    start = time.perf_counter()
    place = world("monotone", ALPHA, tiers=2)
    path = np.repeat(np.unique(place.scores)[::-1][:, None], 2, axis=1)
    chances = [place.risk_coverage(policy)[0] for policy in path]
    accepted, errors = draw_counts(place, path, n, trials, np.random.default_rng(0))
    p = binomial_pvalue(errors, accepted, ALPHA)
    violations = certified = 0
    own = plan_levels(Plan.of(path), "fallback", n, DELTA, binomial_best(ALPHA, n))
    for one in p:
        rejected = np.flatnonzero(carried(one, own).rejected)
        certified += rejected.size > 0
        violations += any(chances[t] > ALPHA for t in rejected)
    if violations > violation_limit(trials, DELTA):
        raise AssertionError(f"{violations} of {trials} replications broke the guarantee")
    took = time.perf_counter() - start
    return Measured(f"{trials:,} validity replications, n = {n:,} ({violations} violations)", took, None, 5)


def draw_counts(
    place: World, path: FloatArray, n: int, trials: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Accepted rows and errors (trials, t) of each policy, by drawing cells of the world, not rows.

    A kind is a cell and which of two tiers err there; the numbers of rows of each kind are all that counts.
    """
    cells = len(place.scores)
    kinds = np.stack(np.meshgrid(np.arange(cells), [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
    tier = np.stack([decide(tau, place.scores, np.zeros(place.scores.shape, int)) for tau in path], axis=1)
    released = tier[kinds[:, 0]] >= 0
    wrong = released & (np.take_along_axis(kinds[:, 1:], np.maximum(tier[kinds[:, 0]], 0), axis=1) == 1)
    to_counts = np.concatenate([released, wrong], axis=1).astype(np.float32)
    drawn = []
    for block in np.array_split(np.arange(trials), max(1, trials // 500)):
        cell = rng.integers(cells, size=(len(block), n))
        erred = rng.random((2, len(block), n), dtype=np.float32) < place.error.T.astype(np.float32)[:, cell]
        kind = cell * 4 + erred[0] * 2 + erred[1] + np.arange(len(block))[:, None] * len(kinds)
        rows = np.bincount(kind.ravel(), minlength=len(block) * len(kinds)).reshape(len(block), -1)
        drawn.append(np.rint(rows.astype(np.float32) @ to_counts).astype(np.int64))
    both = np.concatenate(drawn)
    return both[:, : len(path)], both[:, len(path) :]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time the statistics beside the usual libraries.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--trials", type=int, default=10_000)
    options = parser.parse_args()
    found = []
    print(f"{'':<52} {'ours':>12} {'theirs':>12} {'found':>9} {'limit':>8}")
    measures: list[Callable[[], Measured]] = [
        lambda: ppi(options.rows, options.runs),
        lambda: calibration(options.rows, options.runs),
        lambda: replications(options.trials, 1_000),
    ]
    for measure in measures:
        try:
            found.append(measure())
        except ModuleNotFoundError as missing:
            print(f"{missing.name} is not installed  FAIL")
            continue
        print(found[-1].row(), flush=True)
    return int(len(found) < 4 or not all(each.passes() for each in found))


if __name__ == "__main__":
    sys.exit(main())
