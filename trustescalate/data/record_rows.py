"""Read records from rows of another library, such as a `datasets.Dataset`."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from trustescalate.errors import DataError, UsageError
from trustescalate.records.jsonl import decode

R = TypeVar("R")
MOST_PROBLEMS = 20


def records_of(rows: Iterable[R | Mapping[str, Any]], kind: type[R], what: str) -> Iterator[R]:
    """Yield records, one at a time: those in `rows`, and one from each row that is a mapping of columns.

    A column is named after a field, and an empty cell is a field that is not given; a class label is read as
    its name. Raises UsageError for a collection of splits, and DataError with the row and the column of the
    first problems.

    >>> from trustescalate import Item
    >>> list(records_of([{"id": "q1", "prompt": "Why?", "responses": ["So."], "group": None}], Item, "items"))
    [Item(id='q1', prompt='Why?', responses=('So.',), reference=None, group=None, meta={}, context=())]
    """
    if isinstance(rows, Mapping):
        names = ", ".join(map(repr, list(rows)[:10]))
        raise UsageError(f"{what} holds several splits: {names}", f"pass one of them, {what}[NAME]")
    features, problems = getattr(rows, "features", None) or {}, list[str]()
    for place, row in enumerate(rows):
        if isinstance(row, kind):
            yield row
            continue
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"is {type(row).__name__}, neither {kind.__name__} nor a row of columns")
            record = decode(json.dumps(plain_row(row, features), default=str).encode(), kind)
            if not problems:
                yield record
        except ValueError as error:
            problems.append(f"{what}[{place}]: {error}")
            if len(problems) >= MOST_PROBLEMS:
                break
    if problems:
        fields = ", ".join(getattr(kind, "__dataclass_fields__", ()))
        raise DataError(problems, f"name the columns after the fields {fields}, and remove all others")


def plain_row(row: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """A row without empty cells, its class labels by name; an empty field of an object is left out too."""
    named = {key: _named(value, features.get(key)) for key, value in row.items()}
    return {key: value for key, value in named.items() if value is not None}


def _named(value: Any, feature: Any) -> Any:
    if hasattr(feature, "int2str"):
        return feature.int2str(value) if isinstance(value, int) and value >= 0 else None
    inner = getattr(feature, "feature", feature)
    if isinstance(value, Mapping):
        kinds = inner if isinstance(inner, Mapping) else {}
        return plain_row(value, kinds)
    if isinstance(value, list):
        kind = inner[0] if isinstance(inner, list) and inner else inner
        return [_named(each, kind) for each in value]
    return value
