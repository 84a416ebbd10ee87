"""From records to a certificate: align votes and labels, test, and write down every count.

No judge is asked here and no file is touched. `Protocol` is everything that was decided; its digest is taken
before a label is read, so a certificate shows that nothing was chosen by looking at the labels it tested.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from trustescalate.evidence import people
from trustescalate.group_promises import certify_values, coverage_lower, leave_out, refusal_by_value
from trustescalate.jsonl import digest, to_python
from trustescalate.labels import dropped_ties, majority, opinions
from trustescalate.protocol import Aligned, Judged, Protocol
from trustescalate.refusal import refusal
from trustescalate.stats.agreement import cohen_kappa, human_ceiling
from trustescalate.stats.band import risk_upper_band
from trustescalate.stats.batch import BatchTable, certify_batch, judgments_needed
from trustescalate.stats.bounds import (
    BoolArray,
    FloatArray,
    IntArray,
    clopper_pearson_interval,
    clopper_pearson_upper,
)
from trustescalate.stats.calibration import auroc, brier_score, expected_calibration_error, reliability
from trustescalate.stats.certify import Table, certify
from trustescalate.stats.control import SHARES
from trustescalate.stats.paths import PATHS, Basis, Plan, Rows
from trustescalate.stats.paths import Votes as ScoredVotes
from trustescalate.stats.policy import evaluate
from trustescalate.stats.shift import robustness_radius
from trustescalate.types import (
    Annotation,
    Batch,
    Bin,
    Ceiling,
    Certificate,
    Checkpoint,
    GroupPromise,
    Json,
    JudgeDiagnostics,
    Judgment,
    Label,
    LeftOut,
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


class Tested(NamedTuple):
    """What the tests say, whatever the claim."""

    chosen: int | None
    thresholds: FloatArray | None
    coverage_lower: float | None
    tests: tuple[PolicyTest, ...]


def calibrate(
    protocol: Protocol,
    annotations: Sequence[Annotation],
    judged: Judged,
    *,
    created: str,
    batch_digest: str = "",
) -> Certificate:
    """Test the promise of a protocol on its certification rows.

    `judged` holds every judge's judgments on the items in the roles `certify` and `pilot`, and `dev` where
    the path is fitted on those. With the claim "batch" it holds what `rows_to_judge` asked for, and
    `batch_digest` stands for the items of the batch.
    Returns a certificate, or a refusal (`status == "none"`) with its reason; never raises for bad luck.
    """
    task = protocol.task
    sealed = protocol.digest
    certify = protocol.roles["certify"]
    wanted = set(certify)
    notes = [note for note in annotations if note.item_id in wanted]
    truth = majority(task, notes)
    batch = protocol.claim == "batch"
    rows = [item_id for item_id in certify if batch or item_id in truth]
    aligned = _align(protocol, rows, truth, judged)
    plan = lay_out(protocol, annotations, judged)
    groups: tuple[GroupPromise, ...] = ()
    if batch:
        result = _certify_batch(protocol, truth, plan, judged)
    elif protocol.groups is not None:
        assert plan is not None, "the configuration refuses tierwise"
        groups = certify_values(protocol, protocol.groups, rows, aligned, plan)
        result = Tested(None, None, coverage_lower(groups, len(rows), protocol.delta), ())
    else:
        result = _certify(protocol, aligned, plan) if rows else Tested(None, None, None, ())
    certified = result.coverage_lower is not None
    reason, advice = ("", "") if certified else _refusal(protocol, aligned, result, groups)
    return Certificate(
        schema=CERTIFICATE_SCHEMA,
        status="certified" if certified else "none",
        reason=reason,
        advice=advice,
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
        no_majority=sum(truth.get(item_id) is None for item_id in rows),
        dropped_ties=dropped_ties(task, notes),
        chosen=result.chosen,
        thresholds=_thresholds(result.thresholds),
        coverage_lower=result.coverage_lower,
        tests=result.tests,
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
        batch=Batch(len(protocol.batch), batch_digest, votes_digest(judged)) if batch else None,
        radius=_radius(protocol, result),
        band=_band(protocol, result),
        group_by=None if protocol.groups is None else protocol.groups.by,
        groups=groups,
        left_out=_left_out(protocol, rows, aligned, plan),
        people=people(
            task, notes, rows, {name: aligned.labels[:, j] for j, (name, _) in enumerate(protocol.judges)}
        ),
    )


def _refusal(
    protocol: Protocol, aligned: Aligned, result: Tested, groups: Sequence[GroupPromise]
) -> tuple[str, str]:
    if protocol.groups is not None:
        return refusal_by_value(protocol, protocol.groups, groups)
    return refusal(protocol, aligned, len(result.tests))


def _left_out(protocol: Protocol, rows: Sequence[str], aligned: Aligned, plan: Plan | None) -> LeftOut | None:
    asked = protocol.leave_out
    return None if asked is None else leave_out(protocol, asked, rows, aligned, plan)


def lay_out(protocol: Protocol, annotations: Sequence[Annotation], judged: Judged) -> Plan | None:
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
    plan = PATHS[protocol.path].build(basis)
    return _less_to_judge(plan, pilot) if protocol.claim == "batch" else plan


def _less_to_judge(plan: Plan, pilot: ScoredVotes) -> Plan:
    """A plan without the policies that accept too little of the pilot ever to be tested by `fallback`.

    In a batch each policy of the path is paid for: the stricter the first, the more rows go to dear judges.
    """
    enough = SHARES[0][1] * len(pilot.scores)
    blank = np.full(len(pilot.scores), -1)
    parts = [
        part[(part == part[-1]).all(axis=1) | (seen.accepted >= enough)]
        for part in plan.parts
        for seen in [evaluate(part, pilot.scores, pilot.labels, blank, np.zeros(pilot.scores.shape))]
    ]
    return plan._replace(parts=tuple(parts))


def rows_to_judge(protocol: Protocol, plan: Plan, judged: Judged, tier: int) -> tuple[str, ...]:
    """The ids of the batch that a judge must still be asked about, when all judges before it have been.

    Where no policy of the plan would ask the judge, its verdict changes no count. The order tells nothing of
    the draw: a judge that fails or changes half-way must not do so between drawn rows and the others.
    """
    rows = sorted(protocol.batch)
    needed = judgments_needed(np.concatenate(plan.parts), *_confidences(protocol, rows, judged))[:, tier]
    known = judged[protocol.judges[tier][0]]
    return tuple(
        item_id for item_id, wanted in zip(rows, needed, strict=True) if wanted and item_id not in known
    )


def votes_digest(judged: Judged) -> str:
    """A hash of all votes, whatever their order."""
    return digest(sorted(rows for rows in _votes(judged) if rows[1]))


def _align(
    protocol: Protocol, rows: Sequence[str], truth: Mapping[str, Label | None], judged: Judged
) -> Aligned:
    names = [name for name, _ in protocol.judges]
    scores, labels = _confidences(protocol, rows, judged)
    costs = np.array(
        [[row.cost if (row := judged[name].get(item_id)) else 0.0 for name in names] for item_id in rows],
        dtype=float,
    )
    place = {label: i for i, label in enumerate(protocol.task.labels)}
    answers = [place.get(truth.get(item_id) or "", -1) for item_id in rows]
    return Aligned(scores, labels, costs.reshape(scores.shape), np.array(answers, dtype=np.int64))


def _confidences(protocol: Protocol, rows: Sequence[str], judged: Judged) -> tuple[FloatArray, IntArray]:
    """Scores and labels; a row that a judge was not asked about has score 0 and no verdict."""
    scores = np.zeros((len(rows), len(protocol.judges)))
    labels = np.full(scores.shape, -1, dtype=np.int64)
    for tier, (name, _) in enumerate(protocol.judges):
        asked = [place for place, item_id in enumerate(rows) if item_id in judged[name]]
        if asked:
            votes = [judged[name][rows[place]] for place in asked]
            found = confidence(protocol.task, protocol.estimator, votes)
            scores[asked, tier], labels[asked, tier] = found.score, found.label
    return scores, labels


def _certify(protocol: Protocol, aligned: Aligned, plan: Plan | None) -> Tested:
    found = certify(
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
    tests = _tests(found.table, plan, [None] * len(found.table.accepted))
    return Tested(found.chosen, found.thresholds, found.coverage_lower, tests)


def _certify_batch(
    protocol: Protocol, truth: Mapping[str, Label | None], plan: Plan | None, judged: Judged
) -> Tested:
    assert plan is not None, "the configuration refuses tierwise"
    everything = _align(protocol, protocol.batch, truth, judged)
    sample = np.arange(len(protocol.roles["certify"]))
    found = certify_batch(
        everything.scores,
        everything.labels,
        sample,
        everything.truth[sample],
        everything.costs,
        alpha=protocol.alpha,
        delta=protocol.delta,
        path=plan,
        procedure=protocol.procedure,
        prefer=protocol.prefer,
        abstention_price=protocol.abstention_price,
    )
    tests = _tests(found.table, plan, found.table.drawn.tolist())
    share = None if found.chosen is None else tests[found.chosen].accepted / len(everything.truth)
    return Tested(found.chosen, found.thresholds, share, tests)


def _thresholds(thresholds: FloatArray | None) -> tuple[float | None, ...] | None:
    if thresholds is None:
        return None
    return tuple(float(tau) if np.isfinite(tau) else None for tau in thresholds)


def _tests(
    table: Table | BatchTable, plan: Plan | None, drawn: Sequence[int | None]
) -> tuple[PolicyTest, ...]:
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
            drawn=drawn[t],
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


def _radius(protocol: Protocol, result: Tested) -> float | None:
    """The least radius of the tests that the promise rests on: one, or on a tierwise path one a tier."""
    if result.chosen is None or protocol.claim == "batch":
        return None
    used = [result.tests[result.chosen]]
    if protocol.path == "tierwise":
        used = [test for test in result.tests if test.rejected]
    upper = max(float(clopper_pearson_upper(test.errors, test.accepted, test.level)) for test in used)
    # A p-value that equals its level to the last bit may put its limit a rounding above alpha.
    return robustness_radius(min(upper, protocol.alpha), protocol.alpha)


def _band(protocol: Protocol, result: Tested) -> tuple[Checkpoint, ...]:
    """Limits on evenly spaced policies of the path. Places alone decide which: no label, and no count."""
    size = len(result.tests)
    if protocol.claim == "batch" or protocol.path == "tierwise" or size == 0:
        return ()
    places = np.unique(np.linspace(0, size - 1, min(size, CHECKPOINTS)).round().astype(np.int64))
    errors, accepted = np.array([(test.errors, test.accepted) for test in result.tests])[places].T
    upper = risk_upper_band(errors, accepted, protocol.delta)
    return tuple(Checkpoint(int(test), float(limit)) for test, limit in zip(places, upper, strict=True))


# ── what is said beside the promise ──────────────────────────────────────────────────────────────


def _diagnostics(
    task: Task, name: str, rows: Sequence[str], aligned: Aligned, tier: int, judged: Mapping[str, Judgment]
) -> JudgeDiagnostics:
    asked = np.array([item_id in judged for item_id in rows], dtype=np.bool_)
    score, label, truth = aligned.scores[asked, tier], aligned.labels[asked, tier], aligned.truth[asked]
    correct: BoolArray = (label >= 0) & (label == truth)
    spoken = label >= 0
    both = spoken & (truth >= 0)
    votes = [vote for item_id in rows if item_id in judged for vote in judged[item_id].votes]
    agreements = int(correct.sum())
    return JudgeDiagnostics(
        judge=name,
        n=len(label),
        agreements=agreements,
        interval=clopper_pearson_interval(agreements, len(label), INTERVAL_DELTA),
        kappa=cohen_kappa(label[both], truth[both], len(task.labels)),
        ece=expected_calibration_error(score[spoken], correct[spoken]),
        brier=brier_score(score[spoken], correct[spoken]),
        auroc=auroc(score[spoken], correct[spoken]),
        bins=_bins(score[spoken], correct[spoken]),
        votes=len(votes),
        failures=dict(sorted(Counter(vote.failure for vote in votes if vote.failure is not None).items())),
        cost=float(aligned.costs[asked, tier].mean()) if asked.any() else 0.0,
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
    if protocol.claim == "batch":
        return (
            "no assumption is made on how the items arose: the rows to label were drawn from the whole batch "
            "by this tool, by a seed that was chosen before any label was seen",
            "agreement means agreement with the majority of an item's annotators; without one, any verdict "
            "counts as a disagreement",
            "nothing is promised about items outside the batch",
        )
    drawn = (
        "the certification rows were drawn independently from the same population as the items to be judged"
    )
    if protocol.groups is not None:
        drawn = (
            f"the certification rows of each value of {protocol.groups.by} were drawn independently from the "
            "same population as the items of that value to be judged; how common the values are may change"
        )
    said = [
        drawn,
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
    return [labels, _votes(judged)]


def _votes(judged: Judged) -> list[Json]:
    return [[name, [to_python(rows[item_id]) for item_id in sorted(rows)]] for name, rows in judged.items()]
