"""Collect what is known of the label of each item of a run: human labels, predictions and verdicts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trustescalate.calibration.judged_rows import predictions
from trustescalate.calibration.losses import losses
from trustescalate.calibration.population import (
    FEWEST_LABELS,
    TIES,
    annotation_means,
    label_values,
    unit_codes,
)
from trustescalate.calibration.run_errors import run_errors
from trustescalate.data.dataset import Dataset
from trustescalate.data.item_sets import Chosen, mask_of
from trustescalate.data.labels import dropped_ties, sampled, skipped, stated_labels
from trustescalate.records import Item, Label, Run, TaskKind
from trustescalate.records.columns import Column, Distinct
from trustescalate.records.decisions import alike, placed_decisions
from trustescalate.records.item_columns import groups_of, ids_of, items_of, places_of
from trustescalate.records.stored import take_items
from trustescalate.stats.batch import errors_allowed
from trustescalate.stats.bounds import BoolArray, CodeArray, FloatArray, IntArray
from trustescalate.stats.inference import Survey, Target
from trustescalate.stats.product import Sampled, Verdicts, all_differ, strata_of_sizes
from trustescalate.stats.shift import score_alarm

PICKED_LEVEL = 0.01
"""A random draw of labelled items counts as selected in at most one run of a hundred."""


@dataclass(frozen=True, slots=True)
class ItemLabels:
    """N items and their labels on one scale, from `ends[0]` to `ends[1]`; or changes of labels.

    `unit` (N,): the cluster of each item. `expected` (N,): by the votes of the deepest judge, `first` (N,):
    by those of the first; `estimate` (N,): by people, a released verdict or else the votes. `label` (N,): by
    people, NaN where unknown; where everybody skipped, the middle of the scale, and it may lie `slack` (N,)
    from there, on either side. `drawn` (N,): labelled as part of a random draw of those items that are not
    `sure`; a label that is `sure` is known for a reason that the draw does not depend on. `fitted`:
    thresholds were chosen with some of the drawn labels, and so which judge is the deepest. `picked`: the
    drawn are judged differently from the rest, in either run or in the change. `same` (N,): with changes,
    items whose change is 0. `missing` (N,): labels that are needed until `label` is known. `verdicts` limit
    the labels, except with probability `failure`; None with the reason `why`.
    """

    items: Sequence[Item]
    unit: CodeArray
    ends: tuple[float, float]
    expected: FloatArray
    first: FloatArray
    estimate: FloatArray
    label: FloatArray
    slack: FloatArray
    drawn: BoolArray
    sure: BoolArray
    same: BoolArray
    missing: NDArray[np.int8]
    fitted: bool
    picked: bool
    verdicts: Verdicts | None
    failure: float
    why: str = ""

    def of(self, rows: BoolArray | IntArray) -> "ItemLabels":
        """Take some of the items, in this order."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        if len(chosen) == len(self.items) and (chosen[1:] > chosen[:-1]).all():
            return self  # all of them
        return replace(
            self,
            items=take_items(self.items, Column("I", chosen)),
            unit=self.unit[chosen],
            expected=self.expected[chosen],
            first=self.first[chosen],
            estimate=self.estimate[chosen],
            label=self.label[chosen],
            slack=self.slack[chosen],
            drawn=self.drawn[chosen],
            sure=self.sure[chosen],
            same=self.same[chosen],
            missing=self.missing[chosen],
            verdicts=None if self.verdicts is None else self.verdicts.of(rows),
        )

    def moved(self, side: int) -> "ItemLabels":
        """The labels with all that everybody skipped at one end: -1 the lower, 1 the upper."""
        return replace(self, label=self.label + side * self.slack)

    @property
    def alone(self) -> bool:
        """Whether each item is a cluster by itself."""
        return all_differ(self.unit)

    @property
    def units(self) -> int:
        """The number of independent items among the drawn."""
        return len(np.unique(self.unit[self.drawn]))

    @property
    def all_labelled(self) -> bool:
        """Whether people labelled every item."""
        return bool(len(self.items)) and not np.isnan(self.label).any()


