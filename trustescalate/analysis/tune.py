"""Compare paths and estimators on recorded votes, to choose both before fresh labels are certified.

Dev rows, split from the recorded certification rows, lay out the paths and choose one policy; the other rows
certify each policy. No certificate is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from trustescalate.analysis.recorded_votes import SPENT, labelled_rows, must_be_one_guarantee, read_votes
from trustescalate.calibration.attempts import first_share
from trustescalate.calibration.policy_tests import policy_tests
from trustescalate.calibration.prepare import record_choice
from trustescalate.calibration.protocol import Judged, rule_of
from trustescalate.calibration.scoring import Scorer
from trustescalate.config import Config, GuaranteeTable
from trustescalate.errors import NotMeasurable
from trustescalate.records import Annotation, Certificate
from trustescalate.report.terminal import table_lines
from trustescalate.stats.bounds import BoolArray
from trustescalate.stats.certify import Certified, certify_rows
from trustescalate.stats.compare import certify_paths, wish
from trustescalate.stats.confidence import ESTIMATORS
from trustescalate.stats.paths import PATHS, PathName, Plan
from trustescalate.stats.pooling import Rows, Votes

DEV_SHARE = 0.3
POOLING: tuple[PathName, ...] = ("pooled", "stacked")
"""Paths that only pool the tiers' scores for each label."""


@dataclass(frozen=True, slots=True)
class TunedPolicy:
    """One path with one estimator on the certification rows of the split.

    If `certified`, it has `errors` in `accepted` rows, a lower limit on coverage, the mean USD per item and a
    threshold per judge (None: never accepts). `coverage` is the released share of the certification rows, 0
    without a certificate. `dev_coverage` and `dev_cost` are measured on dev rows, None for `tierwise`.
    """

    estimator: str
    path: str
    chosen: bool
    certified: bool
    coverage: float
    coverage_lower: float | None
    accepted: int
    errors: int
    cost: float | None
    thresholds: tuple[float | None, ...] | None
    dev_coverage: float | None
    dev_cost: float | None


@dataclass(frozen=True, slots=True)
class TuningTable:
    """Every path with every estimator on one split: `dev` rows choose, `rows` others certify.

    `same` maps an estimator that is left out to the one with the same scores.
    """

    alpha: float
    delta: float
    dev: int
    rows: int
    seed: int
    judges: tuple[str, ...]
    policies: tuple[TunedPolicy, ...]
    same: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "warning": SPENT}

    def lines(self) -> list[str]:
        """For a terminal."""
        names = (
            "estimator",
            "path",
            "coverage",
            "at least",
            "errors",
            "USD per item",
            "on dev",
            "thresholds",
        )
        (chosen,) = [row for row in self.policies if row.chosen]
        text = [
            f"{self.dev:,} recorded rows lay out paths and choose, {self.rows:,} others certify "
            f"(alpha {self.alpha:g}, delta {self.delta:g}, seed {self.seed}):",
            *table_lines(("", *names), map(_cells, self.policies), "<<<>>>>><"),
            *(f"{name}: the same scores as {other}" for name, other in self.same.items()),
            f'> chosen by dev rows: set [guarantee] path = "{chosen.path}" '
            f'and [ensemble] estimator = "{chosen.estimator}"',
        ]
        if all(row.path not in POOLING for row in self.policies):
            text.append(
                f"{' and '.join(POOLING)} are left out: with [task] tolerance, rows state only right or wrong"
            )
        return [*text, f"Nothing was certified, and {SPENT}."]


def _cells(row: TunedPolicy) -> tuple[str, ...]:
    dev = "—" if row.dev_coverage is None else f"{row.dev_coverage:.1%}"
    head = (">" if row.chosen else "", row.estimator, row.path)
    if row.thresholds is None:
        return (*head, "none", "—", "—", "—", dev, "—")
    return (
        *head,
        f"{row.coverage:.1%}",
        f"{row.coverage_lower or 0:.1%}",
        f"{row.errors:,} of {row.accepted:,}",
        f"{row.cost or 0:.6f}",
        dev,
        ", ".join("never" if tau is None else f"{tau:.4g}" for tau in row.thresholds),
    )


def tune(config: Config, *, dev_share: float = DEV_SHARE, seed: int = 0) -> TuningTable:
    """Compare all paths and estimators on the recorded votes of a project, under its own guarantee.

    The ledger records that these labels informed a choice. Raises the errors of `read_votes`,
    `compare_policies` and `record_choice`, and UsageError if each group has its own guarantee.
    """
    must_be_one_guarantee(config, "`tune`")
    if not 0 < dev_share < 1:
        raise ValueError(f"dev_share must lie strictly between 0 and 1, not {dev_share}")
    certificate, data, judged = read_votes(config)
    populations, same = read_populations(certificate, data.annotations, judged)
    dev = split_rows(len(next(iter(populations.values())).rows.truth), dev_share, seed)
    record_choice(config, "tune", certificate.roles["certify"])
    policies = compare_policies(
        populations,
        dev,
        config.guarantee,
        classes=len(certificate.task.labels),
        pools=not certificate.task.tolerance,
    )
    guarantee = config.guarantee
    return TuningTable(
        guarantee.alpha,
        guarantee.delta * first_share(guarantee.attempts),
        int(dev.sum()),
        int((~dev).sum()),
        seed,
        tuple(judged),
        policies,
        same,
    )


