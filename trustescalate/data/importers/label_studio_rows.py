"""Join the rows of Label Studio's JSON_MIN and CSV, an annotation each, to tasks as in its JSON export."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from trustescalate.data.importers.columns import PROMPT, SINGLE
from trustescalate.data.importers.files import Foreign, Record, Rejected, from_text
from trustescalate.data.importers.names import SIDES, Names

ROW = ("annotation_id", "annotator", "lead_time")
"""Columns that JSON_MIN and CSV add to a task's data, besides the controls."""
LONGEST_ANSWER = 10_000


def listed(value: Any) -> list[Any]:
    """A list, empty for everything else."""
    return value if isinstance(value, list) else []


def joined_rows(file: Foreign, names: Names) -> Iterator[Record | Rejected]:
    """Join rows of JSON_MIN and CSV, an annotation each, to tasks."""
    rows: list[Record] = []
    for record in file.records():
        if isinstance(record, Rejected):
            yield record
        elif not isinstance(record.value, dict):
            yield Rejected(str(file.path), record.place, "is no row of columns")
        else:
            rows.append(record)
    order: dict[str, int] = {}
    keyed = [(order.setdefault(_row_key(row.value), len(order)), row) for row in rows]
    for _, together in groupby(sorted(keyed, key=lambda each: each[0]), key=lambda each: each[0]):
        same = [row for _, row in together]
        yield Record(same[0].place, _as_task([row.value for row in same], names))


def _row_key(row: Mapping[str, Any]) -> str:
    return repr([row.get(key) for key in ("item_id", "id")])


def _as_task(rows: list[Mapping[str, Any]], names: Names) -> Any:
    """A task as in the JSON export; None where rows of one id differ in their data."""
    first = rows[0]
    kept = [key for key in ("item_id", "id", *PROMPT, "left_is", *sum(SIDES, ()), *SINGLE) if key in first]
    kept += [key for key in names.given if key in first and key not in kept]
    if any([row.get(key) for key in kept] != [first[key] for key in kept] for row in rows):
        return None
    annotations = [
        {"id": row.get("annotation_id"), "completed_by": row.get("annotator"), "result": _cells(row, names)}
        for row in rows
    ]
    extra = [key for key in ("reference", "group", "model_a", "model_b") if key in first]
    return {
        "id": first.get("id"),
        "data": {key: first[key] for key in (*kept, *extra)},
        "annotations": annotations,
    }


def _cells(row: Mapping[str, Any], names: Names) -> list[Any]:
    """The controls of a row as results: lists of objects, JSON of these in a cell, or one choice as text."""
    results: list[Any] = []
    for key, cell in row.items():
        value = cell
        if isinstance(cell, str) and cell.startswith("[{") and len(cell) <= LONGEST_ANSWER:
            value = from_text(cell)
        for one in listed(value):
            if isinstance(one, dict) and "selected" in one:
                results.append({"type": "pairwise", "from_name": key, "value": one})
        if key in names.questions:
            chosen = value.get("choices") if isinstance(value, dict) else [value]
            chosen = [each for each in listed(chosen) if isinstance(each, str) and each.strip()]
            if chosen:
                results.append({"type": "choices", "from_name": key, "value": {"choices": chosen}})
    return results
