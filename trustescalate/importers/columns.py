"""Tables and JSON rows whose columns have a meaning that their names, or the user, tell.

One row is an item with what people, and perhaps judges, said of it; or one opinion on an item that other rows
repeat. Names that are common in this field are recognised; a file of columns says everything else. A spelling
of a label that neither knows is rejected, never guessed.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from trustescalate.config.base import Table
from trustescalate.config.tables import TaskTable
from trustescalate.errors import DataError
from trustescalate.importers.base import Files, Notes, Plain, Taken, Unusable, each, judged, turns, verdict
from trustescalate.importers.files import Foreign
from trustescalate.types import TIE, Label, Task, TaskKind

ID = ("id", "item_id", "uid", "pair_id", "example_id", "question_id")
PROMPT = ("prompt", "question", "instruction", "input", "query")
PAIRS = (
    ("response_a", "response_b"),
    ("response_A", "response_B"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("output_1", "output_2"),
    ("output_a", "output_b"),
    ("answer_a", "answer_b"),
    ("answer1", "answer2"),
)
SINGLE = ("response", "output", "answer", "completion")
LABEL = ("label", "winner", "preference", "human_label")
ANNOTATOR = ("annotator", "annotator_id", "rater")
GROUP = ("group", "group_id", "cluster")

PAIR_SPELLINGS: Mapping[str, Label] = {
    **dict.fromkeys(("a", "(a)", "1", "response_a", "model_a", "output_1", "response_1", "answer_a"), "A"),
    **dict.fromkeys(("b", "(b)", "2", "response_b", "model_b", "output_2", "response_2", "answer_b"), "B"),
    **dict.fromkeys(("tie", "tie (bothbad)", "both_bad", "equal", "draw", "1.5"), TIE),
}
PASS, FAIL = ("1", "pass", "true", "yes", "correct"), ("0", "fail", "false", "no", "incorrect")
EMPTY = ("", "nan", "none", "null", "n/a", "na")
SOMEBODY = "annotator"


class Columns(Table):
    """[columns]: which column holds what. What is not said is recognised by its name."""

    id: str | None = Field(None, description="default: a hash of the texts")
    prompt: str | None = None
    context: str | None = Field(None, description="shown below the prompt")
    responses: tuple[str, ...] | None = None
    reference: str | None = None
    group: str | None = None
    label: str | None = Field(None, description="one opinion a row")
    annotator: str | None = Field(None, description="whose opinion it is")
    annotators: dict[str, str] = Field(default_factory=dict, description="name = column, for several a row")
    judges: dict[str, str] = Field(default_factory=dict, description="name = column with a recorded verdict")
    labels: dict[str, str] = Field(default_factory=dict, description="spelling = label")
    meta: tuple[str, ...] = ()


class ColumnsFile(Table):
    """A file of columns: the task, and [columns]."""

    task: TaskTable | None = None
    columns: Columns = Columns()


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns that were found, and how a cell becomes a label."""

    task: Task
    said: Columns
    id: str | None
    prompt: str
    responses: tuple[str, ...]
    group: str | None
    label: str | None
    annotator: str | None
    spell: Callable[[Any], Label | None]


def fits(file: Foreign) -> bool:
    """Whether the columns of a file have names that are recognised."""
    keys = _keys(file)
    return bool(_first(PROMPT, keys)) and bool(_pair(keys) or _first(SINGLE, keys))


def reader(given: ColumnsFile) -> Callable[[Files, Notes], Iterator[Taken]]:
    """A reader of rows, with the columns that the user named."""

    def read(files: Files, notes: Notes) -> Iterator[Taken]:
        for file in files["rows"]:
            layout = _layout(file, given, notes)
            yield from each(file, _row_reader(layout))

    return read


def _layout(file: Foreign, given: ColumnsFile, notes: Notes) -> _Layout:
    keys, said = _keys(file), given.columns
    named = [said.id, said.prompt, said.context, *(said.responses or ()), said.reference, said.group]
    named += [said.label, said.annotator, *said.annotators.values(), *said.judges.values(), *said.meta]
    unknown = sorted({column for column in named if column and column not in keys})
    if unknown:
        there = ", ".join(map(repr, sorted(keys)))
        raise DataError(
            [f"{file.path}: there is no column {', '.join(map(repr, unknown))}"], f"there are {there}"
        )
    prompt = said.prompt or _first(PROMPT, keys)
    single = _first(SINGLE, keys)
    responses = said.responses or _pair(keys) or ((single,) if single else ())
    if prompt is None or not responses:
        missing = "a prompt" if prompt is None else "a response"
        raise DataError(
            [f"{file.path}: no column is known to hold {missing}"], "name it: --columns FILE, [columns]"
        )
    label = said.label or (None if said.annotators else _first(LABEL, keys))
    task = _task(file, given, len(responses), label)
    found = _Layout(
        task=task,
        said=said,
        id=said.id or _first(ID, keys),
        prompt=prompt,
        responses=responses,
        group=said.group or _first(GROUP, keys),
        label=label,
        annotator=said.annotator or _first(ANNOTATOR, keys),
        spell=_speller(task, said.labels),
    )
    _say(found, notes)
    notes.task = task
    return found


def _say(found: _Layout, notes: Notes) -> None:
    which = f"prompt = {found.prompt!r}, responses = {', '.join(map(repr, found.responses))}"
    notes.assume(f"columns: {which}" + (f", label = {found.label!r}" if found.label else ""))
    if found.id is None:
        notes.assume("no column is an id: an item's id is a hash of its texts")
    if found.label and found.annotator is None:
        notes.assume(f"no column names who labelled: all opinions are by {SOMEBODY!r}")


