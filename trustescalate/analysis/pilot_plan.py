"""How many labels, from votes and labels that exist: the plan of a project that was calibrated once.

The recorded certification rows stand for the population: rows are drawn from them with replacement and
certified as the configuration says, again and again. A plan is no promise. What a single test can do before
anything was recorded is `inspection.plan_labels`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trustescalate.analysis.recorded_votes import SPENT, must_be_one_promise, read_recorded
from trustescalate.calibration.attempts import first_share
from trustescalate.calibration.scoring import stack_of
from trustescalate.project import Project
from trustescalate.records.jsonl import write_atomically
from trustescalate.records.policies import policy_of
from trustescalate.stats.paths import Plan
from trustescalate.stats.pilot import expected_cost, pilot_ceiling, pilot_power, rows_needed
from trustescalate.stats.planning import label_floor
from trustescalate.stats.pooling import stacked_scores

GRID = (50, 100, 150, 200, 300, 500, 800, 1_200, 2_000)
TARGET = 0.8


@dataclass(frozen=True, slots=True)
class PilotPlan:
    """What calibrations on `rows` rows would give, by resampling `pilot` labelled rows.

    `power` is the chance of a certificate that releases at least `wanted`, `limits` its limits for the number
    of trials; `coverage` and `cost` (USD per item) are means, where a trial without a certificate releases
    nothing and has paid every judge. `needed` is None where no number of rows up to the last would do.
    `every_judge` is the USD that an item costs that all judges see, an abstained one among them; `certified`
    what an item costs now, with the certificate in place, and with `human_usd` for each that it passes on.
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
        needed = f"no number of labels up to {self.rows[-1]:,} would do"
        if self.needed is not None:
            needed = f"label about {self.needed:,} rows (power {TARGET:g})"
        said = [
            f"From {self.pilot:,} recorded rows, as the population (path {self.path}, seed {self.seed}):",
            f"  to promise at most {self.alpha:g} disagreement with probability {1 - self.delta:g} "
            f"and release {self.wanted:g}: {needed}",
            f"  fewer than {self.floor} released rows can never do it",
            f"  no method of any kind can release more than about {self.ceiling:.1%} with these judges",
            f"  an item that every judge sees, an abstained one too, costs {self.every_judge:.6f} USD",
        ]
        if self.certified is not None:
            people = f", with {self.human_usd:g} USD for each that people get" if self.human_usd else ""
            said.append(f"  with the certificate in place an item costs {self.certified:.6f} USD{people}")
        said.append(f"  {'rows':>8} {'power':>7} {'95 % limits':>14} {'released':>9} {'USD an item':>12}")
        for n, power, (low, high), coverage, cost in zip(
            self.rows, self.power, self.limits, self.coverage, self.cost, strict=True
        ):
            said.append(
                f"  {n:>8,} {power:>7.2f} {f'{low:.2f} to {high:.2f}':>14} {coverage:>9.1%} {cost:>12.6f}"
            )
        return [*said, f"A plan, not a promise: {SPENT}."]


def plan_from_pilot(
    project: Project,
    *,
    wanted: float,
    alpha: float | None = None,
    delta: float | None = None,
    rows: tuple[int, ...] = GRID,
    trials: int = 200,
    seed: int = 0,
) -> PilotPlan:
    """The power curve of a project's own path, procedure and wish; alpha and delta are the configuration's.

    Each calibration spends what a first test of fresh labels may. The ledger notes that the recorded labels
    were read to choose by. Raises what `read_recorded` and `Project.read_to_choose` raise, UsageError where
    each value has a promise of its own, NotMeasurable for a fitted path without recorded dev rows, and
    ValueError as `stats.pilot.pilot_power` does.
    """
    must_be_one_promise(project, "`plan --pilot`")
    recorded, promise = read_recorded(project), project.config.guarantee
    alpha = promise.alpha if alpha is None else alpha
    delta = promise.delta if delta is None else delta
    path: Plan | Literal["tierwise"] = "tierwise"
    if promise.path != "tierwise":
        path = recorded.plan(promise.path)
    project.read_to_choose("plan --pilot", recorded.certificate.roles["certify"])
    level = delta * first_share(promise.attempts)
    found = pilot_power(
        *recorded.certify,
        np.array(rows),
        alpha=alpha,
        delta=level,
        wanted=wanted,
        rng=np.random.default_rng(seed),
        path=path,
        procedure=promise.procedure,
        prefer=promise.prefer,
        abstention_price=promise.abstention_price,
        trials=trials,
    )
    pilot, human = recorded.certify, promise.abstention_price or 0.0
    certified, stack = policy_of(recorded.certificate), stack_of(recorded.certificate)
    paid = None
    if certified is not None and recorded.certificate.path == promise.path:
        thresholds = np.array([np.inf if tau is None else tau for tau in certified.thresholds])
        pooled = stack is not None and certified.pooled
        read = stacked_scores(stack, pilot.votes) if stack is not None and pooled else pilot.votes
        paid = expected_cost(thresholds, *read, pilot.costs, human)
    return PilotPlan(
        alpha,
        delta,
        wanted,
        promise.path,
        len(pilot.truth),
        trials,
        seed,
        label_floor(alpha, level),
        pilot_ceiling(pilot.labels, pilot.truth, alpha),
        rows_needed(found, TARGET),
        rows,
        tuple(map(float, found.power)),
        tuple((float(low), float(high)) for low, high in found.limits),
        tuple(map(float, found.coverage)),
        tuple(map(float, found.cost)),
        float(pilot.costs.sum(axis=1).mean()),
        human,
        paid,
    )


def write_plot(plan: PilotPlan, path: Path) -> None:
    """Draw the power curve as SVG; equal plans give equal bytes."""
    from trustescalate.report.charts import draw_power

    write_atomically(path, draw_power(plan.rows, plan.power, plan.limits).encode())
