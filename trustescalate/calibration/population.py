"""Estimate means over all items from labels and verdicts."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from trustescalate.calibration.judged_rows import (
    ASKED_ONLY,
    expect_value,
    fresh_items,
    predictions,
    tier_reached,
    used_rows,
)
from trustescalate.calibration.protocol import Protocol
from trustescalate.calibration.scoring import Scorer
from trustescalate.data.item_sets import Chosen, mask_of, number_texts
from trustescalate.data.labels import dropped_ties, majority, sampled, stated_labels
from trustescalate.records import (
    Annotation,
    Certificate,
    Item,
    Judgment,
    Label,
    Overall,
    Run,
    Stratum,
    Task,
    TaskKind,
)
from trustescalate.records.decisions import alike, placed_decisions
from trustescalate.records.item_columns import groups_of, places_of
from trustescalate.records.policies import Policy, largest_alpha, policies_of_rows
from trustescalate.stats.bounds import CodeArray, FloatArray, IntArray
from trustescalate.stats.inference import Survey, coarse_strata, ppi_mean, verdict_bounds
from trustescalate.stats.intervals import mean_interval

INTERVAL_DELTA = 0.05
TIES = "annotators call some items a tie, and which of the others those are is unknown"
FEWEST_LABELS = 2
"""With fewer there is no variance, so no interval of any kind."""
Judged = Mapping[str, Mapping[str, Judgment]]
Groups = Mapping[str, str | None]


def label_values(task: Task) -> Mapping[Label, float] | None:
    """The value of each label in a mean; None where labels have no order.

    >>> label_values(Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie")))
    {'A': 1.0, 'B': 0.0, 'tie': 0.5}
    """
    if task.kind is TaskKind.CHOICE:
        return None
    if task.kind is TaskKind.RATING:
        return {label: float(label) for label in task.labels}
    return dict(zip(task.labels, (1.0, 0.0, 0.5), strict=False))


class Known(NamedTuple):
    """The data for the mean label: `labelled` certification rows as (prediction, human label), and
    `fresh` items of the run as predictions. By item id."""

    labelled: Mapping[str, tuple[float, float]]
    fresh: Mapping[str, float]


def known_rows(
    run: Run, judged: Judged, annotations: Iterable[Annotation], values: Mapping[Label, float]
) -> Known:
    """Predictions on the scale of `values` for all rows, and people's labels of the certification rows.

    Only these labels count: they were drawn without looking at what any judge says. Labels that came later
    are mostly of abstained items. A row counts its majority label; where there is none, and always for
    ratings and for a guarantee about an annotator drawn at random, the mean of its labels.
    """
    certificate = run.header.certificate
    if run.uncertified:
        return _known_uncertified(run, judged, annotations, values)
    wanted = set(certificate.roles["certify"])
    notes = [note for note in annotations if note.item_id in wanted]
    labels = annotation_means(certificate.task, notes, values, always=certificate.label_policy == "annotator")
    rows = [item_id for item_id in certificate.roles["certify"] if item_id in labels]
    scorer = Scorer.of(certificate)
    policies = dict(zip(rows, policies_of_rows(certificate, rows), strict=True))
    reached = tier_reached(certificate, judged, policies, scorer)
    names = [binding.judge for binding in certificate.judges]
    expected = predictions(run, values)
    return Known(
        {
            item_id: (expect_value(scorer, judged[names[j]][item_id], values), labels[item_id])
            for item_id, j in zip(rows, reached, strict=True)
        },
        expected.without(used_rows(run)),
    )


def _known_uncertified(
    run: Run, judged: Judged, annotations: Iterable[Annotation], values: Mapping[Label, float]
) -> Known:
    """As `known_rows`, where the labels are those of a sample of the run's own items.

    Certification rows that the run did not judge count as well, by their recorded votes and its thresholds.
    """
    certificate, scorer = run.header.certificate, Scorer.of(run.header.certificate)
    task, always = certificate.task, certificate.label_policy == "annotator"
    names, named = [binding.judge for binding in certificate.judges], run.header.uncertified or {}
    labels = annotation_means(task, sampled(run.annotations), values, always=always)
    outside = {*certificate.roles["certify"]} - places_of(run.items).keys() if judged else set()
    others = annotation_means(task, [n for n in annotations if n.item_id in outside], values, always=always)
    policy = Policy(tuple(named.get(name, ASKED_ONLY) for name in names), pooled=False)
    reached = tier_reached(certificate, judged, dict.fromkeys(others, policy), scorer)
    known = {
        item_id: (expect_value(scorer, judged[names[j]][item_id], values), others[item_id])
        for item_id, j in zip(others, reached, strict=True)
    }
    expected = predictions(run, values).without(certificate.roles["exemplars"])
    known |= {item_id: (expected[item_id], label) for item_id, label in labels.items() if item_id in expected}
    return Known(known, expected.without(labels))


def overall(
    run: Run, judged: Judged, annotations: Iterable[Annotation], groups: Groups, strata: Groups | None = None
) -> Overall:
    """The mean label of the population that certification rows and the run's items are drawn from.

    `judged` holds the full ensembles on the certification rows, `annotations` people's labels on these,
    `groups` the group of each item that has one, `strata` its kind. The labelled rows remove the bias of the
    predictions, the predictions for all items lower the variance (PPI++, `stats.inference.ppi_mean`). In
    groups, each group counts once: its items' predictions, and its labels, are averaged, and its kind is its
    first item's. With strata, labelled rows need be a uniform draw within each kind only:
    a kind weighs what it is of all rows; kinds with few labels are put together.
    """
    certificate = run.header.certificate
    values, reason = label_values(certificate.task), not_measurable(run)
    if values is None or reason:
        return Overall(None, reason or "labels without an order have no mean")
    mean = estimate_mean(known_rows(run, judged, annotations, values), values, groups, strata)
    if run.uncertified or not errors_are_counted(certificate):
        return mean
    return replace(mean, verdicts=verdict_limits(run, one_of_each(run, groups), INTERVAL_DELTA))


def calibration_overall(
    protocol: Protocol,
    annotations: Iterable[Annotation],
    judged: Judged,
    scorer: Scorer,
    items: Mapping[str, Item],
) -> Overall | None:
    """As `overall`, at calibration: certification and unlabelled pilot rows, as the last judge sees them.

    It does not depend on whether anything is certified, so that no figure is printed only where a test
    passed. None where the claim is about a batch, and where labels have no order.
    """
    values = label_values(protocol.task)
    if values is None or protocol.claim == "batch":
        return None
    notes = list(annotations)
    if dropped_ties(protocol.task, notes):
        return Overall(None, TIES)
    last = judged[protocol.judges[-1][0]]
    labels = annotation_means(protocol.task, notes, values, always=protocol.reference == "annotator")
    seen = {item_id: expect_value(scorer, row, values) for item_id, row in last.items()}
    rows = [item_id for item_id in protocol.roles["certify"] if item_id in labels and item_id in seen]
    groups = {item_id: items[item_id].group for item_id in seen if item_id in items}
    if len({unit_of(item_id, groups) for item_id in rows}) < FEWEST_LABELS:
        return Overall(None, f"fewer than {FEWEST_LABELS} labelled rows")
    used = {item_id for role, ids in protocol.roles.items() if role != "pilot" for item_id in ids}
    # Rows kept by their weights are of another population than the pilot.
    pilot = protocol.roles["pilot"] if protocol.weighting is None else ()
    fresh = {item_id: seen[item_id] for item_id in pilot if item_id in seen and item_id not in used}
    return estimate_mean(
        Known({item_id: (seen[item_id], labels[item_id]) for item_id in rows}, fresh), values, groups
    )


def estimate_mean(
    known: Known, values: Mapping[Label, float], groups: Groups, strata: Groups | None = None
) -> Overall:
    ids, rows = list(known.labelled), len(known.labelled)
    grouped = bool(groups) and any(map(groups.get, chain(ids, known.fresh)))
    unit = unit_codes(chain(ids, known.fresh), groups) if grouped else None
    ends = min(values.values()), max(values.values())
    predicted, labels = np.array(list(known.labelled.values()), dtype=np.float64).reshape(rows, 2).T
    fresh, units = np.fromiter(known.fresh.values(), np.float64, len(known.fresh)), None
    if unit is not None:
        units, (predicted, labels) = _average_by_unit(unit[:rows], predicted, labels)
        others, (fresh,) = _average_by_unit(unit[rows:], fresh)
        units = np.concatenate([units, others])
    survey = Survey(
        np.concatenate([predicted, fresh]), np.arange(len(labels)), labels, cluster=units, ends=ends
    )
    kinds = _kinds(chain(ids, known.fresh), unit, units, strata) if strata else ()
    by_kind, coarse = _estimate_strata(survey, kinds, ends) if strata else ((), None)
    mean = ppi_mean(survey._replace(stratum=coarse), INTERVAL_DELTA)
    return Overall(
        estimate=within(mean.estimate, ends),
        reason=mean.reason,
        interval=(within(mean.low, ends), within(mean.high, ends)),
        label_only=informative(mean.label_only, ends),
        usable=mean.usable,
        items=mean.items,
        labels=mean.labels,
        grouped=grouped,
        strata=by_kind,
        label_basis=mean.label_basis,
    )


def _average_by_unit(unit: CodeArray, *values: FloatArray) -> tuple[CodeArray, list[FloatArray]]:
    """The units in the order in which they come, and the mean of the values of each."""
    _, first, place = np.unique(unit, return_index=True, return_inverse=True)
    order = np.argsort(first)
    size = np.bincount(place)
    return unit[first[order]], [(np.bincount(place, each) / size)[order] for each in values]


def _kinds(
    ids: Iterable[str], unit: CodeArray | None, units: CodeArray | None, strata: Groups
) -> Sequence[str | None]:
    """The kind of each unit: that of its first item; without units, of each item."""
    if unit is None or units is None:
        return list(map(strata.get, ids))
    numbers, first = np.unique(unit, return_index=True)
    kinds = list(map(strata.get, ids))
    return [kinds[place] for place in first[np.searchsorted(numbers, units)].tolist()]


def errors_are_counted(certificate: Certificate) -> bool:
    """Whether alpha limits the share of wrong labels among released verdicts on one item of each group."""
    task = certificate.task
    if certificate.status == "expected":  # a mean over runs limits nothing in this one
        return False
    return task.kind is not TaskKind.RATING and task.ties != "half" and certificate.method != "clusters"


def _estimate_strata(
    survey: Survey, kinds: Sequence[str | None], ends: tuple[float, float]
) -> tuple[tuple[Stratum, ...], IntArray | None]:
    """Each kind by itself, all intervals holding at once; and the strata of the mean over all kinds."""
    names = sorted(set(kinds), key=lambda name: (name is None, name or ""))
    code = np.array([names.index(kind) for kind in kinds])
    coarse = coarse_strata(code, survey.labelled, survey.cluster)
    delta = simultaneous(INTERVAL_DELTA, len(names))
    records = []
    for k, name in enumerate(names):
        mine = np.flatnonzero(code == k)
        labelled = np.flatnonzero(np.isin(mine, survey.labelled))
        cluster = None if survey.cluster is None else survey.cluster[mine]
        part = Survey(
            survey.prediction[mine],
            labelled,
            survey.label[code[survey.labelled] == k],
            cluster=cluster,
            ends=ends,
        )
        pooled = coarse is None or bool(np.any((coarse == coarse[mine[0]]) & (code != k)))
        records.append(_estimate_stratum(name, part, delta, ends, pooled))
    return tuple(records), coarse


def _estimate_stratum(
    name: str | None, part: Survey, delta: float, ends: tuple[float, float], pooled: bool
) -> Stratum:
    items, labels = len(part.prediction), len(part.label)
    units = labels if part.cluster is None else len(np.unique(part.cluster[part.labelled]))
    if units < FEWEST_LABELS:
        reason = f"fewer than {FEWEST_LABELS} labels" if labels == units else "labels of one group only"
        return Stratum(name, items, labels, None, None, None, False, reason, pooled)
    mean = ppi_mean(part, delta)
    return Stratum(
        name,
        items,
        labels,
        within(mean.estimate, ends),
        (within(mean.low, ends), within(mean.high, ends)) if mean.usable else None,
        informative(mean.label_only, ends),
        mean.usable,
        mean.reason,
        pooled,
    )


def simultaneous(delta: float, comparisons: int) -> float:
    """The chance of missing that each of so many intervals may have, to miss anywhere with `delta` (Sidak).

    >>> round(simultaneous(0.05, 5), 4)
    0.0102
    """
    return float(-np.expm1(np.log1p(-delta) / comparisons))


def informative(limits: tuple[float, float], ends: tuple[float, float]) -> tuple[float, float]:
    """Limits within the scale.

    >>> informative((-0.1, 0.4), (0.0, 1.0))
    (0.0, 0.4)
    """
    return within(limits[0], ends), within(limits[1], ends)


def not_measurable(run: Run) -> str:
    """The reason why a run estimates no mean over all items; empty where it does."""
    certificate, region = run.header.certificate, run.header.certificate.region
    incomplete = run.header.status != "complete" or len(run.decisions) < run.header.items
    if incomplete or run.uncertified:
        return "the run is not complete" if incomplete else _not_measurable_uncertified(run)
    unjudged = not all(row.trail for row, _ in alike(run.decisions))
    reasons = (
        (bool(certificate.dropped_ties), TIES),
        (certificate.status == "none" or certificate.n < 2, "nothing is certified"),
        (
            region is not None and region.uniform < FEWEST_LABELS,
            "fewer than two labelled rows are from all items; those of a region do not stand for all",
        ),
        (certificate.status == "expected" and unjudged, "items that share a group have no verdict"),
        (
            certificate.group_by is not None and unjudged,
            f"items whose {certificate.group_by} has no certificate have no verdict",
        ),
        (not fresh_items(run), "every item of the run was labelled for the certificate"),
    )
    return next((why for holds, why in reasons if holds), "")


def _not_measurable_uncertified(run: Run) -> str:
    notes = sampled(run.annotations)
    if dropped_ties(run.header.certificate.task, notes):
        return TIES
    groups = groups_of(run.items)
    stated = stated_labels(run.header.certificate.task, notes)
    units = {unit_of(item_id, groups) for item_id in (*stated, *run.header.certificate.roles["certify"])}
    if len(units) < FEWEST_LABELS:
        return f"fewer than {FEWEST_LABELS} independent items have human labels, which correct the judges"
    return ""


def annotation_means(
    task: Task, notes: Sequence[Annotation], values: Mapping[Label, float], *, always: bool = False
) -> Mapping[str, float]:
    """The human label of each item as a number: the majority's; without one, for ratings, or `always`, the
    mean over its annotators."""
    means = always or task.kind is TaskKind.RATING
    won: Mapping[str, Label | None] = {} if means else majority(task, notes)
    labels = {}
    for item_id, stated in stated_labels(task, notes).items():
        label = won.get(item_id)
        stated_values = [values[note.label] for note in stated] if label is None else [values[label]]
        labels[item_id] = sum(stated_values) / len(stated_values)
    return labels


def verdict_limits(run: Run, taken: Collection[str], delta: float) -> tuple[float, float]:
    """Limits on the win or pass rate from released verdicts on the items `taken`; no label is used.

    A tie counts as lost in the lower one and as won in the upper one. `stats.inference.verdict_bounds`.
    """
    certificate = run.header.certificate
    mask = mask_of(taken, run.items)
    labels = Counter(row.label for place, row in placed_decisions(run) if mask[place])
    wins, losses = (labels[label] for label in certificate.task.labels[:2])
    items, released = labels.total(), labels.total() - labels[None]
    low, high = (
        verdict_bounds(won, released, items, largest_alpha(certificate), delta)
        for won in (wins, released - losses)
    )
    return low[0], high[1]


def agreement_limits(
    losses: Sequence[float], clusters: Sequence[str] | CodeArray, delta: float
) -> tuple[float, float]:
    """Limits on agreement from losses in [0, 1], a row each; rows of one cluster, by name or number, are
    clustered.

    >>> agreement_limits([0.0] * 60, [str(row % 20) for row in range(60)], 0.05)[1]
    1.0
    """
    place = np.unique(list(clusters), return_inverse=True)[1]
    return mean_interval(1 - np.array(losses, dtype=np.float64), delta, cluster=place)[:2]


def within(value: float, ends: tuple[float, float]) -> float:
    """A value, or the end of the scale that it lies beyond."""
    return min(max(value, ends[0]), ends[1])


def one_of_each(run: Run, groups: Groups) -> Chosen:
    """The first fresh item of each group, and all without a group."""
    fresh = fresh_items(run)
    if not groups:
        return fresh
    unit, places = unit_codes(fresh, groups), np.flatnonzero(fresh.mask)
    first = np.zeros(int(unit.max(initial=-1)) + 1, np.int32)
    first[unit[::-1]] = places[::-1]  # the last to be written is the first item
    return Chosen.of(run.items, first)


def first_of_each(ids: Iterable[str], groups: Groups) -> list[str]:
    first: dict[str, str] = {}
    for item_id in ids:
        first.setdefault(unit_of(item_id, groups), item_id)
    return list(first.values())


def unit_codes(ids: Iterable[str], groups: Groups) -> CodeArray:
    """A number for the unit of each item (n,), the same for items of one unit."""
    if not groups:
        return np.arange(sum(1 for _ in ids), dtype=np.int32)
    return number_texts(map(groups.get, ids))


def unit_of(item_id: str, groups: Groups) -> str:
    """The unit of an item: its group, or itself."""
    group = groups.get(item_id)
    return f"item {item_id}" if group is None else f"group {group}"
