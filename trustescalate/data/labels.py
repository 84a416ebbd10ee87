"""From several people's opinions to one label an item."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from trustescalate.records import SKIP, Annotation, Label, Task


def stated_labels(task: Task, annotations: Iterable[Annotation]) -> Mapping[str, tuple[Annotation, ...]]:
    """The annotations that state one of the task's labels, by item. Skips and dropped ties are none."""
    by_item: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        if annotation.label in task.labels:
            by_item[annotation.item_id].append(annotation)
    return {item_id: tuple(rows) for item_id, rows in by_item.items()}


def claimed(task: Task, annotations: Iterable[Annotation]) -> Mapping[str, tuple[Annotation, ...]]:
    """The opinions that a verdict is held against, by item: empty where everybody skipped.

    Items outside the claim are not in the result: with `ties == "drop"` those that more annotators call a tie
    than give any one label, with `skips == "outside"` those that everybody skipped.

    >>> from trustescalate.records import TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"), "drop")
    >>> rows = [("x", "ann", "A"), ("x", "bob", "tie"), ("y", "ann", "tie"), ("z", "ann", "skip")]
    >>> {key: len(said) for key, said in claimed(task, [Annotation(*row) for row in rows]).items()}
    {'x': 1, 'z': 0}
    """
    by_item: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        by_item[annotation.item_id].append(annotation)
    found = {}
    for item_id, rows in by_item.items():
        counts = Counter(row.label for row in rows if row.label != SKIP)
        stated = tuple(row for row in rows if row.label in task.labels)
        ties = sum(count for label, count in counts.items() if label not in task.labels)
        if ties > max((counts[label] for label in task.labels), default=0):
            continue
        if stated or task.skips == "disagree":
            found[item_id] = stated
    return found


def majority(task: Task, annotations: Iterable[Annotation]) -> Mapping[str, Label | None]:
    """The label that most people gave, by item; None where no label is ahead of all others.

    Items without any opinion, or outside the claim, are not in the result. No majority is not dropped:
    whatever a judge says of such an item, most people do not agree with it.

    >>> from trustescalate.records import TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
    >>> rows = [("x", "ann", "A"), ("x", "bob", "A"), ("x", "cy", "tie"), ("y", "ann", "A")]
    >>> rows += [("y", "bob", "B"), ("z", "ann", "skip")]
    >>> majority(task, [Annotation(*row) for row in rows])
    {'x': 'A', 'y': None}
    """
    return {
        item_id: plurality(row.label for row in rows)
        for item_id, rows in claimed(task, annotations).items()
        if rows
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
    """How many items lie outside the claim because more people call them a tie than give any one label."""
    rows = list(annotations)
    return len(_tied(task, rows) - claimed(task, rows).keys())


def contested_ties(task: Task, annotations: Iterable[Annotation]) -> int:
    """How many items of the claim some people call a tie, where ties are dropped: these are left out."""
    rows = list(annotations)
    return len(_tied(task, rows) & claimed(task, rows).keys())


def skipped(annotations: Iterable[Annotation]) -> int:
    """How many items everybody skipped who was asked.

    >>> skipped([Annotation("x", "ann", "skip"), Annotation("y", "ann", "skip"), Annotation("y", "bob", "A")])
    1
    """
    rows = list(annotations)
    return len({row.item_id for row in rows} - {row.item_id for row in rows if row.label != SKIP})


def _tied(task: Task, rows: Iterable[Annotation]) -> set[str]:
    return {row.item_id for row in rows if row.label not in (*task.labels, SKIP)}
