"""Select the few-shot examples of each simulated annotator."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from trustescalate.config import Config
from trustescalate.data.dataset import Dataset
from trustescalate.data.labels import majority
from trustescalate.errors import DataError
from trustescalate.judges.prompts import Exemplar
from trustescalate.records import TIE, Annotation, Item, Label, Task, TaskKind
from trustescalate.records.criteria import row_name
from trustescalate.records.item_columns import items_of

Deck = list[tuple[Item, Label]]


def exemplar_sets(
    task: Task, items: Sequence[Item], annotations: Sequence[Annotation], members: int, shots: int, seed: int
) -> tuple[tuple[Exemplar, ...], ...]:
    """`members` prompts of `shots` examples each, from rows in the role `exemplars` (arXiv 2407.18370, §2.2).

    Where two or more annotators labelled at least `shots` of the rows, each prompt takes one annotator's own
    labels, in turn; otherwise all take the majority's. Prompts share rows only when there are too few. In a
    pair the right answer stands first as often as second. Raises DataError when a prompt cannot be filled.
    """
    if shots == 0:
        return ((),) * members
    rng = Random(f"exemplars {seed}")
    shuffled = rng.sample(items, len(items))
    decks = _individuals(task, shuffled, annotations, shots) or [_deck(shuffled, majority(task, annotations))]
    if len(decks[0]) < shots:
        raise DataError(
            [f"a prompt of {shots} examples needs {shots} usable exemplar rows, there are {len(decks[0])}"],
            "label more items, raise [roles] exemplars, or lower [ensemble] shots",
        )
    shown: Counter[str] = Counter()
    return tuple(_deal(task, decks[member % len(decks)], shots, shown, rng) for member in range(members))


def _individuals(
    task: Task, items: Sequence[Item], annotations: Sequence[Annotation], shots: int
) -> list[Deck]:
    by_annotator: dict[str, dict[str, Label | None]] = {}
    for row in annotations:
        if row.label in task.labels:
            by_annotator.setdefault(row.annotator, {})[row.item_id] = row.label
    decks = [_deck(items, by_annotator[name]) for name in sorted(by_annotator)]
    able = [deck for deck in decks if len(deck) >= shots]
    return able if len(able) > 1 else []


def _deck(items: Sequence[Item], labels: Mapping[str, Label | None]) -> Deck:
    return [(item, label) for item in items if (label := labels.get(item.id)) is not None]


def _deal(task: Task, deck: Deck, shots: int, shown: Counter[str], rng: Random) -> tuple[Exemplar, ...]:
    """Take the rows that were used least so far."""
    rows = sorted(deck, key=lambda row: shown[row[0].id])[:shots]
    shown.update(item.id for item, _ in rows)
    if task.kind is not TaskKind.PAIRWISE:
        return tuple(Exemplar(item, label) for item, label in rows)
    sides = _sides(sum(label != TIE for _, label in rows), rng)
    return tuple(
        Exemplar(item, label, rng.random() < 0.5 if label == TIE else label != sides.pop())
        for item, label in rows
    )


def _sides(decided: int, rng: Random) -> list[Label]:
    """The sides of the right answers of a prompt: as often first as second, in a random order."""
    sides = (["A", "B"] * decided)[:decided] if rng.random() < 0.5 else (["B", "A"] * decided)[:decided]
    return rng.sample(sides, decided)


def criteria_exemplars(
    task: Task,
    names: Sequence[str],
    rows: Sequence[Item],
    annotations: Sequence[Annotation],
    members: int,
    shots: int,
    seed: int,
) -> tuple[tuple[Exemplar, ...], ...]:
    """As `exemplar_sets`, of items with a label on each criterion; `rows` are those of each criterion.

    All prompts take the majority's labels, since few annotators label every criterion.
    """
    if shots == 0:
        return ((),) * members
    labels = majority(task, annotations)
    by_item: dict[str, list[Item]] = {}
    for row in rows:
        by_item.setdefault(row_name(row).item_id, []).append(row)
    rng = Random(f"exemplars {seed}")
    whole: dict[str, Exemplar] = {}
    for item_id in rng.sample(sorted(by_item), len(by_item)):
        own = {row_name(row).criterion: labels.get(row.id) for row in by_item[item_id]}
        named = tuple(label for name in names if (label := own.get(name)) is not None)
        if len(named) == len(names):
            turned = task.kind is TaskKind.PAIRWISE and rng.random() < 0.5
            whole[item_id] = Exemplar(by_item[item_id][0], ", ".join(named), turned, named)
    if len(whole) < shots:
        raise DataError(
            [
                f"a prompt of {shots} examples needs {shots} exemplar items with a label on each criterion, "
                f"there are {len(whole)}"
            ],
            "label more items on every criterion, raise [roles] exemplars, or lower [ensemble] shots",
        )
    ordered = list(whole.values())
    return tuple(
        tuple(ordered[(member * shots + place) % len(ordered)] for place in range(shots))
        for member in range(members)
    )


def exemplars_of(config: Config, data: Dataset, ids: Sequence[str]) -> Sequence[Sequence[Exemplar]]:
    """The few-shot examples of each prompt, from the labelled items with these ids, in their order."""
    if not config.needs_exemplars:
        return ((),) * config.ensemble.members
    wanted = {item_id: place for place, item_id in enumerate(ids)}
    items = sorted(items_of(data.items, wanted), key=lambda item: wanted[item.id])
    notes = [note for note in data.annotations if note.item_id in wanted]
    sizes = (config.ensemble.members, config.ensemble.shots, config.roles.seed)
    if config.criteria:
        return criteria_exemplars(config.task.task(), list(config.criterion_tasks()), items, notes, *sizes)
    return exemplar_sets(config.task.task(), items, notes, *sizes)