def why_no_mean(run: Run, data: Dataset) -> str:
    """State why the items of a run have no mean label; "" where they have one."""
    certificate = run.header.certificate
    task, known = certificate.task, places_of(run.items)
    notes = [note for note in data.annotations if note.item_id in known]
    nobody = certificate.skipped or skipped(data.notes_on(run.items, data.annotated))
    reasons = (
        (task.kind is TaskKind.CHOICE, "labels without an order have no mean"),
        (
            run.header.status != "complete" or len(run.decisions) < run.header.items,
            "the run is not complete",
        ),
        (bool(certificate.dropped_ties or dropped_ties(task, notes)), TIES),
        (
            task.skips == "outside" and nobody > 0,
            "annotators skip some items, and which of the others those are is unknown",
        ),
    )
    return next((why for holds, why in reasons if holds), "")


def labels_of(run: Run, data: Dataset, level: float) -> ItemLabels:
    """Collect the labels of a complete run's items whose labels have an order (`why_no_mean`).

    Human labels count where the texts are those of the run. Verdicts fail with probability `level` beyond
    that of the certificate.
    """
    certificate = run.header.certificate
    task, values, batch = certificate.task, label_values(certificate.task), certificate.batch
    assert values is not None
    ends = min(values.values()), max(values.values())
    notes = data.notes_on(run.items, data.annotated)
    always = certificate.label_policy == "annotator"
    human = annotation_means(task, notes, values, always=always)
    by_draw = {note.item_id for note in sampled(notes)}
    if batch is not None:
        by_draw &= set(certificate.roles["certify"])
    certify, free = set(certificate.roles["certify"]), certificate.status == "none" or batch is not None
    # Labelled items of [data] that a run judges beside those without labels need not be alike them.
    fixed = ["exemplars", "dev", *([] if run.header.items_file or free else ["certify", "holdout"])]
    apart = {item_id for role in fixed for item_id in certificate.roles.get(role, ())}
    ids, places = ids_of(run.items), places_of(run.items)
    label = np.full(len(ids), np.nan)
    for item_id, value in human.items():
        label[places[item_id]] = value
    expected = np.full(len(ids), np.mean(ends)) if batch is not None else _expected(run, values, -1, ends)
    deep = batch is None and any(len(row.trail) > 1 for row, _ in alike(run.decisions))
    first = _expected(run, values, 0, ends) if deep else expected
    verdicts, failure, why = _verdicts(run, data, level, label)
    estimate, noted = _estimates(run, label, expected), {note.item_id for note in notes}
    skips = np.isnan(label) & mask_of(noted, run.items)
    label = np.where(skips, (ends[0] + ends[1]) / 2, label)
    if batch is None and _some_changed(run, data):
        apart |= noted  # of the others only these are known, and nothing of those that changed
    sure = mask_of(apart, run.items) & ~np.isnan(label)
    drawn = mask_of(by_draw, run.items) & ~np.isnan(label) & ~sure
    labels = ItemLabels(
        items=run.items,
        # The rows of a batch were drawn item by item: no matter which of them are alike.
        unit=np.arange(len(ids), dtype=np.int32) if batch is not None else _units(run.items),
        ends=ends,
        expected=expected,
        first=first,
        estimate=estimate,
        label=label,
        slack=_only(skips, (ends[1] - ends[0]) / 2),
        drawn=drawn,
        sure=sure,
        same=np.zeros(len(ids), dtype=np.bool_),
        missing=np.isnan(label).astype(np.int8),
        fitted=not free and any(ids[int(row)] in certify for row in np.flatnonzero(drawn)),
        picked=False,
        verdicts=verdicts,
        failure=failure,
        why=why,
    )
    return labels if batch is not None else replace(labels, picked=_were_picked(labels, labels.expected))


