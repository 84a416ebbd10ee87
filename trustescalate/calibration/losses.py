"""Define the estimand of a guarantee: which label a verdict must agree with, and what it loses otherwise.

Certificates, reports and monitoring all count by these functions.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trustescalate.data.labels import plurality, reference_annotations
from trustescalate.records import TIE, Against, Annotation, Label, Task, TaskKind
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.losses import expected_losses


def is_binary(task: Task, against: Against) -> bool:
    """Whether a verdict is right or wrong by construction; else it loses a share: tested by betting."""
    return against == "majority" and task.ties != "half"


def losses(
    task: Task, against: Against, annotations: Iterable[Annotation]
) -> Mapping[str, Mapping[Label, float]]:
    """What each of the task's labels would lose, 0 to 1, on each item of `reference_annotations`.

    Against "majority": 0 for the majority's label, else 1, and 1 for every label where there is no majority
    or everybody skipped.
    Against "annotator": the mean over the item's annotators, so the risk against one drawn at random. With
    `ties == "half"` a tie on one side alone loses 1/2; a rating within `tolerance` of people's loses nothing.

    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"), ties="half")
    >>> rows = [Annotation("x", "ann", "A"), Annotation("x", "bob", "A"), Annotation("x", "cy", "tie")]
    >>> losses(task, "majority", rows)
    {'x': {'A': 0.0, 'B': 1.0, 'tie': 0.5}}
    >>> losses(task, "annotator", [*rows, Annotation("x", "dee", "B")])
    {'x': {'A': 0.375, 'B': 0.625, 'tie': 0.375}}
    """
    by_item = reference_annotations(task, annotations)
    counts = np.zeros((len(by_item), len(task.labels)), dtype=np.int64)
    place = {label: i for i, label in enumerate(task.labels)}
    for row, stated in enumerate(by_item.values()):
        stated_labels = [note.label for note in stated]
        if against == "majority" and stated_labels:
            winner = plurality(stated_labels)
            stated_labels = [] if winner is None else [winner]
        for label in stated_labels:
            counts[row, place[label]] += 1
    table = expected_losses(counts, _pairwise_losses(task)).tolist()
    return {
        item_id: dict(zip(task.labels, row, strict=True)) for item_id, row in zip(by_item, table, strict=True)
    }


def loss_table(task: Task, known: Mapping[str, Mapping[Label, float]], rows: Sequence[str]) -> FloatArray:
    """`losses` as (n, c), for these rows and the task's labels; 1 where no annotator states a label."""
    nothing = dict.fromkeys(task.labels, 1.0)
    table = [[known.get(item_id, nothing)[label] for label in task.labels] for item_id in rows]
    return np.array(table, dtype=np.float64).reshape(len(rows), len(task.labels))


def verdict_losses(labels: IntArray, table: FloatArray) -> FloatArray:
    """The losses of verdicts (n, m) by a table (n, c) of `loss_table`; 1 where there is none, -1.

    >>> verdict_losses(np.array([[1, 0, -1]]), np.array([[0.5, 0.0]])).tolist()
    [[0.0, 0.5, 1.0]]
    """
    lost = np.take_along_axis(table, np.maximum(labels, 0), axis=1)
    return np.where(labels >= 0, lost, 1.0).astype(np.float64)


def right_or_wrong(labels: IntArray, table: FloatArray) -> IntArray:
    """Verdicts (n, m) as 0 where they lose nothing, 1 where they lose anything, -1 where there is none.

    Against a truth of 0 they count as the estimand counts, in every function of `stats` that compares.
    """
    return np.where(labels < 0, -1, verdict_losses(labels, table) > 0).astype(np.int64)


def whom(task: Task, against: Against) -> str:
    """The reference in words, to follow "agree with".

    >>> whom(Task(TaskKind.RATING, "How good?", ("1", "2", "3"), tolerance=1), "majority")
    "the majority of an item's annotators, where a rating at most 1 away from theirs agrees"
    """
    people = "the majority of an item's annotators" if against == "majority" else AN_ANNOTATOR
    return people + rule(task)


AN_ANNOTATOR = "an annotator drawn at random from those of the item"


def rule(task: Task) -> str:
    """The treatment of ties and near misses in words that begin with a comma; empty by default."""
    if task.ties == "drop":
        return ", leaving out those who call it a tie"
    if task.ties == "half":
        return ", where a tie against a preference counts one half"
    return f", where a rating at most {task.tolerance} away from theirs agrees" if task.tolerance else ""


def _pairwise_losses(task: Task) -> FloatArray:
    """The loss of verdict i against label j (c, c)."""
    if task.kind is TaskKind.RATING:
        grades = np.array([int(label) for label in task.labels])
        return np.asarray(np.abs(grades[:, None] - grades) > task.tolerance, dtype=np.float64)
    lost = 1 - np.eye(len(task.labels))
    if task.ties == "half":
        tie = task.labels.index(TIE)
        lost[tie, :] = lost[:, tie] = 0.5
        lost[tie, tie] = 0.0
    return lost
