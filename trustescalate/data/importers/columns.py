"""Read tables and JSON rows by the names of their columns, or by columns that the user names.

One row is an item with its labels and perhaps verdicts, or one label of an item that other rows repeat.
Common names are recognised; a file of columns names all others. An unknown spelling of a label is rejected,
never guessed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from pydantic import Field

from trustescalate.config.base import Table
from trustescalate.config.tables import ImportTable, TaskTable
from trustescalate.data.importers.base import Files, Notes, Plain, Taken, each
from trustescalate.data.importers.fields import turns
from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.data.importers.preferences import mark
from trustescalate.data.importers.verdicts import judged, pairwise, verdict
from trustescalate.errors import DataError
from trustescalate.records import TIE, Label, Task, TaskKind, Vote

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


class ColumnsFile(Table):
    """The tables [task] and [import] of a file of columns, or of a configuration."""

    task: TaskTable | None = None
    columns: ImportTable = Field(ImportTable(), alias="import")


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of a file, and the conversion of a cell to a label."""

    task: Task
    table: ImportTable
    id: str | None
    prompt: str
    responses: tuple[str, ...]
    group: str | None
    label: str | None
    annotator: str | None
    spell: Callable[[Any], Label | None]
    inner: tuple[str, ...]


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
    keys, table = _keys(file), given.columns
    named = [table.id, table.prompt, table.context, *(table.responses or ()), table.reference, table.group]
    named += [table.label, table.annotator, *table.annotators.values(), *table.judges.values()]
    named += [*table.meta_columns.values(), *table.probabilities.values(), *table.forward_fill]
    wanted = {column for column in named if column}
    inner = {column for column in wanted - keys if any(_inside(row, column) is not None for row in file.head)}
    unknown = sorted(wanted - keys - inner)
    if unknown:
        there = ", ".join(map(repr, sorted(keys)))
        raise DataError(
            [f"{file.path}: there is no column {', '.join(map(repr, unknown))}"], f"there are {there}"
        )
    prompt = table.prompt or _first(PROMPT, keys)
    single = _first(SINGLE, keys)
    responses = table.responses or _pair(keys) or ((single,) if single else ())
    if prompt is None or not responses:
        missing = "a prompt" if prompt is None else "a response"
        raise DataError(
            [f"{file.path}: no column is known to hold {missing}"], "name it: --columns FILE, [import]"
        )
    label = table.label or (None if table.annotators else _first(LABEL, keys))
    task = _task(file, given, len(responses), label)
    layout = _Layout(
        task=task,
        table=table,
        id=table.id or _first(ID, keys),
        prompt=prompt,
        responses=responses,
        group=table.group or _first(GROUP, keys),
        label=label,
        annotator=table.annotator or _first(ANNOTATOR, keys),
        spell=_speller(task, table.labels),
        inner=tuple(sorted(inner)),
    )
    if table.forward_fill and layout.group is None:
        raise DataError([f"{file.path}: [import] forward_fill goes with a group"], "name its column: group")
    if table.probabilities and len(task.labels) - task.labels.count(TIE) != 2:
        raise DataError([f"{file.path}: [import] probabilities are for two labels"], "use judges")
    _note_assumptions(layout, notes)
    notes.task = task
    return layout


def _note_assumptions(layout: _Layout, notes: Notes) -> None:
    which = f"prompt = {layout.prompt!r}, responses = {', '.join(map(repr, layout.responses))}"
    notes.assume(f"columns: {which}" + (f", label = {layout.label!r}" if layout.label else ""))
    if layout.group and not layout.table.group:
        notes.assume(f"rows with the same {layout.group!r} are clustered: they are one group")
    if layout.table.forward_fill:
        filled = ", ".join(map(repr, layout.table.forward_fill))
        notes.assume(f"a row without {filled} has that of the row before it in its group")
    for judge, column in layout.table.probabilities.items():
        notes.assume(f"{column!r} is the probability that {judge!r} gives {layout.task.labels[0]!r}")
    if layout.id is None:
        notes.assume("no column is an id: an item's id is a hash of its texts")
    if layout.label and layout.annotator is None:
        notes.assume(f"no column names the annotator: all labels are by {SOMEBODY!r}")


def _task(file: Foreign, given: ColumnsFile, responses: int, label: str | None) -> Task:
    if given.task is not None:
        task = given.task.task()
        if task.responses != responses:
            why = f"a {task.kind} task has {task.responses} responses, and {responses} columns hold some"
            raise DataError([f"{file.path}: {why}"], "name the responses in [import]")
        return task
    if responses == 2:
        return pairwise()
    seen = {_cell(row.get(label)).casefold() for row in file.head if isinstance(row, dict)} - set(EMPTY)
    if seen <= {*PASS, *FAIL}:
        return Task(TaskKind.BINARY, "Is the response acceptable?", ("pass", "fail"))
    raise DataError(
        [f"{file.path}: the labels have no known meaning: {', '.join(sorted(seen)[:6])}"],
        'use --columns FILE with [task] kind = "rating" and its scale, or kind = "choice" and its labels',
    )


