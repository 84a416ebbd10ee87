"""Does the promise hold? Certification, again and again, in worlds whose truth is known; one may be yours."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trustescalate.analysis.recorded_votes import Recorded, must_be_one_promise, read_recorded
from trustescalate.project import Project
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.control import PROCEDURES
from trustescalate.stats.paths import PATHS
from trustescalate.stats.pooling import Rows
from trustescalate.stats.validity import (
    WORLDS,
    Replications,
    World,
    replicate,
    replicate_by_kind,
    violation_limit,
    world,
)

MOST_TIERS = 3
"""Standard worlds hold all combinations of 20 levels a tier."""
LEVELS = 10
PRIOR_ROWS = 2.0
"""Each level's error is drawn towards the tier's own by as many rows."""
OWN = "yours"
SHARP, SHARPER = "handover", 40
"""A world in which a wrong rule errs little more often than delta, so that it takes more trials to see."""


@dataclass(frozen=True, slots=True)
class WorldResult:
    """Wrong certificates of one procedure in one world, in so many trials, and how many chance explains."""

    world: str
    procedure: str
    certified: int
    violations: int
    limit: int
    mean_coverage: float
    trials: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """All worlds; `holds` unless a promise was broken more often than chance explains."""

    trials: int
    results: tuple[WorldResult, ...]
    alpha: float
    delta: float
    rows: int
    tiers: int

    @property
    def holds(self) -> bool:
        """Whether no world broke its limit."""
        return all(result.violations <= result.limit for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "holds": self.holds}

    def lines(self) -> list[str]:
        """For a terminal."""
        wide = max(len(row.procedure) for row in self.results)
        said = [
            f"{self.rows} rows, {self.tiers} judges, alpha {self.alpha:g}, delta {self.delta:g}",
            f"{'world':<12} {'procedure':<{wide}} {'trials':>7} {'certified':>9} {'wrong':>7} {'rate':>6} "
            f"{'limit':>6} {'coverage':>9}",
        ]
        for row in self.results:
            said.append(
                f"{row.world:<12} {row.procedure:<{wide}} {row.trials:>7,} {row.certified:>9,} "
                f"{row.violations:>7,} {row.violations / row.trials:>6.3f} {row.limit:>6,} "
                f"{row.mean_coverage:>9.3f}"
            )
        if any(row.world == OWN for row in self.results):
            said.append(
                f"{OWN}: {LEVELS} levels a judge from your recorded votes; two labels, judges that err"
            )
            said.append("independently given their scores. A rehearsal, not evidence about your judges")
        said.append(
            f"{self.trials} trials or more each: the promise {'holds' if self.holds else 'is BROKEN'}"
        )
        return said


def self_test(alpha: float, delta: float, rows: int, tiers: int, trials: int, seed: int) -> SelfTest:
    """Certify in every world of `stats.validity`; count broken promises against an exact binomial limit."""
    rng = np.random.default_rng(seed)
    results = []
    for name in WORLDS:
        place = world(name, alpha, tiers)
        for procedure in PROCEDURES:
            sharp = name == SHARP
            seen = (replicate_by_kind if sharp else replicate)(
                place,
                rows,
                alpha=alpha,
                delta=delta,
                path="common",
                procedure=procedure,
                trials=SHARPER * trials if sharp else trials,
                rng=rng,
            )
            results.append(_result(name, procedure, seen, delta))
    return SelfTest(trials, tuple(results), alpha, delta, rows, tiers)


def _result(name: str, procedure: str, seen: Replications, delta: float) -> WorldResult:
    limit = violation_limit(seen.trials, delta)
    return WorldResult(
        name, procedure, seen.certified, seen.violations, limit, seen.mean_coverage, seen.trials
    )


def self_test_of(project: Project, trials: int, seed: int) -> SelfTest:
    """The self-test with a project's own promise, path, judges, number of rows and shape of scores.

    The project's world comes first, then the standard ones at the same alpha, delta and number of rows, with
    three judges at most. The ledger notes that the recorded labels were read to choose by. Raises what
    `read_recorded` and `Project.read_to_choose` raise, and UsageError where each value has a promise of its
    own.
    """
    must_be_one_promise(project, "`selftest --config`")
    recorded = read_recorded(project)
    project.read_to_choose("selftest", recorded.certificate.roles["certify"])
    own = _in_own_world(project, recorded, trials, np.random.default_rng(seed))
    promise = project.config.guarantee
    rows, tiers = recorded.certify.scores.shape
    standard = self_test(promise.alpha, promise.delta, rows, min(tiers, MOST_TIERS), trials, seed)
    return replace(standard, results=(own, *standard.results), tiers=tiers)


def own_world(rows: Rows, levels: int = LEVELS) -> World:
    """A world in the shape of recorded rows: a cell a row, scores moved to `levels` quantile bins a tier.

    A bin's score is the mean of its rows, and its error (k + 2 r) / (n + 2), for k errors of n rows and the
    tier's overall error r: smoothed, so that ten rows without an error are not taken for perfection. A row
    without a verdict counts as an error. Raises ValueError without rows.

    >>> scores, truth = np.array([[0.9], [0.9], [0.6], [0.6]]), np.zeros(4, dtype=int)
    >>> rows = Rows(scores, np.array([[0], [0], [1], [0]]), truth, np.zeros((4, 1)))
    >>> own_world(rows, levels=2).error.ravel().tolist()
    [0.125, 0.125, 0.375, 0.375]
    """
    if len(rows.truth) == 0:
        raise ValueError("a world needs rows")
    scores, error = np.zeros(rows.scores.shape), np.zeros(rows.scores.shape)
    for tier in range(rows.scores.shape[1]):
        wrong = (rows.labels[:, tier] < 0) | (rows.labels[:, tier] != rows.truth)
        where = _bins(rows.scores[:, tier], levels)
        count = np.bincount(where)
        scores[:, tier] = (np.bincount(where, rows.scores[:, tier]) / np.maximum(count, 1))[where]
        error[:, tier] = ((np.bincount(where, wrong) + PRIOR_ROWS * wrong.mean()) / (count + PRIOR_ROWS))[
            where
        ]
    return World(scores, error)


def _bins(scores: FloatArray, levels: int) -> IntArray:
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, levels + 1)[1:-1], method="inverted_cdf"))
    return np.searchsorted(edges, scores, side="left").astype(np.int64)


def _in_own_world(project: Project, recorded: Recorded, trials: int, rng: np.random.Generator) -> WorldResult:
    promise = project.config.guarantee
    if promise.path != "tierwise" and PATHS[promise.path].needs_dev:
        recorded.plan(promise.path)  # says what is missing where there are no dev rows
    seen = replicate(
        own_world(recorded.certify),
        len(recorded.certify.truth),
        alpha=promise.alpha,
        delta=promise.delta,
        path=promise.path,
        procedure=promise.procedure,
        trials=trials,
        rng=rng,
        pilot=promise.pilot,
        dev=0 if recorded.dev is None else len(recorded.dev.truth),
    )
    how = promise.path if promise.path == "tierwise" else f"{promise.procedure}, {promise.path}"
    return _result(OWN, how, seen, promise.delta)
