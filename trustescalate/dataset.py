"""Items and annotations from files, checked all at once, and divided into roles that never overlap."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from pathlib import Path
from typing import Literal, TypeVar, get_args

from trustescalate.config import Config, RolesTable
from trustescalate.errors import DataError
from trustescalate.jsonl import Row, canonical, digest, read_rows
from trustescalate.types import Annotation, Item, Task
from trustescalate.values import value_of, values_of

Role = Literal["exemplars", "dev", "certify", "holdout"]
ITEM = "item"
"""[data] group = "item": every item is a cluster of its own, though prompts repeat."""
R = TypeVar("R", Item, Annotation)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What people brought. `annotations` are on `items` only.

    An item that people labelled because a cascade abstained on it, or for a reason that is not known, was
    picked: it says nothing about the others. It counts as `unlabelled`, so that it never certifies, and both
    the items that a run judges and those that are drawn for people stay the whole population. So does an item
    that was drawn from a region: it certifies, and stands for the region only.
    """

    items: tuple[Item, ...]
    annotations: tuple[Annotation, ...]

    @property
    def labelled(self) -> tuple[Item, ...]:
        """Items that somebody annotated as part of a sample, whatever the annotation says."""
        known = {annotation.item_id for annotation in self.annotations if annotation.purpose == "sample"}
        return tuple(item for item in self.items if item.id in known)

    @property
    def in_region(self) -> tuple[Item, ...]:
        """Items that were drawn from a region alone: they certify, and say nothing of the others."""
        known, drawn = (
            {note.item_id for note in self.annotations if note.purpose == purpose}
            for purpose in ("sample", "region")
        )
        return tuple(item for item in self.items if item.id in drawn - known)

    @property
    def unlabelled(self) -> tuple[Item, ...]:
        """All other items: those to be judged."""
        known = {item.id for item in self.labelled}
        return tuple(item for item in self.items if item.id not in known)

    @property
    def annotated(self) -> frozenset[str]:
        """The ids of items that somebody annotated, for whatever reason."""
        return frozenset(annotation.item_id for annotation in self.annotations)


def load_dataset(config: Config) -> Dataset:
    """Read [data]. Raises DataError with every problem of both files."""
    task = config.task.task()
    items_path, notes_path = config.path(config.data.items), config.path(config.data.annotations)
    items, problems = _read(items_path, Item)
    problems += _item_problems(items_path, items, task)
    notes: list[Row[Annotation]] = []
    if "annotations" in config.data.model_fields_set or notes_path.exists():
        notes, unread = _read(notes_path, Annotation)
        problems += unread + _annotation_problems(notes_path, notes, {row.record.id for row in items}, task)
    grouped = _grouped([row.record for row in items], config.data.group)
    if items and config.data.group not in (None, ITEM) and all(item.group is None for item in grouped):
        problems.append(f"{items_path}: no item has {config.data.group}, which [data] group names")
    if items:
        problems += _value_problems(items_path, [row.record for row in items], config)
    for field, where in _named_fields(config):
        if items and all(value_of(item, field) is None for item in grouped):
            problems.append(f"{items_path}: no item has {field}, which {where} names")
    if problems:
        raise DataError(problems, "nothing was changed; mend the lines named above and try again")
    return Dataset(grouped, tuple(row.record for row in notes))


def load_items(path: Path, config: Config) -> tuple[Item, ...]:
    """Read a file of items to be judged."""
    items, problems = _read(path, Item)
    problems += _item_problems(path, items, config.task.task())
    if problems:
        raise DataError(problems, "nothing was changed; mend the lines named above and try again")
    return _grouped([row.record for row in items], config.data.group)


def content_digest(item: Item) -> str:
    """A hash of what is judged: prompt, reference and responses, whichever of them comes first."""
    order = sorted(item.responses, key=lambda each: each if isinstance(each, str) else canonical(each))
    return digest(item.prompt, item.reference, order)


