"""Compare two runs group by group, with limits that hold simultaneously."""

from collections import defaultdict
from collections.abc import Mapping
from math import ceil

import numpy as np

from trustescalate.analysis.comparison import second_right
from trustescalate.analysis.comparison_change import NO_DIFFERENCE, Sides
from trustescalate.analysis.comparison_section import Comparison
from trustescalate.analysis.matched_pairs import MatchedPairs
from trustescalate.analysis.product import NO_VALUE
from trustescalate.calibration.population import INTERVAL_DELTA
from trustescalate.records import Change, Product, TaskKind
from trustescalate.records.item_fields import value_of
from trustescalate.report import figures
from trustescalate.report.bars import MOST_BARS
from trustescalate.report.figures import count, missing, words
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.product import BASES, estimate_figure, rate_name
from trustescalate.report.sections import FOLD_ROWS, Column, Row, Section, Table, numbers
from trustescalate.stats.bounds import IntArray
from trustescalate.stats.planning import labels_needed

LABEL_BOTH = "Human labels of a random draw of the matched items, in both runs."


def group_field(sides: Sides) -> str | None:
    """The field of items that the candidate's configuration names for groups: of the gate, or of [groups]."""
    config = sides[1].config
    return config.gate.by or config.groups.by or config.data.strata


def change_groups(seen: Product, kind: TaskKind, label: str) -> Section | None:
    """Report the change of the mean in each group; None without groups."""
    plain, name = kind is TaskKind.RATING, rate_name(kind, label)
    groups = [change for change in seen.changes if change.group is not None]
    if not groups:
        return None
    decided = [change for change in groups if _is_decided(change)]
    lead = "In no group do the limits exclude an equal mean"
    if decided:
        lead = f"In {len(decided)} of {len(groups)} groups the limits exclude an equal mean"
    text = (
        f"{lead}. The limits of all groups hold simultaneously, so each is wider than the one of a group "
        f"alone. They are those of the gate: the change of the {name} over the matched items of the group, "
        "from human labels where there are enough, else from the certified limits on wrong verdicts.",
    )
    bars = tuple(_change_bar(change) for change in groups[:MOST_BARS])
    alt = "; ".join(f"{change.group}: {_change_text(change, plain)}" for change in groups[:MOST_BARS])
    title = f"{_capital(name)} by {seen.by}, candidate minus baseline"
    shown = title if plain else f"{title}, in points"
    chart = Intervals(shown, bars, not plain, f"{title}. {alt}.", 0.0, NO_DIFFERENCE, not plain)
    rows = tuple(
        Row((
            words(change.group or ""),
            estimate_figure(change.first, plain, signed=True),
            words(BASES[change.first.basis], change.first.reason),
            count(change.matched),
            count(change.first.labels),
        ))
        for change in groups
    )  # fmt: skip
    columns = (
        Column("Group"),
        Column("Change and limits"),
        Column("Rests on"),
        *numbers("Matched", "Labels"),
    )
    table = Table(f"Change by {seen.by}", columns, rows, folded=len(rows) > FOLD_ROWS)
    return Section("groups", f"By group: {seen.by}", text, (chart,), (table,))


def _is_decided(change: Change) -> bool:
    limits = change.first
    return limits.basis != "none" and not change.disjoint and (limits.low > 0 or limits.high < 0)


def _change_bar(change: Change) -> Interval:
    limits = change.first
    if limits.basis == "none":
        return Interval(change.group or "", None, None, "not measured")
    return Interval(change.group or "", limits.estimate, (limits.low, limits.high), f"n = {change.matched:,}")


def _change_text(change: Change, plain: bool) -> str:
    return estimate_figure(change.first, plain, signed=True).text