def changes_of(
    after: ItemLabels, before: ItemLabels, rows: tuple[IntArray, IntArray], failure: float
) -> ItemLabels:
    """Collect the changes of the labels of matched items, which are at places `rows` in both.

    Items with equal texts change by 0.
    """
    now, then = rows
    items, others = (take_items(s.items, Column("I", k)) for s, k in ((after, now), (before, then)))
    same = np.array([one.shown == other.shown for one, other in zip(items, others, strict=True)])
    low, high = after.ends[0] - before.ends[1], after.ends[1] - before.ends[0]
    label = np.where(same, 0.0, after.label[now] - before.label[then])
    sure_now, sure_then = after.sure[now], before.sure[then]
    sure = same | (sure_now & sure_then)
    known = (after.drawn[now] | sure_now) & (before.drawn[then] | sure_then)
    drawn = known & ~sure
    apart = [each.why for each in (after, before) if each.verdicts is None]
    labels = ItemLabels(
        items=items,
        unit=_units(items),
        ends=(low, high),
        expected=np.where(same, 0.0, after.expected[now] - before.expected[then]),
        first=np.where(same, 0.0, after.first[now] - before.first[then]),
        estimate=np.where(same, 0.0, after.estimate[now] - before.estimate[then]),
        label=label,
        slack=np.where(same, 0.0, after.slack[now] + before.slack[then]),
        drawn=drawn,
        sure=sure,
        same=same,
        missing=np.where(same, 0, after.missing[now] + before.missing[then]),
        fitted=after.fitted or before.fitted or bool((drawn & (sure_now | sure_then)).any()),
        picked=False,
        verdicts=None,
        failure=failure,
        why=apart[0] if apart else "",
    )
    seen = labels.expected, after.expected[now], before.expected[then]
    return replace(labels, picked=_were_picked(labels, *seen))


def limits_between(labels: ItemLabels, limits: Callable[[ItemLabels], Sampled]) -> Sampled:
    """Limits whatever the labels of skipped items are, from one end of the scale to the other."""
    if not labels.slack.any():
        return limits(labels)
    low, high = limits(labels.moved(-1)), limits(labels.moved(1))
    number = int(np.count_nonzero(labels.slack))
    return high._replace(
        estimate=(low.estimate + high.estimate) / 2,
        low=low.low,
        high=high.high,
        residual=max(low.residual, high.residual),
        spread=max(low.spread, high.spread),
        reason=f"{number:,} of these items were skipped by every annotator, so that their labels are unknown",
    )


def _were_picked(labels: ItemLabels, *expected: FloatArray) -> bool:
    """Whether any of these predictions differ between the drawn and the rest: then they are no random draw.

    No label is looked at. Each cluster counts by its mean.
    """
    unit = None if labels.alone else labels.unit
    chosen = labels.drawn, ~labels.drawn & ~labels.sure
    first, second = ([_means_by_unit(unit, each, rows) for each in expected] for rows in chosen)
    return bool(score_alarm(first, second, PICKED_LEVEL).raised.any())


def _means_by_unit(unit: CodeArray | None, values: FloatArray, rows: BoolArray) -> FloatArray:
    if unit is None:
        return values[rows]
    size = np.bincount(unit[rows])
    return np.bincount(unit[rows], values[rows])[size > 0] / size[size > 0]


def _expected(run: Run, values: Mapping[Label, float], tier: int, ends: tuple[float, float]) -> FloatArray:
    """The predictions; for items that were not judged, their mean."""
    numbers = predictions(run, values, tier).numbers
    known = ~np.isnan(numbers)
    if known.all():
        return numbers
    return np.where(known, numbers, np.mean(numbers[known] if known.any() else ends))


def _only(rows: BoolArray, value: float) -> FloatArray:
    """The value in these rows, 0 in others: pages of memory that hold nothing else are not taken."""
    numbers = np.zeros(len(rows))
    numbers[rows] = value
    return numbers


def _units(items: Sequence[Item]) -> CodeArray:
    return unit_codes(ids_of(items), groups_of(items))


def _some_changed(run: Run, data: Dataset) -> bool:
    """Whether labelled items of the run have other texts in [data]; those with the same are no draw."""
    texts = {item.id: item.shown for item in items_of(run.items, data.annotated)}
    return any(texts[item.id] != item.shown for item in items_of(data.items, texts))


def _estimates(run: Run, label: FloatArray, expected: FloatArray) -> FloatArray:
    """The label of each item: by people, by a released verdict, or else as the votes expect it."""
    values = label_values(run.header.certificate.task) or {}
    estimate = np.where(np.isnan(label), expected, label)
    for place, row in placed_decisions(run):
        if row.label is not None and np.isnan(label[place]):
            estimate[place] = values[row.label]
    return estimate


