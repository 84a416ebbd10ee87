"""Write scores for Inspect AI's `precomputed_scores`: a line for each item, by sample and epoch.

A verdict has Inspect's letter C, P, I or N where it means that, else its number, and of labels without an
order a 1 for its own and a 0 for each other one. An abstention is NaN, Inspect's value of what is unscored:
it stays in the log and counts in no metric.
"""

import json
import re
from collections.abc import Iterator

from trustescalate.calibration.population import label_values
from trustescalate.data.importers.inspect_ai import LETTERS
from trustescalate.records import Label, Task, TaskKind
from trustescalate.report.export.base import Export, LeftOut, Row, Target, lined
from trustescalate.report.verdict import decision_metadata, explain_decision

EPOCH = re.compile(r"(?s)(.+)\|epoch([1-9][0-9]*)\Z")
GRADES = {label: letter for letter, label in LETTERS.items()}
BINARY = {1.0: "C", 0.0: "I", 0.5: "P"}


def score_value(task: Task, label: Label | None) -> str | float | dict[str, int]:
    """The value of a released verdict in Inspect AI, NaN for an abstention.

    >>> score_value(Task(TaskKind.BINARY, "Is it right?", ("pass", "fail")), "fail")
    'I'
    >>> score_value(Task(TaskKind.RATING, "How good?", ("1", "2", "3")), "2")
    2.0
    >>> score_value(Task(TaskKind.CHOICE, "Which tone?", ("calm", "cold")), "calm")
    {'calm': 1, 'cold': 0}
    """
    if label is None:
        return float("nan")
    values = label_values(task)
    if values is None:
        if set(task.labels) <= set(GRADES):
            return GRADES[label]
        return {each: int(each == label) for each in task.labels}
    return BINARY[values[label]] if task.kind is TaskKind.BINARY else values[label]


def _write(export: Export) -> Iterator[bytes]:
    certificate = export.run.header.certificate

    def records(row: Row) -> Iterator[bytes]:
        if row.decision is None:
            raise LeftOut("not judged yet")
        part = EPOCH.match(row.item.id)
        record = {
            "id": part[1] if part else row.item.id,
            **({"epoch": int(part[2])} if part else {}),
            "value": score_value(export.task, row.released),
            "explanation": explain_decision(row.decision, certificate),
            "metadata": decision_metadata(row.decision, certificate),
        }
        yield json.dumps(record, ensure_ascii=False).encode()

    return lined(export.each(records))


INSPECT_SCORES = Target(
    "inspect_scores", "Scores for Inspect AI's precomputed_scores", _write, suffix=".jsonl"
)
