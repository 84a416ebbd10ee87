"""Does the promise hold? Worlds whose true risk is known, and repeated certification in them.

A world is a finite set of equally likely cells; in each, every tier has one score and one probability of
being right, independently of the other tiers. So the true risk of any cascade is a finite sum, exact, and a
broken promise is counted, not estimated. This file is what the self-test, the benchmarks and the tests run.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import binom

from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.certify import certify
from trustescalate.stats.policy import common_path, decide


class Sample(NamedTuple):
    """Rows drawn from a world: `scores`, `labels` (n, m) and `truth` (n,), labels 0 or 1."""

    scores: FloatArray
    labels: IntArray
    truth: IntArray


class World(NamedTuple):
    """`scores` (cells, m), and `error` (cells, m): the probability that a tier's verdict is wrong there."""

    scores: FloatArray
    error: FloatArray

    def draw(self, n: int, rng: np.random.Generator) -> Sample:
        """Draw n independent rows."""
        cell = rng.integers(len(self.scores), size=n)
        truth = rng.integers(2, size=n)
        wrong = rng.random((n, self.scores.shape[1])) < self.error[cell]
        return Sample(self.scores[cell], np.where(wrong, 1 - truth[:, None], truth[:, None]), truth)

    def risk_coverage(self, thresholds: FloatArray) -> tuple[float, float]:
        """True risk and coverage of the cascade with thresholds (m,); risk 0 where it accepts none."""
        tier = decide(thresholds, self.scores, np.zeros(self.scores.shape, dtype=np.int64))
        released = np.flatnonzero(tier >= 0)
        if released.size == 0:
            return 0.0, 0.0
        return float(self.error[released, tier[released]].mean()), released.size / len(tier)


def _flat(rank: FloatArray, alpha: float) -> FloatArray:
    return np.full(rank.shape, 0.7 * alpha)


def _monotone(rank: FloatArray, alpha: float) -> FloatArray:
    return alpha * (0.2 + 3.0 * (1 - rank) ** 2)


def _bad_at_top(rank: FloatArray, alpha: float) -> FloatArray:
    return np.where(rank > 0.95, 2.5 * alpha, alpha * (0.2 + 2.0 * (0.95 - rank) ** 2))


def _adversarial(rank: FloatArray, alpha: float) -> FloatArray:
    return np.full(rank.shape, 1.001 * alpha)


def _tied(rank: FloatArray, alpha: float) -> FloatArray:
    return np.where(rank > 0.7, 0.3 * alpha, 2.5 * alpha)


def _hopeless(rank: FloatArray, alpha: float) -> FloatArray:
    return np.full(rank.shape, (1 + alpha) / 2)


WORLDS: Mapping[str, tuple[Callable[[FloatArray, float], FloatArray], int]] = {
    "flat": (_flat, 20),
    "monotone": (_monotone, 20),
    "bad_at_top": (_bad_at_top, 20),
    "adversarial": (_adversarial, 20),
    "tied": (_tied, 7),
    "hopeless": (_hopeless, 20),
}
"""P(error | rank of the score in [0, 1], alpha), and how many score levels a tier has.

Risk is well below alpha everywhere; falls with the score; is worst among the most confident; is just above
alpha whatever is accepted; jumps between 7 levels that many rows share; is near a coin's everywhere.
"""


def world(name: str, alpha: float, tiers: int) -> World:
    """The world `name` of `WORLDS` for a promise at alpha: all combinations of the tiers' score levels.

    Raises ValueError for an unknown name.

    >>> world("flat", alpha=0.1, tiers=2).risk_coverage(np.array([0.9, 0.9]))[1]
    0.36
    """
    if name not in WORLDS:
        raise ValueError(f"no world {name!r}; there are {', '.join(WORLDS)}")
    error, levels = WORLDS[name]
    rank = np.stack(np.meshgrid(*[np.linspace(0, 1, levels)] * tiers), axis=-1).reshape(-1, tiers)
    return World(0.5 + rank / 2, error(rank, alpha))


class Replications(NamedTuple):
    """Of `trials` certifications: how many gave a certificate, and how many of those broke the promise.

    `coverage_misses` counts certificates whose lower limit on coverage is above the true coverage.
    `mean_coverage` is the mean true coverage, 0 where there was no certificate.
    """

    trials: int
    certified: int
    violations: int
    coverage_misses: int
    mean_coverage: float


def replicate(
    place: World,
    n: int,
    *,
    alpha: float,
    delta: float,
    path: Literal["common", "tierwise"],
    procedure: str,
    trials: int,
    rng: np.random.Generator,
    pilot: int = 100,
) -> Replications:
    """Certify `trials` times on n fresh rows, and hold each certificate against the truth of the world.

    The path "common" comes from `pilot` further rows without labels. Raises ValueError as `certify` does.

    >>> rng = np.random.default_rng(0)
    >>> easy = world("flat", alpha=0.1, tiers=2)
    >>> rule = {"path": "common", "procedure": "fallback"}
    >>> replicate(easy, 500, alpha=0.1, delta=0.1, trials=20, rng=rng, **rule).violations
    0
    """
    certified, violations, misses, coverages = 0, 0, 0, 0.0
    tiers = place.scores.shape[1]
    for _ in range(trials):
        fixed = path if path == "tierwise" else common_path(place.draw(pilot, rng).scores, tiers)
        rows = place.draw(n, rng)
        free = np.zeros(rows.scores.shape)
        result = certify(*rows, free, alpha=alpha, delta=delta, path=fixed, procedure=procedure)
        if result.thresholds is None or result.coverage_lower is None:
            continue
        risk, coverage = place.risk_coverage(result.thresholds)
        certified += 1
        violations += risk > alpha
        misses += result.coverage_lower > coverage
        coverages += coverage
    return Replications(trials, certified, violations, misses, coverages / trials)


def violation_limit(trials: int, delta: float, tail: float = 1e-6) -> int:
    """The most violations in `trials` that a promise kept with probability 1 - delta explains.

    More happen with probability at most `tail`. Raises ValueError unless trials >= 0 and 0 < delta < 1.

    >>> violation_limit(500, 0.1)
    85
    """
    if trials < 0 or not 0 < delta < 1:
        raise ValueError(f"trials must not be negative and delta lie in (0, 1), not {trials} and {delta}")
    return int(binom.ppf(1 - tail, trials, delta))