def _verdicts(run: Run, data: Dataset, level: float, label: FloatArray) -> tuple[Verdicts | None, float, str]:
    """Limits on the labels from released verdicts, with their probability to fail, or why there are none."""
    certificate = run.header.certificate
    task, policy, batch = certificate.task, certificate.label_policy, certificate.batch
    values = label_values(task) or {}
    low, high = min(values.values()), max(values.values())
    if task.kind is TaskKind.RATING and policy == "majority" and _disagree(run, data):
        return (
            None,
            0.0,
            "people rate some items differently, and verdicts agree with the majority's grade only",
        )
    if batch is not None and certificate.status == "certified":
        by_judges = (place for place, row in placed_decisions(run) if row.judge is not None)
        released: Collection[str] = Chosen.of(run.items, by_judges)
        accepted = 0 if certificate.chosen is None else certificate.tests[certificate.chosen].accepted
        limit, failure = int(errors_allowed(accepted, certificate.alpha)), certificate.delta
    else:
        limit, _, why = run_errors(run, level)
        failure = certificate.delta + level
        if why:
            return None, 0.0, why
        released = run.independent
    lost = losses(task, policy, data.notes_on(run.items, data.annotated))
    used, counted, ids = 0.0, mask_of(released, run.items), ids_of(run.items)
    kinds, kind = Distinct[tuple[float, float, float, float]](), np.zeros(len(label), np.int32)
    kinds.number((low, high, 0.0, 0.0))  # of the items without a verdict
    for k, row in placed_decisions(run):
        if not counted[k] or row.judge is None or row.label is None:
            continue
        if not np.isnan(label[k]):
            used += lost.get(ids[k], {}).get(row.label, 0.0)
            continue
        bottom = max(low, values[row.label] - task.tolerance)
        top = min(high, values[row.label] + task.tolerance)
        kind[k] = kinds.number((bottom, top, bottom - low, high - top))
    for k in np.flatnonzero(~np.isnan(label)).tolist():
        kind[k] = kinds.number((float(label[k]), float(label[k]), 0.0, 0.0))
    per_loss = high - low if task.ties == "half" else None
    bottoms, tops, falls, rises = np.array(kinds.known).T
    limits = Verdicts(kind, bottoms, tops, falls, rises, max(0.0, limit - used), per_loss)
    return limits, failure, ""


def _disagree(run: Run, data: Dataset) -> bool:
    task = run.header.certificate.task
    stated = stated_labels(task, data.annotations).values()
    return any(len({note.label for note in notes}) > 1 for notes in stated)


def whole_survey(labels: ItemLabels) -> Survey:
    """All items, each with its label."""
    size = len(labels.items)
    return Survey(np.zeros(size), np.arange(size), labels.label, ends=labels.ends)


def survey_of(labels: ItemLabels, target: Target) -> tuple[Survey, FloatArray]:
    """The items that labels were drawn from, and the labels of the others.

    Clusters of one size are a stratum where one of each cluster was drawn: then those in clusters of one size
    were as likely to be drawn as each other. For a population the items without a change are a
    stratum too, all of it labelled.
    """
    drawn, stratum = labels.drawn, None
    rest = ~labels.sure if target == "batch" else ~labels.sure | labels.same
    cluster = None
    if not labels.alone:
        unit = labels.unit[rest]
        size = np.bincount(unit)[unit]
        cluster = unit if size.max() > 1 else None
        if np.ptp(size) > 0:
            stratum = strata_of_sizes(size, np.flatnonzero(drawn[rest]), unit, fewest=FEWEST_LABELS)
    if target == "population" and len(np.unique(labels.unit[labels.same])) >= FEWEST_LABELS:
        drawn = drawn | labels.same
        stratum = labels.same[rest].astype(np.int64)
    predicted = (labels.first if labels.fitted else labels.expected)[rest]
    survey = Survey(
        predicted,
        np.flatnonzero(drawn[rest]),
        labels.label[drawn],
        stratum=stratum,
        cluster=cluster,
        ends=labels.ends,
    )
    return survey, labels.label[~rest]
