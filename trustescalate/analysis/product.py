"""State what a run says of the product: the mean label of its items, and the change against a baseline.

Limits rest on human labels of the items themselves, or on released verdicts (`stats.product`). Which of the
two is read first is decided by counts.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trustescalate.analysis.item_labels import (
    ItemLabels,
    changes_of,
    labels_of,
    limits_between,
    survey_of,
    whole_survey,
    why_no_mean,
)
from trustescalate.analysis.pairing import NO_PAIRS, Pairs, match_items
from trustescalate.calibration.population import (
    FEWEST_LABELS,
    INTERVAL_DELTA,
    Groups,
    errors_are_counted,
    label_values,
    one_of_each,
    verdict_limits,
)
from trustescalate.config import Config
from trustescalate.config.tables import GateTable
from trustescalate.data.dataset import Dataset
from trustescalate.data.item_sets import Chosen, mask_of
from trustescalate.records import Change, ItemsMean, Limits, Product, Requirement, Run
from trustescalate.records.item_columns import groups_of
from trustescalate.records.item_fields import value_of
from trustescalate.records.product import PICKED, Basis
from trustescalate.stats.bounds import IntArray
from trustescalate.stats.inference import Target
from trustescalate.stats.product import (
    FIRST,
    Sampled,
    change_limits,
    items_limits,
    labels_needed,
    sampled_limits,
)
from trustescalate.stats.this_run import LEVEL

Unit = Literal["human labels", "items"]
Key = Literal["min_rate", "max_drop", "min_gain"]
Compared = tuple[Run, Dataset]
NO_BASELINE = "no baseline is named"
NO_MATCH = "no item of this group is in both runs"
SHIFTED = "the distribution-shift check of the baseline raises an alarm"
NO_VALUE, ANYTHING = "(no value)", "their change may be anything"
BY_GROUP = "the certificate limits errors over all items, not over those of one group of a population"
NOBODY = np.zeros(0, dtype=np.int64)
NO_SHARE = "the certificate limits no share of wrong verdicts in the population"
HINT = 'name the key by which items match: [gate] match = "meta.<key>"'


@dataclass(slots=True, eq=False)
class _Cell:
    """The items of one mean or of one change, of all or of one group, and the limits of both bases.

    `scale` is the length of the scale of one label; `planned` the variance of a prediction's error at
    calibration. `apart` holds both runs' labels of the items that differ, where people labelled different
    ones in each: then each mean is estimated by itself. `unmatched` items of either run are not in the other:
    their change may be anything.
    """

    group: str | None
    labels: ItemLabels
    verdicts: Limits
    scale: float
    planned: float
    apart: tuple[ItemLabels, ItemLabels] | None = None
    unmatched: int = 0
    by_labels: Limits | None = None
    sampled: Sampled | None = None

    def is_exact(self, target: Target) -> bool:
        """Whether people labelled all that the mean is over."""
        return target == "batch" and self.labels.all_labelled

    @property
    def has_draw(self) -> bool:
        """Whether there are labels to estimate from."""
        return self.apart is not None or (not self.labels.picked and self.units >= FEWEST_LABELS)

    @property
    def units(self) -> int:
        """The number of independent labelled items."""
        return self.labels.units if self.apart is None else min(side.units for side in self.apart)

    @property
    def drawn(self) -> int:
        """The number of labelled items, or of those of the run that has fewer."""
        sides = (self.labels,) if self.apart is None else self.apart
        return min(int(side.drawn.sum()) for side in sides)

    @property
    def first(self) -> Limits:
        """The basis that is read first."""
        return self._widened(self._ordered()[0])

    @property
    def second(self) -> Limits | None:
        """The other basis, if there is one."""
        other = self._ordered()[1]
        return None if other is None else self._widened(other)

    def _widened(self, limits: Limits) -> Limits:
        """Limits on the change of matched and unmatched items together."""
        if not self.unmatched or limits.basis == "none":
            return limits
        size, free = len(self.labels.items), self.unmatched * self.scale
        whole, why = size + self.unmatched, f"{self.unmatched:,} items have no counterpart: {ANYTHING}"
        low, high = (size * limits.low - free) / whole, (size * limits.high + free) / whole
        return replace(limits, low=low, high=high, reason=why)

    def _ordered(self) -> tuple[Limits, Limits | None]:
        labels, verdicts = self.by_labels, self.verdicts
        if labels is None:
            return verdicts, None
        if verdicts.basis == "none" or labels.basis in ("all labelled", "equal"):
            return labels, None
        return (labels, verdicts) if self.units >= FIRST else (verdicts, labels)


def product(
    config: Config,
    run: Run,
    data: Dataset,
    baseline: Compared | None = None,
    reason: str = "",
    *,
    comparisons: int = 1,
) -> Product:
    """Estimate the means of a run's items, their changes against a baseline, and what [gate] asks of them.

    Both runs have `independent` and `shift`. `reason` is why there is no baseline although one is named. The
    limits of so many products, `comparisons`, hold together (Bonferroni).
    Raises UsageError for a baseline that this run cannot be compared with.
    """
    gate = config.gate
    pairs = NO_PAIRS if baseline is None else match_items(run, baseline[0], gate.match, hint=HINT)
    why = why_no_mean(run, data)
    other = "" if baseline is None else why_no_mean(*baseline)
    reason = reason or why or (f"of the baseline: {other}" if other else "")
    if gate.by is not None and not any(value_of(item, gate.by) for item in run.items):
        reason = reason or f"no item has {gate.by}"
        why = why or reason
    compared = None if reason else baseline
    means, changes, theirs = (
        ([], [], None) if why else _estimate(run, data, compared, pairs, gate, comparisons)
    )
    nothing = _nothing(run, why)
    return Product(
        means=tuple(ItemsMean(cell.group, cell.first, cell.second) for cell in means)
        or (ItemsMean(None, nothing),),
        changes=tuple(
            Change(cell.group, cell.first, cell.second, len(cell.labels.items), int(cell.labels.same.sum()))
            for cell in changes
        ),
        by=gate.by,
        baseline="" if baseline is None else baseline[0].header.id,
        baseline_mean=None if theirs is None else ItemsMean(None, theirs.first, theirs.second),
        only_here=0 if baseline is None else len(run.items) - len(pairs),
        only_baseline=0 if baseline is None else len(baseline[0].items) - len(pairs),
        requirements=tuple(_requirements(run, gate, means, changes, reason, comparisons)),
        reason=reason,
    )


def _nothing(run: Run, why: str, *, change: bool = False) -> Limits:
    """State why there is no estimate."""
    values = label_values(run.header.certificate.task) or {"": 0.0, " ": 1.0}
    low, high = min(values.values()), max(values.values())
    ends = (low - high, high - low) if change else (low, high)
    return Limits(None, *ends, 1.0, "none", 0 if change else len(run.items), reason=why)


def _estimate(
    run: Run, data: Dataset, baseline: Compared | None, pairs: Pairs, gate: GateTable, comparisons: int
) -> tuple[list[_Cell], list[_Cell], _Cell | None]:
    """Make the cells of all means and changes, whose limits from labels hold at once.

    The last is the mean of the baseline's items, at the level of this run's: it holds by itself.
    """
    target: Target = "batch" if gate.target == "items" else "population"
    level = (LEVEL if baseline is None else LEVEL / 2) / comparisons
    mine = labels_of(run, data, level)
    members = _members(mine, gate.by)
    width = mine.ends[1] - mine.ends[0]
    means, changes = _means(run, mine, members, level, target), list[_Cell]()
    theirs = None
    if baseline is not None:
        other = baseline[0], labels_of(*baseline, level)
        whole, sides, both = _compared((run, mine), other, pairs, target)
        planned = (_error(run) + _error(baseline[0])) * width**2
        matched, before = _members(whole, gate.by), _members(other[1], gate.by)
        sides_items = (mine.items, other[1].items)
        paired = [Chosen.of(items, places) for items, places in zip(sides_items, pairs.places, strict=True)]
        alarmed = any(tier.raised for tier in baseline[0].shift) and not gate.allow_shift
        for group in (*members, *(name for name in before if name not in members)):
            chosen = matched.get(group, NOBODY)
            part, limits = whole.of(chosen), None
            now, then = (side.of(chosen) for side in sides)
            if target == "population":
                limits = both if group is None else None
            elif part.failure < 1 and len(chosen) and now.verdicts is not None and then.verdicts is not None:
                limits = change_limits(now.verdicts, then.verdicts, part.same)
            why = whole.why or (NO_SHARE if group is None else BY_GROUP)
            if alarmed and not part.same.all():
                limits, why = None, SHIFTED
            alone = sum(
                int(np.count_nonzero(~known.mask[rows.get(group, NOBODY)]))
                for rows, known in zip((members, before), paired, strict=True)
            )
            verdicts = _by_verdicts(part, limits, why if len(chosen) else NO_MATCH)
            apart = _apart(part, now, then, target)
            changes.append(_Cell(group, part, verdicts, width, planned, apart, alone))
        [theirs] = _means(*other, _members(other[1], None), level, target)
    shares = _measure([*means, *changes], target, comparisons)
    if theirs is not None:
        _measure([theirs], target, comparisons * shares)
    return means, changes, theirs


def _means(
    run: Run, labels: ItemLabels, members: Mapping[str | None, IntArray], level: float, target: Target
) -> list[_Cell]:
    """The cell of the mean over each group of a run's items, with limits from verdicts."""
    cells, width = [], labels.ends[1] - labels.ends[0]
    for group, rows in members.items():
        part, limits = labels.of(rows), None
        if part.verdicts is not None and target == "batch":
            limits = items_limits(part.verdicts)
        elif part.verdicts is not None and group is None and errors_are_counted(run.header.certificate):
            limits = verdict_limits(run, one_of_each(run, _groups(run)), level)
        verdicts = _by_verdicts(part, limits, labels.why or (NO_SHARE if group is None else BY_GROUP))
        cells.append(_Cell(group, part, verdicts, width, _error(run) * width**2))
    return cells


