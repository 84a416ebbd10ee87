"""Argilla: flat records of pairs, as its SDK logs and exports them. Sides are not changed: A is response_a.

A judge's last opinion is a suggestion, save on rows that measure; what people said already goes along, unless
nothing is to be shown. People see no model's name.
"""

from collections.abc import Iterator
from typing import Any

from trustescalate.records import SKIP, TaskKind
from trustescalate.report.export.base import Export, Row, Target, as_json, listed, readable

QUESTION = "preference"


def _write(export: Export) -> Iterator[bytes]:
    if not export.blind:
        export.say(
            "rows with a suggestion are labelled by people who saw it: they must not certify a judge "
            "(--blind shows none)"
        )

    def record(row: Row) -> Iterator[bytes]:
        yield as_json(_record(export, row))

    return listed(export.each(record))


def _record(export: Export, row: Row) -> dict[str, Any]:
    notes = () if export.blind else row.annotations
    record: dict[str, Any] = {
        "id": row.item.id,
        "prompt": readable(row.item.prompt),
        **dict(zip(("response_a", "response_b"), map(readable, row.item.responses), strict=True)),
        f"{QUESTION}.responses": [None if note.label == SKIP else note.label for note in notes],
        f"{QUESTION}.responses.users": [note.annotator for note in notes],
        f"{QUESTION}.responses.status": [
            "discarded" if note.label == SKIP else "submitted" for note in notes
        ],
    }
    if row.suggestion is not None:
        judge, label, score = row.suggestion
        said = {"suggestion": label, "suggestion.agent": judge, "suggestion.score": score}
        record |= {f"{QUESTION}.{key}": value for key, value in said.items()}
    return record


ARGILLA = Target(
    "argilla",
    "Argilla records (flat)",
    _write,
    (TaskKind.PAIRWISE,),
    "its records hold a prompt and two responses",
    blind=True,
)
