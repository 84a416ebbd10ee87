"""Read tables and JSON rows by the names of their columns, or by columns that the user names.

One row is an item with its labels and perhaps verdicts, or one label of an item that other rows repeat.
Common names are recognised; a file of columns names all others. What the codes of a column mean is decided
from all rows before the first is taken, and never guessed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from pydantic import Field

from trustescalate.config.base import Table
from trustescalate.config.criteria import CriterionTable
from trustescalate.config.tables import ImportTable, TaskTable
from trustescalate.data.importers.base import Files, Notes, Plain, Taken, each
from trustescalate.data.importers.choices import KEYS as CHOICES
from trustescalate.data.importers.choices import given_letters, listed_choices, with_choices
from trustescalate.data.importers.codes import EMPTY, cell_text, is_number, known_codes, spelling, task_of
from trustescalate.data.importers.criterion_columns import criterion_columns, task_of_rows
from trustescalate.data.importers.fields import as_plain, turns
from trustescalate.data.importers.files import Foreign, Unusable, from_text
from trustescalate.data.importers.preferences import mark
from trustescalate.data.importers.shares import label_columns, share_vote
from trustescalate.data.importers.survey import Survey, inside
from trustescalate.data.importers.traces import after, passages_in
from trustescalate.data.importers.verdicts import judged, pairwise, verdict
from trustescalate.data.importers.winners import Winners, models_of, sided, winners
from trustescalate.errors import DataError
from trustescalate.records import Label, Task, TaskKind

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

NO_NAME = frozenset(("", "nan", "none", "null", "<na>", "#n/a"))
"""What tools write in an empty cell."""
SOMEBODY = "annotator"


class ColumnsFile(Table):
    """The tables [task], [[criteria]] and [import] of a file of columns, or of a configuration."""

    task: TaskTable | None = None
    criteria: tuple[CriterionTable, ...] = ()
    columns: ImportTable = Field(ImportTable(), alias="import")


Speller = Callable[[Any], Label | None]
"""From a cell to a label; None where the cell is empty. Raises Unusable for a spelling unknown."""


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
    criteria: Mapping[str, tuple[str, Task]]
    spellers: Mapping[str, Speller]
    shares: Mapping[str, Mapping[Label, str]]
    logarithms: frozenset[str]
    choices: str | None
    inner: tuple[str, ...]
    models: tuple[str, str] | None
    winners: Winners


def fits(file: Foreign) -> bool:
    """Whether the columns of a file have names that are recognised."""
    keys = _keys(file)
    return bool(_first(PROMPT, keys)) and bool(_pair(keys) or _first(SINGLE, keys))


def reader(given: ColumnsFile) -> Callable[[Files, Notes], Iterator[Taken]]:
    """A reader of rows, with the columns that the user named."""

    def read(files: Files, notes: Notes) -> Iterator[Taken]:
        for file in files["rows"]:
            layout = _layout(file, given, notes)
            recognised = {layout.id, layout.prompt, *layout.responses, layout.group, layout.label}
            one_of_each = file.with_one_of_each({*recognised, layout.annotator} - _named(given.columns))
            yield from each(one_of_each, _row_reader(layout))

    return read


def _layout(file: Foreign, given: ColumnsFile, notes: Notes) -> _Layout:
    table = given.columns
    criteria = criterion_columns(given.criteria, given.task, table)
    on_criteria = {column for column, _ in criteria.values()}
    named = (*on_criteria, *table.annotators.values(), *table.judges.values(), table.label or "")
    survey = Survey(file, (*LABEL, *named))
    keys = survey.keys
    wanted = _named(table) | on_criteria
    inner = {column for column in wanted - keys if any(inside(row, column) is not None for row in file.head)}
    inner |= {column for column in wanted - keys if survey.counts.get(column)}
    unknown = sorted(wanted - keys - inner)
    if unknown:
        there = ", ".join(map(repr, sorted(keys)))
        raise DataError(
            [f"{file.path}: there is no column {', '.join(map(repr, unknown))}"], f"there are {there}"
        )
    prompt = table.prompt or _first(PROMPT, _keys(file)) or _first(PROMPT, keys)
    responses = table.responses or _shown_columns(_keys(file)) or _shown_columns(keys)
    if prompt is None or not responses:
        missing = "a prompt" if prompt is None else "a response"
        raise DataError(
            [f"{file.path}: no column is known to hold {missing}"], "name it: --columns FILE, [import]"
        )
    label = table.label or (None if table.annotators or criteria else _first(LABEL, keys))
    task = _task(file, given, len(responses), label, survey, notes)
    shares = label_columns(task, table.probabilities, keys)
    models = models_of(keys) if task.kind is TaskKind.PAIRWISE else None
    verdicts = {column for column in (label, *table.annotators.values(), *table.judges.values()) if column}
    won = winners(file, verdicts, models, table.labels) if models else {}
    for column, codes in won.items():
        notes.assume(f"column {column!r} names the model that won: its side is that of the row")
        for code in codes:
            del survey.counts[column][code]
    spellers = _spellers(file, task, table, label, survey, notes)
    for column, own in criteria.values():
        spelled = {code: label for code, label in table.labels.items() if label in own.annotation_labels}
        theirs = table.model_copy(update={"labels": spelled, "annotators": {}, "judges": {}})
        spellers |= _spellers(file, own, theirs, column, survey, notes)
    layout = _Layout(
        task=task,
        table=table,
        id=table.id or _first([name for name in ID if name != table.group], keys),
        prompt=prompt,
        responses=responses,
        group=table.group or _first(GROUP, keys),
        label=label,
        annotator=table.annotator or _first(ANNOTATOR, keys),
        criteria=criteria,
        spellers=spellers,
        shares=shares,
        logarithms=survey.logarithmic(file, shares),
        choices=None if table.context else _first(CHOICES, keys),
        inner=tuple(sorted(inner)),
        models=models,
        winners=won,
    )
    if table.forward_fill and layout.group is None:
        raise DataError([f"{file.path}: [import] forward_fill goes with a group"], "name its column: group")
    _note_assumptions(layout, notes)
    read = {layout.id, prompt, *responses, layout.group, label, layout.annotator, layout.choices}
    read |= {
        *(models if won and models else ()),
        *(column for each in shares.values() for column in each.values()),
    }
    notes.left_out |= dict.fromkeys(sorted(keys - wanted - read - {column.split(".")[0] for column in inner}))
    notes.task, notes.criteria = task, given.criteria
    return layout


def _named(table: ImportTable) -> set[str]:
    """The columns that the user named."""
    named = [table.id, table.prompt, table.context, *(table.responses or ()), table.reference, table.group]
    named += [table.label, table.annotator, *table.annotators.values(), *table.judges.values()]
    named += [*table.meta_columns.values(), *table.forward_fill]
    for column in table.probabilities.values():
        named += [column] if isinstance(column, str) else list(column.values())
    return {column for column in named if column}


def _note_assumptions(layout: _Layout, notes: Notes) -> None:
    which = f"prompt = {layout.prompt!r}, responses = {', '.join(map(repr, layout.responses))}"
    notes.assume(f"columns: {which}" + (f", label = {layout.label!r}" if layout.label else ""))
    if layout.group and not layout.table.group:
        notes.assume(f"rows with the same {layout.group!r} are clustered: they are one group")
    if layout.table.forward_fill:
        filled = ", ".join(map(repr, layout.table.forward_fill))
        notes.assume(f"a row without {filled} has that of the row before it in its group")
    for judge, columns in layout.shares.items():
        what = "log-probability" if judge in layout.logarithms else "probability"
        for label, column in columns.items():
            notes.assume(f"{column!r} is the {what} that {judge!r} gives {label!r}")
    if layout.id is None:
        notes.assume("no column is an id: an item's id is a hash of its texts")
    if (layout.label or layout.criteria) and layout.annotator is None:
        notes.assume(f"no column names the annotator: all labels are by {SOMEBODY!r}")


def _task(
    file: Foreign, given: ColumnsFile, responses: int, label: str | None, survey: Survey, notes: Notes
) -> Task:
    if given.task is not None:
        task = task_of_rows(given.criteria, given.task)
        if task.responses != responses:
            why = f"a {task.kind} task has {task.responses} responses, and {responses} columns hold some"
            raise DataError([f"{file.path}: {why}"], "name the responses in [import]")
        return task
    if responses == 2:
        return pairwise()
    task, assumed = task_of(survey.counts.get(label or "", {}), survey.spelled, str(file.path))
    if assumed:
        notes.assume(assumed)
    return task


def _spellers(
    file: Foreign,
    task: Task,
    table: ImportTable,
    label: str | None,
    survey: Survey,
    notes: Notes,
) -> dict[str, Speller]:
    """A speller for each column with labels or verdicts."""
    people = {column for column in (label, *table.annotators.values()) if column}
    spellers = {}
    for column in {*people, *table.judges.values()}:
        known = known_codes(
            task,
            survey.counts[column],
            table.labels,
            where=f"{file.path}: column {column!r}",
            by_judge=column not in people,
        )
        spellers[column] = _speller(known)
        numbers = [code for code in survey.counts[column] if is_number(code)]
        if task.kind is TaskKind.PAIRWISE and len(numbers) == 1 and numbers[0] in known:
            notes.assume(
                f"column {column!r} holds {numbers[0]} and no other number: it is {known[numbers[0]]!r}"
            )
    return spellers


def _speller(known: Mapping[str, Label]) -> Speller:
    def spell(cell: Any) -> Label | None:
        if type(cell) is str and cell in known:
            return known[cell]
        code = spelling(cell)
        if code in known:
            return known[code]
        if code in EMPTY:
            return None
        raise Unusable(f"the label {cell_text(cell)!r} is not known; define it in [import] labels")

    return spell


def _row_reader(layout: _Layout) -> Callable[[Any], Iterable[Plain]]:
    table, spellers = layout.table, layout.spellers
    more = bool(table.context or table.reference or table.meta)
    prepare, show = _preparer(layout), _shower(layout)
    id_at, group_at, label_at, annotator_at = layout.id, layout.group, layout.label, layout.annotator
    annotators, judges = list(table.annotators.items()), list(table.judges.items())
    shares = list(layout.shares.items())
    criteria = [(name, column) for name, (column, _) in layout.criteria.items()]

    def read(row: Any) -> tuple[Plain]:
        if type(row) is not dict:
            raise Unusable("is no row of columns")
        if prepare is not None:
            row = prepare(row)
        shown = show(row)
        item_id = (_name(row.get(id_at)) if id_at else "") or mark(*shown)
        item: dict[str, Any] = {"id": item_id, "prompt": shown[0], "responses": shown[1:]}
        if group_at and (group := _name(row.get(group_at))):
            item["group"] = group
        if more:
            _add_more(item, row, table)
        notes = []
        if label_at and (label := spellers[label_at](row.get(label_at))) is not None:
            who = _name(row.get(annotator_at)) if annotator_at else ""
            notes.append((who or SOMEBODY, label))
        for who, column in annotators:
            if (label := spellers[column](row.get(column))) is not None:
                notes.append((who, label))
        if criteria:
            who = (_name(row.get(annotator_at)) if annotator_at else "") or SOMEBODY
            labels = ((name, who, spellers[column](row.get(column))) for name, column in criteria)
            marked = [(name, who, label) for name, who, label in labels if label is not None]
            return (Plain(item, notes, (), marked),)
        if not judges and not shares:
            return (Plain(item, notes),)
        votes = [
            judged(item_id, judge, [_vote(row.get(at), spellers[at])])
            for judge, at in judges
            if not (table.empty_is_missing and row.get(at) in (None, ""))
        ]
        for judge, columns in shares:
            cells = {label: row.get(column) for label, column in columns.items()}
            votes.append(judged(item_id, judge, [share_vote(cells, layout.task, judge in layout.logarithms)]))
        return (Plain(item, notes, votes),)

    return read


def _shower(layout: _Layout) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Make a function that returns the prompt and the responses of a row."""
    texts, choices_at = (layout.prompt, *layout.responses), layout.choices
    pick = itemgetter(*texts)

    def show(row: dict[str, Any]) -> tuple[Any, ...]:
        try:
            shown: tuple[Any, ...] = pick(row)
        except KeyError:
            shown = (None,)
        for value in shown:
            if type(value) is not str or not value or value.isspace():
                asked = _texts(row, layout.prompt, False)
                shown = (asked, *(_answer(row, column, asked) for column in layout.responses))
                break
        if choices_at and (choices := listed_choices(row.get(choices_at))):
            shown = (_prompt_with(shown[0], choices, given_letters(row.get(choices_at))), *shown[1:])
        return shown

    return show