def _compared(
    after: tuple[Run, ItemLabels], before: tuple[Run, ItemLabels], pairs: Pairs, target: Target
) -> tuple[ItemLabels, tuple[ItemLabels, ItemLabels], tuple[float, float] | None]:
    """The changes of matched items, their labels in both runs, and limits from verdicts for a population."""
    rows = [places.numpy() for places in pairs.places]
    whole = changes_of(after[1], before[1], (rows[0], rows[1]), _failure(after, before))
    if whole.failure >= 1:
        whole = replace(whole, why="δ leaves no probability for it")
    limits = None
    if target == "population" and not whole.why:
        limits = _population_change(after[0], before[0], pairs)
    return whole, (after[1].of(rows[0]), before[1].of(rows[1])), limits


def _apart(
    part: ItemLabels, now: ItemLabels, then: ItemLabels, target: Target
) -> tuple[ItemLabels, ItemLabels] | None:
    """Both runs' labels of the items that differ, where few of these have two labels, and many one."""
    if part.units >= FIRST or part.all_labelled or (target == "population" and part.same.any()):
        return None
    sides = now.of(~part.same), then.of(~part.same)
    enough = all(side.units >= FIRST and not side.picked for side in sides)
    return sides if enough else None


def _failure(after: tuple[Run, ItemLabels], before: tuple[Run, ItemLabels]) -> float:
    """The chance that the verdicts of either run fail; a guarantee that both share is spent once."""
    first, second = (side[0].header.certificate for side in (after, before))
    both = after[1].failure + before[1].failure
    return both - first.delta if first.digest == second.digest else both


