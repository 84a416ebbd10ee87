"""Make one row of an item for each criterion, with the labels that people gave it on that criterion."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from trustescalate.config import Config
from trustescalate.records import Annotation, Item, Task
from trustescalate.records.criteria import CRITERION, criterion_row, row_id, row_name
from trustescalate.records.stored import StoredItems, StoredRows


def rows_by_criterion(items: Sequence[Item], config: Config) -> Sequence[Item]:
    """The items, or with [[criteria]] one row of each item for each criterion, next to one another.

    The rows of an item have its texts and are one cluster: its own group, or the item.
    """
    if not config.criteria:
        return items
    names = [each.name for each in config.criteria]
    if isinstance(items, StoredItems):
        return StoredRows.of(items, names)
    return tuple(criterion_row(item, name) for item in items for name in names)


def labels_of_rows(config: Config) -> Mapping[str, Task]:
    """The task of each criterion by its name; without [[criteria]] the one task, under ""."""
    return config.criterion_tasks() or {"": config.task.task()}


def criterion_in_meta(item: Item, config: Config) -> str:
    """Why an item cannot be divided by criterion; "" where it can."""
    if not config.criteria or CRITERION not in item.meta:
        return ""
    return "has a criterion in its meta, where [[criteria]] put theirs; give that key another name"


def criterion_problem(note: Annotation, config: Config) -> str:
    """Why the criterion of an annotation is none of the configuration; "" where it is one."""
    names = [each.name for each in config.criteria]
    if not names and note.criterion is not None:
        return f"criterion {note.criterion!r}, and the configuration has no [[criteria]]; remove one of them"
    if not names or note.criterion in names:
        return ""
    if note.criterion is None:
        return f"no criterion; say which one it is about: {', '.join(names)}"
    near = get_close_matches(note.criterion, names, 1)
    meant = f"did you mean {near[0]!r}?" if near else f"[[criteria]] are {', '.join(names)}"
    return f"unknown criterion {note.criterion!r}: {meant}"


def note_of_row(note: Annotation) -> Annotation:
    """An annotation as the rows know it: it names its row."""
    return note if note.criterion is None else replace(note, item_id=row_id(note.item_id, note.criterion))


def note_of_item(note: Annotation, item: Item | None) -> Annotation:
    """An annotation as the file of annotations has it: it names its item and the criterion."""
    name = None if item is None else row_name(item)
    if name is None or not name.criterion:
        return note
    return replace(note, item_id=name.item_id, criterion=name.criterion)
