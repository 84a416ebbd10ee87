"""Fit a scikit-learn model as tier 0, on labelled exemplar and dev rows, or on the last judge's verdicts.

Its features are length, form, overlap with prompt and reference, and common n-grams, at no cost. Where
verdicts depend on these, it accepts a share of the items; elsewhere scores stay low, and all items escalate.
The certificate only needs it to be the same judge: it is fitted again from the same rows at each use, and its
fingerprint is a hash of the fitted numbers. Nothing is stored; certification rows are never used.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from trustescalate.errors import DataError
from trustescalate.judges.base import Tariff
from trustescalate.judges.features import DECIMALS, BoolArray, FloatArray, Reader
from trustescalate.judges.prompts import Exemplar
from trustescalate.records import TIE, Channel, Item, Judgment, Label, Task, TaskKind, Vote
from trustescalate.records.jsonl import canonical, digest
from trustescalate.records.votes import Enough

Model = Literal["logistic", "boosted"]
Answers = tuple[BoolArray, BoolArray]
"""The rows with an answer to a question, shape (n,), and those with the answer yes."""

FEWEST = 20
ROWS = {
    "labels": "rows in the roles exemplars and dev",
    "last_judge": "unlabelled items with a verdict of the last judge",
}
MORE = {
    "labels": "set [roles] dev = 0.3, or label more items",
    "last_judge": "bring more items without labels, and raise [guarantee] pilot",
}
FOLDS = 5
PENALTIES = (0.003, 0.03, 0.3)
"""Inverse strengths of the L2 penalty; cross-fitting chooses."""


class ClassicalJudge:
    """A model of features of the responses, with one calibrated vote per item.

    For a pair it is an odd function of the *difference* of the two responses, so the vote on a swapped pair
    is the swapped vote, bit for bit. Probabilities are calibrated by Platt's method on cross-fitted margins.
    A fitting row is judged by a model fitted without its fold, so votes on dev rows are unbiased.

    `rows` are items outside of the certification rows with human labels or the last judge's verdicts, as
    `fit_on` says. Raises DataError for fewer than 20 of them, or fewer than 5 groups.
    """

    channel: Channel = "logprobs"

    def __init__(
        self,
        name: str,
        task: Task,
        rows: Sequence[Exemplar],
        *,
        model: Model = "logistic",
        fit_on: Literal["labels", "last_judge"] = "labels",
        seed: int = 0,
        tariff: Tariff | None = None,
    ) -> None:
        if len(rows) < FEWEST:
            raise DataError(
                [f"judge {name!r} has {len(rows)} {ROWS[fit_on]} to be fitted on"],
                f"it needs {FEWEST} or more: {MORE[fit_on]}",
            )
        rows = sorted(rows, key=lambda row: (_key(row.item), row.item.texts, row.label))
        self.name = name
        self._task = task
        self._cost = (tariff or Tariff()).request
        self._folds = _folds([row.item for row in rows], seed)
        if len(set(self._folds.values())) < FOLDS:
            raise DataError(
                [f"judge {name!r}: the rows to be fitted on lie in fewer than {FOLDS} groups"],
                f"it needs rows of more groups: {MORE[fit_on]}",
            )
        with threadpool_limits(1):  # small matrices: threads are slower, and change last bits
            self._models, self._platt = _cross_fitted(
                task, rows, model, [self._folds[_key(r.item)] for r in rows]
            )
        self.fingerprint = digest(
            "classical",
            task.kind,
            task.labels,
            self._folds,
            self._platt,
            [m.fingerprint for m in self._models],
        )

    async def judge(self, item: Item, enough: Enough) -> Judgment:  # noqa: ARG002
        """Vote once, without model calls."""
        margins = self._models[self._folds.get(_key(item), -1)].margins(item)
        logits = [slope * margin + shift for margin, (slope, shift) in zip(margins, self._platt, strict=True)]
        order: Literal["AB+BA", ""] = "AB+BA" if self._task.kind is TaskKind.PAIRWISE else ""
        vote = Vote(0, order, _probabilities(self._task, logits), channel=self.channel, cost=self._cost)
        return Judgment(item.id, self.name, self.fingerprint, (vote,), 1)


def _probabilities(task: Task, logits: Sequence[float]) -> Mapping[Label, float]:
    """One logit per question: "A or B?" and "a tie?" for a pair, else "this label, or another?" for each."""
    if task.kind is not TaskKind.PAIRWISE:
        shares = [_mirrored(logit)[0] for logit in logits]
        total = sum(shares)
        return {label: share / total for label, share in zip(task.labels, shares, strict=True)}
    tie = _mirrored(logits[1])[0] if TIE in task.labels else 0.0
    first, second = _mirrored(logits[0])
    probs = {"A": (1 - tie) * first, "B": (1 - tie) * second}
    return probs | ({TIE: tie} if TIE in task.labels else {})


def _mirrored(logit: float) -> tuple[float, float]:
    """A probability and its complement, such that the opposite logit gives them exchanged, bit for bit."""
    likelier = float(1 / (1 + np.exp(-min(abs(logit), 30.0))))
    return (likelier, 1 - likelier) if logit >= 0 else (1 - likelier, likelier)


# ── fitting ────────────────────────────────────────────────────────────────────────────────────────


class _Linear(NamedTuple):
    weights: FloatArray
    shift: float

    def margins(self, x: FloatArray) -> FloatArray:
        # Added one by one, in one order: then -x gives exactly the opposite, which BLAS does not guarantee.
        sums: FloatArray = np.add.reduce(x * self.weights, axis=1)
        return sums + self.shift

    @property
    def numbers(self) -> list[object]:
        return [self.weights.tolist(), self.shift]


class _Trees(NamedTuple):
    trees: tuple[object, ...]
    leaves: tuple[FloatArray, ...]
    odd: bool

    def margins(self, x: FloatArray) -> FloatArray:
        return (self._sum(x) - self._sum(-x)) / 2 if self.odd else self._sum(x)

    def _sum(self, x: FloatArray) -> FloatArray:
        narrow = x.astype(np.float32)
        votes = [leaves[tree.apply(narrow)] for tree, leaves in zip(self.trees, self.leaves, strict=True)]  # type: ignore[attr-defined]
        total: FloatArray = np.sum(votes, axis=0)
        return total

    @property
    def numbers(self) -> list[object]:
        splits = [
            [tree.feature.tolist(), np.round(tree.threshold, DECIMALS).tolist()]  # type: ignore[attr-defined]
            for tree in self.trees
        ]
        return [splits, [leaves.tolist() for leaves in self.leaves], self.odd]


class _Fitted(NamedTuple):
    """Features and one scorer per question."""

    task: Task
    reader: Reader
    scorers: tuple[_Linear | _Trees, ...]

    def margins(self, item: Item) -> list[float]:
        inputs = _inputs(self.task, self.reader.rows([item]))
        return [float(scorer.margins(x)[0]) for scorer, x in zip(self.scorers, inputs, strict=True)]

    @property
    def fingerprint(self) -> str:
        return digest(self.reader.fingerprint, [scorer.numbers for scorer in self.scorers])


def _inputs(task: Task, rows: FloatArray) -> list[FloatArray]:
    """The inputs of each question, from rows (n, responses, d)."""
    if task.kind is not TaskKind.PAIRWISE:
        return [rows[:, 0]] * len(task.labels)
    difference = rows[:, 0] - rows[:, 1]
    return [difference, np.abs(difference)] if TIE in task.labels else [difference]


def _answers(task: Task, rows: Sequence[Exemplar]) -> list[Answers]:
    """For each question the rows with an answer, and the answers."""
    labels = np.array([row.label for row in rows])
    if task.kind is not TaskKind.PAIRWISE:
        return [(np.ones(len(rows), dtype=bool), labels == label) for label in task.labels]
    questions = [(labels != TIE, labels == "A"), (np.ones(len(rows), dtype=bool), labels == TIE)]
    return questions if TIE in task.labels else questions[:1]


def _cross_fitted(
    task: Task, rows: Sequence[Exemplar], model: Model, folds: Sequence[int]
) -> tuple[list[_Fitted], list[tuple[float, float]]]:
    """Fit a model without each fold, and a last one on all rows; and Platt's slope and shift per question."""
    answers, place = _answers(task, rows), np.array(folds)
    parts = [place != fold for fold in range(max(folds) + 1)]
    candidates: list[tuple[float, list[_Fitted], list[FloatArray]]] = []
    whole = np.ones(len(rows), dtype=bool)
    readers = [
        Reader([row.item for row in _of(rows, part)], grams=model == "logistic") for part in (*parts, whole)
    ]
    seen = [reader.rows([row.item for row in rows]) for reader in readers]
    for penalty in PENALTIES if model == "logistic" else (0.0,):
        models = [
            _fit(task, reader, x, part, answers, penalty)
            for reader, x, part in zip(readers, seen, (*parts, whole), strict=True)
        ]
        margins = [np.zeros(len(rows)) for _ in answers]
        for fitted, x, part in zip(models, seen, parts, strict=False):
            for question, inputs in enumerate(_inputs(task, x[~part])):
                margins[question][~part] = fitted.scorers[question].margins(inputs)
        candidates.append((_loss(margins, answers), models, margins))
    _, models, margins = min(candidates, key=lambda each: each[0])
    odd = task.kind is TaskKind.PAIRWISE
    return models, [
        _platt(margin[stated], yes[stated], odd=odd and question == 0)
        for question, (margin, (stated, yes)) in enumerate(zip(margins, answers, strict=True))
    ]