def _speller(task: Task, spellings: Mapping[str, str]) -> Callable[[Any], Label | None]:
    """From a cell to a label; None where the cell is empty. Raises Unusable for a spelling unknown."""
    known = {key: label for label in task.annotation_labels for key in (label, label.casefold())}
    if task.kind is TaskKind.PAIRWISE:
        known = {**PAIR_SPELLINGS, **known}
    if task.labels == ("pass", "fail"):
        known |= dict.fromkeys(PASS, "pass") | dict.fromkeys(FAIL, "fail")
    for spelling, label in spellings.items():
        if label not in task.annotation_labels:
            raise DataError(
                [f"[import] labels: {label!r} is not one of {', '.join(task.annotation_labels)}"], "fix it"
            )
        known[spelling.casefold()] = label

    def spell(cell: Any) -> Label | None:
        if type(cell) is str and cell in known:
            return known[cell]
        spelling = _cell(cell).strip().casefold()
        if spelling in known:
            return known[spelling]
        if spelling in EMPTY:
            return None
        raise Unusable(f"the label {_cell(cell)!r} is not known; define it in [import] labels")

    return spell


def _row_reader(layout: _Layout) -> Callable[[Any], Iterable[Plain]]:
    table, spell = layout.table, layout.spell
    more = bool(table.context or table.reference or table.meta)
    texts = (layout.prompt, *layout.responses)
    prepare, pick = _preparer(layout), itemgetter(*texts)
    id_at, group_at, label_at, annotator_at = layout.id, layout.group, layout.label, layout.annotator
    annotators, judges = list(table.annotators.items()), list(table.judges.items())
    probabilities = list(table.probabilities.items())

    def read(row: Any) -> tuple[Plain]:
        if type(row) is not dict:
            raise Unusable("is no row of columns")
        if prepare is not None:
            row = prepare(row)
        try:
            shown = pick(row)
        except KeyError:
            shown = (None,)
        for value in shown:
            if type(value) is not str or not value or value.isspace():
                shown = tuple([_texts(row, column) for column in texts])
                break
        item_id = (_name(row.get(id_at)) if id_at else "") or mark(*shown)
        item: dict[str, Any] = {"id": item_id, "prompt": shown[0], "responses": shown[1:]}
        if group_at and (group := _name(row.get(group_at))):
            item["group"] = group
        if more:
            _add_more(item, row, table)
        notes = []
        if label_at and (label := spell(row.get(label_at))) is not None:
            who = _name(row.get(annotator_at)) if annotator_at else ""
            notes.append((who or SOMEBODY, label))
        for who, column in annotators:
            if (label := spell(row.get(column))) is not None:
                notes.append((who, label))
        if not judges and not probabilities:
            return (Plain(item, notes),)
        votes = [
            judged(item_id, judge, [_vote(row.get(at), spell)])
            for judge, at in judges
            if not (table.empty_is_missing and row.get(at) in (None, ""))
        ]
        for judge, column in probabilities:
            votes.append(judged(item_id, judge, [_probable(row.get(column), layout.task)]))
        return (Plain(item, notes, votes),)

    return read


def _preparer(layout: _Layout) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """Make a function that unescapes cells, reads nested fields, and fills values forward."""
    inner, group = layout.inner, layout.group
    fill, escaped = layout.table.forward_fill, layout.table.escaped_formulas
    if not inner and not fill and not escaped:
        return None
    before: dict[str, Any] = {}

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        nonlocal before
        if escaped:
            row = {name: cell.removeprefix("'") if type(cell) is str else cell for name, cell in row.items()}
        row = {**row, **{column: _inside(row, column) for column in inner}}
        if group is not None and _name(row.get(group)) and row.get(group) == before.get(group):
            row |= {column: before.get(column) for column in fill if not _cell(row.get(column))}
        before = row
        return row

    return prepare


def _inside(row: Any, path: str) -> Any:
    """The value at a path of keys and places, as "labels.0.label"; None without one."""
    value = row
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _add_more(item: dict[str, Any], row: Mapping[str, Any], table: ImportTable) -> None:
    if table.context and _cell(row.get(table.context)).strip():
        if not isinstance(item["prompt"], str):
            raise Unusable(f"{table.context}: a conversation takes no context")
        item["prompt"] = f"{item['prompt']}\n\n{_cell(row[table.context])}"
    if table.reference and (reference := _name(row.get(table.reference))):
        item["reference"] = reference
    kept = {name: row.get(column) for name, column in table.meta_columns.items()}
    if kept:
        item["meta"] = {name: kept[name] for name in kept if kept[name] not in (None, "")}


def _vote(cell: Any, spell: Callable[[Any], Label | None]) -> Any:
    try:
        return verdict(spell(cell), raw=_cell(cell))
    except Unusable:
        return verdict(None, raw=_cell(cell))


def _probable(cell: Any, task: Task) -> Any:
    """A vote from the probability of the first label, in the item's own frame."""
    number = _cell(cell).strip().replace(",", ".")
    try:
        first = float(number)
    except ValueError:
        first = math.nan
    if not 0 <= first <= 1:
        return verdict(None, raw=_cell(cell))
    return Vote(0, "", dict(zip(task.labels, (first, 1 - first), strict=False)), raw=number)


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
    """A cell as text: 1 and 1.0 are equal, an empty cell and NaN are empty."""
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
    if type(value) is int:
        return str(value)
    return _cell(value).strip() if isinstance(value, str | int | float) else ""


def _keys(file: Foreign) -> frozenset[str]:
    if file.columns:
        return frozenset(file.columns)
    return frozenset(key for row in file.head if isinstance(row, dict) for key in row)


def _first(names: Iterable[str], keys: frozenset[str]) -> str | None:
    return next((name for name in names if name in keys), None)


def _pair(keys: frozenset[str]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if keys.issuperset(pair)), None)
