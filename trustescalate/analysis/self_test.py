"""Certify many times in simulated worlds with known truth, and count violations of the guarantee.

`python -m trustescalate.analysis.self_test --help` lists the options.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trustescalate.analysis.recorded_votes import Recorded, must_be_one_guarantee, read_recorded
from trustescalate.calibration.prepare import record_choice
from trustescalate.calibration.protocol import rule_of
from trustescalate.config import Config, load_config
from trustescalate.errors import EXIT_BREACH, EXIT_PASSED, TrustEscalateError
from trustescalate.report.terminal import table_lines
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.control import PROCEDURES
from trustescalate.stats.paths import PATHS
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule
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
"""Weight, in rows, that shrinks each level's error towards the tier's own."""
OWN = "yours"
SHARP, SHARPER = "handover", 40
"""A world in which an invalid rule exceeds delta only slightly, so more trials are needed."""


@dataclass(frozen=True, slots=True)
class WorldResult:
    """Violations of one procedure in one world, and the limit that chance explains."""

    world: str
    procedure: str
    certified: int
    violations: int
    limit: int
    mean_coverage: float
    trials: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The results in all worlds; `holds` unless a world has more violations than chance explains."""

    trials: int
    results: tuple[WorldResult, ...]
    alpha: float
    delta: float
    rows: int
    tiers: int

    @property
    def holds(self) -> bool:
        """Whether no world exceeds its limit."""
        return all(result.violations <= result.limit for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "holds": self.holds}

    def lines(self) -> list[str]:
        """For a terminal."""
        rows = (
            (
                row.world,
                row.procedure,
                f"{row.trials:,}",
                f"{row.certified:,}",
                f"{row.violations:,}",
                f"{row.violations / row.trials:.3f}",
                f"{row.limit:,}",
                f"{row.mean_coverage:.3f}",
            )
            for row in self.results
        )
        titles = ("world", "procedure", "trials", "certified", "violations", "rate", "limit", "coverage")
        text = [
            f"{self.rows} rows, {self.tiers} judges, alpha {self.alpha:g}, delta {self.delta:g}",
            *table_lines(titles, rows, "<<>>>>>>"),
        ]
        if any(row.world == OWN for row in self.results):
            text.append(f"{OWN}: {LEVELS} levels per judge from your recorded votes, two labels, errors")
            text.append("independent given the scores. A simulation is no evidence about your judges")
        outcome = "holds" if self.holds else "is VIOLATED too often"
        return [*text, f"{self.trials} trials or more each: the guarantee {outcome}"]


def self_test(alpha: float, delta: float, rows: int, tiers: int, trials: int, seed: int) -> SelfTest:
    """Certify in every world of `stats.validity`; count violations against an exact binomial limit."""
    rng = np.random.default_rng(seed)
    results = []
    for name in WORLDS:
        place = world(name, alpha, tiers)
        for procedure in PROCEDURES:
            sharp = name == SHARP
            seen = (replicate_by_kind if sharp else replicate)(
                place,
                rows,
                TestRule(alpha, delta, "common", procedure),
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


def self_test_of(config: Config, trials: int, seed: int) -> SelfTest:
    """Run the self-test with a project's guarantee, path, judges, number of rows and distribution of scores.

    The project's world precedes the standard ones at the same alpha, delta and number of rows, with at most
    three judges. The ledger records that the labels informed a choice. Raises the errors of `read_recorded`
    and `record_choice`, and UsageError if each group has its own guarantee.
    """
    must_be_one_guarantee(config, "the self-test")
    recorded = read_recorded(config)
    record_choice(config, "self-test", recorded.certificate.roles["certify"])
    own = _in_own_world(config, recorded, trials, np.random.default_rng(seed))
    guarantee = config.guarantee
    rows, tiers = recorded.certify.scores.shape
    standard = self_test(guarantee.alpha, guarantee.delta, rows, min(tiers, MOST_TIERS), trials, seed)
    return replace(standard, results=(own, *standard.results), tiers=tiers)


def own_world(rows: Rows, levels: int = LEVELS) -> World:
    """Build a world from recorded rows: one cell per row, scores in `levels` quantile bins per tier.

    A bin's score is the mean of its rows; its error is smoothed to (k + 2 r) / (n + 2), for k errors in n
    rows and the tier's overall error r. A row without a verdict counts as an error. Raises ValueError without
    rows.

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


def _in_own_world(config: Config, recorded: Recorded, trials: int, rng: np.random.Generator) -> WorldResult:
    guarantee = config.guarantee
    if guarantee.path != "tierwise" and PATHS[guarantee.path].needs_dev:
        recorded.plan(guarantee.path)  # raises without dev rows
    seen = replicate(
        own_world(recorded.certify),
        len(recorded.certify.truth),
        rule_of(guarantee),
        trials=trials,
        rng=rng,
        pilot=guarantee.pilot,
        dev=0 if recorded.dev is None else len(recorded.dev.truth),
    )
    how = guarantee.path if guarantee.path == "tierwise" else f"{guarantee.procedure}, {guarantee.path}"
    return _result(OWN, how, seen, guarantee.delta)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the self-test from a command line: 0 the guarantee holds, 1 too many violations, 2 usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    setting = (given.alpha, given.delta, given.rows, given.tiers)
    if given.config is not None and setting != (None,) * 4:
        parser.error("--config sets --alpha, --delta, --rows and --tiers; leave them out")
    try:
        tested = _tested(given)
    except ValueError as error:
        parser.error(str(error))
    except TrustEscalateError as error:
        sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        return error.exit_code
    text = json.dumps(tested.as_dict(), indent=2) if given.json else "\n".join(tested.lines())
    sys.stdout.write(f"{text}\n")
    return EXIT_PASSED if tested.holds else EXIT_BREACH


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m trustescalate.analysis.self_test",
        description="Certify many times in simulated worlds with known truth, and count violations.",
        epilog="Example: python -m trustescalate.analysis.self_test --config trustescalate.toml --trials 300",
    )
    parser.add_argument(
        "--config", type=Path, help="read guarantee and recorded votes from this configuration"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", help="override a key of the configuration"
    )
    parser.add_argument("--alpha", type=float, help="risk level; 0.15 if not given")
    parser.add_argument("--delta", type=float, help="failure probability; 0.1 if not given")
    parser.add_argument("--rows", type=int, help="certification rows in each trial; 300 if not given")
    parser.add_argument("--tiers", type=int, choices=range(1, MOST_TIERS + 1), help="judges; 3 if not given")
    parser.add_argument("--trials", type=int, default=300, help="certifications in each world; 300")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random generator; 0")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _tested(given: Namespace) -> SelfTest:
    if min(given.trials, 1 if given.rows is None else given.rows) < 1 or given.seed < 0:
        raise ValueError("--trials and --rows must be at least 1, and --seed at least 0")
    if not all(0 < level < 1 for level in (given.alpha, given.delta) if level is not None):
        raise ValueError("--alpha and --delta must lie strictly between 0 and 1")
    if given.config is not None:
        return self_test_of(load_config(given.config, given.set or ()), given.trials, given.seed)
    alpha, delta = given.alpha or 0.15, given.delta or 0.1
    return self_test(alpha, delta, given.rows or 300, given.tiers or MOST_TIERS, given.trials, given.seed)


if __name__ == "__main__":
    sys.exit(main())