def _population_change(after: Run, before: Run, pairs: Pairs) -> tuple[float, float] | None:
    if not all(errors_are_counted(run.header.certificate) for run in (after, before)):
        return None
    now, then = (
        verdict_limits(run, _matched(run, places), LEVEL / 2)
        for run, places in zip((after, before), pairs.places, strict=True)
    )
    return now[0] - then[1], now[1] - then[0]


def _by_verdicts(labels: ItemLabels, limits: tuple[float, float] | None, why: str) -> Limits:
    """Limits from released verdicts, and the labels that are known."""
    size = len(labels.items)
    if limits is None:
        if size:
            few = f"fewer than {FEWEST_LABELS} of these items have human labels"
            why = f"{PICKED if labels.picked else few}, and {why}"
        return Limits(None, *labels.ends, 1.0, "none", size, reason=why)
    low, high = (min(max(each, labels.ends[0]), labels.ends[1]) for each in limits)
    estimate = min(max(float(labels.estimate.mean()), low), high)
    known = int((~np.isnan(labels.label) & ~labels.same & (labels.slack == 0)).sum())
    reason = PICKED if labels.picked else ""
    return Limits(estimate, low, high, round(1 - labels.failure, 9), "verdicts", size, known, reason)


def _measure(cells: Sequence[_Cell], target: Target, comparisons: int) -> int:
    """Add limits from labels, which hold for all cells at once (Bonferroni), and return in how many parts."""
    asked = [cell for cell in cells if cell.is_exact(target) or cell.has_draw]
    parts = max(1, sum(not cell.is_exact(target) for cell in asked))
    delta = INTERVAL_DELTA / comparisons / parts
    for cell in asked:
        labels, exact = cell.labels, cell.is_exact(target)
        used = ~np.isnan(labels.label) & (exact | labels.drawn | labels.sure)
        count = int((used & ~labels.same & (labels.slack == 0)).sum())
        if exact:
            mean = limits_between(labels, lambda side: sampled_limits(whole_survey(side), delta))
        elif cell.apart is None:
            mean = _sampled(labels, delta, target)
        else:
            mean = _difference(cell.apart, float((~labels.same).mean()), delta, target)
            count = sum(int((side.drawn & (side.slack == 0)).sum()) for side in cell.apart)
        cell.sampled, sure = mean, 1.0 if exact else 1 - INTERVAL_DELTA
        limits = max(mean.low, labels.ends[0]), min(mean.high, labels.ends[1])
        basis: Basis = "equal" if labels.same.all() else mean.basis
        cell.by_labels = Limits(mean.estimate, *limits, sure, basis, len(labels.items), count, mean.reason)
    return parts