def _fit(
    task: Task, reader: Reader, rows: FloatArray, part: BoolArray, answers: Sequence[Answers], penalty: float
) -> _Fitted:
    scorers = []
    for question, (x, (stated, yes)) in enumerate(zip(_inputs(task, rows), answers, strict=True)):
        odd = task.kind is TaskKind.PAIRWISE and question == 0
        scorers.append(_scorer(*_shown(x[part & stated], yes[part & stated], odd=odd), penalty, odd=odd))
    return _Fitted(task, reader, tuple(scorers))


def _scorer(x: FloatArray, y: BoolArray, penalty: float, *, odd: bool) -> _Linear | _Trees:
    if len(np.unique(y)) < 2:
        return _Linear(np.zeros(x.shape[1]), 0.0 if not len(y) else float(2 * y[0] - 1))
    if penalty:
        fitted = LogisticRegression(
            C=penalty, fit_intercept=not odd, solver="newton-cholesky", tol=1e-10, max_iter=200
        ).fit(x, y)
        return _Linear(_rounded(fitted.coef_[0]), 0.0 if odd else float(_rounded(fitted.intercept_)[0]))
    trees = GradientBoostingClassifier(
        init="zero", n_estimators=80, learning_rate=0.05, max_depth=2, min_samples_leaf=5, random_state=0
    ).fit(x, y)
    kept = tuple(tree.tree_ for tree in trees.estimators_[:, 0])
    return _Trees(kept, tuple(_rounded(0.05 * tree.value[:, 0, 0]) for tree in kept), odd)


