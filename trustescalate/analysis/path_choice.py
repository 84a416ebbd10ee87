"""Which path would have certified most? All of them side by side on recorded votes, before fresh labels.

Recorded certification rows are split: dev rows lay paths out and choose one, the others certify, and no row
does both. It is for choosing `[guarantee] path`; no certificate is written.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trustescalate.analysis.recorded_votes import SPENT, must_be_one_promise, read_recorded
from trustescalate.calibration.attempts import first_share
from trustescalate.calibration.policy_tests import policy_tests
from trustescalate.errors import NotMeasurable
from trustescalate.project import Project
from trustescalate.stats.certify import Certified, certify
from trustescalate.stats.compare import certify_paths
from trustescalate.stats.paths import PATHS, Plan

DEV_SHARE = 0.3
POOLED = ("pooled", "stacked")
"""Paths that pool tiers, and nothing else."""


@dataclass(frozen=True, slots=True)
class PathRow:
    """One path on the certification rows of the split; `dev_` is what dev rows said, None for `tierwise`.

    `certified` tells whether it got a certificate; then `errors` of `accepted` rows, a lower limit on
    coverage, mean USD per item and a threshold a judge (None: never accepts) belong to it. `coverage` is the
    share of the certification rows that it releases, 0 without a certificate.
    """

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
class PathTable:
    """All paths on one split: `dev` rows laid them out and chose, `rows` rows certified."""

    alpha: float
    delta: float
    dev: int
    rows: int
    seed: int
    judges: tuple[str, ...]
    paths: tuple[PathRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "warning": SPENT}

    def lines(self) -> list[str]:
        """For a terminal."""
        said = [
            f"{self.dev:,} recorded rows lay paths out and choose, {self.rows:,} others certify "
            f"(alpha {self.alpha:g}, delta {self.delta:g}, seed {self.seed}):",
            f"  {'path':<12} {'released':>9} {'at least':>9} {'wrong':>12} {'USD an item':>12} "
            f"{'on dev':>8}  thresholds",
        ]
        said += [_line(row) for row in self.paths]
        (chosen,) = [row.path for row in self.paths if row.chosen]
        said.append(f'  > chosen by dev rows: set [guarantee] path = "{chosen}"')
        if all(row.path != "stacked" for row in self.paths):
            why = "with [task] tolerance, recorded rows know right from wrong only"
            said.append(f"  stacked is left out: {why}")
        if chosen == "stacked":
            said.append("  thresholds of stacked are held against the judges' scores combined")
        return [*said, f"For choosing before you calibrate: nothing was certified, and {SPENT}."]


def _line(row: PathRow) -> str:
    dev = "—" if row.dev_coverage is None else f"{row.dev_coverage:.1%}"
    mark = ">" if row.chosen else " "
    if row.thresholds is None:
        return f"{mark} {row.path:<12} {'none':>9} {'—':>9} {'—':>12} {'—':>12} {dev:>8}  —"
    thresholds = ", ".join("never" if tau is None else f"{tau:.4g}" for tau in row.thresholds)
    return (
        f"{mark} {row.path:<12} {row.coverage:>9.1%} {row.coverage_lower or 0:>9.1%} "
        f"{f'{row.errors:,} of {row.accepted:,}':>12} {row.cost or 0:>12.6f} {dev:>8}  {thresholds}"
    )


def compare_paths(project: Project, *, dev_share: float = DEV_SHARE, seed: int = 0) -> PathTable:
    """Certify every path, and the paper's `tierwise`, on a seeded split of the recorded rows.

    alpha, procedure and wish are the configuration's, delta what it leaves to a first test of fresh labels.
    Only the path that dev rows chose could keep the promise, and only for these rows, which were tested
    before. The ledger notes that their labels were read to choose by. Raises what `read_recorded` and
    `Project.read_to_choose` raise, UsageError where each value has a promise of its own, NotMeasurable where
    the split leaves no row on a side, ValueError unless 0 < dev_share < 1.
    """
    must_be_one_promise(project, "`paths`")
    if not 0 < dev_share < 1:
        raise ValueError(f"dev_share must lie strictly between 0 and 1, not {dev_share}")
    recorded, promise = read_recorded(project), project.config.guarantee
    delta = promise.delta * first_share(promise.attempts)
    n = len(recorded.certify.truth)
    size = round(dev_share * n)
    if not 2 <= size < n:
        raise NotMeasurable(
            f"{n} recorded rows cannot be split into dev and certification rows", "label more"
        )
    dev = np.zeros(n, dtype=bool)
    dev[np.random.default_rng(seed).permutation(n)[:size]] = True
    project.read_to_choose("paths", recorded.certificate.roles["certify"])
    found = certify_paths(
        recorded.certify,
        dev,
        alpha=promise.alpha,
        delta=delta,
        classes=recorded.classes,
        pilot=recorded.pilot,
        # With a tolerance, recorded rows know right from wrong only, which cannot be pooled.
        paths=tuple(p for p in PATHS if p not in POOLED or not recorded.certificate.task.tolerance),
        pools=not recorded.certificate.task.tolerance,
        procedure=promise.procedure,
        prefer=promise.prefer,
        abstention_price=promise.abstention_price,
    )
    testing = recorded.certify.take(~dev)
    paper = certify(*testing, alpha=promise.alpha, delta=delta, path="tierwise")
    rows = [
        _row(
            result.name,
            result.certified,
            n - size,
            result.plan,
            place == found.chosen,
            result.coverage,
            result.cost,
        )
        for place, result in enumerate(found.results)
    ]
    judges = tuple(seal.judge for seal in recorded.certificate.judges)
    return PathTable(
        promise.alpha,
        delta,
        size,
        n - size,
        seed,
        judges,
        (*rows, _row("tierwise", paper, n - size, None, False, None, None)),
    )


def _row(
    path: str,
    result: Certified,
    n: int,
    plan: Plan | None,
    chosen: bool,
    coverage: float | None,
    cost: float | None,
) -> PathRow:
    if result.chosen is None or result.thresholds is None:
        return PathRow(path, chosen, False, 0.0, None, 0, 0, None, None, coverage, cost)
    table, at = result.table, result.chosen
    # Tier by tier, each row of the table counts what that tier added.
    whole = slice(None) if path == "tierwise" else slice(at, at + 1)
    accepted, errors = int(table.accepted[whole].sum()), int(table.errors[whole].sum())
    return PathRow(
        path,
        chosen,
        True,
        accepted / n,
        result.coverage_lower,
        accepted,
        errors,
        float(table.cost[at]),
        policy_tests(table, table.errors, plan)[at].thresholds,
        coverage,
        cost,
    )
