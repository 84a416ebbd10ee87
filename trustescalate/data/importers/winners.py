"""Read a winner that is named by its model: its side is that of the row, and never one of the column."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from trustescalate.data.importers.codes import EMPTY, PAIR_SPELLINGS, spelling
from trustescalate.data.importers.files import Foreign, Record, Unusable
from trustescalate.data.importers.survey import inside
from trustescalate.errors import DataError
from trustescalate.records import Label

MODELS = (
    ("model_a", "model_b"),
    ("model_A", "model_B"),
    ("model_1", "model_2"),
    ("model1", "model2"),
    ("generator_1", "generator_2"),
    ("system_a", "system_b"),
)
"""Columns with the names of the two models."""
Winners = Mapping[str, frozenset[str]]
"""The codes of each column that name a model."""


def models_of(keys: frozenset[str]) -> tuple[str, str] | None:
    """The columns with the names of the models."""
    return next((pair for pair in MODELS if keys.issuperset(pair)), None)


def winners(
    file: Foreign, columns: Iterable[str], models: tuple[str, str], given: Mapping[str, Label]
) -> Winners:
    """The codes that name a model of their row. Raises DataError where they could name a side as well."""
    by_column: dict[str, Counter[str]] = {column: Counter() for column in columns}
    sides: dict[str, set[tuple[str, Label]]] = {column: set() for column in by_column}
    for record in file.records() if by_column else ():
        row: Any = record.value if isinstance(record, Record) else None
        for column in by_column if isinstance(row, dict) else ():
            code = spelling(row[column] if column in row else inside(row, column))
            pair = [spelling(row.get(model)) for model in models]
            if code in pair and code not in EMPTY:
                by_column[column][code] += 1
                sides[column].add((code, "A" if code == pair[0] else "B"))
    won = {}
    defined = {spelling(code) for code in given}
    for column, codes in by_column.items():
        where = f"{file.path}: column {column!r}"
        if any(PAIR_SPELLINGS.get(code, side) != side for code, side in sides[column]):
            raise DataError(
                [f"{where} holds names of models that are names of sides as well; no row was taken"],
                f"rename the models in {column!r}, {' and '.join(map(repr, models))}",
            )
        named = frozenset(code for code in codes if code not in PAIR_SPELLINGS)
        if fixed := sorted(named & defined):
            raise DataError(
                [f"{where} names the model that won: {fixed[0]!r} has no side of its own"],
                f"remove it from [import] labels: {' and '.join(map(repr, models))} say its side in each row",
            )
        if named:
            won[column] = named
    return won


def sided(row: dict[str, Any], won: Winners, models: tuple[str, str]) -> dict[str, Any]:
    """A row with the side of the winner in place of its name. Raises Unusable where that is not plain."""
    cells = {}
    pair = [spelling(row.get(model)) for model in models]
    for column, names in won.items():
        code = spelling(row.get(column))
        if code in names:
            if pair.count(code) != 1:
                raise Unusable(f"{column} is {code[:40]!r}, and {' and '.join(models)} do not say which side")
            cells[column] = "A" if code == pair[0] else "B"
    return {**row, **cells} if cells else row
