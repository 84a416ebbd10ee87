"""Make votes of columns that hold the probabilities, or log-probabilities, of labels."""

import math
import re
from collections.abc import Mapping
from typing import Any

from trustescalate.data.importers.codes import cell_text, spelling, usual_codes
from trustescalate.data.importers.survey import number_of
from trustescalate.data.importers.verdicts import verdict
from trustescalate.errors import DataError
from trustescalate.records import TIE, Label, Task, Vote

_PROB = r"(?:log[_-]?probs?|logprobability|logp|probs?|probability)"
_WHO = r"(?:(?P<judge>.+?)[_. -])?"
NAMED = (
    re.compile(rf"{_WHO}{_PROB}[_. -](?P<label>.+)", re.IGNORECASE),
    re.compile(rf"{_WHO}(?P<label>[^_. -]+)[_. -]{_PROB}", re.IGNORECASE),
)
"""A column of a judge and a label, as "gpt_logprob_A" or "gpt_A_logprob"."""
JUDGE = "judge"
ROUNDED = 1e-3
"""Probabilities are rounded in tables: their sum may exceed 1 by so much."""
MIN_MASS = 1e-12
Shares = Mapping[str, Mapping[Label, str]]


def label_columns(task: Task, given: Mapping[str, str | Mapping[str, str]], keys: frozenset[str]) -> Shares:
    """The columns of each judge, by label: those that the user names, else those with known names.

    >>> from trustescalate.records import TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which?", ("A", "B", "tie"))
    >>> label_columns(task, {}, frozenset({"id", "gpt_logprob_A", "gpt_logprob_B"}))
    {'gpt': {'A': 'gpt_logprob_A', 'B': 'gpt_logprob_B'}}
    """
    two = [label for label in task.labels if label != TIE]
    columns: dict[str, dict[Label, str]] = {}
    for judge, named in given.items():
        if isinstance(named, str):
            if len(two) != 2:
                raise DataError(
                    ["[import] probabilities: one column is for two labels"],
                    'name one for each label: { judge = { "1" = "column", ... } }',
                )
            columns[judge] = {two[0]: named}
        elif unknown := sorted(named.keys() - set(task.labels)):
            raise DataError(
                [f"[import] probabilities: {', '.join(map(repr, unknown))} is no label"],
                f"the labels are {', '.join(task.labels)}",
            )
        else:
            columns[judge] = dict(named)
    if given:
        return columns
    labels = {**usual_codes(task), **{spelling(label): label for label in task.labels}}
    for key in sorted(keys):
        match = next((match for pattern in NAMED if (match := pattern.fullmatch(key))), None)
        label = labels.get(spelling(match["label"])) if match else None
        if match and label:
            columns.setdefault(match["judge"] or JUDGE, {}).setdefault(label, key)
    return {judge: by_label for judge, by_label in columns.items() if by_label.keys() >= set(two)}


def share_vote(cells: Mapping[Label, Any], task: Task, logarithms: bool) -> Vote:
    """A vote from the cells of a row, in the item's own frame; of one cell, the rest is the other label's.

    >>> from trustescalate.records import TaskKind
    >>> share_vote({"A": "-0.1", "B": "-3"}, Task(TaskKind.PAIRWISE, "?", ("A", "B")), True).probs["B"] < 0.05
    True
    """
    raw = ", ".join(cell_text(cell).strip() for cell in cells.values())
    values = {label: number_of(cell) for label, cell in cells.items()}
    if logarithms:
        values = {label: math.exp(value) if value <= 0 else math.nan for label, value in values.items()}
    mass = sum(values.values())
    least = 0 if len(values) == 1 else MIN_MASS
    if not least <= mass <= 1 + ROUNDED or not all(0 <= value <= 1 for value in values.values()):
        return verdict(None, raw=raw)
    if len(values) == 1:
        other = next(label for label in task.labels if label not in values and label != TIE)
        values[other] = 1 - mass
    elif mass > 1:
        values = {label: value / mass for label, value in values.items()}
    return Vote(0, "", values, raw=raw)
