"""State what a run says of the product by criterion, and by the weighted total of all criteria."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from trustescalate.analysis.criteria import part_of, rows_of
from trustescalate.analysis.product import Compared, product
from trustescalate.calibration.population import label_values
from trustescalate.config import Config
from trustescalate.config.criteria import GATE_KEYS, CriterionTable
from trustescalate.data.dataset import Dataset
from trustescalate.records import Change, ItemsMean, Limits, Product, Requirement, Run
from trustescalate.records.criteria import BY_CRITERION
from trustescalate.stats.this_run import LEVEL

WIDEST = 0.98
"""Half the width of a 95 % interval from one label on a scale from 0 to 1, at most: twice its deviation."""


def criteria_product(
    config: Config, run: Run, data: Dataset, baseline: Compared | None = None, reason: str = ""
) -> Product:
    """As `product`, for each criterion on its own scale, and for their weighted total from 0 to 1.

    The limits of all criteria hold together (Bonferroni), so that those of the total follow from them: its
    ends are the weighted means of their ends. The first mean and the first change are those of the total.
    """
    each = [
        _jointly(_of_criterion(config, table, run, data, baseline, reason), len(config.criteria), baseline)
        for table in config.criteria
    ]
    reasons = [one.reason for one in each if one.reason]
    total = ItemsMean(None, _weighted(config, [one.means[0].first for one in each]))
    changes = [one.changes[0] for one in each if one.changes]
    change = None
    if len(changes) == len(each):
        first = _weighted(config, [one.first for one in changes], change=True)
        change = Change(None, first, None, changes[0].matched, changes[0].same)
    return Product(
        means=(
            total,
            *(
                replace(one.means[0], group=name.name)
                for name, one in zip(config.criteria, each, strict=True)
            ),
        ),
        changes=()
        if change is None
        else (
            change,
            *(replace(one, group=name.name) for name, one in zip(config.criteria, changes, strict=True)),
        ),
        by=BY_CRITERION,
        baseline=each[0].baseline,
        only_here=each[0].only_here,
        only_baseline=each[0].only_baseline,
        requirements=(
            *_of_total(config, total, change, reasons),
            *(
                replace(asked, about=table.name)
                for table, one in zip(config.criteria, each, strict=True)
                for asked in one.requirements
            ),
        ),
        reason=reasons[0] if reasons else "",
    )


def _of_criterion(
    config: Config,
    table: CriterionTable,
    run: Run,
    data: Dataset,
    baseline: Compared | None,
    reason: str,
) -> Product:
    asked = {key: getattr(table, key) for key in GATE_KEYS}
    own = config.model_copy(update={"gate": config.gate.model_copy(update=asked)})
    part = _part(config, table, run, data)
    other = None if baseline is None else _part(config, table, *baseline)
    return product(own, *part, other, reason, comparisons=len(config.criteria))


def _jointly(one: Product, count: int, baseline: Compared | None) -> Product:
    """The product of one of `count` criteria, with the probability that the limits of all of them hold.

    Each spends its own part of the level beyond the guarantee, which all share: on either side of a change.
    """
    spent = (count - 1) * (LEVEL if baseline is None else LEVEL / 2) / count

    def joint(limits: Limits, sides: int) -> Limits:
        if limits.basis != "verdicts":
            return limits
        return replace(limits, confidence=round(limits.confidence - sides * spent, 9))

    def second(limits: Limits | None, sides: int) -> Limits | None:
        return None if limits is None else joint(limits, sides)

    return replace(
        one,
        means=tuple(
            replace(mean, first=joint(mean.first, 1), second=second(mean.second, 1)) for mean in one.means
        ),
        changes=tuple(
            replace(change, first=joint(change.first, 2), second=second(change.second, 2))
            for change in one.changes
        ),
        requirements=tuple(
            replace(asked, limits=joint(asked.limits, 1 if asked.key == "min_rate" else 2))
            for asked in one.requirements
        ),
    )


def _part(config: Config, table: CriterionTable, run: Run, data: Dataset) -> Compared:
    """The run and the data of one criterion."""
    task = table.task(config.task)
    return part_of(run, table.name, task, data.items), rows_of(data, table.name)


def _weighted(config: Config, each: Sequence[Limits], *, change: bool = False) -> Limits:
    """The limits of the weighted total, or of its change; all limits of `each` hold together."""
    items = min(limits.items for limits in each)
    for table, limits in zip(config.criteria, each, strict=True):
        if limits.basis == "none":
            why = f"{table.name}: {limits.reason or 'nothing limits it'}"
            return Limits(None, -1.0 if change else 0.0, 1.0, 1.0, "none", items, reason=why)
    whole = sum(table.weight for table in config.criteria)
    ends = []
    for table in config.criteria:
        values = (label_values(table.task(config.task)) or {"": 0.0, " ": 1.0}).values()
        ends.append((min(values), max(values)))

    def total(values: Sequence[float]) -> float:
        placed = [
            (value - (0.0 if change else low)) / (high - low)
            for value, (low, high) in zip(values, ends, strict=True)
        ]
        return sum(table.weight * place for table, place in zip(config.criteria, placed, strict=True)) / whole

    known = [limits.estimate for limits in each if limits.estimate is not None]
    weakest = min(each, key=lambda limits: limits.confidence)
    return Limits(
        total(known) if len(known) == len(each) else None,
        total([limits.low for limits in each]),
        total([limits.high for limits in each]),
        weakest.confidence,
        weakest.basis,
        items,
        min(limits.labels for limits in each),
        next((limits.reason for limits in each if limits.reason), ""),
    )


def _of_total(
    config: Config, total: ItemsMean, change: Change | None, reasons: Sequence[str]
) -> Sequence[Requirement]:
    """Hold the product checks of [gate] against the weighted total."""
    asked: list[Requirement] = []
    for key, required, mean in (
        ("min_rate", config.gate.min_rate, total.first),
        ("max_drop", config.gate.max_drop, None if change is None else change.first),
        ("min_gain", config.gate.min_gain, None if change is None else change.first),
    ):
        if required is None:
            continue
        why = reasons[0] if reasons else "no baseline is named"
        limits = mean or Limits(None, -1.0, 1.0, 1.0, "none", total.first.items, reason=why)
        value = -required if key == "max_drop" else required
        asked.append(Requirement(key, required, None, limits, _needed(config, limits, value)))  # type: ignore[arg-type]
    return asked


def _needed(config: Config, limits: Limits, value: float) -> int | None:
    """About how many more labels decide on which side of `value` the total lies, all criteria together."""
    if limits.basis == "none" or limits.low >= value or limits.high < value:
        return None if limits.basis == "none" else 0
    middle = (limits.low + limits.high) / 2 if limits.estimate is None else limits.estimate
    gap, left = abs(middle - value), limits.items - limits.labels
    half = (limits.high - limits.low) / 2 if limits.labels and limits.basis != "verdicts" else WIDEST
    count = limits.labels if limits.labels and limits.basis != "verdicts" else 1
    wanted = left if gap == 0 else min(left, ceil(count * (half / gap) ** 2) - limits.labels)
    return max(1, wanted) * len(config.criteria)
