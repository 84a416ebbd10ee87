"""Estimate the mean of each criterion over all items, and their weighted total."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from trustescalate.calibration.population import (
    FEWEST_LABELS,
    Groups,
    Judged,
    Known,
    estimate_mean,
    known_rows,
    label_values,
    not_measurable,
    overall,
)
from trustescalate.cascade.run_folder import used_items
from trustescalate.config import Config
from trustescalate.data.clusters import independent_items
from trustescalate.data.dataset import Dataset
from trustescalate.data.item_sets import Numbers
from trustescalate.records import Annotation, Item, Label, Overall, Run, Task
from trustescalate.records.columns import Codes, Column
from trustescalate.records.criteria import Criteria, CriterionMean, cluster_of_rows, row_id, split_row_id
from trustescalate.records.item_columns import clusters_of, ids_of, joined_values, places_of, value_by_id
from trustescalate.records.policies import certified_groups
from trustescalate.records.stored import select_items, take_rows

UNIT = {"lowest": 0.0, "highest": 1.0}
"""The ends of the scale of the total."""


def criteria_estimates(
    config: Config, run: Run, judged: Judged, annotations: Iterable[Annotation], items: Sequence[Item]
) -> Criteria:
    """The criteria of a run, each with its mean over all items, and the weighted total.

    `items` are the rows that its certificate was made from. Each criterion is estimated as a task of its own
    (`calibration.population.overall`), on rows of which an item has one. The total is the mean over items of
    their weighted values: predictions of all items that were judged on every criterion, corrected by the
    items that people labelled on every one. An item is one unit in all of them, and clusters stay clusters.
    """
    notes: dict[str, list[Annotation]] = defaultdict(list)
    for note in annotations:
        notes[note.criterion or ""].append(note)
    groups = joined_values(value_by_id(items, _own_clusters(items)), run.items, _own_clusters(run.items))
    guaranteed = {guarantee.value: guarantee for guarantee in run.header.certificate.groups}
    passed = {guarantee.value for guarantee in certified_groups(run.header.certificate)}
    each, total = list[CriterionMean](), _Total(config)
    for table in config.criteria:
        task = table.task(config.task)
        values = label_values(task)
        part = part_of(run, table.name, task, items)
        alpha = config.groups.alpha.get(table.name, config.guarantee.alpha)
        if table.name in guaranteed:
            alpha = guaranteed[table.name].alpha
        each.append(
            CriterionMean(
                table.name,
                table.weight,
                None if values is None else (min(values.values()), max(values.values())),
                alpha,
                table.name in passed,
                len(part.decisions),
                sum(decision.label is not None for decision in part.decisions),
                overall(part, judged, notes[table.name], groups),
            )
        )
        if values is not None and not not_measurable(part):
            known = known_rows(part, judged, notes[table.name], values)
            total.add(table.name, part.items, known, values)
    return Criteria(tuple(each), total.overall(each, groups))


def part_of(run: Run, name: str, task: Task, items: Sequence[Item]) -> Run:
    """The part of a run that is about one criterion, as a run of its own.

    `items` are the rows that its certificate was made from.
    """
    certificate = run.header.certificate
    roles = {role: tuple(filter(_is_of(name), ids)) for role, ids in certificate.roles.items()}
    groups = tuple(guarantee for guarantee in certificate.groups if guarantee.value == name)
    certificate = replace(certificate, task=task, roles=roles, groups=groups)
    own = _is_of(name)
    part = take_rows(run, Column("I", (place for place, row in enumerate(ids_of(run.items)) if own(row))))
    header = replace(run.header, items=len(part.items), certificate=certificate)
    independent = independent_items(part.items, items, used_items(header), certificate.seed)
    return replace(part, header=header, independent=independent)


def rows_of(data: Dataset, name: str) -> Dataset:
    """The rows of one criterion."""
    notes = tuple(note for note in data.annotations if note.criterion == name)
    return Dataset(select_items(data.items, _is_of(name)), notes)


def _is_of(name: str) -> Callable[[str], bool]:
    """Whether the id of a row names this criterion."""
    return lambda row: split_row_id(row).criterion == name


def _own_clusters(items: Sequence[Item]) -> Codes:
    """The cluster of the item of each row, if it is in one: an item is no cluster of its own rows."""
    rows = zip(ids_of(items), clusters_of(items), strict=True)
    return Codes(
        None if group == cluster_of_rows(split_row_id(row).item_id, None) else group for row, group in rows
    )


class _Total:
    """Sums the values of each item over the criteria, as places between the ends of their scales.

    An item stands under the id of its row of the first criterion, `rows` being those rows.
    """

    def __init__(self, config: Config) -> None:
        self._weights = {table.name: table.weight for table in config.criteria}
        self._added: list[str] = []
        self._labelled: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._rows: Sequence[Item] = ()
        self._sum, self._count = np.zeros(0), np.zeros(0, np.int32)

    def add(self, name: str, rows: Sequence[Item], known: Known, values: Mapping[Label, float]) -> None:
        """Add what is known of the `rows` of a criterion."""
        low, high = min(values.values()), max(values.values())
        if not self._added:
            self._rows, self._sum = rows, np.zeros(len(rows))
            self._count = np.zeros(len(rows), np.int32)
        self._added.append(name)
        weight, places = self._weights[name], places_of(self._rows)
        for row, pair in known.labelled.items():
            predicted, label = ((value - low) / (high - low) for value in pair)
            self._labelled[self._first(row)].append((weight * predicted, weight * label))
        for row, value in zip(known.fresh, known.fresh.values(), strict=True):
            place = places.get(self._first(row))
            if place is not None:
                self._sum[place] += weight * ((value - low) / (high - low))
                self._count[place] += 1

    def _first(self, row: str) -> str:
        return row_id(split_row_id(row).item_id, self._added[0])

    def overall(self, each: Sequence[CriterionMean], groups: Groups) -> Overall:
        """The mean over the items that are known on every criterion."""
        missing = [one for one in each if one.name not in self._added]
        if missing:
            return Overall(None, f"{missing[0].name!r} has no mean: {missing[0].mean.reason}")
        whole = sum(self._weights.values())
        labelled = {
            row: (sum(predicted for predicted, _ in pairs) / whole, sum(label for _, label in pairs) / whole)
            for row, pairs in self._labelled.items()
            if len(pairs) == len(each)
        }
        mean = np.where(self._count == len(each), self._sum / whole, np.nan)
        known = Known(labelled, Numbers(self._rows, mean))
        if len(known.labelled) < FEWEST_LABELS or not known.fresh:
            return Overall(
                None, "fewer than two items are labelled on every criterion, or none is judged on all"
            )
        return estimate_mean(known, UNIT, groups)
