"""From records to a certificate: align votes and labels, test, and write down every count.

No judge is asked here and no file is touched. `Protocol` is everything that was decided; its digest is taken
before a label is read, so a certificate shows that nothing was chosen by looking at the labels it tested.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from trustescalate.evidence import people
from trustescalate.jsonl import digest, to_python
from trustescalate.labels import dropped_ties, majority, opinions
from trustescalate.stats.agreement import cohen_kappa, human_ceiling
from trustescalate.stats.band import risk_upper_band
from trustescalate.stats.bounds import (
    BoolArray,
    FloatArray,
    IntArray,
    clopper_pearson_interval,
    clopper_pearson_upper,
)
from trustescalate.stats.calibration import auroc, brier_score, expected_calibration_error, reliability
from trustescalate.stats.certify import Certified, certify
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan, Rows
from trustescalate.stats.paths import Votes as ScoredVotes
from trustescalate.stats.planning import label_floor, labels_needed
from trustescalate.stats.policy import common_path, evaluate
from trustescalate.stats.shift import robustness_radius
from trustescalate.types import (
    Annotation,
    Bin,
    Ceiling,
    Certificate,
    Checkpoint,
    Json,
    JudgeDiagnostics,
    Judgment,
    Label,
    PolicyTest,
    Seal,
    Task,
)
from trustescalate.votes import confidence

CERTIFICATE_SCHEMA = 1
INTERVAL_DELTA = 0.05
"""Intervals beside observed figures are two-sided at 95 %, whatever delta the certificate has."""
CHECKPOINTS = 16
"""So many policies have a limit on their risk: each one more widens the limits of all."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that is decided before labels are read.

    `roles` holds item ids by role; `certify` at most one of each group, `pilot` items without labels (or dev
    rows) that lay out the path.
    """

    task: Task
    alpha: float
    delta: float
    claim: Literal["population"]
    path: PathName | Literal["tierwise"]
    procedure: Literal["fallback", "fixed_sequence", "bonferroni"]
    prefer: Literal["coverage", "cost", "total"]
    abstention_price: float | None
    estimator: Literal["ensemble", "predictive"]
    judges: tuple[tuple[str, str], ...]
    roles: Mapping[str, tuple[str, ...]]
    grouped: bool
    seed: int
    version: str

    @property
    def digest(self) -> str:
        """The hash that the certificate carries."""
        return digest(to_python(self))


@dataclass(frozen=True, slots=True)
class Aligned:
    """n certification rows × m tiers: scores, labels (-1: no verdict), costs; truth (n,), -1: no majority."""

    scores: FloatArray
    labels: IntArray
    costs: FloatArray
    truth: IntArray


Judged = Mapping[str, Mapping[str, Judgment]]
"""Judgments by judge and item, full ensembles."""


def calibrate(
    protocol: Protocol, annotations: Sequence[Annotation], judged: Judged, *, created: str
) -> Certificate:
    """Test the promise of a protocol on its certification rows.

    `judged` holds every judge's judgments on the items in the roles `certify` and `pilot`, and `dev` where
    the path is fitted on those.
    Returns a certificate, or a refusal (`status == "none"`) with its reason; never raises for bad luck.
    """
    task = protocol.task
    sealed = protocol.digest
    certify = protocol.roles["certify"]
    wanted = set(certify)
    notes = [note for note in annotations if note.item_id in wanted]
    truth = majority(task, notes)
    rows = [item_id for item_id in certify if item_id in truth]
    aligned = _align(protocol, rows, truth, judged)
    plan = _laid_out(protocol, annotations, judged)
    result = _certify(protocol, aligned, plan) if rows else None
    certified = result is not None and result.chosen is not None
    return Certificate(
        schema=CERTIFICATE_SCHEMA,
        status="certified" if certified else "none",
        reason="" if certified else _reason(protocol, aligned, result),
        advice="" if certified else _advice(protocol, aligned, result),
        alpha=protocol.alpha,
        delta=protocol.delta,
        claim=protocol.claim,
        path=protocol.path,
        procedure="fixed_sequence" if protocol.path == "tierwise" else protocol.procedure,
        prefer=protocol.prefer,
        estimator=protocol.estimator,
        task=task,
        label_policy="majority",
        n=len(rows),
        no_majority=sum(truth[item_id] is None for item_id in rows),
        dropped_ties=dropped_ties(task, notes),
        chosen=None if result is None else result.chosen,
        thresholds=None if result is None else _thresholds(result.thresholds),
        coverage_lower=None if result is None else result.coverage_lower,
        tests=() if result is None else _tests(result, plan),
        judges=tuple(_seal(name, mark, judged[name]) for name, mark in protocol.judges),
        diagnostics=tuple(
            _diagnostics(task, name, rows, aligned, tier, judged[name])
            for tier, (name, _) in enumerate(protocol.judges)
        ),
        ceiling=_ceiling(task, notes),
        roles=protocol.roles,
        protocol=sealed,
        data_digest=digest(_evidence(notes, judged)),
        seed=protocol.seed,
        version=protocol.version,
        created=created,
        assumptions=_assumptions(protocol),
        stack=_stack(plan),
        radius=None if result is None else _radius(protocol, result),
        band=() if result is None or plan is None else _band(protocol, result),
        people=people(
            task, notes, rows, {name: aligned.labels[:, j] for j, (name, _) in enumerate(protocol.judges)}
        ),
    )


def _align(
    protocol: Protocol, rows: Sequence[str], truth: Mapping[str, Label | None], judged: Judged
) -> Aligned:
    names = [name for name, _ in protocol.judges]
    scores, labels = _confidences(protocol, rows, judged)
    costs = np.array([[judged[name][item_id].cost for name in names] for item_id in rows], dtype=float)
    place = {label: i for i, label in enumerate(protocol.task.labels)}
    answers = [-1 if truth[item_id] is None else place[truth[item_id] or ""] for item_id in rows]
    return Aligned(scores, labels, costs.reshape(scores.shape), np.array(answers, dtype=np.int64))


def _confidences(protocol: Protocol, rows: Sequence[str], judged: Judged) -> tuple[FloatArray, IntArray]:
    if not rows:
        empty = np.zeros((0, len(protocol.judges)))
        return empty, empty.astype(np.int64)
    found = [
        confidence(protocol.task, protocol.estimator, [judged[name][item_id] for item_id in rows])
        for name, _ in protocol.judges
    ]
    return np.column_stack([c.score for c in found]), np.column_stack([c.label for c in found])


def _laid_out(protocol: Protocol, annotations: Sequence[Annotation], judged: Judged) -> Plan | None:
    """The path, from dev rows and unlabelled ones alone; None for `tierwise`, which needs none."""
    if protocol.path == "tierwise":
        return None
    wanted = set(protocol.roles["dev"]) if PATHS[protocol.path].needs_dev else set()
    truth = majority(protocol.task, [note for note in annotations if note.item_id in wanted])
    dev = _align(protocol, list(truth), truth, judged) if truth else None
    pilot = ScoredVotes(*_confidences(protocol, protocol.roles["pilot"], judged))
    basis = Basis(
        None if dev is None else Rows(dev.scores, dev.labels, dev.truth, dev.costs),
        pilot,
        len(protocol.judges),
        len(protocol.task.labels),
    )
    return PATHS[protocol.path].build(basis)


def _certify(protocol: Protocol, aligned: Aligned, plan: Plan | None) -> Certified:
    return certify(
        aligned.scores,
        aligned.labels,
        aligned.truth,
        aligned.costs,
        alpha=protocol.alpha,
        delta=protocol.delta,
        path="tierwise" if plan is None else plan,
        procedure=protocol.procedure,
        prefer=protocol.prefer,
        abstention_price=protocol.abstention_price,
    )


def _thresholds(thresholds: FloatArray | None) -> tuple[float | None, ...] | None:
    if thresholds is None:
        return None
    return tuple(float(tau) if np.isfinite(tau) else None for tau in thresholds)


def _tests(result: Certified, plan: Plan | None) -> tuple[PolicyTest, ...]:
    table = result.table
    parts = [0] * len(table.accepted)
    if plan is not None:
        parts = [part for part, policies in enumerate(plan.parts) for _ in policies]
    return tuple(
        PolicyTest(
            thresholds=_thresholds(table.policies[t]) or (),
            accepted=int(table.accepted[t]),
            errors=int(table.errors[t]),
            by_tier=tuple(map(int, table.by_tier[t])),
            cost=float(table.cost[t]),
            p_value=float(table.p_value[t]),
            level=float(table.level[t]),
            rejected=bool(table.rejected[t]),
            part=parts[t],
        )
        for t in range(len(table.accepted))
    )


def _stack(plan: Plan | None) -> tuple[tuple[tuple[float, float], ...], ...] | None:
    if plan is None or plan.stack is None:
        return None
    return tuple(tuple((float(a), float(b)) for a, b in tier) for tier in plan.stack.weights)


def _seal(name: str, fingerprint: str, judged: Mapping[str, Judgment]) -> Seal:
    votes = (vote for judgment in judged.values() for vote in judgment.votes if vote.failure is None)
    return Seal(name, fingerprint, next((vote.channel for vote in votes), "logprobs"))


def _radius(protocol: Protocol, result: Certified) -> float | None:
    """The least radius of the tests that the promise rests on: one, or on a tierwise path one a tier."""
    if result.chosen is None:
        return None
    table = result.table
    used = np.flatnonzero(table.rejected) if protocol.path == "tierwise" else np.array([result.chosen])
    upper = clopper_pearson_upper(table.errors[used], table.accepted[used], table.level[used])
    # A p-value that equals its level to the last bit may put its limit a rounding above alpha.
    return robustness_radius(min(float(upper.max()), protocol.alpha), protocol.alpha)


def _band(protocol: Protocol, result: Certified) -> tuple[Checkpoint, ...]:
    """Limits on evenly spaced policies of the path. Places alone decide which: no label, and no count."""
    size = len(result.table.accepted)
    places = np.unique(np.linspace(0, size - 1, min(size, CHECKPOINTS)).round().astype(np.int64))
    upper = risk_upper_band(result.table.errors[places], result.table.accepted[places], protocol.delta)
    return tuple(Checkpoint(int(test), float(limit)) for test, limit in zip(places, upper, strict=True))


# ── when the answer is no ────────────────────────────────────────────────────────────────────────


def _reason(protocol: Protocol, aligned: Aligned, result: Certified | None) -> str:
    n, floor = len(aligned.truth), label_floor(protocol.alpha, protocol.delta)
    if n < floor:
        return (
            f"{n} labelled rows cannot certify anything: at alpha = {protocol.alpha:g} and delta = "
            f"{protocol.delta:g} even {floor - 1} rows without one disagreement would not be enough"
        )
    assert result is not None
    if _spoken(aligned) < floor:
        return f"the judges gave usable verdicts on {_spoken(aligned)} of {n} rows"
    tested = "tiers" if protocol.path == "tierwise" else "policies"
    return (
        f"none of {len(result.table.accepted)} {tested} passed its test: on {n} labelled rows, disagreement "
        f"with people could not be shown to be at most {protocol.alpha:g}"
    )


def _advice(protocol: Protocol, aligned: Aligned, result: Certified | None) -> str:
    floor = label_floor(protocol.alpha, protocol.delta)
    if len(aligned.truth) < floor or result is None:
        return f"label at least {floor} rows for certification, better three times as many"
    if _spoken(aligned) < floor:
        return "see the failures by reason below: the judges' replies cannot be read, or they did not answer"
    accepted, errors = _explored(aligned)
    rate = np.where(accepted >= floor, errors / np.maximum(accepted, 1), 1.0)
    best = int(rate.argmin())
    share, observed = accepted[best] / len(aligned.truth), float(rate[best])
    seen = f"{int(errors[best])} of {int(accepted[best])} verdicts disagreed with people"
    if observed >= protocol.alpha:
        return f"at best {seen}: use better judges, clearer instructions, or allow a larger alpha"
    needed = labels_needed(observed, protocol.alpha, protocol.delta)
    if needed is None:
        return f"at best {seen}: too close to alpha for any number of labels"
    return (
        f"at best {seen}; if that rate holds, about {ceil(needed / share)} fresh labelled rows would do. "
        "Labels that were already tested must not be tested again until they pass"
    )


def _spoken(aligned: Aligned) -> int:
    return int((aligned.labels >= 0).any(axis=1).sum())


def _explored(aligned: Aligned) -> tuple[IntArray, IntArray]:
    """Released rows and errors along a grid, for advice alone: tier by tier nothing may have been tested."""
    seen = evaluate(
        common_path(None, aligned.scores.shape[1]),
        aligned.scores,
        aligned.labels,
        aligned.truth,
        aligned.costs,
    )
    return seen.accepted, seen.errors


# ── what is said beside the promise ──────────────────────────────────────────────────────────────


def _diagnostics(
    task: Task, name: str, rows: Sequence[str], aligned: Aligned, tier: int, judged: Mapping[str, Judgment]
) -> JudgeDiagnostics:
    score, label = aligned.scores[:, tier], aligned.labels[:, tier]
    correct: BoolArray = (label >= 0) & (label == aligned.truth)
    spoken = label >= 0
    both = spoken & (aligned.truth >= 0)
    votes = [vote for item_id in rows for vote in judged[item_id].votes]
    agreements = int(correct.sum())
    return JudgeDiagnostics(
        judge=name,
        n=len(rows),
        agreements=agreements,
        interval=clopper_pearson_interval(agreements, len(rows), INTERVAL_DELTA),
        kappa=cohen_kappa(label[both], aligned.truth[both], len(task.labels)),
        ece=expected_calibration_error(score[spoken], correct[spoken]),
        brier=brier_score(score[spoken], correct[spoken]),
        auroc=auroc(score[spoken], correct[spoken]),
        bins=_bins(score[spoken], correct[spoken]),
        votes=len(votes),
        failures=dict(sorted(Counter(vote.failure for vote in votes if vote.failure is not None).items())),
        cost=float(aligned.costs[:, tier].mean()) if rows else 0.0,
    )


def _bins(score: FloatArray, correct: BoolArray) -> tuple[Bin, ...]:
    bars = reliability(score, correct)
    return tuple(
        Bin(float(low), float(high), int(rows), float(mean), int(right))
        for low, high, rows, mean, right in zip(*bars, strict=True)
    )


def _ceiling(task: Task, notes: Sequence[Annotation]) -> Ceiling | None:
    stated = [note for rows in opinions(task, notes).values() for note in rows]
    if not stated:
        return None
    row = np.unique([note.item_id for note in stated], return_inverse=True)[1]
    annotator = np.unique([note.annotator for note in stated], return_inverse=True)[1]
    label = np.array([task.labels.index(note.label) for note in stated])
    ceiling = human_ceiling(row, annotator, label, INTERVAL_DELTA)
    return None if ceiling is None else Ceiling(*ceiling)


def _assumptions(protocol: Protocol) -> tuple[str, ...]:
    said = [
        "the certification rows were drawn independently from the same population as the items to be judged",
        "agreement means agreement with the majority of an item's annotators; without one, any verdict "
        "counts as a disagreement",
        "the judges stay as they are: same model, same wording, same examples",
    ]
    if protocol.grouped:
        said.append("rows of one group hang together, so one row of each group was drawn for the test")
    if protocol.task.ties == "drop":
        said.append("items that people call a tie are outside the claim")
    return tuple(said)


def _evidence(notes: Sequence[Annotation], judged: Judged) -> Json:
    labels = sorted((note.item_id, note.annotator, note.label) for note in notes)
    votes = [[name, [to_python(rows[item_id]) for item_id in sorted(rows)]] for name, rows in judged.items()]
    return [labels, votes]
