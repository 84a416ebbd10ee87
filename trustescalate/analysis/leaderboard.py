"""Rank the models whose responses the items hold, from a run's predictions and the certificate's labels.

Ranks models, not judges. `calibration.population.known_rows` selects the labels and states their assumptions;
`stats.leaderboard` computes the intervals. The leaderboard certifies nothing and makes no model calls.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from trustescalate.calibration.population import (
    FEWEST_LABELS,
    INTERVAL_DELTA,
    Groups,
    Judged,
    Known,
    informative,
    known_rows,
    label_values,
    not_measurable,
    simultaneous,
    within,
)
from trustescalate.config import LeaderboardTable
from trustescalate.data.item_sets import number_texts
from trustescalate.records import Annotation, Correlation, Item, Run, Standing, Standings
from trustescalate.records.columns import Codes, Distinct
from trustescalate.records.item_fields import value_of
from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.inference import Mean, Survey, coarse_strata, ppi_mean, too_few
from trustescalate.stats.leaderboard import Games, bradley_terry, mean_leaderboard, rank_correlation

Ends = tuple[float, float]


class _Rows(NamedTuple):
    """n rows that name their models, those with a label first.

    `models` (n, 1), or (n, 2) in pairs, holds places in the sorted `names`. `unit` (n,) and `kind` (n,) are
    the numbers of clusters and strata; `prediction` (n,), `label` (l,).
    """

    names: tuple[str, ...]
    models: IntArray
    unit: IntArray
    kind: IntArray | None
    prediction: FloatArray
    label: FloatArray

    @property
    def labelled(self) -> IntArray:
        """The places (l,) of the rows with a label."""
        return np.arange(len(self.label))

    def of(self, model: int) -> IntArray:
        """The places of the rows that name a model."""
        return np.flatnonzero((self.models == model).any(axis=1))

    def labelled_of(self, model: int) -> IntArray:
        """The places of those with a label."""
        return np.flatnonzero((self.models[: len(self.label)] == model).any(axis=1))

    def side(self, model: int, places: IntArray, values: FloatArray) -> FloatArray:
        """The values of these rows as the model sees them: in pairs, one side's win is the other's loss."""
        return np.where(self.models[places, 0] == model, values, 1.0 - values)


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
    rows = _rows(known, items, table, strata)
    ends = min(values.values()), max(values.values())
    ranking = _strengths(rows) if table.method == "bradley_terry" else _means(rows, ends)
    left_out = len(known.labelled) + len(known.fresh) - len(rows.prediction)
    return _board(ranking, rows, table, left_out)


def _rows(known: Known, items: Mapping[str, Item], table: LeaderboardTable, strata: Groups | None) -> _Rows:
    models, names, units, kinds = array("q"), Distinct[str](), Codes(), Codes()
    predictions, labels = array("d"), array("d")
    fresh = ((item_id, (prediction, None)) for item_id, prediction in known.fresh.items())
    for item_id, (prediction, label) in chain(known.labelled.items(), fresh):
        item = items.get(item_id)
        if item is None or not (named := _models(item, table)):
            continue
        models.extend(map(names.number, named))
        units.append(value_of(item, table.item) if table.item else item.group)
        kinds.append((strata or {}).get(item_id) or "")
        predictions.append(prediction)
        if label is not None:
            labels.append(label)
    places = {name: place for place, name in enumerate(sorted(names.known))}
    sorted_places = np.array([places[name] for name in names.known], np.int64)
    return _Rows(
        tuple(places),
        sorted_places[np.array(models)].reshape(len(predictions), len(table.models)),
        number_texts(units).astype(np.int64),
        number_texts(kinds).astype(np.int64) if strata else None,
        np.array(predictions),
        np.array(labels),
    )


class _Ranking(NamedTuple):
    """The models with an estimate, and `above` (m, m): which is better than which at 95 %."""

    models: tuple[Standing, ...]
    above: BoolArray
    reason: str = ""


NOTHING = _Ranking((), np.zeros((0, 0), dtype=np.bool_))


def _board(ranking: _Ranking, rows: _Rows, table: LeaderboardTable, left_out: int) -> Standings:
    m, above = len(ranking.models), ranking.above
    order = sorted(range(m), key=lambda k: -(ranking.models[k].estimate or 0.0))
    ranked = [
        replace(ranking.models[k], first_place=1 + int(above[:, k].sum()), last_place=m - int(above[k].sum()))
        for k in order
    ]
    known = {each.model for each in ranked}
    counts = np.bincount(rows.models.ravel(), minlength=len(rows.names)).tolist()
    alike = [
        (ranking.models[i].model, ranking.models[j].model)
        for place, i in enumerate(order)
        for j in order[place + 1 :]
        if not above[i, j] and not above[j, i]
    ]
    return Standings(
        method=table.method,
        models=(
            *ranked,
            *(_unranked(rows, k, counts[k]) for k, name in enumerate(rows.names) if name not in known),
        ),
        not_separable=tuple(alike),
        correlation=_correlation(ranked),
        rows=len(rows.prediction),
        labels=len(rows.label),
        left_out=left_out,
        paired=len(np.unique(rows.unit)) < len(rows.unit),
        reason=ranking.reason or _too_few_models(rows, m),
    )


def _unranked(rows: _Rows, model: int, count: int) -> Standing:
    labelled = rows.labelled_of(model)
    alone = len(labelled) == len(np.unique(rows.unit[labelled]))
    reason = f"fewer than {FEWEST_LABELS} labels" if alone else "labels of one item only"
    return Standing(rows.names[model], count, len(labelled), None, reason=reason)


def _too_few_models(rows: _Rows, measured: int) -> str:
    if not rows.names:
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


def _means(rows: _Rows, ends: Ends) -> _Ranking:
    """Estimate win rates, pass rates or mean ratings."""
    surveys = {
        rows.names[k]: _survey(rows, k, ends)
        for k in np.unique(rows.models[rows.labelled]).tolist()
        if len(np.unique(rows.unit[rows.labelled_of(k)])) >= FEWEST_LABELS
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


def _survey(rows: _Rows, model: int, ends: Ends) -> Survey:
    """Collect predictions and labels of one model."""
    mine, labelled = rows.of(model), rows.labelled_of(model)
    survey = Survey(
        rows.side(model, mine, rows.prediction[mine]),
        np.arange(len(labelled)),
        rows.side(model, labelled, rows.label[labelled]),
        cluster=rows.unit[mine],
        ends=ends,
    )
    if rows.kind is None:
        return survey
    return survey._replace(stratum=coarse_strata(rows.kind[mine], survey.labelled, survey.cluster))


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


def _strengths(rows: _Rows) -> _Ranking:
    """Estimate Bradley-Terry strengths of models in labelled games; log-odds that sum to 0."""
    met = np.unique(rows.models[rows.labelled])
    m = len(met)
    if m < 2:
        return NOTHING
    games = _games(rows, met)
    try:
        board = bradley_terry(games, m, INTERVAL_DELTA)
    except ValueError as error:
        return NOTHING._replace(reason=f'{error}; method = "mean" needs no chain of wins')
    labelled = games.labelled
    by_judges = _alone_strengths(games.first, games.second, games.prediction, m)
    by_people = _alone_strengths(games.first[labelled], games.second[labelled], games.label, m)
    counts, labels = (
        np.bincount(games.first[which], minlength=m) + np.bincount(games.second[which], minlength=m)
        for which in (np.arange(len(games.first)), labelled)
    )
    models = tuple(
        Standing(
            rows.names[model],
            rows=int(counts[k]),
            labels=int(labels[k]),
            estimate=float(board.estimate[k]),
            interval=(float(board.low[k]), float(board.high[k])) if board.usable else None,
            usable=board.usable,
            reason=board.reason,
            by_judges=None if by_judges is None else float(by_judges[k]),
            by_people=None if by_people is None else float(by_people[k]),
        )
        for k, model in enumerate(met.tolist())
    )
    return _Ranking(models, board.above & board.usable)


def _games(rows: _Rows, met: IntArray) -> Games:
    """The games between models that have `met` others in labelled games."""
    played = np.flatnonzero(np.isin(rows.models, met).all(axis=1))
    first, second = np.searchsorted(met, rows.models[played]).T
    return Games(first, second, rows.prediction[played], rows.labelled, rows.label, rows.unit[played])


def _alone_strengths(first: IntArray, second: IntArray, label: FloatArray, m: int) -> FloatArray | None:
    """Estimate strengths from one source of outcomes; None if they are not finite."""
    rows = np.arange(len(label))
    try:
        return bradley_terry(Games(first, second, label, rows, label), m, INTERVAL_DELTA).estimate
    except ValueError:
        return None