def _preparer(layout: _Layout) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """Make a function that unescapes cells, reads nested fields, and fills values forward."""
    inner, group = layout.inner, layout.group
    fill, escaped = layout.table.forward_fill, layout.table.escaped_formulas
    models, won = layout.models, layout.winners
    if not inner and not fill and not escaped and not won:
        return None
    before: dict[str, Any] = {}

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        nonlocal before
        if escaped:
            row = {name: cell.removeprefix("'") if type(cell) is str else cell for name, cell in row.items()}
        row = {**row, **{column: inside(row, column) for column in inner}}
        if group is not None and _name(row.get(group)) and row.get(group) == before.get(group):
            row |= {column: before.get(column) for column in fill if not cell_text(row.get(column))}
        before = row
        return sided(row, won, models) if models and won else row

    return prepare


def _add_more(item: dict[str, Any], row: Mapping[str, Any], table: ImportTable) -> None:
    given = row.get(table.context) if table.context else None
    listed = from_text(given) if isinstance(given, str) and given.lstrip().startswith("[") else given
    if table.context and isinstance(listed, list):
        item |= {"context": list(texts)} if (texts := passages_in(listed, table.context)) else {}
    elif table.context and cell_text(given).strip():
        if not isinstance(item["prompt"], str):
            raise Unusable(f"{table.context}: a conversation takes no context")
        item["prompt"] = f"{item['prompt']}\n\n{cell_text(given)}"
    if table.reference and (reference := _name(row.get(table.reference))):
        item["reference"] = reference
    kept = {name: row.get(column) for name, column in table.meta_columns.items()}
    if kept:
        item["meta"] = {name: kept[name] for name in kept if kept[name] not in (None, "")}


