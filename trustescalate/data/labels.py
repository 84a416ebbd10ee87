"""Aggregate several annotations of an item into one label."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from trustescalate.records import SKIP, Annotation, Label, Task


def without_labels(folder: Path) -> str:
    """What to do where nobody labelled an item yet."""
    config = "" if folder == Path() else f" --config {shlex.quote(str(folder / 'trustescalate.toml'))}"
    return (
        "no item has a label by a human, which a certificate needs: "
        f"`trustescalate label queue --for calibration --rows 200{config}`, "
        "then `label serve` and `label import`"
    )


def stated_labels(task: Task, annotations: Iterable[Annotation]) -> Mapping[str, tuple[Annotation, ...]]:
    """Return the annotations with one of the task's labels, by item; skips and dropped ties have none."""
    by_item: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        if annotation.label in task.labels:
            by_item[annotation.item_id].append(annotation)
    return {item_id: tuple(rows) for item_id, rows in by_item.items()}


def reference_annotations(
    task: Task, annotations: Iterable[Annotation]
) -> Mapping[str, tuple[Annotation, ...]]:
    """Return the annotations that a verdict is compared with, by item: none where everybody skipped.

    Items outside the claim are not in the result: with `ties == "drop"` those that more annotators call a tie
    than give any one label, with `skips == "outside"` those that everybody skipped.

    >>> from trustescalate.records import TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"), "drop")
    >>> rows = [("x", "ann", "A"), ("x", "bob", "tie"), ("y", "ann", "tie"), ("z", "ann", "skip")]
    >>> by_item = reference_annotations(task, [Annotation(*row) for row in rows])
    >>> {item_id: len(stated) for item_id, stated in by_item.items()}
    {'x': 1, 'z': 0}
    """
    by_item: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        by_item[annotation.item_id].append(annotation)
    claim = {}
    for item_id, rows in by_item.items():
        counts = Counter(row.label for row in rows if row.label != SKIP)
        stated = tuple(row for row in rows if row.label in task.labels)
        ties = sum(count for label, count in counts.items() if label not in task.labels)
        if ties > max((counts[label] for label in task.labels), default=0):
            continue
        if stated or task.skips == "disagree":
            claim[item_id] = stated
    return claim


def majority(task: Task, annotations: Iterable[Annotation]) -> Mapping[str, Label | None]:
    """Return the majority label, by item; None where no label is ahead of all others.

    Items without a stated label, or outside the claim, are not in the result. Items without a majority are:
    no verdict on them agrees with most annotators.

    >>> from trustescalate.records import TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
    >>> rows = [("x", "ann", "A"), ("x", "bob", "A"), ("x", "cy", "tie"), ("y", "ann", "A")]
    >>> rows += [("y", "bob", "B"), ("z", "ann", "skip")]
    >>> majority(task, [Annotation(*row) for row in rows])
    {'x': 'A', 'y': None}
    """
    return {
        item_id: plurality(row.label for row in rows)
        for item_id, rows in reference_annotations(task, annotations).items()
        if rows
    }


def plurality(labels: Iterable[Label]) -> Label | None:
    """The most frequent of one or more labels, None when it is not alone at the top."""
    (first, count), *rest = Counter(labels).most_common(2)
    return None if rest and rest[0][1] == count else first


def sampled(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Return the annotations on items labelled as part of a sample: only these represent other items.

    >>> rows = [Annotation("x", "ann", "A"), Annotation("x", "bob", "B", purpose="abstained")]
    >>> [note.annotator for note in sampled([*rows, Annotation("y", "bob", "A", purpose="abstained")])]
    ['ann', 'bob']
    """
    notes = list(annotations)
    known = {note.item_id for note in notes if note.purpose == "sample"}
    return tuple(note for note in notes if note.item_id in known)


def dropped_ties(task: Task, annotations: Iterable[Annotation]) -> int:
    """Count the items outside the claim as ties: more annotators call them a tie than give any one label."""
    rows = list(annotations)
    return len(_tied(task, rows) - reference_annotations(task, rows).keys())


def contested_ties(task: Task, annotations: Iterable[Annotation]) -> int:
    """Count the items of the claim that some annotators call a tie, where ties are dropped."""
    rows = list(annotations)
    return len(_tied(task, rows) & reference_annotations(task, rows).keys())


def skipped(annotations: Iterable[Annotation]) -> int:
    """Count the items that every annotator skipped.

    >>> skipped([Annotation("x", "ann", "skip"), Annotation("y", "ann", "skip"), Annotation("y", "bob", "A")])
    1
    """
    rows = list(annotations)
    return len({row.item_id for row in rows} - {row.item_id for row in rows if row.label != SKIP})


def _tied(task: Task, rows: Iterable[Annotation]) -> set[str]:
    return {row.item_id for row in rows if row.label not in (*task.labels, SKIP)}
