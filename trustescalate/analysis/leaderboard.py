"""Which of the models that the items hold is better? From a run's predictions and the certificate's labels.

Ranks whose answers were judged, not the judges. Which labels count and what they assume is `evidence`'s
`known_rows`; the intervals are `stats.leaderboard`'s. Nothing here decides anything, and no judge is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from trustescalate.calibration.population import (
    FEWEST_LABELS,
    INTERVAL_DELTA,
    Groups,
    Judged,
    informative,
    known_rows,
    label_values,
    not_measurable,
    simultaneous,
    within,
)
from trustescalate.config import LeaderboardTable
from trustescalate.records import Annotation, Correlation, Item, Run, Standing, Standings
from trustescalate.records.item_fields import value_of
from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.inference import Mean, Survey, coarse_strata, ppi_mean
from trustescalate.stats.leaderboard import Games, bradley_terry, mean_leaderboard, rank_correlation

Ends = tuple[float, float]


class Entry(NamedTuple):
    """One row of the data: which models it is about, what it belongs to, what is known of it."""

    models: tuple[str, ...]
    unit: str
    kind: str | None
    prediction: float
    label: float | None


def standings(
    run: Run,
    judged: Judged,
    annotations: Iterable[Annotation],
    items: Mapping[str, Item],
    table: LeaderboardTable,
    strata: Groups | None = None,
) -> Standings:
    """Rank the models that `table` finds in the rows' `items`, as of the run.

    Labels are the certification rows', predictions those for all items of the run, as in `evidence.overall`:
    so it is assumed that certification rows and the run's items are one draw, of each model's rows and of
    what it was asked. With `item`, or a group, rows of one item are clustered: what makes an item hard for
    all models is not counted as a difference between them. In pairwise tasks, a model's mean is over the
    games that it played, against whom it happened to play; Bradley-Terry strengths allow for the opponents,
    and take no strata. Models are texts from meta; rows that name none, or one twice, count in `left_out`.
    """
    task = run.header.certificate.task
    values, reason = label_values(task), not_measurable(run)
    if values is None or reason:
        return Standings(table.method, reason=reason or "labels without an order rank nobody")
    known = known_rows(run, judged, annotations, values)
    every: list[tuple[str, float, float | None]] = [
        *((item_id, prediction, label) for item_id, (prediction, label) in known.labelled.items()),
        *((item_id, prediction, None) for item_id, prediction in known.fresh.items()),
    ]
    entries = [
        Entry(models, _unit(items[item_id], table), (strata or {}).get(item_id), prediction, label)
        for item_id, prediction, label in every
        if item_id in items and (models := _models(items[item_id], table))
    ]
    ends = min(values.values()), max(values.values())
    if table.method == "bradley_terry":
        found = _strengths(entries)
    else:
        found = _means(entries, ends, stratified=bool(strata))
    return _board(found, entries, table, len(every) - len(entries))


class _Found(NamedTuple):
    """The models with an estimate, what was found of each, and who is surely better than whom."""

    models: tuple[Standing, ...]
    above: BoolArray
    reason: str = ""


NOTHING = _Found((), np.zeros((0, 0), dtype=np.bool_))


def _board(found: _Found, entries: Sequence[Entry], table: LeaderboardTable, left_out: int) -> Standings:
    m, above = len(found.models), found.above
    order = sorted(range(m), key=lambda k: -(found.models[k].estimate or 0.0))
    ranked = [
        replace(found.models[k], first_place=1 + int(above[:, k].sum()), last_place=m - int(above[k].sum()))
        for k in order
    ]
    seen = {model for entry in entries for model in entry.models} - {each.model for each in ranked}
    alike = [
        (found.models[i].model, found.models[j].model)
        for place, i in enumerate(order)
        for j in order[place + 1 :]
        if not above[i, j] and not above[j, i]
    ]
    return Standings(
        method=table.method,
        models=(*ranked, *(_unranked(name, entries) for name in sorted(seen))),
        not_separable=tuple(alike),
        correlation=_correlation(ranked),
        rows=len(entries),
        labels=sum(entry.label is not None for entry in entries),
        left_out=left_out,
        paired=len({entry.unit for entry in entries}) < len(entries),
        reason=found.reason or _too_few_models(entries, m),
    )


def _unranked(name: str, entries: Sequence[Entry]) -> Standing:
    mine = [entry for entry in entries if name in entry.models]
    labels = sum(entry.label is not None for entry in mine)
    units = len({entry.unit for entry in mine if entry.label is not None})
    reason = f"fewer than {FEWEST_LABELS} labels" if labels == units else "labels of one item only"
    return Standing(name, len(mine), labels, None, reason=reason)


def _too_few_models(entries: Sequence[Entry], measured: int) -> str:
    if not entries:
        return "no judged row names a model"
    return "" if measured > 1 else "fewer than two models have labels"


def _correlation(models: Sequence[Standing]) -> Correlation | None:
    pairs = [(each.by_judges, each.by_people) for each in models]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known or len(known) < len(pairs):
        return None
    judges, people = np.array(known).T
    found = rank_correlation(judges, people)
    return None if found is None else Correlation(len(known), *found)


def _models(item: Item, table: LeaderboardTable) -> tuple[str, ...]:
    """The models of a row; none where one is missing, or a model plays against itself."""
    named = [value_of(item, field) for field in table.models]
    found = tuple(name for name in named if name is not None)
    return found if len(set(found)) == len(table.models) else ()


def _unit(item: Item, table: LeaderboardTable) -> str:
    name = value_of(item, table.item) if table.item else item.group
    return f"row {item.id}" if name is None else f"item {name}"


def _means(entries: Sequence[Entry], ends: Ends, *, stratified: bool) -> _Found:
    """Win rates, pass rates or ratings. In a pairwise task what one side wins, the other loses."""
    surveys = {
        name: survey
        for name in sorted({model for entry in entries for model in entry.models})
        if (survey := _survey(entries, name, stratified, ends)) is not None
    }
    if len(surveys) < 2:
        return NOTHING
    board = mean_leaderboard(list(surveys.values()), INTERVAL_DELTA)
    delta = simultaneous(INTERVAL_DELTA, len(surveys))
    alone = [_alone(survey, delta) for survey in surveys.values()]
    models = tuple(
        Standing(
            name,
            rows=len(survey.prediction),
            labels=len(survey.label),
            estimate=within(float(board.estimate[k]), ends),
            interval=(within(float(board.low[k]), ends), within(float(board.high[k]), ends))
            if alone[k].usable
            else None,
            label_only=informative(alone[k].label_only, ends),
            usable=alone[k].usable,
            reason=alone[k].reason,
            by_judges=float(survey.prediction.mean()),
            by_people=float(survey.label.mean()),
        )
        for k, (name, survey) in enumerate(surveys.items())
    )
    return _Found(models, _surely_above(board.above, list(surveys.values()), alone, ends))


def _survey(entries: Sequence[Entry], name: str, stratified: bool, ends: Ends) -> Survey | None:
    """What is known of one model; None where its labels are too few for any interval."""
    mine = [entry for entry in entries if name in entry.models]
    labelled = np.array([k for k, entry in enumerate(mine) if entry.label is not None], dtype=np.int64)
    units = {entry.unit: place for place, entry in enumerate(entries)}
    cluster = np.array([units[entry.unit] for entry in mine])
    if len(np.unique(cluster[labelled])) < FEWEST_LABELS:
        return None
    survey = Survey(
        np.array([_side(entry, name, entry.prediction) for entry in mine]),
        labelled,
        np.array([_side(entry, name, entry.label) for entry in mine if entry.label is not None]),
        cluster=cluster,
        ends=ends,
    )
    if not stratified:
        return survey
    kinds = np.unique([entry.kind or "" for entry in mine], return_inverse=True)[1]
    return survey._replace(stratum=coarse_strata(kinds, labelled, cluster))


def _side(entry: Entry, name: str, value: float) -> float:
    return value if entry.models[0] == name else 1.0 - value


def _alone(survey: Survey, delta: float) -> Mean:
    """One model by itself: exact from labels of 0 and 1 where each row is an item of its own."""
    assert survey.cluster is not None
    single = len(np.unique(survey.cluster)) == len(survey.cluster)
    return ppi_mean(survey._replace(stratum=None, cluster=None if single else survey.cluster), delta)


def _surely_above(
    above: BoolArray, surveys: Sequence[Survey], alone: Sequence[Mean], ends: Ends
) -> BoolArray:
    """Who is better than whom. Where labels are too few for the difference, label-only limits must not meet.

    Both kinds of comparison miss with the same small chance in each pair, so that all hold together.
    """
    m = len(surveys)
    each = simultaneous(INTERVAL_DELTA, m * (m - 1) // 2) / 2
    limits = [informative(_alone(survey, each).label_only, ends) for survey in surveys]
    apart = np.array([[limits[i][0] > limits[j][1] for j in range(m)] for i in range(m)])
    usable = np.array([mean.usable for mean in alone])
    return np.asarray(np.where(usable[:, None] & usable, above, apart), dtype=np.bool_)


def _strengths(entries: Sequence[Entry]) -> _Found:
    """Bradley-Terry strengths of the models that met in labelled games; log-odds that sum to 0."""
    met = sorted({model for entry in entries if entry.label is not None for model in entry.models})
    played = [entry for entry in entries if set(entry.models) <= set(met)]
    if len(met) < 2:
        return NOTHING
    games, m = _games(played, met), len(met)
    try:
        board = bradley_terry(games, m, INTERVAL_DELTA)
    except ValueError as error:
        return NOTHING._replace(reason=f'{error}; method = "mean" needs no chain of wins')
    labelled = games.labelled
    by_judges = _alone_strengths(games.first, games.second, games.prediction, m)
    by_people = _alone_strengths(games.first[labelled], games.second[labelled], games.label, m)
    rows, labels = (
        np.bincount(games.first[which], minlength=m) + np.bincount(games.second[which], minlength=m)
        for which in (np.arange(len(games.first)), labelled)
    )
    models = tuple(
        Standing(
            name,
            rows=int(rows[k]),
            labels=int(labels[k]),
            estimate=float(board.estimate[k]),
            interval=(float(board.low[k]), float(board.high[k])) if board.usable else None,
            usable=board.usable,
            reason=board.reason,
            by_judges=None if by_judges is None else float(by_judges[k]),
            by_people=None if by_people is None else float(by_people[k]),
        )
        for k, name in enumerate(met)
    )
    return _Found(models, board.above & board.usable)


def _games(entries: Sequence[Entry], names: Sequence[str]) -> Games:
    place = {name: k for k, name in enumerate(names)}
    labelled = [k for k, entry in enumerate(entries) if entry.label is not None]
    return Games(
        np.array([place[entry.models[0]] for entry in entries]),
        np.array([place[entry.models[1]] for entry in entries]),
        np.array([entry.prediction for entry in entries]),
        np.array(labelled, dtype=np.int64),
        np.array([entry.label for entry in entries if entry.label is not None]),
        np.unique([entry.unit for entry in entries], return_inverse=True)[1],
    )


def _alone_strengths(first: IntArray, second: IntArray, label: FloatArray, m: int) -> FloatArray | None:
    """The strengths that one source of outcomes gives; None where it knows no finite ones."""
    rows = np.arange(len(label))
    try:
        return bradley_terry(Games(first, second, label, rows, label), m, INTERVAL_DELTA).estimate
    except ValueError:
        return None
