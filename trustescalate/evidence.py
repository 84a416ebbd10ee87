"""What stands beside the promise: agreement among people, the mean over all items, and moved scores.

Nothing here decides anything, and no judge is asked. A run's predictions are those of the deepest tier that
an item reached, by the votes of the first prompt of the ensemble alone: these are always asked, so early
stopping cannot make labelled rows and judged items differ.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trustescalate.labels import majority, opinions
from trustescalate.stats.agreement import (
    Coefficient as CoefficientName,
)
from trustescalate.stats.agreement import (
    agreement_interval,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
)
from trustescalate.stats.annotators import alternative_annotator_test, annotator_report
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.confidence import normalised
from trustescalate.stats.inference import Survey, ppi_mean, verdict_bounds
from trustescalate.stats.paths import Stack, Votes, stacked_scores
from trustescalate.stats.policy import decide
from trustescalate.stats.shift import score_alarm
from trustescalate.types import (
    SKIP,
    TIE,
    Annotation,
    Annotator,
    Certificate,
    Coefficient,
    Judgment,
    Label,
    Overall,
    Pair,
    People,
    Run,
    StandIn,
    Task,
    TaskKind,
    TierShift,
)
from trustescalate.values import largest_alpha, thresholds_of_rows
from trustescalate.votes import confidence, vote_array

INTERVAL_DELTA = 0.05
ALARM_LEVEL = 0.01
"""A false alarm in one run of a hundred without a shift."""
EPSILON = 0.1
"""The strictest of the values that the alternative-annotator test is used with: beside crowd workers."""
MIN_ROWS = 30
MOST_PAIRS = 12
"""With more people than this, pairs are not listed one by one."""

Judged = Mapping[str, Mapping[str, Judgment]]
Groups = Mapping[str, str | None]

# ── people ───────────────────────────────────────────────────────────────────────────────────────


def people(
    task: Task, notes: Sequence[Annotation], rows: Sequence[str], verdicts: Mapping[str, IntArray]
) -> People | None:
    """How people agree on `rows`, and whether a judge could stand in for one of them.

    `notes` are the annotations on these rows, `verdicts` each judge's label (n,) of them, -1 for none. None
    where fewer than two people gave an opinion.
    """
    stated = [note for said in opinions(task, notes).values() for note in said]
    names = sorted({note.annotator for note in stated})
    if len(names) < 2:
        return None
    place = {item_id: i for i, item_id in enumerate(rows)}
    row = np.array([place[note.item_id] for note in stated])
    who = np.array([names.index(note.annotator) for note in stated])
    label = np.array([task.labels.index(note.label) for note in stated])
    return People(
        _coefficients(task, row, label, len(rows)),
        *_annotators(notes, names, row, who, label),
        _stand_ins(task, names, row, who, label, verdicts) if len(names) > 2 else (),
        EPSILON,
        MIN_ROWS,
    )


def _coefficients(task: Task, row: IntArray, label: IntArray, n: int) -> tuple[Coefficient, ...]:
    counts = np.zeros((n, len(task.labels)), dtype=np.int64)
    np.add.at(counts, (row, label), 1)
    found: list[tuple[str, CoefficientName, float | None]] = [
        ("Fleiss κ", "fleiss_kappa", fleiss_kappa(counts)),
        ("Krippendorff α, nominal", "alpha_nominal", krippendorff_alpha(counts, "nominal")),
        ("Gwet AC1", "gwet_ac1", gwet_ac1(counts)),
    ]
    if task.kind is TaskKind.RATING:
        ordinal = krippendorff_alpha(counts, "ordinal")
        found.insert(2, ("Krippendorff α, ordinal", "alpha_ordinal", ordinal))
    return tuple(
        Coefficient(name, value, agreement_interval(kind, counts, INTERVAL_DELTA))
        for name, kind, value in found
    )


def _annotators(
    notes: Sequence[Annotation], names: Sequence[str], row: IntArray, who: IntArray, label: IntArray
) -> tuple[tuple[Annotator, ...], tuple[Pair, ...]]:
    found = annotator_report(row, who, label)
    ties, skips = (Counter(note.annotator for note in notes if note.label == it) for it in (TIE, SKIP))
    agreed, compared = found.agreements, found.comparisons
    each = tuple(
        Annotator(
            name=name,
            opinions=int(found.opinions[i]),
            ties=ties[name],
            skips=skips[name],
            agreements=int(agreed[i].sum()),
            comparisons=int(compared[i].sum()),
        )
        for i, name in enumerate(names)
    )
    pairs = tuple(
        Pair(names[i], names[j], int(agreed[i, j]), int(compared[i, j]))
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if compared[i, j] and len(names) <= MOST_PAIRS
    )
    return each, pairs


def _stand_ins(
    task: Task,
    names: Sequence[str],
    row: IntArray,
    who: IntArray,
    label: IntArray,
    verdicts: Mapping[str, IntArray],
) -> tuple[StandIn, ...]:
    held = []
    for judge, said in verdicts.items():
        found = alternative_annotator_test(
            row,
            who,
            label.astype(np.float64),
            np.where(said >= 0, said, np.nan),
            EPSILON,
            scale="interval" if task.kind is TaskKind.RATING else "nominal",
            min_rows=MIN_ROWS,
        )
        for i in range(0 if found is None else len(found.annotator)):
            assert found is not None
            held.append(
                StandIn(
                    judge,
                    names[int(found.annotator[i])],
                    int(found.rows[i]),
                    float(found.advantage[i]),
                    float(found.p_value[i]),
                    bool(found.beaten[i]),
                )
            )
    return tuple(held)


# ── the mean over all items ──────────────────────────────────────────────────────────────────────


def label_values(task: Task) -> Mapping[Label, float] | None:
    """What each label counts in a mean; None where labels have no order.

    >>> label_values(Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie")))
    {'A': 1.0, 'B': 0.0, 'tie': 0.5}
    """
    if task.kind is TaskKind.CHOICE:
        return None
    if task.kind is TaskKind.RATING:
        return {label: float(label) for label in task.labels}
    return dict(zip(task.labels, (1.0, 0.0, 0.5), strict=False))


def overall(run: Run, judged: Judged, annotations: Iterable[Annotation], groups: Groups) -> Overall:
    """The mean label of the population that certification rows and the run's items are drawn from.

    `judged` holds the full ensembles on the certification rows, `annotations` people's labels on these,
    `groups` the group of each item that has one. The labelled rows remove the bias of the predictions, the
    predictions for all items lower the variance (PPI++, `stats.inference.ppi_mean`). A row counts what its
    majority says; where there is none, and for ratings always, the mean of its opinions. In groups, each
    group counts once, as it does in the certificate: its items' predictions are averaged.
    """
    certificate = run.header.certificate
    values, reason = label_values(certificate.task), _not_measurable(run)
    if values is None or reason:
        return Overall(None, reason or "labels without an order have no mean")
    said = _people_say(certificate, annotations, values)
    rows = [item_id for item_id in certificate.roles["certify"] if item_id in said]
    reached = _tier_reached(certificate, judged, rows)
    names = [seal.judge for seal in certificate.judges]
    at_labels = [
        _expected(certificate.task, judged[names[j]][item_id], values)
        for item_id, j in zip(rows, reached, strict=True)
    ]
    by_unit: dict[str, list[float]] = defaultdict(list)
    for item_id, judgment in _deepest(run).items():
        by_unit[_unit(item_id, groups)].append(_expected(certificate.task, judgment, values))
    units = [_unit(item_id, groups) for item_id in rows] + list(by_unit)
    grouped = any(groups.get(item_id) for item_id in (*rows, *_deepest(run)))
    survey = Survey(
        np.array(at_labels + [float(np.mean(each)) for each in by_unit.values()]),
        np.arange(len(rows)),
        np.array([said[item_id] for item_id in rows]),
        cluster=np.unique(units, return_inverse=True)[1] if grouped else None,
    )
    mean = ppi_mean(survey, INTERVAL_DELTA)
    ends = min(values.values()), max(values.values())
    return Overall(
        estimate=_within(mean.estimate, ends),
        reason=mean.reason,
        interval=(_within(mean.low, ends), _within(mean.high, ends)),
        label_only=(_within(mean.label_only[0], ends), _within(mean.label_only[1], ends)),
        usable=mean.usable,
        items=mean.items,
        labels=mean.labels,
        verdicts=None if certificate.task.kind is TaskKind.RATING else _verdict_limits(run, groups),
        grouped=grouped,
    )


def _not_measurable(run: Run) -> str:
    certificate = run.header.certificate
    if run.header.status != "complete" or len(run.decisions) < run.header.items:
        return "the run is not complete"
    if certificate.dropped_ties:
        return "people call some items a tie, and nobody knows which of the run's items those are"
    if certificate.status == "none" or certificate.n < 2:
        return "nothing is certified"
    if certificate.group_by is not None and not all(row.trail for row in run.decisions):
        return f"no judge was asked about items whose {certificate.group_by} has no certificate"
    return "" if _deepest(run) else "every item of the run was labelled for the certificate"


def _people_say(
    certificate: Certificate, annotations: Iterable[Annotation], values: Mapping[Label, float]
) -> Mapping[str, float]:
    wanted = set(certificate.roles["certify"])
    task, notes = certificate.task, [note for note in annotations if note.item_id in wanted]
    won: Mapping[str, Label | None] = {} if task.kind is TaskKind.RATING else majority(task, notes)
    said = {}
    for item_id, stated in opinions(task, notes).items():
        label = won.get(item_id)
        told = [values[note.label] for note in stated] if label is None else [values[label]]
        said[item_id] = sum(told) / len(told)
    return said


def _expected(task: Task, judgment: Judgment, values: Mapping[Label, float]) -> float:
    """The mean value of the label by the votes of the first prompt; the middle where all of these failed."""
    worth = np.array([values[label] for label in task.labels])
    shares = normalised(_first(task, judgment)[None])[0].sum(axis=0)
    mass = shares.sum()
    return float(shares @ worth / mass) if mass > 0 else float(worth.mean())


def _verdict_limits(run: Run, groups: Groups) -> tuple[float, float]:
    """Limits that use no label: a tie counts as lost in the lower one and as won in the upper one."""
    certificate, taken = run.header.certificate, _one_of_each(run, groups)
    labels = [row.label for row in run.decisions if row.item_id in taken]
    wins, losses = (labels.count(label) for label in certificate.task.labels[:2])
    released = len(labels) - labels.count(None)
    low, high = (
        verdict_bounds(won, released, len(labels), largest_alpha(certificate), INTERVAL_DELTA)
        for won in (wins, released - losses)
    )
    return low[0], high[1]


def _within(value: float, ends: tuple[float, float]) -> float:
    return min(max(value, ends[0]), ends[1])


# ── moved scores ─────────────────────────────────────────────────────────────────────────────────


def score_shift(run: Run, judged: Judged, groups: Groups) -> tuple[TierShift, ...]:
    """Have the scores moved between certification rows and the run? An entry for each tier that is asked.

    On both sides the rows that reach the tier under the certified thresholds, with the share that the first
    prompt gives to its likeliest label: full scores are not known where asking stopped early. One item of
    each group. No label is used.
    """
    certificate, task = run.header.certificate, run.header.certificate.task
    if certificate.status == "none" or not run.decisions:
        return ()
    rows = certificate.roles["certify"]
    trusted = zip(rows, thresholds_of_rows(certificate, rows), strict=True)
    held = {item_id: taus for item_id, taus in trusted if taus is not None}
    reached, taken = _tier_reached(certificate, judged, list(held)), _one_of_each(run, groups)
    now = {(row.item_id, row.judge): row for row in run.judgments}
    asked = [j for j in range(len(certificate.judges)) if any(taus[j] is not None for taus in held.values())]
    before, after = [], []
    for j in asked:
        name = certificate.judges[j].judge
        seen = [
            judged[name][item_id]
            for (item_id, taus), last in zip(held.items(), reached, strict=True)
            if taus[j] is not None and j <= last
        ]
        before.append(_tops(task, seen))
        after.append(_tops(task, [now[item_id, name] for item_id in taken if (item_id, name) in now]))
    alarm = score_alarm(before, after, ALARM_LEVEL)
    return tuple(
        TierShift(
            certificate.judges[j].judge,
            len(before[i]),
            len(after[i]),
            float(alarm.gap[i]),
            float(alarm.p_value[i]),
            bool(alarm.raised[i]),
        )
        for i, j in enumerate(asked)
    )


def _tops(task: Task, judgments: Sequence[Judgment]) -> FloatArray:
    tops = [normalised(_first(task, row)[None])[0].mean(axis=0).max() for row in judgments]
    return np.array(tops, dtype=np.float64)


# ── rows of both sides ───────────────────────────────────────────────────────────────────────────


def _first(task: Task, judgment: Judgment) -> FloatArray:
    """The votes (k, c) of the first prompt."""
    if not judgment.votes:
        return np.zeros((1, len(task.labels)))
    first = judgment.votes[0].exemplar_set
    return vote_array(task, [vote for vote in judgment.votes if vote.exemplar_set == first])


def _tier_reached(certificate: Certificate, judged: Judged, rows: Sequence[str]) -> list[int]:
    """The deepest tier that the certified cascade asks about each certification row; all have thresholds."""
    if not rows:
        return []
    said = [
        confidence(certificate.task, certificate.estimator, [judged[seal.judge][item_id] for item_id in rows])
        for seal in certificate.judges
    ]
    votes = Votes(np.column_stack([each.score for each in said]), np.column_stack([c.label for c in said]))
    if certificate.stack is not None:
        votes = stacked_scores(Stack(len(certificate.task.labels), np.array(certificate.stack)), votes)
    trusted = thresholds_of_rows(certificate, rows)
    limits = np.array([[np.inf if tau is None else tau for tau in taus or ()] for taus in trusted])
    last = limits.shape[1] - 1 - np.isfinite(limits)[:, ::-1].argmax(axis=1)
    tier = decide(limits, votes.scores, votes.labels)
    return [int(each) for each in np.where(tier >= 0, tier, last)]


def _deepest(run: Run) -> Mapping[str, Judgment]:
    """The last judgment on each fresh item: items whose labels made the certificate speak for themselves."""
    roles = run.header.certificate.roles
    used = {item_id for role in ("certify", "exemplars", "dev") for item_id in roles.get(role, ())}
    asked = {(row.item_id, row.judge): row for row in run.judgments}
    return {
        row.item_id: asked[row.item_id, row.trail[-1].judge]
        for row in run.decisions
        if row.trail and row.item_id not in used
    }


def _one_of_each(run: Run, groups: Groups) -> set[str]:
    """The first fresh item of each group, and all without a group."""
    first: dict[str, str] = {}
    for item_id in _deepest(run):
        first.setdefault(_unit(item_id, groups), item_id)
    return set(first.values())


def _unit(item_id: str, groups: Groups) -> str:
    group = groups.get(item_id)
    return f"item {item_id}" if group is None else f"group {group}"
