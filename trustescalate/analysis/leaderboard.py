"""Rank the models whose responses the items hold, from a run's predictions and the certificate's labels.

Ranks models, not judges. `calibration.population.known_rows` selects the labels and states their assumptions;
`stats.leaderboard` computes the intervals. The leaderboard certifies nothing and makes no model calls.
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
from trustescalate.stats.inference import Mean, Survey, coarse_strata, ppi_mean, too_few
from trustescalate.stats.leaderboard import Games, bradley_terry, mean_leaderboard, rank_correlation

Ends = tuple[float, float]


class Entry(NamedTuple):
    """One row: its models, its cluster, its stratum, the prediction and the label."""

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

    Labels are those of the certification rows, predictions those of all items of the run, as in
    `calibration.population.overall`. Assumes that certification rows and the run's items are one draw, also
    of each model's rows and prompts. With `item`, or a group, rows of one item are clustered: the difficulty
    of an item is no difference between models. In pairwise tasks, a model's mean is over its games against
    its actual opponents; Bradley-Terry strengths adjust for the opponents and take no strata. Rows whose meta
    names no model, or one twice, count in `left_out`.
    """
    task = run.header.certificate.task
    values, reason = label_values(task), not_measurable(run)
    if values is None or reason:
        return Standings(table.method, reason=reason or "labels without an order give no ranking")
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
        ranking = _strengths(entries)
    else:
        ranking = _means(entries, ends, stratified=bool(strata))
    return _board(ranking, entries, table, len(every) - len(entries))


class _Ranking(NamedTuple):
    """The models with an estimate, and `above` (m, m): which is better than which at 95 %."""

    models: tuple[Standing, ...]
    above: BoolArray
    reason: str = ""


NOTHING = _Ranking((), np.zeros((0, 0), dtype=np.bool_))


def _board(ranking: _Ranking, entries: Sequence[Entry], table: LeaderboardTable, left_out: int) -> Standings:
    m, above = len(ranking.models), ranking.above
    order = sorted(range(m), key=lambda k: -(ranking.models[k].estimate or 0.0))
    ranked = [
        replace(ranking.models[k], first_place=1 + int(above[:, k].sum()), last_place=m - int(above[k].sum()))
        for k in order
    ]
    others = {model for entry in entries for model in entry.models} - {each.model for each in ranked}
    alike = [
        (ranking.models[i].model, ranking.models[j].model)
        for place, i in enumerate(order)
        for j in order[place + 1 :]
        if not above[i, j] and not above[j, i]
    ]
    return Standings(
        method=table.method,
        models=(*ranked, *(_unranked(name, entries) for name in sorted(others))),
        not_separable=tuple(alike),
        correlation=_correlation(ranked),
        rows=len(entries),
        labels=sum(entry.label is not None for entry in entries),
        left_out=left_out,
        paired=len({entry.unit for entry in entries}) < len(entries),
        reason=ranking.reason or _too_few_models(entries, m),
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
    result = rank_correlation(judges, people)
    return None if result is None else Correlation(len(known), *result)


def _models(item: Item, table: LeaderboardTable) -> tuple[str, ...]:
    """Return the models of a row; none if one is missing, or a model plays against itself."""
    named = [value_of(item, field) for field in table.models]
    models = tuple(name for name in named if name is not None)
    return models if len(set(models)) == len(table.models) else ()


def _unit(item: Item, table: LeaderboardTable) -> str:
    name = value_of(item, table.item) if table.item else item.group
    return f"row {item.id}" if name is None else f"item {name}"


def _means(entries: Sequence[Entry], ends: Ends, *, stratified: bool) -> _Ranking:
    """Estimate win rates, pass rates or mean ratings; in pairs, one side's win is the other's loss."""
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
    # Strata can be too thin where all labels together are enough: then their limits are infinite.
    usable = np.array([mean.usable for mean in alone]) & np.isfinite(board.low)
    models = tuple(
        Standing(
            name,
            rows=len(survey.prediction),
            labels=len(survey.label),
            estimate=within(float(board.estimate[k]), ends),
            interval=(within(float(board.low[k]), ends), within(float(board.high[k]), ends))
            if usable[k]
            else None,
            label_only=informative(alone[k].label_only, ends),
            usable=bool(usable[k]),
            reason=alone[k].reason or ("" if usable[k] else too_few(survey)),
            by_judges=float(survey.prediction.mean()),
            by_people=float(survey.label.mean()),
        )
        for k, (name, survey) in enumerate(surveys.items())
    )
    return _Ranking(models, _separated(board.above, list(surveys.values()), usable, ends))


def _survey(entries: Sequence[Entry], name: str, stratified: bool, ends: Ends) -> Survey | None:
    """Collect predictions and labels of one model; None if the labels are too few for an interval."""
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
    """Estimate one model's mean; exact for labels of 0 and 1 without clusters."""
    assert survey.cluster is not None
    single = len(np.unique(survey.cluster)) == len(survey.cluster)
    return ppi_mean(survey._replace(stratum=None, cluster=None if single else survey.cluster), delta)


def _separated(above: BoolArray, surveys: Sequence[Survey], usable: BoolArray, ends: Ends) -> BoolArray:
    """Return which model is better than which; with few labels, only if label-only limits do not overlap.

    Both comparisons fail with the same small probability in each pair, so all hold simultaneously.
    """
    m = len(surveys)
    each = simultaneous(INTERVAL_DELTA, m * (m - 1) // 2) / 2
    limits = [informative(_alone(survey, each).label_only, ends) for survey in surveys]
    apart = np.array([[limits[i][0] > limits[j][1] for j in range(m)] for i in range(m)])
    return np.asarray(np.where(usable[:, None] & usable, above, apart), dtype=np.bool_)


def _strengths(entries: Sequence[Entry]) -> _Ranking:
    """Estimate Bradley-Terry strengths of models in labelled games; log-odds that sum to 0."""
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
    return _Ranking(models, board.above & board.usable)


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
    """Estimate strengths from one source of outcomes; None if they are not finite."""
    rows = np.arange(len(label))
    try:
        return bradley_terry(Games(first, second, label, rows, label), m, INTERVAL_DELTA).estimate
    except ValueError:
        return None
