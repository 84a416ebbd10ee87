"""Estimate the mean of each criterion over all items, and their weighted total."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from trustescalate.calibration.population import (
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
from trustescalate.data.clusters import independent_items, own_group
from trustescalate.records import Annotation, Item, Overall, Run, Task
from trustescalate.records.criteria import Criteria, CriterionMean, RowName, row_name
from trustescalate.records.policies import certified_groups

UNIT = {"lowest": 0.0, "highest": 1.0}
"""The ends of the scale of the total."""


def criteria_estimates(
    config: Config, run: Run, judged: Judged, annotations: Iterable[Annotation], items: Mapping[str, Item]
) -> Criteria:
    """The criteria of a run, each with its mean over all items, and the weighted total.

    `items` are the rows by id, of the run and of its certificate. Each criterion is estimated as a task of
    its own (`calibration.population.overall`), on rows of which an item has one. The total is the mean over
    items of their weighted values: predictions of all items that were judged on every criterion, corrected by
    the items that people labelled on every one. An item is one unit in all of them, and clusters stay
    clusters.
    """
    notes: dict[str, list[Annotation]] = defaultdict(list)
    for note in annotations:
        notes[note.criterion or ""].append(note)
    names = {item_id: row_name(item) for item_id, item in items.items()}
    groups = {
        item_id: None if item.group == own_group(item) else item.group for item_id, item in items.items()
    }
    guaranteed = {guarantee.value: guarantee for guarantee in run.header.certificate.groups}
    passed = {guarantee.value for guarantee in certified_groups(run.header.certificate)}
    each, known = [], {}
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
            known[table.name] = _by_item(known_rows(part, judged, notes[table.name], values), values, names)
    total = _total(config, known, each, {name.item_id: groups[row] for row, name in names.items()})
    return Criteria(tuple(each), total)


def part_of(run: Run, name: str, task: Task, items: Mapping[str, Item]) -> Run:
    """The part of a run that is about one criterion, as a run of its own.

    `items` are the rows by id, of the run and of its certificate.
    """
    own = {item_id for item_id, item in items.items() if row_name(item).criterion == name}
    certificate = run.header.certificate
    roles = {role: tuple(row for row in ids if row in own) for role, ids in certificate.roles.items()}
    judged = tuple(item for item in run.items if item.id in own)
    certificate = replace(
        certificate,
        task=task,
        roles=roles,
        groups=tuple(guarantee for guarantee in certificate.groups if guarantee.value == name),
    )
    header = replace(run.header, items=len(judged), certificate=certificate)
    known = [item for item_id, item in items.items() if item_id in own]
    return replace(
        run,
        header=header,
        items=judged,
        judgments=tuple(row for row in run.judgments if row.item_id in own),
        decisions=tuple(row for row in run.decisions if row.item_id in own),
        annotations=tuple(note for note in run.annotations if note.item_id in own),
        independent=independent_items(judged, known, used_items(header), certificate.seed),
    )


def _by_item(known: Known, values: Mapping[str, float], names: Mapping[str, RowName]) -> Known:
    """The values of rows as places between the ends of their scale, by item."""
    low, high = min(values.values()), max(values.values())

    def place(value: float) -> float:
        return (value - low) / (high - low)

    return Known(
        {names[row].item_id: (place(a), place(b)) for row, (a, b) in known.labelled.items()},
        {names[row].item_id: place(value) for row, value in known.fresh.items()},
    )


def _total(
    config: Config, known: Mapping[str, Known], each: Sequence[CriterionMean], groups: Groups
) -> Overall:
    missing = [one for one in each if one.name not in known]
    if missing:
        return Overall(None, f"{missing[0].name!r} has no mean: {missing[0].mean.reason}")
    weights = {table.name: table.weight for table in config.criteria}
    whole = sum(weights.values())

    def on_all(rows: Sequence[Mapping[str, object]]) -> list[str]:
        return [item_id for item_id in rows[0] if all(item_id in row for row in rows)]

    labelled, fresh = ([getattr(known[name], side) for name in weights] for side in ("labelled", "fresh"))
    total = Known(
        {
            item_id: (
                sum(weights[name] * known[name].labelled[item_id][0] for name in weights) / whole,
                sum(weights[name] * known[name].labelled[item_id][1] for name in weights) / whole,
            )
            for item_id in on_all(labelled)
        },
        {
            item_id: sum(weights[name] * known[name].fresh[item_id] for name in weights) / whole
            for item_id in on_all(fresh)
        },
    )
    if len(total.labelled) < 2 or not total.fresh:
        return Overall(None, "fewer than two items are labelled on every criterion, or none is judged on all")
    return estimate_mean(total, UNIT, groups)
