"""Count violations: worlds whose true risk is known, and repeated certification in them.

A world is a finite set of equally likely cells; in each, every tier has one score and one probability of
being right, independently of the other tiers. So the true risk of any cascade is a finite sum, exact, and a
violation is counted, not estimated. The self-test, the benchmarks and the tests run these worlds.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from trustescalate.stats.batch import errors_allowed
from trustescalate.stats.bounds import FloatArray, IntArray, binomial_pvalue
from trustescalate.stats.certify import certify_rows, plan_levels
from trustescalate.stats.control import binomial_best, choose, reject
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.rule import TestRule

HANDOVER_CELLS = 1_000
PER_PILOT = 50


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

    def risk_coverage(self, thresholds: FloatArray, plan: Plan | None = None) -> tuple[float, float]:
        """True risk and coverage of the cascade with thresholds (m,); risk 0 where it accepts none.

        With a `plan`, thresholds (r m,) apply to what it reads: all 2^m ways to be wrong are summed
        up.
        """
        if plan is not None and plan.readings != (None,):
            return self._risk_under_plan(plan, thresholds)
        tier = decide(thresholds, self.scores, np.zeros(self.scores.shape, dtype=np.int64))
        released = np.flatnonzero(tier >= 0)
        if released.size == 0:
            return 0.0, 0.0
        return float(self.error[released, tier[released]].mean()), released.size / len(tier)

    def _risk_under_plan(self, plan: Plan, thresholds: FloatArray) -> tuple[float, float]:
        # Pooling treats both labels alike, so the truth may be 0 and a wrong verdict 1.
        m = self.scores.shape[1]
        released, wrong = 0.0, 0.0
        for ways in np.indices((2,) * m).reshape(m, -1).T:
            labels = np.tile(ways, (len(self.scores), 1))
            chance = np.where(labels == 1, self.error, 1 - self.error).prod(axis=1)
            read = plan.read(Votes(self.scores, labels))
            tier = decide(thresholds, *read)
            label = np.take_along_axis(read.labels, np.maximum(tier, 0)[:, None], axis=1)[:, 0]
            released += float(chance[tier >= 0].sum())
            wrong += float(chance[(tier >= 0) & (label == 1)].sum())
        return (wrong / released if released else 0.0), released / len(self.scores)


Build: TypeAlias = Callable[[float, int], World]


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


def _deceptive(rank: FloatArray, alpha: float) -> FloatArray:
    honest = _monotone(rank, alpha)
    return np.concatenate([0.3 + 0.4 * rank[:, :-1], honest[:, -1:]], axis=1)


def _coin_beside(rank: FloatArray, alpha: float) -> FloatArray:
    error = np.full(rank.shape, 0.5)
    error[:, 0] = 1.001 * alpha
    return error


def _hopeless(rank: FloatArray, alpha: float) -> FloatArray:
    return np.full(rank.shape, (1 + alpha) / 2)


def _by_rank(error: Callable[[FloatArray, float], FloatArray], levels: int = 20) -> Build:
    def build(alpha: float, tiers: int) -> World:
        rank = np.stack(np.meshgrid(*[np.linspace(0, 1, levels)] * tiers), axis=-1).reshape(-1, tiers)
        return World(0.5 + rank / 2, error(rank, alpha))

    return build


def _handover(alpha: float, tiers: int) -> World:
    """Rows that the last tier releases under one policy, and the first under the next, which errs on them.

    On a share alpha the last tier scores .95 and errs just above alpha; the first scores .85 everywhere, and
    errs there and nowhere else. So the second policy errs as often as the first one accepts: a test that
    starts at the second because the first accepted few rows starts where few errors are.
    """
    bad = int(errors_allowed(HANDOVER_CELLS, alpha)) + 1
    scores, error = np.full((HANDOVER_CELLS, tiers), 0.5), np.full((HANDOVER_CELLS, tiers), 0.5)
    scores[:, 0], error[:, 0] = 0.85, np.arange(HANDOVER_CELLS) < bad
    scores[:bad, -1], error[:, -1] = 0.95, 1.001 * alpha
    return World(scores, error)


WORLDS: Mapping[str, Build] = {
    "flat": _by_rank(_flat),
    "monotone": _by_rank(_monotone),
    "bad_at_top": _by_rank(_bad_at_top),
    "adversarial": _by_rank(_adversarial),
    "tied": _by_rank(_tied, levels=7),
    "deceptive": _by_rank(_deceptive),
    "coin_beside": _by_rank(_coin_beside),
    "hopeless": _by_rank(_hopeless),
    "handover": _handover,
}
"""Worlds by name, from alpha and the number of tiers.

