"""Look through all rows of a table once, before any is taken: its columns, and the codes in some of them."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from trustescalate.data.importers.codes import RARE, cell_text, count_code, spelling
from trustescalate.data.importers.files import Foreign, Rejected
from trustescalate.errors import DataError
from trustescalate.records import Label

MOST_KEYS = 10_000
"""Names of columns that are looked at, in rows that each have their own."""
LOGARITHM = re.compile(r"log|(?:^|[^a-z])(?:lp|nll)(?:$|[^a-z])", re.IGNORECASE)
"""In the name of a column: it holds logarithms."""


class Survey:
    """What the rows of a file hold.

    `keys` are the names of all columns, `counts` the rows of each code of the given columns, which may be
    paths, and `spelled` one spelling of each code as the file has it.
    """

    def __init__(self, file: Foreign, columns: Iterable[str]) -> None:
        self.counts: dict[str, Counter[str]] = {column: Counter() for column in columns if column}
        self.spelled: dict[str, str] = {}
        keys = set(file.columns)
        for record in file.records():
            row = None if isinstance(record, Rejected) else record.value
            if not isinstance(row, dict):
                continue
            if not file.columns and len(keys) < MOST_KEYS:
                keys |= row.keys()
            for column, counts in self.counts.items():
                value = row[column] if column in row else inside(row, column) if "." in column else None
                before = len(counts)
                count_code(counts, value)
                if len(counts) > before:
                    self.spelled.setdefault(spelling(value), cell_text(value).strip())
        self.keys = frozenset(keys)

    def logarithmic(self, file: Foreign, shares: Mapping[str, Mapping[Label, str]]) -> frozenset[str]:
        """The judges whose columns hold logarithms. Raises DataError where that is not plain."""
        columns = {column for by_label in shares.values() for column in by_label.values()}
        below, above, filled = Counter[str](), Counter[str](), Counter[str]()
        for record in file.records() if columns else ():
            row: Any = None if isinstance(record, Rejected) else record.value
            for column in columns if isinstance(row, dict) else ():
                value = number_of(row[column] if column in row else inside(row, column))
                below[column] += value < 0
                above[column] += value > 0
                filled[column] += not math.isnan(value)
        judges = set()
        for judge, by_label in shares.items():
            negative, positive = (sum(count[each] for each in by_label.values()) for count in (below, above))
            if min(negative, positive) > max(1, RARE * (negative + positive)):
                raise DataError(
                    [f"{file.path}: {', '.join(by_label.values())} hold numbers above and below 0"],
                    "no row was taken: give all as probabilities, from 0 to 1, or as log-probabilities",
                )
            logs = [column for column in by_label.values() if LOGARITHM.search(column)]
            if positive > negative and logs:
                raise DataError(
                    [f"{file.path}: {', '.join(logs)} hold numbers above 0, which no log-probability is"],
                    "no row was taken: negate them if they are losses, or name the columns as probabilities",
                )
            if logs and not negative and any(filled[column] for column in logs):
                raise DataError(
                    [f"{file.path}: {', '.join(logs)} hold 0 alone, a probability or a logarithm"],
                    "no row was taken: give probabilities, from 0 to 1, in a column whose name says so",
                )
            if negative > positive:
                judges.add(judge)
        return frozenset(judges)


def number_of(cell: Any) -> float:
    """A number in a cell, with a point or a comma; NaN for everything else.

    >>> number_of("-0,25"), number_of("x")
    (-0.25, nan)
    """
    try:
        value = float(cell_text(cell).strip().replace(",", "."))
    except (ValueError, OverflowError):
        return math.nan
    return value


def inside(row: Any, path: str) -> Any:
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