def _task(file: Foreign, given: ColumnsFile, responses: int, label: str | None) -> Task:
    if given.task is not None:
        task = given.task.task()
        if task.responses != responses:
            why = f"a {task.kind} task has {task.responses} responses, and {responses} columns hold some"
            raise DataError([f"{file.path}: {why}"], "name the responses in [columns]")
        return task
    if responses == 2:
        return Task(TaskKind.PAIRWISE, "Which response is better?", ("A", "B", TIE))
    seen = {_cell(row.get(label)).casefold() for row in file.head if isinstance(row, dict)} - set(EMPTY)
    if seen <= {*PASS, *FAIL}:
        return Task(TaskKind.BINARY, "Is the response acceptable?", ("pass", "fail"))
    raise DataError(
        [f"{file.path}: what do the labels mean? {', '.join(sorted(seen)[:6])}"],
        'say it: --columns FILE with [task] kind = "rating" and its scale, or kind = "choice" and its labels',
    )


def _speller(task: Task, spellings: Mapping[str, str]) -> Callable[[Any], Label | None]:
    """From a cell to a label; None where the cell is empty. Raises Unusable for a spelling unknown."""
    known = {said: label for label in task.annotation_labels for said in (label, label.casefold())}
    if task.kind is TaskKind.PAIRWISE:
        known = {**PAIR_SPELLINGS, **known}
    if task.labels == ("pass", "fail"):
        known |= dict.fromkeys(PASS, "pass") | dict.fromkeys(FAIL, "fail")
    for spelling, label in spellings.items():
        if label not in task.annotation_labels:
            raise DataError(
                [f"[columns] labels: {label!r} is not one of {', '.join(task.annotation_labels)}"], "mend it"
            )
        known[spelling.casefold()] = label

    def spell(cell: Any) -> Label | None:
        if type(cell) is str and cell in known:
            return known[cell]
        said = _cell(cell).strip().casefold()
        if said in known:
            return known[said]
        if said in EMPTY:
            return None
        raise Unusable(f"the label {_cell(cell)!r} is not known; say in [columns] labels what it means")

    return spell


def _row_reader(layout: _Layout) -> Callable[[Any], Iterable[Plain]]:
    said, spell = layout.said, layout.spell
    more = bool(said.context or said.reference or said.meta)
    texts = (layout.prompt, *layout.responses)

    def read(row: Any) -> Iterator[Plain]:
        if type(row) is not dict:
            raise Unusable("is no row of columns")
        shown = [row.get(column) for column in texts]
        for value in shown:
            if type(value) is not str or not value or value.isspace():
                shown = [_texts(row, column) for column in texts]
                break
        item: dict[str, Any] = {"id": _id(row, layout.id, shown), "prompt": shown[0], "responses": shown[1:]}
        if layout.group and (group := _name(row.get(layout.group))):
            item["group"] = group
        if more:
            _add_more(item, row, said)
        notes = []
        if layout.label and (label := spell(row.get(layout.label))) is not None:
            notes.append((_name(row.get(layout.annotator)) or SOMEBODY, label))
        for who, column in said.annotators.items():
            if (label := spell(row.get(column))) is not None:
                notes.append((who, label))
        yield Plain(
            item,
            notes,
            [judged(item["id"], judge, [_vote(row.get(at), spell)]) for judge, at in said.judges.items()],
        )

    return read


def _id(row: Mapping[str, Any], column: str | None, shown: list[Any]) -> str:
    given = _name(row.get(column)) if column else ""
    return given or hashlib.sha256(repr(shown).encode("utf-8", "replace")).hexdigest()[:16]


def _add_more(item: dict[str, Any], row: Mapping[str, Any], said: Columns) -> None:
    if said.context and _cell(row.get(said.context)).strip():
        if not isinstance(item["prompt"], str):
            raise Unusable(f"{said.context}: a conversation takes no context")
        item["prompt"] = f"{item['prompt']}\n\n{_cell(row[said.context])}"
    if said.reference and (reference := _cell(row.get(said.reference))):
        item["reference"] = reference
    if said.meta:
        item["meta"] = {column: row.get(column) for column in said.meta}


def _vote(cell: Any, spell: Callable[[Any], Label | None]) -> Any:
    try:
        return verdict(spell(cell), raw=_cell(cell))
    except Unusable:
        return verdict(None, raw=_cell(cell))


def _texts(row: Mapping[str, Any], column: str) -> Any:
    value = row.get(column)
    if isinstance(value, list):
        return [{"role": turn.role, "content": turn.content} for turn in turns(row, column)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = _cell(value)
    if not isinstance(value, str | None):
        raise Unusable(f"{column} is no text")
    if not value or value.isspace():
        raise Unusable(f"{column} is empty")
    return value


def _cell(value: Any) -> str:
    """A cell as text: 1 and 1.0 are one value, nothing and NaN are none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        whole = value.removesuffix(".0").removesuffix(",0")
        return whole if whole.lstrip("-").isdigit() else value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _name(value: Any) -> str:
    if type(value) is str:
        return value
    return _cell(value).strip() if isinstance(value, str | int | float) else ""


def _keys(file: Foreign) -> frozenset[str]:
    if file.columns:
        return frozenset(file.columns)
    return frozenset(key for row in file.head if isinstance(row, dict) for key in row)


def _first(names: Iterable[str], keys: frozenset[str]) -> str | None:
    return next((name for name in names if name in keys), None)


def _pair(keys: frozenset[str]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if keys.issuperset(pair)), None)
