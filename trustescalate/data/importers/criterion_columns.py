"""Find the columns with labels on each of several criteria, and the task of the rows."""

from collections.abc import Mapping, Sequence

from trustescalate.config.criteria import CriterionTable, rows_task
from trustescalate.config.tables import ImportTable, TaskTable
from trustescalate.errors import DataError
from trustescalate.records import Task


def criterion_columns(
    criteria: Sequence[CriterionTable], task: TaskTable | None, table: ImportTable
) -> Mapping[str, tuple[str, Task]]:
    """The column and the task of each criterion by name; a column of that name unless [import] names another.

    Raises DataError where [import] and [[criteria]] do not fit together.
    """
    names = [each.name for each in criteria]
    if unknown := sorted(table.criteria.keys() - {*names}):
        why = f"[import] criteria names {unknown[0]!r}, and there is no such table in [[criteria]]"
        raise DataError([why], "add the table: `trustescalate import rubric.json` writes those of a rubric")
    if not criteria:
        return {}
    if task is None:
        raise DataError(["[[criteria]] need [task] kind"], 'set it, as kind = "rating"')
    if table.judges or table.probabilities:
        why = "recorded verdicts are about items, and with [[criteria]] each row is judged on its own"
        raise DataError([why], "remove judges and probabilities from [import]")
    if table.annotators or table.label:
        why = "[import] label and annotators hold one label of an item, and [[criteria]] are several"
        raise DataError(
            [why], "name their columns under [import.criteria], and `annotator` for who gave them"
        )
    return {each.name: (table.criteria.get(each.name, each.name), each.task(task)) for each in criteria}


def task_of_rows(criteria: Sequence[CriterionTable], task: TaskTable) -> Task:
    """The task of all rows: with [[criteria]] its labels are those of any of them."""
    return rows_task(criteria, task) if criteria else task.task()
