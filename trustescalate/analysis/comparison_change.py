"""Estimate the change from one run's responses to another's, as the gate does, and say what it shows."""

from dataclasses import replace
from typing import NamedTuple

from trustescalate.analysis.product import product
from trustescalate.config import Config
from trustescalate.data.dataset import Dataset
from trustescalate.records import Change, Product, Run, Task, TaskKind
from trustescalate.records.item_fields import value_of
from trustescalate.report import figures
from trustescalate.report.figures import count, missing, words
from trustescalate.report.pictures import Interval, Intervals, Picture
from trustescalate.report.product import BASES, DISJOINT, estimate_figure, mean_figure, rate_name
from trustescalate.report.sections import Column, KeyFigure, Row, Table, Tone, numbers

NAMES = ("Baseline", "Candidate")
"""What the first and the second run of a comparison are called."""
NO_DIFFERENCE = "no difference"


class Compared(NamedTuple):
    """One of two compared runs, with its estimates, and the project that it belongs to."""

    config: Config
    run: Run
    data: Dataset


Sides = tuple[Compared, Compared]
"""The baseline and the candidate."""


class Finding(NamedTuple):
    """What a comparison says; `open` if the two runs are not told apart."""

    tone: Tone
    headline: str
    claims: tuple[str, ...]
    open: bool


def estimate_change(sides: Sides, match: str | None, by: str | None) -> Product:
    """Estimate the change of all matched items, and of each group `by`, as the gate of the candidate does.

    Its one requirement is a gain above 0: `needed` says how many labels would decide which run is better.
    """
    before, after = sides
    by = by if by is not None and any(value_of(item, by) for item in after.run.items) else None
    asked = {"min_rate": None, "max_drop": None, "min_gain": 0.0, "by": by, "match": match}
    config = after.config.model_copy(update={"gate": after.config.gate.model_copy(update=asked)})
    return product(config, after.run, after.data, (before.run, before.data))


def find_better(change: Product, task: Task) -> Finding:
    """Say which responses are better, with what probability, and what that rests on."""
    name, whole, plain = rate_name(task.kind, task.labels[0]), _whole(change), task.kind is TaskKind.RATING
    if whole is None or whole.first.basis == "none":
        claim = f"Nothing limits the change of the {name}: {_why_nothing(change)}."
        return Finding("warning", "Not measured", (claim,), True)
    limits, rests = whole.first, _rests(whole)
    if whole.disjoint:
        return Finding("warning", "Not measured", (DISJOINT, rests), True)
    range_ = estimate_figure(replace(limits, estimate=None), plain, signed=True).text
    if limits.low == limits.high == 0:
        return Finding("warning", "Equal", (f"The {name} of the two runs is equal.", rests), False)
    if limits.low <= 0 <= limits.high:
        text = f"The two cannot be told apart: the change of the {name} is {range_}."
        return Finding("warning", "Cannot be told apart", (text, rests), True)
    better = limits.low > 0
    shown = estimate_figure(limits, plain, signed=True).text
    text = f"The candidate's responses are {'better' if better else 'worse'}. Change of the {name}: {shown}."
    headline = "Candidate better" if better else "Candidate worse"
    return Finding("good" if better else "bad", headline, (text, rests), False)


def _whole(change: Product) -> Change | None:
    """The change over all matched items."""
    return change.changes[0] if change.changes else None


def _why_nothing(change: Product) -> str:
    whole = _whole(change)
    return (change.reason if whole is None else whole.first.reason) or "nothing was measured"


def _rests(change: Change) -> str:
    limits = change.first
    text = f"The limits are on the mean change over {change.matched:,} matched items"
    if change.same:
        text += f", {change.same:,} of them with equal responses"
    text += f". They rest on {BASES[limits.basis]}"
    if limits.labels and limits.basis not in ("all labelled", "verdicts"):
        text += f": {limits.labels:,} items, which must have been drawn at random"
    return f"{text}{f'; {limits.reason}' if limits.reason else ''}."


def mean_figures(change: Product, task: Task) -> tuple[KeyFigure, KeyFigure, KeyFigure]:
    """The mean over all items of each run, both at the level of the change, and the change."""
    name, plain = rate_name(task.kind, task.labels[0]), task.kind is TaskKind.RATING
    shown = []
    for mean, side in zip((change.baseline_mean, change.means[0]), NAMES, strict=True):
        title = f"{side}: {name}"
        if mean is None or mean.first.basis == "none":
            why = _why_nothing(change) if mean is None else mean.first.reason
            shown.append(KeyFigure(title, missing(why), why))
        else:
            shown.append(mean_figure(title, mean.first, plain))
    whole, why = _whole(change), _why_nothing(change)
    difference = KeyFigure("Difference", missing(why), why)
    if whole is not None and whole.first.basis != "none":
        difference = mean_figure("Difference", whole.first, plain, signed=True, items="matched items")
    return shown[0], shown[1], difference


def change_chart(change: Product, task: Task) -> tuple[Picture, ...]:
    """Draw the limits on the change, one bar for each basis; nothing where there are none."""
    whole, percent = _whole(change), task.kind is not TaskKind.RATING
    measured = () if whole is None else (whole.first, whole.second)
    bars, parts = [], []
    for limits in filter(None, measured):
        if limits.basis == "none":
            continue
        name = "Certified verdicts" if limits.basis == "verdicts" else "Human labels"
        name = "Labels and predictions (PPI++)" if limits.basis == "predictions" else name
        sure = f"probability ≥ {figures.setting(round(limits.confidence, 6)).text}"
        bars.append(Interval(name, limits.estimate, (limits.low, limits.high), sure))
        parts.append(f"{name}: {estimate_figure(limits, not percent, signed=True).text}")
    if not bars:
        return ()
    title = f"Change of the {rate_name(task.kind, task.labels[0])}, candidate minus baseline"
    alt = f"{title}. {'; '.join(parts)}."
    title += ", in points" if percent else ""
    return (Intervals(title, tuple(bars), percent, alt, 0.0, NO_DIFFERENCE, percent),)


def change_table(change: Product, task: Task, by_judges: float | None) -> Table:
    """List the limits on the change, one row for each basis, and the judges' own difference."""
    whole, plain = _whole(change), task.kind is TaskKind.RATING
    rows = [
        Row((
            words(BASES[limits.basis], limits.reason),
            estimate_figure(limits, plain, signed=True),
            count(limits.items),
            count(limits.labels),
        ))
        for limits in (() if whole is None else filter(None, (whole.first, whole.second)))
    ]  # fmt: skip
    if by_judges is not None:
        shown = f"{by_judges:+.2f}" if plain else f"{100 * by_judges:+.1f} points"
        rows.append(Row((
            words("the judges' predictions alone, which no label corrects"),
            words(f"{shown}, without limits"),
            missing("") if whole is None else count(whole.matched),
            count(0),
        )))  # fmt: skip
    columns = (Column("Rests on"), Column("Estimate and limits"), *numbers("Items", "Labels"))
    name = rate_name(task.kind, task.labels[0])
    return Table(f"Change of the {name}, candidate minus baseline", columns, tuple(rows))