def clusters(items: Sequence[Item]) -> list[list[Item]]:
    """Items that must stay together: same group, or same content. The smallest sets closed under both."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for item in items:
        if item.group is not None:
            parent[find(f"group {item.group}")] = find(f"content {content_digest(item)}")
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        members[find(f"content {content_digest(item)}")].append(item)
    return list(members.values())


def independent_items(
    items: Sequence[Item], known: Sequence[Item], taken: Set[str], seed: int
) -> tuple[str, ...]:
    """One of `items` from each cluster without a row in `taken`: the first by a seeded hash of its id.

    `taken` are ids of items that a certificate was made from, looked up in `known` where they are not among
    `items`. No verdict is looked at.

    >>> items = [Item("a", "1", ("x",)), Item("b", "2", ("x",), group="g"), Item("c", "3", ("x",))]
    >>> independent_items(items, [Item("d", "4", ("x",), group="g")], {"c", "d"}, seed=0)
    ('a',)
    """
    here = {item.id for item in items}
    used = [item for item in known if item.id in taken and item.id not in here]
    free = [rows for rows in clusters([*items, *used]) if taken.isdisjoint(item.id for item in rows)]
    return tuple(min((item.id for item in rows), key=lambda each: digest("one", seed, each)) for rows in free)


def cluster_source(config: Config, items: Sequence[Item]) -> str:
    """What makes items one cluster: a field that [data] group names, the field group, or one prompt.

    Where nothing is named and no item has a group of its own, items with the same prompt are one cluster.
    """
    if config.data.group is not None:
        return config.data.group
    own = any(item.group not in (None, digest(item.prompt)) for item in items)
    return "group" if own else "prompt"


def assign_roles(items: Sequence[Item], roles: RolesTable, exemplars: int) -> Mapping[str, Role]:
    """Give each labelled item one role, whole clusters at a time, by a seeded hash of content.

    No label is looked at, so certification rows stay a random sample. `exemplars` is the number of rows
    wanted for few-shot prompts; `[roles] exemplars` overrides it.
    """
    order = sorted(
        clusters(items), key=lambda rows: digest(roles.seed, min(content_digest(item) for item in rows))
    )
    wanted = exemplars if roles.exemplars is None else roles.exemplars
    room: dict[Role, int] = {
        "exemplars": wanted,
        "dev": ceil(roles.dev * len(items)),
        "holdout": ceil(roles.holdout * len(items)),
    }
    given: dict[str, Role] = {}
    for rows in order:
        role: Role = next((role for role, left in room.items() if left > 0), "certify")
        if role != "certify":
            room[role] -= len(rows)
        given.update(dict.fromkeys((item.id for item in rows), role))
    return given


def read_roles(config: Config, items: Sequence[Item]) -> Mapping[str, Role] | None:
    """The roles that [roles] file gives to labelled items; None if no file is named.

    Raises DataError unless every item has exactly one role, and every cluster is in one role as a whole.
    """
    if config.roles.file is None:
        return None
    path, hint = config.path(config.roles.file), "remove the file, and `trustescalate split` writes a new one"
    try:
        named = json.loads(path.read_bytes())
        rows = [(item_id, role) for role in get_args(Role) for item_id in named.pop(role)]
        if named or not all(isinstance(item_id, str) for item_id, _ in rows):
            raise ValueError
    except OSError as error:
        raise DataError(
            [f"{path}: cannot be read: {error.strerror}"], "`trustescalate split` writes it"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        why = f"{path}: must hold a list of ids under each of {', '.join(get_args(Role))}, and no more"
        raise DataError([why], hint) from None
    given = dict(rows)
    twice = [item_id for item_id, count in Counter(item_id for item_id, _ in rows).items() if count > 1]
    problems = [f"{path}: item {item_id!r} has more than one role" for item_id in twice]
    problems += [f"{path}: item {item.id!r} has no role" for item in items if item.id not in given]
    problems = problems or [
        f"{path}: items {', '.join(repr(item.id) for item in rows[:4])} hang together, in different roles"
        for rows in clusters(items)
        if len({given[item.id] for item in rows}) > 1
    ]
    if problems:
        raise DataError(problems, hint)
    return given


def duplicates(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """Ids of items with the same prompt that no group holds together, for a warning."""
    same: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        same[digest(item.prompt)].append(item)
    return [
        tuple(item.id for item in rows)
        for rows in same.values()
        if len(rows) > 1 and (len({item.group for item in rows}) > 1 or rows[0].group is None)
    ]


def _read(path: Path, kind: type[R]) -> tuple[list[Row[R]], list[str]]:
    rows, problems = read_rows(path, kind)
    return rows, problems or ([] if rows else [f"{path}: holds no rows"])


def _item_problems(path: Path, rows: list[Row[Item]], task: Task) -> list[str]:
    problems = []
    seen: dict[str, int] = {}
    for line, item in rows:
        at = f"{path}:{line}: item {item.id!r}"
        if item.id in seen:
            problems.append(f"{at} was already on line {seen[item.id]}; ids must differ")
        seen.setdefault(item.id, line)
        if not item.id.strip():
            problems.append(f"{path}:{line}: the id is empty; give each item one of its own")
        if len(item.responses) != task.responses:
            problems.append(
                f"{at} has {_count(len(item.responses), 'response')}, a {task.kind} task needs "
                f"{task.responses}; keep items of different tasks in different files"
            )
        for place, text in enumerate(item.texts, 1):
            if not text.strip():
                problems.append(f"{at}: response {place} is empty; leave the item out or write what was said")
        turns = [item.prompt] if isinstance(item.prompt, str) else [turn.content for turn in item.prompt]
        if not any(map(str.strip, turns)):
            problems.append(f"{at}: the prompt is empty; write what was asked")
        if item.group is not None and not item.group.strip():
            problems.append(f"{at}: the group is empty; leave it out where an item stands alone")
    return problems


def _annotation_problems(path: Path, rows: list[Row[Annotation]], known: set[str], task: Task) -> list[str]:
    problems = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows:
        at = f"{path}:{line}: item {row.item_id!r}"
        if known and row.item_id not in known:
            problems.append(f"{at} is not among the items that could be read; add it or remove the line")
        if row.label not in task.annotation_labels:
            allowed = ", ".join(task.annotation_labels)
            problems.append(f"{at}: label {row.label!r} is not one of {allowed}; mend or remove the line")
        if row.seconds is not None and row.seconds < 0:
            problems.append(f"{at}: {row.seconds:g} seconds is before it began; mend or remove the number")
        key = (row.item_id, row.annotator)
        if key in seen:
            problems.append(f"{at} was already labelled by {row.annotator!r} on line {seen[key]}; keep one")
        seen.setdefault(key, line)
    return problems


def _value_problems(path: Path, items: Sequence[Item], config: Config) -> list[str]:
    """What [groups] names and no item has: a slip of the pen there would loosen or tighten a promise."""
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


def _grouped(items: Sequence[Item], by: str | None) -> tuple[Item, ...]:
    """Items with the group that [data] group gives them; without it, items with one prompt share one."""
    if by == "group":
        return tuple(items)
    if by is None:
        repeated = {prompt for prompt, count in Counter(item.prompt for item in items).items() if count > 1}
        return tuple(
            _with_group(item, digest(item.prompt)) if item.group is None and item.prompt in repeated else item
            for item in items
        )
    if by == "prompt":
        return tuple(_with_group(item, digest(item.prompt)) for item in items)
    return tuple(_with_group(item, None if by == ITEM else value_of(item, by)) for item in items)


def _with_group(item: Item, group: str | None) -> Item:
    return Item(item.id, item.prompt, item.responses, item.reference, group, item.meta)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
