"""Write Argilla records of pairs, flat as its SDK logs and exports them. A is response_a.

The last verdict of a judge becomes a suggestion, except on rows that measure. Existing human labels are
included unless the export is blind. Annotators see no model's name.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.records import SKIP, TaskKind
from trustescalate.report.export.base import Export, Row, Target, as_json, listed, readable, with_passages

QUESTION = "preference"


def _write(export: Export) -> Iterator[bytes]:
    if not export.blind:
        export.say(
            "annotators see the suggestions, so the labels of these rows must not certify a judge "
            "(--blind shows no suggestions)"
        )

    def record(row: Row) -> Iterator[bytes]:
        yield as_json(_record(export, row))

    return listed(export.each(record))


def _record(export: Export, row: Row) -> dict[str, Any]:
    notes = () if export.blind else row.annotations
    record: dict[str, Any] = {
        "id": row.item.id,
        "prompt": readable(with_passages(row.item)),
        **dict(zip(("response_a", "response_b"), map(readable, row.item.responses), strict=True)),
        f"{QUESTION}.responses": [None if note.label == SKIP else note.label for note in notes],
        f"{QUESTION}.responses.users": [note.annotator for note in notes],
        f"{QUESTION}.responses.status": [
            "discarded" if note.label == SKIP else "submitted" for note in notes
        ],
    }
    if row.suggestion is not None:
        judge, label, score = row.suggestion
        suggestion = {"suggestion": label, "suggestion.agent": judge, "suggestion.score": score}
        record |= {f"{QUESTION}.{key}": value for key, value in suggestion.items()}
    return record


ARGILLA = Target(
    "argilla",
    "Argilla records (flat)",
    _write,
    (TaskKind.PAIRWISE,),
    "its records hold a prompt and two responses",
    blind=True,
)
