"""Write tables with a row per item: CSV for a spreadsheet, Parquet, JSON lines.

A file of columns goes with each table, with which `trustescalate import` reads back ids, texts, clusters,
human labels and the last verdict of each judge. Votes and scores stay in the run folder. Of several criteria
there is no file of columns: a row has the item and the criterion, as `trustescalate label import` reads them.
"""

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from trustescalate.errors import UsageError
from trustescalate.records import Task, TaskKind, Turn
from trustescalate.records.criteria import CRITERION, row_name
from trustescalate.records.run import UNCERTIFIED
from trustescalate.records.task import Json
from trustescalate.report.export.base import Export, LeftOut, Row, Target, as_json, lined, readable, turns

RESPONSES = {1: ("response",), 2: ("response_a", "response_b")}
VERDICT = ("verdict", "verdict_judge", "score", "reason", "cost_usd")
FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""A spreadsheet evaluates a cell that begins with one of these; the wide ones in some languages."""
NUMBERS = ("score", "cost_usd")
GUARD = "'"
NO_LABEL = "none"
"""The judge was called and its votes give no label; an empty cell: it was not called."""
MOST_ANNOTATORS = 50
"""With more annotators, whose columns no spreadsheet would show, human labels are left out."""
ROWS, PIECE = 10_000, 1 << 20
"""Rows of a row group in Parquet, and bytes written at a time."""


class Layout:
    """The columns of a table: fixed ones, then one per meta field, judge and annotator."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self.task = export.task
        self.responses = RESPONSES[self.task.responses]
        taken = {
            *("id", "item_id", "criterion", "group", "prompt"),
            "context",
            "reference",
            "label",
            "annotator",
            *self.responses,
            *VERDICT,
        }
        judges = [binding.judge for binding in export.run.header.certificate.judges]
        people, fields, has_context = dict[str, None](), dict[str, None](), False
        for row in export.rows:
            people |= dict.fromkeys(note.annotator for note in row.annotations)
            fields |= dict.fromkeys(row.item.meta)
            has_context = has_context or bool(row.item.context)
        if export.criteria:
            fields.pop(CRITERION)
        if len(people) > MOST_ANNOTATORS and not export.blind:
            export.say(f"{len(people):,} annotators would need a column each: human labels are left out")
            people = {}
        blind, prefix = export.blind, f"{UNCERTIFIED} judge" if export.run.uncertified else "judge"
        self.meta = {} if blind else _named("meta", fields, taken)
        self.judges = {} if blind else _named(prefix, dict.fromkeys(judges), taken)
        self.people = {} if blind else _named("person", people, taken)
        self.context = ("context",) if has_context else ()
        self.names = (
            *(("item_id", "criterion") if export.criteria else ("id",)),
            *("group", "prompt", *self.context, *self.responses, "reference"),
            *(("label", "annotator") if export.blind else VERDICT),
            *(*self.meta.values(), *self.judges.values(), *self.people.values()),
        )

    def cells(self, row: Row) -> dict[str, Json]:
        """Make a row; texts and conversations stay as they are in the item."""
        item, cells = row.item, dict[str, Json].fromkeys(self.names)
        cells |= (
            dict(zip(("item_id", "criterion"), row_name(item), strict=True))
            if self.export.criteria
            else {"id": item.id}
        )
        cells |= {"group": item.group, "prompt": item.prompt, "reference": item.reference}
        cells |= dict(zip(self.responses, item.responses, strict=True))
        cells |= {key: list(item.context) for key in self.context}
        if self.export.blind:
            return cells
        decision = row.decision
        values: tuple[Json, ...] = (None, None, None, "open")
        if decision is not None:
            values = (decision.label, decision.judge, decision.score, decision.reason)
        cells |= dict(zip(VERDICT, (*values, sum(each.cost for each in row.judgments)), strict=True))
        cells |= {column: item.meta[key] for key, column in self.meta.items() if key in item.meta}
        trail = () if decision is None else decision.trail
        cells |= {self.judges[step.judge]: step.label or NO_LABEL for step in trail if self.judges}
        if self.people:
            cells |= {self.people[note.annotator]: note.label for note in row.annotations}
        return cells

    def describe(self, *, escaped: bool) -> None:
        """Write the file of columns for `trustescalate import --columns`; of several criteria, say how."""
        if self.export.criteria:
            self.export.say(
                "a row is an item and a criterion, which `trustescalate import` does not read back; a CSV "
                "made with --blind and filled in is read by `trustescalate label import`"
            )
        else:
            self.export.beside[".columns.toml"] = self._columns(escaped=escaped)

    def _columns(self, *, escaped: bool) -> bytes:
        clustered = any(row.item.group is not None for row in self.export.rows)
        lines = ["[task]", *_task(self.task), "", "[import]", 'id = "id"', 'prompt = "prompt"']
        lines += [f"responses = {json.dumps(self.responses)}", 'reference = "reference"']
        lines += ['context = "context"'] if self.context else []
        lines += ['group = "group"'] if clustered else []
        lines += ['label = "label"', 'annotator = "annotator"'] if self.export.blind else []
        lines += ["escaped_formulas = true"] if escaped else []
        lines += ["empty_is_missing = true"] if self.judges else []
        tables = (("annotators", self.people), ("judges", self.judges), ("meta", self.meta))
        for name, table in tables:
            if table:
                lines += ["", f"[import.{name}]"]
                lines += [f"{_toml(key)} = {_toml(column)}" for key, column in table.items()]
        return "\n".join([*lines, ""]).encode()


