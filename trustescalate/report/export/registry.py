"""List the formats that a run can be written in. A new one is a module with a `Target` and a row here."""

from collections.abc import Mapping

from trustescalate.errors import UsageError
from trustescalate.records import Task
from trustescalate.report.export.alpaca_eval import ALPACA_EVAL
from trustescalate.report.export.argilla import ARGILLA
from trustescalate.report.export.base import Target
from trustescalate.report.export.hugging_face import HF
from trustescalate.report.export.inspect_scores import INSPECT_SCORES
from trustescalate.report.export.label_studio import LABEL_STUDIO
from trustescalate.report.export.mt_bench import MT_BENCH
from trustescalate.report.export.tables import CSV, JSONL, PARQUET
from trustescalate.report.export.trl import TRL

TARGETS: Mapping[str, Target] = {
    each.name: each
    for each in (
        ALPACA_EVAL,
        ARGILLA,
        CSV,
        HF,
        INSPECT_SCORES,
        JSONL,
        LABEL_STUDIO,
        MT_BENCH,
        PARQUET,
        TRL,
    )
}


def target(
    name: str, task: Task, *, blind: bool, several: bool = False, others: tuple[str, ...] = ()
) -> Target:
    """Find a format by name. Raises UsageError for an unknown one, or one that cannot hold the task.

    `several`: the run judged several criteria.
    """
    if name not in TARGETS:
        known = ", ".join(sorted((*TARGETS, *others)))
        raise UsageError(f"unknown format {name!r}", f"the formats are {known}")
    chosen = TARGETS[name]
    if task.kind not in chosen.kinds:
        raise UsageError(
            f"a {task.kind} task cannot be written as {name}: {chosen.why}",
            "csv, jsonl and parquet take any task",
        )
    if several and not chosen.several:
        able = sorted(each.name for each in TARGETS.values() if each.several)
        raise UsageError(
            f"a run of several criteria cannot be written as {name}, which has no place for a criterion",
            f"{', '.join(able[:-1])} and {able[-1]} name it",
        )
    if blind and not chosen.blind:
        raise UsageError(
            f"{name} consists of verdicts of judges", "leave out --blind, or choose another format"
        )
    return chosen