Risk is well below alpha everywhere; falls with the score; is worst among the most confident; is just above
alpha whatever is accepted; jumps between 7 levels that many rows share; is what the cheap tiers hide; is near
1/2 on all tiers but one just above alpha, or everywhere; moves with the rows from one tier to another.
"""


def world(name: str, alpha: float, tiers: int) -> World:
    """The world `name` of `WORLDS` at alpha: for those by rank, all combinations of the tiers' score levels.

    Raises ValueError for an unknown name.

    >>> world("flat", alpha=0.1, tiers=2).risk_coverage(np.array([0.9, 0.9]))[1]
    0.36
    """
    if name not in WORLDS:
        raise ValueError(f"no world {name!r}; there are {', '.join(WORLDS)}")
    return WORLDS[name](alpha, tiers)


class Replications(NamedTuple):
    """Of `trials` certifications: the number of certificates, and of violations among them.

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
    rule: TestRule[PathName | Literal["tierwise"]],
    *,
    trials: int,
    rng: np.random.Generator,
    pilot: int = 100,
    dev: int = 0,
) -> Replications:
    """Certify `trials` times on n fresh rows, and hold each certificate against the truth of the world.

    Paths are laid out from `pilot` further rows without labels, and `dev` further ones with labels. Raises
    ValueError as `certify` does, or for a path that needs dev rows where `dev` is 0.

    >>> rng = np.random.default_rng(0)
    >>> easy = world("flat", alpha=0.1, tiers=2)
    >>> replicate(easy, 500, TestRule(0.1, 0.1, "common"), trials=20, rng=rng).violations
    0
    """
    certified, violations, misses, coverages = 0, 0, 0, 0.0
    tiers = place.scores.shape[1]
    for _ in range(trials):
        seen = place.draw(pilot, rng)
        known = _as_rows(place.draw(dev, rng)) if dev else None
        fixed: Plan | Literal["tierwise"] = "tierwise"
        if rule.path != "tierwise":
            fixed = PATHS[rule.path].build(Basis(known, Votes(seen.scores, seen.labels), tiers, classes=2))
        rows = place.draw(n, rng)
        free = np.zeros(rows.scores.shape)
        result = certify_rows(Rows(*rows, free), rule.along(fixed))
        if result.thresholds is None or result.coverage_lower is None:
            continue
        risk, coverage = place.risk_coverage(result.thresholds, fixed if isinstance(fixed, Plan) else None)
        certified += 1
        violations += risk > rule.alpha
        misses += result.coverage_lower > coverage
        coverages += coverage
    return Replications(trials, certified, violations, misses, coverages / trials)


class Kinds(NamedTuple):
    """All kinds of rows that a world has, the truth being 0: `rows` (k, m), and how likely each is (k,)."""

    rows: Rows
    chance: FloatArray


def kinds_of(place: World) -> Kinds:
    """The kinds of rows of a world: distinct scores, and which tiers err. Both labels are treated alike.

    >>> kinds_of(world("handover", alpha=0.25, tiers=2)).chance.round(3).tolist()
    [0.562, 0.187, 0.188, 0.063]
    """
    scores, labels, chance = [], [], []
    for ways in np.indices((2,) * place.scores.shape[1]).reshape(place.scores.shape[1], -1).T:
        scores.append(place.scores)
        labels.append(np.tile(ways, (len(place.scores), 1)))
        chance.append(np.where(ways == 1, place.error, 1 - place.error).prod(axis=1) / len(place.scores))
    both = np.column_stack([np.concatenate(scores), np.concatenate(labels)])
    same, where = np.unique(both, axis=0, return_inverse=True)
    m = place.scores.shape[1]
    rows = Rows(
        same[:, :m], same[:, m:].astype(np.int64), np.zeros(len(same), dtype=np.int64), 0 * same[:, :m]
    )
    likely = np.bincount(where, np.concatenate(chance))
    some = likely > 0
    return Kinds(rows.take(some), likely[some] / likely.sum())


