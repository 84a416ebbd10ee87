"""Which labelled rows each member of an ensemble is shown: the paper's Simulated Annotators."""

from collections.abc import Sequence
from random import Random

from trustescalate.errors import DataError
from trustescalate.judges.prompts import Exemplar
from trustescalate.labels import majority
from trustescalate.types import Annotation, Item, Label, Task, TaskKind


def exemplar_sets(
    task: Task, items: Sequence[Item], annotations: Sequence[Annotation], members: int, shots: int, seed: int
) -> tuple[tuple[Exemplar, ...], ...]:
    """`members` prompts of `shots` examples each, from rows in the role `exemplars` (arXiv 2407.18370, §2.2).

    Where two or more annotators labelled at least `shots` of the rows, each prompt takes one annotator's own
    labels, in turn; otherwise all take the majority's. Prompts share rows only when there are too few.
    Raises DataError when not even one prompt can be filled.
    """
    if shots == 0:
        return ((),) * members
    tastes = _individuals(task, annotations, shots) or [
        {item_id: label for item_id, label in majority(task, annotations).items() if label is not None}
    ]
    rng = Random(f"exemplars {seed}")
    decks = [_deck(items, labels, rng) for labels in tastes]
    if any(len(deck) < shots for deck in decks):
        have = min(map(len, decks))
        raise DataError(
            [f"a prompt of {shots} examples needs {shots} usable exemplar rows, there are {have}"],
            "label more items, raise [roles] exemplars, or lower [ensemble] shots",
        )
    return tuple(_deal(task, decks, member, shots, rng) for member in range(members))


def _individuals(task: Task, annotations: Sequence[Annotation], shots: int) -> list[dict[str, Label]]:
    by_annotator: dict[str, dict[str, Label]] = {}
    for row in annotations:
        if row.label in task.labels:
            by_annotator.setdefault(row.annotator, {})[row.item_id] = row.label
    able = [by_annotator[name] for name in sorted(by_annotator) if len(by_annotator[name]) >= shots]
    return able if len(able) > 1 else []


def _deck(items: Sequence[Item], labels: dict[str, Label], rng: Random) -> list[tuple[Item, Label]]:
    deck = [(item, labels[item.id]) for item in items if item.id in labels]
    return rng.sample(deck, len(deck))


def _deal(
    task: Task, decks: list[list[tuple[Item, Label]]], member: int, shots: int, rng: Random
) -> tuple[Exemplar, ...]:
    deck = decks[member % len(decks)]
    first = member * shots
    rows = [deck[(first + i) % len(deck)] for i in range(shots)]
    pairwise = task.kind is TaskKind.PAIRWISE
    return tuple(Exemplar(item, label, pairwise and rng.random() < 0.5) for item, label in rows)