def _difference(sides: tuple[ItemLabels, ItemLabels], share: float, delta: float, target: Target) -> Sampled:
    """The change from the two means by themselves, over a share of the items; the rest does not change."""
    now, then = (_sampled(side, delta / 2, target) for side in sides)
    return Sampled(
        share * (now.estimate - then.estimate),
        share * (now.low - then.high),
        share * (now.high - then.low),
        now.basis,
        now.residual + then.residual,
        now.spread + then.spread,
        "few items have human labels in both runs, so that each mean is estimated by itself",
    )


def _sampled(labels: ItemLabels, delta: float, target: Target) -> Sampled:
    def limits(side: ItemLabels) -> Sampled:
        survey, known = survey_of(side, target)
        return sampled_limits(survey, delta, target=target, known=known)

    return limits_between(labels, limits)


def _requirements(
    run: Run,
    gate: GateTable,
    means: Sequence[_Cell],
    changes: Sequence[_Cell],
    reason: str,
    comparisons: int,
) -> Iterable[Requirement]:
    """Hold each product check of [gate] against the limits of all items and of each group."""
    keys: tuple[tuple[Key, float | None, Sequence[_Cell]], ...] = (
        ("min_rate", gate.min_rate, means),
        ("max_drop", gate.max_drop, changes),
        ("min_gain", gate.min_gain, changes),
    )
    delta = INTERVAL_DELTA / comparisons / max(1, len(means) + len(changes))
    for key, required, cells in keys:
        if required is None:
            continue
        if not cells:
            nothing = _nothing(run, reason or NO_BASELINE, change=key != "min_rate")
            yield Requirement(key, required, None, nothing)
        for cell in cells:
            value = -required if key == "max_drop" else required
            needed, unit = _needed(cell, value, delta, "batch" if gate.target == "items" else "population")
            yield Requirement(key, required, cell.group, cell.first, needed, unit)


def _needed(cell: _Cell, value: float, delta: float, target: Target) -> tuple[int | None, Unit]:
    """About how many more labels or items decide on which side of `value` the mean lies."""
    labels, limits = cell.labels, cell.first
    if not len(labels.items):
        return None, "human labels"
    if limits.basis != "none" and (limits.low >= value or limits.high < value):
        return 0, "human labels"
    rest = ~labels.sure if target == "batch" else ~labels.sure | labels.same
    size, count = int(rest.sum()), cell.drawn
    if size == 0 or labels.picked:  # more labels of items that are picked decide nothing
        return None, "human labels"
    estimate = float(labels.estimate.mean()) if limits.estimate is None else limits.estimate
    over = len(labels.items) / size if target == "batch" else 1.0
    free = cell.unmatched * cell.scale / (len(labels.items) + cell.unmatched)
    free += float(labels.slack[labels.drawn | labels.sure].sum()) / max(1, count)
    if free and abs(estimate - value) <= free:
        return None, "human labels"
    gap = (abs(estimate - value) - free) * over
    reach = over * (estimate - limits.low if estimate >= value else limits.high - estimate)
    sampled = cell.sampled or Sampled(
        estimate, 0.0, 0.0, "exact", cell.planned, cell.planned + float(labels.expected[rest].var())
    )
    # Errors that few labels do not show may be there all the same.
    sampled = sampled._replace(residual=max(sampled.residual, cell.scale**2 / (count + 2)))
    wanted, unit = labels_needed(gap, sampled, count, size, delta, target, reach=reach)
    if wanted is None or unit == "items":
        return wanted, unit
    each = labels.missing[rest & ~labels.drawn & ~labels.same]
    return max(1, int(np.ceil(wanted * float(each.mean())))), unit


def _matched(run: Run, places: Iterable[int]) -> Chosen:
    """The first fresh item of each group, where it is matched."""
    firsts = mask_of(one_of_each(run, _groups(run)), run.items)
    return Chosen(run.items, Chosen.of(run.items, places).mask & firsts)


def _groups(run: Run) -> Groups:
    return groups_of(run.items)


def _members(labels: ItemLabels, by: str | None) -> Mapping[str | None, IntArray]:
    """The places of all items, and of those with each value of a field, or without one."""
    rows: dict[str, array[int]] = defaultdict(lambda: array("i"))
    for row, item in enumerate(labels.items if by is not None else ()):
        rows[value_of(item, by or "") or NO_VALUE].append(row)
    every: dict[str | None, IntArray] = {None: np.arange(len(labels.items))}
    return every | {value: np.array(rows[value], dtype=np.int64) for value in sorted(rows)}


def _error(run: Run) -> float:
    """The share of rows that the last judge got wrong at calibration; alpha where none is known."""
    certificate = run.header.certificate
    last = certificate.diagnostics[-1] if certificate.diagnostics else None
    return certificate.alpha if last is None or not last.n else 1 - last.agreements / last.n