def counts_by_kind(
    kinds: Kinds, plan: Plan, n: int, trials: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Accepted rows and errors (trials, t) of each policy on n rows, by drawing the number of each kind.

    >>> kinds = kinds_of(world("handover", alpha=0.25, tiers=2))
    >>> plan = Plan.of(np.array([[0.9, 0.9], [0.8, 0.8]]))
    >>> accepted, errors = counts_by_kind(kinds, plan, 100, 1000, np.random.default_rng(0))
    >>> accepted.mean(axis=0).round().tolist(), errors.mean(axis=0).round().tolist()
    ([25.0, 100.0], [6.0, 25.0])
    """
    read = plan.rows(kinds.rows)
    tier = np.array([decide(policy, read.scores, read.labels) for policy in plan.policies])
    label = np.take_along_axis(read.labels, np.maximum(tier, 0).T, axis=1).T
    drawn = rng.multinomial(n, kinds.chance, size=trials)
    return drawn @ (tier >= 0).T, drawn @ ((tier >= 0) & (label != 0)).T


def replicate_by_kind(
    place: World, n: int, rule: TestRule[PathName], *, trials: int, rng: np.random.Generator, pilot: int = 100
) -> Replications:
    """As `replicate`, for a label-free path in a world of few kinds of rows: fast enough for sharp limits.

    Numbers of rows of each kind are drawn in place of rows, and 50 trials share a pilot. Limits on coverage
    are not looked at.

    >>> place, rng = world("handover", alpha=0.25, tiers=2), np.random.default_rng(0)
    >>> found = replicate_by_kind(place, 100, TestRule(0.25, 0.1, "common"), trials=1000, rng=rng)
    >>> found.violations <= violation_limit(1000, 0.1)
    True
    """
    kinds, tiers = kinds_of(place), place.scores.shape[1]
    certified, violations, covered = 0, 0, 0.0
    for start in range(0, trials, PER_PILOT):
        seen = place.draw(pilot, rng)
        plan = PATHS[rule.path].build(Basis(None, Votes(seen.scores, seen.labels), tiers, classes=2))
        known = np.array([place.risk_coverage(policy, plan) for policy in plan.policies])
        own = plan_levels(plan, rule.procedure, n, rule.delta, binomial_best(rule.alpha, n))
        count = min(PER_PILOT, trials - start)
        for accepted, errors in zip(*counts_by_kind(kinds, plan, n, count, rng), strict=True):
            p = binomial_pvalue(errors, accepted, rule.alpha)
            rejected = reject(rule.procedure, plan.sizes, p, own).rejected
            chosen = choose(rejected, accepted, np.zeros(len(p)), "coverage", n=n)
            if chosen is not None:
                certified += 1
                violations += bool((rejected & (known[:, 0] > rule.alpha)).any())
                covered += float(known[chosen, 1])
    return Replications(trials, certified, violations, 0, covered / trials)


def _as_rows(sample: Sample) -> Rows:
    return Rows(*sample, np.zeros(sample.scores.shape))


def violation_limit(trials: int, delta: float, tail: float = 1e-6) -> int:
    """The most violations in `trials` that a guarantee kept with probability 1 - delta explains.

    More happen with probability at most `tail`. Raises ValueError unless trials >= 0 and 0 < delta < 1.

    >>> violation_limit(500, 0.1)
    85
    """
    from scipy.stats import binom

    if trials < 0 or not 0 < delta < 1:
        raise ValueError(f"trials must not be negative and delta lie in (0, 1), not {trials} and {delta}")
    return int(binom.ppf(1 - tail, trials, delta))
