"""From several people's opinions to one label an item."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from trustescalate.types import SKIP, Annotation, Label, Task


def opinions(task: Task, annotations: Iterable[Annotation]) -> Mapping[str, tuple[Annotation, ...]]:
    """The annotations that state one of the task's labels, by item. Skips and dropped ties are none."""
    by_item: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        if annotation.label in task.labels:
            by_item[annotation.item_id].append(annotation)
    return {item_id: tuple(rows) for item_id, rows in by_item.items()}


def majority(task: Task, annotations: Iterable[Annotation]) -> Mapping[str, Label | None]:
    """The label that most people gave, by item; None where no label is ahead of all others.

    Items without any opinion are not in the result. No majority is not dropped: whatever a judge says of
    such an item, most people do not agree with it.

    >>> from trustescalate.types import TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
    >>> rows = [("x", "ann", "A"), ("x", "bob", "A"), ("x", "cy", "tie"), ("y", "ann", "A")]
    >>> rows += [("y", "bob", "B"), ("z", "ann", "skip")]
    >>> majority(task, [Annotation(*row) for row in rows])
    {'x': 'A', 'y': None}
    """
    return {
        item_id: plurality(row.label for row in rows) for item_id, rows in opinions(task, annotations).items()
    }


def plurality(labels: Iterable[Label]) -> Label | None:
    """The most frequent of one or more labels, None when it is not alone at the top."""
    (first, count), *rest = Counter(labels).most_common(2)
    return None if rest and rest[0][1] == count else first


def sampled(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """The annotations on items that somebody labelled as part of a sample: only these stand for other items.

    >>> rows = [Annotation("x", "ann", "A"), Annotation("x", "bob", "B", purpose="abstained")]
    >>> [note.annotator for note in sampled([*rows, Annotation("y", "bob", "A", purpose="abstained")])]
    ['ann', 'bob']
    """
    notes = list(annotations)
    known = {note.item_id for note in notes if note.purpose == "sample"}
    return tuple(note for note in notes if note.item_id in known)


def dropped_ties(task: Task, annotations: Iterable[Annotation]) -> int:
    """How many items lie outside the claim because all that people said of them is a tie."""
    rows = list(annotations)
    stated = opinions(task, rows)
    return len(
        {row.item_id for row in rows if row.label not in (*task.labels, SKIP) and row.item_id not in stated}
    )