def agreement_groups(pairs: MatchedPairs, by: str | None) -> Section | None:
    """Report, per group, how often the candidate is right where exactly one run is; None without any."""
    known = np.flatnonzero(pairs.labelled & (pairs.verdicts[0] >= 0) & (pairs.verdicts[1] >= 0))
    first, second = pairs.agrees(0), pairs.agrees(1)
    if not (first != second)[known].any():
        return None
    items, groups = pairs.items(1), defaultdict[str, list[int]](list)
    for place in known.tolist() if by is not None else ():
        groups[value_of(items[place], by or "") or NO_VALUE].append(place)
    members: Mapping[str, IntArray] = {
        "all items": known, **{name: np.array(groups[name]) for name in sorted(groups)}
    }  # fmt: skip
    delta = INTERVAL_DELTA / max(1, len(groups))
    bars, rows, parts = [], [], []
    for name, own in members.items():
        wins = int((second & ~first)[own].sum())
        split = int((second != first)[own].sum())
        limits = second_right(pairs, own, INTERVAL_DELTA if own is known else delta)
        shown = "no item" if limits is None else figures.interval(*limits)
        bars.append(Interval(name, wins / split if split else None, limits, f"{wins:,} of {split:,}"))
        parts.append(f"{name}: the candidate on {wins:,} of {split:,} ({shown})")
        cells = (words(name), count(len(own)), count(split - wins), count(wins))
        rows.append(Row((*cells, missing("") if limits is None else words(shown))))
    text = (
        "Only items on which exactly one of the two runs agrees with human labels tell the two apart: at "
        "50 % they agree equally often. "
        + ("The limits of all groups hold simultaneously." if groups else "The limits hold at 95 %."),
    )
    title = "Only one agrees with human labels: share on which it is the candidate"
    chart = Intervals(
        title, tuple(bars[:MOST_BARS]), True, f"{title}. {'; '.join(parts[:MOST_BARS])}.", 0.5, NO_DIFFERENCE
    )
    columns = (
        Column("Items"),
        *numbers(
            "Both gave a verdict", "Only the baseline agrees", "Only the candidate agrees", "95 % limits"
        ),
    )
    table = Table(
        "Labelled items with a verdict in both runs", columns, tuple(rows), folded=len(rows) > FOLD_ROWS
    )
    heading = "Which run agrees more often" + (f", by {by}" if groups else "")
    return Section("groups", heading, text, (chart,), (table,))


def more_labels(compared: Comparison) -> str:
    """Say about how many labels would tell the two runs apart."""
    return _for_judges(compared) if compared.kind == "judges" else _for_responses(compared.change)


def _for_judges(compared: Comparison) -> str:
    """By the power of the exact test on the items on which exactly one run is right."""
    agreement = compared.agreement
    split = agreement.only_first + agreement.only_second
    if not agreement.labelled or not split:
        return LABEL_BOTH
    rate = min(agreement.only_first, agreement.only_second) / split
    wanted = labels_needed(rate, 0.5, INTERVAL_DELTA / 2)
    if wanted is None:
        return "Both runs were right equally often, so no number of labels is likely to tell them apart."
    labels = ceil(wanted * agreement.labelled / split)
    return (
        f"If the rates stay as observed, about {labels:,} labelled items in all would tell, with a chance of "
        f"80 %; {agreement.labelled:,} are there."
    )


def _for_responses(change: Product | None) -> str:
    """As the gate counts labels, here to decide on which side of 0 the change lies."""
    needed = None if change is None or not change.requirements else change.requirements[0]
    if needed is None or not needed.needed:
        return LABEL_BOTH
    about = f"About {_two_digits(needed.needed):,} more {needed.unit}"
    return (
        f"{about}, of a random draw, would tell which run is better, if the change is as estimated. A gate "
        "that allows a drop or asks for a gain tests against another value, so it needs another number."
    )


def _two_digits(number: float) -> int:
    """Round a number of labels up to two digits: an estimate has no more.

    >>> _two_digits(277_241.2), _two_digits(7.3)
    (280000, 8)
    """
    step: int = 10 ** max(0, len(str(ceil(number))) - 2)
    return ceil(number / step) * step


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