def _shown(x: FloatArray, y: BoolArray, *, odd: bool) -> tuple[FloatArray, BoolArray]:
    """A pair is shown in both orders."""
    return (np.vstack([x, -x]), np.concatenate([y, ~y])) if odd else (x, y)


def _loss(margins: Sequence[FloatArray], answers: Sequence[Answers]) -> float:
    return sum(
        float(np.logaddexp(0.0, np.where(yes, -margin, margin))[stated].sum())
        for margin, (stated, yes) in zip(margins, answers, strict=True)
    )


def _platt(margin: FloatArray, yes: BoolArray, *, odd: bool) -> tuple[float, float]:
    """Slope and shift from margins to log-odds (Platt, 1999). A slope below 0 means that the features are
    uninformative: then it is 0, which gives a pair no verdict."""
    if len(np.unique(yes)) < 2 and not odd:
        return 0.0, float(_rounded(np.log((yes.sum() + 0.5) / (len(yes) - yes.sum() + 0.5))))
    x, y = _shown(margin[:, None], yes, odd=odd)
    if not len(y):
        return 0.0, 0.0
    fitted = LogisticRegression(C=10.0, fit_intercept=not odd, solver="newton-cholesky", tol=1e-10).fit(x, y)
    slope = float(_rounded(fitted.coef_)[0, 0])
    return max(slope, 0.0), 0.0 if odd else float(_rounded(fitted.intercept_)[0])


def _folds(items: Sequence[Item], seed: int) -> Mapping[str, int]:
    """The fold of each fitting row by its content; rows of one group lie in one fold."""
    clusters = {_key(item): item.group or _key(item) for item in items}
    order = sorted(set(clusters.values()), key=lambda cluster: digest("fold", seed, cluster))
    place = {cluster: i % FOLDS for i, cluster in enumerate(order)}
    return {key: place[cluster] for key, cluster in clusters.items()}


def _key(item: Item) -> str:
    """A hash of the item, independent of the order of the responses."""
    return digest(item.asked, item.reference, sorted(map(canonical, item.responses)))


def _of(rows: Sequence[Exemplar], part: BoolArray) -> list[Exemplar]:
    return [row for row, taken in zip(rows, part, strict=True) if taken]


def _rounded(values: FloatArray) -> FloatArray:
    """Round off the bits that differ between machines' solvers, and any negative zero."""
    return np.round(values, DECIMALS) + 0.0