def _vote(cell: Any, spell: Callable[[Any], Label | None]) -> Any:
    try:
        return verdict(spell(cell), raw=cell_text(cell))
    except Unusable:
        return verdict(None, raw=cell_text(cell))


def _texts(row: Mapping[str, Any], column: str, may_be_empty: bool) -> Any:
    value = row.get(column)
    if isinstance(value, list):
        return as_plain(turns(row, column))
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = cell_text(value)
    if value is None:
        raise Unusable(f"{column} is missing")
    if not isinstance(value, str):
        raise Unusable(f"{column} is no text")
    if not may_be_empty and (not value or value.isspace()):
        raise Unusable(f"{column} is empty")
    return value


def _answer(row: Mapping[str, Any], column: str, asked: Any) -> Any:
    """A response; of a whole conversation, what follows the prompt."""
    value = _texts(row, column, True)
    if isinstance(value, str):
        return value
    prompt = asked if isinstance(asked, str) else turns({"prompt": asked}, "prompt")
    rest = after(prompt, turns(row, column))
    if not rest:
        raise Unusable(f"{column} ends with the prompt: there is no answer")
    return as_plain(rest)


def _prompt_with(prompt: Any, choices: tuple[str, ...], letters: tuple[str, ...]) -> Any:
    if isinstance(prompt, str):
        return with_choices(prompt, choices, given=letters)
    talk = with_choices(turns({"prompt": prompt}, "prompt"), choices, given=letters)
    return talk if isinstance(talk, str) else as_plain(talk)


def _name(value: Any) -> str:
    if type(value) is str:
        return "" if value.strip().casefold() in NO_NAME else value
    if type(value) is int:
        return str(value)
    return cell_text(value).strip() if isinstance(value, str | int | float) else ""


def _keys(file: Foreign) -> frozenset[str]:
    if file.columns:
        return frozenset(file.columns)
    return frozenset(key for row in file.head if isinstance(row, dict) for key in row)


def _first(names: Iterable[str], keys: frozenset[str]) -> str | None:
    return next((name for name in names if name in keys), None)


def _shown_columns(keys: frozenset[str]) -> tuple[str, ...]:
    single = _first(SINGLE, keys)
    return _pair(keys) or ((single,) if single else ())


def _pair(keys: frozenset[str]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if keys.issuperset(pair)), None)