class Population(NamedTuple):
    """Labelled certification rows and unlabelled pilot votes, scored by one estimator."""

    rows: Rows
    pilot: Votes | None


def read_populations(
    certificate: Certificate, annotations: Sequence[Annotation], judged: Judged
) -> tuple[dict[str, Population], dict[str, str]]:
    """Score the recorded rows with every applicable estimator, by name.

    An estimator whose scores and labels equal those of an earlier one is left out; the second mapping names
    both. Raises NotMeasurable if no certification row has both votes and a label.
    """
    votes = [vote for own in judged.values() for row in own.values() for vote in row.votes]
    stated = all(vote.channel == "stated" for vote in votes if vote.failure is None)
    pilot = [row for row in certificate.roles["pilot"] if all(row in own for own in judged.values())]
    populations: dict[str, Population] = {}
    same: dict[str, str] = {}
    for name in ESTIMATORS:
        if (name == "verbalized") != stated:
            continue
        scorer = Scorer(certificate.task, name, certificate.seed)
        rows = labelled_rows(certificate.task, certificate.roles["certify"], annotations, judged, scorer)
        if rows is None:
            raise NotMeasurable(
                "no certification row has both votes and a label", "calibrate with labelled rows first"
            )
        twin = next((known for known, other in populations.items() if _equal(other.rows, rows)), None)
        if twin is not None:
            same[name] = twin
            continue
        populations[name] = Population(rows, scorer.read(list(judged), pilot, judged) if pilot else None)
    return populations, same


def split_rows(n: int, dev_share: float, seed: int) -> BoolArray:
    """Draw the dev rows among n rows. Raises NotMeasurable if one side is too small."""
    size = round(dev_share * n)
    if not 2 <= size < n:
        raise NotMeasurable(
            f"{n} recorded rows cannot be split into dev and certification rows", "label more"
        )
    dev = np.zeros(n, dtype=np.bool_)
    dev[np.random.default_rng(seed).permutation(n)[:size]] = True
    return dev


def compare_policies(
    populations: Mapping[str, Population],
    dev: BoolArray,
    guarantee: GuaranteeTable,
    *,
    classes: int,
    pools: bool,
) -> tuple[TunedPolicy, ...]:
    """Certify every path, and `tierwise`, on the rows that are not `dev`, estimator by estimator.

    alpha, procedure and preference are those of `guarantee`; delta is its share for the first test of fresh
    labels. Dev rows alone choose one policy. Without `pools`, labels state only right or wrong, and paths
    that pool scores are left out. Raises ValueError as `certify_paths` does.
    """
    rule = replace(rule_of(guarantee), delta=guarantee.delta * first_share(guarantee.attempts))
    price = guarantee.abstention_price
    policies: list[TunedPolicy] = []
    for estimator, (rows, pilot) in populations.items():
        compared = certify_paths(
            rows,
            dev,
            rule,
            classes=classes,
            pilot=pilot,
            paths=tuple(name for name in PATHS if pools or name not in POOLING),
            pools=pools,
        )
        policies += [
            replace(
                _policy(estimator, result.name, result.certified, result.plan, int((~dev).sum())),
                dev_coverage=result.coverage,
                dev_cost=result.cost,
            )
            for result in compared.results
        ]
        paper = certify_rows(rows.take(~dev), rule.along("tierwise"))
        policies.append(_policy(estimator, "tierwise", paper, None, int((~dev).sum())))
    wishes = [
        (wish(row.dev_coverage, row.dev_cost, guarantee.prefer, price or 0.0), place)
        for place, row in enumerate(policies)
        if row.dev_coverage is not None and row.dev_cost is not None
    ]
    _, best = min(wishes)
    policies[best] = replace(policies[best], chosen=True)
    return tuple(policies)


def _policy(estimator: str, path: str, result: Certified, plan: Plan | None, n: int) -> TunedPolicy:
    policy = TunedPolicy(estimator, path, False, False, 0.0, None, 0, 0, None, None, None, None)
    if result.chosen is None or result.thresholds is None:
        return policy
    table, at = result.table, result.chosen
    # Tier by tier, each row of the table counts what that tier added.
    counted = slice(None) if path == "tierwise" else slice(at, at + 1)
    accepted, errors = int(table.accepted[counted].sum()), int(table.errors[counted].sum())
    return replace(
        policy,
        certified=True,
        coverage=accepted / n,
        coverage_lower=result.coverage_lower,
        accepted=accepted,
        errors=errors,
        cost=float(table.cost[at]),
        thresholds=policy_tests(table, plan)[at].thresholds,
    )


def _equal(one: Rows, other: Rows) -> bool:
    return np.array_equal(one.scores, other.scores) and np.array_equal(one.labels, other.labels)