def _named(prefix: str, names: Mapping[str, None], taken: set[str]) -> dict[str, str]:
    """Name a column for each name: short, on one line, without separators, and unique."""
    columns: dict[str, str] = {}
    for name in names:
        shown = "".join(char if char.isprintable() and char not in ',;"' else " " for char in name)
        column = stem = f"{prefix}:{' '.join(shown.split())[:40]}".strip()
        number = 1
        while column in taken:
            number += 1
            column = f"{stem} {number}"
        taken.add(column)
        columns[name] = column
    return columns


def _task(task: Task) -> list[str]:
    lines = [f"kind = {_toml(str(task.kind))}", f"question = {_toml(task.question)}"]
    if task.kind is TaskKind.PAIRWISE:
        return [*lines, f"ties = {_toml(task.ties)}"]
    if task.kind is TaskKind.RATING:
        return [*lines, f"scale = [{task.labels[0]}, {task.labels[-1]}]"]
    return [*lines, f"labels = [{', '.join(map(_toml, task.labels))}]"]


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def guarded(text: str) -> str:
    """Escape a cell that a spreadsheet would evaluate; a leading guard is doubled, so it can be undone.

    >>> guarded("=HYPERLINK(1)"), guarded("'tis"), guarded("plain"), guarded(" =1")
    ("'=HYPERLINK(1)", "''tis", 'plain', "' =1")
    """
    risky = text.lstrip(" \u00a0").startswith(FORMULA) or text.startswith((GUARD, *FORMULA))
    return GUARD + text if risky else text


def _csv(export: Export) -> Iterator[bytes]:
    layout = Layout(export)
    layout.describe(escaped=True)
    yield b"\xef\xbb\xbf" + _line(layout.names)

    def write(row: Row) -> Iterator[bytes]:
        yield _line([_cell(export, value) for value in layout.cells(row).values()])

    yield from export.each(write)


def _line(cells: Any) -> bytes:
    page = io.StringIO(newline="")
    csv.writer(page, quoting=csv.QUOTE_MINIMAL).writerow(cells)
    return page.getvalue().encode()


def _cell(export: Export, value: Json) -> Json:
    text = flat(export, value)
    if isinstance(text, str):
        if "\0" in text:
            raise LeftOut("a text contains NUL, which CSV cannot hold")
        return guarded(text)
    return "" if text is None else text


def flat(export: Export, value: Json) -> Json:
    """Flatten a value for a cell: conversations become text, other lists and objects JSON."""
    if isinstance(value, tuple) and all(isinstance(turn, Turn) for turn in value):
        export.say("conversations become one text in a table; JSON lines keep their turns")
        return readable(value)
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


def _jsonl(export: Export) -> Iterator[bytes]:
    layout = Layout(export)
    layout.describe(escaped=False)

    def write(row: Row) -> Iterator[bytes]:
        cells = layout.cells(row)
        yield as_json(
            {name: turns(value) if isinstance(value, tuple) else value for name, value in cells.items()}
        )

    yield from lined(export.each(write))


def need_pyarrow() -> None:
    """Raise UsageError without pyarrow."""
    if find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow", "pip install 'trustescalate[formats]'")


def _parquet(export: Export) -> Iterator[bytes]:
    need_pyarrow()
    from pyarrow import float64, string

    layout = Layout(export)
    layout.describe(escaped=False)
    yield from parquet_of(layout, {name: float64() if name in NUMBERS else string() for name in layout.names})


def parquet_of(layout: Layout, types: Mapping[str, Any]) -> Iterator[bytes]:
    """Write Parquet whose columns have these types, in row groups. A column of conversations has turns."""
    from pyarrow import parquet, record_batch, schema, string
    from pyarrow import types as kinds

    export, columns = layout.export, schema(list(types.items()))

    def column(rows: Sequence[Mapping[str, Json]], name: str) -> list[Any]:
        cells = [row[name] for row in rows]
        if types[name] == string():
            return [None if (cell := flat(export, each)) is None else str(cell) for each in cells]
        if kinds.is_list(types[name]) and kinds.is_struct(types[name].value_type):
            role: Literal["user", "assistant"] = "user" if name == "prompt" else "assistant"
            return [None if cell is None else turns(cell, role) for cell in cells]
        return cells

    with tempfile.TemporaryFile() as file:
        with parquet.ParquetWriter(file, columns) as writer:
            for start in range(0, len(export.rows), ROWS):
                rows = [layout.cells(row) for row in export.rows[start : start + ROWS]]
                batch = {name: column(rows, name) for name in layout.names}
                writer.write(record_batch(batch, schema=columns))
        file.seek(0)
        yield from iter(lambda: file.read(PIECE), b"")


CSV = Target("csv", "CSV for a spreadsheet (UTF-8, formulas escaped)", _csv, blind=True, several=True)
JSONL = Target("jsonl", "JSON lines", _jsonl, blind=True, several=True)
PARQUET = Target("parquet", "Parquet", _parquet, blind=True, several=True)
