"""Write TRL preference data from released verdicts; a pass/fail task becomes unpaired data.

Each row has the confidence of the judge and the id of the certificate. Human labels are not included.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.records import Item, TaskKind, Turn
from trustescalate.report.export.base import (
    Export,
    LeftOut,
    Row,
    Target,
    as_json,
    lined,
    turns,
    with_passages,
)

Text = str | tuple[Turn, ...]


def _write(export: Export) -> Iterator[bytes]:
    kind, about = "certificate", "about all released verdicts together, not about single rows or a selection"
    if export.run.header.certificate.status == "expected":
        kind, about = "calibration", "a mean over runs, no statement about this run, and nothing is certified"
    provenance = {kind: export.run.header.certificate.id}
    if not export.run.uncertified:
        export.say(f"the guarantee is {about}")

    def pair(row: Row) -> Iterator[bytes]:
        label = row.released
        if label is None or row.decision is None:
            why = "the run is uncertified" if export.run.uncertified else "no verdict was released"
            raise LeftOut(why)
        extra = {
            "item_id": row.item.id,
            "judge": row.decision.judge,
            "confidence": row.decision.score,
            **provenance,
        }
        if export.task.kind is TaskKind.BINARY:
            fields = _fields(row.item, {"completion": row.item.responses[0]})
            yield as_json({**fields, "label": label == export.task.labels[0], **extra})
            return
        if label not in ("A", "B"):
            raise LeftOut("a tie prefers neither")
        first, second = row.item.responses if label == "A" else row.item.responses[::-1]
        yield as_json({**_fields(row.item, {"chosen": first, "rejected": second}), **extra})

    return lined(export.each(pair))


def _fields(item: Item, answers: dict[str, Text]) -> dict[str, Any]:
    """Keep texts as they are, or make all of them conversations where one is."""
    prompt = with_passages(item)
    if isinstance(prompt, str) and all(isinstance(answer, str) for answer in answers.values()):
        return {"prompt": prompt, **answers}
    completions = {name: turns(text, "assistant") for name, text in answers.items()}
    return {"prompt": turns(prompt, "user"), **completions}


TRL = Target(
    "trl",
    "TRL preference pairs, or unpaired rows of a pass/fail task",
    _write,
    (TaskKind.PAIRWISE, TaskKind.BINARY),
    "there is no chosen and no rejected answer",
)
