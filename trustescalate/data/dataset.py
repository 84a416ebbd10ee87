"""Read and validate items and annotations."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from trustescalate.config import Config
from trustescalate.data.clusters import ITEM, content_of, with_clusters
from trustescalate.data.criteria import (
    criterion_in_meta,
    criterion_problem,
    labels_of_rows,
    note_of_row,
    rows_by_criterion,
)
from trustescalate.errors import DataError
from trustescalate.records import Annotation, Item, Purpose, Task
from trustescalate.records.criteria import CRITERION
from trustescalate.records.item_columns import groups_of, items_of
from trustescalate.records.item_fields import value_of, values_of
from trustescalate.records.jsonl import Row, read_rows
from trustescalate.records.stored import StoredItems, read_items, select_items

NO_ITEMS = (
    "write one item a line into it, as the comment at [data] items of the starter configuration shows, or "
    "let `trustescalate import FILES --to FOLDER` write a set; then get labels: `trustescalate label queue "
    "--for calibration`"
)
NO_LABELS = (
    "fix the name at [data] annotations, or make the file: an empty one will do before the first label"
)
CONTENT = 16
"""Hexadecimal digits of the digest of an item's texts in an annotation."""
FIX_LINES = "nothing was changed; fix the lines named above and try again"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Items and annotations of a project. `annotations` are on `items` only.

    An item that was labelled because a cascade abstained on it, or for an unknown reason, is not a random
    draw: it does not represent the others. It counts as `unlabelled`, so that it never certifies, and both
    the items of a run and the pool to draw from stay the whole population. So does an item that was drawn
    from a region: it certifies, and represents the region only.
    """

    items: Sequence[Item]
    annotations: tuple[Annotation, ...]

    @property
    def labelled(self) -> tuple[Item, ...]:
        """Items annotated as part of a sample, whatever the label."""
        return tuple(select_items(self.items, self._noted("sample").__contains__))

    @property
    def in_region(self) -> tuple[Item, ...]:
        """Items drawn from a region only: they certify, and do not represent the others."""
        drawn = self._noted("region") - self._noted("sample")
        return tuple(select_items(self.items, drawn.__contains__))

    @property
    def unlabelled(self) -> Sequence[Item]:
        """All other items: those to be judged."""
        known = self._noted("sample")
        return select_items(self.items, lambda item_id: item_id not in known)

    def notes_on(self, items: Sequence[Item], ids: Collection[str]) -> tuple[Annotation, ...]:
        """The annotations on those of other `items` that have one of `ids` and the same texts here."""
        texts = {item.id: item.shown for item in items_of(items, ids)}
        known = {item.id for item in items_of(self.items, texts) if texts[item.id] == item.shown}
        return tuple(note for note in self.annotations if note.item_id in known)

    def _noted(self, purpose: Purpose) -> set[str]:
        return {note.item_id for note in self.annotations if note.purpose == purpose}

    @property
    def annotated(self) -> frozenset[str]:
        """The ids of annotated items, for any reason."""
        return frozenset(annotation.item_id for annotation in self.annotations)


def load_dataset(config: Config) -> Dataset:
    """Read [data]. Raises DataError with every problem of both files."""
    items_path, notes_path = config.path(config.data.items), config.path(config.data.annotations)
    items, problems = _read_items(items_path, config)
    notes: list[Row[Annotation]] = []
    usual = type(config.data).model_fields["annotations"].default  # need not be there: nobody labelled yet
    if config.data.annotations != usual or notes_path.exists():
        notes, unread = read_rows(notes_path, Annotation)
        problems += unread + _annotation_problems(notes_path, notes, items, config)
    grouped = with_clusters(items, config.data.cluster)
    if items and config.data.cluster not in (None, ITEM) and not groups_of(grouped):
        problems.append(f"{items_path}: no item has {config.data.cluster}, which [data] cluster names")
    grouped = rows_by_criterion(grouped, config)
    if items:
        problems += _value_problems(items_path, grouped, config)
    for field, where in _named_fields(config):
        if items and all(value_of(item, field) is None for item in grouped):
            problems.append(f"{items_path}: no item has {field}, which {where} names")
    if problems:
        hint = FIX_LINES if notes_path.exists() or config.data.annotations == usual else NO_LABELS
        raise DataError(problems, hint if items_path.exists() else NO_ITEMS)
    return Dataset(grouped, tuple(note_of_row(row.record) for row in notes))


def load_items(path: Path, config: Config) -> Sequence[Item]:
    """Read a file of items to be judged."""
    items, problems = _read_items(path, config)
    if problems:
        raise DataError(problems, FIX_LINES)
    return rows_by_criterion(with_clusters(items, config.data.cluster), config)


def check_item(item: Item, config: Config) -> Item:
    """Return the item if it fits the task. Raises DataError with every problem.

    With [[criteria]] its meta names the `criterion` that is asked, and the item is the row of that one.
    """
    if config.criteria:
        return _check_row(item, config)
    problems = list(_problems_of(f"item:1: item {item.id!r}", item, config.task.task()))
    if problems:
        raise DataError(problems, "pass an item that fits [task] kind")
    return with_clusters([item], config.data.cluster)[0]


def _check_row(item: Item, config: Config) -> Item:
    names, asked = [each.name for each in config.criteria], item.meta.get(CRITERION)
    problems = list(_problems_of(f"item:1: item {item.id!r}", item, config.task.task()))
    if asked not in names:
        problems.append(
            f"item {item.id!r}: meta.{CRITERION} must name the criterion that is asked: {', '.join(names)}"
        )
    if problems:
        raise DataError(problems, "pass an item that fits [task] kind and [[criteria]]")
    plain = replace(item, meta={key: value for key, value in item.meta.items() if key != CRITERION})
    return rows_by_criterion(with_clusters([plain], config.data.cluster), config)[names.index(str(asked))]


def _read_items(path: Path, config: Config) -> tuple[Sequence[Item], list[str]]:
    """The items of a file, and what is wrong with it and with them."""
    task, wrong = config.task.task(), list[tuple[int, str]]()

    def check(line: int, item: Item) -> None:
        at = f"{path}:{line}: item {item.id!r}"
        wrong.extend((line, problem) for problem in _problems_of(at, item, task))
        wrong.extend((line, f"{at} {why}") for why in [criterion_in_meta(item, config)] if why)

    items, problems = read_items(path, check)
    if isinstance(items, StoredItems):
        for place, before in items.columns.places.repeated():
            line, first = items.lines.number(place), items.lines.number(before)
            why = f"item {items.ids[place]!r} was already on line {first}; ids must differ"
            wrong.append((line, f"{path}:{line}: {why}"))
    if not items and not problems:
        problems = [f"{path}: holds no rows"]
    return items, problems + [problem for _, problem in sorted(wrong)]


def _problems_of(at: str, item: Item, task: Task) -> Iterator[str]:
    """What is wrong with an item, at a place of a file."""
    if not item.id.strip():
        yield f"{at.rpartition(': item ')[0]}: the id is empty; give each item one of its own"
    if len(item.responses) != task.responses:
        yield (
            f"{at} has {_count(len(item.responses), 'response')}, a {task.kind} task needs "
            f"{task.responses}; keep items of different tasks in different files"
        )
    for place, response in enumerate(item.responses, 1):
        if not isinstance(response, str) and all(turn.role != "assistant" for turn in response):
            yield f"{at}: response {place} has no assistant turn; write what was answered"
    if not replace(item, context=()).prompt_text.strip():
        yield f"{at}: the prompt is empty; write what was asked"
    if item.group is not None and not item.group.strip():
        yield f"{at}: the group is empty; leave it out where an item stands alone"


def _annotation_problems(
    path: Path, rows: list[Row[Annotation]], items: Sequence[Item], config: Config
) -> list[str]:
    problems = []
    seen: dict[tuple[str, str, str | None], int] = {}
    known = {item.id: content_of(item) for item in items_of(items, {row.item_id for _, row in rows})}
    tasks = labels_of_rows(config)
    for line, row in rows:
        at = f"{path}:{line}: item {row.item_id!r}"
        if problem := criterion_problem(row, config):
            problems.append(f"{at} has {problem}")
            continue
        task = tasks[row.criterion or ""]
        if items and row.item_id not in known:
            problems.append(f"{at} is not among the items that could be read; add it or remove the line")
        content = known.get(row.item_id)
        if content is not None and row.content not in (None, content[:CONTENT]):
            problems.append(
                f"{at} was labelled with other texts than those of now; restore them, or give the item a "
                "new id and a label of its own"
            )
        if row.label not in task.annotation_labels:
            allowed = ", ".join(task.annotation_labels)
            problems.append(f"{at}: label {row.label!r} is not one of {allowed}; fix or remove the line")
        if row.seconds is not None and row.seconds < 0:
            problems.append(f"{at}: {row.seconds:g} seconds is before it began; fix or remove the number")
        key = (row.item_id, row.annotator, row.criterion)
        if key in seen:
            problems.append(f"{at} was already labelled by {row.annotator!r} on line {seen[key]}; keep one")
        seen.setdefault(key, line)
    return problems


def _value_problems(path: Path, items: Sequence[Item], config: Config) -> list[str]:
    """Values in [groups] that no item has: a typing error there would change a guarantee."""
    given, problems = config.groups, []
    for name, by in (("by", given.by), ("evidence", given.evidence)):
        if by is not None and not values_of(items, by):
            problems.append(f"{path}: no item has {by}, which [groups] {name} names")
    if given.by is None or problems:
        return problems
    known = set(values_of(items, given.by).values())
    for name, table in (("alpha", given.alpha), ("weights", given.weights)):
        for value in sorted(table.keys() - known):
            near = get_close_matches(value, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(f"{path}: no item has {given.by} {value!r}, which [groups] {name} names{meant}")
    return problems


def _named_fields(config: Config) -> list[tuple[str, str]]:
    board, strata = config.leaderboard, config.data.strata
    named = [(field, "[leaderboard] models") for field in board.models]
    named += [(board.item, "[leaderboard] item")] if board.item else []
    return named + ([(strata, "[data] strata")] if strata else [])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
