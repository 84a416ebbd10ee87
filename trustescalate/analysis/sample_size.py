"""Plan the label budget from recorded votes, or from guesses without any.

Recorded certification rows stand for the population: rows are drawn from them with replacement and certified
under the configuration, many times. Guesses describe a single test. A plan guarantees nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trustescalate.analysis.recorded_votes import SPENT, Recorded, must_be_one_guarantee, read_recorded
from trustescalate.calibration.attempts import first_share
from trustescalate.calibration.files import CERTIFICATE_VOTES
from trustescalate.calibration.prepare import record_choice
from trustescalate.calibration.protocol import rule_of
from trustescalate.calibration.scoring import stack_of
from trustescalate.config import Config
from trustescalate.config.guarantee import GuaranteeTable
from trustescalate.errors import UsageError
from trustescalate.records.jsonl import write_atomically
from trustescalate.records.policies import policy_of
from trustescalate.report.terminal import table_lines
from trustescalate.stats.paths import Plan
from trustescalate.stats.pilot import PilotPower, expected_cost, pilot_ceiling, pilot_power, rows_needed
from trustescalate.stats.planning import coverage_ceiling, label_floor, labels_needed, max_errors, power
from trustescalate.stats.pooling import stacked_scores

ALPHA, DELTA, DISAGREEMENT = 0.15, 0.1, 0.08
"""Defaults without an option or a configuration."""
SIZES = (50, 100, 200, 300, 500, 1_000, 2_000)
GRID = (50, 100, 150, 200, 300, 500, 800, 1_200, 2_000)
TARGET = 0.8


@dataclass(frozen=True, slots=True)
class GuessedPlan:
    """Certification rows that a guarantee needs, from guesses; `needed` is None if no number suffices."""

    alpha: float
    delta: float
    disagreement: float
    coverage: float
    floor: int
    needed: int | None
    ceiling: float | None
    rows: tuple[int, ...]
    allowed: tuple[int, ...]
    power: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        needed = "no number of labels up to ten million suffices"
        if self.needed is not None:
            needed = f"label about {self.needed:,} rows (power 0.8)"
        text = [
            f"For a selective risk of at most {self.alpha:g} with probability {1 - self.delta:g}:",
            f"  fewer than {self.floor} released certification rows can never certify it",
            f"  with {self.disagreement:g} disagreement and {self.coverage:g} released: {needed}",
        ]
        if self.ceiling is not None:
            text.append(f"  no method can release more than {self.ceiling:.1%} of the items")
        rows = (
            (f"{rows:,}", f"{allowed}" if allowed >= 0 else "—", f"{chance:.2f}")
            for rows, allowed, chance in zip(self.rows, self.allowed, self.power, strict=True)
        )
        return [*text, *table_lines(("rows", "errors allowed", "power"), rows, ">>>")]


def plan_from_guesses(
    alpha: float, delta: float, disagreement: float, coverage: float, overall: float | None
) -> GuessedPlan:
    """Plan certification rows from guesses of selective risk (`disagreement`) and coverage, for one test.

    A path of tests needs slightly more. Raises ValueError if a guess is not a share or coverage is 0.

    >>> plan_from_guesses(0.15, 0.1, 0.08, 0.7, None).needed
    166
    """
    if not (0 <= disagreement <= 1 and 0 < coverage <= 1):
        raise ValueError(f"disagreement and coverage must be shares, not {disagreement} and {coverage}")
    accepted = labels_needed(disagreement, alpha, delta)
    rows = np.array(SIZES)
    released = (rows * coverage).astype(np.int64)
    return GuessedPlan(
        alpha,
        delta,
        disagreement,
        coverage,
        label_floor(alpha, delta),
        None if accepted is None else int(np.ceil(accepted / coverage)),
        None if overall is None else coverage_ceiling(overall, alpha),
        tuple(map(int, rows)),
        tuple(map(int, max_errors(released, alpha, delta))),
        tuple(map(float, power(released, disagreement, alpha, delta))),
    )


@dataclass(frozen=True, slots=True)
class PilotPlan:
    """Results of calibrations on `rows` rows, resampled from `pilot` labelled rows.

    `power` is the probability of a certificate with a coverage of at least `wanted`, `limits` its 95 % limits
    for the number of trials. `coverage` and `cost` (USD per item) are means; a trial without a certificate
    releases nothing and pays every judge. `needed` is None if no number of rows suffices. `every_judge` is
    the cost of an item that all judges judge; `certified` is the cost per item under the certificate in
    place, with `human_usd` per abstention, None without one on the planned path.
    """

    alpha: float
    delta: float
    wanted: float
    path: str
    pilot: int
    trials: int
    seed: int
    floor: int
    ceiling: float
    needed: int | None
    rows: tuple[int, ...]
    power: tuple[float, ...]
    limits: tuple[tuple[float, float], ...]
    coverage: tuple[float, ...]
    cost: tuple[float, ...]
    every_judge: float
    human_usd: float
    certified: float | None

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "warning": SPENT}

    def lines(self) -> list[str]:
        """For a terminal."""
        needed = f"no number of labels up to {self.rows[-1]:,} suffices"
        if self.needed is not None:
            needed = f"label about {self.needed:,} rows (power {TARGET:g})"
        text = [
            f"From {self.pilot:,} recorded rows as the population (path {self.path}, seed {self.seed}):",
            f"  for a selective risk of at most {self.alpha:g} with probability {1 - self.delta:g} "
            f"and a coverage of {self.wanted:g}: {needed}",
            f"  fewer than {self.floor} released rows can never certify it",
            f"  no method can release more than about {self.ceiling:.1%} with these judges",
            f"  an item that every judge judges, such as an abstention, costs {self.every_judge:.6f} USD",
        ]
        if self.certified is not None:
            human = f", with {self.human_usd:g} USD for each abstention" if self.human_usd else ""
            text.append(f"  with the certificate in place an item costs {self.certified:.6f} USD{human}")
        columns = zip(self.rows, self.power, self.limits, self.coverage, self.cost, strict=True)
        rows = (
            (f"{n:,}", f"{power:.2f}", f"{low:.2f} to {high:.2f}", f"{coverage:.1%}", f"{cost:.6f}")
            for n, power, (low, high), coverage, cost in columns
        )
        titles = ("rows", "power", "95 % limits", "coverage", "USD per item")
        return [*text, *table_lines(titles, rows, ">>>>>"), f"A plan guarantees nothing, and {SPENT}."]


def plan_labels(
    config: Config | None,
    *,
    alpha: float | None = None,
    delta: float | None = None,
    disagreement: float | None = None,
    coverage: float = 0.7,
    overall: float | None = None,
    trials: int = 200,
    seed: int = 0,
) -> GuessedPlan | PilotPlan:
    """Plan from the recorded votes of a project; without any, or with a guess given, from guesses.

    alpha and delta default to the project's. If each value of [groups] by has its own guarantee, both are
    required, are those of one value, and guesses are used. Raises UsageError if they are missing, and the
    errors of `plan_from_pilot`.
    """
    if config is not None:
        grouped = config.groups.by is not None
        if None in (alpha, delta):
            must_be_one_guarantee(config, "`plan`")
        recorded = (config.folder / CERTIFICATE_VOTES).exists() and not grouped
        if recorded and disagreement is None and overall is None:
            return plan_from_pilot(
                config, wanted=coverage, alpha=alpha, delta=delta, trials=trials, seed=seed
            )
    guarantee = None if config is None else config.guarantee
    return plan_from_guesses(
        alpha or (ALPHA if guarantee is None else guarantee.alpha),
        delta or (DELTA if guarantee is None else guarantee.delta),
        DISAGREEMENT if disagreement is None else disagreement,
        coverage,
        overall,
    )


def plan_from_pilot(
    config: Config,
    *,
    wanted: float,
    alpha: float | None = None,
    delta: float | None = None,
    rows: tuple[int, ...] = GRID,
    trials: int = 200,
    seed: int = 0,
) -> PilotPlan:
    """Resample the power curve of a project's path, procedure and preference; alpha and delta are its own.

    Each calibration spends the delta of a first test of fresh labels. The ledger records that the labels
    informed a choice. Raises the errors of `read_recorded`, `record_choice` and `stats.pilot.pilot_power`,
    UsageError if each group has its own guarantee, NotMeasurable for a fitted path without recorded dev rows.
    """
    must_be_one_guarantee(config, "`plan`")
    recorded, guarantee = read_recorded(config), config.guarantee
    alpha = guarantee.alpha if alpha is None else alpha
    delta = guarantee.delta if delta is None else delta
    record_choice(config, "plan", recorded.certificate.roles["certify"])
    level = delta * first_share(guarantee.attempts)
    resampled = resample(recorded, guarantee, (alpha, level), rows, wanted=wanted, trials=trials, seed=seed)
    pilot, human = recorded.certify, guarantee.abstention_price or 0.0
    certified, stack = policy_of(recorded.certificate), stack_of(recorded.certificate)
    paid = None
    if certified is not None and recorded.certificate.path == guarantee.path:
        thresholds = np.array([np.inf if tau is None else tau for tau in certified.thresholds])
        pooled = stack is not None and certified.pooled
        read = stacked_scores(stack, pilot.votes) if stack is not None and pooled else pilot.votes
        paid = expected_cost(thresholds, *read, pilot.costs, human)
    return PilotPlan(
        alpha,
        delta,
        wanted,
        guarantee.path,
        len(pilot.truth),
        trials,
        seed,
        label_floor(alpha, level),
        pilot_ceiling(pilot.labels, pilot.truth, alpha),
        rows_needed(resampled, TARGET),
        rows,
        tuple(map(float, resampled.power)),
        tuple((float(low), float(high)) for low, high in resampled.limits),
        tuple(map(float, resampled.coverage)),
        tuple(map(float, resampled.cost)),
        float(pilot.costs.sum(axis=1).mean()),
        human,
        paid,
    )


def resample(
    recorded: Recorded,
    guarantee: GuaranteeTable,
    levels: tuple[float, float],
    rows: Sequence[int],
    *,
    wanted: float,
    trials: int,
    seed: int,
) -> PilotPower:
    """Certify resamples of recorded rows under a guarantee, at `levels`: alpha, and the delta of one test.

    Raises the errors of `Recorded.plan` and `stats.pilot.pilot_power`.
    """
    path: Plan | Literal["tierwise"] = "tierwise"
    if guarantee.path != "tierwise":
        path = recorded.plan(guarantee.path)
    return pilot_power(
        *recorded.certify,
        np.array(rows),
        replace(rule_of(guarantee).along(path), alpha=levels[0], delta=levels[1]),
        wanted=wanted,
        rng=np.random.default_rng(seed),
        trials=trials,
    )


def write_plot(plan: GuessedPlan | PilotPlan, path: Path) -> None:
    """Draw the power curve of recorded votes as SVG; equal plans give equal bytes.

    Raises UsageError for a plan from guesses.
    """
    from trustescalate.report.charts import draw_file
    from trustescalate.report.pictures import Power

    if isinstance(plan, GuessedPlan):
        raise UsageError(
            "--plot needs recorded votes", "calibrate first, and leave out --disagreement and --overall"
        )
    reached = ", ".join(f"{chance:.0%} with {n:,}" for n, chance in zip(plan.rows, plan.power, strict=True))
    alt = f"Probability of the certificate: {reached} rows."
    chart = Power("Power of the calibration", plan.rows, plan.power, plan.limits, alt, TARGET)
    write_atomically(path, draw_file(chart).encode())
